//! Tokens: who issues them, who verifies them, and which of them were revoked.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_core::auth::{AuthError, Grant, Scopes, TokenVerifier};
use trunkline_core::id::{TokenId, UserId};
use trunkline_core::time::UnixTime;

/// A token that was shown and found good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// Whose, by number.
    pub(super) user: usize,
    pub(super) id: u64,
    pub(super) expires: UnixTime,
    /// The hub knows it as revoked.
    pub(super) revoked: bool,
}

/// Knows everybody, and what was revoked.
#[derive(Debug)]
pub(super) struct Issuer {
    users: Vec<(UserId, Scopes)>,
    leeway: Duration,
    shown: Mutex<Vec<Shown>>,
    news: AtomicBool,
    revoked: Mutex<Revoked>,
}

#[derive(Debug, Default)]
struct Revoked {
    tokens: BTreeSet<u64>,
    /// Of each user: up to when.
    before: Vec<UnixTime>,
}

impl Issuer {
    /// These users, each with the scopes of its tokens.
    pub(super) fn new(users: Vec<(UserId, Scopes)>, leeway: Duration) -> Self {
        let before = vec![UnixTime::default(); users.len()];
        let revoked = Mutex::new(Revoked { tokens: BTreeSet::new(), before });
        Self { users, leeway, shown: Mutex::default(), news: AtomicBool::new(false), revoked }
    }

    pub(super) fn user(&self, user: usize) -> &UserId {
        &self.users[user].0
    }

    pub(super) fn number_of(&self, user: &UserId) -> Option<usize> {
        self.users.iter().position(|(known, _)| known == user)
    }

    /// A token with this number, which must be new.
    pub(super) fn issue(user: usize, id: u64, issued: UnixTime, life: Duration) -> String {
        // Three parts, as every token has that a server looks at.
        format!("{user}-{id}.{}.{}", issued.as_micros(), (issued + life).as_micros())
    }

    /// What was shown since the last look.
    pub(super) fn take_shown(&self) -> Vec<Shown> {
        if !self.news.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        self.shown.lock().map(|mut shown| std::mem::take(&mut *shown)).unwrap_or_default()
    }

    /// The hub was told that this token lets nobody in any more.
    pub(super) fn revoke(&self, id: u64) {
        if let Ok(mut revoked) = self.revoked.lock() {
            revoked.tokens.insert(id);
        }
    }

    /// The same of all tokens of a user up to now, by the server's calendar.
    pub(super) fn revoke_all(&self, user: usize, now: UnixTime) {
        if let Ok(mut revoked) = self.revoked.lock() {
            revoked.before[user] = now.max(revoked.before[user]);
        }
    }

    /// A hub that begins anew knows of no revocation.
    pub(super) fn forget_revocations(&self) {
        if let Ok(mut revoked) = self.revoked.lock() {
            revoked.tokens.clear();
            revoked.before.fill(UnixTime::default());
        }
    }

    fn is_revoked(&self, user: usize, id: u64, issued: UnixTime) -> bool {
        self.revoked.lock().is_ok_and(|revoked| revoked.tokens.contains(&id) || issued <= revoked.before[user])
    }

    fn read(token: &str) -> Option<(usize, u64, u64, u64)> {
        let mut fields = token.split(['-', '.']);
        let mut next = || fields.next()?.parse::<u64>().ok();
        Some((usize::try_from(next()?).ok()?, next()?, next()?, next()?))
    }
}

impl TokenVerifier for Issuer {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        let (user, id, issued, expires) = Self::read(token).ok_or(AuthError::Invalid("no token of this issuer"))?;
        let (name, scopes) = self.users.get(user).ok_or(AuthError::Invalid("nobody"))?;
        let (issued, expires) = (UnixTime::from_micros(issued), UnixTime::from_micros(expires));
        if now >= expires + self.leeway {
            return Err(AuthError::Expired);
        }
        let revoked = self.is_revoked(user, id, issued);
        if let Ok(mut shown) = self.shown.lock() {
            shown.push(Shown { user, id, expires, revoked });
        }
        self.news.store(true, Ordering::Relaxed);
        let token_id = TokenId::new(&format!("j{id}")).ok();
        Ok(Grant { user: name.clone(), issued_at: Some(issued), expires, token_id, scopes: scopes.clone() })
    }
}
