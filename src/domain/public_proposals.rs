//! Which folders it would have been safe to list as public: those whose every answer was a file that several visitors
//! got alike, and nothing else. What one visitor alone asked for proves nothing, whatever it looks like.
//!
//! When there are too many folders, those asked for least are forgotten, but not that something below a folder was
//! personal: nothing is proposed because it was forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use http::StatusCode;

use super::leak_guard::is_plain_public_path;
use super::portal_traits::folder_and_ending;

/// Folders told apart at most.
const MOST: usize = 1000;
/// Folders forgotten at a time.
const AT_ONCE: usize = 100;
/// Bits by which those are remembered that had something personal in them: some are mistaken for others, and not proposed.
const FORGOTTEN_BITS: usize = 1 << 16;
/// Files of a folder that are watched.
const WATCHED: usize = 8;
/// Visitors who must have got a file alike.
const SEVERAL: usize = 3;

/// A personal answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The path, as it came.
    pub path: &'a str,
    /// The path in short.
    pub mark: u64,
    /// Whose it was, in short.
    pub visitor: u64,
    /// The version of the file that it was, when by its name, its type and everything else it could have been shared.
    pub file: Option<u64>,
    /// Whether there is such a thing.
    pub exists: Existence,
}

/// Whether the portal has what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It may.
    Exists,
    /// It refused: anybody can make up such addresses.
    Refused,
}

impl Existence {
    /// As the status of an answer says.
    pub fn of(status: StatusCode) -> Existence {
        if status.is_client_error() { Existence::Refused } else { Existence::Exists }
    }
}

/// What the portal answered in each folder, on routes that are not public.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    requests: u64,
    seen: HashMap<String, Folder>,
    forgotten: Forgotten,
}

/// Folders below which something was forgotten that was not everybody's.
#[derive(Clone, Debug, Default)]
struct Forgotten {
    /// Empty until something is forgotten.
    bits: Vec<u64>,
}

impl Forgotten {
    fn place(folder: &str) -> (usize, u64) {
        // Not random: nobody gains by a collision.
        let mut hasher = DefaultHasher::new();
        folder.hash(&mut hasher);
        let bit = hasher.finish() as usize % FORGOTTEN_BITS;
        (bit / 64, 1 << (bit % 64))
    }

    fn remember(&mut self, folder: &str) {
        self.bits.resize(FORGOTTEN_BITS / 64, 0);
        for above in with_those_above(folder) {
            let (word, bit) = Forgotten::place(above);
            if let Some(word) = self.bits.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn has(&self, folder: &str) -> bool {
        let (word, bit) = Forgotten::place(folder);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }
}

#[derive(Clone, Debug, Default)]
struct Folder {
    /// Answers that could have been shared.
    shareable: u64,
    /// Answers that could not.
    personal: u64,
    watched: Vec<File>,
}

#[derive(Clone, Copy, Debug)]
struct File {
    mark: u64,
    version: u64,
    visitors: [u64; SEVERAL],
    count: usize,
}

impl Folder {
    fn note(&mut self, answered: &Answered<'_>) {
        match answered.file {
            Some(version) if self.is_alike(answered, version) => self.shareable += 1,
            _ => self.personal += 1,
        }
    }

    /// Whether a file is what other visitors got at the same address, as far as that is known.
    fn is_alike(&mut self, answered: &Answered<'_>, version: u64) -> bool {
        if let Some(file) = self.watched.iter_mut().find(|file| file.mark == answered.mark) {
            file.seen_by(answered.visitor);
            return file.version == version;
        }
        if self.watched.len() < WATCHED {
            let file = File { mark: answered.mark, version, visitors: [answered.visitor; SEVERAL], count: 1 };
            self.watched.push(file);
        }
        true
    }

    /// Whether everything in it could be shared, and several visitors got the same.
    fn is_everybodys(&self) -> bool {
        self.personal == 0 && self.watched.iter().any(|file| file.count >= SEVERAL)
    }
}

impl File {
    fn seen_by(&mut self, visitor: u64) {
        let known = self.visitors.get(..self.count).unwrap_or_default();
        if !known.contains(&visitor)
            && let Some(free) = self.visitors.get_mut(self.count)
        {
            *free = visitor;
            self.count += 1;
        }
    }
}

/// A pattern that it would have been safe to list as public.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The pattern.
    pub pattern: String,
    /// Requests that it would have covered.
    pub requests: u64,
    /// Of all requests on personal routes, 0 to 1.
    pub share: f64,
}

impl Folders {
    /// Notes an answer on a personal route.
    pub fn note(&mut self, answered: &Answered<'_>) {
        self.requests += 1;
        let Some((folder, _)) = folder_and_ending(answered.path) else { return };
        if let Some(seen) = self.seen.get_mut(folder) {
            return seen.note(answered);
        }
        if answered.exists == Existence::Refused {
            return;
        }
        if self.seen.len() >= MOST {
            self.forget_some();
        }
        self.seen.entry(folder.to_owned()).or_default().note(answered);
    }

    /// Forgets the folders that were asked for least.
    fn forget_some(&mut self) {
        let mut by_use: Vec<(u64, String)> =
            self.seen.iter().map(|(folder, seen)| (seen.shareable + seen.personal, folder.clone())).collect();
        by_use.sort_unstable();
        for (_, folder) in by_use.into_iter().take(AT_ONCE) {
            if self.seen.remove(&folder).is_some_and(|seen| !seen.is_everybodys()) {
                self.forgotten.remember(&folder);
            }
        }
    }

    /// The patterns that it would have been safe to list, the one with most requests first: of every branch the highest
    /// folder in and below which everything could have been shared. So many `more` requests were for other folders.
    pub fn proposals(&self, more: u64) -> Vec<Proposal> {
        let mut below: BTreeMap<&str, Below> = BTreeMap::new();
        for (folder, seen) in &self.seen {
            for above in with_those_above(folder) {
                let sum = below.entry(above).or_insert(Below { requests: 0, is_everybodys: true });
                sum.requests += seen.shareable;
                sum.is_everybodys &= seen.is_everybodys();
            }
        }
        let is_safe =
            |folder: &&str| below.get(*folder).is_some_and(|below| below.is_everybodys) && !self.forgotten.has(folder);
        let highest = self.seen.keys().filter_map(|folder| with_those_above(folder).find(is_safe));
        let highest: BTreeSet<&str> = highest.collect();
        let mut proposals: Vec<Proposal> = highest
            .into_iter()
            .map(|folder| {
                let requests = below.get(folder).map_or(0, |below| below.requests);
                let share = requests as f64 / (self.requests + more).max(1) as f64;
                Proposal { pattern: format!("{folder}/**"), requests, share }
            })
            .collect();
        proposals.sort_by_key(|proposal| std::cmp::Reverse(proposal.requests));
        proposals
    }
}

#[derive(Clone, Copy, Debug)]
struct Below {
    requests: u64,
    is_everybodys: bool,
}

/// A folder and those above it but the root, the highest first.
fn with_those_above(folder: &str) -> impl Iterator<Item = &str> {
    let is_listable = is_plain_public_path(folder);
    let ends = folder.match_indices('/').map(|(at, _)| at).skip(1).chain([folder.len()]);
    ends.filter_map(move |end| folder.get(..end)).filter(move |_| is_listable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }

    fn note(folders: &mut Folders, path: &str, visitor: u64, file: Option<u64>) {
        folders.note(&Answered { path, mark: mark(path), visitor, file, exists: Existence::Exists });
    }

    fn proposed(folders: &Folders) -> Vec<String> {
        folders.proposals(0).into_iter().map(|proposal| proposal.pattern).collect()
    }

    #[test]
    fn folders_of_static_files_are_proposed() {
        let mut folders = Folders::default();
        for visitor in 0..3 {
            for (path, file) in [
                ("/static/css/a.css", Some(1)),
                ("/static/js/a.js", Some(2)),
                ("/static/js/b.js", Some(3)),
                ("/app/img/a.png", Some(1)),
                ("/app/page", None),
                ("/files/a.css", Some(1)),
                ("/files/b.css", None),
                ("/style.css", Some(1)),
            ] {
                note(&mut folders, path, visitor, file);
            }
        }
        assert_eq!(proposed(&folders), ["/static/**", "/app/img/**"]);
        assert_eq!(folders.proposals(0).first().map(|proposal| (proposal.requests, proposal.share)), Some((9, 0.375)));
    }

    #[test]
    fn what_one_visitor_alone_got_proves_nothing() {
        let mut folders = Folders::default();
        for round in 0..50 {
            note(&mut folders, &format!("/static/{round}.css"), 1, Some(1));
            note(&mut folders, "/static/a.css", 1 + round % 2, Some(1));
        }
        assert_eq!(proposed(&folders), [""; 0], "two visitors are not several");
        note(&mut folders, "/static/a.css", 3, Some(1));
        assert_eq!(proposed(&folders), ["/static/**"]);
    }

    #[test]
    fn pictures_of_everybodys_own_are_not_proposed() {
        let mut folders = Folders::default();
        for visitor in 0..10 {
            note(&mut folders, "/me/photo.png", visitor, Some(visitor));
            note(&mut folders, &format!("/users/u{visitor}/photo.png"), visitor, Some(visitor));
        }
        assert_eq!(proposed(&folders), [""; 0]);
    }

    #[test]
    fn many_folders_are_summed_up_quickly_and_bounded() {
        let mut folders = Folders::default();
        for number in 0..3 * MOST as u64 {
            note(&mut folders, &format!("/a/b/c/d/e/f/g/h/f{number}/x.css"), 1, Some(1));
        }
        assert!(folders.seen.len() <= MOST);
        assert_eq!(proposed(&folders), [""; 0]);
    }

    #[test]
    fn after_a_thousand_folders_new_ones_are_still_noted() {
        let mut folders = Folders::default();
        for number in 0..2 * MOST as u64 {
            note(&mut folders, &format!("/x/f{number}/page"), 1, None);
        }
        for visitor in 0..3 {
            note(&mut folders, "/static/a.css", visitor, Some(1));
        }
        assert_eq!(proposed(&folders), ["/static/**"]);
    }

    #[test]
    fn nothing_is_proposed_because_it_was_forgotten() {
        let mut folders = Folders::default();
        note(&mut folders, "/app/me/page", 1, None);
        for visitor in 0..3 {
            note(&mut folders, "/app/style.css", visitor, Some(1));
        }
        for number in 0..3 * MOST as u64 {
            for _ in 0..2 {
                note(&mut folders, &format!("/x/f{number}/page"), 1, None);
            }
        }
        assert!(!folders.seen.contains_key("/app/me") && folders.seen.contains_key("/app"));
        assert_eq!(proposed(&folders), [""; 0]);
    }

    #[test]
    fn made_up_folders_are_not_noted() {
        let mut folders = Folders::default();
        let refused = |path| Answered { path, mark: 1, visitor: 1, file: None, exists: Existence::Refused };
        folders.note(&refused("/made-up/page"));
        assert!(folders.seen.is_empty());
        note(&mut folders, "/static/a.css", 1, Some(1));
        folders.note(&refused("/static/missing.css"));
        assert_eq!(folders.seen.get("/static").map(|seen| seen.personal), Some(1), "in a folder that exists it counts");
    }
}
