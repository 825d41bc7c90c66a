//! RFC 6455 as bytes in and bytes out: the upgrade ([`upgrade`]) and the frames ([`frame`]), compressed ones included ([`deflate`]);
//! and what a server of keys answers.
//!
//! Nothing here keeps a socket, a clock or randomness: nonces and masks are arguments. tungstenite, httparse
//! and flate2 are named in this module only.

pub mod deflate;
pub mod frame;
#[cfg(any(test, all(feature = "jwks", feature = "_signatures")))]
pub(crate) mod response;
pub mod upgrade;
