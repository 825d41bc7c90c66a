//! The operations of back ends over HTTP, without a web stack: a request's parts go in, an answer's come out.
//!
//! `core/PROTOCOL.md` specifies them under "Over HTTP", and [`OPENAPI`] for machines. A stack mounts them in a few lines: it asks
//! [`Hub::api`] about the line and headers of a request, reads no body of one that is refused, and gives the body to [`Call::answer`].
//!
//! ```
//! # use std::sync::Arc;
//! # use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
//! # use trunkline_core::hub::{Hub, HubConfig};
//! # use trunkline_core::id::{Entropy, UserId};
//! # use trunkline_core::time::{Clock, Now};
//! # struct Fixed;
//! # impl Clock for Fixed { fn now(&self) -> Now { Now::default() } }
//! # impl Entropy for Fixed { fn fill(&self, out: &mut [u8]) { out.fill(7) } }
//! # let keys = Arc::new(Hs256::new(b"a secret of at least thirty-two bytes", ClaimRules::default())?);
//! # let (hub, _keeper) = Hub::new(HubConfig::default(), keys.clone(), Arc::new(Fixed), Arc::new(Fixed))?;
//! # let ttl = std::time::Duration::from_secs(60);
//! # let agent = UserId::new(None, "agent")?;
//! # let new = NewToken { user: &agent, issued_at: Fixed.now().unix, ttl, scope: "publish", token_id: None };
//! # let authorization = format!("Bearer {}", keys.issue(&new)?);
//! use trunkline_core::api::Head;
//!
//! let head = Head {
//!     method: "POST",
//!     path: "/v1/publish",
//!     authorization: &[authorization.as_bytes()],
//!     content_type: Some("application/json"),
//! };
//! let answer = match hub.api(&head) {
//!     Ok(call) => call.answer(br#"{"user_id": "ann", "name": "paid", "data": {"order": 7}}"#),
//!     Err(refusal) => refusal,
//! };
//! assert_eq!((answer.status, &answer.body[..]), (200, &br#"{"stored":true}"#[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod route;

use std::fmt;

pub use answer::{Answer, status};

use crate::auth::{AuthError, Credential, Extractor, Grant};
use crate::error::ErrorCode;
use crate::hub::publisher::Publisher;
use crate::hub::{HEALTH_MEDIA_TYPE, Hub, IssuedTicket, TicketError};
use crate::id::RunId;
use crate::level::{Effects, ServiceLevel};
use crate::manager::Custom;
use crate::metrics;
use crate::protocol::over_http::{LevelReport, TicketReport, read_body, read_events, read_level};
use crate::protocol::{ClientFrame, LevelOrder, ReplyError, ReplyOk};
use route::{Open, Operation, Place};

/// The operations as an OpenAPI 3.1 document; `GET /openapi.json` answers with it.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The longest body of a request, in bytes. 1 MiB; beyond, 413.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// A request as far as it is known before its body.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// As it stands in the request, such as `POST`.
    pub method: &'a str,
    /// As it stands in the request, percent-encoded; what follows a `?` has no meaning here.
    pub path: &'a str,
    /// The values of all `Authorization` headers.
    pub authorization: &'a [&'a [u8]],
    /// The value of `Content-Type`, where there is one.
    pub content_type: Option<&'a str>,
}

/// A request that is let in and may bring its body.
pub struct Call<'a> {
    hub: &'a Hub,
    operation: Operation,
    /// `None` for what anybody may ask.
    grant: Option<Grant>,
}

impl Hub {
    /// Looks at a request before its body is read.
    ///
    /// # Errors
    /// The answer where there is no such operation, no token that holds and allows it, or the body will not be JSON. The body
    /// is then of no interest.
    pub fn api(&self, head: &Head<'_>) -> Result<Call<'_>, Answer> {
        let place = Place::of(head.method, head.path)?;
        if let Some(open) = place.open(self.opens_metrics()) {
            return Ok(Call { hub: self, operation: Operation::Open(open), grant: None });
        }
        if place == Place::Tickets && !self.takes_tickets() {
            return Err(Answer::refused(&not_found()));
        }
        let grant = self.bearer(head.authorization)?;
        let operation = place.allowed_by(&grant).map_err(|error| Answer::refused(&error))?;
        if operation.has_body() && !head.content_type.is_some_and(is_json) {
            return Err(Answer::no_json());
        }
        Ok(Call { hub: self, operation, grant: Some(grant) })
    }

    fn bearer(&self, authorization: &[&[u8]]) -> Result<Grant, Answer> {
        // A cookie is sent by a browser for whatever page asks, and a ticket is for the WebSocket: neither counts here.
        let found = Extractor::default().authorization(authorization.iter().copied());
        match found.map(|extractor| extractor.finish().credential) {
            Ok(Some((Credential::Token(token), _))) => self.grant(token.as_str()).map_err(Answer::unauthorized),
            Ok(None) => Err(Answer::no_token()),
            Ok(Some((Credential::Ticket(_), _))) | Err(_) => Err(Answer::unauthorized(AuthError::Invalid(""))),
        }
    }
}

impl Call<'_> {
    /// Whether the operation takes a body; where not, [`Call::answer`] looks at none.
    pub const fn has_body(&self) -> bool {
        self.operation.has_body()
    }

    /// Does what was asked. A web stack leaves the body of an answer to `HEAD` out, as of any other.
    pub fn answer(self, body: &[u8]) -> Answer {
        if let Operation::Open(open) = self.operation {
            return self.hub.open_answer(open);
        }
        let Some(grant) = self.grant else { return Answer::no_token() };
        // The body may have taken its time.
        if let Some(over) = self.hub.is_over(&grant) {
            return Answer::unauthorized(over);
        }
        if self.operation.has_body() && body.len() > MAX_BODY_BYTES {
            return Answer::too_large();
        }
        let publisher = Publisher { hub: self.hub, owner: &grant.user, scopes: &grant.scopes };
        match self.operation {
            Operation::Open(open) => self.hub.open_answer(open),
            Operation::Events(run) => events(&publisher, run, body),
            Operation::Ticket => ticket(self.hub, &grant),
            Operation::User(user) => Answer::ok(self.hub.user_report(&user).encode()),
            Operation::Level => level(self.hub),
            Operation::SetLevel => set_level(self.hub, body),
            Operation::Publish => framed(&publisher, "publish", body),
            Operation::Start => framed(&publisher, "run_start", body),
            Operation::Revoke => framed(&publisher, "revoke", body),
        }
    }
}

impl Hub {
    fn open_answer(&self, open: Open) -> Answer {
        match open {
            Open::Document => Answer::openapi(),
            Open::Health => Answer::typed(200, HEALTH_MEDIA_TYPE, self.health().encode()),
            Open::Ready => {
                let health = self.readiness();
                Answer::typed(health.status.http_status(), HEALTH_MEDIA_TYPE, health.encode())
            }
            Open::Metrics => Answer::typed(200, metrics::MEDIA_TYPE, metrics::text(&self.metrics())),
        }
    }
}

/// An operation whose body is a frame.
fn framed(publisher: &Publisher<'_>, kind: &str, body: &[u8]) -> Answer {
    let outcome = read_body(kind, body).and_then(|frame| act(publisher, frame));
    outcome.map_or_else(|error| Answer::refused(&error), |ok| Answer::of(&ok))
}

fn act(publisher: &Publisher<'_>, frame: ClientFrame) -> Result<ReplyOk, ReplyError> {
    match frame {
        ClientFrame::RunStart(start) => publisher.start_run(*start, None).map(ReplyOk::from),
        ClientFrame::Publish { target, thread_id, name, data, key, ephemeral, id: _ } => {
            let custom = Custom { thread: thread_id, name, key };
            publisher.publish(target, custom, data, ephemeral.unwrap_or(false))
        }
        ClientFrame::Revoke { user_id, target, expires, id: _ } => publisher.revoke(&user_id, &target, expires),
        ClientFrame::Hello(_)
        | ClientFrame::Reply(_)
        | ClientFrame::Refresh { .. }
        | ClientFrame::Ack { .. }
        | ClientFrame::Subscribe { .. }
        | ClientFrame::Unsubscribe { .. }
        | ClientFrame::UserMessage { .. }
        | ClientFrame::CancelRun { .. }
        | ClientFrame::Approve { .. }
        | ClientFrame::Command { .. }
        | ClientFrame::RunEvent { .. }
        | ClientFrame::Inspect { .. }
        | ClientFrame::Disconnect { .. }
        | ClientFrame::Drain { .. }
        | ClientFrame::Ping { .. } => Err(ReplyError::new(ErrorCode::Unsupported, "there is no such operation")),
    }
}

/// The events in their order, up to the first that is refused. Each is an operation of its own, so no lock is held for all.
fn events(publisher: &Publisher<'_>, run: RunId, body: &[u8]) -> Answer {
    let events = match read_events(body) {
        Ok(events) => events,
        Err(error) => return Answer::refused(&error),
    };
    let mut last = ReplyOk::Done;
    for numbered in events {
        match publisher.run_event(None, run, numbered.n, numbered.event) {
            Ok(ok) => last = ok,
            Err(error) => return Answer::event_refused(&error, run, numbered.n),
        }
    }
    Answer::of(&last)
}

fn ticket(hub: &Hub, grant: &Grant) -> Answer {
    match hub.issue_ticket(grant.clone()) {
        Ok(IssuedTicket { ticket, expires_in }) => {
            Answer::ok(TicketReport { ticket: ticket.to_text(), expires_in: expires_in.as_secs_f64() }.encode())
        }
        Err(TicketError::Busy { retry_after }) => {
            let mut error = ReplyError::new(ErrorCode::Busy, "too many tickets are unused: try again later");
            error.retry_after = Some(retry_after.as_secs_f64());
            Answer::refused(&error)
        }
        Err(TicketError::Draining) => {
            Answer::refused(&ReplyError::new(ErrorCode::Draining, "the server shuts down: ask another one"))
        }
        Err(TicketError::Over(over)) => Answer::unauthorized(over),
        Err(TicketError::Off) => Answer::refused(&not_found()),
    }
}

fn set_level(hub: &Hub, body: &[u8]) -> Answer {
    let order = match read_level(body) {
        Ok(order) => order,
        Err(error) => return Answer::refused(&error),
    };
    let ordered = match order.level {
        LevelOrder::Automatic => None,
        LevelOrder::Normal => Some(ServiceLevel::Normal),
        LevelOrder::Degraded => Some(ServiceLevel::Degraded),
        LevelOrder::Emergency => Some(ServiceLevel::Emergency),
    };
    hub.set_level(ordered, order.reason.as_deref().unwrap_or_default());
    level(hub)
}

fn level(hub: &Hub) -> Answer {
    let status = hub.level_status();
    let capabilities = Effects::of(status.notice.level, hub.limits()).capabilities;
    let report = LevelReport {
        level: status.notice.level,
        reason: status.notice.reason.to_string(),
        capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        ordered: status.order,
        memory: f64::from(status.memory_percent) / 100.0,
    };
    Answer::ok(report.encode())
}

fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The same whether it is not there or not this token's to see.
fn not_found() -> ReplyError {
    ReplyError::new(ErrorCode::NotFound, "no such path, or no such user, run or topic for this token")
}

/// Neither token nor user.
impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("method", &self.method).finish_non_exhaustive()
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("operation", &self.operation).finish_non_exhaustive()
    }
}
