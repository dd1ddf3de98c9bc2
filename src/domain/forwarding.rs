//! The header rules of a gateway: which fields end at us, which never come from outside, and what we say about the
//! visitor and about ourselves (RFC 9110 section 7.6, RFC 7239). Pure functions over header maps, edited in place.
//!
//! What caches may keep is not decided here but in `leak_guard`.

use std::fmt::Write;
use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, EXPECT, FORWARDED, HOST, LOCATION, SET_COOKIE, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// Names us in `Via` (RFC 9110 section 7.6.3).
pub const PSEUDONYM: &str = "anticamera";

static VIA_1_0: HeaderValue = HeaderValue::from_static("1.0 anticamera");
static VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 anticamera");
static VIA_2: HeaderValue = HeaderValue::from_static("2 anticamera");
static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
static CONNECTION_TE: HeaderValue = HeaderValue::from_static("te");
static CONNECTION_UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
static PROTO_HTTP: HeaderValue = HeaderValue::from_static("http");
static PROTO_HTTPS: HeaderValue = HeaderValue::from_static("https");

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How the visitor speaks to the outermost proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS, ended here or at a trusted proxy.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Whose statements about the client are believed: the peer's in one header, or nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The peer is a stranger: what it says about clients is thrown away.
    Nobody,
    /// The peer is a trusted proxy that writes `X-Forwarded-For`; a `Forwarded` it passes on is not its own.
    XForwardedFor,
    /// The peer is a trusted proxy that writes `Forwarded`; an `X-Forwarded-For` it passes on is not its own.
    Forwarded,
}

/// What is told to the portal about who asks.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The client's address, as decided by the gateway.
    pub client: IpAddr,
    /// The other end of the connection to us: the client itself, or the nearest proxy.
    pub peer: IpAddr,
    /// Whether that proxy is believed.
    pub trust: Trust,
    /// How the visitor's side is reached.
    pub scheme: Scheme,
    /// The authority that the visitor asked for, `host[:port]`; empty when there was none (HTTP/1.0).
    pub host: &'a HeaderValue,
}

/// One of the portal's own addresses, as it may appear in what it answers.
#[derive(Clone, Copy, Debug)]
pub struct PortalAddress<'a> {
    /// Host name or IP address, IPv6 without brackets.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
}

/// Whether a request asks to leave HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// It does not, or asks for a protocol that is not passed on.
    None,
    /// It asks for a WebSocket (RFC 6455).
    WebSocket,
}

/// Reads whether a request asks for a WebSocket: a `GET` of HTTP/1.1 with both fields (RFC 6455 section 4.1).
///
/// Every other upgrade is dropped and the request goes on as plain HTTP, as RFC 9110 section 7.8 allows: `h2c` above
/// all would open a way past every rule here.
pub fn wanted_upgrade(method: &Method, version: Version, headers: &HeaderMap) -> Upgrade {
    let asked = method == Method::GET
        && version == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && names_websocket(headers);
    if asked { Upgrade::WebSocket } else { Upgrade::None }
}

/// Whether a head speaks of a WebSocket, in however few of the fields that one needs.
pub fn names_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// Whether the portal's 101 agrees to what was asked for.
pub fn upgrade_agreed(asked: Upgrade, headers: &HeaderMap) -> bool {
    asked == Upgrade::WebSocket && names_websocket(headers)
}

/// Whether a request says of its body's framing anything but one plain `chunked`: programs read such heads differently
/// (RFC 9112 section 6.1).
pub fn is_oddly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).into_iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(one), None) => !one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
}

/// Joins the cookies of a request that came over HTTP/2, where each may have a line of its own, into the one line of
/// HTTP/1.1 (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).into_iter();
    if lines.nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    // What came as header values is one with a semicolon and a blank between them, too.
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

/// Takes out of a request what ends at us and what nobody outside may say (RFC 9110 section 7.6.1).
///
/// `TE: trailers` is the one hop-by-hop statement that is made anew, since trailers are passed on (section 10.1.4).
pub fn strip_request(headers: &mut HeaderMap, trust: Trust) {
    let trailers = has_token(headers, &TE, "trailers");
    remove_nominated(headers);
    let doomed: Vec<HeaderName> =
        headers.keys().filter(|name| ends_here_or_forged(name.as_str(), trust)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, TRAILERS.clone());
        headers.insert(CONNECTION, CONNECTION_TE.clone());
    }
}

/// Asks the portal for the upgrade that the visitor asked us for.
pub fn ask_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, CONNECTION_UPGRADE.clone());
    headers.insert(UPGRADE, WEBSOCKET.clone());
}

/// Takes out of an answer what ends at us (RFC 9110 section 7.6.1) and makes its framing unambiguous: with
/// `Transfer-Encoding` a `Content-Length` says nothing (RFC 9112 section 6.3).
pub fn strip_response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_nominated(headers);
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Takes out of a request's trailers whatever a portal that merges them with the head would act upon
/// (RFC 9110 section 6.5.1).
pub fn strip_trailers(headers: &mut HeaderMap) {
    let unfit = |name: &str| {
        ends_here_or_forged(name, Trust::Nobody)
            || is_framing(name)
            || matches!(name, "authorization" | "cookie" | "set-cookie" | "forwarded" | "via" | "trailer")
            || name.starts_with("x-forwarded-")
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| unfit(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Adds us to `Via`, with the version in which the message came to us (RFC 9110 section 7.6.3).
pub fn append_via(headers: &mut HeaderMap, received: Version) {
    let line = match received {
        Version::HTTP_09 | Version::HTTP_10 => &VIA_1_0,
        Version::HTTP_2 => &VIA_2,
        _ => &VIA_1_1,
    };
    headers.append(VIA, line.clone());
}

/// Tells the portal who asks: `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239). What a trusted proxy
/// wrote in its one header is continued, everything else is replaced.
pub fn describe_visitor(headers: &mut HeaderMap, visitor: &Visitor<'_>) {
    let mut text = BytesMut::with_capacity(160);
    write_forwarded_for(&mut text, headers, visitor);
    let forwarded_for = text.split();
    write_forwarded(&mut text, headers, visitor);
    insert_text(headers, &X_FORWARDED_FOR, forwarded_for);
    insert_text(headers, &FORWARDED, text);
    let proto = match visitor.scheme {
        Scheme::Http => &PROTO_HTTP,
        Scheme::Https => &PROTO_HTTPS,
    };
    headers.insert(&X_FORWARDED_PROTO, proto.clone());
    if visitor.host.is_empty() {
        headers.remove(&X_FORWARDED_HOST);
    } else {
        headers.insert(&X_FORWARDED_HOST, visitor.host.clone());
    }
}

/// Rewrites `Location`, `Content-Location` and the `Domain` of cookies where they name the portal's own address, so
/// that the visitor is never sent around us.
pub fn rewrite_addresses<'a>(
    headers: &mut HeaderMap,
    portal: impl Iterator<Item = PortalAddress<'a>> + Clone,
    visitor: &Visitor<'_>,
) {
    let Ok(host) = visitor.host.to_str() else { return };
    if host.is_empty() {
        return;
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        let Some(value) = headers.get_mut(&name) else { continue };
        let rewritten = value.to_str().ok().and_then(|target| rewritten_target(target, &portal, visitor.scheme, host));
        if let Some(rewritten) = rewritten.and_then(|text| HeaderValue::try_from(text).ok()) {
            *value = rewritten;
        }
    }
    if let http::header::Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
        for cookie in cookies.iter_mut() {
            let rewritten = cookie.to_str().ok().and_then(|text| rewritten_cookie(text, &portal, host));
            if let Some(rewritten) = rewritten.and_then(|text| HeaderValue::try_from(text).ok()) {
                *cookie = rewritten;
            }
        }
    }
}

fn rewritten_target<'a>(
    target: &str,
    portal: &(impl Iterator<Item = PortalAddress<'a>> + Clone),
    scheme: Scheme,
    host: &str,
) -> Option<String> {
    let (default_port, rest) = if let Some(rest) = strip_prefix_ignoring_case(target, "http://") {
        (80, rest)
    } else if let Some(rest) = strip_prefix_ignoring_case(target, "https://") {
        (443, rest)
    } else {
        (80, target.strip_prefix("//")?)
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (name, port) = host_and_port(authority, default_port)?;
    portal
        .clone()
        .any(|own| own.port == port && own.host.eq_ignore_ascii_case(name))
        .then(|| format!("{}://{host}{tail}", scheme.as_str()))
}

/// Replaces a `Domain` attribute (RFC 6265 section 4.1.2.3) that names the portal's own host.
fn rewritten_cookie<'a>(
    cookie: &str,
    portal: &(impl Iterator<Item = PortalAddress<'a>> + Clone),
    host: &str,
) -> Option<String> {
    let is_foreign_domain = |attribute: &str| {
        let Some((name, value)) = attribute.split_once('=') else { return false };
        let domain = value.trim().trim_start_matches('.');
        name.trim().eq_ignore_ascii_case("domain") && portal.clone().any(|own| own.host.eq_ignore_ascii_case(domain))
    };
    let mut parts = cookie.split(';');
    let pair = parts.next()?;
    if !parts.clone().any(is_foreign_domain) {
        return None;
    }
    let (domain, _) = host_and_port(host, 80)?;
    let mut rewritten = pair.to_owned();
    for attribute in parts {
        if is_foreign_domain(attribute) {
            let _ = write!(rewritten, "; Domain={domain}");
        } else {
            rewritten.push(';');
            rewritten.push_str(attribute);
        }
    }
    Some(rewritten)
}

/// Splits `host[:port]`; an IPv6 address loses its brackets.
fn host_and_port(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return Some((host, port_or(port.strip_prefix(':'), default_port)?));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, port_or(Some(port), default_port)?)),
        None => Some((authority, default_port)),
    }
}

fn port_or(text: Option<&str>, default_port: u16) -> Option<u16> {
    match text {
        None | Some("") => Some(default_port),
        Some(text) => text.parse().ok(),
    }
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn write_forwarded_for(text: &mut BytesMut, headers: &HeaderMap, visitor: &Visitor<'_>) {
    let nearest = if visitor.trust == Trust::XForwardedFor {
        continue_list(text, headers, &X_FORWARDED_FOR);
        visitor.peer
    } else {
        visitor.client
    };
    write_address(text, nearest);
}

/// An address as text; IPv4 by hand, since formatting it costs more than all else here.
fn write_address(text: &mut BytesMut, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            write_decimal(text, first);
            for octet in rest {
                text.put_u8(b'.');
                write_decimal(text, octet);
            }
        }
        // Writing into memory cannot fail.
        IpAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

fn write_decimal(text: &mut BytesMut, octet: u8) {
    if octet >= 100 {
        text.put_u8(b'0' + octet / 100);
    }
    if octet >= 10 {
        text.put_u8(b'0' + octet / 10 % 10);
    }
    text.put_u8(b'0' + octet % 10);
}

/// One element of RFC 7239 section 4: `for=…;host=…;proto=…`.
fn write_forwarded(text: &mut BytesMut, headers: &HeaderMap, visitor: &Visitor<'_>) {
    let nearest = if visitor.trust == Trust::Forwarded {
        continue_list(text, headers, &FORWARDED);
        visitor.peer
    } else {
        visitor.client
    };
    text.put_slice(b"for=");
    match nearest.to_canonical() {
        IpAddr::V4(_) => write_address(text, nearest),
        IpAddr::V6(_) => {
            text.put_slice(b"\"[");
            write_address(text, nearest);
            text.put_slice(b"]\"");
        }
    }
    let host = visitor.host.as_bytes();
    if !host.is_empty() && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte)) {
        text.put_slice(b";host=\"");
        text.put_slice(host);
        text.put_slice(b"\"");
    }
    text.put_slice(b";proto=");
    text.put_slice(visitor.scheme.as_str().as_bytes());
}

fn continue_list(text: &mut BytesMut, headers: &HeaderMap, name: &HeaderName) {
    for value in headers.get_all(name) {
        text.put_slice(value.as_bytes());
        text.put_slice(b", ");
    }
}

fn insert_text(headers: &mut HeaderMap, name: &HeaderName, text: BytesMut) {
    match HeaderValue::from_maybe_shared(text.freeze()) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}

/// Whether a comma-separated field has an element, ignoring case and parameters.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|element| element.split(';').next().is_some_and(|element| element.trim().eq_ignore_ascii_case(token)))
}

/// Removes the fields that `Connection` names, as far as they can be meant for us alone.
fn remove_nominated(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| !matches!(*option, "" | "keep-alive" | "close" | "upgrade" | "Upgrade" | "Keep-Alive"))
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        .filter(|name| !is_for_everybody(name.as_str()))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// Fields that are meant for all recipients and that `Connection` must not name (RFC 9110 section 7.6.1): otherwise a
/// client could make us drop what identifies it, frames its message or describes it.
fn is_for_everybody(name: &str) -> bool {
    const PREFIXES: [&str; 9] =
        ["accept", "access-control-", "content-", "if-", "sec-", "waiting-room-", "x-forwarded-", "www-", "x-accel-"];
    matches!(
        name,
        "age"
            | "allow"
            | "authorization"
            | "cache-control"
            | "clear-site-data"
            | "cookie"
            | "date"
            | "etag"
            | "expires"
            | "forwarded"
            | "host"
            | "last-modified"
            | "link"
            | "location"
            | "origin"
            | "pragma"
            | "range"
            | "referer"
            | "refresh"
            | "retry-after"
            | "server"
            | "set-cookie"
            | "strict-transport-security"
            | "traceparent"
            | "tracestate"
            | "trailer"
            | "user-agent"
            | "vary"
            | "via"
            | "x-content-type-options"
            | "x-frame-options"
            | "x-real-ip"
            | "x-request-id"
            | "x-requested-with"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn ends_here_or_forged(name: &str, trust: Trust) -> bool {
    is_hop_by_hop(name)
        || name == EXPECT.as_str()
        || is_forged(name, trust)
        || (name.contains('_') && is_disguised(name, trust))
}

/// RFC 9110 section 7.6.1, and what older proxies and clients use in its place. `Proxy` is no field at all, but CGI
/// programs take it for `HTTP_PROXY`.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(name, "connection" | "keep-alive" | "te" | "transfer-encoding" | "upgrade" | "http2-settings" | "proxy")
        || name.starts_with("proxy-")
}

/// What nobody outside may say: other targets and methods than the ones that were judged, our own fields, and (unless
/// a trusted proxy says it) whose certificate, name or address somebody has.
fn is_forged(name: &str, trust: Trust) -> bool {
    let overrides = matches!(
        name,
        "x-original-url"
            | "x-original-uri"
            | "x-rewrite-url"
            | "x-override-url"
            | "x-original-host"
            | "x-host"
            | "x-http-host-override"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
    );
    overrides || name.starts_with("waiting-room-") || (trust == Trust::Nobody && is_statement_of_a_proxy(name))
}

/// Whether a header says who asks: a certificate, or a user whom a proxy in front of us signed in. The names are those that
/// gateways write (oauth2-proxy, Envoy, Traefik, the large clouds, `WebSEAL`, `SiteMinder`, Oracle's, Grafana's).
fn names_a_person(name: &str) -> bool {
    const OF_X: [&str; 15] = [
        "x-client-cert",
        "x-tls-client-",
        "x-amzn-mtls-",
        "x-amzn-oidc-",
        "x-auth-request-",
        "x-authenticated-",
        "x-arr-clientcert",
        "x-ssl-",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-forwarded-preferred-username",
        "x-goog-authenticated-user-",
        "x-ms-client-principal",
        "x-webauth-",
    ];
    // By the first letter: every header of every request is asked about.
    match name.as_bytes().first() {
        Some(b'c') => name.starts_with("client-cert") || name.starts_with("cf-access-"),
        Some(b'i') => matches!(name, "iv-user" | "iv-user-l" | "iv-groups" | "iv-creds"),
        Some(b'o') => matches!(name, "oam-remote-user" | "oidc-claim-sub"),
        Some(b'r') => name == "remote-user",
        Some(b's') => name.starts_with("ssl-client-") || matches!(name, "sm-user" | "sm-userdn"),
        Some(b'x') => {
            matches!(
                name,
                "x-remote-user"
                    | "x-client-dn"
                    | "x-client-verify"
                    | "x-forwarded-access-token"
                    | "x-forwarded-client-cert"
                    | "x-forwarded-tls-client-cert"
                    | "x-forwarded-tls-client-cert-info"
                    | "x-goog-iap-jwt-assertion"
            ) || OF_X.iter().any(|prefix| name.starts_with(prefix))
        }
        _ => false,
    }
}

/// The same where `_` stands for `-`, as CGI, WSGI and many frameworks read it.
pub fn names_a_person_in_any_spelling(name: &str) -> bool {
    names_a_person(name) || (name.contains('_') && names_a_person(&name.replace('_', "-")))
}

/// Statements that only a proxy in front of us can make.
fn is_statement_of_a_proxy(name: &str) -> bool {
    matches!(
        name,
        "cf-connecting-ip"
            | "fastly-client-ip"
            | "forwarded"
            | "front-end-https"
            | "true-client-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-original-forwarded-for"
            | "x-original-remote-addr"
            | "x-real-ip"
            | "x-remote-addr"
            | "x-remote-ip"
            | "x-url-scheme"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("x-arr-")
        || names_a_person(name)
}

fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "transfer-encoding" | "host" | "trailer" | "content-encoding" | "content-type")
}

/// CGI, WSGI and many frameworks make no difference between `-` and `_`: a name with underscores must not pass for
/// one that we write, frame or judge by.
fn is_disguised(name: &str, trust: Trust) -> bool {
    let mut plain = [0; 48];
    let Some(plain) = plain.get_mut(..name.len()) else { return false };
    plain.copy_from_slice(name.as_bytes());
    for byte in plain.iter_mut().filter(|byte| **byte == b'_') {
        *byte = b'-';
    }
    let Ok(plain) = std::str::from_utf8(plain) else { return true };
    is_hop_by_hop(plain)
        || is_forged(plain, trust)
        || is_statement_of_a_proxy(plain)
        || is_framing(plain)
        || [COOKIE.as_str(), HOST.as_str(), EXPECT.as_str(), VIA.as_str(), "authorization", "x-request-id"]
            .contains(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn visitor(host: &HeaderValue, trust: Trust) -> Visitor<'_> {
        Visitor {
            client: "203.0.113.9".parse().unwrap(),
            peer: "10.0.0.1".parse().unwrap(),
            trust,
            scheme: Scheme::Https,
            host,
        }
    }

    #[test]
    fn cookies_of_http_2_become_one_line() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        for crumb in ["a=1", "b=2; c=3", "d=\u{e8}"] {
            headers.append(COOKIE, HeaderValue::from_bytes(crumb.as_bytes()).unwrap());
        }
        join_cookies(&mut headers);
        let lines: Vec<&[u8]> = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(lines, ["a=1; b=2; c=3; d=\u{e8}".as_bytes()]);
    }

    #[test]
    fn addresses_are_written_as_everywhere_else() {
        let written = |address: IpAddr| {
            let mut text = BytesMut::new();
            write_address(&mut text, address);
            String::from_utf8(text.to_vec()).unwrap()
        };
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 255 - octet, octet / 3, 0]);
            assert_eq!(written(address), address.to_string());
        }
        assert_eq!(written("2001:db8::1".parse().unwrap()), "2001:db8::1");
        assert_eq!(written("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("proxy", "http://evil"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("expect", "100-continue"),
            ("x-hop", "1"),
            ("x-end", "1"),
            ("upgrade-insecure-requests", "1"),
        ]);
        strip_request(&mut headers, Trust::Nobody);
        assert_eq!(names(&headers), ["upgrade-insecure-requests", "x-end"]);
    }

    #[test]
    fn connection_cannot_name_what_is_meant_for_everybody() {
        let kept = ["host", "cookie", "authorization", "content-length", "cache-control", "x-request-id", "if-match"];
        let mut headers = map(&[("connection", &kept.join(", ")), ("connection", "X-Forwarded-For")]);
        for name in kept {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        strip_request(&mut headers, Trust::XForwardedFor);
        for name in kept.iter().chain(&["x-forwarded-for"]) {
            assert!(headers.contains_key(*name), "{name}");
        }
        assert!(!headers.contains_key("connection"));
    }

    #[test]
    fn trailers_are_asked_for_anew() {
        let mut headers = map(&[("te", "gzip;q=0.5, trailers"), ("connection", "TE")]);
        strip_request(&mut headers, Trust::Nobody);
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["connection"], "te");
    }

    #[test]
    fn nobody_outside_forges() {
        let forged = [
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "client-cert",
            "client-cert-chain",
            "x-ssl-client-verify",
            "x-client-cert",
            "waiting-room-pass",
            "x-real-ip",
            "x-forwarded-port",
            "x_forwarded_for",
            "content_length",
            "transfer_encoding",
            "waiting_room_identity",
            "x-forwarded_host",
            "host_",
        ];
        let mut headers = HeaderMap::new();
        for name in forged {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        strip_request(&mut headers, Trust::Nobody);
        assert_eq!(names(&headers), ["host_"]);
    }

    #[test]
    fn a_trusted_proxy_may_speak_of_certificates_but_not_of_other_targets() {
        let mut headers = map(&[("client-cert", ":x:"), ("x-forwarded-port", "443"), ("x-original-url", "/admin")]);
        strip_request(&mut headers, Trust::XForwardedFor);
        assert_eq!(names(&headers), ["client-cert", "x-forwarded-port"]);
    }

    #[test]
    fn harmless_underscores_stay() {
        let mut headers = map(&[("x_custom", "1"), ("session_id", "2")]);
        strip_request(&mut headers, Trust::Nobody);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn strangers_are_described_from_scratch() {
        let host = HeaderValue::from_static("portal.example:8443");
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")]);
        let mut stranger = visitor(&host, Trust::Nobody);
        stranger.peer = stranger.client;
        describe_visitor(&mut headers, &stranger);
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "portal.example:8443");
        assert_eq!(headers["forwarded"], "for=203.0.113.9;host=\"portal.example:8443\";proto=https");
    }

    #[test]
    fn a_trusted_list_is_continued_and_the_other_replaced() {
        let host = HeaderValue::from_static("portal.example");
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.0.0.7"), ("forwarded", "for=6.6.6.6")];
        let mut headers = map(&lines);
        describe_visitor(&mut headers, &visitor(&host, Trust::XForwardedFor));
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 10.0.0.7, 10.0.0.1");
        assert_eq!(headers["forwarded"], "for=203.0.113.9;host=\"portal.example\";proto=https");
        let mut headers = map(&lines);
        describe_visitor(&mut headers, &visitor(&host, Trust::Forwarded));
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9");
        assert_eq!(headers["forwarded"], "for=6.6.6.6, for=10.0.0.1;host=\"portal.example\";proto=https");
    }

    #[test]
    fn ipv6_is_written_as_each_field_wants_it() {
        let host = HeaderValue::from_static("");
        let mut headers = HeaderMap::new();
        let mut stranger = visitor(&host, Trust::Nobody);
        stranger.client = "2001:db8::1".parse().unwrap();
        describe_visitor(&mut headers, &stranger);
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";proto=https");
        assert!(!headers.contains_key("x-forwarded-host"));
    }

    #[test]
    fn only_websockets_leave_http() {
        let asks = |value: &str| map(&[("connection", "keep-alive, Upgrade"), ("upgrade", value)]);
        let wanted = |headers: &HeaderMap| wanted_upgrade(&Method::GET, Version::HTTP_11, headers);
        assert_eq!(wanted(&asks("websocket")), Upgrade::WebSocket);
        assert_eq!(wanted(&asks("WebSocket")), Upgrade::WebSocket);
        assert_eq!(wanted(&asks("h2c")), Upgrade::None);
        assert_eq!(wanted(&map(&[("upgrade", "websocket")])), Upgrade::None);
        assert_eq!(wanted_upgrade(&Method::POST, Version::HTTP_11, &asks("websocket")), Upgrade::None);
        assert_eq!(wanted_upgrade(&Method::GET, Version::HTTP_10, &asks("websocket")), Upgrade::None);
    }

    #[test]
    fn a_length_beside_an_encoding_says_nothing() {
        let mut headers = map(&[("transfer-encoding", "chunked"), ("content-length", "5"), ("server", "x")]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["server"]);
    }

    #[test]
    fn the_portals_own_address_is_rewritten_and_no_other() {
        let host = HeaderValue::from_static("portal.example");
        let own = [PortalAddress { host: "tomcat.internal", port: 8080 }, PortalAddress { host: "::1", port: 80 }];
        for (given, expected) in [
            ("http://tomcat.internal:8080/a?b#c", "https://portal.example/a?b#c"),
            ("HTTP://Tomcat.Internal:8080", "https://portal.example"),
            ("//tomcat.internal:8080/x", "https://portal.example/x"),
            ("http://[::1]/x", "https://portal.example/x"),
            ("http://tomcat.internal/x", "http://tomcat.internal/x"),
            ("http://tomcat.internal:8080.evil.example/", "http://tomcat.internal:8080.evil.example/"),
            ("http://tomcat.internal:8080@evil.example/", "http://tomcat.internal:8080@evil.example/"),
            ("/relative", "/relative"),
            ("https://login.example/", "https://login.example/"),
        ] {
            let mut headers = map(&[("location", given), ("content-location", given)]);
            rewrite_addresses(&mut headers, own.iter().copied(), &visitor(&host, Trust::Nobody));
            assert_eq!(headers["location"], expected);
            assert_eq!(headers["content-location"], expected);
        }
    }

    #[test]
    fn cookie_domains_of_the_portal_become_the_visitors_host() {
        let host = HeaderValue::from_static("portal.example:8443");
        let own = [PortalAddress { host: "tomcat.internal", port: 8080 }];
        let mut headers = map(&[
            ("set-cookie", "a=1; Path=/; domain=.tomcat.internal; HttpOnly"),
            ("set-cookie", "b=2; Domain=other.example"),
            ("set-cookie", "domain=tomcat.internal"),
        ]);
        rewrite_addresses(&mut headers, own.iter().copied(), &visitor(&host, Trust::Nobody));
        let cookies: Vec<&str> = headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(
            cookies,
            ["a=1; Path=/; Domain=portal.example; HttpOnly", "b=2; Domain=other.example", "domain=tomcat.internal"]
        );
    }

    #[test]
    fn trailers_cannot_frame_or_describe() {
        let mut headers = map(&[
            ("x-checksum", "1"),
            ("content-length", "9"),
            ("x-forwarded-for", "1.1.1.1"),
            ("cookie", "a"),
            ("waiting-room-pass", "x"),
        ]);
        strip_trailers(&mut headers);
        assert_eq!(names(&headers), ["x-checksum"]);
    }

    proptest! {
        /// Whatever a stranger sends, nothing that ends here or that only we may say reaches the portal.
        #[test]
        fn nothing_forbidden_survives(lines in proptest::collection::vec(("[a-z_-]{1,20}", "[ -~]{0,20}"), 0..12)) {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), value.parse::<HeaderValue>()) {
                    headers.append(name, value);
                }
            }
            headers.append("connection", HeaderValue::from_static("close, x-a"));
            strip_request(&mut headers, Trust::Nobody);
            for name in headers.keys() {
                let te = matches!(name.as_str(), "te" | "connection");
                prop_assert!(te || !ends_here_or_forged(name.as_str(), Trust::Nobody), "{}", name);
            }
        }

        /// Rewriting an address never fails and never leaves the portal's own authority in place.
        #[test]
        fn targets_are_rewritten_or_left(target in "\\PC{0,40}") {
            let own = [PortalAddress { host: "p", port: 1 }];
            if let Some(rewritten) = rewritten_target(&target, &own.iter().copied(), Scheme::Http, "v") {
                prop_assert!(rewritten.starts_with("http://v"));
            }
        }
    }
}
