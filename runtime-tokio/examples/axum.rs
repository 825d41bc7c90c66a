//! An application on axum with a state, a middleware and routes of its own, and the manager at one more route.
//!
//! ```text
//! cargo run -p trunkline-tokio --example axum -- --dev
//! cargo run -p trunkline-tokio --example axum -- --listen 0.0.0.0:8787 --secret-file secret
//! ```
//!
//! SIGINT and SIGTERM stop it, after its clients were told; a second one ends it at once.

#[path = "../../core/examples/support/agent.rs"]
mod agent;
#[path = "../../core/examples/support/options.rs"]
mod options;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{FromRef, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get};
use axum::serve::ListenerExt;
use options::{Options, Outcome};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use trunkline_core::hub::{Hub, HubConfig, Requests};
use trunkline_core::time::Clock;
use trunkline_tokio::axum::{Upgrade, operations};
use trunkline_tokio::{SystemClock, SystemEntropy, TokioTimer};

/// The application's state has the hub beside what is its own.
#[derive(Clone)]
struct App {
    hub: Hub,
    requests: Arc<AtomicU64>,
}

impl FromRef<App> for Hub {
    fn from_ref(app: &App) -> Self {
        app.hub.clone()
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = Options::of_process()?;
    let keys = Arc::new(options.keys(&SystemEntropy)?);
    let clock = Arc::new(SystemClock::new());
    let (hub, housekeeper) = Hub::new(HubConfig::default(), keys.clone(), clock, Arc::new(SystemEntropy))?;
    if let Some(requests) = hub.requests() {
        tokio::spawn(attend(requests));
    }
    let listener = TcpListener::bind(options.listen).await?;
    let stop = stop_on_signals()?;
    options.announce(listener.local_addr()?, &keys, hub.now())?;

    // Small frames go out at once, and text for slow readers can still be merged.
    let listener = listener.tap_io(|stream| trunkline_tokio::tune(stream));
    let app = router(App { hub: hub.clone(), requests: Arc::default() });
    let server = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>());
    tokio::select! {
        served = server => served?,
        // The server stays up while the sockets drain: whoever comes is told that there is no room.
        () = housekeeper.run_until(TokioTimer::new(hub.clone()), stop) => {}
    }
    Ok(())
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(|| async { "An application of its own. The manager is at /ws.\n" }))
        .route("/hello/{name}", get(|Path(name): Path<String>| async move { format!("Hello, {name}.\n") }))
        .route(
            "/requests",
            get(|State(app): State<App>| async move { format!("{}\n", app.requests.load(Ordering::Relaxed)) }),
        )
        .route("/ws", any(|upgrade: Upgrade| async { upgrade }))
        .merge(operations(app.hub.clone()))
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .with_state(app)
}

/// The application's own middleware sees the upgrades too.
async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    app.requests.fetch_add(1, Ordering::Relaxed);
    next.run(request).await
}

async fn attend(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        agent::answer(request);
    }
}

/// Ready at the first signal; the second one ends the process.
fn stop_on_signals() -> Outcome<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut next = async move || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    Ok(async move {
        next().await;
        tokio::spawn(async move {
            next().await;
            std::process::exit(1);
        });
    })
}
