//! Producers over real sockets: they are killed, fall silent, come back, are faster than they may be. Every device sees each
//! event of a run once and in order, and one end of it.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use trunkline_core::limits::Limits;
use trunkline_tests::producer::{Producer, completed, run_event, thinking};
use trunkline_tests::server::{InProcess, Program, token};
use trunkline_tests::wire::{Device, STEP, text, until, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// The lease of most runs here, in seconds: the shortest there is. Far below [`STEP`], in which a device waits for its end.
const LEASE: u64 = 1;

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

fn is_end(event: &Value) -> bool {
    ["agent_completed", "agent_failed", "agent_cancelled"].iter().any(|kind| event["type"] == *kind)
}

/// A process with a producer for one user, which stands at a point of its run.
struct Doomed {
    process: Child,
    says: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Doomed {
    async fn start(program: &Program, user: &str, point: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_doomed_producer"))
            .args([&program.addr.to_string(), user, point, &LEASE.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let says = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut doomed = Self { process, says };
        doomed.says("connected").await;
        doomed
    }

    async fn says(&mut self, word: &str) {
        let line = within("the producer's process to speak", STEP, self.says.next_line()).await.unwrap();
        assert_eq!(line.as_deref(), Some(word));
    }

    /// SIGKILL.
    async fn kill(mut self) {
        within("a killed process to end", STEP, self.process.kill()).await.unwrap();
    }
}

/// Longer than the lease and what the server needs to see it over.
async fn more_than_a_lease() {
    tokio::time::sleep(Duration::from_millis(1_000 * LEASE + 700)).await;
}

/// A producer of `user` is killed at `point`. Answers the events of the run as every device has seen them.
async fn killed_at(program: &Program, point: &str) -> Vec<Value> {
    let user = &*format!("user-{point}");
    let mut doomed = Doomed::start(program, user, point).await;
    let mut phone = Device::open(program.addr, &token(user)).await;
    let mut laptop = Device::open(program.addr, &token(user)).await;
    let message = json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"});
    phone.send(&message).await;
    doomed.says("here").await;
    doomed.kill().await;
    let reply = phone.reply("q").await;
    if reply["ok"] == true {
        let run_id = reply["run_id"].as_str().unwrap();
        laptop.finish(run_id).await;
        phone.finish(run_id).await;
    } else {
        assert_eq!(reply["error"]["code"], "unavailable", "{point}: {reply}");
        assert_eq!(reply["error"]["temporary"], true, "{point}: {reply}");
    }
    more_than_a_lease().await;
    let mut late = Device::resume(program.addr, &token(user), "0-0").await;
    for device in [&mut phone, &mut laptop, &mut late] {
        device.ping("nothing more").await;
    }
    assert_eq!(phone.events, laptop.events, "{point}");
    assert_eq!(phone.events, late.events, "{point}");
    phone.events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_killed_at_any_point_leaves_every_device_with_one_end_of_the_run() {
    let variables = [("TRUNKLINE_AGENT", "false"), ("TRUNKLINE_LIMITS_REQUEST_DEADLINE", "1s")];
    let program = &Program::with(SCRATCH, &variables);
    let lost = "agent_failed";
    // What was not asked to start has no end; what has ended does not end again.
    let points: [(&str, &[&str]); 10] = [
        ("before_the_start", &[]),
        ("in_the_middle_of_the_start", &[]),
        ("after_the_start", &[lost]),
        ("between_two_events", &["agent_thinking", lost]),
        ("in_the_middle_of_an_event", &["agent_thinking", lost]),
        ("in_a_tool_call", &["agent_thinking", "tool_executing", lost]),
        ("while_text_streams", &["agent_thinking", "agent_delta", lost]),
        ("while_suspended", &["agent_thinking", "agent_suspended", lost]),
        ("in_the_middle_of_the_end", &["agent_thinking", lost]),
        ("after_the_end", &["agent_thinking", "agent_completed"]),
    ];
    let mut bystander = Device::open(program.addr, &token("bystander")).await;
    let runs = futures_util::future::join_all(points.map(|(point, _)| killed_at(program, point))).await;
    for ((point, expected), run) in points.iter().zip(&runs) {
        let begun: &[&str] = if expected.is_empty() { &[] } else { &["user_message", "agent_started"] };
        assert_eq!(kinds(run), [begun, expected].concat(), "{point}");
        let ends: Vec<_> = run.iter().filter(|event| is_end(event)).collect();
        assert_eq!(ends.len(), usize::from(!expected.is_empty()), "{point}");
        if expected.last() == Some(&lost) {
            assert_eq!(ends[0]["reason"], "producer_lost", "{point}");
        }
    }
    bystander.ping("still").await;
    assert!(bystander.events.is_empty(), "{:?}", bystander.events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_whose_socket_stays_open_and_silent_ends_its_runs_with_the_lease() {
    let server = InProcess::without_agent(Limits::default()).await;
    let mut phone = Device::open(server.addr, &token("ann")).await;
    let mut laptop = Device::open(server.addr, &token("ann")).await;
    let mut producer = Producer::come(server.addr, "a", &["ann"]).await;
    let asked = json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"});
    phone.send(&asked).await;
    let run_id = producer.accept(LEASE).await;
    producer.receipt(&run_id, 1, thinking("one")).await;
    // Its socket is read no more, so no ping of the server is answered; to the system below it is as open as ever.
    for device in [&mut phone, &mut laptop] {
        let events = device.finish(&run_id).await;
        assert_eq!(kinds(&events), ["user_message", "agent_started", "agent_thinking", "agent_failed"]);
        assert_eq!(events[3]["reason"], "producer_lost");
    }
    more_than_a_lease().await;
    for device in [&mut phone, &mut laptop] {
        device.ping("nothing more").await;
        assert!(is_end(device.events.last().unwrap()));
    }
    assert_eq!(producer.closed().await, 4004);
    server.settles_at(2).await;
}

/// How a producer's connection ends.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Reset,
    Fin,
    InTheMiddleOfAFrame,
    NotYetKnown,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_comes_back_goes_on_and_no_device_has_an_event_lost_or_twice() {
    let server = InProcess::without_agent(Limits::default()).await;
    let mut phone = Device::open(server.addr, &token("ann")).await;
    let mut laptop = Device::open(server.addr, &token("ann")).await;
    let mut producer = Producer::come(server.addr, "a", &["ann"]).await;
    phone.send(&json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"})).await;
    let run_id = producer.accept(20).await;
    let mut last_n = 0;
    let cuts = [Cut::Reset, Cut::Fin, Cut::InTheMiddleOfAFrame, Cut::NotYetKnown];
    let mut old = vec![];
    for (round, cut) in cuts.into_iter().cycle().take(40).enumerate() {
        // The server may see all of these, some or none.
        let next = last_n + 1;
        for n in next..next + (round as u64 % 7) {
            producer.event(&run_id, n, thinking(&n.to_string())).await;
        }
        match cut {
            Cut::Reset => producer.reset(),
            Cut::Fin => drop(producer),
            Cut::InTheMiddleOfAFrame => {
                producer.send_half(&run_event(&run_id, next + round as u64 % 7, thinking("half"))).await;
                producer.reset();
            }
            // The same producer again, while its old socket is open.
            Cut::NotYetKnown => old.push(producer),
        }
        producer = Producer::come(server.addr, "a", &["ann"]).await;
        let before = last_n;
        last_n = producer.start("ann", &run_id, 20).await;
        assert!((before..next + round as u64 % 7).contains(&last_n), "{cut:?}: {last_n} after {before}");
        // From before the last one, as one would that had not kept count: what came already changes nothing.
        producer.event(&run_id, last_n.max(1), thinking(&last_n.max(1).to_string())).await;
        last_n = last_n.max(1);
    }
    producer.receipt(&run_id, last_n + 1, completed()).await;
    let expected: Vec<_> = (1..=last_n).map(|n| n.to_string()).collect();
    for device in [&mut phone, &mut laptop] {
        let events = device.finish(&run_id).await;
        let thoughts: Vec<_> = events.iter().filter_map(|event| event["thought"].as_str()).collect();
        assert_eq!(thoughts, expected);
        assert_eq!(events.iter().filter(|event| is_end(event)).count(), 1);
        assert_eq!(events.len(), expected.len() + 3, "the message, the start, the thoughts, the end");
    }
    assert!(producer.others.is_empty(), "{:?}", producer.others);
    drop((old, producer));
    server.settles_at(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_goes_to_the_next_producer() {
    let server = InProcess::without_agent(Limits::default()).await;
    let mut ann = Device::open(server.addr, &token("ann")).await;
    let mut first = Producer::come(server.addr, "first", &["ann"]).await;
    ann.send(&json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"})).await;
    ann.send(&json!({"type": "command", "id": "c", "name": "rename", "args": {"to": "Sums"}})).await;
    let message = first.request("user_message").await;
    let command = first.request("command").await;
    let mut second = Producer::come(server.addr, "second", &["ann"]).await;
    first.reset();
    // To one that is there.
    assert_eq!(second.request("user_message").await["run_id"], message["run_id"]);
    assert_eq!(second.request("command").await["args"], command["args"]);
    drop(second);
    until("the second producer is out of the hub", STEP, || server.hub.sockets() == 1).await;
    // And to one that comes only then.
    let mut third = Producer::come(server.addr, "third", &["ann"]).await;
    let command = third.request("command").await;
    third.send(&json!({"type": "reply", "id": command["id"], "ok": true, "result": {"renamed": true}})).await;
    assert_eq!(ann.reply("c").await["result"], json!({"renamed": true}));
    let run_id = third.accept(LEASE).await;
    assert_eq!(message["run_id"], run_id.as_str());
    assert_eq!(ann.reply("q").await["run_id"], run_id.as_str());
    third.receipt(&run_id, 1, completed()).await;
    assert_eq!(kinds(&ann.finish(&run_id).await), ["user_message", "agent_started", "agent_completed"]);
    drop(third);
    server.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_is_told_of_the_shutdown_and_closed_with_1012() {
    let limits = Limits { drain_deadline: Duration::from_secs(2), ..Limits::default() };
    let mut server = InProcess::without_agent(limits).await;
    let mut idle = Producer::come(server.addr, "idle", &[]).await;
    let mut busy = Producer::come(server.addr, "busy", &["ann"]).await;
    let mut ann = Device::open(server.addr, &token("ann")).await;
    ann.send(&json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"})).await;
    let run_id = busy.accept(30).await;
    server.stop();
    for producer in [&mut idle, &mut busy] {
        producer.other(|frame| frame["type"] == "going_away").await;
    }
    // What it has begun it may end.
    busy.receipt(&run_id, 1, completed()).await;
    assert_eq!(kinds(&ann.finish(&run_id).await), ["user_message", "agent_started", "agent_completed"]);
    assert_eq!(tokio::join!(idle.closed(), busy.closed(), ann.closed()), (1012, 1012, 1012));
    server.returned(STEP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_events_above_the_rate_come_once_and_in_order_to_every_device() {
    const EVENTS: u64 = 20_000;
    const RATE: u32 = 8_000;
    const BURST: u32 = 200;
    let limits = Limits {
        producer_messages_per_second: RATE,
        producer_message_burst: BURST,
        // What a slow reader of a small log gets instead has tests of its own.
        log_entries: 2 * EVENTS as usize,
        log_bytes: 64 << 20,
        ..Limits::default()
    };
    let server = InProcess::without_agent(limits).await;
    let mut devices = vec![];
    for _ in 0..3 {
        devices.push(Device::open(server.addr, &token("ann")).await);
    }
    let mut producer = Producer::come(server.addr, "a", &["ann"]).await;
    devices[0].send(&json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"})).await;
    let run_id = producer.accept(30).await;
    let began = Instant::now();
    // Each event is looked at once: there are too many to search for the end again after each.
    let reading = devices.into_iter().map(|mut device| {
        tokio::spawn(async move {
            while !device.events.last().is_some_and(is_end) {
                device.frame().await;
            }
            device.events
        })
    });
    let reading: Vec<_> = reading.collect();
    let is_thought = |n: u64| n.is_multiple_of(20);
    for n in 1..EVENTS {
        let event = match is_thought(n) {
            true => thinking(&n.to_string()),
            false => json!({"type": "agent_delta", "part_id": "p", "text": format!("{n};")}),
        };
        producer.event(&run_id, n, event).await;
    }
    producer.receipt(&run_id, EVENTS, completed()).await;
    // It was read no faster than it may be, and was told of nothing that is missing.
    let fastest = Duration::from_secs(1) * (u32::try_from(EVENTS).unwrap() - BURST) / RATE;
    assert!(began.elapsed() >= fastest * 9 / 10, "{:?} for what takes {fastest:?}", began.elapsed());
    assert!(producer.others.is_empty(), "{:?}", producer.others);
    let (thoughts, pieces): (Vec<_>, Vec<_>) = (1..EVENTS).partition(|n| is_thought(*n));
    let streamed: String = pieces.iter().map(|n| format!("{n};")).collect();
    for device in reading {
        let events = within("a device to have read all", STEP, device).await.unwrap();
        assert_eq!(text(&events), streamed);
        let thought: Vec<u64> =
            events.iter().filter_map(|event| event["thought"].as_str()).map(|n| n.parse().unwrap()).collect();
        assert_eq!(thought, thoughts);
        assert_eq!(events.iter().filter(|event| is_end(event)).count(), 1);
        assert!(is_end(events.last().unwrap()));
        let positions: BTreeSet<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!(positions.len(), events.len(), "a position twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_read_slowly_is_not_taken_for_silent() {
    const EVENTS: u64 = 300;
    let limits = Limits { producer_messages_per_second: 100, producer_message_burst: 10, ..Limits::default() };
    let server = InProcess::without_agent(limits).await;
    let mut ann = Device::open(server.addr, &token("ann")).await;
    let mut producer = Producer::come(server.addr, "a", &["ann"]).await;
    ann.send(&json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"})).await;
    let run_id = producer.accept(LEASE).await;
    // Written at once, read for three leases.
    for n in 1..EVENTS {
        producer.event(&run_id, n, thinking(&n.to_string())).await;
    }
    producer.receipt(&run_id, EVENTS, completed()).await;
    let events = ann.finish(&run_id).await;
    assert_eq!(events.len() as u64, EVENTS + 2);
    assert_eq!(events.last().unwrap()["type"], "agent_completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_reads_nothing_of_what_it_asks_for_ends_its_runs_with_the_lease() {
    // What its socket has no room for is soon felt.
    let server = InProcess::narrow(16 << 10, Limits::default());
    let mut ann = Device::open(server.addr, &token("ann")).await;
    let mut producer = Producer::come(server.addr, "a", &["ann"]).await;
    ann.send(&json!({"type": "user_message", "id": "q", "thread_id": "t-1", "content": "hi"})).await;
    let run_id = producer.accept(LEASE).await;
    // Until the server takes no more, either, and for ever after.
    let asking = tokio::spawn(async move {
        for n in 1.. {
            let mut event = run_event(&run_id, n, thinking("hm"));
            event["id"] = "never read".into();
            if producer.socket.send(Message::text(event.to_string())).await.is_err() {
                break;
            }
        }
    });
    while !ann.events.last().is_some_and(is_end) {
        ann.frame().await;
    }
    asking.abort();
    assert_eq!(ann.events.last().unwrap()["reason"], "producer_lost");
}
