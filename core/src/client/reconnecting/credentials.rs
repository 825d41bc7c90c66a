//! What a client comes in with, socket after socket: kept while it holds, replaced when it is over.

use super::{Output, Phase, Reconnecting, State, Stopped, Trouble, Update};
use crate::client::{Credentials, TokenError, Wanted};
use crate::error::{CloseReason, NextAction};
use crate::protocol::{ServerFrame, Token};
use crate::time::{Now, Timestamp};

/// Credentials in hand, on their way, and used up.
#[derive(Debug, Default)]
pub(super) struct Keys {
    in_hand: Option<Credentials>,
    /// What the server wants no more.
    spent: Option<Credentials>,
    /// Why it does not: what is said where there are no others.
    refused: Option<Trouble>,
    /// Others were tried since the server last let the client in.
    tried_others: bool,
    /// The token that the server has of this socket.
    shown: Option<Token>,
    /// The source has nothing to renew with.
    fixed: bool,
    /// What the server's last notice said, in seconds.
    notice: f64,
    asks: u64,
    under_way: Option<(u64, Wanted, Timestamp)>,
    /// No socket is opened before, and what the wait is said to be for.
    not_before: Option<(Timestamp, State)>,
}

impl Keys {
    /// What was wanted of the ask of this number; a late one is nobody's.
    pub(super) fn answered(&mut self, ask: u64) -> Option<Wanted> {
        self.under_way.take_if(|(number, ..)| *number == ask).map(|(_, wanted, _)| wanted)
    }

    pub(super) fn awaits(&self, ask: u64) -> bool {
        self.under_way.is_some_and(|(number, ..)| number == ask)
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.under_way.map(|(.., deadline)| deadline)
    }

    pub(super) fn overdue(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn let_in(&mut self) {
        (self.tried_others, self.refused, self.not_before) = (false, None, None);
    }

    /// Another wait takes the place of the one before.
    pub(super) fn wait_no_more(&mut self) {
        self.not_before = None;
    }

    /// For the next socket; a ticket is good for one.
    pub(super) fn show(&mut self) -> Option<Credentials> {
        let shown = self.in_hand.clone();
        self.shown = None;
        match &shown {
            Some(Credentials::Ticket(_)) => self.in_hand = None,
            Some(Credentials::Token(token)) => self.shown = Some(token.clone()),
            None => {}
        }
        // Should the server not want it.
        self.spent.clone_from(&shown);
        shown
    }

    /// A ticket is old by the next socket.
    pub(super) fn drop_ticket(&mut self) {
        self.in_hand.take_if(|held| matches!(held, Credentials::Ticket(_)));
    }

    /// The token that the server does not have yet.
    fn newer(&mut self) -> Option<Token> {
        let Some(Credentials::Token(token)) = &self.in_hand else { return None };
        if self.shown.as_ref() == Some(token) {
            return None;
        }
        self.shown = Some(token.clone());
        self.spent.clone_from(&self.in_hand);
        self.shown.clone()
    }

    /// Nobody comes in any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Reconnecting {
    /// Gets what the next socket needs, then opens it.
    pub(super) fn begin(&mut self, now: Now) {
        self.enter(State::Connecting);
        if self.keys.in_hand.is_some() {
            return self.open(now);
        }
        self.phase = Phase::Asking;
        self.ask(now, if self.keys.refused.is_some() { Wanted::Another } else { Wanted::Socket });
    }

    fn open(&mut self, now: Now) {
        self.keys.not_before = None;
        self.attempt += 1;
        self.phase = Phase::Opening(now.at + self.config.open_deadline);
        self.put(Output::Open(self.attempt), 0);
    }

    fn ask(&mut self, now: Now, wanted: Wanted) {
        self.keys.asks += 1;
        self.keys.under_way = Some((self.keys.asks, wanted, now.at + self.config.token_deadline));
        self.put(Output::Ask(self.keys.asks, wanted), 0);
    }

    /// The answer for a socket that is to be opened.
    pub(super) fn given(&mut self, now: Now, outcome: Result<Credentials, TokenError>) {
        let refused = self.keys.refused.clone();
        match outcome {
            Ok(given) if refused.is_some() && self.keys.spent.as_ref() == Some(&given) => match refused {
                // It would be found as bad as before.
                Some(trouble) if trouble.is_about_credentials() => self.stop(Stopped::Trouble(trouble)),
                Some(_) | None => {
                    self.lost(now, Trouble::NoCredentials("the token is over, and there is no other yet".to_owned()));
                }
            },
            Ok(given) => {
                self.keys.in_hand = Some(given);
                match self.keys.not_before.take() {
                    Some((until, state)) if until > now.at => {
                        self.keys.drop_ticket();
                        self.phase = Phase::Waiting(until);
                        self.enter(state);
                    }
                    Some(_) | None => self.open(now),
                }
            }
            Err(TokenError::Refused(why)) => {
                self.stop(Stopped::Trouble(refused.unwrap_or(Trouble::NoCredentials(why))));
            }
            Err(TokenError::Unavailable(why)) => self.lost(now, Trouble::NoCredentials(why)),
        }
    }

    /// The answer to an ask that no socket waits for.
    pub(super) fn renewed(&mut self, now: Now, wanted: Wanted, outcome: Result<Credentials, TokenError>) {
        match outcome {
            Ok(given @ Credentials::Token(_)) => self.install(now, given),
            // It would only be used up.
            Ok(Credentials::Ticket(_)) => self.leave_renewal(),
            Err(TokenError::Refused(_)) if wanted == Wanted::Renewal => self.leave_renewal(),
            Err(TokenError::Refused(why) | TokenError::Unavailable(why)) => self.tell(Update::NoToken(why)),
        }
    }

    /// From here on it is the application's business.
    fn leave_renewal(&mut self) {
        self.keys.fixed = true;
        let notice = ServerFrame::AuthExpiring { expires_in: self.keys.notice };
        self.tell(Update::Frame(Box::new(notice)));
    }

    /// Gives the server a new token of the same user, or the next socket where there is none.
    pub fn refresh(&mut self, now: Now, token: Token) {
        self.install(now, Credentials::Token(token));
        if matches!(self.phase, Phase::Asking) {
            self.keys.under_way = None;
            self.open(now);
        }
        self.pump(now);
    }

    fn install(&mut self, now: Now, given: Credentials) {
        self.keys.in_hand = Some(given);
        if self.state == State::Live {
            self.deliver(now);
        }
    }

    /// Shows the server a token that came after this socket was opened.
    pub(super) fn deliver(&mut self, _now: Now) {
        if let Phase::Up(client) = &mut self.phase
            && let Some(token) = self.keys.newer()
        {
            client.refresh(token);
        }
    }

    /// The token in use ends soon: answers whether the application is to see to it.
    pub(super) fn expiring(&mut self, now: Now, expires_in: f64) -> bool {
        self.keys.notice = expires_in;
        let by_token = self.keys.shown.is_some();
        let asks = by_token && !self.keys.fixed;
        if asks && self.keys.under_way.is_none() {
            self.ask(now, Wanted::Renewal);
        }
        !asks
    }

    /// The server does not take the token that it was last shown; a temporary refusal says nothing of it.
    pub(super) fn refresh_refused(&mut self) {
        self.keys.in_hand = None;
    }

    pub(super) fn handle_overdue_ask(&mut self, now: Now) {
        self.keys.under_way = None;
        let why = format!("no token in {} s", self.config.token_deadline.as_secs_f64());
        match &self.phase {
            Phase::Asking => self.lost(now, Trouble::NoCredentials(why)),
            Phase::Opening(_) | Phase::Up(_) | Phase::Waiting(_) => self.tell(Update::NoToken(why)),
            Phase::Stopped => {}
        }
    }

    /// The server wants other credentials, and others are asked for at once; the next socket still waits its time.
    pub(super) fn replace(&mut self, now: Now, trouble: Trouble) {
        if let Trouble::Closed { code, .. } = trouble
            && code == CloseReason::TokenRevoked.code()
        {
            // A session that is revoked lets nobody in, whatever the token.
            self.session = None;
        }
        let newer = self.keys.in_hand.take().filter(|held| self.keys.spent.as_ref() != Some(held));
        self.keys.refused = Some(trouble.clone());
        let Some((until, state)) = self.wait(now, trouble, NextAction::NewToken) else { return };
        if newer.is_some() {
            // A renewal had come that the server never saw.
            self.keys.in_hand = newer;
            self.phase = Phase::Waiting(until);
            return self.enter(state);
        }
        self.keys.not_before = Some((until, state));
        self.phase = Phase::Asking;
        self.enter(State::Connecting);
        self.ask(now, Wanted::Another);
    }

    /// The server finds the credentials bad. Others may be better: that is tried once until it lets the client in again.
    pub(super) fn replace_once(&mut self, now: Now, trouble: Trouble) {
        if std::mem::replace(&mut self.keys.tried_others, true) {
            return self.stop(Stopped::Trouble(trouble));
        }
        self.replace(now, trouble);
        // Who is asked to pick other credentials should not be kept waiting to hear that they are as bad.
        self.keys.not_before = None;
    }
}

/// Whether a reply is between the client and the server: it tells what became of a token that the client sent.
pub(super) fn is_of_refresh(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Reply(reply) if reply.id.as_str().starts_with("refresh-"))
}
