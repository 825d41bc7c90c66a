//! See `trunkline_fuzz::frames`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(frames);
