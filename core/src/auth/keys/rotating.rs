//! A key set that is replaced while tokens are verified.

use std::sync::Arc;

use super::set::KeySet;
use crate::auth::{AuthError, Grant, TokenVerifier};
use crate::sync::Current;
use crate::time::UnixTime;

/// A [`KeySet`] that another may take the place of without a restart: keys rotate, connections stay.
///
/// A verification goes by the set that was there when it began. A grant lasts as long as its token: whoever drops a key because
/// it has leaked also revokes what it signed.
#[derive(Debug)]
pub struct RotatingKeys(Current<KeySet>);

impl RotatingKeys {
    /// Begins with `keys`.
    pub fn new(keys: KeySet) -> Self {
        Self(Current::new(keys))
    }

    /// Every verification that begins from now on goes by `keys`.
    pub fn replace(&self, keys: KeySet) {
        self.0.replace(keys);
    }

    /// The set that counts now.
    pub fn current(&self) -> Arc<KeySet> {
        self.0.get()
    }
}

impl TokenVerifier for RotatingKeys {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        self.current().verify(token, now)
    }
}
