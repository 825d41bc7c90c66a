//! The WebSocket manager as pure state machines.

#![cfg_attr(
    test,
    allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects and fails on the rest")
)]

pub mod auth;
pub mod client;
pub mod codec;
pub mod connection;
pub mod drive;
pub mod error;
pub mod hub;
pub mod id;
pub mod limits;
pub mod manager;
pub mod protocol;
pub mod stream;
pub mod sync;
pub mod time;
