//! One socket of a hub: the connection machine, its mailbox and its cursor. This is the one composition of the machines;
//! adapters, tests and simulations all drive it.

mod attaching;
#[cfg(test)]
mod fingerprint;
mod following;
mod inbound;
mod leaving;
mod levels;
mod machine;
mod producing;
mod reading;
mod relaying;
mod watching;

use std::fmt;
use std::sync::Arc as Shared;

use following::FrameFault;
use inbound::Inbound;
use leaving::Leaving;
use levels::{Holding, Told};
use producing::Producing;
use reading::Cursor;
use watching::Watching;

use super::admission::{NO_ROOM, Placed};
use super::publisher::{Outcome, Publisher};
use super::trace::ConnectionTrace;
use super::{Hub, Mail};
use crate::auth::Scopes;
use crate::connection::{Connection, ConnectionEvent, PhaseName};
use crate::error::{CloseReason, ErrorCode};
use crate::id::{ConnectionId, FrameId, UserId};
use crate::manager::{Control, Decision, NewCommand, NewMessage};
use crate::metrics::RequestKind;
use crate::protocol::{ClientFrame, FrameError, Reply, ReplyOk, ServerFrame, StreamEntry, StreamName};
use crate::stream::Resumption;
use crate::sync::{Arc, Lease, Mailbox, Pass, Popped};
use crate::time::{Clock, Now, Timestamp};

/// A socket between its acceptance and its end. Dropped, it is out of the hub.
pub struct Session {
    hub: Hub,
    connection: Connection,
    /// Bytes that wait because their answers would not be read.
    input: Vec<u8>,
    mail: Mail,
    state: State,
    handoff: Option<Vec<u8>>,
    leaving: Leaving,
    room: Lease,
    /// Its place among the sockets of its client's address, where that is known and limited.
    placed: Option<Box<Placed>>,
    /// The room of what is half received, where it is more than a little.
    inbound: Option<Box<Inbound>>,
    trace: Option<ConnectionTrace>,
}

#[derive(Debug)]
enum State {
    /// Nobody is verified yet.
    Stranger(#[expect(dead_code, reason = "held for its drop")] Lease),
    /// In the hub. Not boxed: it is looked at in every turn.
    Attached(Device),
    /// Out of it for good.
    Gone(#[expect(dead_code, reason = "held until the socket is closed")] Option<Pass>),
}

#[derive(Debug)]
struct Device {
    user: UserId,
    connection: ConnectionId,
    /// What the token grants beside the user's own stream.
    scopes: Scopes,
    /// The user's own first, then the topics it follows.
    cursors: Vec<Cursor>,
    /// Which threads of the user's own it watches; `None` is all.
    watching: Option<Box<Watching>>,
    /// Whose turn it is to be read.
    turn: usize,
    /// When to look again whether there is room for a snapshot.
    look_again: Option<Timestamp>,
    level: Told,
    /// Text that waits for more of it.
    holding: Option<Box<Holding>>,
    /// Where it is a back end's.
    producing: Option<Box<Producing>>,
    pass: Pass,
}

impl Session {
    pub(super) fn new(hub: Hub, room: Lease, unauthenticated: Lease) -> Self {
        let connection = Connection::new(hub.now(), Shared::clone(&hub.inner.settings));
        let mail = Arc::new(Mailbox::new(hub.limits().control_bytes));
        let state = State::Stranger(unauthenticated);
        Self {
            hub,
            connection,
            input: Vec::new(),
            mail,
            state,
            handoff: None,
            leaving: Leaving::No,
            room,
            placed: None,
            inbound: None,
            trace: None,
        }
    }

    /// Whose it is stands in the head of its request.
    pub(super) fn expect_proxied(&mut self) {
        self.connection.expect_proxied();
    }

    /// The socket is encrypted up to here, so that the server's own page is one of `https`.
    pub fn expect_secure(&mut self) {
        self.connection.expect_secure();
    }

    /// Holds the place until the socket's end, whatever becomes of it.
    pub(super) fn put(&mut self, placed: Placed) {
        self.placed = Some(Box::new(placed));
    }

    /// The hub it belongs to.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Where the connection stands.
    pub const fn phase(&self) -> PhaseName {
        self.connection.phase()
    }

    /// Why it closes, once it does.
    pub const fn close_reason(&self) -> Option<CloseReason> {
        self.connection.close_reason()
    }

    /// Whose it is, while it is attached.
    pub fn user(&self) -> Option<&UserId> {
        match &self.state {
            State::Attached(device) => Some(&device.user),
            State::Stranger(_) | State::Gone(_) => None,
        }
    }

    /// Closes it from outside, such as when its task is told to stop.
    pub fn close(&mut self, now: Now, reason: CloseReason) {
        self.connection.close(now, reason);
        self.settle();
    }

    /// Bytes of heap that one idle connection keeps beside this struct; for tests and metrics.
    pub const fn input_bytes(&self) -> usize {
        self.input.capacity()
    }

    fn take_in(&mut self, now: Now, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            if self.connection.phase() == PhaseName::Head && self.hub.is_draining() {
                self.connection.refuse_upgrades(NO_ROOM);
            }
            let used = self.connection.handle_bytes(now, rest);
            rest = rest.get(used..).unwrap_or_default();
            let decided = self.decide(now, rest);
            if rest.is_empty() || self.handoff.is_some() || (used == 0 && !decided) {
                break;
            }
        }
        self.input = if self.handoff.is_some() { Vec::new() } else { rest.to_vec() };
        self.make_room(now);
        self.settle();
    }

    /// Goes on with what waited, once its answers have room.
    fn resume_input(&mut self, now: Now) {
        if !self.input.is_empty() && self.connection.wants_read() {
            let waiting = std::mem::take(&mut self.input);
            self.take_in(now, &waiting);
        }
    }

    /// Answers what the machine asks; says whether it asked.
    fn decide(&mut self, now: Now, rest: &[u8]) -> bool {
        let mut decided = false;
        while let Some(event) = self.connection.poll_event() {
            decided = true;
            match event {
                ConnectionEvent::Reserve(client) => {
                    let placed = self.hub.place_client(client);
                    let verdict = placed.map(|placed| self.placed = placed.map(Box::new)).map_err(|_| NO_ROOM);
                    self.connection.handle_reserved(now, verdict);
                }
                ConnectionEvent::Verify(token) => {
                    let verdict = self.hub.grant_at(token.as_str(), now);
                    let verdict = self.refreshed(verdict);
                    self.connection.handle_verified(now, verdict);
                }
                ConnectionEvent::TakeTicket(ticket) => {
                    let verdict = self.hub.take_ticket(&ticket);
                    self.connection.handle_verified(now, verdict);
                }
                ConnectionEvent::Attach(admission) => self.attach(now, *admission),
                ConnectionEvent::Handoff => {
                    self.handoff = self.connection.take_handoff().map(|head| [&head, rest].concat());
                }
                ConnectionEvent::Frame(_) | ConnectionEvent::Unreadable(_) if self.mail.end().is_some() => {
                    self.collect(now)
                }
                ConnectionEvent::Frame(frame) => self.frame(now, *frame),
                ConnectionEvent::Unreadable(error) => self.unreadable_event(now, *error),
            }
        }
        decided
    }

    fn frame(&mut self, now: Now, frame: ClientFrame) {
        let State::Attached(device) = &self.state else { return };
        if device.producing.is_some() && !is_for_producers(&frame) {
            let message = "a producer's connection takes no frames of users";
            return self.refuse(now, frame.id().cloned(), ErrorCode::Unexpected, message);
        }
        let (user, connection) = (device.user.clone(), device.connection);
        if device.producing.is_none() && is_use(&frame) {
            self.hub.act(&user, |shard, now| shard.note_active(now, &user, connection));
        }
        match frame {
            ClientFrame::UserMessage { id, key, thread_id, content, metadata } => {
                let random = self.hub.inner.entropy.id();
                let sender = Arc::clone(&self.mail);
                let message =
                    NewMessage { user: user.clone(), sender, id, key, thread: thread_id, content, metadata, random };
                self.hub.act(&user, |shard, now| {
                    shard.count_request(RequestKind::UserMessage);
                    shard.message(now, message);
                });
            }
            ClientFrame::Command { id, name, args, key } => {
                let command = NewCommand { user: user.clone(), sender: Arc::clone(&self.mail), id, key, name, args };
                self.hub.act(&user, |shard, now| {
                    shard.count_request(RequestKind::Command);
                    shard.command(now, command);
                });
            }
            ClientFrame::CancelRun { id, target } => {
                let outcome = self.hub.act(&user, |shard, now| {
                    shard.count_request(RequestKind::CancelRun);
                    shard.cancel(now, &user, &target)
                });
                let outcome = outcome.map(|(run_id, state)| ReplyOk::Cancel { run_id, state });
                self.connection.send(now, &ServerFrame::Reply(Box::new(Reply { id, outcome })));
            }
            ClientFrame::Ack { stream: StreamName::User, event_id } => {
                self.hub.act(&user, |shard, now| shard.ack(now, &user, connection, event_id));
            }
            // A topic's log is not kept for single subscribers.
            ClientFrame::Ack { stream: StreamName::Topic(_), .. } => {}
            ClientFrame::Subscribe { id, topic, resume } => {
                let followed = self.follow(topic, resume).map(ReplyOk::Stream);
                self.answer(now, id, followed);
            }
            ClientFrame::Unsubscribe { id, topic } => {
                let left = self.unfollow(topic);
                self.answer(now, id, left);
            }
            ClientFrame::Approve { id, approval_id, decision, data } => {
                let decision = Decision { decision, data };
                let outcome = self.hub.act(&user, |shard, now| {
                    shard.count_request(RequestKind::Approve);
                    shard.approve(now, &user, &approval_id, decision)
                });
                let outcome = outcome.map(|()| ReplyOk::Done);
                self.connection.send(now, &ServerFrame::Reply(Box::new(Reply { id, outcome })));
            }
            other @ (ClientFrame::RunStart(_)
            | ClientFrame::RunEvent { .. }
            | ClientFrame::Publish { .. }
            | ClientFrame::Reply(_)) => self.producer_frame(now, other),
            ClientFrame::Inspect { id, user_id } => self.operate(now, id, |by| by.inspect(user_id.as_deref())),
            ClientFrame::Disconnect { id, user_id, connection_id } => {
                self.operate(now, id, |by| by.disconnect(&user_id, connection_id));
            }
            ClientFrame::Drain { id } => self.operate(now, id, |by| by.drain()),
            ClientFrame::Revoke { id, user_id, target, expires } => {
                self.operate(now, id, |by| by.revoke(&user_id, &target, expires));
            }
            // The connection's own.
            ClientFrame::Hello(_) | ClientFrame::Refresh { .. } | ClientFrame::Ping { .. } => {}
        }
    }

    /// An order of an operator's, from any connection whose token allows it.
    fn operate(&mut self, now: Now, id: FrameId, order: impl FnOnce(&Publisher<'_>) -> Outcome) {
        let outcome = self.publisher(|by, _| order(&by));
        self.settle_frame(now, Some(id), None, outcome);
    }

    fn answer(&mut self, now: Now, id: FrameId, outcome: Result<ReplyOk, FrameFault>) {
        let reply = match outcome {
            Ok(ok) => Reply::ok(id, ok),
            Err((code, message)) => Reply::refused(id, code, message),
        };
        self.connection.send(now, &ServerFrame::Reply(Box::new(reply)));
    }

    fn refuse(&mut self, now: Now, id: Option<FrameId>, code: ErrorCode, message: &str) {
        self.connection.send_error(now, FrameError { code, message: message.to_owned(), id, event: None });
    }

    /// Takes what others left in the mailbox.
    fn collect(&mut self, now: Now) {
        if self.is_producer()
            && let Some(reason) = self.mail.end()
        {
            // What it was asked goes to others, and what its runs were told to whoever takes them over.
            return self.connection.close(now, reason);
        }
        // What a producer does not read yet stays where it is bounded.
        while !self.is_producer() || self.connection.has_room() {
            match self.mail.pop() {
                Popped::Item(Control::Reply(reply)) if self.connection.has_room() => {
                    self.connection.send(now, &ServerFrame::Reply(Box::new(reply)));
                }
                // As when the mailbox is full: what is not read must not pile up here instead.
                Popped::Item(Control::Reply(_)) => self.connection.close(now, CloseReason::WriteStalled),
                Popped::Item(Control::GoingAway(leave)) => self.go_away(now, leave),
                // Its end is decided, by a revocation perhaps: what is for now only comes too late.
                Popped::Item(Control::Ephemeral(_)) if self.mail.end().is_some() => {}
                Popped::Item(Control::ServiceLevel(notice)) => self.take_level(now, notice),
                Popped::Item(Control::Ephemeral(event)) => self.pass_on(now, &event),
                Popped::Item(
                    word @ (Control::Request(_)
                    | Control::CancelRequested { .. }
                    | Control::Decided { .. }
                    | Control::Paused { .. }
                    | Control::Resumed { .. }),
                ) => self.tell_producer(now, word),
                Popped::Empty => break,
                Popped::Closed(reason) => {
                    self.connection.close(now, reason);
                    break;
                }
            }
        }
    }

    /// Lets others know whether the peer seems to be there: they may look while nothing happens here.
    fn note_life(&self) {
        self.mail.note_dead_at(self.connection.seems_dead_at().unwrap_or(Timestamp::MAX));
    }

    /// A connection that is not live any more is out of the hub at once: nothing is delivered to it.
    fn settle(&mut self) {
        if self.connection.phase() != PhaseName::Live && matches!(self.state, State::Attached(_)) {
            self.detach();
        }
    }

    fn detach(&mut self) {
        // The end is absorbing before the hub forgets: no late effect finds an open mailbox.
        let _ = self.mail.close(CloseReason::Normal);
        if let State::Attached(device) = std::mem::replace(&mut self.state, State::Gone(None)) {
            let Device { user, connection, cursors, producing, pass, .. } = device;
            match producing {
                Some(producing) => self.hub.leave_producer(producing.name(), connection, self.lost_since()),
                None => self.hub.act(&user, |shard, now| shard.detach(now, &user, connection)),
            }
            for topic in cursors.iter().filter_map(|cursor| cursor.topic.as_ref()) {
                self.hub.act_on_topic(topic, |shard, now| shard.unsubscribe(now, topic, connection));
            }
            self.state = State::Gone(Some(pass));
        }
    }
}

/// Whether a frame says that somebody uses the device: clients send the others by themselves.
const fn is_use(frame: &ClientFrame) -> bool {
    match frame {
        ClientFrame::UserMessage { .. }
        | ClientFrame::Command { .. }
        | ClientFrame::CancelRun { .. }
        | ClientFrame::Approve { .. }
        | ClientFrame::Subscribe { .. }
        | ClientFrame::Unsubscribe { .. }
        | ClientFrame::RunStart(_)
        | ClientFrame::RunEvent { .. }
        | ClientFrame::Publish { .. }
        | ClientFrame::Disconnect { .. }
        | ClientFrame::Drain { .. }
        | ClientFrame::Revoke { .. } => true,
        // An operator's page asks by itself.
        ClientFrame::Inspect { .. }
        | ClientFrame::Hello(_)
        | ClientFrame::Refresh { .. }
        | ClientFrame::Ack { .. }
        | ClientFrame::Reply(_)
        | ClientFrame::Ping { .. } => false,
    }
}

/// Whether a frame means something from a back end.
const fn is_for_producers(frame: &ClientFrame) -> bool {
    match frame {
        ClientFrame::RunStart(_)
        | ClientFrame::RunEvent { .. }
        | ClientFrame::Publish { .. }
        | ClientFrame::Revoke { .. }
        | ClientFrame::Inspect { .. }
        | ClientFrame::Disconnect { .. }
        | ClientFrame::Drain { .. }
        | ClientFrame::Reply(_)
        | ClientFrame::Subscribe { .. }
        | ClientFrame::Unsubscribe { .. }
        | ClientFrame::Ack { .. }
        // The connection's own.
        | ClientFrame::Hello(_)
        | ClientFrame::Refresh { .. }
        | ClientFrame::Ping { .. } => true,
        ClientFrame::UserMessage { .. }
        | ClientFrame::CancelRun { .. }
        | ClientFrame::Approve { .. }
        | ClientFrame::Command { .. } => false,
    }
}

fn entry(stream: StreamName, resumption: &Resumption) -> StreamEntry {
    let Resumption { position, head, mode, lost } = *resumption;
    StreamEntry { stream, event_id: position, head, mode, lost }
}

/// Shows where it stands, not the bytes under way.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("connection", &self.connection)
            .field("state", &self.state)
            .field("input_bytes", &self.input.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.detach();
        self.hub.count_end(&self.connection);
        if let Some(trace) = self.trace.take() {
            trace.end(&self.connection);
        }
    }
}
