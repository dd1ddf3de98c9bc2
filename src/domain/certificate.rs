//! Client certificates: how a trusted proxy passes them on (RFC 9440), and whose they must be to prove a class.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};

use super::proof::Failure;

/// The certificate that the client showed to the proxy in front.
pub static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// The certificates between it and an authority.
pub static CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Certificates between the client's and an authority's at most.
const LONGEST_CHAIN: usize = 8;

/// A certificate and those that lead from it to an authority, as DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The client's.
    pub client: Cow<'a, [u8]>,
    /// The others, each issued the one before it.
    pub chain: Vec<Cow<'a, [u8]>>,
}

/// One attribute of a name, such as `O` and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The attribute's object identifier with dots, such as `2.5.4.10`.
    pub oid: String,
    /// Its value.
    pub value: String,
}

/// Short names of attributes (RFC 4519, RFC 4514 section 3), with their object identifiers.
pub const ATTRIBUTES: [(&str, &str); 13] = [
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("title", "2.5.4.12"),
    ("GN", "2.5.4.42"),
    ("dnQualifier", "2.5.4.46"),
    ("organizationIdentifier", "2.5.4.97"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
];

/// The object identifier of an attribute, by its short name or as it is.
pub fn attribute_oid(name: &str) -> Option<String> {
    if let Some((_, oid)) = ATTRIBUTES.iter().find(|(known, _)| *known == name) {
        return Some((*oid).to_owned());
    }
    let mut arcs = name.split('.').peekable();
    let digits = |arc: &str| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit());
    (name.contains('.') && arcs.all(digits)).then(|| name.to_owned())
}

/// Reads the certificate in the headers of a trusted proxy; `None` when there is none.
///
/// # Errors
/// [`Failure::Malformed`] when the fields are not as RFC 9440 section 2 has them: one byte sequence, and a list of them.
pub fn in_headers(headers: &HeaderMap) -> Result<Option<Shown<'static>>, Failure> {
    let mut lines = headers.get_all(&CLIENT_CERT).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Failure::Malformed);
    }
    let client = byte_sequence(line.as_bytes()).ok_or(Failure::Malformed)?;
    let chain = headers.get_all(&CLIENT_CERT_CHAIN).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let chain: Option<Vec<Cow<'static, [u8]>>> =
        chain.take(LONGEST_CHAIN + 1).map(|member| byte_sequence(member).map(Cow::Owned)).collect();
    let chain = chain.filter(|chain| chain.len() <= LONGEST_CHAIN).ok_or(Failure::Malformed)?;
    Ok(Some(Shown { client: Cow::Owned(client), chain }))
}

/// `:base64:` (RFC 9651 section 3.3.5); parameters after it say nothing (RFC 9440 section 2.1).
fn byte_sequence(member: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(member).ok()?.trim_matches([' ', '\t']);
    let (encoded, rest) = text.strip_prefix(':')?.split_once(':')?;
    let decoded = STANDARD.decode(encoded).ok()?;
    (rest.is_empty() || rest.starts_with(';')).then_some(decoded)
}

/// Whether a name has every one of the attributes.
pub fn has_all(name: &[Attribute], wanted: &[Attribute]) -> bool {
    wanted.iter().all(|attribute| name.contains(attribute))
}

/// The value of an attribute; `None` when the name has it not, or more than once, which says nothing.
pub fn only<'n>(name: &'n [Attribute], oid: &str) -> Option<&'n str> {
    let mut values = name.iter().filter(|attribute| attribute.oid == oid).map(|attribute| attribute.value.as_str());
    values.next().filter(|value| !value.trim().is_empty()).filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn reads_the_fields_of_rfc_9440() {
        let lines =
            [(&CLIENT_CERT, " :AQID: "), (&CLIENT_CERT_CHAIN, ":BA==:, :BQ==:;a=1"), (&CLIENT_CERT_CHAIN, ":Bg==:")];
        let shown = in_headers(&headers(&lines)).unwrap().unwrap();
        assert_eq!(shown.client.as_ref(), [1, 2, 3]);
        assert_eq!(shown.chain, [vec![4u8], vec![5], vec![6]].map(Cow::<[u8]>::Owned));
        assert_eq!(in_headers(&HeaderMap::new()), Ok(None));
        assert_eq!(in_headers(&headers(&[(&CLIENT_CERT_CHAIN, ":BA==:")])), Ok(None), "a chain alone is nobody's");
    }

    #[test]
    fn refuses_what_is_written_otherwise() {
        for wrong in ["", "AQID", ":AQID", ":AQ ID:", ":AQID:x", "-----BEGIN", ":AQI:", ":é:"] {
            assert_eq!(in_headers(&headers(&[(&CLIENT_CERT, wrong)])), Err(Failure::Malformed), "{wrong}");
        }
        let twice = headers(&[(&CLIENT_CERT, ":AQID:"), (&CLIENT_CERT, ":AQID:")]);
        assert_eq!(in_headers(&twice), Err(Failure::Malformed));
        let long = [":BA==:"; LONGEST_CHAIN + 1].join(",");
        let long = headers(&[(&CLIENT_CERT, ":AQID:"), (&CLIENT_CERT_CHAIN, &long)]);
        assert_eq!(in_headers(&long), Err(Failure::Malformed));
    }

    #[test]
    fn names_are_compared_attribute_by_attribute() {
        let attribute = |name: &str, value: &str| Attribute { oid: attribute_oid(name).unwrap(), value: value.into() };
        let name = [
            attribute("O", "Patronato"),
            attribute("CN", "RSSMRA85T10A562S/1"),
            attribute("OU", "a"),
            attribute("OU", "b"),
        ];
        assert!(has_all(&name, &[attribute("O", "Patronato"), attribute("OU", "b")]) && has_all(&name, &[]));
        assert!(!has_all(&name, &[attribute("O", "patronato")]) && !has_all(&name, &[attribute("C", "IT")]));
        assert_eq!(only(&name, "2.5.4.3"), Some("RSSMRA85T10A562S/1"));
        assert_eq!((only(&name, "2.5.4.11"), only(&name, "2.5.4.6")), (None, None));
        assert_eq!(attribute_oid("1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!((attribute_oid("X"), attribute_oid("1..2"), attribute_oid(".")), (None, None, None));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(client in "[ -~]{0,40}", chain in "[ -~]{0,40}") {
            let _ = in_headers(&headers(&[(&CLIENT_CERT, &client), (&CLIENT_CERT_CHAIN, &chain)]));
        }
    }
}
