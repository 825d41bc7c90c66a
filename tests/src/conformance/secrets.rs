//! Tokens of one scenario: no server may repeat one, and no report shows one.

use std::cell::RefCell;
use std::rc::Rc;

/// Those that were made so far; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Secrets(Rc<RefCell<Vec<String>>>);

impl Secrets {
    pub(super) fn add(&self, token: &str) {
        self.0.borrow_mut().push(token.to_owned());
    }

    /// Whether a text names one.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.0.borrow().iter().any(|token| text.contains(token))
    }

    /// The text without them; a token that was cut off in the middle goes, too.
    pub(super) fn mask(&self, text: &str) -> String {
        let mut text = self.0.borrow().iter().fold(text.to_owned(), |text, token| text.replace(token, "<token>"));
        for beginning in ["bearer.eyJ", "Bearer eyJ", "\"eyJ", "=eyJ"] {
            if let Some(at) = text.find(beginning) {
                text.truncate(at + beginning.len() - 3);
                text.push_str("<the rest is not shown>");
            }
        }
        text
    }
}
