//! The network: pipes that cut, split and hold back at any byte.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use trunkline_core::drive::Transport;

use super::lie::{Lie, tell};
use super::trace::Trace;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Channel {
    bytes: Vec<u8>,
    taken: usize,
    capacity: usize,
    /// So many bytes may still be read; `None` is as many as there are.
    pub(super) allowed: Option<usize>,
    /// One read gets at most so many; 0 is as many as there are.
    pub(super) fragment: usize,
    /// What the network makes of the next event.
    pub(super) lie: Option<Lie>,
    /// Nothing that is written arrives.
    swallows: bool,
    ended: bool,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

pub(super) type Shared = Rc<RefCell<Channel>>;

/// What a read comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Some(usize),
    Nothing,
    End,
    Broken,
}

impl Channel {
    pub(super) fn new(capacity: usize) -> Shared {
        Rc::new(RefCell::new(Self { capacity, ..Self::default() }))
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Read {
        if self.broken {
            return Read::Broken;
        }
        let held = self.bytes.len() - self.taken;
        let mut most = held.min(out.len()).min(self.allowed.unwrap_or(usize::MAX));
        if self.fragment > 0 {
            most = most.min(self.fragment);
        }
        if most == 0 {
            return if held == 0 && self.ended && self.allowed.is_none() { Read::End } else { Read::Nothing };
        }
        out[..most].copy_from_slice(&self.bytes[self.taken..self.taken + most]);
        self.taken += most;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
        self.allowed = self.allowed.map(|allowed| allowed - most);
        self.writer.take().into_iter().for_each(Waker::wake);
        Read::Some(most)
    }

    /// How many were taken; `None` where nobody reads any more.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.broken || self.ended {
            return None;
        }
        let held = self.bytes.len() - self.taken;
        let most = bytes.len().min(self.capacity.saturating_sub(held));
        if let Some(told) = self.lie.and_then(|lie| tell(lie, &bytes[..most])) {
            self.swallows = self.lie.take() == Some(Lie::Swallow);
            self.bytes.extend_from_slice(&told);
        } else if !self.swallows {
            self.bytes.extend_from_slice(&bytes[..most]);
        }
        if most > 0 {
            self.wake_reader();
        }
        Some(most)
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.wake_reader();
    }

    /// Nothing that is under way arrives.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
        self.bytes.clear();
        self.taken = 0;
        self.wake_reader();
        self.writer.take().into_iter().for_each(Waker::wake);
    }

    /// So many more bytes may be read, or all of them.
    pub(super) fn let_through(&mut self, bytes: Option<usize>) {
        self.allowed = bytes.map(|bytes| self.allowed.unwrap_or(0) + bytes);
        self.wake_reader();
    }

    /// Nothing comes any more, and nobody is told.
    pub(super) fn silence(&mut self) {
        (self.broken, self.ended) = (false, false);
        self.bytes.clear();
        self.taken = 0;
        self.allowed = Some(0);
    }

    /// So many more, where they are held back at all.
    pub(super) fn trickle(&mut self, bytes: usize) {
        if self.allowed.is_some() {
            self.let_through(Some(bytes));
        }
    }

    pub(super) fn hold(&mut self) {
        self.allowed.get_or_insert(0);
    }

    pub(super) fn narrow(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.writer.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn wake_when_readable(&mut self, waker: &Waker) {
        self.reader = Some(waker.clone());
    }

    pub(super) fn wake_when_writable(&mut self, waker: &Waker) {
        self.writer = Some(waker.clone());
    }

    /// Whether everything that was written can be read now.
    pub(super) const fn flows(&self) -> bool {
        self.allowed.is_none() && !self.broken
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// The server's end of a connection.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) number: u64,
    pub(super) incoming: Shared,
    pub(super) outgoing: Shared,
    pub(super) trace: Trace,
}

impl Transport for Side {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut incoming = self.incoming.borrow_mut();
        match incoming.read(buf) {
            Read::Some(n) => {
                self.trace.bytes(self.number, &buf[..n]);
                Poll::Ready(Ok(n))
            }
            Read::End => Poll::Ready(Ok(0)),
            Read::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Nothing => {
                incoming.wake_when_readable(cx.waker());
                Poll::Pending
            }
        }
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut outgoing = self.outgoing.borrow_mut();
        match outgoing.write(bytes) {
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(0) => {
                outgoing.wake_when_writable(cx.waker());
                Poll::Pending
            }
            Some(n) => {
                self.trace.bytes(self.number | 1 << 31, &bytes[..n]);
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.borrow_mut().end();
        Poll::Ready(Ok(()))
    }
}

/// Whoever lets go of an end can neither read nor write any more; what was written still arrives.
impl Drop for Side {
    fn drop(&mut self) {
        self.outgoing.borrow_mut().end();
        self.incoming.borrow_mut().break_off();
    }
}
