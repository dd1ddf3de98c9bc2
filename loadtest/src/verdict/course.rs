//! The admission rate in force over time, and when it may not be judged from below.

use std::time::Duration;

use crate::clock::Moment;
use crate::units::Rate;

/// A rate from some moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    from: Moment,
    rate: f64,
}

/// The admission rate in force over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    steps: Vec<Step>,
}

impl Course {
    /// `first` from the beginning on, then each of `changes` from its moment on, in order.
    pub fn new(first: Rate, changes: &[(Moment, Rate)]) -> Course {
        let begin = Step { from: Moment(0), rate: first.in_seconds() };
        let later = changes.iter().map(|(from, rate)| Step { from: *from, rate: rate.in_seconds() });
        Course { steps: std::iter::once(begin).chain(later).collect() }
    }

    /// The most that may be in force when a change takes up to `reaction` to take effect: raises at once, cuts late.
    pub fn at_most(&self, reaction: Duration) -> Course {
        let mut before = 0.0;
        let ends = self.steps.iter().skip(1).map(|step| step.from).chain([Moment::NEVER]);
        let steps = self.steps.iter().zip(ends).map(|(step, end)| {
            let late = if step.rate < before { reaction } else { Duration::ZERO };
            before = step.rate;
            Step { from: (step.from + late).min(end), rate: step.rate }
        });
        Course { steps: steps.collect() }
    }

    /// The rate in force, per second.
    pub fn at(&self, moment: Moment) -> f64 {
        self.steps.get(self.stretch(moment)).map_or(0.0, |step| step.rate)
    }

    /// The number of the stretch of constant rate in which `moment` lies.
    pub fn stretch(&self, moment: Moment) -> usize {
        self.steps.partition_point(|step| step.from <= moment).saturating_sub(1)
    }

    /// The rates of the stretches, per second.
    pub fn rates(&self) -> Vec<f64> {
        self.steps.iter().map(|step| step.rate).collect()
    }

    /// Admissions due from the beginning to `moment`.
    pub fn due_until(&self, moment: Moment) -> f64 {
        let ends = self.steps.iter().skip(1).map(|step| step.from).chain([Moment::NEVER]);
        let stretches = self.steps.iter().zip(ends).take_while(|(step, _)| step.from < moment);
        stretches.map(|(step, end)| step.rate * end.min(moment).since(step.from).as_secs_f64()).sum()
    }

    /// Admissions due between two moments.
    pub fn due_between(&self, from: Moment, to: Moment) -> f64 {
        self.due_until(to) - self.due_until(from)
    }
}

/// When the rate may not be judged from below: around changes, outages and cuts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calm {
    disturbed: Vec<(Moment, Moment)>,
}

impl Calm {
    /// Adds a disturbance.
    pub fn disturb(&mut self, from: Moment, to: Moment) {
        self.disturbed.push((from, to));
    }

    /// Whether nothing disturbs between the two.
    pub fn holds(&self, from: Moment, to: Moment) -> bool {
        self.disturbed.iter().all(|(begin, end)| to <= *begin || from >= *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000)
    }

    fn course() -> Course {
        Course::new(Rate::per_second(200.0), &[(at(10), Rate::per_second(20.0)), (at(20), Rate::per_second(100.0))])
    }

    #[test]
    fn the_rate_in_force_follows_the_changes() {
        assert_eq!([at(0), at(10), at(19), at(20)].map(|moment| course().at(moment)), [200.0, 20.0, 20.0, 100.0]);
        assert!((course().due_between(at(5), at(25)) - (5.0 * 200.0 + 10.0 * 20.0 + 5.0 * 100.0)).abs() < 1e-6);
    }

    #[test]
    fn cuts_take_effect_late_and_raises_at_once() {
        let most = course().at_most(Duration::from_secs(1));
        assert_eq!([at(10), at(11), at(20)].map(|moment| most.at(moment)), [200.0, 20.0, 100.0]);
    }

    #[test]
    fn calm_is_disturbed_by_overlap_only() {
        let mut calm = Calm::default();
        calm.disturb(at(10), at(20));
        assert!(calm.holds(at(0), at(10)) && calm.holds(at(20), at(30)));
        assert!(!calm.holds(at(5), at(11)) && !calm.holds(at(19), at(25)) && !calm.holds(at(12), at(13)));
    }
}
