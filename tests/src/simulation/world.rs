//! Everything there is, and how it goes on until everything waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use trunkline_core::client::State;
use trunkline_core::id::ConnectionId;
use trunkline_core::limits::Limits;
use trunkline_core::protocol::ServiceLevel;
use trunkline_core::time::{Clock as _, Timestamp};

use super::agents::Agents;
use super::cast;
use super::clock::SimClock;
use super::counters::{Counted, Tally};
use super::device::{Device, Supply};
use super::draw;
use super::issuer::Issuer;
use super::judge::Judge;
use super::outsiders::Outsiders;
use super::producer::Producer;
use super::server::Server;
use super::trace::Trace;
use super::truth::Truth;
use crate::simulator::Seeded;

/// What everybody needs.
#[derive(Clone, Debug)]
pub(super) struct Ctx {
    pub(super) judge: Judge,
    pub(super) trace: Trace,
    pub(super) tally: Tally,
    pub(super) clock: Arc<SimClock>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) entropy: Arc<Seeded>,
    numbers: Rc<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    sockets: Cell<u64>,
    tokens: Cell<u64>,
    connections: RefCell<BTreeSet<ConnectionId>>,
}

impl Ctx {
    fn new(seed: u64, limits: &Limits, in_words: bool) -> Self {
        Self {
            judge: Judge::default(),
            trace: Trace::new(in_words),
            tally: Tally::default(),
            clock: Arc::default(),
            issuer: Arc::new(Issuer::new(cast::users(), limits.token_leeway)),
            entropy: Arc::new(Seeded::new(seed)),
            numbers: Rc::default(),
        }
    }

    pub(super) fn hold(&self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        self.judge.hold(holds, rule, what);
    }

    pub(super) fn blame(&self, rule: &'static str, what: impl FnOnce() -> String) {
        self.judge.blame(rule, what);
    }

    pub(super) fn next_socket(&self) -> u64 {
        next(&self.numbers.sockets)
    }

    pub(super) fn next_token(&self) -> u64 {
        next(&self.numbers.tokens)
    }

    /// Whether no connection had this id before.
    pub(super) fn is_new(&self, connection: ConnectionId) -> bool {
        self.numbers.connections.borrow_mut().insert(connection)
    }
}

fn next(numbers: &Cell<u64>) -> u64 {
    numbers.set(numbers.get() + 1);
    numbers.get()
}

/// The server, everybody who talks to it, and what is true.
pub(super) struct World {
    pub(super) ctx: Ctx,
    pub(super) limits: Limits,
    shards: usize,
    pub(super) server: Server,
    pub(super) devices: Vec<Device>,
    pub(super) producers: Vec<Producer>,
    pub(super) agents: Agents,
    pub(super) outsiders: Outsiders,
    pub(super) truth: Truth,
    pub(super) supply: Supply,
    steps: usize,
}

/// What lies between two servers.
pub(super) const RESTART: Duration = Duration::from_micros(2_003);
/// How often everybody may go on without time that passes, before that counts as for ever.
const ROUNDS: u32 = 20_000;

impl World {
    pub(super) fn new(seed: u64, in_words: bool) -> Self {
        let (limits, shards) = draw::limits(seed);
        let ctx = Ctx::new(seed, &limits, in_words);
        let server = Server::new(&limits, shards, &ctx);
        let mut world = Self {
            devices: (0..cast::DEVICES.len()).map(|name| Device::new(&ctx, name)).collect(),
            producers: (0..cast::PRODUCERS.len()).map(Producer::new).collect(),
            agents: Agents::default(),
            outsiders: Outsiders::default(),
            truth: Truth::new(cast::PEOPLE, cast::TOPICS.len()),
            supply: Supply { up: true, life: Duration::from_secs(120) },
            limits,
            shards,
            server,
            ctx,
            steps: 0,
        };
        world.settle();
        world
    }

    /// Lets everybody go on until everybody waits.
    pub(super) fn settle(&mut self) {
        let now = self.ctx.clock.at();
        self.server.devices_decide |= !self.truth.approvals.is_empty();
        for round in 0..ROUNDS {
            let mut went_on = self.server.turn(now);
            if went_on {
                self.look_at_logs();
            }
            let Self { ctx, server, devices, producers, truth, supply, outsiders, .. } = self;
            for device in devices {
                went_on |= device.pump(ctx, server, truth, *supply);
            }
            for producer in producers {
                went_on |= producer.pump(ctx, server, truth, *supply);
            }
            went_on |= outsiders.pump(ctx);
            if !went_on {
                break;
            }
            if round + 1 == ROUNDS {
                self.ctx.blame("R61", || "everybody goes on for ever".to_owned());
            }
        }
        let Self { truth, server, agents, .. } = self;
        agents.take(server);
        agents.open.iter_mut().for_each(|agent| agent.look(truth));
        self.replace_drained();
    }

    /// What came over the wire, or of itself, is in the logs too.
    fn look_at_logs(&mut self) {
        if !self.server.take_wire_news() {
            return;
        }
        let Self { ctx, server, truth, .. } = self;
        for (user, log) in truth.users.iter_mut().enumerate() {
            log.grow(server.hub.user_status(ctx.issuer.user(user)).head, &ctx.judge);
        }
    }

    /// Another server takes the place of one that has shut down.
    fn replace_drained(&mut self) {
        let Some(since) = self.server.draining else { return };
        let took = self.ctx.clock.at().saturating_since(since);
        let late = took > self.limits.drain_deadline + self.limits.close_deadline;
        if late {
            let attached = self.server.sockets.values().filter(|socket| socket.seen.user.get().is_some()).count();
            self.ctx.hold(attached == 0, "R74", || format!("{attached} are there {took:?} after the drain began"));
        }
        if self.server.sockets.is_empty() || late {
            self.restart();
        }
    }

    /// The server is gone, and another one is there.
    pub(super) fn restart(&mut self) {
        self.restart_as(&self.limits.clone());
    }

    /// The same with these limits.
    pub(super) fn restart_as(&mut self, limits: &Limits) {
        let Self { ctx, truth, producers, .. } = self;
        for socket in std::mem::take(&mut self.server.sockets).into_values() {
            drop(socket);
        }
        self.agents.die();
        truth.restart();
        producers.iter_mut().for_each(|producer| producer.cut(ctx, truth));
        ctx.issuer.forget_revocations();
        // A server does not come again within the microsecond: epochs go by that.
        ctx.clock.move_to(ctx.clock.at() + RESTART);
        self.server = Server::new(limits, self.shards, ctx);
        self.server.hold_to(&self.limits);
        self.devices.iter_mut().for_each(|device| device.limit = None);
        self.settle();
    }

    /// Time passes, deadline after deadline.
    pub(super) fn pass(&mut self, time: Duration) {
        let target = self.ctx.clock.at() + time;
        let mut rounds = 0;
        loop {
            let next = self.next_due();
            if next > target {
                break;
            }
            let before = self.ctx.clock.at();
            self.ctx.clock.move_to(next);
            rounds = if self.ctx.clock.at() > before { 0 } else { rounds + 1 };
            if rounds > 1_000 {
                return self.ctx.blame("R61", || format!("something is due for ever at {next:?}"));
            }
            self.due();
        }
        self.ctx.clock.move_to(target);
        self.due();
    }

    fn due(&mut self) {
        let now = self.ctx.clock.now();
        self.devices.iter_mut().for_each(|device| device.time(now));
        self.producers.iter_mut().for_each(|producer| producer.time(now));
        self.outsiders.time(now);
        self.settle();
    }

    fn next_due(&self) -> Timestamp {
        let devices = self.devices.iter().filter_map(|device| device.client.poll_timeout());
        let producers = self.producers.iter().map(Producer::next_due);
        let others = [self.server.next_due(), self.outsiders.next_due()];
        devices.chain(producers).chain(others).min().unwrap_or(Timestamp::MAX)
    }

    /// What must hold whenever everything waits.
    pub(super) fn check(&mut self) {
        self.steps += 1;
        self.server.check(&self.ctx, &self.limits, self.steps.is_multiple_of(16));
        let normal = self.server.hub.level() == ServiceLevel::Normal;
        for device in &self.devices {
            let attached = device.line.as_ref().is_some_and(|line| {
                self.server.sockets.get(&line.number).is_some_and(|socket| socket.seen.user.get().is_some())
            });
            let is_free = normal && attached && !device.gone && *device.client.state() == State::Live && device.flows();
            let truth = &mut self.truth;
            self.ctx.hold(!is_free || device.view.has_all(truth), "R40", || {
                let head = truth.users[device.view.user].head;
                format!(
                    "device {} is at {:?}, nothing holds it back, and the log ends at {head:?}",
                    device.view.name, device.view.at
                )
            });
        }
    }

    pub(super) fn count(&self, what: Counted) {
        self.ctx.tally.count(what);
    }
}
