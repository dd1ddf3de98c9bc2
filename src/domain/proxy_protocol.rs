//! The PROXY protocol (HAProxy's specification, versions 1 and 2): the first bytes of a connection, in which a proxy that
//! does not speak HTTP says for whom it opened it. Believed from listed peers only, and demanded of those.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a header at most: version 1 has 107, version 2 as many as its additions take, which are few.
pub const LONGEST: usize = 2048;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY ";
/// Type of the addition that speaks of TLS, and the bit that says the client used it.
const ADDITION_TLS: u8 = 0x20;
const CLIENT_USED_TLS: u8 = 0x01;

/// What the beginning of a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A whole header.
    Whole {
        /// For whom the connection was opened; `None` when the proxy speaks for itself, as health checks do.
        client: Option<ForWhom>,
        /// Bytes that the header takes.
        length: usize,
    },
    /// The beginning of one.
    Begun,
    /// No header.
    None,
}

/// For whom a connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForWhom {
    /// The client's address. IPv4 is never written as IPv6.
    pub address: IpAddr,
    /// Whether the client reached the proxy over TLS.
    pub https: bool,
}

/// Reads the beginning of a connection.
pub fn header(bytes: &[u8]) -> Header {
    let begins_like = |sign: &[u8]| bytes.iter().zip(sign).all(|(byte, sign)| byte == sign);
    if bytes.starts_with(SIGNATURE) {
        version_2(bytes)
    } else if bytes.starts_with(V1) {
        version_1(bytes)
    } else if begins_like(SIGNATURE) || begins_like(V1) {
        Header::Begun
    } else {
        Header::None
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`
fn version_1(bytes: &[u8]) -> Header {
    const LONGEST_LINE: usize = 107;
    let Some(end) = bytes.windows(2).take(LONGEST_LINE).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LONGEST_LINE { Header::Begun } else { Header::None };
    };
    let line = bytes.get(V1.len()..end).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words.as_slice() {
        ["UNKNOWN", ..] => Some(None),
        ["TCP4", client, _, _, _] => client.parse::<Ipv4Addr>().ok().map(|address| Some(plain(address.into()))),
        ["TCP6", client, _, _, _] => client.parse::<Ipv6Addr>().ok().map(|address| Some(plain(address.into()))),
        _ => None,
    };
    client.map_or(Header::None, |client| Header::Whole { client, length: end + 2 })
}

fn plain(address: IpAddr) -> ForWhom {
    ForWhom { address: address.to_canonical(), https: false }
}

/// Signature, version and command, family, length, addresses, additions.
fn version_2(bytes: &[u8]) -> Header {
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Header::Begun };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 0xF > 1 || length > LONGEST {
        return Header::None;
    }
    let Some(rest) = bytes.get(16..length) else { return Header::Begun };
    let speaks_for_itself = command & 0xF == 0;
    let client = match (speaks_for_itself, family) {
        (false, 0x11) => client_of::<4>(rest, 12),
        (false, 0x21) => client_of::<16>(rest, 36),
        _ => Some(None),
    };
    client.map_or(Header::None, |client| Header::Whole { client, length })
}

/// The source address, which comes first, and what the additions after `addresses` bytes say of TLS.
fn client_of<const N: usize>(rest: &[u8], addresses: usize) -> Option<Option<ForWhom>>
where
    IpAddr: From<[u8; N]>,
{
    let source: [u8; N] = *rest.first_chunk()?;
    let additions = rest.get(addresses..)?;
    Some(Some(ForWhom { address: IpAddr::from(source).to_canonical(), https: speak_of_tls(additions) }))
}

fn speak_of_tls(mut additions: &[u8]) -> bool {
    while let Some((&[kind, high, low], rest)) = additions.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, after)) = rest.split_at_checked(length) else { return false };
        if kind == ADDITION_TLS {
            return value.first().is_some_and(|client| client & CLIENT_USED_TLS != 0);
        }
        additions = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    fn ipv4(additions: &[u8]) -> Vec<u8> {
        [&[192, 0, 2, 1, 198, 51, 100, 1, 220, 4, 1, 187], additions].concat()
    }

    fn said(bytes: &[u8]) -> Option<Option<ForWhom>> {
        match header(bytes) {
            Header::Whole { client, .. } => Some(client),
            _ => None,
        }
    }

    #[test]
    fn version_1_is_a_line() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n";
        let client = Some(plain("192.0.2.1".parse().unwrap()));
        assert_eq!(header(line), Header::Whole { client, length: 45 });
        assert_eq!(
            said(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
            Some(Some(plain("2001:db8::1".parse().unwrap())))
        );
        assert_eq!(said(b"PROXY UNKNOWN\r\n"), Some(None));
        for wrong in ["PROXY TCP4 2001:db8::1 a 1 2\r\n", "PROXY \r\n", "PROXY TCP4 1.2.3.4\r\n", "GET / HTTP/1.1\r\n"]
        {
            assert_eq!(header(wrong.as_bytes()), Header::None, "{wrong}");
        }
        assert_eq!(header(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()), Header::None);
    }

    #[test]
    fn version_2_has_addresses_and_additions() {
        let client = |https| Some(Some(ForWhom { address: "192.0.2.1".parse().unwrap(), https }));
        assert_eq!(said(&v2(0x21, 0x11, &ipv4(&[]))), client(false));
        let noop_then_tls = [0x04, 0, 2, 0, 0, 0x20, 0, 5, 1, 0, 0, 0, 0];
        assert_eq!(said(&v2(0x21, 0x11, &ipv4(&noop_then_tls))), client(true));
        assert_eq!(said(&v2(0x21, 0x11, &ipv4(&[0x20, 0, 5, 0, 0, 0, 0, 0]))), client(false));
        assert_eq!(said(&v2(0x20, 0x00, &[])), Some(None), "the proxy's own health check");
        let six: Vec<u8> = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[1], &[0; 20]].concat();
        assert_eq!(said(&v2(0x21, 0x21, &six)), Some(Some(plain("2001:db8::1".parse().unwrap()))));
        assert_eq!(header(&v2(0x21, 0x11, &[1, 2, 3])), Header::None, "too short for its family");
        assert_eq!(header(&v2(0x31, 0x11, &ipv4(&[]))), Header::None, "another version");
    }

    proptest! {
        #[test]
        fn a_header_in_pieces_is_begun_until_it_is_whole(cut in 0..60_usize) {
            for whole in [v2(0x21, 0x11, &ipv4(&[4, 0, 1, 0])), b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec()] {
                let piece = whole.get(..cut).unwrap_or(&whole);
                let expected = if piece.len() < whole.len() { Header::Begun } else { header(&whole) };
                prop_assert_eq!(header(piece), expected);
            }
        }

        #[test]
        fn garbage_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            header(&bytes);
            header(&[SIGNATURE.as_slice(), &bytes].concat());
            header(&[V1, &bytes].concat());
        }
    }
}
