//! Letting in fewer visitors while the portal is slow: a rule that finds the rate at which all but one in twenty answers
//! come within the time that the operator wants.
//!
//! It is a bounded proportional-integral rule on the logarithm of the rate. What it looks at is `1 - target / p95`: that
//! grows with the load almost as a straight line where waiting for a busy portal is what takes the time, while the time
//! itself grows without bounds. Visitors stay for minutes, so the portal answers to a changed rate only after minutes;
//! the rule is so slow that it does not overtake it (see the tests: visits from one second to twenty minutes, a portal
//! of which a tenth or half of the time wanted is used up without any load). It is an estimate, so floating point is good
//! enough here; what may enter is still counted in whole numbers by the budget.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::WHOLE;
use super::pulse::Recent;
use super::rate::Rate;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Never fewer than these.
    pub floor: Rate,
    /// The time within which all but one in twenty answers are to come.
    pub target: Duration,
}

/// How strongly the rule answers at once.
const AT_ONCE: f64 = 0.3;
/// Seconds in which it goes as far as that again and again.
const OVER_TIME: f64 = 600.0;
/// Above this it is urgent: the portal takes two and a half times as long as wanted.
const URGENT: f64 = 0.6;
/// How much more strongly the rule answers then.
const URGENTLY: f64 = 4.0;
/// Seconds over which the portal's time is smoothed.
const SMOOTHED: f64 = 20.0;
/// How fast the rate falls and rises at most, as part of itself per second.
const FALLS: f64 = 0.10;
const RISES: f64 = 0.02;

/// Seconds that are looked at, at least.
const SHORTEST: usize = 10;
/// Answers it takes to know anything.
const ENOUGH: u64 = 20;

/// Below this part of the rate it is said to be lowered, and from the other on no longer.
const LOWERED: f64 = 0.95;
const WHOLE_AGAIN: f64 = 0.99;

/// What the node that leads tells the others of where its rule stands, so that one rate is in force at all of them, and goes
/// on when another leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    learnt: f64,
    level: f64,
    is_lowered: bool,
}

/// Where the rule stands. Begins with the whole rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throttle {
    /// The logarithm of the part of the rate that lets in as many as the portal bears, as far as learnt.
    learnt: f64,
    /// The logarithm of the part in force.
    level: f64,
    /// The logarithm of the portal's time, smoothed.
    smoothed: Option<f64>,
    is_lowered: bool,
    /// The rate that the parts are parts of.
    rate: Option<Rate>,
}

impl Throttle {
    /// A second has passed in which visitors could enter at `rate`, and the portal answered like this.
    pub fn second(&mut self, wanted: &Adaptive, rate: Rate, recent: &Recent) {
        let p95 = recent.with_answers(ENOUGH, SHORTEST).and_then(|answers| answers.quantile(0.95));
        let error = match p95 {
            Some(p95) => self.error(wanted.target, p95),
            None => {
                // Nobody asks the portal anything: it is not too much for it.
                self.smoothed = None;
                -1.0
            }
        };
        let lowest = (wanted.floor.per_second() / rate.per_second()).ln().min(0.0);
        self.keep_to(rate);
        self.learnt = (self.learnt - error / OVER_TIME).clamp(lowest, 0.0);
        let wish = (self.learnt - AT_ONCE * error).clamp(lowest, 0.0);
        self.level = (self.level + (wish - self.level).clamp(-FALLS, RISES)).clamp(lowest, 0.0);
        let part = self.level.exp();
        self.is_lowered = part < LOWERED || (self.is_lowered && part < WHOLE_AGAIN);
    }

    /// Where it stands, for others.
    pub fn course(&self) -> Course {
        Course { learnt: self.learnt, level: self.level, is_lowered: self.is_lowered }
    }

    /// Stands where another's stands from now on. What is no number is none of theirs.
    pub fn follow(&mut self, course: Course) {
        if course.learnt.is_finite() && course.level.is_finite() {
            let Course { learnt, level, is_lowered } = course;
            (self.learnt, self.level, self.is_lowered) = (learnt.min(0.0), level.min(0.0), is_lowered);
        }
    }

    /// Another rate may be in force from now on: the portal bears as many as before.
    fn keep_to(&mut self, rate: Rate) {
        let before = self.rate.replace(rate).unwrap_or(rate);
        let shift = (before.per_second() / rate.per_second()).ln();
        if before != rate && self.is_lowered {
            (self.learnt, self.level) = (self.learnt + shift, self.level + shift);
        }
    }

    /// How much too slow the portal is: 0 is right, towards 1 ever slower, down to -1 at half of the time wanted and below.
    fn error(&mut self, target: Duration, p95: Duration) -> f64 {
        let now = p95.as_secs_f64().max(1e-6).ln();
        let smoothed = self.smoothed.map_or(now, |smoothed| smoothed + (now - smoothed) / SMOOTHED);
        self.smoothed = Some(smoothed);
        let error = (1.0 - target.as_secs_f64() / smoothed.exp()).max(-1.0);
        if error > URGENT { error * URGENTLY } else { error }
    }

    /// Thousandths of the rate in force; [`WHOLE`] while it is not lowered to speak of.
    pub fn permille(&self) -> u32 {
        if !self.is_lowered {
            return WHOLE;
        }
        // Rounded up, so that it is never below the floor; but not for what arithmetic adds to a whole number.
        ((self.level.exp() * f64::from(WHOLE) - 1e-6).ceil() as u32).clamp(1, WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pulse::{Counted, bucket_of};
    use super::super::rate::Per;
    use super::*;

    fn wanted() -> Adaptive {
        Adaptive { floor: per_second(20), target: Duration::from_millis(800) }
    }

    fn per_second(count: u32) -> Rate {
        Rate::new(count, Per::Second).unwrap()
    }

    /// A portal whose answers take longer the more visitors are inside, and visitors who stay for a while and ask for
    /// something once a second. Without load it answers within `idle` seconds; it bears `bears` visitors per second.
    struct Made {
        stay: f64,
        idle: f64,
        bears: f64,
        inside: f64,
        noise: u32,
        throttle: Throttle,
        recent: Recent,
    }

    impl Made {
        fn new(stay: f64, idle: f64, bears: f64) -> Made {
            let (throttle, recent) = (Throttle::default(), Recent::default());
            Made { stay, idle, bears, inside: 0.0, noise: 12_345, throttle, recent }
        }

        /// Noise of up to a tenth either way, always the same.
        fn noise(&mut self) -> f64 {
            self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0.9 + 0.2 * f64::from(self.noise >> 8) / f64::from(1 << 24)
        }

        /// A second in which so many could enter and so many want to; the rate in force after it, and the time of answers.
        fn second(&mut self, rate: Rate, wishes: f64) -> (f64, f64) {
            let in_force = rate.per_second() * f64::from(self.throttle.permille()) / f64::from(WHOLE);
            self.inside += in_force.min(wishes) - self.inside / self.stay;
            let load = (self.inside / (self.bears * self.stay)).min(0.98);
            let takes = (self.idle / (1.0 - load)).min(60.0);
            let mut counted = Counted::default();
            for _ in 0..20 {
                let noise = self.noise();
                counted.answers[bucket_of(Duration::from_secs_f64(takes * noise))] += 1;
            }
            self.recent.push(counted);
            self.throttle.second(&wanted(), rate, &self.recent);
            (rate.per_second() * f64::from(self.throttle.permille()) / f64::from(WHOLE), takes)
        }
    }

    /// The least and the most of the last half hour.
    fn range(rates: &[f64]) -> (f64, f64) {
        let last = &rates[rates.len() - 1800..];
        (last.iter().copied().fold(f64::MAX, f64::min), last.iter().copied().fold(0.0, f64::max))
    }

    #[test]
    fn it_finds_what_the_portal_bears_and_stays_there() {
        for stay in [1.0, 3.0, 10.0, 60.0, 300.0, 1200.0] {
            for idle in [0.04, 0.08, 0.2, 0.4] {
                let mut made = Made::new(stay, idle, 60.0);
                let day: Vec<(f64, f64)> = (0..9000).map(|_| made.second(per_second(100), 1000.0)).collect();
                let rates: Vec<f64> = day.iter().map(|(rate, _)| *rate).collect();
                let (least, most) = range(&rates);
                // With noise of a tenth, one answer in twenty takes a tenth longer.
                let right = 60.0 * (1.0 - idle * 1.09 / 0.8);
                assert!(most / least < 1.12, "stay {stay} idle {idle}: {least} to {most}");
                assert!((0.85..1.15).contains(&(least / right)), "stay {stay} idle {idle}: {least}, not {right}");
            }
        }
    }

    #[test]
    fn a_slow_hour_lowers_it_and_afterwards_it_comes_back() {
        for stay in [10.0, 300.0, 1200.0] {
            let mut made = Made::new(stay, 0.2, 150.0);
            let rate = per_second(100);
            for _ in 0..2000 {
                assert_eq!(made.second(rate, 1000.0).0, 100.0, "what the portal bears is left alone");
            }
            made.bears = 45.0;
            let slow: Vec<f64> = (0..3600).map(|_| made.second(rate, 1000.0).0).collect();
            assert!(slow[1800..].iter().all(|rate| *rate < 45.0), "stay {stay}");
            made.bears = 150.0;
            let after: Vec<f64> = (0..3600).map(|_| made.second(rate, 1000.0).0).collect();
            assert_eq!(after[3599], 100.0, "stay {stay}");
            let falls = after.windows(2).filter(|pair| pair[1] < pair[0] * 0.97).count();
            assert_eq!(falls, 0, "stay {stay}: up means up");
        }
    }

    #[test]
    fn a_day_like_the_first_of_april() {
        // A peak at nine, few at noon, a portal that bears half of the rate for an hour in the afternoon.
        let mut made = Made::new(240.0, 0.15, 70.0);
        let (mut swings, mut rising, mut turned) = (0, true, 100.0);
        for second in 0..8 * 3600 {
            let wishes = match second / 3600 {
                0..=2 => 300.0,
                3 => 10.0,
                _ => 150.0,
            };
            made.bears = if second / 3600 == 5 { 40.0 } else { 70.0 };
            let (rate, takes) = made.second(per_second(100), wishes);
            assert!((20.0..=100.0).contains(&rate));
            let settled = second % 3600 > 1800 && second / 3600 != 3;
            assert!(!settled || takes < 1.1, "second {second}: {takes} s at {rate}/s");
            if rising && rate < turned * 0.9 || !rising && rate > turned * 1.1 {
                (swings, rising, turned) = (swings + 1, !rising, rate);
            } else if rising == (rate > turned) {
                turned = rate;
            }
        }
        assert!(swings <= 12, "{swings} turns in eight hours");
    }

    /// Several nodes in front of one portal: each sees the answers to its own visitors, and hears of the others'.
    #[test]
    fn nodes_that_tell_one_another_what_they_see_go_on_as_one_also_when_another_leads() {
        const NODES: usize = 3;
        let (rate, mut made) = (per_second(100), Made::new(60.0, 0.2, 60.0));
        let mut alone = Made::new(60.0, 0.2, 60.0);
        let mut nodes = vec![(Throttle::default(), Recent::default()); NODES];
        let (mut leader, mut before) = (0, 100.0);
        for second in 0..9000 {
            // Nobody asks the node that leads at first; what it goes by is what others see.
            leader = if second >= 4000 { 1 } else { leader };
            made.throttle = nodes[leader].0;
            let _ = made.second(rate, 1000.0);
            let (right, _) = alone.second(rate, 1000.0);
            let seen = made.recent.over(1);
            let said: Vec<Vec<(u8, u32)>> = (0..NODES)
                .map(|node| seen.filled().filter(|(bucket, _)| usize::from(*bucket) % 2 + 1 == node).collect())
                .collect();
            for (throttle, recent) in &mut nodes {
                let mut sum = Counted::default();
                said.iter().flatten().for_each(|(bucket, answers)| sum.note(*bucket, *answers));
                recent.push(sum);
                throttle.second(&wanted(), rate, recent);
            }
            let course = nodes[leader].0.course();
            nodes.iter_mut().for_each(|(throttle, _)| throttle.follow(course));
            let in_force = nodes.iter().map(|(throttle, _)| throttle.permille()).collect::<Vec<_>>();
            assert!(in_force.iter().all(|permille| *permille == in_force[0]), "second {second}: {in_force:?}");
            let now = f64::from(in_force[0]) / 10.0;
            assert!((now / before).ln().abs() <= FALLS + 0.06, "second {second}: {before} to {now}");
            assert!((0.9..1.1).contains(&(now / right)), "second {second}: {now}, and {right} of a node alone");
            before = now;
        }
        assert!(before < 60.0, "{before}");
        // A node that was started anew goes on from there.
        let mut fresh = Throttle::default();
        fresh.follow(nodes[leader].0.course());
        assert_eq!(fresh.permille(), nodes[leader].0.permille());
        fresh.follow(Course { learnt: f64::NAN, ..Course::default() });
        assert_eq!(fresh.permille(), nodes[leader].0.permille());
    }

    #[test]
    fn nobody_asks_anything_and_it_goes_back_to_the_whole() {
        let mut made = Made::new(60.0, 0.4, 60.0);
        (0..3000).for_each(|_| {
            made.second(per_second(100), 1000.0);
        });
        assert!(made.throttle.permille() < 500);
        for _ in 0..1200 {
            made.recent.push(Counted::default());
            made.throttle.second(&wanted(), per_second(100), &made.recent);
        }
        assert_eq!(made.throttle.permille(), WHOLE);
    }

    #[test]
    fn the_rate_of_another_hour_does_not_change_what_the_portal_bears() {
        let mut made = Made::new(60.0, 0.2, 60.0);
        let mut last = 0.0;
        for (rate, seconds) in [(100, 6000), (400, 600), (100, 600)] {
            for second in 0..seconds {
                let (in_force, takes) = made.second(per_second(rate), 1000.0);
                assert!(
                    last == 0.0 || second > 0 || (0.9..1.1).contains(&(in_force / last)),
                    "{in_force} after {last}"
                );
                assert!(last == 0.0 || takes < 1.2, "{rate}/s, second {second}: {takes} s");
                last = if second + 1 == seconds { in_force } else { last };
            }
        }
        // A lower rate than what it bears is simply in force.
        assert_eq!(made.second(per_second(30), 1000.0).0, 30.0);
    }

    #[test]
    fn what_was_whole_is_whole_at_another_rate() {
        let mut made = Made::new(60.0, 0.1, 600.0);
        for rate in [20, 100, 40] {
            for _ in 0..60 {
                assert_eq!(made.second(per_second(rate), 1000.0).0, f64::from(rate));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_above_the_rate_nor_below_the_floor_nor_in_jumps(
            times in prop::collection::vec((0u64..60_000, 0u32..50), 1..400), rate in 1u32..1000,
        ) {
            let rate = per_second(rate);
            let (mut throttle, mut recent) = (Throttle::default(), Recent::default());
            let mut before = f64::from(WHOLE);
            for (millis, answers) in times {
                let mut counted = Counted::default();
                counted.answers[bucket_of(Duration::from_millis(millis))] = answers;
                recent.push(counted);
                throttle.second(&wanted(), rate, &recent);
                let permille = f64::from(throttle.permille());
                prop_assert!(permille <= f64::from(WHOLE));
                let in_force = rate.per_second() * permille / f64::from(WHOLE);
                prop_assert!(in_force >= wanted().floor.per_second().min(rate.per_second()) - 1e-9);
                // Where it begins to be said, it is lower by a twentieth already.
                prop_assert!(permille >= before * 0.85 - 1.0 && permille <= before * 1.06 + 1.0);
                before = permille;
            }
        }
    }
}
