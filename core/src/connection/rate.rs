//! How many messages a client may send: a token bucket in integers.

use crate::limits::Limits;
use crate::time::Timestamp;

/// Credit in microseconds: one message costs what its share of a second is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    credit: u64,
    at: Timestamp,
}

impl Rate {
    pub(super) fn new(now: Timestamp, limits: &Limits) -> Self {
        Self { credit: full(limits), at: now }
    }

    /// Counts one message; `false` when it is over the rate.
    pub(super) fn allow(&mut self, now: Timestamp, limits: &Limits) -> bool {
        let earned = now.as_micros().saturating_sub(self.at.as_micros());
        self.at = self.at.max(now);
        self.credit = self.credit.saturating_add(earned).min(full(limits));
        let cost = cost(limits);
        let enough = self.credit >= cost;
        if enough {
            self.credit -= cost;
        }
        enough
    }
}

fn cost(limits: &Limits) -> u64 {
    1_000_000 / u64::from(limits.messages_per_second.max(1))
}

fn full(limits: &Limits) -> u64 {
    cost(limits).saturating_mul(u64::from(limits.message_burst.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_passes_and_one_more_does_not_until_time_has_passed() {
        let limits = Limits { messages_per_second: 10, message_burst: 3, ..Limits::default() };
        let mut rate = Rate::new(Timestamp::ZERO, &limits);
        assert!((0..3).all(|_| rate.allow(Timestamp::ZERO, &limits)));
        assert!(!rate.allow(Timestamp::ZERO, &limits));
        assert!(!rate.allow(Timestamp::from_micros(99_999), &limits));
        assert!(rate.allow(Timestamp::from_micros(100_000), &limits));
        assert!(!rate.allow(Timestamp::from_micros(100_000), &limits));
    }

    #[test]
    fn rest_earns_no_more_than_the_burst() {
        let limits = Limits { messages_per_second: 10, message_burst: 3, ..Limits::default() };
        let mut rate = Rate::new(Timestamp::ZERO, &limits);
        let later = Timestamp::from_micros(60_000_000);
        assert_eq!((0..10).filter(|_| rate.allow(later, &limits)).count(), 3);
    }
}
