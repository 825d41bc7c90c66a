//! Which producers are connected, and whose turn it is to be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::auth::Scopes;
use crate::error::CloseReason;
use crate::id::{ConnectionId, FrameId, SessionId, UserId};
use crate::level::LevelNotice;
use crate::manager::{Revoked, Tokens};
use crate::time::UnixTime;

/// A producer by its token's subject and its own lasting name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProducerName {
    pub(super) owner: UserId,
    pub(super) id: FrameId,
}

/// The connected producers of a hub.
#[derive(Debug)]
pub(super) struct Registry<H> {
    producers: BTreeMap<ProducerName, Producer<H>>,
    /// Who was asked last.
    last: Option<ProducerName>,
    max: usize,
    draining: bool,
    level: Arc<LevelNotice>,
}

#[derive(Clone, Debug)]
pub(super) struct Producer<H> {
    pub(super) connection: ConnectionId,
    pub(super) session: SessionId,
    /// Among all sockets of the hub, the later one's is higher.
    pub(super) order: u64,
    pub(super) handle: H,
    pub(super) scopes: Scopes,
    /// Whose requests it wants; `None` is everybody's whom its scopes name.
    pub(super) users: Option<BTreeSet<UserId>>,
    pub(super) tokens: Tokens,
}

impl<H> Producer<H> {
    fn wants(&self, user: &UserId) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user)) && self.scopes.may_publish_for(user)
    }
}

impl<H: Clone> Registry<H> {
    pub(super) fn new(max: usize) -> Self {
        Self { producers: BTreeMap::new(), last: None, max, draining: false, level: Arc::default() }
    }

    /// Lets a producer in; answers the one of the same name that it supersedes.
    ///
    /// # Errors
    /// When a later socket has the name already, as many are connected as allowed, or the server shuts down.
    pub(super) fn join(
        &mut self,
        name: ProducerName,
        producer: Producer<H>,
    ) -> Result<Option<Producer<H>>, CloseReason> {
        if self.draining {
            return Err(CloseReason::Restart);
        }
        if self.producers.len() >= self.max && !self.producers.contains_key(&name) {
            return Err(CloseReason::TryAgainLater);
        }
        if self.producers.get(&name).is_some_and(|known| known.order > producer.order) {
            // A try that was given up and is read late.
            return Err(CloseReason::Superseded);
        }
        Ok(self.producers.insert(name, producer))
    }

    /// Takes exactly this connection out.
    pub(super) fn leave(&mut self, name: &ProducerName, connection: ConnectionId) {
        if self.producers.get(name).is_some_and(|producer| producer.connection == connection) {
            self.producers.remove(name);
        }
    }

    /// Other tokens, on which it stands from now on. Answers those before.
    pub(super) fn retoken(
        &mut self,
        name: &ProducerName,
        connection: ConnectionId,
        change: impl FnOnce(&Tokens) -> Tokens,
    ) -> Option<Tokens> {
        let producer = self.producers.get_mut(name).filter(|producer| producer.connection == connection)?;
        let after = change(&producer.tokens);
        Some(std::mem::replace(&mut producer.tokens, after))
    }

    /// Other scopes, which count from now on.
    pub(super) fn rescope(&mut self, name: &ProducerName, connection: ConnectionId, scopes: Scopes) {
        if let Some(producer) = self.producers.get_mut(name).filter(|producer| producer.connection == connection) {
            producer.scopes = scopes;
        }
    }

    /// Whether this connection is a producer's that is there and wants this user's requests.
    pub(super) fn serves(&self, connection: ConnectionId, user: &UserId) -> bool {
        self.producers.values().any(|producer| producer.connection == connection && producer.wants(user))
    }

    /// Whether anybody wants this user's requests who is none of those that were `asked`.
    pub(super) fn is_wanted_beside(&self, user: &UserId, asked: &[(ConnectionId, H)]) -> bool {
        let is_asked = |connection| asked.iter().any(|(asked, _)| *asked == connection);
        self.producers.values().any(|producer| producer.wants(user) && !is_asked(producer.connection))
    }

    /// Whom to ask for this user, the one whose turn it is first; all who want it.
    pub(super) fn for_user(&mut self, user: &UserId) -> Vec<(ConnectionId, H)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.last.as_ref().map_or(Unbounded, Excluded);
        let rest = self.producers.range::<ProducerName, _>((after, Unbounded)).chain(&self.producers);
        let mut found: Vec<(&ProducerName, &Producer<H>)> = Vec::new();
        for (name, producer) in rest.filter(|(_, producer)| producer.wants(user)) {
            // Those after the last one come a second time, in the same order.
            if found.first().is_some_and(|(first, _)| *first == name) {
                break;
            }
            found.push((name, producer));
        }
        let first = found.first().map(|(name, _)| (*name).clone());
        let asked = found.into_iter().map(|(_, producer)| (producer.connection, producer.handle.clone())).collect();
        self.last = first.or_else(|| self.last.take());
        asked
    }

    /// Lets nobody in any more; answers who is there to be told.
    pub(super) fn drain(&mut self) -> Vec<H> {
        self.draining = true;
        self.producers.values().map(|producer| producer.handle.clone()).collect()
    }

    /// The level changes; answers who is there to be told, where it is newer than what they know.
    pub(super) fn set_level(&mut self, notice: &Arc<LevelNotice>) -> Vec<H> {
        if notice.number <= self.level.number {
            return Vec::new();
        }
        self.level = Arc::clone(notice);
        self.producers.values().map(|producer| producer.handle.clone()).collect()
    }

    /// The level that whoever joins has.
    pub(super) const fn level(&self) -> &Arc<LevelNotice> {
        &self.level
    }

    /// Where each of them is reached.
    pub(super) fn handles(&self) -> Vec<H> {
        self.producers.values().map(|producer| producer.handle.clone()).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.producers.len()
    }

    /// When a token expires on which one of this owner's stands.
    pub(super) fn expiry_of(&self, owner: &UserId, revoked: &Revoked) -> Option<UnixTime> {
        let Revoked::Token(token) = revoked else { return None };
        let theirs = self.producers.iter().filter(|(name, _)| name.owner == *owner);
        theirs.filter_map(|(_, producer)| producer.tokens.expiry(token)).max()
    }

    /// Those of this owner's whom a revocation concerns.
    pub(super) fn revoked(&self, owner: &UserId, revoked: &Revoked) -> Vec<H> {
        let hit = |producer: &Producer<H>| match revoked {
            Revoked::Session(session) => producer.session == *session,
            Revoked::Token(token) => producer.tokens.has(token),
            Revoked::All => true,
        };
        let theirs = self.producers.iter().filter(|(name, producer)| name.owner == *owner && hit(producer));
        theirs.map(|(_, producer)| producer.handle.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(sub: &str) -> UserId {
        UserId::new(Some("acme"), sub).unwrap()
    }

    fn name(id: &str) -> ProducerName {
        ProducerName { owner: user("agent"), id: FrameId::new(id).unwrap() }
    }

    fn producer(connection: u32, scope: &str, users: Option<&[&str]>) -> Producer<u32> {
        Producer {
            connection: ConnectionId::from_bits(connection.into()),
            session: SessionId::from_bits(connection.into()),
            order: connection.into(),
            handle: connection,
            scopes: Scopes::parse(scope, &user("agent")).unwrap(),
            users: users.map(|users| users.iter().map(|sub| user(sub)).collect()),
            tokens: Tokens::default(),
        }
    }

    fn asked(registry: &mut Registry<u32>, sub: &str) -> Vec<u32> {
        registry.for_user(&user(sub)).into_iter().map(|(_, handle)| handle).collect()
    }

    #[test]
    fn those_who_want_a_user_are_asked_in_turns_and_nobody_else() {
        let mut registry = Registry::new(9);
        registry.join(name("a"), producer(1, "publish", None)).unwrap();
        registry.join(name("b"), producer(2, "publish", Some(&["bob"]))).unwrap();
        registry.join(name("c"), producer(3, "publish", Some(&["ann", "bob"]))).unwrap();
        registry.join(name("d"), producer(4, "publish:bob", None)).unwrap();
        assert_eq!(asked(&mut registry, "ann"), [1, 3]);
        assert_eq!(asked(&mut registry, "ann"), [3, 1]);
        assert_eq!(asked(&mut registry, "ann"), [1, 3]);
        assert_eq!(asked(&mut registry, "bob"), [2, 3, 4, 1]);
        let rival = UserId::new(Some("rival"), "ann").unwrap();
        assert!(registry.for_user(&rival).is_empty());
    }

    #[test]
    fn who_has_come_since_others_were_asked_is_known() {
        let mut registry = Registry::new(9);
        registry.join(name("a"), producer(1, "publish", None)).unwrap();
        let before = registry.for_user(&user("ann"));
        assert!(!registry.is_wanted_beside(&user("ann"), &before));
        registry.join(name("b"), producer(2, "publish", Some(&["bob"]))).unwrap();
        assert!(!registry.is_wanted_beside(&user("ann"), &before), "it wants another's");
        registry.join(name("c"), producer(3, "publish", None)).unwrap();
        assert!(registry.is_wanted_beside(&user("ann"), &before));
    }

    #[test]
    fn a_name_is_one_connection_and_the_late_end_of_the_old_one_takes_nothing_out() {
        let mut registry = Registry::new(1);
        assert!(registry.join(name("a"), producer(1, "publish", None)).unwrap().is_none());
        let old = registry.join(name("a"), producer(2, "publish", None)).unwrap();
        assert_eq!(old.map(|old| old.handle), Some(1));
        registry.leave(&name("a"), ConnectionId::from_bits(1));
        let serves = |registry: &Registry<u32>, n| registry.serves(ConnectionId::from_bits(n), &user("ann"));
        assert!(!serves(&registry, 1) && serves(&registry, 2));
        registry.rescope(&name("a"), ConnectionId::from_bits(2), Scopes::parse("publish:bob", &user("agent")).unwrap());
        assert!(!serves(&registry, 2), "it has lost her");
        let late = registry.join(name("a"), producer(1, "publish", None));
        assert_eq!(late.unwrap_err(), CloseReason::Superseded, "a try that was given up takes nothing");
        let more = registry.join(name("b"), producer(3, "publish", None));
        assert_eq!(more.unwrap_err(), CloseReason::TryAgainLater);
        registry.leave(&name("a"), ConnectionId::from_bits(2));
        assert!(registry.for_user(&user("ann")).is_empty());
        registry.drain();
        assert_eq!(registry.join(name("a"), producer(4, "publish", None)).unwrap_err(), CloseReason::Restart);
    }
}
