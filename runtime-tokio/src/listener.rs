//! Where sockets come from.

use std::future::{Future, Ready};
use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use trunkline_core::serve::Socket;

/// Whatever accepts sockets: TCP, Unix, TLS, or one of your own.
pub trait Listener: Send + Sync {
    /// A socket that can be read and written.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What ends with that, where a handshake comes first. It runs in the socket's own task.
    type Handshake: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// The next socket, and the address whose limits concern it; `None` where it has none. Nothing is lost where the future
    /// is dropped before its end.
    ///
    /// # Errors
    /// When there is none for now: another call comes soon.
    fn accept(&self) -> impl Future<Output = io::Result<Accepted<Self>>> + Send;
}

/// A socket of the listener `L`, and its peer's address.
pub type Accepted<L> = (Socket<<L as Listener>::Stream, <L as Listener>::Handshake>, Option<IpAddr>);

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Handshake = Ready<io::Result<TcpStream>>;

    async fn accept(&self) -> io::Result<Accepted<Self>> {
        let (stream, peer) = Self::accept(self).await?;
        tune(&stream);
        Ok((Socket::Open(stream), Some(peer.ip())))
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;
    type Handshake = Ready<io::Result<Self::Stream>>;

    async fn accept(&self) -> io::Result<Accepted<Self>> {
        Ok((Socket::Open(Self::accept(self).await?.0), None))
    }
}

/// Small frames go out at once, and little lies in the system's own buffer, where a ping would wait behind it and no event could
/// be merged any more. [`serve`](crate::serve) does it to every TCP socket; do it to those that another server accepts. Where the system refuses
/// either, what is sent only comes later.
pub fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(trunkline_core::serve::MAX_UNSENT_BYTES);
}
