//! Requests without an answer: what outlives the socket that they were sent on.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Undone, Update};
use crate::id::{FrameId, IdempotencyKey, TopicName};
use crate::protocol::ClientFrame;
use crate::time::Timestamp;

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The client connects no more.
    #[error("the client has stopped")]
    Stopped,
    /// As many requests as may, or as many bytes, wait for their answers.
    #[error("too many requests wait for their answers")]
    Full,
    /// The server takes no frame of this size.
    #[error("the frame has {bytes} bytes, and the server takes {max}")]
    TooLarge {
        /// Of the frame.
        bytes: usize,
        /// What the server takes, as far as is known.
        max: usize,
    },
    /// Another request with this id waits for its answer.
    #[error("another request with this id waits for its answer")]
    DuplicateId,
    /// Ids that begin with `refresh-` are the client's own.
    #[error("ids that begin with `refresh-` are the client's own")]
    ReservedId,
    /// As many topics as may be followed are.
    #[error("too many topics are followed")]
    TooManyTopics,
    /// The client sends frames of this kind itself, or they are for producers.
    #[error("no frame that an application of a user's client sends")]
    NoRequest,
}

/// What a request does to the topics that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    Nothing,
    Follow(TopicName),
    Leave(TopicName),
}

#[derive(Debug)]
struct Entry {
    id: FrameId,
    frame: ClientFrame,
    bytes: usize,
    first_sent: Option<Timestamp>,
    /// On the socket that there is.
    sent: bool,
}

/// Requests in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn has_room(&self, max: usize, max_bytes: usize) -> bool {
        self.entries.len() < max && self.bytes < max_bytes
    }

    pub(super) fn has(&self, id: &FrameId) -> bool {
        self.entries.iter().any(|entry| entry.id == *id)
    }

    /// Topics that are asked for and not yet granted.
    pub(super) fn subscriptions(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(about(&entry.frame), About::Follow(_))).count()
    }

    pub(super) fn push(&mut self, id: FrameId, frame: ClientFrame, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries.push_back(Entry { id, frame, bytes, first_sent: None, sent: false });
    }

    /// The next that has not left by this socket, which now takes it.
    pub(super) fn send(&mut self, now: Timestamp) -> Option<&ClientFrame> {
        let entry = self.entries.iter_mut().find(|entry| !entry.sent)?;
        entry.sent = true;
        entry.first_sent.get_or_insert(now);
        Some(&entry.frame)
    }

    pub(super) fn waits(&self) -> bool {
        self.entries.back().is_some_and(|entry| !entry.sent)
    }

    /// The answer to a request has come: answers what it was about, where there is such a request.
    pub(super) fn answered(&mut self, id: &FrameId) -> Option<About> {
        let at = self.entries.iter().position(|entry| entry.id == *id && entry.sent)?;
        let entry = self.entries.remove(at)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(about(&entry.frame))
    }

    /// The socket is gone: all of it is to be sent again.
    pub(super) fn socket_lost(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.sent = false);
    }

    /// Gives up what may have taken effect and may not be sent again: all that ever left where the server has forgotten what it was told,
    /// what left `within` ago or earlier where it has not.
    pub(super) fn expire(&mut self, now: Timestamp, forgotten: bool, within: Duration) -> Vec<Update> {
        let over = |entry: &Entry| {
            entry.first_sent.is_some_and(|sent| forgotten || now.saturating_since(sent) >= within)
                && !is_harmless(entry)
        };
        let gone: Vec<_> = self.entries.iter().filter(|entry| over(entry)).map(undone).collect();
        self.entries.retain(|entry| !over(entry));
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
        gone
    }

    /// Gives up what the server does not take any more.
    pub(super) fn shrink(&mut self, max: usize) -> Vec<Update> {
        let over = |entry: &&Entry| entry.bytes > max;
        let refused = |entry: &Entry| {
            let why = Undone::Refused(RequestError::TooLarge { bytes: entry.bytes, max });
            Update::Undone { id: entry.id.clone(), key: key(&entry.frame).cloned(), why }
        };
        let gone: Vec<_> = self.entries.iter().filter(over).map(refused).collect();
        self.entries.retain(|entry| entry.bytes <= max);
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
        gone
    }

    /// Gives up everything.
    pub(super) fn drain(&mut self) -> Vec<Update> {
        self.bytes = 0;
        std::mem::take(&mut self.entries).iter().map(undone).collect()
    }
}

/// Whether to do it twice is to do it once, whatever the server remembers.
fn is_harmless(entry: &Entry) -> bool {
    matches!(
        entry.frame,
        ClientFrame::Subscribe { .. }
            | ClientFrame::Unsubscribe { .. }
            | ClientFrame::CancelRun { .. }
            | ClientFrame::Approve { .. }
    )
}

fn undone(entry: &Entry) -> Update {
    let why = if entry.first_sent.is_some() { Undone::Unknown } else { Undone::NotSent };
    Update::Undone { id: entry.id.clone(), key: key(&entry.frame).cloned(), why }
}

/// What makes a repeat of the frame harmless.
pub(super) fn key(frame: &ClientFrame) -> Option<&IdempotencyKey> {
    if let ClientFrame::UserMessage { key, .. } | ClientFrame::Command { key, .. } = frame {
        key.as_ref()
    } else {
        None
    }
}

pub(super) fn about(frame: &ClientFrame) -> About {
    if let ClientFrame::Subscribe { topic, .. } = frame {
        About::Follow(topic.clone())
    } else if let ClientFrame::Unsubscribe { topic, .. } = frame {
        About::Leave(topic.clone())
    } else {
        About::Nothing
    }
}

/// The frame as it is sent however often, or why it is no request.
pub(in crate::client) fn keyed(mut frame: ClientFrame, random: u128) -> Result<(FrameId, ClientFrame), RequestError> {
    let id = match &mut frame {
        ClientFrame::UserMessage { id, key, .. } | ClientFrame::Command { id, key, .. } => {
            if key.is_none() {
                // Short and printable: it always is a key.
                *key = format!("c-{random:032x}").parse().ok();
            }
            id.clone()
        }
        ClientFrame::CancelRun { id, .. }
        | ClientFrame::Approve { id, .. }
        | ClientFrame::Subscribe { id, .. }
        | ClientFrame::Unsubscribe { id, .. } => id.clone(),
        ClientFrame::Hello(_)
        | ClientFrame::RunStart(_)
        | ClientFrame::Reply(_)
        | ClientFrame::Refresh { .. }
        | ClientFrame::Ack { .. }
        | ClientFrame::Ping { .. }
        | ClientFrame::RunEvent { .. }
        | ClientFrame::Publish { .. }
        | ClientFrame::Inspect { .. }
        | ClientFrame::Disconnect { .. }
        | ClientFrame::Drain { .. }
        | ClientFrame::Revoke { .. } => return Err(RequestError::NoRequest),
    };
    if id.as_str().starts_with("refresh-") { Err(RequestError::ReservedId) } else { Ok((id, frame)) }
}
