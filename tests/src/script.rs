//! Streams whose every event is a function of its number, and readers that hold a server to that.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};
use trunkline_core::hub::{Hub, Run, RunOptions, ToolCall};
use trunkline_core::id::{ThreadId, TopicId, TopicName, UserId};

use crate::wire::position;

/// One round of a user's stream, whose event `seq` is `ROUND[(seq - 1) % 12]`.
const ROUND: [&str; 12] = [
    "agent_started",
    "agent_thinking",
    "tool_executing",
    "agent_delta",
    "agent_delta",
    "tool_completed",
    "custom",
    "agent_delta",
    "agent_delta",
    "agent_delta",
    "custom",
    "agent_completed",
];

fn place(seq: u64) -> usize {
    usize::try_from((seq - 1) % ROUND.len() as u64).expect("below 12")
}

fn kind(seq: u64) -> &'static str {
    ROUND[place(seq)]
}

/// The number within its run of an event that belongs to one.
fn run_seq(seq: u64) -> u64 {
    ROUND[..=place(seq)].iter().filter(|kind| **kind != "custom").count() as u64
}

/// What makes a payload larger.
static PAD: LazyLock<String> = LazyLock::new(|| "x".repeat(48 << 10));

/// One piece of text. Offsets count letters, which here are not bytes.
fn piece(seq: u64) -> String {
    format!("[é{seq}]")
}

/// A payload with so many bytes more than it needs.
fn payload(seq: u64, to: &str, pad: usize) -> Value {
    json!({"n": seq, "to": to, "pad": &PAD[..pad]})
}

/// Whoever publishes on one stream.
#[derive(Debug)]
pub struct Feed {
    hub: Hub,
    to: To,
    /// Of the last event.
    seq: u64,
    run: Option<Run>,
    call: Option<ToolCall>,
    letters: usize,
}

#[derive(Debug)]
enum To {
    User(UserId),
    Topic(TopicId),
}

impl Feed {
    /// The one publisher of a user's stream, which has no event yet.
    ///
    /// # Panics
    /// When the name is none.
    pub fn user(hub: &Hub, user: &str) -> Self {
        Self::new(hub, To::User(UserId::new(None, user).expect("a user's name")))
    }

    /// The one publisher of a topic, which has no event yet.
    ///
    /// # Panics
    /// When the name is none.
    pub fn topic(hub: &Hub, topic: &str) -> Self {
        let name = TopicName::new(topic).expect("a topic's name");
        Self::new(hub, To::Topic(TopicId::new(None, name).expect("a topic")))
    }

    fn new(hub: &Hub, to: To) -> Self {
        Self { hub: hub.clone(), to, seq: 0, run: None, call: None, letters: 0 }
    }

    /// How many events it has published.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Publishes the next event; where it has a payload, with `pad` bytes more than it needs, at most 48 KiB.
    ///
    /// # Panics
    /// When the hub refuses it.
    pub fn publish(&mut self, pad: usize) {
        self.seq += 1;
        let seq = self.seq;
        match &self.to {
            To::Topic(topic) => {
                self.hub.publish_topic(topic, "n", &payload(seq, topic.name().as_str(), pad)).expect("a topic's event");
            }
            To::User(user) if kind(seq) == "custom" => {
                self.hub
                    .publish(user, Some(thread(user.sub())), "n", &payload(seq, user.sub(), pad))
                    .expect("an event");
            }
            To::User(user) => {
                let user = user.clone();
                self.step(&user, pad);
            }
        }
    }

    /// The next event of the run.
    fn step(&mut self, user: &UserId, pad: usize) {
        const OPEN: &str = "the script has a run open here";
        let seq = self.seq;
        let data = || payload(seq, user.sub(), pad);
        match kind(seq) {
            "agent_started" => {
                let options = RunOptions::named(user.sub());
                self.run = Some(self.hub.start_run(user, thread(user.sub()), options).expect("a run"));
                self.letters = 0;
            }
            "agent_thinking" => drop(self.run.as_ref().expect(OPEN).thinking(piece(seq)).expect("a thought")),
            "tool_executing" => self.call = Some(self.run.as_ref().expect(OPEN).tool("t", &data()).expect("a call")),
            "tool_completed" => drop(self.call.take().expect(OPEN).completed(&data()).expect("a result")),
            "agent_delta" => {
                let text = piece(seq);
                self.letters += text.chars().count();
                self.run.as_ref().expect(OPEN).delta(text).expect("a piece");
            }
            _ => {
                let told = self.letters.to_string();
                self.run.take().expect(OPEN).completed(Some(told)).expect("an end");
            }
        }
    }

    /// Publishes until no run is open.
    pub fn finish(&mut self) {
        while self.run.is_some() {
            self.publish(0);
        }
    }
}

/// The conversation of a user.
fn thread(user: &str) -> ThreadId {
    ThreadId::new(&format!("thread of {user}")).expect("a conversation's name")
}

/// What one client has been given of its streams: each frame must be exactly what the script has after the last one.
#[derive(Clone, Debug)]
pub struct Ledger {
    user: String,
    places: BTreeMap<String, (u64, u64)>,
    run: Value,
    letters: u64,
    /// Events so far.
    pub events: u64,
    /// Windows of merged text among what came.
    pub windows: u64,
}

impl Ledger {
    /// A client that holds nothing. `topics` are those that its token grants.
    pub fn new(user: &str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| format!("topic:{topic}"));
        let places = topics.chain(["user".to_owned()]).map(|stream| (stream, (0, 0))).collect();
        Self { user: user.to_owned(), places, run: Value::Null, letters: 0, events: 0, windows: 0 }
    }

    /// Where it stands, as `hello` says it.
    pub fn resume(&self) -> Value {
        self.places.iter().map(|(stream, (epoch, seq))| (stream.clone(), json!(format!("{epoch}-{seq}")))).collect()
    }

    /// The number of its last event of a stream.
    ///
    /// # Panics
    /// When it does not follow the stream.
    pub fn seq(&self, stream: &str) -> u64 {
        self.places[stream].1
    }

    /// Takes a welcome: each of its streams continues where this client stands, and nothing is lost.
    ///
    /// # Panics
    /// When it says anything else.
    pub fn welcome(&mut self, welcome: &Value) {
        assert_eq!((&welcome["type"], &welcome["user_id"]), (&json!("welcome"), &json!(self.user)), "{welcome}");
        let entries = welcome["streams"].as_array().expect("streams");
        assert_eq!(entries.len(), self.places.len(), "these streams and no others: {welcome}");
        for entry in entries {
            let (epoch, seq) = position(&entry["event_id"]);
            let stream = entry["stream"].as_str().expect("a stream");
            let known = self.places.get_mut(stream).expect("a stream of this client");
            // `0-0` asks for all that is kept, which is all.
            assert!(known.0 == epoch || *known == (0, 0), "{entry} after {known:?}");
            assert_eq!((seq, entry.get("lost")), (known.1, None), "{entry} after {known:?}");
            let head = position(&entry["head"]);
            assert_eq!(head.0, epoch, "{entry}");
            let mode = match (known.0, head.1 == seq) {
                (0, _) => "reset",
                (_, true) => "live",
                (_, false) => "replay",
            };
            assert_eq!(entry["mode"], mode, "{entry} after {known:?}");
            *known = (epoch, seq);
        }
    }

    /// Takes any other frame.
    ///
    /// # Panics
    /// When it is not exactly what comes next in its stream.
    pub fn take(&mut self, frame: &Value) {
        if frame.get("event_id").is_none() {
            let control = ["lag", "pong"].iter().any(|kind| frame["type"] == *kind);
            assert!(control, "{} is told {frame}", self.user);
            return;
        }
        let stream = frame["stream"].as_str().unwrap_or("user").to_owned();
        let (epoch, seq) = position(&frame["event_id"]);
        let prev = frame["prev"].as_u64().unwrap_or(seq - 1);
        let known = self.places.get_mut(&stream).unwrap_or_else(|| panic!("{} is given {frame}", self.user));
        assert_eq!((epoch, prev), *known, "{} stands elsewhere: {frame}", self.user);
        assert!(prev < seq && frame["seq"] == seq, "{frame}");
        assert!(prev == seq - 1 || frame["type"] == "agent_deltas", "{frame}");
        known.1 = seq;
        self.events += seq - prev;
        if stream == "user" {
            self.own(frame, prev, seq);
        } else {
            assert_eq!((&frame["type"], frame.get("user_id")), (&json!("custom"), None), "{frame}");
            custom(frame, seq, stream.trim_start_matches("topic:"));
        }
    }

    fn own(&mut self, frame: &Value, prev: u64, seq: u64) {
        assert_eq!(frame["user_id"], self.user, "{frame}");
        if frame["type"] == "agent_deltas" {
            self.windows += 1;
            let parts = frame["parts"].as_array().expect("parts");
            assert_eq!(parts.len(), 1, "one run at a time: {frame}");
            return self.text(&parts[0], prev, seq);
        }
        assert_eq!((&frame["type"], &frame["thread_id"]), (&json!(kind(seq)), &json!(thread(&self.user))), "{frame}");
        match kind(seq) {
            "custom" => return custom(frame, seq, &self.user),
            "agent_delta" => return self.text(frame, prev, seq),
            "agent_started" => (self.run, self.letters) = (frame["run_id"].clone(), 0),
            "agent_thinking" => pieces(frame["thought"].as_str(), prev, seq),
            "tool_executing" => same(&frame["parameters"], seq, &self.user),
            "tool_completed" => same(&frame["results"], seq, &self.user),
            _ => assert_eq!(frame["final_response"], self.letters.to_string(), "the whole text: {frame}"),
        }
        assert_eq!((&frame["run_id"], &frame["run_seq"]), (&self.run, &json!(run_seq(seq))), "{frame}");
    }

    /// A piece of the run's text, or a window of several.
    fn text(&mut self, part: &Value, prev: u64, seq: u64) {
        assert!((prev + 1..=seq).all(|seq| kind(seq) == "agent_delta"), "from {prev} to {seq}: {part}");
        assert_eq!((&part["run_id"], &part["run_seq"]), (&self.run, &json!(run_seq(seq))), "{part}");
        assert_eq!(part["offset"], self.letters, "{part}");
        pieces(part["text"].as_str(), prev, seq);
        self.letters += part["text"].as_str().map_or(0, |text| text.chars().count()) as u64;
    }
}

/// The text is that of the events after `prev` up to `seq`, and no other.
fn pieces(text: Option<&str>, prev: u64, seq: u64) {
    let whole: String = (prev + 1..=seq).map(piece).collect();
    assert_eq!(text, Some(whole.as_str()));
}

fn custom(frame: &Value, seq: u64, to: &str) {
    assert_eq!(frame["name"], "n", "{frame}");
    same(&frame["data"], seq, to);
}

fn same(data: &Value, seq: u64, to: &str) {
    let pad = data["pad"].as_str().expect("a padding");
    assert!(data["n"] == seq && data["to"] == to && PAD.starts_with(pad), "the payload {seq} of {to} is {data}");
}
