//! The machine of a client's whole life against servers that tests script.

mod endings;
mod hostile;
mod keys;
mod requests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::client::Wanted;
use crate::client::tests::{Counting, answer, close, event, messages, text, welcome};
use crate::codec::frame::Message;
use crate::id::{FrameId, ThreadId};
use crate::protocol::{Hello, ServerFrame};
use crate::time::UnixTime;

/// A client, the clock it lives by, and what it wanted and told so far.
struct World {
    client: Reconnecting,
    micros: u64,
    told: Vec<Update>,
    asked: VecDeque<(u64, Wanted)>,
    opens: VecDeque<u64>,
    /// Sockets that were asked for.
    sockets: u32,
}

fn config() -> ReconnectingConfig {
    ReconnectingConfig::new("ws://localhost/ws".parse().unwrap())
}

impl World {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: ReconnectingConfig) -> Self {
        let client = Reconnecting::new(at(0), config, Arc::new(Counting::default())).unwrap();
        let (told, asked, opens) = (Vec::new(), VecDeque::new(), VecDeque::new());
        let mut world = Self { client, micros: 0, told, asked, opens, sockets: 0 };
        world.drain();
        world
    }

    /// One that is in, on its first socket.
    fn live() -> Self {
        Self::live_with(config())
    }

    fn live_with(config: ReconnectingConfig) -> Self {
        let mut world = Self::with(config);
        world.give("aa.bb.cc");
        world.come_in();
        world
    }

    fn now(&self) -> Now {
        at(self.micros)
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Ask(ask, wanted) => self.asked = VecDeque::from([(ask, wanted)]),
                Output::Open(attempt) => {
                    self.sockets += 1;
                    self.opens = VecDeque::from([attempt]);
                }
                Output::Tell(update) => self.told.push(update),
            }
        }
    }

    /// Answers the ask that waits.
    fn give(&mut self, token: &str) -> Wanted {
        self.answer(Ok(Credentials::token(token)))
    }

    fn answer(&mut self, outcome: Result<Credentials, TokenError>) -> Wanted {
        let (ask, wanted) = self.asked.pop_front().expect("nothing is asked for");
        self.client.handle_credentials(self.now(), ask, outcome);
        self.drain();
        wanted
    }

    /// Opens the socket that is wanted; answers the upgrade and the `hello` that comes then.
    fn open(&mut self) -> Hello {
        let attempt = self.opens.pop_front().expect("no socket is wanted");
        assert!(self.client.handle_open(self.now(), attempt, Ok(())));
        let request = self.written();
        self.bytes(&answer(&request));
        match &messages(&self.written())[..] {
            [Message::Text(hello)] => match ClientFrame::parse(hello).unwrap().frame {
                ClientFrame::Hello(hello) => *hello,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The same, let in at 7-3.
    fn come_in(&mut self) -> Hello {
        let hello = self.open();
        match hello.resume.get(&StreamName::User).copied() {
            Some(Position::NONE) => self.frame(&welcome_with(&[&entry("user", 7, 0, "reset")])),
            at => self.frame(&welcome(at.map_or(3, |at| at.seq), 30.0, 5.0)),
        }
        hello
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.client.handle_bytes(self.now(), bytes);
        self.drain();
    }

    fn frame(&mut self, frame: &str) {
        self.bytes(&text(frame));
    }

    fn cut(&mut self) {
        self.client.handle_eof(self.now());
        self.drain();
    }

    fn written(&mut self) -> Vec<u8> {
        let bytes = self.client.transmit().to_vec();
        self.client.advance(self.now(), bytes.len());
        self.drain();
        bytes
    }

    /// The frames that the client has sent.
    fn sent(&mut self) -> Vec<ClientFrame> {
        let frames = messages(&self.written());
        frames
            .into_iter()
            .filter_map(|message| match message {
                Message::Text(text) => Some(ClientFrame::parse(&text).unwrap().frame),
                _ => None,
            })
            .collect()
    }

    fn ids(&mut self) -> Vec<String> {
        self.sent().iter().filter_map(|frame| frame.id().map(ToString::to_string)).collect()
    }

    /// Ends the socket with this code.
    fn closed(&mut self, code: u16) {
        self.bytes(&close(code));
        self.written();
    }

    fn sleep(&mut self, by: Duration) {
        self.micros += u64::try_from(by.as_micros()).unwrap();
        self.client.handle_timeout(self.now());
        self.drain();
    }

    /// Lets the wait pass that there is.
    fn wait(&mut self) -> Duration {
        let State::Waiting { until, .. } = *self.client.state() else { panic!("{:?}", self.client.state()) };
        let wait = until.saturating_since(self.now().at);
        self.sleep(wait);
        wait
    }

    fn take(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.told)
    }

    /// Seqs of the events that were told, 0 for a gap.
    fn seqs(&mut self) -> Vec<u64> {
        let seq = |update: &Update| match update {
            Update::Event(event) => Some(event.position.seq),
            Update::Gap { .. } => Some(0),
            _ => None,
        };
        self.take().iter().filter_map(seq).collect()
    }

    fn say(&mut self, id: &str) -> Result<Option<IdempotencyKey>, RequestError> {
        let outcome = self.client.request(self.now(), message(id));
        self.drain();
        outcome
    }

    fn stopped(&self) -> Option<String> {
        if let State::Stopped(why) = self.client.state() { Some(why.to_string()) } else { None }
    }
}

fn at(micros: u64) -> Now {
    // The calendar goes backward all the while: nothing may come of it.
    Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(1_800_000_000_000_000 - 3 * micros) }
}

fn message(id: &str) -> ClientFrame {
    let (id, thread_id) = (FrameId::new(id).unwrap(), ThreadId::new("t").unwrap());
    ClientFrame::UserMessage { id, key: None, thread_id, content: "hi".into(), metadata: None }
}

fn replied(id: &str) -> String {
    format!(r#"{{"type":"reply","id":"{id}","ok":true,"run_id":"run_0123456789abcdef0123456789abcdef"}}"#)
}

/// A welcome with these streams, each an entry in JSON.
fn welcome_with(streams: &[&str]) -> String {
    let plain = welcome(3, 30.0, 5.0);
    let (before, _) = plain.split_once(r#""streams":["#).unwrap();
    format!(r#"{before}"streams":[{}]}}"#, streams.join(","))
}

fn entry(stream: &str, epoch: u64, seq: u64, mode: &str) -> String {
    format!(r#"{{"stream":"{stream}","event_id":"{epoch}-{seq}","head":"{epoch}-{seq}","mode":"{mode}"}}"#)
}

#[test]
fn it_asks_opens_says_hello_and_is_live() {
    let mut world = World::with(config());
    assert_eq!(world.take(), [Update::State(State::Connecting)]);
    assert_eq!(world.give("aa.bb.cc"), Wanted::Socket);
    let hello = world.come_in();
    assert_eq!(hello.token.map(|token| token.as_str().to_owned()).as_deref(), Some("aa.bb.cc"));
    assert!(hello.session_id.is_none() && hello.resume.is_empty());
    assert!(matches!(&world.take()[..], [Update::Welcome(_), Update::State(State::Live)]));
}

#[test]
fn it_goes_on_where_it_was_over_as_many_sockets_as_it_takes() {
    let mut world = World::live();
    let mut seen = Vec::new();
    for seq in 4..20 {
        world.frame(&event(7, seq));
        seen.extend(world.seqs());
        world.cut();
        assert!(matches!(world.client.state(), State::Waiting { .. }));
        world.wait();
        let hello = world.come_in();
        assert_eq!(hello.resume[&StreamName::User], Position { epoch: 7, seq });
        assert_eq!(hello.session_id, Some(SessionId::from_bits(2)));
    }
    assert_eq!(seen, (4..20).collect::<Vec<_>>());
    assert_eq!(world.sockets, 17);
}

#[test]
fn what_came_before_the_end_is_told_before_it() {
    let mut world = World::live();
    world.take();
    world.bytes(&[text(&event(7, 4)), text(&event(7, 5)), close(1012)].concat());
    world.written();
    let told = world.take();
    assert!(
        matches!(&told[..], [Update::Event(_), Update::Event(_), Update::State(State::Waiting { .. })]),
        "{told:?}"
    );
}

#[test]
fn a_server_that_goes_on_elsewhere_without_a_word_is_left_and_the_second_time_all_begins_anew() {
    let mut world = World::live();
    world.frame(&event(7, 4));
    world.take();
    for mode in ["live", "replay"] {
        world.cut();
        world.wait();
        assert_eq!(world.open().resume[&StreamName::User], Position { epoch: 7, seq: 4 });
        world.frame(&welcome_with(&[&entry("user", 7, 6, mode)]));
        world.written();
        assert!(matches!(world.client.state(), State::Waiting { .. }), "{mode}: {:?}", world.client.state());
    }
    world.take();
    world.wait();
    assert_eq!(world.open().resume[&StreamName::User], Position::NONE);
    world.frame(&welcome_with(&[&entry("user", 7, 0, "reset")]));
    world.frame(&event(7, 1));
    assert_eq!(world.seqs(), [0, 1]);
}

#[test]
fn a_stream_that_begins_anew_says_so_and_a_first_one_does_not() {
    for mode in ["live", "snapshot", "reset"] {
        let mut world = World::with(config());
        world.give("aa.bb.cc");
        world.open();
        world.frame(&welcome_with(&[&entry("user", 7, 9, mode)]));
        assert!(world.seqs().is_empty(), "{mode} at first");
    }
    for mode in ["reset", "snapshot"] {
        let mut world = World::live();
        world.cut();
        world.wait();
        world.open();
        world.take();
        world.frame(&welcome_with(&[&entry("user", 7, 9, mode)]));
        assert_eq!(world.seqs(), [0], "{mode}");
        if mode == "snapshot" {
            // The one that was announced is no second gap, and the place is taken with its last part.
            let part = |part| {
                format!(r#"{{"type":"snapshot","stream":"user","event_id":"7-9","part":{part},"of":2,"runs":[]}}"#)
            };
            world.frame(&part(1));
            assert_eq!(world.client.position_in(&StreamName::User).unwrap().seq, 3);
            world.frame(&part(2));
            assert!(world.seqs().is_empty());
            assert_eq!(world.client.position_in(&StreamName::User).unwrap().seq, 9);
            world.frame(&part(1));
            assert_eq!(world.seqs(), [0], "nobody said that it comes");
        }
    }
}

#[test]
fn topics_are_followed_again_from_where_they_were() {
    let topic = |name: &str| TopicName::new(name).unwrap();
    let mut world = World::live_with(ReconnectingConfig { topics: vec![topic("gone")], ..config() });
    assert!(world.take().contains(&Update::TopicRefused(topic("gone"))));
    let id = FrameId::new("s").unwrap();
    let frame = ClientFrame::Subscribe { id, topic: topic("news"), resume: None };
    world.client.request(world.now(), frame).unwrap();
    assert_eq!(world.ids(), ["s"]);
    // Not granted yet: the request itself is sent again.
    world.cut();
    world.wait();
    assert!(world.come_in().topics.is_empty());
    assert_eq!(world.ids(), ["s"]);
    world.frame(
        r#"{"type":"reply","id":"s","ok":true,"stream":"topic:news","event_id":"8-2","head":"8-2","mode":"live"}"#,
    );
    world
        .frame(r#"{"type":"custom","event_id":"8-3","seq":3,"stream":"topic:news","timestamp":1,"name":"n","data":1}"#);
    assert_eq!(world.seqs(), [3]);
    world.cut();
    world.wait();
    let hello = world.open();
    let news = StreamName::Topic(topic("news"));
    assert_eq!((hello.topics, hello.resume[&news]), (vec![topic("news")], Position { epoch: 8, seq: 3 }));
    world.frame(&welcome_with(&[&entry("user", 7, 3, "live"), &entry("topic:news", 8, 9, "reset")]));
    assert!(world.take().contains(&Update::Gap { stream: news.clone(), lost: None }));
    assert!(world.ids().is_empty());
    // What is left is not followed again, answered or not.
    let id = FrameId::new("u").unwrap();
    world.client.request(world.now(), ClientFrame::Unsubscribe { id, topic: topic("news") }).unwrap();
    world.cut();
    world.wait();
    let hello = world.come_in();
    assert!(hello.topics.is_empty() && !hello.resume.contains_key(&news));
}

#[test]
fn while_nobody_takes_what_is_told_nothing_is_read_and_no_socket_opened() {
    let mut world = World::live();
    let mut seq = 3;
    while world.client.wants_read() {
        seq += 1;
        assert!(seq < 1_000, "it reads on");
        world.client.handle_bytes(world.now(), &text(&event(7, seq)));
    }
    // What the socket's machine holds counts too: it all comes in the end.
    for _ in 0..100 {
        seq += 1;
        world.client.handle_bytes(world.now(), &text(&event(7, seq)));
    }
    world.client.handle_eof(world.now());
    assert_eq!(world.client.state(), &State::Live);
    let mut seen = Vec::new();
    loop {
        world.drain();
        seen.extend(world.seqs());
        let Some(due) = world.client.poll_timeout().filter(|due| *due <= world.now().at) else { break };
        assert_eq!(due, Timestamp::ZERO);
        world.client.handle_timeout(world.now());
    }
    assert_eq!(seen, (4..=seq).collect::<Vec<_>>());
    assert!(matches!(world.client.state(), State::Waiting { .. }));
}
