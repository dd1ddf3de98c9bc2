//! What must hold for any bytes at all. Run by the fuzzer (see the README beside this file), and by an ordinary test for
//! every input that was kept.

use std::time::Duration;

use anticamera::config;
use anticamera::domain::cookie::{self, Channel, RoomCookies};
use anticamera::domain::forwarding::{self, Trust};
use anticamera::domain::keyring::{KeyId, Keyring, MasterKey, RoomKeys, SECRET_LEN, Secret};
use anticamera::domain::leak_guard::{Personal, Route, Rules, Verdict, clean_request, guard_response, may_be_public};
use anticamera::domain::names::{ClassId, RoomName};
use anticamera::domain::paths::{NormalPath, PathPattern, same_origin_path};
use anticamera::domain::proxy_protocol;
use anticamera::domain::recovery::RecoveryCode;
use anticamera::domain::token::{Claim, Generation, Kind, LineIdentity, Token, VisitorId};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};

const NOW: u32 = 1_900_000_000;

/// A target's name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 6] = [
    ("tokens", tokens),
    ("cookies", cookies),
    ("paths", paths),
    ("headers", headers),
    ("configuration", configuration),
    ("proxy_header", proxy_header),
];

fn room() -> RoomName {
    RoomName::new("fair").unwrap()
}

fn keys() -> RoomKeys {
    let key = MasterKey { id: KeyId(7), created: 0, secret: Secret::new([42; SECRET_LEN]) };
    Keyring::new(vec![key], Duration::ZERO).unwrap().for_room(&room())
}

fn pass() -> Token {
    Token {
        room: room().id(),
        claim: Claim::Pass(Generation(3)),
        class: ClassId::CITIZEN,
        id: VisitorId([9; 16]),
        number: 12,
        issued: NOW - 60,
        expires: NOW + 60,
    }
}

/// No text but what we signed is a token: neither any bytes, nor a good token of which anything was changed.
pub fn tokens(bytes: &[u8]) {
    let keys = keys();
    for kind in [Kind::Ticket, Kind::Turn, Kind::Pass, Kind::Receipt] {
        assert!(keys.verify(kind, bytes, NOW).is_err());
    }
    let good = keys.sign(&pass(), NOW);
    let mut changed = good.as_str().as_bytes().to_vec();
    for change in bytes.chunks_exact(2) {
        let place = usize::from(change[0]) % changed.len();
        changed[place] = change[1];
    }
    let verified = keys.verify(Kind::Pass, &changed, NOW);
    assert_eq!(verified.is_ok(), changed == good.as_str().as_bytes());
    if let Some(code) = std::str::from_utf8(bytes).ok().and_then(RecoveryCode::read) {
        assert_eq!(keys.recovered(code, LineIdentity(1)), None);
    }
}

/// Header lines, as they come: a name, a colon, a value.
fn lines(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// The portal never sees a cookie of ours, however it is written, and loses none of its own.
pub fn cookies(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(20) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("cookie", value);
        }
    }
    headers.append("cookie", HeaderValue::from_static("theirs=kept"));
    let names = RoomCookies::new(&room());
    for channel in [Channel::Plain, Channel::Secure] {
        for kind in [Kind::Ticket, Kind::Turn, Kind::Pass] {
            for value in cookie::presented(&headers, names.name(kind, channel)) {
                assert!(keys().verify(kind, value, NOW).is_err());
            }
        }
        let _ = cookie::staff_secrets(&headers, &room(), channel);
    }
    let _ = (cookie::length(&headers), cookie::deletions(&headers));
    forwarding::join_cookies(&mut headers);
    cookie::strip_own(&mut headers);
    let left: Vec<u8> = headers.get_all("cookie").iter().flat_map(|line| [line.as_bytes(), b"; "].concat()).collect();
    for pair in left.split(|byte| *byte == b';') {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        assert!(!cookie::is_own_name(name), "{}", String::from_utf8_lossy(name));
    }
    assert!(left.windows(11).any(|window| window == b"theirs=kept"), "{}", String::from_utf8_lossy(&left));
}

/// Whoever asks for a protected page in any spelling that a portal might read as it is not taken for one who asks for an
/// open one; a wanted address stays on this site.
pub fn paths(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let raw = format!("/{text}");
    let (open, protected) = (PathPattern::parse("/open/**").unwrap(), PathPattern::parse("/room/**").unwrap());
    let path = NormalPath::of(&raw);
    if open.matches_raw(&raw) {
        assert!(!protected.matches(&path), "{raw:?} is open, and protected in another reading");
        assert!(path.readings().all(|reading| reading.to_ascii_lowercase().starts_with("/open")), "{raw:?}");
    }
    for reading in path.readings() {
        assert!(reading.starts_with('/'), "{reading:?} of {raw:?}");
    }
    if may_be_public(&Method::GET, &raw, &HeaderMap::new()) {
        assert_eq!(path.readings().count(), 1, "{raw:?} is plain");
    }
    for wanted in [same_origin_path(text), same_origin_path(&raw)].into_iter().flatten() {
        let address = wanted.as_str();
        assert!(address.starts_with('/') && !address.starts_with("//") && !address.starts_with("/\\"), "{address:?}");
        assert!(!address.bytes().any(|byte| byte.is_ascii_control()), "{address:?}");
    }
    let _ = PathPattern::parse(text);
}

/// What leaves for the portal ends nothing of ours, and a personal answer has the one cache policy, whatever came.
pub fn headers(bytes: &[u8]) {
    let original = lines(bytes);
    for route in [Route::Public, Route::Personal(Personal::STRICT)] {
        let mut request = original.clone();
        forwarding::strip_request(&mut request, Trust::Nobody);
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection", "client-cert"] {
            let is_ours = name == "connection" && request.get("te").is_some();
            assert!(is_ours || !request.contains_key(name), "{name}");
        }
        let exchange = clean_request(&mut request, &Method::GET, "/room/page", route, &Rules::STRICT);
        if route == Route::Public {
            assert!(!request.contains_key("cookie") && !request.contains_key("authorization"));
        }
        let mut answer = Response::new(());
        *answer.headers_mut() = original.clone();
        let (mut parts, ()) = answer.into_parts();
        forwarding::strip_response(&mut parts.headers);
        let guarded = guard_response(&mut parts, &exchange, &Rules::STRICT);
        if guarded.verdict == Verdict::Public {
            assert!(!parts.headers.contains_key("set-cookie"));
            continue;
        }
        let policies: Vec<_> = parts.headers.get_all("cache-control").iter().collect();
        assert_eq!(policies.len(), 1);
        let policy = policies[0].to_str().unwrap();
        assert!(policy.contains("private") && policy.contains("no-store"), "{policy}");
        assert!(!parts.headers.contains_key("etag") && !parts.headers.contains_key("last-modified"));
    }
    let mut trailers = original;
    forwarding::strip_trailers(&mut trailers);
    assert!(!trailers.contains_key("content-length") && !trailers.contains_key("cookie"));
}

/// A file is a configuration or has faults, in words.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Names of files in it are not to be opened, and deep nesting is the library's to refuse.
    match config::parse(text, std::path::Path::new("/nowhere")) {
        Ok(config) => drop(config.warnings()),
        Err(faults) => assert!(!faults.to_string().is_empty()),
    }
}

/// A connection begins with a header that proxies write, with none, or with less than one.
pub fn proxy_header(bytes: &[u8]) {
    let _ = proxy_protocol::header(bytes);
    for end in 0..bytes.len().min(64) {
        let _ = proxy_protocol::header(&bytes[..end]);
    }
}
