//! Measures a server under load: `cargo run -p trunkline-tests --release --bin load -- --help`.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser;
use trunkline_tests::load::{Options, run};

fn main() -> ExitCode {
    match measured(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("load: {problem}");
            ExitCode::from(2)
        }
    }
}

fn measured(options: &Options) -> Result<bool, String> {
    let report = run(options)?;
    let said = if options.json { report.to_json()? + "\n" } else { report.to_string() };
    match std::io::stdout().write_all(said.as_bytes()) {
        // Whoever reads it may have read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.to_string()),
        Ok(()) | Err(_) => {}
    }
    Ok(report.is_sound())
}
