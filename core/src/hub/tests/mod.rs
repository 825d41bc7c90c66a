//! The hub, sessions and clients together, without a socket.

mod approvals;
mod delivery;
mod disconnect;
mod harness;
mod heap;
mod identity;
mod lag;
mod lifecycle;
mod properties;
mod races;
mod requests;
mod threads;
mod topics;
