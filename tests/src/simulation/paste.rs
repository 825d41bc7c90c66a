//! A failing list as a test.

use std::fmt::Write as _;

use super::judge::Broken;
use super::op::Op;

/// The text of a test that fails as the list does, to paste into `tests/tests/simulation.rs`.
#[must_use]
pub fn paste(seed: u64, operations: &[Op], broken: &Broken) -> String {
    let mut text = format!("/// {broken}\n#[test]\nfn seed_{seed}() {{\n    let operations = [\n");
    for op in operations {
        // A `String` takes everything.
        let _ = writeln!(
            text,
            "        Op::{},",
            format!("{op:?}").replace("lie: ", "lie: Lie::").replace("wrong: ", "wrong: Wrong::")
        );
    }
    text += &format!("    ];\n    assert_eq!(run({seed}, &operations).broken, None);\n}}\n");
    text
}
