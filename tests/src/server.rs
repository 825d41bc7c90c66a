//! Whole servers: one in this process, with a small agent on the public API, and the real program.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use trunkline_core::auth::{Access, ClaimRules, Hs256, NewToken, TokenVerifier};
use trunkline_core::hub::{Hub, HubConfig, Request, Requests, Run, UserMessage};
use trunkline_core::id::UserId;
use trunkline_core::limits::Limits;
use trunkline_core::stream::RunError;
use trunkline_core::time::UnixTime;
use trunkline_tokio::{NoWeb, SystemClock, SystemEntropy, serve};

use crate::wire::{STEP, read_to_end, tcp, until, within};

/// The secret of every server here.
pub const SECRET: &[u8] = b"a secret of the end-to-end tests, long enough";

/// A good token, for an hour.
pub fn token(user: &str) -> String {
    signed(SECRET, user, Duration::ZERO)
}

/// A token that held for an hour and was made `age` ago, under any secret.
///
/// # Panics
/// When the user's name or the secret is none.
pub fn signed(secret: &[u8], user: &str, age: Duration) -> String {
    granting(secret, user, age, "", None)
}

/// A token of this server that grants more than the user's own stream.
///
/// # Panics
/// When the name is none.
pub fn scoped(user: &str, scope: &str) -> String {
    granting(SECRET, user, Duration::ZERO, scope, None)
}

/// The same with an id, by which it can be revoked.
///
/// # Panics
/// When the name is none.
pub fn revocable(user: &str, scope: &str, token_id: &str) -> String {
    granting(SECRET, user, Duration::ZERO, scope, Some(token_id))
}

/// A token of this server for a user of a tenant.
///
/// # Panics
/// When a name is none.
pub fn of_tenant(tenant: &str, user: &str, scope: &str) -> String {
    let user = UserId::new(Some(tenant), user).expect("a user's name");
    granting_to(SECRET, &user, Duration::ZERO, scope, None)
}

fn granting(secret: &[u8], user: &str, age: Duration, scope: &str, token_id: Option<&str>) -> String {
    granting_to(secret, &UserId::new(None, user).expect("a user's name"), age, scope, token_id)
}

fn granting_to(secret: &[u8], user: &UserId, age: Duration, scope: &str, token_id: Option<&str>) -> String {
    let keys = Hs256::new(secret, ClaimRules::default()).expect("a secret");
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("a calendar after 1970");
    let issued_at = UnixTime::from_secs(since.saturating_sub(age).as_secs());
    let new = NewToken { user, issued_at, ttl: Duration::from_secs(3600), scope, token_id };
    keys.issue(&new).expect("a token")
}

/// A server in this process. Its agent answers every message as the golden path demands, except that
///
/// - `hold` waits, while its tool is open, for [`InProcess::release`];
/// - `stream <n> <bytes>` streams so many pieces of so many characters.
#[derive(Debug)]
pub struct InProcess {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The hub that it serves.
    pub hub: Hub,
    gate: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<io::Result<()>>,
}

impl InProcess {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// When the limits contradict each other, or no port is free.
    pub async fn start(limits: Limits) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), limits).attended()
    }

    /// The same with sockets that take about `bytes` from the server beyond what their peers have room for: whoever reads
    /// slowly is soon felt.
    ///
    /// # Panics
    /// As [`InProcess::start`].
    pub fn narrow(bytes: u32, limits: Limits) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // What is accepted inherits it.
        socket.set_send_buffer_size(bytes).expect("a send buffer");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        Self::on(socket.listen(1024).expect("a listener"), limits).attended()
    }

    /// The same where producers over the wire are the only ones to answer.
    ///
    /// # Panics
    /// As [`InProcess::start`].
    pub async fn without_agent(limits: Limits) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), limits)
    }

    /// The same with another verifier than that of [`token`].
    ///
    /// # Panics
    /// As [`InProcess::start`].
    pub async fn verifying(verifier: Arc<dyn TokenVerifier>, config: HubConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::of(listener, config, verifier).attended()
    }

    /// The same where more may come in than the defaults let.
    ///
    /// # Panics
    /// As [`InProcess::start`].
    pub async fn with_access(limits: Limits, access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::with(listener, HubConfig { limits, access, ..HubConfig::default() }).attended()
    }

    fn attended(self) -> Self {
        let requests = self.hub.requests().expect("nobody else takes the requests");
        tokio::spawn(attend(requests, Arc::clone(&self.gate)));
        self
    }

    fn on(listener: TcpListener, limits: Limits) -> Self {
        Self::with(listener, HubConfig { limits, ..HubConfig::default() })
    }

    fn with(listener: TcpListener, config: HubConfig) -> Self {
        let verifier = Hs256::new(SECRET, ClaimRules::default()).expect("a secret");
        Self::of(listener, config, Arc::new(verifier))
    }

    fn of(listener: TcpListener, config: HubConfig, verifier: Arc<dyn TokenVerifier>) -> Self {
        let clock = Arc::new(SystemClock::new());
        let (hub, keeper) = Hub::new(config, verifier, clock, Arc::new(SystemEntropy)).expect("limits that agree");
        let addr = listener.local_addr().expect("an address");
        let gate = Arc::new(Semaphore::new(0));
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(listener, hub.clone(), keeper, NoWeb, shutdown));
        Self { addr, hub, gate, stop: Some(stop), served }
    }

    /// Lets one held run go on.
    pub fn release(&self) {
        self.gate.add_permits(1);
    }

    /// Begins the shutdown.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has returned.
    ///
    /// # Panics
    /// When it does not within `limit`, or not well.
    pub async fn returned(&mut self, limit: Duration) {
        let served = within("the server to return", limit, &mut self.served).await;
        served.expect("the server does not panic").expect("the server returns well");
    }

    /// Waits until so many sockets are open and attached, and no others.
    pub async fn settles_at(&self, connections: usize) {
        let what = format!("{connections} connections are all that the hub has");
        until(&what, STEP, || {
            let counts = self.hub.counts();
            self.hub.sockets() == connections
                && self.hub.unauthenticated() == 0
                && (counts.connections, counts.runs, counts.requests) == (connections, 0, 0)
        })
        .await;
    }
}

async fn attend(mut requests: Requests, gate: Arc<Semaphore>) {
    while let Some(request) = requests.next().await {
        match request {
            Request::UserMessage(message) => {
                tokio::spawn(answer(message, Arc::clone(&gate)));
            }
            Request::Command(command) => command.refuse("no commands here"),
        }
    }
}

/// A run that takes no more events was cancelled, or its server is gone.
async fn answer(message: UserMessage, gate: Arc<Semaphore>) {
    let content = message.content().to_owned();
    let Ok(run) = message.start("tester") else { return };
    let words: Vec<_> = content.split(' ').collect();
    let _ = match words.as_slice() {
        ["stream", pieces, length] => {
            stream(&run, pieces.parse().unwrap_or_default(), length.parse().unwrap_or_default()).await
        }
        ["hold"] => golden(&run, "2*(3+4)", Some(&gate)).await,
        _ => golden(&run, content.trim_start_matches("what is ").trim_end_matches('?'), None).await,
    };
}

async fn golden(run: &Run, expression: &str, gate: Option<&Semaphore>) -> Result<(), RunError> {
    run.thinking("A sum.")?;
    let call = run.tool("calculator", &json!({"expression": expression}))?;
    if let Some(gate) = gate
        && let Ok(permit) = gate.acquire().await
    {
        permit.forget();
    }
    call.completed(&json!({"value": 14}))?;
    let answer = "The answer is 14.";
    for word in answer.split_inclusive(' ') {
        run.delta(word)?;
    }
    run.completed(Some(answer.to_owned())).map(drop)
}

async fn stream(run: &Run, pieces: usize, length: usize) -> Result<(), RunError> {
    for piece in 0..pieces {
        run.delta(streamed_piece(piece, length))?;
        tokio::task::yield_now().await;
    }
    run.completed(None).map(drop)
}

/// Piece `index` of what the agent streams on request.
pub fn streamed_piece(index: usize, length: usize) -> String {
    format!("{index:>length$}")
}

/// The program `trunkline serve --dev`, with its own agent. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    process: Child,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Program {
    /// Starts the program with [`SECRET`] in a file in `scratch`.
    ///
    /// # Panics
    /// When it does not say in time where it listens.
    pub fn start(scratch: &str) -> Self {
        Self::with(scratch, &[])
    }

    /// The same with variables of its environment.
    ///
    /// # Panics
    /// As [`Program::start`].
    pub fn with(scratch: &str, variables: &[(&str, &str)]) -> Self {
        Self::run(scratch, variables, "off", Stdio::inherit())
    }

    /// The same with all that it can log, which goes into this file; so does whatever else it says on standard error.
    ///
    /// # Panics
    /// As [`Program::start`], and when there is no such file.
    pub fn logging(scratch: &str, variables: &[(&str, &str)], log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a file for the log");
        Self::run(scratch, variables, "trace", log.into())
    }

    fn run(scratch: &str, variables: &[(&str, &str)], level: &str, log: Stdio) -> Self {
        let mut command = Command::new(binary());
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--log", level, "--secret-file"]);
        command.arg(secret_file(scratch)).env_clear().envs(variables.iter().copied()).stderr(log);
        Self::started(command)
    }

    /// A server that is an example of one of the packages, under [`SECRET`]; with variables of its environment.
    ///
    /// # Panics
    /// When there is no such example, or it does not say in time where it listens.
    pub fn example(scratch: &str, name: &str, variables: &[(&str, &str)]) -> Self {
        Self::example_with(scratch, name, variables, &[])
    }

    /// The same with more flags.
    ///
    /// # Panics
    /// As [`Program::example`].
    pub fn example_with(scratch: &str, name: &str, variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let mut command = Command::new(example(name));
        command.args(["--listen", "127.0.0.1:0", "--secret-file"]).arg(secret_file(scratch)).stderr(Stdio::inherit());
        command.args(flags).envs(variables.iter().copied());
        Self::started(command)
    }

    /// A server that a line of words starts, given where to listen and the file of its secret. What it logs is standard error.
    ///
    /// # Errors
    /// When it does not start, or does not say in time where it listens.
    pub fn command(words: &str, secret_file: &Path) -> Result<Self, String> {
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().ok_or("the server's command is empty")?);
        command
            .args(words)
            .args(["--listen", "127.0.0.1:0", "--secret-file"])
            .arg(secret_file)
            .stderr(Stdio::inherit());
        Self::try_started(command)
    }

    fn started(command: Command) -> Self {
        Self::try_started(command).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn try_started(mut command: Command) -> Result<Self, String> {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process =
            spawned.map_err(|error| format!("{} does not start: {error}", command.get_program().display()))?;
        let lines = process.stdout.take().map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok));
        let (said, heard) = mpsc::channel();
        // To its end, so that the program never writes into a closed pipe.
        std::thread::spawn(move || lines.into_iter().flatten().for_each(|line| drop(said.send(line))));
        // Killed when it says nothing.
        let mut program = Self { process, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        loop {
            let line = heard.recv_timeout(STEP).map_err(|_| "the program does not say where it listens".to_owned())?;
            if let Some((_, rest)) = line.split_once("://") {
                let addr = rest.split('/').next().and_then(|addr| addr.parse().ok());
                program.addr = addr.ok_or_else(|| format!("{line}: there is no address"))?;
                return Ok(program);
            }
        }
    }

    /// Its process, for signals.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal by name.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{name} is sent");
    }

    /// Waits for its end and answers the exit status, `None` after a signal.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn exited(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        until("the program has ended", limit, || {
            status = self.process.try_wait().expect("a child can be waited for");
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }

    /// Status line and body of a GET.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> (String, String) {
        let mut stream = tcp(self.addr).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr);
        within("a request to leave", STEP, stream.write_all(request.as_bytes())).await.expect("the request leaves");
        let answer = read_to_end(&mut stream, "the answer to a GET", STEP).await;
        let answer = String::from_utf8(answer).expect("the answer is text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs lines of the README in a shell, as if the server listened where the README has it; answers what they print.
/// The program is `trunkline` there, and [`SECRET`] is in `trunkline.secret`.
///
/// # Panics
/// When they fail, or there is no shell.
pub async fn shell(scratch: &str, addr: SocketAddr, lines: &str) -> String {
    let place = Path::new(scratch).join(format!("shell-{}-{}", std::process::id(), addr.port()));
    std::fs::create_dir_all(&place).expect("a place to work in");
    std::fs::write(place.join("trunkline.secret"), SECRET).expect("the secret can be written");
    let directory = binary().parent().map(Path::to_path_buf).unwrap_or_default();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = tokio::process::Command::new("sh");
    let lines = lines.replace("127.0.0.1:8787", &addr.to_string());
    command.args(["-euc", &lines]).current_dir(&place).env("PATH", path).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the lines of the README", STEP, command.output()).await.expect("a shell");
    std::fs::remove_dir_all(&place).expect("the place can be left");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("what is printed is text")
}

/// [`SECRET`] in a file, written once per test process.
fn secret_file(scratch: &str) -> &'static Path {
    static SECRETS: OnceLock<PathBuf> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let path = Path::new(scratch).join(format!("e2e-{}.secret", std::process::id()));
        std::fs::write(&path, SECRET).expect("the secret can be written");
        path
    })
}

/// An example of one of the packages, built once per test process.
///
/// # Panics
/// When there is no such example.
pub fn example(name: &str) -> PathBuf {
    // With the features that all packages have together, as the tests are built: nothing is built twice.
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut examples = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    examples.entry(name.to_owned()).or_insert_with(|| built(&["--workspace", "--example", name], name)).clone()
}

/// The program, built once per test process.
///
/// # Panics
/// When it does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    // An example beside it, so that it has the features with which the tests are built: nothing is built twice.
    BINARY.get_or_init(|| built(&["--workspace", "--bin", "trunkline", "--example", "echo_smol"], "trunkline"))
}

/// What is built by the cargo that runs the test; cargo itself says where it is.
fn built(which: &[&str], name: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--message-format=json"])
        .args(which)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{name} builds");
    let artifacts = output.stdout.split(|byte| *byte == b'\n');
    artifacts
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|artifact| artifact["target"]["name"] == name)
        .find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the program")
}
