//! Those admitted: through the gate if need be, to the portal, and back with the pass.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::answers::{append_cookies, queue_problem, retry_after, waiting};
use super::call::Call;
use super::class::{class_to_join, drawn};
use super::errors::Refusal;
use super::snapshot::RoomInForce;
use super::visitor::{Credentials, Held, Inside, Tokens, wants_header_tokens};
use super::{Gateway, Outcome, admit_decision, leave_unread, personal_route, view, waiting_decision};
use crate::body::Body;
use crate::clock::Clock;
use crate::domain::admission::{Admit, Wait};
use crate::domain::client::ClientPrefix;
use crate::domain::cookie::presented;
use crate::domain::kept::KeptHeaders;
use crate::domain::leak_detectors::{Arrival, Detector, Effect, VisitorKey, Who, effect_of};
use crate::domain::leak_guard::{self, Command, Mode, Reason, Verdict, personal_headers, put_on_armour};
use crate::domain::line::Knock;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::negotiation::{Audience, Provenance, is_prefetch};
use crate::domain::pass_limits::Excess;
use crate::domain::paths::NormalPath;
use crate::domain::time::Mono;
use crate::domain::token::Kind;
use crate::leaks::{Exchange, Origin};
use crate::proxy::meter::Says;
use crate::proxy::{Answer, Context, Keep, Pace, ProxyError, Received, RequestBody, Slot, receive};
use crate::room::{GatePlace, LiveRoom, NoTicket, Passed, Seat, Ticket};
use crate::store::Drawn;
use crate::telemetry::metrics::{self, LeakGuardAction, UpstreamOutcome};
use crate::waiting_room::page::Whereabouts;

/// Statuses by which a portal, or the server in front of it, says that it cannot serve just now.
const OVERLOADED: [StatusCode; 3] =
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

/// A refusal, and the headers of the request it answers.
pub type Refused = (Refusal, HeaderMap);

/// While this lives, the visitor inside is active.
struct Active {
    live: Arc<LiveRoom>,
    seat: Arc<Seat>,
    clock: Clock,
}

impl Active {
    /// Of whom the gate has just let in: nothing else of theirs is under way.
    fn begin(live: &Arc<LiveRoom>, seat: &Arc<Seat>, clock: &Clock) -> Keep {
        seat.begin();
        Active::begun(live, seat, clock)
    }

    /// Of whom comes with a pass, which is worth one person's traffic.
    fn within_limits(call: &Call, room: &RoomInForce, seat: &Arc<Seat>, clock: &Clock) -> Result<Keep, Excess> {
        room.live.begin_within(seat, &room.settings.pass_limits, call.now.mono)?;
        Ok(Active::begun(&room.live, seat, clock))
    }

    fn begun(live: &Arc<LiveRoom>, seat: &Arc<Seat>, clock: &Clock) -> Keep {
        Arc::new(Active { live: live.clone(), seat: seat.clone(), clock: clock.clone() })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.seat.end(self.live.room_seconds_at(self.clock.unix()));
    }
}

/// A request whose body has been read ahead.
type Read = Request<RequestBody>;

/// A visitor inside a room.
struct Entered<'a> {
    room: &'a Arc<RoomInForce>,
    ticket: Ticket,
    seat: &'a Arc<Seat>,
    keep: Keep,
}

/// How a request goes to the portal, and what goes back with the answer.
struct Journey<'a> {
    route: leak_guard::Route,
    sticky: Option<u64>,
    keep: Option<Keep>,
    /// The room whose path it is, gated or not.
    room: Option<&'a RoomName>,
    inside: Option<(&'a Arc<RoomInForce>, Ticket)>,
    /// The visitor's, if one is inside.
    seat: Option<&'a Arc<Seat>>,
    arrival: Arrival,
    tokens: Tokens,
}

impl Journey<'_> {
    /// Nobody's in particular.
    fn ungated(call: &Call) -> Self {
        Journey {
            route: personal_route(call),
            sticky: None,
            keep: None,
            room: None,
            inside: None,
            seat: None,
            arrival: Arrival::Inside,
            tokens: Tokens::default(),
        }
    }
}

/// An answer on its way back to the visitor.
struct WayBack<'a> {
    call: &'a Call,
    received: &'a KeptHeaders,
    route: leak_guard::Route,
    inside: Option<(&'a Arc<RoomInForce>, Ticket)>,
    /// The visitor has no cookies, and takes tokens in headers.
    gives_headers: bool,
    tokens: Tokens,
}

impl WayBack<'_> {
    /// Puts the tokens on the answer. Nothing of ours rides on what a cache might keep: not where the guard only observes,
    /// and not on routes that are spared what stops the careless ones.
    fn hand_over(mut self, mut response: Response<Body>, worn: Worn) -> Response<Body> {
        let given = if self.gives_headers { std::mem::take(&mut self.tokens.headers) } else { Vec::new() };
        let brings_nothing = given.is_empty() && self.tokens.cookies.is_empty();
        match worn {
            _ if brings_nothing => {}
            Worn::Nothing => personal_headers(response.headers_mut()),
            Worn::Policy => put_on_armour(response.headers_mut()),
            Worn::Whole => {}
        }
        response.headers_mut().extend(given);
        append_cookies(&mut response, self.tokens.cookies);
        response
    }
}

impl Gateway {
    /// Takes a request that the decision admits to the portal. Its body is read first, up to the buffer: nobody may hold
    /// a place at the gate, a seat or a slot while a slow upload goes on.
    pub(super) async fn admit(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        admit: Admit,
        credentials: Credentials,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        if let (Admit::Turn, Some(held)) = (admit, credentials.ticket)
            && room.live.knock(&held.ticket) == Knock::Later
        {
            // The place at the gate is taken all the same; the answer goes out before a body is read.
            drop(room.live.arrive(held.ticket, &self.shared.clock, call.now));
            return Ok(self.wait(call, room, page_or_json(call, request.headers()), &credentials, request));
        }
        if let (Admit::Pass, Some(inside)) = (admit, credentials.inside.clone()) {
            // Before its body is read: bodies take memory.
            return match Active::within_limits(call, room, &inside.seat, &self.shared.clock) {
                Ok(keep) => {
                    let read = self.read_ahead(call, request).await?;
                    self.inside(call, room, inside, keep, read).await
                }
                Err(excess) => {
                    let (parts, body) = request.into_parts();
                    leave_unread(&parts, body);
                    Ok(self.asks_too_much(call, room, &credentials, excess, &parts.headers))
                }
            };
        }
        let read = self.read_ahead(call, request).await?;
        match (admit, credentials.ticket) {
            (Admit::SamePass, Some(held)) => self.follow(call, room, held.ticket, credentials, read).await,
            (Admit::Turn, Some(held)) => Box::pin(self.through_the_gate(call, room, held, credentials, read)).await,
            (Admit::Straight, _) => Box::pin(self.straight(call, room, credentials, read)).await,
            _ => {
                let sticky = credentials.staff.as_ref().map(|bearer| bearer.sticky);
                let journey = Journey { room: Some(&room.settings.name), sticky, ..Journey::ungated(call) };
                Ok(self.forward_read(call, journey, read, admit_decision(admit)).await)
            }
        }
    }

    /// A visitor inside: the seat is touched, the pass renewed when due.
    async fn inside(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        inside: Inside,
        keep: Keep,
        read: Read,
    ) -> Result<Outcome, Refused> {
        room.live.touch(&inside.token.id, &inside.seat, room.live.room_seconds(call.now));
        let mut tokens = Tokens::default();
        tokens.renewed_pass(room, call, &inside);
        let ticket = Ticket { id: inside.token.id, class: inside.token.class, number: inside.token.number };
        self.as_insider(call, Entered { room, ticket, seat: &inside.seat, keep }, tokens, Admit::Pass, read).await
    }

    /// Another request of a visitor who just entered: the same pass again, at no cost.
    async fn follow(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        ticket: Ticket,
        credentials: Credentials,
        read: Read,
    ) -> Result<Outcome, Refused> {
        let Some(seat) = room.live.seats.get(&ticket.id) else {
            return Ok(self.not_yet(call, room, &credentials, read.headers()));
        };
        let keep = match Active::within_limits(call, room, &seat, &self.shared.clock) {
            Ok(keep) => keep,
            Err(excess) => return Ok(self.asks_too_much(call, room, &credentials, excess, read.headers())),
        };
        let mut tokens = Tokens::default();
        tokens.pass(room, call, read.headers(), &ticket, &seat);
        self.as_insider(call, Entered { room, ticket, seat: &seat, keep }, tokens, Admit::SamePass, read).await
    }

    async fn as_insider(
        &self,
        call: &Call,
        entered: Entered<'_>,
        tokens: Tokens,
        admit: Admit,
        read: Read,
    ) -> Result<Outcome, Refused> {
        let arrival = if admit == Admit::Pass { Arrival::Inside } else { Arrival::Entering };
        let journey = Journey { arrival, ..self.journey(call, entered, tokens) };
        let slot = self.insider_slot(call).await.map_err(|error| (error, read.headers().clone()))?;
        Ok(self.send(call, read, journey, slot, admit_decision(admit)).await)
    }

    async fn insider_slot(&self, call: &Call) -> Result<Slot, Refusal> {
        let wait = call.snapshot.config.portal.queue_timeout;
        Ok(self.shared.portal.slot_for_insider(wait).await.map_err(ProxyError::from)?)
    }

    /// A called visitor asks to enter.
    async fn through_the_gate(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        held: Held,
        credentials: Credentials,
        read: Read,
    ) -> Result<Outcome, Refused> {
        match room.live.arrive(held.ticket, &self.shared.clock, self.shared.clock.now()) {
            Ok(place) => {
                let waited = call.now.unix.seconds().saturating_sub(held.issued);
                let outcome = self.at_the_gate(call, room, held.ticket, place, Admit::Turn, credentials, read).await?;
                if outcome.decision == admit_decision(Admit::Turn) {
                    room.live.lane_metrics(held.ticket.class).wait_seconds.observe(f64::from(waited));
                }
                Ok(outcome)
            }
            Err(_) => self.follow(call, room, held.ticket, credentials, read).await,
        }
    }

    /// Nobody waits: a number of one's own, and to the gate.
    async fn straight(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        mut credentials: Credentials,
        read: Read,
    ) -> Result<Outcome, Refused> {
        let proven = credentials.proven.take();
        let may_draw = match &proven {
            Some(verdict) => Some(class_to_join(self, call, room, verdict).await),
            None => None,
        };
        let class = may_draw.as_ref().map_or(ClassId::CITIZEN, |may_draw| may_draw.class);
        let coming = room.live.go_straight(class).filter(|_| self.count_join(call, room).is_ok());
        let Some(coming) = coming else { return Ok(self.not_yet(call, room, &credentials, read.headers())) };
        let ticket = match room.live.draw(class, Drawn::ToEnter).await {
            // Who waited without a number keeps the identity, so that the two are one visitor's.
            Ok(ticket) => {
                let unnumbered = credentials.unnumbered.filter(|_| credentials.ticket.is_none());
                Ticket { id: unnumbered.map_or(ticket.id, |held| held.ticket.id), ..ticket }
            }
            Err(error) => return Ok(self.without_ticket(call, room, &error, read.headers())),
        };
        if let (Some(verdict), Some(may_draw)) = (proven, may_draw) {
            drawn(call, room, verdict, may_draw, (&ticket, &self.shared.clock)).await;
        }
        room.live.lane_metrics(class).arrivals.inc();
        let place = room.live.arrive_straight(ticket, &self.shared.clock, self.shared.clock.now());
        drop(coming);
        self.at_the_gate(call, room, ticket, place, Admit::Straight, credentials, read).await
    }

    /// No number could be drawn: the waiting page keeps trying, and says why.
    fn without_ticket(&self, call: &Call, room: &RoomInForce, error: &NoTicket, headers: &HeaderMap) -> Outcome {
        let standing = view::without_ticket(room, call, error);
        let wait = page_or_json(call, headers);
        Outcome::of(waiting(wait, room, call, headers, &standing), waiting_decision(wait))
    }

    /// Waits at the gate for as long as a request is held there.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and a struct would be used once")]
    async fn at_the_gate(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        ticket: Ticket,
        place: GatePlace,
        admit: Admit,
        credentials: Credentials,
        read: Read,
    ) -> Result<Outcome, Refused> {
        room.live.let_in(&self.shared.portal, self.shared.clock.now());
        let (seat, slot) = match place.wait(room.settings.gate_wait).await {
            Passed::Entered { seat, slot } => (seat, slot),
            Passed::Follows => return self.follow(call, room, ticket, credentials, read).await,
            Passed::NotYet => return Ok(self.not_yet(call, room, &credentials, read.headers())),
        };
        self.shared.held.entered(room.settings.id, &ticket, self.shared.clock.mono());
        if let Some(other) = room.live.joins.moved_to(&ticket) {
            // The answer that gave the visitor a place elsewhere never arrived.
            room.live.leave(&other);
        }
        let mut tokens = Tokens::default();
        tokens.pass(room, call, read.headers(), &ticket, &seat);
        let keep = Active::begin(&room.live, &seat, &self.shared.clock);
        let journey = self.journey(call, Entered { room, ticket, seat: &seat, keep }, tokens);
        Ok(self.send(call, read, journey, slot, admit_decision(admit)).await)
    }

    fn not_yet(&self, call: &Call, room: &RoomInForce, credentials: &Credentials, headers: &HeaderMap) -> Outcome {
        let wait = page_or_json(call, headers);
        let standing = view::standing(room, call, credentials);
        Outcome::of(waiting(wait, room, call, headers, &standing), waiting_decision(wait))
    }

    /// A pass is worth one person's traffic. The seat and the pass stay as they are.
    fn asks_too_much(
        &self,
        call: &Call,
        room: &RoomInForce,
        credentials: &Credentials,
        excess: Excess,
        headers: &HeaderMap,
    ) -> Outcome {
        let mut response = match call.audience(headers) {
            Audience::Script => {
                let standing = view::standing(room, call, credentials);
                queue_problem(room, call, headers, &standing, StatusCode::TOO_MANY_REQUESTS)
            }
            Audience::Page | Audience::SubResource => Refusal::TooMany.answer_to(call, headers, Whereabouts::Inside),
        };
        retry_after(response.headers_mut(), excess.wait());
        Outcome::of(response, metrics::Decision::Refused)
    }

    async fn read_ahead(&self, call: &Call, request: Request<Incoming>) -> Result<Read, Refused> {
        let config = &call.snapshot.config;
        let (parts, body) = request.into_parts();
        let limits = &config.server.limits;
        let pace = Pace { idle_limit: limits.body_idle_timeout, min_rate: limits.min_body_rate };
        match receive(body, config.portal.request_buffer, pace).await {
            Ok(body) => {
                if !matches!(body, RequestBody::Streaming(_)) {
                    call.connection.note_end_of_body();
                }
                Ok(Request::from_parts(parts, body))
            }
            Err(error) => Err((error.into(), parts.headers)),
        }
    }

    fn journey<'a>(&self, call: &Call, entered: Entered<'a>, tokens: Tokens) -> Journey<'a> {
        let [a, b, c, d, e, f, g, h, ..] = entered.ticket.id.0;
        Journey {
            route: personal_route(call),
            sticky: Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            keep: Some(entered.keep),
            room: Some(&entered.room.settings.name),
            inside: Some((entered.room, entered.ticket)),
            seat: Some(entered.seat),
            arrival: Arrival::Entering,
            tokens,
        }
    }

    /// Forwards what no room gates.
    pub(super) async fn forward_ungated(
        &self,
        call: &Call,
        request: Request<Incoming>,
        decision: metrics::Decision,
    ) -> Outcome {
        self.forward_journey(call, request, Journey::ungated(call), decision).await
    }

    /// Forwards what the operator declared public.
    pub(super) async fn forward_public(&self, call: &Call, request: Request<Incoming>) -> Outcome {
        let journey = Journey { route: leak_guard::Route::Public, ..Journey::ungated(call) };
        self.forward_journey(call, request, journey, metrics::Decision::ForwardedPublic).await
    }

    async fn forward_journey(
        &self,
        call: &Call,
        request: Request<Incoming>,
        journey: Journey<'_>,
        decision: metrics::Decision,
    ) -> Outcome {
        match self.read_ahead(call, request).await {
            Ok(read) => self.forward_read(call, journey, read, decision).await,
            Err((refusal, headers)) => Outcome::of(refusal.answer(call, &headers), metrics::Decision::Refused),
        }
    }

    async fn forward_read(
        &self,
        call: &Call,
        journey: Journey<'_>,
        read: Read,
        decision: metrics::Decision,
    ) -> Outcome {
        match self.insider_slot(call).await {
            Ok(slot) => self.send(call, read, journey, slot, decision).await,
            Err(refusal) => Outcome::of(refusal.answer(call, read.headers()), metrics::Decision::Refused),
        }
    }

    /// Sends the request and brings the answer, with the tokens that belong to it. Whoever gets an error keeps the pass.
    async fn send(
        &self,
        call: &Call,
        read: Read,
        journey: Journey<'_>,
        slot: Slot,
        decision: metrics::Decision,
    ) -> Outcome {
        let received = KeptHeaders::of(read.headers());
        let sent = self.shared.clock.mono();
        let guard = &call.snapshot.config.leak_guard;
        let watch = self.watch(call, &journey, read.headers(), sent);
        let bust = (guard.upstream_bust && guard.rules.mode == Mode::Enforce).then(|| self.shared.ids.fresh());
        // What a slow upload takes says nothing about the portal.
        let is_whole = !matches!(read.body(), RequestBody::Streaming(_));
        let inside = journey.inside;
        let way_back = WayBack {
            call,
            received: &received,
            route: journey.route,
            inside,
            gives_headers: !journey.tokens.headers.is_empty() && wants_header_tokens(read.headers()),
            tokens: journey.tokens,
        };
        let context = Context {
            received: Received { method: &call.method, uri: &call.uri, version: read.version(), headers: &received },
            portal: &call.snapshot.config.portal,
            visitor: call.visitor(),
            sticky: journey.sticky,
            route: journey.route,
            guard: &guard.rules,
            bust: bust.as_deref(),
            request_id: &call.request_id,
            watch: watch.as_ref().ok(),
            keep: journey.keep,
        };
        let answer = match &watch {
            Ok(_) => self.worker.forward(read, &context, slot).await,
            Err(detector) => Err(ProxyError::LeakFound(*detector)),
        };
        let upstream = self.shared.clock.mono().since(sent);
        self.measure(&answer, upstream);
        if let (true, Some((room, _)), Some(seat)) = (is_whole, inside, journey.seat) {
            self.meter(&answer, upstream, room, seat);
        }
        let response = match answer {
            Ok(answer) => self.bring(way_back, answer),
            Err(error) => self.apologise(way_back, error),
        };
        let class = inside.map(|(_, ticket)| ticket.class);
        Outcome { upstream: Some(upstream), class, ..Outcome::of(response, decision) }
    }

    /// What the leak guard remembers of the exchange, unless it stops the request.
    fn watch<'a>(
        &'a self,
        call: &'a Call,
        journey: &Journey<'a>,
        headers: &HeaderMap,
        left: Mono,
    ) -> Result<Exchange<'a>, Detector> {
        let guard = &call.snapshot.config.leak_guard;
        let origin = Origin {
            room: journey.room,
            who: self.who(call, headers, journey.inside),
            arrival: journey.arrival,
            method: &call.method,
            target: call.uri.path_and_query().map_or("", |target| target.as_str()),
            path: call.path(),
            host: call.host.to_str().unwrap_or_default(),
            request_id: call.request_id.to_str().unwrap_or_default(),
            now: call.now,
            left,
        };
        match journey.route {
            leak_guard::Route::Public => Ok(self.shared.leaks.leaving_anonymously(guard, origin)),
            leak_guard::Route::Personal(_) => {
                self.shared.leaks.leaving(guard, origin, headers, || effect(call, headers))
            }
        }
    }

    /// The portal's answer, with the visitor's tokens, or without them where the session ends with it.
    fn bring(&self, mut way_back: WayBack<'_>, answer: Answer) -> Response<Body> {
        let WayBack { call, received, route, inside, .. } = way_back;
        let mode = call.snapshot.config.leak_guard.rules.mode;
        self.count_guard(&answer, mode);
        let worn = worn_by(&answer, route, mode);
        if let (Some(Command::EndSession), Some((room, ticket))) = (answer.guarded.says.command, inside) {
            room.live.end_session(&ticket.id, room.live.room_seconds(call.now));
            way_back.tokens = Tokens::ended(room, call, &received.unfold());
        }
        self.log_out(call, received, answer.response.status(), &mut way_back.tokens);
        way_back.hand_over(answer.response, worn)
    }

    /// What a visitor gets instead of the portal's answer.
    fn apologise(&self, way_back: WayBack<'_>, error: ProxyError) -> Response<Body> {
        if let ProxyError::LeakGuard(reason) = error {
            self.shared.metrics.count_leak_guard(reason.into(), LeakGuardAction::Blocked);
        }
        let whereabouts = way_back.inside.map_or(Whereabouts::Unknown, |_| Whereabouts::Inside);
        let apology = Refusal::from(error).answer_to(way_back.call, &way_back.received.unfold(), whereabouts);
        way_back.hand_over(apology, Worn::Whole)
    }

    /// Whose request it is to the leak guard: of a browser with passes of several rooms always the first room's.
    fn who(&self, call: &Call, headers: &HeaderMap, inside: Option<(&Arc<RoomInForce>, Ticket)>) -> Who {
        let own = inside.map(|(room, ticket)| (room.settings.id, ticket.id));
        let rooms = call.snapshot.rooms.iter();
        let earlier = rooms.take_while(|room| own.is_none_or(|(id, _)| id != room.settings.id));
        let pass = |room: &Arc<RoomInForce>| {
            let name = room.cookies.name(Kind::Pass, call.channel);
            let now = room.live.room_seconds(call.now);
            presented(headers, name).find_map(|text| room.keys.verify(Kind::Pass, text, now).ok()).map(|pass| pass.id)
        };
        let visitor = earlier.filter_map(pass).next().or(own.map(|(_, visitor)| visitor));
        Who { visitor: visitor.map(|id| VisitorKey(id.0)), network: ClientPrefix::of(call.client.address) }
    }

    /// A logout path ends the passes of the rooms whose it is: when the visitor asked for it and the portal answered.
    fn log_out(&self, call: &Call, received: &KeptHeaders, status: StatusCode, tokens: &mut Tokens) {
        let here = call.snapshot.rooms.iter().filter(|room| {
            let settings = &room.settings;
            !settings.logout.is_empty()
                && settings.logout.iter().any(|pattern| pattern.matches(&NormalPath::of(call.path())))
                && settings.hosts.iter().any(|host| host.matches(&call.host_name))
        });
        for room in here {
            let headers = &received.unfold();
            let asked = !is_prefetch(headers) && call.provenance(headers) != Provenance::CrossOrigin;
            if !asked || status.is_server_error() {
                continue;
            }
            let credentials = Credentials::pass(room, call, headers, &self.shared.metrics);
            if let Some(inside) = credentials.inside {
                room.live.end_session(&inside.token.id, room.live.room_seconds(call.now));
            }
            let ended = Tokens::ended(room, call, headers);
            tokens.headers.clear();
            tokens.cookies.extend(ended.cookies);
        }
    }

    fn measure(&self, answer: &Result<Answer, ProxyError>, upstream: Duration) {
        let outcome = match answer {
            Ok(_) => UpstreamOutcome::Answered,
            Err(ProxyError::Unreachable { .. }) => UpstreamOutcome::ConnectFailed,
            Err(ProxyError::ConnectTimeout { .. } | ProxyError::Silent) => UpstreamOutcome::TimedOut,
            Err(ProxyError::VisitorGone(_) | ProxyError::VisitorTooSlow(_)) => UpstreamOutcome::Abandoned,
            Err(ProxyError::Busy(_)) => UpstreamOutcome::Saturated,
            Err(_) => UpstreamOutcome::Broken,
        };
        self.shared.metrics.upstream_request_seconds.of(outcome).observe(upstream.as_secs_f64());
    }

    /// Counts how fast the portal answered somebody inside: for its health, and for the rate of the room. Whoever is not
    /// inside, or is heard often, could stop all rooms by asking for what fails.
    fn meter(&self, answer: &Result<Answer, ProxyError>, upstream: Duration, room: &RoomInForce, seat: &Seat) {
        let says = match answer {
            Ok(answer) if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS => return,
            Ok(answer) if OVERLOADED.contains(&answer.response.status()) => Says::Fails,
            Ok(_) => Says::Works,
            Err(error) if error.is_an_outage() => Says::Fails,
            Err(_) => return,
        };
        if seat.is_heard(self.shared.clock.mono()) {
            self.shared.portal.meter().note(upstream, says);
            room.live.meter().note(upstream, says);
        }
    }

    /// Counts what the guard changed, or would have changed.
    fn count_guard(&self, answer: &Answer, mode: Mode) {
        let count = |reason: Reason, action| {
            let action = if mode == Mode::Observe { LeakGuardAction::Observed } else { action };
            self.shared.metrics.count_leak_guard(reason.into(), action);
        };
        if answer.guarded.public_cookies > 0 {
            count(Reason::SetCookie, LeakGuardAction::Removed);
        }
        for reason in answer.guarded.changed.reasons() {
            count(reason, LeakGuardAction::Removed);
        }
        match answer.guarded.verdict {
            Verdict::Personal | Verdict::Public => {}
            Verdict::Downgraded(reason) => count(reason, LeakGuardAction::Downgraded),
            Verdict::Fault(reason) => count(reason, LeakGuardAction::Blocked),
        }
    }
}

/// What an answer wears against caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worn {
    /// What the portal gave it.
    Nothing,
    /// The personal policy, without some of the armour.
    Policy,
    /// The personal policy and the whole armour.
    Whole,
}

fn worn_by(answer: &Answer, route: leak_guard::Route, mode: Mode) -> Worn {
    match (answer.guarded.verdict, route) {
        _ if mode == Mode::Observe => Worn::Nothing,
        (Verdict::Public, _) => Worn::Nothing,
        (_, leak_guard::Route::Personal(personal)) if personal.armour != leak_guard::Armour::WHOLE => Worn::Policy,
        _ => Worn::Whole,
    }
}

/// Whether a request may change who is logged in: a form, a login provider's callback, a logout.
fn effect(call: &Call, headers: &HeaderMap) -> Effect {
    let rooms = call.snapshot.rooms.iter();
    let mut lists = rooms.flat_map(|room| room.settings.login_callbacks.iter().chain(&room.settings.logout));
    if lists.any(|pattern| pattern.matches_raw(call.path())) {
        return Effect::MayLogIn;
    }
    effect_of(&call.method, call.uri.query(), headers)
}

/// What a visitor at the gate gets who cannot enter yet.
fn page_or_json(call: &Call, headers: &HeaderMap) -> Wait {
    match call.audience(headers) {
        Audience::Page if call.method.is_safe() => Wait::Page,
        Audience::Page => Wait::FormNotSent,
        Audience::Script => Wait::Json,
        Audience::SubResource => Wait::Empty,
    }
}
