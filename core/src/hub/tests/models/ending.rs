//! Ends, of the server and of runs, against what goes on.

use std::future::poll_fn;

use super::{Coming, Device, ann, hub, spawn, with};
use crate::hub::{Hub, RunOptions};
use crate::id::ThreadId;
use crate::sync::Arc;
use crate::sync::models::check;
use loom::future::block_on;

/// Property: two who come while the shutdown begins are each told to go, once, or not let in, and the shutdown ends when they have
/// left.
#[test]
fn a_drain_against_admissions() {
    check(|| {
        let hub = hub();
        let (first, first_hello) = Device::outside(&hub, Coming::default());
        let (second, second_hello) = Device::outside(&hub, Coming { user: "bob", ..Coming::default() });
        let shutdown = with(&hub, Hub::begin_shutdown);
        let other = spawn(move || come_and_go(second, &second_hello));
        come_and_go(first, &first_hello);
        other.join().unwrap();
        block_on(poll_fn(|cx| hub.poll_shutdown(cx)));
        assert!(hub.counts().connections == 0 && hub.inner.gate.inside() == 0, "somebody is left");
        shutdown.join().unwrap();
    });
}

fn come_and_go(mut device: Device, hello: &[u8]) {
    device.enter(hello);
    let told = device.listen(|told, client| told.len() >= 2 || client.end().is_some());
    match device.closed_with() {
        None => assert_eq!(told, ["welcome", "going_away"]),
        Some(code) => assert_eq!((told, code), (vec![], 1012)),
    }
    assert!(device.hear().is_empty(), "it is told once");
}

/// Property: of two ends of one run at the same time exactly one holds, and every device sees that one and nothing after it.
#[test]
fn two_ends_of_one_run() {
    check(|| {
        let hub = hub();
        let mut device = Device::inside(&hub, Coming::default());
        let run = hub.start_run(&ann(), ThreadId::new("t").unwrap(), RunOptions::named("agent")).unwrap();
        assert_eq!(device.hear(), ["1"]);
        let run = Arc::new(run);
        let other = {
            let run = Arc::clone(&run);
            spawn(move || run.failed("out of luck").is_ok())
        };
        let completed = run.completed(None).is_ok();
        assert_eq!(device.listen_for(1), ["2"]);
        let failed = other.join().unwrap();
        assert!(completed != failed, "completed: {completed}, failed: {failed}");
        drop(run);
        assert!(device.hear().is_empty(), "nothing follows the end");
        assert_eq!(hub.counts().runs, 0);
    });
}
