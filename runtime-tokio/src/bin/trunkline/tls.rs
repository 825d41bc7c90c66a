//! The certificates of the server: loaded at the start, and again whenever they are replaced.

use trunkline_tokio::tls::{CertificateFiles, TlsError};

use crate::Fault;
use crate::config::TlsSettings;

/// Those that the settings name; what is wrong with them is a mistake in the settings.
pub(crate) async fn load(settings: &TlsSettings) -> Result<CertificateFiles, Fault> {
    let loaded = CertificateFiles::load(settings.certificate.clone(), settings.key.clone()).await;
    loaded.map_err(|error| {
        let setting = match error {
            TlsError::Key(_) | TlsError::Mismatch => "tls_key_file",
            TlsError::Certificates(_) | TlsError::Roots(_) => "tls_certificate_file",
            // It says which file.
            TlsError::File(_) => "tls_certificate_file` or `tls_key_file",
        };
        Fault::usage(format!("setting `{setting}`: {error}"))
    })
}

/// Looks at the files now and then, and at once after a hang-up, for as long as the runtime lives.
pub(crate) fn keep(files: &CertificateFiles) {
    tokio::spawn(files.clone().watch(CertificateFiles::EVERY, log));
    #[cfg(unix)]
    reload_on_hangup(files.clone());
}

#[cfg(unix)]
fn reload_on_hangup(files: CertificateFiles) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            log(files.reload().await.map(drop));
        }
    });
}

fn log(outcome: Result<(), TlsError>) {
    match outcome {
        Ok(()) => tracing::info!("the certificates were loaded again"),
        Err(error) => tracing::error!(%error, "the certificates stay as they are"),
    }
}
