//! What a run came to.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::checker::Tally;
use super::options::{Mode, Options};

/// What a run came to, in words by `Display` and for machines by serde.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was done.
    pub mode: Mode,
    /// How many connections the mode had, beside those that publish.
    pub connections: usize,
    /// Bytes of the string in each message.
    pub size: usize,
    /// What was in flight at most, where that was asked for.
    pub window: Option<usize>,
    /// What was asked for, a second.
    pub rate: Option<f64>,
    /// What was measured, in its order.
    pub spans: Vec<Span>,
    /// The server's memory before the connections came, and with them.
    pub memory: Option<Memory>,
    /// What all receivers were given, from the first message to the last.
    pub verified: Tally,
    /// How much went wrong.
    pub faults: u64,
    /// The first of it, in words.
    pub first_faults: Vec<String>,
}

/// One stretch of time in which something was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// Which one.
    pub name: &'static str,
    /// How long it was.
    pub seconds: f64,
    /// What is counted.
    pub unit: &'static str,
    /// How many of those.
    pub count: u64,
    /// A second.
    pub per_second: f64,
    /// From the time at which each was to be sent to its arrival.
    pub latency: Option<Latency>,
    /// The server's, of all processors.
    pub cpu_seconds: Option<f64>,
    /// The same for a million of the unit.
    pub cpu_seconds_per_million: Option<f64>,
    /// The harness' own, of the one processor that it can use: where it is close to `seconds`, the server could do more.
    pub harness_cpu_seconds: Option<f64>,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "they are what they are called")]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
    /// How many times.
    pub count: u64,
}

/// Bytes that are resident.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Before the connections came.
    pub before: u64,
    /// With them.
    pub after: u64,
    /// The difference for each; what the server had set aside before, such as an allocator's, makes it less than it is.
    pub per_connection: f64,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |share| histogram.value_at_quantile(share) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
            mean: histogram.mean() / 1e3,
            count: histogram.len(),
        })
    }
}

impl Memory {
    pub(super) fn new(before: u64, after: u64, connections: usize) -> Self {
        Self { before, after, per_connection: (after as f64 - before as f64) / connections.max(1) as f64 }
    }
}

impl Span {
    pub(super) fn new(name: &'static str, unit: &'static str, took: Duration, count: u64, cpu: Option<f64>) -> Self {
        let seconds = took.as_secs_f64();
        let per_million = cpu.filter(|_| count > 0).map(|cpu| cpu * 1e6 / count as f64);
        Self {
            name,
            seconds,
            unit,
            count,
            per_second: count as f64 / seconds.max(1e-9),
            latency: None,
            cpu_seconds: cpu,
            cpu_seconds_per_million: per_million,
            harness_cpu_seconds: None,
        }
    }
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        let Options { mode, connections, size, window, rate, .. } = *options;
        Self {
            mode,
            connections,
            size,
            window,
            rate,
            spans: Vec::new(),
            memory: None,
            verified: Tally::default(),
            faults: 0,
            first_faults: Vec::new(),
        }
    }

    /// Whether every event arrived once and in order, and nothing else was wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults == 0 && self.verified.is_whole()
    }

    /// # Errors
    /// When it cannot be written, which does not happen.
    pub fn to_json(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, connections, size, .. } = self;
        writeln!(f, "{mode:?}: {connections} connections, {size} bytes a message")?;
        self.spans.iter().try_for_each(|span| span.fmt(f))?;
        if let Some(Memory { before, after, per_connection }) = self.memory {
            let mib = |bytes| bytes as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "server memory: {:.1} MiB, then {:.1}: {per_connection:.0} bytes a connection",
                mib(before),
                mib(after)
            )?;
        }
        writeln!(f, "verified: {}", self.verified)?;
        for fault in &self.first_faults {
            writeln!(f, "FAULT {fault}")?;
        }
        writeln!(
            f,
            "{}",
            if self.is_sound() { "sound".to_owned() } else { format!("NOT SOUND: {} faults", self.faults) }
        )
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seconds, unit, count, per_second, .. } = self;
        writeln!(f, "{name}: {count} {unit} in {seconds:.3} s: {per_second:.0} a second")?;
        if let Some(Latency { p50, p90, p99, p999, max, mean, .. }) = self.latency {
            writeln!(
                f,
                "  µs: p50 {p50:.0}, p90 {p90:.0}, p99 {p99:.0}, p99.9 {p999:.0}, max {max:.0}, mean {mean:.0}"
            )?;
        }
        if let Some(cpu) = self.cpu_seconds {
            write!(f, "  server: {cpu:.3} CPU seconds")?;
            if let Some(per_million) = self.cpu_seconds_per_million {
                write!(f, ", {per_million:.2} for a million {unit}")?;
            }
            writeln!(f)?;
        }
        if let Some(cpu) = self.harness_cpu_seconds {
            writeln!(f, "  harness: {cpu:.3} CPU seconds, {:.0} % of its processor", cpu / seconds * 100.0)?;
        }
        Ok(())
    }
}
