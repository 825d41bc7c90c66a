//! See `trunkline_fuzz::head`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(head);
