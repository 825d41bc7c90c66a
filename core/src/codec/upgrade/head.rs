//! A request's head, found and parsed within limits.

use super::{Refusal, list_members};
use crate::limits::{Limits, MAX_HANDSHAKE_HEADERS};
use std::fmt;

/// What [`parse_head`] found.
#[derive(Debug)]
pub enum Head<'a> {
    /// The head goes on.
    Incomplete,
    /// The head is whole.
    Complete {
        /// The parsed head.
        request: Request<'a>,
        /// Its bytes; what follows is the body's or the frames'.
        len: usize,
    },
}

/// Parses the head at the start of `bytes`. A caller whose buffer grows a little at a time finds the end with a
/// [`HeadScanner`] first, so that the work stays linear.
///
/// # Errors
/// [`Refusal::HeaderTooLarge`] beyond `handshake_bytes` or `handshake_headers`, as soon as it is certain, and
/// [`Refusal::BadRequest`] for what is not an HTTP/1 request.
pub fn parse_head<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Head<'a>, Refusal> {
    let Some(len) = HeadScanner::default().scan(bytes, limits)? else {
        return Ok(Head::Incomplete);
    };
    let mut table = [httparse::EMPTY_HEADER; MAX_HANDSHAKE_HEADERS];
    let allowed = limits.handshake_headers.min(MAX_HANDSHAKE_HEADERS);
    let mut parsed = httparse::Request::new(table.get_mut(..allowed).unwrap_or_default());
    match parsed.parse(bytes.get(..len).unwrap_or_default()) {
        Ok(httparse::Status::Complete(end)) if end == len => {}
        // Two views of where a head ends are how requests are smuggled.
        Ok(httparse::Status::Complete(_) | httparse::Status::Partial) => return Err(MALFORMED),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeaderTooLarge),
        Err(httparse::Error::Version) => return Err(Refusal::BadRequest("the HTTP version is not 1.1: use HTTP/1.1")),
        Err(_) => return Err(MALFORMED),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(MALFORMED);
    };
    let request = Request { method, target, version, headers: parsed.headers.to_vec() };
    Ok(Head::Complete { request, len })
}

/// Finds the end of a head in a buffer that grows, looking at each byte once.
///
/// It serves any HTTP/1 head: a client finds the end of the answer with it.
#[derive(Clone, Debug)]
pub struct HeadScanner {
    looked: usize,
    started: bool,
    line_is_empty: bool,
}

impl Default for HeadScanner {
    fn default() -> Self {
        Self { looked: 0, started: false, line_is_empty: true }
    }
}

impl HeadScanner {
    /// The length of the head once its empty line is there. `bytes` is the same buffer at every call, grown at its end.
    ///
    /// # Errors
    /// [`Refusal::HeaderTooLarge`] when the head cannot end within `handshake_bytes`, so that no more than that is ever
    /// buffered; [`Refusal::BadRequest`] at the first byte that no head contains, so that TLS on a plain port is not
    /// waited for.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        let bound = bytes.len().min(limits.handshake_bytes);
        for byte in bytes.get(self.looked..bound).unwrap_or_default() {
            self.looked += 1;
            match byte {
                b'\n' if self.started && self.line_is_empty => return Ok(Some(self.looked)),
                b'\n' => self.line_is_empty = true,
                b'\r' => {}
                0..=8 | 11..=31 | 127 => return Err(MALFORMED),
                _ => (self.started, self.line_is_empty) = (true, false),
            }
        }
        if bytes.len() >= limits.handshake_bytes { Err(Refusal::HeaderTooLarge) } else { Ok(None) }
    }
}

/// A parsed head, borrowed from the bytes it came in. `Debug` shows the method and the path: headers and query may be
/// secret.
pub struct Request<'a> {
    method: &'a str,
    target: &'a str,
    version: u8,
    headers: Vec<httparse::Header<'a>>,
}

impl<'a> Request<'a> {
    /// The method, in the case it came in.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The request target, as it came.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target's path: without query, and without scheme and host where the target is absolute (RFC 9112 section
    /// 3.2.2).
    pub fn path(&self) -> &'a str {
        let whole = self.target.split(['?', '#']).next().unwrap_or_default();
        if whole.starts_with('/') {
            return whole;
        }
        match whole.split_once("://") {
            Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
            None => whole,
        }
    }

    /// What follows the first `?` of the target, up to a fragment, which no target should have.
    pub fn query(&self) -> Option<&'a str> {
        let whole = self.target.split('#').next().unwrap_or_default();
        whole.split_once('?').map(|(_, query)| query)
    }

    /// Whether the version is 1.1 and not 1.0.
    pub fn is_http_11(&self) -> bool {
        self.version == 1
    }

    /// The value of each line of the header with this name (in any case), in order, without space around it.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii())
    }

    /// The header's value as text, or `None` where there is no such header.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] when it stands more than once or is not UTF-8: which of two values to trust must not be
    /// a guess.
    pub fn header_str(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.headers(name);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => match std::str::from_utf8(value) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(Refusal::BadRequest("a header is not UTF-8: send it as ASCII")),
            },
            (Some(_), Some(_)) => Err(Refusal::BadRequest("a header stands twice that may stand once: send it once")),
        }
    }

    /// The members of a comma-separated header, over all its lines, in order. Members that are not UTF-8 are left out.
    pub fn members(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers(name).flat_map(list_members).filter_map(|member| std::str::from_utf8(member).ok())
    }

    /// Whether the header's members contain `token`, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.members(name).any(|member| member.eq_ignore_ascii_case(token))
    }

    /// Whether this asks for a WebSocket at all, well or badly; what does not is the web stack's.
    pub fn is_upgrade(&self) -> bool {
        self.has_token("Upgrade", "websocket")
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.headers.len();
        write!(f, "Request({} {}, {count} headers)", self.method, self.path().escape_debug())
    }
}

pub(super) const MALFORMED: Refusal = Refusal::BadRequest("this is not an HTTP/1.1 request: use a WebSocket client");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(handshake_bytes: usize, handshake_headers: usize) -> Limits {
        Limits { handshake_bytes, handshake_headers, ..Limits::default() }
    }

    fn complete(bytes: &[u8]) -> Request<'_> {
        match parse_head(bytes, &Limits::default()) {
            Ok(Head::Complete { request, .. }) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_head_ends_at_the_empty_line_and_the_rest_is_left() {
        for head in ["GET / HTTP/1.1\r\nA: b\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nA: b\n\n"] {
            let bytes = format!("{head}rest\r\n\r\n");
            let Ok(Head::Complete { len, .. }) = parse_head(bytes.as_bytes(), &Limits::default()) else { panic!() };
            assert_eq!(len, head.len());
            for cut in 0..head.len() {
                let found = parse_head(&bytes.as_bytes()[..cut], &Limits::default());
                assert!(matches!(found, Ok(Head::Incomplete)), "{cut}");
            }
        }
    }

    #[test]
    fn a_head_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nframes";
        let len = bytes.len() - 6;
        assert!(matches!(parse_head(bytes, &limits(len, 9)), Ok(Head::Complete { .. })));
        assert_eq!(parse_head(bytes, &limits(len - 1, 9)).unwrap_err(), Refusal::HeaderTooLarge);
        // The limit's last byte is there and the end is not: nothing that follows can save it.
        assert_eq!(parse_head(&bytes[..len - 1], &limits(len - 1, 9)).unwrap_err(), Refusal::HeaderTooLarge);
        assert!(matches!(parse_head(&bytes[..len - 2], &limits(len - 1, 9)), Ok(Head::Incomplete)));
    }

    #[test]
    fn as_many_headers_as_the_limit_pass_and_one_more_does_not() {
        for (allowed, count) in [(3, 3), (3, 4), (256, 256), (256, 257), (1_000, 256), (1_000, 257)] {
            let bytes = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
            let outcome = parse_head(bytes.as_bytes(), &limits(16 << 10, allowed));
            if count <= allowed.min(256) {
                assert!(matches!(outcome, Ok(Head::Complete { .. })), "{allowed} {count}");
            } else {
                assert_eq!(outcome.unwrap_err(), Refusal::HeaderTooLarge, "{allowed} {count}");
            }
        }
    }

    #[test]
    fn what_is_not_http_1_is_refused() {
        let heads: [&[u8]; 8] = [
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/1.1\r\nA: b\0",
            b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"G(T / HTTP/1.1\r\n\r\n",
        ];
        for head in heads {
            assert_eq!(parse_head(head, &Limits::default()).unwrap_err().status(), 400, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn headers_are_found_in_any_case_over_several_lines() {
        let request = complete(b"GET / HTTP/1.1\r\nX-a: one, two\r\nhost: h\r\nx-A:  three \r\nBad: \xff\r\n\r\n");
        let lines: Vec<&[u8]> = request.headers("X-A").collect();
        assert_eq!(lines, [&b"one, two"[..], b"three"]);
        assert_eq!(request.members("x-a").collect::<Vec<_>>(), ["one", "two", "three"]);
        assert!(request.has_token("x-a", "TWO") && !request.has_token("x-a", "tw"));
        assert_eq!(request.header_str("Host"), Ok(Some("h")));
        assert_eq!(request.header_str("None"), Ok(None));
        assert_eq!(request.header_str("x-a").unwrap_err().status(), 400);
        assert_eq!(request.header_str("bad").unwrap_err().status(), 400);
        assert!(!request.is_upgrade());
    }

    #[test]
    fn the_path_is_the_target_without_query_and_host() {
        let targets = [
            ("/ws?ticket=1?2", "/ws", Some("ticket=1?2")),
            ("/", "/", None),
            ("http://h:1/ws?x", "/ws", Some("x")),
            ("http://h", "/", None),
            ("http://h?a=/b", "/", Some("a=/b")),
            ("*", "*", None),
            ("/ws?a=b#c?d", "/ws", Some("a=b")),
            ("/ws#c?a=b", "/ws", None),
        ];
        for (target, path, query) in targets {
            let bytes = format!("GET {target} HTTP/1.1\r\n\r\n");
            let request = complete(bytes.as_bytes());
            assert_eq!((request.target(), request.path(), request.query()), (target, path, query));
        }
    }

    #[test]
    fn debug_shows_neither_query_nor_headers() {
        let request = complete(b"GET /ws?ticket=secret HTTP/1.1\r\nAuthorization: secret\r\n\r\n");
        assert_eq!(format!("{request:?}"), "Request(GET /ws, 1 headers)");
    }

    properties! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>(), text in "[GET /HTP1.0:a\r\n?,]{0,80}") {
            for input in [&bytes[..], text.as_bytes(), format!("GET / HTTP/1.1\r\n{text}\r\n\r\n").as_bytes()] {
                if let Ok(Head::Complete { request, len }) = parse_head(input, &Limits::default()) {
                    prop_assert!(len <= input.len());
                    let _ = (request.path(), request.query(), request.is_upgrade());
                }
            }
        }

        #[test]
        fn the_scanner_finds_the_same_end_however_the_bytes_come(
            text in "(G|\r\n|\n|\r|a: b){0,40}",
            step in 1_usize..9,
        ) {
            let bytes = text.as_bytes();
            let whole = HeadScanner::default().scan(bytes, &Limits::default());
            let mut scanner = HeadScanner::default();
            let cuts = (0..bytes.len()).step_by(step).chain([bytes.len()]);
            let drip = cuts.map(|cut| scanner.scan(&bytes[..cut], &Limits::default())).find(|found| *found != Ok(None));
            prop_assert_eq!(whole, drip.unwrap_or(Ok(None)));
        }
    }
}
