//! What becomes of a listener's sockets, on whatever runtime: admission, a deadline for whatever comes before the first byte,
//! the one I/O loop, the hand-over to a web stack, what is said to whom there is no room for, and the end of them all.
//!
//! A runtime brings accepted sockets, a [`Transport`], a [`Timer`] on the hub's clock, and a task for each [`Sockets::serve`].

mod api;
mod seated;

pub use api::serve_api;
use seated::{Attending, Next};

use std::fmt;
use std::future::{Future, Ready, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use crate::crew::Berth;
use crate::drive::{Driver, Machine as _, Timer, Transport, write_all};
use crate::error::CloseReason;
use crate::hub::{Hub, Rejected, Session};
use crate::sync::{Budget, Gate, Pass};
use crate::time::{Clock, Timestamp};

/// How long to wait where a socket cannot be accepted: file descriptors are out, most likely, and others close.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What the system may best hold of a socket's output without having sent it, in bytes: a ping waits behind all of it, and
/// none of it can be merged any more.
pub const MAX_UNSENT_BYTES: u32 = 64 << 10;

/// How many refused sockets may stay at once, how long, and how many bytes of each are read.
const MAX_REFUSALS: usize = 256;
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// A socket as a listener gives it.
#[derive(Debug)]
pub enum Socket<S, F = Ready<io::Result<S>>> {
    /// It can be read and written at once.
    Open(S),
    /// It is encrypted, and open once this future has ended well. The future is polled in the socket's own task, and dropped
    /// after [`handshake_deadline`](crate::limits::Limits::handshake_deadline), which is one for it and the request's head.
    Secure(F),
}

impl<S, F: Future<Output = io::Result<S>>> Socket<S, F> {
    /// The same socket as a runtime's transport.
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Socket<T, impl Future<Output = io::Result<T>>> {
        match self {
            Self::Open(stream) => Socket::Open(wrap(stream)),
            Self::Secure(handshake) => Socket::Secure(async { handshake.await.map(wrap) }),
        }
    }
}

/// How a socket ended.
#[derive(Debug)]
pub enum Outcome<R> {
    /// As a WebSocket, or as a request that was refused; the reason is `None` when the socket just broke.
    Closed(Option<CloseReason>),
    /// As a request for somebody else: its bytes so far come first.
    Web(R),
}

impl<R> Outcome<R> {
    /// The same outcome with another request.
    pub fn map<T>(self, with: impl FnOnce(R) -> T) -> Outcome<T> {
        match self {
            Self::Closed(reason) => Outcome::Closed(reason),
            Self::Web(request) => Outcome::Web(with(request)),
        }
    }
}

/// A socket whose request is somebody else's.
#[derive(Debug)]
#[must_use = "nobody else answers the request"]
pub struct Handover<T> {
    /// What was read of it already.
    pub head: Unread,
    /// The rest.
    pub transport: T,
    /// It counts as a socket, and as one that nobody vouches for, until this drops.
    pub place: Place,
}

/// A handed-over socket's place among all sockets, and among those whose exchanges a shutdown waits for.
#[derive(Debug)]
pub struct Place {
    _session: Box<Session>,
    exchange: Option<Pass>,
}

/// Bytes that were read and are to be read once more. `Debug` shows how many they are: a request may carry a token.
#[derive(Default)]
pub struct Unread {
    bytes: Vec<u8>,
    taken: usize,
}

impl Unread {
    /// All of `bytes`.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, taken: 0 }
    }

    /// Moves as many as fit into `buf`, and answers how many. Their memory is given back with the last.
    pub fn take(&mut self, buf: &mut [u8]) -> usize {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        self.taken += n;
        if self.is_empty() {
            *self = Self::default();
        }
        n
    }

    /// Whether all were taken.
    pub const fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("bytes", &(self.bytes.len() - self.taken)).finish_non_exhaustive()
    }
}

/// A session, on its way to the future that keeps it, or why there is none.
pub type Admission = Result<Box<Session>, Rejected>;

/// Admits a socket from this address, where it has one, as [`Hub::session_from`] and [`Hub::session`] do.
///
/// # Errors
/// When there is no room; [`serve_socket`] takes that too.
pub fn admit(hub: &Hub, peer: Option<IpAddr>) -> Admission {
    peer.map_or_else(|| hub.session(), |peer| hub.session_from(peer)).map(Box::new)
}

/// All sockets of one listener. Clones are the same.
#[derive(Clone, Debug)]
pub struct Sockets {
    hub: Hub,
    /// Whoever answers a request of the web stack is inside.
    exchanges: Gate,
    refusals: Budget,
}

impl Sockets {
    /// None yet.
    pub fn new(hub: Hub) -> Self {
        Self { hub, exchanges: Gate::new(), refusals: Budget::new(MAX_REFUSALS) }
    }

    /// The hub that they are for.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Admits a socket from this address, where it has one. Call it as sockets are accepted, not in their tasks: the hub goes by
    /// their order.
    ///
    /// # Errors
    /// When there is no room; [`Sockets::serve`] takes that too.
    pub fn admit(&self, peer: Option<IpAddr>) -> Admission {
        admit(&self.hub, peer)
    }

    /// Drives a socket to its end, or to a request for somebody else. One for which there is no room is told so where it is
    /// open, and dropped where it is not: nobody pays for the handshake of whom it turns away.
    pub async fn serve<T, K>(
        &self,
        session: Admission,
        socket: Socket<T, impl Future<Output = io::Result<T>>>,
        mut timer: K,
    ) -> Outcome<Handover<T>>
    where
        T: Transport + Unpin,
        K: Timer + Unpin,
    {
        let Some((session, transport)) = self.open(session, socket, &mut timer).await else {
            return Outcome::Closed(None);
        };
        let hub = self.hub.clone();
        let (session, transport) = Driver::new(session, transport, &mut timer, hub).await;
        self.finish(session, transport, timer).await
    }

    /// The same in a crew: the future for this place there.
    pub fn serve_in<T, F>(
        &self,
        berth: Berth,
        session: Admission,
        socket: Socket<T, F>,
    ) -> impl Future<Output = Outcome<Handover<T>>> + use<T, F>
    where
        T: Transport + Unpin,
        F: Future<Output = io::Result<T>>,
    {
        let (timer, seat) = (berth.timer(), berth.into_seat());
        let sockets = self.clone();
        let ends = move |session, transport, timer| sockets.clone().go_beside(Beside::Ends(session, transport), timer);
        match (session, socket) {
            (Ok(session), Socket::Open(transport)) => Attending::driven(seat, session, transport, ends),
            (session, socket) => {
                let opens = self.clone().go_beside(Beside::Opens(session, socket), timer);
                Attending::beside(seat, opens, ends)
            }
        }
    }

    /// What comes before a socket is driven, and after that.
    async fn go_beside<T, F, K>(self, beside: Beside<T, F>, mut timer: K) -> Next<T>
    where
        T: Transport + Unpin,
        F: Future<Output = io::Result<T>>,
        K: Timer + Unpin,
    {
        match beside {
            Beside::Opens(session, socket) => match self.open(session, socket, &mut timer).await {
                Some((session, transport)) => Next::Drive(session, transport),
                None => Next::Over(Outcome::Closed(None)),
            },
            Beside::Ends(session, transport) => Next::Over(self.finish(session, transport, timer).await),
        }
    }

    /// A socket that can be read and written; `None` where there is none in the end.
    async fn open<T, K>(
        &self,
        session: Admission,
        socket: Socket<T, impl Future<Output = io::Result<T>>>,
        timer: &mut K,
    ) -> Option<(Box<Session>, T)>
    where
        T: Transport + Unpin,
        K: Timer + Unpin,
    {
        match (session, socket) {
            (Ok(session), Socket::Open(transport)) => Some((session, transport)),
            (Ok(mut session), Socket::Secure(handshake)) => {
                session.expect_secure();
                let deadline = session.poll_timeout().unwrap_or(Timestamp::ZERO);
                let transport = within(timer, deadline, handshake).await?.ok()?;
                Some((session, transport))
            }
            (Err(rejected), Socket::Open(transport)) => {
                let stays = self.refusals.lease(1);
                let listens = if stays.is_some() { MAX_REFUSAL_BYTES } else { 0 };
                say(&rejected.response(), listens, transport, timer, &self.hub).await;
                None
            }
            (Err(_), Socket::Secure(_)) => None,
        }
    }

    /// The end of one that was driven.
    async fn finish<T, K>(&self, session: Box<Session>, transport: T, timer: K) -> Outcome<Handover<T>>
    where
        T: Transport + Unpin,
        K: Timer + Unpin,
    {
        match end(session, transport, timer).await {
            Outcome::Closed(reason) => Outcome::Closed(reason),
            Outcome::Web(mut handover) => {
                handover.place.exchange = self.exchanges.enter();
                if handover.place.exchange.is_some() { Outcome::Web(handover) } else { Outcome::Closed(None) }
            }
        }
    }

    /// Waits until `shutdown` is ready or somebody else begins the shutdown, as an operator may; then as [`Sockets::drain`].
    pub async fn drain_after<K: Timer + Unpin>(&self, shutdown: impl Future<Output = ()>, timer: K) {
        let mut shutdown = pin!(shutdown);
        poll_fn(|cx| if self.hub.poll_draining(cx).is_ready() { Poll::Ready(()) } else { shutdown.as_mut().poll(cx) })
            .await;
        self.drain(timer).await;
    }

    /// Begins the shutdown of the hub, and ends once every connection is closed and every exchange of the web stack that was under
    /// way has ended, at the latest after [`drain_deadline`](crate::limits::Limits::drain_deadline). Accept sockets all the while:
    /// whoever asks whether the server is ready is told that it is not.
    pub async fn drain<K: Timer + Unpin>(&self, mut timer: K) {
        self.hub.begin_shutdown();
        let deadline = self.hub.now().at + self.hub.limits().drain_deadline;
        let drained = async {
            poll_fn(|cx| self.hub.poll_shutdown(cx)).await;
            self.exchanges.shut();
            poll_fn(|cx| self.exchanges.poll_empty(cx)).await;
        };
        within(&mut timer, deadline, drained).await;
    }
}

/// What is not driven: not yet, or no more.
enum Beside<T, F> {
    Opens(Admission, Socket<T, F>),
    Ends(Box<Session>, T),
}

/// Drives one socket that is no listener's: such as one end of a pipe, or what another server has accepted. One for which there
/// is no room is told so.
pub async fn serve_socket<T, K>(hub: &Hub, session: Admission, transport: T, mut timer: K) -> Outcome<Handover<T>>
where
    T: Transport + Unpin,
    K: Timer + Unpin,
{
    match session {
        Ok(session) => {
            let (session, transport) = Driver::new(session, transport, &mut timer, hub.clone()).await;
            end(session, transport, timer).await
        }
        Err(rejected) => {
            say(&rejected.response(), MAX_REFUSAL_BYTES, transport, timer, hub).await;
            Outcome::Closed(None)
        }
    }
}

/// Gives an answer and ends the sending side, then reads on for at most a second, so that the peer hears it: bytes that nobody reads
/// turn the end into a reset, which may take the answer with it. `clock` is the timer's.
pub async fn answer<T, K>(bytes: &[u8], transport: T, timer: K, clock: &impl Clock)
where
    T: Transport + Unpin,
    K: Timer + Unpin,
{
    say(bytes, MAX_REFUSAL_BYTES, transport, timer, clock).await;
}

/// Ends a socket that was driven, where it is nobody else's.
async fn end<T, K>(mut session: Box<Session>, mut transport: T, mut timer: K) -> Outcome<Handover<T>>
where
    T: Transport + Unpin,
    K: Timer + Unpin,
{
    if let Some(head) = session.take_handoff() {
        let place = Place { _session: session, exchange: None };
        return Outcome::Web(Handover { head: Unread::new(head), transport, place });
    }
    // Whoever does not take the end does not hold the socket either, and one that is gone does not make it any different.
    let deadline = session.hub().now().at + session.hub().limits().close_deadline;
    let _ = within(&mut timer, deadline, poll_fn(|cx| Pin::new(&mut transport).poll_shutdown(cx))).await;
    Outcome::Closed(session.close_reason())
}

/// Gives an answer and ends the sending side, then reads up to so many bytes more.
async fn say<T, K>(bytes: &[u8], listens: usize, mut transport: T, mut timer: K, clock: &impl Clock)
where
    T: Transport + Unpin,
    K: Timer + Unpin,
{
    let told = async {
        write_all(&mut transport, bytes).await.ok()?;
        poll_fn(|cx| Pin::new(&mut transport).poll_shutdown(cx)).await.ok()?;
        let (mut heard, mut buf) = (0, [0; 256]);
        while heard < listens {
            match poll_fn(|cx| Pin::new(&mut transport).poll_read(cx, &mut buf)).await.ok()? {
                0 => break,
                n => heard += n,
            }
        }
        Some(())
    };
    let deadline = clock.now().at + REFUSAL_DEADLINE;
    // Whatever fails: the peer may be gone, and there is nobody to tell.
    let _ = within(&mut timer, deadline, told).await;
}

/// What the future comes to, or `None` where `timer` is first at `deadline`.
async fn within<K: Timer + Unpin, F: Future>(timer: &mut K, deadline: Timestamp, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    Pin::new(&mut *timer).reset(deadline);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut *timer).poll_elapsed(cx).map(|()| None),
    })
    .await
}
