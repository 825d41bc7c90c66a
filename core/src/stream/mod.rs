//! One append-only log with one order; connections are cursors on it. The run automaton decides what enters.

mod entry;
mod error;
mod log;
mod merge;
mod reducer;
mod run;
mod threads;

pub use entry::{Entry, MergedText};
pub use error::RunError;
pub use log::{Log, Resumption};
pub use merge::{Outgoing, frames_for, snapshot_frames};
pub use reducer::{ApprovalView, PartView, Reducer, RunView, ToolView};
pub use run::{DECIDED_KEPT, RunMachine};
pub use threads::Threads;

pub use crate::protocol::RunEvent;
