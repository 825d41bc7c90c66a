//! How long the machines take by themselves: `cargo bench -p trunkline-benches`, and a name after it for one of them.

use criterion::Criterion;
use trunkline_benches::MACHINES;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for machine in &MACHINES {
        let mut step = (machine.start)();
        criterion.bench_function(machine.name, |bencher| bencher.iter(&mut step));
    }
    criterion.final_summary();
}
