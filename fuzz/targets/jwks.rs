//! See `trunkline_fuzz::jwks`.
#![cfg_attr(fuzzing, no_main)]
trunkline_fuzz::target!(jwks);
