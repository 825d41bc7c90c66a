//! The table as a page of the manual.

use std::fmt::Write as _;

use super::{Entry, Kind, Number, Status, Table};

/// The first number of each part, and what the part is about.
const PARTS: [(Number, &str); 9] = [
    (Number::Cause(1), "Handshake and authentication"),
    (Number::Cause(16), "Registration"),
    (Number::Cause(33), "Delivery"),
    (Number::Cause(58), "Locks and tasks"),
    (Number::Cause(76), "Limits, throttling, breakers, levels"),
    (Number::Cause(90), "Life of a token"),
    (Number::Cause(96), "Several instances"),
    (Number::Cause(100), "What is counted"),
    (Number::Invariant(1), "Invariants from the public bugs of other systems"),
];

const HEAD: &str = "\
What must be impossible here, and the check that each of it has.

`R1` to `R102` are causes of failures that were found in the managers which this one takes the place of, each with the property
that rules it out; `I1` to `I15` are invariants whose violations stand in public bug reports of other realtime systems.
A check is a test of this repository, by its file. All of them run at every commit, which fails where one named here did not
run. The kind that says the most about a line stands before its checks:

| kind | what it is |
|---|---|
| type | the failure cannot be written down: it does not compile |
| loom | a model of the threads, under every interleaving up to a number of preemptions |
| exploration | every state of a small world of the real machines |
| property | generated cases against a naive reference |
| simulation | whole servers and clients on a simulated network, with faults at any byte |
| fuzz | bytes that a fuzzer chooses |
| conformance | a scenario that every adapter goes through |
| e2e | a real server and real clients |
| unit | single cases |
";

impl Kind {
    /// How it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Unit => "unit",
            Self::Property => "property",
            Self::Loom => "loom",
            Self::Exploration => "exploration",
            Self::Simulation => "simulation",
            Self::Conformance => "conformance",
            Self::Fuzz => "fuzz",
            Self::E2e => "e2e",
        }
    }
}

impl Table {
    /// The table in Markdown.
    pub fn page(&self) -> String {
        let mut page = HEAD.to_owned();
        for (number, entry) in self.entries() {
            if let Some((_, title)) = PARTS.iter().find(|(first, _)| *first == number) {
                let _ = write!(
                    page,
                    "\n# {title}\n\n| | what went wrong | what holds | how it is known |\n|---|---|---|---|\n"
                );
            }
            let _ =
                writeln!(page, "| {number} | {} | {} | {} |", cell(&what(entry)), cell(&entry.property), known(entry));
        }
        let _ = write!(page, "\nIn all: {}.\n", self.summary());
        page
    }
}

fn what(entry: &Entry) -> String {
    if entry.seen_in.is_empty() { entry.what.clone() } else { format!("{} ({})", entry.what, entry.seen_in.join(", ")) }
}

fn known(entry: &Entry) -> String {
    match &entry.status {
        Status::Checked { kind, by, reason } => {
            let checks: Vec<String> = by.iter().map(|check| format!("`{check}`")).collect();
            let reason = reason.as_ref().map(|reason| format!(" ({})", cell(reason))).unwrap_or_default();
            format!("{}: {}{reason}", kind.name(), checks.join(", "))
        }
        Status::Impossible { reason } => format!("cannot occur: {}", cell(reason)),
        Status::Pending { reason } => format!("open: {}", cell(reason)),
    }
}

/// Text that ends no cell, is no link and no tag.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    let mut in_code = false;
    for c in text.trim().chars() {
        in_code ^= c == '`';
        match c {
            '|' => cell.push_str("\\|"),
            '\n' => cell.push(' '),
            '<' | '>' | '[' | ']' | '*' | '_' if !in_code => cell.extend(['\\', c]),
            c => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_whatever_it_says() {
        assert_eq!(cell("a | b\nc <d> `e_<f>`[0]"), "a \\| b c \\<d\\> `e_<f>`\\[0\\]");
    }
}
