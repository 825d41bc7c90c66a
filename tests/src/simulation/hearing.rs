//! What a device is told, and what its oracles make of it.

use trunkline_core::client::{Fault, State, Stopped, Trouble, Update};
use trunkline_core::error::CloseReason;
use trunkline_core::protocol::{Reply, ReplyOk, ServerFrame, StreamEntry, StreamName, Welcome};

use super::cast;
use super::counters::Counted;
use super::device::{Device, Request};
use super::server::Server;
use super::truth::Truth;
use super::world::Ctx;

impl Device {
    pub(super) fn hear(&mut self, ctx: &Ctx, server: &mut Server, truth: &mut Truth, update: Update) {
        ctx.trace.tell(|| format!("    device {}: {}", self.view.name, told(&update)));
        match update {
            Update::State(state) => self.enter(ctx, &state),
            Update::Welcome(welcome) => self.welcome(ctx, server, &welcome),
            Update::Event(event) => match &event.stream {
                StreamName::User => {
                    self.within_limit(ctx, event.position);
                    self.view.event(ctx, truth, &event);
                }
                StreamName::Topic(name) => self.topics.event(ctx, truth, name, &event),
            },
            Update::Gap { stream: StreamName::User, .. } => self.view.gap(ctx),
            Update::Gap { stream: StreamName::Topic(name), .. } => self.topics.gap(&name),
            Update::Frame(frame) => self.frame(ctx, truth, &frame),
            Update::Undone { id, .. } => {
                ctx.tally.count(Counted::Undone);
                self.settle(ctx, id.as_str());
            }
            Update::TopicRefused(name) => {
                ctx.blame("I12", || format!("{name} was refused to device {}", self.view.name));
            }
            Update::NoToken(_) => {}
        }
    }

    /// Nothing that was appended after its end was decided is for it.
    fn within_limit(&self, ctx: &Ctx, at: trunkline_core::protocol::Position) {
        let Some(limit) = self.limit else { return };
        ctx.hold(at <= limit, "R95", || {
            format!("device {} was revoked at {limit} and got {at} over the same connection", self.view.name)
        });
    }

    fn welcome(&mut self, ctx: &Ctx, server: &mut Server, welcome: &Welcome) {
        ctx.tally.count(Counted::Welcomes);
        let name = self.view.name;
        ctx.hold(ctx.is_new(welcome.connection_id), "R2", || format!("device {name} got a used connection id"));
        ctx.hold(welcome.user_id == cast::USERS[self.view.user].1, "I12", || "a welcome for another user".to_owned());
        self.session = Some(welcome.session_id);
        self.welcomed = Some(ctx.clock.at());
        let socket = self.line.as_ref().and_then(|line| server.sockets.get_mut(&line.number));
        if let Some(socket) = socket {
            socket.connection = Some(welcome.connection_id);
        }
        self.topics.begin(&welcome.streams, topic_name);
        for entry in &welcome.streams {
            match &entry.stream {
                StreamName::User => self.view.place(ctx, entry),
                StreamName::Topic(topic) => self.topics.place(ctx, topic, entry),
            }
        }
    }

    fn frame(&mut self, ctx: &Ctx, truth: &mut Truth, frame: &ServerFrame) {
        match frame {
            ServerFrame::Deltas(window) if window.stream == StreamName::User => {
                self.within_limit(ctx, window.position);
                self.view.window(ctx, truth, window);
            }
            ServerFrame::Position { stream: StreamName::User, prev, event_id } => {
                self.view.moved(ctx, truth, *prev, *event_id);
            }
            ServerFrame::Snapshot(part) => match &part.stream {
                StreamName::User => self.view.snapshot(ctx, truth, part),
                StreamName::Topic(name) if part.part == part.of => self.topics.jump(name, part.event_id),
                StreamName::Topic(_) => {}
            },
            ServerFrame::Reply(reply) => self.reply(ctx, reply),
            ServerFrame::Ephemeral(_) => ctx.tally.count(Counted::Ephemeral),
            ServerFrame::ServiceLevel { .. } => ctx.tally.count(Counted::Levels),
            ServerFrame::Deltas(_) | ServerFrame::Position { .. } => {
                ctx.blame("I12", || "a topic has no texts and hides nothing".to_owned());
            }
            ServerFrame::Welcome(_) | ServerFrame::Event(_) | ServerFrame::Request(_) => {
                ctx.blame("I3", || format!("{} as a frame", frame.type_name()));
            }
            ServerFrame::Error { .. } => ctx.blame("R33", || format!("an error for device {}", self.view.name)),
            ServerFrame::Lag { .. }
            | ServerFrame::AuthExpiring { .. }
            | ServerFrame::GoingAway { .. }
            | ServerFrame::Pong { .. } => {}
        }
    }

    fn reply(&mut self, ctx: &Ctx, reply: &Reply) {
        ctx.tally.count(Counted::Replied);
        let Some(request) = self.settle(ctx, reply.id.as_str()) else { return };
        match (request, &reply.outcome) {
            (Request::Follow, Ok(ReplyOk::Stream(entry))) => {
                if let StreamName::Topic(name) = &entry.stream {
                    self.topics.answered(ctx, name, entry);
                }
            }
            (Request::Leave(topic), Ok(_)) => self.topics.leave(topic),
            (Request::Approve, Ok(_)) => ctx.tally.count(Counted::Approved),
            (
                Request::Message
                | Request::Command
                | Request::Cancel
                | Request::Approve
                | Request::Follow
                | Request::Leave(_),
                _,
            ) => {}
        }
    }

    /// A request has its one answer.
    fn settle(&mut self, ctx: &Ctx, id: &str) -> Option<Request> {
        let request = id.parse().ok().and_then(|number: u64| self.requests.remove(&number));
        let name = self.view.name;
        ctx.hold(request.is_some(), "R33", || format!("device {name} got an answer to {id}, which waits for none"));
        request
    }

    fn enter(&mut self, ctx: &Ctx, state: &State) {
        match state {
            State::Connecting => self.leave_socket(ctx),
            State::Live => self.view.live(ctx),
            State::Waiting { why, failures, .. } => {
                self.count_failures(ctx, *failures);
                self.look_at(ctx, why);
            }
            State::Stopped(why) => {
                ctx.tally.count(Counted::Stopped);
                self.gone = true;
                if let Stopped::Trouble(trouble) = why {
                    self.look_at(ctx, trouble);
                    let name = self.view.name;
                    ctx.hold(self.may_stop, "R20", || format!("device {name} was told to stop: {trouble}"));
                }
            }
        }
    }

    /// A socket may be over: whether its session lasted decides what is forgotten.
    fn leave_socket(&mut self, ctx: &Ctx) {
        const STABLE: std::time::Duration = std::time::Duration::from_secs(10);
        let since = self.welcomed.take();
        self.lasted |= since.is_some_and(|since| ctx.clock.at().saturating_since(since) >= STABLE);
    }

    /// Failures are forgotten after a session that lasted, and not before.
    fn count_failures(&mut self, ctx: &Ctx, failures: u32) {
        self.leave_socket(ctx);
        let lasted = std::mem::take(&mut self.lasted);
        ctx.hold(lasted || failures > self.failures, "I15", || {
            format!("device {} counts {failures} failures and had {}", self.view.name, self.failures)
        });
        self.failures = failures;
    }

    /// The server never does what its client calls a fault.
    fn look_at(&self, ctx: &Ctx, trouble: &Trouble) {
        let name = self.view.name;
        match trouble {
            Trouble::Fault(fault @ (Fault::Gap { .. } | Fault::Protocol(_))) => {
                ctx.blame("I1", || format!("device {name}: {fault}"));
            }
            Trouble::Closed { code, .. } => {
                let legal = CloseReason::from_code(*code).is_some();
                ctx.hold(legal, "R17", || format!("device {name} was closed with {code}"));
            }
            Trouble::Fault(Fault::Upgrade(_) | Fault::Silent | Fault::Lost)
            | Trouble::NoSocket(_)
            | Trouble::NoCredentials(_) => {}
        }
    }
}

fn topic_name(entry: &StreamEntry) -> Option<trunkline_core::id::TopicName> {
    if let StreamName::Topic(name) = &entry.stream { Some(name.clone()) } else { None }
}

fn told(update: &Update) -> String {
    match update {
        Update::Welcome(welcome) => format!("welcome, {:?}", welcome.streams),
        Update::State(State::Stopped(why)) => format!("stopped: {why}"),
        Update::State(State::Waiting { why, wait, .. }) => format!("waits {wait:?}: {why}"),
        Update::State(State::Connecting) => "connects".to_owned(),
        Update::State(State::Live) => "is live".to_owned(),
        Update::Event(event) => format!("{event:?} {:?}", event.run_seq),
        Update::Gap { stream, lost } => format!("gap in {stream}: {lost:?}"),
        Update::Frame(frame) if let ServerFrame::Deltas(window) = &**frame => {
            format!("deltas {} to {}", window.prev, window.position)
        }
        Update::Frame(frame) => frame.type_name().to_owned(),
        Update::Undone { id, why, .. } => format!("{id} is undone: {why:?}"),
        Update::TopicRefused(name) => format!("{name} is refused"),
        Update::NoToken(why) => format!("no token: {why}"),
    }
}
