//! See `trunkline_fuzz::scenario`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(scenario);
