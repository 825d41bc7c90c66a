//! Who talks to the server beside devices and back ends: strangers who never finish, copies of devices, and bytes of sockets that
//! were given up.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use trunkline_core::client::{Client, ClientConfig};
use trunkline_core::id::Entropy;
use trunkline_core::protocol::Position;
use trunkline_core::time::{Clock as _, Now, Timestamp};

use super::clock::Flag;
use super::device::Device;
use super::pipe::Read;
use super::server::{Line, Server};
use super::world::Ctx;

#[derive(Default)]
pub(super) struct Outsiders {
    strangers: Vec<Stranger>,
    twins: Vec<Twin>,
    /// Sockets whose other ends were given up without a word.
    pub(super) ghosts: Vec<Line>,
}

/// Sends a byte at a time.
struct Stranger {
    line: Line,
    sent: usize,
    every: Duration,
    next: Timestamp,
}

/// Has a device's session and token.
struct Twin {
    client: Client,
    line: Line,
    flag: Arc<Flag>,
    waker: Waker,
}

/// More are ended before others come.
const MOST: usize = 6;
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: trunkline.v1\r\n\r\n";

/// The upgrade, and the head of a message that never ends.
fn byte(at: usize) -> u8 {
    const HEAD: [u8; 8] = [0x81, 0xfe, 0x10, 0x00, 0, 0, 0, 0];
    UPGRADE.as_bytes().get(at).or_else(|| HEAD.get(at - UPGRADE.len())).copied().unwrap_or(b'{')
}

impl Outsiders {
    pub(super) fn come(&mut self, ctx: &Ctx, server: &mut Server, greets: bool, every: Duration) {
        if self.strangers.len() >= MOST {
            let gone = self.strangers.remove(0);
            gone.line.up.borrow_mut().end();
        }
        let line = server.accept(ctx);
        let sent = if greets { UPGRADE.len() } else { 0 };
        // It fits, or nobody is there.
        let _ = line.up.borrow_mut().write(&UPGRADE.as_bytes()[..sent]);
        let next = ctx.clock.at() + every;
        self.strangers.push(Stranger { line, sent, every, next });
    }

    /// Continues a device's session by its own token.
    pub(super) fn copy(&mut self, ctx: &Ctx, server: &mut Server, device: &Device) {
        if self.twins.len() >= MOST {
            drop(self.twins.remove(0));
        }
        let config = ClientConfig {
            host: "sim".into(),
            target: "/ws".into(),
            token: device.token.1.clone(),
            session: device.session,
            resume: device.view.at.or(Some(Position::NONE)),
            threads: Vec::new(),
            producer: None,
            name: "twin".into(),
        };
        let entropy = Arc::clone(&ctx.entropy) as Arc<dyn Entropy>;
        let Ok(client) = Client::new(ctx.clock.now(), config, entropy) else { return };
        let line = server.accept(ctx);
        let flag = Arc::new(Flag::default());
        flag.set();
        self.twins.push(Twin { client, line, waker: Waker::from(Arc::clone(&flag)), flag });
    }

    /// Keeps a socket that was given up without a word.
    pub(super) fn keep(&mut self, line: Line) {
        if self.ghosts.len() >= 2 * MOST {
            end(&self.ghosts.remove(0));
        }
        self.ghosts.push(line);
    }

    /// Bytes of such a socket arrive.
    pub(super) fn late(&self, ghost: u8, bytes: usize) -> bool {
        let Some(line) = self.ghosts.get(usize::from(ghost) % self.ghosts.len().max(1)) else { return false };
        line.up.borrow_mut().let_through(Some(bytes));
        true
    }

    /// The end of such a socket arrives.
    pub(super) fn late_end(&mut self, ghost: u8) {
        if !self.ghosts.is_empty() {
            end(&self.ghosts.swap_remove(usize::from(ghost) % self.ghosts.len()));
        }
    }

    /// Everybody goes.
    pub(super) fn leave(&mut self) {
        self.ghosts.drain(..).for_each(|line| end(&line));
        self.strangers.drain(..).for_each(|stranger| end(&stranger.line));
        self.twins.drain(..).for_each(|twin| end(&twin.line));
    }

    pub(super) fn time(&mut self, now: Now) {
        for stranger in &mut self.strangers {
            if stranger.next <= now.at {
                stranger.next = now.at + stranger.every;
                // Whether anybody reads, the pump sees.
                let _ = stranger.line.up.borrow_mut().write(&[byte(stranger.sent)]);
                stranger.sent += 1;
            }
        }
        for twin in &mut self.twins {
            if twin.client.poll_timeout().is_some_and(|due| due <= now.at) {
                twin.client.handle_timeout(now);
                twin.flag.set();
            }
        }
    }

    pub(super) fn next_due(&self) -> Timestamp {
        let strangers = self.strangers.iter().map(|stranger| stranger.next);
        let twins = self.twins.iter().filter_map(|twin| twin.client.poll_timeout());
        strangers.chain(twins).min().unwrap_or(Timestamp::MAX)
    }

    pub(super) fn pump(&mut self, ctx: &Ctx) -> bool {
        self.strangers.retain(|stranger| !is_over(&stranger.line));
        self.ghosts.retain(|line| !line.up.borrow().is_broken());
        let before = self.twins.len();
        self.twins.retain_mut(|twin| !twin.flag.take() || twin.pump(ctx));
        self.twins.len() != before
    }
}

fn end(line: &Line) {
    line.up.borrow_mut().let_through(None);
    line.up.borrow_mut().end();
    line.down.borrow_mut().break_off();
}

/// Whether the server has ended a stranger's connection.
fn is_over(line: &Line) -> bool {
    let mut buffer = [0; 256];
    loop {
        match line.down.borrow_mut().read(&mut buffer) {
            Read::Some(_) => {}
            Read::Nothing => return false,
            Read::End | Read::Broken => break,
        }
    }
    line.up.borrow_mut().end();
    true
}

impl Twin {
    /// Says whether it goes on.
    fn pump(&mut self, ctx: &Ctx) -> bool {
        let now = ctx.clock.now();
        let mut buffer = [0; 4_096];
        loop {
            while self.client.poll_event().is_some() {}
            while let Some(n) = self.line.up.borrow_mut().write(self.client.transmit()).filter(|n| *n > 0) {
                self.client.advance(n);
            }
            if self.client.is_closed() {
                return false;
            }
            let read = self.line.down.borrow_mut().read(&mut buffer);
            match read {
                Read::Some(n) => self.client.handle_bytes(now, &buffer[..n]),
                Read::End | Read::Broken => self.client.handle_eof(),
                Read::Nothing => {
                    self.line.down.borrow_mut().wake_when_readable(&self.waker);
                    return true;
                }
            }
        }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.line.up.borrow_mut().end();
        self.line.down.borrow_mut().break_off();
    }
}
