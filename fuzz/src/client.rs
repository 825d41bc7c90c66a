//! A client that comes back, against a server that sends anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trunkline_core::client::{
    Credentials, Output, Reconnecting, ReconnectingConfig, State, TokenError, Update, Wanted,
};
use trunkline_core::codec::frame::{Opcode, encode};
use trunkline_core::codec::upgrade::{Head, check_upgrade, parse_head};
use trunkline_core::id::{Entropy, FrameId, ThreadId};
use trunkline_core::limits::Limits;
use trunkline_core::protocol::{ClientFrame, Position, StreamName};
use trunkline_core::time::{Now, Timestamp, UnixTime};

/// Whatever a server sends and whatever breaks: no panic; the events of a stream rise, or a gap is told; sockets stay within what the back-off
/// allows; nothing is due for ever; it stops once at most, and tells nothing of a connection then.
///
/// The bytes are records: what happens, its length, and so many bytes. By the first byte modulo 8 that is: an answer to the upgrade; bytes of the
/// server; one text frame; the end of the socket; time, in quarters of a second for each byte's value; a message of the application; a token or a socket
/// that comes, or does not where the payload is not empty; the end, for good where the payload is not empty.
pub fn client(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let Some((&[kind, len], payload)) = rest.split_first_chunk() {
        let (payload, after) = payload.split_at(payload.len().min(len.into()));
        world.step(kind % 8, payload);
        world.check();
        rest = after;
    }
}

#[derive(Default)]
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93);
            chunk.copy_from_slice(&mixed.to_be_bytes()[..chunk.len()]);
        }
    }
}

struct World {
    client: Reconnecting,
    micros: u64,
    asked: Option<u64>,
    opening: Option<u64>,
    sockets: u64,
    tokens: u64,
    messages: u64,
    at: Option<Position>,
    stopped: bool,
}

impl World {
    fn new() -> Self {
        let config = ReconnectingConfig::new("ws://localhost/ws".parse().expect("an address"));
        let client =
            Reconnecting::new(Now::default(), config, Arc::new(Counter::default())).expect("a good configuration");
        let (asked, opening, at) = (None, None, None);
        let (micros, sockets, tokens, messages, stopped) = (0, 0, 0, 0, false);
        let mut world = Self { client, micros, asked, opening, sockets, tokens, messages, at, stopped };
        world.drain();
        world
    }

    fn now(&self) -> Now {
        Now { at: Timestamp::from_micros(self.micros), unix: UnixTime::default() }
    }

    fn step(&mut self, kind: u8, payload: &[u8]) {
        let now = self.now();
        match kind {
            0 => self.upgrade(),
            1 => self.client.handle_bytes(now, payload),
            2 => {
                let mut frame = Vec::new();
                encode(&mut frame, Opcode::Text, payload, None);
                self.client.handle_bytes(now, &frame);
            }
            3 => self.client.handle_eof(now),
            4 => self.micros += payload.iter().map(|byte| u64::from(*byte) * 250_000).sum::<u64>(),
            5 => self.say(payload),
            6 => self.give(payload.is_empty()),
            _ if payload.is_empty() => self.client.reconnect_now(now),
            _ => self.client.close(now),
        }
        self.drain();
    }

    fn upgrade(&mut self) {
        let request = self.client.transmit().to_vec();
        self.client.advance(self.now(), request.len());
        if let Ok(Head::Complete { request, .. }) = parse_head(&request, &Limits::default()) {
            let answer =
                check_upgrade(&request).expect("the client's requests are good").response(Some("trunkline.v1"));
            self.client.handle_bytes(self.now(), &answer);
        }
    }

    fn say(&mut self, payload: &[u8]) {
        self.messages += 1;
        let frame = ClientFrame::UserMessage {
            id: FrameId::new(&self.messages.to_string()).expect("digits are an id"),
            key: None,
            thread_id: ThreadId::new("t").expect("a letter is an id"),
            content: String::from_utf8_lossy(payload).into_owned(),
            metadata: None,
        };
        // One over the bound, or after the end, is refused.
        let _ = self.client.request(self.now(), frame);
    }

    fn give(&mut self, good: bool) {
        let now = self.now();
        if let Some(ask) = self.asked.take() {
            self.tokens += 1;
            let given = Ok(Credentials::token(&self.tokens.to_string()));
            let none = Err(TokenError::Unavailable(String::new()));
            self.client.handle_credentials(now, ask, if good { given } else { none });
        } else if let Some(attempt) = self.opening.take() {
            self.client.handle_open(now, attempt, if good { Ok(()) } else { Err(String::new()) });
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Ask(ask, Wanted::Socket | Wanted::Another | Wanted::Renewal) => self.asked = Some(ask),
                Output::Open(attempt) => {
                    self.sockets += 1;
                    self.opening = Some(attempt);
                }
                Output::Tell(update) => self.hear(update),
            }
        }
    }

    fn hear(&mut self, update: Update) {
        assert!(!self.stopped || matches!(update, Update::Undone { .. }), "told after the end: {update:?}");
        if let Update::Gap { stream: StreamName::User, .. } = update {
            self.at = None;
        } else if let Update::Event(event) = &update
            && event.stream == StreamName::User
        {
            assert!(self.at.is_none_or(|at| at < event.position && at.epoch == event.position.epoch));
            self.at = Some(event.position);
        }
        self.stopped |= matches!(update, Update::State(State::Stopped(_)));
    }

    /// Does what is due, which comes to an end.
    fn check(&mut self) {
        for round in 0.. {
            let due = self.client.poll_timeout().is_some_and(|due| due <= self.now().at);
            if !due {
                break;
            }
            assert!(round < 20, "it spins: {:?}", self.client);
            self.client.handle_timeout(self.now());
            self.drain();
        }
        let seconds = Duration::from_micros(self.micros).as_secs();
        // Whoever hurries it has it so.
        assert!(self.sockets <= 64 + 2 * seconds + self.tokens + 1_000, "{} sockets in {seconds} s", self.sockets);
    }
}
