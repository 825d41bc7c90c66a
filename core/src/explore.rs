//! Exhaustive exploration of machines as they are: every order of a bounded set of operations, each state once, with what must hold
//! checked after every operation.
//!
//! It is an explorer of our own rather than the `stateright` crate, which wants a model whose whole state is `Clone + Hash + Eq`
//! and steps that return the next state. The machines here are the product's: a shard is `Clone`, but holds JSON that is neither
//! `Hash` nor `Eq`; a hub with its sessions is not even `Clone`, as it consists of shared mailboxes and leases. Wrapping them would have
//! meant a second model of them, and that is what is not to be trusted. So a state is left by a clone where there is one, and
//! otherwise reached again by playing the operations that led to it, and it is recognised by a fingerprint: 128 bits of
//! everything that its next operations may depend on.
//!
//! What is explored is finite since each model hands out its operations from a budget, and the order of the search does not matter,
//! so the number of states is the same in every run: tests pin it. A broken invariant names the operations that lead to it.
//!
//! What is explored, and for which invariant groups of the design: a shard (`manager::tests::exploration`, 1 to 6), a hub with its
//! sessions and clients (`hub::tests::exploration`, 1 to 6), tickets (`auth::tickets::exploration`, 1 and 6), levels and breakers
//! (`level::tests::exploration`, 7).

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Debug, Write};
use std::hash::Hasher;

/// Machines, the operations that are left to do on them, and what must hold.
pub(crate) trait Model {
    type Op: Clone + Debug;

    /// What may come next. It is a function of what the fingerprint covers.
    fn ops(&self) -> Vec<Self::Op>;

    /// Plays one of them, and panics where anything does not hold afterwards.
    fn play(&mut self, op: &Self::Op);

    /// Plays one that was played from this very state before, so nothing needs to be checked again.
    fn replay(&mut self, op: &Self::Op) {
        self.play(op);
    }

    /// Checks what holds where nothing is left to do.
    fn end(&mut self) {}

    /// Writes everything that what comes next may depend on.
    fn fingerprint(&self, out: &mut Fingerprint);
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// Operations that were played and checked, those included that led to a known state.
    pub(crate) transitions: usize,
    /// States in which nothing is left to do.
    pub(crate) ends: usize,
    /// Operations on the longest way.
    pub(crate) longest: usize,
}

impl Explored {
    /// Says how much there was, which must be so many states.
    pub(crate) fn is_all(self, name: &str, states: usize) {
        let Self { transitions, ends, longest, .. } = self;
        println!("evidence exploration {name} {} states", self.states);
        println!("{name}: {transitions} transitions checked, {ends} ends, {longest} operations at most");
        assert_eq!(self.states, states, "{name}: the number of states has changed; is that meant?");
    }
}

/// Explores a model whose states can be copied.
pub(crate) fn explore<M: Model + Clone>(name: &str, start: M) -> Explored {
    Search::run(name, start, |model, _| model.clone())
}

/// Explores a model whose states can only be reached from the start.
pub(crate) fn explore_by_replay<M: Model>(name: &str, start: impl Fn() -> M) -> Explored {
    Search::run(name, start(), |_, path| {
        let mut model = start();
        path.iter().for_each(|op| model.replay(op));
        model
    })
}

struct Search<'a, M: Model, F> {
    name: &'a str,
    /// The same state once more, from itself and the operations that led to it.
    again: F,
    seen: BTreeSet<u128>,
    path: Vec<M::Op>,
    /// The states on the path, the one of the moment included.
    trail: Vec<u128>,
    explored: Explored,
}

impl<'a, M: Model, F: Fn(&M, &[M::Op]) -> M> Search<'a, M, F> {
    fn run(name: &'a str, start: M, again: F) -> Explored {
        let mut search = Self {
            name,
            again,
            seen: BTreeSet::new(),
            path: Vec::new(),
            trail: Vec::new(),
            explored: Explored::default(),
        };
        search.visit(start);
        search.explored
    }

    fn visit(&mut self, mut model: M) {
        let state = Fingerprint::of(&model);
        if !self.seen.insert(state) {
            assert!(!self.trail.contains(&state), "it goes round for ever");
            return;
        }
        self.trail.push(state);
        self.explored.states += 1;
        self.explored.longest = self.explored.longest.max(self.path.len());
        let mut ops = model.ops();
        if let Some(last) = ops.pop() {
            for op in ops {
                let next = (self.again)(&model, &self.path);
                self.go(next, op);
            }
            self.go(model, last);
        } else {
            self.explored.ends += 1;
            model.end();
        }
        self.trail.pop();
    }

    fn go(&mut self, mut model: M, op: M::Op) {
        self.explored.transitions += 1;
        self.path.push(op);
        if let Some(op) = self.path.last() {
            model.play(op);
        }
        self.visit(model);
        self.path.pop();
    }
}

/// Says which way led to what does not hold.
impl<M: Model, F> Drop for Search<'_, M, F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: after {} states, by these operations: {:#?}", self.name, self.seen.len(), self.path);
        }
    }
}

/// A hash of what is written into it, of so many bits that no two states are taken for one by chance.
pub(crate) struct Fingerprint([DefaultHasher; 2]);

impl Fingerprint {
    fn of<M: Model>(model: &M) -> u128 {
        let mut second = DefaultHasher::new();
        second.write_u8(1);
        let mut out = Self([DefaultHasher::new(), second]);
        model.fingerprint(&mut out);
        let [high, low] = out.0.map(|hasher| hasher.finish());
        u128::from(high) << 64 | u128::from(low)
    }

    /// Adds something by all that its `Debug` shows.
    pub(crate) fn shown(&mut self, what: &dyn Debug) {
        // A hash takes everything.
        let _ = write!(self, "{what:?};");
    }

    /// Adds bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|hasher| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        });
    }
}

impl Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.iter_mut().for_each(|hasher| hasher.write(text.as_bytes()));
        Ok(())
    }
}

/// Two counters up to 3, each by steps of one, which must not be 3 both where `flawed`.
#[derive(Clone)]
struct Counters {
    at: [u8; 2],
    flawed: bool,
}

impl Model for Counters {
    type Op = usize;

    fn ops(&self) -> Vec<usize> {
        (0..2).filter(|which| self.at[*which] < 3).collect()
    }

    fn play(&mut self, op: &usize) {
        self.at[*op] += 1;
        assert!(!self.flawed || self.at != [3, 3], "both are full");
    }

    fn fingerprint(&self, out: &mut Fingerprint) {
        out.shown(&self.at);
    }
}

#[test]
fn every_state_is_seen_once_whether_by_copies_or_by_replay() {
    let start = || Counters { at: [0; 2], flawed: false };
    let expected = Explored { states: 16, transitions: 24, ends: 1, longest: 6 };
    assert_eq!(explore("counters_by_copies", start()), expected);
    assert_eq!(explore_by_replay("counters_by_replay", start), expected);
}

#[test]
#[should_panic(expected = "both are full")]
fn what_does_not_hold_is_found() {
    explore("counters_with_a_flaw", Counters { at: [0; 2], flawed: true });
}

/// A light that is switched on and off for ever.
#[derive(Clone)]
struct Light(bool);

impl Model for Light {
    type Op = ();

    fn ops(&self) -> Vec<()> {
        vec![()]
    }

    fn play(&mut self, (): &()) {
        self.0 = !self.0;
    }

    fn fingerprint(&self, out: &mut Fingerprint) {
        out.shown(&self.0);
    }
}

#[test]
#[should_panic(expected = "it goes round for ever")]
fn what_never_comes_to_an_end_is_found() {
    explore("light", Light(false));
}
