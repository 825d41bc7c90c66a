//! The agent of the example servers: it computes sums, and says so step by step. Publishing never waits, so it needs no task.

use std::collections::BTreeMap;

use trunkline_core::hub::{Request, UserMessage};

/// Answers what a user asks.
pub(crate) fn answer(request: Request) {
    match request {
        // A run that fails to take an event has ended, and its user was told.
        Request::UserMessage(message) => drop(compute(message)),
        Request::Command(command) => command.refuse("this server has no commands"),
    }
}

fn compute(message: UserMessage) -> Result<(), Box<dyn std::error::Error>> {
    let expression = message.content().trim_start_matches("what is ").trim_end_matches('?').to_owned();
    let run = message.start("calculator")?;
    run.thinking("I look for a sum in it.")?;
    let call = run.tool("sum", &BTreeMap::from([("expression", &expression)]))?;
    let value = Sum(expression.as_bytes()).whole();
    let answer = match value {
        Some(value) => format!("{expression} = {value}"),
        None => format!("There is no sum in it: {expression}"),
    };
    call.completed(&BTreeMap::from([("value", value)]))?;
    for word in answer.split_inclusive(' ') {
        run.delta(word)?;
    }
    run.completed(Some(answer))?;
    Ok(())
}

/// What is left of a text: whole numbers, `+`, `*` and brackets.
struct Sum<'a>(&'a [u8]);

/// Brackets within brackets: who sends more of them gets no answer.
const MAX_DEPTH: usize = 32;

impl Sum<'_> {
    fn whole(mut self) -> Option<u64> {
        let value = self.sum(0)?;
        self.0.is_empty().then_some(value)
    }

    fn sum(&mut self, depth: usize) -> Option<u64> {
        let mut value = self.product(depth)?;
        while self.take(b'+') {
            value = value.checked_add(self.product(depth)?)?;
        }
        Some(value)
    }

    fn product(&mut self, depth: usize) -> Option<u64> {
        let mut value = self.atom(depth)?;
        while self.take(b'*') {
            value = value.checked_mul(self.atom(depth)?)?;
        }
        Some(value)
    }

    fn atom(&mut self, depth: usize) -> Option<u64> {
        if self.take(b'(') {
            let value = (depth < MAX_DEPTH).then(|| self.sum(depth + 1))??;
            return self.take(b')').then_some(value);
        }
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    fn take(&mut self, sign: u8) -> bool {
        let rest = self.0.strip_prefix(&[sign]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}
