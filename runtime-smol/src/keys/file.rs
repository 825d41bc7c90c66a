//! A file that others replace while the server runs.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smol::lock::Mutex;
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
        let reading = self.reading.lock_arc().await;
        // A file system may take its time, and the sockets must not wait for it.
        let read = smol::unblock(move || {
            let _reading = reading;
            read(&path)
        });
        read.await.map_err(|error| FetchError::of(&error))
    }
}

/// One byte more than a key set may have is enough to refuse it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_JWKS_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use smol::future::or;

    use super::*;

    /// How often this process has `path` open.
    fn opened(path: &Path) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        open.filter(|entry| std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|target| target == path))
            .count()
    }

    async fn after<T>(wait: u64, value: T) -> T {
        smol::Timer::after(Duration::from_millis(wait)).await;
        value
    }

    #[test]
    fn a_file_that_never_ends_takes_one_thread_however_often_it_is_fetched() {
        let dir = std::env::temp_dir().join(format!("trunkline-smol-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let pipe = dir.canonicalize().unwrap().join("keys");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // While it is open for writing whoever reads it waits for more.
        let writer = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
        let mut keys = FileKeys::new(&pipe);
        smol::block_on(async {
            while opened(&pipe) < 2 {
                let cut = or(async { Some(keys.fetch().await) }, after(100, None)).await;
                assert_eq!(cut, None, "nobody writes");
            }
            for _ in 0..3 {
                assert_eq!(or(async { Some(keys.fetch().await) }, after(100, None)).await, None, "nobody writes");
            }
            assert_eq!(opened(&pipe), 2, "one reads, and this test holds it open");
            io::Write::write_all(&mut &writer, b"{}").unwrap();
            drop(writer);
            while opened(&pipe) > 0 {
                after(10, ()).await;
            }
        });
        std::fs::write(dir.join("file"), "{}").unwrap();
        assert_eq!(smol::block_on(FileKeys::new(dir.join("file")).fetch()), Ok(b"{}".to_vec()));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_is_read_a_byte_beyond_what_a_key_set_may_have() {
        let path = std::env::temp_dir().join(format!("trunkline-smol-long-{}", std::process::id()));
        for (length, read) in [(MAX_JWKS_BYTES, MAX_JWKS_BYTES), (3 * MAX_JWKS_BYTES, MAX_JWKS_BYTES + 1)] {
            std::fs::write(&path, vec![b' '; length]).unwrap();
            assert_eq!(smol::block_on(FileKeys::new(&path).fetch()).unwrap().len(), read);
        }
        std::fs::remove_file(&path).unwrap();
        smol::block_on(FileKeys::new(&path).fetch()).expect_err("it is gone");
    }
}
