//! What the portal says of itself that looks like a cache's hit and is none, for each kind of address: a gateway may put
//! `Age` on one folder of one host, or on style sheets alone.
//!
//! What is asked for is an address that nobody ever asked for, so that no cache can have it. Here is what to ask next and
//! what is known; somebody else asks. What visitors make up must neither fill this memory nor teach it anything: a host
//! must be known or have been answered for, an address must not have been refused, nobody brings more than a share, and
//! what was heard in a folder with a number in it counts for such folders only if a number that was never drawn says the
//! same.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use http::StatusCode;

use super::client::ClientSite;
use super::hit_header::HitHeader;
use super::leak_guard::is_plain_public_path;
use super::paths::{HostPattern, host_of};
use super::route_shape::route_of;
use super::time::Mono;

/// What begins the last segment of an address that nobody ever asked for.
pub const MARK: &str = "anticamera-calibration-";

/// Kinds of addresses told apart at most. Others are judged by the nearest folder above.
const MOST: usize = 512;
/// Kinds that visitors of one site may bring.
const SHARE: usize = 128;
/// Bytes of a folder that is asked in.
const LONGEST: usize = 200;
/// Bytes of a host that is asked for (RFC 1035 section 2.3.4), and a port's.
const LONGEST_HOST: usize = 261;
/// Until a kind in doubt is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// A kind of address: its host, its folder, without anybody's number, and what its name ends in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    host: String,
    folder: String,
    ending: String,
}

impl Kind {
    /// The kind of a path on a host. Of paths that can be read in several ways only the root's is known.
    pub fn of(host: &str, path: &str) -> Kind {
        let host = name_of(host);
        match folder_and_ending(path) {
            Some((folder, ending)) => Kind { host, folder: route_of(folder), ending: ending.to_ascii_lowercase() },
            None => Kind { host, ..Kind::default() },
        }
    }

    fn root(host: &str) -> Kind {
        Kind { host: name_of(host), ..Kind::default() }
    }

    /// The host, without a port, in lower case; empty for the portal's own address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The folder, without a slash at its end; numbers are stars.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// What names end in, without the dot; empty for names without an ending.
    pub fn ending(&self) -> &str {
        &self.ending
    }

    /// Whether it speaks of many folders, with any number.
    fn has_numbers(&self) -> bool {
        self.folder.contains('*')
    }

    fn above(&self) -> Option<Kind> {
        match self.folder.rsplit_once('/') {
            Some((above, _)) => Some(Kind { folder: above.to_owned(), ..self.clone() }),
            None if self.ending.is_empty() => None,
            None => Some(Kind { ending: String::new(), ..self.clone() }),
        }
    }
}

fn name_of(host: &str) -> String {
    let name = host_of(host);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
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
    /// The host as visitors ask for it, with a port if they name one; empty for the portal's own.
    pub host: String,
    source: Source,
}

/// Who brought a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Configuration,
    Visitors(ClientSite),
}

impl Question {
    /// An address that nobody ever asked for, if `random` was never drawn before.
    pub fn path(&self, random: &str) -> String {
        self.path_in(&self.folder, random)
    }

    /// The same in a folder with another number, for kinds that speak of folders with any number.
    pub fn path_elsewhere(&self, random: &str) -> Option<String> {
        self.kind.has_numbers().then(|| self.path_in(&self.kind.folder.replace('*', random), random))
    }

    fn path_in(&self, folder: &str, random: &str) -> String {
        let ending = self.kind.ending();
        let dot = if ending.is_empty() { "" } else { "." };
        format!("{folder}/{MARK}{random}{dot}{ending}")
    }
}

/// What looked like a hit on addresses that nobody ever asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// In the folder that visitors ask in.
    pub here: Option<HitHeader>,
    /// In such a folder with another number; of no account for kinds without numbers.
    pub elsewhere: Option<HitHeader>,
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

/// Something that a visitor asked for and the portal answered.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The host, as it was asked for.
    pub host: &'a str,
    /// The path.
    pub path: &'a str,
    /// How the portal answered.
    pub status: StatusCode,
    /// Whether the answer looked like a cache's.
    pub looked_like: LookedLike,
    /// From where it was asked for.
    pub site: ClientSite,
}

/// What an answer looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookedLike {
    /// A cache's: something must be known about it, whatever its status.
    Hit,
    /// The portal's own.
    Fresh,
}

/// What is known of all of them, and what is to be asked.
#[derive(Clone, Debug, Default)]
pub struct Traits {
    answers: HashMap<Kind, Answer>,
    waiting: VecDeque<Question>,
    queued: HashSet<Kind>,
    /// Hosts that the configuration names.
    hosts: Vec<HostPattern>,
    /// The host of which the configuration wanted to know something first.
    first_host: Option<String>,
    /// Whether a kind could not be taken up: then the nearest above decides.
    is_crowded: bool,
}

/// What the portal said, when, and what it was asked.
#[derive(Clone, Debug)]
struct Answer {
    header: Option<HitHeader>,
    at: Mono,
    question: Question,
}

impl Traits {
    /// Takes over the hosts that a configuration names; `*` names none.
    pub fn know_hosts(&mut self, hosts: Vec<HostPattern>) {
        self.hosts = hosts.into_iter().filter(|host| !host.is_every_host()).collect();
    }

    /// Asks about what the configuration names.
    pub fn want_configured(&mut self, host: &str, path: &str) {
        self.first_host.get_or_insert_with(|| name_of(host));
        if let Some((folder, _)) = folder_and_ending(path) {
            self.add(Kind::of(host, path), folder, host, Source::Configuration);
        }
    }

    /// Asks about the kind of what was seen, unless that is known already or must not be believed. Says whether there is
    /// something new to ask.
    pub fn want(&mut self, seen: &Seen<'_>) -> bool {
        let Some((folder, _)) = folder_and_ending(seen.path) else { return false };
        let kind = Kind::of(seen.host, seen.path);
        if self.knows(&kind) || !self.is_believed(seen) {
            return false;
        }
        let source = Source::Visitors(seen.site);
        // Paths that can be read in several ways, and kinds beyond the bound, are judged by the root.
        let root = self.add(Kind::root(seen.host), "", seen.host, source);
        self.add(kind, folder, seen.host, source) || root
    }

    /// Whether the kind of a path itself is known or will be asked about, so that nobody need ask for that.
    pub fn has(&self, host: &str, path: &str) -> bool {
        self.knows(&Kind::of(host, path))
    }

    fn knows(&self, kind: &Kind) -> bool {
        self.answers.contains_key(kind) || self.queued.contains(kind)
    }

    /// Whether what was seen is more than what a visitor made up: the host is one that the configuration names, or the
    /// portal serves it; and the portal did not say that there is no such thing.
    fn is_believed(&self, seen: &Seen<'_>) -> bool {
        let name = name_of(seen.host);
        let is_known = self.hosts.iter().any(|host| host.matches(&name));
        let is_there = !seen.status.is_client_error() || seen.looked_like == LookedLike::Hit;
        seen.host.len() <= LONGEST_HOST && if is_known { is_there } else { seen.status.is_success() }
    }

    fn add(&mut self, kind: Kind, folder: &str, host: &str, source: Source) -> bool {
        if self.knows(&kind) {
            return false;
        }
        if source != Source::Configuration && !self.has_room_for(source) {
            self.is_crowded = true;
            return false;
        }
        self.queue(Question { kind, folder: folder.to_owned(), host: host.to_owned(), source })
    }

    /// Whether one more kind may be brought from there. When there are too many, whoever has brought most gives one up.
    fn has_room_for(&mut self, source: Source) -> bool {
        let count = |counted: Source| {
            self.answers.values().filter(|answer| answer.question.source == counted).count()
                + self.unanswered().filter(|question| question.source == counted).count()
        };
        let own = count(source);
        if own >= SHARE {
            return false;
        }
        if self.answers.len() + self.unanswered().count() < MOST {
            return true;
        }
        let mut brought: HashMap<ClientSite, Vec<&Answer>> = HashMap::new();
        for answer in self.answers.values() {
            // What is a trait stays: without it, the portal's own answers would be taken for hits.
            if let (Source::Visitors(site), None) = (answer.question.source, answer.header) {
                brought.entry(site).or_default().push(answer);
            }
        }
        let most = brought.into_values().max_by_key(Vec::len).filter(|answers| answers.len() > own + 1);
        let Some(latest) = most.and_then(|answers| answers.into_iter().max_by_key(|answer| answer.at)) else {
            return false;
        };
        let kind = latest.question.kind.clone();
        self.answers.remove(&kind);
        true
    }

    /// Kinds that were never answered; of others it may wait for a fresh answer.
    fn unanswered(&self) -> impl Iterator<Item = &Question> {
        self.waiting.iter().filter(|question| !self.answers.contains_key(&question.kind))
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
    pub fn doubt(&mut self, host: &str, path: &str, now: Mono) -> bool {
        let due = |answer: &&Answer| now.since(answer.at) >= AGAIN;
        let question = self.answers.get(&self.nearest(host, path)).filter(due).map(|answer| answer.question.clone());
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

    /// The portal has answered: these headers, if any, are its own. What only the very folder says counts for that
    /// folder, and not for those with other numbers.
    pub fn learn(&mut self, question: Question, heard: Heard, now: Mono) {
        self.waiting.retain(|waiting| waiting.kind != question.kind);
        self.queued.remove(&question.kind);
        let kind = question.kind.clone();
        let very_folder = Kind { folder: question.folder.clone(), ..kind.clone() };
        self.answers.remove(&very_folder);
        let header = if kind.has_numbers() { heard.elsewhere } else { heard.here };
        if header != heard.here && self.answers.len() < MOST {
            let of_folder = Question { kind: very_folder.clone(), ..question.clone() };
            self.answers.insert(very_folder, Answer { header: heard.here, at: now, question: of_folder });
        }
        self.answers.insert(kind, Answer { header, at: now, question });
    }

    /// What is known of a path: of its very folder or its kind, or, when there are too many kinds, of the nearest above.
    pub fn of(&self, host: &str, path: &str) -> Known {
        let kind = self.nearest(host, path);
        let very_folder = || {
            let (folder, _) = folder_and_ending(path).filter(|_| kind.has_numbers())?;
            self.answers.get(&Kind { folder: folder.to_owned(), ..kind.clone() })
        };
        match very_folder().or_else(|| self.answers.get(&kind)).or_else(|| self.of_configured_host(&kind)) {
            None => Known::NotYet,
            Some(Answer { header: None, .. }) => Known::Nothing,
            Some(Answer { header: Some(header), .. }) => Known::Trait(*header),
        }
    }

    /// What is known of the kind, or the nearest above, on the host that the configuration names first. Anybody can write
    /// any `Host`: nobody may choose to be judged by nothing.
    fn of_configured_host(&self, kind: &Kind) -> Option<&Answer> {
        let is_known = self.is_named(&kind.host) || self.answers.contains_key(&Kind::root(&kind.host));
        let host = self.first_host.as_ref().filter(|host| **host != kind.host && !is_known)?;
        let mut kind = Kind { host: host.clone(), ..kind.clone() };
        loop {
            if let Some(answer) = self.answers.get(&kind) {
                return Some(answer);
            }
            kind = kind.above()?;
        }
    }

    fn is_named(&self, host: &str) -> bool {
        self.hosts.iter().any(|named| named.matches(host))
    }

    fn nearest(&self, host: &str, path: &str) -> Kind {
        let mut kind = Kind::of(host, path);
        while self.is_crowded && !self.knows(&kind) {
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

    /// Whether hits may be blocked on addresses like the configured hosts' roots.
    pub fn is_silent_at_the_root(&self) -> bool {
        let is_root = |answer: &&Answer| {
            let Question { kind, source, .. } = &answer.question;
            kind.folder.is_empty() && kind.ending.is_empty() && *source == Source::Configuration
        };
        let mut roots = self.answers.values().filter(is_root).peekable();
        roots.peek().is_some() && roots.all(|answer| answer.header.is_none())
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

    use super::super::client::ClientPrefix;
    use super::*;

    const HOST: &str = "portal.example";

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    fn site(number: u8) -> ClientSite {
        ClientPrefix::of([192, 0, number, 1].into()).site()
    }

    fn seen(path: &str) -> Seen<'_> {
        Seen { host: HOST, path, status: StatusCode::OK, looked_like: LookedLike::Fresh, site: site(1) }
    }

    fn traits() -> Traits {
        let mut traits = Traits::default();
        traits.know_hosts(vec![HostPattern::parse(HOST).unwrap(), HostPattern::parse("*").unwrap()]);
        traits.want_configured(HOST, "/");
        traits
    }

    /// Letters only: no number that would be a star.
    fn folder(number: usize) -> String {
        format!("/f{}/", char::from(b'a' + (number % 26) as u8).to_string().repeat(1 + number / 26))
    }

    /// Asks everything; below `/gateway` the portal says `Age`.
    fn answer_all(traits: &mut Traits, now: Mono) -> Vec<String> {
        let mut asked = Vec::new();
        while let Some(question) = traits.next() {
            let header = |path: &String| path.starts_with("/gateway").then_some(HitHeader::Age);
            let path = question.path("1");
            let elsewhere = question.path_elsewhere("4711");
            let heard = Heard { here: header(&path), elsewhere: elsewhere.as_ref().and_then(header) };
            asked.push(path);
            traits.learn(question, heard, now);
        }
        asked
    }

    #[test]
    fn each_folder_and_ending_is_asked_once() {
        let mut traits = traits();
        for path in
            ["/", "/gateway/me", "/gateway/you", "/static/a.css", "/static/b.CSS", "/case/1234/a", "/case/5678/b"]
        {
            traits.want(&seen(path));
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
        assert!(traits.is_complete() && traits.is_silent_at_the_root());
        assert_eq!(traits.of("PORTAL.example:8080", "/gateway/them"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(HOST, "/case/9999/c"), Known::Nothing);
        assert_eq!(traits.of(HOST, "/static/c.js"), Known::NotYet);
        assert_eq!(
            traits.of(HOST, "/gateway/..;/me"),
            Known::Nothing,
            "what can be read in several ways is judged by the root"
        );
        assert!(!traits.want(&seen("/gateway/more")), "known");
        assert_eq!(traits.found().len(), 1);
    }

    #[test]
    fn what_one_host_says_is_no_trait_of_another() {
        let mut traits = traits();
        traits.want(&Seen { host: "gateway.example", ..seen("/gateway/a") });
        answer_all(&mut traits, at(0));
        assert_eq!(traits.of("gateway.example", "/gateway/b"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(HOST, "/gateway/b"), Known::NotYet);
    }

    #[test]
    fn nobody_chooses_a_host_to_be_judged_by_nothing() {
        let mut traits = traits();
        assert_eq!(traits.of("made-up.example", "/account"), Known::NotYet);
        answer_all(&mut traits, at(0));
        for path in ["/account", "/a/b/c.css", "/a/;x/b"] {
            assert_eq!(traits.of("made-up.example", path), Known::Nothing, "{path}");
        }
    }

    #[test]
    fn a_reload_forgets_nothing() {
        let mut traits = traits();
        for number in 0..MOST - 2 {
            traits.want(&Seen { site: site((number % 100) as u8), ..seen(&folder(number)) });
        }
        answer_all(&mut traits, at(0));
        let known = traits.len();
        traits.doubt_all();
        assert!(traits.want(&Seen { site: site(200), ..seen("/late/a") }));
        assert_eq!(traits.len(), known);
    }

    #[test]
    fn what_a_visitor_makes_up_is_not_asked_about() {
        let mut traits = traits();
        let not_found = Seen { status: StatusCode::NOT_FOUND, ..seen("/made-up/a") };
        assert!(!traits.want(&not_found), "there is no such folder");
        assert!(traits.want(&Seen { looked_like: LookedLike::Hit, ..not_found }), "but a cache has it");
        for status in [StatusCode::NOT_FOUND, StatusCode::MOVED_PERMANENTLY, StatusCode::BAD_GATEWAY] {
            let stranger = Seen { host: "made-up.example", status, ..seen("/a") };
            assert!(!traits.want(&stranger), "the portal does not serve that host: {status}");
        }
        assert!(traits.want(&Seen { host: "www.other.example", ..seen("/a") }), "the portal serves it");
        assert!(!traits.want(&Seen { host: &"a".repeat(300), ..seen("/a") }));
    }

    #[test]
    fn nobody_fills_the_memory_alone() {
        let mut traits = traits();
        for number in 0..3 * MOST {
            let (folder, host) = (folder(number), format!("h{number}.example"));
            traits.want(&seen(&folder));
            traits.want(&Seen { host: &host, ..seen("/") });
        }
        answer_all(&mut traits, at(0));
        assert_eq!(traits.len(), 1 + SHARE);
        assert!(traits.want(&Seen { site: site(2), ..seen("/somebody-elses/a") }));
        // Several together fill it; then whoever brought most gives way.
        for number in 0..3 * MOST {
            traits.want(&Seen { site: site((number % 7) as u8), ..seen(&folder(number)) });
        }
        answer_all(&mut traits, at(0));
        assert_eq!(traits.len(), MOST);
        assert!(traits.want(&Seen { site: site(9), ..seen("/late/a") }));
        assert!(traits.len() + traits.waiting.len() <= MOST);
    }

    #[test]
    fn one_folder_with_a_number_teaches_nothing_about_the_others() {
        let mut traits = traits();
        traits.want(&seen("/case/1234/a"));
        let root = traits.next().unwrap();
        traits.learn(root, Heard::default(), at(0));
        let question = traits.next().unwrap();
        assert_eq!(question.path_elsewhere("99").as_deref(), Some("/case/99/anticamera-calibration-99"));
        traits.learn(question, Heard { here: Some(HitHeader::Age), elsewhere: None }, at(0));
        assert_eq!(traits.of(HOST, "/case/1234/b"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(HOST, "/case/5678/b"), Known::Nothing);
    }

    #[test]
    fn doubts_are_not_asked_all_the_time() {
        let mut traits = traits();
        traits.want(&seen("/a"));
        answer_all(&mut traits, at(0));
        assert!(!traits.doubt(HOST, "/b", at(9)));
        assert!(traits.doubt(HOST, "/b", at(10)));
        assert!(!traits.doubt(HOST, "/b", at(11)), "it waits already");
        assert_eq!(traits.of(HOST, "/b"), Known::Nothing, "what is known counts on");
        traits.doubt_all();
        assert_eq!(answer_all(&mut traits, at(12)).len(), 1);
    }

    #[test]
    fn beyond_the_bound_the_nearest_folder_above_decides() {
        let mut traits = traits();
        traits.want(&seen("/gateway/a"));
        for number in 0..2 * MOST {
            traits.want(&Seen { site: site((number % 100) as u8), ..seen(&folder(number)) });
        }
        answer_all(&mut traits, at(0));
        assert_eq!(traits.len(), MOST);
        assert_eq!(traits.of(HOST, "/gateway/deep/below/x"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(HOST, &format!("{}x.css", folder(2 * MOST - 1))), Known::Nothing);
    }

    proptest! {
        #[test]
        fn no_path_breaks_it(path in "/\\PC{0,40}", host in "\\PC{0,20}") {
            let mut traits = traits();
            traits.want(&Seen { host: &host, ..seen(&path) });
            answer_all(&mut traits, at(0));
            let _ = traits.of(&host, &path);
        }
    }
}
