//! One shard of the manager, beside a naive model that knows of lists and nothing else.

mod application;
mod devices;
mod model;
mod play;

use play::Game;

/// Operations of three bytes each: which (modulo 16), whose and what with.
///
/// | byte | operation |
/// |---|---|
/// | 0, 1 | a device attaches: anew, or in the session of another; from nowhere, from a position, or from before all |
/// | 2 | a connection is detached, of that user or not |
/// | 3 | the application starts a run |
/// | 4, 5 | an event of a run: text; a thought, a tool's beginning or end, in order or not |
/// | 6 | a run completes, fails or is cancelled |
/// | 7 | a device sends a message, with a key or without one |
/// | 8 | the application answers a request by a run or a refusal |
/// | 9 | a run is asked to stop, or a device acknowledges |
/// | 10 | an event of no run, with a key or without one |
/// | 11, 12 | a device follows a topic or leaves it; something is published there |
/// | 13 | a device reads what it may of its user's stream and of the topics |
/// | 14 | a session or all of a user is revoked; or the shard drains, once |
/// | 15 | time passes |
///
/// After each of them: what it answers and tells, whom and how often, is what the model says; every device reads each event of
/// its own streams once and in order, or is told that it fell out of a log that was too short; a state it then gets is what
/// the events up to there add up to; nothing is counted twice or for ever.
pub fn manager(data: &[u8]) {
    let mut game = Game::new();
    for operation in data.chunks_exact(3).take(MAX_OPERATIONS) {
        game.play(operation[0] & 15, operation[1], operation[2]);
        game.check();
    }
    game.end();
}

/// Enough to reach every limit; more only makes runs slower.
const MAX_OPERATIONS: usize = 256;

#[cfg(test)]
mod tests {
    use super::model::{LOG_ENTRIES, What};
    use super::*;

    const ATTACH: u8 = 0;
    const START: u8 = 3;
    const TEXT: u8 = 4;
    const PUBLISH: u8 = 10;
    const READ: u8 = 13;

    fn played(operations: &[(u8, u8, u8)]) -> Game {
        let mut game = Game::new();
        for (which, whose, with) in operations {
            game.play(*which, *whose, *with);
            game.check();
        }
        game
    }

    /// A device, a run and as many events as have no room together; nobody has read any.
    fn full() -> Game {
        let mut operations = vec![(ATTACH, 0, 0), (START, 0, 0), (TEXT, 0, 0)];
        operations.extend((0..LOG_ENTRIES + 2).map(|_| (PUBLISH, 0, 0)));
        played(&operations)
    }

    #[test]
    fn a_reader_that_falls_out_gets_what_is_open_and_then_the_rest() {
        let mut game = full();
        let user = |game: &Game| (game.users[&0].devices[0].at, game.users[&0].stream.head());
        assert_eq!(user(&game), (0, LOG_ENTRIES + 4));
        game.play(READ, 0, 255);
        assert_eq!(user(&game), (4, LOG_ENTRIES + 4));
        game.play(READ, 0, 255);
        assert_eq!(user(&game), (LOG_ENTRIES + 4, LOG_ENTRIES + 4));
        game.end();
    }

    #[test]
    #[should_panic(expected = "custom")]
    fn two_neighbours_that_change_places_are_a_finding() {
        let mut game = full();
        game.play(READ, 0, 255);
        let events = &mut game.users.get_mut(&0).expect("a user").stream.events;
        let last = events.len() - 1;
        events.swap(last, last - 1);
        game.play(READ, 0, 255);
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_run_that_is_not_in_the_state_is_a_finding() {
        let mut game = full();
        game.users.get_mut(&0).expect("a user").stream.events[1].1 = What::Other(None, String::new());
        game.play(READ, 0, 255);
    }

    #[test]
    #[should_panic(expected = "DeliveredTo")]
    fn a_device_that_nobody_knows_is_a_finding() {
        let mut game = played(&[(ATTACH, 0, 0), (ATTACH, 0, 0)]);
        game.users.get_mut(&0).expect("a user").devices.remove(1);
        game.play(PUBLISH, 0, 0);
    }
}
