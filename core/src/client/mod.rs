//! The other end of the protocol, equally pure: upgrade, `hello`, verified order, liveness, close.
//!
//! [`Client`] is the machine; [`connect`] puts it between two mailboxes, so that one task drives the socket while another
//! sends frames and reads what comes. [`Backoff`] says when to connect again, [`Renewal`] when a new token is needed.

mod acks;
mod asynchronous;
mod backoff;
mod config;
mod credentials;
mod endpoint;
pub mod js;
mod link;
mod machine;
mod outbound;
mod places;
mod received;
mod reconnecting;
mod renewal;
#[cfg(test)]
mod tests;

pub use asynchronous::{AsyncClient, ClientOptions, Connector, Opening, Payload, Requests, Runtime, Stream, Task};
pub use backoff::{Backoff, BackoffConfig};
pub use config::{ClientConfig, ClientEvent, Fault};
pub use credentials::{Asked, Credentials, FixedToken, TokenError, TokenSource, Wanted};
pub use endpoint::{Endpoint, UrlError};
pub use link::{Closed, Handle, Link, connect};
pub use machine::Client;
pub use reconnecting::{
    ConfigError, Output, Reconnecting, ReconnectingConfig, RequestError, State, Stopped, Trouble, Undone, Update,
};
pub use renewal::Renewal;
