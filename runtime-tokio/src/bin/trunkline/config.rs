//! Settings: the defaults, under a TOML file, under `TRUNKLINE_*` variables, under flags.
//!
//! A setting that is not known, of the wrong type or out of bounds is one line naming the key and where it came from.

mod keys;
mod tls;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, File, FileFormat, Map, Source, Value, ValueKind};
use tracing::level_filters::LevelFilter;
use trunkline_core::admission::{ForwardedHeader, TrustedProxies};
use trunkline_core::auth::Access;
use trunkline_core::limits::{AtCapacity, Limits};

use crate::Fault;
use crate::cli::{ServeArgs, SettingFlags};
pub(crate) use keys::KeySettings;
pub(crate) use tls::TlsSettings;
use values::{
    address, at_capacity, boolean, cookie, duration, forwarded_header, in_range, level, maybe_duration, maybe_whole,
    origins, proxies, text, whole,
};

const PREFIX: &str = "TRUNKLINE_";
/// The shortest secret: HS256 asks for a key at least as long as its output (RFC 7518 section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// Above every sensible settings or secret file; a device or a log given by mistake stops here.
const MAX_FILE_BYTES: u64 = 1 << 20;
const KEYS: [&str; 15] = [
    "listen",
    "dev",
    "secret_file",
    "issuer",
    "audience",
    "origins",
    "cookie",
    "tickets",
    "legacy_profile",
    "open_metrics",
    "log",
    "agent",
    "agent_pace",
    "trusted_proxies",
    "forwarded_header",
];
/// Variables of the program that are no settings.
const OTHER_VARIABLES: [&str; 3] = ["TRUNKLINE_CONFIG", "TRUNKLINE_SECRET", "TRUNKLINE_TOKEN"];

/// What the program was told, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Whether somebody chose `listen`; when nobody did, a taken port may give way to the next.
    pub(crate) listen_chosen: bool,
    /// Development mode.
    pub(crate) dev: bool,
    /// What signs and verifies tokens, when one was given.
    pub(crate) secret: Option<Secret>,
    /// What else verifies them.
    pub(crate) keys: KeySettings,
    /// The `iss` that tokens must carry.
    pub(crate) issuer: Option<String>,
    /// The `aud` that tokens must carry.
    pub(crate) audience: Option<String>,
    /// From where the WebSocket endpoint may be opened, and by which carriers.
    pub(crate) access: Access,
    /// Whether clients that offer `jwt-auth` alone get the legacy frames.
    pub(crate) legacy_profile: bool,
    /// Whether `/metrics` asks for no token; by default in development mode only.
    pub(crate) open_metrics: bool,
    /// Who the server shows itself to be; `None` is plain TCP.
    pub(crate) tls: Option<TlsSettings>,
    /// How much to log.
    pub(crate) log: LevelFilter,
    /// Whether the built-in agent answers; by default in development mode only.
    pub(crate) agent: bool,
    /// The built-in agent's pause between two words.
    pub(crate) agent_pace: Duration,
    /// Whose word about a client's address is believed.
    pub(crate) trusted_proxies: TrustedProxies,
    /// The hub's bounds.
    pub(crate) limits: Limits,
    /// What deserves a line in the log, once there is one.
    pub(crate) warnings: Vec<String>,
}

/// Bytes that nobody may see.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// The bytes without one trailing line end, which editors add.
    pub(crate) fn new(mut bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self::whole(bytes)
    }

    /// These bytes, whatever the last one is.
    pub(crate) fn whole(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(format!(
                "the secret must have at least {MIN_SECRET_BYTES} bytes, this one has {}",
                bytes.len()
            ));
        }
        Ok(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How to make a secret, for whoever has none.
pub(crate) const MAKE_A_SECRET: &str = "make one with `(umask 077; head -c 48 /dev/urandom | base64 > trunkline.secret)` \
     and pass `--secret-file trunkline.secret`, or set TRUNKLINE_SECRET";

impl Settings {
    /// From the flags of `serve`, this process' variables, and the file they name.
    pub(crate) fn of_serve(args: &ServeArgs) -> Result<Self, Fault> {
        let mut flags = flag_layer(&args.settings);
        flags.add_flag("listen", args.listen.as_deref());
        flags.add_flag("log", args.log.as_deref());
        flags.add_flag("dev", args.dev.then_some("true"));
        flags.add_flag("jwks_file", args.jwks_file.as_deref());
        flags.add_flag("jwks_url", args.jwks_url.as_deref());
        flags.add_flag("tls_certificate_file", args.tls_certificate_file.as_deref());
        flags.add_flag("tls_key_file", args.tls_key_file.as_deref());
        flags.add_flag("public_key_file", args.public_key_file.as_deref());
        if args.no_agent {
            flags.add("agent", "flag --no-agent".into(), "false");
        }
        Self::load(args.settings.config.as_deref(), flags, std::env::vars_os())
    }

    /// From the flags of a command that only needs what tokens are made of.
    pub(crate) fn of_token(flags: &SettingFlags) -> Result<Self, Fault> {
        Self::load(flags.config.as_deref(), flag_layer(flags), std::env::vars_os())
    }

    fn load(
        file: Option<&Path>,
        flags: Layer,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Fault> {
        let mut environment = Environment::read(variables)?;
        let file = file.map(Path::to_path_buf).or(environment.config.take());
        let mut builder = Config::builder();
        if let Some(path) = &file {
            builder = builder.add_source(File::from_str(&read_settings(path)?, FileFormat::Toml));
        }
        let layered = builder.add_source(environment.layer).add_source(flags).build();
        let file = file.map_or_else(String::new, |path| path.display().to_string());
        let layered = layered.map_err(|error| Fault::usage(format!("settings file {file}: {error}")))?;
        let mut found = Found { file, values: BTreeMap::new() };
        found.flatten(String::new(), layered.cache);
        found.refuse_unknown()?;
        found.settle(environment.secret)
    }
}

fn read_settings(path: &Path) -> Result<String, Fault> {
    let refuse = |problem: String| Fault::usage(format!("settings file {}: {problem}", path.display()));
    let bytes = read_bounded(path).map_err(refuse)?;
    String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8".into()))
}

/// The whole of a small file.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

/// Settings given as texts, each with where it was given.
#[derive(Clone, Debug, Default)]
struct Layer(Map<String, Value>);

impl Layer {
    fn add_flag(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(key, format!("flag --{}", key.replace('_', "-")), value);
        }
    }

    fn add(&mut self, key: &str, origin: String, value: &str) {
        self.0.insert(key.to_owned(), Value::new(Some(&origin), value));
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn flag_layer(flags: &SettingFlags) -> Layer {
    let mut layer = Layer::default();
    layer.add_flag("secret_file", flags.secret_file.as_deref());
    layer.add_flag("issuer", flags.issuer.as_deref());
    layer.add_flag("audience", flags.audience.as_deref());
    layer
}

#[derive(Default)]
struct Environment {
    config: Option<PathBuf>,
    secret: Option<String>,
    layer: Layer,
}

impl Environment {
    fn read(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, Fault> {
        let keys: BTreeMap<String, String> = all_keys().map(|key| (variable_of(&key), key)).collect();
        // Sorted, so that of several mistakes the same one is named each time.
        let variables: BTreeMap<_, _> = variables.collect();
        let mut environment = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX) && !is_orchestrators(name)) else {
                continue;
            };
            environment.take(name, value, &keys)?;
        }
        Ok(environment)
    }

    fn take(&mut self, name: &str, value: OsString, keys: &BTreeMap<String, String>) -> Result<(), Fault> {
        if name == "TRUNKLINE_CONFIG" {
            self.config = Some(value.into());
            return Ok(());
        }
        let known = keys.get(name);
        if known.is_none() && !OTHER_VARIABLES.contains(&name) {
            return Err(Fault::usage(format!("environment variable {name}: there is no such setting")));
        }
        let value =
            value.into_string().map_err(|_| Fault::usage(format!("environment variable {name}: is not UTF-8")))?;
        match known {
            Some(key) => self.layer.add(key, format!("environment variable {name}"), &value),
            None if name == "TRUNKLINE_SECRET" => self.secret = Some(value),
            None => {}
        }
        Ok(())
    }
}

/// Kubernetes describes a service called `trunkline` to every pod beside it in variables of these names.
fn is_orchestrators(name: &str) -> bool {
    name == "TRUNKLINE_PORT" || name.starts_with("TRUNKLINE_PORT_") || name.starts_with("TRUNKLINE_SERVICE_")
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

fn all_keys() -> impl Iterator<Item = String> {
    let mut limits = Limits::default();
    let names: Vec<_> = limit_slots(&mut limits).into_iter().map(|(name, _)| format!("limits.{name}")).collect();
    KEYS.into_iter().chain(keys::KEYS).chain(tls::KEYS).map(str::to_owned).chain(names)
}

/// Every setting that was given, by its dotted path.
struct Found {
    file: String,
    values: BTreeMap<String, Value>,
}

impl Found {
    fn flatten(&mut self, path: String, value: Value) {
        let ValueKind::Table(table) = value.kind else {
            self.values.insert(path, value);
            return;
        };
        for (key, value) in table {
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            self.flatten(path, value);
        }
    }

    fn refuse_unknown(&self) -> Result<(), Fault> {
        let known: Vec<String> = all_keys().collect();
        match self.values.keys().find(|key| !known.contains(key)) {
            None => Ok(()),
            Some(key) if key == "secret" => {
                Err(self.refuse(key, "a secret does not belong among settings: use `secret_file` or TRUNKLINE_SECRET"))
            }
            Some(key) if key == "limits" => Err(self.refuse(key, "must be a table")),
            Some(key) => Err(self.refuse(key, "there is no such setting")),
        }
    }

    fn settle(&self, secret: Option<String>) -> Result<Settings, Fault> {
        let dev = self.parsed("dev", boolean)?.unwrap_or(false);
        let limits = self.limits()?;
        let mut settings = Settings {
            listen: self.parsed("listen", address)?.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8787))),
            listen_chosen: self.values.contains_key("listen"),
            dev,
            secret: None,
            keys: self.settle_keys(limits.auth_notice)?,
            issuer: self.parsed("issuer", text)?,
            audience: self.parsed("audience", text)?,
            access: self.access()?,
            legacy_profile: self.parsed("legacy_profile", boolean)?.unwrap_or(true),
            open_metrics: self.parsed("open_metrics", boolean)?.unwrap_or(dev),
            tls: self.settle_tls()?,
            log: self.parsed("log", level)?.unwrap_or(LevelFilter::INFO),
            agent: self.parsed("agent", boolean)?.unwrap_or(dev),
            agent_pace: self.parsed("agent_pace", duration)?.unwrap_or(Duration::from_millis(20)),
            trusted_proxies: self.proxies()?,
            limits,
            warnings: Vec::new(),
        };
        self.settle_secret(secret, &mut settings)?;
        if dev && !settings.listen.ip().is_loopback() {
            let problem =
                format!("development mode lets anybody in and listens on loopback only, not on {}", settings.listen);
            return Err(self.refuse("listen", &problem));
        }
        Ok(settings)
    }

    fn proxies(&self) -> Result<TrustedProxies, Fault> {
        let header: Option<ForwardedHeader> = self.parsed("forwarded_header", forwarded_header)?;
        let proxies = self.parsed("trusted_proxies", proxies)?.unwrap_or_default();
        Ok(proxies.reading(header.unwrap_or_default()))
    }

    fn access(&self) -> Result<Access, Fault> {
        let mut access = self.parsed("origins", origins)?.unwrap_or_default();
        if let Some(name) = self.parsed("cookie", cookie)? {
            access = access
                .with_cookie(name)
                .map_err(|problem| self.refuse("cookie", &format!("{problem} in `origins`")))?;
        }
        Ok(if self.parsed("tickets", boolean)? == Some(true) { access.with_tickets() } else { access })
    }

    fn limits(&self) -> Result<Limits, Fault> {
        let mut limits = Limits::default();
        for (name, slot) in limit_slots(&mut limits) {
            let key = format!("limits.{name}");
            match slot {
                Slot::Count(count) => self.put(&key, count, |value| whole(value).and_then(in_range))?,
                Slot::Rate(rate) => self.put(&key, rate, |value| whole(value).and_then(in_range))?,
                Slot::Span(span) => self.put(&key, span, duration)?,
                Slot::Maybe(span) => self.put(&key, span, maybe_duration)?,
                Slot::MaybeCount(count) => self.put(&key, count, maybe_whole)?,
                Slot::Choice(choice) => self.put(&key, choice, at_capacity)?,
            }
        }
        limits.check().map_err(|error| self.refuse(&format!("limits.{}", error.name), error.problem))?;
        Ok(limits)
    }

    /// The secret from the variable or the file, whichever was given closer to the command line.
    fn settle_secret(&self, variable: Option<String>, settings: &mut Settings) -> Result<(), Fault> {
        let path = self.parsed("secret_file", text)?;
        let by_flag = self.source_of("secret_file").starts_with("flag");
        if variable.is_some() && self.source_of("secret_file").starts_with("environment") {
            return Err(self.refuse("secret_file", "TRUNKLINE_SECRET is set too: keep one of them"));
        }
        settings.secret = match (path, variable) {
            (_, Some(secret)) if !by_flag => {
                let refuse = |problem| Fault::usage(format!("environment variable TRUNKLINE_SECRET: {problem}"));
                Some(Secret::new(secret.into_bytes()).map_err(refuse)?)
            }
            (Some(path), _) => {
                let refuse = |problem: String| self.refuse("secret_file", &format!("{path}: {problem}"));
                let secret = read_bounded(Path::new(&path)).and_then(Secret::new).map_err(refuse)?;
                settings.warnings.extend(warning_about(Path::new(&path)));
                Some(secret)
            }
            (None, _) => None,
        };
        Ok(())
    }

    fn put<T>(&self, key: &str, slot: &mut T, parse: impl Fn(&Value) -> Result<T, String>) -> Result<(), Fault> {
        if let Some(value) = self.parsed(key, parse)? {
            *slot = value;
        }
        Ok(())
    }

    fn parsed<T>(&self, key: &str, parse: impl Fn(&Value) -> Result<T, String>) -> Result<Option<T>, Fault> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        parse(value).map(Some).map_err(|problem| self.refuse(key, &problem))
    }

    fn refuse(&self, key: &str, problem: &str) -> Fault {
        Fault::usage(format!("setting `{key}` ({}): {problem}", self.source_of(key)))
    }

    fn source_of(&self, key: &str) -> String {
        match self.values.get(key).map(|value| value.origin()) {
            None => "default".to_owned(),
            Some(Some(origin)) => origin.to_owned(),
            Some(None) => format!("file {}", self.file),
        }
    }
}

#[cfg(unix)]
fn warning_about(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0)
        .then(|| format!("everybody on this machine can read the secret file {}: chmod 600 it", path.display()))
}

#[cfg(not(unix))]
fn warning_about(_path: &Path) -> Option<String> {
    None
}

/// A limit's place, by the type of its value.
enum Slot<'a> {
    Count(&'a mut usize),
    Rate(&'a mut u32),
    Span(&'a mut Duration),
    Maybe(&'a mut Option<Duration>),
    MaybeCount(&'a mut Option<usize>),
    Choice(&'a mut AtCapacity),
}

// Takes the struct apart without `..`, so that a limit added to the core cannot be forgotten here.
macro_rules! slots {
    ($limits:expr; $($kind:ident $name:ident),* $(,)?) => {{
        let Limits { $($name),* } = $limits;
        vec![$((stringify!($name), Slot::$kind($name))),*]
    }};
}

fn limit_slots(limits: &mut Limits) -> Vec<(&'static str, Slot<'_>)> {
    slots!(limits;
        Span handshake_deadline, Count handshake_bytes, Count handshake_headers, Span hello_deadline,
        Count unauthenticated, Count connections_per_user, Choice at_capacity, Span eviction_idle, Count connections,
        Count connections_per_address, Rate handshakes_per_second, Rate handshake_burst, Count addresses,
        Count message_bytes, Count hello_bytes,
        Count total_inbound_bytes, Rate messages_per_second, Rate message_burst, Count event_bytes, Count control_bytes, MaybeCount deflate_from, Count log_entries,
        Count log_bytes, Count snapshot_bytes, Count total_snapshot_bytes, Count lag_entries, Span position_interval, Count subscriptions, Count total_log_bytes, Span log_retention, Count kept_streams, Count runs_per_user, Count runs, Count tools_per_run,
        Count parts_per_run, Count dedup_keys, Count dedup_bytes, Count total_dedup_bytes, Span dedup_window, Count requests, Span request_deadline,
        Span run_lease, Span run_lease_max, Count revocations, Span revocation_memory, Count tickets, Count tickets_per_user, Span ticket_life, Count producers, Count producer_message_bytes,
        Rate producer_messages_per_second, Rate producer_message_burst, Count producer_control_bytes,
        Span heartbeat_interval, Span heartbeat_timeout, Span write_stall, Maybe idle_deadline, Rate degraded_enter_percent, Rate degraded_leave_percent,
        Rate emergency_enter_percent, Rate emergency_leave_percent, Span level_rise_after, Span level_fall_after,
        Span degraded_text_hold, Span emergency_text_hold, Count dependencies, Span token_leeway, Span auth_notice,
        Span close_deadline, Span drain_deadline,
    )
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_keys;
