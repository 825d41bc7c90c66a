//! Holds a server to the protocol: `cargo run -p trunkline-tests --bin conformance -- --help`.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpStream;
use trunkline_tests::conformance::Suite;
use trunkline_tests::conformance::language::{Need, Scenario};
use trunkline_tests::conformance::net::{Tcp, place};
use trunkline_tests::conformance::target::Foreign;
use trunkline_tests::conformance::token::{COMMAND_FAULT, Issuer};

/// For the first connection.
const REACHED: Duration = Duration::from_secs(10);

/// Runs the scenarios of `tests/conformance` against a server.
///
/// Status 0 when none failed, 1 when one did, 2 when they could not be run.
#[derive(Debug, Parser)]
#[command(name = "conformance")]
struct Options {
    /// Where the server is, as ws://127.0.0.1:8787/ws
    #[arg(long, value_name = "URL", required_unless_present = "list")]
    url: Option<String>,
    /// The file with the secret by which the server verifies tokens (HS256)
    #[arg(long, value_name = "FILE", conflicts_with = "token_command")]
    secret_file: Option<PathBuf>,
    /// A command of the shell that reads claims as JSON and prints a token that the server takes
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
    /// What else the server has, as described in tests/conformance/README.md: http, tickets, cookie, no_agent, own_http
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = need)]
    with: Vec<Need>,
    /// Only scenarios whose name or area has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// How many scenarios run at once
    #[arg(long, value_name = "N", default_value_t = 200)]
    jobs: usize,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print the scenarios and what each holds a server to, and run none
    #[arg(long)]
    list: bool,
}

/// Those that the one who runs the server can vouch for.
fn need(name: &str) -> Result<Need, String> {
    let vouched = [Need::Http, Need::Tickets, Need::Cookie, Need::NoAgent, Need::OwnHttp];
    let found = vouched.into_iter().find(|need| need.name() == name);
    found.ok_or_else(|| format!("it is one of {}", vouched.map(Need::name).join(", ")))
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("conformance: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool, String> {
    let issuer = issuer(options)?;
    let all = Suite::all(issuer).map_err(|fault| fault.to_string())?;
    let mut suite = all.clone().filtered(&options.filter);
    if suite.scenarios.is_empty() {
        return Err(format!("no scenario or area has {:?} in its name: see --list", options.filter));
    }
    suite.jobs = options.jobs;
    if options.list {
        return print(&suite.scenarios.iter().map(listed).collect::<String>()).map(|()| true);
    }
    let url = options.url.as_deref().unwrap_or_default();
    let (addr, host, path) = place(url)?;
    let net = Tcp::new(addr, host, None).at(path);
    let target = Foreign::new(url, net, options.with.iter().copied().collect::<BTreeSet<_>>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.map_err(|error| error.to_string())?.block_on(async {
        reach(addr).await?;
        let_in(&all, &target).await?;
        let longest = suite.scenarios.iter().map(Scenario::lasts).max().unwrap_or_default();
        let patience = if longest.is_zero() { String::new() } else { format!("; the longest waits {longest:?}") };
        eprintln!("{} scenarios against {url}{patience}", suite.scenarios.len());
        Ok::<_, String>(suite.run(&target).await)
    })?;
    print(&if options.json { format!("{}\n", report.to_json()) } else { report.to_string() })?;
    Ok(report.failures().next().is_none())
}

fn listed(scenario: &Scenario) -> String {
    let needs: Vec<_> = scenario.needs.iter().map(|need| need.name()).collect();
    let needs = if needs.is_empty() { String::new() } else { format!(" [{}]", needs.join(", ")) };
    format!("{}: {}{needs}\n    {}\n", scenario.area, scenario.name, scenario.rule)
}

/// Whoever reads it may have read enough, such as `head`.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Nothing there is no fault of a server's.
async fn reach(addr: SocketAddr) -> Result<(), String> {
    let connecting = tokio::time::timeout(REACHED, TcpStream::connect(addr)).await;
    match connecting.map_err(|_| format!("{addr} does not answer within {REACHED:?}"))? {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("nothing can be reached at {addr}: {error}")),
    }
}

/// A server that refuses a good token for what it is has another secret, most likely: all would fail, and say little. So they would
/// where there is no token.
async fn let_in(all: &Suite, target: &Foreign) -> Result<(), String> {
    let report = all.clone().named(&["a_token_in_the_hello"]).run(target).await;
    let refused = |problem: &str| [4400, 4200].iter().any(|code| problem.contains(&code.to_string()));
    match report.failures().next() {
        Some((_, failure)) if refused(&failure.problem) => {
            let problem = &failure.problem;
            Err(format!(
                "the server lets no good token in ({problem}): is it the server's secret, and its clock right?"
            ))
        }
        Some((_, failure)) if failure.problem.starts_with(COMMAND_FAULT) => Err(failure.problem.clone()),
        Some(_) | None => Ok(()),
    }
}

fn issuer(options: &Options) -> Result<Issuer, String> {
    match (&options.token_command, &options.secret_file) {
        (Some(command), _) => Ok(Issuer::Command(command.clone())),
        (None, Some(file)) => {
            let secret = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            // A line's end is the editor's, not the secret's.
            Ok(Issuer::Secret(secret.trim_ascii_end().to_vec()))
        }
        (None, None) if options.list => Ok(Issuer::Secret(Vec::new())),
        (None, None) => Err("tokens must come from somewhere: name --secret-file or --token-command".to_owned()),
    }
}
