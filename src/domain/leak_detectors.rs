//! How a portal (or a cache behind us) that hands out somebody else's page gives itself away. What was seen of one
//! session is a small record of keyed hashes; each sighting is judged against it and changes it.
//!
//! The care is for what looks alike and is normal: people log out and in as somebody else, browsers lose our cookies,
//! one person has two devices, old portals keep a session's id through a login.

mod notes;

use std::time::Duration;

use http::header::{COOKIE, HeaderName, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use memchr::{memchr, memchr2};
use serde::{Deserialize, Serialize};

use super::client::ClientPrefix;
use super::time::Mono;

use notes::Told;
pub use notes::{SessionNote, Teller};

/// So long after a login (or whatever else could be one) an answer may name somebody else.
pub const LATELY: Duration = Duration::from_secs(60);

/// Visitors remembered per session.
const PRESENTERS: usize = 3;

/// After so long a contest ends, however many more forms are sent.
const LONGEST_CONTEST: Duration = Duration::from_secs(2 * LATELY.as_secs());

/// Answers by which somebody must lead when the window is closed, and with which the person of the session begins: a wrong
/// page that is loaded again and again does not outdo them soon. So many pages that, without a rival, name the same person
/// end the window early.
const KEEPS_BEING_NAMED: u8 = 2;

/// Sessions of one identity that are told apart; so many at once are worth a report.
pub const MANY_SESSIONS: usize = 10;

/// Cookies looked at in one head at most: the rest of a longer list is somebody's attempt to keep us busy.
const MOST_COOKIES: usize = 200;

/// Sessions looked at in one head at most. A browser has one or two; each costs a keyed hash.
const MOST_SESSIONS: usize = 8;

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// What can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detector {
    /// One session cookie's value was issued to two visitors.
    SessionReissued,
    /// A cache behind us answered a personal request.
    CacheHit,
    /// The answer names another person than the one the session is bound to, and nobody logged in.
    IdentityMismatch,
    /// One session has two identities.
    SessionIdentities,
    /// One identity has many sessions.
    IdentitySessions,
    /// A session cookie was presented by another visitor than the one it was issued to.
    SessionPresented,
}

impl Detector {
    /// All of them.
    pub const ALL: [Detector; 6] = [
        Detector::SessionReissued,
        Detector::CacheHit,
        Detector::IdentityMismatch,
        Detector::SessionIdentities,
        Detector::IdentitySessions,
        Detector::SessionPresented,
    ];

    /// Its name in configuration, metrics, log and audit file.
    pub fn as_str(self) -> &'static str {
        match self {
            Detector::SessionReissued => "session_reissued",
            Detector::CacheHit => "cache_hit",
            Detector::IdentityMismatch => "identity_mismatch",
            Detector::SessionIdentities => "session_identities",
            Detector::IdentitySessions => "identity_sessions",
            Detector::SessionPresented => "session_presented",
        }
    }
}

/// A visitor's identity in our tokens, which is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VisitorKey(pub [u8; 16]);

/// The keyed hash of a session cookie's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionKey(pub [u8; 16]);

/// The keyed hash of the person whom the portal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdentityKey(pub [u8; 16]);

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The visitor, when there is a pass.
    pub visitor: Option<VisitorKey>,
    /// Where they come from.
    pub network: ClientPrefix,
}

impl Who {
    /// Whether both may be the same person: by their passes, or, where one has none, by their network.
    fn may_be(self, other: Who) -> bool {
        match (self.visitor, other.visitor) {
            (Some(one), Some(other)) => one == other,
            _ => self.network.may_be_one_browsers(other.network),
        }
    }
}

/// How the visitor stands to the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// With this very request the visitor enters: whoever lost our cookies, but not the portal's, does that.
    Entering,
    /// The visitor has been inside before.
    Inside,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It may be blocked, if the operator wants that.
    Sure,
    /// There is a harmless explanation: reported at most.
    Likely,
}

/// A finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub detector: Detector,
    /// How sure it is.
    pub certainty: Certainty,
    /// Whom the session belonged to before, if that is another visitor.
    pub other_visitor: Option<VisitorKey>,
    /// Whom the session was bound to before.
    pub other_identity: Option<IdentityKey>,
}

impl Finding {
    fn of(detector: Detector, certainty: Certainty) -> Finding {
        Finding { detector, certainty, other_visitor: None, other_identity: None }
    }

    /// The finding that a cache answered.
    pub fn cache_hit(certainty: Certainty) -> Finding {
        Finding::of(Detector::CacheHit, certainty)
    }
}

/// What is remembered of one session of the portal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRecord {
    issued: Option<Seen>,
    presented: [Option<Seen>; PRESENTERS],
    bound: Option<Bound>,
    /// Whether somebody may have logged in or out with this session lately.
    may_change: Option<MayChange>,
    /// Several people have been named in a login's window: whose the session is has not been decided.
    contest: Option<Box<Contest>>,
    /// Who lost the last contest because it came to no end.
    lost: Option<Lost>,
    /// What others were told of it.
    told: Told,
    /// When another node told of it last.
    elsewhere: Option<Mono>,
}

/// Somebody who was named as often as the person of the session until the contest had to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lost {
    identity: IdentityKey,
    at: Mono,
}

/// A request with which somebody may have logged in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MayChange {
    since: Mono,
    answered: Option<Mono>,
    /// Pages asked for afterwards that named the person of the session.
    confirmed: u8,
}

impl MayChange {
    fn begun(since: Mono, answered: Option<Mono>) -> MayChange {
        MayChange { since, answered, confirmed: 0 }
    }
}

/// Two people named in a login's window. The second may be the new person or a mistake, and so may the first: both stay
/// candidates until the window is closed and one of them keeps being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contest {
    begun: Mono,
    /// The person of the session.
    before: Candidate,
    /// Whether that person was named since then.
    is_opposed: bool,
    rival: Candidate,
    /// Who was named last.
    last: IdentityKey,
    /// Since when the last one has been named.
    last_since: Mono,
    /// Whether somebody may have logged in once more, so that one more new name is no wonder.
    may_bring: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    identity: IdentityKey,
    times: u32,
    first: Mono,
}

impl Candidate {
    fn leads(&self, other: &Candidate) -> bool {
        self.times.checked_sub(other.times).is_some_and(|lead| lead >= u32::from(KEEPS_BEING_NAMED))
    }
}

impl Contest {
    /// The person of the session, and somebody who is named besides.
    fn between(bound: Bound, rival: IdentityKey, now: Mono) -> Contest {
        let lead = u32::from(KEEPS_BEING_NAMED);
        let before = Candidate { identity: bound.identity, times: lead, first: bound.since };
        let rival = Candidate { identity: rival, times: 1, first: now };
        Contest {
            begun: now,
            before,
            is_opposed: false,
            rival,
            last: rival.identity,
            last_since: now,
            may_bring: false,
        }
    }

    fn candidate(&mut self, identity: IdentityKey) -> Option<&mut Candidate> {
        [&mut self.before, &mut self.rival].into_iter().find(|candidate| candidate.identity == identity)
    }

    /// Who keeps being named, clearly more often than the other.
    fn leader(&self) -> Option<Candidate> {
        let (before, rival) = (self.before, self.rival);
        before.leads(&rival).then_some(before).or_else(|| rival.leads(&before).then_some(rival))
    }

    /// Whose the session is, if that must be decided now that `named` is named once more: nobody keeps both forever.
    fn winner(&self, named: IdentityKey) -> Candidate {
        let is_unopposed = !self.is_opposed && named != self.before.identity;
        self.leader().unwrap_or(if is_unopposed { self.rival } else { self.before })
    }

    fn must_end(&self, now: Mono) -> bool {
        now.since(self.begun) >= LONGEST_CONTEST
    }

    /// Another login begins: what was counted before it says nothing about who it is. Nobody leads.
    fn begin_anew(&mut self) {
        self.before.times = u32::from(KEEPS_BEING_NAMED);
        self.rival.times = 1;
        self.may_bring = true;
    }

    /// Whether a name that is neither may be that of whoever logged in since then: they take the rival's place.
    fn takes_up(&mut self, newcomer: IdentityKey, now: Mono) -> bool {
        if !std::mem::take(&mut self.may_bring) {
            return false;
        }
        self.rival = Candidate { identity: newcomer, times: 1, first: now };
        self.is_opposed = false;
        (self.last, self.last_since) = (newcomer, now);
        true
    }

    /// A candidate is named. Says whether that contradicts what was named before.
    fn name(&mut self, identity: IdentityKey, asked_at: Mono, now: Mono) -> bool {
        if identity != self.last && asked_at < self.last_since {
            // Asked before the other one was named: another tab of the same browser.
            return false;
        }
        if let Some(candidate) = self.candidate(identity) {
            candidate.times = candidate.times.saturating_add(1);
        }
        self.is_opposed |= identity == self.before.identity;
        let is_contradiction = identity != self.last;
        if is_contradiction {
            (self.last, self.last_since) = (identity, now);
        }
        is_contradiction
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    who: Who,
    first: Mono,
    at: Mono,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    identity: IdentityKey,
    since: Mono,
    before: Option<IdentityKey>,
}

/// Whether a request can change who is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It cannot.
    Reads,
    /// It can: a form, a login provider's callback, a logout.
    MayLogIn,
}

/// Whether a request may change who is logged in, as far as it shows: by its method, because another site sent the
/// visitor here (a login provider does), or because its query has what login providers send along.
pub fn effect_of(method: &Method, query: Option<&str>, headers: &HeaderMap) -> Effect {
    let says = |name: &HeaderName, values: &[&str]| {
        headers.get(name).is_some_and(|value| values.iter().any(|known| value.as_bytes() == known.as_bytes()))
    };
    let is_sent_here = || says(&SEC_FETCH_SITE, &["cross-site", "same-site"]) && says(&SEC_FETCH_MODE, &["navigate"]);
    if !method.is_safe() || query.is_some_and(is_of_a_login) || is_sent_here() {
        Effect::MayLogIn
    } else {
        Effect::Reads
    }
}

/// SAML, CAS, OAuth and OpenID Connect.
fn is_of_a_login(query: &str) -> bool {
    const ALONE: [&str; 6] = ["SAMLResponse", "SAMLart", "ticket", "id_token", "oauth_token", "openid.mode"];
    let has = |wanted: &str| query.split('&').any(|pair| pair.split('=').next() == Some(wanted));
    ALONE.into_iter().any(has) || (has("code") && has("state"))
}

/// A request within a session, of which the answer is there.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Whose it was.
    pub who: Who,
    /// When it left.
    pub at: Mono,
    /// Whether it could change who is logged in.
    pub effect: Effect,
}

/// What an answer is to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Something to look at.
    Page,
    /// The way to somewhere else: a step of a login, maybe.
    TheWay,
}

impl SessionRecord {
    /// A request presents the session.
    pub fn present(&mut self, who: Who, arrival: Arrival, effect: Effect, now: Mono) -> Option<Finding> {
        let finding = self.stranger(who, arrival, now);
        if effect == Effect::MayLogIn {
            self.begin_window(MayChange::begun(now, None));
        }
        self.remember_presenter(who, now);
        finding
    }

    /// From here on somebody else may be named. Whoever has led so far is the person of the session until then.
    fn begin_window(&mut self, change: MayChange) {
        let now = change.since;
        self.may_change = Some(change);
        self.told.has_changed();
        let Some(contest) = &mut self.contest else { return };
        let (before, rival) = (contest.before, contest.rival);
        if rival.leads(&before) || (contest.must_end(now) && !contest.is_opposed) {
            self.adopt(rival, before.identity);
        } else if !contest.must_end(now) {
            contest.begin_anew();
        }
    }

    /// A contest is decided: the session is somebody else's now.
    fn adopt(&mut self, winner: Candidate, before: IdentityKey) -> Bound {
        let bound = Bound { identity: winner.identity, since: winner.first, before: Some(before) };
        self.contest = None;
        self.bound = Some(bound);
        self.told.has_changed();
        bound
    }

    /// A visitor whom the session was not issued to, and who has not presented it before.
    fn stranger(&self, who: Who, arrival: Arrival, now: Mono) -> Option<Finding> {
        let issued = self.issued?;
        // Who has no pass cannot be told from the owner; before a pass there was none either.
        let (visitor, owner) = (who.visitor?, issued.who.visitor?);
        if visitor == owner {
            // The owner is back although somebody else has come with the session as if ours had been lost.
            let other = self.presenters().rev().find(|seen| seen.who.visitor.is_some_and(|other| other != owner))?;
            let first_since = self.seen_presenting(owner).is_some_and(|seen| seen.at <= other.at);
            return (first_since && now.since(other.at) < LATELY).then(|| Finding {
                other_visitor: other.who.visitor,
                ..Finding::of(Detector::SessionPresented, Certainty::Likely)
            });
        }
        let is_known = self.seen_presenting(visitor).is_some();
        (!is_known && arrival == Arrival::Inside)
            .then(|| Finding { other_visitor: Some(owner), ..Finding::of(Detector::SessionPresented, Certainty::Sure) })
    }

    /// The request of a visitor who presented the session was not sent: it gave no claim to it.
    pub fn forget_presenter(&mut self, who: Who) {
        for seen in &mut self.presented {
            if seen.is_some_and(|seen| seen.who == who) {
                *seen = None;
            }
        }
    }

    fn presenters(&self) -> impl DoubleEndedIterator<Item = &Seen> {
        self.presented.iter().flatten()
    }

    fn seen_presenting(&self, visitor: VisitorKey) -> Option<&Seen> {
        self.presenters().find(|seen| seen.who.visitor == Some(visitor))
    }

    /// The latest comes last; the one not seen for longest makes room.
    fn remember_presenter(&mut self, who: Who, now: Mono) {
        if let [.., Some(last)] = &mut self.presented
            && last.who == who
        {
            last.at = now;
            return;
        }
        let at = self.presented.iter().position(|seen| seen.is_some_and(|seen| seen.who == who));
        if at.is_none() {
            self.told.has_changed();
        }
        let first = at.and_then(|at| *self.presented.get(at)?).map_or(now, |seen| seen.first);
        if let Some(from) = self.presented.get_mut(at.unwrap_or(0)..) {
            from.rotate_left(1);
        }
        if let Some(last) = self.presented.last_mut() {
            *last = Some(Seen { who, first, at: now });
        }
    }

    /// An answer issues the session, to a request that did not carry it.
    pub fn issue(&mut self, who: Who, now: Mono) -> Option<Finding> {
        // Portals renew the session when somebody logs in, and may name the person before once more.
        self.begin_window(MayChange::begun(now, Some(now)));
        let before = self.issued.replace(Seen { who, first: now, at: now });
        let before = before.filter(|before| !before.who.may_be(who))?;
        // What was issued first counts on; the second was a mistake.
        self.issued = Some(before);
        Some(Finding { other_visitor: before.who.visitor, ..Finding::of(Detector::SessionReissued, Certainty::Sure) })
    }

    /// The answer to a request that could change who is logged in is there. Portals decide early whom they name: its
    /// own head may still name the person before.
    pub fn note_answer(&mut self, effect: Effect, now: Mono) {
        if let (Effect::MayLogIn, Some(change)) = (effect, &mut self.may_change) {
            change.answered = Some(now);
            self.told.has_changed();
        }
    }

    /// An answer within the session names a person.
    pub fn name(&mut self, identity: IdentityKey, asked: &Asked, shows: Shows, now: Mono) -> Option<Finding> {
        let Some(bound) = self.bound else {
            self.bound = Some(Bound { identity, since: now, before: None });
            self.told.has_changed();
            self.remember_presenter(asked.who, asked.at);
            self.note_login_over(asked, shows);
            return None;
        };
        let bound = self.decide(bound, identity, now);
        let as_far_as_known = self.certainty_beside_others(now);
        if bound.identity != identity && !self.knows(asked.who, asked.at) {
            // A stranger has no say in whose session it is.
            return Some(Finding {
                other_identity: Some(bound.identity),
                ..Finding::of(Detector::SessionIdentities, as_far_as_known)
            });
        }
        if let Some(contest) = &mut self.contest {
            if contest.candidate(identity).is_none() {
                // A login brings one new name.
                let certainty = if contest.takes_up(identity, now) { Certainty::Likely } else { Certainty::Sure };
                return Some(Finding {
                    other_identity: Some(bound.identity),
                    ..Finding::of(Detector::SessionIdentities, certainty)
                });
            }
            let other = contest.last;
            return contest.name(identity, asked.at, now).then(|| Finding {
                other_identity: Some(other),
                ..Finding::of(Detector::IdentityMismatch, Certainty::Likely)
            });
        }
        if bound.identity == identity {
            self.note_login_over(asked, shows);
            return None;
        }
        if bound.before == Some(identity) && asked.at < bound.since {
            // Asked before the change, answered after it: another tab of the same browser.
            return None;
        }
        let finding = |detector, certainty| {
            Some(Finding { other_identity: Some(bound.identity), ..Finding::of(detector, certainty) })
        };
        let lost_lately = |lost: Lost| lost.identity == identity && now.since(lost.at) < LONGEST_CONTEST;
        if (asked.effect == Effect::MayLogIn || self.changed_lately(now)) && !self.lost.is_some_and(lost_lately) {
            self.contest = Some(Box::new(Contest::between(bound, identity, now)));
            return finding(Detector::SessionIdentities, Certainty::Likely);
        }
        finding(Detector::IdentityMismatch, as_far_as_known)
    }

    /// Decides a contest whose window is closed, if one of them kept being named, and any that has lasted too long.
    /// Says whose the session is, before somebody is named now.
    fn decide(&mut self, bound: Bound, named: IdentityKey, now: Mono) -> Bound {
        let Some(contest) = self.contest.as_deref().copied() else { return bound };
        let must_end = contest.must_end(now);
        let can_end = !self.changed_lately(now) && contest.leader().is_some();
        if !must_end && !can_end {
            return bound;
        }
        let winner = contest.winner(named);
        if winner.identity != bound.identity {
            return self.adopt(winner, bound.identity);
        }
        self.contest = None;
        if must_end {
            self.lost = Some(Lost { identity: contest.rival.identity, at: now });
        }
        bound
    }

    /// Pages that were asked for after a login was answered name the person of the session: whoever that is, nobody else
    /// logged in. One of them alone may come from a cache.
    fn note_login_over(&mut self, asked: &Asked, shows: Shows) {
        let Some(change) = &mut self.may_change else { return };
        let came_after = change.answered.is_some_and(|answered| asked.at > answered);
        if came_after && asked.effect == Effect::Reads && shows == Shows::Page {
            change.confirmed = change.confirmed.saturating_add(1);
            if change.confirmed >= KEEPS_BEING_NAMED {
                self.may_change = None;
            }
        }
    }

    fn changed_lately(&self, now: Mono) -> bool {
        self.may_change.is_some_and(|change| now.since(change.answered.unwrap_or(change.since)) < LATELY)
    }

    /// Whether this visitor was issued the session, or presented it before this request.
    fn knows(&self, who: Who, asked_at: Mono) -> bool {
        let presented = self.presenters().any(|seen| seen.first < asked_at && seen.who.may_be(who));
        presented || self.issued.is_some_and(|seen| seen.who.may_be(who))
    }
}

/// What is remembered of one person whom the portal names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityRecord {
    sessions: [Option<SessionKey>; MANY_SESSIONS],
    reported: bool,
}

impl IdentityRecord {
    /// The person is named within a session. Found once, when the sessions have become many.
    pub fn within(&mut self, session: SessionKey) -> Option<Finding> {
        if self.sessions.contains(&Some(session)) {
            return None;
        }
        match self.sessions.iter_mut().find(|known| known.is_none()) {
            Some(free) => {
                *free = Some(session);
                None
            }
            None if self.reported => None,
            None => {
                self.reported = true;
                Some(Finding::of(Detector::IdentitySessions, Certainty::Likely))
            }
        }
    }
}

/// A session cookie that was sent or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCookie<'a> {
    /// Its name as configured.
    pub name: &'a str,
    /// The session's id, without what a balancer appends.
    pub id: &'a [u8],
}

/// The sessions that a request presents, in short, the first few: found for every request, so without memory of their own.
#[derive(Clone, Copy, Debug)]
pub struct Presented {
    keys: [SessionKey; MOST_SESSIONS],
    count: usize,
}

impl Presented {
    /// None.
    pub const NONE: Presented = Presented { keys: [SessionKey([0; 16]); MOST_SESSIONS], count: 0 };

    /// All of them.
    pub fn all(&self) -> &[SessionKey] {
        self.keys.get(..self.count).unwrap_or_default()
    }
}

impl FromIterator<SessionKey> for Presented {
    fn from_iter<I: IntoIterator<Item = SessionKey>>(sessions: I) -> Presented {
        let mut presented = Presented::NONE;
        for (place, session) in presented.keys.iter_mut().zip(sessions) {
            *place = session;
            presented.count += 1;
        }
        presented
    }
}

/// The session cookies of these names that a request carries, the first few.
pub fn presented_sessions<'a>(headers: &'a HeaderMap, names: &'a [String]) -> impl Iterator<Item = SessionCookie<'a>> {
    let lines = headers.get_all(COOKIE).into_iter();
    let pairs = lines.flat_map(|line| Pairs(Some(line.as_bytes()))).take(MOST_COOKIES);
    pairs.filter_map(|pair| session_cookie(pair, names)).take(MOST_SESSIONS)
}

/// What stands between semicolons. Every request's cookies are looked at, so by leaps and not byte by byte.
struct Pairs<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Pairs<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0.take()?;
        let Some((pair, rest)) = memchr(b';', line).and_then(|at| line.split_at_checked(at)) else { return Some(line) };
        self.0 = rest.get(1..);
        Some(pair)
    }
}

/// The session cookies of these names that an answer sets, the first few. Deletions issue nothing.
pub fn issued_sessions<'a>(headers: &'a HeaderMap, names: &'a [String]) -> impl Iterator<Item = SessionCookie<'a>> {
    let lines = headers.get_all(SET_COOKIE).into_iter().take(MOST_COOKIES);
    let issued = lines.filter_map(|line| {
        let cookie = session_cookie(Pairs(Some(line.as_bytes())).next()?, names)?;
        (!is_deletion(line)).then_some(cookie)
    });
    issued.take(MOST_SESSIONS)
}

fn session_cookie<'a>(pair: &'a [u8], names: &'a [String]) -> Option<SessionCookie<'a>> {
    let pair = pair.trim_ascii_start();
    let (name, value) = names.iter().find_map(|name| Some((name, value_of(name, pair)?)))?;
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let id = if name.eq_ignore_ascii_case("jsessionid") { without_node(value) } else { value };
    let is_none = id.is_empty() || id.eq_ignore_ascii_case(b"deleted") || id.eq_ignore_ascii_case(b"delete");
    (!is_none).then_some(SessionCookie { name, id })
}

/// The value, if the pair has this name. Most pairs differ in the first letter.
fn value_of<'a>(name: &str, pair: &'a [u8]) -> Option<&'a [u8]> {
    if !pair.first()?.eq_ignore_ascii_case(name.as_bytes().first()?) {
        return None;
    }
    let (start, rest) = pair.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    rest.trim_ascii_start().strip_prefix(b"=")
}

/// Tomcat appends `.node`, WebLogic `!node`; the id before it is the session.
fn without_node(value: &[u8]) -> &[u8] {
    memchr2(b'.', b'!', value).and_then(|end| value.get(..end)).unwrap_or(value)
}

/// `Max-Age` of zero or less, or `Expires` in the 1970s (RFC 6265 section 5.2): servers that delete a cookie write one
/// of these.
fn is_deletion(line: &HeaderValue) -> bool {
    let attributes = line.as_bytes().split(|byte| *byte == b';').skip(1);
    attributes.map(<[u8]>::trim_ascii).any(|attribute| {
        let value = |name: &[u8]| {
            let (start, value) = attribute.split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
        };
        value(b"max-age=").is_some_and(|age| age.starts_with(b"-") || age.iter().all(|digit| *digit == b'0'))
            || value(b"expires=").is_some_and(|date| date.windows(3).any(|year| year == b"197"))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn who(visitor: u8) -> Who {
        Who { visitor: Some(VisitorKey([visitor; 16])), network: ClientPrefix::of([192, 0, 2, visitor].into()) }
    }

    fn passless(last: u8) -> Who {
        Who { visitor: None, network: ClientPrefix::of([192, 0, 2, last].into()) }
    }

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    const ANNA: IdentityKey = IdentityKey([1; 16]);
    const BRUNO: IdentityKey = IdentityKey([2; 16]);

    fn read(record: &mut SessionRecord, visitor: u8, second: u64) -> Option<Finding> {
        record.present(who(visitor), Arrival::Inside, Effect::Reads, at(second))
    }

    /// The answer to a question of a visitor names somebody.
    fn named(record: &mut SessionRecord, person: IdentityKey, visitor: u8, asked: u64, now: u64) -> Option<Finding> {
        let asked = Asked { who: who(visitor), at: at(asked), effect: Effect::Reads };
        record.name(person, &asked, Shows::Page, at(now))
    }

    /// A visitor may log in: the request, and its answer, which names somebody.
    fn log_in(record: &mut SessionRecord, named: IdentityKey, visitor: u8, asked: u64, now: u64) -> Option<Finding> {
        let finding = record.present(who(visitor), Arrival::Inside, Effect::MayLogIn, at(asked));
        assert_eq!(finding, None);
        record.note_answer(Effect::MayLogIn, at(now));
        let asked = Asked { who: who(visitor), at: at(asked), effect: Effect::MayLogIn };
        record.name(named, &asked, Shows::TheWay, at(now))
    }

    fn found(finding: Option<Finding>) -> Option<(Detector, Certainty)> {
        finding.map(|finding| (finding.detector, finding.certainty))
    }

    #[test]
    fn two_logins_as_two_new_people_within_two_minutes_stop_nobody_and_a_third_name_is_stopped() {
        const CARLA: IdentityKey = IdentityKey([3; 16]);
        const DAVIDE: IdentityKey = IdentityKey([4; 16]);
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        for second in [10, 200] {
            assert_eq!(read(&mut record, 1, second), None);
            assert_eq!(named(&mut record, ANNA, 1, second, second), None);
        }
        let likely = Some((Detector::SessionIdentities, Certainty::Likely));
        assert_eq!(found(log_in(&mut record, BRUNO, 1, 400, 400)), likely);
        assert_eq!(named(&mut record, BRUNO, 1, 401, 401), None);
        assert_eq!(found(log_in(&mut record, CARLA, 1, 430, 430)), likely);
        assert_eq!(named(&mut record, CARLA, 1, 431, 431), None);
        let wrong = Some((Detector::SessionIdentities, Certainty::Sure));
        assert_eq!(found(named(&mut record, DAVIDE, 1, 432, 432)), wrong, "a login brings one new name");
        for second in (433..560).step_by(10) {
            read(&mut record, 1, second);
            assert_eq!(named(&mut record, CARLA, 1, second, second), None, "{second}");
        }
        assert_eq!(record.bound.map(|bound| bound.identity), Some(CARLA));
    }

    #[test]
    fn a_session_issued_to_two_visitors() {
        let mut record = SessionRecord::default();
        assert_eq!(record.issue(who(1), at(0)), None);
        assert_eq!(record.issue(who(1), at(1)), None, "the same visitor once more");
        let finding = record.issue(who(2), at(2)).unwrap();
        assert_eq!(finding.detector, Detector::SessionReissued);
        assert_eq!(finding.other_visitor, who(1).visitor);
        assert_eq!(found(record.issue(who(3), at(3))), Some((Detector::SessionReissued, Certainty::Sure)));
        assert_eq!(record.issue(who(1), at(4)), None, "the first owner stays the owner");
    }

    #[test]
    fn visitors_without_a_pass_are_told_apart_by_their_network() {
        let mut record = SessionRecord::default();
        assert_eq!(record.issue(passless(1), at(0)), None);
        assert_eq!(record.issue(who(1), at(1)), None, "the same network, now with a pass");
        let mut record = SessionRecord::default();
        record.issue(passless(1), at(0));
        assert!(record.issue(passless(2), at(1)).is_some());
    }

    #[test]
    fn a_browser_with_addresses_of_both_families_is_one() {
        let by_ipv6 = Who { visitor: None, network: ClientPrefix::of("2001:db8::1".parse().unwrap()) };
        let mut record = SessionRecord::default();
        record.issue(passless(1), at(0));
        assert_eq!(record.issue(by_ipv6, at(1)), None);
    }

    #[test]
    fn a_session_presented_by_another_visitor() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        assert_eq!(read(&mut record, 1, 1), None);
        let finding = read(&mut record, 2, 2).unwrap();
        assert_eq!((finding.detector, finding.other_visitor), (Detector::SessionPresented, who(1).visitor));
        assert_eq!(read(&mut record, 2, 3), None, "reported once");
        record.forget_presenter(who(2));
        assert!(read(&mut record, 2, 4).is_some(), "whoever was sent away is a stranger still");
    }

    #[test]
    fn a_lost_waiting_room_cookie_is_no_finding() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        read(&mut record, 1, 1);
        assert_eq!(record.present(who(2), Arrival::Entering, Effect::Reads, at(2)), None);
        assert_eq!(read(&mut record, 2, 3), None);
        let mut both = record;
        assert_eq!(found(read(&mut both, 1, 4)), Some((Detector::SessionPresented, Certainty::Likely)), "both have it");
    }

    #[test]
    fn another_persons_page() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        read(&mut record, 1, 1);
        assert_eq!(named(&mut record, ANNA, 1, 1, 1), None);
        read(&mut record, 1, 5);
        assert_eq!(named(&mut record, ANNA, 1, 5, 5), None);
        read(&mut record, 1, 6);
        let finding = named(&mut record, BRUNO, 1, 6, 6).unwrap();
        assert_eq!((finding.detector, finding.certainty), (Detector::IdentityMismatch, Certainty::Sure));
        assert_eq!(finding.other_identity, Some(ANNA));
        assert_eq!(named(&mut record, ANNA, 1, 7, 7), None, "the session stays hers");
    }

    #[test]
    fn a_login_as_somebody_else_within_an_old_portals_session() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        record.present(who(1), Arrival::Inside, Effect::MayLogIn, at(10));
        read(&mut record, 1, 11);
        let finding = named(&mut record, BRUNO, 1, 11, 12);
        assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Likely)));
        assert_eq!(named(&mut record, ANNA, 1, 9, 13), None, "a late answer to another tab");
        for second in 14..17 {
            assert_eq!(named(&mut record, BRUNO, 1, second, second), None, "he keeps being named");
        }
        assert_eq!(
            found(named(&mut record, ANNA, 1, 80, 80)),
            Some((Detector::IdentityMismatch, Certainty::Sure)),
            "one login changes the person once"
        );
        assert_eq!(named(&mut record, BRUNO, 1, 81, 81), None, "the session is his now");
    }

    #[test]
    fn a_logins_own_answer_may_still_name_the_person_before() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        read(&mut record, 1, 1);
        named(&mut record, ANNA, 1, 1, 1);
        assert_eq!(log_in(&mut record, ANNA, 1, 10, 12), None);
        let after = named(&mut record, BRUNO, 1, 12, 13);
        assert_eq!(found(after), Some((Detector::SessionIdentities, Certainty::Likely)));
        assert_eq!(named(&mut record, BRUNO, 1, 14, 14), None);
    }

    #[test]
    fn a_session_that_a_login_renews_may_first_name_the_person_before() {
        let mut renewed = SessionRecord::default();
        renewed.issue(who(1), at(12));
        let login = Asked { who: who(1), at: at(10), effect: Effect::MayLogIn };
        assert_eq!(renewed.name(ANNA, &login, Shows::TheWay, at(12)), None);
        read(&mut renewed, 1, 13);
        let after = named(&mut renewed, BRUNO, 1, 13, 13);
        assert_eq!(found(after), Some((Detector::SessionIdentities, Certainty::Likely)));
        for second in 14..17 {
            assert_eq!(named(&mut renewed, BRUNO, 1, second, second), None);
        }
        assert_eq!(found(named(&mut renewed, ANNA, 1, 75, 75)), Some((Detector::IdentityMismatch, Certainty::Sure)));
    }

    #[test]
    fn a_step_of_a_login_that_names_the_person_before_ends_nothing() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        assert_eq!(log_in(&mut record, ANNA, 1, 10, 12), None);
        let step = Asked { who: who(1), at: at(13), effect: Effect::Reads };
        assert_eq!(record.name(ANNA, &step, Shows::TheWay, at(14)), None);
        assert_eq!(found(named(&mut record, BRUNO, 1, 15, 16)), Some((Detector::SessionIdentities, Certainty::Likely)));
    }

    #[test]
    fn pages_after_a_login_that_name_the_same_person_end_the_doubt() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        assert_eq!(log_in(&mut record, ANNA, 1, 10, 12), None);
        assert_eq!(named(&mut record, ANNA, 1, 11, 13), None, "asked before the login was answered: says nothing");
        assert_eq!(named(&mut record, ANNA, 1, 14, 14), None);
        assert_eq!(named(&mut record, ANNA, 1, 15, 15), None, "it was no login");
        assert_eq!(found(named(&mut record, BRUNO, 1, 20, 20)), Some((Detector::IdentityMismatch, Certainty::Sure)));
    }

    #[test]
    fn a_wrong_name_in_a_logins_window_does_not_get_the_rightful_person_blocked() {
        let contradiction = Some((Detector::IdentityMismatch, Certainty::Likely));
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        // She sends a form, and a page of somebody else comes.
        let finding = log_in(&mut record, BRUNO, 1, 10, 11);
        assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Likely)));
        assert_eq!(found(named(&mut record, ANNA, 1, 12, 12)), contradiction);
        for second in 13..100 {
            assert_eq!(named(&mut record, ANNA, 1, second, second), None);
        }
        assert_eq!(found(named(&mut record, BRUNO, 1, 100, 100)), Some((Detector::IdentityMismatch, Certainty::Sure)));
        assert_eq!(named(&mut record, ANNA, 1, 101, 101), None, "the session stayed hers");
    }

    #[test]
    fn a_page_of_the_person_before_does_not_get_the_new_person_blocked() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        assert_eq!(log_in(&mut record, ANNA, 1, 10, 11), None);
        assert_eq!(named(&mut record, ANNA, 1, 12, 12), None, "from a cache behind us, say");
        assert_eq!(found(named(&mut record, BRUNO, 1, 13, 13)), Some((Detector::SessionIdentities, Certainty::Likely)));
        let old = named(&mut record, ANNA, 1, 14, 14);
        assert_eq!(
            found(old),
            Some((Detector::IdentityMismatch, Certainty::Likely)),
            "reported, but nobody is stopped"
        );
        for second in 15..100 {
            let finding = named(&mut record, BRUNO, 1, second, second);
            assert!(finding.is_none_or(|finding| finding.certainty == Certainty::Likely), "{finding:?}");
        }
        assert_eq!(found(named(&mut record, ANNA, 1, 100, 100)), Some((Detector::IdentityMismatch, Certainty::Sure)));
    }

    #[test]
    fn whoever_is_named_once_is_not_adopted() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        log_in(&mut record, BRUNO, 1, 10, 11);
        // Nothing is asked for until long after the window.
        assert_eq!(named(&mut record, ANNA, 1, 300, 300), None, "hers before, and nobody led");
        assert_eq!(named(&mut record, ANNA, 1, 301, 301), None);
        assert_eq!(named(&mut record, ANNA, 1, 302, 302), None);
        assert_eq!(named(&mut record, ANNA, 1, 303, 303), None);
        assert_eq!(found(named(&mut record, BRUNO, 1, 304, 304)), Some((Detector::IdentityMismatch, Certainty::Sure)));
    }

    #[test]
    fn a_login_may_take_longer_than_a_minute() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        assert_eq!(log_in(&mut record, ANNA, 1, 10, 100), None);
        assert_eq!(
            found(named(&mut record, BRUNO, 1, 101, 102)),
            Some((Detector::SessionIdentities, Certainty::Likely))
        );
    }

    #[test]
    fn whoever_was_first_seen_by_an_answer_may_log_in_next() {
        let mut record = SessionRecord::default();
        assert_eq!(named(&mut record, ANNA, 1, 1, 2), None, "nothing was known of the session, as after a start");
        assert_eq!(
            found(log_in(&mut record, BRUNO, 1, 10, 11)),
            Some((Detector::SessionIdentities, Certainty::Likely))
        );
    }

    #[test]
    fn logins_are_recognised_by_what_they_look_like() {
        let of = |method: Method, query: Option<&str>, lines: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            effect_of(&method, query, &headers)
        };
        let from = |site| [("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
        assert_eq!(of(Method::POST, None, &[]), Effect::MayLogIn);
        assert_eq!(of(Method::GET, None, &from("cross-site")), Effect::MayLogIn);
        assert_eq!(of(Method::GET, None, &from("same-site")), Effect::MayLogIn);
        for query in ["code=1&state=2", "SAMLart=1", "a=1&ticket=ST-1", "state=1&session_state=2&code=3"] {
            assert_eq!(of(Method::GET, Some(query), &[]), Effect::MayLogIn, "{query}");
        }
        assert_eq!(of(Method::GET, None, &from("same-origin")), Effect::Reads);
        assert_eq!(
            of(Method::GET, None, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")]),
            Effect::Reads
        );
        for query in ["code=1", "tickets=1", "q=code=1&state", ""] {
            assert_eq!(of(Method::GET, Some(query), &[]), Effect::Reads, "{query}");
        }
    }

    #[test]
    fn a_stranger_in_somebodys_session_is_blocked_even_after_a_login() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        read(&mut record, 1, 1);
        named(&mut record, ANNA, 1, 1, 1);
        record.present(who(2), Arrival::Inside, Effect::MayLogIn, at(2));
        let finding = named(&mut record, BRUNO, 2, 2, 2);
        assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Sure)));
    }

    #[test]
    fn a_stranger_has_no_say_in_a_contested_session() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        log_in(&mut record, BRUNO, 1, 10, 11);
        read(&mut record, 2, 12);
        let finding = named(&mut record, BRUNO, 2, 12, 12);
        assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Sure)));
    }

    /// A session of hers in which a form is sent, and Bruno is named.
    fn contested() -> SessionRecord {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        named(&mut record, ANNA, 1, 1, 1);
        let finding = log_in(&mut record, BRUNO, 1, 10, 11);
        assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Likely)));
        record
    }

    fn is_blocked(finding: Option<Finding>) -> bool {
        finding.is_some_and(|finding| finding.certainty == Certainty::Sure)
    }

    #[test]
    fn a_third_name_in_one_contest_is_stopped() {
        let mut record = contested();
        for (second, person) in [(12, 3), (13, 4), (14, 5)] {
            let finding = named(&mut record, IdentityKey([person; 16]), 1, second, second);
            assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Sure)));
        }
        for second in 16..100 {
            assert!(!is_blocked(named(&mut record, ANNA, 1, second, second)), "nor is she pushed out");
        }
    }

    #[test]
    fn a_wrong_page_that_is_reloaded_twice_is_not_adopted() {
        let mut record = contested();
        assert_eq!(named(&mut record, BRUNO, 1, 12, 12), None);
        assert_eq!(named(&mut record, BRUNO, 1, 13, 13), None);
        for second in 80..200 {
            assert!(!is_blocked(named(&mut record, ANNA, 1, second, second)), "at {second}");
        }
        assert!(is_blocked(named(&mut record, BRUNO, 1, 200, 200)));
    }

    #[test]
    fn whoever_logs_in_and_looks_at_little_is_not_blocked() {
        let mut record = contested();
        assert_eq!(named(&mut record, BRUNO, 1, 40, 40), None);
        for second in [300, 400, 500] {
            assert_eq!(named(&mut record, BRUNO, 1, second, second), None, "nobody else was named");
        }
        assert!(is_blocked(named(&mut record, ANNA, 1, 501, 501)));
    }

    #[test]
    fn whoever_logs_in_and_sends_a_form_is_not_blocked() {
        let mut record = contested();
        assert_eq!(record.present(who(1), Arrival::Inside, Effect::MayLogIn, at(20)), None);
        record.note_answer(Effect::MayLogIn, at(21));
        for second in 90..200 {
            assert_eq!(named(&mut record, BRUNO, 1, second, second), None, "the form's own answer named nobody");
        }
    }

    #[test]
    fn no_contest_lasts_for_ever() {
        let mut record = contested();
        for second in 12..131 {
            let person = if second % 2 == 0 { ANNA } else { BRUNO };
            if second % 30 == 0 {
                // More forms prolong nothing.
                assert_eq!(record.present(who(1), Arrival::Inside, Effect::MayLogIn, at(second)), None);
            }
            assert!(!is_blocked(named(&mut record, person, 1, second, second)), "at {second}");
        }
        for second in (131..240).step_by(2) {
            record.present(who(1), Arrival::Inside, Effect::MayLogIn, at(second));
            assert!(is_blocked(named(&mut record, BRUNO, 1, second, second)), "at {second}");
            assert_eq!(named(&mut record, ANNA, 1, second + 1, second + 1), None, "the session stays hers");
        }
        // Much later he may log in.
        log_in(&mut record, BRUNO, 1, 400, 401);
        for second in 402..600 {
            assert!(!is_blocked(named(&mut record, BRUNO, 1, second, second)), "at {second}");
        }
    }

    #[test]
    fn a_tie_of_very_many_answers_is_no_lead() {
        let mut record = contested();
        for _ in 0..600 {
            named(&mut record, ANNA, 1, 12, 12);
            named(&mut record, BRUNO, 1, 12, 12);
        }
        named(&mut record, BRUNO, 1, 13, 13);
        assert!(!is_blocked(named(&mut record, ANNA, 1, 100, 100)), "nobody led when the window closed");
        assert!(!is_blocked(named(&mut record, BRUNO, 1, 101, 101)), "nor did she");
        assert!(!is_blocked(named(&mut record, ANNA, 1, 140, 140)));
        assert!(is_blocked(named(&mut record, BRUNO, 1, 141, 141)));
    }

    #[test]
    fn two_devices_are_normal_and_a_dozen_are_reported_once() {
        let mut record = IdentityRecord::default();
        for session in 0..MANY_SESSIONS as u8 {
            assert_eq!(record.within(SessionKey([session; 16])), None);
        }
        assert_eq!(record.within(SessionKey([0; 16])), None);
        let finding = record.within(SessionKey([100; 16]));
        assert_eq!(found(finding), Some((Detector::IdentitySessions, Certainty::Likely)));
        assert_eq!(record.within(SessionKey([101; 16])), None);
    }

    #[test]
    fn many_session_cookies_are_not_all_looked_at() {
        let cookies = vec!["JSESSIONID=A"; 200].join("; ");
        assert_eq!(presented_sessions(&headers("cookie", &[&cookies]), &names()).count(), MOST_SESSIONS);
        let lines = vec!["JSESSIONID=A"; 200];
        assert_eq!(issued_sessions(&headers("set-cookie", &lines), &names()).count(), MOST_SESSIONS);
    }

    fn headers(name: &str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), line.parse().unwrap());
        }
        headers
    }

    fn names() -> Vec<String> {
        ["JSESSIONID", "PHPSESSID"].map(str::to_owned).to_vec()
    }

    #[test]
    fn only_listed_cookies_are_sessions() {
        let lines =
            ["a=1; JSESSIONID=ABC.node1; ROUTEID=.1; JSESSIONIDS=1; PHP=1", "phpsessid = \"x.y\"; XSRF-TOKEN=t"];
        let sent = headers("cookie", &lines);
        let names = names();
        let ids: Vec<&[u8]> = presented_sessions(&sent, &names).map(|session| session.id).collect();
        assert_eq!(ids, [b"ABC".as_slice(), b"x.y"], "the node is no part of Tomcat's id");
    }

    #[test]
    fn deletions_issue_nothing() {
        let names = names();
        let issued = |line: &str| issued_sessions(&headers("set-cookie", &[line]), &names).count();
        assert_eq!(issued("JSESSIONID=ABC; Path=/; HttpOnly"), 1);
        assert_eq!(issued("JSESSIONID=ABC; Max-Age=3600; Expires=Wed, 09 Jun 2032 10:18:14 GMT"), 1);
        for deletion in [
            "JSESSIONID=; Path=/",
            "JSESSIONID=\"\"; Path=/",
            "JSESSIONID=ABC; Max-Age=0",
            "JSESSIONID=ABC; max-age=-1",
            "JSESSIONID=ABC; Expires=Thu, 01 Jan 1970 00:00:10 GMT",
            "PHPSESSID=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0",
            "ROUTEID=.1; Path=/",
            "JSESSIONID",
        ] {
            assert_eq!(issued(deletion), 0, "{deletion}");
        }
    }

    proptest! {
        /// One browser, whatever it does, never makes a finding that may be blocked, but for a page that names somebody
        /// else without a login. Nobody becomes somebody else, and somebody else again, within minutes.
        #[test]
        fn one_browser_is_never_blocked(steps in proptest::collection::vec((0..5u8, 0..40u64), 0..60)) {
            let mut record = SessionRecord::default();
            let (mut now, mut person) = (0, ANNA);
            record.issue(who(1), at(0));
            for (step, wait) in steps {
                now += wait;
                let finding = match step {
                    0 => read(&mut record, 1, now),
                    // A login whose own answer names the person before, or the new one.
                    1 | 4 => {
                        now += 2 * LONGEST_CONTEST.as_secs();
                        let before = person;
                        person = if person == ANNA { BRUNO } else { ANNA };
                        let finding = log_in(&mut record, if step == 1 { person } else { before }, 1, now, now + 1);
                        now += 2;
                        finding.or(named(&mut record, person, 1, now, now))
                    }
                    2 => named(&mut record, person, 1, now, now),
                    _ => record.issue(who(1), at(now)),
                };
                prop_assert!(finding.is_none_or(|finding| finding.certainty == Certainty::Likely), "{:?}", finding);
            }
        }

        #[test]
        fn no_cookie_line_breaks_it(line in "\\PC{0,60}") {
            if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
                let mut headers = HeaderMap::new();
                headers.append(COOKIE, value.clone());
                headers.append(SET_COOKIE, value);
                let names = names();
                let _ = presented_sessions(&headers, &names).count() + issued_sessions(&headers, &names).count();
            }
        }
    }
}
