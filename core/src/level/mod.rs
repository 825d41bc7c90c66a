//! How well the service works: one automaton for the whole hub, and what follows from its state.
//!
//! Its inputs are the memory in use, what is reported of named dependencies, and an operator's order. The level is a function of
//! these and of how long they have been so: what makes it worse counts once it has lasted for
//! [`Limits::level_rise_after`], and has passed once all was well for [`Limits::level_fall_after`]. An order counts at once, and
//! alone. So healthy inputs without an order lead from any state to [`ServiceLevel::Normal`] within that time.
//!
//! A level changes neither heartbeats nor deadlines of connections, ends no connection, and takes no event's place.

mod steady;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::DependencyName;
use crate::limits::Limits;
pub use crate::protocol::ServiceLevel;
use crate::time::Timestamp;
use steady::Source;

/// How often the memory is looked at while much of it is in use.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The longest reason, in bytes; what is longer is cut.
pub const MAX_REASON_BYTES: usize = 256;

/// The level of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    limits: Arc<Limits>,
    /// Of the memory, what is in use.
    percent: u32,
    memory: Source,
    /// Those that are not well.
    dependencies: BTreeMap<DependencyName, Report>,
    health: Source,
    order: Option<Report>,
    /// When to look at the memory again; `None` where only growth is of interest.
    look_at: Option<Timestamp>,
    notice: Arc<LevelNotice>,
    /// The notice was not taken yet.
    changed: bool,
}

/// A level with why it should be that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Report {
    /// The best level that can be given as things are.
    pub level: ServiceLevel,
    /// For people. It is shown to every client.
    pub reason: Box<str>,
}

/// A change of the level, as everybody who is connected is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LevelNotice {
    /// Rises from change to change.
    pub number: u64,
    /// The new level.
    pub level: ServiceLevel,
    /// For people.
    pub reason: Box<str>,
}

/// The service as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelStatus {
    /// The level and why it is so.
    pub notice: Arc<LevelNotice>,
    /// What an operator ordered.
    pub order: Option<ServiceLevel>,
    /// Of the memory that logs, snapshots and keys may have together, what was in use at the last look, in percent.
    pub memory_percent: u32,
    /// Those dependencies that are reported not to be well.
    pub dependencies: BTreeMap<DependencyName, Report>,
}

/// [`Limits::dependencies`] are not well already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many dependencies as allowed are reported not to be well")]
pub struct TooManyDependencies;

impl Default for LevelNotice {
    fn default() -> Self {
        Self { number: 0, level: ServiceLevel::Normal, reason: WELL.into() }
    }
}

const WELL: &str = "all is well";

impl Report {
    /// A reason may be anything: control characters are left out, and what is over [`MAX_REASON_BYTES`].
    pub fn new(level: ServiceLevel, reason: &str) -> Self {
        let mut text: String = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_BYTES).collect();
        while text.len() > MAX_REASON_BYTES {
            text.pop();
        }
        Self { level, reason: text.into() }
    }
}

impl Levels {
    /// All is well.
    pub fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            percent: 0,
            memory: Source::default(),
            dependencies: BTreeMap::new(),
            health: Source::default(),
            order: None,
            look_at: None,
            notice: Arc::default(),
            changed: false,
        }
    }

    /// Of the memory that may be used, in bytes, so much is.
    pub fn handle_memory(&mut self, now: Timestamp, used: usize, budget: usize) {
        self.settle(now);
        let percent = (used as u128 * 100) / (budget as u128).max(1);
        self.percent = u32::try_from(percent).unwrap_or(u32::MAX);
        let calm = self.percent < self.limits.degraded_leave_percent / 2 && self.memory.is_calm();
        self.look_at = (!calm).then_some(now + LOOK_AGAIN);
        self.conclude(now);
    }

    /// The best level that can be given with this dependency as it is.
    ///
    /// # Errors
    /// When as many as allowed are not well; then nothing changes.
    pub fn handle_report(
        &mut self,
        now: Timestamp,
        name: &DependencyName,
        report: Report,
    ) -> Result<(), TooManyDependencies> {
        self.settle(now);
        if report.level == ServiceLevel::Normal {
            self.dependencies.remove(name);
        } else if self.dependencies.len() < self.limits.dependencies || self.dependencies.contains_key(name) {
            self.dependencies.insert(name.clone(), report);
        } else {
            return Err(TooManyDependencies);
        }
        self.conclude(now);
        Ok(())
    }

    /// An operator orders a level, or `None` to go by the other inputs again.
    pub fn handle_order(&mut self, now: Timestamp, order: Option<Report>) {
        self.settle(now);
        self.order = order;
        self.conclude(now);
    }

    /// What has lasted long enough counts from now on.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.settle(now);
        self.conclude(now);
    }

    /// When to call [`Levels::handle_timeout`] at the latest, and before it [`Levels::handle_memory`] where that
    /// [is due](Levels::wants_memory).
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        [self.memory.due(&self.limits), self.health.due(&self.limits), self.look_at].into_iter().flatten().min()
    }

    /// Whether it is time to look how much memory is in use.
    pub fn wants_memory(&self, now: Timestamp) -> bool {
        self.look_at.is_some_and(|at| at <= now)
    }

    /// The memory in use has grown: it is looked at now.
    pub fn handle_growth(&mut self, now: Timestamp) {
        self.look_at = Some(now);
    }

    /// The change that nobody was told of yet. Where there were several, the last.
    pub fn poll_change(&mut self) -> Option<Arc<LevelNotice>> {
        std::mem::take(&mut self.changed).then(|| Arc::clone(&self.notice))
    }

    /// The level and why it is so.
    pub const fn notice(&self) -> &Arc<LevelNotice> {
        &self.notice
    }

    /// The service as an operator sees it. Looking changes nothing.
    pub fn status(&self) -> LevelStatus {
        LevelStatus {
            notice: Arc::clone(&self.notice),
            order: self.order.as_ref().map(|order| order.level),
            memory_percent: self.percent,
            dependencies: self.dependencies.clone(),
        }
    }

    /// What was due by now under the inputs so far, whenever the timer came.
    fn settle(&mut self, now: Timestamp) {
        self.memory.settle(now, &self.limits);
        self.health.settle(now, &self.limits);
        self.observe(now);
    }

    fn observe(&mut self, now: Timestamp) {
        self.memory.observe(now, self.memory_wants());
        self.health.observe(now, self.worst().map_or(ServiceLevel::Normal, |report| report.level));
    }

    fn conclude(&mut self, now: Timestamp) {
        self.observe(now);
        // What has not to last counts at once.
        self.memory.settle(now, &self.limits);
        self.health.settle(now, &self.limits);
        let level = self.wanted();
        if level != self.notice.level {
            let reason = self.reason(level);
            self.notice = Arc::new(LevelNotice { number: self.notice.number + 1, level, reason });
            self.changed = true;
        }
    }

    fn wanted(&self) -> ServiceLevel {
        let automatic = self.memory.level().max(self.health.level());
        self.order.as_ref().map_or(automatic, |order| order.level)
    }

    /// A level that was entered is left at another share than the one at which it was.
    fn memory_wants(&self) -> ServiceLevel {
        let Limits {
            degraded_enter_percent,
            degraded_leave_percent,
            emergency_enter_percent,
            emergency_leave_percent,
            ..
        } = *self.limits;
        let level = self.memory.level();
        let from = |at: ServiceLevel, enter, leave| if level >= at { leave } else { enter };
        if self.percent >= from(ServiceLevel::Emergency, emergency_enter_percent, emergency_leave_percent) {
            ServiceLevel::Emergency
        } else if self.percent >= from(ServiceLevel::Degraded, degraded_enter_percent, degraded_leave_percent) {
            ServiceLevel::Degraded
        } else {
            ServiceLevel::Normal
        }
    }

    fn worst(&self) -> Option<&Report> {
        // Of several, the first by name.
        self.dependencies.values().rev().max_by_key(|report| report.level)
    }

    fn reason(&self, level: ServiceLevel) -> Box<str> {
        if let Some(order) = &self.order {
            let said = Some(&order.reason).filter(|reason| !reason.is_empty());
            return said.cloned().unwrap_or_else(|| "an operator's order".into());
        }
        if level == ServiceLevel::Normal {
            return WELL.into();
        }
        let reported = self.worst().filter(|report| self.health.level() == level && report.level == level);
        match reported {
            Some(report) if !report.reason.is_empty() => report.reason.clone(),
            None if self.memory.level() == level => "much of the memory is in use".into(),
            Some(_) | None => "something that the service needs is not well".into(),
        }
    }
}

/// What a level changes for those who are connected, and for those who come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// How long streamed text waits for more of it, or for another event after it; then it comes merged. `None`: not at all.
    pub text_hold: Option<Duration>,
    /// Whether events that are for now only are left out.
    pub sheds_ephemeral: bool,
    /// Who is let in that continues nothing.
    pub newcomers: Newcomers,
    /// What works, as it stands in the notice.
    pub capabilities: &'static [&'static str],
}

/// Who is let in that continues nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomers {
    /// Everybody.
    All,
    /// As long as at most half of [`Limits::connections`] are attached.
    UpToHalf,
    /// Nobody.
    None,
}

impl Newcomers {
    /// Whether one more is let in where so many are attached, itself included.
    pub const fn admits(self, attached: usize, limits: &Limits) -> bool {
        match self {
            Self::All => true,
            Self::UpToHalf => attached <= limits.connections / 2,
            Self::None => false,
        }
    }
}

impl Effects {
    /// Those of a level.
    pub const fn of(level: ServiceLevel, limits: &Limits) -> Self {
        match level {
            ServiceLevel::Normal => Self {
                text_hold: None,
                sheds_ephemeral: false,
                newcomers: Newcomers::All,
                capabilities: &["resume", "user_message", "new_sessions", "ephemeral", "live_text"],
            },
            ServiceLevel::Degraded => Self {
                text_hold: Some(limits.degraded_text_hold),
                sheds_ephemeral: false,
                newcomers: Newcomers::UpToHalf,
                capabilities: &["resume", "user_message", "new_sessions", "ephemeral"],
            },
            ServiceLevel::Emergency => Self {
                text_hold: Some(limits.emergency_text_hold),
                sheds_ephemeral: true,
                newcomers: Newcomers::None,
                capabilities: &["resume", "user_message"],
            },
        }
    }
}
