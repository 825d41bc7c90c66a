//! What an exploration knows the states of a hub by.

use super::Hub;
use crate::explore::Fingerprint;

impl Hub {
    /// All that a hub's operations change.
    pub(crate) fn fingerprint(&self, out: &mut Fingerprint) {
        let inner = &*self.inner;
        for shard in &inner.shards {
            shard.lock().fingerprint(out);
        }
        out.shown(&(inner.gate.inside(), inner.gate.is_shut(), inner.connections.used(), inner.unauthenticated.used()));
        out.shown(&(inner.inbound.used(), inner.snapshots.used(), inner.tickets.lock().len()));
        out.shown(&(&*inner.requests, &*inner.producers.lock(), &*inner.levels.lock()));
    }

    /// Sessions that were let in and are not over.
    pub(crate) fn inside(&self) -> usize {
        self.inner.gate.inside()
    }
}
