//! Readers that are slow, stop for a while, or never go on.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;
use trunkline_core::limits::Limits;
use trunkline_tests::server::{InProcess, streamed_piece, token};
use trunkline_tests::wire::{Carrier, Device, STEP, closed, position, text, until, within};

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
    assert_eq!(again.finish(&run_id).await, events);
    quick.golden_path().await;
    server.settles_at(2).await;
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_the_log_behind_is_told_and_starts_afresh() {
    let limits = Limits { log_entries: 50, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut late = narrow(&server).await;
    let (first, session) = (late.event_id(), late.welcome["session_id"].clone());
    let mut bob = Device::open(server.addr, &token("bob")).await;
    // Nobody of ann's reads, so nothing holds the log.
    late.send(&json!({"type": "user_message", "id": "1", "thread_id": "t-1", "content": "stream 1000 8000"})).await;
    until("the run is over", STEP, || server.hub.counts().runs == 0 && server.hub.counts().log_bytes > 0).await;
    assert_eq!(closed(&mut late.socket).await, 4300);

    let hello = json!({"session_id": session, "resume": {"user": first}});
    let mut again = Device::join(server.addr, &token("ann"), Carrier::Subprotocol, hello).await;
    let stream = again.welcome["streams"][0].clone();
    assert_eq!(stream["mode"], "reset", "{stream}");
    assert_eq!((&stream["lost"]["from"], &stream["lost"]["to"]), (&json!(first), &stream["event_id"]), "{stream}");
    assert_eq!(position(&stream["head"]).1 - position(&stream["event_id"]).1, 50, "all that is kept follows: {stream}");
    again.event(|event| event["event_id"] == stream["head"]).await;
    again.golden_path().await;
    bob.golden_path().await;
    server.settles_at(2).await;
}
