//! Answers to those who wait, put together from what `waiting_room` renders.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

use super::call::Call;
use super::snapshot::RoomInForce;
use crate::body::Body;
use crate::domain::admission::Wait;
use crate::domain::canary::Kind;
use crate::domain::leak_guard::{personal_head, personal_headers};
use crate::domain::negotiation::Audience;
use crate::waiting_room::api;
use crate::waiting_room::assets::SOLVER;
use crate::waiting_room::page::{PageKind, PlainPage};
use crate::waiting_room::queue::{Asked, PROBLEM_TYPE, QUEUE_TYPE, Standing};

/// After how many seconds whoever got no place should look again.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// The answer to a request that has to wait.
pub fn waiting(
    wait: Wait,
    room: &RoomInForce,
    call: &Call,
    headers: &HeaderMap,
    standing: &Standing,
) -> Response<Body> {
    let mut response = match wait {
        Wait::Page => page(room, call, headers, PageKind::Waiting, room.settings.page_status),
        Wait::FormNotSent => page(room, call, headers, PageKind::FormNotSent, 503),
        Wait::Maintenance if call.audience(headers) == Audience::Page && !call.method.is_safe() => {
            page(room, call, headers, PageKind::FormNotSent, 503)
        }
        Wait::Maintenance if call.audience(headers) == Audience::Page => {
            page(room, call, headers, PageKind::Maintenance, 503)
        }
        Wait::Maintenance if call.audience(headers) == Audience::Script => {
            queue_problem(room, call, headers, standing, StatusCode::SERVICE_UNAVAILABLE)
        }
        Wait::Json => queue_problem(room, call, headers, standing, StatusCode::SERVICE_UNAVAILABLE),
        Wait::Empty | Wait::Maintenance => personal(StatusCode::SERVICE_UNAVAILABLE, Body::Empty),
    };
    retry_after(response.headers_mut(), standing.refresh.max(LOOK_AGAIN));
    response
}

/// An answer that no cache keeps.
pub fn personal(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, personal_head());
    response
}

fn page(room: &RoomInForce, call: &Call, headers: &HeaderMap, kind: PageKind, status: u16) -> Response<Body> {
    let shown = room.shown();
    let coding = call.coding(headers);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let Some(page) = shown.pages.get(call.language(headers), kind) else { return personal(status, Body::Empty) };
    let mut response = Response::new(Body::from(page.body(coding).clone()));
    (*response.status_mut(), *response.headers_mut()) = (status, page.head().clone());
    if let Some(name) = coding.name() {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// The queue object as a problem document (RFC 9457).
pub fn queue_problem(
    room: &RoomInForce,
    call: &Call,
    headers: &HeaderMap,
    standing: &Standing,
    status: StatusCode,
) -> Response<Body> {
    queue_problem_asking(room, call, headers, standing, status, None)
}

/// The same, perhaps with what is asked of the visitor first.
pub fn queue_problem_asking(
    room: &RoomInForce,
    call: &Call,
    headers: &HeaderMap,
    standing: &Standing,
    status: StatusCode,
    asked: Option<Asked<'_>>,
) -> Response<Body> {
    let body = standing.to_problem(status, asked, &room.words(call.language(headers)));
    let mut response = personal_json(status, body, PROBLEM_TYPE);
    allow_origin(&mut response, call, headers);
    response
}

/// The queue object.
pub fn queue(room: &RoomInForce, call: &Call, headers: &HeaderMap, standing: &Standing) -> Response<Body> {
    let body = standing.to_json(&room.words(call.language(headers)));
    let mut response = personal_json(StatusCode::OK, body, QUEUE_TYPE);
    allow_origin(&mut response, call, headers);
    response
}

/// The public board, which caches may keep for a second.
pub fn board(room: &RoomInForce) -> Response<Body> {
    let mut response = json(room.shown().board.clone(), QUEUE_TYPE);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// The description of what scripts and apps may ask for: the same for everybody.
pub fn description(own_path: &str) -> Response<Body> {
    let mut response = json(api::description(own_path), "application/json");
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// The script that solves challenges: the same for everybody.
pub fn solver() -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(SOLVER.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A page that was rendered for one request.
pub fn plain_page(page: PlainPage) -> Response<Body> {
    let mut response = personal(StatusCode::OK, Body::from(page.body));
    response.headers_mut().extend(page.headers);
    response
}

/// The answer to the edge canary.
pub fn canary(kind: Kind, number: &str) -> Response<Body> {
    let status = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::NOT_FOUND);
    let mut response = personal(status, Body::from(Bytes::from(format!("anticamera-canary {number}\n"))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    if let (Kind::Moved, Ok(location)) = (kind, HeaderValue::try_from(format!("/?anticamera-canary={number}"))) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// 303: look there with GET (RFC 9110 section 15.4.4).
pub fn see_other(location: &str) -> Response<Body> {
    let mut response = personal(StatusCode::SEE_OTHER, Body::Empty);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// JSON of this media type that no cache keeps.
pub fn personal_json(status: StatusCode, body: Bytes, media_type: &'static str) -> Response<Body> {
    let mut response = personal(status, Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// JSON of this media type, of which the caller says who may keep it.
fn json(body: Bytes, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// `Retry-After` in whole seconds, at least one (RFC 9110 section 10.2.3).
pub fn retry_after(headers: &mut HeaderMap, wait: Duration) {
    headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64));
}

/// Adds cookies of ours, which may ride on nothing that a shared cache keeps.
pub fn add_cookies(response: &mut Response<Body>, cookies: Vec<HeaderValue>) {
    if !cookies.is_empty() {
        personal_headers(response.headers_mut());
        append_cookies(response, cookies);
    }
}

/// Adds cookies of ours to an answer that nothing shared keeps already, whatever else its route lets it say.
pub fn append_cookies(response: &mut Response<Body>, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// Lets the sites that the operator listed read the answer.
pub fn allow_origin(response: &mut Response<Body>, call: &Call, headers: &HeaderMap) {
    let Some(origin) = headers.get(ORIGIN) else { return };
    let listed = &call.snapshot.config.server.cors_origins;
    if listed.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes())) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}
