//! How much work and how much room streams take.

use bytes::Bytes;

use super::entry::tests::written;
use super::{Entry, Log, MergedText, Reducer, frames_for, snapshot_frames};
use crate::id::{PartId, RunId, ThreadId};
use crate::limits::Limits;
use crate::protocol::{EventBody, EventHead, Lost, Position, ServerFrame, StreamName, encode_event, tells_of_a_run};
use crate::time::UnixTime;

/// Runs that write into one log.
struct Writer {
    log: Log,
    limits: Limits,
    run_seq: u64,
    offset: u64,
    bytes: usize,
}

const USER: &str = "ann \"the\\user\"";

impl Writer {
    fn new(limits: Limits) -> Self {
        Self { log: Log::new(7), limits, run_seq: 0, offset: 0, bytes: 0 }
    }

    fn event(&mut self, body: &EventBody) {
        self.run_seq += 1;
        let timestamp = UnixTime::from_secs(self.run_seq);
        let run = Some(RunId::from_bits(9));
        let thread = ThreadId::new(&"\"".repeat(128)).unwrap();
        let head = EventHead {
            position: self.log.next(),
            stream: None,
            timestamp,
            user_id: Some(USER),
            thread_id: Some(&thread),
            run_id: run,
            run_seq: Some(self.run_seq),
            flaw: None,
            agent_name: Some("\u{1}\u{2}"),
        };
        let frame = Bytes::from(encode_event(&head, body));
        self.bytes += frame.len();
        let meta = MergedText { run, run_seq: self.run_seq, timestamp };
        self.log.append(Entry::new(self.log.next().seq, frame, body, meta), &self.limits);
    }

    fn say(&mut self, part: &str, text: &str) {
        let part_id = PartId::new(part).unwrap();
        self.event(&EventBody::AgentDelta { part_id, offset: self.offset, text: text.into() });
        self.offset += text.chars().count() as u64;
    }

    fn think(&mut self, thought: String) {
        self.event(&EventBody::AgentThinking { thought, step: None, progress: None });
    }

    fn entries(&self) -> Vec<Entry> {
        self.log.after(self.log.start()).unwrap().cloned().collect()
    }

    /// The state at the end.
    fn view(&self) -> Reducer {
        let mut view = self.log.base().clone();
        for entry in self.entries() {
            match ServerFrame::parse(std::str::from_utf8(entry.frame()).unwrap()).unwrap() {
                ServerFrame::Event(event) => view.apply(&event),
                other => panic!("{other:?}"),
            }
        }
        view
    }
}

#[test]
fn joining_writes_a_few_times_what_was_appended_however_small_the_pieces() {
    for (log_entries, piece) in
        [(4_096, "ab"), (200, "ab"), (8, "ab"), (70, "a piece of some words, not very long"), (8, "")]
    {
        let mut run = Writer::new(Limits { log_entries, ..Limits::default() });
        let before = written();
        for _ in 0..8_192 {
            run.say("p", piece);
        }
        let joined = written() - before;
        assert!(joined > 0);
        assert!(joined <= 5 * run.bytes, "{log_entries} {piece:?}: {joined} of {}", run.bytes);
    }
}

#[test]
fn one_pass_over_a_full_log_writes_less_than_it_reads() {
    let mut run = Writer::new(Limits { log_entries: 4_096, log_bytes: 64 << 20, ..Limits::default() });
    for _ in 0..4_096 {
        run.say("p", "ab");
    }
    let (before, held) = (written(), run.log.bytes());
    run.say("p", "ab");
    assert!(written() - before <= 256 * run.entries()[100].bytes(), "{}", written() - before);
    assert!(run.log.bytes() < held && run.entries().len() == 4_097 - 255);
}

#[test]
fn a_text_alone_loses_nothing_while_its_letters_fit() {
    for log_entries in [8, 40, 300] {
        let mut run = Writer::new(Limits { log_entries, ..Limits::default() });
        for n in 0..1_000 {
            run.say("p", &format!("{n} "));
        }
        assert_eq!(run.log.start().seq, 0, "{log_entries}: nothing was shed");
        let text = &run.view().runs()[&RunId::from_bits(9)].parts[&PartId::new("p").unwrap()].text.clone();
        assert_eq!(*text, (0..1_000).map(|n| format!("{n} ")).collect::<String>());
    }
}

#[test]
fn relief_joins_first_then_sheds_then_shortens_and_ends() {
    let mut run = Writer::new(Limits::default());
    for n in 0..200 {
        run.say("p", &format!("{n} "));
    }
    let whole = run.view();
    let (mut joined, mut shed, mut shortened) = (0, 0, 0);
    loop {
        let (entries, start, base) = (run.entries().len(), run.log.start(), run.log.base().bytes());
        let bytes = run.log.bytes();
        if !run.log.relieve(0, false, &run.limits) {
            break;
        }
        match run.log.start() == start {
            true if run.entries().len() < entries => {
                assert!(shed == 0 || entries < 70, "joined first");
                assert!(run.log.bytes() < bytes);
                joined += 1;
            }
            true => {
                assert!(run.log.base().bytes() < base);
                shortened += 1;
            }
            false => {
                assert_eq!(run.entries().len(), entries - 1);
                shed += 1;
            }
        }
        if shortened == 0 {
            assert_eq!(run.view(), whole, "base and log are the whole history");
        }
    }
    assert!(joined > 0 && shed > 0 && shortened == 1, "{joined} {shed} {shortened}");
    assert_eq!((run.log.bytes(), run.log.start(), run.log.head().seq), (0, run.log.head(), 200));
}

#[test]
fn the_newest_entry_stays_where_it_is_to() {
    let mut run = Writer::new(Limits::default());
    run.think("one".into());
    run.think("two".into());
    while run.log.relieve(0, true, &run.limits) {}
    assert_eq!(run.entries().iter().map(Entry::seq).collect::<Vec<_>>(), [2]);
    assert_eq!(run.log.bytes(), run.entries()[0].bytes());
}

/// Letters that JSON spells with as many bytes as it can, and some that it does not.
fn hard(bytes: usize) -> String {
    "\u{1}\"\\\u{1f}🙂\u{0}".chars().cycle().take(bytes).collect()
}

#[test]
fn a_snapshots_frames_are_bounded_as_they_are_encoded() {
    let mut run = Writer::new(Limits { log_entries: 4, snapshot_bytes: 4 << 20, ..Limits::default() });
    let mut largest = 0;
    for n in 0..120 {
        let before = run.bytes;
        run.say("\\\"", &hard(8_000));
        run.think(hard(n * 90));
        let json = |text: &str| serde_json::value::to_raw_value(text).unwrap();
        let tool_call_id = crate::id::ToolCallId::new(&format!("\"{n}")).unwrap();
        let tool_name = "\u{2}".repeat(20);
        run.event(&EventBody::ToolExecuting {
            tool_call_id: tool_call_id.clone(),
            tool_name: tool_name.clone(),
            parameters: Some(json(&hard(n * 95))),
        });
        largest = largest.max(run.bytes - before);
        run.event(&EventBody::ToolCompleted {
            tool_call_id,
            tool_name,
            results: json(&hard(n * 30)),
            success: n % 2 == 0,
            duration_ms: None,
            error: Some(hard(n * 60)),
        });
    }
    let lost = Some(Lost { from: Position { epoch: u64::MAX, seq: 1 }, to: Position { epoch: u64::MAX, seq: 2 } });
    let view = run.view();
    let frames = snapshot_frames(&StreamName::User, run.log.head(), lost, &view);
    let mut restored = Reducer::default();
    let (mut of_one, mut sizes) = (0, Vec::new());
    for frame in &frames {
        let ServerFrame::Snapshot(snapshot) = frame else { panic!("another kind") };
        let size = frame.encode().len();
        if size > 32 << 10 {
            // A single value of an event, whose own frame was as large.
            assert_eq!(snapshot.runs.len(), 1);
            of_one += 1;
        }
        assert!(size <= (64 << 10) + (1 << 10), "{size}");
        assert_eq!(snapshot.lost.is_some(), snapshot.part == 1);
        snapshot.runs.iter().for_each(|piece| restored.restore(piece));
        sizes.push(size);
    }
    assert!(of_one > 0 && largest > 32 << 10, "the values were large enough to tell");
    assert_eq!(restored, view);
    let total: usize = sizes.iter().sum();
    assert!(frames.len() < 3 * total / (32 << 10), "frames are filled: {sizes:?}");
}

#[test]
fn a_merged_window_is_bounded_as_it_is_encoded() {
    let mut run = Writer::new(Limits::default());
    for n in 0..300 {
        let part = format!("{}{}", "\"\\".repeat(60), n % 7);
        run.say(&part, &hard(n % 50));
    }
    for n in 0..20 {
        run.say("large", &hard(1_000 * n % 9_000));
    }
    let from = run.log.start();
    let frames = frames_for(&StreamName::User, Some(USER), from, &run.entries(), true);
    let windows = frames.iter().filter(|frame| frame.frame.starts_with(br#"{"type":"agent_deltas""#));
    let sizes: Vec<_> = windows.map(|frame| frame.frame.len()).collect();
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size <= 33 << 10), "{sizes:?}");
    assert!(frames.iter().all(|frame| frame.frame.len() <= 64 << 10));
}

#[test]
fn a_merged_window_keeps_the_parts_of_a_run_apart() {
    let mut run = Writer::new(Limits::default());
    for (part, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")] {
        run.say(part, text);
    }
    let frames = frames_for(&StreamName::User, Some(USER), run.log.start(), &run.entries(), true);
    let [window] = frames.as_slice() else { panic!("{frames:?}") };
    let ServerFrame::Deltas(deltas) = ServerFrame::parse(std::str::from_utf8(&window.frame).unwrap()).unwrap() else {
        panic!("no window")
    };
    let parts = deltas.parts.iter().map(|part| (part.part_id.as_str(), part.offset, part.text.as_str()));
    assert!(parts.eq([("a", 0, "13"), ("b", 1, "24")]), "{deltas:?}");
}

#[test]
fn what_the_base_does_not_read_would_have_changed_nothing() {
    let part_id = PartId::new("answer").unwrap();
    let data = || serde_json::value::RawValue::from_string("1".into()).unwrap();
    let text = "{\"type\":\"custom\",";
    let bodies = [
        (EventBody::UserMessage { content: text.into(), metadata: None }, false),
        (EventBody::Custom { name: "agent_started".into(), data: data() }, false),
        (EventBody::AgentStarted { parent_run_id: None, message: Some(text.into()) }, true),
        (EventBody::AgentThinking { thought: text.into(), step: None, progress: None }, true),
        (EventBody::AgentDelta { part_id, offset: 0, text: text.into() }, true),
        (EventBody::AgentCompleted { final_response: Some(text.into()), result: None, duration_ms: 1 }, true),
    ];
    for (body, tells) in bodies {
        let mut writer = Writer::new(Limits::default());
        writer.event(&body);
        assert_eq!(!writer.view().runs().is_empty(), tells, "{body:?}");
        assert_eq!(tells_of_a_run(writer.entries()[0].frame()), tells, "{body:?}");
    }
}
