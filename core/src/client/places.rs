//! Where a client stands in each stream, and what may move it.

use std::collections::{BTreeMap, BTreeSet};

use super::Fault;
use crate::id::TopicName;
use crate::protocol::{MAX_HELLO_TOPICS, Mode, Position, StreamEntry, StreamName};
use crate::stream::Reducer;

/// Streams of one connection: the topics of a `hello` and the user's own, with room for as many subscriptions more.
const MAX_STREAMS: usize = 2 * MAX_HELLO_TOPICS + 1;

/// The positions of a connection. They outlive it: the next one resumes from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places(BTreeMap<StreamName, Position>);

/// What a client takes from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) places: Places,
    pub(super) topics: Vec<TopicName>,
    pub(super) reducer: Reducer,
}

impl Carried {
    pub(super) fn of_user(position: Option<Position>) -> Self {
        let places = Places(position.map(|position| (StreamName::User, position)).into_iter().collect());
        Self { places, ..Self::default() }
    }
}

impl Places {
    pub(super) fn get(&self, stream: &StreamName) -> Option<Position> {
        self.0.get(stream).copied()
    }

    /// As a `hello` names them.
    pub(super) const fn all(&self) -> &BTreeMap<StreamName, Position> {
        &self.0
    }

    /// The streams of which something is held.
    pub(super) fn held(&self) -> BTreeSet<StreamName> {
        self.0.iter().filter(|(_, place)| **place != Position::NONE).map(|(stream, _)| stream.clone()).collect()
    }

    /// Gives every place up, and goes back to the beginning of the user's own stream.
    pub(super) fn begin_anew(&mut self) {
        self.0 = BTreeMap::from([(StreamName::User, Position::NONE)]);
    }

    /// Keeps the user's own stream and these topics.
    pub(super) fn retain(&mut self, topics: &BTreeSet<TopicName>) {
        self.0.retain(|stream, _| match stream {
            StreamName::User => true,
            StreamName::Topic(topic) => topics.contains(topic),
        });
    }

    /// Takes what a welcome says of a stream that the client wants to go on with. A server that would leave something out, or send it
    /// again, without saying so is at fault. Where a snapshot is to come, the place is taken once it is here whole.
    pub(super) fn resume(&mut self, entry: &StreamEntry) -> Result<(), Fault> {
        match (entry.mode, self.get(&entry.stream)) {
            (Mode::Snapshot, _) => Ok(()),
            (Mode::Live | Mode::Replay, Some(mine)) if mine != entry.event_id => {
                Err(Fault::Gap { expected: mine, follows: entry.event_id.seq })
            }
            (Mode::Live | Mode::Replay | Mode::Reset, _) => self.take(&entry.stream, entry.event_id),
        }
    }

    /// Takes what the answer to a subscription says.
    pub(super) fn begin(&mut self, entry: &StreamEntry) -> Result<(), Fault> {
        self.take(&entry.stream, entry.event_id)
    }

    /// Nothing of this topic comes any more.
    pub(super) fn leave(&mut self, topic: TopicName) {
        self.0.remove(&StreamName::Topic(topic));
    }

    /// The place of a snapshot that is here whole.
    pub(super) fn restored(&mut self, stream: &StreamName, position: Position) -> Result<(), Fault> {
        self.take(stream, position)
    }

    /// Goes on to `position` where that follows the last one. A frame covers what is behind `follows` up to its position, which is
    /// something.
    pub(super) fn follow(&mut self, stream: &StreamName, follows: u64, position: Position) -> Result<(), Fault> {
        let expected = self.get(stream).unwrap_or(Position::NONE);
        if position.epoch != expected.epoch || follows != expected.seq || position.seq <= follows {
            return Err(Fault::Gap { expected, follows });
        }
        self.take(stream, position)
    }

    fn take(&mut self, stream: &StreamName, position: Position) -> Result<(), Fault> {
        if self.0.len() >= MAX_STREAMS && !self.0.contains_key(stream) {
            return Err(Fault::Protocol("more streams than a client can follow".into()));
        }
        self.0.insert(stream.clone(), position);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: StreamName, mode: Mode, seq: u64) -> StreamEntry {
        let event_id = Position { epoch: 7, seq };
        StreamEntry { stream, event_id, head: event_id, mode, lost: None }
    }

    fn topic(n: usize) -> StreamName {
        StreamName::Topic(TopicName::new(&format!("t{n}")).unwrap())
    }

    #[test]
    fn a_server_goes_on_where_the_client_is_or_says_what_is_gone() {
        let mine = Position { epoch: 7, seq: 5 };
        for (mode, seq, taken) in [
            (Mode::Live, 5, true),
            (Mode::Replay, 5, true),
            (Mode::Live, 6, false),
            (Mode::Replay, 4, false),
            (Mode::Reset, 9, true),
        ] {
            let mut places = Carried::of_user(Some(mine)).places;
            assert_eq!(places.resume(&entry(StreamName::User, mode, seq)).is_ok(), taken, "{mode:?} {seq}");
            let at = if taken { Position { epoch: 7, seq } } else { mine };
            assert_eq!(places.get(&StreamName::User), Some(at));
        }
        let mut places = Carried::of_user(Some(mine)).places;
        places.resume(&entry(StreamName::User, Mode::Snapshot, 9)).unwrap();
        assert_eq!(places.get(&StreamName::User), Some(mine), "not before it is here");
        places.restored(&StreamName::User, Position { epoch: 7, seq: 9 }).unwrap();
        assert_eq!(places.get(&StreamName::User).map(|at| at.seq), Some(9));
    }

    #[test]
    fn streams_are_bounded() {
        let mut places = Carried::of_user(Some(Position::NONE)).places;
        for n in 1..MAX_STREAMS {
            places.begin(&entry(topic(n), Mode::Live, 1)).unwrap();
        }
        places.begin(&entry(topic(1), Mode::Live, 2)).unwrap();
        assert!(matches!(places.begin(&entry(topic(0), Mode::Live, 1)), Err(Fault::Protocol(_))));
        places.retain(&BTreeSet::from([TopicName::new("t1").unwrap()]));
        assert_eq!(places.all().len(), 2);
    }
}
