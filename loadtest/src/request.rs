//! The requests visitors send, with the headers a browser gives them.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde_json::json;

use crate::portal::VISITOR_MARK;
use crate::visitor::{Ask, Visitor};
use crate::{Context, Outcome};

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether visitors say that they come from addresses of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addresses {
    /// Every visitor has one, in `X-Forwarded-For`; the proxy must trust us.
    #[default]
    Distinct,
    /// All visitors share ours.
    Shared,
}

/// Where a scenario's visitors go: everything about a request that is the same for all of them.
#[derive(Clone, Debug)]
pub struct Target {
    host: HeaderValue,
    origin: HeaderValue,
    page: Uri,
    form: Uri,
    join: Uri,
    status: Uri,
    wanted: String,
    addresses: Addresses,
}

impl Target {
    /// The room `room` at `authority` (`host:port`), entered by the page `page`.
    ///
    /// # Errors
    /// When they do not make up valid addresses.
    pub fn new(authority: &str, own_path: &str, room: &str, page: &str, addresses: Addresses) -> Outcome<Target> {
        let uri = |text: String| text.parse::<Uri>().context(|| format!("{text:?} is no path"));
        let header = |text: &str| HeaderValue::from_str(text).context(|| format!("{text:?} is no host"));
        Ok(Target {
            host: header(authority)?,
            origin: header(&format!("http://{authority}"))?,
            page: uri(page.to_owned())?,
            form: uri(format!("{}/form", page.trim_end_matches('/')))?,
            join: uri(format!("{own_path}/join?room={room}&lang=it"))?,
            status: uri(format!("{own_path}/status?room={room}&lang=it"))?,
            wanted: page.to_owned(),
            addresses,
        })
    }

    /// The request by which `visitor` asks for `ask`.
    pub fn request(&self, ask: Ask, visitor: &Visitor) -> Request<Full<Bytes>> {
        let mut request = match ask {
            Ask::Page | Ask::Enter => navigation(Method::GET, &self.page),
            Ask::Join => script(&self.join, json!({ "join_id": visitor.join_id(), "to": self.wanted }).to_string()),
            Ask::Poll => script(&self.status, shown(visitor.shown_ahead())),
            Ask::Journey(step) if step % 2 == 0 => navigation(Method::GET, &self.form),
            Ask::Journey(_) => form(&self.form),
        };
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(VISITOR_MARK, HeaderValue::from(visitor.mark()));
        if request_has_origin(ask) {
            headers.insert(ORIGIN, self.origin.clone());
        }
        if self.addresses == Addresses::Distinct {
            headers.insert(FORWARDED_FOR, address(visitor.mark()));
        }
        if let Some(cookies) = visitor.cookies().header().and_then(|pairs| HeaderValue::try_from(pairs).ok()) {
            headers.insert(COOKIE, cookies);
        }
        request
    }
}

fn request_has_origin(ask: Ask) -> bool {
    match ask {
        Ask::Page | Ask::Enter => false,
        Ask::Join | Ask::Poll => true,
        Ask::Journey(step) => step % 2 == 1,
    }
}

fn shown(ahead: Option<u64>) -> String {
    ahead.map_or_else(|| "{}".to_owned(), |ahead| json!({ "shown_ahead": ahead }).to_string())
}

fn navigation(method: Method, uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = bare(method, uri, Bytes::new());
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml"));
    headers.insert(SEC_FETCH_DEST, HeaderValue::from_static("document"));
    headers.insert(SEC_FETCH_MODE, HeaderValue::from_static("navigate"));
    headers.insert(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"));
    request
}

fn form(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = navigation(Method::POST, uri);
    *request.body_mut() = Full::from(&b"name=Maria+Rossi&amount=600"[..]);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request
}

fn script(uri: &Uri, body: String) -> Request<Full<Bytes>> {
    let mut request = bare(Method::POST, uri, Bytes::from(body));
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SEC_FETCH_DEST, HeaderValue::from_static("empty"));
    headers.insert(SEC_FETCH_MODE, HeaderValue::from_static("cors"));
    headers.insert(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"));
    request
}

fn bare(method: Method, uri: &Uri, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    request
}

/// An address of the visitor's own, out of 10.0.0.0/8.
fn address(mark: u32) -> HeaderValue {
    let [_, a, b, c] = mark.to_be_bytes();
    HeaderValue::try_from(format!("10.{a}.{b}.{c}")).unwrap_or(HeaderValue::from_static("10.0.0.0"))
}
