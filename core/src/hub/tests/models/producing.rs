//! Producers that come and go, against what they are asked and told.

use super::{Coming, Device, hub, spawn, with};
use crate::id::{FrameId, ThreadId};
use crate::level::ServiceLevel;
use crate::protocol::ClientFrame;
use crate::sync::models::check;

fn say(device: &mut Device) {
    device.client.send(&ClientFrame::UserMessage {
        id: FrameId::new("m").unwrap(),
        key: None,
        thread_id: ThreadId::new("t").unwrap(),
        content: "hello".into(),
        metadata: None,
    });
    device.send();
}

/// Property: what a user asks while a producer goes reaches the one that stays, once, whether it was with the other before or not.
#[test]
fn a_request_against_a_producer_that_goes() {
    check(|| {
        let hub = hub();
        let going = Device::inside(&hub, Coming::producer("a"));
        let mut staying = Device::inside(&hub, Coming::producer("b"));
        let mut ann = Device::inside(&hub, Coming::default());
        let leaver = spawn(move || drop(going));
        say(&mut ann);
        assert_eq!(staying.listen_for(1), ["request"]);
        leaver.join().unwrap();
        assert!(staying.hear().is_empty(), "it is asked once");
        assert!(ann.hear().is_empty(), "nothing is answered yet");
    });
}

/// Property: what a user asks while one producer goes and another comes reaches the one that comes, or is answered at once.
#[test]
fn a_request_against_producers_that_go_and_come() {
    check(|| {
        let hub = hub();
        let going = Device::inside(&hub, Coming::producer("a"));
        let (mut coming, hello) = Device::outside(&hub, Coming::producer("b"));
        let mut ann = Device::inside(&hub, Coming::default());
        let leaver = spawn(move || drop(going));
        let newcomer = spawn(move || {
            coming.enter(&hello);
            coming
        });
        say(&mut ann);
        leaver.join().unwrap();
        let mut told = newcomer.join().unwrap().hear();
        told.extend(ann.hear());
        told.sort();
        assert!(told == ["request", "welcome"] || told == ["unavailable", "welcome"], "nobody answers: {told:?}");
    });
}

/// Property: of two changes of the level that are announced at the same time, the one that counts is the last that a producer hears.
#[test]
fn two_changes_of_the_level_against_a_producer() {
    check(|| {
        let hub = hub();
        let mut producer = Device::inside(&hub, Coming::producer("p"));
        let operators = [Some(ServiceLevel::Degraded), None]
            .map(|level| with(&hub, move |hub| hub.set_level(level, "an exercise")));
        operators.into_iter().for_each(|operator| operator.join().unwrap());
        let known = producer.hear().pop().unwrap_or_else(|| "normal".to_owned());
        assert_eq!(known, hub.level().as_str());
    });
}

/// Property: what a producer was asked that goes, together with the only other one, reaches the one that comes meanwhile.
#[test]
fn a_request_against_producers_that_all_go_and_one_that_comes() {
    check(|| {
        let hub = hub();
        let mut first = Device::inside(&hub, Coming::producer("a"));
        let second = Device::inside(&hub, Coming::producer("b"));
        let (mut coming, hello) = Device::outside(&hub, Coming::producer("c"));
        let mut ann = Device::inside(&hub, Coming::default());
        say(&mut ann);
        assert_eq!(first.hear(), ["request"]);
        let leavers = [first, second].map(|leaving| spawn(move || drop(leaving)));
        coming.enter(&hello);
        leavers.into_iter().for_each(|leaver| leaver.join().unwrap());
        assert_eq!(coming.hear(), ["welcome", "request"], "nobody answers");
        assert!(ann.hear().is_empty(), "nothing is answered yet");
    });
}
