//! What an exploration knows the states of a connection by.

use crate::connection::Connection;
use crate::explore::Fingerprint;

impl Connection {
    /// All of a connection but its settings, which do not change, and what waits for the socket itself, which `Debug` leaves out.
    pub(crate) fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { settings: _, phase, phase_deadline, wire, event, entrance, secure, reason, heard } = self;
        out.shown(&(phase, phase_deadline, wire, event, entrance, secure, reason, heard));
        out.bytes(wire.unsent());
    }
}
