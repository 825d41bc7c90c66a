//! The table of races as a page, and whether its checks ran: `cargo run -p trunkline-tests --bin races -- --help`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use trunkline_tests::races::{Log, Table};

/// Reads `tests/races.toml` and says what its entries come to.
///
/// Status 0 when all is well, 1 when a check did not run, 2 when a file could not be read or written.
#[derive(Debug, Parser)]
#[command(name = "races")]
struct Options {
    /// Write the page of the manual to this file
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// What runs of the tests printed, both streams: fail where a named check is not among what passed
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ran: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("races: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool, String> {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        // Tests print what peers sent.
        Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("races.toml"))?;
    let table = Table::parse(&text).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("tests/races.toml:\n{}", faults.join("\n"))
    })?;
    if let Some(path) = &options.page {
        std::fs::write(path, table.page()).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    println!("races: {}", table.summary());
    if options.ran.is_empty() {
        return Ok(true);
    }
    let printed = options.ran.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?.join("\n");
    let missing = table.not_run(&Log::parse(&printed));
    for (number, check) in &missing {
        println!("{number}: {check} did not run, or did not pass");
    }
    if missing.is_empty() {
        println!("races: every check of the table ran and passed");
    }
    Ok(missing.is_empty())
}
