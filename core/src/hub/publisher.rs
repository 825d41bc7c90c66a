//! What a verified token may do for others: start runs, send their events, publish, revoke. Producers over the wire and back
//! ends over HTTP both act through it.

use std::time::Duration;

use serde_json::value::RawValue;

use super::{Hub, Mail};
use crate::auth::{AuthError, Grant, Scopes};
use crate::error::ErrorCode;
use crate::id::{ConnectionId, RunId, SessionId, TopicId, UserId};
use crate::limits::MIN_RUN_LEASE;
use crate::manager::{Credential, Custom, Held, Holder, LeasedStart, OnDisconnect, RequestId, RunStart};
use crate::protocol::{self, OrderPolicy, PublishTarget, Reply, ReplyError, ReplyOk, RevokeTarget, RunEvent, WhenLeft};
use crate::stream::RunError;
use crate::sync::Arc;
use crate::time::{Clock, Now, UnixTime};

/// The longest grace that a run may have for its user's return. 24 h.
const MAX_GRACE: Duration = Duration::from_secs(86_400);

/// What a frame or a request over HTTP comes to.
pub(crate) type Outcome = Result<ReplyOk, ReplyError>;

/// A token that was verified, with the hub it acts on.
#[derive(Clone)]
pub(crate) struct Publisher<'a> {
    pub(crate) hub: &'a Hub,
    /// Whose token it is: it acts within this tenant.
    pub(crate) owner: &'a UserId,
    pub(crate) scopes: &'a Scopes,
}

impl Publisher<'_> {
    /// Starts a run, or takes one over. Without a holder its lease runs from event to event.
    pub(crate) fn start_run(
        &self,
        frame: protocol::RunStart,
        holder: Option<(ConnectionId, &Mail)>,
    ) -> Result<Held, ReplyError> {
        let user = self.user(&frame.user_id)?;
        let lease = frame.lease.map(|seconds| self.lease(seconds)).transpose()?;
        let on_disconnect = on_disconnect(frame.on_disconnect, frame.grace)?;
        let start = RunStart {
            user: user.clone(),
            producer: holder.map(|(_, mail)| Arc::clone(mail)),
            request: None,
            random: self.hub.inner.entropy.id(),
            thread: frame.thread_id,
            agent_name: frame.agent_name,
            parent: frame.parent_run_id,
            message: frame.message,
            order: frame.order.unwrap_or(OrderPolicy::Reject),
            on_disconnect,
        };
        let holder = holder.map(|(connection, mail)| Holder { connection, handle: Arc::clone(mail) });
        let leased = LeasedStart { holder, start, wanted: frame.run_id, key: frame.key, lease };
        Ok(self.hub.act(&user, |shard, now| shard.start_leased(now, leased))?)
    }

    /// Takes an event of a run in that `by` holds.
    pub(crate) fn run_event(&self, by: Option<ConnectionId>, run: RunId, n: u64, event: RunEvent) -> Outcome {
        let shard = self.hub.shard_of_hash(run.shard_hash());
        let may = |user: &UserId| self.scopes.may_publish_for(user);
        let receipt = self.hub.on_shard(shard, |shard, now| shard.leased_event(now, by, run, n, event, may))?;
        Ok(ReplyOk::Receipt(receipt))
    }

    /// Takes note of an event that `by` has sent and that cannot be read.
    pub(crate) fn skip_event(&self, by: ConnectionId, run: RunId, n: u64) -> Result<(), ReplyError> {
        let shard = self.hub.shard_of_hash(run.shard_hash());
        let may = |user: &UserId| self.scopes.may_publish_for(user);
        Ok(self.hub.on_shard(shard, |shard, now| shard.skip_event(now, by, run, n, may))?)
    }

    /// Sends an event of the application's own to a user or a topic.
    pub(crate) fn publish(
        &self,
        target: PublishTarget,
        custom: Custom,
        data: Box<RawValue>,
        ephemeral: bool,
    ) -> Outcome {
        let receipt = match target {
            PublishTarget::User(sub) => {
                let user = self.user(&sub)?;
                if ephemeral {
                    self.hub.publish_ephemeral_raw(&user, custom, data)?
                } else {
                    self.hub.act(&user, |shard, now| shard.publish(now, &user, custom, data))?
                }
            }
            PublishTarget::Topic(name) => {
                if !self.scopes.may_publish_to_topics() {
                    return Err(not_found());
                }
                if custom.thread.is_some() {
                    return Err(invalid("`thread_id` stands only beside `user_id`"));
                }
                let topic = TopicId::of(self.owner, name);
                if ephemeral {
                    self.hub.publish_topic_ephemeral_raw(&topic, custom.name, data)?
                } else {
                    self.hub.publish_topic_raw(&topic, custom, data)?
                }
            }
        };
        Ok(ReplyOk::Receipt(receipt))
    }

    /// Ends a session, a token, or all that a user has.
    pub(crate) fn revoke(&self, sub: &str, target: &RevokeTarget, expires: Option<UnixTime>) -> Outcome {
        if !self.scopes.is_admin() {
            return Err(not_found());
        }
        let user = self.named(sub)?;
        Ok(ReplyOk::Closed { closed: self.hub.revoke(&user, target, expires) })
    }

    /// Answers a request that a producer was asked.
    pub(crate) fn answer(&self, reply: Reply) {
        let Some((shard, request)) = self.hub.parse_request(reply.id.as_str()) else { return };
        let may = |user: &UserId| self.scopes.may_publish_for(user);
        let outcome = match reply.outcome {
            Ok(ReplyOk::Result(result)) => Ok(ReplyOk::Result(result)),
            // What a producer says beside a result is nobody's to read, and who asks is always given one.
            Ok(
                ReplyOk::Done
                | ReplyOk::Run { .. }
                | ReplyOk::Cancel { .. }
                | ReplyOk::Refreshed { .. }
                | ReplyOk::Receipt(_)
                | ReplyOk::Stream(_)
                | ReplyOk::RunStarted { .. }
                | ReplyOk::Closed { .. }
                | ReplyOk::Server(_)
                | ReplyOk::User(_),
            ) => Ok(ReplyOk::Result(RawValue::NULL.to_owned())),
            Err(error) => Err(error),
        };
        self.hub.on_shard(shard, |shard, now| shard.answer_by(now, request, outcome, may));
    }

    /// A user this token may act for; one that is not there and one that is not its to see are alike.
    pub(crate) fn user(&self, sub: &str) -> Result<UserId, ReplyError> {
        let user = self.named(sub)?;
        if self.scopes.may_publish_for(&user) { Ok(user) } else { Err(not_found()) }
    }

    /// Whoever has this name in the token's tenant.
    pub(super) fn named(&self, sub: &str) -> Result<UserId, ReplyError> {
        self.owner.beside(sub).map_err(|problem| invalid(format!("`user_id` {problem}")))
    }

    fn lease(&self, seconds: f64) -> Result<Duration, ReplyError> {
        let max = self.hub.limits().run_lease_max;
        let lease = Duration::try_from_secs_f64(seconds).ok().filter(|lease| (MIN_RUN_LEASE..=max).contains(lease));
        lease.ok_or_else(|| invalid(format!("`lease` must be from 1 to {} seconds", max.as_secs())))
    }
}

impl Hub {
    /// What a token grants now. It is verified where no session is, as over HTTP.
    pub(crate) fn grant(&self, token: &str) -> Result<Grant, AuthError> {
        self.grant_at(token, self.now())
    }

    /// The same for a session. To attach looks at what was revoked once more, under its lock; this look is what refuses a
    /// revoked token where an expired one is refused.
    pub(super) fn grant_at(&self, token: &str, now: Now) -> Result<Grant, AuthError> {
        let grant = self.inner.verifier.verify(token, now.unix)?;
        if self.is_revoked(&grant, None) { Err(AuthError::Revoked) } else { Ok(grant) }
    }

    /// Whether what was granted holds no more.
    pub(crate) fn is_over(&self, grant: &Grant) -> Option<AuthError> {
        if self.is_revoked(grant, None) {
            return Some(AuthError::Revoked);
        }
        (self.now().unix >= grant.expires + self.limits().token_leeway).then_some(AuthError::Expired)
    }

    /// The session that a producer continues, or the one it gets.
    pub(super) fn session_of(&self, grant: &Grant, named: Option<SessionId>) -> SessionId {
        let now = self.now();
        let continued = self.shard(self.shard_of(&grant.user)).continued(now, &grant.user, named);
        continued.unwrap_or_else(|| self.new_session(now))
    }

    /// A session that begins now.
    pub(super) fn new_session(&self, now: Now) -> SessionId {
        SessionId::new(now.unix, self.inner.entropy.id())
    }

    /// Whether the token that was granted, or the session it comes with, was revoked.
    pub(super) fn is_revoked(&self, grant: &Grant, session: Option<SessionId>) -> bool {
        let shard = self.shard(self.shard_of(&grant.user));
        shard.is_revoked(self.now(), &grant.user, session, &Credential::of(grant))
    }

    /// The shard and the number of a request, as its name on the wire says.
    fn parse_request(&self, id: &str) -> Option<(usize, RequestId)> {
        self.inner.request_names.parse(id).filter(|(shard, _)| *shard < self.inner.shards.len())
    }
}

fn on_disconnect(policy: Option<WhenLeft>, grace: Option<f64>) -> Result<OnDisconnect, ReplyError> {
    let policy = policy.unwrap_or(WhenLeft::Continue);
    let grace = match (policy, grace) {
        (_, None) => Duration::ZERO,
        (WhenLeft::Cancel, Some(seconds)) => Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|grace| *grace <= MAX_GRACE)
            .ok_or_else(|| invalid("`grace` must be from 0 to 86400 seconds"))?,
        (WhenLeft::Continue | WhenLeft::Pause, Some(_)) => {
            return Err(invalid("`grace` stands only beside `on_disconnect` = `cancel`"));
        }
    };
    Ok(match policy {
        WhenLeft::Continue => OnDisconnect::Continue,
        WhenLeft::Cancel => OnDisconnect::CancelAfter(grace),
        WhenLeft::Pause => OnDisconnect::Pause,
    })
}

impl From<Held> for ReplyOk {
    fn from(held: Held) -> Self {
        Self::RunStarted { run_id: held.run, last_n: held.last_n }
    }
}

impl From<RunError> for ReplyError {
    fn from(error: RunError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

pub(super) fn not_found() -> ReplyError {
    ReplyError::new(ErrorCode::NotFound, "no such user, run or topic for this token")
}

fn invalid(message: impl Into<String>) -> ReplyError {
    ReplyError::new(ErrorCode::Invalid, message)
}
