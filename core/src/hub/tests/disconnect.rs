//! Runs whose user's last device leaves.

use std::task::Poll;
use std::time::Duration;

use super::harness::{World, ident, next_message, poll_now, thread};
use crate::hub::{OnDisconnect, RunOptions};
use crate::protocol::EventKind;

const GRACE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_micros(1);

#[test]
fn a_run_is_asked_to_stop_once_its_user_has_been_away_for_the_grace() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut phone = world.device("ann");
    phone.say("m", "hello");
    let options = RunOptions { on_disconnect: OnDisconnect::CancelAfter(GRACE), ..RunOptions::named("a") };
    let run = next_message(&mut requests).start_with(options).unwrap();
    phone.events();
    let mut laptop = world.device("ann");
    phone.cut();
    world.sleep(GRACE * 2, &mut []);
    assert_eq!(run.cancel_requested(), None, "another device is there");
    let (position, session) = (laptop.client.position(), laptop.client.session());
    laptop.cut();
    world.sleep(GRACE - TICK, &mut []);
    let mut back = world.resuming("ann", position, session);
    world.sleep(GRACE, &mut []);
    assert_eq!(run.cancel_requested(), None, "it came back in the grace");
    assert_eq!(back.kinds(), [], "no event is made of leaving");
    back.cut();
    world.sleep(GRACE, &mut []);
    assert_eq!(poll_now(run.cancel_request()), Poll::Ready("disconnect".into()));
    let mut late = world.resuming("ann", position, session);
    assert_eq!(late.kinds(), [], "nor of the request");
    run.cancelled("disconnect", "nobody is there").unwrap();
    assert_eq!(late.kinds(), [EventKind::AgentCancelled]);
}

#[test]
fn a_run_pauses_while_nobody_is_there() {
    let world = World::new();
    let options = RunOptions { on_disconnect: OnDisconnect::Pause, ..RunOptions::named("a") };
    let run = world.hub.start_run(&ident("ann"), thread("t"), options).unwrap();
    assert!(run.is_paused(), "nobody was there from the start");
    for _ in 0..1_000 {
        // However often a device comes and goes, what waits for the producer is one word.
        world.device("ann").cut();
    }
    assert!(poll_now(run.paused()).is_ready() && poll_now(run.resumed()).is_pending());
    let _ann = world.device("ann");
    assert!(poll_now(run.paused()).is_pending() && poll_now(run.resumed()).is_ready());
    let approval = run.suspend(None).unwrap();
    assert!(poll_now(approval.decision()).is_pending());
}
