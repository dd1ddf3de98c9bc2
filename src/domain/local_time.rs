//! Local time: what the clock on the wall shows, and at which instants it does, on the nights of a clock change too.
//!
//! An hour that does not exist is skipped: whatever begins or ends in it does so when the clock jumps. An hour that occurs
//! twice belongs to both occurrences: what begins in it begins at the first, what ends in it ends at the last.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::time::Unix;

/// Minutes of a day.
pub const DAY: u32 = 24 * 60;

/// An hour and minute that a clock shows: `08:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime(u16);

/// Why a text is no local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time of day: write hours and minutes, such as \"08:00\"")]
pub struct NotALocalTime;

impl LocalTime {
    /// The beginning of the day.
    pub const MIDNIGHT: LocalTime = LocalTime(0);

    /// Minutes since midnight by the clock, 0 to 1439.
    pub fn minutes(self) -> u32 {
        u32::from(self.0)
    }

    fn on(self, date: Date) -> DateTime {
        let (hour, minute) = (self.0 / 60, self.0 % 60);
        let part = |number: u16| i8::try_from(number).unwrap_or(0);
        date.to_datetime(Time::new(part(hour), part(minute), 0, 0).unwrap_or(Time::MIN))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl FromStr for LocalTime {
    type Err = NotALocalTime;

    /// Reads `08:00`. `24:00` is the next day's midnight, and as a time of day the same as `00:00`.
    fn from_str(text: &str) -> Result<LocalTime, NotALocalTime> {
        let number = |digits: &str| {
            let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u16>().ok()).flatten().ok_or(NotALocalTime)
        };
        let (hour, minute) = text.split_once(':').ok_or(NotALocalTime)?;
        match (number(hour)?, number(minute)?) {
            (24, 0) => Ok(LocalTime::MIDNIGHT),
            (hour @ 0..=23, minute @ 0..=59) => Ok(LocalTime(hour * 60 + minute)),
            _ => Err(NotALocalTime),
        }
    }
}

/// The local date at an instant.
pub fn date_at(zone: &TimeZone, at: Unix) -> Date {
    zone.to_datetime(timestamp(at)).date()
}

/// The instant at which something begins that begins at this local time: the first time the clock shows it, or the clock
/// change that skips it.
pub fn beginning(zone: &TimeZone, date: Date, time: LocalTime) -> Unix {
    let local = time.on(date);
    unix(match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => instant(offset, local),
        AmbiguousOffset::Gap { before, .. } => change_before(zone, instant(before, local)),
        AmbiguousOffset::Fold { before, .. } => instant(before, local),
    })
}

/// The instant at which something ends that ends at this local time: the last time the clock shows it, or the clock change
/// that skips it. What ends where the repeated hour begins has no part in it, and ends at the first.
pub fn end(zone: &TimeZone, date: Date, time: LocalTime) -> Unix {
    let local = time.on(date);
    let AmbiguousOffset::Fold { before, after } = zone.to_ambiguous_timestamp(local).offset() else {
        return beginning(zone, date, time);
    };
    let last = instant(after, local);
    unix(if change_before(zone, last) == last { instant(before, local) } else { last })
}

/// Whether a span lies wholly in an hour that occurs twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repeated {
    /// Not all of it.
    No,
    /// Its beginning and its last minute do.
    Yes,
}

/// Whether the span lies wholly in an hour that occurs twice.
pub fn repetition(zone: &TimeZone, (first, from): (Date, LocalTime), (last, to): (Date, LocalTime)) -> Repeated {
    let twice = |local| matches!(zone.to_ambiguous_timestamp(local).offset(), AmbiguousOffset::Fold { .. });
    let last_minute = to.on(last).checked_sub(SignedDuration::from_mins(1)).unwrap_or(DateTime::MIN);
    // No clock was ever put back by more than an hour or two; a whole day is not one span of it.
    let short = last_minute.duration_since(from.on(first)) < SignedDuration::from_hours(3);
    if short && twice(from.on(first)) && twice(last_minute) { Repeated::Yes } else { Repeated::No }
}

/// The last clock change at or before an instant; the instant itself when there was none.
fn change_before(zone: &TimeZone, at: Timestamp) -> Timestamp {
    let just_after = Timestamp::from_nanosecond(at.as_nanosecond() + 1).unwrap_or(at);
    zone.preceding(just_after).next().map_or(at, |change| change.timestamp())
}

/// The instant at which a clock with this offset shows `local`; at the ends of the calendar, the end.
fn instant(offset: Offset, local: DateTime) -> Timestamp {
    let end_of_calendar = if local.year() > 1970 { Timestamp::MAX } else { Timestamp::MIN };
    offset.to_timestamp(local).unwrap_or(end_of_calendar)
}

/// The instant as the time library has it; far futures are its last one.
pub fn timestamp(at: Unix) -> Timestamp {
    i64::try_from(at.0).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or(Timestamp::MAX)
}

/// The instant as the rules have it; times before 1970 are its beginning.
pub fn unix(at: Timestamp) -> Unix {
    Unix(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn rome() -> TimeZone {
        TimeZone::get("Europe/Rome").unwrap()
    }

    fn at(time: &str) -> LocalTime {
        time.parse().unwrap()
    }

    fn utc(text: &str) -> Unix {
        unix(text.parse().unwrap())
    }

    #[test]
    fn reads_hours_and_minutes() {
        assert_eq!((at("00:00"), at("24:00")), (LocalTime::MIDNIGHT, LocalTime::MIDNIGHT));
        assert_eq!((at("08:05").minutes(), at("23:59").to_string().as_str()), (485, "23:59"));
        for wrong in ["", "8:00", "08", "08:60", "24:01", "25:00", "-1:00", "+8:00", "08:00:00", "08.00", "٠٨:00"] {
            assert_eq!(wrong.parse::<LocalTime>(), Err(NotALocalTime), "{wrong}");
        }
    }

    #[test]
    fn the_skipped_hour_is_the_change_itself() {
        let (zone, night) = (rome(), date(2026, 3, 29));
        for time in ["02:00", "02:30", "02:59", "03:00"] {
            assert_eq!(beginning(&zone, night, at(time)), utc("2026-03-29T01:00:00Z"), "{time}");
            assert_eq!(end(&zone, night, at(time)), utc("2026-03-29T01:00:00Z"), "{time}");
        }
        assert_eq!(beginning(&zone, night, at("01:59")), utc("2026-03-29T00:59:00Z"));
    }

    #[test]
    fn the_repeated_hour_begins_at_its_first_and_ends_at_its_last_occurrence() {
        let (zone, night) = (rome(), date(2026, 10, 25));
        assert_eq!(beginning(&zone, night, at("02:30")), utc("2026-10-25T00:30:00Z"));
        assert_eq!(end(&zone, night, at("02:30")), utc("2026-10-25T01:30:00Z"));
        assert_eq!(beginning(&zone, night, at("02:00")), utc("2026-10-25T00:00:00Z"));
        assert_eq!(end(&zone, night, at("02:00")), utc("2026-10-25T00:00:00Z"), "it has no part in the hour");
        assert_eq!(end(&zone, night, at("03:00")), utc("2026-10-25T02:00:00Z"));
        let repeated = |from, to| repetition(&zone, (night, at(from)), (night, at(to)));
        assert_eq!((repeated("02:00", "03:00"), repeated("02:10", "02:20")), (Repeated::Yes, Repeated::Yes));
        assert_eq!((repeated("01:59", "03:00"), repeated("02:10", "03:01")), (Repeated::No, Repeated::No));
    }

    #[test]
    fn half_an_hour_may_be_repeated() {
        let (zone, night) = (TimeZone::get("Australia/Lord_Howe").unwrap(), date(2026, 4, 5));
        assert_eq!(beginning(&zone, night, at("01:45")), utc("2026-04-04T14:45:00Z"));
        assert_eq!(end(&zone, night, at("01:45")), utc("2026-04-04T15:15:00Z"));
    }

    #[test]
    fn a_whole_day_may_be_skipped() {
        let zone = TimeZone::get("Pacific/Apia").unwrap();
        let skipped = date(2011, 12, 30);
        assert_eq!(beginning(&zone, skipped, at("08:00")), end(&zone, skipped, at("16:00")));
    }
}
