//! When a dependency that fails is left alone: the textbook circuit breaker.

use std::time::Duration;

use crate::time::Timestamp;

/// The figures of a [`Breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerConfig {
    /// So many failures in a row open it; one at least. 5.
    pub failures: u32,
    /// For how long it then lets nothing pass. 15 s.
    pub open: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(15) }
    }
}

/// Where a [`Breaker`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Attempts pass.
    Closed {
        /// How many in a row have failed.
        failures: u32,
    },
    /// Nothing passes before this time.
    Open {
        /// When one attempt may pass.
        until: Timestamp,
    },
    /// One attempt has passed after the time was over, and nothing passes beside it.
    HalfOpen,
}

/// A circuit breaker before one dependency. It is moved by the outcomes of the attempts that it let pass, and by nothing else.
///
/// | in | attempt asked for | success | failure |
/// |---|---|---|---|
/// | closed | passes | closed, none counted | counted; open when that are enough in a row |
/// | open | refused before its time, then passes as the probe: half-open | - | - |
/// | half-open | refused | closed, none counted | open again, for the whole time |
///
/// Its owner makes one attempt at a time, and tells the outcome of each that passed: an outcome while the breaker is open is
/// one of no attempt, and ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Breaker {
    config: BreakerConfig,
    state: BreakerState,
}

impl Breaker {
    /// Closed, and nothing has failed.
    pub const fn new(config: BreakerConfig) -> Self {
        Self { config, state: BreakerState::Closed { failures: 0 } }
    }

    /// Asks for an attempt; `true` lets it pass.
    #[must_use = "an attempt that passed has an outcome"]
    pub fn admit(&mut self, now: Timestamp) -> bool {
        match self.state {
            BreakerState::Closed { .. } => true,
            BreakerState::Open { until } if now >= until => {
                self.state = BreakerState::HalfOpen;
                true
            }
            BreakerState::Open { .. } | BreakerState::HalfOpen => false,
        }
    }

    /// The attempt succeeded.
    pub const fn succeeded(&mut self) {
        match self.state {
            BreakerState::Closed { .. } | BreakerState::HalfOpen => self.state = BreakerState::Closed { failures: 0 },
            BreakerState::Open { .. } => {}
        }
    }

    /// The attempt failed.
    pub fn failed(&mut self, now: Timestamp) {
        self.state = match self.state {
            BreakerState::Closed { failures } if failures.saturating_add(1) < self.config.failures => {
                BreakerState::Closed { failures: failures + 1 }
            }
            BreakerState::Closed { .. } | BreakerState::HalfOpen => {
                BreakerState::Open { until: now + self.config.open }
            }
            BreakerState::Open { .. } => self.state,
        };
    }

    /// The earliest time at which an attempt passes; `None` while the probe is under way.
    pub const fn passes_at(&self) -> Option<Timestamp> {
        match self.state {
            BreakerState::Closed { .. } => Some(Timestamp::ZERO),
            BreakerState::Open { until } => Some(until),
            BreakerState::HalfOpen => None,
        }
    }

    /// Where it stands.
    pub const fn state(&self) -> BreakerState {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig { failures: 3, open: Duration::from_micros(2) };

    const fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    const fn closed(failures: u32) -> BreakerState {
        BreakerState::Closed { failures }
    }

    const fn open(until: u64) -> BreakerState {
        BreakerState::Open { until: at(until) }
    }

    #[derive(Clone, Copy, Debug)]
    enum Input {
        /// Answered by whether it passes.
        Attempt(bool),
        Success,
        Failure,
    }

    #[test]
    fn every_input_in_every_state_leads_where_the_table_says() {
        use Input::{Attempt, Failure, Success};
        const HALF: BreakerState = BreakerState::HalfOpen;
        // At time 5, with three failures to open and an open time of 2.
        let table = [
            (closed(0), Attempt(true), closed(0)),
            (closed(2), Attempt(true), closed(2)),
            (closed(0), Success, closed(0)),
            (closed(2), Success, closed(0)),
            (closed(0), Failure, closed(1)),
            (closed(1), Failure, closed(2)),
            (closed(2), Failure, open(7)),
            (open(6), Attempt(false), open(6)),
            (open(5), Attempt(true), HALF),
            (open(4), Attempt(true), HALF),
            (open(6), Success, open(6)),
            (open(6), Failure, open(6)),
            (HALF, Attempt(false), HALF),
            (HALF, Success, closed(0)),
            (HALF, Failure, open(7)),
        ];
        for (from, input, to) in table {
            let mut breaker = Breaker { config: CONFIG, state: from };
            match input {
                Attempt(passes) => assert_eq!(breaker.admit(at(5)), passes, "{from:?}"),
                Success => breaker.succeeded(),
                Failure => breaker.failed(at(5)),
            }
            assert_eq!(breaker.state(), to, "{input:?} in {from:?}");
        }
    }

    /// What the outcomes so far say about the next attempt, without a state: an attempt passes unless the last three in a row
    /// failed and the time since the last of them is not over.
    fn passes_by_history(history: &[(u64, bool)], now: u64) -> bool {
        let failed = history.iter().rev().take_while(|(_, succeeded)| !succeeded).count();
        failed < 3 || history.last().is_some_and(|(when, _)| now >= when + 2)
    }

    /// Every history of 11 steps, each of which is an attempt that succeeds, one that fails, or time that passes.
    #[test]
    fn in_every_history_an_attempt_passes_exactly_when_the_outcomes_before_it_say_so() {
        let (mut passed, mut refused) = (0, 0);
        for word in 0..3_u32.pow(11) {
            let (mut breaker, mut history, mut now, mut rest) = (Breaker::new(CONFIG), Vec::new(), 0, word);
            for _ in 0..11 {
                let step = rest % 3;
                rest /= 3;
                if step == 2 {
                    now += 1;
                    continue;
                }
                let passes = passes_by_history(&history, now);
                assert_eq!(breaker.passes_at().is_some_and(|from| from <= at(now)), passes, "{history:?} at {now}");
                assert_eq!(breaker.admit(at(now)), passes, "{history:?} at {now}");
                if !passes {
                    refused += 1;
                    continue;
                }
                passed += 1;
                // Beside the probe nothing passes.
                let probes = breaker.state() == BreakerState::HalfOpen;
                assert_eq!(breaker.clone().admit(at(now + 100)), !probes);
                assert_eq!(breaker.passes_at().is_none(), probes);
                if step == 0 {
                    breaker.succeeded()
                } else {
                    breaker.failed(at(now))
                }
                history.push((now, step == 0));
            }
        }
        assert!(passed > 100_000 && refused > 10_000, "{passed} passed, {refused} refused");
    }

    #[test]
    fn nothing_overflows() {
        let mut breaker = Breaker::new(BreakerConfig { failures: 0, open: Duration::MAX });
        assert!(breaker.admit(Timestamp::MAX));
        breaker.failed(Timestamp::MAX);
        assert_eq!(breaker.state(), BreakerState::Open { until: Timestamp::MAX });
        let mut patient = Breaker { state: closed(u32::MAX), config: BreakerConfig { failures: u32::MAX, ..CONFIG } };
        patient.failed(at(1));
        assert_eq!(patient.state(), open(3));
    }
}
