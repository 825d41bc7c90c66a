//! A file that others replace while the server runs.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use trunkline_core::auth::MAX_JWKS_BYTES;
use trunkline_core::auth::source::{FetchError, FetchKeys};

/// Keys in a file. It is read anew each time, so that it does not matter how it is replaced, or on which file system.
#[derive(Clone, Debug)]
pub struct FileKeys {
    path: PathBuf,
}

impl FileKeys {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl FetchKeys for FileKeys {
    async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        let path = self.path.clone();
        // A file system may take its time, and the sockets must not wait for it.
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let read = read.map_err(|_| FetchError::new("reading was cut off"))?;
        read.map_err(|error| FetchError::new(error.to_string()))
    }
}

/// One byte more than a key set may have is enough to refuse it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_JWKS_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
