//! Who the visitor is to a room: what the tokens that came along are worth, and the tokens that go back.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::call::Call;
use super::snapshot::RoomInForce;
use crate::classes::Verdict;
use crate::domain::admission::{Pass, Place};
use crate::domain::cookie::{CookieName, header_of, header_values, presented};
use crate::domain::line::{Asks, TicketStage};
use crate::domain::negotiation::has_fetch_metadata;
use crate::domain::seat::{pass_life, renewal_due, within_grace};
use crate::domain::token::{Claim, Generation, Kind, Rejection, Token, TokenText};
use crate::room::{PassShown, PassTerms, Seat, Shown, Ticket};
use crate::staff::Bearer;
use crate::telemetry::metrics::{Metrics, TokenRejection};

/// How much longer than its token a pass's cookie is kept: so that the grace rules can see it, and because the token's
/// clock may stand still (a closed room, an unhealthy portal) while the browser's does not.
const COOKIE_GRACE: Duration = Duration::from_secs(24 * 3600);

/// What the visitor's tokens are worth in one room.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The pass and its seat, when it is good.
    pub inside: Option<Inside>,
    /// Whether the pass expired or ended a moment ago.
    pub just_expired: bool,
    /// The ticket, of this line and not expired.
    pub ticket: Option<Held>,
    /// The ticket without a number that the visitor holds while the store is away.
    pub unnumbered: Option<Held>,
    /// Whether a token was shown that is only expired.
    pub expired: bool,
    /// What the request of a newcomer proves.
    pub proven: Option<Verdict>,
    /// The pass of staff that came along, when it is good.
    pub staff: Option<Bearer>,
}

/// A good pass.
#[derive(Clone, Debug)]
pub struct Inside {
    /// Its token.
    pub token: Token,
    /// Its seat.
    pub seat: Arc<Seat>,
}

/// A good ticket.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The ticket.
    pub ticket: Ticket,
    /// When its token was signed.
    pub issued: u32,
    /// When the turn that came along was signed, if one did.
    pub turn: Option<u32>,
}

impl Credentials {
    /// Reads a pass only: all that is needed for those inside.
    pub fn pass(room: &RoomInForce, call: &Call, headers: &HeaderMap, metrics: &Metrics) -> Credentials {
        let mut credentials = Credentials::default();
        let now = room.live.room_seconds(call.now);
        let name = room.cookies.name(Kind::Pass, call.channel);
        for text in presented(headers, name) {
            credentials.judge_pass(room, call, room.keys.verify(Kind::Pass, text, now), now, metrics);
        }
        credentials
    }

    fn judge_pass(
        &mut self,
        room: &RoomInForce,
        call: &Call,
        verified: Result<Token, Rejection>,
        now: u32,
        metrics: &Metrics,
    ) {
        let token = match verified {
            Ok(token) => token,
            Err(rejection) => {
                metrics.token_rejections.of(label(&rejection)).inc();
                if let Rejection::Expired(token) = rejection {
                    // Whoever logged out has no grace, and whoever stayed silent had it since then.
                    match room.live.seats.without_seat(&token.id) {
                        Shown::Ended(silently_at) => self.note_end(silently_at, now),
                        _ => self.note_end(Some(token.expires), now),
                    }
                }
                return;
            }
        };
        let generation = token.claim.generation().map_or(0, |generation| generation.0);
        let pass = PassShown { id: token.id, generation, client: call.client.address };
        let terms = PassTerms { stay: room.settings.stay(), forked: room.settings.forked_pass };
        match room.live.show_pass(&pass, &terms, now) {
            Shown::Good(seat) | Shown::Forked(Some(seat)) => self.keep_best(Inside { token, seat }),
            Shown::Unknown => {
                let seat = room.live.reseat(&token, now);
                self.keep_best(Inside { token, seat });
            }
            Shown::Ended(silently_at) => {
                metrics.token_rejections.of(TokenRejection::Ended).inc();
                self.note_end(silently_at, now);
            }
            Shown::Superseded | Shown::Forked(None) => metrics.token_rejections.of(TokenRejection::Ended).inc(),
        }
    }

    /// A pass ended: by itself in the second given, or because it was wished.
    fn note_end(&mut self, by_itself: Option<u32>, now: u32) {
        self.expired |= by_itself.is_some();
        self.just_expired |= by_itself.is_some_and(|at| within_grace(at, now));
    }

    fn keep_best(&mut self, inside: Inside) {
        if self.inside.as_ref().is_none_or(|best| best.token.expires < inside.token.expires) {
            self.inside = Some(inside);
        }
    }

    /// Reads tickets and turns too.
    pub async fn with_place(mut self, room: &RoomInForce, call: &Call, headers: &HeaderMap, metrics: &Metrics) -> Self {
        for kind in [Kind::Ticket, Kind::Turn] {
            let name = room.cookies.name(kind, call.channel);
            for text in presented(headers, name) {
                self.judge_place(room, room.keys.verify(kind, text, call.now.unix.seconds()), metrics);
            }
        }
        if let (None, Some(held)) = (self.ticket, self.unnumbered)
            && let Some(ticket) = room.live.with_number(&held.ticket, call.now).await
        {
            // Signed long ago: what is signed anew has the number.
            self.ticket = Some(Held { ticket, issued: held.issued, turn: None });
        } else {
            self.unnumbered = self.unnumbered.filter(|_| self.ticket.is_none());
        }
        if let Some(held) = self.ticket {
            let stands = room.live.ticket_stage(&held.ticket);
            if (stands.is_a_place() || stands == TicketStage::Entered)
                && let Some(old) = room.live.joins.seen(&held.ticket)
            {
                room.live.leave(&old);
            }
            let lost = room.live.does_not_know(&held.ticket) || (held.turn.is_some() && stands == TicketStage::Waiting);
            if lost {
                room.live.recover(&held.ticket, held.turn, Asks::Scripted, call.now).await;
            }
        }
        self
    }

    fn judge_place(&mut self, room: &RoomInForce, verified: Result<Token, Rejection>, metrics: &Metrics) {
        let token = match verified {
            Ok(token) if token.claim.line() == Some(room.live.identity()) => token,
            Ok(_) => return metrics.token_rejections.of(TokenRejection::OtherLine).inc(),
            Err(rejection) => {
                self.expired |= matches!(rejection, Rejection::Expired(_));
                return metrics.token_rejections.of(label(&rejection)).inc();
            }
        };
        let ticket = Ticket { id: token.id, class: token.class, number: token.number };
        if ticket.is_provisional() {
            self.unnumbered = Some(Held { ticket, issued: token.issued, turn: None }).filter(|_| room.live.is_shared());
            self.expired |= !room.live.is_shared();
            return;
        }
        let turn = (token.kind() == Kind::Turn).then_some(token.issued);
        match &mut self.ticket {
            Some(held) if held.ticket == ticket => held.turn = held.turn.or(turn),
            Some(held) if worth(room, &held.ticket) <= worth(room, &ticket) => {}
            _ => self.ticket = Some(Held { ticket, issued: token.issued, turn }),
        }
    }

    /// Whether the ticket that was shown had no number, and has one now.
    pub fn has_a_number_now(&self) -> bool {
        self.ticket.is_some() && self.unnumbered.is_some()
    }

    /// What the pass counts for in the decision.
    pub fn pass_fact(&self) -> Pass {
        match (&self.inside, self.just_expired) {
            (Some(_), _) => Pass::Good,
            (None, true) => Pass::JustExpired,
            (None, false) => Pass::None,
        }
    }

    /// What the ticket counts for in the decision.
    pub fn place_fact(&self, room: &RoomInForce) -> Place {
        let Some(held) = &self.ticket else {
            let waits = self.unnumbered.is_some_and(|held| !room.live.lets_in_without_number(held.ticket.class));
            return if waits { Place::Waiting } else { Place::None };
        };
        match room.live.ticket_stage(&held.ticket) {
            TicketStage::Waiting => Place::Waiting,
            TicketStage::Called => Place::Called,
            TicketStage::Entered if room.live.seats.get(&held.ticket.id).is_some() => Place::SeatTaken,
            TicketStage::Entered | TicketStage::Left | TicketStage::Unknown => Place::None,
        }
    }
}

/// Which of two tickets counts: one that still has a place before one that is over, then the earlier place.
fn worth(room: &RoomInForce, ticket: &Ticket) -> (bool, u64) {
    let is_over = match room.live.ticket_stage(ticket) {
        TicketStage::Waiting | TicketStage::Called | TicketStage::Unknown => false,
        TicketStage::Entered => room.live.seats.get(&ticket.id).is_none(),
        TicketStage::Left => true,
    };
    (is_over, room.live.place_of(ticket))
}

/// Whether a client keeps its tokens itself, in headers: apps do, browsers (which send fetch metadata) do not.
pub fn wants_header_tokens(headers: &HeaderMap) -> bool {
    !has_fetch_metadata(headers)
}

/// Whether tokens came in headers: no other site's page can make a browser do that.
pub fn has_header_tokens(headers: &HeaderMap) -> bool {
    Kind::ALL.iter().any(|kind| header_values(headers, *kind).next().is_some())
}

/// Tokens to give to the visitor.
#[derive(Debug, Default)]
pub struct Tokens {
    /// `Set-Cookie` values.
    pub cookies: Vec<HeaderValue>,
    /// The same tokens as headers, for apps.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Tokens {
    fn give(&mut self, name: &CookieName, text: &TokenText, life: Duration) {
        self.cookies.push(name.set(text, life));
        if let (Some(header), Ok(value)) = (header_of(name.kind()), HeaderValue::from_str(text.as_str())) {
            self.headers.push((header.clone(), value));
        }
    }

    /// Takes the pass away: the session is over.
    pub fn ended(room: &RoomInForce, call: &Call, headers: &HeaderMap) -> Tokens {
        let mut tokens = Tokens::default();
        for kind in [Kind::Pass, Kind::Ticket, Kind::Turn] {
            tokens.take_away(room, call, headers, kind);
        }
        tokens
    }

    /// Takes a cookie of this kind away, if the request carried one.
    pub fn take_away(&mut self, room: &RoomInForce, call: &Call, headers: &HeaderMap, kind: Kind) {
        let name = room.cookies.name(kind, call.channel);
        if name.values(headers).next().is_some() {
            self.cookies.push(name.delete());
        }
    }

    /// The ticket.
    pub fn ticket(&mut self, room: &RoomInForce, call: &Call, ticket: &Ticket) {
        self.place(room, call, ticket, Claim::Ticket(room.live.identity()));
    }

    /// The turn.
    pub fn turn(&mut self, room: &RoomInForce, call: &Call, ticket: &Ticket) {
        self.place(room, call, ticket, Claim::Turn(room.live.identity()));
    }

    fn place(&mut self, room: &RoomInForce, call: &Call, ticket: &Ticket, claim: Claim) {
        let issued = call.now.unix.seconds();
        let life = room.settings.ticket_lifetime;
        let token = Token {
            room: room.settings.id,
            claim,
            class: ticket.class,
            id: ticket.id,
            number: ticket.number,
            issued,
            expires: (call.now.unix + life).seconds(),
        };
        let text = room.keys.sign(&token, issued);
        self.give(room.cookies.name(token.kind(), call.channel), &text, life);
    }

    /// The pass of a seat; ticket and turn go.
    pub fn pass(&mut self, room: &RoomInForce, call: &Call, headers: &HeaderMap, ticket: &Ticket, seat: &Seat) {
        self.pass_of_generation(room, call, ticket, seat.generation());
        self.take_away(room, call, headers, Kind::Ticket);
        self.take_away(room, call, headers, Kind::Turn);
    }

    fn pass_of_generation(&mut self, room: &RoomInForce, call: &Call, ticket: &Ticket, generation: u64) {
        let now = room.live.room_seconds(call.now);
        let life = pass_life(room.settings.session_duration);
        let token = Token {
            room: room.settings.id,
            claim: Claim::Pass(Generation(generation)),
            class: ticket.class,
            id: ticket.id,
            number: ticket.number,
            issued: now,
            expires: now.saturating_add(u32::try_from(life.as_secs()).unwrap_or(u32::MAX)),
        };
        let text = room.keys.sign(&token, call.now.unix.seconds());
        self.give(room.cookies.name(Kind::Pass, call.channel), &text, life + COOKIE_GRACE);
    }

    /// A fresh pass when the one shown is a quarter of a session old.
    pub fn renewed_pass(&mut self, room: &RoomInForce, call: &Call, inside: &Inside) {
        let now = room.live.room_seconds(call.now);
        let session = room.settings.session_duration;
        if !renewal_due(inside.token.issued, session, now) {
            return;
        }
        let quarter = u32::try_from(session.as_secs() / 4).unwrap_or(u32::MAX);
        let shown = inside.token.claim.generation().map_or(0, |generation| generation.0);
        if let Some(generation) = inside.seat.renew(now, quarter) {
            let ticket = Ticket { id: inside.token.id, class: inside.token.class, number: inside.token.number };
            self.pass_of_generation(room, call, &ticket, generation.max(shown + 1));
        }
    }
}

fn label(rejection: &Rejection) -> TokenRejection {
    match rejection {
        Rejection::Malformed => TokenRejection::Malformed,
        Rejection::Version => TokenRejection::Version,
        Rejection::UnknownKey => TokenRejection::UnknownKey,
        Rejection::OtherRoom => TokenRejection::OtherRoom,
        Rejection::OtherKind => TokenRejection::OtherKind,
        Rejection::BadSignature => TokenRejection::BadSignature,
        Rejection::Expired(_) => TokenRejection::Expired,
    }
}
