//! Who says that a rule is broken. The first word counts: what follows from it is noise.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// The rules: of the table of races where they are called as there.
pub const RULES: &[&str] = &[
    "I1", "I2", "I3", "I4", "I5", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14", "I15", "R2", "R5", "R8", "R17",
    "R20", "R33", "R37", "R40", "R49", "R61", "R63", "R68", "R74", "R77", "R95", "R102", "liveness", "panic",
];

/// A rule that did not hold, and how that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule's name, one of [`RULES`].
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
    /// At which operation, counted from 0; past the last one while everything was to come to rest.
    pub step: usize,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at step {}: {}", self.rule, self.step, self.what)
    }
}

/// Takes complaints from everybody.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge(Rc<Case>);

#[derive(Debug, Default)]
struct Case {
    step: Cell<usize>,
    first: RefCell<Option<Broken>>,
}

impl Judge {
    /// What is blamed from now on was seen at this step.
    pub(super) fn at(&self, step: usize) {
        self.0.step.set(step);
    }

    /// Says that a rule is broken.
    pub(super) fn blame(&self, rule: &'static str, what: impl FnOnce() -> String) {
        debug_assert!(RULES.contains(&rule), "{rule} is no rule");
        let mut first = self.0.first.borrow_mut();
        if first.is_none() {
            *first = Some(Broken { rule, what: what(), step: self.0.step.get() });
        }
    }

    /// Says so unless it holds.
    pub(super) fn hold(&self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.blame(rule, what);
        }
    }

    /// Whether nothing was blamed.
    pub(super) fn is_content(&self) -> bool {
        self.0.first.borrow().is_none()
    }

    /// What was blamed first.
    pub(super) fn verdict(&self) -> Option<Broken> {
        self.0.first.borrow().clone()
    }
}
