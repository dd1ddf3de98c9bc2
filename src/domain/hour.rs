//! Whether a published hour has come. What was published is wall time, and a clock can be set: a reading that is wrong for
//! a moment must not open or close a room, and a correction of minutes must not keep a crowd waiting.

use std::time::Duration;

use super::time::{Mono, Now, Unix};

/// A wall clock that was set forward is believed once it has stood by the hour for so long.
const STOOD_BY: Duration = Duration::from_secs(30);

/// So far ahead of the program's own steady time a wall clock is believed that was set forward.
const LARGEST_CORRECTION: Duration = Duration::from_secs(10 * 60);

/// Whether an hour has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hour {
    /// Not yet.
    ToCome,
    /// It has.
    Come,
}

/// Watches for one hour at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct HourWatch {
    /// The hour that the wall clock says is over, and since when it has said so without a break.
    said: Option<(Unix, Mono)>,
    /// The hour that has come. It does not come a second time when the clock is put back.
    come: Option<Unix>,
}

impl HourWatch {
    /// Looks at the clocks. Both the wall clock and the steady time say that the hour has come; or the wall clock was set
    /// forward by minutes, and has stood by what it says for a while.
    pub fn look(&mut self, at: Unix, now: Now) -> Hour {
        if self.come == Some(at) {
            return Hour::Come;
        }
        if now.wall < at {
            self.said = None;
            return Hour::ToCome;
        }
        let since = self.said.filter(|(hour, _)| *hour == at).map_or(now.mono, |(_, since)| since);
        self.said = Some((at, since));
        let is_corrected = now.mono.since(since) >= STOOD_BY && now.wall <= now.unix + LARGEST_CORRECTION;
        if now.unix < at && !is_corrected {
            return Hour::ToCome;
        }
        self.come = Some(at);
        Hour::Come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Unix = Unix(10_000_000);

    fn now(wall: u64, steady: u64, mono_seconds: u64) -> Now {
        Now { wall: Unix(wall), unix: Unix(steady), mono: Mono(mono_seconds * 1_000_000_000) }
    }

    #[test]
    fn an_hour_comes_when_both_clocks_say_so() {
        let mut watch = HourWatch::default();
        assert_eq!(watch.look(AT, now(9_999_999, 99_000_000, 0)), Hour::ToCome);
        assert_eq!(watch.look(AT, now(10_000_000, 9_999_999, 1)), Hour::ToCome);
        assert_eq!(watch.look(AT, now(10_000_001, 10_000_000, 2)), Hour::Come);
    }

    #[test]
    fn a_clock_that_leaps_for_a_moment_brings_no_hour() {
        let mut watch = HourWatch::default();
        for second in 0..200 {
            let wall = if second % 29 == 28 { 9_700_000 } else { 10_000_000 };
            assert_eq!(watch.look(AT, now(wall, 9_700_000 + second * 1000, second)), Hour::ToCome, "{second}");
        }
    }

    #[test]
    fn a_clock_that_was_set_forward_by_minutes_is_believed_soon() {
        let mut watch = HourWatch::default();
        let look = |watch: &mut HourWatch, second: u64| {
            watch.look(AT, now(10_000_000 + second * 1000, 9_400_000 + second * 1000, second))
        };
        assert_eq!((0..30).map(|second| look(&mut watch, second)).filter(|hour| *hour == Hour::Come).count(), 0);
        assert_eq!(look(&mut watch, 30), Hour::Come);
    }

    #[test]
    fn a_clock_that_was_set_forward_by_hours_waits_for_the_steady_time() {
        let mut watch = HourWatch::default();
        for second in 0..3750 {
            assert_eq!(watch.look(AT, now(17_200_000, 7_000_000 + second * 800, second)), Hour::ToCome, "{second}");
        }
        assert_eq!(watch.look(AT, now(17_200_000, 10_000_000, 4000)), Hour::Come);
    }

    #[test]
    fn an_hour_does_not_come_twice() {
        let mut watch = HourWatch::default();
        assert_eq!(watch.look(AT, now(10_000_000, 10_000_000, 0)), Hour::Come);
        assert_eq!(watch.look(AT, now(6_400_000, 10_000_100, 1)), Hour::Come, "the clock was put back");
        let later = Unix(12_000_000);
        assert_eq!(watch.look(later, now(10_000_200, 10_000_200, 2)), Hour::ToCome, "another hour was planned");
    }
}
