//! What concerns more than one shard, or all.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use loom::future::block_on;

use super::{Coming, Device, ann, publish, with, world};
use crate::hub::{Hub, OnDisconnect, RunOptions};
use crate::id::{ThreadId, TopicId, TopicName};
use crate::level::ServiceLevel;
use crate::limits::Limits;
use crate::protocol::{ClientFrame, Receipt};
use crate::sync::models::check;
use crate::time::Clock;

/// A device that follows a topic, which lives on another shard than its user.
pub(super) fn follower() -> (Hub, TopicId, Device) {
    let (hub, ..) = world(2, Limits::default());
    let topics = ["a", "b", "c", "d", "e", "f"].map(|name| TopicId::new(None, TopicName::new(name).unwrap()).unwrap());
    let elsewhere = topics.into_iter().find(|topic| hub.topic_shard(topic) != hub.shard_of(&ann()));
    let topic = elsewhere.expect("not all of them are on one shard");
    let mut device = Device::inside(&hub, Coming { scope: "topic:*", ..Coming::default() });
    let subscribe = ClientFrame::Subscribe { id: "s".parse().unwrap(), topic: topic.name().clone(), resume: None };
    device.client.send(&subscribe);
    device.send();
    assert_eq!(device.hear(), ["ok"]);
    (hub, topic, device)
}

/// Property: of two shards that act on one connection at the same time, neither's wake-up is lost, and the event of each is given once;
/// both forget the connection when it goes.
#[test]
fn two_shards_act_on_one_connection() {
    check(|| {
        let (hub, topic, mut device) = follower();
        let of_the_user = with(&hub, publish);
        let of_the_topic = {
            let topic = topic.clone();
            with(&hub, move |hub| hub.publish_topic(&topic, "n", &1).unwrap())
        };
        let mut told = device.listen_for(2);
        told.sort();
        assert_eq!(told, ["1", &format!("{} 1", topic.name())]);
        assert_eq!(of_the_user.join().unwrap(), Receipt::DeliveredTo(1));
        assert_eq!(of_the_topic.join().unwrap(), Receipt::DeliveredTo(1));
        drop(device);
        assert_eq!(hub.publish_topic(&topic, "n", &2).unwrap(), Receipt::Stored);
        assert_eq!(hub.counts().connections, 0);
    });
}

/// Property: while the housekeeper arms its timer, a deadline that moves earlier on any shard, or the level's, reaches it: it never
/// sleeps past one.
#[test]
fn a_deadline_that_moves_earlier_reaches_the_housekeeper() {
    const GRACE: Duration = Duration::from_secs(1);
    check(|| {
        let (hub, keeper, _) = world(2, Limits { level_rise_after: 2 * GRACE, ..Limits::default() });
        // A log with its retention, a long time.
        publish(&hub);
        let application = with(&hub, |hub| {
            let on_disconnect = OnDisconnect::CancelAfter(GRACE);
            let options = RunOptions { on_disconnect, ..RunOptions::named("agent") };
            hub.start_run(&ann(), ThreadId::new("t").unwrap(), options).unwrap()
        });
        let probe = with(&hub, |hub| hub.report(&"database".parse().unwrap(), ServiceLevel::Degraded, "slow").unwrap());
        let due = Some(hub.now().at + GRACE);
        block_on(poll_fn(|cx| if keeper.poll(cx.waker()) == due { Poll::Ready(()) } else { Poll::Pending }));
        drop(application.join().unwrap());
        probe.join().unwrap();
    });
}

/// Property: while the housekeeper's alarm moves later, as what it was for has gone, a deadline before the new time reaches it all
/// the same.
#[test]
fn an_alarm_that_moves_later_passes_over_no_deadline() {
    const GRACE: Duration = Duration::from_secs(1);
    check(|| {
        let (hub, keeper, _) = world(1, Limits::default());
        let start = |hub: &Hub, after| {
            let options = RunOptions { on_disconnect: OnDisconnect::CancelAfter(after), ..RunOptions::named("agent") };
            hub.start_run(&ann(), ThreadId::new("t").unwrap(), options).unwrap()
        };
        let first = start(&hub, GRACE);
        assert_eq!(keeper.handle_timeout(), Some(hub.now().at + GRACE));
        keeper.poll(std::task::Waker::noop());
        let second = with(&hub, move |hub| start(hub, 2 * GRACE));
        first.completed(None).unwrap();
        let due = Some(hub.now().at + 2 * GRACE);
        block_on(poll_fn(|cx| if keeper.poll(cx.waker()) == due { Poll::Ready(()) } else { Poll::Pending }));
        drop(second.join().unwrap());
    });
}
