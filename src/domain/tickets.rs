//! One small fixed-size record per ticket of a lane, and the sums that give everybody's position.
//!
//! Four bytes a ticket, in blocks that are allocated when reached and given back when everybody in them is done. Sums
//! per block and per group of blocks answer "how many present before number n?" without walking the line. They are
//! exact for every change this module is told of; visitors who silently stay away are found by a refresh in parts.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A ticket's number in its lane; the first is 1.
pub type Number = u64;

const BLOCK: u64 = 1024;
const GROUP: usize = 128;

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No such ticket was drawn here.
    Unissued,
    /// Drawn perhaps, just before a crash: below the durable mark, above what was durably recorded.
    InDoubt,
    /// Waits, and is believed to be there.
    Waiting,
    /// Waits, but has not been heard of for longer than it was told to.
    Absent,
    /// Holds a turn.
    Called,
    /// Went in.
    Entered,
    /// Gave up the place.
    Left,
    /// So long over that its record was given back: entered, left or expired.
    Forgotten,
}

/// When a visitor was told to ask again. Few values, so that they fit a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// 2 s
    Two,
    /// 4 s
    Four,
    /// 8 s
    Eight,
    /// 15 s
    Fifteen,
    /// 30 s
    Thirty,
    /// 60 s, the longest for a page with script.
    Sixty,
    /// The poll is held open for up to 20 s.
    Held,
    /// 15 minutes: a page without script, which the visitor updates by hand.
    Plain,
}

impl Told {
    const ALL: [Told; 8] =
        [Told::Two, Told::Four, Told::Eight, Told::Fifteen, Told::Thirty, Told::Sixty, Told::Held, Told::Plain];

    /// The longest of these intervals that is no longer than `span`, among those for pages with script.
    pub fn at_most(span: Duration) -> Told {
        let fits = |told: &&Told| told.interval() <= span;
        [Told::Sixty, Told::Thirty, Told::Fifteen, Told::Eight, Told::Four]
            .iter()
            .find(fits)
            .copied()
            .unwrap_or(Told::Two)
    }

    /// The interval.
    pub fn interval(self) -> Duration {
        Duration::from_secs(match self {
            Told::Two => 2,
            Told::Four => 4,
            Told::Eight => 8,
            Told::Fifteen => 15,
            Told::Thirty => 30,
            Told::Sixty => 60,
            Told::Held => 20,
            Told::Plain => 900,
        })
    }

    /// Polls expected per 7,200 s from a visitor who was told this.
    fn polls_per_two_hours(self) -> u32 {
        u32::try_from(7200 / self.interval().as_secs()).unwrap_or(0)
    }

    fn bits(self) -> u32 {
        self as u32
    }

    fn from_bits(bits: u32) -> Told {
        Told::ALL.get(bits as usize & 7).copied().unwrap_or(Told::Sixty)
    }
}

/// How much longer than told a visitor may stay silent: a background tab's timer fires once a minute.
pub const SLACK: Duration = Duration::from_secs(90);

/// The presence clock, in quarter seconds. It is not a clock of the machine's: see `presence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PresenceTime(pub u32);

impl PresenceTime {
    fn plus(self, span: Duration) -> PresenceTime {
        PresenceTime(self.0.wrapping_add(u32::try_from(span.as_millis() / 250).unwrap_or(u32::MAX)))
    }
}

/// `state (3 bits) | told (3 bits) | due (26 bits, quarter seconds of the presence clock)`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Record(u32);

const DUE_BITS: u32 = 26;
const DUE_MASK: u32 = (1 << DUE_BITS) - 1;
const STATE_SHIFT: u32 = DUE_BITS + 3;
const WAITING: u32 = 2;

impl Record {
    const UNISSUED: Record = Record(0);

    fn new(state: State, told: Told, due: PresenceTime) -> Record {
        let state = match state {
            State::Unissued => 0,
            State::InDoubt => 1,
            State::Waiting => WAITING,
            State::Absent => 3,
            State::Called => 4,
            State::Entered => 5,
            State::Left | State::Forgotten => 6,
        };
        Record(state << STATE_SHIFT | told.bits() << DUE_BITS | due.0 & DUE_MASK)
    }

    fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Unissued,
            1 => State::InDoubt,
            WAITING => State::Waiting,
            3 => State::Absent,
            4 => State::Called,
            5 => State::Entered,
            _ => State::Left,
        }
    }

    /// Without a branch, for counting many.
    fn is_waiting(self) -> bool {
        self.0 >> STATE_SHIFT == WAITING
    }

    fn told(self) -> Told {
        Told::from_bits(self.0 >> DUE_BITS)
    }

    fn with_state(self, state: State) -> Record {
        Record::new(state, self.told(), PresenceTime(self.0))
    }

    /// Whether the ticket is overdue. Only differences count, so that the clock may wrap (after 194 days).
    fn overdue(self, clock: PresenceTime) -> bool {
        let behind = clock.0.wrapping_sub(self.0) & DUE_MASK;
        behind != 0 && behind < 1 << (DUE_BITS - 1)
    }

    fn weight(self) -> u32 {
        if self.state() == State::Waiting { self.told().polls_per_two_hours() } else { 0 }
    }
}

struct Block {
    records: Records,
    present: u32,
    in_doubt: u32,
    weight: u32,
    last_heard: u32,
}

/// The records of a block, allocated when its first ticket is noted.
enum Records {
    NotReached,
    Held(Box<[Record; BLOCK as usize]>),
    GivenBack,
}

impl Block {
    fn reached_at(unix_seconds: u32) -> Block {
        Block { records: Records::NotReached, present: 0, in_doubt: 0, weight: 0, last_heard: unix_seconds }
    }

    fn records(&self) -> Option<&[Record; BLOCK as usize]> {
        if let Records::Held(records) = &self.records { Some(records) } else { None }
    }
}

#[derive(Clone, Copy, Default)]
struct Sum {
    present: u64,
    in_doubt: u64,
    weight: u64,
}

/// How the sums change with one record or several.
#[derive(Clone, Copy, Default)]
struct Change {
    present: i32,
    in_doubt: i32,
    weight: i32,
}

impl Change {
    fn between(old: Record, new: Record) -> Change {
        let is = |record: Record, state| i32::from(record.state() == state);
        Change {
            present: is(new, State::Waiting) - is(old, State::Waiting),
            in_doubt: is(new, State::InDoubt) - is(old, State::InDoubt),
            weight: new.weight().cast_signed() - old.weight().cast_signed(),
        }
    }
}

/// What a search for the lowest present ticket comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowest {
    /// This one.
    Ticket(Number),
    /// Nobody is present.
    Nobody,
    /// So many were found silent that the search goes on at the next tick.
    NotFoundYet,
}

/// How many blocks of silent visitors may still be cleared in this tick: a bound on the tick's work, far above what an
/// ordinary day needs.
#[derive(Clone, Copy, Debug)]
pub struct Patience(usize);

impl Patience {
    /// A tick's worth: a million visitors.
    pub fn of_a_tick() -> Patience {
        Patience(1024)
    }
}

/// The records of one lane.
#[derive(Default)]
pub struct Tickets {
    blocks: Vec<Block>,
    groups: Vec<Sum>,
    total: Sum,
    issued: Number,
    refreshed: usize,
    went_away: u64,
    /// Blocks given back from the first on, without a gap.
    done: usize,
}

impl Tickets {
    /// The highest number drawn.
    pub fn issued(&self) -> Number {
        self.issued
    }

    /// How many are present and uncalled.
    pub fn present(&self) -> u64 {
        self.total.present
    }

    /// How many went away uncalled so far.
    pub fn went_away(&self) -> u64 {
        self.went_away
    }

    /// Polls per second that those present were told to send.
    pub fn expected_polls(&self) -> f64 {
        self.total.weight as f64 / 7200.0
    }

    /// Where the ticket stands.
    pub fn state(&self, number: Number) -> State {
        let Some((block, offset)) = place(number).filter(|_| number <= self.issued) else { return State::Unissued };
        match self.blocks.get(block).map(|block| &block.records) {
            Some(Records::Held(records)) => records.get(offset).map_or(State::Unissued, |record| record.state()),
            Some(Records::GivenBack) => State::Forgotten,
            Some(Records::NotReached) | None => State::Unissued,
        }
    }

    /// What the visitor was told last.
    pub fn told(&self, number: Number) -> Told {
        self.record(number).map_or(Told::Sixty, Record::told)
    }

    /// Notes a ticket just drawn or restored.
    pub fn put(&mut self, number: Number, state: State, told: Told, clock: PresenceTime, unix_seconds: u32) {
        self.raise_issued(number, unix_seconds);
        self.write(number, Record::new(state, told, clock.plus(told.interval() + SLACK)));
        self.heard(number, unix_seconds);
    }

    /// Raises the highest number without saying anything of the tickets between.
    pub fn raise_issued(&mut self, number: Number, unix_seconds: u32) {
        self.issued = self.issued.max(number);
        let blocks = place(number).map_or(0, |(block, _)| block + 1);
        if self.blocks.len() < blocks {
            self.blocks.resize_with(blocks, || Block::reached_at(unix_seconds));
            self.groups.resize(blocks.div_ceil(GROUP), Sum::default());
        }
    }

    /// Everybody up to `through` was done with before a start: whole blocks of them are never allocated.
    pub fn forget_through(&mut self, through: Number, unix_seconds: u32) {
        self.raise_issued(through, unix_seconds);
        let whole = usize::try_from(through / BLOCK).unwrap_or(usize::MAX);
        for block in self.blocks.iter_mut().take(whole).filter(|block| block.records().is_none()) {
            block.records = Records::GivenBack;
        }
        self.count_done();
    }

    /// Everybody up to this number is done with and forgotten.
    pub fn done_through(&self) -> Number {
        self.done as u64 * BLOCK
    }

    /// Notes that the visitor asked and was told when to ask again. Who waits is present from now on.
    pub fn hear(&mut self, number: Number, told: Told, clock: PresenceTime, unix_seconds: u32) {
        let state = match self.state(number) {
            State::Absent | State::InDoubt => State::Waiting,
            known @ (State::Waiting | State::Called) => known,
            State::Unissued | State::Entered | State::Left | State::Forgotten => return,
        };
        self.write(number, Record::new(state, told, clock.plus(told.interval() + SLACK)));
        self.heard(number, unix_seconds);
    }

    /// Everybody in `range` is believed to be there from now on, and to have been told this. Returns what was known of
    /// those who did not wait, or wait by hand and are told otherwise.
    pub fn believe_present(
        &mut self,
        range: RangeInclusive<Number>,
        told: Told,
        clock: PresenceTime,
        unix_seconds: u32,
    ) -> Vec<(Number, State, Told)> {
        let mut others = Vec::new();
        for number in range {
            let (state, before) = (self.state(number), self.told(number));
            if !matches!(state, State::Waiting | State::Absent) || before == Told::Plain && told != Told::Plain {
                others.push((number, state, before));
            }
            self.put(number, State::Waiting, told, clock, unix_seconds);
        }
        others
    }

    /// Whoever of `range` waits is believed to be there from now on, and to have been told this.
    pub fn believe_waiting(
        &mut self,
        range: RangeInclusive<Number>,
        told: Told,
        clock: PresenceTime,
        unix_seconds: u32,
    ) {
        for number in range {
            if self.state(number) == State::Waiting && self.told(number) != Told::Plain {
                self.hear(number, told, clock, unix_seconds);
            }
        }
    }

    /// Moves the ticket to another state.
    pub fn set(&mut self, number: Number, state: State) {
        if let Some(record) = self.record(number).filter(|_| number <= self.issued) {
            self.went_away += u64::from(record.state() == State::Waiting && state == State::Left);
            self.write(number, record.with_state(state));
        }
    }

    /// How many present, uncalled tickets have a lower number.
    pub fn present_before(&self, number: Number) -> u64 {
        let number = number.min(self.issued + 1);
        let Some((block, offset)) = place(number) else { return 0 };
        let group = block / GROUP;
        let groups: u64 = self.groups.iter().take(group).map(|sum| sum.present).sum();
        let blocks: u64 =
            self.blocks.iter().take(block).skip(group * GROUP).map(|block| u64::from(block.present)).sum();
        let before = self.blocks.get(block).and_then(Block::records).and_then(|records| records.get(..offset));
        let waiting: u32 = before.unwrap_or_default().iter().map(|record| u32::from(record.is_waiting())).sum();
        groups + blocks + u64::from(waiting)
    }

    /// The lowest ticket in doubt.
    pub fn lowest_in_doubt(&self) -> Option<Number> {
        if self.total.in_doubt == 0 {
            return None;
        }
        let first = self.groups.iter().position(|sum| sum.in_doubt > 0)? * GROUP;
        let block = first + self.blocks.iter().skip(first).position(|block| block.in_doubt > 0)?;
        self.first_of(State::InDoubt, block, 0)
    }

    /// The lowest present, uncalled ticket from `from` on. Blocks that are looked at are refreshed first, and those
    /// found silent for too long are reported to `absent`; `patience` is used up by blocks in which all were silent.
    pub fn lowest_present(
        &mut self,
        from: Number,
        clock: PresenceTime,
        patience: &mut Patience,
        absent: &mut dyn FnMut(Number),
    ) -> Lowest {
        let Some((mut block, mut offset)) = place(from.max(1)) else { return Lowest::Nobody };
        while let Some(present) = self.blocks.get(block).map(|block| block.present) {
            let nobody_in_group = self.groups.get(block / GROUP).is_none_or(|sum| sum.present == 0);
            if nobody_in_group {
                block = (block / GROUP + 1) * GROUP;
                offset = 0;
                continue;
            }
            if present > 0 {
                if patience.0 == 0 {
                    return Lowest::NotFoundYet;
                }
                self.refresh_block(block, clock, absent);
                if let Some(found) = self.first_of(State::Waiting, block, offset) {
                    return Lowest::Ticket(found);
                }
                patience.0 -= usize::from(self.is_empty(block));
            }
            block += 1;
            offset = 0;
        }
        Lowest::Nobody
    }

    fn is_empty(&self, block: usize) -> bool {
        self.blocks.get(block).is_none_or(|block| block.present == 0)
    }

    /// Looks through the next part of the line for visitors who stayed silent for too long, and gives back blocks in
    /// which everybody is done. `parts` calls go once through the whole line.
    pub fn refresh_part(
        &mut self,
        parts: usize,
        clock: PresenceTime,
        forget_before: u32,
        absent: &mut dyn FnMut(Number),
    ) {
        let share = self.blocks.len().div_ceil(parts.max(1));
        for _ in 0..share {
            self.refreshed = if self.refreshed + 1 < self.blocks.len() { self.refreshed + 1 } else { 0 };
            self.refresh_block(self.refreshed, clock, absent);
            self.give_back(self.refreshed, forget_before);
        }
        self.count_done();
    }

    fn first_of(&self, state: State, block: usize, offset: usize) -> Option<Number> {
        let records = self.blocks.get(block)?.records()?;
        let within = records.iter().skip(offset).position(|record| record.state() == state)?;
        Some(block as u64 * BLOCK + (offset + within) as u64 + 1)
    }

    fn refresh_block(&mut self, index: usize, clock: PresenceTime, absent: &mut dyn FnMut(Number)) {
        let Some(block) = self.blocks.get_mut(index) else { return };
        if block.present == 0 {
            return;
        }
        let Records::Held(records) = &mut block.records else { return };
        let mut gone = Change::default();
        for (offset, record) in records.iter_mut().enumerate() {
            if record.state() == State::Waiting && record.overdue(clock) {
                gone.present -= 1;
                gone.weight -= record.weight().cast_signed();
                *record = record.with_state(State::Absent);
                absent(index as u64 * BLOCK + offset as u64 + 1);
            }
        }
        if gone.present != 0 {
            self.went_away += u64::from(gone.present.unsigned_abs());
            self.add(index, gone);
        }
    }

    /// Gives the block's memory back when everybody in it entered, left, or has been silent since `forget_before`.
    fn give_back(&mut self, index: usize, forget_before: u32) {
        let full = (index as u64 + 1) * BLOCK <= self.issued;
        let Some(block) = self.blocks.get_mut(index) else { return };
        if !full || block.present > 0 || block.in_doubt > 0 {
            return;
        }
        let quiet = block.last_heard < forget_before;
        let done = |record: &Record| match record.state() {
            State::Entered | State::Left | State::Forgotten => true,
            State::Absent | State::Unissued => quiet,
            State::InDoubt | State::Waiting | State::Called => false,
        };
        if block.records().map_or(quiet, |records| records.iter().all(done)) {
            block.records = Records::GivenBack;
        }
    }

    fn count_done(&mut self) {
        let given_back = |block: &&Block| matches!(block.records, Records::GivenBack);
        self.done += self.blocks.iter().skip(self.done).take_while(given_back).count();
    }

    fn record(&self, number: Number) -> Option<Record> {
        let (block, offset) = place(number)?;
        self.blocks.get(block)?.records()?.get(offset).copied()
    }

    fn write(&mut self, number: Number, new: Record) {
        let Some((index, offset)) = place(number) else { return };
        let Some(block) = self.blocks.get_mut(index) else { return };
        if matches!(block.records, Records::NotReached) {
            block.records = Records::Held(Box::new([Record::UNISSUED; BLOCK as usize]));
        }
        let Records::Held(records) = &mut block.records else { return };
        let Some(slot) = records.get_mut(offset) else { return };
        let old = std::mem::replace(slot, new);
        self.add(index, Change::between(old, new));
    }

    fn heard(&mut self, number: Number, unix_seconds: u32) {
        if let Some(block) = place(number).and_then(|(index, _)| self.blocks.get_mut(index)) {
            block.last_heard = unix_seconds;
        }
    }

    fn add(&mut self, index: usize, change: Change) {
        if let Some(block) = self.blocks.get_mut(index) {
            block.present = block.present.saturating_add_signed(change.present);
            block.in_doubt = block.in_doubt.saturating_add_signed(change.in_doubt);
            block.weight = block.weight.saturating_add_signed(change.weight);
        }
        let sums = self.groups.get_mut(index / GROUP).into_iter().chain(std::iter::once(&mut self.total));
        for sum in sums {
            sum.present = sum.present.saturating_add_signed(change.present.into());
            sum.in_doubt = sum.in_doubt.saturating_add_signed(change.in_doubt.into());
            sum.weight = sum.weight.saturating_add_signed(change.weight.into());
        }
    }
}

/// Block and offset of a number; `None` for zero, which is no number.
fn place(number: Number) -> Option<(usize, usize)> {
    let index = number.checked_sub(1)?;
    Some((usize::try_from(index / BLOCK).ok()?, usize::try_from(index % BLOCK).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: PresenceTime = PresenceTime(0);

    fn line_of(count: u64) -> Tickets {
        let mut tickets = Tickets::default();
        for number in 1..=count {
            tickets.put(number, State::Waiting, Told::Sixty, T0, 0);
        }
        tickets
    }

    fn later(seconds: u64) -> PresenceTime {
        T0.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn who_stays_silent_is_absent_only_after_the_told_interval_and_the_slack() {
        let mut tickets = line_of(3);
        let mut gone = Vec::new();
        tickets.refresh_part(1, later(150), 0, &mut |number| gone.push(number));
        assert_eq!((tickets.present(), gone.len()), (3, 0));
        tickets.hear(2, Told::Sixty, later(150), 0);
        tickets.refresh_part(1, later(151), 0, &mut |number| gone.push(number));
        assert_eq!((tickets.present(), gone), (1, vec![1, 3]));
        assert_eq!(tickets.state(3), State::Absent);
    }

    #[test]
    fn the_clock_may_wrap() {
        let almost = PresenceTime(DUE_MASK - 10);
        let mut tickets = Tickets::default();
        tickets.put(1, State::Waiting, Told::Two, almost, 0);
        tickets.refresh_part(1, almost.plus(Duration::from_secs(92)), 0, &mut |_| {});
        assert_eq!(tickets.present(), 1);
        tickets.refresh_part(1, almost.plus(Duration::from_secs(93)), 0, &mut |_| {});
        assert_eq!(tickets.present(), 0);
    }

    #[test]
    fn memory_is_given_back_when_everybody_is_done() {
        let mut tickets = line_of(3000);
        for number in 1..=2500 {
            tickets.set(number, State::Entered);
        }
        for _ in 0..3 {
            tickets.refresh_part(1, T0, 0, &mut |_| {});
        }
        assert_eq!(tickets.state(1024), State::Forgotten);
        assert_eq!(tickets.state(2048), State::Forgotten);
        assert_eq!(tickets.state(2049), State::Entered);
        assert_eq!(tickets.present_before(3000), 499);
    }

    #[test]
    fn an_absent_ticket_is_remembered_until_it_expired() {
        let mut tickets = line_of(1024);
        for _ in 0..2 {
            tickets.refresh_part(1, later(1000), 0, &mut |_| {});
        }
        assert_eq!(tickets.state(7), State::Absent);
        tickets.refresh_part(1, later(1000), 1, &mut |_| {});
        assert_eq!(tickets.state(7), State::Forgotten);
    }

    #[test]
    fn what_is_given_back_without_a_gap_is_done_for_good() {
        let mut tickets = line_of(5000);
        for number in (1..=1024).chain(2049..=3072) {
            tickets.set(number, State::Entered);
        }
        tickets.refresh_part(1, T0, 0, &mut |_| {});
        tickets.refresh_part(1, T0, 0, &mut |_| {});
        assert_eq!(tickets.done_through(), 1024);
        (1025..=2048).for_each(|number| tickets.set(number, State::Left));
        tickets.refresh_part(1, T0, 0, &mut |_| {});
        tickets.refresh_part(1, T0, 0, &mut |_| {});
        assert_eq!(tickets.done_through(), 3072);
    }

    #[test]
    fn what_was_forgotten_before_a_start_takes_no_memory() {
        let mut tickets = Tickets::default();
        tickets.forget_through(10_000_000, 7);
        let held = tickets.blocks.iter().filter(|block| block.records().is_some()).count();
        assert_eq!((held, tickets.state(9_000_000)), (0, State::Forgotten));
        assert_eq!(tickets.done_through(), 10_000_000 / BLOCK * BLOCK);
    }

    #[test]
    fn numbers_between_are_unissued_until_somebody_shows_one_or_they_expire() {
        let mut tickets = line_of(10);
        tickets.raise_issued(5000, 100);
        assert_eq!((tickets.state(10), tickets.state(3000)), (State::Waiting, State::Unissued));
        tickets.put(3000, State::Waiting, Told::Two, T0, 100);
        assert_eq!((tickets.state(3000), tickets.state(2048)), (State::Waiting, State::Unissued));
        (0..5).for_each(|_| tickets.refresh_part(1, T0, 101, &mut |_| {}));
        assert_eq!((tickets.state(2048), tickets.state(3000)), (State::Forgotten, State::Waiting));
    }

    #[test]
    fn a_search_through_a_crowd_of_ghosts_is_done_in_parts() {
        let mut tickets = line_of(3000);
        tickets.put(3001, State::Waiting, Told::Plain, T0, 0);
        let mut gone = 0;
        let first = tickets.lowest_present(1, later(500), &mut Patience(2), &mut |_| gone += 1);
        assert_eq!((first, gone), (Lowest::NotFoundYet, 2048));
        let next = tickets.lowest_present(1, later(500), &mut Patience(2), &mut |_| gone += 1);
        assert_eq!((next, gone), (Lowest::Ticket(3001), 3000));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, State),
        Hear(u64),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let states =
            prop::sample::select(vec![State::Called, State::Entered, State::Left, State::Waiting, State::InDoubt]);
        let step = prop_oneof![
            (1u64..5000, states).prop_map(|(number, state)| Step::Set(number, state)),
            (1u64..5000).prop_map(Step::Hear),
            (1u64..100).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn sums_agree_with_counting(steps in steps(), count in 1u64..5000) {
            let mut tickets = line_of(count);
            let mut clock = T0;
            for step in steps {
                match step {
                    Step::Set(number, state) => tickets.set(number, state),
                    Step::Hear(number) => tickets.hear(number, Told::Four, clock, 0),
                    Step::Wait(seconds) => {
                        clock = clock.plus(Duration::from_secs(seconds));
                        tickets.refresh_part(3, clock, 0, &mut |_| {});
                    }
                }
            }
            let waiting: Vec<u64> = (1..=count).filter(|number| tickets.state(*number) == State::Waiting).collect();
            prop_assert_eq!(tickets.present(), waiting.len() as u64);
            for number in [1, 2, count / 2, count, count + 1] {
                let before = waiting.iter().filter(|waiting| **waiting < number).count() as u64;
                prop_assert_eq!(tickets.present_before(number), before);
            }
            let first = tickets.lowest_present(1, clock, &mut Patience::of_a_tick(), &mut |_| {});
            let found = (1..=count).find(|number| tickets.state(*number) == State::Waiting);
            prop_assert_eq!(first, found.map_or(Lowest::Nobody, Lowest::Ticket));
            let in_doubt = (1..=count).find(|number| tickets.state(*number) == State::InDoubt);
            prop_assert_eq!(tickets.lowest_in_doubt(), in_doubt);
        }
    }
}
