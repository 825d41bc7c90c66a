//! What strangers may send to make a server work: for each parser the worst that it takes in, or looks at before it refuses.
//!
//! Bounds on sizes are raised where the usual ones would end an input early. What no setting raises stays: how many headers and
//! keys there may be, and how deep JSON may nest.

mod deflate;
mod frames;
mod head;
mod keys;
mod texts;
mod tokens;

use crate::Input;

/// Whatever comes before anybody is known, and what comes from whoever is in.
pub const PARSERS: [&[Input]; 6] =
    [&head::INPUTS, &frames::INPUTS, &deflate::INPUTS, &texts::INPUTS, &tokens::INPUTS, &keys::INPUTS];

/// `before`, as many times `piece` as there is room for in `bytes`, and `after`.
fn filled(bytes: usize, before: &str, piece: &str, after: &str) -> String {
    [before, &piece.repeat(times(bytes, before, piece, after)), after].concat()
}

/// The same with each piece made from its number.
fn numbered(bytes: usize, before: &str, piece: impl Fn(usize) -> String, after: &str) -> String {
    let count = times(bytes, before, &piece(0), after);
    let pieces: String = (0..count).map(piece).collect();
    [before, &pieces, after].concat()
}

fn times(bytes: usize, before: &str, piece: &str, after: &str) -> usize {
    (bytes - before.len() - after.len()) / piece.len()
}

/// A member of an object after others, whose name differs from its neighbours' at its end only.
fn member(number: usize) -> String {
    format!(r#","a-name-that-is-like-the-others-{number:05}":0"#)
}

/// Lists as deep as `depth`, and at once out of them again.
fn nested(depth: usize) -> String {
    ["[".repeat(depth), "]".repeat(depth), ",".to_owned()].concat()
}
