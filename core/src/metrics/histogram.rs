//! How often a value was how large.

/// Counts values by upper bounds, as a histogram of Prometheus does. `N` is the number of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Those up to each bound, and above the one before it.
    counts: [u64; N],
    /// All of them, those above the last bound included.
    count: u64,
    sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one. The bounds rise, and a value that is equal to one is below it.
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self { bounds, counts: [0; N], count: 0, sum: 0 }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: u64) {
        // Most values are small, and the bounds few.
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(N);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Each bound with how many values are not above it, rising.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut below = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            below += count;
            (*bound, below)
        })
    }

    /// How many values there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What they come to together.
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Adds what another one of the same bounds has counted.
    pub(super) fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [1, 10, 100];

    #[test]
    fn a_value_counts_for_every_bound_that_it_is_not_above() {
        let mut seen = Histogram::new(&BOUNDS);
        for value in [0, 1, 2, 10, 11, 100, 101, u64::MAX] {
            seen.observe(value);
        }
        assert_eq!(seen.cumulative().collect::<Vec<_>>(), [(1, 2), (10, 4), (100, 6)]);
        assert_eq!((seen.count(), seen.sum()), (8, u64::MAX));
    }

    #[test]
    fn two_come_to_what_one_would_have_counted() {
        let (mut one, mut other, mut both) =
            (Histogram::new(&BOUNDS), Histogram::new(&BOUNDS), Histogram::new(&BOUNDS));
        for value in 0..200 {
            if value % 3 == 0 {
                one.observe(value)
            } else {
                other.observe(value)
            }
            both.observe(value);
        }
        one.add(&other);
        assert_eq!(one, both);
    }
}
