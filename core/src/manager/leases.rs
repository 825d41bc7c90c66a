//! Runs of producers over the wire: who holds them, what is left of their leases, and which of their events came already.
//!
//! A run belongs to one connection, or to whoever asks over HTTP. While nobody holds it, its lease runs; a producer that names it
//! again within the lease holds it from then on. When the lease is over, the run ends as `producer_lost`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::approvals::Decision;
use super::keys::{KeyKind, Outcome};
use super::requests::debug_without_payload;
use super::runs::OpenRun;
use super::{Control, Manager, OnDisconnect, Output, RunStart};
use crate::id::{ApprovalId, ConnectionId, IdempotencyKey, RunId, UserId};
use crate::protocol::{FailReason, Receipt};
use crate::stream::{RunError, RunEvent};
use crate::time::{Now, Timestamp};

/// How many runs that have ended a shard remembers, so that a late producer is told so.
const ENDED_KEPT: usize = 1_024;

/// What a run is, whose producer is no part of this process.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// How long it lives without its producer.
    length: Duration,
    /// The last event that its producer has numbered.
    last_n: u64,
    /// The connection that works on it.
    holder: Option<ConnectionId>,
    /// When it ends; set while no connection holds it.
    pub(super) until: Option<Timestamp>,
    /// Who asked for its end, if somebody did: whoever takes the run over is told.
    pub(super) cancelled_by: Option<Box<str>>,
    /// A decision since its producer's last event: likewise.
    decided: Option<(ApprovalId, Decision)>,
}

/// The runs of this shard that producers over the wire may name.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    open: BTreeMap<RunId, UserId>,
    held: BTreeMap<ConnectionId, BTreeSet<RunId>>,
    ended: BTreeMap<RunId, UserId>,
    ended_order: VecDeque<RunId>,
}

/// A producer over the wire.
#[derive(Clone, Debug)]
pub struct Holder<H> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Where it is told of cancellations and decisions.
    pub handle: H,
}

/// A run that a producer over the wire starts or takes over.
#[derive(Clone)]
pub struct LeasedStart<H> {
    /// Who works on it; `None` over HTTP, where every event renews the lease.
    pub holder: Option<Holder<H>>,
    /// The run as it is where it is new.
    pub start: RunStart<H>,
    /// One that a request has reserved, or that is to be taken over.
    pub wanted: Option<RunId>,
    /// Makes a repeat harmless.
    pub key: Option<IdempotencyKey>,
    /// How long it lives without its producer; `None` where that is left to the server.
    pub lease: Option<Duration>,
}

/// A run that a producer holds from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub run: RunId,
    /// The last event of it that has come.
    pub last_n: u64,
    /// How long it lives without its producer.
    pub lease: Duration,
}

/// A numbered event that is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Where it went.
    pub receipt: Receipt,
    /// It did not come before.
    pub is_new: bool,
}

/// An event whose number may come now.
struct Numbered {
    user: UserId,
    /// What is true of an event that came before.
    receipt: Receipt,
    /// It did not come before.
    is_new: bool,
}

impl Leases {
    /// Whose run it is.
    fn owner(&self, run: RunId) -> Option<&UserId> {
        self.open.get(&run)
    }

    fn hold(&mut self, run: RunId, user: &UserId, holder: Option<ConnectionId>) {
        self.open.insert(run, user.clone());
        if let Some(connection) = holder {
            self.held.entry(connection).or_default().insert(run);
        }
    }

    fn release(&mut self, run: RunId, holder: Option<ConnectionId>) {
        if let Some(connection) = holder
            && let Some(runs) = self.held.get_mut(&connection)
        {
            runs.remove(&run);
            if runs.is_empty() {
                self.held.remove(&connection);
            }
        }
    }

    /// Takes note that a run has ended; one of this process has no lease.
    pub(super) fn end(&mut self, run: RunId, lease: Option<&Lease>) {
        self.release(run, lease.and_then(|lease| lease.holder));
        let Some(user) = self.open.remove(&run) else { return };
        self.ended.insert(run, user);
        self.ended_order.push_back(run);
        while self.ended_order.len() > ENDED_KEPT {
            if let Some(oldest) = self.ended_order.pop_front() {
                self.ended.remove(&oldest);
            }
        }
    }

    /// Why a run that is not open cannot be worked on.
    fn missing(&self, run: RunId, may: impl FnOnce(&UserId) -> bool) -> RunError {
        if self.ended.get(&run).is_some_and(may) { RunError::Ended } else { RunError::NoRun { run } }
    }
}

impl<H: Clone> OpenRun<H> {
    /// Something for the run's producer. One that is away is told what still counts when it is back.
    pub(super) fn tell(&mut self, control: Control) -> Option<Output<H>> {
        if let Some(lease) = &mut self.lease {
            match &control {
                Control::CancelRequested { by, .. } => {
                    lease.cancelled_by.get_or_insert_with(|| by.clone());
                }
                Control::Decided { approval_id, decision, .. } => {
                    lease.decided = Some((approval_id.clone(), decision.clone()));
                }
                Control::Reply(_)
                | Control::GoingAway(_)
                | Control::Ephemeral(_)
                | Control::Request(_)
                | Control::Paused { .. }
                | Control::Resumed { .. }
                | Control::ServiceLevel(_) => {}
            }
        }
        self.producer.clone().map(|producer| Output::Control(producer, control))
    }

    /// When the lease is over, while it runs.
    pub(super) fn lease_until(&self) -> Option<Timestamp> {
        self.lease.as_ref()?.until
    }

    /// What a producer that takes the run over has missed.
    fn missed(&self, run: RunId) -> Vec<Control> {
        let Some(lease) = &self.lease else { return Vec::new() };
        let cancel = lease.cancelled_by.clone().map(|by| Control::CancelRequested { run, by });
        let decided =
            lease.decided.clone().map(|(approval_id, decision)| Control::Decided { run, approval_id, decision });
        // Whoever was told to pause may have missed that a device is there again.
        let presence = match self.on_disconnect {
            OnDisconnect::Continue | OnDisconnect::CancelAfter(_) => None,
            OnDisconnect::Pause if self.is_paused() => Some(Control::Paused { run }),
            OnDisconnect::Pause => Some(Control::Resumed { run }),
        };
        decided.into_iter().chain(cancel).chain(presence).collect()
    }
}

impl Lease {
    const fn new(length: Duration) -> Self {
        Self { length, last_n: 0, holder: None, until: None, cancelled_by: None, decided: None }
    }

    /// It is this connection's, or where there is none, whose who asks over HTTP.
    fn take(&mut self, now: Timestamp, holder: Option<ConnectionId>) {
        self.let_go(now);
        if holder.is_some() {
            (self.holder, self.until) = (holder, None);
        }
    }

    /// Nobody has worked on it since then.
    fn let_go(&mut self, since: Timestamp) {
        self.holder = None;
        self.until = Some(since + self.length);
    }
}

impl<H: Clone> Manager<H> {
    /// Whose run it is, where it is open and a producer over the wire's.
    pub fn owner_of(&self, run: RunId) -> Option<&UserId> {
        self.leases.owner(run)
    }

    /// Starts a run of a producer over the wire, or gives it one that is there: by its id, or by the key it was started with.
    ///
    /// # Errors
    /// `RunTaken` where another producer holds it, `Ended` where it has ended, `NoRun` where the id names none, and what
    /// [`Manager::start_run`] refuses. Nothing is appended then.
    pub fn start_leased(&mut self, now: Now, mut leased: LeasedStart<H>) -> Result<Held, RunError> {
        self.assert_drained();
        let of_key = || self.run_of_key(now, &leased.start.user, leased.key.as_ref());
        let known = leased.wanted.or_else(of_key);
        if let Some(run) = known {
            if self.has_open(&leased.start.user, run) {
                return self.take_over(now, leased, run);
            }
            leased.start.request = match self.reserved(&leased.start.user, run) {
                Some(request) => Some(request),
                // It was started with this key, and it is not open any more.
                None if leased.wanted.is_none() => return Err(RunError::Ended),
                None => return Err(self.leases.missing(run, |user| *user == leased.start.user)),
            };
        }
        self.begin_leased(now, leased)
    }

    /// Takes a numbered event in, of a run that `by` holds; one that came already is answered and changes nothing.
    /// `may` says whether the producer may act for the run's user.
    ///
    /// # Errors
    /// `NoRun` where there is none for this producer, `RunTaken` where it holds the run not, `Gap` where events are missing before
    /// it or its number is 0, and what [`Manager::run_event`] refuses; only then the number counts as used.
    pub fn leased_event(
        &mut self,
        now: Now,
        by: Option<ConnectionId>,
        run: RunId,
        n: u64,
        event: RunEvent,
        may: impl Fn(&UserId) -> bool,
    ) -> Result<Taken, RunError> {
        self.assert_drained();
        let numbered = self.count_event(now, by, run, n, may)?;
        let is_new = numbered.is_new;
        let receipt = if is_new {
            self.enter(now, &numbered.user, run, event).map(|entered| entered.receipt)
        } else {
            Ok(numbered.receipt)
        };
        // Only where nobody holds the run has its deadline moved.
        if by.is_none() {
            self.settle(now, &numbered.user);
        }
        receipt.map(|receipt| Taken { receipt, is_new })
    }

    /// Takes note of an event of a run that `by` holds, which cannot be read: its number counts as used.
    ///
    /// # Errors
    /// As [`Manager::leased_event`] before it looks at the event itself.
    pub fn skip_event(
        &mut self,
        now: Now,
        by: ConnectionId,
        run: RunId,
        n: u64,
        may: impl Fn(&UserId) -> bool,
    ) -> Result<(), RunError> {
        self.assert_drained();
        self.count_event(now, Some(by), run, n, may).map(drop)
    }

    fn count_event(
        &mut self,
        now: Now,
        by: Option<ConnectionId>,
        run: RunId,
        n: u64,
        may: impl Fn(&UserId) -> bool,
    ) -> Result<Numbered, RunError> {
        let Some(id) = self.leases.owner(run).filter(|user| may(user)).cloned() else {
            return Err(self.leases.missing(run, may));
        };
        let user = self.users.get_mut(&id).ok_or(RunError::Ended)?;
        let receipt = user.channel.receipt();
        let lease = user.runs.get_mut(&run).and_then(|open| open.lease.as_mut()).ok_or(RunError::NoRun { run })?;
        if lease.holder != by {
            return Err(RunError::RunTaken { run });
        }
        if by.is_none() {
            lease.let_go(now.at);
        }
        let is_new = n > lease.last_n;
        if n == 0 || n > lease.last_n + 1 {
            return Err(RunError::Gap { expected: lease.last_n + 1 });
        }
        if is_new {
            lease.last_n = n;
            lease.decided = None;
        }
        Ok(Numbered { user: id, receipt, is_new })
    }

    /// A producer's connection works no longer, since `since`, for the users that `leaves` names: up to `max` of its runs go on
    /// under their leases. Answers whether it holds more of them.
    pub fn release_producer(
        &mut self,
        now: Now,
        connection: ConnectionId,
        since: Timestamp,
        max: usize,
        leaves: impl Fn(&UserId) -> bool,
    ) -> bool {
        self.assert_drained();
        let held = self.leases.held.get(&connection).into_iter().flatten().copied();
        let mut left = held.filter(|run| self.leases.owner(*run).is_none_or(&leaves));
        let some: Vec<_> = left.by_ref().take(max).collect();
        let more = left.next().is_some();
        for run in some {
            self.leases.release(run, Some(connection));
            let Some(id) = self.leases.owner(run).cloned() else { continue };
            let open = self.users.get_mut(&id).and_then(|user| user.runs.get_mut(&run));
            if let Some(open) = open
                && let Some(lease) = &mut open.lease
            {
                lease.let_go(since);
                open.producer = None;
            }
            self.settle(now, &id);
        }
        more
    }

    /// Ends the runs of a user whose leases are over.
    pub(super) fn expire_leases(&mut self, now: Now, id: &UserId) {
        let Some(user) = self.users.get(id) else { return };
        let over = |open: &OpenRun<H>| open.lease_until().is_some_and(|until| until <= now.at);
        let due: Vec<_> = user.runs.iter().filter(|(_, open)| over(open)).map(|(run, _)| *run).collect();
        for run in due {
            let error = "the producer went away and did not come back in time".into();
            // It is open and its end is small, so it is not refused.
            let _ = self.enter(now, id, run, RunEvent::Failed { reason: Some(FailReason::ProducerLost), error });
        }
    }

    /// The run that a producer has started with this key.
    fn run_of_key(&self, now: Now, id: &UserId, key: Option<&IdempotencyKey>) -> Option<RunId> {
        let user = self.users.get(id)?;
        match user.producer_keys.get(now.at, &(KeyKind::RunStart, key?.clone()), &self.limits)? {
            Outcome::Run(run) => Some(*run),
            Outcome::Waiting(_) | Outcome::Withdrawn(_) | Outcome::Answered(_) | Outcome::AnswerGone => None,
        }
    }

    fn remember_run(&mut self, now: Now, id: &UserId, key: Option<IdempotencyKey>, run: RunId) {
        if let Some((user, key)) = self.users.get_mut(id).zip(key) {
            user.producer_keys.settle(now.at, (KeyKind::RunStart, key), Outcome::Run(run), &self.limits);
        }
    }

    fn has_open(&self, id: &UserId, run: RunId) -> bool {
        self.users.get(id).is_some_and(|user| user.runs.contains_key(&run))
    }

    fn begin_leased(&mut self, now: Now, leased: LeasedStart<H>) -> Result<Held, RunError> {
        let id = leased.start.user.clone();
        let run = self.start_run(now, leased.start)?.run;
        let holder = leased.holder.as_ref().map(|holder| holder.connection);
        let length = leased.lease.unwrap_or(self.limits.run_lease);
        if let Some(open) = self.users.get_mut(&id).and_then(|user| user.runs.get_mut(&run)) {
            open.lease.insert(Lease::new(length)).take(now.at, holder);
        }
        self.leases.hold(run, &id, holder);
        self.remember_run(now, &id, leased.key, run);
        self.settle(now, &id);
        Ok(Held { run, last_n: 0, lease: length })
    }

    fn take_over(&mut self, now: Now, leased: LeasedStart<H>, run: RunId) -> Result<Held, RunError> {
        let id = leased.start.user;
        let user = self.users.get_mut(&id).ok_or(RunError::NoRun { run })?;
        let open = user.runs.get_mut(&run).ok_or(RunError::NoRun { run })?;
        let missed = open.missed(run);
        let lease = open.lease.as_mut().ok_or(RunError::RunTaken { run })?;
        let holder = leased.holder.as_ref().map(|holder| holder.connection);
        if lease.holder.is_some() && lease.holder != holder {
            return Err(RunError::RunTaken { run });
        }
        let is_repeat = lease.holder.is_some();
        lease.length = leased.lease.unwrap_or(lease.length);
        lease.take(now.at, holder);
        let (last_n, length) = (lease.last_n, lease.length);
        open.producer = leased.holder.map(|holder| holder.handle);
        if let Some(producer) = open.producer.clone().filter(|_| !is_repeat) {
            self.outputs.extend(missed.into_iter().map(|control| Output::Control(producer.clone(), control)));
        }
        self.leases.hold(run, &id, holder);
        self.settle(now, &id);
        Ok(Held { run, last_n, lease: length })
    }
}

debug_without_payload! {
    LeasedStart<H>: start, wanted, lease;
}
