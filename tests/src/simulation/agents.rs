//! Agents within the server's process: their runs, and the application that answers requests.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use trunkline_core::hub::{Approval, Request, Run, RunOptions, ToolCall};
use trunkline_core::protocol::Receipt;
use trunkline_core::stream::RunError;
use trunkline_core::time::Clock as _;

use super::cast;
use super::counters::Counted;
use super::server::Server;
use super::truth::{Entry, Mark, Truth, What, text};
use super::world::Ctx;

/// A run that is open.
pub(super) struct Agent {
    run: Run,
    pub(super) tag: usize,
    calls: VecDeque<(ToolCall, u64)>,
    approval: Option<Approval>,
}

/// All of them, and what waits for the application.
#[derive(Default)]
pub(super) struct Agents {
    pub(super) open: Vec<Agent>,
    waiting: VecDeque<Request>,
}

/// The user's log has grown by just these entries.
pub(super) fn appended(ctx: &Ctx, server: &Server, truth: &mut Truth, user: usize, entries: &[Entry]) {
    let head = server.hub.user_status(ctx.issuer.user(user)).head;
    let new = truth.users[user].grow(head, &ctx.judge);
    let expected = entries.len() as u64;
    ctx.hold(new == expected, "R33", || format!("{expected} events were taken and {new} are in the log"));
    truth.fill(user, entries);
}

impl Agents {
    pub(super) fn start(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth, user: usize, thread: u8) {
        let Some(of) = cast::thread(thread) else { return };
        let tag = truth.runs.len();
        let options = RunOptions { message: Some(format!("r{tag}")), ..RunOptions::named("agent") };
        match server.hub.start_run(ctx.issuer.user(user), of, options) {
            Ok(run) => {
                truth.begin(user, thread, Some(run.id()), false);
                let what = What::Run { tag, run_seq: 1 };
                appended(ctx, server, truth, user, &[Entry { what, thread }]);
                self.enter(ctx, run, tag);
            }
            Err(error) => {
                let legal = matches!(error, RunError::Draining) && server.hub.is_draining()
                    || matches!(error, RunError::TooManyRuns { .. });
                ctx.hold(legal, "R33", || format!("no run starts: {error}"));
            }
        }
    }

    fn enter(&mut self, ctx: &Ctx, run: Run, tag: usize) {
        ctx.tally.count(Counted::Started);
        self.open.push(Agent { run, tag, calls: VecDeque::new(), approval: None });
    }

    pub(super) fn pick(&mut self, run: u8) -> Option<&mut Agent> {
        let count = self.open.len();
        if count == 0 { None } else { self.open.get_mut(usize::from(run) % count) }
    }

    /// Takes what users ask.
    pub(super) fn take(&mut self, server: &mut Server) {
        let Some(requests) = &mut server.requests else { return };
        while let Poll::Ready(Some(request)) = requests.poll_next(&mut Context::from_waker(Waker::noop())) {
            self.waiting.push_back(request);
        }
    }

    /// Takes the oldest request on.
    pub(super) fn answer(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth) {
        match self.waiting.pop_front() {
            None => {}
            Some(Request::Command(command)) => {
                let done = command.reply(&"done");
                ctx.hold(done.is_ok(), "R33", || format!("a command has no answer: {done:?}"));
            }
            Some(Request::UserMessage(message)) => {
                let number = message.content().strip_prefix('m').and_then(|number| number.parse().ok());
                let asked = number.and_then(|number| Some((number, *truth.messages.get(&number)?)));
                let Some((number, (user, thread))) = asked else {
                    return ctx.blame("I12", || "a message that nobody has written".to_owned());
                };
                let is_whose = message.user() == ctx.issuer.user(user);
                ctx.hold(is_whose, "I12", || format!("a message of user {user} came from {:?}", message.user()));
                // One that has waited too long, or was cancelled, is not taken on.
                let Ok(run) = message.start("agent") else { return };
                ctx.hold(truth.answer(number), "R49", || format!("message {number} was answered twice"));
                let tag = truth.begin(user, thread, Some(run.id()), false);
                let entries = [What::Message(number), What::Run { tag, run_seq: 1 }];
                appended(ctx, server, truth, user, &entries.map(|what| Entry { what, thread }));
                self.enter(ctx, run, tag);
            }
        }
    }

    pub(super) fn refuse(&mut self) {
        match self.waiting.pop_front() {
            Some(Request::UserMessage(message)) => message.refuse("no"),
            Some(Request::Command(command)) => command.refuse("no"),
            None => {}
        }
    }

    pub(super) fn ignore(&mut self) {
        drop(self.waiting.pop_front());
    }

    /// Ends what somebody wants to end.
    pub(super) fn obey(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth) {
        for at in (0..self.open.len()).rev() {
            if let Some(by) = self.open[at].run.cancel_requested() {
                let agent = self.open.swap_remove(at);
                agent.end(ctx, server, truth, Mark::Cancelled, |run| run.cancelled(by, "asked"));
            }
        }
    }

    /// The producer of a run dies.
    pub(super) fn abandon(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth, run: u8) {
        if self.open.is_empty() {
            return;
        }
        let agent = self.open.swap_remove(usize::from(run) % self.open.len());
        let (tag, user) = (agent.tag, truth.runs[agent.tag].user);
        drop(agent);
        note(ctx, server, truth, tag, user, Mark::Lost);
    }

    /// Ends a run well, where it may end, or badly.
    pub(super) fn finish(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth, run: u8, well: bool) {
        if self.open.is_empty() {
            return;
        }
        let at = usize::from(run) % self.open.len();
        let agent = &self.open[at];
        if well && (!agent.calls.is_empty() || agent.approval.is_some()) {
            return;
        }
        let (agent, number) = (self.open.swap_remove(at), truth.number());
        if well {
            let text = Some(number.to_string());
            agent.end(ctx, server, truth, Mark::Completed(number), |run| run.completed(text));
        } else {
            agent.end(ctx, server, truth, Mark::Failed(number), |run| run.failed(number.to_string()));
        }
    }

    /// The agent of a run is gone, and nothing of the run's ends.
    pub(super) fn forget(&mut self) {
        self.open.pop().into_iter().for_each(std::mem::forget);
    }

    /// The process is gone: nothing of it is told to anybody any more.
    pub(super) fn die(&mut self) {
        *self = Self::default();
    }
}

/// The event of this mark was taken.
fn note(ctx: &Ctx, server: &Server, truth: &mut Truth, tag: usize, user: usize, mark: Mark) {
    let (run_seq, thread) = (truth.runs[tag].push(mark), truth.runs[tag].thread);
    let what = What::Run { tag, run_seq };
    appended(ctx, server, truth, user, &[Entry { what, thread }]);
}

impl Agent {
    /// Looks whether a person has decided: the decision has resumed the run when it came.
    pub(super) fn look(&mut self, truth: &mut Truth) {
        let Some(approval) = &self.approval else { return };
        if approval.poll_decision(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.approval = None;
            let run = &mut truth.runs[self.tag];
            if run.marks.last() == Some(&Mark::Suspended) {
                run.push(Mark::Resumed);
            }
        }
    }

    fn say(&self, ctx: &Ctx, server: &Server, truth: &mut Truth, mark: Mark, receipt: Result<Receipt, RunError>) {
        let tag = self.tag;
        match receipt {
            Ok(_) => note(ctx, server, truth, tag, truth.runs[tag].user, mark),
            Err(error) => ctx.blame("R33", || format!("run {tag} may not say {mark:?}: {error}")),
        }
    }

    fn end(
        self,
        ctx: &Ctx,
        server: &Server,
        truth: &mut Truth,
        mark: Mark,
        end: impl FnOnce(&Run) -> Result<Receipt, RunError>,
    ) {
        let receipt = end(&self.run);
        self.say(ctx, server, truth, mark, receipt);
    }

    const fn is_suspended(&self) -> bool {
        self.approval.is_some()
    }

    pub(super) fn think(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth) {
        if self.is_suspended() {
            return;
        }
        let number = truth.number();
        let receipt = self.run.thinking(number.to_string());
        self.say(ctx, server, truth, Mark::Thinking(number), receipt);
    }

    pub(super) fn call(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth) {
        if self.is_suspended() || self.calls.len() >= 4 {
            return;
        }
        let number = truth.number();
        match self.run.tool(number.to_string(), &1) {
            Ok(call) => {
                self.calls.push_back((call, number));
                note(ctx, server, truth, self.tag, truth.runs[self.tag].user, Mark::Called(number));
            }
            // A run has its bound of calls.
            Err(error) => {
                let legal = matches!(error, RunError::TooManyTools { .. });
                ctx.hold(legal, "R33", || format!("no call: {error}"));
            }
        }
    }

    pub(super) fn end_call(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth) {
        if self.is_suspended() {
            return;
        }
        let Some((call, _)) = self.calls.pop_front() else { return };
        let number = truth.number();
        let receipt = call.completed(&number);
        self.say(ctx, server, truth, Mark::Ended(number), receipt);
    }

    pub(super) fn stream(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth, part: u8, chars: u64) {
        if self.is_suspended() {
            return;
        }
        let from = truth.runs[self.tag].ends[usize::from(part)];
        let piece = text(self.tag, part.into(), from, chars);
        let receipt = self.run.delta_of(cast::part(part), piece);
        self.say(ctx, server, truth, Mark::Text { part, end: from + chars }, receipt);
    }

    pub(super) fn suspend(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth) {
        if self.is_suspended() {
            return;
        }
        match self.run.suspend(None) {
            Ok(approval) => {
                truth.approvals.push_back((truth.runs[self.tag].user, self.tag, approval.id().clone()));
                self.approval = Some(approval);
                note(ctx, server, truth, self.tag, truth.runs[self.tag].user, Mark::Suspended);
            }
            Err(error) => ctx.blame("R33", || format!("no suspension: {error}")),
        }
    }

    pub(super) fn resume(&mut self, ctx: &Ctx, server: &Server, truth: &mut Truth) {
        let Some(approval) = self.approval.take() else { return };
        let receipt = approval.resume(None);
        self.say(ctx, server, truth, Mark::Resumed, receipt);
    }
}

/// An event of the application's own, for a user.
pub(super) fn publish(ctx: &Ctx, server: &Server, truth: &mut Truth, user: usize, thread: u8, bytes: u16) {
    let number = truth.number();
    truth.customs.insert(number, (user, thread, bytes));
    let data = "x".repeat(bytes.into());
    let receipt = server.hub.publish(ctx.issuer.user(user), cast::thread(thread), format!("n{number}"), &data);
    ctx.hold(receipt.is_ok(), "R33", || format!("nothing is published: {receipt:?}"));
    appended(ctx, server, truth, user, &[Entry { what: What::Custom(number), thread }]);
    let now = ctx.clock.now();
    let there = server.sockets.values().filter(|socket| socket.seen.user.get() == Some(user)).count();
    let told = match receipt {
        Ok(Receipt::DeliveredTo(told)) => told as usize,
        Ok(Receipt::Stored) | Err(_) => 0,
    };
    ctx.hold(told == there, "R33", || format!("{told} were told at {:?}, and {there} are there", now.at));
}

/// The same for a topic.
pub(super) fn publish_topic(ctx: &Ctx, server: &Server, truth: &mut Truth, topic: usize, bytes: u16) {
    let number = truth.number();
    truth.topics[topic].events.push(number);
    let data = "x".repeat(bytes.into());
    let receipt = server.hub.publish_topic(&cast::topic(topic), format!("n{number}"), &data);
    ctx.hold(receipt.is_ok(), "R33", || format!("nothing is published: {receipt:?}"));
}
