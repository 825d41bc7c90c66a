//! The same fields over HTTP: a body is a frame without `type` and `id`, an answer a reply without `id` and `ok`.

use serde_json::value::RawValue;

use super::client::ClientFrame;
use super::macros::record;
use super::produced::RunEvent;
use super::reply::{ReplyError, ReplyOk};
use super::server::{LevelOrder, ServiceLevel};
use super::wire::{Fault, Field, Object, Record, Writer};
use crate::error::ErrorCode;
use crate::id::RunId;

/// How many events of a run one request may carry.
pub const MAX_EVENTS: usize = 256;

/// Reads a body as the frame of this type.
pub(crate) fn read_body(kind: &str, body: &[u8]) -> Result<ClientFrame, ReplyError> {
    let text = text(body)?;
    // Every answer has a socket of its own, so nothing has to be named.
    let unnamed = serde_json::from_str::<&RawValue>("\"0\"").ok();
    let read = |text| {
        let mut object = Object::read_frame(text)?;
        if let Some(unnamed) = unnamed {
            object.set("id", unnamed.into());
        }
        ClientFrame::read_kind(kind, &object)
    };
    match read(text) {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err(ReplyError::new(ErrorCode::UnknownType, "there is no such operation")),
        Err(fault) => Err(refusal(&fault)),
    }
}

/// An event of a run with its number.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) n: u64,
    pub(crate) event: RunEvent,
}

/// Reads `n` and `event`, or a list `events` of both.
pub(crate) fn read_events(body: &[u8]) -> Result<Vec<Numbered>, ReplyError> {
    let read = |text| {
        let object = Object::read_frame(text)?;
        let Some(list) = object.get("events").filter(|_| object.has("events")) else {
            return Ok(vec![Numbered::read_fields(&object)?]);
        };
        if object.has("n") || object.has("event") {
            return Err(Fault::invalid("events", "must not stand beside `n` and `event`: send the list or the one"));
        }
        let events: Vec<&RawValue> =
            serde_json::from_str(list.get()).map_err(|_| Fault::invalid("events", "must be an array"))?;
        if events.is_empty() || events.len() > MAX_EVENTS {
            return Err(Fault::invalid("events", "must have 1 to 256 items"));
        }
        let read = |(index, event): (_, &RawValue)| {
            Numbered::read(event.into()).map_err(|fault| fault.within(&format!("events[{index}]")))
        };
        events.into_iter().enumerate().map(read).collect()
    };
    read(text(body)?).map_err(|fault| refusal(&fault))
}

/// Reads what an operator orders.
pub(crate) fn read_level(body: &[u8]) -> Result<OrderBody, ReplyError> {
    Object::read_frame(text(body)?).and_then(|object| OrderBody::read_fields(&object)).map_err(|fault| refusal(&fault))
}

/// What an operation has come to.
pub(crate) fn write_ok(ok: &ReplyOk) -> String {
    let mut out = String::new();
    ok.write(&mut out);
    out
}

/// Why nothing was done; of a list of events, `refused` says which one stopped it.
pub(crate) fn write_error(error: &ReplyError, refused: Option<(RunId, u64)>) -> String {
    let mut writer = Writer::with_capacity(192);
    error.put(&mut writer, "error");
    if let Some((run_id, n)) = refused {
        run_id.put(&mut writer, "run_id");
        n.put(&mut writer, "n");
    }
    writer.finish()
}

record! {
    /// A ticket that was issued.
    #[derive(Clone)]
    pub(crate) struct TicketReport {
        /// What the page shows.
        ticket: String,
        /// For how many seconds it may.
        expires_in: f64,
    }
}

record! {
    /// An operator's order.
    #[derive(Clone, Debug)]
    pub(crate) struct OrderBody {
        /// The level.
        level: LevelOrder,
        /// Why, for people.
        reason: Option<String>,
    }
}

record! {
    /// The level of the service.
    #[derive(Clone, Debug)]
    pub(crate) struct LevelReport {
        /// The level.
        level: ServiceLevel,
        /// Why, for people.
        reason: String,
        /// What works.
        capabilities: Vec<String>,
        /// What an operator ordered.
        ordered: Option<ServiceLevel>,
        /// The share of the memory that is in use.
        memory: f64,
    }
}

impl TicketReport {
    pub(crate) fn encode(&self) -> String {
        written(self)
    }
}

impl LevelReport {
    pub(crate) fn encode(&self) -> String {
        written(self)
    }
}

/// A report as it goes out.
pub(super) fn written(report: &impl Record) -> String {
    let mut out = String::new();
    report.write(&mut out);
    out
}

impl Record for Numbered {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        Ok(Self { n: Field::take(object, "n")?, event: Field::take(object, "event")? })
    }
    fn write_fields(&self, writer: &mut Writer) {
        self.n.put(writer, "n");
        self.event.put(writer, "event");
    }
}

fn text(body: &[u8]) -> Result<&str, ReplyError> {
    std::str::from_utf8(body).map_err(|_| ReplyError::new(ErrorCode::Malformed, "the body must be UTF-8"))
}

/// Faults speak of the frame; here it is the body. They hold nothing of the peer's, so nothing else can read like it.
fn refusal(fault: &Fault) -> ReplyError {
    ReplyError::new(fault.code, fault.message().replace("the frame", "the body"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: Result<impl Sized, ReplyError>) -> String {
        outcome.err().map_or_else(|| "ok".into(), |error| error.code.as_str().to_owned())
    }

    fn list(count: usize) -> Vec<u8> {
        let event = |n| format!(r#"{{"n":{n},"event":{{"type":"agent_thinking","thought":"x"}}}}"#);
        let events: Vec<_> = (1..=count).map(event).collect();
        format!(r#"{{"events":[{}]}}"#, events.join(",")).into_bytes()
    }

    #[test]
    fn a_body_is_a_frame_without_type_and_id() {
        let body = br#"{"type":"hello","id":7,"user_id":"ann","name":"x","data":[1, 2],"new":{}}"#;
        let ClientFrame::Publish { data, name, .. } = read_body("publish", body).unwrap() else { panic!() };
        assert_eq!((data.get(), name.as_str()), ("[1, 2]", "x"));
        assert_eq!(code(read_body("nothing", b"{}")), "unknown_type");
    }

    #[test]
    fn a_fault_names_the_field_and_echoes_nothing() {
        for (body, says) in [
            (&b"{"[..], "the body must be valid JSON"),
            (b"[]", "the body must be one JSON object that names each field once"),
            (b"\xff", "the body must be UTF-8"),
            (br#"{"user_id":"s3cret","name":"x","name":"y","data":1}"#, "the body must be one JSON object"),
            (br#"{"user_id":"s3cret","data":1}"#, "`name` is missing: the body needs it"),
            (br#"{"user_id":"s3cret","topic":"s3cret","name":"x","data":1}"#, "`user_id` must not stand beside"),
        ] {
            let error = read_body("publish", body).unwrap_err();
            assert!(error.message.starts_with(says) && !error.message.contains("s3cret"), "{}", error.message);
        }
    }

    #[test]
    fn events_come_alone_or_in_a_list_of_bounded_length() {
        let alone = br#"{"n":3,"event":{"type":"agent_thinking","thought":"x"}}"#;
        assert_eq!(read_events(alone).unwrap()[0].n, 3);
        assert_eq!(read_events(&list(MAX_EVENTS)).unwrap().len(), MAX_EVENTS);
        assert_eq!(code(read_events(&list(MAX_EVENTS + 1))), "invalid");
        assert_eq!(code(read_events(&list(0))), "invalid");
        for wrong in [&br#"{"n":1,"events":[]}"#[..], br#"{"n":1}"#, b"{}", br#"{"events":{}}"#, br#"{"events":[1]}"#] {
            assert_ne!(code(read_events(wrong)), "ok", "{wrong:?}");
        }
        let error = read_events(br#"{"events":[{"n":1,"event":{"type":"agent_delta","part_id":"p"}}]}"#).unwrap_err();
        assert!(error.message.starts_with("`events[0].event.text` is missing"), "{}", error.message);
    }
}
