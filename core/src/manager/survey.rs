//! What a shard holds, looked at a part at a time: nobody waits for a look at everybody.

use std::ops::Bound::{Excluded, Unbounded};

use super::Manager;
use crate::id::UserId;

/// What there is at the moment in which it is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Connected devices.
    pub devices: u64,
    /// Users who have some.
    pub connected_users: u64,
    /// Users without a device, whose log or run is held.
    pub kept_users: u64,
    /// Open runs.
    pub runs: u64,
    /// Requests that nobody has answered yet.
    pub requests: u64,
    /// Bytes that wait in the control queues of devices.
    pub queued: u64,
    /// The most that waits for one of them.
    pub most_queued: u64,
    /// Topics with a subscriber or a log that is held.
    pub topics: u64,
    /// Bytes of logs.
    pub log_bytes: u64,
    /// Bytes of idempotency keys.
    pub key_bytes: u64,
}

impl Survey {
    /// Counts what waits for one device.
    pub fn count_queue(&mut self, bytes: u64) {
        self.queued += bytes;
        self.most_queued = self.most_queued.max(bytes);
    }
}

impl<H: Clone> Manager<H> {
    /// Counts up to `users` users after `last`; `queued` says how many bytes wait for a device. Answers where to go on, until
    /// there are none.
    pub fn survey_some(
        &self,
        last: Option<&UserId>,
        users: usize,
        survey: &mut Survey,
        queued: impl Fn(&H) -> usize,
    ) -> Option<UserId> {
        let mut reached = None;
        for (id, user) in self.users.range::<UserId, _>((last.map_or(Unbounded, Excluded), Unbounded)).take(users) {
            let devices = &user.channel.devices;
            survey.devices += devices.len() as u64;
            let kind = if devices.is_empty() { &mut survey.kept_users } else { &mut survey.connected_users };
            *kind += 1;
            survey.runs += user.runs.len() as u64;
            survey.requests += user.requests.len() as u64;
            devices.iter().for_each(|device| survey.count_queue(queued(&device.handle) as u64));
            reached = Some(id);
        }
        reached.cloned()
    }

    /// Counts what the shard knows without a look at each user.
    pub fn survey_whole(&self, survey: &mut Survey) {
        survey.topics += self.topics.len() as u64;
        survey.log_bytes += self.logs.total() as u64;
        survey.key_bytes += self.key_sizes.total() as u64;
    }
}
