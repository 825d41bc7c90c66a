//! A server without a runtime: `std::net`, and two threads for each socket.
//!
//! ```text
//! cargo run -p trunkline-core --example threads -- --dev
//! cargo run -p trunkline-core --example threads -- --listen 0.0.0.0:8787 --secret-file secret
//! ```
//!
//! It drives each [`Session`] by hand, through [`Machine`]: this is the whole of what a runtime's adapter does. Of the two
//! threads one waits until the socket can be read, and the other does everything else; it sleeps until a byte, a deadline or an
//! effect of another thread comes. That is simple, fits into a program that has threads already, and does for some hundreds
//! of sockets; for more take a runtime, or the one thread of the example `poll_loop`.
//!
//! SIGINT and SIGTERM stop it, after its clients were told; a second one ends it at once.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "an adapter reads the clock and has threads")]

#[path = "support/agent.rs"]
mod agent;
#[path = "support/options.rs"]
mod options;
#[path = "support/system.rs"]
mod system;
#[path = "support/tune.rs"]
mod tune;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use options::{Options, Outcome};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use system::{SystemClock, SystemEntropy};
use trunkline_core::codec::upgrade::Refusal;
use trunkline_core::drive::{Machine, READ_BYTES};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig, Requests, Session};
use trunkline_core::time::{Clock, Timestamp};

/// How long a write may wait for the socket before deadlines and other threads are looked at again.
const WRITE_PATIENCE: Duration = Duration::from_millis(100);
/// Between two tries to accept when there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Nothing here recurses.
const STACK_BYTES: usize = 256 << 10;

fn main() -> Outcome<()> {
    let options = Options::of_process()?;
    let keys = Arc::new(options.keys(&SystemEntropy)?);
    let clock = Arc::new(SystemClock::new());
    let (hub, housekeeper) = Hub::new(HubConfig::default(), keys.clone(), clock, Arc::new(SystemEntropy))?;
    let listener = TcpListener::bind(options.listen)?;
    tune::tune(&listener);
    let stopped = stop_on_signals()?;
    options.announce(listener.local_addr()?, &keys, hub.now())?;
    if let Some(requests) = hub.requests() {
        thread::spawn(move || attend(requests));
    }
    let accepting = hub.clone();
    thread::spawn(move || accept(&listener, &accepting));
    keep(&hub, &housekeeper, &stopped);
    Ok(())
}

/// The first signal sets the flag and wakes this thread, the second one ends the process.
fn stop_on_signals() -> Outcome<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let (flag, main) = (Arc::clone(&stopped), thread::current());
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if flag.swap(true, Ordering::AcqRel) {
                std::process::exit(1);
            }
            main.unpark();
        }
    });
    Ok(stopped)
}

/// Keeps house until the stop, and then until every connection is closed or the drain has taken its time.
fn keep(hub: &Hub, housekeeper: &Housekeeper, stopped: &AtomicBool) {
    let waker = Unpark::this_thread();
    while !stopped.load(Ordering::Acquire) {
        park_until(hub, housekeeper.poll(&waker));
    }
    hub.begin_shutdown();
    let deadline = hub.now().at + hub.limits().drain_deadline;
    while hub.poll_shutdown(&mut Context::from_waker(&waker)).is_pending() && hub.now().at < deadline {
        let next = housekeeper.poll(&waker).unwrap_or(deadline).min(deadline);
        park_until(hub, Some(next));
    }
}

fn attend(mut requests: Requests) {
    let waker = Unpark::this_thread();
    loop {
        match requests.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(request)) => agent::answer(request),
            Poll::Ready(None) => return,
            Poll::Pending => thread::park(),
        }
    }
}

/// For ever: whoever comes during the drain is told that there is no room.
fn accept(listener: &TcpListener, hub: &Hub) {
    loop {
        let Ok((stream, peer)) = listener.accept() else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        // Here, not in the thread: the hub goes by the order of the sockets.
        match hub.session_from(peer.ip()) {
            // Without a thread the session is dropped, and its place with it.
            Ok(session) => drop(thread::Builder::new().stack_size(STACK_BYTES).spawn(|| serve(session, stream))),
            // It fits into what the system buffers for a new socket; a peer that is gone needs no answer.
            Err(rejected) => drop((&stream).write(&rejected.response())),
        }
    }
}

/// Serves one socket to its end, as `trunkline_core::drive::Driver` does where there is a runtime.
fn serve(mut session: Session, stream: TcpStream) -> io::Result<()> {
    let hub = session.hub().clone();
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    let waker = Unpark::this_thread();
    let watched = Watched::new(stream)?;
    while !session.is_closed() {
        let now = hub.now();
        // Registered before anything is looked at: an effect that comes from now on ends the next sleep.
        session.poll_ready(now, &waker);
        let (wrote, blocked) = write(&mut session, &watched.stream, &hub);
        if session.wants_shutdown() {
            // A peer that is gone does not make the end any different.
            let _ = watched.stream.shutdown(Shutdown::Write);
            session.handle_shutdown();
        }
        let read = session.wants_read() && watched.is_readable() && read(&mut session, &watched, &hub);
        let due = session.poll_timeout();
        if due.is_some_and(|at| at <= hub.now().at) {
            session.handle_timeout(hub.now());
        } else if !wrote && !read && !blocked && !session.is_closed() {
            park_until(&hub, due);
        }
    }
    if session.take_handoff().is_some() {
        // As above: it fits, or nobody is there.
        let _ = (&*watched.stream).write(&Refusal::NotFound.response());
    }
    Ok(())
}

/// Writes what there is. Says whether the socket took anything, and whether it would not take more.
fn write(session: &mut Session, mut stream: &TcpStream, hub: &Hub) -> (bool, bool) {
    let mut wrote = false;
    while !session.transmit().is_empty() {
        match stream.write(session.transmit()) {
            Ok(n) if n > 0 => session.advance(hub.now(), n),
            Err(error) if is_early(&error) => return (wrote, true),
            Ok(_) | Err(_) => session.handle_broken(hub.now()),
        }
        wrote = true;
    }
    (wrote, false)
}

/// Reads once from a socket that has something; says whether it did.
fn read(session: &mut Session, watched: &Watched, hub: &Hub) -> bool {
    let mut buf = [0; READ_BYTES];
    let room = session.read_bytes().clamp(1, READ_BYTES);
    match (&*watched.stream).read(&mut buf[..room]) {
        Ok(0) => session.handle_eof(hub.now()),
        Ok(n) => session.handle_bytes(hub.now(), &buf[..n]),
        Err(error) if is_early(&error) => return false,
        Err(_) => session.handle_broken(hub.now()),
    }
    watched.watch_on();
    true
}

/// Neither done nor broken.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// A socket, and a thread that says when it can be read without waiting. Dropped, it is closed and the thread ends.
struct Watched {
    stream: Arc<TcpStream>,
    state: Arc<State>,
    watcher: Thread,
}

/// Between the two threads of a socket.
#[derive(Default)]
struct State {
    /// Bytes, the end or an error are there.
    readable: AtomicBool,
    over: AtomicBool,
}

impl Watched {
    fn new(stream: TcpStream) -> io::Result<Self> {
        let (stream, state) = (Arc::new(stream), Arc::new(State::default()));
        let (socket, shared, reader) = (Arc::clone(&stream), Arc::clone(&state), thread::current());
        let watcher = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || watch(&socket, &shared, &reader))?;
        Ok(Self { stream, state, watcher: watcher.thread().clone() })
    }

    fn is_readable(&self) -> bool {
        self.state.readable.load(Ordering::Acquire)
    }

    fn watch_on(&self) {
        self.state.readable.store(false, Ordering::Release);
        self.watcher.unpark();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Release);
        // The sending side ends too, after what was written; a peer that is gone does not make the end any different.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.watch_on();
    }
}

fn watch(stream: &TcpStream, state: &State, reader: &Thread) {
    while !state.over.load(Ordering::Acquire) {
        match stream.peek(&mut [0]) {
            Err(error) if is_early(&error) => continue,
            Ok(_) | Err(_) => state.readable.store(true, Ordering::Release),
        }
        reader.unpark();
        // Not before the other thread has read: until then there would always be something.
        while state.readable.load(Ordering::Acquire) && !state.over.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

/// Wakes a thread that is parked, or keeps it from parking next.
struct Unpark(Thread);

impl Unpark {
    fn this_thread() -> Waker {
        Arc::new(Self(thread::current())).into()
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn park_until(hub: &Hub, at: Option<Timestamp>) {
    match at {
        Some(at) => thread::park_timeout(at.saturating_since(hub.now().at)),
        None => thread::park(),
    }
}
