//! Reads one table of the file by its list of keys. A fault is noted with its place, and reading goes on; a value that
//! is missing or faulty is `None`, one that the file leaves out has its default.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Findings, Wrong};
use super::keys::{self, Key, Kind};
use super::value::{self, Read};

const KIND: &[Key] = &[Key { name: "kind", kind: Kind::Required }];

/// A table of the file, or the place where it would stand.
#[derive(Debug)]
pub(super) struct Section<'d> {
    /// The key under which the table stands; empty for the file itself.
    path: String,
    keys: &'static [Key],
    body: Body<'d>,
    /// Byte of its heading.
    at: Option<usize>,
    findings: &'d Findings,
}

#[derive(Debug)]
enum Body<'d> {
    Present(&'d DeTable<'d>),
    Absent,
    /// Something else stands there; that is noted, and nothing more is said about its keys.
    NoTable,
}

impl<'d> Section<'d> {
    /// The file as a whole.
    pub(super) fn file(table: &'d DeTable<'d>, findings: &'d Findings) -> Section<'d> {
        Section::checked(String::new(), keys::FILE, table, None, findings)
    }

    /// The table `[name]` in this one.
    pub(super) fn table(&self, name: &str) -> Section<'d> {
        let keys = self.keys_of(name);
        let path = self.key(name);
        match self.typed(name) {
            None => Section { path, keys, body: self.body_of_absent(), at: None, findings: self.findings },
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => Section::checked(path, keys, table, Some(start(value)), self.findings),
                other => {
                    let remedy = format!("write it as a table: [{path}], in single brackets");
                    self.fault(name, Wrong::new(format!("expected a table, found {}", value::kind(other)), remedy));
                    Section { path, keys, body: Body::NoTable, at: None, findings: self.findings }
                }
            },
        }
    }

    /// The tables `[[name]]` in this one, in their order.
    pub(super) fn tables(&self, name: &str) -> Vec<Section<'d>> {
        let Some(value) = self.typed(name) else { return Vec::new() };
        let DeValue::Array(members) = value.get_ref() else {
            self.fault(name, no_tables(name, value.get_ref()));
            return Vec::new();
        };
        let member = |(index, member)| self.member(name, index, member);
        members.iter().enumerate().filter_map(member).collect()
    }

    /// The tables `[[name]]` in this one whose keys depend on their `kind`, each with that; those of no known kind are
    /// noted and left out.
    pub(super) fn variants(&self, name: &str) -> Vec<(&'static str, Section<'d>)> {
        let Some(Key { kind: Kind::Variants(kinds), .. }) = keys::find(self.keys, name) else { return Vec::new() };
        let Some(value) = self.typed(name) else { return Vec::new() };
        let DeValue::Array(members) = value.get_ref() else {
            self.fault(name, no_tables(name, value.get_ref()));
            return Vec::new();
        };
        let words: Vec<(&str, (&'static str, &'static [Key]))> = kinds.iter().map(|kind| (kind.0, *kind)).collect();
        let read = |(index, member): (usize, &'d Spanned<DeValue<'d>>)| {
            let path = format!("{}[{}]", self.key(name), index + 1);
            let DeValue::Table(table) = member.get_ref() else {
                self.findings.add(path, Some(start(member)), no_tables(name, member.get_ref()));
                return None;
            };
            // Only the kind is read of this one, so that its other keys are not judged by a list that is not theirs.
            let at = Some(start(member));
            let only_kind = Section { path, keys: KIND, body: Body::Present(table), at, findings: self.findings };
            let (kind, keys) = only_kind.read("kind", value::one_of(&words))?;
            let path = format!("{}[{}] {kind}", self.key(name), index + 1);
            Some((kind, Section::checked(path, keys, table, at, self.findings)))
        };
        members.iter().enumerate().filter_map(read).collect()
    }

    fn member(&self, name: &str, index: usize, value: &'d Spanned<DeValue<'d>>) -> Option<Section<'d>> {
        let path = format!("{}[{}]", self.key(name), index + 1);
        let DeValue::Table(table) = value.get_ref() else {
            self.findings.add(path, Some(start(value)), no_tables(name, value.get_ref()));
            return None;
        };
        let label = table.get("name").and_then(|name| name.get_ref().as_str());
        let path = label.map_or(path.clone(), |label| format!("{path} {}", value::shown(label)));
        Some(Section::checked(path, self.keys_of(name), table, Some(start(value)), self.findings))
    }

    /// The value of `name`, or its default.
    pub(super) fn read<T>(&self, name: &str, convert: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<T> {
        convert(self.value(name)?.get_ref()).map_err(|wrong| self.fault(name, wrong)).ok()
    }

    /// The value of `name`; `Some(None)` when the file leaves it out.
    pub(super) fn optional<T>(&self, name: &str, convert: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<Option<T>> {
        if self.has(name) { self.read(name, convert).map(Some) } else { Some(None) }
    }

    /// The members of the list `name`, or its default. Each faulty member is noted by itself.
    pub(super) fn list<T>(&self, name: &str, convert: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<Vec<T>> {
        let value = self.value(name)?;
        let DeValue::Array(members) = value.get_ref() else {
            let what = format!("expected a list, found {}", value::kind(value.get_ref()));
            self.fault(name, Wrong::new(what, format!("write {name} = [ ... ], members separated by commas")));
            return None;
        };
        let read = |(index, member): (usize, &Spanned<DeValue<'_>>)| {
            convert(member.get_ref()).map_err(|wrong| self.fault_in_list(name, index, wrong)).ok()
        };
        // First all, so that every faulty member is noted; then all or nothing.
        let converted: Vec<Option<T>> = members.iter().enumerate().map(read).collect();
        converted.into_iter().collect()
    }

    /// A list that must have a member.
    pub(super) fn list_of_some<T>(&self, name: &str, convert: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<Vec<T>> {
        let members = self.list(name, convert)?;
        if members.is_empty() {
            self.fault(name, Wrong::new("an empty list", "write at least one member"));
            return None;
        }
        Some(members)
    }

    /// How many members the list `name` has.
    pub(super) fn length(&self, name: &str) -> usize {
        self.typed(name).and_then(|value| value.get_ref().as_array()).map_or(0, |members| members.len())
    }

    /// Whether the file has the key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.typed(name).is_some()
    }

    /// Whether nothing can be said about this table's keys, because something else stands in its place.
    pub(super) fn is_no_table(&self) -> bool {
        matches!(self.body, Body::NoTable)
    }

    /// Notes a fault of the key `name`, at its value or, where there is none, at the table's heading.
    pub(super) fn fault(&self, name: &str, wrong: Wrong) {
        let at = self.typed(name).map(start).or(self.at);
        self.findings.add(self.key(name), at, wrong);
    }

    /// Notes a fault of a member of the list `name`; `index` begins at 0.
    pub(super) fn fault_in_list(&self, name: &str, index: usize, wrong: Wrong) {
        let members = self.typed(name).and_then(|value| value.get_ref().as_array());
        let at = members.and_then(|members| members.get(index)).map(start).or(self.at);
        self.findings.add(format!("{}[{}]", self.key(name), index + 1), at, wrong);
    }

    fn checked(
        path: String,
        keys: &'static [Key],
        table: &'d DeTable<'d>,
        at: Option<usize>,
        findings: &'d Findings,
    ) -> Section<'d> {
        let section = Section { path, keys, body: Body::Present(table), at, findings };
        table.keys().for_each(|typed| section.check_known(typed.get_ref(), typed.span().start));
        section
    }

    fn check_known(&self, name: &str, at: usize) {
        let wrong = match keys::find(self.keys, name) {
            None => Wrong::new("unknown key", keys::advice(self.keys, name)),
            Some(Key { kind: Kind::Later, .. }) => Wrong::not_supported(),
            Some(_) => return,
        };
        self.findings.add(self.key(&value::shortened(name)), Some(at), wrong);
    }

    fn value(&self, name: &str) -> Option<Spanned<DeValue<'d>>> {
        if let Some(typed) = self.typed(name) {
            return Some(typed.clone());
        }
        match keys::find(self.keys, name)?.kind {
            Kind::Default(text) => DeValue::parse(text).ok(),
            Kind::Required if !self.is_no_table() => {
                self.fault(name, Wrong::new("missing", "add it, as config.example.toml shows"));
                None
            }
            _ => None,
        }
    }

    fn typed(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        match self.body {
            Body::Present(table) => table.get(name),
            Body::Absent | Body::NoTable => None,
        }
    }

    fn body_of_absent(&self) -> Body<'d> {
        if self.is_no_table() { Body::NoTable } else { Body::Absent }
    }

    fn keys_of(&self, name: &str) -> &'static [Key] {
        match keys::find(self.keys, name).map(|key| &key.kind) {
            Some(Kind::Table(keys) | Kind::Tables(keys)) => keys,
            _ => &[],
        }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

fn start(value: &Spanned<DeValue<'_>>) -> usize {
    value.span().start
}

fn no_tables(name: &str, found: &DeValue<'_>) -> Wrong {
    let what = format!("expected tables, found {}", value::kind(found));
    Wrong::new(what, format!("write each of them as [[{name}]], in double brackets"))
}
