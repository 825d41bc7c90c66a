//! See `trunkline_fuzz::differential`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(differential);
