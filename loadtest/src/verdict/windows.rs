//! The rate kept: entries per window of ten seconds against the rate in force.

use std::time::Duration;

use serde::Serialize;

use super::{Calm, Course};
use crate::clock::Moment;

const WINDOW: Duration = Duration::from_secs(10);

/// With fewer entries due a share says nothing.
const ENOUGH: f64 = 20.0;

/// Entries within ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Its beginning.
    pub from: Moment,
    /// Entries in it.
    pub entries: usize,
    /// Entries the rate in force would have.
    pub due: f64,
    /// Whether it may be judged from below: no change, outage or cut near.
    pub calm: bool,
}

impl Window {
    /// How far it is off the rate, relative: -0.02 is two percent too few.
    pub fn off(&self) -> f64 {
        if self.due > 0.0 { self.entries as f64 / self.due - 1.0 } else { 0.0 }
    }
}

/// Whole windows of ten seconds between two moments.
pub fn windows(entries: &[Moment], course: &Course, calm: &Calm, from: Moment, to: Moment) -> Vec<Window> {
    let begins = std::iter::successors(Some(from), |begin| Some(*begin + WINDOW));
    let whole = begins.take_while(|begin| *begin + WINDOW <= to);
    whole
        .map(|begin| {
            let end = begin + WINDOW;
            let until = |moment| entries.partition_point(|entry| *entry < moment);
            Window {
                from: begin,
                entries: until(end) - until(begin),
                due: course.due_between(begin, end),
                calm: calm.holds(begin, end),
            }
        })
        .collect()
}

/// Entries after the first as a share of what the rate in force had due until the last.
pub fn rate_share(entries: &[Moment], course: &Course) -> Option<f64> {
    let (first, last) = (*entries.first()?, *entries.last()?);
    let due = course.due_between(first, last);
    (due > 0.0).then(|| (entries.len() - 1) as f64 / due)
}

/// Entries between two moments as a share of what the rate in force had due; `None` where that is too few to say.
pub fn share_between(entries: &[Moment], course: &Course, from: Moment, to: Moment) -> Option<f64> {
    let until = |moment| entries.partition_point(|entry| *entry < moment);
    let due = course.due_between(from, to);
    (due >= ENOUGH && from < to).then(|| until(to).saturating_sub(until(from)) as f64 / due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;

    fn at(seconds: f64) -> Moment {
        Moment((seconds * 1e6) as u64)
    }

    #[test]
    fn windows_are_whole_and_hold_what_falls_into_them() {
        let entries: Vec<Moment> = (0..350).map(|n| at(f64::from(n) * 0.1)).collect();
        let mut calm = Calm::default();
        calm.disturb(at(21.0), at(22.0));
        let all = windows(&entries, &Course::new(Rate::per_second(10.0), &[]), &calm, at(0.0), at(35.0));
        assert_eq!(
            all.iter().map(|window| (window.entries, window.calm)).collect::<Vec<_>>(),
            [(100, true), (100, true), (100, false)]
        );
        assert!(all.iter().all(|window| window.off().abs() < 1e-9));
    }

    #[test]
    fn the_share_counts_intervals() {
        let entries: Vec<Moment> = (0..11).map(|n| at(f64::from(n) * 10.0)).collect();
        let share = rate_share(&entries, &Course::new(Rate::per_second(0.1), &[]));
        assert!((share.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(rate_share(&[], &Course::new(Rate::per_second(0.1), &[])), None);
    }

    #[test]
    fn the_share_between_two_moments_counts_gaps_at_both_ends() {
        let entries: Vec<Moment> = (0..100).map(|n| at(20.0 + f64::from(n) * 0.1)).collect();
        let share = |from, to| share_between(&entries, &Course::new(Rate::per_second(10.0), &[]), at(from), at(to));
        assert!(
            (share(20.0, 30.0).unwrap() - 1.0).abs() < 1e-9 && (share(10.0, 40.0).unwrap() - 1.0 / 3.0).abs() < 0.01
        );
        assert_eq!((share(20.0, 21.0), share(30.0, 20.0)), (None, None));
    }
}
