//! A server under load: how fast it is, what it takes, and that nothing is lost, doubled or out of order meanwhile.
//!
//! One thread has all the connections and does little for a message: a frame is a template in which a number and a time are
//! changed, and of what comes only the number, the time and the place in its stream are looked for. Every message that arrives is
//! checked, so what was measured is a server that works.
//!
//! A time is from the moment at which the message was to be sent. At a fixed rate (`--rate`) that is a moment of a schedule, so that a
//! server that pauses makes all that was due meanwhile late; without one the next message is sent as soon as the window lets.
//!
//! `cargo run -p trunkline-tests --release --bin load -- --help` says how to run it; `bench_server` is a server to be measured.

mod bench;
mod channel;
mod checker;
mod clock;
mod connects;
mod deliver;
mod dial;
mod link;
mod marker;
mod options;
mod process;
mod report;
mod resume;
mod stage;

use std::net::SocketAddr;
use std::rc::Rc;

use bench::Bench;
pub use checker::{Checker, Given, Tally};
use clock::Clock;
use dial::Target;
pub use options::{Mode, Options};
use process::Processes;
pub use report::{Latency, Memory, Report, Span};
use tokio::task::LocalSet;

use crate::conformance::net::place;
use crate::server::Program;

/// Files that this process may have: one for each connection, and a few.
const FILES: u64 = 1 << 20;

/// Runs what the options say, on this thread.
///
/// # Errors
/// When nothing could be measured, in words. What is wrong with what was measured stands in the report.
pub fn run(options: &Options) -> Result<Report, String> {
    options.check()?;
    // What the system lets is enough for most.
    let _ = rlimit::increase_nofile_limit(FILES);
    let file = options.secret_file.display();
    let secret = std::fs::read(&options.secret_file).map_err(|error| format!("{file}: {error}"))?;
    let started = options.server.as_ref().map(|server| Program::command(server, &options.secret_file)).transpose()?;
    let (addr, host) = match (&started, &options.url) {
        (Some(program), _) => (program.addr, program.addr.to_string()),
        (None, Some(url)) => at_the_endpoint(url)?,
        (None, None) => return Err("there is no server: name --url or --server".to_owned()),
    };
    let processes = started.as_ref().map_or_else(|| options.pid.clone(), |program| vec![program.id()]);
    let clock = Clock::new();
    let target = Target::new(addr, host, secret.trim_ascii_end(), clock)?;
    let bench = Bench::new(options.clone(), target, clock, Processes::new(processes)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(LocalSet::new().run_until(measure(&bench)))
}

/// The programs of this workspace have it nowhere else.
fn at_the_endpoint(url: &str) -> Result<(SocketAddr, String), String> {
    let (addr, host, path) = place(url)?;
    if path == "/ws" { Ok((addr, host)) } else { Err("the endpoint is /ws".to_owned()) }
}

async fn measure(bench: &Rc<Bench>) -> Result<Report, String> {
    let mut report = Report::new(&bench.options);
    let measured = match bench.options.mode {
        Mode::Echo => deliver::echo(bench, &mut report).await,
        Mode::Fanout => deliver::fanout(bench, &mut report).await,
        Mode::Route => deliver::route(bench, &mut report).await,
        Mode::Idle => connects::idle(bench, &mut report).await,
        Mode::Connect => connects::connect(bench, &mut report).await,
        Mode::Churn => connects::churn(bench, &mut report).await,
        Mode::Resume => resume::resume(bench, &mut report).await,
        Mode::Slow => deliver::slow(bench, &mut report).await,
    };
    (report.faults, report.first_faults) = bench.faults();
    // What was wrong before may be why nothing could be measured.
    let because = report.first_faults.iter().map(|fault| format!("\nbefore that: {fault}")).collect::<String>();
    measured.map_err(|problem| problem + &because)?;
    Ok(report)
}
