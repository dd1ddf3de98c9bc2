//! The listener that only sends visitors to HTTPS.

use http::header::{HOST, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};

use super::Gateway;
use super::answers::personal;
use crate::body::Body;
use crate::config::Server;
use crate::domain::paths::host_of;

impl Gateway {
    /// Sends a request to the same page over HTTPS. A host for which there is no certificate is not sent anywhere.
    pub fn to_https<B>(&self, request: &Request<B>) -> Response<Body> {
        let snapshot = self.shared.snapshot.borrow().clone();
        let Some(location) = location(request, &snapshot.config.server) else {
            return personal(StatusCode::MISDIRECTED_REQUEST, Body::Empty);
        };
        let mut response = personal(status(request.method()), Body::Empty);
        response.headers_mut().insert(LOCATION, location);
        response
    }
}

/// Old clients know 301 only; a form must stay a form.
fn status(method: &Method) -> StatusCode {
    if method.is_safe() { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT }
}

fn location<B>(request: &Request<B>, server: &Server) -> Option<HeaderValue> {
    let said = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str()).or(said)?;
    let host = host_of(authority).to_ascii_lowercase();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let home = home(&host, server)?;
    target.starts_with('/').then(|| HeaderValue::try_from(format!("https://{home}{target}")).ok())?
}

/// The authority under which a host is reached over TLS: the public one, with its port, or the host at the usual port.
fn home(host: &str, server: &Server) -> Option<String> {
    let public = server.public_url.as_ref().filter(|url| url.https && host_of(&url.authority) == host);
    let has_certificate = || server.tls.iter().flat_map(|entry| &entry.names).any(|name| name.includes(host));
    public.map(|url| url.authority.clone()).or_else(|| has_certificate().then(|| host.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn sent(public_url: &str, method: Method, host: &str, target: &str) -> Option<String> {
        let text = format!(
            "[server]\nlisten = []\npublic_url = \"{public_url}\"\n[[server.tls]]\nlisten = [\"127.0.0.1:0\"]\n\
             names = [\"portal.example\", \"*.portal.example\"]\ncertificate = \"c\"\nprivate_key = \"k\"\n\
             [portal]\nurl = \"http://127.0.0.1:1\""
        );
        let server = config::parse(&text, Path::new("")).unwrap().server;
        let request = Request::builder().method(method).uri(target).header(HOST, host).body(()).unwrap();
        location(&request, &server).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn visitors_are_sent_to_the_same_page() {
        let to = |host, target| sent("", Method::GET, host, target);
        assert_eq!(to("Portal.Example:80", "/a?b=%20c").as_deref(), Some("https://portal.example/a?b=%20c"));
        assert_eq!(to("www.portal.example", "/").as_deref(), Some("https://www.portal.example/"));
        assert_eq!(to("evil.example", "/"), None);
        assert_eq!(to("portal.example", "*"), None);
        let public = sent("https://portal.example:8443", Method::GET, "portal.example", "/x");
        assert_eq!(public.as_deref(), Some("https://portal.example:8443/x"));
    }

    #[test]
    fn a_form_stays_a_form() {
        assert_eq!(status(&Method::GET), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(status(&Method::POST), StatusCode::PERMANENT_REDIRECT);
    }
}
