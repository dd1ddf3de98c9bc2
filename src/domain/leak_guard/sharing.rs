//! Whether caches may share an answer: what in it contradicts that.

use std::hash::{DefaultHasher, Hasher};

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Reason;
use super::extension::Extension;

/// What speaks against sharing an answer of this name, apart from what the portal says to us and from hits.
pub(super) fn reason_against_sharing(
    status: StatusCode,
    headers: &HeaderMap,
    extension: Option<Extension>,
) -> Option<Reason> {
    if !matches!(status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
        return Some(Reason::Status);
    }
    if !varies_harmlessly(headers) {
        return Some(Reason::Vary);
    }
    if extension.is_some_and(|extension| !has_type_of(extension, headers)) {
        return Some(Reason::ContentType);
    }
    reason_in_policy(headers)
}

/// Whether the one media type, if there is one, is what the extension promises.
fn has_type_of(extension: Extension, headers: &HeaderMap) -> bool {
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    let Some(media_type) = media_types.next() else { return true };
    media_type.to_str().is_ok_and(|media_type| extension.fits(media_type)) && media_types.next().is_none()
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

/// Whether a line of `Cache-Control` forbids shared caches, as the plainest of them read it.
pub(super) fn forbids_sharing(line: &HeaderValue) -> bool {
    let forbids = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("private") || name.eq_ignore_ascii_case("no-store")
    };
    line.to_str().is_ok_and(|line| line.split(',').any(forbids))
}

/// The version of a file in short, by what two visitors who get the same are told alike.
pub(super) fn version_of(headers: &HeaderMap) -> u64 {
    let length = || headers.get(CONTENT_LENGTH).filter(|_| !headers.contains_key(CONTENT_ENCODING));
    let said = headers.get(LAST_MODIFIED).or_else(|| headers.get(ETAG)).or_else(length);
    // Not random, so that the same is the same; nobody gains by a collision.
    let mut hasher = DefaultHasher::new();
    hasher.write(said.map_or(b"", HeaderValue::as_bytes));
    hasher.finish()
}
