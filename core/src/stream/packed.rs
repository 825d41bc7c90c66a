//! A frame with its compressed form: made once, when the first reader wants it, and the same bytes for everybody.

use std::fmt;

use bytes::Bytes;

use crate::sync::{Arc, Once};

/// A frame, and the place where all who have it find the compressed form of all but its first byte: what stands before the rest is
/// not the same for all readers. The form is made outside of the log's lock.
#[derive(Clone)]
pub struct Packed(Arc<Shared>);

struct Shared {
    frame: Bytes,
    form: Once<Option<Bytes>>,
}

impl Packed {
    /// A frame whose compressed form nobody has wanted yet.
    pub fn new(frame: Bytes) -> Self {
        Self(Arc::new(Shared { frame, form: Once::default() }))
    }

    /// The frame.
    pub fn frame(&self) -> &Bytes {
        &self.0.frame
    }

    /// The frame without its first byte.
    pub fn tail(&self) -> &[u8] {
        self.0.frame.get(1..).unwrap_or_default()
    }

    /// The compressed form of the tail, as `compress` makes it where nobody has; `None` where it saves too little.
    pub fn form(&self, compress: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Option<Bytes> {
        self.0.form.get_or_make(|| {
            let form = compress(self.tail()).filter(|form| form.len() <= most(self.0.frame.len()))?;
            // What was reserved for it and is not needed goes.
            Some(Bytes::from(form.into_boxed_slice()))
        })
    }

    /// What a log counts for the form, whether somebody has wanted it yet or not: what a log keeps may not hang on who reads it.
    pub(super) fn reserved(&self) -> usize {
        most(self.0.frame.len()) + OVERHEAD
    }
}

/// A form that is kept has three quarters of the frame at most: what saves less is not worth the room, nor the work of whoever
/// inflates it.
const fn most(len: usize) -> usize {
    len - len / 4
}

/// The shared place, the header of the form's bytes, and the allocator's own.
const OVERHEAD: usize = size_of::<Shared>() + 64;

/// Whether the form is made already is no difference between two.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.frame() == other.frame()
    }
}

impl Eq for Packed {}

/// Shows its size.
impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.frame().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(len: usize) -> Packed {
        Packed::new(Bytes::from(vec![7; len]))
    }

    #[test]
    fn all_copies_get_the_same_bytes_which_are_made_once() {
        let packed = packed(100);
        let copy = packed.clone();
        assert_eq!(packed.tail().len(), 99);
        let first = packed.form(|tail| Some(tail[..75].to_vec())).unwrap();
        let second = copy.form(|_| panic!("it is made")).unwrap();
        assert_eq!((first.len(), first.as_ptr()), (75, second.as_ptr()));
        assert_eq!(format!("{packed:?}"), "Packed(100 bytes)");
    }

    #[test]
    fn what_saves_too_little_is_not_kept_and_not_made_again() {
        let long = packed(100);
        assert_eq!(long.form(|tail| Some(tail[..76].to_vec())), None);
        assert_eq!(long.form(|_| panic!("it was tried")), None);
        assert_eq!(packed(100).form(|_| None), None);
        assert_eq!(packed(0).form(|tail| Some(tail.to_vec())).unwrap(), "");
    }

    #[test]
    fn what_is_kept_is_within_what_the_log_counts() {
        for len in [1, 2, 3, 4, 5, 1_000] {
            let packed = packed(len);
            let kept = packed.form(|tail| Some(tail[..most(len) - 1].to_vec())).unwrap();
            assert!(kept.len() <= packed.reserved(), "{len}");
        }
    }
}
