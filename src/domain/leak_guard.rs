//! The leak guard: no cache may hand one person's page to another.
//!
//! Everything is personal unless the operator declared its route public *and* nothing in the exchange says otherwise.
//! Personal answers leave with exactly one cache policy; personal requests reach the portal without validators;
//! public requests reach it without anything that names the visitor. Pure functions over header maps.

use super::forwarding::names_a_person;
use super::hit_header::{HitHeader, hit_header, hit_marker};
use http::header::{
    ACCEPT_RANGES, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, ETAG,
    EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, PRAGMA, RANGE, SET_COOKIE, TRANSFER_ENCODING,
    UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, response};

static PERSONAL_POLICY: HeaderValue =
    HeaderValue::from_static("private, no-store, no-cache, must-revalidate, max-age=0");
/// For wizards that live on Back: no cache that was measured stores it, and the browser restores the page.
static RESTORABLE_POLICY: HeaderValue = HeaderValue::from_static("private, no-cache, max-age=0");
static FRESH_PLEASE: HeaderValue = HeaderValue::from_static("no-store, no-cache");
static NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
static ZERO: HeaderValue = HeaderValue::from_static("0");
static NO: HeaderValue = HeaderValue::from_static("no");
static STAR: HeaderValue = HeaderValue::from_static("*");

/// Targeted twins of `Cache-Control` (RFC 9213 and its vendors' forerunners): each beats the plain field somewhere.
static TARGETED: [HeaderName; 6] = [
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("cloudflare-cdn-cache-control"),
    HeaderName::from_static("vercel-cdn-cache-control"),
    HeaderName::from_static("netlify-cdn-cache-control"),
    HeaderName::from_static("edge-control"),
];
static X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
static COMMAND: HeaderName = HeaderName::from_static("waiting-room-command");
static IDENTITY: HeaderName = HeaderName::from_static("waiting-room-identity");

/// What the operator declared about the target of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The same for everybody. Only for requests for which [`may_be_public`] holds.
    Public,
    /// Somebody's own: everything that was not declared public.
    Personal(Personal),
}

/// What the operator declared about a personal target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Personal {
    /// Whether parts may be asked for.
    pub range: RangeRule,
    /// Whether the answer's version is told.
    pub etag: EtagRule,
    /// Whether Back may show the answer to a POST.
    pub back: BackRule,
    /// What answers wear against caches that ignore the policy.
    pub armour: Armour,
}

impl Personal {
    /// Nothing declared: every rule in its strictest form.
    pub const STRICT: Personal =
        Personal { range: RangeRule::Removed, etag: EtagRule::Removed, back: BackRule::NotKept, armour: Armour::WHOLE };
}

/// Whether a personal answer keeps its `ETag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtagRule {
    /// It does (`etag_paths`): clients send it back in `If-Match` to guard their writes.
    Kept,
    /// It does not.
    Removed,
}

/// Whether a browser may keep the answer to a POST for its Back button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackRule {
    /// It may (`back_paths`).
    Kept,
    /// It may not.
    NotKept,
}

/// Headers that stop caches which were told to ignore `Cache-Control`; each may be taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armour {
    /// `X-Accel-Buffering: no`, against nginx, which then neither buffers nor stores.
    pub x_accel_buffering: bool,
    /// `Vary: *`, against Traffic Server.
    pub vary: bool,
    /// `Age: 0`, against HAProxy.
    pub age: bool,
}

impl Armour {
    /// All of it.
    pub const WHOLE: Armour = Armour { x_accel_buffering: true, vary: true, age: true };
}

/// What holds for every exchange, whatever its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether the guard acts.
    pub mode: Mode,
    /// Balancer cookies that public requests may carry.
    pub keep_cookies: Vec<String>,
    /// Whether a cache between us and the portal is meant to answer personal requests.
    pub cache_behind: CacheBehind,
    /// The lifetime in seconds that public answers without one of their own get.
    pub public_max_age: Option<u32>,
    /// Header names, in lower case, by which this portal says nothing about caches behind us.
    pub ignored_markers: Vec<String>,
    /// What public text is searched for.
    pub scan: Scan,
}

impl Rules {
    /// The rules of an empty configuration.
    pub const STRICT: Rules = Rules {
        mode: Mode::Enforce,
        keep_cookies: Vec::new(),
        cache_behind: CacheBehind::Distrusted,
        public_max_age: None,
        ignored_markers: Vec::new(),
        scan: Scan::Nothing,
    };
}

/// What public text is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Nothing.
    Nothing,
    /// Italian fiscal codes.
    FiscalCodes,
}

/// What a cache between us and the portal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheBehind {
    /// Nobody put one there on purpose: personal requests ask for a fresh answer.
    Distrusted,
    /// The owner put it there and answers for it.
    Trusted,
}

/// Whether `Range` reaches the portal on a personal route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRule {
    /// It does (`downloads`): some players show no video without.
    Allowed,
    /// It does not, and the answer does not offer it.
    Removed,
}

/// Whether the guard acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It acts.
    Enforce,
    /// It judges and changes nothing.
    Observe,
}

/// What the guard remembers of a request until its answer is there.
#[derive(Clone, Debug)]
pub struct Exchange {
    route: Route,
    method: Method,
    extension: Option<Extension>,
    range_sent: bool,
    condition_sent: bool,
    /// What was taken from a personal request, or would have been.
    taken: Taken,
}

/// What a personal request must not carry and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    condition: bool,
    range: bool,
}

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
    /// What was changed in the exchange besides, or would have been.
    pub changed: Changed,
    /// The header by which a cache behind us says that it answered, on a personal route.
    pub hit: Option<HitHeader>,
    /// Whether a personal answer looks like a file that is the same for everybody.
    pub could_be_public: bool,
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

/// What the portal says to us alone, taken out of every answer. To be obeyed on room routes only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalSays {
    /// `Waiting-Room-Command`, when it is one we know.
    pub command: Option<Command>,
    /// `Waiting-Room-Identity`: the signed-in person. Never logged.
    pub identity: Option<HeaderValue>,
}

/// A command of the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `end-session`: the visitor is done, the seat is free.
    EndSession,
}

/// Whether a raw, undecoded path consists of plain segments `/[A-Za-z0-9._-]+` only, without dot segments and without
/// a dot at a segment's end. Caches and portals read everything else differently.
pub fn is_plain_public_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    path.strip_prefix('/').is_some_and(|segments| {
        segments.split('/').all(|segment| !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(plain))
    })
}

/// Whether a request may be public at all, wherever it goes: `GET` or `HEAD`, a plain path, no body, no upgrade. The
/// operator's list decides the rest.
pub fn may_be_public(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let bodiless = !headers.contains_key(TRANSFER_ENCODING)
        && headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0");
    matches!(*method, Method::GET | Method::HEAD)
        && bodiless
        && !headers.contains_key(UPGRADE)
        && is_plain_public_path(path)
}

/// Prepares a request for the portal: a public one loses what names the visitor (except the balancer cookies in
/// `keep_cookies`), a personal one loses what a cache behind us or another visitor's validator could answer.
///
/// Conditions on methods other than `GET` and `HEAD`, and `If-Match` and `If-Unmodified-Since` on all of them, guard
/// writes and pass untouched.
pub fn clean_request(headers: &mut HeaderMap, method: &Method, path: &str, route: Route, rules: &Rules) -> Exchange {
    let taken = match route {
        Route::Public => Taken::default(),
        Route::Personal(personal) => unfit_for_personal(headers, method, personal),
    };
    if rules.mode == Mode::Enforce {
        match route {
            Route::Public => make_anonymous(headers, &rules.keep_cookies),
            Route::Personal(personal) => ask_for_fresh(headers, method, personal.range, rules.cache_behind),
        }
    }
    Exchange {
        route,
        method: method.clone(),
        extension: extension(path),
        range_sent: headers.contains_key(RANGE),
        condition_sent: headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE),
        taken,
    }
}

fn unfit_for_personal(headers: &HeaderMap, method: &Method, personal: Personal) -> Taken {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Taken::default();
    }
    Taken {
        condition: [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE].iter().any(|name| headers.contains_key(name)),
        range: personal.range == RangeRule::Removed && headers.contains_key(RANGE),
    }
}

fn make_anonymous(headers: &mut HeaderMap, keep_cookies: &[String]) {
    headers.remove(AUTHORIZATION);
    let who: Vec<HeaderName> = headers.keys().filter(|name| names_a_person(name.as_str())).cloned().collect();
    for name in who {
        headers.remove(name);
    }
    let kept = if keep_cookies.is_empty() { None } else { kept_cookies(headers, keep_cookies) };
    match kept {
        Some(kept) => drop(headers.insert(COOKIE, kept)),
        None => drop(headers.remove(COOKIE)),
    }
}

fn kept_cookies(headers: &HeaderMap, keep: &[String]) -> Option<HeaderValue> {
    let is_kept = |pair: &&str| pair.split('=').next().is_some_and(|name| keep.iter().any(|kept| kept == name));
    let pairs: Vec<&str> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .map(str::trim)
        .filter(is_kept)
        .collect();
    if pairs.is_empty() { None } else { HeaderValue::try_from(pairs.join("; ")).ok() }
}

fn ask_for_fresh(headers: &mut HeaderMap, method: &Method, range: RangeRule, cache_behind: CacheBehind) {
    if cache_behind == CacheBehind::Distrusted {
        headers.insert(CACHE_CONTROL, FRESH_PLEASE.clone());
        headers.insert(PRAGMA, NO_CACHE.clone());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return;
    }
    headers.remove(IF_NONE_MATCH);
    headers.remove(IF_MODIFIED_SINCE);
    // A range whose condition is gone would be glued to another version of the file.
    let conditional_range = headers.remove(IF_RANGE).is_some();
    if range == RangeRule::Removed || conditional_range {
        headers.remove(RANGE);
    }
}

/// Makes a public answer personal after all, because of what its text says. Its body may still be on its way.
pub fn downgrade(headers: &mut HeaderMap, guarded: &mut Guarded, reason: Reason, mode: Mode) {
    guarded.verdict = Verdict::Downgraded(reason);
    if mode == Mode::Enforce {
        personal_headers(headers);
    }
}

/// Judges an answer and, unless it only observes, makes it what the verdict says. An answer with a
/// [`Verdict::Fault`] must not be delivered in [`Mode::Enforce`].
pub fn guard_response(parts: &mut response::Parts, exchange: &Exchange, rules: &Rules) -> Guarded {
    let verdict = judge(parts, exchange, rules);
    let public_cookies = match exchange.route {
        Route::Public => parts.headers.get_all(SET_COOKIE).iter().count(),
        Route::Personal(_) => 0,
    };
    let hit = match exchange.route {
        Route::Public => None,
        Route::Personal(_) => hit_header(&parts.headers, &rules.ignored_markers),
    };
    let changed = exchange.changed(&parts.headers);
    let could_be_public = exchange.is_file() && looks_like_a_public_file(parts, exchange, rules);
    if rules.mode == Mode::Enforce {
        enforce(parts, exchange, verdict, rules);
    }
    Guarded { verdict, public_cookies, changed, hit, could_be_public }
}

fn enforce(parts: &mut response::Parts, exchange: &Exchange, verdict: Verdict, rules: &Rules) {
    let headers = &mut parts.headers;
    if exchange.route == Route::Public {
        headers.remove(SET_COOKIE);
    }
    if verdict == Verdict::Public {
        return give_lifetime(headers, rules.public_max_age);
    }
    match exchange.route {
        Route::Public => personal_headers(headers),
        Route::Personal(personal) => make_personal(headers, personal, &exchange.method),
    }
    if exchange.method == Method::POST {
        headers.remove(CONTENT_LOCATION);
    }
}

fn make_personal(headers: &mut HeaderMap, personal: Personal, method: &Method) {
    let etag = if personal.etag == EtagRule::Kept { headers.remove(ETAG) } else { None };
    put_personal_headers(headers, personal.armour);
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    if personal.back == BackRule::Kept && method == Method::POST {
        headers.insert(CACHE_CONTROL, RESTORABLE_POLICY.clone());
    }
    if personal.range == RangeRule::Removed {
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

fn judge(parts: &response::Parts, exchange: &Exchange, rules: &Rules) -> Verdict {
    match parts.status {
        StatusCode::NOT_MODIFIED if !exchange.may_be_not_modified() => Verdict::Fault(Reason::UnaskedNotModified),
        StatusCode::PARTIAL_CONTENT if !exchange.range_sent => Verdict::Fault(Reason::UnaskedPartial),
        status => match exchange.route {
            Route::Personal(_) => Verdict::Personal,
            Route::Public => match reason_against_sharing(status, &parts.headers, exchange, rules) {
                None => Verdict::Public,
                Some(reason) => Verdict::Downgraded(reason),
            },
        },
    }
}

/// Whether an answer on a personal route could have been shared, had the operator listed the route: a file by its name,
/// of the type that the name promises, without a cookie and with nothing against sharing.
fn looks_like_a_public_file(parts: &response::Parts, exchange: &Exchange, rules: &Rules) -> bool {
    parts.headers.contains_key(CONTENT_TYPE)
        && !parts.headers.contains_key(SET_COOKIE)
        && reason_against_sharing(parts.status, &parts.headers, exchange, rules).is_none()
}

impl Exchange {
    /// Whether a personal request asks for what by its name is a file and not a page.
    fn is_file(&self) -> bool {
        let is_page =
            matches!(self.extension, None | Some(Extension::Page | Extension::Json | Extension::Pdf | Extension::Xml));
        matches!(self.route, Route::Personal(_)) && matches!(self.method, Method::GET | Method::HEAD) && !is_page
    }

    /// Whether the operator declared the target public.
    pub fn route(&self) -> Route {
        self.route
    }

    fn changed(&self, answer: &HeaderMap) -> Changed {
        let shared = matches!(self.route, Route::Personal(_)) && !says_private(answer);
        Changed { condition: self.taken.condition, range: self.taken.range, cache_policy: shared }
    }

    /// A 304 answers `GET` and `HEAD` only (RFC 9110 section 13.2.2).
    fn may_be_not_modified(&self) -> bool {
        self.condition_sent && matches!(self.method, Method::GET | Method::HEAD)
    }
}

fn reason_against_sharing(
    status: StatusCode,
    headers: &HeaderMap,
    exchange: &Exchange,
    rules: &Rules,
) -> Option<Reason> {
    if !matches!(status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
        return Some(Reason::Status);
    }
    if headers.contains_key(&IDENTITY) {
        return Some(Reason::Identity);
    }
    if hit_marker(headers, &rules.ignored_markers).is_some() {
        return Some(Reason::Hit);
    }
    if !varies_harmlessly(headers) {
        return Some(Reason::Vary);
    }
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    if let (Some(extension), Some(media_type)) = (exchange.extension, media_types.next()) {
        let fits = media_type.to_str().is_ok_and(|media_type| extension.fits(media_type));
        if !fits || media_types.next().is_some() {
            return Some(Reason::ContentType);
        }
    }
    reason_in_policy(headers)
}

/// RFC 9111 section 5.2.2, read as strictly as it is written: a mis-spelt `private` is no permission to share.
fn reason_in_policy(headers: &HeaderMap) -> Option<Reason> {
    let mut lines = headers.get_all(CACHE_CONTROL).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return Some(Reason::UnclearPolicy);
    }
    let Ok(line) = line.to_str() else { return Some(Reason::UnclearPolicy) };
    line.split(',').find_map(|directive| reason_in_directive(directive.trim()))
}

fn reason_in_directive(directive: &str) -> Option<Reason> {
    const SECONDS: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
    const ALONE: [&str; 7] =
        ["public", "no-cache", "must-revalidate", "proxy-revalidate", "no-transform", "immutable", "must-understand"];
    let is_one_of = |names: &[&str], name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let (name, argument) = match directive.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (directive, None),
    };
    if is_one_of(&["private", "no-store"], name.trim()) {
        return Some(Reason::Private);
    }
    let clear = match argument {
        None => is_one_of(&ALONE, name),
        Some(seconds) => is_one_of(&SECONDS, name) && seconds.trim_matches('"').parse::<u64>().is_ok(),
    };
    if clear { None } else { Some(Reason::UnclearPolicy) }
}

fn varies_harmlessly(headers: &HeaderMap) -> bool {
    const HARMLESS: [&str; 3] = ["accept-encoding", "accept", "origin"];
    headers.get_all(VARY).iter().all(|line| {
        line.to_str().is_ok_and(|line| {
            line.split(',').all(|name| HARMLESS.iter().any(|known| known.eq_ignore_ascii_case(name.trim())))
        })
    })
}

/// Whether the portal itself forbids shared caches, as the plainest of them read it.
fn says_private(headers: &HeaderMap) -> bool {
    let forbids = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("private") || name.eq_ignore_ascii_case("no-store")
    };
    headers.get_all(CACHE_CONTROL).iter().any(|line| line.to_str().is_ok_and(|line| line.split(',').any(forbids)))
}

/// Gives an answer the one cache policy of personal answers, whatever it said before: every plain, targeted and vendor
/// field goes, and with them everything a cache could revalidate or replay. Our own pages use it too.
pub fn personal_headers(headers: &mut HeaderMap) {
    put_personal_headers(headers, Armour::WHOLE);
}

fn put_personal_headers(headers: &mut HeaderMap, armour: Armour) {
    remove_policy(headers);
    // So that the map grows once and not by and by.
    headers.reserve(TARGETED.len() + 6);
    headers.insert(CACHE_CONTROL, PERSONAL_POLICY.clone());
    headers.insert(PRAGMA, NO_CACHE.clone());
    headers.insert(EXPIRES, ZERO.clone());
    for name in &TARGETED {
        headers.insert(name, NO_STORE.clone());
    }
    // Armour against caches that were told to ignore Cache-Control: nginx, Traffic Server, HAProxy, in this order.
    if armour.x_accel_buffering {
        headers.insert(&X_ACCEL_BUFFERING, NO.clone());
    }
    if armour.vary {
        headers.insert(VARY, STAR.clone());
    }
    if armour.age {
        headers.insert(AGE, ZERO.clone());
    }
}

fn remove_policy(headers: &mut HeaderMap) {
    headers.remove(ETAG);
    headers.remove(LAST_MODIFIED);
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| is_policy(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Fields by which caches are told, or tell, what they keep.
fn is_policy(name: &str) -> bool {
    matches!(
        name,
        "cache-control"
            | "pragma"
            | "expires"
            | "age"
            | "warning"
            | "etag"
            | "last-modified"
            | "surrogate-control"
            | "surrogate-key"
            | "cache-tag"
            | "edge-cache-tag"
            | "edge-control"
    ) || name.ends_with("-cache-control")
        || name.starts_with("x-accel-")
        || name.starts_with("x-cache")
}

/// Takes out of an answer's trailers what would have been taken out of its head.
pub fn guard_trailers(headers: &mut HeaderMap) {
    let unfit = |name: &str| is_policy(name) || matches!(name, "set-cookie" | "vary") || is_for_us(name);
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| unfit(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Takes out of an answer what the portal says to us alone, and everything else of ours that it has no business to say.
pub fn take_orders(headers: &mut HeaderMap) -> PortalSays {
    if !headers.keys().any(|name| is_for_us(name.as_str())) {
        return PortalSays::default();
    }
    let says = PortalSays {
        command: headers.get(&COMMAND).and_then(|value| match value.as_bytes() {
            b"end-session" => Some(Command::EndSession),
            _ => None,
        }),
        identity: headers.get(&IDENTITY).cloned(),
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| is_for_us(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
    says
}

fn is_for_us(name: &str) -> bool {
    name.starts_with("waiting-room-")
}

/// What a path's extension promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    Style,
    Script,
    Json,
    Image,
    Font,
    Page,
    Text,
    Pdf,
    Xml,
    Media,
    Binary,
}

fn extension(path: &str) -> Option<Extension> {
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "css" => Extension::Style,
        "js" | "mjs" | "cjs" => Extension::Script,
        "json" | "map" | "webmanifest" => Extension::Json,
        "png" | "jpg" | "jpeg" | "gif" | "svg" | "webp" | "avif" | "ico" | "bmp" => Extension::Image,
        "woff" | "woff2" | "ttf" | "otf" | "eot" => Extension::Font,
        "html" | "htm" | "xhtml" => Extension::Page,
        "txt" => Extension::Text,
        "pdf" => Extension::Pdf,
        "xml" => Extension::Xml,
        "mp4" | "webm" | "mp3" | "ogg" | "wav" | "m4a" => Extension::Media,
        "wasm" | "zip" | "gz" => Extension::Binary,
        _ => return None,
    })
}

impl Extension {
    fn fits(self, media_type: &str) -> bool {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/').unwrap_or((&essence, ""));
        match self {
            Extension::Style => essence == "text/css",
            Extension::Script => subtype.ends_with("javascript") || subtype.ends_with("ecmascript"),
            Extension::Json => subtype.ends_with("json") || essence == "text/plain" || subtype == "octet-stream",
            Extension::Image => kind == "image",
            Extension::Font => kind == "font" || subtype.contains("font") || subtype == "octet-stream",
            Extension::Page => matches!(subtype, "html" | "xhtml+xml"),
            Extension::Text => essence == "text/plain",
            Extension::Pdf => subtype == "pdf",
            Extension::Xml => subtype.ends_with("xml") && subtype != "xhtml+xml",
            Extension::Media => matches!(kind, "video" | "audio") || subtype == "ogg",
            Extension::Binary => kind == "application" && !subtype.ends_with("json") && subtype != "xhtml+xml",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use proptest::prelude::*;

    const PERSONAL: Route = Route::Personal(Personal::STRICT);
    const DOWNLOAD: Route = Route::Personal(Personal { range: RangeRule::Allowed, ..Personal::STRICT });
    const STRICT: Rules = Rules::STRICT;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
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
    fn plain_paths() {
        for path in ["/a", "/static/app.css", "/favicon.ico", "/a-b_c/d.1.js"] {
            assert!(is_plain_public_path(path), "{path}");
        }
        for path in [
            "", "a", "/", "/a/", "//a", "/a//b", "/a/../b", "/a/./b", "/a.", "/a./b", "/..", "/a%2e", "/a;x", "/a\\b",
            "/a b", "/\u{e0}", "/a?b", "/a~",
        ] {
            assert!(!is_plain_public_path(path), "{path}");
        }
    }

    #[test]
    fn only_bare_get_and_head_may_be_public() {
        let bare = HeaderMap::new();
        assert!(may_be_public(&Method::GET, "/s/a.css", &bare));
        assert!(may_be_public(&Method::HEAD, "/s/a.css", &map(&[("content-length", "0")])));
        assert!(!may_be_public(&Method::POST, "/s/a.css", &bare));
        assert!(!may_be_public(&Method::OPTIONS, "/s/a.css", &bare));
        for line in [("content-length", "5"), ("transfer-encoding", "chunked"), ("upgrade", "websocket")] {
            assert!(!may_be_public(&Method::GET, "/s/a.css", &map(&[line])), "{line:?}");
        }
    }

    #[test]
    fn public_requests_are_anonymous() {
        let mut headers = map(&[
            ("cookie", "JSESSIONID=1; ROUTEID=.n1"),
            ("cookie", "b=2"),
            ("authorization", "Basic x"),
            ("if-none-match", "\"1\""),
            ("x-remote-user", "rossi"),
            ("client-cert", ":x:"),
            ("x-forwarded-port", "443"),
        ]);
        let keep = Rules { keep_cookies: vec!["ROUTEID".to_owned()], ..STRICT };
        clean_request(&mut headers, &Method::GET, "/s/a.css", Route::Public, &keep);
        assert_eq!(headers["cookie"], "ROUTEID=.n1");
        assert_eq!(headers.get_all("cookie").iter().count(), 1);
        for name in ["authorization", "x-remote-user", "client-cert"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert!(headers.contains_key("if-none-match") && headers.contains_key("x-forwarded-port"));
        clean_request(&mut headers, &Method::GET, "/s/a.css", Route::Public, &STRICT);
        assert!(!headers.contains_key("cookie"));
    }

    #[test]
    fn personal_requests_carry_no_validators() {
        let conditions = [
            ("if-none-match", "\"1\""),
            ("if-modified-since", "x"),
            ("if-range", "\"1\""),
            ("range", "bytes=0-1"),
            ("if-match", "\"1\""),
            ("if-unmodified-since", "x"),
        ];
        let left = |method: Method, route| {
            let mut headers = map(&conditions);
            clean_request(&mut headers, &method, "/", route, &STRICT);
            assert_eq!(headers["cache-control"], "no-store, no-cache");
            assert_eq!(headers["pragma"], "no-cache");
            headers.len() - 2
        };
        assert_eq!(left(Method::GET, PERSONAL), 2);
        assert_eq!(left(Method::HEAD, PERSONAL), 2);
        assert_eq!(left(Method::PUT, PERSONAL), 6);
        // The range went with its condition.
        assert_eq!(left(Method::GET, DOWNLOAD), 2);
        let mut headers = map(&[("range", "bytes=0-1")]);
        clean_request(&mut headers, &Method::GET, "/", DOWNLOAD, &STRICT);
        assert_eq!(headers["range"], "bytes=0-1");
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
        assert_eq!(guarded.hit, Some(HitHeader::Age));
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
            assert_eq!(parts.headers["cache-control"], PERSONAL_POLICY.to_str().unwrap());
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

    #[test]
    fn extensions_promise_types() {
        for (path, media_type, fits) in [
            ("/a.js", "application/javascript", true),
            ("/a.js", "text/html", false),
            ("/a.svg", "image/svg+xml", true),
            ("/a.woff2", "font/woff2", true),
            ("/a.png", "application/json", false),
            ("/a.json", "application/problem+json", true),
            ("/a.pdf", "text/html", false),
        ] {
            assert_eq!(extension(path).unwrap().fits(media_type), fits, "{path} {media_type}");
        }
        assert_eq!(extension("/a.b/c"), None);
        assert_eq!(extension("/a.unknown"), None);
    }

    #[test]
    fn orders_are_taken_out_of_every_answer() {
        let mut headers = map(&[
            ("waiting-room-command", "end-session"),
            ("waiting-room-identity", "RSSMRA"),
            ("waiting-room-pass", "forged"),
            ("server", "x"),
        ]);
        let says = take_orders(&mut headers);
        assert_eq!(says.command, Some(Command::EndSession));
        assert_eq!(says.identity, Some(HeaderValue::from_static("RSSMRA")));
        assert_eq!(headers, map(&[("server", "x")]));
        assert_eq!(take_orders(&mut map(&[("waiting-room-command", "dance")])).command, None);
    }

    #[test]
    fn trailers_set_no_policy() {
        let mut headers = map(&[("etag", "\"1\""), ("cache-control", "public"), ("set-cookie", "a"), ("x-sum", "1")]);
        guard_trailers(&mut headers);
        assert_eq!(headers, map(&[("x-sum", "1")]));
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
