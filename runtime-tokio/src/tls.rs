//! TLS by rustls, on both ends. With the feature `tls`.
//!
//! ```no_run
//! use trunkline_tokio::tls::{CertificateFiles, TlsListener};
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let files = CertificateFiles::load("server.pem", "server.key").await?;
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8443").await?;
//! let listener = TlsListener::new(listener, files.certificates())?;
//! let watching = files.watch(CertificateFiles::EVERY, |outcome| eprintln!("certificates: {outcome:?}"));
//! tokio::spawn(watching);
//! // `serve` takes the listener as any other.
//! # drop(listener);
//! # Ok(()) }
//! ```
//!
//! The handshake runs in the task of its socket, which has been admitted before and has its limit `handshake_deadline` for it and the
//! request's head together. A socket for which there is no room is closed without one.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{Accept, TlsAcceptor, TlsConnector, client, server};
use trunkline_core::client::{self as core_client, Endpoint, Opening};
use trunkline_core::serve::Socket;

use crate::client::{dial, stream_of};
use crate::listener::{Accepted, Listener, tune};

pub use trunkline_core::tls::{Certificates, Roots, TlsError};
use trunkline_core::tls::{MAX_HELD_BYTES, MAX_PEM_BYTES, no_handshake};

/// A TCP listener whose sockets shake hands first.
pub struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    /// With these certificates, and with those that replace them.
    ///
    /// # Errors
    /// None today.
    pub fn new(listener: TcpListener, certificates: &Arc<Certificates>) -> Result<Self, TlsError> {
        Ok(Self { listener, acceptor: TlsAcceptor::from(certificates.server_config()?) })
    }
}

impl std::fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsListener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Listener for TlsListener {
    type Stream = server::TlsStream<TcpStream>;
    type Handshake = Accept<TcpStream>;

    async fn accept(&self) -> io::Result<Accepted<Self>> {
        let (stream, peer) = self.listener.accept().await?;
        tune(&stream);
        let handshake = self.acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(MAX_HELD_BYTES)));
        Ok((Socket::Secure(handshake), Some(peer.ip())))
    }
}

/// Certificates and a key in two files, which others replace while the server runs.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    paths: Arc<(PathBuf, PathBuf)>,
    certificates: Arc<Certificates>,
}

impl CertificateFiles {
    /// How often to look at files that are small and seldom replaced.
    pub const EVERY: Duration = Duration::from_secs(2);

    /// The files at these paths, in PEM as [`Certificates::new`] takes it.
    ///
    /// # Errors
    /// When one of them cannot be read or used, or they do not belong together.
    pub async fn load(certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let paths = Arc::new((certificates.into(), key.into()));
        let (chain, key) = read(&paths).await?;
        Ok(Self { paths, certificates: Certificates::new(&chain, &key)? })
    }

    /// Those in use.
    pub const fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Takes what is in the files now. Answers whether it is new.
    ///
    /// # Errors
    /// As [`CertificateFiles::load`]; the certificates in use stay.
    pub async fn reload(&self) -> Result<bool, TlsError> {
        let (chain, key) = read(&self.paths).await?;
        self.certificates.replace(&chain, &key)
    }

    /// Looks at the files once every so often, for ever, and takes what two looks have found. Says that certificates were
    /// replaced, and why not, once each time.
    pub async fn watch(self, every: Duration, mut report: impl FnMut(Result<(), TlsError>)) {
        let mut unread = None;
        loop {
            tokio::time::sleep(every).await;
            let looked = match read(&self.paths).await {
                Ok((chain, key)) => self.certificates.look(&chain, &key).inspect(|_| unread = None),
                Err(error) if unread.as_ref() == Some(&error) => Ok(false),
                Err(error) => Err(unread.insert(error).clone()),
            };
            match looked {
                Ok(false) => {}
                Ok(true) => report(Ok(())),
                Err(error) => report(Err(error)),
            }
        }
    }
}

/// On a thread where a slow file system keeps nobody waiting.
async fn read(paths: &Arc<(PathBuf, PathBuf)>) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let paths = Arc::clone(paths);
    let read = tokio::task::spawn_blocking(move || read_pair(&paths));
    read.await.map_err(|_| TlsError::File("reading was cut off".into()))?
}

fn read_pair((certificates, key): &(PathBuf, PathBuf)) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    Ok((read_file(certificates)?, read_file(key)?))
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_PEM_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| TlsError::File(format!("{}: {error}", path.display())))?;
    Ok(bytes)
}

/// The client's end. As a connector it opens the streams of a client that trusts others than the public authorities; the addresses may be
/// `ws://`, too, and those are not encrypted.
///
/// ```no_run
/// use trunkline_core::client::{ClientOptions, FixedToken};
/// use trunkline_tokio::Client;
/// use trunkline_tokio::tls::{Connector, Roots};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let ours = Connector::new(&Roots::Pem(std::fs::read("authority.pem")?))?;
/// let options = ClientOptions::new("wss://chat.internal/ws", FixedToken::new("aa.bb.cc"))?.with_connector(ours);
/// let client = Client::connect(options)?;
/// # Ok(()) }
/// ```
///
/// A certificate that does not hold is an opening that fails: the client says why in
/// [`State::Waiting`](trunkline_core::client::State::Waiting), and tries again after its back-off, as certificates are replaced.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl Connector {
    /// For servers whose certificates stand on these roots.
    ///
    /// # Errors
    /// When the roots are no certificates.
    pub fn new(roots: &Roots) -> Result<Self, TlsError> {
        Ok(Self(trunkline_core::tls::client_config(roots)?.into()))
    }

    /// Shakes hands on a connected stream with the server of this name or address. Give it a deadline: the peer may be silent.
    ///
    /// # Errors
    /// When the name is none, the certificate does not hold for it, or the stream breaks.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = host.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no server's name"))?;
        self.0.connect_with(name, stream, |session| session.set_buffer_limit(Some(MAX_HELD_BYTES))).await
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl core_client::Connector for Connector {
    fn open(&self, endpoint: &Endpoint) -> Opening {
        let (tcp, tls) = (dial(endpoint), endpoint.is_tls().then(|| (self.clone(), endpoint.host().to_owned())));
        Box::pin(async move {
            let stream = tcp.await?;
            match tls {
                Some((connector, host)) => {
                    let shaken = connector.connect(&host, stream).await;
                    Ok(stream_of(shaken.map_err(|error| no_handshake(&error))?))
                }
                None => Ok(stream_of(stream)),
            }
        })
    }
}

/// Opens a stream to a server whose certificate stands on the public authorities. The roots are read for each socket: no state is shared
/// between clients, and a handshake costs far more.
pub(crate) fn open(endpoint: &Endpoint) -> Opening {
    match Connector::new(&Roots::Public) {
        Ok(connector) => core_client::Connector::open(&connector, endpoint),
        Err(error) => Box::pin(std::future::ready(Err(io::Error::other(error)))),
    }
}
