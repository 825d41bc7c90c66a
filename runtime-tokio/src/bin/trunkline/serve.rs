//! `trunkline serve`: puts the parts together and runs them until a signal.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use trunkline_core::auth::{Hs256, TokenVerifier};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig};
use trunkline_core::id::{Entropy as _, UserId};
use trunkline_core::level::ServiceLevel;
use trunkline_tokio::tls::TlsListener;
use trunkline_tokio::{SystemClock, SystemEntropy};

use crate::Fault;
use crate::agent;
use crate::cli::ServeArgs;
use crate::config::{Secret, Settings};
use crate::http::{self, DevDoor, LoggedIn, Login, LoginScope, Site};
use crate::keys::Keys;
use crate::tls;
use crate::token;

/// How many ports after the usual one development mode tries.
const SPARE_PORTS: u16 = 100;
/// How long the page's tokens hold; it gets a new one by itself.
const PAGE_TTL: Duration = Duration::from_secs(3600);

pub(crate) fn main(args: &ServeArgs) -> Result<ExitCode, Fault> {
    let settings = Settings::of_serve(args)?;
    let secret = secret(&settings)?.map(|secret| token::keys(&secret, &settings)).transpose()?.map(Arc::new);
    let keys = Keys::new(&settings, secret.clone())?;
    start_log(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("the runtime does not start: {error}")))?;
    let outcome = runtime.block_on(run(&settings, keys, secret));
    // What still runs has had its deadline.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The one that was given, or, in development mode, one of its own.
fn secret(settings: &Settings) -> Result<Option<Secret>, Fault> {
    if settings.secret.is_some() || !settings.dev {
        return Ok(settings.secret.clone());
    }
    let mut bytes = vec![0; 48];
    SystemEntropy.fill(&mut bytes);
    Secret::whole(bytes).map(Some).map_err(Fault::failed)
}

fn start_log(settings: &Settings) {
    use io::IsTerminal as _;
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(ansi).with_max_level(settings.log).init();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
}

async fn run(settings: &Settings, keys: Keys, secret: Option<Arc<Hs256>>) -> Result<(), Fault> {
    let certificates = match &settings.tls {
        Some(tls) => Some(tls::load(tls).await?),
        None => None,
    };
    let signals = Signals::new().map_err(|error| Fault::failed(format!("signals cannot be handled: {error}")))?;
    let listener = bind(settings).await?;
    let listen = listener.local_addr().map_err(|error| Fault::failed(error.to_string()))?;
    let (hub, housekeeper) = hub(settings, Arc::clone(&keys.verifier))?;
    keys.start(&hub).await?;
    if settings.agent
        && let Some(requests) = hub.requests()
    {
        tokio::spawn(agent::attend(hub.clone(), requests, settings.agent_pace));
    }
    let door = secret.filter(|_| settings.dev);
    let door = door.map(|secret| DevDoor {
        listen,
        secure: settings.tls.is_some(),
        agent: settings.agent,
        login: login(secret),
    });
    tokio::spawn(log_levels(hub.clone()));
    let site = Site(http::router(hub.clone(), door));
    tracing::info!(%listen, dev = settings.dev, agent = settings.agent, "listening");
    if settings.dev {
        say(&greeting(listen, settings));
    }
    let served = match certificates {
        None => trunkline_tokio::serve(listener, hub, housekeeper, site, signals.first()).await,
        Some(files) => {
            tls::keep(&files);
            let listener = TlsListener::new(listener, files.certificates());
            let listener = listener.map_err(|error| Fault::failed(error.to_string()))?;
            trunkline_tokio::serve(listener, hub, housekeeper, site, signals.first()).await
        }
    };
    tracing::info!("stopped");
    served.map_err(|error| Fault::failed(error.to_string()))
}

fn hub(settings: &Settings, verifier: Arc<dyn TokenVerifier>) -> Result<(Hub, Housekeeper), Fault> {
    let config = HubConfig {
        limits: settings.limits.clone(),
        access: settings.access.clone(),
        legacy_profile: settings.legacy_profile,
        open_metrics: settings.open_metrics,
        trusted_proxies: settings.trusted_proxies.clone(),
        ..HubConfig::default()
    };
    Hub::new(config, verifier, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
        .map_err(|error| Fault::usage(error.to_string()))
}

/// One line for each change of the service's level, for as long as the runtime lives.
async fn log_levels(hub: Hub) {
    let mut known = 0;
    loop {
        let change = poll_fn(|cx| hub.poll_level(cx, known)).await;
        known = change.number;
        let (level, reason) = (change.level, &*change.reason);
        match level {
            ServiceLevel::Normal => tracing::info!(%level, ?reason, "the service level has changed"),
            ServiceLevel::Degraded | ServiceLevel::Emergency => {
                tracing::warn!(%level, ?reason, "the service level has changed");
            }
        }
    }
}

/// On standard output; where nobody reads it, the server serves all the same.
fn say(text: &str) {
    use io::Write as _;
    let _ = writeln!(io::stdout(), "{text}");
}

/// The asked-for address; in development mode, when nobody asked, the first free port from the usual one on.
async fn bind(settings: &Settings) -> Result<TcpListener, Fault> {
    let spare = if settings.dev && !settings.listen_chosen { SPARE_PORTS } else { 0 };
    let mut address = settings.listen;
    for offset in 0..=spare {
        address.set_port(settings.listen.port().saturating_add(offset));
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && offset < spare => {}
            outcome => return outcome.map_err(|error| Fault::failed(format!("cannot listen on {address}: {error}"))),
        }
    }
    Err(Fault::failed(format!("no free port up to {}", address.port())))
}

fn login(keys: Arc<Hs256>) -> Login {
    Arc::new(move |name, scope| {
        let user = UserId::new(None, name).map_err(|problem| format!("the name {problem}"))?;
        let scope = scope.map_or("", LoginScope::as_str);
        let token = token::issue(&keys, &user, PAGE_TTL, scope).map_err(|problem| problem.to_string())?;
        Ok(LoggedIn { token, expires_in: PAGE_TTL.as_secs() })
    })
}

/// What development mode prints: where the page is, and commands to paste into a shell.
fn greeting(listen: SocketAddr, settings: &Settings) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "trunkline".to_owned());
    let secure = if settings.tls.is_some() { "s" } else { "" };
    let chat = format!("{} chat --url ws{secure}://{listen}/ws --user ann", quoted(&program));
    let who = if settings.agent {
        ""
    } else {
        "No agent is built in: a producer that connects answers, and nobody before.\n\n"
    };
    format!(
        "Trunkline, development mode: anybody on this machine may log in.\n\n{who}\
         The page:      http{secure}://{listen}/\n\
         For operators: http{secure}://{listen}/operators\n\n\
         From another terminal, one question and its answer, or a conversation:\n\n\
         {chat} --message 'what is 2*(3+4)?'\n\n\
         {chat}\n\n\
         Ctrl-C stops the server.\n"
    )
}

/// As one word of a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | '=' | ':' | ',' | '@');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Interrupt and termination. They are watched from the start, so that none is missed.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Resolves at the first signal; a second one then ends the process at once.
    async fn first(mut self) {
        self.next().await;
        tracing::info!("stopping; once more to stop at once");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(1);
        });
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_core::auth::ClaimRules;
    use trunkline_core::time::Clock as _;

    fn settings(listen: SocketAddr, listen_chosen: bool) -> Settings {
        let mut settings = Settings::of_serve(&ServeArgs { dev: true, ..ServeArgs::default() }).unwrap();
        settings.listen = listen;
        settings.listen_chosen = listen_chosen;
        settings
    }

    #[tokio::test]
    async fn a_taken_port_gives_way_only_when_nobody_chose_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let next = bind(&settings(address, false)).await.unwrap();
        assert!(next.local_addr().unwrap().port() > address.port());
        let fault = bind(&settings(address, true)).await.unwrap_err();
        assert!(format!("{fault:?}").contains(&format!("cannot listen on {address}")));
    }

    #[test]
    fn the_greeting_can_be_pasted() {
        for agent in [true, false] {
            let listen = SocketAddr::from(([127, 0, 0, 1], 8787));
            let mut settings = settings(listen, true);
            settings.agent = agent;
            let text = greeting(listen, &settings);
            assert!(text.contains("http://127.0.0.1:8787/\n"));
            assert!(text.contains(" chat --url ws://127.0.0.1:8787/ws --user ann --message "));
            assert_eq!(text.contains("No agent is built in"), !agent, "{text}");
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("target/release/trunkline"), "target/release/trunkline");
        assert_eq!(quoted("my dir/it's"), "'my dir/it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn names_become_tokens_or_a_reason() {
        let keys = Arc::new(Hs256::new(&[b'k'; 32], ClaimRules::default()).unwrap());
        let login = login(Arc::clone(&keys));
        assert_eq!(login("ann", None).unwrap().expires_in, 3600);
        assert_eq!(login("", None).unwrap_err(), "the name must not be empty");
        for (scope, is_admin) in [(None, false), (Some(LoginScope::Admin), true)] {
            let token = login("root", scope).unwrap().token;
            let grant = keys.verify(&token, SystemClock::new().now().unix).unwrap();
            assert_eq!(grant.scopes.is_admin(), is_admin);
        }
    }
}
