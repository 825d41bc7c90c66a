//! The one I/O loop on a scripted socket: partial writes, sockets that are not ready, ends, early timers, and how much
//! it does per wake.
#![cfg(not(loom))]

mod support;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use support::{Read, Socket, World, enter, masked, upgrade, user};
use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role};
use trunkline_core::connection::PhaseName;
use trunkline_core::drive::{Driver, MAX_READ_BYTES, Machine, READ_BYTES, Timer};
use trunkline_core::error::CloseReason;
use trunkline_core::hub::{Hub, Request, Session};
use trunkline_core::time::{Clock, Now, Timestamp};

/// How many rounds one poll may take: the driver's own bound, seen from outside.
const BUDGET: usize = 32;

/// A timer that tests fire, and that counts how often it was set.
#[derive(Debug, Default)]
struct Alarm {
    at: Option<Timestamp>,
    sets: usize,
    /// How often it says that the time has come although it has not.
    early: usize,
}

impl Timer for Alarm {
    fn reset(self: Pin<&mut Self>, at: Timestamp) {
        let this = self.get_mut();
        (this.at, this.sets) = (Some(at), this.sets + 1);
    }

    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let fires = this.early > 0;
        this.early = this.early.saturating_sub(1);
        if fires { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Parts that tests look into while the driver holds them.
#[derive(Debug)]
struct Shared<T>(Rc<RefCell<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    fn new(value: T) -> Self {
        Self(Rc::new(RefCell::new(value)))
    }

    fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }
}

impl trunkline_core::drive::Transport for Shared<Socket> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        self.with(|socket| Pin::new(socket).poll_read(cx, buf))
    }
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.with(|socket| Pin::new(socket).poll_write(cx, bytes))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.with(|socket| Pin::new(socket).poll_shutdown(cx))
    }
}

impl Timer for Shared<Alarm> {
    fn reset(self: Pin<&mut Self>, at: Timestamp) {
        self.with(|alarm| Pin::new(alarm).reset(at));
    }
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|alarm| Pin::new(alarm).poll_elapsed(cx))
    }
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A machine between a scripted socket and a scripted timer.
struct Rig<M, C> {
    driver: Driver<M, Shared<Socket>, Shared<Alarm>, C>,
    socket: Shared<Socket>,
    alarm: Shared<Alarm>,
    wakes: Arc<Wakes>,
}

impl<M: Machine + Unpin, C: Clock + Unpin> Rig<M, C> {
    fn new(machine: M, clock: C) -> Self {
        let (socket, alarm) = (Shared::new(Socket::default()), Shared::new(Alarm::default()));
        let driver = Driver::new(machine, socket.clone(), alarm.clone(), clock);
        Self { driver, socket, alarm, wakes: Arc::default() }
    }

    fn poll(&mut self) -> Poll<M> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        Pin::new(&mut self.driver).poll(&mut Context::from_waker(&waker)).map(|(machine, _)| machine)
    }

    fn comes(&self, read: Read) {
        self.socket.with(|socket| socket.reads.push_back(read));
    }

    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }

    /// Reads and writes since the last call.
    fn calls(&self) -> (usize, usize) {
        self.socket.with(|socket| (std::mem::take(&mut socket.read_calls), std::mem::take(&mut socket.write_calls)))
    }
}

fn idle_rig(world: &World) -> Rig<Session, Hub> {
    let mut session = world.hub.session().unwrap();
    enter(world, &mut session, &world.token(&user("ann")));
    let mut rig = Rig::new(session, world.hub.clone());
    assert!(rig.poll().is_pending());
    rig.calls();
    rig
}

fn texts(wire: &[u8]) -> usize {
    let mut assembler = Assembler::new(Role::Client, usize::MAX);
    let mut rest = wire;
    let messages: Vec<_> = std::iter::from_fn(|| assembler.push(&mut rest).unwrap()).collect();
    messages.iter().filter(|message| matches!(message, Message::Text(_))).count()
}

#[test]
fn fifty_queued_events_leave_in_one_write() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    for n in 0..50 {
        world.hub.publish(&user("ann"), None, "note", &n).unwrap();
    }
    assert_eq!(rig.wakes(), 1, "fifty marks before the reader looked are one wake-up");
    assert!(rig.poll().is_pending());
    let (reads, writes) = rig.calls();
    assert_eq!(writes, 1);
    assert!(reads <= 2, "{reads}");
    assert_eq!(texts(&rig.socket.with(|socket| socket.written.clone())), 50);
}

#[test]
fn a_poll_without_readiness_reads_once_writes_never_and_does_not_wake_itself() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    for _ in 0..3 {
        assert!(rig.poll().is_pending());
        assert_eq!(rig.calls(), (1, 0));
    }
    assert_eq!(rig.wakes(), 0);
    assert_eq!(rig.alarm.with(|alarm| alarm.sets), 1, "a deadline that stands is not set again");
}

#[test]
fn a_socket_that_takes_a_little_at_a_time_gets_every_byte_once_and_in_order() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    // A byte, nothing, seven bytes, nothing; from there on everything.
    let script = [Some(1), Some(0), Some(7), Some(0)];
    rig.socket.with(|socket| socket.writes.extend(script));
    for n in 0..5 {
        world.hub.publish(&user("ann"), None, "note", &n).unwrap();
    }
    // The script has two moments at which the socket is not ready; each ends a poll at the latest.
    for _ in 0..2 {
        assert!(rig.poll().is_pending());
    }
    assert!(rig.poll().is_pending());
    assert_eq!(texts(&rig.socket.with(|socket| socket.written.clone())), 5);
}

#[test]
fn a_blocked_socket_is_still_read_and_is_not_written_to_more_than_once_a_poll() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    rig.socket.with(|socket| socket.writes.extend([Some(0); 100]));
    world.hub.publish(&user("ann"), None, "note", &1).unwrap();
    rig.comes(Read::Bytes(masked(Opcode::Ping, b"x")));
    assert!(rig.poll().is_pending());
    let (reads, writes) = rig.calls();
    assert!(reads <= 2 && writes <= 2, "{reads} reads, {writes} writes");
    assert!(rig.socket.with(|socket| socket.reads.is_empty()));
    assert_eq!(rig.wakes(), 1, "the event's, and none of its own");
}

#[test]
fn replies_that_a_peer_never_reads_end_it_instead_of_piling_up() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut rig = idle_rig(&world);
    rig.socket.with(|socket| socket.writes.extend([Some(0); 1_000]));
    for n in 0..60 {
        let command = format!(r#"{{"type":"command","id":"{n}","name":"x"}}"#);
        rig.comes(Read::Bytes(masked(Opcode::Text, command.as_bytes())));
    }
    while rig.socket.with(|socket| !socket.reads.is_empty()) {
        assert!(rig.poll().is_pending());
    }
    let mut answered = 0;
    while let Poll::Ready(Some(request)) = requests.poll_next(&mut Context::from_waker(Waker::noop())) {
        let Request::Command(command) = request else { panic!("{request:?}") };
        command.reply(&"x".repeat(30_000)).unwrap();
        assert!(rig.poll().is_pending());
        answered += 1;
        if world.hub.counts().connections == 0 {
            break;
        }
    }
    let gate = (32 + 64 + 64) << 10;
    assert!(answered <= gate / 30_000 + 2, "closed after {answered} answers");
    world.turn(Duration::from_secs(5));
    assert!(rig.poll().map(|session| session.close_reason()) == Poll::Ready(Some(CloseReason::WriteStalled)));
}

#[test]
fn a_whole_conversation_over_pieces_of_three_bytes() {
    let world = World::new();
    let mut rig = Rig::new(world.hub.session().unwrap(), world.hub.clone());
    let token = world.token(&user("ann"));
    let close = masked(Opcode::Close, &1000_u16.to_be_bytes());
    let bytes = [upgrade(), support::hello(&token), masked(Opcode::Ping, b"p"), close].concat();
    for piece in bytes.chunks(3) {
        rig.comes(Read::Bytes(piece.to_vec()));
        rig.socket.with(|socket| socket.writes.extend([Some(2), Some(0)]));
    }
    let session = run(&mut rig);
    assert_eq!((session.phase(), session.close_reason()), (PhaseName::Closed, Some(CloseReason::Normal)));
    let written = rig.socket.with(|socket| socket.written.clone());
    assert!(written.starts_with(b"HTTP/1.1 101 "));
    assert!(written.ends_with(&[0x8a, 1, b'p', 0x88, 2, 0x03, 0xe8]), "a pong and the echo of the close");
    assert_eq!(world.hub.counts().connections, 0);
}

#[test]
fn the_end_of_the_stream_and_faults_of_the_socket_end_the_future_and_free_the_user() {
    let broken_read: fn(&mut Rig<Session, Hub>) = |rig| rig.comes(Read::Broken);
    let eof: fn(&mut Rig<Session, Hub>) = |rig| rig.comes(Read::Eof);
    let broken_write: fn(&mut Rig<Session, Hub>) = |rig| {
        rig.comes(Read::Bytes(masked(Opcode::Ping, b"x")));
        rig.socket.with(|socket| socket.writes.push_back(None));
    };
    for fault in [broken_read, eof, broken_write] {
        let world = World::new();
        let mut rig = idle_rig(&world);
        fault(&mut rig);
        assert!(rig.poll().is_ready());
        assert_eq!(world.hub.counts().connections, 0);
        assert!(rig.poll().is_pending(), "polled after its end, it waits for nothing");
    }
}

#[test]
fn a_peer_that_broke_the_framing_sees_the_end_of_what_is_sent_and_is_read_to_its_own() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    // A frame with an opcode that no RFC has, and much behind it.
    rig.comes(Read::Bytes(masked(Opcode::Text, b"{}").into_iter().map(|byte| byte | 0x03).collect()));
    rig.comes(Read::Bytes(vec![7; 20_000]));
    // The close frame has not left yet: nothing is ended before it.
    rig.socket.with(|socket| socket.writes.push_back(Some(0)));
    while rig.socket.with(|socket| !socket.writes.is_empty() || !socket.reads.is_empty()) {
        assert_eq!(rig.socket.with(|socket| socket.shutdowns), 0);
        assert!(rig.poll().is_pending());
    }
    assert!(rig.poll().is_pending());
    assert_eq!(rig.socket.with(|socket| (socket.written[2..4].to_vec(), socket.shutdowns)), (vec![0x03, 0xea], 1));
    rig.comes(Read::Eof);
    assert_eq!(rig.poll().map(|session| session.close_reason()), Poll::Ready(Some(CloseReason::ProtocolError)));
    assert_eq!(rig.socket.with(|socket| socket.shutdowns), 1, "once");
}

#[test]
fn what_was_sent_before_the_end_of_the_stream_is_still_taken() {
    let world = World::new();
    let mut rig = Rig::new(world.hub.session().unwrap(), world.hub.clone());
    rig.comes(Read::Bytes([upgrade(), support::hello(&world.token(&user("ann")))].concat()));
    rig.comes(Read::Eof);
    assert!(rig.poll().is_ready());
    assert!(rig.socket.with(|socket| socket.written.len()) > 300, "the answer and the welcome");
}

#[test]
fn a_timer_that_fires_early_is_set_again_and_nothing_is_done_before_its_time() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    let due = rig.alarm.with(|alarm| alarm.at).unwrap();
    assert_eq!(due, Timestamp::ZERO + Duration::from_secs(25));
    rig.alarm.with(|alarm| alarm.early = 3);
    assert!(rig.poll().is_pending());
    assert_eq!(rig.alarm.with(|alarm| (alarm.at, alarm.sets)), (Some(due), 4));
    assert_eq!(rig.calls().1, 0);
    world.turn(Duration::from_secs(25));
    rig.alarm.with(|alarm| alarm.early = 1);
    assert!(rig.poll().is_pending());
    assert_eq!(rig.socket.with(|socket| socket.written.clone()), [0x89, 0], "a ping");
    assert_eq!(rig.alarm.with(|alarm| alarm.at), Some(due + Duration::from_secs(10)));
}

#[test]
fn a_deadline_that_moved_later_is_met_by_one_early_wake_up() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    for second in 1..20 {
        world.turn(Duration::from_secs(1));
        rig.comes(Read::Bytes(masked(Opcode::Pong, b"")));
        assert!(rig.poll().is_pending());
        assert_eq!(rig.alarm.with(|alarm| alarm.sets), 1, "after {second} s");
    }
    world.turn(Duration::from_secs(6));
    rig.alarm.with(|alarm| alarm.early = 1);
    assert!(rig.poll().is_pending());
    assert_eq!(rig.alarm.with(|alarm| (alarm.at, alarm.sets)), (Some(Timestamp::from_micros(44_000_000)), 2));
    assert!(rig.socket.with(|socket| socket.written.is_empty()));
}

#[test]
fn a_socket_that_always_has_more_yields_after_its_budget() {
    let world = World::new();
    let mut rig = idle_rig(&world);
    let pong = masked(Opcode::Pong, b"");
    for _ in 0..1_000 {
        rig.comes(Read::Bytes(pong.clone()));
    }
    for turn in 1..=3 {
        assert!(rig.poll().is_pending());
        assert_eq!((rig.calls(), rig.wakes()), ((BUDGET, 0), turn), "it wakes itself, so that others get their turn");
    }
    while rig.socket.with(|socket| !socket.reads.is_empty()) {
        assert!(rig.poll().is_pending());
    }
    let wakes = rig.wakes();
    assert!(rig.poll().is_pending());
    assert_eq!(rig.wakes(), wakes, "and sleeps once there is no more");
}

#[test]
fn of_a_producer_more_is_read_at_once_and_no_more_in_one_poll() {
    let producer = r#","producer":{"id":"bot"}"#;
    let (many, few) = (BUDGET, BUDGET * READ_BYTES / MAX_READ_BYTES);
    // The first read shows that there is more.
    for (more, reads) in [("", [many; 3]), (producer, [few + 1, few, few])] {
        let world = World::new();
        let mut session = world.hub.session().unwrap();
        let token = world.scoped_token(&user("ann"), "publish");
        let hello = format!(r#"{{"type":"hello","token":"{token}"{more}}}"#);
        for bytes in [upgrade(), masked(Opcode::Text, hello.as_bytes())] {
            session.handle_bytes(world.now(), &bytes);
        }
        let mut rig = Rig::new(session, world.hub.clone());
        assert!(rig.poll().is_pending());
        rig.calls();
        let pong = masked(Opcode::Pong, b"");
        let much = pong.repeat((1 << 20) / pong.len());
        let all = much.len();
        rig.comes(Read::Bytes(much));
        for (turn, reads) in (1..).zip(reads) {
            assert!(rig.poll().is_pending());
            assert_eq!((rig.calls(), rig.wakes()), ((reads, 0), turn), "{more}");
        }
        let left = rig.socket.with(|socket| match socket.reads.front() {
            Some(Read::Bytes(bytes)) => bytes.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(all - left, 3 * BUDGET * READ_BYTES, "{more}");
    }
}

#[test]
fn two_busy_sockets_take_turns() {
    let world = World::new();
    let (mut ann, mut bob) = (idle_rig(&world), idle_rig(&world));
    for rig in [&ann, &bob] {
        for _ in 0..200 {
            rig.comes(Read::Bytes(masked(Opcode::Pong, b"")));
        }
    }
    let left = |rig: &Rig<Session, Hub>| rig.socket.with(|socket| socket.reads.len());
    while left(&ann) > 0 {
        assert!(ann.poll().is_pending() && bob.poll().is_pending());
        assert_eq!(left(&ann), left(&bob));
    }
}

/// A machine whose deadline never moves: a fault of a machine must not hang the thread.
#[derive(Debug, Default)]
struct Stuck {
    timeouts: usize,
    closed: bool,
}

impl Machine for Stuck {
    fn poll_ready(&mut self, _now: Now, _waker: &Waker) {}
    fn handle_bytes(&mut self, _now: Now, _bytes: &[u8]) {}
    fn handle_eof(&mut self, _now: Now) {
        self.closed = true;
    }
    fn handle_broken(&mut self, _now: Now) {
        self.closed = true;
    }
    fn handle_timeout(&mut self, _now: Now) {
        self.timeouts += 1;
    }
    fn poll_timeout(&self) -> Option<Timestamp> {
        Some(Timestamp::ZERO)
    }
    fn transmit(&self) -> &[u8] {
        b""
    }
    fn advance(&mut self, _now: Now, _n: usize) {}
    fn wants_read(&self) -> bool {
        true
    }
    fn is_closed(&self) -> bool {
        self.closed
    }
}

#[test]
fn a_machine_that_never_gets_on_does_not_keep_the_thread() {
    let world = World::new();
    let mut rig = Rig::new(Stuck::default(), world.hub.clone());
    assert!(rig.poll().is_pending());
    assert_eq!(rig.wakes(), 1);
    rig.comes(Read::Eof);
    assert_eq!(rig.poll().map(|stuck| stuck.timeouts), Poll::Ready(BUDGET + 1));
}

#[test]
fn debug_of_a_session_shows_no_bytes() {
    let world = World::new();
    let mut session = world.hub.session().unwrap();
    session.handle_bytes(world.now(), b"GET /ws HTTP/1.1\r\nAuthorization: Bearer aa.bb.cc");
    let shown = format!("{session:?}");
    assert!(!shown.contains("97, 97, 46") && !shown.contains("aa.bb"), "{shown}");
}

/// Polls as often as the driver or the script has reason to.
fn run<M: Machine + Unpin, C: Clock + Unpin>(rig: &mut Rig<M, C>) -> M {
    for _ in 0..10_000 {
        if let Poll::Ready(machine) = rig.poll() {
            return machine;
        }
    }
    panic!("it never ends");
}
