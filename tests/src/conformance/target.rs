//! Servers that the suite is run against.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use trunkline_core::auth::{Access, ClaimRules, CookieName, Hs256, Origin};
use trunkline_core::hub::HubConfig;

use super::language::{Need, Scenario};
use super::net::{Local, Stop, Tcp};
use super::report::Failure;
use super::runner;
use super::token::Issuer;
use crate::server::{Program, SECRET};
use crate::simulator::{Simulator, Weather};

/// A server, or a kind of server, to be tested.
pub trait Target {
    /// What it is called in a report.
    fn name(&self) -> &str;
    /// What it has beyond the endpoint.
    fn offers(&self) -> BTreeSet<Need>;
    /// Runs one scenario.
    fn run<'a>(
        &'a self,
        scenario: &'a Scenario,
        issuer: &'a Issuer,
        prefix: &'a str,
    ) -> Local<'a, Result<(), Box<Failure>>>;
}

/// A server that somebody else runs.
#[derive(Debug)]
pub struct Foreign {
    name: String,
    net: Tcp,
    offers: BTreeSet<Need>,
}

impl Foreign {
    /// A server that is there, and what it has.
    pub fn new(name: impl Into<String>, net: Tcp, offers: impl IntoIterator<Item = Need>) -> Self {
        Self { name: name.into(), net, offers: offers.into_iter().collect() }
    }
}

impl Target for Foreign {
    fn name(&self) -> &str {
        &self.name
    }

    fn offers(&self) -> BTreeSet<Need> {
        self.offers.clone()
    }

    fn run<'a>(
        &'a self,
        scenario: &'a Scenario,
        issuer: &'a Issuer,
        prefix: &'a str,
    ) -> Local<'a, Result<(), Box<Failure>>> {
        Box::pin(runner::run(scenario, &self.net, issuer, prefix))
    }
}

/// A program that the suite starts: once for all, and once more for each scenario that wants one of its own.
pub struct Started<'a> {
    name: String,
    start: Box<dyn Fn() -> Program + 'a>,
    shared: Program,
    offers: BTreeSet<Need>,
}

impl fmt::Debug for Started<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("name", &self.name).field("offers", &self.offers).finish_non_exhaustive()
    }
}

impl<'a> Started<'a> {
    /// A program that is started so, and what it has beside what the suite can do to it because it has started it.
    pub fn new(
        name: impl Into<String>,
        offers: impl IntoIterator<Item = Need>,
        start: impl Fn() -> Program + 'a,
    ) -> Self {
        let offers = offers.into_iter().chain([Need::Own, Need::Stop]).collect();
        Self { name: name.into(), shared: start(), start: Box::new(start), offers }
    }
}

impl Target for Started<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn offers(&self) -> BTreeSet<Need> {
        self.offers.clone()
    }

    fn run<'a>(
        &'a self,
        scenario: &'a Scenario,
        issuer: &'a Issuer,
        prefix: &'a str,
    ) -> Local<'a, Result<(), Box<Failure>>> {
        Box::pin(async move {
            let own = [Need::Own, Need::Stop].iter().any(|need| scenario.needs.contains(need));
            if !own {
                let net = Tcp::new(self.shared.addr, self.shared.addr.to_string(), None);
                return runner::run(scenario, &net, issuer, prefix).await;
            }
            let program = (self.start)();
            let (addr, process) = (program.addr, program.id());
            let stop: Stop = Rc::new(RefCell::new(move || terminate(process)));
            let outcome = runner::run(scenario, &Tcp::new(addr, addr.to_string(), Some(stop)), issuer, prefix).await;
            drop(program);
            outcome
        })
    }
}

fn terminate(process: u32) -> Result<(), String> {
    let sent = std::process::Command::new("kill").args(["-TERM", &process.to_string()]).status();
    if sent.is_ok_and(|status| status.success()) { Ok(()) } else { Err("the signal cannot be sent".to_owned()) }
}

/// The hub and its sessions in this process, on a virtual clock: one for each scenario.
#[derive(Clone, Debug)]
pub struct Simulated {
    name: String,
    seed: u64,
    weather: Weather,
}

impl Simulated {
    /// Simulations of this seed, in this weather.
    pub fn new(name: impl Into<String>, seed: u64, weather: Weather) -> Self {
        Self { name: name.into(), seed, weather }
    }
}

impl Target for Simulated {
    fn name(&self) -> &str {
        &self.name
    }

    fn offers(&self) -> BTreeSet<Need> {
        Need::ALL.into()
    }

    fn run<'a>(
        &'a self,
        scenario: &'a Scenario,
        issuer: &'a Issuer,
        _prefix: &'a str,
    ) -> Local<'a, Result<(), Box<Failure>>> {
        Box::pin(async move {
            let verifier = Hs256::new(SECRET, ClaimRules::default()).expect("the secret is long enough");
            let config = HubConfig { access: access(), ..HubConfig::default() };
            let simulator = Simulator::new(self.seed, self.weather.clone(), config, Arc::new(verifier));
            let net = simulator.net();
            // Always the same names: what happens is a function of the seed.
            let ran = simulator.run(runner::run(scenario, &net, issuer, "s-"));
            // A step waits for a time at most, so that something always happens.
            ran.expect("no scenario waits for ever")
        })
    }
}

/// As the other servers of the suite are set up: every carrier is on.
fn access() -> Access {
    let origin = Origin::parse("https://app.example").expect("an origin");
    let cookie = CookieName::parse("token").expect("a cookie's name");
    Access::with_origins([origin]).with_cookie(cookie).expect("origins are listed").with_tickets()
}
