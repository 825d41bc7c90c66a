//! Requests: sent until they are answered, once in effect, and never silently lost.

use super::*;

fn undone(world: &mut World) -> Vec<(String, Undone)> {
    let one = |update| if let Update::Undone { id, why, .. } = update { Some((id.to_string(), why)) } else { None };
    world.take().into_iter().filter_map(one).collect()
}

#[test]
fn what_is_not_answered_is_sent_again_under_the_same_key_in_order() {
    let mut world = World::new();
    let keys: Vec<_> = ["a", "b", "c"].map(|id| world.say(id).unwrap().unwrap()).into();
    assert!(world.sent().is_empty(), "nothing precedes the welcome");
    world.give("aa.bb.cc");
    let mut left = vec!["a", "b", "c"];
    while !left.is_empty() {
        world.come_in();
        let sent: Vec<_> = world.sent().iter().map(|frame| key(frame).cloned().unwrap()).collect();
        assert_eq!(sent, keys[3 - left.len()..]);
        world.frame(&replied(left.remove(0)));
        world.cut();
        world.wait();
    }
    world.come_in();
    assert!(world.sent().is_empty());
    assert_eq!(undone(&mut world), []);
}

#[test]
fn a_server_that_has_forgotten_its_keys_is_not_asked_twice() {
    let mut world = World::live();
    world.say("sent").unwrap();
    let cancel = ClientFrame::CancelRun {
        id: FrameId::new("cancel").unwrap(),
        target: crate::protocol::RunRef::Key("k".parse().unwrap()),
    };
    world.client.request(world.now(), cancel).unwrap();
    world.written();
    world.cut();
    world.say("unsent").unwrap();
    world.wait();
    world.open();
    world.take();
    world.frame(&welcome_with(&[&entry("user", 8, 0, "reset")]));
    assert_eq!(undone(&mut world), [("sent".to_owned(), Undone::Unknown)]);
    assert_eq!(world.ids(), ["cancel", "unsent"], "what is harmless, and what never left, goes");
}

#[test]
fn a_key_that_may_be_forgotten_is_not_sent_again() {
    for (away, again) in [(539, true), (541, false)] {
        let mut world = World::live();
        world.say("m").unwrap();
        world.written();
        world.cut();
        world.sleep(Duration::from_secs(away));
        world.come_in();
        assert_eq!(world.ids(), if again { vec!["m"] } else { vec![] });
        let expected = if again { vec![] } else { vec![("m".to_owned(), Undone::Unknown)] };
        assert_eq!(undone(&mut world), expected);
    }
}

#[test]
fn requests_are_bounded_and_what_cannot_be_is_refused() {
    let mut world = World::with(ReconnectingConfig { max_unanswered: 3, max_unanswered_bytes: 400, ..config() });
    for id in ["1", "2", "3"] {
        world.say(id).unwrap();
    }
    assert_eq!(world.say("4"), Err(RequestError::Full));
    let mut world = World::with(ReconnectingConfig { max_unanswered_bytes: 300, ..config() });
    let taken = (0..100).filter(|n| world.say(&n.to_string()).is_ok()).count();
    assert!((2..=4).contains(&taken), "{taken}");

    let mut world = World::live();
    world.say("m").unwrap();
    assert_eq!(world.say("m"), Err(RequestError::DuplicateId));
    assert_eq!(world.say("refresh-1"), Err(RequestError::ReservedId));
    let ping = world.client.request(world.now(), ClientFrame::Ping { id: None });
    assert_eq!(ping, Err(RequestError::NoRequest));
    world.frame(&replied("m"));
    world.say("m").expect("answered: the id is free");
    let mut topics = 0;
    let full = loop {
        let (id, topic) =
            (FrameId::new(&format!("s{topics}")).unwrap(), TopicName::new(&format!("t{topics}")).unwrap());
        match world.client.request(world.now(), ClientFrame::Subscribe { id, topic, resume: None }) {
            Ok(_) => topics += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((topics, full), (100, RequestError::TooManyTopics));
}

#[test]
fn a_frame_over_the_server_s_bound_is_not_sent() {
    let small = |world: &mut World| {
        let plain = welcome_with(&[&entry("user", 7, 3, "live")]);
        world.open();
        world.frame(&plain.replace(r#""message_bytes":65536,"#, r#""message_bytes":150,"#));
    };
    let mut world = World::new();
    world.say(&"y".repeat(100)).unwrap();
    world.give("aa.bb.cc");
    small(&mut world);
    assert!(world.sent().is_empty(), "it was taken before that was known");
    assert!(matches!(&undone(&mut world)[..], [(_, Undone::Refused(RequestError::TooLarge { .. }))]));
    assert_eq!(world.say("m").map(drop), Ok(()));
    let long = "x".repeat(100);
    assert!(matches!(world.say(&long), Err(RequestError::TooLarge { max: 150, .. })));
    // And told to those who cannot be answered.
    world.client.order(world.now(), message(&long));
    world.drain();
    assert!(matches!(&undone(&mut world)[..], [(_, Undone::Refused(RequestError::TooLarge { .. }))]));
}

#[test]
fn no_more_is_sent_at_once_than_half_of_what_the_server_takes() {
    let mut world = World::new();
    for n in 0..100 {
        world.say(&n.to_string()).unwrap();
    }
    world.give("aa.bb.cc");
    world.open();
    world.frame(&welcome(3, 30.0, 5.0));
    assert_eq!(world.ids().len(), 30);
    let mut sent = 30;
    while sent < 100 {
        let due = world.client.poll_timeout().unwrap();
        world.sleep(due.saturating_since(world.now().at));
        sent += world.ids().len();
    }
    let second = Duration::from_micros(world.micros).as_secs_f64();
    assert!((4.5..5.0).contains(&second), "70 at 15 a second: {second}");
}

#[test]
fn at_the_end_every_request_has_been_told_of() {
    let mut world = World::live();
    world.say("sent").unwrap();
    world.written();
    world.cut();
    world.say("unsent").unwrap();
    world.take();
    world.client.close(world.now());
    world.drain();
    let told = world.take();
    assert!(matches!(told.first(), Some(Update::State(State::Stopped(Stopped::Closed)))));
    world.told = told;
    assert_eq!(undone(&mut world), [("sent".to_owned(), Undone::Unknown), ("unsent".to_owned(), Undone::NotSent)]);
}

#[test]
fn what_is_left_makes_room_for_what_is_followed_next() {
    let mut world = World::live();
    for n in 0..300 {
        let topic = TopicName::new(&format!("t{n}")).unwrap();
        let (follow, leave) = (FrameId::new("s").unwrap(), FrameId::new("u").unwrap());
        let subscribe = ClientFrame::Subscribe { id: follow, topic: topic.clone(), resume: None };
        world.client.request(world.now(), subscribe).unwrap();
        world.frame(&format!(
            r#"{{"type":"reply","id":"s","ok":true,"stream":"topic:t{n}","event_id":"8-2","head":"8-2","mode":"live"}}"#
        ));
        world.client.request(world.now(), ClientFrame::Unsubscribe { id: leave, topic: topic.clone() }).unwrap();
        world.sleep(Duration::from_secs(1));
        world.written();
        world.frame(r#"{"type":"reply","id":"u","ok":true}"#);
        assert_eq!(*world.client.state(), State::Live, "after {n}");
        assert_eq!(world.client.position_in(&StreamName::Topic(topic)), None);
    }
}
