//! What a back end or an operator sees of a user: who is connected and what runs, and nothing of what was said.

use std::time::Duration;

use super::runs::OpenRun;
use super::{DeviceStatus, Manager};
use crate::id::{RunId, ThreadId, UserId};
use crate::protocol::{Position, RunStatus};
use crate::time::Timestamp;

/// A user as it stands now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserStatus {
    /// The end of its own stream; `None` where there is none, as for a user nobody has heard of.
    pub head: Option<Position>,
    /// Its connected devices, in the order in which they came.
    pub devices: Vec<DeviceStatus>,
    /// Its open runs, by their ids.
    pub runs: Vec<OpenRunStatus>,
}

/// An open run as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRunStatus {
    /// Which.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// Who works.
    pub agent_name: Box<str>,
    /// Running or suspended.
    pub status: RunStatus,
    /// The number of its last event.
    pub run_seq: u64,
    /// How long it lives without a word of its producer; `None` while a connection or this process holds it.
    pub lease_left: Option<Duration>,
    /// Of a run of a producer outside this process: who asked for its end.
    pub cancel_requested_by: Option<Box<str>>,
}

impl<H: Clone> Manager<H> {
    /// The user as it stands now. Looking changes nothing.
    pub fn status(&self, now: Timestamp, id: &UserId) -> UserStatus {
        let Some(user) = self.users.get(id) else { return UserStatus::default() };
        UserStatus {
            head: Some(user.channel.log.head()),
            devices: self.devices(id),
            runs: user.runs.iter().map(|(run, open)| open.status(now, *run)).collect(),
        }
    }
}

impl<H: Clone> OpenRun<H> {
    fn status(&self, now: Timestamp, run: RunId) -> OpenRunStatus {
        let suspended = self.machine.waits_for().is_some();
        OpenRunStatus {
            run,
            thread: self.thread.clone(),
            agent_name: self.agent_name.clone(),
            status: if suspended { RunStatus::Suspended } else { RunStatus::Running },
            run_seq: self.machine.next_run_seq() - 1,
            lease_left: self.lease_until().map(|until| until.saturating_since(now)),
            cancel_requested_by: self.lease.as_ref().and_then(|lease| lease.cancelled_by.clone()),
        }
    }
}
