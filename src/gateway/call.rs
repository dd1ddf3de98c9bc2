//! One request as the gateway sees it: who asks, for what, in which language, over which channel.

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version};

use super::connection::Connection;
use super::errors::Refusal;
use super::snapshot::Snapshot;
use crate::config;
use crate::domain::admission::{Asking, Effect};
use crate::domain::client::{Client, client_address};
use crate::domain::cookie::{self, Channel};
use crate::domain::forwarding::{Scheme, Trust, Visitor, is_oddly_framed};
use crate::domain::negotiation::{Audience, Provenance, audience, is_prefetch, is_preflight, provenance};
use crate::domain::paths::host_of;
use crate::domain::time::Now;
use crate::waiting_room::catalogue::Catalogue;
use crate::waiting_room::encoding::Coding;
use crate::waiting_room::language::{Asked, LANGUAGE_COOKIE};

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a request id from outside that are believed at most.
const LONGEST_REQUEST_ID: usize = 128;

/// A request's circumstances.
#[derive(Clone, Debug)]
pub struct Call {
    /// The configuration and rooms for this request.
    pub snapshot: Arc<Snapshot>,
    /// The one instant of this request.
    pub now: Now,
    /// The method.
    pub method: Method,
    /// The target, as it came.
    pub uri: Uri,
    /// The client behind trusted proxies.
    pub client: Client,
    /// The connection it came over.
    pub connection: Arc<Connection>,
    /// How the visitor's side is reached.
    pub channel: Channel,
    /// The authority asked for; empty in HTTP/1.0 without Host.
    pub host: HeaderValue,
    /// The host without port, in lower case.
    pub host_name: String,
    /// The request's id.
    pub request_id: HeaderValue,
}

impl Call {
    /// Gathers the circumstances.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] when the request has no host, or several (RFC 9112 section 3.2), or an odd framing;
    /// [`Refusal::Misdirected`] when its host is not one that the connection was opened for;
    /// [`Refusal::CookiesTooLarge`] and [`Refusal::HeadTooLarge`] beyond the limits.
    pub fn of<B>(
        request: &http::Request<B>,
        snapshot: Arc<Snapshot>,
        connection: &Arc<Connection>,
        now: Now,
        fresh_id: impl FnOnce() -> HeaderValue,
    ) -> Result<Call, (Box<Call>, Refusal)> {
        let server = &snapshot.config.server;
        let headers = request.headers();
        let client = client(connection, server, headers);
        let public_https = server.public_url.as_ref().is_some_and(|url| url.https);
        let is_secure = client.https || public_https || ends_here(connection, client, headers);
        let channel = if is_secure { Channel::Secure } else { Channel::Plain };
        let host = host(request);
        let call = |host: HeaderValue| Call {
            host_name: host_of(host.to_str().unwrap_or_default()).to_ascii_lowercase(),
            snapshot: snapshot.clone(),
            now,
            method: request.method().clone(),
            uri: request.uri().clone(),
            client,
            connection: connection.clone(),
            channel,
            host,
            request_id: given_id(headers).unwrap_or_else(fresh_id),
        };
        let call = match host {
            Ok(host) => call(host),
            Err(refusal) => return Err((Box::new(call(HeaderValue::from_static(""))), refusal)),
        };
        match call.refused_at_once(request) {
            None => Ok(call),
            Some(refusal) => Err((Box::new(call), refusal)),
        }
    }

    /// Why it is refused whatever it asks for.
    fn refused_at_once<B>(&self, request: &http::Request<B>) -> Option<Refusal> {
        let (limits, headers) = (&self.snapshot.config.server.limits, request.headers());
        if !self.connection.includes(&self.host_name) {
            return Some(Refusal::Misdirected);
        }
        if is_oddly_framed(headers) {
            return Some(Refusal::BadRequest("transfer-encoding"));
        }
        // Of HTTP/1.1 the connection counts the lines itself.
        if request.version() == Version::HTTP_2 && headers.len() > limits.max_headers {
            return Some(Refusal::HeadTooLarge);
        }
        (cookie::length(headers) > limits.max_cookie_bytes).then_some(Refusal::CookiesTooLarge)
    }

    /// The same request at a later instant: its answer was held back, and what it says is true then.
    pub fn at(&self, now: Now) -> Call {
        Call { now, ..self.clone() }
    }

    /// The raw path.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// A value of the query, percent-decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        self.uri.query().and_then(|query| form_value(query, name))
    }

    /// What the rules need to know of how it asks.
    pub fn asking(&self, headers: &HeaderMap) -> Asking {
        Asking {
            audience: audience(headers),
            prefetch: is_prefetch(headers),
            preflight: is_preflight(&self.method, headers),
            provenance: self.provenance(headers),
            effect: if self.method.is_safe() { Effect::Safe } else { Effect::Unsafe },
        }
    }

    /// The same for a visitor inside. Of them the rules ask nothing but whether it is a preflight, and most requests are
    /// theirs: the rest is not found out.
    pub fn asking_inside(&self, headers: &HeaderMap) -> Asking {
        Asking {
            audience: Audience::Page,
            prefetch: false,
            preflight: is_preflight(&self.method, headers),
            provenance: Provenance::Unsaid,
            effect: if self.method.is_safe() { Effect::Safe } else { Effect::Unsafe },
        }
    }

    /// From where it was made.
    pub fn provenance(&self, headers: &HeaderMap) -> Provenance {
        let server = &self.snapshot.config.server;
        provenance(headers, self.host.to_str().unwrap_or_default(), &server.cors_origins)
    }

    /// Who it is for.
    pub fn audience(&self, headers: &HeaderMap) -> Audience {
        audience(headers)
    }

    /// The language to answer in.
    pub fn language(&self, headers: &HeaderMap) -> &Arc<Catalogue> {
        // A page of the portal may have a `lang` of its own, which chooses nothing here.
        let is_own = self.path().starts_with(&self.snapshot.config.server.own_path);
        let link = self.query("lang").filter(|_| is_own);
        self.snapshot.assets.languages().choose(Asked {
            link: link.as_deref(),
            cookie: cookie(headers, LANGUAGE_COOKIE),
            accept: text(headers.get(ACCEPT_LANGUAGE)),
        })
    }

    /// The coding to answer in.
    pub fn coding(&self, headers: &HeaderMap) -> Coding {
        Coding::accepted(text(headers.get(ACCEPT_ENCODING)))
    }

    /// What the portal is told about who asks.
    pub fn visitor(&self) -> Visitor<'_> {
        let trust = match (self.client.trusted_peer, self.snapshot.config.server.client_address) {
            (false, _) | (_, config::ClientAddressHeader::ProxyProtocol) => Trust::Nobody,
            (true, config::ClientAddressHeader::XForwardedFor) => Trust::XForwardedFor,
            (true, config::ClientAddressHeader::Forwarded) => Trust::Forwarded,
        };
        let scheme = if self.channel == Channel::Secure { Scheme::Https } else { Scheme::Http };
        Visitor { client: self.client.address, peer: self.connection.peer, trust, scheme, host: &self.host }
    }
}

/// Who asks: for whom the connection was opened, or whom the headers name that trusted proxies write.
fn client(connection: &Connection, server: &config::Server, headers: &HeaderMap) -> Client {
    match connection.for_whom {
        Some(client) => Client { address: client.address, https: client.https, trusted_peer: false },
        None => client_address(connection.peer, server.client_address, headers, &server.trusted_proxies),
    }
}

/// Whether the visitor's own TLS ends here. A trusted proxy that comes over TLS may have visitors who do not; then it
/// says so.
fn ends_here(connection: &Connection, client: Client, headers: &HeaderMap) -> bool {
    let says = || headers.contains_key(&X_FORWARDED_PROTO) || headers.contains_key(FORWARDED);
    connection.tls.is_some() && !(client.trusted_peer && says())
}

fn host<B>(request: &http::Request<B>) -> Result<HeaderValue, Refusal> {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).ok().filter(is_authority);
        // Over HTTP/2 both may be there, and must not differ (RFC 9113 section 8.3.1).
        let differs = |line: &HeaderValue| !line.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
        let is_ambiguous = request.version() == Version::HTTP_2 && request.headers().get_all(HOST).iter().any(differs);
        return host.filter(|_| !is_ambiguous).ok_or(Refusal::BadRequest("host"));
    }
    let mut lines = request.headers().get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (Some(host), None) if is_authority(host) => Ok(host.clone()),
        (None, _) if request.version() <= Version::HTTP_10 => Ok(HeaderValue::from_static("")),
        _ => Err(Refusal::BadRequest("host")),
    }
}

fn is_authority(host: &HeaderValue) -> bool {
    is_plain_authority(host.as_bytes())
        || host.to_str().is_ok_and(|text| text.parse::<http::uri::Authority>().is_ok() && !text.contains('@'))
}

/// A name or an IPv4 address, and perhaps a port: nearly every request has that, and it needs no parser.
fn is_plain_authority(host: &[u8]) -> bool {
    let mut parts = host.splitn(2, |byte| *byte == b':');
    let consists = |part: &[u8], of: fn(&u8) -> bool| !part.is_empty() && part.iter().all(of);
    parts.next().is_some_and(|name| consists(name, |byte| byte.is_ascii_alphanumeric() || b".-".contains(byte)))
        && parts.next().is_none_or(|port| consists(port, u8::is_ascii_digit))
}

fn given_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(&X_REQUEST_ID)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (id.len() <= LONGEST_REQUEST_ID && !id.is_empty() && id.as_bytes().iter().all(plain)).then(|| id.clone())
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// A value of `application/x-www-form-urlencoded` text.
pub fn form_value(text: &str, name: &str) -> Option<String> {
    text.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = ahead;
            }
            (b'+', ..) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_every_host_is_plain() {
        assert!(
            ["portal.example", "portal.example:8080", "127.0.0.1:1"]
                .iter()
                .all(|host| is_plain_authority(host.as_bytes()))
        );
        assert!(!["", "a:", "a b", "a@b", "[::1]:80"].iter().any(|host| is_plain_authority(host.as_bytes())));
    }

    proptest::proptest! {
        #[test]
        fn what_is_plain_is_an_authority(host in "[a-z0-9.:@-]{0,12}") {
            proptest::prop_assume!(is_plain_authority(host.as_bytes()));
            proptest::prop_assert!(host.parse::<http::uri::Authority>().is_ok() && !host.contains('@'));
        }
    }

    #[test]
    fn form_values_are_decoded() {
        assert_eq!(form_value("a=1&to=%2Fx%3Fy%3D1+2&b", "to").as_deref(), Some("/x?y=1 2"));
        assert_eq!(form_value("a=%zz%4", "a").as_deref(), Some("%zz%4"));
        assert_eq!(form_value("a=1", "b"), None);
    }
}
