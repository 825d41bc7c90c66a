//! Does what is to be counted under callgrind, which writes down what it has counted whenever [`mark`] is called.
//!
//! ```text
//! instructions list
//! instructions machine NAME
//! instructions parsers
//! instructions scales
//! instructions scale NUMBER COUNT
//! ```
//!
//! `core/instructions.py` runs it. Each line that it prints is about the next marks: of a machine a second one after `repeats`
//! operations, of an input two more, one after each size, and of a scale one more, after it was done for so many.

use std::hint::black_box;
use std::process::ExitCode;

use trunkline_benches::{Input, MACHINES, Machine, PARSERS, SCALES, Scale};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list"] => MACHINES.iter().for_each(|machine| println!("{}", machine.name)),
        ["parsers"] => PARSERS.iter().for_each(|inputs| inputs.iter().for_each(read)),
        ["scales"] => SCALES.iter().for_each(|scale| println!("{}", scale.name)),
        ["scale", number, count] => match (number.parse().ok().and_then(|n: usize| SCALES.get(n)), count.parse()) {
            (Some(scale), Ok(count)) => climb(scale, count),
            _ => return wrong("there is no such scale: `scales` has them, counted from 0"),
        },
        ["machine", name] => match MACHINES.iter().find(|machine| machine.name == name) {
            Some(machine) => repeat(machine),
            None => return wrong("there is no machine of this name: `list` has them"),
        },
        _ => return wrong("expected `list`, `machine NAME`, `parsers`, `scales` or `scale NUMBER COUNT`"),
    }
    ExitCode::SUCCESS
}

fn wrong(why: &str) -> ExitCode {
    eprintln!("instructions: {why}");
    ExitCode::from(2)
}

fn repeat(machine: &Machine) {
    let mut step = (machine.start)();
    // What is made once, at the first use.
    step();
    println!("{} {}", machine.name, machine.repeats);
    mark();
    for _ in 0..machine.repeats {
        step();
    }
    mark();
}

fn climb(scale: &Scale, count: usize) {
    let mut step = (scale.start)(count);
    // What is made once, at the first use.
    step();
    println!("{} {count}", scale.name);
    mark();
    step();
    mark();
}

fn read(input: &Input) {
    let (mut once, mut twice) = ((input.start)(input.bytes), (input.start)(2 * input.bytes));
    once();
    twice();
    println!("{} {}", input.name, input.bytes);
    mark();
    once();
    mark();
    twice();
    mark();
}

/// Here callgrind writes down what it has counted since the last time.
#[inline(never)]
fn mark() {
    black_box(());
}
