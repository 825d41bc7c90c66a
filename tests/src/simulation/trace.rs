//! What happened, as one number: two runs that differ in a byte differ here.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;

/// Takes everything in that passes between the machines; tells it in words where somebody listens.
#[derive(Clone, Debug)]
pub(super) struct Trace(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    hash: Cell<u64>,
    lines: Option<RefCell<String>>,
}

const PRIME: u64 = 0x9fb2_1c65_1e98_df25;

impl Trace {
    pub(super) fn new(in_words: bool) -> Self {
        let lines = in_words.then(RefCell::default);
        Self(Rc::new(Inner { hash: Cell::new(0x5bd1_e995_9d1b_2b3d), lines }))
    }

    pub(super) fn number(&self, number: u64) {
        let mixed = (self.0.hash.get() ^ number).wrapping_mul(PRIME);
        self.0.hash.set(mixed ^ (mixed >> 29));
    }

    pub(super) fn bytes(&self, channel: u64, bytes: &[u8]) {
        self.number(channel << 32 ^ bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.number(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            self.number(rest.iter().fold(1, |sum, byte| sum << 8 | u64::from(*byte)));
        }
    }

    /// A line for people; it does not count.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0.lines {
            // A `String` takes everything.
            let _ = writeln!(lines.borrow_mut(), "{}", line());
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.0.hash.get()
    }

    pub(super) fn words(&self) -> String {
        self.0.lines.as_ref().map_or_else(String::new, |lines| lines.borrow().clone())
    }
}
