//! From a long list of operations to a short one that breaks the same rule.

use super::op::Op;
use super::{Outcome, run};

/// The shortest list that was found, within so many runs.
#[must_use]
pub fn shrink(seed: u64, operations: &[Op], rule: &str, mut budget: usize) -> Vec<Op> {
    let mut fails = |operations: &[Op]| {
        budget = budget.saturating_sub(1);
        matches!(run(seed, operations), Outcome { broken: Some(broken), .. } if broken.rule == rule)
            .then_some(())
            .ok_or(budget == 0)
    };
    let mut kept = operations.to_vec();
    let mut part = kept.len().div_ceil(2).max(1);
    loop {
        match without_one_part(&kept, part, &mut fails) {
            Ok(Some(shorter)) => kept = shorter,
            Ok(None) if part == 1 => break,
            Ok(None) => part = part.div_ceil(2),
            Err(()) => break,
        }
        part = part.min(kept.len().max(1));
    }
    kept
}

/// The list without parts of this size, as far as it still fails; `None` where none can go, an error where the budget is over.
fn without_one_part(
    operations: &[Op],
    part: usize,
    fails: &mut impl FnMut(&[Op]) -> Result<(), bool>,
) -> Result<Option<Vec<Op>>, ()> {
    let (mut kept, mut at, mut shrank) = (operations.to_vec(), 0, false);
    while at < kept.len() {
        let end = (at + part).min(kept.len());
        let candidate = [&kept[..at], &kept[end..]].concat();
        match fails(&candidate) {
            Ok(()) => (kept, shrank) = (candidate, true),
            Err(true) => return if shrank { Ok(Some(kept)) } else { Err(()) },
            Err(false) => at = end,
        }
    }
    Ok(shrank.then_some(kept))
}
