//! What users ask of the application, each with its answer attached.

use std::future::poll_fn;
use std::task::{Context, Poll};

use serde::Serialize;
use serde_json::value::RawValue;

use super::trace::{self, Span};
use super::{Hub, Run, RunOptions, json};
use crate::error::ErrorCode;
use crate::id::{RunId, ThreadId, UserId};
use crate::manager::{Ask, CommandAsk, MessageAsk, RequestId, RunStart};
use crate::protocol::{ReplyError, ReplyOk};
use crate::stream::RunError;
use crate::sync::{Arc, Mailbox, Popped};

/// The receiver of all requests of a hub. Dropped, it leaves every request answered: the application is gone.
pub struct Requests {
    queue: Arc<Mailbox<Request, ()>>,
}

/// A request, to be answered once. Dropped, it is answered with the temporary error `unavailable`.
#[derive(Debug)]
pub enum Request {
    /// A message to an agent.
    UserMessage(UserMessage),
    /// A command of the application's own.
    Command(Command),
}

/// A message of a user, to be answered by a run.
pub struct UserMessage {
    ticket: Ticket,
    ask: MessageAsk,
}

/// A command of a user, to be answered by a result.
pub struct Command {
    ticket: Ticket,
    ask: CommandAsk,
}

impl Requests {
    pub(super) const fn new(queue: Arc<Mailbox<Request, ()>>) -> Self {
        Self { queue }
    }

    /// The next request; `None` once the hub shuts down and none is left.
    pub async fn next(&mut self) -> Option<Request> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Requests::next`], for callers that poll. What was answered while it lay here, because it was cancelled or
    /// has waited too long, does not come.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        loop {
            match self.queue.pop() {
                Popped::Item(mut request) => {
                    if request.ticket().is_waited_for() {
                        return Poll::Ready(Some(request));
                    }
                }
                Popped::Closed(()) => return Poll::Ready(None),
                Popped::Empty => {
                    if !self.queue.take_mark(cx.waker()) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // Nobody waits on this queue but its one reader, which is here.
        let _ = self.queue.close(());
        while let Popped::Item(request) = self.queue.pop() {
            drop(request);
        }
    }
}

impl Request {
    pub(super) fn new(hub: Hub, ask: Ask) -> Self {
        let span = trace::request(&ask);
        match ask {
            Ask::Message(ask) => {
                let ticket = Ticket::new(hub, &ask.user, ask.request, span);
                Self::UserMessage(UserMessage { ticket, ask })
            }
            Ask::Command(ask) => {
                let ticket = Ticket::new(hub, &ask.user, ask.request, span);
                Self::Command(Command { ticket, ask })
            }
        }
    }

    /// The application is behind with its requests.
    pub(super) fn turn_away(mut self) {
        let error = ReplyError::new(ErrorCode::Busy, "too many requests wait: try again in a moment");
        self.ticket().answer(Err(error));
    }

    const fn ticket(&mut self) -> &mut Ticket {
        match self {
            Self::UserMessage(message) => &mut message.ticket,
            Self::Command(command) => &mut command.ticket,
        }
    }
}

impl UserMessage {
    /// Who asks.
    pub const fn user(&self) -> &UserId {
        &self.ask.user
    }

    /// In which conversation.
    pub const fn thread(&self) -> &ThreadId {
        &self.ask.thread
    }

    /// The run that is reserved for the answer.
    pub const fn run_id(&self) -> RunId {
        self.ask.run
    }

    /// The text.
    pub fn content(&self) -> &str {
        &self.ask.content
    }

    /// JSON, as the client sent it.
    pub fn metadata(&self) -> Option<&RawValue> {
        self.ask.metadata.as_deref()
    }

    /// Its span, from its arrival here to its answer, for the work that is done for it; the run that answers it is a part of it.
    pub const fn span(&self) -> &Span {
        &self.ticket.span
    }

    /// Accepts the message: it enters the user's stream, followed by `agent_started`, and its sender is told the run.
    ///
    /// # Errors
    /// When the message was cancelled or has waited too long, or an event would be too large. Its sender is told.
    pub fn start(self, agent_name: impl Into<String>) -> Result<Run, RunError> {
        self.start_with(RunOptions::named(agent_name))
    }

    /// The same with more to say of the run.
    ///
    /// # Errors
    /// As [`UserMessage::start`], and when the parent is no open run of the user.
    pub fn start_with(mut self, options: RunOptions) -> Result<Run, RunError> {
        let start = |producer| RunStart {
            user: self.ask.user.clone(),
            producer: Some(producer),
            request: Some(self.ask.request),
            random: 0,
            thread: self.ask.thread.clone(),
            agent_name: options.agent_name,
            parent: options.parent,
            message: options.message,
            order: options.order,
            on_disconnect: options.on_disconnect,
        };
        match Run::start(&self.ticket.hub, Some(&self.ticket.span), start) {
            Ok(run) => {
                self.ticket.open = false;
                trace::answered(&self.ticket.span, &Ok(ReplyOk::Done));
                Ok(run)
            }
            Err(error) => {
                let code = if matches!(error, RunError::TooLarge { .. }) {
                    ErrorCode::TooLarge
                } else {
                    ErrorCode::Unavailable
                };
                self.ticket.answer(Err(ReplyError::new(code, error.to_string())));
                Err(error)
            }
        }
    }

    /// Refuses the message; the sender is told why, and nothing is logged.
    pub fn refuse(mut self, why: impl Into<String>) {
        self.ticket.answer(Err(ReplyError::new(ErrorCode::Refused, why)));
    }
}

impl Command {
    /// Who asks.
    pub const fn user(&self) -> &UserId {
        &self.ask.user
    }

    /// Which command.
    pub fn name(&self) -> &str {
        &self.ask.name
    }

    /// JSON, as the client sent it.
    pub fn args(&self) -> Option<&RawValue> {
        self.ask.args.as_deref()
    }

    /// Its span, from its arrival here to its answer, for the work that is done for it.
    pub const fn span(&self) -> &Span {
        &self.ticket.span
    }

    /// Answers with a result. One with more than half of [`Limits::control_bytes`] is not passed on: the sender is told that it
    /// is `too_large`.
    ///
    /// [`Limits::control_bytes`]: crate::limits::Limits::control_bytes
    ///
    /// # Errors
    /// When the result is not JSON; the sender is then told that the request failed.
    pub fn reply(mut self, result: &impl Serialize) -> Result<(), RunError> {
        let result = json(result)?;
        self.ticket.answer(Ok(ReplyOk::Result(result)));
        Ok(())
    }

    /// Refuses the command; the sender is told why.
    pub fn refuse(mut self, why: impl Into<String>) {
        self.ticket.answer(Err(ReplyError::new(ErrorCode::Refused, why)));
    }
}

/// The duty to answer one request.
struct Ticket {
    hub: Hub,
    user: UserId,
    request: RequestId,
    open: bool,
    span: Span,
}

impl Ticket {
    fn new(hub: Hub, user: &UserId, request: RequestId, span: Span) -> Self {
        Self { hub, user: user.clone(), request, open: true, span }
    }

    /// Whether anybody waits for the answer; where not, none is given.
    fn is_waited_for(&mut self) -> bool {
        self.open = self.hub.shard(self.hub.shard_of(&self.user)).is_waiting(&self.user, self.request);
        self.open
    }

    fn answer(&mut self, outcome: Result<ReplyOk, ReplyError>) {
        if std::mem::replace(&mut self.open, false) {
            trace::answered(&self.span, &outcome);
            self.hub.act(&self.user, |shard, now| shard.answer(now, &self.user, self.request, outcome));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answer(Err(ReplyError::new(ErrorCode::Unavailable, "no agent took the request: try again")));
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requests")
    }
}

impl std::fmt::Debug for UserMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserMessage(of {:?}, {})", self.ask.user, self.ask.run)
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({:?} of {:?})", self.ask.name, self.ask.user)
    }
}
