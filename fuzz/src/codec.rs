//! A request's head, up to the answer and the credentials in it.

use trunkline_core::auth::carrier::{Carrier, Extracted, Extractor};
use trunkline_core::auth::{Access, CarrierError, CookieName, Credential, Origin, Page};
use trunkline_core::codec::upgrade::{Head, HeadScanner, Refusal, Request, Upgrade, check_upgrade, parse_head};
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
    assert!(request.query().is_none_or(|query| target.contains(query)));
    let found = extracted(request);
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
            extended(upgrade, request, &text);
        }
        Err(refusal) => refused(&refusal),
    }
}

/// With what is agreed on of extensions the answer has one line more, of words of the server's own; without, it is the same.
fn extended(upgrade: Upgrade, request: &Request<'_>, plain: &str) {
    match upgrade.with_deflate(request) {
        Ok(upgrade) => {
            let text = String::from_utf8(upgrade.response(None)).expect("an answer is text");
            let line = text.lines().find(|line| line.starts_with("Sec-WebSocket-Extensions: permessage-deflate; "));
            assert_eq!(line.is_some(), upgrade.agreed().is_some());
            assert!(upgrade.agreed().is_none_or(|agreed| (9..=15).contains(&agreed.window_bits())));
            assert!(
                text.matches("\r\n\r\n").count() == 1 && plain.starts_with(&text[..text.find("Accept").unwrap_or(0)])
            );
            // Nobody agrees on what was not offered.
            assert!(line.is_none() || request.headers("Sec-WebSocket-Extensions").next().is_some());
        }
        Err(refusal) => refused(&refusal),
    }
}

/// What a request carries where every carrier is on. A page that is not let in has none, a ticket stands alone, and a cookie
/// counts for a page of the list only.
fn extracted(request: &Request<'_>) -> Result<Extracted, CarrierError> {
    let listed = Access::with_origins(Origin::parse("https://app.example"));
    let name = CookieName::parse("token").expect("a name");
    let access = listed.with_cookie(name).expect("a list").with_tickets();
    let host = request.headers("Host").next().unwrap_or_default();
    let Ok(page) = access.page(host, false, request.headers("Origin")) else { return Ok(Extracted::default()) };
    assert!(page == Page::None || request.headers("Origin").count() == 1);
    let plain = Extractor::default()
        .authorization(request.headers("Authorization"))?
        .protocols(request.headers("Sec-WebSocket-Protocol"))?;
    let cookies = match access.cookie(page) {
        Some(name) => plain.cookies(name, request.headers("Cookie"))?,
        None => plain,
    };
    let found = cookies.query(request.query().unwrap_or_default())?.finish();
    let by_cookie = matches!(found.credential, Some((_, Carrier::Cookie)));
    assert!(!by_cookie || page == Page::Listed);
    let by_ticket = matches!(found.credential, Some((_, Carrier::Ticket)));
    let is_ticket = matches!(found.credential, Some((Credential::Ticket(_), _)));
    assert!(by_ticket == is_ticket && (!by_ticket || request.headers("Authorization").next().is_none()));
    assert!(!format!("{found:?}").contains(target_secret(request)));
    Ok(found)
}

/// A long enough query is a secret that may not be shown.
fn target_secret<'a>(request: &Request<'a>) -> &'a str {
    request.query().filter(|query| query.len() >= 43).unwrap_or("\n")
}

fn refused(refusal: &Refusal) {
    let answer = refusal.response();
    assert!(answer.starts_with(format!("HTTP/1.1 {} ", refusal.status()).as_bytes()));
    assert!((400..600).contains(&refusal.status()));
}
