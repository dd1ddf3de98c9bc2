//! How often which rule did what on which route: the figures behind the report. Bounded: beyond a thousand routes the
//! rest counts as one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::audit::Event;
use crate::domain::route_shape::route_of;
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
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
