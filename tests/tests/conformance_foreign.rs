//! The suite as a program, against servers that it has not started: as authors of adapters and of servers run it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use serde_json::Value;
use trunkline_core::auth::{ClaimRules, Hs256};
use trunkline_core::hub::{Hub, HubConfig};
use trunkline_tests::server::{Program, SECRET};
use trunkline_tokio::{SystemClock, SystemEntropy, TokioTimer};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// Every carrier is on, and there are several threads.
const VARIABLES: [(&str, &str); 4] = [
    ("TRUNKLINE_TICKETS", "true"),
    ("TRUNKLINE_COOKIE", "token"),
    ("TRUNKLINE_ORIGINS", "https://app.example"),
    ("SMOL_THREADS", "4"),
];

/// What the program comes to.
struct Ran {
    status: Option<i32>,
    scenarios: Vec<Value>,
    said: String,
}

impl Ran {
    /// The names of those with this verdict.
    fn names(&self, verdict: &str) -> Vec<&str> {
        let of = self.scenarios.iter().filter(|line| line["verdict"] == verdict);
        of.map(|line| line["scenario"].as_str().expect("a name")).collect()
    }

    fn passed(&self) -> usize {
        let failed: Vec<_> = self.scenarios.iter().filter(|line| line["verdict"] == "failed").collect();
        assert_eq!(self.status, Some(0), "{failed:#?}\n{}", self.said);
        assert!(failed.is_empty(), "{failed:#?}");
        self.names("passed").len()
    }
}

async fn conformance(url: &str, arguments: &[&str]) -> Ran {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(["--url", url, "--json", "--jobs", "48"]).args(arguments).kill_on_drop(true);
    let output = command.output().await.expect("the program runs");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ran {
        status: output.status.code(),
        scenarios: report["scenarios"].as_array().cloned().unwrap_or_default(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The secret in a file of this test's own.
fn secret_file(name: &str) -> PathBuf {
    let file = Path::new(SCRATCH).join(format!("{name}-{}.secret", std::process::id()));
    std::fs::write(&file, [SECRET, b"\n"].concat()).expect("a place for the secret");
    file
}

#[tokio::test]
async fn a_foreign_server_is_asked_the_whole_suite() {
    let server = Program::example(SCRATCH, "server", &VARIABLES);
    let file = secret_file("foreign");
    let file = file.to_str().expect("a path in Unicode");
    let with = "http,tickets,cookie,no_agent,own_http";
    let ran = conformance(&format!("ws://{}/ws", server.addr), &["--with", with, "--secret-file", file]).await;
    let passed = ran.passed();
    let skipped = ran.scenarios.iter().filter_map(|line| line["why"].as_str()).flat_map(|why| {
        let needs = why.strip_prefix("without ").expect("what is missing");
        needs.split(", ").map(str::to_owned).collect::<Vec<_>>()
    });
    // All that nobody can vouch for, and nothing else.
    let skipped: BTreeSet<_> = skipped.collect();
    assert_eq!(skipped, ["own", "stop", "virtual_time"].map(str::to_owned).into());
    println!("{passed} of {} scenarios against a server that was there", ran.scenarios.len());
    assert!(passed * 10 >= ran.scenarios.len() * 8, "{passed} of {}", ran.scenarios.len());
}

#[tokio::test]
async fn tokens_come_from_a_command_where_nobody_tells_the_secret() {
    let server = Program::example(SCRATCH, "server", &VARIABLES);
    let (url, file) = (format!("ws://{}/ws", server.addr), secret_file("command"));
    let command = format!("exec '{}' '{}'", env!("CARGO_BIN_EXE_sign_claims"), file.display());
    let ran = conformance(&url, &["--filter", "carriers", "--token-command", &command]).await;
    assert!(ran.passed() >= 5, "{:?}", ran.scenarios);
    // A command that fails is no fault of the server's.
    let ran = conformance(&url, &["--filter", "carriers", "--token-command", "cat >&2; exit 3"]).await;
    assert_eq!((ran.status, ran.scenarios.len()), (Some(2), 0), "{}", ran.said);
    assert!(ran.said.contains("the token command ends with"), "{}", ran.said);
}

#[tokio::test]
async fn the_endpoint_may_be_at_any_path() {
    let addr = elsewhere("/chat/socket").await;
    let file = secret_file("elsewhere");
    let file = file.to_str().expect("a path in Unicode");
    let of = |path: &str| format!("ws://{addr}{path}");
    let ran = conformance(&of("/chat/socket"), &["--filter", "handshake", "--secret-file", file]).await;
    assert!(ran.passed() >= 10, "{:?}", ran.scenarios);
    let ran = conformance(&of("/ws"), &["--filter", "an_upgrade", "--secret-file", file]).await;
    assert_eq!(ran.status, Some(1), "there is nothing: {}", ran.said);
}

/// An application on axum with the endpoint at this path, for as long as the test runs.
async fn elsewhere(path: &str) -> SocketAddr {
    let verifier = Arc::new(Hs256::new(SECRET, ClaimRules::default()).expect("a secret"));
    let clock = Arc::new(SystemClock::new());
    let (hub, keeper) =
        Hub::new(HubConfig::default(), verifier, clock, Arc::new(SystemEntropy)).expect("limits that agree");
    tokio::spawn(keeper.run(TokioTimer::new(hub.clone())));
    let app = Router::new().route(path, trunkline_tokio::axum::route(hub));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    addr
}
