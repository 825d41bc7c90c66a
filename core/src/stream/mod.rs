//! One append-only log with one order; connections are cursors on it. The run automaton decides what enters.

mod log;
mod reducer;
mod run;

pub use log::{Log, Resumption};
pub use reducer::{Reducer, RunStatus, RunView, ToolView};
pub use run::{RunError, RunEvent, RunMachine};
