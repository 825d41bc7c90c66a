//! What is tested across packages.

pub mod races;
