//! A whole server in this process, on a clock that stands until everything waits: the real hub, its sessions and the one I/O
//! loop, over pipes in memory. What happens is a function of the seed, and hours pass in no time.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use trunkline_core::auth::{ClaimRules, Hs256};
//! use trunkline_core::hub::HubConfig;
//! use trunkline_tests::conformance::net::Net as _;
//! use trunkline_tests::simulator::{Simulator, Weather};
//!
//! let verifier = Arc::new(Hs256::new(&[b'k'; 32], ClaimRules::default()).unwrap());
//! let simulator = Simulator::new(7, Weather::default(), HubConfig::default(), verifier);
//! let net = simulator.net();
//! let took = simulator.run(async {
//!     let start = net.now();
//!     net.sleep(Duration::from_secs(3_600)).await;
//!     net.now() - start
//! });
//! assert_eq!(took, Some(Duration::from_secs(3_600)));
//! ```

mod executor;
mod pipe;
mod web;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trunkline_core::auth::TokenVerifier;
use trunkline_core::drive::{Driver, Transport as _};
use trunkline_core::hub::{Hub, HubConfig};
use trunkline_core::id::Entropy;
use trunkline_core::time::{Clock, Now, Timestamp, UnixTime};

use crate::conformance::net::{Local, Net, Pipe};
use executor::Executor;
pub use executor::VirtualTimer;
pub use pipe::Weather;
use pipe::{Side, lay};

/// The first instant of every simulation, in microseconds since 1970.
const START: u64 = 1_800_000_000_000_000;
/// What one direction of a connection holds, and of a narrow one.
const CAPACITY: usize = 64 << 10;
const NARROW: usize = 4 << 10;

/// The time of a simulation. It moves when everything waits, and not before.
#[derive(Debug, Default)]
pub struct VirtualClock {
    micros: AtomicU64,
}

impl Clock for VirtualClock {
    fn now(&self) -> Now {
        let micros = self.micros.load(Ordering::Relaxed);
        Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(START + micros) }
    }
}

impl VirtualClock {
    fn move_to(&self, at: Timestamp) {
        self.micros.fetch_max(at.as_micros(), Ordering::Relaxed);
    }
}

/// Numbers that look random, and are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Seeded {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for Seeded {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
            let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(z.to_le_bytes().get(..chunk.len()).unwrap_or_default());
        }
    }
}

/// One simulated server and everybody who talks to it.
pub struct Simulator {
    hub: Hub,
    executor: Rc<Executor>,
    chance: Rc<Seeded>,
    weather: Weather,
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("now", &self.hub.now())
            .field("weather", &self.weather)
            .finish_non_exhaustive()
    }
}

impl Simulator {
    /// A server of these settings, which nobody talks to yet.
    ///
    /// # Panics
    /// When the limits contradict each other.
    pub fn new(seed: u64, weather: Weather, config: HubConfig, verifier: Arc<dyn TokenVerifier>) -> Self {
        let clock = Arc::new(VirtualClock::default());
        // The server's draws are apart from the network's: other weather leaves ids as they are.
        let entropy = Arc::new(Seeded::new(seed));
        let made = Hub::new(config, verifier, Arc::clone(&clock) as _, entropy);
        let (hub, housekeeper) = made.expect("limits that agree");
        let executor = Rc::new(Executor::new(clock));
        let timer = VirtualTimer::new(&executor);
        executor.spawn(housekeeper.run(timer));
        Self { hub, executor, chance: Rc::new(Seeded::new(!seed)), weather }
    }

    /// The hub that serves.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The network on which the server is.
    pub fn net(&self) -> SimulatedNet {
        SimulatedNet {
            hub: self.hub.clone(),
            executor: Rc::clone(&self.executor),
            chance: Rc::clone(&self.chance),
            weather: self.weather.clone(),
        }
    }

    /// Runs until the future is ready; `None` when everything waits for ever.
    pub fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        self.executor.run(future)
    }
}

/// The network of a [`Simulator`].
pub struct SimulatedNet {
    hub: Hub,
    executor: Rc<Executor>,
    chance: Rc<Seeded>,
    weather: Weather,
}

impl fmt::Debug for SimulatedNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedNet").field("weather", &self.weather).finish_non_exhaustive()
    }
}

impl SimulatedNet {
    /// The same network where connections that are opened from now on have other weather.
    #[must_use]
    pub fn under(self, weather: Weather) -> Self {
        Self { weather, ..self }
    }
}

impl Net for SimulatedNet {
    fn connect(&self, narrow: bool) -> Local<'_, io::Result<Box<dyn Pipe>>> {
        let down = if narrow { NARROW } else { CAPACITY };
        let (client, server) = lay(&self.executor, &self.chance, &self.weather, CAPACITY, down);
        self.executor.spawn(serve(self.hub.clone(), server, VirtualTimer::new(&self.executor)));
        Box::pin(std::future::ready(Ok(Box::new(client) as Box<dyn Pipe>)))
    }

    fn sleep(&self, time: Duration) -> Local<'_, ()> {
        use trunkline_core::drive::Timer as _;
        let mut timer = VirtualTimer::new(&self.executor);
        Pin::new(&mut timer).reset(self.hub.now().at + time);
        Box::pin(async move { poll_fn(|cx| Pin::new(&mut timer).poll_elapsed(cx)).await })
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.hub.now().at.as_micros())
    }

    fn unix_secs(&self) -> i64 {
        i64::try_from(self.hub.now().unix.as_secs()).unwrap_or(i64::MAX)
    }

    fn host(&self) -> String {
        "simulated".to_owned()
    }

    fn stop(&self) -> Result<(), String> {
        self.hub.begin_shutdown();
        Ok(())
    }
}

/// As an adapter does it.
async fn serve(hub: Hub, mut server: Side, timer: VirtualTimer) {
    match hub.session() {
        Err(rejected) => {
            // The peer may be gone: there is nobody to tell.
            let _ = crate::conformance::net::write_all(&mut server, &rejected.response()).await;
        }
        Ok(session) => {
            let (mut session, side) = Driver::new(session, server, timer, hub.clone()).await;
            server = side;
            if let Some(head) = session.take_handoff() {
                web::answer(&hub, head, &mut server).await;
            }
        }
    }
    let _ = poll_fn(|cx| Pin::new(&mut server).poll_shutdown(cx)).await;
}

/// One direction of a connection, known at both ends.
type Shared<T> = Rc<RefCell<T>>;
