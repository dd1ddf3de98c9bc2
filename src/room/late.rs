//! Those who join while the store that all nodes share is away: they get a ticket without a number, and its number once
//! the store is back.

use std::time::Duration;

use dashmap::DashMap;

use super::{LiveRoom, NoTicket, Occasion, Ticket};
use crate::domain::closing::Stage;
use crate::domain::line::{Asks, StraightThrough};
use crate::domain::names::ClassId;
use crate::domain::opening::Phase;
use crate::domain::provisional::{Provisional, SLOT_MS, identity};
use crate::domain::time::{Mono, Now};
use crate::domain::token::VisitorId;
use crate::entropy;
use crate::store::{self, StoreError};

/// How long a ticket without a number counts towards a quota, in milliseconds.
const COUNTS_FOR: u64 = 3_600_000;
/// Numbers remembered at most; beyond that the store is asked each time.
const MOST_REMEMBERED: usize = 200_000;

/// The numbers that were given instead of tickets without one.
#[derive(Debug, Default)]
pub(super) struct Latecomers {
    numbers: DashMap<VisitorId, (u64, Mono)>,
}

impl Latecomers {
    /// Forgets those whose tickets without a number are valid no more.
    pub(super) fn sweep(&self, lifetime: Duration, now: Mono) {
        self.numbers.retain(|_, (_, since)| now.since(*since) <= lifetime);
    }
}

/// What somebody got who joined.
pub(super) enum Drawn {
    /// A number.
    Numbered(Ticket),
    /// A ticket without one.
    Provisional(Ticket),
}

impl Ticket {
    /// Whether it has no number yet.
    pub fn is_provisional(&self) -> bool {
        self.provisional().is_some()
    }

    fn provisional(&self) -> Option<Provisional> {
        Provisional::read(self.class, self.number)
    }
}

impl LiveRoom {
    /// Draws a number; a ticket without one while the store gives none. Who moves from another place keeps that instead.
    pub(super) async fn draw_unless_away(
        &self,
        class: ClassId,
        occasion: Occasion<'_>,
        asks: Asks,
        now: Now,
    ) -> Result<Drawn, NoTicket> {
        let may_wait = matches!(occasion, Occasion::Join(_));
        if may_wait
            && self.is_shared()
            && !self.store.is_there(&self.name, now.mono)
            && let Some(ticket) = self.issue(class, asks, now)?
        {
            return Ok(Drawn::Provisional(ticket));
        }
        match self.draw(class, store::Drawn::ToWait(asks)).await {
            Err(error @ NoTicket::Store(StoreError::Unreachable(_))) if may_wait => {
                self.issue(class, asks, now)?.map(Drawn::Provisional).ok_or(error)
            }
            drawn => drawn.map(Drawn::Numbered),
        }
    }

    /// Not before an opening: who gathers is counted when the opening is held, and these would not be.
    fn issue(&self, class: ClassId, asks: Asks, now: Now) -> Result<Option<Ticket>, NoTicket> {
        let Some(node) = self.store.node().filter(|_| self.phase() == Phase::Open && self.stage() == Stage::Open)
        else {
            return Ok(None);
        };
        let id = identity(entropy::bytes()?, node.0);
        let lifetime = self.settings().ticket_lifetime;
        let issued = self.store.issue(&self.name, (class, asks), lifetime, now.mono);
        Ok(issued.map(|provisional| Ticket { id, class, number: provisional.number() }))
    }

    /// Whether it is a ticket without a number that still counts for whom its proof names: for an hour, whatever became of
    /// it, because only its holder brings the number.
    pub fn is_still_without_number(&self, ticket: &Ticket, now: Mono) -> bool {
        let came = ticket.provisional().map(|provisional| provisional.row.slot * SLOT_MS);
        came.is_some_and(|came| self.shared_millis(now) < came.saturating_add(COUNTS_FOR))
    }

    /// The ticket with its number instead of one without; `None` while that is not known.
    pub async fn with_number(&self, ticket: &Ticket, now: Now) -> Option<Ticket> {
        let provisional = ticket.provisional()?;
        let known = self.late.numbers.get(&ticket.id).map(|known| known.0);
        if let Some(number) = known {
            return Some(Ticket { number, ..*ticket });
        }
        if !self.store.is_there(&self.name, now.mono) {
            return None;
        }
        let lifetime = self.settings().ticket_lifetime;
        let number = self.store.give_number(&self.name, provisional, ticket.id, lifetime).await.ok()?;
        // Heard of too late it stands behind all that are known, until it is heard of.
        let _ = self.heard_of_all_before(ticket.class, number).await;
        let numbered = Ticket { number, ..*ticket };
        if self.late.numbers.len() < MOST_REMEMBERED {
            self.late.numbers.insert(ticket.id, (number, now.mono));
        }
        if self.seats.get(&ticket.id).is_some() {
            // Its holder went straight through meanwhile, and has no second place.
            self.leave(&numbered);
        }
        Some(numbered)
    }

    /// Whether somebody without a number may go straight through here, as any newcomer: while this node goes on alone.
    pub fn lets_in_without_number(&self, class: ClassId) -> bool {
        self.alone.is_alone() && self.straight_through(class) == StraightThrough::Yes
    }
}
