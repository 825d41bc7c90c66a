//! See `trunkline_fuzz::client_frame`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(client_frame);
