//! A client that trusts nothing of this project: tokio-tungstenite, raw frames as JSON values, and its own look at every
//! position. A fault of the server is a panic that says what was awaited.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long one frame, one close, one connection may take; far above what a loaded machine needs.
pub const STEP: Duration = Duration::from_secs(20);

/// The question of the golden path.
pub const QUESTION: &str = "what is 2*(3+4)?";

/// A client's end of a WebSocket.
pub type Socket = WebSocketStream<TcpStream>;

/// Waits for `future` at most `limit`.
///
/// # Panics
/// When it takes longer, with `what`.
pub async fn within<F: Future>(what: &str, limit: Duration, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}

/// Waits until `condition` holds, at most `limit`, looking again every few milliseconds.
///
/// # Panics
/// When it does not hold in time, with `what`.
pub async fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A plain connection.
///
/// # Panics
/// When there is none.
pub async fn tcp(addr: SocketAddr) -> TcpStream {
    within("a TCP connection", STEP, TcpStream::connect(addr)).await.expect("the server accepts")
}

/// Ends a connection by a reset.
///
/// # Panics
/// When the system refuses the option.
pub fn reset(stream: TcpStream) {
    stream.set_zero_linger().expect("a socket lingers as it is told");
    drop(stream);
}

/// Reads until the peer ends the stream; a reset is an end too.
///
/// # Panics
/// When it does not end in time.
pub async fn read_to_end(stream: &mut TcpStream, what: &str, limit: Duration) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = within(what, limit, stream.read_to_end(&mut all)).await;
    all
}

/// Upgrades with these headers beside the usual ones.
///
/// # Errors
/// As the client library says, such as an HTTP answer that is no upgrade.
pub async fn upgrade(addr: SocketAddr, headers: &[(&str, &str)]) -> Result<(Socket, Response), Error> {
    upgrade_on(tcp(addr).await, addr, headers).await
}

/// The same on a connection that exists.
///
/// # Errors
/// As [`upgrade`].
///
/// # Panics
/// When the answer does not come in time, or a header is none.
pub async fn upgrade_on(
    stream: TcpStream,
    addr: SocketAddr,
    headers: &[(&str, &str)],
) -> Result<(Socket, Response), Error> {
    upgrade_at(stream, addr, "/ws", headers).await
}

/// The same with another target, such as one that has a query.
///
/// # Errors
/// As [`upgrade`].
///
/// # Panics
/// As [`upgrade_on`].
pub async fn upgrade_at(
    stream: TcpStream,
    addr: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
) -> Result<(Socket, Response), Error> {
    let mut request = format!("ws://{addr}{target}").into_client_request().expect("the address makes a request");
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        request.headers_mut().append(name, HeaderValue::from_str(value).expect("a header's value"));
    }
    within("the answer to an upgrade", STEP, client_async(request, stream)).await
}

/// The status of an upgrade that must be refused over HTTP.
///
/// # Panics
/// When it is accepted, or broken off without an answer.
pub async fn refused_status(addr: SocketAddr, headers: &[(&str, &str)]) -> u16 {
    match upgrade(addr, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("an HTTP refusal was awaited: {:?}", other.map(|(_, response)| response)),
    }
}

/// One client frame, whatever it is worth: first byte, payload, and the mask, without which it is illegal.
pub fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        short @ 0..=125 => out.push(masked | u8::try_from(short).unwrap_or(0)),
        medium @ 126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&u16::try_from(medium).unwrap_or(0).to_be_bytes());
        }
        long => {
            out.push(masked | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    out.extend(mask.into_iter().flatten());
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// A text frame as a client sends it.
pub fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes(), Some([0x5a, 0x01, 0xc3, 0x7e]))
}

/// The bytes of an upgrade request, by hand.
pub fn upgrade_bytes(addr: SocketAddr, token: &str) -> Vec<u8> {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: trunkline.v1, bearer.{token}\r\n\r\n"
    )
    .into_bytes()
}

/// How a device carries its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `Sec-WebSocket-Protocol: trunkline.v1, bearer.<JWT>`.
    Subprotocol,
    /// `Authorization: Bearer <JWT>`.
    Authorization,
    /// `hello.token`.
    Hello,
}

/// A device that is in. It verifies each frame it reads, and keeps the events.
#[derive(Debug)]
pub struct Device {
    /// The socket, for whoever wants to do worse to it than this type does.
    pub socket: Socket,
    /// The first frame.
    pub welcome: Value,
    /// Every event so far, in the order in which they came.
    pub events: Vec<Value>,
    /// Every other frame so far that nobody has taken.
    pub others: Vec<Value>,
    epoch: u64,
    seq: u64,
}

impl Device {
    /// A device that starts from now on.
    pub async fn open(addr: SocketAddr, token: &str) -> Self {
        Self::join(addr, token, Carrier::Subprotocol, json!({})).await
    }

    /// A device that continues after `event_id`.
    pub async fn resume(addr: SocketAddr, token: &str, event_id: &str) -> Self {
        Self::join(addr, token, Carrier::Subprotocol, json!({"resume": {"user": event_id}})).await
    }

    /// A device whose `hello` says more.
    pub async fn join(addr: SocketAddr, token: &str, carrier: Carrier, hello: Value) -> Self {
        Self::join_on(tcp(addr).await, addr, token, carrier, hello).await
    }

    /// The same on a connection that exists.
    ///
    /// # Panics
    /// When there is no welcome, or it makes no sense.
    pub async fn join_on(stream: TcpStream, addr: SocketAddr, token: &str, carrier: Carrier, mut hello: Value) -> Self {
        let offered = match carrier {
            Carrier::Subprotocol => format!("trunkline.v1, bearer.{token}"),
            Carrier::Authorization | Carrier::Hello => "trunkline.v1".to_owned(),
        };
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("sec-websocket-protocol", offered.as_str())];
        if carrier == Carrier::Authorization {
            headers.push(("authorization", &bearer));
        }
        let (socket, response) = upgrade_on(stream, addr, &headers).await.expect("the upgrade is accepted");
        let answer = format!("{:?}", response.headers());
        assert!(!answer.contains(token), "the answer names the token");
        assert_eq!(response.headers()["sec-websocket-protocol"], "trunkline.v1", "the answer's protocol");
        hello["type"] = "hello".into();
        if carrier == Carrier::Hello {
            hello["token"] = token.into();
        }
        let mut device = Self { socket, welcome: Value::Null, events: vec![], others: vec![], epoch: 0, seq: 0 };
        device.send(&hello).await;
        device.welcomed().await;
        device
    }

    async fn welcomed(&mut self) {
        let welcome = self.read().await;
        assert_eq!(welcome["type"], "welcome", "the first frame: {welcome}");
        let stream = &welcome["streams"][0];
        assert_eq!(stream["stream"], "user", "{welcome}");
        (self.epoch, self.seq) = position(&stream["event_id"]);
        self.welcome = welcome;
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a text message.
    ///
    /// # Panics
    /// When it does not leave in time.
    pub async fn send_text(&mut self, text: &str) {
        let sent = within("a message to leave", STEP, self.socket.send(Message::text(text))).await;
        sent.expect("the socket takes a message");
    }

    /// Sends bytes beside the client library.
    ///
    /// # Panics
    /// When they do not leave in time.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = within("bytes to leave", STEP, self.socket.get_mut().write_all(bytes)).await;
        sent.expect("the socket takes bytes");
    }

    /// The next frame, verified and filed.
    pub async fn frame(&mut self) -> Value {
        let frame = self.read().await;
        if !matches!(frame["stream"].as_str(), None | Some("user")) {
            // A topic's: its test looks for itself.
            self.others.push(frame.clone());
        } else if frame["type"] == "snapshot" {
            self.replace(&frame);
            self.others.push(frame.clone());
        } else if frame.get("event_id").is_some() {
            self.follow(&frame);
            self.events.push(frame.clone());
        } else {
            self.others.push(frame.clone());
        }
        frame
    }

    async fn read(&mut self) -> Value {
        loop {
            match within("a frame of the server", STEP, self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
                    assert!(frame["type"].is_string(), "a frame has a type: {frame}");
                    return frame;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a frame was awaited: {other:?}"),
            }
        }
    }

    /// An event continues where the last one ended: `event_id` is `<epoch>-<seq>`, and nothing is missing or twice.
    fn follow(&mut self, event: &Value) {
        let (epoch, seq) = position(&event["event_id"]);
        let prev = event["prev"].as_u64().unwrap_or(seq - 1);
        assert_eq!(event["seq"], seq, "{event}");
        assert_eq!((epoch, prev), (self.epoch, self.seq), "the event does not follow: {event}");
        self.seq = seq;
    }

    /// A snapshot stands for everything before it; the position moves once its last part is here.
    fn replace(&mut self, snapshot: &Value) {
        assert!(snapshot.to_string().len() <= 64 << 10, "a snapshot's frame is bounded");
        self.events.clear();
        if snapshot["part"] == snapshot["of"] {
            (self.epoch, self.seq) = position(&snapshot["event_id"]);
        }
    }

    /// Reads until a frame answers `wanted`, which is taken out of [`Device::others`].
    pub async fn other(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.others.iter().position(&wanted) {
                return self.others.remove(at);
            }
            self.frame().await;
        }
    }

    /// The answer to the request `id`.
    pub async fn reply(&mut self, id: &str) -> Value {
        self.other(|frame| frame["type"] == "reply" && frame["id"] == id).await
    }

    /// Reads until an event is `wanted`, and answers it.
    pub async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(event) = self.events.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            self.frame().await;
        }
    }

    /// Sends a message to the agent and answers the run's id.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn ask(&mut self, id: &str, content: &str) -> String {
        self.send(&json!({"type": "user_message", "id": id, "thread_id": "t-1", "content": content})).await;
        let reply = self.reply(id).await;
        assert_eq!(reply["ok"], true, "{reply}");
        reply["run_id"].as_str().expect("a reply names the run").to_owned()
    }

    /// Reads until the run has ended, and answers its events.
    pub async fn finish(&mut self, run_id: &str) -> Vec<Value> {
        let terminal = ["agent_completed", "agent_failed", "agent_cancelled"];
        self.event(|event| event["run_id"] == run_id && terminal.iter().any(|kind| event["type"] == *kind)).await;
        self.events.iter().filter(|event| concerns(event, run_id)).cloned().collect()
    }

    /// The golden path from the message to the last event.
    pub async fn golden_path(&mut self) -> Vec<Value> {
        let id = format!("q-{}", self.seq);
        let run_id = self.ask(&id, QUESTION).await;
        let events = self.finish(&run_id).await;
        check_golden(&events, self.welcome["user_id"].as_str().unwrap_or_default());
        events
    }

    /// Where it stands, to resume from.
    pub fn event_id(&self) -> String {
        format!("{}-{}", self.epoch, self.seq)
    }

    /// The connection answers, so everything sent before it was taken in and nothing else waits before the answer.
    pub async fn ping(&mut self, id: &str) {
        self.send(&json!({"type": "ping", "id": id})).await;
        self.other(|frame| frame["type"] == "pong" && frame["id"] == id).await;
    }

    /// Reads on to the server's close and answers its code; the socket ends after it.
    pub async fn closed(&mut self) -> u16 {
        closed(&mut self.socket).await
    }

    /// Breaks the connection off by a reset.
    pub fn reset(self) {
        reset(self.socket.into_inner());
    }
}

/// Reads on to the server's close and answers its code; the socket ends after it, and no second close comes.
///
/// # Panics
/// When the socket ends without a close, or does not end after it.
pub async fn closed(socket: &mut Socket) -> u16 {
    let code = loop {
        match within("a close frame", STEP, socket.next()).await {
            Some(Ok(Message::Close(Some(close)))) => break u16::from(close.code),
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("a close with a code was awaited: {other:?}"),
        }
    };
    match within("the socket's end after its close", STEP, socket.next()).await {
        None | Some(Err(_)) => code,
        Some(Ok(more)) => panic!("after the close came {more:?}"),
    }
}

/// `<epoch>-<seq>` in decimal, without leading zeros.
///
/// # Panics
/// When it is not.
pub fn position(event_id: &Value) -> (u64, u64) {
    let text = event_id.as_str().expect("an event_id is a string");
    let (epoch, seq) = text.split_once('-').expect("an event_id is <epoch>-<seq>");
    let (epoch, seq) = (epoch.parse().expect("an epoch"), seq.parse().expect("a seq"));
    assert_eq!(text, format!("{epoch}-{seq}"), "an event_id has one spelling");
    (epoch, seq)
}

/// The events of one run of the golden path: the message, the six kinds in legal order, and 14.
///
/// # Panics
/// When anything is missing or out of order.
pub fn check_golden(events: &[Value], user: &str) {
    let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let (head, rest) = kinds.split_at(kinds.len().min(5));
    assert_eq!(
        head,
        ["user_message", "agent_started", "agent_thinking", "tool_executing", "tool_completed"],
        "the run's order: {kinds:?}"
    );
    let (last, deltas) = rest.split_last().expect("the run has an end");
    assert_eq!(*last, "agent_completed", "{kinds:?}");
    assert!(!deltas.is_empty() && deltas.iter().all(|kind| *kind == "agent_delta"), "{kinds:?}");
    for pair in events.windows(2) {
        assert_eq!(pair[1]["seq"].as_u64(), pair[0]["seq"].as_u64().map(|seq| seq + 1), "{pair:?}");
    }
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["user_id"], user, "{event}");
        assert_eq!(event["thread_id"], "t-1", "{event}");
        assert!(event["timestamp"].as_f64().is_some_and(|seconds| seconds > 1.6e9), "{event}");
        assert!(index == 0 || event["agent_name"].is_string(), "{event}");
    }
    let numbers: Vec<_> = events.iter().filter_map(|event| event["run_seq"].as_u64()).collect();
    assert!(events[0]["run_seq"].is_null(), "the user's message is no event of the run: {}", events[0]);
    assert_eq!(numbers.len(), events.len() - 1, "{events:?}");
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "run_seq counts from 1: {numbers:?}");
    let (message, call, result) = (&events[0], &events[3], &events[4]);
    assert_eq!(message["content"], QUESTION);
    assert!(events[2]["thought"].is_string(), "{}", events[2]);
    assert!(call["tool_name"].is_string() && call["tool_call_id"].is_string(), "{call}");
    assert!(call["parameters"].to_string().contains("2*(3+4)"), "{call}");
    for field in ["tool_name", "tool_call_id"] {
        assert_eq!(result[field], call[field], "{result}");
    }
    assert_eq!(result["success"], true, "{result}");
    assert!(result["results"].to_string().contains("14"), "{result}");
    let text = text(events);
    assert!(text.contains("14"), "the answer is {text:?}");
    assert_eq!(events[events.len() - 1]["final_response"], text);
}

/// Whether an event, or a part of a merged window, is of this run.
fn concerns(event: &Value, run_id: &str) -> bool {
    let parts = event["parts"].as_array().into_iter().flatten();
    event["run_id"] == run_id || parts.into_iter().any(|part| part["run_id"] == run_id)
}

/// The streamed text of one run's events, put together by offsets in Unicode scalar values.
///
/// # Panics
/// When a piece leaves a gap.
pub fn text(events: &[Value]) -> String {
    text_after(String::new(), events)
}

/// The same where the beginning is known. What a piece repeats is the same text.
///
/// # Panics
/// When a piece leaves a gap, or repeats another text.
pub fn text_after(known: String, events: &[Value]) -> String {
    let mut letters: Vec<char> = known.chars().collect();
    for event in events {
        let merged = event["parts"].as_array().into_iter().flatten();
        let whole = (event["type"] == "agent_delta").then_some(event);
        for piece in merged.chain(whole) {
            let offset = usize::try_from(piece["offset"].as_u64().expect("an offset")).expect("a small offset");
            assert!(offset <= letters.len(), "a gap in the text: {} to {offset}", letters.len());
            let text = piece["text"].as_str().expect("a piece has a text");
            for (at, letter) in (offset..).zip(text.chars()) {
                match letters.get(at) {
                    Some(known) => assert_eq!(*known, letter, "what is repeated differs at {at}"),
                    None => letters.push(letter),
                }
            }
        }
    }
    letters.into_iter().collect()
}
