//! Opening a room: what is promised to those who gather becomes durable before they hear of it, and what they are given
//! becomes durable before it is revealed. The rules are `domain::opening`'s and `domain::lottery`'s.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::closing::Agreed;
use super::{Inner, Key, LiveRoom, Ticket};
use crate::clock::Clock;
use crate::config;
use crate::domain::draw_proof::to_hex;
use crate::domain::hour::{Hour, HourWatch};
use crate::domain::lottery::{SEED_LEN, commitment};
use crate::domain::names::ClassId;
use crate::domain::opening::{Crowd, Opening, Order, Phase, Plan, PlanFault, Step, ask_again, scattered, step};
use crate::domain::places::Places;
use crate::domain::reference::Gatherer;
use crate::domain::schedule::{Hours, OpenNow};
use crate::domain::tickets::Number;
use crate::domain::time::Now;
use crate::domain::token::LineIdentity;
use crate::entropy;
use crate::store::{Change, Noted, StoreError};

/// After a failure it is tried again so much later.
const AGAIN: Duration = Duration::from_secs(1);

/// Where other nodes change an opening at the same time, it is looked at so often what follows.
const ATTEMPTS: u32 = 3;

/// The openings of a room's line, and what they gave.
#[derive(Debug)]
pub(super) struct Openings {
    list: Vec<Opening>,
    pub(super) places: Arc<Places>,
    pub(super) phase: Phase,
    watch: HourWatch,
    gathering: HourWatch,
    /// The plan that is about to be announced: the room is closed to new draws before it is counted who drew already.
    announcing: Option<Plan>,
    /// Written down, but its plan is not in force yet: another room may still refuse the configuration.
    pending: Option<Opening>,
    /// What goes on in the place of what the configuration says.
    kept: Option<Kept>,
}

/// What was heard of an opening.
#[derive(Debug)]
enum Heard {
    /// It is noted, or was known.
    Known,
    /// It is held just now: places are given.
    Held(Opening),
    /// It was held in another way than is known here.
    Otherwise,
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
        Openings {
            list,
            places: Arc::new(places),
            phase: Phase::Open,
            watch: HourWatch::default(),
            gathering: HourWatch::default(),
            announcing: None,
            pending: None,
            kept: None,
        }
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

    /// The file says something else by now than what was not followed.
    pub(super) fn follow_the_file(&mut self) {
        self.kept = None;
    }

    /// The one announced last.
    pub(super) fn last(&self) -> Option<&Opening> {
        self.list.last()
    }

    fn note(&mut self, opening: Opening) {
        self.list.retain(|known| known.number != opening.number);
        self.list.push(opening);
        self.list.sort_by_key(|known| known.number);
    }

    /// What a node that shares the line has to do with an opening of which it heard.
    fn hear(&mut self, opening: Opening) -> Heard {
        let known = self.list.iter().find(|known| known.number == opening.number);
        if let Some(held) = known.and_then(|known| known.held.as_ref()) {
            return if opening.held.as_ref().is_some_and(|heard| heard != held) {
                Heard::Otherwise
            } else {
                Heard::Known
            };
        }
        if opening.held.is_some() && !opening.is_withdrawn() {
            return Heard::Held(opening);
        }
        self.note(opening);
        Heard::Known
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
    pub(super) fn note_phase(&mut self, plan: Option<&Plan>, now: Now, agreed: Agreed) {
        let now = agreed.time(now);
        let plan = match agreed {
            Agreed::Alone => plan.copied(),
            Agreed::AmongNodes => Plan::of_all(plan, self.openings.last()),
        };
        let Openings { announcing, watch, gathering, .. } = &mut self.openings;
        let looked = announcing.or(plan).map(|plan| (gathering.look(plan.gather_from, now), watch.look(plan.at, now)));
        let (gathering, hour) = looked.unwrap_or((Hour::ToCome, Hour::ToCome));
        self.openings.phase = match &self.openings.announcing {
            Some(plan) => Phase::before(plan, gathering, hour),
            None => Phase::of(plan.as_ref(), self.openings.last(), gathering, hour),
        };
    }

    /// The opening whose hour has come. It may just have been moved.
    fn due(&self) -> Option<Opening> {
        let Phase::Due { at } = self.openings.phase else { return None };
        self.openings.last().filter(|opening| opening.held.is_none() && opening.at == at).cloned()
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
        let withdrawn;
        let change = match &last {
            Some(before) => Change::Set { opening: before, instead_of: Some(&pending) },
            None => {
                withdrawn = pending.clone().withdrawn(now.wall);
                Change::Withdraw { opening: &withdrawn, instead_of: &pending }
            }
        };
        if let Err(error) = self.store.change_opening(&self.name, change).await {
            tracing::error!(room = %self.name, %error, "the state knows of an opening that was refused: reload before the program is started again");
        }
    }

    fn forget_pending(&self, now: Now) -> Option<Opening> {
        let plan = self.settings().opening;
        let mut inner = self.lock();
        inner.openings.announcing = None;
        inner.note_phase(plan.as_ref(), now, self.agreed());
        inner.openings.pending.take()
    }

    /// What the plan of the configuration asks for at the start. An hour that is over, or a plan that is not what those who
    /// gather were told, is only complained of: nothing may stay away for it.
    pub(super) async fn opening_at_start(&self, now: Now) -> Result<(), NoOpening> {
        let plan = self.settings().opening;
        match self.begin_with(plan, now).await {
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

    /// Writes down what follows from the plan at the start. Where several nodes share the line, one that starts, perhaps with
    /// an old file, announces the first opening of the line and nothing else.
    async fn begin_with(&self, plan: Option<Plan>, now: Now) -> Result<Step, NoOpening> {
        if self.is_shared() && self.last_opening().is_some() && self.step_to(plan, now)? != Step::Nothing {
            return Err(PlanFault::OthersGoByAnother.into());
        }
        self.write_down(plan, now).await
    }

    fn keep_to_what_was_told(&self, configured: Option<Plan>, fault: PlanFault) {
        let Some(opening) = self.last_opening() else { return };
        tracing::error!(room = %self.name, %fault, "[room.opening] is not what those who gather were told; the room goes on with what was announced until the file is mended and reloaded");
        let plan = opening.plan(configured.as_ref());
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
            Some(opening) => opening.gathers(&self.counters()?),
            None => Crowd::Nobody,
        };
        Ok(step(plan.as_ref(), last.as_ref(), crowd, self.agreed().time(now).wall)?)
    }

    /// What the lanes' counters stand at; where several nodes share them, as far as is known here.
    fn counters(&self) -> Result<Vec<(ClassId, Number)>, StoreError> {
        let heard_of = || self.lock().line.lanes().map(|(class, lane)| (class, lane.issued())).collect();
        Ok(self.store.counters(&self.name)?.unwrap_or_else(heard_of))
    }

    /// Writes down what follows from a plan. Whoever has nothing to write waits for nobody who writes.
    async fn write_down(&self, plan: Option<Plan>, now: Now) -> Result<Step, NoOpening> {
        if let step @ (Step::Nothing | Step::TooLate) = self.step_to(plan, now)? {
            return Ok(step);
        }
        let _alone = self.opening_work.lock().await;
        for _ in 0..ATTEMPTS {
            let (step, last) = (self.step_to(plan, now)?, self.last_opening());
            let noted = match (step, &last, plan) {
                (Step::Withdraw, Some(before), _) => {
                    let opening = before.clone().withdrawn(now.wall);
                    self.change(Change::Withdraw { opening: &opening, instead_of: before }).await?
                }
                (Step::Move, Some(before), Some(plan)) => {
                    let opening = Opening { at: plan.at, ..before.clone() };
                    self.change(Change::Set { opening: &opening, instead_of: Some(before) }).await?
                }
                (Step::Announce(number), last, Some(plan)) => {
                    let opening = self.announcement(number, plan, now)?;
                    let instead_of = last.as_ref().filter(|last| last.number == number);
                    self.change(Change::Announce { opening: &opening, instead_of }).await?
                }
                _ => return Ok(step),
            };
            if let Noted::Done(opening) = noted {
                self.lock().openings.pending = Some(opening);
                return Ok(step);
            }
        }
        Err(StoreError::Unreachable("other nodes change the opening at the same time".into()).into())
    }

    /// Changes an opening. Where another node was first, what it wrote down is known afterwards.
    async fn change(&self, change: Change<'_>) -> Result<Noted, StoreError> {
        let noted = self.store.change_opening(&self.name, change).await?;
        if let Noted::Otherwise(Some(known)) = &noted
            && known.held.is_none()
        {
            self.lock().openings.note(known.clone());
        }
        Ok(noted)
    }

    /// A new opening. The room is closed first, so that whoever has a later number than those counted here gathers.
    fn announcement(&self, number: u32, plan: Plan, now: Now) -> Result<Opening, NoOpening> {
        let mut inner = self.lock();
        inner.openings.announcing = Some(plan);
        inner.note_phase(None, now, self.agreed());
        drop(inner);
        Ok(Opening {
            number,
            order: plan.order,
            at: plan.at,
            announced: self.agreed().time(now).wall,
            seed: seed_for(plan.order)?,
            after: Vec::new(),
            held: None,
        })
    }

    /// Holds the opening if its hour has come and nobody is at it already.
    pub fn hold_opening_when_due(self: &Arc<Self>, clock: &Clock) {
        if !matches!(self.phase(), Phase::Due { .. }) || !self.leads(clock.mono()) {
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
        let due = self.lock().due();
        let Some(opening) = due else { return Ok(()) };
        let now = clock.now();
        let noted = self.change(Change::Hold { opening: &opening, at: now.wall }).await?;
        match noted {
            // Several nodes hear of it from the store, all at the same place among the numbers drawn.
            Noted::Done(held) if !self.is_shared() => self.give_places(&mut self.lock(), held, clock.now()),
            Noted::Done(_) | Noted::Otherwise(_) => {}
        }
        Ok(())
    }

    /// An opening was changed by a node that shares the line, perhaps by this one.
    pub(super) fn hear_opening(&self, opening: Opening, now: Now) {
        let mut inner = self.lock();
        match inner.openings.hear(opening) {
            Heard::Known => {}
            Heard::Held(opening) => self.give_places(&mut inner, opening, now),
            Heard::Otherwise => {
                tracing::error!(room = %self.name, "the store says of the opening what it did not say when it was held; places stay as they were given");
            }
        }
    }

    /// The opening is final: the seed has its effect.
    fn give_places(&self, inner: &mut Inner, opening: Opening, now: Now) {
        let lanes = opening.held.as_ref().map(|held| held.lanes.clone()).unwrap_or_default();
        inner.openings.note(opening);
        let places = Arc::new(Places::of(&self.name, self.identity(), &inner.openings.list));
        inner.openings.places = places.clone();
        inner.openings.phase = Phase::Open;
        inner.line.open(&lanes, places, now);
        inner.stand_by_place();
        let gathered: u64 = lanes.iter().map(|lane| lane.count).sum();
        tracing::info!(room = %self.name, gathered, "the room opens");
    }

    /// What this node knew of the line is out of date: these are its openings.
    pub(super) fn take_over_openings(&self, inner: &mut Inner, list: Vec<Opening>, identity: u64) {
        inner.openings.places = Arc::new(Places::of(&self.name, LineIdentity(identity), &list));
        inner.openings.list = list;
    }

    /// The openings of the line, the first one first.
    pub(super) fn openings(&self) -> Vec<Opening> {
        self.lock().openings.list.clone()
    }

    /// The hours of a class; before the opening the first ones after it.
    pub fn hours(&self, class: ClassId) -> Hours {
        let in_force = self.in_force();
        match self.phase().opens_at() {
            None => self.until_the_end(in_force.hours(class)),
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
            (phase, _) => phase.opens_at().unwrap_or(self.agreed().time(now).wall),
        };
        let part = match (ticket, last.filter(|last| last.order == Order::Arrival)) {
            (Some(ticket), Some(last)) => last.part(ticket.class, ticket.number, gathered),
            (Some(ticket), _) => scattered(ticket.number),
            (None, _) => scattered(anything),
        };
        ask_again(until.since(self.agreed().time(now).wall), gathered, part)
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
