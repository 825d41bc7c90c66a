//! Faults stop, and everything comes to rest: every client is in and has what there is, every run ends, and when all leave,
//! nothing is left.

use std::time::Duration;

use trunkline_core::client::State;
use trunkline_core::time::Clock as _;

use super::cast;
use super::counters::Counted;
use super::op::Op;
use super::truth::{Truth, text};
use super::view::View;
use super::world::World;

/// Longer than any wait of a client's, and any lease.
const PATIENCE: u32 = 60;
const STRIDE: Duration = Duration::from_secs(10);

impl World {
    /// Ends all faults and looks whether everything mends.
    pub(super) fn come_to_rest(&mut self) {
        self.heal();
        for _ in 0..PATIENCE {
            self.pass(STRIDE);
            self.check();
            if !self.ctx.judge.is_content() || self.is_well() {
                break;
            }
        }
        self.look_at_devices();
        self.end_runs();
        self.look_at_texts();
        self.leave();
        self.count(Counted::CameToRest);
    }

    fn heal(&mut self) {
        self.apply(Op::Skew { millis: 0 });
        self.apply(Op::Level { level: 3 });
        self.apply(Op::TokenLife { seconds: 250 });
        self.apply(Op::IssuerUp);
        self.outsiders.leave();
        for device in 0..self.devices.len() as u8 {
            self.apply(Op::Release { device });
            self.apply(Op::Fragment { device, bytes: 0 });
            self.apply(Op::Narrow { device, hundreds: 255 });
            self.device(device).delay = false;
            self.apply(Op::Online { device });
            self.apply(Op::Come { device, afresh: false });
        }
    }

    /// Whether every client is in, no server shuts down and every device has all there is.
    fn is_well(&mut self) -> bool {
        let truth = &mut self.truth;
        self.server.draining.is_none()
            && self
                .devices
                .iter()
                .all(|device| *device.client.state() == State::Live && device.flows() && device.view.has_all(truth))
    }

    fn look_at_devices(&mut self) {
        // A stop that was legal before the faults ended may have been told since.
        for device in 0..self.devices.len() as u8 {
            self.apply(Op::Come { device, afresh: false });
        }
        if !self.is_well() {
            self.pass(20 * STRIDE);
        }
        let truth = &mut self.truth;
        for device in &self.devices {
            let name = device.view.name;
            let live = *device.client.state() == State::Live;
            self.ctx.hold(live, "liveness", || format!("device {name} is {:?}", device.client.state()));
            let at = device.view.at;
            self.ctx.hold(device.view.has_all(truth), "liveness", || {
                format!("device {name} is at {at:?} and the log ends at {:?}", truth.users[device.view.user].head)
            });
        }
    }

    /// Whoever works comes to an end, or dies.
    fn end_runs(&mut self) {
        while !self.agents.open.is_empty() {
            self.apply(Op::Abandon { run: 0 });
        }
        for producer in 0..self.producers.len() as u8 {
            self.apply(Op::ProducerCome { producer });
        }
        self.pass(STRIDE);
        // One of them ends its runs, the others die.
        let Self { producers, truth, ctx, .. } = self;
        for (at, producer) in producers.iter_mut().enumerate() {
            if at == 0 { producer.finish(truth) } else { producer.cut(ctx, truth) }
        }
        self.settle();
        self.pass(self.limits.run_lease_max + STRIDE);
        let counts = self.server.hub.counts();
        self.ctx.hold(counts.runs == 0, "I11", || format!("{} runs do not end", counts.runs));
        self.ctx.hold(counts.requests == 0, "R37", || format!("{} requests are never answered", counts.requests));
        for device in &self.devices {
            for (tag, seen) in &device.view.runs {
                let name = device.view.name;
                self.ctx.hold(seen.over, "I11", || format!("run {tag} does not end for device {name}"));
            }
        }
        for device in &self.devices {
            let waits = device.requests.len();
            let name = device.view.name;
            self.ctx.hold(waits == 0, "R33", || format!("device {name} waits for {waits} answers"));
        }
    }

    /// The texts that a person reads are what was said.
    fn look_at_texts(&self) {
        for device in &self.devices {
            let view: &View = &device.view;
            for (id, run) in device.client.reducer().runs() {
                let Some(tag) = self.truth.run_of(*id) else { continue };
                let known = &self.truth.runs[tag];
                self.ctx.hold(known.user == view.user, "I12", || format!("device {} shows run {tag}", view.name));
                for (part, shown) in &run.parts {
                    let part = cast::part_number(part);
                    let whole = same(&self.truth, tag, part, shown.start, &shown.text);
                    self.ctx.hold(whole, "I1", || format!("device {} shows another text of run {tag}", view.name));
                }
            }
        }
    }

    /// Everybody goes, and what is kept for them goes in time.
    fn leave(&mut self) {
        let now = self.ctx.clock.now();
        for device in &mut self.devices {
            device.client.close(now);
            device.flag.set();
        }
        let Self { producers, truth, ctx, .. } = self;
        producers.iter_mut().for_each(|producer| producer.cut(ctx, truth));
        self.outsiders.leave();
        self.pass(STRIDE);
        // Ends that the server was not told of are found out by silence.
        self.pass(self.limits.heartbeat_interval + self.limits.write_stall + STRIDE);
        let hub = &self.server.hub;
        let counts = hub.counts();
        let left = [hub.sockets(), hub.unauthenticated(), hub.inbound_bytes(), counts.connections, counts.runs];
        self.ctx.hold(left == [0; 5], "R68", || {
            format!("of sockets, unverified, bytes, connections and runs are left: {left:?}")
        });
        self.pass(self.limits.log_retention.max(self.limits.dedup_window) + STRIDE);
        let counts = self.server.hub.counts();
        self.ctx.hold((counts.users, counts.topics, counts.log_bytes) == (0, 0, 0), "R102", || {
            format!("{} users, {} topics and {} bytes stay", counts.users, counts.topics, counts.log_bytes)
        });
    }
}

fn same(truth: &Truth, tag: usize, part: usize, start: u64, shown: &str) -> bool {
    let chars = shown.chars().count() as u64;
    start + chars <= truth.runs[tag].ends[part] && *shown == text(tag, part, start, chars)
}
