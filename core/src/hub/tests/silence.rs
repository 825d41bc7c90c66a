//! No token, key or payload in what `Debug` and `Display` show, and no control character of a peer's.

use std::fmt::Debug;
use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};

use super::harness::{World, frame_id, ident, next_message, poll_now, thread};
use crate::api::Head;
use crate::auth::fake::FakeKeys;
use crate::auth::{ClaimRules, NewToken, TokenVerifier};
use crate::client::{Client, ClientConfig};
use crate::drive::Machine;
use crate::hub::{HubConfig, RunOptions};
use crate::id::{TokenId, TopicName, UserId};
use crate::protocol::{ClientFrame, PublishTarget, ReplyError, RevokeTarget, ServerFrame};
use crate::time::Clock;

/// Stands in every secret and every payload here.
const MARK: &str = "s3cr3t-m4rk";
/// What a terminal would obey, in what peers choose.
const EVIL: &str = "\u{1b}[2J\r\n\u{9b}31m\u{7}";

/// Everything that `Debug` said.
#[derive(Default)]
struct Shown(Vec<(&'static str, String)>);

impl Shown {
    fn look(&mut self, what: &'static str, value: &dyn Debug) {
        self.0.push((what, format!("{value:?}")));
        self.0.push((what, format!("{value:#?}")));
    }

    fn says(&mut self, what: &'static str, text: impl ToString) {
        self.0.push((what, text.to_string()));
    }

    #[track_caller]
    fn check(&self, secrets: &[&str]) {
        assert!(self.0.len() > 10, "there is something to look at");
        for (what, text) in &self.0 {
            for secret in secrets {
                assert!(!text.contains(secret), "{what} shows {secret}: {text}");
            }
            let raw = text.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(raw, None, "{what} has a raw control character: {text:?}");
        }
    }
}

fn raw(text: &str) -> Box<RawValue> {
    to_raw_value(text).unwrap()
}

/// Every frame of a client or a producer with the mark in all that is a payload or a secret.
fn client_frames() -> Vec<ClientFrame> {
    let event = |fields: &str| {
        format!(r#"{{"type":"run_event","id":"1","run_id":"run_{:032x}","n":1,"event":{{{fields}}}}}"#, 7)
    };
    let m = MARK;
    let texts = [
        format!(r#"{{"type":"hello","token":"{m}.{m}.{m}"}}"#),
        format!(r#"{{"type":"refresh","id":"1","token":"{m}"}}"#),
        format!(r#"{{"type":"user_message","id":"1","thread_id":"t","content":"{m}","metadata":{{"{m}":1}}}}"#),
        format!(r#"{{"type":"approve","id":"1","approval_id":"a","decision":"{m}","data":"{m}"}}"#),
        format!(r#"{{"type":"command","id":"1","name":"n","args":["{m}"]}}"#),
        format!(r#"{{"type":"publish","id":"1","user_id":"ann","name":"n","data":"{m}"}}"#),
        format!(r#"{{"type":"run_start","id":"1","user_id":"ann","thread_id":"t","agent_name":"a","message":"{m}"}}"#),
        format!(r#"{{"type":"revoke","id":"1","user_id":"ann","token_id":"{m}"}}"#),
        format!(r#"{{"type":"reply","id":"1","ok":true,"result":"{m}"}}"#),
        format!(
            r#"{{"type":"reply","id":"1","ok":false,"error":{{"code":"refused","message":"{m}","temporary":false}}}}"#
        ),
        event(&format!(r#""type":"agent_thinking","thought":"{m}""#)),
        event(&format!(r#""type":"tool_executing","tool_name":"t","parameters":"{m}""#)),
        event(&format!(r#""type":"tool_completed","tool_call_id":"c","results":"{m}","error":"{m}""#)),
        event(&format!(r#""type":"agent_delta","part_id":"p","text":"{m}""#)),
        event(&format!(r#""type":"agent_suspended","question":"{m}""#)),
        event(&format!(r#""type":"agent_completed","final_response":"{m}","result":"{m}""#)),
        event(&format!(r#""type":"agent_failed","error":"{m}""#)),
        event(&format!(r#""type":"agent_cancelled","by":"x","reason":"{m}""#)),
    ];
    texts.iter().map(|text| ClientFrame::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).frame).collect()
}

fn server_frames() -> Vec<ServerFrame> {
    let m = MARK;
    let event = |kind: &str, fields: &str| {
        format!(
            r#"{{"type":"{kind}","event_id":"7-1","seq":1,"timestamp":1,"user_id":"ann","thread_id":"t","run_id":"run_{:032x}","run_seq":1,"agent_name":"a",{fields}}}"#,
            7
        )
    };
    let part = format!(r#"{{"run_id":"run_{:032x}","part_id":"p","offset":0,"text":"{m}","run_seq":1}}"#, 7);
    let run = format!(
        r#"{{"run_id":"run_{:032x}","status":"suspended","run_seq":3,"question":"{m}","thoughts":["{m}"],"tools":[{{"tool_call_id":"c","tool_name":"t","parameters":"{m}","results":"{m}","success":false,"error":"{m}"}}],"parts":[{{"part_id":"p","offset":0,"text":"{m}"}}]}}"#,
        7
    );
    let texts = [
        event("user_message", &format!(r#""content":"{m}","metadata":"{m}""#)),
        event("agent_started", &format!(r#""message":"{m}""#)),
        event("agent_thinking", &format!(r#""thought":"{m}""#)),
        event("tool_executing", &format!(r#""tool_call_id":"c","tool_name":"t","parameters":"{m}""#)),
        event("tool_completed", &format!(r#""tool_call_id":"c","tool_name":"t","results":"{m}","success":true"#)),
        event("agent_delta", &format!(r#""part_id":"p","offset":0,"text":"{m}""#)),
        event("agent_suspended", &format!(r#""approval_id":"a","question":"{m}""#)),
        event("agent_resumed", &format!(r#""approval_id":"a","decision":"{m}""#)),
        event("agent_completed", &format!(r#""final_response":"{m}","result":"{m}","duration_ms":1"#)),
        event("agent_failed", &format!(r#""reason":"error","error":"{m}""#)),
        event("agent_cancelled", &format!(r#""by":"x","reason":"{m}""#)),
        event("custom", &format!(r#""name":"n","data":"{m}""#)),
        format!(r#"{{"type":"agent_deltas","prev":0,"event_id":"7-1","seq":1,"timestamp":1,"parts":[{part}]}}"#),
        format!(r#"{{"type":"snapshot","stream":"user","event_id":"7-1","part":1,"of":1,"runs":[{run}]}}"#),
        format!(r#"{{"type":"reply","id":"1","ok":true,"result":"{m}"}}"#),
        format!(
            r#"{{"type":"reply","id":"1","ok":false,"error":{{"code":"refused","message":"{m}","temporary":false}}}}"#
        ),
        format!(r#"{{"type":"error","code":"refused","message":"{m}"}}"#),
    ];
    texts.iter().map(|text| ServerFrame::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))).collect()
}

#[test]
fn frames_show_their_type_and_ids_and_nothing_that_was_said() {
    let mut shown = Shown::default();
    let (client, server) = (client_frames(), server_frames());
    for frame in &client {
        assert!(frame.encode().contains(MARK), "the mark is in {frame:?}");
        shown.look("a frame of a client", frame);
        match frame {
            ClientFrame::Hello(hello) => shown.look("hello", hello),
            ClientFrame::RunStart(start) => shown.look("run_start", start),
            ClientFrame::Reply(reply) => shown.look("a reply of a producer", reply),
            ClientFrame::RunEvent { event, .. } => shown.look("an event of a producer", event),
            ClientFrame::Revoke { target, .. } => shown.look("what is revoked", target),
            _ => {}
        }
    }
    for frame in &server {
        assert!(frame.encode().contains(MARK), "the mark is in {frame:?}");
        shown.look("a frame of the server", frame);
        match frame {
            ServerFrame::Event(event) => {
                shown.look("an event", event);
                shown.look("the body of an event", &event.body);
            }
            ServerFrame::Deltas(deltas) => shown.look("merged text", deltas),
            ServerFrame::Snapshot(snapshot) => {
                shown.look("a snapshot", snapshot);
                let mut reducer = crate::stream::Reducer::default();
                snapshot.runs.iter().for_each(|piece| reducer.restore(piece));
                shown.look("a reducer", &reducer);
                reducer.runs().values().for_each(|run| {
                    shown.look("a run as it is shown", run);
                    run.tools.values().for_each(|tool| shown.look("a tool's call as it is shown", tool));
                    run.parts.values().for_each(|part| shown.look("a text as it is shown", part));
                    shown.look("an approval as it is shown", &run.approval);
                });
            }
            ServerFrame::Reply(reply) => shown.look("a reply", reply),
            _ => {}
        }
    }
    let error = ReplyError::new(crate::error::ErrorCode::Refused, MARK);
    shown.look("a refusal", &error);
    shown.check(&[MARK]);
}

#[test]
fn what_the_hub_holds_shows_no_secret_and_no_payload() {
    let mut shown = Shown::default();
    let world = World::new();
    let keys = FakeKeys::new(b"whatever", ClaimRules::default()).unwrap();
    let token_id = format!("jti-{MARK}");
    let new = NewToken {
        user: &ident("ann"),
        issued_at: world.now().unix,
        ttl: Duration::from_secs(60),
        scope: "topic:*",
        token_id: Some(&token_id),
    };
    let grant = keys.verify(&keys.issue(&new).unwrap(), world.now().unix).unwrap();
    shown.look("a grant", &grant);
    shown.look("a token's id", &TokenId::new(&token_id).unwrap());
    shown.look("a revocation", &RevokeTarget::Token(TokenId::new(&token_id).unwrap()));

    let issuer = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
    let token = issuer.issue(&new).unwrap();
    let signature = token.rsplit_once('.').unwrap().1.to_owned();
    let config: ClientConfig = world.config(token.clone(), None, None);
    shown.look("a client's configuration", &config);
    let client = Client::new(world.now(), config.clone(), std::sync::Arc::clone(&world.entropy) as _).unwrap();
    shown.look("a client", &client);
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.connect_with(config);
    ann.say("m", MARK);
    ann.send(&ClientFrame::Command { id: frame_id("c"), name: "n".into(), args: Some(raw(MARK)), key: None });
    let message = next_message(&mut requests);
    shown.look("a message", &message);
    let run = message
        .start_with(RunOptions { message: Some(MARK.into()), ..RunOptions::named("agent") })
        .expect("the run starts");
    shown.look("what a run is to be", &RunOptions { message: Some(MARK.into()), ..RunOptions::named("agent") });
    run.thinking(MARK).unwrap();
    run.delta(MARK).unwrap();
    shown.look("a call", &run.tool("t", &MARK).unwrap());
    let approval = run.suspend(Some(MARK.into())).unwrap();
    ann.send(&ClientFrame::Approve {
        id: frame_id("a"),
        approval_id: approval.id().clone(),
        decision: MARK.into(),
        data: Some(raw(MARK)),
    });
    shown.look("an approval", &approval);
    shown.look("a decision", &poll_now(approval.decision()));
    shown.look("a run", &run);
    shown.look("a command", &poll_now(requests.next()));
    shown.look("a session", ann.session.as_ref().unwrap());
    shown.look("a hub", &world.hub);
    shown.look("a hub's configuration", &HubConfig::default());
    shown.look("a user's status", &world.hub.user_status(&ident("ann")));
    let bearer = format!("Bearer {token}");
    let authorization = [bearer.as_bytes()];
    let head = Head { method: "GET", path: "/v1/users/ann", authorization: &authorization, content_type: None };
    shown.look("a request over HTTP", &head);
    shown.look("an answer over HTTP", &world.hub.api(&head).map(|call| call.answer(b"")).unwrap_or_else(|no| no));
    drop(run);
    let end = run_errors(&world);
    end.iter().for_each(|error| {
        shown.look("an error of a run", error);
        shown.says("an error of a run", error);
    });
    shown.check(&[MARK, &signature, &token]);
}

/// Errors that name what a producer sent.
fn run_errors(world: &World) -> Vec<crate::stream::RunError> {
    let run = world.hub.start_run(&ident("bob"), thread("t"), RunOptions::named("a")).unwrap();
    let large = MARK.repeat(world.hub.limits().event_bytes / 8);
    let mut errors = vec![
        run.thinking(large.clone()).unwrap_err(),
        run.delta(large).unwrap_err(),
        world.hub.start_run(&ident("bob"), thread("t"), RunOptions::named(MARK.repeat(1_000))).unwrap_err(),
    ];
    run.failed(MARK).unwrap();
    errors.push(run.thinking(MARK).unwrap_err());
    errors
}

#[test]
fn what_a_peer_may_choose_is_shown_escaped_or_refused() {
    let mut shown = Shown::default();
    assert!(UserId::new(None, EVIL).is_err() && TopicName::new(EVIL).is_err() && TokenId::new(EVIL).is_err());
    let json = serde_json::to_string(EVIL).unwrap();
    // Every place of a frame in which a peer's own text stands, and what is said of it.
    let refused = [
        format!(r#"{{"type":{json},"id":"1"}}"#),
        format!(r#"{{"type":"ping","id":{json}}}"#),
        format!(r#"{{"type":"subscribe","id":"1","topic":{json}}}"#),
        format!(r#"{{"type":"user_message","id":"1","thread_id":{json},"content":"x"}}"#),
        format!(r#"{{"type":"hello","resume":{{{json}:"1-1"}}}}"#),
        format!(r#"{{"type":"hello","resume":{{"user":{json}}}}}"#),
        format!(r#"{{"type":"revoke","id":"1","user_id":"x","token_id":{json}}}"#),
        format!(r#"{{"type":"run_event","run_id":{json},"n":1,"event":{{}}}}"#),
        format!(r#"{{"type":"run_event","run_id":"run_{:032x}","n":1,"event":{{"type":{json}}}}}"#, 7),
        format!(r#"{{"type":"run_start","id":"1","user_id":"x","thread_id":"t","agent_name":"a","order":{json}}}"#),
        format!(r#"{{{json}:1}}"#),
        format!("{{\"type\":\"ping\"}}{EVIL}"),
        EVIL.to_owned(),
    ];
    for text in &refused {
        let error = ClientFrame::parse(text).map(|parsed| parsed.frame).expect_err(text);
        shown.look("what is wrong with a frame", &error);
        shown.says("what is wrong with a frame", &error);
    }
    let world = World::new();
    for text in [
        format!(r#"{{"type":"publish","user_id":{json},"name":{json},"data":1}}"#),
        format!(r#"{{"type":"publish","topic":"t","name":{json},"data":1}}"#),
        format!(r#"{{"type":"hello","client":{{"name":{json},"version":{json}}},"user_id":{json}}}"#),
        format!(r#"{{"type":"hello","producer":{{"id":"p","users":[{json}]}}}}"#),
        format!(r#"{{"type":"command","id":"1","name":{json}}}"#),
    ] {
        let parsed = ClientFrame::parse(&text).unwrap();
        shown.look("a frame with its sender", &parsed);
        match parsed.frame {
            ClientFrame::Hello(hello) => shown.look("hello", &hello),
            ClientFrame::Publish { target, .. } => {
                shown.look("to whom", &target);
                if let PublishTarget::User(sub) = target {
                    shown.says("no user", UserId::new(None, &sub).unwrap_err());
                }
            }
            _ => {}
        }
    }
    let run = world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named(EVIL)).unwrap();
    shown.look("a run", &run);
    shown.look("a user's status", &world.hub.user_status(&ident("ann")));
    let head = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a\u{9b}b");
    let parsed = crate::codec::upgrade::parse_head(head.as_bytes(), world.hub.limits());
    shown.look("a request", &parsed);
    let mut session = world.hub.session().unwrap();
    session.handle_bytes(world.clock.now(), format!("GET {EVIL} HTTP/1.1\r\n\r\n").as_bytes());
    shown.look("a session", &session);
    let answer = session.transmit().to_vec();
    let answer = String::from_utf8_lossy(&answer).replace("\r\n", " ");
    shown.says("an answer to what is no HTTP", answer);
    shown.check(&[EVIL]);
}
