//! A client's end of a WebSocket that does little for a message: one read for all that is there, one write for all that waits,
//! no copy of a payload.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use trunkline_core::codec::frame::{Opcode, encode, encode_close};

use super::clock::Clock;
use crate::raw::whole_frame;

/// What all links of the thread read into, one after the other.
pub(super) type Scratch = Rc<RefCell<Vec<u8>>>;

/// At least so much is read at once where it is there.
const READ: usize = 64 << 10;
const MASK: [u8; 4] = [0x3a, 0x91, 0x07, 0xee];

pub(super) fn scratch() -> Scratch {
    Rc::new(RefCell::new(vec![0; 2 * READ]))
}

/// Why a link gives no more messages.
#[derive(Debug)]
pub(super) enum Ending {
    /// The server's close frame, with its code and its reason.
    Closed(u16, String),
    /// The end of the stream.
    End,
    /// The socket is broken, or the server sends what none does.
    Broken(String),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(code, reason) => write!(f, "the server closed with {code} ({reason})"),
            Self::End => f.write_str("the server ended the stream"),
            Self::Broken(problem) => f.write_str(problem),
        }
    }
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("the socket failed: {error}"))
    }
}

/// The sending side. Whoever has something to send appends it and flushes.
#[derive(Debug)]
pub(super) struct Link {
    write: RefCell<OwnedWriteHalf>,
    out: RefCell<Vec<u8>>,
    sent: Cell<usize>,
    /// The task that reads, which also writes what the socket did not take at once.
    reader: RefCell<Option<Waker>>,
}

/// The receiving side.
#[derive(Debug)]
pub(super) struct Reader {
    read: OwnedReadHalf,
    pub(super) link: Rc<Link>,
    scratch: Scratch,
    clock: Clock,
    /// The beginning of a message whose rest has not come yet.
    rest: Vec<u8>,
}

impl Link {
    /// Appends to what is to be sent.
    pub(super) fn put(&self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.out.borrow_mut());
    }

    /// Sends what the socket takes now; the reader's task sends the rest.
    pub(super) fn flush(&self) {
        let mut out = self.out.borrow_mut();
        while let Some(left) = out.get(self.sent.get()..).filter(|left| !left.is_empty()) {
            match self.write.borrow().try_write(left) {
                Ok(n) => self.sent.set(self.sent.get() + n),
                // The reader's task meets an error as well, and says what it was.
                Err(_) => {
                    if let Some(reader) = self.reader.borrow().as_ref() {
                        reader.wake_by_ref();
                    }
                    return;
                }
            }
        }
        self.sent.set(0);
        out.clear();
    }

    pub(super) fn put_text(&self, text: &str) {
        self.put(|out| encode(out, Opcode::Text, text.as_bytes(), Some(MASK)));
    }

    pub(super) fn put_close(&self, code: u16) {
        self.put(|out| encode_close(out, code, "", Some(MASK)));
    }

    /// Sends what is left as the socket takes it. Ready when there is nothing to send.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.out.borrow_mut();
        while let Some(left) = out.get(self.sent.get()..).filter(|left| !left.is_empty()) {
            let n = ready!(Pin::new(&mut *self.write.borrow_mut()).poll_write(cx, left))?;
            self.sent.set(self.sent.get() + n);
        }
        self.sent.set(0);
        out.clear();
        Poll::Ready(Ok(()))
    }
}

impl Reader {
    /// Both sides of a stream.
    pub(super) fn new(stream: TcpStream, scratch: &Scratch, clock: Clock) -> Self {
        let (read, write) = stream.into_split();
        let link = Link {
            write: RefCell::new(write),
            out: RefCell::default(),
            sent: Cell::default(),
            reader: RefCell::default(),
        };
        Self { read, link: Rc::new(link), scratch: Rc::clone(scratch), clock, rest: Vec::new() }
    }

    /// Waits for bytes and gives every message that is whole, with the time at which they were read. Pings are answered.
    ///
    /// # Errors
    /// When no message comes any more.
    pub(super) async fn turn(&mut self, mut each: impl FnMut(&[u8], u64)) -> Result<(), Ending> {
        poll_fn(|cx| self.poll_turn(cx, &mut each)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, each: &mut dyn FnMut(&[u8], u64)) -> Poll<Result<(), Ending>> {
        let mut reader = self.link.reader.borrow_mut();
        if reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
        drop(reader);
        if let Poll::Ready(Err(error)) = self.link.poll_flush(cx) {
            return Poll::Ready(Err(error.into()));
        }
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        let kept = self.rest.len();
        if scratch.len() < kept + READ {
            scratch.resize(2 * (kept + READ), 0);
        }
        let mut buf = ReadBuf::new(scratch.get_mut(kept..).unwrap_or_default());
        ready!(Pin::new(&mut self.read).poll_read(cx, &mut buf))?;
        let read = buf.filled().len();
        if read == 0 {
            return Poll::Ready(Err(Ending::End));
        }
        let now = self.clock.now();
        if let Some(front) = scratch.get_mut(..kept) {
            front.copy_from_slice(&self.rest);
        }
        let bytes = scratch.get(..kept + read).unwrap_or_default();
        let used = self.messages(bytes, now, each)?;
        self.rest.clear();
        self.rest.extend_from_slice(bytes.get(used..).unwrap_or_default());
        self.link.flush();
        Poll::Ready(Ok(()))
    }

    /// Gives the messages that are whole, and answers how many bytes they take.
    fn messages(&self, bytes: &[u8], now: u64, each: &mut dyn FnMut(&[u8], u64)) -> Result<usize, Ending> {
        let mut at = 0;
        while let Some((first, payload, used)) =
            bytes.get(at..).map(whole_frame).transpose().map_err(Ending::Broken)?.flatten()
        {
            at += used;
            match first {
                0x81 => each(payload, now),
                0x88 => return Err(closing(payload)),
                0x89 => self.link.put(|out| encode(out, Opcode::Pong, payload, Some(MASK))),
                0x8a => {}
                other => return Err(Ending::Broken(format!("the server sent a frame that begins with {other:#x}"))),
            }
        }
        Ok(at)
    }

    /// Bytes that were read beyond what came before the frames.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The messages among the bytes that were kept.
    pub(super) fn kept(&mut self, mut each: impl FnMut(&[u8], u64)) -> Result<(), Ending> {
        let bytes = std::mem::take(&mut self.rest);
        let used = self.messages(&bytes, self.clock.now(), &mut each)?;
        self.rest = bytes.get(used..).unwrap_or_default().to_vec();
        Ok(())
    }

    /// Closes, and waits until the server has done so, too, and ended the stream.
    ///
    /// # Errors
    /// When the server ends in another way.
    pub(super) async fn close(mut self) -> Result<(), Ending> {
        self.link.put_close(1000);
        self.link.flush();
        loop {
            match self.turn(|_, _| ()).await {
                Ok(()) => {}
                Err(Ending::Closed(1000, _)) => break,
                Err(other) => return Err(other),
            }
        }
        // What follows a close frame means nothing, and the server has nothing more to say.
        let mut byte = [0; 1];
        let mut buf = ReadBuf::new(&mut byte);
        poll_fn(|cx| Pin::new(&mut self.read).poll_read(cx, &mut buf)).await?;
        if buf.filled().is_empty() { Ok(()) } else { Err(Ending::Broken("bytes came behind a close frame".to_owned())) }
    }
}

fn closing(payload: &[u8]) -> Ending {
    let (code, reason) = payload.split_first_chunk::<2>().unwrap_or((&[0, 0], &[]));
    Ending::Closed(u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned())
}
