//! A storm: all sessions come back at once, and each wants all that it has missed.

use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use trunkline_core::protocol::Position;

use super::bench::Bench;
use super::channel::Receiver;
use super::checker::Checker;
use super::deliver::memory;
use super::dial::{Caller, Welcomed};
use super::link::{Ending, Reader};
use super::report::{Report, Span};
use super::stage::{Senders, To, Until};

/// Sessions that are closed at once, before they miss anything.
const LEAVING: usize = 64;
/// How long the last of the missed events may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that comes back.
struct Back {
    caller: Caller,
    receiver: Rc<Receiver>,
    /// The stream that it was following.
    stream: String,
}

pub(super) async fn resume(bench: &Rc<Bench>, report: &mut Report) -> Result<(), String> {
    let options = &bench.options;
    let to = options.topics.map_or(To::Users, To::Topics);
    let callers = to.callers(bench, options.connections)?;
    let before = bench.processes.memory();
    let senders = Senders::open(bench, to, callers.len(), Until::Receipted).await?;
    let places = leave(bench, to, bench.open(&callers).await?).await?;
    report.spans.push(publish(bench, &senders).await?);
    let mut back = Vec::with_capacity(callers.len());
    for (at, (mut caller, (place, session))) in callers.into_iter().zip(places).enumerate() {
        let stream = to.stream_of(bench, at);
        caller.hello = hello(&session, &stream, place);
        let Some(channel) = senders.channels.get(to.channel_of(at)) else { continue };
        let receiver = Receiver::of_events(bench, channel, caller.user.clone(), Checker::of_stream(place));
        back.push(Back { caller, receiver, stream });
    }
    report.spans.extend(storm(bench, &back).await?);
    report.memory = memory(bench, before);
    back.iter().for_each(|back| report.verified.add(&back.receiver.tally()));
    Ok(())
}

fn hello(session: &str, stream: &str, place: Position) -> String {
    let mut resume = serde_json::Map::new();
    resume.insert(stream.to_owned(), place.to_string().into());
    json!({"type": "hello", "session_id": session, "resume": resume}).to_string()
}

/// All of them close; where they stand, and their sessions.
async fn leave(bench: &Bench, to: To, welcomed: Vec<Welcomed>) -> Result<Vec<(Position, String)>, String> {
    let mut places = Vec::with_capacity(welcomed.len());
    for (at, welcomed) in welcomed.iter().enumerate() {
        let (place, _) = welcomed.stands(&to.stream_of(bench, at))?;
        places.push((place, welcomed.session()?));
    }
    let closing = stream::iter(welcomed).map(|welcomed| Ok(welcomed.reader.close()));
    closing.try_buffer_unordered(LEAVING).try_collect::<()>().await.map_err(|ending| ending.to_string())?;
    Ok(places)
}

/// Publishes what they miss, and waits for the receipts.
async fn publish(bench: &Bench, senders: &Senders) -> Result<Span, String> {
    let begun = bench.begin();
    let missed = bench.options.missed;
    for _ in 0..missed {
        for channel in &senders.channels {
            let room = tokio::time::timeout(PATIENCE, senders.gate.room()).await;
            room.map_err(|_| "the server does not take what is published".to_owned())?;
            channel.put(bench.clock.now());
            channel.flush();
        }
    }
    if !bench.settles(|| senders.gate.is_empty()).await {
        return Err("not every publish has its receipt".to_owned());
    }
    Ok(bench.end(&begun, "publish", "receipts"))
}

/// From the beginning of the storm to the last of the events of each: how many events came, and how many sessions had all of theirs.
async fn storm(bench: &Rc<Bench>, back: &[Back]) -> Result<[Span; 2], String> {
    let at_once = bench.options.window.unwrap_or(back.len());
    let begun = bench.begin();
    let coming = stream::iter(back).map(|back| Ok::<_, String>(catch_up(bench, begun.at, back)));
    let readers: Vec<Reader> = coming.try_buffer_unordered(at_once).try_collect().await?;
    let events = bench.end(&begun, "storm", "events");
    let took = Duration::from_secs_f64(events.seconds);
    let mut sessions = Span::new("storm", "sessions", took, readers.len() as u64, events.cpu_seconds);
    // From the beginning of the storm to the last event of each session.
    sessions.latency = bench.meter.latency();
    Ok([events, sessions])
}

/// Comes back, and reads until all that was missed is there.
async fn catch_up(bench: &Bench, since: u64, back: &Back) -> Result<Reader, String> {
    let Back { caller, receiver, stream } = back;
    let welcomed = bench.target.dial(caller).await?;
    let (_, mode) = welcomed.stands(stream)?;
    if mode != "replay" {
        return Err(format!(
            "{}: {stream} comes back as {mode}: the server's log is to hold what is missed",
            caller.user
        ));
    }
    let Welcomed { mut reader, early, .. } = welcomed;
    early.iter().for_each(|(frame, now)| receiver.hear(frame, *now));
    let all = receiver.channel.sent();
    let catching_up = async {
        while receiver.last() < all {
            reader.turn(|frame, now| receiver.hear(frame, now)).await?;
        }
        Ok::<_, Ending>(reader)
    };
    let caught_up = tokio::time::timeout(PATIENCE, catching_up).await;
    let caught_up = caught_up.map_err(|_| format!("{}: not all is there after {PATIENCE:?}", caller.user))?;
    bench.meter.timed(since, bench.clock.now());
    caught_up.map_err(|ending| format!("{}: {ending}", caller.user))
}
