//! Which page may ask, and what its request carries.

use super::harness::{TOKEN, allowing, at, close_code, flush, grant, hello, request};
use crate::auth::{Access, AuthError, CookieName, Origin};
use crate::connection::{Connection, ConnectionEvent, PhaseName};
use crate::limits::Limits;

fn listed() -> Access {
    Access::with_origins([Origin::parse("https://app.example").unwrap()])
}

/// A connection that was given an upgrade request with these lines, and what it asks.
fn asked(access: &Access, lines: &str) -> (Connection, Option<ConnectionEvent>) {
    let mut connection = allowing(Limits::default(), access.clone());
    connection.handle_bytes(at(0), &request(lines));
    let event = connection.poll_event();
    (connection, event)
}

fn status(connection: &Connection) -> &str {
    std::str::from_utf8(&connection.transmit()[..12]).unwrap()
}

#[test]
fn a_page_of_another_origin_is_refused_before_its_token_is_looked_at() {
    let bearer = format!("Sec-WebSocket-Protocol: trunkline.v1, bearer.{TOKEN}\r\n");
    let refused = [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin:\r\n",
        "Origin: https://app.example\r\nOrigin: https://app.example\r\n",
        "origin: https://a@app.example\r\n",
    ];
    for line in refused {
        for more in ["", &bearer, "Authorization: Bearer junk\r\n", "Authorization: Bearer aa.bb.cc\r\n"] {
            let (connection, event) = asked(&listed(), &format!("{more}{line}"));
            assert!(event.is_none(), "{line}{more}");
            assert_eq!((status(&connection), connection.phase()), ("HTTP/1.1 403", PhaseName::Closing), "{line}{more}");
        }
    }
    for line in ["", "Origin: https://app.example\r\n", "Origin: http://a\r\n", "ORIGIN: HTTPS://A:443\r\n"] {
        let (connection, event) = asked(&listed(), &format!("{bearer}{line}"));
        assert!(matches!(event, Some(ConnectionEvent::Verify(_))), "{line}");
        assert_eq!(connection.transmit(), b"", "{line}");
        let (connection, event) = asked(&listed(), line);
        assert!(event.is_none(), "{line}");
        assert_eq!((status(&connection), connection.phase()), ("HTTP/1.1 101", PhaseName::AwaitHello), "{line}");
        assert_eq!(close_code_of(connection), None, "{line}");
    }
}

/// The code of the close frame after the answer to the upgrade.
fn close_code_of(mut connection: Connection) -> Option<u16> {
    let wire = connection.transmit();
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    connection.advance(at(0), end);
    close_code(&connection)
}

const TICKET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd-_8";

fn with_cookie() -> Access {
    listed().with_cookie(CookieName::parse("token").unwrap()).unwrap()
}

fn at_target(access: &Access, target: &str, lines: &str) -> (Connection, Option<ConnectionEvent>) {
    let mut connection = allowing(Limits::default(), access.clone());
    let wire = String::from_utf8(request(lines)).unwrap().replacen("/ws", target, 1);
    connection.handle_bytes(at(0), wire.as_bytes());
    let event = connection.poll_event();
    (connection, event)
}

#[test]
fn a_cookie_counts_for_a_listed_page_and_for_nobody_else() {
    let cookie = format!("Cookie: a=b; token={TOKEN}\r\n");
    let page = "Origin: https://app.example\r\n";
    let own = "Origin: http://a\r\n";
    let (connection, event) = asked(&with_cookie(), &format!("{cookie}{page}"));
    let Some(ConnectionEvent::Verify(token)) = event else { panic!("{event:?}") };
    assert_eq!((token.as_str(), connection.phase()), (TOKEN, PhaseName::VerifyUpgrade));
    // Neither where it is off, nor without a page, nor for the server's own where the list does not name it.
    let cases = [(listed(), page), (with_cookie(), ""), (with_cookie(), own), (Access::any_origin(), page)];
    for (access, line) in cases {
        let (connection, event) = asked(&access, &format!("{cookie}{line}"));
        assert!(event.is_none(), "{line}");
        assert_eq!(connection.phase(), PhaseName::AwaitHello, "{line}");
    }
}

#[test]
fn a_cookie_that_does_not_hold_or_agree_is_upgraded_and_closed() {
    let page = "Origin: https://app.example\r\n";
    let (mut connection, event) = asked(&with_cookie(), &format!("Cookie: token={TOKEN}\r\n{page}"));
    assert!(event.is_some());
    connection.handle_verified(at(0), Err(AuthError::Invalid("test")));
    assert_eq!(status(&connection), "HTTP/1.1 101");
    assert_eq!(close_code_of(connection), Some(4400));
    for more in ["Cookie: token=aa.bb.dd\r\n", "Sec-WebSocket-Protocol: bearer.aa.bb.dd\r\n"] {
        let (connection, event) = asked(&with_cookie(), &format!("Cookie: token={TOKEN}\r\n{page}{more}"));
        assert!(event.is_none(), "{more}");
        assert_eq!(close_code_of(connection), Some(4400), "{more}");
    }
    let lines = format!("Cookie: token={TOKEN}\r\n{page}Authorization: Bearer aa.bb.dd\r\n");
    assert_eq!(status(&asked(&with_cookie(), &lines).0), "HTTP/1.1 401");
}

#[test]
fn a_ticket_is_asked_for_where_tickets_are_on_and_no_token_is_read_from_a_query() {
    let on = listed().with_tickets();
    let (_, event) = at_target(&on, &format!("/ws?v=1&ticket={TICKET}"), "");
    let Some(ConnectionEvent::TakeTicket(ticket)) = event else { panic!("{event:?}") };
    assert_eq!(ticket.to_text(), TICKET);
    let tokens = format!("/ws?token={TOKEN}&access_token={TOKEN}&jwt={TOKEN}&bearer={TOKEN}");
    for (access, target) in [(&listed(), format!("/ws?ticket={TICKET}")), (&on, tokens.clone()), (&listed(), tokens)] {
        let (connection, event) = at_target(access, &target, "");
        assert!(event.is_none(), "{target}");
        assert_eq!(connection.phase(), PhaseName::AwaitHello, "{target}");
    }
}

#[test]
fn a_ticket_that_is_none_or_not_alone_is_upgraded_and_closed() {
    let on = listed().with_tickets();
    let one = format!("/ws?ticket={TICKET}");
    let bearer = format!("Sec-WebSocket-Protocol: trunkline.v1, bearer.{TOKEN}\r\n");
    let cases = [
        ("/ws?ticket=nonsense", ""),
        ("/ws?ticket=", ""),
        (&format!("{one}&ticket={TICKET}"), ""),
        (&one, bearer.as_str()),
    ];
    for (target, lines) in cases {
        let (connection, event) = at_target(&on, target, lines);
        assert!(event.is_none(), "{target}");
        assert_eq!(close_code_of(connection), Some(4400), "{target} {lines}");
    }
    let (connection, event) = at_target(&on, &one, &format!("Authorization: Bearer {TOKEN}\r\n"));
    assert_eq!((status(&connection), event.is_none()), ("HTTP/1.1 401", true));
    // And the first frame may not name another.
    let (mut connection, _) = at_target(&on, &one, "");
    connection.handle_verified(at(0), Ok(grant()));
    flush(&mut connection, at(0));
    connection.handle_bytes(at(0), &hello());
    assert_eq!(close_code(&connection), Some(4400));
}

#[test]
fn nothing_shows_a_ticket_or_a_cookie() {
    let (connection, event) = at_target(&listed().with_tickets(), &format!("/ws?ticket={TICKET}"), "");
    let shown = format!("{connection:?} {event:?}");
    assert!(!shown.contains(&TICKET[..8]), "{shown}");
    let page = "Origin: https://app.example\r\n";
    let (connection, event) = asked(&with_cookie(), &format!("{page}Cookie: token={TOKEN}\r\n"));
    let shown = format!("{connection:?} {event:?}");
    assert!(!shown.contains(TOKEN), "{shown}");
}
