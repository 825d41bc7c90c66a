//! What is tested across packages.

pub mod line;
pub mod producer;
pub mod races;
pub mod raw;
pub mod script;
pub mod server;
pub mod wire;
