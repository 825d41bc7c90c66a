//! A thousand connections at once over one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use trunkline_tests::server::{Program, token};
use trunkline_tests::wire::{Device, QUESTION, check_golden, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const USERS: usize = 500;
/// Of one process: its sockets and what else it has open.
const DESCRIPTORS: u64 = 2 * USERS as u64 + 200;
const LIMIT: Duration = Duration::from_secs(60);

/// Both devices of one user: one asks, both see the same.
async fn golden_path_of(index: usize, addr: std::net::SocketAddr, everybody: Arc<Barrier>) {
    let user = format!("user-{index}");
    let token = token(&user);
    let mut phone = Device::open(addr, &token).await;
    let mut laptop = Device::open(addr, &token).await;
    everybody.wait().await;
    let run_id = phone.ask("1", QUESTION).await;
    let events = phone.finish(&run_id).await;
    check_golden(&events, &user);
    assert_eq!(laptop.finish(&run_id).await, events, "{user}");
    // Nobody goes, and nobody has seen more, before all are done.
    everybody.wait().await;
    laptop.ping("last").await;
    assert_eq!(laptop.events, events, "{user}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once_pass_the_golden_path_within_a_minute() {
    let allowed = rlimit::increase_nofile_limit(DESCRIPTORS).unwrap_or(0);
    assert!(
        allowed >= DESCRIPTORS,
        "this needs {DESCRIPTORS} open files and the system allows {allowed}: raise the hard limit (`ulimit -Hn`)"
    );
    // The child has the raised limit too.
    let program = Program::start(SCRATCH);
    let start = Instant::now();
    let everybody = Arc::new(Barrier::new(USERS));
    let mut users = JoinSet::new();
    for index in 0..USERS {
        users.spawn(golden_path_of(index, program.addr, Arc::clone(&everybody)));
    }
    within("a thousand connections to pass the golden path", LIMIT, users.join_all()).await;
    println!("{} connections of {USERS} users passed the golden path in {:?}", 2 * USERS, start.elapsed());
}
