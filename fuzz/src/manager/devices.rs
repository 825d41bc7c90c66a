//! What devices do: they come, read, follow topics and are shut out.

use std::collections::BTreeMap;

use trunkline_core::error::CloseReason;
use trunkline_core::id::{RunId, SessionId};
use trunkline_core::manager::{Attach, Credential, Read, Revoked};
use trunkline_core::protocol::{Position, ServerFrame, StreamName};
use trunkline_core::stream::{Entry, Resumption};
use trunkline_core::time::UnixTime;

use super::model::{Device, MAX_DEVICES, Stream, What};
use super::play::{BIRTH, Game, NAMES, TOPICS, conn, name, topic_id};

impl Game {
    pub(super) fn attach(&mut self, user: usize, with: u8) {
        let n = self.next;
        let known = self.users.get(&user);
        let other = usize::from(with & 3).checked_sub(1);
        let other = other.and_then(|nth| known?.devices.get(nth));
        let wanted = other.map(|device| device.session);
        let resume = match with >> 2 & 3 {
            0 => None,
            1 => Some(Position::NONE),
            2 => known.map(|known| Position { epoch: known.stream.epoch, seq: other.map_or(0, |device| device.at) }),
            _ => known.map(|known| Position { epoch: known.stream.epoch, seq: (with >> 4).into() }),
        };
        let is_new = with >> 6 & 1 == 0;
        let issued = if is_new { self.now } else { 0 };
        let refused = self.refusal(user, wanted, issued);
        let answer = self.shard.attach(
            self.at(),
            Attach {
                handle: n,
                connection: conn(n),
                order: n.into(),
                user: name(user),
                session: wanted.map(SessionId::from_bits),
                fresh_session: SessionId::from_bits(n.into()),
                resume,
                token: Credential {
                    id: None,
                    issued_at: Some(UnixTime::from_micros(BIRTH + issued)),
                    expires: UnixTime::from_micros(u64::MAX),
                },
                threads: Vec::new(),
                attached: 1,
            },
        );
        if let Some(reason) = refused {
            assert_eq!(answer.expect_err("it is refused"), reason);
            return self.expect(vec![]);
        }
        // A session from before all of the user's were revoked is forgotten.
        let wanted = wanted.filter(|_| self.denied[user].up_to.is_none());
        let known = self.user(user);
        let session = wanted.unwrap_or(n.into());
        let mut closed = vec![];
        if let Some(old) = known.devices.iter().position(|device| device.session == session) {
            closed.push(format!("close {} {:?}", known.devices.remove(old).n, CloseReason::Superseded));
        } else if known.devices.len() == MAX_DEVICES {
            assert_eq!(answer.expect_err("there is no room"), CloseReason::TooManyConnections);
            return self.expect(vec![]);
        }
        let answer = answer.expect("it is let in");
        assert_eq!(answer.session, SessionId::from_bits(session));
        let at = resumed(&known.stream, resume, answer.stream, !known.runs.is_empty());
        known.devices.push(Device { n, session, at, has: at });
        self.expect(closed);
    }

    fn refusal(&self, user: usize, session: Option<u128>, issued: u64) -> Option<CloseReason> {
        let denied = &self.denied[user];
        let is_denied = denied.up_to.is_some_and(|up_to| issued <= up_to)
            || session.is_some_and(|session| denied.sessions.contains(&session));
        match (self.draining, is_denied) {
            (true, _) => Some(CloseReason::Restart),
            (false, true) => Some(CloseReason::TokenRevoked),
            (false, false) => None,
        }
    }

    pub(super) fn detach(&mut self, user: usize, of: u8, with: u8) {
        // Of the user most times; anybody's at others, which changes nothing.
        let owner = if of & 3 == 0 { usize::from(of >> 2) % NAMES.len() } else { user };
        let devices = self.users.get(&owner).map(|user| user.devices.as_slice()).unwrap_or_default();
        let Some(n) = devices.get(usize::from(with) % MAX_DEVICES).map(|device| device.n) else { return };
        self.shard.detach(self.at(), &name(user), conn(n));
        if let Some(known) = self.users.get_mut(&user) {
            known.devices.retain(|device| device.n != n);
        }
        self.expect(vec![]);
    }

    /// Up to where it has read, or further than there is anything.
    pub(super) fn ack(&mut self, user: usize, with: u8) {
        let now = self.at();
        let Some(known) = self.users.get_mut(&user) else { return };
        let (epoch, head) = (known.stream.epoch, known.stream.head());
        let nth = usize::from(with) % MAX_DEVICES;
        let Some(device) = known.devices.get_mut(nth) else { return };
        let seq = if with & 64 == 0 { device.at } else { head + 1 };
        self.shard.ack(now, &name(user), conn(device.n), Position { epoch, seq });
        device.has = if seq <= head { device.has.max(seq) } else { device.has };
        self.expect(vec![]);
    }

    pub(super) fn follow(&mut self, topic: usize, user: usize, with: u8) {
        let devices = self.users.get(&user).map(|user| user.devices.as_slice()).unwrap_or_default();
        let Some(n) = devices.get(usize::from(with >> 1) % MAX_DEVICES).map(|device| device.n) else { return };
        if with & 1 == 1 {
            let was_there = self.topics.get_mut(&topic).is_some_and(|topic| topic.readers.remove(&n).is_some());
            assert_eq!(self.shard.unsubscribe(self.at(), &topic_id(topic), conn(n)), was_there);
            return self.expect(vec![]);
        }
        let epoch = self.topic(topic).stream.epoch;
        let resume = (with >> 3 & 1 == 1).then_some(Position { epoch, seq: (with >> 4).into() });
        let answer = self.shard.subscribe(self.at(), &topic_id(topic), conn(n), n, resume);
        let known = self.topic(topic);
        let at = resumed(&known.stream, resume, answer, false);
        known.readers.insert(n, at);
        self.expect(vec![]);
    }

    /// One read of each device of the user.
    pub(super) fn read(&mut self, user: usize, with: u8) {
        let max_bytes = 64 << (with & 7);
        let Some(known) = self.users.get_mut(&user) else { return };
        for device in &mut known.devices {
            let from = Position { epoch: known.stream.epoch, seq: device.at };
            let base = || self.shard.base(&name(user), conn(device.n)).expect("it is attached");
            device.at = match self.shard.read(&name(user), conn(device.n), from, max_bytes) {
                Read::Entries { entries, behind, appended: _ } => {
                    let to = known.stream.take(device.at, &entries, behind, Some(NAMES[user]), &StreamName::User);
                    // One alone may have more.
                    assert!(
                        entries.len() < 2
                            || entries.iter().map(|entry| entry.frame().len()).sum::<usize>() <= max_bytes
                    );
                    to
                }
                Read::Lost => {
                    let (start, state) = base();
                    assert!(device.at < known.stream.floor && start.seq <= known.stream.floor, "it fell out too early");
                    let text =
                        |view: &trunkline_core::stream::RunView| view.parts.values().map(|part| &*part.text).collect();
                    let open: BTreeMap<RunId, String> =
                        state.runs().iter().map(|(run, view)| (*run, text(view))).collect();
                    assert_eq!(open, known.stream.open_at(start.seq));
                    start.seq
                }
                Read::Detached => panic!("it is attached"),
            };
        }
        let devices: Vec<u32> = known.devices.iter().map(|device| device.n).collect();
        for (n, topic) in &mut self.topics {
            for device in &devices {
                let Some(at) = topic.readers.get_mut(device) else { continue };
                let from = Position { epoch: topic.stream.epoch, seq: *at };
                let stream = StreamName::Topic(TOPICS[*n].parse().expect("a name"));
                *at = match self.shard.read_topic(&topic_id(*n), conn(*device), from, max_bytes) {
                    Read::Entries { entries, behind, appended: _ } => {
                        topic.stream.take(*at, &entries, behind, None, &stream)
                    }
                    Read::Lost => {
                        assert!(*at < topic.stream.floor, "it fell out too early");
                        self.shard.topic_start(&topic_id(*n), conn(*device)).expect("it follows").seq
                    }
                    Read::Detached => panic!("it follows"),
                };
            }
        }
    }

    pub(super) fn revoke(&mut self, user: usize, with: u8) {
        if with == 255 {
            return self.drain();
        }
        let nth = usize::from(with & 3).checked_sub(1);
        let devices = self.users.get(&user).map(|user| user.devices.as_slice()).unwrap_or_default();
        let session = nth.and_then(|nth| devices.get(nth)).map(|device| device.session);
        // All of somebody's only now and then, since little can follow.
        let (what, concerns): (_, &dyn Fn(&Device) -> bool) = match &session {
            Some(session) => (Revoked::Session(SessionId::from_bits(*session)), &|device| device.session == *session),
            None if with > 240 => (Revoked::All, &|_| true),
            None => return,
        };
        let denied = &mut self.denied[user];
        match session {
            Some(session) => denied.sessions.push(session),
            None => denied.up_to = Some(self.now),
        }
        let gone = match self.users.get_mut(&user) {
            Some(known) => known.devices.extract_if(.., |device| concerns(device)).map(|device| device.n).collect(),
            None => vec![],
        };
        let count = self.shard.revoke(self.at(), &name(user), &what, None);
        assert_eq!(count as usize, gone.len());
        self.expect(gone.iter().map(|n| format!("close {n} {:?}", CloseReason::TokenRevoked)).collect());
    }
}

impl Stream {
    /// What a reader at `at` was given; answers where it is now.
    fn take(&self, at: u64, entries: &[Entry], behind: u64, user: Option<&str>, name: &StreamName) -> u64 {
        assert_eq!((behind, entries.is_empty()), (self.head() - at, at == self.head()));
        let mut now_at = at;
        for entry in entries {
            // The first may begin earlier, where pieces of a text were joined.
            assert!(entry.seq() > now_at && if now_at == at { entry.prev() <= at } else { entry.prev() == now_at });
            let text = std::str::from_utf8(entry.frame()).expect("a text");
            let Ok(ServerFrame::Event(event)) = ServerFrame::parse(text) else { panic!("no event: {text}") };
            assert_eq!(event.position, Position { epoch: self.epoch, seq: entry.seq() });
            assert_eq!((event.user_id.as_deref(), &event.stream), (user, name));
            let expected = What::joined(&self.between(entry.prev(), entry.seq()));
            assert_eq!(Some(What::of(&event)), expected, "{text}");
            now_at = entry.seq();
        }
        now_at
    }
}

/// Where a reader continues, which is where it wanted to unless that is gone.
fn resumed(stream: &Stream, wanted: Option<Position>, got: Resumption, run_is_open: bool) -> u64 {
    assert_eq!(got.head, Position { epoch: stream.epoch, seq: stream.head() });
    assert_eq!(got.position.epoch, stream.epoch);
    match wanted {
        None if !run_is_open => assert_eq!((got.position, got.lost), (got.head, None)),
        None => assert!(got.position.seq <= stream.floor && got.lost.is_none()),
        Some(wanted) if wanted.epoch == stream.epoch && got.lost.is_none() => assert_eq!(got.position, wanted),
        Some(wanted) => {
            let is_there = wanted.epoch == stream.epoch && (stream.floor..=stream.head()).contains(&wanted.seq);
            assert!(!is_there, "nothing is gone");
            assert!(got.position.seq <= stream.floor);
            assert!(got.lost.is_some() || wanted == Position::NONE);
        }
    }
    got.position.seq
}
