//! Connections in memory, in any weather.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use trunkline_core::drive::{Timer as _, Transport};
use trunkline_core::id::Entropy as _;
use trunkline_core::time::Timestamp;

use super::executor::{Executor, VirtualTimer};
use super::{Seeded, Shared};
use crate::conformance::net::Pipe;

/// What a network does to what is sent over it. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Every read gets a random number of bytes, up to so many; 0 is as many as there are.
    pub fragments: usize,
    /// How long bytes are on their way.
    pub latency: Duration,
}

/// One direction.
struct Channel {
    /// Bytes, and when they are there.
    segments: VecDeque<(Timestamp, VecDeque<u8>)>,
    held: usize,
    capacity: usize,
    ended: bool,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    weather: Weather,
}

impl Channel {
    fn new(capacity: usize, weather: &Weather) -> Shared<Self> {
        Rc::new(RefCell::new(Self {
            segments: VecDeque::new(),
            held: 0,
            capacity,
            ended: false,
            broken: false,
            reader: None,
            writer: None,
            weather: weather.clone(),
        }))
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// One end of a connection.
pub(super) struct Side {
    incoming: Shared<Channel>,
    outgoing: Shared<Channel>,
    chance: Rc<Seeded>,
    executor: Rc<Executor>,
    arrival: VirtualTimer,
}

/// The client's end and the server's.
pub(super) fn lay(
    executor: &Rc<Executor>,
    chance: &Rc<Seeded>,
    weather: &Weather,
    up: usize,
    down: usize,
) -> (Side, Side) {
    let (up, down) = (Channel::new(up, weather), Channel::new(down, weather));
    let side = |incoming: &Shared<Channel>, outgoing: &Shared<Channel>| Side {
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
        chance: Rc::clone(chance),
        executor: Rc::clone(executor),
        arrival: VirtualTimer::new(executor),
    };
    (side(&down, &up), side(&up, &down))
}

impl Side {
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut channel = self.incoming.borrow_mut();
        if channel.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let now = self.executor.now();
        let Some((at, bytes)) = channel.segments.front_mut() else {
            if channel.ended {
                return Poll::Ready(Ok(0));
            }
            channel.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if *at > now {
            Pin::new(&mut self.arrival).reset(*at);
            let _ = Pin::new(&mut self.arrival).poll_elapsed(cx);
            return Poll::Pending;
        }
        let mut most = buf.len().min(bytes.len());
        let empty = bytes.len();
        if channel.weather.fragments > 0 {
            let drawn = self.chance.u64() % channel.weather.fragments as u64;
            most = most.min(usize::try_from(drawn).unwrap_or(0) + 1);
        }
        let Some((_, bytes)) = channel.segments.front_mut() else { return Poll::Pending };
        for (place, byte) in buf.iter_mut().zip(bytes.drain(..most)) {
            *place = byte;
        }
        if most == empty {
            channel.segments.pop_front();
        }
        channel.held -= most;
        if let Some(writer) = channel.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(most))
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut channel = self.outgoing.borrow_mut();
        if channel.broken || channel.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let most = bytes.len().min(channel.capacity - channel.held);
        if most == 0 && !bytes.is_empty() {
            channel.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let at = self.executor.now() + channel.weather.latency;
        let some = bytes.iter().take(most).copied();
        match channel.segments.back_mut() {
            Some((last, held)) if *last == at => held.extend(some),
            Some(_) | None => channel.segments.push_back((at, some.collect())),
        }
        channel.held += most;
        if let Some(reader) = channel.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(most))
    }

    fn end(&mut self) {
        let mut channel = self.outgoing.borrow_mut();
        channel.ended = true;
        channel.wake();
    }
}

/// Whoever lets go of an end can neither read nor write any more; what was written still arrives.
impl Drop for Side {
    fn drop(&mut self) {
        self.end();
        let mut incoming = self.incoming.borrow_mut();
        incoming.broken = true;
        incoming.wake();
    }
}

impl Transport for Side {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.get_mut().read(cx, buf)
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, bytes)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().end();
        Poll::Ready(Ok(()))
    }
}

impl Pipe for Side {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, bytes)
    }

    fn poll_fin(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }

    fn cut(self: Box<Self>) {
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.broken = true;
        outgoing.segments.clear();
        outgoing.held = 0;
        outgoing.wake();
    }
}
