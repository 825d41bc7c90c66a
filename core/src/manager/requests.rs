//! What clients ask of the application: messages to an agent, commands, cancellations.
//!
//! A message is accepted by starting its run: only then does it stand in the log and is its sender told so. Refused,
//! withdrawn or left alone it leaves no trace but an error. A repeat, by its key, waits for the same answer or gets it
//! again; after an error that is temporary it is a new request.

use serde_json::value::RawValue;

use super::keys::{Key, KeyKind, Outcome};
use super::{Control, Manager, Output, payload_bytes};
use crate::error::ErrorCode;
use crate::id::{FrameId, IdempotencyKey, RunId, ThreadId, UserId};
use crate::protocol::{CancelState, Reply, ReplyError, ReplyOk, RunRef};
use crate::time::{Now, Timestamp};

/// Names a request on its shard; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

#[cfg(test)]
impl RequestId {
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// A message of a user to an agent.
#[derive(Clone)]
pub struct NewMessage<H> {
    /// Who sends it.
    pub user: UserId,
    /// Who is answered.
    pub sender: H,
    /// Names the answer.
    pub id: FrameId,
    /// Makes a repeat harmless.
    pub key: Option<IdempotencyKey>,
    /// The conversation.
    pub thread: ThreadId,
    /// The text.
    pub content: String,
    /// As the client sent it.
    pub metadata: Option<Box<RawValue>>,
    /// 128 random bits for the run.
    pub random: u128,
}

/// A request of the application's own kind.
#[derive(Clone)]
pub struct NewCommand<H> {
    /// Who sends it.
    pub user: UserId,
    /// Who is answered.
    pub sender: H,
    /// Names the answer.
    pub id: FrameId,
    /// Makes a repeat harmless.
    pub key: Option<IdempotencyKey>,
    /// Which command.
    pub name: String,
    /// As the client sent it.
    pub args: Option<Box<RawValue>>,
}

/// A request as the application gets it.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Answered by starting the run, or by a refusal.
    Message(MessageAsk),
    /// Answered by a result, or by a refusal.
    Command(CommandAsk),
}

impl Ask {
    /// Whose it is.
    pub const fn user(&self) -> &UserId {
        match self {
            Self::Message(ask) => &ask.user,
            Self::Command(ask) => &ask.user,
        }
    }

    /// What to answer with.
    pub const fn request(&self) -> RequestId {
        match self {
            Self::Message(ask) => ask.request,
            Self::Command(ask) => ask.request,
        }
    }
}

/// See [`Ask::Message`].
#[derive(Clone)]
pub struct MessageAsk {
    /// What to answer with.
    pub request: RequestId,
    /// Whose.
    pub user: UserId,
    /// The run that is reserved for it.
    pub run: RunId,
    /// The conversation.
    pub thread: ThreadId,
    /// The text.
    pub content: String,
    /// As the client sent it.
    pub metadata: Option<Box<RawValue>>,
}

/// See [`Ask::Command`].
#[derive(Clone)]
pub struct CommandAsk {
    /// What to answer with.
    pub request: RequestId,
    /// Whose.
    pub user: UserId,
    /// Which command.
    pub name: String,
    /// As the client sent it.
    pub args: Option<Box<RawValue>>,
}

/// A request that the application has not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting<H> {
    pub(super) deadline: Timestamp,
    /// Who is answered: one, or more where a key was repeated.
    pub(super) senders: Vec<(H, FrameId)>,
    /// What its repeats are known by.
    pub(super) key: Option<Key>,
    pub(super) message: Option<WaitingMessage>,
    pub(super) command: Option<WaitingCommand>,
}

#[derive(Clone)]
pub(super) struct WaitingCommand {
    name: String,
    args: Option<Box<RawValue>>,
}

#[derive(Clone)]
pub(super) struct WaitingMessage {
    pub(super) run: RunId,
    pub(super) thread: ThreadId,
    pub(super) content: String,
    pub(super) metadata: Option<Box<RawValue>>,
}

impl<H> Waiting<H> {
    /// The request as the application gets it.
    pub(super) fn ask(&self, request: RequestId, id: &UserId) -> Option<Ask> {
        let user = id.clone();
        if let Some(WaitingMessage { run, thread, content, metadata, .. }) = self.message.clone() {
            return Some(Ask::Message(MessageAsk { request, user, run, thread, content, metadata }));
        }
        let WaitingCommand { name, args } = self.command.clone()?;
        Some(Ask::Command(CommandAsk { request, user, name, args }))
    }

    pub(super) const fn is_message(&self) -> bool {
        self.message.is_some()
    }
}

impl<H: Clone> Manager<H> {
    /// A message for the application: an [`Output::Ask`], or an answer at once to a repeat.
    pub fn message(&mut self, now: Now, message: NewMessage<H>) {
        self.assert_drained();
        if let Err(error) = self.try_message(now, &message) {
            self.reply(&message.sender, Reply { id: message.id, outcome: Err(error) });
        }
    }

    /// A command for the application: an [`Output::Ask`], or an answer at once to a repeat.
    pub fn command(&mut self, now: Now, command: NewCommand<H>) {
        self.assert_drained();
        let (sender, id) = (command.sender.clone(), command.id.clone());
        if let Err(error) = self.try_command(now, command) {
            self.reply(&sender, Reply { id, outcome: Err(error) });
        }
    }

    /// The application's answer to a command, or its refusal of any request. One with more than half of
    /// [`Limits::control_bytes`] finds no place beside others: who asked is told that it is `too_large`. Answers whether
    /// anybody waited for it.
    ///
    /// [`Limits::control_bytes`]: crate::limits::Limits::control_bytes
    pub fn answer(&mut self, now: Now, id: &UserId, request: RequestId, outcome: Result<ReplyOk, ReplyError>) -> bool {
        self.assert_drained();
        let max = self.limits.control_bytes / 2;
        let outcome = if payload_bytes(&outcome) > max { Err(too_large(max)) } else { outcome };
        let open = self.close_request(now.at, id, request, &outcome);
        self.settle(now, id);
        open
    }

    /// Asks a run to stop, by its id or by the key of the message it answers.
    pub fn cancel(&mut self, now: Now, id: &UserId, target: &RunRef) -> Result<(RunId, CancelState), ReplyError> {
        self.assert_drained();
        let not_found = || ReplyError::new(ErrorCode::NotFound, "no such run is open");
        let user = self.users.get_mut(id).ok_or_else(not_found)?;
        let run = match target {
            RunRef::Id(run) => *run,
            RunRef::Key(key) => {
                let key = (KeyKind::Message, key.clone());
                match user.keys.get(now.at, &key, &self.limits).ok_or_else(not_found)? {
                    Outcome::Waiting(request) => {
                        let request = *request;
                        return self.withdraw(now, id, request).ok_or_else(not_found);
                    }
                    Outcome::Withdrawn(run) => return Ok((*run, CancelState::Cancelled)),
                    Outcome::Run(run) if !user.runs.contains_key(run) => return Ok((*run, CancelState::Ended)),
                    Outcome::Run(run) => *run,
                    // It was refused, so there never was a run.
                    Outcome::Answered(_) | Outcome::AnswerGone => return Err(not_found()),
                }
            }
        };
        if let Some(open) = user.runs.get_mut(&run) {
            let control = Control::CancelRequested { run, by: id.sub().into() };
            self.outputs.extend(open.tell(control));
            return Ok((run, CancelState::Requested));
        }
        let has_ended = user.past.as_ref().is_some_and(|past| past.ended.contains(now.at, run, &self.limits));
        match self.reserved(id, run) {
            Some(request) => self.withdraw(now, id, request).ok_or_else(not_found),
            None if has_ended => Ok((run, CancelState::Ended)),
            None => Err(not_found()),
        }
    }

    /// The request that has reserved a run, while it waits.
    pub(super) fn reserved(&self, id: &UserId, run: RunId) -> Option<RequestId> {
        let requests = &self.users.get(id)?.requests;
        let reserves = |waiting: &Waiting<H>| waiting.message.as_ref().is_some_and(|message| message.run == run);
        requests.iter().find(|(_, waiting)| reserves(waiting)).map(|(request, _)| *request)
    }

    /// Ends every request of a user whose deadline has come.
    pub(super) fn expire_requests(&mut self, now: Timestamp, id: &UserId) {
        let Some(user) = self.users.get(id) else { return };
        let due: Vec<_> =
            user.requests.iter().filter(|(_, waiting)| waiting.deadline <= now).map(|(request, _)| *request).collect();
        for request in due {
            let error = ReplyError::new(ErrorCode::Unavailable, "no agent answered in time: try again");
            self.close_request(now, id, request, &Err(error));
        }
    }

    fn try_message(&mut self, now: Now, message: &NewMessage<H>) -> Result<(), ReplyError> {
        let key = message.key.clone().map(|key| (KeyKind::Message, key));
        if self.take_repeat(now, &message.user, key.as_ref(), &message.sender, &message.id)? {
            return Ok(());
        }
        let user = self.users.get(&message.user).filter(|_| !self.draining).ok_or_else(draining)?;
        let max = self.limits.runs_per_user;
        if user.open_runs() >= max {
            let text = format!("{max} runs are open, as many as allowed: wait until one ends");
            return Err(ReplyError::new(ErrorCode::TooManyRuns, text));
        }
        self.ask(now, message, key)
    }

    fn ask(&mut self, now: Now, message: &NewMessage<H>, key: Option<Key>) -> Result<(), ReplyError> {
        let run = RunId::for_user(&message.user, message.random);
        let waiting = Waiting {
            deadline: now.at + self.limits.request_deadline,
            senders: vec![(message.sender.clone(), message.id.clone())],
            key,
            message: Some(WaitingMessage {
                run,
                thread: message.thread.clone(),
                content: message.content.clone(),
                metadata: message.metadata.clone(),
            }),
            command: None,
        };
        self.wait(now.at, &message.user, waiting)?;
        self.settle(now, &message.user);
        Ok(())
    }

    fn try_command(&mut self, now: Now, command: NewCommand<H>) -> Result<(), ReplyError> {
        let NewCommand { user: id, sender, id: frame, key, name, args } = command;
        let key = key.map(|key| (KeyKind::Command, key));
        if self.take_repeat(now, &id, key.as_ref(), &sender, &frame)? {
            return Ok(());
        }
        let user = self.users.get(&id).filter(|_| !self.draining).ok_or_else(draining)?;
        // One user never takes the room of all: what bounds its runs bounds what it asks for at once.
        if user.requests.len() >= self.limits.runs_per_user {
            return Err(ReplyError::new(ErrorCode::Busy, "too many requests of this user wait: try again in a moment"));
        }
        let deadline = now.at + self.limits.request_deadline;
        let command = Some(WaitingCommand { name, args });
        self.wait(now.at, &id, Waiting { deadline, senders: vec![(sender, frame)], key, message: None, command })?;
        self.settle(now, &id);
        Ok(())
    }

    /// Answers a request whose key is known as the first was answered, or lets it wait with the first. Says whether the
    /// key is known.
    fn take_repeat(
        &mut self,
        now: Now,
        id: &UserId,
        key: Option<&Key>,
        sender: &H,
        frame: &FrameId,
    ) -> Result<bool, ReplyError> {
        // The sender is attached, so its user is there, unless it was detached this very moment.
        let user = self.users.get_mut(id).ok_or_else(draining)?;
        let Some(known) = key.and_then(|key| user.keys.get(now.at, key, &self.limits)) else { return Ok(false) };
        let outcome = match known {
            Outcome::Waiting(request) => {
                let Some(first) = user.requests.get_mut(request) else { return Ok(false) };
                return first.join(sender, frame).map(|()| true);
            }
            Outcome::Run(run) => Ok(ReplyOk::Run { run_id: *run }),
            Outcome::Withdrawn(_) => Err(withdrawn()),
            Outcome::Answered(outcome) => (**outcome).clone(),
            Outcome::AnswerGone => Err(ReplyError::new(ErrorCode::AlreadyAnswered, ANSWER_GONE)),
        };
        self.reply(sender, Reply { id: frame.clone(), outcome });
        Ok(true)
    }

    /// Whether the application is still waited for.
    pub fn is_waiting(&self, id: &UserId, request: RequestId) -> bool {
        self.users.get(id).is_some_and(|user| user.requests.contains_key(&request))
    }

    /// Asks, and lets the request wait, as far as this shard has room.
    fn wait(&mut self, now: Timestamp, id: &UserId, waiting: Waiting<H>) -> Result<(), ReplyError> {
        if self.asked.len() >= self.requests_share {
            return Err(busy());
        }
        let user = self.users.get_mut(id).ok_or_else(draining)?;
        self.last_request += 1;
        let request = RequestId(self.last_request);
        if let Some(key) = &waiting.key {
            user.keys.open(now, key.clone(), request, &self.limits);
        }
        self.outputs.extend(waiting.ask(request, id).map(Output::Ask));
        user.requests.insert(request, waiting);
        self.asked.insert(request, id);
        Ok(())
    }

    /// Ends the wait of a request, whose room is free again, whoever still holds it.
    pub(super) fn end_wait(&mut self, id: &UserId, request: RequestId) -> Option<Waiting<H>> {
        let waiting = self.users.get_mut(id)?.requests.remove(&request)?;
        self.asked.remove(request);
        Some(waiting)
    }

    /// The user takes a message back that no run has answered yet.
    fn withdraw(&mut self, now: Now, id: &UserId, request: RequestId) -> Option<(RunId, CancelState)> {
        let run = self.users.get(id)?.requests.get(&request)?.message.as_ref()?.run;
        self.users.get_mut(id)?.past.get_or_insert_default().ended.remember(now.at, run, &self.limits);
        self.conclude(now.at, id, request, &Err(withdrawn()), Some(Outcome::Withdrawn(run)));
        self.settle(now, id);
        Some((run, CancelState::Cancelled))
    }

    /// Answers everybody who waits for a request and ends it. The next one with its key gets the same answer, unless that
    /// is temporary.
    fn close_request(
        &mut self,
        now: Timestamp,
        id: &UserId,
        request: RequestId,
        outcome: &Result<ReplyOk, ReplyError>,
    ) -> bool {
        let is_temporary = outcome.as_ref().is_err_and(|error| error.temporary);
        let lasting = (!is_temporary).then(|| Outcome::Answered(Box::new(outcome.clone())));
        self.conclude(now, id, request, outcome, lasting)
    }

    fn conclude(
        &mut self,
        now: Timestamp,
        id: &UserId,
        request: RequestId,
        outcome: &Result<ReplyOk, ReplyError>,
        lasting: Option<Outcome>,
    ) -> bool {
        let Some(waiting) = self.end_wait(id, request) else { return false };
        if let Some((user, key)) = self.users.get_mut(id).zip(waiting.key) {
            match lasting {
                Some(lasting) => user.keys.settle(now, key, lasting, &self.limits),
                None => user.keys.forget(&key),
            }
        }
        for (sender, id) in waiting.senders {
            let outcome = outcome.clone();
            self.outputs.push_back(Output::Control(sender, Control::Reply(Reply { id, outcome })));
        }
        true
    }

    pub(super) fn reply(&mut self, to: &H, reply: Reply) {
        self.outputs.push_back(Output::Control(to.clone(), Control::Reply(reply)));
    }
}

impl<H: Clone> Waiting<H> {
    /// A repeat waits for the same answer.
    fn join(&mut self, sender: &H, id: &FrameId) -> Result<(), ReplyError> {
        if self.senders.len() >= MAX_REPEATS {
            return Err(ReplyError::new(ErrorCode::Busy, "the same message was sent too often: wait for its answer"));
        }
        self.senders.push((sender.clone(), id.clone()));
        Ok(())
    }
}

/// How many repeats of one key may wait for its answer.
const MAX_REPEATS: usize = 16;

/// What a repeat is told when there was no room to keep the answer.
const ANSWER_GONE: &str = "this was answered before, and the answer is not kept any more: it is not done again";

fn withdrawn() -> ReplyError {
    ReplyError::new(ErrorCode::Refused, "the message was cancelled before a run began")
}

fn too_large(max: usize) -> ReplyError {
    ReplyError::new(ErrorCode::TooLarge, format!("this was answered, and the answer has more than {max} bytes"))
}

fn busy() -> ReplyError {
    ReplyError::new(ErrorCode::Busy, "too many requests wait: try again in a moment")
}

fn draining() -> ReplyError {
    ReplyError::new(ErrorCode::Draining, "the server shuts down: try again on another connection")
}

/// What users send stays out of logs: `Debug` shows whose it is and what it is for.
macro_rules! debug_without_payload {
    ($($name:ident $(<$param:ident>)?: $($field:ident),*;)*) => {
        $(impl$(<$param>)? std::fmt::Debug for $name$(<$param>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        })*
    };
}
pub(super) use debug_without_payload;

debug_without_payload! {
    NewMessage<H>: user, id, thread;
    NewCommand<H>: user, id;
    MessageAsk: request, user, run, thread;
    CommandAsk: request, user;
    WaitingMessage: run, thread;
    WaitingCommand: ;
}
