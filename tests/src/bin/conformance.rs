//! Holds a server to the protocol: `cargo run -p trunkline-tests --bin conformance -- --help`.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use trunkline_tests::conformance::Suite;
use trunkline_tests::conformance::language::Need;
use trunkline_tests::conformance::net::Tcp;
use trunkline_tests::conformance::target::Foreign;
use trunkline_tests::conformance::token::Issuer;

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
    /// What else the server has, as described in tests/conformance/README.md: http, tickets, cookie, no_agent
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
    let vouched = [Need::Http, Need::Tickets, Need::Cookie, Need::NoAgent];
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
    let mut suite = Suite::all(issuer).map_err(|fault| fault.to_string())?.filtered(&options.filter);
    suite.jobs = options.jobs;
    if options.list {
        for scenario in &suite.scenarios {
            let needs: Vec<_> = scenario.needs.iter().map(|need| need.name()).collect();
            let needs = if needs.is_empty() { String::new() } else { format!(" [{}]", needs.join(", ")) };
            println!("{}: {}{needs}\n    {}", scenario.area, scenario.name, scenario.rule);
        }
        return Ok(true);
    }
    let url = options.url.as_deref().unwrap_or_default();
    let target = Foreign::new(url, net(url)?, options.with.iter().copied().collect::<BTreeSet<_>>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.map_err(|error| error.to_string())?.block_on(suite.run(&target));
    if options.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(report.failures().next().is_none())
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

fn net(url: &str) -> Result<Tcp, String> {
    let rest = url.strip_prefix("ws://").ok_or("the address begins with ws://; put TLS before it yourself")?;
    let (host, path) = rest.split_once('/').ok_or("the address ends with /ws")?;
    if path != "ws" {
        return Err("the endpoint is /ws".to_owned());
    }
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let addr = with_port.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.next();
    Ok(Tcp::new(addr.ok_or_else(|| format!("{host} has no address"))?, host.to_owned(), None))
}
