//! Keys from outside as a verifier, and the loop that keeps them fresh.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::schedule::{Fetch, Health, Schedule, SourceConfig, SourceConfigError};
use super::{FetchError, FetchKeys, Verdict};
use crate::auth::claims::read_header;
use crate::auth::compact::Compact;
use crate::auth::{Algorithm, AuthError, ClaimRules, Grant, KeySet, KeySetError, MAX_KID_BYTES, TokenVerifier};
use crate::drive::Timer;
use crate::id::Entropy;
use crate::sync::{Lock, ReadyMark};
use crate::time::{Clock, Timestamp, UnixTime};

/// Keys that are fetched from outside and change while the server runs, as one [`TokenVerifier`]. Clones are the same source.
///
/// No verification waits for a fetch. Before the first set has come nobody is let in, and every token is
/// [undecided](AuthError::Undecided). Then a token whose key is not in the set is undecided until a fetch has succeeded that
/// began after the key was first asked for, and invalid when that did not bring it. A fetch that fails leaves the keys as they
/// are, see [`SourceConfig::max_age`].
///
/// ```
/// use trunkline_core::auth::source::{KeySource, SourceConfig};
/// use trunkline_core::auth::{AuthError, ClaimRules, TokenVerifier};
/// use trunkline_core::time::UnixTime;
///
/// let (keys, keeper) = KeySource::new(SourceConfig::default(), ClaimRules::default())?;
/// // The runtime drives `keeper.run(…)`, which fetches; until it has, nobody gets in.
/// let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.e30.AAAA";
/// assert_eq!(keys.verify(token, UnixTime::from_secs(1_800_000_000)), Err(AuthError::Undecided));
/// # drop(keeper);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KeySource {
    shared: Arc<Shared>,
}

struct Shared {
    state: Lock<State>,
    /// Set when the next fetch has moved forward.
    rearm: ReadyMark,
    rules: ClaimRules,
    kind: Kind,
}

struct State {
    schedule: Schedule,
    keys: Option<Arc<KeySet>>,
}

/// Whether a source may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Private,
}

/// What happened to a source, for logs and for whoever watches dependencies.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// Other keys than before are in use, or the first ones.
    Loaded(Arc<KeySet>),
    /// After failures a fetch has brought the keys that were in use all along.
    Recovered,
    /// A fetch has failed, otherwise than the one before.
    Failed {
        /// [`Health::Failing`], or [`Health::Down`] when the source is left alone for a while.
        health: Health,
        /// For an operator. It quotes nothing that was fetched.
        problem: String,
    },
    /// The keys were in use for [`SourceConfig::max_age`] after their fetch: nobody is let in before one succeeds.
    TooOld,
}

impl KeySource {
    /// A source of public keys, and its keeper, which the runtime must drive: without it nothing is ever fetched.
    ///
    /// # Errors
    /// When the figures make no sense.
    pub fn new(config: SourceConfig, rules: ClaimRules) -> Result<(Self, Keeper), SourceConfigError> {
        Self::of_kind(Kind::Public, config, rules)
    }

    /// The same for a document that the server alone can read, which may hold secrets too: see [`KeySet::from_secret_jwks`].
    ///
    /// # Errors
    /// When the figures make no sense.
    pub fn with_secrets(config: SourceConfig, rules: ClaimRules) -> Result<(Self, Keeper), SourceConfigError> {
        Self::of_kind(Kind::Private, config, rules)
    }

    fn of_kind(kind: Kind, config: SourceConfig, rules: ClaimRules) -> Result<(Self, Keeper), SourceConfigError> {
        let state = Lock::new(State { schedule: Schedule::new(config)?, keys: None });
        let source = Self { shared: Arc::new(Shared { state, rearm: ReadyMark::default(), rules, kind }) };
        Ok((source.clone(), Keeper { source, last: None, problem: None }))
    }

    /// Asks for a fetch as soon as the source's breaker lets one pass: for operators, not for what peers send.
    pub fn reload(&self) {
        self.shared.state.lock().schedule.handle_order();
        self.wake();
    }

    /// How the source is.
    pub fn health(&self) -> Health {
        self.shared.state.lock().schedule.health()
    }

    /// The keys in use; `None` before the first came, and after they have become too old.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.shared.state.lock().keys.clone()
    }

    fn wake(&self) {
        if let Some(waker) = self.shared.rearm.mark() {
            waker.wake();
        }
    }

    /// A token that no key of `used` can decide about. `None` when the keys were replaced meanwhile.
    fn unknown(&self, token: &str, used: Option<&Arc<KeySet>>) -> Option<Verdict> {
        let Some(asked) = self.asked_key(token) else { return Some(Verdict::Absent) };
        let (verdict, moved) = {
            let mut state = self.shared.state.lock();
            if state.keys.as_ref().map(Arc::as_ptr) != used.map(Arc::as_ptr) {
                return None;
            }
            let before = state.schedule.poll_timeout();
            let verdict = state.schedule.handle_asked(&asked);
            (verdict, state.schedule.poll_timeout() < before)
        };
        if moved {
            self.wake();
        }
        Some(verdict)
    }

    /// What a fetch can decide about: the token's `kid`, or, where it has none, the token itself. `None` where no fetch could.
    fn asked_key(&self, token: &str) -> Option<String> {
        let read = Compact::read(token, self.shared.rules.max_token_bytes).ok()?;
        let header = read_header(&read.header).ok()?;
        let secret = matches!(header.algorithm, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512);
        if secret && self.shared.kind == Kind::Public {
            return None;
        }
        match header.kid {
            // Longer or shorter ones are in no set.
            Some(kid) if kid.is_empty() || kid.len() > MAX_KID_BYTES => None,
            Some(kid) => Some(format!("kid {kid}")),
            None => Some(format!("end {}", token.get(token.len().saturating_sub(MAX_END)..)?)),
        }
    }
}

/// So many bytes of the signature, at its end, tell tokens apart.
const MAX_END: usize = 43;

impl TokenVerifier for KeySource {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        loop {
            let keys = self.keys();
            let refused = match &keys {
                None => AuthError::Invalid("the token is none, or no key here could verify it"),
                Some(keys) => match keys.decide(token, now) {
                    Ok(grant) => return Ok(grant),
                    Err(refused) if !refused.unknown_key => return Err(refused.error),
                    Err(refused) => refused.error,
                },
            };
            match self.unknown(token, keys.as_ref()) {
                Some(Verdict::Undecided) => return Err(AuthError::Undecided),
                Some(Verdict::Absent) => return Err(refused),
                // The new keys may well have it.
                None => {}
            }
        }
    }
}

/// Names the keys, and nothing of what they are made of.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").field("health", &self.health()).field("keys", &self.keys()).finish_non_exhaustive()
    }
}

/// Fetches the keys of one source when they are due.
#[must_use = "without its keeper a source never has a key"]
pub struct Keeper {
    source: KeySource,
    /// The document that the keys in use came from.
    last: Option<Vec<u8>>,
    /// Of the fetches that have failed since the last one that succeeded, the newest.
    problem: Option<(Health, String)>,
}

impl Keeper {
    /// Runs on a runtime's timer, for ever; drop the future to stop. `timer` counts on `clock`. Each change is told once, and
    /// whoever listens must not block.
    pub async fn run<F: FetchKeys, K: Timer>(
        mut self,
        mut fetch: F,
        clock: impl Clock,
        entropy: impl Entropy,
        timer: K,
        mut tell: impl FnMut(SourceEvent),
    ) {
        let mut timer = pin!(timer);
        loop {
            let due = poll_fn(|cx| self.poll_due(cx, &clock, timer.as_mut(), &mut tell)).await;
            let document = within(due.deadline, timer.as_mut(), fetch.fetch()).await;
            let random = entropy.id() as u64;
            let event = match document.and_then(|document| self.read(document)) {
                Ok(changed) => self.loaded(due, changed, random),
                Err(error) => self.failed(clock.now().at, due, error, random),
            };
            if let Some(event) = event {
                tell(event);
            }
        }
    }

    fn poll_due<K: Timer>(
        &mut self,
        cx: &mut Context<'_>,
        clock: &impl Clock,
        mut timer: Pin<&mut K>,
        tell: &mut impl FnMut(SourceEvent),
    ) -> Poll<Fetch> {
        let shared = &self.source.shared;
        loop {
            // Registered before the look: a fetch that moves forward afterwards finds the waker.
            while shared.rearm.take(cx.waker()) {}
            let now = clock.now().at;
            let (fetch, too_old, next) = {
                let mut state = shared.state.lock();
                let too_old = if state.schedule.handle_timeout(now) { state.keys.take() } else { None };
                (state.schedule.poll_fetch(now), too_old, state.schedule.poll_timeout())
            };
            if too_old.is_some() {
                self.last = None;
                tell(SourceEvent::TooOld);
            }
            if let Some(fetch) = fetch {
                return Poll::Ready(fetch);
            }
            timer.as_mut().reset(next);
            if timer.as_mut().poll_elapsed(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// The keys of a document, or `None` when it is the one whose keys are in use.
    fn read(&mut self, document: Vec<u8>) -> Result<Option<Arc<KeySet>>, FetchError> {
        if self.last.as_ref() == Some(&document) {
            return Ok(None);
        }
        let shared = &self.source.shared;
        let read: fn(&[u8], ClaimRules) -> Result<KeySet, KeySetError> = match shared.kind {
            Kind::Public => KeySet::from_jwks,
            Kind::Private => KeySet::from_secret_jwks,
        };
        let keys = read(&document, shared.rules.clone()).map_err(|error| FetchError::new(error.to_string()))?;
        self.last = Some(document);
        Ok(Some(Arc::new(keys)))
    }

    fn loaded(&mut self, fetch: Fetch, changed: Option<Arc<KeySet>>, random: u64) -> Option<SourceEvent> {
        let old = {
            let mut state = self.source.shared.state.lock();
            state.schedule.handle_loaded(fetch, random);
            match &changed {
                Some(keys) => state.keys.replace(Arc::clone(keys)),
                None => None,
            }
        };
        // Freed, secrets wiped, outside the lock.
        drop(old);
        let failed = self.problem.take().is_some();
        match changed {
            Some(keys) => Some(SourceEvent::Loaded(keys)),
            None => failed.then_some(SourceEvent::Recovered),
        }
    }

    fn failed(&mut self, now: Timestamp, fetch: Fetch, error: FetchError, random: u64) -> Option<SourceEvent> {
        let health = {
            let mut state = self.source.shared.state.lock();
            state.schedule.handle_failed(now, fetch, random);
            state.schedule.health()
        };
        let problem = error.to_string();
        let news = self.problem.as_ref() != Some(&(health, problem.clone()));
        self.problem = Some((health, problem.clone()));
        news.then_some(SourceEvent::Failed { health, problem })
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The outcome of `future`, which is dropped at `deadline`.
async fn within<K: Timer>(
    deadline: Timestamp,
    mut timer: Pin<&mut K>,
    future: impl Future<Output = Result<Vec<u8>, FetchError>>,
) -> Result<Vec<u8>, FetchError> {
    let mut future = pin!(future);
    timer.as_mut().reset(deadline);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => timer.as_mut().poll_elapsed(cx).map(|()| Err(FetchError::new("took too long"))),
    })
    .await
}
