//! A back end over the wire that does what a test tells it to, right or wrong.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::server::scoped;
use crate::wire::{STEP, Socket, closed, reset, text_frame, upgrade, within};

/// A producer's connection.
#[derive(Debug)]
pub struct Producer {
    /// The socket, for whoever wants to do worse to it than this type does.
    pub socket: Socket,
    /// Every frame so far that nobody has taken.
    pub others: Vec<Value>,
    asked: u64,
}

impl Producer {
    /// The producer `id` of a token with the scope `publish`, that wants the requests of these users.
    ///
    /// # Panics
    /// When it gets no welcome.
    pub async fn come(addr: SocketAddr, id: &str, users: &[&str]) -> Self {
        let entry = format!("trunkline.v1, bearer.{}", scoped("agent", "publish"));
        let upgraded = upgrade(addr, &[("sec-websocket-protocol", &entry)]).await;
        let (socket, _) = upgraded.expect("the upgrade is accepted");
        let mut producer = Self { socket, others: vec![], asked: 0 };
        producer.send(&json!({"type": "hello", "producer": {"id": id, "users": users}})).await;
        let welcome = producer.frame().await;
        assert_eq!((&welcome["type"], &welcome["streams"]), (&json!("welcome"), &json!([])), "{welcome}");
        producer
    }

    /// Sends a frame; waits while the server reads more slowly.
    ///
    /// # Panics
    /// When it does not leave in time.
    pub async fn send(&mut self, frame: &Value) {
        let sent = within("a message to leave", STEP, self.socket.send(Message::text(frame.to_string()))).await;
        sent.expect("the socket takes a message");
    }

    /// Sends the first half of a frame.
    ///
    /// # Panics
    /// When it does not leave in time.
    pub async fn send_half(&mut self, frame: &Value) {
        let bytes = text_frame(&frame.to_string());
        let stream = self.socket.get_mut();
        let sent = async {
            stream.write_all(&bytes[..bytes.len() / 2]).await?;
            stream.flush().await
        };
        within("half a frame to leave", STEP, sent).await.expect("the socket takes bytes");
    }

    /// The next frame.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn frame(&mut self) -> Value {
        loop {
            match within("a frame of the server", STEP, self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("a frame is JSON"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a frame was awaited: {other:?}"),
            }
        }
    }

    /// Reads until a frame is `wanted`, and takes it.
    pub async fn other(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.others.iter().position(&wanted) {
                return self.others.remove(at);
            }
            let frame = self.frame().await;
            self.others.push(frame);
        }
    }

    /// The next request of this kind.
    pub async fn request(&mut self, kind: &str) -> Value {
        self.other(|frame| frame["type"] == "request" && frame["request"] == kind).await
    }

    /// Sends a frame with an `id` and answers its reply.
    pub async fn ask(&mut self, mut frame: Value) -> Value {
        self.asked += 1;
        let id = format!("p-{}", self.asked);
        frame["id"] = id.as_str().into();
        self.send(&frame).await;
        self.other(|frame| frame["type"] == "reply" && frame["id"] == id.as_str()).await
    }

    /// Starts the run that a request has reserved, or takes one over; answers the server's last `n` of it.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn start(&mut self, user: &str, run_id: &str, lease: u64) -> u64 {
        let reply = self.ask(start(user, run_id, lease)).await;
        assert_eq!((&reply["ok"], &reply["run_id"]), (&json!(true), &json!(run_id)), "{reply}");
        reply["last_n"].as_u64().expect("the last `n`")
    }

    /// The run that the next message asks for, started with this lease.
    ///
    /// # Panics
    /// When it is refused, or is not new.
    pub async fn accept(&mut self, lease: u64) -> String {
        let request = self.request("user_message").await;
        let run_id = request["run_id"].as_str().expect("a reserved run").to_owned();
        let last_n = self.start(request["user_id"].as_str().expect("a user"), &run_id, lease).await;
        assert_eq!(last_n, 0, "{request}");
        run_id
    }

    /// Sends an event that asks for no receipt.
    pub async fn event(&mut self, run_id: &str, n: u64, event: Value) {
        self.send(&run_event(run_id, n, event)).await;
    }

    /// Sends an event and waits for its receipt.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn receipt(&mut self, run_id: &str, n: u64, event: Value) {
        let reply = self.ask(run_event(run_id, n, event)).await;
        assert_eq!(reply["ok"], true, "{reply}");
    }

    /// Reads on to the server's close and answers its code.
    pub async fn closed(&mut self) -> u16 {
        closed(&mut self.socket).await
    }

    /// Breaks the connection off by a reset.
    pub fn reset(self) {
        reset(self.socket.into_inner());
    }
}

/// A `run_start` without its `id`.
pub fn start(user: &str, run_id: &str, lease: u64) -> Value {
    json!({"type": "run_start", "user_id": user, "thread_id": "t-1", "agent_name": "tester", "run_id": run_id, "lease": lease})
}

/// A `run_event`.
pub fn run_event(run_id: &str, n: u64, event: Value) -> Value {
    json!({"type": "run_event", "run_id": run_id, "n": n, "event": event})
}

/// A thought.
pub fn thinking(thought: &str) -> Value {
    json!({"type": "agent_thinking", "thought": thought})
}

/// The end of a run.
pub fn completed() -> Value {
    json!({"type": "agent_completed", "final_response": "done"})
}
