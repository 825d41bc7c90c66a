//! The server's end: RFC 6455 section 4.2.

use super::offers::{Agreed, agree};
use super::{Answer, Refusal, Request, accept_key, is_token};

/// Whether the request is a WebSocket upgrade as RFC 6455 section 4.2.1 wants it.
///
/// # Errors
/// The first rule that is broken. Path, origin and credentials are the caller's to check.
pub fn check_upgrade(request: &Request<'_>) -> Result<Upgrade, Refusal> {
    if request.method() != "GET" {
        return Err(Refusal::MethodNotAllowed);
    }
    if !request.is_http_11() {
        return Err(Refusal::BadRequest("the HTTP version is not 1.1: use HTTP/1.1"));
    }
    if request.headers("Host").count() != 1 {
        return Err(Refusal::BadRequest("there must be exactly one Host header: send one"));
    }
    if !request.is_upgrade() {
        return Err(Refusal::UpgradeRequired);
    }
    if !request.has_token("Connection", "upgrade") {
        return Err(Refusal::BadRequest("the Connection header does not name Upgrade: send `Connection: Upgrade`"));
    }
    if !request.headers("Sec-WebSocket-Version").eq([b"13"]) {
        return Err(Refusal::UpgradeRequired);
    }
    check_no_body(request)?;
    let mut keys = request.headers("Sec-WebSocket-Key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => Ok(Upgrade { accept: accept_key(key), agreed: None }),
        _ => Err(Refusal::BadRequest(
            "there must be exactly one Sec-WebSocket-Key, base64 of 16 bytes: send a fresh one",
        )),
    }
}

/// A checked upgrade, ready to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
    agreed: Option<Agreed>,
}

impl Upgrade {
    /// Accepts what the client offers of the extension `permessage-deflate`. Without this call no extension is used: RFC 7692
    /// section 7.1.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] where an offer, of whatever extension, breaks the grammar of RFC 6455 section 9.1.
    pub fn with_deflate(self, request: &Request<'_>) -> Result<Self, Refusal> {
        let agreed = agree(request.headers("Sec-WebSocket-Extensions"))?;
        Ok(Self { agreed, ..self })
    }

    /// How messages may be compressed once the answer is sent; `None` where they may not.
    pub const fn agreed(&self) -> Option<Agreed> {
        self.agreed
    }

    /// The 101 answer, after which frames follow. `subprotocol` is one that the client offered, or none; what is not a
    /// token of RFC 9110 is left out, so that it cannot forge a header.
    pub fn answer(&self, subprotocol: Option<&str>) -> Answer {
        let mut headers = vec![
            ("Upgrade", "websocket".to_owned()),
            ("Connection", "Upgrade".to_owned()),
            ("Sec-WebSocket-Accept", self.accept.clone()),
        ];
        headers
            .extend(subprotocol.filter(|name| is_token(name)).map(|name| ("Sec-WebSocket-Protocol", name.to_owned())));
        headers.extend(self.agreed.map(|agreed| ("Sec-WebSocket-Extensions", agreed.header())));
        Answer { status: 101, phrase: "Switching Protocols", headers, body: String::new() }
    }

    /// The same as bytes.
    pub fn response(&self, subprotocol: Option<&str>) -> Vec<u8> {
        self.answer(subprotocol).encode()
    }
}

/// What a body leaves in the buffer would be read as frames.
fn check_no_body(request: &Request<'_>) -> Result<(), Refusal> {
    let has_length = request.headers("Content-Length").any(|value| value != b"0");
    if has_length || request.headers("Transfer-Encoding").next().is_some() {
        return Err(Refusal::BadRequest("an upgrade carries no body: send none"));
    }
    Ok(())
}

/// Base64 of 16 bytes: 22 characters and two of padding. The four bits of the last character that mean nothing are not
/// looked at, as most decoders do not.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key.split_at_checked(22), Some((data, b"==")) if data.iter().all(is_base64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::upgrade::{Head, parse_head};
    use crate::limits::Limits;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const GOOD: [&str; 6] =
        ["GET /ws HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade", KEY, "Sec-WebSocket-Version: 13"];

    fn check(lines: &[&str]) -> Result<Upgrade, u16> {
        let bytes = format!("{}\r\n\r\n", lines.join("\r\n"));
        let Ok(Head::Complete { request, .. }) = parse_head(bytes.as_bytes(), &Limits::default()) else { panic!() };
        check_upgrade(&request).map_err(|refusal| refusal.status())
    }

    /// The good request with the line at `at` in other words; an empty text leaves it out, and `\n` makes two of it.
    fn with(at: usize, line: &str) -> Result<Upgrade, u16> {
        let mut lines = GOOD.to_vec();
        lines.splice(at..=at, line.split('\n').filter(|line| !line.is_empty()));
        check(&lines)
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        // RFC 6455 section 1.3.
        let answer = String::from_utf8(check(&GOOD).unwrap().response(Some("chat"))).unwrap();
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_subprotocol_cannot_forge_a_header() {
        let plain = check(&GOOD).unwrap().response(None);
        assert_eq!(check(&GOOD).unwrap().response(Some("a\r\nSet-Cookie: b")), plain);
        assert_eq!(check(&GOOD).unwrap().response(Some("")), plain);
    }

    #[test]
    fn an_extension_is_agreed_on_where_it_is_wanted_and_offered() {
        let line = "Sec-WebSocket-Extensions: other, permessage-deflate; server_max_window_bits=10";
        let bytes = format!("{}\r\n{line}\r\n\r\n", GOOD.join("\r\n"));
        let Ok(Head::Complete { request, .. }) = parse_head(bytes.as_bytes(), &Limits::default()) else { panic!() };
        let plain = check_upgrade(&request).unwrap();
        assert_eq!((plain.agreed(), plain.response(None)), (None, check(&GOOD).unwrap().response(None)));
        let upgrade = plain.with_deflate(&request).unwrap();
        assert_eq!(upgrade.agreed().map(Agreed::window_bits), Some(10));
        let answer = String::from_utf8(upgrade.response(Some("chat"))).unwrap();
        assert!(answer.ends_with(
            "\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; \
            server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10\r\n\r\n"
        ));
    }

    #[test]
    fn legal_variations_are_accepted() {
        let legal = [
            (1, "hOST: a"),
            (2, "Upgrade: foo, WebSocket"),
            (2, "Upgrade: foo\nUpgrade: websocket"),
            (3, "Connection: keep-alive, upgrade"),
            (3, "Connection: keep-alive\nConnection: UPGRADE"),
            (4, "Sec-WebSocket-Key:   AAAAAAAAAAAAAAAAAAAA+/==  "),
            (5, "Sec-WebSocket-Version: 13\nContent-Length: 0"),
            (5, "Sec-WebSocket-Version: 13\nSec-WebSocket-Extensions: permessage-deflate"),
            (0, "GET http://a/ws HTTP/1.1"),
        ];
        for (at, line) in legal {
            assert!(with(at, line).is_ok(), "{line}");
        }
    }

    #[test]
    fn every_broken_rule_has_its_answer() {
        let broken = [
            (0, "POST /ws HTTP/1.1", 405),
            (0, "get /ws HTTP/1.1", 405),
            (0, "GET /ws HTTP/1.0", 400),
            (1, "", 400),
            (1, "Host: a\nHost: a", 400),
            (2, "", 426),
            (2, "Upgrade: websockets", 426),
            (3, "", 400),
            (3, "Connection: keep-alive", 400),
            (3, "Connection: no-upgrade", 400),
            (4, "", 400),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
            (4, "Sec-WebSocket-Key:", 400),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===", 400),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=", 400),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===", 400),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==", 400),
            (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQdGhlIH", 400),
            (5, "", 426),
            (5, "Sec-WebSocket-Version: 8", 426),
            (5, "Sec-WebSocket-Version: 013", 426),
            (5, "Sec-WebSocket-Version: 13\nSec-WebSocket-Version: 13", 426),
            (5, "Sec-WebSocket-Version: 13\nContent-Length: 1", 400),
            (5, "Sec-WebSocket-Version: 13\nContent-Length: 0\nContent-Length: 5", 400),
            (5, "Sec-WebSocket-Version: 13\nContent-Length: +0", 400),
            (5, "Sec-WebSocket-Version: 13\nTransfer-Encoding: chunked", 400),
        ];
        for (at, line, status) in broken {
            assert_eq!(with(at, line), Err(status), "{line}");
        }
    }
}
