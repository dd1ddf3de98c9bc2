//! How fast a portal answers, and how often it fails: a histogram for each second, and what the last seconds come to.
//!
//! Buckets divide each octave into four equal parts, so that a quantile is right to a few per cent and counting costs
//! no logarithm. It is an estimate for rules of thumb, so floating point is good enough here.

use std::collections::VecDeque;
use std::time::Duration;

/// Buckets of a histogram: from 128 microseconds to 134 seconds. What is outside counts in the first or last.
pub const BUCKETS: usize = 80;

/// The first octave: 2 to the 7th microseconds.
const FIRST_OCTAVE: u32 = 7;

/// Parts of an octave.
const PARTS: u32 = 4;

/// Seconds that are remembered.
const REMEMBERED: usize = 120;

/// The bucket that an answer after this time counts in.
pub fn bucket_of(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1 << FIRST_OCTAVE);
    let octave = micros.ilog2();
    let part = (micros >> (octave - 2)) & 3;
    let bucket = u64::from((octave - FIRST_OCTAVE) * PARTS) + part;
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// Where a bucket begins, in seconds; the end of the last one for a number beyond it.
fn beginning_of(bucket: usize) -> f64 {
    let bucket = u32::try_from(bucket).unwrap_or(u32::MAX);
    let octave = f64::from(bucket / PARTS + FIRST_OCTAVE).exp2();
    octave * (1.0 + f64::from(bucket % PARTS) / f64::from(PARTS)) / 1e6
}

/// What happened in one second, or in several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Answers by bucket, those that never came within their time among them.
    pub answers: [u32; BUCKETS],
    /// Of these, answers that say that the portal is overloaded or away (502, 503, 504), and those that never came.
    pub errors: u32,
}

impl Default for Counted {
    fn default() -> Counted {
        Counted { answers: [0; BUCKETS], errors: 0 }
    }
}

impl Counted {
    /// How many answers there were.
    pub fn count(&self) -> u64 {
        self.answers.iter().map(|answers| u64::from(*answers)).sum()
    }

    /// The time within which this part (0 to 1) of the answers came; `None` without any.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let wanted = self.count() as f64 * part;
        let mut before = 0.0;
        for (bucket, answers) in self.answers.iter().enumerate().filter(|(_, answers)| **answers > 0) {
            let here = f64::from(*answers);
            if before + here >= wanted {
                let (from, to) = (beginning_of(bucket), beginning_of(bucket + 1));
                let inside = ((wanted - before) / here).clamp(0.0, 1.0);
                return Duration::try_from_secs_f64(from + (to - from) * inside).ok();
            }
            before += here;
        }
        None
    }

    /// Percent of the answers that were errors.
    pub fn errors_percent(&self) -> f64 {
        100.0 * f64::from(self.errors) / (self.count().max(1)) as f64
    }

    /// The buckets in which there are answers, and how many.
    pub fn filled(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        (0..).zip(self.answers).filter(|(_, answers)| *answers > 0)
    }

    /// Adds what somebody else counted in a bucket.
    pub fn note(&mut self, bucket: u8, answers: u32) {
        if let Some(sum) = self.answers.get_mut(usize::from(bucket)) {
            *sum = sum.saturating_add(answers);
        }
    }

    /// Adds what somebody else counted.
    pub fn add(&mut self, other: &Counted) {
        for (sum, answers) in self.answers.iter_mut().zip(other.answers) {
            *sum = sum.saturating_add(answers);
        }
        self.errors = self.errors.saturating_add(other.errors);
    }
}

/// The seconds of the last two minutes.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<Counted>);

impl Recent {
    /// Notes the second that has just ended.
    pub fn push(&mut self, second: Counted) {
        self.0.push_front(second);
        self.0.truncate(REMEMBERED);
    }

    /// The last so many seconds.
    pub fn over(&self, seconds: usize) -> Counted {
        let mut sum = Counted::default();
        self.0.iter().take(seconds).for_each(|second| sum.add(second));
        sum
    }

    /// The last seconds, at least `shortest`, and as many more as it takes to see `answers` answers; `None` when there
    /// were fewer in all that is remembered.
    pub fn with_answers(&self, answers: u64, shortest: usize) -> Option<Counted> {
        let mut sum = Counted::default();
        for (age, second) in self.0.iter().enumerate() {
            sum.add(second);
            if age + 1 >= shortest && sum.count() >= answers {
                return Some(sum);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(millis: impl IntoIterator<Item = u64>) -> Counted {
        let mut counted = Counted::default();
        millis.into_iter().for_each(|millis| counted.answers[bucket_of(Duration::from_millis(millis))] += 1);
        counted
    }

    #[test]
    fn of_a_hundred_answers_the_95th_counts() {
        let slowest_five = counted((0..95).map(|_| 100).chain((0..5).map(|_| 5000)));
        let p95 = slowest_five.quantile(0.95).unwrap().as_millis();
        assert!((90..=115).contains(&p95), "{p95}");
        let slowest_six = counted((0..94).map(|_| 100).chain((0..6).map(|_| 5000)));
        assert!(slowest_six.quantile(0.95).unwrap().as_millis() > 4000);
        assert_eq!(Counted::default().quantile(0.95), None);
    }

    #[test]
    fn as_many_seconds_are_looked_at_as_it_takes() {
        let mut recent = Recent::default();
        (0..60).for_each(|_| recent.push(counted([100])));
        assert_eq!(recent.with_answers(20, 10).unwrap().count(), 20);
        assert_eq!(recent.with_answers(5, 10).unwrap().count(), 10);
        assert_eq!(recent.with_answers(61, 10), None);
        assert_eq!(recent.over(7).count(), 7);
        (0..200).for_each(|_| recent.push(Counted::default()));
        assert_eq!(recent.over(1000).count(), 0, "what is long ago is forgotten");
    }

    proptest! {
        #[test]
        fn a_quantile_is_right_to_a_bucket(millis in 1u64..100_000) {
            let found = counted([millis; 9]).quantile(0.5).unwrap().as_secs_f64() * 1000.0;
            prop_assert!((found / millis as f64 - 1.0).abs() < 0.25, "{found} for {millis}");
        }

        #[test]
        fn slower_answers_never_count_in_a_lower_bucket(micros in 0u64..1_000_000_000, more in 0u64..1_000_000_000) {
            let bucket = |micros| bucket_of(Duration::from_micros(micros));
            prop_assert!(bucket(micros) <= bucket(micros + more));
            prop_assert!(bucket(micros + more) < BUCKETS);
        }
    }
}
