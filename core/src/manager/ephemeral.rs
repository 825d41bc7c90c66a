//! Events that are for now only: no position, no log, the first to be shed.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::topics::Topic;
use super::{Control, Custom, Manager, Output};
use crate::id::{ConnectionId, ThreadId, TopicId, UserId};
use crate::limits::Limits;
use crate::protocol::{self, EventBody, Receipt, ServerFrame, StreamName};
use crate::stream::RunError;
use crate::time::Now;

/// A frame that is for now only, encoded once for all who get it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// The topic; `None` is the user's own stream.
    pub topic: Option<TopicId>,
    /// The conversation, if any.
    pub thread: Option<ThreadId>,
    /// The frame.
    pub frame: Arc<str>,
}

/// It carries a payload.
impl std::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ephemeral(..)")
    }
}

impl Ephemeral {
    /// Encodes an event that goes to a topic, or where there is none to a user's own stream.
    ///
    /// # Errors
    /// When it is over [`Limits::event_bytes`], or over half of [`Limits::control_bytes`], which is the room that a device has
    /// for what may be shed.
    pub fn new(
        now: Now,
        topic: Option<TopicId>,
        custom: Custom,
        data: Box<RawValue>,
        limits: &Limits,
    ) -> Result<Self, RunError> {
        let Custom { thread, name, .. } = custom;
        let body = EventBody::Custom { name, data };
        let stream = topic.as_ref().map_or(StreamName::User, |topic| StreamName::Topic(topic.name().clone()));
        let event = protocol::Ephemeral { stream, timestamp: Some(now.unix), thread_id: thread.clone(), body };
        let frame = ServerFrame::Ephemeral(Box::new(event)).encode();
        let max = limits.event_bytes.min(limits.control_bytes / 2);
        if frame.len() > max {
            return Err(RunError::TooLarge { bytes: frame.len(), max });
        }
        Ok(Self { topic, thread, frame: frame.into() })
    }
}

impl<H: Clone> Manager<H> {
    /// Gives an event to the devices that a user has now; in an emergency, to none.
    pub fn ephemeral(&mut self, id: &UserId, event: &Ephemeral) -> Receipt {
        self.assert_drained();
        let user = self.users.get(id).filter(|_| !self.sheds_ephemeral());
        let devices = user.map(|user| user.channel.devices.as_slice()).unwrap_or_default();
        let told =
            devices.iter().map(|device| Output::Control(device.handle.clone(), Control::Ephemeral(event.clone())));
        self.outputs.extend(told);
        Receipt::DeliveredTo(u32::try_from(devices.len()).unwrap_or(u32::MAX))
    }

    /// Gives an event to up to `max` subscribers of a topic after `last`. Answers how many and where to go on, until there are
    /// none. In an emergency there are none.
    pub fn ephemeral_some(
        &mut self,
        id: &TopicId,
        last: Option<ConnectionId>,
        max: usize,
        event: &Ephemeral,
    ) -> (u32, Option<ConnectionId>) {
        self.assert_drained();
        let topic = self.topics.get(id).filter(|_| !self.sheds_ephemeral());
        let Some(subscribers) = topic.map(Topic::subscribers) else { return (0, None) };
        let (mut count, mut reached) = (0, None);
        for (connection, handle) in subscribers.range((last.map_or(Unbounded, Excluded), Unbounded)).take(max) {
            self.outputs.push_back(Output::Control(handle.clone(), Control::Ephemeral(event.clone())));
            (count, reached) = (count + 1, Some(*connection));
        }
        (count, reached)
    }
}
