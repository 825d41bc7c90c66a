//! The session of a producer: a back end that works for users, over the same endpoint.

use super::{Session, State};
use crate::auth::Grant;
use crate::error::{CloseReason, ErrorCode};
use crate::hub::Mail;
use crate::hub::publisher::{Outcome, Publisher};
use crate::hub::registry::{Producer, ProducerName};
use crate::hub::trace::{self, OfRun, Seen, Traces};
use crate::id::{ConnectionId, FrameId, RunId, SessionId, UserId};
use crate::manager::{Control, Credential, Custom, Ephemeral, Tokens};
use crate::protocol::{
    self, ClientFrame, FrameError, ProducerHello, Reply, ReplyError, ReplyOk, Request, RequestBody, RunEvent,
    ServerFrame,
};
use crate::sync::{Arc, broken};
use crate::time::{Clock, Now, Timestamp};

/// What a session has that is a producer's.
#[derive(Debug)]
pub(super) struct Producing {
    name: ProducerName,
    /// Words about its runs that it was told.
    told: u64,
    traces: Traces,
}

impl Session {
    /// Makes this connection the producer of its name.
    ///
    /// # Errors
    /// What to close it with: the token does not allow it, was revoked, or there is no room.
    pub(super) fn join(
        &self,
        grant: &Grant,
        session: SessionId,
        connection: ConnectionId,
        hello: ProducerHello,
    ) -> Result<ProducerName, CloseReason> {
        let users = wanted_users(grant, hello.users)?;
        if self.hub.is_revoked(grant, Some(session)) {
            return Err(CloseReason::TokenRevoked);
        }
        let name = ProducerName { owner: grant.user.clone(), id: hello.id };
        let (scopes, tokens) = (grant.scopes.clone(), Tokens::new(&Credential::of(grant)));
        let (order, handle) = (self.room.number(), Arc::clone(&self.mail));
        let producer = Producer { connection, session, order, handle, scopes, users, tokens };
        self.hub.join_producer(name.clone(), producer)?;
        broken!(LooksOnlyBeforeItJoins => Ok(name));
        // A revocation that did not find it among the producers has been noted before this look.
        if self.hub.is_revoked(grant, Some(session)) {
            self.hub.leave_producer(&name, connection, self.lost_since());
            return Err(CloseReason::TokenRevoked);
        }
        Ok(name)
    }

    /// Since when the peer is gone: since its last byte where it is its silence that ends the connection, else since now.
    pub(super) fn lost_since(&self) -> Timestamp {
        let silent =
            matches!(self.connection.close_reason(), Some(CloseReason::HeartbeatTimeout | CloseReason::WriteStalled));
        if silent { self.connection.heard() } else { self.hub.now().at }
    }

    /// The frames of back ends.
    pub(super) fn producer_frame(&mut self, now: Now, frame: ClientFrame) {
        match frame {
            ClientFrame::RunStart(start) => self.run_start(now, *start),
            ClientFrame::RunEvent { id, run_id, n, event } => self.run_event(now, id, run_id, n, event),
            ClientFrame::Publish { id, target, thread_id, name, data, key, ephemeral } => {
                let custom = Custom { thread: thread_id, name, key };
                let ephemeral = ephemeral.unwrap_or(false);
                let outcome = self.publisher(|publisher, _| publisher.publish(target, custom, data, ephemeral));
                self.settle_frame(now, id, None, outcome);
            }
            ClientFrame::Reply(reply) if self.is_producer() => {
                let done = self.publisher(|publisher, _| {
                    publisher.answer(*reply);
                    Ok(ReplyOk::Done)
                });
                // An answer has no answer.
                drop(done);
            }
            other @ (ClientFrame::Reply(_)
            | ClientFrame::Hello(_)
            | ClientFrame::Refresh { .. }
            | ClientFrame::Ack { .. }
            | ClientFrame::Subscribe { .. }
            | ClientFrame::Unsubscribe { .. }
            | ClientFrame::UserMessage { .. }
            | ClientFrame::CancelRun { .. }
            | ClientFrame::Approve { .. }
            | ClientFrame::Command { .. }
            | ClientFrame::Revoke { .. }
            | ClientFrame::Inspect { .. }
            | ClientFrame::Disconnect { .. }
            | ClientFrame::Drain { .. }
            | ClientFrame::Ping { .. }) => {
                let id = other.id().cloned();
                self.refuse(now, id, ErrorCode::Unexpected, NOT_HERE);
            }
        }
    }

    /// Gives an event that is for now only, unless the socket has enough to take.
    pub(super) fn pass_on(&mut self, now: Now, event: &Ephemeral) {
        let shown = match &event.topic {
            // It may have left the topic since.
            Some(topic) => self.follows(topic),
            None => self.watches(event.thread.as_ref()),
        };
        if shown && self.connection.wants_events() {
            self.connection.send_encoded(now, &[event.frame.as_bytes()]);
        }
    }

    /// What a word about a run is for a producer over the wire.
    pub(super) fn tell_producer(&mut self, now: Now, word: Control) {
        let (run_id, body) = match word {
            Control::CancelRequested { run, by } => (run, RequestBody::CancelRun { run_id: run, by: by.into_string() }),
            Control::Decided { run, approval_id, decision } => {
                let (decision, data) = (decision.decision, decision.data);
                (run, RequestBody::Approve { run_id: run, approval_id, decision, data })
            }
            Control::Paused { run } => (run, RequestBody::Pause { run_id: run }),
            Control::Resumed { run } => (run, RequestBody::Resume { run_id: run }),
            Control::Request(request) => return self.pass_request(now, request),
            Control::Reply(_) | Control::GoingAway(_) | Control::ServiceLevel(_) | Control::Ephemeral(_) => return,
        };
        let State::Attached(device) = &mut self.state else { return };
        let Some(producing) = &mut device.producing else { return };
        let shard = self.hub.shard_of_hash(run_id.shard_hash());
        // A run that has ended meanwhile is nobody's to hear of.
        let Some(user) = self.hub.shard(shard).owner_of(run_id).cloned() else { return };
        if !device.scopes.may_publish_for(&user) {
            // It was said before the last refresh.
            return;
        }
        producing.told += 1;
        // Short and printable: it always is an id.
        let Ok(id) = FrameId::new(&format!("r-{}", producing.told)) else { return };
        let request = Request { id, user_id: user.sub().to_owned(), body };
        self.connection.send(now, &ServerFrame::Request(Box::new(request)));
    }

    /// Gives a producer what a user asks, unless that was put before it ahead of a refresh by which it has lost the user: others are
    /// asked since.
    fn pass_request(&mut self, now: Now, request: Box<Request>) {
        let State::Attached(device) = &self.state else { return };
        let user = device.user.beside(&request.user_id);
        if user.is_ok_and(|user| device.scopes.may_publish_for(&user)) {
            self.connection.send(now, &ServerFrame::Request(request));
        }
    }

    pub(super) fn is_producer(&self) -> bool {
        matches!(&self.state, State::Attached(device) if device.producing.is_some())
    }

    fn run_start(&mut self, now: Now, start: protocol::RunStart) {
        let id = start.id.clone();
        if !self.is_producer() {
            return self.refuse(now, Some(id), ErrorCode::Unexpected, NOT_A_PRODUCER);
        }
        let traced = trace::is_on().then(|| start.clone());
        let held = self.publisher(|publisher, holder| publisher.start_run(start, Some(holder)));
        if let Ok(held) = &held {
            self.connection.watch_silence(held.lease);
            if let Some(start) = traced {
                self.trace_run(held.run, &start);
            }
        }
        self.settle_frame(now, Some(id), None, held.map(ReplyOk::from));
    }

    fn run_event(&mut self, now: Now, id: Option<FrameId>, run: RunId, n: u64, event: RunEvent) {
        if !self.is_producer() {
            return self.refuse(now, id, ErrorCode::Unexpected, NOT_A_PRODUCER);
        }
        let seen = self.traces().filter(|traces| traces.has(run)).map(|_| Seen::of(&event));
        let outcome = self.publisher(|publisher, (by, _)| publisher.run_event(Some(by), run, n, event));
        if let (Some(seen), Some(traces)) = (seen, self.traces()) {
            match &outcome {
                Ok(_) => traces.event(run, seen),
                // What becomes of one that it has lost, others trace.
                Err(error) if error.code != ErrorCode::RunOrder.into() => traces.forget(run),
                Err(_) => {}
            }
        }
        self.settle_frame(now, id, Some((run, n)), outcome);
    }

    fn traces(&mut self) -> Option<&mut Traces> {
        let State::Attached(device) = &mut self.state else { return None };
        device.producing.as_mut().map(|producing| &mut producing.traces)
    }

    fn trace_run(&mut self, run: RunId, start: &protocol::RunStart) {
        let State::Attached(device) = &mut self.state else { return };
        let Some(producing) = &mut device.producing else { return };
        let Ok(user) = device.user.beside(&start.user_id) else { return };
        let (thread, agent, parent) = (&start.thread_id, &start.agent_name, start.parent_run_id);
        producing.traces.begin(OfRun { user: &user, run, thread, agent, parent });
    }

    /// An event that cannot be read has used its number, where it was its turn.
    pub(super) fn unreadable_event(&mut self, now: Now, error: FrameError) {
        let FrameError { code, message, id, event } = error;
        let Some((run, n)) = event else { return self.refuse(now, id, code, &message) };
        let noted = self.publisher(|publisher, (by, _)| publisher.skip_event(by, run, n));
        self.settle_frame(now, id, Some((run, n)), noted.and(Err(ReplyError::new(code, message))));
    }

    /// Acts by the token of this session.
    pub(super) fn publisher<T>(
        &self,
        act: impl FnOnce(Publisher<'_>, (ConnectionId, &Mail)) -> Result<T, ReplyError>,
    ) -> Result<T, ReplyError> {
        let State::Attached(device) = &self.state else {
            return Err(ReplyError::new(ErrorCode::Unexpected, "the connection is closing"));
        };
        let publisher = Publisher { hub: &self.hub, owner: &device.user, scopes: &device.scopes };
        act(publisher, (device.connection, &self.mail))
    }

    /// Says what became of a frame: by `reply` where it had an `id`; a refusal is said in any case.
    pub(super) fn settle_frame(&mut self, now: Now, id: Option<FrameId>, of: Option<(RunId, u64)>, outcome: Outcome) {
        match (id, outcome) {
            (Some(id), outcome) => self.connection.send(now, &ServerFrame::Reply(Box::new(Reply { id, outcome }))),
            (None, Ok(_)) => {}
            (None, Err(ReplyError { code, message, .. })) => {
                let (run_id, n) = of.unzip();
                self.connection.send(now, &ServerFrame::Error { code, message, run_id, n });
            }
        }
    }
}

impl Producing {
    pub(super) fn new(name: ProducerName) -> Self {
        Self { name, told: 0, traces: Traces::default() }
    }

    pub(super) const fn name(&self) -> &ProducerName {
        &self.name
    }
}

/// Whose requests a producer wants, all of whom its token must name.
fn wanted_users(
    grant: &Grant,
    users: Option<Vec<String>>,
) -> Result<Option<std::collections::BTreeSet<UserId>>, CloseReason> {
    if !grant.scopes.may_publish() {
        return Err(CloseReason::Forbidden);
    }
    let parse = |sub: String| {
        let user = grant.user.beside(&sub).map_err(|_| CloseReason::Forbidden)?;
        if grant.scopes.may_publish_for(&user) { Ok(user) } else { Err(CloseReason::Forbidden) }
    };
    users.map(|users| users.into_iter().map(parse).collect()).transpose()
}

const NOT_A_PRODUCER: &str = "this takes a producer's connection: send `producer` in `hello`";
const NOT_HERE: &str = "this connection takes no such frame";
