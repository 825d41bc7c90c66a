//! The socket that sends anything, and what must hold of all that it is given.

use std::task::Waker;

use trunkline_core::codec::deflate::Deflate;
use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role, encode};
use trunkline_core::drive::Machine;
use trunkline_core::hub::Session;
use trunkline_core::id::{FrameId, RunId, UserId};
use trunkline_core::protocol::{Position, ReplyOk, RequestBody, ServerFrame, StreamName, Welcome};

use super::bystander::MARK;
use super::world::{USERS, World, limits};

pub(super) struct Stranger {
    session: Session,
    /// Everything that was read, until the upgrade is over.
    read: Vec<u8>,
    given: Given,
}

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: trunkline.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

impl Stranger {
    /// 0 is freshly accepted, 1 upgraded, 2 welcomed, 3 welcomed as a producer.
    pub(super) fn new(world: &World, stage: u8) -> Self {
        // The one before may not be dropped yet: there is room for more than one.
        let session = world.hub.session().expect("room");
        let mut stranger = Self { session, read: Vec::new(), given: Given::default() };
        if stage > 0 {
            stranger.feed(UPGRADE, world);
        }
        match stage {
            0 | 1 => {}
            2 => stranger.say(br#"{"type":"hello","token":"$T"}"#, world),
            _ => stranger.say(br#"{"type":"hello","token":"$P","producer":{"id":"p"}}"#, world),
        }
        stranger
    }

    /// As the driver does: nothing is read unless the session wants it.
    pub(super) fn feed(&mut self, bytes: &[u8], world: &World) {
        self.settle(world);
        if !self.session.wants_read() {
            self.take(usize::MAX, world);
        }
        if self.session.is_closed() || !self.session.wants_read() {
            return;
        }
        self.read.extend_from_slice(bytes);
        self.session.handle_bytes(world.now(), bytes);
        if let Some(head) = self.session.take_handoff() {
            assert_eq!(head, self.read, "the web stack gets every byte");
            assert!(self.session.transmit().is_empty(), "and the answer is its alone");
        }
        self.settle(world);
    }

    pub(super) fn say(&mut self, text: &[u8], world: &World) {
        let mut frame = Vec::new();
        encode(&mut frame, Opcode::Text, &self.filled(text), Some([0x17, 0x2a, 0x3c, 0x4e]));
        self.feed(&frame, world);
    }

    /// The peer takes up to `n` bytes of output.
    pub(super) fn take(&mut self, n: usize, world: &World) {
        let mut left = n;
        while left > 0 && !self.session.transmit().is_empty() {
            let bytes = self.session.transmit();
            let bytes = bytes[..left.min(bytes.len())].to_vec();
            left -= bytes.len();
            self.session.advance(world.now(), bytes.len());
            self.given.take(&bytes, world);
            self.settle(world);
        }
    }

    pub(super) fn eof(&mut self, world: &World) {
        self.session.handle_eof(world.now());
    }

    pub(super) fn broken(&mut self, world: &World) {
        self.session.handle_broken(world.now());
    }

    /// What a driver does between two inputs, and what must hold then.
    pub(super) fn settle(&mut self, world: &World) {
        let now = world.now();
        for _ in 0..MAX_ROUNDS {
            self.session.poll_ready(now, Waker::noop());
            if self.session.poll_timeout().is_none_or(|at| at > now.at) {
                return self.check(world);
            }
            self.session.handle_timeout(now);
        }
        panic!("a deadline that is due stays due");
    }

    /// A text with what its placeholders stand for: `$T` a good token, `$P` a producer's, `$R` the run and `$Q` the request
    /// that were named last.
    fn filled(&self, text: &[u8]) -> Vec<u8> {
        let run = self.given.run.map(|run| run.to_string()).unwrap_or_default();
        let request = self.given.request.as_ref().map(FrameId::as_str).unwrap_or_default();
        let meanings = [("$T", &*USERS.stranger_token), ("$P", &*USERS.producer_token), ("$R", &*run), ("$Q", request)];
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            match meanings.iter().find(|(name, _)| rest.starts_with(name.as_bytes())) {
                Some((name, meaning)) => {
                    out.extend_from_slice(meaning.as_bytes());
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        out
    }

    fn check(&self, world: &World) {
        let closed = self.session.is_closed();
        assert!(closed || self.session.poll_timeout().is_some(), "every phase but the last owns a deadline");
        let its_own = |user: &UserId| [&USERS.stranger, &USERS.producer].contains(&user) && world.verified(user);
        assert!(self.session.user().is_none_or(its_own));
        let waiting = self.session.transmit().len();
        assert!(waiting <= max_waiting(), "{waiting} bytes wait for the socket");
        let input = self.session.input_bytes();
        assert!(input <= MAX_READ, "{input} bytes of input wait");
    }
}

const AGREED: &[u8] = b"permessage-deflate";
const MAX_ROUNDS: usize = 16;
/// The longest that is fed at once: 256 bytes, with tokens in them.
const MAX_READ: usize = 32 << 10;

/// The session's high-water mark and one read of the log, 32 KiB each; one event; control frames twice: those whose
/// bytes are counted, and the answers to one read.
fn max_waiting() -> usize {
    let limits = limits();
    (64 << 10) + limits.event_bytes + 2 * limits.control_bytes.max(limits.producer_control_bytes) + MAX_READ
}

/// What the socket was given: an HTTP answer, then frames.
#[derive(Default)]
struct Given {
    head: Vec<u8>,
    frames: Option<Assembler>,
    /// Who was welcomed, once somebody was.
    welcomed: Option<&'static UserId>,
    /// In the user's own stream, which a producer's connection does not have.
    position: Option<Position>,
    /// The run that a frame named last.
    run: Option<RunId>,
    /// The request that came last.
    request: Option<FrameId>,
    closed: bool,
}

impl Given {
    fn take(&mut self, bytes: &[u8], world: &World) {
        let Some(frames) = &mut self.frames else { return self.take_head(bytes, world) };
        let mut rest = bytes;
        let mut messages = Vec::new();
        while let Some(message) = frames.push(&mut rest).expect("the server's frames are sound") {
            messages.push(message);
        }
        for message in messages {
            self.message(message, world);
        }
    }

    fn take_head(&mut self, bytes: &[u8], world: &World) {
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        assert!(self.head.starts_with(b"HTTP/1.1 "));
        if self.head.starts_with(b"HTTP/1.1 101 ") {
            let mut frames = Assembler::new(Role::Client, 1 << 20);
            // Where it was agreed on, which a socket that writes its own head need not have.
            if self.head[..end].windows(AGREED.len()).any(|words| words == AGREED) {
                frames.set_deflate(Deflate::default());
            }
            self.frames = Some(frames);
            let rest = self.head.split_off(end + 4);
            self.take(&rest, world);
        }
    }

    fn message(&mut self, message: Message, world: &World) {
        assert!(!self.closed, "nothing follows a close frame");
        match message {
            Message::Text(text) => {
                assert!(!text.contains(MARK), "what is for somebody else");
                self.frame(ServerFrame::parse(&text).expect("a frame of the specification"), world);
            }
            Message::Binary(_) => panic!("the protocol has no binary messages"),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(code, _) => {
                assert!(code.is_some());
                self.closed = true;
            }
        }
    }

    fn frame(&mut self, frame: ServerFrame, world: &World) {
        match (self.welcomed, frame) {
            (None, ServerFrame::Welcome(welcome)) => self.welcome(&welcome, world),
            (None, other) => panic!("before the welcome came {other:?}"),
            (Some(_), ServerFrame::Welcome(_)) => panic!("a second welcome"),
            (Some(user), ServerFrame::Event(event)) => {
                // One for now only is in no stream, and topics are not followed here.
                let before = self.position.expect("an event on a producer's connection");
                assert_eq!((event.position.epoch, event.follows()), (before.epoch, before.seq), "no gap, no double");
                assert_eq!(event.user_id.as_deref(), Some(user.sub()));
                self.position = Some(event.position);
                self.run = event.run_id.or(self.run);
            }
            (Some(user), ServerFrame::Request(request)) => {
                assert_eq!((user, request.user_id.as_str()), (&USERS.producer, USERS.stranger.sub()));
                self.request = Some(request.id);
                if let RequestBody::UserMessage { run_id, .. } | RequestBody::CancelRun { run_id, .. } = request.body {
                    self.run = Some(run_id);
                }
            }
            (Some(_), ServerFrame::Reply(reply)) => {
                if let Ok(ReplyOk::RunStarted { run_id, .. } | ReplyOk::Run { run_id }) = reply.outcome {
                    self.run = Some(run_id);
                }
            }
            (Some(_), _) => {}
        }
    }

    fn welcome(&mut self, welcome: &Welcome, world: &World) {
        let known = [&USERS.stranger, &USERS.producer].into_iter().find(|user| welcome.user_id == user.sub());
        let user = known.expect("a user whose token the stranger has");
        assert!(world.verified(user), "a welcome without a good token");
        let own = welcome.streams.iter().find(|entry| entry.stream == StreamName::User);
        assert!(own.is_some() || user == &USERS.producer, "the user's own stream");
        self.welcomed = Some(user);
        self.position = own.map(|entry| entry.event_id);
    }
}
