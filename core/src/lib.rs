//! The WebSocket manager as pure state machines: bytes, time and randomness go in, bytes and effects come out.
//!
//! Nothing here does I/O, reads a clock, draws randomness or spawns anything. A runtime is an adapter of a few dozen lines: a
//! [`drive::Transport`], a [`drive::Timer`], a [`time::Clock`], an [`id::Entropy`], and an accept loop that puts each socket's
//! [`hub::Session`] into a [`drive::Driver`]. Integrators hold a [`hub::Hub`].
//!
//! From the ground up, each layer knows only those above it in this list:
//!
//! | module | what |
//! |---|---|
//! | [`time`], [`id`], [`limits`], [`error`] | two kinds of time, identifiers that cannot be mixed, every bound by name, one table each of close reasons and error codes |
//! | [`sync`] | the only home of locks, atomics and wakers |
//! | `tls` | certificates that can be replaced, and whom a client trusts; with the feature `tls` |
//! | [`drive`] | the one I/O loop |
//! | [`crew`] | many of its futures in one task |
//! | [`codec`] | RFC 6455 in bytes: upgrade and frames; RFC 7692, compressed messages |
//! | [`protocol`] | the frames of `trunkline.v1`; `core/PROTOCOL.md` is the contract in words |
//! | [`auth`] | tokens: what carries them, what they grant |
//! | [`level`] | how well the service works: the one automaton that says so, and what follows from it |
//! | [`metrics`] | what is counted and measured, and how it is shown |
//! | [`stream`] | a log with one order, the run automaton at its entry, the reducer at its end |
//! | `rate` | how fast something may come |
//! | [`admission`] | how many sockets an address has, how fast it opens them, and whose address counts behind a proxy |
//! | [`connection`] | one socket, from its first byte to its close |
//! | [`manager`] | one shard: users, devices, logs, runs, requests |
//! | [`hub`] | the shards behind locks, sessions, runs, requests |
//! | [`api`] | the operations of back ends over HTTP, for any web stack |
//! | [`serve`] | what becomes of a listener's sockets, and their end |
//! | [`client`] | the other end of the protocol |
//! | [`manual`] | what is not about one type, such as how to write an adapter, or to come from the legacy managers |
//!
//! # Rules that hold throughout
//!
//! A peer's fault becomes a [`error::CloseReason`] or an answer, never an `Err` and never a panic; `Err` says that the caller is
//! wrong. Every phase that is not the last owns a deadline. Every queue, buffer and map has a bound in [`limits::Limits`]. Ids are never
//! reused, so what comes late for a dead one reaches nobody. Under a lock nothing is called back, verified or woken.

#![cfg_attr(
    test,
    allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects and fails on the rest")
)]

#[cfg(test)]
mod explore;
#[cfg(test)]
#[macro_use]
mod property;

pub mod admission;
pub mod api;
pub mod auth;
pub mod client;
pub mod codec;
pub mod connection;
pub mod crew;
pub mod drive;
pub mod error;
pub mod hub;
pub mod id;
pub mod level;
pub mod limits;
pub mod manager;
pub mod manual;
pub mod metrics;
pub mod protocol;
mod rate;
pub mod serve;
pub mod stream;
pub mod sync;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
