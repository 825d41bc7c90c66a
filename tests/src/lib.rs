//! What is tested across packages.

pub mod races;
pub mod server;
pub mod wire;
