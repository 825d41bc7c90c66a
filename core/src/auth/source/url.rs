//! Which addresses keys may be fetched from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::Uri;
use rustls::pki_types::ServerName;

/// Why keys are not fetched from an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not parse, or has no host.
    #[error("is not an address such as https://login.example/jwks.json")]
    Malformed,
    /// Neither `https`, nor `http` on this machine: others could put their own keys in.
    #[error("must begin with https://, or with http:// for 127.0.0.1, [::1] or localhost")]
    Insecure,
    /// A user or a password: it would stand in the configuration, and nobody asks for one here.
    #[error("must not have a user or a password")]
    Credentials,
    /// A host that no certificate can name.
    #[error("has a host that no certificate can name")]
    Host,
    /// The certificates to trust.
    #[error("{0}")]
    Roots(String),
}

/// An address that keys may be fetched from: over TLS, or on this machine. `Display` and `Debug` show neither path nor query, which
/// may hold a key to the keys.
///
/// ```
/// use trunkline_core::auth::source::{KeyUrl, UrlError};
///
/// let url = KeyUrl::parse("https://login.example/jwks.json?token=secret")?;
/// assert_eq!((url.host(), url.port(), url.is_tls()), ("login.example", 443, true));
/// assert_eq!(url.to_string(), "https://login.example");
/// assert_eq!(KeyUrl::parse("http://login.example/jwks.json").unwrap_err(), UrlError::Insecure);
/// # Ok::<(), UrlError>(())
/// ```
#[derive(Clone)]
pub struct KeyUrl {
    tls: bool,
    host: String,
    port: u16,
    /// As the request names it.
    authority: String,
    path: String,
}

impl KeyUrl {
    /// The address in this text.
    ///
    /// # Errors
    /// When it is none, or none that keys may come from.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let uri: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("https") if ServerName::try_from(host.as_str()).is_err() => return Err(UrlError::Host),
            Some("https") => (true, 443),
            Some("http") if is_this_machine(&host) => (false, 80),
            Some(_) => return Err(UrlError::Insecure),
            None => return Err(UrlError::Malformed),
        };
        // `Uri` takes a port that is no number for none.
        let port = match authority.as_str().rsplit_once(':') {
            Some((before, _)) if before.starts_with('[') && !before.ends_with(']') => port,
            Some((_, given)) if !given.ends_with(']') => given.parse().map_err(|_| UrlError::Malformed)?,
            Some(_) | None => port,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.to_string(), path })
    }

    /// Whether the connection is to be encrypted; else it is plain HTTP on this machine.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// The name to look up, and the one that the certificate must hold for; an IPv6 address is without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether a resolved address may be connected to: a name for this machine must not lead elsewhere without TLS.
    pub(super) fn may_be(&self, address: SocketAddr) -> bool {
        self.tls || address.ip().is_loopback()
    }

    /// What asks for the document: RFC 9112 section 3.
    pub(super) fn request(&self) -> String {
        let (path, authority, version) = (&self.path, &self.authority, env!("CARGO_PKG_VERSION"));
        format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/jwk-set+json, application/json\r\n\
             User-Agent: trunkline/{version}\r\nConnection: close\r\n\r\n"
        )
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Without path and query, which may hold a key to the keys.
impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let table = [
            ("https://login.example/jwks?v=1", "login.example", 443, "/jwks?v=1"),
            ("https://login.example:8443", "login.example", 8443, "/"),
            ("https://[2001:db8::1]/k", "2001:db8::1", 443, "/k"),
            ("https://[2001:db8::1]:444/k", "2001:db8::1", 444, "/k"),
            ("https://192.0.2.1/k", "192.0.2.1", 443, "/k"),
            ("http://127.0.0.1:9/k", "127.0.0.1", 9, "/k"),
            ("http://[::1]/k", "::1", 80, "/k"),
            ("http://localhost/k", "localhost", 80, "/k"),
        ];
        for (url, host, port, path) in table {
            let source = KeyUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((source.host.as_str(), source.port, source.path.as_str()), (host, port, path), "{url}");
            assert_eq!(source.tls, url.starts_with("https"), "{url}");
        }
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        let table = [
            ("http://login.example/k", UrlError::Insecure),
            ("http://127.0.0.1.example/k", UrlError::Insecure),
            ("http://192.0.2.1/k", UrlError::Insecure),
            ("http://0.0.0.0/k", UrlError::Insecure),
            ("file:///etc/keys", UrlError::Malformed),
            ("ftp://login.example/k", UrlError::Insecure),
            ("login.example/k", UrlError::Malformed),
            ("/k", UrlError::Malformed),
            ("", UrlError::Malformed),
            ("https://", UrlError::Malformed),
            ("https://login.example:/k", UrlError::Malformed),
            ("https://login.example:99999/k", UrlError::Malformed),
            ("https://ann:secret@login.example/k", UrlError::Credentials),
            ("http://127.0.0.1@login.example/k", UrlError::Credentials),
            ("https://a_b..example/k", UrlError::Host),
        ];
        for (url, expected) in table {
            assert_eq!(KeyUrl::parse(url).unwrap_err(), expected, "{url}");
        }
    }

    #[test]
    fn a_name_of_this_machine_leads_nowhere_else_without_tls() {
        let plain = KeyUrl::parse("http://localhost/k").unwrap();
        let over_tls = KeyUrl::parse("https://localhost/k").unwrap();
        let (here, there) = ("[::1]:80".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
        assert!(plain.may_be(here) && !plain.may_be(there) && over_tls.may_be(there));
    }

    #[test]
    fn the_path_is_not_shown() {
        let source = KeyUrl::parse("https://login.example:8443/jwks?token=secret").unwrap();
        assert_eq!(source.to_string(), "https://login.example:8443");
        assert_eq!(format!("{source:?}"), "KeyUrl(https://login.example:8443)");
    }

    #[test]
    fn the_request_names_the_path_and_the_host_and_nothing_else_of_the_address() {
        let request = KeyUrl::parse("https://login.example:8443/jwks?v=1#part").unwrap().request();
        assert!(request.starts_with("GET /jwks?v=1 HTTP/1.1\r\nHost: login.example:8443\r\n"), "{request:?}");
        assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request:?}");
        for smuggled in ["https://login.example/a b", "https://login.example/a\r\nHost: x", "https://login.example\n/"]
        {
            assert_eq!(KeyUrl::parse(smuggled).unwrap_err(), UrlError::Malformed);
        }
    }
}
