//! The program over TLS, and the server example on smol, each as a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trunkline_tests::server::{Program, SECRET, example, scoped, token};
use trunkline_tests::wire::{Device, STEP, tcp, within};
use trunkline_tokio::tls::{Connector, Roots};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// A certificate for `localhost` in two files, and itself in PEM.
fn write_pair(dir: &Path) -> String {
    std::fs::create_dir_all(dir).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

/// The answer to a request from whoever trusts this certificate alone.
async fn ask(addr: SocketAddr, trusted: &str, request: &str) -> std::io::Result<String> {
    let connector = Connector::new(&Roots::Pem(trusted.into())).unwrap();
    let mut stream = within("a handshake", STEP, connector.connect("localhost", tcp(addr).await)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    within("an answer", STEP, stream.read_to_string(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_program_serves_its_page_and_its_operations_over_tls_and_reloads_on_a_hangup() {
    let dir = Path::new(SCRATCH).join(format!("tls-program-{}", std::process::id()));
    let first = write_pair(&dir);
    let path = |name: &str| dir.join(name).display().to_string();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let files = [("TRUNKLINE_TLS_CERTIFICATE_FILE", &*certificate), ("TRUNKLINE_TLS_KEY_FILE", &*key)];
    let mut program = Program::with(SCRATCH, &files);
    let host = format!("localhost:{}", program.addr.port());
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    let healthy = ask(program.addr, &first, &get("/healthz", "")).await.unwrap();
    assert!(healthy.starts_with("HTTP/1.1 200 ") && healthy.contains(r#""status":"pass""#), "{healthy}");
    let page = ask(program.addr, &first, &get("/", "")).await.unwrap();
    assert!(page.contains("<html") && page.ends_with('\n'), "{page}");
    for (scheme, status) in [("https", 200), ("http", 403)] {
        let origin = format!("Origin: {scheme}://{host}\r\n");
        let info = ask(program.addr, &first, &get("/dev/info", &origin)).await.unwrap();
        assert!(info.starts_with(&format!("HTTP/1.1 {status} ")), "{scheme} {info}");
    }
    let operations = ask(program.addr, &first, &get("/openapi.json", "")).await.unwrap();
    assert!(operations.starts_with("HTTP/1.1 200 ") && operations.contains("/v1/publish"), "{operations}");

    let second = write_pair(&dir);
    program.signal("-HUP");
    let mut asked = ask(program.addr, &second, &get("/healthz", "")).await;
    for _ in 0..100 {
        if asked.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        asked = ask(program.addr, &second, &get("/healthz", "")).await;
    }
    asked.expect("the new certificate");
    assert!(ask(program.addr, &first, &get("/healthz", "")).await.is_err(), "nobody sees the old one");
    program.signal("-TERM");
    assert_eq!(program.exited(STEP).await, Some(0));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The example on smol.
struct Example(Child, SocketAddr);

impl Example {
    fn command(args: &[&str]) -> Command {
        let mut command = Command::new(example("server"));
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(args: &[&str]) -> Self {
        let secret = std::str::from_utf8(SECRET).unwrap();
        let mut child = Self::command(args).env("TRUNKLINE_SECRET", secret).spawn().expect("the example is built");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("://")).expect("it says where it listens");
        let (_, rest) = line.split_once("://").unwrap();
        Self(child, rest.trim_end_matches('/').parse().expect("an address"))
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn plain(addr: SocketAddr, request: &str) -> String {
    let mut stream = tcp(addr).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", STEP, stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn the_example_on_smol_has_the_operations_of_back_ends_and_stops_as_the_program_does() {
    let mut server = Example::start(&["serve", "--dev", "--listen", "127.0.0.1:0"]);
    let addr = server.1;
    for (method, path, status, body) in [
        ("GET", "/healthz", 200, r#""status":"pass""#),
        ("HEAD", "/readyz", 200, ""),
        ("GET", "/readyz", 200, r#""status":"pass""#),
        ("GET", "/metrics", 401, "no token"),
        ("POST", "/readyz", 405, "this path has other methods"),
    ] {
        let answer = plain(addr, &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        let said = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(said.contains(body) && said.is_empty() == body.is_empty(), "{method} {path}: {said}");
    }
    let mut ann = Device::open(addr, &token("ann")).await;
    let post = |headers: &str, body: &str| {
        let bearer = scoped("agent", "publish");
        format!(
            "POST /v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {bearer}\r\n\
             Content-Type: application/json\r\n{headers}\r\n{body}"
        )
    };
    let body = json!({"user_id": "ann", "name": "paid", "data": {"order": 7}}).to_string();
    let length = format!("Content-Length: {}\r\n", body.len());
    let answer = plain(addr, &post(&length, &body)).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"delivered_to":1}"#), "{answer}");
    let event = ann.event(|event| event["name"] == "paid").await;
    assert_eq!(event["data"]["order"], 7, "{event}");
    // What is no body, or none that is taken.
    let large = format!("Content-Length: {}\r\n", 1 + (1 << 20));
    for (headers, status) in [
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: +1\r\n", 400),
        ("Content-Length: \r\n", 400),
        ("Content-Length: 99999999999999999999999999\r\n", 413),
        (&large, 413),
        ("", 400),
    ] {
        let answer = plain(addr, &post(headers, "")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
    }
    ann.ping("1").await;
    server.signal("-TERM");
    assert_eq!(ann.closed().await, 1012);
    let ended = within("the end", STEP, async {
        loop {
            if let Some(status) = server.0.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    assert_eq!(ended.await.code(), Some(0));
}

#[tokio::test]
async fn the_example_on_smol_speaks_tls_and_says_what_is_wrong_with_its_flags() {
    let dir = Path::new(SCRATCH).join(format!("tls-smol-{}", std::process::id()));
    let certificate = write_pair(&dir);
    let (chain, key) = (dir.join("cert.pem").display().to_string(), dir.join("key.pem").display().to_string());
    let server = Example::start(&["--listen", "127.0.0.1:0", "--tls-certificate", &chain, "--tls-key", &key]);
    let answer = ask(server.1, &certificate, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""status":"pass""#), "{answer}");
    for args in [
        &["--listen", "127.0.0.1:0"][..],
        &["--dev", "--listen", "0.0.0.0:0"],
        &["--dev", "--tls-key", "k"],
        &["--dev", "--listen"],
        &["--dev", "--what"],
        &["--secret-file", "no/such/file"],
        &["--dev", "--listen", "127.0.0.1:0", "--tls-certificate", &key, "--tls-key", &key],
    ] {
        let output = Example::command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert_eq!(output.stderr.iter().filter(|byte| **byte == b'\n').count(), 1, "{output:?}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
