//! The line of one room: its lanes, its budget, its clocks. A state machine that is told facts and says what follows.
//!
//! The shell keeps it under a lock, tells it of requests as they come and ticks it ten times a second. Nothing here
//! reads a clock, draws a random number or touches a socket.

use std::cmp::Reverse;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, Spent, TICK, WHOLE};
use super::calling::CanEnter;
use super::gate::Came;
use super::lane::{Extended, Lane, Moved};
use super::names::ClassId;
use super::opening::{Gathered, told_at_the_hour};
use super::places::Places;
use super::presence::PresenceClock;
use super::rate::Rate;
use super::shares::{Credits, Shares};
use super::tickets::{Number, State, Told};
use super::time::{Mono, Now};

/// Ticks for one walk through the whole line in search of absent visitors.
pub(super) const REFRESH_TICKS: usize = 20;

/// A ticket the counter has not reached lifts it only if it is at most this far beyond.
const LIFT_AT_MOST: u64 = 1_000_000;

/// What the operator configured, as far as the line needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Entries at the portal.
    pub rate: Rate,
    /// How long a turn is kept.
    pub claim_window: Duration,
    /// How long a silent ticket is remembered.
    pub ticket_lifetime: Duration,
    /// How long a request is held at the gate.
    pub gate_wait: Duration,
}

/// Why nobody enters, most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standstill {
    /// The room has not opened yet: visitors gather, and nobody is called or becomes absent.
    BeforeOpening,
    /// The operator holds the room.
    OperatorHold,
    /// The portal does not answer.
    PortalUnhealthy,
    /// The leak guard blocked answers to several visitors.
    LeakGuard,
    /// The store cannot be reached.
    StoreUnreachable,
    /// All seats are taken.
    RoomFull,
}

/// What the shell sees around the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// The operator's hold, the portal's or the store's failure.
    pub standstill: Option<Standstill>,
    /// Thousandths of the rate in force while the portal recovers; [`WHOLE`] otherwise.
    pub ramp: u32,
    /// Free seats; `None` when the room has no cap.
    pub seats_free: Option<u64>,
    /// Seats freed since the last tick.
    pub seats_freed: u32,
    /// Whether anybody is called.
    pub calls: Calls,
    /// At how many nodes those called may enter while each calls and lets in by itself; 1 otherwise.
    pub gates: u32,
}

/// Whether anybody is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// As fast as they can enter.
    #[default]
    AsPaced,
    /// Nobody any more: the line has ended. Whoever was called before may enter.
    None,
}

impl Conditions {
    /// Everything works.
    pub const FINE: Conditions =
        Conditions { standstill: None, ramp: WHOLE, seats_free: None, seats_freed: 0, calls: Calls::AsPaced, gates: 1 };
}

/// What a visitor who asks is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Waits; so many present visitors stand before.
    Waiting {
        /// Present, uncalled visitors with a lower number.
        ahead: u64,
        /// When to ask again.
        told: Told,
        /// Whether the answer is worth holding back because the call is near.
        near: Near,
    },
    /// May enter.
    YourTurn {
        /// So many stand at the gate before this one; `None` when this one does not stand there.
        ahead_at_gate: Option<u64>,
        /// Whether a request to enter would be held.
        knock: Knock,
        /// How much is left of the turn; stands still while nobody can enter.
        left: Duration,
    },
    /// Went in.
    Entered,
    /// Gave up the place.
    Left,
    /// This line knows no such ticket (any more).
    Unknown,
}

impl Standing {
    /// Whether the ticket stands in the line or has a turn.
    pub fn is_a_place(&self) -> bool {
        matches!(self, Standing::Waiting { .. } | Standing::YourTurn { .. })
    }
}

/// Where a ticket stands, without what a visitor is told of it: nobody is counted for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketStage {
    /// In the line.
    Waiting,
    /// Called, not yet inside.
    Called,
    /// Went in.
    Entered,
    /// Gave up the place.
    Left,
    /// This line knows no such ticket (any more).
    Unknown,
}

impl TicketStage {
    /// Whether the ticket stands in the line or has a turn.
    pub fn is_a_place(self) -> bool {
        matches!(self, TicketStage::Waiting | TicketStage::Called)
    }
}

/// Whether it is worth while to ask to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    /// Yes: the request is held at the gate and will probably enter in that time.
    Now,
    /// Not yet: nobody can enter, or too many stand before.
    Later,
}

/// Whether the call is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// In the last stretch: the poll is held open.
    Hold,
    /// Further back: the answer goes out at once.
    AnswerNow,
}

/// How a visitor asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Asks {
    /// By script, as often as told.
    Scripted,
    /// By hand, from a page without script.
    ByHand,
}

/// Whether the ticket was heard of after having been counted absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was present all along.
    Again,
    /// It was absent, and the calls have passed it: a return.
    Returned,
    /// It was absent, or in doubt, but not passed yet.
    Back,
}

/// What a tick brought about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// Per lane, who moved.
    pub moved: Vec<(ClassId, Moved)>,
    /// Newcomers who stood at the gate and went away.
    pub gone: Vec<(ClassId, Number)>,
}

/// An entry: the ticket may be forwarded now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The ticket's lane.
    pub class: ClassId,
    /// The ticket's number.
    pub number: Number,
    /// How long it stood at the gate.
    pub stood: Duration,
}

/// See the module's description.
pub struct Line {
    pub(super) terms: Terms,
    pub(super) budget: Budget,
    pub(super) presence: PresenceClock,
    pub(super) conditions: Conditions,
    pub(super) lanes: Vec<(ClassId, Lane)>,
    pub(super) shares: Shares,
    credits: Credits,
    /// Each lane's part of the entries as of the last tick.
    parts: Vec<(ClassId, f64)>,
    pub(super) last_tick: Mono,
    pub(super) polls: u32,
    seats_freed_per_second: f64,
    /// Calls per entry as the node learnt that calls.
    pub(super) learnt_elsewhere: f64,
    /// What the openings gave, and what those who gathered count as having been told at the last one.
    pub(super) places: Arc<Places>,
    pub(super) told_at_the_hour: Told,
}

impl Line {
    /// A line in which nobody stands yet.
    pub fn new(terms: Terms, now: Mono) -> Line {
        Line {
            terms,
            budget: Budget::empty(terms.rate, now),
            presence: PresenceClock::fresh(),
            conditions: Conditions::FINE,
            lanes: Vec::new(),
            shares: Shares::default(),
            credits: Credits::default(),
            parts: Vec::new(),
            last_tick: now,
            polls: 0,
            seats_freed_per_second: 0.0,
            learnt_elsewhere: 1.0,
            places: Arc::default(),
            told_at_the_hour: Told::Sixty,
        }
    }

    /// A line taken up again after a start: nobody is absent until everybody had time to come back.
    pub fn taken_up(terms: Terms, now: Mono) -> Line {
        Line { presence: PresenceClock::after_start(), ..Line::new(terms, now) }
    }

    /// Restores one ticket.
    pub fn restore(&mut self, class: ClassId, number: Number, state: State, asks: Asks, now: Now) {
        let told = if asks == Asks::ByHand { Told::Plain } else { Told::Sixty };
        let (clock, window) = (self.presence.now(), self.terms.claim_window);
        let lane = self.lane_mut(class);
        lane.restore(number, state, told, clock, now.unix.seconds());
        if state == State::Called {
            lane.give_turn(number, None, window);
        }
    }

    /// Restores that everybody up to `through` is done with.
    pub fn restore_done(&mut self, class: ClassId, through: Number, now: Now) {
        self.lane_mut(class).restore_done(through, now.unix.seconds());
    }

    /// Restores those of the numbers in `range` of which nothing was restored: it is not known whether they were drawn.
    pub fn restore_in_doubt(&mut self, class: ClassId, range: RangeInclusive<Number>, now: Now) {
        let clock = self.presence.now();
        self.lane_mut(class).restore_in_doubt(range, clock, now.unix.seconds());
    }

    /// The opening is held: those who gathered have the places that `places` says, and are all believed to be there.
    pub fn open(&mut self, lanes: &[Gathered], places: Arc<Places>, now: Now) {
        let gathered = lanes.iter().map(|lane| lane.count).sum();
        let (clock, told) = (self.presence.now(), told_at_the_hour(gathered));
        for (class, lane) in &mut self.lanes {
            if !lanes.iter().any(|gathered| gathered.class == *class) {
                lane.believe_waiting(lane.issued(), told, clock, now.unix.seconds());
            }
        }
        for Gathered { class, after, count } in lanes {
            self.lane_mut(*class).open(after + 1..=after + count, told, clock, now.unix.seconds());
        }
        self.places = places;
        self.told_at_the_hour = told;
    }

    /// Whether visitors gather for the opening.
    pub(super) fn gathers(&self) -> bool {
        self.conditions.standstill == Some(Standstill::BeforeOpening)
    }

    /// Takes over changed terms.
    pub fn set_terms(&mut self, terms: Terms) {
        if terms.rate != self.terms.rate {
            self.credits.forget();
        }
        self.budget.set_rate(terms.rate);
        self.terms = terms;
    }

    /// From now on the lanes share the admissions like this.
    pub fn set_shares(&mut self, shares: &Shares) {
        if self.shares != *shares {
            self.shares.clone_from(shares);
            self.note_parts();
        }
    }

    /// Whose credit a lane uses: its own class's, or the citizens' if that is gone.
    pub fn account(&self, class: ClassId) -> ClassId {
        self.shares.account(class)
    }

    pub(super) fn note_parts(&mut self) {
        let active = self.active();
        self.parts.clear();
        self.parts.extend(self.lanes.iter().map(|(class, _)| (*class, self.shares.part(*class, &active))));
    }

    /// Lanes whose hours it is not.
    pub fn closed(&self) -> impl Iterator<Item = ClassId> {
        self.shares.closed()
    }

    /// Whether it is the hour of the lane.
    pub fn is_in_its_hours(&self, class: ClassId) -> bool {
        self.shares.has_share(class)
    }

    /// The lanes that somebody stands in, holds a turn of, or stands at the gate of.
    pub fn active(&self) -> Vec<ClassId> {
        self.lanes.iter().filter(|(_, lane)| !lane.is_empty()).map(|(class, _)| *class).collect()
    }

    /// Notes a number just drawn; the visitor is present.
    pub fn join(&mut self, class: ClassId, number: Number, asks: Asks, now: Now) -> Standing {
        let told = if asks == Asks::ByHand { Told::Plain } else { Told::Two };
        let clock = self.presence.now();
        self.lane_mut(class).join(number, told, clock, now.unix.seconds());
        self.settle(class, number, asks, now)
    }

    /// A visitor asks where they stand. Asking is presence.
    pub fn poll(&mut self, class: ClassId, number: Number, asks: Asks, now: Now) -> (Standing, Heard) {
        let waits = matches!(self.state(class, number), State::Waiting | State::Absent);
        self.polls = self.polls.saturating_add(u32::from(waits));
        let heard = self.heard(class, number);
        let standing = self.settle(class, number, asks, now);
        (standing, heard)
    }

    /// Notes that the visitor is there and is told when to ask again.
    fn settle(&mut self, class: ClassId, number: Number, asks: Asks, now: Now) -> Standing {
        let clock = self.presence.now();
        // Heard first, so that the visitor counts; what they are told to do next is known only then.
        let told_so_far = self.lane_mut(class).tickets.told(number);
        self.lane_mut(class).tickets.hear(number, told_so_far, clock, now.unix.seconds());
        self.lane_mut(class).gate.seen(number, now.mono);
        let standing = self.standing(class, number, asks);
        if self.gathers() || self.has_ended() {
            // Polls are so far apart that none is expected. Before the hour nobody becomes absent, and after the end whoever
            // asks as told does not: the hour may be moved.
            let told = if asks == Asks::ByHand { Told::Plain } else { Told::Sixty };
            self.lane_mut(class).tickets.hear(number, told, clock, now.unix.seconds());
            return standing;
        }
        if let Standing::Waiting { told, near, .. } = standing {
            let told = if near == Near::Hold { Told::Held } else { told };
            self.lane_mut(class).tickets.hear(number, told, clock, now.unix.seconds());
            self.presence.told(told.interval());
        }
        standing
    }

    pub(super) fn state(&self, class: ClassId, number: Number) -> State {
        self.lane(class).map_or(State::Unissued, |lane| lane.tickets.state(number))
    }

    fn heard(&self, class: ClassId, number: Number) -> Heard {
        let Some(lane) = self.lane(class) else { return Heard::Again };
        match lane.tickets.state(number) {
            State::Absent if number <= lane.now_serving() => Heard::Returned,
            State::Absent | State::InDoubt => Heard::Back,
            _ => Heard::Again,
        }
    }

    /// Where a ticket is, without counting as presence.
    pub fn ticket_stage(&self, class: ClassId, number: Number) -> TicketStage {
        match self.state(class, number) {
            State::Waiting | State::Absent | State::InDoubt => TicketStage::Waiting,
            State::Called => TicketStage::Called,
            State::Entered => TicketStage::Entered,
            State::Left => TicketStage::Left,
            State::Unissued | State::Forgotten => TicketStage::Unknown,
        }
    }

    /// Where a ticket stands, without counting as presence.
    pub fn standing(&self, class: ClassId, number: Number, asks: Asks) -> Standing {
        let Some(lane) = self.lane(class) else { return Standing::Unknown };
        match self.ticket_stage(class, number) {
            TicketStage::Waiting => {
                let ahead = lane.tickets.present_before(number);
                let calls = lane.calls_before(number, ahead);
                let pace = self.pace(class);
                Standing::Waiting { ahead, told: told(calls, pace, asks), near: self.near(class, calls, pace, asks) }
            }
            TicketStage::Called => Standing::YourTurn {
                ahead_at_gate: lane.gate.holds(number).then(|| lane.gate.ahead(number)),
                knock: self.knock(class, number),
                left: lane.claim_left(number).unwrap_or_default(),
            },
            TicketStage::Entered => Standing::Entered,
            TicketStage::Left => Standing::Left,
            TicketStage::Unknown => Standing::Unknown,
        }
    }

    /// Whether a request of this called ticket would be held at the gate.
    pub fn knock(&self, class: ClassId, number: Number) -> Knock {
        let ahead = self.lane(class).map_or(0, |lane| lane.gate.ahead(number));
        if self.enters_within_gate_wait(class, ahead + 1) { Knock::Now } else { Knock::Later }
    }

    /// Whether so many of the lane can enter while a request is held.
    fn enters_within_gate_wait(&self, class: ClassId, count: u64) -> bool {
        let part = self.part(class);
        if part <= 0.0 {
            return false;
        }
        match self.standstill() {
            Some(Standstill::RoomFull) => {
                count as f64 <= self.entries_per_second(class) * self.terms.gate_wait.as_secs_f64()
            }
            Some(_) => false,
            // What is not there at once is handed out at the next tick.
            None => self
                .time_until(class, count, part)
                .is_some_and(|wait| wait.is_zero() || wait + TICK <= self.terms.gate_wait),
        }
    }

    /// How long until so many of the lane can enter. Where lanes share, each goes by its own credit, which grows while
    /// nobody of it asks to enter: sooner or later it is time to knock, however small the share.
    fn time_until(&self, class: ClassId, count: u64, part: f64) -> Option<Duration> {
        if part >= 1.0 {
            return self.budget.time_until(count, self.conditions.ramp);
        }
        let room = self.budget.time_until(1, self.conditions.ramp)?;
        let credit = self.credits.of(&self.shares, class) as f64 / self.budget.one() as f64;
        let (_, rate) = self.entry_rate();
        let own = (count as f64 - credit).max(0.0) / (rate * part);
        Some(room.max(Duration::try_from_secs_f64(own).ok()?))
    }

    /// Tickets at the gate without a request of their own for which it is time to knock.
    pub fn time_to_knock(&self, class: ClassId) -> Vec<Number> {
        let Some(lane) = self.lane(class) else { return Vec::new() };
        let near = lane.gate.in_order().enumerate();
        near.take_while(|(place, _)| self.enters_within_gate_wait(class, *place as u64 + 1))
            .filter(|(_, (_, open))| *open == 0)
            .map(|(_, (number, _))| number)
            .collect()
    }

    fn near(&self, class: ClassId, calls: u64, pace: f64, asks: Asks) -> Near {
        let stretch = ((pace * 5.0) as u64).clamp(16, 4096);
        let holds = asks == Asks::Scripted && calls < stretch && self.is_in_its_hours(class) && !self.gathers();
        if holds { Near::Hold } else { Near::AnswerNow }
    }

    /// How many present visitors of the lane are called per second while it moves.
    pub fn pace(&self, class: ClassId) -> f64 {
        let learnt = self.lane(class).map_or(1.0, |lane| lane.calling.learnt_calls_per_entry());
        let (_, rate) = self.entry_rate();
        (rate * self.part(class) * learnt.max(self.learnt_elsewhere)).max(0.001)
    }

    /// The lane's part of the entries, while those who are there want theirs.
    fn part(&self, class: ClassId) -> f64 {
        let noted = self.parts.iter().find(|(known, _)| *known == class).map(|(_, part)| *part);
        noted.unwrap_or_else(|| self.shares.part(class, &self.active()))
    }

    /// Calls per entry as learnt in the lane with the most, at least one.
    pub fn learnt_calls_per_entry(&self) -> f64 {
        self.lanes.iter().map(|(_, lane)| lane.calling.learnt_calls_per_entry()).fold(1.0, f64::max)
    }

    /// What of the lane can enter per second just now; zero outside its hours and during a standstill other than a full
    /// room.
    pub fn entries_per_second(&self, class: ClassId) -> f64 {
        match (self.entry_rate(), self.standstill()) {
            ((_, rate), None | Some(Standstill::RoomFull)) => rate * self.part(class),
            _ => 0.0,
        }
    }

    /// Why nobody enters just now.
    pub fn standstill(&self) -> Option<Standstill> {
        self.conditions.standstill.or((self.conditions.seats_free == Some(0)).then_some(Standstill::RoomFull))
    }

    pub(super) fn nobody_is_called(&self) -> bool {
        self.conditions.standstill.is_some() || self.has_ended()
    }

    /// Whether nobody is called any more.
    fn has_ended(&self) -> bool {
        self.conditions.calls == Calls::None
    }

    /// Thousandths of the rate in force while the portal recovers.
    pub fn ramp(&self) -> u32 {
        self.conditions.ramp
    }

    /// What can really enter per second, and whether anybody can just now.
    fn entry_rate(&self) -> (CanEnter, f64) {
        let rate = self.terms.rate.per_second() * f64::from(self.conditions.ramp) / f64::from(WHOLE);
        match self.standstill() {
            None if self.presence.line_seems_cut() => (CanEnter::Unheard, rate),
            None => (CanEnter::Now, rate),
            Some(Standstill::RoomFull) => (CanEnter::NotNow, rate.min(self.seats_freed_per_second)),
            Some(_) => (CanEnter::NotNow, rate),
        }
    }

    /// The lane of a class.
    pub fn lane(&self, class: ClassId) -> Option<&Lane> {
        self.lanes.iter().find(|(known, _)| *known == class).map(|(_, lane)| lane)
    }

    /// All lanes.
    pub fn lanes(&self) -> impl Iterator<Item = (ClassId, &Lane)> {
        self.lanes.iter().map(|(class, lane)| (*class, lane))
    }

    pub(super) fn lane_mut(&mut self, class: ClassId) -> &mut Lane {
        let index = self.lanes.iter().position(|(known, _)| *known == class).unwrap_or_else(|| {
            self.lanes.push((class, Lane::default()));
            self.lanes.len() - 1
        });
        &mut self.lanes[index].1
    }

    /// Ten times a second: clocks advance, the silent become absent, turns lapse, the next are called.
    pub fn tick(&mut self, now: Now, conditions: Conditions) -> Tick {
        let elapsed = now.mono.since(self.last_tick);
        self.last_tick = now.mono;
        self.note_conditions(now.mono, conditions, elapsed);
        self.advance_clocks(elapsed);
        self.note_parts();
        let (can_enter, rate) = self.entry_rate();
        let mut tick = Tick::default();
        let clock = self.presence.now();
        let forget_before = now.unix.minus(self.terms.ticket_lifetime).seconds();
        let (active, stands, window) = (self.active(), self.nobody_is_called(), self.terms.claim_window);
        let (gathers, places, told) = (self.gathers(), self.places.clone(), self.told_at_the_hour);
        for (class, lane) in &mut self.lanes {
            let mut moved = Moved::default();
            if !gathers {
                lane.note_others(|number| places.place(*class, number), told, clock, now.unix.seconds());
                lane.refresh_part(REFRESH_TICKS, clock, forget_before);
            }
            for number in lane.gate.lapse(now.mono) {
                if !lane.has_turn(number) {
                    lane.left(number);
                    tick.gone.push((*class, number));
                }
            }
            lane.lapse_claims(&mut moved);
            let (rate, in_hours) = (rate * self.shares.part(*class, &active), self.shares.has_share(*class));
            if !stands && in_hours {
                lane.prime_when_the_line_begins(rate);
                lane.calling.arrive_at_one_of(conditions.gates);
                lane.calling.advance(elapsed, lane.gate.len(), rate, can_enter);
                lane.call(clock, now.mono, window, &mut moved);
            }
            if !stands && in_hours {
                lane.catch_up();
            }
            lane.report(&mut moved);
            if in_hours {
                lane.note_whether_it_began();
            } else {
                lane.begins_anew();
            }
            tick.moved.push((*class, moved));
        }
        tick
    }

    pub(super) fn note_conditions(&mut self, now: Mono, conditions: Conditions, elapsed: Duration) {
        self.conditions = conditions;
        let share = (elapsed.as_secs_f64() / 30.0).min(1.0);
        let freed = f64::from(conditions.seats_freed) / elapsed.as_secs_f64().max(0.001);
        self.seats_freed_per_second += (freed - self.seats_freed_per_second) * share;
        match conditions.standstill {
            Some(_) => {
                self.budget.drain(now);
                self.credits.forget();
            }
            None => self.fill(now),
        }
    }

    fn fill(&mut self, now: Mono) {
        let earned = self.budget.fill(now, self.conditions.ramp);
        self.credits.earn(&self.shares, &self.active(), earned);
    }

    pub(super) fn advance_clocks(&mut self, elapsed: Duration) {
        let expected = self.lanes.iter().map(|(_, lane)| lane.tickets.expected_polls()).sum();
        self.presence.tick(elapsed, std::mem::take(&mut self.polls), expected);
        if self.standstill().is_some() {
            return;
        }
        for (class, lane) in &mut self.lanes {
            if self.shares.has_share(*class) {
                lane.advance_claim_clock(elapsed.min(10 * TICK));
            }
        }
    }

    /// A request under the ticket asks to enter. Whoever was called takes a place at the gate; others are refused.
    pub fn arrive(&mut self, class: ClassId, number: Number, now: Mono) -> Arrival {
        let lane = self.lane_mut(class);
        match lane.tickets.state(number) {
            State::Called => {
                lane.arrive(number, Came::Called, now);
                Arrival::AtGate
            }
            State::Entered => Arrival::Entered,
            _ => Arrival::NotCalled,
        }
    }

    /// Whether a newcomer may go straight through: nobody waits, and few newcomers stand at the gate.
    pub fn straight_through(&self, class: ClassId) -> StraightThrough {
        let (waiting, newcomers, at_gate) = self.lane(class).map_or((0, 0, 0), |lane| {
            let coming = lane.gate.coming();
            (lane.waiting(), lane.gate.straight() + coming, lane.gate.len() + coming)
        });
        let few = self.terms.rate.per_second() * self.part(class) * 0.5;
        let is_crowded = waiting > 0 || newcomers > 0 && newcomers as f64 >= few.max(1.0);
        if is_crowded || !self.enters_within_gate_wait(class, at_gate as u64 + 1) {
            return StraightThrough::No;
        }
        self.unless_standing_still()
    }

    /// The same for a newcomer who now draws a number: until [`Line::expect_no_more`] it counts among those at the gate, so
    /// that of many who come at one moment no more go straight through than of those who come one after the other.
    pub fn go_straight(&mut self, class: ClassId) -> StraightThrough {
        let verdict = self.straight_through(class);
        if verdict == StraightThrough::Yes {
            self.lane_mut(class).gate.expect();
        }
        verdict
    }

    /// A newcomer who went straight through has a number, or could not get one.
    pub fn expect_no_more(&mut self, class: ClassId) {
        self.lane_mut(class).gate.expect_no_more();
    }

    fn unless_standing_still(&self) -> StraightThrough {
        if self.standstill().is_some() { StraightThrough::No } else { StraightThrough::Yes }
    }

    /// A newcomer with a number just drawn stands at the gate without having waited.
    pub fn arrive_straight(&mut self, class: ClassId, number: Number, now: Now) {
        let clock = self.presence.now();
        let lane = self.lane_mut(class);
        lane.join(number, Told::Two, clock, now.unix.seconds());
        lane.tickets.set(number, State::Called);
        lane.arrive(number, Came::Straight, now.mono);
    }

    /// A newcomer's request ended without entering; the number is given up.
    pub fn give_up_straight(&mut self, class: ClassId, number: Number) {
        let lane = self.lane_mut(class);
        if !lane.has_turn(number) {
            lane.left(number);
        }
    }

    /// A request that stood at the gate ended without entering; so many others of the ticket still wait. The place is
    /// kept for a while.
    pub fn depart(&mut self, class: ClassId, number: Number, still_open: u32, now: Mono) {
        self.lane_mut(class).gate.close(number, still_open, now);
    }

    /// Lets the lowest ticket at the gate in, if the budget has an admission. The caller holds a slot towards the
    /// portal and a seat already: nothing may wait after this.
    pub fn enter_next(&mut self, now: Mono) -> Option<Entry> {
        let (class, number) = self.next_at_gate(now)?;
        if self.budget.spend() == Spent::Nothing {
            return None;
        }
        self.credits.spend(&self.shares, class, self.budget.one());
        let stood = self.lane_mut(class).entered(number).map_or(Duration::ZERO, |since| now.since(since));
        Some(Entry { class, number, stood })
    }

    /// Who would enter next: of the lanes with somebody at the gate the one whose class has most to its credit; where
    /// several lanes use one class's credit, the one whose next visitor has stood there longest.
    pub fn next_at_gate(&mut self, now: Mono) -> Option<(ClassId, Number)> {
        if self.standstill().is_some() {
            return None;
        }
        self.fill(now);
        let one = self.budget.one();
        let next = |(class, lane): &(ClassId, Lane)| {
            let (number, since) = lane.gate.next_since()?;
            let credit = self.credits.to_spend(&self.shares, *class, one)?;
            Some(((credit, Reverse(since)), (*class, number)))
        };
        self.lanes.iter().filter_map(next).max().map(|(_, next)| next)
    }

    /// The visitor had gone before the request was forwarded: the admission goes back, the turn stays.
    pub fn take_back(&mut self, class: ClassId, number: Number) {
        self.give_admission_back(class);
        let window = self.terms.claim_window;
        self.lane_mut(class).give_turn(number, None, window);
    }

    /// The visitor gives up the place.
    /// Returns whether there was one.
    pub fn leave(&mut self, class: ClassId, number: Number) -> bool {
        let lane = self.lane_mut(class);
        let has_place =
            matches!(lane.tickets.state(number), State::Waiting | State::Absent | State::InDoubt | State::Called);
        if has_place {
            lane.left(number);
        }
        has_place
    }

    /// Gives a turn more time.
    pub fn extend(&mut self, class: ClassId, number: Number) -> Extended {
        let window = self.terms.claim_window;
        self.lane_mut(class).extend_claim(number, window)
    }

    /// Whether a genuine ticket of this line that the counter has not reached may lift it: only a store that lost its
    /// last writes can explain it.
    pub fn may_lift(&self, class: ClassId, number: Number) -> bool {
        let issued = self.lane(class).map_or(0, |lane| lane.tickets.issued());
        number > issued && number - issued <= LIFT_AT_MOST
    }

    /// The counter was lifted to `number`: what is between may come back from the visitors who hold it.
    pub fn lifted(&mut self, class: ClassId, number: Number, now: Now) {
        self.lane_mut(class).tickets.raise_issued(number, now.unix.seconds());
    }

    /// A genuine ticket of this line that the line does not know takes its place again. Says whether it did: who is
    /// known or forgotten does not.
    pub fn reinstate(&mut self, class: ClassId, number: Number, asks: Asks, now: Now) -> bool {
        let unknown = self.lane_mut(class).tickets.state(number) == State::Unissued;
        if unknown {
            self.join(class, number, asks, now);
        }
        unknown
    }

    /// A genuine turn whose call was lost in a crash is honoured.
    pub fn honour_turn(&mut self, class: ClassId, number: Number) {
        let window = self.terms.claim_window;
        let lane = self.lane_mut(class);
        if matches!(lane.tickets.state(number), State::Waiting | State::Absent | State::InDoubt) {
            lane.give_turn(number, None, window);
        }
    }

    /// Puts an admission back that reached nobody.
    pub fn give_admission_back(&mut self, class: ClassId) {
        self.budget.give_back();
        self.credits.give_back(&self.shares, class, self.budget.one());
    }

    /// This node begins to let in: the last one may have spent what is there.
    pub(super) fn begin_with_nothing(&mut self, now: Mono) {
        self.budget.drain(now);
        self.credits.forget();
        self.lanes.iter_mut().for_each(|(_, lane)| lane.begins_anew());
    }
}

/// When to ask again: four times on the way to the front, at most every 2 s and at least every 60 s.
fn told(calls: u64, pace: f64, asks: Asks) -> Told {
    match asks {
        Asks::ByHand => Told::Plain,
        Asks::Scripted => Told::at_most(Duration::from_secs_f64(calls as f64 / pace / 4.0)),
    }
}

/// What becomes of a request that asks to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It stands at the gate.
    AtGate,
    /// The ticket went in already; its seat tells whether it still counts.
    Entered,
    /// Not called (yet, or the turn lapsed).
    NotCalled,
}

/// Whether a newcomer may go straight through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StraightThrough {
    /// Yes.
    Yes,
    /// There is a line, or a standstill.
    No,
}
