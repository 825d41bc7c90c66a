//! Neighbouring pieces of one text on their way to become one entry.

use std::collections::VecDeque;

use crate::stream::Entry;

/// Neighbours that become one entry.
#[derive(Default)]
pub(super) struct Group {
    entries: Vec<Entry>,
    /// What the frame will have, about.
    bytes: usize,
}

impl Group {
    pub(super) fn has_room_for(&self, next: &Entry, max: usize) -> bool {
        let fits = self.bytes + next.text_len() <= max;
        self.entries.last().is_none_or(|last| fits && last.continues_in(next))
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += if self.entries.is_empty() { entry.frame().len() } else { entry.text_len() };
        self.entries.push(entry);
    }

    /// Appends them as one, or as they are where they are no text; answers how many bytes that saved.
    pub(super) fn join_onto(&mut self, log: &mut VecDeque<Entry>) -> usize {
        let entries = std::mem::take(self).entries;
        let joined = if entries.len() > 1 { Entry::join(&entries) } else { None };
        let Some(joined) = joined else {
            log.extend(entries);
            return 0;
        };
        let before: usize = entries.iter().map(Entry::bytes).sum();
        let saved = before.saturating_sub(joined.bytes());
        log.push_back(joined);
        saved
    }
}
