//! The JSON of clients' frames, native and legacy.

use std::hint::black_box;

use trunkline_core::protocol::ClientFrame;
use trunkline_core::protocol::MAX_DEPTH;
use trunkline_core::protocol::legacy::{Context, decode};
use trunkline_core::time::UnixTime;

use super::{filled, member, nested, numbered};
use crate::{Input, Step};

pub(super) const INPUTS: [Input; 14] = [
    Input {
        name: "texts: deep JSON",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, ARGS, &nested(MAX_DEPTH - 2), "0]}")),
    },
    Input { name: "texts: JSON that is too deep at its end", bytes: BYTES, start: too_deep },
    Input { name: "texts: many names", bytes: BYTES, start: |bytes| parsed(numbered(bytes, PING, member, "}")) },
    Input {
        name: "texts: one long name",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, &[PING, ",\""].concat(), "\\u0061", "\":0}")),
    },
    Input {
        name: "texts: many names in escapes",
        bytes: BYTES,
        start: |bytes| parsed(numbered(bytes, PING, escaped, "}")),
    },
    Input {
        name: "texts: a long number that is passed over",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, ARGS, "1", "]}")),
    },
    Input {
        name: "texts: a long whole number",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, RUN_EVENT, "1", "}")),
    },
    Input {
        name: "texts: a long fraction",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, &[RUN_START, "0."].concat(), "1", "}")),
    },
    Input {
        name: "texts: a long exponent",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, &[RUN_START, "1e-"].concat(), "1", "}")),
    },
    Input {
        name: "texts: escapes",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, MESSAGE, "\\ud834\\udd1e", "\"}")),
    },
    Input {
        name: "texts: many lines and a fault",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, PING, "\n", "x")),
    },
    Input { name: "texts: many small values", bytes: BYTES, start: |bytes| parsed(filled(bytes, ARGS, "0,", "0]}")) },
    Input {
        name: "texts: many topics",
        bytes: BYTES,
        start: |bytes| parsed(filled(bytes, TOPICS, "\"a\",", "\"a\"]}")),
    },
    Input {
        name: "texts: escapes in a legacy frame",
        bytes: BYTES,
        start: |bytes| legacy(filled(bytes, CHAT, "\\ud834\\udd1e", "\"}}")),
    },
];

const BYTES: usize = 32 << 10;
const PING: &str = r#"{"type":"ping""#;
const ARGS: &str = r#"{"type":"command","id":"1","name":"x","args":["#;
const MESSAGE: &str = r#"{"type":"user_message","id":"1","thread_id":"t","content":""#;
const RUN_EVENT: &str =
    r#"{"type":"run_event","run_id":"run_00000000000000000000000000000001","event":{"type":"agent_completed"},"n":"#;
const RUN_START: &str = r#"{"type":"run_start","id":"1","user_id":"a","thread_id":"t","agent_name":"a","lease":"#;
const TOPICS: &str = r#"{"type":"hello","topics":["#;
const CHAT: &str = r#"{"type":"chat","payload":{"content":""#;

fn too_deep(bytes: usize) -> Step {
    let end = "[".repeat(MAX_DEPTH);
    parsed(filled(bytes, ARGS, &nested(MAX_DEPTH - 2), &end))
}

/// As [`member`], in a spelling that must be put together before it is compared.
fn escaped(number: usize) -> String {
    format!(r#","\u0061-name-that-is-like-the-others-{number:05}":0"#)
}

fn parsed(text: String) -> Step {
    Box::new(move || {
        // Whether it is a frame or none: it is looked at as far as it takes to say so.
        drop(black_box(ClientFrame::parse(black_box(&text))));
    })
}

fn legacy(text: String) -> Step {
    let mut context = Context::new("ann");
    Box::new(move || {
        black_box(decode(black_box(&text), &mut context, UnixTime::from_secs(1)));
    })
}
