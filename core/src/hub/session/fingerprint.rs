//! What an exploration knows the states of a session by, and what it looks at.

use super::Session;
use crate::explore::Fingerprint;
use crate::time::UnixTime;

impl Session {
    /// All of a session but what it shares with others, whose states are its hub's, and its number among all sockets.
    pub(crate) fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { hub: _, connection, input, mail, state, handoff, leaving, room: _, placed, inbound, trace: _ } =
            self;
        connection.fingerprint(out);
        out.shown(&(input, mail, state, handoff, leaving, placed, inbound));
    }

    /// Whether its task was woken, or has something to write.
    pub(crate) fn has_news(&self) -> bool {
        self.mail.is_marked() || !self.connection.transmit().is_empty()
    }

    /// When the token expires on which it stands, while it is live.
    pub(crate) const fn expires(&self) -> Option<UnixTime> {
        self.connection.expires()
    }
}
