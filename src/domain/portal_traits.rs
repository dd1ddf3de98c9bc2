//! What the portal says of itself that looks like a cache's hit and is none, for each kind of address: a gateway may put
//! `Age` on one folder, or on style sheets alone.
//!
//! What is asked for is an address that nobody ever asked for, so that no cache can have it. Here is what to ask next and
//! what is known; somebody else asks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::hit_header::HitHeader;
use super::leak_guard::is_plain_public_path;
use super::route_shape::route_of;
use super::time::Mono;

/// What begins the last segment of an address that nobody ever asked for.
pub const MARK: &str = "anticamera-calibration-";

/// Kinds of addresses told apart at most. Others are judged by the nearest folder above.
const MOST: usize = 256;
/// Bytes of a folder that is asked in.
const LONGEST: usize = 200;
/// Until a kind in doubt is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// A kind of address: its folder, without anybody's number, and what its name ends in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    folder: String,
    ending: String,
}

impl Kind {
    /// The kind of a path. Of paths that can be read in several ways only the root's is known.
    pub fn of(path: &str) -> Kind {
        match folder_and_ending(path) {
            Some((folder, ending)) => Kind { folder: route_of(folder), ending: ending.to_ascii_lowercase() },
            None => Kind::default(),
        }
    }

    /// The folder, without a slash at its end; numbers are stars.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// What names end in, without the dot; empty for names without an ending.
    pub fn ending(&self) -> &str {
        &self.ending
    }

    fn above(&self) -> Option<Kind> {
        match self.folder.rsplit_once('/') {
            Some((above, _)) => Some(Kind { folder: above.to_owned(), ending: self.ending.clone() }),
            None if self.ending.is_empty() => None,
            None => Some(Kind::default()),
        }
    }
}

/// The folder of a plain path, and what its name ends in.
pub fn folder_and_ending(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    if folder.len() > LONGEST || !(folder.is_empty() || is_plain_public_path(folder)) {
        return None;
    }
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_plain = ending.len() <= 8 && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Some((folder, if is_plain { ending } else { "" }))
}

/// What to ask the portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// About what.
    pub kind: Kind,
    /// In which folder.
    pub folder: String,
    /// The host that visitors ask for there; empty when none was seen.
    pub host: String,
}

impl Question {
    /// An address that nobody ever asked for, if `random` was never drawn before.
    pub fn path(&self, random: &str) -> String {
        let (folder, ending) = (&self.folder, self.kind.ending());
        let dot = if ending.is_empty() { "" } else { "." };
        format!("{folder}/{MARK}{random}{dot}{ending}")
    }
}

/// What is known of a kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: the portal has not been asked.
    NotYet,
    /// The portal says nothing there that looks like a hit.
    Nothing,
    /// The portal says this of itself.
    Trait(HitHeader),
}

/// What is known of all of them, and what is to be asked.
#[derive(Clone, Debug, Default)]
pub struct Traits {
    answers: HashMap<Kind, Answer>,
    waiting: VecDeque<Question>,
    queued: HashSet<Kind>,
}

#[derive(Clone, Debug)]
struct Answer {
    header: Option<HitHeader>,
    at: Mono,
    question: Question,
}

impl Traits {
    /// Asks about the kind of a path, unless that is known already, or too much is. Says whether there is something new
    /// to ask.
    pub fn want(&mut self, path: &str, host: &str) -> bool {
        let Some((folder, _)) = folder_and_ending(path) else { return false };
        let kind = Kind::of(path);
        if self.answers.contains_key(&kind) || self.answers.len() + self.waiting.len() >= MOST {
            return false;
        }
        self.queue(Question { kind, folder: folder.to_owned(), host: host.to_owned() })
    }

    /// Asks about everything once more: a configuration is new.
    pub fn doubt_all(&mut self) {
        let mut questions: Vec<Question> = self.answers.values().map(|answer| answer.question.clone()).collect();
        questions.sort_by(|one, other| one.kind.cmp(&other.kind));
        for question in questions {
            self.queue(question);
        }
    }

    /// Asks about the kind of a path once more, but not all the time: a hit was blocked there, and a trait that was not
    /// there before shows itself like that. Says whether there is something new to ask.
    pub fn doubt(&mut self, path: &str, now: Mono) -> bool {
        let due = |answer: &&Answer| now.since(answer.at) >= AGAIN;
        let question = self.answers.get(&self.nearest(path)).filter(due).map(|answer| answer.question.clone());
        question.is_some_and(|question| self.queue(question))
    }

    fn queue(&mut self, question: Question) -> bool {
        let is_new = self.queued.insert(question.kind.clone());
        if is_new {
            self.waiting.push_back(question);
        }
        is_new
    }

    /// What to ask next.
    pub fn next(&self) -> Option<Question> {
        self.waiting.front().cloned()
    }

    /// The portal did not answer: everything else is asked first.
    pub fn postpone(&mut self) {
        if !self.waiting.is_empty() {
            self.waiting.rotate_left(1);
        }
    }

    /// The portal has answered: this header, if any, is its own.
    pub fn learn(&mut self, question: Question, header: Option<HitHeader>, now: Mono) {
        self.waiting.retain(|waiting| waiting.kind != question.kind);
        self.queued.remove(&question.kind);
        self.answers.insert(question.kind.clone(), Answer { header, at: now, question });
    }

    /// What is known of a path: of its kind, or, when there are too many kinds, of the nearest above.
    pub fn of(&self, path: &str) -> Known {
        match self.answers.get(&self.nearest(path)) {
            None => Known::NotYet,
            Some(Answer { header: None, .. }) => Known::Nothing,
            Some(Answer { header: Some(header), .. }) => Known::Trait(*header),
        }
    }

    fn nearest(&self, path: &str) -> Kind {
        let mut kind = Kind::of(path);
        let is_full = self.answers.len() + self.waiting.len() >= MOST;
        while is_full && !self.answers.contains_key(&kind) {
            match kind.above() {
                Some(above) => kind = above,
                None => break,
            }
        }
        kind
    }

    /// Whether everything has been asked.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty() && !self.answers.is_empty()
    }

    /// How many kinds are known.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Where the portal says of itself what caches say of their hits.
    pub fn found(&self) -> Vec<(Kind, HitHeader)> {
        let found = self.answers.iter().filter_map(|(kind, answer)| Some((kind.clone(), answer.header?)));
        let mut found: Vec<(Kind, HitHeader)> = found.collect();
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    /// Asks everything; below `/gateway` the portal says `Age`.
    fn answer_all(traits: &mut Traits, now: Mono) -> Vec<String> {
        let mut asked = Vec::new();
        while let Some(question) = traits.next() {
            let path = question.path("1");
            let header = path.starts_with("/gateway").then_some(HitHeader::Age);
            asked.push(path);
            traits.learn(question, header, now);
        }
        asked
    }

    #[test]
    fn each_folder_and_ending_is_asked_once() {
        let mut traits = Traits::default();
        for path in
            ["/", "/gateway/me", "/gateway/you", "/static/a.css", "/static/b.CSS", "/case/1234/a", "/case/5678/b"]
        {
            traits.want(path, "portal.example");
        }
        assert!(!traits.is_complete());
        let asked = answer_all(&mut traits, at(0));
        let expected = [
            "/anticamera-calibration-1",
            "/gateway/anticamera-calibration-1",
            "/static/anticamera-calibration-1.css",
            "/case/1234/anticamera-calibration-1",
        ];
        assert_eq!(asked, expected);
        assert!(traits.is_complete());
        assert_eq!(traits.of("/gateway/them"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of("/case/9999/c"), Known::Nothing);
        assert_eq!(traits.of("/static/c.js"), Known::NotYet);
        assert_eq!(
            traits.of("/gateway/..;/me"),
            Known::Nothing,
            "what can be read in several ways is judged by the root"
        );
        assert!(!traits.want("/gateway/more", ""), "known");
        assert_eq!(traits.found().len(), 1);
    }

    #[test]
    fn doubts_are_not_asked_all_the_time() {
        let mut traits = Traits::default();
        traits.want("/a", "");
        answer_all(&mut traits, at(0));
        assert!(!traits.doubt("/b", at(9)));
        assert!(traits.doubt("/b", at(10)));
        assert!(!traits.doubt("/b", at(11)), "it waits already");
        assert_eq!(traits.of("/b"), Known::Nothing, "what is known counts on");
        traits.doubt_all();
        assert_eq!(answer_all(&mut traits, at(12)).len(), 1);
    }

    #[test]
    fn beyond_the_bound_the_nearest_folder_above_decides() {
        let mut traits = Traits::default();
        for path in ["/", "/gateway/a"] {
            traits.want(path, "");
        }
        let folder = |number: usize| {
            format!("/f{}/", char::from(b'a' + (number % 26) as u8).to_string().repeat(1 + number / 26))
        };
        for number in 0..2 * MOST {
            traits.want(&folder(number), "");
        }
        answer_all(&mut traits, at(0));
        assert_eq!(traits.len(), MOST);
        assert_eq!(traits.of("/gateway/deep/below/x"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(&format!("{}x.css", folder(2 * MOST - 1))), Known::Nothing);
    }

    proptest! {
        #[test]
        fn no_path_breaks_it(path in "/\\PC{0,40}") {
            let mut traits = Traits::default();
            traits.want(&path, "");
            answer_all(&mut traits, at(0));
            let _ = traits.of(&path);
        }
    }
}
