//! Looking up a named check in the text of its file.
//!
//! This reads lines, not Rust: it is there to catch a renamed or deleted test, and it knows code as rustfmt leaves it.

use std::fmt;
use std::str::FromStr;

use super::Kind;

/// How many lines above a function its test attribute may stand, among other attributes and comments.
const MARKER_REACH: usize = 8;

/// The name of a check: a file from the root of the workspace, and what to find in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckName {
    pub(super) file: String,
    pub(super) name: String,
}

impl CheckName {
    /// Looks the check up; `read` gives a file's text, or nothing if there is no such file.
    ///
    /// # Errors
    /// The file or the check in it does not exist.
    pub fn look_up(&self, kind: Kind, read: impl FnOnce(&str) -> Option<String>) -> Result<(), Missing> {
        let text = read(&self.file).ok_or_else(|| Missing::File(self.clone()))?;
        if self.is_in(&text, kind) { Ok(()) } else { Err(Missing::Check(self.clone())) }
    }

    fn is_in(&self, text: &str, kind: Kind) -> bool {
        let lines: Vec<&str> = text.lines().collect();
        if self.file.ends_with(".toml") {
            let named = format!("name = {:?}", self.name);
            return lines.iter().any(|line| line.trim() == named);
        }
        if !self.file.ends_with(".rs") {
            return text.contains(&self.name);
        }
        has_test(&lines, &self.name)
            || (kind == Kind::Type && has_type(&lines, &self.name))
            || (self.name == "fuzz_target" && lines.iter().any(|line| code(line).starts_with("fuzz_target!")))
    }
}

impl FromStr for CheckName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, name) = text.split_once("::").ok_or_else(|| format!("check {text:?} is not FILE::NAME"))?;
        let inside = |part: &str| !matches!(part, "" | "." | "..");
        if !file.split('/').all(inside) || name.trim().is_empty() {
            return Err(format!("check {text:?} is not FILE::NAME with a file from the root of the workspace"));
        }
        if file.ends_with(".rs") && !is_identifier(name) {
            return Err(format!("check {text:?} names no function of a Rust file"));
        }
        Ok(Self { file: file.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.file, self.name)
    }
}

/// How a test begins to say why it is not for every day.
const TAKES_LONG: &str = "#[ignore = \"takes ";

/// A named check that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such file.
    File(CheckName),
    /// The file has no such check, or an ignored one.
    Check(CheckName),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(f, "check {name}: there is no such file"),
            Self::Check(name) => write!(f, "check {name}: the file has no such check that runs"),
        }
    }
}

fn is_identifier(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// The line without its indentation, or nothing where it is a comment.
fn code(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with("//") { "" } else { line }
}

fn has_test(lines: &[&str], name: &str) -> bool {
    (0..lines.len()).any(|at| declares(lines[at], "fn", name) && is_test(lines, at))
}

fn has_type(lines: &[&str], name: &str) -> bool {
    let keywords = ["struct", "enum", "trait", "type", "union"];
    lines.iter().any(|line| keywords.iter().any(|keyword| declares(line, keyword, name)))
}

/// Whether the line declares `name` by `keyword`, whatever stands before and after.
fn declares(line: &str, keyword: &str, name: &str) -> bool {
    let mut words = code(line).split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.any(|word| word == keyword) && words.next() == Some(name)
}

/// Whether the function at this line is a test that runs. One that is left out of the daily run because it `takes` long is run by
/// `.ci/run`, which holds the table against what has run.
fn is_test(lines: &[&str], at: usize) -> bool {
    let head: Vec<&str> =
        lines[..at].iter().rev().take(MARKER_REACH).map(|l| code(l)).take_while(|l| !is_body(l)).collect();
    let ignored = head.iter().any(|line| line.starts_with("#[ignore") && !line.starts_with(TAKES_LONG));
    !ignored && (head.iter().any(|line| is_marker(line)) || in_proptest(lines, at))
}

/// A line above a function that belongs to another item: the end of one, or a body's statement.
fn is_body(line: &str) -> bool {
    line.starts_with('}') || line.ends_with(['{', '}', ';'])
}

/// `#[test]`, `#[tokio::test(...)]`, `#[kani::proof]` and their like.
fn is_marker(line: &str) -> bool {
    let Some(attribute) = line.strip_prefix("#[") else { return false };
    let path = attribute.split(['(', ']']).next().unwrap_or_default().trim();
    path.rsplit("::").next() == Some("test") || path.starts_with("kani::proof")
}

/// Whether a `proptest! {` above has not been closed: nothing since stands at its depth or less.
fn in_proptest(lines: &[&str], at: usize) -> bool {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let opened = lines[..at].iter().rposition(|line| code(line).starts_with("proptest!"));
    opened.is_some_and(|start| {
        let within = |line: &&str| code(line).is_empty() || depth(line) > depth(lines[start]);
        depth(lines[at]) > depth(lines[start]) && lines[start + 1..at].iter().all(within)
    })
}
