//! How a cache says that it answered by itself. Tokens are read where each header has them, never substrings:
//! `MISS from hit-server` is no hit.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header by which a cache between us and the portal gave itself away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HitHeader {
    /// `Age` above zero (RFC 9111 section 5.1).
    Age,
    /// `Cache-Status` with `hit` (RFC 9211 section 2.1).
    CacheStatus,
    /// `X-Cache`, as Squid, Apache, Fastly, CloudFront and Akamai write it.
    XCache,
    /// `X-Cache-Status`, `X-Proxy-Cache` and the other names people give nginx's `$upstream_cache_status`.
    XCacheStatus,
    /// `CF-Cache-Status` of Cloudflare.
    CfCacheStatus,
    /// `X-Varnish` with two ids: the second is the request that fetched the object.
    XVarnish,
    /// `X-Cache-Hits` above zero.
    XCacheHits,
}

impl HitHeader {
    /// The header's name, or that of its best-known spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            HitHeader::Age => "age",
            HitHeader::CacheStatus => "cache-status",
            HitHeader::XCache => "x-cache",
            HitHeader::XCacheStatus => "x-cache-status",
            HitHeader::CfCacheStatus => "cf-cache-status",
            HitHeader::XVarnish => "x-varnish",
            HitHeader::XCacheHits => "x-cache-hits",
        }
    }
}

/// How a header line says that a cache answered, if it does; `name` is in lower case.
pub fn hit_in(name: &str, value: &HeaderValue) -> Option<HitHeader> {
    let (header, says): (HitHeader, fn(&str) -> bool) = match name {
        "age" => (HitHeader::Age, is_positive),
        "cache-status" => (HitHeader::CacheStatus, says_hit_in_cache_status),
        "x-cache" => (HitHeader::XCache, begins_with_hit),
        "x-cache-status"
        | "x-proxy-cache"
        | "x-proxy-cache-status"
        | "x-nginx-cache"
        | "x-fastcgi-cache"
        | "x-varnish-cache" => (HitHeader::XCacheStatus, begins_with_hit),
        "cf-cache-status" => (HitHeader::CfCacheStatus, begins_with_hit),
        "x-varnish" => (HitHeader::XVarnish, has_two_ids),
        "x-cache-hits" => (HitHeader::XCacheHits, counts_hits),
        _ => return None,
    };
    value.to_str().is_ok_and(says).then_some(header)
}

/// What an answer says about caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nothing.
    Nothing,
    /// That one answered.
    Hit(HitHeader),
    /// That it is no older than the request was under way: that can be said of what was made for it, too.
    Unclear,
}

/// What the head of an answer that was under way for so long says about caches, apart from headers whose names (in lower
/// case) are ignored.
pub fn says_of_caches(headers: &HeaderMap, ignored: &[String], under_way: Duration) -> Says {
    let is_read = |name: &HeaderName| !ignored.iter().any(|ignored| ignored == name.as_str());
    let found = headers.iter().filter(|(name, _)| is_read(name));
    let found = found.filter_map(|(name, value)| Some((hit_in(name.as_str(), value)?, value)));
    found.fold(Says::Nothing, |said, (hit, value)| match (said, hit) {
        (Says::Hit(marker), _) if marker != HitHeader::Age => said,
        (Says::Hit(_), HitHeader::Age) => said,
        (_, HitHeader::Age) if may_be_fresh(seconds_of_age(value), under_way) => Says::Unclear,
        _ => Says::Hit(hit),
    })
}

/// Seconds, as `Age` has them; more than anybody can count when there are too many digits.
pub fn seconds_of_age(value: &HeaderValue) -> u64 {
    let text = value.to_str().unwrap_or_default();
    let digits = text.split(',').next().unwrap_or_default().trim();
    if is_positive(digits) { digits.parse().unwrap_or(u64::MAX) } else { 0 }
}

/// Whether an answer of this age may have been made for a request that was under way for so long: what takes a second to
/// come may be a second old (RFC 9111 section 4.2.3), and caches round.
pub fn may_be_fresh(age: u64, under_way: Duration) -> bool {
    age <= (under_way + Duration::from_millis(500)).as_secs()
}

fn is_positive(text: &str) -> bool {
    let digits = text.split(',').next().unwrap_or_default().trim();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0')
}

/// `HIT`, `Hit from cloudfront`, `TCP_MEM_HIT from a1.example`, `MISS, HIT`: the first word of each member.
fn begins_with_hit(text: &str) -> bool {
    const HITS: [&str; 6] = ["hit", "stale", "updating", "revalidated", "refreshhit", "hit-stale"];
    text.split(',').any(|member| {
        let word = member.trim().split([' ', ';', ':']).next().unwrap_or_default();
        let is_tcp_hit = word.len() > 4
            && word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("tcp_"))
            && ends_in_hit(word);
        is_tcp_hit || HITS.iter().any(|hit| hit.eq_ignore_ascii_case(word))
    })
}

fn ends_in_hit(word: &str) -> bool {
    word.len() >= 4 && word.get(word.len() - 4..).is_some_and(|end| end.eq_ignore_ascii_case("_hit"))
}

/// A list of caches, each with parameters; `hit` is true, `hit=?0` is not.
fn says_hit_in_cache_status(text: &str) -> bool {
    text.split(',').any(|cache| {
        cache.split(';').skip(1).any(|parameter| {
            let parameter = parameter.trim();
            parameter.eq_ignore_ascii_case("hit") || parameter.eq_ignore_ascii_case("hit=?1")
        })
    })
}

fn has_two_ids(text: &str) -> bool {
    let ids: Vec<&str> = text.split_ascii_whitespace().collect();
    ids.len() == 2 && ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
}

fn counts_hits(text: &str) -> bool {
    text.split(',').any(is_positive)
}

#[cfg(test)]
mod tests {
    use http::header::AGE;
    use proptest::prelude::*;

    use super::*;

    fn found(name: &str, value: &str) -> Option<HitHeader> {
        let mut headers = HeaderMap::new();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        hit_in_all(&headers, &[])
    }

    fn hit_in_all(headers: &HeaderMap, ignored: &[String]) -> Option<HitHeader> {
        match says_of_caches(headers, ignored, Duration::ZERO) {
            Says::Hit(hit) => Some(hit),
            Says::Nothing | Says::Unclear => None,
        }
    }

    #[test]
    fn what_took_its_time_says_nothing_clear_by_its_age() {
        let mut headers = HeaderMap::new();
        headers.insert(AGE, HeaderValue::from_static("2"));
        let after = |headers: &HeaderMap, seconds| says_of_caches(headers, &[], Duration::from_secs(seconds));
        assert_eq!((after(&headers, 0), after(&headers, 2)), (Says::Hit(HitHeader::Age), Says::Unclear));
        headers.insert("x-cache", HeaderValue::from_static("HIT"));
        assert_eq!(after(&headers, 2), Says::Hit(HitHeader::XCache));
    }

    #[test]
    fn hits_are_recognised() {
        for (name, value) in [
            ("age", "1"),
            ("age", "0005"),
            ("x-cache", "HIT"),
            ("x-cache", "Hit from cloudfront"),
            ("x-cache", "RefreshHit from cloudfront"),
            ("x-cache", "HIT from squid.example"),
            ("x-cache", "TCP_MEM_HIT from a1-2-3-4.deploy.akamaitechnologies.com (AkamaiGHost)"),
            ("x-cache", "MISS, HIT"),
            ("x-cache-status", "STALE"),
            ("x-proxy-cache", "UPDATING"),
            ("cf-cache-status", "REVALIDATED"),
            ("cache-status", "ExampleCache; hit; ttl=30"),
            ("cache-status", "Origin; fwd=miss, Edge; hit=?1"),
            ("x-varnish", "32770 3"),
            ("x-cache-hits", "0, 2"),
        ] {
            assert!(found(name, value).is_some(), "{name}: {value}");
        }
    }

    #[test]
    fn what_is_no_hit_is_none() {
        for (name, value) in [
            ("age", "0"),
            ("age", "00"),
            ("age", "-1"),
            ("age", "soon"),
            ("age", ""),
            ("x-cache", "MISS from hit-server"),
            ("x-cache", "MISS from hit"),
            ("x-cache", "Miss from cloudfront"),
            ("x-cache", "TCP_MISS from hit.example"),
            ("x-cache-lookup", "HIT from squid:3128"),
            ("x-cache-status", "EXPIRED"),
            ("x-cache-status", "BYPASS"),
            ("cf-cache-status", "DYNAMIC"),
            ("cache-status", "hit; fwd=uri-miss"),
            ("cache-status", "Edge; fwd=stale; hit=?0"),
            ("x-varnish", "32770"),
            ("x-cache-hits", "0"),
            ("server", "hit"),
        ] {
            assert_eq!(found(name, value), None, "{name}: {value}");
        }
    }

    #[test]
    fn what_took_a_second_may_be_a_second_old() {
        let age = |text: &'static str| seconds_of_age(&HeaderValue::from_static(text));
        assert_eq!((age("7"), age("0005, 3"), age("soon"), age("99999999999999999999999")), (7, 5, 0, u64::MAX));
        let after = |age, millis| may_be_fresh(age, Duration::from_millis(millis));
        assert!(!after(1, 0) && !after(1, 499) && after(1, 500) && after(1, 1499) && !after(2, 1499) && after(2, 1500));
        assert!(!after(u64::MAX, 60_000));
    }

    #[test]
    fn ignored_headers_say_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(AGE, HeaderValue::from_static("7"));
        assert_eq!(hit_in_all(&headers, &["age".to_owned()]), None);
        headers.insert("x-cache", HeaderValue::from_static("HIT"));
        assert_eq!(hit_in_all(&headers, &["age".to_owned()]), Some(HitHeader::XCache));
    }

    proptest! {
        #[test]
        fn nothing_a_portal_says_breaks_it(name in "(age|x-cache|cache-status|x-varnish)", value in "\\PC{0,40}") {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let _ = hit_in_all(&headers, &[]);
        }
    }
}
