//! A thousand clients that come back, in one process against one server: of the tokio adapter and of the smol one.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use trunkline_core::client::{
    AsyncClient, ClientOptions, Endpoint, FixedToken, Opening, Runtime, State, Stopped, Update,
};
use trunkline_core::id::{ThreadId, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::protocol::{EventKind, Position};
use trunkline_core::stream::Reducer;
use trunkline_tests::server::{InProcess, token};
use trunkline_tests::wire::{QUESTION, within};

const USERS: usize = 250;
const DEVICES: usize = 4;
const CLIENTS: usize = USERS * DEVICES;
const LIMIT: Duration = Duration::from_secs(120);
/// Of this process: both ends of each socket, the handle that cuts it, and the next one's ends while the last still closes.
const DESCRIPTORS: u64 = 5 * CLIENTS as u64 + 500;

/// Every client's socket, to be cut.
type Sockets = Arc<Mutex<Vec<std::net::TcpStream>>>;

/// Opens a socket as a runtime has it, and keeps a handle that cuts it.
type Open = fn(SocketAddr, Sockets) -> Opening;

fn options(addr: SocketAddr, user: &str, sockets: &Sockets, open: Open) -> ClientOptions {
    let sockets = Arc::clone(sockets);
    let connector = move |_: &Endpoint| -> Opening { open(addr, Arc::clone(&sockets)) };
    let url = format!("ws://{addr}/ws");
    ClientOptions::new(&url, FixedToken::new(&token(user))).expect("an address").with_connector(connector)
}

fn keep(sockets: &Sockets, socket: &std::net::TcpStream) -> io::Result<()> {
    sockets.lock().expect("no panic").push(socket.try_clone()?);
    Ok(())
}

fn open_on_tokio(addr: SocketAddr, sockets: Sockets) -> Opening {
    Box::pin(async move {
        let socket = tokio::net::TcpStream::connect(addr).await?.into_std()?;
        keep(&sockets, &socket)?;
        Ok(trunkline_tokio::stream_of(tokio::net::TcpStream::from_std(socket)?))
    })
}

fn open_on_smol(addr: SocketAddr, sockets: Sockets) -> Opening {
    Box::pin(async move {
        let socket = smol::Async::<std::net::TcpStream>::connect(addr).await?;
        keep(&sockets, socket.get_ref())?;
        Ok(trunkline_smol::stream_of(smol::net::TcpStream::from(socket)))
    })
}

/// What one device has seen.
#[derive(Default)]
struct Seen {
    /// All but streamed text, which may be merged.
    events: Vec<(Position, EventKind)>,
    runs: Reducer,
    welcomes: u32,
    ends: usize,
    notes: usize,
}

impl Seen {
    fn take(&mut self, update: &Update) {
        update.reduce(&mut self.runs);
        match update {
            Update::Welcome(_) => self.welcomes += 1,
            Update::Event(event) => {
                let kind = event.body.kind();
                self.ends += usize::from(kind.is_terminal());
                self.notes += usize::from(kind == EventKind::Custom);
                if kind != EventKind::AgentDelta {
                    self.events.push((event.position, kind));
                }
            }
            Update::Gap { .. } | Update::Undone { .. } | Update::NoToken(_) | Update::TopicRefused(_) => {
                panic!("{update:?}")
            }
            Update::State(State::Stopped(why)) => assert_eq!(*why, Stopped::Closed),
            Update::State(_) | Update::Frame(_) => {}
        }
    }

    async fn until<R>(&mut self, client: &mut AsyncClient<R>, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let update = client.next().await.expect("it goes on");
            self.take(&update);
        }
    }
}

/// One device of a user: the first asks at first, the second after all have come back.
async fn device<R: Runtime>(mut client: AsyncClient<R>, number: usize, everybody: Arc<Barrier>) -> Seen {
    let (mut seen, thread) = (Seen::default(), ThreadId::new("main").expect("a name"));
    seen.until(&mut client, |seen| seen.welcomes == 1).await;
    for (asks, welcomes) in [(0, 1), (1, 2)] {
        everybody.wait().await;
        if number == asks {
            client.send(&thread, QUESTION).expect("there is room");
        }
        seen.until(&mut client, |seen| seen.ends == asks + 1).await;
        everybody.wait().await;
        if welcomes == 1 {
            seen.until(&mut client, |seen| seen.notes == 1 && seen.welcomes > 1).await;
        }
    }
    client.close();
    while let Some(update) = client.next().await {
        seen.take(&update);
    }
    assert_eq!(client.state(), State::Stopped(Stopped::Closed));
    seen
}

async fn a_thousand_come_back<R: Runtime>(open: Open) {
    let allowed = rlimit::increase_nofile_limit(DESCRIPTORS).unwrap_or(0);
    assert!(allowed >= DESCRIPTORS, "this needs {DESCRIPTORS} open files and the system allows {allowed}");
    let start = Instant::now();
    let mut server = InProcess::start(Limits::default()).await;
    let (sockets, everybody) = (Sockets::default(), Arc::new(Barrier::new(CLIENTS + 1)));
    let mut devices = JoinSet::new();
    for index in 0..CLIENTS {
        let user = format!("user-{}", index / DEVICES);
        let client = AsyncClient::<R>::connect(options(server.addr, &user, &sockets, open)).expect("it can work");
        let device = device(client, index % DEVICES, Arc::clone(&everybody));
        devices.spawn(async move { (index / DEVICES, device.await) });
    }
    everybody.wait().await;
    // All have asked and been answered.
    everybody.wait().await;
    let cut = std::mem::take(&mut *sockets.lock().expect("no panic"));
    assert_eq!(cut.len(), CLIENTS);
    // A socket that is gone already is cut as well.
    cut.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
    drop(cut);
    for user in 0..USERS {
        let user = UserId::new(None, &format!("user-{user}")).expect("a name");
        server.hub.publish(&user, None, "while_away", &1).expect("it is taken");
    }
    // All are back, and then have been answered again.
    everybody.wait().await;
    everybody.wait().await;
    let mut seen: BTreeMap<usize, Vec<Seen>> = BTreeMap::new();
    while let Some(joined) = devices.join_next().await {
        let (user, device) = joined.expect("no panic");
        seen.entry(user).or_default().push(device);
    }
    assert_eq!(seen.len(), USERS);
    seen.values().for_each(|devices| check(devices));
    let sockets = CLIENTS + sockets.lock().expect("no panic").len();
    println!(
        "{CLIENTS} clients of {USERS} users came back and went on in {:?}, over {sockets} sockets",
        start.elapsed()
    );
    assert!(sockets < 3 * CLIENTS, "{sockets}");
    server.stop();
    server.returned(LIMIT).await;
}

/// All devices of a user saw the same, all of it, once.
fn check(devices: &[Seen]) {
    use EventKind::{AgentCompleted, AgentStarted, AgentThinking, Custom, ToolCompleted, ToolExecuting, UserMessage};
    let run = [UserMessage, AgentStarted, AgentThinking, ToolExecuting, ToolCompleted, AgentCompleted];
    let expected: Vec<_> = run.into_iter().chain([Custom]).chain(run).collect();
    assert_eq!(devices.len(), DEVICES);
    for device in devices {
        assert_eq!(device.events, devices[0].events);
        assert_eq!(device.events.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(), expected);
        assert!(device.events.is_sorted() && device.welcomes >= 2);
        let texts: Vec<_> =
            device.runs.runs().values().flat_map(|run| run.parts.values()).map(|it| &*it.text).collect();
        assert_eq!(texts, ["The answer is 14."; 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_of_the_tokio_adapter_come_back() {
    let come_back = a_thousand_come_back::<trunkline_tokio::Tokio>(open_on_tokio);
    within("a thousand clients", LIMIT, come_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_of_the_smol_adapter_come_back() {
    let come_back = a_thousand_come_back::<trunkline_smol::Smol>(open_on_smol);
    within("a thousand clients", LIMIT, come_back).await;
}
