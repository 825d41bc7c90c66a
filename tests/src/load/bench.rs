//! What the modes share: the server, the clock, what is counted, and what was wrong.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use serde_json::Value;

use super::clock::{Clock, nanos};
use super::dial::{Caller, Target, Welcomed};
use super::options::Options;
use super::process::Processes;
use super::report::{Latency, Span};

/// How many connections are opened at once where that is not what is measured.
const OPENING: usize = 64;
/// Of so many faults the words are kept.
const WORDS: usize = 10;
const LONGEST: u64 = 600_000_000_000;

pub(super) struct Bench {
    pub(super) options: Options,
    pub(super) target: Target,
    pub(super) clock: Clock,
    pub(super) meter: Meter,
    pub(super) processes: Processes,
    /// Begins the names of users and topics, so that nobody else's events are among those of this run.
    name: String,
    faults: Cell<u64>,
    words: RefCell<Vec<String>>,
}

/// What was counted, and how long it took.
#[derive(Debug)]
pub(super) struct Meter {
    times: RefCell<Histogram<u64>>,
    count: Cell<u64>,
    /// The same with what is not counted.
    moved: Cell<u64>,
    /// What was to be sent from here to there is measured, whenever it comes.
    from: Cell<u64>,
    to: Cell<u64>,
}

impl Meter {
    fn new() -> Result<Self, String> {
        let times = Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| error.to_string())?;
        let zero = || Cell::new(0);
        let never = || Cell::new(u64::MAX);
        Ok(Self { times: RefCell::new(times), count: zero(), moved: zero(), from: never(), to: never() })
    }

    /// Something that was to be sent at one time came at the other.
    pub(super) fn came(&self, sent: u64, now: u64) {
        self.count.set(self.count.get() + 1);
        self.moved();
        self.timed(sent, now);
    }

    /// The same for something that is not counted.
    pub(super) fn timed(&self, sent: u64, now: u64) {
        if self.from.get() <= sent && sent < self.to.get() {
            self.times.borrow_mut().saturating_record(now.saturating_sub(sent).max(1));
        }
    }

    /// Something came that is not counted; the server is not silent.
    pub(super) fn moved(&self) {
        self.moved.set(self.moved.get() + 1);
    }

    fn begin(&self, now: u64) {
        self.times.borrow_mut().reset();
        self.from.set(now);
        self.to.set(u64::MAX);
    }

    /// The times of what was to be sent in the last stretch.
    pub(super) fn latency(&self) -> Option<Latency> {
        Latency::of(&self.times.borrow())
    }

    /// Whether what is due then is measured no more.
    pub(super) fn is_over_at(&self, due: u64) -> bool {
        due >= self.to.get()
    }

    /// How much has come so far.
    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }
}

impl Bench {
    pub(super) fn new(
        options: Options,
        target: Target,
        clock: Clock,
        processes: Processes,
    ) -> Result<Rc<Self>, String> {
        let name = format!("load-{:x}-{:x}", std::process::id(), this_moment());
        let (faults, words) = (Cell::default(), RefCell::default());
        Ok(Rc::new(Self { options, target, clock, meter: Meter::new()?, processes, name, faults, words }))
    }

    /// A name of this run.
    pub(super) fn named(&self, what: &str, number: usize) -> String {
        format!("{}-{what}{number}", self.name)
    }

    /// Something is wrong.
    pub(super) fn blame(&self, fault: impl Into<String>) {
        self.faults.set(self.faults.get() + 1);
        let mut words = self.words.borrow_mut();
        if words.len() < WORDS {
            words.push(fault.into());
        }
    }

    pub(super) fn faults(&self) -> (u64, Vec<String>) {
        (self.faults.get(), self.words.borrow().clone())
    }

    /// Users who say this in their first frame.
    pub(super) fn callers(&self, count: usize, hello: impl Fn(usize) -> Value) -> Result<Vec<Caller>, String> {
        (0..count).map(|at| self.target.caller(self.named("u", at), &hello(at))).collect()
    }

    /// Lets all of them in, some at once, and answers them in their order.
    pub(super) async fn open(&self, callers: &[Caller]) -> Result<Vec<Welcomed>, String> {
        let dialing = stream::iter(callers).map(|caller| self.target.dial(caller));
        dialing.buffered(OPENING).try_collect().await
    }

    /// Begins to measure.
    pub(super) fn begin(&self) -> Begun {
        let now = self.clock.now();
        self.meter.begin(now);
        Begun {
            at: now,
            count: self.meter.count(),
            cpu: self.processes.cpu_seconds(),
            own: Processes::this().cpu_seconds(),
        }
    }

    /// Ends it.
    pub(super) fn end(&self, begun: &Begun, name: &'static str, unit: &'static str) -> Span {
        let now = self.clock.now();
        self.meter.to.set(now);
        let cpu = self.processes.cpu_seconds().zip(begun.cpu).map(|(after, before)| after - before);
        let took = Duration::from_nanos(now.saturating_sub(begun.at));
        let mut span = Span::new(name, unit, took, self.meter.count() - begun.count, cpu);
        span.harness_cpu_seconds = Processes::this().cpu_seconds().zip(begun.own).map(|(after, before)| after - before);
        span
    }

    /// Measures while `work` runs, for the time to warm up and the time that was asked for. What was due by then and is late is done
    /// all the same: it would be missing among the latencies, and they are the longest.
    pub(super) async fn span(
        &self,
        name: &'static str,
        unit: &'static str,
        work: impl Future<Output = Result<(), String>>,
    ) -> Result<Span, String> {
        self.meter.to.set(u64::MAX);
        let mut work = pin!(work);
        let mut measured = pin!(async {
            tokio::time::sleep(Duration::from_secs_f64(self.options.warmup)).await;
            let begun = self.begin();
            tokio::time::sleep(Duration::from_secs_f64(self.options.seconds)).await;
            self.end(&begun, name, unit)
        });
        let span = tokio::select! {
            span = &mut measured => span,
            done = &mut work => {
                done?;
                return Ok(measured.await);
            }
        };
        tokio::select! {
            done = work => done?,
            _ = self.settles(|| false) => self.blame("what was due could not be sent, as nothing comes any more"),
        }
        Ok(span)
    }

    /// Waits until `is_done`, as long as something comes; says whether it was.
    pub(super) async fn settles(&self, is_done: impl Fn() -> bool) -> bool {
        let patience = nanos(Duration::from_secs_f64(self.options.patience));
        let (mut last, mut since) = (self.meter.moved.get(), self.clock.now());
        while !is_done() {
            let now = self.clock.now();
            if self.meter.moved.get() != last {
                (last, since) = (self.meter.moved.get(), now);
            } else if now.saturating_sub(since) > patience {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }
}

/// Where a stretch of time began.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) at: u64,
    count: u64,
    /// Seconds of processors: the server's, and the harness' own.
    cpu: Option<f64>,
    own: Option<f64>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("options", &self.options).field("meter", &self.meter).finish_non_exhaustive()
    }
}

/// Another one for each run of one process.
fn this_moment() -> u128 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos())
}
