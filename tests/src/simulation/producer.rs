//! Back ends over the wire: one connection after another, runs that they take up again, and answers to what they are asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use trunkline_core::client::{Client, ClientConfig, ClientEvent};
use trunkline_core::id::{Entropy, FrameId, IdempotencyKey, RunId, ToolCallId};
use trunkline_core::protocol::{
    ClientFrame, ProducerHello, PublishTarget, Reply, ReplyOk, Request, RequestBody, RunEvent, RunStart, ServerFrame,
    Token,
};
use trunkline_core::time::{Clock as _, Now, Timestamp};

use super::cast;
use super::clock::Flag;
use super::counters::Counted;
use super::device::Supply;
use super::issuer::Issuer;
use super::pipe::Read;
use super::server::{Line, Server};
use super::truth::{Mark, Truth, text};
use super::world::Ctx;

pub(super) struct Producer {
    name: usize,
    user: usize,
    link: Option<(Client, Line)>,
    welcomed: bool,
    pub(super) runs: Vec<WireRun>,
    asked: VecDeque<Request>,
    frames: u64,
    flag: Arc<Flag>,
    waker: Waker,
}

/// A run of a producer's, as the producer knows it.
pub(super) struct WireRun {
    tag: usize,
    user: usize,
    thread: u8,
    lease: u8,
    /// The one that a request has reserved, or that the server has named.
    id: Option<RunId>,
    /// It answers a request: the server knows what was asked.
    requested: bool,
    events: Vec<RunEvent>,
    sent: usize,
    /// The frame that waits for its answer on this connection.
    starting: Option<u64>,
    /// It may be worked on over this connection.
    held: bool,
    calls: VecDeque<u64>,
    pub(super) over: bool,
}

impl WireRun {
    /// Whether it has ended, and the server has all of it.
    fn is_told(&self, truth: &Truth) -> bool {
        truth.runs[self.tag].over && self.held && self.sent == self.events.len()
    }
}

impl Producer {
    pub(super) fn new(name: usize) -> Self {
        let flag = Arc::new(Flag::default());
        Self {
            name,
            user: cast::PRODUCERS[name],
            link: None,
            welcomed: false,
            runs: Vec::new(),
            asked: VecDeque::new(),
            frames: 0,
            waker: Waker::from(Arc::clone(&flag)),
            flag,
        }
    }

    fn token(&self, ctx: &Ctx, supply: Supply) -> String {
        Issuer::issue(self.user, ctx.next_token(), ctx.clock.true_unix(), supply.life)
    }

    /// Connects, where it is not.
    pub(super) fn come(&mut self, ctx: &Ctx, server: &mut Server, supply: Supply) {
        if self.link.is_some() || !supply.up {
            return;
        }
        let id = FrameId::new(&format!("b{}", self.name)).ok();
        let config = ClientConfig {
            host: "sim".into(),
            target: "/ws".into(),
            token: self.token(ctx, supply),
            session: None,
            resume: None,
            threads: Vec::new(),
            producer: id.map(|id| ProducerHello { id, users: None }),
            name: "backend".into(),
        };
        let entropy = Arc::clone(&ctx.entropy) as Arc<dyn Entropy>;
        let Ok(client) = Client::new(ctx.clock.now(), config, entropy) else { return };
        let line = server.accept(ctx);
        line.down.borrow_mut().wake_when_readable(&self.waker);
        self.link = Some((client, line));
        self.flag.set();
    }

    pub(super) fn line(&self) -> Option<&Line> {
        self.link.as_ref().map(|(_, line)| line)
    }

    /// Its connection is reset.
    pub(super) fn cut(&mut self, ctx: &Ctx, truth: &mut Truth) {
        if let Some((_, line)) = self.link.take() {
            line.up.borrow_mut().break_off();
            line.down.borrow_mut().break_off();
            self.lost(ctx, truth);
        }
    }

    /// It dies, and no byte says so: answers what the network holds of it.
    pub(super) fn vanish(&mut self, ctx: &Ctx, truth: &mut Truth) -> Option<Line> {
        let (_, line) = self.link.take()?;
        self.lost(ctx, truth);
        line.up.borrow_mut().hold();
        Some(line)
    }

    fn lost(&mut self, ctx: &Ctx, truth: &mut Truth) {
        self.welcomed = false;
        self.asked.clear();
        for run in &mut self.runs {
            (run.held, run.starting) = (false, None);
            truth.runs[run.tag].let_go = Some(ctx.clock.at());
        }
    }

    pub(super) fn pump(&mut self, ctx: &Ctx, server: &mut Server, truth: &mut Truth, supply: Supply) -> bool {
        if !self.flag.take() {
            return false;
        }
        let now = ctx.clock.now();
        while let Some((client, line)) = &mut self.link {
            if let Some(event) = client.poll_event() {
                self.hear(ctx, server, truth, supply, event);
                continue;
            }
            let moved = write(client, line, &self.waker) | read(ctx, now, client, line, &self.waker);
            if client.is_closed() {
                line.up.borrow_mut().end();
                line.down.borrow_mut().break_off();
                self.link = None;
                self.lost(ctx, truth);
            } else if !moved {
                break;
            }
        }
        true
    }

    pub(super) fn time(&mut self, now: Now) {
        if let Some((client, _)) = &mut self.link
            && client.poll_timeout().is_some_and(|due| due <= now.at)
        {
            client.handle_timeout(now);
            self.flag.set();
        }
    }

    pub(super) fn next_due(&self) -> Timestamp {
        self.link.as_ref().and_then(|(client, _)| client.poll_timeout()).unwrap_or(Timestamp::MAX)
    }

    fn send(&mut self, frame: &ClientFrame) {
        if let Some((client, _)) = &mut self.link {
            client.send(frame);
            self.flag.set();
        }
    }

    fn hear(&mut self, ctx: &Ctx, server: &mut Server, truth: &mut Truth, supply: Supply, event: ClientEvent) {
        match event {
            ClientEvent::Welcome(welcome) => {
                ctx.tally.count(Counted::ProducerWelcomes);
                ctx.hold(ctx.is_new(welcome.connection_id), "R2", || "a producer got a used connection id".to_owned());
                if let Some((_, line)) = &self.link
                    && let Some(socket) = server.sockets.get_mut(&line.number)
                {
                    socket.connection = Some(welcome.connection_id);
                }
                self.welcomed = true;
                (0..self.runs.len()).for_each(|at| self.ask_for(at));
            }
            ClientEvent::Event(event) => ctx.blame("I12", || format!("a producer got {event:?}")),
            ClientEvent::Frame(frame) => self.frame(ctx, truth, supply, *frame),
        }
    }

    fn frame(&mut self, ctx: &Ctx, truth: &mut Truth, supply: Supply, frame: ServerFrame) {
        match frame {
            ServerFrame::Reply(reply) => self.reply(ctx, truth, &reply),
            ServerFrame::Request(request) => {
                let user = self.user_of(&request.user_id);
                ctx.hold(user.is_some(), "I12", || format!("a producer is asked by {}", request.user_id));
                self.asked.push_back(*request);
            }
            ServerFrame::Error { code, run_id, .. } => self.refused(ctx, truth, run_id, code.as_str()),
            ServerFrame::AuthExpiring { .. } if supply.up => {
                let token = Token::new(&self.token(ctx, supply));
                if let Some((client, _)) = &mut self.link {
                    client.refresh(token);
                }
            }
            ServerFrame::AuthExpiring { .. }
            | ServerFrame::GoingAway { .. }
            | ServerFrame::ServiceLevel { .. }
            | ServerFrame::Pong { .. } => {}
            ServerFrame::Welcome(_)
            | ServerFrame::Snapshot(_)
            | ServerFrame::Event(_)
            | ServerFrame::Ephemeral(_)
            | ServerFrame::Deltas(_)
            | ServerFrame::Lag { .. }
            | ServerFrame::Position { .. } => ctx.blame("I12", || format!("a producer got {}", frame.type_name())),
        }
    }

    fn user_of(&self, sub: &str) -> Option<usize> {
        let tenant = cast::USERS[self.user].0;
        (0..cast::PEOPLE).find(|user| cast::USERS[*user] == (tenant, sub))
    }

    fn reply(&mut self, ctx: &Ctx, truth: &mut Truth, reply: &Reply) {
        let number = reply.id.as_str().strip_prefix('s').and_then(|number| number.parse::<u64>().ok());
        let Some(at) = self.runs.iter().position(|run| run.starting.is_some() && run.starting == number) else {
            return;
        };
        let run = &mut self.runs[at];
        run.starting = None;
        match &reply.outcome {
            Ok(ReplyOk::RunStarted { run_id, last_n }) => {
                let again = run.id == Some(*run_id) && *last_n > 0;
                ctx.tally.count(if again { Counted::TakenOver } else { Counted::WireRuns });
                ctx.hold(*last_n <= run.events.len() as u64, "R49", || format!("event {last_n} was never sent"));
                run.id = Some(*run_id);
                truth.name(run.tag, *run_id);
                truth.runs[run.tag].let_go = None;
                (run.held, run.sent) = (true, *last_n as usize);
                self.send_on(at);
            }
            Ok(_) => ctx.blame("R33", || "the start of a run is answered by something else".to_owned()),
            Err(error) => {
                let (tag, never) = (run.tag, run.id.is_none() || run.requested && run.sent == 0);
                run.over = true;
                truth.runs[tag].gone |= never;
                let code = error.code.as_str();
                let legal = ["run_ended", "not_found", "unavailable", "draining"].contains(&code);
                ctx.hold(legal, "R33", || format!("run {tag} may not start: {code}"));
            }
        }
    }

    fn refused(&mut self, ctx: &Ctx, truth: &Truth, run_id: Option<RunId>, code: &str) {
        let Some(run) = self.runs.iter_mut().find(|run| run.id.is_some() && run.id == run_id) else { return };
        run.over = true;
        let tag = run.tag;
        // It has ended without its producer, or another server knows nothing of it.
        let legal = truth.runs[tag].let_go.is_some() || truth.runs[tag].over || code == "run_ended";
        ctx.hold(legal, "R33", || format!("an event of run {tag} was refused: {code}"));
    }

    /// Begins a run, or takes it up again.
    fn ask_for(&mut self, at: usize) {
        self.frames += 1;
        let (number, run) = (self.frames, &mut self.runs[at]);
        if run.over {
            return;
        }
        let (Ok(id), Some(thread_id)) = (FrameId::new(&format!("s{number}")), cast::thread(run.thread)) else { return };
        run.starting = Some(number);
        let start = RunStart {
            id,
            user_id: cast::USERS[run.user].1.to_owned(),
            thread_id,
            run_id: run.id,
            parent_run_id: None,
            agent_name: "agent".into(),
            message: (!run.requested).then(|| format!("r{}", run.tag)),
            key: if run.id.is_none() { IdempotencyKey::new(&format!("k{}", run.tag)).ok() } else { None },
            lease: Some(run.lease.into()),
            order: None,
            on_disconnect: None,
            grace: None,
        };
        self.send(&ClientFrame::RunStart(Box::new(start)));
    }

    /// Sends the events of a run that the server does not have.
    fn send_on(&mut self, at: usize) {
        let run = &mut self.runs[at];
        let Some(run_id) = run.id.filter(|_| run.held && !run.over) else { return };
        let from = std::mem::replace(&mut run.sent, run.events.len());
        let frame = |(n, event): (usize, &RunEvent)| ClientFrame::RunEvent {
            id: None,
            run_id,
            n: n as u64 + 1,
            event: event.clone(),
        };
        let frames: Vec<_> = run.events.iter().enumerate().skip(from).map(frame).collect();
        frames.iter().for_each(|frame| self.send(frame));
    }

    /// Starts a run, where it is connected.
    pub(super) fn start(&mut self, truth: &mut Truth, user: usize, thread: u8, lease: u8) {
        if self.welcomed && cast::USERS[user].0 == cast::USERS[self.user].0 {
            let tag = truth.begin(user, thread, None, true);
            self.enter(tag, user, thread, lease, None);
        }
    }

    fn enter(&mut self, tag: usize, user: usize, thread: u8, lease: u8, id: Option<RunId>) {
        self.runs.push(WireRun {
            tag,
            user,
            thread,
            lease,
            id,
            requested: id.is_some(),
            events: Vec::new(),
            sent: 0,
            starting: None,
            held: false,
            calls: VecDeque::new(),
            over: false,
        });
        self.ask_for(self.runs.len() - 1);
    }

    /// Works on a run.
    pub(super) fn work(&mut self, truth: &mut Truth, run: u8, what: u8) {
        let open: Vec<usize> = (0..self.runs.len()).filter(|at| !self.runs[*at].over).collect();
        if !open.is_empty() {
            let at = open[usize::from(run) % open.len()];
            self.say(truth, at, what);
        }
    }

    fn say(&mut self, truth: &mut Truth, at: usize, what: u8) {
        let (number, run) = (truth.number(), &mut self.runs[at]);
        let known = &mut truth.runs[run.tag];
        if known.over {
            return;
        }
        let (mark, event) = match what {
            0 => {
                (Mark::Thinking(number), RunEvent::Thinking { thought: number.to_string(), step: None, progress: None })
            }
            1 if run.calls.len() < 4 => {
                run.calls.push_back(number);
                let tool_call_id = ToolCallId::new(&format!("c{number}")).ok();
                let event = RunEvent::ToolExecuting { tool_call_id, tool_name: number.to_string(), parameters: None };
                (Mark::Called(number), event)
            }
            2 => {
                let Some(call) = run.calls.pop_front() else { return };
                let Ok(tool_call_id) = ToolCallId::new(&format!("c{call}")) else { return };
                let results = serde_json::value::to_raw_value(&number).ok();
                (Mark::Ended(number), RunEvent::ToolCompleted { tool_call_id, results, success: None, error: None })
            }
            3 | 4 => {
                let (part, chars) = (what - 3, 1 + number % 40);
                let from = known.ends[usize::from(part)];
                let piece = text(run.tag, part.into(), from, chars);
                let event = RunEvent::Delta { part_id: cast::part(part), offset: None, text: piece };
                (Mark::Text { part, end: from + chars }, event)
            }
            5 if run.calls.is_empty() => {
                let event = RunEvent::Completed { final_response: Some(number.to_string()), result: None };
                (Mark::Completed(number), event)
            }
            6 => (Mark::Failed(number), RunEvent::Failed { reason: None, error: number.to_string() }),
            7 => (Mark::Cancelled, RunEvent::Cancelled { by: "user".into(), reason: "asked".into() }),
            _ => return,
        };
        known.push(mark);
        run.events.push(event);
        self.send_on(at);
    }

    /// Answers the oldest request.
    pub(super) fn answer(&mut self, ctx: &Ctx, truth: &mut Truth) {
        let Some(request) = self.asked.pop_front() else { return };
        match request.body {
            RequestBody::UserMessage { run_id, thread_id, content, .. } => {
                let number = content.strip_prefix('m').and_then(|number| number.parse().ok());
                let Some((user, thread)) = number.and_then(|number: u64| truth.messages.get(&number).copied()) else {
                    return ctx.blame("I12", || "a message that nobody has written".to_owned());
                };
                let same = self.user_of(&request.user_id) == Some(user) && cast::thread_number(&thread_id) == thread;
                ctx.hold(same, "I12", || format!("a message of user {user} came as one of {}", request.user_id));
                let tag = truth.begin(user, thread, Some(run_id), true);
                self.enter(tag, user, thread, 5, Some(run_id));
            }
            RequestBody::Command { .. } => {
                self.send(&ClientFrame::Reply(Box::new(Reply::ok(request.id, ReplyOk::Done))));
            }
            RequestBody::CancelRun { run_id, .. } => {
                if let Some(at) = self.runs.iter().position(|run| run.id == Some(run_id) && !run.over) {
                    self.say(truth, at, 7);
                }
            }
            RequestBody::Pause { .. } | RequestBody::Resume { .. } | RequestBody::Approve { .. } => {}
        }
    }

    /// Publishes an event of the application's own.
    pub(super) fn publish(&mut self, truth: &mut Truth, user: usize) {
        if !self.welcomed || cast::USERS[user].0 != cast::USERS[self.user].0 {
            return;
        }
        let number = truth.number();
        let Ok(data) = serde_json::value::to_raw_value("xxx") else { return };
        truth.customs.insert(number, (user, 0, 3));
        self.send(&ClientFrame::Publish {
            id: None,
            target: PublishTarget::User(cast::USERS[user].1.to_owned()),
            thread_id: None,
            name: format!("n{number}"),
            data,
            key: None,
            ephemeral: None,
        });
    }

    /// Ends what it works on.
    pub(super) fn finish(&mut self, truth: &mut Truth) {
        for at in 0..self.runs.len() {
            if !self.runs[at].over {
                self.say(truth, at, 6);
            }
        }
    }

    /// Forgets what is over.
    pub(super) fn tidy(&mut self, truth: &Truth) {
        self.runs.retain(|run| !run.over && !run.is_told(truth));
    }
}

fn write(client: &mut Client, line: &Line, waker: &Waker) -> bool {
    let mut moved = false;
    while !client.transmit().is_empty() {
        let mut up = line.up.borrow_mut();
        match up.write(client.transmit()) {
            Some(0) => {
                up.wake_when_writable(waker);
                break;
            }
            Some(n) => client.advance(n),
            None => client.handle_eof(),
        }
        moved = true;
    }
    moved
}

fn read(ctx: &Ctx, now: Now, client: &mut Client, line: &Line, waker: &Waker) -> bool {
    if !client.wants_read() {
        return false;
    }
    let mut buffer = [0; 4_096];
    let mut down = line.down.borrow_mut();
    match down.read(&mut buffer) {
        Read::Some(n) => {
            ctx.trace.bytes(line.number | 1 << 30, &buffer[..n]);
            drop(down);
            client.handle_bytes(now, &buffer[..n]);
            true
        }
        Read::End | Read::Broken => {
            drop(down);
            client.handle_eof();
            true
        }
        Read::Nothing => {
            down.wake_when_readable(waker);
            false
        }
    }
}
