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
/// Unclear answers after which a kind is not asked about any more.
const UNCLEAR: u8 = 3;
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
    fn of(host: String, path: &str) -> Kind {
        match folder_and_ending(path) {
            Some((folder, ending)) => Kind { host, folder: route_of(folder), ending: ending.to_ascii_lowercase() },
            None => Kind::root(host),
        }
    }

    fn root(host: String) -> Kind {
        Kind { host, ..Kind::default() }
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

    /// The same folder and ending, whatever the host.
    fn is_elsewhere(&self, other: &Kind) -> bool {
        self.folder == other.folder && self.ending == other.ending
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
        self.kind.has_numbers().then(|| self.path_in(&self.folder_elsewhere(random), random))
    }

    /// A folder that looks like the one that visitors ask in, with other numbers: a portal may serve numbers of the right
    /// length only.
    fn folder_elsewhere(&self, random: &str) -> String {
        let mut digits = random.bytes().cycle();
        let mut shape = self.kind.folder.split('/');
        let elsewhere = |segment: &str| match shape.next() {
            Some("*") => segment.chars().map(|letter| another(letter, digits.next().unwrap_or_default())).collect(),
            _ => segment.to_owned(),
        };
        self.folder.split('/').map(elsewhere).collect::<Vec<String>>().join("/")
    }

    fn path_in(&self, folder: &str, random: &str) -> String {
        let ending = self.kind.ending();
        let dot = if ending.is_empty() { "" } else { "." };
        format!("{folder}/{MARK}{random}{dot}{ending}")
    }
}

/// Another character of the same sort: a number keeps its length and does not begin with a zero if it did not, a key its
/// letters' case.
fn another(letter: char, random: u8) -> char {
    let within = |first: u8, count: u8| char::from(first + random % count);
    match letter {
        '1'..='9' => within(b'1', 9),
        '0' => '0',
        'a'..='f' => within(b'a', 6),
        'A'..='F' => within(b'A', 6),
        'g'..='z' => within(b'g', 20),
        'G'..='Z' => within(b'G', 20),
        _ => letter,
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
    /// The portal was always so slow that the `Age` it said was no more than the time the answer took: as many seconds at
    /// most may be what it says of itself.
    AgeUpTo(u64),
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
    /// Hosts of which the configuration wants to know something; the empty one is the portal's own.
    configured: Vec<String>,
    sent: HostSent,
    /// How often the answer about a kind was unclear, and the greatest `Age` that it said.
    unclear: HashMap<Kind, (u8, u64)>,
    /// Whether a kind could not be taken up: then the nearest above decides.
    is_crowded: bool,
}

/// Which host the portal is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostSent {
    /// The one that the visitor asked for.
    #[default]
    Visitors,
    /// Always its own: then it cannot tell one from the other.
    Portals,
}

/// What the portal said, when, and what it was asked.
#[derive(Clone, Debug)]
struct Answer {
    said: Said,
    at: Mono,
    question: Question,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Hit headers, or none.
    Clearly(Heard),
    /// No more than `Age`, and that could not be told from the time the answers took.
    AgeUpTo(u64),
}

impl Answer {
    /// What it says about a folder. When a folder with another number said something else, it speaks of the very folder
    /// that was asked about only.
    fn about(&self, folder: Option<&str>) -> Known {
        match self.said {
            Said::AgeUpTo(seconds) => Known::AgeUpTo(seconds),
            Said::Clearly(heard) if self.differs(&heard) && folder != Some(&self.question.folder) => Known::NotYet,
            Said::Clearly(heard) => heard.here.map_or(Known::Nothing, Known::Trait),
        }
    }

    fn differs(&self, heard: &Heard) -> bool {
        self.question.kind.has_numbers() && heard.here != heard.elsewhere
    }

    /// What the portal says of itself, somewhere there.
    fn header(&self) -> Option<HitHeader> {
        match self.said {
            Said::AgeUpTo(_) => Some(HitHeader::Age),
            Said::Clearly(heard) if self.question.kind.has_numbers() => heard.here.or(heard.elsewhere),
            Said::Clearly(heard) => heard.here,
        }
    }
}

impl Known {
    /// The stricter of two: what is nobody's trait is a hit.
    fn stricter(self, other: Known) -> Known {
        match (self, other) {
            (Known::Nothing, _) | (_, Known::Nothing) => Known::Nothing,
            (Known::NotYet, known) | (known, Known::NotYet) => known,
            (Known::AgeUpTo(one), Known::AgeUpTo(other)) => Known::AgeUpTo(one.min(other)),
            (Known::AgeUpTo(seconds), Known::Trait(HitHeader::Age))
            | (Known::Trait(HitHeader::Age), Known::AgeUpTo(seconds)) => Known::AgeUpTo(seconds),
            (one, other) if one == other => one,
            _ => Known::Nothing,
        }
    }
}

impl Traits {
    /// Takes over the hosts that a configuration names (`*` names none), and which of them the portal is told.
    pub fn know_hosts(&mut self, hosts: Vec<HostPattern>, sent: HostSent) {
        if self.sent != sent {
            *self = Traits { sent, ..Traits::default() };
        }
        self.hosts = hosts.into_iter().filter(|host| !host.is_every_host()).collect();
        self.configured.clear();
    }

    /// The host as the portal can tell it from others.
    fn name_of(&self, host: &str) -> String {
        match self.sent {
            HostSent::Visitors => name_of(host),
            HostSent::Portals => String::new(),
        }
    }

    fn kind_of(&self, host: &str, path: &str) -> Kind {
        Kind::of(self.name_of(host), path)
    }

    /// Asks about what the configuration names.
    pub fn want_configured(&mut self, host: &str, path: &str) {
        let name = self.name_of(host);
        if !self.configured.contains(&name) {
            self.configured.push(name);
        }
        if let Some((folder, _)) = folder_and_ending(path) {
            self.add(self.kind_of(host, path), folder, host, Source::Configuration);
        }
    }

    /// Asks about the kind of what was seen, unless that is known already or must not be believed. Says whether there is
    /// something new to ask.
    pub fn want(&mut self, seen: &Seen<'_>) -> bool {
        let folder = folder_and_ending(seen.path).map_or("", |(folder, _)| folder);
        let kind = self.kind_of(seen.host, seen.path);
        if self.knows(&kind) || !self.is_believed(seen) {
            return false;
        }
        let source = Source::Visitors(seen.site);
        // Paths that can be read in several ways, and kinds beyond the bound, are judged by the root.
        let root = self.add(Kind::root(self.name_of(seen.host)), "", seen.host, source);
        self.add(kind, folder, seen.host, source) || root
    }

    /// Whether the kind of a path itself is known or will be asked about, so that nobody need ask for that.
    pub fn has(&self, host: &str, path: &str) -> bool {
        self.knows(&self.kind_of(host, path))
    }

    /// Whether there are so many kinds that hardly another one is taken up.
    pub fn is_full(&self) -> bool {
        self.answers.len() + self.unanswered().count() >= MOST
    }

    fn knows(&self, kind: &Kind) -> bool {
        self.answers.contains_key(kind) || self.queued.contains(kind)
    }

    /// Whether what was seen is more than what a visitor made up: the host is one that the configuration names, or the
    /// portal serves it; and the portal did not say that there is no such thing.
    fn is_believed(&self, seen: &Seen<'_>) -> bool {
        let name = self.name_of(seen.host);
        let is_known = self.configured.contains(&name) || self.hosts.iter().any(|host| host.matches(&name));
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
        if !self.is_full() {
            return true;
        }
        let mut brought: HashMap<ClientSite, Vec<&Answer>> = HashMap::new();
        for answer in self.answers.values() {
            // What is a trait stays: without it, the portal's own answers would be taken for hits.
            if let (Source::Visitors(site), None) = (answer.question.source, answer.header()) {
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

    /// The portal has answered: these headers, if any, are its own.
    pub fn learn(&mut self, question: Question, heard: Heard, now: Mono) {
        self.note_answer(question, Said::Clearly(heard), now);
    }

    /// The portal has answered, but took as long as the `Age` it says. Everything else is asked first; after a few times
    /// that counts as what it says of itself. Says whether there is an answer now.
    pub fn learn_unclear(&mut self, question: Question, age: u64, now: Mono) -> bool {
        let (times, most) = self.unclear.get(&question.kind).copied().unwrap_or_default();
        let (times, most) = (times + 1, most.max(age));
        if times >= UNCLEAR {
            self.note_answer(question, Said::AgeUpTo(most), now);
            return true;
        }
        self.unclear.insert(question.kind, (times, most));
        self.postpone();
        false
    }

    fn note_answer(&mut self, question: Question, said: Said, now: Mono) {
        self.waiting.retain(|waiting| waiting.kind != question.kind);
        self.queued.remove(&question.kind);
        self.unclear.remove(&question.kind);
        self.answers.insert(question.kind.clone(), Answer { said, at: now, question });
        self.is_crowded = self.is_crowded && self.is_full();
    }

    /// What is known of a path: of its kind, or, when there are too many kinds, of the nearest above. Where that is nothing,
    /// other hosts decide: anybody can write any `Host`, and nobody may choose to be judged by nothing.
    pub fn of(&self, host: &str, path: &str) -> Known {
        let kind = self.nearest(host, path);
        let folder = folder_and_ending(path).map(|(folder, _)| folder);
        match self.answers.get(&kind) {
            Some(answer) => answer.about(folder),
            None => self.of_other_hosts(&kind, folder),
        }
    }

    /// The strictest of what is known of the kind on any host; and, for a host of which nothing at all is known, of the
    /// nearest above on the hosts that the configuration names.
    fn of_other_hosts(&self, kind: &Kind, folder: Option<&str>) -> Known {
        let alike = self.answers.iter().filter(|(other, _)| other.is_elsewhere(kind));
        let known = alike.fold(Known::NotYet, |known, (_, answer)| known.stricter(answer.about(folder)));
        match self.answers.get(&Kind::root(kind.host.clone())) {
            // What the host says of itself everywhere is no hit on it.
            Some(root) if root.header().is_some() && known != Known::NotYet => root.about(None),
            Some(_) => known,
            None if self.configured.contains(&kind.host) => known,
            None => self.configured.iter().fold(known, |known, host| {
                let kind = Kind { host: host.clone(), ..kind.clone() };
                self.above_or_at(kind).map_or(known, |answer| known.stricter(answer.about(folder)))
            }),
        }
    }

    /// What is known of a kind or of the nearest above.
    fn above_or_at(&self, mut kind: Kind) -> Option<&Answer> {
        loop {
            if let Some(answer) = self.answers.get(&kind) {
                return Some(answer);
            }
            kind = kind.above()?;
        }
    }

    fn nearest(&self, host: &str, path: &str) -> Kind {
        let mut kind = self.kind_of(host, path);
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
        roots.peek().is_some() && roots.all(|answer| answer.header().is_none())
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
        let found = self.answers.iter().filter_map(|(kind, answer)| Some((kind.clone(), answer.header()?)));
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
        traits
            .know_hosts(vec![HostPattern::parse(HOST).unwrap(), HostPattern::parse("*").unwrap()], HostSent::Visitors);
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
        traits.want(&seen("/gateway/a"));
        answer_all(&mut traits, at(0));
        let host = |host: &str| Kind { host: host.to_owned(), folder: "/gateway".to_owned(), ending: String::new() };
        let question = traits.answers.get(&host(HOST)).unwrap().question.clone();
        traits.learn(question, Heard::default(), at(0));
        assert_eq!(traits.of("gateway.example", "/gateway/b"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(HOST, "/gateway/b"), Known::Nothing);
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

    /// A folder with a number, and what was heard there and elsewhere.
    fn numbered(heard: Heard) -> Traits {
        let mut traits = traits();
        answer_all(&mut traits, at(0));
        traits.want(&seen("/case/1234/a"));
        let question = traits.next().unwrap();
        traits.learn(question, heard, at(0));
        traits
    }

    #[test]
    fn one_folder_with_a_number_teaches_nothing_about_the_others() {
        let traits = numbered(Heard { here: Some(HitHeader::Age), elsewhere: None });
        assert_eq!(traits.of(HOST, "/case/1234/b"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(HOST, "/case/5678/b"), Known::NotYet);
    }

    #[test]
    fn an_error_page_elsewhere_is_no_trait_of_the_folders_with_numbers() {
        let traits = numbered(Heard { here: None, elsewhere: Some(HitHeader::Age) });
        assert_eq!(traits.of(HOST, "/case/1234/b"), Known::Nothing);
        assert_eq!(traits.of(HOST, "/case/5678/b"), Known::NotYet);
        let both = Some(HitHeader::Age);
        let traits = numbered(Heard { here: both, elsewhere: both });
        assert_eq!(traits.of(HOST, "/case/5678/b"), Known::Trait(HitHeader::Age));
    }

    #[test]
    fn nobodys_number_is_reported_whatever_was_heard() {
        let mut traits = numbered(Heard { here: Some(HitHeader::Age), elsewhere: None });
        traits.doubt_all();
        answer_all(&mut traits, at(20));
        traits.learn(
            traits.answers.values().find(|answer| answer.question.kind.has_numbers()).unwrap().question.clone(),
            Heard { here: Some(HitHeader::Age), elsewhere: None },
            at(21),
        );
        let folders: Vec<String> = traits.found().iter().map(|(kind, _)| kind.folder().to_owned()).collect();
        assert_eq!(folders, ["/case/*"]);
    }

    #[test]
    fn a_number_is_asked_about_by_one_that_looks_like_it() {
        let mut traits = traits();
        answer_all(&mut traits, at(0));
        traits.want(&seen("/case/1204/RSSMRA85T10A562S/v2/a.pdf"));
        let path = traits.next().unwrap().path_elsewhere("3f9ac17e").unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        let [_, "case", number, key, "v2", name] = parts.as_slice() else { panic!("{path}") };
        assert!(number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit()), "{path}");
        assert!(*number != "1204" && *key != "RSSMRA85T10A562S" && key.len() == 16, "{path}");
        assert_eq!(*name, format!("{MARK}3f9ac17e.pdf"));
    }

    #[test]
    fn a_portal_that_is_always_slow_and_says_an_age_has_that_age() {
        let mut traits = traits();
        answer_all(&mut traits, at(0));
        traits.want(&seen("/slow/a"));
        traits.want(&seen("/other/a"));
        for round in 0..3 {
            assert_eq!(traits.of(HOST, "/slow/a"), Known::NotYet);
            let question = traits.waiting.iter().find(|question| question.folder == "/slow").unwrap().clone();
            assert_eq!(traits.learn_unclear(question, 1 + round % 2, at(0)), round == 2);
        }
        assert_eq!(traits.of(HOST, "/slow/b"), Known::AgeUpTo(2));
        assert_eq!(traits.of(HOST, "/other/b"), Known::NotYet, "only there");
        assert_eq!(traits.waiting.len(), 1);
    }

    #[test]
    fn a_made_up_host_that_the_portal_serves_hides_no_hit() {
        let mut traits = traits();
        traits.want(&seen("/account/a"));
        traits.want(&Seen { host: "made-up.example", ..seen("/") });
        answer_all(&mut traits, at(0));
        assert_eq!(traits.of("made-up.example", "/account/a"), Known::Nothing, "known on the real host");
        assert_eq!(traits.of("made-up.example", "/gateway/a"), Known::NotYet, "known nowhere");
        // Whoever has spent the share is judged all the same.
        for number in 0..2 * SHARE {
            traits.want(&Seen { host: &format!("h{number}.example"), ..seen("/") });
        }
        answer_all(&mut traits, at(0));
        assert_eq!(traits.of("h9999.example", "/account/a"), Known::Nothing);
    }

    #[test]
    fn the_strictest_of_the_configured_hosts_decides() {
        let mut traits = traits();
        traits.want_configured("gateway.example", "/gateway/");
        traits.want_configured("gateway.example", "/account/");
        traits.want_configured(HOST, "/account/");
        answer_all(&mut traits, at(0));
        assert_eq!(traits.of("made-up.example", "/account/a"), Known::Nothing);
        assert_eq!(
            traits.of("made-up.example", "/gateway/a"),
            Known::Nothing,
            "the other configured host's root says nothing of the kind"
        );
        assert_eq!(traits.of(HOST, "/gateway/a"), Known::Trait(HitHeader::Age), "as if hosts were one");
    }

    #[test]
    fn what_a_host_says_everywhere_is_no_hit_in_a_new_folder() {
        let mut traits = traits();
        traits.want_configured("other.example", "/");
        traits.want_configured(HOST, "/account/");
        while let Some(question) = traits.next() {
            let here = (question.host == "other.example").then_some(HitHeader::Age);
            traits.learn(question, Heard { here, elsewhere: None }, at(0));
        }
        assert_eq!(traits.of("other.example", "/account/a"), Known::Trait(HitHeader::Age));
        assert_eq!(traits.of(HOST, "/account/a"), Known::Nothing);
    }

    #[test]
    fn a_portal_that_is_told_its_own_host_has_one() {
        let mut traits = traits();
        traits.know_hosts(Vec::new(), HostSent::Portals);
        traits.want_configured(HOST, "/");
        assert!(traits.want(&Seen { host: "made-up.example", ..seen("/account/a") }));
        answer_all(&mut traits, at(0));
        assert_eq!(traits.len(), 2);
        assert!(traits.has("other.example", "/account/b"));
        assert_eq!(traits.of("other.example", "/account/a"), Known::Nothing);
    }

    #[test]
    fn paths_that_can_be_read_in_several_ways_bring_the_root() {
        let mut traits = traits();
        assert!(traits.want(&Seen { host: "www.example", ..seen("/app;jsessionid=1/page") }));
        answer_all(&mut traits, at(0));
        assert_eq!(traits.of("www.example", "/app;jsessionid=1/page"), Known::Nothing);
        assert_eq!(traits.len(), 2);
    }

    #[test]
    fn when_there_is_room_again_new_kinds_are_told_apart_again() {
        let mut traits = traits();
        for number in 0..2 * SHARE {
            traits.want(&seen(&folder(number)));
        }
        assert!(traits.is_crowded);
        answer_all(&mut traits, at(0));
        assert!(!traits.is_crowded);
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
