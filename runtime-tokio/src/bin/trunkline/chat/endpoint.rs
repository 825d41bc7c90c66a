//! Where a server is, as `--url` says it.

use std::time::Duration;

use tokio::net::TcpStream;
pub(crate) use trunkline_core::client::Endpoint;
use trunkline_core::client::{Runtime, UrlError};
use trunkline_tokio::Tokio;

use crate::{Fault, printable};

/// How long a TCP connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The endpoint that the flag names.
pub(crate) fn parse(url: &str) -> Result<Endpoint, Fault> {
    let refuse = |problem: UrlError| Fault::usage(format!("--url {problem}; expected ws://HOST:PORT/PATH"));
    let endpoint: Endpoint = url.parse().map_err(refuse)?;
    if endpoint.is_tls() && !Tokio::TLS { Err(refuse(UrlError::NoTls)) } else { Ok(endpoint) }
}

/// A TCP connection, or why there is none.
pub(crate) async fn open(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let at = printable(endpoint.authority());
    let connecting = TcpStream::connect((endpoint.host(), endpoint.port()));
    tokio::time::timeout(CONNECT_DEADLINE, connecting)
        .await
        .map_err(|_| format!("cannot connect to {at}: no answer in {} s", CONNECT_DEADLINE.as_secs()))?
        .map_err(|error| format!("cannot connect to {at}: {error}"))
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
        assert!(parse("wss://h/ws").unwrap_err().message.contains("TLS"));
    }
}
