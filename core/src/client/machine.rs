//! One connection of a client.

#[cfg(test)]
mod fingerprint;
mod streams;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::acks::Acks;
use super::outbound::Outbound;
use super::places::Carried;
use super::received::{self, Received};
use super::renewal::{Refreshes, Renewal};
use super::{ClientConfig, ClientEvent, Fault};
use crate::codec::frame::{Assembler, Message, Opcode, Role};
use crate::codec::upgrade::{ClientHandshake, UpgradeError, client_request};
use crate::error::CloseReason;
use crate::id::{Entropy, FrameId, SessionId, TopicName};
use crate::limits::Limits;
use crate::protocol::{
    ClientFrame, ClientInfo, Hello, MAX_HELLO_TOPICS, Mode, Position, Reply, ReplyOk, ServerFrame, StreamName, Token,
    Welcome,
};
use crate::stream::Reducer;
use crate::time::{Now, Timestamp};

/// A client's connection.
pub struct Client {
    config: ClientConfig,
    limits: Limits,
    phase: Phase,
    deadline: Timestamp,
    assembler: Assembler,
    out: Outbound,
    events: Received,
    places: super::places::Places,
    topics: Vec<TopicName>,
    /// Topics that the server is asked to leave out, by the request: once it does so, their places are free.
    leaving: Vec<(FrameId, TopicName)>,
    session: Option<SessionId>,
    silence: Duration,
    acks: Acks,
    renewal: Renewal,
    refreshes: Refreshes,
    reducer: Reducer,
    end: Option<Result<(u16, String), Fault>>,
}

enum Phase {
    Upgrade(Box<ClientHandshake>, Vec<u8>),
    Welcome,
    Live,
    /// Our close frame is out.
    Closing,
    Closed,
}

/// From the connection to the welcome.
const WELCOME_DEADLINE: Duration = Duration::from_secs(15);
/// What one frame of the server may have: an event, or a window of them.
const MAX_FRAME: usize = 1 << 20;

impl Client {
    /// A client on a fresh socket. Its first bytes are the upgrade request.
    ///
    /// # Errors
    /// When host or target cannot stand in a request.
    pub fn new(now: Now, config: ClientConfig, entropy: Arc<dyn Entropy>) -> Result<Self, UpgradeError> {
        let carried = Carried::of_user(config.resume);
        Self::carrying(now, config, carried, entropy)
    }

    /// The same, going on with what an earlier connection had; `config.resume` is not looked at.
    pub(super) fn carrying(
        now: Now,
        config: ClientConfig,
        carried: Carried,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, UpgradeError> {
        let nonce = entropy.id().to_be_bytes();
        let protocols = [crate::auth::carrier::TRUNKLINE_V1];
        let handshake = client_request(&config.host, &config.target, nonce, &protocols, None)?;
        let out = Outbound::new(entropy, handshake.request_bytes().to_vec());
        Ok(Self {
            places: carried.places,
            topics: carried.topics,
            leaving: Vec::new(),
            session: config.session,
            config,
            limits: Limits::default(),
            phase: Phase::Upgrade(Box::new(handshake), Vec::new()),
            deadline: now.at + WELCOME_DEADLINE,
            assembler: Assembler::new(Role::Client, MAX_FRAME),
            out,
            events: Received::default(),
            silence: Duration::MAX,
            acks: Acks::default(),
            renewal: Renewal::default(),
            refreshes: Refreshes::default(),
            reducer: carried.reducer,
            end: None,
        })
    }

    /// Sends a frame; before the welcome it is dropped, since nothing may precede it: wait for [`ClientEvent::Welcome`].
    pub fn send(&mut self, frame: &ClientFrame) {
        if matches!(self.phase, Phase::Live) {
            self.out.text(&frame.encode());
            if let ClientFrame::Unsubscribe { id, topic } = frame
                && self.leaving.len() < MAX_HELLO_TOPICS
            {
                self.leaving.push((id.clone(), topic.clone()));
            }
        }
    }

    /// Gives the server a new token of the same user; before the welcome it is dropped. One `refresh` is under way at a time: while
    /// the server looks at one, the newest waits. Its answer comes as a [`ServerFrame::Reply`] like any other.
    pub fn refresh(&mut self, token: Token) {
        if matches!(self.phase, Phase::Live)
            && let Some(frame) = self.refreshes.refresh(token)
        {
            self.out.text(&frame.encode());
        }
    }

    /// Takes bytes from the socket.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        let mut rest = self.upgrade(now, bytes);
        if matches!(self.phase, Phase::Live) {
            self.deadline = now.at + self.silence;
        }
        while !matches!(self.phase, Phase::Upgrade(..) | Phase::Closed) {
            match self.assembler.push(&mut rest) {
                Ok(Some(message)) => self.message(now, message),
                Ok(None) => break,
                Err(fault) => return self.fail(Fault::Protocol(fault.to_string())),
            }
        }
        self.linger(now);
        self.acknowledge(now);
        self.ask_for_token(now);
    }

    /// The socket ended.
    pub fn handle_eof(&mut self) {
        self.fail(Fault::Lost);
    }

    /// Gives up what is overdue, tells the server how far it is where that has waited, and asks for a token where one is needed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.deadline <= now.at {
            self.fail(Fault::Silent);
        }
        self.acknowledge(now);
        self.ask_for_token(now);
    }

    /// When [`Client::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match self.phase {
            // What it has left to say, it says until then.
            Phase::Closed => (!self.transmit().is_empty()).then_some(self.deadline),
            Phase::Live => self.acks.due().into_iter().chain(self.renewal.due()).chain([self.deadline]).min(),
            Phase::Upgrade(..) | Phase::Welcome | Phase::Closing => Some(self.deadline),
        }
    }

    /// Ends the connection from this side.
    pub fn close(&mut self, now: Now) {
        match self.phase {
            Phase::Welcome | Phase::Live => {
                self.out.close(CloseReason::Normal.code());
                self.phase = Phase::Closing;
                self.deadline = now.at + self.limits.close_deadline;
            }
            Phase::Upgrade(..) => {
                // There is no WebSocket to close: the socket just ends.
                self.out.clear();
                self.finish(Ok((CloseReason::Normal.code(), String::new())));
            }
            Phase::Closing | Phase::Closed => {}
        }
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.poll_sized_event().map(|(event, _)| event)
    }

    /// The same with the bytes of its frame.
    pub(super) fn poll_sized_event(&mut self) -> Option<(ClientEvent, usize)> {
        self.events.pop()
    }

    /// Whether there is anything to tell.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What the next connection goes on with.
    pub(super) fn into_carried(self) -> Carried {
        Carried { places: self.places, topics: self.topics, reducer: self.reducer }
    }

    /// What the socket is to be given next.
    pub fn transmit(&self) -> &[u8] {
        self.out.transmit()
    }

    /// The socket took `n` bytes.
    pub fn advance(&mut self, n: usize) {
        self.out.advance(n);
    }

    /// Whether to read: not while what came waits to be taken.
    pub fn wants_read(&self) -> bool {
        !self.is_closed() && self.events.has_room()
    }

    /// Whether the socket is done with, its last bytes included.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed) && self.transmit().is_empty()
    }

    /// How it ended: the close frame's code and text, or a fault.
    pub const fn end(&self) -> Option<&Result<(u16, String), Fault>> {
        self.end.as_ref()
    }

    /// The position of the user's own stream to resume from.
    pub fn position(&self) -> Option<Position> {
        self.position_in(&StreamName::User)
    }

    /// The position to resume any stream from; a topic has one once its subscription was answered.
    pub fn position_in(&self, stream: &StreamName) -> Option<Position> {
        self.places.get(stream)
    }

    /// The session to continue.
    pub const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The runs that the events so far tell of.
    pub const fn reducer(&self) -> &Reducer {
        &self.reducer
    }

    fn upgrade<'a>(&mut self, now: Now, bytes: &'a [u8]) -> &'a [u8] {
        let Phase::Upgrade(handshake, buffer) = &mut self.phase else { return bytes };
        let before = buffer.len();
        buffer.extend_from_slice(bytes);
        match handshake.parse_response(buffer, &self.limits) {
            Ok(None) => &[],
            Ok(Some((len, _))) => {
                self.phase = Phase::Welcome;
                self.hello(now);
                bytes.get(len.saturating_sub(before)..).unwrap_or_default()
            }
            Err(error) => {
                self.fail(Fault::Upgrade(error));
                &[]
            }
        }
    }

    fn hello(&mut self, now: Now) {
        self.deadline = now.at + WELCOME_DEADLINE;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Hello {
            token: Some(&self.config.token).filter(|token| !token.is_empty()).map(|token| Token::new(token)),
            session_id: self.session,
            resume: self.places.all().clone(),
            client: Some(ClientInfo { name: Some(self.config.name.clone()), version: Some(version) }),
            threads: self.config.threads.clone(),
            topics: self.topics.clone(),
            producer: self.config.producer.clone(),
        };
        self.out.text(&ClientFrame::Hello(Box::new(hello)).encode());
    }

    fn message(&mut self, now: Now, message: Message) {
        match message {
            Message::Text(text) => self.frame(now, &text),
            Message::Binary(_) => self.fail(Fault::Protocol("a binary message".into())),
            // RFC 6455 section 5.5.3: a pong may answer several pings, so one that finds the socket full is left out.
            Message::Ping(_) if self.transmit().len() > MAX_FRAME => {}
            Message::Ping(payload) => self.out.frame(Opcode::Pong, payload.as_bytes()),
            Message::Pong(_) => {}
            Message::Close(code, text) => {
                // 1005 says that the frame had no code: RFC 6455 section 7.4.1.
                let code = code.unwrap_or(1005);
                if !matches!(self.phase, Phase::Closing) {
                    self.out.close(code);
                }
                self.finish(Ok((code, text.into())));
            }
        }
    }

    fn frame(&mut self, now: Now, text: &str) {
        self.events.frame(text.len());
        let frame = match ServerFrame::parse(text) {
            Ok(frame) => frame,
            Err(error) => return self.fail(Fault::Protocol(error.to_string())),
        };
        match (&self.phase, frame) {
            (Phase::Welcome, ServerFrame::Welcome(welcome)) => self.welcome(now, welcome),
            (Phase::Welcome, _) => self.fail(Fault::Protocol("the first frame is no welcome".into())),
            (Phase::Live, ServerFrame::Welcome(_)) => self.fail(Fault::Protocol("a second welcome".into())),
            (Phase::Live, ServerFrame::Event(event)) => self.event(event),
            (Phase::Live, ServerFrame::Position { stream, prev, event_id }) => self.moved(stream, prev, event_id),
            (Phase::Live, ServerFrame::Deltas(window)) => self.window(window),
            (Phase::Live, ServerFrame::Snapshot(part)) => self.snapshot(part),
            (Phase::Live, ServerFrame::Reply(reply)) => self.reply(now, reply),
            (Phase::Live, ServerFrame::AuthExpiring { expires_in }) => {
                self.renewal.announced(now.at, seconds(expires_in))
            }
            (Phase::Live, frame) => self.events.push(ClientEvent::Frame(Box::new(frame))),
            // Too late to matter.
            (Phase::Upgrade(..) | Phase::Closing | Phase::Closed, _) => {}
        }
    }

    fn welcome(&mut self, now: Now, welcome: Box<Welcome>) {
        let own = welcome.streams.iter().find(|entry| entry.stream == StreamName::User);
        self.acks = own.map_or_else(Acks::default, |entry| Acks::begin(entry.event_id));
        match own {
            Some(entry) if entry.mode == Mode::Reset => self.reducer.clear(),
            Some(_) => {}
            // A producer has none.
            None if self.config.producer.is_some() => {}
            None => return self.fail(Fault::Protocol("the welcome names no stream".into())),
        }
        for entry in &welcome.streams {
            if let Err(fault) = self.places.resume(entry) {
                return self.refuse(fault);
            }
        }
        self.renewal.installed(now.at, seconds(welcome.expires_in));
        self.session = Some(welcome.session_id);
        // A ping, its answer's time, and as much again for the way.
        self.silence = seconds(welcome.heartbeat.interval + 2.0 * welcome.heartbeat.timeout);
        self.deadline = now.at + self.silence;
        self.phase = Phase::Live;
        self.events.push(ClientEvent::Welcome(welcome));
    }

    /// Tells the server how far it is, where that is due.
    fn acknowledge(&mut self, now: Now) {
        let is_due = matches!(self.phase, Phase::Live) && self.acks.due().is_some_and(|at| at <= now.at);
        if let Some(event_id) = self.position().filter(|_| is_due) {
            self.acks.told(now.at, event_id);
            self.out.text(&ClientFrame::Ack { stream: StreamName::User, event_id }.encode());
        }
    }

    /// Asks the owner for a token, where that is due.
    fn ask_for_token(&mut self, now: Now) {
        if matches!(self.phase, Phase::Live)
            && let Some(left) = self.renewal.ask(now.at)
        {
            // An answer that did not come until now is not worth the token's life.
            if let Some(next) = self.refreshes.give_up() {
                self.out.text(&next.encode());
            }
            let frame = ServerFrame::AuthExpiring { expires_in: left.as_secs_f64() };
            self.events.push(ClientEvent::Frame(Box::new(frame)));
        }
    }

    /// The answer to a subscription says where its stream continues, and the one to a refresh how long the token lives.
    fn reply(&mut self, now: Now, reply: Box<Reply>) {
        let left = self.leaving.iter().position(|(id, _)| *id == reply.id).map(|at| self.leaving.remove(at));
        if let Ok(ReplyOk::Stream(entry)) = &reply.outcome {
            if let Err(fault) = self.places.begin(entry) {
                return self.refuse(fault);
            }
        } else if let Ok(ReplyOk::Refreshed { expires_in }) = &reply.outcome {
            self.renewal.refreshed(now.at, seconds(*expires_in));
        } else if let (Ok(ReplyOk::Done), Some((_, topic))) = (&reply.outcome, left) {
            self.places.leave(topic);
        }
        if let Some(next) = self.refreshes.answered(&reply.id) {
            self.out.text(&next.encode());
        }
        self.events.push(ClientEvent::Frame(Box::new(ServerFrame::Reply(reply))));
    }

    /// A socket that is done with but for a last word does not wait for it for ever.
    fn linger(&mut self, now: Now) {
        if matches!(self.phase, Phase::Closed) {
            self.deadline = self.deadline.min(now.at + self.limits.close_deadline);
        }
    }

    /// Closes on what the server has done wrong.
    fn refuse(&mut self, fault: Fault) {
        self.out.close(CloseReason::ProtocolError.code());
        self.fail(fault);
    }

    fn fail(&mut self, fault: Fault) {
        let lost = matches!(fault, Fault::Lost | Fault::Silent);
        if lost {
            // Nobody takes it any more.
            self.out.clear();
        }
        self.finish(Err(fault));
    }

    fn finish(&mut self, end: Result<(u16, String), Fault>) {
        self.end.get_or_insert(end);
        self.phase = Phase::Closed;
    }
}

/// Shows where it stands, not what it carries.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Upgrade(..) => "upgrade",
            Phase::Welcome => "welcome",
            Phase::Live => "live",
            Phase::Closing => "closing",
            Phase::Closed => "closed",
        };
        f.debug_struct("Client").field("phase", &phase).field("places", &self.places).finish_non_exhaustive()
    }
}

/// What is no number of seconds that there can be is for ever.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
