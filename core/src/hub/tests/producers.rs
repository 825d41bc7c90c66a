//! Back ends over the wire: what they are asked, what they start, and what becomes of it when they go.

mod edges;

use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident, message, thread};
use crate::auth::fake::FakeKeys;
use crate::auth::{ClaimRules, NewToken};
use crate::client::ClientConfig;
use crate::error::CloseReason;
use crate::id::{RunId, SessionId};
use crate::limits::Limits;
use crate::protocol::{
    ClientFrame, EventBody, EventKind, FailReason, OrderPolicy, ProducerHello, PublishTarget, Receipt, Reply,
    ReplyError, ReplyOk, Request, RequestBody, RevokeTarget, RunEvent, RunRef, RunStart, ServerFrame,
};

const HOUR: Duration = Duration::from_secs(3600);

fn token(world: &World, sub: &str, scope: &str, token_id: Option<&str>) -> String {
    let issuer = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
    issuer.issue(&NewToken { user: &ident(sub), issued_at: world.now().unix, ttl: HOUR, scope, token_id }).unwrap()
}

fn producer_with(world: &World, id: &str, scope: &str, users: Option<&[&str]>, token_id: Option<&str>) -> Pair {
    let users = users.map(|users| users.iter().map(|&user| user.to_owned()).collect());
    let hello = ProducerHello { id: frame_id(id), users };
    let config = world.config(token(world, "agent", scope, token_id), None, None);
    world.connect_with(ClientConfig { producer: Some(hello), ..config })
}

pub(super) fn producer(world: &World, id: &str) -> Pair {
    producer_with(world, id, "publish", None, None)
}

fn start(id: &str, user: &str) -> RunStart {
    RunStart {
        id: frame_id(id),
        user_id: user.into(),
        thread_id: thread("t"),
        run_id: None,
        parent_run_id: None,
        agent_name: "calculator".into(),
        message: None,
        key: None,
        lease: None,
        order: None,
        on_disconnect: None,
        grace: None,
    }
}

fn send_start(pair: &mut Pair, start: RunStart) -> Result<(RunId, u64), String> {
    pair.send(&ClientFrame::RunStart(Box::new(start)));
    match pair.replies().pop().expect("an answer").outcome {
        Ok(ReplyOk::RunStarted { run_id, last_n }) => Ok((run_id, last_n)),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code.as_str().to_owned()),
    }
}

/// Without an `id`; answers the refusals that came.
fn event(pair: &mut Pair, run_id: RunId, n: u64, event: RunEvent) -> Vec<(String, Option<u64>)> {
    pair.send(&ClientFrame::RunEvent { id: None, run_id, n, event });
    let frames = pair.frames();
    let refusals = frames.into_iter().map(|frame| match frame {
        ServerFrame::Error { code, n, run_id: of, .. } => {
            assert_eq!(of, Some(run_id));
            (code.as_str().to_owned(), n)
        }
        other => panic!("{other:?}"),
    });
    refusals.collect()
}

fn thinking() -> RunEvent {
    RunEvent::Thinking { thought: "hm".into(), step: None, progress: None }
}

fn completed() -> RunEvent {
    RunEvent::Completed { final_response: Some("14".into()), result: None }
}

fn requests(pair: &mut Pair) -> Vec<Request> {
    let frames = pair.frames().into_iter();
    frames.filter_map(|frame| if let ServerFrame::Request(request) = frame { Some(*request) } else { None }).collect()
}

fn kinds(pair: &mut Pair) -> Vec<EventKind> {
    pair.kinds()
}

#[test]
fn a_message_goes_to_a_producer_and_its_run_to_every_device() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let (mut ann, mut phone, mut bob) = (world.device("ann"), world.device("ann"), world.device("bob"));
    ann.say("m", "what is 2*(3+4)?");
    let asked = requests(&mut agent).pop().unwrap();
    let RequestBody::UserMessage { run_id, content, .. } = asked.body else { panic!() };
    assert_eq!((asked.user_id.as_str(), content.as_str()), ("ann", "what is 2*(3+4)?"));
    let started = send_start(&mut agent, RunStart { run_id: Some(run_id), ..start("s", "ann") });
    assert_eq!(started, Ok((run_id, 0)));
    assert_eq!(ann.replies()[0].outcome, Ok(ReplyOk::Run { run_id }));
    let part = crate::id::PartId::new("answer").unwrap();
    let events = [
        thinking(),
        RunEvent::ToolExecuting {
            tool_call_id: Some(crate::id::ToolCallId::new("c").unwrap()),
            tool_name: "x".into(),
            parameters: None,
        },
        RunEvent::ToolCompleted {
            tool_call_id: crate::id::ToolCallId::new("c").unwrap(),
            results: None,
            success: None,
            error: None,
        },
        RunEvent::Delta { part_id: part, offset: None, text: "14".into() },
        completed(),
    ];
    for (n, one) in (1..).zip(events) {
        assert_eq!(event(&mut agent, run_id, n, one), []);
    }
    let expected = [
        EventKind::UserMessage,
        EventKind::AgentStarted,
        EventKind::AgentThinking,
        EventKind::ToolExecuting,
        EventKind::ToolCompleted,
        EventKind::AgentDelta,
        EventKind::AgentCompleted,
    ];
    // Ann's device has taken the first ones with its reply.
    assert_eq!(kinds(&mut phone), expected);
    assert_eq!(kinds(&mut ann)[..], expected[expected.len() - 5..]);
    assert_eq!(kinds(&mut bob), []);
    assert_eq!(event(&mut agent, run_id, 6, thinking()), [("run_ended".to_owned(), Some(6))]);
}

#[test]
fn a_runs_policy_decides_about_disorder() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    for (policy, kinds, flaw) in [
        (OrderPolicy::Reject, vec![], false),
        (OrderPolicy::Repair, vec![EventKind::ToolCompleted, EventKind::AgentCompleted], false),
        (OrderPolicy::Flag, vec![EventKind::AgentCompleted], true),
    ] {
        let (run, _) = send_start(&mut agent, RunStart { order: Some(policy), ..start("s", "ann") }).unwrap();
        let tool = RunEvent::ToolExecuting { tool_call_id: None, tool_name: "x".into(), parameters: None };
        assert_eq!(event(&mut agent, run, 1, tool), []);
        ann.events();
        let refused = event(&mut agent, run, 2, completed());
        assert_eq!(refused.is_empty(), policy != OrderPolicy::Reject, "{refused:?}");
        let came = ann.stream();
        assert_eq!(came.iter().map(|event| event.body.kind()).collect::<Vec<_>>(), kinds);
        assert_eq!(came.last().is_some_and(|event| event.flaw.is_some()), flaw);
        let numbers: Vec<_> = came.iter().map(|event| event.run_seq.unwrap()).collect();
        assert_eq!(numbers, (3..3 + kinds.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn requests_go_to_those_who_want_the_user_in_turns_and_to_nobody_else() {
    let world = World::new();
    let mut all = producer_with(&world, "a", "publish", None, None);
    let mut anns = producer_with(&world, "b", "publish", Some(&["ann"]), None);
    let mut bobs = producer_with(&world, "c", "publish:bob", None, None);
    let mut ann = world.device("ann");
    for n in 0..4 {
        ann.say(&format!("m{n}"), "hi");
    }
    assert_eq!((requests(&mut all).len(), requests(&mut anns).len(), requests(&mut bobs).len()), (2, 2, 0));
}

#[test]
fn the_scope_is_the_bound_of_what_a_producer_may_do() {
    let world = World::new();
    for (scope, users) in [("topic:news", None), ("publish:ann", Some(["bob"].as_slice()))] {
        let refused = producer_with(&world, "a", scope, users, None);
        assert_eq!(refused.closed_with(), Some(CloseReason::Forbidden.code()), "{scope}");
    }
    let mut agent = producer_with(&world, "a", "publish:ann", None, None);
    assert_eq!(send_start(&mut agent, start("s", "bob")), Err("not_found".into()));
    let (run, _) = send_start(&mut agent, start("s", "ann")).unwrap();
    let mut rival = producer_with(&world, "r", "publish:bob", None, None);
    assert_eq!(event(&mut rival, run, 1, thinking()), [("not_found".to_owned(), Some(1))], "not even that it is there");
    let taken = RunStart { run_id: Some(run), ..start("s", "bob") };
    assert_eq!(send_start(&mut rival, taken), Err("not_found".into()));
}

#[test]
fn nobody_there_is_said_at_once_and_a_producer_that_is_silent_at_the_deadline() {
    let world = World::new();
    let mut ann = world.device("ann");
    ann.say("m", "hi");
    assert_eq!(error(&ann.replies()[0]), ("unavailable", true));
    let mut agent = producer(&world, "a");
    ann.say("n", "hi");
    assert_eq!(requests(&mut agent).len(), 1);
    world.sleep(Limits::default().request_deadline, &mut [&mut ann]);
    assert_eq!(error(&ann.replies()[0]), ("unavailable", true));
}

fn error(reply: &Reply) -> (&str, bool) {
    let error = reply.outcome.as_ref().unwrap_err();
    (error.code.as_str(), error.temporary)
}

#[test]
fn a_producers_answer_is_the_users() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    ann.send(&ClientFrame::Command { id: frame_id("c"), name: "rename".into(), args: None, key: None });
    let asked = requests(&mut agent).pop().unwrap();
    let result = serde_json::value::RawValue::from_string("{\"renamed\":true}".into()).unwrap();
    let answer = Reply::ok(asked.id, ReplyOk::Result(result.clone()));
    agent.send(&ClientFrame::Reply(Box::new(answer.clone())));
    assert_eq!(ann.replies(), [Reply::ok(frame_id("c"), ReplyOk::Result(result))]);
    agent.send(&ClientFrame::Reply(Box::new(answer)));
    assert_eq!((ann.replies(), agent.frames()), (vec![], vec![]), "once");
    ann.say("m", "hi");
    let asked = requests(&mut agent).pop().unwrap();
    let mut refusal = ReplyError::new(crate::error::ErrorCode::Refused, "not today");
    refusal.temporary = true;
    agent.send(&ClientFrame::Reply(Box::new(Reply { id: asked.id, outcome: Err(refusal.clone()) })));
    assert_eq!(ann.replies()[0].outcome, Err(refusal));
}

#[test]
fn a_producer_answers_only_for_users_its_token_names() {
    let world = World::new();
    let mut agent = producer_with(&world, "a", "publish:ann", None, None);
    let mut rival = producer_with(&world, "r", "publish:bob", None, None);
    let mut ann = world.device("ann");
    ann.say("m", "hi");
    let asked = requests(&mut agent).pop().unwrap();
    rival.send(&ClientFrame::Reply(Box::new(Reply::ok(asked.id, ReplyOk::Done))));
    assert_eq!(ann.replies(), []);
}

#[test]
fn what_a_lost_producer_was_asked_goes_to_the_next() {
    let world = World::new();
    let mut first = producer(&world, "a");
    let mut ann = world.device("ann");
    ann.say("m", "hi");
    assert_eq!(requests(&mut first).len(), 1);
    let mut second = producer(&world, "b");
    first.cut();
    assert_eq!(requests(&mut second).len(), 1);
    second.cut();
    // Nobody is there now: whoever comes in time is asked.
    let mut third = producer(&world, "c");
    let asked = requests(&mut third).pop().unwrap();
    let RequestBody::UserMessage { run_id, .. } = asked.body else { panic!() };
    send_start(&mut third, RunStart { run_id: Some(run_id), ..start("s", "ann") }).unwrap();
    assert_eq!(ann.replies()[0].outcome, Ok(ReplyOk::Run { run_id }));
}

#[test]
fn a_producer_that_goes_ends_its_runs_after_the_lease_and_one_that_comes_back_goes_on() {
    let world = World::new();
    let mut ann = world.device("ann");
    let mut agent = producer(&world, "a");
    let (kept, _) = send_start(&mut agent, RunStart { lease: Some(20.0), ..start("s", "ann") }).unwrap();
    let (lost, _) = send_start(&mut agent, RunStart { lease: Some(20.0), ..start("s", "ann") }).unwrap();
    assert_eq!(event(&mut agent, kept, 1, thinking()), []);
    agent.cut();
    world.sleep(Duration::from_secs(19), &mut [&mut ann]);
    ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Id(kept) });
    let mut agent = producer(&world, "a");
    let again = RunStart { run_id: Some(kept), ..start("s", "ann") };
    agent.send(&ClientFrame::RunStart(Box::new(again)));
    let frames = agent.frames();
    assert!(
        matches!(&frames[..], [ServerFrame::Reply(reply), ServerFrame::Request(request)]
        if matches!(&reply.outcome, Ok(ReplyOk::RunStarted { last_n: 1, .. }))
            && matches!(&request.body, RequestBody::CancelRun { run_id, .. } if *run_id == kept)),
        "{frames:?}"
    );
    ann.events();
    world.sleep(Duration::from_secs(1), &mut [&mut ann]);
    let ended = ann.stream();
    assert_eq!(ended.len(), 1);
    assert!(matches!(&ended[0].body, EventBody::AgentFailed { reason: FailReason::ProducerLost, .. }));
    assert_eq!(ended[0].run_id, Some(lost));
    assert_eq!(event(&mut agent, kept, 2, completed()), []);
    assert_eq!(kinds(&mut ann), [EventKind::AgentCompleted]);
}

#[test]
fn a_lease_runs_from_the_end_of_the_connection_however_long_the_producer_had_said_nothing() {
    let world = World::new();
    let mut ann = world.device("ann");
    let mut agent = producer(&world, "a");
    send_start(&mut agent, RunStart { lease: Some(20.0), ..start("s", "ann") }).unwrap();
    ann.events();
    world.clock.turn(Duration::from_secs(6));
    agent.cut();
    world.sleep(Duration::from_secs(19), &mut [&mut ann]);
    assert_eq!(kinds(&mut ann), []);
    world.sleep(Duration::from_secs(1), &mut [&mut ann]);
    assert_eq!(kinds(&mut ann), [EventKind::AgentFailed]);
}

#[test]
fn the_silence_of_a_producer_is_seen_within_its_lease() {
    let world = World::new();
    let mut ann = world.device("ann");
    let mut agent = producer(&world, "a");
    send_start(&mut agent, RunStart { lease: Some(6.0), ..start("s", "ann") }).unwrap();
    ann.events();
    // The socket stays open and the server's ping is never answered.
    let mut session = agent.session.take().unwrap();
    for second in 1..=6 {
        assert_eq!(kinds(&mut ann), [], "in second {second}");
        world.clock.turn(Duration::from_secs(1));
        let now = world.now();
        crate::drive::Machine::handle_timeout(&mut session, now);
        crate::drive::Machine::poll_ready(&mut session, now, std::task::Waker::noop());
        let bytes = crate::drive::Machine::transmit(&session).len();
        crate::drive::Machine::advance(&mut session, now, bytes);
        world.keeper.handle_timeout();
    }
    assert_eq!(kinds(&mut ann), [EventKind::AgentFailed]);
}

#[test]
fn the_same_producer_again_supersedes_its_half_open_socket_and_takes_its_runs() {
    let world = World::new();
    let mut old = producer(&world, "a");
    let (run, _) = send_start(&mut old, start("s", "ann")).unwrap();
    let mut new = producer(&world, "a");
    let again = RunStart { run_id: Some(run), ..start("s", "ann") };
    assert_eq!(send_start(&mut new, again), Ok((run, 0)));
    old.pump();
    assert_eq!(old.closed_with(), Some(CloseReason::Superseded.code()));
    world.sleep(Limits::default().run_lease * 2, &mut [&mut new]);
    assert_eq!(event(&mut new, run, 1, completed()), [], "the late end of the old one takes nothing");
}

#[test]
fn a_publish_arrives_once_by_its_key_and_an_ephemeral_one_leaves_no_trace() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let mut ann = world.device("ann");
    let publish = |target, key: Option<&str>, ephemeral| ClientFrame::Publish {
        id: Some(frame_id("p")),
        target,
        thread_id: None,
        name: "typing".into(),
        data: serde_json::value::RawValue::from_string("1".into()).unwrap(),
        key: key.map(|key| key.parse().unwrap()),
        ephemeral: Some(ephemeral),
    };
    let to_ann = || PublishTarget::User("ann".into());
    for _ in 0..2 {
        agent.send(&publish(to_ann(), Some("k"), false));
        assert_eq!(agent.replies()[0].outcome, Ok(ReplyOk::Receipt(Receipt::DeliveredTo(1))));
    }
    agent.send(&publish(to_ann(), None, true));
    assert_eq!(agent.replies()[0].outcome, Ok(ReplyOk::Receipt(Receipt::DeliveredTo(1))));
    let events = ann.events();
    assert_eq!(events.len(), 3, "the welcome, one event and one for now: {events:?}");
    let news = || PublishTarget::Topic("news".parse().unwrap());
    for _ in 0..2 {
        agent.send(&publish(news(), Some("k"), false));
        assert_eq!(agent.replies()[0].outcome, Ok(ReplyOk::Receipt(Receipt::Stored)));
    }
    agent.send(&publish(news(), None, true));
    assert_eq!(agent.replies()[0].outcome, Ok(ReplyOk::Receipt(Receipt::DeliveredTo(0))));
    let log = world.hub.counts();
    assert_eq!((log.users, log.topics), (1, 1));
    agent.send(&publish(PublishTarget::User("nobody".into()), None, false));
    assert_eq!(agent.replies()[0].outcome, Ok(ReplyOk::Receipt(Receipt::Stored)));
}

#[test]
fn a_revoked_session_or_token_is_closed_and_stays_out() {
    let world = World::new();
    let admin = |id: &str| {
        let config = world.config(token(&world, "root", "admin", None), None, None);
        let _ = id;
        world.connect_with(config)
    };
    let mut root = admin("r");
    let with =
        |jti: &str, session: Option<SessionId>| world.connect(token(&world, "ann", "", Some(jti)), None, session);
    let (mut laptop, mut phone) = (with("one", None), with("two", None));
    let session = phone.client.session().unwrap();
    let revoke = |target| ClientFrame::Revoke { id: frame_id("x"), user_id: "ann".into(), target, expires: None };
    root.send(&revoke(RevokeTarget::Token("one".parse().unwrap())));
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 1 }));
    root.send(&revoke(RevokeTarget::Session(session)));
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 1 }));
    for device in [&mut laptop, &mut phone] {
        device.pump();
        assert_eq!(device.closed_with(), Some(CloseReason::TokenRevoked.code()));
    }
    assert_eq!(with("one", None).closed_with(), Some(CloseReason::TokenRevoked.code()));
    assert_eq!(with("three", Some(session)).closed_with(), Some(CloseReason::TokenRevoked.code()));
    let mut fresh = with("three", None);
    assert!(fresh.is_in(), "another token of the user's holds");
    let token = crate::protocol::Token::new(&token(&world, "ann", "", Some("one")));
    fresh.send(&ClientFrame::Refresh { id: frame_id("r"), token });
    assert_eq!(error(&fresh.replies()[0]).0, "refresh_refused");
    let mut agent = producer_with(&world, "a", "publish", None, Some("agents"));
    root.send(&ClientFrame::Revoke {
        id: frame_id("x"),
        user_id: "agent".into(),
        target: RevokeTarget::Token("agents".parse().unwrap()),
        expires: None,
    });
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 1 }));
    agent.pump();
    assert_eq!(agent.closed_with(), Some(CloseReason::TokenRevoked.code()));
    let again = producer_with(&world, "a", "publish", None, Some("agents"));
    assert_eq!(again.closed_with(), Some(CloseReason::TokenRevoked.code()));
    fresh.send(&revoke(RevokeTarget::Token("three".parse().unwrap())));
    assert_eq!(error(&fresh.replies()[0]).0, "not_found", "without the scope it does not exist");
}

#[test]
fn a_producer_over_its_rate_is_read_more_slowly_and_loses_nothing() {
    let limits = Limits { producer_messages_per_second: 100, producer_message_burst: 10, ..Limits::default() };
    let world = World::with(limits);
    let mut ann = world.device("ann");
    let mut agent = producer(&world, "a");
    let (run, _) = send_start(&mut agent, start("s", "ann")).unwrap();
    ann.events();
    for n in 1..=100 {
        agent.client.send(&ClientFrame::RunEvent { id: None, run_id: run, n, event: thinking() });
    }
    agent.pump();
    let first = kinds(&mut ann).len();
    assert!(first <= 10, "{first}");
    let mut came = first;
    for _ in 0..100 {
        world.sleep(Duration::from_millis(10), &mut [&mut agent]);
        came += kinds(&mut ann).len();
    }
    assert_eq!(came, 100);
    assert_eq!(agent.frames(), []);
    assert!(agent.is_in());
}

#[test]
fn a_producer_is_no_device_and_takes_no_frames_of_users() {
    let world = World::new();
    let mut agent = producer(&world, "a");
    let mut own = world.device("agent");
    agent.send(&message("m", None, "hi"));
    assert_eq!(error(&agent.replies()[0]).0, "unexpected");
    own.say("m", "hi");
    assert_eq!(requests(&mut agent).len(), 1, "it answers for its own user like for any other");
    assert_eq!(world.hub.counts().connections, 1);
}

#[test]
fn producers_are_told_of_the_shutdown_and_are_capped_at_n() {
    let world = World::with(Limits { producers: 1, ..Limits::default() });
    let mut one = producer(&world, "a");
    assert_eq!(producer(&world, "b").closed_with(), Some(CloseReason::TryAgainLater.code()));
    world.hub.begin_shutdown();
    assert!(one.frames().iter().any(|frame| matches!(frame, ServerFrame::GoingAway { .. })));
}

#[test]
fn a_producer_goes_last_since_devices_wait_for_the_ends_of_its_texts() {
    let world = World::new();
    let (mut agent, mut idle) = (producer(&world, "a"), producer(&world, "b"));
    let mut ann = world.device("ann");
    let (run, _) = send_start(&mut agent, start("s", "ann")).unwrap();
    let part = crate::id::PartId::new("answer").unwrap();
    agent.send(&ClientFrame::RunEvent {
        id: None,
        run_id: run,
        n: 1,
        event: RunEvent::Delta { part_id: part, offset: None, text: "in the middle".into() },
    });
    world.hub.begin_shutdown();
    ann.pump();
    agent.frames();
    idle.frames();
    for _ in 0..10 {
        world.sleep(Duration::from_millis(100), &mut [&mut ann, &mut agent, &mut idle]);
        assert!(ann.is_in() && agent.is_in() && idle.is_in());
    }
    assert_eq!(event(&mut agent, run, 2, completed()), []);
    assert_eq!(kinds(&mut ann).last(), Some(&EventKind::AgentCompleted));
    assert_eq!(ann.closed_with(), Some(1012));
    world.sleep(Duration::from_millis(100), &mut [&mut agent, &mut idle]);
    assert_eq!((agent.closed_with(), idle.closed_with()), (Some(1012), Some(1012)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(world.hub.poll_shutdown(&mut cx).is_ready());
}
