//! What a hub counts and measures: one table of metrics, as Prometheus and the operators' frames show it.
//!
//! [`Hub::metrics`](crate::hub::Hub::metrics) makes the table, [`text`] writes it in the text format of Prometheus. Labels have
//! few values that are known beforehand: no user, topic, run or address is one.
//!
//! ```
//! use trunkline_core::metrics::{Family, Kind, text};
//!
//! let mut family = Family::new("trunkline_deliveries_total", "Events that connections have taken.", Kind::Counter);
//! family.add(&[], 812.0);
//! let text = text(&[family]);
//! let lines: Vec<_> = text.lines().collect();
//! assert_eq!(lines[0], "# HELP trunkline_deliveries_total Events that connections have taken.");
//! assert_eq!(lines[1..], ["# TYPE trunkline_deliveries_total counter", "trunkline_deliveries_total 812"]);
//! ```

mod histogram;
mod shard;

use std::borrow::Cow;
use std::fmt::{self, Write as _};

pub use histogram::Histogram;
pub use shard::{BEHIND_EVENTS, ByKind, DELIVERY_MICROS, Outcome, RequestKind, Resumes, ShardTally};

/// The media type of [`text`], for the header `Content-Type`.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric with all its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// In the form that Prometheus advises: what, in which unit, `_total` where it is a counter.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    /// How to read it.
    pub kind: Kind,
    /// Each of other labels.
    pub samples: Vec<Sample>,
}

/// How a metric is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, until the hub is made anew.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Counts by upper bounds.
    Histogram,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What follows the family's name: of a histogram `_bucket`, `_sum` or `_count`.
    pub suffix: &'static str,
    /// Names and values.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// The number.
    pub value: f64,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Family {
    /// One without samples.
    pub const fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    /// Adds a number.
    pub fn add(&mut self, labels: &[(&'static str, &'static str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))).collect();
        self.samples.push(Sample { suffix: "", labels, value });
    }

    /// Adds a number with labels that are made for it.
    pub fn add_owned<const N: usize>(&mut self, labels: [(&'static str, String); N], value: f64) {
        let labels = labels.into_iter().map(|(name, value)| (name, Cow::Owned(value))).collect();
        self.samples.push(Sample { suffix: "", labels, value });
    }

    /// The samples of a histogram, of whose values `per_unit` are one unit of the metric.
    pub fn add_histogram<const N: usize>(&mut self, histogram: &Histogram<N>, per_unit: f64) {
        let bucket = |le: Cow<'static, str>, count: u64| Sample {
            suffix: "_bucket",
            labels: vec![("le", le)],
            value: count as f64,
        };
        let buckets =
            histogram.cumulative().map(|(bound, count)| bucket((bound as f64 / per_unit).to_string().into(), count));
        self.samples.extend(buckets);
        self.samples.push(bucket("+Inf".into(), histogram.count()));
        let plain = |suffix, value| Sample { suffix, labels: Vec::new(), value };
        self.samples.push(plain("_sum", histogram.sum() as f64 / per_unit));
        self.samples.push(plain("_count", histogram.count() as f64));
    }
}

/// The families in the text format of Prometheus, version 0.0.4.
pub fn text(families: &[Family]) -> String {
    let mut out = String::with_capacity(8 << 10);
    for family in families {
        // Writing into a string does not fail.
        let _ = write_family(&mut out, family);
    }
    out
}

fn write_family(out: &mut String, family: &Family) -> fmt::Result {
    let Family { name, help, kind, samples } = family;
    writeln!(out, "# HELP {name} {help}")?;
    writeln!(out, "# TYPE {name} {}", kind.as_str())?;
    for Sample { suffix, labels, value } in samples {
        write!(out, "{name}{suffix}")?;
        let mut before = '{';
        for (label, value) in labels {
            write!(out, "{before}{label}=\"{}\"", Escaped(value))?;
            before = ',';
        }
        if !labels.is_empty() {
            out.push('}');
        }
        writeln!(out, " {value}")?;
    }
    Ok(())
}

/// A label's value between its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

/// What is measured beside a state, and what no decision rests on. `Debug` shows nothing of it: two states that differ in it alone
/// are alike.
#[derive(Clone, Copy, Default)]
pub struct Aside<T>(pub T);

impl<T> fmt::Debug for Aside<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aside(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_has_rising_buckets_a_sum_and_a_count() {
        const BOUNDS: [u64; 2] = [250, 1_000_000];
        let mut seen = Histogram::new(&BOUNDS);
        [100, 300, 2_000_000].into_iter().for_each(|micros| seen.observe(micros));
        let mut family = Family::new("x_seconds", "How long.", Kind::Histogram);
        family.add_histogram(&seen, 1e6);
        let expected = [
            "# HELP x_seconds How long.",
            "# TYPE x_seconds histogram",
            r#"x_seconds_bucket{le="0.00025"} 1"#,
            r#"x_seconds_bucket{le="1"} 2"#,
            r#"x_seconds_bucket{le="+Inf"} 3"#,
            "x_seconds_sum 2.0004",
            "x_seconds_count 3",
            "",
        ];
        assert_eq!(text(&[family]), expected.join("\n"));
    }

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let mut family = Family::new("x", "y", Kind::Gauge);
        family.samples.push(Sample { suffix: "", labels: vec![("a", "\"}\n\\".into())], value: 1.0 });
        assert!(text(&[family]).contains("x{a=\"\\\"}\\n\\\\\"} 1\n"));
    }
}
