//! Turns single values of the file into what they mean. Every refusal says what was found and what to write instead.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::Authority;
use ipnet::IpNet;
use toml::de::DeValue;

use super::fault::Wrong;
use super::resolved::{LoginHealth, PortalUrl, PublicUrl, ServedName};
use crate::domain::adaptive::Adaptive;
use crate::domain::names::{ClassName, RoomName};
use crate::domain::paths::{HostPattern, PathPattern};
use crate::domain::rate::Rate;

/// What a value means, or why it means nothing.
pub(super) type Read<T> = Result<T, Wrong>;

/// Waits for something that should come soon.
pub(super) const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);
/// How long something of a visitor's lasts.
pub(super) const LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);
/// How long something is kept that may outlast a session by far.
pub(super) const LONG_LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(10 * 366 * 24);
/// Delays that may be none.
pub(super) const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(30 * 24);

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Longest text of which a refusal repeats all.
const SHOWN_CHARACTERS: usize = 60;

/// The text in quotes, for messages: escaped and of bounded length.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// The text without control characters and of bounded length.
pub(super) fn shortened(text: &str) -> String {
    let cut = if text.chars().nth(SHOWN_CHARACTERS).is_some() { "…" } else { "" };
    let visible = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    text.chars().take(SHOWN_CHARACTERS).map(visible).chain(cut.chars()).collect()
}

/// What kind of value this is, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn text<'v>(value: &'v DeValue<'_>, remedy: &str) -> Read<&'v str> {
    value.as_str().ok_or_else(|| Wrong::new(format!("expected a text in quotes, found {}", kind(value)), remedy))
}

/// Reads a text with `parse`; whatever it refuses is answered with `remedy`.
pub(super) fn parsed<T, E: Display>(
    value: &DeValue<'_>,
    remedy: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Read<T> {
    let text = text(value, remedy)?;
    parse(text).map_err(|why| Wrong::new(format!("{}: {why}", shown(text)), remedy))
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| {
        Wrong::new(format!("expected true or false, found {}", kind(value)), "write true or false, without quotes")
    })
}

/// A whole number within bounds.
pub(super) fn whole<T>(bounds: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Read<T>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    move |value| {
        let remedy = format!("write a whole number from {} to {}, without quotes", bounds.start(), bounds.end());
        let DeValue::Integer(number) = value else {
            return Err(Wrong::new(format!("expected a whole number, found {}", kind(value)), remedy));
        };
        let read =
            u64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|number| T::try_from(number).ok());
        let in_bounds = read.filter(|number| bounds.contains(number));
        in_bounds.ok_or_else(|| Wrong::new(format!("{} is out of range", shortened(number.as_str())), remedy))
    }
}

/// One of several words.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let choice = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        let remedy = format!("write {choice}");
        let text = text(value, &remedy)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| Wrong::new(format!("{} is no such choice", shown(text)), remedy))
    }
}

/// Nothing when the text is empty, else what `convert` makes of it.
pub(super) fn unless_empty<T>(convert: impl Fn(&DeValue<'_>) -> Read<T>) -> impl Fn(&DeValue<'_>) -> Read<Option<T>> {
    move |value| if value.as_str() == Some("") { Ok(None) } else { convert(value).map(Some) }
}

/// A length of time within bounds: `"250ms"`, `"5s"`, `"20m"`, `"1h30m"`, `"2d"`.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Read<Duration> {
    move |value| {
        let (least, most) = (duration_text(*bounds.start()), duration_text(*bounds.end()));
        let remedy = format!("write a time from {least} to {most}, such as \"250ms\", \"5s\", \"20m\" or \"1h30m\"");
        let read = parsed(value, &remedy, |text| parse_duration(text).ok_or("not a time"))?;
        if bounds.contains(&read) { Ok(read) } else { Err(out_of_range(value, remedy)) }
    }
}

/// A number of bytes within bounds: `"64KiB"`.
pub(super) fn size(bounds: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Read<usize> {
    move |value| {
        let (least, most) = (size_text(*bounds.start()), size_text(*bounds.end()));
        let remedy = format!("write a size from {least} to {most}, such as \"512B\", \"64KiB\" or \"1MiB\"");
        let read = parsed(value, &remedy, |text| parse_size(text).ok_or("not a size"))?;
        let in_bounds = Some(read).filter(|read| bounds.contains(read)).and_then(|read| usize::try_from(read).ok());
        in_bounds.ok_or_else(|| out_of_range(value, remedy))
    }
}

fn out_of_range(value: &DeValue<'_>, remedy: String) -> Wrong {
    Wrong::new(format!("{} is out of range", shown(value.as_str().unwrap_or_default())), remedy)
}

const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Numbers with units, the larger unit first, each unit once.
fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut units, mut total) = (text, TIME_UNITS.iter(), 0u64);
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let (unit, after) = leading_letters(after);
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*millis)?)?;
        rest = after;
    }
    if text.is_empty() { None } else { Some(Duration::from_millis(total)) }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let unit = match unit.trim_start() {
        "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
    Some((digits.parse().ok()?, rest))
}

fn leading_letters(text: &str) -> (&str, &str) {
    text.split_at_checked(text.bytes().take_while(u8::is_ascii_alphabetic).count()).unwrap_or((text, ""))
}

fn duration_text(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let whole = TIME_UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    whole.map_or("\"0s\"".to_owned(), |(name, unit)| format!("\"{}{name}\"", millis / unit))
}

fn size_text(bytes: u64) -> String {
    let units = [("MiB", MIB), ("KiB", KIB)];
    let whole = units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or(format!("\"{bytes}B\""), |(name, unit)| format!("\"{}{name}\"", bytes / unit))
}

/// `"100/s"`
pub(super) fn rate(value: &DeValue<'_>) -> Read<Rate> {
    let remedy = "write a whole number from 1 to 1000000 and a unit, such as \"100/s\", \"6/min\" or \"500/h\"";
    parsed(value, remedy, |text| text.parse().map_err(|_| "not a rate"))
}

/// A rate, or `"unlimited"`.
pub(super) fn rate_or_unlimited(value: &DeValue<'_>) -> Read<Option<Rate>> {
    if value.as_str() == Some("unlimited") {
        return Ok(None);
    }
    rate(value).map(Some).map_err(|wrong| Wrong::new(wrong.what, format!("{}, or \"unlimited\"", wrong.remedy)))
}

/// `"127.0.0.1:8080"` or `"[::1]:8080"`
pub(super) fn socket(value: &DeValue<'_>) -> Read<SocketAddr> {
    let remedy = "write an address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"";
    parsed(value, remedy, |text| text.parse().map_err(|_| "not an address with a port"))
}

/// `"10.0.0.0/8"`, or a single address.
pub(super) fn network(value: &DeValue<'_>) -> Read<IpNet> {
    let remedy = "write a network such as \"10.0.0.0/8\" or a single address";
    let single = |text: &str| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| "not a network");
    let network = parsed(value, remedy, |text| text.parse::<IpNet>().or_else(|_| single(text)))?;
    if network == network.trunc() {
        return Ok(network);
    }
    let what = format!("{} has bits after its prefix", shown(&network.to_string()));
    Err(Wrong::new(what, format!("write \"{}\", if that network is meant", network.trunc())))
}

/// A room's name.
pub(super) fn room_name(value: &DeValue<'_>) -> Read<RoomName> {
    parsed(value, "write 1 to 32 of a-z, 0-9 and -", |text| RoomName::new(text).map_err(|_| "not a name"))
}

/// A class's name.
pub(super) fn class_name(value: &DeValue<'_>) -> Read<ClassName> {
    parsed(value, "write 1 to 32 of a-z, 0-9 and -", |text| ClassName::new(text).map_err(|_| "not a name"))
}

/// A host that a room protects.
pub(super) fn host_pattern(value: &DeValue<'_>) -> Read<HostPattern> {
    let remedy = "write a host without a port, such as \"portal.example\", \"*.portal.example\" or \"*\"";
    parsed(value, remedy, |text| HostPattern::parse(text).map_err(|_| "not a host"))
}

/// A name for which a certificate is shown.
pub(super) fn served_name(value: &DeValue<'_>) -> Read<ServedName> {
    let remedy = "write a host name without a port, such as \"portal.example\" or \"*.portal.example\"";
    parsed(value, remedy, |text| ServedName::parse(text).ok_or("not a name for a certificate"))
}

/// The name in a server's certificate.
pub(super) fn server_name(value: &DeValue<'_>) -> Read<String> {
    parsed(value, "write a host name or an address, such as \"portal.internal\"", |text| {
        let name = rustls::pki_types::ServerName::try_from(text).map_err(|_| "not a server's name")?;
        Ok::<_, &str>(name.to_str().into_owned())
    })
}

/// The value of `Strict-Transport-Security` (RFC 6797 6.1).
pub(super) fn hsts(value: &DeValue<'_>) -> Read<String> {
    let remedy = "write the header's value, such as \"max-age=31536000; includeSubDomains\"";
    parsed(value, remedy, |text| {
        let mut parts = text.split(';').map(str::trim);
        let age = parts.next().and_then(|first| first.strip_prefix("max-age="));
        let has_age = age.is_some_and(|age| !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit()));
        let known = |part: &str| matches!(part, "includeSubDomains" | "preload");
        if has_age && parts.all(known) { Ok(text.to_owned()) } else { Err("no such value") }
    })
}

/// Paths that a rule speaks of.
pub(super) fn path_pattern(value: &DeValue<'_>) -> Read<PathPattern> {
    let text = text(value, "write a path such as \"/bonus-600/**\" or \"/favicon.ico\"")?;
    // The pattern's own words say how it is written.
    PathPattern::parse(text).map_err(|why| Wrong::new(format!("{}: not a path pattern", shown(text)), why.to_string()))
}

/// Paths that are the same for everybody. Those are compared byte by byte with paths that every server reads alike, so a
/// pattern that is spelled otherwise would match nothing, and one of everything would make everything public.
pub(super) fn public_pattern(value: &DeValue<'_>) -> Read<PathPattern> {
    let pattern = path_pattern(value)?;
    let text = pattern.as_str();
    let sample = text.replace("**", "a").replace('*', "a");
    if pattern.names_nothing() {
        let page = if text.matches('/').count() > 1 { "/account/case-1" } else { "/account" };
        let what = format!("{} would match every page, such as {page}", shown(text));
        return Err(Wrong::new(what, "list only what is the same for everybody, such as \"/static/**\""));
    }
    if !pattern.matches_public(&sample) {
        let what = format!("{} matches nothing that may be public, not even {}", shown(text), shown(&sample));
        return Err(Wrong::new(what, "use letters, digits and . _ - only, and no slash at the end"));
    }
    Ok(pattern)
}

/// `true` for the one, `false` for the other.
pub(super) fn one_of_flags<T: Copy>(on: T, off: T) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| flag(value).map(|is_on| if is_on { on } else { off })
}

/// A header's name, in lower case.
pub(super) fn header_name(value: &DeValue<'_>) -> Read<String> {
    parsed(value, "write a header's name, such as \"x-cache\"", |text| {
        http::HeaderName::from_bytes(text.as_bytes())
            .map(|name| name.as_str().to_owned())
            .map_err(|_| "not a header's name")
    })
}

/// A time zone of the IANA database.
pub(super) fn time_zone(value: &DeValue<'_>) -> Read<jiff::tz::TimeZone> {
    let remedy = "write a name of the IANA time zone database, such as \"Europe/Rome\" or \"UTC\"";
    parsed(value, remedy, |text| jiff::tz::TimeZone::get(text).map_err(|_| "unknown time zone"))
}

/// A path of the file system; a relative one begins at `base`.
pub(super) fn file_path(base: &Path) -> impl Fn(&DeValue<'_>) -> Read<PathBuf> {
    move |value| {
        let remedy = "write a path; a relative one begins at the configuration file's directory";
        let path = text(value, remedy)?;
        if path.is_empty() || path.contains('\0') { Err(Wrong::new("not a path", remedy)) } else { Ok(base.join(path)) }
    }
}

/// A text without control characters.
pub(super) fn plain_text(value: &DeValue<'_>) -> Read<String> {
    parsed(value, "write a text without control characters", |text| {
        if text.chars().any(char::is_control) { Err("not a plain text") } else { Ok(text.to_owned()) }
    })
}

/// The address of a Valkey or Redis server. Secrets come from files.
pub(super) fn store_url(value: &DeValue<'_>) -> Read<String> {
    let remedy = "write \"redis://\", or for TLS \"rediss://\", a host and a port, such as \"redis://127.0.0.1:6379\"";
    let url = parsed(value, remedy, |text| {
        let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
        let rest = rest.ok_or("not an address of a store")?;
        if rest.is_empty() || rest.contains(|letter: char| letter.is_control() || " ?#".contains(letter)) {
            return Err("not an address of a store");
        }
        Ok(text.to_owned())
    })?;
    if url.contains('@') {
        let remedy = "write the name into store.user and the password into a file that store.password_file names";
        return Err(Wrong::new("a user or password in the address".to_owned(), remedy));
    }
    Ok(url)
}

/// What the keys of a store begin with.
pub(super) fn key_prefix(value: &DeValue<'_>) -> Read<String> {
    parsed(value, "write 1 to 64 letters, digits, and any of : . _ -", |text| {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || ":._-".contains(letter);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) { Ok(text.to_owned()) } else { Err("no prefix") }
    })
}

/// The name of a cookie (RFC 6265 4.1.1: a token).
pub(super) fn cookie_name(value: &DeValue<'_>) -> Read<String> {
    parsed(value, "write a cookie's name, such as \"ROUTEID\"", |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_token = !text.is_empty() && text.bytes().all(allowed);
        if is_token { Ok(text.to_owned()) } else { Err("not a cookie's name") }
    })
}

/// A host name or address without a port, in lower case.
pub(super) fn host_name(value: &DeValue<'_>) -> Read<String> {
    parsed(value, "write a host name without scheme and port, such as \"metrics.example\"", |text| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if is_host(bare) { Ok(bare.to_ascii_lowercase()) } else { Err("not a host name") }
    })
}

fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let named = !text.is_empty() && text.len() <= 253 && text.bytes().all(plain);
    named || text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// `public_url`: scheme and authority.
pub(super) fn public_url(value: &DeValue<'_>) -> Read<PublicUrl> {
    let remedy = "write scheme and host, such as \"https://portal.example\"";
    let origin = parsed(value, remedy, |text| Origin::parse(text).ok_or("not an address of a site"))?;
    Ok(PublicUrl { https: origin.https, authority: origin.authority.to_ascii_lowercase() })
}

impl PublicUrl {
    /// Reads scheme and authority, such as `http://portal.example`.
    pub fn parse(text: &str) -> Option<PublicUrl> {
        let origin = Origin::parse(text)?;
        Some(PublicUrl { https: origin.https, authority: origin.authority.to_ascii_lowercase() })
    }
}

/// An origin as browsers send it (RFC 6454 6.2), in lower case.
pub(super) fn origin(value: &DeValue<'_>) -> Read<String> {
    let remedy = "write scheme and host, such as \"https://app.example\"";
    let origin = parsed(value, remedy, |text| Origin::parse(text).ok_or("not an origin"))?;
    Ok(origin.serialized())
}

/// One address of the portal.
pub(super) fn portal_url(value: &DeValue<'_>) -> Read<PortalUrl> {
    let remedy = "write http or https, host and port without a path, such as \"http://127.0.0.1:9000\"";
    let origin = parsed(value, remedy, |text| Origin::parse(text).ok_or("not an address of a portal"))?;
    let port = origin.port.unwrap_or(if origin.https { 443 } else { 80 });
    Ok(PortalUrl { https: origin.https, host: origin.host, port, authority: origin.authority })
}

/// An address of a login provider: scheme, host and, for the question, a path.
pub(super) fn login_health(value: &DeValue<'_>) -> Read<LoginHealth> {
    let remedy = "write an address such as \"https://login.example/health\"";
    parsed(value, remedy, |text| {
        let uri: http::Uri = text.parse().map_err(|_| "not an address")?;
        let origin = text.split_once("://").and_then(|(scheme, rest)| {
            let authority = rest.split(['/', '?', '#']).next()?;
            Origin::parse(&format!("{scheme}://{authority}"))
        });
        let origin = origin.ok_or("not an address over http or https")?;
        let port = origin.port.unwrap_or(if origin.https { 443 } else { 80 });
        let at = PortalUrl { https: origin.https, host: origin.host, port, authority: origin.authority };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok::<_, &str>(LoginHealth { at, path })
    })
}

/// `{ floor = "20/s", target_p95 = "800ms" }`
pub(super) fn adaptive(value: &DeValue<'_>) -> Read<Adaptive> {
    let remedy = "write { floor = \"20/s\", target_p95 = \"800ms\" }";
    let wrong = |what: String| Wrong::new(what, remedy);
    let table = value.as_table().ok_or_else(|| wrong(format!("expected a table, found {}", kind(value))))?;
    if let Some(unknown) = table.keys().find(|key| !["floor", "target_p95"].contains(&key.get_ref().as_ref())) {
        return Err(wrong(format!("unknown key {}", shown(unknown.get_ref()))));
    }
    let member = |name: &str| table.get(name).ok_or_else(|| wrong(format!("{name} is missing")));
    Ok(Adaptive { floor: rate(member("floor")?.get_ref())?, target: duration(WAIT)(member("target_p95")?.get_ref())? })
}

/// `scheme://host[:port]`, taken apart.
struct Origin {
    https: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: Option<u16>,
    /// As written.
    authority: String,
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, rest) = text.split_once("://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority: Authority = rest.strip_suffix('/').unwrap_or(rest).parse().ok()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().filter(|&port| port != 0);
        // Whatever is left over besides host and port (a user, an impossible port) is refused.
        let whole = port.map_or(authority.host().to_owned(), |port| format!("{}:{port}", authority.host()));
        let plain = whole == authority.as_str() && is_host(&host);
        plain.then_some(Origin { https, host, port, authority: whole })
    }

    /// In lower case and without the scheme's own port, as a browser writes it.
    fn serialized(&self) -> String {
        let (scheme, own_port) = if self.https { ("https", 443) } else { ("http", 80) };
        let bare = self.authority.strip_suffix(&format!(":{own_port}")).unwrap_or(&self.authority);
        format!("{scheme}://{}", bare.to_ascii_lowercase())
    }
}

/// The prefix of our own paths.
pub(super) fn own_path(value: &DeValue<'_>) -> Read<String> {
    let remedy = "write a path such as \"/.waiting-room\": a slash, then letters, digits and . - _ ~, none at the end";
    parsed(value, remedy, |text| {
        let segments = text.strip_prefix('/').unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte);
        let segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
        let good = text.len() <= 64 && segments.split('/').all(segment);
        if good { Ok(text.to_owned()) } else { Err("not a prefix of paths") }
    })
}

/// A path, and perhaps a query, of the visitors' own site: what a redirect may safely go to.
pub(super) fn same_origin_path(value: &DeValue<'_>) -> Read<String> {
    let remedy = "write a path of the portal, such as \"/bonus-600/\"";
    parsed(value, remedy, |text| {
        // "//host" and "/\host" lead browsers to another site.
        let elsewhere = text.starts_with("//") || text.contains('\\');
        let clean = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#');
        let good = text.starts_with('/') && !elsewhere && clean;
        if good { Ok(text.to_owned()) } else { Err("not a path of the same site") }
    })
}

/// The status of the waiting page.
pub(super) fn page_status(value: &DeValue<'_>) -> Read<u16> {
    let remedy = "write 200, 202, 429 or 503";
    let status = whole(0..=u16::MAX)(value).map_err(|wrong| Wrong::new(wrong.what, remedy))?;
    if [200, 202, 429, 503].contains(&status) {
        return Ok(status);
    }
    Err(Wrong::new(format!("{status} is no status for a waiting page"), remedy))
}
