//! `[[room.window]]`: the hours of a room, and what holds in them.

use std::ops::RangeInclusive;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::fault::Wrong;
use super::page::{LocalText, local_text};
use super::section::Section;
use super::value::{self, Read};
use crate::domain::local_time::LocalTime;
use crate::domain::names::{ClassId, ClassName};
use crate::domain::schedule::{Access, Borrow, Days, Schedule, ScheduleFault, Window, WindowTerms};

/// The largest weight of a share.
const LARGEST_SHARE: u32 = 10_000;

/// The windows of a room.
#[derive(Debug)]
pub(super) struct Windows {
    pub(super) schedule: Schedule,
    /// What windows say to visitors, by [`WindowTerms::message`].
    pub(super) messages: Vec<LocalText>,
}

/// What is known of a window whose days and hours are good.
struct Draft {
    window: Window,
    message: LocalText,
}

/// Reads the windows of a room. `None` when anything is wrong with one of them or between them.
pub(super) fn windows(room: &Section<'_>, zone: Option<&TimeZone>, classes: Option<&[ClassName]>) -> Option<Windows> {
    let sections = room.tables("window");
    if sections.is_empty() {
        return (!room.has("window")).then(|| Windows { schedule: Schedule::always(), messages: Vec::new() });
    }
    let drafts: Vec<Option<Draft>> = sections.iter().map(|section| draft(section, classes)).collect();
    let drafts: Vec<Draft> = drafts.into_iter().collect::<Option<_>>()?;
    let (mut windows, mut messages) = (Vec::new(), Vec::new());
    for Draft { mut window, message } in drafts {
        if message.first().is_some() {
            window.terms.message = Some(messages.len());
            messages.push(message);
        }
        windows.push(window);
    }
    match Schedule::new(zone?.clone(), windows) {
        Ok(schedule) => Some(Windows { schedule, messages }),
        Err(faults) => {
            faults.iter().for_each(|fault| note(room, &sections, fault));
            None
        }
    }
}

fn note(room: &Section<'_>, sections: &[Section<'_>], fault: &ScheduleFault) {
    match fault {
        ScheduleFault::Gap { .. } => {
            let remedy = "add a window for these hours, or one with closed = true";
            room.fault("window", Wrong::new(fault.to_string(), remedy));
        }
        ScheduleFault::Overlap { first, second, hours } => {
            let what = format!("open at the same time as window[{}]: {hours}", first + 1);
            let remedy =
                "let one end where the other begins, or name the weekdays or dates of the one that goes before";
            if let Some(section) = sections.get(*second) {
                section.fault("from", Wrong::new(what, remedy));
            }
        }
    }
}

fn draft(section: &Section<'_>, classes: Option<&[ClassName]>) -> Option<Draft> {
    let from = section.read("from", local_time);
    let to = section.read("to", local_time);
    let weekdays = section.list("days", weekday);
    let dates = section.list("dates", dates);
    let access = section.read("closed", value::one_of_flags(Access::Closed, Access::Open));
    let borrow = section.read("borrow", value::one_of_flags(Borrow::Yes, Borrow::No));
    let shares = shares(section, access, classes);
    let floors = floors(section, shares.as_deref(), classes);
    let rate = section.optional("admission_rate", value::rate);
    let max_active_sessions = section.optional("max_active_sessions", value::whole(1..=10_000_000u64));
    let message = section.read("message", local_text);
    if access == Some(Access::Closed) {
        for key in ["borrow", "floor"].into_iter().filter(|key| section.has(key)) {
            section.fault(key, Wrong::new("nobody enters while it is closed", "remove it, or closed = true"));
        }
    }
    let terms = WindowTerms {
        access: access?,
        shares: shares?,
        borrow: borrow?,
        floors: floors?,
        rate: rate?,
        max_active_sessions: max_active_sessions?,
        message: None,
    };
    let days = Days::of(&weekdays?, &dates?);
    Some(Draft { window: Window { days, from: from?, to: to?, terms }, message: message? })
}

/// The weights; without `share` all classes weigh the same, as they do without any window.
fn shares(section: &Section<'_>, access: Option<Access>, classes: Option<&[ClassName]>) -> Option<Vec<(ClassId, u32)>> {
    let written = section.optional("share", share_table)?;
    match (access?, written) {
        (Access::Closed, None) => Some(Vec::new()),
        (Access::Closed, Some(_)) => {
            section.fault("share", Wrong::new("nobody enters while it is closed", "remove it, or closed = true"));
            None
        }
        (Access::Open, None) => Some(classes?.iter().map(|class| (class.id(), 1)).collect()),
        (Access::Open, Some(written)) => {
            let known = written.into_iter().map(|(name, weight)| share(section, &name, weight, classes));
            // First all, so that every faulty one is noted.
            let shares: Vec<Option<(ClassId, u32)>> = known.collect();
            let shares: Vec<(ClassId, u32)> = shares.into_iter().collect::<Option<_>>()?;
            if shares.iter().all(|(_, weight)| *weight == 0) {
                let remedy = "give a class a share, such as { citizen = 1 }, or write closed = true instead";
                section.fault("share", Wrong::new("nobody has a share", remedy));
                return None;
            }
            Some(shares)
        }
    }
}

/// The weights as written, each with its class's name.
type Written = Vec<(String, Read<u32>)>;

fn share_table(value: &DeValue<'_>) -> Read<Written> {
    let Some(table) = value.as_table() else {
        let what = format!("expected a table, found {}", value::kind(value));
        return Err(Wrong::new(what, "write { intermediary = 30, citizen = 70 }"));
    };
    let mut written: Vec<_> = table.iter().collect();
    written.sort_by_key(|(name, _)| name.span().start);
    let weight = value::whole(0..=LARGEST_SHARE);
    Ok(written.into_iter().map(|(name, value)| (name.get_ref().to_string(), weight(value.get_ref()))).collect())
}

fn share(
    section: &Section<'_>,
    name: &str,
    weight: Read<u32>,
    classes: Option<&[ClassName]>,
) -> Option<(ClassId, u32)> {
    let of_class = |wrong: Wrong| Wrong::new(format!("{}: {}", value::shown(name), wrong.what), wrong.remedy);
    let weight = weight.map_err(|wrong| section.fault("share", of_class(wrong))).ok();
    Some((known(section, "share", name, classes?)?, weight?))
}

fn floors(
    section: &Section<'_>,
    shares: Option<&[(ClassId, u32)]>,
    classes: Option<&[ClassName]>,
) -> Option<Vec<ClassId>> {
    let names = section.list("floor", value::class_name)?;
    let known: Vec<Option<ClassId>> =
        names.iter().map(|name| known(section, "floor", name.as_str(), classes?)).collect();
    let floors: Vec<ClassId> = known.into_iter().collect::<Option<_>>()?;
    let has_share = |class: &ClassId| shares.is_none_or(|shares| shares.iter().any(|(of, n)| of == class && *n > 0));
    for (index, _) in floors.iter().enumerate().filter(|(_, class)| !has_share(class)) {
        let remedy = "give the class a share in this window, or remove it here";
        section.fault_in_list("floor", index, Wrong::new("a class without a share has no floor", remedy));
    }
    Some(floors)
}

/// The class of that name, or a fault that says which there are.
fn known(section: &Section<'_>, key: &str, name: &str, classes: &[ClassName]) -> Option<ClassId> {
    let found = classes.iter().find(|class| class.as_str() == name).map(ClassName::id);
    if found.is_none() {
        let names = classes.iter().map(ClassName::as_str).collect::<Vec<_>>().join(", ");
        let remedy = format!("write one of {names}, or add a [[class]] of that name");
        section.fault(key, Wrong::new(format!("{}: no such class", value::shown(name)), remedy));
    }
    found
}

/// `"08:00"`; `"24:00"` is the end of the day.
fn local_time(value: &DeValue<'_>) -> Read<LocalTime> {
    value::parsed(value, "write hours and minutes, such as \"08:00\" or \"24:00\"", |text| {
        text.parse().map_err(|_| "not a time of day")
    })
}

fn weekday(value: &DeValue<'_>) -> Read<Weekday> {
    let days = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    value::one_of(&days)(value)
}

/// `"2026-12-24"` or `"2026-12-24..2026-12-26"`, both ends included.
fn dates(value: &DeValue<'_>) -> Read<RangeInclusive<Date>> {
    let remedy = "write a date such as \"2026-12-24\", or the first and the last such as \"2026-12-24..2026-12-26\"";
    value::parsed(value, remedy, |text| {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let (first, last) = (date(first)?, date(last)?);
        if first <= last { Ok(first..=last) } else { Err("ends before it begins") }
    })
}

fn date(text: &str) -> Result<Date, &'static str> {
    let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if plain { text.parse().map_err(|_| "not a date") } else { Err("not a date") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Room, parse};
    use crate::domain::local_time::unix;
    use crate::domain::names::{ClassId, ClassName};
    use crate::domain::schedule::{Access, Borrow};

    fn room(windows: &str) -> Result<Room, String> {
        let file = format!(
            "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n\
             [[class]]\nname = \"intermediary\"\nproof = [ {{ kind = \"invitation_code\" }} ]\n[[room]]\nname = \"a\"\n\
             paths = [\"/a/**\"]\nadmission_rate = \"1/s\"\n{windows}"
        );
        let config = parse(&file, Path::new("/etc")).map_err(|faults| faults.to_string())?;
        Ok(config.rooms[0].as_ref().clone())
    }

    fn fault(windows: &str, says: &str) {
        let found = room(windows).expect_err(windows);
        assert!(found.contains(says), "{found}\ndoes not say\n{says}");
    }

    const REST: &str = "[[room.window]]\nfrom = \"00:00\"\nto = \"24:00\"\n";

    #[test]
    fn the_hours_of_the_first_of_april() {
        let room = room(
            "[[room.window]]\nfrom = \"08:00\"\nto = \"16:00\"\nshare = { intermediary = 100 }\n\
             max_active_sessions = 500\nadmission_rate = \"5/s\"\nmessage = \"Offices\"\n\
             [[room.window]]\nfrom = \"16:00\"\nto = \"08:00\"\nshare = { citizen = 90, intermediary = 10 }\n\
             borrow = true\nfloor = [\"citizen\"]\n",
        )
        .unwrap();
        let intermediary = ClassName::new("intermediary").unwrap().id();
        let citizen = ClassId::CITIZEN;
        let terms = |at: &str| room.schedule.at(unix(at.parse().unwrap())).0.unwrap().clone();
        let day = terms("2026-04-01T06:00:00Z");
        assert_eq!((day.share(intermediary), day.share(citizen), day.borrow), (100, 0, Borrow::No));
        assert_eq!((day.rate, day.max_active_sessions), (Some("5/s".parse().unwrap()), Some(500)));
        assert_eq!(day.message.map(|at| room.window_messages[at].first()), Some(Some("Offices")));
        let night = terms("2026-04-01T14:00:00Z");
        assert_eq!((night.share(intermediary), night.share(citizen), night.borrow), (10, 90, Borrow::Yes));
        assert_eq!((night.floors, night.rate, night.message), (vec![citizen], None, None));
    }

    #[test]
    fn without_share_all_weigh_the_same_and_closed_lets_nobody_in() {
        let at = |room: &Room| room.schedule.at(unix("2026-12-24T12:00:00Z".parse().unwrap())).0.unwrap().clone();
        let open = at(&room(REST).unwrap());
        assert_eq!(open.shares.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [1, 1]);
        let closed =
            "[[room.window]]\nfrom = \"08:00\"\nto = \"18:00\"\ndates = [\"2026-12-23..2026-12-26\"]\nclosed = true";
        let closed = at(&room(&format!("{REST}{closed}")).unwrap());
        assert_eq!((closed.access, closed.share(ClassId::CITIZEN)), (Access::Closed, 0));
        assert_eq!(room("").unwrap().schedule.at(unix("2026-12-24T12:00:00Z".parse().unwrap())), (None, None));
    }

    #[test]
    fn faults_say_which_hours_are_meant() {
        let window = |rest: &str| format!("[[room.window]]\n{rest}\n");
        let day = window("from = \"08:00\"\nto = \"16:00\"");
        fault(&day, "line 10, column 1: room[1] \"a\".window: nobody is told who may enter every day 16:00-08:00; add");
        let overlap = format!("{day}{}", window("from = \"15:00\"\nto = \"08:00\""));
        fault(&overlap, "window[2].from: open at the same time as window[1]: every day 15:00-16:00; let one end");
        for (lines, says) in [
            ("from = \"8\"", "window[1].from: \"8\": not a time of day"),
            ("to = 8", "window[1].to: expected a text"),
            ("from = \"08:00\"", "window[1].to: missing"),
            ("days = [\"monday\"]", "window[1].days[1]: \"monday\" is no such choice; write \"mon\" or"),
            ("dates = [\"2026-02-30\"]", "window[1].dates[1]: \"2026-02-30\": not a date"),
            ("dates = [\"2026-12-26..2026-12-24\"]", "ends before it begins"),
            ("share = { office = 1 }", "share: \"office\": no such class; write one of intermediary, citizen"),
            ("share = { citizen = -1 }", "share: \"citizen\": -1 is out of range"),
            ("share = { citizen = 0 }", "share: nobody has a share; give a class"),
            ("share = {}", "nobody has a share"),
            ("share = 3", "share: expected a table"),
            ("closed = true\nshare = { citizen = 1 }", "share: nobody enters while it is closed"),
            ("closed = true\nborrow = true", "borrow: nobody enters while it is closed"),
            ("share = { citizen = 1 }\nfloor = [\"intermediary\"]", "floor[1]: a class without a share has no floor"),
            ("floor = [\"office\"]", "floor: \"office\": no such class"),
            ("max_active_sessions = 0", "max_active_sessions: 0 is out of range"),
            ("colour = 1", "window[1].colour: unknown key"),
        ] {
            fault(&window(lines), says);
        }
        let several = window("from = \"8\"\nto = \"9\"\nshare = { office = -1, citizen = true }");
        let found = room(&several).unwrap_err();
        for says in ["\"8\"", "\"9\"", "\"office\": no such class", "\"office\": -1", "\"citizen\": expected"] {
            assert!(found.contains(says), "{found}\ndoes not say {says}");
        }
    }
}
