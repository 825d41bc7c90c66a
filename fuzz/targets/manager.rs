//! See `trunkline_fuzz::manager`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(manager);
