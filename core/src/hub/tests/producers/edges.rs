//! Back ends that answer wrongly, do not read, lose rights or fall silent: what must hold all the same.

use serde_json::value::RawValue;
use std::task::Waker;

use super::*;
use crate::client::ClientEvent;
use crate::drive::Machine;
use crate::id::ApprovalId;

fn json(bytes: usize) -> Box<RawValue> {
    RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).unwrap()
}

fn command(id: &str, bytes: usize) -> ClientFrame {
    ClientFrame::Command { id: frame_id(id), name: "c".into(), args: Some(json(bytes)), key: None }
}

fn answer(pair: &mut Pair, id: crate::id::FrameId, outcome: Result<ReplyOk, ReplyError>) {
    pair.send(&ClientFrame::Reply(Box::new(Reply { id, outcome })));
}

fn refresh(pair: &mut Pair, token: &str) -> Vec<ServerFrame> {
    let token = crate::protocol::Token::new(token);
    pair.send(&ClientFrame::Refresh { id: frame_id("refresh"), token });
    pair.frames()
}

/// One look of the server's task at a socket whose peer reads nothing.
fn look(world: &World, pair: &mut Pair) {
    let now = world.now();
    let session = pair.session.as_mut().unwrap();
    session.handle_timeout(now);
    session.poll_ready(now, Waker::noop());
}

/// Gives the server more to say than the socket takes.
fn stuff(world: &World, agent: &mut Pair, ann: &mut Pair) {
    for n in 0..6 {
        ann.send(&command(&format!("c{n}"), 60_000));
        look(world, agent);
    }
    assert!(!agent.session.as_ref().unwrap().wants_read());
}

#[test]
fn a_message_is_accepted_by_its_run_alone() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    ann.say("m", "hi");
    let asked = requests(&mut agent).pop().unwrap();
    answer(&mut agent, asked.id, Ok(ReplyOk::Done));
    assert_eq!(ann.replies(), [], "nothing is in the log, and no run starts");
    world.sleep(Limits::default().request_deadline, &mut [&mut ann]);
    assert_eq!(error(&ann.replies()[0]), ("unavailable", true));
}

#[test]
fn a_command_has_a_result_whatever_the_producer_leaves_out() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    ann.send(&command("c", 1));
    let asked = requests(&mut agent).pop().unwrap();
    answer(&mut agent, asked.id, Ok(ReplyOk::Done));
    assert_eq!(ann.replies(), [Reply::ok(frame_id("c"), ReplyOk::Result(RawValue::NULL.to_owned()))]);
}

#[test]
fn an_answer_that_is_too_large_for_its_user_is_said_to_be() {
    let world = World::new();
    let room = Limits::default().control_bytes / 2;
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    for (n, bytes, fits) in [(0, room - 2, true), (1, room - 1, false), (2, 4 * room, false)] {
        let id = format!("c{n}");
        ann.send(&command(&id, 1));
        let asked = requests(&mut agent).pop().unwrap();
        answer(&mut agent, asked.id, Ok(ReplyOk::Result(json(bytes))));
        let replies = ann.replies();
        assert_eq!(ann.closed_with(), None, "{bytes} bytes");
        assert_eq!(replies[0].outcome.is_ok(), fits, "{bytes} bytes");
    }
    ann.send(&command("e", 1));
    let asked = requests(&mut agent).pop().unwrap();
    let long = ReplyError::new(crate::error::ErrorCode::Refused, "x".repeat(2 * room));
    answer(&mut agent, asked.id, Err(long));
    assert_eq!(error(&ann.replies()[0]).0, "too_large");
}

#[test]
fn a_producer_that_may_not_act_for_a_user_any_more_lets_go_of_the_users_runs_and_requests() {
    let world = World::new();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    let mut agent = producer(&world, "a");
    let (anns, _) = send_start(&mut agent, start("s", "ann")).unwrap();
    let (bobs, _) = send_start(&mut agent, start("s", "bob")).unwrap();
    ann.say("m", "hi");
    bob.say("m", "hi");
    assert_eq!(requests(&mut agent).len(), 2);
    let mut other = producer(&world, "b");
    let said = refresh(&mut agent, &token(&world, "agent", "publish:bob", None));
    assert!(matches!(&said[..], [ServerFrame::Reply(reply)] if reply.outcome.is_ok()), "{said:?}");
    let moved = requests(&mut other);
    assert_eq!(moved.iter().map(|request| request.user_id.as_str()).collect::<Vec<_>>(), ["ann"]);
    ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Id(anns) });
    bob.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Id(bobs) });
    let told = requests(&mut agent);
    assert_eq!(told.iter().map(|request| request.user_id.as_str()).collect::<Vec<_>>(), ["bob"]);
    assert_eq!(event(&mut agent, bobs, 1, completed()), []);
    ann.events();
    world.sleep(Limits::default().run_lease, &mut [&mut ann]);
    assert_eq!(kinds(&mut ann), [EventKind::AgentFailed]);
}

#[test]
fn the_end_of_a_producer_does_not_wait_behind_what_it_does_not_read() {
    for revoked in [true, false] {
        let world = World::new();
        let mut agent = producer_with(&world, "a", "publish", None, Some("jti"));
        let mut ann = world.device("ann");
        stuff(&world, &mut agent, &mut ann);
        let (expected, _new) = if revoked {
            world.hub.revoke(&ident("agent"), &RevokeTarget::Token("jti".parse().unwrap()), None);
            (CloseReason::TokenRevoked, None)
        } else {
            (CloseReason::Superseded, Some(producer(&world, "a")))
        };
        look(&world, &mut agent);
        assert_eq!(agent.session.as_ref().unwrap().close_reason(), Some(expected));
    }
}

#[test]
fn what_users_ask_leaves_room_for_what_a_run_must_be_told() {
    let limits = Limits { producer_control_bytes: 256 << 10, ..Limits::default() };
    let world = World::with(limits);
    let mut agent = producer(&world, "a");
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    let (run, _) = send_start(&mut agent, start("s", "bob")).unwrap();
    let approval_id = ApprovalId::new("x").unwrap();
    let wait = RunEvent::Suspended { approval_id: Some(approval_id.clone()), question: None };
    assert_eq!(event(&mut agent, run, 1, wait), []);
    let mut refused = 0;
    for n in 0..6 {
        ann.send(&command(&format!("c{n}"), 60_000));
        refused += ann.replies().len();
    }
    assert!(refused > 0, "the mailbox is as full as requests may make it");
    bob.send(&ClientFrame::Approve {
        id: frame_id("y"),
        approval_id,
        decision: "allow".into(),
        data: Some(json(50_000)),
    });
    agent.pump();
    assert!(agent.is_in(), "{:?}", agent.closed_with());
    assert!(requests(&mut agent).iter().any(|request| matches!(request.body, RequestBody::Approve { .. })));
}

#[test]
fn a_producer_that_has_no_room_for_the_announcement_of_a_shutdown_is_closed() {
    let limits = Limits { control_bytes: 512, producer_control_bytes: 512, ..Limits::default() };
    let world = World::with(limits);
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    let runs: Vec<RunId> = (0..4).map(|_| send_start(&mut agent, start("s", "ann")).unwrap().0).collect();
    for run in runs {
        ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Id(run) });
    }
    world.hub.begin_shutdown();
    agent.pump();
    assert_eq!(agent.closed_with(), Some(CloseReason::WriteStalled.code()));
}

#[test]
fn a_producers_welcome_says_what_a_producer_may_send() {
    let world = World::new();
    let limits = Limits::default();
    let welcomed = |pair: &mut Pair| {
        let events = pair.events();
        let welcome = events.into_iter().find_map(|event| match event {
            ClientEvent::Welcome(welcome) => Some(welcome.limits),
            ClientEvent::Frame(_) | ClientEvent::Event(_) => None,
        });
        welcome.expect("a welcome")
    };
    let of_producer = welcomed(&mut producer(&world, "a"));
    assert_eq!(of_producer.message_bytes, limits.producer_message_bytes as u64);
    assert_eq!(of_producer.messages_per_second, limits.producer_messages_per_second);
    assert_eq!(of_producer.message_burst, limits.producer_message_burst);
    let of_device = welcomed(&mut world.device("ann"));
    assert_eq!(of_device.message_bytes, limits.message_bytes as u64);
    assert_eq!(of_device.messages_per_second, limits.messages_per_second);
}

#[test]
fn an_ephemeral_event_that_no_device_could_be_given_is_refused() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    let publish = |bytes| ClientFrame::Publish {
        id: Some(frame_id("p")),
        target: PublishTarget::User("ann".into()),
        thread_id: None,
        name: "typing".into(),
        data: json(bytes),
        key: None,
        ephemeral: Some(true),
    };
    let room = Limits::default().control_bytes / 2;
    agent.send(&publish(room));
    assert_eq!(error(&agent.replies()[0]).0, "too_large");
    agent.send(&publish(room - 200));
    assert_eq!(agent.replies()[0].outcome, Ok(ReplyOk::Receipt(Receipt::DeliveredTo(1))));
    assert_eq!(ann.frames().len(), 1);
}

/// The server's task runs for so many seconds, in which nothing comes from the peer; `reads` is whether it takes bytes.
fn in_silence(world: &World, agent: &mut Pair, seconds: u64, reads: bool) {
    for _ in 0..seconds {
        world.clock.turn(Duration::from_secs(1));
        if agent.session.is_some() {
            look(world, agent);
            let session = agent.session.as_mut().unwrap();
            if reads {
                let bytes = session.transmit().len();
                session.advance(world.now(), bytes);
            }
        }
        world.keeper.handle_timeout();
    }
}

#[test]
fn the_silence_of_a_producer_whose_socket_takes_nothing_is_seen_within_its_lease() {
    let world = World::new();
    let mut ann = world.device("ann");
    let mut agent = producer(&world, "a");
    send_start(&mut agent, RunStart { lease: Some(6.0), ..start("s", "ann") }).unwrap();
    ann.events();
    in_silence(&world, &mut agent, 5, false);
    assert_eq!(kinds(&mut ann), []);
    in_silence(&world, &mut agent, 1, false);
    assert_eq!(kinds(&mut ann), [EventKind::AgentFailed]);
}

#[test]
fn who_takes_a_run_over_is_watched_by_the_lease_that_the_run_has() {
    let world = World::new();
    let mut ann = world.device("ann");
    let mut first = producer(&world, "a");
    let (run, _) = send_start(&mut first, RunStart { lease: Some(6.0), ..start("s", "ann") }).unwrap();
    first.cut();
    let mut second = producer(&world, "b");
    send_start(&mut second, RunStart { run_id: Some(run), ..start("s", "ann") }).unwrap();
    ann.events();
    in_silence(&world, &mut second, 6, true);
    assert_eq!(kinds(&mut ann), [EventKind::AgentFailed]);
}

#[test]
fn a_producer_that_is_not_read_lives_by_what_its_socket_takes() {
    let world = World::new();
    let mut ann = world.device("ann");
    let mut agent = producer(&world, "a");
    send_start(&mut agent, start("s", "ann")).unwrap();
    ann.events();
    stuff(&world, &mut agent, &mut ann);
    for _ in 0..12 {
        in_silence(&world, &mut agent, 10, false);
        agent.session.as_mut().expect("it is there").advance(world.now(), 1);
    }
    agent.cut();
    world.sleep(Limits::default().run_lease - Duration::from_secs(1), &mut [&mut ann]);
    assert_eq!(kinds(&mut ann), [], "its lease began with its last sign of life");
    world.sleep(Duration::from_secs(1), &mut [&mut ann]);
    assert_eq!(kinds(&mut ann), [EventKind::AgentFailed]);
}

/// Frames that no client of this crate would send.
fn send_raw(world: &World, pair: &mut Pair, text: &str) {
    let mut bytes = Vec::new();
    crate::codec::frame::encode(&mut bytes, crate::codec::frame::Opcode::Text, text.as_bytes(), Some([7; 4]));
    pair.session.as_mut().unwrap().handle_bytes(world.now(), &bytes);
    pair.pump();
}

#[test]
fn an_event_that_cannot_be_read_is_refused_by_its_number_and_has_used_it() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let (run, _) = send_start(&mut agent, start("s", "ann")).unwrap();
    let frame = |n: u64, more: &str| format!(r#"{{"type":"run_event","run_id":"{run}","n":{n},{more}}}"#);
    let unreadable = [
        (r#""event":{"type":"agent_thinking"}"#, "invalid"),
        (r#""event":{"type":"agent_sings"}"#, "invalid"),
        (r#""user_id":"ann","event":{"type":"agent_thinking","thought":"hm"}"#, "identity_mismatch"),
    ];
    for (n, (more, expected)) in (1..).zip(unreadable) {
        send_raw(&world, &mut agent, &frame(n, more));
        let frames = agent.frames();
        assert!(
            matches!(&frames[..], [ServerFrame::Error { code, run_id: Some(of), n: Some(number), .. }]
                if code.as_str() == expected && *of == run && *number == n),
            "{frames:?}"
        );
    }
    send_raw(&world, &mut agent, &frame(9, r#""id":"x","event":{}"#));
    assert_eq!(error(&agent.replies()[0]).0, "run_order", "it was not its turn");
    assert_eq!(event(&mut agent, run, 4, completed()), []);
}

#[test]
fn what_is_remembered_of_a_revocation_is_as_short_as_a_tokens_id() {
    use crate::id::MAX_TOKEN_ID_BYTES;
    let world = World::new();
    let mut root = world.connect(token(&world, "root", "admin", None), None, None);
    for (bytes, fits) in [(MAX_TOKEN_ID_BYTES, true), (MAX_TOKEN_ID_BYTES + 1, false)] {
        let token_id = "x".repeat(bytes);
        send_raw(
            &world,
            &mut root,
            &format!(r#"{{"type":"revoke","id":"r","user_id":"ann","token_id":"{token_id}"}}"#),
        );
        assert_eq!(root.replies()[0].outcome.is_ok(), fits, "{bytes} bytes");
    }
}

#[test]
fn a_session_that_stands_on_an_older_token_ends_with_it() {
    let world = World::new();
    let issue = |seconds: u64, jti: &str| {
        let issuer = FakeKeys::new(super::super::harness::SECRET, ClaimRules::default()).unwrap();
        let (issued_at, ttl) = (world.now().unix, Duration::from_secs(seconds));
        issuer.issue(&NewToken { user: &ident("ann"), issued_at, ttl, scope: "", token_id: Some(jti) }).unwrap()
    };
    let mut ann = world.connect(issue(3_600, "long"), None, None);
    let token = crate::protocol::Token::new(&issue(60, "short"));
    ann.send(&ClientFrame::Refresh { id: frame_id("r"), token });
    assert!(ann.replies()[0].outcome.is_ok());
    let closed = world.hub.revoke(&ident("ann"), &RevokeTarget::Token("long".parse().unwrap()), None);
    assert_eq!(closed, 1);
    ann.pump();
    assert_eq!(ann.closed_with(), Some(CloseReason::TokenRevoked.code()));
}

#[test]
fn a_request_that_waits_for_a_producer_is_not_given_to_one_that_has_lost_its_user() {
    let world = World::new();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    let mut agent = producer(&world, "a");
    agent.frames();
    ann.say("m", "for ann's agents alone");
    bob.say("m", "hi");
    let mut other = producer(&world, "b");
    // The refresh is read before what has been put into the mailbox.
    let narrower = token(&world, "agent", "publish:bob", None);
    agent.client.refresh(crate::protocol::Token::new(&narrower));
    let bytes = agent.client.transmit().to_vec();
    agent.client.advance(bytes.len());
    agent.session.as_mut().unwrap().handle_bytes(world.now(), &bytes);
    let users = |pair: &mut Pair| requests(pair).into_iter().map(|asked| asked.user_id).collect::<Vec<_>>();
    assert_eq!((users(&mut agent), users(&mut other)), (vec!["bob".to_owned()], vec!["ann".to_owned()]));
}

#[test]
fn a_lease_from_one_second_to_the_longest_is_taken_and_a_millisecond_outside_is_not() {
    let world = World::with(Limits { run_lease_max: Duration::from_secs(60), ..Limits::default() });
    let mut agent = producer(&world, "a");
    for (lease, good) in [(1.0, true), (60.0, true), (0.999, false), (60.001, false)] {
        let started = send_start(&mut agent, RunStart { lease: Some(lease), ..start("s", "ann") });
        assert_eq!(started.is_ok(), good, "{lease}");
    }
}
