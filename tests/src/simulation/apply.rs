//! What each operation does.

use trunkline_core::protocol::ServiceLevel;

use super::agents::{Agent, publish, publish_topic};
use super::cast;
use super::clock::millis;
use super::counters::Counted;
use super::device::Device;
use super::op::Op;
use super::pipe::Channel;
use super::server::Server;
use super::truth::Truth;
use super::world::{Ctx, World};

impl World {
    /// Does one thing, and lets what comes of it happen.
    pub(super) fn apply(&mut self, op: Op) {
        self.act(op);
        self.collect_ghosts();
        self.settle();
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Pass { millis: time } => self.pass(millis(time.into())),
            Op::Skew { millis } => self.skew(millis),
            Op::Publish { user, thread, bytes } => self.publish(user, thread, bytes),
            Op::PublishTopic { topic, bytes } => self.publish_topic(topic, bytes),
            Op::Ephemeral { user } => self.ephemeral(user),
            Op::Start { user, thread } => self.start(user, thread),
            Op::Think { run } => self.work(run, Agent::think),
            Op::CallTool { run } => self.work(run, Agent::call),
            Op::EndTool { run } => self.work(run, Agent::end_call),
            Op::Say { run, part, chars, times } => {
                (0..times).for_each(|_| {
                    self.work(run, |agent, ctx, server, truth| agent.stream(ctx, server, truth, part % 2, chars.into()))
                });
            }
            Op::Suspend { run } => self.work(run, Agent::suspend),
            Op::Resume { run } => self.work(run, Agent::resume),
            Op::Complete { run } => self.finish(run, true),
            Op::Fail { run } => self.finish(run, false),
            Op::Abandon { run } => self.agents.abandon(&self.ctx, &self.server, &mut self.truth, run),
            Op::Obey => self.agents.obey(&self.ctx, &self.server, &mut self.truth),
            Op::Message { device, thread } => self.message(device, thread),
            Op::Command { device } => self.command(device),
            Op::Cancel { device } => self.cancel(device),
            Op::Approve { device } => self.approve(device),
            Op::Answer => self.agents.answer(&self.ctx, &self.server, &mut self.truth),
            Op::Refuse => self.agents.refuse(),
            Op::Ignore => self.agents.ignore(),
            Op::Follow { device, topic } => self.follow(device, topic),
            Op::Leave { device, topic } => self.unfollow(device, topic),
            Op::Cut { device } => self.cut(usize::from(device)),
            Op::Storm => self.storm(),
            Op::Vanish { device } => self.vanish(device),
            Op::HalfOpen { device } => self.half_open(device),
            Op::Hold { device, up } => self.pipe(device, up, Channel::hold),
            Op::Trickle { device, up, bytes } => self.pipe(device, up, |pipe| pipe.trickle(bytes.into())),
            Op::Release { device } => self.pipes(device, |pipe| pipe.let_through(None)),
            Op::Fragment { device, bytes } => self.pipes(device, |pipe| pipe.fragment = bytes.into()),
            Op::Narrow { device, hundreds } => {
                self.pipe(device, false, |pipe| pipe.narrow(100 * usize::from(hundreds.max(1))));
            }
            Op::Lie { device, lie } if lie.is_about_the_next() => self.device(device).next_lie = Some(lie),
            Op::Lie { device, lie } => self.pipe(device, lie.is_upward(), |pipe| pipe.lie = Some(lie)),
            Op::Wrong { at, wrong } => self.go_wrong(at, wrong),
            Op::Offline { device } => self.device(device).offline = true,
            Op::Online { device } => self.online(device),
            Op::Delay { device } => self.device(device).delay = true,
            Op::Late { ghost, bytes } => self.late(ghost, bytes),
            Op::LateEnd { ghost } => self.outsiders.late_end(ghost),
            Op::Twin { device } => self.twin(device),
            Op::Stranger { greets, tenths } => self.stranger(greets, tenths),
            Op::Go { device } => self.go(device),
            Op::Come { device, afresh } => self.come(device, afresh),
            Op::TokenLife { seconds } => self.supply.live(seconds),
            Op::IssuerDown => self.supply.up = false,
            Op::IssuerUp => self.issuer_up(),
            Op::Refresh { device } => self.refresh(device),
            Op::RevokeToken { device } => self.revoke_token(device),
            Op::RevokeSession { device } => self.revoke_session(device),
            Op::RevokeUser { user } => self.revoke_user(user),
            Op::ProducerCome { producer } => self.producer_come(producer),
            Op::ProducerCut { producer } => self.producer_cut(producer),
            Op::ProducerVanish { producer } => self.producer_vanish(producer),
            Op::ProducerStart { producer, user, thread, lease } => self.producer_start(producer, user, thread, lease),
            Op::ProducerWork { producer, run, what } => self.producer_work(producer, run, what),
            Op::ProducerAnswer { producer } => self.producer_answer(producer),
            Op::ProducerPublish { producer, user } => self.producer_publish(producer, user),
            Op::Drain => self.drain(),
            Op::Restart => self.die(),
            Op::Level { level } => self.level(level),
        }
    }

    pub(super) fn device(&mut self, device: u8) -> &mut Device {
        let at = usize::from(device) % self.devices.len();
        &mut self.devices[at]
    }

    fn skew(&mut self, by: i32) {
        self.count(Counted::Skews);
        // No two instants of one calendar are alike to the microsecond, which epochs go by.
        let odd = i64::try_from(self.ctx.next_token() % 997).unwrap_or(0);
        self.ctx.clock.skew_by(if by == 0 { 0 } else { i64::from(by) * 1_000 + odd });
    }

    fn drain(&mut self) {
        if self.server.draining.is_none() {
            self.count(Counted::Drains);
            self.server.hub.begin_shutdown();
            self.server.draining = Some(self.ctx.clock.at());
        }
    }

    fn die(&mut self) {
        self.count(Counted::Restarts);
        self.restart();
    }

    fn level(&mut self, level: u8) {
        let levels = [Some(ServiceLevel::Normal), Some(ServiceLevel::Degraded), Some(ServiceLevel::Emergency)];
        let level = levels.get(usize::from(level)).copied().flatten();
        self.server.hub.set_level(level, "simulated");
    }

    fn publish(&mut self, user: u8, thread: u8, bytes: u16) {
        let (user, thread) = (usize::from(user) % cast::PEOPLE, thread % cast::THREADS);
        publish(&self.ctx, &self.server, &mut self.truth, user, thread, bytes);
    }

    fn publish_topic(&mut self, topic: u8, bytes: u16) {
        let topic = usize::from(topic) % cast::TOPICS.len();
        publish_topic(&self.ctx, &self.server, &mut self.truth, topic, bytes);
    }

    fn ephemeral(&mut self, user: u8) {
        let user = self.ctx.issuer.user(usize::from(user) % cast::PEOPLE);
        let told = self.server.hub.publish_ephemeral(user, None, "typing", &1);
        self.ctx.hold(told.is_ok(), "R33", || format!("nothing is told for now: {told:?}"));
    }

    fn start(&mut self, user: u8, thread: u8) {
        let (user, thread) = (usize::from(user) % cast::PEOPLE, 1 + thread % (cast::THREADS - 1));
        self.agents.start(&self.ctx, &self.server, &mut self.truth, user, thread);
    }

    fn work(&mut self, run: u8, act: impl FnOnce(&mut Agent, &Ctx, &Server, &mut Truth)) {
        if let Some(agent) = self.agents.pick(run) {
            act(agent, &self.ctx, &self.server, &mut self.truth);
        }
    }

    fn finish(&mut self, run: u8, well: bool) {
        self.agents.finish(&self.ctx, &self.server, &mut self.truth, run, well);
    }

    fn producer(&self, producer: u8) -> usize {
        usize::from(producer) % self.producers.len()
    }

    fn producer_come(&mut self, producer: u8) {
        let at = self.producer(producer);
        self.producers[at].come(&self.ctx, &mut self.server, self.supply);
    }

    fn producer_cut(&mut self, producer: u8) {
        let at = self.producer(producer);
        self.producers[at].cut(&self.ctx, &mut self.truth);
    }

    fn producer_vanish(&mut self, producer: u8) {
        let at = self.producer(producer);
        if let Some(line) = self.producers[at].vanish(&self.ctx, &mut self.truth) {
            self.outsiders.keep(line);
        }
    }

    fn producer_start(&mut self, producer: u8, user: u8, thread: u8, lease: u8) {
        let (user, thread) = (usize::from(user) % cast::PEOPLE, 1 + thread % (cast::THREADS - 1));
        let at = self.producer(producer);
        self.producers[at].tidy(&self.truth);
        self.producers[at].start(&mut self.truth, user, thread, lease);
    }

    fn producer_work(&mut self, producer: u8, run: u8, what: u8) {
        let at = self.producer(producer);
        self.producers[at].work(&mut self.truth, run, what);
    }

    fn producer_answer(&mut self, producer: u8) {
        let at = self.producer(producer);
        self.producers[at].tidy(&self.truth);
        self.producers[at].answer(&self.ctx, &mut self.truth);
    }

    fn producer_publish(&mut self, producer: u8, user: u8) {
        let at = self.producer(producer);
        self.producers[at].publish(&mut self.truth, usize::from(user) % cast::PEOPLE);
    }
}
