//! What moves a client on in its streams.

use super::{Client, ClientEvent, received};
use crate::protocol::{AgentDeltas, Event, Position, ServerFrame, Snapshot, StreamName};

impl Client {
    /// Takes an event that follows the last one; anything else is a fault that the next resume mends.
    pub(super) fn event(&mut self, event: Box<Event>) {
        if self.follow(&event.stream, event.follows(), event.position) {
            if event.stream == StreamName::User {
                if event.body.is_terminal() {
                    self.acks.run_ended();
                }
                self.reducer.apply(&event);
                received::bound(&mut self.reducer);
            }
            self.events.push(ClientEvent::Event(event));
        }
    }

    /// What lies between is not for this client, or of a kind that only newer ones know.
    pub(super) fn moved(&mut self, stream: StreamName, prev: u64, event_id: Position) {
        if self.follow(&stream, prev, event_id) {
            self.events.push(ClientEvent::Frame(Box::new(ServerFrame::Position { stream, prev, event_id })));
        }
    }

    /// Goes on to `position` where that follows the last one, or fails.
    fn follow(&mut self, stream: &StreamName, follows: u64, position: Position) -> bool {
        match self.places.follow(stream, follows, position) {
            Ok(()) => {
                self.told_apart(stream, position);
                true
            }
            Err(fault) => {
                self.refuse(fault);
                false
            }
        }
    }

    /// Only the user's own stream is acknowledged.
    fn told_apart(&mut self, stream: &StreamName, position: Position) {
        if *stream == StreamName::User {
            self.acks.came_to(position);
        }
    }

    /// The same for a window of merged text.
    pub(super) fn window(&mut self, window: Box<AgentDeltas>) {
        if !self.follow(&window.stream, window.prev, window.position) {
            return;
        }
        if window.stream == StreamName::User {
            for part in &window.parts {
                self.reducer.extend(part.run_id, &part.part_id, part.offset, &part.text, part.run_seq);
            }
            received::bound(&mut self.reducer);
        }
        self.events.push(ClientEvent::Frame(Box::new(ServerFrame::Deltas(window))));
    }

    /// Replaces what is known; the position moves once the last part is here.
    pub(super) fn snapshot(&mut self, part: Box<Snapshot>) {
        if part.stream == StreamName::User {
            if part.part == 1 {
                self.reducer.clear();
            }
            part.runs.iter().for_each(|run| self.reducer.restore(run));
            received::bound(&mut self.reducer);
        }
        if part.part == part.of {
            if let Err(fault) = self.places.restored(&part.stream, part.event_id) {
                return self.refuse(fault);
            }
            self.told_apart(&part.stream, part.event_id);
        }
        self.events.push(ClientEvent::Frame(Box::new(ServerFrame::Snapshot(part))));
    }
}
