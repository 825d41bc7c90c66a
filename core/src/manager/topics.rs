//! Topics: shared logs, each on the shard of its own hash, which owns its order and its subscribers.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use serde_json::value::RawValue;

use super::housekeeping::{Due, arm};
use super::kept::Turn;
use super::keys::{KeyKind, Keys, Outcome};
use super::tally::{Appended, append_to, is_known};
use super::user::{Owner, Unplaced};
use super::{Custom, Grown, Manager, Output, Read, next_epoch};
use crate::id::{ConnectionId, TopicId};
use crate::metrics::Aside;
use crate::protocol::{EventBody, EventKind, Position, Receipt, StreamName};
use crate::stream::{Log, Resumption, RunError};
use crate::time::{Now, Timestamp};

/// One topic of this shard.
#[derive(Clone, Debug)]
pub(super) struct Topic<H> {
    pub(super) log: Log,
    appended: Appended,
    subscribers: BTreeMap<ConnectionId, H>,
    /// Keys of what was published.
    keys: Keys,
    /// What they count as among those of all.
    counted_keys: usize,
    idle_since: Option<Timestamp>,
    pub(super) kept: Turn,
    pub(super) armed: Option<Timestamp>,
}

impl<H> Topic<H> {
    /// What its keys count as, and what they have.
    pub(super) fn count_keys(&mut self) -> (&mut usize, usize) {
        let bytes = self.key_bytes();
        (&mut self.counted_keys, bytes)
    }

    pub(super) fn key_bytes(&self) -> usize {
        self.keys.bytes()
    }

    pub(super) fn forget_key(&mut self) {
        self.keys.forget_oldest();
    }

    /// What is true of an event that is in the log.
    fn receipt(&self) -> Receipt {
        match self.subscribers.len() {
            0 => Receipt::Stored,
            n => Receipt::DeliveredTo(u32::try_from(n).unwrap_or(u32::MAX)),
        }
    }

    pub(super) const fn subscribers(&self) -> &BTreeMap<ConnectionId, H> {
        &self.subscribers
    }
}

impl<H: Clone> Manager<H> {
    /// Lets a connection read a topic, from where it was or from its end. Whether it may is the caller's to know.
    pub fn subscribe(
        &mut self,
        now: Now,
        id: &TopicId,
        connection: ConnectionId,
        handle: H,
        resume: Option<Position>,
    ) -> Resumption {
        self.assert_drained();
        let topic = Self::topic(&mut self.topics, &mut self.last_epoch, now, id);
        topic.subscribers.insert(connection, handle);
        let resumption = topic.log.resume(resume, false);
        self.tally.resumes.count(true, is_known(resume), resumption.mode);
        self.settle_topic(now, id);
        resumption
    }

    /// Takes exactly this connection out; answers whether it was there.
    pub fn unsubscribe(&mut self, now: Now, id: &TopicId, connection: ConnectionId) -> bool {
        self.assert_drained();
        let Some(topic) = self.topics.get_mut(id) else { return false };
        let was_there = topic.subscribers.remove(&connection).is_some();
        self.settle_topic(now, id);
        was_there
    }

    /// Appends an event to a topic. Its subscribers are told by [`Manager::ready_some`].
    ///
    /// # Errors
    /// When it is too large; nothing is appended then.
    pub fn publish_topic(
        &mut self,
        now: Now,
        id: &TopicId,
        custom: Custom,
        data: Box<RawValue>,
    ) -> Result<Receipt, RunError> {
        self.assert_drained();
        let key = custom.key.map(|key| (KeyKind::Publish, key));
        let stream = StreamName::Topic(id.name().clone());
        let body = EventBody::Custom { name: custom.name, data };
        let unplaced = Unplaced { owner: Owner::Topic(&stream), thread: None, run: None, body: &body };
        let topic = Self::topic(&mut self.topics, &mut self.last_epoch, now, id);
        if key.as_ref().is_some_and(|key| topic.keys.has(now.at, key, &self.limits)) {
            return Ok(topic.receipt());
        }
        let before = topic.log.bytes();
        let entry = unplaced.encode(now, &topic.log, 0, &self.limits, &mut self.scratch);
        let receipt = entry.map(|entry| {
            append_to(&mut topic.log, entry, &self.limits, &mut self.tally);
            topic.appended = Aside(now.at);
            self.tally.events.count(EventKind::Custom);
            topic.receipt()
        });
        if let (Ok(_), Some(key)) = (&receipt, key) {
            topic.keys.settle(now.at, key, Outcome::done(), &self.limits);
        }
        let after = topic.log.bytes();
        self.account(&Due::Topic(id.clone()), before, after);
        self.settle_topic(now, id);
        receipt
    }

    /// Tells up to `max` subscribers after `last` that their topic has grown; answers where to go on, until there are none.
    /// What they are told of is in the log already, so who subscribes in between reads it too.
    pub fn ready_some(&mut self, id: &TopicId, last: Option<ConnectionId>, max: usize) -> Option<ConnectionId> {
        self.assert_drained();
        let topic = self.topics.get(id)?;
        let from = last.map_or(Unbounded, Excluded);
        let (grown, mut reached) = (Grown::of(id), None);
        for (connection, handle) in topic.subscribers.range((from, Unbounded)).take(max) {
            self.outputs.push_back(Output::Ready(handle.clone(), grown));
            reached = Some(*connection);
        }
        reached
    }

    /// As [`Manager::read`], of a topic.
    pub fn read_topic(&self, id: &TopicId, connection: ConnectionId, from: Position, max_bytes: usize) -> Read {
        let topic = self.topics.get(id).filter(|topic| topic.subscribers.contains_key(&connection));
        let Some(topic) = topic else { return Read::Detached };
        let Some(entries) = topic.log.after(from) else { return Read::Lost };
        Self::take(&topic.log, topic.appended, entries, from, max_bytes, &self.limits)
    }

    /// Where a topic's log begins, for a reader that fell out of it.
    pub fn topic_start(&self, id: &TopicId, connection: ConnectionId) -> Option<Position> {
        let topic = self.topics.get(id).filter(|topic| topic.subscribers.contains_key(&connection))?;
        Some(topic.log.start())
    }

    /// The retention of a topic without subscribers is over, or too many are kept.
    pub(super) fn remove_topic(&mut self, id: &TopicId) {
        let Some(mut topic) = self.topics.remove(id) else { return };
        arm(&mut self.deadlines, &mut topic.armed, None, || Due::Topic(id.clone()));
        self.kept.leave(topic.kept);
        self.logs.change(&Due::Topic(id.clone()), topic.log.bytes(), 0);
        self.key_sizes.change(&Due::Topic(id.clone()), topic.counted_keys, 0);
    }

    /// The state of a topic, made where it is not there.
    fn topic<'a>(
        topics: &'a mut BTreeMap<TopicId, Topic<H>>,
        last_epoch: &mut u64,
        now: Now,
        id: &TopicId,
    ) -> &'a mut Topic<H> {
        topics.entry(id.clone()).or_insert_with(|| Topic {
            log: Log::new(next_epoch(last_epoch, now)),
            appended: Appended::default(),
            subscribers: BTreeMap::new(),
            keys: Keys::default(),
            counted_keys: 0,
            idle_since: None,
            kept: None,
            armed: None,
        })
    }

    fn settle_topic(&mut self, now: Now, id: &TopicId) {
        let retention = self.limits.log_retention;
        let Some(mut topic) = self.topics.get_mut(id) else { return };
        if topic.key_bytes() != topic.counted_keys {
            self.account_keys(Due::Topic(id.clone()));
            let Some(counted) = self.topics.get_mut(id) else { return };
            topic = counted;
        }
        topic.idle_since = topic.subscribers.is_empty().then(|| topic.idle_since.unwrap_or(now.at));
        let had_event = topic.log.head().seq > 0;
        self.kept.observe(&mut topic.kept, topic.idle_since.is_some(), had_event, || Due::Topic(id.clone()));
        let keys = topic.keys.expiry(&self.limits);
        let until = topic.idle_since.map(|since| keys.map_or(since + retention, |keys| keys.max(since + retention)));
        arm(&mut self.deadlines, &mut topic.armed, until, || Due::Topic(id.clone()));
        self.bound_kept();
    }
}
