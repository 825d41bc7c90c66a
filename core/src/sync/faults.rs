//! Ways to break what the models check: a model that passes whatever happens finds none of them.
//!
//! A fault is on from the beginning to the end of a process, which runs one model and nothing else: loom cannot unwind
//! from a deadlock, and nothing that is not broken may see the fault. [`super::models`] says which model finds which.

use std::sync::OnceLock;

/// The environment variable that names the fault of a process.
pub(super) const VARIABLE: &str = "TRUNKLINE_MODEL_FAULT";

macro_rules! faults {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// What is done wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[doc = $what])+ $name,)+
        }

        /// All of them.
        pub(super) const ALL: &[Fault] = &[$(Fault::$name,)+];
    };
}

faults! {
    /// A ready mark is taken before the reader registers for the next.
    RegistersTooLate,
    /// A ready mark keeps the waker of the task that has read before.
    KeepsTheFirstWaker,
    /// A ready mark is looked at, and then cleared.
    TakesTheMarkInTwoSteps,
    /// A mailbox wakes its reader, and then closes.
    ClosesAfterTheMark,
    /// A mailbox goes by the reason that came last.
    KeepsTheLastReason,
    /// A mailbox is looked at under one lock, and filled under another.
    PutsInTwoSteps,
    /// What is superseded goes under one lock, and its successor comes under another.
    ReplacesInTwoSteps,
    /// The bytes of what is superseded stay counted.
    KeepsTheBytes,
    /// A gate is looked at, and then entered.
    EntersInTwoSteps,
    /// Whoever waits for a gate to be empty looks, and then registers.
    WaitsBeforeItRegisters,
    /// Whoever waits for a gate to be shut looks, and then registers.
    LooksBeforeItRegisters,
    /// A number is read, and then written one higher.
    CountsInTwoSteps,
    /// A budget is looked at, and then taken from.
    LeasesInTwoSteps,
    /// What a lease gives back is counted in two steps.
    ReleasesInTwoSteps,
    /// What is made once is looked for, and then made.
    MakesInTwoSteps,
    /// Spare parts are counted, and then one more is kept.
    PutsASpareInTwoSteps,
    /// A key set is emptied, and then filled again.
    EmptiesTheKeys,
    /// A verifier goes by the key set that it had before.
    KeepsTheKeys,
    /// A shard's lock is let go of during an operation, which works on a copy and puts it back.
    LetsGoOfTheShard,
    /// The same, and whoever waits is woken before the change is there.
    WakesTooEarly,
    /// A producer looks for revocations before it joins, and not after it.
    LooksOnlyBeforeItJoins,
    /// A producer takes up a token after it has looked for revocations.
    RetokensAfterTheLook,
    /// Whoever asks a producer does not look whether that has gone before it was noted.
    ForgetsWhoHasGone,
    /// Whoever notes that a request waits for a producer does not look whether one has come before that.
    OverlooksWhoHasCome,
    /// A change of the level is told to producers after the next one may have been.
    TellsProducersLate,
    /// A reader looks first and registers afterwards, whatever the mark says.
    ReaderLooksFirst,
    /// A reader reads the log and takes its length under two locks.
    ReaderTakesTwoLocks,
    /// A reader takes the shard's lock while it holds the mailbox's.
    ReaderNestsLocks,
    /// A task looks for turns under one lock, and leaves its waker under another.
    LooksForTurnsFirst,
    /// A turn begins, and wake-ups still count as if it had not.
    ForgetsToListen,
    /// The housekeeper looks at the shards while the time of its alarm before still counts.
    SleepsByAnOldAlarm,
    /// A ticket is looked at, and then taken.
    TakesATicketInTwoSteps,
}

/// Whether this process is broken so.
pub(crate) fn is_on(fault: Fault) -> bool {
    on() == Some(fault)
}

/// What is broken in this process.
pub(super) fn on() -> Option<Fault> {
    static ON: OnceLock<Option<Fault>> = OnceLock::new();
    *ON.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        Some(*ALL.iter().find(|fault| format!("{fault:?}") == name).expect("the name of a fault"))
    })
}
