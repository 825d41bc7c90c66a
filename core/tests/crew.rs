//! Many connections in one task: the order of what they do, what wakes whom, timers, panics, and how much is done before others have
//! their turn. The task is polled only where its waker was fired.
#![cfg(not(loom))]

mod support;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::crewed::{Bell, Call, Calls, Pipe, Rig, Served, Wakes};
use support::{World, hello, masked, upgrade, user};
use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role};
use trunkline_core::drive::Timer as _;
use trunkline_core::error::CloseReason;
use trunkline_core::id::UserId;
use trunkline_core::serve::{Outcome, Sockets};
use trunkline_core::time::Timestamp;

/// How many have their turn in one pass, and how many passes there are before others of the thread have theirs: the crew's own
/// bounds, seen from outside.
const PASS: usize = 64;
const PASSES: usize = 32;

fn texts(wire: &[u8]) -> Vec<String> {
    let mut assembler = Assembler::new(Role::Client, usize::MAX);
    let mut rest = wire;
    let messages = std::iter::from_fn(|| assembler.push(&mut rest).unwrap());
    messages.filter_map(|message| if let Message::Text(text) = message { Some(text) } else { None }).collect()
}

/// Sockets that are in and idle, in one crew: ten of each user.
struct Room {
    world: World,
    rig: Rig<Served>,
    pipes: Vec<Pipe>,
    calls: Calls,
}

impl Room {
    fn of(count: usize) -> Self {
        let world = World::new();
        let (mut rig, calls, sockets) = (Rig::new(&world), Calls::default(), Sockets::new(world.hub.clone()));
        let pipes: Vec<_> = (0..count).map(|name| rig.serve(&sockets, name, &calls)).collect();
        for (name, pipe) in pipes.iter().enumerate() {
            pipe.sends(&[upgrade(), hello(&world.token(&owner(name)))].concat());
        }
        rig.run();
        for pipe in &pipes {
            assert!(std::mem::take(&mut pipe.ends().written).len() > 300, "the answer and the welcome");
        }
        calls.take();
        Self { world, rig, pipes, calls }
    }

    /// To those of the first user.
    fn publish(&self, n: u64) {
        self.world.hub.publish(&owner(0), None, "note", &n).unwrap();
    }

    /// How many texts each was given since the last call.
    fn told(&self) -> Vec<usize> {
        self.pipes.iter().map(|pipe| texts(&std::mem::take(&mut pipe.ends().written)).len()).collect()
    }
}

fn owner(name: usize) -> UserId {
    user(&format!("user-{}", name / 10))
}

fn ping() -> Vec<u8> {
    masked(Opcode::Text, br#"{"type":"ping","id":"1"}"#)
}

#[test]
fn everybody_takes_in_before_anybody_writes_and_the_writes_follow_one_another() {
    let mut room = Room::of(8);
    room.pipes.iter().for_each(|pipe| pipe.sends(&ping()));
    room.rig.run();
    let calls = room.calls.take();
    let first = calls.iter().position(|(_, call)| *call == Call::Write).unwrap();
    let (before, after) = calls.split_at(first);
    assert!((0..8).all(|name| before.contains(&(name, Call::Read))), "{calls:?}");
    assert_eq!(after, (0..8).map(|name| (name, Call::Write)).collect::<Vec<_>>());
    assert_eq!(room.told(), [1; 8]);
}

#[test]
fn of_very_many_those_of_one_pass_write_before_the_others_take_in() {
    let mut room = Room::of(PASS + 6);
    room.pipes.iter().for_each(|pipe| pipe.sends(&ping()));
    room.rig.run();
    let writes_of = |names: std::ops::Range<usize>| names.map(|name| (name, Call::Write)).collect::<Vec<_>>();
    let calls = room.calls.take();
    let first = calls.iter().position(|(_, call)| *call == Call::Write).unwrap();
    assert!(calls[..first].iter().all(|(name, _)| *name < PASS));
    assert_eq!(calls[first..first + PASS], writes_of(0..PASS));
    assert!(calls.ends_with(&writes_of(PASS..PASS + 6)));
}

#[test]
fn what_a_hub_publishes_wakes_the_task_once_and_makes_nobody_read_its_socket() {
    let mut room = Room::of(5);
    for n in 0..3 {
        (0..10).for_each(|_| room.publish(n));
        assert_eq!(room.rig.wakes.take(), 1);
        while room.rig.poll().is_ready() {}
        assert_eq!(room.calls.take(), (0..5).map(|name| (name, Call::Write)).collect::<Vec<_>>());
        assert_eq!(room.told(), [10; 5]);
    }
}

#[test]
fn what_comes_after_the_mailbox_has_woken_is_read_nevertheless() {
    let mut room = Room::of(1);
    // The same turn has both, and then a turn of the mailbox's alone comes between.
    for n in 0..3 {
        room.publish(n);
        room.pipes[0].sends(&ping());
        room.rig.run();
        assert_eq!(room.told(), [2]);
        room.publish(n);
        room.rig.run();
        assert_eq!(room.told(), [1]);
    }
}

#[test]
fn what_is_sent_and_needs_no_answer_is_taken_however_much_it_is() {
    let mut room = Room::of(1);
    for _ in 0..1_000 {
        room.pipes[0].sends(&masked(Opcode::Pong, b""));
    }
    room.rig.run();
    assert!(room.pipes[0].is_taken());
    assert!(room.rig.ended.is_empty(), "{:?}", room.rig.ended);
    room.publish(1);
    room.rig.run();
    assert_eq!(room.told(), [1]);
}

#[test]
fn a_socket_that_takes_a_little_at_a_time_gets_every_byte_once_and_in_order() {
    let mut room = Room::of(2);
    room.pipes[0].blocks();
    (0..5).for_each(|n| room.publish(n));
    room.rig.run();
    assert_eq!(room.told(), [0, 5], "nobody waits for a socket that is full");
    let mut written = Vec::new();
    for bytes in [1, 7, 1, 100].into_iter().cycle().take(40) {
        room.pipes[0].makes_room(bytes);
        room.rig.run();
        written.append(&mut room.pipes[0].ends().written);
    }
    room.pipes[0].makes_room(usize::MAX);
    room.rig.run();
    written.append(&mut room.pipes[0].ends().written);
    assert_eq!(texts(&written).len(), 5);
}

#[test]
fn what_a_socket_holds_back_is_flushed_when_it_may_be() {
    let mut room = Room::of(1);
    room.pipes[0].ends().holds_back = true;
    room.publish(1);
    room.rig.run();
    assert!(!room.pipes[0].is_flushed());
    room.pipes[0].flushes();
    room.rig.run();
    assert!(room.pipes[0].is_flushed());
}

#[test]
fn reading_goes_on_once_the_peer_takes_its_answers() {
    let mut room = Room::of(1);
    room.pipes[0].blocks();
    let large = masked(Opcode::Ping, &[b'x'; 125]);
    (0..2_000).for_each(|_| room.pipes[0].sends(&large));
    room.rig.run();
    assert!(!room.pipes[0].is_taken(), "whoever takes no answers is not read");
    for _ in 0..2_000 {
        room.pipes[0].makes_room(1_000);
        room.rig.run();
    }
    assert!(room.pipes[0].is_taken());
    assert_eq!(room.pipes[0].ends().written.len(), 2_000 * 127, "a pong for each");
}

struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("on purpose, in a drop");
    }
}

#[test]
fn a_member_that_panics_goes_alone() {
    let mut room = Room::of(2);
    room.rig.seat(|_| async { panic!("on purpose") });
    room.rig.seat(|_| {
        let grenade = Grenade;
        async move {
            let _grenade = &grenade;
            Outcome::Closed(Some(CloseReason::Normal))
        }
    });
    room.pipes.iter().for_each(|pipe| pipe.sends(&ping()));
    room.rig.run();
    assert_eq!(room.told(), [1; 2]);
    room.publish(1);
    room.rig.run();
    assert_eq!(room.told(), [1; 2]);
    assert!(room.rig.ended.len() <= 1, "{:?}", room.rig.ended);
}

#[test]
fn a_crew_that_is_dropped_drops_all_of_them_also_where_some_panic() {
    let world = World::new();
    let mut rig = Rig::<()>::new(&world);
    let held = Rc::new(());
    for seats in 0..6 {
        let (grenade, kept) = ((seats % 3 == 0).then(|| Grenade), Rc::clone(&held));
        rig.seat(|_| async move {
            let _held = (&grenade, &kept);
            pending().await
        });
        if seats == 2 {
            rig.run();
        }
    }
    drop(rig.crew);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_deadline_brings_a_turn_and_the_earliest_of_all_is_the_crews() {
    let mut room = Room::of(2);
    assert_eq!(room.rig.bell.at(), Some(Timestamp::ZERO + Duration::from_secs(25)));
    room.world.turn(Duration::from_secs(10));
    // It is heard from, so that its deadline is later than the other's.
    room.pipes[0].sends(&masked(Opcode::Pong, b""));
    room.rig.run();
    room.world.turn(Duration::from_secs(15));
    room.rig.run();
    let ping = vec![0x89, 0];
    let written = |room: &Room| room.pipes.iter().map(|pipe| pipe.ends().written.clone()).collect::<Vec<_>>();
    assert_eq!(written(&room), [vec![], ping.clone()]);
    // The other's moment, and that at which this one is to have answered.
    assert_eq!(room.rig.bell.at(), Some(Timestamp::ZERO + Duration::from_secs(35)));
    room.rig.bell.ring_early();
    room.rig.run();
    assert_eq!(written(&room), [vec![], ping.clone()], "and nothing early");
    room.pipes[1].sends(&masked(Opcode::Pong, b""));
    room.world.turn(Duration::from_secs(10));
    room.rig.run();
    assert_eq!(written(&room), [ping.clone(), ping]);
}

#[test]
fn a_socket_that_takes_nothing_is_closed_in_time() {
    let mut room = Room::of(2);
    room.pipes[0].blocks();
    room.publish(1);
    room.rig.run();
    for _ in 0..120 {
        room.world.turn(Duration::from_secs(1));
        room.pipes[1].sends(&masked(Opcode::Pong, b""));
        room.rig.run();
    }
    assert!(matches!(room.rig.ended[..], [Outcome::Closed(Some(CloseReason::WriteStalled))]), "{:?}", room.rig.ended);
    assert_eq!(room.world.hub.counts().connections, 1);
}

/// Ends at a moment, which is set anew with every turn that this says, and notes the turns.
async fn alarmed(berth: trunkline_core::crew::Berth, at: Rc<Cell<Timestamp>>, turns: Rc<Cell<usize>>) {
    let mut timer = berth.timer();
    let mut set = None;
    poll_fn(|cx| {
        turns.set(turns.get() + 1);
        if set != Some(at.get()) {
            Pin::new(&mut timer).reset(at.get());
            set = Some(at.get());
        }
        Pin::new(&mut timer).poll_elapsed(cx)
    })
    .await;
}

#[test]
fn a_timer_fires_once_at_its_moment_also_where_it_was_moved() {
    let world = World::new();
    // Set first, moved to, and the moments at which the crew's may fire.
    for (first, moved) in [(9, 9), (9, 4), (4, 9)] {
        let mut rig = Rig::<()>::new(&world);
        let from = world.now().at;
        let (at, turns) = (Rc::new(Cell::new(from + Duration::from_secs(first))), Rc::new(Cell::new(0)));
        let waker = Rc::new(RefCell::new(None::<Waker>));
        let (its, of, kept) = (Rc::clone(&at), Rc::clone(&turns), Rc::clone(&waker));
        rig.seat(move |berth| {
            let mut timed = Box::pin(alarmed(berth, its, of));
            poll_fn(move |cx| {
                *kept.borrow_mut() = Some(cx.waker().clone());
                timed.as_mut().poll(cx)
            })
        });
        rig.run();
        at.set(from + Duration::from_secs(moved));
        waker.borrow().iter().for_each(Waker::wake_by_ref);
        rig.run();
        assert_eq!(turns.get(), 2);
        for n in 1..=moved {
            assert!(rig.ended.is_empty(), "{first} to {moved}, ended at {n}");
            world.turn(Duration::from_secs(1));
            rig.run();
        }
        assert_eq!((rig.ended.len(), turns.get()), (1, 3), "{first} to {moved}");
        rig.run();
        assert_eq!(rig.wakes.take(), 0);
    }
}

#[test]
fn the_timer_of_one_that_has_ended_wakes_nobody() {
    let world = World::new();
    let mut rig = Rig::<()>::new(&world);
    let soon = world.now().at + Duration::from_secs(1);
    rig.seat(|berth| {
        Pin::new(&mut berth.timer()).reset(soon);
        ready(())
    });
    rig.run();
    assert_eq!(rig.ended.len(), 1);
    let turns = Rc::new(Cell::new(0));
    let counted = Rc::clone(&turns);
    // It has the same seat.
    rig.seat(|_| {
        poll_fn(move |_| {
            counted.set(counted.get() + 1);
            Poll::Pending
        })
    });
    rig.run();
    world.turn(Duration::from_secs(2));
    rig.run();
    assert_eq!(turns.get(), 1);
}

#[test]
fn seats_are_used_again_and_who_had_one_brings_its_successor_no_turn() {
    let world = World::new();
    let mut rig = Rig::<usize>::new(&world);
    let (wakers, turns) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    for n in 0..100 {
        let (kept, counted) = (Rc::clone(&wakers), Rc::clone(&turns));
        rig.seat(move |_| {
            poll_fn(move |cx| {
                kept.borrow_mut().push(cx.waker().clone());
                counted.set(counted.get() + 1);
                Poll::Ready(n)
            })
        });
        rig.run();
        for waker in wakers.borrow().iter() {
            waker.wake_by_ref();
        }
        rig.run();
    }
    assert_eq!(rig.ended, (0..100).collect::<Vec<_>>());
    assert_eq!(turns.get(), 100);
}

#[test]
fn whoever_is_seated_where_the_crew_has_gone_is_dropped() {
    let world = World::new();
    let rig = Rig::<()>::new(&world);
    let held = Rc::new(());
    let (early, late) = (Rc::clone(&held), Rc::clone(&held));
    let seat = |kept: Rc<()>| {
        rig.crews.seat(|_| {
            Box::pin(async move {
                let _kept = kept;
                pending().await
            }) as Pin<Box<dyn Future<Output = ()>>>
        });
    };
    seat(early);
    assert_eq!(Rc::strong_count(&held), 3);
    drop(rig.crew);
    assert_eq!(Rc::strong_count(&held), 2);
    seat(late);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn whoever_comes_is_seated_where_fewest_are_and_in_no_crew_that_has_gone() {
    let world = World::new();
    let mut rig = Rig::<usize>::new(&world);
    let gone = rig.crews.add(Bell::default(), world.hub.clone());
    for n in 0..4 {
        rig.seat(move |_| ready(n));
    }
    rig.run();
    assert_eq!(std::mem::take(&mut rig.ended), [2, 0]);
    drop(gone);
    for n in 0..4 {
        rig.seat(move |_| ready(n));
    }
    rig.run();
    assert_eq!(rig.ended, [3, 2, 1, 0]);
}

#[test]
fn a_request_for_the_web_stack_comes_out_of_the_crew_with_its_bytes_and_its_place() {
    let world = World::new();
    let (mut rig, sockets, calls) = (Rig::new(&world), Sockets::new(world.hub.clone()), Calls::default());
    let pipes: Vec<_> = (0..3).map(|name| rig.serve(&sockets, name, &calls)).collect();
    let request = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\nbody";
    pipes[1].sends(request);
    rig.run();
    let Some(Outcome::Web(mut handover)) = rig.ended.pop() else { panic!("{:?}", rig.ended) };
    let mut head = [0; 64];
    let n = handover.head.take(&mut head);
    assert_eq!(&head[..n], request);
    assert_eq!(world.hub.sockets(), 3);
    drop(handover);
    assert_eq!(world.hub.sockets(), 2);
    assert!(rig.ended.is_empty());
}

#[test]
fn whoever_polled_last_is_woken_and_nothing_is_lost_with_a_future_that_was_dropped() {
    let mut room = Room::of(1);
    let other = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&other));
    // Polled once, and dropped.
    assert!(pin!(room.rig.crew.next()).poll(&mut Context::from_waker(&waker)).is_pending());
    room.publish(1);
    assert_eq!((room.rig.wakes.take(), other.take()), (0, 1));
    assert!(pin!(room.rig.crew.next()).poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(room.told(), [1]);
}

#[test]
fn one_that_is_always_ready_keeps_neither_the_others_nor_the_thread() {
    let world = World::new();
    let mut rig = Rig::<()>::new(&world);
    let turns: Vec<_> = (0..3).map(|_| Rc::new(Cell::new(0))).collect();
    for counted in &turns {
        let counted = Rc::clone(counted);
        rig.seat(move |_| {
            poll_fn(move |cx| {
                counted.set(counted.get() + 1);
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        });
    }
    for polls in 1..=3 {
        assert!(rig.poll().is_pending());
        assert!(rig.wakes.take() > 0, "it goes on when others had their turn");
        assert_eq!(turns.iter().map(|turns| turns.get()).collect::<Vec<_>>(), [polls * PASSES; 3]);
    }
}

#[test]
fn a_socket_that_always_has_more_does_not_keep_those_beside_it() {
    let mut room = Room::of(2);
    (0..100_000).for_each(|_| room.pipes[0].sends(&masked(Opcode::Pong, b"")));
    room.pipes[1].sends(&ping());
    room.publish(1);
    assert!(room.rig.poll().is_pending());
    assert!(!room.pipes[0].is_taken());
    assert_eq!(room.told(), [1, 2]);
}

#[test]
fn whoever_takes_output_after_output_does_not_keep_the_thread() {
    let world = World::new();
    let mut rig = Rig::<()>::new(&world);
    let mut taken = 0;
    loop {
        // For each that has ended there is another: a flood of requests that end at once.
        rig.seat(|_| ready(()));
        match rig.poll() {
            Poll::Ready(()) => taken += 1,
            Poll::Pending => break,
        }
        assert!(taken <= PASSES, "others never have their turn");
    }
    // It is woken for the rest.
    rig.run();
    assert_eq!(taken + rig.ended.len(), PASSES + 1);
}

#[test]
fn turns_that_take_long_keep_the_thread_for_some_milliseconds_only() {
    let world = Rc::new(World::new());
    let mut rig = Rig::<()>::new(&world);
    let (turned, turns) = (Rc::clone(&world), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&turns);
    rig.seat(move |_| {
        poll_fn(move |cx| {
            turned.turn(Duration::from_millis(1));
            counted.set(counted.get() + 1);
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    });
    for polls in 1..=3 {
        assert!(rig.poll().is_pending());
        assert!(rig.wakes.take() > 0);
        assert_eq!(turns.get(), polls * 6);
    }
}
