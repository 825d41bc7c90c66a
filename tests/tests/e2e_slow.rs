//! Readers on bad lines beside others on good ones: they cost nobody anything, and end with the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use trunkline_core::hub::{Hub, RunOptions};
use trunkline_core::id::{ThreadId, UserId};
use trunkline_core::limits::Limits;
use trunkline_tests::line::{Line, Pace};
use trunkline_tests::server::{InProcess, token};
use trunkline_tests::wire::{Carrier, Device, STEP, position, text, until, within};

/// What a socket takes at each end, so that it is soon full.
const BUFFER: u32 = 8 << 10;
const SLOW: Pace = Pace::Bytes(10 << 10);
/// Pieces of text of one run.
const PIECES: usize = 51;
/// How long the longest of it may take.
const LIMIT: Duration = Duration::from_secs(240);

/// These tests measure: one at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn ann() -> UserId {
    UserId::new(None, "ann").unwrap()
}

async fn on_a_line(server: &InProcess) -> (Line, Device) {
    let (line, stream) = Line::lay(server.addr, BUFFER).await;
    (line, Device::join_on(stream, server.addr, &token("ann"), Carrier::Subprotocol, json!({})).await)
}

/// Reads until the last run has ended, and gives the device back; `ended` counts the runs' ends that were read.
fn read_runs(mut device: Device, runs: usize, ended: &Arc<AtomicUsize>) -> JoinHandle<Device> {
    let ended = Arc::clone(ended);
    tokio::spawn(async move {
        let mut ends = 0;
        while ends < runs {
            let frame = device.frame().await;
            if frame["type"] == "agent_completed" {
                ends += 1;
                ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Whatever else there is to say comes before the answer.
        device.ping("last").await;
        device
    })
}

/// Streams the runs for about `period`, and answers the most that the logs held.
async fn publish_runs(hub: &Hub, runs: usize, period: Duration) -> usize {
    let mut most = 0;
    for n in 0..runs {
        let run = hub.start_run(&ann(), ThreadId::new("t").unwrap(), RunOptions::named("a")).unwrap();
        run.thinking("Writing.").unwrap();
        let mut whole = String::new();
        for piece in 0..PIECES {
            let text = format!("run {n}, piece {piece:>2}, and so on; ");
            whole.push_str(&text);
            run.delta(text).unwrap();
            if piece % 3 == 2 {
                tokio::time::sleep(period / (runs * PIECES / 3) as u32).await;
            }
        }
        run.completed(Some(whole)).unwrap();
        most = most.max(hub.counts().log_bytes);
    }
    most
}

/// What is not streamed text, in the order in which it came.
fn lifecycle(device: &Device) -> Vec<(&Value, &Value)> {
    let events = device.events.iter().filter(|event| !event["type"].as_str().unwrap().starts_with("agent_delta"));
    events.map(|event| (&event["event_id"], &event["type"])).collect()
}

/// The text of each run, held to what its last event says.
fn texts(device: &Device) -> Vec<String> {
    let runs = device.events.split_inclusive(|event| event["type"] == "agent_completed");
    runs.map(|run| {
        let text = text(run);
        assert!(run[run.len() - 1]["final_response"] == text.as_str(), "another text: {text}");
        text
    })
    .collect()
}

/// How often merging was said to begin and to end.
fn lag(device: &Device) -> (usize, usize) {
    let said = |merging| {
        let lag = device.others.iter().filter(|frame| frame["type"] == "lag");
        lag.filter(|frame| frame["merging"] == merging).count()
    };
    (said(true), said(false))
}

/// One device reads 10 KiB a second, one stops for `stop`, and three read as fast as they can, while `runs` runs are
/// streamed: more than the slow one can take unmerged.
async fn a_slow_and_a_stopped_reader_among_fast_ones(runs: usize, stop: Duration, limits: Limits) {
    let _alone = ALONE.lock().await;
    let bound = limits.log_bytes;
    let server = InProcess::narrow(BUFFER, limits);
    let (slow_line, slow) = on_a_line(&server).await;
    let (stopped_line, stopped) = on_a_line(&server).await;
    slow_line.set(SLOW);
    stopped_line.set(Pace::Stopped);
    let (fast_ends, slow_ends) = (Arc::default(), Arc::default());
    let mut fast = Vec::new();
    for _ in 0..3 {
        fast.push(read_runs(Device::open(server.addr, &token("ann")).await, runs, &fast_ends));
    }
    let slow = read_runs(slow, runs, &slow_ends);
    let start = Instant::now();
    let most = publish_runs(&server.hub, runs, stop).await;
    let mut whole = Vec::new();
    for device in fast {
        whole.push(device.await.unwrap());
    }
    // All of them have all of it, while the others do not: nothing waited for these.
    assert_eq!(fast_ends.load(Ordering::Relaxed), 3 * runs);
    let behind = runs - slow_ends.load(Ordering::Relaxed);
    assert!(behind > 0, "the slow line took all of it at once");
    assert!(server.hub.counts().connections == 5, "nobody was closed for being slow");
    assert!(most > 0 && most <= bound, "{most} bytes of logs");
    println!("after {:?}: {most} bytes of logs, the slow reader {behind} runs behind", start.elapsed());

    stopped_line.set(Pace::Free);
    let stopped =
        within("the stopped reader to catch up", LIMIT, read_runs(stopped, runs, &Arc::default())).await.unwrap();
    let slow = within("the slow reader to catch up", LIMIT, slow).await.unwrap();
    println!("after {:?}: all have caught up", start.elapsed());
    let (expected_texts, expected) = (texts(&whole[0]), lifecycle(&whole[0]));
    assert_eq!((expected_texts.len(), expected.len()), (runs, 3 * runs));
    for device in [&whole[1], &whole[2], &slow, &stopped] {
        assert_eq!(lifecycle(device), expected, "each once and in order");
        assert_eq!(texts(device), expected_texts);
        assert_eq!(device.event_id(), whole[0].event_id());
    }
    for device in [slow, stopped] {
        let (begun, ended) = lag(&device);
        assert!(begun > 0 && begun == ended, "merging began {begun} times and ended {ended} times");
        assert!(device.events.len() < whole[0].events.len(), "text was merged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_stopped_readers_delay_nobody_and_end_with_the_same_text() {
    // In proportion to the defaults: the stop is longer than a silence may be, and shorter than a stall.
    let limits = Limits {
        heartbeat_interval: Duration::from_secs(3),
        heartbeat_timeout: Duration::from_secs(4),
        write_stall: Duration::from_secs(30),
        ..Limits::default()
    };
    a_slow_and_a_stopped_reader_among_fast_ones(24, Duration::from_secs(9), limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes over a minute: the same with the deadlines as they are"]
async fn a_reader_that_stops_for_a_minute_delays_nobody_and_ends_with_the_same_text() {
    a_slow_and_a_stopped_reader_among_fast_ones(
        72,
        Duration::from_secs(61),
        Limits { log_bytes: 4 << 20, ..Limits::default() },
    )
    .await;
}

/// The times from the publishing of `count` events to their arrival.
async fn delivery_times(hub: &Hub, device: &mut Device, count: usize) -> Vec<Duration> {
    let published = Arc::new(Mutex::new(Vec::new()));
    let publisher = tokio::spawn({
        let (hub, published) = (hub.clone(), Arc::clone(&published));
        async move {
            for n in 0..count {
                published.lock().unwrap().push(Instant::now());
                hub.publish(&ann(), None, "n", &json!({"n": n, "pad": "x".repeat(200)})).unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut times = Vec::new();
    while times.len() < count {
        let frame = device.frame().await;
        if frame["type"] == "custom" {
            let n = usize::try_from(frame["data"]["n"].as_u64().unwrap()).unwrap();
            assert_eq!(n, times.len(), "{frame}");
            times.push(published.lock().unwrap()[n].elapsed());
        }
    }
    publisher.await.unwrap();
    device.events.clear();
    times
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_takes_the_same_time_beside_readers_that_stand_still() {
    let _alone = ALONE.lock().await;
    let server = InProcess::narrow(BUFFER, Limits::default());
    let mut fast = Device::open(server.addr, &token("ann")).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does falls on both.
    for _ in 0..6 {
        alone.extend(delivery_times(&server.hub, &mut fast, 200).await);
        let mut stuck = Vec::new();
        for _ in 0..5 {
            let (line, device) = on_a_line(&server).await;
            line.set(Pace::Stopped);
            stuck.push((line, device));
        }
        beside.extend(delivery_times(&server.hub, &mut fast, 200).await);
        drop(stuck);
        until("the stopped readers are gone", STEP, || server.hub.counts().connections == 1).await;
    }
    let (alone, beside) = (median(&mut alone), median(&mut beside));
    println!("median of delivery: {alone:?} alone, {beside:?} beside five that stand still");
    assert!(beside < 3 * alone, "{beside:?} is no {alone:?}");
}

/// Bytes that this process has in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_readers_that_stand_still_cost_is_bounded_whatever_is_published() {
    const EVENT: usize = 16 << 10;
    const EVENTS: usize = 2_000;
    let _alone = ALONE.lock().await;
    let server = InProcess::narrow(BUFFER, Limits { connections_per_user: 11, ..Limits::default() });
    let mut stuck = Vec::new();
    for _ in 0..10 {
        let (line, device) = on_a_line(&server).await;
        line.set(Pace::Stopped);
        stuck.push((line, device));
    }
    let mut fast = Device::open(server.addr, &token("ann")).await;
    let before = resident();
    let (mut logs, mut grown) = (0, 0);
    for n in 0..EVENTS {
        server.hub.publish(&ann(), None, "n", &json!({"n": n, "pad": "x".repeat(EVENT)})).unwrap();
        logs = logs.max(server.hub.counts().log_bytes);
        // The fast one has had it, so nothing waits but for those that stand still.
        while fast.events.is_empty() {
            fast.frame().await;
        }
        let event = fast.events.remove(0);
        assert_eq!(event["data"]["n"], n);
        grown = grown.max(resident().saturating_sub(before));
    }
    println!(
        "{} MiB published to ten that stand still: {logs} bytes of logs, {grown} more in memory",
        (EVENT * EVENTS) >> 20
    );
    assert!(logs <= server.hub.limits().log_bytes, "{logs} bytes of logs");
    // A queue for each of them would have held ten times all of it.
    assert!(grown < EVENT * EVENTS, "{grown} bytes more in memory");

    let last = fast.event_id();
    for (line, mut device) in stuck {
        line.set(Pace::Free);
        // They left the log behind: a snapshot says so, and takes them to where it begins.
        while device.event_id() != last {
            device.frame().await;
        }
        assert!(device.others.iter().any(|frame| frame["type"] == "snapshot"));
        let seqs: Vec<u64> = device.events.iter().map(|event| position(&event["event_id"]).1).collect();
        assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    }
}

/// What waits in the buffers of systems and lines at the two ends is long on its way, and a ping behind it: that is not the silence
/// of a peer that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_much_on_its_way_outlives_many_heartbeats() {
    const EVENTS: usize = 60;
    let _alone = ALONE.lock().await;
    let (heartbeat_interval, heartbeat_timeout) = (Duration::from_millis(300), Duration::from_millis(300));
    let limits = Limits { heartbeat_interval, heartbeat_timeout, log_bytes: 4 << 20, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let (line, stream) = Line::lay(server.addr, 512 << 10).await;
    let mut device = Device::join_on(stream, server.addr, &token("ann"), Carrier::Subprotocol, json!({})).await;
    line.set(Pace::Bytes(100 << 10));
    for n in 0..EVENTS {
        server.hub.publish(&ann(), None, "block", &json!([n, "x".repeat(8 << 10)])).unwrap();
    }
    while device.events.len() < EVENTS {
        within("the line to carry an event", STEP, device.frame()).await;
    }
    let numbers: Vec<_> = device.events.iter().map(|event| event["data"][0].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..EVENTS as u64).collect::<Vec<_>>());
    assert_eq!(server.hub.counts().connections, 1);
}
