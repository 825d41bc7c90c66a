//! The WebSocket manager as pure state machines.

pub mod codec;
pub mod error;
pub mod id;
pub mod limits;
pub mod sync;
pub mod time;
