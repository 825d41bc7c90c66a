//! A client's whole life: one socket after another, and what goes on over them.

mod config;
mod credentials;
mod ending;
mod outbox;
mod outcome;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

pub use config::{ConfigError, ReconnectingConfig};
use credentials::Keys;
pub use outbox::RequestError;
pub(super) use outbox::keyed;
use outbox::{About, Outbox, about, key};
pub use outcome::{Output, State, Stopped, Trouble, Undone, Update};

use super::places::Carried;
use super::{Backoff, Client, Credentials, TokenError};
use crate::id::{Entropy, IdempotencyKey, SessionId, TopicName};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, MAX_HELLO_TOPICS, Position, StreamName};
use crate::rate::{Allowance, Rate};
use crate::stream::Reducer;
use crate::time::{Now, Timestamp};

/// A client that comes back: it keeps session, positions, requests without an answer and the runs that a person sees from one socket to
/// the next, and decides what each end of a socket leads to.
///
/// It does no I/O. [`Reconnecting::poll_output`] says what is to be done outside, the inputs say what came of it, and
/// [`Reconnecting::poll_timeout`] when it wants to look at the time; it counts on the monotonic clock alone, so that a jump of the
/// calendar changes nothing. The caller drains the outputs fully after each input. Bytes go through [`Machine`](crate::drive::Machine), or the
/// inherent methods of the same names.
///
/// # What an application is told
///
/// Events of a stream come in order and once over all sockets, or [`Update::Gap`] says that the stream begins anew.
/// A request gets its reply, or [`Update::Undone`] says what is known of it. It is sent again after every welcome, in order, under the same id and
/// key, which the server knows for 10 min, so that it takes effect once. Where a welcome shows that the server has begun the
/// user's stream anew, its memory of keys is gone too: what had left before is then not sent again but reported.
///
/// # What an end leads to
///
/// The range of a close code says it ([`Trouble::next_action`]). Waits follow [`Backoff`], `going_away.reconnect_after`
/// and HTTP's `Retry-After`. Credentials that are over are replaced; where the server finds them bad, others are tried
/// once before it is final. A second gap at the same place begins the stream anew.
///
/// ```
/// # use std::sync::Arc;
/// use trunkline_core::client::{Credentials, Output, Reconnecting, ReconnectingConfig, State, Update, Wanted};
/// # use trunkline_core::id::Entropy;
/// # use trunkline_core::time::Now;
/// # struct Dice;
/// # impl Entropy for Dice { fn fill(&self, out: &mut [u8]) { out.fill(7) } }
///
/// let now = Now::default();
/// let mut client = Reconnecting::new(now, ReconnectingConfig::new("ws://localhost/ws".parse()?), Arc::new(Dice))?;
/// assert_eq!(client.poll_output(), Some(Output::Tell(Update::State(State::Connecting))));
/// assert_eq!(client.poll_output(), Some(Output::Ask(1, Wanted::Socket)));
/// client.handle_credentials(now, 1, Ok(Credentials::token("aa.bb.cc")));
/// assert_eq!(client.poll_output(), Some(Output::Open(1)));
/// client.handle_open(now, 1, Err("the network is down".into()));
/// let Some(Output::Tell(Update::State(State::Waiting { until, .. }))) = client.poll_output() else { panic!() };
/// assert_eq!(client.poll_timeout(), Some(until));
/// # Ok::<(), trunkline_core::client::ConfigError>(())
/// ```
pub struct Reconnecting {
    config: ReconnectingConfig,
    entropy: Arc<dyn Entropy>,
    phase: Phase,
    state: State,
    /// The number of the last socket.
    attempt: u64,
    keys: Keys,
    backoff: Backoff,
    session: Option<SessionId>,
    /// What the next socket goes on with; empty while one has it.
    carried: Carried,
    /// Granted topics: the next `hello` names them.
    topics: BTreeSet<TopicName>,
    /// Streams of which something was held when the socket opened.
    held: BTreeSet<StreamName>,
    /// Streams whose place was given up: the next welcome says that they begin anew.
    given_up: BTreeSet<StreamName>,
    /// Streams of which a snapshot is to come that was announced.
    snapshots: BTreeSet<StreamName>,
    /// The incarnation of the user's own stream, with which the server's memory of keys goes.
    epoch: Option<u64>,
    faulted_at: Option<Position>,
    welcomed: bool,
    closing: bool,
    outbox: Outbox,
    pace: Option<(Rate, Allowance)>,
    message_bytes: usize,
    outputs: VecDeque<(Output, usize)>,
    output_bytes: usize,
}

enum Phase {
    /// For credentials, whose deadline counts.
    Asking,
    Opening(Timestamp),
    Up(Box<Client>),
    Waiting(Timestamp),
    Stopped,
}

/// Outputs that wait to be taken; beyond them nothing is read, and no socket opened.
const MAX_OUTPUTS: usize = 256;
/// The same in bytes of their frames.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

impl Reconnecting {
    /// A client that begins to connect.
    ///
    /// # Errors
    /// When the configuration holds what no `hello` may.
    pub fn new(now: Now, config: ReconnectingConfig, entropy: Arc<dyn Entropy>) -> Result<Self, ConfigError> {
        config.check()?;
        let carried = Carried::of_user(config.resume);
        let topics = config.topics.iter().cloned().collect();
        let mut client = Self {
            backoff: Backoff::new(config.backoff),
            config,
            entropy,
            phase: Phase::Asking,
            state: State::Connecting,
            attempt: 0,
            keys: Keys::default(),
            session: None,
            carried,
            topics,
            held: BTreeSet::new(),
            given_up: BTreeSet::new(),
            snapshots: BTreeSet::new(),
            epoch: None,
            faulted_at: None,
            welcomed: false,
            closing: false,
            outbox: Outbox::default(),
            pace: None,
            message_bytes: Limits::default().message_bytes,
            outputs: VecDeque::new(),
            output_bytes: 0,
        };
        client.tell(Update::State(State::Connecting));
        client.begin(now);
        Ok(client)
    }

    /// The socket of this number is open, or why there is none. Answers whether it is still wanted: one that is not is shut.
    pub fn handle_open(&mut self, now: Now, attempt: u64, outcome: Result<(), String>) -> bool {
        if !self.awaits_socket(attempt) {
            return false;
        }
        match outcome.map_err(Trouble::NoSocket).and_then(|()| self.speak(now)) {
            Ok(client) => self.phase = Phase::Up(Box::new(client)),
            Err(trouble) => self.lost(now, trouble),
        }
        matches!(self.phase, Phase::Up(_))
    }

    /// What was asked for under this number has come, or why it has not. What was asked for before is no use any more.
    pub fn handle_credentials(&mut self, now: Now, ask: u64, outcome: Result<Credentials, TokenError>) {
        let Some(wanted) = self.keys.answered(ask) else { return };
        match &self.phase {
            Phase::Asking => self.given(now, outcome),
            Phase::Opening(_) | Phase::Up(_) | Phase::Waiting(_) => self.renewed(now, wanted, outcome),
            Phase::Stopped => {}
        }
        self.pump(now);
    }

    /// Takes bytes from the socket.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        if let Phase::Up(client) = &mut self.phase {
            client.handle_bytes(now, bytes);
        }
        self.pump(now);
    }

    /// The socket ended.
    pub fn handle_eof(&mut self, now: Now) {
        if let Phase::Up(client) = &mut self.phase {
            client.handle_eof();
        }
        self.pump(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.keys.overdue(now.at) {
            self.handle_overdue_ask(now);
        }
        let has_room = self.has_room();
        match &mut self.phase {
            Phase::Opening(deadline) if *deadline <= now.at => {
                let seconds = self.config.open_deadline.as_secs_f64();
                self.lost(now, Trouble::NoSocket(format!("no connection in {seconds} s")));
            }
            Phase::Waiting(until) if *until <= now.at && has_room => self.begin(now),
            Phase::Up(client) => client.handle_timeout(now),
            Phase::Opening(_) | Phase::Waiting(_) | Phase::Asking | Phase::Stopped => {}
        }
        self.pump(now);
    }

    /// When [`Reconnecting::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let own = match &self.phase {
            Phase::Asking | Phase::Stopped => None,
            Phase::Opening(deadline) => Some(*deadline),
            // Where nobody takes what is told, there is nothing to connect for yet.
            Phase::Waiting(until) => Some(*until).filter(|_| self.has_room()),
            // What was held back for want of room is told at once.
            Phase::Up(client) if client.has_events() && self.has_room() => Some(Timestamp::ZERO),
            Phase::Up(client) => client.poll_timeout().into_iter().chain(self.pause()).min(),
        };
        own.into_iter().chain(self.keys.deadline()).min()
    }

    /// Makes a request: `user_message`, `command`, `cancel_run`, `approve`, `subscribe` or `unsubscribe`. It waits for the welcome where there is
    /// none yet. A message or command without a key gets one; the answer is the key.
    ///
    /// # Errors
    /// Why the request was not taken; then nothing will be told of it.
    pub fn request(&mut self, now: Now, frame: ClientFrame) -> Result<Option<IdempotencyKey>, RequestError> {
        if self.closing || matches!(self.phase, Phase::Stopped) {
            return Err(RequestError::Stopped);
        }
        if !self.takes_requests() {
            return Err(RequestError::Full);
        }
        let (id, frame) = keyed(frame, self.entropy.id())?;
        if self.outbox.has(&id) {
            return Err(RequestError::DuplicateId);
        }
        let bytes = frame.encode().len();
        if bytes > self.message_bytes {
            return Err(RequestError::TooLarge { bytes, max: self.message_bytes });
        }
        match about(&frame) {
            About::Follow(_) if self.topics.len() + self.outbox.subscriptions() >= MAX_HELLO_TOPICS => {
                return Err(RequestError::TooManyTopics);
            }
            About::Leave(topic) => drop(self.topics.remove(&topic)),
            About::Follow(_) | About::Nothing => {}
        }
        let key = key(&frame).cloned();
        self.outbox.push(id, frame, bytes);
        self.pump(now);
        Ok(key)
    }

    /// The same for who makes requests from afar: a request that is not taken is told of as [`Undone::Refused`].
    pub(super) fn order(&mut self, now: Now, frame: ClientFrame) {
        let (id, key) = (frame.id().cloned(), key(&frame).cloned());
        if let Err(error) = self.request(now, frame)
            && let Some(id) = id
        {
            self.tell(Update::Undone { id, key, why: Undone::Refused(error) });
        }
    }

    /// Whether one more request is taken.
    pub fn takes_requests(&self) -> bool {
        self.outbox.has_room(self.config.max_unanswered, self.config.max_unanswered_bytes)
    }

    /// Tries at once instead of at the end of the wait, as when the network has come back.
    pub fn reconnect_now(&mut self, now: Now) {
        if matches!(self.phase, Phase::Waiting(_)) && self.has_room() {
            self.begin(now);
        }
    }

    /// Ends the connection for good, with a close frame where there is somebody to take it.
    pub fn close(&mut self, now: Now) {
        match &mut self.phase {
            Phase::Up(client) => {
                self.closing = true;
                client.close(now);
            }
            Phase::Asking | Phase::Opening(_) | Phase::Waiting(_) => self.stop(Stopped::Closed),
            Phase::Stopped => {}
        }
        self.pump(now);
    }

    /// The next thing to do or to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.poll_sized_output().map(|(output, _)| output)
    }

    /// The same with the bytes of the frame that it tells of.
    pub(super) fn poll_sized_output(&mut self) -> Option<(Output, usize)> {
        let (output, bytes) = self.outputs.pop_front()?;
        self.output_bytes = self.output_bytes.saturating_sub(bytes);
        Some((output, bytes))
    }

    /// What the socket is to be given next.
    pub fn transmit(&self) -> &[u8] {
        match &self.phase {
            Phase::Up(client) => client.transmit(),
            Phase::Asking | Phase::Opening(_) | Phase::Waiting(_) | Phase::Stopped => &[],
        }
    }

    /// The socket took `n` bytes.
    pub fn advance(&mut self, now: Now, n: usize) {
        if let Phase::Up(client) = &mut self.phase {
            client.advance(n);
        }
        self.pump(now);
    }

    /// Whether to read from the socket: not while what came waits to be taken.
    pub fn wants_read(&self) -> bool {
        match &self.phase {
            Phase::Up(client) => client.wants_read() && self.has_room(),
            Phase::Asking | Phase::Opening(_) | Phase::Waiting(_) | Phase::Stopped => false,
        }
    }

    /// Whether there is a socket that is not done with.
    pub const fn has_socket(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// Whether the socket of this number is still wanted.
    pub const fn awaits_socket(&self, attempt: u64) -> bool {
        matches!(self.phase, Phase::Opening(_)) && attempt == self.attempt
    }

    /// Whether the answer to the ask of this number is still wanted.
    pub fn awaits_credentials(&self, ask: u64) -> bool {
        self.keys.awaits(ask)
    }

    /// Where the connection stands.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Whether all is over.
    pub const fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// The position of a stream to resume from, as by an application that stores it.
    pub fn position_in(&self, stream: &StreamName) -> Option<Position> {
        match &self.phase {
            Phase::Up(client) => client.position_in(stream),
            Phase::Asking | Phase::Opening(_) | Phase::Waiting(_) | Phase::Stopped => self.carried.places.get(stream),
        }
    }

    /// The runs that the events so far tell of, over all sockets. It is ahead of what waits to be told.
    pub fn reducer(&self) -> &Reducer {
        match &self.phase {
            Phase::Up(client) => client.reducer(),
            Phase::Asking | Phase::Opening(_) | Phase::Waiting(_) | Phase::Stopped => &self.carried.reducer,
        }
    }

    fn has_room(&self) -> bool {
        self.outputs.len() < MAX_OUTPUTS && self.output_bytes < MAX_OUTPUT_BYTES
    }

    fn put(&mut self, output: Output, bytes: usize) {
        self.output_bytes = self.output_bytes.saturating_add(bytes);
        self.outputs.push_back((output, bytes));
    }

    fn tell(&mut self, update: Update) {
        self.put(Output::Tell(update), 0);
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state.clone();
            self.tell(Update::State(state));
        }
    }
}

/// Shows where it stands, not what it carries.
impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting")
            .field("state", &self.state)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
