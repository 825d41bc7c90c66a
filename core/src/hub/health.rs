//! What probes are answered with, and why.

use serde_json::{Map, Value, json};

use super::Hub;
use crate::level::ServiceLevel;

/// The media type of [`Health::encode`], for the header `Content-Type`: the draft `draft-inadarei-api-health-check`.
pub const HEALTH_MEDIA_TYPE: &str = "application/health+json";

/// Whether it works, and what that rests on. It names no user.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// All in all.
    pub status: HealthStatus,
    /// For people, one sentence each: why it is so, and what that means.
    pub notes: Vec<String>,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthStatus {
    /// Well.
    Pass,
    /// It works, and somebody should look.
    Warn,
    /// It does not.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What, as in `memory:utilization`.
    pub name: String,
    /// How well it is.
    pub status: HealthStatus,
    /// What was seen: a share from 0 to 1, or a word; `null` where that is not shown.
    pub observed: Value,
    /// Why, for people.
    pub output: Option<String>,
}

impl HealthStatus {
    /// As the draft says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// 200, or 503 where it fails.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Pass | Self::Warn => 200,
            Self::Fail => 503,
        }
    }
}

impl Health {
    /// What strangers may see of it: neither which dependencies there are and what is said of them, nor how much is in use.
    #[must_use]
    pub fn for_everybody(mut self) -> Self {
        self.checks.retain(|check| !check.name.starts_with(DEPENDENCY));
        for check in self.checks.iter_mut().filter(|check| check.observed.is_number()) {
            check.observed = Value::Null;
        }
        self
    }

    /// As a JSON object of the type [`HEALTH_MEDIA_TYPE`].
    pub fn encode(&self) -> String {
        let mut checks = Map::new();
        for Check { name, status, observed, output } in &self.checks {
            let mut check = Map::from_iter([("status".to_owned(), status.as_str().into())]);
            if !observed.is_null() {
                check.insert("observedValue".into(), observed.clone());
            }
            if let Some(output) = output {
                check.insert("output".into(), output.as_str().into());
            }
            checks.insert(name.clone(), json!([check]));
        }
        let version = env!("CARGO_PKG_VERSION");
        json!({"status": self.status.as_str(), "version": version, "notes": self.notes, "checks": checks}).to_string()
    }
}

impl Hub {
    /// Whether the process works: it never fails, since whatever it can give now, starting it anew would give less.
    ///
    /// It shows the dependencies that were [reported](Hub::report) not to be well, with the reasons that were given: what strangers may
    /// see is [`Health::for_everybody`].
    pub fn health(&self) -> Health {
        self.health_while(self.is_draining())
    }

    fn health_while(&self, draining: bool) -> Health {
        let status = self.level_status();
        let level = status.notice.level;
        let mut checks = vec![
            Check {
                name: "service:level".into(),
                status: status_of(level),
                observed: level.as_str().into(),
                output: (level != ServiceLevel::Normal).then(|| status.notice.reason.to_string()),
            },
            share("memory:utilization", f64::from(status.memory_percent) / 100.0),
            share("connections:utilization", part(self.sockets(), self.limits().connections)),
            Check {
                name: "shutdown".into(),
                status: if draining { HealthStatus::Warn } else { HealthStatus::Pass },
                observed: draining.into(),
                output: None,
            },
        ];
        checks.extend(status.dependencies.iter().map(|(name, report)| Check {
            name: format!("{DEPENDENCY}{}", name.as_str()),
            status: status_of(report.level),
            observed: report.level.as_str().into(),
            output: Some(report.reason.to_string()),
        }));
        let overall = checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Pass);
        Health { status: overall, notes: notes(level, &status.notice.reason, draining), checks }
    }

    /// Whether to send new connections here. It is ready at every level: whoever resumes must be led here, since nobody else knows
    /// its position. It is not once it shuts down.
    pub fn readiness(&self) -> Health {
        let draining = self.is_draining();
        let mut health = self.health_while(draining);
        if draining {
            health.status = HealthStatus::Fail;
        }
        health
    }
}

fn notes(level: ServiceLevel, reason: &str, draining: bool) -> Vec<String> {
    let mut notes = Vec::new();
    match level {
        ServiceLevel::Normal => {}
        ServiceLevel::Degraded => notes.push(format!("service is limited, and text comes in larger pieces: {reason}")),
        ServiceLevel::Emergency => {
            notes.push(format!("only who continues something is let in, and text comes late: {reason}"));
        }
    }
    if draining {
        notes.push("shutting down: connections are told to go and are closed; send new ones elsewhere".into());
    }
    notes
}
/// What the names of the checks of dependencies begin with.
const DEPENDENCY: &str = "dependency:";

const fn status_of(level: ServiceLevel) -> HealthStatus {
    match level {
        ServiceLevel::Normal => HealthStatus::Pass,
        ServiceLevel::Degraded | ServiceLevel::Emergency => HealthStatus::Warn,
    }
}

/// Where less than a tenth is left, somebody should look.
fn share(name: &str, used: f64) -> Check {
    let status = if used > 0.9 { HealthStatus::Warn } else { HealthStatus::Pass };
    Check { name: name.into(), status, observed: used.into(), output: None }
}

fn part(used: usize, of: usize) -> f64 {
    used as f64 / of.max(1) as f64
}
