//! See `trunkline_fuzz::deflate`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(deflate);
