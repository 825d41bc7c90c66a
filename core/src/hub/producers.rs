//! Whom a request of a user goes to: a producer over the wire that wants it, or the application of this process.

use super::registry::{Producer, ProducerName};
use super::{Hub, Mail, Request, deliver};
use crate::auth::{Grant, Scopes};
use crate::error::{CloseReason, ErrorCode};
use crate::id::{ConnectionId, FrameId, UserId};
#[cfg(doc)]
use crate::limits::Limits;
use crate::manager::{Ask, Control, Credential, Manager, Output, Pace, Revoked, Tokens};
use crate::protocol::{self, ReplyError, RequestBody, RevokeTarget};
use crate::sync::{PushError, Wakers, broken};
use crate::time::{Clock, Timestamp, UnixTime};

/// How many runs of a producer that is gone are let go under one lock.
const RELEASE_BATCH: usize = 64;

impl Hub {
    /// Makes a connection the producer of its name; the one that was it before is closed, and lets go of its runs.
    ///
    /// # Errors
    /// What to close it with: as many producers as allowed are there, or the server shuts down.
    pub(super) fn join_producer(&self, name: ProducerName, producer: Producer<Mail>) -> Result<(), CloseReason> {
        let superseded = self.inner.producers.lock().join(name, producer)?;
        if let Some(old) = superseded {
            let waker = old.handle.close(CloseReason::Superseded);
            self.release_producer(old.connection, self.now().at, |_| true);
            waker.into_iter().for_each(std::task::Waker::wake);
        }
        Ok(())
    }

    /// Takes a producer's connection out, which is lost since `since`.
    pub(super) fn leave_producer(&self, name: &ProducerName, connection: ConnectionId, since: Timestamp) {
        self.inner.producers.lock().leave(name, connection);
        self.release_producer(connection, since, |_| true);
    }

    /// A producer's connection has a new token. Answers whether that holds: it was not revoked, and the connection is still the
    /// producer of its name.
    pub(super) fn retoken_producer(
        &self,
        name: &ProducerName,
        connection: ConnectionId,
        grant: &Grant,
        lasts_longer: bool,
    ) -> bool {
        broken!(RetokensAfterTheLook => self.retoken_after_the_look(name, connection, grant, lasts_longer));
        let token = Credential::of(grant);
        let retoken =
            |change: &dyn Fn(&Tokens) -> Tokens| self.inner.producers.lock().retoken(name, connection, change);
        // Before the look: whatever is revoked from here on is found here.
        let Some(before) = retoken(&|tokens| tokens.with(&token)) else { return false };
        let holds = !self.is_revoked(grant, None);
        retoken(&|_| if holds { before.refreshed(&token, lasts_longer) } else { before.clone() });
        holds
    }

    /// A producer has other scopes than before: what it may not work on any more goes to others, and it is asked what nobody was
    /// there to answer.
    pub(super) fn rescope_producer(&self, connection: ConnectionId, scopes: &Scopes) {
        self.release_producer(connection, self.now().at, |user| !scopes.may_publish_for(user));
        self.ask_orphans();
    }

    /// Asks a producer that has come what was left by others.
    pub(super) fn ask_orphans(&self) {
        for shard in 0..self.inner.shards.len() {
            self.on_shard(shard, |shard, _| shard.ask_orphans());
        }
    }

    /// Tells every producer that the server shuts down; nobody joins any more.
    pub(super) fn drain_producers(&self, pace: &mut Pace) {
        let producers: Vec<Mail> = self.inner.producers.lock().drain();
        let mut wakers = Wakers::default();
        for mail in producers {
            deliver(Output::Control(mail, Control::GoingAway(pace.turn())), &mut wakers, &mut Vec::new());
        }
        wakers.wake();
    }

    /// Whether a connection is there that is no producer's.
    pub(super) fn has_devices(&self) -> bool {
        self.inner.gate.inside() > self.inner.producers.lock().len()
    }

    /// Puts a request before whoever answers for its user. Where nobody does, that is the answer; one whose producer has gone
    /// waits for the next until its deadline.
    pub(super) fn ask(&self, ask: Ask, again: bool) {
        let candidates = self.inner.producers.lock().for_user(ask.user());
        for (connection, mail) in &candidates {
            if self.ask_producer(&ask, *connection, mail) {
                return;
            }
        }
        if *self.inner.requests_taken.lock() {
            self.ask_application(ask);
        } else if again {
            let shard = self.shard_of(ask.user());
            self.on_shard(shard, |shard, _| shard.orphaned(ask.request()));
            broken!(OverlooksWhoHasCome => ());
            // One that has come before that was noted has not found it. Those that refused it have no room, or go.
            if self.inner.producers.lock().is_wanted_beside(ask.user(), &candidates) {
                self.on_shard(shard, |shard, _| shard.ask_orphans());
            }
        } else {
            let error = ReplyError::new(ErrorCode::Unavailable, "no agent is here to answer: try again later");
            self.act(ask.user(), |shard, now| shard.answer(now, ask.user(), ask.request(), Err(error)));
        }
    }

    /// Lets nobody in any more by a session, a token, or any token of `user` that was issued up to now, and closes who is connected
    /// by it with 4201. Answers how many connections that were. When it returns, none of them is given an event any more.
    ///
    /// With [`RevokeTarget::All`] the claim `iat` decides, against this hub's clock: a token that has none is refused, and so is one of
    /// the same second where `iat` has whole seconds. Sessions from before it are forgotten: who names one gets another.
    ///
    /// `expires` says when all that is revoked has expired, where the caller knows. The revocation is remembered at least until then, or
    /// until a connected token that it names expires; where neither is known, for [`Limits::revocation_memory`] at least, and
    /// [`Limits::revocations`] bounds what is remembered.
    pub fn revoke(&self, user: &UserId, target: &RevokeTarget, expires: Option<UnixTime>) -> u32 {
        let revoked = match target {
            RevokeTarget::Session(session) => Revoked::Session(*session),
            RevokeTarget::Token(token) => Revoked::Token(token.clone()),
            RevokeTarget::All => Revoked::All,
        };
        let expires = expires.max(self.inner.producers.lock().expiry_of(user, &revoked));
        let closed = self.act(user, |shard, now| shard.revoke(now, user, &revoked, expires));
        // A producer that joins from here on finds itself revoked.
        let producers = self.inner.producers.lock().revoked(user, &revoked);
        let also = producers.len();
        for mail in producers {
            if let Some(waker) = mail.close(CloseReason::TokenRevoked) {
                waker.wake();
            }
        }
        closed.saturating_add(u32::try_from(also).unwrap_or(u32::MAX))
    }

    /// Lets the runs that a connection has of those whom it `leaves` go on under their leases, and asks others what it was
    /// asked by them.
    fn release_producer(&self, connection: ConnectionId, since: Timestamp, leaves: impl Fn(&UserId) -> bool) {
        for shard in 0..self.inner.shards.len() {
            let some =
                |shard: &mut Manager<Mail>, now| shard.release_producer(now, connection, since, RELEASE_BATCH, &leaves);
            while self.on_shard(shard, some) {}
            self.on_shard(shard, |shard, _| shard.ask_again(connection, &leaves));
        }
    }

    /// Whether the request is with this producer now.
    fn ask_producer(&self, ask: &Ask, connection: ConnectionId, mail: &Mail) -> bool {
        let shard = self.shard_of(ask.user());
        let Some(request) = on_the_wire(&self.inner.request_names.name(shard, ask.request()), ask) else {
            return false;
        };
        let control = Control::Request(Box::new(request));
        let bytes = control.bytes();
        // What users ask leaves room for what a run must be told.
        match mail.push_spare(control, bytes) {
            Ok(waker) => {
                self.on_shard(shard, |shard, _| shard.asked(ask.request(), connection));
                waker.into_iter().for_each(std::task::Waker::wake);
            }
            Err(PushError::Full | PushError::Closed) => return false,
        }
        broken!(ForgetsWhoHasGone => true);
        // It may have gone, or have lost the user, before that was noted, and has not looked at it then.
        if !self.inner.producers.lock().serves(connection, ask.user()) {
            self.on_shard(shard, |shard, _| shard.ask_again(connection, |user| user == ask.user()));
        }
        true
    }

    fn ask_application(&self, ask: Ask) {
        match self.inner.requests.offer(Request::new(self.clone(), ask), 1) {
            Ok(Some(waker)) => waker.wake(),
            Ok(None) => {}
            Err((request, PushError::Full)) => request.turn_away(),
            // The application is gone, which the request says as it drops.
            Err((_, PushError::Closed)) => {}
        }
    }
}

/// A request as a producer sees it: its id leads back to its shard.
fn on_the_wire(name: &str, ask: &Ask) -> Option<protocol::Request> {
    let body = match ask {
        Ask::Message(ask) => RequestBody::UserMessage {
            run_id: ask.run,
            thread_id: ask.thread.clone(),
            content: ask.content.clone(),
            metadata: ask.metadata.clone(),
        },
        Ask::Command(ask) => RequestBody::Command { name: ask.name.clone(), args: ask.args.clone() },
    };
    // Short and printable: it always is an id.
    let id = FrameId::new(name).ok()?;
    Some(protocol::Request { id, user_id: ask.user().sub().to_owned(), body })
}
