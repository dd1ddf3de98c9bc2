//! What is allowed but probably not meant. `anticamera check` prints it; nothing is refused for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::resolved::{Admin, AdminListen, ClientAddressHeader, Config, Room};
use crate::domain::opening::LONGEST_SPREAD;
use crate::domain::paths::{HostPattern, PathPattern};
use crate::domain::time::Unix;

/// Something that is allowed but probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key it concerns.
    pub key: String,
    /// What will happen, and what to do about it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

impl Config {
    /// What is allowed but probably not meant.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        warnings.extend(self.trusts_everybody());
        warnings.extend(self.announced_by_nobody());
        warnings.extend(self.sends_nowhere());
        warnings.extend(reachable_by_others(&self.admin));
        warnings.extend(self.protects_nothing());
        self.rooms.iter().for_each(|room| warnings.extend(of_room(room)));
        warnings.extend(self.shadowed_rooms());
        warnings.extend(self.nothing_public());
        warnings
    }

    /// What is probably not meant at this moment: openings and closings whose hour is over. It is no fault, because a room
    /// that opened, or closed, keeps its table.
    pub fn warnings_at(&self, now: Unix) -> impl Iterator<Item = Warning> {
        let over = move |room: &&Arc<Room>| room.opening.is_some_and(|opening| opening.at <= now);
        let text = "lies in the past: unless this room's state knows of the opening, nobody gathers and the room is open; \
                    write a later hour, or remove the table";
        let opened = self.rooms.iter().filter(over).map(move |room| of(room, "opening.at", text));
        let over = move |room: &&Arc<Room>| room.closing.as_ref().is_some_and(|ending| ending.closing.at <= now);
        let text = "lies in the past: nobody can join; write a later hour, or remove the table";
        opened.chain(self.rooms.iter().filter(over).map(move |room| of(room, "closing.at", text)))
    }

    fn trusts_everybody(&self) -> Option<Warning> {
        let everybody = self.server.trusted_proxies.iter().any(|network| network.prefix_len() == 0);
        everybody.then(|| {
            warning(
                "server.trusted_proxies",
                "everybody is trusted, so every client can claim any address; list only the proxies in front",
            )
        })
    }

    fn announced_by_nobody(&self) -> Option<Warning> {
        let server = &self.server;
        let nobody = server.client_address == ClientAddressHeader::ProxyProtocol && server.trusted_proxies.is_empty();
        let text = "nobody is believed, because trusted_proxies is empty; list the proxies that send the PROXY header";
        nobody.then(|| warning("server.client_address", text))
    }

    fn sends_nowhere(&self) -> Option<Warning> {
        let server = &self.server;
        let has_home = !server.tls.is_empty() || server.public_url.as_ref().is_some_and(|url| url.https);
        let text = "visitors are sent nowhere, because no host has a certificate here; add a [[server.tls]], or an \
                    https public_url";
        (!server.redirect_listen.is_empty() && !has_home).then(|| warning("server.redirect_listen", text))
    }

    fn protects_nothing(&self) -> Option<Warning> {
        let text = "there is none, so every request is forwarded without a line; add a [[room]]";
        self.rooms.is_empty().then(|| warning("room", text))
    }

    fn nothing_public(&self) -> Option<Warning> {
        let text = "nothing is listed, so style sheets and images of protected pages need a pass and are never cached; \
                    list the portal's static files";
        self.leak_guard.public.is_empty().then(|| warning("leak_guard.public", text))
    }

    fn shadowed_rooms(&self) -> impl Iterator<Item = Warning> {
        self.rooms.iter().enumerate().filter_map(|(index, room)| {
            let earlier = self.rooms.get(..index).unwrap_or_default();
            let covers = covering(earlier, room)?;
            let text = format!(
                "never reached, because room \"{covers}\" stands before it and takes the same requests; move it up"
            );
            Some(of(room, "paths", text))
        })
    }
}

fn reachable_by_others(admin: &Admin) -> Option<Warning> {
    let AdminListen::Tcp(address) = admin.listen else { return None };
    let text = format!(
        "{address} can be reached from other machines; use a loopback address or a Unix socket, or keep others out"
    );
    (!address.ip().is_loopback()).then(|| warning("admin.listen", text))
}

fn of_room(room: &Room) -> Vec<Warning> {
    let mut warnings = unmatchable(&room.bypass, PathPattern::matches_raw, &key_of(room, "bypass"));
    warnings.extend(too_few_seats(room));
    warnings.extend(short_session(room));
    warnings.extend(short_ticket(room));
    warnings.extend(nothing_to_adapt(room));
    warnings.extend(short_claim(room));
    warnings
}

/// Privileges are given to plainly spelled paths only, so a pattern that is spelled otherwise never matches.
fn unmatchable(patterns: &[PathPattern], matches: fn(&PathPattern, &str) -> bool, key: &str) -> Vec<Warning> {
    // What a pattern matches, if it matches anything.
    let sample = |pattern: &PathPattern| pattern.as_str().replace("**", "a").replace('*', "a");
    let never = patterns.iter().filter(|pattern| !matches(pattern, &sample(pattern)));
    let text = |pattern: &PathPattern| {
        format!(
            "\"{}\" never matches: only paths of letters, digits and . _ - are read alike by every server; remove it",
            pattern.as_str()
        )
    };
    never.map(|pattern| warning(key, text(pattern))).collect()
}

/// With fewer seats than visitors who come within a session, the seats decide who gets in.
fn too_few_seats(room: &Room) -> Option<Warning> {
    let seats = room.max_active_sessions?;
    let needed = entries_within(room, room.session_duration);
    let text = format!(
        "{seats} is less than admission_rate x session_duration ({needed}), so it, not the rate, is the limit; \
         raise it or lower the rate"
    );
    (u128::from(seats) < needed).then(|| of(room, "max_active_sessions", text))
}

fn entries_within(room: &Room, span: Duration) -> u128 {
    let rate = room.admission_rate;
    (u128::from(rate.count()) * span.as_nanos()).div_ceil(u128::from(rate.per().nanos()))
}

fn short_session(room: &Room) -> Option<Warning> {
    let text = "less than a minute: who reads a page for that long loses the seat; visitors need 10m or more";
    (room.session_duration < Duration::from_mins(1)).then(|| of(room, "session_duration", text))
}

/// Where the rate is not above the floor, nothing can be lowered.
fn nothing_to_adapt(room: &Room) -> Option<Warning> {
    let floor = room.adaptive?.floor;
    let lowest = room.schedule.rates().min_by(|one, other| one.per_second().total_cmp(&other.per_second()))?;
    let text = format!(
        "the rate of a window, {lowest}, is not above the floor, {floor}, so it stays as it is however slow the portal is; \
         write a lower floor"
    );
    (lowest.per_second() <= floor.per_second()).then(|| of(room, "adaptive", text))
}

/// After an opening it takes a while until everybody who gathered has asked and knows of a turn.
fn short_claim(room: &Room) -> Option<Warning> {
    let is_short = room.opening.is_some() && room.claim_window < LONGEST_SPREAD;
    let text = format!(
        "shorter than the {}s over which a large crowd asks after the opening, so a turn may lapse before its holder \
         knows of it; make it 5m or longer",
        LONGEST_SPREAD.as_secs()
    );
    is_short.then(|| of(room, "claim_window", text))
}

/// Whoever waits for their hours with the page closed must have a ticket when they begin.
fn short_ticket(room: &Room) -> Option<Warning> {
    let closures = room.classes.iter().map(|class| (class, room.schedule.longest_closure(class.id())));
    let (class, closed) = closures.max_by_key(|(_, closed)| *closed)?;
    let hours = closed.as_secs().div_ceil(3600);
    let text = format!(
        "visitors of class {class} wait up to {hours}h for their hours, and a ticket is forgotten before if the page is \
         closed meanwhile; write \"{hours}h\" or more"
    );
    (closed > room.ticket_lifetime).then(|| of(room, "ticket_lifetime", text))
}

/// The name of an earlier room that takes every request this one could get.
fn covering<'r>(earlier: &'r [Arc<Room>], room: &Room) -> Option<&'r str> {
    let covers = |other: &&Arc<Room>| {
        let hosts = room.hosts.iter().all(|host| has_host(&other.hosts, host));
        hosts && room.paths.iter().all(|path| has_path(&other.paths, path))
    };
    earlier.iter().find(covers).map(|other| other.name.as_str())
}

fn has_host(hosts: &[HostPattern], host: &HostPattern) -> bool {
    hosts.contains(host) || HostPattern::parse("*").is_ok_and(|every| hosts.contains(&every))
}

fn has_path(paths: &[PathPattern], path: &PathPattern) -> bool {
    paths.contains(path) || PathPattern::parse("/**").is_ok_and(|every| paths.contains(&every))
}

fn of(room: &Room, key: &str, text: impl Into<String>) -> Warning {
    warning(key_of(room, key), text)
}

fn key_of(room: &Room, key: &str) -> String {
    format!("room \"{}\".{key}", room.name)
}

fn warning(key: impl Into<String>, text: impl Into<String>) -> Warning {
    Warning { key: key.into(), text: text.into() }
}
