//! The WebSocket manager as pure state machines.

pub mod auth;
pub mod error;
pub mod id;
pub mod limits;
pub mod sync;
pub mod time;
