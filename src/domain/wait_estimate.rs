//! How long a visitor will probably wait, as a range that can be kept: from how fast those ahead disappear.
//!
//! The slow end takes it that nobody ahead gives up, the fast end that people go on leaving as they do now. To both
//! comes what chance adds. It is an estimate for people to read, so floating point is good enough here.

use std::time::Duration;

/// How a lane moved lately: measured over a minute or so, and only since the rate in force last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Movement {
    /// Length of the measurement; zero when the line has only begun.
    pub over: Duration,
    /// Visitors called in that time.
    pub called: u64,
    /// Visitors who went away uncalled in that time.
    pub gave_up: u64,
    /// Visitors present and uncalled, on average over that time.
    pub present: f64,
    /// Entries per second that this lane can have now; zero when nothing can enter.
    pub rate: f64,
}

/// A wait between its tenth and its ninetieth percentile; `low` is never above `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitRange {
    /// Nine visitors in ten wait at least this long.
    pub low: Duration,
    /// Nine visitors in ten wait no longer.
    pub high: Duration,
}

/// The quantile of the normal distribution that leaves a tenth on one side.
const TENTH: f64 = 1.28;
/// For how many seconds of measurement the rate in force counts: it steers a young line, a measured minute outweighs it.
const PRIOR_SECONDS: f64 = 10.0;
/// However well the past was measured, the future differs from it by this much.
const LEAST_DOUBT: f64 = 0.05;
/// So many calls should have come, and none came: the line stands still, whatever the rate says.
const CALLS_MISSED: f64 = 5.0;
/// No estimate is longer; it keeps sums of time finite.
const LONGEST: f64 = 30.0 * 24.0 * 3600.0;

/// The wait of a visitor with `ahead` present visitors before them; `None` when nothing moves or can move.
pub fn wait_estimate(movement: &Movement, ahead: u64) -> Option<WaitRange> {
    let pace = Pace::of(movement)?;
    let ahead = ahead as f64;
    let chance = TENTH * ahead.sqrt();
    let low = pace.seconds_if_they_go_on_leaving((ahead - chance).max(0.0)) / (1.0 + pace.doubt);
    let high = pace.seconds_if_all_stay(ahead + chance) * (1.0 + pace.doubt);
    Some(WaitRange { low: seconds(low.min(high)), high: seconds(high) })
}

/// What a [`Movement`] says about the seconds to come.
struct Pace {
    /// Calls per second; above zero.
    calls: f64,
    /// The part of those present that gives up each second.
    leaving: f64,
    /// By which factor the pace may be wrong, beyond one.
    doubt: f64,
}

impl Pace {
    fn of(movement: &Movement) -> Option<Pace> {
        let over = movement.over.as_secs_f64();
        let usable = movement.rate.is_finite() && movement.rate > 0.0;
        if !usable || (movement.called == 0 && movement.rate * over >= CALLS_MISSED) {
            return None;
        }
        let weight = movement.called as f64 + movement.rate * PRIOR_SECONDS;
        let calls = weight / (over + PRIOR_SECONDS);
        let doubt = (TENTH / (weight + 1.0).sqrt()).max(LEAST_DOUBT);
        Some(Pace { calls, leaving: leaving(movement, over), doubt })
    }

    /// Everybody ahead has to be called.
    fn seconds_if_all_stay(&self, ahead: f64) -> f64 {
        ahead / self.calls
    }

    /// Solves `d ahead / dt = -calls - leaving x ahead` for the time at which nobody is ahead.
    fn seconds_if_they_go_on_leaving(&self, ahead: f64) -> f64 {
        if self.leaving < 1e-9 {
            return self.seconds_if_all_stay(ahead);
        }
        (self.leaving * ahead / self.calls).ln_1p() / self.leaving
    }
}

fn leaving(movement: &Movement, over: f64) -> f64 {
    let visitor_seconds = movement.present * (over + PRIOR_SECONDS);
    if visitor_seconds.is_finite() && visitor_seconds >= 1.0 { movement.gave_up as f64 / visitor_seconds } else { 0.0 }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minute(called: u64, gave_up: u64, present: f64, rate: f64) -> Movement {
        Movement { over: Duration::from_secs(60), called, gave_up, present, rate }
    }

    fn wait(movement: &Movement, ahead: u64) -> (u64, u64) {
        wait_estimate(movement, ahead).map(|wait| (wait.low.as_secs(), wait.high.as_secs())).expect("a moving line")
    }

    #[test]
    fn a_steady_line_is_ahead_divided_by_pace() {
        let (low, high) = wait(&minute(6000, 0, 30_000.0, 100.0), 30_000);
        assert!((280..300).contains(&low), "{low}");
        assert!((300..325).contains(&high), "{high}");
    }

    #[test]
    fn leavers_shorten_the_fast_end_only() {
        let staying = wait(&minute(3000, 0, 20_000.0, 50.0), 20_000);
        let leaving = wait(&minute(3000, 1500, 20_000.0, 50.0), 20_000);
        assert!(leaving.0 < staying.0);
        assert_eq!(leaving.1, staying.1);
    }

    #[test]
    fn a_line_that_has_only_begun_goes_by_its_rate() {
        let begun = Movement { rate: 10.0, ..Movement::default() };
        let (low, high) = wait(&begun, 600);
        assert!(low < 60 && 60 < high, "{low} to {high}");
    }

    #[test]
    fn a_line_that_stands_has_no_estimate() {
        assert_eq!(wait_estimate(&minute(0, 3, 100.0, 10.0), 5), None);
        assert_eq!(wait_estimate(&minute(600, 0, 100.0, 0.0), 5), None);
        assert_eq!(wait_estimate(&Movement::default(), 5), None);
    }

    #[test]
    fn a_very_slow_line_is_not_taken_for_a_standing_one() {
        assert!(wait_estimate(&minute(0, 0, 5.0, 1.0 / 60.0), 5).is_some());
    }

    proptest! {
        #[test]
        fn is_a_finite_range_that_grows_with_ahead(
            over in 0u64..600, called in 0u64..1_000_000, gave_up in 0u64..1_000_000,
            present in 0.0f64..1e8, rate in prop_oneof![Just(0.0), 1e-4..1e6, Just(f64::NAN), Just(f64::INFINITY)],
            ahead in 0u64..100_000_000, further in 0u64..1_000_000,
        ) {
            let movement = Movement { over: Duration::from_secs(over), called, gave_up, present, rate };
            let near = wait_estimate(&movement, ahead);
            let far = wait_estimate(&movement, ahead + further);
            prop_assert_eq!(near.is_some(), far.is_some());
            if let (Some(near), Some(far)) = (near, far) {
                prop_assert!(near.low <= near.high && far.low <= far.high);
                prop_assert!(near.low <= far.low && near.high <= far.high);
                prop_assert!(far.high.as_secs_f64() <= LONGEST);
            }
        }
    }
}
