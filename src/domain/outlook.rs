//! What a lane can expect of the hours to come: a wait that was estimated for a line that moves as it does now, spread over
//! the windows in which it moves faster, slower or not at all.
//!
//! It is an estimate for people to read, so floating point is good enough here.

use std::time::Duration;

use super::wait_estimate::{Movement, WaitRange, wait_estimate};

/// A stretch of time in which the lane's rate does not change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// When it ends, counted from now.
    pub until: Duration,
    /// Entries per second that the lane can have in it; zero outside its hours.
    pub rate: f64,
}

/// The wait of a visitor before whom so many are called in a lane that moved like `movement` lately and can have what
/// `stretches` say, which follow one another from now on. Outside the lane's hours the first rate to come counts.
pub fn wait(movement: &Movement, calls: u64, stretches: &[Stretch]) -> Option<WaitRange> {
    let now = stretches.first()?;
    if now.rate == 0.0 {
        let rate = stretches.iter().map(|stretch| stretch.rate).find(|rate| *rate > 0.0)?;
        let moving = wait_estimate(&Movement { rate, ..Movement::default() }, calls)?;
        return spread(moving, rate, stretches);
    }
    let moving = wait_estimate(movement, calls)?;
    if moving.high <= now.until {
        return Some(moving);
    }
    // A full room, or a ramp, lets in less than was planned for this hour; it is taken to go on like that.
    let as_now = |stretch: &Stretch| Stretch { rate: stretch.rate * movement.rate / now.rate, ..*stretch };
    spread(moving, movement.rate, &stretches.iter().map(as_now).collect::<Vec<_>>())
}

/// The wait that comes true when the lane's rates are those of `stretches`, which follow one another from now on. `moving` is
/// the wait in a line that moves at `rate` all the time. `None` when that is longer than the stretches last, or `rate` is
/// none.
fn spread(moving: WaitRange, rate: f64, stretches: &[Stretch]) -> Option<WaitRange> {
    let entries = |wait: Duration| wait.as_secs_f64() * rate;
    let low = when_entered(entries(moving.low), stretches)?;
    let high = when_entered(entries(moving.high), stretches)?;
    (rate > 0.0).then_some(WaitRange { low, high })
}

/// When the last of so many has entered.
fn when_entered(entries: f64, stretches: &[Stretch]) -> Option<Duration> {
    let (mut left, mut from) = (entries, Duration::ZERO);
    for Stretch { until, rate } in stretches {
        let lasts = until.saturating_sub(from).as_secs_f64();
        if *rate > 0.0 && left <= rate * lasts {
            return Some(from + Duration::from_secs_f64(left / rate));
        }
        left -= rate * lasts;
        from = *until;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn range(low: u64, high: u64) -> WaitRange {
        WaitRange { low: Duration::from_secs(low), high: Duration::from_secs(high) }
    }

    fn stretches(rates: &[f64]) -> Vec<Stretch> {
        (1..).zip(rates).map(|(hours, rate)| Stretch { until: HOUR * hours, rate: *rate }).collect()
    }

    #[test]
    fn within_the_open_hours_nothing_changes() {
        assert_eq!(spread(range(600, 1200), 10.0, &stretches(&[10.0, 0.0])), Some(range(600, 1200)));
    }

    /// A minute in which a lane moved at this rate.
    fn minute(rate: f64) -> Movement {
        let over = Duration::from_secs(60);
        Movement { over, called: (rate * 60.0) as u64, gave_up: 0, present: 5000.0, rate }
    }

    #[test]
    fn whoever_waits_for_the_hours_waits_until_they_begin_and_for_those_ahead() {
        let wait = wait(&Movement::default(), 6000, &stretches(&[0.0, 10.0])).unwrap();
        assert!((3600 + 400..=3600 + 600).contains(&wait.low.as_secs()), "{wait:?}");
        assert!((3600 + 600..=3600 + 800).contains(&wait.high.as_secs()), "{wait:?}");
        assert_eq!(super::wait(&Movement::default(), 1, &stretches(&[0.0, 0.0])), None);
    }

    #[test]
    fn a_full_room_is_taken_to_stay_full_beyond_the_hour() {
        let through = wait(&minute(1.0), 5400, &stretches(&[100.0, 100.0, 100.0])).unwrap();
        assert!(through.low.as_secs() > 4000, "not at the planned rate: {through:?}");
        let within = wait(&minute(1.0), 600, &stretches(&[100.0, 0.0])).unwrap();
        assert_eq!(Some(within), wait_estimate(&minute(1.0), 600));
    }

    #[test]
    fn closed_hours_are_added() {
        let day = stretches(&[10.0, 0.0, 10.0]);
        assert_eq!(spread(range(3000, 4000), 10.0, &day), Some(range(3000, 4000 + 3600)));
    }

    #[test]
    fn another_share_makes_the_rest_slower_or_faster() {
        let day = stretches(&[10.0, 5.0, 20.0]);
        assert_eq!(spread(range(4000, 5402), 10.0, &day), Some(range(3600 + 800, 7200 + 1)));
    }

    #[test]
    fn before_the_hours_begin_one_waits_for_them() {
        assert_eq!(spread(range(0, 60), 10.0, &stretches(&[0.0, 10.0])), Some(range(3600, 3660)));
    }

    #[test]
    fn what_the_plan_does_not_reach_is_not_known() {
        assert_eq!(spread(range(60, 90_000), 10.0, &stretches(&[10.0, 10.0])), None);
        assert_eq!(spread(range(60, 120), 0.0, &stretches(&[10.0])), None);
    }

    proptest! {
        #[test]
        fn more_to_wait_for_is_never_sooner(
            rates in prop::collection::vec(prop_oneof![Just(0.0), 0.001..1e4f64], 1..20),
            low in 0u64..1_000_000, more in 0u64..1_000_000, rate in 0.001..1e4f64,
        ) {
            if let Some(wait) = spread(range(low, low + more), rate, &stretches(&rates)) {
                prop_assert!(wait.low <= wait.high);
                prop_assert!(wait.high <= HOUR * u32::try_from(rates.len()).unwrap());
            }
        }
    }
}
