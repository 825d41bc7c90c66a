//! What a token does not grant is as if it did not exist, byte for byte; and credentials that do not hold are all alike.

use std::task::Waker;
use std::time::Duration;

use super::harness::{Pair, SECRET, World, frame_id, ident, message, next_message, thread};
use crate::api::Head;
use crate::auth::fake::FakeKeys;
use crate::auth::{ClaimRules, NewToken};
use crate::client::ClientConfig;
use crate::codec::frame::{Opcode, encode};
use crate::drive::Machine;
use crate::error::ErrorCode;
use crate::hub::{Run, RunOptions};
use crate::id::UserId;
use crate::limits::Limits;
use crate::protocol::{ClientFrame, ProducerHello, Reply, ReplyOk, RevokeTarget, ServerFrame};

const HOUR: Duration = Duration::from_secs(3600);
/// A run that is nobody's. It has the form of one.
const NO_RUN: &str = "run_00000000000000000000000000000000";
const NO_SESSION: &str = "sess_00000000000000000000000000000000";

fn token_of(world: &World, user: &UserId, scope: &str, token_id: Option<&str>) -> String {
    world.scoped_token(user, HOUR, scope, token_id)
}

/// A frame as it is sent, and what the server answers to it.
fn answer(world: &World, pair: &mut Pair, text: &str) -> String {
    pair.pump();
    pair.heard.clear();
    let mut bytes = Vec::new();
    encode(&mut bytes, Opcode::Text, text.as_bytes(), Some([7; 4]));
    pair.session.as_mut().expect("it is in").handle_bytes(world.now(), &bytes);
    pair.pump();
    assert!(pair.session.is_some(), "{text} closes");
    String::from_utf8_lossy(&pair.heard).into_owned()
}

/// Bob's things in the tenant of those who ask, and the same kinds of things that do not exist.
struct There {
    world: World,
    _bob: Pair,
    _runs: Vec<Run>,
    /// What is there and, of the same length, what is not.
    pairs: Vec<(String, &'static str)>,
}

impl There {
    fn new() -> Self {
        let world = World::sharded(Limits::default(), 1);
        let mut requests = world.hub.requests().unwrap();
        let mut bob = world.connect(token_of(&world, &ident("bob"), "topic:*", None), None, None);
        bob.send(&message("m", Some("key-there"), "hello"));
        let run = next_message(&mut requests).start("agent").unwrap();
        run.suspend_as("ask-there".parse().unwrap(), None).unwrap();
        let open = world.hub.start_run(&ident("bob"), thread("t"), RunOptions::named("a")).unwrap();
        bob.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: "top-there".parse().unwrap(), resume: None });
        let session = bob.client.session().unwrap();
        // What waits for an answer: its name must be of no use to others.
        bob.send(&message("m2", None, "waits"));
        let waits = next_message(&mut requests);
        let run_id = run.id().to_string();
        let pairs = vec![
            (run_id, NO_RUN),
            (open.id().to_string(), NO_RUN),
            (session.to_string(), NO_SESSION),
            ("key-there".to_owned(), "key-wrong"),
            ("ask-there".to_owned(), "ask-wrong"),
            ("top-there".to_owned(), "top-wrong"),
            (r#""user_id":"bob""#.to_owned(), r#""user_id":"nob""#),
            ("/v1/users/bob".to_owned(), "/v1/users/nob"),
            (r#""jti-there""#.to_owned(), r#""jti-wrong""#),
        ];
        std::mem::forget(waits);
        Self { world, _bob: bob, _runs: vec![run, open], pairs }
    }

    /// The same request for what is not there, and how to compare their answers.
    fn absent(&self, text: &str) -> String {
        self.pairs.iter().fold(text.to_owned(), |text, (there, not)| text.replace(there.as_str(), not))
    }

    fn run(&self) -> &str {
        &self.pairs[0].0
    }

    /// Every request that names something of bob's.
    fn frames(&self) -> Vec<String> {
        let (run, session) = (self.run(), &self.pairs[2].0);
        let event = r#"{"type":"agent_thinking","thought":"hm"}"#;
        vec![
            format!(r#"{{"type":"cancel_run","id":"x","run_id":"{run}"}}"#),
            r#"{"type":"cancel_run","id":"x","key":"key-there"}"#.to_owned(),
            r#"{"type":"approve","id":"x","approval_id":"ask-there","decision":"allow"}"#.to_owned(),
            r#"{"type":"subscribe","id":"x","topic":"top-there"}"#.to_owned(),
            r#"{"type":"subscribe","id":"x","topic":"top-there","resume":"1-1"}"#.to_owned(),
            r#"{"type":"unsubscribe","id":"x","topic":"top-there"}"#.to_owned(),
            r#"{"type":"publish","id":"x","user_id":"bob","name":"n","data":1}"#.to_owned(),
            r#"{"type":"publish","id":"x","user_id":"bob","name":"n","data":1,"key":"key-there","ephemeral":true}"#
                .to_owned(),
            r#"{"type":"publish","id":"x","topic":"top-there","name":"n","data":1}"#.to_owned(),
            r#"{"type":"run_start","id":"x","user_id":"bob","thread_id":"t","agent_name":"a"}"#.to_owned(),
            r#"{"type":"run_start","id":"x","user_id":"bob","thread_id":"t","agent_name":"a","lease":-1}"#.to_owned(),
            format!(
                r#"{{"type":"run_start","id":"x","user_id":"bob","thread_id":"t","agent_name":"a","run_id":"{run}"}}"#
            ),
            format!(
                r#"{{"type":"run_start","id":"x","user_id":"ann","thread_id":"t","agent_name":"a","run_id":"{run}"}}"#
            ),
            format!(
                r#"{{"type":"run_start","id":"x","user_id":"ann","thread_id":"t","agent_name":"a","parent_run_id":"{run}"}}"#
            ),
            format!(r#"{{"type":"run_event","id":"x","run_id":"{run}","n":1,"event":{event}}}"#),
            format!(r#"{{"type":"run_event","id":"x","run_id":"{run}","n":9,"event":{event}}}"#),
            format!(r#"{{"type":"run_event","run_id":"{run}","n":1,"event":{{"type":"agent_sings"}}}}"#),
            format!(r#"{{"type":"revoke","id":"x","user_id":"bob","session_id":"{session}"}}"#),
            r#"{"type":"revoke","id":"x","user_id":"bob","token_id":"jti-there"}"#.to_owned(),
        ]
    }
}

/// Scopes that grant nothing of bob's.
const SCOPES: [&str; 5] = ["", "publish:ann", "topic:other", "publish:ann topic:other", "publishes admins"];

fn compare(there: &There, who: &str, pair: &mut Pair) {
    let mut different = Vec::new();
    for frame in there.frames() {
        let (present, absent) = (answer(&there.world, pair, &frame), answer(&there.world, pair, &there.absent(&frame)));
        assert!(!absent.is_empty(), "{who}: {frame} has no answer");
        if there.absent(&present) != absent {
            different.push(format!("{frame}\n  {present}\n  {absent}"));
        }
    }
    assert!(different.is_empty(), "{who}:\n{}", different.join("\n"));
}

#[test]
fn over_the_wire_what_is_not_granted_is_what_is_not_there() {
    let there = There::new();
    for scope in SCOPES {
        let token = token_of(&there.world, &ident("ann"), scope, None);
        compare(&there, &format!("a device with {scope:?}"), &mut there.world.connect(token.clone(), None, None));
        if scope.contains("publish:") {
            let hello = ProducerHello { id: frame_id("p"), users: None };
            let config = there.world.config(token, None, None);
            let mut producer = there.world.connect_with(ClientConfig { producer: Some(hello), ..config });
            compare(&there, &format!("a producer with {scope:?}"), &mut producer);
        }
    }
    // Somebody of the same name elsewhere has every right there, and none here.
    for scope in ["topic:* publish admin", ""] {
        let rival = UserId::new(Some("rival"), "bob").unwrap();
        let run = there.run();
        let mut pair = there.world.connect(token_of(&there.world, &rival, scope, None), None, None);
        for frame in [
            format!(r#"{{"type":"cancel_run","id":"x","run_id":"{run}"}}"#),
            r#"{"type":"cancel_run","id":"x","key":"key-there"}"#.to_owned(),
            r#"{"type":"approve","id":"x","approval_id":"ask-there","decision":"allow"}"#.to_owned(),
            format!(r#"{{"type":"revoke","id":"x","user_id":"bob","session_id":"{}"}}"#, there.pairs[2].0),
        ] {
            let present = answer(&there.world, &mut pair, &frame);
            assert_eq!(there.absent(&present), answer(&there.world, &mut pair, &there.absent(&frame)), "{frame}");
        }
    }
    let status = there.world.hub.user_status(&ident("bob"));
    assert_eq!((status.devices.len(), status.runs.len()), (1, 2), "nothing of it has reached bob");
}

#[test]
fn over_http_what_is_not_granted_is_what_is_not_there() {
    let there = There::new();
    let (run, session) = (there.run().to_owned(), there.pairs[2].0.clone());
    let event = r#"{"n":1,"event":{"type":"agent_thinking","thought":"hm"}}"#;
    let events = format!("/v1/runs/{run}/events");
    let requests = [
        ("GET", "/v1/users/bob".to_owned(), String::new()),
        ("POST", events.clone(), event.to_owned()),
        ("POST", events, r#"{"n":"no number"}"#.to_owned()),
        ("POST", "/v1/publish".to_owned(), r#"{"user_id":"bob","name":"n","data":1}"#.to_owned()),
        ("POST", "/v1/publish".to_owned(), r#"{"topic":"top-there","name":"n","data":1}"#.to_owned()),
        ("POST", "/v1/runs".to_owned(), r#"{"user_id":"bob","thread_id":"t","agent_name":"a"}"#.to_owned()),
        (
            "POST",
            "/v1/runs".to_owned(),
            format!(r#"{{"user_id":"ann","thread_id":"t","agent_name":"a","run_id":"{run}"}}"#),
        ),
        (
            "POST",
            "/v1/runs".to_owned(),
            format!(r#"{{"user_id":"ann","thread_id":"t","agent_name":"a","parent_run_id":"{run}"}}"#),
        ),
        ("POST", "/v1/revoke".to_owned(), format!(r#"{{"user_id":"bob","session_id":"{session}"}}"#)),
        ("POST", "/v1/revoke".to_owned(), r#"{"user_id":"bob","token_id":"jti-there"}"#.to_owned()),
    ];
    for scope in SCOPES {
        let bearer = format!("Bearer {}", token_of(&there.world, &ident("ann"), scope, None));
        let ask = |method: &str, path: &str, body: &str| {
            let authorization = [bearer.as_bytes()];
            let head = Head { method, path, authorization: &authorization, content_type: Some("application/json") };
            let answer = there.world.hub.api(&head).map_or_else(|no| no, |call| call.answer(body.as_bytes()));
            (answer.status, answer.headers.clone(), String::from_utf8_lossy(&answer.body).into_owned())
        };
        for (method, path, body) in &requests {
            let (status, headers, present) = ask(method, path, body);
            let absent = ask(method, &there.absent(path), &there.absent(body));
            assert_eq!((status, headers, there.absent(&present)), absent, "{scope:?}: {method} {path} {body}");
            assert!(matches!(status, 400 | 404), "{scope:?}: {method} {path} {body}: {status}");
        }
    }
}

#[test]
fn topics_that_are_not_granted_are_left_out_of_a_welcome_as_those_that_are_not_there() {
    let there = There::new();
    let hello = |topic: &str| {
        let token = token_of(&there.world, &ident("ann"), "topic:other", None);
        let hello = format!(r#"{{"type":"hello","topics":["{topic}"],"resume":{{"topic:{topic}":"1-1"}}}}"#);
        let heard = conversation(&there.world, &subprotocols(&format!("bearer.{token}")), &hello);
        let text = String::from_utf8_lossy(&heard).into_owned();
        let (_, streams) = text.split_once(r#""streams":"#).unwrap_or_else(|| panic!("no welcome: {text}"));
        streams.to_owned()
    };
    let positions = |text: String| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    assert_eq!(positions(hello("top-there")), positions(hello("top-wrong")));
}

fn subprotocols(entry: &str) -> String {
    format!("Sec-WebSocket-Protocol: trunkline.v1, {entry}\r\n")
}

/// All that the server says to an upgrade with these headers and a first frame.
fn conversation(world: &World, headers: &str, hello: &str) -> Vec<u8> {
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    let mut bytes = request.into_bytes();
    encode(&mut bytes, Opcode::Text, hello.as_bytes(), Some([7; 4]));
    let (mut session, mut heard) = (world.hub.session().unwrap(), Vec::new());
    let now = world.now();
    session.handle_bytes(now, &bytes);
    loop {
        session.poll_ready(now, Waker::noop());
        let some = session.transmit().to_vec();
        if some.is_empty() {
            return heard;
        }
        session.advance(now, some.len());
        heard.extend(some);
    }
}

/// Tokens that are none, each for a reason of its own.
fn bad_tokens(world: &World) -> Vec<(&'static str, String)> {
    let other = FakeKeys::new(b"another secret of at least thirty-two bytes", ClaimRules::default()).unwrap();
    let (ann, issued_at) = (ident("ann"), world.now().unix);
    let new = NewToken { user: &ann, issued_at, ttl: HOUR, scope: "", token_id: None };
    let good = FakeKeys::new(SECRET, ClaimRules::default()).unwrap().issue(&new).unwrap();
    let (head, mac) = good.rsplit_once('.').unwrap();
    let later = NewToken { issued_at: issued_at + 10 * HOUR, ..new };
    vec![
        ("of another key", other.issue(&new).unwrap()),
        ("of another key and expired", other.issue(&NewToken { ttl: Duration::ZERO, ..new }).unwrap()),
        ("with half a signature", format!("{head}.{}", &mac[..mac.len() / 2])),
        ("of the future", FakeKeys::new(SECRET, ClaimRules::default()).unwrap().issue(&later).unwrap()),
        ("without a signature to speak of", format!("{head}.AA")),
        ("of alg none", format!("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjk5OTk5OTk5OTl9.{mac}")),
        ("that is no JSON", "YQ.YQ.YQ".to_owned()),
        ("that is too long", format!("{head}.{}", "A".repeat(9_000))),
    ]
}

/// The headers and the first frame that carry a token.
type Carried = fn(&str) -> (String, String);

#[test]
fn refusals_of_one_carrier_are_alike_byte_for_byte() {
    let world = World::new();
    let carriers: [(&str, Carried); 3] = [
        ("Authorization", |token| (format!("Authorization: Bearer {token}\r\n"), r#"{"type":"hello"}"#.into())),
        ("the subprotocol", |token| (subprotocols(&format!("bearer.{token}")), r#"{"type":"hello"}"#.into())),
        ("hello", |token| (subprotocols("other"), format!(r#"{{"type":"hello","token":"{token}"}}"#))),
    ];
    for (carrier, carried) in carriers {
        let ask = |token: &str| {
            let (headers, hello) = carried(token);
            String::from_utf8_lossy(&conversation(&world, &headers, &hello)).into_owned()
        };
        let bad = bad_tokens(&world);
        let first = ask(&bad[0].1);
        assert!(!first.contains("welcome") && !first.is_empty(), "{first}");
        for (what, token) in &bad {
            if token.len() > 8_192 && carrier == "hello" {
                // Over the bound of a first message, which says so of itself: it is not looked at.
                continue;
            }
            assert_eq!(ask(token), first, "{carrier}: a token {what}");
        }
        for none in ["nonsense", "a.b", "a.b.c.d"] {
            assert_eq!(ask(none), first, "{carrier}: {none}");
        }
        // Who signed it is one whom a good token would let in: it is told to get another.
        let expired = token_of(&world, &ident("ann"), "", None);
        let revoked = token_of(&world, &ident("ann"), "", Some("gone"));
        world.hub.revoke(&ident("ann"), &RevokeTarget::Token("gone".parse().unwrap()), None);
        let revoked = ask(&revoked);
        world.clock.turn(HOUR + Duration::from_secs(6));
        let expired = ask(&expired);
        assert!(!revoked.contains("welcome") && !expired.contains("welcome"), "{revoked} {expired}");
        if carrier == "Authorization" {
            assert_eq!(expired, first);
        } else {
            assert!(expired != first && revoked != first && expired != revoked, "{carrier}: {expired} {revoked}");
        }
    }
}

#[test]
fn whoever_says_hello_as_somebody_else_is_refused_by_every_carrier() {
    let world = World::new();
    let token = token_of(&world, &ident("ann"), "", None);
    let hello = |user: &str, more: &str| format!(r#"{{"type":"hello","user_id":"{user}"{more}}}"#);
    let with_token = format!(r#","token":"{token}""#);
    let cases = [
        (format!("Authorization: Bearer {token}\r\n"), ""),
        (subprotocols(&format!("bearer.{token}")), ""),
        (subprotocols("other"), with_token.as_str()),
    ];
    for (headers, more) in cases {
        let says = |user| String::from_utf8_lossy(&conversation(&world, &headers, &hello(user, more))).into_owned();
        assert!(says("ann").contains(r#""type":"welcome""#), "{headers}");
        assert!(!says("bob").contains(r#""type":"welcome""#), "{headers}");
    }
}

/// A request's name on the wire tells who is asked nothing of how much others ask.
#[test]
fn names_of_requests_do_not_count() {
    let world = World::sharded(Limits::default(), 1);
    let hello = ProducerHello { id: frame_id("a"), users: None };
    let config = world.config(token_of(&world, &ident("agent"), "publish:ann", None), None, None);
    let mut agent = world.connect_with(ClientConfig { producer: Some(hello), ..config });
    let mut ann = world.device("ann");
    let mut names = Vec::new();
    for n in 0..20 {
        ann.say(&format!("m-{n}"), "hello");
        let asked = agent.frames().into_iter().find_map(|frame| match frame {
            ServerFrame::Request(request) => Some(request.id.as_str().to_owned()),
            _ => None,
        });
        names.push(asked.unwrap());
    }
    let numbers: Vec<u64> = names.iter().map(|name| u64::from_str_radix(&name[2..], 16).unwrap()).collect();
    assert!(names.iter().all(|name| name.starts_with("q-") && name.len() == 18), "{names:?}");
    let steps: std::collections::BTreeSet<_> = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(steps.len() > 15, "they rise by the same: {names:?}");
    // Such a name leads to its request all the same.
    ann.events();
    let reply = Reply::refused(frame_id(&names[3]), ErrorCode::Refused, "no");
    agent.send(&ClientFrame::Reply(Box::new(reply)));
    let refused = ann.replies().pop().unwrap();
    assert_eq!((refused.id.as_str(), refused.outcome.is_err()), ("m-3", true));
    assert_ne!(refused.outcome, Ok(ReplyOk::Done));
}
