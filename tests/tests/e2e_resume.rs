//! Resumes over real sockets that are hard by themselves: over a corpse, during a burst, from two devices at once.

use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use trunkline_core::limits::Limits;
use trunkline_tests::raw::{Heard, Raw};
use trunkline_tests::script::{Feed, Ledger};
use trunkline_tests::server::{InProcess, token};
use trunkline_tests::wire::{STEP, text_frame, upgrade_bytes};

/// What a socket takes at each end.
const BUFFER: u32 = 8 << 10;

/// Connects where the ledger stands, and answers the welcome too.
async fn resume(server: &InProcess, ledger: &mut Ledger, session: &Value, receive: Option<u32>) -> (Raw, Value) {
    let mut raw = Raw::connect(server.addr, receive).await;
    let mut bytes = upgrade_bytes(server.addr, &token("ann"));
    let hello = json!({"type": "hello", "session_id": session, "resume": ledger.resume()});
    bytes.extend(text_frame(&hello.to_string()));
    raw.send(&bytes).await;
    raw.upgraded().await;
    let Heard::Frame(welcome) = raw.heard().await else { panic!("a welcome was awaited") };
    ledger.welcome(&welcome);
    (raw, welcome)
}

async fn read_to(raw: &mut Raw, ledger: &mut Ledger, head: u64) {
    while ledger.seq("user") < head {
        let heard = raw.heard().await;
        let Heard::Frame(frame) = heard else { panic!("a frame was awaited: {heard:?}") };
        ledger.take(&frame);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_over_a_half_open_corpse_takes_its_place_and_gives_it_nothing_more() {
    // The corpse takes the only place that its user has, and its socket is full.
    let limits = Limits { connections_per_user: 1, close_deadline: 4 * STEP, ..Limits::default() };
    let server = InProcess::narrow(BUFFER, limits);
    let mut feed = Feed::user(&server.hub, "ann");
    let mut ledger = Ledger::new("ann", &[]);
    let (mut corpse, welcome) = resume(&server, &mut ledger, &Value::Null, Some(BUFFER)).await;
    (0..24).for_each(|_| feed.publish(20_000));
    read_to(&mut corpse, &mut ledger, 2).await;
    let (mut last, mut silent) = (ledger.clone(), corpse);

    let (mut live, again) = resume(&server, &mut ledger, &welcome["session_id"], None).await;
    assert_eq!(again["session_id"], welcome["session_id"]);
    assert_eq!(server.hub.counts().connections, 1);
    let taken_over = feed.seq();
    (0..24).for_each(|_| feed.publish(0));
    feed.finish();
    read_to(&mut live, &mut ledger, feed.seq()).await;
    loop {
        match silent.heard().await {
            Heard::Frame(frame) => last.take(&frame),
            Heard::Close(code) => break assert_eq!(code, 4409),
            Heard::End => panic!("the corpse is told why it ends"),
        }
    }
    assert!(last.seq("user") < taken_over, "its socket was full");
    live.reset();
    silent.reset();
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_that_resume_at_once_again_and_again_during_a_burst_have_all_of_it() {
    const RESUMES: usize = 20;
    // All of it stays in the log, and a reader that is a few events behind is given merged text.
    let limits = Limits { lag_entries: 4, log_entries: 100_000, log_bytes: 64 << 20, ..Limits::default() };
    let server = InProcess::narrow(BUFFER, limits);
    let mut ledgers = [Ledger::new("ann", &[]), Ledger::new("ann", &[])];
    let mut sessions = [Value::Null, Value::Null];
    for (ledger, session) in ledgers.iter_mut().zip(&mut sessions) {
        *session = resume(&server, ledger, session, None).await.1["session_id"].clone();
    }
    let feed = Arc::new(Mutex::new(Feed::user(&server.hub, "ann")));
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let burst = std::thread::spawn({
        let feed = Arc::clone(&feed);
        move || {
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                feed.lock().unwrap().publish(0);
            }
        }
    });
    let [first, second] = &mut ledgers;
    for _ in 0..RESUMES {
        let (one, two) =
            tokio::join!(resume(&server, first, &sessions[0], None), resume(&server, second, &sessions[1], None));
        for ((mut raw, _), ledger) in [(one, &mut *first), (two, &mut *second)] {
            // Some event of the burst, then again from there.
            let next = ledger.seq("user") + 1;
            read_to(&mut raw, ledger, next).await;
            raw.fin().await;
        }
    }
    drop(stop);
    burst.join().unwrap();
    let head = {
        let mut feed = feed.lock().unwrap();
        feed.finish();
        feed.seq()
    };
    println!("{RESUMES} resumes of each device during {head} events");
    for (ledger, session) in ledgers.iter_mut().zip(&sessions) {
        let (mut raw, _) = resume(&server, ledger, session, None).await;
        read_to(&mut raw, ledger, head).await;
        assert_eq!(ledger.events, head);
        raw.fin().await;
    }
    server.settles_at(0).await;
}
