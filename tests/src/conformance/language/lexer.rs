//! One line of a scenario in pieces: words, and JSON, which a quoted text is too.

use serde_json::Value;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// Up to the next blank.
    Word(String),
    /// An object, an array or a quoted text.
    Json(Value),
}

/// What is left of a line.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
}

impl Pieces {
    pub(super) fn of(line: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = line.trim();
        while !rest.is_empty() {
            let used = if rest.starts_with(['{', '[', '"']) {
                let (value, used) = json(rest)?;
                pieces.push(Piece::Json(value));
                used
            } else {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                pieces.push(Piece::Word(rest[..end].to_owned()));
                end
            };
            rest = rest[used..].trim_start();
        }
        Ok(Self { pieces: pieces.into_iter().peekable() })
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.pieces.peek().is_none()
    }

    /// The next word.
    pub(super) fn word(&mut self, what: &str) -> Result<String, String> {
        match self.pieces.next() {
            Some(Piece::Word(word)) => Ok(word),
            Some(Piece::Json(value)) => Err(format!("{what} is missing before {value}")),
            None => Err(format!("{what} is missing")),
        }
    }

    /// The next word, if there is one and it is this.
    pub(super) fn take(&mut self, word: &str) -> bool {
        self.pieces.next_if_eq(&Piece::Word(word.to_owned())).is_some()
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.word(what)?;
        word.parse().map_err(|_| format!("{what} is {word:?}, which is no such number"))
    }

    pub(super) fn json(&mut self, what: &str) -> Result<Value, String> {
        match self.pieces.next() {
            Some(Piece::Json(value)) => Ok(value),
            Some(Piece::Word(word)) => Err(format!("{what} in JSON is missing before {word:?}")),
            None => Err(format!("{what} in JSON is missing")),
        }
    }

    /// The next JSON, if that comes next.
    pub(super) fn maybe_json(&mut self) -> Option<Value> {
        match self.pieces.next_if(|piece| matches!(piece, Piece::Json(_))) {
            Some(Piece::Json(value)) => Some(value),
            Some(Piece::Word(_)) | None => None,
        }
    }

    /// A quoted text.
    pub(super) fn text(&mut self, what: &str) -> Result<String, String> {
        let value = self.json(what)?;
        value.as_str().map(str::to_owned).ok_or_else(|| format!("{what} is a quoted text, not {value}"))
    }

    /// Nothing is left.
    pub(super) fn done(mut self) -> Result<(), String> {
        match self.pieces.next() {
            None => Ok(()),
            Some(Piece::Word(word)) => Err(format!("{word:?} has no meaning here")),
            Some(Piece::Json(value)) => Err(format!("{value} has no meaning here")),
        }
    }
}

fn json(text: &str) -> Result<(Value, usize), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Ok((value, values.byte_offset())),
        Some(Err(error)) => Err(format!("this is no JSON: {error}")),
        None => Err("this is no JSON".to_owned()),
    }
}
