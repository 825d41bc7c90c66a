//! Revocations, against whoever comes in by what is revoked.

use super::{Coming, Device, JoinHandle, ann, hub, publish, with};
use crate::hub::Hub;
use crate::id::UserId;
use crate::protocol::{Receipt, RevokeTarget, Token};
use crate::sync::models::check;
use crate::time::Clock;

fn token(id: &str) -> RevokeTarget {
    RevokeTarget::Token(id.parse().unwrap())
}

/// Revokes in a thread of its own, and publishes when that has returned. Answers how many were closed.
fn revoke(hub: &Hub, target: RevokeTarget) -> JoinHandle<u32> {
    with(hub, move |hub| {
        let closed = hub.revoke(&ann(), &target, None);
        publish(hub);
        closed
    })
}

/// Property: whoever comes in by a token while that is revoked is closed or not let in, both with 4201, the revocation's answer counts
/// it exactly if it was in, and it is given nothing that is published afterwards.
#[test]
fn a_revocation_against_an_attach() {
    check(|| {
        let hub = hub();
        let (mut device, hello) = Device::outside(&hub, Coming { token_id: Some("stolen"), ..Coming::default() });
        let operator = revoke(&hub, token("stolen"));
        device.enter(&hello);
        let told = device.listen_to_the_end();
        assert_eq!(device.closed_with(), Some(4201));
        let closed = operator.join().unwrap();
        // Where its end was there first, not even the welcome is sent.
        assert!(told.is_empty() || (closed == 1 && told == ["welcome"]), "{closed} closed, told {told:?}");
        assert_eq!((hub.counts().connections, publish(&hub)), (0, Receipt::Stored));
    });
}

/// Property: a connection that takes up a token while that is revoked is refused it and stays, or is closed with 4201 and given
/// nothing that is published afterwards.
#[test]
fn a_revocation_against_a_refresh() {
    check(|| {
        let hub = hub();
        let mut device = Device::inside(&hub, Coming { token_id: Some("first"), ..Coming::default() });
        let second = Coming { token_id: Some("second"), ..Coming::default() };
        device.client.refresh(Token::new(&second.token(hub.now())));
        let operator = revoke(&hub, token("second"));
        device.send();
        // As much as the socket takes: whether it is the end is known only when both are done.
        let mut told = device.hear();
        let closed = operator.join().unwrap();
        told.extend(device.hear());
        told.sort();
        let is_there = if closed == 0 {
            assert_eq!((told, device.closed_with()), (vec!["1".to_owned(), "refresh_refused".to_owned()], None));
            1
        } else {
            assert!(told.is_empty() || told == ["ok"], "{told:?}");
            assert_eq!(device.closed_with(), Some(4201));
            0
        };
        assert_eq!(hub.counts().connections, is_there);
    });
}

/// Property: a revocation on the user's shard against a publisher on a topic's closes the connection with 4201, after at most one
/// copy of the event, and both shards forget it.
#[test]
fn a_revocation_on_one_shard_against_a_publisher_on_another() {
    check(|| {
        let (hub, topic, mut device) = super::shards::follower();
        let operator = revoke(&hub, RevokeTarget::All);
        let publisher = {
            let topic = topic.clone();
            with(&hub, move |hub| hub.publish_topic(&topic, "n", &1).unwrap())
        };
        let told = device.listen_to_the_end();
        assert!(told.len() <= 1, "{told:?}");
        assert_eq!(device.closed_with(), Some(4201));
        assert_eq!(operator.join().unwrap(), 1);
        publisher.join().unwrap();
        assert_eq!(hub.publish_topic(&topic, "n", &2).unwrap(), Receipt::Stored);
        assert!(device.hear().is_empty() && hub.counts().connections == 0);
    });
}

fn revoke_of_the_agent(hub: &Hub, id: &'static str) -> JoinHandle<u32> {
    with(hub, move |hub| hub.revoke(&UserId::new(None, "agent").unwrap(), &token(id), None))
}

/// Property: a producer that joins by a token while that is revoked is out with 4201 in the end, and is no producer any more.
#[test]
fn a_revocation_against_a_producer_that_joins() {
    check(|| {
        let hub = hub();
        let stolen = Coming { token_id: Some("stolen"), ..Coming::producer("p") };
        let (mut device, hello) = Device::outside(&hub, stolen);
        let operator = revoke_of_the_agent(&hub, "stolen");
        device.enter(&hello);
        device.listen_to_the_end();
        assert_eq!(device.closed_with(), Some(4201));
        operator.join().unwrap();
        assert_eq!(hub.inner.producers.lock().len(), 0);
    });
}

/// Property: a producer that takes up a token while that is revoked is refused it and stays, or is out with 4201.
#[test]
fn a_revocation_against_a_refresh_of_a_producer() {
    check(|| {
        let hub = hub();
        let first = Coming { token_id: Some("first"), ..Coming::producer("p") };
        let mut device = Device::inside(&hub, first);
        device.client.refresh(Token::new(&Coming { token_id: Some("second"), ..first }.token(hub.now())));
        let operator = revoke_of_the_agent(&hub, "second");
        device.send();
        let closed = operator.join().unwrap();
        let told = device.hear();
        let is_out = device.closed_with() == Some(4201);
        assert_eq!(is_out, closed == 1, "told {told:?}");
        assert!(is_out || told == ["refresh_refused"], "it goes on with a token that was revoked: {told:?}");
    });
}
