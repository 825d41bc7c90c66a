//! Breaks the code in each way of `tests/breakages.toml` and shows what notices:
//! `cargo run -p trunkline-tests --bin breakages -- --help`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use clap::Parser;
use trunkline_tests::breakages::{Breakage, Check, Kind, parse};

/// Breaks a copy of the sources, one way after the other, and runs the checks that must fail there.
///
/// Status 0 when every check failed as it must, 1 when one passed, 2 when something could not be run.
#[derive(Debug, Parser)]
#[command(name = "breakages")]
struct Options {
    /// Only ways whose name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Only checks of these kinds: loom, exploration, property, simulation, fuzz
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Only the first check of each way that is left
    #[arg(long)]
    first: bool,
    /// Where the broken copies are built: a folder of their own, since cargo takes what is built of a copy for what is built of
    /// the sources
    #[arg(long, value_name = "FOLDER", default_value = "target/breakages")]
    folder: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("breakages: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the package lies in the workspace's root")?;
    let read = |file: &str| fs::read_to_string(root.join(file)).ok();
    let table = parse(&read("tests/breakages.toml").ok_or("tests/breakages.toml is not there")?)?;
    let folder = root.join(&options.folder);
    let copy = Copy { tree: folder.join("tree"), target: folder.join("target") };
    copy.renew(root).map_err(|error| format!("the sources cannot be copied to {}: {error}", folder.display()))?;
    let (mut caught, mut missed) = (0, 0);
    for breakage in table.iter().filter(|breakage| breakage.name.contains(&options.filter)) {
        let broken = breakage.apply(read).map_err(|stale| format!("{}: {stale}", breakage.name))?;
        copy.write(&broken)?;
        for check in chosen(breakage, options) {
            let noticed = copy.fails(check).map_err(|problem| format!("{}: {problem}", breakage.name))?;
            *(if noticed { &mut caught } else { &mut missed }) += 1;
            let verdict = if noticed { "caught" } else { "MISSED" };
            println!("{verdict}  {:<58} by {} {}", breakage.name, check.kind.name(), check.test);
        }
        let whole = broken.iter().map(|(file, _)| Some((file.clone(), read(file)?))).collect::<Option<Vec<_>>>();
        copy.write(&whole.ok_or("a source is gone")?)?;
    }
    if caught + missed == 0 {
        return Err("no check is left of those in tests/breakages.toml".to_owned());
    }
    println!("{caught} of {} checks failed on broken code, as they must", caught + missed);
    Ok(missed == 0)
}

fn chosen<'a>(breakage: &'a Breakage, options: &'a Options) -> impl Iterator<Item = &'a Check> {
    let wanted = |kind: Kind| options.kinds.is_empty() || options.kinds.iter().any(|name| name == kind.name());
    let max = if options.first { 1 } else { usize::MAX };
    breakage.caught_by.iter().filter(move |check| wanted(check.kind)).take(max)
}

/// A copy of the sources, which may be broken.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes it what the sources are. A file that is the same is left alone, so that little is built anew.
    fn renew(&self, root: &Path) -> io::Result<()> {
        let mut known = Vec::new();
        for top in fs::read_dir(root)? {
            let name = top?.file_name();
            if name != "target" && name != ".git" {
                renew(&root.join(&name), &self.tree.join(&name))?;
                known.push(name);
            }
        }
        for old in fs::read_dir(&self.tree)? {
            let old = old?;
            if !known.contains(&old.file_name()) {
                remove(&old.path())?;
            }
        }
        Ok(())
    }

    fn write(&self, files: &[(String, String)]) -> Result<(), String> {
        for (file, text) in files {
            fs::write(self.tree.join(file), text).map_err(|error| format!("{file} cannot be written: {error}"))?;
        }
        Ok(())
    }

    /// Whether the test fails, which it must do by itself: what does not compile shows nothing.
    fn fails(&self, check: &Check) -> Result<bool, String> {
        let built = self.cargo(check, &["--no-run"])?;
        if !built.status.success() {
            return Err(format!("it does not compile:\n{}", String::from_utf8_lossy(&built.stderr)));
        }
        let ran = self.cargo(check, &["--", &check.test])?;
        let said = String::from_utf8_lossy(&ran.stdout);
        if said.contains("running 0 tests") {
            return Err(format!("there is no test {:?} among those of {}", check.test, check.kind.name()));
        }
        Ok(!ran.status.success())
    }

    fn cargo(&self, check: &Check, last: &[&str]) -> Result<Output, String> {
        let mut cargo = Command::new("cargo");
        cargo.args(check.kind.arguments()).args(last).current_dir(&self.tree);
        // Incremental, since one file differs from one build to the next.
        cargo.env("CARGO_INCREMENTAL", "1").env("CARGO_TERM_COLOR", "never");
        match check.kind {
            Kind::Loom => cargo.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", self.target.join("loom")),
            Kind::Exploration | Kind::Property | Kind::Simulation | Kind::Fuzz => {
                cargo.env("CARGO_TARGET_DIR", &self.target)
            }
        };
        cargo.output().map_err(|error| format!("cargo cannot be run: {error}"))
    }
}

fn renew(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        let text = fs::read(from)?;
        return if fs::read(to).is_ok_and(|known| known == text) { Ok(()) } else { fs::write(to, text) };
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let name = entry?.file_name();
        if !from.join(&name).exists() {
            remove(&to.join(&name))?;
        }
    }
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if name != "node_modules" {
            renew(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
