//! A clock that several nodes agree on stands elsewhere: between which bounds lies what it shows.
//!
//! It is read at some moment between the question and the hearing of the answer. Whoever stood still in between learns
//! little from that answer, but what was known before still holds: the bounds of all answers are kept together.

use std::ops::RangeInclusive;

use super::time::Mono;

/// By how much the two clocks may drift apart: a thousandth, twice what a clock that is being corrected does.
const DRIFT: i128 = 1000;

/// Nanoseconds in a millisecond.
const MILLI: i128 = 1_000_000;

/// What an answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was asked for.
    pub asked: Mono,
    /// When it was heard.
    pub heard: Mono,
    /// What the clock showed in between, in milliseconds since 1970.
    pub shown_ms: u64,
}

/// By how many nanoseconds the clock is ahead of our own at least, and at most, as of the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FarClock {
    least: i128,
    most: i128,
    as_of: Mono,
}

impl FarClock {
    /// What is known by one answer.
    pub fn of(reading: Reading) -> FarClock {
        let shown = i128::from(reading.shown_ms) * MILLI;
        FarClock {
            least: shown - i128::from(reading.heard.0),
            // It shows whole milliseconds.
            most: shown + MILLI - i128::from(reading.asked.0),
            as_of: reading.heard,
        }
    }

    /// What is known by one more answer. One that contradicts what was known tells of a clock that was set, or of another
    /// one: it counts alone.
    #[must_use]
    pub fn and(self, reading: Reading) -> FarClock {
        let (known, new) = (self.with_drift(reading.heard), FarClock::of(reading));
        let both = FarClock { least: known.least.max(new.least), most: known.most.min(new.most), ..new };
        if both.least <= both.most { both } else { new }
    }

    /// What it shows at `now`, in milliseconds since 1970: from the earliest to the latest that is possible.
    pub fn at(self, now: Mono) -> RangeInclusive<u64> {
        let known = self.with_drift(now);
        let shows = |ahead: i128| u64::try_from((i128::from(now.0) + ahead) / MILLI).unwrap_or(0);
        shows(known.least)..=shows(known.most)
    }

    fn with_drift(self, now: Mono) -> FarClock {
        let apart = i128::try_from(now.since(self.as_of).as_nanos()).unwrap_or(i128::MAX / 4) / DRIFT;
        FarClock { least: self.least - apart, most: self.most + apart, as_of: now.max(self.as_of) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(asked_ms: u64, heard_ms: u64, shown_ms: u64) -> Reading {
        Reading { asked: Mono(asked_ms * 1_000_000), heard: Mono(heard_ms * 1_000_000), shown_ms }
    }

    fn at(clock: FarClock, ms: u64) -> (u64, u64) {
        clock.at(Mono(ms * 1_000_000)).into_inner()
    }

    #[test]
    fn an_answer_that_was_heard_late_may_be_as_old_as_its_question() {
        assert_eq!(at(FarClock::of(reading(100, 1100, 50_000)), 1100), (50_000, 51_001));
    }

    #[test]
    fn who_stood_still_goes_by_what_was_known_before() {
        let clock = FarClock::of(reading(100, 101, 50_000)).and(reading(200, 1200, 50_100));
        assert_eq!(at(clock, 1200), (51_097, 51_101), "the answer alone would say up to 51_101, and from 50_100 on");
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        let clock = FarClock::of(reading(100, 101, 50_000));
        for shown in [40_000, 60_000] {
            assert_eq!(at(clock.and(reading(200, 201, shown)), 201), (shown, shown + 2));
        }
    }

    proptest! {
        #[test]
        fn what_it_really_shows_lies_between_the_bounds(
            ahead in 0..1_000_000_u64,
            drift in -900..900_i64,
            answers in prop::collection::vec((0..3000_u64, 0..2000_u64, 0..2000_u64), 1..50),
            later in 0..10_000_u64,
        ) {
            // What it shows at a moment of ours, in milliseconds; it drifts by so many millionths.
            let shows = |ms: u64| (ahead + ms).saturating_add_signed(i64::try_from(ms).unwrap() * drift / 1_000_000);
            let mut now = 10_000;
            let mut clock: Option<FarClock> = None;
            for (pause, there, back) in answers {
                let answer = reading(now + pause, now + pause + there + back, shows(now + pause + there));
                now += pause + there + back;
                clock = Some(clock.map_or(FarClock::of(answer), |clock| clock.and(answer)));
                let (least, most) = at(clock.unwrap(), now);
                prop_assert!(least <= shows(now) + 1 && shows(now) <= most + 1, "{least} {} {most}", shows(now));
            }
            let (least, most) = at(clock.unwrap(), now + later);
            let real = shows(now + later);
            prop_assert!(least <= real + 1 && real <= most + 1, "{least} {real} {most}");
        }
    }
}
