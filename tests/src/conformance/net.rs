//! What carries a scenario to a server: a network with sockets on it, and a clock. One is real, the other is a simulator's.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{Either, select};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

/// A future of the thread that made it.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Where the endpoint of a server is that nobody has put elsewhere.
const ENDPOINT: &str = "/ws";

/// Where one server is.
pub trait Net {
    /// A connection to the server; a narrow one has a receive buffer of a few KiB.
    fn connect(&self, narrow: bool) -> Local<'_, io::Result<Box<dyn Pipe>>>;
    /// Ready once so much time has passed.
    fn sleep(&self, time: Duration) -> Local<'_, ()>;
    /// The time since some origin.
    fn now(&self) -> Duration;
    /// Seconds since 1970.
    fn unix_secs(&self) -> i64;
    /// What `Host` says.
    fn host(&self) -> String;
    /// Where the endpoint is on that host.
    fn path(&self) -> String {
        ENDPOINT.to_owned()
    }
    /// Tells the server to stop, in its way.
    ///
    /// # Errors
    /// When it cannot be told.
    fn stop(&self) -> Result<(), String>;
}

/// A client's end of a connection. Nothing is read but what is asked for.
pub trait Pipe {
    /// Reads into `buf`; 0 is the end.
    ///
    /// # Errors
    /// When the connection is broken.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// When the connection is broken.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Ends the sending side.
    ///
    /// # Errors
    /// When the connection is broken.
    fn poll_fin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Breaks the connection off by a reset.
    fn cut(self: Box<Self>);
}

/// Waits at most so long; `None` when that was not enough.
pub async fn within<F: Future>(net: &dyn Net, limit: Duration, future: F) -> Option<F::Output> {
    match select(pin!(future), net.sleep(limit)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

/// Writes all of it.
///
/// # Errors
/// When the connection is broken.
pub async fn write_all(pipe: &mut dyn Pipe, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| pipe.poll_write(cx, bytes)).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(n..).unwrap_or_default();
    }
    Ok(())
}

/// What tells a real server to stop.
pub type Stop = Rc<RefCell<dyn FnMut() -> Result<(), String>>>;

/// A server at an address.
#[derive(Clone)]
pub struct Tcp {
    addr: SocketAddr,
    /// As the server's address was given.
    host: String,
    path: String,
    started: Instant,
    stop: Option<Stop>,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("addr", &self.addr).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Tcp {
    /// A server that is there, under this name, and what stops it where something does.
    pub fn new(addr: SocketAddr, host: String, stop: Option<Stop>) -> Self {
        Self { addr, host, path: ENDPOINT.to_owned(), started: Instant::now(), stop }
    }

    /// The same with its endpoint at this path.
    #[must_use]
    pub fn at(self, path: String) -> Self {
        Self { path, ..self }
    }
}

impl Net for Tcp {
    fn connect(&self, narrow: bool) -> Local<'_, io::Result<Box<dyn Pipe>>> {
        Box::pin(async move {
            let socket = if self.addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if narrow {
                socket.set_recv_buffer_size(NARROW)?;
            }
            let stream = socket.connect(self.addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Pipe>)
        })
    }

    fn sleep(&self, time: Duration) -> Local<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn unix_secs(&self) -> i64 {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    fn host(&self) -> String {
        self.host.clone()
    }

    fn path(&self) -> String {
        self.path.clone()
    }

    fn stop(&self) -> Result<(), String> {
        let stop = self.stop.as_ref().ok_or("nothing stops this server")?;
        (stop.borrow_mut())()
    }
}

/// The receive buffer of a client that soon makes itself felt.
const NARROW: u32 = 4 << 10;

impl Pipe for TcpStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        Pin::new(self).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    fn poll_fin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    fn cut(self: Box<Self>) {
        // Where the system refuses the option the connection ends all the same.
        let _ = self.set_zero_linger();
    }
}

/// Where the server of an address such as `ws://127.0.0.1:8787/ws` is, how its host is named, and the path.
///
/// # Errors
/// When it is no address of an endpoint, or its host has none.
pub fn place(url: &str) -> Result<(SocketAddr, String, String), String> {
    let rest = url.strip_prefix("ws://").ok_or("the address begins with ws://; put TLS before it yourself")?;
    let slash = rest.find('/').ok_or("the address ends with the path of the endpoint, such as /ws")?;
    let (host, path) = rest.split_at(slash);
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)) {
        return Err("the address ends with a path: scenarios have queries of their own".to_owned());
    }
    let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
    let addr = with_port.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.next();
    Ok((addr.ok_or_else(|| format!("{host} has no address"))?, host.to_owned(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_host_and_any_path() {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for (url, port, host, path) in [
            ("ws://127.0.0.1:8787/ws", 8787, "127.0.0.1:8787", "/ws"),
            ("ws://127.0.0.1/", 80, "127.0.0.1", "/"),
            ("ws://127.0.0.1/chat/v2/socket", 80, "127.0.0.1", "/chat/v2/socket"),
        ] {
            assert_eq!(place(url), Ok((local(port), host.to_owned(), path.to_owned())), "{url}");
        }
        for bad in ["wss://a/ws", "127.0.0.1/ws", "ws://127.0.0.1", "ws://127.0.0.1/ws?x=1", "ws://127.0.0.1/a b"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
