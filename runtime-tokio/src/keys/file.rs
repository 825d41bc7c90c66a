//! A file that others replace while the server runs.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use trunkline_core::auth::MAX_JWKS_BYTES;
use trunkline_core::auth::source::{FetchError, FetchKeys};

/// Keys in a file. It is read anew each time, so that it does not matter how it is replaced, or on which file system.
#[derive(Clone, Debug)]
pub struct FileKeys {
    path: PathBuf,
    /// Held while it is read: a read that a file system never ends keeps one thread, and not one more for each fetch.
    reading: Arc<Mutex<()>>,
}

impl FileKeys {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), reading: Arc::default() }
    }
}

impl FetchKeys for FileKeys {
    async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        let path = self.path.clone();
        let reading = Arc::clone(&self.reading).lock_owned().await;
        // A file system may take its time, and the sockets must not wait for it.
        let read = tokio::task::spawn_blocking(move || {
            let _reading = reading;
            read(&path)
        });
        let read = read.await;
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

#[cfg(all(test, unix))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_never_ends_takes_one_thread_however_often_it_is_fetched() {
        let dir = std::env::temp_dir().join(format!("trunkline-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let pipe = dir.join("keys");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(2).build().unwrap();
        let mut keys = FileKeys::new(&pipe);
        let others = runtime.block_on(async {
            for _ in 0..3 {
                tokio::time::timeout(Duration::from_millis(50), keys.fetch()).await.expect_err("nobody writes");
            }
            tokio::time::timeout(Duration::from_secs(5), tokio::task::spawn_blocking(|| 7)).await
        });
        runtime.shutdown_background();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(others, Ok(Ok(7))), "the threads are all taken");
    }
}
