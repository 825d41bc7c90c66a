//! How a session is driven: what it is told of, and what it says to that.

use std::task::Waker;

use super::reading::Cursor;
use super::{Session, State};
use crate::drive::Machine;
use crate::sync::MAILBOX_BIT;
use crate::time::{Now, Timestamp};

impl Machine for Session {
    fn poll_ready(&mut self, now: Now, waker: &Waker) {
        self.connection.end_expired(now);
        self.settle();
        loop {
            let bits = self.mail.take_bits(waker);
            if bits == 0 {
                break;
            }
            if let State::Attached(device) = &mut self.state {
                device.cursors.iter_mut().for_each(|cursor| cursor.note_mark(bits));
            }
            if bits & MAILBOX_BIT != 0 {
                self.collect(now);
            }
        }
        if self.is_producer() {
            self.collect(now);
        }
        self.resume_input(now);
        self.tell_level(now);
        self.fill(now);
        self.leave(now);
        self.note_life();
        self.settle();
    }

    fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        if self.input.is_empty() {
            self.take_in(now, bytes);
        } else {
            self.input.extend_from_slice(bytes);
        }
        self.note_life();
    }

    fn handle_eof(&mut self, _now: Now) {
        self.connection.handle_eof();
        self.settle();
    }

    fn handle_broken(&mut self, _now: Now) {
        self.connection.handle_broken();
        self.settle();
    }

    fn handle_timeout(&mut self, now: Now) {
        self.connection.handle_timeout(now);
        self.connection.end_expired(now);
        self.leave(now);
        self.settle();
        self.look_again(now);
        self.give_held(now);
        self.look_for_room(now);
        self.move_on_in_time(now);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        let connection = self.connection.poll_timeout().map(|(at, _)| at);
        let waits = self.looks_again_at().into_iter().chain(self.gives_held_at()).chain(self.looks_for_room_at());
        connection.into_iter().chain(self.moves_on_at()).chain(self.leaving.due()).chain(waits).min()
    }

    fn transmit(&self) -> &[u8] {
        self.connection.transmit()
    }

    fn advance(&mut self, now: Now, n: usize) {
        self.connection.advance(now, n);
        self.note_life();
        self.settle();
    }

    fn wants_read(&self) -> bool {
        self.handoff.is_none() && self.input.is_empty() && self.connection.wants_read() && self.read_room() > 0
    }

    fn read_bytes(&self) -> usize {
        self.read_room()
    }

    fn wants_shutdown(&self) -> bool {
        self.connection.wants_shutdown()
    }

    fn handle_shutdown(&mut self) {
        self.connection.handle_shutdown();
    }

    fn goes_on_when_written(&self) -> bool {
        let State::Attached(device) = &self.state else { return true };
        // Where much is hidden, reading stops for a look at the socket.
        let reads_more = device.cursors.iter().any(Cursor::has_more);
        let gives_more = !self.connection.wants_events() || reads_more || device.producing.is_some();
        gives_more || !self.input.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.handoff.is_some() || self.connection.is_closed()
    }
}
