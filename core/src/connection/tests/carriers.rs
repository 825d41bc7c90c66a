//! Which page may ask, and what its request carries.

use super::harness::{TOKEN, allowing, at, close_code, request};
use crate::auth::{Access, Origin};
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
