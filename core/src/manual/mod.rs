//! The manual: what is not about one type. Each page is a module without code.
//!
//! - [`adapters`]: what a runtime brings, and what it never has to know, with a whole adapter of under 100 lines.
//! - [`legacy_managers`]: coming from the legacy managers. Every class, every operation, every frame, code and number of theirs,
//!   and what takes its place here.
//! - [`observing`]: metrics, health and traces, for operators.
//! - [`races`]: what must be impossible here, and the check that each of it has.

pub mod adapters;
pub mod legacy_managers;
pub mod observing;
pub mod races;
