//! Ways to break the code on purpose, and what has to notice.
//!
//! `breakages.toml` is the data, and its head says how an entry is written. [`parse`] reads it, [`Breakage::apply`] breaks a
//! copy of the sources, and the program `breakages` shows that each check fails there.

use std::fmt;

use serde::Deserialize;

/// One way of breaking the code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breakage {
    /// What is wrong then, in a few words.
    pub name: String,
    /// Makes it wrong.
    pub edits: Vec<Edit>,
    /// What notices: at least one.
    pub caught_by: Vec<Check>,
}

/// One place of the sources that is written otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// From the root of the workspace.
    pub file: String,
    /// What stands there, once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
}

/// A test that must fail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Where it is found.
    pub kind: Kind,
    /// Its name from the root of its crate, or the beginning of the names of several of which one must fail.
    pub test: String,
}

/// What kind of evidence a check is, which also says how it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A model under every interleaving.
    Loom,
    /// Every state of a small world.
    Exploration,
    /// Generated cases against a reference.
    Property,
    /// Whole servers and clients on a simulated network.
    Simulation,
}

impl Kind {
    /// How it is called in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loom => "loom",
            Self::Exploration => "exploration",
            Self::Property => "property",
            Self::Simulation => "simulation",
        }
    }

    /// What follows `cargo` to build the program that has the check. Of checks that differ in what is built, each makes every way
    /// of breaking the code longer: those of the core are in one program, without what verifies signatures.
    pub const fn build(self) -> &'static [&'static str] {
        match self {
            Self::Loom | Self::Exploration | Self::Property => {
                &["test", "--no-run", "--profile", "mutants", "-p", "trunkline-core", "--lib", "--no-default-features"]
            }
            Self::Simulation => {
                &["test", "--no-run", "--profile", "mutants", "-p", "trunkline-tests", "--test", "simulation"]
            }
        }
    }

    /// The folder of the package.
    pub const fn package(self) -> &'static str {
        match self {
            Self::Loom | Self::Exploration | Self::Property => "core",
            Self::Simulation => "tests",
        }
    }

    /// A part of the names of all checks of this kind.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Loom => "models",
            Self::Exploration => "exploration",
            Self::Property => "properties",
            Self::Simulation => "",
        }
    }
}

/// Why the sources cannot be broken that way: they have changed since, so the entry must, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    file: String,
    find: String,
    times: Option<usize>,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, find, times } = self;
        match times {
            None => write!(f, "there is no {file}"),
            Some(times) => write!(f, "{file} has this {times} times, not once:\n{find}"),
        }
    }
}

impl Breakage {
    /// Its name without spaces, as lines of evidence have it.
    pub fn key(&self) -> String {
        self.name.replace(' ', "_")
    }

    /// The files that change, each with its new text. `read` gives the text of a file by its path from the root of the
    /// workspace, or nothing if there is none.
    ///
    /// # Errors
    /// When what an edit looks for does not stand there exactly once.
    pub fn apply(&self, read: impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, Stale> {
        let mut changed: Vec<(String, String)> = Vec::new();
        for Edit { file, find, replace } in &self.edits {
            let stale = |times| Stale { file: file.clone(), find: find.clone(), times };
            let known = changed.iter().position(|(name, _)| name == file);
            let text = known.map_or_else(|| read(file), |at| Some(changed[at].1.clone())).ok_or_else(|| stale(None))?;
            let times = text.matches(find.as_str()).count();
            if times != 1 {
                return Err(stale(Some(times)));
            }
            let text = text.replacen(find, replace, 1);
            match known {
                Some(at) => changed[at].1 = text,
                None => changed.push((file.clone(), text)),
            }
        }
        Ok(changed)
    }
}

/// Reads the table.
///
/// # Errors
/// When it is no TOML of the right shape, an entry has no edit or no check, two have one name, or a check is not called as those
/// of its kind are; in words.
pub fn parse(text: &str) -> Result<Vec<Breakage>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        breakage: Vec<Breakage>,
    }
    let Table { breakage: all } = toml::from_str(text).map_err(|error| error.to_string())?;
    for (at, breakage) in all.iter().enumerate() {
        if breakage.edits.is_empty() || breakage.caught_by.is_empty() {
            return Err(format!("{:?} has no edit, or nothing catches it", breakage.name));
        }
        if all.iter().take(at).any(|earlier| earlier.name == breakage.name) {
            return Err(format!("{:?} is there twice", breakage.name));
        }
        if let Some(check) = breakage.caught_by.iter().find(|check| !check.test.contains(check.kind.mark())) {
            return Err(format!("{} is no check of the kind {}", check.test, check.kind.name()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakage(edits: &[(&str, &str)]) -> Breakage {
        let edit = |(find, replace): &(&str, &str)| Edit {
            file: "a.rs".into(),
            find: (*find).into(),
            replace: (*replace).into(),
        };
        Breakage { name: "x".into(), edits: edits.iter().map(edit).collect(), caught_by: Vec::new() }
    }

    fn read(file: &str) -> Option<String> {
        (file == "a.rs").then(|| "one two two".to_owned())
    }

    #[test]
    fn edits_of_one_file_follow_each_other() {
        let changed = breakage(&[("one", "three"), ("three two", "four")]).apply(read);
        assert_eq!(changed, Ok(vec![("a.rs".to_owned(), "four two".to_owned())]));
    }

    #[test]
    fn what_does_not_stand_there_once_is_stale() {
        for (find, times) in [("two", 2), ("three", 0)] {
            let stale = breakage(&[(find, "")]).apply(read).unwrap_err();
            assert_eq!(stale.times, Some(times));
            assert!(stale.to_string().contains(find));
        }
        assert_eq!(breakage(&[("one", "")]).apply(|_| None).unwrap_err().to_string(), "there is no a.rs");
    }

    #[test]
    fn a_table_with_nothing_to_do_is_refused() {
        assert!(parse("[[breakage]]\nname = \"x\"\nedits = []\ncaught_by = []\n").is_err());
        assert!(parse("[[breakage]]\nname = \"x\"\n").is_err());
    }

    #[test]
    fn a_check_of_another_kind_is_refused() {
        let table = |kind: &str, test: &str| {
            let edits = r#"[{ file = "a.rs", find = "one", replace = "two" }]"#;
            format!(
                "[[breakage]]\nname = \"x\"\nedits = {edits}\ncaught_by = [{{ kind = {kind:?}, test = {test:?} }}]\n"
            )
        };
        assert!(parse(&table("property", "a::properties::b")).is_ok());
        assert!(parse(&table("property", "a::tests::b")).is_err());
        assert!(parse(&table("exploration", "a::properties::b")).is_err());
    }
}
