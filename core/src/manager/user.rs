//! One user's state on its shard.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::acks::Ages;
use super::approvals::Decided;
use super::capacity::Evicted;
use super::kept::Turn;
use super::keys::{Ended, Keys};
use super::requests::{RequestId, Waiting};
use super::revocation::Tokens;
use super::runs::OpenRun;
use super::tally::{Appended, append_to};
use super::{Grown, Output};
use crate::id::{ApprovalId, ConnectionId, RunId, SessionId, ThreadId, UserId};
use crate::limits::Limits;
use crate::metrics::{Aside, ShardTally};
use crate::protocol::{EventBody, EventHead, Receipt, StreamName, encode_event_in};
use crate::stream::{Entry, Log, MergedText, RunError};
use crate::time::{Now, Timestamp};

#[derive(Clone, Debug)]
pub(super) struct User<H> {
    pub(super) channel: Channel<H>,
    pub(super) runs: BTreeMap<RunId, OpenRun<H>>,
    pub(super) requests: BTreeMap<RequestId, Waiting<H>>,
    /// Keys that the user's own devices sent: no other sender's keys take their room.
    pub(super) keys: Keys,
    /// The same of producers over the wire: what they send never makes the user's own be forgotten.
    pub(super) producer_keys: Keys,
    /// What the keys count as among those of all.
    pub(super) counted_keys: usize,
    pub(super) past: Option<Box<Past>>,
    /// Since when there is no device, run or request.
    pub(super) idle_since: Option<Timestamp>,
    /// Where the user stands among those who are idle.
    pub(super) kept: Turn,
    /// Where the user stands in the shard's deadlines.
    pub(super) armed: Option<Timestamp>,
}

/// What of a user's past may be asked for: most have none. It stays as long as the user does.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Runs that have ended, and reserved ones that were withdrawn.
    pub(super) ended: Ended,
    /// Approvals of runs that have ended.
    pub(super) decided: Decided,
    /// Devices that made room for others.
    pub(super) evicted: Evicted,
}

/// A log and the connections that read it.
#[derive(Clone, Debug)]
pub(super) struct Channel<H> {
    pub(super) log: Log,
    pub(super) appended: Appended,
    pub(super) ages: Ages,
    pub(super) devices: Vec<Device<H>>,
}

#[derive(Clone, Debug)]
pub(super) struct Device<H> {
    pub(super) handle: H,
    pub(super) connection: ConnectionId,
    pub(super) order: u64,
    pub(super) session: SessionId,
    pub(super) tokens: Tokens,
    /// Where the welcome said that the next event follows.
    pub(super) continued_from: u64,
    /// The newest seq that it says it has.
    pub(super) acked: Option<u64>,
    /// From when on it seems to be dead, as far as the shard was told.
    pub(super) dead_at: Timestamp,
    /// When it came, or somebody last used it.
    pub(super) active: Timestamp,
}

/// What of a run stands in the head of its events.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunHead<'a> {
    pub(super) run: RunId,
    /// `None` on the user's message, which the run answers and which is none of its events.
    pub(super) run_seq: Option<u64>,
    pub(super) agent_name: Option<&'a str>,
    /// Why the event should not have come now.
    pub(super) flaw: Option<&'a str>,
}

impl<H: Clone> User<H> {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            channel: Channel {
                log: Log::new(epoch),
                appended: Appended::default(),
                ages: Ages::default(),
                devices: Vec::new(),
            },
            runs: BTreeMap::new(),
            requests: BTreeMap::new(),
            keys: Keys::default(),
            producer_keys: Keys::default(),
            counted_keys: 0,
            past: None,
            idle_since: None,
            kept: None,
            armed: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.channel.devices.is_empty() && self.runs.is_empty() && self.requests.is_empty()
    }

    /// When the last key that was answered stops to count.
    pub(super) fn keys_expire_at(&self, limits: &Limits) -> Option<Timestamp> {
        self.producer_keys.expiry(limits).max(self.keys.expiry(limits))
    }

    /// Bytes of all its keys.
    pub(super) fn key_bytes(&self) -> usize {
        self.keys.bytes() + self.producer_keys.bytes()
    }

    /// Forgets the oldest key: a producer's before one of the user's own.
    pub(super) fn forget_key(&mut self) {
        let of_producers = self.producer_keys.bytes() > 0;
        let keys = if of_producers { &mut self.producer_keys } else { &mut self.keys };
        keys.forget_oldest();
    }

    /// Whether a run that has ended had decided this.
    pub(super) fn has_decided(&self, approval: &ApprovalId) -> bool {
        self.past.as_ref().is_some_and(|past| past.decided.contains(approval))
    }

    /// Runs that are open or reserved.
    pub(super) fn open_runs(&self) -> usize {
        self.runs.len() + self.requests.values().filter(|waiting| waiting.is_message()).count()
    }
}

impl<H: Clone> Channel<H> {
    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.devices.iter().any(|device| device.connection == connection)
    }

    /// Appends entries that were encoded for this place and tells every device.
    pub(super) fn append(
        &mut self,
        now: Timestamp,
        entries: impl IntoIterator<Item = Entry>,
        limits: &Limits,
        outputs: &mut VecDeque<Output<H>>,
        tally: &mut ShardTally,
    ) -> Receipt {
        for entry in entries {
            append_to(&mut self.log, entry, limits, tally);
        }
        self.appended = Aside(now);
        self.ages.note(now, self.log.head().seq, limits.log_retention);
        outputs.extend(self.devices.iter().map(|device| Output::Ready(device.handle.clone(), Grown::OWN)));
        self.receipt()
    }

    /// What is true of an event that is in the log.
    pub(super) const fn receipt(&self) -> Receipt {
        match self.devices.len() {
            0 => Receipt::Stored,
            // Bounded by the connections of a user, far below 2^32.
            n => Receipt::DeliveredTo(n as u32),
        }
    }
}

/// Room in which events are encoded, one after the other: a log keeps its frames for minutes, and each as large as it is.
#[derive(Clone, Default)]
pub(super) struct Scratch(String);

/// How much room stays.
const SCRATCH_BYTES: usize = 16 << 10;

/// It may hold a payload.
impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch(..)")
    }
}

/// An event that has no position yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unplaced<'a> {
    pub(super) owner: Owner<'a>,
    pub(super) thread: Option<&'a ThreadId>,
    pub(super) run: Option<RunHead<'a>>,
    pub(super) body: &'a EventBody,
}

/// Whose log an event is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner<'a> {
    User(&'a UserId),
    Topic(&'a StreamName),
}

impl Unplaced<'_> {
    /// Encodes the event, which is to be appended to `log` after `skip` others.
    pub(super) fn encode(
        &self,
        now: Now,
        log: &Log,
        skip: u64,
        limits: &Limits,
        scratch: &mut Scratch,
    ) -> Result<Entry, RunError> {
        let mut position = log.next();
        position.seq += skip;
        let (stream, user_id) = match self.owner {
            Owner::User(user) => (None, Some(user.sub())),
            Owner::Topic(stream) => (Some(stream), None),
        };
        let head = EventHead {
            position,
            stream,
            timestamp: now.unix,
            user_id,
            thread_id: self.thread,
            run_id: self.run.map(|run| run.run),
            run_seq: self.run.and_then(|run| run.run_seq),
            agent_name: self.run.and_then(|run| run.agent_name),
            flaw: self.run.and_then(|run| run.flaw),
        };
        encode_event_in(&mut scratch.0, &head, self.body);
        let frame = Bytes::copy_from_slice(scratch.0.as_bytes());
        // One large event does not cost memory for ever.
        scratch.0.shrink_to(SCRATCH_BYTES);
        if frame.len() > limits.event_bytes {
            return Err(RunError::TooLarge { bytes: frame.len(), max: limits.event_bytes });
        }
        let meta = MergedText { run: head.run_id, run_seq: head.run_seq.unwrap_or(0), timestamp: now.unix };
        let entry = Entry::new(position.seq, frame, self.body, meta);
        Ok(if self.thread.is_some() { entry.in_thread() } else { entry })
    }
}
