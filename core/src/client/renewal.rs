//! When a client needs a new token, and how often it asks again while it gets none.

use std::time::Duration;

use crate::id::FrameId;
use crate::protocol::{ClientFrame, Token};
use crate::time::Timestamp;

/// The client asks by its own clock where no notice of the server has come until then.
const LATEST: Duration = Duration::from_secs(45);
/// The longest wait until it asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What would come sooner than this after the last try comes too late to be worth another.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// When to ask for a new token.
///
/// The first time is when the server says that the token expires, or, should that be missed, 45 s ahead of its end, or when two
/// fifths of a shorter life are left. Each further time comes after half of what is left then, 30 s at most, so that no try comes
/// after the end; every token that lives for a second has three. A new token makes all of that as if nothing had failed.
///
/// ```
/// use std::time::Duration;
/// use trunkline_core::client::Renewal;
/// use trunkline_core::time::Timestamp;
///
/// let second = |n| Timestamp::ZERO + Duration::from_secs(n);
/// let mut renewal = Renewal::default();
/// renewal.installed(second(0), Duration::from_secs(600));
/// assert_eq!(renewal.due(), Some(second(555)));
/// // The server's notice comes first.
/// renewal.announced(second(540), Duration::from_secs(60));
/// assert_eq!(renewal.ask(second(540)), Some(Duration::from_secs(60)));
/// assert_eq!(renewal.due(), Some(second(570)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    expires: Timestamp,
    ask_at: Option<Timestamp>,
    asked: bool,
}

impl Renewal {
    /// The server has taken a token, which lives for `life` from now on.
    pub fn installed(&mut self, now: Timestamp, life: Duration) {
        let ahead = (life / 5).saturating_mul(2).min(LATEST);
        *self = Self { expires: now + life, ask_at: Some(now + (life - ahead)), asked: false };
    }

    /// The server has answered a refresh: the token in use lives for `life` from now on. Where that is no longer than before, as
    /// with the same token once more, it is not what was asked for, and the next try stays where it is.
    pub fn refreshed(&mut self, now: Timestamp, life: Duration) {
        // As much may lie in the way of two answers.
        if life >= SHORTEST_WAIT && now + life > self.expires + SHORTEST_WAIT {
            self.installed(now, life);
        }
    }

    /// The server says that the token lives for `left` only. Where that was asked about already, it changes nothing.
    pub fn announced(&mut self, now: Timestamp, left: Duration) {
        if !self.asked {
            *self = Self { expires: now + left, ask_at: Some(now), asked: false };
        }
    }

    /// When to ask; never where the token lives for ever, or is as good as over.
    pub const fn due(&self) -> Option<Timestamp> {
        self.ask_at
    }

    /// Asks, where that is due: answers how long the token lives yet.
    pub fn ask(&mut self, now: Timestamp) -> Option<Duration> {
        self.ask_at.take_if(|at| *at <= now)?;
        let left = self.expires.saturating_since(now);
        let wait = (left / 2).min(LONGEST_WAIT);
        self.ask_at = (wait >= SHORTEST_WAIT).then(|| now + wait);
        self.asked = true;
        Some(left)
    }
}

/// One `refresh` at a time.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    count: u64,
    under_way: Option<FrameId>,
    /// The newest token that waits for its turn.
    next: Option<Token>,
}

impl Refreshes {
    /// The frame for a new token, unless one is under way: then it waits for that one's answer.
    pub(super) fn refresh(&mut self, token: Token) -> Option<ClientFrame> {
        if self.under_way.is_some() {
            self.next = Some(token);
            return None;
        }
        self.count += 1;
        // Short and printable: it always is an id.
        let id = FrameId::new(&format!("refresh-{}", self.count)).ok()?;
        self.under_way = Some(id.clone());
        Some(ClientFrame::Refresh { id, token })
    }

    /// An answer has come; where it is to the one under way, the next may go.
    pub(super) fn answered(&mut self, id: &FrameId) -> Option<ClientFrame> {
        self.under_way.take_if(|under_way| under_way == id)?;
        let next = self.next.take()?;
        self.refresh(next)
    }

    /// The one under way is not waited for any more: the next may go.
    pub(super) fn give_up(&mut self) -> Option<ClientFrame> {
        self.under_way = None;
        let next = self.next.take()?;
        self.refresh(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    properties! {
        cases = 512;

        /// Of any token that lives for 1 s to 24 h, announced or not: it is asked about in the second half of its life, each wait
        /// is shorter than what is left then, three tries at least come before its end, and they are few.
        #[test]
        fn every_retry_comes_while_the_token_lives(
            life in 1_000_000_u64..86_400_000_000, begins in 0_u64..1_000_000_000_000, notice in prop::option::of(0.0_f64..0.5),
            late in 0_u64..2_000,
        ) {
            let (mut renewal, end) = (Renewal::default(), begins + life);
            renewal.installed(at(begins), Duration::from_micros(life));
            if let Some(left) = notice {
                let left = (life as f64 * left) as u64;
                if renewal.due() > Some(at(end - left)) {
                    renewal.announced(at(end - left), Duration::from_micros(left));
                }
            }
            let mut asked = Vec::new();
            while let Some(due) = renewal.due() {
                prop_assert_eq!(renewal.ask(at(due.as_micros() - 1)), None);
                let now = due.as_micros() + late;
                let left = renewal.ask(at(now)).expect("it is due");
                prop_assert_eq!(left, Duration::from_micros(end.saturating_sub(now)));
                if let Some(next) = renewal.due() {
                    prop_assert!(next.saturating_since(at(now)) < left, "a retry after the end");
                }
                asked.push(now);
            }
            prop_assert!(asked[0] >= begins + life / 2 && asked.iter().all(|now| *now < end));
            prop_assert!(asked.len() >= 3, "{:?}", asked);
            let ahead = end - asked[0];
            prop_assert!(asked.len() as u64 <= 12 + ahead / 30_000_000, "{} of {}", asked.len(), ahead);
        }

        /// However many tries came to nothing: after a success all is as if none had.
        #[test]
        fn a_success_leaves_no_trace_of_the_failures_before_it(
            lives in prop::collection::vec((0_u64..86_400_000_000, 0_usize..40), 1..6),
        ) {
            let (mut tried, mut now) = (Renewal::default(), 0);
            for (life, failures) in lives {
                tried.installed(at(now), Duration::from_micros(life));
                let mut fresh = Renewal::default();
                fresh.installed(at(now), Duration::from_micros(life));
                prop_assert_eq!(tried, fresh);
                for _ in 0..failures {
                    let Some(due) = tried.due() else { break };
                    now = due.as_micros();
                    tried.ask(due);
                    tried.announced(due, Duration::from_micros(1));
                }
            }
        }
    }

    #[test]
    fn a_life_without_end_or_without_time_is_no_trouble() {
        let mut renewal = Renewal::default();
        assert_eq!((renewal.due(), renewal.ask(Timestamp::MAX)), (None, None));
        renewal.installed(at(5), Duration::MAX);
        assert_eq!(renewal.ask(at(u64::MAX - 1)), None);
        renewal.installed(at(5), Duration::ZERO);
        assert_eq!(renewal.ask(at(5)), Some(Duration::ZERO), "the leeway may be time enough");
        assert_eq!(renewal.due(), None);
    }

    #[test]
    fn one_refresh_is_under_way_and_the_newest_token_is_the_next() {
        let mut refreshes = Refreshes::default();
        let give = |refreshes: &mut Refreshes, text: &str| refreshes.refresh(Token::new(text));
        let Some(ClientFrame::Refresh { id, token }) = give(&mut refreshes, "one") else { panic!("none") };
        assert_eq!(token.as_str(), "one");
        assert!(give(&mut refreshes, "two").is_none() && give(&mut refreshes, "three").is_none());
        assert!(refreshes.answered(&FrameId::new("another").unwrap()).is_none());
        let Some(ClientFrame::Refresh { id: second, token }) = refreshes.answered(&id) else { panic!("none") };
        assert_eq!(token.as_str(), "three");
        assert_ne!(id, second);
        assert!(refreshes.answered(&id).is_none(), "late");
        refreshes.give_up();
        assert!(give(&mut refreshes, "four").is_some());
    }

    #[test]
    fn no_older_token_follows_a_newer_one_that_came_after_a_try_was_given_up() {
        let mut refreshes = Refreshes::default();
        let mut sent = Vec::new();
        let mut note = |frame: Option<ClientFrame>| {
            let Some(ClientFrame::Refresh { id, token }) = frame else { return None };
            sent.push(token.as_str().to_owned());
            Some(id)
        };
        let first = note(refreshes.refresh(Token::new("one"))).unwrap();
        assert!(note(refreshes.refresh(Token::new("two"))).is_none());
        let second = note(refreshes.give_up()).expect("the one that waits has its turn");
        assert!(note(refreshes.answered(&first)).is_none());
        assert!(note(refreshes.refresh(Token::new("three"))).is_none());
        let third = note(refreshes.answered(&second)).unwrap();
        assert!(note(refreshes.answered(&third)).is_none());
        assert_eq!(sent, ["one", "two", "three"]);
    }
}
