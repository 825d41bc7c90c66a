//! Frames as a person reads them, or as they came, one a line. What others wrote is escaped, never obeyed.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;
use trunkline_core::id::ThreadId;

use crate::{is_unprintable, printable};

/// How much of a tool's parameters and results is shown, in characters.
const MAX_JSON_CHARS: usize = 400;

/// Where frames are shown.
pub(crate) struct Screen {
    json: bool,
    ansi: bool,
    /// The one conversation that is shown to a person; a program gets every frame.
    thread: Option<ThreadId>,
    /// The run whose streamed text the cursor stands behind.
    streaming: Option<String>,
    runs: Runs,
}

impl Screen {
    /// With `ansi`, thoughts are dimmed.
    pub(crate) fn new(json: bool, ansi: bool) -> Self {
        Self { json, ansi, thread: None, streaming: None, runs: Runs::default() }
    }

    /// A person sees the events of this conversation alone.
    pub(crate) fn of_thread(mut self, thread: ThreadId) -> Self {
        self.thread = Some(thread);
        self
    }

    /// Shows one frame of the server.
    pub(crate) fn frame(&mut self, frame: &str, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            writeln!(out, "{}", one_json_line(frame))?;
        } else if let Ok(frame) = serde_json::from_str(frame) {
            self.show(&frame, out)?;
        }
        out.flush()
    }

    /// Shows what is no frame; not among frames that a program reads.
    pub(crate) fn notice(&mut self, notice: &str, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        self.line(&format!("* {}", printable(notice)), out)
    }

    fn show(&mut self, frame: &Value, out: &mut impl Write) -> io::Result<()> {
        for run in frame["runs"].as_array().into_iter().flatten().chain([frame]) {
            self.runs.note(run, self.is_of_another_thread(run));
        }
        if self.is_of_another_thread(frame) {
            return Ok(());
        }
        let field = |name: &str| printable(frame[name].as_str().unwrap_or_default());
        match frame["type"].as_str().unwrap_or_default() {
            "welcome" => self.line(&format!("* connected as {}", field("user_id")), out),
            "user_message" => self.line(&format!("> {}", field("content")), out),
            "agent_started" => self.line(&format!("{} started", field("agent_name")), out),
            "agent_thinking" => self.dim_line(&format!("  ~ {}", field("thought")), out),
            "tool_executing" => {
                self.line(&format!("  {} {}", field("tool_name"), shown_json(&frame["parameters"])), out)
            }
            "tool_completed" if frame["success"] == true => {
                self.line(&format!("  {} -> {}", field("tool_name"), shown_json(&frame["results"])), out)
            }
            "tool_completed" => self.line(&format!("  {} failed: {}", field("tool_name"), field("error")), out),
            "agent_delta" => self.stream(frame, out),
            "agent_deltas" => self.stream_all(frame, out),
            "agent_completed" => self.completed(frame, out),
            "agent_failed" => self.line(&format!("failed ({}): {}", field("reason"), field("error")), out),
            "agent_cancelled" => self.line(&format!("cancelled: {}", field("reason")), out),
            "custom" => self.line(&format!("* {}: {}", field("name"), shown_json(&frame["data"])), out),
            "reply" if frame["ok"] == false => self.line(&format!("! {}", shown_json(&frame["error"])), out),
            "error" => self.line(&format!("! {}: {}", field("code"), field("message")), out),
            "going_away" => self.line("* the server is going away", out),
            "service_level" => self.line(&format!("* service level: {}", field("level")), out),
            _ => Ok(()),
        }
    }

    fn is_of_another_thread(&self, frame: &Value) -> bool {
        matches!((&self.thread, frame["thread_id"].as_str()), (Some(own), Some(thread)) if own.as_str() != thread)
    }

    fn stream_all(&mut self, frame: &Value, out: &mut impl Write) -> io::Result<()> {
        frame["parts"].as_array().into_iter().flatten().try_for_each(|part| self.stream(part, out))
    }

    fn stream(&mut self, part: &Value, out: &mut impl Write) -> io::Result<()> {
        let run = part["run_id"].as_str().unwrap_or_default();
        let Some(text) = self.runs.fresh(run, part) else { return Ok(()) };
        if self.streaming.as_deref() != Some(run) {
            self.end_stream(out)?;
            self.streaming = Some(run.to_owned());
        }
        // Line ends are part of a text; everything else that moves the cursor is not.
        let lines: Vec<_> = text.split('\n').map(printable).collect();
        write!(out, "{}", lines.join("\n"))
    }

    fn completed(&mut self, frame: &Value, out: &mut impl Write) -> io::Result<()> {
        let streamed = self.streaming.as_deref() == frame["run_id"].as_str() && self.streaming.is_some();
        if !streamed && let Some(answer) = frame["final_response"].as_str() {
            for line in answer.split('\n') {
                self.line(&printable(line), out)?;
            }
        }
        let took = frame["duration_ms"].as_u64().map(|ms| format!(" in {ms} ms")).unwrap_or_default();
        self.dim_line(&format!("completed{took}"), out)
    }

    fn dim_line(&mut self, text: &str, out: &mut impl Write) -> io::Result<()> {
        if self.ansi { self.line(&format!("\u{1b}[2m{text}\u{1b}[0m"), out) } else { self.line(text, out) }
    }

    fn line(&mut self, text: &str, out: &mut impl Write) -> io::Result<()> {
        self.end_stream(out)?;
        writeln!(out, "{text}")
    }

    fn end_stream(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.streaming.take().is_some() { writeln!(out) } else { Ok(()) }
    }
}

/// What must be known of runs that have not ended to show their texts once, and those of one conversation alone: a merged
/// window does not say which conversation a text belongs to.
#[derive(Default)]
struct Runs(BTreeMap<String, Run>);

#[derive(Default)]
struct Run {
    of_another_thread: bool,
    /// How much of each text was shown, in characters.
    shown: BTreeMap<String, u64>,
}

/// Runs, and texts of one run; beyond, all are forgotten, and a text may be shown twice.
const MAX_KNOWN: usize = 1_024;

impl Runs {
    fn note(&mut self, frame: &Value, of_another_thread: bool) {
        let Some(run) = frame["run_id"].as_str() else { return };
        if matches!(frame["type"].as_str(), Some("agent_completed" | "agent_failed" | "agent_cancelled")) {
            self.0.remove(run);
        } else {
            self.run(run).of_another_thread = of_another_thread;
        }
    }

    /// What of a piece of text is not on the screen yet; `None` where nothing of it is to be shown.
    fn fresh(&mut self, run: &str, part: &Value) -> Option<String> {
        let text = part["text"].as_str().unwrap_or_default();
        let run = self.run(run);
        if run.of_another_thread {
            return None;
        }
        let Some(offset) = part["offset"].as_u64() else { return Some(text.to_owned()) };
        if run.shown.len() >= MAX_KNOWN {
            run.shown.clear();
        }
        let shown = run.shown.entry(part["part_id"].as_str().unwrap_or_default().to_owned()).or_default();
        let known = usize::try_from(shown.saturating_sub(offset)).unwrap_or(usize::MAX);
        *shown = (*shown).max(offset.saturating_add(text.chars().count() as u64));
        let fresh: String = text.chars().skip(known).collect();
        (!fresh.is_empty()).then_some(fresh)
    }

    fn run(&mut self, run: &str) -> &mut Run {
        if self.0.len() >= MAX_KNOWN && !self.0.contains_key(run) {
            self.0.clear();
        }
        self.0.entry(run.to_owned()).or_default()
    }
}

fn shown_json(value: &Value) -> String {
    let text = printable(&value.to_string());
    match text.char_indices().nth(MAX_JSON_CHARS) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The frame on one line, without the white space between its parts; what a terminal would obey inside of strings gets
/// its JSON escape. A reader sees the same values.
fn one_json_line(frame: &str) -> String {
    let mut line = String::with_capacity(frame.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in frame.chars() {
        if !in_string && matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && c == '\\' && !escaped;
        if is_unprintable(c) {
            let mut units = [0; 2];
            line.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(frames: &[Value], ansi: bool) -> String {
        let (mut screen, mut out) = (Screen::new(false, ansi), Vec::new());
        for frame in frames {
            screen.frame(&frame.to_string(), &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_unfolds_line_by_line_and_its_text_in_one() {
        let frames = [
            json!({"type": "user_message", "content": "what is 1+1?"}),
            json!({"type": "agent_started", "agent_name": "assistant"}),
            json!({"type": "agent_thinking", "thought": "hm"}),
            json!({"type": "tool_executing", "tool_name": "calculator", "parameters": {"expression": "1+1"}}),
            json!({"type": "tool_completed", "tool_name": "calculator", "success": true, "results": {"value": 2}}),
            json!({"type": "tool_completed", "tool_name": "other", "success": false, "error": "no"}),
            json!({"type": "agent_delta", "run_id": "r", "text": "1+1 "}),
            json!({"type": "agent_deltas", "parts": [{"run_id": "r", "text": "= 2"}]}),
            json!({"type": "agent_completed", "run_id": "r", "final_response": "1+1 = 2", "duration_ms": 5}),
        ];
        let expected = "> what is 1+1?\nassistant started\n  ~ hm\n  calculator {\"expression\":\"1+1\"}\n  \
            calculator -> {\"value\":2}\n  other failed: no\n1+1 = 2\ncompleted in 5 ms\n";
        assert_eq!(shown(&frames, false), expected);
        assert!(shown(&frames, true).contains("\u{1b}[2m  ~ hm\u{1b}[0m"));
    }

    #[test]
    fn a_text_is_shown_once_whatever_its_frames_repeat() {
        let piece = |offset, text| json!({"type": "agent_delta", "run_id": "r", "part_id": "p", "offset": offset, "text": text});
        let window = |parts| json!({"type": "agent_deltas", "parts": parts});
        let part = |run, part, offset, text| json!({"run_id": run, "part_id": part, "offset": offset, "text": text});
        let frames = [
            piece(0, "é🙂"),
            piece(0, "é🙂!"),
            window(vec![part("r", "p", 1, "🙂! on"), part("r", "q", 0, " and")]),
            piece(0, "é🙂!"),
            json!({"type": "agent_completed", "run_id": "r"}),
        ];
        assert_eq!(shown(&frames, false), "é🙂! on and\ncompleted\n");
    }

    #[test]
    fn merged_text_of_other_conversations_is_not_shown() {
        let (mut screen, mut out) = (Screen::new(false, false).of_thread(ThreadId::new("own").unwrap()), Vec::new());
        let part = |run, text| json!({"run_id": run, "part_id": "p", "offset": 0, "text": text});
        let frames = [
            json!({"type": "agent_started", "run_id": "a", "thread_id": "other", "agent_name": "x"}),
            json!({"type": "snapshot", "runs": [{"run_id": "b", "thread_id": "other"}, {"run_id": "c", "thread_id": "own"}]}),
            json!({"type": "agent_deltas", "parts": [part("a", "no"), part("b", "no"), part("c", "yes")]}),
        ];
        frames.iter().for_each(|frame| screen.frame(&frame.to_string(), &mut out).unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), "yes");
    }

    #[test]
    fn an_answer_that_was_not_streamed_is_shown_at_the_end() {
        let frames = [json!({"type": "agent_completed", "run_id": "r", "final_response": "yes"})];
        assert_eq!(shown(&frames, false), "yes\ncompleted\n");
    }

    #[test]
    fn nothing_that_a_peer_wrote_is_obeyed() {
        let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\r";
        let kinds =
            ["user_message", "agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_delta"];
        let more =
            ["agent_completed", "agent_failed", "agent_cancelled", "custom", "error", "welcome", "service_level"];
        for kind in kinds.into_iter().chain(more) {
            let mut frame = json!({"type": kind, "run_id": evil});
            for field in ["content", "agent_name", "thought", "tool_name", "parameters", "results", "error", "text"] {
                frame[field] = evil.into();
            }
            for field in ["final_response", "reason", "name", "data", "code", "message", "user_id", "level"] {
                frame[field] = evil.into();
            }
            let text = shown(&[frame], false);
            assert!(text.chars().all(|c| c == '\n' || !is_unprintable(c)), "{kind}: {text:?}");
        }
    }

    #[test]
    fn frames_as_they_came_are_one_line_with_the_same_values() {
        let frame = "{\"type\": \"x\",\n\"a\":\"\u{9b}2J\u{202e}\u{7f} \\\\\", \"b\\\"\t\": [1.50,\r\n 2]}\n"
            .replace('\t', " ");
        let line = one_json_line(&frame);
        assert_eq!(line, "{\"type\":\"x\",\"a\":\"\\u009b2J\\u202e\\u007f \\\\\",\"b\\\" \":[1.50,2]}");
        let values = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(values(&line), values(&frame));
    }

    #[test]
    fn a_person_sees_one_conversation_and_a_program_all() {
        let frame = json!({"type": "user_message", "thread_id": "other", "content": "hi"}).to_string();
        for (json, lines) in [(false, 0), (true, 1)] {
            let (mut out, main) = (Vec::new(), ThreadId::new("main").unwrap());
            Screen::new(json, false).of_thread(main).frame(&frame, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap().lines().count(), lines);
        }
    }

    #[test]
    fn frames_that_are_not_understood_are_not_shown() {
        assert_eq!(shown(&[json!({"type": "position"}), json!([1]), json!("x")], false), "");
    }
}
