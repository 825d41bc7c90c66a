//! Which requests wait on this shard, and which producer over the wire was asked each.

use std::collections::{BTreeMap, BTreeSet};

use super::requests::Waiting;
use super::{Manager, Output, RequestId};
use crate::id::{ConnectionId, UserId};
use crate::protocol::{ReplyError, ReplyOk};
use crate::time::Now;

/// The requests of this shard that wait, by their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    waiting: BTreeMap<RequestId, (UserId, Option<ConnectionId>)>,
    by_connection: BTreeMap<ConnectionId, BTreeSet<RequestId>>,
    /// Their producer went, and no other was there.
    orphans: BTreeSet<RequestId>,
}

impl Asked {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn insert(&mut self, request: RequestId, user: &UserId) {
        self.waiting.insert(request, (user.clone(), None));
    }

    pub(super) fn remove(&mut self, request: RequestId) {
        if let Some((_, Some(connection))) = self.waiting.remove(&request) {
            self.forget(connection, request);
        }
        self.orphans.remove(&request);
    }

    fn forget(&mut self, connection: ConnectionId, request: RequestId) {
        if let Some(requests) = self.by_connection.get_mut(&connection) {
            requests.remove(&request);
            if requests.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
    }
}

impl<H: Clone> Manager<H> {
    /// Takes note that a producer was asked; one that has been answered meanwhile is nobody's.
    pub fn asked(&mut self, request: RequestId, connection: ConnectionId) {
        if let Some((_, asked)) = self.asked.waiting.get_mut(&request) {
            let before = asked.replace(connection);
            self.asked.orphans.remove(&request);
            self.asked.by_connection.entry(connection).or_default().insert(request);
            if let Some(before) = before.filter(|before| *before != connection) {
                self.asked.forget(before, request);
            }
        }
    }

    /// Takes note that nobody is there whom to ask again: the next producer that comes is.
    pub fn orphaned(&mut self, request: RequestId) {
        if self.asked.waiting.contains_key(&request) {
            self.asked.orphans.insert(request);
        }
    }

    /// Asks again what a producer has not answered that works no longer for the users that `leaves` names.
    pub fn ask_again(&mut self, connection: ConnectionId, leaves: impl Fn(&UserId) -> bool) {
        self.assert_drained();
        let mut requests = self.asked.by_connection.remove(&connection).unwrap_or_default();
        let waiting = &self.asked.waiting;
        let left: Vec<_> =
            requests.extract_if(.., |request| waiting.get(request).is_none_or(|(user, _)| leaves(user))).collect();
        if !requests.is_empty() {
            self.asked.by_connection.insert(connection, requests);
        }
        for request in left {
            if let Some((_, asked)) = self.asked.waiting.get_mut(&request) {
                *asked = None;
            }
            self.ask_once_more(request);
        }
    }

    /// Asks a producer that has come what was left by others.
    pub fn ask_orphans(&mut self) {
        self.assert_drained();
        for request in std::mem::take(&mut self.asked.orphans) {
            self.ask_once_more(request);
        }
    }

    /// A producer's answer to a request of a user for whom it `may` act; to a message, which a run alone accepts, it may only
    /// be a refusal. Answers whether anybody waited for it.
    pub fn answer_by(
        &mut self,
        now: Now,
        request: RequestId,
        outcome: Result<ReplyOk, ReplyError>,
        may: impl FnOnce(&UserId) -> bool,
    ) -> bool {
        let Some(user) = self.asked.waiting.get(&request).map(|(user, _)| user.clone()).filter(may) else {
            return false;
        };
        let waiting = self.users.get(&user).and_then(|user| user.requests.get(&request));
        if outcome.is_ok() && waiting.is_none_or(Waiting::is_message) {
            return false;
        }
        self.answer(now, &user, request, outcome)
    }

    fn ask_once_more(&mut self, request: RequestId) {
        let Some((id, _)) = self.asked.waiting.get(&request) else { return };
        let waiting = self.users.get(id).and_then(|user| user.requests.get(&request));
        let ask = waiting.and_then(|waiting| waiting.ask(request, id));
        self.outputs.extend(ask.map(Output::AskAgain));
    }
}
