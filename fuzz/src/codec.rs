//! A request's head, up to the answer and the credentials in it.

use trunkline_core::auth::carrier::extract;
use trunkline_core::codec::upgrade::{Head, HeadScanner, Refusal, Request, check_upgrade, parse_head};
use trunkline_core::limits::Limits;

/// An upgrade request in any bytes. The first says how the rest comes in reads: the head is found where it is found in
/// one piece, within the limits; what is refused has an HTTP answer, and what is accepted names no token in it.
pub fn head(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let limits = Limits { handshake_bytes: 1 << 10, handshake_headers: 16, ..Limits::default() };
    assert_eq!(scan_in_steps(bytes, usize::from(*step) + 1, &limits), scan(bytes, &limits));
    match parse_head(bytes, &limits) {
        Ok(Head::Incomplete) => assert_eq!(scan(bytes, &limits), Ok(None)),
        Ok(Head::Complete { request, len }) => {
            assert_eq!(scan(bytes, &limits), Ok(Some(len)));
            assert!(len <= bytes.len() && len <= limits.handshake_bytes);
            complete(&request);
        }
        Err(refusal) => refused(&refusal),
    }
}

type Found = Result<Option<usize>, Refusal>;

fn scan(bytes: &[u8], limits: &Limits) -> Found {
    HeadScanner::default().scan(bytes, limits)
}

fn scan_in_steps(bytes: &[u8], step: usize, limits: &Limits) -> Found {
    let mut scanner = HeadScanner::default();
    let mut end = 0;
    loop {
        end = (end + step).min(bytes.len());
        let found = scanner.scan(&bytes[..end], limits);
        if found != Ok(None) || end == bytes.len() {
            return found;
        }
    }
}

fn complete(request: &Request<'_>) {
    let target = request.target();
    assert!(target.contains(request.path()) || request.path() == "/");
    assert!(request.query().is_none_or(|query| target.ends_with(query)));
    let found = extract(request.headers("Sec-WebSocket-Protocol"), request.headers("Authorization"));
    match check_upgrade(request) {
        Ok(upgrade) => {
            assert!(request.method() == "GET" && request.is_http_11() && request.is_upgrade());
            let protocol = found.ok().and_then(|found| found.subprotocol.as_str());
            let answer = upgrade.response(protocol);
            let text = String::from_utf8(answer).expect("an answer is text");
            assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\n"));
            assert!(text.matches("\r\n\r\n").count() == 1, "nothing in it ends it early");
            // The accept key aside, every byte is the server's own: no token comes back.
            assert!(text.lines().count() == 5 + usize::from(protocol.is_some()));
        }
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) {
    let answer = refusal.response();
    assert!(answer.starts_with(format!("HTTP/1.1 {} ", refusal.status()).as_bytes()));
    assert!((400..600).contains(&refusal.status()));
}
