//! What the machines of the core cost by themselves: the work of a server without sockets, clocks and threads.
//!
//! The same operations are timed by `cargo bench -p trunkline-benches` and counted, instruction by instruction, by
//! `core/instructions.py`. All that could differ from run to run is fixed: the clock stands still, and what is drawn is counted up.

mod machines;
mod parsers;
mod scales;
#[path = "../../tests/support/mod.rs"]
mod support;

pub use machines::MACHINES;
pub use parsers::PARSERS;
pub use scales::SCALES;

/// One operation, to be repeated as often as it is wanted: what it needs is made, and what grows has grown.
pub type Step = Box<dyn FnMut()>;

/// An operation of the machines.
#[derive(Debug)]
pub struct Machine {
    /// Also its name in `core/instructions.json`.
    pub name: &'static str,
    /// How often it is done where instructions are counted.
    pub repeats: u32,
    /// Prepares it.
    pub start: fn() -> Step,
}

/// Something that is done for many.
#[derive(Debug)]
pub struct Scale {
    /// Of whom there are many.
    pub name: &'static str,
    /// Prepares it for so many.
    pub start: fn(usize) -> Step,
}

/// Something that strangers may send, of whatever size.
#[derive(Debug)]
pub struct Input {
    /// Which parser, and what is bad about it.
    pub name: &'static str,
    /// The smaller of the two sizes that are compared, in bytes; the other is twice that.
    pub bytes: usize,
    /// Prepares to read as many bytes of it, or a few less.
    pub start: fn(usize) -> Step,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_can_be_repeated() {
        for machine in &MACHINES {
            println!("{}", machine.name);
            let mut step = (machine.start)();
            step();
            step();
        }
    }

    #[test]
    fn every_input_can_be_read_at_both_sizes_and_again() {
        for input in PARSERS.iter().flat_map(|inputs| inputs.iter()) {
            println!("{}", input.name);
            for bytes in [input.bytes, 2 * input.bytes] {
                let mut step = (input.start)(bytes);
                step();
                step();
            }
        }
    }

    #[test]
    fn what_is_for_many_can_be_repeated() {
        for scale in &SCALES {
            println!("{}", scale.name);
            let mut step = (scale.start)(100);
            step();
            step();
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names = BTreeSet::new();
        let machines = MACHINES.iter().map(|machine| machine.name);
        let inputs = PARSERS.iter().flat_map(|inputs| inputs.iter()).map(|input| input.name);
        let scales = SCALES.iter().map(|scale| scale.name);
        assert!(machines.chain(inputs).chain(scales).all(|name| names.insert(name)));
    }
}
