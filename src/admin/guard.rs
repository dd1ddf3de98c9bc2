//! Keeps other people's pages in an operator's browser away from the private listener.
//!
//! A page on any site can make the browser of an operator send requests to `127.0.0.1`, and a site can point its own
//! name there (DNS rebinding). So a request must name a loopback host, or one from the configuration, and must not
//! say that it comes from another site's page. Neither header can be set by a page's script (Fetch standard, forbidden request
//! headers); command line tools send neither.

use std::net::IpAddr;

use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No `Host`, several, or one that is neither loopback nor listed (RFC 9110, section 7.2).
    #[error("the host asked for is not one of this listener: use localhost, or list the name in admin.hosts")]
    OtherHost,
    /// The request carries another site's `Origin`.
    #[error("requests from other sites' pages are not answered: the Origin is not the host asked for")]
    FromAPage,
    /// `Sec-Fetch-Site` says that another site caused the request.
    #[error("requests caused by other sites are not answered: Sec-Fetch-Site must be none or same-origin")]
    FromAnotherSite,
}

/// Checks where a request was sent and who caused it. `hosts` are names that count besides loopback ones, without
/// port.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub fn check(request: &Parts, hosts: &[String]) -> Result<(), Refusal> {
    if !named_hosts(request).is_some_and(|named| named.iter().all(|one| is_ours(one, hosts))) {
        return Err(Refusal::OtherHost);
    }
    if !request.headers.get_all(ORIGIN).iter().all(|origin| is_same(request, origin.as_bytes())) {
        return Err(Refusal::FromAPage);
    }
    let harmless = |site: &[u8]| site == b"none" || site == b"same-origin";
    if !request.headers.get_all(SEC_FETCH_SITE).iter().all(|site| harmless(site.as_bytes())) {
        return Err(Refusal::FromAnotherSite);
    }
    Ok(())
}

/// Whether an `Origin` is this listener's own: the console's pages post with it. A page on another port is another site.
fn is_same(request: &Parts, origin: &[u8]) -> bool {
    let host = request.headers.get(HOST).map(|host| host.as_bytes().to_ascii_lowercase());
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    host.is_some() && authority.map(<[u8]>::to_ascii_lowercase) == host
}

/// The one `Host` and, in a request with an absolute address, that address's host too.
fn named_hosts(request: &Parts) -> Option<Vec<Authority>> {
    let mut headers = request.headers.get_all(HOST).iter();
    let (Some(host), None) = (headers.next(), headers.next()) else { return None };
    let host = Authority::try_from(host.as_bytes()).ok()?;
    Some([Some(host), request.uri.authority().cloned()].into_iter().flatten().collect())
}

fn is_ours(authority: &Authority, hosts: &[String]) -> bool {
    let host = authority.host();
    !authority.as_str().contains('@') && (is_loopback(host) || hosts.iter().any(|one| one.eq_ignore_ascii_case(host)))
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn checked(uri: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0, &["ops.example".to_owned()])
    }

    #[test]
    fn loopback_and_listed_hosts_are_answered() {
        for host in
            ["localhost", "LOCALHOST:9090", "127.0.0.1", "127.8.9.1:9090", "[::1]", "[::1]:9090", "Ops.example:1"]
        {
            assert_eq!(checked("/metrics", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "127.1",
            "[::2]",
            "user@localhost",
            "ops.example.evil",
            "",
            "a b",
        ] {
            assert_eq!(checked("/metrics", &[("host", host)]), Err(Refusal::OtherHost), "{host}");
        }
    }

    #[test]
    fn one_host_must_be_named() {
        assert_eq!(checked("/metrics", &[]), Err(Refusal::OtherHost));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(checked("/metrics", &twice), Err(Refusal::OtherHost));
    }

    #[test]
    fn an_absolute_address_counts_as_well() {
        assert_eq!(checked("http://localhost/metrics", &[("host", "localhost")]), Ok(()));
        assert_eq!(checked("http://evil.example/metrics", &[("host", "localhost")]), Err(Refusal::OtherHost));
    }

    #[test]
    fn pages_are_refused() {
        for origin in ["https://evil.example", "null", "http://localhost:9090"] {
            let headers = [("host", "localhost"), ("origin", origin)];
            assert_eq!(checked("/admin/v1/reload", &headers), Err(Refusal::FromAPage), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "None"] {
            let headers = [("host", "localhost"), ("sec-fetch-site", site)];
            assert_eq!(checked("/metrics", &headers), Err(Refusal::FromAnotherSite), "{site}");
        }
        for site in ["none", "same-origin"] {
            assert_eq!(checked("/metrics", &[("host", "localhost"), ("sec-fetch-site", site)]), Ok(()));
        }
        let both = [("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(checked("/metrics", &both), Err(Refusal::FromAnotherSite));
    }
}
