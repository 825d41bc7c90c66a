//! A device: the client machine that comes back, its end of the network, and what it has been told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use trunkline_core::client::{Credentials, Output, Reconnecting, ReconnectingConfig, TokenError, Wanted};
use trunkline_core::id::{Entropy, SessionId};
use trunkline_core::protocol::{ClientFrame, Position};
use trunkline_core::time::{Clock as _, Now, Timestamp};

use super::cast;
use super::clock::Flag;
use super::issuer::Issuer;
use super::lie::Lie;
use super::pipe::Read;
use super::server::{Line, Server};
use super::topics::Topics;
use super::truth::Truth;
use super::view::View;
use super::world::Ctx;

pub(super) struct Device {
    pub(super) client: Reconnecting,
    pub(super) line: Option<Line>,
    pub(super) view: View,
    pub(super) topics: Topics,
    pub(super) session: Option<SessionId>,
    /// The token that it showed last, by number, and as a text.
    pub(super) token: (u64, String),
    /// Sockets that it gave up, whose ends nobody told the server of.
    pub(super) ghosts: Vec<Line>,
    /// No socket opens.
    pub(super) offline: bool,
    /// None does any more, whatever ends.
    pub(super) unreachable: bool,
    /// What the network makes of the beginning of the next.
    pub(super) next_lie: Option<Lie>,
    /// The next socket opens, and what it sends waits.
    pub(super) delay: bool,
    /// What nobody answered yet.
    ask: Option<(u64, Wanted)>,
    opening: Option<u64>,
    pub(super) requests: BTreeMap<u64, Request>,
    pub(super) flag: Arc<Flag>,
    waker: Waker,
    /// It has gone, by its own wish or because the server wants it so.
    pub(super) gone: bool,
    /// Something happened after which the server may tell the client to stop.
    pub(super) may_stop: bool,
    /// What it is told by this connection ends here.
    pub(super) limit: Option<Position>,
    pub(super) failures: u32,
    pub(super) welcomed: Option<Timestamp>,
    /// Its session lasted, so that failures may be forgotten.
    pub(super) lasted: bool,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Message,
    Command,
    Cancel,
    Approve,
    Follow,
    Leave(usize),
}

/// What the world says of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supply {
    pub(super) up: bool,
    pub(super) life: Duration,
}

impl Device {
    pub(super) fn new(ctx: &Ctx, name: usize) -> Self {
        let (user, filter) = cast::DEVICES[name];
        let view = View::new(name, user, filter);
        let topics = Topics::new(user);
        let client = machine(ctx, filter, None, &topics);
        let flag = Arc::new(Flag::default());
        flag.set();
        Self {
            client,
            line: None,
            view,
            topics,
            session: None,
            token: (0, String::new()),
            ghosts: Vec::new(),
            offline: false,
            unreachable: false,
            next_lie: None,
            delay: false,
            ask: None,
            opening: None,
            requests: BTreeMap::new(),
            waker: Waker::from(Arc::clone(&flag)),
            flag,
            gone: false,
            may_stop: false,
            limit: None,
            failures: 0,
            welcomed: None,
            lasted: false,
        }
    }

    /// Comes again where it has gone: with what it knows, or as a new one.
    pub(super) fn come(&mut self, ctx: &Ctx, afresh: bool) {
        if !self.gone {
            return;
        }
        if afresh {
            self.view.forget();
        }
        self.start_over(ctx);
        (self.gone, self.may_stop, self.failures, self.welcomed, self.lasted) = (false, false, 0, None, false);
    }

    /// Another client takes the place of the one that there was.
    pub(super) fn start_over(&mut self, ctx: &Ctx) {
        // What was seen of topics is with the client that is gone.
        self.topics = Topics::new(self.view.user);
        // Runs that it knows of go on where it was.
        self.client = machine(ctx, self.view.filter, self.view.at, &self.topics);
        (self.ask, self.opening, self.line, self.session) = (None, None, None, None);
        self.requests.clear();
        self.flag.set();
    }

    /// Goes on as far as it can; says whether anything moved.
    pub(super) fn pump(&mut self, ctx: &Ctx, server: &mut Server, truth: &mut Truth, supply: Supply) -> bool {
        if !self.flag.take() {
            return false;
        }
        let now = ctx.clock.now();
        loop {
            self.drain(ctx, server, truth);
            let moved = self.supply(ctx, now, supply) | self.write(now) | self.read(ctx, now);
            if !self.client.has_socket()
                && let Some(line) = self.line.take()
            {
                self.let_go(line);
            }
            if !moved {
                break;
            }
        }
        self.drain(ctx, server, truth);
        true
    }

    fn drain(&mut self, ctx: &Ctx, server: &mut Server, truth: &mut Truth) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Ask(number, wanted) => self.ask = Some((number, wanted)),
                Output::Open(attempt) => {
                    self.opening = Some(attempt);
                    self.open(ctx, server);
                }
                Output::Tell(update) => self.hear(ctx, server, truth, update),
            }
        }
    }

    /// Opens the socket that is wanted.
    pub(super) fn open(&mut self, ctx: &Ctx, server: &mut Server) {
        let Some(attempt) = self.opening.take() else { return };
        let now = ctx.clock.now();
        if self.offline || self.unreachable {
            self.client.handle_open(now, attempt, Err("offline".to_owned()));
            return;
        }
        if let Some(line) = self.line.take() {
            self.let_go(line);
        }
        if self.client.handle_open(now, attempt, Ok(())) {
            let line = server.accept(ctx);
            if std::mem::take(&mut self.delay) {
                line.up.borrow_mut().hold();
            }
            line.down.borrow_mut().wake_when_readable(&self.waker);
            line.down.borrow_mut().lie = self.next_lie.take();
            self.limit = None;
            self.line = Some(line);
        }
    }

    /// Answers what is asked for credentials; says whether anything was.
    fn supply(&mut self, ctx: &Ctx, now: Now, supply: Supply) -> bool {
        let Some((number, wanted)) = self.ask else { return false };
        if !self.client.awaits_credentials(number) {
            self.ask = None;
            return false;
        }
        if !supply.up {
            // One that is asked for ahead waits for its deadline, others are told.
            if wanted == Wanted::Renewal {
                return false;
            }
            self.ask = None;
            self.client.handle_credentials(now, number, Err(TokenError::Unavailable("down".to_owned())));
            return true;
        }
        self.ask = None;
        let token = self.issue(ctx, supply.life);
        self.client.handle_credentials(now, number, Ok(Credentials::token(&token)));
        true
    }

    /// A new token of its user's.
    pub(super) fn issue(&mut self, ctx: &Ctx, life: Duration) -> String {
        let id = ctx.next_token();
        let token = Issuer::issue(self.view.user, id, ctx.clock.true_unix(), life);
        self.token = (id, token.clone());
        token
    }

    fn write(&mut self, now: Now) -> bool {
        let Some(line) = &self.line else { return false };
        let mut moved = false;
        while !self.client.transmit().is_empty() {
            let mut up = line.up.borrow_mut();
            match up.write(self.client.transmit()) {
                Some(0) => {
                    up.wake_when_writable(&self.waker);
                    break;
                }
                Some(n) => {
                    drop(up);
                    self.client.advance(now, n);
                }
                None => {
                    drop(up);
                    self.client.handle_eof(now);
                }
            }
            moved = true;
        }
        moved
    }

    fn read(&mut self, ctx: &Ctx, now: Now) -> bool {
        let Some(line) = &self.line else { return false };
        if !self.client.wants_read() {
            return false;
        }
        let mut buffer = [0; 4_096];
        let read = line.down.borrow_mut().read(&mut buffer);
        match read {
            Read::Some(n) => {
                ctx.trace.bytes(line.number | 1 << 30, &buffer[..n]);
                self.client.handle_bytes(now, &buffer[..n]);
                true
            }
            Read::End | Read::Broken => {
                self.client.handle_eof(now);
                true
            }
            Read::Nothing => {
                line.down.borrow_mut().wake_when_readable(&self.waker);
                false
            }
        }
    }

    /// The client is done with a socket. What it sent and what is held back may still arrive.
    fn let_go(&mut self, line: Line) {
        if line.up.borrow().flows() {
            line.up.borrow_mut().end();
            line.down.borrow_mut().break_off();
        } else {
            self.ghosts.push(line);
        }
    }

    /// What is due happens.
    pub(super) fn time(&mut self, now: Now) {
        if self.client.poll_timeout().is_some_and(|due| due <= now.at) {
            self.client.handle_timeout(now);
            self.flag.set();
        }
    }

    /// Makes a request, unless the client has too many.
    pub(super) fn request(&mut self, now: Now, number: u64, what: Request, frame: ClientFrame) -> bool {
        if self.client.request(now, frame).is_err() {
            return false;
        }
        self.requests.insert(number, what);
        self.flag.set();
        true
    }

    /// Whether what the server sends comes at once, and the other way round.
    pub(super) fn flows(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.up.borrow().flows() && line.down.borrow().flows())
    }
}

fn machine(ctx: &Ctx, filter: u8, resume: Option<Position>, topics: &Topics) -> Reconnecting {
    let endpoint = "ws://sim/ws".parse().unwrap_or_else(|error| unreachable!("an address: {error}"));
    let mut config = ReconnectingConfig::new(endpoint);
    config.threads = cast::thread(filter).into_iter().collect();
    config.topics = topics.wanted();
    config.resume = resume;
    let entropy = Arc::clone(&ctx.entropy) as Arc<dyn Entropy>;
    Reconnecting::new(ctx.clock.now(), config, entropy).unwrap_or_else(|error| unreachable!("{error}"))
}
