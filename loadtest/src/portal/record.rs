//! What reached the portal: one short entry a request, written the moment its head was read.

use std::collections::HashMap;
use std::fmt::Write;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// What reached the portal, in order.
#[derive(Debug, Default)]
pub struct Record {
    entries: Vec<Entry>,
    methods: Names,
    paths: Names,
}

/// 16 bytes a request; names are kept once.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Moment,
    visitor: u32,
    method: u16,
    path: u16,
}

/// No visitor's mark.
const NOBODY: u32 = u32::MAX;
/// Entries in one answer.
const PAGE: usize = 10_000;

/// Names and their numbers. Those beyond the 65,534th are all called `...`.
#[derive(Debug, Default)]
struct Names {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u16>,
}

/// One request that reached the portal, as a line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Microseconds on the portal's clock.
    pub at_us: Moment,
    /// The visitor's mark.
    pub visitor: Option<u32>,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
}

impl Record {
    /// Adds one request.
    pub fn add(&mut self, at: Moment, visitor: Option<u32>, method: &Method, path: &str) {
        let (method, path) = (self.methods.number(method.as_str()), self.paths.number(path));
        self.entries.push(Entry { at, visitor: visitor.unwrap_or(NOBODY), method, path });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Record::default();
    }

    /// Everything from the entry `from` on, at most 10,000 entries, as JSON lines.
    pub fn lines(&self, from: usize) -> String {
        let mut lines = String::new();
        for entry in self.entries.iter().skip(from).take(PAGE) {
            if let Ok(line) = serde_json::to_string(&self.reached(entry)) {
                let _ = writeln!(lines, "{line}");
            }
        }
        lines
    }

    fn reached(&self, entry: &Entry) -> Reached {
        Reached {
            at_us: entry.at,
            visitor: Some(entry.visitor).filter(|mark| *mark != NOBODY),
            method: self.methods.name(entry.method).to_owned(),
            path: self.paths.name(entry.path).to_owned(),
        }
    }
}

impl Names {
    fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.names.len()) else { return u16::MAX };
        if number == u16::MAX {
            return number;
        }
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }

    fn name(&self, number: u16) -> &str {
        self.names.get(usize::from(number)).map_or("...", AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection_pool::LONGEST_ANSWER;

    #[test]
    fn lines_tell_what_was_added() {
        let mut record = Record::default();
        record.add(Moment(5), Some(7), &Method::GET, "/bonus-600/");
        record.add(Moment(6), None, &Method::POST, "/bonus-600/");
        let reached: Vec<Reached> = record.lines(0).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = |at, visitor, method: &str| Reached {
            at_us: Moment(at),
            visitor,
            method: method.to_owned(),
            path: "/bonus-600/".to_owned(),
        };
        assert_eq!(reached, [expected(5, Some(7), "GET"), expected(6, None, "POST")]);
        assert_eq!(record.lines(1).lines().count(), 1);
    }

    #[test]
    fn a_page_of_a_long_record_is_no_longer_than_an_answer_may_be() {
        let mut record = Record::default();
        for visitor in 0..2 * PAGE as u32 {
            record.add(Moment(u64::MAX / 2), Some(visitor), &Method::OPTIONS, &"/bonus-600/page".repeat(10));
        }
        let page = record.lines(0);
        assert_eq!(page.lines().count(), PAGE);
        assert!(page.len() < LONGEST_ANSWER, "{}", page.len());
    }

    #[test]
    fn names_do_not_overflow() {
        let mut names = Names::default();
        let numbers: Vec<u16> = (0..70_000).map(|n| names.number(&n.to_string())).collect();
        assert_eq!((names.name(numbers[3]), names.name(numbers[69_999])), ("3", "..."));
    }
}
