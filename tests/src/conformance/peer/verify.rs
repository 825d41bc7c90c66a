//! What holds for every frame that a server sends.

use std::collections::BTreeMap;

use serde_json::Value;

/// Where a client stands, and what it shows.
#[derive(Debug, Default)]
pub(in crate::conformance) struct Verified {
    /// The first frame.
    pub(in crate::conformance) welcome: Value,
    /// Per stream, epoch and seq.
    places: BTreeMap<String, (u64, u64)>,
    /// Per run and part, where what is known begins, and its letters.
    texts: BTreeMap<(String, String), (usize, Vec<char>)>,
}

type Outcome<T> = Result<T, String>;

impl Verified {
    /// Takes a frame in.
    pub(super) fn take(&mut self, frame: &Value) -> Outcome<()> {
        let kind = frame["type"].as_str().ok_or_else(|| format!("a frame has no type: {frame}"))?;
        if self.welcome.is_null() != (kind == "welcome") {
            return Err(format!("the welcome is the first frame, and comes once: {frame}"));
        }
        match kind {
            "welcome" => self.welcomed(frame),
            "snapshot" => self.snapshot(frame),
            "reply" if frame["stream"].is_string() && frame["ok"] == true => self.enter(frame),
            _ if frame.get("event_id").is_some() => self.follow(frame),
            _ => Ok(()),
        }
    }

    /// The position in a stream, as `resume` has it.
    pub(in crate::conformance) fn at(&self, stream: &str) -> Option<String> {
        self.places.get(stream).map(|(epoch, seq)| format!("{epoch}-{seq}"))
    }

    /// Whether the client stands where its own stream ended when it came, or after it.
    pub(super) fn is_caught_up(&self) -> bool {
        let entry =
            self.welcome["streams"].as_array().and_then(|entries| entries.iter().find(|e| e["stream"] == "user"));
        let head = entry.and_then(|entry| position(&entry["head"]).ok());
        self.places.get("user").copied() >= head
    }

    /// What the client shows of a text.
    pub(in crate::conformance) fn shown(&self, run: &str, part: &str) -> String {
        let text = self.texts.get(&(run.to_owned(), part.to_owned()));
        text.map(|(_, letters)| letters.iter().collect()).unwrap_or_default()
    }

    fn welcomed(&mut self, frame: &Value) -> Outcome<()> {
        for field in ["connection_id", "session_id", "user_id", "service_level"] {
            if !frame[field].is_string() {
                return Err(format!("the welcome has no {field}: {frame}"));
            }
        }
        self.welcome = frame.clone();
        let streams = frame["streams"].as_array().ok_or_else(|| format!("the welcome has no streams: {frame}"))?;
        streams.iter().try_for_each(|entry| self.enter(entry))
    }

    /// An entry of the welcome, or of the answer to `subscribe`.
    fn enter(&mut self, entry: &Value) -> Outcome<()> {
        let (place, head) = (position(&entry["event_id"])?, position(&entry["head"])?);
        let mode = entry["mode"].as_str().unwrap_or_default();
        let fits = match mode {
            "live" => place == head,
            "replay" => place.0 == head.0 && place.1 < head.1,
            "snapshot" | "reset" => place.0 == head.0 && place.1 <= head.1,
            _ => false,
        };
        if !fits {
            return Err(format!("`mode`, `event_id` and `head` do not fit: {entry}"));
        }
        if let Some(lost) = entry.get("lost")
            && (lost["to"] != entry["event_id"] || position(&lost["from"]).is_err())
        {
            return Err(format!("`lost.to` equals `event_id`: {entry}"));
        }
        let stream = entry["stream"].as_str().ok_or_else(|| format!("an entry names its stream: {entry}"))?;
        // The snapshot's own frames say so again.
        self.places.insert(stream.to_owned(), place);
        Ok(())
    }

    /// It replaces everything; the position counts once the last part is here.
    fn snapshot(&mut self, frame: &Value) -> Outcome<()> {
        const MOST: usize = 66 << 10;
        if frame.to_string().len() > MOST {
            return Err("a frame of a snapshot is over its bound".to_owned());
        }
        if frame["part"] == 1 {
            self.texts.clear();
        }
        let stream = frame["stream"].as_str().ok_or("a snapshot names its stream")?;
        self.places.insert(stream.to_owned(), position(&frame["event_id"])?);
        for run in frame["runs"].as_array().ok_or("a snapshot has runs")? {
            let id = run["run_id"].as_str().ok_or("a run of a snapshot has an id")?;
            for part in run["parts"].as_array().into_iter().flatten() {
                self.piece(id, part)?;
            }
        }
        Ok(())
    }

    /// A frame continues where the last one of its stream ended, and is this user's.
    fn follow(&mut self, frame: &Value) -> Outcome<()> {
        let stream = frame["stream"].as_str().unwrap_or("user");
        let (epoch, seq) = position(&frame["event_id"])?;
        let prev = frame["prev"].as_u64().unwrap_or(seq.wrapping_sub(1));
        let place = self.places.get_mut(stream).ok_or_else(|| format!("nobody follows that stream: {frame}"))?;
        if (epoch, prev) != *place {
            return Err(format!("the client stands at {}-{}, which this does not follow: {frame}", place.0, place.1));
        }
        if frame["type"] == "position" {
            place.1 = seq;
            return Ok(());
        }
        if frame["seq"] != seq || prev >= seq {
            return Err(format!("`seq`, `prev` and `event_id` do not fit: {frame}"));
        }
        place.1 = seq;
        if !frame["timestamp"].as_f64().is_some_and(|seconds| seconds > 1.6e9) {
            return Err(format!("an event has a timestamp in seconds: {frame}"));
        }
        let mine =
            if stream == "user" { frame["user_id"] == self.welcome["user_id"] } else { frame["user_id"].is_null() };
        if !mine {
            return Err(format!("this is another user's: {frame}"));
        }
        self.read(frame)
    }

    fn read(&mut self, event: &Value) -> Outcome<()> {
        if event["type"] == "agent_deltas" {
            if !event["prev"].is_u64() {
                return Err(format!("a window names its beginning: {event}"));
            }
            let parts = event["parts"].as_array().ok_or("a window has parts")?;
            return parts.iter().try_for_each(|part| self.piece(part["run_id"].as_str().unwrap_or_default(), part));
        }
        if event["type"] == "agent_delta" {
            return self.piece(event["run_id"].as_str().unwrap_or_default(), event);
        }
        Ok(())
    }

    /// A piece of text continues what is known, or repeats it.
    fn piece(&mut self, run: &str, piece: &Value) -> Outcome<()> {
        let part = piece["part_id"].as_str().ok_or_else(|| format!("a text has a part_id: {piece}"))?;
        let offset = piece["offset"].as_u64().and_then(|offset| usize::try_from(offset).ok());
        let offset = offset.ok_or_else(|| format!("a text has an offset: {piece}"))?;
        let text = piece["text"].as_str().ok_or_else(|| format!("a text is one: {piece}"))?;
        let key = (run.to_owned(), part.to_owned());
        // Whoever resumed has the beginning from before.
        let (start, letters) = self.texts.entry(key).or_insert_with(|| (offset, Vec::new()));
        let Some(at) = offset.checked_sub(*start).filter(|at| *at <= letters.len()) else {
            return Err(format!(
                "the text has a gap before {offset}: {} letters from {start} are known",
                letters.len()
            ));
        };
        for (at, letter) in (at..).zip(text.chars()) {
            match letters.get(at) {
                Some(known) if *known != letter => return Err(format!("what the text repeats differs: {piece}")),
                Some(_) => {}
                None => letters.push(letter),
            }
        }
        Ok(())
    }
}

/// `<epoch>-<seq>` in decimal, spelled in its one way.
fn position(value: &Value) -> Outcome<(u64, u64)> {
    let parse = |text: &str| {
        let (epoch, seq) = text.split_once('-')?;
        let (epoch, seq) = (epoch.parse::<u64>().ok()?, seq.parse::<u64>().ok()?);
        (text == format!("{epoch}-{seq}")).then_some((epoch, seq))
    };
    value.as_str().and_then(parse).ok_or_else(|| format!("{value} is no position"))
}
