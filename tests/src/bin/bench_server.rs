//! A server to be measured: a whole hub on either runtime, whose application answers each command by its own `args`.
//!
//! ```text
//! cargo run --release -p trunkline-tests --bin bench_server -- --runtime tokio --listen 127.0.0.1:8787 --secret-file FILE
//! ```
//!
//! Every guarantee is on and every token is verified. Only what one machine may do is beyond the defaults, as all the measured
//! clients are on one: 30 messages a second from each client, 20,000 from each producer, 10 connections of a user, 4,096 requests
//! that wait, how many sockets there may be, and how many wait to be accepted. What a slow reader or an absent device may cost
//! stays as it is, unless a flag says more.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use socket2::{Domain, Protocol, Socket, Type};
use trunkline_core::auth::{ClaimRules, Hs256};
use trunkline_core::hub::{Hub, HubConfig, Request, Requests};
use trunkline_core::id::Entropy;
use trunkline_core::limits::Limits;
use trunkline_core::time::Clock;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Serves `/ws` on one runtime until it is killed, and says first where it listens.
#[derive(Debug, Parser)]
#[command(name = "bench_server")]
struct Options {
    /// Which adapter
    #[arg(long, value_enum, default_value = "tokio")]
    runtime: Runtime,
    /// How many threads serve; as many as there are processors
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where; port 0 is one that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// The secret of the HS256 tokens, of at least 32 bytes; the end of its line does not count
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// How many entries each stream's log keeps
    #[arg(long, value_name = "N", default_value_t = Limits::default().log_entries)]
    log_entries: usize,
    /// How many bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().log_bytes)]
    log_bytes: usize,
    /// From how many bytes on a message is compressed for a client that offers it; 0 is never, and not agreed on
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().deflate_from.unwrap_or(0))]
    deflate_from: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    Tokio,
    Smol,
}

/// More than one machine can do.
const MANY: usize = 1_000_000;
const FAST: u32 = 10_000_000;
/// Connects that wait to be accepted; as many as the system lets where that is less.
const BACKLOG: i32 = 65_535;

fn main() -> Outcome<()> {
    let options = Options::parse();
    match options.runtime {
        Runtime::Tokio => on_tokio(&options),
        Runtime::Smol => on_smol(&options),
    }
}

fn on_tokio(options: &Options) -> Outcome<()> {
    use trunkline_tokio::{NoWeb, SystemClock, SystemEntropy, serve};
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        builder.worker_threads(threads.max(1));
    }
    builder.enable_all().build()?.block_on(async {
        let (hub, housekeeper) = hub(options, SystemClock::new(), SystemEntropy)?;
        tokio::spawn(answer(hub.requests().ok_or("nobody has them yet")?));
        let listener = tokio::net::TcpListener::from_std(listener(options.listen)?)?;
        say(listener.local_addr()?)?;
        // In a task of its own: what the runtime's first thread polls is not on its workers.
        Ok(tokio::spawn(serve(listener, hub, housekeeper, NoWeb, std::future::pending())).await??)
    })
}

fn on_smol(options: &Options) -> Outcome<()> {
    use trunkline_smol::{NoWeb, SystemClock, SystemEntropy, serve};
    let threads = options.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    // Before the first task: smol reads it once, as it starts its threads.
    if std::env::var_os(SMOL_THREADS).is_none() {
        return restarted(threads.unwrap_or(1).max(1));
    }
    let (hub, housekeeper) = hub(options, SystemClock::new(), SystemEntropy)?;
    smol::spawn(answer(hub.requests().ok_or("nobody has them yet")?)).detach();
    smol::block_on(async {
        let listener = smol::net::TcpListener::try_from(listener(options.listen)?)?;
        say(listener.local_addr()?)?;
        Ok(smol::spawn(serve(listener, hub, housekeeper, NoWeb, std::future::pending())).await?)
    })
}

/// How many threads smol's executor has: one, where nothing says otherwise.
const SMOL_THREADS: &str = "SMOL_THREADS";

/// The environment of a process that runs is not changed: the program takes its own place, with the same id.
fn restarted(threads: usize) -> Outcome<()> {
    use std::os::unix::process::CommandExt as _;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    Err(command.args(std::env::args_os().skip(1)).env(SMOL_THREADS, threads.to_string()).exec().into())
}

/// The runtimes' own listeners let 1,024 and 128 connects wait. Of a storm on one machine the others would be dropped, and
/// come again a second later: that would be measured, and not the server.
fn listener(addr: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whoever has started it may wait for this line.
fn say(addr: SocketAddr) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "ws://{addr}/ws")?)
}

fn hub(
    options: &Options,
    clock: impl Clock + 'static,
    entropy: impl Entropy + 'static,
) -> Outcome<(Hub, trunkline_core::hub::Housekeeper)> {
    let secret = std::fs::read(&options.secret_file)
        .map_err(|error| format!("the secret in {} cannot be read: {error}", options.secret_file.display()))?;
    let keys = Hs256::new(secret.trim_ascii_end(), ClaimRules::default())?;
    // Of the machine itself, which has no bound by address, and of others.
    let limits = Limits {
        unauthenticated: MANY,
        connections: MANY,
        connections_per_user: MANY,
        connections_per_address: MANY,
        handshakes_per_second: FAST,
        handshake_burst: FAST,
        messages_per_second: FAST,
        message_burst: FAST,
        producer_messages_per_second: FAST,
        producer_message_burst: FAST,
        requests: MANY,
        runs_per_user: MANY,
        kept_streams: MANY,
        log_entries: options.log_entries,
        log_bytes: options.log_bytes,
        deflate_from: Some(options.deflate_from).filter(|from| *from > 0),
        ..Limits::default()
    };
    let config = HubConfig { limits, ..HubConfig::default() };
    Ok(Hub::new(config, Arc::new(keys), Arc::new(clock), Arc::new(entropy))?)
}

async fn answer(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        match request {
            Request::Command(command) => {
                // What came in as JSON goes out as JSON.
                let args = command.args().map(ToOwned::to_owned);
                // Whoever asked may be gone.
                let _ = command.reply(&args);
            }
            Request::UserMessage(message) => message.refuse("this server has no agent"),
        }
    }
}
