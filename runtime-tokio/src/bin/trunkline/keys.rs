//! What verifies tokens: the secret, a public key, and key sets that change while the server runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use trunkline_core::auth::source::{
    FetchError, FetchKeys, Health, Keeper, KeySource, SourceConfig, SourceConfigError, SourceEvent,
};
use trunkline_core::auth::{AnyOf, Hs256, KeySet, TokenVerifier};
use trunkline_core::hub::Hub;
use trunkline_core::id::DependencyName;
use trunkline_core::level::ServiceLevel;
use trunkline_tokio::keys::{FileKeys, HttpsKeys};
use trunkline_tokio::{SystemClock, SystemEntropy, TokioTimer};

use crate::config::{MAKE_A_SECRET, Settings};
use crate::{Fault, printable, token};

/// How long the server waits for its first keys before it listens. Later ones are welcome.
const FIRST_KEYS: Duration = Duration::from_secs(3);
/// Of the text about a failure, which may quote the other end.
const MAX_PROBLEM_CHARS: usize = 300;

/// Everything that verifies tokens.
pub(crate) struct Keys {
    /// What the hub asks.
    pub(crate) verifier: Arc<dyn TokenVerifier>,
    sources: Vec<Source>,
}

/// Keys that change while the server runs.
struct Source {
    /// For the log: a path, or an address without its path.
    name: String,
    /// The setting it comes from, which is also its name among the dependencies of the service.
    setting: &'static str,
    keys: KeySource,
    keeper: Keeper,
    place: Place,
}

enum Place {
    File(FileKeys),
    Address(HttpsKeys),
}

impl FetchKeys for Place {
    async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::File(file) => file.fetch().await,
            Self::Address(address) => address.fetch().await,
        }
    }
}

impl Keys {
    /// As the settings say, and the secret where there is one.
    pub(crate) fn new(settings: &Settings, secret: Option<Arc<Hs256>>) -> Result<Self, Fault> {
        if secret.is_none() && settings.keys.is_empty() {
            return Err(Fault::usage(format!(
                "no secret and no keys to verify tokens with: pass `--jwks-url` or `--jwks-file` for the keys of whoever \
                 signs them, or {MAKE_A_SECRET}; or try things out with --dev"
            )));
        }
        let mut verifiers: Vec<Arc<dyn TokenVerifier>> = Vec::new();
        verifiers.extend(secret.map(|secret| secret as Arc<dyn TokenVerifier>));
        if let Some(key) = settings.keys.public_key.clone() {
            let keys = KeySet::new([key], token::rules(settings)).map_err(|error| Fault::usage(error.to_string()))?;
            verifiers.push(Arc::new(keys));
        }
        let sources = sources(settings).map_err(|error| Fault::usage(error.to_string()))?;
        verifiers.extend(sources.iter().map(|source| Arc::new(source.keys.clone()) as Arc<dyn TokenVerifier>));
        Ok(Self { verifier: Arc::new(AnyOf::new(verifiers)), sources })
    }

    /// Fetches the first keys, and from then on keeps them fresh. A source that has none yet is no reason not to start, but a
    /// file that is wrong from the beginning is a mistake in the settings.
    pub(crate) async fn start(self, hub: &Hub) -> Result<(), Fault> {
        let reloaded = self.sources.iter().map(|source| source.keys.clone()).collect();
        let mut first = Vec::new();
        for source in self.sources {
            let is_file = matches!(source.place, Place::File(_));
            first.push((is_file, source.name.clone(), source.start(hub.clone())));
        }
        for (is_file, name, outcome) in first {
            if let Ok(Ok(Err(problem))) = timeout(FIRST_KEYS, outcome).await
                && is_file
            {
                return Err(Fault::usage(format!("setting `jwks_file`: {name}: {problem}")));
            }
        }
        reload_on_hangup(reloaded);
        Ok(())
    }
}

fn sources(settings: &Settings) -> Result<Vec<Source>, SourceConfigError> {
    let mut sources = Vec::new();
    if let Some(path) = &settings.keys.file {
        let (keys, keeper) = KeySource::with_secrets(SourceConfig::of_file(), token::rules(settings))?;
        let place = Place::File(FileKeys::new(path));
        let name = path.display().to_string();
        sources.push(Source { name, setting: "jwks_file", keys, keeper, place });
    }
    if let Some((address, config)) = &settings.keys.url {
        let (keys, keeper) = KeySource::new(*config, token::rules(settings))?;
        let (name, place) = (address.origin(), Place::Address(address.clone()));
        sources.push(Source { name, setting: "jwks_url", keys, keeper, place });
    }
    Ok(sources)
}

impl Source {
    /// Answers what comes of the first fetch.
    fn start(self, hub: Hub) -> oneshot::Receiver<Result<(), String>> {
        let Self { name, setting, keeper, place, .. } = self;
        let (told, first) = oneshot::channel();
        let mut told = Some(told);
        let clock = SystemClock::new();
        let tell = move |event: SourceEvent| {
            log(&name, &event);
            report(&hub, setting, &event);
            if let Some(told) = told.take() {
                // Nobody listens any more once the server has waited long enough.
                let _ = told.send(match event {
                    SourceEvent::Failed { problem, .. } => Err(problem),
                    SourceEvent::Loaded(_) | SourceEvent::Recovered | SourceEvent::TooOld => Ok(()),
                });
            }
        };
        tokio::spawn(keeper.run(place, clock, SystemEntropy, TokioTimer::new(clock), tell));
        first
    }
}

/// One line for each change, without anything a key is made of.
fn log(from: &str, event: &SourceEvent) {
    match event {
        SourceEvent::Loaded(keys) => {
            let (count, passed_over) = (keys.keys().len(), keys.passed_over().len());
            tracing::info!(from, keys = count, passed_over, "new keys are in use");
            for key in keys.passed_over() {
                tracing::warn!(from, index = key.index, "a key is passed over: {}", key.problem);
            }
        }
        SourceEvent::Recovered => tracing::info!(from, "keys are fetched again; they are the same as before"),
        SourceEvent::Failed { health: Health::Down, problem } => {
            tracing::error!(
                from,
                "keys cannot be fetched, and their source is left alone for a while: {}",
                short(problem)
            );
        }
        SourceEvent::Failed { problem, .. } => {
            tracing::warn!(from, "keys could not be fetched; those before them stay: {}", short(problem));
        }
        SourceEvent::TooOld => tracing::error!(from, "the keys have become too old: nobody is let in by them"),
    }
}

/// Without keys those who are in stay, and who comes with a key that is not known is told to try again. The reason is shown to
/// every client, so it names no place.
fn report(hub: &Hub, setting: &'static str, event: &SourceEvent) {
    let level = match event {
        SourceEvent::Loaded(_) | SourceEvent::Recovered => ServiceLevel::Normal,
        SourceEvent::Failed { health: Health::Down, .. } | SourceEvent::TooOld => ServiceLevel::Degraded,
        // Once is no outage, and the breaker says when it is one.
        SourceEvent::Failed { .. } => return,
    };
    let reported =
        DependencyName::new(setting).map(|name| hub.report(&name, level, "keys that verify tokens cannot be fetched"));
    if !matches!(reported, Ok(Ok(()))) {
        tracing::warn!(setting, "the state of the keys could not be reported");
    }
}

fn short(problem: &str) -> String {
    printable(&problem.chars().take(MAX_PROBLEM_CHARS).collect::<String>())
}

/// An operator who has changed a file, or knows that an address has new keys, need not wait.
#[cfg(unix)]
fn reload_on_hangup(sources: Vec<KeySource>) {
    use tokio::signal::unix::{SignalKind, signal};
    // Without sources the signal keeps its usual meaning.
    if sources.is_empty() {
        return;
    }
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => drop(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::info!("keys are fetched at once");
                sources.iter().for_each(KeySource::reload);
            }
        })),
        Err(error) => tracing::warn!("a hangup does not reload keys: {error}"),
    }
}

#[cfg(not(unix))]
fn reload_on_hangup(_sources: Vec<KeySource>) {}
