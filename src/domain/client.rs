//! Who is at the other end: the client's address, as far as it can be believed.
//!
//! Anybody can write `X-Forwarded-For`. What a proxy appended is on the right, so the list is read from the right, and
//! only as long as the one who spoke is trusted. Only one header is read, the one that the operator named.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The header from which the client's address is read, when a trusted proxy sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddressHeader {
    /// `X-Forwarded-For` (with `X-Forwarded-Proto`).
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// None: trusted proxies say it before the first request (`proxy_protocol`).
    ProxyProtocol,
}

/// The other end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The nearest address that no trusted proxy vouches for any further. IPv4 is never written as IPv6.
    pub address: IpAddr,
    /// Whether a trusted proxy says that the client came to it over TLS.
    pub https: bool,
    /// Whether the connection comes from a trusted proxy.
    pub trusted_peer: bool,
}

/// Finds the client behind the connection's peer.
///
/// Starting at the peer, each trusted address vouches for the next one to its left. An entry that is no address (RFC
/// 7239 section 6: `unknown`, an obfuscated name, garbage) ends the walk at the one who said it.
pub fn client_address(peer: IpAddr, header: ClientAddressHeader, headers: &HeaderMap, trusted: &[IpNet]) -> Client {
    let peer = peer.to_canonical();
    let alone = Client { address: peer, https: false, trusted_peer: false };
    if !is_trusted(peer, trusted) {
        return alone;
    }
    let (address, https) = match header {
        ClientAddressHeader::ProxyProtocol => return alone,
        ClientAddressHeader::XForwardedFor => by_x_forwarded_for(peer, headers, trusted),
        ClientAddressHeader::Forwarded => by_forwarded(peer, headers, trusted),
    };
    Client { address, https, trusted_peer: true }
}

/// Whether an address is in one of the networks whose statements are believed.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// Walks from the peer to the left. Says where the walk ended, and how many entries it took.
fn walk<'a>(
    peer: IpAddr,
    said_from_right: impl Iterator<Item = Option<Cow<'a, str>>>,
    trusted: &[IpNet],
) -> (IpAddr, usize) {
    let mut reached = peer;
    let mut taken = 0;
    for node in said_from_right {
        let Some(address) = node.as_deref().and_then(node_address).filter(|_| is_trusted(reached, trusted)) else {
            break;
        };
        reached = address;
        taken += 1;
    }
    (reached, taken)
}

/// The address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80` (RFC 7239 section 6).
fn node_address(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let address = match node.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(_, port)| port.is_empty() || port.starts_with(':'))?.0,
        // One colon is a port's; an IPv6 address has more.
        None => node.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(node, |(address, _)| address),
    };
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn by_x_forwarded_for(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> (IpAddr, bool) {
    const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    let addresses = entries(headers, &FOR);
    let from_right = addresses.iter().rev().map(|entry| entry.map(Cow::Borrowed));
    let (address, taken) = walk(peer, from_right, trusted);
    let protocols = entries(headers, &PROTO);
    // Proxies that append a protocol for each address are asked about this client; others say it once, and what stands
    // on the right comes from the trusted one.
    let protocol = match (protocols.len() == addresses.len(), addresses.len().checked_sub(taken)) {
        (true, Some(at)) => protocols.get(at).or(protocols.last()),
        _ => protocols.last(),
    };
    let https = protocol.copied().flatten().is_some_and(|protocol| protocol.eq_ignore_ascii_case("https"));
    (address, https)
}

/// The entries of all lines of a header, split at commas; `None` for what is no text.
fn entries<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<Option<&'h str>> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|entry| std::str::from_utf8(entry.trim_ascii()).ok())
        .collect()
}

fn by_forwarded(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> (IpAddr, bool) {
    let lines: Vec<&str> =
        headers.get_all(FORWARDED).into_iter().map(|line| line.to_str().unwrap_or_default()).collect();
    let elements: Vec<&str> = lines.iter().flat_map(|line| elements_of(line)).collect();
    let from_right = elements.iter().rev().map(|element| parameter(element, "for"));
    let (address, taken) = walk(peer, from_right, trusted);
    let said_of_client = elements.len().checked_sub(taken).and_then(|at| elements.get(at));
    let https = said_of_client
        .and_then(|element| parameter(element, "proto"))
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case("https"));
    (address, https)
}

/// The elements of a line. In a line that ends within quotes every comma counts: the client's own part must not swallow
/// what a proxy appended.
fn elements_of(line: &str) -> Vec<&str> {
    let ends_within = line.chars().fold(Quoting::Outside, Quoting::after) != Quoting::Outside;
    if ends_within { line.split(',').collect() } else { split_unquoted(line, ',').collect() }
}

/// The value of a parameter of a `Forwarded` element (RFC 7239 section 4), without its quotes.
fn parameter<'e>(element: &'e str, name: &str) -> Option<Cow<'e, str>> {
    let mut pairs = split_unquoted(element, ';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(said, _)| said.trim().eq_ignore_ascii_case(name))?;
    unquoted(value.trim())
}

/// Takes the quotes and escapes off a quoted string (RFC 9110 section 5.6.4).
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else { return Some(value.into()) };
    let inside = rest.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(inside.into());
    }
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next()? } else { c });
    }
    Some(text.into())
}

/// Splits at a separator outside quoted strings.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut within = Quoting::Outside;
    text.split(move |c| {
        let was = within;
        within = was.after(c);
        was == Quoting::Outside && c == separator
    })
}

/// Where in a quoted string one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    Outside,
    Inside,
    Escaped,
}

impl Quoting {
    fn after(self, c: char) -> Quoting {
        match (self, c) {
            (Quoting::Outside, '"') | (Quoting::Escaped, _) => Quoting::Inside,
            (Quoting::Inside, '"') => Quoting::Outside,
            (Quoting::Inside, '\\') => Quoting::Escaped,
            (here, _) => here,
        }
    }
}

/// Whom limits count as one: an IPv4 address, or the /56 that a household or office gets of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientPrefix(IpAddr);

impl ClientPrefix {
    /// The prefix an address is in.
    pub fn of(address: IpAddr) -> ClientPrefix {
        ClientPrefix(network(address.to_canonical(), 32, 56))
    }

    /// The site it is in.
    pub fn site(self) -> ClientSite {
        ClientSite(network(self.0, 24, 48))
    }

    /// Whether it is one of IPv4.
    pub fn is_ipv4(self) -> bool {
        self.0.is_ipv4()
    }

    /// Its address as sixteen bytes: IPv4 as IPv6 writes it (RFC 4291 section 2.5.5.2).
    pub fn octets(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }

    /// Whether one browser may use both: the same prefix, or one of each family, between which browsers change as they
    /// like (RFC 8305).
    pub fn may_be_one_browsers(self, other: ClientPrefix) -> bool {
        self == other || self.is_ipv4() != other.is_ipv4()
    }
}

impl std::fmt::Display for ClientPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose addresses may all be in one hand: a /24 of IPv4, or the /48 that one customer gets of IPv6 (RFC 6177). Wider than
/// a [`ClientPrefix`], for what nobody should be able to do alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientSite(IpAddr);

impl ClientSite {
    /// The site as a number that no other site has, and that is never 0.
    pub fn number(self) -> u64 {
        match self.0 {
            IpAddr::V4(address) => 1 << 32 | u64::from(address.to_bits()),
            IpAddr::V6(address) => 1 << 48 | (address.to_bits() >> 80) as u64,
        }
    }

    /// Whether it is one of IPv4.
    pub fn is_ipv4(self) -> bool {
        self.0.is_ipv4()
    }
}

/// The address as logs may show it: `192.0.2.0/24`, `2001:db8:1::/48`.
pub fn truncated(address: IpAddr) -> String {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 48 };
    format!("{}/{length}", network(address, 24, 48))
}

/// The address with all bits beyond the prefix set to zero.
fn network(address: IpAddr, v4_bits: u8, v6_bits: u8) -> IpAddr {
    let bits = if address.is_ipv4() { v4_bits } else { v6_bits };
    IpNet::new(address, bits).map_or(address, |net| net.network())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TRUSTED: &str = "10.0.0.0/8";

    proptest! {
        #[test]
        fn sites_have_numbers_of_their_own(one: IpAddr, other: IpAddr) {
            let [one, other] = [one, other].map(|address| ClientPrefix::of(address).site());
            prop_assert_eq!(one == other, one.number() == other.number());
            prop_assert_ne!(one.number(), 0);
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn client(peer: &str, header: ClientAddressHeader, lines: &[(&'static str, &str)]) -> Client {
        let trusted = [TRUSTED.parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_address(ip(peer), header, &headers(lines), &trusted)
    }

    fn by_list(list: &str) -> IpAddr {
        client("10.0.0.1", ClientAddressHeader::XForwardedFor, &[("x-forwarded-for", list)]).address
    }

    fn by_elements(list: &str) -> (IpAddr, bool) {
        let client = client("10.0.0.1", ClientAddressHeader::Forwarded, &[("forwarded", list)]);
        (client.address, client.https)
    }

    #[test]
    fn nobody_untrusted_is_believed() {
        for header in [ClientAddressHeader::XForwardedFor, ClientAddressHeader::Forwarded] {
            let lines = [
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-proto", "https"),
                ("forwarded", "for=192.0.2.1;proto=https"),
            ];
            let said = client("203.0.113.9", header, &lines);
            assert_eq!(said, Client { address: ip("203.0.113.9"), https: false, trusted_peer: false });
        }
    }

    #[test]
    fn only_the_named_header_is_read() {
        let lines = [("forwarded", "for=192.0.2.1;proto=https")];
        let said = client("10.0.0.1", ClientAddressHeader::XForwardedFor, &lines);
        assert_eq!(said, Client { address: ip("10.0.0.1"), https: false, trusted_peer: true });
        let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        let said = client("10.0.0.1", ClientAddressHeader::Forwarded, &lines);
        assert_eq!(said, Client { address: ip("10.0.0.1"), https: false, trusted_peer: true });
    }

    #[test]
    fn the_nearest_untrusted_address_counts() {
        for (list, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("198.51.100.66, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.66, 192.0.2.1, 10.1.2.3", "192.0.2.1"),
            ("10.9.9.9, 192.0.2.1,10.1.2.3 ,10.0.0.2", "192.0.2.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("192.0.2.1:1234", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:1234", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, fd00::1, ::ffff:10.0.0.2", "192.0.2.1"),
            ("", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("192.0.2.1, unknown", "10.0.0.1"),
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, , 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, [2001:db8::1]x", "10.0.0.1"),
            ("192.0.2.1, caff\u{e8}", "10.0.0.1"),
        ] {
            assert_eq!(by_list(list), ip(expected), "{list}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [("x-forwarded-for", "198.51.100.66, 192.0.2.1"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(client("10.0.0.1", ClientAddressHeader::XForwardedFor, &lines).address, ip("192.0.2.1"));
    }

    #[test]
    fn a_peer_written_as_ipv6_is_recognised() {
        let said = client("::ffff:10.0.0.1", ClientAddressHeader::XForwardedFor, &[("x-forwarded-for", "192.0.2.1")]);
        assert_eq!((said.address, said.trusted_peer), (ip("192.0.2.1"), true));
        assert_eq!(client("::ffff:192.0.2.7", ClientAddressHeader::Forwarded, &[]).address, ip("192.0.2.7"));
    }

    #[test]
    fn the_protocol_is_the_clients() {
        let https = |addresses, protocols| {
            let lines = [("x-forwarded-for", addresses), ("x-forwarded-proto", protocols)];
            client("10.0.0.1", ClientAddressHeader::XForwardedFor, &lines).https
        };
        assert!(https("192.0.2.1", "https"));
        assert!(https("192.0.2.1", "HTTPS"));
        assert!(!https("192.0.2.1", "http"));
        assert!(https("192.0.2.1, 10.0.0.2", "https"), "said once");
        assert!(https("192.0.2.1, 10.0.0.2", "https, http"), "said for each");
        assert!(!https("198.51.100.66, 192.0.2.1, 10.0.0.2", "https, http, https"));
        assert!(!https("192.0.2.1", "https, http"), "what a client said stands on the left");
        assert!(!https("192.0.2.1", ""));
    }

    #[test]
    fn an_open_quote_does_not_swallow_what_a_proxy_appended() {
        assert_eq!(by_elements("for=192.0.2.66;x=\", for=203.0.113.9").0, ip("203.0.113.9"));
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_has_it() {
        for (list, expected, https) in [
            ("for=192.0.2.1", "192.0.2.1", false),
            ("For=192.0.2.1; Proto=HTTPS ;by=10.0.0.1", "192.0.2.1", true),
            ("for=\"192.0.2.1:80\";proto=\"https\"", "192.0.2.1", true),
            ("for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17", false),
            ("for=\"192.0.2\\.1\"", "192.0.2.1", false),
            ("for=198.51.100.66;proto=https, for=192.0.2.1;proto=http, for=10.0.0.2;proto=https", "192.0.2.1", false),
            ("for=192.0.2.1;proto=https, for=10.0.0.2;proto=http", "192.0.2.1", true),
            ("for=192.0.2.1;host=\"a,b;c\"", "192.0.2.1", false),
            ("for=unknown;proto=https", "10.0.0.1", false),
            ("for=_hidden, for=10.0.0.2", "10.0.0.2", false),
            ("for=192.0.2.1, proto=https", "10.0.0.1", false),
            ("for=\"192.0.2.1", "10.0.0.1", false),
            ("for=\"192.0.2.1, for=192.0.2.2", "192.0.2.2", false),
            ("192.0.2.1", "10.0.0.1", false),
            ("", "10.0.0.1", false),
        ] {
            assert_eq!(by_elements(list), (ip(expected), https), "{list}");
        }
    }

    #[test]
    fn prefixes() {
        let prefix = |text| ClientPrefix::of(ip(text));
        assert_eq!(prefix("192.0.2.1"), prefix("::ffff:192.0.2.1"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.2.2"));
        assert_eq!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:ff::2"));
        assert_ne!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:100::1"));
        assert_eq!(prefix("192.0.2.1").site(), prefix("192.0.2.200").site());
        assert_ne!(prefix("192.0.2.1").site(), prefix("192.0.3.1").site());
        assert_eq!(prefix("2001:db8:0:1::1").site(), prefix("2001:db8:0:ff00::1").site());
        assert_ne!(prefix("2001:db8:0:1::1").site(), prefix("2001:db8:1:1::1").site());
    }

    #[test]
    fn logs_show_no_whole_address() {
        assert_eq!(truncated(ip("192.0.2.77")), "192.0.2.0/24");
        assert_eq!(truncated(ip("::ffff:192.0.2.77")), "192.0.2.0/24");
        assert_eq!(truncated(ip("2001:db8:1:2:3::4")), "2001:db8:1::/48");
    }

    proptest! {
        #[test]
        fn whatever_a_client_writes_the_proxys_word_counts(garbage in "[ -!#-~]{0,60}", quoted in "[ -~]{0,60}") {
            prop_assert_eq!(by_list(&format!("{quoted}, 192.0.2.1")), ip("192.0.2.1"));
            prop_assert_eq!(by_elements(&format!("{garbage}, for=192.0.2.1")).0, ip("192.0.2.1"));
            // An open quote swallows the proxy's word; it must not put the client's in its place.
            let reached = by_elements(&format!("{quoted}, for=192.0.2.1")).0;
            prop_assert!(reached == ip("192.0.2.1") || reached == ip("10.0.0.1"), "{}", reached);
        }
    }
}
