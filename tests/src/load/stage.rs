//! Producers on one side, receivers on the other, and channels between them.

use std::rc::Rc;

use serde_json::{Value, json};
use tokio::task::spawn_local;

use super::bench::Bench;
use super::channel::{Channel, Gate, Receiver, send};
use super::checker::{Checker, Tally};
use super::dial::{Caller, Welcomed};
use super::link::{Link, Reader};
use super::marker::{Template, number_of, see, shown, string};
use super::report::Span;

/// Publishes whose receipts are waited for, where nobody else is.
const RECEIPTS: usize = 64;

/// To whom it is published.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// So many topics, among which the receivers are dealt.
    Topics(usize),
    /// Each receiver's own stream.
    Users,
}

impl To {
    pub(super) fn channels(self, receivers: usize) -> usize {
        match self {
            Self::Topics(topics) => topics,
            Self::Users => receivers,
        }
    }

    /// The channel of a receiver.
    pub(super) fn channel_of(self, receiver: usize) -> usize {
        match self {
            Self::Topics(topics) => receiver % topics,
            Self::Users => receiver,
        }
    }

    /// The stream of a receiver, as frames name it.
    pub(super) fn stream_of(self, bench: &Bench, receiver: usize) -> String {
        match self {
            Self::Topics(topics) => format!("topic:{}", bench.named("t", receiver % topics)),
            Self::Users => "user".to_owned(),
        }
    }

    /// Those that are to receive, in their order.
    pub(super) fn callers(self, bench: &Bench, receivers: usize) -> Result<Vec<Caller>, String> {
        bench.callers(receivers, |at| match self {
            Self::Topics(topics) => json!({"type": "hello", "topics": [bench.named("t", at % topics)]}),
            Self::Users => json!({"type": "hello"}),
        })
    }

    fn address(self, bench: &Bench, channel: usize) -> Value {
        match self {
            Self::Topics(_) => json!({"topic": bench.named("t", channel)}),
            Self::Users => json!({"user_id": bench.named("u", channel)}),
        }
    }
}

/// Whose arrival ends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The receivers'.
    Delivered,
    /// The receipt's: the receivers are not there.
    Receipted,
}

/// The senders' half.
#[derive(Debug)]
pub(super) struct Senders {
    pub(super) gate: Rc<Gate>,
    pub(super) channels: Vec<Rc<Channel>>,
}

impl Senders {
    /// Lets the publishers in. A channel is one publisher's, so that its messages have one order.
    pub(super) async fn open(bench: &Rc<Bench>, to: To, receivers: usize, until: Until) -> Result<Self, String> {
        let callers = (0..bench.options.publishers).map(|at| {
            let name = bench.named("p", at);
            bench.target.caller(name.clone(), &json!({"type": "hello", "producer": {"id": name}}))
        });
        let callers: Vec<_> = callers.collect::<Result<_, _>>()?;
        let publishers: Vec<Reader> = bench.open(&callers).await?.into_iter().map(|it| it.reader).collect();
        let links: Vec<Rc<Link>> = publishers.iter().map(|reader| Rc::clone(&reader.link)).collect();
        let gate = Gate::new(if until == Until::Delivered { bench.options.in_flight() } else { RECEIPTS });
        let count = to.channels(receivers);
        let channels = (0..count).zip(links.iter().cycle()).map(|(at, link)| {
            let each = if until == Until::Delivered {
                (0..receivers).filter(|it| to.channel_of(*it) == at).count()
            } else {
                1
            };
            let each = u32::try_from(each).unwrap_or(u32::MAX);
            Channel::new(template(bench, to, at, until), Rc::clone(link), &gate, each)
        });
        let channels: Vec<_> = channels.collect();
        for reader in publishers {
            spawn_local(hear_receipts(Rc::clone(bench), reader, channels.clone(), until));
        }
        Ok(Self { gate, channels })
    }
}

fn template(bench: &Bench, to: To, channel: usize, until: Until) -> Template {
    let address = to.address(bench, channel).to_string();
    let address = address.trim_start_matches('{').trim_end_matches('}');
    let wants = bench.options.receipts || until == Until::Receipted;
    let id = if wants { format!("\"id\":\"{channel}.{{id}}\",") } else { String::new() };
    let text = format!("{{\"type\":\"publish\",{id}{address},\"name\":\"load\",\"data\":{{data}}}}");
    Template::new(&text, bench.options.size)
}

/// What the server says to a publisher.
async fn hear_receipts(bench: Rc<Bench>, mut reader: Reader, channels: Vec<Rc<Channel>>, until: Until) {
    let hear = |frame: &[u8], now: u64| match see(frame, bench.options.size) {
        Ok(super::marker::Seen::Other("reply")) if memchr::memmem::find(frame, b"\"ok\":true").is_some() => {
            let id = string(frame, b"\"id\":\"").and_then(|id| id.split_once('.'));
            let of = id.and_then(|(channel, number)| Some((channel.parse::<usize>().ok()?, number_of(number)?)));
            match of.and_then(|(at, number)| Some((channels.get(at)?, number))) {
                Some((channel, number)) if until == Until::Receipted => {
                    bench.meter.came(now, now);
                    channel.arrived(number);
                }
                Some(_) => {}
                None => bench.blame(format!("a receipt of nothing that was sent: {}", shown(frame))),
            }
        }
        Ok(super::marker::Seen::Other("service_level" | "pong" | "auth_expiring")) => {}
        Ok(_) => bench.blame(format!("a publisher is told: {}", shown(frame))),
        Err(problem) => bench.blame(problem),
    };
    loop {
        if let Err(ending) = reader.turn(hear).await {
            return bench.blame(format!("a publisher is gone: {ending}"));
        }
    }
}

/// Both halves.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) senders: Senders,
    pub(super) receivers: Vec<Rc<Receiver>>,
}

impl Stage {
    /// Lets the receivers in; what they get is checked by `read`, which has each one's reader.
    pub(super) async fn open(
        bench: &Rc<Bench>,
        to: To,
        callers: &[Caller],
        read: impl Fn(usize, Rc<Receiver>, Reader),
    ) -> Result<Self, String> {
        let senders = Senders::open(bench, to, callers.len(), Until::Delivered).await?;
        let mut receivers = Vec::with_capacity(callers.len());
        for (at, welcomed) in bench.open(callers).await?.into_iter().enumerate() {
            let (place, mode) = welcomed.stands(&to.stream_of(bench, at))?;
            if mode != "live" {
                return Err(format!("a stream that nobody has published to begins as {mode}"));
            }
            let Some(channel) = senders.channels.get(to.channel_of(at)) else { continue };
            let name = callers.get(at).map(|caller| caller.user.clone()).unwrap_or_default();
            let receiver = Receiver::of_events(bench, channel, name, Checker::of_stream(place));
            let Welcomed { reader, early, .. } = welcomed;
            early.iter().for_each(|(frame, now)| receiver.hear(frame, *now));
            read(at, Rc::clone(&receiver), reader);
            receivers.push(receiver);
        }
        Ok(Self { senders, receivers })
    }

    /// Publishes for a while, measures the deliveries, and waits until all of it has arrived.
    pub(super) async fn measure(&self, bench: &Bench, name: &'static str) -> Result<Span, String> {
        let sending = async {
            send(bench, &self.senders.channels, &self.senders.gate).await;
            Ok(())
        };
        let mut span = bench.span(name, "deliveries", sending).await?;
        if !bench.settles(|| self.senders.gate.is_empty()).await {
            bench.blame("not everything that was published has arrived");
        }
        span.latency = bench.meter.latency();
        Ok(span)
    }

    /// What all of them were given.
    pub(super) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.receivers.iter().for_each(|receiver| sum.add(&receiver.tally()));
        sum
    }
}
