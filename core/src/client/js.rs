//! The client for browsers and Node: an ES module without dependencies, with types, that any server can serve. It speaks the protocol
//! as this version of the crate does.
//!
//! ```
//! use trunkline_core::client::js::{File, find};
//!
//! /// What a web stack answers to `GET /client/<name>`.
//! fn respond(name: &str) -> Option<(&'static str, &'static str)> {
//!     let File { media_type, text, .. } = find(name)?;
//!     Some((media_type, text))
//! }
//! let (media_type, text) = respond("trunkline.js").unwrap();
//! assert_eq!(media_type, "text/javascript; charset=utf-8");
//! assert!(text.contains("export function connect"));
//! ```

/// One file of the client. They find each other by their names: all of them are served from one folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in that folder.
    pub name: &'static str,
    /// For the header `Content-Type`.
    pub media_type: &'static str,
    /// What it says.
    pub text: &'static str,
}

macro_rules! files {
    ($($name:literal is $media_type:expr),+ $(,)?) => {
        [$(File { name: $name, media_type: $media_type, text: include_str!(concat!("../../js/", $name)) }),+]
    };
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them. Pages import the first.
pub const FILES: [File; 9] = files! {
    "trunkline.js" is JAVASCRIPT,
    "trunkline-events.js" is JAVASCRIPT,
    "trunkline-places.js" is JAVASCRIPT,
    "trunkline-requests.js" is JAVASCRIPT,
    "trunkline-run.js" is JAVASCRIPT,
    "trunkline-stream.js" is JAVASCRIPT,
    "trunkline-time.js" is JAVASCRIPT,
    "trunkline-tokens.js" is JAVASCRIPT,
    "trunkline.d.ts" is "text/plain; charset=utf-8",
};

/// The file of this name.
pub fn find(name: &str) -> Option<File> {
    FILES.into_iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::client::places::Places;
    use crate::error::NextAction;
    use crate::protocol::{Mode, Position, RunStatus, ServerFrame, StreamEntry, StreamName};
    use crate::stream::{PartView, Reducer, RunView};

    /// What both clients are held to; the one in JavaScript is by the tests of the page.
    fn vectors(kind: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(include_str!("../../js/vectors.json")).unwrap();
        all[kind].as_array().unwrap().clone()
    }

    #[test]
    fn vectors_of_closes() {
        for vector in vectors("closes") {
            let code = u16::try_from(vector["code"].as_u64().unwrap()).unwrap();
            let action = match NextAction::for_code(code) {
                NextAction::Nothing | NextAction::Stop => "stop",
                NextAction::Retry => "retry",
                NextAction::RetryLater => "later",
                NextAction::NewToken => "token",
                NextAction::RetryAfresh => "afresh",
            };
            assert_eq!(vector["action"], action, "{code}");
        }
    }

    #[test]
    fn vectors_of_positions() {
        for vector in vectors("positions") {
            let text = vector["text"].as_str().unwrap();
            let position = text.parse::<Position>();
            assert_eq!(position.is_ok(), vector["ok"].as_bool().unwrap(), "{text}");
            assert!(position.map_or(true, |position| position.to_string() == text));
        }
    }

    #[test]
    fn vectors_of_what_follows_what() {
        for vector in vectors("follows") {
            let position = |value: &Value| value.as_str().unwrap().parse::<Position>().unwrap();
            let (at, next) = (position(&vector["at"]), position(&vector["frame"]["event_id"]));
            let follows = vector["frame"]["prev"].as_u64().unwrap_or(next.seq.saturating_sub(1));
            let mut places = Places::default();
            let entry = StreamEntry { stream: StreamName::User, event_id: at, head: at, mode: Mode::Live, lost: None };
            places.begin(&entry).unwrap();
            let followed = places.follow(&StreamName::User, follows, next);
            assert_eq!(followed.is_ok(), vector["follows"].as_bool().unwrap(), "{vector}");
        }
    }

    /// A text with a sign for each place where something is missing, and how much that is in all.
    fn shown(part: &PartView) -> Value {
        let stretches = part.earlier.iter().map(|stretch| (stretch.start, &*stretch.text));
        let (mut text, mut end, mut lost) = (String::new(), 0, 0);
        for (start, known) in stretches.chain([(part.start, &*part.text)]) {
            text.push_str(if start > end { "…" } else { "" });
            text.push_str(known);
            lost += start - end;
            end = start + known.chars().count() as u64;
        }
        json!({"lost": lost, "text": text})
    }

    fn plain(run: &RunView) -> Value {
        let parsed = |text: &Option<String>| text.as_ref().map(|text| serde_json::from_str::<Value>(text).unwrap());
        let status = match run.status {
            RunStatus::Running => "running",
            RunStatus::Suspended => "suspended",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        };
        let tools = run.tools.iter().map(|(id, tool)| {
            let (parameters, results) = (parsed(&tool.parameters), parsed(&tool.results));
            let said = json!({"name": tool.name, "parameters": parameters, "results": results, "success": tool.success, "error": tool.error});
            (id.as_str(), said)
        });
        let parts = run.parts.iter().map(|(id, part)| (id.as_str(), shown(part)));
        let approval = run.approval.as_ref();
        json!({
            "status": status,
            "thread": run.thread_id.as_ref().map(|thread| thread.as_str()),
            "agent": run.agent_name,
            "parent": run.parent_run_id.map(|run| run.to_string()),
            "thoughts": run.thoughts,
            "tools": tools.collect::<BTreeMap<_, _>>(),
            "parts": parts.collect::<BTreeMap<_, _>>(),
            "approval": approval.map(|waits| json!({"id": waits.approval_id.as_str(), "question": waits.question})),
            "outcome": run.outcome,
        })
    }

    #[test]
    fn vectors_of_runs() {
        for vector in vectors("runs") {
            let mut reducer = Reducer::default();
            for frame in vector["frames"].as_array().unwrap() {
                match ServerFrame::parse(&frame.to_string()).unwrap() {
                    ServerFrame::Event(event) => reducer.apply(&event),
                    ServerFrame::Deltas(window) => window.parts.iter().for_each(|part| {
                        reducer.extend(part.run_id, &part.part_id, part.offset, &part.text, part.run_seq)
                    }),
                    ServerFrame::Snapshot(part) => part.runs.iter().for_each(|piece| reducer.restore(piece)),
                    other => panic!("{other:?}"),
                }
            }
            let runs: BTreeMap<_, _> = reducer.runs().iter().map(|(id, run)| (id.to_string(), plain(run))).collect();
            assert_eq!(json!(runs), vector["runs"], "{}", vector["name"]);
        }
    }

    /// What a module imports or exports from, as it says it.
    fn sources(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.rsplit_once(" from \"")?.1.strip_suffix("\";"))
    }

    #[test]
    fn the_files_need_nothing_but_each_other() {
        for file in FILES {
            for source in sources(file.text) {
                let name = source.strip_prefix("./").unwrap_or_else(|| panic!("{} imports {source}", file.name));
                assert!(find(name).is_some(), "{} imports {source}", file.name);
            }
            assert!(!file.text.contains("import("), "{}", file.name);
        }
        assert!(sources(FILES[0].text).count() >= 3);
    }
}
