//! What the application does, and what it is asked.

use serde_json::value::to_raw_value;
use trunkline_core::error::ErrorCode;
use trunkline_core::id::{FrameId, IdempotencyKey, PartId, RunId, ThreadId, ToolCallId};
use trunkline_core::manager::{Custom, NewMessage, OnDisconnect, Output, RequestId, RunStart};
use trunkline_core::protocol::{CancelState, OrderPolicy, ReplyError, RunEvent, RunRef};

use super::model::{Asked, MAX_RUNS, MAX_WAITING, REQUEST, RETENTION, Run, Stream, User, What, receipt};
use super::play::{Game, PRODUCER, name, told, topic_id};

impl Game {
    pub(super) fn start(&mut self, user: usize) {
        let started = self.shard.start_run(self.at(), self.run_start(user, None));
        if self.draining {
            started.expect_err("it drains");
            return self.expect(vec![]);
        }
        let now = self.now;
        let known = self.user(user);
        if known.open() == MAX_RUNS {
            started.expect_err("as many as allowed are open");
            return self.expect(vec![]);
        }
        let started = started.expect("there is room");
        assert_eq!(started.receipt, known.receipt());
        let expected = known.begin(now, started.run, false);
        self.expect(expected);
    }

    fn run_start(&self, user: usize, request: Option<RequestId>) -> RunStart<u32> {
        RunStart {
            user: name(user),
            producer: Some(PRODUCER),
            request,
            random: u128::from(self.next) << 64,
            thread: thread(),
            agent_name: "agent".into(),
            parent: None,
            message: None,
            order: OrderPolicy::Reject,
            on_disconnect: OnDisconnect::Continue,
        }
    }

    /// What a run of the user's is asked to take; `good` is whether it may. Answers the name of the call, where one began.
    fn enter(
        &mut self,
        user: usize,
        run: RunId,
        event: RunEvent,
        what: What,
        good: bool,
    ) -> Option<Option<ToolCallId>> {
        let entered = self.shard.run_event(self.at(), &name(user), run, event);
        if !good {
            entered.expect_err("out of order");
            self.expect(vec![]);
            return None;
        }
        let entered = entered.expect("in order");
        let now = self.now;
        let known = self.user(user);
        assert_eq!(entered.receipt, known.receipt());
        known.stream.append(now, what);
        let expected = known.ready();
        self.expect(expected);
        Some(entered.tool_call_id)
    }

    fn nth_run(&self, user: usize, nth: u8) -> Option<&Run> {
        self.users.get(&user)?.runs.get(usize::from(nth) % MAX_RUNS)
    }

    pub(super) fn text(&mut self, user: usize, with: u8) {
        let Some((run, part_id)) = self.nth_run(user, with).map(|run| (run.id, run.part.clone())) else { return };
        let text = format!("{};", self.next);
        let event = RunEvent::Delta { part_id, offset: None, text: text.clone() };
        self.enter(user, run, event, What::Text(run, text), true);
    }

    pub(super) fn work(&mut self, user: usize, with: u8) {
        let Some((run, tool)) = self.nth_run(user, with >> 2).map(|run| (run.id, run.tools.first().cloned())) else {
            return;
        };
        let other = |kind: &str| What::Other(Some(run), kind.to_owned());
        match with & 3 {
            0 => {
                let event = RunEvent::Thinking { thought: "hm".into(), step: None, progress: None };
                self.enter(user, run, event, other("agent_thinking"), true);
            }
            1 | 2 => {
                let event = RunEvent::ToolExecuting { tool_call_id: None, tool_name: "t".into(), parameters: None };
                let call =
                    self.enter(user, run, event, other("tool_executing"), true).flatten().expect("it has a name");
                let known = self.user(user).runs.iter_mut().find(|known| known.id == run).expect("it is open");
                known.tools.push(call);
            }
            _ => {
                let (call, good) = match tool {
                    Some(call) => (call, true),
                    None => ("none".parse().expect("a name"), false),
                };
                let event = RunEvent::ToolCompleted { tool_call_id: call, results: None, success: None, error: None };
                self.enter(user, run, event, other("tool_completed"), good);
                let known = self.user(user).runs.iter_mut().find(|known| known.id == run).expect("it is open");
                known.tools.drain(..usize::from(good));
            }
        }
    }

    pub(super) fn end_run(&mut self, user: usize, with: u8) {
        let Some((run, is_busy)) = self.nth_run(user, with >> 2).map(|run| (run.id, !run.tools.is_empty())) else {
            return;
        };
        let (event, kind, good) = match with & 3 {
            0 | 3 => (RunEvent::Completed { final_response: None, result: None }, "agent_completed", !is_busy),
            1 => (RunEvent::Failed { reason: None, error: "e".into() }, "agent_failed", true),
            _ => (RunEvent::Cancelled { by: "b".into(), reason: "r".into() }, "agent_cancelled", true),
        };
        self.enter(user, run, event, What::Other(Some(run), kind.to_owned()), good);
        if good {
            self.user(user).runs.retain(|known| known.id != run);
            let late = RunEvent::Thinking { thought: "late".into(), step: None, progress: None };
            self.enter(user, run, late, What::Other(None, String::new()), false);
        }
    }

    pub(super) fn message(&mut self, user: usize, with: u8) {
        let key = (with & 3 > 0).then_some(with & 3);
        let n = self.next;
        let sender = self.users.get(&user).and_then(|user| user.devices.first()).map_or(n, |device| device.n);
        let message = NewMessage {
            user: name(user),
            sender,
            id: frame(),
            key: key.map(idempotency),
            thread: thread(),
            content: "hi".into(),
            metadata: None,
            random: u128::from(n) << 64 | 1,
        };
        self.shard.message(self.at(), message);
        let (now, draining) = (self.now, self.draining);
        let reply = |code: &str| vec![format!("reply {sender} {code}")];
        let Some(known) = self.users.get_mut(&user) else { return self.expect(reply("draining")) };
        let answered = key.and_then(|key| known.answered.get(&key)).filter(|(at, _)| at + RETENTION > now);
        if let Some((_, began)) = answered {
            let code = if *began { "ok" } else { "refused" };
            return self.expect(reply(code));
        }
        if let Some(waiting) = known.requests.iter_mut().find(|waiting| key.is_some() && waiting.key == key) {
            let has_room = waiting.senders.len() < MAX_WAITING;
            if has_room {
                waiting.senders.push(sender);
            }
            return self.expect(if has_room { vec![] } else { reply("busy") });
        }
        if draining {
            return self.expect(reply("draining"));
        }
        if known.open() == MAX_RUNS {
            return self.expect(reply("too_many_runs"));
        }
        let Some(Output::Ask(ask)) = self.shard.poll_output() else { panic!("the application is asked") };
        assert_eq!(ask.user(), &name(user));
        known.requests.push(Asked { request: ask.request(), deadline: now + REQUEST, key, senders: vec![sender] });
        self.expect(vec![]);
    }

    pub(super) fn answer(&mut self, user: usize, with: u8) {
        let now = self.now;
        let Some(known) = self.users.get_mut(&user) else { return };
        let nth = usize::from(with >> 1) % MAX_RUNS;
        if nth >= known.requests.len() {
            return;
        }
        let Asked { request, key, senders, .. } = known.requests.remove(nth);
        let runs = with & 1 == 1;
        if let Some(key) = key {
            known.answered.insert(key, (now, runs));
        }
        let code = if runs { "ok" } else { "refused" };
        let mut expected: Vec<String> = senders.iter().map(|to| format!("reply {to} {code}")).collect();
        if runs {
            let run =
                self.shard.start_run(self.at(), self.run_start(user, Some(request))).expect("it was asked for").run;
            expected.extend(self.user(user).begin(now, run, true));
        } else {
            let refused = Err(ReplyError::new(ErrorCode::Refused, "no"));
            assert!(self.shard.answer(self.at(), &name(user), request, refused));
        }
        self.expect(expected);
        let again = Err(ReplyError::new(ErrorCode::Refused, "no"));
        assert!(!self.shard.answer(self.at(), &name(user), request, again), "one answer");
    }

    pub(super) fn cancel(&mut self, user: usize, nth: u8) {
        let Some(run) = self.nth_run(user, nth).map(|run| run.id) else { return };
        let answer = self.shard.cancel(self.at(), &name(user), &RunRef::Id(run));
        assert_eq!(answer.expect("it is open"), (run, CancelState::Requested));
        self.expect(vec![format!("cancel {run}")]);
    }

    pub(super) fn publish(&mut self, user: usize, with: u8) {
        let (now, n) = (self.now, self.next);
        let key = (with & 3 > 0).then_some(with & 3);
        let answer = self.shard.publish(self.at(), &name(user), custom(key), to_raw_value(&n).expect("a number"));
        let known = self.user(user);
        assert_eq!(answer.expect("it is small"), known.receipt());
        let expected = if known.stream.put(now, n, key) { known.ready() } else { vec![] };
        self.expect(expected);
    }

    pub(super) fn publish_topic(&mut self, topic: usize, with: u8) {
        let (now, n) = (self.now, self.next);
        let (id, key) = (topic_id(topic), (with & 3 > 0).then_some(with & 3));
        let data = to_raw_value(&n).expect("a number");
        let answer = self.shard.publish_topic(self.at(), &id, custom(key), data);
        let known = self.topic(topic);
        assert_eq!(answer.expect("it is small"), receipt(known.readers.len()));
        let is_new = known.stream.put(now, n, key);
        let expected = known.readers.keys().map(|n| format!("ready {n}")).collect();
        // Its readers are told in turns; twice would be told of here.
        if !is_new {
            return self.expect(vec![]);
        }
        let mut last = None;
        loop {
            last = self.shard.ready_some(&id, last, 1 + usize::from(with >> 2 & 1));
            self.told.extend(std::iter::from_fn(|| self.shard.poll_output()).map(told));
            if last.is_none() {
                return self.expect(expected);
            }
        }
    }
}

impl User {
    /// A run's first events; answers who is told.
    fn begin(&mut self, now: u64, run: RunId, has_message: bool) -> Vec<String> {
        if has_message {
            self.stream.append(now, What::Other(Some(run), "user_message".into()));
        }
        self.stream.append(now, What::Other(Some(run), "agent_started".into()));
        self.runs.push(Run { id: run, tools: vec![], part: PartId::new("p").expect("a name") });
        self.ready()
    }
}

impl Stream {
    /// Something published, unless its key says that it was; answers whether it is new.
    fn put(&mut self, now: u64, n: u32, key: Option<u8>) -> bool {
        if self.has_key(now, key) {
            return false;
        }
        self.append(now, What::Other(None, format!("custom {n}")));
        self.keys.extend(key.map(|key| (key, now)));
        true
    }
}

fn thread() -> ThreadId {
    ThreadId::new("t").expect("a name")
}

fn frame() -> FrameId {
    FrameId::new("f").expect("a name")
}

fn idempotency(key: u8) -> IdempotencyKey {
    IdempotencyKey::new(&format!("k{key}")).expect("a name")
}

fn custom(key: Option<u8>) -> Custom {
    Custom { thread: None, name: "n".into(), key: key.map(idempotency) }
}
