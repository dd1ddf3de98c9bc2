//! What the portal answers.

use std::cell::{Cell, Ref, RefCell};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::{Mode, Order, PORTAL_MARK, Record, VISITOR_MARK};
use crate::clock::{Clock, Moment};

const CONTROL_PATH: &str = "/__portal/";
/// `/size/N` gives no more than this.
const LARGEST: usize = 1 << 30;

/// The portal: its record, and how it behaves.
#[derive(Debug)]
pub struct Portal {
    clock: Clock,
    record: RefCell<Record>,
    mode: watch::Sender<Mode>,
    login_ill_until: Cell<Moment>,
    page: Bytes,
}

impl Portal {
    /// A portal that is well and has seen nobody.
    pub fn new(clock: Clock) -> Portal {
        Portal {
            clock,
            record: RefCell::default(),
            mode: watch::Sender::new(Mode::Ok),
            login_ill_until: Cell::default(),
            page: page(),
        }
    }

    /// What reached it.
    pub fn record(&self) -> Ref<'_, Record> {
        self.record.borrow()
    }

    /// How it behaves, and when that changes.
    pub fn mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// Answers one request.
    pub async fn answer(self: std::rc::Rc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(own) = request.uri().path().strip_prefix(CONTROL_PATH) {
            let own = own.to_owned();
            return self.control(&own, request).await;
        }
        let visitor = self.note(&request);
        let mut response = self.answer_visitor(request).await;
        response.headers_mut().insert(PORTAL_MARK, visitor.map_or(HeaderValue::from_static("-"), HeaderValue::from));
        response
    }

    async fn answer_visitor(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mode = *self.mode.borrow();
        match mode {
            Mode::Ok | Mode::Refuse => {}
            Mode::Error(status) => return answer(status, "text/html", Bytes::from_static(b"<p>The portal is ill.")),
            Mode::Slow(delay) => self.clock.sleep_until(self.clock.now() + delay).await,
        }
        self.serve(request).await
    }

    fn note(&self, request: &Request<Incoming>) -> Option<u32> {
        let visitor = mark(request.headers()).or_else(|| mark_in_query(request.uri().query()?));
        self.record.borrow_mut().add(self.clock.now(), visitor, request.method(), request.uri().path());
        visitor
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let post = request.method() == Method::POST;
        if request.into_body().collect().await.is_err() {
            return answer(StatusCode::BAD_REQUEST, "text/plain", Bytes::from_static(b"the body broke off"));
        }
        if let Some(size) = path.strip_prefix("/size/").and_then(|n| n.parse::<usize>().ok()) {
            return answer(StatusCode::OK, "application/octet-stream", vec![b'x'; size.min(LARGEST)].into());
        }
        if let Some(delay) = path.strip_prefix("/slow/").and_then(|ms| ms.parse().ok()) {
            self.clock.sleep_until(self.clock.now() + Duration::from_millis(delay)).await;
        }
        if post {
            return answer(StatusCode::OK, "text/html", Bytes::from_static(b"<p>Your application was received."));
        }
        answer(StatusCode::OK, "text/html", self.page.clone())
    }

    async fn control(self: std::rc::Rc<Self>, own: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), own) {
            (&Method::GET, "clock") => json(format!("{{\"now_us\":{}}}", self.clock.now().0)),
            (&Method::GET, "record") => json(self.record.borrow().lines(from(request.uri().query()))),
            (&Method::POST, "forget") => {
                self.record.borrow_mut().clear();
                json("{}".to_owned())
            }
            (&Method::GET, "login") if self.clock.now() < self.login_ill_until.get() => {
                answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", Bytes::from_static(b"ill"))
            }
            (&Method::GET, "login") => json("{}".to_owned()),
            (&Method::POST, "login") => self.break_login(request).await,
            (&Method::POST, "mode") => self.obey(request).await,
            _ => answer(StatusCode::NOT_FOUND, "text/plain", Bytes::new()),
        }
    }

    async fn obey(self: std::rc::Rc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        match serde_json::from_slice::<Order>(&body) {
            Ok(order) => {
                self.mode.send_replace(order.mode());
                if let Some(span) = order.lasts() {
                    tokio::task::spawn_local(std::rc::Rc::clone(&self).recover_after(span));
                }
                json("{}".to_owned())
            }
            Err(fault) => answer(StatusCode::BAD_REQUEST, "text/plain", fault.to_string().into()),
        }
    }

    async fn break_login(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let order = serde_json::from_slice::<LoginOrder>(&body).ok();
        match order.and_then(|order| Duration::try_from_secs_f64(order.seconds).ok()) {
            Some(span) => {
                self.login_ill_until.set(self.clock.now() + span);
                json("{}".to_owned())
            }
            None => answer(StatusCode::BAD_REQUEST, "text/plain", Bytes::from_static(b"say for how many seconds")),
        }
    }

    async fn recover_after(self: std::rc::Rc<Self>, span: Duration) {
        let mut changes = self.mode.subscribe();
        let well_again = self.clock.now() + span;
        tokio::select! {
            () = self.clock.sleep_until(well_again) => { self.mode.send_replace(Mode::Ok); }
            _ = changes.changed() => {}
        }
    }
}

/// For how long the login provider is to be ill.
#[derive(serde::Deserialize)]
struct LoginOrder {
    seconds: f64,
}

fn mark(headers: &HeaderMap) -> Option<u32> {
    headers.get(VISITOR_MARK)?.to_str().ok()?.parse().ok()
}

fn mark_in_query(query: &str) -> Option<u32> {
    query.split('&').find_map(|pair| pair.strip_prefix("v="))?.parse().ok()
}

fn from(query: Option<&str>) -> usize {
    query.and_then(|query| query.strip_prefix("from=")).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn json(body: String) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "application/json", body.into())
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A page of about 1 KB with links, as portals have.
fn page() -> Bytes {
    let head = "<!doctype html><html lang=\"it\"><title>Bonus 600</title><h1>Bonus 600 euro</h1><ul>";
    let links = (1..=12).map(|n| format!("<li><a href=\"/bonus-600/step/{n}\">Step {n} of the application</a>"));
    let form =
        "</ul><form method=\"post\" action=\"/bonus-600/form\"><input name=\"name\"><button>Send</button></form>";
    format!("{head}{}{form}", links.collect::<String>()).into()
}
