//! What a message asks for beyond a tool, each kind by the word it begins with.

use super::plan::excerpt;

/// How many sub-agents one message starts at most.
const MAX_TOPICS: usize = 3;
/// How much of a name or a topic is repeated, in characters.
const MAX_NAME: usize = 60;

/// What to do about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Answer, perhaps with a tool: see [`super::plan`].
    Answer,
    /// Send something to somebody, which a person must approve.
    Errand { what: String, to: String },
    /// Have a sub-agent look into each of these.
    Research(Vec<String>),
    /// Show what an answer may be made of.
    Sample,
    /// End in failure.
    Fail,
}

/// "send WHAT to WHOM", "research THIS and THAT", "show me … Markdown", "fail"; anything else is to be answered.
pub(crate) fn task(message: &str) -> Task {
    let message = message.trim();
    let message = after(message, "please ").unwrap_or(message);
    find_errand(message).or_else(|| find_research(message)).or_else(|| find_other(message)).unwrap_or(Task::Answer)
}

fn find_errand(message: &str) -> Option<Task> {
    let rest = after(message, "send ")?;
    let at = rest.to_ascii_lowercase().rfind(" to ")?;
    let (what, to) = (name(&rest[..at]), name(&rest[at + " to ".len()..]));
    (!what.is_empty() && !to.is_empty()).then_some(Task::Errand { what, to })
}

fn find_research(message: &str) -> Option<Task> {
    let rest = after(message, "research ")?;
    let topics = rest.split(',').flat_map(|part| part.split(" and ")).map(name).filter(|topic| !topic.is_empty());
    let topics: Vec<String> = topics.take(MAX_TOPICS).collect();
    (!topics.is_empty()).then_some(Task::Research(topics))
}

fn find_other(message: &str) -> Option<Task> {
    let lower = message.to_ascii_lowercase();
    if lower.trim_end_matches(['.', '!']) == "fail" {
        return Some(Task::Fail);
    }
    (lower.starts_with("show ") && lower.contains("markdown")).then_some(Task::Sample)
}

/// What follows `word`, whatever its case.
fn after<'a>(message: &'a str, word: &str) -> Option<&'a str> {
    let head = message.get(..word.len())?;
    head.eq_ignore_ascii_case(word).then(|| message[word.len()..].trim())
}

fn name(text: &str) -> String {
    excerpt(text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '?' | '!' | '.')), MAX_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_the_word_they_begin_with() {
        let errand = |what: &str, to: &str| Task::Errand { what: what.to_owned(), to: to.to_owned() };
        let research = |topics: &[&str]| Task::Research(topics.iter().map(|&topic| topic.to_owned()).collect());
        let table = [
            ("send the report to bob", errand("the report", "bob")),
            ("Please send a letter to Carol to dave!", errand("a letter to Carol", "dave")),
            ("send the report", Task::Answer),
            ("send to bob", Task::Answer),
            ("I send it to bob", Task::Answer),
            ("research tokens", research(&["tokens"])),
            ("Research tokens and topics, close codes.", research(&["tokens", "topics", "close codes"])),
            ("research a, b, c, d", research(&["a", "b", "c"])),
            ("research ", Task::Answer),
            ("show me some Markdown", Task::Sample),
            ("what is markdown?", Task::Answer),
            ("fail", Task::Fail),
            ("do not fail", Task::Answer),
            ("what is 2*(3+4)?", Task::Answer),
            ("é", Task::Answer),
            ("", Task::Answer),
        ];
        for (message, expected) in table {
            assert_eq!(task(message), expected, "{message:?}");
        }
    }

    #[test]
    fn what_is_repeated_of_a_message_is_bounded() {
        let Task::Errand { what, to } = task(&format!("send {} to {}", "x".repeat(60_000), "y".repeat(60_000))) else {
            panic!()
        };
        assert!(what.len() + to.len() < 200);
        let Task::Research(topics) = task(&format!("research {}", "x".repeat(60_000))) else { panic!() };
        assert!(topics[0].len() < 100);
    }
}
