//! What one device has seen of topics.

use std::collections::BTreeMap;

use trunkline_core::id::TopicName;
use trunkline_core::protocol::{Event, EventBody, Mode, Position, StreamEntry};

use super::cast;
use super::counters::Counted;
use super::truth::Truth;
use super::world::Ctx;

/// The topics that a device follows, as far as it knows.
#[derive(Debug)]
pub(super) struct Topics {
    user: usize,
    followed: BTreeMap<usize, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: Position,
    /// The last event, by its place in what was published.
    last: Option<usize>,
}

impl Topics {
    pub(super) const fn new(user: usize) -> Self {
        Self { user, followed: BTreeMap::new() }
    }

    /// What a new client asks for: the first topic of the tenant's.
    pub(super) fn wanted(&self) -> Vec<TopicName> {
        let own = (0..cast::TOPICS.len()).find(|topic| cast::TOPICS[*topic].0 == cast::USERS[self.user].0);
        own.into_iter().map(cast::topic_name).collect()
    }

    /// A socket begins: only what its welcome names is followed.
    pub(super) fn begin(&mut self, entries: &[StreamEntry], names: impl Fn(&StreamEntry) -> Option<TopicName>) {
        let named: Vec<_> = entries.iter().filter_map(names).collect();
        let user = self.user;
        self.followed.retain(|topic, _| named.iter().any(|name| cast::topic_of(user, name) == Some(*topic)));
    }

    /// Where a welcome lets the stream of a topic go on.
    pub(super) fn place(&mut self, ctx: &Ctx, name: &TopicName, entry: &StreamEntry) {
        let user = self.user;
        let Some(topic) = cast::topic_of(user, name) else {
            return ctx.blame("I12", || format!("user {user} follows {name}, which is not its"));
        };
        let at = entry.event_id;
        let known = match entry.mode {
            Mode::Live | Mode::Replay => self.followed.get(&topic),
            Mode::Snapshot | Mode::Reset => None,
        };
        if let Some(known) = known {
            ctx.hold(known.at == at, "I2", || format!("{name} was at {} and goes on at {at}", known.at));
        }
        let last = known.and_then(|known| known.last);
        self.followed.insert(topic, Place { at, last });
    }

    /// The answer to who asked to follow a topic from its end.
    pub(super) fn answered(&mut self, ctx: &Ctx, name: &TopicName, entry: &StreamEntry) {
        let user = self.user;
        let Some(topic) = cast::topic_of(user, name) else {
            return ctx.blame("I12", || format!("user {user} follows {name}, which is not its"));
        };
        let known = self.followed.get(&topic).filter(|known| known.at == entry.event_id);
        let last = known.and_then(|known| known.last);
        self.followed.insert(topic, Place { at: entry.event_id, last });
    }

    /// The stream begins anew.
    pub(super) fn gap(&mut self, name: &TopicName) {
        if let Some(place) = cast::topic_of(self.user, name).and_then(|topic| self.followed.get_mut(&topic)) {
            place.last = None;
        }
    }

    /// A snapshot of a topic holds no state but its place.
    pub(super) fn jump(&mut self, name: &TopicName, at: Position) {
        if let Some(place) = cast::topic_of(self.user, name).and_then(|topic| self.followed.get_mut(&topic)) {
            *place = Place { at, last: None };
        }
    }

    pub(super) fn leave(&mut self, topic: usize) {
        self.followed.remove(&topic);
    }

    pub(super) fn event(&mut self, ctx: &Ctx, truth: &mut Truth, name: &TopicName, event: &Event) {
        ctx.tally.count(Counted::TopicEvents);
        let user = self.user;
        let Some((topic, place)) =
            cast::topic_of(user, name).and_then(|topic| Some((topic, self.followed.get_mut(&topic)?)))
        else {
            return ctx.blame("I12", || format!("user {user} got an event of {name}, which it does not follow"));
        };
        let (before, at) = (place.at, event.position);
        ctx.hold(before.epoch == at.epoch && before.seq == event.follows() && before < at, "I1", || {
            format!("{name} was at {before} and goes on with {at}, which follows {}", event.follows())
        });
        let number = match &event.body {
            EventBody::Custom { name, .. } => name.strip_prefix('n').and_then(|number| number.parse::<u64>().ok()),
            EventBody::UserMessage { .. }
            | EventBody::AgentStarted { .. }
            | EventBody::AgentThinking { .. }
            | EventBody::ToolExecuting { .. }
            | EventBody::ToolCompleted { .. }
            | EventBody::AgentDelta { .. }
            | EventBody::AgentSuspended { .. }
            | EventBody::AgentResumed { .. }
            | EventBody::AgentCompleted { .. }
            | EventBody::AgentFailed { .. }
            | EventBody::AgentCancelled { .. } => None,
        };
        let published = &mut truth.topics[topic];
        let index = number.and_then(|number| published.events.binary_search(&number).ok());
        let Some(index) = index else {
            return ctx.blame("I12", || format!("user {user} got {number:?} of {name}, which is not there"));
        };
        let there = *published.seen.entry(at).or_insert(index);
        ctx.hold(there == index, "I1", || format!("{at} of {name} is number {there} and came as {index}"));
        let next = place.last.is_none_or(|last| last + 1 == index);
        ctx.hold(next, "I1", || format!("number {index} of {name} came after {:?}", place.last));
        *place = Place { at, last: Some(index) };
    }
}
