//! Connections that come, stay and go.

use std::cell::Cell;
use std::rc::Rc;

use futures_util::future::try_join_all;
use serde_json::json;
use tokio::task::spawn_local;

use super::bench::Bench;
use super::deliver::memory;
use super::dial::{Caller, Welcomed};
use super::link::{Link, Reader};
use super::marker::{Seen, see, shown};
use super::report::Report;

/// When each of many is to begin: at a fixed rate, or when somebody is free.
struct Schedule<'a> {
    bench: &'a Bench,
    start: u64,
    taken: Cell<usize>,
}

impl<'a> Schedule<'a> {
    fn new(bench: &'a Bench) -> Self {
        Self { bench, start: bench.clock.now(), taken: Cell::new(0) }
    }

    /// The number of the next turn, which is taken by that.
    fn take(&self) -> usize {
        self.taken.replace(self.taken.get() + 1)
    }

    /// Waits for a turn, and answers the time at which it was to begin.
    async fn begins(&self, turn: usize) -> u64 {
        let Some(rate) = self.bench.options.rate else { return self.bench.clock.now() };
        let due = self.start + (turn as f64 * 1e9 / rate) as u64;
        self.bench.clock.until(due).await;
        due
    }
}

/// Lets all of them in, so many at once, and measures each from the time at which it was to begin.
async fn arrive(bench: &Bench, callers: &[Caller], at_once: usize) -> Result<Vec<Welcomed>, String> {
    let schedule = Schedule::new(bench);
    let workers = (0..at_once.min(callers.len())).map(|_| async {
        let mut welcomed = Vec::new();
        loop {
            let turn = schedule.take();
            let Some(caller) = callers.get(turn) else { return Ok::<_, String>(welcomed) };
            let due = schedule.begins(turn).await;
            welcomed.push(bench.target.dial(caller).await?);
            bench.meter.came(due, bench.clock.now());
        }
    });
    Ok(try_join_all(workers).await?.into_iter().flatten().collect())
}

/// Authenticated connects, all of which stay to the end.
pub(super) async fn connect(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    let callers = bench.callers(bench.options.connections, |_| json!({"type": "hello"}))?;
    let before = bench.processes.memory();
    let begun = bench.begin();
    let welcomed = arrive(bench, &callers, bench.options.in_flight()).await?;
    let mut span = bench.end(&begun, "connect", "connects");
    span.latency = bench.meter.latency();
    report.spans.push(span);
    report.memory = memory(bench, before);
    let kept = Kept::new(bench, welcomed);
    kept.all_answer(bench).await;
    Ok(())
}

/// Connections on which nothing happens but the server's own pings.
pub(super) async fn idle(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    let options = &bench.options;
    let callers = bench.callers(options.connections, |_| json!({"type": "hello"}))?;
    let before = bench.processes.memory();
    let kept = Kept::new(bench, bench.open(&callers).await?);
    let mut span = bench.span("idle", "connection-seconds", std::future::ready(Ok(()))).await?;
    // Nothing is to come; what is counted is how many are held, and for how long.
    let held = options.connections as f64;
    span.count = (held * span.seconds) as u64;
    span.per_second = held;
    span.cpu_seconds_per_million = span.cpu_seconds.map(|cpu| cpu * 1e6 / (held * span.seconds));
    report.spans.push(span);
    report.memory = memory(bench, before);
    kept.all_answer(bench).await;
    Ok(())
}

/// Connections that are there, and answer the server's pings.
struct Kept {
    links: Vec<Rc<Link>>,
    answered: Rc<Cell<usize>>,
}

impl Kept {
    fn new(bench: &Rc<Bench>, welcomed: Vec<Welcomed>) -> Self {
        let links = welcomed.iter().map(|it| Rc::clone(&it.reader.link)).collect();
        let answered = Rc::new(Cell::new(0));
        for Welcomed { reader, .. } in welcomed {
            spawn_local(stay(Rc::clone(bench), reader, Rc::clone(&answered)));
        }
        Self { links, answered }
    }

    /// Each of them is there still, and is answered.
    async fn all_answer(&self, bench: &Bench) {
        for link in &self.links {
            link.put_text(r#"{"type":"ping"}"#);
            link.flush();
        }
        let count = self.links.len();
        if !bench.settles(|| self.answered.get() >= count).await {
            bench.blame(format!("{} of {count} connections answer in the end", self.answered.get()));
        }
    }
}

async fn stay(bench: Rc<Bench>, mut reader: Reader, answered: Rc<Cell<usize>>) {
    let hear = |frame: &[u8], _| match see(frame, bench.options.size) {
        Ok(Seen::Other("pong")) => {
            bench.meter.moved();
            answered.set(answered.get() + 1);
        }
        Ok(Seen::Other("service_level" | "position" | "auth_expiring")) => {}
        Ok(_) => bench.blame(format!("where nothing happens comes {}", shown(frame))),
        Err(problem) => bench.blame(problem),
    };
    loop {
        if let Err(ending) = reader.turn(hear).await {
            return bench.blame(format!("a connection that was to stay: {ending}"));
        }
    }
}

/// Each connection comes, is welcomed, closes, sees the server close, and comes again.
pub(super) async fn churn(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    let callers = bench.callers(bench.options.connections, |_| json!({"type": "hello"}))?;
    let before = bench.processes.memory();
    let schedule = Schedule::new(bench);
    let coming_and_going =
        async { try_join_all(callers.iter().map(|caller| come_and_go(bench, &schedule, caller))).await.map(drop) };
    let mut span = bench.span("churn", "connects", coming_and_going).await?;
    span.latency = bench.meter.latency();
    report.spans.push(span);
    report.memory = memory(bench, before);
    Ok(())
}

async fn come_and_go(bench: &Bench, schedule: &Schedule<'_>, caller: &Caller) -> Result<(), String> {
    loop {
        let due = schedule.begins(schedule.take()).await;
        if bench.meter.is_over_at(due) {
            return Ok(());
        }
        let welcomed = bench.target.dial(caller).await?;
        let now = bench.clock.now();
        if let Err(ending) = welcomed.reader.close().await {
            bench.blame(format!("{}: after its own close, {ending}", caller.user));
        }
        bench.meter.came(due, now);
    }
}
