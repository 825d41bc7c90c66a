//! Runs that wait for a person.

use std::task::Poll;

use super::harness::{Pair, World, frame_id, ident, poll_now, thread};
use crate::hub::{Run, RunOptions};
use crate::id::ApprovalId;
use crate::limits::Limits;
use crate::protocol::{ClientFrame, EventBody, EventKind, FailReason, ReplyOk, RunRef, RunStatus};
use crate::stream::RunError;

fn start(world: &World) -> Run {
    world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("a")).unwrap()
}

/// What the device is answered: `None` is good, else the code.
fn decide(device: &mut Pair, approval: &ApprovalId, decision: &str, data: Option<&str>) -> Option<String> {
    device.send(&ClientFrame::Approve {
        id: frame_id("d"),
        approval_id: approval.clone(),
        decision: decision.into(),
        data: data.map(|json| serde_json::value::RawValue::from_string(json.into()).unwrap()),
    });
    let reply = device.replies().pop().unwrap();
    match reply.outcome {
        Ok(ok) => {
            assert_eq!(ok, ReplyOk::Done);
            None
        }
        Err(error) => Some(error.code.as_str().to_owned()),
    }
}

#[test]
fn the_first_decision_counts_from_whatever_device_and_all_see_it() {
    let world = World::new();
    let (mut phone, mut laptop, mut bob) = (world.device("ann"), world.device("ann"), world.device("bob"));
    let run = start(&world);
    let call = run.tool("shell", &"rm").unwrap();
    let approval = run.suspend(Some("sure?".into())).unwrap();
    assert!(poll_now(approval.decision()).is_pending());
    assert_eq!(run.delta("x"), Err(RunError::Suspended { approval_id: approval.id().clone() }));
    laptop.events();
    assert_eq!(decide(&mut bob, approval.id(), "allow", None).as_deref(), Some("not_found"));
    let unknown = ApprovalId::new("unknown").unwrap();
    assert_eq!(decide(&mut phone, &unknown, "allow", None).as_deref(), Some("not_found"));
    assert_eq!(decide(&mut phone, approval.id(), "allow", Some(r#"{"limit":5}"#)), None);
    let resumed = laptop.stream().pop().unwrap();
    assert!(
        matches!(&resumed.body, EventBody::AgentResumed { approval_id, decision } if approval_id == approval.id() && decision.as_deref() == Some("allow"))
    );
    assert_eq!(decide(&mut laptop, approval.id(), "deny", None).as_deref(), Some("already_decided"));
    for _ in 0..2 {
        let Poll::Ready(Ok(decision)) = poll_now(approval.decision()) else { panic!("decided") };
        assert_eq!((decision.decision.as_str(), decision.data.unwrap().get()), ("allow", r#"{"limit":5}"#));
    }
    call.completed(&1).unwrap();
    run.completed(None).unwrap();
    laptop.events();
    assert_eq!(decide(&mut laptop, approval.id(), "deny", None).as_deref(), Some("already_decided"), "also afterwards");
    assert_eq!(decide(&mut bob, approval.id(), "deny", None).as_deref(), Some("not_found"));
}

#[test]
fn ids_are_unique_among_a_users_runs_and_another_users_are_its_own() {
    let world = World::new();
    let (one, two) = (start(&world), start(&world));
    assert_ne!(one.suspend(None).unwrap().id(), two.suspend(None).unwrap().id());
    let bobs = world.hub.start_run(&ident("bob"), thread("t"), RunOptions::named("a")).unwrap();
    let (three, four) = (start(&world), start(&world));
    let id = ApprovalId::new("x").unwrap();
    three.suspend_as(id.clone(), None).unwrap();
    assert_eq!(four.suspend_as(id.clone(), None).unwrap_err(), RunError::ApprovalTwice { approval_id: id.clone() });
    bobs.suspend_as(id, None).unwrap();
}

#[test]
fn a_device_that_joins_or_comes_back_sees_the_question_and_may_answer_it() {
    for limits in [Limits::default(), Limits { log_entries: 2, ..Limits::default() }] {
        let world = World::with(limits);
        let mut phone = world.device("ann");
        let run = start(&world);
        run.thinking("hm").unwrap();
        let approval = run.suspend(Some("sure?".into())).unwrap();
        // Pushes the suspension out of the small log.
        for n in 0..3 {
            world.hub.publish(&ident("ann"), None, "other", &n).unwrap();
        }
        phone.events();
        let (position, session) = (phone.client.position(), phone.client.session());
        phone.cut();
        let mut back = world.resuming("ann", position, session);
        let mut fresh = world.device("ann");
        back.events();
        fresh.events();
        let view = &fresh.client.reducer().runs()[&run.id()];
        let waits = view.approval.as_ref().unwrap();
        assert_eq!((view.status, waits.question.as_deref()), (RunStatus::Suspended, Some("sure?")));
        let id = waits.approval_id.clone();
        assert_eq!(decide(&mut fresh, &id, "allow", None), None);
        assert_eq!(back.kinds().last(), Some(&EventKind::AgentResumed));
        assert!(poll_now(approval.decision()).is_ready());
        fresh.events();
        let view = &fresh.client.reducer().runs()[&run.id()];
        assert_eq!((view.status, &view.approval), (RunStatus::Running, &None));
    }
}

#[test]
fn a_suspended_run_is_cancelled_fails_or_goes_on_by_itself() {
    let world = World::new();
    let mut ann = world.device("ann");
    let run = start(&world);
    let approval = run.suspend(None).unwrap();
    ann.events();
    // Asked for often, and told once: the decision has room whatever came before.
    for _ in 0..20 {
        ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Id(run.id()) });
        ann.events();
    }
    assert_eq!(poll_now(run.cancel_request()), Poll::Ready("ann".into()));
    run.cancelled("ann", "asked to").unwrap();
    assert_eq!(poll_now(approval.decision()).map(Result::err), Poll::Ready(Some(RunError::Ended)));
    assert_eq!(decide(&mut ann, approval.id(), "allow", None).as_deref(), Some("not_found"));

    let run = start(&world);
    let approval = run.suspend(None).unwrap();
    approval.resume(None).unwrap();
    assert_eq!(decide(&mut ann, approval.id(), "allow", None).as_deref(), Some("already_decided"));
    run.suspend(None).unwrap();
    drop(run);
    let last = ann.stream().pop().unwrap();
    assert!(matches!(last.body, EventBody::AgentFailed { reason: FailReason::ProducerLost, .. }));
}

#[test]
fn a_decision_that_does_not_fit_in_an_event_leaves_the_run_waiting() {
    let world = World::with(Limits { event_bytes: 1_000, ..Limits::default() });
    let mut ann = world.device("ann");
    let run = start(&world);
    let approval = run.suspend(None).unwrap();
    ann.events();
    assert_eq!(decide(&mut ann, approval.id(), &"x".repeat(1_000), None).as_deref(), Some("too_large"));
    assert!(poll_now(approval.decision()).is_pending());
    let long = format!("\"{}\"", "x".repeat(60_000));
    assert_eq!(decide(&mut ann, approval.id(), "allow", Some(&long)), None);
    let Poll::Ready(Ok(decision)) = poll_now(approval.decision()) else { panic!("decided") };
    assert_eq!(decision.data.unwrap().get(), long);
}
