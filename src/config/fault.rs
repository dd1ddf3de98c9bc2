//! What is wrong with a configuration: every fault with its key, its place in the file and a remedy.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

/// More faults than this are counted, not listed.
const LISTED_AT_MOST: usize = 200;

/// Longer lines, in bytes, are not shown.
const LONGEST_LINE_SHOWN: usize = 200;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The key as one would say it: `portal.url` or `room[2] "bonus-600".admission_rate` (rooms and list members are
    /// counted from 1). Empty when the file as a whole is meant.
    pub key: String,
    /// Where it stands in the file, when that is known.
    pub place: Option<Place>,
    /// What is wrong.
    pub wrong: String,
    /// What to do about it.
    pub remedy: String,
    /// The line in question with a mark under it, for text that is not TOML.
    pub excerpt: Option<String>,
}

/// A place in the file; both numbers begin at 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Everything that is wrong with a configuration, in the order of the file; what has no place comes last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Faults {
    listed: Vec<Fault>,
    omitted: usize,
}

impl Faults {
    /// The one fault of a file that could not be read at all.
    pub(super) fn of_file(wrong: String, remedy: &str) -> Faults {
        let fault = Fault { key: String::new(), place: None, wrong, remedy: remedy.to_owned(), excerpt: None };
        Faults { listed: vec![fault], omitted: 0 }
    }

    /// The faults, at most 200 of them.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.listed.iter()
    }

    /// How many there are, including those not listed.
    pub fn count(&self) -> usize {
        self.listed.len() + self.omitted
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.listed.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        if self.omitted > 0 { write!(f, "\nand {} more", self.omitted) } else { Ok(()) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.wrong, self.remedy)?;
        self.excerpt.iter().try_for_each(|excerpt| write!(f, "\n{excerpt}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a value cannot be used, before anybody knows under which key it stands.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), remedy: remedy.into() }
    }

    /// A key or value that the contract knows and this version does not.
    pub(super) fn not_supported() -> Wrong {
        Wrong::new("not supported by this version", "remove it")
    }
}

/// Collects faults while the file is read, so that the reader goes on after each of them.
#[derive(Debug, Default)]
pub(super) struct Findings(RefCell<Vec<Finding>>);

#[derive(Debug)]
struct Finding {
    /// Byte in the text.
    at: Option<usize>,
    fault: Fault,
}

impl Findings {
    pub(super) fn add(&self, key: impl Into<String>, at: Option<usize>, wrong: Wrong) {
        let fault = Fault { key: key.into(), place: None, wrong: wrong.what, remedy: wrong.remedy, excerpt: None };
        self.0.borrow_mut().push(Finding { at, fault });
    }

    /// Adds a place at which the text is not TOML, shown the way the TOML reader shows it.
    pub(super) fn add_syntax(&self, error: &toml::de::Error) {
        let remedy = if is_repetition(error) { "keep one of the two" } else { "correct the marked place" };
        let fault = Fault {
            key: String::new(),
            place: None,
            wrong: error.message().to_owned(),
            remedy: remedy.to_owned(),
            excerpt: excerpt(error),
        };
        self.0.borrow_mut().push(Finding { at: error.span().map(|span| span.start), fault });
    }

    /// Orders what was found by its place in `text`. `None` when nothing was found.
    pub(super) fn into_faults(self, text: &str) -> Option<Faults> {
        let mut found = self.0.into_inner();
        found.sort_by_key(|finding| finding.at.unwrap_or(usize::MAX));
        let omitted = found.len().saturating_sub(LISTED_AT_MOST);
        found.truncate(LISTED_AT_MOST);
        let placed = |finding: Finding| Fault { place: finding.at.map(|at| Place::of(at, text)), ..finding.fault };
        let listed: Vec<Fault> = found.into_iter().map(placed).collect();
        if listed.is_empty() { None } else { Some(Faults { listed, omitted }) }
    }
}

/// Whether a key stands there twice, which leaves the rest of the file readable.
pub(super) fn is_repetition(error: &toml::de::Error) -> bool {
    error.message() == "duplicate key"
}

/// The TOML reader's own picture of the line, without its heading and message, which stand before it already.
fn excerpt(error: &toml::de::Error) -> Option<String> {
    let shown = error.to_string();
    let picture: Vec<&str> = shown.lines().skip(1).take(3).collect();
    let fits = picture.len() == 3 && picture.iter().all(|line| line.len() <= LONGEST_LINE_SHOWN);
    fits.then(|| picture.join("\n"))
}

impl Place {
    /// The place of a byte; one that is not in the text counts as its end.
    pub(super) fn of(at: usize, text: &str) -> Place {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Place { line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\nè = é\n";
        assert_eq!(Place::of(0, text), Place { line: 1, column: 1 });
        let accented = text.find('é').unwrap();
        assert_eq!(Place::of(accented, text), Place { line: 2, column: 5 });
        assert_eq!(Place::of(999, text), Place { line: 3, column: 1 });
    }

    #[test]
    fn faults_stand_in_the_order_of_the_file_and_placeless_ones_last() {
        let findings = Findings::default();
        findings.add("nowhere", None, Wrong::new("missing", "add it"));
        findings.add("second", Some(2), Wrong::new("bad", "mend it"));
        findings.add("first", Some(0), Wrong::new("bad", "mend it"));
        let faults = findings.into_faults("a\nb\n").unwrap();
        assert_eq!(
            faults.to_string(),
            "line 1, column 1: first: bad; mend it\nline 2, column 1: second: bad; mend it\nnowhere: missing; add it"
        );
    }

    #[test]
    fn a_flood_of_faults_is_counted_and_cut() {
        let findings = Findings::default();
        (0..1000).for_each(|at| findings.add("key", Some(at), Wrong::not_supported()));
        let faults = findings.into_faults("").unwrap();
        assert_eq!((faults.iter().count(), faults.count()), (LISTED_AT_MOST, 1000));
        assert!(faults.to_string().ends_with("and 800 more"), "{faults}");
    }
}
