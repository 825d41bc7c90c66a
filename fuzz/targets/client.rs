//! See `trunkline_fuzz::client`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(client);
