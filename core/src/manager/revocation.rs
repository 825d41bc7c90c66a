//! Sessions and tokens that let nobody in any more.

use std::collections::{BTreeMap, BTreeSet};

use super::{Manager, Output};
use crate::error::CloseReason;
use crate::id::{ConnectionId, SessionId, UserId};
use crate::time::{Now, Timestamp};

/// What is revoked of a user.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revoked {
    /// A session.
    Session(SessionId),
    /// A token, by its `jti`.
    Token(Box<str>),
}

/// The `jti`s that a connection stands on: of the token that lasts longest, and of the latest. Revoking either ends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Box<[Box<str>]>);

impl Tokens {
    /// Those of a connection that comes in.
    pub fn new(token: Option<&str>) -> Self {
        Self(token.map(Box::from).into_iter().collect())
    }

    /// With one more, while it is being looked at.
    #[must_use]
    pub fn with(&self, token: Option<&str>) -> Self {
        Self(self.0.iter().cloned().chain(token.map(Box::from)).collect())
    }

    /// After a refresh: a token that does not last as long leaves the one it stands on.
    #[must_use]
    pub fn refreshed(&self, token: Option<&str>, lasts_longer: bool) -> Self {
        let lasting = self.0.first().filter(|_| !lasts_longer).cloned();
        Self(lasting.into_iter().chain(token.map(Box::from)).collect())
    }

    /// Whether it is one of them.
    pub fn has(&self, token: &str) -> bool {
        self.0.iter().any(|known| **known == *token)
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
        })
    }
}

/// What is revoked on this shard: the newest, each until its time is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Denied {
    until: BTreeMap<(UserId, Revoked), Timestamp>,
    order: BTreeSet<(Timestamp, UserId, Revoked)>,
}

impl Denied {
    fn insert(&mut self, now: Timestamp, user: &UserId, revoked: Revoked, until: Timestamp, max: usize) {
        if let Some(known) = self.until.insert((user.clone(), revoked.clone()), until) {
            self.order.remove(&(known, user.clone(), revoked.clone()));
        }
        self.order.insert((until, user.clone(), revoked));
        while self.order.len() > max || self.order.first().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, user, revoked)) = self.order.pop_first() else { break };
            self.until.remove(&(user, revoked));
        }
    }

    fn has(&self, now: Timestamp, user: &UserId, revoked: Revoked) -> bool {
        self.until.get(&(user.clone(), revoked)).is_some_and(|until| *until > now)
    }
}

impl<H: Clone> Manager<H> {
    /// Revokes, and closes what is connected by it. Answers how many connections that were.
    pub fn revoke(&mut self, now: Now, id: &UserId, revoked: &Revoked) -> u32 {
        self.assert_drained();
        let until = now.at + self.limits.revocation_memory;
        self.denied.insert(now.at, id, revoked.clone(), until, self.denied_share);
        let devices = self.users.get(id).map(|user| user.channel.devices.as_slice()).unwrap_or_default();
        let hit = devices.iter().filter(|device| match revoked {
            Revoked::Session(session) => device.session == *session,
            Revoked::Token(token) => device.tokens.has(token),
        });
        let before = self.outputs.len();
        self.outputs.extend(hit.map(|device| Output::Close(device.handle.clone(), CloseReason::TokenRevoked)));
        // Bounded by the connections of a user, far below 2^32.
        (self.outputs.len() - before) as u32
    }

    /// Whether a token, or the session it comes with, was revoked.
    pub fn is_revoked(&self, now: Now, id: &UserId, session: Option<SessionId>, token: Option<&str>) -> bool {
        if self.denied.until.is_empty() {
            return false;
        }
        session.is_some_and(|session| self.denied.has(now.at, id, Revoked::Session(session)))
            || token.is_some_and(|token| self.denied.has(now.at, id, Revoked::Token(token.into())))
    }

    /// A connection has a new token. Answers whether that holds; where not, nothing has changed.
    pub fn refresh(
        &mut self,
        now: Now,
        id: &UserId,
        connection: ConnectionId,
        token: Option<&str>,
        lasts_longer: bool,
    ) -> bool {
        if self.is_revoked(now, id, None, token) {
            return false;
        }
        let devices = self.users.get_mut(id).map(|user| user.channel.devices.as_mut_slice()).unwrap_or_default();
        if let Some(device) = devices.iter_mut().find(|device| device.connection == connection) {
            device.tokens = device.tokens.refreshed(token, lasts_longer);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stands_on_the_token_that_lasts_longest_and_on_the_latest() {
        let after = |tokens: &[(&str, bool)]| {
            let (first, rest) = tokens.split_first().unwrap();
            let mut stands = Tokens::new(Some(first.0));
            for (token, lasts_longer) in rest {
                stands = stands.refreshed(Some(token), *lasts_longer);
            }
            ["a", "b", "c"].map(|token| stands.has(token))
        };
        assert_eq!(after(&[("a", true), ("b", true)]), [false, true, false]);
        assert_eq!(after(&[("a", true), ("b", false)]), [true, true, false]);
        assert_eq!(after(&[("a", true), ("b", false), ("c", false)]), [true, false, true]);
        assert_eq!(after(&[("a", true), ("b", false), ("c", true)]), [false, false, true]);
    }

    #[test]
    fn the_newest_are_remembered_each_until_its_time() {
        let user = UserId::new(None, "ann").unwrap();
        let token = |n: u64| Revoked::Token(n.to_string().into());
        let at = Timestamp::from_micros;
        let mut denied = Denied::default();
        for n in 0..3 {
            denied.insert(at(n), &user, token(n), at(n + 10), 2);
        }
        let has = |denied: &Denied, now, n| denied.has(at(now), &user, token(n));
        assert!(!has(&denied, 3, 0) && has(&denied, 3, 1) && has(&denied, 3, 2));
        assert!(has(&denied, 10, 1) && !has(&denied, 11, 1));
        denied.insert(at(12), &user, token(9), at(22), 2);
        assert_eq!(denied.until.len(), 1, "what is over makes room");
        denied.insert(at(13), &user, token(9), at(23), 2);
        assert_eq!((denied.until.len(), denied.order.len()), (1, 1));
        assert!(!denied.has(at(13), &UserId::new(None, "bob").unwrap(), token(9)));
    }
}
