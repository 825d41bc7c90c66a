//! The whole manager in one thread: a poll loop that accepts, reads, writes, keeps house and answers.
//!
//! ```text
//! cargo run -p trunkline-core --example poll_loop -- --dev
//! cargo run -p trunkline-core --example poll_loop -- --listen 0.0.0.0:8787 --secret-file secret
//! ```
//!
//! Each turn waits for sockets, for the earliest deadline of all, and for wakers; then whoever has something to do is driven by
//! hand, through [`Machine`]. It makes sense in a program that has such a loop already, such as a game server or a proxy,
//! where sockets and deadlines of the manager become more entries of its own tables; where one core is all there is; and where a
//! whole server is to be single-stepped. Other threads may hold the hub and publish all the same: their effects come by the wakers.
//!
//! SIGINT and SIGTERM stop it, after its clients were told; a second one ends it at once.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "an adapter reads the clock and has sockets")]

#[path = "support/agent.rs"]
mod agent;
#[path = "support/options.rs"]
mod options;
#[path = "support/system.rs"]
mod system;
#[path = "support/tune.rs"]
mod tune;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Token};
use options::{Options, Outcome};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use system::{SystemClock, SystemEntropy};
use trunkline_core::codec::upgrade::Refusal;
use trunkline_core::drive::{Machine, READ_BYTES};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig, Requests, Session};
use trunkline_core::time::{Clock, Timestamp};

/// Sockets come after them, each with a number that is never used again: what comes late for one reaches nobody.
const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const WAKERS: Token = Token(2);
/// The housekeeper and the receiver of requests look at every turn, so that all that wakes them is the turn itself.
const EVERY_TURN: Token = WAKERS;

/// How many rounds a socket may take before others get their turn.
const BUDGET: usize = 32;
/// Between two tries to accept when there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

fn main() -> Outcome<()> {
    let options = Options::of_process()?;
    let keys = Arc::new(options.keys(&SystemEntropy)?);
    let clock = Arc::new(SystemClock::new());
    let (hub, housekeeper) = Hub::new(HubConfig::default(), keys.clone(), clock, Arc::new(SystemEntropy))?;
    let poll = mio::Poll::new()?;
    let mut listener = TcpListener::bind(options.listen)?;
    tune::tune(&listener);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut signals = signals()?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    options.announce(listener.local_addr()?, &keys, hub.now())?;
    let woken = Arc::new(Woken { tokens: Mutex::default(), waker: mio::Waker::new(poll.registry(), WAKERS)? });
    let server = Server {
        requests: hub.requests(),
        every_turn: woken.waker(EVERY_TURN),
        hub,
        housekeeper,
        poll,
        listener,
        signals,
        woken,
        sockets: BTreeMap::new(),
        due: BTreeSet::new(),
        last: EVERY_TURN,
        accepts: true,
        drains_until: None,
    };
    server.run()
}

/// A pipe that has a byte for each signal.
fn signals() -> Outcome<mio::net::UnixStream> {
    let (here, there) = UnixStream::pair()?;
    pipe::register(SIGINT, there.try_clone()?)?;
    pipe::register(SIGTERM, there)?;
    here.set_nonblocking(true)?;
    Ok(mio::net::UnixStream::from_std(here))
}

struct Server {
    hub: Hub,
    housekeeper: Housekeeper,
    /// `None` once the hub has closed and all is answered.
    requests: Option<Requests>,
    every_turn: Waker,
    poll: mio::Poll,
    listener: TcpListener,
    signals: mio::net::UnixStream,
    woken: Arc<Woken>,
    sockets: BTreeMap<Token, Socket>,
    /// The deadline of each socket that has one.
    due: BTreeSet<(Timestamp, Token)>,
    /// The last token that was given.
    last: Token,
    /// The listener has more, as far as is known.
    accepts: bool,
    drains_until: Option<Timestamp>,
}

struct Socket {
    session: Session,
    stream: TcpStream,
    waker: Waker,
    /// As far as is known: the poll tells of changes only.
    readable: bool,
    writable: bool,
    /// As it stands in the table.
    due: Option<Timestamp>,
}

impl Server {
    fn run(mut self) -> Outcome<()> {
        let mut events = Events::with_capacity(1024);
        let mut turn = BTreeSet::new();
        loop {
            if self.accepts {
                self.accept(&mut turn);
            }
            self.answer_all();
            // After all that may move a deadline.
            let kept = self.housekeeper.poll(&self.every_turn);
            if self.is_over() {
                return Ok(());
            }
            match self.poll.poll(&mut events, self.patience(kept, !turn.is_empty())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accepts = true,
                    SIGNALS => self.signalled(),
                    token => {
                        let Some(socket) = self.sockets.get_mut(&token) else { continue };
                        socket.readable |= event.is_readable() || event.is_read_closed();
                        socket.writable |= event.is_writable() || event.is_write_closed();
                        turn.insert(token);
                    }
                }
            }
            turn.append(&mut self.woken.take());
            let now = self.hub.now().at;
            turn.extend(self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, token)| *token));
            turn = std::mem::take(&mut turn).into_iter().filter(|token| self.drive(*token)).collect();
        }
    }

    /// How long the poll may wait.
    fn patience(&self, kept: Option<Timestamp>, has_more: bool) -> Option<Duration> {
        if has_more {
            return Some(Duration::ZERO);
        }
        let sockets = self.due.first().map(|(at, _)| *at);
        let earliest = kept.into_iter().chain(sockets).chain(self.drains_until).min();
        // The poll counts in milliseconds, and a microsecond early would be a turn for nothing.
        let wait = earliest.map(|at| at.saturating_since(self.hub.now().at) + Duration::from_micros(1));
        // A listener that has more and gives nothing is out of file descriptors.
        wait.into_iter().chain(self.accepts.then_some(ACCEPT_PAUSE)).min()
    }

    /// Every socket that waits. During the drain too: whoever comes is told that there is no room.
    fn accept(&mut self, turn: &mut BTreeSet<Token>) {
        loop {
            let (mut stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.accepts = error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            };
            match self.hub.session_from(peer.ip()) {
                Ok(session) => {
                    let token = Token(self.last.0 + 1);
                    self.last = token;
                    let _ = stream.set_nodelay(true);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if self.poll.registry().register(&mut stream, token, interest).is_err() {
                        // The system watches no more sockets: this one goes, with its place, and the others stay.
                        continue;
                    }
                    let waker = self.woken.waker(token);
                    let socket = Socket { session, stream, waker, readable: false, writable: false, due: None };
                    self.sockets.insert(token, socket);
                    turn.insert(token);
                }
                // It fits into what the system buffers for a new socket; a peer that is gone needs no answer.
                Err(rejected) => drop(stream.write(&rejected.response())),
            }
        }
    }

    /// Drives one socket as far as it goes; says whether it wants another turn at once.
    fn drive(&mut self, token: Token) -> bool {
        let Some(socket) = self.sockets.get_mut(&token) else { return false };
        let more = socket.drive(&self.hub);
        let due = if socket.session.is_closed() { None } else { socket.session.poll_timeout() };
        if due != socket.due {
            socket.due.and_then(|at| self.due.take(&(at, token)));
            self.due.extend(due.map(|at| (at, token)));
            socket.due = due;
        }
        if socket.session.is_closed() {
            socket.end();
            self.sockets.remove(&token);
            return false;
        }
        more
    }

    fn answer_all(&mut self) {
        while let Some(requests) = &mut self.requests {
            match requests.poll_next(&mut Context::from_waker(&self.every_turn)) {
                Poll::Ready(Some(request)) => agent::answer(request),
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return,
            }
        }
    }

    fn signalled(&mut self) {
        let mut bytes = [0; 8];
        while let Ok(1..) = self.signals.read(&mut bytes) {
            if self.drains_until.is_some() {
                std::process::exit(1);
            }
            self.hub.begin_shutdown();
            self.drains_until = Some(self.hub.now().at + self.hub.limits().drain_deadline);
        }
    }

    fn is_over(&self) -> bool {
        let gone = || self.hub.poll_shutdown(&mut Context::from_waker(&self.every_turn)).is_ready();
        self.drains_until.is_some_and(|deadline| gone() || deadline <= self.hub.now().at)
    }
}

impl Socket {
    /// As `trunkline_core::drive::Driver` does it where there is a runtime; says whether there may be more at once.
    fn drive(&mut self, hub: &Hub) -> bool {
        for _ in 0..BUDGET {
            let now = hub.now();
            self.session.poll_ready(now, &self.waker);
            let wrote = self.write(hub);
            if self.session.is_closed() {
                return false;
            }
            if self.session.wants_shutdown() {
                // A peer that is gone does not make the end any different.
                let _ = self.stream.shutdown(Shutdown::Write);
                self.session.handle_shutdown();
            }
            let read = self.session.wants_read() && self.readable && self.read(hub);
            let due = self.session.poll_timeout().is_some_and(|at| at <= now.at);
            if due {
                self.session.handle_timeout(now);
            }
            if !wrote && !read && !due {
                return false;
            }
        }
        true
    }

    fn write(&mut self, hub: &Hub) -> bool {
        let mut wrote = false;
        while self.writable && !self.session.transmit().is_empty() {
            match self.stream.write(self.session.transmit()) {
                Ok(n) if n > 0 => self.session.advance(hub.now(), n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    break;
                }
                Ok(_) | Err(_) => self.session.handle_broken(hub.now()),
            }
            wrote = true;
        }
        wrote
    }

    fn read(&mut self, hub: &Hub) -> bool {
        let mut buf = [0; READ_BYTES];
        let room = self.session.read_bytes().clamp(1, READ_BYTES);
        match self.stream.read(&mut buf[..room]) {
            Ok(0) => self.session.handle_eof(hub.now()),
            Ok(n) => self.session.handle_bytes(hub.now(), &buf[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return false;
            }
            Err(_) => self.session.handle_broken(hub.now()),
        }
        true
    }

    /// The socket closes as it is dropped.
    fn end(&mut self) {
        if self.session.take_handoff().is_some() {
            // It fits, as nothing was written before, or nobody is there.
            let _ = self.stream.write(&Refusal::NotFound.response());
        }
    }
}

/// The sockets that wakers have named since the last turn.
struct Woken {
    tokens: Mutex<BTreeSet<Token>>,
    waker: mio::Waker,
}

impl Woken {
    fn waker(self: &Arc<Self>, token: Token) -> Waker {
        Arc::new(Named(token, Arc::clone(self))).into()
    }

    fn take(&self) -> BTreeSet<Token> {
        std::mem::take(&mut self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The waker of one socket; any thread may use it.
struct Named(Token, Arc<Woken>);

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        let Self(token, woken) = &*self;
        let first = {
            let mut tokens = woken.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let was_empty = tokens.is_empty();
            tokens.insert(*token);
            was_empty
        };
        if first {
            // Where the loop cannot be told it finds the name at its next turn.
            let _ = woken.waker.wake();
        }
    }
}
