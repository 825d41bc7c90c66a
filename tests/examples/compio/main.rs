//! A server on a runtime that Trunkline knows nothing of: the adapter beside this is what "Write an adapter" in the manual shows.
//!
//! ```text
//! cargo run -p trunkline-tests --example compio -- --dev
//! cargo run -p trunkline-tests --example compio -- --listen 0.0.0.0:8787 --secret-file secret
//! ```
//!
//! SIGTERM stops it, after its clients were told.

mod adapter;
#[path = "../../../core/examples/support/agent.rs"]
mod agent;
#[path = "../../../core/examples/support/options.rs"]
mod options;
#[path = "../../../core/examples/support/system.rs"]
mod system;
#[path = "../../../core/examples/support/tune.rs"]
mod tune;

use std::sync::Arc;

use compio::net::TcpListener;
use options::{Options, Outcome};
use system::{SystemClock, SystemEntropy};
use trunkline_core::hub::{Hub, HubConfig};
use trunkline_core::time::Clock;

/// As POSIX numbers it.
const SIGTERM: i32 = 15;

#[compio::main]
async fn main() -> Outcome<()> {
    let options = Options::of_process()?;
    let keys = Arc::new(options.keys(&SystemEntropy)?);
    let clock = Arc::new(SystemClock::new());
    let (hub, keeper) = Hub::new(HubConfig::default(), keys.clone(), clock, Arc::new(SystemEntropy))?;
    if let Some(mut requests) = hub.requests() {
        let attend = async move {
            while let Some(request) = requests.next().await {
                agent::answer(request);
            }
        };
        compio::runtime::spawn(attend).detach();
    }
    let listener = TcpListener::bind(options.listen).await?;
    tune::tune(&listener);
    options.announce(listener.local_addr()?, &keys, hub.now())?;
    let stop = async {
        // Where no signal can be watched the server runs on.
        if compio::signal::unix::signal(SIGTERM).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    adapter::serve(listener, hub, keeper, stop).await;
    Ok(())
}
