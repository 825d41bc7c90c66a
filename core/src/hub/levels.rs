//! The level of the service: who says what it should be, and how everybody learns of a change.

use std::sync::Arc as Shared;
use std::task::{Context, Poll, Waker};

use super::{Hub, Mail, deliver};
use crate::id::DependencyName;
use crate::level::{LevelNotice, LevelStatus, Levels, Report, ServiceLevel, TooManyDependencies};
use crate::manager::{Control, Output};
use crate::sync::{Wakers, broken};
use crate::time::{Clock, Timestamp};

/// How many users are told of a change under one lock.
const TELL_BATCH: usize = 256;

impl Hub {
    /// How well the service works now.
    pub fn level(&self) -> ServiceLevel {
        self.inner.levels.lock().notice().level
    }

    /// The level, why it is so, and what it rests on. Looking changes nothing.
    pub fn level_status(&self) -> LevelStatus {
        self.inner.levels.lock().status()
    }

    /// Says what the service can still give with one of its dependencies as it is; [`ServiceLevel::Normal`] where the dependency
    /// is well. The level follows once that has lasted, see [`crate::level`]. The reason is for people, and every client is
    /// shown it where it is why the level changes.
    ///
    /// A report holds until the next one of the same name.
    ///
    /// # Errors
    /// When as many as [`Limits::dependencies`](crate::limits::Limits::dependencies) are not well already.
    pub fn report(
        &self,
        dependency: &DependencyName,
        level: ServiceLevel,
        reason: &str,
    ) -> Result<(), TooManyDependencies> {
        let report = Report::new(level, reason);
        self.on_levels(|levels, now| levels.handle_report(now, dependency, report))
    }

    /// Orders a level, at once and whatever else speaks for or against it; with `None`, it goes by memory and dependencies again.
    /// The reason is for people, and every client is shown it.
    pub fn set_level(&self, level: Option<ServiceLevel>, reason: &str) {
        let order = level.map(|level| Report::new(level, reason));
        self.on_levels(|levels, now| levels.handle_order(now, order));
    }

    /// Ready with the last change where it is none of those up to `known`, the [`LevelNotice::number`] of the last one that was
    /// seen, 0 for none. One task may wait.
    pub fn poll_level(&self, cx: &mut Context<'_>, known: u64) -> Poll<Shared<LevelNotice>> {
        // Registered before the look: a change that comes afterwards finds the waker.
        while self.inner.level_changed.take(cx.waker()) {}
        let notice = Shared::clone(self.inner.levels.lock().notice());
        if notice.number > known { Poll::Ready(notice) } else { Poll::Pending }
    }

    /// Handles what is due of the level, and answers when to come again.
    pub(super) fn evaluate_level(&self) -> Option<Timestamp> {
        let now = self.now().at;
        let levels = self.inner.levels.lock();
        let (due, wants_memory) = (levels.poll_timeout(), levels.wants_memory(now));
        drop(levels);
        if due.is_none_or(|at| at > now) {
            return due;
        }
        let memory = wants_memory.then(|| self.memory());
        self.on_levels(|levels, now| {
            match memory {
                Some((used, budget)) => levels.handle_memory(now, used, budget),
                None => levels.handle_timeout(now),
            }
            levels.poll_timeout()
        })
    }

    /// Bytes of the logs, snapshots and keys of all users, and how many there may be.
    fn memory(&self) -> (usize, usize) {
        let limits = self.limits();
        let budget = [limits.total_log_bytes, limits.total_snapshot_bytes, limits.total_dedup_bytes];
        let held = self.inner.shards.iter().map(|shard| shard.lock().held_bytes());
        let used = held.fold(self.inner.snapshots.used(), usize::saturating_add);
        (used, budget.into_iter().fold(0, usize::saturating_add))
    }

    /// One input of the level, with all that follows from it.
    pub(super) fn on_levels<R>(&self, input: impl FnOnce(&mut Levels, Timestamp) -> R) -> R {
        let mut levels = self.inner.levels.lock();
        let now = self.now().at;
        let before = levels.poll_timeout().unwrap_or(Timestamp::MAX);
        let result = input(&mut levels, now);
        let change = levels.poll_change();
        let earlier = levels.poll_timeout().is_some_and(|at| at < before);
        drop(levels);
        if let Some(notice) = change {
            self.announce(&notice);
            self.inner.level_changed.mark().into_iter().for_each(Waker::wake);
        }
        if earlier {
            self.inner.rearm.mark().into_iter().for_each(Waker::wake);
        }
        result
    }

    /// Tells everybody who is connected. Of two changes that are announced at the same time, the newer one reaches everybody: a
    /// shard and a connection go by the number.
    fn announce(&self, notice: &Shared<LevelNotice>) {
        for shard in 0..self.inner.shards.len() {
            if !self.on_shard(shard, |manager, _| manager.set_level(notice)) {
                continue;
            }
            let mut last = None;
            loop {
                last = self.on_shard(shard, |manager, _| manager.announce_some(last.as_ref(), TELL_BATCH));
                if last.is_none() {
                    break;
                }
            }
        }
        self.tell_producers(notice);
    }

    fn tell_producers(&self, notice: &Shared<LevelNotice>) {
        broken!(TellsProducersLate => self.tell_producers_late(notice));
        let mut wakers = Wakers::default();
        let mut producers = self.inner.producers.lock();
        // Under their lock, as devices are told under their shard's: of two changes the newer one comes last into a mailbox, where it
        // takes the place of the other.
        for mail in producers.set_level(notice) {
            tell(mail, notice, &mut wakers);
        }
        drop(producers);
        wakers.wake();
    }
}

pub(super) fn tell(mail: Mail, notice: &Shared<LevelNotice>, wakers: &mut Wakers) {
    deliver(Output::Control(mail, Control::ServiceLevel(Shared::clone(notice))), wakers, &mut Vec::new());
}
