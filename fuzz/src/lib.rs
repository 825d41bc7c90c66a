//! What each fuzz target checks, as functions that the fuzzer, a replay and the tests call alike.
//!
//! A target takes any bytes and returns; a broken rule is a panic. `fuzz/README.md` says how to run them.

mod client;
mod codec;
mod deflate;
mod differential;
mod frames;
mod keys;
mod manager;
mod scenario;
mod session;
mod texts;

pub use client::client;
pub use codec::head;
pub use deflate::deflate;
pub use differential::{STRICTER, differential};
pub use frames::frames;
pub use keys::{jwks, token};
pub use manager::manager;
pub use scenario::scenario;
pub use session::session;
pub use texts::client_frame;

/// The body of a fuzz target: libFuzzer's entry in a fuzzing build, else a program that replays the files it is given.
#[macro_export]
macro_rules! target {
    ($target:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$target(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::replay($crate::$target)
        }
    };
}

/// Runs a target over the files named on the command line: a finding is looked at without a fuzzing build.
///
/// # Errors
/// When a file cannot be read.
pub fn replay(target: fn(&[u8])) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        println!("{}", path.display());
        target(&std::fs::read(path)?);
    }
    Ok(())
}
