//! One suite that holds any server of this protocol to `core/PROTOCOL.md`, over the wire and by nothing else.
//!
//! The scenarios are data, in `tests/conformance/*.toml`; the README beside them explains their language. [`load`](language::load)
//! reads them, [`Suite::run`] runs them against a [`Target`], and what comes out is a [`Report`]. Every scenario
//! has users, topics and keys of its own, so that all run at once, and the same server can be tested again.
//!
//! Authors of adapters run it as a program:
//!
//! ```text
//! cargo run -p trunkline-tests --bin conformance -- --url ws://127.0.0.1:8787/ws --secret-file secret
//! ```

pub mod language;
pub mod net;
pub mod pattern;
mod peer;
pub mod proxy;
pub mod report;
pub mod runner;
mod secrets;
pub mod target;
pub mod template;
pub mod token;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;

use language::{Need, Scenario};
use report::{Line, Report, Verdict};
use target::Target;
use token::Issuer;

/// Where the scenarios are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Scenarios that are to be run, and how.
#[derive(Clone, Debug)]
pub struct Suite {
    /// In the order of their files.
    pub scenarios: Vec<Scenario>,
    /// Who signs tokens.
    pub issuer: Issuer,
    /// How many run at once.
    pub jobs: usize,
}

impl Suite {
    /// All of them, at once.
    ///
    /// # Errors
    /// When a file holds what has no meaning.
    pub fn all(issuer: Issuer) -> Result<Self, language::Fault> {
        Ok(Self { scenarios: language::load(&folder())?, issuer, jobs: usize::MAX })
    }

    /// Those whose name or area has this in it.
    #[must_use]
    pub fn filtered(mut self, part: &str) -> Self {
        self.scenarios.retain(|scenario| scenario.name.contains(part) || scenario.area.contains(part));
        self
    }

    /// Those of these names.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.scenarios.retain(|scenario| names.contains(&scenario.name.as_str()));
        self
    }

    /// Runs them and answers what became of each. It must be called on a runtime of tokio.
    pub async fn run(&self, target: &dyn Target) -> Report {
        let mut order: Vec<_> = self.scenarios.iter().enumerate().collect();
        // Those that wait longest begin first: all together take about as long as they.
        order.sort_by_key(|(_, scenario)| std::cmp::Reverse(scenario.lasts()));
        let runs = order.into_iter().map(|(place, scenario)| async move { (place, self.one(scenario, target).await) });
        let jobs = self.jobs.clamp(1, self.scenarios.len().max(1));
        let mut lines: Vec<_> = stream::iter(runs).buffer_unordered(jobs).collect().await;
        lines.sort_by_key(|(place, _)| *place);
        Report { target: target.name().to_owned(), lines: lines.into_iter().map(|(_, line)| line).collect() }
    }

    async fn one(&self, scenario: &Scenario, target: &dyn Target) -> Line {
        let start = Instant::now();
        let verdict = match missing(&scenario.needs, target) {
            Some(why) => Verdict::Skipped(why),
            None => match target.run(scenario, &self.issuer, &prefix()).await {
                Ok(()) => Verdict::Passed,
                Err(failure) => Verdict::Failed(failure),
            },
        };
        Line { area: scenario.area.clone(), name: scenario.name.clone(), verdict, took: start.elapsed() }
    }
}

fn missing(needs: &BTreeSet<Need>, target: &dyn Target) -> Option<String> {
    let offers = target.offers();
    let missing: Vec<_> = needs.iter().filter(|need| !offers.contains(need)).map(|need| need.name()).collect();
    (!missing.is_empty()).then(|| format!("without {}", missing.join(", ")))
}

/// No other run has names that begin so, on whatever machine it was: the time in it is to the microsecond.
fn prefix() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
    format!("{:x}-{}-", since.as_micros(), RUNS.fetch_add(1, Ordering::Relaxed))
}
