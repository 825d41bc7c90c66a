//! The table of races and failures that must be impossible, and the check that each one has.
//!
//! `races.toml` is the data, and its head says how an entry is written. [`Table::parse`] accepts a table only if every
//! number stands in it exactly once and every entry is whole; [`Table::missing_checks`] looks up every check by name,
//! [`Table::not_run`] those that a run of the tests left out, and [`Table::page`] writes it as a page of the manual.

mod lookup;
mod page;
mod ran;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

pub use lookup::{CheckName, Missing};
pub use ran::Log;

/// The causes run from R1 to this.
pub const LAST_CAUSE: u16 = 102;
/// The invariants run from I1 to this.
pub const LAST_INVARIANT: u16 = 15;

/// The number of an entry. Its order is the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Number {
    /// `R1` to `R102`: a cause that was found, and the property that rules it out.
    Cause(u16),
    /// `I1` to `I15`: an invariant from public bug reports.
    Invariant(u16),
}

impl Number {
    /// Every number that the table must have.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=LAST_CAUSE).map(Self::Cause).chain((1..=LAST_INVARIANT).map(Self::Invariant))
    }

    /// The number spelled `text`, if there is one. There is one spelling: `R01` is none.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::all().find(|number| number.to_string() == text)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cause(n) => write!(f, "R{n}"),
            Self::Invariant(n) => write!(f, "I{n}"),
        }
    }
}

/// The kind of check that says the most about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A type in which the failure cannot be expressed.
    Type,
    /// Single cases.
    Unit,
    /// Generated cases.
    Property,
    /// Every interleaving of a small model.
    Loom,
    /// Every state of a small world.
    Exploration,
    /// Oracles over simulated worlds.
    Simulation,
    /// A conformance suite.
    Conformance,
    /// A fuzz target.
    Fuzz,
    /// A real server and real clients.
    E2e,
}

/// What stands between an entry and its failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Checks do.
    Checked {
        /// The kind among them that says the most.
        kind: Kind,
        /// Their names, at least one.
        by: Vec<CheckName>,
        /// How they do; always there for [`Kind::Type`].
        reason: Option<String>,
    },
    /// The mechanism that failed does not exist here.
    Impossible {
        /// Which mechanism that is.
        reason: String,
    },
    /// Nothing does yet.
    Pending {
        /// What is missing, and which check will cover it.
        reason: String,
    },
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What went wrong.
    pub what: String,
    /// What must hold instead.
    pub property: String,
    /// Public reports of it, as repository#thread.
    pub seen_in: Vec<String>,
    /// Where it stands.
    pub status: Status,
}

/// A whole table: every number once, every entry well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(BTreeMap<Number, Entry>);

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// Everything that is wrong with it, or the first thing if it is no TOML of the right shape; a doubled number is
    /// such a thing.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let raw: BTreeMap<String, RawEntry> =
            toml::from_str(text).map_err(|error| vec![Fault::Syntax(error.to_string())])?;
        let mut faults = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, raw) in raw {
            match read_entry(&name, raw) {
                Ok((number, entry)) => drop(entries.insert(number, entry)),
                Err(fault) => faults.push(fault),
            }
        }
        let named = |number: &Number| faults.iter().any(|fault| fault.is_about(*number));
        let absent: Vec<Number> =
            Number::all().filter(|number| !entries.contains_key(number) && !named(number)).collect();
        faults.extend(absent.into_iter().map(Fault::Absent));
        if faults.is_empty() { Ok(Self(entries)) } else { Err(faults) }
    }

    /// The rows in the order of their numbers.
    pub fn entries(&self) -> impl Iterator<Item = (Number, &Entry)> {
        self.0.iter().map(|(number, entry)| (*number, entry))
    }

    /// The named checks that do not exist. `read` gives the text of a file by its path from the root of the workspace,
    /// or nothing if there is none.
    pub fn missing_checks(&self, mut read: impl FnMut(&str) -> Option<String>) -> Vec<(Number, Missing)> {
        let mut missing = Vec::new();
        for (number, entry) in self.entries() {
            if let Status::Checked { kind, by, .. } = &entry.status {
                missing.extend(by.iter().filter_map(|name| name.look_up(*kind, &mut read).err()).map(|m| (number, m)));
            }
        }
        missing
    }

    /// How many entries stand where.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (_, entry) in self.entries() {
            match entry.status {
                Status::Checked { .. } => summary.checked += 1,
                Status::Impossible { .. } => summary.impossible += 1,
                Status::Pending { .. } => summary.pending += 1,
            }
        }
        summary
    }
}

/// How many entries stand where, for one line of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries with checks.
    pub checked: usize,
    /// Entries whose mechanism does not exist here.
    pub impossible: usize,
    /// Entries with neither.
    pub pending: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} checked, {} impossible, {} pending", self.checked, self.impossible, self.pending)
    }
}

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No TOML, a number twice, or a field that is unknown, absent, or of the wrong kind; in the parser's words.
    Syntax(String),
    /// No entry has this number.
    Absent(Number),
    /// An entry is called what is no number of the table.
    Unknown(String),
    /// An entry is not whole, for this reason.
    Malformed(Number, String),
}

impl Fault {
    fn is_about(&self, number: Number) -> bool {
        match self {
            Self::Malformed(about, _) | Self::Absent(about) => *about == number,
            Self::Syntax(_) | Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(problem) => f.write_str(problem),
            Self::Absent(number) => write!(f, "{number}: there is no entry"),
            Self::Unknown(name) => write!(f, "{name}: the table has no such number"),
            Self::Malformed(number, problem) => write!(f, "{number}: {problem}"),
        }
    }
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    what: String,
    property: String,
    #[serde(default)]
    seen_in: Vec<String>,
    status: RawStatus,
    reason: Option<String>,
    #[serde(default)]
    by: Vec<String>,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawStatus {
    Checked,
    Impossible,
    Pending,
}

fn read_entry(name: &str, raw: RawEntry) -> Result<(Number, Entry), Fault> {
    let number = Number::from_text(name).ok_or_else(|| Fault::Unknown(name.to_owned()))?;
    let entry = check_entry(raw).map_err(|problem| Fault::Malformed(number, problem))?;
    Ok((number, entry))
}

fn check_entry(raw: RawEntry) -> Result<Entry, String> {
    let texts = [("what", Some(&raw.what)), ("property", Some(&raw.property)), ("reason", raw.reason.as_ref())];
    for (field, text) in texts {
        if text.is_some_and(|text| text.trim().is_empty()) {
            return Err(format!("`{field}` is empty"));
        }
    }
    if let Some(text) = raw.seen_in.iter().find(|text| !is_thread(text)) {
        return Err(format!("`seen_in` has {text:?}, which is not repository#thread"));
    }
    let status = check_status(raw.status, raw.reason, raw.kind, &raw.by)?;
    Ok(Entry { what: raw.what, property: raw.property, seen_in: raw.seen_in, status })
}

fn check_status(
    status: RawStatus,
    reason: Option<String>,
    kind: Option<Kind>,
    by: &[String],
) -> Result<Status, String> {
    if matches!(status, RawStatus::Checked) {
        return check_checked(reason, kind, by);
    }
    if kind.is_some() || !by.is_empty() {
        return Err("`by` and `kind` belong to a checked entry only".to_owned());
    }
    let reason = reason.ok_or("there is no `reason`")?;
    Ok(match status {
        RawStatus::Impossible => Status::Impossible { reason },
        RawStatus::Pending | RawStatus::Checked => Status::Pending { reason },
    })
}

fn check_checked(reason: Option<String>, kind: Option<Kind>, by: &[String]) -> Result<Status, String> {
    let kind = kind.ok_or("a checked entry needs a `kind`")?;
    if by.is_empty() {
        return Err("a checked entry needs a check in `by`".to_owned());
    }
    if by.iter().collect::<BTreeSet<_>>().len() < by.len() {
        return Err("`by` names a check twice".to_owned());
    }
    if kind == Kind::Type && reason.is_none() {
        return Err("kind `type` needs a `reason` that says how the type rules it out".to_owned());
    }
    let by = by.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    Ok(Status::Checked { kind, by, reason })
}

fn is_thread(text: &str) -> bool {
    let is_number = |thread: &str| !thread.is_empty() && thread.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('#').is_some_and(|(repository, thread)| !repository.is_empty() && is_number(thread))
}
