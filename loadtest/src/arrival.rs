//! When visitors come.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use serde::Deserialize;

/// How arrivals are spread over their span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// Equally likely at any time.
    #[default]
    Uniform,
    /// From nobody at the beginning, evenly more, to most at the end.
    Rising,
    /// Evenly fewer, from most at the beginning to nobody at the end.
    Falling,
}

/// Draws when each of `visitors` comes within `over`, in order.
pub fn arrivals(visitors: u32, over: Duration, curve: Curve, chance: &mut SmallRng) -> Vec<Duration> {
    let mut instants: Vec<Duration> = (0..visitors).map(|_| over.mul_f64(curve.place(chance.random()))).collect();
    instants.sort_unstable();
    instants
}

impl Curve {
    /// The inverse of the curve's distribution function: an even draw from 0..1 becomes a place in the span.
    fn place(self, even: f64) -> f64 {
        match self {
            Curve::Uniform => even,
            Curve::Rising => even.sqrt(),
            Curve::Falling => 1.0 - even.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn first_half(curve: Curve) -> usize {
        let over = Duration::from_secs(60);
        let all = arrivals(10_000, over, curve, &mut SmallRng::seed_from_u64(1));
        assert_eq!(all.len(), 10_000);
        assert!(all.is_sorted() && all.iter().all(|at| *at <= over));
        all.iter().filter(|at| **at < over / 2).count()
    }

    #[test]
    fn curves_have_their_shape() {
        assert!((4_800..5_200).contains(&first_half(Curve::Uniform)));
        assert!((2_300..2_700).contains(&first_half(Curve::Rising)));
        assert!((7_300..7_700).contains(&first_half(Curve::Falling)));
    }
}
