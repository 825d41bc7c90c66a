//! How much may come in a time: a token bucket in integers. What is refused takes nothing out of it.

use std::time::Duration;

use crate::limits::Limits;
use crate::protocol::WelcomeLimits;
use crate::time::Timestamp;

/// Credit in nanoseconds: one message, or one handshake, costs what its share of a second is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    credit: u64,
    at: Timestamp,
}

/// What a peer may do: so often a second, and so often at once on top.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    per_second: u32,
    burst: u32,
}

impl Rate {
    pub(crate) fn new(now: Timestamp, allowance: Allowance) -> Self {
        Self { credit: allowance.full(), at: now }
    }

    /// Counts one message; `false` when it is over the rate.
    pub(crate) fn allow(&mut self, now: Timestamp, allowance: Allowance) -> bool {
        let enough = self.has_one(now, allowance);
        if enough {
            self.credit -= allowance.cost();
        }
        enough
    }

    /// Whether one more would be allowed.
    pub(crate) fn has_one(&mut self, now: Timestamp, allowance: Allowance) -> bool {
        let earned = now.as_micros().saturating_sub(self.at.as_micros()).saturating_mul(1_000);
        self.at = self.at.max(now);
        self.credit = self.credit.saturating_add(earned).min(allowance.full());
        self.credit >= allowance.cost()
    }

    /// Gives back what one that was allowed has cost.
    pub(crate) fn give_back(&mut self, allowance: Allowance) {
        self.credit = self.credit.saturating_add(allowance.cost()).min(allowance.full());
    }

    /// From when on nothing is missing, as if nothing had ever come.
    pub(crate) fn full_at(&self, allowance: Allowance) -> Timestamp {
        let micros = allowance.full().saturating_sub(self.credit).div_ceil(1_000);
        self.at + Duration::from_micros(micros)
    }

    /// When the next messages may come, where none may come now: as many at once as a hundredth of a second brings.
    pub(crate) fn pause(&self, allowance: Allowance) -> Option<Timestamp> {
        if self.credit >= allowance.cost() {
            return None;
        }
        let wanted = (1_000_000_000 / 100).clamp(allowance.cost(), allowance.full());
        Some(self.at + Duration::from_nanos(wanted.saturating_sub(self.credit)) + Duration::from_micros(1))
    }
}

impl Allowance {
    /// What a client may send.
    pub(crate) const fn of_client(limits: &Limits) -> Self {
        Self { per_second: limits.messages_per_second, burst: limits.message_burst }
    }

    /// What a producer may send.
    pub(crate) const fn of_producer(limits: &Limits) -> Self {
        Self { per_second: limits.producer_messages_per_second, burst: limits.producer_message_burst }
    }

    /// What a client allows itself: half of what the server said that it takes, since answers and acks count too.
    pub(crate) const fn of_welcome(limits: &WelcomeLimits) -> Self {
        let (per_second, burst) = (limits.messages_per_second / 2, limits.message_burst / 2);
        Self { per_second: if per_second == 0 { 1 } else { per_second }, burst: if burst == 0 { 1 } else { burst } }
    }

    /// How fast one address may open sockets.
    pub(crate) const fn of_address(limits: &Limits) -> Self {
        Self { per_second: limits.handshakes_per_second, burst: limits.handshake_burst }
    }

    fn cost(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }

    fn full(self) -> u64 {
        self.cost().saturating_mul(u64::from(self.burst.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_passes_and_one_more_does_not_until_time_has_passed() {
        let limits = Limits { messages_per_second: 10, message_burst: 3, ..Limits::default() };
        let allowance = Allowance::of_client(&limits);
        let mut rate = Rate::new(Timestamp::ZERO, allowance);
        assert!((0..3).all(|_| rate.allow(Timestamp::ZERO, allowance)));
        assert!(!rate.allow(Timestamp::ZERO, allowance));
        assert!(!rate.allow(Timestamp::from_micros(99_999), allowance));
        assert!(rate.allow(Timestamp::from_micros(100_000), allowance));
        assert!(!rate.allow(Timestamp::from_micros(100_000), allowance));
    }

    #[test]
    fn a_pause_ends_when_there_is_credit_again() {
        let limits = Limits { producer_messages_per_second: 20_000, producer_message_burst: 500, ..Limits::default() };
        let allowance = Allowance::of_producer(&limits);
        let mut rate = Rate::new(Timestamp::ZERO, allowance);
        let mut now = Timestamp::ZERO;
        let (mut sent, mut pauses) = (0_u32, 0);
        while now < Timestamp::from_micros(1_000_000) {
            assert!(rate.allow(now, allowance));
            sent += 1;
            if let Some(at) = rate.pause(allowance) {
                assert!(at > now);
                (now, pauses) = (at, pauses + 1);
            }
        }
        assert!((20_000..21_000).contains(&sent), "{sent}");
        assert!(pauses <= 101, "{pauses}: it is not woken for every message");
    }

    #[test]
    fn rest_earns_no_more_than_the_burst() {
        let limits = Limits { messages_per_second: 10, message_burst: 3, ..Limits::default() };
        let allowance = Allowance::of_client(&limits);
        let mut rate = Rate::new(Timestamp::ZERO, allowance);
        let later = Timestamp::from_micros(60_000_000);
        assert_eq!((0..10).filter(|_| rate.allow(later, allowance)).count(), 3);
    }
}
