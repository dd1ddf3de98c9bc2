//! Who may enter when, as text for operators: the same windows and local times that the waiting page speaks of.

use std::fmt::Write;

use jiff::Zoned;
use jiff::civil::Date;

use crate::config::{Config, Room};
use crate::domain::closing::{Closing, Rest};
use crate::domain::local_time::{LocalTime, beginning, timestamp};
use crate::domain::names::ClassName;
use crate::domain::opening::{Order, Plan};
use crate::domain::schedule::{Access, Borrow, Span, WindowTerms};
use crate::domain::schedule_check::weekday_name;
use crate::domain::time::Unix;

/// The days of which a timetable speaks, both included.
#[derive(Clone, Copy, Debug)]
pub struct Days {
    /// The first.
    pub from: Date,
    /// The last.
    pub to: Date,
}

/// The timetable of all rooms, or of those named.
pub fn of_rooms(config: &Config, named: Option<&str>, days: Days) -> String {
    let rooms = config.rooms.iter().filter(|room| named.is_none_or(|name| room.name.as_str() == name));
    rooms.map(|room| of_room(room, days)).collect::<Vec<_>>().join("\n")
}

fn of_room(room: &Room, days: Days) -> String {
    let zone = &room.time_zone;
    let end = days.to.tomorrow().unwrap_or(days.to);
    let (from, to) = (beginning(zone, days.from, LocalTime::MIDNIGHT), beginning(zone, end, LocalTime::MIDNIGHT));
    let mut text = format!("room \"{}\", time zone {}\n", room.name, zone.iana_name().unwrap_or("unnamed"));
    if let Some(opening) = room.opening.filter(|opening| opening.at < to) {
        let _ = writeln!(text, "  {}", announced(room, &opening));
    }
    if let Some(ending) = room.closing.as_ref().filter(|ending| ending.closing.at < to) {
        let _ = writeln!(text, "  {}", ends(room, ending.closing));
    }
    for span in room.schedule.spans(from, to) {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  {}  {}", hours(room, span), terms(room, span));
    }
    text
}

/// `Sun 2026-03-29 00:00 to Sun 2026-03-29 08:00 (7 h)`: the length only where the clock changes.
fn hours(room: &Room, span: Span<'_>) -> String {
    let [from, to] = [span.from, span.to].map(|at| timestamp(at).to_zoned(room.time_zone.clone()));
    if from.offset() == to.offset() {
        return format!("{} to {}", moment(&from, ""), moment(&to, ""));
    }
    let minutes = span.to.since(span.from).as_secs() / 60;
    let length = if minutes.is_multiple_of(60) { format!("{} h", minutes / 60) } else { format!("{minutes} min") };
    let offset = |at: &Zoned| at.strftime(" (UTC%:z)").to_string();
    format!("{} to {}, {length} by the changing clock", moment(&from, &offset(&from)), moment(&to, &offset(&to)))
}

/// `opens Wed 2026-04-01 08:00 (UTC+02:00), places drawn by lot; visitors gather from Wed 2026-04-01 06:00`
fn announced(room: &Room, opening: &Plan) -> String {
    let of = |at: Unix| timestamp(at).to_zoned(room.time_zone.clone());
    let order = match opening.order {
        Order::Arrival => "places in the order of arrival",
        Order::Lottery => "places drawn by lot",
    };
    let gather = match opening.gather_from {
        Unix(0) => "visitors may gather at any time before".to_owned(),
        from => format!("visitors gather from {}", moment(&of(from), "")),
    };
    let at = of(opening.at);
    format!("opens {}, {order}; {gather}; nobody enters before", moment(&at, &at.strftime(" (UTC%:z)").to_string()))
}

/// `closes Thu 2026-04-30 18:00 (UTC+02:00): nobody new can join, whoever waits is still served`
fn ends(room: &Room, closing: Closing) -> String {
    let at = timestamp(closing.at).to_zoned(room.time_zone.clone());
    let then = match closing.then {
        Rest::Serve => "nobody new can join, whoever waits is still served",
        Rest::End => "the line ends, whoever has not been called cannot enter any more",
    };
    format!("closes {}: {then}", moment(&at, &at.strftime(" (UTC%:z)").to_string()))
}

fn moment(at: &Zoned, offset: &str) -> String {
    format!("{} {} {:02}:{:02}{offset}", weekday_name(at.weekday()), at.date(), at.hour(), at.minute())
}

fn terms(room: &Room, span: Span<'_>) -> String {
    match span.terms {
        None => format!("everybody, {}", room.admission_rate),
        Some(WindowTerms { access: Access::Closed, .. }) => "closed: nobody enters".to_owned(),
        Some(terms) => open_terms(room, terms),
    }
}

fn open_terms(room: &Room, terms: &WindowTerms) -> String {
    let classes = &room.classes;
    let total: u64 = terms.shares.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let name = |id| classes.iter().find(|class| class.id() == id).map_or("?", ClassName::as_str);
    let with_share = terms.shares.iter().filter(|(_, weight)| *weight > 0);
    let share = |(id, weight): &(_, u32)| {
        let floor = if terms.floors.contains(id) { " (never lent)" } else { "" };
        // Tenths of a percent, rounded to the nearest.
        let tenths = (u64::from(*weight) * 1000 + total / 2) / total.max(1);
        let fraction = if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
        format!("{} {}{fraction} %{floor}", name(*id), tenths / 10)
    };
    let mut told: Vec<String> = with_share.map(share).collect();
    let waiting = classes.iter().filter(|class| terms.share(class.id()) == 0).map(ClassName::as_str);
    let waiting: Vec<&str> = waiting.collect();
    if !waiting.is_empty() {
        told.push(format!("{} must wait", waiting.join(" and ")));
    }
    if told.len() > 1 && terms.borrow == Borrow::Yes {
        told.push("what is left unused is lent".to_owned());
    }
    told.push(terms.rate.unwrap_or(room.admission_rate).to_string());
    told.extend(terms.max_active_sessions.map(|most| format!("at most {most} inside")));
    told.extend(message(room, terms).map(|text| format!("{text:?}")));
    told.join(", ")
}

fn message<'r>(room: &'r Room, terms: &WindowTerms) -> Option<&'r str> {
    room.window_messages.get(terms.message?)?.first()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn timetable(from: &str, to: &str, windows: &str) -> String {
        let file = format!(
            "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n\
             [[class]]\nname = \"intermediary\"\nproof = [ {{ kind = \"invitation_code\" }} ]\n[[room]]\nname = \"bonus-600\"\n\
             paths = [\"/a/**\"]\nadmission_rate = \"100/s\"\n{windows}"
        );
        let config = parse(&file, Path::new("/etc")).unwrap_or_else(|faults| panic!("{faults}"));
        of_rooms(&config, None, Days { from: from.parse().unwrap(), to: to.parse().unwrap() })
    }

    const APRIL: &str = "[[room.window]]\nfrom = \"08:00\"\nto = \"16:00\"\nshare = { intermediary = 100 }\n\
        [[room.window]]\nfrom = \"16:00\"\nto = \"08:00\"\nshare = { citizen = 2, intermediary = 1 }\nborrow = true\n\
        floor = [\"citizen\"]\nadmission_rate = \"50/s\"\nmax_active_sessions = 700\nmessage = \"Citizens\"\n";

    #[test]
    fn hours_are_told_by_the_local_clock() {
        let expected = "room \"bonus-600\", time zone Europe/Rome\n  \
            Sat 2026-03-28 00:00 to Sat 2026-03-28 08:00  citizen 66.7 % (never lent), intermediary 33.3 %, \
            what is left unused is lent, 50/s, at most 700 inside, \"Citizens\"\n  \
            Sat 2026-03-28 08:00 to Sat 2026-03-28 16:00  intermediary 100 %, citizen must wait, 100/s\n  \
            Sat 2026-03-28 16:00 (UTC+01:00) to Sun 2026-03-29 08:00 (UTC+02:00), 15 h by the changing clock  \
            citizen 66.7 % (never lent), intermediary 33.3 %, what is left unused is lent, 50/s, at most 700 inside, \
            \"Citizens\"\n  \
            Sun 2026-03-29 08:00 to Sun 2026-03-29 16:00  intermediary 100 %, citizen must wait, 100/s\n  \
            Sun 2026-03-29 16:00 to Mon 2026-03-30 00:00  citizen 66.7 % (never lent), intermediary 33.3 %, \
            what is left unused is lent, 50/s, at most 700 inside, \"Citizens\"\n";
        assert_eq!(timetable("2026-03-28", "2026-03-29", APRIL), expected);
    }

    #[test]
    fn openings_stand_above_the_hours() {
        let opening =
            "[room.opening]\nat = \"2026-03-28T08:00\"\norder = \"lottery\"\ngather_from = \"2026-03-28T06:00\"\n";
        let shown = timetable("2026-03-28", "2026-03-28", opening);
        let line = "  opens Sat 2026-03-28 08:00 (UTC+01:00), places drawn by lot; visitors gather from Sat 2026-03-28 06:00; \
                    nobody enters before\n";
        assert!(shown.contains(line), "{shown}");
        assert!(!timetable("2026-03-27", "2026-03-27", opening).contains("opens"));
    }

    #[test]
    fn a_closing_says_what_becomes_of_those_who_wait() {
        let serves = "[room.closing]\nat = \"2026-03-28T18:00\"\n";
        let line = "  closes Sat 2026-03-28 18:00 (UTC+01:00): nobody new can join, whoever waits is still served\n";
        let shown = timetable("2026-03-28", "2026-03-28", serves);
        assert!(shown.contains(line), "{shown}");
        let ends = timetable("2026-03-29", "2026-03-29", &format!("{serves}then = \"end\"\n"));
        assert!(ends.contains("the line ends, whoever has not been called cannot enter any more"), "{ends}");
        assert!(!timetable("2026-03-27", "2026-03-27", serves).contains("closes"));
    }

    #[test]
    fn no_windows_and_closed_ones() {
        let always = timetable("2026-03-28", "2026-03-28", "");
        assert!(always.ends_with("Sat 2026-03-28 00:00 to Sun 2026-03-29 00:00  everybody, 100/s\n"), "{always}");
        let closed = "[[room.window]]\nfrom = \"00:00\"\nto = \"24:00\"\nclosed = true\n";
        let closed = timetable("2026-03-28", "2026-03-28", closed);
        assert!(closed.ends_with("closed: nobody enters\n"), "{closed}");
    }
}
