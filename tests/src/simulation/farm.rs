//! Many seeds, on as many threads as there are processors. Each seed has a thread of its own to itself while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::counters::Counters;
use super::judge::Broken;
use super::run_seed;

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Harvest {
    /// How many came to rest.
    pub seeds: u64,
    /// Operations in all.
    pub steps: u64,
    /// What happened.
    pub counters: Counters,
    /// The hashes of all traces, added up.
    pub hash: u64,
    /// The first that failed.
    pub failed: Option<(u64, Broken)>,
}

/// Runs the seeds from `first` on; no other is begun once one has failed.
#[must_use]
pub fn farm(first: u64, seeds: u64, steps: usize, threads: usize, progress: impl Fn(u64) + Sync) -> Harvest {
    let (next, harvest) = (AtomicU64::new(0), Mutex::new(Harvest::default()));
    let work = || {
        let mut own = Harvest::default();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= seeds {
                break;
            }
            let seed = first + at;
            let outcome = run_seed(seed, steps);
            own.seeds += 1;
            own.steps += outcome.steps as u64;
            own.counters.add(&outcome.counters);
            own.hash = own.hash.wrapping_add(outcome.hash);
            if let Some(broken) = outcome.broken {
                own.failed = Some((seed, broken));
                next.store(seeds, Ordering::Relaxed);
            }
            progress(at);
        }
        harvest.lock().unwrap_or_else(PoisonError::into_inner).take(own);
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    harvest.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Harvest {
    fn take(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.counters.add(&other.counters);
        self.hash = self.hash.wrapping_add(other.hash);
        // The lowest seed is named, whichever thread came first.
        let failed = self.failed.take().into_iter().chain(other.failed);
        self.failed = failed.min_by_key(|(seed, _)| *seed);
    }
}
