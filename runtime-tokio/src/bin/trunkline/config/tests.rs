//! Tests of [`super`]: what is refused, what overrules what.

use std::io::Write as _;

use trunkline_core::auth::{CookieName, Origin};

use super::*;

/// A file that goes away with the test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(super) fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trunkline-config-{}-{name}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(super) fn load(file: Option<&str>, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = file.map(|content| Scratch::new(&format!("{count}.toml"), content));
    let mut layer = Layer::default();
    for (key, value) in flags {
        layer.add_flag(key, Some(value));
    }
    let variables = variables.iter().map(|(name, value)| (OsString::from(*name), OsString::from(*value)));
    let path = file.as_ref().map(|file| file.0.as_path());
    let mut outcome = Settings::load(path, layer, variables).map_err(|fault| fault.message);
    if let (Some(path), Err(message)) = (path, &mut outcome) {
        *message = message.replace(&path.display().to_string(), "FILE");
    }
    outcome
}

pub(super) fn refusal(file: Option<&str>, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, variables, flags).unwrap_err()
}

#[test]
fn nothing_given_is_the_defaults() {
    let settings = load(None, &[], &[]).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8787");
    assert!(!settings.dev && !settings.agent && !settings.listen_chosen && settings.secret.is_none());
    assert_eq!(settings.limits, Limits::default());
}

#[test]
fn each_layer_overrules_the_one_below() {
    let file = "listen = \"127.0.0.1:1\"\n[limits]\nmessage_bytes = 1000\nhello_deadline = \"1s\"";
    let variables = [("TRUNKLINE_LISTEN", "127.0.0.1:2"), ("TRUNKLINE_LIMITS_MESSAGE_BYTES", "2000")];
    assert_eq!(load(Some(file), &[], &[]).unwrap().listen.port(), 1);
    let settings = load(Some(file), &variables, &[]).unwrap();
    assert_eq!((settings.listen.port(), settings.limits.message_bytes), (2, 2000));
    assert_eq!(settings.limits.hello_deadline, Duration::from_secs(1), "the rest of the table stays");
    assert_eq!(load(Some(file), &variables, &[("listen", "127.0.0.1:3")]).unwrap().listen.port(), 3);
}

#[test]
fn every_limit_can_be_set_from_a_file_and_from_a_variable() {
    let mut limits = Limits::default();
    for (name, slot) in limit_slots(&mut limits) {
        let (file, variable) = match slot {
            Slot::Count(_) | Slot::Rate(_) | Slot::MaybeCount(_) => ("100000000".to_owned(), "100000000"),
            Slot::Span(_) | Slot::Maybe(_) => ("\"70s\"".to_owned(), "70s"),
            Slot::Choice(_) => ("\"refuse\"".to_owned(), "refuse"),
        };
        let contradicts = ["handshake_headers", "event_bytes", "heartbeat_interval", "degraded_text_hold"]
            .contains(&name)
            || name.ends_with("_percent");
        let by_file = load(Some(&format!("limits.{name} = {file}")), &[], &[]);
        let by_variable = load(None, &[(&variable_of(&format!("limits.{name}")), variable)], &[]);
        for outcome in [by_file, by_variable] {
            match outcome {
                Ok(settings) => assert_ne!(settings.limits, Limits::default(), "{name}"),
                Err(message) => assert!(contradicts && message.contains("limits."), "{message}"),
            }
        }
    }
}

#[test]
fn trusted_proxies_are_a_list_or_one_text_and_none_by_default() {
    let trusts = |settings: &Settings, text: &str| settings.trusted_proxies.trusts(text.parse().unwrap());
    let settings = load(None, &[], &[]).unwrap();
    assert!(!trusts(&settings, "127.0.0.1") && !trusts(&settings, "10.0.0.1"));
    let file = "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\nforwarded_header = \"forwarded\"";
    let variables =
        [("TRUNKLINE_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::1"), ("TRUNKLINE_FORWARDED_HEADER", "Forwarded")];
    for settings in [load(Some(file), &[], &[]).unwrap(), load(None, &variables, &[]).unwrap()] {
        assert!(trusts(&settings, "10.9.9.9") && trusts(&settings, "2001:db8::1") && !trusts(&settings, "2001:db8::2"));
        assert_ne!(settings.trusted_proxies, settings.trusted_proxies.clone().reading(ForwardedHeader::XForwardedFor));
    }
}

#[test]
fn mistakes_in_a_file_name_the_key_and_the_file() {
    let table = [
        ("lisen = 1", "setting `lisen` (file FILE): there is no such setting"),
        ("[limits]\nhello = 1", "setting `limits.hello` (file FILE): there is no such setting"),
        ("limits = 1", "setting `limits` (file FILE): must be a table"),
        ("secret = \"x\"", "setting `secret` (file FILE): a secret does not belong among settings"),
        ("listen = 8787", "setting `listen` (file FILE): expected a string, found 8787"),
        ("dev = \"true\"", "setting `dev` (file FILE): expected true or false, found \"true\""),
        ("dev = [true]", "setting `dev` (file FILE): expected true or false, found a list"),
        (
            "log = \"loud\"",
            "setting `log` (file FILE): expected off, error, warn, info, debug or trace, found \"loud\"",
        ),
        ("log = \"3\"", "setting `log` (file FILE): expected off"),
        ("limits.requests = \"5\"", "setting `limits.requests` (file FILE): expected a whole number, found \"5\""),
        ("limits.requests = -5", "setting `limits.requests` (file FILE): expected a whole number, found -5"),
        ("limits.requests = 0", "setting `limits.requests` (file FILE): must be at least 1"),
        ("limits.message_burst = 5000000000", "setting `limits.message_burst` (file FILE): 5000000000 is too large"),
        ("limits.at_capacity = \"evict\"", "setting `limits.at_capacity` (file FILE): expected \"supersede\" or"),
        ("limits.write_stall = 5", "setting `limits.write_stall` (file FILE): expected a time such as"),
        (
            "limits.deflate_from = \"never\"",
            "setting `limits.deflate_from` (file FILE): expected a whole number, found \"never\"; \"off\" is never",
        ),
        ("limits.deflate_from = 0", "setting `limits.deflate_from` (file FILE): must be at least 1"),
        ("limits.idle_deadline = \"1s\"", "setting `limits.idle_deadline` (file FILE): must be above"),
        (
            "trusted_proxies = [\"10/8\"]",
            "setting `trusted_proxies` (file FILE): expected addresses or networks such as",
        ),
        ("trusted_proxies = 10", "setting `trusted_proxies` (file FILE): expected a list of strings"),
        ("forwarded_header = \"via\"", "setting `forwarded_header` (file FILE): expected \"x-forwarded-for\" or"),
        ("secret_file = \"/nonexistent/x\"", "setting `secret_file` (file FILE): /nonexistent/x: No such file"),
        ("= 1", "settings file FILE: "),
    ];
    for (file, start) in table {
        let message = refusal(Some(file), &[], &[]);
        assert!(message.starts_with(start), "{file}: {message}");
    }
}

#[test]
fn mistakes_elsewhere_name_the_variable_or_the_flag() {
    let listen = "setting `listen` (environment variable TRUNKLINE_LISTEN): expected an address and a port";
    assert!(refusal(Some("listen = \"127.0.0.1:1\""), &[("TRUNKLINE_LISTEN", "here")], &[]).starts_with(listen));
    let flag = refusal(None, &[("TRUNKLINE_LISTEN", "127.0.0.1:1")], &[("listen", "there")]);
    assert!(flag.starts_with("setting `listen` (flag --listen): expected an address"), "{flag}");
    let unknown = refusal(None, &[("TRUNKLINE_LIMITS_NONE", "1")], &[]);
    assert_eq!(unknown, "environment variable TRUNKLINE_LIMITS_NONE: there is no such setting");
}

#[test]
fn origins_are_a_list_of_exact_ones_or_any() {
    let (app, dev) = (Origin::parse("https://app.example").unwrap(), Origin::parse("http://localhost:5173").unwrap());
    let both = Access::with_origins([app.clone(), dev]);
    let file = "origins = [\"https://app.example\", \"http://localhost:5173\"]";
    assert_eq!(load(Some(file), &[], &[]).unwrap().access, both);
    let variable = ("TRUNKLINE_ORIGINS", "https://app.example, http://localhost:5173");
    assert_eq!(load(None, &[variable], &[]).unwrap().access, both);
    assert_eq!(load(Some(file), &[("TRUNKLINE_ORIGINS", "https://app.example")], &[]).unwrap().access, {
        Access::with_origins([app])
    });
    assert_eq!(load(Some("origins = [\"*\"]"), &[], &[]).unwrap().access, Access::any_origin());
    assert_eq!(load(Some("origins = []"), &[], &[]).unwrap().access, Access::default());
    for (file, end) in [
        ("origins = \"https://app.example\"", "expected a list of strings, found \"https://app.example\""),
        ("origins = [1]", "expected a list of strings, found a list"),
        (
            "origins = [\"https://app.example/\"]",
            "the origin \"https://app.example/\": must end after the host or the port: no slash, no path, no query",
        ),
        ("origins = [\"*\", \"https://app.example\"]", "\"*\" is every origin: let it stand alone"),
        ("origins = [\"null\"]", "`null` is no origin: every sandboxed frame and every local file has it"),
    ] {
        let message = refusal(Some(file), &[], &[]);
        assert!(message.starts_with("setting `origins` (file FILE): ") && message.ends_with(end), "{message}");
    }
}

#[test]
fn a_cookie_needs_origins_and_tickets_are_off_until_they_are_on() {
    let origins = "origins = [\"https://app.example\"]\n";
    let app = || Access::with_origins(Origin::parse("https://app.example"));
    let name = CookieName::parse("__Host-token").unwrap();
    let all = format!("{origins}cookie = \"__Host-token\"\ntickets = true");
    assert_eq!(load(Some(&all), &[], &[]).unwrap().access, app().with_cookie(name).unwrap().with_tickets());
    assert_eq!(load(Some(&format!("{origins}tickets = false")), &[], &[]).unwrap().access, app());
    assert!(load(None, &[("TRUNKLINE_TICKETS", "true")], &[]).unwrap().access.takes_tickets());
    assert!(!load(None, &[], &[]).unwrap().access.takes_tickets());
    let needs = "setting `cookie` (file FILE): needs the exact origins whose pages may use the cookie";
    for file in ["cookie = \"t\"", "cookie = \"t\"\norigins = []", "cookie = \"t\"\norigins = [\"*\"]"] {
        let message = refusal(Some(file), &[], &[]);
        assert!(message.starts_with(needs) && message.ends_with("list them in `origins`"), "{message}");
    }
    let bad = refusal(Some(&format!("{origins}cookie = \"a=b\"")), &[], &[]);
    assert!(bad.starts_with("setting `cookie` (file FILE): must be a cookie's name"), "{bad}");
    let word = refusal(Some("tickets = \"yes\""), &[], &[]);
    assert!(word.starts_with("setting `tickets` (file FILE): expected true or false"), "{word}");
}

#[test]
fn the_legacy_profile_is_on_until_it_is_turned_off() {
    assert!(load(None, &[], &[]).unwrap().legacy_profile);
    assert!(!load(Some("legacy_profile = false"), &[], &[]).unwrap().legacy_profile);
    assert!(!load(None, &[("TRUNKLINE_LEGACY_PROFILE", "false")], &[]).unwrap().legacy_profile);
}

#[test]
fn variables_of_others_are_left_alone() {
    let kubernetes = [("TRUNKLINE_PORT", "tcp://10.0.0.1:80"), ("TRUNKLINE_SERVICE_HOST", "10.0.0.1"), ("LISTEN", "x")];
    load(None, &kubernetes, &[("dev", "true")]).unwrap();
    load(None, &[("TRUNKLINE_TOKEN", "for the client")], &[]).unwrap();
}

#[test]
fn a_secret_has_32_bytes_after_one_line_end() {
    let long = "x".repeat(32);
    assert_eq!(Secret::new(format!("{long}\n").into_bytes()).unwrap().as_bytes(), long.as_bytes());
    assert_eq!(Secret::new(format!("{long}\r\n").into_bytes()).unwrap().as_bytes(), long.as_bytes());
    let short = Secret::new(format!("{}\n", &long[1..]).into_bytes()).unwrap_err();
    assert_eq!(short, "the secret must have at least 32 bytes, this one has 31");
    assert_eq!(format!("{:?}", Secret::new(long.into_bytes()).unwrap()), "Secret(..)");
}

#[test]
fn the_secret_nearest_to_the_command_line_is_taken() {
    let in_file = Scratch::new("secret", &"f".repeat(40));
    let path = in_file.0.to_str().unwrap();
    let variable = ("TRUNKLINE_SECRET", "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv");
    let first = |settings: Settings| settings.secret.unwrap().as_bytes()[0];
    let named_in_file = format!("secret_file = {path:?}");
    assert_eq!(first(load(Some(&named_in_file), &[], &[]).unwrap()), b'f');
    assert_eq!(first(load(Some(&named_in_file), &[variable], &[]).unwrap()), b'v');
    assert_eq!(first(load(None, &[variable], &[("secret_file", path)]).unwrap()), b'f');
    let both = refusal(None, &[variable, ("TRUNKLINE_SECRET_FILE", path)], &[]);
    assert!(both.ends_with("TRUNKLINE_SECRET is set too: keep one of them"), "{both}");
    let short = refusal(None, &[("TRUNKLINE_SECRET", "hunter2")], &[]);
    assert!(short.contains("TRUNKLINE_SECRET") && !short.contains("hunter2"), "{short}");
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = Scratch::new("mode", &"f".repeat(40));
    let path = file.0.to_str().unwrap();
    for (mode, warnings) in [(0o600, 0), (0o644, 1)] {
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(None, &[], &[("secret_file", path)]).unwrap().warnings.len(), warnings);
    }
}

#[test]
fn development_mode_stays_on_loopback() {
    let message = refusal(None, &[], &[("dev", "true"), ("listen", "0.0.0.0:8787")]);
    assert!(message.starts_with("setting `listen` (flag --listen): development mode"), "{message}");
    load(None, &[], &[("dev", "true"), ("listen", "[::1]:8787")]).unwrap();
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    assert!(load(None, &[], &[]).unwrap().tls.is_none());
    let both = load(Some("tls_certificate_file = 'a.pem'"), &[("TRUNKLINE_TLS_KEY_FILE", "a.key")], &[]).unwrap();
    let both = both.tls.unwrap();
    assert_eq!((both.certificate, both.key), ("a.pem".into(), "a.key".into()));
    for (given, missing) in [("tls_certificate_file", "tls_key_file"), ("tls_key_file", "tls_certificate_file")] {
        let word = refusal(Some(&format!("{given} = 'a'")), &[], &[]);
        assert!(word.starts_with(&format!("setting `{given}` (file FILE): ")) && word.contains(missing), "{word}");
    }
}
