//! What becomes of the messages that were sent.

use serde_json::Value;

/// Messages whose run has not ended; beyond them no line is read. Well below the runs that a server lets a user have.
const MAX_WATCHES: usize = 8;

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Completed,
    NotCompleted,
    Refused(String),
}

/// Follows one message from its reply to the end of the run that the reply names.
///
/// Reply and events come by different ways, so that a run may have ended before the reply names it.
#[derive(Debug)]
pub(super) struct Watch {
    id: String,
    run: Option<String>,
    ended: Vec<(String, bool)>,
}

impl Watch {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), run: None, ended: Vec::new() }
    }

    pub(super) fn see(&mut self, frame: &Value) -> Option<Verdict> {
        match frame["type"].as_str()? {
            "reply" if frame["id"] == self.id.as_str() => return self.see_reply(frame),
            "agent_completed" => self.see_end(frame, true),
            "agent_failed" | "agent_cancelled" => self.see_end(frame, false),
            _ => {}
        }
        self.verdict()
    }

    fn see_reply(&mut self, frame: &Value) -> Option<Verdict> {
        if frame["ok"] != true {
            let message = frame["error"]["message"].as_str().or(frame["error"]["code"].as_str());
            return Some(Verdict::Refused(message.unwrap_or("the server does not say why").to_owned()));
        }
        let run = frame["run_id"].as_str().or(frame["result"]["run_id"].as_str());
        self.run = run.map(str::to_owned);
        self.verdict()
    }

    fn see_end(&mut self, frame: &Value, completed: bool) {
        let Some(run) = frame["run_id"].as_str() else { return };
        if self.run.as_deref().is_none_or(|own| own == run) {
            self.ended.push((run.to_owned(), completed));
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        let own = self.run.as_ref()?;
        let (_, completed) = self.ended.iter().find(|(run, _)| run == own)?;
        Some(if *completed { Verdict::Completed } else { Verdict::NotCompleted })
    }
}

/// Follows all messages of a conversation.
#[derive(Debug, Default)]
pub(super) struct Watches {
    pending: Vec<Watch>,
    failed: bool,
}

impl Watches {
    pub(super) fn add(&mut self, id: &str) {
        self.pending.push(Watch::new(id));
    }

    pub(super) fn have_room(&self) -> bool {
        self.pending.len() < MAX_WATCHES
    }

    /// Whether anything is still to come.
    pub(super) fn wait(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn all_completed(&self) -> bool {
        self.pending.is_empty() && !self.failed
    }

    pub(super) fn see(&mut self, frame: &str) {
        let Ok(frame) = serde_json::from_str(frame) else { return };
        self.pending.retain_mut(|watch| match watch.see(&frame) {
            None => true,
            Some(Verdict::Completed) => false,
            Some(Verdict::NotCompleted | Verdict::Refused(_)) => {
                self.failed = true;
                false
            }
        });
    }

    /// Events are gone: what became of the messages so far is unknown, and their ends may never come.
    pub(super) fn give_up(&mut self) {
        self.failed |= self.wait();
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reply_without_a_run_leaves_the_message_unanswered() {
        let mut watch = Watch::new("m1");
        assert_eq!(watch.see(&json!({"type": "reply", "id": "m1", "ok": true})), None);
        assert_eq!(watch.see(&json!({"no": "type"})), None);
    }

    #[test]
    fn no_more_messages_are_under_way_than_the_bound() {
        let mut watches = Watches::default();
        (0..MAX_WATCHES).for_each(|n| {
            assert!(watches.have_room());
            watches.add(&n.to_string());
        });
        assert!(!watches.have_room());
        watches.see(r#"{"type":"reply","id":"3","ok":true,"run_id":"r"}"#);
        watches.see(r#"{"type":"agent_completed","run_id":"r"}"#);
        assert!(watches.have_room() && watches.wait() && !watches.failed);
        watches.give_up();
        assert!(!watches.wait() && !watches.all_completed());
    }
}
