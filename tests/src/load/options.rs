//! What is measured, as the command line says it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::marker::MARKER;

/// Measures a Trunkline server under load, and verifies that every event arrives once and in order.
///
/// Status 0 when all of it did, 1 when not, 2 when nothing could be measured. A server's defaults let a client send 30 messages a
/// second and a producer 20,000: `bench_server` lifts that.
#[derive(Clone, Debug, Parser)]
#[command(name = "load")]
pub struct Options {
    /// What to do
    #[arg(value_enum)]
    pub mode: Mode,
    /// Where the server is, as ws://127.0.0.1:8787/ws
    #[arg(long, value_name = "URL", required_unless_present = "server")]
    pub url: Option<String>,
    /// The file with the secret by which the server verifies tokens (HS256)
    #[arg(long, value_name = "FILE")]
    pub secret_file: PathBuf,
    /// Starts this server, and ends it: a program with its flags, given --listen and --secret-file too, that prints its address
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["url", "pid"])]
    pub server: Option<String>,
    /// The server's process, whose processor time and memory are read; may be given more than once
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// How many receivers, users or sessions
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub connections: usize,
    /// Bytes of the string that each message carries
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub size: usize,
    /// Messages in flight: of each connection for echo (1), of all for fanout, route and slow (64); or handshakes in flight for connect
    /// (64) and resume (all)
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,
    /// Messages, or connects, a second at fixed times, whatever the server does; as fast as the window lets, where absent
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How long is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub seconds: f64,
    /// How long it runs before that
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warmup: f64,
    /// How long nothing may come before what has not come is lost
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub patience: f64,
    /// How many events each session misses in resume
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub missed: u64,
    /// Topics, among which receivers are dealt: 1 for fanout and slow; in resume without it, each user misses events of its own
    #[arg(long, value_name = "N")]
    pub topics: Option<usize>,
    /// How many of the connections do not read in slow; a tenth of them, where absent
    #[arg(long, value_name = "N")]
    pub slow: Option<usize>,
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub publishers: usize,
    /// Ask for a receipt of each publish
    #[arg(long)]
    pub receipts: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What is done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each connection sends commands, and the application answers each by its own `args`
    Echo,
    /// A producer publishes to topics, and every subscriber gets it
    Fanout,
    /// A producer publishes to one user after the other
    Route,
    /// Connections that nothing happens on
    Idle,
    /// Authenticated connects, all of which stay
    Connect,
    /// Each connection comes, is welcomed, closes, and comes again
    Churn,
    /// Sessions that have missed events come back at once and get all of them
    Resume,
    /// Some readers stop reading beside others that go on
    Slow,
}

/// Messages in flight at a fixed rate, so that a pause of the server makes messages late and not fewer.
const WINDOW_AT_A_RATE: usize = 1024;

impl Options {
    /// # Errors
    /// When what is asked for cannot be done, in words.
    pub fn check(&self) -> Result<(), String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let topics = self.topics.unwrap_or(1);
        let problem = match self.mode {
            _ if self.connections == 0 || self.publishers == 0 || topics == 0 || self.window == Some(0) => {
                "--connections, --publishers, --topics and --window are at least 1"
            }
            _ if self.size < MARKER => {
                return Err(format!("--size is at least {MARKER}, as it holds a number and a time"));
            }
            _ if !positive(self.patience) => "--patience is above 0",
            _ if !positive(self.seconds) || self.warmup < 0.0 || !self.warmup.is_finite() => {
                "--seconds is above 0, and --warmup not below"
            }
            _ if self.rate.is_some_and(|rate| !positive(rate)) => "--rate is above 0",
            Mode::Idle | Mode::Resume if self.rate.is_some() => {
                "--rate is for messages, connects and churn: here nothing has one"
            }
            Mode::Resume if self.missed == 0 => "--missed is at least 1",
            Mode::Slow if self.slow_readers() == 0 || self.slow_readers() + topics > self.connections => {
                "--slow is at least 1, and leaves a reader for each topic"
            }
            Mode::Fanout | Mode::Resume | Mode::Slow if topics > self.connections => {
                "--topics is at most --connections: each topic has a receiver"
            }
            Mode::Echo | Mode::Fanout | Mode::Route | Mode::Idle | Mode::Connect | Mode::Churn => return Ok(()),
            Mode::Resume | Mode::Slow => return Ok(()),
        };
        Err(problem.to_owned())
    }

    pub(super) fn slow_readers(&self) -> usize {
        self.slow.unwrap_or((self.connections / 10).max(1))
    }

    /// Messages in flight, of all connections.
    pub(super) fn in_flight(&self) -> usize {
        let default = if self.rate.is_some() { WINDOW_AT_A_RATE } else { 64 };
        self.window.unwrap_or(default)
    }

    /// Messages in flight of one connection that asks.
    pub(super) fn in_flight_each(&self) -> usize {
        self.window.unwrap_or(if self.rate.is_some() { 16 } else { 1 })
    }
}
