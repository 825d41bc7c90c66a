//! What a shard must hold and say, told from the operations alone.

use std::collections::BTreeSet;

use super::super::{Credential, Told};
use crate::error::CloseReason;
use crate::id::{SessionId, TokenId};
use crate::manager::Revoked;
use crate::protocol::{EventKind, Receipt};
use crate::time::UnixTime;

pub(super) const USERS: [&str; 2] = ["ann", "bob"];
/// Devices of each user.
pub(super) const SLOTS: usize = 2;

/// One socket of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) user: usize,
    pub(super) device: usize,
    /// Rises from 1 with each socket of the device.
    pub(super) generation: u32,
}

impl Seat {
    pub(super) fn all(generations: u32) -> impl Iterator<Item = Self> {
        (0..USERS.len()).flat_map(move |user| {
            (0..SLOTS)
                .flat_map(move |device| (1..=generations).map(move |generation| Self { user, device, generation }))
        })
    }

    pub(super) fn handle(self) -> u32 {
        (self.user * SLOTS + self.device) as u32 * 10 + self.generation
    }

    /// The device's, whichever its socket.
    pub(super) fn session(self) -> SessionId {
        SessionId::from_bits((self.user * SLOTS + self.device + 1) as u128)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// With which everybody comes.
    First,
    /// Of a refresh.
    Second,
}

impl Token {
    pub(super) const ALL: [Self; 2] = [Self::First, Self::Second];

    pub(super) fn id(self) -> TokenId {
        format!("{self:?}").parse().unwrap()
    }

    pub(super) fn credential(self) -> Credential {
        let expires = UnixTime::from_secs(2_000_000_000 + self as u64);
        // Issued before anything happens.
        Credential { id: Some(self.id()), issued_at: Some(UnixTime::from_secs(1)), expires }
    }
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// In the order in which they came.
    attached: Vec<(Seat, Token)>,
    /// Who said hello, whether it was let in or not, and who has left.
    come: BTreeSet<Seat>,
    left: BTreeSet<Seat>,
    events: usize,
    /// It was somebody's once, so that it may be bob's turn.
    known: bool,
    sessions: BTreeSet<SessionId>,
    tokens: BTreeSet<Token>,
    all: bool,
}

/// The same operations on lists.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    users: [Known; USERS.len()],
    draining: bool,
    per_user: usize,
}

impl Expected {
    pub(super) fn new(per_user: usize) -> Self {
        Self { users: Default::default(), draining: false, per_user }
    }

    pub(super) fn attached(&self, of: usize) -> impl Iterator<Item = Seat> {
        self.users[of].attached.iter().map(|(seat, _)| *seat)
    }

    pub(super) fn is_in(&self, seat: Seat) -> bool {
        self.attached(seat.user).any(|known| known == seat)
    }

    pub(super) fn has_come(&self, seat: Seat) -> bool {
        self.users[seat.user].come.contains(&seat)
    }

    pub(super) fn has_left(&self, seat: Seat) -> bool {
        self.users[seat.user].left.contains(&seat)
    }

    pub(super) fn knows(&self, of: usize) -> bool {
        self.users[of].known
    }

    pub(super) fn events(&self, of: usize) -> usize {
        self.users[of].events
    }

    /// What was sent, which is a run from its start to its end at most.
    pub(super) fn kinds(&self, of: usize) -> impl Iterator<Item = EventKind> {
        let whole = [EventKind::AgentStarted, EventKind::AgentThinking, EventKind::AgentCompleted];
        whole.into_iter().take(self.users[of].events)
    }

    pub(super) fn is_revoked(&self, seat: Seat, token: Token) -> bool {
        let known = &self.users[seat.user];
        known.all || known.sessions.contains(&seat.session()) || known.tokens.contains(&token)
    }

    pub(super) fn attach(&mut self, seat: Seat) -> (Result<SessionId, CloseReason>, Vec<Told>) {
        let (draining, revoked, max) = (self.draining, self.is_revoked(seat, Token::First), self.per_user);
        let known = &mut self.users[seat.user];
        known.come.insert(seat);
        known.known = true;
        let same = known.attached.iter().position(|(other, _)| other.device == seat.device);
        let mut told = Vec::new();
        let answer = if draining {
            Err(CloseReason::Restart)
        } else if revoked {
            Err(CloseReason::TokenRevoked)
        } else if let Some(at) = same {
            let (other, _) = known.attached[at];
            if other.generation > seat.generation {
                Err(CloseReason::Superseded)
            } else {
                known.attached.remove(at);
                told.push(Told::Closed(other.handle(), CloseReason::Superseded));
                Ok(seat.session())
            }
        } else if known.attached.len() >= max {
            Err(CloseReason::TooManyConnections)
        } else {
            Ok(seat.session())
        };
        if answer.is_ok() {
            known.attached.push((seat, Token::First));
        }
        (answer, told)
    }

    pub(super) fn leave(&mut self, seat: Seat) {
        let known = &mut self.users[seat.user];
        known.left.insert(seat);
        known.attached.retain(|(other, _)| *other != seat);
    }

    pub(super) fn refresh(&mut self, seat: Seat) -> bool {
        let known = &mut self.users[seat.user];
        let is_revoked = known.all || known.tokens.contains(&Token::Second);
        match known.attached.iter_mut().find(|(other, _)| *other == seat) {
            Some((_, token)) if !is_revoked => {
                *token = Token::Second;
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn publish(&mut self, of: usize) -> (Option<Receipt>, Vec<Told>) {
        let known = &mut self.users[of];
        if known.events == 0 && self.draining {
            // No run begins any more; the others end.
            return (None, Vec::new());
        }
        known.events += 1;
        known.known = true;
        let told: Vec<Told> = known.attached.iter().map(|(seat, _)| Told::Ready(seat.handle())).collect();
        let receipt = match told.len() {
            0 => Receipt::Stored,
            n => Receipt::DeliveredTo(n as u32),
        };
        (Some(receipt), told)
    }

    pub(super) fn revoke(&mut self, of: usize, what: &Revoked) -> Vec<Told> {
        let known = &mut self.users[of];
        known.known = true;
        let mut told = Vec::new();
        let hit = |seat: &Seat, token: &Token| match what {
            Revoked::Session(session) => seat.session() == *session,
            Revoked::Token(id) => token.id() == *id,
            Revoked::All => true,
        };
        known.attached.retain(|(seat, token)| {
            let goes = hit(seat, token);
            told.extend(goes.then(|| Told::Closed(seat.handle(), CloseReason::TokenRevoked)));
            !goes
        });
        match what {
            Revoked::Session(session) => drop(known.sessions.insert(*session)),
            Revoked::Token(id) => known.tokens.extend(Token::ALL.into_iter().filter(|token| token.id() == *id)),
            Revoked::All => known.all = true,
        }
        told
    }

    pub(super) fn drain(&mut self) -> Vec<Told> {
        self.draining = true;
        let all = self.users.iter().flat_map(|known| &known.attached);
        all.map(|(seat, _)| Told::GoingAway(seat.handle())).collect()
    }

    /// Whose retention is over is nobody any more: its log begins again.
    pub(super) fn forget(&mut self, is_there: impl Fn(&str) -> bool) -> Vec<usize> {
        let gone: Vec<usize> = (0..USERS.len()).filter(|of| !is_there(USERS[*of])).collect();
        for of in &gone {
            let known = &mut self.users[*of];
            assert!(known.attached.is_empty() && matches!(known.events, 0 | 3), "{of} was not to be forgotten");
            known.events = 0;
        }
        gone
    }
}
