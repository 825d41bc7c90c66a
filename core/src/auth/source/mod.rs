//! Where keys come from when they are kept elsewhere: when to fetch them, and what is known meanwhile.

mod breaker;
mod kids;
mod schedule;
#[cfg(test)]
mod tests;

pub use breaker::{Breaker, BreakerConfig, BreakerState};
pub use kids::Verdict;
pub use schedule::{Fetch, Health, Schedule, SourceConfig, SourceConfigError};
