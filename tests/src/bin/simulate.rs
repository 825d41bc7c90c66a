//! Runs the simulation for many seeds, or tells what happens in one: `cargo run --config .cargo/proof.toml -p trunkline-tests --bin
//! simulate -- --help`.

use std::io::Write as _;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::Parser;
use trunkline_tests::simulation::{Broken, Harvest, Op, farm, operations, paste, run, shrink, tell};

/// Runs whole servers with their clients, back ends and faults, each from a seed.
///
/// Status 0 when every rule held, 1 when one did not: then the shortest list of operations that breaks it is printed as a test.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Options {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first: u64,
    /// How many operations of each
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    steps: usize,
    /// How many seeds at once; as many as there are processors
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Runs this seed alone and tells what happens in it
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// How many runs the search for a short list may take
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    shrink: usize,
    /// Print what was counted even where all is well
    #[arg(long)]
    counters: bool,
}

/// From so many operations on everything there is must have happened.
const LARGE: u64 = 1_000_000;

fn main() -> ExitCode {
    let options = Options::parse();
    // Each panic is a finding with a seed; what it says stands there.
    std::panic::set_hook(Box::new(|_| {}));
    match options.seed {
        Some(seed) => one(&options, seed),
        None => many(&options),
    }
}

fn one(options: &Options, seed: u64) -> ExitCode {
    let list = operations(seed, options.steps);
    let outcome = tell(seed, &list);
    print!("{}", outcome.words);
    println!("trace {:016x}", outcome.hash);
    match outcome.broken {
        None => ExitCode::SUCCESS,
        Some(broken) => {
            explain(options, seed, &list, &broken);
            ExitCode::FAILURE
        }
    }
}

fn many(options: &Options) -> ExitCode {
    let threads = options.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let start = Instant::now();
    let harvest = farm(options.first, options.seeds, options.steps, threads, |at| progress(options, at, start));
    report(options, &harvest, start);
    if let Some((seed, broken)) = &harvest.failed {
        println!("seed {seed} fails: {broken}");
        explain(options, *seed, &operations(*seed, options.steps), broken);
        return ExitCode::FAILURE;
    }
    let missing = harvest.counters.missing();
    if harvest.steps >= LARGE && !missing.is_empty() {
        println!("never happened: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn progress(options: &Options, at: u64, start: Instant) {
    if (at + 1).is_multiple_of((options.seeds / 10).max(1)) {
        // Whoever does not read it misses nothing.
        let _ = writeln!(std::io::stderr(), "{} of {} seeds in {:.0?}", at + 1, options.seeds, start.elapsed());
    }
}

fn report(options: &Options, harvest: &Harvest, start: Instant) {
    let took = start.elapsed();
    println!("{} seeds, {} operations in {took:.1?}, traces {:016x}", harvest.seeds, harvest.steps, harvest.hash);
    if options.counters || harvest.steps >= LARGE {
        harvest.counters.each().iter().for_each(|(name, count)| println!("{count:>12} {name}"));
    }
    println!("evidence simulation all {} seeds", harvest.seeds);
    println!("evidence simulation all {} steps", harvest.steps);
}

/// Prints the shortest list as a test.
fn explain(options: &Options, seed: u64, list: &[Op], broken: &Broken) {
    let until = (broken.step + 1).min(list.len());
    let short = shrink(seed, &list[..until], broken.rule, options.shrink);
    let broken = run(seed, &short).broken.unwrap_or_else(|| broken.clone());
    println!("\n{}", paste(seed, &short, &broken));
}
