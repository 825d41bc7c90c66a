//! Events of the application's own, to a user or to a topic.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Hub;
use crate::id::{ThreadId, TopicId, UserId};
use crate::manager::{Custom, Ephemeral};
use crate::protocol::Receipt;
use crate::stream::RunError;
use crate::time::Clock;

/// How many subscribers are told of an event under one lock.
const FAN_OUT_BATCH: usize = 256;

impl Hub {
    /// Sends an event of the application's own to every device of a user; it arrives as `custom`.
    ///
    /// # Errors
    /// When the data are not JSON or too large.
    pub fn publish(
        &self,
        user: &UserId,
        thread: Option<ThreadId>,
        name: impl Into<String>,
        data: &impl Serialize,
    ) -> Result<Receipt, RunError> {
        let data = json(data)?;
        let custom = Custom { thread, name: name.into(), key: None };
        self.act(user, |shard, now| shard.publish(now, user, custom, data))
    }

    /// The same for now only: it is in no log, has no position, never comes again, and a device that is behind does not get
    /// it. Answers how many were told.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub fn publish_ephemeral(
        &self,
        user: &UserId,
        thread: Option<ThreadId>,
        name: impl Into<String>,
        data: &impl Serialize,
    ) -> Result<Receipt, RunError> {
        self.publish_ephemeral_raw(user, Custom { thread, name: name.into(), key: None }, json(data)?)
    }

    /// Sends an event of the application's own to everybody who follows a topic; it arrives as `custom`.
    ///
    /// # Errors
    /// When the data are not JSON or too large.
    pub fn publish_topic(
        &self,
        topic: &TopicId,
        name: impl Into<String>,
        data: &impl Serialize,
    ) -> Result<Receipt, RunError> {
        self.publish_topic_raw(topic, Custom { thread: None, name: name.into(), key: None }, json(data)?)
    }

    /// The same for now only, as [`Hub::publish_ephemeral`].
    ///
    /// # Errors
    /// As [`Hub::publish_topic`].
    pub fn publish_topic_ephemeral(
        &self,
        topic: &TopicId,
        name: impl Into<String>,
        data: &impl Serialize,
    ) -> Result<Receipt, RunError> {
        self.publish_topic_ephemeral_raw(topic, name.into(), json(data)?)
    }

    pub(super) fn publish_topic_raw(
        &self,
        topic: &TopicId,
        custom: Custom,
        data: Box<RawValue>,
    ) -> Result<Receipt, RunError> {
        let receipt = self.act_on_topic(topic, |shard, now| shard.publish_topic(now, topic, custom, data))?;
        // The event is in the log: whoever is not told yet may read it all the same.
        let mut last = None;
        loop {
            last = self.act_on_topic(topic, |shard, _| shard.ready_some(topic, last, FAN_OUT_BATCH));
            if last.is_none() {
                return Ok(receipt);
            }
        }
    }

    pub(super) fn publish_ephemeral_raw(
        &self,
        user: &UserId,
        custom: Custom,
        data: Box<RawValue>,
    ) -> Result<Receipt, RunError> {
        let event = Ephemeral::new(self.now(), None, custom, data, self.limits())?;
        Ok(self.act(user, |shard, _| shard.ephemeral(user, &event)))
    }

    pub(super) fn publish_topic_ephemeral_raw(
        &self,
        topic: &TopicId,
        name: String,
        data: Box<RawValue>,
    ) -> Result<Receipt, RunError> {
        let custom = Custom { thread: None, name, key: None };
        let event = Ephemeral::new(self.now(), Some(topic.clone()), custom, data, self.limits())?;
        let (mut told, mut last) = (0_u32, None);
        loop {
            let step = |count| self.act_on_topic(topic, |shard, _| shard.ephemeral_some(topic, last, count, &event));
            let (count, reached) = step(FAN_OUT_BATCH);
            told = told.saturating_add(count);
            if reached.is_none() {
                return Ok(Receipt::DeliveredTo(told));
            }
            last = reached;
        }
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Box<RawValue>, RunError> {
    to_raw_value(value).map_err(|error| RunError::NotJson(error.to_string()))
}
