//! One lane of a room: who has which number, who is there, who has been called, who stands at the gate.
//!
//! The next called is always the lowest-numbered present, uncalled ticket, except that returns (tickets the calls have
//! already passed) take at most a quarter of the calls while others wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::calling::CallingLoop;
use super::gate::{Came, Gate};
use super::tickets::{Lowest, Number, Patience, PresenceTime, State, Tickets, Told};
use super::time::Mono;

/// Fresh calls that must go before one return: at most a quarter are returns.
const FRESH_PER_RETURN: u32 = 3;

/// How often a turn can be extended.
const EXTENSIONS: u8 = 10;

/// Numbers that may be between the counter and the line at once.
const ON_THEIR_WAY: u64 = 65_536;

/// Tickets in doubt that are called in one tick at most: after a crash there may be as many as [`ON_THEIR_WAY`].
const IN_DOUBT_PER_TICK: usize = 2048;

/// Numbers that moved in one tick, for the store and for those who wait for the news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Called now; each holds a turn.
    pub called: Vec<Number>,
    /// Their turn lapsed; they keep the number.
    pub lapsed: Vec<Number>,
    /// Passed over because they were absent. A large crowd is reported over several ticks.
    pub passed_over: Vec<Number>,
    /// Everybody up to this number is done with and need not be remembered any more; `None` when that has not changed.
    pub done_through: Option<Number>,
}

/// A turn's time, on the claim clock.
#[derive(Clone, Copy, Debug)]
struct Claim {
    ends: Duration,
    called_at: Option<Mono>,
    extended: u8,
}

/// See the module's description.
#[derive(Default)]
pub struct Lane {
    /// The records.
    pub(super) tickets: Tickets,
    /// Called visitors who ask to enter.
    pub(super) gate: Gate,
    /// How many to call.
    pub(super) calling: CallingLoop,
    /// How long turns have been running out: it stands still while nobody of the lane can enter.
    claim_clock: Duration,
    /// Whether the calls have begun since somebody waits.
    began: bool,
    claims: BTreeMap<Number, Claim>,
    claims_by_end: BTreeSet<(Duration, Number)>,
    now_serving: Number,
    return_credit: u32,
    passed_over: PassedOver,
    done_through: Number,
    returns: u64,
    /// Those who gathered for the opening and do not simply wait; what is known of them is noted in parts.
    others: VecDeque<(Number, State, Told)>,
}

/// Of those who gathered and do not simply wait, so many are noted in one tick.
const OTHERS_PER_TICK: usize = 4096;

/// Absent tickets that the calls have passed and that were not reported yet. Reporting a million at once would hold up
/// everybody else, so it is done in parts.
#[derive(Default)]
struct PassedOver {
    /// Everybody up to this number has been looked at.
    through: Number,
    /// Those below who came back and went away again.
    again: VecDeque<Number>,
}

impl PassedOver {
    /// Numbers looked at in one tick.
    const PART: usize = 8192;
    /// What is beyond is not reported: after a crash those count as present for a while, which costs nothing.
    const MOST_AGAIN: usize = 65_536;

    fn note_again(&mut self, number: Number) {
        if self.again.len() < PassedOver::MOST_AGAIN {
            self.again.push_back(number);
        }
    }

    /// The next part of those who are still absent.
    fn take_part(&mut self, tickets: &Tickets, now_serving: Number) -> Vec<Number> {
        let again = self.again.drain(..self.again.len().min(PassedOver::PART / 2));
        let first = self.through + 1;
        self.through = now_serving.min(self.through + PassedOver::PART as u64 / 2).max(self.through);
        again.chain(first..=self.through).filter(|number| tickets.state(*number) == State::Absent).collect()
    }
}

impl Lane {
    /// The highest number called so far; 0 when nobody was.
    pub fn now_serving(&self) -> Number {
        self.now_serving
    }

    /// How many are present and uncalled.
    pub fn waiting(&self) -> u64 {
        self.tickets.present()
    }

    /// How many calls come before the ticket's, when `ahead` present visitors stand before it: returns take turns with
    /// the others.
    pub fn calls_before(&self, number: Number, ahead: u64) -> u64 {
        let per_return = u64::from(FRESH_PER_RETURN);
        if number <= self.now_serving {
            let fresh = self.tickets.present().saturating_sub(self.returns);
            ahead + fresh.min(ahead * per_return)
        } else {
            let fresh = ahead.saturating_sub(self.returns);
            fresh + self.returns.min(fresh / per_return + 1)
        }
    }

    /// Where a ticket stands.
    pub fn state(&self, number: Number) -> State {
        self.tickets.state(number)
    }

    /// When its visitor was told to ask again.
    pub fn told(&self, number: Number) -> Told {
        self.tickets.told(number)
    }

    /// Everybody up to this number is done with and forgotten.
    pub fn done_through(&self) -> Number {
        self.tickets.done_through()
    }

    /// How many went away uncalled so far.
    pub fn went_away(&self) -> u64 {
        self.tickets.went_away()
    }

    /// The highest number drawn.
    pub fn issued(&self) -> Number {
        self.tickets.issued()
    }

    /// How many stand at the gate before the ticket.
    pub fn ahead_at_gate(&self, number: Number) -> u64 {
        self.gate.ahead(number)
    }

    /// How many stand at the gate.
    pub fn at_gate(&self) -> usize {
        self.gate.len()
    }

    /// How many hold a turn that they have not used.
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Who holds a turn that is not used yet.
    pub fn turns(&self) -> impl Iterator<Item = Number> + '_ {
        self.claims.keys().copied()
    }

    /// Whether nobody is there, holds a turn or stands at the gate.
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.claims.is_empty() && self.gate.is_empty()
    }

    /// The gate is filled at once when a line begins, or its hours do.
    pub(super) fn prime_when_the_line_begins(&mut self, rate: f64) {
        if self.waiting() > 0 && !self.began {
            self.calling.prime(rate);
        }
    }

    /// Notes at the end of a tick whether there is a line.
    pub(super) fn note_whether_it_began(&mut self) {
        self.began = self.waiting() > 0 || self.claims() > 0;
    }

    /// What comes is the beginning of a line: the lane's hours are over, or another node called so far.
    pub(super) fn begins_anew(&mut self) {
        self.began = false;
    }

    /// Turns run out for so long.
    pub(super) fn advance_claim_clock(&mut self, elapsed: Duration) {
        self.claim_clock += elapsed;
    }

    /// Looks through the next part of the line for visitors who stayed silent, and forgets who is done with.
    pub(super) fn refresh_part(&mut self, parts: usize, clock: PresenceTime, forget_before: u32) {
        let (now_serving, passed_over) = (self.now_serving, &mut self.passed_over);
        self.tickets.refresh_part(parts, clock, forget_before, &mut |number| {
            if number <= now_serving {
                passed_over.note_again(number);
            }
        });
    }

    /// Calls up to what is due, in order.
    pub(super) fn call(&mut self, clock: PresenceTime, now: Mono, claim_window: Duration, moved: &mut Moved) {
        let mut patience = Patience::of_a_tick();
        let mut in_doubt = IN_DOUBT_PER_TICK;
        loop {
            let next = self.next_to_call(clock, &mut patience);
            let limit = match next {
                Lowest::Ticket(number) => number,
                Lowest::Nobody => Number::MAX,
                Lowest::NotFoundYet => break,
            };
            while let Some(number) = self.in_doubt_below(limit).filter(|_| in_doubt > 0) {
                in_doubt -= 1;
                self.give_turn(number, Some(now), claim_window);
                moved.called.push(number);
            }
            let Lowest::Ticket(next) = next else {
                self.calling.nobody_left();
                break;
            };
            if in_doubt == 0 || !self.calling.take() {
                break;
            }
            self.count_against_returns(next);
            self.give_turn(next, Some(now), claim_window);
            moved.called.push(next);
        }
        self.returns = self.tickets.present_before(self.now_serving + 1);
    }

    /// Nobody waits and nobody is on the way: the calls have caught up with the numbers drawn, straight-through ones
    /// included. Not while nobody could have been called: who was away meanwhile was not passed over.
    pub(super) fn catch_up(&mut self) {
        if self.waiting() == 0 && self.tickets.lowest_in_doubt().is_none() {
            self.now_serving = self.now_serving.max(self.tickets.issued());
        }
    }

    /// Says who was passed over and who is done with.
    pub(super) fn report(&mut self, moved: &mut Moved) {
        moved.passed_over = self.passed_over.take_part(&self.tickets, self.now_serving);
        let done_through = self.tickets.done_through();
        moved.done_through = (done_through > self.done_through).then_some(done_through);
        self.done_through = done_through;
    }

    fn next_to_call(&mut self, clock: PresenceTime, patience: &mut Patience) -> Lowest {
        let passed = self.now_serving;
        match self.lowest_present(1, clock, patience) {
            Lowest::Ticket(returned) if returned <= passed && self.return_credit < FRESH_PER_RETURN => {
                match self.lowest_present(passed + 1, clock, patience) {
                    Lowest::Nobody => Lowest::Ticket(returned),
                    fresh => fresh,
                }
            }
            lowest => lowest,
        }
    }

    fn lowest_present(&mut self, from: Number, clock: PresenceTime, patience: &mut Patience) -> Lowest {
        let (now_serving, passed_over) = (self.now_serving, &mut self.passed_over);
        self.tickets.lowest_present(from, clock, patience, &mut |number| {
            if number <= now_serving {
                passed_over.note_again(number);
            }
        })
    }

    fn count_against_returns(&mut self, called: Number) {
        self.return_credit = if called <= self.now_serving {
            self.return_credit.saturating_sub(FRESH_PER_RETURN)
        } else {
            (self.return_credit + 1).min(FRESH_PER_RETURN)
        };
    }

    /// Tickets drawn in the last moments before a crash may or may not exist; they are called free of charge when
    /// their number is reached, so that nobody who holds one is overtaken.
    fn in_doubt_below(&self, limit: Number) -> Option<Number> {
        self.tickets.lowest_in_doubt().filter(|number| *number < limit)
    }

    /// Gives the ticket a turn that is kept so long.
    pub(super) fn give_turn(&mut self, number: Number, called_at: Option<Mono>, claim_window: Duration) {
        let ends = self.claim_clock + claim_window;
        self.tickets.set(number, State::Called);
        self.now_serving = self.now_serving.max(number);
        self.claims.insert(number, Claim { ends, called_at, extended: 0 });
        self.claims_by_end.insert((ends, number));
    }

    /// Whether the ticket holds a turn that it was called to.
    pub(super) fn has_turn(&self, number: Number) -> bool {
        self.claims.contains_key(&number)
    }

    /// How much is left of the ticket's turn.
    pub(super) fn claim_left(&self, number: Number) -> Option<Duration> {
        self.claims.get(&number).map(|claim| claim.ends.saturating_sub(self.claim_clock))
    }

    /// Gives the turn its whole window again, ten times at most.
    pub(super) fn extend_claim(&mut self, number: Number, claim_window: Duration) -> Extended {
        let ends = self.claim_clock + claim_window;
        let Some(claim) = self.claims.get_mut(&number) else { return Extended::NoTurn };
        if claim.extended >= EXTENSIONS {
            return Extended::TooOften;
        }
        claim.extended += 1;
        self.claims_by_end.remove(&(claim.ends, number));
        claim.ends = ends;
        self.claims_by_end.insert((ends, number));
        Extended::Yes
    }

    /// Ends the turns whose time is over, except of those who stand at the gate.
    pub(super) fn lapse_claims(&mut self, moved: &mut Moved) {
        let claim_clock = self.claim_clock;
        while let Some((ends, number)) = self.claims_by_end.first().copied() {
            if ends > claim_clock {
                break;
            }
            self.claims_by_end.pop_first();
            if self.gate.holds(number) {
                let later = claim_clock + super::gate::KEPT;
                self.claims_by_end.insert((later, number));
                if let Some(claim) = self.claims.get_mut(&number) {
                    claim.ends = later;
                }
                continue;
            }
            self.claims.remove(&number);
            self.tickets.set(number, State::Absent);
            moved.lapsed.push(number);
        }
    }

    /// Ends one turn that was not used.
    pub(super) fn lapse(&mut self, number: Number) {
        self.end(number, State::Absent);
    }

    /// A request under a turn arrives at the gate.
    pub(super) fn arrive(&mut self, number: Number, came: Came, now: Mono) {
        if came == Came::Called {
            self.note_arrival(number, now);
        }
        self.gate.open(number, came, now);
    }

    /// Measures how long those called take to come to the gate.
    pub(super) fn note_arrival(&mut self, number: Number, now: Mono) {
        if !self.gate.holds(number)
            && let Some(called_at) = self.claims.get_mut(&number).and_then(|claim| claim.called_at.take())
        {
            self.calling.arrived(now.since(called_at));
        }
    }

    /// The ticket went in.
    pub(super) fn entered(&mut self, number: Number) -> Option<Mono> {
        self.end(number, State::Entered)
    }

    /// The ticket gave up its place.
    pub(super) fn left(&mut self, number: Number) {
        self.end(number, State::Left);
    }

    fn end(&mut self, number: Number, state: State) -> Option<Mono> {
        if let Some(claim) = self.claims.remove(&number) {
            self.claims_by_end.remove(&(claim.ends, number));
        }
        self.tickets.set(number, state);
        self.gate.remove(number)
    }

    /// Notes a number just drawn. Numbers below it that are not noted yet are on their way from the counter: they are
    /// in doubt until then, so that nobody is called past them.
    pub(super) fn join(&mut self, number: Number, told: Told, clock: PresenceTime, unix_seconds: u32) {
        let issued = self.tickets.issued();
        if number > issued + 1 && number - issued <= ON_THEIR_WAY {
            self.restore_in_doubt(issued + 1..=number - 1, clock, unix_seconds);
        }
        match self.tickets.state(number) {
            State::Called | State::Entered | State::Left => {}
            _ => self.tickets.put(number, State::Waiting, told, clock, unix_seconds),
        }
    }

    /// The opening is held: the places of `range` are given, and everybody is believed to be there.
    pub(super) fn open(&mut self, range: RangeInclusive<Number>, told: Told, clock: PresenceTime, unix_seconds: u32) {
        self.believe_waiting(*range.start() - 1, told, clock, unix_seconds);
        self.take_back_calls(&range, told, clock, unix_seconds);
        self.others = self.tickets.believe_present(range, told, clock, unix_seconds).into();
        self.begins_anew();
    }

    /// A turn or a stand at the gate belongs to a place, and those of `range` are about to be given to others.
    fn take_back_calls(&mut self, range: &RangeInclusive<Number>, told: Told, clock: PresenceTime, unix_seconds: u32) {
        for number in self.claims.range(range.clone()).map(|(number, _)| *number).collect::<Vec<_>>() {
            self.end(number, State::Absent);
            self.tickets.put(number, State::Waiting, told, clock, unix_seconds);
        }
        let at_gate = self.gate.in_order().map(|(number, _)| number).filter(|number| range.contains(number));
        for number in at_gate.collect::<Vec<_>>() {
            self.gate.remove(number);
        }
        let before = range.start().saturating_sub(1).max(self.tickets.done_through());
        self.now_serving = self.now_serving.min(before);
        self.passed_over.through = self.passed_over.through.min(before);
    }

    /// Those up to `through` who waited before anybody gathered, and asked as seldom as those, are believed to be there.
    pub(super) fn believe_waiting(&mut self, through: Number, told: Told, clock: PresenceTime, unix_seconds: u32) {
        self.tickets.believe_waiting(self.tickets.done_through() + 1..=through, told, clock, unix_seconds);
    }

    /// Notes a part of what is known of those who gathered; `place` says where their numbers stand now.
    pub(super) fn note_others(
        &mut self,
        place: impl Fn(Number) -> Number,
        told: Told,
        clock: PresenceTime,
        unix_seconds: u32,
    ) {
        let part = self.others.drain(..self.others.len().min(OTHERS_PER_TICK));
        for (number, state, before) in part.collect::<Vec<_>>() {
            let place = place(number);
            match state {
                State::Left => self.left(place),
                // Whoever was heard of meanwhile is there.
                _ if self.tickets.told(place) != told || self.tickets.state(place) != State::Waiting => {}
                State::Waiting | State::Absent => {
                    self.tickets.put(place, State::Waiting, before, clock, unix_seconds);
                }
                other => self.tickets.set(place, other),
            }
        }
    }

    /// Restores a ticket from the store.
    pub(super) fn restore(&mut self, number: Number, state: State, told: Told, clock: PresenceTime, unix_seconds: u32) {
        self.tickets.put(number, state, told, clock, unix_seconds);
        if matches!(state, State::Called | State::Entered) {
            self.now_serving = self.now_serving.max(number);
        }
    }

    /// Everybody up to `through` was done with before a start.
    pub(super) fn restore_done(&mut self, through: Number, unix_seconds: u32) {
        self.tickets.forget_through(through, unix_seconds);
        self.done_through = self.tickets.done_through();
        self.passed_over.through = self.passed_over.through.max(through);
        self.now_serving = self.now_serving.max(self.tickets.done_through());
    }

    /// Restores those of the tickets `range` of which nothing is known: they may have been drawn just before a crash.
    pub(super) fn restore_in_doubt(&mut self, range: RangeInclusive<Number>, clock: PresenceTime, unix_seconds: u32) {
        for number in range {
            if self.tickets.state(number) == State::Unissued {
                self.tickets.put(number, State::InDoubt, Told::Sixty, clock, unix_seconds);
            }
        }
    }
}

/// Whether a turn got more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// It did.
    Yes,
    /// It was extended ten times already.
    TooOften,
    /// There is no such turn.
    NoTurn,
}
