//! One shard of the manager: users, their devices, logs, runs and requests. Pure: no bytes, sockets, tokens or clocks.
//!
//! Everything about one user lives in one value on one shard, so a delivery to somebody else cannot be expressed:
//! an operation names a user, and can reach only what hangs off that user. Operations answer their caller by return
//! value and everybody else by [`Output`]s, which the caller drains with [`Manager::poll_output`] after each of them.

mod absence;
mod acks;
mod approvals;
mod asked;
mod bytes;
mod capacity;
mod denied;
mod drain;
mod ephemeral;
mod grown;
mod housekeeping;
mod kept;
mod keys;
mod leases;
mod levels;
mod requests;
mod revocation;
mod runs;
mod status;
mod survey;
mod tally;
mod topics;
mod user;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::error::CloseReason;
use crate::id::{ApprovalId, ConnectionId, IdempotencyKey, RunId, SessionId, ThreadId, TopicId, UserId};
use crate::level::LevelNotice;
use crate::limits::Limits;
use crate::metrics::ShardTally;
use crate::protocol::{Position, Reply, ReplyError, ReplyOk, Request};
use crate::stream::{Entry, Log, Reducer, Resumption};
use crate::time::{Now, Timestamp};

pub use absence::OnDisconnect;
pub use acks::DeviceStatus;
pub use approvals::Decision;
use asked::Asked;
use bytes::Sizes;
use denied::Denied;
pub use drain::{Leave, Pace};
pub use ephemeral::Ephemeral;
pub use grown::Grown;
pub use housekeeping::Deadline;
use housekeeping::Due;
use kept::Kept;
use leases::Leases;
pub use leases::{Held, Holder, LeasedStart, Taken};
pub use requests::{Ask, CommandAsk, MessageAsk, NewCommand, NewMessage, RequestId};
pub use revocation::{Credential, Revoked, Tokens};
use runs::OpenRun;
pub use runs::{Entered, RunStart, Started};
pub use status::{OpenRunStatus, UserStatus};
pub use survey::Survey;
use tally::{Appended, is_known};
use topics::Topic;
use user::{Device, Scratch, User};

/// How many entries one read may take, so that no reader holds the shard for long.
const READ_ENTRIES: usize = 64;
/// The same for one that is behind, whose texts are merged.
const READ_ENTRIES_BEHIND: usize = 256;

/// One shard. `H` is what outputs are addressed to: a mailbox in the hub, a number in tests.
#[derive(Clone, Debug)]
pub struct Manager<H> {
    limits: Arc<Limits>,
    /// Of the keys of each.
    key_sizes: Sizes,
    /// This shard's part of [`Limits::total_dedup_bytes`].
    keys_share: usize,
    /// This shard's part of [`Limits::total_log_bytes`].
    log_share: usize,
    /// Boxed, since a tree's nodes stand half empty.
    users: BTreeMap<UserId, Box<User<H>>>,
    topics: BTreeMap<TopicId, Topic<H>>,
    deadlines: BTreeSet<(Timestamp, Due)>,
    outputs: VecDeque<Output<H>>,
    leases: Leases,
    logs: Sizes,
    kept: Kept,
    open_runs: usize,
    /// This shard's part of [`Limits::runs`].
    max_runs: usize,
    /// This shard's part of [`Limits::kept_streams`].
    max_kept: usize,
    last_epoch: u64,
    last_request: u64,
    asked: Asked,
    /// Within this shard's part of [`Limits::revocations`].
    denied: Denied,
    /// This shard's part of [`Limits::requests`].
    requests_share: usize,
    draining: bool,
    level: Arc<LevelNotice>,
    /// Bytes held when the hub was last told that they grow.
    bytes_seen: usize,
    scratch: Scratch,
    tally: ShardTally,
}

/// What an operation means for others than its caller.
#[derive(Clone, Debug)]
pub enum Output<H> {
    /// A log that this connection reads has grown.
    Ready(H, Grown),
    /// A frame for one connection, or a word for one run's producer.
    Control(H, Control),
    /// End this connection.
    Close(H, CloseReason),
    /// A request for the application. The ids are what it answers with.
    Ask(Ask),
    /// The same once more: whoever was asked has gone.
    AskAgain(Ask),
}

/// What goes to one mailbox beside the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// The answer to a request.
    Reply(Reply),
    /// The server shuts down: tell the client, and close in its turn.
    GoingAway(Leave),
    /// The service works better or worse from now on.
    ServiceLevel(Arc<LevelNotice>),
    /// An event that is for now only.
    Ephemeral(Ephemeral),
    /// What a user asks of a producer over the wire.
    Request(Box<Request>),
    /// A producer's run should stop.
    CancelRequested {
        /// Which run.
        run: RunId,
        /// Who asks: the user's subject, or `disconnect` where [`OnDisconnect::CancelAfter`] does.
        by: Box<str>,
    },
    /// No device of the user is there: the producer's run should pause.
    Paused {
        /// Which run.
        run: RunId,
    },
    /// A device is there again: the producer's run may go on.
    Resumed {
        /// Which run.
        run: RunId,
    },
    /// What a producer's run waited for is decided; the run has been resumed.
    Decided {
        /// Which run.
        run: RunId,
        /// What was to be decided.
        approval_id: ApprovalId,
        /// What was decided.
        decision: Decision,
    },
}

impl Control {
    /// What it counts as in a mailbox: about the bytes of its frame.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Reply(reply) => 128 + payload_bytes(&reply.outcome),
            Self::Ephemeral(event) => event.frame.len(),
            Self::Request(request) => 256 + request.body.payload_bytes(),
            Self::GoingAway(_) | Self::CancelRequested { .. } | Self::Paused { .. } | Self::Resumed { .. } => 128,
            Self::Decided { decision, .. } => 256 + decision.bytes(),
            // At most one waits, and it ends no connection whose mailbox is full.
            Self::ServiceLevel(_) => 0,
        }
    }

    /// Whether it makes one that still waits in the mailbox needless: a run is told once to stop, however often that is
    /// asked, and of the presence of devices what is true now, so that it always has room for what it must not miss.
    pub fn supersedes(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::CancelRequested { run, .. }, Self::CancelRequested { run: same, .. }) => run == same,
            (
                Self::Paused { run } | Self::Resumed { run },
                Self::Paused { run: same } | Self::Resumed { run: same },
            ) => run == same,
            (Self::ServiceLevel(_), Self::ServiceLevel(_)) => true,
            (
                Self::CancelRequested { .. }
                | Self::Paused { .. }
                | Self::Resumed { .. }
                | Self::Reply(_)
                | Self::GoingAway(_)
                | Self::ServiceLevel(_)
                | Self::Ephemeral(_)
                | Self::Request(_)
                | Self::Decided { .. },
                _,
            ) => false,
        }
    }
}

fn payload_bytes(outcome: &Result<ReplyOk, ReplyError>) -> usize {
    match outcome {
        Ok(ReplyOk::Result(json)) => json.get().len(),
        // Everything else is of fixed size.
        Ok(_) => 0,
        Err(error) => error.code.as_str().len() + error.message.len(),
    }
}

/// A verified connection that wants in.
#[derive(Clone, Debug)]
pub struct Attach<H> {
    /// Where its outputs go.
    pub handle: H,
    /// The connection.
    pub connection: ConnectionId,
    /// Rises from one accepted socket to the next.
    pub order: u64,
    /// Whose.
    pub user: UserId,
    /// The session it says it continues.
    pub session: Option<SessionId>,
    /// The session it gets where it continues none.
    pub fresh_session: SessionId,
    /// Its token.
    pub token: Credential,
    /// Where it was in the user's own stream.
    pub resume: Option<Position>,
    /// The threads it watches; none is all.
    pub threads: Vec<ThreadId>,
    /// Connections that are attached in all, this one included.
    pub attached: usize,
}

/// A connection that is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its session.
    pub session: SessionId,
    /// Where it continues in the user's own stream.
    pub stream: Resumption,
}

/// What a cursor finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Entries in order, as many as fit; none when the cursor is at the head.
    Entries {
        /// Shared with the log.
        entries: Vec<Entry>,
        /// How many events the cursor is behind the head.
        behind: u64,
        /// When the head came.
        appended: Timestamp,
    },
    /// The cursor fell out of the log.
    Lost,
    /// The connection is not attached any more.
    Detached,
}

/// Where an event of no run belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// The conversation, if any.
    pub thread: Option<ThreadId>,
    /// The application's name for it.
    pub name: String,
    /// Makes a repeat harmless.
    pub key: Option<IdempotencyKey>,
}

impl<H: Clone> Manager<H> {
    /// An empty shard, one of `shards`.
    pub fn new(limits: Arc<Limits>, shards: usize) -> Self {
        Self {
            log_share: limits.total_log_bytes / shards.max(1),
            keys_share: limits.total_dedup_bytes / shards.max(1),
            key_sizes: Sizes::default(),
            requests_share: (limits.requests / shards.max(1)).max(1),
            denied: Denied::new((limits.revocations / shards.max(1)).max(1)),
            max_runs: (limits.runs / shards.max(1)).max(1),
            // Whoever has just fallen idle is always kept: what was stored for it is told to be.
            max_kept: (limits.kept_streams / shards.max(1)).max(1),
            limits,
            users: BTreeMap::new(),
            topics: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            leases: Leases::default(),
            logs: Sizes::default(),
            kept: Kept::default(),
            open_runs: 0,
            last_epoch: 0,
            last_request: 0,
            asked: Asked::default(),
            draining: false,
            level: Arc::default(),
            bytes_seen: 0,
            scratch: Scratch::default(),
            tally: ShardTally::default(),
        }
    }

    /// The next effect. Drain all of them after each operation.
    pub fn poll_output(&mut self) -> Option<Output<H>> {
        let output = self.outputs.pop_front();
        if self.outputs.is_empty() && self.outputs.capacity() > 64 {
            // One large fan-out does not cost memory for ever.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// Lets a connection in. From here on it is told of every append.
    ///
    /// # Errors
    /// The reason to close it with: the shard drains, the user has as many connections as allowed and none that may give way, a
    /// socket that was accepted after this one continues its session already, or the level of the service lets in only who
    /// continues something.
    pub fn attach(&mut self, now: Now, attach: Attach<H>) -> Result<Attached, CloseReason> {
        self.assert_drained();
        if self.draining {
            return Err(CloseReason::Restart);
        }
        if self.is_revoked(now, &attach.user, attach.session, &attach.token) {
            return Err(CloseReason::TokenRevoked);
        }
        let continued = self.continued(now, &attach.user, attach.session);
        self.admit(&attach)?;
        let max = self.limits.connections_per_user;
        let user = Self::user(&mut self.users, &mut self.last_epoch, now, &attach.user);
        let returns =
            continued.is_some_and(|session| user.past.as_mut().is_some_and(|past| past.evicted.take(session)));
        let known = continued.and_then(|session| user.channel.devices.iter().position(|d| d.session == session));
        let session = match known {
            // What a client sent before it gave up and tried again may be read late: the last try counts.
            Some(newer) if user.channel.devices[newer].order > attach.order => return Err(CloseReason::Superseded),
            // The device is back before its old socket is known to be dead.
            Some(old) => {
                let old = user.channel.devices.remove(old);
                self.outputs.push_back(Output::Close(old.handle, CloseReason::Superseded));
                old.session
            }
            None if user.channel.devices.len() >= max => {
                let Some(displaced) = user.displace(now.at, returns, &self.limits) else {
                    self.settle(now, &attach.user);
                    return Err(CloseReason::TooManyConnections);
                };
                self.outputs.push_back(Output::Close(displaced.handle, CloseReason::Evicted));
                continued.unwrap_or(attach.fresh_session)
            }
            None => continued.unwrap_or(attach.fresh_session),
        };
        let watches = |run: &OpenRun<H>| attach.threads.is_empty() || attach.threads.contains(&run.thread);
        let stream = user.channel.log.resume(attach.resume, user.runs.values().any(watches));
        self.tally.resumes.count(false, is_known(attach.resume), stream.mode);
        let continued_from = stream.position.seq;
        let Attach { handle, connection, order, .. } = attach;
        let tokens = Tokens::new(&attach.token);
        let (dead_at, active) = (Timestamp::MAX, now.at);
        let device =
            Device { handle, connection, order, session, tokens, continued_from, acked: None, dead_at, active };
        // Most users have one, and a vector that grows by itself would hold four.
        user.channel.devices.reserve_exact(1);
        user.channel.devices.push(device);
        self.settle(now, &attach.user);
        Ok(Attached { session, stream })
    }

    /// Takes exactly this connection out; one that is not there is nobody's.
    pub fn detach(&mut self, now: Now, user: &UserId, connection: ConnectionId) {
        self.assert_drained();
        if let Some(known) = self.users.get_mut(user) {
            known.channel.devices.retain(|device| device.connection != connection);
            known.channel.devices.shrink_to_fit();
            self.settle(now, user);
        }
    }

    /// Entries after `from`, at most `max_bytes` of frames but at least one where there is one, and how far behind `from` is.
    pub fn read(&self, user: &UserId, connection: ConnectionId, from: Position, max_bytes: usize) -> Read {
        let Some(user) = self.users.get(user).filter(|user| user.channel.has(connection)) else {
            return Read::Detached;
        };
        let Some(entries) = user.channel.log.after(from) else { return Read::Lost };
        Self::take(&user.channel.log, user.channel.appended, entries, from, max_bytes, &self.limits)
    }

    /// As many entries as fit.
    fn take<'a>(
        log: &Log,
        appended: Appended,
        entries: impl ExactSizeIterator<Item = &'a Entry>,
        from: Position,
        max_bytes: usize,
        limits: &Limits,
    ) -> Read {
        let behind = log.head().seq.saturating_sub(from.seq);
        let max = if behind as usize > limits.lag_entries { READ_ENTRIES_BEHIND } else { READ_ENTRIES };
        let mut taken = Vec::with_capacity(entries.len().min(max));
        let mut bytes = 0_usize;
        for entry in entries.take(max) {
            bytes = bytes.saturating_add(entry.frame().len());
            if bytes > max_bytes && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Read::Entries { entries: taken, behind, appended: appended.0 }
    }

    /// The runs that are open where the user's log begins, and that position: what a reader needs who has nothing before
    /// it. `None` when the connection is not attached any more.
    pub fn base(&self, user: &UserId, connection: ConnectionId) -> Option<(Position, Reducer)> {
        let user = self.users.get(user).filter(|user| user.channel.has(connection))?;
        Some((user.channel.log.start(), user.channel.log.base().clone()))
    }

    /// How large the state is that [`Manager::base`] copies.
    pub fn base_bytes(&self, user: &UserId) -> usize {
        self.users.get(user).map_or(0, |user| user.channel.log.base().bytes())
    }

    /// What this shard holds now.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            users: self.users.len(),
            topics: self.topics.len(),
            log_bytes: self.logs.total(),
            ..Counts::default()
        };
        for user in self.users.values() {
            counts.connections += user.channel.devices.len();
            counts.runs += user.runs.len();
            counts.requests += user.requests.len();
        }
        counts
    }

    /// The state of a user, made where it is not there. Every incarnation of a stream has a higher epoch.
    fn user<'a>(
        users: &'a mut BTreeMap<UserId, Box<User<H>>>,
        last_epoch: &mut u64,
        now: Now,
        id: &UserId,
    ) -> &'a mut User<H> {
        users.entry(id.clone()).or_insert_with(|| Box::new(User::new(next_epoch(last_epoch, now))))
    }

    fn assert_drained(&self) {
        debug_assert!(self.outputs.is_empty(), "the outputs of one operation are drained before the next");
    }
}

/// Every incarnation of a stream has a higher epoch than all before it, also across a restart.
fn next_epoch(last_epoch: &mut u64, now: Now) -> u64 {
    *last_epoch = now.unix.as_micros().max(last_epoch.saturating_add(1));
    *last_epoch
}

/// How much a shard, or a hub, holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users with state: connected, with an open run, or within the retention of their log.
    pub users: usize,
    /// Topics with state: with a subscriber, or within the retention of their log.
    pub topics: usize,
    /// Attached connections.
    pub connections: usize,
    /// Open runs.
    pub runs: usize,
    /// Requests that wait for the application.
    pub requests: usize,
    /// Bytes of all logs, and of what is kept of open runs from before their beginnings.
    pub log_bytes: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.users += other.users;
        self.topics += other.topics;
        self.connections += other.connections;
        self.runs += other.runs;
        self.requests += other.requests;
        self.log_bytes += other.log_bytes;
    }
}

#[cfg(test)]
mod tests;
