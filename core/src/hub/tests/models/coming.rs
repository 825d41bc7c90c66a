//! Devices that come and go, against what happens meanwhile.

use std::time::Duration;

use super::{Coming, Device, ann, hub, publish, spawn, with, world};
use crate::hub::Hub;
use crate::level::ServiceLevel;
use crate::limits::Limits;
use crate::protocol::Receipt;
use crate::sync::models::check;

/// Property: of one device that comes and one that goes while an event is published, the one that comes has the event before its
/// welcome's position or is given it once, the receipt counts who was there, and nothing is left of the one that has gone.
#[test]
fn attaching_and_detaching_against_a_publisher() {
    check(|| {
        let hub = hub();
        let leaving = Device::inside(&hub, Coming::default());
        let (mut device, hello) = Device::outside(&hub, Coming::default());
        let publisher = with(&hub, publish);
        let leaver = spawn(move || drop(leaving));
        device.enter(&hello);
        let came_before = device.welcome().streams[0].head.seq == 0;
        if came_before {
            assert_eq!(device.listen_for(1), ["1"]);
        }
        let told = match publisher.join().unwrap() {
            Receipt::DeliveredTo(count) => count,
            Receipt::Stored => 0,
        };
        leaver.join().unwrap();
        let others = told.checked_sub(u32::from(came_before));
        assert!(others.is_some_and(|others| others <= 1), "{told} were told, before: {came_before}");
        assert!(device.hear().is_empty(), "nothing comes twice");
        assert_eq!((hub.counts().connections, hub.devices(&ann()).len(), hub.sockets()), (1, 1, 1));
        drop(device);
        assert_eq!((hub.counts().connections, hub.sockets()), (0, 0));
    });
}

/// What a device is that has read one event, and how it comes again.
fn before_the_resume(hub: &Hub) -> (Device, Coming) {
    let mut old = Device::inside(hub, Coming::default());
    publish(hub);
    assert_eq!(old.hear(), ["1"]);
    let (resume, session) = (old.client.position(), old.client.session());
    (old, Coming { resume, session, ..Coming::default() })
}

/// Property: a device that resumes while its old socket is half open and two events are published is given what it misses once and in
/// order, whether the log has it or it comes; the old socket is closed as superseded, exactly once.
#[test]
fn a_resume_against_publishers() {
    check(|| {
        let hub = hub();
        let (mut old, again) = before_the_resume(&hub);
        let (mut device, hello) = Device::outside(&hub, again);
        let publishers = [0, 1].map(|_| with(&hub, publish));
        device.enter(&hello);
        assert_eq!(device.listen_for(3), ["welcome", "2", "3"]);
        for publisher in publishers {
            assert_eq!(publisher.join().unwrap(), Receipt::DeliveredTo(1));
        }
        assert!(old.hear().is_empty(), "it was ended before it could read on");
        assert_eq!((old.closed_with(), device.closed_with()), (Some(4409), None));
        assert_eq!(hub.counts().connections, 1);
    });
}

/// Property: the end of a socket, which the hub is told of while its device resumes on another, takes nothing from the one that has
/// come in its place, and no event of a publisher is lost or repeated.
#[test]
fn a_late_end_of_the_old_socket_against_a_resume() {
    check(|| {
        let hub = hub();
        let (old, again) = before_the_resume(&hub);
        let (mut device, hello) = Device::outside(&hub, again);
        let publisher = with(&hub, publish);
        let end = spawn(move || drop(old));
        device.enter(&hello);
        assert_eq!(device.listen_for(2), ["welcome", "2"]);
        publisher.join().unwrap();
        end.join().unwrap();
        assert_eq!((hub.counts().connections, hub.devices(&ann()).len()), (1, 1));
        assert_eq!(publish(&hub), Receipt::DeliveredTo(1));
        assert_eq!(device.hear(), ["3"]);
    });
}

/// Property: of two sockets that resume one session at the same time, the one that was accepted last stays, whichever is read first,
/// and the other is closed as superseded.
#[test]
fn two_resumes_of_one_session() {
    check(|| {
        let hub = hub();
        let (old, again) = before_the_resume(&hub);
        drop(old);
        let (mut first, first_hello) = Device::outside(&hub, again);
        let (mut second, second_hello) = Device::outside(&hub, again);
        let other = spawn(move || {
            first.enter(&first_hello);
            first
        });
        second.enter(&second_hello);
        let mut first = other.join().unwrap();
        let told = first.hear();
        // Where it was in first, its welcome is on the way.
        assert!(told.is_empty() || told == ["welcome"], "{told:?}");
        assert_eq!(second.hear(), ["welcome"]);
        assert_eq!((first.closed_with(), second.closed_with()), (Some(4409), None));
        assert_eq!((hub.counts().connections, publish(&hub)), (1, Receipt::DeliveredTo(1)));
    });
}

/// Property: of two devices that come for the last place of a user whom nobody has heard of, one comes in and the other is told why
/// not; there is one state of the user.
#[test]
fn two_devices_for_the_last_place() {
    check(|| {
        let (hub, ..) = world(1, Limits { connections_per_user: 1, ..Limits::default() });
        let coming = [0, 1].map(|_| Device::outside(&hub, Coming::default()));
        let devices = coming.map(|(mut device, hello)| {
            spawn(move || {
                device.enter(&hello);
                let told = device.hear();
                (device, told)
            })
        });
        let outcomes = devices.map(|device| device.join().unwrap());
        let let_in: Vec<bool> = outcomes.iter().map(|(_, told)| *told == ["welcome"]).collect();
        assert_eq!(let_in.iter().filter(|let_in| **let_in).count(), 1, "in the last place");
        for (device, told) in &outcomes {
            assert_eq!(device.closed_with().is_some(), told.is_empty());
        }
        assert_eq!((hub.counts().users, hub.counts().connections, publish(&hub)), (1, 1, Receipt::DeliveredTo(1)));
    });
}

/// Property: whoever comes while its user is forgotten for age is in, in the old incarnation of the stream or a new one, and is given
/// what is published then.
#[test]
fn a_sweep_against_an_attach_and_a_publisher() {
    check(|| {
        let (hub, keeper, clock) = world(1, Limits::default());
        publish(&hub);
        clock.turn(hub.limits().log_retention + Duration::from_secs(1));
        let (mut device, hello) = Device::outside(&hub, Coming::default());
        let sweeper = spawn(move || keeper.handle_timeout().is_some());
        let publisher = with(&hub, publish);
        device.enter(&hello);
        let head = device.welcome().streams[0].head;
        let receipt = publisher.join().unwrap();
        sweeper.join().unwrap();
        let next = (head.seq + 1).to_string();
        match receipt {
            Receipt::DeliveredTo(_) => assert_eq!(device.listen_for(1), [next]),
            Receipt::Stored => assert!(device.hear().is_empty()),
        }
        assert_eq!(publish(&hub), Receipt::DeliveredTo(1), "it is in");
        assert_eq!(device.hear().len(), 1);
        assert_eq!(hub.counts().users, 1);
    });
}

/// Property: whoever comes while the level changes has the new one in its welcome, or is told of it once.
#[test]
fn a_change_of_the_level_against_an_attach() {
    check(|| {
        let hub = hub();
        let (mut device, hello) = Device::outside(&hub, Coming::default());
        let operator = with(&hub, |hub| hub.set_level(Some(ServiceLevel::Degraded), "an exercise"));
        device.enter(&hello);
        if device.welcome().service_level == ServiceLevel::Normal {
            assert_eq!(device.listen_for(1), ["degraded"]);
        }
        operator.join().unwrap();
        assert!(device.hear().is_empty(), "it is told once");
    });
}

/// Property: of two changes of the level that are announced at the same time, the one that counts is the last that a device hears,
/// also where it comes meanwhile.
#[test]
fn two_changes_of_the_level_against_an_attach() {
    check(|| {
        let hub = hub();
        let (mut device, hello) = Device::outside(&hub, Coming::default());
        let operators = [Some(ServiceLevel::Degraded), None]
            .map(|level| with(&hub, move |hub| hub.set_level(level, "an exercise")));
        device.enter(&hello);
        let mut known = device.welcome().service_level.as_str().to_owned();
        operators.into_iter().for_each(|operator| operator.join().unwrap());
        known = device.hear().pop().unwrap_or(known);
        assert_eq!(known, hub.level().as_str());
    });
}
