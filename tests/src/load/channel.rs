//! Messages on their way from one sender to those that are to get them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use super::bench::Bench;
use super::checker::{Checker, Tally};
use super::link::{Link, Reader};
use super::marker::{Seen, Template, number_of, see, shown, string};

/// At most so many messages are put together for one write.
const BATCH: usize = 64;

/// How many messages are in flight, and how many may be.
#[derive(Debug)]
pub(super) struct Gate {
    in_flight: Cell<usize>,
    limit: usize,
    opened: Notify,
}

impl Gate {
    pub(super) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { in_flight: Cell::new(0), limit, opened: Notify::new() })
    }

    /// Waits until there is room, and answers how much.
    pub(super) async fn room(&self) -> usize {
        loop {
            match self.limit.saturating_sub(self.in_flight.get()) {
                0 => self.opened.notified().await,
                room => return room,
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.get() == 0
    }

    fn give(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.opened.notify_one();
    }
}

/// One sequence of messages, numbered from 1: to a topic, to a user, or from one who asks.
#[derive(Debug)]
pub(super) struct Channel {
    template: Template,
    link: Rc<Link>,
    gate: Rc<Gate>,
    /// How many are to get each message.
    pub(super) receivers: Cell<u32>,
    sent: Cell<u64>,
    /// Of each message in flight, the oldest first, how many have not got it.
    open: RefCell<VecDeque<u32>>,
}

impl Channel {
    pub(super) fn new(template: Template, link: Rc<Link>, gate: &Rc<Gate>, receivers: u32) -> Rc<Self> {
        let (sent, open) = (Cell::new(0), RefCell::default());
        Rc::new(Self { template, link, gate: Rc::clone(gate), receivers: Cell::new(receivers), sent, open })
    }

    /// Sends what was put.
    pub(super) fn flush(&self) {
        self.link.flush();
    }

    /// Puts the next message on its link; its time is the one at which it was to be sent.
    pub(super) fn put(&self, time: u64) {
        let number = self.sent.get() + 1;
        self.sent.set(number);
        self.open.borrow_mut().push_back(self.receivers.get());
        self.gate.in_flight.set(self.gate.in_flight.get() + 1);
        self.link.put(|out| self.template.append(out, number, time));
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// One of the receivers has got it. What is twice there, or never was sent, is for its checker to notice.
    pub(super) fn arrived(&self, number: u64) {
        let mut open = self.open.borrow_mut();
        let ended = self.sent.get() - open.len() as u64;
        let at = number.checked_sub(ended + 1).and_then(|at| usize::try_from(at).ok());
        let Some(left) = at.and_then(|at| open.get_mut(at)) else { return };
        *left = left.saturating_sub(1);
        while open.front() == Some(&0) {
            open.pop_front();
            self.gate.give();
        }
    }
}

/// Sends on one channel after the other until the measurement is over: as fast as the gate lets, or at fixed times. What the gate
/// holds back at a fixed rate is sent late, under the time at which it was to be sent.
pub(super) async fn send(bench: &Bench, channels: &[Rc<Channel>], gate: &Gate) {
    match bench.options.rate {
        None => send_freely(bench, channels, gate).await,
        Some(rate) => send_at(bench, rate, channels, gate).await,
    }
}

async fn send_freely(bench: &Bench, channels: &[Rc<Channel>], gate: &Gate) {
    let mut turns = channels.iter().cycle();
    loop {
        let room = gate.room().await.min(BATCH);
        let now = bench.clock.now();
        if bench.meter.is_over_at(now) {
            return;
        }
        let batch: Vec<_> = turns.by_ref().take(room).collect();
        batch.iter().for_each(|channel| channel.put(now));
        batch.iter().for_each(|channel| channel.flush());
        tokio::task::yield_now().await;
    }
}

async fn send_at(bench: &Bench, rate: f64, channels: &[Rc<Channel>], gate: &Gate) {
    let start = bench.clock.now();
    let due = |at: u64| start + (at as f64 * 1e9 / rate) as u64;
    let mut turns = channels.iter().cycle();
    let mut at = 0;
    while !bench.meter.is_over_at(due(at)) {
        bench.clock.until(due(at)).await;
        let room = gate.room().await.min(BATCH);
        let now = bench.clock.now();
        let first = at;
        let is_due = |at: &u64| due(*at) <= now && !bench.meter.is_over_at(due(*at));
        let count = (first..).take(room).take_while(is_due).count();
        let batch: Vec<_> = turns.by_ref().take(count).collect();
        for channel in &batch {
            channel.put(due(at));
            at += 1;
        }
        batch.iter().for_each(|channel| channel.flush());
        // Where it is late nothing above waits, and the others have their turn.
        tokio::task::yield_now().await;
    }
}

/// One that is to get a channel's messages.
pub(super) struct Receiver {
    bench: Rc<Bench>,
    pub(super) channel: Rc<Channel>,
    name: String,
    checker: RefCell<Checker>,
    is_asking: bool,
    /// Whether its messages are waited for and measured: one that does not read gets them when it reads again, or is told that
    /// they are gone.
    pub(super) counts: Cell<bool>,
    is_gone: Cell<bool>,
}

impl Receiver {
    /// One that gets events, from where its checker stands.
    pub(super) fn of_events(bench: &Rc<Bench>, channel: &Rc<Channel>, name: String, checker: Checker) -> Rc<Self> {
        Self::new(bench, channel, name, checker, false)
    }

    /// One that gets the answers to the commands that it sends.
    pub(super) fn of_replies(bench: &Rc<Bench>, channel: &Rc<Channel>, name: String) -> Rc<Self> {
        Self::new(bench, channel, name, Checker::of_replies(), true)
    }

    fn new(bench: &Rc<Bench>, channel: &Rc<Channel>, name: String, checker: Checker, is_asking: bool) -> Rc<Self> {
        let (bench, channel, checker) = (Rc::clone(bench), Rc::clone(channel), RefCell::new(checker));
        let (counts, is_gone) = (Cell::new(true), Cell::new(false));
        Rc::new(Self { bench, channel, name, checker, is_asking, counts, is_gone })
    }

    /// What it was given, where all that was sent was to come; to one that the server has closed, nothing more.
    pub(super) fn tally(&self) -> Tally {
        let checker = self.checker.borrow();
        if !self.is_gone.get() {
            return checker.tally(self.channel.sent());
        }
        let given_up = self.channel.sent().saturating_sub(checker.last());
        let tally = checker.tally(checker.last());
        Tally { told_lost: tally.told_lost + given_up, ..tally }
    }

    /// The server has closed it, and said why: it would go on from its place, or be told that what follows is gone.
    pub(super) fn leave(&self) {
        self.is_gone.set(true);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// The number of the last message that it has, or was told that it is gone.
    pub(super) fn last(&self) -> u64 {
        self.checker.borrow().last()
    }

    /// One frame has come.
    pub(super) fn hear(&self, frame: &[u8], now: u64) {
        self.take(frame, now);
    }

    /// The same; answers whether it was one of the channel's messages.
    pub(super) fn take(&self, frame: &[u8], now: u64) -> bool {
        match see(frame, self.bench.options.size) {
            Ok(Seen::Marked { given, time }) => {
                if self.is_asking && string(frame, b"\"id\":\"").and_then(number_of) != Some(given.number) {
                    self.blame(&format!("the answer is another request's: {}", shown(frame)));
                }
                if let Err(problem) = self.checker.borrow_mut().take(&given) {
                    self.blame(&problem);
                }
                if self.counts.get() {
                    self.bench.meter.came(time, now);
                    self.channel.arrived(given.number);
                } else {
                    self.bench.meter.moved();
                }
                return true;
            }
            Ok(Seen::Other("pong" | "lag" | "service_level" | "position" | "auth_expiring")) => {}
            Ok(Seen::Other("snapshot")) if !self.counts.get() => self.skip(frame),
            Ok(Seen::Other(_)) => self.blame(&shown(frame)),
            Err(problem) => self.blame(&problem),
        }
        false
    }

    /// A snapshot of a stream without runs has one part, which says what is gone.
    fn skip(&self, frame: &[u8]) {
        let to = string(frame, b"\"event_id\":\"").and_then(|text| text.parse().ok());
        let skipped = to.ok_or_else(|| shown(frame)).and_then(|to| self.checker.borrow_mut().skip(to));
        if let Err(problem) = skipped {
            self.blame(&problem);
        }
    }

    pub(super) fn blame(&self, problem: &str) {
        self.bench.blame(format!("{}: {problem}", self.name));
    }

    /// Reads until the link ends, which is a fault.
    pub(super) async fn read(self: Rc<Self>, mut reader: Reader) {
        let ending = loop {
            if let Err(ending) = reader.turn(|frame, now| self.hear(frame, now)).await {
                break ending;
            }
        };
        self.blame(&ending.to_string());
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("name", &self.name).field("checker", &self.checker).finish_non_exhaustive()
    }
}
