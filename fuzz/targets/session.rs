//! See `trunkline_fuzz::session`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(session);
