//! Getting a place: by joining, by a code that proves a class, by the code of a place whose cookie was lost.

use std::time::Duration;

use http::{Response, StatusCode};

use super::told::Due;
use super::{Unsaid, Visit};
use crate::body::Body;
use crate::classes::Verdict;
use crate::config::RoomState;
use crate::domain::challenge::{Challenge, Met, Over};
use crate::domain::client::ClientPrefix;
use crate::domain::closing::Stage;
use crate::domain::line::{Standing as Stands, TicketStage};
use crate::domain::names::ClassId;
use crate::domain::opening::Phase;
use crate::domain::proof::Failure;
use crate::domain::recovery::RecoveryCode;
use crate::domain::schedule::OpenNow;
use crate::domain::token::Kind;
use crate::entropy;
use crate::gateway::answers::{queue, see_other};
use crate::gateway::class::{class_to_join, drawn, goes_before, prove};
use crate::gateway::errors::Refusal;
use crate::gateway::join_limits;
use crate::gateway::view::standing_of;
use crate::gateway::visitor::{Credentials, Held, Tokens};
use crate::room::{NoTicket, Novelty, Occasion, Ticket};
use crate::waiting_room::page::Remark;

/// When to ask again after a code that was refused.
const LATER: Duration = Duration::from_secs(30);
/// Join ids are as long as a page makes them; longer ones are none.
const LONGEST_JOIN_ID: usize = 64;

impl Visit<'_> {
    /// Draws a ticket; whoever has one, or is inside, draws nothing.
    pub(super) async fn join(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Allowed)?;
        let mut credentials = self.credentials().await;
        let mut tokens = Tokens::default();
        let verdict = prove(self.call, &self.message.headers, None);
        if let Some(reason) = self.reason_to_draw(&credentials, &verdict, Asked::OnTheWay) {
            if let Some(told) = self.draw_into(&mut credentials, reason, verdict, &mut tokens).await? {
                return Ok(told);
            }
        } else if let (Some(held), true, None) =
            (credentials.ticket, credentials.has_a_number_now(), &credentials.inside)
        {
            tokens.ticket(&self.room, self.call, &held.ticket);
        } else if let (Some(held), None) = (credentials.ticket, &credentials.inside)
            && let Some(seat) = self.room.live.seats.get(&held.ticket.id)
        {
            tokens.pass(&self.room, self.call, &self.message.headers, &held.ticket, &seat);
        }
        Ok(self.has_place(&credentials, tokens))
    }

    /// A code that was typed in: a ticket of its class, for whoever is not inside and has none that is as good.
    pub(super) async fn code(self) -> Result<Response<Body>, Refusal> {
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

    /// Gives a place back to whoever lost the cookie and has the code; another place that the visitor drew meanwhile is
    /// given up. Whoever is inside stays there.
    pub(super) async fn recover(self) -> Result<Response<Body>, Refusal> {
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
            credentials.ticket = Some(self.held(ticket));
        }
        Ok(self.has_place(&credentials, tokens))
    }

    fn recovered(&self) -> Option<Ticket> {
        let code = RecoveryCode::read(&self.field("code")?)?;
        let place = self.room.keys.recovered(code, self.room.live.identity())?;
        self.room.live.ticket_of(place).ok()?
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
        // Whoever has been moved already, and has not heard of it, has only to be told.
        let has_moved = || self.room.live.joins.drawn_instead_of(&held.ticket, class).is_some();
        let sooner = || {
            let is_open = self.room.live.in_force().hours(class).now == OpenNow::Open;
            is_open && self.room.live.lane_view(class).waiting <= ahead
        };
        let moves = better && (asked == Asked::ByCode || has_moved() || sooner());
        let is_over = self.room.settings.state == RoomState::Closed || self.room.live.stage() == Stage::Ended;
        (moves && !is_over).then_some(ReasonToDraw::BetterClass)
    }

    fn needs_ticket(&self, credentials: &Credentials) -> bool {
        if credentials.inside.is_some() || self.room.settings.state == RoomState::Closed {
            return false;
        }
        if matches!(self.room.live.phase(), Phase::Announced { .. }) || self.room.live.stage() != Stage::Open {
            return false;
        }
        let Some(view) = self.look(credentials) else { return credentials.unnumbered.is_none() };
        match view.standing {
            Stands::Waiting { .. } | Stands::YourTurn { .. } => false,
            Stands::Entered => {
                credentials.ticket.is_none_or(|held| self.room.live.seats.get(&held.ticket.id).is_none())
            }
            Stands::Left | Stands::Unknown => true,
        }
    }

    /// Draws the visitor's ticket. Whoever cannot get one is told so.
    async fn draw_into(
        &self,
        credentials: &mut Credentials,
        reason: ReasonToDraw,
        verdict: Verdict,
        tokens: &mut Tokens,
    ) -> Result<Option<Response<Body>>, Refusal> {
        if let Err(over) = self.gateway.count_join(self.call, &self.room)
            && let Err(due) = self.pay(over)
        {
            return self.challenged(credentials, &due).map(Some);
        }
        match self.draw(reason, verdict, credentials, tokens).await {
            // What was held before is over.
            Ok(held) if held.ticket.is_provisional() => {
                (credentials.ticket, credentials.unnumbered) = (None, Some(held))
            }
            Ok(held) => credentials.ticket = Some(held),
            Err(error) => return self.without_ticket(&error).map(Some),
        }
        Ok(None)
    }

    /// Lets a join beyond the limits through that brings the work asked for, or comes when the time has passed; or one
    /// that draws nothing, because only its answer was lost. Otherwise says what is due.
    fn pay(&self, over: Over) -> Result<(), Due> {
        let (client, now) = (ClientPrefix::of(self.call.client.address), self.call.now);
        let (joins, seconds) = (&self.room.live.joins, now.unix.seconds());
        if self.join_id().is_some_and(|id| joins.has_drawn(&id, now.mono)) {
            return Ok(());
        }
        let shown = self.field("challenge").and_then(|text| {
            let challenge = self.room.keys.challenged(&text, client, seconds)?;
            (!joins.is_used(challenge.id, now.mono)).then_some((text, challenge))
        });
        let Some((text, challenge)) = shown else { return Err(self.asked_anew(client, over)) };
        let limits = join_limits(&self.room);
        let met = challenge.met(&text, self.field("ending").as_deref(), seconds);
        let wait = match met {
            None => Err(challenge.good_in(seconds)),
            Some(Met::Work) => Ok(()),
            Some(Met::Wait) => joins.count_waited(client, limits, now.mono),
        };
        if let Err(wait) = wait {
            return Err(Due { challenge, text, wait });
        }
        if !joins.use_up(challenge.id, now.mono) {
            return Err(self.asked_anew(client, over));
        }
        if met == Some(Met::Work) {
            joins.count_worked(client, limits, now.mono);
        }
        Ok(())
    }

    fn asked_anew(&self, client: ClientPrefix, over: Over) -> Due {
        let now = self.call.now.unix.seconds();
        // Without randomness the same challenge is asked of several, of whom the first can use it.
        let challenge = Challenge::new(entropy::bytes().unwrap_or_default(), over, now);
        let text = self.room.keys.challenge(&challenge, client, now);
        Due { challenge, text, wait: challenge.good_in(now) }
    }

    fn join_id(&self) -> Option<String> {
        self.field("join_id").filter(|id| (8..=LONGEST_JOIN_ID).contains(&id.len()))
    }

    async fn draw(
        &self,
        reason: ReasonToDraw,
        verdict: Verdict,
        credentials: &Credentials,
        tokens: &mut Tokens,
    ) -> Result<Held, NoTicket> {
        let old = credentials.ticket.filter(|_| reason == ReasonToDraw::BetterClass);
        let ticket = match old.and_then(|old| self.drawn_instead_of(&old.ticket, verdict.proven.class)) {
            Some(ticket) => ticket,
            None => self.draw_anew(old.map(|old| old.ticket), verdict).await?,
        };
        if let Some(old) = old
            && (ticket.is_same_place(&old.ticket) || self.go_over(&old.ticket, &ticket) == Place::Old)
        {
            return Ok(old);
        }
        tokens.ticket(&self.room, self.call, &ticket);
        tokens.take_away(&self.room, self.call, &self.message.headers, Kind::Turn);
        Ok(self.held(ticket))
    }

    /// The ticket that was drawn already in exchange for an old one, though its answer never arrived: no second one,
    /// whatever there may be by now.
    fn drawn_instead_of(&self, old: &Ticket, class: ClassId) -> Option<Ticket> {
        let live = &self.room.live;
        let ticket = live.joins.drawn_instead_of(old, class)?;
        if live.ticket_stage(&ticket).is_a_place() {
            return Some(ticket);
        }
        live.joins.moved_to(old);
        None
    }

    /// A ticket of the proven class; the old one where whom the proof names may have no more of them, and what is left
    /// to draw is no better.
    async fn draw_anew(&self, old: Option<Ticket>, verdict: Verdict) -> Result<Ticket, NoTicket> {
        let may_draw = class_to_join(self.gateway, self.call, &self.room, &verdict).await;
        let class = may_draw.class;
        if let Some(old) = old.filter(|old| !goes_before(&self.room, class, old.class)) {
            return Ok(old);
        }
        let id = self.join_id();
        let occasion = match &old {
            Some(old) => Occasion::MoveFrom(old),
            None => Occasion::Join(id.as_deref()),
        };
        let (ticket, novelty) = self.room.live.join(class, occasion, self.asks(), self.call.now).await?;
        if novelty == Novelty::Anew {
            drawn(self.call, &self.room, verdict, may_draw, (&ticket, &self.gateway.shared.clock)).await;
        }
        Ok(ticket)
    }

    /// Leaves the old place for the new one, unless it was called meanwhile: what is at hand goes before what is to come,
    /// which is not given again.
    fn go_over(&self, old: &Ticket, new: &Ticket) -> Place {
        let live = &self.room.live;
        if live.ticket_stage(old) == TicketStage::Called {
            live.joins.moved_to(old);
            live.leave(new);
            return Place::Old;
        }
        // The old place is left once the new ticket is seen: this answer may be lost.
        live.has_moved(old, new, self.call.now.mono);
        Place::New
    }

    fn held(&self, ticket: Ticket) -> Held {
        Held { ticket, issued: self.call.now.unix.seconds(), turn: None }
    }

    /// The place that a code which is used up was used for, if whoever asks holds the place that it was exchanged for: the
    /// answer was lost.
    fn given_before(&self, credentials: &Credentials, failure: Failure, tokens: &mut Tokens) -> Option<Held> {
        let held = credentials.ticket.filter(|_| failure == Failure::UsedUp && credentials.inside.is_none())?;
        let live = &self.room.live;
        // Whose turn it is keeps it, and what was given up meanwhile is no place.
        let moves = live.ticket_stage(&held.ticket) == TicketStage::Waiting;
        let is_closed = self.room.settings.state == RoomState::Closed;
        let ticket = live.joins.drawn_instead_of_any(&held.ticket).filter(|_| moves && !is_closed)?;
        if !live.ticket_stage(&ticket).is_a_place() {
            return None;
        }
        tokens.ticket(&self.room, self.call, &ticket);
        Some(self.held(ticket))
    }
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

/// Which of two places a visitor has in the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Old,
    New,
}
