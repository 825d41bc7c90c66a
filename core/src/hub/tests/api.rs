//! The operations of back ends over HTTP, without a web stack.

use std::sync::Arc as Shared;
use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{World, ident};
use crate::api::{Answer, Head, MAX_BODY_BYTES};
use crate::auth::fake::FakeKeys;
use crate::auth::{AuthError, ClaimRules, Grant, NewToken, TokenVerifier};
use crate::hub::{Hub, HubConfig};
use crate::id::UserId;
use crate::level::ServiceLevel;
use crate::limits::Limits;
use crate::protocol::{EventBody, EventKind, FailReason, MAX_EVENTS, RevokeTarget};
use crate::time::UnixTime;

const HOUR: Duration = Duration::from_secs(3600);

/// Somebody who asks over HTTP.
struct BackEnd<'a> {
    world: &'a World,
    authorization: String,
}

impl<'a> BackEnd<'a> {
    fn new(world: &'a World, scope: &str) -> Self {
        Self::of(world, &ident("agent"), scope, None)
    }

    fn of(world: &'a World, user: &UserId, scope: &str, token_id: Option<&str>) -> Self {
        let issuer = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
        let new = NewToken { user, issued_at: world.now().unix, ttl: HOUR, scope, token_id };
        Self { world, authorization: format!("Bearer {}", issuer.issue(&new).unwrap()) }
    }

    fn ask_raw(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let authorization = [self.authorization.as_bytes()];
        let head = Head { method, path, authorization: &authorization, content_type: Some("application/json") };
        self.world.hub.api(&head).map_or_else(|refusal| refusal, |call| call.answer(body))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask_raw(method, path, body.to_string().as_bytes());
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, &body)
    }

    fn get(&self, user: &str) -> (u16, Value) {
        self.ask("GET", &format!("/v1/users/{user}"), &Value::Null)
    }

    fn start(&self, more: &Value) -> (u16, Value) {
        let mut body = json!({"user_id": "ann", "thread_id": "t", "agent_name": "calculator"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/v1/runs", body)
    }

    /// The id of a new run.
    fn run(&self) -> String {
        let (status, run) = self.start(&json!({}));
        assert_eq!(status, 200, "{run}");
        run["run_id"].as_str().unwrap().to_owned()
    }

    fn event(&self, run: &str, body: Value) -> (u16, Value) {
        self.post(&format!("/v1/runs/{run}/events"), body)
    }
}

fn thinking(n: u64) -> Value {
    json!({"n": n, "event": {"type": "agent_thinking", "thought": "hm"}})
}

fn completed(n: u64) -> Value {
    json!({"n": n, "event": {"type": "agent_completed", "final_response": "14"}})
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_else(|| panic!("{answer:?}")))
}

#[test]
fn a_run_is_started_told_of_and_ended() {
    let world = World::new();
    let mut ann = world.device("ann");
    let back_end = BackEnd::new(&world, "publish");
    let run = back_end.run();
    assert_eq!(back_end.event(&run, thinking(1)), (200, json!({"delivered_to": 1})));
    assert_eq!(back_end.event(&run, json!({"events": [thinking(2), completed(3)]})), (200, json!({"delivered_to": 1})));
    let kinds =
        [EventKind::AgentStarted, EventKind::AgentThinking, EventKind::AgentThinking, EventKind::AgentCompleted];
    assert_eq!(ann.kinds(), kinds);
    assert_eq!(code(&back_end.event(&run, thinking(4))), (409, "run_ended"));
}

#[test]
fn a_repeat_by_key_or_number_changes_nothing() {
    let world = World::new();
    let back_end = BackEnd::new(&world, "publish");
    let first = back_end.start(&json!({"key": "r-1"}));
    let run = first.1["run_id"].as_str().unwrap().to_owned();
    back_end.event(&run, thinking(1));
    let head = back_end.get("ann").1["head"].clone();
    assert_eq!(back_end.start(&json!({"key": "r-1"})), (200, json!({"run_id": run, "last_n": 1})));
    assert_eq!(back_end.event(&run, thinking(1)), (200, json!({"stored": true})));
    assert_eq!(back_end.get("ann").1["head"], head);
    let publish = json!({"user_id": "ann", "name": "paid", "data": 1, "key": "p"});
    assert_eq!(back_end.post("/v1/publish", publish.clone()).0, 200);
    let head = back_end.get("ann").1["head"].clone();
    assert_eq!(back_end.post("/v1/publish", publish), (200, json!({"stored": true})));
    assert_eq!(back_end.get("ann").1["head"], head);
}

#[test]
fn a_list_of_events_stops_at_the_first_that_is_refused_and_says_which() {
    let world = World::new();
    let mut ann = world.device("ann");
    let back_end = BackEnd::new(&world, "publish");
    let run = back_end.run();
    let early = json!({"n": 2, "event": {"type": "tool_completed", "tool_call_id": "c"}});
    let refused = back_end.event(&run, json!({"events": [thinking(1), early, completed(3)]}));
    assert_eq!(code(&refused), (409, "run_order"));
    assert_eq!((&refused.1["run_id"], &refused.1["n"]), (&json!(run), &json!(2)));
    assert_eq!(ann.kinds(), [EventKind::AgentStarted, EventKind::AgentThinking]);
    assert_eq!(back_end.event(&run, completed(3)).0, 200, "the one that was refused has used its number");
    let other = back_end.run();
    let gap = back_end.event(&other, thinking(2));
    assert_eq!((code(&gap), &gap.1["n"]), ((409, "run_order"), &json!(2)));
}

#[test]
fn every_event_renews_the_lease_and_silence_ends_the_run() {
    let world = World::new();
    let mut ann = world.device("ann");
    let back_end = BackEnd::new(&world, "publish");
    let (_, run) = back_end.start(&json!({"lease": 10}));
    let run = run["run_id"].as_str().unwrap();
    for n in 1..4 {
        world.sleep(Duration::from_secs(9), &mut [&mut ann]);
        assert_eq!(back_end.event(run, thinking(n)).0, 200);
    }
    world.sleep(Duration::from_secs(4), &mut [&mut ann]);
    assert_eq!(back_end.get("ann").1["runs"][0]["lease_left"], 6.0);
    world.sleep(Duration::from_secs(6), &mut [&mut ann]);
    let last = ann.stream().pop().unwrap();
    assert!(matches!(last.body, EventBody::AgentFailed { reason: FailReason::ProducerLost, .. }), "{last:?}");
    assert_eq!(code(&back_end.event(run, thinking(4))), (409, "run_ended"));
}

#[test]
fn without_the_scope_everything_is_as_if_it_were_not_there() {
    let world = World::new();
    let _ann = world.device("ann");
    let run = BackEnd::new(&world, "publish").run();
    let acme = UserId::new(Some("acme"), "agent").unwrap();
    for stranger in [
        BackEnd::new(&world, ""),
        BackEnd::new(&world, "publish:bob"),
        BackEnd::new(&world, "topic:*"),
        BackEnd::of(&world, &acme, "publish", None),
    ] {
        let events = stranger.event(&run, thinking(1));
        let nobodys = "run_00000000000000000000000000000000";
        let (status, answer) = stranger.event(nobodys, thinking(1));
        assert_eq!((events.0, events.1.to_string().replace(&run, nobodys)), (status, answer.to_string()));
        assert_eq!(code(&events), (404, "not_found"));
        assert_eq!(code(&stranger.post("/v1/revoke", json!({"user_id": "ann", "token_id": "t"}))), (404, "not_found"));
    }
    for scope in ["", "publish:bob", "topic:*", "admin"] {
        let stranger = BackEnd::new(&world, scope);
        assert_eq!(code(&stranger.start(&json!({}))), (404, "not_found"), "{scope}");
        let publish = stranger.post("/v1/publish", json!({"user_id": "ann", "name": "x", "data": 1}));
        assert_eq!(code(&publish), (404, "not_found"), "{scope}");
        let publish = stranger.post("/v1/publish", json!({"topic": "news", "name": "x", "data": 1}));
        assert_eq!(code(&publish), (404, "not_found"), "{scope}");
        assert_eq!(stranger.get("ann").0, if scope == "admin" { 200 } else { 404 }, "{scope}");
    }
    let of_acme = BackEnd::of(&world, &acme, "publish admin", None);
    assert_eq!(of_acme.get("ann").1, json!({"user_id": "ann", "connections": [], "runs": []}));
}

#[test]
fn the_admin_of_a_tenant_neither_sees_nor_orders_the_level_of_all() {
    const LEVEL: &str = "/v1/service-level";
    let world = World::new();
    let acme = UserId::new(Some("acme"), "agent").unwrap();
    let of_acme = BackEnd::of(&world, &acme, "publish admin", None);
    let order = json!({"level": "emergency", "reason": "of acme alone"});
    for outcome in [of_acme.ask("GET", LEVEL, &Value::Null), of_acme.ask("PUT", LEVEL, &order)] {
        assert_eq!(code(&outcome), (404, "not_found"));
    }
    assert_eq!(world.hub.level(), ServiceLevel::Normal);
    assert_eq!(BackEnd::new(&world, "admin").ask("PUT", LEVEL, &order).0, 200);
    assert_eq!(world.hub.level(), ServiceLevel::Emergency);
}

#[test]
fn a_token_that_does_not_hold_gets_no_further() {
    let world = World::new();
    let ask = |authorization: &[&[u8]]| {
        let head = Head { method: "GET", path: "/v1/users/ann", authorization, content_type: None };
        let answer = world.hub.api(&head).expect_err("a refusal");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let challenge = answer.headers.iter().find(|(name, _)| *name == "www-authenticate").unwrap().1.clone();
        (answer.status, body["error"]["code"].as_str().unwrap().to_owned(), challenge)
    };
    let good = BackEnd::of(&world, &ident("agent"), "publish", Some("jti-1"));
    let refused = |code: &str| (401, code.to_owned(), r#"Bearer error="invalid_token""#.to_owned());
    assert_eq!(ask(&[]), (401, "bad_credentials".into(), "Bearer".into()));
    assert_eq!(ask(&[b"Basic YTpi"]), refused("bad_credentials"));
    assert_eq!(ask(&[b"Bearer a.b.c"]), refused("bad_credentials"));
    assert_eq!(ask(&[good.authorization.as_bytes(), b"Bearer a.b.c"]), refused("bad_credentials"));
    world.hub.revoke(&ident("agent"), &RevokeTarget::Token("jti-1".parse().unwrap()), None);
    assert_eq!(ask(&[good.authorization.as_bytes()]), refused("token_revoked"));
    let old = BackEnd::new(&world, "publish");
    world.clock.turn(HOUR + Duration::from_secs(5));
    assert_eq!(ask(&[old.authorization.as_bytes()]), refused("token_expired"));
}

#[test]
fn a_token_that_ends_while_the_body_comes_does_nothing() {
    let world = World::new();
    let body = br#"{"user_id":"ann","name":"x","data":1}"#;
    let slow = |end: &dyn Fn()| {
        let back_end = BackEnd::of(&world, &ident("agent"), "publish", Some("jti-1"));
        let authorization = [back_end.authorization.as_bytes()];
        let (path, content_type) = ("/v1/publish", Some("Application/JSON; charset=utf-8"));
        let call = world.hub.api(&Head { method: "POST", path, authorization: &authorization, content_type }).unwrap();
        end();
        call.answer(body).status
    };
    assert_eq!(slow(&|| ()), 200);
    let head = world.hub.user_status(&ident("ann")).head;
    let revoke =
        || assert_eq!(world.hub.revoke(&ident("agent"), &RevokeTarget::Token("jti-1".parse().unwrap()), None), 0);
    assert_eq!(slow(&|| world.clock.turn(HOUR + Duration::from_secs(5))), 401);
    assert_eq!(slow(&revoke), 401);
    assert_eq!(world.hub.user_status(&ident("ann")).head, head);
}

#[test]
fn what_comes_is_bounded_and_json() {
    let world = World::new();
    let back_end = BackEnd::new(&world, "publish");
    let padded = |size: usize| {
        let body = r#"{"user_id":"ann","name":"x","data":1}"#;
        format!("{body}{}", " ".repeat(size - body.len())).into_bytes()
    };
    assert_eq!(back_end.ask_raw("POST", "/v1/publish", &padded(MAX_BODY_BYTES)).status, 200);
    assert_eq!(back_end.ask_raw("POST", "/v1/publish", &padded(MAX_BODY_BYTES + 1)).status, 413);
    let large = json!({"user_id": "ann", "name": "x", "data": "x".repeat(world.hub.limits().event_bytes)});
    assert_eq!(code(&back_end.post("/v1/publish", large)), (413, "too_large"));
    for content_type in [None, Some(""), Some("text/plain"), Some("application/jsonp")] {
        let authorization = [back_end.authorization.as_bytes()];
        let head = Head { method: "POST", path: "/v1/publish", authorization: &authorization, content_type };
        assert_eq!(world.hub.api(&head).err().map(|answer| answer.status), Some(415), "{content_type:?}");
    }
    let run = back_end.run();
    let events = |from: u64, count: usize| json!({"events": (from..).take(count).map(thinking).collect::<Vec<_>>()});
    assert_eq!(back_end.event(&run, events(1, MAX_EVENTS)).0, 200);
    assert_eq!(code(&back_end.event(&run, events(257, MAX_EVENTS + 1))), (400, "invalid"));
}

#[test]
fn too_many_runs_and_a_shutdown_say_when_to_come_back() {
    let world = World::with(Limits { runs_per_user: 1, ..Limits::default() });
    let back_end = BackEnd::new(&world, "publish");
    back_end.run();
    let start = br#"{"user_id":"ann","thread_id":"t","agent_name":"a"}"#;
    let refused = |code: &str, status| {
        let answer = back_end.ask_raw("POST", "/v1/runs", start);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["error"]["code"]), (status, &json!(code)), "{body}");
        assert_eq!((&body["error"]["temporary"], &body["error"]["retry_after"]), (&json!(true), &json!(5)));
        assert!(answer.headers.contains(&("retry-after", "5".into())), "{:?}", answer.headers);
    };
    refused("too_many_runs", 429);
    world.hub.begin_shutdown();
    refused("draining", 503);
}

/// Waits for keys for ever.
struct Waiting;

impl TokenVerifier for Waiting {
    fn verify(&self, _: &str, _: UnixTime) -> Result<Grant, AuthError> {
        Err(AuthError::Undecided)
    }
}

#[test]
fn a_token_that_cannot_be_decided_yet_is_to_be_sent_again() {
    let mut world = World::new();
    let (clock, entropy) = (Shared::clone(&world.clock) as _, Shared::clone(&world.entropy) as _);
    (world.hub, world.keeper) = Hub::new(HubConfig::default(), Shared::new(Waiting), clock, entropy).unwrap();
    let answer = BackEnd::new(&world, "publish").ask_raw("GET", "/v1/users/ann", b"");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["error"]["code"]), (503, &json!("unavailable")), "{body}");
    assert!(answer.headers.contains(&("retry-after", "5".into())), "{:?}", answer.headers);
    assert!(!answer.headers.iter().any(|(name, _)| *name == "www-authenticate"), "another token would help as little");
}

#[test]
fn a_user_is_shown_without_what_was_said() {
    let world = World::new();
    let mut ann = world.device("ann");
    let back_end = BackEnd::new(&world, "publish:ann");
    let run = back_end.run();
    let ask = json!({"n": 1, "event": {"type": "agent_suspended", "approval_id": "a-1", "question": "s3cret?"}});
    assert_eq!(back_end.event(&run, ask).0, 200);
    let cancel = crate::protocol::ClientFrame::CancelRun {
        id: super::harness::frame_id("1"),
        target: crate::protocol::RunRef::Id(run.parse().unwrap()),
    };
    ann.send(&cancel);
    let held = world.hub.start_run(&ident("ann"), super::harness::thread("t2"), crate::hub::RunOptions::named("own"));
    let (status, shown) = back_end.get("ann");
    assert_eq!(status, 200);
    let device = world.hub.devices(&ident("ann"))[0];
    let head = world.hub.user_status(&ident("ann")).head.unwrap();
    assert_eq!(
        shown["connections"],
        json!([{
            "connection_id": device.connection.to_string(), "session_id": device.session.to_string(), "behind": device.behind,
        }])
    );
    assert_eq!((&shown["user_id"], &shown["head"]), (&json!("ann"), &json!(head.to_string())));
    let runs = shown["runs"].as_array().unwrap();
    let of = |agent: &str| runs.iter().find(|run| run["agent_name"] == agent).unwrap();
    assert_eq!(
        *of("calculator"),
        json!({"run_id": run, "thread_id": "t", "agent_name": "calculator", "status": "suspended", "run_seq": 2,
            "lease_left": 30, "cancel_requested_by": "ann"})
    );
    assert_eq!((&of("own")["status"], of("own").get("lease_left")), (&json!("running"), None));
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    drop(held);
}
