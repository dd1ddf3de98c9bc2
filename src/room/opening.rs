//! Opening a room: what is promised to those who gather becomes durable before they hear of it, and what they are given
//! becomes durable before it is revealed. The rules are `domain::opening`'s and `domain::lottery`'s.

use std::sync::Arc;
use std::time::Duration;

use super::{Inner, Key, LiveRoom, Ticket};
use crate::clock::Clock;
use crate::config;
use crate::domain::lottery::SEED_LEN;
use crate::domain::names::ClassId;
use crate::domain::opening::{Crowd, Opening, Order, Phase, Plan, PlanFault, Step, ask_again, scattered, step};
use crate::domain::places::Places;
use crate::domain::reference::Gatherer;
use crate::domain::schedule::{Hours, OpenNow};
use crate::domain::tickets::Number;
use crate::domain::time::Now;
use crate::entropy;
use crate::store::StoreError;

/// After a failure it is tried again so much later.
const AGAIN: Duration = Duration::from_secs(1);

/// The openings of a room's line, and what they gave.
#[derive(Debug)]
pub(super) struct Openings {
    list: Vec<Opening>,
    pub(super) places: Arc<Places>,
    pub(super) phase: Phase,
}

/// Why a plan cannot be in force.
#[derive(Debug, thiserror::Error)]
pub enum NoOpening {
    /// It breaks a promise, or comes too late.
    #[error(transparent)]
    Plan(#[from] PlanFault),
    /// It cannot be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no randomness for a draw.
    #[error(transparent)]
    Entropy(#[from] entropy::NoEntropy),
}

/// Whether the program has just started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has: an hour that is over is only complained of, because the room must not stay away for it.
    Start,
    /// It runs, and what was in force goes on if the new plan is refused.
    Reload,
}

impl Openings {
    pub(super) fn of(list: Vec<Opening>, places: Places) -> Openings {
        Openings { list, places: Arc::new(places), phase: Phase::Open }
    }

    /// The one announced last.
    pub(super) fn last(&self) -> Option<&Opening> {
        self.list.last()
    }

    fn note(&mut self, opening: Opening) {
        self.list.retain(|known| known.number != opening.number);
        self.list.push(opening);
    }

    /// The draw, announced or held, that the number has part in.
    fn draw_of(&self, class: ClassId, number: Number) -> Option<(&Opening, Number)> {
        let has = |opening: &&Opening| match &opening.held {
            None => number > opening.after(class),
            Some(held) => held.lanes.iter().any(|lane| {
                lane.class == class && lane.after < number && number <= lane.after.saturating_add(lane.count)
            }),
        };
        let opening = self.list.iter().filter(|opening| opening.order == Order::Lottery).find(has)?;
        Some((opening, opening.after(class)))
    }
}

impl Inner {
    /// The key of a ticket's place.
    pub(super) fn key(&self, ticket: &Ticket) -> Key {
        Key { class: ticket.class, number: self.place(ticket.class, ticket.number) }
    }

    /// The place of a ticket.
    pub(super) fn place(&self, class: ClassId, number: Number) -> Number {
        self.openings.places.place(class, number)
    }

    /// The number of the ticket that has this place.
    pub(super) fn number(&self, key: Key) -> Number {
        self.openings.places.number(key.class, key.number)
    }

    /// Notes where the room is on its way to the opening.
    pub(super) fn note_phase(&mut self, plan: Option<&Plan>, now: Now) {
        self.openings.phase = Phase::of(plan, self.openings.last(), now.wall);
    }
}

impl LiveRoom {
    /// Where the room is on its way to the opening, as of the last tick.
    pub fn phase(&self) -> Phase {
        self.lock().openings.phase
    }

    /// The opening that was announced last.
    pub fn last_opening(&self) -> Option<Opening> {
        self.lock().openings.last().cloned()
    }

    /// Whether a plan may be in force; nothing is written down.
    ///
    /// # Errors
    /// [`NoOpening`]: it may not.
    pub fn check_opening(&self, room: &config::Room, now: Now) -> Result<(), NoOpening> {
        let (plan, last) = (room.opening, self.last_opening());
        if plan.is_none() && last.is_none() {
            return Ok(());
        }
        let counters = self.store.counters(&self.name)?;
        let crowd = last.as_ref().map_or(Crowd::Nobody, |opening| opening.gathers(&counters));
        match step(plan.as_ref(), last.as_ref(), crowd, now.wall)? {
            Step::TooLate if self.settings().opening != plan => Err(PlanFault::Past.into()),
            _ => Ok(()),
        }
    }

    /// Writes down what has to be known before a plan is in force.
    ///
    /// # Errors
    /// [`NoOpening`]: the plan cannot be in force; what was written down of an earlier one stays.
    pub async fn prepare_opening(&self, room: &config::Room, cause: Cause, now: Now) -> Result<(), NoOpening> {
        let _alone = self.opening_work.lock().await;
        let (plan, last) = (room.opening, self.last_opening());
        if plan.is_none() && last.is_none() {
            return Ok(());
        }
        let counters = self.store.counters(&self.name)?;
        let crowd = last.as_ref().map_or(Crowd::Nobody, |opening| opening.gathers(&counters));
        let step = step(plan.as_ref(), last.as_ref(), crowd, now.wall)?;
        let opening = match (step, last, plan) {
            (Step::Withdraw, Some(opening), _) => opening.withdrawn(now.wall),
            (Step::Nothing | Step::Withdraw, ..) | (_, _, None) => return Ok(()),
            (Step::TooLate, _, Some(plan)) if cause == Cause::Reload && self.settings().opening != Some(plan) => {
                return Err(PlanFault::Past.into());
            }
            (Step::TooLate, ..) => {
                tracing::error!(room = %self.name, "opening.at lies in the past and no such opening was announced: nobody gathers, the room is open");
                return Ok(());
            }
            (Step::Move, Some(opening), Some(plan)) => Opening { at: plan.at, ..opening },
            (Step::Move, None, _) => return Ok(()),
            (Step::Announce(number), _, Some(plan)) => Opening {
                number,
                order: plan.order,
                at: plan.at,
                announced: now.wall,
                seed: seed_for(plan.order)?,
                after: counters,
                held: None,
            },
        };
        self.store.note_opening(&self.name, &opening).await?;
        self.lock().openings.note(opening);
        Ok(())
    }

    /// Holds the opening if its hour has come and nobody is at it already.
    pub fn hold_opening_when_due(self: &Arc<Self>, clock: &Clock) {
        if !matches!(self.phase(), Phase::Due { .. }) {
            return;
        }
        let Ok(alone) = self.opening_work.clone().try_lock_owned() else { return };
        let (room, clock) = (self.clone(), clock.clone());
        tokio::spawn(async move {
            if let Err(error) = room.hold_opening(&clock).await {
                tracing::error!(room = %room.name, %error, "the room cannot open yet; it is tried again");
                clock.sleep(AGAIN).await;
            }
            drop(alone);
        });
    }

    /// Makes the number of those who gathered final and durable, and only then lets the seed have its effect.
    async fn hold_opening(&self, clock: &Clock) -> Result<(), StoreError> {
        let now = clock.now().wall;
        // The hour may just have been moved.
        let due = self.last_opening().filter(|opening| opening.held.is_none() && opening.at <= now);
        let Some(mut opening) = due else { return Ok(()) };
        let held = opening.held_at(now, &self.store.counters(&self.name)?);
        opening.held = Some(held.clone());
        self.store.note_opening(&self.name, &opening).await?;
        let gathered: u64 = held.lanes.iter().map(|lane| lane.count).sum();
        let mut inner = self.lock();
        inner.openings.note(opening);
        let places = Arc::new(Places::of(&self.name, self.identity(), &inner.openings.list));
        inner.openings.places = places.clone();
        inner.openings.phase = Phase::Open;
        inner.line.open(&held.lanes, places, clock.now());
        drop(inner);
        tracing::info!(room = %self.name, gathered, "the room opens");
        Ok(())
    }

    /// The hours of a class; before the opening the first ones after it.
    pub fn hours(&self, class: ClassId) -> Hours {
        let in_force = self.in_force();
        match self.phase().opens_at() {
            None => in_force.hours(class),
            Some(at) => {
                let after = in_force.hours_at_opening(class);
                let opens_at = if after.now == OpenNow::Open { Some(at) } else { after.opens_at };
                Hours { now: OpenNow::Closed, opens_at, closes_at: None }
            }
        }
    }

    /// When somebody who waits for the opening asks again; who has no ticket yet, when they can draw one. `anything` differs
    /// from visitor to visitor.
    pub fn asks_again_before_opening(&self, ticket: Option<&Ticket>, anything: u64, now: Now) -> Duration {
        let inner = self.lock();
        let last = inner.openings.last();
        let after = |class| last.map_or(0, |opening| opening.after(class));
        let gathered: u64 = inner.line.lanes().map(|(class, lane)| lane.issued().saturating_sub(after(class))).sum();
        let order = last.map(|opening| opening.order);
        let until = match (inner.openings.phase, ticket) {
            (Phase::Announced { gather_from, .. }, None) => gather_from,
            (phase, _) => phase.opens_at().unwrap_or(now.wall),
        };
        let part = match (ticket, order) {
            (Some(ticket), Some(Order::Arrival)) => {
                ticket.number.saturating_sub(after(ticket.class)) as f64 / gathered.max(1) as f64
            }
            (Some(ticket), _) => scattered(ticket.number),
            (None, _) => scattered(anything),
        };
        ask_again(until.since(now.wall), gathered, part)
    }

    /// The place of a ticket in its lane, for comparing; it is told to nobody.
    pub fn place_of(&self, ticket: &Ticket) -> Number {
        self.lock().key(ticket).number
    }

    /// The number that a ticket has in the line, as it may be told: none before the opening.
    pub fn number_to_tell(&self, ticket: &Ticket) -> Option<Number> {
        let inner = self.lock();
        (inner.openings.phase == Phase::Open).then(|| inner.key(ticket).number)
    }

    /// Who the holder of a ticket is to a draw, announced or held.
    pub fn gatherer(&self, ticket: &Ticket) -> Option<Gatherer> {
        let inner = self.lock();
        let (_, after) = inner.openings.draw_of(ticket.class, ticket.number)?;
        Some(Gatherer { class: ticket.class, index: ticket.number.checked_sub(after + 1)? })
    }
}

fn seed_for(order: Order) -> Result<Option<[u8; SEED_LEN]>, entropy::NoEntropy> {
    match order {
        Order::Arrival => Ok(None),
        Order::Lottery => entropy::bytes().map(Some),
    }
}
