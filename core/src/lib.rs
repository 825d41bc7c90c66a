//! The WebSocket manager as pure state machines.

pub mod error;
pub mod id;
pub mod limits;
pub mod protocol;
pub mod time;
