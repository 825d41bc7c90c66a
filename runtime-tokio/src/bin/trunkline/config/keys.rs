//! The settings of the keys that verify tokens beside the secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline_core::auth::source::SourceConfig;
use trunkline_core::auth::{Algorithm, Key, KeyError};
use trunkline_tokio::keys::{HttpsKeys, Roots, UrlError};

use super::values::{algorithm, duration, maybe_duration, text};
use super::{Found, read_bounded};
use crate::Fault;

/// Under these names, beside the secret's.
pub(super) const KEYS: [&str; 8] = [
    "public_key_file",
    "public_key_algorithm",
    "jwks_file",
    "jwks_url",
    "jwks_ca_file",
    "jwks_refresh",
    "jwks_cooldown",
    "jwks_max_age",
];

/// What verifies tokens beside the secret.
#[derive(Debug, Default)]
pub(crate) struct KeySettings {
    /// One key of an issuer that has no key set.
    pub(crate) public_key: Option<Key>,
    /// A key set on this machine.
    pub(crate) file: Option<PathBuf>,
    /// A key set elsewhere.
    pub(crate) url: Option<(HttpsKeys, SourceConfig)>,
}

impl KeySettings {
    /// Whether nothing but the secret verifies tokens.
    pub(crate) const fn is_empty(&self) -> bool {
        self.public_key.is_none() && self.file.is_none() && self.url.is_none()
    }
}

/// The algorithms that a public key may be for, where nobody says which: one for each kind of key.
const USUAL: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

impl Found {
    /// `notice` is how long before the end of a token clients are asked for a new one.
    pub(super) fn settle_keys(&self, notice: Duration) -> Result<KeySettings, Fault> {
        Ok(KeySettings {
            public_key: self.public_key()?,
            file: self.parsed("jwks_file", text)?.map(PathBuf::from),
            url: self.jwks_url(notice)?,
        })
    }

    fn public_key(&self) -> Result<Option<Key>, Fault> {
        let named = self.parsed("public_key_algorithm", algorithm)?;
        let Some(path) = self.parsed("public_key_file", text)? else {
            self.refuse_without("public_key_file", &["public_key_algorithm"])?;
            return Ok(None);
        };
        let refuse = |problem: String| self.refuse("public_key_file", &format!("{path}: {problem}"));
        let pem = read_bounded(Path::new(&path)).map_err(refuse)?;
        let pem = String::from_utf8(pem).map_err(|_| refuse("is not PEM".into()))?;
        let key = match named {
            Some(algorithm) => Key::from_pem(algorithm, &pem),
            None => of_its_kind(&pem),
        };
        key.map(Some).map_err(|error| refuse(error.to_string()))
    }

    fn jwks_url(&self, notice: Duration) -> Result<Option<(HttpsKeys, SourceConfig)>, Fault> {
        let Some(url) = self.parsed("jwks_url", text)? else {
            self.refuse_without("jwks_url", &["jwks_ca_file", "jwks_refresh", "jwks_cooldown", "jwks_max_age"])?;
            return Ok(None);
        };
        let roots = match self.parsed("jwks_ca_file", text)? {
            None => Roots::Public,
            Some(path) => {
                let refuse = |problem: String| self.refuse("jwks_ca_file", &format!("{path}: {problem}"));
                Roots::Pem(read_bounded(Path::new(&path)).map_err(refuse)?)
            }
        };
        let fetch = HttpsKeys::new(&url, &roots).map_err(|error| match error {
            UrlError::Roots(_) => self.refuse("jwks_ca_file", &error.to_string()),
            UrlError::Malformed | UrlError::Insecure | UrlError::Credentials | UrlError::Host => {
                self.refuse("jwks_url", &error.to_string())
            }
        })?;
        Ok(Some((fetch, self.source_config(notice)?)))
    }

    fn source_config(&self, notice: Duration) -> Result<SourceConfig, Fault> {
        let mut config = SourceConfig::default();
        self.put("jwks_refresh", &mut config.refresh, duration)?;
        self.put("jwks_cooldown", &mut config.cooldown, duration)?;
        self.put("jwks_max_age", &mut config.max_age, maybe_duration)?;
        let checked = config.check().and_then(|()| config.check_against(notice));
        checked.map(|()| config).map_err(|error| {
            let key = format!("jwks_{}", error.name);
            // What has no setting of its own is good by itself; the notice is too short for it.
            let key = if KEYS.contains(&key.as_str()) { key.as_str() } else { "limits.auth_notice" };
            self.refuse(key, &error.problem)
        })
    }

    /// Settings that say something about another one, which is not there.
    fn refuse_without(&self, needed: &str, keys: &[&str]) -> Result<(), Fault> {
        match keys.iter().find(|key| self.values.contains_key(**key)) {
            Some(key) => Err(self.refuse(key, &format!("says something about `{needed}`, which is not set"))),
            None => Ok(()),
        }
    }
}

/// The key, for the usual algorithm of its kind.
fn of_its_kind(pem: &str) -> Result<Key, KeyError> {
    let mut tried = USUAL.iter().map(|algorithm| Key::from_pem(*algorithm, pem));
    let other_kind = |tried: &Result<Key, KeyError>| matches!(tried, Err(KeyError::WrongKind(_)));
    tried.find(|tried| !other_kind(tried)).unwrap_or(Err(KeyError::Unsupported("is for none of the usual algorithms")))
}
