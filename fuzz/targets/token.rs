//! See `trunkline_fuzz::token`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(token);
