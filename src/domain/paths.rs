//! Which hosts and paths a rule speaks of, and how to find a path however it is spelled.
//!
//! A portal may decode a path once or twice, resolve `..` or not, drop `;parameters`, take `\` for `/`, or stop at a
//! NUL: we cannot know. So a path is protected when *any* plausible reading of it is ([`NormalPath`]), and a privilege
//! (never gated, public) is given only to a path that has one reading, on the very bytes that are forwarded
//! ([`PathPattern::matches_raw`], [`PathPattern::matches_public`]).

use std::borrow::Cow;

/// Why a text is no host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host: write \"*\", a host name without a port such as \"portal.example\", or \"*.example\"")]
pub struct NotAHost;

/// A host that a room protects: `*`, `portal.example` or `*.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(Hosts);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    One(String),
    /// The domain that hosts are below, with its leading dot.
    Below(String),
}

impl HostPattern {
    /// Reads `*` (every host), a host name or address, or `*.` and a domain (every host below it, not itself).
    ///
    /// # Errors
    /// [`NotAHost`] for anything else; ports are no part of it.
    pub fn parse(text: &str) -> Result<HostPattern, NotAHost> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Ok(HostPattern(Hosts::All));
        }
        match text.strip_prefix("*.") {
            Some(domain) if is_host_name(domain) => Ok(HostPattern(Hosts::Below(format!(".{domain}")))),
            None if is_host_name(&text) || is_ipv6_literal(&text) => Ok(HostPattern(Hosts::One(text))),
            _ => Err(NotAHost),
        }
    }

    /// Whether it is `*`, which names no host in particular.
    pub fn is_every_host(&self) -> bool {
        self.0 == Hosts::All
    }

    /// The host, if it names just one.
    pub fn one_host(&self) -> Option<&str> {
        match &self.0 {
            Hosts::One(name) => Some(name),
            Hosts::All | Hosts::Below(_) => None,
        }
    }

    /// Whether the pattern covers `host`, given without a port. Case and one dot at the end do not matter: they reach
    /// the same portal.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        match &self.0 {
            Hosts::All => true,
            Hosts::One(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Hosts::Below(domain) => host
                .split_at_checked(host.len().saturating_sub(domain.len()))
                .is_some_and(|(label, end)| !label.is_empty() && end.eq_ignore_ascii_case(domain.as_bytes())),
        }
    }
}

fn is_host_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.split('.').all(|label| !label.is_empty() && label.bytes().all(plain))
}

fn is_ipv6_literal(text: &str) -> bool {
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// The host in an authority (`host`, `host:port`, `[::1]:port`), without port and user.
pub fn host_of(authority: &str) -> &str {
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && is_whole(host) => host,
        _ => authority,
    }
}

/// Whether no colon of an IPv6 literal was mistaken for the port's.
fn is_whole(host: &str) -> bool {
    !host.starts_with('[') || host.ends_with(']')
}

/// Why a text is no path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPattern {
    /// It does not begin with a slash.
    #[error("a path pattern begins with \"/\", such as \"/bonus-600/**\"")]
    NoSlash,
    /// `**` stands elsewhere than alone at the end.
    #[error("\"**\" stands alone and at the end, such as \"/bonus-600/**\"")]
    DoubleStar,
    /// Two stars in one segment.
    #[error("at most one \"*\" in each part between slashes, such as \"/static/*.css\"")]
    TwoStars,
    /// A pattern that no path can match.
    #[error(
        "a path pattern is written plainly: no \"//\", no \".\" or \"..\" parts, no \"\\\", \";\", \"?\", \"#\" or spaces"
    )]
    NotPlain,
}

/// A path pattern: `/a` is that path, `/a/**` is `/a`, `/a/` and everything below, and one `*` within a segment stands
/// for any characters but a slash (`/static/*.css`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    /// As written, for the bytes that are forwarded.
    raw: Vec<Segment>,
    /// Decoded and folded, for readings of a path.
    folded: Vec<Segment>,
    reach: Reach,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Itself,
    AndBelow,
}

/// Whether the last thing in a path is a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Slash,
    NoSlash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Exactly(String),
    /// Beginning and end of what a star stands between.
    Around(String, String),
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, NotAPattern> {
        match text.split_once('*') {
            None => Ok(Segment::Exactly(text.to_owned())),
            Some((_, end)) if end.contains('*') => Err(NotAPattern::TwoStars),
            Some((start, end)) => Ok(Segment::Around(start.to_owned(), end.to_owned())),
        }
    }

    fn folded(&self) -> Segment {
        match self {
            Segment::Exactly(text) => Segment::Exactly(folded(&decoded(text, Slashes::Stay))),
            Segment::Around(start, end) => {
                Segment::Around(in_one_case(&decoded(start, Slashes::Stay)), folded(&decoded(end, Slashes::Stay)))
            }
        }
    }

    fn matches(&self, segment: &str) -> bool {
        match self {
            Segment::Exactly(text) => text == segment,
            Segment::Around(start, end) => {
                !segment.is_empty() && segment.strip_prefix(start.as_str()).is_some_and(|rest| rest.ends_with(end))
            }
        }
    }
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`NotAPattern`] with what is wrong and how it is written.
    pub fn parse(text: &str) -> Result<PathPattern, NotAPattern> {
        let path = text.strip_prefix('/').ok_or(NotAPattern::NoSlash)?;
        let (reach, path) = match path.strip_suffix("**") {
            Some(base) if base.is_empty() || base.ends_with('/') => (Reach::AndBelow, base),
            Some(_) => return Err(NotAPattern::DoubleStar),
            None => (Reach::Itself, path),
        };
        let (ending, path) = match path.strip_suffix('/') {
            Some(path) => (Ending::Slash, path),
            None => (Ending::NoSlash, path),
        };
        if path.contains("**") {
            return Err(NotAPattern::DoubleStar);
        }
        let segments = || path.split('/').filter(|_| !path.is_empty());
        if !segments().all(is_plain_in_pattern) || (path.is_empty() && ending == Ending::Slash) {
            return Err(NotAPattern::NotPlain);
        }
        let raw = segments().map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let folded = raw.iter().map(Segment::folded).collect();
        // `/` alone is the root, whose only spelling ends in a slash.
        let ending = if path.is_empty() { Ending::Slash } else { ending };
        Ok(PathPattern { text: text.to_owned(), raw, folded, reach, ending })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has nothing but stars, so that it tells no page from another: `/**`, `/*`, `/*/**`, `/*/*`.
    pub fn names_nothing(&self) -> bool {
        let has_star = self.reach == Reach::AndBelow || !self.raw.is_empty();
        let is_star =
            |segment: &Segment| matches!(segment, Segment::Around(start, end) if start.is_empty() && end.is_empty());
        has_star && self.raw.iter().all(is_star)
    }

    /// Whether any plausible reading of the path matches. This is how rooms, and everything else that protects, match.
    pub fn matches(&self, path: &NormalPath<'_>) -> bool {
        path.readings().any(|reading| self.matches_reading(reading))
    }

    /// Whether the path matches byte for byte, and has one reading only: no `%`, `\`, `;`, `//`, dot segments, or
    /// anything but visible ASCII. This is how privileges such as `bypass` match.
    ///
    /// `raw` is the path as received and forwarded, without the query.
    pub fn matches_raw(&self, raw: &str) -> bool {
        has_one_reading(raw) && self.matches_bytes(raw)
    }

    /// Whether the path matches byte for byte and consists of `/[A-Za-z0-9._-]+` segments, none of them ending in a dot.
    /// This is how public routes match, where a cache in front may have rules of its own.
    pub fn matches_public(&self, raw: &str) -> bool {
        raw.strip_prefix('/').is_some_and(|path| path.split('/').all(is_public_segment)) && self.matches_bytes(raw)
    }

    fn matches_reading(&self, reading: &str) -> bool {
        // A slash at the end makes no difference here: many portals answer both alike.
        let (path, _) = without_ending(reading);
        self.matches_segments(&self.folded, path)
    }

    fn matches_bytes(&self, raw: &str) -> bool {
        let (path, ending) = without_ending(raw);
        match self.reach {
            Reach::Itself => ending == self.ending && self.matches_segments(&self.raw, path),
            Reach::AndBelow => self.matches_segments(&self.raw, path),
        }
    }

    fn matches_segments(&self, pattern: &[Segment], path: &str) -> bool {
        let mut segments = path.split('/').filter(|_| !path.is_empty());
        let begins = pattern.iter().all(|expected| segments.next().is_some_and(|segment| expected.matches(segment)));
        begins && (self.reach == Reach::AndBelow || segments.next().is_none())
    }
}

fn is_plain_in_pattern(segment: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '\\' | ';' | '?' | '#');
    !segment.is_empty() && !is_dot_segment(segment) && segment.chars().all(plain)
}

fn is_public_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(plain)
}

fn is_dot_segment(segment: &str) -> bool {
    segment == "." || segment == ".."
}

/// Takes off the leading slash, and one at the end.
fn without_ending(path: &str) -> (&str, Ending) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.strip_suffix('/') {
        Some(path) => (path, Ending::Slash),
        None if path.is_empty() => (path, Ending::Slash),
        None => (path, Ending::NoSlash),
    }
}

/// Whether every portal reads the path in the same way, but for case.
fn has_one_reading(raw: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b';' | b'?' | b'#');
    let is_plain = |segment: &str| !segment.is_empty() && !segment.ends_with('.');
    raw.starts_with('/') && raw.bytes().all(plain) && without_ending(raw).0.split('/').all(is_plain) || raw == "/"
}

/// A path in every way a portal may read it: decoded once, twice, or after it was split; `;parameters` dropped or kept;
/// `\` a slash or not; slashes collapsed or not; dot segments resolved or not; cut at a NUL, `?` or `#` that was encoded,
/// or not. Readings are folded to one case, and dots and spaces at the end of a segment are dropped (as Windows does).
///
/// An ordinary path has one reading and, in lower case, costs no allocation.
#[derive(Clone, Debug)]
pub struct NormalPath<'a> {
    first: Cow<'a, str>,
    others: Vec<String>,
    clarity: Clarity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clarity {
    /// One reading.
    Plain,
    /// Several readings, all of them at hand.
    Ambiguous,
    /// Several readings, and in one of them dot segments, which may lead from anywhere to anywhere.
    Climbing,
    /// More readings than we are willing to compute.
    Tangled,
}

/// Whom a path belongs to, when several rules were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<T> {
    /// Nobody, in any reading.
    Nobody,
    /// To this one.
    One(T),
    /// To different ones in different readings, by way of dot segments. Whoever forwards such a path may let a visitor
    /// of one room into another, so it is answered with 400. No browser sends one: they resolve dot segments themselves.
    Disputed,
}

/// The text of all readings together, at most, in bytes: thirty readings of a path of 2 KiB. It bounds what a hostile
/// path can cost us.
const MAX_READING_BYTES: usize = 64 * 1024;

impl<'a> NormalPath<'a> {
    /// Reads a path as received, without its query.
    pub fn of(raw: &'a str) -> NormalPath<'a> {
        if has_one_reading(raw) {
            return NormalPath { first: in_lower_case(raw), others: Vec::new(), clarity: Clarity::Plain };
        }
        let (readings, clarity) = Readings::of(raw);
        let mut readings = readings.into_iter();
        NormalPath { first: readings.next().unwrap_or_default().into(), others: readings.collect(), clarity }
    }

    /// The path as most portals read it: decoded once, without parameters, resolved, in lower case.
    pub fn as_str(&self) -> &str {
        &self.first
    }

    /// Whether the path was not in its plain form, so that portals may disagree about it.
    pub fn is_ambiguous(&self) -> bool {
        self.clarity != Clarity::Plain
    }

    /// Every plausible reading, the most plausible first.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.first).chain(self.others.iter().map(String::as_str))
    }

    /// Finds whose path it is among rules in their order: the first with a pattern that any reading matches owns it.
    ///
    /// Readings may disagree: `/a;x` and `//a` are below `/a` for one portal and not for another. Without dot segments
    /// they lead to nothing but themselves, and the first rule may have them. With dot segments, `/b/..;/a` lets the
    /// visitor choose whose path it is, and nobody may.
    pub fn owner<'p, T: Copy + PartialEq>(
        &self,
        rules: impl Iterator<Item = (T, &'p [PathPattern])> + Clone,
    ) -> Owner<T> {
        match self.clarity {
            Clarity::Plain | Clarity::Ambiguous => self.first_owner(rules),
            Clarity::Climbing => self.undisputed_owner(rules),
            Clarity::Tangled => Owner::Disputed,
        }
    }

    fn first_owner<'p, T>(&self, mut rules: impl Iterator<Item = (T, &'p [PathPattern])>) -> Owner<T> {
        let owner = rules.find(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(self)));
        owner.map_or(Owner::Nobody, |(owner, _)| Owner::One(owner))
    }

    fn undisputed_owner<'p, T: Copy + PartialEq>(
        &self,
        rules: impl Iterator<Item = (T, &'p [PathPattern])> + Clone,
    ) -> Owner<T> {
        let of_reading = |reading| {
            let mut rules = rules.clone();
            rules.find(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches_reading(reading)))
        };
        let mut owners = self.readings().filter_map(of_reading).map(|(owner, _)| owner);
        match owners.next() {
            None => Owner::Nobody,
            Some(first) if owners.all(|other| other == first) => Owner::One(first),
            Some(_) => Owner::Disputed,
        }
    }
}

/// The readings found so far, without repetitions, the most plausible first.
struct Readings {
    found: Vec<String>,
    clarity: Clarity,
}

impl Readings {
    fn of(raw: &str) -> (Vec<String>, Clarity) {
        let mut readings = Readings { found: vec![raw.to_owned()], clarity: Clarity::Ambiguous };
        // Where both ways are plausible, the more usual one comes first.
        readings.widen(|path| [without_parameters(path), path.to_owned()]);
        readings.widen(|path| [decoded(path, Slashes::Separate), decoded_twice(path), decoded(path, Slashes::Stay)]);
        readings.widen(|path| [path.replace('\\', "/"), path.to_owned()]);
        readings.widen(|path| [without_parameters(path), path.to_owned()]);
        readings.widen(|path| [path.to_owned(), cut(path).to_owned()]);
        readings.widen(|path| [path.replace(char::is_control, "")]);
        readings.widen(|path| [collapsed(path), path.to_owned()]);
        readings.note_climbing();
        readings.widen(|path| [resolved(path), path.to_owned()]);
        readings.widen(|path| [tidied(path)]);
        (readings.found, readings.clarity)
    }

    fn note_climbing(&mut self) {
        let climbs = |path: &String| path.split('/').any(is_dot_segment);
        if self.clarity == Clarity::Ambiguous && self.found.iter().any(climbs) {
            self.clarity = Clarity::Climbing;
        }
    }

    /// Replaces each reading by what it may become, as long as the effort stays reasonable.
    fn widen<const N: usize>(&mut self, step: impl Fn(&str) -> [String; N]) {
        let mut wider: Vec<String> = Vec::with_capacity(self.found.len());
        let mut bytes = 0;
        for reading in self.found.iter().flat_map(|path| step(path)) {
            if bytes > MAX_READING_BYTES {
                self.clarity = Clarity::Tangled;
                break;
            }
            if !wider.contains(&reading) {
                bytes += reading.len();
                wider.push(reading);
            }
        }
        self.found = wider;
    }
}

/// Drops what follows a `;` in each segment (RFC 3986 section 3.3), as servlet containers do.
fn without_parameters(path: &str) -> String {
    let kept = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    kept.collect::<Vec<_>>().join("/")
}

/// What becomes of an encoded slash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slashes {
    /// It separates segments: the portal decodes, then splits.
    Separate,
    /// It stays encoded: the portal splits, then decodes.
    Stay,
}

fn decoded_twice(path: &str) -> String {
    decoded(&decoded(path, Slashes::Separate), Slashes::Separate)
}

/// Decodes `%xx` and, as IIS does, `%uxxxx`. What is no escape stays as it is.
fn decoded(path: &str, slashes: Slashes) -> String {
    if !path.contains('%') {
        return path.to_owned();
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = if byte == b'%' { escape(after) } else { None };
        match escape {
            Some(('/' | '\\', _)) if slashes == Slashes::Stay => {
                bytes.push(byte);
                rest = after;
            }
            Some((c, after)) => {
                // A code below 256 is one byte of a longer character, or a character by itself: told apart below.
                match u8::try_from(c) {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                }
                rest = after;
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    leniently_utf8(&bytes)
}

/// The character an escape stands for, after its `%`, and what follows it.
fn escape(after: &[u8]) -> Option<(char, &[u8])> {
    let (digits, rest) = match after {
        [b'u' | b'U', digits @ ..] => digits.split_at_checked(4)?,
        digits => digits.split_at_checked(2)?,
    };
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((char::from_u32(code)?, rest))
}

/// Reads bytes as UTF-8, overlong forms included (old portals took `%c0%af` for a slash), and what is none as Latin-1.
fn leniently_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let (c, len) = lenient_char(first, after).unwrap_or((char::from(first), 0));
        text.push(c);
        rest = after.get(len..).unwrap_or_default();
    }
    text
}

/// A character of several bytes, and how many follow the first.
fn lenient_char(first: u8, after: &[u8]) -> Option<(char, usize)> {
    let (start, len) = match first {
        0xc0..=0xdf => (first & 0x1f, 1),
        0xe0..=0xef => (first & 0x0f, 2),
        0xf0..=0xf7 => (first & 0x07, 3),
        _ => return None,
    };
    let code = after.get(..len)?.iter().try_fold(u32::from(start), |code, &byte| {
        (byte & 0xc0 == 0x80).then_some(code << 6 | u32::from(byte & 0x3f))
    })?;
    Some((char::from_u32(code)?, len))
}

/// What a portal sees that stops at a NUL, or takes a decoded `?` or `#` for the end of the path.
fn cut(path: &str) -> &str {
    path.split(['\0', '?', '#']).next().unwrap_or_default()
}

fn collapsed(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for c in path.chars() {
        if !(c == '/' && text.ends_with('/')) {
            text.push(c);
        }
    }
    text
}

/// Resolves dot segments (RFC 3986 section 5.2.4). What would leave the root stays there.
fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment == ".." {
            kept.pop();
        }
        if !is_dot_segment(segment) {
            kept.push(segment);
        } else if segments.peek().is_none() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Gives a reading the one form that patterns are compared with.
fn tidied(path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or(path);
    let segments: Vec<String> = path.split('/').map(folded).collect();
    format!("/{}", segments.join("/"))
}

/// Folds a segment: one case, and no dots and spaces at the end unless nothing would be left.
fn folded(segment: &str) -> String {
    let short = segment.trim_end_matches(['.', ' ']);
    in_one_case(if short.is_empty() { segment } else { short })
}

/// Folds case by way of upper case, because that is how portals without regard for case compare.
fn in_one_case(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Folds a path that has one reading, which is ASCII.
fn in_lower_case(raw: &str) -> Cow<'_, str> {
    if raw.bytes().any(|byte| byte.is_ascii_uppercase()) { raw.to_ascii_lowercase().into() } else { raw.into() }
}

/// Where a visitor wants to go: a path and query of this site, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedPath(String);

/// Characters a wanted path may have at most.
pub const MAX_WANTED_LEN: usize = 2048;

impl WantedPath {
    /// The origin's root.
    pub fn root() -> WantedPath {
        WantedPath("/".to_owned())
    }

    /// Path and query, fit for a `Location` header. Not escaped for HTML.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }
}

/// A path and query as a value in the query of another address: everything that could end it is percent-encoded.
pub fn query_value(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Checks an address that a visitor wants to be sent to, so that nobody can be sent elsewhere (an open redirect).
///
/// It begins with one slash, has at most [`MAX_WANTED_LEN`] characters, all of them such as browsers write in addresses,
/// and neither `//` in its path nor `\\` nor `#` anywhere.
pub fn same_origin_path(text: &str) -> Option<WantedPath> {
    let path = text.split('?').next().unwrap_or_default();
    let is_written = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#' | b'"' | b'<' | b'>' | b'`');
    let is_ours = path.starts_with('/') && !path.contains("//");
    (is_ours && text.len() <= MAX_WANTED_LEN && text.bytes().all(is_written)).then(|| WantedPath(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    fn is_protected(rule: &str, raw: &str) -> bool {
        pattern(rule).matches(&NormalPath::of(raw))
    }

    /// Whose path it is, with rooms `/a/**` and `/b/**` in this order.
    fn owner(raw: &str) -> Owner<char> {
        owner_among(raw, &[('a', "/a/**"), ('b', "/b/**")])
    }

    fn owner_among(raw: &str, rules: &[(char, &str)]) -> Owner<char> {
        let rules: Vec<_> = rules.iter().map(|(name, rule)| (*name, vec![pattern(rule)])).collect();
        NormalPath::of(raw).owner(rules.iter().map(|(name, patterns)| (*name, patterns.as_slice())))
    }

    #[test]
    fn hosts() {
        assert!(host("*").matches("anything"));
        assert!(host("Portal.Example").matches("portal.example"));
        assert!(host("portal.example").matches("PORTAL.example."));
        assert!(!host("portal.example").matches("xportal.example"));
        assert!(!host("portal.example").matches("portal.example.evil"));
        assert!(host("*.example").matches("portal.example"));
        assert!(host("*.example").matches("a.b.EXAMPLE"));
        assert!(!host("*.example").matches("example"));
        assert!(!host("*.example").matches(".example"));
        assert!(!host("*.example").matches("portalexample"));
        assert!(host("[::1]").matches("[::1]"));
        assert!(!host("*.example").matches("\u{e8}\u{e8}\u{e8}example"), "never splits a character");
    }

    #[test]
    fn what_is_no_host() {
        for text in
            ["", "*.", "*.*", "a.*", "**", "portal.example:443", "http://a", "a/b", "a..b", "a b", "[::1", "[x]"]
        {
            assert_eq!(HostPattern::parse(text), Err(NotAHost), "{text}");
        }
    }

    #[test]
    fn hosts_are_taken_out_of_authorities() {
        for (authority, host) in [
            ("portal.example", "portal.example"),
            ("portal.example:8080", "portal.example"),
            ("portal.example:", "portal.example"),
            ("user@portal.example:80", "portal.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }

    #[test]
    fn patterns_match_as_documented() {
        for (rule, path, expected) in [
            ("/a/**", "/a", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/a/**", "/", false),
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/static/*.css", "/static/x.css", true),
            ("/static/*.css", "/static/.css", true),
            ("/static/*.css", "/static/x/y.css", false),
            ("/static/*.css", "/static/x.js", false),
            ("/x*x", "/x", false),
            ("/*/a/**", "/b/a/c", true),
            ("/*", "/", false),
        ] {
            assert_eq!(pattern(rule).matches_raw(path), expected, "{rule} raw {path}");
            assert_eq!(is_protected(rule, path), expected, "{rule} protects {path}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for (text, fault) in [
            ("", NotAPattern::NoSlash),
            ("a/**", NotAPattern::NoSlash),
            ("/a**", NotAPattern::DoubleStar),
            ("/**/a", NotAPattern::DoubleStar),
            ("/a/**/", NotAPattern::DoubleStar),
            ("/a/***", NotAPattern::DoubleStar),
            ("/a*b*c", NotAPattern::TwoStars),
            ("//", NotAPattern::NotPlain),
            ("//**", NotAPattern::NotPlain),
            ("/a//b", NotAPattern::NotPlain),
            ("/a/../b", NotAPattern::NotPlain),
            ("/a/./**", NotAPattern::NotPlain),
            ("/a?x", NotAPattern::NotPlain),
            ("/a b", NotAPattern::NotPlain),
            ("/a;x", NotAPattern::NotPlain),
            ("/a\\b", NotAPattern::NotPlain),
        ] {
            assert_eq!(PathPattern::parse(text), Err(fault), "{text}");
        }
    }

    /// Everything here reaches `/bonus-600` or below on some server that is or was in use.
    const SPELLINGS: [&str; 44] = [
        "/bonus-600",
        "/bonus-600/",
        "/BONUS-600/x",
        "/Bonus-600/x",
        "//bonus-600/x",
        "///bonus-600//x",
        "/./bonus-600/x",
        "/x/../bonus-600/",
        "/../bonus-600/",
        "/../../../bonus-600",
        "/%62onus-600/x",
        "/bonus%2d600/x",
        "/bonus%2D600/x",
        "/%62%6f%6e%75%73%2d%36%30%30",
        "/%2562onus-600/x",
        "/bonus%252d600/x",
        "/%2fbonus-600/x",
        "/bonus-600%2fx",
        "/bonus-600%2Fx",
        "/bonus-600%252fx",
        "/x%2f..%2fbonus-600/y",
        "/x/%2e%2e/bonus-600/y",
        "/x/.%2E/bonus-600/y",
        "/x/%252e%252e/bonus-600/y",
        "/%2e/bonus-600/y",
        "/x/%c0%ae%c0%ae/bonus-600",
        "/x%c0%af..%c0%afbonus-600",
        "/x/%e0%80%ae%e0%80%ae/bonus-600",
        "/%u0062onus-600/x",
        "/bonus-600%u002fx",
        "\\bonus-600\\x",
        "/x\\..\\bonus-600",
        "/x%5c..%5cbonus-600",
        "/bonus-600;jsessionid=1/x",
        "/bonus-600;jsessionid=1",
        "/;x/bonus-600/y",
        "/x/..;/bonus-600/y",
        "/x/..;v=1/bonus-600/y",
        "/x/..;\\bonus-600/y",
        "/x/..%3b/bonus-600/y",
        "/bonus-600%00.css",
        "/bonus-600%3f.css",
        "/bonus-600./x",
        "/bonus-600%20/x",
    ];

    #[test]
    fn nobody_walks_round_a_room_by_spelling() {
        for spelling in SPELLINGS {
            assert!(is_protected("/bonus-600/**", spelling), "{spelling}");
        }
    }

    #[test]
    fn tricky_spellings_win_no_privilege() {
        for spelling in SPELLINGS.into_iter().filter(|spelling| !["/bonus-600", "/bonus-600/"].contains(spelling)) {
            assert!(!pattern("/bonus-600/**").matches_raw(spelling), "{spelling}");
        }
    }

    #[test]
    fn privileges_are_for_one_reading_and_these_very_bytes() {
        assert!(pattern("/bonus-600/health").matches_raw("/bonus-600/health"));
        for path in [
            "/bonus-600/Health",
            "/bonus-600/health/",
            "/bonus-600//health",
            "/bonus-600/./health",
            "/bonus-600/x/../health",
            "/bonus-600/healt%68",
            "/bonus-600/health;x",
            "/bonus-600/health.",
            "/bonus-600\\health",
            "/bonus-600/health%00",
            "bonus-600/health",
            "",
        ] {
            assert!(!pattern("/bonus-600/health").matches_raw(path), "{path}");
        }
        assert!(!pattern("/static/**").matches_raw("/static/../account"));
        assert!(!pattern("/static/**").matches_raw("/static/..%2faccount"));
        assert!(!pattern("/static/**").matches_raw("/static/..;/account"));
        assert!(!pattern("/caff\u{e8}").matches_raw("/caff\u{e8}"));
        assert!(pattern("/static/**").matches_raw("/static/@scope/~x"));
    }

    #[test]
    fn public_paths_are_plainer_still() {
        let public = |path| pattern("/static/**").matches_public(path);
        assert!(public("/static/app-1.2_min.css"));
        assert!(pattern("/favicon.ico").matches_public("/favicon.ico"));
        for path in [
            "/static/@scope/x.js",
            "/static/x.css.",
            "/static/~x",
            "/static/",
            "/static/x;y",
            "/static/x%2ecss",
            "/static//x.css",
            "/static/../x.css",
            "/static/./x.css",
            "/static/x\u{e8}.css",
            "/static/x y.css",
            "/account/x.css",
            "/STATIC/x.css",
        ] {
            assert!(!public(path), "{path}");
        }
    }

    #[test]
    fn an_ordinary_path_has_one_reading() {
        let path = NormalPath::of("/bonus-600/domanda.jsp");
        assert!(matches!(path.first, Cow::Borrowed(_)));
        assert_eq!((path.readings().count(), path.is_ambiguous()), (1, false));
        assert_eq!(NormalPath::of("/Bonus-600/X").as_str(), "/bonus-600/x");
        assert!(!NormalPath::of("/").is_ambiguous());
    }

    #[test]
    fn the_first_reading_is_the_usual_one() {
        for (raw, usual) in [
            ("/a/b;x=1/c", "/a/b/c"),
            ("/a%20b", "/a b"),
            ("/a//b/./c/../D", "/a/b/d"),
            ("/caff%C3%A8", "/caff\u{e8}"),
            ("/caff%E8", "/caff\u{e8}"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("*", "/*"),
            ("", "/"),
        ] {
            assert_eq!(NormalPath::of(raw).as_str(), usual, "{raw}");
            assert!(NormalPath::of(raw).is_ambiguous(), "{raw}");
        }
    }

    #[test]
    fn patterns_beyond_ascii_match_every_encoding() {
        for raw in ["/caff%C3%A8/x", "/caff%c3%88/x", "/CAFF%E8/x", "/caff%C8/x", "/caff%25C3%25A8/x"] {
            assert!(is_protected("/caff\u{e8}/**", raw), "{raw}");
            assert!(is_protected("/caff%C3%A8/**", raw), "{raw}");
        }
        assert!(!is_protected("/caff\u{e8}/**", "/caffe/x"));
    }

    #[test]
    fn a_room_is_found_by_any_reading() {
        assert_eq!(owner("/a/x"), Owner::One('a'));
        assert_eq!(owner("/b/x"), Owner::One('b'));
        assert_eq!(owner("/c"), Owner::Nobody);
        assert_eq!(owner("/c/../a"), Owner::One('a'));
        assert_eq!(owner("/b/x%20y;jsessionid=1"), Owner::One('b'));
        assert_eq!(owner("/b/x%2fy%252fz"), Owner::One('b'));
    }

    #[test]
    fn no_pass_for_one_room_opens_another() {
        for raw in [
            "/b/../a/x",
            "/b/%2e%2e/a/x",
            "/b/..;/a/x",
            "/b/..%3b/a/x",
            "/b/..;\\a/x",
            "/b\\..\\a/x",
            "/b/%252e%252e/a/x",
            "/b/x%2f..%2f..%2fa/x",
            "/b/x%5c..%5c..%5ca/x",
            "/b//../a/x",
            "/b/%c0%ae%c0%ae/a/x",
            "/b/.%00./a/x",
            "/a/%3f/../../b/x",
        ] {
            assert_eq!(owner(raw), Owner::Disputed, "{raw}");
        }
    }

    #[test]
    fn harmless_ambiguity_is_no_dispute() {
        let rules = [('a', "/a/**"), ('z', "/**")];
        for raw in ["/a;jsessionid=1", "//a/x", "/a%2fx", "/%2561/x", "/a%20/x", "/a\\x"] {
            assert_eq!(owner_among(raw, &rules), Owner::One('a'), "{raw}");
        }
        assert_eq!(owner_among("/x%2fy", &rules), Owner::One('z'));
    }

    #[test]
    fn a_hostile_path_costs_little_and_opens_nothing() {
        let raw = format!("/b/{}", "x;%252f%5c//..".repeat(400));
        let path = NormalPath::of(&raw);
        assert_eq!(path.clarity, Clarity::Tangled);
        assert!(path.readings().map(str::len).sum::<usize>() <= 2 * MAX_READING_BYTES);
        assert_eq!(owner(&raw), Owner::Disputed);
    }

    #[test]
    fn wanted_addresses_stay_here() {
        for text in
            ["/", "/a", "/a/b?c=d&e=%20f", "/a?return=https://portal.example//x", "/a:b@c", "/%2f%2fevil.example"]
        {
            assert_eq!(same_origin_path(text).map(|wanted| wanted.as_str().to_owned()), Some(text.to_owned()));
        }
        let long = format!("/{}", "a".repeat(MAX_WANTED_LEN));
        for text in [
            "",
            "a",
            "//evil.example",
            "///evil.example",
            "/a//b",
            "/\\evil.example",
            "\\\\evil.example",
            "/a\\b",
            "https://evil.example",
            "javascript:alert(1)",
            "?a",
            " /a",
            "/a b",
            "/\t/evil.example",
            "/a\r\nSet-Cookie: x",
            "/\0",
            "/caff\u{e8}",
            "/a#b",
            "/a\"b",
            "/a?<script>",
            "/a`",
            &long,
        ] {
            assert_eq!(same_origin_path(text), None, "{text}");
        }
        assert!(same_origin_path(&long[..MAX_WANTED_LEN]).is_some());
        assert_eq!(same_origin_path("/a?b?c").unwrap().path(), "/a");
    }

    /// Writes a character as itself, in the other case, percent-encoded, or encoded twice.
    fn spelled(c: char, way: u8) -> String {
        match way % 6 {
            0 | 1 => c.to_string(),
            2 => c.to_uppercase().collect(),
            3 => c.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect(),
            4 => c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect(),
            _ => c.to_string().bytes().map(|byte| format!("%25{byte:02x}")).collect(),
        }
    }

    proptest! {
        #[test]
        fn spelling_characters_otherwise_never_leaves_the_room(
            below in "(/[a-z0-9._~-]{0,8}[a-z0-9]){0,4}/?",
            ways in proptest::collection::vec(any::<u8>(), 64),
        ) {
            let path = format!("bonus-600{below}");
            let spelled: String = path.chars().zip(ways).map(|(c, way)| spelled(c, way)).collect();
            let raw = format!("/{spelled}");
            prop_assert!(is_protected("/bonus-600/**", &raw), "{}", raw);
        }

        #[test]
        fn what_matches_raw_is_protected_by_the_same_pattern(raw in "/[aAbB.%25;/\\\\]{0,12}") {
            for rule in ["/a/**", "/a/b", "/a/*b", "/**"] {
                prop_assert!(!pattern(rule).matches_raw(&raw) || is_protected(rule, &raw), "{} {}", rule, raw);
                prop_assert!(!pattern(rule).matches_public(&raw) || pattern(rule).matches_raw(&raw), "{} {}", rule, raw);
            }
        }

        #[test]
        fn garbage_is_read_without_trouble(raw in "\\PC{0,80}", bytes in "[/.%\\\\;?#u0-9a-f\0]{0,80}") {
            for raw in [raw, bytes] {
                for reading in NormalPath::of(&raw).readings() {
                    prop_assert!(reading.starts_with('/'), "{} read as {}", raw, reading);
                }
                prop_assert!(owner_among(&raw, &[('z', "/**")]) != Owner::Nobody);
            }
        }
    }
}
