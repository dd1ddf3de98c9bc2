//! `[[room]]`: from the table to the room, and what holds between rooms.

use std::time::Duration;

use super::fault::Wrong;
use super::resolved::{ByHandTerms, Entry, Room, RoomState};
use super::section::Section;
use super::value::{self, LIFE, WAIT};
use crate::domain::adaptive::Adaptive;
use crate::domain::limiter::Limit;
use crate::domain::names::{ClassName, RoomName};
use crate::domain::pass_limits::PassLimits;
use crate::domain::paths::{NormalPath, PathPattern};
use crate::domain::rate::Rate;
use crate::domain::seat::ForkedPass;

/// What `room.state` may say.
const STATES: [(&str, RoomState); 4] = [
    ("open", RoomState::Open),
    ("hold", RoomState::Hold),
    ("observe", RoomState::Observe),
    ("closed", RoomState::Closed),
];

/// Reads all rooms. `None` when anything is wrong with one of them or between them.
pub(super) fn rooms(sections: &[Section<'_>], classes: Option<&[ClassName]>) -> Option<Vec<Room>> {
    let names: Vec<Option<RoomName>> = sections.iter().map(|section| section.read("name", value::room_name)).collect();
    check_names(sections, &names);
    let rooms: Vec<Option<Room>> =
        sections.iter().zip(names).map(|(section, name)| room(section, name, classes)).collect();
    rooms.into_iter().collect()
}

fn check_names(sections: &[Section<'_>], names: &[Option<RoomName>]) {
    for (index, (section, name)) in sections.iter().zip(names).enumerate() {
        let Some(name) = name else { continue };
        let earlier = names.iter().take(index).flatten();
        if let Some(clash) = earlier.filter_map(|other| clash(name, other)).next() {
            section.fault("name", clash);
        }
    }
}

/// Why two rooms cannot have these names.
fn clash(name: &RoomName, other: &RoomName) -> Option<Wrong> {
    if name == other {
        return Some(Wrong::new(format!("another room is called \"{name}\" too"), "give each room a name of its own"));
    }
    let what = format!("\"{name}\" and \"{other}\" have the same number in tokens");
    (name.id() == other.id()).then(|| Wrong::new(what, "change one of the two names"))
}

fn room(section: &Section<'_>, name: Option<RoomName>, classes: Option<&[ClassName]>) -> Option<Room> {
    let hosts = section.list_of_some("hosts", value::host_pattern);
    let paths = section.list_of_some("paths", value::path_pattern);
    let start = start(section, paths.as_deref());
    let admission_rate = section.read("admission_rate", value::rate);
    let max_active_sessions = section.read("max_active_sessions", value::whole(0..=10_000_000u32));
    let session_duration = section.read("session_duration", value::duration(LIFE));
    let session_limit = section.read("session_limit", value::unless_empty(value::duration(LIFE)));
    let session_limit_extensions = section.read("session_limit_extensions", value::whole(0..=1000u32));
    let claim_window = section.read("claim_window", value::duration(LIFE));
    let ticket_lifetime = section.read("ticket_lifetime", value::duration(LIFE));
    let gate_wait = section.read("gate_wait", value::duration(WAIT));
    let joins_per_client = section.read("joins_per_client", value::rate_or_unlimited);
    let joins_in_all = section.read("joins_in_all", value::rate_or_unlimited);
    let requests_per_pass = section.read("requests_per_pass", value::rate_or_unlimited);
    let at_once_per_pass = section.read("requests_at_once_per_pass", value::whole(0..=1_000_000u32));
    let forks = [("overlap", ForkedPass::Overlap), ("line", ForkedPass::Line)];
    let forked_pass = section.read("forked_pass", value::one_of(&forks));
    let time_zone = section.read("time_zone", value::time_zone);
    let state = section.read("state", value::one_of(&STATES));
    let entry = section.read("entry", value::one_of(&[("direct", Entry::Direct), ("page", Entry::Page)]));
    let message = section.read("message", super::page::local_text);
    let page_status = section.read("page_status", value::page_status);
    let bypass = section.list("bypass", value::path_pattern);
    let login_callbacks = section.list("login_callbacks", value::path_pattern);
    let logout = section.list("logout", value::path_pattern);
    let login_health = section.read("login_health", value::unless_empty(value::login_health));
    let adaptive = section.optional("adaptive", value::adaptive);
    let page = super::page::room_page(&section.table("page"));
    let windows = super::window::windows(section, time_zone.as_ref(), classes);
    let opening = super::opening::opening(section, time_zone.as_ref());
    let closing = super::closing::closing(section, time_zone.as_ref(), opening.as_ref());

    check_visit(section, session_limit.flatten(), session_duration);
    check_extensions(section, session_limit, session_limit_extensions);
    check_turn(section, claim_window, ticket_lifetime);
    check_floor(section, adaptive.as_ref().and_then(Option::as_ref), admission_rate.as_ref());
    let name = name?;
    let windows = windows?;
    Some(Room {
        id: name.id(),
        name,
        hosts: hosts?,
        paths: paths?,
        start: start?,
        admission_rate: admission_rate?,
        max_active_sessions: max_active_sessions.map(|most| (most > 0).then_some(most))?,
        session_duration: session_duration?,
        session_limit: session_limit?,
        session_limit_extensions: session_limit_extensions?,
        claim_window: claim_window?,
        ticket_lifetime: ticket_lifetime?,
        gate_wait: gate_wait?,
        joins_per_client: joins_per_client?,
        joins_in_all: joins_in_all?,
        pass_limits: PassLimits {
            at_once: at_once_per_pass.map(|most| (most > 0).then_some(most))?,
            pace: requests_per_pass?.map(Limit::of),
        },
        forked_pass: forked_pass?,
        time_zone: time_zone?,
        classes: classes?.to_vec(),
        schedule: windows.schedule,
        window_messages: windows.messages,
        state: state?,
        entry: entry?,
        message: message?,
        page_status: page_status?,
        bypass: bypass?,
        login_callbacks: login_callbacks?,
        logout: logout?,
        login_health: login_health?,
        adaptive: adaptive?,
        page: page?,
        opening: opening?,
        closing: closing?,
        by_hand: ByHandTerms::default(),
    })
}

/// A visit does not end before anybody could be idle.
fn check_visit(section: &Section<'_>, limit: Option<Duration>, idle: Option<Duration>) {
    if let (Some(limit), Some(idle)) = (limit, idle)
        && limit < idle
    {
        let remedy = "make session_limit longer than session_duration";
        section.fault("session_limit", Wrong::new("a visit would end before anybody could be idle", remedy));
    }
}

/// Only a limit can be put off.
fn check_extensions(section: &Section<'_>, limit: Option<Option<Duration>>, extensions: Option<u32>) {
    if limit == Some(None) && extensions.is_some_and(|most| most > 0) {
        let remedy = "set session_limit, or leave session_limit_extensions out";
        section.fault("session_limit_extensions", Wrong::new("there is no limit to put off", remedy));
    }
}

/// A turn is kept no longer than its ticket.
fn check_turn(section: &Section<'_>, claim: Option<Duration>, ticket: Option<Duration>) {
    if claim > ticket && ticket.is_some() {
        let remedy = "make claim_window shorter or ticket_lifetime longer";
        section.fault("claim_window", Wrong::new("a turn would be kept longer than its ticket is good", remedy));
    }
}

/// A rate that follows the portal stays below the room's.
fn check_floor(section: &Section<'_>, adaptive: Option<&Adaptive>, rate: Option<&Rate>) {
    if let (Some(adaptive), Some(rate)) = (adaptive, rate)
        && adaptive.floor.per_second() > rate.per_second()
    {
        let remedy = "write a floor that is lower than admission_rate";
        section.fault("adaptive", Wrong::new("the floor is above the room's rate", remedy));
    }
}

/// The room's start page, which must be a page of the room: elsewhere nobody would enter.
fn start(section: &Section<'_>, paths: Option<&[PathPattern]>) -> Option<String> {
    let typed = section.optional("start", value::same_origin_path)?;
    let paths = paths?;
    let start = typed.unwrap_or_else(|| beginning_of(paths));
    let path = start.split('?').next().unwrap_or_default();
    if paths.iter().any(|pattern| pattern.matches(&NormalPath::of(path))) {
        return Some(start);
    }
    let what = format!("{} is none of the room's paths", value::shown(&start));
    section.fault("start", Wrong::new(what, "write a page that the room's paths match"));
    None
}

/// Where the room's first path begins: `/bonus-600/` for `/bonus-600/**`, and the path itself when it has no wildcard.
fn beginning_of(paths: &[PathPattern]) -> String {
    let first = paths.first().map_or("/", PathPattern::as_str);
    match first.split_once('*') {
        None => first.to_owned(),
        Some((fixed, _)) => format!("{}/", fixed.rsplit_once('/').map_or("", |(segments, _)| segments)),
    }
}
