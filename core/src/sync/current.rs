//! A value that another may take the place of while it is used.

use std::sync::Arc;

use super::Lock;

/// A value that many use, and that is replaced as a whole. Whoever has one goes on with it, whatever comes in its place.
#[derive(Debug)]
pub struct Current<T>(Lock<Arc<T>>);

impl<T> Current<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Self(Lock::new(Arc::new(value)))
    }

    /// Whoever asks from now on has `value`.
    pub fn replace(&self, value: T) {
        let value = Arc::new(value);
        let old = std::mem::replace(&mut *self.0.lock(), value);
        // Freed, secrets wiped, outside the lock.
        drop(old);
    }

    /// The value that counts now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.lock())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_value_keeps_it_and_whoever_asks_has_the_new_one() {
        let current = Current::new(1);
        let before = current.get();
        current.replace(2);
        assert_eq!((*before, *current.get()), (1, 2));
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::time::Duration;

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    use super::Current;
    use crate::auth::fake::FakeKeys;
    use crate::auth::{ClaimRules, NewToken, TokenVerifier};
    use crate::id::UserId;
    use crate::sync::faults::{Fault, is_on};
    use crate::sync::models::check;
    use crate::time::UnixTime;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn key(secret: &str) -> FakeKeys {
        FakeKeys::new(secret.as_bytes(), ClaimRules::default()).unwrap()
    }

    fn token(secret: &str) -> String {
        let user = UserId::new(None, "ann").unwrap();
        let ttl = Duration::from_secs(60);
        key(secret).issue(&NewToken { user: &user, issued_at: NOW, ttl, scope: "", token_id: None }).unwrap()
    }

    fn verifies(keys: &[FakeKeys], token: &str) -> bool {
        keys.iter().any(|key| key.verify(token, NOW).is_ok())
    }

    fn rotate(current: &Current<Vec<FakeKeys>>, secrets: &[&str]) {
        if is_on(Fault::EmptiesTheKeys) {
            current.replace(Vec::new());
        }
        current.replace(secrets.iter().map(|secret| key(secret)).collect());
    }

    /// Property: while the new key is added and then the old one dropped, each verification goes by one whole set: one key of the
    /// two always counts, the new one for good, and the old one for none that begins after it was dropped.
    #[test]
    fn keys_rotate_under_verifications() {
        check(|| {
            let shared = Arc::new((Current::new(vec![key("old")]), AtomicBool::new(false)));
            let operator = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    rotate(&shared.0, &["old", "new"]);
                    rotate(&shared.0, &["new"]);
                    shared.1.store(true, Ordering::Release);
                })
            };
            let (old, new) = (token("old"), token("new"));
            let mut set = shared.0.get();
            let new_counts = verifies(&set, &new);
            assert!(new_counts || verifies(&set, &old), "no key counts");
            let is_dropped = shared.1.load(Ordering::Acquire);
            if !is_on(Fault::KeepsTheKeys) {
                set = shared.0.get();
            }
            assert!(!(is_dropped && verifies(&set, &old)), "a key that was dropped counts");
            assert!(verifies(&set, &new) || !new_counts && !is_dropped, "the new key counts no more");
            operator.join().unwrap();
        });
    }
}
