//! What integrators hold: the shards behind locks, cheap to clone, usable from any thread.
//!
//! A user lives on one shard, chosen by a fixed hash, and only one shard's lock is held at a time. Under it nothing is
//! called back, verified or woken: effects are put into mailboxes, wakers are collected and fired after it is released.
//!
//! ```
//! use std::sync::Arc;
//! use trunkline_core::auth::{ClaimRules, Hs256};
//! use trunkline_core::hub::{Hub, HubConfig, RunOptions};
//! use trunkline_core::id::{Entropy, ThreadId, UserId};
//! use trunkline_core::time::{Clock, Now};
//! # struct Fixed;
//! # impl Clock for Fixed { fn now(&self) -> Now { Now::default() } }
//! # impl Entropy for Fixed { fn fill(&self, out: &mut [u8]) { out.fill(7) } }
//!
//! // A runtime crate brings the clock and the entropy of the system.
//! let verifier = Hs256::new(b"a secret of at least thirty-two bytes", ClaimRules::default())?;
//! let (hub, housekeeper) = Hub::new(HubConfig::default(), Arc::new(verifier), Arc::new(Fixed), Arc::new(Fixed))?;
//!
//! let ann = UserId::new(None, "ann")?;
//! let run = hub.start_run(&ann, ThreadId::new("t1")?, RunOptions::named("assistant"))?;
//! run.thinking("Two and two.")?;
//! let call = run.tool("calculator", &"2+2")?;
//! call.completed(&4)?;
//! run.delta("It is 4.")?;
//! run.completed(Some("It is 4.".into()))?;
//! # drop(housekeeper);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admission;
mod approval;
#[cfg(test)]
mod fingerprint;
mod health;
mod housekeeper;
mod levels;
mod operating;
mod producers;
pub(crate) mod publisher;
mod publishing;
mod registry;
mod request_names;
mod requests;
mod run;
mod session;
mod survey;
#[cfg(test)]
mod tests;
mod tickets;
mod trace;

use std::sync::Arc as Shared;
use std::task::{Context, Poll};

use crate::admission::{Addresses, TrustedProxies};
use crate::auth::{Access, TicketBounds, Tickets, TokenVerifier};
use crate::codec::deflate::Deflate;
use crate::connection::Settings;
use crate::error::CloseReason;
use crate::id::{Entropy, RunId, ThreadId, TopicId, UserId};
use crate::level::Levels;
use crate::limits::{Limits, LimitsError};
use crate::manager::{Ask, Control, Counts, Manager, Output, Pace, RunStart};
use crate::stream::RunError;
use crate::sync::{Arc, Budget, Gate, Lock, Mailbox, Moment, PushError, ReadyMark, Wakers, broken};
use crate::time::{Clock, Now, Timestamp, UnixTime};

pub use crate::manager::{Decision, DeviceStatus, OnDisconnect, OpenRunStatus, UserStatus};
pub use crate::protocol::OrderPolicy;
pub use admission::Rejected;
pub use approval::Approval;
pub use health::{Check, HEALTH_MEDIA_TYPE, Health, HealthStatus};
pub use housekeeper::Housekeeper;
use publishing::json;
use registry::Registry;
use request_names::RequestNames;
pub use requests::{Command, Request, Requests, UserMessage};
pub use run::{DEFAULT_PART, Run, ToolCall};
pub use session::Session;
use survey::{Surveys, Tallies};
pub use tickets::{IssuedTicket, TicketError};

/// Where effects for one connection or one run go.
pub(crate) type Mail = Arc<Mailbox<Control, CloseReason>>;

/// The one manager of connections. Clones are the same hub.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Shared<Settings>,
    verifier: Shared<dyn TokenVerifier>,
    clock: Shared<dyn Clock>,
    entropy: Shared<dyn Entropy>,
    shards: Box<[Lock<Manager<Mail>>]>,
    /// Whoever is attached is inside.
    gate: Gate,
    connections: Budget,
    unauthenticated: Budget,
    /// Sockets by the addresses of their clients.
    addresses: Arc<Lock<Addresses>>,
    /// Bytes of messages that are half received.
    inbound: Budget,
    /// Bytes of the snapshots that are being given.
    snapshots: Budget,
    /// Streams of connections that lag.
    lagging: Budget,
    /// What happens outside of the shards.
    tallies: Tallies,
    open_metrics: bool,
    /// When the hub was made.
    started: UnixTime,
    surveys: Lock<Surveys>,
    requests: Arc<Mailbox<Request, ()>>,
    producers: Lock<Registry<Mail>>,
    tickets: Lock<Tickets>,
    request_names: RequestNames,
    requests_taken: Lock<bool>,
    levels: Lock<Levels>,
    /// Set when the level has changed.
    level_changed: ReadyMark,
    /// Set when a shard's earliest deadline has moved earlier than what the housekeeper is armed for, or the levels' at all.
    rearm: ReadyMark,
    /// When the housekeeper comes without being told.
    armed: Moment,
}

/// How a hub is set up.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The bounds.
    pub limits: Limits,
    /// How many shards share the users: about the number of threads that publish. 16.
    pub shards: usize,
    /// The path of the WebSocket endpoint. `/ws`.
    pub endpoint: String,
    /// From where it may be opened. By pages of the server's own origin, and by what is no page.
    pub access: Access,
    /// Whether a client that offers the subprotocol `jwt-auth` and not `trunkline.v1` is served in the legacy profile, which
    /// `core/LEGACY.md` describes. Yes; otherwise it is answered without a subprotocol, and in native frames.
    pub legacy_profile: bool,
    /// The proxies whose word about a client's address is believed. None; where there are some that are not named here, all
    /// their clients have one address.
    pub trusted_proxies: TrustedProxies,
    /// Whether `/metrics` is shown to whoever asks; otherwise it takes a token with the scope `admin` that names no tenant. No.
    pub open_metrics: bool,
}

impl Default for HubConfig {
    fn default() -> Self {
        let (access, trusted_proxies) = (Access::default(), TrustedProxies::default());
        let limits = Limits::default();
        let (legacy_profile, open_metrics) = (true, false);
        Self { limits, shards: 16, endpoint: "/ws".into(), access, legacy_profile, trusted_proxies, open_metrics }
    }
}

/// What a new run is. `Debug` does not show what the agent was asked.
#[derive(Clone)]
pub struct RunOptions {
    /// Who works.
    pub agent_name: String,
    /// The run that starts this one: open, and of the same user. When it ends, this one goes on.
    pub parent: Option<RunId>,
    /// What the agent was asked.
    pub message: Option<String>,
    /// What becomes of events that break its order.
    pub order: OrderPolicy,
    /// What it does when the user's last device leaves.
    pub on_disconnect: OnDisconnect,
}

impl RunOptions {
    /// A run of this agent, without parent or message, which goes on when its user leaves.
    pub fn named(agent_name: impl Into<String>) -> Self {
        Self {
            agent_name: agent_name.into(),
            parent: None,
            message: None,
            order: OrderPolicy::Reject,
            on_disconnect: OnDisconnect::Continue,
        }
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { agent_name, parent, message: _, order, on_disconnect } = self;
        let mut shown = f.debug_struct("RunOptions");
        shown.field("agent_name", agent_name).field("parent", parent);
        shown.field("order", order).field("on_disconnect", on_disconnect).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub and its housekeeper, which the runtime must poll: without it nothing ages and no request times out.
    ///
    /// # Errors
    /// When the limits contradict each other.
    pub fn new(
        config: HubConfig,
        verifier: Shared<dyn TokenVerifier>,
        clock: Shared<dyn Clock>,
        entropy: Shared<dyn Entropy>,
    ) -> Result<(Self, Housekeeper), LimitsError> {
        config.limits.check()?;
        let count = config.shards.max(1);
        let limits = Shared::new(config.limits.clone());
        let shards = (0..count).map(|_| Lock::new(Manager::new(Shared::clone(&limits), count))).collect();
        let levels = Lock::new(Levels::new(Shared::clone(&limits)));
        let inner = Inner {
            connections: Budget::new(config.limits.connections),
            inbound: Budget::new(config.limits.total_inbound_bytes),
            snapshots: Budget::new(config.limits.total_snapshot_bytes),
            lagging: Budget::new(usize::MAX),
            tallies: Tallies::default(),
            open_metrics: config.open_metrics,
            started: clock.now().unix,
            surveys: Lock::new(Surveys::default()),
            unauthenticated: Budget::new(config.limits.unauthenticated),
            // Each of them counts as one.
            requests: Arc::new(Mailbox::new(config.limits.requests)),
            producers: Lock::new(Registry::new(config.limits.producers)),
            tickets: Lock::new(Tickets::new(ticket_bounds(&config.limits))),
            request_names: RequestNames::new(&*entropy),
            addresses: Arc::new(Lock::new(Addresses::new(&config.limits))),
            settings: Shared::new(Settings {
                limits: config.limits,
                endpoint: config.endpoint,
                access: config.access,
                legacy_profile: config.legacy_profile,
                proxies: config.trusted_proxies,
                deflate: Deflate::default(),
            }),
            verifier,
            clock,
            entropy,
            shards,
            gate: Gate::new(),
            requests_taken: Lock::new(false),
            levels,
            level_changed: ReadyMark::default(),
            rearm: ReadyMark::default(),
            armed: Moment::default(),
        };
        let hub = Self { inner: Arc::new(inner) };
        Ok((hub.clone(), Housekeeper::new(hub)))
    }

    /// Starts a run of an agent for a user. Publishing never waits for a subscriber.
    ///
    /// # Errors
    /// When the user has too many open runs, the parent is none of them, the event is too large, or the server shuts down.
    pub fn start_run(&self, user: &UserId, thread: ThreadId, options: RunOptions) -> Result<Run, RunError> {
        let random = self.inner.entropy.id();
        Run::start(self, None, |producer| RunStart {
            user: user.clone(),
            producer: Some(producer),
            request: None,
            random,
            thread,
            agent_name: options.agent_name,
            parent: options.parent,
            message: options.message,
            order: options.order,
            on_disconnect: options.on_disconnect,
        })
    }

    /// What users ask of the application. There is one receiver: the second call answers `None`.
    pub fn requests(&self) -> Option<Requests> {
        let mut taken = self.inner.requests_taken.lock();
        if std::mem::replace(&mut *taken, true) {
            return None;
        }
        Some(Requests::new(Arc::clone(&self.inner.requests)))
    }

    /// Begins the shutdown: nobody is admitted any more, every client is told to go, and every connection closes with
    /// 1012, one after the other, within three quarters of [`Limits::drain_deadline`]. A connection whose turn comes
    /// stays while a run of its user is in the middle of a text, as long as there is time; producers go last. Runs go on
    /// until then.
    pub fn begin_shutdown(&self) {
        if !self.inner.gate.shut() {
            return;
        }
        let waker = self.inner.requests.close(());
        if let Some(waker) = waker {
            waker.wake();
        }
        let mut pace = Pace::new(self.inner.gate.inside(), self.limits().drain_deadline);
        for shard in 0..self.inner.shards.len() {
            self.on_shard(shard, |manager, _| manager.begin_drain());
            let mut last = None;
            loop {
                last = self.on_shard(shard, |manager, _| manager.drain_some(last.as_ref(), DRAIN_BATCH, &mut pace));
                if last.is_none() {
                    break;
                }
            }
        }
        self.drain_producers(&mut pace);
    }

    /// Whether the shutdown has begun: not ready for new connections.
    pub fn is_draining(&self) -> bool {
        self.inner.gate.is_shut()
    }

    /// Ready once the shutdown has begun, whoever began it: an operator may. It is the task of [`Hub::poll_shutdown`] that waits.
    pub fn poll_draining(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.gate.poll_shut(cx)
    }

    /// Ready once the shutdown has begun and the last connection is closed. One task may wait.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.gate.poll_empty(cx)
    }

    /// What the hub holds now, all shards together.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for shard in &self.inner.shards {
            counts += shard.lock().counts();
        }
        counts
    }

    /// The devices of a user that are connected, in the order in which they came, and how far behind each is.
    pub fn devices(&self, user: &UserId) -> Vec<DeviceStatus> {
        self.shard(self.shard_of(user)).devices(user)
    }

    /// Who of a user is connected and what runs for it. Answers for every user; one that nobody has heard of has nothing.
    pub fn user_status(&self, user: &UserId) -> UserStatus {
        let shard = self.shard(self.shard_of(user));
        shard.status(self.now().at, user)
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.settings.limits
    }

    /// One operation on a user's shard, with all that follows from it for others.
    fn act<R>(&self, user: &UserId, operation: impl FnOnce(&mut Manager<Mail>, Now) -> R) -> R {
        self.on_shard(self.shard_of(user), operation)
    }

    /// One operation on a topic's shard.
    fn act_on_topic<R>(&self, topic: &TopicId, operation: impl FnOnce(&mut Manager<Mail>, Now) -> R) -> R {
        self.on_shard(self.topic_shard(topic), operation)
    }

    /// A shard, to look at, or for what has no effect on others.
    fn shard(&self, shard: usize) -> impl std::ops::DerefMut<Target = Manager<Mail>> + '_ {
        self.inner.shards[shard].lock()
    }

    fn topic_shard(&self, topic: &TopicId) -> usize {
        usize::from(topic.shard_hash()) % self.inner.shards.len()
    }

    fn shard_of(&self, user: &UserId) -> usize {
        self.shard_of_hash(user.shard_hash())
    }

    /// The shard that a user's or a run's hash leads to.
    fn shard_of_hash(&self, hash: u16) -> usize {
        usize::from(hash) % self.inner.shards.len()
    }

    fn on_shard<R>(&self, shard: usize, operation: impl FnOnce(&mut Manager<Mail>, Now) -> R) -> R {
        broken!(LetsGoOfTheShard => self.on_a_copy_of_the_shard(shard, operation));
        broken!(WakesTooEarly => self.on_a_copy_of_the_shard(shard, operation));
        let mut wakers = Wakers::default();
        let mut asks = Vec::new();
        let mut manager = self.inner.shards[shard].lock();
        // Read under the lock: the order of a log is also the order of its times.
        let now = self.now();
        let before = deadline(&manager);
        let result = operation(&mut manager, now);
        while let Some(output) = manager.poll_output() {
            deliver(output, &mut wakers, &mut asks);
        }
        let after = deadline(&manager);
        // Read under the lock, which the housekeeper takes after it has set it: it comes before any deadline that it is not told of.
        let earlier = after < before && after < self.inner.armed.get();
        let grown = manager.has_grown();
        drop(manager);
        if grown {
            self.on_levels(|levels, now| levels.handle_growth(now));
        }
        if earlier {
            wakers.push(self.inner.rearm.mark());
        }
        wakers.wake();
        asks.into_iter().for_each(|(ask, again)| self.ask(ask, again));
        result
    }
}

const fn ticket_bounds(limits: &Limits) -> TicketBounds {
    TicketBounds { all: limits.tickets, per_user: limits.tickets_per_user, life: limits.ticket_life }
}

/// How many users are told of a shutdown under one lock.
const DRAIN_BATCH: usize = 256;

fn deadline(manager: &Manager<Mail>) -> Timestamp {
    manager.poll_timeout().map_or(Timestamp::MAX, |(at, _)| at)
}

/// Puts one effect where it belongs. Called under the shard's lock, so that effects keep their order.
fn deliver(output: Output<Mail>, wakers: &mut Wakers, asks: &mut Vec<(Ask, bool)>) {
    match output {
        Output::Ready(mail, grown) => wakers.push(mail.mark_with(grown.bits())),
        Output::Close(mail, reason) => wakers.push(mail.close(reason)),
        Output::Ask(ask) => asks.push((ask, false)),
        Output::AskAgain(ask) => asks.push((ask, true)),
        // It is lost where much waits already: the first to be shed.
        Output::Control(mail, event @ Control::Ephemeral(_)) => {
            let bytes = event.bytes();
            wakers.push(mail.push_spare(event, bytes).ok().flatten());
        }
        Output::Control(mail, control) => {
            let bytes = control.bytes();
            match mail.replace(control, bytes, Control::supersedes) {
                Ok(waker) => wakers.push(waker),
                Err(PushError::Full) => wakers.push(mail.close(CloseReason::WriteStalled)),
                // It is going, and whatever it is told comes too late.
                Err(PushError::Closed) => {}
            }
        }
    }
}

/// The clock that the hub's deadlines are on: timers and drivers of its sessions read it too.
impl Clock for Hub {
    fn now(&self) -> Now {
        self.inner.clock.now()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("shards", &self.inner.shards.len()).finish_non_exhaustive()
    }
}
