//! Users, sessions and tokens that let nobody in any more.

use super::denied::Entry;
use super::user::Device;
use super::{Manager, Output};
use crate::auth::Grant;
use crate::error::CloseReason;
use crate::id::{ConnectionId, SessionId, TokenId, UserId};
use crate::time::{Now, UnixTime};

/// What is revoked of a user.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revoked {
    /// A session.
    Session(SessionId),
    /// A token, by its `jti`.
    Token(TokenId),
    /// Every token that was issued up to now, and every session.
    All,
}

/// What of a token a revocation looks at.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// Its `jti`.
    pub id: Option<TokenId>,
    /// Its `iat`.
    pub issued_at: Option<UnixTime>,
    /// Its `exp`.
    pub expires: UnixTime,
}

impl Credential {
    /// What a revocation looks at of what was granted.
    pub fn of(grant: &Grant) -> Self {
        Self { id: grant.token_id.clone(), issued_at: grant.issued_at, expires: grant.expires }
    }
}

/// The tokens that a connection stands on, those that have a `jti`: the one that lasts longest, and the latest. Revoking either
/// ends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Box<[(TokenId, UnixTime)]>);

impl Tokens {
    /// Those of a connection that comes in.
    pub fn new(token: &Credential) -> Self {
        Self(token.named().into_iter().collect())
    }

    /// With one more, while it is being looked at.
    #[must_use]
    pub fn with(&self, token: &Credential) -> Self {
        Self(self.0.iter().cloned().chain(token.named()).collect())
    }

    /// After a refresh: a token that does not last as long leaves the one it stands on.
    #[must_use]
    pub fn refreshed(&self, token: &Credential, lasts_longer: bool) -> Self {
        let lasting = self.0.first().filter(|_| !lasts_longer).cloned();
        Self(lasting.into_iter().chain(token.named()).collect())
    }

    /// Whether it is one of them.
    pub fn has(&self, token: &TokenId) -> bool {
        self.expiry(token).is_some()
    }

    /// Their ids and ends, which `Debug` does not show.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<(&str, UnixTime)> {
        self.0.iter().map(|(id, expires)| (id.as_str(), *expires)).collect()
    }

    /// When this one of them expires.
    pub fn expiry(&self, token: &TokenId) -> Option<UnixTime> {
        self.0.iter().find(|(known, _)| known == token).map(|(_, expires)| *expires)
    }
}

impl Credential {
    fn named(&self) -> Option<(TokenId, UnixTime)> {
        self.id.clone().map(|id| (id, self.expires))
    }
}

/// A `jti` is nobody's to read in a log.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A `jti` is nobody's to read in a log.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// A `jti` is nobody's to read in a log.
impl std::fmt::Debug for Revoked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Session(_) => "Session(..)",
            Self::Token(_) => "Token(..)",
            Self::All => "All",
        })
    }
}

impl<H: Clone> Manager<H> {
    /// Revokes, and takes out and closes what is connected by it. Answers how many connections that were.
    ///
    /// The revocation is remembered at least until `expires`, or until a connected token that it names expires where that is later. Where
    /// neither is known it is for [`Limits::revocation_memory`](crate::limits::Limits::revocation_memory) at least.
    pub fn revoke(&mut self, now: Now, id: &UserId, revoked: &Revoked, expires: Option<UnixTime>) -> u32 {
        self.assert_drained();
        let expires = expires.max(self.expiry_of(id, revoked));
        let lasts = expires.map(|at| at.saturating_since(now.unix).saturating_add(self.limits.token_leeway));
        let over = now.at + lasts.unwrap_or(self.limits.revocation_memory);
        let entry = Entry { over, ends: expires.is_some(), since: now.unix };
        self.denied.insert(now.at, id, revoked.clone(), entry);
        self.end_devices(now, id, CloseReason::TokenRevoked, |device| revoked.concerns(device))
    }

    /// Takes out and closes one connection of a user, or all of them; they may come back. Answers how many that were.
    pub fn disconnect(&mut self, now: Now, id: &UserId, connection: Option<ConnectionId>) -> u32 {
        self.assert_drained();
        let is_it = |device: &Device<H>| connection.is_none_or(|connection| device.connection == connection);
        self.end_devices(now, id, CloseReason::Disconnected, is_it)
    }

    fn end_devices(&mut self, now: Now, id: &UserId, reason: CloseReason, ends: impl Fn(&Device<H>) -> bool) -> u32 {
        let Some(user) = self.users.get_mut(id) else { return 0 };
        let devices = &mut user.channel.devices;
        let before = self.outputs.len();
        let gone = devices.extract_if(.., |device| ends(device));
        self.outputs.extend(gone.map(|device| Output::Close(device.handle, reason)));
        devices.shrink_to_fit();
        // Bounded by the connections of a user, far below 2^32.
        let closed = (self.outputs.len() - before) as u32;
        self.settle(now, id);
        closed
    }

    /// Whether a token, or the session it comes with, was revoked.
    pub fn is_revoked(&self, now: Now, id: &UserId, session: Option<SessionId>, token: &Credential) -> bool {
        if self.denied.is_empty() {
            return false;
        }
        let counts = |what| self.denied.get(now.at, id, what).is_some();
        // What expires is good again where the calendar is set back: it is denied as long as it is known. A session's id is never
        // given again.
        let known = |what| self.denied.known(id, what);
        let all = known(Revoked::All).is_some_and(|all| match token.issued_at {
            Some(issued) => issued <= all.since,
            None => counts(Revoked::All),
        });
        all || session.is_some_and(|session| known(Revoked::Session(session)).is_some())
            || token.id.as_ref().is_some_and(|token| known(Revoked::Token(token.clone())).is_some())
    }

    /// The session that a connection continues: one from before all of the user's were revoked is forgotten.
    pub fn continued(&self, now: Now, id: &UserId, session: Option<SessionId>) -> Option<SessionId> {
        let all = self.denied.get(now.at, id, Revoked::All);
        session.filter(|session| all.is_none_or(|all| session.made_at() > all.since))
    }

    /// A connection has a new token. Answers whether that holds; where not, nothing has changed: the token was revoked, or the
    /// connection is not there any more.
    pub fn refresh(
        &mut self,
        now: Now,
        id: &UserId,
        connection: ConnectionId,
        token: &Credential,
        lasts_longer: bool,
    ) -> bool {
        if self.is_revoked(now, id, None, token) {
            return false;
        }
        let devices = self.users.get_mut(id).map(|user| user.channel.devices.as_mut_slice()).unwrap_or_default();
        let Some(device) = devices.iter_mut().find(|device| device.connection == connection) else { return false };
        device.tokens = device.tokens.refreshed(token, lasts_longer);
        true
    }

    /// When what is revoked expires, as far as those tell who are connected by it.
    fn expiry_of(&self, id: &UserId, revoked: &Revoked) -> Option<UnixTime> {
        let Revoked::Token(token) = revoked else { return None };
        let devices = self.users.get(id).map(|user| user.channel.devices.as_slice()).unwrap_or_default();
        devices.iter().filter_map(|device| device.tokens.expiry(token)).max()
    }
}

impl Revoked {
    /// What it names, which `Debug` does not show.
    #[cfg(test)]
    pub(super) fn name(&self) -> String {
        match self {
            Self::Session(session) => session.to_string(),
            Self::Token(token) => token.as_str().to_owned(),
            Self::All => String::new(),
        }
    }

    fn concerns<H>(&self, device: &Device<H>) -> bool {
        match self {
            Self::Session(session) => device.session == *session,
            Self::Token(token) => device.tokens.has(token),
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::limits::Limits;
    use crate::time::Timestamp;

    #[test]
    fn a_connection_stands_on_the_token_that_lasts_longest_and_on_the_latest() {
        let token = |id: &str| Credential {
            id: Some(id.parse().unwrap()),
            issued_at: None,
            expires: UnixTime::from_secs(id.len() as u64),
        };
        let after = |tokens: &[(&str, bool)]| {
            let (first, rest) = tokens.split_first().unwrap();
            let mut stands = Tokens::new(&token(first.0));
            for (id, lasts_longer) in rest {
                stands = stands.refreshed(&token(id), *lasts_longer);
            }
            ["a", "bb", "c"].map(|id| stands.has(&id.parse().unwrap()))
        };
        assert_eq!(after(&[("a", true), ("bb", true)]), [false, true, false]);
        assert_eq!(after(&[("a", true), ("bb", false)]), [true, true, false]);
        assert_eq!(after(&[("a", true), ("bb", false), ("c", false)]), [true, false, true]);
        assert_eq!(after(&[("a", true), ("bb", false), ("c", true)]), [false, false, true]);
        let both = Tokens::new(&token("a")).with(&token("bb"));
        assert_eq!(both.expiry(&"bb".parse().unwrap()), Some(UnixTime::from_secs(2)));
        assert_eq!(both.expiry(&"c".parse().unwrap()), None);
    }

    #[test]
    fn what_was_revoked_stays_so_where_the_calendar_is_set_back_after_its_end() {
        let at =
            |secs: u64, unix| Now { at: Timestamp::from_micros(secs * 1_000_000), unix: UnixTime::from_secs(unix) };
        let token = |id: &str, issued| Credential {
            id: id.parse().ok(),
            issued_at: Some(issued).filter(|issued| *issued > 0).map(UnixTime::from_secs),
            expires: UnixTime::from_secs(1_060),
        };
        let ann = UserId::new(None, "ann").unwrap();
        for what in [Revoked::Token("a".parse().unwrap()), Revoked::All] {
            let mut shard: Manager<u32> = Manager::new(Arc::new(Limits::default()), 1);
            shard.revoke(at(0, 1_010), &ann, &what, Some(UnixTime::from_secs(1_060)));
            // Its end is 55 s later; the calendar says 1,020 again.
            let later = at(100, 1_020);
            assert!(shard.is_revoked(later, &ann, None, &token("a", 1_000)), "{what:?}");
            assert!(!shard.is_revoked(later, &ann, None, &token("b", 1_011)), "{what:?}");
            // Nobody can tell when this one was issued, so it must come in again at some time.
            assert!(!shard.is_revoked(later, &ann, None, &token("b", 0)), "{what:?}");
        }
    }
}
