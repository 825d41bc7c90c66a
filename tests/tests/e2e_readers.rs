//! Readers that are slow, stop for a while, or never go on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpSocket;
use trunkline_core::limits::Limits;
use trunkline_tests::server::{InProcess, streamed_piece, token};
use trunkline_tests::wire::{Carrier, Device, STEP, text, text_after, until, within};

/// A device of ann whose socket takes little, so that whatever it does not read waits in the server.
async fn narrow(server: &InProcess) -> Device {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = within("a TCP connection", STEP, socket.connect(server.addr)).await.unwrap();
    Device::join_on(stream, server.addr, &token("ann"), Carrier::Subprotocol, json!({})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_for_a_while_disturbs_nobody_and_catches_up_to_the_same_text() {
    const PIECES: usize = 1_000;
    const LENGTH: usize = 8_000;
    // More than the kernel's buffers of both ends take, and a log that holds it.
    let limits =
        Limits { log_bytes: 64 << 20, log_entries: 100_000, heartbeat_interval: 10 * STEP, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut slow = narrow(&server).await;
    let mut quick = Device::open(server.addr, &token("ann")).await;
    let mut bob = Device::open(server.addr, &token("bob")).await;

    let run_id = quick.ask("1", &format!("stream {PIECES} {LENGTH}")).await;
    let events = within("the quick reader to have it all", Duration::from_secs(60), quick.finish(&run_id)).await;
    bob.golden_path().await;
    quick.golden_path().await;
    let caught_up = within("the slow reader to catch up", Duration::from_secs(60), slow.finish(&run_id)).await;
    let expected: String = (0..PIECES).map(|piece| streamed_piece(piece, LENGTH)).collect();
    assert_eq!(text(&events), expected);
    assert!(text(&caught_up) == expected, "the slow reader has another text");
    slow.golden_path().await;
    server.settles_at(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_goes_on_is_closed_by_the_stall_deadline_and_resumes() {
    let limits =
        Limits { log_bytes: 64 << 20, log_entries: 100_000, write_stall: Duration::from_secs(2), ..Limits::default() };
    let server = InProcess::start(limits).await;
    let stuck = narrow(&server).await;
    let mut quick = Device::open(server.addr, &token("ann")).await;
    let run_id = quick.ask("1", "stream 1000 8000").await;
    let events = quick.finish(&run_id).await;
    until("the stuck reader is out of the hub", STEP, || server.hub.counts().connections == 1).await;
    let mut again = Device::resume(server.addr, &token("ann"), &stuck.event_id()).await;
    let replayed = again.finish(&run_id).await;
    assert!(text(&replayed) == text(&events), "what was merged on the way is another text");
    assert_eq!(replayed.last(), events.last());
    quick.golden_path().await;
    server.settles_at(2).await;
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_the_log_behind_gets_a_snapshot_and_the_tail() {
    const PIECES: usize = 1_000;
    const LENGTH: usize = 8_000;
    let limits = Limits { log_entries: 50, snapshot_bytes: 64 << 20, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut late = narrow(&server).await;
    let first = late.event_id();
    let mut bob = Device::open(server.addr, &token("bob")).await;
    // Nobody of ann's reads, so nothing holds the log.
    let question = format!("stream {PIECES} {LENGTH}");
    late.send(&json!({"type": "user_message", "id": "1", "thread_id": "t-1", "content": question})).await;
    until("the run is over", STEP, || server.hub.counts().runs == 0 && server.hub.counts().log_bytes > 0).await;
    let expected: String = (0..PIECES).map(|piece| streamed_piece(piece, LENGTH)).collect();

    // Live, from a socket that was full when the log went on without it.
    let run_id = late.reply("1").await["run_id"].as_str().unwrap().to_owned();
    let events = late.finish(&run_id).await;
    assert!(text_after(restored(&late.others), &events) == expected, "the state and the tail are another text");

    // And again from a position that is gone.
    let mut again = Device::resume(server.addr, &token("ann"), &first).await;
    let stream = again.welcome["streams"][0].clone();
    assert_eq!(stream["mode"], "snapshot", "{stream}");
    assert_eq!((&stream["lost"]["from"], &stream["lost"]["to"]), (&json!(first), &stream["event_id"]), "{stream}");
    let events = again.finish(&run_id).await;
    assert!(text_after(restored(&again.others), &events) == expected, "the state and the tail are another text");
    again.golden_path().await;
    bob.golden_path().await;
    server.settles_at(3).await;
}

/// The text of the one run that the last snapshot tells of.
fn restored(frames: &[Value]) -> String {
    let snapshots: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "snapshot").collect();
    let last = snapshots.iter().rposition(|snapshot| snapshot["part"] == 1).expect("there is a snapshot");
    let pieces = snapshots[last..].iter().flat_map(|snapshot| snapshot["runs"].as_array().unwrap());
    pieces.flat_map(|run| run["parts"].as_array().unwrap()).map(|part| part["text"].as_str().unwrap()).collect()
}
