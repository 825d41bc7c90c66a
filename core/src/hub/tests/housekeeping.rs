//! When the housekeeper is told to come earlier.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::harness::{World, ident, thread};
use crate::hub::{OnDisconnect, Run, RunOptions};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A run that is a deadline, as long as it is open.
fn due_after(world: &World, seconds: u32) -> Run {
    let on_disconnect = OnDisconnect::CancelAfter(seconds * SECOND);
    let options = RunOptions { on_disconnect, ..RunOptions::named("agent") };
    world.hub.start_run(&ident("ann"), thread("t"), options).unwrap()
}

#[test]
fn it_is_woken_for_what_comes_before_the_time_it_waits_for_and_for_nothing_else() {
    let world = World::new();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let count = || woken.0.load(Ordering::Relaxed);
    let first = due_after(&world, 10);
    assert_eq!(world.keeper.poll(&waker), Some(world.now().at + 10 * SECOND));
    first.completed(None).unwrap();
    for _ in 0..3 {
        due_after(&world, 20).completed(None).unwrap();
    }
    assert_eq!(count(), 0, "later than the time it waits for");
    let _earlier = due_after(&world, 5);
    let _earliest = due_after(&world, 4);
    assert_eq!(count(), 1);
    assert_eq!(world.keeper.poll(&waker), Some(world.now().at + 4 * SECOND));
}

#[test]
fn who_asks_once_without_a_waker_is_told_of_everything_until_it_polls_again() {
    let world = World::new();
    let woken = Arc::new(Woken::default());
    let first = due_after(&world, 1);
    world.keeper.poll(&Waker::from(Arc::clone(&woken)));
    first.completed(None).unwrap();
    world.clock.turn(SECOND);
    let next = world.keeper.handle_timeout();
    assert!(next.is_none_or(|at| at > world.now().at + 5 * SECOND), "{next:?}");
    let _second = due_after(&world, 5);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
}
