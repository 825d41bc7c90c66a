//! The producer's face of a run, in process.

use std::future::poll_fn;
use std::task::{Context, Poll};

use serde::Serialize;

use super::trace::{self, OfRun, Seen, Span};
use super::{Approval, Hub, Mail, json};
use crate::id::{ApprovalId, PartId, RunId, ThreadId, ToolCallId, UserId};
use crate::manager::{Control, Decision, Entered, RunStart};
use crate::protocol::{FailReason, Receipt};
use crate::stream::{RunError, RunEvent};
use crate::sync::{Arc, Lock, Mailbox, Popped};

/// A run that has started. Dropped without a terminal event it ends as `agent_failed{producer_lost}`.
///
/// Every method checks the order of the run and appends at once; none waits for a device. A method that answers an
/// error has appended nothing, and the run goes on.
pub struct Run {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    hub: Hub,
    user: UserId,
    id: RunId,
    thread: ThreadId,
    mail: Mail,
    signals: Lock<Signals>,
    trace: Span,
}

/// What the run's producer has been told.
#[derive(Default)]
pub(super) struct Signals {
    /// Who asked for the end, once somebody did.
    cancelled_by: Option<Box<str>>,
    /// The latest decision.
    pub(super) decision: Option<(ApprovalId, Decision)>,
    /// No device of the user is there, and the run pauses then.
    pub(super) paused: bool,
    /// Its terminal event is in the log.
    pub(super) ended: bool,
}

/// A tool call that is open. Dropped without an end it stays open: the run can then only fail or be cancelled.
pub struct ToolCall {
    run: Arc<Inner>,
    id: ToolCallId,
    trace: Span,
}

/// The part that [`Run::delta`] streams.
pub const DEFAULT_PART: &str = "answer";

impl Run {
    /// A run that is a part of `of`, or of what its caller is in.
    pub(super) fn start(
        hub: &Hub,
        of: Option<&Span>,
        start: impl FnOnce(Mail) -> RunStart<Mail>,
    ) -> Result<Self, RunError> {
        // One decision is at most a message; a run asks for the next only after it has taken the last.
        let limits = hub.limits();
        let mail = Arc::new(Mailbox::new(limits.control_bytes.saturating_add(limits.message_bytes.saturating_mul(2))));
        let start = start(Arc::clone(&mail));
        let user = start.user.clone();
        let (agent, parent) = (trace::is_on().then(|| start.agent_name.clone()), start.parent);
        let started = hub.act(&user, |shard, now| shard.start_run(now, start))?;
        let signals = Lock::new(Signals::default());
        let trace = agent.map_or_else(Span::none, |agent| {
            trace::run(of, OfRun { user: &user, run: started.run, thread: &started.thread, agent: &agent, parent })
        });
        let inner = Inner { hub: hub.clone(), user, id: started.run, thread: started.thread, mail, signals, trace };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its id.
    pub fn id(&self) -> RunId {
        self.inner.id
    }

    /// Whose it is.
    pub fn user(&self) -> &UserId {
        &self.inner.user
    }

    /// Its conversation.
    pub fn thread(&self) -> &ThreadId {
        &self.inner.thread
    }

    /// Its span, for the work that is done for it; see [`observing`](crate::manual::observing).
    pub fn span(&self) -> &Span {
        &self.inner.trace
    }

    /// Says what the agent is about to do.
    ///
    /// # Errors
    /// When the run has ended, or the event is too large.
    pub fn thinking(&self, thought: impl Into<String>) -> Result<Receipt, RunError> {
        self.inner.event(RunEvent::Thinking { thought: thought.into(), step: None, progress: None })
    }

    /// The same with the step's number and the share that is done, 0 to 1.
    ///
    /// # Errors
    /// As [`Run::thinking`].
    pub fn thinking_step(
        &self,
        thought: impl Into<String>,
        step: u32,
        progress: Option<f64>,
    ) -> Result<Receipt, RunError> {
        self.inner.event(RunEvent::Thinking { thought: thought.into(), step: Some(step), progress })
    }

    /// Begins a tool call. Calls may overlap.
    ///
    /// # Errors
    /// When the run has ended, has made as many calls as allowed, or the parameters are not JSON or too large.
    pub fn tool(&self, name: impl Into<String>, parameters: &impl Serialize) -> Result<ToolCall, RunError> {
        let parameters = Some(json(parameters)?);
        let tool_name = name.into();
        let traced = (!self.inner.trace.is_disabled()).then(|| tool_name.clone());
        let entered = self.inner.enter(RunEvent::ToolExecuting { tool_call_id: None, tool_name, parameters })?;
        // The automaton names every call it opens.
        let id = entered.tool_call_id.ok_or(RunError::Ended)?;
        let trace = traced.map_or_else(Span::none, |name| trace::tool(&self.inner.trace, &name, &id));
        Ok(ToolCall { run: Arc::clone(&self.inner), id, trace })
    }

    /// Streams a piece of the answer.
    ///
    /// # Errors
    /// When the run has ended, or the event is too large.
    pub fn delta(&self, text: impl Into<String>) -> Result<Receipt, RunError> {
        // The constant is an id: short and printable.
        let part_id = PartId::new(DEFAULT_PART).map_err(|error| RunError::NotJson(error.to_string()))?;
        self.delta_of(part_id, text)
    }

    /// Streams a piece of one of several texts.
    ///
    /// # Errors
    /// As [`Run::delta`], and when the run has as many parts as allowed.
    pub fn delta_of(&self, part_id: PartId, text: impl Into<String>) -> Result<Receipt, RunError> {
        self.inner.event(RunEvent::Delta { part_id, offset: None, text: text.into() })
    }

    /// Suspends the run until a person of the user's decides, on whatever device. Until then only
    /// [`Approval::resume`], a failure or a cancellation may come from the producer; open tool calls stay open.
    ///
    /// # Errors
    /// When the run has ended, waits already, or the event is too large.
    pub fn suspend(&self, question: Option<String>) -> Result<Approval, RunError> {
        self.suspend_with(None, question)
    }

    /// The same with an id of the producer's own.
    ///
    /// # Errors
    /// As [`Run::suspend`], and when an open run of the user has used the id.
    pub fn suspend_as(&self, approval_id: ApprovalId, question: Option<String>) -> Result<Approval, RunError> {
        self.suspend_with(Some(approval_id), question)
    }

    fn suspend_with(&self, approval_id: Option<ApprovalId>, question: Option<String>) -> Result<Approval, RunError> {
        // What was decided before makes room for the next decision.
        self.inner.look();
        let entered = self.inner.enter(RunEvent::Suspended { approval_id, question })?;
        // The automaton names every approval it opens.
        let id = entered.approval_id.ok_or(RunError::Ended)?;
        Ok(Approval::new(Arc::clone(&self.inner), id))
    }

    /// Ends the run well.
    ///
    /// # Errors
    /// When the run has ended, a tool call is open, or the event is too large.
    pub fn completed(&self, final_response: Option<String>) -> Result<Receipt, RunError> {
        self.inner.event(RunEvent::Completed { final_response, result: None })
    }

    /// Ends the run well, with data beside the text.
    ///
    /// # Errors
    /// As [`Run::completed`], and when the result is not JSON.
    pub fn completed_with(&self, final_response: Option<String>, result: &impl Serialize) -> Result<Receipt, RunError> {
        self.inner.event(RunEvent::Completed { final_response, result: Some(json(result)?) })
    }

    /// Ends the run in failure; open tool calls end with it.
    ///
    /// # Errors
    /// When the run has ended, or the event is too large.
    pub fn failed(&self, error: impl Into<String>) -> Result<Receipt, RunError> {
        self.failed_by(FailReason::Error, error)
    }

    /// The same with a reason.
    ///
    /// # Errors
    /// As [`Run::failed`].
    pub fn failed_by(&self, reason: FailReason, error: impl Into<String>) -> Result<Receipt, RunError> {
        self.inner.event(RunEvent::Failed { reason: Some(reason), error: error.into() })
    }

    /// Ends the run because somebody stopped it; open tool calls end with it.
    ///
    /// # Errors
    /// When the run has ended, or the event is too large.
    pub fn cancelled(&self, by: impl Into<String>, reason: impl Into<String>) -> Result<Receipt, RunError> {
        self.inner.event(RunEvent::Cancelled { by: by.into(), reason: reason.into() })
    }

    /// Who asked for the run's end, if somebody did. Answering with [`Run::cancelled`] is the producer's to do.
    pub fn cancel_requested(&self) -> Option<String> {
        self.inner.look();
        self.inner.signals.lock().cancelled_by.as_deref().map(str::to_owned)
    }

    /// Ready once somebody asks for the run's end. One task may wait.
    pub fn poll_cancel_requested(&self, cx: &mut Context<'_>) -> Poll<String> {
        self.inner.poll_signals(cx, |signals| signals.cancelled_by.as_deref().map(str::to_owned))
    }

    /// Whether the run, started with [`OnDisconnect::Pause`](super::OnDisconnect::Pause), has no device to work for now.
    /// Nothing keeps a producer from publishing all the same.
    pub fn is_paused(&self) -> bool {
        self.inner.look();
        self.inner.signals.lock().paused
    }

    /// Ready while [`Run::is_paused`] is `paused`. One task may wait for anything of a run.
    pub fn poll_paused(&self, cx: &mut Context<'_>, paused: bool) -> Poll<()> {
        self.inner.poll_signals(cx, |signals| (signals.paused == paused).then_some(()))
    }

    /// Waits until the run is to pause.
    pub async fn paused(&self) {
        poll_fn(|cx| self.poll_paused(cx, true)).await;
    }

    /// Waits while the run is to pause.
    pub async fn resumed(&self) {
        poll_fn(|cx| self.poll_paused(cx, false)).await;
    }

    /// Waits until somebody asks for the run's end, and answers who.
    pub async fn cancel_request(&self) -> String {
        poll_fn(|cx| self.poll_cancel_requested(cx)).await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let error = "the agent stopped without an answer".into();
        // An `Err` says that the run has ended, which is what was wanted.
        let _ = self.inner.event(RunEvent::Failed { reason: Some(FailReason::ProducerLost), error });
    }
}

impl ToolCall {
    /// Its id within the run.
    pub fn id(&self) -> &ToolCallId {
        &self.id
    }

    /// Its span, for the work that is done for it.
    pub const fn span(&self) -> &Span {
        &self.trace
    }

    /// Ends the call with what it gave.
    ///
    /// # Errors
    /// When the run or the call has ended, or the results are not JSON or too large.
    pub fn completed(&self, results: &impl Serialize) -> Result<Receipt, RunError> {
        self.end(results, None)
    }

    /// Ends the call in failure: `success` is false, and `results` is `null`.
    ///
    /// # Errors
    /// As [`ToolCall::completed`].
    pub fn failed(&self, error: impl Into<String>) -> Result<Receipt, RunError> {
        self.end(&(), Some(error.into()))
    }

    fn end(&self, results: &impl Serialize, error: Option<String>) -> Result<Receipt, RunError> {
        let results = Some(json(results)?);
        let (tool_call_id, success) = (self.id.clone(), error.is_none());
        let receipt = self.run.event(RunEvent::ToolCompleted { tool_call_id, results, success: None, error })?;
        trace::tool_ended(&self.trace, success);
        Ok(receipt)
    }
}

impl Inner {
    pub(super) fn event(&self, event: RunEvent) -> Result<Receipt, RunError> {
        self.enter(event).map(|entered| entered.receipt)
    }

    fn enter(&self, event: RunEvent) -> Result<Entered, RunError> {
        let ends = event.is_terminal();
        let seen = (ends && !self.trace.is_disabled()).then(|| Seen::of(&event));
        let entered = self.hub.act(&self.user, |shard, now| shard.run_event(now, &self.user, self.id, event))?;
        if let Some(seen) = seen {
            trace::run_event(&self.trace, &seen);
        }
        if ends {
            self.signals.lock().ended = true;
            if let Some(waker) = self.mail.mark() {
                waker.wake();
            }
        }
        Ok(entered)
    }

    /// Ready once `pick` finds something.
    pub(super) fn poll_signals<T>(&self, cx: &mut Context<'_>, pick: impl Fn(&Signals) -> Option<T>) -> Poll<T> {
        loop {
            self.look();
            if let Some(found) = pick(&self.signals.lock()) {
                return Poll::Ready(found);
            }
            if !self.mail.take_mark(cx.waker()) {
                return Poll::Pending;
            }
        }
    }

    fn look(&self) {
        while let Popped::Item(control) = self.mail.pop() {
            match control {
                Control::CancelRequested { by, .. } => {
                    self.signals.lock().cancelled_by.get_or_insert(by);
                }
                Control::Paused { .. } => self.signals.lock().paused = true,
                Control::Resumed { .. } => self.signals.lock().paused = false,
                Control::Decided { approval_id, decision, .. } => {
                    self.signals.lock().decision = Some((approval_id, decision));
                }
                Control::Reply(_)
                | Control::GoingAway(_)
                | Control::ServiceLevel(_)
                | Control::Ephemeral(_)
                | Control::Request(_) => {}
            }
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({} of {:?})", self.inner.id, self.inner.user)
    }
}

impl std::fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ToolCall({:?} of {})", self.id, self.run.id)
    }
}
