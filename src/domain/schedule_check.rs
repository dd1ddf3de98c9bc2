//! Whether windows make a schedule: none of a rank overlap, and no hour of the week is left without one.
//!
//! This is counted by the clock, as an operator reads the windows; clock changes neither make nor close a gap.

use jiff::SignedDuration;
use jiff::civil::{Date, Weekday};

use super::local_time::DAY;
use super::schedule::{ScheduleFault, Window};

const WEEK: usize = 7;
const WEEK_MINUTES: u32 = 7 * DAY;

/// So many hours are listed of one fault.
const LISTED: usize = 7;

/// Everything that keeps the windows from being a schedule.
pub(super) fn faults(windows: &[Window]) -> Vec<ScheduleFault> {
    let mut faults = overlaps(windows);
    if !windows.is_empty() {
        faults.extend(gap(windows));
    }
    faults
}

fn overlaps(windows: &[Window]) -> Vec<ScheduleFault> {
    let mut faults = Vec::new();
    for (second, later) in windows.iter().enumerate() {
        for (first, earlier) in windows.iter().enumerate().take(second) {
            if let Some(hours) = overlap(earlier, later) {
                faults.push(ScheduleFault::Overlap { first, second, hours });
            }
        }
    }
    faults
}

/// When two windows of the same rank are both open.
fn overlap(one: &Window, other: &Window) -> Option<String> {
    [0, -1, 1].into_iter().find_map(|days_later| {
        let begin = i64::from(days_later) * i64::from(DAY) + i64::from(other.from.minutes());
        let end = begin + i64::from(other.minutes());
        let from = begin.max(i64::from(one.from.minutes()));
        let to = end.min(i64::from(one.from.minutes() + one.minutes()));
        if from < to { common_days(one, other, days_later, from, to) } else { None }
    })
}

/// The days on which both begin, the other one `days_later`, with the hours from `from` to `to`, which count from the
/// beginning of the one's day.
fn common_days(one: &Window, other: &Window, days_later: i32, from: i64, to: i64) -> Option<String> {
    if let Some(date) = common_date(one, other, days_later) {
        let later = |days: i64| date.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(date);
        return Some(hours(from, to, |day| later(day).to_string()));
    }
    let weekdays = (0..WEEK).filter(|day| has(one, *day) && has(other, shift(*day, days_later)));
    let week: Vec<String> = weekdays.map(|day| of_weekday(day, from, to)).collect();
    match (week.is_empty(), one.days.is_every_day() && other.days.is_every_day()) {
        (false, _) => Some(listed(&week)),
        (true, true) => Some(of_every_day(from, to)),
        (true, false) => None,
    }
}

fn common_date(one: &Window, other: &Window, days_later: i32) -> Option<Date> {
    let back = SignedDuration::from_hours(24 * i64::from(days_later));
    let shifted = |date: Date| date.checked_sub(back).unwrap_or(date);
    let mut common = Vec::new();
    for (first, last) in one.days.dates() {
        for (other_first, other_last) in other.days.dates() {
            let begin = (*first).max(shifted(*other_first));
            let end = (*last).min(shifted(*other_last));
            common.extend((begin <= end).then_some(begin));
        }
    }
    common.into_iter().min()
}

fn has(window: &Window, weekday: usize) -> bool {
    window.days.weekdays() & 1 << weekday != 0
}

fn shift(weekday: usize, days: i32) -> usize {
    let shifted = i32::try_from(weekday).unwrap_or(0) + days;
    usize::try_from(shifted.rem_euclid(7)).unwrap_or(0)
}

/// The hours of the week in which no window is open that is of every day or of a weekday.
fn gap(windows: &[Window]) -> Option<ScheduleFault> {
    let mut covered = vec![false; WEEK * DAY as usize];
    for window in windows {
        for day in (0..WEEK).filter(|day| window.days.is_every_day() || has(window, *day)) {
            let begin = day * DAY as usize + window.from.minutes() as usize;
            for minute in begin..begin + window.minutes() as usize {
                if let Some(minute) = covered.get_mut(minute % (WEEK * DAY as usize)) {
                    *minute = true;
                }
            }
        }
    }
    let hours = uncovered(&covered)?;
    Some(ScheduleFault::Gap { hours })
}

fn uncovered(covered: &[bool]) -> Option<String> {
    let day = covered.get(..DAY as usize)?;
    if covered.chunks(DAY as usize).all(|other| other == day) {
        let runs = runs(day);
        let every_day: Vec<String> = runs.iter().map(|(from, to)| of_every_day(*from, *to)).collect();
        return (!every_day.is_empty()).then(|| listed(&every_day));
    }
    let runs = runs(covered);
    let week: Vec<String> = runs.iter().map(|(from, to)| of_weekday(0, *from, *to)).collect();
    (!week.is_empty()).then(|| listed(&week))
}

/// The runs of `false` in a circle; the last one may go beyond its end.
fn runs(covered: &[bool]) -> Vec<(i64, i64)> {
    let length = covered.len();
    let Some(first_covered) = covered.iter().position(|covered| *covered) else {
        return vec![(0, i64::try_from(length).unwrap_or(0))];
    };
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for minute in first_covered..first_covered + length {
        if covered.get(minute % length).copied().unwrap_or(true) {
            continue;
        }
        match runs.last_mut() {
            Some((_, to)) if *to == minute => *to += 1,
            _ => runs.push((minute, minute + 1)),
        }
    }
    let number = |minute: usize| i64::try_from(minute).unwrap_or(0);
    let mut runs: Vec<(i64, i64)> =
        runs.into_iter().map(|(from, to)| (number(from % length), number(from % length) + number(to - from))).collect();
    runs.sort_unstable();
    runs
}

fn listed(hours: &[String]) -> String {
    let shown = hours.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match hours.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more times"),
    }
}

fn of_every_day(from: i64, to: i64) -> String {
    let from_of_day = from.rem_euclid(i64::from(DAY));
    format!("every day {}-{}", clock(from_of_day), clock_of_end(from_of_day + to - from))
}

fn of_weekday(day: usize, from: i64, to: i64) -> String {
    let begin = i64::try_from(day).unwrap_or(0) * i64::from(DAY) + from;
    let begin = begin.rem_euclid(i64::from(WEEK_MINUTES));
    hours(begin, begin + to - from, |day| weekday(day).to_owned())
}

fn weekday(day: i64) -> &'static str {
    let offset = i8::try_from(day.rem_euclid(7)).unwrap_or(0);
    weekday_name(Weekday::from_monday_zero_offset(offset).unwrap_or(Weekday::Monday))
}

/// The weekday as the configuration writes it, with a capital.
pub fn weekday_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

/// `Sat 14:00-18:00`, or `Sat 22:00 to Sun 02:00`; minutes count from the beginning of day 0.
fn hours(from: i64, to: i64, name: impl Fn(i64) -> String) -> String {
    let day = i64::from(DAY);
    let (first, last) = (from.div_euclid(day), (to - 1).div_euclid(day));
    if first == last {
        return format!("{} {}-{}", name(first), clock(from), clock_of_end(to));
    }
    format!("{} {} to {} {}", name(first), clock(from), name(last), clock_of_end(to))
}

fn clock(minutes: i64) -> String {
    let minutes = minutes.rem_euclid(i64::from(DAY));
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The end of a day is its 24:00.
fn clock_of_end(minutes: i64) -> String {
    if minutes.rem_euclid(i64::from(DAY)) == 0 { "24:00".to_owned() } else { clock(minutes) }
}
