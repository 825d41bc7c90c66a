//! The bytes of all logs of a shard, within its share of [`Limits::total_log_bytes`], and those of all keys that it remembers,
//! within its share of [`Limits::total_dedup_bytes`].
//!
//! The largest log gives way first, and only while it is above the fair part, so that nobody below it ever loses
//! anything through another's load. What an append adds is given back by that very append: the share is exceeded by the
//! entry that was just appended at most, where that alone is above the fair part. The next append may shed that one too,
//! so that a log can be empty, which a reader is told of like any other loss.
//!
//! An append sheds no more bytes than it adds, one event or two. Looking for texts to join is work beside that, but
//! every entry is looked at once in its life.
//!
//! Of the keys, whoever has most forgets its oldest, and only while it has more than its part of all that have some.
//!
//! [`Limits::total_log_bytes`]: crate::limits::Limits::total_log_bytes
//! [`Limits::total_dedup_bytes`]: crate::limits::Limits::total_dedup_bytes

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Manager;
use super::housekeeping::Due;
use super::topics::Topic;
use crate::stream::Log;

/// What each owner on a shard holds of something, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    total: usize,
    /// Those without a byte are left out.
    ordered: BTreeSet<(usize, Due)>,
}

impl Sizes {
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// An owner has `after` bytes in place of `before`.
    pub(super) fn change(&mut self, owner: &Due, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.total = self.total.saturating_sub(before).saturating_add(after);
        self.ordered.remove(&(before, owner.clone()));
        if after > 0 {
            self.ordered.insert((after, owner.clone()));
        }
    }

    /// The largest but one.
    fn largest(&self, but: Option<&Due>) -> Option<(usize, Due)> {
        self.ordered.iter().rev().find(|(_, owner)| Some(owner) != but).cloned()
    }
}

impl<H: Clone> Manager<H> {
    /// Keeps the count in step after a change to an owner's log, which has `after` bytes in place of `before`, and the total
    /// within the share.
    pub(super) fn account(&mut self, changed: &Due, before: usize, after: usize) {
        self.logs.change(changed, before, after);
        if self.logs.total() > self.log_share {
            self.relieve(changed);
        }
    }

    /// What every log of this shard may have when all want more.
    pub(super) fn fair_share(&self) -> usize {
        self.log_share / (self.users.len() + self.topics.len()).max(1)
    }

    /// Lets the largest logs give way; the newest entry of the one that has just changed stays.
    fn relieve(&mut self, changed: &Due) {
        let fair = self.fair_share();
        let limits = Arc::clone(&self.limits);
        let mut exhausted = None;
        while self.logs.total() > self.log_share {
            let excess = self.logs.total() - self.log_share;
            let largest = self.logs.largest(exhausted).filter(|(bytes, _)| *bytes > fair);
            let Some((bytes, owner)) = largest else { return };
            let wanted = bytes.saturating_sub(excess).max(fair);
            let Some(log) = self.log_of(&owner) else { return };
            let start = log.start().seq;
            let gave = log.relieve(wanted, owner == *changed, &limits);
            let (left, shed) = (log.bytes(), log.start().seq.saturating_sub(start));
            self.tally.shed += shed;
            self.logs.change(&owner, bytes, left);
            if !gave && owner != *changed {
                // Any other log gives its last byte, so this is never reached.
                return;
            }
            if !gave {
                exhausted = Some(changed);
            }
        }
    }

    /// Keeps the count of keys in step after a change to those of `changed`, and the total within the share.
    pub(super) fn account_keys(&mut self, changed: Due) {
        let mut owner = changed;
        loop {
            let Some((counted, after)) = self.keys_of(&owner) else { return };
            let before = std::mem::replace(counted, after);
            self.key_sizes.change(&owner, before, after);
            let largest = self.key_sizes.largest(None).filter(|_| self.key_sizes.total() > self.keys_share);
            let fair = self.keys_share / self.key_sizes.ordered.len().max(1);
            match largest {
                Some((bytes, largest)) if bytes > fair => owner = largest,
                Some(_) | None => return,
            }
            match &owner {
                Due::User(id) => self.users.get_mut(id).map(|user| user.forget_key()),
                Due::Topic(id) => self.topics.get_mut(id).map(Topic::forget_key),
            };
        }
    }

    /// What an owner's keys count as, and what they have.
    fn keys_of(&mut self, owner: &Due) -> Option<(&mut usize, usize)> {
        match owner {
            Due::User(id) => self.users.get_mut(id).map(|user| {
                let bytes = user.key_bytes();
                (&mut user.counted_keys, bytes)
            }),
            Due::Topic(id) => self.topics.get_mut(id).map(Topic::count_keys),
        }
    }

    pub(super) fn log_of(&mut self, owner: &Due) -> Option<&mut Log> {
        match owner {
            Due::User(id) => self.users.get_mut(id).map(|user| &mut user.channel.log),
            Due::Topic(id) => self.topics.get_mut(id).map(|topic| &mut topic.log),
        }
    }
}
