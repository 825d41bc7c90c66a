//! What has come and waits to be taken, and how much of it there may be.

use std::collections::VecDeque;

use super::ClientEvent;
use crate::stream::Reducer;

/// Events that wait to be taken, each with the bytes of its frame.
#[derive(Debug, Default)]
pub(super) struct Received {
    queue: VecDeque<(ClientEvent, usize)>,
    bytes: usize,
    /// Of the frame that is being looked at.
    frame: usize,
}

/// Events that wait to be taken; beyond them nothing is read.
const MAX_EVENTS: usize = 1_024;
/// The same in bytes of their frames.
const MAX_EVENT_BYTES: usize = 4 << 20;
/// Ended runs are forgotten once there are more runs than this.
const MAX_RUNS: usize = 512;
/// What the runs may hold of thoughts, texts and results, in bytes.
const MAX_RUN_BYTES: usize = 8 << 20;

impl Received {
    /// What is pushed from here on is of a frame of so many bytes.
    pub(super) const fn frame(&mut self, bytes: usize) {
        self.frame = bytes;
    }

    pub(super) fn push(&mut self, event: ClientEvent) {
        self.bytes = self.bytes.saturating_add(self.frame);
        self.queue.push_back((event, self.frame));
    }

    pub(super) fn pop(&mut self) -> Option<(ClientEvent, usize)> {
        let (event, bytes) = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some((event, bytes))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < MAX_EVENTS && self.bytes < MAX_EVENT_BYTES
    }
}

/// A view of what has ended long ago is nobody's, and one that a server blows up is bounded.
pub(super) fn bound(runs: &mut Reducer) {
    if runs.runs().len() > MAX_RUNS {
        runs.retain(|run| !run.status.is_terminal());
    }
    while runs.runs().len() > MAX_RUNS {
        let Some(run) = runs.runs().keys().next().copied() else { break };
        runs.forget(run);
    }
    if runs.bytes() > MAX_RUN_BYTES {
        // Well below, so that not every piece of text comes here again.
        runs.shorten(MAX_RUN_BYTES / 2);
    }
}
