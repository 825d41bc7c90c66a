//! The settings of TLS.

use std::path::PathBuf;

use super::Found;
use super::values::text;
use crate::Fault;

pub(super) const KEYS: [&str; 2] = ["tls_certificate_file", "tls_key_file"];

/// What the server shows who it is with.
#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    /// Its certificate and those up to its root, in PEM.
    pub(crate) certificate: PathBuf,
    /// The private key, in PEM.
    pub(crate) key: PathBuf,
}

impl Found {
    pub(super) fn settle_tls(&self) -> Result<Option<TlsSettings>, Fault> {
        match (self.parsed(KEYS[0], text)?, self.parsed(KEYS[1], text)?) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(TlsSettings { certificate: certificate.into(), key: key.into() }))
            }
            (Some(_), None) => {
                Err(self.refuse(KEYS[0], "needs the private key of the certificate: set `tls_key_file`"))
            }
            (None, Some(_)) => Err(self.refuse(KEYS[1], "needs the certificate: set `tls_certificate_file`")),
        }
    }
}
