//! The other end of the protocol, equally pure: upgrade, `hello`, verified order, liveness, close.
//!
//! [`Client`] is the machine; [`connect`] puts it between two mailboxes, so that one task drives the socket while another
//! sends frames and reads what comes. [`Backoff`] says when to connect again, [`Renewal`] when a new token is needed.

mod acks;
mod backoff;
mod config;
mod link;
mod machine;
mod renewal;
#[cfg(test)]
mod tests;

pub use backoff::{Backoff, BackoffConfig};
pub use config::{ClientConfig, ClientEvent, Fault};
pub use link::{Closed, Handle, Link, connect};
pub use machine::Client;
pub use renewal::Renewal;
