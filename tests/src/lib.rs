//! What is tested across packages.

pub mod breakages;
pub mod conformance;
pub mod contract;
pub mod http;
pub mod issuer;
pub mod line;
pub mod load;
pub mod producer;
pub mod races;
pub mod raw;
pub mod script;
pub mod server;
pub mod simulation;
pub mod simulator;
pub mod wire;

/// The README's snippets compile; here, because they are of every adapter.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
