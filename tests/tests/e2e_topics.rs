//! Shared streams over real sockets.

use serde_json::{Value, json};
use trunkline_core::id::{TopicId, TopicName};
use trunkline_core::limits::Limits;
use trunkline_tests::server::{InProcess, scoped, token};
use trunkline_tests::wire::{Carrier, Device, position};

fn news() -> TopicId {
    TopicId::new(None, TopicName::new("news").unwrap()).unwrap()
}

async fn follow(device: &mut Device, resume: Option<&Value>) -> Value {
    device.send(&json!({"type": "subscribe", "id": "s", "topic": "news", "resume": resume})).await;
    device.reply("s").await
}

/// The next `count` events of the topic, each of which follows the one before.
async fn read(device: &mut Device, mut from: Value, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = device.other(|frame| frame["stream"] == "topic:news" && frame["event_id"].is_string()).await;
        let (epoch, seq) = position(&event["event_id"]);
        assert_eq!((epoch, seq - 1), position(&from), "{event}");
        assert!(event["user_id"].is_null(), "a topic's event names no user: {event}");
        from = event["event_id"].clone();
        events.push(event);
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_of_a_topic_see_one_order_resume_it_and_others_see_nothing() {
    let server = InProcess::start(Limits::default()).await;
    let mut ann = Device::open(server.addr, &scoped("ann", "topic:news")).await;
    let mut bob = Device::open(server.addr, &scoped("bob", "topic:*")).await;
    let mut eve = Device::open(server.addr, &token("eve")).await;
    let refused = follow(&mut eve, None).await;
    assert_eq!(refused["error"]["code"], "not_found", "{refused}");
    let (anns, bobs) = (follow(&mut ann, None).await, follow(&mut bob, None).await);
    assert_eq!((&anns["stream"], &anns["mode"]), (&json!("topic:news"), &json!("live")), "{anns}");
    for n in 0..50 {
        server.hub.publish_topic(&news(), "headline", &n).unwrap();
    }
    let seen = read(&mut ann, anns["event_id"].clone(), 50).await;
    assert_eq!(seen, read(&mut bob, bobs["event_id"].clone(), 50).await);
    assert!(seen.iter().zip(0..).all(|(event, n)| event["data"] == n && event["name"] == "headline"));

    // Ann is gone for a while; her next hello continues both of her streams.
    let last = seen[49]["event_id"].clone();
    ann.reset();
    server.hub.publish_topic(&news(), "headline", &50).unwrap();
    let hello = json!({"resume": {"topic:news": last}});
    let mut ann = Device::join(server.addr, &scoped("ann", "topic:news"), Carrier::Subprotocol, hello).await;
    let entry =
        ann.welcome["streams"].as_array().unwrap().iter().find(|s| s["stream"] == "topic:news").unwrap().clone();
    assert_eq!(entry["mode"], "replay", "{entry}");
    assert_eq!(read(&mut ann, last, 1).await[0]["data"], 50);
    ann.golden_path().await;
    eve.ping("p").await;
    assert!(eve.others.is_empty() && eve.events.is_empty(), "{:?}", eve.others);
    server.settles_at(3).await;
}
