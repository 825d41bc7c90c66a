//! `trunkline chat` against a running server: the golden path, what is refused, and a line that breaks.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::id::UserId;
use trunkline_core::time::{Clock as _, UnixTime};
use trunkline_tokio::SystemClock;

const SECRET: &str = "a secret of more than 32 bytes, for tests";
const QUESTION: &str = "what is 2*(3+4)?";

fn trunkline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A server in development mode with a secret of the test's, ended with the test.
struct Server {
    process: Child,
    address: String,
    secret: PathBuf,
}

impl Server {
    fn start(test: &str) -> Self {
        let secret = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-{test}.secret"));
        std::fs::write(&secret, SECRET).unwrap();
        let mut process = trunkline(&["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "off", "--secret-file"])
            .arg(&secret)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let page = lines.find_map(|line| line.split_once("http://").map(|(_, rest)| rest.to_owned())).unwrap();
        Self { process, address: page.trim_end_matches('/').to_owned(), secret }
    }

    /// Not in development mode, whose greeting names the port: on a port that was free a moment ago.
    fn production(test: &str) -> Self {
        let secret = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-{test}.secret"));
        std::fs::write(&secret, SECRET).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = trunkline(&["serve", "--listen", &address, "--log", "info", "--secret-file"]);
        let mut process = command.arg(&secret).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        log.find(|line| line.contains("listening")).unwrap();
        thread::spawn(move || log.for_each(drop));
        Self { process, address, secret }
    }

    fn token(&self, user: &str) -> String {
        let output = trunkline(&["token", "--user", user, "--secret-file"]).arg(&self.secret).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn chat(&self, user: &str, message: &str) -> Command {
        chat(&self.address, &self.token(user), message)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn chat(address: &str, token: &str, message: &str) -> Command {
    let mut command = trunkline(&["chat", "--url", &format!("ws://{address}/ws"), "--message", message, "--json"]);
    command.env("TRUNKLINE_TOKEN", token);
    command
}

/// Every line on standard output is a frame, compact, and the command succeeded.
fn frames(output: Output) -> Vec<Value> {
    let Output { status, stdout, stderr } = output;
    let text = String::from_utf8(stdout).unwrap();
    assert_eq!(status.code(), Some(0), "{}{text}", String::from_utf8_lossy(&stderr));
    let frame = |line: &str| {
        let frame: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line.len(), frame.to_string().len(), "not compact: {line}");
        frame
    };
    text.lines().map(frame).collect()
}

fn refused(mut command: Command, status: i32) -> (String, String) {
    let Output { status: exit, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(exit.code(), Some(status), "{stderr}{stdout}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    (stdout, stderr)
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect()
}

fn events(frames: &[Value]) -> Vec<Value> {
    frames.iter().filter(|frame| frame["event_id"].is_string()).cloned().collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// The whole run of [`QUESTION`], every event once and in order.
fn assert_golden(events: &[Value], user: &str) {
    let mut order = kinds(events);
    order.dedup();
    let legal = [
        "user_message",
        "agent_started",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "agent_delta",
        "agent_completed",
    ];
    let mut steps = order.clone();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!(steps.into_iter().collect::<BTreeSet<_>>(), legal.into_iter().collect(), "{order:?}");
    assert_eq!((order[0], order[1], *order.last().unwrap()), (legal[0], legal[1], legal[6]), "{order:?}");
    for (before, after) in [(3, 4), (4, 6), (5, 6)] {
        let at = |kind: &str| order.iter().position(|it| *it == kind).unwrap();
        assert!(at(legal[before]) < at(legal[after]), "{order:?}");
    }

    let first = events[0]["seq"].as_u64().unwrap();
    for (event, seq) in events.iter().zip(first..) {
        assert_eq!((&event["seq"], &event["user_id"]), (&json!(seq), &json!(user)));
        let (_, written) = event["event_id"].as_str().unwrap().split_once('-').unwrap();
        assert_eq!(written, seq.to_string());
    }
    for event in &events[1..] {
        assert_eq!((&event["run_id"], &event["thread_id"]), (&events[1]["run_id"], &json!("main")));
    }

    let (begun, done) = (of_kind(events, "tool_executing"), of_kind(events, "tool_completed"));
    assert!(begun.len() == 1 && done.len() == 1);
    assert!(begun[0]["tool_name"].is_string() && begun[0]["parameters"].is_object(), "{}", begun[0]);
    assert_eq!(done[0]["tool_name"], begun[0]["tool_name"]);
    assert_eq!(done[0]["tool_call_id"], begun[0]["tool_call_id"]);
    assert!(done[0]["success"] == true && done[0]["results"].to_string().contains("14"), "{}", done[0]);

    let streamed: String = of_kind(events, "agent_delta").iter().map(|it| it["text"].as_str().unwrap()).collect();
    let answer = of_kind(events, "agent_completed")[0]["final_response"].as_str().unwrap();
    assert!(answer.contains("14"), "{answer}");
    assert_eq!(streamed, answer);
}

#[test]
fn a_message_is_answered_by_a_whole_run_in_order() {
    let server = Server::start("golden");
    let frames = frames(server.chat("ann", QUESTION).output().unwrap());
    assert_eq!((&frames[0]["type"], &frames[0]["user_id"]), (&json!("welcome"), &json!("ann")));
    assert_eq!(kinds(&frames).iter().filter(|kind| **kind == "welcome").count(), 1);
    let events = events(&frames);
    assert_golden(&events, "ann");
    let replies = of_kind(&frames, "reply");
    assert_eq!(replies.len(), 1);
    assert_eq!((&replies[0]["ok"], &replies[0]["run_id"]), (&json!(true), &events[1]["run_id"]));
}

#[test]
fn on_this_machine_a_name_is_enough_in_development_mode() {
    let server = Server::start("by-name");
    let url = format!("ws://{}/ws", server.address);
    let ask = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = trunkline(&["chat", "--url", &url, "--message", QUESTION, "--json"]);
        command.args(flags).envs(variables.iter().copied()).output().unwrap()
    };
    assert_golden(&events(&frames(ask(&[], &[]))), "me");
    assert_golden(&events(&frames(ask(&[], &[("USER", "ann"), ("LOGNAME", "eve")]))), "ann");
    assert_golden(&events(&frames(ask(&["--user", "bob"], &[("USER", "ann"), ("TRUNKLINE_TOKEN", "x")]))), "bob");
    let refused = ask(&["--user", ""], &[]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("status 400: the name must not be empty"), "{stderr}");
}

#[test]
fn outside_development_mode_and_this_machine_a_token_is_needed() {
    let server = Server::production("no-door");
    let by_name = |url: &str| trunkline(&["chat", "--url", url, "--message", "hi", "--user", "ann"]);
    let (stdout, stderr) = refused(by_name(&format!("ws://{}/ws", server.address)), 1);
    assert_eq!(stdout, "");
    assert!(stderr.contains("not in development mode") && stderr.contains("--token"), "{stderr}");
    let (_, stderr) = refused(by_name("ws://192.0.2.1:8787/ws"), 2);
    assert!(stderr.contains("loopback") && stderr.contains("--token"), "{stderr}");
}

/// Answers log-ins with these answers in turn and then no more, and passes everything else on to the server at `there`.
fn door(there: &str, answers: &[&str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let there = there.to_owned();
    let mut answers: Vec<_> = answers.iter().rev().map(|it| (*it).to_owned()).collect();
    thread::spawn(move || {
        for mut near in listener.incoming().map_while(Result::ok) {
            let mut start = [0; 4];
            near.peek(&mut start).unwrap();
            if start == *b"POST" {
                let mut request = Vec::new();
                let mut byte = [0];
                // The body is one JSON object, the only braces of the request.
                while !request.ends_with(b"}") && near.read(&mut byte).unwrap() == 1 {
                    request.push(byte[0]);
                }
                // A client that has read enough closes first.
                let _ = near.write_all(answers.pop().expect("no more log-ins").as_bytes());
                continue;
            }
            let far = TcpStream::connect(&there).unwrap();
            let (up, down) = ((near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near));
            thread::spawn(move || pass(up.0, up.1, None));
            thread::spawn(move || pass(down.0, down.1, None));
        }
    });
    here
}

fn answer(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn a_door_that_gives_no_token_is_said_in_one_line() {
    let long = answer(&format!("{{\"token\":\"{}\"}}", "x".repeat(17 << 10)));
    let headers = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(64 << 10));
    let table = [
        (answer("{}"), "without a token"),
        (answer("nothing"), "without a token"),
        (answer("{\"token\":\"a b\"}"), "without a token"),
        (answer("{\"token\":5}"), "without a token"),
        (long, "cannot log in"),
        (headers, "cannot log in"),
        ("nothing\r\n\r\n".to_owned(), "cannot log in"),
        (String::new(), "cannot log in"),
        ("HTTP/1.1 403 No\r\n\r\n{\"error\":\"\\u001b[2J\"}".to_owned(), "status 403: \\u{1b}[2J"),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "status 500"),
    ];
    for (answer, expected) in table {
        let url = format!("ws://{}/ws", door("nowhere", &[&answer]));
        let (stdout, stderr) = refused(trunkline(&["chat", "--url", &url, "--message", "hi"]), 1);
        assert_eq!(stdout, "");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
}

#[test]
fn a_door_that_does_not_answer_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", silent.local_addr().unwrap());
    let (_, stderr) = refused(trunkline(&["chat", "--url", &url, "--message", "hi"]), 1);
    assert!(stderr.contains("no answer in 5 s"), "{stderr}");
}

/// One that this server would have taken an hour ago.
fn expired_token(user: &str) -> String {
    let keys = Hs256::new(SECRET.as_bytes(), ClaimRules::default()).unwrap();
    let (user, now) = (UserId::new(None, user).unwrap(), SystemClock::new().now().unix);
    let ttl = Duration::from_secs(60);
    let issued_at = UnixTime::from_secs(now.as_secs() - 3600);
    keys.issue(&NewToken { user: &user, issued_at, ttl, scope: "", token_id: None }).unwrap()
}

#[test]
fn an_expired_token_is_replaced_by_logging_in_again() {
    let server = Server::start("again");
    let answers = [expired_token("ann"), server.token("ann")].map(|token| answer(&json!({"token": token}).to_string()));
    let url = format!("ws://{}/ws", door(&server.address, &[&answers[0], &answers[1]]));
    let (text, status) = piped(trunkline(&["chat", "--url", &url]), &format!("{QUESTION}\n"));
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("4200 token_expired; getting a new token; connecting again in"), "{text}");
    assert!(text.contains("* connected as ann\n") && text.contains("= 14"), "{text}");
}

/// What a conversation shows whose input comes all at once and ends, and its status.
fn piped(mut command: Command, input: &str) -> (String, Option<i32>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    (String::from_utf8(stdout).unwrap(), status.code())
}

#[test]
fn the_end_of_the_input_waits_for_the_answers() {
    let server = Server::start("piped");
    let url = format!("ws://{}/ws", server.address);
    let (text, status) = piped(trunkline(&["chat", "--url", &url]), QUESTION);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("= 14") && text.lines().last().unwrap().starts_with("completed in "), "{text}");
    let many: String = (1..=20).map(|n| format!("what is 1000+{n}?\n")).collect();
    let (text, status) = piped(trunkline(&["chat", "--url", &url, "--json"]), &many);
    assert_eq!(status, Some(0), "{text}");
    let frames: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answers: BTreeSet<_> =
        of_kind(&frames, "agent_completed").iter().map(|it| it["final_response"].to_string()).collect();
    assert_eq!(answers.len(), 20, "{answers:?}");
    let (text, status) = piped(trunkline(&["chat", "--url", &url]), "");
    assert_eq!(status, Some(0), "{text}");
}

#[cfg(unix)]
#[test]
fn leaving_before_the_answers_is_no_success() {
    let server = Server::start("leaving");
    let url = format!("ws://{}/ws", server.address);
    let mut command = trunkline(&["chat", "--url", &url]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let question = format!("{}?\n", "why ".repeat(2000));
    child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("started")).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_person_reads_lines() {
    let server = Server::start("lines");
    let url = format!("ws://{}/ws", server.address);
    let output = trunkline(&["chat", "--url", &url, "--token", &server.token("ann"), "--message", QUESTION]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.starts_with("* connected as ann\n> what is 2*(3+4)?\n"), "{text}");
    assert!(text.contains("14") && text.lines().last().unwrap().starts_with("completed in "), "{text}");
}

#[test]
fn a_token_that_does_not_hold_gets_no_welcome() {
    let server = Server::start("bad-token");
    for token in ["no.good.token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ."] {
        let (stdout, stderr) = refused(chat(&server.address, token, QUESTION), 1);
        assert_eq!(stdout, "");
        assert!(stderr.contains("4400 bad_credentials"), "{stderr}");
        assert!(!stderr.contains(token));
    }
}

#[test]
fn what_cannot_work_is_said_in_one_line() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (_, stderr) = refused(chat(&closed, "a.b.c", "hi"), 1);
    assert!(stderr.contains(&format!("cannot connect to {closed}")), "{stderr}");
    let (_, stderr) = refused(trunkline_chat(&format!("wss://{closed}/ws")), 1);
    assert!(stderr.contains(&format!("cannot connect to {closed}")), "{stderr}");
    let empty = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chat-no-certificate.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    for (url, file) in [("wss", "no/such/file"), ("wss", empty.to_str().unwrap()), ("ws", empty.to_str().unwrap())] {
        let mut command = trunkline_chat(&format!("{url}://{closed}/ws"));
        command.args(["--ca-file", file]);
        let (_, stderr) = refused(command, 2);
        assert!(stderr.contains("--ca-file "), "{stderr}");
    }
    let server = Server::start("no-endpoint");
    let (_, stderr) = refused(trunkline_chat(&format!("ws://{}/nowhere", server.address)), 1);
    assert!(stderr.contains("404"), "{stderr}");
}

fn trunkline_chat(url: &str) -> Command {
    trunkline(&["chat", "--url", url, "--token", "a.b.c", "--message", "hi"])
}

#[test]
fn two_users_at_once_do_not_see_each_other() {
    let server = Server::start("two-users");
    let start = |user| server.chat(user, QUESTION).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (ann, bob) = (start("ann"), start("bob"));
    let [ann, bob] = [ann, bob].map(|child| frames(child.wait_with_output().unwrap()));
    assert_golden(&events(&ann), "ann");
    assert_golden(&events(&bob), "bob");
    let run = |frames: &[Value]| of_kind(frames, "agent_started")[0]["run_id"].to_string();
    for (frames, other) in [(&ann, run(&bob)), (&bob, run(&ann))] {
        assert!(frames.iter().all(|frame| !frame.to_string().contains(&other)));
    }
}

/// Passes connections on, the first to `first` and the others to `then`; the first one breaks where `until` first
/// stands in what the server sends, which is then not passed on.
fn breaking_line(first: &str, then: &str, until: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let (mut there, then) = (first.to_owned(), then.to_owned());
    thread::spawn(move || {
        let mut until = Some(until);
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(&there).unwrap();
            there.clone_from(&then);
            let (up, down) = ((near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near));
            let until = until.take();
            thread::spawn(move || pass(up.0, up.1, None));
            thread::spawn(move || pass(down.0, down.1, until));
        }
    });
    here
}

fn pass(mut from: TcpStream, mut to: TcpStream, until: Option<&str>) {
    let mut buf = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        let text = String::from_utf8_lossy(&buf[..n]);
        if until.is_some_and(|until| text.contains(until)) || to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_line_that_breaks_costs_no_event_and_repeats_none() {
    let server = Server::start("breaks");
    for (user, until) in [("ann", "tool_executing"), ("bob", "\"reply\""), ("eve", "agent_completed")] {
        let line = breaking_line(&server.address, &server.address, until);
        let frames = frames(chat(&line, &server.token(user), QUESTION).output().unwrap());
        assert_eq!(of_kind(&frames, "welcome").len(), 2, "{until}");
        assert_golden(&events(&frames), user);
    }
}

#[test]
fn a_conversation_goes_on_over_a_line_that_breaks() {
    let server = Server::start("conversation");
    let url = format!("ws://{}/ws", breaking_line(&server.address, &server.address, "tool_executing"));
    let mut command = trunkline(&["chat", "--url", &url, "--token", &server.token("ann")]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut ask = |question: &str| {
        writeln!(input, "{question}").unwrap();
        lines.by_ref().take_while(|line| !line.starts_with("completed in ")).collect::<Vec<_>>()
    };
    let shown = ask(QUESTION);
    let count = |part: &str| shown.iter().filter(|line| line.contains(part)).count();
    assert_eq!((count("> what is"), count("connecting again in"), count("* connected as ann")), (1, 1, 2), "{shown:?}");
    assert_eq!(count("calculator ->"), 1, "{shown:?}");
    assert!(ask("what is 3*7?").last().unwrap().contains("21"));
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_that_has_forgotten_the_run_is_not_waited_for() {
    let (server, other) = (Server::start("forgotten"), Server::start("forgotten"));
    let line = breaking_line(&server.address, &other.address, "tool_executing");
    let (stdout, stderr) = refused(chat(&line, &server.token("ann"), QUESTION), 1);
    assert!(stderr.contains("what became of the message is unknown"), "{stderr}");
    assert_eq!(stdout.matches("\"welcome\"").count(), 2);
}

#[test]
fn a_client_that_is_killed_in_its_run_harms_no_other() {
    let server = Server::start("killed");
    let mut child = server.chat("ann", QUESTION).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("agent_started")).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_golden(&events(&frames(server.chat("bob", QUESTION).output().unwrap())), "bob");
}
