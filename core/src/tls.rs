//! TLS as a configuration: certificates that can be replaced while they are in use, and whom a client trusts. With the feature
//! `tls`. Reading files and shaking hands are the runtime's.
//!
//! TLS 1.2 and 1.3 by `rustls` over `aws-lc-rs`, whatever backend verifies tokens; the protocol within is HTTP/1.1, and says so by
//! ALPN (RFC 7301).

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use crate::sync::Lock;

/// The longest file of certificates or of a key, in bytes; read no more than one byte beyond.
pub const MAX_PEM_BYTES: usize = 1 << 20;
/// How much a connection holds of what the socket does not take yet, in bytes: what waits there cannot be merged any more.
pub const MAX_HELD_BYTES: usize = 64 << 10;
/// How much of why a handshake failed is told, in characters: the names in a certificate are the peer's to choose.
pub const MAX_REASON_CHARS: usize = 300;
/// RFC 7301 section 6.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why there is no TLS. Nothing of a key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificates cannot be used.
    #[error("the certificates {0}")]
    Certificates(String),
    /// The private key cannot be used.
    #[error("the private key {0}")]
    Key(String),
    /// Each may be good, but they do not belong together: one of them is not replaced yet, perhaps.
    #[error("the private key is not that of the first certificate")]
    Mismatch,
    /// The certificates to trust.
    #[error("the certificates to trust: {0}")]
    Roots(String),
    /// A file that cannot be read.
    #[error("{0}")]
    File(String),
}

/// The certificates of a server and their key, which may be replaced: handshakes from then on use the new ones, and whoever is
/// connected stays. A pair that is not whole, or does not belong together, replaces nothing. `Debug` shows no key.
pub struct Certificates {
    current: Lock<Current>,
}

struct Current {
    pair: Arc<CertifiedKey>,
    /// Of the bytes of the pair in use.
    used: [u8; 32],
    /// Of the bytes that were seen last.
    seen: [u8; 32],
    /// Of the bytes that were refused last: they are refused once.
    refused: Option<[u8; 32]>,
}

impl Certificates {
    /// These, in PEM: the server's own certificate first, then those between it and its root, and its private key in PKCS #8, PKCS #1
    /// or SEC 1.
    ///
    /// # Errors
    /// When one of them is none, or they do not belong together.
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Arc<Self>, TlsError> {
        let (pair, used) = (Arc::new(parse(certificates, key)?), digest(certificates, key));
        Ok(Arc::new(Self { current: Lock::new(Current { pair, used, seen: used, refused: None }) }))
    }

    /// Replaces them at once. Answers whether they are others than those in use.
    ///
    /// # Errors
    /// As [`Certificates::new`]; those in use stay.
    pub fn replace(&self, certificates: &[u8], key: &[u8]) -> Result<bool, TlsError> {
        let new = digest(certificates, key);
        let parsed = parse(certificates, key);
        let mut current = self.current.lock();
        current.seen = new;
        match parsed {
            Ok(pair) => {
                let changed = current.used != new;
                (current.pair, current.used, current.refused) = (Arc::new(pair), new, None);
                Ok(changed)
            }
            Err(error) => {
                current.refused = Some(new);
                Err(error)
            }
        }
    }

    /// The same of what a look at the files has found, for whoever looks again and again: what is new is taken at the second look that
    /// finds it, since at the first somebody may still be writing, and what is refused is refused once.
    ///
    /// # Errors
    /// As [`Certificates::replace`].
    pub fn look(&self, certificates: &[u8], key: &[u8]) -> Result<bool, TlsError> {
        let new = digest(certificates, key);
        {
            let mut current = self.current.lock();
            let settled = std::mem::replace(&mut current.seen, new) == new;
            if new == current.used {
                current.refused = None;
                return Ok(false);
            }
            if !settled || current.refused == Some(new) {
                return Ok(false);
            }
        }
        self.replace(certificates, key)
    }

    /// What servers with these certificates shake hands by. One is enough for all sockets, and for all certificates to come.
    ///
    /// # Errors
    /// None today: the versions are the provider's own.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Certificates(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.lock().pair))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

/// Which certificates the other end may stand on.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Those that Mozilla's browsers trust, as they were when this was built.
    Public,
    /// These alone, in PEM: for an authority of one's own.
    Pem(Vec<u8>),
}

/// What clients that trust these roots shake hands by.
///
/// # Errors
/// When the roots are no certificates.
pub fn client_config(roots: &Roots) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Roots(error.to_string()))?
        .with_root_certificates(root_store(roots)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// A client's handshake that failed, as it is told: that it was the handshake, and why, in at most [`MAX_REASON_CHARS`] printable characters.
///
/// ```
/// use std::io;
///
/// let told = trunkline_core::tls::no_handshake(&io::Error::new(io::ErrorKind::InvalidData, "bad\ncertificate"));
/// assert_eq!((told.kind(), &*told.to_string()), (io::ErrorKind::InvalidData, "no TLS: bad?certificate"));
/// ```
pub fn no_handshake(error: &io::Error) -> io::Error {
    let shown = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let reason: String = error.to_string().chars().map(shown).take(MAX_REASON_CHARS).collect();
    io::Error::new(error.kind(), format!("no TLS: {reason}"))
}

/// Named here, so that no state of the process decides.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn parse(certificates: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    if certificates.len().max(key.len()) > MAX_PEM_BYTES {
        return Err(TlsError::File("a file of certificates or of a key is over 1 MiB".into()));
    }
    let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| TlsError::Certificates(format!("this is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError::Certificates("are not there: the file has none in PEM".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(format!("is not PEM: {error}")))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) {
            TlsError::Mismatch
        } else if let rustls::Error::InvalidCertificate(error) = error {
            TlsError::Certificates(format!("are bad: {error:?}"))
        } else {
            TlsError::Key("is of no kind that is known, or damaged".into())
        }
    })
}

fn digest(certificates: &[u8], key: &[u8]) -> [u8; 32] {
    let lengths = [certificates.len().to_be_bytes(), key.len().to_be_bytes()].concat();
    Sha256::new().chain_update(lengths).chain_update(certificates).chain_update(key).finalize().into()
}

fn root_store(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Public => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::Pem(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| TlsError::Roots(format!("are not PEM: {error}")))?;
                store.add(certificate).map_err(|error| TlsError::Roots(format!("one is bad: {error}")))?;
            }
        }
    }
    if store.is_empty() { Err(TlsError::Roots("there is none in PEM".into())) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_handshake_is_told_in_printable_characters() {
        let error = io::Error::new(io::ErrorKind::InvalidData, "a b\tc\u{e9}~");
        assert_eq!(no_handshake(&error).to_string(), "no TLS: a b?c?~");
        let long = io::Error::other("x".repeat(2 * MAX_REASON_CHARS));
        assert_eq!(no_handshake(&long).to_string().len(), "no TLS: ".len() + MAX_REASON_CHARS);
    }
}
