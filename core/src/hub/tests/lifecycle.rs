//! Ends of connections, and of the hub.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::harness::{World, ident};
use crate::client::ClientEvent;
use crate::limits::Limits;
use crate::protocol::ServerFrame;
use crate::stream::RunError;

#[test]
fn a_clean_close_is_answered_and_leaves_nothing_behind() {
    let world = World::new();
    let mut ann = world.device("ann");
    let now = world.now();
    ann.client.close(now);
    ann.pump();
    assert_eq!(ann.closed_with(), Some(1000));
    assert!(ann.session.is_none());
    assert_eq!((world.hub.counts().connections, world.hub.sockets()), (0, 0));
}

#[test]
fn a_shutdown_tells_everybody_closes_everybody_and_admits_nobody() {
    let world = World::new();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    ann.events();
    let run =
        world.hub.start_run(&ident("ann"), super::harness::thread("t"), crate::hub::RunOptions::named("a")).unwrap();
    world.hub.begin_shutdown();
    world.hub.begin_shutdown();
    assert!(world.hub.is_draining());
    run.thinking("still here").unwrap();
    let events = ann.events();
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Event(_))), "a run goes on: {events:?}");
    let told =
        |event: &ClientEvent| matches!(event, ClientEvent::Frame(f) if matches!(**f, ServerFrame::GoingAway { .. }));
    assert_eq!(events.iter().filter(|event| told(event)).count(), 1);
    bob.pump();
    let another = world.hub.start_run(&ident("ann"), super::harness::thread("t"), crate::hub::RunOptions::named("a"));
    assert_eq!(another.unwrap_err(), RunError::Draining);
    let mut late = world.device("carol");
    assert_eq!((late.events(), late.is_in()), (vec![], false));
    assert!(matches!(late.fault(), Some(crate::client::Fault::Upgrade(error)) if error.status == Some(503)));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(world.hub.poll_shutdown(&mut cx), Poll::Pending);
    world.sleep(Limits::default().drain_deadline, &mut [&mut ann, &mut bob]);
    assert_eq!((ann.closed_with(), bob.closed_with()), (Some(1012), Some(1012)));
    assert_eq!(world.hub.poll_shutdown(&mut cx), Poll::Ready(()));
}

#[test]
fn a_silent_peer_is_pinged_and_then_gone() {
    let world = World::new();
    let mut ann = world.device("ann");
    // The pair answers pings, so a long silence of the application is no end.
    for _ in 0..10 {
        world.sleep(Duration::from_secs(25), &mut [&mut ann]);
    }
    assert!(ann.is_in());
    // Now nothing comes back.
    let mut session = ann.session.take().unwrap();
    for wait in [25, 10] {
        world.clock.turn(Duration::from_secs(wait));
        let now = world.now();
        crate::drive::Machine::handle_timeout(&mut session, now);
        let n = crate::drive::Machine::transmit(&session).len();
        crate::drive::Machine::advance(&mut session, now, n);
    }
    assert_eq!(session.close_reason(), Some(crate::error::CloseReason::HeartbeatTimeout));
    assert_eq!(world.hub.counts().connections, 0, "out of the hub although the socket is not closed yet");
}

#[test]
fn a_detached_connection_gets_nothing_more() {
    let world = World::new();
    let mut ann = world.device("ann");
    let mut session = ann.session.take().unwrap();
    session.close(world.now(), crate::error::CloseReason::Internal);
    let before = crate::drive::Machine::transmit(&session).len();
    world.hub.publish(&ident("ann"), None, "late", &1).unwrap();
    crate::drive::Machine::poll_ready(&mut session, world.now(), Waker::noop());
    assert_eq!(crate::drive::Machine::transmit(&session).len(), before);
}

#[test]
fn a_request_for_another_path_is_handed_over_with_all_its_bytes() {
    let world = World::new();
    let mut session = world.hub.session().unwrap();
    let request = b"POST /dev/login HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";
    for chunk in request.chunks(50) {
        crate::drive::Machine::handle_bytes(&mut session, world.now(), chunk);
    }
    assert!(crate::drive::Machine::is_closed(&session));
    assert_eq!(session.take_handoff().unwrap(), request);
}

#[test]
fn a_pong_that_waits_in_the_socket_counts_although_the_process_paused() {
    use crate::drive::Machine as _;
    let world = World::new();
    let mut ann = world.device("ann");
    ann.events();
    world.clock.turn(world.hub.limits().heartbeat_interval);
    let session = ann.session.as_mut().unwrap();
    session.handle_timeout(world.now());
    let ping = session.transmit().to_vec();
    session.advance(world.now(), ping.len());
    ann.client.handle_bytes(world.now(), &ping);
    // Nothing runs for longer than the heartbeat allows; then the task wakes and finds the pong.
    world.clock.turn(world.hub.limits().heartbeat_timeout * 2);
    ann.pump();
    assert!(ann.is_in(), "closed with {:?}", ann.closed_with());
}
