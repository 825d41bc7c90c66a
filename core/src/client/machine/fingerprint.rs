//! What an exploration knows the states of a client by.

use super::Client;
use crate::explore::Fingerprint;

impl Client {
    /// All of a client but its configuration and limits, which do not change, and what it only reads into: frames come whole.
    pub(crate) fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { config: _, limits: _, phase: _, deadline, assembler, out: outbound, events, places, .. } = self;
        out.shown(&(self, deadline, assembler, events, places));
        out.bytes(outbound.transmit());
        let Self { topics, leaving, session, silence, acks, renewal, refreshes, reducer, end, .. } = self;
        out.shown(&(topics, leaving, session, silence, acks, renewal, refreshes, reducer, end));
    }
}
