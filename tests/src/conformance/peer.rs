//! A client's end as a scenario has it: bytes, an HTTP answer, frames. It believes nothing: whatever holds for every frame of
//! every server is verified here, whether a step asks for it or not.

mod verify;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use serde_json::Value;

use super::net::{Net, Pipe, within, write_all};
use super::pattern::Pattern;
use super::secrets::Secrets;
use super::template::Variables;
use crate::raw::split_frame;
use crate::wire::frame;
use verify::Verified;

/// What waits in one order. Between lanes the protocol promises none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Frames with a position in this stream.
    Stream(String),
    /// Replies to this request.
    Reply(String),
    /// Others of this type; `ephemeral` are the events without a position.
    Kind(String),
}

/// Types that have no position.
const CONTROL: [&str; 9] =
    ["welcome", "lag", "auth_expiring", "service_level", "going_away", "error", "pong", "request", "reply"];

impl Lane {
    pub(super) fn of(frame: &Value) -> Self {
        let kind = frame["type"].as_str().unwrap_or_default();
        let control = CONTROL.contains(&kind);
        Self::new(kind, frame["id"].as_str(), frame["stream"].as_str(), control || frame.get("event_id").is_some())
    }

    pub(super) fn wanted(pattern: &Pattern, variables: &Variables) -> Self {
        let text = |name| pattern.field(name, variables).and_then(|value| value.as_str().map(str::to_owned));
        let (kind, id, stream) = (text("type").unwrap_or_default(), text("id"), text("stream"));
        Self::new(&kind, id.as_deref(), stream.as_deref(), !pattern.is_absent("event_id"))
    }

    fn new(kind: &str, id: Option<&str>, stream: Option<&str>, placed: bool) -> Self {
        match kind {
            "reply" => Self::Reply(id.unwrap_or_default().to_owned()),
            kind if CONTROL.contains(&kind) => Self::Kind(kind.to_owned()),
            _ if placed => Self::Stream(stream.unwrap_or("user").to_owned()),
            _ => Self::Kind("ephemeral".to_owned()),
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The answer's head is awaited.
    Head,
    /// Frames come.
    Frames,
    /// The server's close came, with this code.
    Closed(Option<u16>),
    /// Nothing comes any more.
    Over,
}

pub(super) struct Peer {
    pipe: Option<Box<dyn Pipe>>,
    seen: Vec<u8>,
    at: usize,
    phase: Phase,
    /// Verified, and taken by no step.
    waiting: VecDeque<(Lane, Value)>,
    pongs: VecDeque<Vec<u8>>,
    /// Whether pings are answered, as every client must.
    pub(super) answers: bool,
    /// Pieces of a message of the server that is not whole.
    fragments: Option<Vec<u8>>,
    pub(super) verified: Verified,
    /// When it began to connect: what the runner does late makes no answer look early.
    pub(super) since: Duration,
    /// What came and went, for people.
    pub(super) log: Vec<String>,
    secrets: Secrets,
}

/// What a step waits for may end otherwise.
type Outcome<T> = Result<T, String>;

const READ: usize = 16 << 10;
/// How long a socket may take nothing of what is sent.
const STALL: Duration = Duration::from_secs(60);
/// From the close to the socket's end.
const END: Duration = Duration::from_secs(20);
const MASK: [u8; 4] = [0x5a, 0x01, 0xc3, 0x7e];
/// Lines of a log that are kept.
const LOG: usize = 400;

impl Peer {
    pub(super) async fn connect(net: &dyn Net, narrow: bool, secrets: Secrets) -> Outcome<Self> {
        let since = net.now();
        let pipe = within(net, END, net.connect(narrow)).await.ok_or("no connection came about in time")?;
        Ok(Self {
            pipe: Some(pipe.map_err(|error| format!("no connection came about: {error}"))?),
            seen: Vec::new(),
            at: 0,
            phase: Phase::Head,
            waiting: VecDeque::new(),
            pongs: VecDeque::new(),
            answers: true,
            fragments: None,
            verified: Verified::default(),
            since,
            log: Vec::new(),
            secrets,
        })
    }

    /// Whether nothing was sent and nothing has come.
    pub(super) fn is_fresh(&self) -> bool {
        self.log.is_empty() && self.pipe.is_some()
    }

    fn note(&mut self, arrow: &str, what: &str) {
        const SHOWN: usize = 600;
        if self.log.len() < LOG {
            let shown: String = what.chars().take(SHOWN).collect();
            let more = if shown.len() < what.len() { " …" } else { "" };
            self.log.push(format!("{arrow} {}{more}", self.secrets.mask(&shown)));
        }
    }

    pub(super) async fn send(&mut self, net: &dyn Net, bytes: &[u8], what: &str) -> Outcome<()> {
        self.note(">", what);
        let pipe = self.pipe.as_deref_mut().ok_or("the connection is gone")?;
        match within(net, STALL, write_all(pipe, bytes)).await {
            Some(Ok(())) => Ok(()),
            // The server may refuse before it has all of it: what it says is for the steps that follow.
            Some(Err(error)) => {
                self.note("!", &format!("not all of that left: {error}"));
                Ok(())
            }
            None => Err(format!("the server took nothing for {STALL:?}")),
        }
    }

    pub(super) async fn send_frame(&mut self, net: &dyn Net, first: u8, payload: &[u8], masked: bool) -> Outcome<()> {
        let bytes = frame(first, payload, masked.then_some(MASK));
        let what = match first {
            0x81 => String::from_utf8_lossy(payload).into_owned(),
            _ => format!("frame {first:#04x} of {} bytes", payload.len()),
        };
        self.send(net, &bytes, &what).await
    }

    /// Reads some more; 0 is the end, and so is a reset.
    async fn more(&mut self) -> Outcome<usize> {
        self.seen.drain(..std::mem::take(&mut self.at));
        let Some(pipe) = self.pipe.as_deref_mut() else { return Err("the connection is gone".to_owned()) };
        let mut some = vec![0; READ];
        let read = poll_fn(|cx| pipe.poll_read(cx, &mut some)).await.unwrap_or(0);
        self.seen.extend_from_slice(some.get(..read).unwrap_or_default());
        Ok(read)
    }

    /// The status and the headers of an HTTP answer; after 101 frames follow.
    pub(super) async fn head(&mut self) -> Outcome<(u16, Value)> {
        let end = loop {
            if let Some(at) = self.seen.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.more().await? == 0 {
                self.phase = Phase::Over;
                return Err(format!(
                    "the connection ended before an answer: {:?}",
                    String::from_utf8_lossy(&self.seen)
                ));
            }
        };
        let head = String::from_utf8_lossy(self.seen.get(..end).unwrap_or_default()).into_owned();
        self.at = end;
        self.note("<", head.trim_end());
        if self.secrets.are_in(&head) {
            return Err("the answer names a token".to_owned());
        }
        let mut lines = head.lines();
        let (version, rest) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or_default();
        let status: Option<u16> = rest.get(..3).and_then(|status| status.parse().ok());
        // A web stack may refuse a request of HTTP/1.0 in its own version; it upgrades nothing.
        let speaks = |status| version == "HTTP/1.1" || (version == "HTTP/1.0" && status != 101);
        let status = status.filter(|status| speaks(*status));
        let status = status.ok_or_else(|| format!("this is no HTTP/1.1 answer: {head:?}"))?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), Value::from(value.trim())));
        self.phase = if status == 101 { Phase::Frames } else { Phase::Over };
        Ok((status, headers.collect()))
    }

    /// Takes in one WebSocket frame of the server; says whether there is more to come.
    async fn step(&mut self, net: &dyn Net) -> Outcome<bool> {
        if matches!(self.phase, Phase::Head) {
            let (status, _) = self.head().await?;
            return if status == 101 { Ok(true) } else { Err(format!("the server answered {status}")) };
        }
        if matches!(self.phase, Phase::Over) {
            return Ok(false);
        }
        loop {
            let bytes = self.seen.get(self.at..).unwrap_or_default();
            if let Some((first, payload, used)) = split_frame(bytes)? {
                self.at += used;
                return self.take(net, first, payload).await;
            }
            if self.more().await? == 0 {
                self.note("<", "the connection ends");
                if self.at < self.seen.len() {
                    self.phase = Phase::Over;
                    return Err("the connection ended in the middle of a frame".to_owned());
                }
                self.phase = match self.phase {
                    Phase::Closed(code) => Phase::Closed(code),
                    Phase::Head | Phase::Frames | Phase::Over => Phase::Over,
                };
                return Ok(false);
            }
        }
    }

    async fn take(&mut self, net: &dyn Net, first: u8, payload: Vec<u8>) -> Outcome<bool> {
        if let Phase::Closed(_) = self.phase {
            return Err(format!("after the close came a frame {first:#04x} of {} bytes", payload.len()));
        }
        match (first, self.fragments.take()) {
            (0x81, None) => self.text(payload)?,
            (0x01, None) => self.fragments = Some(payload),
            (0x00, Some(before)) => self.fragments = Some([before, payload].concat()),
            (0x80, Some(before)) => self.text([before, payload].concat())?,
            (0x89, before) => {
                self.fragments = before;
                if self.answers {
                    // The server may be gone by now.
                    let _ = self.send_frame(net, 0x8a, &payload, true).await;
                }
            }
            (0x8a, before) => {
                self.fragments = before;
                self.pongs.push_back(payload);
            }
            (0x88, _) => return self.close(net, &payload).await,
            (other, _) => return Err(format!("no frame of a server begins with {other:#04x} here")),
        }
        Ok(true)
    }

    fn text(&mut self, payload: Vec<u8>) -> Outcome<()> {
        let text = String::from_utf8(payload).map_err(|_| "a text frame is not UTF-8")?;
        self.note("<", &text);
        if self.secrets.are_in(&text) {
            return Err("a frame names a token".to_owned());
        }
        let frame: Value = serde_json::from_str(&text).map_err(|error| format!("a frame is no JSON: {error}"))?;
        self.verified.take(&frame)?;
        self.waiting.push_back((Lane::of(&frame), frame));
        Ok(())
    }

    async fn close(&mut self, net: &dyn Net, payload: &[u8]) -> Outcome<bool> {
        let code = payload.get(..2).and_then(|code| Some(u16::from_be_bytes(code.try_into().ok()?)));
        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
        self.note("<", &format!("close {code:?} {reason:?}"));
        if self.secrets.are_in(&reason) {
            return Err("the close's reason names a token".to_owned());
        }
        if payload.len() > 125 || (payload.len() == 1) || matches!(code, Some(..=999 | 1004..=1006 | 1015 | 5000..)) {
            return Err(format!("no close frame of a server says {payload:?}"));
        }
        self.phase = Phase::Closed(code);
        // The answer to a close is its code; the server may be gone by now.
        let _ = self.send_frame(net, 0x88, payload.get(..2).unwrap_or_default(), true).await;
        Ok(true)
    }

    /// The first frame that waits in a lane, awaited where none does.
    pub(super) async fn next(&mut self, net: &dyn Net, lane: &Lane) -> Outcome<Value> {
        loop {
            if let Some(at) = self.waiting.iter().position(|(of, _)| of == lane)
                && let Some((_, frame)) = self.waiting.remove(at)
            {
                return Ok(frame);
            }
            if !self.step(net).await? {
                return Err(format!("the connection ended instead ({:?})", self.phase));
            }
            if let Phase::Closed(code) = self.phase {
                return Err(format!("the server closed instead, with {code:?}"));
            }
        }
    }

    /// Reads on until the client stands where its stream ended when it came; takes what comes up to there.
    pub(super) async fn caught_up(&mut self, net: &dyn Net) -> Outcome<()> {
        while !self.verified.is_caught_up() {
            if !self.step(net).await? || matches!(self.phase, Phase::Closed(_)) {
                return Err(format!("the connection ended instead ({:?})", self.phase));
            }
        }
        let own = Lane::Stream("user".to_owned());
        self.waiting.retain(|(lane, _)| *lane != own);
        Ok(())
    }

    /// The next WebSocket pong.
    pub(super) async fn pong(&mut self, net: &dyn Net) -> Outcome<Vec<u8>> {
        loop {
            if let Some(pong) = self.pongs.pop_front() {
                return Ok(pong);
            }
            if !self.step(net).await? || matches!(self.phase, Phase::Closed(_)) {
                return Err(format!("the connection ended instead ({:?})", self.phase));
            }
        }
    }

    /// Reads on to the server's close; the socket ends after it, and nothing comes in between.
    pub(super) async fn closed(&mut self, net: &dyn Net) -> Outcome<u16> {
        let code = loop {
            if let Phase::Closed(code) = self.phase {
                break code.ok_or("the close frame has no code")?;
            }
            if !self.step(net).await? {
                return Err("the socket ended without a close".to_owned());
            }
        };
        match within(net, END, self.step(net)).await {
            Some(Ok(false)) => {}
            Some(Ok(true)) => return Err("more came after the close".to_owned()),
            Some(Err(problem)) => return Err(problem),
            None => return Err("the socket does not end after its close".to_owned()),
        }
        self.pipe = None;
        self.phase = Phase::Over;
        Ok(code)
    }

    /// Reads on to the end, before which no close comes.
    pub(super) async fn ended(&mut self, net: &dyn Net) -> Outcome<()> {
        match self.phase {
            Phase::Frames => {
                loop {
                    match self.step(net).await {
                        Ok(true) => {}
                        Ok(false) => break,
                        // In the middle of a frame, perhaps.
                        Err(_) if matches!(self.phase, Phase::Over) => break,
                        Err(problem) => return Err(problem),
                    }
                    if let Phase::Closed(code) = self.phase {
                        return Err(format!("a close came first, with {code:?}"));
                    }
                }
            }
            Phase::Head | Phase::Over => {
                if matches!(self.phase, Phase::Head) && !self.seen.is_empty() {
                    return Err("there are bytes instead of an end".to_owned());
                }
                // The body of an HTTP answer, as a rule.
                while self.more().await? > 0 {
                    if matches!(self.phase, Phase::Head) {
                        return Err("bytes came instead of an end".to_owned());
                    }
                    if self.secrets.are_in(&String::from_utf8_lossy(&self.seen)) {
                        return Err("the answer names a token".to_owned());
                    }
                    // Nothing of it is looked at again.
                    self.at = self.seen.len();
                }
            }
            Phase::Closed(code) => return Err(format!("a close came first, with {code:?}")),
        }
        self.pipe = None;
        self.phase = Phase::Over;
        Ok(())
    }

    /// All bytes up to the end.
    pub(super) async fn rest(&mut self) -> Outcome<Vec<u8>> {
        while self.more().await? > 0 {}
        self.pipe = None;
        Ok(self.seen.split_off(self.at))
    }

    /// What waits and was not taken.
    pub(super) fn left(&self) -> Outcome<()> {
        match self.waiting.front() {
            None => Ok(()),
            Some((_, frame)) => Err(format!("{frame} came, which no step has taken")),
        }
    }

    pub(super) async fn fin(&mut self, net: &dyn Net) -> Outcome<()> {
        self.note(">", "no more");
        let pipe = self.pipe.as_deref_mut().ok_or("the connection is gone")?;
        let ended = within(net, STALL, poll_fn(|cx| pipe.poll_fin(cx))).await;
        ended.ok_or("the sending side does not end")?.map_err(|error| error.to_string())
    }

    pub(super) fn cut(&mut self) -> Outcome<()> {
        self.note(">", "a reset");
        self.phase = Phase::Over;
        self.pipe.take().ok_or("the connection is gone")?.cut();
        Ok(())
    }
}
