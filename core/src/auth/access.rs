//! From where a WebSocket may be opened, and which carriers of a credential are on.

use std::collections::BTreeSet;

use super::origin::Origin;
use crate::codec::upgrade::is_token;

/// From where a WebSocket may be opened. Browsers let every page open one to every server, and say in `Origin` which page it
/// is: RFC 6455 section 10.2. By default that must be the server's own, as `Host` names it. Without an `Origin` it is no page
/// of a browser that asks, and this rules nothing out.
///
/// ```
/// use trunkline_core::auth::{Access, Origin};
/// let access = Access::with_origins([Origin::parse("https://app.example")?]);
/// assert!(access.page(b"api.example", false, [&b"https://app.example"[..]].into_iter()).is_ok());
/// assert!(access.page(b"api.example", false, [&b"https://evil.example"[..]].into_iter()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Beside headers and the first frame, which always may, a cookie and a one-time ticket may carry who asks; both are off until
/// they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    origins: Origins,
    cookie: Option<CookieName>,
    tickets: bool,
}

/// The name of a cookie: a token of RFC 9110 section 5.6.2, as RFC 6265 section 4.1.1 asks, of at most 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(Box<str>);

impl CookieName {
    /// # Errors
    /// When the text is no such name.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        if text.len() <= MAX_COOKIE_NAME_BYTES && is_token(text) {
            Ok(Self(text.into()))
        } else {
            Err(AccessError::Name)
        }
    }

    /// As it stands in `Cookie`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const MAX_COOKIE_NAME_BYTES: usize = 128;

/// Why a cookie may not say who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No such cookie can be.
    #[error("must be a cookie's name: 1 to 128 letters, digits and signs such as `_` and `-`")]
    Name,
    /// No list, or any origin: a browser adds a cookie to the request of whatever page asks.
    #[error("needs the exact origins whose pages may use the cookie, and neither none nor any: list them")]
    Origins,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origins {
    /// The server's own, and these.
    Listed(BTreeSet<Origin>),
    Any,
}

impl Default for Origins {
    fn default() -> Self {
        Self::Listed(BTreeSet::new())
    }
}

/// Whose page opens a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// Nobody's: no browser asks.
    None,
    /// The server's own, or anybody's where all are let in.
    Unlisted,
    /// One that the list names.
    Listed,
}

/// A page that may not open a WebSocket here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page's origin is not let in")]
pub struct ForbiddenOrigin;

impl Access {
    /// Pages of these origins, each exactly as it stands, beside the server's own.
    pub fn with_origins(origins: impl IntoIterator<Item = Origin>) -> Self {
        Self { origins: Origins::Listed(origins.into_iter().collect()), ..Self::default() }
    }

    /// Pages of all origins: only where what a token grants is for every page that got hold of one.
    pub const fn any_origin() -> Self {
        Self { origins: Origins::Any, cookie: None, tickets: false }
    }

    /// A cookie of this name may hold the token, where the page's origin is in the list. The server's own origin is in it only
    /// where it is named. Set the cookie `HttpOnly`, `Secure` and `SameSite`, best under a name that begins with `__Host-`.
    ///
    /// # Errors
    /// When no origins are listed, or any may ask.
    pub fn with_cookie(self, name: CookieName) -> Result<Self, AccessError> {
        match &self.origins {
            Origins::Listed(listed) if !listed.is_empty() => Ok(Self { cookie: Some(name), ..self }),
            Origins::Listed(_) | Origins::Any => Err(AccessError::Origins),
        }
    }

    /// The hub issues one-time tickets, and takes them.
    #[must_use]
    pub fn with_tickets(self) -> Self {
        Self { tickets: true, ..self }
    }

    /// The cookie that may say who asks, for whom this page speaks.
    pub fn cookie(&self, page: Page) -> Option<&CookieName> {
        match page {
            Page::Listed => self.cookie.as_ref(),
            Page::None | Page::Unlisted => None,
        }
    }

    /// Whether tickets are on.
    pub const fn takes_tickets(&self) -> bool {
        self.tickets
    }

    /// Whose page asks, by the value of `Host` and the values of all lines of `Origin`. Over TLS that ends here, which `secure`
    /// says, the server's own page is one of `https`.
    ///
    /// # Errors
    /// When it may not. What is no origin, `null` included, is nobody's, and two are not one.
    pub fn page<'a>(
        &self,
        host: &[u8],
        secure: bool,
        mut origins: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Page, ForbiddenOrigin> {
        let Some(origin) = origins.next() else { return Ok(Page::None) };
        if origins.next().is_some() {
            return Err(ForbiddenOrigin);
        }
        let Origins::Listed(listed) = &self.origins else { return Ok(Page::Unlisted) };
        let origin = std::str::from_utf8(origin).ok().and_then(|text| Origin::parse(text).ok());
        match origin {
            Some(origin) if listed.contains(&origin) => Ok(Page::Listed),
            Some(origin) if origin.is_of_host(host, secure) => Ok(Page::Unlisted),
            Some(_) | None => Err(ForbiddenOrigin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(access: &Access, host: &str, origins: &[&[u8]]) -> Result<Page, ForbiddenOrigin> {
        access.page(host.as_bytes(), false, origins.iter().copied())
    }

    fn listed(origins: &[&str]) -> Access {
        Access::with_origins(origins.iter().map(|text| Origin::parse(text).unwrap()))
    }

    #[test]
    fn a_page_comes_from_where_the_host_or_the_list_says() {
        let none = Access::default();
        let some =
            listed(&["https://app.example", "http://localhost:5173", "tauri://localhost", "https://[2001:db8::1]"]);
        let (own, named, no) = (Ok(Page::Unlisted), Ok(Page::Listed), Err(ForbiddenOrigin));
        let table: &[(&Access, &str, &str, Result<Page, ForbiddenOrigin>)] = &[
            // The server's own, in its spellings.
            (&none, "a.example", "https://a.example", own),
            (&none, "a.example", "http://a.example", own),
            (&none, "A.Example", "https://a.example", own),
            (&none, "a.example", "HTTPS://A.EXAMPLE", own),
            (&none, "a.example:443", "https://a.example", own),
            (&none, "a.example", "https://a.example:443", own),
            (&none, "a.example:80", "http://a.example", own),
            (&none, "a.example:8443", "https://a.example:8443", own),
            (&none, "127.0.0.1:8787", "http://127.0.0.1:8787", own),
            (&none, "localhost:8787", "http://localhost:8787", own),
            (&none, "[::1]:8787", "http://[::1]:8787", own),
            (&none, "[0:0:0:0:0:0:0:1]:8787", "http://[::1]:8787", own),
            (&none, "[::1]", "http://[::1]", own),
            // Another host, another port.
            (&none, "a.example", "https://b.example", no),
            (&none, "a.example", "https://x.a.example", no),
            (&none, "x.a.example", "https://a.example", no),
            (&none, "a.example", "https://a.example.evil", no),
            (&none, "a.example", "https://evil-a.example", no),
            (&none, "a.example", "https://a.example.", no),
            (&none, "a.example", "https://a.example:8443", no),
            (&none, "a.example:8443", "https://a.example", no),
            (&none, "a.example:80", "https://a.example", no),
            (&none, "a.example:443", "http://a.example", no),
            (&none, "127.0.0.1:8787", "http://localhost:8787", no),
            (&none, "[::1]:8787", "http://127.0.0.1:8787", no),
            (&none, "[::1]:8787", "http://[::2]:8787", no),
            // Of a scheme that has no port of its own, nothing is the server's.
            (&none, "localhost", "tauri://localhost", no),
            (&none, "a.example", "ws://a.example", no),
            (&none, "a.example", "file://a.example", no),
            // What is no origin.
            (&none, "a.example", "", no),
            (&none, "a.example", "null", no),
            (&none, "null", "null", no),
            (&none, "a.example", "*", no),
            (&none, "a.example", "a.example", no),
            (&none, "a.example", "https://a.example/", no),
            (&none, "a.example", "https://a.example/x", no),
            (&none, "a.example", "https://evil.example/a.example", no),
            (&none, "a.example", "https://evil.example#a.example", no),
            (&none, "a.example", "https://a.example@evil.example", no),
            (&none, "a.example", "https://evil.example@a.example", no),
            (&none, "a.example", "https://a.example https://a.example", no),
            (&none, "a.example", "https://a.example, https://a.example", no),
            (&none, "a.example", "https://a.example\\.evil.example", no),
            (&none, "a.example", "https://a%2eexample", no),
            // A host that is none has no page.
            (&none, "", "https://", no),
            (&none, "a.example:x", "https://a.example", no),
            (&none, "ann@a.example", "https://a.example", no),
            (&none, "a.example/x", "https://a.example", no),
            // The list, exactly.
            (&some, "api.example", "https://app.example", named),
            (&some, "api.example", "https://APP.example:443", named),
            (&some, "api.example", "http://localhost:5173", named),
            (&some, "api.example", "tauri://localhost", named),
            (&some, "api.example", "https://[2001:DB8:0::1]", named),
            (&some, "app.example", "https://app.example", named),
            (&some, "api.example", "https://api.example", own),
            (&some, "api.example", "http://app.example", no),
            (&some, "api.example", "https://app.example:8443", no),
            (&some, "api.example", "https://www.app.example", no),
            (&some, "api.example", "http://localhost", no),
            (&some, "api.example", "http://localhost:5174", no),
            (&some, "api.example", "null", no),
            // Everybody.
            (&Access::any_origin(), "a.example", "https://evil.example", own),
            (&Access::any_origin(), "a.example", "null", own),
        ];
        for (access, host, origin, expected) in table {
            assert_eq!(page(access, host, &[origin.as_bytes()]), *expected, "{host} {origin}");
        }
    }

    #[test]
    fn over_tls_the_servers_own_page_is_one_of_https() {
        let some = listed(&["http://localhost:5173"]);
        for (host, origin, plain, secure) in [
            ("a.example", "https://a.example", true, true),
            ("a.example", "http://a.example", true, false),
            ("a.example:8443", "https://a.example:8443", true, true),
            ("a.example:8443", "http://a.example:8443", true, false),
            // What is listed says itself which it is.
            ("a.example", "http://localhost:5173", true, true),
        ] {
            let page = |secure| some.page(host.as_bytes(), secure, [origin.as_bytes()].into_iter()).is_ok();
            assert_eq!((page(false), page(true)), (plain, secure), "{host} {origin}");
        }
    }

    #[test]
    fn a_cookie_needs_a_list_and_a_page_of_it() {
        let name = || CookieName::parse("__Host-token").unwrap();
        for access in [Access::default(), listed(&[]), Access::any_origin()] {
            assert_eq!(access.with_cookie(name()), Err(AccessError::Origins));
        }
        let access = listed(&["https://app.example"]).with_cookie(name()).unwrap();
        assert_eq!(access.cookie(Page::Listed), Some(&name()));
        assert_eq!((access.cookie(Page::Unlisted), access.cookie(Page::None)), (None, None));
        assert_eq!(listed(&["https://app.example"]).cookie(Page::Listed), None);
        let long = "n".repeat(MAX_COOKIE_NAME_BYTES + 1);
        assert!(CookieName::parse(&long[1..]).is_ok());
        for bad in ["", " ", "a b", "a=b", "a;b", "a,b", "\"a\"", "a\r\n", "ä", &long] {
            assert_eq!(CookieName::parse(bad), Err(AccessError::Name), "{bad}");
        }
    }

    #[test]
    fn no_origin_is_no_page_and_two_are_refused() {
        let one = &b"https://a.example"[..];
        for access in [Access::default(), listed(&["https://a.example"]), Access::any_origin()] {
            assert_eq!(page(&access, "a.example", &[]), Ok(Page::None));
            assert!(page(&access, "a.example", &[one]).is_ok());
            assert_eq!(page(&access, "a.example", &[one, one]), Err(ForbiddenOrigin));
        }
        assert_eq!(page(&Access::default(), "a.example", &[b"https://a.example\xff"]), Err(ForbiddenOrigin));
    }
}
