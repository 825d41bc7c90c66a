//! A request's head that a web stack has read, written down again, so that it takes the one way that all heads take.

use std::fmt;

use super::head::MALFORMED;
use super::{Refusal, is_token};
use crate::limits::Limits;

/// The head of a request as a web stack gives it. `Debug` shows the method: target and headers may be secret.
#[derive(Clone, Copy)]
pub struct GivenHead<'a> {
    /// As it came, such as `GET`.
    pub method: &'a str,
    /// Path and query. Which path it is, the stack has decided already.
    pub target: &'a str,
    /// Such as `HTTP/1.1`, the only one that an upgrade goes by: the WebSockets of HTTP/2 (RFC 8441) are refused.
    pub version: &'a str,
    /// One for each line, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl GivenHead<'_> {
    /// The head as it would come from a socket, of at most `handshake_bytes`.
    ///
    /// # Errors
    /// [`Refusal::HeaderTooLarge`] beyond that, and [`Refusal::BadRequest`] where a part could be taken for two.
    pub fn encode(&self, limits: &Limits) -> Result<Vec<u8>, Refusal> {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte > b' ' && byte != 127);
        let is_line = |value: &[u8]| !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if !is_token(self.method) || !is_word(self.target) || !is_word(self.version) {
            return Err(MALFORMED);
        }
        let mut head = Vec::new();
        let mut put = |parts: [&[u8]; 6]| {
            parts.iter().for_each(|part| head.extend_from_slice(part));
            if head.len() > limits.handshake_bytes { Err(Refusal::HeaderTooLarge) } else { Ok(()) }
        };
        put([self.method.as_bytes(), b" ", self.target.as_bytes(), b" ", self.version.as_bytes(), b"\r\n"])?;
        for (name, value) in self.headers {
            if !is_token(name) || !is_line(value) {
                return Err(MALFORMED);
            }
            put([name.as_bytes(), b": ", value, b"\r\n", b"", b""])?;
        }
        put([b"\r\n", b"", b"", b"", b"", b""])?;
        Ok(head)
    }
}

impl fmt::Debug for GivenHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenHead").field("method", &self.method).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::upgrade::{Head, parse_head};
    use proptest::prelude::*;

    const GOOD: GivenHead<'static> =
        GivenHead { method: "GET", target: "/ws?a=b", version: "HTTP/1.1", headers: &[("host", b"h")] };

    #[test]
    fn it_is_read_as_what_it_was_given_as() {
        let bytes = GOOD.encode(&Limits::default()).unwrap();
        let Ok(Head::Complete { request, len }) = parse_head(&bytes, &Limits::default()) else { panic!() };
        assert_eq!((request.method(), request.target(), len), ("GET", "/ws?a=b", bytes.len()));
        assert_eq!(request.header_str("Host"), Ok(Some("h")));
        assert_eq!(format!("{GOOD:?}"), "GivenHead { method: \"GET\", .. }");
    }

    #[test]
    fn one_of_exactly_the_limit_is_written_and_one_byte_more_is_not() {
        let whole = GOOD.encode(&Limits::default()).unwrap().len();
        let within = |handshake_bytes| GOOD.encode(&Limits { handshake_bytes, ..Limits::default() });
        assert_eq!(within(whole).unwrap().len(), whole);
        assert_eq!(within(whole - 1), Err(Refusal::HeaderTooLarge));
    }

    #[test]
    fn no_part_can_be_taken_for_two() {
        let bad: [GivenHead<'_>; 9] = [
            GivenHead { method: "GET /a", ..GOOD },
            GivenHead { method: "", ..GOOD },
            GivenHead { target: "/ws HTTP/1.1\r\nX: y", ..GOOD },
            GivenHead { target: "", ..GOOD },
            GivenHead { version: "HTTP/1.1\r\nX: y", ..GOOD },
            GivenHead { headers: &[("a", b"b\r\nX: y")], ..GOOD },
            GivenHead { headers: &[("a", b"b\nX: y")], ..GOOD },
            GivenHead { headers: &[("a: b\r\nX", b"y")], ..GOOD },
            GivenHead { headers: &[("", b"y")], ..GOOD },
        ];
        for head in bad {
            assert_eq!(head.encode(&Limits::default()), Err(MALFORMED));
        }
    }

    properties! {
        #[test]
        fn what_is_written_ends_where_the_head_ends(method in any::<String>(), target in any::<String>(), name in any::<String>(), value in any::<Vec<u8>>()) {
            let head = GivenHead { method: &method, target: &target, headers: &[(&name, &value)], ..GOOD };
            let plain = GivenHead { headers: &[("a", &value)], ..GOOD };
            for head in [head, plain] {
                if let Ok(bytes) = head.encode(&Limits::default())
                    && let Ok(Head::Complete { len, .. }) = parse_head(&bytes, &Limits::default())
                {
                    prop_assert_eq!(len, bytes.len());
                }
            }
        }
    }
}
