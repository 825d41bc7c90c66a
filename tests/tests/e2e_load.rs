//! The load harness against servers that work, on either runtime, and against one that does not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use clap::Parser as _;
use serde_json::Value;
use trunkline_tests::load::{Options, Report, Tally, run};
use trunkline_tests::raw::whole_frame;
use trunkline_tests::server::{Program, SECRET};

const LOAD: &str = env!("CARGO_BIN_EXE_load");
const SERVER: &str = env!("CARGO_BIN_EXE_bench_server");

fn secret_file() -> &'static Path {
    static SECRETS: OnceLock<PathBuf> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}.secret", std::process::id()));
        std::fs::write(&path, SECRET).expect("the secret can be written");
        path
    })
}

/// Runs a mode for a fraction of a second against a server of its own, which its words start.
fn measured(server: &str, mode: &str, flags: &str) -> Report {
    let server = format!("{SERVER} --threads 2 {server}");
    let secret = secret_file().to_str().expect("a path in UTF-8");
    let mut words = vec!["load", mode, "--server", &server, "--secret-file", secret];
    words.extend(["--warmup", "0.1"]);
    if !flags.contains("--seconds") {
        words.extend(["--seconds", "0.4"]);
    }
    words.extend(flags.split_whitespace());
    let options = Options::try_parse_from(words).expect("flags that there are");
    let report = run(&options).expect("something is measured");
    assert!(report.is_sound(), "{report}");
    assert!(report.spans.iter().all(|span| span.count > 0), "{report}");
    report
}

/// How many deliveries and the like were measured, in the first span.
fn count(report: &Report) -> u64 {
    report.spans.first().map_or(0, |span| span.count)
}

/// Every mode on both runtimes; the figures are for benchmarks.
fn every_mode(runtime: &str) {
    let server = format!("--runtime {runtime}");
    let measured = |mode, flags| measured(&server, mode, flags);

    let echo = measured("echo", "--connections 5 --window 3");
    assert!(echo.verified.received > count(&echo), "the time to warm up is checked as well: {echo}");
    let fanout = measured("fanout", "--connections 12 --topics 3 --window 4 --receipts --publishers 2");
    assert!(fanout.verified.received.is_multiple_of(4), "each message has come to all four of its topic: {fanout}");
    let route = measured("route", "--connections 12 --size 2000");
    assert!(route.verified.received >= count(&route), "{route}");
    let idle = measured("idle", "--connections 20");
    assert_eq!(idle.verified.received, 0, "{idle}");
    let connect = measured("connect", "--connections 30 --window 4");
    assert_eq!(count(&connect), 30, "{connect}");
    let churn = measured("churn", "--connections 4");
    assert!(churn.spans[0].latency.is_some_and(|latency| latency.count > 0), "{churn}");
    let resume = measured("resume", "--connections 10 --missed 25");
    assert_eq!(resume.verified.received, 250, "{resume}");
    let resume = measured("resume", "--connections 10 --missed 25 --topics 2 --window 3");
    assert_eq!(resume.verified.received, 250, "{resume}");
    let spans: Vec<_> = resume.spans.iter().map(|span| (span.unit, span.count)).collect();
    assert_eq!(spans, [("receipts", 50), ("events", 250), ("sessions", 10)]);
    if cfg!(target_os = "linux") {
        assert!(resume.memory.is_some_and(|memory| memory.before > 0 && memory.after > 0), "{resume}");
        assert!(echo.spans[0].cpu_seconds_per_million.is_some_and(|cpu| cpu > 0.0), "{echo}");
    }
}

#[test]
fn every_mode_finds_a_server_on_tokio_sound() {
    every_mode("tokio");
}

#[test]
fn every_mode_finds_a_server_on_smol_sound() {
    every_mode("smol");
}

#[test]
fn readers_that_do_not_read_cost_the_others_nothing_and_are_told_what_they_lost() {
    // A log that is soon longer than what is on the way to one that does not read.
    let server = "--runtime tokio --log-entries 64 --log-bytes 100000";
    let report = measured(server, "slow", "--connections 6 --slow 2 --size 20000 --window 2 --seconds 1");
    let spans: Vec<_> = report.spans.iter().map(|span| span.name).collect();
    assert_eq!(spans, ["all read", "some do not"]);
    assert!(report.verified.told_lost > 0, "what the log no longer has is said to be gone: {report}");
}

#[test]
fn a_fixed_rate_is_kept_and_its_times_begin_where_it_says() {
    for (mode, flags) in [("fanout", "--connections 4 --rate 200"), ("echo", "--connections 4 --rate 800")] {
        let start = Instant::now();
        let report = measured("--runtime tokio", mode, flags);
        // However late the machine lets them come, never more than were due from the beginning on.
        let due = 800.0 * start.elapsed().as_secs_f64() + 4.0;
        assert!((report.verified.received as f64) <= due, "{due} were due: {report}");
        assert!(report.spans[0].latency.is_some_and(|latency| latency.count > 0), "{report}");
    }
    let connects = measured("--runtime tokio", "connect", "--connections 20 --rate 100");
    assert!(connects.spans[0].seconds >= 0.19, "the last of 20 is not due before: {connects}");
    assert_eq!(connects.spans[0].latency.map(|latency| latency.count), Some(20), "{connects}");
}

#[test]
fn the_program_prints_one_json_object() {
    let server = format!("{SERVER} --runtime smol");
    let mut command = Command::new(LOAD);
    command.args(["fanout", "--json", "--connections", "3", "--seconds", "0.2", "--warmup", "0", "--server", &server]);
    let output = command.arg("--secret-file").arg(secret_file()).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(
        (&report["mode"], &report["faults"], &report["verified"]["lost"]),
        (&"fanout".into(), &0.into(), &0.into())
    );
    assert!(report["spans"][0]["per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{report}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let secret = secret_file().to_str().expect("a path in UTF-8");
    let tries: [(&[&str], &str); 3] = [
        (&["echo", "--url", "ws://127.0.0.1:1/ws"], "no connection"),
        (&["echo", "--url", "ws://127.0.0.1:1/ws", "--size", "3"], "--size"),
        (&["slow", "--url", "ws://127.0.0.1:1/ws", "--connections", "1"], "--slow"),
    ];
    for (flags, expected) in tries {
        let output = Command::new(LOAD).args(flags).args(["--secret-file", secret]).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// What is done to the tenth event of each connection.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Lose,
    Double,
    Swap,
}

/// A way to the server on which one event of each connection suffers.
fn faulty_way(to: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(to).expect("the server accepts");
            let (mut up, mut down) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            // Either end may be gone.
            std::thread::spawn(move || std::io::copy(&mut up, &mut down));
            std::thread::spawn(move || spoil(server, client, fault));
        }
    });
    addr
}

fn spoil(mut from: TcpStream, mut to: TcpStream, fault: Fault) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (mut events, mut is_upgraded, mut held) = (0, false, None);
    let mut buf = [0; 4096];
    loop {
        match from.read(&mut buf)? {
            0 => return Ok(()),
            n => bytes.extend_from_slice(&buf[..n]),
        }
        if !is_upgraded {
            let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            to.write_all(&bytes.drain(..at + 4).collect::<Vec<_>>())?;
            is_upgraded = true;
        }
        while let Some((_, payload, used)) = whole_frame(&bytes).expect("a server's frame") {
            let is_event =
                payload.windows(10).any(|window| window == b"\"event_id\"") && !payload.starts_with(b"{\"type\":\"w");
            events += u32::from(is_event);
            let frame: Vec<_> = bytes.drain(..used).collect();
            match (is_event && events == 10, fault) {
                (false, _) => to.write_all(&frame)?,
                (true, Fault::Lose) => {}
                (true, Fault::Double) => to.write_all(&[frame.as_slice(), &frame].concat())?,
                (true, Fault::Swap) => {
                    held = Some(frame);
                    continue;
                }
            }
            if let Some(late) = held.take() {
                to.write_all(&late)?;
            }
        }
    }
}

/// What three receivers were given on such a way; the program says that it is not sound.
fn given_under(program: &Program, fault: Fault) -> Tally {
    let url = format!("ws://{}/ws", faulty_way(program.addr, fault));
    let flags = ["--connections", "3", "--seconds", "0.5", "--warmup", "0", "--window", "4", "--patience", "3"];
    let mut words = vec!["load", "fanout", "--url", &url, "--secret-file", secret_file().to_str().expect("a path")];
    words.extend(flags);
    let report = run(&Options::try_parse_from(&words).expect("flags that there are")).expect("something is measured");
    assert!(!report.is_sound() && report.faults >= 3, "{report}");
    let output = Command::new(LOAD).args(&words[1..]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("NOT SOUND"), "{said}");
    report.verified
}

#[test]
fn an_event_that_is_lost_doubled_or_swapped_on_its_way_is_noticed() {
    let program = Program::command(&format!("{SERVER} --threads 2"), secret_file()).expect("the server starts");
    let lost = given_under(&program, Fault::Lose);
    assert_eq!((lost.lost, lost.doubled, lost.swapped), (3, 0, 0), "{lost}");
    let doubled = given_under(&program, Fault::Double);
    assert_eq!((doubled.lost, doubled.doubled, doubled.swapped), (0, 3, 0), "{doubled}");
    let swapped = given_under(&program, Fault::Swap);
    assert_eq!((swapped.lost, swapped.doubled, swapped.swapped), (0, 0, 3), "{swapped}");
}
