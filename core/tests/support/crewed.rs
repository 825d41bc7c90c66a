//! A crew whose task is polled only where its waker was fired, on sockets and a timer with wakers of their own: whoever is not woken
//! does not go on.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use trunkline_core::crew::{Berth, Crew, Crews};
use trunkline_core::drive::{Timer, Transport};
use trunkline_core::hub::Hub;
use trunkline_core::serve::{Handover, Outcome, Socket, Sockets};
use trunkline_core::time::{Clock, Timestamp};

use super::{Read, World};

/// What was done on which socket, in its order.
pub type Calls = Rc<RefCell<Vec<(usize, Call)>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
}

/// The two ends of a socket: the server has one, and tests the other.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Rc<RefCell<Ends>>);

#[derive(Debug)]
pub struct Ends {
    name: usize,
    calls: Calls,
    /// What comes, a read each at most.
    reads: VecDeque<Read>,
    pub taken: usize,
    /// How many bytes it takes before it is not ready.
    room: usize,
    broken: bool,
    pub written: Vec<u8>,
    /// A flush is not through as long as this is set.
    pub holds_back: bool,
    /// Something was written, and not flushed after that.
    holds: bool,
    pub shutdowns: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// What happens with every call, as if another thread had done it meanwhile.
    meanwhile: Meanwhile,
    /// Whoever serves it is done with it.
    pub over: bool,
}

/// What others do while a socket is used.
#[derive(Clone, Default)]
pub struct Meanwhile(Option<Rc<dyn Fn()>>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            name: 0,
            calls: Calls::default(),
            reads: VecDeque::new(),
            taken: 0,
            room: usize::MAX,
            broken: false,
            written: Vec::new(),
            holds_back: false,
            holds: false,
            shutdowns: 0,
            reader: None,
            writer: None,
            meanwhile: Meanwhile::default(),
            over: false,
        }
    }
}

impl Pipe {
    pub fn new(name: usize, calls: &Calls) -> Self {
        Self(Rc::new(RefCell::new(Ends { name, calls: Rc::clone(calls), ..Ends::default() })))
    }

    /// From here on this happens with every call.
    pub fn meanwhile(&self, happens: Rc<dyn Fn()>) {
        self.ends().meanwhile = Meanwhile(Some(happens));
    }

    fn others_go_on(&self) {
        let meanwhile = self.ends().meanwhile.clone();
        meanwhile.0.iter().for_each(|happens| happens());
    }

    pub fn ends(&self) -> RefMut<'_, Ends> {
        self.0.borrow_mut()
    }

    /// The peer sends this.
    pub fn comes(&self, read: Read) {
        self.ends().reads.push_back(read);
        self.wake_reader();
    }

    pub fn sends(&self, bytes: &[u8]) {
        self.comes(Read::Bytes(bytes.to_vec()));
    }

    /// It takes so many bytes more.
    pub fn makes_room(&self, bytes: usize) {
        let room = self.ends().room;
        self.ends().room = room.saturating_add(bytes);
        self.wake_writer();
    }

    /// It takes nothing more for now.
    pub fn blocks(&self) {
        self.ends().room = 0;
    }

    /// What is held back may go.
    pub fn flushes(&self) {
        self.ends().holds_back = false;
        self.wake_writer();
    }

    /// It fails from here on.
    pub fn breaks(&self) {
        self.ends().broken = true;
        self.wake_reader();
        self.wake_writer();
    }

    /// Whether all that the peer has sent was taken.
    pub fn is_taken(&self) -> bool {
        self.ends().reads.is_empty()
    }

    /// Whether all that was written has left.
    pub fn is_flushed(&self) -> bool {
        !self.ends().holds
    }

    fn wake_reader(&self) {
        let waker = self.ends().reader.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn wake_writer(&self) {
        let waker = self.ends().writer.take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Ends {
    fn note(&self, call: Call) {
        self.calls.borrow_mut().push((self.name, call));
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.note(Call::Read);
        let outcome = self.read(buf);
        self.reader = outcome.is_none().then(|| cx.waker().clone());
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.note(Call::Write);
        let outcome = self.write(bytes);
        self.writer = outcome.is_none().then(|| cx.waker().clone());
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    fn read(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        if self.broken {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        match self.reads.pop_front()? {
            Read::Bytes(bytes) => {
                let n = bytes.len().min(buf.len());
                buf[..n].copy_from_slice(&bytes[..n]);
                self.taken += n;
                if n < bytes.len() {
                    self.reads.push_front(Read::Bytes(bytes[n..].to_vec()));
                }
                Some(Ok(n))
            }
            Read::Eof => Some(Ok(0)),
            Read::Broken => Some(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        if self.broken {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // As a system does: nothing always fits.
        if self.room == 0 && !bytes.is_empty() {
            return None;
        }
        let n = bytes.len().min(self.room);
        self.room -= if self.room == usize::MAX { 0 } else { n };
        self.written.extend_from_slice(&bytes[..n]);
        self.holds |= n > 0;
        Some(Ok(n))
    }
}

impl Transport for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let outcome = self.ends().poll_read(cx, buf);
        self.others_go_on();
        outcome
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = self.ends().poll_write(cx, bytes);
        self.others_go_on();
        outcome
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.ends();
        if ends.holds_back {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ends.holds = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ends().shutdowns += 1;
        Poll::Ready(Ok(()))
    }
}

/// A timer on the clock that tests turn. [`Bell::ring`] is what makes it fire.
#[derive(Clone, Debug, Default)]
pub struct Bell(Rc<RefCell<Set>>);

#[derive(Debug, Default)]
struct Set {
    at: Option<Timestamp>,
    waker: Option<Waker>,
    fired: bool,
}

impl Bell {
    pub fn at(&self) -> Option<Timestamp> {
        self.0.borrow().at
    }

    /// Fires where its moment has come.
    pub fn ring(&self, now: Timestamp) {
        let mut bell = self.0.borrow_mut();
        if bell.at.is_some_and(|at| at <= now) {
            bell.fired = true;
            let waker = bell.waker.take();
            drop(bell);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Fires whatever the time is.
    pub fn ring_early(&self) {
        self.ring(Timestamp::MAX);
    }
}

impl Timer for Bell {
    fn reset(self: Pin<&mut Self>, at: Timestamp) {
        let mut bell = self.0.borrow_mut();
        (bell.at, bell.fired) = (Some(at), false);
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut bell = self.0.borrow_mut();
        if bell.fired {
            return Poll::Ready(());
        }
        bell.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Debug, Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub type Member<O> = Pin<Box<dyn Future<Output = O>>>;
pub type Served = Outcome<Handover<Pipe>>;

/// A crew, and the task that polls it.
pub struct Rig<O> {
    pub crews: Crews<Member<O>>,
    pub crew: Crew<Member<O>, Bell, Hub>,
    pub bell: Bell,
    pub wakes: Arc<Wakes>,
    hub: Hub,
    pub ended: Vec<O>,
}

/// How often a task may be woken before it has to come to rest.
const ENOUGH: usize = 100_000;

impl<O: 'static> Rig<O> {
    pub fn new(world: &World) -> Self {
        let (mut crews, bell, hub) = (Crews::default(), Bell::default(), world.hub.clone());
        let crew = crews.add(bell.clone(), hub.clone());
        let mut rig = Self { crews, crew, bell, wakes: Arc::default(), hub, ended: Vec::new() };
        assert!(rig.poll().is_pending());
        rig
    }

    pub fn seat<F: Future<Output = O> + 'static>(&self, make: impl FnOnce(Berth) -> F) {
        self.crews.seat(|berth| Box::pin(make(berth)) as Member<O>);
    }

    pub fn poll(&mut self) -> Poll<O> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.crew.poll_next(&mut Context::from_waker(&waker))
    }

    /// Polls it as often as it was woken, and not once more.
    pub fn run(&mut self) {
        self.bell.ring(self.hub.now().at);
        for _ in 0..ENOUGH {
            if self.wakes.take() == 0 {
                return;
            }
            while let Poll::Ready(output) = self.poll() {
                self.ended.push(output);
            }
        }
        panic!("it does not come to rest");
    }
}

impl Rig<Served> {
    /// A socket of this name in the crew.
    pub fn serve(&self, sockets: &Sockets, name: usize, calls: &Calls) -> Pipe {
        let (pipe, sockets, session) = (Pipe::new(name, calls), sockets.clone(), sockets.admit(None));
        let (socket, served): (Socket<Pipe>, _) = (Socket::Open(pipe.clone()), pipe.clone());
        self.seat(move |berth| async move {
            let outcome = sockets.serve_in(berth, session, socket).await;
            served.ends().over = true;
            outcome
        });
        pipe
    }
}

/// A socket in a task of its own.
pub struct Lone {
    future: Option<Member<Served>>,
    bell: Bell,
    wakes: Arc<Wakes>,
}

impl Lone {
    pub fn serve(sockets: &Sockets, name: usize, calls: &Calls) -> (Self, Pipe) {
        let (pipe, sockets, session) = (Pipe::new(name, calls), sockets.clone(), sockets.admit(None));
        let (socket, served): (Socket<Pipe>, _) = (Socket::Open(pipe.clone()), pipe.clone());
        let (bell, wakes) = (Bell::default(), Arc::new(Wakes::default()));
        let timer = bell.clone();
        let future: Member<Served> = Box::pin(async move {
            let outcome = sockets.serve(session, socket, timer).await;
            served.ends().over = true;
            outcome
        });
        wakes.wake_by_ref();
        (Self { future: Some(future), bell, wakes }, pipe)
    }

    /// Polls it where it was woken; says whether it was.
    pub fn step(&mut self, now: Timestamp) -> bool {
        self.bell.ring(now);
        let woken = self.wakes.take() > 0;
        if woken && let Some(future) = &mut self.future {
            let waker = Waker::from(Arc::clone(&self.wakes));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.future = None;
            }
        }
        woken
    }
}
