//! The clients of both adapters and `trunkline chat` over TLS, against both servers as processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use trunkline_core::client::{AsyncClient, ClientOptions, FixedToken, Runtime, State, Trouble, Update};
use trunkline_core::id::ThreadId;
use trunkline_core::protocol::{EventKind, Position};
use trunkline_core::stream::Reducer;
use trunkline_smol::Smol;
use trunkline_tests::server::{Program, binary, token};
use trunkline_tests::wire::{QUESTION, STEP, tcp, within};
use trunkline_tokio::Tokio;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// A certificate for `localhost` and its key, in a folder that goes with them.
struct Pair(PathBuf);

impl Pair {
    fn new(name: &str) -> Self {
        let dir = Path::new(SCRATCH).join(format!("tls-clients-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn pem(&self) -> Vec<u8> {
        std::fs::read(self.0.join("cert.pem")).unwrap()
    }

    /// The program, which is the tokio adapter's server.
    fn program(&self) -> Program {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let files = [("TRUNKLINE_TLS_CERTIFICATE_FILE", &*certificate), ("TRUNKLINE_TLS_KEY_FILE", &*key)];
        Program::with(SCRATCH, &files)
    }

    /// The server on smol.
    fn example(&self) -> Program {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let flags = ["--dev", "--tls-certificate", &*certificate, "--tls-key", &*key];
        Program::example_with(SCRATCH, "server", &[], &flags)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The adapters, and how the clients of each are told whom to trust.
trait Adapter: Runtime {
    fn trusting(options: ClientOptions, pem: Vec<u8>) -> ClientOptions;
}

impl Adapter for Tokio {
    fn trusting(options: ClientOptions, pem: Vec<u8>) -> ClientOptions {
        use trunkline_tokio::tls::{Connector, Roots};
        options.with_connector(Connector::new(&Roots::Pem(pem)).unwrap())
    }
}

impl Adapter for Smol {
    fn trusting(options: ClientOptions, pem: Vec<u8>) -> ClientOptions {
        use trunkline_smol::tls::{Connector, Roots};
        options.with_connector(Connector::new(&Roots::Pem(pem)).unwrap())
    }
}

/// With `None`, the runtime's own connector, which trusts the public authorities.
fn client<A: Adapter>(host: &str, port: u16, pem: Option<Vec<u8>>) -> AsyncClient<A> {
    let options = ClientOptions::new(&format!("wss://{host}:{port}/ws"), FixedToken::new(&token("ann"))).unwrap();
    let options = match pem {
        Some(pem) => A::trusting(options, pem),
        None => options,
    };
    AsyncClient::connect(options).expect("it can work")
}

/// Hands sockets on to a server, until they are cut.
struct Relay {
    port: u16,
    cut: Arc<Notify>,
}

impl Relay {
    async fn to(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, cut) = (listener.local_addr().unwrap().port(), Arc::new(Notify::new()));
        let cuts = Arc::clone(&cut);
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = tcp(addr).await;
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = cuts.notified() => {}
                }
            }
        });
        Self { port, cut }
    }
}

#[derive(Default)]
struct Seen {
    events: Vec<(Position, EventKind)>,
    runs: Reducer,
    welcomes: usize,
    waits: usize,
}

impl Seen {
    async fn until<A: Adapter>(&mut self, client: &mut AsyncClient<A>, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let update = within("an update", STEP, client.next()).await.expect("it goes on");
            update.reduce(&mut self.runs);
            match update {
                Update::Welcome(_) => self.welcomes += 1,
                Update::Event(event) => self.events.push((event.position, event.body.kind())),
                Update::State(State::Waiting { .. }) => self.waits += 1,
                Update::State(State::Stopped(why)) => panic!("{why}"),
                Update::Gap { .. } | Update::Undone { .. } => panic!("{update:?}"),
                Update::State(_) | Update::Frame(_) | Update::NoToken(_) | Update::TopicRefused(_) => {}
            }
        }
    }

    fn ends(&self) -> usize {
        self.events.iter().filter(|(_, kind)| *kind == EventKind::AgentCompleted).count()
    }
}

/// A golden path, a socket that is cut, and a golden path on the next one: every event once.
async fn goes_on_over_a_cut<A: Adapter>(addr: SocketAddr, pem: Vec<u8>, answer: &str) {
    let relay = Relay::to(addr).await;
    let (mut client, mut seen) = (client::<A>("localhost", relay.port, Some(pem)), Seen::default());
    let thread = ThreadId::new("main").unwrap();
    client.send(&thread, QUESTION).unwrap();
    seen.until(&mut client, |seen| seen.ends() == 1).await;
    assert_eq!((seen.welcomes, seen.waits), (1, 0));
    relay.cut.notify_one();
    seen.until(&mut client, |seen| seen.waits > 0).await;
    client.send(&thread, QUESTION).unwrap();
    seen.until(&mut client, |seen| seen.ends() == 2).await;
    assert_eq!(seen.welcomes, 2);
    let numbers: Vec<u64> = seen.events.iter().map(|(position, _)| position.seq).collect();
    assert!(seen.events.windows(2).all(|pair| pair[0].0 < pair[1].0), "{numbers:?}");
    let kinds = |kind| seen.events.iter().filter(|(_, it)| *it == kind).count();
    assert_eq!((kinds(EventKind::UserMessage), kinds(EventKind::AgentStarted)), (2, 2));
    let texts: Vec<_> = seen.runs.runs().values().flat_map(|run| run.parts.values()).map(|it| &*it.text).collect();
    assert!(texts.len() == 2 && texts.iter().all(|text| text.contains(answer)), "{texts:?}");
    client.close();
    while within("the end", STEP, client.next()).await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_both_adapters_go_on_over_tls_at_both_servers() {
    let pair = Pair::new("golden");
    // The example's agent says what it was told.
    for (server, answer) in [(pair.program(), "14"), (pair.example(), QUESTION)] {
        goes_on_over_a_cut::<Tokio>(server.addr, pair.pem(), answer).await;
        goes_on_over_a_cut::<Smol>(server.addr, pair.pem(), answer).await;
    }
}

/// The client says why it has no socket, and how long it waits with the second try: it tries no more often than its back-off says.
async fn is_told<A: Adapter>(host: &str, port: u16, pem: Option<Vec<u8>>, why: &[&str]) {
    let started = Instant::now();
    let (mut client, mut waits) = (client::<A>(host, port, pem), Vec::new());
    while waits.len() < 2 {
        let update = within("a failure", STEP, client.next()).await.expect("it goes on");
        let Update::State(State::Waiting { wait, failures, why: trouble, .. }) = update else {
            assert!(matches!(update, Update::State(State::Connecting)), "{update:?}");
            continue;
        };
        waits.push(wait);
        assert_eq!(failures as usize, waits.len());
        let Trouble::NoSocket(text) = trouble else { panic!("{trouble:?}") };
        assert!(text.starts_with(&format!("cannot connect to {host}:{port}: no TLS: ")), "{text}");
        assert!(why.iter().any(|why| text.contains(why)), "{text}");
    }
    assert!(started.elapsed() >= waits[0] && waits[0] > Duration::ZERO, "{waits:?}");
}

/// A server that answers every socket in plain text, and how many came.
async fn plain() -> (u16, Arc<AtomicUsize>) {
    use tokio::io::AsyncWriteExt as _;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counts = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut socket, _): (TcpStream, _) = listener.accept().await.unwrap();
            counts.fetch_add(1, Ordering::SeqCst);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
            });
        }
    });
    (port, count)
}

async fn is_told_what_does_not_hold<A: Adapter>(port: u16, good: &Pair, other: &Pair) {
    is_told::<A>("127.0.0.1", port, Some(good.pem()), &["not valid for name"]).await;
    // The other certificate has the same subject, so that its signature is what is looked at.
    is_told::<A>("localhost", port, Some(other.pem()), &["UnknownIssuer", "BadSignature"]).await;
    is_told::<A>("localhost", port, None, &["UnknownIssuer"]).await;
    let (port, count) = plain().await;
    is_told::<A>("localhost", port, Some(good.pem()), &["corrupt message"]).await;
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_does_not_hold_and_a_plain_server_are_said_and_waited_for() {
    let (good, other) = (Pair::new("good"), Pair::new("other"));
    for server in [good.program(), good.example()] {
        is_told_what_does_not_hold::<Tokio>(server.addr.port(), &good, &other).await;
        is_told_what_does_not_hold::<Smol>(server.addr.port(), &good, &other).await;
    }
}

/// Exit status, standard output, standard error.
async fn chat(url: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::new(binary());
    command.args(["chat", "--url", url, "--message", QUESTION, "--json"]).args(more).env_clear().stdin(Stdio::null());
    let output = within("the program", STEP, command.kill_on_drop(true).output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chat_trusts_a_file_logs_in_by_name_and_says_what_does_not_hold() {
    let (good, other) = (Pair::new("chat"), Pair::new("chat-other"));
    let program = good.program();
    let url = format!("wss://localhost:{}/ws", program.addr.port());
    let (trusted, distrusted) = (good.path("cert.pem"), other.path("cert.pem"));
    let bearer = token("ann");
    for way_in in [["--user", "ann"], ["--token", &bearer]] {
        let (status, out, err) = chat(&url, &[&["--ca-file", &*trusted], &way_in[..]].concat()).await;
        assert_eq!(status, Some(0), "{err}{out}");
        assert!(out.lines().next().unwrap().contains(r#""user_id":"ann""#), "{out}");
        assert!(out.contains("agent_completed"), "{out}");
        for untrusted in [&["--ca-file", &*distrusted][..], &[]] {
            let (status, out, err) = chat(&url, &[untrusted, &way_in[..]].concat()).await;
            assert_eq!((status, &*out, err.lines().count()), (Some(1), "", 1), "{err}");
            assert!(err.contains("localhost") && err.contains("no TLS: invalid peer certificate"), "{err}");
        }
    }
    let wrong = format!("wss://127.0.0.1:{}/ws", program.addr.port());
    let (status, _, err) = chat(&wrong, &["--ca-file", &trusted, "--user", "ann"]).await;
    assert!(status == Some(1) && err.contains("not valid for name"), "{err}");
}
