//! A run as a snapshot carries it: in pieces that fit in frames.

use serde_json::value::RawValue;

use super::view::{PartView, RunView, ToolView};
use crate::id::{PartId, RunId, ToolCallId};
use crate::protocol::{SnapshotPart, SnapshotRun, SnapshotTool, encoded_text_len};

impl RunView {
    /// At least one piece, each with at most `max` encoded bytes of thoughts or texts, or with one tool call or half of
    /// one. A single thought or JSON value may have more: it came as one event, and goes as one.
    pub(super) fn pieces(&self, id: RunId, max: usize) -> Vec<SnapshotRun> {
        let mut pieces = Vec::new();
        pieces.extend(self.thoughts_in(max).map(|thoughts| SnapshotRun { thoughts, ..self.piece(id) }));
        if let Some(approval) = &self.approval {
            let (approval_id, question) = (Some(approval.approval_id.clone()), approval.question.clone());
            pieces.push(SnapshotRun { approval_id, question, ..self.piece(id) });
        }
        let tools = self.tools.iter().flat_map(|(tool_call_id, tool)| tool.pieces(tool_call_id, max));
        pieces.extend(tools.map(|tool| SnapshotRun { tools: vec![tool], ..self.piece(id) }));
        let parts = self.parts.iter().flat_map(|(part_id, part)| part.pieces(part_id, max));
        pieces.extend(parts.map(|part| SnapshotRun { parts: vec![part], ..self.piece(id) }));
        if pieces.is_empty() {
            pieces.push(self.piece(id));
        }
        pieces
    }

    /// What every piece says.
    fn piece(&self, id: RunId) -> SnapshotRun {
        SnapshotRun {
            run_id: id,
            thread_id: self.thread_id.clone(),
            agent_name: self.agent_name.clone(),
            parent_run_id: self.parent_run_id,
            status: self.status,
            run_seq: self.run_seq,
            approval_id: None,
            question: None,
            shortened: self.shortened.then_some(true),
            thoughts: Vec::new(),
            tools: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// The thoughts in groups of at most `max` encoded bytes, or of one.
    fn thoughts_in(&self, max: usize) -> impl Iterator<Item = Vec<String>> {
        let mut rest = &self.thoughts[..];
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let fit = rest.iter().take_while(|thought| {
                bytes += encoded_text_len(thought) + COMMA;
                bytes <= max
            });
            let count = fit.count().max(1).min(rest.len());
            let (group, after) = rest.split_at(count);
            rest = after;
            (!group.is_empty()).then(|| group.to_vec())
        })
    }
}

impl ToolView {
    /// Whole, or where that would be too large, what it was given and then what it gave.
    fn pieces(&self, id: &ToolCallId, max: usize) -> impl Iterator<Item = SnapshotTool> {
        // The texts were JSON when they came in.
        let raw = |text: &Option<String>| text.clone().and_then(|text| RawValue::from_string(text).ok());
        let whole = SnapshotTool {
            tool_call_id: id.clone(),
            tool_name: self.name.clone(),
            parameters: raw(&self.parameters),
            results: raw(&self.results),
            success: self.success,
            error: self.error.clone(),
        };
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let error = self.error.as_deref().map_or(0, encoded_text_len);
        let bytes = encoded_text_len(&self.name) + text(&self.parameters) + text(&self.results) + error;
        if bytes <= max || self.success.is_none() || self.parameters.is_none() {
            return [Some(whole), None].into_iter().flatten();
        }
        let given = SnapshotTool { results: None, success: None, error: None, ..whole.clone() };
        [Some(given), Some(SnapshotTool { parameters: None, ..whole })].into_iter().flatten()
    }
}

impl PartView {
    fn pieces(&self, id: &PartId, max: usize) -> impl Iterator<Item = SnapshotPart> {
        let earlier = self.earlier.iter().map(|stretch| (stretch.start, &*stretch.text));
        earlier.chain([(self.start, &*self.text)]).flat_map(move |(start, text)| {
            let mut offset = start;
            chunks(text, max).map(move |text| {
                let piece = SnapshotPart { part_id: id.clone(), offset, text: text.to_owned() };
                offset += text.chars().count() as u64;
                piece
            })
        })
    }
}

/// What stands between two items of a list.
const COMMA: usize = 1;

/// Pieces of at most `max` encoded bytes, cut between letters; a piece has at least one letter. A text without letters
/// is one piece, since it stands for where the text is.
fn chunks(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut bytes = 0;
        let cut = text.char_indices().find(|(at, letter)| {
            bytes += encoded_text_len(letter.encode_utf8(&mut [0; 4])) - QUOTES;
            *at > 0 && bytes + QUOTES > max
        });
        let (piece, after) = text.split_at(cut.map_or(text.len(), |(at, _)| at));
        rest = Some(after).filter(|after| !after.is_empty());
        Some(piece)
    })
}

const QUOTES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters_by_what_its_escapes_take() {
        let cut = |text, max| chunks(text, max).collect::<Vec<_>>();
        assert_eq!(cut("abcd", 4), ["ab", "cd"]);
        assert_eq!(cut("a\"\u{1}b", 4), ["a", "\"", "\u{1}", "b"]);
        assert_eq!(cut("né🙂", 5), ["né", "🙂"]);
        assert_eq!(cut("🙂🙂", 1), ["🙂", "🙂"]);
        assert_eq!(cut("", 4), [""]);
    }
}
