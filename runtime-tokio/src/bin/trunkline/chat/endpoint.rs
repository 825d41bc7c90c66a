//! Where a server is: `ws://host[:port]/path`.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::{Fault, printable};

/// The port of `ws://` where the address names none: RFC 6455 section 3.
const DEFAULT_PORT: u16 = 80;
/// How long a TCP connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A server's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What the `Host` header says.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
    /// A name or an address, without the brackets of IPv6.
    host: String,
    port: u16,
}

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, Fault> {
        let refuse = |problem: &str| Fault::usage(format!("--url {problem}; expected ws://HOST:PORT/PATH"));
        if has_scheme(url, "wss://") {
            return Err(Fault::usage(
                "--url wss:// is not in this version, which has no TLS: connect with ws:// on loopback, \
                 or to a proxy that speaks TLS to the server",
            ));
        }
        if !has_scheme(url, "ws://") {
            return Err(refuse("must start with ws://"));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
            return Err(refuse("holds a character that no WebSocket address has"));
        }
        let rest = url.get("ws://".len()..).unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(refuse("must not hold credentials: they go in the token"));
        }
        let (host, port) = host_and_port(authority).ok_or_else(|| refuse("names no host, or a port that is none"))?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{target}");
        Ok(Self { authority: authority.to_owned(), target, host: host.to_owned(), port })
    }

    /// Whether the address, as written, is this machine's own: no other name is looked up to tell.
    pub(crate) fn is_loopback(&self) -> bool {
        let own = |ip: IpAddr| ip.is_loopback();
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(own)
    }

    /// A TCP connection, or why there is none.
    pub(crate) async fn open(&self) -> Result<TcpStream, String> {
        let at = printable(&self.authority);
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = tokio::time::timeout(CONNECT_DEADLINE, connecting)
            .await
            .map_err(|_| format!("cannot connect to {at}: no answer in {} s", CONNECT_DEADLINE.as_secs()))?
            .map_err(|error| format!("cannot connect to {at}: {error}"))?;
        // Small frames go out at once; where the system refuses, they only come later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Schemes are the same in any case: RFC 3986 section 3.1.
fn has_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if digits(port) => port.parse().ok().filter(|port| *port > 0)?,
        Some(_) => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |url| Endpoint::parse(url).map(|it| (it.authority, it.host, it.port, it.target)).unwrap();
        let expected = |authority: &str, host: &str, port, target: &str| {
            (authority.to_owned(), host.to_owned(), port, target.to_owned())
        };
        assert_eq!(parts("ws://127.0.0.1:8787/ws"), expected("127.0.0.1:8787", "127.0.0.1", 8787, "/ws"));
        assert_eq!(parts("WS://localhost/a?b=c"), expected("localhost", "localhost", 80, "/a?b=c"));
        assert_eq!(parts("ws://[::1]:9/ws"), expected("[::1]:9", "::1", 9, "/ws"));
        assert_eq!(parts("ws://h?x"), expected("h", "h", 80, "/?x"));
    }

    #[test]
    fn loopback_is_told_by_the_address_alone() {
        let loopback = |host| Endpoint::parse(&format!("ws://{host}:1/ws")).unwrap().is_loopback();
        assert!(["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST"].into_iter().all(loopback));
        let others = ["0.0.0.0", "10.0.0.1", "[::]", "localhost.example", "127.0.0.1.example", "example"];
        assert!(!others.into_iter().any(loopback));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let refused = ["http://h/ws", "h/ws", "ws://", "ws:///ws", "ws://:1/ws", "ws://h:/ws", "ws://h:99999/ws"];
        let more = ["ws://h:+1/", "ws://h:0/", "ws://u:p@h/", "ws://h/#f", "ws://h/\n", "ws://[::1/", "ws://[::1]9/"];
        for url in refused.into_iter().chain(more) {
            let fault = Endpoint::parse(url).unwrap_err();
            assert!(fault.status == 2 && fault.message.starts_with("--url "), "{url:?}: {}", fault.message);
        }
        assert!(Endpoint::parse("wss://h/ws").unwrap_err().message.contains("TLS"));
    }
}
