//! Keys at an address, over TLS.

use std::fmt;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trunkline_core::auth::MAX_JWKS_BYTES;
use trunkline_core::auth::source::{FetchError, FetchKeys};

use super::url::{Source, UrlError};
use crate::tls::{Connector, Roots};

/// From the name to a connection, its certificate checked.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How much later each further address of a name is tried beside those before it. RFC 8305 section 5.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Of the addresses of a name.
const MAX_ADDRESSES: usize = 8;
/// An answer's line and headers, in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// Keys at an HTTPS address, or at a plain one on this machine. Each fetch is one connection and one request: no redirect is
/// followed, and an answer is read only as far as a key set may be long.
#[derive(Clone)]
pub struct HttpsKeys {
    source: Source,
    connector: Connector,
}

impl HttpsKeys {
    /// The document at `url`.
    ///
    /// # Errors
    /// When the address is none that keys may come from, or the roots are no certificates.
    pub fn new(url: &str, roots: &Roots) -> Result<Self, UrlError> {
        let source = Source::parse(url)?;
        let connector = Connector::new(roots).map_err(|error| UrlError::Roots(error.to_string()))?;
        Ok(Self { source, connector })
    }

    /// Scheme, host and port. The rest of the address may hold a key to the keys.
    pub fn origin(&self) -> String {
        self.source.to_string()
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = self.dial().await?;
        match self.source.tls {
            true => Ok(Box::new(self.connector.connect(&self.source.host, stream).await?)),
            false => Ok(Box::new(stream)),
        }
    }

    /// The first of the name's addresses that answers.
    async fn dial(&self) -> io::Result<TcpStream> {
        let addresses = tokio::net::lookup_host((self.source.host.as_str(), self.source.port)).await?;
        let mut dialling = JoinSet::new();
        for (index, address) in addresses.filter(|address| self.source.may_be(*address)).take(MAX_ADDRESSES).enumerate()
        {
            let wait = NEXT_ADDRESS.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            dialling.spawn(async move {
                sleep(wait).await;
                TcpStream::connect(address).await
            });
        }
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        while let Some(dialled) = dialling.join_next().await {
            match dialled.map_err(io::Error::other).flatten() {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
        Request::get(self.source.path.as_str())
            .header(HOST, self.source.authority.as_str())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("trunkline/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Empty::new())
    }

    async fn exchange(&self, stream: Box<dyn Stream>) -> Result<Vec<u8>, FetchError> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| fault(&error))?;
        // Ends with this future.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = self.request().map_err(|error| fault(&error))?;
        let response = sender.send_request(request).await.map_err(|error| fault(&error))?;
        if response.status() != StatusCode::OK {
            // A redirect would let whoever answers choose where keys come from.
            return Err(FetchError::new(format!("answers {}", response.status().as_u16())));
        }
        document(response).await
    }
}

impl FetchKeys for HttpsKeys {
    async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        let connected = timeout(CONNECT_DEADLINE, self.connect()).await;
        let stream = connected.map_err(|_| FetchError::new("cannot be reached in time"))?;
        self.exchange(stream.map_err(|error| fault(&error))?).await
    }
}

impl fmt::Debug for HttpsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsKeys").field("source", &format_args!("{}", self.source)).finish_non_exhaustive()
    }
}

/// An answer's body, as far as a key set may be long.
async fn document(response: Response<Incoming>) -> Result<Vec<u8>, FetchError> {
    let body = Limited::new(response.into_body(), MAX_JWKS_BYTES).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => FetchError::new(format!("answers more than {MAX_JWKS_BYTES} bytes")),
        None => fault(error.as_ref()),
    })?;
    Ok(body.to_bytes().into())
}

/// With its causes, which the library leaves out.
fn fault(error: &(dyn std::error::Error + 'static)) -> FetchError {
    let causes = std::iter::successors(Some(error), |error| error.source());
    FetchError::new(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// TCP, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
