//! Those admitted: through the gate if need be, to the portal, and back with the pass.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::HeaderMap;
use hyper::body::Incoming;

use super::answers::{add_cookies, waiting};
use super::call::Call;
use super::errors::Refusal;
use super::snapshot::RoomInForce;
use super::visitor::{Credentials, Inside, Tokens, wants_header_tokens};
use super::{Gateway, Outcome, admit_decision, personal_route, view, waiting_decision};
use crate::clock::Clock;
use crate::domain::admission::{Admit, Wait};
use crate::domain::kept::KeptHeaders;
use crate::domain::leak_guard::{self, Command, Mode, Verdict};
use crate::domain::negotiation::Audience;
use crate::domain::paths::NormalPath;
use crate::domain::token::Kind;
use crate::proxy::{Answer, Context, Keep, ProxyError, Received, RequestBody, Slot, receive};
use crate::room::{GatePlace, LiveRoom, Passed, Seat, Ticket};
use crate::telemetry::metrics::{self, LeakGuardAction, LeakGuardRule, UpstreamOutcome};

/// A refusal, and the headers of the request it answers.
pub type Refused = (Refusal, HeaderMap);

/// While this lives, the visitor inside is active.
struct Active {
    live: Arc<LiveRoom>,
    seat: Arc<Seat>,
    clock: Clock,
}

impl Active {
    fn begin(live: &Arc<LiveRoom>, seat: &Arc<Seat>, clock: &Clock) -> Keep {
        seat.begin();
        Arc::new(Active { live: live.clone(), seat: seat.clone(), clock: clock.clone() })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.seat.end(self.live.room_seconds_at(self.clock.unix()));
    }
}

/// A request on its way to the portal.
struct Journey<'a> {
    route: leak_guard::Route,
    sticky: Option<u64>,
    keep: Option<Keep>,
    room: Option<&'a RoomInForce>,
}

impl Gateway {
    /// Takes a request that the decision admits to the portal.
    pub(super) async fn admit(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        admit: Admit,
        credentials: Credentials,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        match (admit, credentials.inside.clone(), credentials.ticket) {
            (Admit::Pass, Some(inside), _) => self.inside(call, room, inside, request).await,
            (Admit::SamePass, _, Some(held)) => match room.live.seats.get(&held.ticket.id) {
                Some(seat) => self.follow(call, room, held.ticket, seat, request).await,
                None => Ok(self.wait(call, room, Wait::Page, &credentials, request)),
            },
            (Admit::Turn, _, Some(held)) => {
                Box::pin(self.through_the_gate(call, room, held.ticket, credentials, request)).await
            }
            (Admit::Straight, ..) => Box::pin(self.straight(call, room, credentials, request)).await,
            _ => Ok(self.forward_ungated(call, request, admit_decision(admit)).await),
        }
    }

    /// A visitor inside: the seat is touched, the pass renewed when due.
    async fn inside(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        inside: Inside,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        room.live.touch(&inside.token.id, &inside.seat, room.live.room_seconds(call.now));
        let mut tokens = Tokens::default();
        tokens.renewed_pass(room, call, &inside);
        let ticket = Ticket { id: inside.token.id, class: inside.token.class, number: inside.token.number };
        self.as_insider(call, room, ticket, &inside.seat, tokens, Admit::Pass, request).await
    }

    /// Another request of a visitor who just entered: the same pass again, at no cost.
    async fn follow(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        ticket: Ticket,
        seat: Arc<Seat>,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        let mut tokens = Tokens::default();
        tokens.pass(room, call, request.headers(), &ticket, &seat);
        self.as_insider(call, room, ticket, &seat, tokens, Admit::SamePass, request).await
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and a struct would be used once")]
    async fn as_insider(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        ticket: Ticket,
        seat: &Arc<Seat>,
        tokens: Tokens,
        admit: Admit,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        let request = self.read_ahead(call, request).await?;
        let journey = self.journey(call, room, &ticket, seat);
        match self.insider_slot(call).await {
            Ok(slot) => Ok(self.send(call, request, journey, slot, tokens, admit_decision(admit), Some(&ticket)).await),
            Err(refusal) => Err((refusal, request.into_parts().0.headers)),
        }
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
        ticket: Ticket,
        credentials: Credentials,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        let place = match room.live.arrive(ticket, &self.shared.clock, call.now) {
            Ok(place) => place,
            Err(_) => match room.live.seats.get(&ticket.id) {
                Some(seat) => return self.follow(call, room, ticket, seat, request).await,
                None => return Ok(self.wait(call, room, Wait::Page, &credentials, request)),
            },
        };
        self.at_the_gate(call, room, ticket, place, Admit::Turn, credentials, request).await
    }

    /// Nobody waits: a number of one's own, and to the gate.
    async fn straight(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        credentials: Credentials,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        if self.count_join(call, room).is_err() {
            let wait = page_or_json(call, request.headers());
            return Ok(self.wait(call, room, wait, &credentials, request));
        }
        let (class, _) = room.live.class();
        let ticket = match room.live.draw(class).await {
            Ok(ticket) => ticket,
            Err(error) => return Err((error.into(), request.headers().clone())),
        };
        room.live.lane_metrics(class).arrivals.inc();
        let place = room.live.arrive_straight(ticket, &self.shared.clock, call.now);
        self.at_the_gate(call, room, ticket, place, Admit::Straight, credentials, request).await
    }

    /// Waits at the gate for as long as a request is held there. Whoever sends a body is answered before it is read
    /// when the wait would be longer; otherwise it is read first, since nothing may wait after the admission.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and a struct would be used once")]
    async fn at_the_gate(
        &self,
        call: &Call,
        room: &Arc<RoomInForce>,
        ticket: Ticket,
        place: GatePlace,
        admit: Admit,
        credentials: Credentials,
        request: Request<Incoming>,
    ) -> Result<Outcome, Refused> {
        let longest = room.live.hold_at_gate(&ticket, room.settings.gate_wait);
        if longest.is_zero() {
            drop(place);
            return Ok(self.wait(call, room, page_or_json(call, request.headers()), &credentials, request));
        }
        let request = self.read_ahead(call, request).await?;
        let headers = request.headers();
        room.live.let_in(&self.shared.portal, self.shared.clock.now());
        let (seat, slot) = match place.wait(longest).await {
            Passed::Entered { seat, slot } => (seat, slot),
            Passed::Follows => match room.live.seats.get(&ticket.id) {
                Some(seat) => (seat, self.insider_slot(call).await.map_err(|error| (error, headers.clone()))?),
                None => return Ok(self.not_yet(call, room, &credentials, headers)),
            },
            Passed::NotYet => return Ok(self.not_yet(call, room, &credentials, headers)),
        };
        let mut tokens = Tokens::default();
        tokens.pass(room, call, headers, &ticket, &seat);
        if let Some(held) = credentials.ticket {
            let waited = call.now.unix.seconds().saturating_sub(held.issued);
            room.live.lane_metrics(ticket.class).wait_seconds.observe(f64::from(waited));
        }
        let journey = self.journey(call, room, &ticket, &seat);
        Ok(self.send(call, request, journey, slot, tokens, admit_decision(admit), Some(&ticket)).await)
    }

    fn not_yet(&self, call: &Call, room: &RoomInForce, credentials: &Credentials, headers: &HeaderMap) -> Outcome {
        let wait = page_or_json(call, headers);
        let standing = view::standing(room, call, credentials);
        Outcome::of(waiting(wait, room, call, headers, &standing), waiting_decision(wait))
    }

    /// Reads a request's body ahead, so that no slow visitor holds a slot, a seat or the portal.
    async fn read_ahead(&self, call: &Call, request: Request<Incoming>) -> Result<Request<RequestBody>, Refused> {
        let config = &call.snapshot.config;
        let (parts, body) = request.into_parts();
        match receive(body, config.portal.request_buffer, config.server.limits.body_idle_timeout).await {
            Ok(body) => Ok(Request::from_parts(parts, body)),
            Err(error) => Err((error.into(), parts.headers)),
        }
    }

    fn journey<'a>(&self, call: &Call, room: &'a RoomInForce, ticket: &Ticket, seat: &Arc<Seat>) -> Journey<'a> {
        let [a, b, c, d, e, f, g, h, ..] = ticket.id.0;
        Journey {
            route: personal_route(call),
            sticky: Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            keep: Some(Active::begin(&room.live, seat, &self.shared.clock)),
            room: Some(room),
        }
    }

    /// Forwards what no room gates.
    pub(super) async fn forward_ungated(
        &self,
        call: &Call,
        request: Request<Incoming>,
        decision: metrics::Decision,
    ) -> Outcome {
        let journey = Journey { route: personal_route(call), sticky: None, keep: None, room: None };
        self.forward_journey(call, request, journey, decision).await
    }

    /// Forwards what the operator declared public.
    pub(super) async fn forward_public(&self, call: &Call, request: Request<Incoming>) -> Outcome {
        let journey = Journey { route: leak_guard::Route::Public, sticky: None, keep: None, room: None };
        self.forward_journey(call, request, journey, metrics::Decision::ForwardedPublic).await
    }

    async fn forward_journey(
        &self,
        call: &Call,
        request: Request<Incoming>,
        journey: Journey<'_>,
        decision: metrics::Decision,
    ) -> Outcome {
        let request = match self.read_ahead(call, request).await {
            Ok(request) => request,
            Err((refusal, headers)) => {
                return Outcome::of(refusal.answer(call, &headers), metrics::Decision::Refused);
            }
        };
        let slot = match self.insider_slot(call).await {
            Ok(slot) => slot,
            Err(refusal) => return Outcome::of(refusal.answer(call, request.headers()), metrics::Decision::Refused),
        };
        self.send(call, request, journey, slot, Tokens::default(), decision, None).await
    }

    /// Sends the request and brings the answer, with the tokens that belong to it. Whoever gets an error keeps the pass.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and a struct would be used once")]
    async fn send(
        &self,
        call: &Call,
        request: Request<RequestBody>,
        journey: Journey<'_>,
        slot: Slot,
        mut tokens: Tokens,
        decision: metrics::Decision,
        ticket: Option<&Ticket>,
    ) -> Outcome {
        let received = KeptHeaders::of(request.headers());
        let gives_headers = !tokens.headers.is_empty() && wants_header_tokens(request.headers());
        let guard = &call.snapshot.config.leak_guard;
        let context = Context {
            received: Received { method: &call.method, uri: &call.uri, version: request.version(), headers: &received },
            portal: &call.snapshot.config.portal,
            visitor: call.visitor(),
            sticky: journey.sticky,
            route: journey.route,
            guard: if guard.enforce { Mode::Enforce } else { Mode::Observe },
            keep_cookies: &guard.keep_cookies,
            request_id: &call.request_id,
            keep: journey.keep,
        };
        let sent = self.shared.clock.mono();
        let answer = self.worker.forward(request, &context, slot).await;
        let upstream = self.shared.clock.mono().since(sent);
        self.measure(&answer, upstream);
        let mut response = match answer {
            Ok(answer) => {
                self.count_guard(&answer);
                let over = answer.says.command == Some(Command::EndSession);
                if let (true, Some(room), Some(ticket)) = (over, journey.room, ticket) {
                    room.live.end_session(&ticket.id, room.live.room_seconds(call.now));
                    tokens = Tokens::default();
                    tokens.take_away(room, call, &received.unfold(), Kind::Pass);
                }
                answer.response
            }
            Err(error) => Refusal::from(error).answer(call, &received.unfold()),
        };
        self.log_out(call, &received, &mut tokens);
        if gives_headers {
            response.headers_mut().extend(std::mem::take(&mut tokens.headers));
        }
        add_cookies(&mut response, tokens.cookies);
        Outcome { upstream: Some(upstream), ..Outcome::of(response, decision) }
    }

    /// A logout path ends the passes of the rooms whose it is.
    fn log_out(&self, call: &Call, headers: &KeptHeaders, tokens: &mut Tokens) {
        let logs_out = |room: &&Arc<RoomInForce>| room.settings.hosts.iter().any(|host| host.matches(&call.host_name));
        for room in call.snapshot.rooms.iter().filter(|room| !room.settings.logout.is_empty()).filter(logs_out) {
            let path = NormalPath::of(call.path());
            if !room.settings.logout.iter().any(|pattern| pattern.matches(&path)) {
                continue;
            }
            let headers = headers.unfold();
            let credentials = Credentials::pass(room, call, &headers, &self.shared.metrics);
            if let Some(inside) = credentials.inside {
                room.live.end_session(&inside.token.id, room.live.room_seconds(call.now));
            }
            *tokens = Tokens::default();
            tokens.take_away(room, call, &headers, Kind::Pass);
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

    fn count_guard(&self, answer: &Answer) {
        let metrics = &self.shared.metrics;
        if answer.guarded.public_cookies > 0 {
            metrics.count_leak_guard(LeakGuardRule::SetCookie, LeakGuardAction::Removed);
        }
        match answer.guarded.verdict {
            Verdict::Personal | Verdict::Public => {}
            Verdict::Downgraded(reason) => metrics.count_leak_guard(rule(reason), LeakGuardAction::Downgraded),
            Verdict::Fault(reason) => metrics.count_leak_guard(rule(reason), LeakGuardAction::Observed),
        }
    }
}

fn rule(reason: leak_guard::Reason) -> LeakGuardRule {
    use leak_guard::Reason;
    match reason {
        Reason::UnaskedNotModified => LeakGuardRule::UnaskedNotModified,
        Reason::UnaskedPartial => LeakGuardRule::UnaskedPartial,
        Reason::Status => LeakGuardRule::Status,
        Reason::UnclearPolicy => LeakGuardRule::UnclearPolicy,
        Reason::Private => LeakGuardRule::Private,
        Reason::Vary => LeakGuardRule::Vary,
        Reason::ContentType => LeakGuardRule::ContentType,
        Reason::Identity => LeakGuardRule::Identity,
        Reason::Hit => LeakGuardRule::Hit,
    }
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
