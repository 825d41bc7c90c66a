//! Deadlines of a shard: requests that wait too long, and users that are gone.

use super::Manager;
use super::runs::OpenRun;
use crate::id::{TopicId, UserId};
use crate::time::{Now, Timestamp};

/// What a shard's next deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// A request of a user, the grace of a run that nobody watches, the retention of the user's log, or of entries that
    /// every device has.
    User,
    /// The retention of a topic's log.
    Topic,
}

/// Whose deadline, log or place in an order it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    User(UserId),
    Topic(TopicId),
}

impl<H: Clone> Manager<H> {
    /// When [`Manager::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<(Timestamp, Deadline)> {
        self.deadlines.first().map(|(at, due)| match due {
            Due::User(_) => (*at, Deadline::User),
            Due::Topic(_) => (*at, Deadline::Topic),
        })
    }

    /// Handles one user or topic whose deadline has come; before it, nothing. Call until [`Manager::poll_timeout`] is later.
    pub fn handle_timeout(&mut self, now: Now) {
        self.assert_drained();
        let due = self.deadlines.first().filter(|(at, _)| *at <= now.at).map(|(_, due)| due.clone());
        match due {
            Some(Due::User(id)) => self.user_due(now, id),
            Some(Due::Topic(id)) => self.remove_topic(&id),
            None => {}
        }
    }

    fn user_due(&mut self, now: Now, id: UserId) {
        self.expire_requests(now.at, &id);
        self.expire_absences(now.at, &id);
        self.expire_leases(now, &id);
        self.trim(now.at, &id);
        self.age_keys(now.at, &id);
        let retained = self.users.get(&id).and_then(|user| self.retained_until(&id, user.idle_since?));
        if retained.is_some_and(|until| until <= now.at) {
            self.remove_user(&id);
        } else {
            self.settle(now, &id);
        }
    }

    /// Keeps the user's deadline in step with its state; part of every operation that changes it.
    pub(super) fn settle(&mut self, now: Now, id: &UserId) {
        self.observe_devices(now.at, id);
        if self.users.get(id).is_some_and(|user| user.key_bytes() != user.counted_keys) {
            self.account_keys(Due::User(id.clone()));
        }
        let Some(user) = self.users.get_mut(id) else { return };
        user.idle_since = if user.is_idle() { user.idle_since.or(Some(now.at)) } else { None };
        let had_event = user.channel.log.head().seq > 0;
        self.kept.observe(&mut user.kept, user.idle_since.is_some(), had_event, || Due::User(id.clone()));
        let idle_since = user.idle_since;
        let requests = user.requests.values().map(|waiting| waiting.deadline);
        let graces = user.runs.values().filter_map(OpenRun::cancel_at);
        let leases = user.runs.values().filter_map(OpenRun::lease_until);
        let trim = user.channel.trim_at(&self.limits);
        // Answers that may not be asked for any more take no memory, also where no new key comes.
        let keys = user.keys_expire_at(&self.limits);
        let next = requests.chain(graces).chain(leases).chain(trim).chain(keys).min();
        let wanted = match idle_since {
            Some(since) => self.retained_until(id, since),
            None => next,
        };
        self.arm(id, wanted);
        self.bound_kept();
    }

    /// A log is kept for its retention, and as long as a key that was sent may be repeated.
    fn retained_until(&self, id: &UserId, idle_since: Timestamp) -> Option<Timestamp> {
        let user = self.users.get(id)?;
        let log = idle_since + self.limits.log_retention;
        Some(user.keys_expire_at(&self.limits).map_or(log, |keys| keys.max(log)))
    }

    fn age_keys(&mut self, now: Timestamp, id: &UserId) {
        let Some(user) = self.users.get_mut(id) else { return };
        user.keys.age(now, &self.limits);
        if let Some(keys) = &mut user.producer_keys {
            keys.age(now, &self.limits);
        }
    }

    fn arm(&mut self, id: &UserId, at: Option<Timestamp>) {
        let Some(user) = self.users.get_mut(id) else { return };
        if user.armed == at {
            return;
        }
        if let Some(old) = user.armed.take() {
            self.deadlines.remove(&(old, Due::User(id.clone())));
        }
        user.armed = at;
        self.deadlines.extend(at.map(|at| (at, Due::User(id.clone()))));
    }

    pub(super) fn remove_user(&mut self, id: &UserId) {
        self.arm(id, None);
        if let Some(user) = self.users.remove(id) {
            self.kept.leave(user.kept);
            self.logs.change(&Due::User(id.clone()), user.channel.log.bytes(), 0);
            self.key_sizes.change(&Due::User(id.clone()), user.counted_keys, 0);
        }
    }
}
