//! Our own paths: join, status, line, board, enter, extend, leave, health. They never reach the portal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, HeaderMap,
    HeaderName, HeaderValue, REFERER, REFERRER_POLICY,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::answers::{
    add_cookies, allow_origin, board, description, json, plain_page, queue, queue_problem, retry_after, see_other,
};
use super::call::{Call, form_value};
use super::class::{class_to_join, drawn, goes_before, prove};
use super::errors::Refusal;
use super::snapshot::RoomInForce;
use super::view::{self, standing_of};
use super::visitor::{Credentials, Held, Tokens, has_header_tokens, wants_header_tokens};
use super::{Gateway, Outcome, leave_unread};
use crate::body::Body;
use crate::classes::Verdict;
use crate::config::RoomState;
use crate::domain::client::ClientPrefix;
use crate::domain::cookie::staff_cookie;
use crate::domain::lane::Extended;
use crate::domain::leak_guard::personal_headers;
use crate::domain::line::{Asks, Standing as Stands};
use crate::domain::negotiation::{Audience, Provenance};
use crate::domain::opening::Phase;
use crate::domain::paths::{WantedPath, host_of, query_value, same_origin_path};
use crate::domain::proof::Failure;
use crate::domain::recovery::RecoveryCode;
use crate::domain::schedule::OpenNow;
use crate::domain::time::Unix;
use crate::domain::token::{Claim, Kind, Token, TokenText, VisitorId};
use crate::room::{NoTicket, Novelty, Occasion, Ticket, View};
use crate::staff::Shown;
use crate::telemetry::metrics::Decision;
use crate::waiting_room::catalogue::Notice;
use crate::waiting_room::page::{CodePage, LinePage, NoticePage, Remark, WayOn};
use crate::waiting_room::proof_pages::{DrawPage, Receipt, draw_document, draw_json};
use crate::waiting_room::queue::{QueueState, Standing};

/// Bytes of a body to one of our own paths at most.
const LARGEST_BODY: usize = 8 << 10;
/// How long such a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// When to ask again after a code that was refused.
const LATER: Duration = Duration::from_secs(30);
/// When to ask again for more time that was refused.
const NO_MORE_TIME: Duration = Duration::from_secs(60);
/// Join ids are as long as a page makes them; longer ones are none.
const LONGEST_JOIN_ID: usize = 64;

/// Seconds for which a receipt is good: a year, if the key that signed it is kept.
const RECEIPT_LIFE: u32 = 366 * 24 * 3600;

/// Characters of a code that are shown again at most.
const LONGEST_CODE: usize = 64;

/// What was sent to one of our own paths.
struct Message {
    headers: HeaderMap,
    body: Bytes,
}

/// A request to one of our own paths that concerns one room.
struct Visit<'a> {
    gateway: &'a Gateway,
    call: &'a Call,
    room: Arc<RoomInForce>,
    message: Message,
}

/// Answers a request to one of our own paths.
pub async fn answer(gateway: &Gateway, call: &Call, path: String, request: Request<Incoming>) -> Outcome {
    let (parts, body) = request.into_parts();
    let read = read(&parts, body).await;
    let headers = parts.headers;
    let response = match read {
        Ok(body) => respond(gateway, call, &path, Message { headers: headers.clone(), body }).await,
        Err(refusal) => Err(refusal),
    };
    match response {
        Ok(response) => Outcome::of(response, Decision::Own),
        Err(refusal) => Outcome::of(refusal.answer(call, &headers), Decision::Own),
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

async fn respond(gateway: &Gateway, call: &Call, path: &str, message: Message) -> Result<Response<Body>, Refusal> {
    if call.method == Method::OPTIONS {
        return Ok(preflight(call, &message.headers));
    }
    if path == "health" {
        only(call, &[Method::GET, Method::HEAD])?;
        return Ok(health(gateway));
    }
    if path == "openapi.json" {
        only(call, &[Method::GET, Method::HEAD])?;
        return Ok(description(&call.snapshot.config.server.own_path));
    }
    if let Some(name) = path.strip_prefix("board/") {
        only(call, &[Method::GET, Method::HEAD])?;
        return Ok(board(room(call, name)?.as_ref()));
    }
    if let Some(name) = path.strip_prefix("draw/") {
        only(call, &[Method::GET, Method::HEAD])?;
        return draw(call, &message.headers, room(call, name)?.as_ref());
    }
    let visit = |message| -> Result<Visit<'_>, Refusal> {
        let room = room(call, &call.query("room").unwrap_or_default())?;
        Ok(Visit { gateway, call, room, message })
    };
    match path {
        "join" => {
            only(call, &[Method::POST])?;
            visit(message)?.join().await
        }
        "status" => {
            only(call, &[Method::GET, Method::POST])?;
            visit(message)?.status().await
        }
        "line" => {
            only(call, &[Method::GET, Method::POST])?;
            visit(message)?.line().await
        }
        "receipt" => {
            only(call, &[Method::GET, Method::HEAD])?;
            visit(message)?.receipt().await
        }
        "staff" => {
            only(call, &[Method::GET])?;
            visit(message)?.staff()
        }
        "enter" => {
            only(call, &[Method::POST])?;
            visit(message)?.enter()
        }
        "extend" => {
            only(call, &[Method::POST])?;
            visit(message)?.extend().await
        }
        "leave" => {
            only(call, &[Method::POST])?;
            visit(message)?.leave().await
        }
        "recover" => {
            only(call, &[Method::POST])?;
            visit(message)?.recover().await
        }
        "code" => {
            only(call, &[Method::GET, Method::POST])?;
            let visit = visit(message)?;
            if call.method == Method::GET { visit.code_page("", Accepted::NotYet) } else { visit.code().await }
        }
        _ => Err(Refusal::NotFound),
    }
}

fn only(call: &Call, allowed: &[Method]) -> Result<(), Refusal> {
    if allowed.contains(&call.method) {
        return Ok(());
    }
    Err(Refusal::Method(match allowed {
        [only] if *only == Method::POST => "POST",
        [only] if *only == Method::GET => "GET",
        [_, second] if *second == Method::HEAD => "GET, HEAD",
        _ => "GET, POST",
    }))
}

fn room(call: &Call, name: &str) -> Result<Arc<RoomInForce>, Refusal> {
    call.snapshot.rooms.iter().find(|room| room.settings.name.as_str() == name).cloned().ok_or(Refusal::NotFound)
}

/// What anybody may know of the room's opening.
fn draw(call: &Call, headers: &HeaderMap, room: &RoomInForce) -> Result<Response<Body>, Refusal> {
    let opening = room.live.last_opening().filter(|opening| !opening.is_withdrawn()).ok_or(Refusal::NotFound)?;
    let words = room.words(call.language(headers));
    let name = |class| room.live.class_name(class).as_str().to_owned();
    let document = draw_document(&room.settings.name, room.live.identity(), &opening, &words, name);
    if call.audience(headers) == Audience::Page && call.query("as").as_deref() != Some("json") {
        let page = DrawPage { document: &document, opening: &opening, now: call.now.wall, host: Some(&call.host_name) };
        return Ok(plain_page(page.render(&call.snapshot.assets, &room.frame, &words)?));
    }
    let mut response = json(draw_json(&document), "application/json");
    personal_headers(response.headers_mut());
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}

fn health(gateway: &Gateway) -> Response<Body> {
    let draining = gateway.shared.draining.load(Ordering::Relaxed);
    let mut response = Response::new(Body::from(if draining { "draining\n" } else { "ok\n" }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if draining {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    personal_headers(response.headers_mut());
    response
}

/// The question that browsers ask before a listed site's script may talk to us.
fn preflight(call: &Call, headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    personal_headers(response.headers_mut());
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
        let json = self
            .message
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|media| media.to_str().unwrap_or_default().to_ascii_lowercase().contains("json"));
        if json {
            let body: serde_json::Value = serde_json::from_slice(&self.message.body).ok()?;
            return match body.get(name)? {
                serde_json::Value::String(text) => Some(text.clone()),
                serde_json::Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
        }
        form_value(std::str::from_utf8(&self.message.body).ok()?, name)
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

    /// Draws a ticket; whoever has one, or is inside, draws nothing.
    async fn join(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Allowed)?;
        let mut credentials = self.credentials().await;
        let mut tokens = Tokens::default();
        let verdict = prove(self.call, &self.message.headers, None);
        if let Some(reason) = self.reason_to_draw(&credentials, &verdict, Asked::OnTheWay) {
            if let Some(told) = self.draw_into(&mut credentials, reason, verdict, &mut tokens).await? {
                return Ok(told);
            }
        } else if let (Some(held), None) = (credentials.ticket, &credentials.inside)
            && let Some(seat) = self.room.live.seats.get(&held.ticket.id)
        {
            tokens.pass(&self.room, self.call, &self.message.headers, &held.ticket, &seat);
        }
        Ok(self.has_place(&credentials, tokens))
    }

    /// The answer to a visitor who has a place now: their standing, or the page that shows it.
    fn has_place(self, credentials: &Credentials, tokens: Tokens) -> Response<Body> {
        let mut response = if self.by_hand() {
            see_other(&self.line_address(self.wanted().as_str()))
        } else {
            let view = self.look(credentials);
            let standing = standing_of(&self.room, self.call, credentials, view, None);
            queue(&self.room, self.call, &self.message.headers, &standing)
        };
        self.hand_over(&mut response, tokens);
        response
    }

    /// Gives a place back to whoever lost the cookie and has the code; another place that the visitor drew meanwhile is
    /// given up. Whoever is inside stays there.
    async fn recover(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Refused)?;
        let (client, now) = (ClientPrefix::of(self.call.client.address), self.call.now.mono);
        let mut credentials = self.credentials().await;
        if let Err(wait) = self.room.live.joins.wrong_codes().may_try(client, now) {
            return self.too_many(&credentials, wait, Remark::TooMany);
        }
        let mut tokens = Tokens::default();
        let Some(ticket) = self.recovered() else {
            self.room.live.joins.wrong_codes().count(client, now);
            return self.refused_as(StatusCode::UNPROCESSABLE_ENTITY, &credentials, LATER, Remark::CodeRefused);
        };
        let has_it = credentials.ticket.is_some_and(|held| held.ticket.is_same_place(&ticket));
        if credentials.inside.is_none() && !has_it {
            if let Some(held) = credentials.ticket {
                self.room.live.leave(&held.ticket);
            }
            tokens.ticket(&self.room, self.call, &ticket);
            tokens.take_away(&self.room, self.call, &self.message.headers, Kind::Turn);
            credentials.ticket = Some(Held { ticket, issued: self.call.now.unix.seconds(), turn: None });
        }
        Ok(self.has_place(&credentials, tokens))
    }

    fn recovered(&self) -> Option<Ticket> {
        let code = RecoveryCode::read(&self.field("code")?)?;
        let place = self.room.keys.recovered(code, self.room.live.identity())?;
        self.room.live.ticket_of(place).ok()?
    }

    /// Why a ticket is to be drawn, if one is: there is none, or the visitor waits in a class that goes behind the one now
    /// proven. Whose turn it is already keeps it, and unless the visitor asked for it, nobody is moved to where the wait
    /// may be longer.
    fn reason_to_draw(&self, credentials: &Credentials, verdict: &Verdict, asked: Asked) -> Option<ReasonToDraw> {
        if self.needs_ticket(credentials) {
            return Some(ReasonToDraw::NoTicket);
        }
        let held = credentials.ticket.filter(|_| credentials.inside.is_none())?;
        let class = verdict.proven.class;
        let Stands::Waiting { ahead, .. } = self.look(credentials)?.standing else { return None };
        let better = goes_before(&self.room, class, held.ticket.class);
        let sooner = || {
            let is_open = self.room.live.in_force().hours(class).now == OpenNow::Open;
            is_open && self.room.live.lane_view(class).waiting <= ahead
        };
        let moves = better && (asked == Asked::ByCode || sooner());
        (moves && self.room.settings.state != RoomState::Closed).then_some(ReasonToDraw::BetterClass)
    }

    fn needs_ticket(&self, credentials: &Credentials) -> bool {
        if credentials.inside.is_some() || self.room.settings.state == RoomState::Closed {
            return false;
        }
        if matches!(self.room.live.phase(), Phase::Announced { .. }) {
            return false;
        }
        let Some(view) = self.look(credentials) else { return true };
        match view.standing {
            Stands::Waiting { .. } | Stands::YourTurn { .. } => false,
            Stands::Entered => {
                credentials.ticket.is_none_or(|held| self.room.live.seats.get(&held.ticket.id).is_none())
            }
            Stands::Left | Stands::Unknown => true,
        }
    }

    fn look(&self, credentials: &Credentials) -> Option<View> {
        credentials.ticket.map(|held| self.room.live.look(&held.ticket, self.asks()))
    }

    fn asks(&self) -> Asks {
        if self.by_hand() { Asks::ByHand } else { Asks::Scripted }
    }

    /// Draws the visitor's ticket. Whoever cannot get one is told so.
    async fn draw_into(
        &self,
        credentials: &mut Credentials,
        reason: ReasonToDraw,
        verdict: Verdict,
        tokens: &mut Tokens,
    ) -> Result<Option<Response<Body>>, Refusal> {
        if let Err(wait) = self.gateway.count_join(self.call, &self.room) {
            return self.too_many(credentials, wait, Remark::TooMany).map(Some);
        }
        match self.draw(reason, verdict, credentials, tokens).await {
            Ok(held) => credentials.ticket = Some(held),
            Err(error) => return self.without_ticket(&error).map(Some),
        }
        Ok(None)
    }

    async fn draw(
        &self,
        reason: ReasonToDraw,
        verdict: Verdict,
        credentials: &Credentials,
        tokens: &mut Tokens,
    ) -> Result<Held, NoTicket> {
        let live = &self.room.live;
        let old = credentials.ticket.filter(|_| reason == ReasonToDraw::BetterClass);
        // Drawn already, but the answer never arrived: no second one, whatever there may be by now.
        let before = old.and_then(|old| {
            let ticket = live.joins.drawn_instead_of(&old.ticket, verdict.proven.class)?;
            let is_a_place = live.standing(&ticket, self.asks()).is_a_place();
            if !is_a_place {
                live.joins.moved_to(&old.ticket);
            }
            is_a_place.then_some(ticket)
        });
        let ticket = match before {
            Some(ticket) => ticket,
            None => {
                let may_draw = class_to_join(self.gateway, self.call, &self.room, &verdict);
                let class = may_draw.class;
                if let Some(held) = old.filter(|held| !goes_before(&self.room, class, held.ticket.class)) {
                    return Ok(held);
                }
                let id = self.field("join_id").filter(|id| (8..=LONGEST_JOIN_ID).contains(&id.len()));
                let occasion = match &old {
                    Some(old) => Occasion::MoveFrom(&old.ticket),
                    None => Occasion::Join(id.as_deref()),
                };
                let (ticket, novelty) = live.join(class, occasion, self.asks(), self.call.now).await?;
                if novelty == Novelty::Anew {
                    drawn(self.call, &self.room, verdict, may_draw, &ticket).await;
                }
                ticket
            }
        };
        if let Some(held) = old {
            let standing = self.room.live.standing(&held.ticket, self.asks());
            if matches!(standing, Stands::YourTurn { .. }) {
                // It was called meanwhile: what is at hand goes before what is to come, which is not given again.
                live.joins.moved_to(&held.ticket);
                self.room.live.leave(&ticket);
                return Ok(held);
            }
            if live.is_shared() {
                // Other nodes, where the new ticket may be seen first, do not know of the move: nobody has two places.
                live.leave(&held.ticket);
            } else {
                // The old place is left once the new ticket is seen: this answer may be lost.
                live.joins.moved(&held.ticket, &ticket, self.call.now.mono);
            }
        }
        tokens.ticket(&self.room, self.call, &ticket);
        tokens.take_away(&self.room, self.call, &self.message.headers, Kind::Turn);
        let issued = self.call.now.unix.seconds();
        Ok(Held { ticket, issued, turn: None })
    }

    /// A code that was typed in: a ticket of its class, for whoever is not inside and has none that is as good.
    async fn code(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Refused)?;
        let mut credentials = self.credentials().await;
        let mut tokens = Tokens::default();
        let typed = self.field("code").unwrap_or_default();
        let mut verdict = prove(self.call, &self.message.headers, Some(&typed));
        if let Some(failure) = verdict.refused.take() {
            let Some(held) = self.given_before(&credentials, failure, &mut tokens) else {
                return self.code_refused(&credentials, failure);
            };
            credentials.ticket = Some(held);
            return Ok(self.has_place(&credentials, tokens));
        }
        if let Some(reason) = self.reason_to_draw(&credentials, &verdict, Asked::ByCode)
            && let Some(told) = self.draw_into(&mut credentials, reason, verdict, &mut tokens).await?
        {
            return Ok(told);
        }
        Ok(self.has_place(&credentials, tokens))
    }

    /// The place that a code which is used up was used for, if whoever asks holds the place that it was exchanged for: the
    /// answer was lost.
    fn given_before(&self, credentials: &Credentials, failure: Failure, tokens: &mut Tokens) -> Option<Held> {
        let held = credentials.ticket.filter(|_| failure == Failure::UsedUp && credentials.inside.is_none())?;
        let live = &self.room.live;
        // Whose turn it is keeps it, and what was given up meanwhile is no place. In a shared line it was left at once.
        let moves = match live.standing(&held.ticket, self.asks()) {
            Stands::Waiting { .. } => true,
            Stands::Left => live.is_shared(),
            Stands::YourTurn { .. } | Stands::Entered | Stands::Unknown => false,
        };
        let is_closed = self.room.settings.state == RoomState::Closed;
        let ticket = live.joins.drawn_instead_of_any(&held.ticket).filter(|_| moves && !is_closed)?;
        if !live.standing(&ticket, self.asks()).is_a_place() {
            return None;
        }
        tokens.ticket(&self.room, self.call, &ticket);
        Some(Held { ticket, issued: self.call.now.unix.seconds(), turn: None })
    }

    /// The visitor's place as it was: 422, or 429 after too many attempts.
    fn code_refused(&self, credentials: &Credentials, failure: Failure) -> Result<Response<Body>, Refusal> {
        let status = match failure {
            Failure::Throttled => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let standing = view::standing(&self.room, self.call, credentials);
        let headers = &self.message.headers;
        let mut response = if self.by_hand() {
            self.code_page(&self.field("code").unwrap_or_default(), Accepted::No)?
        } else {
            queue_problem(&self.room, self.call, headers, &standing, status)
        };
        *response.status_mut() = status;
        if failure == Failure::Throttled {
            retry_after(response.headers_mut(), Duration::from_secs(60));
        }
        personal_headers(response.headers_mut());
        allow_origin(&mut response, self.call, headers);
        Ok(response)
    }

    /// The page for a code: the typed one, or that of the link.
    fn code_page(&self, typed: &str, accepted: Accepted) -> Result<Response<Body>, Refusal> {
        let of_link = self.call.query("code").filter(|_| accepted == Accepted::NotYet).unwrap_or_default();
        let code: String = if typed.is_empty() { &of_link } else { typed }.chars().take(LONGEST_CODE).collect();
        let to = self.wanted();
        let host = Some(self.call.host_name.as_str());
        let page = CodePage { code: &code, refused: accepted == Accepted::No, to: to.as_str(), host };
        let catalogue = self.call.language(&self.message.headers);
        Ok(plain_page(page.render(&self.call.snapshot.assets, &self.room.frame, catalogue)?))
    }

    /// No ticket could be drawn: the same facts as JSON, or as a page from which one can try again.
    fn without_ticket(&self, error: &NoTicket) -> Result<Response<Body>, Refusal> {
        let standing = view::without_ticket(&self.room, self.call, error);
        let mut response = if self.by_hand() {
            self.line_page(&standing, None)?
        } else {
            queue_problem(&self.room, self.call, &self.message.headers, &standing, StatusCode::SERVICE_UNAVAILABLE)
        };
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        retry_after(response.headers_mut(), standing.refresh);
        personal_headers(response.headers_mut());
        Ok(response)
    }

    fn line_page(&self, standing: &Standing, remark: Option<Remark>) -> Result<Response<Body>, Refusal> {
        let to = self.wanted();
        let n = self.gateway.shared.ids.fresh();
        let page = LinePage { standing, to: to.as_str(), n: &n, remark, host: Some(&self.call.host_name) };
        let catalogue = self.call.language(&self.message.headers);
        let words = self.room.words(catalogue);
        Ok(plain_page(page.render(&self.call.snapshot.assets, &self.room.frame, &words)?))
    }

    /// The same facts all the same, as JSON or as the page from which one goes on, and when to ask again.
    fn too_many(&self, credentials: &Credentials, wait: Duration, remark: Remark) -> Result<Response<Body>, Refusal> {
        let mut response = self.refused_as(StatusCode::TOO_MANY_REQUESTS, credentials, wait, remark)?;
        retry_after(response.headers_mut(), wait);
        Ok(response)
    }

    fn refused_as(
        &self,
        status: StatusCode,
        credentials: &Credentials,
        wait: Duration,
        remark: Remark,
    ) -> Result<Response<Body>, Refusal> {
        let looked = standing_of(&self.room, self.call, credentials, self.look(credentials), self.shown_ahead());
        let standing = Standing { refresh: wait, ..looked };
        let headers = &self.message.headers;
        let mut response = if self.by_hand() {
            self.line_page(&standing, Some(remark))?
        } else {
            queue_problem(&self.room, self.call, headers, &standing, status)
        };
        *response.status_mut() = status;
        personal_headers(response.headers_mut());
        allow_origin(&mut response, self.call, headers);
        Ok(response)
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

    /// The visitor's standing. Near the front the answer is held back until the call.
    async fn status(self) -> Result<Response<Body>, Refusal> {
        let writes = self.call.method == Method::POST;
        if writes {
            self.must_come_from_here(Unsaid::Allowed)?;
        }
        let credentials = self.credentials().await;
        let mut tokens = Tokens::default();
        let view = match credentials.ticket.filter(|_| credentials.inside.is_none()) {
            None => None,
            Some(held) => {
                if let Err(wait) = self.room.live.count_poll(&held.ticket, self.call.now.mono) {
                    return self.too_many(&credentials, wait, Remark::TooMany);
                }
                Some(self.poll(&held.ticket).await)
            }
        };
        let then = self.call.at(self.gateway.shared.clock.now());
        let visit = Visit { call: &then, ..self };
        if let (Some(held), Some(view)) = (credentials.ticket, view) {
            visit.tokens_for(&held, view, &mut tokens);
        }
        let standing = standing_of(&visit.room, &then, &credentials, view, visit.shown_ahead());
        let mut response = queue(&visit.room, &then, &visit.message.headers, &standing);
        if writes {
            visit.hand_over(&mut response, tokens);
        }
        Ok(response)
    }

    async fn poll(&self, ticket: &Ticket) -> View {
        let live = &self.room.live;
        let clock = &self.gateway.shared.clock;
        let polled = live.poll(ticket, Asks::Scripted, self.call.now);
        let is_closed = self.room.settings.state == RoomState::Closed;
        let is_draining = self.gateway.shared.draining.load(Ordering::Relaxed);
        let answer_now = is_closed || is_draining || self.field("now").is_some();
        let Some(news) = polled.news.filter(|_| !answer_now) else { return polled.view };
        let longest = self.call.snapshot.config.server.limits.held_poll_timeout;
        tokio::select! {
            _ = news => {}
            () = clock.sleep(longest) => {}
        }
        live.look(ticket, Asks::Scripted)
    }

    /// The turn for whoever was called; the ticket anew for whoever has had it for half its life; a turn that lapsed
    /// goes.
    fn tokens_for(&self, held: &Held, view: View, tokens: &mut Tokens) {
        let (room, call) = (&self.room, self.call);
        match view.standing {
            Stands::YourTurn { .. } if held.turn.is_none() => tokens.turn(room, call, &held.ticket),
            Stands::Waiting { .. } => tokens.take_away(room, call, &self.message.headers, Kind::Turn),
            Stands::Entered => {
                if let Some(seat) = room.live.seats.get(&held.ticket.id) {
                    tokens.pass(room, call, &self.message.headers, &held.ticket, &seat);
                }
            }
            _ => {}
        }
        let half = u32::try_from(room.settings.ticket_lifetime.as_secs() / 2).unwrap_or(u32::MAX);
        let waits = matches!(view.standing, Stands::Waiting { .. } | Stands::YourTurn { .. });
        if waits && call.now.unix.seconds() >= held.issued.saturating_add(half) {
            tokens.ticket(room, call, &held.ticket);
        }
    }

    /// The visitor's place as a page that works without script.
    async fn line(self) -> Result<Response<Body>, Refusal> {
        let credentials = self.credentials().await;
        let mut tokens = Tokens::default();
        if let Some(held) = credentials.ticket
            && let Err(wait) = self.room.live.count_poll(&held.ticket, self.call.now.mono)
        {
            return self.too_many(&credentials, wait, Remark::TooMany);
        }
        let view = credentials.ticket.filter(|_| credentials.inside.is_none()).map(|held| {
            let view = self.room.live.poll(&held.ticket, Asks::ByHand, self.call.now).view;
            self.tokens_for(&held, view, &mut tokens);
            view
        });
        let standing = standing_of(&self.room, self.call, &credentials, view, self.shown_ahead());
        let mut response = self.line_page(&standing, None)?;
        if self.call.method == Method::POST {
            self.hand_over(&mut response, tokens);
        }
        Ok(response)
    }

    /// Proof of the visitor's place, to be kept.
    async fn receipt(self) -> Result<Response<Body>, Refusal> {
        let credentials = self.credentials().await;
        let held =
            credentials.ticket.filter(|_| self.look(&credentials).is_some_and(|view| view.standing.is_a_place()));
        let held = held.ok_or(Refusal::NotFound)?;
        let (room, now) = (&self.room, self.call.now);
        let number = room.live.number_to_tell(&held.ticket);
        let token = receipt_token(room, &held, number, now.unix.seconds());
        let class = room.live.class_name(held.ticket.class);
        let receipt = Receipt {
            room: &room.settings.name,
            class: class.as_str(),
            since: Unix::from_seconds(held.issued),
            number,
            made: now.wall,
            token: token.as_str(),
        };
        let words = room.words(self.call.language(&self.message.headers));
        if self.by_hand() {
            let page = receipt.render(&self.call.snapshot.assets, &room.frame, &words, Some(&self.call.host_name))?;
            return Ok(plain_page(page));
        }
        let mut response = json(receipt.to_json(&words), "application/json");
        personal_headers(response.headers_mut());
        allow_origin(&mut response, self.call, &self.message.headers);
        Ok(response)
    }

    /// Sends the visitor to the wanted address, which then enters.
    fn enter(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Refused)?;
        Ok(see_other(self.wanted().as_str()))
    }

    /// A link with a pass of staff: the browser keeps it, and goes to the wanted page without it in the address.
    fn staff(self) -> Result<Response<Body>, Refusal> {
        let secret = self.call.query("pass").unwrap_or_default();
        let (room, shared) = (&self.room.settings.name, &self.gateway.shared);
        let shown = shared.staff.of(room, [&secret].into_iter(), self.call.now.unix);
        shown.and_then(Shown::bearer).ok_or(Refusal::NotFound)?;
        let mut response = see_other(self.wanted().as_str());
        response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        add_cookies(&mut response, vec![staff_cookie(room, self.call.channel, &secret)]);
        Ok(response)
    }

    /// More time: for the turn, or for the session.
    async fn extend(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Refused)?;
        let credentials = self.credentials().await;
        let mut tokens = Tokens::default();
        if let Some(inside) = &credentials.inside {
            self.room.live.touch(&inside.token.id, &inside.seat, self.room.live.room_seconds(self.call.now));
            tokens.renewed_pass(&self.room, self.call, inside);
        } else if let Some(held) = credentials.ticket
            && self.room.live.extend(&held.ticket) == Extended::TooOften
        {
            return self.too_many(&credentials, NO_MORE_TIME, Remark::NoMoreTime);
        }
        let mut response = if self.by_hand() {
            see_other(&self.line_address(self.wanted().as_str()))
        } else {
            let standing = view::standing(&self.room, self.call, &credentials);
            queue(&self.room, self.call, &self.message.headers, &standing)
        };
        self.hand_over(&mut response, tokens);
        Ok(response)
    }

    /// Gives up the place.
    async fn leave(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Refused)?;
        let credentials = self.credentials().await;
        if let Some(held) = credentials.ticket {
            self.room.live.leave(&held.ticket);
        }
        let mut tokens = Tokens::default();
        for kind in [Kind::Ticket, Kind::Turn] {
            tokens.take_away(&self.room, self.call, &self.message.headers, kind);
        }
        let mut response = if self.by_hand() {
            let to = self.wanted();
            let notice = NoticePage {
                way_on: WayOn::Join,
                to: Some(to.as_str()),
                host: Some(&self.call.host_name),
                ..NoticePage::only(Notice::Left)
            };
            let catalogue = self.call.language(&self.message.headers);
            plain_page(notice.render(&self.call.snapshot.assets, Some(&self.room.frame), catalogue)?)
        } else {
            let state = if credentials.ticket.is_some() { QueueState::Left } else { QueueState::None };
            let standing = Standing::only(state, Duration::from_secs(30), self.call.now.wall);
            queue(&self.room, self.call, &self.message.headers, &standing)
        };
        self.hand_over(&mut response, tokens);
        Ok(response)
    }

    fn hand_over(&self, response: &mut Response<Body>, tokens: Tokens) {
        if wants_header_tokens(&self.message.headers) {
            let headers: Vec<(HeaderName, HeaderValue)> = tokens.headers;
            response.headers_mut().extend(headers);
        }
        add_cookies(response, tokens.cookies);
    }
}

/// A receipt says what the line says, and nothing of who the visitor is.
fn receipt_token(room: &RoomInForce, held: &Held, number: Option<u64>, now: u32) -> TokenText {
    let token = Token {
        room: room.settings.id,
        claim: Claim::Receipt(room.live.identity()),
        class: held.ticket.class,
        id: VisitorId([0; 16]),
        number: number.unwrap_or(0),
        issued: held.issued,
        expires: now.saturating_add(RECEIPT_LIFE),
    };
    room.keys.sign(&token, now)
}

/// What became of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    NotYet,
    No,
}

/// Why a ticket is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReasonToDraw {
    NoTicket,
    BetterClass,
}

/// Whether a visitor asked to be moved into a class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// By typing in a code.
    ByCode,
    /// No: a proof came along.
    OnTheWay,
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
