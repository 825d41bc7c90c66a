//! Keys at an address, over TLS.

use std::fmt;
use std::io;

use smol::Timer;
use smol::future::or;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::{TcpStream, resolve};
use trunkline_core::auth::source::{CONNECT_DEADLINE, FetchError, FetchKeys, KeyUrl, UrlError};

use crate::SmolTransport;
use crate::tls::{Connector, Roots};

/// Keys at an HTTPS address, or at a plain one on this machine. Each fetch is one connection and one request: no redirect is
/// followed, and an answer is read only as far as a key set may be long.
#[derive(Clone)]
pub struct HttpsKeys {
    url: KeyUrl,
    connector: Connector,
}

impl HttpsKeys {
    /// The document at `url`.
    ///
    /// # Errors
    /// When the address is none that keys may come from, or the roots are no certificates.
    pub fn new(url: &str, roots: &Roots) -> Result<Self, UrlError> {
        let url = KeyUrl::parse(url)?;
        let connector = Connector::new(roots).map_err(|error| UrlError::Roots(error.to_string()))?;
        Ok(Self { url, connector })
    }

    /// Scheme, host and port. The rest of the address may hold a key to the keys.
    pub fn origin(&self) -> String {
        self.url.to_string()
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = self.dial().await?;
        match self.url.is_tls() {
            true => Ok(Box::new(self.connector.connect(self.url.host(), stream).await?)),
            false => Ok(Box::new(stream)),
        }
    }

    /// The first of the name's addresses that answers.
    async fn dial(&self) -> io::Result<TcpStream> {
        let addresses = resolve((self.url.host(), self.url.port())).await?;
        let connect = |wait, address| async move {
            Timer::after(wait).await;
            TcpStream::connect(address).await
        };
        self.url.dial(addresses, connect).await
    }
}

impl FetchKeys for HttpsKeys {
    async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        let connecting = async { self.connect().await.map_err(|error| FetchError::of(&error)) };
        let late = async {
            Timer::after(CONNECT_DEADLINE).await;
            Err(FetchError::new("cannot be reached in time"))
        };
        let stream = or(connecting, late).await?;
        self.url.get(SmolTransport(stream)).await
    }
}

impl fmt::Debug for HttpsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsKeys").field("url", &self.url).finish_non_exhaustive()
    }
}

/// TCP, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
