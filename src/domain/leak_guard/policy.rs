//! The one cache policy of personal answers: what goes, and what is put in its place.

use std::sync::LazyLock;

use http::header::{AGE, CACHE_CONTROL, EXPIRES, PRAGMA, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::declared::{Armour, Mode};
use super::orders::{is_for_us, take_orders};

static PERSONAL_POLICY: HeaderValue =
    HeaderValue::from_static("private, no-store, no-cache, must-revalidate, max-age=0");
/// For wizards that live on Back: no cache that was measured stores it, and the browser restores the page.
static RESTORABLE_POLICY: HeaderValue = HeaderValue::from_static("private, no-cache, max-age=0");
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
/// Lines for which the ready head's index has room: adding as many makes no new one.
const LINES: usize = 24;
static X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Gives an answer the one cache policy of personal answers, whatever it said before: every plain, targeted and vendor
/// field goes, and with them everything a cache could revalidate or replay. Our own pages use it too.
pub fn personal_headers(headers: &mut HeaderMap) {
    remove_all(headers, is_policy);
    put_personal_headers(headers, Armour::WHOLE);
}

/// A head with the one cache policy and nothing else, for an answer of ours. Copying one that is ready costs a fifth of
/// putting its fields in one by one.
pub fn personal_head() -> HeaderMap {
    static READY: LazyLock<HeaderMap> = LazyLock::new(|| {
        let mut head = HeaderMap::with_capacity(LINES);
        put_personal_headers(&mut head, Armour::WHOLE);
        head
    });
    READY.clone()
}

/// Puts the policy in the place of what has been taken away.
pub(super) fn put_personal_headers(headers: &mut HeaderMap, armour: Armour) {
    // So that the map grows once and not by and by.
    headers.reserve(TARGETED.len() + 6);
    headers.insert(CACHE_CONTROL, PERSONAL_POLICY.clone());
    headers.insert(PRAGMA, NO_CACHE.clone());
    headers.insert(EXPIRES, ZERO.clone());
    for name in &TARGETED {
        headers.insert(name, NO_STORE.clone());
    }
    put_on(headers, armour);
}

/// Puts the whole armour on a personal answer whose route is spared some of it: with what must not be kept by any cache.
pub fn put_on_armour(headers: &mut HeaderMap) {
    put_on(headers, Armour::WHOLE);
}

/// Armour against caches that were told to ignore Cache-Control: nginx, Traffic Server, HAProxy, in this order.
fn put_on(headers: &mut HeaderMap, armour: Armour) {
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

/// Lets the browser show the answer again on Back.
pub(super) fn allow_back(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, RESTORABLE_POLICY.clone());
}

/// Fields by which caches are told, or tell, what they keep.
pub(super) fn is_policy(name: &str) -> bool {
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

/// Whether [`put_personal_headers`] puts something of ours in its place on every route, so that it need not be taken out
/// first.
pub(super) fn is_replaced(name: &str) -> bool {
    matches!(
        name,
        "cache-control"
            | "pragma"
            | "expires"
            | "surrogate-control"
            | "cdn-cache-control"
            | "cloudflare-cdn-cache-control"
            | "vercel-cdn-cache-control"
            | "netlify-cdn-cache-control"
            | "edge-control"
    )
}

/// Takes out of an answer's trailers what would have been taken out of its head. What the portal says to us alone goes
/// in any mode.
pub fn guard_trailers(headers: &mut HeaderMap, mode: Mode) {
    match mode {
        Mode::Enforce => {
            remove_all(headers, |name| is_policy(name) || matches!(name, "set-cookie" | "vary") || is_for_us(name));
        }
        Mode::Observe => drop(take_orders(headers)),
    }
}

fn remove_all(headers: &mut HeaderMap, unfit: impl Fn(&str) -> bool) {
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| unfit(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn what_is_replaced_is_always_put() {
        let mut headers = HeaderMap::new();
        put_personal_headers(&mut headers, Armour { x_accel_buffering: false, vary: false, age: false });
        assert!(headers.keys().all(|name| is_replaced(name.as_str())));
        assert_eq!(headers.keys_len(), 9);
    }

    #[test]
    fn a_ready_head_is_the_policy() {
        let mut headers = HeaderMap::new();
        personal_headers(&mut headers);
        assert_eq!(personal_head(), headers);
    }

    #[test]
    fn trailers_set_no_policy() {
        let lines = [("etag", "\"1\""), ("cache-control", "public"), ("set-cookie", "a"), ("x-sum", "1")];
        let mut headers = map(&lines);
        guard_trailers(&mut headers, Mode::Enforce);
        assert_eq!(headers, map(&[("x-sum", "1")]));
    }

    #[test]
    fn observed_trailers_lose_what_is_for_us_alone() {
        let mut headers = map(&[("etag", "\"1\""), ("waiting-room-identity", "RSSMRA"), ("waiting-room-pass", "x")]);
        guard_trailers(&mut headers, Mode::Observe);
        assert_eq!(headers, map(&[("etag", "\"1\"")]));
    }
}
