//! A room as it runs: its line under a lock, its seats, and those who wait for news of it.
//!
//! The rules are `domain::line`'s and `domain::seat`'s; this is the shell that feeds them, wakes whoever is concerned,
//! and reports to the store what must last. It outlives reloads of the configuration.

mod alone;
mod closing;
mod forecast;
mod gate;
mod hours;
mod joins;
mod lanes;
mod late;
mod moving;
mod opening;
#[cfg(test)]
mod opening_faults;
#[cfg(test)]
mod recovery_faults;
mod restore;
mod seats;
mod shared;
mod vitals;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{oneshot, watch};

use crate::config;
use crate::domain::budget::WHOLE;
use crate::domain::closing::Stage;
use crate::domain::lane::{Extended, Moved};
use crate::domain::limiter::{Limit, WorkedOffAt};
use crate::domain::line::{
    Asks, Calls, Conditions, Heard, Knock, Line, Near, Standing, Standstill, StraightThrough, TicketStage,
};
use crate::domain::mirror::Said;
use crate::domain::names::{ClassId, ClassName, RoomName};
use crate::domain::opening::Phase;
use crate::domain::pass_limits::{Excess, PassLimits};
use crate::domain::places::Places;
use crate::domain::recovery::Place;
use crate::domain::seat::{Stay, remembered_until};
use crate::domain::tickets::{Number, Told};
use crate::domain::time::{Mono, Now, Unix};
use crate::domain::token::{LineIdentity, Token, VisitorId};
use crate::domain::wait_estimate::WaitRange;
use crate::entropy;
use crate::store::{Drawn, Fact, Health, Role, Script, Store, StoreError, TicketRecord, TicketState};
use crate::telemetry::metrics::{LaneMetrics, RoomMetrics, StandstillReason};
use moving::{Counted, SoFar};

pub use forecast::{Forecast, planned_stretches};
pub use gate::{Coming, GatePlace, Passed};
pub use hours::InForce;
pub use joins::{Joins, Novelty, Occasion, Ticket};
pub use lanes::NamedLane;
pub use opening::NoOpening;
pub use restore::NoRoom;
pub use seats::{PassShown, PassTerms, Seat, Seats, Shown};
pub use vitals::{Asked, ask_login_providers};

/// Polls of one ticket: one a second on average, ten at once.
const POLLS: (Duration, u32) = (Duration::from_secs(1), 10);

/// A room as it runs.
#[derive(Debug)]
pub struct LiveRoom {
    /// Its name.
    pub name: RoomName,
    /// Who is inside.
    pub seats: Seats,
    /// Who joined lately.
    pub joins: Joins,
    inner: Mutex<Inner>,
    /// Says when numbers drawn here or elsewhere were heard of.
    drawn: watch::Sender<()>,
    identity: AtomicU64,
    /// How this node goes on without the store that all share.
    alone: alone::Alone,
    settings: RwLock<Arc<config::Room>>,
    store: Arc<Store>,
    polls: DashMap<Key, WorkedOffAt>,
    /// Those who came while the store was away.
    late: late::Latecomers,
    estimates: DashMap<Key, Estimate>,
    frozen_ms: AtomicU64,
    lost_from: Option<Unix>,
    started: Unix,
    metrics: Arc<RoomMetrics>,
    lanes: lanes::NamedLanes,
    hours: hours::Kept,
    /// Held by whoever writes down an opening.
    opening_work: Arc<tokio::sync::Mutex<()>>,
    vitals: vitals::Vitals,
}

struct Inner {
    line: Line,
    news: HashMap<Key, Vec<oneshot::Sender<()>>>,
    at_gate: HashMap<Key, Vec<gate::AtGate>>,
    moving: moving::Moving,
    still: Option<Still>,
    /// The lanes whose hours it is not, and since when.
    closed: HashMap<ClassId, Still>,
    last_tick: Mono,
    others: shared::Others,
    openings: opening::Openings,
    closing: closing::Closed,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// What one visitor in eight was told first, to be compared with what came.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    told_at: Mono,
    middle: Duration,
}

/// One ticket in so many is compared with its estimate.
const COMPARED: u64 = 8;

/// Estimates remembered at most.
const MOST_COMPARED: usize = 65_536;

/// A ticket's key in the maps of those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    class: ClassId,
    number: u64,
}

impl Key {
    fn of(ticket: &Ticket) -> Key {
        Key { class: ticket.class, number: ticket.number }
    }
}

/// Why the line stands still (or moves slowly), and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Still {
    /// Why.
    pub why: Why,
    /// Since when, by the wall clock.
    pub since: Unix,
    /// Since when, by the monotonic clock.
    pub since_mono: Mono,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody enters.
    Standstill(Standstill),
    /// It is not the lane's hour.
    OutsideHours,
    /// The rate is raised slowly after a standstill.
    RampingUp,
    /// The line moves, but nobody can join it: the store takes nothing more.
    StoreFull,
    /// The line moves, but nobody can join it: the store does not do its work.
    StoreUnreachable,
}

impl From<Why> for StandstillReason {
    fn from(why: Why) -> StandstillReason {
        match why {
            Why::Standstill(Standstill::BeforeOpening) => StandstillReason::BeforeOpening,
            Why::Standstill(Standstill::OperatorHold) => StandstillReason::OperatorHold,
            Why::Standstill(Standstill::PortalUnhealthy) => StandstillReason::PortalUnhealthy,
            Why::Standstill(Standstill::LeakGuard) => StandstillReason::LeakGuard,
            Why::Standstill(Standstill::StoreUnreachable) => StandstillReason::StoreUnreachable,
            Why::Standstill(Standstill::RoomFull) => StandstillReason::RoomFull,
            Why::OutsideHours => StandstillReason::OutsideHours,
            Why::RampingUp => StandstillReason::RampingUp,
            Why::StoreFull => StandstillReason::StoreFull,
            Why::StoreUnreachable => StandstillReason::StoreUnreachable,
        }
    }
}

/// What a visitor who asks gets to know, and how to hear more.
#[derive(Debug)]
pub struct Polled {
    /// Where the visitor stands.
    pub view: View,
    /// Becomes ready when the ticket is called; only when the call is near.
    pub news: Option<oneshot::Receiver<()>>,
}

/// One visitor's standing with what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Where the visitor stands.
    pub standing: Standing,
    /// How long it will take.
    pub wait: Option<WaitRange>,
    /// Why nothing moves.
    pub still: Option<Still>,
}

/// What the operators' view shows of a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneView {
    /// Tickets drawn.
    pub tickets: u64,
    /// The highest number called.
    pub now_serving: u64,
    /// Present visitors who wait.
    pub waiting: u64,
    /// Turns not used yet.
    pub called: u64,
    /// Visitors at the gate.
    pub at_gate: u64,
}

/// The circumstances of a tick that the room does not know itself.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// The portal's or the store's failure.
    pub standstill: Option<Standstill>,
    /// Thousandths of the rate while the portal recovers.
    pub ramp: u32,
}

impl LiveRoom {
    /// The configuration in force for the room.
    pub fn settings(&self) -> Arc<config::Room> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over a changed configuration.
    pub fn reconfigure(&self, room: Arc<config::Room>, now: Now) {
        self.lanes.rename(&room);
        let opening = self.planned(room.opening);
        let follows_the_file = opening == room.opening;
        let room = if follows_the_file { room } else { Arc::new(config::Room { opening, ..(*room).clone() }) };
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = room.clone();
        let mut inner = self.lock();
        inner.keep_to(&self.hours.now(&room, now.wall));
        inner.openings.put_in_force();
        if follows_the_file {
            inner.openings.follow_the_file();
        }
        inner.note_phase(room.opening.as_ref(), now, self.agreed());
        inner.note_stage(room.closing.as_ref().map(|ending| &ending.closing), now, self.agreed());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its line's tickets carry.
    pub fn identity(&self) -> LineIdentity {
        LineIdentity(self.identity.load(Ordering::Relaxed))
    }

    /// What holds at this hour.
    pub fn in_force(&self) -> Arc<InForce> {
        self.hours.last()
    }

    /// What will hold under a configuration that is not in force yet.
    pub fn in_force_under(&self, room: &Arc<config::Room>, now: Now) -> Arc<InForce> {
        self.hours.under(room, now.wall)
    }

    /// The lanes of the configured classes, the citizens' among them.
    pub fn lanes(&self) -> Arc<[NamedLane]> {
        self.lanes.all()
    }

    /// The name of a class; the citizens' for a class that is gone.
    pub fn class_name(&self, class: ClassId) -> ClassName {
        self.lanes.of(class).name
    }

    /// The metrics of a lane.
    pub fn lane_metrics(&self, class: ClassId) -> Arc<LaneMetrics> {
        self.lanes.of(class).metrics
    }

    /// Seconds of the room's session clock: the process's time line less what was frozen.
    pub fn room_seconds(&self, now: Now) -> u32 {
        self.room_seconds_at(now.unix)
    }

    /// The same of a point on the time line.
    pub fn room_seconds_at(&self, unix: Unix) -> u32 {
        unix.minus(self.frozen()).seconds()
    }

    fn frozen(&self) -> Duration {
        Duration::from_millis(self.frozen_ms.load(Ordering::Relaxed))
    }

    /// Records what must last.
    pub fn record(&self, fact: Fact) {
        if !self.alone.keeps_to_itself(&fact) {
            self.store.record(&self.name, fact);
        }
    }

    fn record_ticket(&self, class: ClassId, number: u64, state: TicketState, asks: Asks) {
        let script = if asks == Asks::ByHand { Script::Plain } else { Script::Runs };
        self.record(Fact::Ticket { class, number, record: TicketRecord { state, script } });
    }

    /// Draws a ticket; the same one for the same join id, or for whoever moves from the same place. Says whether it was
    /// drawn just now.
    ///
    /// # Errors
    /// When the store gives no number.
    pub async fn join(
        &self,
        class: ClassId,
        occasion: Occasion<'_>,
        asks: Asks,
        now: Now,
    ) -> Result<(Ticket, Novelty), NoTicket> {
        let draw = match occasion {
            Occasion::Join(id) => self.joins.draw(id, now.mono),
            Occasion::MoveFrom(old) => self.joins.draw_instead_of(old, class, now.mono),
        };
        let mut novelty = Novelty::Again;
        let ticket = draw
            .get_or_try_init(|| async {
                let ticket = match self.draw_unless_away(class, occasion, asks, now).await? {
                    late::Drawn::Numbered(ticket) => ticket,
                    late::Drawn::Provisional(ticket) => {
                        self.lane_metrics(class).arrivals.inc();
                        novelty = Novelty::Anew;
                        return Ok(ticket);
                    }
                };
                let mut inner = self.lock();
                let place = inner.place(class, ticket.number);
                inner.line.join(class, place, asks, now);
                drop(inner);
                self.record_ticket(class, ticket.number, TicketState::Waiting, asks);
                self.lane_metrics(class).arrivals.inc();
                novelty = Novelty::Anew;
                Ok::<_, NoTicket>(ticket)
            })
            .await?;
        Ok((*ticket, novelty))
    }

    /// Draws a number.
    ///
    /// # Errors
    /// When the store gives no number.
    pub async fn draw(&self, class: ClassId, drawn: Drawn) -> Result<Ticket, NoTicket> {
        let id = VisitorId(entropy::bytes()?);
        if drawn == Drawn::ToEnter
            && let Some(number) = self.number_for_a_newcomer()
        {
            return Ok(Ticket { id, class, number });
        }
        let number = self.store.take_number(&self.name, class, drawn).await?;
        if self.is_shared() {
            self.heard_of_all_before(class, number).await?;
        }
        Ok(Ticket { id, class, number })
    }

    /// Whether the store is ill, so that those who join get a ticket only as far as the durable mark reaches. One that
    /// several nodes share may do its work for this room, though not for another.
    pub fn store_illness(&self, now: Now) -> Option<Still> {
        if self.is_shared() && self.store.is_there(&self.name, now.mono) {
            return None;
        }
        let (why, since_mono) = match *self.store.health().borrow() {
            Health::Good => return None,
            Health::Full { since, .. } => (Why::StoreFull, since),
            Health::Unreachable { since, .. } => (Why::StoreUnreachable, since),
        };
        Some(Still { why, since: now.wall.minus(now.mono.since(since_mono)), since_mono })
    }

    /// What everybody is told: why nobody enters, or else why nobody can join.
    pub fn told_to_everybody(&self, now: Now) -> Option<Still> {
        self.still().0.or_else(|| self.store_illness(now))
    }

    /// What those of a lane are told: why nobody enters, or why they do not, or else why nobody can join.
    pub fn told_to_lane(&self, class: ClassId, now: Now) -> Option<Still> {
        self.lock().still_of(class).or_else(|| self.store_illness(now))
    }

    /// Why somebody who asked for a ticket got none.
    pub fn why_no_ticket(&self, error: &NoTicket, now: Now) -> Still {
        let why = match error {
            NoTicket::Store(StoreError::Full(_)) => Why::StoreFull,
            NoTicket::Store(_) | NoTicket::Entropy(_) => Why::StoreUnreachable,
        };
        self.store_illness(now).unwrap_or(Still { why, since: now.wall, since_mono: now.mono })
    }

    /// Counts a poll of a ticket.
    ///
    /// # Errors
    /// How long to wait when there were too many.
    pub fn count_poll(&self, ticket: &Ticket, now: Mono) -> Result<(), Duration> {
        Limit::new(POLLS.0, POLLS.1).count(&mut self.polls.entry(Key::of(ticket)).or_default(), now)
    }

    /// A visitor asks where they stand, which is presence.
    pub fn poll(&self, ticket: &Ticket, asks: Asks, now: Now) -> Polled {
        let mut inner = self.lock();
        let key = inner.key(ticket);
        let (standing, heard) = inner.line.poll(key.class, key.number, asks, now);
        let standing = inner.as_told(ticket, standing);
        let news = (is_worth_holding(standing) && inner.is_worth_waiting(standing)).then(|| {
            let (sender, news) = oneshot::channel();
            let waiting = inner.news.entry(key).or_default();
            waiting.retain(|other| !other.is_closed());
            waiting.push(sender);
            news
        });
        let view = inner.view(ticket, standing);
        let told = inner.line.told_last(key.class, key.number);
        drop(inner);
        self.tell(Said::Heard { class: ticket.class, number: ticket.number, told });
        self.note_heard(ticket, asks, heard);
        self.note_estimate(ticket, &view, now.mono);
        Polled { view, news }
    }

    fn note_estimate(&self, ticket: &Ticket, view: &View, now: Mono) {
        let compared = ticket.number.is_multiple_of(COMPARED) && self.estimates.len() < MOST_COMPARED;
        if let Some(wait) = view.wait.filter(|_| compared) {
            let middle = (wait.low + wait.high) / 2;
            self.estimates.entry(Key::of(ticket)).or_insert(Estimate { told_at: now, middle });
        }
    }

    /// The first estimate divided by the real wait.
    fn compare_estimate(&self, key: Key, now: Mono) {
        if let Some((_, Estimate { told_at, middle })) = self.estimates.remove(&key) {
            let real = now.since(told_at).as_secs_f64().max(1.0);
            self.metrics.wait_estimate_error_ratio.observe(middle.as_secs_f64() / real);
        }
    }

    fn note_heard(&self, ticket: &Ticket, asks: Asks, heard: Heard) {
        if heard == Heard::Returned {
            self.lane_metrics(ticket.class).returns.inc();
        }
        if heard != Heard::Again {
            self.record_ticket(ticket.class, ticket.number, TicketState::Waiting, asks);
        }
    }

    /// Where a ticket stands, without counting as presence.
    pub fn look(&self, ticket: &Ticket, asks: Asks) -> View {
        let inner = self.lock();
        let standing = inner.standing(ticket, asks);
        inner.view(ticket, standing)
    }

    /// Where a ticket is, without counting who stands before.
    pub fn ticket_stage(&self, ticket: &Ticket) -> TicketStage {
        self.lock().ticket_stage(ticket)
    }

    /// Whether the line does not know the ticket, so that it may have to take its place again.
    pub fn does_not_know(&self, ticket: &Ticket) -> bool {
        let inner = self.lock();
        let key = inner.key(ticket);
        inner.line.ticket_stage(key.class, key.number) == TicketStage::Unknown
    }

    /// Whether a newcomer may go straight through.
    pub fn straight_through(&self, class: ClassId) -> StraightThrough {
        self.unless_nobody_may(|line| line.straight_through(class))
    }

    fn unless_nobody_may(&self, judge: impl FnOnce(&mut Line) -> StraightThrough) -> StraightThrough {
        let settings = self.settings();
        if settings.entry == config::Entry::Page || self.is_held(&settings) {
            return StraightThrough::No;
        }
        let mut inner = self.lock();
        if inner.openings.phase != Phase::Open || inner.closing.stage != Stage::Open {
            return StraightThrough::No;
        }
        judge(&mut inner.line)
    }

    /// The visitor gives up the place.
    pub fn leave(&self, ticket: &Ticket) {
        let mut inner = self.lock();
        let key = inner.key(ticket);
        let had_place = inner.line.leave(key.class, key.number);
        drop(inner);
        if had_place {
            self.record_ticket(ticket.class, ticket.number, TicketState::Left, Asks::Scripted);
            self.lane_metrics(ticket.class).abandoned.inc();
        }
    }

    /// The ticket of a place that somebody can prove to have had; `None` when nobody stands there any more. It has an
    /// identity of its own: whichever of the two enters first takes the place with it.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn ticket_of(&self, place: Place) -> Result<Option<Ticket>, entropy::NoEntropy> {
        let ticket = Ticket { id: VisitorId(entropy::bytes()?), class: place.class, number: place.number };
        Ok(self.ticket_stage(&ticket).is_a_place().then_some(ticket))
    }

    /// Gives a turn more time.
    pub fn extend(&self, ticket: &Ticket) -> Extended {
        let mut inner = self.lock();
        let key = inner.key(ticket);
        let extended = inner.line.extend(key.class, key.number);
        drop(inner);
        if extended == Extended::Yes {
            self.tell(Said::Extended { class: ticket.class, number: ticket.number });
        }
        extended
    }

    /// A genuine ticket that the line may have lost with its last writes takes its place again; a genuine turn whose
    /// call was lost is honoured.
    pub async fn recover(&self, ticket: &Ticket, turn_issued: Option<u32>, asks: Asks, now: Now) {
        let lift = self.lock().line.may_lift(ticket.class, ticket.number);
        if lift {
            tracing::warn!(room = %self.name, number = ticket.number, "a visitor holds a later ticket than the state knows: the counter is lifted");
            if self.store.lift(&self.name, ticket.class, ticket.number).await.is_err() {
                return;
            }
            self.lock().line.lifted(ticket.class, ticket.number, now);
        }
        let mut inner = self.lock();
        let key = inner.key(ticket);
        if inner.line.reinstate(key.class, key.number, asks, now) {
            self.record_ticket(ticket.class, ticket.number, TicketState::Waiting, asks);
        }
        if turn_issued.is_some_and(|issued| self.may_be_lost(issued)) {
            inner.line.honour_turn(key.class, key.number);
        }
    }

    /// Whether something of this second may not have become durable before the last stop.
    fn may_be_lost(&self, issued: u32) -> bool {
        self.lost_from
            .is_some_and(|from| issued.saturating_add(2) >= from.seconds() && issued <= self.started.seconds())
    }

    /// Free seats; `None` when the room has no cap.
    pub fn seats_free(&self) -> Option<u64> {
        let most = u64::from(self.hours.last().max_active_sessions?);
        Some(most.min(self.alone.most_seats()).saturating_sub(self.seats.count()))
    }

    /// What a pass is worth that was verified by key.
    pub fn show_pass(&self, pass: &PassShown, terms: &PassTerms, now: u32) -> Shown {
        let shown = self.seats.show(pass, terms, now, |seat| {
            self.record(Fact::Seat { id: pass.id.0, seat: seat.record() });
        });
        match shown {
            Shown::Forked(Some(_)) => self.metrics.forks_kept.inc(),
            Shown::Forked(None) => self.metrics.forks_sent_to_line.inc(),
            Shown::Good(_) | Shown::Ended(_) | Shown::Superseded | Shown::Unknown => {}
        }
        shown
    }

    /// Something of the visitor's begins, unless the pass asks for more than one person's traffic.
    ///
    /// # Errors
    /// [`Excess`], which is counted.
    pub fn begin_within(&self, seat: &Seat, limits: &PassLimits, now: Mono) -> Result<(), Excess> {
        let begun = seat.begin_within(limits, now);
        match begun {
            Ok(()) => {}
            Err(Excess::AtOnce) => self.metrics.pass_limited_at_once.inc(),
            Err(Excess::Pace(_)) => self.metrics.pass_limited_pace.inc(),
        }
        begun
    }

    /// Takes a seat for a good pass whose seat was lost, beyond the limit and without budget.
    pub fn reseat(&self, pass: &Token, now: u32) -> Arc<Seat> {
        let id = pass.id;
        let seat = Seat::new(pass.number, pass.class, now, crate::store::Standing::Confirmed);
        let seat = self.seats.put(id, seat.with_pass_signed_at(pass.issued));
        // Or the next pass for this seat would be taken for an old one.
        seat.issued(pass.claim.generation().map_or(0, |generation| generation.0));
        self.record(Fact::Seat { id: id.0, seat: seat.record() });
        seat
    }

    /// The visitor inside is active.
    pub fn touch(&self, id: &VisitorId, seat: &Seat, now: u32) {
        if seat.touch(now) {
            self.record(Fact::Seat { id: id.0, seat: seat.record() });
        }
    }

    /// The visitor inside wishes for more time: to be idle, and in all where the end of the visit is near and may be put off.
    pub fn extend_stay(&self, id: &VisitorId, seat: &Seat, now: u32) {
        let is_put_off = seat.put_limit_off(&self.settings().stay(), now);
        if seat.touch(now) || is_put_off {
            self.record(Fact::Seat { id: id.0, seat: seat.record() });
        }
    }

    /// The visitor is done: the seat is free, the pass ends.
    pub fn end_session(&self, id: &VisitorId, now: u32) {
        let session = self.settings().session_duration;
        let until = remembered_until(session, now);
        self.seats.put_ended(*id, until);
        self.seats.free(id);
        self.record(Fact::SeatGone { id: id.0, ended_until: Some(until) });
    }

    /// Ten times a second: the line moves, those concerned are told, the store hears of it.
    pub fn tick(&self, now: Now, around: Around) {
        let settings = self.settings();
        let in_force = self.hours.now(&settings, now.wall);
        let mut conditions = self.conditions(&settings, around, now.mono);
        let mut inner = self.lock();
        inner.keep_to(&in_force);
        inner.note_phase(settings.opening.as_ref(), now, self.agreed());
        inner.note_stage(settings.closing.as_ref().map(|ending| &ending.closing), now, self.agreed());
        if inner.closing.stage == Stage::Ended {
            conditions.calls = Calls::None;
        }
        if inner.openings.phase != Phase::Open {
            conditions.standstill = Some(Standstill::BeforeOpening);
        }
        self.note_around(&mut inner, around);
        if self.role(&mut inner, now) == Role::Follows {
            self.follow(inner, conditions, now);
            return;
        }
        let conditions = self.as_its_part(conditions, &mut inner, now.mono);
        self.stand_still_clocks(&mut inner, &settings, around, now);
        let tick = inner.line.tick(now, conditions);
        inner.note_still(now);
        for (class, moved) in &tick.moved {
            inner.moving.called(*class, moved.called.len() as u64);
            for number in &moved.called {
                inner.news.remove(&Key { class: *class, number: *number });
            }
            for number in inner.line.time_to_knock(*class) {
                inner.news.remove(&Key { class: *class, number });
            }
        }
        inner.measure(&in_force, now.wall);
        self.lead(&mut inner, now);
        let places = inner.openings.places.clone();
        drop(inner);
        for (class, moved) in tick.moved {
            let moved = with_numbers(&places, class, moved);
            for number in moved.called.iter().filter(|number| number.is_multiple_of(COMPARED)) {
                self.compare_estimate(Key { class, number: *number }, now.mono);
            }
            self.report(class, &moved);
        }
        for (class, place) in tick.gone {
            let number = places.number(class, place);
            self.record_ticket(class, number, TicketState::Left, Asks::Scripted);
        }
    }

    /// Whether the operator lets nobody in. That counts at once, not only from the next tick on.
    fn is_held(&self, settings: &config::Room) -> bool {
        matches!(settings.state, config::RoomState::Hold | config::RoomState::Closed) || self.orders().held
    }

    fn conditions(&self, settings: &config::Room, around: Around, now: Mono) -> Conditions {
        let held = self.is_held(settings).then_some(Standstill::OperatorHold);
        Conditions {
            standstill: held.or(around.standstill).or(self.store_unreachable(now)),
            ramp: around.ramp,
            seats_free: self.seats_free(),
            seats_freed: self.seats.take_freed(),
            calls: Calls::AsPaced,
            gates: 1,
        }
    }

    /// While the portal is unhealthy or the room closed, the session clocks of those inside stand still.
    fn stand_still_clocks(&self, inner: &mut Inner, settings: &config::Room, around: Around, now: Now) {
        let elapsed = now.mono.since(inner.last_tick);
        inner.last_tick = now.mono;
        let closed = settings.state == config::RoomState::Closed;
        if closed || around.standstill == Some(Standstill::PortalUnhealthy) {
            let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(0);
            self.frozen_ms.fetch_add(elapsed, Ordering::Relaxed);
            self.record(Fact::Frozen(self.frozen()));
        }
    }

    fn report(&self, class: ClassId, moved: &Moved) {
        let metrics = self.lane_metrics(class);
        metrics.calls.inc_by(moved.called.len() as u64);
        metrics.no_shows.inc_by(moved.lapsed.len() as u64);
        let facts = [
            (&moved.called, TicketState::Called),
            (&moved.lapsed, TicketState::Absent),
            (&moved.passed_over, TicketState::Absent),
        ];
        for (numbers, state) in facts {
            for number in numbers {
                self.record_ticket(class, *number, state, Asks::Scripted);
            }
        }
        if let Some(through) = moved.done_through {
            self.record(Fact::Forget { class, through });
        }
    }

    /// Once a second: seats that ended are freed, limits forgotten, figures shown.
    pub fn sweep(&self, now: Now) {
        let settings = self.settings();
        let seconds = self.room_seconds(now);
        if let Some(silent) = self.frees_after(settings.session_duration, now.mono) {
            let later = silent.saturating_sub(settings.session_duration);
            let limit = settings.session_limit.map(|limit| limit + later);
            let stay = Stay { idle: silent, limit, ..settings.stay() };
            for (id, until) in self.seats.sweep(&stay, seconds) {
                self.seats.free_silent(&id, seconds, until);
                self.record(Fact::SeatGone { id: id.0, ended_until: until });
            }
        }
        self.tell_of_this_node(&settings, seconds);
        self.joins.sweep(now.mono);
        self.alone.sweep(now.mono);
        self.late.sweep(settings.ticket_lifetime, now.mono);
        self.polls.retain(|_, state| state.0 > now.mono);
        self.estimates.retain(|_, estimate| now.mono.since(estimate.told_at) < settings.ticket_lifetime);
        self.show_figures(&settings, now);
    }

    fn show_figures(&self, settings: &config::Room, now: Now) {
        let mut inner = self.lock();
        inner.forget_gone();
        drop(inner);
        let (nodes, disagreeing) = self.nodes(now.mono);
        self.metrics.nodes.set(signed(nodes));
        self.metrics.nodes_disagreeing.set(signed(disagreeing));
        self.metrics.leads.set(i64::from(self.leads(now.mono)));
        self.metrics.admission_rate.set(self.rate_in_force());
        let closes = settings.closing.as_ref().map_or(0, |ending| i64::from(ending.closing.at.seconds()));
        self.metrics.closing_timestamp_seconds.set(closes);
        self.metrics.frozen.set(i64::from(self.is_frozen()));
        self.metrics.login_healthy.set(i64::from(self.login_is_well().unwrap_or(true)));
        self.metrics.set_state(self.state());
        let seats = self.seats.by_class();
        for lane in self.lanes().iter() {
            let (view, still) = (self.lane_view(lane.class), self.standstill_of(lane.class, now));
            lane.metrics.waiting.set(signed(view.waiting));
            lane.metrics.now_serving.set(signed(view.now_serving));
            lane.metrics.gate_waiting.set(signed(view.at_gate));
            lane.metrics.active_sessions.set(signed(seats.get(&lane.class).copied().unwrap_or(0)));
            lane.metrics.set_standstill(still.map(|(reason, since)| (reason, now.mono.since(since))));
        }
    }

    /// Figures of a lane.
    pub fn lane_view(&self, class: ClassId) -> LaneView {
        let inner = self.lock();
        let lane = inner.line.lane(class);
        LaneView {
            tickets: lane.map_or(0, |lane| lane.issued()),
            now_serving: lane.map_or(0, |lane| lane.now_serving()),
            waiting: lane.map_or(0, |lane| lane.waiting()),
            called: lane.map_or(0, |lane| lane.claims() as u64),
            at_gate: lane.map_or(0, |lane| lane.at_gate() as u64),
        }
    }

    /// Whether nobody waits, holds a turn or stands at the gate.
    pub fn is_empty(&self) -> bool {
        self.lock().line.lanes().all(|(_, lane)| lane.is_empty())
    }

    /// Entries per second in force.
    pub fn rate_in_force(&self) -> f64 {
        let (_, ramp) = self.still();
        self.in_force().rate().per_second() * f64::from(ramp) / f64::from(WHOLE)
    }

    /// Whether nobody enters for another reason than that all seats are taken.
    fn stands_still(&self) -> bool {
        self.lock().line.standstill().is_some_and(|standstill| standstill != Standstill::RoomFull)
    }

    /// Why nothing moves, and the thousandths of the rate in force.
    pub fn still(&self) -> (Option<Still>, u32) {
        let inner = self.lock();
        (inner.still, inner.line.ramp())
    }

    /// Wakes everybody whose poll is held: a drain begins.
    pub fn release_polls(&self) {
        self.lock().news.clear();
    }
}

impl Inner {
    fn standing(&self, ticket: &Ticket, asks: Asks) -> Standing {
        let key = self.key(ticket);
        self.as_told(ticket, self.line.standing(key.class, key.number, asks))
    }

    fn ticket_stage(&self, ticket: &Ticket) -> TicketStage {
        let key = self.key(ticket);
        match self.line.ticket_stage(key.class, key.number) {
            TicketStage::Entered if self.is_under_way(ticket) => TicketStage::Called,
            TicketStage::Unknown if self.is_unheard_of(ticket) => TicketStage::Waiting,
            known => known,
        }
    }

    /// What the visitor hears of a standing, which may not be all that there is.
    fn as_told(&self, ticket: &Ticket, standing: Standing) -> Standing {
        match (standing, self.ticket_stage(ticket)) {
            (Standing::Entered, TicketStage::Called) => {
                Standing::YourTurn { ahead_at_gate: None, knock: Knock::Later, left: self.line.claim_window() }
            }
            (Standing::Unknown, TicketStage::Waiting) => {
                let ahead = self.line.lane(ticket.class).map_or(0, |lane| lane.waiting());
                Standing::Waiting { ahead, told: Told::Two, near: Near::AnswerNow }
            }
            (known, _) => known,
        }
    }

    /// A genuine ticket beyond those of which this process has heard stands in the line all the same, behind everybody
    /// known: another node drew it a moment ago, or the store lost it and is away.
    fn is_unheard_of(&self, ticket: &Ticket) -> bool {
        self.line.may_lift(ticket.class, ticket.number)
    }

    /// Held polls whose visitors hung up leave nothing behind.
    fn forget_gone(&mut self) {
        self.news.retain(|_, waiting| {
            waiting.retain(|sender| !sender.is_closed());
            !waiting.is_empty()
        });
    }

    /// Whether news can come to somebody who stands like this: nobody is called once the line has ended.
    fn is_worth_waiting(&self, standing: Standing) -> bool {
        !(matches!(standing, Standing::Waiting { .. }) && self.closing.stage == Stage::Ended)
    }

    fn view(&self, ticket: &Ticket, standing: Standing) -> View {
        let still = self.still_of(ticket.class);
        let wait = match (standing, self.line.lane(ticket.class)) {
            (Standing::Waiting { ahead, .. }, Some(lane)) if still.is_none_or(|still| still.why.has_an_end()) => {
                self.moving.wait(ticket.class, lane.calls_before(self.key(ticket).number, ahead))
            }
            _ => None,
        };
        View { standing, wait, still }
    }

    /// Why the lane stands still: what the operator decided goes before its hours, and those before what happens.
    fn still_of(&self, class: ClassId) -> Option<Still> {
        let goes_before = [Standstill::BeforeOpening, Standstill::OperatorHold].map(Why::Standstill);
        let held = self.still.filter(|still| goes_before.contains(&still.why));
        held.or_else(|| self.closed.get(&self.line.account(class)).copied()).or(self.still)
    }

    /// What holds at this hour counts for the line.
    fn keep_to(&mut self, in_force: &InForce) {
        self.line.set_terms(in_force.terms);
        self.line.set_shares(&in_force.shares);
    }

    fn note_still(&mut self, now: Now) {
        let why = match self.line.standstill() {
            Some(standstill) => Some(Why::Standstill(standstill)),
            None => (self.line.ramp() < self.others.part()).then_some(Why::RampingUp),
        };
        if self.still.map(|still| still.why) != why {
            self.still = why.map(|why| Still::since(why, now));
        }
        let closed: Vec<ClassId> = self.line.closed().collect();
        self.closed.retain(|class, _| closed.contains(class));
        for class in closed {
            self.closed.entry(class).or_insert(Still::since(Why::OutsideHours, now));
        }
    }

    /// Notes how the lanes moved, and what they can expect.
    fn measure(&mut self, in_force: &InForce, wall: Unix) {
        if self.moving.tick() == Counted::ATick {
            return;
        }
        let active = self.line.active();
        let mut classes: Vec<ClassId> = self.line.lanes().map(|(class, _)| class).chain(in_force.classes()).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            let lane = self.line.lane(class);
            let so_far = SoFar {
                went_away: lane.map_or(0, |lane| lane.went_away()),
                present: lane.map_or(0, |lane| lane.waiting()),
            };
            let outlook = in_force.outlook(class, &active, wall);
            self.moving.note(class, so_far, self.line.entries_per_second(class), outlook);
        }
    }
}

impl Still {
    fn since(why: Why, now: Now) -> Still {
        Still { why, since: now.wall, since_mono: now.mono }
    }
}

impl Why {
    /// Whether it is known how long it lasts, or the line moves nevertheless.
    fn has_an_end(self) -> bool {
        !matches!(self, Why::Standstill(standstill) if standstill != Standstill::RoomFull)
    }
}

/// Whether the answer to a poll is held back: the call is near, or the visitor stands at the gate and it will soon be
/// time to knock.
fn is_worth_holding(standing: Standing) -> bool {
    match standing {
        Standing::Waiting { near, .. } => near == Near::Hold,
        Standing::YourTurn { ahead_at_gate, knock, .. } => ahead_at_gate.is_some() && knock == Knock::Later,
        Standing::Entered | Standing::Left | Standing::Unknown => false,
    }
}

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum NoTicket {
    /// The store gives no number.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no randomness for an identity.
    #[error(transparent)]
    Entropy(#[from] entropy::NoEntropy),
}

/// What moved, by the numbers on the tickets.
fn with_numbers(places: &Places, class: ClassId, moved: Moved) -> Moved {
    let numbers = |at: Vec<Number>| at.into_iter().map(|place| places.number(class, place)).collect();
    Moved {
        called: numbers(moved.called),
        lapsed: numbers(moved.lapsed),
        passed_over: numbers(moved.passed_over),
        done_through: moved.done_through.map(|through| places.done_through(class, through)),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
