//! The requests visitors send, with the headers a browser gives them.

use std::net::Ipv4Addr;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::{Map, Value, json};

use crate::journey::{How, Journey};
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
    steps: Vec<(How, Uri)>,
    join: Uri,
    status: Uri,
    wanted: String,
    addresses: Addresses,
}

impl Target {
    /// The room `room` at `authority` (`host:port`), entered by the page `page`, below which the journey goes.
    ///
    /// # Errors
    /// When they do not make up valid addresses.
    pub fn new(authority: &str, own_path: &str, room: &str, page: &str, journey: &Journey) -> Outcome<Target> {
        let uri = |text: String| text.parse::<Uri>().context(|| format!("{text:?} is no path"));
        let below = |path: &str| uri(format!("{}/{path}", page.trim_end_matches('/')));
        let steps = journey.steps.iter().map(|step| Ok((step.how, below(&step.path)?)));
        let header = |text: &str| HeaderValue::from_str(text).context(|| format!("{text:?} is no host"));
        Ok(Target {
            host: header(authority)?,
            origin: header(&format!("http://{authority}"))?,
            page: uri(page.to_owned())?,
            steps: steps.collect::<Outcome<_>>()?,
            join: uri(format!("{own_path}/join?room={room}&lang=it"))?,
            status: uri(format!("{own_path}/status?room={room}&lang=it"))?,
            wanted: page.to_owned(),
            addresses: Addresses::default(),
        })
    }

    /// The same, with visitors who say where they come from, or do not.
    pub fn seen_from(self, addresses: Addresses) -> Target {
        Target { addresses, ..self }
    }

    /// The request by which `visitor` asks for `ask`.
    pub fn request(&self, ask: Ask, visitor: &Visitor) -> Request<Bytes> {
        let mut request = match ask {
            Ask::Page | Ask::Enter => navigation(Method::GET, &self.page),
            Ask::Join => script(&self.join, self.wish(visitor)),
            Ask::Poll => script(&self.status, shown(visitor.shown_ahead())),
            Ask::Journey(step) => self.step(step),
        };
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(VISITOR_MARK, HeaderValue::from(visitor.mark()));
        if self.has_origin(ask) {
            headers.insert(ORIGIN, self.origin.clone());
        }
        if self.addresses == Addresses::Distinct {
            headers.insert(FORWARDED_FOR, address(visitor.address()));
        }
        if let Some(cookies) = visitor.cookies().header().and_then(|pairs| HeaderValue::try_from(pairs).ok()) {
            headers.insert(COOKIE, cookies);
        }
        request
    }

    /// What a join says, as the page's does.
    fn wish(&self, visitor: &Visitor) -> String {
        let mut wish = Map::new();
        let mut say = |name: &str, value: &str| {
            wish.insert(name.to_owned(), value.into());
        };
        say("join_id", &visitor.join_id());
        say("to", &self.wanted);
        if let Some(toll) = visitor.toll() {
            say("challenge", &toll.challenge.text);
            if let Some(ending) = &toll.ending {
                say("ending", ending);
            }
        }
        Value::Object(wish).to_string()
    }

    fn step(&self, step: u16) -> Request<Bytes> {
        match self.steps.get(usize::from(step)) {
            Some((How::Get, uri)) => navigation(Method::GET, uri),
            Some((How::Post, uri)) => form(uri),
            Some((How::Callback, uri)) => callback(uri),
            None => navigation(Method::GET, &self.page),
        }
    }

    /// Whether a browser names our own origin. From the login provider comes its own.
    fn has_origin(&self, ask: Ask) -> bool {
        match ask {
            Ask::Page | Ask::Enter => false,
            Ask::Join | Ask::Poll => true,
            Ask::Journey(step) => matches!(self.steps.get(usize::from(step)), Some((How::Post, _))),
        }
    }
}

fn shown(ahead: Option<u64>) -> String {
    ahead.map_or_else(|| "{}".to_owned(), |ahead| json!({ "shown_ahead": ahead }).to_string())
}

fn navigation(method: Method, uri: &Uri) -> Request<Bytes> {
    let mut request = bare(method, uri, Bytes::new());
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(SEC_FETCH_DEST, HeaderValue::from_static("document"));
    headers.insert(SEC_FETCH_MODE, HeaderValue::from_static("navigate"));
    headers.insert(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"));
    request
}

/// The login provider's page sends its answer through the visitor's browser.
fn callback(uri: &Uri) -> Request<Bytes> {
    let mut request = form(uri);
    *request.body_mut() = Bytes::from_static(b"SAMLResponse=PHNhbWxwOlJlc3BvbnNlLz4%3D");
    let headers = request.headers_mut();
    headers.insert(SEC_FETCH_SITE, HeaderValue::from_static("cross-site"));
    headers.insert(ORIGIN, HeaderValue::from_static("https://login.example"));
    request
}

fn form(uri: &Uri) -> Request<Bytes> {
    let mut request = navigation(Method::POST, uri);
    *request.body_mut() = Bytes::from_static(b"name=Maria+Rossi&amount=600");
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request
}

fn script(uri: &Uri, body: String) -> Request<Bytes> {
    let mut request = bare(Method::POST, uri, Bytes::from(body));
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SEC_FETCH_DEST, HeaderValue::from_static("empty"));
    headers.insert(SEC_FETCH_MODE, HeaderValue::from_static("cors"));
    headers.insert(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"));
    request
}

fn bare(method: Method, uri: &Uri, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    request
}

fn address(address: Ipv4Addr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("10.0.0.0"))
}
