//! Who may open a socket at all, by the peer's address, before anything of it is read: pure, on the caller's time.
//!
//! The order of checks is rate, credentials, cap. An address that is over its rate or its sockets is refused before it costs a
//! handshake; whoever has no credentials never comes to the cap of a user; and only a verified connection of the same user
//! can take the place of another.

mod addresses;
mod proxies;

pub use addresses::{Addresses, Peer, Place, TooMany};
pub use proxies::{BadNetwork, ClientAddress, ForwardedHeader, TrustedProxies};
