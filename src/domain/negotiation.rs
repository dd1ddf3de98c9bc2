//! What kind of client asks, and from where: a page, a script or app, or a part of a page.
//!
//! Browsers say it in fetch metadata (W3C Fetch Metadata Request Headers). For those that do not, `Accept` must do.

use http::header::{ACCEPT, ACCEPT_LANGUAGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, ORIGIN};
use http::{Method, Uri};

use super::forwarding::names_websocket;
use super::paths::host_of;

static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where browsers say, or said, that they fetch ahead, and how.
static FETCHES_AHEAD: [(HeaderName, &str); 4] = [
    (HeaderName::from_static("sec-purpose"), "prefetch"),
    (HeaderName::from_static("purpose"), "prefetch"),
    (HeaderName::from_static("x-moz"), "prefetch"),
    (HeaderName::from_static("x-purpose"), "preview"),
];

/// What will become of the answer, and so what those who must wait get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A document or frame: the waiting page.
    Page,
    /// A script or an app: JSON.
    Script,
    /// An image, style sheet, or another part of a page: nothing but a status.
    SubResource,
}

/// Tells for whom the answer is. Whoever asks for a WebSocket has no use for a page, and must not get in by one:
/// browsers say that it is part of a page, and others are taken for the same.
pub fn audience(headers: &HeaderMap) -> Audience {
    if names_websocket(headers) {
        return Audience::SubResource;
    }
    match text(headers, &SEC_FETCH_DEST) {
        Some("document" | "iframe" | "frame") => Audience::Page,
        Some("empty") => Audience::Script,
        Some(_) => Audience::SubResource,
        None if text(headers, &SEC_FETCH_MODE) == Some("navigate") => Audience::Page,
        None => audience_by_accept(headers),
    }
}

/// HTML that is wanted no less than JSON makes a page. A client that would rather have pictures, styles or the like than
/// anything is a part of a page; everybody else gets JSON, because apps ask for all sorts of types.
fn audience_by_accept(headers: &HeaderMap) -> Audience {
    let mut wanted = Wanted::default();
    for line in headers.get_all(ACCEPT) {
        line.to_str().unwrap_or_default().split(',').for_each(|range| wanted.note(range));
    }
    if wanted.html > 0 && wanted.html >= wanted.json {
        Audience::Page
    } else if wanted.part > wanted.json && wanted.part >= wanted.anything {
        Audience::SubResource
    } else {
        Audience::Script
    }
}

/// The highest quality with which each sort of answer is wanted, in thousandths.
#[derive(Default)]
struct Wanted {
    html: u16,
    json: u16,
    part: u16,
    anything: u16,
}

impl Wanted {
    fn note(&mut self, range: &str) {
        let (media, quality) = weighted(range);
        let media = media.to_ascii_lowercase();
        let sort = match media.as_str() {
            "text/html" | "application/xhtml+xml" | "text/*" => &mut self.html,
            "*/*" => &mut self.anything,
            "text/css" | "text/javascript" | "application/javascript" => &mut self.part,
            _ if media.ends_with("/json") || media.ends_with("+json") => &mut self.json,
            _ if ["image/", "font/", "audio/", "video/"].iter().any(|part| media.starts_with(part)) => &mut self.part,
            _ => return,
        };
        *sort = (*sort).max(quality);
    }
}

/// Takes an element with its weight apart (RFC 9110 section 12.4.2): what is wanted, and how much, in thousandths.
fn weighted(element: &str) -> (&str, u16) {
    let mut parts = element.split(';').map(str::trim);
    let what = parts.next().unwrap_or_default();
    let weight = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    (what, weight.map_or(1000, |(_, value)| thousandths(value.trim())))
}

/// Reads `0`, `1`, `0.5`, `0.375`. What is no weight weighs nothing.
fn thousandths(value: &str) -> u16 {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if digits => 1000,
        "0" if digits => format!("{decimals:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a browser says from where it fetches. Apps do not; some (Node.js) say how they fetch, as browsers do besides.
pub fn has_fetch_metadata(headers: &HeaderMap) -> bool {
    headers.contains_key(&SEC_FETCH_SITE)
}

/// Whether the browser only fetches ahead what nobody has asked for yet. Nobody may enter by it.
pub fn is_prefetch(headers: &HeaderMap) -> bool {
    FETCHES_AHEAD
        .iter()
        .any(|(name, sign)| text(headers, name).is_some_and(|value| value.to_ascii_lowercase().contains(sign)))
}

/// Whether a browser asks before a cross-origin request (Fetch standard, "CORS-preflight request").
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && headers.contains_key(ORIGIN)
}

/// From where a request was made, as far as the browser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// By our own page, or by a site the operator listed.
    SameOrigin,
    /// By somebody else's page.
    CrossOrigin,
    /// It does not say: an old browser, or no browser.
    Unsaid,
}

/// Tells from where a state-changing request was made.
///
/// `host` is the authority the request was sent to (`Host` or `:authority`); `allowed` are origins the operator listed,
/// such as `https://app.example`. Browsers cannot be made to lie about `Sec-Fetch-Site` and `Origin`; where the first
/// says that the request came from elsewhere, only a listed origin helps.
pub fn provenance(headers: &HeaderMap, host: &str, allowed: &[String]) -> Provenance {
    let origin = text(headers, &ORIGIN);
    let is_allowed = origin.is_some_and(|origin| allowed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)));
    match (text(headers, &SEC_FETCH_SITE), origin) {
        _ if is_allowed => Provenance::SameOrigin,
        (Some("same-origin"), _) => Provenance::SameOrigin,
        (Some("cross-site" | "same-site"), _) => Provenance::CrossOrigin,
        (_, Some(origin)) if is_origin_of(origin, host) => Provenance::SameOrigin,
        (_, Some(_)) => Provenance::CrossOrigin,
        (_, None) if headers.contains_key(ORIGIN) => Provenance::CrossOrigin,
        (_, None) => Provenance::Unsaid,
    }
}

/// Whether host and port of an origin (`https://portal.example`) are those of `host`, the origin's scheme giving either
/// its port when it has none.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let default = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (ours, theirs) = (host_of(host), host_of(authority.as_str()));
    ours.eq_ignore_ascii_case(theirs) && port_of(host, ours, default) == port_of(authority.as_str(), theirs, default)
}

fn port_of<'a>(authority: &'a str, host: &str, default: &'a str) -> &'a str {
    let port = authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':'));
    port.filter(|port| !port.is_empty()).unwrap_or(default)
}

/// Chooses the language of an answer (RFC 4647 section 3.4, lookup): the available one that is wanted most; `otherwise`
/// when none is. `available` are primary tags in lower case, such as `it`.
pub fn language<'a>(headers: &HeaderMap, available: &[&'a str], otherwise: &'a str) -> &'a str {
    let mut best = (otherwise, 0);
    for line in headers.get_all(ACCEPT_LANGUAGE) {
        for range in line.to_str().unwrap_or_default().split(',') {
            let (tag, quality) = weighted(range);
            if let Some(found) = looked_up(tag, available, otherwise).filter(|_| quality > best.1) {
                best = (found, quality);
            }
        }
    }
    best.0
}

fn looked_up<'a>(tag: &str, available: &[&'a str], otherwise: &'a str) -> Option<&'a str> {
    if tag == "*" {
        return Some(otherwise);
    }
    let matching = |wanted: &str| available.iter().find(|language| language.eq_ignore_ascii_case(wanted)).copied();
    matching(tag).or_else(|| matching(tag.split('-').next()?))
}

/// A header's value, when there is exactly one and it is text.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).into_iter();
    let value = lines.next()?.to_str().ok()?.trim();
    lines.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn by_accept(accept: &str) -> Audience {
        audience(&headers(&[("accept", accept)]))
    }

    #[test]
    fn fetch_metadata_comes_first() {
        for (destination, expected) in [
            ("document", Audience::Page),
            ("iframe", Audience::Page),
            ("frame", Audience::Page),
            ("empty", Audience::Script),
            ("image", Audience::SubResource),
            ("script", Audience::SubResource),
            ("style", Audience::SubResource),
            ("websocket", Audience::SubResource),
            ("something-new", Audience::SubResource),
        ] {
            let said = headers(&[("sec-fetch-dest", destination), ("accept", "text/html")]);
            assert_eq!(audience(&said), expected, "{destination}");
        }
        assert_eq!(audience(&headers(&[("sec-fetch-mode", "navigate"), ("accept", "*/*")])), Audience::Page);
    }

    #[test]
    fn without_fetch_metadata_accept_must_do() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Audience::Page),
            ("TEXT/HTML", Audience::Page),
            ("text/html, application/json", Audience::Page),
            ("application/json;q=0.5, text/html", Audience::Page),
            ("application/json, text/html;q=0.9", Audience::Script),
            ("text/html;q=0", Audience::Script),
            ("application/json", Audience::Script),
            ("application/problem+json", Audience::Script),
            ("application/json, text/plain, */*", Audience::Script),
            ("application/json, text/javascript, */*; q=0.01", Audience::Script),
            ("*/*", Audience::Script),
            ("", Audience::Script),
            ("application/xml", Audience::Script),
            ("text/event-stream", Audience::Script),
            ("image/webp,image/apng,image/*,*/*;q=0.8", Audience::SubResource),
            ("image/webp,*/*", Audience::SubResource),
            ("text/css,*/*;q=0.1", Audience::SubResource),
            ("audio/*;q=0.9,video/*;q=0.8", Audience::SubResource),
            ("image/png;q=0.1, */*", Audience::Script),
        ] {
            assert_eq!(by_accept(accept), expected, "{accept}");
        }
        assert_eq!(audience(&HeaderMap::new()), Audience::Script);
        let two_lines = headers(&[("accept", "application/json;q=0.1"), ("accept", "text/html")]);
        assert_eq!(audience(&two_lines), Audience::Page);
    }

    #[test]
    fn a_websocket_is_part_of_a_page_whatever_else_it_says() {
        for upgrade in ["websocket", "WebSocket", "h2c, websocket; x=1"] {
            for (name, value) in [("accept", "text/html"), ("accept", "*/*"), ("sec-fetch-dest", "document")] {
                let said = headers(&[("upgrade", upgrade), ("connection", "Upgrade"), (name, value)]);
                assert_eq!(audience(&said), Audience::SubResource, "{upgrade}, {name}: {value}");
            }
        }
        assert_eq!(audience(&headers(&[("upgrade", "h2c"), ("accept", "text/html")])), Audience::Page);
    }

    #[test]
    fn weights() {
        for (value, expected) in [
            ("1", 1000),
            ("1.000", 1000),
            ("0", 0),
            ("0.5", 500),
            ("0.05", 50),
            ("0.375", 375),
            ("0.", 0),
            ("1.", 1000),
        ] {
            assert_eq!(thousandths(value), expected, "{value}");
        }
        for garbage in ["", "-1", "2", "0.1234", "0.x", "NaN", ".5", "1e3"] {
            assert_eq!(thousandths(garbage), 0, "{garbage}");
        }
        assert_eq!(weighted(" it-IT ; level=1 ; Q = 0.7 "), ("it-IT", 700));
    }

    #[test]
    fn prefetches() {
        for (name, value) in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("sec-purpose", "Prefetch;anonymous-client-ip"),
            ("purpose", "prefetch"),
            ("x-moz", "prefetch"),
            ("x-purpose", "preview"),
        ] {
            assert!(is_prefetch(&headers(&[(name, value)])), "{name}: {value}");
        }
        assert!(!is_prefetch(&headers(&[("sec-fetch-dest", "document"), ("purpose", "payment")])));
    }

    #[test]
    fn preflights() {
        let asked = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
        assert!(is_preflight(&Method::OPTIONS, &headers(&asked)));
        assert!(!is_preflight(&Method::POST, &headers(&asked)));
        assert!(!is_preflight(&Method::OPTIONS, &headers(&asked[..1])));
        assert!(!is_preflight(&Method::OPTIONS, &headers(&asked[1..])));
    }

    fn from(site: Option<&str>, origin: Option<&str>, host: &str) -> Provenance {
        let site = site.map(|site| ("sec-fetch-site", site));
        let origin = origin.map(|origin| ("origin", origin));
        let lines: Vec<_> = site.into_iter().chain(origin).collect();
        provenance(&headers(&lines), host, &["https://app.example".to_owned()])
    }

    #[test]
    fn fetch_metadata_says_where_a_request_is_from() {
        let host = "portal.example";
        assert_eq!(from(Some("same-origin"), None, host), Provenance::SameOrigin);
        assert_eq!(from(Some("same-origin"), Some("null"), host), Provenance::SameOrigin);
        for site in ["cross-site", "same-site"] {
            assert_eq!(from(Some(site), None, host), Provenance::CrossOrigin);
            assert_eq!(from(Some(site), Some("https://evil.example"), host), Provenance::CrossOrigin);
            assert_eq!(from(Some(site), Some("http://portal.example"), host), Provenance::CrossOrigin);
            assert_eq!(from(Some(site), Some("https://app.example"), host), Provenance::SameOrigin);
        }
        assert_eq!(from(Some("none"), None, host), Provenance::Unsaid);
        assert_eq!(from(Some("none"), Some("https://evil.example"), host), Provenance::CrossOrigin);
    }

    #[test]
    fn origin_and_host_are_compared_with_their_ports() {
        for (origin, host) in [
            ("https://portal.example", "portal.example"),
            ("http://portal.example", "portal.example"),
            ("https://Portal.Example", "portal.EXAMPLE"),
            ("https://portal.example", "portal.example:443"),
            ("https://portal.example:443", "portal.example"),
            ("http://portal.example", "portal.example:80"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
            ("https://app.example", "portal.example"),
        ] {
            assert_eq!(from(None, Some(origin), host), Provenance::SameOrigin, "{origin} {host}");
        }
        for (origin, host) in [
            ("https://evil.example", "portal.example"),
            ("https://portal.example.evil", "portal.example"),
            ("https://xportal.example", "portal.example"),
            ("https://portal.example:8443", "portal.example"),
            ("https://portal.example", "portal.example:80"),
            ("http://portal.example", "portal.example:443"),
            ("http://127.0.0.1:8081", "127.0.0.1:8080"),
            ("null", "portal.example"),
            ("", "portal.example"),
            ("portal.example", "portal.example"),
            ("ftp://portal.example", "portal.example"),
            ("file://", ""),
            ("https://caff\u{e8}.example", "portal.example"),
        ] {
            assert_eq!(from(None, Some(origin), host), Provenance::CrossOrigin, "{origin} {host}");
        }
        assert_eq!(from(None, None, "portal.example"), Provenance::Unsaid);
    }

    #[test]
    fn two_origins_are_nobodys() {
        let two = headers(&[("origin", "https://portal.example"), ("origin", "https://evil.example")]);
        assert_eq!(provenance(&two, "portal.example", &[]), Provenance::CrossOrigin);
    }

    #[test]
    fn languages() {
        let chosen = |accept| language(&headers(&[("accept-language", accept)]), &["it", "en", "de"], "it");
        for (accept, expected) in [
            ("en", "en"),
            ("en-GB,en;q=0.9", "en"),
            ("fr, de;q=0.5, en;q=0.7", "en"),
            ("DE-at", "de"),
            ("fr", "it"),
            ("*", "it"),
            ("en;q=0", "it"),
            ("en;q=0.1, *;q=0.5", "it"),
            ("de, en", "de"),
            ("", "it"),
            ("caff\u{e8}", "it"),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
        assert_eq!(language(&HeaderMap::new(), &[], "it"), "it");
    }

    proptest! {
        #[test]
        fn garbage_is_answered_somehow(value in "[ -~]{0,60}", host in "[ -~]{0,30}") {
            let said = headers(&[("accept", &value), ("accept-language", &value), ("origin", &value)]);
            audience(&said);
            prop_assert!(["it", "en"].contains(&language(&said, &["it", "en"], "it")));
            prop_assert!(provenance(&said, &host, &[]) != Provenance::Unsaid);
        }
    }
}
