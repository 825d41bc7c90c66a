//! How a socket ends, and what that leads to.

use super::{Phase, Reconnecting, State, Stopped, Trouble};
use crate::client::Fault;
use crate::error::NextAction;
use crate::time::{Now, Timestamp};

impl Reconnecting {
    /// The socket is done with, or never was: waits, tries otherwise, or stops.
    pub(super) fn lost(&mut self, now: Now, trouble: Trouble) {
        self.keep();
        self.keys.drop_ticket();
        if self.closing {
            return self.stop(Stopped::Closed);
        }
        if let Some(asked) = trouble.asked() {
            self.backoff.asked(asked);
        }
        if trouble.is_about_credentials() {
            return self.replace_once(now, trouble);
        }
        match self.next_action(&trouble) {
            NextAction::Nothing | NextAction::Stop => self.stop(Stopped::Trouble(trouble)),
            NextAction::NewToken => self.replace(now, trouble),
            action @ (NextAction::Retry | NextAction::RetryLater) => self.retry(now, trouble, action),
            NextAction::RetryAfresh => {
                self.give_up_places();
                self.retry(now, trouble, NextAction::RetryAfresh);
            }
        }
    }

    /// A gap at the place of the last one would be met for ever.
    fn next_action(&mut self, trouble: &Trouble) -> NextAction {
        if let Trouble::Fault(Fault::Gap { expected, .. }) = trouble
            && self.faulted_at.replace(*expected) == Some(*expected)
        {
            return NextAction::RetryAfresh;
        }
        trouble.next_action(self.welcomed)
    }

    fn retry(&mut self, now: Now, trouble: Trouble, action: NextAction) {
        if let Some((until, state)) = self.wait(now, trouble, action) {
            self.keys.wait_no_more();
            self.phase = Phase::Waiting(until);
            self.enter(state);
        }
    }

    /// Until when to wait, and how that is told.
    pub(super) fn wait(&mut self, now: Now, why: Trouble, action: NextAction) -> Option<(Timestamp, State)> {
        let wait = self.backoff.lost(now.at, action, self.entropy.u64())?;
        let (until, failures) = (now.at + wait, self.backoff.failures());
        Some((until, State::Waiting { until, wait, failures, why }))
    }

    /// Takes back what the next socket goes on with.
    fn keep(&mut self) {
        self.pace = None;
        self.outbox.socket_lost();
        self.snapshots.clear();
        if let Phase::Up(client) = std::mem::replace(&mut self.phase, Phase::Asking) {
            self.session = client.session().or(self.session);
            self.carried = client.into_carried();
            self.carried.places.retain(&self.topics);
        }
    }

    /// Whatever was built of the streams begins anew, from all that the server keeps.
    fn give_up_places(&mut self) {
        self.given_up.extend(self.carried.places.held());
        self.carried.places.begin_anew();
        self.carried.reducer.clear();
    }

    /// For good.
    pub(super) fn stop(&mut self, why: Stopped) {
        self.keep();
        self.phase = Phase::Stopped;
        self.keys.forget();
        self.enter(State::Stopped(why));
        for undone in self.outbox.drain() {
            self.tell(undone);
        }
    }
}
