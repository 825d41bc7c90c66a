//! The manual: what is not about one type. Each page is a module without code.
//!
//! - [`legacy_managers`]: coming from the legacy managers. Every class, every operation, every frame, code and number of theirs,
//!   and what takes its place here.

pub mod legacy_managers;
