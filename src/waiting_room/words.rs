//! Figures as people read them: numbers, waits and clock times in one language and time zone.
//!
//! Browsers lack some of the languages, so the server writes all of it.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use memchr::memchr;

use super::catalogue::{Catalogue, Forms};
use super::queue::{ClosingTold, Gathering, QueueState, Reason};
use crate::domain::closing::{Reach, Rest, Stage};
use crate::domain::time::Unix;
use crate::domain::wait_estimate::WaitRange;

/// A language and a time zone, ready to put figures into words.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The texts.
    pub catalogue: &'a Catalogue,
    /// Where the visitors' clocks are.
    pub time_zone: &'a TimeZone,
}

impl Words<'_> {
    /// "1,234 people are ahead of you"
    pub fn ahead(&self, ahead: u64) -> String {
        let figures = &self.catalogue.figures;
        if ahead == 0 { figures.nobody_ahead.clone() } else { self.counted(&figures.ahead, ahead) }
    }

    /// Before the opening, in the place of those ahead: "drawn by lot when the service opens"
    pub fn gathering(&self, gathering: Gathering, now: Unix) -> String {
        let figures = &self.catalogue.figures;
        match gathering {
            Gathering::From(from) => fill(&figures.gather_from, &[("at", &self.at(from, now))]),
            Gathering::ByArrival => figures.by_arrival.clone(),
            Gathering::ByLot => figures.by_lot.clone(),
        }
    }

    /// What the closing means for somebody in this state: "Joining ends: 18:00. Whoever is in the line by then is still
    /// served." Nothing for those whom it does not concern any more.
    pub fn closing(&self, told: &ClosingTold, state: QueueState, now: Unix) -> Option<String> {
        use QueueState::{BeforeOpening, ClosedHours, Ended, Held, None as NoTicket, Waiting};
        let texts = &self.catalogue.closing;
        let text = match (state, told.stage, told.closing.then) {
            (Ended, Stage::Ended, _) if told.ended_before_the_turn() => &texts.ended,
            (NoTicket | BeforeOpening | ClosedHours | Held | Waiting, stage, then) => match (stage, then, told.reach) {
                (Stage::LastOnes, ..) => &texts.serve_after,
                (Stage::Open, Rest::Serve, _) => &texts.serve_before,
                (Stage::Open, Rest::End, Some(Reach::Unlikely)) => &texts.unlikely,
                (Stage::Open, Rest::End, Some(Reach::Uncertain)) => &texts.uncertain,
                (Stage::Open, Rest::End, _) => &texts.end_before,
                (Stage::Ended, ..) => return None,
            },
            _ => return None,
        };
        Some(fill(text, &[("at", &self.at(told.closing.at, now))]))
    }

    /// How long it is until an hour that was set, to the minute: "1 hour 35 minutes". Never shorter than it is.
    pub fn until(&self, at: Unix, now: Unix) -> String {
        self.span(at.since(now).as_secs().div_ceil(60))
    }

    /// "3 people are entering before you"
    pub fn ahead_at_gate(&self, ahead: u64) -> String {
        self.counted(&self.catalogue.figures.at_gate, ahead)
    }

    /// "about 25 to 35 minutes": never more exact than an estimate can be, never shorter than it is.
    pub fn wait(&self, wait: WaitRange) -> String {
        let texts = &self.catalogue.wait;
        let (low, high) = rounded_minutes(wait);
        match (low, high) {
            (_, 0) => texts.moment.clone(),
            (0, 1) => texts.moment.clone(),
            (0, high) => fill(&texts.up_to, &[("high", &self.span(high))]),
            (low, high) if low == high => fill(&texts.about, &[("high", &self.span(high))]),
            (low, high) if high < 60 => self.range(&texts.range_minutes, low, high),
            (low, high) if low % 60 == 0 && high % 60 == 0 => self.range(&texts.range_hours, low / 60, high / 60),
            (low, high) => fill(&texts.range, &[("low", &self.span(low)), ("high", &self.span(high))]),
        }
    }

    /// "about 11:45", with the day when it is another one than that of `now`.
    pub fn expected_at(&self, at: Unix, now: Unix) -> String {
        let figures = &self.catalogue.figures;
        let (at, now) = (self.zoned(rounded_clock(at, now)), self.zoned(now));
        if at.date() == now.date() {
            return fill(&figures.today, &[("clock", &clock(&at))]);
        }
        if now.date().tomorrow().is_ok_and(|tomorrow| tomorrow == at.date()) {
            return fill(&figures.tomorrow, &[("clock", &clock(&at))]);
        }
        self.dated(&figures.on_date, &at, "")
    }

    /// "16:00", with the day when it is another one than that of `now`: an hour that was set, not estimated.
    pub fn at(&self, at: Unix, now: Unix) -> String {
        let figures = &self.catalogue.figures;
        let (at, now) = (self.zoned(at), self.zoned(now));
        if at.date() == now.date() {
            return fill(&figures.at_today, &[("clock", &clock(&at))]);
        }
        if now.date().tomorrow().is_ok_and(|tomorrow| tomorrow == at.date()) {
            return fill(&figures.at_tomorrow, &[("clock", &clock(&at))]);
        }
        self.dated(&figures.at_on_date, &at, "")
    }

    /// "the service is full; the next person enters when somebody leaves (since 11:20)"
    pub fn reason(&self, reason: Reason, now: Unix) -> String {
        let (words, since) = (self.catalogue.reason(reason.code), self.zoned(reason.since));
        if since.date() == self.zoned(now).date() {
            return fill(&self.catalogue.figures.reason, &[("reason", words), ("clock", &clock(&since))]);
        }
        self.dated(&self.catalogue.figures.reason_dated, &since, words)
    }

    /// "2026-11-03 11:42:10 +01:00": for what is kept, the same in all languages.
    pub fn dated_clock(&self, at: Unix) -> String {
        self.zoned(at).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// "11:42"
    pub fn clock(&self, at: Unix) -> String {
        clock(&self.zoned(at))
    }

    /// "11:42:10"
    pub fn clock_with_seconds(&self, at: Unix) -> String {
        let at = self.zoned(at);
        let mut text = clock(&at);
        push_two_digits(&mut text, ":", at.second());
        text
    }

    /// The instant with its offset (RFC 3339), to the second: `2026-11-03T09:12:00+01:00`.
    pub fn rfc_3339(&self, at: Unix) -> String {
        let at = self.zoned(at);
        let minutes = at.offset().seconds() / 60;
        let [hours, minutes_more] =
            [minutes.abs() / 60, minutes.abs() % 60].map(|n| i8::try_from(n).unwrap_or_default());
        let mut text = String::with_capacity("2026-11-03T09:12:00+01:00".len());
        let [century, year] = [at.year() / 100, at.year() % 100].map(|n| i8::try_from(n).unwrap_or_default());
        for (before, digits) in [
            ("", century),
            ("", year),
            ("-", at.month()),
            ("-", at.day()),
            ("T", at.hour()),
            (":", at.minute()),
            (":", at.second()),
            (if minutes < 0 { "-" } else { "+" }, hours),
            (":", minutes_more),
        ] {
            push_two_digits(&mut text, before, digits);
        }
        text
    }

    /// A whole number with its digits in groups: "1,234,567".
    pub fn number(&self, n: u64) -> String {
        let digits = n.to_string();
        let mut grouped = String::with_capacity(digits.len() * 2);
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                grouped.push_str(&self.catalogue.thousands);
            }
            grouped.push(digit);
        }
        grouped
    }

    fn counted(&self, forms: &Forms, n: u64) -> String {
        fill(self.catalogue.form(forms, n), &[("n", &self.number(n))])
    }

    /// The form of a range follows its upper end.
    fn range(&self, forms: &Forms, low: u64, high: u64) -> String {
        fill(self.catalogue.form(forms, high), &[("low", &self.number(low)), ("n", &self.number(high))])
    }

    fn span(&self, minutes: u64) -> String {
        let texts = &self.catalogue.wait;
        match (minutes / 60, minutes % 60) {
            (0, minutes) => self.counted(&texts.minutes, minutes),
            (hours, 0) => self.counted(&texts.hours, hours),
            (hours, minutes) => {
                let (hours, minutes) = (self.counted(&texts.hours, hours), self.counted(&texts.minutes, minutes));
                fill(&texts.hours_minutes, &[("hours", &hours), ("minutes", &minutes)])
            }
        }
    }

    fn dated(&self, text: &str, at: &Zoned, reason: &str) -> String {
        let month = usize::try_from(at.month() - 1).ok().and_then(|month| self.catalogue.months.get(month));
        let month = month.map_or("", String::as_str);
        let day = at.day().to_string();
        fill(text, &[("reason", reason), ("day", &day), ("month", month), ("clock", &clock(at))])
    }

    fn zoned(&self, at: Unix) -> Zoned {
        let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_zoned(self.time_zone.clone())
    }
}

fn clock(at: &Zoned) -> String {
    let mut text = String::with_capacity("11:42:10".len());
    push_two_digits(&mut text, "", at.hour());
    push_two_digits(&mut text, ":", at.minute());
    text
}

/// A number from 0 to 99 as two digits. By hand, for every poll has several: formatting them takes ten times as long.
fn push_two_digits(text: &mut String, before: &str, n: i8) {
    let n = n.unsigned_abs();
    text.push_str(before);
    text.push(char::from(b'0' + n / 10 % 10));
    text.push(char::from(b'0' + n % 10));
}

/// Puts values in the place of `{name}`. Braces inside a value stay what they are.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, name, after)) = next_placeholder(rest) {
        filled.push_str(before);
        filled.extend(values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = split_at(text, b'{')?;
    let (name, after) = split_at(rest, b'}')?;
    Some((before, name, after))
}

/// What is before and after the first such character.
fn split_at(text: &str, ascii: u8) -> Option<(&str, &str)> {
    let place = memchr(ascii, text.as_bytes())?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// Down to the step below and up to the step above, in minutes: the longer the wait, the coarser the step.
fn rounded_minutes(wait: WaitRange) -> (u64, u64) {
    let low = wait.low.as_secs() / 60;
    let high = wait.high.as_secs().div_ceil(60);
    let step = match high {
        0..=10 => 1,
        11..=90 => 5,
        91..=360 => 15,
        361..=720 => 30,
        _ => 60,
    };
    (low / step * step, high.div_ceil(step) * step)
}

/// A time further away is told in steps of five minutes: to the next one, so that nobody comes back too early.
fn rounded_clock(at: Unix, now: Unix) -> Unix {
    let step = if at.since(now) > Duration::from_secs(10 * 60) { 300_000 } else { 60_000 };
    Unix(at.0.div_ceil(step).saturating_mul(step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::language::BUILT_IN;
    use crate::waiting_room::queue::ReasonCode;

    fn catalogue(code: &str) -> Catalogue {
        let (_, text) = BUILT_IN.iter().find(|(file, _)| file.strip_suffix(".toml") == Some(code)).expect("a language");
        Catalogue::parse(text).expect("a whole catalogue")
    }

    fn with_words<T>(code: &str, use_them: impl FnOnce(Words<'_>) -> T) -> T {
        let time_zone = TimeZone::get("Europe/Rome").expect("a bundled time zone");
        use_them(Words { catalogue: &catalogue(code), time_zone: &time_zone })
    }

    fn minutes(low: u64, high: u64) -> WaitRange {
        WaitRange { low: Duration::from_secs(low * 60), high: Duration::from_secs(high * 60) }
    }

    fn at(text: &str) -> Unix {
        let millis = text.parse::<Timestamp>().expect("an instant").as_millisecond();
        Unix(u64::try_from(millis).expect("after 1970"))
    }

    #[test]
    fn waits_in_english() {
        with_words("en", |words| {
            let said = |low, high| words.wait(minutes(low, high));
            assert_eq!(said(0, 0), "less than a minute");
            assert_eq!(said(0, 1), "less than a minute");
            assert_eq!(said(0, 3), "up to 3 minutes");
            assert_eq!(said(4, 4), "about 4 minutes");
            assert_eq!(said(27, 33), "about 25 to 35 minutes");
            assert_eq!(said(50, 61), "about 50 minutes to 1 hour 5 minutes");
            assert_eq!(said(58, 60), "about 55 minutes to 1 hour");
            assert_eq!(said(121, 179), "about 2 to 3 hours");
            assert_eq!(said(95, 120), "about 1 hour 30 minutes to 2 hours");
            assert_eq!(said(700, 1500), "about 11 to 25 hours");
        });
    }

    #[test]
    fn waits_in_italian() {
        with_words("it", |words| {
            let said = |low, high| words.wait(minutes(low, high));
            assert_eq!(said(27, 33), "circa da 25 a 35 minuti");
            assert_eq!(said(50, 61), "circa da 50 minuti a 1 ora e 5 minuti");
            assert_eq!(said(0, 3), "fino a 3 minuti");
        });
    }

    #[test]
    fn a_wait_is_never_told_narrower_than_it_is() {
        for low in 0..1500 {
            for width in [0, 1, 7, 100] {
                let (told_low, told_high) = rounded_minutes(minutes(low, low + width));
                assert!(told_low <= low && low + width <= told_high, "{low} + {width}");
            }
        }
    }

    #[test]
    fn numbers_and_people() {
        with_words("it", |words| {
            assert_eq!(words.ahead(0), "non hai nessuno davanti");
            assert_eq!(words.ahead(1), "hai 1 persona davanti");
            assert_eq!(words.ahead(653_452), "hai 653.452 persone davanti");
            assert_eq!(words.ahead(1_000_000), "hai 1.000.000 di persone davanti");
        });
        with_words("en", |words| assert_eq!(words.number(u64::MAX), "18,446,744,073,709,551,615"));
    }

    #[test]
    fn clock_times_name_another_day() {
        with_words("en", |words| {
            let now = at("2026-11-03T10:00:00Z");
            assert_eq!(words.expected_at(at("2026-11-03T10:41:10Z"), now), "about 11:45");
            assert_eq!(words.expected_at(at("2026-11-03T10:04:10Z"), now), "about 11:05");
            assert_eq!(words.expected_at(at("2026-11-04T00:00:00Z"), now), "tomorrow, about 01:00");
            assert_eq!(words.expected_at(at("2026-11-06T00:00:00Z"), now), "6 November, about 01:00");
        });
    }

    #[test]
    fn hours_that_were_set_are_told_exactly() {
        with_words("it", |words| {
            let now = at("2026-11-03T10:00:00Z");
            assert_eq!(words.at(at("2026-11-03T15:00:00Z"), now), "alle 16:00");
            assert_eq!(words.at(at("2026-11-04T07:00:00Z"), now), "domani alle 08:00");
            assert_eq!(words.at(at("2026-11-06T07:00:00Z"), now), "6 novembre, alle 08:00");
        });
        with_words("zh", |words| {
            let now = at("2026-11-03T10:00:00Z");
            assert_eq!(words.at(at("2026-11-06T07:00:00Z"), now), "11月6日 08:00");
        });
    }

    #[test]
    fn people_and_waits_in_languages_with_many_forms() {
        let ahead = |code, n| with_words(code, |words| words.ahead(n));
        assert_eq!(ahead("sl", 2), "pred vami sta 2 osebi");
        assert_eq!(ahead("sl", 1_103), "pred vami so 1.103 osebe");
        assert_eq!(ahead("uk", 21), "перед вами 21 особа");
        assert_eq!(ahead("uk", 1_012), "перед вами 1\u{a0}012 осіб");
        assert_eq!(ahead("ro", 119), "119 persoane sunt înaintea dumneavoastră");
        assert_eq!(ahead("ro", 120), "120 de persoane sunt înaintea dumneavoastră");
        assert_eq!(ahead("fr", 1_234), "1\u{202f}234 personnes sont devant vous");
        assert_eq!(ahead("ar", 3), "أمامك 3 أشخاص");
        assert_eq!(ahead("ar", 11), "أمامك 11 شخصًا");
        let wait = |code, low, high| with_words(code, |words| words.wait(minutes(low, high)));
        assert_eq!(wait("de", 27, 33), "etwa 25 bis 35 Minuten");
        assert_eq!(wait("uk", 50, 61), "приблизно 50 хвилин – 1 година 5 хвилин");
        assert_eq!(wait("sl", 4, 4), "približno 4 minute");
        assert_eq!(wait("zh", 27, 33), "大约 25 至 35 分钟");
    }

    #[test]
    fn every_language_fills_in_every_figure() {
        let now = at("2026-11-03T10:00:00Z");
        for (file, _) in BUILT_IN {
            with_words(file.trim_end_matches(".toml"), |words| {
                for n in [0, 1, 2, 3, 11, 21, 100, 101, 1_000_000] {
                    for said in [words.ahead(n), words.ahead_at_gate(n), words.wait(minutes(n / 2, n))] {
                        assert!(!said.is_empty() && !said.contains(['{', '}']), "{file} {n}: {said}");
                    }
                }
                for later in ["2026-11-03T11:00:00Z", "2026-11-04T11:00:00Z", "2026-12-24T11:00:00Z"] {
                    for said in [words.at(at(later), now), words.expected_at(at(later), now)] {
                        assert!(said.contains("12:00") && !said.contains(['{', '}']), "{file}: {said}");
                    }
                }
            });
        }
    }

    #[test]
    fn reasons_say_since_when() {
        with_words("it", |words| {
            let reason = Reason { code: ReasonCode::RampingUp, since: at("2026-11-03T10:20:00Z") };
            let said = words.reason(reason, at("2026-11-03T10:30:00Z"));
            assert_eq!(said, "il servizio è rallentato e fa entrare poco alla volta (dalle 11:20)");
            let said = words.reason(reason, at("2026-11-04T10:30:00Z"));
            assert!(said.ends_with("(dal 3 novembre, 11:20)"), "{said}");
        });
    }

    #[test]
    fn instants_carry_the_offset_of_their_season() {
        with_words("en", |words| {
            assert_eq!(words.rfc_3339(at("2026-11-03T10:20:00Z")), "2026-11-03T11:20:00+01:00");
            assert_eq!(words.rfc_3339(at("2026-07-03T10:20:00Z")), "2026-07-03T12:20:00+02:00");
        });
    }

    #[test]
    fn a_value_with_braces_is_only_a_value() {
        assert_eq!(fill("{a} {b}", &[("a", "{b}"), ("b", "x")]), "{b} x");
        assert_eq!(fill("{unknown}.", &[]), ".");
        assert_eq!(fill("no end {", &[]), "no end {");
    }
}
