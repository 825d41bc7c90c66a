//! One device: its client, the session at the other end of its socket, what it has heard, and what it may hear.

use std::collections::BTreeSet;
use std::sync::Arc as Shared;
use std::task::Waker;
use std::time::Duration;

use super::super::harness::{World, ident};
use super::{LEEWAY, USERS, drop_all};
use crate::client::{Client, ClientEvent, Fault};
use crate::drive::Machine;
use crate::error::CloseReason;
use crate::explore::Fingerprint;
use crate::hub::Session;
use crate::id::SessionId;
use crate::protocol::{Event, EventBody, Position, ServerFrame, StreamEntry, Token};
use crate::time::{Now, Timestamp, UnixTime};

/// The ids of tokens: with which everybody comes, and of a refresh.
pub(super) const FIRST: &str = "first";
const SECOND: &str = "second";
const SECOND_MICROS: u64 = 1_000_000;

/// A frame that is under way to the server, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Hello,
    Refresh,
}

pub(super) struct Device {
    pub(super) user: usize,
    lane: usize,
    /// Of its socket; 0 before the first.
    pub(super) generation: u32,
    client: Option<Client>,
    pub(super) session: Option<Session>,
    /// Sessions whose clients have gone without their notice.
    pub(super) ghosts: Vec<Ghost>,
    /// Sockets that were let in and are over.
    over: Vec<u32>,
    /// What the client takes from one socket to the next.
    position: Option<Position>,
    pub(super) session_id: Option<SessionId>,
    /// The number of the last event that it has, or knows to be lost.
    seen: usize,
    socket: Socket,
}

pub(super) struct Ghost {
    generation: u32,
    session: Session,
    was_in: bool,
    /// Why others have taken it out.
    blamed: Option<CloseReason>,
}

impl Ghost {
    /// Its task has run: who was taken out is told why, unless the end of the token came first.
    fn check(&self) {
        let why = self.session.close_reason();
        let expired = why == Some(CloseReason::TokenExpired);
        assert!(self.blamed.is_none() || why == self.blamed || expired, "{:?}, not {why:?}", self.blamed);
    }
}

/// What is true of the socket of the moment.
#[derive(Debug, Default)]
struct Socket {
    pending: Vec<Word>,
    issued: UnixTime,
    /// When the connection is over, its leeway included.
    ends: UnixTime,
    second: Option<(UnixTime, UnixTime)>,
    was_in: bool,
    welcomed: bool,
    /// Why it may be closed.
    causes: BTreeSet<u16>,
    /// Nothing after this number is for it.
    may_see: Option<usize>,
    heard: Vec<usize>,
    /// The hub began to drain while it was in, and it was told so.
    drained: bool,
    told: bool,
    /// It has heard that the server restarts.
    restarted: bool,
    expires: Option<UnixTime>,
}

/// `iat` is rounded down and `exp` up to a second.
fn token_times(now: UnixTime, life: Duration) -> (UnixTime, UnixTime) {
    let (down, up) = (now.as_micros() / SECOND_MICROS, now.as_micros().div_ceil(SECOND_MICROS));
    (UnixTime::from_secs(down), UnixTime::from_secs(up) + life + LEEWAY)
}

impl Device {
    pub(super) fn new(user: usize, lane: usize) -> Self {
        let (client, session, ghosts, over) = (None, None, Vec::new(), Vec::new());
        let (position, session_id, seen, socket) = (None, None, 0, Socket::default());
        Self { user, lane, generation: 0, client, session, ghosts, over, position, session_id, seen, socket }
    }

    pub(super) fn issued(&self) -> UnixTime {
        self.socket.issued
    }

    pub(super) fn ends(&self) -> UnixTime {
        self.socket.ends
    }

    pub(super) fn second_issued(&self) -> UnixTime {
        self.socket.second.expect("one was asked for").0
    }

    /// When the second token is over, its leeway included.
    pub(super) fn second_ends(&self) -> UnixTime {
        self.socket.second.expect("one was asked for").1
    }

    /// The refresh has been granted. Says whether the second token takes the place of the first.
    pub(super) fn renewed(&mut self) -> bool {
        let (_, ends) = self.socket.second.expect("one was asked for");
        let lasts_longer = ends >= self.socket.ends;
        self.socket.ends = self.socket.ends.max(ends);
        lasts_longer
    }

    /// Opens a socket and upgrades it; says whether that was granted.
    pub(super) fn connect(&mut self, world: &World, life: Duration) -> bool {
        self.generation += 1;
        let user = ident(USERS[self.user]);
        let (issued, ends) = token_times(world.now().unix, life);
        self.socket = Socket { issued, ends, pending: vec![Word::Hello], ..Socket::default() };
        let token = world.scoped_token(&user, life, "", Some(FIRST));
        let config = world.config(token, self.position, self.session_id);
        let mut client = Client::new(world.now(), config, Shared::clone(&world.entropy) as _).unwrap();
        let mut session = world.hub.session().unwrap();
        let up = client.transmit().to_vec();
        client.advance(up.len());
        session.handle_bytes(world.now(), &up);
        session.poll_ready(world.now(), Waker::noop());
        let down = session.transmit().to_vec();
        session.advance(world.now(), down.len());
        client.handle_bytes(world.now(), &down);
        let granted = client.end().is_none();
        if granted {
            (self.client, self.session) = (Some(client), Some(session));
        }
        granted
    }

    /// Carries what the client has written; answers what of it has been looked at.
    pub(super) fn send(&mut self, world: &World) -> Vec<Word> {
        let (Some(client), Some(session)) = (&mut self.client, &mut self.session) else { return Vec::new() };
        let up = client.transmit().to_vec();
        client.advance(up.len());
        let deaf = session.close_reason().is_some();
        session.handle_bytes(world.now(), &up);
        let words = std::mem::take(&mut self.socket.pending);
        self.bury_closed(world.now());
        if deaf { Vec::new() } else { words }
    }

    /// Runs the session's task until it sleeps, and gives its client all that it writes.
    pub(super) fn read(&mut self, world: &World) {
        let now = world.now();
        let (Some(client), Some(session)) = (&mut self.client, &mut self.session) else { return };
        loop {
            session.poll_ready(now, Waker::noop());
            let down = session.transmit().to_vec();
            if down.is_empty() {
                break;
            }
            session.advance(now, down.len());
            client.handle_bytes(now, &down);
        }
        let events: Vec<ClientEvent> = std::iter::from_fn(|| client.poll_event()).collect();
        let heard = self.socket.heard.len();
        events.into_iter().for_each(|event| self.hear(event));
        let is_over = now.unix >= self.socket.ends;
        assert!(!is_over || self.socket.heard.len() == heard, "it hears something after its token's end");
        self.bury_closed(world.now());
    }

    pub(super) fn tick(&mut self, world: &World) {
        let now = world.now();
        self.session.iter_mut().chain(self.ghosts.iter_mut().map(|ghost| &mut ghost.session)).for_each(|session| {
            session.handle_timeout(now);
        });
        self.bury_closed(world.now());
    }

    pub(super) fn refresh(&mut self, world: &World, life: Duration) {
        let Some(client) = &mut self.client else { return };
        let token = world.scoped_token(&ident(USERS[self.user]), life, "", Some(SECOND));
        client.refresh(Token::new(&token));
        self.socket.second = Some(token_times(world.now().unix, life));
        self.socket.pending.push(Word::Refresh);
    }

    pub(super) fn lose(&mut self) {
        self.keep();
        if self.socket.was_in {
            self.over.push(self.generation);
        }
        self.session = None;
    }

    pub(super) fn lose_half(&mut self) {
        self.keep();
        if let Some(session) = self.session.take() {
            let (generation, was_in) = (self.generation, self.socket.was_in);
            self.ghosts.push(Ghost { generation, session, was_in, blamed: None });
        }
    }

    /// The oldest session that nobody is behind any more learns of it.
    pub(super) fn bury(&mut self, world: &World) {
        let mut ghost = self.ghosts.remove(0);
        drop_all(&mut ghost.session, &world.clock);
        ghost.check();
        ghost.session.handle_broken(world.now());
        if ghost.was_in {
            self.over.push(ghost.generation);
        }
    }

    /// The client takes with it what it has.
    fn keep(&mut self) {
        if let Some(client) = self.client.take() {
            self.position = client.position().or(self.position);
            self.session_id = client.session().or(self.session_id);
        }
    }

    fn bury_closed(&mut self, now: Now) {
        if let Some(session) = self.session.as_ref().filter(|session| session.is_closed()) {
            self.judge(now, session.close_reason());
            if let Some(client) = &mut self.client {
                client.handle_eof();
                let code = client.end().and_then(|end| end.as_ref().ok()).map(|(code, _)| *code);
                self.socket.restarted = code == Some(CloseReason::Restart.code());
            }
            self.check_close();
            self.lose();
        }
        for ghost in self.ghosts.extract_if(.., |ghost| ghost.session.is_closed()) {
            ghost.check();
            self.over.extend(ghost.was_in.then_some(ghost.generation));
        }
    }

    /// A socket of a generation was taken out by others: it hears nothing of what comes from now on.
    pub(super) fn taken_out(&mut self, generation: u32, reason: CloseReason, published: usize) {
        if generation == self.generation {
            self.blame(reason);
            self.socket.may_see.get_or_insert(published);
        } else if let Some(ghost) = self.ghosts.iter_mut().find(|ghost| ghost.generation == generation) {
            ghost.blamed.get_or_insert(reason);
        }
    }

    pub(super) fn blame(&mut self, reason: CloseReason) {
        self.socket.causes.insert(reason.code());
    }

    pub(super) fn drains(&mut self) {
        self.blame(CloseReason::Restart);
        self.socket.drained = self.is_in();
    }

    /// Takes note of what has become of its sockets; answers those that are not in any more.
    pub(super) fn settle(&mut self, now: Now, published: usize) -> Vec<u32> {
        if let Some(session) = &self.session {
            let (is_in, expires, reason) = (session.user().is_some(), session.expires(), session.close_reason());
            self.socket.was_in |= is_in;
            assert!(expires.is_none() || expires >= self.socket.expires, "an expiry moved backward");
            self.socket.expires = expires.or(self.socket.expires);
            self.judge(now, reason);
            if self.socket.was_in && !is_in {
                self.socket.may_see.get_or_insert(published);
                self.over.push(self.generation);
            }
        }
        if self.socket.drained && std::mem::take(&mut self.socket.restarted) {
            assert!(self.socket.told, "the close comes unannounced");
            assert_eq!(Some(self.seen), self.socket.may_see.or(Some(published)), "the close comes before the events");
        }
        let gone = self.ghosts.iter().filter(|ghost| ghost.was_in && ghost.session.user().is_none());
        self.over.extend(gone.map(|ghost| ghost.generation));
        std::mem::take(&mut self.over)
    }

    /// What closes a session by itself, closes it when it should; everything else has a cause.
    fn judge(&mut self, now: Now, reason: Option<CloseReason>) {
        match reason {
            Some(CloseReason::TokenExpired) => {
                assert!(now.unix >= self.socket.ends, "it has not expired yet");
                self.blame(CloseReason::TokenExpired);
            }
            Some(CloseReason::HelloTimeout) => {
                assert!(!self.socket.was_in, "it has said hello");
                self.blame(CloseReason::HelloTimeout);
            }
            Some(reason) => assert!(self.socket.causes.contains(&reason.code()), "closed for {reason:?}"),
            None => {}
        }
    }

    fn hear(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Welcome(welcome) => {
                assert!(!self.socket.welcomed && self.socket.was_in, "the welcome comes first, and once");
                self.socket.welcomed = true;
                self.session_id = Some(welcome.session_id);
                self.place(&welcome.streams[0]);
            }
            ClientEvent::Event(event) => self.event(&event),
            ClientEvent::Frame(frame) => self.frame(&frame),
        }
    }

    fn place(&mut self, entry: &StreamEntry) {
        let Some(known) = self.position else {
            self.seen = entry.event_id.seq as usize;
            return;
        };
        match entry.lost {
            None => assert_eq!(entry.event_id, known, "it goes on where it was"),
            Some(lost) => self.skip(lost.from, lost.to),
        }
    }

    fn skip(&mut self, from: Position, to: Position) {
        assert_eq!(from.seq as usize, self.seen, "what is lost begins where it is");
        self.seen = to.seq as usize;
    }

    fn event(&mut self, event: &Event) {
        assert!(self.socket.welcomed, "an event before the welcome");
        let EventBody::Custom { data, .. } = &event.body else { panic!("{event:?}") };
        let number: usize = data.get().parse().unwrap();
        assert_eq!((number, event.position.seq as usize), (self.seen + 1, self.seen + 1), "each once and in order");
        assert_eq!(event.user_id.as_deref(), Some(USERS[self.user]));
        self.seen = number;
        self.socket.heard.push(number);
    }

    fn frame(&mut self, frame: &ServerFrame) {
        match frame {
            ServerFrame::Reply(_) | ServerFrame::AuthExpiring { .. } => {}
            ServerFrame::GoingAway { .. } => self.socket.told = true,
            ServerFrame::Snapshot(part) if part.part == part.of => {
                let lost = part.lost.expect("no run is open");
                self.skip(lost.from, lost.to);
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn check_close(&self) {
        match self.client.as_ref().and_then(|client| client.end()) {
            Some(Ok((code, _))) => assert!(self.socket.causes.contains(code), "closed with {code}"),
            Some(Err(Fault::Lost)) => assert!(!self.socket.causes.is_empty(), "cut for nothing"),
            Some(Err(fault)) => panic!("the client finds a fault: {fault}"),
            None => {}
        }
    }

    pub(super) fn check(&self, published: &[UnixTime]) {
        self.check_close();
        for number in &self.socket.heard {
            assert!(self.socket.may_see.is_none_or(|most| *number <= most), "it hears what came after its end");
            assert!(published[number - 1] < self.socket.ends, "it hears what came after its token's");
        }
    }

    pub(super) fn check_end(&self, is_in: bool, published: usize) {
        assert!(self.ghosts.is_empty());
        if is_in {
            let position = self.client.as_ref().and_then(Client::position);
            assert_eq!(position.map(|position| position.seq as usize), Some(published), "it was not woken");
            assert_eq!(self.seen, published);
        } else {
            assert!(self.session.is_none(), "a socket that is not in stays open");
        }
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.session.iter().chain(self.ghosts.iter().map(|ghost| &ghost.session))
    }

    /// How many of its open sockets were let in.
    pub(super) fn came_in(&self) -> usize {
        let ghosts = self.ghosts.iter().filter(|ghost| ghost.was_in).count();
        ghosts + usize::from(self.session.is_some() && self.socket.was_in)
    }

    /// Whether its session has let it in and is there.
    pub(super) fn is_in(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.user().is_some())
    }

    pub(super) fn is_out(&self) -> bool {
        self.session.is_none()
    }

    /// Whether its client is welcome and has not asked for a new token yet.
    pub(super) fn is_live(&self) -> bool {
        let lives = self.client.as_ref().is_some_and(|client| client.end().is_none());
        lives && self.socket.welcomed && self.socket.second.is_none()
    }

    pub(super) fn wants_to_send(&self) -> bool {
        let reads = self.session.as_ref().is_some_and(|session| session.wants_read());
        reads && self.client.as_ref().is_some_and(|client| !client.transmit().is_empty())
    }

    pub(super) fn has_news(&self) -> bool {
        self.session.as_ref().is_some_and(Session::has_news)
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.sessions().filter_map(Machine::poll_timeout).any(|due| due <= now)
    }

    pub(super) fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { user, lane, generation, client, session, ghosts, over, position, session_id, seen, socket } = self;
        out.shown(&(user, lane, generation, over, position, session_id, seen, socket, client.is_some()));
        client.iter().for_each(|client| client.fingerprint(out));
        session.iter().for_each(|session| session.fingerprint(out));
        for Ghost { generation, session, was_in, blamed } in ghosts {
            out.shown(&(generation, was_in, blamed));
            session.fingerprint(out);
        }
    }
}
