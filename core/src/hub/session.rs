//! One socket of a hub: the connection machine, its mailbox and its cursor. This is the one composition of the machines;
//! adapters, tests and simulations all drive it.

use std::fmt;
use std::sync::Arc as Shared;
use std::task::Waker;

use super::{Hub, Mail, RETRY_AFTER_SECS};
use crate::codec::upgrade::Refusal;
use crate::connection::{Admission, Connection, ConnectionEvent, PhaseName};
use crate::drive::Machine;
use crate::error::{CloseReason, ErrorCode};
use crate::id::{ConnectionId, FrameId, SessionId, UserId};
use crate::manager::{Attach, Attached, Control, NewCommand, NewMessage, Read};
use crate::protocol::{
    ClientFrame, FrameError, Heartbeat, Mode, Position, Reply, ReplyOk, ServerFrame, ServiceLevel, StreamEntry,
    StreamName, Welcome, WelcomeLimits, prev_prefix,
};
use crate::stream::{Entry, frames_for, snapshot_frames};
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
    _room: Lease,
}

#[derive(Debug)]
enum State {
    /// Nobody is verified yet.
    Stranger(#[expect(dead_code, reason = "held for its drop")] Lease),
    /// In the hub.
    Attached(Box<Device>),
    /// Out of it for good.
    Gone(#[expect(dead_code, reason = "held until the socket is closed")] Option<Pass>),
}

#[derive(Debug)]
struct Device {
    user: UserId,
    connection: ConnectionId,
    /// What the client has been given of its user's stream.
    cursor: Position,
    /// There may be more in the log.
    behind: bool,
    /// It lags: texts are merged until it has caught up.
    merging: bool,
    pass: Pass,
}

impl Device {
    /// Merging makes less of what is read.
    const fn read_bytes(&self) -> usize {
        if self.merging { 4 * READ_BYTES } else { READ_BYTES }
    }
}

impl Session {
    pub(super) fn new(hub: Hub, room: Lease, unauthenticated: Lease) -> Self {
        let connection = Connection::new(hub.now(), Shared::clone(&hub.inner.settings));
        let mail = Arc::new(Mailbox::new(hub.limits().control_bytes));
        let state = State::Stranger(unauthenticated);
        Self { hub, connection, input: Vec::new(), mail, state, handoff: None, _room: room }
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

    /// All bytes read so far, when the request is not for the WebSocket endpoint: the web stack's to answer.
    pub const fn take_handoff(&mut self) -> Option<Vec<u8>> {
        self.handoff.take()
    }

    /// Bytes of heap that one idle connection keeps beside this struct; for tests and metrics.
    pub const fn input_bytes(&self) -> usize {
        self.input.capacity()
    }

    fn take_in(&mut self, now: Now, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            if self.connection.phase() == PhaseName::Head && self.hub.is_draining() {
                self.connection.refuse_upgrades(Refusal::Unavailable { retry_after_secs: RETRY_AFTER_SECS });
            }
            let used = self.connection.handle_bytes(now, rest);
            rest = rest.get(used..).unwrap_or_default();
            let decided = self.decide(now, rest);
            if rest.is_empty() || self.handoff.is_some() || (used == 0 && !decided) {
                break;
            }
        }
        self.input = if self.handoff.is_some() { Vec::new() } else { rest.to_vec() };
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
                ConnectionEvent::Verify(token) => {
                    let verdict = self.hub.inner.verifier.verify(token.as_str(), now.unix);
                    self.connection.handle_verified(now, verdict);
                }
                ConnectionEvent::Attach(admission) => self.attach(now, *admission),
                ConnectionEvent::Handoff => {
                    self.handoff = self.connection.take_handoff().map(|head| [&head, rest].concat());
                }
                ConnectionEvent::Frame(frame) => self.frame(now, *frame),
            }
        }
        decided
    }

    fn attach(&mut self, now: Now, admission: Admission) {
        let Admission { grant, hello } = admission;
        let Some(pass) = self.hub.inner.gate.enter() else {
            return self.connection.close(now, CloseReason::Restart);
        };
        let connection = ConnectionId::from_bits(self.hub.inner.entropy.id());
        let attach = Attach {
            handle: Arc::clone(&self.mail),
            connection,
            user: grant.user.clone(),
            session: hello.session_id,
            fresh_session: SessionId::from_bits(self.hub.inner.entropy.id()),
            resume: hello.resume.get(&StreamName::User).copied(),
        };
        match self.hub.act(&grant.user, |shard, now| shard.attach(now, attach)) {
            Err(reason) => self.connection.close(now, reason),
            Ok(attached) => {
                let expires_in = grant.expires.saturating_since(now.unix).as_secs_f64();
                let welcome = self.welcome(now, &grant.user, connection, expires_in, &attached);
                let cursor = attached.stream.position;
                let behind = cursor != attached.stream.head;
                let device = Device { user: grant.user, connection, cursor, behind, merging: false, pass };
                self.state = State::Attached(Box::new(device));
                self.connection.handle_attached(now, &welcome);
                if attached.stream.mode == Mode::Snapshot {
                    self.give_snapshot(now);
                }
            }
        }
    }

    fn welcome(
        &self,
        now: Now,
        user: &UserId,
        connection_id: ConnectionId,
        expires_in: f64,
        attached: &Attached,
    ) -> ServerFrame {
        let limits = self.hub.limits();
        let stream = &attached.stream;
        ServerFrame::Welcome(Box::new(Welcome {
            connection_id,
            session_id: attached.session,
            user_id: user.sub().to_owned(),
            server_time: now.unix.as_secs_f64(),
            expires_in,
            heartbeat: Heartbeat {
                interval: limits.heartbeat_interval.as_secs_f64(),
                timeout: limits.heartbeat_timeout.as_secs_f64(),
            },
            limits: WelcomeLimits {
                message_bytes: limits.message_bytes as u64,
                messages_per_second: limits.messages_per_second,
                message_burst: limits.message_burst,
                event_bytes: limits.event_bytes as u64,
            },
            service_level: ServiceLevel::Normal,
            streams: vec![StreamEntry {
                stream: StreamName::User,
                event_id: stream.position,
                head: stream.head,
                mode: stream.mode,
                lost: stream.lost,
            }],
        }))
    }

    fn frame(&mut self, now: Now, frame: ClientFrame) {
        let State::Attached(device) = &self.state else { return };
        let user = device.user.clone();
        match frame {
            ClientFrame::UserMessage { id, key, thread_id, content, metadata } => {
                let Some(room) = self.room_to_ask(now, &id) else { return };
                let random = self.hub.inner.entropy.id();
                let sender = Arc::clone(&self.mail);
                let message =
                    NewMessage { user: user.clone(), sender, id, key, thread: thread_id, content, metadata, random };
                self.hub.act_and_ask(&user, room, |shard, now| shard.message(now, message));
            }
            ClientFrame::Command { id, key: Some(_), .. } => {
                self.refuse(now, Some(id), ErrorCode::Unsupported, "commands take no `key` here: leave it out");
            }
            ClientFrame::Command { id, name, args, key: None } => {
                let Some(room) = self.room_to_ask(now, &id) else { return };
                let command = NewCommand { user: user.clone(), sender: Arc::clone(&self.mail), id, name, args };
                self.hub.act_and_ask(&user, room, |shard, now| shard.command(now, command));
            }
            ClientFrame::CancelRun { id, target } => {
                let outcome = self.hub.act(&user, |shard, now| shard.cancel(now, &user, &target));
                let outcome = outcome.map(|(run_id, state)| ReplyOk::Cancel { run_id, state });
                self.connection.send(now, &ServerFrame::Reply(Box::new(Reply { id, outcome })));
            }
            // Advisory: no decision of this version rests on it.
            ClientFrame::Ack { .. } => {}
            ClientFrame::Subscribe { id, .. } | ClientFrame::Unsubscribe { id, .. } => {
                self.refuse(now, Some(id), ErrorCode::NotFound, "no such topic for this token");
            }
            ClientFrame::Approve { id, .. } => {
                self.refuse(now, Some(id), ErrorCode::NotFound, "no such approval is open");
            }
            other @ (ClientFrame::RunStart(_)
            | ClientFrame::RunEvent { .. }
            | ClientFrame::Publish { .. }
            | ClientFrame::Revoke { .. }
            | ClientFrame::Reply(_)) => {
                let id = other.id().cloned();
                self.refuse(now, id, ErrorCode::Unsupported, "this server takes no frames of producers");
            }
            // The connection's own.
            ClientFrame::Hello(_) | ClientFrame::Refresh { .. } | ClientFrame::Ping { .. } => {}
        }
    }

    /// Room among the requests that wait for the application, or an answer that there is none.
    fn room_to_ask(&mut self, now: Now, id: &FrameId) -> Option<Lease> {
        if !*self.hub.inner.requests_taken.lock() {
            self.refuse(now, Some(id.clone()), ErrorCode::Unavailable, "no agent is here to answer: try again later");
            return None;
        }
        let room = self.hub.inner.asks.lease(1);
        if room.is_none() {
            self.refuse(now, Some(id.clone()), ErrorCode::Busy, "too many requests wait: try again in a moment");
        }
        room
    }

    fn refuse(&mut self, now: Now, id: Option<FrameId>, code: ErrorCode, message: &str) {
        self.connection.send_error(now, FrameError { code, message: message.to_owned(), id });
    }

    /// Takes what others left in the mailbox.
    fn collect(&mut self, now: Now) {
        if let State::Attached(device) = &mut self.state {
            device.behind = true;
        }
        loop {
            match self.mail.pop() {
                Popped::Item(Control::Reply(reply)) if self.connection.has_room() => {
                    self.connection.send(now, &ServerFrame::Reply(Box::new(reply)));
                }
                // As when the mailbox is full: what is not read must not pile up here instead.
                Popped::Item(Control::Reply(_)) => self.connection.close(now, CloseReason::WriteStalled),
                Popped::Item(Control::GoingAway) => self.go_away(now),
                // A word for producers, and this is none.
                Popped::Item(Control::CancelRequested { .. }) => {}
                Popped::Empty => break,
                Popped::Closed(reason) => {
                    self.connection.close(now, reason);
                    break;
                }
            }
        }
    }

    /// Announces the end and closes at a moment of this connection's own, so that not all come back at once.
    fn go_away(&mut self, now: Now) {
        let deadline = self.hub.limits().drain_deadline;
        // Enough for a thousand closes a second, and little for a few.
        let pace = std::time::Duration::from_millis(100 + self.hub.inner.gate.inside() as u64).min(deadline / 2);
        let share = |span: std::time::Duration| {
            let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
            std::time::Duration::from_micros(self.hub.inner.entropy.u64() % micros)
        };
        let close_in = share(pace);
        let reconnect_after = share(pace.saturating_mul(2)).as_secs_f64();
        let frame = ServerFrame::GoingAway { deadline: close_in.as_secs_f64(), reconnect_after };
        self.connection.send(now, &frame);
        self.connection.drain_by(now.at + close_in);
    }

    /// Gives the connection what the socket can take of the log.
    fn fill(&mut self, now: Now) {
        while self.connection.wants_events() {
            let State::Attached(device) = &mut self.state else { return };
            if !device.behind {
                return;
            }
            let read = {
                let shard = &self.hub.inner.shards[self.hub.shard_of(&device.user)];
                let shard = shard.lock();
                shard.read(&device.user, device.connection, device.cursor, device.read_bytes())
            };
            match read {
                Read::Entries { entries, behind } => {
                    device.behind = !entries.is_empty();
                    self.give(now, &entries, behind);
                }
                // Its mailbox says why.
                Read::Detached => device.behind = false,
                Read::Lost => self.give_snapshot(now),
            }
        }
    }

    /// Adds what a read has taken, and says when merging begins and ends.
    fn give(&mut self, now: Now, entries: &[Entry], behind: u64) {
        let State::Attached(device) = &mut self.state else { return };
        let threshold = self.hub.limits().lag_entries as u64;
        if !device.merging && behind > threshold {
            device.merging = true;
            self.connection.send(now, &lag(behind, true));
        }
        let user_id = device.user.sub();
        for frame in frames_for(&StreamName::User, Some(user_id), device.cursor, entries, device.merging) {
            match frame.prev {
                None => self.connection.send_encoded(now, &[&frame.frame]),
                Some(prev) => {
                    let tail = frame.frame.get(1..).unwrap_or_default();
                    self.connection.send_encoded(now, &[prev_prefix(prev).as_ref(), tail]);
                }
            }
            device.cursor.seq = frame.seq;
        }
        if device.merging && entries.is_empty() {
            device.merging = false;
            self.connection.send(now, &lag(0, false));
        }
    }

    /// Takes a reader who has nothing before the log to its beginning.
    fn give_snapshot(&mut self, now: Now) {
        let State::Attached(device) = &mut self.state else { return };
        let base = {
            let shard = &self.hub.inner.shards[self.hub.shard_of(&device.user)];
            shard.lock().base(&device.user, device.connection)
        };
        let Some((position, base)) = base else {
            device.behind = false;
            return;
        };
        device.cursor = position;
        for frame in snapshot_frames(&StreamName::User, position, &base) {
            self.connection.send(now, &frame);
        }
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
            let Device { user, connection, pass, .. } = *device;
            self.hub.act(&user, |shard, now| shard.detach(now, &user, connection));
            self.state = State::Gone(Some(pass));
        }
    }
}

const fn lag(behind: u64, merging: bool) -> ServerFrame {
    ServerFrame::Lag { stream: StreamName::User, behind, merging }
}

/// How much of a log one read takes.
const READ_BYTES: usize = 32 << 10;

impl Machine for Session {
    fn poll_ready(&mut self, now: Now, waker: &Waker) {
        while self.mail.take_mark(waker) {
            self.collect(now);
        }
        self.resume_input(now);
        self.fill(now);
        self.settle();
    }

    fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        if self.input.is_empty() {
            self.take_in(now, bytes);
        } else {
            self.input.extend_from_slice(bytes);
        }
    }

    fn handle_eof(&mut self, _now: Now) {
        self.connection.handle_eof();
        self.settle();
    }

    fn handle_broken(&mut self, _now: Now) {
        self.connection.handle_broken();
        self.settle();
    }

    fn handle_timeout(&mut self, now: Now) {
        self.connection.handle_timeout(now);
        self.settle();
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.connection.poll_timeout().map(|(at, _)| at)
    }

    fn transmit(&self) -> &[u8] {
        self.connection.transmit()
    }

    fn advance(&mut self, now: Now, n: usize) {
        self.connection.advance(now, n);
        self.settle();
    }

    fn wants_read(&self) -> bool {
        self.handoff.is_none() && self.input.is_empty() && self.connection.wants_read()
    }

    fn is_closed(&self) -> bool {
        self.handoff.is_some() || self.connection.is_closed()
    }
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
    }
}
