//! Deadlines of a shard: requests that wait too long, and users that are gone.

use std::collections::BTreeSet;

use super::Manager;
use super::runs::OpenRun;
use super::user::User;
use crate::id::{TopicId, UserId};
use crate::limits::Limits;
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
        let retained = self.users.get(&id).and_then(|user| Some(user.retained_until(user.idle_since?, &self.limits)));
        if retained.is_some_and(|until| until <= now.at) {
            self.remove_user(&id);
        } else {
            self.settle(now, &id);
        }
    }

    /// Keeps the user's deadline in step with its state; part of every operation that changes it.
    pub(super) fn settle(&mut self, now: Now, id: &UserId) {
        let Some(mut user) = self.users.get_mut(id) else { return };
        user.observe_devices(now.at, &mut self.outputs);
        if user.key_bytes() != user.counted_keys {
            self.account_keys(Due::User(id.clone()));
            let Some(counted) = self.users.get_mut(id) else { return };
            user = counted;
        }
        user.idle_since = if user.is_idle() { user.idle_since.or(Some(now.at)) } else { None };
        let had_event = user.channel.log.head().seq > 0;
        self.kept.observe(&mut user.kept, user.idle_since.is_some(), had_event, || Due::User(id.clone()));
        let wanted = user.due_at(&self.limits);
        arm(&mut self.deadlines, &mut user.armed, wanted, || Due::User(id.clone()));
        self.bound_kept();
    }

    fn age_keys(&mut self, now: Timestamp, id: &UserId) {
        let Some(user) = self.users.get_mut(id) else { return };
        user.keys.age(now, &self.limits);
        user.producer_keys.age(now, &self.limits);
    }

    pub(super) fn remove_user(&mut self, id: &UserId) {
        let Some(mut user) = self.users.remove(id) else { return };
        arm(&mut self.deadlines, &mut user.armed, None, || Due::User(id.clone()));
        self.kept.leave(user.kept);
        self.logs.change(&Due::User(id.clone()), user.channel.log.bytes(), 0);
        self.key_sizes.change(&Due::User(id.clone()), user.counted_keys, 0);
    }
}

impl<H: Clone> User<H> {
    /// When there is something to do for the user.
    fn due_at(&self, limits: &Limits) -> Option<Timestamp> {
        if let Some(since) = self.idle_since {
            return Some(self.retained_until(since, limits));
        }
        let requests = self.requests.values().map(|waiting| waiting.deadline);
        let graces = self.runs.values().filter_map(OpenRun::cancel_at);
        let leases = self.runs.values().filter_map(OpenRun::lease_until);
        let trim = self.channel.trim_at(limits);
        // Answers that may not be asked for any more take no memory, also where no new key comes.
        let keys = self.keys_expire_at(limits);
        requests.chain(graces).chain(leases).chain(trim).chain(keys).min()
    }

    /// A log is kept for its retention, and as long as a key that was sent may be repeated.
    fn retained_until(&self, idle_since: Timestamp, limits: &Limits) -> Timestamp {
        let log = idle_since + limits.log_retention;
        self.keys_expire_at(limits).map_or(log, |keys| keys.max(log))
    }
}

/// Moves an owner's deadline from where it is `armed` to `at`.
pub(super) fn arm(
    deadlines: &mut BTreeSet<(Timestamp, Due)>,
    armed: &mut Option<Timestamp>,
    at: Option<Timestamp>,
    owner: impl Fn() -> Due,
) {
    if *armed == at {
        return;
    }
    if let Some(old) = std::mem::replace(armed, at) {
        deadlines.remove(&(old, owner()));
    }
    deadlines.extend(at.map(|at| (at, owner())));
}
