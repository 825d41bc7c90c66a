//! What one receiver must be given: every message once and in order, each where its stream says that it is.

use std::fmt;

use trunkline_core::protocol::Position;

/// What one receiver was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The number that its sender gave it, from 1.
    pub number: u64,
    /// Where it is and the seq that it follows, where it is an event of a stream.
    pub place: Option<(Position, u64)>,
}

/// One receiver's view of one sender's messages, whose numbers rise by one from 1.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    last: u64,
    place: Option<Position>,
    /// Numbers that were passed over, as ranges with both ends: lost, unless they still come.
    missing: Vec<(u64, u64)>,
    tally: Tally,
}

/// What a receiver was given, and what was wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Messages that came.
    pub received: u64,
    /// Messages that never came, and of which the server said nothing.
    pub lost: u64,
    /// Messages that came once more.
    pub doubled: u64,
    /// Messages that came behind a later one.
    pub swapped: u64,
    /// Messages that are not where their own `event_id` and `prev` would have them.
    pub misplaced: u64,
    /// Messages that the server said it no longer has, to a receiver that did not read.
    pub told_lost: u64,
}

impl Tally {
    /// Whether every message came once, in order, and in its place, or is one that the server gave up in words.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        (self.lost, self.doubled, self.swapped, self.misplaced) == (0, 0, 0, 0)
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.swapped += other.swapped;
        self.misplaced += other.misplaced;
        self.told_lost += other.told_lost;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, lost, doubled, swapped, misplaced, told_lost } = self;
        write!(f, "{received} received, {lost} lost, {doubled} doubled, {swapped} swapped, {misplaced} misplaced")?;
        if *told_lost > 0 { write!(f, ", {told_lost} given up in words") } else { Ok(()) }
    }
}

impl Checker {
    /// A receiver of replies, which have no place.
    #[must_use]
    pub fn of_replies() -> Self {
        Self::default()
    }

    /// A receiver of a stream's events, which stands here.
    #[must_use]
    pub fn of_stream(place: Position) -> Self {
        Self { place: Some(place), ..Self::default() }
    }

    /// The number of the last message that came.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Where it stands in its stream.
    #[must_use]
    pub fn place(&self) -> Option<Position> {
        self.place
    }

    /// One message came.
    ///
    /// # Errors
    /// What is wrong with it, in words. It is counted, and the next one is looked at in the same way.
    pub fn take(&mut self, given: &Given) -> Result<(), String> {
        self.tally.received += 1;
        let numbered = self.number(given.number);
        let placed = self.follow(given);
        numbered.and(placed)
    }

    fn number(&mut self, number: u64) -> Result<(), String> {
        let due = self.last + 1;
        if number == due {
            self.last = number;
            return Ok(());
        }
        if number > due {
            self.missing.push((due, number - 1));
            self.last = number;
            return Err(format!("number {number} came where {due} was due"));
        }
        if self.found(number) {
            self.tally.swapped += 1;
            return Err(format!("number {number} came behind number {}", self.last));
        }
        self.tally.doubled += 1;
        Err(format!("number {number} came once more"))
    }

    /// Whether the number was missing; it is not any more.
    fn found(&mut self, number: u64) -> bool {
        let Some(at) = self.missing.iter().position(|(from, to)| (*from..=*to).contains(&number)) else { return false };
        let (from, to) = self.missing.swap_remove(at);
        self.missing.extend([(from, number - 1), (number + 1, to)].into_iter().filter(|(from, to)| from <= to));
        true
    }

    fn follow(&mut self, given: &Given) -> Result<(), String> {
        let Some(stands) = self.place else { return Ok(()) };
        let Some((place, prev)) = given.place else {
            self.tally.misplaced += 1;
            return Err(format!("number {} has no event_id", given.number));
        };
        self.place = Some(place);
        // No more than one event stands in one of these frames.
        if (place.epoch, prev) == (stands.epoch, stands.seq) && place.seq == prev + 1 {
            return Ok(());
        }
        self.tally.misplaced += 1;
        Err(format!("number {} is at {place} behind {prev}, and {stands} came before it", given.number))
    }

    /// The server says that all up to this place is gone, to one that has not read it. The stream has no events but the sender's.
    ///
    /// # Errors
    /// When that place is none that comes next.
    pub fn skip(&mut self, to: Position) -> Result<(), String> {
        match self.place {
            Some(stands) if stands.epoch == to.epoch && stands.seq <= to.seq => {
                let gone = to.seq - stands.seq;
                self.place = Some(to);
                self.last += gone;
                self.tally.told_lost += gone;
                Ok(())
            }
            Some(_) | None => Err(format!("a loss up to {to} is told to one that stands at {:?}", self.place)),
        }
    }

    /// What it came to, where `sent` messages were to come.
    #[must_use]
    pub fn tally(&self, sent: u64) -> Tally {
        let passed_over: u64 = self.missing.iter().map(|(from, to)| to - from + 1).sum();
        Tally { lost: passed_over + sent.saturating_sub(self.last), ..self.tally }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 1_784_131_200_000_000;

    fn event(number: u64, seq: u64, prev: u64) -> Given {
        Given { number, place: Some((Position { epoch: EPOCH, seq }, prev)) }
    }

    /// Feeds events that stand where they claim, at 100 and the number.
    fn fed(numbers: &[u64], sent: u64) -> (Tally, Vec<String>) {
        let mut checker = Checker::of_stream(Position { epoch: EPOCH, seq: 100 });
        let words = numbers.iter().filter_map(|n| checker.take(&event(*n, 100 + n, 99 + n)).err()).collect();
        (checker.tally(sent), words)
    }

    #[test]
    fn every_event_once_and_in_order_is_whole() {
        let (tally, words) = fed(&[1, 2, 3, 4], 4);
        assert!(tally.is_whole() && words.is_empty(), "{tally} {words:?}");
        assert_eq!(tally.received, 4);
    }

    #[test]
    fn a_lost_event_is_noticed() {
        let (tally, words) = fed(&[1, 2, 4, 5], 5);
        assert_eq!((tally.lost, tally.doubled, tally.swapped), (1, 0, 0));
        assert_eq!(words, ["number 4 came where 3 was due"]);
    }

    #[test]
    fn the_last_event_is_noticed_to_be_lost() {
        let (tally, words) = fed(&[1, 2, 3], 5);
        assert_eq!((tally.lost, words.len()), (2, 0));
        assert!(!tally.is_whole());
        assert_eq!(fed(&[], 3).0.lost, 3);
    }

    #[test]
    fn a_doubled_event_is_noticed() {
        let (tally, words) = fed(&[1, 2, 2, 3], 3);
        assert_eq!((tally.lost, tally.doubled, tally.swapped), (0, 1, 0));
        assert_eq!(words, ["number 2 came once more"]);
    }

    #[test]
    fn a_swapped_event_is_noticed() {
        let (tally, _) = fed(&[1, 3, 2, 4], 4);
        assert_eq!((tally.lost, tally.doubled, tally.swapped), (0, 0, 1));
        assert_eq!(tally.misplaced, 3, "each of the three does not follow what came before it");
    }

    #[test]
    fn what_was_swapped_and_comes_again_is_doubled() {
        let (tally, _) = fed(&[1, 5, 3, 3, 2, 4], 5);
        assert_eq!((tally.lost, tally.doubled, tally.swapped), (0, 1, 3));
    }

    #[test]
    fn the_stream_is_looked_at_beside_the_numbers() {
        let mut checker = Checker::of_stream(Position { epoch: EPOCH, seq: 7 });
        assert!(checker.take(&event(1, 8, 7)).is_ok());
        // The second number, at a seq that passes one over; a seq that stands still; another epoch; no place at all.
        assert!(checker.take(&event(2, 10, 9)).is_err());
        assert!(checker.take(&event(3, 10, 9)).is_err());
        let elsewhere = Given { number: 4, place: Some((Position { epoch: EPOCH + 1, seq: 11 }, 10)) };
        assert!(checker.take(&elsewhere).is_err());
        assert!(checker.take(&Given { number: 5, place: None }).is_err());
        // A prev that hides what is missing.
        assert!(checker.take(&Given { number: 6, place: Some((Position { epoch: EPOCH + 1, seq: 14 }, 11)) }).is_err());
        let tally = checker.tally(6);
        assert_eq!((tally.misplaced, tally.lost), (5, 0));
        assert!(!tally.is_whole());
    }

    #[test]
    fn replies_have_no_place() {
        let mut checker = Checker::of_replies();
        assert!(checker.take(&Given { number: 1, place: None }).is_ok());
        assert!(checker.take(&Given { number: 3, place: None }).is_err());
        assert_eq!(checker.tally(3).lost, 1);
    }

    #[test]
    fn what_is_told_is_not_lost_in_silence() {
        let mut checker = Checker::of_stream(Position { epoch: EPOCH, seq: 100 });
        assert!(checker.take(&event(1, 101, 100)).is_ok());
        assert!(checker.skip(Position { epoch: EPOCH, seq: 104 }).is_ok());
        assert!(checker.take(&event(5, 105, 104)).is_ok());
        let tally = checker.tally(5);
        assert_eq!((tally.lost, tally.told_lost), (0, 3));
        assert!(tally.is_whole());
        assert!(checker.skip(Position { epoch: EPOCH, seq: 104 }).is_err(), "behind where it stands");
        assert!(checker.skip(Position { epoch: EPOCH + 1, seq: 200 }).is_err(), "of another epoch");
    }
}
