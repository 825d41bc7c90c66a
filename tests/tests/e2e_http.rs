//! The operations over HTTP, as the program answers them and as its OpenAPI document says it does.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use trunkline_core::protocol::{ClientFrame, MAX_EVENTS, OrderPolicy, RunStart, WhenLeft};
use trunkline_tests::contract::Contract;
use trunkline_tests::http::{Response, request};
use trunkline_tests::issuer::{KeyServer, Signer};
use trunkline_tests::server::{Program, SECRET, revocable, scoped, shell, signed, token};
use trunkline_tests::wire::{Device, STEP, Socket, upgrade, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const PUBLISH: &str = "/v1/publish";
const RUNS: &str = "/v1/runs";
const EVENTS: &str = "/v1/runs/{run_id}/events";
const REVOKE: &str = "/v1/revoke";
const TICKETS: &str = "/v1/tickets";
const USER: &str = "/v1/users/{user_id}";
const LEVEL: &str = "/v1/service-level";
const METRICS: &str = "/metrics";
const READY: &str = "/readyz";
/// What needs no token.
const OPEN: [&str; 3] = ["/openapi.json", "/healthz", READY];
const NOBODYS: &str = "run_00000000000000000000000000000000";

/// The program, a token that may do everything, and the document that it serves.
struct Api {
    program: Program,
    token: String,
    contract: Contract,
}

impl Api {
    async fn start() -> Self {
        let variables = [
            ("TRUNKLINE_LIMITS_RUNS_PER_USER", "2"),
            ("TRUNKLINE_LIMITS_CLOSE_DEADLINE", "3s"),
            ("TRUNKLINE_TICKETS", "true"),
            ("TRUNKLINE_OPEN_METRICS", "false"),
            ("TRUNKLINE_LIMITS_TICKETS_PER_USER", "1"),
        ];
        let program = Program::with(SCRATCH, &variables);
        let response = request(program.addr, "GET /openapi.json", &[], b"").await;
        let mut contract = Contract::new(response.body.clone());
        contract.check("GET", "/openapi.json", &response);
        Self { program, token: scoped("agent", "publish admin"), contract }
    }

    /// A request as it should be, whatever is answered; the answer is held to the document.
    async fn ask(&mut self, method: &str, path: &str, at: &str, body: &[u8]) -> Response {
        let bearer = format!("Bearer {}", self.token);
        self.send(method, path, at, &[("Authorization", &bearer), ("Content-Type", "application/json")], body).await
    }

    async fn send(&mut self, method: &str, path: &str, at: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let target = path.replace("{run_id}", at).replace("{user_id}", at);
        let response = request(self.program.addr, &format!("{method} {target}"), headers, body).await;
        self.contract.check(method, path, &response);
        response
    }

    /// A body that the document allows where it is taken, and not where a field is wrong.
    async fn post(&mut self, path: &str, at: &str, body: Value, status: u16) -> Value {
        let response = self.ask("POST", path, at, body.to_string().as_bytes()).await;
        assert_eq!(response.status, status, "{path} {body}: {}", response.body);
        if status == 200 {
            assert!(self.contract.allows("POST", path, &body), "the document refuses {body}");
        }
        if response.body["error"]["code"] == "invalid" {
            assert!(!self.contract.allows("POST", path, &body), "the document allows {body}");
        }
        response.body
    }

    async fn start_run(&mut self, user: &str, status: u16) -> String {
        let body = json!({"user_id": user, "thread_id": "t", "agent_name": "a"});
        let answer = self.post(RUNS, "", body, status).await;
        answer["run_id"].as_str().unwrap_or_default().to_owned()
    }
}

fn thinking(n: u64) -> Value {
    json!({"n": n, "event": {"type": "agent_thinking", "thought": "hm"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_status_code_and_field_of_the_document_is_real_and_no_other() {
    let mut api = Api::start().await;
    assert!(api.contract.references() > 50, "the document refers to its parts");
    what_every_operation_refuses(&mut api).await;
    runs_and_their_events(&mut api).await;
    publishing_and_revoking(&mut api).await;
    users(&mut api).await;
    tickets(&mut api).await;
    levels(&mut api).await;
    what_probes_and_scrapers_ask(&mut api).await;
    other_methods(&mut api).await;
    a_key_that_is_not_known_yet(&mut api).await;
    draining(&mut api).await;
    assert_eq!(api.contract.unseen(), Vec::<String>::new(), "in the document, and in no answer");
}

/// It takes `curl`, as the README does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_lines_for_curl_work_as_they_stand() {
    let readme = include_str!("../../README.md");
    let section = readme.split_once("## From a back end that only has curl").expect("the section").1;
    let lines = section.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```")).expect("the lines").0;
    let program = Program::start(SCRATCH);
    let mut ann = Device::open(program.addr, &token("ann")).await;
    let printed = shell(SCRATCH, program.addr, lines).await;
    let answers: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let delivered = json!({"delivered_to": 1});
    assert_eq!(answers[..3], [delivered.clone(), delivered.clone(), delivered]);
    assert_eq!(answers[3]["connections"][0]["connection_id"], ann.welcome["connection_id"]);
    assert_eq!(answers[4..], [json!({"closed": 0}), json!({"closed": 1})]);
    ann.event(|event| event["type"] == "agent_completed").await;
    let kinds: Vec<_> = ann.events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["custom", "agent_started", "agent_thinking", "agent_delta", "agent_completed"]);
}

async fn what_every_operation_refuses(api: &mut Api) {
    let json_type = ("Content-Type", "application/json");
    let bearer = |token: &str| format!("Bearer {token}");
    let (none, expired) = (bearer(&token("agent")), bearer(&signed(SECRET, "agent", Duration::from_secs(7200))));
    let revoked = bearer(&revocable("agent", "publish admin", "jti-1"));
    api.post(REVOKE, "", json!({"user_id": "agent", "token_id": "jti-1"}), 200).await;
    for (method, path) in api.contract.operations() {
        if OPEN.contains(&&*path) {
            continue;
        }
        for (headers, code) in [
            (vec![json_type], "bad_credentials"),
            (vec![json_type, ("Authorization", "Bearer a.b.c")], "bad_credentials"),
            (vec![json_type, ("Authorization", &expired)], "token_expired"),
            (vec![json_type, ("Authorization", &revoked)], "token_revoked"),
            (vec![json_type, ("Authorization", &none)], "not_found"),
        ] {
            // Whoever has a token may have a ticket.
            if path == TICKETS && code == "not_found" {
                continue;
            }
            let answer = api.send(&method, &path, NOBODYS, &headers, b"{}").await;
            assert_eq!(answer.body["error"]["code"], code, "{method} {path}");
        }
        if method != "GET" && path != TICKETS {
            let good = bearer(&api.token);
            let untyped = api.send(&method, &path, NOBODYS, &[("Authorization", &good)], b"{}").await;
            assert_eq!(untyped.status, 415);
            for (body, status) in [(&b"{"[..], 400), (b"{}", 400), (&[b' '; (1 << 20) + 1], 413)] {
                assert_eq!(api.ask(&method, &path, NOBODYS, body).await.status, status, "{method} {path}");
            }
        }
    }
}

async fn runs_and_their_events(api: &mut Api) {
    let run = api.start_run("eve", 200).await;
    assert_eq!(api.post(EVENTS, &run, thinking(1), 200).await, json!({"stored": true}));
    let list = |range: std::ops::Range<u64>| json!({"events": range.map(thinking).collect::<Vec<_>>()});
    api.post(EVENTS, &run, list(2..2 + MAX_EVENTS as u64), 200).await;
    api.post(EVENTS, &run, list(0..0), 400).await;
    api.post(EVENTS, &run, list(0..MAX_EVENTS as u64 + 1), 400).await;
    let n = 2 + MAX_EVENTS as u64;
    let gap = api.post(EVENTS, &run, json!({"events": [thinking(n), thinking(n + 2)]}), 409).await;
    assert_eq!((&gap["error"]["code"], &gap["n"]), (&json!("run_order"), &json!(n + 2)));
    let large = json!({"n": n + 1, "event": {"type": "agent_thinking", "thought": "x".repeat(100_000)}});
    assert_eq!(api.post(EVENTS, &run, large, 413).await["n"], n + 1);
    assert_eq!(api.post(EVENTS, NOBODYS, thinking(1), 404).await["run_id"], NOBODYS);
    api.start_run("eve", 200).await;
    api.start_run("eve", 429).await;
    let end = json!({"n": n + 2, "event": {"type": "agent_completed"}});
    api.post(EVENTS, &run, end, 200).await;
    assert_eq!(api.post(EVENTS, &run, thinking(n + 3), 409).await["error"]["code"], "run_ended");

    let (_producer, held) = producer(api, "bob").await;
    let taken = api.post(EVENTS, &held, thinking(1), 409).await;
    assert_eq!(taken["error"]["code"], "run_taken");
    let wanted = json!({"user_id": "bob", "thread_id": "t", "agent_name": "a", "run_id": held});
    assert_eq!(api.post(RUNS, "", wanted, 409).await["error"]["code"], "run_taken");
}

/// A producer over the wire and a run that it holds.
async fn producer(api: &Api, user: &str) -> (Socket, String) {
    let entry = format!("trunkline.v1, bearer.{}", api.token);
    let (mut socket, _) =
        upgrade(api.program.addr, &[("sec-websocket-protocol", &entry)]).await.expect("the upgrade is accepted");
    let start = json!({"type": "run_start", "id": "1", "user_id": user, "thread_id": "t", "agent_name": "a"});
    for frame in [json!({"type": "hello", "producer": {"id": "p"}}), start] {
        socket.send(Message::text(frame.to_string())).await.expect("the socket takes a message");
    }
    let run = loop {
        let message =
            within("a frame of the server", STEP, socket.next()).await.expect("a message").expect("a message");
        let frame: Value = serde_json::from_str(message.to_text().expect("text")).unwrap_or_default();
        if frame["type"] == "reply" {
            break frame["run_id"].as_str().unwrap_or_else(|| panic!("{frame}")).to_owned();
        }
    };
    (socket, run)
}

async fn publishing_and_revoking(api: &mut Api) {
    let event = |more: Value| {
        let mut event = json!({"name": "x", "data": {"any": [1, null]}});
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    };
    api.post(PUBLISH, "", event(json!({"user_id": "ann"})), 200).await;
    api.post(PUBLISH, "", event(json!({"topic": "news", "ephemeral": true})), 200).await;
    api.post(PUBLISH, "", event(json!({"user_id": "ann", "topic": "news"})), 400).await;
    api.post(PUBLISH, "", event(json!({"user_id": "ann", "data": "x".repeat(100_000)})), 413).await;
    api.post(REVOKE, "", json!({"user_id": "ann", "session_id": "sess_x"}), 400).await;
}

async fn users(api: &mut Api) {
    let mut ann = Device::open(api.program.addr, &token("ann")).await;
    let run = api.start_run("ann", 200).await;
    assert_eq!(api.post(EVENTS, &run, thinking(1), 200).await, json!({"delivered_to": 1}));
    ann.event(|event| event["type"] == "agent_thinking").await;
    ann.send(&json!({"type": "ack", "event_id": ann.event_id()})).await;
    ann.send(&json!({"type": "cancel_run", "id": "c", "run_id": run})).await;
    assert_eq!(ann.reply("c").await["state"], "requested");
    let shown = api.ask("GET", USER, "ann", b"").await.body;
    assert_eq!((&shown["connections"][0]["acked"], &shown["head"]), (&json!(ann.event_id()), &json!(ann.event_id())));
    assert_eq!(shown["connections"][0]["connection_id"], ann.welcome["connection_id"]);
    assert_eq!((&shown["runs"][0]["run_id"], &shown["runs"][0]["cancel_requested_by"]), (&json!(run), &json!("ann")));
    assert_eq!(api.ask("GET", USER, "%ff", b"").await.status, 400);
    assert_eq!(api.ask("GET", USER, "gr%C3%BC%C3%9Fe", b"").await.body["user_id"], "grüße");
}

async fn tickets(api: &mut Api) {
    let issued = api.ask("POST", TICKETS, "", b"").await;
    assert_eq!((issued.status, issued.headers["cache-control"].as_str()), (200, "no-store"));
    let more = api.ask("POST", TICKETS, "", b"").await;
    assert_eq!((more.status, &more.body["error"]["code"]), (429, &json!("busy")));
    // Nothing but the header lets anybody in: neither a cookie, whoever sends it, nor the ticket itself.
    let cookie = format!("token={}", api.token);
    let ticket = issued.body["ticket"].as_str().expect("a ticket");
    for path in [TICKETS.to_owned(), format!("{TICKETS}?ticket={ticket}"), format!("{TICKETS}?token={}", api.token)] {
        let headers = [("Cookie", cookie.as_str()), ("Origin", "http://localhost")];
        let refused = request(api.program.addr, &format!("POST {path}"), &headers, b"").await;
        assert_eq!(refused.status, 401, "{path}");
        api.contract.check_error(&refused);
        assert!(!refused.headers.keys().any(|name| name.starts_with("access-control")), "no page is let in");
    }
    let off = Program::start(SCRATCH);
    let bearer = format!("Bearer {}", api.token);
    let none = request(off.addr, &format!("POST {TICKETS}"), &[("Authorization", &bearer)], b"").await;
    assert_eq!(none.status, 404);
    api.contract.check("POST", TICKETS, &none);
}

async fn levels(api: &mut Api) {
    let shown = api.ask("GET", LEVEL, "", b"").await.body;
    assert_eq!((&shown["level"], shown.get("ordered")), (&json!("normal"), None));
    let emergency = json!({"level": "emergency", "reason": "a move"});
    for (body, level, ordered) in [
        (emergency.clone(), "emergency", json!("emergency")),
        (json!({"level": "normal"}), "normal", json!("normal")),
        (json!({"level": "automatic"}), "normal", Value::Null),
    ] {
        let answer = api.ask("PUT", LEVEL, "", body.to_string().as_bytes()).await;
        assert_eq!((answer.status, &answer.body["level"], &answer.body["ordered"]), (200, &json!(level), &ordered));
        assert_eq!(api.ask("GET", LEVEL, "", b"").await.body, answer.body);
    }
    assert!(api.contract.allows("PUT", LEVEL, &emergency));
    for wrong in [json!({"level": "great"}), json!({"level": null}), json!({"level": "normal", "reason": 1})] {
        assert_eq!(api.ask("PUT", LEVEL, "", wrong.to_string().as_bytes()).await.status, 400, "{wrong}");
        assert!(!api.contract.allows("PUT", LEVEL, &wrong), "the document allows {wrong}");
    }
}

async fn what_probes_and_scrapers_ask(api: &mut Api) {
    for path in ["/healthz", READY] {
        let health = api.send("GET", path, "", &[], b"").await;
        assert_eq!((health.status, &health.body["status"]), (200, &json!("pass")));
    }
    let metrics = api.ask("GET", METRICS, "", b"").await;
    assert!(metrics.body.as_str().is_some_and(|text| text.contains("\ntrunkline_draining 0\n")), "{}", metrics.body);
}

async fn other_methods(api: &mut Api) {
    let documented = api.contract.operations();
    for path in documented.iter().map(|(_, path)| path.clone()).collect::<BTreeSet<_>>() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            if documented.contains(&(method.to_owned(), path.clone())) {
                continue;
            }
            let bearer = format!("Bearer {}", api.token);
            let line = format!("{method} {path}").replace(['{', '}'], "");
            let answer = request(api.program.addr, &line, &[("Authorization", &bearer)], b"").await;
            assert_eq!(answer.status, 405, "{line}");
            api.contract.check_error(&answer);
            let reads = documented.contains(&("GET".to_owned(), path.clone()));
            let sets = documented.contains(&("PUT".to_owned(), path.clone()));
            let allowed = if sets {
                "GET, HEAD, PUT"
            } else if reads {
                "GET, HEAD"
            } else {
                "POST"
            };
            assert_eq!(answer.headers["allow"], allowed, "{line}");
        }
    }
}

/// By a program whose keys come from elsewhere: nobody can tell yet whether the token holds.
async fn a_key_that_is_not_known_yet(api: &mut Api) {
    let (known, later) = (Signer::ed25519("known"), Signer::ed25519("later"));
    let keys = KeyServer::start(&[&known]).await;
    let authority = Path::new(SCRATCH).join(format!("http-{}-ca.pem", std::process::id()));
    std::fs::write(&authority, &keys.authority).expect("a file");
    let variables = [
        ("TRUNKLINE_JWKS_URL", &*keys.url()),
        ("TRUNKLINE_JWKS_CA_FILE", authority.to_str().expect("a path in UTF-8")),
        ("TRUNKLINE_JWKS_COOLDOWN", "30s"),
        ("TRUNKLINE_TICKETS", "true"),
        ("TRUNKLINE_OPEN_METRICS", "false"),
    ];
    let own = std::mem::replace(&mut api.program, Program::with(SCRATCH, &variables));
    let bearer = format!("Bearer {}", later.token("agent"));
    for (method, path) in api.contract.operations() {
        if !OPEN.contains(&&*path) {
            let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
            let answer = api.send(&method, &path, NOBODYS, &headers, b"{}").await;
            assert_eq!(answer.body["error"]["code"], "unavailable", "{method} {path}");
        }
    }
    api.program = own;
}

async fn draining(api: &mut Api) {
    // It never answers the close, so the drain lasts for its deadline.
    let _stubborn = Device::open(api.program.addr, &token("zoe")).await;
    api.program.signal("-TERM");
    let start = json!({"user_id": "zoe", "thread_id": "t", "agent_name": "a"}).to_string();
    let until = std::time::Instant::now() + STEP;
    loop {
        let answer = api.ask("POST", RUNS, "", start.as_bytes()).await;
        if answer.status == 503 {
            assert_eq!(answer.body["error"]["code"], "draining");
            let health = api.send("GET", READY, "", &[], b"").await;
            assert_eq!((health.status, &health.body["status"]), (503, &json!("fail")));
            return assert_eq!(api.ask("POST", TICKETS, "", b"").await.status, 503);
        }
        assert!(std::time::Instant::now() < until, "the program drains: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A frame as a body: without `type` and `id`.
fn body_of(frame: &ClientFrame) -> Value {
    let mut body: Value = serde_json::from_str(&frame.encode()).expect("a frame is JSON");
    let fields = body.as_object_mut().expect("a frame is an object");
    fields.remove("type");
    fields.remove("id");
    body
}

/// Bodies that have every field the program knows, as the protocol's own types write them.
fn full_bodies() -> Vec<(&'static str, Vec<Value>)> {
    let id = || "1".parse().expect("an id");
    let run = || NOBODYS.parse().expect("a run's id");
    let start = RunStart {
        id: id(),
        user_id: "ann".into(),
        thread_id: "t".parse().expect("a thread's id"),
        run_id: Some(run()),
        parent_run_id: Some(run()),
        agent_name: "a".into(),
        message: Some("m".into()),
        key: Some("k".parse().expect("a key")),
        lease: Some(30.0),
        order: Some(OrderPolicy::Reject),
        on_disconnect: Some(WhenLeft::Cancel),
        grace: Some(1.0),
    };
    let parsed = |text: String| body_of(&ClientFrame::parse(&text).unwrap_or_else(|error| panic!("{error}")).frame);
    let publish = |target: Value| {
        let mut frame =
            json!({"type": "publish", "name": "x", "data": 1, "key": "k", "ephemeral": false, "thread_id": "t"});
        frame.as_object_mut().expect("an object").extend(target.as_object().expect("an object").clone());
        parsed(frame.to_string())
    };
    let revoke = |target: &str, value: Value| {
        let frame = json!({"type": "revoke", "id": "1", "user_id": "ann", target: value, "expires": 1_784_134_800});
        parsed(frame.to_string())
    };
    vec![
        (RUNS, vec![body_of(&ClientFrame::RunStart(Box::new(start)))]),
        (PUBLISH, vec![publish(json!({"user_id": "ann"})), publish(json!({"topic": "news"}))]),
        (
            REVOKE,
            vec![
                revoke("token_id", "jti".into()),
                revoke("session_id", "sess_00000000000000000000000000000000".into()),
                revoke("all", true.into()),
            ],
        ),
    ]
}

/// Events of every type with every field.
fn full_events() -> Vec<Value> {
    let events = [
        json!({"type": "agent_thinking", "thought": "x", "step": 1, "progress": 0.5}),
        json!({"type": "tool_executing", "tool_call_id": "c", "tool_name": "x", "parameters": 1}),
        json!({"type": "tool_completed", "tool_call_id": "c", "results": 1, "success": true, "error": "x"}),
        json!({"type": "agent_delta", "part_id": "p", "offset": 0, "text": "x"}),
        json!({"type": "agent_suspended", "approval_id": "a", "question": "x"}),
        json!({"type": "agent_resumed", "approval_id": "a", "decision": "x"}),
        json!({"type": "agent_completed", "final_response": "x", "result": 1}),
        json!({"type": "agent_failed", "reason": "other", "error": "x"}),
        json!({"type": "agent_cancelled", "by": "x", "reason": "x"}),
    ];
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    let known: BTreeSet<_> = trunkline_core::protocol::RunEvent::TYPES.iter().copied().collect();
    assert_eq!(types.iter().copied().collect::<BTreeSet<_>>(), known, "every type has its event");
    let written = |event: &Value| {
        let frame = json!({"type": "run_event", "run_id": NOBODYS, "n": 1, "event": event}).to_string();
        body_of(&ClientFrame::parse(&frame).unwrap_or_else(|error| panic!("{error}")).frame)["event"].clone()
    };
    events.iter().map(written).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fields_of_requests_are_the_documents_and_each_is_read() {
    let mut api = Api::start().await;
    for (path, bodies) in full_bodies() {
        let schema = api.contract.request_schema("POST", path).expect("a schema").clone();
        let schema = api.contract.resolve(&schema).clone();
        let known: BTreeSet<_> = bodies.iter().flat_map(keys).collect();
        assert_eq!(keys(&schema["properties"]), known, "{path}");
        for body in &bodies {
            each_field_is_read(&mut api, path, body, &schema, &|body| body).await;
        }
    }
    for event in full_events() {
        let kind = event["type"].as_str().unwrap_or_default();
        let reference = json!({"$ref": format!("#/components/schemas/{kind}")});
        let schema = api.contract.resolve(&reference).clone();
        assert_eq!(keys(&schema["properties"]), keys(&event), "{kind}");
        let numbered = |event| json!({"n": 1, "event": event});
        each_field_is_read(&mut api, EVENTS, &event, &schema, &numbered).await;
    }
    for wrong in [json!({"n": "1", "event": thinking(1)["event"]}), json!({"n": 1, "event": 1}), json!({"events": 1})] {
        let answer = api.ask("POST", EVENTS, NOBODYS, wrong.to_string().as_bytes()).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(!api.contract.allows("POST", EVENTS, &wrong), "the document allows {wrong}");
    }
}

/// A field that the document knows and that holds what it must not is a fault of that name.
async fn each_field_is_read(
    api: &mut Api,
    path: &str,
    body: &Value,
    schema: &Value,
    whole: &(dyn Fn(Value) -> Value + Sync),
) {
    assert!(api.contract.allows("POST", path, &whole(body.clone())), "the document refuses {body}");
    for name in keys(body) {
        let property = &schema["properties"][&name];
        let is_any = keys(property).iter().all(|key| key == "description");
        let mut wrong = body.clone();
        wrong[&name] = json!({"wrong": true});
        let wrong = whole(wrong);
        assert_eq!(api.contract.allows("POST", path, &wrong), is_any, "{path} {name}");
        if !is_any {
            let answer = api.ask("POST", path, NOBODYS, wrong.to_string().as_bytes()).await;
            let message = answer.body["error"]["message"].as_str().unwrap_or_default();
            assert!(answer.status == 400 && message.contains(&name), "{path} {name}: {}", answer.body);
        }
    }
}
