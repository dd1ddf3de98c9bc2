//! The request's side: what is taken out of a request before it goes to the portal.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, PRAGMA, RANGE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::declared::{CacheBehind, Mode, Personal, RangeRule, Route, Rules};
use super::extension::{Extension, extension};
use crate::domain::forwarding::names_a_person_in_any_spelling;

static FRESH_PLEASE: HeaderValue = HeaderValue::from_static("no-store, no-cache");
static NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// What the guard remembers of a request until its answer is there.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub(super) route: Route,
    pub(super) method: Method,
    pub(super) extension: Option<Extension>,
    pub(super) range_sent: bool,
    pub(super) condition_sent: bool,
    /// What was taken from a personal request, or would have been.
    pub(super) taken: Taken,
}

/// What a personal request must not carry and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) condition: bool,
    pub(super) range: bool,
}

impl Exchange {
    /// Whether the operator declared the target public.
    pub fn route(&self) -> Route {
        self.route
    }

    /// Whether what the request asks for may be text, as far as its name says.
    pub fn may_ask_for_text(&self) -> bool {
        self.extension.is_none_or(Extension::may_be_text)
    }

    /// A 304 answers `GET` and `HEAD` only (RFC 9110 section 13.2.2).
    pub(super) fn may_be_not_modified(&self) -> bool {
        self.condition_sent && is_read(&self.method)
    }

    /// Whether the request asks for what by its name is a file and neither a page nor anybody's data.
    pub(super) fn asks_for_a_static_file(&self) -> bool {
        self.extension.is_some_and(Extension::is_of_a_static_file) && is_read(&self.method)
    }
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

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Prepares a request for the portal: a public one loses what names the visitor (except the balancer cookies in
/// `keep_cookies`), a personal one loses what a cache behind us or another visitor's validator could answer.
///
/// Conditions on methods other than `GET` and `HEAD`, and `If-Match` and `If-Unmodified-Since` on all of them, guard
/// writes and pass untouched.
pub fn clean_request(headers: &mut HeaderMap, method: &Method, path: &str, route: Route, rules: &Rules) -> Exchange {
    let taken = match (route, rules.mode) {
        (Route::Public, Mode::Observe) => Taken::default(),
        (Route::Public, Mode::Enforce) => {
            make_anonymous(headers, &rules.keep_cookies);
            Taken::default()
        }
        (Route::Personal(personal), Mode::Observe) => unfit_for_personal(headers, method, personal),
        (Route::Personal(personal), Mode::Enforce) => ask_for_fresh(headers, method, personal, rules.cache_behind),
    };
    let asks = Asks::of(headers);
    Exchange {
        route,
        method: method.clone(),
        extension: extension(path),
        range_sent: asks.range,
        condition_sent: asks.version || asks.date,
        taken,
    }
}

fn unfit_for_personal(headers: &HeaderMap, method: &Method, personal: Personal) -> Taken {
    if !is_read(method) {
        return Taken::default();
    }
    let asks = Asks::of(headers);
    Taken {
        condition: asks.version || asks.date || asks.of_range,
        range: personal.range == RangeRule::Removed && asks.range,
    }
}

fn make_anonymous(headers: &mut HeaderMap, keep_cookies: &[String]) {
    headers.remove(AUTHORIZATION);
    let who: Vec<HeaderName> =
        headers.keys().filter(|name| names_a_person_in_any_spelling(name.as_str())).cloned().collect();
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

fn ask_for_fresh(headers: &mut HeaderMap, method: &Method, personal: Personal, behind: CacheBehind) -> Taken {
    if behind == CacheBehind::Distrusted {
        headers.insert(CACHE_CONTROL, FRESH_PLEASE.clone());
        headers.insert(PRAGMA, NO_CACHE.clone());
    }
    if !is_read(method) {
        return Taken::default();
    }
    let asks = Asks::of(headers);
    for (is_there, name) in [(asks.version, IF_NONE_MATCH), (asks.date, IF_MODIFIED_SINCE), (asks.of_range, IF_RANGE)] {
        if is_there {
            headers.remove(name);
        }
    }
    let is_unfit = personal.range == RangeRule::Removed;
    // A range whose condition is gone would be glued to another version of the file.
    if asks.range && (is_unfit || asks.of_range) {
        headers.remove(RANGE);
    }
    Taken { condition: asks.version || asks.date || asks.of_range, range: is_unfit && asks.range }
}

/// Conditions and ranges in a request. Nearly every one has none: one walk is cheaper than looking for each of them.
#[derive(Clone, Copy, Debug, Default)]
struct Asks {
    version: bool,
    date: bool,
    of_range: bool,
    range: bool,
}

impl Asks {
    fn of(headers: &HeaderMap) -> Asks {
        let mut asks = Asks::default();
        for name in headers.keys() {
            match name.as_str() {
                "if-none-match" => asks.version = true,
                "if-modified-since" => asks.date = true,
                "if-range" => asks.of_range = true,
                "range" => asks.range = true,
                _ => {}
            }
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DOWNLOAD, PERSONAL, STRICT, map};
    use super::*;

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
            ("x-forwarded-user", "rossi"),
            ("x-goog-authenticated-user-email", "rossi"),
            ("iv-user", "rossi"),
            ("sm_user", "rossi"),
            ("client-cert", ":x:"),
            ("x-forwarded-port", "443"),
        ]);
        let keep = Rules { keep_cookies: vec!["ROUTEID".to_owned()], ..STRICT };
        clean_request(&mut headers, &Method::GET, "/s/a.css", Route::Public, &keep);
        assert_eq!(headers["cookie"], "ROUTEID=.n1");
        assert_eq!(headers.get_all("cookie").iter().count(), 1);
        for name in [
            "authorization",
            "x-remote-user",
            "client-cert",
            "x-forwarded-user",
            "x-goog-authenticated-user-email",
            "iv-user",
            "sm_user",
        ] {
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
}
