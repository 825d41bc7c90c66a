//! What was really exercised: a simulation in which nothing happens finds nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How often something happened, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; NAMES.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

macro_rules! counted {
    ($($name:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, Debug)]
        pub(super) enum Counted { $($name,)* }
        /// The names, in the order of the numbers.
        const NAMES: &[&str] = &[$($text,)*];
    };
}

counted! {
    Events = "events seen",
    Joined = "joined texts seen",
    Windows = "merged windows seen",
    Moves = "positions moved over hidden events",
    Snapshots = "snapshots seen",
    TopicEvents = "events of topics seen",
    Ephemeral = "ephemeral events seen",
    Welcomes = "welcomes",
    ResumedLive = "resumed at the end",
    Replayed = "resumed by replay",
    Reset = "resumed by a reset",
    BySnapshot = "resumed by a snapshot",
    Gaps = "gaps told",
    Started = "runs started in process",
    Completed = "runs completed",
    Failed = "runs failed",
    Cancelled = "runs cancelled",
    ProducerLost = "runs ended as producer_lost",
    Suspended = "runs suspended",
    Approved = "approvals decided",
    Asked = "requests made",
    Replied = "requests answered",
    Undone = "requests told to be undone",
    Cut = "connections cut",
    Vanished = "server ends that vanished",
    HalfOpen = "half-open connections",
    Held = "pipes held back",
    Late = "late bytes of given-up sockets",
    Twins = "sessions continued elsewhere",
    Strangers = "strangers",
    Storms = "reconnect storms",
    Refreshed = "refreshes taken",
    Expired = "connections closed for an expired token",
    Revoked = "connections closed by a revocation",
    Stalled = "connections closed as stalled",
    Silent = "connections closed for silence",
    HelloTimeouts = "strangers closed by a deadline",
    Superseded = "connections superseded",
    Restarted = "connections closed by a drain",
    Drains = "drains",
    Restarts = "restarts",
    Skews = "jumps of the calendar",
    ProducerWelcomes = "producers let in",
    TakenOver = "runs taken over by a producer",
    WireRuns = "runs started over the wire",
    Levels = "changes of the level",
    Stopped = "clients that stopped",
    CameToRest = "worlds that came to rest",
}

impl Counters {
    /// Adds what another simulation counted.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    /// Each name with its number.
    pub fn each(&self) -> BTreeMap<&'static str, u64> {
        NAMES.iter().copied().zip(self.0).collect()
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        self.each().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

/// Counts for everybody.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Rc<RefCell<Counters>>);

impl Tally {
    pub(super) fn count(&self, what: Counted) {
        self.0.borrow_mut().0[what as usize] += 1;
    }

    pub(super) fn counters(&self) -> Counters {
        self.0.borrow().clone()
    }
}
