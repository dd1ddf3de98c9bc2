//! `[room.opening]`: when a room opens, and in which order.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use toml::de::DeValue;

use super::fault::Wrong;
use super::section::Section;
use super::value::{self, Read};
use crate::domain::local_time::unix;
use crate::domain::opening::{Order, Plan};
use crate::domain::time::Unix;

/// Reads the opening of a room. `Some(None)` when it has none.
pub(super) fn opening(room: &Section<'_>, zone: Option<&TimeZone>) -> Option<Option<Plan>> {
    let section = room.table("opening");
    if !room.has("opening") {
        return Some(None);
    }
    let orders = [("arrival", Order::Arrival), ("lottery", Order::Lottery)];
    let order = section.read("order", value::one_of(&orders));
    // Whatever the zone is, a fault in the hours is one.
    let zone = zone.cloned().unwrap_or(TimeZone::UTC);
    let at = section.read("at", |value| instant(value, &zone));
    let gather_from = section.optional("gather_from", |value| instant(value, &zone));
    let plan = Plan { at: at?, gather_from: gather_from?.unwrap_or(Unix(0)), order: order? };
    if plan.gather_from > plan.at {
        section.fault("gather_from", Wrong::new("later than at", "let visitors gather before the room opens"));
    }
    Some(Some(plan))
}

/// `"2026-04-01T08:00"` by the room's clock, or with an offset (RFC 3339): `"2026-04-01T08:00:00+02:00"`.
pub(super) fn instant(value: &DeValue<'_>, zone: &TimeZone) -> Read<Unix> {
    let remedy = "write the hour of the room's clock such as \"2026-04-01T08:00\", or with its offset such as \
                  \"2026-04-01T08:00:00+02:00\"";
    value::parsed(value, remedy, |text| {
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(unix(instant));
        }
        let local: DateTime = text.parse().ok().filter(|_| has_clock_time(text)).ok_or("not an hour of a day")?;
        let ambiguous = zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                offset.to_timestamp(local).map(unix).map_err(|_| "beyond the calendar")
            }
            AmbiguousOffset::Gap { .. } => Err("the clock is put forward past this time on that day"),
            AmbiguousOffset::Fold { .. } => {
                Err("the clock shows this time twice on that day: write it with its offset")
            }
        }
    })
}

/// A date alone would be read as midnight, and a time zone in brackets would say nothing.
fn has_clock_time(text: &str) -> bool {
    text.contains(':') && !text.contains('[')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;
    use crate::domain::local_time::unix;
    use crate::domain::opening::{Order, Plan};
    use crate::domain::time::Unix;

    fn file(rest: &str) -> String {
        format!(
            "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n\
             [[room]]\nname = \"a\"\npaths = [\"/a/**\"]\nadmission_rate = \"1/s\"\n{rest}"
        )
    }

    fn opening(lines: &str) -> Result<Option<Plan>, String> {
        let config = parse(&file(&format!("[room.opening]\n{lines}")), Path::new("/etc"));
        config.map(|config| config.rooms[0].opening).map_err(|faults| faults.to_string())
    }

    fn at(text: &str) -> Unix {
        unix(text.parse().unwrap())
    }

    #[test]
    fn hours_are_the_rooms_or_carry_their_offset() {
        let plan = opening("at = \"2026-04-01T08:00\"\norder = \"lottery\"\ngather_from = \"2026-04-01T05:30:00Z\"");
        let expected =
            Plan { at: at("2026-04-01T06:00:00Z"), gather_from: at("2026-04-01T05:30:00Z"), order: Order::Lottery };
        assert_eq!(plan, Ok(Some(expected)));
        let plan = opening("at = \"2026-12-01 08:00:30\"").unwrap().unwrap();
        let expected = Plan { at: at("2026-12-01T07:00:30Z"), gather_from: Unix(0), order: Order::Arrival };
        assert_eq!(plan, expected);
        let none = parse(&file(""), Path::new("/etc")).unwrap();
        assert_eq!(none.rooms[0].opening, None);
    }

    #[test]
    fn faults_say_what_to_write() {
        for (lines, says) in [
            ("", "opening.at: missing"),
            ("at = \"tomorrow\"", "opening.at: \"tomorrow\": not an hour of a day; write the hour"),
            ("at = \"2026-04-01\"", "not an hour of a day"),
            ("at = 8", "opening.at: expected a text"),
            ("at = \"2026-03-29T02:30\"", "the clock is put forward past this time"),
            ("at = \"2026-10-25T02:30\"", "the clock shows this time twice"),
            ("at = \"2026-04-01T08:00\"\norder = \"random\"", "opening.order: \"random\" is no such choice"),
            (
                "at = \"2026-04-01T08:00\"\ngather_from = \"2026-04-01T08:01\"",
                "opening.gather_from: later than at; let visitors gather",
            ),
            ("at = \"2026-04-01T08:00\"\nhour = 8", "opening.hour: unknown key"),
        ] {
            let found = opening(lines).expect_err(lines);
            assert!(found.contains(says), "{found}\ndoes not say\n{says}");
        }
        let shared = file("[room.opening]\nat = \"2026-04-01T08:00\"\n[store]\nkind = \"valkey\"");
        assert!(
            parse(&shared, Path::new("/etc")).unwrap().rooms[0].opening.is_some(),
            "several nodes have openings too"
        );
    }

    #[test]
    fn an_hour_that_is_over_is_only_warned_of() {
        let config = parse(&file("[room.opening]\nat = \"2026-04-01T08:00\""), Path::new("/etc")).unwrap();
        let warned = |now: &str| config.warnings_at(at(now)).count();
        assert_eq!((warned("2026-04-01T05:59:59Z"), warned("2026-04-01T06:00:00Z")), (0, 1));
    }
}
