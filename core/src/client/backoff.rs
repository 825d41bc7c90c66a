//! When to connect again: full jitter below a ceiling that doubles, and that falls back only after a stable session.

use std::time::Duration;

use crate::error::NextAction;
use crate::time::Timestamp;

/// The figures of a [`Backoff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The ceiling of the first wait. 500 ms.
    pub base: Duration,
    /// No ceiling is higher. 30 s.
    pub cap: Duration,
    /// How long a session must last after its welcome for the failures before it to be forgotten. 10 s.
    pub stable: Duration,
    /// The longest wait that a server may ask for. 120 s.
    pub max_asked: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            stable: Duration::from_secs(10),
            max_asked: Duration::from_secs(120),
        }
    }
}

/// "Later" waits as after this many failures.
const LATER: u32 = 5;

/// The waits of one client between its sockets.
///
/// A connect, a welcome or a first event resets nothing: a server that lets clients in and loses them again would
/// otherwise meet all of them at the shortest wait. Clients that lost the same server do not come back together, since
/// a wait may be anything from zero to its ceiling.
///
/// ```
/// use std::time::Duration;
/// use trunkline_core::client::{Backoff, BackoffConfig};
/// use trunkline_core::error::NextAction;
/// use trunkline_core::time::Timestamp;
///
/// let mut backoff = Backoff::new(BackoffConfig::default());
/// let (now, random) = (Timestamp::ZERO, 123_456_789);
/// let wait = backoff.lost(now, NextAction::Retry, random).unwrap();
/// assert!(wait <= Duration::from_millis(500));
/// assert_eq!(backoff.lost(now, NextAction::Stop, random), None);
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    failures: u32,
    welcomed: Option<Timestamp>,
    asked: Duration,
}

impl Backoff {
    /// No failure yet.
    pub const fn new(config: BackoffConfig) -> Self {
        Self { config, failures: 0, welcomed: None, asked: Duration::ZERO }
    }

    /// The server let the client in: from here on the session counts as holding.
    pub const fn welcomed(&mut self, now: Timestamp) {
        self.welcomed = Some(now);
        self.asked = Duration::ZERO;
    }

    /// The server names the least time until the next try: `going_away.reconnect_after`, or an HTTP `Retry-After`.
    pub fn asked(&mut self, wait: Duration) {
        self.asked = wait.min(self.config.max_asked);
    }

    /// The socket has ended, or there never was one. Answers how long to wait before the next; `None` where `action` is
    /// to connect no more. `random` is any number, another one each time.
    pub fn lost(&mut self, now: Timestamp, action: NextAction, random: u64) -> Option<Duration> {
        let held = self.welcomed.take().is_some_and(|since| now.saturating_since(since) >= self.config.stable);
        if held {
            self.failures = 0;
        }
        let asked = std::mem::take(&mut self.asked);
        let steps = match action {
            NextAction::Nothing | NextAction::Stop => return None,
            NextAction::Retry | NextAction::NewToken | NextAction::RetryAfresh => self.failures,
            NextAction::RetryLater => self.failures.max(LATER),
        };
        self.failures = self.failures.saturating_add(1);
        Some(asked.saturating_add(jitter(self.ceiling(steps), random)))
    }

    /// Sockets in a row that were lost before they were stable, or that never came to be.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn ceiling(&self, steps: u32) -> Duration {
        let factor = 1_u32.checked_shl(steps).unwrap_or(u32::MAX);
        self.config.base.saturating_mul(factor).min(self.config.cap)
    }
}

/// Anything from zero to `ceiling`, both included, in whole microseconds.
fn jitter(ceiling: Duration, random: u64) -> Duration {
    let ceiling = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random % ceiling.saturating_add(1).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Pass(u64),
        Welcome,
        Ask(u64),
        Lose(NextAction),
    }

    const ACTIONS: [NextAction; 6] = [
        NextAction::Nothing,
        NextAction::Retry,
        NextAction::RetryLater,
        NextAction::NewToken,
        NextAction::RetryAfresh,
        NextAction::Stop,
    ];

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0_u64..20_000).prop_map(Step::Pass),
            2 => Just(Step::Welcome),
            1 => (0_u64..200_000).prop_map(Step::Ask),
            4 => (0..ACTIONS.len()).prop_map(|at| Step::Lose(ACTIONS[at])),
        ]
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1_000)
    }

    /// How many sockets in a row came to nothing before the step at `end`, told from the history alone.
    fn failures(history: &[Step], end: usize) -> u32 {
        let (mut count, mut session, mut clock) = (0_u32, None, 0);
        for step in &history[..end] {
            match *step {
                Step::Pass(ms) => clock += ms,
                Step::Welcome => session = Some(clock),
                Step::Ask(_) => {}
                Step::Lose(action) => {
                    let held = session.take().is_some_and(|since| clock - since >= 10_000);
                    let goes_on = !matches!(action, NextAction::Nothing | NextAction::Stop);
                    count = if held { 0 } else { count } + u32::from(goes_on);
                }
            }
        }
        let held = session.is_some_and(|since| clock - since >= 10_000);
        if held { 0 } else { count }
    }

    properties! {
        cases = 512;

        /// The ceiling of each wait is that of the sockets which came to nothing since the last stable session, and
        /// every wait from zero to it may come; what the server asked comes on top, once.
        #[test]
        fn the_back_off_falls_back_only_after_a_stable_session(history in prop::collection::vec(step(), 1..60)) {
            let (mut backoff, mut clock, mut asked) = (Backoff::new(BackoffConfig::default()), 0, 0);
            for (index, step) in history.iter().enumerate() {
                match *step {
                    Step::Pass(ms) => clock += ms,
                    Step::Welcome => {
                        backoff.welcomed(at(clock));
                        asked = 0;
                    }
                    Step::Ask(ms) => {
                        backoff.asked(Duration::from_millis(ms));
                        asked = ms.min(120_000);
                    }
                    Step::Lose(action) => {
                        let before = failures(&history, index);
                        let steps = if action == NextAction::RetryLater { before.max(5) } else { before };
                        let ceiling = (500 * 2_u64.pow(steps.min(10))).min(30_000);
                        let least = backoff.clone().lost(at(clock), action, 0);
                        let most = backoff.clone().lost(at(clock), action, ceiling * 1_000);
                        let over = backoff.lost(at(clock), action, ceiling * 1_000 + 1);
                        if matches!(action, NextAction::Nothing | NextAction::Stop) {
                            prop_assert_eq!((least, most, over), (None, None, None));
                        } else {
                            let ms = |ms| Some(Duration::from_millis(ms));
                            prop_assert_eq!((least, most, over), (ms(asked), ms(asked + ceiling), ms(asked)));
                        }
                        asked = 0;
                        prop_assert_eq!(backoff.failures(), failures(&history, index + 1));
                    }
                }
            }
        }
    }

    #[test]
    fn a_session_is_stable_at_its_time_and_not_before() {
        for (held, expected) in [(9_999, 4), (10_000, 1)] {
            let mut backoff = Backoff::new(BackoffConfig::default());
            for _ in 0..3 {
                backoff.lost(at(0), NextAction::Retry, 0);
            }
            backoff.welcomed(at(5));
            backoff.lost(at(5 + held), NextAction::Retry, 0);
            assert_eq!(backoff.failures(), expected, "after {held} ms");
        }
    }

    #[test]
    fn nothing_overflows() {
        let huge =
            BackoffConfig { base: Duration::MAX, cap: Duration::MAX, stable: Duration::MAX, max_asked: Duration::MAX };
        let mut backoff = Backoff::new(huge);
        for _ in 0..100 {
            backoff.asked(Duration::MAX);
            backoff.welcomed(Timestamp::MAX);
            assert!(backoff.lost(Timestamp::ZERO, NextAction::Retry, u64::MAX).is_some());
        }
        let none = BackoffConfig { base: Duration::ZERO, ..BackoffConfig::default() };
        assert_eq!(Backoff::new(none).lost(Timestamp::ZERO, NextAction::Retry, 7), Some(Duration::ZERO));
    }
}
