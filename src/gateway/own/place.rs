//! Having a place: how it stands, keeping it, giving it up, entering from it.

use std::time::Duration;

use http::header::{HeaderValue, REFERRER_POLICY};
use http::{Method, Response};

use super::{Unsaid, Visit};
use crate::body::Body;
use crate::config::RoomState;
use crate::domain::cookie::staff_cookie;
use crate::domain::lane::Extended;
use crate::domain::line::{Asks, Standing as Stands};
use crate::domain::token::Kind;
use crate::gateway::answers::{add_cookies, plain_page, queue, see_other};
use crate::gateway::errors::Refusal;
use crate::gateway::view::{self, standing_of};
use crate::gateway::visitor::{Held, Tokens};
use crate::room::{Ticket, View};
use crate::staff::Shown;
use crate::waiting_room::catalogue::Notice;
use crate::waiting_room::page::{NoticePage, Remark, WayOn};
use crate::waiting_room::queue::{QueueState, Standing};

/// When to ask again for more time that was refused.
const NO_MORE_TIME: Duration = Duration::from_secs(60);

impl Visit<'_> {
    /// The visitor's standing. Near the front the answer is held back until the call.
    pub(super) async fn status(self) -> Result<Response<Body>, Refusal> {
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
            if credentials.has_a_number_now() && view.standing.is_a_place() {
                tokens.ticket(&visit.room, &then, &held.ticket);
            }
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
        let is_draining = self.gateway.is_draining();
        let answer_now = is_closed || is_draining || self.field("now").is_some();
        let Some(news) = polled.news.filter(|_| !answer_now) else { return polled.view };
        let longest = self.call.snapshot.config.server.limits.held_poll_timeout;
        tokio::select! {
            _ = news => {}
            () = clock.sleep(longest) => {}
        }
        live.look(ticket, Asks::Scripted)
    }

    /// The visitor's place as a page that works without script.
    pub(super) async fn line(self) -> Result<Response<Body>, Refusal> {
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
            if credentials.has_a_number_now() && view.standing.is_a_place() {
                tokens.ticket(&self.room, self.call, &held.ticket);
            }
            view
        });
        let standing = standing_of(&self.room, self.call, &credentials, view, self.shown_ahead());
        let mut response = self.line_page(&standing, None)?;
        if self.call.method == Method::POST {
            self.hand_over(&mut response, tokens);
        }
        Ok(response)
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

    /// Sends the visitor to the wanted address, which then enters.
    pub(super) fn enter(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Refused)?;
        Ok(see_other(self.wanted().as_str()))
    }

    /// More time: for the turn, or for the session.
    pub(super) async fn extend(self) -> Result<Response<Body>, Refusal> {
        self.must_come_from_here(Unsaid::Refused)?;
        let credentials = self.credentials().await;
        let mut tokens = Tokens::default();
        if let Some(inside) = &credentials.inside {
            self.room.live.extend_stay(&inside.token.id, &inside.seat, self.room.live.room_seconds(self.call.now));
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
    pub(super) async fn leave(self) -> Result<Response<Body>, Refusal> {
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
            let state = if credentials.ticket.or(credentials.unnumbered).is_some() {
                QueueState::Left
            } else {
                QueueState::None
            };
            let standing = Standing::only(state, Duration::from_secs(30), self.call.now.wall);
            queue(&self.room, self.call, &self.message.headers, &standing)
        };
        self.hand_over(&mut response, tokens);
        Ok(response)
    }

    /// A link with a pass of staff: the browser keeps it, and goes to the wanted page without it in the address.
    pub(super) fn staff(self) -> Result<Response<Body>, Refusal> {
        let secret = self.call.query("pass").unwrap_or_default();
        let (room, shared) = (&self.room.settings.name, &self.gateway.shared);
        let shown = shared.staff.of(room, [&secret].into_iter(), self.call.now.unix);
        shown.and_then(Shown::bearer).ok_or(Refusal::NotFound)?;
        let mut response = see_other(self.wanted().as_str());
        response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        add_cookies(&mut response, vec![staff_cookie(room, self.call.channel, &secret)]);
        Ok(response)
    }
}
