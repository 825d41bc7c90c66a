//! Where a server is: `ws://host[:port]/path`, or `wss://`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address of RFC 6455 section 3, taken apart.
///
/// It names no user, no fragment and no token: what is in an address ends up in logs. A one-time ticket is a [`Credentials`]'
/// business, which puts it into the query of each upgrade.
///
/// ```
/// use trunkline_core::client::{Endpoint, UrlError};
///
/// let endpoint: Endpoint = "wss://[2001:db8::1]/ws".parse()?;
/// assert_eq!((endpoint.host(), endpoint.port(), endpoint.is_tls()), ("2001:db8::1", 443, true));
/// assert_eq!((endpoint.authority(), endpoint.target()), ("[2001:db8::1]", "/ws"));
/// assert_eq!("ws://h/ws?token=aa.bb.cc".parse::<Endpoint>(), Err(UrlError::Secret));
/// # Ok::<(), UrlError>(())
/// ```
///
/// [`Credentials`]: super::Credentials
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    authority: String,
    target: String,
    host: String,
    port: u16,
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("must start with ws:// or wss://")]
    Scheme,
    /// White space, a control character, one outside of ASCII, or a fragment: RFC 6455 section 3.
    #[error("holds a character that no WebSocket address has")]
    Character,
    /// A user or a password.
    #[error("must not hold credentials: they go in the token")]
    UserInfo,
    /// No host, a host that is none, or a port that is none.
    #[error("names no host, or a port that is none")]
    Host,
    /// A token or a ticket in the query.
    #[error("must not hold a token or a ticket: addresses end up in logs")]
    Secret,
    /// `wss://` in a build without TLS.
    #[error("wss:// needs TLS, which this build has not: turn on the feature `tls`, or bring a connector")]
    NoTls,
}

/// What no query of an endpoint may name.
const SECRETS: [&str; 5] = ["token", "ticket", "access_token", "jwt", "bearer"];

impl Endpoint {
    /// Whether the way there is encrypted.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// What the `Host` header says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// A name or an address, without the brackets of IPv6: what is looked up, and what a certificate is for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// 80 or 443 where the address names none.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the address, as written, is this machine's own: no other name is looked up to tell.
    pub fn is_loopback(&self) -> bool {
        let own = |ip: IpAddr| ip.is_loopback();
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(own)
    }
}

impl FromStr for Endpoint {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let (tls, rest) = scheme(url).ok_or(UrlError::Scheme)?;
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return Err(UrlError::Character);
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let default = if tls { 443 } else { 80 };
        let (host, port) = host_and_port(authority, default).ok_or(UrlError::Host)?;
        if names_a_secret(target) {
            return Err(UrlError::Secret);
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{target}");
        Ok(Self { tls, authority: authority.to_owned(), target, host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority, self.target)
    }
}

/// The query stays out.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        f.debug_struct("Endpoint").field("authority", &self.authority).field("path", &path).finish_non_exhaustive()
    }
}

/// Schemes are the same in any case: RFC 3986 section 3.1.
fn scheme(url: &str) -> Option<(bool, &str)> {
    [(false, "ws://"), (true, "wss://")].into_iter().find_map(|(tls, scheme)| {
        let (start, rest) = url.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some((tls, rest))
    })
}

fn host_and_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => default,
        Some(port) if digits(port) => port.parse().ok().filter(|port| *port > 0)?,
        Some(_) => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

fn names_a_secret(target: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let table = [
            ("ws://127.0.0.1:8787/ws", (false, "127.0.0.1:8787", "127.0.0.1", 8787, "/ws")),
            ("WS://localhost/a?b=c", (false, "localhost", "localhost", 80, "/a?b=c")),
            ("ws://[::1]:9/ws", (false, "[::1]:9", "::1", 9, "/ws")),
            ("ws://h?x", (false, "h", "h", 80, "/?x")),
            ("wss://h", (true, "h", "h", 443, "/")),
            ("WsS://h:1/ws", (true, "h:1", "h", 1, "/ws")),
        ];
        for (url, expected) in table {
            let it: Endpoint = url.parse().unwrap();
            assert_eq!((it.is_tls(), it.authority(), it.host(), it.port(), it.target()), expected);
            assert_eq!(it.to_string().parse(), Ok(it));
        }
    }

    #[test]
    fn loopback_is_told_by_the_address_alone() {
        let loopback = |host| format!("ws://{host}:1/ws").parse::<Endpoint>().unwrap().is_loopback();
        assert!(["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST"].into_iter().all(loopback));
        let others = ["0.0.0.0", "10.0.0.1", "[::]", "localhost.example", "127.0.0.1.example", "example"];
        assert!(!others.into_iter().any(loopback));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let table: [(UrlError, &[&str]); 5] = [
            (UrlError::Scheme, &["http://h/ws", "h/ws", "ws:/h", "wssx://h", ""]),
            (UrlError::Character, &["ws://h/#f", "ws://h/\n", "ws://h /", "ws://hé/"]),
            (UrlError::UserInfo, &["ws://u:p@h/", "ws://u@h/"]),
            (
                UrlError::Host,
                &[
                    "ws://",
                    "ws:///ws",
                    "ws://:1/",
                    "ws://h:/",
                    "ws://h:99999/",
                    "ws://h:+1/",
                    "ws://h:0/",
                    "ws://[::1/",
                ],
            ),
            (UrlError::Secret, &["ws://h/?token=a", "ws://h/ws?a=b&TICKET=c", "ws://h?access_token", "ws://h/?jwt="]),
        ];
        for (error, urls) in table {
            for url in urls {
                assert_eq!(url.parse::<Endpoint>(), Err(error), "{url:?}");
            }
        }
        for host in ["[::1]9", "[]", "[h]", "::1"] {
            assert_eq!(format!("ws://{host}/").parse::<Endpoint>(), Err(UrlError::Host), "{host}");
        }
        let shown = format!("{:?}", "ws://h/ws?room=secret".parse::<Endpoint>().unwrap());
        assert!(shown.contains("/ws") && !shown.contains("secret"), "{shown}");
    }

    properties! {
        #[test]
        fn any_text_is_an_endpoint_or_none(text in "(ws|wss|WS)://[ -~]{0,20}|\\PC{0,30}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert!(endpoint.target().starts_with('/') && !endpoint.host().is_empty() && endpoint.port() > 0);
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
    }
}
