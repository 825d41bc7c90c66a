//! The whole of it at once, and again for another seed: the real hub with its sessions and its housekeeper, the real I/O loop, the
//! real clients and back ends, over a network and a clock that do whatever a list of operations says. After every operation the
//! rules hold; at the end everything comes to rest.
//!
//! A seed is a setting of the limits and a list of [`Op`]s. A simulation draws nothing while it runs, so that the same list is the
//! same run, byte for byte, and any part of a list is a list: that is how [`shrink`] finds what matters, and why [`paste`] can print
//! it as a test.
//!
//! ```
//! use trunkline_tests::simulation::{Op, run};
//!
//! let operations = [Op::Start { user: 0, thread: 0 }, Op::Cut { device: 0 }, Op::Think { run: 0 }, Op::Pass { millis: 900 }];
//! let outcome = run(7, &operations);
//! assert_eq!(outcome.broken, None);
//! assert_eq!(outcome.hash, run(7, &operations).hash);
//! ```
//!
//! `cargo run --config .cargo/proof.toml -p trunkline-tests --bin simulate -- --help` says how to run many, or one with its trace.

mod agents;
mod apply;
mod cast;
mod clock;
mod counters;
mod device;
mod draw;
mod farm;
mod hearing;
mod issuer;
mod judge;
mod lie;
mod network;
mod op;
mod outsiders;
mod paste;
mod people;
mod pipe;
mod producer;
mod rest;
mod server;
mod shrink;
mod topics;
mod trace;
mod truth;
mod view;
mod watched;
mod world;
mod wrong;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use counters::Counters;
pub use farm::{Harvest, farm};
pub use judge::{Broken, RULES};
pub use lie::Lie;
pub use op::Op;
pub use paste::paste;
pub use shrink::shrink;
use world::World;
pub use wrong::Wrong;

/// What a simulation came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first rule that did not hold.
    pub broken: Option<Broken>,
    /// Of every byte that passed, and between which operations.
    pub hash: u64,
    /// How many operations were done.
    pub steps: usize,
    /// What happened.
    pub counters: Counters,
    /// The same in words, where they were asked for.
    pub words: String,
}

/// Draws the operations of a seed.
#[must_use]
pub fn operations(seed: u64, steps: usize) -> Vec<Op> {
    draw::operations(seed, steps)
}

/// Runs the operations of a seed.
#[must_use]
pub fn run_seed(seed: u64, steps: usize) -> Outcome {
    run(seed, &operations(seed, steps))
}

/// Runs operations on the server of a seed, and lets everything come to rest.
#[must_use]
pub fn run(seed: u64, operations: &[Op]) -> Outcome {
    play(seed, operations, false)
}

/// The same, and tells what happens.
#[must_use]
pub fn tell(seed: u64, operations: &[Op]) -> Outcome {
    play(seed, operations, true)
}

fn play(seed: u64, operations: &[Op], in_words: bool) -> Outcome {
    let mut world = World::new(seed, in_words);
    let ctx = world.ctx.clone();
    let played = catch_unwind(AssertUnwindSafe(|| act(&mut world, operations)));
    if let Err(panic) = played {
        let what =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        ctx.blame("panic", || what.unwrap_or_else(|| "a panic without words".to_owned()));
        // What has panicked may do so again as it is dropped.
        std::mem::forget(world);
    }
    let steps = operations.len();
    let (hash, counters) = (ctx.trace.hash(), ctx.tally.counters());
    Outcome { broken: ctx.judge.verdict(), hash, steps, counters, words: ctx.trace.words() }
}

fn act(world: &mut World, operations: &[Op]) {
    let ctx = world.ctx.clone();
    for (step, op) in operations.iter().enumerate() {
        ctx.judge.at(step);
        ctx.trace.number(step as u64);
        ctx.trace.tell(|| format!("{step}: {op:?} at {:?}", ctx.clock.at()));
        world.apply(*op);
        world.check();
        if !ctx.judge.is_content() {
            return;
        }
    }
    ctx.judge.at(operations.len());
    ctx.trace.tell(|| "faults stop".to_owned());
    world.come_to_rest();
}
