//! Opening a room: what is promised to those who gather becomes durable before they hear of it, and what they are given
//! becomes durable before it is revealed. The rules are `domain::opening`'s and `domain::lottery`'s.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Inner, Key, LiveRoom, Ticket};
use crate::clock::Clock;
use crate::config;
use crate::domain::draw_proof::to_hex;
use crate::domain::lottery::{SEED_LEN, commitment};
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
    /// The plan that is about to be announced: the room is closed to new draws before it is counted who drew already.
    announcing: Option<Plan>,
    /// Written down, but its plan is not in force yet: another room may still refuse the configuration.
    pending: Option<Opening>,
    /// What goes on in the place of what the configuration says.
    kept: Option<Kept>,
}

/// A plan that goes on because those who gather were told so, although the configuration says something else.
#[derive(Clone, Copy, Debug)]
struct Kept {
    instead_of: Option<Plan>,
    plan: Plan,
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

impl Openings {
    pub(super) fn of(list: Vec<Opening>, places: Places) -> Openings {
        Openings { list, places: Arc::new(places), phase: Phase::Open, announcing: None, pending: None, kept: None }
    }

    /// What was written down for the plan that is now in force counts from now on.
    pub(super) fn put_in_force(&mut self) {
        self.announcing = None;
        let Some(pending) = self.pending.take() else { return };
        // The hour may have come before it could be moved.
        let is_over = |known: &Opening| known.number == pending.number && known.held.is_some();
        if !self.list.iter().any(is_over) {
            self.note(pending);
        }
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
        self.openings.phase = match &self.openings.announcing {
            Some(plan) => Phase::before(plan, now.wall, now.unix),
            None => Phase::of(plan, self.openings.last(), now.wall, now.unix),
        };
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
        let plan = self.planned(room.opening);
        if plan == self.settings().opening {
            return Ok(());
        }
        match self.step_to(plan, now)? {
            Step::TooLate => Err(PlanFault::Past.into()),
            _ => Ok(()),
        }
    }

    /// Writes down what has to be known before a plan is in force. It counts only from [`LiveRoom::reconfigure`] on.
    ///
    /// # Errors
    /// [`NoOpening`]: the plan cannot be in force; what was written down of an earlier one stays.
    pub async fn prepare_opening(&self, room: &config::Room, now: Now) -> Result<(), NoOpening> {
        let plan = self.planned(room.opening);
        if plan == self.settings().opening {
            return Ok(());
        }
        match self.write_down(plan, now).await? {
            Step::TooLate => Err(PlanFault::Past.into()),
            _ => Ok(()),
        }
    }

    /// Takes back what was written down for a plan that does not come into force after all.
    pub async fn take_back_opening(&self, now: Now) {
        let Some(pending) = self.forget_pending(now) else { return };
        let last = self.last_opening().filter(|last| last.number == pending.number);
        let before = last.unwrap_or_else(|| pending.withdrawn(now.wall));
        if let Err(error) = self.store.note_opening(&self.name, &before).await {
            tracing::error!(room = %self.name, %error, "the state knows of an opening that was refused: reload before the program is started again");
        }
    }

    fn forget_pending(&self, now: Now) -> Option<Opening> {
        let plan = self.settings().opening;
        let mut inner = self.lock();
        inner.openings.announcing = None;
        inner.note_phase(plan.as_ref(), now);
        inner.openings.pending.take()
    }

    /// What the plan of the configuration asks for at the start. An hour that is over, or a plan that is not what those who
    /// gather were told, is only complained of: nothing may stay away for it.
    pub(super) async fn opening_at_start(&self, now: Now) -> Result<(), NoOpening> {
        let plan = self.settings().opening;
        match self.write_down(plan, now).await {
            Err(NoOpening::Plan(fault)) => self.keep_to_what_was_told(plan, fault),
            Ok(Step::TooLate) => {
                tracing::error!(room = %self.name, "opening.at lies in the past and no such opening was announced: nobody gathers, the room is open");
            }
            done => drop(done?),
        }
        self.lock().openings.put_in_force();
        if let Some(opening) = self.last_opening().filter(|opening| opening.held.is_none()) {
            let commitment = opening.seed.map(|seed| to_hex(&commitment(&seed)));
            tracing::info!(room = %self.name, opening = opening.number, commitment, "an opening is announced; if the state comes from a backup, compare this with what was published");
        }
        Ok(())
    }

    fn keep_to_what_was_told(&self, configured: Option<Plan>, fault: PlanFault) {
        let Some(opening) = self.last_opening() else { return };
        tracing::error!(room = %self.name, %fault, "[room.opening] is not what those who gather were told; the room goes on with what was announced until the file is mended and reloaded");
        let plan = Plan { at: opening.at, gather_from: opening.announced, order: opening.order };
        self.lock().openings.kept = Some(Kept { instead_of: configured, plan });
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        *settings = Arc::new(config::Room { opening: Some(plan), ..config::Room::clone(&settings) });
    }

    /// The plan that a plan of the configuration stands for.
    pub(super) fn planned(&self, configured: Option<Plan>) -> Option<Plan> {
        let kept = self.lock().openings.kept.filter(|kept| kept.instead_of == configured);
        kept.map_or(configured, |kept| Some(kept.plan))
    }

    /// What follows from a plan, as far as is known at this moment.
    fn step_to(&self, plan: Option<Plan>, now: Now) -> Result<Step, NoOpening> {
        let last = self.last_opening();
        if plan.is_none() && last.is_none() {
            return Ok(Step::Nothing);
        }
        let crowd = match &last {
            Some(opening) => opening.gathers(&self.store.counters(&self.name)?),
            None => Crowd::Nobody,
        };
        Ok(step(plan.as_ref(), last.as_ref(), crowd, now.wall)?)
    }

    /// Writes down what follows from a plan. Whoever has nothing to write waits for nobody who writes.
    async fn write_down(&self, plan: Option<Plan>, now: Now) -> Result<Step, NoOpening> {
        if let step @ (Step::Nothing | Step::TooLate) = self.step_to(plan, now)? {
            return Ok(step);
        }
        let _alone = self.opening_work.lock().await;
        let (step, last) = (self.step_to(plan, now)?, self.last_opening());
        let opening = match (step, last, plan) {
            (Step::Withdraw, Some(opening), _) => opening.withdrawn(now.wall),
            (Step::Move, Some(opening), Some(plan)) => Opening { at: plan.at, ..opening },
            (Step::Announce(number), _, Some(plan)) => self.announcement(number, plan, now)?,
            _ => return Ok(step),
        };
        self.store.note_opening(&self.name, &opening).await?;
        self.lock().openings.pending = Some(opening);
        Ok(step)
    }

    /// A new opening. The room is closed first, so that whoever has a later number than those counted here gathers.
    fn announcement(&self, number: u32, plan: Plan, now: Now) -> Result<Opening, NoOpening> {
        let mut inner = self.lock();
        inner.openings.announcing = Some(plan);
        inner.note_phase(None, now);
        drop(inner);
        Ok(Opening {
            number,
            order: plan.order,
            at: plan.at,
            announced: now.wall,
            seed: seed_for(plan.order)?,
            after: self.store.counters(&self.name)?,
            held: None,
        })
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
        let (now, steady) = (clock.now().wall, clock.now().unix);
        // The hour may just have been moved.
        let is_due = |opening: &Opening| opening.held.is_none() && opening.at <= now && opening.at <= steady;
        let due = self.last_opening().filter(is_due);
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
        let gathered =
            last.map_or(0, |last| last.gathered(inner.line.lanes().map(|(class, lane)| (class, lane.issued()))));
        let until = match (inner.openings.phase, ticket) {
            (Phase::Announced { gather_from, .. }, None) => gather_from,
            (phase, _) => phase.opens_at().unwrap_or(now.wall),
        };
        let part = match (ticket, last.filter(|last| last.order == Order::Arrival)) {
            (Some(ticket), Some(last)) => last.part(ticket.class, ticket.number, gathered),
            (Some(ticket), _) => scattered(ticket.number),
            (None, _) => scattered(anything),
        };
        ask_again(until.since(now.wall), gathered, part)
    }

    /// The place of a ticket in its lane, for comparing; it is told to nobody.
    pub fn place_of(&self, ticket: &Ticket) -> Number {
        self.lock().key(ticket).number
    }

    /// The number that a ticket has in the line, as it may be told: none before the opening to those who gather for it.
    pub fn number_to_tell(&self, ticket: &Ticket) -> Option<Number> {
        let is_known = self.phase() == Phase::Open || !self.gathers_for_the_last(ticket);
        is_known.then(|| self.place_of(ticket))
    }

    /// Whether the holder of a ticket gathers for the opening that was announced last, rather than having stood in line
    /// before.
    pub fn gathers_for_the_last(&self, ticket: &Ticket) -> bool {
        self.lock().openings.last().is_none_or(|opening| opening.is_for(ticket.class, ticket.number))
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
