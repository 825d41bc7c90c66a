//! Runs: the Rust API and producers over the wire are two faces of these operations.

use serde_json::value::RawValue;

use super::absence::{Absence, OnDisconnect};
use super::housekeeping::Due;
use super::keys::{KeyKind, Outcome};
use super::leases::Lease;
use super::requests::debug_without_payload;
use super::user::{Owner, RunHead, Unplaced};
use super::{Control, Custom, Manager, Output, RequestId};
use crate::id::{ApprovalId, MAX_ID_BYTES, RunId, ThreadId, ToolCallId, UserId};
use crate::protocol::{EventBody, OrderPolicy, Receipt, Reply, ReplyOk};
use crate::stream::{RunError, RunEvent, RunMachine};
use crate::time::Now;

/// A run that has started and has no terminal event yet.
#[derive(Clone, Debug)]
pub(super) struct OpenRun<H> {
    /// Whom a cancellation is told; `None` while no producer holds the run.
    pub(super) producer: Option<H>,
    /// Where its producer is no part of this process.
    pub(super) lease: Option<Lease>,
    pub(super) thread: ThreadId,
    pub(super) agent_name: Box<str>,
    pub(super) machine: RunMachine,
    order: OrderPolicy,
    pub(super) on_disconnect: OnDisconnect,
    /// Since no device of the user is there.
    pub(super) absence: Option<Absence>,
}

/// A run that is about to start.
#[derive(Clone)]
pub struct RunStart<H> {
    /// Whose run.
    pub user: UserId,
    /// Whom a cancellation is told; `None` where that is nobody.
    pub producer: Option<H>,
    /// The message it answers, which brings run id and thread.
    pub request: Option<RequestId>,
    /// The run id where it answers none: random bits.
    pub random: u128,
    /// The conversation where it answers no message.
    pub thread: ThreadId,
    /// Who works.
    pub agent_name: String,
    /// The run that starts this one: open, and of the same user.
    pub parent: Option<RunId>,
    /// What the agent was asked, where it answers no message.
    pub message: Option<String>,
    /// What it does when the user's last device leaves.
    pub on_disconnect: OnDisconnect,
    /// What becomes of events that break its order.
    pub order: OrderPolicy,
}

/// A run that has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// Where `agent_started` went.
    pub receipt: Receipt,
}

/// An event that has entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Where it went.
    pub receipt: Receipt,
    /// The call that `tool_executing` opened.
    pub tool_call_id: Option<ToolCallId>,
    /// What `agent_suspended` waits for.
    pub approval_id: Option<ApprovalId>,
}

impl<H> OpenRun<H> {
    /// Whether a question of its producer would enter: where it waits already, a repair lets it.
    const fn may_ask(&self) -> bool {
        match self.order {
            OrderPolicy::Reject | OrderPolicy::Flag => self.machine.waits_for().is_none(),
            OrderPolicy::Repair => true,
        }
    }
}

impl<H: Clone> Manager<H> {
    /// Starts a run: the user's message where it answers one, then `agent_started`, appended together.
    ///
    /// # Errors
    /// When the request is closed, the parent is no open run of the user, the user has too many runs, an event is too large, or the shard drains. Nothing is
    /// appended then.
    pub fn start_run(&mut self, now: Now, start: RunStart<H>) -> Result<Started, RunError> {
        self.assert_drained();
        if let Some(parent) = start.parent {
            let open = self.users.get(&start.user).is_some_and(|user| user.runs.contains_key(&parent));
            if !open {
                return Err(RunError::NoParent { parent });
            }
        }
        match start.request {
            Some(request) => self.start_requested(now, start, request),
            None => self.start_own(now, start),
        }
    }

    /// Takes one event of an open run in.
    ///
    /// # Errors
    /// When the run has ended, or the event may not come now. Nothing is appended then.
    pub fn run_event(&mut self, now: Now, id: &UserId, run: RunId, event: RunEvent) -> Result<Entered, RunError> {
        self.assert_drained();
        self.enter(now, id, run, event)
    }

    /// The same as a part of an operation.
    pub(super) fn enter(&mut self, now: Now, id: &UserId, run: RunId, event: RunEvent) -> Result<Entered, RunError> {
        let user = self.users.get_mut(id).ok_or(RunError::Ended)?;
        if let RunEvent::Suspended { approval_id: Some(wanted), .. } = &event
            && (user.has_decided(wanted) || user.runs.values().any(|open| open.machine.knows(wanted)))
            && user.runs.get(&run).is_some_and(OpenRun::may_ask)
        {
            return Err(RunError::ApprovalTwice { approval_id: wanted.clone() });
        }
        let open = user.runs.get_mut(&run).ok_or(RunError::Ended)?;
        let planned = open.machine.plan(now.at, event, open.order, &self.limits)?;
        let mut placed = Vec::with_capacity(1);
        for (skip, (body, flaw)) in (0..).zip(planned.bodies()) {
            let run_seq = Some(open.machine.next_run_seq() + skip);
            let head = RunHead { run, run_seq, agent_name: Some(&open.agent_name), flaw };
            let unplaced = Unplaced { owner: Owner::User(id), thread: Some(&open.thread), run: Some(head), body };
            placed.push(unplaced.encode(now, &user.channel.log, skip, &self.limits, &mut self.scratch)?);
        }
        planned.bodies().for_each(|(body, _)| open.machine.commit(now.at, body));
        let ends = planned.body.as_ref().is_some_and(EventBody::is_terminal);
        if ends && let Some(open) = user.runs.remove(&run) {
            let past = user.past.get_or_insert_default();
            past.decided.remember(open.machine.decided().iter().cloned());
            self.open_runs = self.open_runs.saturating_sub(1);
            self.leases.end(run, open.lease.as_ref());
            past.ended.remember(now.at, run, &self.limits);
        }
        let before = user.channel.log.bytes();
        planned.bodies().for_each(|(body, _)| self.tally.events.count(body.kind()));
        let receipt = user.channel.append(now.at, placed, &self.limits, &mut self.outputs, &mut self.tally);
        let after = user.channel.log.bytes();
        self.account(&Due::User(id.clone()), before, after);
        if ends {
            self.settle(now, id);
        }
        let (tool_call_id, approval_id) = planned.body.map_or((None, None), opened);
        Ok(Entered { receipt, tool_call_id, approval_id })
    }

    /// An event of no run, to one user.
    ///
    /// # Errors
    /// When it is too large; nothing is appended then.
    pub fn publish(&mut self, now: Now, id: &UserId, custom: Custom, data: Box<RawValue>) -> Result<Receipt, RunError> {
        self.assert_drained();
        let key = custom.key.map(|key| (KeyKind::Publish, key));
        let body = EventBody::Custom { name: custom.name, data };
        let user = Self::user(&mut self.users, &mut self.last_epoch, now, id);
        if key.as_ref().is_some_and(|key| user.producer_keys.has(now.at, key, &self.limits)) {
            return Ok(user.channel.receipt());
        }
        let unplaced = Unplaced { owner: Owner::User(id), thread: custom.thread.as_ref(), run: None, body: &body };
        let encoded = unplaced.encode(now, &user.channel.log, 0, &self.limits, &mut self.scratch);
        let before = user.channel.log.bytes();
        let receipt = encoded.map(|frame| {
            self.tally.events.count(body.kind());
            user.channel.append(now.at, [frame], &self.limits, &mut self.outputs, &mut self.tally)
        });
        if let (Ok(_), Some(key)) = (&receipt, key) {
            user.producer_keys.settle(now.at, key, Outcome::done(), &self.limits);
        }
        let after = user.channel.log.bytes();
        self.account(&Due::User(id.clone()), before, after);
        self.settle(now, id);
        receipt
    }

    fn start_own(&mut self, now: Now, start: RunStart<H>) -> Result<Started, RunError> {
        if self.draining {
            return Err(RunError::Draining);
        }
        let user = Self::user(&mut self.users, &mut self.last_epoch, now, &start.user);
        let max = self.limits.runs_per_user;
        if user.open_runs() >= max {
            return Err(RunError::TooManyRuns { max });
        }
        let run = RunId::for_user(&start.user, start.random);
        let started = self.begin(now, &start, run, start.thread.clone(), None);
        // A user that was made for a run that did not start is let go by its deadline.
        self.settle(now, &start.user);
        started
    }

    fn start_requested(&mut self, now: Now, start: RunStart<H>, request: RequestId) -> Result<Started, RunError> {
        let user = self.users.get(&start.user).ok_or(RunError::RequestClosed)?;
        let waiting = user.requests.get(&request).ok_or(RunError::RequestClosed)?;
        let message = waiting.message.clone().ok_or(RunError::RequestClosed)?;
        let body = EventBody::UserMessage { content: message.content, metadata: message.metadata };
        let started = self.begin(now, &start, message.run, message.thread, Some(body))?;
        let Some(waiting) = self.end_wait(&start.user, request) else { return Ok(started) };
        if let Some((user, key)) = self.users.get_mut(&start.user).zip(waiting.key) {
            user.keys.settle(now.at, key, Outcome::Run(started.run), &self.limits);
        }
        for (sender, id) in waiting.senders {
            let reply = Reply::ok(id, ReplyOk::Run { run_id: started.run });
            self.outputs.push_back(Output::Control(sender, Control::Reply(reply)));
        }
        self.settle(now, &start.user);
        Ok(started)
    }

    /// Appends the opening events of a run and opens it.
    fn begin(
        &mut self,
        now: Now,
        start: &RunStart<H>,
        run: RunId,
        thread: ThreadId,
        message: Option<EventBody>,
    ) -> Result<Started, RunError> {
        // Every event of the run carries it, the last one too: one that leaves no room would keep the run from ending.
        if start.agent_name.len() > MAX_ID_BYTES {
            return Err(RunError::AgentName { bytes: start.agent_name.len(), max: MAX_ID_BYTES });
        }
        if self.open_runs >= self.max_runs {
            return Err(RunError::Full { max: self.max_runs });
        }
        let user = self.users.get_mut(&start.user).ok_or(RunError::RequestClosed)?;
        let mut machine = RunMachine::new(run, now.at);
        let started = EventBody::AgentStarted { parent_run_id: start.parent, message: start.message.clone() };
        let mut frames = Vec::with_capacity(2);
        for body in message.iter().chain([&started]) {
            // The user's own message is no agent's, and no event of the run.
            let own = !matches!(body, EventBody::UserMessage { .. });
            let agent_name = own.then_some(start.agent_name.as_str());
            let head = RunHead { run, run_seq: own.then(|| machine.next_run_seq()), agent_name, flaw: None };
            let unplaced = Unplaced { owner: Owner::User(&start.user), thread: Some(&thread), run: Some(head), body };
            frames.push(unplaced.encode(
                now,
                &user.channel.log,
                frames.len() as u64,
                &self.limits,
                &mut self.scratch,
            )?);
        }
        machine.count();
        let producer = start.producer.clone();
        let agent_name = start.agent_name.as_str().into();
        let open = OpenRun {
            producer,
            lease: None,
            thread: thread.clone(),
            agent_name,
            machine,
            order: start.order,
            on_disconnect: start.on_disconnect,
            absence: None,
        };
        user.runs.insert(run, open);
        self.open_runs += 1;
        let before = user.channel.log.bytes();
        message.iter().chain([&started]).for_each(|body| self.tally.events.count(body.kind()));
        let receipt = user.channel.append(now.at, frames, &self.limits, &mut self.outputs, &mut self.tally);
        let after = user.channel.log.bytes();
        self.account(&Due::User(start.user.clone()), before, after);
        Ok(Started { run, thread, receipt })
    }
}

/// The call or the approval that an event has opened.
fn opened(body: EventBody) -> (Option<ToolCallId>, Option<ApprovalId>) {
    if let EventBody::ToolExecuting { tool_call_id, .. } = body {
        (Some(tool_call_id), None)
    } else if let EventBody::AgentSuspended { approval_id, .. } = body {
        (None, Some(approval_id))
    } else {
        (None, None)
    }
}

debug_without_payload! {
    RunStart<H>: user, request, thread, agent_name, parent;
}
