//! What a suite has found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

/// Why a scenario failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the server was held to.
    pub rule: String,
    /// File and line of the step.
    pub place: String,
    /// The step as it is written.
    pub step: String,
    /// What came instead.
    pub problem: String,
    /// What each connection sent and was sent, tokens masked.
    pub transcript: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  rule:     {}", self.rule)?;
        writeln!(f, "  expected: {} ({})", self.step, self.place)?;
        writeln!(f, "  came:     {}", self.problem)?;
        self.transcript.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// What became of one scenario.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Every step came to what it says.
    Passed,
    /// One did not.
    Failed(Box<Failure>),
    /// It was not run, for this reason.
    Skipped(String),
}

/// One scenario's line in a report.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it belongs.
    pub area: String,
    /// What it is called.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// What a suite has found, in the order of its files.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was tested.
    pub target: String,
    /// One for each scenario.
    pub lines: Vec<Line>,
}

impl Report {
    /// Those that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.lines.iter().filter_map(|line| match &line.verdict {
            Verdict::Failed(failure) => Some((line.name.as_str(), &**failure)),
            Verdict::Passed | Verdict::Skipped(_) => None,
        })
    }

    /// Those that were not run, with the reason.
    pub fn skipped(&self) -> BTreeMap<&str, &str> {
        let skipped = self.lines.iter().filter_map(|line| match &line.verdict {
            Verdict::Skipped(why) => Some((line.name.as_str(), why.as_str())),
            Verdict::Passed | Verdict::Failed(_) => None,
        });
        skipped.collect()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            let mut entry = json!({"area": line.area, "scenario": line.name, "seconds": line.took.as_secs_f64()});
            match &line.verdict {
                Verdict::Passed => entry["verdict"] = "passed".into(),
                Verdict::Skipped(why) => {
                    entry["verdict"] = "skipped".into();
                    entry["why"] = why.as_str().into();
                }
                Verdict::Failed(failure) => {
                    let Failure { rule, place, step, problem, transcript } = &**failure;
                    entry["verdict"] = "failed".into();
                    entry["failure"] =
                        json!({"rule": rule, "place": place, "step": step, "came": problem, "transcript": transcript});
                }
            }
            entry
        });
        json!({"target": self.target, "scenarios": lines.collect::<Vec<_>>()})
    }
}

/// The failures, what was skipped and why, and a table by area.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, failure) in self.failures() {
            writeln!(f, "FAILED {name}\n{failure}")?;
        }
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, why) in self.skipped() {
            reasons.entry(why).or_default().push(name);
        }
        for (why, names) in reasons {
            writeln!(f, "skipped, {why}: {}", names.join(", "))?;
        }
        let mut areas: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        let mut total = [0; 3];
        for line in &self.lines {
            let column = match line.verdict {
                Verdict::Passed => 0,
                Verdict::Failed(_) => 1,
                Verdict::Skipped(_) => 2,
            };
            areas.entry(&line.area).or_default()[column] += 1;
            total[column] += 1;
        }
        let mut table = format!("{:<16}{:>8}{:>8}{:>8}\n", self.target, "passed", "failed", "skipped");
        for (area, [passed, failed, skipped]) in areas.into_iter().chain([("in all", total)]) {
            writeln!(table, "{area:<16}{passed:>8}{failed:>8}{skipped:>8}")?;
        }
        f.write_str(&table)
    }
}
