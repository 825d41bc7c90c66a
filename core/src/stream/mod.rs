//! One append-only log with one order; connections are cursors on it. The run automaton decides what enters.

mod entry;
mod error;
mod log;
mod merge;
mod order;
mod packed;
mod pieces;
mod reducer;
mod run;
#[cfg(test)]
mod tests;
mod threads;
mod view;

pub use entry::{Entry, MergedText};
pub use error::RunError;
pub use log::{Ahead, Log, Resumption};
pub use merge::{Outgoing, frames_for, snapshot_frames};
pub use order::Planned;
pub use packed::Packed;
pub use reducer::Reducer;
pub use run::{DECIDED_KEPT, RunMachine};
pub use threads::Threads;
pub use view::{ApprovalView, PartView, RunView, Stretch, ToolView};

pub use crate::protocol::RunEvent;
