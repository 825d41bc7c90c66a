//! Echo, fan-out, routing, and readers that do not read.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::bench::Bench;
use super::channel::{Channel, Gate, Receiver, send};
use super::dial::Welcomed;
use super::link::{Ending, Reader};
use super::marker::Template;
use super::report::{Memory, Report};
use super::stage::{Stage, To};

const COMMAND: &str = r#"{"type":"command","id":"{id}","name":"echo","args":{data}}"#;

/// Each connection asks for its own words again.
pub(super) async fn echo(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    let options = &bench.options;
    let callers = bench.callers(options.connections, |_| serde_json::json!({"type": "hello"}))?;
    let before = bench.processes.memory();
    let each = options.in_flight_each();
    let gate = Gate::new(each.saturating_mul(options.connections));
    let asks_again = Rc::new(Cell::new(options.rate.is_none()));
    let mut receivers = Vec::new();
    for (caller, Welcomed { reader, .. }) in callers.iter().zip(bench.open(&callers).await?) {
        let channel = Channel::new(Template::new(COMMAND, options.size), Rc::clone(&reader.link), &gate, 1);
        let receiver = Receiver::of_replies(bench, &channel, caller.user.clone());
        spawn_local(converse(Rc::clone(bench), Rc::clone(&receiver), reader, Rc::clone(&asks_again)));
        receivers.push(receiver);
    }
    let channels: Vec<_> = receivers.iter().map(|receiver| Rc::clone(&receiver.channel)).collect();
    let asking = async {
        if options.rate.is_some() {
            send(bench, &channels, &gate).await;
            return Ok(());
        }
        for channel in &channels {
            let now = bench.clock.now();
            (0..each).for_each(|_| channel.put(now));
            channel.flush();
        }
        Ok(())
    };
    let mut span = bench.span("echo", "replies", asking).await?;
    asks_again.set(false);
    if !bench.settles(|| gate.is_empty()).await {
        bench.blame("not every command was answered");
    }
    span.latency = bench.meter.latency();
    report.spans.push(span);
    report.memory = memory(bench, before);
    receivers.iter().for_each(|receiver| report.verified.add(&receiver.tally()));
    Ok(())
}

/// Reads answers, and asks once more for each as long as it is to.
async fn converse(bench: Rc<Bench>, receiver: Rc<Receiver>, mut reader: Reader, asks_again: Rc<Cell<bool>>) {
    let answered = |frame: &[u8], now: u64| {
        if receiver.take(frame, now) && asks_again.get() {
            receiver.channel.put(bench.clock.now());
        }
    };
    loop {
        // What was put is sent once all that is here was looked at.
        if let Err(ending) = reader.turn(answered).await {
            return receiver.blame(&ending.to_string());
        }
    }
}

/// One message to many.
pub(super) async fn fanout(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    deliver(bench, report, To::Topics(bench.options.topics.unwrap_or(1)), "fanout").await
}

/// One message to one of many.
pub(super) async fn route(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    deliver(bench, report, To::Users, "route").await
}

async fn deliver(bench: &Rc<Bench>, report: &mut Report, to: To, name: &'static str) -> Result<(), String> {
    let callers = to.callers(bench, bench.options.connections)?;
    let before = bench.processes.memory();
    let stage = Stage::open(bench, to, &callers, |_, receiver, reader| {
        spawn_local(receiver.read(reader));
    })
    .await?;
    report.spans.push(stage.measure(bench, name).await?);
    report.memory = memory(bench, before);
    report.verified = stage.tally();
    Ok(())
}

/// Readers that stop reading beside others, first with all of them reading; in the end those that stopped read on, and get what
/// they have missed or are told that it is gone.
pub(super) async fn slow(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    let options = &bench.options;
    let readers = options.connections - options.slow_readers();
    let to = To::Topics(options.topics.unwrap_or(1));
    let mut callers = to.callers(bench, options.connections)?;
    callers.iter_mut().skip(readers).for_each(|caller| caller.narrow = true);
    let before = bench.processes.memory();
    let pause = Rc::new(Pause::default());
    let stage = Stage::open(bench, to, &callers, |at, receiver, reader| {
        if at < readers {
            spawn_local(receiver.read(reader));
        } else {
            spawn_local(read_at_times(receiver, reader, Rc::clone(&pause)));
        }
    })
    .await?;
    report.spans.push(stage.measure(bench, "all read").await?);
    pause.begin();
    for receiver in stage.receivers.iter().skip(readers) {
        receiver.counts.set(false);
        receiver.channel.receivers.set(receiver.channel.receivers.get() - 1);
    }
    report.spans.push(stage.measure(bench, "some do not").await?);
    report.memory = memory(bench, before);
    pause.end();
    let is_behind = |receiver: &Rc<Receiver>| receiver.last() < receiver.channel.sent() && !receiver.is_gone();
    let behind = || stage.receivers.iter().filter(|receiver| is_behind(receiver)).count();
    if !bench.settles(|| behind() == 0).await {
        bench.blame(format!("{} readers that read again are behind and are told nothing", behind()));
    }
    report.verified = stage.tally();
    Ok(())
}

#[derive(Debug, Default)]
struct Pause {
    is_on: Cell<bool>,
    changed: Notify,
}

impl Pause {
    fn begin(&self) {
        self.is_on.set(true);
        self.changed.notify_waiters();
    }

    fn end(&self) {
        self.is_on.set(false);
        self.changed.notify_waiters();
    }
}

async fn read_at_times(receiver: Rc<Receiver>, mut reader: Reader, pause: Rc<Pause>) {
    loop {
        if pause.is_on.get() {
            pause.changed.notified().await;
            continue;
        }
        let turned = tokio::select! {
            turned = reader.turn(|frame, now| receiver.hear(frame, now)) => turned,
            () = pause.changed.notified() => continue,
        };
        match turned {
            Ok(()) => {}
            // The server gives up one that takes nothing, in words.
            Err(Ending::Closed(4001 | 4300, _)) if !receiver.counts.get() => return receiver.leave(),
            Err(ending) => return receiver.blame(&ending.to_string()),
        }
    }
}

pub(super) fn memory(bench: &Bench, before: Option<u64>) -> Option<Memory> {
    let after = bench.processes.memory()?;
    Some(Memory::new(before?, after, bench.options.connections))
}
