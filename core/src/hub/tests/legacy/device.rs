//! A client of the legacy managers.

use std::task::Waker;
use std::time::Duration;

use serde_json::Value;

use crate::codec::frame::{Assembler, Message, Opcode, Role, encode};
use crate::drive::Machine;
use crate::hub::Session;
use crate::hub::tests::harness::{World, ident};

/// A legacy client: it reads JSON and knows nothing of positions.
pub(in crate::hub::tests) struct Legacy {
    pub(in crate::hub::tests) session: Option<Session>,
    assembler: Option<Assembler>,
    pub(in crate::hub::tests) head: String,
    pub(in crate::hub::tests) frames: Vec<Value>,
    pub(in crate::hub::tests) closed: Option<u16>,
}

pub(in crate::hub::tests) const OFFERS: &str = "Sec-WebSocket-Protocol: jwt-auth, jwt.";

impl Legacy {
    /// A device of `user` that has come in.
    pub(in crate::hub::tests) fn enter(world: &World, user: &str) -> Self {
        let mut device = Self::at(world, "/ws", &offering(world, user));
        let welcome = device.take(world);
        assert_eq!(welcome[0]["type"], "connection_established", "{welcome:?} {:?}", device.closed);
        device
    }

    /// Whatever becomes of an upgrade with these header lines.
    pub(in crate::hub::tests) fn at(world: &World, target: &str, lines: &str) -> Self {
        let session = Some(world.hub.session().unwrap());
        let mut device = Self { session, assembler: None, head: String::new(), frames: Vec::new(), closed: None };
        device.feed(
            world,
            format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
            )
            .as_bytes(),
        );
        device
    }

    pub(in crate::hub::tests) fn feed(&mut self, world: &World, bytes: &[u8]) {
        if let Some(session) = &mut self.session {
            session.handle_bytes(world.now(), bytes);
        }
        self.pump(world);
    }

    pub(in crate::hub::tests) fn say(&mut self, world: &World, text: &str) {
        let mut frame = Vec::new();
        encode(&mut frame, Opcode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        self.feed(world, &frame);
    }

    pub(in crate::hub::tests) fn send(&mut self, world: &World, frame: &Value) {
        self.say(world, &frame.to_string());
    }

    pub(in crate::hub::tests) fn pump(&mut self, world: &World) {
        let now = world.now();
        loop {
            let Some(session) = &mut self.session else { return };
            session.poll_ready(now, Waker::noop());
            let down = session.transmit().to_vec();
            session.advance(now, down.len());
            if session.is_closed() {
                self.session = None;
            }
            if down.is_empty() {
                return;
            }
            self.read(&down);
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.assembler.is_none() {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("the whole head at once") + 4;
            self.head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            self.assembler = Some(Assembler::new(Role::Client, 1 << 20));
            // What follows a refusal is no frame.
            rest = if self.head.starts_with("HTTP/1.1 101") { &bytes[end..] } else { &[] };
        }
        let assembler = self.assembler.as_mut().unwrap();
        while let Some(message) = assembler.push(&mut rest).expect("sound frames") {
            match message {
                Message::Text(text) => self.frames.push(serde_json::from_str(&text).unwrap()),
                Message::Close(code, _) => self.closed = code,
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Binary(_) => panic!("no binary messages"),
            }
        }
    }

    /// What came since the last call.
    pub(in crate::hub::tests) fn take(&mut self, world: &World) -> Vec<Value> {
        self.pump(world);
        std::mem::take(&mut self.frames)
    }

    pub(in crate::hub::tests) fn types(&mut self, world: &World) -> Vec<String> {
        self.take(world).iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect()
    }
}

pub(in crate::hub::tests) fn offering(world: &World, user: &str) -> String {
    format!("{OFFERS}{}\r\n", world.token(&ident(user), Duration::from_secs(3600)))
}
