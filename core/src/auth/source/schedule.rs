//! When keys are fetched, and what is known about a name that no key has. No clock, no I/O: times and outcomes are inputs.

use std::time::Duration;

use super::breaker::{Breaker, BreakerConfig, BreakerState};
use super::kids::{Kids, Verdict};
use crate::time::Timestamp;

/// The figures of a source of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// From the beginning of one fetch to that of the next while all is well, less up to a tenth, so that many servers do not
    /// come together, but not less than `cooldown`. 5 min.
    pub refresh: Duration,
    /// The least time between the beginnings of two fetches of which the first succeeded, whatever tokens ask for; and how long
    /// a name counts as absent that a fetch did not bring. 30 s.
    pub cooldown: Duration,
    /// How long one fetch may take in all. 10 s.
    pub fetch_deadline: Duration,
    /// The wait after the first failure in a row, which doubles with each further one up to the open time of the breaker. 1 s.
    pub retry: Duration,
    /// When a source that fails is left alone.
    pub breaker: BreakerConfig,
    /// How long keys count after the beginning of the fetch that brought them, while every later one fails. `None`, the default,
    /// is for ever: then a source that is down keeps nobody out, and a key that it has withdrawn meanwhile still counts.
    pub max_age: Option<Duration>,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(300),
            cooldown: Duration::from_secs(30),
            fetch_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(1),
            breaker: BreakerConfig::default(),
            max_age: None,
        }
    }
}

/// Figures that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` {problem}")]
pub struct SourceConfigError {
    /// The field of [`SourceConfig`], or `breaker`.
    pub name: &'static str,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl SourceConfig {
    /// The figures for a file on this machine, which is looked at often because that costs nothing.
    pub const fn of_file() -> Self {
        const OFTEN: Duration = Duration::from_secs(2);
        Self {
            refresh: OFTEN,
            cooldown: OFTEN,
            fetch_deadline: Duration::from_secs(10),
            retry: OFTEN,
            breaker: BreakerConfig { failures: 5, open: OFTEN },
            max_age: None,
        }
    }

    /// From the moment when a source works again to new keys, at most: a fetch that began before runs into its deadline, the
    /// breaker opens once more, and the next fetch takes as long as it may. A key that is new at a source which works all
    /// along is found as soon.
    pub fn recovery(&self) -> Duration {
        let wait = self.breaker.open.max(self.cooldown);
        self.fetch_deadline.saturating_mul(2).saturating_add(wait)
    }

    /// Whether the figures make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), SourceConfigError> {
        let refuse = |name, problem: String| Err(SourceConfigError { name, problem });
        for (name, span) in [
            ("refresh", self.refresh),
            ("cooldown", self.cooldown),
            ("fetch_deadline", self.fetch_deadline),
            ("retry", self.retry),
            ("breaker", self.breaker.open),
        ] {
            if span < MIN_SPAN {
                return refuse(name, format!("must be at least {MIN_SPAN:?}"));
            }
        }
        if self.breaker.failures == 0 {
            return refuse("breaker", "must take one failure at least".into());
        }
        if self.cooldown > self.refresh {
            return refuse("cooldown", format!("must not be above `refresh`, {:?}", self.refresh));
        }
        match self.max_age {
            Some(age) if age < self.refresh.saturating_add(self.recovery()) => {
                let least = self.refresh.saturating_add(self.recovery());
                refuse("max_age", format!("must be at least {least:?}: one refresh, and the recovery from a failure"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a source that works again brings its keys before connections are lost that wait for them: a client is asked for
    /// a new token `warning` before the end of its old one, and the new one may name a key that is not loaded.
    ///
    /// # Errors
    /// When the recovery is not shorter than the warning.
    pub fn check_against(&self, warning: Duration) -> Result<(), SourceConfigError> {
        let recovery = self.recovery();
        if recovery < warning {
            return Ok(());
        }
        let name = if self.cooldown > self.breaker.open { "cooldown" } else { "breaker" };
        let problem = format!(
            "lets a source take {recovery:?} to recover, and clients are asked for a new token {warning:?} before the end \
             of the old one: make it shorter, or the warning longer"
        );
        Err(SourceConfigError { name, problem })
    }
}

/// Anything shorter is a loop.
const MIN_SPAN: Duration = Duration::from_millis(10);

/// How a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nothing was fetched yet.
    Starting,
    /// The last fetch succeeded.
    Up,
    /// The last fetch failed; another follows soon.
    Failing,
    /// So many failed in a row that the source is left alone for a while.
    Down,
}

/// The machine of one source.
///
/// It says when to fetch, is told what came of it, and answers about names of keys that the loaded set does not have. One
/// fetch runs at a time. What tokens ask for can bring the next one forward, down to the cooldown, and moves nothing else:
/// not the back-off after a failure, and not the breaker.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: SourceConfig,
    breaker: Breaker,
    kids: Kids,
    /// The number of the fetch that begins next.
    number: u64,
    /// When the last one began.
    began: Option<Timestamp>,
    under_way: bool,
    /// When the next one begins if nobody asks for it earlier.
    next: Timestamp,
    failures: u32,
    /// When the keys that are in use were asked for.
    loaded: Option<Timestamp>,
    health: Health,
}

/// A fetch that is to be made; its outcome goes to [`Schedule::handle_loaded`] or [`Schedule::handle_failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing else is fetched before its outcome is told"]
pub struct Fetch {
    number: u64,
    /// When it counts as failed.
    pub deadline: Timestamp,
}

impl Schedule {
    /// Nothing is loaded, and the first fetch is due.
    ///
    /// # Errors
    /// When the figures make no sense.
    pub fn new(config: SourceConfig) -> Result<Self, SourceConfigError> {
        config.check()?;
        Ok(Self {
            config,
            breaker: Breaker::new(config.breaker),
            kids: Kids::default(),
            number: 0,
            began: None,
            under_way: false,
            next: Timestamp::ZERO,
            failures: 0,
            loaded: None,
            health: Health::Starting,
        })
    }

    /// A token names a key that the loaded set does not have.
    pub fn handle_asked(&mut self, kid: &str) -> Verdict {
        self.kids.ask(kid, self.number)
    }

    /// An operator wants a fetch at once. The breaker still has its say.
    pub const fn handle_order(&mut self) {
        self.next = Timestamp::ZERO;
    }

    /// The fetch to begin now, if one is due.
    pub fn poll_fetch(&mut self, now: Timestamp) -> Option<Fetch> {
        if self.under_way || now < self.due() || !self.breaker.admit(now) {
            return None;
        }
        self.under_way = true;
        self.began = Some(now);
        // Until its outcome is known: an order that comes meanwhile asks for one more.
        self.next = Timestamp::MAX;
        let number = self.number;
        self.number += 1;
        Some(Fetch { number, deadline: now + self.config.fetch_deadline })
    }

    /// The fetch brought a set of keys, which is in use from now on. `random` is any number, another one each time.
    pub fn handle_loaded(&mut self, fetch: Fetch, random: u64) {
        if !self.ends(fetch) {
            return;
        }
        self.breaker.succeeded();
        self.failures = 0;
        self.kids.decide(fetch.number);
        self.loaded = self.began;
        self.health = Health::Up;
        let refresh = self.config.refresh;
        let wait = refresh.saturating_sub(up_to(refresh / 10, random)).max(self.config.cooldown);
        self.next = self.next.min(self.began.unwrap_or_default() + wait);
    }

    /// The fetch failed, and the keys that were loaded before stay. `random` is any number, another one each time.
    pub fn handle_failed(&mut self, now: Timestamp, fetch: Fetch, random: u64) {
        if !self.ends(fetch) {
            return;
        }
        self.breaker.failed(now);
        self.health = match self.breaker.state() {
            BreakerState::Open { .. } => Health::Down,
            BreakerState::Closed { .. } | BreakerState::HalfOpen => Health::Failing,
        };
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = self.config.retry.saturating_mul(factor).min(self.config.breaker.open);
        self.next = self.next.min(now + (wait / 2) + up_to(wait / 2, random));
    }

    /// Does what is due beside fetches. Answers whether the loaded keys have become too old to count.
    #[must_use = "keys that are too old let nobody in"]
    pub fn handle_timeout(&mut self, now: Timestamp) -> bool {
        if self.absent_until().is_some_and(|until| now >= until) {
            self.kids.forget_absent();
        }
        let too_old = self.too_old_at().is_some_and(|at| now >= at);
        if too_old {
            self.loaded = None;
        }
        too_old
    }

    /// When to come again: for a fetch, or for [`Schedule::handle_timeout`].
    pub fn poll_timeout(&self) -> Timestamp {
        let fetch = if self.under_way { Timestamp::MAX } else { self.due() };
        let rest = [self.absent_until(), self.too_old_at()];
        rest.into_iter().flatten().fold(fetch, Timestamp::min)
    }

    /// How the source is.
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Where the source's breaker stands.
    pub const fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    fn due(&self) -> Timestamp {
        let by_plan =
            if self.failures == 0 && self.kids.is_waiting() { self.next.min(self.cooled()) } else { self.next };
        by_plan.max(self.breaker.passes_at().unwrap_or(Timestamp::MAX))
    }

    /// When tokens may have another fetch.
    fn cooled(&self) -> Timestamp {
        self.began.map_or(Timestamp::ZERO, |began| began + self.config.cooldown)
    }

    fn absent_until(&self) -> Option<Timestamp> {
        self.kids.has_absent().then(|| self.loaded.unwrap_or_default() + self.config.cooldown)
    }

    fn too_old_at(&self) -> Option<Timestamp> {
        Some(self.loaded? + self.config.max_age?)
    }

    /// Whether this is the outcome that is waited for. One of a fetch that has failed by its deadline is not.
    fn ends(&mut self, fetch: Fetch) -> bool {
        let ends = self.under_way && fetch.number + 1 == self.number;
        self.under_way &= !ends;
        ends
    }

    #[cfg(test)]
    pub(super) fn kids(&self) -> (usize, usize) {
        self.kids.sizes()
    }
}

/// Anything from zero to `most`, both included, in whole microseconds.
fn up_to(most: Duration, random: u64) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random % most.saturating_add(1).max(1))
}
