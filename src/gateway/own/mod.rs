//! Our own paths: join, status, line, board, enter, extend, leave, health. They never reach the portal.

mod join;
mod place;
mod proofs;
mod told;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERER,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use self::told::Accepted;
use super::answers::{add_cookies, allow_origin, board, description, personal, solver};
use super::call::{Call, form_value};
use super::errors::Refusal;
use super::snapshot::RoomInForce;
use super::visitor::{Credentials, Tokens, has_header_tokens, wants_header_tokens};
use super::{Gateway, Outcome, leave_unread};
use crate::body::Body;
use crate::domain::line::Asks;
use crate::domain::negotiation::{Audience, Provenance};
use crate::domain::paths::{WantedPath, host_of, query_value, same_origin_path};
use crate::room::View;
use crate::telemetry::metrics::Decision;

/// Bytes of a body to one of our own paths at most.
const LARGEST_BODY: usize = 8 << 10;
/// How long such a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What was sent to one of our own paths.
struct Message {
    headers: HeaderMap,
    fields: Fields,
}

/// The fields of a body. JSON is read once: a poll asks for several.
enum Fields {
    Json(serde_json::Value),
    Form(Bytes),
}

impl Fields {
    fn of(headers: &HeaderMap, body: Bytes) -> Fields {
        let is_json = headers
            .get(CONTENT_TYPE)
            .is_some_and(|media| media.as_bytes().windows("json".len()).any(|part| part.eq_ignore_ascii_case(b"json")));
        if is_json { Fields::Json(serde_json::from_slice(&body).unwrap_or_default()) } else { Fields::Form(body) }
    }

    fn get(&self, name: &str) -> Option<String> {
        match self {
            Fields::Json(body) => match body.get(name)? {
                serde_json::Value::String(text) => Some(text.clone()),
                serde_json::Value::Number(number) => Some(number.to_string()),
                _ => None,
            },
            Fields::Form(body) => form_value(std::str::from_utf8(body).ok()?, name),
        }
    }
}

/// A request to one of our own paths that concerns one room.
struct Visit<'a> {
    gateway: &'a Gateway,
    call: &'a Call,
    room: Arc<RoomInForce>,
    message: &'a Message,
}

/// Answers a request to one of our own paths.
pub async fn answer(gateway: &Gateway, call: &Call, path: String, request: Request<Incoming>) -> Outcome {
    let (parts, body) = request.into_parts();
    let read = read(&parts, body).await;
    let (body, refused) = match read {
        Ok(body) => {
            call.connection.note_end_of_body();
            (body, None)
        }
        Err(refusal) => (Bytes::new(), Some(refusal)),
    };
    let message = Message { fields: Fields::of(&parts.headers, body), headers: parts.headers };
    let response = match refused {
        None => respond(gateway, call, &path, &message).await,
        Some(refusal) => Err(refusal),
    };
    match response {
        Ok(response) => Outcome::of(response, Decision::Own),
        Err(refusal) => Outcome::of(refusal.answer(call, &message.headers), Decision::Own),
    }
}

async fn read(parts: &Parts, body: Incoming) -> Result<Bytes, Refusal> {
    let announced = parts.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY as u64) {
        leave_unread(parts, body);
        return Err(Refusal::TooLarge);
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, LARGEST_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(_)) | Err(_) => Err(Refusal::BadRequest("body")),
    }
}

async fn respond(gateway: &Gateway, call: &Call, path: &str, message: &Message) -> Result<Response<Body>, Refusal> {
    if call.method == Method::OPTIONS {
        return Ok(preflight(call, &message.headers));
    }
    let allowed = Allowed::at(path).ok_or(Refusal::NotFound)?;
    if !allowed.methods().contains(&call.method) {
        return Err(Refusal::Method(allowed.as_str()));
    }
    match path.split_once('/') {
        Some(("board", name)) => return Ok(board(room(call, name)?.as_ref())),
        Some(("draw", name)) => return proofs::draw_facts(call, &message.headers, room(call, name)?.as_ref()),
        _ => {}
    }
    match path {
        "health" => return Ok(health(gateway)),
        "solver.js" => return Ok(solver()),
        "openapi.json" => return Ok(description(&call.snapshot.config.server.own_path)),
        _ => {}
    }
    let room = room(call, &call.query("room").unwrap_or_default())?;
    let visit = Visit { gateway, call, room, message };
    match path {
        "join" => visit.join().await,
        "status" => visit.status().await,
        "line" => visit.line().await,
        "enter" => visit.enter(),
        "extend" => visit.extend().await,
        "leave" => visit.leave().await,
        "recover" => visit.recover().await,
        "code" if call.method == Method::GET => visit.code_page("", Accepted::NotYet),
        "code" => visit.code().await,
        "receipt" => visit.receipt().await,
        "staff" => visit.staff(),
        _ => Err(Refusal::NotFound),
    }
}

fn room(call: &Call, name: &str) -> Result<Arc<RoomInForce>, Refusal> {
    call.snapshot.rooms.iter().find(|room| room.settings.name.as_str() == name).cloned().ok_or(Refusal::NotFound)
}

fn health(gateway: &Gateway) -> Response<Body> {
    let (status, text) = match gateway.is_draining() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        false => (StatusCode::OK, "ok\n"),
    };
    let mut response = personal(status, Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The question that browsers ask before a listed site's script may talk to us.
fn preflight(call: &Call, headers: &HeaderMap) -> Response<Body> {
    let mut response = personal(StatusCode::NO_CONTENT, Body::Empty);
    allow_origin(&mut response, call, headers);
    let allowed = response.headers_mut();
    if allowed.contains_key("access-control-allow-origin") {
        allowed.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        let names = "content-type, waiting-room-ticket, waiting-room-turn, waiting-room-pass";
        allowed.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
    }
    response
}

impl Visit<'_> {
    /// State may be changed from here, from a listed site, or by whoever holds tokens in headers.
    fn must_come_from_here(&self, unsaid: Unsaid) -> Result<(), Refusal> {
        match (self.call.provenance(&self.message.headers), unsaid) {
            (Provenance::SameOrigin, _) | (Provenance::Unsaid, Unsaid::Allowed) => Ok(()),
            _ if has_header_tokens(&self.message.headers) => Ok(()),
            _ => Err(Refusal::Forbidden),
        }
    }

    async fn credentials(&self) -> Credentials {
        let metrics = &self.gateway.shared.metrics;
        let headers = &self.message.headers;
        Credentials::pass(&self.room, self.call, headers, metrics)
            .with_place(&self.room, self.call, headers, metrics)
            .await
    }

    fn by_hand(&self) -> bool {
        self.call.audience(&self.message.headers) == Audience::Page
    }

    fn field(&self, name: &str) -> Option<String> {
        self.message.fields.get(name)
    }

    /// Where the visitor wanted to go: said in the request, the page it came from, or the room's start.
    fn wanted(&self) -> WantedPath {
        let own = &self.room.frame.own_path;
        let acceptable = |path: &WantedPath| !path.path().starts_with(own.as_str());
        let said = self.field("to").or_else(|| self.call.query("to"));
        said.and_then(|to| same_origin_path(&to))
            .filter(acceptable)
            .or_else(|| self.referer().filter(acceptable))
            .or_else(|| same_origin_path(&self.room.settings.start))
            .unwrap_or_else(WantedPath::root)
    }

    fn referer(&self) -> Option<WantedPath> {
        let referer: http::Uri = self.message.headers.get(REFERER)?.to_str().ok()?.parse().ok()?;
        let host = host_of(referer.authority()?.as_str()).to_ascii_lowercase();
        (host == self.call.host_name).then(|| same_origin_path(referer.path_and_query()?.as_str()))?
    }

    fn look(&self, credentials: &Credentials) -> Option<View> {
        credentials.ticket.map(|held| self.room.live.look(&held.ticket, self.asks()))
    }

    fn asks(&self) -> Asks {
        if self.by_hand() { Asks::ByHand } else { Asks::Scripted }
    }

    /// What the visitor saw last.
    fn shown_ahead(&self) -> Option<u64> {
        self.field("shown_ahead").and_then(|shown| shown.parse().ok())
    }

    fn line_address(&self, to: &str) -> String {
        let own = &self.room.frame.own_path;
        let (room, random) = (&self.room.settings.name, self.gateway.shared.ids.fresh());
        let lang = self.call.query("lang").filter(|lang| lang.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let lang = lang.map(|lang| format!("&lang={lang}")).unwrap_or_default();
        format!("{own}/line?room={room}&to={}&n={random}{lang}", query_value(to))
    }

    fn hand_over(&self, response: &mut Response<Body>, tokens: Tokens) {
        if wants_header_tokens(&self.message.headers) {
            let headers: Vec<(HeaderName, HeaderValue)> = tokens.headers;
            response.headers_mut().extend(headers);
        }
        add_cookies(response, tokens.cookies);
    }
}

/// The methods of one of our own paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    Get,
    GetAndHead,
    GetAndPost,
    Post,
}

impl Allowed {
    fn at(path: &str) -> Option<Allowed> {
        Some(match path {
            "join" | "enter" | "extend" | "leave" | "recover" => Allowed::Post,
            "status" | "line" | "code" => Allowed::GetAndPost,
            "receipt" | "health" | "openapi.json" | "solver.js" => Allowed::GetAndHead,
            "staff" => Allowed::Get,
            _ if path.starts_with("board/") || path.starts_with("draw/") => Allowed::GetAndHead,
            _ => return None,
        })
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Allowed::Get => &[Method::GET],
            Allowed::GetAndHead => &[Method::GET, Method::HEAD],
            Allowed::GetAndPost => &[Method::GET, Method::POST],
            Allowed::Post => &[Method::POST],
        }
    }

    /// As the field `Allow` says it.
    fn as_str(self) -> &'static str {
        match self {
            Allowed::Get => "GET",
            Allowed::GetAndHead => "GET, HEAD",
            Allowed::GetAndPost => "GET, POST",
            Allowed::Post => "POST",
        }
    }
}

/// What it means that a request does not say where it was made: an old browser, or no browser.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsaid {
    Allowed,
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_addresses_survive_the_query() {
        let to = "/a/b?c=d&e=f%20g#";
        assert_eq!(form_value(&format!("x=1&to={}", query_value(to)), "to").as_deref(), Some(to));
    }
}
