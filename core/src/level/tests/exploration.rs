//! The two automata, exhaustively: every order of a few reports, orders, memory readings, attempts, outcomes and seconds. From
//! every state healthy input leads back to where all is well in bounded time, and beside a probe nothing passes.

use super::*;
use crate::auth::source::{Breaker, BreakerConfig, BreakerState};
use crate::explore::{Fingerprint, Model, explore};

#[derive(Clone, Debug)]
enum Op {
    Memory(usize),
    Report(ServiceLevel),
    Order(Option<ServiceLevel>),
    Pass(u32),
    Timeout,
}

#[derive(Clone)]
struct Service {
    levels: Levels,
    now: Timestamp,
    left: u32,
}

impl Service {
    /// All is well from now on, and whoever has the timer serves it.
    fn heals(&self) {
        let (mut levels, mut now) = (self.levels.clone(), self.now);
        levels.handle_memory(now, 0, 100);
        levels.handle_report(now, &name("0"), report(ServiceLevel::Normal)).unwrap();
        levels.handle_order(now, None);
        for _ in 0..24 {
            let Some(due) = levels.poll_timeout() else { break };
            now = now.max(due);
            levels.handle_memory(now, 0, 100);
            levels.handle_timeout(now);
        }
        let patience = SEC * 3;
        assert_eq!(levels.notice().level, ServiceLevel::Normal, "all is well, and it is not said");
        assert!(levels.poll_timeout().is_none() && now <= self.now + patience, "not before {now:?}");
    }
}

impl Model for Service {
    type Op = Op;

    fn ops(&self) -> Vec<Op> {
        if self.left == 0 {
            return Vec::new();
        }
        let memory = [0, 75, 90, 100].map(Op::Memory);
        let reports = ServiceLevel::ALL.iter().copied().map(Op::Report);
        let orders = [None, Some(ServiceLevel::Normal), Some(ServiceLevel::Emergency)].map(Op::Order);
        let others = [Op::Pass(1), Op::Pass(2), Op::Timeout];
        memory.into_iter().chain(reports).chain(orders).chain(others).collect()
    }

    fn play(&mut self, op: &Op) {
        self.left -= 1;
        let before = self.levels.notice().number;
        match op {
            Op::Memory(percent) => self.levels.handle_memory(self.now, *percent, 100),
            Op::Report(level) => self.levels.handle_report(self.now, &name("0"), report(*level)).unwrap(),
            Op::Order(level) => self.levels.handle_order(self.now, level.map(report)),
            Op::Pass(seconds) => self.now = self.now + SEC * *seconds,
            Op::Timeout => self.levels.handle_timeout(self.now),
        }
        let changed = self.levels.notice().number != before;
        assert_eq!(self.levels.poll_change().is_some(), changed, "each change is told once");
        if let Op::Order(Some(level)) = op {
            assert_eq!(self.levels.notice().level, *level, "an order counts at once, and alone");
        }
        self.heals();
    }

    fn fingerprint(&self, out: &mut Fingerprint) {
        out.shown(&(&self.levels, self.now, self.left));
    }
}

#[test]
fn from_every_level_healthy_input_leads_back_to_normal() {
    let limits = Limits { level_rise_after: SEC, level_fall_after: SEC * 2, ..Limits::default() };
    let start = Service { levels: levels(limits), now: Timestamp::ZERO, left: 4 };
    explore("levels", start).is_all("levels", 1_563);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Attempt,
    Succeed,
    Fail,
    Second,
}

/// A breaker, and the attempts that it let pass and that are under way. Its owner makes one at a time.
#[derive(Clone)]
struct Guarded {
    breaker: Breaker,
    now: Timestamp,
    under_way: bool,
    left: u32,
}

impl Guarded {
    fn heals(&self) {
        let (mut breaker, mut now) = (self.breaker.clone(), self.now);
        if self.under_way {
            breaker.succeeded();
        }
        let Some(passes) = breaker.passes_at() else { panic!("nothing will pass any more") };
        now = now.max(passes);
        assert!(now <= self.now + SEC * 3 && breaker.admit(now), "not before {now:?}");
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
    }
}

impl Model for Guarded {
    type Op = Step;

    fn ops(&self) -> Vec<Step> {
        match (self.left, self.under_way) {
            (0, _) => Vec::new(),
            (_, true) => vec![Step::Attempt, Step::Succeed, Step::Fail, Step::Second],
            (_, false) => vec![Step::Attempt, Step::Second],
        }
    }

    fn play(&mut self, op: &Step) {
        self.left -= 1;
        match op {
            // Somebody else asks while one is under way: as a probe it is alone.
            Step::Attempt if self.under_way => {
                let probes = self.breaker.state() == BreakerState::HalfOpen;
                assert_eq!(self.breaker.clone().admit(self.now), !probes, "a probe is single");
            }
            Step::Attempt => self.under_way = self.breaker.admit(self.now),
            Step::Succeed => {
                self.under_way = false;
                self.breaker.succeeded();
            }
            Step::Fail => {
                let probes = self.breaker.state() == BreakerState::HalfOpen;
                self.under_way = false;
                self.breaker.failed(self.now);
                let opens = matches!(self.breaker.state(), BreakerState::Open { .. });
                assert!(!probes || opens, "a probe that fails opens it again");
            }
            Step::Second => self.now = self.now + SEC,
        }
        self.heals();
    }

    fn fingerprint(&self, out: &mut Fingerprint) {
        out.shown(&(&self.breaker, self.now, self.under_way, self.left));
    }
}

#[test]
fn from_every_state_of_a_breaker_healthy_attempts_close_it_and_a_probe_is_single() {
    let breaker = Breaker::new(BreakerConfig { failures: 3, open: SEC * 3 });
    let start = Guarded { breaker, now: Timestamp::ZERO, under_way: false, left: 14 };
    explore("breaker", start).is_all("breaker", 681);
}
