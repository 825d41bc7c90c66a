//! Trunkline on compio, whose operations take a buffer and give it back at their end.

use std::task::{Context, Poll, ready};
use std::{io, pin::Pin};

use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::{BufResult, runtime::spawn};
use trunkline_core::codec::upgrade::Refusal;
use trunkline_core::drive::{Driver, READ_BYTES, Timer, Transport};
use trunkline_core::hub::{Housekeeper, Hub, Session};
use trunkline_core::time::{Clock, Timestamp};

/// What has been asked of the runtime. It goes on whether it is polled or not, and ends before the next of its kind.
type Operation<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

fn step<T, F: Future<Output = T> + 'static>(
    op: &mut Operation<T>,
    cx: &mut Context,
    go: impl FnOnce() -> F,
) -> Poll<T> {
    let output = ready!(op.get_or_insert_with(|| Box::pin(go())).as_mut().poll(cx));
    *op = None;
    Poll::Ready(output)
}

struct Socket {
    stream: TcpStream,
    reading: Operation<BufResult<usize, Vec<u8>>>,
    read_ahead: std::collections::VecDeque<u8>,
    writing: Operation<BufResult<usize, Vec<u8>>>,
    ending: Operation<io::Result<()>>,
}

impl Transport for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { stream, reading, read_ahead, .. } = self.get_mut();
        if read_ahead.is_empty() {
            let mut stream = stream.clone();
            let read = || async move { stream.read(Vec::with_capacity(READ_BYTES)).await };
            let BufResult(outcome, bytes) = ready!(step(reading, cx, read));
            *read_ahead = outcome.map(|_| bytes)?.into();
        }
        Poll::Ready(io::Read::read(read_ahead, buf))
    }

    /// The same bytes come first until they are taken, so that one operation may outlast several calls.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, writing, .. } = self.get_mut();
        let (mut stream, owned) = (stream.clone(), if writing.is_none() { bytes.to_vec() } else { vec![] });
        step(writing, cx, || async move { stream.write(owned).await }).map(|BufResult(outcome, _)| outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.clone();
        step(&mut self.get_mut().ending, cx, || async move { stream.shutdown().await })
    }
}

struct Alarm(Hub, Operation<()>);

impl Timer for Alarm {
    fn reset(mut self: Pin<&mut Self>, at: Timestamp) {
        let wait = at.saturating_since(self.0.now().at);
        self.1 = (at != Timestamp::MAX).then(|| Box::pin(compio::time::sleep(wait)) as _);
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.1.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }
}

/// Serves sockets until `shutdown` is ready and the hub is drained.
pub(crate) async fn serve(listener: TcpListener, hub: Hub, keeper: Housekeeper, shutdown: impl Future<Output = ()>) {
    let _accepting = spawn(accept(listener, hub.clone()));
    keeper.run_until(Alarm(hub, None), shutdown).await;
}

async fn accept(listener: TcpListener, hub: Hub) {
    loop {
        let Ok((mut stream, peer)) = listener.accept().await else {
            compio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        match hub.session_from(peer.ip()) {
            Ok(session) => spawn(attend(session, stream, hub.clone())).detach(),
            Err(rejected) => drop(stream.write_all(rejected.response()).await),
        }
    }
}

async fn attend(session: Session, stream: TcpStream, hub: Hub) {
    let socket = Socket { stream, reading: None, read_ahead: Default::default(), writing: None, ending: None };
    let (mut session, mut socket) = Driver::new(session, socket, Alarm(hub.clone(), None), hub).await;
    if session.take_handoff().is_some() {
        let _ = socket.stream.write_all(Refusal::NotFound.response()).await;
    }
    let _ = socket.stream.shutdown().await;
}
