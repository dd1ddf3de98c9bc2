//! How often which rule did what on which route: the figures behind the report. Bounded: beyond a thousand routes the
//! rest counts as one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use http::Method;

use super::audit::Event;
use crate::domain::fiscal_code::has_fiscal_code;
use crate::domain::leak_guard::is_plain_public_path;
use crate::domain::time::Unix;
use crate::telemetry::metrics::{LeakGuardAction, LeakGuardRule};

/// Routes told apart at most.
const MOST: usize = 1000;
/// Where everything else is counted.
const OTHERS: &str = "(other routes)";

/// Counts by rule, action and route.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<HashMap<Key, Count>>,
    folders: Mutex<Folders>,
}

/// What the portal answered below each folder, on routes that are not public.
#[derive(Debug, Default)]
struct Folders {
    requests: u64,
    seen: HashMap<String, Folder>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Folder {
    /// Answers that could have been shared.
    shareable: u64,
    /// Answers that could not.
    personal: u64,
}

/// A pattern that it would have been safe to list as public.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) pattern: String,
    pub(super) requests: u64,
    /// Of all requests on personal routes, 0 to 1.
    pub(super) share: f64,
}

/// Answers below a folder before it is proposed.
const ENOUGH: u64 = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    rule: LeakGuardRule,
    action: LeakGuardAction,
    route: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    times: u64,
    unwritten: u64,
    last: Unix,
}

/// One line of the tally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) rule: LeakGuardRule,
    pub(super) action: LeakGuardAction,
    pub(super) route: String,
    pub(super) times: u64,
    pub(super) last: Unix,
}

impl Entry {
    pub(super) fn into_event(self, at: Unix) -> Event {
        Event {
            path: self.route,
            times: Some(self.times),
            rule: self.rule.as_str(),
            action: self.action.as_str(),
            ..Event::at(at)
        }
    }
}

impl Tally {
    /// Counts what has an event of its own in the audit file.
    pub(super) fn count(&self, rule: LeakGuardRule, action: LeakGuardAction, path: &str, at: Unix) {
        self.add(rule, action, path, at, 0);
    }

    /// Counts what is only summed up in the audit file.
    pub(super) fn sum_up(&self, rule: LeakGuardRule, action: LeakGuardAction, path: &str, at: Unix) {
        self.add(rule, action, path, at, 1);
    }

    fn add(&self, rule: LeakGuardRule, action: LeakGuardAction, path: &str, at: Unix, unwritten: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Key { rule, action, route: route_of(path) };
        if counts.len() >= MOST && !counts.contains_key(&key) {
            OTHERS.clone_into(&mut key.route);
        }
        let count = counts.entry(key).or_default();
        count.times += 1;
        count.unwritten += unwritten;
        count.last = at;
    }

    /// Everything so far, most frequent first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<Entry> = counts.iter().map(|(key, count)| entry(key, count.times, count.last)).collect();
        drop(counts);
        entries.sort_by(|one, other| other.times.cmp(&one.times).then_with(|| one.route.cmp(&other.route)));
        entries
    }

    /// Notes whether a personal answer could have been shared: a static file by its name and type, with nothing in the
    /// exchange that says otherwise.
    pub(super) fn note_personal(&self, method: &Method, path: &str, could_be_shared: bool) {
        let Some((folder, _)) = path.rsplit_once('/') else { return };
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        folders.requests += 1;
        let is_read = matches!(*method, Method::GET | Method::HEAD) && is_plain_public_path(path);
        let count =
            |seen: &mut Folder| if could_be_shared && is_read { seen.shareable += 1 } else { seen.personal += 1 };
        if let Some(seen) = folders.seen.get_mut(folder) {
            return count(seen);
        }
        if folders.seen.len() < MOST && is_plain_public_path(folder) {
            count(folders.seen.entry(folder.to_owned()).or_default());
        }
    }

    /// Folders below which everything could have been shared, the highest of each branch, most requests first.
    pub(super) fn proposals(&self) -> Vec<Proposal> {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let below = |folder: &str, other: &str| {
            other.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let sum = |folder: &str| {
            let here = folders.seen.iter().filter(|(other, _)| below(folder, other));
            here.fold(Folder::default(), |sum, (_, seen)| Folder {
                shareable: sum.shareable + seen.shareable,
                personal: sum.personal + seen.personal,
            })
        };
        let is_safe = |folder: &str| {
            let sum = sum(folder);
            !folder.is_empty() && sum.personal == 0 && sum.shareable >= ENOUGH
        };
        let highest = |folder: &str| {
            let ends = folder.match_indices('/').map(|(at, _)| at).skip(1).chain([folder.len()]);
            ends.filter_map(|end| folder.get(..end)).find(|folder| is_safe(folder)).map(str::to_owned)
        };
        let found: BTreeSet<String> = folders.seen.keys().filter_map(|folder| highest(folder)).collect();
        let proposal = |folder: String| {
            let requests = sum(&folder).shareable;
            let share = requests as f64 / folders.requests.max(1) as f64;
            Proposal { pattern: format!("{folder}/**"), requests, share }
        };
        let mut proposals: Vec<Proposal> = found.into_iter().map(proposal).collect();
        proposals.sort_by_key(|proposal| std::cmp::Reverse(proposal.requests));
        proposals
    }

    /// What was summed up since the last time.
    pub(super) fn take_unwritten(&self) -> Vec<Entry> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = counts.iter_mut().filter(|(_, count)| count.unwritten > 0);
        fresh.map(|(key, count)| entry(key, std::mem::take(&mut count.unwritten), count.last)).collect()
    }
}

fn entry(key: &Key, times: u64, last: Unix) -> Entry {
    Entry { rule: key.rule, action: key.action, route: key.route.clone(), times, last }
}

/// The shape of a path: what looks like the number or name of one case is a star, so that many pages are one route and
/// nobody's number stands in a report.
pub(super) fn route_of(path: &str) -> String {
    let shape = |segment: &str| {
        // What follows a semicolon may be the number of a session.
        let segment = segment.split(';').next().unwrap_or_default();
        let digits = segment.bytes().filter(u8::is_ascii_digit).count();
        let is_file = segment.contains('.');
        let is_number = digits >= 3 && digits * 2 >= segment.len();
        let is_key = !is_file && digits > 0 && segment.len() >= 12;
        let names_a_person = has_fiscal_code(segment.as_bytes());
        if is_number || is_key || names_a_person || segment.len() > 60 { "*".to_owned() } else { segment.to_owned() }
    };
    path.split('/').take(8).map(shape).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_name_no_case() {
        for (path, route) in [
            ("/bonus-600/", "/bonus-600/"),
            ("/pratica/20200401123", "/pratica/*"),
            ("/cf/RSSMRA85T10A562S/pdf", "/cf/*/pdf"),
            ("/static/app.3f2a9c11d8.js", "/static/app.3f2a9c11d8.js"),
            ("/v2/me", "/v2/me"),
            ("/inps/home.jsp;jsessionid=0A1B2C3D4E5F", "/inps/home.jsp"),
            ("/docs/RSSMRA85T10A562S.pdf", "/docs/*"),
        ] {
            assert_eq!(route_of(path), route);
        }
    }

    #[test]
    fn folders_of_static_files_are_proposed() {
        let tally = Tally::default();
        for (path, shareable) in [
            ("/static/css/a.css", true),
            ("/static/js/a.js", true),
            ("/static/js/b.js", true),
            ("/app/img/a.png", true),
            ("/app/img/b.png", true),
            ("/app/img/c.png", true),
            ("/app/page", false),
            ("/files/a.css", true),
            ("/files/b.css", false),
            ("/rare/a.css", true),
            ("/style.css", true),
        ] {
            tally.note_personal(&Method::GET, path, shareable);
        }
        tally.note_personal(&Method::GET, "/", false);
        let patterns: Vec<String> = tally.proposals().into_iter().map(|proposal| proposal.pattern).collect();
        assert_eq!(patterns, ["/app/img/**", "/static/**"]);
        assert_eq!(tally.proposals()[0].share, 0.25);
    }

    #[test]
    fn the_tally_is_bounded_and_written_once() {
        let tally = Tally::default();
        for number in 0..MOST + 500 {
            let path = format!("/a{}/b", char::from_u32(0x4E00 + number as u32).unwrap());
            tally.sum_up(LeakGuardRule::Private, LeakGuardAction::Downgraded, &path, Unix(1));
        }
        let entries = tally.entries();
        assert_eq!((entries.len(), entries[0].route.as_str(), entries[0].times), (MOST + 1, OTHERS, 500));
        assert_eq!(tally.take_unwritten().len(), MOST + 1);
        assert!(tally.take_unwritten().is_empty());
    }
}
