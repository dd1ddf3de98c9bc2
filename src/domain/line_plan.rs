//! A day before it comes: so many arrive, so many are let in; how long does the line get, how long does one wait in it, and when
//! is it empty? Waits come from the same model as those of a live line. Nobody is taken to give up, so that the plan errs on the
//! safe side.

use std::time::Duration;

use super::outlook::{Stretch, wait};
use super::wait_estimate::{Movement, WaitRange};

/// The line is worked out in steps of so many seconds.
const STEP: f64 = 5.0;

/// Visitors who arrive evenly in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrivals {
    /// When they begin, counted from the plan's beginning.
    pub from: Duration,
    /// When they end.
    pub until: Duration,
    /// Visitors per second.
    pub rate: f64,
}

/// A moment of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// When, counted from the plan's beginning.
    pub at: Duration,
    /// Visitors who arrive per second.
    pub arriving: f64,
    /// Visitors who can enter per second.
    pub rate: f64,
    /// Visitors in line.
    pub line: u64,
    /// The wait of whoever joins then; `None` when the plan does not reach so far.
    pub wait: Option<WaitRange>,
}

/// What becomes of a day.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Moments at even distances.
    pub moments: Vec<Moment>,
    /// The moment with the longest line.
    pub longest: Option<Moment>,
    /// The moment at which whoever joins waits longest.
    pub slowest: Option<Moment>,
    /// When the line is empty for good; `None` when it is not before the end, or there never was one.
    pub empty_at: Option<Duration>,
    /// Visitors who arrived in all.
    pub arrived: u64,
    /// Those of them who are still in line at the end.
    pub left: u64,
}

/// Works a day out. `stretches` follow one another from the plan's beginning; moments are shown each `shown` until the end.
pub fn plan(arrivals: &[Arrivals], stretches: &[Stretch], shown: Duration, until: Duration) -> Plan {
    let (mut line, mut arrived, mut empty_at) = (0.0_f64, 0.0_f64, None);
    let mut moments = Vec::new();
    let mut next_shown = 0.0;
    let mut now = 0.0;
    while now <= until.as_secs_f64() {
        let at = Duration::from_secs_f64(now);
        let (arriving, rate) = (arriving_at(arrivals, at), rate_at(stretches, at));
        if now >= next_shown {
            moments.push(moment(at, (arriving, rate), line, stretches));
            next_shown += shown.as_secs_f64().max(STEP);
        }
        let before = line;
        line = (line + (arriving - rate) * STEP).max(0.0);
        arrived += arriving * STEP;
        if before >= 1.0 && line < 1.0 {
            empty_at = Some(at + Duration::from_secs_f64(STEP));
        } else if line >= 1.0 {
            empty_at = None;
        }
        now += STEP;
    }
    let longest = moments.iter().copied().filter(|moment| moment.line > 0).max_by_key(|moment| moment.line);
    let wait = |moment: &Moment| moment.wait.map_or(Duration::MAX, |wait| wait.high);
    let slowest = moments.iter().copied().filter(|moment| moment.line > 0 && moment.arriving > 0.0).max_by_key(wait);
    Plan { moments, longest, slowest, empty_at, arrived: arrived.round() as u64, left: line.round() as u64 }
}

fn moment(at: Duration, (arriving, rate): (f64, f64), line: f64, stretches: &[Stretch]) -> Moment {
    let ahead = line.round() as u64;
    let to_come: Vec<Stretch> = stretches
        .iter()
        .filter(|stretch| stretch.until > at)
        .map(|stretch| Stretch { until: stretch.until.saturating_sub(at), ..*stretch })
        .collect();
    let no_line = WaitRange { low: Duration::ZERO, high: Duration::ZERO };
    let wait = if ahead == 0 && rate >= arriving {
        Some(no_line)
    } else {
        wait(&Movement { rate, ..Movement::default() }, ahead, &to_come)
    };
    Moment { at, arriving, rate, line: ahead, wait }
}

fn arriving_at(arrivals: &[Arrivals], at: Duration) -> f64 {
    arrivals.iter().filter(|some| some.from <= at && at < some.until).fold(0.0, |sum, some| sum + some.rate)
}

fn rate_at(stretches: &[Stretch], at: Duration) -> f64 {
    stretches.iter().find(|stretch| at < stretch.until).map_or(0.0, |stretch| stretch.rate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn hours(count: u32) -> Duration {
        HOUR * count
    }

    #[test]
    fn an_hour_of_twice_the_rate_is_worked_off_in_another() {
        let arrivals = [Arrivals { from: Duration::ZERO, until: HOUR, rate: 20.0 }];
        let plan = plan(&arrivals, &[Stretch { until: hours(24), rate: 10.0 }], HOUR / 4, hours(4));
        assert_eq!((plan.arrived, plan.left), (72_000, 0));
        let longest = plan.longest.unwrap();
        assert!((35_900..=36_000).contains(&longest.line), "{longest:?}");
        let wait = longest.wait.unwrap();
        assert!(wait.low < HOUR && HOUR < wait.high, "{wait:?}");
        let empty = plan.empty_at.unwrap();
        assert!(empty.abs_diff(hours(2)) < Duration::from_secs(30), "{empty:?}");
    }

    #[test]
    fn closed_hours_are_waited_through() {
        let arrivals = [Arrivals { from: Duration::ZERO, until: HOUR, rate: 1.0 }];
        let day = [Stretch { until: hours(2), rate: 0.0 }, Stretch { until: hours(10), rate: 10.0 }];
        let plan = plan(&arrivals, &day, HOUR / 4, hours(4));
        let first = plan.moments[1];
        assert!(first.wait.unwrap().low >= HOUR, "{first:?}");
        assert!(plan.empty_at.unwrap() > hours(2));
        assert_eq!(plan.moments[0].line, 0);
    }

    #[test]
    fn more_than_ever_enters_is_left_in_line() {
        let arrivals = [Arrivals { from: Duration::ZERO, until: hours(3), rate: 20.0 }];
        let plan = plan(&arrivals, &[Stretch { until: hours(2), rate: 10.0 }], HOUR, hours(3));
        assert_eq!((plan.empty_at, plan.left), (None, 216_000 - 72_000));
    }

    proptest! {
        #[test]
        fn nobody_is_lost(rate in 0.0..50.0f64, arriving in 0.0..50.0f64) {
            let arrivals = [Arrivals { from: Duration::ZERO, until: HOUR, rate: arriving }];
            let plan = plan(&arrivals, &[Stretch { until: hours(2), rate }], HOUR, hours(2));
            prop_assert!(plan.left <= plan.arrived + 1);
            let most = (rate * 7210.0) as u64;
            prop_assert!(plan.left + most + 2 >= plan.arrived, "{plan:?}");
        }
    }
}
