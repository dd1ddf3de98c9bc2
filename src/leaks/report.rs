//! What operators read: the running program's findings as JSON, and summaries of the audit file for people.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Leaks;
use super::audit::{self, Line, hex};
use super::hashes::Hashes;
use crate::admin::LeakStatus;
use crate::config;
use crate::domain::leak_breaker::Admissions;
use crate::domain::leak_guard::Mode;
use crate::domain::names::RoomName;
use crate::domain::public_proposals::Proposal;
use crate::domain::route_shape::route_of;
use crate::domain::time::Now;
use crate::telemetry::metrics::LeakGuardAction;

/// Lines of a summary at most.
const MOST_SHOWN: usize = 200;

impl Leaks {
    /// What was found since the start, as JSON; `ramp` is how long a room takes to reopen. Reading changes nothing.
    pub fn report<'a>(
        &self,
        settings: &config::LeakGuard,
        ramp: Duration,
        rooms: impl Iterator<Item = &'a RoomName>,
        now: Now,
    ) -> Value {
        let room = |room: &RoomName| json!({"room": room.as_str(), "admissions": self.admissions_word(room, settings, ramp, now)});
        let finding = |entry: super::tally::Entry| {
            json!({
                "rule": entry.rule.as_str(), "action": entry.action.as_str(), "route": entry.route,
                "times": entry.times, "last": timestamp(entry.last.0),
            })
        };
        let proposal = |proposal: Proposal| json!({"pattern": proposal.pattern, "requests": proposal.requests, "share": proposal.share});
        json!({
            "mode": if settings.rules.mode == Mode::Observe { "observe" } else { "enforce" },
            "calibration": self.calibration_report(),
            "rooms": rooms.map(room).collect::<Vec<_>>(),
            "findings": self.tally.entries().into_iter().map(finding).collect::<Vec<_>>(),
            "public_proposals": self.proposals.all().into_iter().map(proposal).collect::<Vec<_>>(),
            "edge": self.edge_report(),
        })
    }
}

impl Leaks {
    /// Whether visitors may enter a room: `open`, `stopped` or `reopening`. Asking changes nothing.
    pub fn admissions_word(
        &self,
        room: &RoomName,
        settings: &config::LeakGuard,
        ramp: Duration,
        now: Now,
    ) -> &'static str {
        match self.admissions_seen(room, settings, ramp, now) {
            Admissions::Go => "open",
            Admissions::Stopped => "stopped",
            Admissions::Climbing(_) => "reopening",
        }
    }

    /// What was found since the start, in a few figures.
    pub fn overview(&self, settings: &config::LeakGuard) -> LeakStatus {
        let mut overview = LeakStatus {
            mode: if settings.rules.mode == Mode::Observe { "observe" } else { "enforce" },
            edge: self.edge_report(),
            ..LeakStatus::default()
        };
        for entry in self.tally.entries() {
            match entry.action {
                LeakGuardAction::Blocked => overview.blocked += entry.times,
                LeakGuardAction::Alarmed => overview.alarmed += entry.times,
                _ => continue,
            }
            overview.last = overview.last.max(Some(entry.last));
        }
        overview
    }
}

fn timestamp(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    format!("{:.0}", jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX))
}

/// What one rule did on one route.
#[derive(Debug, Default)]
struct Row {
    times: u64,
    visitors: BTreeSet<String>,
    sessions: BTreeSet<String>,
    people: BTreeSet<String>,
    first: String,
    last: String,
}

/// Summarises the audit file for people: what was done on which route, how often, and to how many.
///
/// # Errors
/// When a file cannot be read.
pub fn summary(file: &Path) -> io::Result<String> {
    let mut rows: BTreeMap<(String, String, String), Row> = BTreeMap::new();
    let mut people = BTreeSet::new();
    let mut unreadable = 0;
    for line in lines(file) {
        let Some(line) = line? else {
            unreadable += 1;
            continue;
        };
        people.extend(line.identity.iter().chain(&line.other_identity).cloned());
        let route = route_of(&line.path);
        rows.entry((line.rule.clone(), line.action.clone(), route)).or_default().add(line);
    }
    let mut text = String::new();
    if rows.is_empty() {
        text.push_str("nothing was found\n");
    } else {
        text.push_str(
            "rule                  action      times  visitors  sessions  people  route, first and last time\n",
        );
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.times));
    let omitted = rows.len().saturating_sub(MOST_SHOWN);
    for ((rule, action, route), row) in rows.into_iter().take(MOST_SHOWN) {
        // Writing into memory cannot fail.
        let _ = writeln!(
            text,
            "{rule:<21} {action:<10} {:>6}  {:>8}  {:>8}  {:>6}  {route}  {} .. {}",
            row.times,
            row.visitors.len(),
            row.sessions.len(),
            row.people.len(),
            row.first,
            row.last
        );
    }
    if omitted > 0 {
        let _ = writeln!(text, "and {omitted} more");
    }
    if !people.is_empty() {
        let _ = writeln!(
            text,
            "{} people are concerned; find them with: anticamera leaks match --identities FILE",
            people.len()
        );
    }
    if unreadable > 0 {
        let _ = writeln!(text, "{unreadable} lines could not be read");
    }
    Ok(text)
}

impl Row {
    fn add(&mut self, line: Line) {
        self.times += line.times.unwrap_or(1);
        self.visitors.extend(line.visitor.into_iter().chain(line.other_visitor));
        self.sessions.extend(line.session);
        self.people.extend(line.identity.into_iter().chain(line.other_identity));
        if self.first.is_empty() || line.at < self.first {
            self.first.clone_from(&line.at);
        }
        if line.at > self.last {
            self.last = line.at;
        }
    }
}

/// Finds in a list of identities, one on each line, those who are concerned: the identity, how often, when first and
/// last, by which rules; separated by tabs.
///
/// # Errors
/// When a file cannot be read.
pub fn concerned(file: &Path, hashes: &Hashes, identities: impl BufRead) -> io::Result<String> {
    let mut events: HashMap<String, Row> = HashMap::new();
    let mut rules: HashMap<String, BTreeSet<String>> = HashMap::new();
    for line in lines(file) {
        let Some(line) = line? else { continue };
        for person in [&line.identity, &line.other_identity].into_iter().flatten() {
            events.entry(person.clone()).or_default().add(line.clone());
            rules.entry(person.clone()).or_default().insert(format!("{}:{}", line.rule, line.action));
        }
    }
    let mut text = String::new();
    for identity in identities.lines() {
        let identity = identity?;
        let name = identity.trim();
        let hash = hex(hashes.identity(name.as_bytes()).0);
        if name.is_empty() {
            continue;
        }
        if let (Some(row), Some(rules)) = (events.get(&hash), rules.get(&hash)) {
            let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
            let _ = writeln!(text, "{name}\t{}\t{}\t{}\t{}", row.times, row.first, row.last, rules.join(","));
        }
    }
    Ok(text)
}

/// Every line of every audit file; `None` for one that cannot be read.
fn lines(file: &Path) -> impl Iterator<Item = io::Result<Option<Line>>> {
    let lines = |path: std::path::PathBuf| -> Box<dyn Iterator<Item = io::Result<Option<Line>>>> {
        match File::open(path) {
            Ok(file) => Box::new(
                BufReader::new(file).split(b'\n').map(|line| line.map(|line| serde_json::from_slice(&line).ok())),
            ),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    };
    audit::files(file).into_iter().flat_map(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &Path, hashes: &Hashes) -> std::path::PathBuf {
        let path = directory.join("leaks.jsonl");
        let anna = hex(hashes.identity(b"ANNA").0);
        let bruno = hex(hashes.identity(b"BRUNO").0);
        let lines = [
            format!(
                r#"{{"at":"2030-01-01T00:00:00.000Z","rule":"identity_mismatch","action":"blocked","path":"/pratica/20300101","visitor":"v1","identity":"{anna}","other_identity":"{bruno}"}}"#
            ),
            r#"{"at":"2030-01-01T00:00:01.000Z","rule":"private","action":"downgraded","path":"/s/*","times":7}"#
                .to_owned(),
            "half a li".to_owned(),
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    }

    #[test]
    fn the_people_concerned_are_counted_and_found() {
        let directory = tempfile::tempdir().unwrap();
        let hashes = Hashes::load_or_create(&directory.path().join("key")).unwrap();
        let path = file(directory.path(), &hashes);
        let summary = summary(&path).unwrap();
        assert!(summary.contains("/pratica/*") && summary.contains("2 people are concerned"), "{summary}");
        assert!(summary.contains("1 lines could not be read"), "{summary}");
        let found = concerned(&path, &hashes, "carla\n anna \n\nBruno\n".as_bytes()).unwrap();
        let names: Vec<&str> = found.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(names, ["anna", "Bruno"]);
        assert!(found.contains("identity_mismatch:blocked"), "{found}");
    }

    #[test]
    fn without_a_file_nothing_was_found() {
        assert_eq!(summary(Path::new("/nonexistent/leaks.jsonl")).unwrap(), "nothing was found\n");
    }
}
