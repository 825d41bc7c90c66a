//! What an exploration knows the states of a shard by.

use std::fmt::Debug;

use crate::explore::Fingerprint;
use crate::manager::Manager;
use crate::manager::user::{Channel, Device, Past, User};

impl<H: Clone + Debug> Manager<H> {
    /// All of a shard but its limits, which do not change. `Debug` leaves out frames and the ids of tokens, so they are added.
    pub(crate) fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { limits: _, key_sizes, keys_share, log_share, users, topics, deadlines, outputs, leases, .. } = self;
        out.shown(&(key_sizes, keys_share, log_share, topics, deadlines, outputs, leases));
        let Self { logs, kept, open_runs, max_runs: _, max_kept: _, last_epoch, last_request, asked, .. } = self;
        // How many have fallen idle up to now means nothing, only in which order those did who still are.
        let idle: Vec<_> = kept.in_order().map(|(place, due)| (place.0, due)).collect();
        out.shown(&(logs, idle, open_runs, last_epoch, last_request, asked));
        let Self { denied, requests_share: _, draining, level, bytes_seen, .. } = self;
        out.shown(&(denied, denied.names(), draining, level, bytes_seen));
        for (id, user) in users {
            out.shown(id);
            user.fingerprint(out);
        }
    }
}

impl<H: Debug> User<H> {
    fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { channel, runs, requests, keys, producer_keys, counted_keys, past, .. } = self;
        let nothing = Past::default();
        let Past { ended, decided, evicted } = past.as_deref().unwrap_or(&nothing);
        out.shown(&(runs, requests, keys, producer_keys, counted_keys, ended, decided));
        let Self { idle_since, kept: _, armed, .. } = self;
        let Channel { log, appended: _, ages, devices } = channel;
        out.shown(&(evicted, idle_since, armed, log, log.base(), ages));
        log.after(log.start()).into_iter().flatten().for_each(|entry| out.bytes(entry.frame()));
        for device in devices {
            // The order of sockets counts among those of one session, where it is the order of their generations.
            let Device { handle, connection, order: _, session, tokens, continued_from, .. } = device;
            let Device { acked, dead_at, active, .. } = device;
            out.shown(&(handle, connection, session, tokens.names(), continued_from, acked, dead_at, active));
        }
    }
}
