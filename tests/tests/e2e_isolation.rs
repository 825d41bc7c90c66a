//! Fifty users with five devices each, in two tenants under the same names, do what they like: nobody sees another's mark, and
//! nobody misses one of its own.
//!
//! Every payload holds a mark that names its user. A back end of each tenant answers what its users say by runs that hold
//! the marks again, asks for approvals under the same names, and is told to publish. The seed is printed, and taken from
//! `TRUNKLINE_SEED` where that is set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use trunkline_tests::http;
use trunkline_tests::server::{Program, of_tenant};
use trunkline_tests::wire::{Carrier, Device, STEP, Socket, closed, upgrade, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const TENANTS: [&str; 2] = ["acme", "rival"];
const USERS: usize = 25;
const DEVICES: usize = 5;
const TERMINAL: [&str; 3] = ["agent_completed", "agent_failed", "agent_cancelled"];

/// Runs of everybody: whoever is not their user is told that there are none.
type Runs = Arc<Mutex<Vec<(String, String)>>>;

/// The numbers of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// All marks of a text.
fn marks(text: &str) -> impl Iterator<Item = &str> {
    text.split("mark:").skip(1).map(|rest| rest.split_once(';').expect("a mark is whole").0)
}

/// What a back end is asked to publish, and where it says what became of it.
type Publishing = (Value, oneshot::Sender<bool>);

/// The back end of a tenant.
struct BackEnd {
    tenant: &'static str,
    socket: Socket,
    orders: mpsc::Receiver<Publishing>,
    waiting: BTreeMap<String, oneshot::Sender<bool>>,
    /// The marks of runs that wait for a person, and how far each is.
    asking: BTreeMap<String, (String, u64)>,
    sent: u64,
}

impl BackEnd {
    async fn come(addr: SocketAddr, tenant: &'static str) -> (Self, mpsc::Sender<Publishing>) {
        let entry = format!("trunkline.v1, bearer.{}", of_tenant(tenant, "agent", "publish"));
        let (mut socket, _) = upgrade(addr, &[("sec-websocket-protocol", &entry)]).await.expect("an upgrade");
        let hello = json!({"type": "hello", "producer": {"id": "agent"}});
        socket.send(Message::text(hello.to_string())).await.expect("the hello leaves");
        let (order, orders) = mpsc::channel(64);
        let mut back_end = Self { tenant, socket, orders, waiting: BTreeMap::new(), asking: BTreeMap::new(), sent: 0 };
        let welcome = within("a welcome", STEP, back_end.socket.next()).await;
        assert!(matches!(welcome, Some(Ok(Message::Text(text))) if back_end.look(&text)["type"] == "welcome"));
        (back_end, order)
    }

    fn look(&self, text: &str) -> Value {
        for mark in marks(text) {
            assert!(mark.starts_with(&format!("{}:", self.tenant)), "{} is asked {text}", self.tenant);
        }
        serde_json::from_str(text).expect("a frame is JSON")
    }

    async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("a frame leaves");
    }

    /// Answers until nobody can order any more.
    async fn attend(mut self) {
        loop {
            let frame = tokio::select! {
                order = self.orders.recv() => match order {
                    Some((mut frame, told)) => {
                        self.sent += 1;
                        let id = format!("p-{}", self.sent);
                        frame["id"] = id.as_str().into();
                        self.waiting.insert(id, told);
                        self.send(&frame).await;
                        continue;
                    }
                    None => return,
                },
                frame = self.socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.look(&text),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    other => panic!("the back end of {} ends: {other:?}", self.tenant),
                },
            };
            self.answer(&frame).await;
        }
    }

    async fn answer(&mut self, frame: &Value) {
        match (frame["type"].as_str(), frame["request"].as_str()) {
            (Some("reply"), _) => {
                if let Some(told) = self.waiting.remove(frame["id"].as_str().expect("an id")) {
                    let _ = told.send(frame["ok"] == true);
                }
            }
            (Some("request"), Some("user_message")) => self.begin(frame).await,
            (Some("request"), Some("approve")) => self.end(frame, "agent_completed").await,
            (Some("request"), Some("cancel_run")) => self.end(frame, "agent_cancelled").await,
            // Of a run that has ended meanwhile.
            (Some("error"), _) => assert!(frame["run_id"].is_string(), "{frame}"),
            _ => panic!("{frame}"),
        }
    }

    async fn begin(&mut self, request: &Value) {
        let (run, said) = (request["run_id"].as_str().expect("a run"), request["content"].as_str().expect("a text"));
        let start = json!({"type": "run_start", "id": run, "user_id": request["user_id"], "thread_id": request["thread_id"],
            "run_id": run, "agent_name": "agent", "message": said});
        self.send(&start).await;
        let (_, number) = said.trim_end_matches(';').rsplit_once(':').expect("a mark has a number");
        let number: u64 = number.parse().expect("a number");
        let mut events = vec![
            json!({"type": "agent_thinking", "thought": said}),
            json!({"type": "tool_executing", "tool_call_id": "call", "tool_name": "tool", "parameters": said}),
            json!({"type": "tool_completed", "tool_call_id": "call", "results": said}),
            json!({"type": "agent_delta", "part_id": "answer", "text": said}),
        ];
        if number.is_multiple_of(3) {
            // Under a name that others have, too.
            events.push(json!({"type": "agent_suspended", "approval_id": format!("ask-{number}"), "question": said}));
            self.asking.insert(run.to_owned(), (said.to_owned(), events.len() as u64 + 1));
        } else {
            events.push(json!({"type": "agent_completed", "final_response": said}));
        }
        for (n, event) in (1..).zip(events) {
            self.send(&json!({"type": "run_event", "run_id": run, "n": n, "event": event})).await;
        }
    }

    async fn end(&mut self, request: &Value, kind: &str) {
        let run = request["run_id"].as_str().expect("a run");
        let Some((said, n)) = self.asking.remove(run) else { return };
        let event = match kind {
            "agent_completed" => json!({"type": kind, "final_response": said}),
            _ => json!({"type": kind, "by": "user", "reason": said}),
        };
        self.send(&json!({"type": "run_event", "run_id": run, "n": n, "event": event})).await;
    }
}

/// A user with its devices, and the marks that each must see.
struct User {
    addr: SocketAddr,
    tenant: &'static str,
    name: String,
    devices: Vec<Device>,
    random: Random,
    orders: mpsc::Sender<Publishing>,
    runs: Runs,
    own: Vec<(String, u64)>,
    number: u64,
    expected: BTreeSet<String>,
    done: BTreeMap<&'static str, usize>,
}

impl User {
    fn token(&self) -> String {
        of_tenant(self.tenant, &self.name, "topic:news")
    }

    fn mark(&mut self) -> String {
        self.number += 1;
        format!("mark:{}:{}:{};", self.tenant, self.name, self.number)
    }

    /// Nothing in it is another's; topics have marks of their own tenant.
    fn look(&self, frame: &Value) {
        let (text, own) = (frame.to_string(), format!("{}:{}:", self.tenant, self.name));
        let topic = format!("{}:news:", self.tenant);
        for mark in marks(&text) {
            let expected = if frame["stream"] == "topic:news" { &topic } else { &own };
            assert!(mark.starts_with(expected.as_str()), "{}/{} is given {text}", self.tenant, self.name);
        }
        assert!(frame["user_id"].as_str().is_none_or(|user| user == self.name), "{} is given {text}", self.name);
        assert!(frame["type"] != "snapshot" && frame.get("lost").is_none(), "something is lost: {text}");
    }

    /// Looks at all that came beside the events, which are looked at in the end.
    fn sift(&mut self, device: usize) {
        let others = std::mem::take(&mut self.devices[device].others);
        others.iter().for_each(|frame| self.look(frame));
    }

    async fn reply(&mut self, device: usize, frame: Value) -> Value {
        self.devices[device].send(&frame).await;
        let reply = self.devices[device].reply(frame["id"].as_str().expect("an id")).await;
        self.look(&reply);
        self.sift(device);
        reply
    }

    async fn step(&mut self) {
        let device = self.random.below(DEVICES);
        let what = match self.random.below(20) {
            0..=6 => self.say(device).await,
            7..=8 => self.approve(device).await,
            9 => self.cancel(device).await,
            10..=12 => self.cut(device).await,
            13..=14 => self.publish().await,
            15 => self.publish_over_http().await,
            16 => self.refresh(device).await,
            17 => self.revoke(device).await,
            18 => self.guess(device).await,
            _ => self.publish_news().await,
        };
        *self.done.entry(what).or_default() += 1;
    }

    async fn say(&mut self, device: usize) -> &'static str {
        let (mark, number) = (self.mark(), self.number);
        let thread = format!("t-{}", self.random.below(3));
        let frame = json!({"type": "user_message", "id": format!("m-{number}"), "key": format!("k-{number}"),
            "thread_id": thread, "content": mark});
        let reply = self.reply(device, frame).await;
        assert_eq!(reply["ok"], true, "{reply}");
        let run = reply["run_id"].as_str().expect("a run").to_owned();
        self.runs.lock().expect("nobody panics").push((format!("{}/{}", self.tenant, self.name), run.clone()));
        self.own.push((run, number));
        self.expected.insert(format!("said {mark}"));
        self.expected.insert(format!("ended {mark}"));
        "say"
    }

    async fn approve(&mut self, device: usize) -> &'static str {
        let Some((_, number)) = self.some_run(|number| number.is_multiple_of(3)) else { return "nothing" };
        let frame = json!({"type": "approve", "id": format!("a-{number}"), "approval_id": format!("ask-{number}"),
            "decision": "allow"});
        let reply = self.reply(device, frame).await;
        let known = ["already_decided", "not_found"].iter().any(|code| reply["error"]["code"] == *code);
        assert!(reply["ok"] == true || known, "{reply}");
        "approve"
    }

    async fn cancel(&mut self, device: usize) -> &'static str {
        let Some((run, number)) = self.some_run(|_| true) else { return "nothing" };
        let frame = json!({"type": "cancel_run", "id": format!("c-{number}"), "run_id": run});
        let reply = self.reply(device, frame).await;
        assert!(reply["ok"] == true || reply["error"]["code"] == "not_found", "{reply}");
        "cancel"
    }

    fn some_run(&mut self, wanted: impl Fn(u64) -> bool) -> Option<(String, u64)> {
        let recent: Vec<_> = self.own.iter().rev().filter(|(_, number)| wanted(*number)).take(8).cloned().collect();
        (!recent.is_empty()).then(|| recent[self.random.below(recent.len())].clone())
    }

    async fn cut(&mut self, device: usize) -> &'static str {
        let continues = self.random.below(2) == 0;
        self.come_back(device, continues).await;
        "cut"
    }

    /// Whatever the socket still had comes again.
    async fn come_back(&mut self, device: usize, continues: bool) {
        self.sift(device);
        let carriers = [Carrier::Subprotocol, Carrier::Authorization, Carrier::Hello];
        let carrier = carriers[self.random.below(carriers.len())];
        let mut hello = json!({"resume": {"user": self.devices[device].event_id()}, "topics": ["news"]});
        if continues {
            hello["session_id"] = self.devices[device].welcome["session_id"].clone();
        }
        let back = Device::join(self.addr, &self.token(), carrier, hello).await;
        let mut old = std::mem::replace(&mut self.devices[device], back);
        self.devices[device].events = std::mem::take(&mut old.events);
        // The old one ends in either way.
        if self.random.below(2) == 0 {
            old.reset()
        } else {
            drop(old)
        }
        let welcome = self.devices[device].welcome.clone();
        assert_eq!(welcome["user_id"], self.name.as_str(), "{welcome}");
        assert!(welcome["streams"][0].get("lost").is_none(), "{welcome}");
    }

    async fn publish(&mut self) -> &'static str {
        let mark = self.mark();
        let (told, tells) = oneshot::channel();
        let frame = json!({"type": "publish", "user_id": self.name, "name": "note", "data": mark});
        self.orders.send((frame, told)).await.expect("the back end is there");
        assert!(within("a receipt", STEP, tells).await.expect("the back end answers"), "the publication is taken");
        self.expected.insert(format!("note {mark}"));
        "publish"
    }

    async fn publish_over_http(&mut self) -> &'static str {
        let mark = self.mark();
        let body = json!({"user_id": self.name, "name": "note", "data": mark});
        let response = self.post("/v1/publish", "publish", &body).await;
        assert_eq!(response.status, 200, "{}", response.body);
        self.expected.insert(format!("note {mark}"));
        "publish over HTTP"
    }

    async fn publish_news(&mut self) -> &'static str {
        let mark = self.mark().replace(&format!(":{}:", self.name), &format!(":news:{}-", self.name));
        let response =
            self.post("/v1/publish", "publish", &json!({"topic": "news", "name": "note", "data": mark})).await;
        assert_eq!(response.status, 200, "{}", response.body);
        "publish news"
    }

    async fn post(&self, path: &str, scope: &str, body: &Value) -> http::Response {
        let bearer = format!("Bearer {}", of_tenant(self.tenant, "root", scope));
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let response = http::request(self.addr, &format!("POST {path}"), &headers, body.to_string().as_bytes()).await;
        self.look(&response.body);
        response
    }

    async fn refresh(&mut self, device: usize) -> &'static str {
        let reply = self.reply(device, json!({"type": "refresh", "id": "r", "token": self.token()})).await;
        assert_eq!(reply["ok"], true, "{reply}");
        "refresh"
    }

    async fn revoke(&mut self, device: usize) -> &'static str {
        let session = self.devices[device].welcome["session_id"].clone();
        let response = self.post("/v1/revoke", "admin", &json!({"user_id": self.name, "session_id": session})).await;
        assert_eq!(response.status, 200, "{}", response.body);
        assert_eq!(closed(&mut self.devices[device].socket).await, 4201);
        self.come_back(device, false).await;
        "revoke"
    }

    /// The runs of others are as if they did not exist.
    async fn guess(&mut self, device: usize) -> &'static str {
        let me = format!("{}/{}", self.tenant, self.name);
        let foreign = {
            let runs = self.runs.lock().expect("nobody panics");
            let others: Vec<_> = runs.iter().rev().filter(|(user, _)| *user != me).take(50).cloned().collect();
            if others.is_empty() { None } else { Some(others[self.random.below(others.len())].1.clone()) }
        };
        let Some(run) = foreign else { return "nothing" };
        let reply = self.reply(device, json!({"type": "cancel_run", "id": "g", "run_id": run})).await;
        assert_eq!(reply["error"]["code"], "not_found", "{reply}");
        "guess"
    }

    /// Ends what is open, and compares what each device has seen with what there was.
    async fn finish(mut self) -> BTreeMap<&'static str, usize> {
        for (run, number) in self.own.clone() {
            let frame = json!({"type": "cancel_run", "id": format!("e-{number}"), "run_id": run});
            self.reply(0, frame).await;
            // Below the rate of one connection.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        for device in 0..DEVICES {
            self.come_back(device, true).await;
            let start = Instant::now();
            while seen(&self.devices[device].events).1 != self.expected {
                assert!(start.elapsed() < STEP * 2, "{}", self.missing(device));
                self.devices[device].ping("more").await;
                self.sift(device);
                // Below the rate of one connection.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let (twice, _) = seen(&self.devices[device].events);
            assert_eq!(twice, 0, "a mark came twice: {}", self.missing(device));
            self.devices[device].events.iter().for_each(|event| self.look(event));
        }
        self.done
    }

    fn missing(&self, device: usize) -> String {
        let (twice, seen) = seen(&self.devices[device].events);
        let missing: Vec<_> = self.expected.difference(&seen).collect();
        let more: Vec<_> = seen.difference(&self.expected).collect();
        format!("{}/{} misses {missing:?} and has {more:?}, {twice} twice", self.tenant, self.name)
    }
}

/// How many marks came more than once, and all of them, by what they were said in. Streamed text may repeat itself.
fn seen(events: &[Value]) -> (usize, BTreeSet<String>) {
    let (mut twice, mut seen) = (0, BTreeSet::new());
    for event in events {
        let kind = match event["type"].as_str().unwrap_or_default() {
            "user_message" => "said",
            "custom" => "note",
            end if TERMINAL.contains(&end) => "ended",
            _ => continue,
        };
        for mark in marks(&event.to_string()) {
            twice += usize::from(!seen.insert(format!("{kind} mark:{mark};")));
        }
    }
    (twice, seen)
}

async fn user(
    addr: SocketAddr,
    tenant: &'static str,
    index: usize,
    seed: u64,
    orders: mpsc::Sender<Publishing>,
    runs: Runs,
    until: Instant,
) -> BTreeMap<&'static str, usize> {
    let name = format!("u{index}");
    let seed = seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ tenant.len() as u64;
    let mut user = User {
        addr,
        tenant,
        name,
        devices: vec![],
        random: Random(seed),
        orders,
        runs,
        own: vec![],
        number: 0,
        expected: BTreeSet::new(),
        done: BTreeMap::new(),
    };
    for _ in 0..DEVICES {
        let hello = json!({"topics": ["news"]});
        user.devices.push(Device::join(addr, &user.token(), Carrier::Subprotocol, hello).await);
    }
    while Instant::now() < until {
        user.step().await;
        tokio::time::sleep(Duration::from_millis(20 + user.random.below(160) as u64)).await;
    }
    user.finish().await
}

async fn everybody(period: Duration) {
    let allowed = rlimit::increase_nofile_limit(2_000).unwrap_or(0);
    assert!(allowed >= 2_000, "this needs 2,000 open files: raise the hard limit (`ulimit -Hn`)");
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("a calendar after 1970");
    let given = std::env::var("TRUNKLINE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or(since.as_secs());
    println!("TRUNKLINE_SEED={seed}");
    let program = Program::with(SCRATCH, &[("TRUNKLINE_AGENT", "false"), ("TRUNKLINE_LIMITS_RUNS_PER_USER", "1000")]);
    let (runs, until) = (Runs::default(), Instant::now() + period);
    let (mut users, mut back_ends) = (JoinSet::new(), JoinSet::new());
    for tenant in TENANTS {
        let (back_end, orders) = BackEnd::come(program.addr, tenant).await;
        back_ends.spawn(back_end.attend());
        for index in 0..USERS {
            users.spawn(user(program.addr, tenant, index, seed, orders.clone(), Arc::clone(&runs), until));
        }
    }
    let mut done = BTreeMap::<&str, usize>::new();
    let all = within("everybody to finish", period + Duration::from_secs(240), users.join_all()).await;
    all.into_iter().flatten().for_each(|(what, count)| *done.entry(what).or_default() += count);
    back_ends.join_all().await;
    println!("{done:?}");
    for what in [
        "say",
        "approve",
        "cancel",
        "cut",
        "publish",
        "publish over HTTP",
        "publish news",
        "refresh",
        "revoke",
        "guess",
    ] {
        assert!(done.get(what).is_some_and(|count| *count > 0), "nobody did {what}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_users_with_five_devices_see_all_of_their_own_and_nothing_of_others() {
    everybody(Duration::from_secs(6)).await;
}

/// `.ci/run` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes"]
async fn fifty_users_with_five_devices_see_all_of_their_own_and_nothing_of_others_for_two_minutes() {
    everybody(Duration::from_secs(120)).await;
}
