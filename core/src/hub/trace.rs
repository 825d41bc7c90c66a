//! Spans of `tracing`, under the names and attributes of OpenTelemetry's semantic conventions: those of agents and tools
//! (`gen_ai.*`), `user.id`, `error.type`, and the fields `otel.*` that a bridge such as `tracing-opentelemetry` reads. The page
//! [`observing`](crate::manual::observing) has them in a table.
//!
//! All are of the level `DEBUG`: where nobody listens to that, a span is one comparison, and holds nothing. None is opened,
//! recorded or closed under a lock, since a subscriber may do whatever it likes. None holds what was said.

use std::collections::BTreeMap;

pub(super) use tracing::Span;
use tracing::field::Empty;

use crate::connection::Connection;
use crate::error::{CloseReason, NextAction};
use crate::id::{ConnectionId, RunId, SessionId, ThreadId, ToolCallId, UserId};
use crate::manager::Ask;
use crate::protocol::{Mode, ReplyError, ReplyOk};
use crate::stream::RunEvent;

/// How many runs of one producer's connection are traced; of more, the newest are not.
const MAX_TRACED: usize = 1_024;

/// A connection, from its welcome to its end.
pub(super) struct ConnectionTrace(Box<Span>);

/// Who it is that is let in.
pub(super) struct Entered<'a> {
    pub(super) user: &'a UserId,
    pub(super) connection: ConnectionId,
    pub(super) session: SessionId,
    /// How the user's own stream goes on; `None` of a producer.
    pub(super) mode: Option<Mode>,
}

impl ConnectionTrace {
    /// `None` where nobody listens.
    pub(super) fn begin(entered: &Entered<'_>) -> Option<Self> {
        let span = tracing::debug_span!(
            target: "trunkline",
            parent: None,
            "websocket",
            otel.kind = "server",
            otel.status_code = Empty,
            network.protocol.name = "websocket",
            user.id = entered.user.sub(),
            trunkline.tenant = entered.user.tenant().as_str(),
            trunkline.connection.id = %entered.connection,
            session.id = %entered.session,
            trunkline.resume = entered.mode.map(Mode::as_str),
            trunkline.producer = entered.mode.is_none(),
            trunkline.close.code = Empty,
            error.type = Empty,
        );
        (!span.is_disabled()).then(|| Self(Box::new(span)))
    }

    /// The end, and what it was for.
    pub(super) fn end(self, connection: &Connection) {
        let Some(reason) = connection.close_reason() else {
            self.0.record("otel.status_code", "ERROR").record("error.type", "broken");
            return;
        };
        self.0.record("trunkline.close.code", reason.code());
        if is_fault(reason) {
            self.0.record("otel.status_code", "ERROR").record("error.type", reason.name());
        }
    }
}

/// Whether somebody should look when many connections end so.
const fn is_fault(reason: CloseReason) -> bool {
    match reason.next_action() {
        NextAction::Nothing => false,
        NextAction::Stop | NextAction::RetryAfresh | NextAction::RetryLater => true,
        NextAction::Retry => !matches!(reason, CloseReason::GoingAway | CloseReason::Restart),
        NextAction::NewToken => false,
    }
}

/// A request, from its arrival at the application to its answer.
pub(super) fn request(ask: &Ask) -> Span {
    let (user, thread, run) = match ask {
        Ask::Message(ask) => (&ask.user, Some(&ask.thread), Some(ask.run)),
        Ask::Command(ask) => (&ask.user, None, None),
    };
    macro_rules! span {
        ($name:literal) => {
            tracing::debug_span!(
                target: "trunkline",
                parent: None,
                $name,
                otel.kind = "server",
                otel.status_code = Empty,
                user.id = user.sub(),
                trunkline.tenant = user.tenant().as_str(),
                gen_ai.conversation.id = thread.map(|thread| thread.as_str()),
                trunkline.run.id = run.map(display),
                error.type = Empty,
            )
        };
    }
    match ask {
        Ask::Message(_) => span!("user_message"),
        Ask::Command(_) => span!("command"),
    }
}

/// What a request has come to.
pub(super) fn answered(span: &Span, outcome: &Result<ReplyOk, ReplyError>) {
    match outcome {
        Ok(_) => span.record("otel.status_code", "OK"),
        Err(error) => span.record("otel.status_code", "ERROR").record("error.type", error.code.as_str()),
    };
}

/// Whose run it is, and whose work.
#[derive(Clone, Copy)]
pub(super) struct OfRun<'a> {
    pub(super) user: &'a UserId,
    pub(super) run: RunId,
    pub(super) thread: &'a ThreadId,
    pub(super) agent: &'a str,
    pub(super) parent: Option<RunId>,
}

/// A run, from its start to its last event: a child of `of`, or where that is nothing of what its starter is in.
pub(super) fn run(of: Option<&Span>, it: OfRun<'_>) -> Span {
    macro_rules! span {
        ($($parent:tt)*) => {
            tracing::debug_span!(
                target: "trunkline",
                $($parent)*
                "invoke_agent",
                otel.name = format_args!("invoke_agent {}", it.agent),
                otel.kind = "internal",
                otel.status_code = Empty,
                gen_ai.operation.name = "invoke_agent",
                gen_ai.agent.name = it.agent,
                gen_ai.conversation.id = it.thread.as_str(),
                user.id = it.user.sub(),
                trunkline.tenant = it.user.tenant().as_str(),
                trunkline.run.id = %it.run,
                trunkline.run.parent_id = it.parent.map(display),
                trunkline.run.outcome = Empty,
                error.type = Empty,
            )
        };
    }
    match of {
        Some(of) => span!(parent: of,),
        None => span!(),
    }
}

/// A tool call of a run.
pub(super) fn tool(run: &Span, name: &str, id: &ToolCallId) -> Span {
    tracing::debug_span!(
        target: "trunkline",
        parent: run,
        "execute_tool",
        otel.name = format_args!("execute_tool {name}"),
        otel.kind = "internal",
        otel.status_code = Empty,
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = name,
        gen_ai.tool.call.id = id.as_str(),
        error.type = Empty,
    )
}

/// What an event that has entered says of its run.
pub(super) fn run_event(run: &Span, event: &Seen) {
    match event {
        Seen::Completed => run.record("trunkline.run.outcome", "completed").record("otel.status_code", "OK"),
        Seen::Cancelled => run.record("trunkline.run.outcome", "cancelled").record("error.type", "cancelled"),
        Seen::Failed(reason) => run
            .record("trunkline.run.outcome", "failed")
            .record("otel.status_code", "ERROR")
            .record("error.type", *reason),
        Seen::ToolBegins(..) | Seen::ToolEnds { .. } | Seen::Other => run,
    };
}

/// How a tool call has ended.
pub(super) fn tool_ended(tool: &Span, success: bool) {
    if success {
        tool.record("otel.status_code", "OK");
    } else {
        tool.record("otel.status_code", "ERROR").record("error.type", "tool_failed");
    }
}

/// Whether anybody listens, for who would have to copy something first.
pub(super) fn is_on() -> bool {
    tracing::enabled!(target: "trunkline", tracing::Level::DEBUG)
}

/// What of an event a trace shows, taken before the event is.
pub(super) enum Seen {
    /// Its name, and its id where the producer gives it one.
    ToolBegins(Box<str>, Option<ToolCallId>),
    ToolEnds {
        id: ToolCallId,
        success: bool,
    },
    Completed,
    Failed(&'static str),
    Cancelled,
    Other,
}

impl Seen {
    pub(super) fn of(event: &RunEvent) -> Self {
        match event {
            RunEvent::ToolExecuting { tool_name, tool_call_id, .. } => {
                Self::ToolBegins(tool_name.as_str().into(), tool_call_id.clone())
            }
            RunEvent::ToolCompleted { tool_call_id, success, error, .. } => {
                Self::ToolEnds { id: tool_call_id.clone(), success: success.unwrap_or(error.is_none()) }
            }
            RunEvent::Completed { .. } => Self::Completed,
            RunEvent::Failed { reason, .. } => Self::Failed(reason.as_ref().map_or("error", |reason| reason.as_str())),
            RunEvent::Cancelled { .. } => Self::Cancelled,
            RunEvent::Thinking { .. }
            | RunEvent::Delta { .. }
            | RunEvent::Suspended { .. }
            | RunEvent::Resumed { .. } => Self::Other,
        }
    }

    const fn ends_run(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed(_) | Self::Cancelled)
    }
}

/// The runs that a producer's connection holds, as far as they are traced. What becomes of one that it loses, others trace.
#[derive(Default)]
pub(super) struct Traces(BTreeMap<RunId, (Span, BTreeMap<ToolCallId, Span>)>);

impl Traces {
    pub(super) fn begin(&mut self, it: OfRun<'_>) {
        if self.0.len() >= MAX_TRACED || self.0.contains_key(&it.run) {
            return;
        }
        let span = run(None, it);
        if !span.is_disabled() {
            self.0.insert(it.run, (span, BTreeMap::new()));
        }
    }

    /// Whether the run is traced.
    pub(super) fn has(&self, run: RunId) -> bool {
        self.0.contains_key(&run)
    }

    /// An event has entered.
    pub(super) fn event(&mut self, run: RunId, seen: Seen) {
        let Some((span, tools)) = self.0.get_mut(&run) else { return };
        run_event(span, &seen);
        if seen.ends_run() {
            self.0.remove(&run);
            return;
        }
        match seen {
            Seen::ToolBegins(name, Some(id)) => {
                tools.insert(id.clone(), tool(span, &name, &id));
            }
            Seen::ToolEnds { id, success } => {
                if let Some(tool) = tools.remove(&id) {
                    tool_ended(&tool, success);
                }
            }
            Seen::ToolBegins(_, None) | Seen::Completed | Seen::Failed(_) | Seen::Cancelled | Seen::Other => {}
        }
    }

    /// The run has ended by another's doing.
    pub(super) fn forget(&mut self, run: RunId) {
        self.0.remove(&run);
    }
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traces(..)")
    }
}
