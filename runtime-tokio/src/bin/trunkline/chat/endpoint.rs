//! Where a server is, as `--url` says it, and the way there.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use trunkline_core::client::{Endpoint, UrlError};
use trunkline_core::tls::no_handshake;
use trunkline_tokio::tls::{Connector, Roots, TlsError};

use crate::config::read_bounded;
use crate::{Fault, printable};

/// How long a connection may take to come about, a TLS handshake included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A server and whom to trust that it is the one.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Connector,
}

/// A connected stream, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Server {
    /// The server that the flags name.
    pub(crate) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, Fault> {
        let endpoint = parse(url)?;
        if ca_file.is_some() && !endpoint.is_tls() {
            return Err(Fault::usage("--ca-file is for wss:// addresses: at this --url nothing is encrypted"));
        }
        let (roots, flag) = match ca_file {
            Some(path) => (Roots::Pem(read(path)?), format!("--ca-file {}", path.display())),
            None => (Roots::Public, "--url".to_owned()),
        };
        let connector = Connector::new(&roots).map_err(|error: TlsError| Fault::usage(format!("{flag}: {error}")))?;
        Ok(Self { endpoint, connector })
    }

    /// A connection, or why there is none.
    pub(crate) async fn open(&self) -> Result<Box<dyn Stream>, String> {
        let at = printable(self.endpoint.authority());
        let opened = tokio::time::timeout(CONNECT_DEADLINE, self.connect()).await;
        opened
            .map_err(|_| format!("cannot connect to {at}: no answer in {} s", CONNECT_DEADLINE.as_secs()))?
            .map_err(|error| format!("cannot connect to {at}: {error}"))
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let (host, port) = (self.endpoint.host(), self.endpoint.port());
        let stream = TcpStream::connect((host, port)).await?;
        if !self.endpoint.is_tls() {
            return Ok(Box::new(stream));
        }
        let shaken = self.connector.connect(host, stream).await;
        Ok(Box::new(shaken.map_err(|error| no_handshake(&error))?))
    }
}

fn parse(url: &str) -> Result<Endpoint, Fault> {
    let refuse = |problem: UrlError| Fault::usage(format!("--url {problem}; expected ws://HOST:PORT/PATH, or wss://"));
    url.parse().map_err(refuse)
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    read_bounded(path).map_err(|problem| Fault::usage(format!("--ca-file {}: {problem}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_a_fault_of_the_flag() {
        for url in ["http://h/ws", "h/ws", "ws://", "ws://h:99999/ws", "ws://u:p@h/", "ws://h/#f", "ws://h/?token=a"] {
            let fault = parse(url).unwrap_err();
            assert!(fault.status == 2 && fault.message.starts_with("--url "), "{url:?}: {}", fault.message);
        }
        assert!(parse("wss://h/ws").unwrap().is_tls());
        let fault = Server::new("ws://h/ws", Some(Path::new("x.pem"))).unwrap_err();
        assert!(fault.status == 2 && fault.message.starts_with("--ca-file "), "{}", fault.message);
    }
}
