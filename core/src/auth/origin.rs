//! Which page a browser speaks for: RFC 6454, as a type that cannot hold anything else.

use std::fmt;
use std::net::Ipv6Addr;

/// An origin, `scheme://host` or `scheme://host:port`. Scheme and host are compared in any case, a port that the scheme has
/// anyway is as good as none, and an IPv6 address is the same in all its spellings.
///
/// ```
/// use trunkline_core::auth::Origin;
/// let app = Origin::parse("https://app.example")?;
/// assert_eq!(app, Origin::parse("HTTPS://App.Example:443")?);
/// assert_ne!(app, Origin::parse("http://app.example")?);
/// assert!(Origin::parse("https://app.example/").is_err() && Origin::parse("null").is_err());
/// # Ok::<(), trunkline_core::auth::OriginError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    scheme: Box<str>,
    authority: Authority,
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// No `scheme://` to begin with.
    #[error("must be a scheme and a host, and a port where it is not the scheme's own: https://app.example")]
    Form,
    /// `null` is what a browser says for every sandboxed frame and every local file.
    #[error("`null` is no origin: every sandboxed frame and every local file has it")]
    Null,
    /// Something follows the host or the port, a slash included.
    #[error("must end after the host or the port: no slash, no path, no query")]
    Path,
    /// A user's name before the host.
    #[error("must name no user: leave out what stands before the @")]
    UserInfo,
    /// A host with a `*`.
    #[error("must name one host: name every origin, for patterns are not known")]
    Pattern,
    /// The host is no name and no address.
    #[error("must have a host of letters, digits, `-`, `.` and `_`, or an IPv6 address in brackets")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("must have a port from 1 to 65535, or none")]
    Port,
}

/// The longest host, in bytes: RFC 1035 section 2.3.4.
const MAX_HOST_BYTES: usize = 255;

impl Origin {
    /// The origin that this text is.
    ///
    /// # Errors
    /// When it is none, or more than one.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text == "null" {
            return Err(OriginError::Null);
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::Form)?;
        if !is_scheme(scheme) {
            return Err(OriginError::Form);
        }
        let scheme = scheme.to_ascii_lowercase();
        let authority = Authority::parse(rest, default_port(&scheme))?;
        Ok(Self { scheme: scheme.into(), authority })
    }

    /// Whether it is the server's own, as the request's `Host` names that, and as `secure` says of the connection. Where that is
    /// plain, somebody before may end the TLS of a page, so that the scheme only counts for the port that it stands for.
    pub fn is_of_host(&self, host: &[u8], secure: bool) -> bool {
        if secure && &*self.scheme != "https" {
            return false;
        }
        let Some(default) = default_port(&self.scheme) else { return false };
        let host = std::str::from_utf8(host).ok().and_then(|host| Authority::parse(host, Some(default)).ok());
        host.is_some_and(|host| host == self.authority)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority.host)?;
        match self.authority.port {
            Some(port) if default_port(&self.scheme) != Some(port) => write!(f, ":{port}"),
            Some(_) | None => Ok(()),
        }
    }
}

/// As [`Display`](fmt::Display): what it holds can forge no line.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Host and port: RFC 3986 section 3.2, without a user.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Authority {
    /// In lower case; an IPv6 address in its brackets, as RFC 5952 writes it.
    host: Box<str>,
    /// The scheme's own where none is named.
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str, default: Option<u16>) -> Result<Self, OriginError> {
        if text.contains('@') {
            return Err(OriginError::UserInfo);
        }
        if text.contains(['/', '?', '#']) {
            return Err(OriginError::Path);
        }
        let (host, rest) = match text.strip_prefix('[') {
            Some(inside) => {
                let (address, rest) = inside.split_once(']').ok_or(OriginError::Host)?;
                let address: Ipv6Addr = address.parse().map_err(|_| OriginError::Host)?;
                (format!("[{address}]"), rest)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (name, rest) = text.split_at(end);
                (host_name(name)?, rest)
            }
        };
        let port = match rest.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if rest.is_empty() => default,
            None => return Err(OriginError::Host),
        };
        Ok(Self { host: host.into(), port })
    }
}

fn host_name(name: &str) -> Result<String, OriginError> {
    if name.contains('*') {
        return Err(OriginError::Pattern);
    }
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if name.is_empty() || name.len() > MAX_HOST_BYTES || !plain {
        return Err(OriginError::Host);
    }
    Ok(name.to_ascii_lowercase())
}

/// One spelling a port: no sign, no leading zero.
fn port(digits: &str) -> Result<u16, OriginError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain).ok_or(OriginError::Port)
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// The port of a scheme that a browser opens pages with. Others, such as those of desktop applications, have none.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, shown) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://APP.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("https://app.example:8443", "https://app.example:8443"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787"),
            ("tauri://localhost", "tauri://localhost"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
            ("app://x:80", "app://x:80"),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!((origin.to_string(), format!("{origin:?}")), (shown.to_owned(), shown.to_owned()), "{text}");
            assert_eq!(Origin::parse(shown), Ok(origin), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_says_why() {
        use OriginError::{Form, Host, Null, Path, Pattern, Port, UserInfo};
        let long = format!("https://{}", "a".repeat(MAX_HOST_BYTES + 1));
        assert!(Origin::parse(&long[..long.len() - 1]).is_ok());
        for (text, why) in [
            ("", Form),
            ("null", Null),
            ("*", Form),
            ("app.example", Form),
            ("//app.example", Form),
            ("https:app.example", Form),
            ("https:/app.example", Form),
            ("://app.example", Form),
            ("1https://app.example", Form),
            ("ht tps://app.example", Form),
            ("https://", Host),
            ("https://:443", Host),
            ("https://app.example/", Path),
            ("https://app.example/x", Path),
            ("https://app.example?x", Path),
            ("https://app.example#x", Path),
            ("https://ann@app.example", UserInfo),
            ("https://ann:pw@app.example", UserInfo),
            ("https://*.example", Pattern),
            ("https://app.example:", Port),
            ("https://app.example:0", Port),
            ("https://app.example:0443", Port),
            ("https://app.example:+443", Port),
            ("https://app.example:65536", Port),
            ("https://app.example:4 43", Port),
            ("https://app.example:443:443", Port),
            ("https://app example", Host),
            ("https://app.example, https://b.example", Path),
            ("https://app.example https://b.example", Path),
            ("https://äpp.example", Host),
            ("https://app%2eexample", Host),
            ("https://app\\example", Host),
            ("https://::1", Host),
            ("https://[::1", Host),
            ("https://[::1]x", Host),
            ("https://[::1%25lo]", Host),
            ("https://[127.0.0.1]", Host),
            (&long, Host),
        ] {
            assert_eq!(Origin::parse(text), Err(why), "{text}");
            assert!(!why.to_string().is_empty());
        }
    }
}
