//! A whole server on smol: the WebSocket endpoint, the HTTP operations of back ends, the two probes, and in development mode an agent
//! that says every message again, word by word.
//!
//! ```text
//! cargo run -p trunkline-smol --example server -- --dev
//! cargo run -p trunkline-smol --example server -- --listen 0.0.0.0:8787 --secret-file trunkline.secret
//! cargo run -p trunkline-smol --example server --features tls -- --secret-file trunkline.secret \
//!     --listen 0.0.0.0:8443 --tls-certificate server.pem --tls-key server.key
//! ```
//!
//! The flags mean what they mean to `trunkline serve`. Tokens are HS256 under the secret in the file or in the variable
//! `TRUNKLINE_SECRET`, and `TRUNKLINE_ORIGINS`, `TRUNKLINE_COOKIE` and `TRUNKLINE_TICKETS` say what they say to the program; with `--dev` and without either, under a secret of its own, and a token for `ann` is printed. It stops on
//! SIGINT and SIGTERM, after its clients were told; a second signal ends it at once. A mistake of the caller's is exit status 2.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpListener;
use smol::stream::StreamExt;
use trunkline_core::auth::{Access, ClaimRules, CookieName, Hs256, NewToken, Origin};
use trunkline_core::hub::{Hub, HubConfig, Request, Requests, UserMessage};
use trunkline_core::id::{Entropy, UserId};
use trunkline_core::serve::serve_api;
use trunkline_core::stream::RunError;
use trunkline_core::time::Clock;
use trunkline_smol::{Rewound, SmolTimer, SmolTransport, SystemClock, SystemEntropy, Web, serve};

/// RFC 7518 section 3.2.
const MIN_SECRET_BYTES: usize = 32;

/// What ends the server early, and the status to exit with.
struct Fault(String, u8);

fn usage(problem: impl ToString) -> Fault {
    Fault(problem.to_string(), 2)
}

fn failed(problem: impl ToString) -> Fault {
    Fault(problem.to_string(), 1)
}

fn main() -> ExitCode {
    let run = Options::parse(std::env::args().skip(1)).and_then(|options| smol::block_on(run(options)));
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault(problem, status)) => {
            eprintln!("server: {problem}");
            ExitCode::from(status)
        }
    }
}

async fn run(options: Options) -> Result<(), Fault> {
    let keys = options.keys()?;
    let mut signals = Signals::new([Signal::Int, Signal::Term]).map_err(failed)?;
    let clock = SystemClock::new();
    let config = HubConfig { access: access()?, ..HubConfig::default() };
    let (hub, housekeeper) =
        Hub::new(config, Arc::clone(&keys) as _, Arc::new(clock), Arc::new(SystemEntropy)).map_err(usage)?;
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.map_err(|error| failed(format!("cannot listen on {}: {error}", options.listen)))?;
    let listen = listener.local_addr().map_err(failed)?;
    if options.agent
        && let Some(requests) = hub.requests()
    {
        smol::spawn(answer_all(requests)).detach();
    }
    let stop = async move {
        signals.next().await;
        // Once more ends it at once.
        smol::spawn(async move {
            signals.next().await;
            std::process::exit(1);
        })
        .detach();
    };
    if options.secret.is_none() {
        println!("a token for ann, for an hour: {}", token(&keys, clock)?);
    }
    let api = Api(hub.clone());
    #[cfg(feature = "tls")]
    if let Some((certificate, key)) = options.tls {
        use trunkline_smol::tls::{CertificateFiles, TlsListener};
        let files = CertificateFiles::load(certificate, key).await.map_err(usage)?;
        let listener = TlsListener::new(listener, files.certificates()).map_err(usage)?;
        let said = |outcome| match outcome {
            Ok(()) => eprintln!("server: the certificates were replaced"),
            Err(error) => eprintln!("server: the certificates stay as they are: {error}"),
        };
        smol::spawn(files.watch(CertificateFiles::EVERY, said)).detach();
        println!("listening on https://{listen}/");
        return serve(listener, hub, housekeeper, api, stop).await.map_err(failed);
    }
    println!("listening on http://{listen}/");
    serve(listener, hub, housekeeper, api, stop).await.map_err(failed)
}

fn token(keys: &Hs256, clock: SystemClock) -> Result<String, Fault> {
    let (user, ttl) = (UserId::new(None, "ann").map_err(failed)?, Duration::from_secs(3600));
    let new = NewToken { user: &user, issued_at: clock.now().unix, ttl, scope: "", token_id: None };
    keys.issue(&new).map_err(failed)
}

/// Whatever is not for the WebSocket endpoint.
#[derive(Clone)]
struct Api(Hub);

impl Web for Api {
    async fn serve<S>(&self, stream: Rewound<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve_api(&self.0, SmolTransport(stream), SmolTimer::new(self.0.clone())).await;
    }
}

/// One task per message, so that a slow answer keeps nobody waiting.
async fn answer_all(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        match request {
            // A run that fails to take an event has ended, and its user was told.
            Request::UserMessage(message) => smol::spawn(async { drop(echo(message).await) }).detach(),
            Request::Command(command) => command.refuse("this server has no commands"),
        }
    }
}

async fn echo(message: UserMessage) -> Result<(), RunError> {
    let content = message.content().to_owned();
    let run = message.start("echo")?;
    for word in content.split_inclusive(' ') {
        if let Some(by) = run.cancel_requested() {
            run.cancelled(by, "asked to stop")?;
            return Ok(());
        }
        run.delta(word)?;
        smol::Timer::after(Duration::from_millis(20)).await;
    }
    run.completed(Some(content))?;
    Ok(())
}

struct Options {
    listen: SocketAddr,
    /// `None` where the server makes one of its own.
    secret: Option<Vec<u8>>,
    agent: bool,
    /// The files of the certificates and of their key.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "refused"))]
    tls: Option<(String, String)>,
}

const USAGE: &str = "usage: server [serve] [--listen ADDR] [--dev] [--no-agent] [--secret-file FILE] \
    [--tls-certificate FILE --tls-key FILE]";

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Fault> {
        let (mut dev, mut agent, mut listen) = (false, true, SocketAddr::from(([127, 0, 0, 1], 8787)));
        let (mut secret_file, mut certificate, mut key) = (None, None, None);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| usage(format!("{arg} needs a value; {USAGE}")));
            match arg.as_str() {
                "serve" => {}
                "--dev" => dev = true,
                "--no-agent" => agent = false,
                "--listen" => {
                    listen = value()?.parse().map_err(|_| usage("--listen: expected an address and a port"))?
                }
                "--secret-file" => secret_file = Some(value()?),
                "--tls-certificate" => certificate = Some(value()?),
                "--tls-key" => key = Some(value()?),
                // Nothing is logged here.
                "--log" => drop(value()?),
                _ => return Err(usage(format!("{arg} is not known; {USAGE}"))),
            }
        }
        if dev && !listen.ip().is_loopback() {
            return Err(usage("--dev listens on loopback only: leave it out"));
        }
        let secret = secret(secret_file)?;
        if secret.is_none() && !dev {
            return Err(usage("no secret: pass --secret-file or set TRUNKLINE_SECRET, or try --dev"));
        }
        let tls = match (certificate, key) {
            (None, None) => None,
            (Some(_), Some(_)) if !cfg!(feature = "tls") => return Err(usage("built without TLS: add --features tls")),
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) | (None, Some(_)) => return Err(usage("--tls-certificate and --tls-key go together")),
        };
        Ok(Self { listen, secret, agent: dev && agent, tls })
    }

    fn keys(&self) -> Result<Arc<Hs256>, Fault> {
        let secret = self.secret.clone().unwrap_or_else(|| {
            let mut secret = vec![0; 48];
            SystemEntropy.fill(&mut secret);
            secret
        });
        Hs256::new(&secret, ClaimRules::default()).map(Arc::new).map_err(usage)
    }
}

/// From where the endpoint may be opened and by which carriers, by the variables that the program has for it.
fn access() -> Result<Access, Fault> {
    let variable = |name: &str| std::env::var(name).ok();
    let origins = variable("TRUNKLINE_ORIGINS").unwrap_or_default();
    let origins = origins.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(Origin::parse);
    let mut access = Access::with_origins(origins.collect::<Result<Vec<_>, _>>().map_err(usage)?);
    if let Some(name) = variable("TRUNKLINE_COOKIE") {
        access = CookieName::parse(&name).and_then(|name| access.with_cookie(name)).map_err(usage)?;
    }
    Ok(if variable("TRUNKLINE_TICKETS").as_deref() == Some("true") { access.with_tickets() } else { access })
}

/// The one that was given, by the flag before the variable.
fn secret(file: Option<String>) -> Result<Option<Vec<u8>>, Fault> {
    let given = match file {
        Some(file) => Some(std::fs::read(&file).map_err(|error| usage(format!("--secret-file: {file}: {error}")))?),
        None => std::env::var("TRUNKLINE_SECRET").ok().map(String::into_bytes),
    };
    let Some(mut secret) = given else { return Ok(None) };
    // One line's end is the editor's, not the secret's.
    if secret.last() == Some(&b'\n') {
        secret.pop();
        secret.pop_if(|last| *last == b'\r');
    }
    if secret.len() < MIN_SECRET_BYTES {
        return Err(usage(format!(
            "the secret must have at least {MIN_SECRET_BYTES} bytes, this one has {}",
            secret.len()
        )));
    }
    Ok(Some(secret))
}
