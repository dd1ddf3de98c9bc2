//! Windows: spans of local time that say who may enter, and in which shares.
//!
//! At every instant exactly one window holds. One that names the date goes before one that names the weekday, and that
//! one before one of every day; where the more special one is not open, the more general one holds. Windows of the same
//! rank must neither overlap nor, all together, leave an hour of the week without a window (`schedule_check`).
//!
//! A window belongs to the day on which it begins. On the night when an hour occurs twice, a window that begins in it opens
//! at the first occurrence and one that ends in it closes at the last. Where two of a rank would hold then, one that lies in
//! that hour wholly goes first, then one that lets somebody in, then the one that opened last.

use std::iter;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::local_time::{self, DAY, LocalTime, Repeated};
use super::names::ClassId;
use super::rate::Rate;
use super::schedule_check;
pub use super::shares::Borrow;
use super::time::Unix;

/// After so many days without a change there is none before a date that a window names: weeks repeat themselves.
const WEEK_AND_MORE: i32 = 9;

/// So far ahead it is looked for the next hours of a class.
const LOOKED_AHEAD: u64 = 400 * 24 * 3_600_000;

/// A window as it was configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The days on which it begins.
    pub days: Days,
    /// When it begins.
    pub from: LocalTime,
    /// When it ends: on the next day if that is not later than `from`. The same as `from` means a whole day.
    pub to: LocalTime,
    /// What holds while it is open.
    pub terms: WindowTerms,
}

/// What holds while a window is open.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowTerms {
    /// Whether it lets anybody in.
    pub access: Access,
    /// Weights of the classes; a class that is not listed has no share.
    pub shares: Vec<(ClassId, u32)>,
    /// Whether an idle class's share is lent to the others.
    pub borrow: Borrow,
    /// Classes whose share cannot be borrowed away.
    pub floors: Vec<ClassId>,
    /// Entries at the portal; `None`: as the room has it.
    pub rate: Option<Rate>,
    /// Seats; `None`: as the room has it.
    pub max_active_sessions: Option<u64>,
    /// Which of the room's window messages is shown; `None`: the room's own message.
    pub message: Option<usize>,
}

/// Whether a window lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nobody.
    Closed,
    /// Those with a share.
    Open,
}

impl WindowTerms {
    /// The class's weight; zero means that it waits.
    pub fn share(&self, class: ClassId) -> u32 {
        match self.access {
            Access::Open => self.shares.iter().find(|(of, _)| *of == class).map_or(0, |(_, share)| *share),
            Access::Closed => 0,
        }
    }
}

/// Days of the calendar on which something begins: weekdays, dates, both, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Days {
    /// One bit for each weekday, Monday lowest.
    weekdays: u8,
    dates: Vec<(Date, Date)>,
}

/// How special a window is on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    EveryDay,
    Weekday,
    Date,
}

impl Days {
    /// Every day.
    pub fn every_day() -> Days {
        Days::default()
    }

    /// The weekdays and the dates; every day when none is named.
    pub fn of(weekdays: &[Weekday], dates: &[RangeInclusive<Date>]) -> Days {
        let weekdays = weekdays.iter().fold(0, |bits, day| bits | 1 << day.to_monday_zero_offset());
        Days { weekdays, dates: dates.iter().map(|range| (*range.start(), *range.end())).collect() }
    }

    /// How special it is to begin on this date; `None` when it does not.
    pub(super) fn rank_on(&self, date: Date) -> Option<Rank> {
        if self.dates.iter().any(|(first, last)| (*first..=*last).contains(&date)) {
            return Some(Rank::Date);
        }
        if self.weekdays & 1 << date.weekday().to_monday_zero_offset() != 0 {
            return Some(Rank::Weekday);
        }
        self.is_every_day().then_some(Rank::EveryDay)
    }

    /// Whether neither weekdays nor dates are named.
    pub(super) fn is_every_day(&self) -> bool {
        self.weekdays == 0 && self.dates.is_empty()
    }

    /// One bit for each weekday that is named, Monday lowest.
    pub(super) fn weekdays(&self) -> u8 {
        self.weekdays
    }

    /// The dates that are named, as ranges with both ends.
    pub(super) fn dates(&self) -> &[(Date, Date)] {
        &self.dates
    }
}

impl Window {
    /// Its length by the clock, in minutes.
    pub(super) fn minutes(&self) -> u32 {
        match (self.to.minutes() + DAY - self.from.minutes()) % DAY {
            0 => DAY,
            minutes => minutes,
        }
    }
}

/// What keeps windows from being a schedule. Windows are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleFault {
    /// Two windows of the same rank are open at the same time.
    #[error("window {} and window {} are both open {hours}", .first + 1, .second + 1)]
    Overlap {
        /// The one.
        first: usize,
        /// The other.
        second: usize,
        /// When.
        hours: String,
    },
    /// No window is open.
    #[error("nobody is told who may enter {hours}")]
    Gap {
        /// When.
        hours: String,
    },
}

/// The windows of a room in its time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    zone: TimeZone,
    windows: Vec<Window>,
}

/// A span of time in which one window holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span<'s> {
    /// Its beginning.
    pub from: Unix,
    /// Its end, which does not belong to it.
    pub to: Unix,
    /// What holds; `None` when the room has no windows.
    pub terms: Option<&'s WindowTerms>,
}

/// When a class may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Whether it may now.
    pub now: OpenNow,
    /// When it may again; `None` when it may now, or not within 400 days.
    pub opens_at: Option<Unix>,
    /// When its present hours end, or else its next ones; `None` when they do not within 400 days.
    pub closes_at: Option<Unix>,
}

impl Hours {
    /// At any time.
    pub const ALWAYS: Hours = Hours { now: OpenNow::Open, opens_at: None, closes_at: None };
}

/// Whether a class may enter now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenNow {
    /// It has a share.
    Open,
    /// It has none.
    Closed,
}

/// A window on one of its days.
struct Occurrence {
    window: usize,
    from: Unix,
    to: Unix,
    /// Who goes first where the clock change makes several hold.
    precedence: (Rank, Repeated, Access),
}

impl Schedule {
    /// Puts windows together.
    ///
    /// # Errors
    /// Every [`ScheduleFault`]: windows of one rank that overlap, and hours of the week in which none is open.
    pub fn new(zone: TimeZone, windows: Vec<Window>) -> Result<Schedule, Vec<ScheduleFault>> {
        let faults = schedule_check::faults(&windows);
        if faults.is_empty() { Ok(Schedule { zone, windows }) } else { Err(faults) }
    }

    /// No windows: everybody may enter at any time.
    pub fn always() -> Schedule {
        Schedule { zone: TimeZone::UTC, windows: Vec::new() }
    }

    /// Where its clocks are.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// How many windows there are.
    pub fn window_count(&self) -> usize {
        self.windows.len()
    }

    /// The rates that windows have of their own.
    pub fn rates(&self) -> impl Iterator<Item = Rate> {
        self.windows.iter().filter_map(|window| window.terms.rate)
    }

    /// What holds now, `None` without windows, and when another window takes over, `None` when none does.
    pub fn at(&self, now: Unix) -> (Option<&WindowTerms>, Option<Unix>) {
        (self.held_at(now).and_then(|window| self.terms(window)), self.next_change(now))
    }

    /// When another window takes over; `None` when none does.
    pub fn next_change(&self, now: Unix) -> Option<Unix> {
        let present = self.held_at(now)?;
        let (mut at, mut looked_from) = (now, self.date_at(now));
        loop {
            let next = self.boundary_after(at)?;
            if self.held_at(next) != Some(present) {
                return Some(next);
            }
            at = next;
            let date = self.date_at(at);
            if (date - looked_from).get_days() > WEEK_AND_MORE {
                let day_before = self.next_named_date(date)?.yesterday().ok()?;
                looked_from = day_before.max(date);
                at = at.max(local_time::beginning(&self.zone, looked_from, LocalTime::MIDNIGHT));
            }
        }
    }

    /// When the class has a share. Looks 400 days ahead, which takes milliseconds where hours are rare: keep the
    /// answer until the next change.
    pub fn opens_for(&self, class: ClassId, now: Unix) -> Hours {
        let shares = || self.windows.iter().map(|window| window.terms.share(class));
        if shares().all(|share| share > 0) {
            return Hours::ALWAYS;
        }
        if shares().all(|share| share == 0) {
            return Hours { now: OpenNow::Closed, opens_at: None, closes_at: None };
        }
        let may_enter = |span: &Span<'_>| span.terms.is_some_and(|terms| terms.share(class) > 0);
        let mut spans = self.spans(now, Unix(now.0.saturating_add(LOOKED_AHEAD)));
        if spans.next().as_ref().is_some_and(may_enter) {
            let closes_at = spans.find(|span| !may_enter(span)).map(|span| span.from);
            return Hours { now: OpenNow::Open, opens_at: None, closes_at };
        }
        let opens_at = spans.find(may_enter).map(|span| span.from);
        let closes_at = spans.find(|span| !may_enter(span)).map(|span| span.from);
        Hours { now: OpenNow::Closed, opens_at, closes_at }
    }

    /// The longest time for which the class, which has hours at all, cannot enter; looks at a week, and at the dates that
    /// windows name, with a week before and after.
    pub fn longest_closure(&self, class: ClassId) -> Duration {
        let dates = || self.windows.iter().flat_map(|window| &window.days.dates);
        let first = dates().map(|(first, _)| *first).min().unwrap_or(Date::constant(2024, 1, 1));
        let last = dates().map(|(_, last)| *last).max().unwrap_or(first);
        let at = |date: Date, days: i32| {
            let date = date.saturating_add(SignedDuration::from_hours(i64::from(days) * 24));
            local_time::beginning(&self.zone, date, LocalTime::MIDNIGHT)
        };
        let (from, to) = (at(first, -WEEK_AND_MORE), at(last, WEEK_AND_MORE));
        let to = to.min(Unix(from.0.saturating_add(LOOKED_AHEAD)));
        let (mut longest, mut closed, mut ever_open) = (Duration::ZERO, Duration::ZERO, false);
        for span in self.spans(from, to) {
            let is_open = span.terms.is_none_or(|terms| terms.share(class) > 0);
            ever_open |= is_open;
            closed = if is_open { Duration::ZERO } else { closed + span.to.since(span.from) };
            longest = longest.max(closed);
        }
        if ever_open { longest } else { Duration::ZERO }
    }

    /// The spans of time from `from` to `to`, each as long as one window holds.
    pub fn spans(&self, from: Unix, to: Unix) -> impl Iterator<Item = Span<'_>> {
        let mut begin = Some(from);
        iter::from_fn(move || {
            let from = begin.filter(|from| *from < to)?;
            let (terms, until) = self.at(from);
            begin = until;
            Some(Span { from, to: until.map_or(to, |until| until.min(to)), terms })
        })
    }

    fn terms(&self, window: usize) -> Option<&WindowTerms> {
        self.windows.get(window).map(|window| &window.terms)
    }

    /// The window that holds at an instant.
    fn held_at(&self, at: Unix) -> Option<usize> {
        let open = self.occurrences_near(at).filter(|occurrence| occurrence.from <= at && at < occurrence.to);
        open.max_by_key(|occurrence| (occurrence.precedence, occurrence.from)).map(|occurrence| occurrence.window)
    }

    /// The next instant at which any window begins or ends.
    fn boundary_after(&self, at: Unix) -> Option<Unix> {
        let boundaries = self.occurrences_near(at).flat_map(|occurrence| [occurrence.from, occurrence.to]);
        boundaries.filter(|boundary| *boundary > at).min()
    }

    /// Every window on the days around an instant; more of them than can matter to it.
    fn occurrences_near(&self, at: Unix) -> impl Iterator<Item = Occurrence> {
        let today = self.date_at(at);
        let days = iter::successors(Some(today.yesterday().unwrap_or(today)), |day| day.tomorrow().ok()).take(4);
        days.flat_map(move |day| {
            self.windows.iter().enumerate().filter_map(move |(index, _)| self.occurrence(index, day))
        })
    }

    fn occurrence(&self, index: usize, day: Date) -> Option<Occurrence> {
        let window = self.windows.get(index)?;
        let rank = window.days.rank_on(day)?;
        let last_day = if window.to <= window.from { day.tomorrow().ok()? } else { day };
        let repeated = local_time::repetition(&self.zone, (day, window.from), (last_day, window.to));
        Some(Occurrence {
            window: index,
            from: local_time::beginning(&self.zone, day, window.from),
            to: local_time::end(&self.zone, last_day, window.to),
            precedence: (rank, repeated, window.terms.access),
        })
    }

    /// The next date after `date` on which a window that names dates begins to count, or no longer does.
    fn next_named_date(&self, date: Date) -> Option<Date> {
        let ranges = self.windows.iter().flat_map(|window| window.days.dates());
        let edges = ranges.flat_map(|(first, last)| iter::once(*first).chain(last.tomorrow().ok()));
        edges.filter(|edge| *edge > date).min()
    }

    fn date_at(&self, at: Unix) -> Date {
        local_time::date_at(&self.zone, at)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    const CITIZEN: ClassId = ClassId(1);
    const INTERMEDIARY: ClassId = ClassId(2);

    fn terms(shares: &[(ClassId, u32)]) -> WindowTerms {
        let access = if shares.is_empty() { Access::Closed } else { Access::Open };
        WindowTerms {
            access,
            shares: shares.to_vec(),
            borrow: Borrow::No,
            floors: Vec::new(),
            rate: None,
            max_active_sessions: None,
            message: None,
        }
    }

    fn window(days: Days, from: &str, to: &str, shares: &[(ClassId, u32)]) -> Window {
        Window { days, from: from.parse().unwrap(), to: to.parse().unwrap(), terms: terms(shares) }
    }

    fn daily(from: &str, to: &str, shares: &[(ClassId, u32)]) -> Window {
        window(Days::every_day(), from, to, shares)
    }

    fn on_dates(dates: &[RangeInclusive<Date>], from: &str, to: &str, shares: &[(ClassId, u32)]) -> Window {
        window(Days::of(&[], dates), from, to, shares)
    }

    fn schedule_in(zone: &str, windows: &[Window]) -> Schedule {
        Schedule::new(TimeZone::get(zone).unwrap(), windows.to_vec()).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn rome(windows: &[Window]) -> Schedule {
        schedule_in("Europe/Rome", windows)
    }

    fn faults(windows: &[Window]) -> Vec<String> {
        let refused = Schedule::new(TimeZone::UTC, windows.to_vec()).expect_err("faults were expected");
        refused.iter().map(ScheduleFault::to_string).collect()
    }

    fn utc(text: &str) -> Unix {
        local_time::unix(text.parse().unwrap())
    }

    /// 8 to 16 intermediaries, then everybody with few of them.
    fn first_of_april() -> [Window; 2] {
        [daily("08:00", "16:00", &[(INTERMEDIARY, 100)]), daily("16:00", "08:00", &[(CITIZEN, 90), (INTERMEDIARY, 10)])]
    }

    /// The windows that hold one after another, by the beginning of their `from`, with hours.
    fn told(schedule: &Schedule, from: &str, to: &str) -> Vec<(String, u32)> {
        let said = |span: Span<'_>| {
            let local = local_time::timestamp(span.from).to_zoned(schedule.zone.clone());
            let open = span.terms.map_or(0, |terms| terms.share(CITIZEN));
            (local.strftime("%d %H:%M%z").to_string(), open)
        };
        schedule.spans(utc(from), utc(to)).map(said).collect()
    }

    #[test]
    fn intermediaries_until_four_then_citizens() {
        let schedule = rome(&first_of_april());
        let (terms, until) = schedule.at(utc("2026-04-01T06:00:00Z"));
        assert_eq!(terms.map(|terms| terms.share(CITIZEN)), Some(0));
        assert_eq!(until, Some(utc("2026-04-01T14:00:00Z")));
        let (terms, until) = schedule.at(utc("2026-04-01T14:00:00Z"));
        assert_eq!(terms.map(|terms| terms.share(CITIZEN)), Some(90));
        assert_eq!(until, Some(utc("2026-04-02T06:00:00Z")));
        let (terms, _) = schedule.at(utc("2026-04-01T05:59:59Z"));
        assert_eq!(terms.map(|terms| terms.share(CITIZEN)), Some(90), "the window of the day before");
    }

    #[test]
    fn hours_of_a_class() {
        let schedule = rome(&first_of_april());
        let at = |time: &str| schedule.opens_for(CITIZEN, utc(time));
        let closed = Hours {
            now: OpenNow::Closed,
            opens_at: Some(utc("2026-04-01T14:00:00Z")),
            closes_at: Some(utc("2026-04-02T06:00:00Z")),
        };
        assert_eq!(at("2026-04-01T07:00:00Z"), closed);
        let open = Hours { now: OpenNow::Open, opens_at: None, closes_at: Some(utc("2026-04-02T06:00:00Z")) };
        assert_eq!(at("2026-04-01T22:00:00Z"), open);
        let always = Hours { now: OpenNow::Open, opens_at: None, closes_at: None };
        assert_eq!(schedule.opens_for(INTERMEDIARY, utc("2026-04-01T22:00:00Z")), always);
        let never = Hours { now: OpenNow::Closed, opens_at: None, closes_at: None };
        assert_eq!(schedule.opens_for(ClassId(9), utc("2026-04-01T22:00:00Z")), never);
    }

    #[test]
    fn without_windows_everybody_may_enter_always() {
        let (schedule, now) = (Schedule::always(), utc("2026-04-01T07:00:00Z"));
        assert_eq!(schedule.at(now), (None, None));
        assert_eq!(schedule.opens_for(CITIZEN, now).now, OpenNow::Open);
        let spans: Vec<_> = schedule.spans(now, Unix(now.0 + 1000)).collect();
        assert_eq!(spans, [Span { from: now, to: Unix(now.0 + 1000), terms: None }]);
    }

    #[test]
    fn one_window_of_the_whole_day_never_changes() {
        let schedule = rome(&[daily("00:00", "24:00", &[(CITIZEN, 1)])]);
        assert_eq!(schedule.next_change(utc("2026-03-28T07:00:00Z")), None);
    }

    #[test]
    fn a_date_goes_before_a_weekday_and_that_before_every_day() {
        let weekend = [Weekday::Saturday, Weekday::Sunday];
        let schedule = rome(&[
            daily("00:00", "24:00", &[(CITIZEN, 1)]),
            window(Days::of(&weekend, &[]), "08:00", "14:00", &[(CITIZEN, 2)]),
            on_dates(&[date(2026, 12, 26)..=date(2026, 12, 26)], "12:00", "18:00", &[(CITIZEN, 3)]),
        ]);
        // 26 December 2026 is a Saturday.
        let told = told(&schedule, "2026-12-25T11:00:00Z", "2026-12-28T00:00:00Z");
        let expected = [
            ("25 12:00+0100", 1),
            ("26 08:00+0100", 2),
            ("26 12:00+0100", 3),
            ("26 18:00+0100", 1),
            ("27 08:00+0100", 2),
            ("27 14:00+0100", 1),
        ];
        assert_eq!(told, expected.map(|(at, share)| (at.to_owned(), share)));
    }

    #[test]
    fn a_far_date_is_found_and_a_long_one_ends() {
        let schedule = rome(&[
            daily("00:00", "24:00", &[(CITIZEN, 1)]),
            on_dates(&[date(2027, 7, 1)..=date(2027, 8, 31)], "00:00", "24:00", &[]),
        ]);
        let change = |at: &str| schedule.next_change(utc(at));
        assert_eq!(change("2026-01-01T12:00:00Z"), Some(utc("2027-06-30T22:00:00Z")));
        assert_eq!(change("2027-06-30T22:00:00Z"), Some(utc("2027-08-31T22:00:00Z")));
        assert_eq!(change("2027-08-31T22:00:00Z"), None);
    }

    // ---- the nights of the clock change

    #[test]
    fn the_night_that_lacks_an_hour() {
        let schedule = rome(&[
            daily("00:00", "02:15", &[(CITIZEN, 1)]),
            daily("02:15", "02:45", &[(CITIZEN, 2)]),
            daily("02:45", "00:00", &[(CITIZEN, 3)]),
        ]);
        let told = told(&schedule, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        let expected = [("29 00:00+0100", 1), ("29 03:00+0200", 3)];
        assert_eq!(told, expected.map(|(at, share)| (at.to_owned(), share)), "what lies in that hour is empty");
    }

    #[test]
    fn the_night_that_has_an_hour_twice() {
        let night = |windows: &[Window]| told(&rome(windows), "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        let owned = |expected: &[(&str, u32)]| -> Vec<(String, u32)> {
            expected.iter().map(|(at, share)| ((*at).to_owned(), *share)).collect()
        };
        let within =
            [daily("00:00", "02:10", &[]), daily("02:10", "02:40", &[(CITIZEN, 2)]), daily("02:40", "00:00", &[])];
        let opens_at_the_first_closes_at_the_last =
            owned(&[("25 00:00+0200", 0), ("25 02:10+0200", 2), ("25 02:40+0100", 0)]);
        assert_eq!(night(&within), opens_at_the_first_closes_at_the_last);
        let among_open_ones = within.map(|mut window| {
            window.terms = terms(&[(CITIZEN, window.from.minutes())]);
            window
        });
        assert_eq!(
            night(&among_open_ones).into_iter().map(|(at, _)| at).collect::<Vec<_>>(),
            ["25 00:00+0200", "25 02:10+0200", "25 02:40+0100"]
        );
        let closes = [daily("00:00", "02:30", &[(CITIZEN, 1)]), daily("02:30", "00:00", &[])];
        assert_eq!(night(&closes), owned(&[("25 00:00+0200", 1), ("25 02:30+0100", 0)]));
        let opens = [daily("00:00", "02:30", &[]), daily("02:30", "00:00", &[(CITIZEN, 1)])];
        assert_eq!(night(&opens), owned(&[("25 00:00+0200", 0), ("25 02:30+0200", 1)]));
        let changes = [daily("00:00", "02:30", &[(CITIZEN, 1)]), daily("02:30", "00:00", &[(CITIZEN, 2)])];
        assert_eq!(night(&changes), owned(&[("25 00:00+0200", 1), ("25 02:30+0200", 2)]), "the one that opened last");
    }

    #[test]
    fn whole_days_have_the_hours_that_the_clock_gives_them() {
        let whole = |day| on_dates(&[day..=day], "00:00", "00:00", &[(CITIZEN, 2)]);
        let schedule =
            rome(&[daily("00:00", "24:00", &[(CITIZEN, 1)]), whole(date(2026, 3, 29)), whole(date(2026, 10, 25))]);
        let hours = |from: &str| {
            let from = utc(from);
            schedule.next_change(from).map(|to| to.since(from).as_secs() / 3600)
        };
        assert_eq!(hours("2026-03-28T23:00:00Z"), Some(23));
        assert_eq!(hours("2026-10-24T22:00:00Z"), Some(25));
    }

    #[test]
    fn a_shift_of_half_an_hour() {
        let windows = [daily("00:00", "01:45", &[(CITIZEN, 1)]), daily("01:45", "00:00", &[])];
        let schedule = schedule_in("Australia/Lord_Howe", &windows);
        let back = told(&schedule, "2026-04-04T13:00:00Z", "2026-04-05T12:00:00Z");
        let expected = [("05 00:00+1100", 1), ("05 01:45+1030", 0)];
        assert_eq!(back, expected.map(|(at, share)| (at.to_owned(), share)));
        let windows = [daily("00:00", "02:15", &[(CITIZEN, 1)]), daily("02:15", "00:00", &[])];
        let schedule = schedule_in("Australia/Lord_Howe", &windows);
        let forward = told(&schedule, "2026-10-03T13:30:00Z", "2026-10-04T12:00:00Z");
        let expected = [("04 00:00+1030", 1), ("04 02:30+1100", 0)];
        assert_eq!(forward, expected.map(|(at, share)| (at.to_owned(), share)));
    }

    // ---- faults

    #[test]
    fn gaps_are_listed_with_their_hours() {
        let weekdays = [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];
        let citizens = &[(CITIZEN, 1)];
        assert_eq!(
            faults(&[daily("08:00", "16:00", citizens)]),
            ["nobody is told who may enter every day 16:00-08:00"]
        );
        let found = faults(&[
            window(Days::of(&weekdays, &[]), "00:00", "24:00", citizens),
            window(Days::of(&[Weekday::Saturday], &[]), "00:00", "14:00", citizens),
            window(Days::of(&[Weekday::Saturday], &[]), "18:00", "22:00", citizens),
            window(Days::of(&[Weekday::Sunday], &[]), "02:00", "24:00", citizens),
        ]);
        assert_eq!(found, ["nobody is told who may enter Sat 14:00-18:00, Sat 22:00 to Sun 02:00"]);
        let found = faults(&[on_dates(&[date(2026, 12, 24)..=date(2026, 12, 24)], "00:00", "24:00", citizens)]);
        assert_eq!(found, ["nobody is told who may enter every day 00:00-24:00"]);
    }

    #[test]
    fn overlaps_are_listed_with_their_hours() {
        let citizens = &[(CITIZEN, 1)];
        let found = faults(&[daily("08:00", "16:00", citizens), daily("15:00", "09:00", citizens)]);
        assert_eq!(found, ["window 1 and window 2 are both open every day 15:00-16:00"]);
        let found = faults(&[
            daily("00:00", "24:00", citizens),
            window(Days::of(&[Weekday::Saturday], &[]), "20:00", "04:00", citizens),
            window(Days::of(&[Weekday::Sunday], &[]), "02:00", "08:00", citizens),
        ]);
        assert_eq!(found, ["window 2 and window 3 are both open Sun 02:00-04:00"]);
        let found = faults(&[
            daily("00:00", "24:00", citizens),
            on_dates(&[date(2026, 12, 24)..=date(2026, 12, 26)], "20:00", "04:00", citizens),
            on_dates(&[date(2026, 12, 27)..=date(2026, 12, 27)], "02:00", "08:00", citizens),
        ]);
        assert_eq!(found, ["window 2 and window 3 are both open 2026-12-27 02:00-04:00"]);
    }

    // ---- properties

    /// A schedule of every day, cut at random minutes, with a weekday and a date on top.
    fn schedules() -> impl Strategy<Value = (Schedule, Vec<Window>)> {
        let zones = prop::sample::select(vec!["Europe/Rome", "Australia/Lord_Howe", "America/Havana", "UTC"]);
        let cuts = prop::collection::btree_set(0..96u16, 1..6);
        let special = (0..96u16, 0..96u16, 0..7usize, 0..700i64, 0..3i64);
        (zones, cuts, special).prop_map(|(zone, cuts, (from, to, weekday, day, more_days))| {
            let time = |quarter: u16| -> String { format!("{:02}:{:02}", quarter / 4, quarter % 4 * 15) };
            let cuts: Vec<u16> = cuts.into_iter().collect();
            let shifted = cuts.iter().cycle().skip(1);
            let base = cuts.iter().zip(shifted).enumerate().map(|(index, (from, to))| {
                let share = u32::try_from(index).unwrap();
                daily(&time(*from), &time(*to), &[(CITIZEN, share)])
            });
            let mut windows: Vec<Window> = base.collect();
            let weekday = Weekday::from_monday_zero_offset(i8::try_from(weekday).unwrap()).unwrap();
            windows.push(window(Days::of(&[weekday], &[]), &time(from), &time(to), &[(INTERMEDIARY, 1)]));
            let first = date(2026, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap();
            let last = first.checked_add(jiff::Span::new().days(more_days)).unwrap();
            windows.push(on_dates(&[first..=last], &time(to), &time(from), &[(INTERMEDIARY, 2)]));
            (schedule_in(zone, &windows), windows)
        })
    }

    /// The window that the clock alone names: the most special one that the local time lies in.
    fn by_the_clock(windows: &[Window], local: jiff::civil::DateTime) -> Option<usize> {
        let minute = u32::try_from(local.hour()).unwrap() * 60 + u32::try_from(local.minute()).unwrap();
        let rank = |window: &Window| {
            let since = |begin: Date, passed: u32| {
                let (from, to) = (window.from.minutes(), window.from.minutes() + window.minutes());
                (from <= minute + passed && minute + passed < to).then(|| window.days.rank_on(begin)).flatten()
            };
            since(local.date(), 0).max(since(local.date().yesterday().unwrap(), DAY))
        };
        let ranks = windows.iter().enumerate().filter_map(|(index, window)| Some((rank(window)?, index)));
        ranks.max_by_key(|(rank, _)| *rank).map(|(_, index)| index)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn the_clock_names_the_window((schedule, windows) in schedules(), minutes in 0..1_100_000u64) {
            let now = Unix(utc("2026-01-01T00:00:00Z").0 + minutes * 60_000);
            let local = |at: Unix| schedule.zone.to_datetime(local_time::timestamp(at));
            // Not in the hours around a clock change, which have tests of their own.
            let calm = [-4i64, 4].map(|hours| Unix(now.0.saturating_add_signed(hours * 3_600_000)));
            let offset = |at: Unix| schedule.zone.to_offset(local_time::timestamp(at));
            prop_assume!(offset(calm[0]) == offset(calm[1]));
            prop_assert_eq!(schedule.held_at(now), by_the_clock(&windows, local(now)));
        }

        #[test]
        fn at_every_instant_one_window_holds((schedule, _) in schedules(), night in 0..6usize) {
            let nights = ["2026-03-28", "2026-10-24", "2026-04-04", "2026-10-03", "2026-03-07", "2026-10-31"];
            let from = utc(&format!("{}T06:00:00Z", nights[night]));
            let to = Unix(from.0 + 3 * 24 * 3_600_000);
            let mut at = from;
            for span in schedule.spans(from, to) {
                prop_assert!(span.from == at && span.from < span.to, "{:?}", span);
                prop_assert!(span.terms.is_some());
                prop_assert_eq!(schedule.at(Unix(span.to.0 - 1)).0, span.terms);
                at = span.to;
            }
            prop_assert_eq!(at, to);
            // Nothing changes without being foretold.
            let mut minute = from;
            while minute < to {
                let (held, next) = (schedule.held_at(minute), schedule.next_change(minute));
                let later = Unix(minute.0 + 300_000);
                if next.is_none_or(|next| next > later) {
                    prop_assert_eq!(schedule.held_at(later), held);
                }
                minute = later;
            }
        }
    }
}
