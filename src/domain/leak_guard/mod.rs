//! The leak guard: no cache may hand one person's page to another.
//!
//! Everything is personal unless the operator declared its route public *and* nothing in the exchange says otherwise.
//! Personal answers leave with exactly one cache policy; personal requests reach the portal without validators;
//! public requests reach it without anything that names the visitor. Pure functions over header maps.
//!
//! In the order of an exchange: what the operator [declared], the [request], the answer (here), its [policy].

pub mod declared;
mod extension;
mod orders;
pub mod policy;
pub mod request;
mod sharing;

use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LOCATION, ETAG, EXPIRES, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, response};

pub use self::declared::{Armour, BackRule, CacheBehind, EtagRule, Mode, Personal, RangeRule, Route, Rules, Scan};
pub use self::extension::is_the_same_for_everybody;
pub use self::orders::{Command, PortalSays, take_orders};
pub use self::policy::{guard_trailers, personal_head, personal_headers, put_on_armour};
pub use self::request::{Exchange, clean_request, is_plain_public_path, may_be_public};

use self::policy::{allow_back, is_policy, is_replaced, put_personal_headers};
use self::sharing::{forbids_sharing, reason_against_sharing, version_of};
use super::hit_header::{HitHeader, hit_in, seconds_of_age};

/// How an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With the one personal cache policy.
    Personal,
    /// As the portal meant it, without `Set-Cookie`.
    Public,
    /// As a personal answer, although its route is public.
    Downgraded(Reason),
    /// Not at all (502): nobody asked for this.
    Fault(Reason),
}

/// Why an answer is not what its route promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A 304 to a request without condition: some cache behind us answered.
    UnaskedNotModified,
    /// A 206 to a request without range.
    UnaskedPartial,
    /// A public answer with another status than 200, or 304 where it was asked for.
    Status,
    /// More than one `Cache-Control` line, or one with a directive that nobody knows.
    UnclearPolicy,
    /// `private` or `no-store`.
    Private,
    /// `Vary` on something that names the visitor.
    Vary,
    /// `Content-Type` does not fit the extension: `/account/x.css` is no style sheet.
    ContentType,
    /// The portal names a person.
    Identity,
    /// A cache behind us says that it had this answer.
    Hit,
    /// A personal request carried another answer's validator.
    Condition,
    /// A personal request asked for a part.
    Range,
    /// The portal would have let shared caches keep a personal answer.
    CachePolicy,
    /// A cookie rode on the answer to an anonymous request.
    SetCookie,
    /// Public text names a person.
    FiscalCode,
    /// Public text that was to be searched for people could not be read whole.
    Unsearched,
}

impl Reason {
    /// The reason as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnaskedNotModified => "unasked_not_modified",
            Reason::UnaskedPartial => "unasked_partial",
            Reason::Status => "status",
            Reason::UnclearPolicy => "unclear_policy",
            Reason::Private => "private",
            Reason::Vary => "vary",
            Reason::ContentType => "content_type",
            Reason::Identity => "identity",
            Reason::Hit => "hit",
            Reason::Condition => "condition",
            Reason::Range => "range",
            Reason::CachePolicy => "cache_policy",
            Reason::SetCookie => "set_cookie",
            Reason::FiscalCode => "fiscal_code",
            Reason::Unsearched => "unsearched",
        }
    }
}

/// The guard's judgement of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// How it leaves.
    pub verdict: Verdict,
    /// Cookies that a public answer wanted to set: always taken away, since the request was anonymous and the cookie
    /// would replace the visitor's own.
    pub public_cookies: usize,
    /// `Set-Cookie` lines of the answer as it came.
    pub cookies: usize,
    /// What was changed in the exchange besides, or would have been.
    pub changed: Changed,
    /// The header by which a cache behind us says that it answered, on a personal route; `Age` only when there is no
    /// other.
    pub hit: Option<HitHeader>,
    /// The answer's age in seconds, as it says.
    pub age: u64,
    /// The version, in short, of a personal answer that looks like a file that is the same for everybody: a hit on it is
    /// no wonder.
    pub file: Option<u64>,
    /// What the portal says to us alone, taken out of the answer. To be obeyed on room routes only.
    pub says: PortalSays,
}

impl Guarded {
    /// Whether there is nothing in the answer that detectors look at. So is nearly every answer.
    pub fn says_nothing_of_caches_and_sessions(&self) -> bool {
        self.hit.is_none() && self.cookies == 0 && self.says.identity.is_none()
    }
}

/// What was changed in a personal exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// A validator was taken from the request.
    pub condition: bool,
    /// A range was taken from the request.
    pub range: bool,
    /// The answer's own policy would have let shared caches keep it.
    pub cache_policy: bool,
}

impl Changed {
    /// The same as reasons.
    pub fn reasons(self) -> impl Iterator<Item = Reason> {
        let all = [
            (self.condition, Reason::Condition),
            (self.range, Reason::Range),
            (self.cache_policy, Reason::CachePolicy),
        ];
        all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, reason)| reason)
    }
}

/// What an answer's head says, read in one walk over its lines: looking for each name would cost a hash each.
#[derive(Debug, Default)]
struct Head {
    /// How a cache behind us says that it answered, apart from `Age`, which an answer that may be shared can have for
    /// other reasons.
    marker: Option<HitHeader>,
    /// Seconds.
    age: u64,
    /// Fields of cache policy, apart from those that ours replace. Nearly every answer has none.
    policy: Vec<HeaderName>,
    forbids_sharing: bool,
    names_a_person: bool,
    has_orders: bool,
    has_type: bool,
    offers_ranges: bool,
    cookies: usize,
}

impl Head {
    fn read(headers: &HeaderMap, ignored_markers: &[String]) -> Head {
        let mut head = Head::default();
        for (name, value) in headers {
            head.read_line(name, value, ignored_markers);
        }
        head
    }

    fn read_line(&mut self, name: &HeaderName, value: &HeaderValue, ignored_markers: &[String]) {
        let text = name.as_str();
        match text {
            "content-type" => self.has_type = true,
            "set-cookie" => self.cookies += 1,
            "accept-ranges" => self.offers_ranges = true,
            "cache-control" => self.forbids_sharing |= forbids_sharing(value),
            "waiting-room-identity" => self.names_a_person = true,
            _ => {}
        }
        self.has_orders |= text.starts_with("waiting-room-");
        // The lines of one name follow each other.
        if is_policy(text) && !is_replaced(text) && self.policy.last() != Some(name) {
            self.policy.push(name.clone());
        }
        if let Some(hit) = hit_in(text, value)
            && !ignored_markers.iter().any(|ignored| ignored == text)
        {
            match hit {
                HitHeader::Age => self.age = seconds_of_age(value),
                marker => self.marker = self.marker.or(Some(marker)),
            }
        }
    }
}

/// Judges an answer, takes out of it what the portal says to us alone and, unless the guard only observes, makes it what
/// the verdict says. An answer with a [`Verdict::Fault`] must not be delivered in [`Mode::Enforce`].
pub fn guard_response(parts: &mut response::Parts, exchange: &Exchange, rules: &Rules) -> Guarded {
    let head = Head::read(&parts.headers, &rules.ignored_markers);
    let verdict = judge(parts, exchange, &head);
    let mut guarded = Guarded {
        verdict,
        public_cookies: 0,
        cookies: head.cookies,
        changed: Changed::default(),
        hit: None,
        age: head.age,
        file: None,
        says: PortalSays::default(),
    };
    match exchange.route {
        Route::Public => guarded.public_cookies = head.cookies,
        Route::Personal(_) => {
            guarded.changed = exchange.changed(&head);
            guarded.hit = head.marker.or((head.age > 0).then_some(HitHeader::Age));
            guarded.file = is_a_shareable_file(parts, exchange, &head).then(|| version_of(&parts.headers));
        }
    }
    if head.has_orders {
        guarded.says = take_orders(&mut parts.headers);
    }
    if rules.mode == Mode::Enforce {
        enforce(&mut parts.headers, exchange, verdict, head, rules);
    }
    guarded
}

fn enforce(headers: &mut HeaderMap, exchange: &Exchange, verdict: Verdict, head: Head, rules: &Rules) {
    if exchange.route == Route::Public {
        headers.remove(SET_COOKIE);
    }
    if verdict == Verdict::Public {
        return give_lifetime(headers, rules.public_max_age);
    }
    match exchange.route {
        Route::Public => personal_headers(headers),
        Route::Personal(personal) => make_personal(headers, personal, &exchange.method, head),
    }
    if exchange.method == Method::POST {
        headers.remove(CONTENT_LOCATION);
    }
}

fn make_personal(headers: &mut HeaderMap, personal: Personal, method: &Method, head: Head) {
    let keeps = |name: &HeaderName| personal.etag == EtagRule::Kept && *name == ETAG;
    for name in head.policy.into_iter().filter(|name| !keeps(name)) {
        headers.remove(name);
    }
    put_personal_headers(headers, personal.armour);
    if personal.back == BackRule::Kept && method == Method::POST {
        allow_back(headers);
    }
    if personal.range == RangeRule::Removed && head.offers_ranges {
        headers.remove(ACCEPT_RANGES);
    }
}

/// A lifetime for public answers to which the portal gave none.
fn give_lifetime(headers: &mut HeaderMap, max_age: Option<u32>) {
    if let Some(seconds) = max_age
        && !headers.contains_key(CACHE_CONTROL)
        && !headers.contains_key(EXPIRES)
        && let Ok(policy) = HeaderValue::try_from(format!("public, max-age={seconds}"))
    {
        headers.insert(CACHE_CONTROL, policy);
    }
}

/// Makes a public answer personal after all, because of what its text says. Its body may still be on its way.
pub fn downgrade(headers: &mut HeaderMap, guarded: &mut Guarded, reason: Reason, mode: Mode) {
    guarded.verdict = Verdict::Downgraded(reason);
    if mode == Mode::Enforce {
        personal_headers(headers);
    }
}

fn judge(parts: &response::Parts, exchange: &Exchange, head: &Head) -> Verdict {
    match (parts.status, exchange.route) {
        (StatusCode::NOT_MODIFIED, _) if !exchange.may_be_not_modified() => Verdict::Fault(Reason::UnaskedNotModified),
        (StatusCode::PARTIAL_CONTENT, _) if !exchange.range_sent => Verdict::Fault(Reason::UnaskedPartial),
        (_, Route::Personal(_)) => Verdict::Personal,
        (status, Route::Public) => {
            let identity = head.names_a_person.then_some(Reason::Identity);
            let hit = head.marker.map(|_| Reason::Hit);
            let reason = || reason_against_sharing(status, &parts.headers, exchange.extension);
            identity.or(hit).or_else(reason).map_or(Verdict::Public, Verdict::Downgraded)
        }
    }
}

/// Whether an answer on a personal route could have been shared, had the operator listed the route: a file by its name,
/// of the type that the name promises, without a cookie and with nothing against sharing.
fn is_a_shareable_file(parts: &response::Parts, exchange: &Exchange, head: &Head) -> bool {
    exchange.asks_for_a_static_file()
        && head.has_type
        && head.cookies == 0
        && !head.names_a_person
        && reason_against_sharing(parts.status, &parts.headers, exchange.extension).is_none()
}

impl Exchange {
    fn changed(&self, head: &Head) -> Changed {
        Changed { condition: self.taken.condition, range: self.taken.range, cache_policy: !head.forbids_sharing }
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use proptest::prelude::*;

    use super::policy::personal_headers;
    use super::*;

    pub(super) const PERSONAL: Route = Route::Personal(Personal::STRICT);
    pub(super) const DOWNLOAD: Route = Route::Personal(Personal { range: RangeRule::Allowed, ..Personal::STRICT });
    pub(super) const STRICT: Rules = Rules::STRICT;

    pub(super) fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn answer(status: u16, lines: &[(&str, &str)]) -> response::Parts {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(status).unwrap();
        parts.headers = map(lines);
        parts
    }

    fn asked(route: Route, method: Method, path: &str, lines: &[(&str, &str)]) -> Exchange {
        clean_request(&mut map(lines), &method, path, route, &STRICT)
    }

    fn judged(exchange: &Exchange, status: u16, lines: &[(&str, &str)]) -> Verdict {
        guard_response(&mut answer(status, lines), exchange, &STRICT).verdict
    }

    #[test]
    fn observing_changes_nothing() {
        let observe = Rules { mode: Mode::Observe, ..STRICT };
        let lines = [("cookie", "a=1"), ("if-none-match", "\"1\""), ("range", "bytes=0-1")];
        for route in [Route::Public, PERSONAL] {
            let mut headers = map(&lines);
            let exchange = clean_request(&mut headers, &Method::GET, "/a", route, &observe);
            assert_eq!(headers, map(&lines));
            let mut parts = answer(200, &[("set-cookie", "a=1"), ("cache-control", "public")]);
            let before = parts.headers.clone();
            guard_response(&mut parts, &exchange, &observe);
            assert_eq!(parts.headers, before);
        }
    }

    #[test]
    fn personal_answers_leave_with_one_policy() {
        let mut parts = answer(
            200,
            &[
                ("cache-control", "public, max-age=600"),
                ("cache-control", "s-maxage=60"),
                ("etag", "\"1\""),
                ("last-modified", "x"),
                ("expires", "later"),
                ("surrogate-control", "max-age=60"),
                ("surrogate-key", "k"),
                ("akamai-cache-control", "max-age=60"),
                ("x-accel-expires", "600"),
                ("x-accel-redirect", "/secret"),
                ("x-cache", "HIT"),
                ("x-cache-lookup", "HIT"),
                ("cache-tag", "t"),
                ("edge-control", "!no-store"),
                ("age", "5"),
                ("warning", "110"),
                ("vary", "cookie"),
                ("accept-ranges", "bytes"),
                ("set-cookie", "JSESSIONID=1"),
                ("content-type", "text/html"),
            ],
        );
        let exchange = asked(PERSONAL, Method::GET, "/me", &[]);
        let guarded = guard_response(&mut parts, &exchange, &STRICT);
        assert_eq!(guarded.verdict, Verdict::Personal);
        assert_eq!(guarded.changed.reasons().collect::<Vec<_>>(), [Reason::CachePolicy]);
        assert_eq!(guarded.hit, Some(HitHeader::XCache));
        assert_eq!(guarded.file, None);
        let mut expected = map(&[("set-cookie", "JSESSIONID=1"), ("content-type", "text/html")]);
        personal_headers(&mut expected);
        assert_eq!(parts.headers, expected);
        assert_eq!(expected["cache-control"], "private, no-store, no-cache, must-revalidate, max-age=0");
        assert_eq!(expected.get_all("cache-control").iter().count(), 1);
        assert_eq!(expected["vary"], "*");
        assert_eq!(expected["age"], "0");
        assert_eq!(expected["expires"], "0");
        assert_eq!(expected["pragma"], "no-cache");
        assert_eq!(expected["surrogate-control"], "no-store");
        assert_eq!(expected["cdn-cache-control"], "no-store");
        assert_eq!(expected["x-accel-buffering"], "no");
    }

    #[test]
    fn what_nobody_asked_for_is_a_fault() {
        let personal = asked(PERSONAL, Method::GET, "/me", &[("if-none-match", "\"1\""), ("range", "bytes=0-1")]);
        assert_eq!(judged(&personal, 304, &[]), Verdict::Fault(Reason::UnaskedNotModified));
        assert_eq!(judged(&personal, 206, &[]), Verdict::Fault(Reason::UnaskedPartial));
        let download = asked(DOWNLOAD, Method::GET, "/video", &[("range", "bytes=0-1")]);
        assert_eq!(judged(&download, 206, &[]), Verdict::Personal);
        let write = asked(PERSONAL, Method::PUT, "/me", &[("if-none-match", "*")]);
        assert_eq!(judged(&write, 304, &[]), Verdict::Fault(Reason::UnaskedNotModified));
        let public = asked(Route::Public, Method::GET, "/s/a.css", &[]);
        assert_eq!(judged(&public, 304, &[]), Verdict::Fault(Reason::UnaskedNotModified));
        assert_eq!(judged(&public, 206, &[]), Verdict::Fault(Reason::UnaskedPartial));
        let asked_for = asked(Route::Public, Method::GET, "/s/a.css", &[("if-none-match", "\"1\"")]);
        assert_eq!(judged(&asked_for, 304, &[]), Verdict::Public);
    }

    #[test]
    fn static_files_are_told_from_pages_that_are_named_so() {
        let css = [("content-type", "text/css"), ("x-cache", "HIT")];
        let file = |path, lines: &[(&str, &str)]| {
            let exchange = asked(PERSONAL, Method::GET, path, &[]);
            let guarded = guard_response(&mut answer(200, lines), &exchange, &STRICT);
            (guarded.file.is_some(), guarded.hit.is_some())
        };
        assert_eq!(file("/app/style.css", &css), (true, true));
        assert_eq!(file("/app/style.css", &css[..1]), (true, false));
        for (path, line) in [
            ("/me/x.css", ("content-type", "text/html")),
            ("/me/x.css", ("set-cookie", "a=1")),
            ("/me/x.css", ("cache-control", "private")),
            ("/me/x.css", ("vary", "cookie")),
            ("/me/x.css", ("waiting-room-identity", "RSSMRA")),
            ("/me", ("x", "1")),
            ("/me.html", ("x", "1")),
            ("/me.pdf", ("x", "1")),
            ("/me.json", ("x", "1")),
        ] {
            assert_eq!(file(path, &[&css[..], &[line]].concat()), (false, true), "{path} {line:?}");
        }
    }

    #[test]
    fn ranges_are_offered_on_downloads_only() {
        for (route, offered) in [(PERSONAL, false), (DOWNLOAD, true)] {
            let mut parts = answer(200, &[("accept-ranges", "bytes")]);
            guard_response(&mut parts, &asked(route, Method::GET, "/v", &[]), &STRICT);
            assert_eq!(parts.headers.contains_key("accept-ranges"), offered);
        }
    }

    #[test]
    fn content_location_goes_from_answers_to_post() {
        for (method, kept) in [(Method::GET, true), (Method::POST, false)] {
            let mut parts = answer(200, &[("content-location", "/me/1")]);
            guard_response(&mut parts, &asked(PERSONAL, method, "/me", &[]), &STRICT);
            assert_eq!(parts.headers.contains_key("content-location"), kept);
        }
    }

    #[test]
    fn public_answers_stay_cacheable_without_their_cookies() {
        let exchange = asked(Route::Public, Method::GET, "/s/app.css", &[]);
        let lines =
            [("cache-control", "public, max-age=60, immutable"), ("etag", "\"1\""), ("content-type", "text/css")];
        let mut parts = answer(200, &lines);
        parts.headers.append("set-cookie", HeaderValue::from_static("SERVERID=1"));
        parts.headers.append("set-cookie", HeaderValue::from_static("JSESSIONID=1"));
        let guarded = guard_response(&mut parts, &exchange, &STRICT);
        assert_eq!((guarded.verdict, guarded.public_cookies), (Verdict::Public, 2));
        assert_eq!(parts.headers, map(&lines));
    }

    #[test]
    fn public_answers_that_look_personal_are_downgraded() {
        let exchange = asked(Route::Public, Method::GET, "/s/app.css", &[("range", "bytes=0-1")]);
        for (status, line, reason) in [
            (404, ("x", "1"), Reason::Status),
            (301, ("x", "1"), Reason::Status),
            (206, ("x", "1"), Reason::Status),
            (200, ("cache-control", "private"), Reason::Private),
            (200, ("cache-control", "No-Store"), Reason::Private),
            (200, ("cache-control", "private=\"set-cookie\""), Reason::Private),
            (200, ("cache-control", "no_store"), Reason::UnclearPolicy),
            (200, ("cache-control", "max-age"), Reason::UnclearPolicy),
            (200, ("cache-control", "max-age=x"), Reason::UnclearPolicy),
            (200, ("cache-control", "public max-age=1"), Reason::UnclearPolicy),
            (200, ("vary", "Accept-Encoding, Cookie"), Reason::Vary),
            (200, ("vary", "*"), Reason::Vary),
            (200, ("content-type", "text/html; charset=utf-8"), Reason::ContentType),
            (200, ("waiting-room-identity", "x"), Reason::Identity),
            (200, ("x-cache", "HIT from edge"), Reason::Hit),
            (200, ("cache-status", "edge; hit; ttl=5"), Reason::Hit),
        ] {
            let mut parts = answer(status, &[line]);
            let guarded = guard_response(&mut parts, &exchange, &STRICT);
            assert_eq!(guarded.verdict, Verdict::Downgraded(reason), "{line:?}");
            assert_eq!(parts.headers["cache-control"], "private, no-store, no-cache, must-revalidate, max-age=0");
        }
        let two = [("cache-control", "public"), ("cache-control", "max-age=1")];
        assert_eq!(judged(&exchange, 200, &two), Verdict::Downgraded(Reason::UnclearPolicy));
        let aged_hit = [("age", "7"), ("x-cache", "HIT")];
        assert_eq!(judged(&exchange, 200, &aged_hit), Verdict::Downgraded(Reason::Hit));
        let two_types = [("content-type", "text/css"), ("content-type", "text/html")];
        assert_eq!(judged(&exchange, 200, &two_types), Verdict::Downgraded(Reason::ContentType));
        assert_eq!(
            judged(&exchange, 200, &[("content-type", "text/html; x=è")]),
            Verdict::Downgraded(Reason::ContentType)
        );
        for line in [("x-cache", "MISS from hit-server"), ("vary", "Accept-Encoding, Origin"), ("server", "nginx")] {
            assert_eq!(judged(&exchange, 200, &[line]), Verdict::Public, "{line:?}");
        }
    }

    proptest! {
        /// Whatever the portal says, a personal answer leaves with one policy and nothing a cache could act upon.
        #[test]
        fn one_policy_whatever_the_portal_says(
            status in prop_oneof![Just(200u16), Just(301), Just(404), Just(410), Just(500)],
            lines in proptest::collection::vec((prop_oneof![
                Just("cache-control"), Just("expires"), Just("pragma"), Just("x-accel-expires"), Just("etag"),
                Just("fastly-cdn-cache-control"), Just("vary"), Just("x-cache-hits"), Just("age"), Just("server"),
            ], "[ -~]{0,20}"), 0..10),
        ) {
            let mut parts = answer(status, &[]);
            for (name, value) in &lines {
                parts.headers.append(*name, value.parse().unwrap());
            }
            let servers = parts.headers.get_all("server").iter().count();
            guard_response(&mut parts, &asked(PERSONAL, Method::GET, "/x", &[]), &STRICT);
            let mut expected = HeaderMap::new();
            personal_headers(&mut expected);
            prop_assert_eq!(parts.headers.get_all("server").iter().count(), servers);
            parts.headers.remove("server");
            prop_assert_eq!(parts.headers, expected);
        }
    }
}
