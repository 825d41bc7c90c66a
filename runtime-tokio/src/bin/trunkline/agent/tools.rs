//! The agent's other tools: counting a text, and searching the README this program was built with.

use serde_json::{Value, json};

use super::plan::excerpt;

/// How many lines of the README one search returns.
const MAX_MATCHES: usize = 8;
/// How much of a line it returns, in characters.
const MAX_LINE_CHARS: usize = 160;
/// The longest text that is searched for, in bytes.
const MAX_QUERY_BYTES: usize = 100;

pub(crate) const README: &str = include_str!("../../../../../README.md");

/// What [`count`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) words: usize,
    pub(crate) sentences: usize,
    pub(crate) characters: usize,
}

impl Counts {
    pub(crate) fn to_json(self) -> Value {
        json!({"words": self.words, "sentences": self.sentences, "characters": self.characters})
    }
}

/// Words are what white space separates and a letter or digit is in; a sentence ends with `.`, `!`, `?` or the text.
pub(crate) fn count(text: &str) -> Counts {
    let (mut words, mut sentences, mut open) = (0, 0, false);
    for token in text.split_whitespace().filter(|token| token.contains(char::is_alphanumeric) || ends_sentence(token)) {
        let is_word = token.contains(char::is_alphanumeric);
        words += usize::from(is_word);
        open |= is_word;
        if open && ends_sentence(token) {
            sentences += 1;
            open = false;
        }
    }
    Counts { words, sentences: sentences + usize::from(open), characters: text.chars().count() }
}

fn ends_sentence(token: &str) -> bool {
    token.trim_end_matches(['"', '\'', ')', '”', '’', '»']).ends_with(['.', '!', '?', '…', '。', '！', '？'])
}

/// One line of the README, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// What [`search`] found: the first matches, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Matches {
    pub(crate) total: usize,
    pub(crate) first: Vec<Match>,
}

impl Matches {
    pub(crate) fn to_json(&self) -> Value {
        let matches: Vec<_> = self.first.iter().map(|hit| json!({"line": hit.line, "text": hit.text})).collect();
        json!({"total": self.total, "matches": matches})
    }
}

/// The lines that hold `query`, whatever the case.
///
/// # Errors
/// When there is nothing to search for, or too much.
pub(crate) fn search(text: &str, query: &str) -> Result<Matches, String> {
    let query = query.trim().to_lowercase();
    if query.is_empty() {
        return Err("there is nothing to search for".to_owned());
    }
    if query.len() > MAX_QUERY_BYTES {
        return Err(format!("the text to search for is longer than {MAX_QUERY_BYTES} bytes"));
    }
    let hits = text.lines().enumerate().filter(|(_, line)| line.to_lowercase().contains(&query));
    let mut found = Matches { total: 0, first: Vec::new() };
    for (index, line) in hits {
        found.total += 1;
        if found.first.len() < MAX_MATCHES {
            found.first.push(Match { line: index + 1, text: excerpt(line.trim(), MAX_LINE_CHARS) });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting() {
        let table = [
            ("", (0, 0, 0)),
            ("one", (1, 1, 3)),
            ("One two. Three!", (3, 2, 15)),
            ("Really?! Yes... maybe", (3, 3, 21)),
            ("He said \"no.\" Then left.", (5, 2, 24)),
            ("pi is 3.14 or so", (5, 1, 16)),
            ("a - b", (2, 1, 5)),
            ("... ... !", (0, 0, 9)),
            ("wait ! what", (2, 2, 11)),
            ("grüße 世界。", (2, 1, 9)),
        ];
        for (text, (words, sentences, characters)) in table {
            assert_eq!(count(text), Counts { words, sentences, characters }, "{text:?}");
        }
    }

    #[test]
    fn searching_returns_lines_by_number_whatever_the_case() {
        let found = search("Alpha\nbeta alpha\ngamma", "ALPHA ").unwrap();
        let hit = |line, text: &str| Match { line, text: text.to_owned() };
        assert_eq!(found, Matches { total: 2, first: vec![hit(1, "Alpha"), hit(2, "beta alpha")] });
        assert_eq!(search("Alpha", "delta").unwrap().total, 0);
    }

    #[test]
    fn a_search_is_bounded_in_every_direction() {
        let long = format!("{}\n", "é".repeat(500)).repeat(20);
        let found = search(&long, "é").unwrap();
        assert_eq!((found.total, found.first.len()), (20, MAX_MATCHES));
        assert_eq!(found.first[0].text.chars().count(), MAX_LINE_CHARS + 1);
        assert!(search(&long, &"x".repeat(MAX_QUERY_BYTES)).is_ok());
        assert!(search(&long, &"x".repeat(MAX_QUERY_BYTES + 1)).is_err());
        assert!(search(&long, "  ").is_err());
    }

    #[test]
    fn the_readme_is_there() {
        assert!(search(README, "trunkline").unwrap().total > 0);
    }
}
