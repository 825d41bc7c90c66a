//! What ought to be: lists of events, and who has read how far.

use std::collections::BTreeMap;

use trunkline_core::id::{PartId, RunId, ToolCallId};
use trunkline_core::manager::RequestId;
use trunkline_core::protocol::{Event, EventBody, Receipt};

pub(super) const MAX_DEVICES: usize = 3;
pub(super) const MAX_RUNS: usize = 3;
pub(super) const LOG_ENTRIES: u64 = 8;
/// In microseconds, as all times here.
pub(super) const RETENTION: u64 = 50;
pub(super) const REQUEST: u64 = 20;
pub(super) const MAX_WAITING: usize = 16;

/// One event, as far as a reader can tell it from others.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Text(RunId, String),
    Other(Option<RunId>, String),
}

impl What {
    pub(super) fn of(event: &Event) -> Self {
        if let EventBody::AgentDelta { text, .. } = &event.body {
            Self::Text(event.run_id.expect("a run's"), text.clone())
        } else if let EventBody::Custom { data, .. } = &event.body {
            Self::Other(event.run_id, format!("custom {}", data.get()))
        } else {
            Self::Other(event.run_id, event.body.type_name().to_owned())
        }
    }

    /// Several events as one entry, which only pieces of one text may be.
    pub(super) fn joined(events: &[Self]) -> Option<Self> {
        let (first, rest) = events.split_first()?;
        rest.iter().try_fold(first.clone(), |all, next| match (all, next) {
            (Self::Text(run, text), Self::Text(same, more)) if run == *same => Some(Self::Text(run, text + more)),
            (Self::Text(..) | Self::Other(..), _) => None,
        })
    }
}

/// A log that forgets nothing.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) epoch: u64,
    /// Each with when it was appended.
    pub(super) events: Vec<(u64, What)>,
    /// Up to here a reader may have fallen out.
    pub(super) floor: u64,
    pub(super) idle_since: Option<u64>,
    /// When each key was used last to any effect.
    pub(super) keys: BTreeMap<u8, u64>,
}

impl Stream {
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    pub(super) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    pub(super) fn append(&mut self, now: u64, what: What) {
        self.events.push((now, what));
        self.floor = self.floor.max(self.head().saturating_sub(LOG_ENTRIES));
    }

    /// Events in `(from, to]`.
    pub(super) fn between(&self, from: u64, to: u64) -> Vec<What> {
        self.events[from as usize..to as usize].iter().map(|(_, what)| what.clone()).collect()
    }

    pub(super) fn has_key(&self, now: u64, key: Option<u8>) -> bool {
        key.and_then(|key| self.keys.get(&key)).is_some_and(|at| at + RETENTION > now)
    }

    /// Nobody needs it any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        let keys = self.keys.values().max().map_or(0, |at| at + RETENTION);
        self.idle_since.is_some_and(|since| keys.max(since + RETENTION) <= now)
    }

    pub(super) fn settle(&mut self, now: u64, is_idle: bool) {
        self.idle_since = if is_idle { self.idle_since.or(Some(now)) } else { None };
    }

    /// The text of each open run of those in `(0, to]`.
    pub(super) fn open_at(&self, to: u64) -> BTreeMap<RunId, String> {
        let mut open: BTreeMap<RunId, String> = BTreeMap::new();
        for what in self.between(0, to) {
            match what {
                What::Text(run, text) => open.entry(run).or_default().push_str(&text),
                What::Other(Some(run), kind) if kind == "agent_started" => drop(open.insert(run, String::new())),
                What::Other(Some(run), kind) if ENDS.contains(&&*kind) => drop(open.remove(&run)),
                What::Other(..) => {}
            }
        }
        open
    }
}

const ENDS: [&str; 3] = ["agent_completed", "agent_failed", "agent_cancelled"];

#[derive(Debug)]
pub(super) struct Device {
    pub(super) n: u32,
    pub(super) session: u128,
    /// How far it has read.
    pub(super) at: u64,
    /// How far the shard knows that it has everything.
    pub(super) has: u64,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) tools: Vec<ToolCallId>,
    pub(super) part: PartId,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: RequestId,
    pub(super) deadline: u64,
    pub(super) key: Option<u8>,
    pub(super) senders: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) stream: Stream,
    pub(super) devices: Vec<Device>,
    pub(super) runs: Vec<Run>,
    pub(super) requests: Vec<Asked>,
    /// Keys whose message was answered: when, and whether by a run.
    pub(super) answered: BTreeMap<u8, (u64, bool)>,
}

impl User {
    pub(super) fn open(&self) -> usize {
        self.runs.len() + self.requests.len()
    }

    pub(super) fn receipt(&self) -> Receipt {
        receipt(self.devices.len())
    }

    pub(super) fn ready(&self) -> Vec<String> {
        self.devices.iter().map(|device| format!("ready {}", device.n)).collect()
    }

    pub(super) fn settle(&mut self, now: u64) {
        self.stream.settle(now, self.devices.is_empty() && self.open() == 0);
        let everybody_has = self.devices.iter().map(|device| device.has).min().unwrap_or(0);
        let old = self.stream.events.iter().take_while(|(at, _)| at + RETENTION <= now).count() as u64;
        self.stream.floor = self.stream.floor.max(old.min(everybody_has));
    }
}

#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) stream: Stream,
    /// Connections, and how far each has read.
    pub(super) readers: BTreeMap<u32, u64>,
}

pub(super) fn receipt(readers: usize) -> Receipt {
    match u32::try_from(readers) {
        Ok(0) | Err(_) => Receipt::Stored,
        Ok(n) => Receipt::DeliveredTo(n),
    }
}

/// What is revoked of a user: sessions, and all that is from up to a moment.
#[derive(Debug, Default)]
pub(super) struct Denied {
    pub(super) sessions: Vec<u128>,
    pub(super) up_to: Option<u64>,
}
