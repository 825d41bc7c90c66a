//! What an exploration knows the states of a connection by.

use crate::connection::Connection;
use crate::connection::phase::Phase;
use crate::explore::Fingerprint;

impl Connection {
    /// All of a connection but its settings, which do not change, and what waits for the socket itself, which `Debug` leaves out.
    pub(crate) fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { settings: _, phase, phase_deadline, wire, event, entrance, secure, reason, heard, answered: _ } =
            self;
        out.shown(&(phase, phase_deadline, wire, event, entrance, secure, reason, heard));
        out.bytes(wire.unsent());
        // `Debug` of a phase is its name. A head comes in one piece here, and no verification takes time.
        match phase {
            Phase::AwaitHello(greeting) => out.shown(greeting),
            Phase::Attaching(entering) => out.shown(entering),
            Phase::Live(live) => out.shown(live),
            Phase::Closing(closing) => out.shown(closing),
            Phase::Head(_) | Phase::Reserving(_) | Phase::VerifyUpgrade(_) | Phase::VerifyHello(_) => {}
            Phase::Handoff(_) | Phase::Closed => {}
        }
    }
}
