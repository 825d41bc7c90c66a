//! What devices acknowledge over the wire, and looking at it.

use std::time::Duration;

use super::harness::{World, ident, thread};
use crate::client::ClientEvent;
use crate::hub::RunOptions;
use crate::limits::Limits;
use crate::protocol::{ClientFrame, Position, StreamName};

fn publish(world: &World, events: usize) {
    for n in 0..events {
        world.hub.publish(&ident("ann"), None, "n", &n).unwrap();
    }
}

fn ack(event_id: Position) -> ClientFrame {
    ClientFrame::Ack { stream: StreamName::User, event_id }
}

#[test]
fn a_devices_lag_is_what_it_has_not_acknowledged() {
    let world = World::new();
    let (mut phone, tablet) = (world.device("ann"), world.device("ann"));
    publish(&world, 3);
    let at = phone.stream()[1].position;
    phone.send(&ack(at));
    // Of a topic, and of a stream that never was: taken, without effect and without an answer.
    phone.send(&ClientFrame::Ack { stream: StreamName::Topic("news".parse().unwrap()), event_id: at });
    phone.send(&ack(Position { epoch: at.epoch - 1, seq: 3 }));
    assert_eq!(phone.events(), Vec::<ClientEvent>::new());
    let devices = world.hub.devices(&ident("ann"));
    assert_eq!(devices.iter().map(|device| device.behind).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((devices[0].acked, devices[1].acked), (Some(at), None));
    assert_eq!(devices[0].session, phone.client.session().unwrap());
    assert_eq!(world.hub.devices(&ident("bob")), []);
    drop(tablet);
    assert_eq!(world.hub.devices(&ident("ann")).len(), 1);
}

#[test]
fn a_client_that_stays_keeps_no_old_log_and_one_that_reloads_is_told_what_is_gone() {
    let world = World::new();
    let mut phone = world.device("ann");
    let run = world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("a")).unwrap();
    publish(&world, 200);
    run.completed(None).unwrap();
    // Its client says by itself that it has them.
    phone.pump();
    assert_eq!(world.hub.devices(&ident("ann"))[0].behind, 0);
    let full = world.hub.counts().log_bytes;
    world.sleep(Limits::default().log_retention * 2, &mut [&mut phone]);
    assert!(phone.is_in());
    assert!(world.hub.counts().log_bytes * 100 < full, "{} of {full} bytes", world.hub.counts().log_bytes);
    let mut reloaded = world.resuming("ann", Some(Position::NONE), None);
    let lost = reloaded.events().into_iter().find_map(|event| match event {
        ClientEvent::Welcome(welcome) => welcome.streams[0].lost,
        ClientEvent::Event(_) | ClientEvent::Frame(_) => None,
    });
    assert_eq!(lost.map(|lost| lost.to.seq), Some(201));
}

#[test]
fn whoever_looks_again_and_again_keeps_nobody_and_changes_no_deadline() {
    let seen = [false, true].map(|looks| {
        let world = World::new();
        let mut phone = world.device("ann");
        publish(&world, 3);
        phone.cut();
        let mut seen = Vec::new();
        for _ in 0..10 {
            if looks {
                let hub = &world.hub;
                let _ = (hub.devices(&ident("ann")), hub.devices(&ident("bob")), hub.counts(), hub.sockets());
                let _ = (hub.unauthenticated(), hub.is_draining(), hub.limits().clone());
            }
            world.clock.turn(Duration::from_secs(60));
            let next = world.keeper.handle_timeout();
            seen.push((next, world.hub.counts()));
        }
        assert_eq!(world.hub.counts().users, 0, "its retention is over");
        seen
    });
    assert_eq!(seen[0], seen[1]);
}
