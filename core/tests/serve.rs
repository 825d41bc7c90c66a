//! What becomes of a listener's sockets, on scripted sockets and a clock that stands still until it is turned.
#![cfg(not(loom))]

mod support;

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::{Read, Socket, World};
use trunkline_core::drive::{Timer, Transport};
use trunkline_core::hub::Hub;
use trunkline_core::limits::Limits;
use trunkline_core::serve::{Outcome, Sockets, Unread, answer, serve_socket};
use trunkline_core::time::{Clock, Timestamp};

/// A timer on the clock that tests turn.
struct OnClock(Hub, Timestamp);

impl Timer for OnClock {
    fn reset(mut self: Pin<&mut Self>, at: Timestamp) {
        self.1 = at;
    }

    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if self.0.now().at >= self.1 { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn timer(world: &World) -> OnClock {
    OnClock(world.hub.clone(), Timestamp::MAX)
}

fn once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

type Opening = trunkline_core::serve::Socket<Socket, Ready<io::Result<Socket>>>;

fn open(reads: impl IntoIterator<Item = Read>) -> Socket {
    Socket { reads: reads.into_iter().collect(), ..Socket::default() }
}

fn request() -> Read {
    Read::Bytes(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n".to_vec())
}

#[test]
fn a_handshake_and_the_head_after_it_share_one_deadline() {
    let world = World::with(Limits { handshake_deadline: Duration::from_secs(10), ..Limits::default() });
    let sockets = Sockets::new(world.hub.clone());
    for opens in [false, true] {
        let mut left = 9;
        // After nine polls it is open, but then no head comes; or it never is.
        let handshake = std::future::poll_fn(move |_| {
            left -= 1;
            if opens && left == 0 { Poll::Ready(Ok(Socket::default())) } else { Poll::Pending }
        });
        let socket = trunkline_core::serve::Socket::Secure(handshake);
        let mut serving = pin!(sockets.serve(sockets.admit(None), socket, timer(&world)));
        for _ in 0..99 {
            assert!(once(serving.as_mut()).is_pending());
            world.turn(Duration::from_millis(100));
        }
        assert_eq!(world.hub.sockets(), 1);
        world.turn(Duration::from_millis(100));
        assert!(matches!(once(serving.as_mut()), Poll::Ready(Outcome::Closed(None))), "{opens}");
        assert_eq!((world.hub.sockets(), world.hub.unauthenticated()), (0, 0), "{opens}");
    }
}

#[test]
fn a_handshake_that_fails_ends_the_socket() {
    let world = World::new();
    let sockets = Sockets::new(world.hub.clone());
    let socket = Opening::Secure(ready(Err(io::ErrorKind::InvalidData.into())));
    let mut serving = pin!(sockets.serve(sockets.admit(None), socket, timer(&world)));
    assert!(matches!(once(serving.as_mut()), Poll::Ready(Outcome::Closed(None))));
    assert_eq!(world.hub.sockets(), 0);
}

#[test]
fn whoever_is_turned_away_hears_it_on_an_open_socket_and_gets_no_handshake() {
    let world = World::with(Limits { connections: 1, ..Limits::default() });
    let sockets = Sockets::new(world.hub.clone());
    let _held = sockets.admit(None).unwrap();
    let handshake = std::future::poll_fn(|_| -> Poll<io::Result<Socket>> { panic!("nobody pays for it") });
    let secure = trunkline_core::serve::Socket::Secure(handshake);
    let mut serving = pin!(sockets.serve(sockets.admit(None), secure, timer(&world)));
    assert!(matches!(once(serving.as_mut()), Poll::Ready(Outcome::Closed(None))));

    let heard = std::rc::Rc::new(std::cell::RefCell::new(open([request()])));
    let mut serving = pin!(sockets.serve(sockets.admit(None), open_shared(&heard), timer(&world)));
    // It stays for a peer that speaks late, for a second.
    assert!(once(serving.as_mut()).is_pending());
    assert!(heard.borrow().written.starts_with(b"HTTP/1.1 503 ") && heard.borrow().reads.is_empty());
    world.turn(Duration::from_secs(1));
    assert!(matches!(once(serving.as_mut()), Poll::Ready(Outcome::Closed(None))));
}

/// A socket that tests look into while it is served.
struct Watched(std::rc::Rc<std::cell::RefCell<Socket>>);

fn open_shared(
    socket: &std::rc::Rc<std::cell::RefCell<Socket>>,
) -> trunkline_core::serve::Socket<Watched, Ready<io::Result<Watched>>> {
    trunkline_core::serve::Socket::Open(Watched(socket.clone()))
}

impl Transport for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Takes nothing at its end.
struct Stuck(Socket);

impl Transport for Stuck {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }

    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[test]
fn a_peer_that_does_not_take_the_end_is_let_go_at_the_close_deadline() {
    let world = World::with(Limits { close_deadline: Duration::from_secs(5), ..Limits::default() });
    let session = trunkline_core::serve::admit(&world.hub, None);
    let mut serving = pin!(serve_socket(&world.hub, session, Stuck(open([Read::Eof])), timer(&world)));
    assert!(once(serving.as_mut()).is_pending());
    assert_eq!(world.hub.sockets(), 1, "it counts until then");
    world.turn(Duration::from_secs(5));
    assert!(matches!(once(serving.as_mut()), Poll::Ready(Outcome::Closed(_))));
    assert_eq!(world.hub.sockets(), 0);
}

#[test]
fn an_answer_that_nobody_takes_is_given_up_after_a_second() {
    let world = World::new();
    let full = Socket { writes: [Some(3), Some(0)].into(), ..Socket::default() };
    let mut answering = pin!(answer(b"HTTP/1.1 404 Not Found\r\n\r\n", Stuck(full), timer(&world), &world.hub));
    assert!(once(answering.as_mut()).is_pending());
    world.turn(Duration::from_millis(999));
    assert!(once(answering.as_mut()).is_pending());
    world.turn(Duration::from_millis(1));
    assert!(once(answering.as_mut()).is_ready());
}

#[test]
fn a_shutdown_waits_for_exchanges_and_lets_no_more_in_after_them() {
    let world = World::new();
    let sockets = Sockets::new(world.hub.clone());
    let hand_over = || {
        let socket = Opening::Open(open([request()]));
        let mut serving = Box::pin(sockets.serve(sockets.admit(None), socket, timer(&world)));
        match once(serving.as_mut()) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("the head is whole"),
        }
    };
    let Outcome::Web(handover) = hand_over() else { panic!("not for the endpoint") };
    assert_eq!(world.hub.unauthenticated(), 1, "it counts to its end");
    let mut draining = pin!(sockets.drain(timer(&world)));
    assert!(once(draining.as_mut()).is_pending());
    // Whoever asks whether the server is ready is answered while the last connections go.
    assert!(once(draining.as_mut()).is_pending() && world.hub.is_draining());
    drop(handover);
    assert!(once(draining.as_mut()).is_ready());
    assert!(matches!(hand_over(), Outcome::Closed(None)));
    assert_eq!(world.hub.sockets(), 0);
}

#[test]
fn a_shutdown_ends_at_the_drain_deadline() {
    let world = World::with(Limits { drain_deadline: Duration::from_secs(30), ..Limits::default() });
    let sockets = Sockets::new(world.hub.clone());
    let mut serving = Box::pin(sockets.serve(sockets.admit(None), Opening::Open(open([request()])), timer(&world)));
    let Poll::Ready(Outcome::Web(_kept)) = once(serving.as_mut()) else { panic!("not for the endpoint") };
    let mut draining = pin!(sockets.drain(timer(&world)));
    assert!(once(draining.as_mut()).is_pending());
    world.turn(Duration::from_millis(29_999));
    assert!(once(draining.as_mut()).is_pending());
    world.turn(Duration::from_millis(1));
    assert!(once(draining.as_mut()).is_ready());
}

#[test]
fn unread_bytes_come_once_whatever_the_buffer() {
    for size in [1, 4, 6, 64] {
        let (mut unread, mut all, mut buf) = (Unread::new(b"GET / ".to_vec()), Vec::new(), vec![0; size]);
        assert!(!format!("{unread:?}").contains("71, 69") && !format!("{unread:?}").contains("GET"));
        while !unread.is_empty() {
            let n = unread.take(&mut buf);
            all.extend_from_slice(&buf[..n]);
        }
        assert_eq!((all.as_slice(), unread.take(&mut buf)), (&b"GET / "[..], 0));
    }
}

/// Keeps what it is given until it is asked to send it, and may not be ready for that at once: as TLS does.
struct Holding {
    socket: Watched,
    held: Vec<u8>,
    /// How many flushes find the socket full.
    full: usize,
}

impl Transport for Holding {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }

    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.full > 0 {
            self.full -= 1;
            return Poll::Pending;
        }
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_write(cx, &held).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn is_sent<T: Transport + Unpin>(boxed: impl FnOnce(Holding) -> T) {
    let world = World::new();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(open([Read::Bytes(support::upgrade())])));
    let holding = Holding { socket: Watched(seen.clone()), held: Vec::new(), full: 5 };
    let session = trunkline_core::serve::admit(&world.hub, None);
    let mut serving = pin!(serve_socket(&world.hub, session, boxed(holding), timer(&world)));
    for _ in 0..5 {
        // Each time because the socket has room: nothing more is to be written.
        assert!(once(serving.as_mut()).is_pending());
    }
    assert!(seen.borrow().written.starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn what_a_stream_holds_back_is_sent_once_the_socket_takes_it() {
    is_sent(|holding| holding);
    // As a client has its stream, whatever it is.
    is_sent(|holding| -> Pin<Box<dyn Transport>> { Box::pin(holding) });
}

/// As full as it can be.
struct Full(Watched);

impl Transport for Full {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }

    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.0.borrow_mut().write_calls += 1;
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        assert_eq!(self.0.0.borrow().write_calls, 0, "the wake-up of the write is forgotten");
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_write_that_waits_is_not_followed_by_a_flush_which_would_take_its_waker() {
    let world = World::new();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(open([Read::Bytes(support::upgrade())])));
    let session = trunkline_core::serve::admit(&world.hub, None);
    let mut serving = pin!(serve_socket(&world.hub, session, Full(Watched(seen.clone())), timer(&world)));
    for _ in 0..3 {
        assert!(once(serving.as_mut()).is_pending());
    }
    assert!(seen.borrow().write_calls > 0);
}
