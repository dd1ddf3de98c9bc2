//! How a portal (or a cache behind us) that hands out somebody else's page gives itself away. What was seen of one
//! session is a small record of keyed hashes; each sighting is judged against it and changes it.
//!
//! The care is for what looks alike and is normal: people log out and in as somebody else, browsers lose our cookies,
//! one person has two devices, old portals keep a session's id through a login.

use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::client::ClientPrefix;
use super::time::Mono;

/// So long after a login (or whatever else could be one) an answer may name somebody else.
pub const LATELY: Duration = Duration::from_secs(60);

/// Visitors remembered per session.
const PRESENTERS: usize = 3;

/// Sessions of one identity that are told apart; so many at once are worth a report.
pub const MANY_SESSIONS: usize = 10;

/// Cookies looked at in one head at most: the rest of a longer list is somebody's attempt to keep us busy.
const MOST_COOKIES: usize = 200;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorKey(pub [u8; 16]);

/// The keyed hash of a session cookie's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(pub [u8; 16]);

/// The keyed hash of the person whom the portal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityKey(pub [u8; 16]);

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            _ => self.network == other.network,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionRecord {
    issued: Option<Seen>,
    presented: [Option<Seen>; PRESENTERS],
    bound: Option<Bound>,
    /// When somebody may have logged in or out with this session; gone with the first answer that names a person.
    may_change_since: Option<Mono>,
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

impl SessionRecord {
    /// A request presents the session.
    pub fn present(&mut self, who: Who, arrival: Arrival, effect: Effect, now: Mono) -> Option<Finding> {
        let finding = self.stranger(who, arrival, now);
        if effect == Effect::MayLogIn {
            self.may_change_since = Some(now);
        }
        self.remember_presenter(who, now);
        finding
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
        let before = self.issued.replace(Seen { who, first: now, at: now });
        let before = before.filter(|before| !before.who.may_be(who))?;
        // What was issued first counts on; the second was a mistake.
        self.issued = Some(before);
        Some(Finding { other_visitor: before.who.visitor, ..Finding::of(Detector::SessionReissued, Certainty::Sure) })
    }

    /// An answer within the session names a person. `asked_at` is when its request left.
    pub fn name(&mut self, identity: IdentityKey, who: Who, asked_at: Mono, now: Mono) -> Option<Finding> {
        let login_open = self.may_change_since.take().is_some_and(|since| now.since(since) < LATELY);
        let Some(bound) = self.bound else {
            self.bound = Some(Bound { identity, since: now, before: None });
            return None;
        };
        if bound.identity == identity {
            return None;
        }
        if bound.before == Some(identity) && asked_at < bound.since {
            // Asked before the change, answered after it: another tab of the same browser.
            self.may_change_since = login_open.then_some(now);
            return None;
        }
        let finding = |detector, certainty| {
            Some(Finding { other_identity: Some(bound.identity), ..Finding::of(detector, certainty) })
        };
        if !self.knows(who, asked_at) {
            return finding(Detector::SessionIdentities, Certainty::Sure);
        }
        if login_open {
            self.bound = Some(Bound { identity, since: now, before: Some(bound.identity) });
            return finding(Detector::SessionIdentities, Certainty::Likely);
        }
        finding(Detector::IdentityMismatch, Certainty::Sure)
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

/// The session cookies of these names that a request carries.
pub fn presented_sessions<'a>(headers: &'a HeaderMap, names: &'a [String]) -> impl Iterator<Item = SessionCookie<'a>> {
    let lines = headers.get_all(COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).take(MOST_COOKIES);
    pairs.filter_map(|pair| session_cookie(pair, names))
}

/// The session cookies of these names that an answer sets. Deletions issue nothing.
pub fn issued_sessions<'a>(headers: &'a HeaderMap, names: &'a [String]) -> impl Iterator<Item = SessionCookie<'a>> {
    let lines = headers.get_all(SET_COOKIE).into_iter().take(MOST_COOKIES);
    lines.filter(|line| !is_deletion(line)).filter_map(|line| {
        let pair = line.as_bytes().split(|byte| *byte == b';').next()?;
        session_cookie(pair, names)
    })
}

fn session_cookie<'a>(pair: &'a [u8], names: &'a [String]) -> Option<SessionCookie<'a>> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = pair.split_at_checked(at)?;
    let name = name.trim_ascii();
    let name = names.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
    let value = value.strip_prefix(b"=")?.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let id = if name.eq_ignore_ascii_case("jsessionid") { without_node(value) } else { value };
    let is_none = id.is_empty() || id.eq_ignore_ascii_case(b"deleted") || id.eq_ignore_ascii_case(b"delete");
    (!is_none).then_some(SessionCookie { name, id })
}

/// Tomcat appends `.node`, WebLogic `!node`; the id before it is the session.
fn without_node(value: &[u8]) -> &[u8] {
    value.split(|byte| matches!(byte, b'.' | b'!')).next().unwrap_or(value)
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

    fn found(finding: Option<Finding>) -> Option<(Detector, Certainty)> {
        finding.map(|finding| (finding.detector, finding.certainty))
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
        assert_eq!(record.name(ANNA, who(1), at(1), at(1)), None);
        read(&mut record, 1, 5);
        assert_eq!(record.name(ANNA, who(1), at(5), at(5)), None);
        read(&mut record, 1, 6);
        let finding = record.name(BRUNO, who(1), at(6), at(6)).unwrap();
        assert_eq!((finding.detector, finding.certainty), (Detector::IdentityMismatch, Certainty::Sure));
        assert_eq!(finding.other_identity, Some(ANNA));
        assert_eq!(record.name(ANNA, who(1), at(7), at(7)), None, "the session stays hers");
    }

    #[test]
    fn a_login_as_somebody_else_within_an_old_portals_session() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        record.name(ANNA, who(1), at(1), at(1));
        record.present(who(1), Arrival::Inside, Effect::MayLogIn, at(10));
        read(&mut record, 1, 11);
        let finding = record.name(BRUNO, who(1), at(11), at(12));
        assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Likely)));
        assert_eq!(record.name(ANNA, who(1), at(9), at(13)), None, "a late answer to another tab");
        assert_eq!(record.name(BRUNO, who(1), at(14), at(14)), None, "the session is his now");
        assert_eq!(
            found(record.name(ANNA, who(1), at(15), at(15))),
            Some((Detector::IdentityMismatch, Certainty::Sure)),
            "one login changes the person once"
        );
    }

    #[test]
    fn a_stranger_in_somebodys_session_is_blocked_even_after_a_login() {
        let mut record = SessionRecord::default();
        record.issue(who(1), at(0));
        read(&mut record, 1, 1);
        record.name(ANNA, who(1), at(1), at(1));
        record.present(who(2), Arrival::Inside, Effect::MayLogIn, at(2));
        let finding = record.name(BRUNO, who(2), at(2), at(2));
        assert_eq!(found(finding), Some((Detector::SessionIdentities, Certainty::Sure)));
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
        let sent = headers("cookie", &["a=1; JSESSIONID=ABC.node1; ROUTEID=.1", "phpsessid=\"x.y\"; XSRF-TOKEN=t"]);
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
        /// else without a login.
        #[test]
        fn one_browser_is_never_blocked(steps in proptest::collection::vec((0..4u8, 0..40u64), 0..60)) {
            let mut record = SessionRecord::default();
            let (mut now, mut person) = (0, ANNA);
            record.issue(who(1), at(0));
            for (step, wait) in steps {
                now += wait;
                let finding = match step {
                    0 => read(&mut record, 1, now),
                    1 => {
                        person = if person == ANNA { BRUNO } else { ANNA };
                        let finding = record.present(who(1), Arrival::Inside, Effect::MayLogIn, at(now));
                        finding.or(record.name(person, who(1), at(now), at(now)))
                    }
                    2 => record.name(person, who(1), at(now), at(now)),
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
