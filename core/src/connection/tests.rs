//! The machine alone, driven by bytes and a clock that tests turn.

mod carriers;
mod deadlines;
mod deflate;
mod fingerprint;
mod harness;
mod keepalive;
mod limits;
mod random;
mod refresh;
mod table;
