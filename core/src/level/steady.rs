//! Conditions that count once they have lasted.

use crate::limits::Limits;
use crate::protocol::ServiceLevel;
use crate::time::Timestamp;

/// One source of trouble: which level it asks for, once it has asked for long enough.
///
/// Each level has a condition of its own, so that neither waits for the other; whatever asks for an emergency asks for the
/// lesser level too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Source {
    degraded: Steady,
    emergency: Steady,
}

impl Source {
    pub(super) fn level(&self) -> ServiceLevel {
        if self.emergency.holds {
            ServiceLevel::Emergency
        } else if self.degraded.holds {
            ServiceLevel::Degraded
        } else {
            ServiceLevel::Normal
        }
    }

    /// From now on it asks for this.
    pub(super) fn observe(&mut self, now: Timestamp, wanted: ServiceLevel) {
        self.degraded.observe(now, wanted >= ServiceLevel::Degraded);
        self.emergency.observe(now, wanted >= ServiceLevel::Emergency);
    }

    /// What has lasted long enough counts.
    pub(super) fn settle(&mut self, now: Timestamp, limits: &Limits) {
        self.degraded.settle(now, limits);
        self.emergency.settle(now, limits);
    }

    pub(super) fn due(&self, limits: &Limits) -> Option<Timestamp> {
        self.degraded.due(limits).into_iter().chain(self.emergency.due(limits)).min()
    }

    /// It asks for nothing, and has not lately.
    pub(super) fn is_calm(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Steady {
    holds: bool,
    /// Since when the condition is other than that.
    differs_since: Option<Timestamp>,
}

impl Steady {
    fn observe(&mut self, now: Timestamp, condition: bool) {
        self.differs_since = (condition != self.holds).then(|| self.differs_since.unwrap_or(now));
    }

    fn due(&self, limits: &Limits) -> Option<Timestamp> {
        let patience = if self.holds { limits.level_fall_after } else { limits.level_rise_after };
        Some(self.differs_since? + patience)
    }

    fn settle(&mut self, now: Timestamp, limits: &Limits) {
        if self.due(limits).is_some_and(|at| at <= now) {
            *self = Self { holds: !self.holds, differs_since: None };
        }
    }
}

#[cfg(test)]
impl Source {
    /// What holds, and for how many microseconds it has been otherwise.
    pub(super) fn ages(&self, now: Timestamp) -> [(bool, Option<u128>); 2] {
        [&self.degraded, &self.emergency]
            .map(|steady| (steady.holds, steady.differs_since.map(|since| now.saturating_since(since).as_micros())))
    }
}
