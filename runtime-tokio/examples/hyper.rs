//! An application on plain hyper, and the manager at a path of its choice.
//!
//! ```text
//! cargo run -p trunkline-tokio --example hyper -- --dev
//! cargo run -p trunkline-tokio --example hyper -- --listen 0.0.0.0:8787 --secret-file secret
//! ```
//!
//! SIGTERM stops it, after its clients were told.

#[path = "../../core/examples/support/agent.rs"]
mod agent;
#[path = "../../core/examples/support/options.rs"]
mod options;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use options::{Options, Outcome};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use trunkline_core::hub::{Hub, HubConfig, Requests};
use trunkline_core::time::Clock;
use trunkline_tokio::hyper::upgrade;
use trunkline_tokio::{SystemClock, SystemEntropy, TokioTimer};

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
    let mut terminate = signal(SignalKind::terminate())?;
    options.announce(listener.local_addr()?, &keys, hub.now())?;
    let stop = async {
        terminate.recv().await;
    };
    tokio::select! {
        () = accept(&listener, &hub) => {}
        () = housekeeper.run_until(TokioTimer::new(hub.clone()), stop) => {}
    }
    Ok(())
}

async fn accept(listener: &TcpListener, hub: &Hub) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(serve(stream, peer.ip(), hub.clone()))),
            // Out of file descriptors, most likely.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, hub: Hub) {
    // Small frames go out at once, and text for slow readers can still be merged.
    trunkline_tokio::tune(&stream);
    let patience = hub.limits().handshake_deadline;
    let service = service_fn(move |mut request| {
        let response = respond(&hub, &mut request, peer);
        async { Ok::<_, Infallible>(response) }
    });
    // A fault of the peer's is its own concern.
    let _ = http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn respond(hub: &Hub, request: &mut Request<Incoming>, peer: IpAddr) -> Response<String> {
    match request.uri().path() {
        "/ws" => upgrade(hub, request, Some(peer)),
        "/" => Response::new("An application of its own. The manager is at /ws.\n".to_owned()),
        _ => {
            let mut response = Response::new("nothing is here\n".to_owned());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

async fn attend(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        agent::answer(request);
    }
}
