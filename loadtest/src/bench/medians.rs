//! Medians and spread of repeated measurements.

use serde::Serialize;

/// The median of some measurements, and the smallest and largest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Of any number of measurements; of none, zero.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first().copied(), sorted.last().copied()) else {
            return Spread::default();
        };
        let middle = |at: usize| sorted.get(at).copied().unwrap_or(least);
        let median = f64::midpoint(middle((sorted.len() - 1) / 2), middle(sorted.len() / 2));
        Spread { median, least, most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()).median, 2.5);
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }
}
