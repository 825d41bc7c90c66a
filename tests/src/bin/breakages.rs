//! Breaks the code in each way of `tests/breakages.toml` and shows what notices:
//! `cargo run -p trunkline-tests --bin breakages -- --help`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;
use trunkline_tests::breakages::{Breakage, Check, Kind, parse};

/// Breaks a copy of the sources, one way after the other, and runs the checks that must fail there; before, it sees each of them
/// pass on what is not broken.
///
/// Status 0 when every check failed as it must, 1 when one passed, 2 when something could not be run.
#[derive(Debug, Parser)]
#[command(name = "breakages")]
struct Options {
    /// Only ways whose name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Only checks of these kinds: loom, exploration, property, simulation
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
    let ways: Vec<_> = table.iter().filter(|breakage| breakage.name.contains(&options.filter)).collect();
    let folder = root.join(&options.folder);
    let copy = Copy { tree: folder.join("tree"), target: folder.join("target"), said: folder.join("said.txt") };
    copy.renew(root).map_err(|error| format!("the sources cannot be copied to {}: {error}", folder.display()))?;
    copy.passes(ways.iter().flat_map(|breakage| chosen(breakage, options)).collect())?;
    let (mut caught, mut missed) = (0, 0);
    for breakage in ways {
        let broken = breakage.apply(read).map_err(|stale| format!("{}: {stale}", breakage.name))?;
        copy.write(&broken)?;
        let (mut all, mut any) = (true, false);
        for check in chosen(breakage, options) {
            let noticed = copy.fails(check).map_err(|problem| format!("{}: {problem}", breakage.name))?;
            *(if noticed { &mut caught } else { &mut missed }) += 1;
            (all, any) = (all && noticed, true);
            let verdict = if noticed { "caught" } else { "MISSED" };
            println!("{verdict}  {:<50} by {} {}", breakage.name, check.kind.name(), check.test);
        }
        if all && any {
            println!("evidence breakages {} 1 caught", breakage.key());
        }
        let whole = broken.iter().map(|(file, _)| Some((file.clone(), read(file)?))).collect::<Option<Vec<_>>>();
        copy.write(&whole.ok_or("a source is gone")?)?;
    }
    println!("{caught} of {} checks failed on broken code, as they must", caught + missed);
    Ok(missed == 0)
}

fn chosen<'a>(breakage: &'a Breakage, options: &'a Options) -> impl Iterator<Item = &'a Check> {
    let wanted = |kind: Kind| options.kinds.is_empty() || options.kinds.iter().any(|name| name == kind.name());
    let max = if options.first { 1 } else { usize::MAX };
    breakage.caught_by.iter().filter(move |check| wanted(check.kind)).take(max)
}

/// Longer than any check takes: one that does not end says nothing.
const PATIENCE: Duration = Duration::from_secs(1_200);
const GLANCE: Duration = Duration::from_millis(50);

/// A copy of the sources, which may be broken.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    /// What the last check has said.
    said: PathBuf,
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

    /// Sees all of these pass: one that fails whatever the sources are shows nothing.
    fn passes(&self, checks: BTreeSet<&Check>) -> Result<(), String> {
        if checks.is_empty() {
            return Err("no check is left of those in tests/breakages.toml".to_owned());
        }
        for check in &checks {
            if self.fails(check)? {
                let said = fs::read_to_string(&self.said).unwrap_or_default();
                return Err(format!("{} fails though nothing is broken:\n{said}", check.test));
            }
            println!("passes  what is whole, by {} {}", check.kind.name(), check.test);
        }
        Ok(())
    }

    /// Whether the check fails, which it must do by itself: what does not compile shows nothing.
    fn fails(&self, check: &Check) -> Result<bool, String> {
        let program = self.build(check.kind)?;
        let said =
            File::create(&self.said).map_err(|error| format!("{} cannot be written: {error}", self.said.display()))?;
        let errors = said.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(&program);
        command.arg(&check.test).arg("--include-ignored").current_dir(self.tree.join(check.kind.package()));
        // The same cases each time; what fails need not become small.
        command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_MAX_SHRINK_ITERS", "0").env_remove("PROPTEST_CASES");
        command.stdin(Stdio::null()).stdout(said).stderr(errors);
        let mut running = command.spawn().map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = running.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if started.elapsed() > PATIENCE {
                let _ = running.kill();
                return Err(format!("{} does not end", check.test));
            }
            sleep(GLANCE);
        };
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        if said.contains("running 0 tests") {
            return Err(format!("there is no test {:?} among those of {}", check.test, check.kind.name()));
        }
        Ok(!status.success())
    }

    /// Builds the program that has the checks of a kind, and says where it is.
    fn build(&self, kind: Kind) -> Result<PathBuf, String> {
        let mut cargo = Command::new("cargo");
        cargo.args(kind.build()).arg("--message-format=json-render-diagnostics").current_dir(&self.tree);
        // Incremental, since one file differs from one build to the next.
        cargo.env("CARGO_INCREMENTAL", "1").env("CARGO_TERM_COLOR", "never").env_remove("RUSTFLAGS");
        match kind {
            Kind::Loom => cargo.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", self.target.join("loom")),
            Kind::Exploration | Kind::Property | Kind::Simulation => cargo.env("CARGO_TARGET_DIR", &self.target),
        };
        let built = cargo.output().map_err(|error| format!("cargo cannot be run: {error}"))?;
        if !built.status.success() {
            return Err(format!("it does not compile:\n{}", String::from_utf8_lossy(&built.stderr)));
        }
        let said = String::from_utf8_lossy(&built.stdout);
        let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let tests = messages.filter(|message| message["profile"]["test"] == true);
        let mut programs = tests.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        programs.next().ok_or_else(|| format!("cargo names no program with checks of the kind {}", kind.name()))
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
