//! At the cap of a user: who gives way, that nobody else can make it so, and that it comes to rest.

use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident};
use crate::client::{Backoff, BackoffConfig};
use crate::drive::Machine;
use crate::error::{CloseReason, NextAction};
use crate::hub::Rejected;
use crate::id::SessionId;
use crate::limits::Limits;
use crate::protocol::{ClientFrame, RunRef};
use crate::time::{Clock, Timestamp};

const HOUR: Duration = Duration::from_secs(3_600);

fn pass(world: &World, secs: u64, pairs: &mut [&mut Pair]) {
    for _ in 0..secs {
        world.sleep(Duration::from_secs(1), pairs);
    }
}

/// Something that only a person does, and that changes nothing.
fn used(pair: &mut Pair) {
    pair.send(&ClientFrame::CancelRun { id: frame_id("x"), target: RunRef::Key("none".parse().unwrap()) });
}

#[test]
fn whoever_is_over_its_rate_or_has_no_credentials_displaces_nobody() {
    let world = World::with(Limits {
        connections_per_user: 2,
        handshakes_per_second: 1,
        handshake_burst: 1,
        ..Limits::default()
    });
    let (mut first, mut second) = (world.device("ann"), world.device("ann"));
    pass(&world, 61, &mut [&mut first, &mut second]);
    used(&mut first);
    let attacker = "192.0.2.1".parse().unwrap();
    let token = world.token(&ident("ann"), HOUR);
    // A token that holds does not help whoever is over the rate, since nothing is read of it.
    drop(world.hub.session_from(attacker).unwrap());
    assert_eq!(world.hub.session_from(attacker).unwrap_err(), Rejected::AddressRate);
    for bad in ["x.y.z", &token[..token.len() - 2], ""] {
        assert!(!world.connect(bad.to_owned(), None, None).is_in());
    }
    let _bob = world.device("bob");
    first.pump();
    second.pump();
    assert!(first.is_in() && second.is_in());
    // The same with room at the rate: the user's own newcomer is let in, and the one that is idle gives way.
    pass(&world, 1, &mut [&mut first, &mut second]);
    let third = world.connect_on(world.hub.session_from(attacker).unwrap(), world.config(token, None, None));
    first.pump();
    second.pump();
    assert!(third.is_in() && first.is_in());
    assert_eq!(second.closed_with(), Some(4100));
    assert_eq!(world.hub.counts().connections, 3);
}

#[test]
fn a_device_that_answers_no_ping_gives_way_before_one_that_does_nothing() {
    let world = World::with(Limits { connections_per_user: 2, ..Limits::default() });
    let (mut quiet, mut dead) = (world.device("ann"), world.device("ann"));
    pass(&world, 10, &mut [&mut quiet, &mut dead]);
    used(&mut dead);
    // From here on nobody is at the other end of the one that was used last.
    let mut silent = dead.session.take().unwrap();
    for _ in 0..31 {
        pass(&world, 1, &mut [&mut quiet]);
        silent.handle_timeout(world.now());
        let n = silent.transmit().len();
        silent.advance(world.now(), n);
    }
    let newcomer = world.device("ann");
    silent.poll_ready(world.now(), std::task::Waker::noop());
    quiet.pump();
    assert_eq!((newcomer.is_in(), quiet.is_in()), (true, true));
    assert_eq!(silent.close_reason(), Some(CloseReason::Evicted));
}

/// A browser's tab: it comes back as the protocol says.
struct Tab {
    pair: Option<Pair>,
    session: Option<SessionId>,
    backoff: Backoff,
    comes: Option<Timestamp>,
    evictions: usize,
}

impl Tab {
    fn new(comes: u64) -> Self {
        let comes = Some(Timestamp::ZERO + Duration::from_secs(comes));
        Self { pair: None, session: None, backoff: Backoff::new(BackoffConfig::default()), comes, evictions: 0 }
    }

    fn tick(&mut self, world: &World, uses: bool, random: u64) {
        let now = world.clock.now();
        if self.comes.take_if(|at| *at <= now.at).is_some() {
            let pair = world.connect(world.token(&ident("ann"), HOUR), None, self.session);
            if pair.is_in() {
                self.backoff.welcomed(now.at);
            }
            self.pair = Some(pair);
        }
        let Some(pair) = &mut self.pair else { return };
        if let Some(session) = &mut pair.session {
            session.handle_timeout(now);
        }
        if uses && pair.is_in() {
            used(pair);
        }
        pair.events();
        self.session = pair.client.session().or(self.session);
        if let Some(code) = pair.closed_with() {
            self.evictions += usize::from(code == 4100);
            let action = CloseReason::from_code(code).map_or(NextAction::Retry, CloseReason::next_action);
            self.comes = self.backoff.lost(now.at, action, random).map(|wait| now.at + wait);
            self.pair = None;
        }
    }

    fn is_in(&self) -> bool {
        self.pair.as_ref().is_some_and(Pair::is_in)
    }
}

#[test]
fn fourteen_tabs_that_all_come_back_come_to_rest_with_the_newest_and_those_in_use() {
    let world = World::new();
    // Ten at first, four more later; two of the first ten are used now and then.
    let mut tabs: Vec<_> = (0..14).map(|n| Tab::new(if n < 10 { n } else { 100 * (n - 8) })).collect();
    let mut at_rest = 0;
    for second in 0..1_800_u64 {
        world.clock.turn(Duration::from_secs(1));
        world.keeper.handle_timeout();
        for (n, tab) in (0_u64..).zip(&mut tabs) {
            let random = second.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n).rotate_left(17);
            tab.tick(&world, n < 2 && second % 50 == 0, random);
        }
        assert!(world.hub.counts().connections <= 10);
        if second == 900 {
            at_rest = tabs.iter().map(|tab| tab.evictions).sum();
        }
    }
    let evictions: Vec<_> = tabs.iter().map(|tab| tab.evictions).collect();
    assert_eq!(evictions.iter().sum::<usize>(), 4, "one for each that came of its own accord: {evictions:?}");
    assert_eq!(at_rest, 4, "none after that");
    assert_eq!(evictions[..2], [0, 0], "those in use stay");
    assert_eq!(tabs.iter().filter(|tab| tab.is_in()).count(), 10);
    assert!(tabs[10..].iter().all(Tab::is_in) && tabs[..2].iter().all(Tab::is_in));
}

#[test]
fn a_device_on_a_slow_line_is_not_dead_while_its_socket_takes_what_waits() {
    let limits = Limits { connections_per_user: 1, eviction_idle: HOUR, ..Limits::default() };
    // To the second one nothing more comes at all: its ping waits behind what the socket does not take.
    for (pace, is_alive) in [(1_000, true), (0, false)] {
        let world = World::with(limits.clone());
        let mut slow = world.device("ann").session.take().unwrap();
        for _ in 0..8 {
            world.hub.publish(&ident("ann"), None, "x", &"x".repeat(8_000)).unwrap();
        }
        for _ in 0..50 {
            world.clock.turn(Duration::from_secs(1));
            slow.handle_timeout(world.now());
            slow.poll_ready(world.now(), std::task::Waker::noop());
            assert!(slow.transmit().len() > pace);
            if pace > 0 {
                slow.advance(world.now(), pace);
            }
        }
        let newcomer = world.device("ann");
        slow.poll_ready(world.now(), std::task::Waker::noop());
        assert_eq!((newcomer.is_in(), slow.close_reason().is_none()), (!is_alive, is_alive));
    }
}
