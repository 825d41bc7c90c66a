//! What one shard counts, under its own lock: plain numbers that only rise.

use super::Histogram;
use crate::protocol::{EventKind, Mode};

/// Upper bounds of how long an event has waited, in microseconds: 100 us to 10 s.
pub const DELIVERY_MICROS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Upper bounds of how far behind the end of its stream a reader is, in events.
pub const BEHIND_EVENTS: [u64; 8] = [1, 4, 16, 64, 256, 1_024, 4_096, 16_384];

/// Since the hub was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardTally {
    /// Events that entered a log, by type.
    pub events: ByKind,
    /// Events that were given to connections.
    pub deliveries: u64,
    /// Entries that made room for others before their time.
    pub shed: u64,
    /// How streams were continued.
    pub resumes: Resumes,
    /// Requests of users, in the order of [`RequestKind::ALL`].
    pub requests: [u64; RequestKind::ALL.len()],
    /// From an event's entering the log to a reader's reaching it, where that was the newest.
    pub delivery: Histogram<{ DELIVERY_MICROS.len() }>,
    /// How far behind readers were when they took events.
    pub behind: Histogram<{ BEHIND_EVENTS.len() }>,
}

/// A number for each type of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind([u64; EventKind::ALL.len()]);

impl ByKind {
    /// Counts one.
    pub const fn count(&mut self, kind: EventKind) {
        // The variants are numbered in the order of the list.
        self.0[kind as usize] += 1;
    }

    /// Each type with its number.
    pub fn iter(&self) -> impl Iterator<Item = (EventKind, u64)> + '_ {
        EventKind::ALL.iter().copied().zip(self.0)
    }
}

/// A number for each way in which a stream is continued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumes {
    /// Users' own, then topics.
    counts: [[u64; Outcome::ALL.len()]; 2],
}

/// What became of a client's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was none.
    New,
    /// Nothing was missed.
    Live,
    /// All that was missed was there.
    Replay,
    /// The state at a position came in its place.
    Snapshot,
    /// The stream begins afresh.
    Reset,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::New, Self::Live, Self::Replay, Self::Snapshot, Self::Reset];

    /// For a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Live => Mode::Live.as_str(),
            Self::Replay => Mode::Replay.as_str(),
            Self::Snapshot => Mode::Snapshot.as_str(),
            Self::Reset => Mode::Reset.as_str(),
        }
    }

    const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Live => Self::Live,
            Mode::Replay => Self::Replay,
            Mode::Snapshot => Self::Snapshot,
            Mode::Reset => Self::Reset,
        }
    }
}

impl Resumes {
    /// Counts one; `had_position` says whether the client named one.
    pub const fn count(&mut self, is_topic: bool, had_position: bool, mode: Mode) {
        let outcome = if had_position { Outcome::of(mode) } else { Outcome::New };
        self.counts[is_topic as usize][outcome as usize] += 1;
    }

    /// Each outcome with its number, of users' own streams or of topics.
    pub fn iter(&self, of_topics: bool) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().zip(self.counts[usize::from(of_topics)])
    }
}

/// What users ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A message to the agent.
    UserMessage,
    /// The end of a run.
    CancelRun,
    /// A decision.
    Approve,
    /// The application's own.
    Command,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::UserMessage, Self::CancelRun, Self::Approve, Self::Command];

    /// The type of the frame.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserMessage => "user_message",
            Self::CancelRun => "cancel_run",
            Self::Approve => "approve",
            Self::Command => "command",
        }
    }
}

impl Default for ShardTally {
    fn default() -> Self {
        Self {
            events: ByKind::default(),
            deliveries: 0,
            shed: 0,
            resumes: Resumes::default(),
            requests: [0; RequestKind::ALL.len()],
            delivery: Histogram::new(&DELIVERY_MICROS),
            behind: Histogram::new(&BEHIND_EVENTS),
        }
    }
}

impl ShardTally {
    /// Counts a request.
    pub const fn request(&mut self, kind: RequestKind) {
        self.requests[kind as usize] += 1;
    }

    /// Counts a read that has taken `taken` events, `behind` being how many there were; where it has reached the newest,
    /// `waited` is for how many microseconds that has been there.
    pub fn read(&mut self, taken: u64, behind: u64, waited: Option<u64>) {
        if taken == 0 {
            return;
        }
        self.deliveries += taken;
        self.behind.observe(behind);
        if let Some(waited) = waited {
            self.delivery.observe(waited);
        }
    }
}

impl std::ops::AddAssign<&Self> for ShardTally {
    fn add_assign(&mut self, other: &Self) {
        let Self { events, deliveries, shed, resumes, requests, delivery, behind } = other;
        self.events.0.iter_mut().zip(events.0).for_each(|(mine, theirs)| *mine += theirs);
        self.deliveries += deliveries;
        self.shed += shed;
        for (mine, theirs) in self.resumes.counts.iter_mut().flatten().zip(resumes.counts.iter().flatten()) {
            *mine += theirs;
        }
        self.requests.iter_mut().zip(requests).for_each(|(mine, theirs)| *mine += theirs);
        self.delivery.add(delivery);
        self.behind.add(behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let mut events = ByKind::default();
        for (times, kind) in EventKind::ALL.iter().enumerate() {
            (0..times).for_each(|_| events.count(*kind));
        }
        for (times, (kind, count)) in events.iter().enumerate() {
            assert_eq!(count, times as u64, "{kind}");
        }
        let mut tally = ShardTally::default();
        for (times, kind) in RequestKind::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| tally.request(kind));
        }
        assert_eq!(tally.requests, [0, 1, 2, 3]);
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn two_shards_come_to_their_sum() {
        let counted = |times: u64| {
            let mut tally = ShardTally::default();
            for n in 0..times {
                tally.events.count(EventKind::AgentDelta);
                tally.resumes.count(n % 2 == 0, n % 3 == 0, Mode::Replay);
                tally.request(RequestKind::Approve);
                tally.read(n, n, Some(n));
                tally.shed += 1;
            }
            tally
        };
        let mut sum = counted(10);
        sum += &counted(10);
        assert_eq!((sum.deliveries, sum.shed, sum.behind.count()), (90, 20, 18));
        assert_eq!(sum.resumes.iter(true).map(|(_, count)| count).collect::<Vec<_>>(), [6, 0, 4, 0, 0]);
        assert_eq!(sum.resumes.iter(false).map(|(_, count)| count).collect::<Vec<_>>(), [6, 0, 4, 0, 0]);
    }

    #[test]
    fn the_wait_is_of_those_who_reach_the_end() {
        let mut tally = ShardTally::default();
        tally.read(64, 100, None);
        assert_eq!((tally.delivery.count(), tally.behind.count()), (0, 1));
        tally.read(36, 36, Some(1_000_000));
        assert_eq!((tally.delivery.count(), tally.delivery.sum()), (1, 1_000_000));
    }
}
