//! What an application asks of its client.

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::client::reconnecting::keyed;
use crate::client::{RequestError, State};
use crate::id::{ApprovalId, Entropy, FrameId, RunId, ThreadId, TopicName};
use crate::protocol::{ClientFrame, RunRef, Token};
use crate::sync::{Lock, Mailbox, PushError};

/// What does not wait behind requests that wait for room: only the last of its kind counts.
#[derive(Default)]
pub(super) struct Urgent {
    pub(super) token: Option<Token>,
    pub(super) reconnect: bool,
}

/// What handles and task share.
pub(super) struct Shared {
    /// Requests, as they were made.
    pub(super) orders: Mailbox<Box<ClientFrame>, ()>,
    /// Whoever puts something there marks `orders`.
    pub(super) urgent: Lock<Urgent>,
    pub(super) state: Lock<State>,
    entropy: Arc<dyn Entropy>,
}

/// Orders that wait for the task, in bytes.
const MAX_ORDER_BYTES: usize = 1 << 20;
/// What an order costs beside its frame.
const ORDER_BYTES: usize = 256;

impl Shared {
    pub(super) fn new(entropy: Arc<dyn Entropy>) -> Self {
        let (orders, urgent) = (Mailbox::new(MAX_ORDER_BYTES), Lock::new(Urgent::default()));
        Self { orders, urgent, state: Lock::new(State::Connecting), entropy }
    }
}

/// JSON of the application's own, for [`Requests::command`] and its like.
pub type Payload = Box<RawValue>;

/// Asks a client for things; cheap to clone, and usable from any task and thread.
///
/// Nothing here waits. Each request gives an id, which the reply carries
/// ([`ServerFrame::Reply`](crate::protocol::ServerFrame::Reply)); where no reply will come, [`Update::Undone`](super::super::Update::Undone) says so.
/// A request that is made while there is no connection is sent once there is one.
#[derive(Clone)]
pub struct Requests(Arc<Shared>);

impl Requests {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    /// Sends a message to the agent, under a key of its own, so that it takes effect once.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub fn send(&self, thread: &ThreadId, content: &str) -> Result<FrameId, RequestError> {
        let (id, thread_id) = (self.id(), thread.clone());
        self.request(ClientFrame::UserMessage { id, key: None, thread_id, content: content.to_owned(), metadata: None })
    }

    /// Asks for a run to stop; its outcome comes as an event.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub fn cancel(&self, run: RunId) -> Result<FrameId, RequestError> {
        self.request(ClientFrame::CancelRun { id: self.id(), target: RunRef::Id(run) })
    }

    /// Decides what a run waits for. A reply `already_decided` says that another decision came first, or that this one did and its
    /// reply was lost with a connection.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub fn approve(
        &self,
        approval: &ApprovalId,
        decision: &str,
        data: Option<Payload>,
    ) -> Result<FrameId, RequestError> {
        let (id, approval_id) = (self.id(), approval.clone());
        self.request(ClientFrame::Approve { id, approval_id, decision: decision.to_owned(), data })
    }

    /// A request of the application's own, under a key of its own.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub fn command(&self, name: &str, args: Option<Payload>) -> Result<FrameId, RequestError> {
        self.request(ClientFrame::Command { id: self.id(), name: name.to_owned(), args, key: None })
    }

    /// Follows a topic, over all sockets from here on. The reply says whether it is granted.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub fn subscribe(&self, topic: &TopicName) -> Result<FrameId, RequestError> {
        self.request(ClientFrame::Subscribe { id: self.id(), topic: topic.clone(), resume: None })
    }

    /// Leaves a topic.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub fn unsubscribe(&self, topic: &TopicName) -> Result<FrameId, RequestError> {
        self.request(ClientFrame::Unsubscribe { id: self.id(), topic: topic.clone() })
    }

    /// Any of these with an id and a key of the application's: who repeats a request that is [`Undone`](super::super::Undone) does so under its
    /// first key. A message or command without a key gets one.
    ///
    /// # Errors
    /// [`RequestError::Full`] while too much waits, [`RequestError::Stopped`] once the client is closed, and what can be said of the frame itself.
    /// What is found out later comes as [`Undone::Refused`](super::super::Undone::Refused).
    pub fn request(&self, frame: ClientFrame) -> Result<FrameId, RequestError> {
        let (id, frame) = keyed(frame, self.0.entropy.id())?;
        let bytes = frame.encode().len();
        if bytes > MAX_ORDER_BYTES - ORDER_BYTES {
            return Err(RequestError::TooLarge { bytes, max: MAX_ORDER_BYTES - ORDER_BYTES });
        }
        let waker = self.0.orders.push(Box::new(frame), bytes + ORDER_BYTES).map_err(|error| match error {
            PushError::Full => RequestError::Full,
            PushError::Closed => RequestError::Stopped,
        })?;
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(id)
    }

    /// Gives the server a new token of the same user, now or with the next socket. Sources of tokens make it needless. Of
    /// several that the client has not come to yet the last one counts, and requests that wait do not hold it up.
    ///
    /// # Errors
    /// [`RequestError::TooLarge`] over 1 MiB, [`RequestError::Stopped`] once the client is closed.
    pub fn refresh(&self, token: &str) -> Result<(), RequestError> {
        if token.len() > MAX_ORDER_BYTES {
            return Err(RequestError::TooLarge { bytes: token.len(), max: MAX_ORDER_BYTES });
        }
        self.urge(|urgent| urgent.token = Some(Token::new(token)))
    }

    /// Tries at once instead of at the end of the wait, as when the network has come back.
    ///
    /// # Errors
    /// [`RequestError::Stopped`] once the client is closed.
    pub fn reconnect_now(&self) -> Result<(), RequestError> {
        self.urge(|urgent| urgent.reconnect = true)
    }

    /// Ends the connection for good. What was asked before goes first where there is a connection; the client is read to its end for the rest.
    pub fn close(&self) {
        if let Some(waker) = self.0.orders.close(()) {
            waker.wake();
        }
    }

    /// Where the connection stands; what has been read may be older.
    pub fn state(&self) -> State {
        self.0.state.lock().clone()
    }

    pub(super) fn look(&self) {
        if let Some(waker) = self.0.orders.mark() {
            waker.wake();
        }
    }

    fn urge(&self, put: impl FnOnce(&mut Urgent)) -> Result<(), RequestError> {
        if self.0.orders.end().is_some() {
            return Err(RequestError::Stopped);
        }
        put(&mut self.0.urgent.lock());
        self.look();
        Ok(())
    }

    fn id(&self) -> FrameId {
        let text = format!("c-{:016x}", self.0.entropy.u64());
        FrameId::new(&text).expect("18 printable bytes are an id")
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("state", &self.state()).finish_non_exhaustive()
    }
}
