//! How long the token of a live connection holds, and when its client is told that it soon does not.

use crate::limits::Limits;
use crate::time::{Now, Timestamp, UnixTime};

/// What a connection's token leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// The token's `exp`.
    expires: UnixTime,
    /// That and the leeway, on the monotonic clock: it ends then, wherever the calendar goes.
    ends_at: Timestamp,
    /// When the client is told, where it was not yet.
    notice_at: Option<Timestamp>,
}

impl Validity {
    /// Of a token that was verified just now. Its client is told [`Limits::auth_notice`] ahead of its `exp`; where it does not live
    /// twice as long as that, at half of its life.
    pub(super) fn new(now: Now, expires: UnixTime, limits: &Limits) -> Self {
        let life = expires.saturating_since(now.unix);
        let notice = limits.auth_notice.min(life / 2);
        // Of a token that is past its `exp` a part of the leeway is gone.
        let ends_at = now.at + (expires + limits.token_leeway).saturating_since(now.unix);
        Self { expires, ends_at, notice_at: Some(now.at + (life - notice)) }
    }

    /// Another token was verified: the one that expires later counts. A later expiry is told of anew.
    pub(super) fn extend(&mut self, now: Now, expires: UnixTime, limits: &Limits) {
        if expires > self.expires {
            let ends_at = self.ends_at;
            *self = Self::new(now, expires, limits);
            self.ends_at = self.ends_at.max(ends_at);
        }
    }

    pub(super) const fn expires(&self) -> UnixTime {
        self.expires
    }

    pub(super) const fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    pub(super) const fn notice_at(&self) -> Option<Timestamp> {
        self.notice_at
    }

    /// The client is being told.
    pub(super) const fn told(&mut self) {
        self.notice_at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_800_000_000;

    fn at(secs: u64) -> Now {
        Now { at: Timestamp::from_micros(secs * 1_000_000), unix: UnixTime::from_secs(START + secs) }
    }

    fn limits(notice: u64) -> Limits {
        Limits { auth_notice: Duration::from_secs(notice), ..Limits::default() }
    }

    #[test]
    fn the_notice_comes_its_time_ahead_or_at_half_of_a_short_life() {
        for (life, told) in [(3_600, 3_540_000), (120, 60_000), (119, 59_500), (10, 5_000), (1, 500), (0, 0)] {
            let validity = Validity::new(at(7), UnixTime::from_secs(START + 7 + life), &limits(60));
            let expected = at(7).at + Duration::from_millis(told);
            assert_eq!(validity.notice_at(), Some(expected), "of {life} s");
            assert_eq!(validity.ends_at(), at(7 + life + 5).at, "of {life} s");
        }
    }

    #[test]
    fn a_token_that_lives_by_the_leeway_has_what_is_left_of_it() {
        for (past, left) in [(0, 5), (1, 4), (4, 1), (5, 0), (9, 0)] {
            let mut validity = Validity::new(at(100), UnixTime::from_secs(START + 100 - past), &limits(60));
            assert_eq!(validity.ends_at(), at(100 + left).at, "{past} s after its `exp`");
            validity.extend(at(101), UnixTime::from_secs(START + 100), &limits(60));
            assert_eq!(validity.ends_at(), at(105).at, "the later of two");
        }
    }

    properties! {
        /// Whatever tokens come, and whatever the calendar does meanwhile: the expiry never moves backward, and a later one is
        /// told of once, ahead of it.
        #[test]
        fn no_refresh_moves_an_expiry_backward(
            notice in 1_u64..200, first in 0_u64..1_000,
            steps in prop::collection::vec((0_u64..100, 0_u64..1_000, -50_i64..50), 0..20),
        ) {
            let limits = limits(notice);
            let mut validity = Validity::new(at(0), UnixTime::from_secs(START + first), &limits);
            let (mut clock, mut calendar) = (0, START as i64);
            for (wait, life, jump) in steps {
                clock += wait;
                calendar += wait as i64 + jump;
                let now = Now { at: at(clock).at, unix: UnixTime::from_secs(calendar as u64) };
                if validity.notice_at().is_some_and(|due| due <= now.at) {
                    validity.told();
                }
                let before = validity;
                let expires = now.unix + Duration::from_secs(life);
                validity.extend(now, expires, &limits);
                prop_assert!(validity.expires() >= before.expires() && validity.ends_at() >= before.ends_at());
                prop_assert_eq!(validity.expires(), before.expires().max(expires));
                if expires > before.expires() {
                    let notice = validity.notice_at().unwrap();
                    prop_assert!(now.at <= notice && notice <= now.at + Duration::from_secs(life));
                } else {
                    prop_assert_eq!(validity, before, "told once of one expiry");
                }
            }
        }
    }
}
