//! The upper bound: in no interval T more entries than rate x (T + a tick) + burst, checked exactly over all intervals.

use serde::Serialize;

use super::Course;
use crate::clock::Moment;

/// What the bound allows beyond rate x T.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// The proxy's tick, in seconds.
    pub tick: f64,
    /// What a fixed rate of entries may be late at the portal against when they were forwarded, in entries: 0 on a
    /// quiet machine.
    pub jitter: f64,
}

impl Allowance {
    /// At a rate per second: rate x tick + max(1 + rate x tick, a quarter of a second's worth).
    fn at(&self, rate: f64) -> f64 {
        let burst = (1.0 + rate * self.tick).max(rate * 0.25);
        rate * self.tick + burst + self.jitter
    }
}

/// The interval that comes nearest to the bound, or exceeds it most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Excess {
    /// Entries beyond the bound; negative while it holds.
    pub by: f64,
    /// The first entry of the interval.
    pub from: Moment,
    /// The last entry of the interval.
    pub to: Moment,
    /// Entries in it, both ends included.
    pub entries: usize,
}

/// A position in the entries and how far they are ahead of the rate there.
#[derive(Clone, Copy)]
struct Lead {
    position: usize,
    at: Moment,
    ahead: f64,
}

/// Differences below this are the arithmetic's; among equals the shortest interval is shown.
const SAME: f64 = 1e-6;

/// The worst of all intervals between two entries (which must be in order of time).
///
/// With R(t) the admissions due until t, the entries i..=j exceed the bound by (j + 1 - R(t_j)) - (i - R(t_i)) less the
/// allowance of the fastest rate touched. Within a stretch of constant rate that allowance is constant: so one pass
/// with the smallest i - R(t_i) so far for every stretch finds the worst pair among all.
pub fn worst_excess(entries: &[Moment], course: &Course, allowance: Allowance) -> Option<Excess> {
    let rates = course.rates();
    let mut lowest: Vec<Option<Lead>> = vec![None; rates.len()];
    let mut worst: Option<Excess> = None;
    for (position, at) in entries.iter().copied().enumerate() {
        let here = Lead { position, at, ahead: position as f64 - course.due_until(at) };
        let stretch = course.stretch(at);
        if let Some(low) = lowest.get_mut(stretch)
            && low.is_none_or(|low| here.ahead < low.ahead + SAME)
        {
            *low = Some(here);
        }
        let mut fastest: f64 = 0.0;
        for (rate, low) in rates.iter().zip(&lowest).take(stretch + 1).rev() {
            fastest = fastest.max(*rate);
            let Some(low) = low else { continue };
            let by = here.ahead + 1.0 - low.ahead - allowance.at(fastest);
            if worst.is_none_or(|worst| by > worst.by + SAME) {
                worst = Some(Excess { by, from: low.at, to: at, entries: position - low.position + 1 });
            }
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::units::Rate;

    const TICK: Allowance = Allowance { tick: 0.1, jitter: 0.0 };

    fn steady(rate: f64) -> Course {
        Course::new(Rate::per_second(rate), &[])
    }

    #[test]
    fn an_even_stream_stays_below() {
        let entries: Vec<Moment> = (0..1000).map(|n| Moment(n * 20_000)).collect();
        let worst = worst_excess(&entries, &steady(50.0), TICK).unwrap();
        assert!(worst.by < -16.0, "{worst:?}");
    }

    #[test]
    fn a_burst_is_found_where_it_is() {
        let mut entries: Vec<Moment> = (0..1000).map(|n| Moment(n * 20_000)).collect();
        entries.extend((0..30).map(|n| Moment(10_000_000 + n)));
        entries.sort_unstable();
        let worst = worst_excess(&entries, &steady(50.0), TICK).unwrap();
        assert!(worst.by > 12.0 && (30..=32).contains(&worst.entries), "{worst:?}");
    }

    #[test]
    fn a_stream_a_little_too_fast_is_found_over_a_long_interval() {
        let entries: Vec<Moment> = (0..2000).map(|n| Moment(n * 19_000)).collect();
        let worst = worst_excess(&entries, &steady(50.0), TICK).unwrap();
        assert!(worst.by > 50.0 && worst.entries == 2000, "{worst:?}");
    }

    #[test]
    fn one_pass_finds_what_all_pairs_find() {
        let mut chance = SmallRng::seed_from_u64(3);
        let changes = [(Moment(2_000_000), Rate::per_second(5.0)), (Moment(5_000_000), Rate::per_second(20.0))];
        let course = Course::new(Rate::per_second(50.0), &changes);
        for _ in 0..50 {
            let mut entries: Vec<Moment> = (0..120).map(|_| Moment(chance.random_range(0..8_000_000))).collect();
            entries.sort_unstable();
            let found = worst_excess(&entries, &course, TICK).unwrap();
            assert!((found.by - by_all_pairs(&entries, &course)).abs() < 1e-4);
        }
    }

    fn by_all_pairs(entries: &[Moment], course: &Course) -> f64 {
        let mut worst = f64::NEG_INFINITY;
        for (i, from) in entries.iter().enumerate() {
            for (j, to) in entries.iter().enumerate().skip(i) {
                let touched = course.stretch(*from)..=course.stretch(*to);
                let fastest = course.rates()[touched].iter().copied().fold(0.0, f64::max);
                let bound = course.due_between(*from, *to) + TICK.at(fastest);
                worst = worst.max((j - i + 1) as f64 - bound);
            }
        }
        worst
    }
}
