//! What the agent does about a message: a pure function from the message to a plan.

use serde_json::{Value, json};

use super::{calculator, tools};

/// How much of a message is shown in thoughts and answers, in characters.
const MAX_EXCERPT: usize = 200;

/// A tool with its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolUse {
    /// Evaluate this expression.
    Calculator(String),
    /// Count words and sentences of this text.
    TextStatistics(String),
    /// Search the README for this.
    ReadmeSearch(String),
}

/// What to think, use and, in [`Plan::carry_out`], answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) thought: String,
    pub(crate) tool: Option<ToolUse>,
}

/// What came of a tool, and the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// `None` where no tool was needed.
    pub(crate) results: Option<Result<Value, String>>,
    pub(crate) answer: String,
}

/// Looks for something a tool can do; the first of counting, searching and calculating that fits.
pub(crate) fn plan(message: &str) -> Plan {
    let tool = find_count(message)
        .map(ToolUse::TextStatistics)
        .or_else(|| find_search(message).map(ToolUse::ReadmeSearch))
        .or_else(|| find_expression(message).map(ToolUse::Calculator));
    let thought = match &tool {
        Some(ToolUse::Calculator(expression)) => {
            format!("The message holds the expression {}; I use the calculator.", excerpt(expression, MAX_EXCERPT))
        }
        Some(ToolUse::TextStatistics(text)) => {
            format!("The message asks to count a text of {} characters; I use text_statistics.", text.chars().count())
        }
        Some(ToolUse::ReadmeSearch(query)) => {
            format!("The message asks what the README says about \"{}\"; I use readme_search.", excerpt(query, 60))
        }
        None => "The message holds nothing to calculate, count or look up; I answer without a tool.".to_owned(),
    };
    Plan { thought, tool }
}

impl ToolUse {
    /// `tool_name` in frames.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Calculator(_) => "calculator",
            Self::TextStatistics(_) => "text_statistics",
            Self::ReadmeSearch(_) => "readme_search",
        }
    }

    /// `parameters` in frames; bounded, so that a long message cannot make an event too large.
    pub(crate) fn parameters(&self) -> Value {
        match self {
            Self::Calculator(expression) => json!({"expression": excerpt(expression, MAX_EXCERPT * 2)}),
            Self::TextStatistics(text) => json!({"text": excerpt(text, MAX_EXCERPT)}),
            Self::ReadmeSearch(query) => json!({"query": excerpt(query, MAX_EXCERPT)}),
        }
    }
}

impl Plan {
    /// Uses the tool and words the answer.
    pub(crate) fn carry_out(&self) -> Outcome {
        let (results, answer) = match &self.tool {
            None => return Outcome { results: None, answer: NO_TOOL.to_owned() },
            Some(ToolUse::Calculator(expression)) => calculate(expression),
            Some(ToolUse::TextStatistics(text)) => count(text),
            Some(ToolUse::ReadmeSearch(query)) => search(query),
        };
        Outcome { results: Some(results), answer }
    }
}

const NO_TOOL: &str = "I am Trunkline's built-in development agent. I follow fixed rules and understand no language: I can \
    evaluate an expression (\"what is 2*(3+4)?\"), count a text (\"count the words in: one two\") and search the README \
    (\"search the readme for token\"). I ask before I act (\"send the report to bob\"), have sub-agents (\"research tokens and \
    topics\"), write Markdown (\"show me some Markdown\") and can \"fail\". Your message asks for none of these.";

fn calculate(expression: &str) -> (Result<Value, String>, String) {
    let shown = excerpt(expression, MAX_EXCERPT);
    match calculator::evaluate(expression) {
        Ok(value) => (Ok(json!({"value": value.to_json()})), format!("{shown} = {value}")),
        Err(problem) => (Err(problem.clone()), format!("I cannot evaluate {shown}: {problem}.")),
    }
}

fn count(text: &str) -> (Result<Value, String>, String) {
    if text.is_empty() {
        let problem = "there is no text to count";
        return (Err(problem.to_owned()), format!("I cannot count: {problem}. Write it after a colon."));
    }
    let counts = tools::count(text);
    let (words, sentences) = (plural(counts.words, "word"), plural(counts.sentences, "sentence"));
    (Ok(counts.to_json()), format!("The text has {words} in {sentences}, {}.", plural(counts.characters, "character")))
}

fn search(query: &str) -> (Result<Value, String>, String) {
    let found = match tools::search(tools::README, query) {
        Ok(found) => found,
        Err(problem) => return (Err(problem.clone()), format!("I cannot search the README: {problem}.")),
    };
    let mut answer = match found.total {
        0 => format!("The README says nothing about \"{query}\"."),
        total => format!("The README speaks of \"{query}\" in {}:", plural(total, "line")),
    };
    for hit in &found.first {
        answer.push_str(&format!("\n{}: {}", hit.line, hit.text));
    }
    (Ok(found.to_json()), answer)
}

pub(crate) fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// At most `max` characters, and an ellipsis where some are left out.
pub(crate) fn excerpt(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The text after the colon, or after "in", of a message that asks to count words or sentences.
fn find_count(message: &str) -> Option<String> {
    let lower = message.to_ascii_lowercase();
    let head_end = lower.find(':').unwrap_or(lower.len());
    let head = &lower[..head_end];
    let asks = head.contains("count") || head.contains("how many");
    if !asks || !(head.contains("word") || head.contains("sentence")) {
        return None;
    }
    let text = match lower.find(':') {
        Some(colon) => &message[colon + 1..],
        None => lower.find(" in ").map_or("", |at| &message[at + 4..]),
    };
    Some(text.trim().trim_matches('"').to_owned())
}

/// What follows "for" or "about" in a message that names the README.
fn find_search(message: &str) -> Option<String> {
    let lower = message.to_ascii_lowercase();
    let after = lower.find("readme")? + "readme".len();
    let query =
        [" for ", " about "].iter().filter_map(|word| lower[after..].find(word).map(|at| after + at + word.len()));
    let query = &message[query.min()?..];
    let punctuation = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '?' | '!' | '.' | '“' | '”');
    Some(query.trim_matches(punctuation).to_owned())
}

/// The longest arithmetic expression of a message that is one, or asks for its value.
///
/// A date or a range ("5-10 people") in a message that asks nothing stays what it is.
fn find_expression(message: &str) -> Option<String> {
    let whole = message.trim().trim_end_matches(['?', '=', '.', ' ']);
    let lower = message.to_ascii_lowercase();
    let asks = ["what is", "what's", "how much", "calculate", "compute", "evaluate", "solve", "="];
    if !whole.chars().all(is_arithmetic) && !asks.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let mut best: Option<&str> = None;
    let mut start = 0;
    for (end, c) in message.char_indices().chain([(message.len(), '\n')]) {
        if end < message.len() && is_arithmetic(c) && !is_separating_comma(message, end) {
            continue;
        }
        if let Some(candidate) = trimmed_candidate(message, start, end)
            && best.is_none_or(|best| candidate.len() > best.len())
        {
            best = Some(candidate);
        }
        start = end + c.len_utf8();
    }
    best.map(str::to_owned)
}

fn is_arithmetic(c: char) -> bool {
    c.is_ascii_digit() || is_operator(c) || matches!(c, '.' | ',' | '(' | ')' | ' ')
}

fn is_operator(c: char) -> bool {
    matches!(c, '+' | '-' | '−' | '*' | '×' | '·' | '/' | '÷' | '%' | '^')
}

/// A comma between two digits groups thousands; any other one separates.
fn is_separating_comma(message: &str, at: usize) -> bool {
    let digit_at = |index: Option<usize>| index.and_then(|i| message.as_bytes().get(i)).is_some_and(u8::is_ascii_digit);
    message.as_bytes()[at] == b',' && !(digit_at(at.checked_sub(1)) && digit_at(at.checked_add(1)))
}

fn trimmed_candidate(message: &str, start: usize, end: usize) -> Option<&str> {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    let segment = &message[start..end];
    // `sqrt(16)+2` and `2+2x` are no arithmetic that this calculator knows, so neither is what is left of them.
    let cut_before = !segment.starts_with(' ') && message[..start].ends_with(letter);
    let cut_after = !segment.ends_with(' ') && message[end..].starts_with(letter);
    if cut_before || cut_after {
        return None;
    }
    let mut text = segment.trim().trim_end_matches(['.', ' ']);
    while text.ends_with(')') && text.matches(')').count() > text.matches('(').count() {
        text = text[..text.len() - 1].trim_end();
    }
    while text.starts_with('(') && text.matches('(').count() > text.matches(')').count() {
        text = text[1..].trim_start();
    }
    let numbers =
        text.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').filter(|part| !part.is_empty()).count();
    (numbers >= 2 && text.contains(is_operator)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calculator(expression: &str) -> Option<ToolUse> {
        Some(ToolUse::Calculator(expression.to_owned()))
    }

    fn statistics(text: &str) -> Option<ToolUse> {
        Some(ToolUse::TextStatistics(text.to_owned()))
    }

    fn readme(query: &str) -> Option<ToolUse> {
        Some(ToolUse::ReadmeSearch(query.to_owned()))
    }

    #[test]
    fn messages_lead_to_tools() {
        let table = [
            ("what is 2*(3+4)?", calculator("2*(3+4)")),
            ("2+2", calculator("2+2")),
            ("2 + 2 = ?", calculator("2 + 2")),
            ("Please calculate 1,000 / 3.", calculator("1,000 / 3")),
            ("what is 1/0", calculator("1/0")),
            ("(what is 2+2)", calculator("2+2")),
            ("compute 1, 2+3, 4", calculator("2+3")),
            ("evaluate -2^2", calculator("-2^2")),
            ("what is (1+2", calculator("1+2")),
            ("what is sqrt(16)+2?", None),
            ("what is 2+2x?", None),
            ("what is 5?", None),
            ("what is -5", None),
            ("see you on 2026-11-25 with 5-10 people", None),
            ("hello", None),
            ("", None),
            ("count the words in: one two. three", statistics("one two. three")),
            ("How many sentences are in this one? Two.", statistics("this one? Two.")),
            ("count the words in: what is 2+2", statistics("what is 2+2")),
            ("count the words", statistics("")),
            ("I can count on you: word of honour", None),
            ("search the readme for close codes", readme("close codes")),
            ("What does the README say about \"tokens\"?", readme("tokens")),
            ("search the readme for ?", readme("")),
            ("the readme is long", None),
        ];
        for (message, tool) in table {
            assert_eq!(plan(message).tool, tool, "{message:?}");
        }
    }

    #[test]
    fn answers_are_what_the_tools_found() {
        let answer = |message: &str| plan(message).carry_out();
        let fourteen = answer("what is 2*(3+4)?");
        assert_eq!(fourteen.results, Some(Ok(json!({"value": 14}))));
        assert_eq!(fourteen.answer, "2*(3+4) = 14");
        let zero = answer("what is 1/0?");
        assert_eq!(zero.results, Some(Err("division by zero".to_owned())));
        assert_eq!(zero.answer, "I cannot evaluate 1/0: division by zero.");
        assert_eq!(answer("count the words in: a b.").answer, "The text has 2 words in 1 sentence, 4 characters.");
        assert!(answer("count the words").results.unwrap().is_err());
        assert!(answer("search the readme for zzzqqq").answer.contains("says nothing"));
        assert_eq!(answer("hello").results, None);
    }

    #[test]
    fn what_goes_into_an_event_is_bounded_whatever_the_message() {
        for long in ["1+".repeat(30_000), format!("count the words: {}", "x ".repeat(30_000)), "\u{1}".repeat(60_000)] {
            let plan = plan(&long);
            let outcome = plan.carry_out();
            let parameters = plan.tool.map(|tool| tool.parameters().to_string().len()).unwrap_or_default();
            assert!(plan.thought.len() + parameters + outcome.answer.len() < 8_000);
        }
        let search = plan(&format!("search the readme for {}", "y".repeat(60_000)));
        assert!(search.carry_out().results.unwrap().is_err());
    }
}
