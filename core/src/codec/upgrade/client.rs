//! The client's end: RFC 6455 section 4.1.

use super::{HeadScanner, Refusal, accept_key, is_token, list_members};
use crate::limits::{Limits, MAX_HANDSHAKE_HEADERS};
use std::fmt;

/// The upgrade request. `host` is the `Host` header (with a port where it is not the scheme's own), `target` the path
/// and query, `nonce` 16 fresh random bytes, `authorization` the whole value of the header (`Bearer …`).
///
/// # Errors
/// When a part cannot stand in a head: space, control characters or line breaks in host, target or authorization, a
/// target that does not start with `/`, a subprotocol that is not a token or stands twice.
pub fn client_request(
    host: &str,
    target: &str,
    nonce: [u8; 16],
    subprotocols: &[&str],
    authorization: Option<&str>,
) -> Result<ClientHandshake, UpgradeError> {
    check_parts(host, target, subprotocols, authorization)?;
    let key = base64(nonce);
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    );
    if !subprotocols.is_empty() {
        request.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols.join(", ")));
    }
    if let Some(value) = authorization {
        request.push_str(&format!("Authorization: {value}\r\n"));
    }
    request.push_str("\r\n");
    let subprotocols = subprotocols.iter().map(|name| (*name).to_owned()).collect();
    Ok(ClientHandshake { request: request.into_bytes(), accept: accept_key(key.as_bytes()), subprotocols })
}

/// A client's handshake under way. `Debug` shows nothing of it: the request may carry a token.
pub struct ClientHandshake {
    request: Vec<u8>,
    accept: String,
    subprotocols: Vec<String>,
}

impl ClientHandshake {
    /// What goes out first.
    pub fn request_bytes(&self) -> &[u8] {
        &self.request
    }

    /// Looks for the answer at the start of `bytes`: `None` while it is not whole, then its length, after which frames
    /// follow, and the subprotocol that the server chose. The limits are `handshake_bytes` and `handshake_headers`.
    ///
    /// # Errors
    /// When the answer is not a 101 that belongs to this request: RFC 6455 section 4.1.
    pub fn parse_response(
        &self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, Option<String>)>, UpgradeError> {
        let Some(len) = HeadScanner::default().scan(bytes, limits).map_err(head_error)? else {
            return Ok(None);
        };
        let mut table = [httparse::EMPTY_HEADER; MAX_HANDSHAKE_HEADERS];
        let allowed = limits.handshake_headers.min(MAX_HANDSHAKE_HEADERS);
        let mut response = httparse::Response::new(table.get_mut(..allowed).unwrap_or_default());
        match response.parse(bytes.get(..len).unwrap_or_default()) {
            Ok(httparse::Status::Complete(end)) if end == len => {}
            Ok(_) => return Err(UpgradeError::local(MALFORMED)),
            Err(httparse::Error::TooManyHeaders) => return Err(UpgradeError::local(TOO_LARGE)),
            Err(_) => return Err(UpgradeError::local(MALFORMED)),
        }
        let subprotocol = self.check_response(&response, bytes.get(len..).unwrap_or_default())?;
        Ok(Some((len, subprotocol)))
    }

    fn check_response(
        &self,
        response: &httparse::Response<'_, '_>,
        body: &[u8],
    ) -> Result<Option<String>, UpgradeError> {
        let lines = |name: &'static str| lines(response, name);
        let has = |name, token: &[u8]| lines(name).flat_map(list_members).any(|it| it.eq_ignore_ascii_case(token));
        let status = response.code.unwrap_or_default();
        if status != 101 {
            return Err(refused(status, lines("Retry-After").next(), body));
        }
        let wrong = |message: &'static str| Err(UpgradeError { status: Some(101), ..UpgradeError::local(message) });
        if response.version != Some(1) || !has("Upgrade", b"websocket") || !has("Connection", b"upgrade") {
            return wrong("the server's answer does not switch to WebSocket");
        }
        if !lines("Sec-WebSocket-Accept").eq([self.accept.as_bytes()]) {
            return wrong("the server's Sec-WebSocket-Accept does not answer this request");
        }
        if lines("Sec-WebSocket-Extensions").any(|value| !value.is_empty()) {
            return wrong("the server uses an extension that was not offered");
        }
        let mut chosen = lines("Sec-WebSocket-Protocol");
        match (chosen.next(), chosen.next()) {
            (None, _) => Ok(None),
            (Some(name), None) => match self.subprotocols.iter().find(|offered| offered.as_bytes() == name) {
                Some(offered) => Ok(Some(offered.clone())),
                None => wrong("the server chose a subprotocol that was not offered"),
            },
            (Some(_), Some(_)) => wrong("the server chose more than one subprotocol"),
        }
    }
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake").finish_non_exhaustive()
    }
}

/// Why there is no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UpgradeError {
    /// The HTTP status of the server's answer, where there was one.
    pub status: Option<u16>,
    /// The server's `Retry-After` in seconds, where it gave one as a number.
    pub retry_after_secs: Option<u32>,
    /// What is wrong, in one line; of a refusal's body at most 200 characters of its first line, without control
    /// characters.
    pub message: String,
}

impl UpgradeError {
    fn local(message: &str) -> Self {
        Self { status: None, retry_after_secs: None, message: message.to_owned() }
    }
}

const MALFORMED: &str = "the server's answer is not HTTP/1.1";
const TOO_LARGE: &str = "the server's answer is larger than the limit";

fn check_parts(
    host: &str,
    target: &str,
    subprotocols: &[&str],
    authorization: Option<&str>,
) -> Result<(), UpgradeError> {
    let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_visible(host) {
        return Err(UpgradeError::local("the host must be visible ASCII"));
    }
    if !is_visible(target) || !target.starts_with('/') || target.contains('#') {
        return Err(UpgradeError::local("the target must start with `/`, be visible ASCII and have no fragment"));
    }
    let stands_twice = |at: usize, name: &str| subprotocols.iter().take(at).any(|other| *other == name);
    if subprotocols.iter().enumerate().any(|(at, name)| !is_token(name) || stands_twice(at, name)) {
        return Err(UpgradeError::local("a subprotocol must be a token and stand once"));
    }
    // A scheme and its credentials are two words; nothing else is let between them.
    if authorization.is_some_and(|value| !value.split(' ').all(is_visible)) {
        return Err(UpgradeError::local("the authorization must be visible ASCII"));
    }
    Ok(())
}

fn lines<'a>(response: &httparse::Response<'_, 'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value.trim_ascii())
}

fn head_error(refusal: Refusal) -> UpgradeError {
    match refusal {
        Refusal::HeaderTooLarge => UpgradeError::local(TOO_LARGE),
        Refusal::BadRequest(_)
        | Refusal::Unauthorized
        | Refusal::Forbidden
        | Refusal::NotFound
        | Refusal::MethodNotAllowed
        | Refusal::UpgradeRequired
        | Refusal::Unavailable { .. } => UpgradeError::local(MALFORMED),
    }
}

fn refused(status: u16, retry_after: Option<&[u8]>, body: &[u8]) -> UpgradeError {
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.get(..800).unwrap_or(line);
    let text: String = String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(200).collect();
    let separator = if text.is_empty() { "" } else { ": " };
    UpgradeError {
        status: Some(status),
        retry_after_secs: retry_after.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()),
        message: format!("the server answered {status}{separator}{text}"),
    }
}

/// Base64 of a nonce: RFC 4648 section 4.
fn base64(nonce: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 128 bits are 21 characters of six bits and one of two, which stand at its top.
    let bits = u128::from_be_bytes(nonce);
    let sextets = (0..22).map(|at| if at < 21 { bits >> (122 - 6 * at) } else { bits << 4 });
    let mut text: String = sextets.map(|sextet| char::from(ALPHABET[(sextet & 63) as usize])).collect();
    text.push_str("==");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::upgrade::{Head, check_upgrade, parse_head};
    use proptest::prelude::*;

    const NONCE: [u8; 16] = *b"the sample nonce";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const GOOD: [&str; 4] = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", ACCEPT];

    type Answer = Result<Option<(usize, Option<String>)>, UpgradeError>;

    fn handshake() -> ClientHandshake {
        client_request("a:1", "/ws?x", NONCE, &["trunkline.v1", "bearer.t"], Some("Bearer t")).unwrap()
    }

    fn answer(lines: &[&str], body: &str) -> Answer {
        let bytes = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
        handshake().parse_response(bytes.as_bytes(), &Limits::default())
    }

    fn with(at: usize, line: &str) -> Answer {
        let mut lines = GOOD.to_vec();
        lines.splice(at..=at, line.split('\n').filter(|line| !line.is_empty()));
        answer(&lines, "")
    }

    #[test]
    fn the_servers_end_accepts_the_request_and_the_clients_end_the_answer() {
        let client = handshake();
        let limits = Limits::default();
        let Ok(Head::Complete { request, len }) = parse_head(client.request_bytes(), &limits) else { panic!() };
        assert_eq!(len, client.request_bytes().len());
        assert_eq!(request.target(), "/ws?x");
        assert_eq!(request.header_str("Authorization"), Ok(Some("Bearer t")));
        assert_eq!(request.header_str("Sec-WebSocket-Key"), Ok(Some("dGhlIHNhbXBsZSBub25jZQ==")));
        assert_eq!(request.members("Sec-WebSocket-Protocol").collect::<Vec<_>>(), ["trunkline.v1", "bearer.t"]);
        let mut answer = check_upgrade(&request).unwrap().response(Some("trunkline.v1"));
        let len = answer.len();
        answer.extend_from_slice(&[0x81, 0]);
        for cut in 0..len {
            assert_eq!(client.parse_response(&answer[..cut], &limits), Ok(None));
        }
        assert_eq!(client.parse_response(&answer, &limits), Ok(Some((len, Some("trunkline.v1".into())))));
    }

    #[test]
    fn an_answer_that_does_not_belong_to_the_request_is_refused() {
        assert!(answer(&GOOD, "").is_ok_and(|found| found.is_some_and(|(_, protocol)| protocol.is_none())));
        let twice = format!("{ACCEPT}\n{ACCEPT}");
        let unoffered = format!("{ACCEPT}\nSec-WebSocket-Protocol: other");
        let two = format!("{ACCEPT}\nSec-WebSocket-Protocol: trunkline.v1\nSec-WebSocket-Protocol: bearer.t");
        let extension = format!("{ACCEPT}\nSec-WebSocket-Extensions: permessage-deflate");
        let broken = [
            (0, "HTTP/1.0 101 Switching Protocols"),
            (1, ""),
            (1, "Upgrade: h2c"),
            (2, ""),
            (2, "Connection: close"),
            (3, ""),
            (3, "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            (3, &twice),
            (3, &unoffered),
            (3, &two),
            (3, &extension),
        ];
        for (at, line) in broken {
            assert_eq!(with(at, line).unwrap_err().status, Some(101), "{line}");
        }
        assert_eq!(answer(&["SSH-2.0-OpenSSH"], "").unwrap_err().status, None);
    }

    #[test]
    fn a_refusal_carries_its_status_text_and_delay() {
        let bytes = Refusal::Unavailable { retry_after_secs: 7 }.response();
        let error = handshake().parse_response(&bytes, &Limits::default()).unwrap_err();
        assert_eq!((error.status, error.retry_after_secs), (Some(503), Some(7)));
        assert_eq!(error.message, "the server answered 503: not now: try again in 7 s");
        let error = answer(&["HTTP/1.1 200 OK", "Retry-After: soon"], &"\x1b[31mä".repeat(999)).unwrap_err();
        assert_eq!((error.status, error.retry_after_secs), (Some(200), None));
        assert!(error.message.chars().count() < 230 && !error.message.contains('\x1b'));
    }

    #[test]
    fn an_answer_over_the_limits_is_refused() {
        let bytes = GOOD.join("\r\n") + "\r\n\r\n";
        for (handshake_bytes, handshake_headers, passes) in
            [(bytes.len(), 3, true), (bytes.len() - 1, 3, false), (bytes.len(), 2, false)]
        {
            let limits = Limits { handshake_bytes, handshake_headers, ..Limits::default() };
            assert_eq!(handshake().parse_response(bytes.as_bytes(), &limits).is_ok(), passes);
        }
    }

    #[test]
    fn no_part_can_forge_a_header() {
        let request = |host, target, protocol, authorization| {
            client_request(host, target, NONCE, &[protocol], authorization).map(|_| ())
        };
        assert!(request("a", "/", "p", Some("Bearer a.b-c")).is_ok());
        let broken = [
            request("a\r\nX: y", "/", "p", None),
            request("", "/", "p", None),
            request("a b", "/", "p", None),
            request("a", "/\r\nX: y", "p", None),
            request("a", "/ HTTP/1.0", "p", None),
            request("a", "ws", "p", None),
            request("a", "/#x", "p", None),
            request("a", "/", "p, q", None),
            request("a", "/", "p\r\nX: y", None),
            request("a", "/", "", None),
            request("a", "/", "p", Some("Bearer a\r\nX: y")),
            request("a", "/", "p", Some("")),
            client_request("a", "/", NONCE, &["p", "p"], None).map(|_| ()),
        ];
        for (at, outcome) in broken.into_iter().enumerate() {
            assert!(outcome.is_err(), "{at}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        assert_eq!(format!("{:?}", handshake()), "ClientHandshake { .. }");
    }

    properties! {
        #[test]
        fn every_nonce_is_a_key_of_its_own(nonce in any::<[u8; 16]>(), other in any::<[u8; 16]>()) {
            let client = client_request("a", "/", nonce, &[], None).unwrap();
            let limits = Limits::default();
            let Ok(Head::Complete { request, .. }) = parse_head(client.request_bytes(), &limits) else { panic!() };
            let answer = check_upgrade(&request).unwrap().response(None);
            prop_assert!(client.parse_response(&answer, &Limits::default()).is_ok());
            prop_assert_eq!(base64(nonce) == base64(other), nonce == other);
        }

        #[test]
        fn arbitrary_answers_never_panic(bytes in any::<Vec<u8>>(), text in "[HTP/1. 0a:\r\n,]{0,80}") {
            let forged = format!("{}\r\n{text}\r\n\r\n", GOOD.join("\r\n"));
            for input in [&bytes[..], text.as_bytes(), forged.as_bytes()] {
                let _ = handshake().parse_response(input, &Limits::default());
            }
        }
    }
}
