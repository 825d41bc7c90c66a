//! There is one manager, and the sources say so.
//!
//! These rules take the place of three checks of what came before, each of which compared nine managers with each other:
//!
//! - *single source of truth*: one type owns connections ([`holders`]), one table each has the codes ([`codes`]), and data flows
//!   one way through the layers ([`layers`]);
//! - *factory consolidation*: there is one composition of the machines, and no registry, factory or second manager
//!   ([`holders`]); nothing but the codec and the keys names the crates they stand on ([`crates`]);
//! - *interface unification*: the adapters decide nothing ([`adapters`]), stay small ([`size`]), have one public surface
//!   ([`surface`]), and the core does nothing that only an adapter may ([`purity`]).
//!
//! Beside them, no package has unsafe code ([`unsafe_code`]).
//!
//! Each rule is held to small planted violations too, so that none passes because it sees nothing.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "syn's enums have many variants, of which few matter here, and may grow"
)]

mod adapters;
mod codes;
mod crates;
mod holders;
mod layers;
mod purity;
mod size;
mod source;
mod surface;
mod unsafe_code;
