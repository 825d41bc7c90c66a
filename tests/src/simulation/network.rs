//! What the network does to devices.

use std::time::Duration;

use trunkline_core::client::State;
use trunkline_core::time::Clock as _;

use super::counters::Counted;
use super::pipe::Channel;
use super::world::World;

impl World {
    /// What devices gave up with bytes on their way is kept, so that these may arrive late.
    pub(super) fn collect_ghosts(&mut self) {
        let Self { devices, outsiders, .. } = self;
        for device in devices {
            device.ghosts.drain(..).for_each(|line| outsiders.keep(line));
        }
    }

    pub(super) fn cut(&mut self, device: usize) {
        let at = device % self.devices.len();
        if let Some(line) = &self.devices[at].line {
            self.ctx.tally.count(Counted::Cut);
            line.up.borrow_mut().break_off();
            line.down.borrow_mut().break_off();
        }
    }

    pub(super) fn storm(&mut self) {
        self.count(Counted::Storms);
        (0..self.devices.len()).for_each(|device| self.cut(device));
    }

    pub(super) fn vanish(&mut self, device: u8) {
        let Some(line) = self.device(device).line.clone() else { return };
        self.count(Counted::Vanished);
        self.server.forget(line.number, &line);
    }

    pub(super) fn half_open(&mut self, device: u8) {
        let now = self.ctx.clock.now();
        let device = self.device(device);
        let Some(line) = device.line.take() else { return };
        line.up.borrow_mut().hold();
        device.client.handle_eof(now);
        device.flag.set();
        self.count(Counted::HalfOpen);
        self.outsiders.keep(line);
    }

    pub(super) fn pipe(&mut self, device: u8, up: bool, change: impl FnOnce(&mut Channel)) {
        let Some(line) = self.device(device).line.clone() else { return };
        let pipe = if up { line.up } else { line.down };
        change(&mut pipe.borrow_mut());
        if !pipe.borrow().flows() {
            self.count(Counted::Held);
        }
    }

    pub(super) fn pipes(&mut self, device: u8, change: impl Fn(&mut Channel)) {
        self.pipe(device, true, &change);
        self.pipe(device, false, &change);
    }

    pub(super) fn online(&mut self, device: u8) {
        let now = self.ctx.clock.now();
        let device = self.device(device);
        device.offline = false;
        device.client.reconnect_now(now);
        device.flag.set();
    }

    pub(super) fn late(&mut self, ghost: u8, bytes: u16) {
        if self.outsiders.late(ghost, bytes.into()) {
            self.count(Counted::Late);
        }
    }

    pub(super) fn stranger(&mut self, greets: bool, tenths: u8) {
        self.count(Counted::Strangers);
        let every = Duration::from_millis(100 * u64::from(tenths.max(1)));
        self.outsiders.come(&self.ctx, &mut self.server, greets, every);
    }

    pub(super) fn go(&mut self, device: u8) {
        let now = self.ctx.clock.now();
        let device = self.device(device);
        device.client.close(now);
        device.flag.set();
    }

    pub(super) fn come(&mut self, device: u8, afresh: bool) {
        let ctx = self.ctx.clone();
        self.device(device).come(&ctx, afresh);
    }

    pub(super) fn twin(&mut self, device: u8) {
        let at = usize::from(device) % self.devices.len();
        let Self { ctx, server, devices, outsiders, .. } = self;
        let device = &mut devices[at];
        if device.session.is_none() || *device.client.state() != State::Live {
            return;
        }
        ctx.tally.count(Counted::Twins);
        device.may_stop = true;
        outsiders.copy(ctx, server, device);
    }
}
