//! What an idle connection costs: the heap of sessions that came in through real handshakes, the manager's entries
//! included, and the size of the driver's future.
#![cfg(not(loom))]

mod support;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::{OFFER, Socket, World, enter_with};
use trunkline_core::drive::{Driver, Machine, Timer};
use trunkline_core::hub::{Hub, Session};
use trunkline_core::id::{ThreadId, UserId};
use trunkline_core::time::Timestamp;

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

/// Enough that what all connections share does not count.
const USERS: usize = 1_000;
/// What an idle connection may hold.
const MAX_IDLE_BYTES: usize = 2 << 10;
/// What the driver's future may hold beside its transport and its timer.
const MAX_DRIVER_BYTES: usize = 704;

#[test]
fn an_idle_connection_holds_at_most_two_kib_and_gives_them_back() {
    let world = World::new();
    let users: Vec<_> = (0..USERS).map(|n| UserId::new(None, &format!("user-{n:04}")).unwrap()).collect();
    let tokens: Vec<_> = users.iter().map(|user| world.token(user)).collect();
    let mut sessions: Vec<Box<Session>> = Vec::with_capacity(USERS);

    let profiler = dhat::Profiler::builder().testing().trim_backtraces(Some(4)).build();
    let start = bytes();
    for token in &tokens {
        // Boxed, as a task holds it.
        let mut session = Box::new(world.hub.session().unwrap());
        // As browsers do: whoever compresses holds no more while it is idle.
        enter_with(&world, &mut session, token, OFFER);
        sessions.push(session);
    }
    let idle = (bytes() - start) / USERS;
    println!("an idle connection of a user of its own: {idle} bytes, {} of them the session", size_of::<Session>());
    assert!(idle <= MAX_IDLE_BYTES, "{idle}");

    // Traffic leaves nothing behind but the log, which has bounds of its own.
    for (user, session) in users.iter().zip(&mut sessions) {
        world.hub.publish(user, Some(ThreadId::new("t").unwrap()), "note", &"x".repeat(1_000)).unwrap();
        session.poll_ready(world.now(), Waker::noop());
        support::ping(session, world.now());
        let n = session.transmit().len();
        // Compressed: the compressor is kept for all of them.
        assert!((100..1_000).contains(&n), "{n}");
        session.advance(world.now(), n);
    }
    let log = world.hub.counts().log_bytes / USERS;
    let after = (bytes() - start) / USERS - log;
    println!("after traffic: {after} bytes, and {log} of log");
    assert!(after <= MAX_IDLE_BYTES, "{after}");

    drop(sessions);
    world.turn(Duration::from_secs(3_600));
    world.keeper.handle_timeout();
    assert_eq!(world.hub.counts().users, 0);
    let left = bytes().saturating_sub(start);
    println!("after the last one left: {left} bytes in all");
    // A node of each shard's trees stays, and a compressor for whoever comes next.
    assert!(left <= (128 + 340) << 10, "{left}");
    drop(profiler);
}

#[test]
fn the_drivers_future_is_small() {
    let driver = size_of::<Driver<Session, Socket, Never, Hub>>();
    println!("the driver's future: {} bytes beside its socket", driver - size_of::<Socket>());
    assert!(driver <= MAX_DRIVER_BYTES + size_of::<Socket>(), "{driver}");
}

fn bytes() -> usize {
    dhat::HeapStats::get().curr_bytes
}

/// A timer of no size.
struct Never;

impl Timer for Never {
    fn reset(self: Pin<&mut Self>, _at: Timestamp) {}
    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
