//! The other end of the protocol, equally pure: upgrade, `hello`, verified order, liveness, close.
//!
//! [`Client`] is the machine; [`connect`] puts it between two mailboxes, so that one task drives the socket while another
//! sends frames and reads what comes.

mod link;
mod machine;
#[cfg(test)]
mod tests;

pub use link::{Closed, Handle, Link, connect};
pub use machine::{Client, ClientConfig, ClientEvent, Fault};
