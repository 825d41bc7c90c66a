//! The opening handshake: RFC 6455 section 4, both ends.
//!
//! ```
//! use trunkline_core::codec::upgrade::{Head, check_upgrade, parse_head};
//! use trunkline_core::limits::Limits;
//! let bytes = b"GET /ws?x=1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
//!     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
//! let Ok(Head::Complete { request, len }) = parse_head(bytes, &Limits::default()) else { panic!() };
//! assert_eq!((request.path(), len), ("/ws", bytes.len()));
//! let answer = check_upgrade(&request).unwrap().response(None);
//! assert!(answer.starts_with(b"HTTP/1.1 101 "));
//! ```

mod answer;
mod client;
mod given;
mod head;
mod offers;
mod refusal;
mod server;

pub use answer::Answer;
pub use client::{ClientHandshake, UpgradeError, client_request};
pub use given::GivenHead;
pub use head::{Head, HeadScanner, Request, parse_head};
pub use offers::Agreed;
pub use refusal::Refusal;
pub use server::{Upgrade, check_upgrade};

/// The magic of RFC 6455 section 4.2.2, as tungstenite computes it.
fn accept_key(key: &[u8]) -> String {
    tungstenite::handshake::derive_accept_key(key)
}

/// The members of a comma-separated list in one header line: RFC 9110 section 5.6.1, where empty members mean nothing.
fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
