//! Which topics a session follows, as far as its token grants them.

use super::reading::Cursor;
use super::{Session, State, entry};
use crate::error::ErrorCode;
use crate::id::{TopicId, TopicName};
use crate::protocol::{Hello, Position, ReplyOk, StreamEntry, StreamName};
use crate::sync::Arc;

impl Session {
    /// Begins to follow a topic, or to follow it from elsewhere.
    pub(super) fn follow(&mut self, name: TopicName, resume: Option<Position>) -> Result<StreamEntry, FrameFault> {
        let State::Attached(device) = &mut self.state else { return Err(NOT_FOUND) };
        if !device.scopes.may_read_topic(&name) {
            return Err(NOT_FOUND);
        }
        let topic = TopicId::of(&device.user, name);
        let known = device.cursors.iter().position(|cursor| cursor.topic.as_ref() == Some(&topic));
        let topics = device.cursors.iter().filter(|cursor| cursor.topic.is_some()).count();
        if known.is_none() && topics >= self.hub.limits().subscriptions {
            return Err((ErrorCode::TooManySubscriptions, "as many topics as allowed are followed: leave one first"));
        }
        let (connection, handle) = (device.connection, Arc::clone(&self.mail));
        let resumption =
            self.hub.act_on_topic(&topic, |shard, now| shard.subscribe(now, &topic, connection, handle, resume));
        let cursor = Cursor::new(Some(topic), &resumption);
        let stream = cursor.stream();
        match known {
            Some(at) => {
                let known = &mut device.cursors[at];
                *known = cursor.in_place_of(known);
            }
            None => device.cursors.push(cursor),
        }
        Ok(entry(stream, &resumption))
    }

    /// Stops to follow a topic.
    pub(super) fn unfollow(&mut self, name: TopicName) -> Result<ReplyOk, FrameFault> {
        let State::Attached(device) = &mut self.state else { return Err(NOT_FOUND) };
        let topic = TopicId::of(&device.user, name);
        let known = device.cursors.iter().position(|cursor| cursor.topic.as_ref() == Some(&topic));
        device.cursors.remove(known.ok_or(NOT_FOUND)?);
        device.turn = 0;
        let connection = device.connection;
        self.hub.act_on_topic(&topic, |shard, now| shard.unsubscribe(now, &topic, connection));
        Ok(ReplyOk::Done)
    }
}

impl Session {
    /// Whether it follows a topic now.
    pub(super) fn follows(&self, topic: &TopicId) -> bool {
        let State::Attached(device) = &self.state else { return false };
        device.cursors.iter().any(|cursor| cursor.topic.as_ref() == Some(topic))
    }

    /// Leaves the topics that the token does not grant any more, as if they did not exist.
    pub(super) fn leave_forbidden(&mut self) {
        let State::Attached(device) = &mut self.state else { return };
        let names = device.cursors.iter().filter_map(|cursor| cursor.topic.as_ref()).map(TopicId::name);
        let forbidden: Vec<_> = names.filter(|name| !device.scopes.may_read_topic(name)).cloned().collect();
        for name in forbidden {
            // It is followed, so leaving it is not refused.
            let _ = self.unfollow(name);
        }
    }
}

/// The topics that a `hello` names, each with where to continue.
pub(super) fn wanted_topics(hello: &Hello) -> Vec<(TopicName, Option<Position>)> {
    let resumed = hello.resume.iter().filter_map(|(stream, position)| match stream {
        StreamName::User => None,
        StreamName::Topic(name) => Some((name.clone(), Some(*position))),
    });
    let mut wanted: Vec<_> = resumed.collect();
    for name in &hello.topics {
        if !wanted.iter().any(|(known, _)| known == name) {
            wanted.push((name.clone(), None));
        }
    }
    wanted
}

/// Why a request of the session's own is refused.
pub(super) type FrameFault = (ErrorCode, &'static str);

/// Unknown and forbidden are alike.
const NOT_FOUND: FrameFault = (ErrorCode::NotFound, "no such topic for this token");
