//! What probes are answered with, and why.

use serde_json::{Map, Value, json};

use super::Hub;
use crate::level::ServiceLevel;

/// The media type of [`Health::encode`], for the header `Content-Type`: the draft `draft-inadarei-api-health-check`.
pub const HEALTH_MEDIA_TYPE: &str = "application/health+json";

/// Whether it works, and what that rests on. It is for everybody: it names no user, and shows what every client is told.
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
    /// What was seen: a share from 0 to 1, or a word.
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
    /// As a JSON object of the type [`HEALTH_MEDIA_TYPE`].
    pub fn encode(&self) -> String {
        let mut checks = Map::new();
        for Check { name, status, observed, output } in &self.checks {
            let mut check = json!({"status": status.as_str(), "observedValue": observed});
            if let (Some(output), Value::Object(fields)) = (output, &mut check) {
                fields.insert("output".into(), output.as_str().into());
            }
            checks.insert(name.clone(), json!([check]));
        }
        let version = env!("CARGO_PKG_VERSION");
        json!({"status": self.status.as_str(), "version": version, "notes": self.notes, "checks": checks}).to_string()
    }
}

impl Hub {
    /// Whether the process works: it never fails, since whatever it can give now, starting it anew would give less.
    pub fn health(&self) -> Health {
        let status = self.level_status();
        let level = status.notice.level;
        let mut checks = vec![
            Check {
                name: "service:level".into(),
                status: status_of(level),
                observed: level.as_str().into(),
                output: Some(status.notice.reason.to_string()),
            },
            share("memory:utilization", f64::from(status.memory_percent) / 100.0),
            share("connections:utilization", part(self.sockets(), self.limits().connections)),
            Check {
                name: "shutdown".into(),
                status: if self.is_draining() { HealthStatus::Warn } else { HealthStatus::Pass },
                observed: self.is_draining().into(),
                output: None,
            },
        ];
        checks.extend(status.dependencies.iter().map(|(name, report)| Check {
            name: format!("dependency:{}", name.as_str()),
            status: status_of(report.level),
            observed: report.level.as_str().into(),
            output: Some(report.reason.to_string()),
        }));
        let overall = checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Pass);
        Health { status: overall, notes: self.notes(level, &status.notice.reason), checks }
    }

    /// Whether to send new connections here. It is ready at every level: whoever resumes must be led here, since nobody else knows
    /// its position. It is not once it shuts down.
    pub fn readiness(&self) -> Health {
        let mut health = self.health();
        if self.is_draining() {
            health.status = HealthStatus::Fail;
        }
        health
    }

    fn notes(&self, level: ServiceLevel, reason: &str) -> Vec<String> {
        let mut notes = Vec::new();
        match level {
            ServiceLevel::Normal => {}
            ServiceLevel::Degraded => {
                notes.push(format!("service is limited, and text comes in larger pieces: {reason}"))
            }
            ServiceLevel::Emergency => {
                notes.push(format!("only who continues something is let in, and text comes late: {reason}"));
            }
        }
        if self.is_draining() {
            notes.push("shutting down: connections are told to go and are closed; send new ones elsewhere".into());
        }
        notes
    }
}

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
