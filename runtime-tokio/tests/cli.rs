//! The program from outside: what it refuses, with which status and which line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const SECRET: &str = "a secret of more than 32 bytes, for tests";

fn trunkline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// The one line on standard error of a command that is refused.
fn refusal(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

fn scratch(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_bad_setting_is_one_line_naming_the_key() {
    let file = scratch("bad.toml", "[limits]\nmessage_byts = 5\n");
    let file = file.to_str().unwrap();
    let line = refusal(&mut trunkline(&["serve", "--config", file]));
    assert_eq!(line, format!("trunkline: setting `limits.message_byts` (file {file}): there is no such setting"));
    let line = refusal(trunkline(&["serve", "--dev"]).env("TRUNKLINE_LIMITS_HELLO_DEADLINE", "soon\n\u{1b}[2J"));
    assert!(line.contains("`limits.hello_deadline` (environment variable TRUNKLINE_LIMITS_HELLO_DEADLINE)"), "{line}");
    let broken = scratch("broken.toml", "listen = \n\n= 4");
    assert!(refusal(&mut trunkline(&["serve", "--config", broken.to_str().unwrap()])).contains("broken.toml"));
    assert!(refusal(&mut trunkline(&["serve", "--config", "/nonexistent.toml"])).contains("/nonexistent.toml"));
}

#[test]
fn flags_overrule_variables_and_variables_overrule_the_file() {
    let file = scratch("layers.toml", "listen = \"by-file\"\n");
    let file = file.to_str().unwrap();
    let serve = ["serve", "--dev", "--config", file];
    assert!(refusal(&mut trunkline(&serve)).contains("found \"by-file\""));
    let by_variable = refusal(trunkline(&serve).env("TRUNKLINE_LISTEN", "by-variable"));
    assert!(by_variable.contains("found \"by-variable\""), "{by_variable}");
    let by_flag = refusal(trunkline(&serve).args(["--listen", "by-flag"]).env("TRUNKLINE_LISTEN", "by-variable"));
    assert!(by_flag.contains("(flag --listen)") && by_flag.contains("found \"by-flag\""), "{by_flag}");
}

#[test]
fn development_mode_refuses_an_address_that_others_can_reach() {
    let line = refusal(&mut trunkline(&["serve", "--dev", "--listen", "0.0.0.0:0"]));
    assert!(line.contains("setting `listen` (flag --listen)") && line.contains("loopback"), "{line}");
}

#[test]
fn without_a_secret_there_is_no_server_and_no_token() {
    for args in [&["serve"][..], &["token", "--user", "ann"]] {
        let line = refusal(&mut trunkline(args));
        assert!(line.contains("no secret") && line.contains("/dev/urandom"), "{line}");
        assert_eq!(line.contains("--jwks-url"), args == ["serve"], "{line}");
    }
    let line = refusal(trunkline(&["serve"]).env("TRUNKLINE_SECRET", "hunter2"));
    assert!(line.contains("TRUNKLINE_SECRET") && !line.contains("hunter2"), "{line}");
}

#[test]
fn a_token_is_the_only_thing_printed() {
    let file = scratch("secret", &format!("{SECRET}\n"));
    let by_file =
        ["token", "--user", "ann", "--tenant", "acme", "--ttl", "5m", "--secret-file", file.to_str().unwrap()];
    for command in [&mut trunkline(&by_file), trunkline(&["token", "--user", "ann"]).env("TRUNKLINE_SECRET", SECRET)] {
        let output = command.output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let token = text.strip_suffix('\n').unwrap();
        assert_eq!(token.split('.').count(), 3, "{token}");
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')));
    }
    for wrong in [["--user", "", "--ttl", "1h"], ["--user", "ann", "--ttl", "never"]] {
        refusal(trunkline(&["token"]).args(wrong).env("TRUNKLINE_SECRET", SECRET));
    }
}

#[test]
fn chat_wants_a_token_and_an_address() {
    assert!(refusal(&mut trunkline(&["chat", "--url", "ws://192.0.2.1/ws"])).contains("TRUNKLINE_TOKEN"));
    assert!(refusal(&mut trunkline(&["chat", "--url", "http://127.0.0.1:1/", "--token", "x"])).contains("ws://"));
}

/// A server in development mode, ended with the test.
struct Server {
    process: Child,
    address: String,
    command: String,
}

impl Server {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        let mut process = trunkline(&["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "off"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let page = lines.find_map(|line| line.split_once("http://").map(|(_, rest)| rest.to_owned())).unwrap();
        let command = lines.find(|line| line.contains(" chat --url ")).unwrap();
        Self { process, address: page.trim_end_matches('/').to_owned(), command }
    }

    /// The whole answer to a request, which the server ends by closing.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.replace("HOST", &self.address).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn development_mode_prints_where_the_page_is_and_a_command_to_paste() {
    let server = Server::start();
    let Server { address, command, .. } = &server;
    assert!(command.contains(&format!("ws://{address}/ws --user ann --message")), "{command}");
    assert!(server.ask("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(server.ask("GET /readyz HTTP/1.1\r\nHost: HOST\r\n\r\n").contains(r#""status":"pass""#));
}

#[test]
fn without_the_agent_that_is_built_in_nobody_is_claimed_and_a_message_is_refused_for_now() {
    let server = Server::with(&["--no-agent"]);
    assert!(server.ask("GET /dev/info HTTP/1.1\r\nHost: HOST\r\n\r\n").contains("\"agent\":false"));
    let url = format!("ws://{}/ws", server.address);
    let output = trunkline(&["chat", "--url", &url, "--user", "ann", "--message", "hi"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("no agent is here"), "{stderr}");
}

#[test]
fn the_door_of_development_mode_opens_to_this_machine_only() {
    let server = Server::start();
    let log_in = |host: &str, user: &str| {
        let body = format!("{{\"user\":\"{user}\"}}");
        let length = body.len();
        server.ask(&format!(
            "POST /dev/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ))
    };
    assert!(log_in("HOST", "ann").contains("\"token\":\"ey"));
    assert!(log_in("HOST", "").starts_with("HTTP/1.1 400"));
    let rebound = log_in("evil.example", "ann");
    assert!(rebound.starts_with("HTTP/1.1 403") && !rebound.contains("token"), "{rebound}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_server_in_good_order() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start();
        let sent = Command::new("kill").args([signal, &server.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(server.process.wait().unwrap().code(), Some(0), "{signal}");
    }
}

const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn key_set() -> String {
    format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "2026-11", "x": "{X}"}}]}}"#)
}

#[cfg(unix)]
#[test]
fn a_file_with_keys_needs_no_secret_and_each_change_of_it_is_one_line_that_shows_no_key() {
    let file = scratch("keys.json", &key_set());
    let args = ["serve", "--listen", "127.0.0.1:0", "--jwks-file", file.to_str().unwrap()];
    let mut process = trunkline(&args).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |wanted: &str, seen: &mut Vec<String>| {
        for line in lines.by_ref() {
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(wanted)) {
                return;
            }
        }
        panic!("no line with {wanted:?}: {seen:?}");
    };
    until("listening", &mut seen);
    assert!(seen.iter().any(|line| line.contains("new keys are in use") && line.contains("keys=1")), "{seen:?}");
    // The same error is not told twice, however often the file is read; another one is.
    std::fs::write(&file, "half a fi").unwrap();
    until("keys could not be fetched; those before them stay", &mut seen);
    std::fs::write(&file, key_set()).unwrap();
    until("keys are fetched again", &mut seen);
    let failures = seen.iter().filter(|line| line.contains("fetched; those before them stay")).count();
    assert!(failures <= 1 && !seen.iter().any(|line| line.contains(X)), "{seen:?}");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_file_with_keys_that_is_wrong_from_the_beginning_is_refused() {
    let broken = scratch("broken.json", "{}");
    for path in [broken.to_str().unwrap(), "/nonexistent/keys.json"] {
        let mut command = trunkline(&["serve", "--listen", "127.0.0.1:0", "--log", "off", "--jwks-file", path]);
        let line = refusal(&mut command);
        assert!(line.contains("`jwks_file`") && line.contains(path), "{line}");
    }
}
