//! A key set that is replaced while tokens are verified.

use std::sync::Arc;

use super::set::KeySet;
use crate::auth::{AuthError, Grant, TokenVerifier};
use crate::sync::Lock;
use crate::time::UnixTime;

/// A [`KeySet`] that another may take the place of without a restart: keys rotate, connections stay.
///
/// A verification goes by the set that was there when it began. A grant lasts as long as its token: whoever drops a key because
/// it has leaked also revokes what it signed.
#[derive(Debug)]
pub struct RotatingKeys(Lock<Arc<KeySet>>);

impl RotatingKeys {
    /// Begins with `keys`.
    pub fn new(keys: KeySet) -> Self {
        Self(Lock::new(Arc::new(keys)))
    }

    /// Every verification that begins from now on goes by `keys`.
    pub fn replace(&self, keys: KeySet) {
        let keys = Arc::new(keys);
        let old = std::mem::replace(&mut *self.0.lock(), keys);
        // Freed, secrets wiped, outside the lock.
        drop(old);
    }

    /// The set that counts now.
    pub fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.0.lock())
    }
}

impl TokenVerifier for RotatingKeys {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        self.current().verify(token, now)
    }
}
