//! The hub, sessions and clients together, without a socket.

mod acks;
mod admission;
mod alike;
mod api;
mod approvals;
mod capacity;
mod coming_back;
mod delivery;
mod disconnect;
mod drain;
mod harness;
mod heap;
mod identity;
mod inbound;
mod isolation;
mod lag;
mod legacy;
mod levels;
mod life;
mod lifecycle;
mod liveness;
mod mixed;
#[cfg(loom)]
mod models;
mod producers;
mod properties;
mod races;
mod relayed;
mod repeats;
mod requests;
mod resume;
mod seven_managers;
mod silence;
mod threads;
mod tickets;
mod topics;
