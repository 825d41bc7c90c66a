//! Time as an input: the core is told what time it is and never asks.
//!
//! Two clocks that must not be mixed: [`Timestamp`] is monotonic and drives every deadline;
//! [`UnixTime`] is the calendar and is used only for tokens and for what people read.

use std::fmt;
use std::time::Duration;

/// A point on a monotonic clock, in microseconds since an origin that the runtime chooses.
///
/// ```
/// use std::time::Duration;
/// use trunkline_core::time::Timestamp;
/// let start = Timestamp::from_micros(5);
/// assert_eq!(start + Duration::from_micros(7), Timestamp::from_micros(12));
/// assert_eq!(start.saturating_since(Timestamp::MAX), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than every real point: "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The point `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time that passed since `earlier`; zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at [`Timestamp::MAX`].
impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(saturating_micros(by)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{}us", self.0)
    }
}

/// A point in calendar time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(u64);

impl UnixTime {
    /// Later than every real point.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `micros` microseconds after 1970.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The point `secs` seconds after 1970; saturates at [`UnixTime::MAX`].
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Seconds since 1970 with microseconds as the fraction: how times stand in frames.
    ///
    /// Exact for the next 250 years: an `f64` has 53 bits for a value of 51.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The time that passed since `earlier`; zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at [`UnixTime::MAX`].
impl std::ops::Add<Duration> for UnixTime {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(saturating_micros(by)))
    }
}

impl fmt::Debug for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Now {
    /// What deadlines are measured against.
    pub at: Timestamp,
    /// What tokens and frames are stamped with.
    pub unix: UnixTime,
}

/// Where a `Hub` reads the time; each runtime crate has the system's.
pub trait Clock: Send + Sync {
    /// Reads both clocks. The monotonic one never goes backward.
    fn now(&self) -> Now;
}

fn saturating_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO + Duration::MAX, Timestamp::MAX);
        assert_eq!(UnixTime::from_secs(u64::MAX), UnixTime::MAX);
        assert_eq!(UnixTime::from_secs(1).saturating_since(UnixTime::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn frames_carry_seconds() {
        assert_eq!(UnixTime::from_micros(1_500_000).as_secs_f64(), 1.5);
        assert_eq!(format!("{:?}", UnixTime::from_micros(1_500_000)), "unix:1.500000");
    }
}
