//! The rules of the line under random days in made-up time: people join, poll, fall silent, return, leave, enter at once
//! or late or never; the operator holds the room and changes the rate, the line to us is cut, the process is killed.
//!
//! Whatever happens: no number enters twice, never more entries than the rate allows, nobody who stayed is called after
//! a later ticket or counted absent, nobody enters uncalled, and a line with somebody present always moves on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anticamera::domain::budget::WHOLE;
use anticamera::domain::line::{Arrival, Asks, Conditions, Heard, Line, Near, Standing, Standstill};
use anticamera::domain::line::{StraightThrough, Terms};
use anticamera::domain::names::ClassId;
use anticamera::domain::rate::Rate;
use anticamera::domain::tickets::State;
use anticamera::domain::time::{Mono, Now, Unix};
use proptest::prelude::*;

const CLASS: ClassId = ClassId(7);
const SECOND: u64 = 1_000_000_000;
const TICK: u64 = SECOND / 10;
/// Ticks for which a request is held at the gate.
const GATE_WAIT: u64 = 50;
const RATES: [&str; 5] = ["6/min", "1/s", "7/s", "50/s", "200/s"];

#[derive(Clone, Copy, Debug)]
enum Enters {
    AtOnce,
    AfterTicks(u64),
    Never,
}

#[derive(Clone, Debug)]
enum Step {
    Join { count: usize, enters: Enters, asks: Asks },
    Newcomers(usize),
    Run { ticks: u64 },
    FallSilent { every: usize },
    Return { every: usize },
    Leave { every: usize },
    Hold { ticks: u64 },
    FullRoom { ticks: u64 },
    Ramp { ticks: u64, permille: u32 },
    Cut { ticks: u64 },
    Rate(usize),
    Unused,
    Kill { lost_ticks: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let enters =
        prop_oneof![4 => Just(Enters::AtOnce), 2 => (1..900u64).prop_map(Enters::AfterTicks), 1 => Just(Enters::Never)];
    let asks = prop_oneof![6 => Just(Asks::Scripted), 1 => Just(Asks::ByHand)];
    let join = (1..40usize, enters, asks).prop_map(|(count, enters, asks)| Step::Join { count, enters, asks });
    prop_oneof![
        6 => join,
        2 => (1..6usize).prop_map(Step::Newcomers),
        8 => (1..400u64).prop_map(|ticks| Step::Run { ticks }),
        2 => (1..5usize).prop_map(|every| Step::FallSilent { every }),
        1 => (1..5usize).prop_map(|every| Step::Return { every }),
        1 => (2..9usize).prop_map(|every| Step::Leave { every }),
        1 => (1..1500u64).prop_map(|ticks| Step::Hold { ticks }),
        1 => (1..600u64).prop_map(|ticks| Step::FullRoom { ticks }),
        1 => (1..600u64, 1..WHOLE).prop_map(|(ticks, permille)| Step::Ramp { ticks, permille }),
        1 => (1..3000u64).prop_map(|ticks| Step::Cut { ticks }),
        1 => (0..RATES.len()).prop_map(Step::Rate),
        1 => Just(Step::Unused),
        2 => (0..10u64).prop_map(|lost_ticks| Step::Kill { lost_ticks }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    InLine,
    Silent,
    Called { enters_at: u64 },
    AtGate { until: u64 },
    Inside,
    Gone,
}

struct Visitor {
    is: Is,
    asks: Asks,
    enters: Enters,
    /// Never silent for longer than told since joining.
    stayed: bool,
    straight: bool,
    held: bool,
    poll_at: u64,
}

struct World {
    line: Line,
    at: u64,
    rate: Rate,
    /// The sum of what the rate allowed so far, and the highest rate.
    allowed: f64,
    highest: f64,
    entries: Vec<(u64, f64)>,
    issued: u64,
    visitors: BTreeMap<u64, Visitor>,
    /// Those who stayed and are not called.
    stayers: BTreeSet<u64>,
    turns: BTreeSet<u64>,
    log: Vec<(u64, u64, State, Asks)>,
    kills: u32,
    connected: bool,
}

fn terms(rate: Rate) -> Terms {
    Terms {
        rate,
        claim_window: Duration::from_secs(1200),
        ticket_lifetime: Duration::from_secs(86_400),
        gate_wait: Duration::from_secs(5),
    }
}

impl World {
    fn new(rate: &str) -> World {
        let rate: Rate = rate.parse().unwrap();
        World {
            line: Line::new(terms(rate), Mono(0)),
            at: 0,
            rate,
            allowed: 0.0,
            highest: rate.per_second(),
            entries: Vec::new(),
            issued: 0,
            visitors: BTreeMap::new(),
            stayers: BTreeSet::new(),
            turns: BTreeSet::new(),
            log: Vec::new(),
            kills: 0,
            connected: true,
        }
    }

    fn now(&self) -> Now {
        let unix = Unix(1_600_000_000_000 + self.at / 1_000_000);
        Now { mono: Mono(self.at), unix, wall: unix }
    }

    fn note(&mut self, number: u64, state: State) {
        let asks = self.visitors.get(&number).map_or(Asks::Scripted, |visitor| visitor.asks);
        self.log.push((self.at, number, state, asks));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join { count, enters, asks } => (0..count).for_each(|_| self.join(enters, asks)),
            Step::Newcomers(count) => (0..count).for_each(|_| self.newcomer()),
            Step::Run { ticks } => self.run(ticks, Conditions::FINE),
            Step::FallSilent { every } => self.each_nth(every, Is::InLine, World::fall_silent),
            Step::Return { every } => self.each_nth(every, Is::Silent, World::come_back),
            Step::Leave { every } => self.each_nth(every, Is::InLine, World::leave),
            Step::Hold { ticks } => {
                self.run(ticks, Conditions { standstill: Some(Standstill::OperatorHold), ..Conditions::FINE });
            }
            Step::FullRoom { ticks } => self.run(ticks, Conditions { seats_free: Some(0), ..Conditions::FINE }),
            Step::Ramp { ticks, permille } => self.run(ticks, Conditions { ramp: permille, ..Conditions::FINE }),
            Step::Cut { ticks } => {
                self.connected = false;
                self.run(ticks, Conditions::FINE);
                self.connected = true;
            }
            Step::Rate(rate) => {
                self.rate = RATES[rate].parse().unwrap();
                self.highest = self.highest.max(self.rate.per_second());
                self.line.set_terms(terms(self.rate));
            }
            Step::Unused => self.let_in_but_gone(),
            Step::Kill { lost_ticks } => self.kill(lost_ticks),
        }
    }

    fn draw(&mut self, visitor: Visitor) -> u64 {
        self.issued += 1;
        assert!(self.visitors.insert(self.issued, visitor).is_none(), "number {} was drawn twice", self.issued);
        self.issued
    }

    fn join(&mut self, enters: Enters, asks: Asks) {
        let poll_at = self.at + TICK;
        let visitor = Visitor { is: Is::InLine, asks, enters, stayed: true, straight: false, held: false, poll_at };
        let number = self.draw(visitor);
        self.stayers.insert(number);
        self.line.join(CLASS, number, asks, self.now());
        self.note(number, State::Waiting);
    }

    fn newcomer(&mut self) {
        if self.line.straight_through(CLASS) == StraightThrough::No || !self.connected {
            return;
        }
        assert_eq!(self.line.lane(CLASS).map_or(0, |lane| lane.waiting()), 0, "nobody goes past a line");
        let is = Is::AtGate { until: self.at + GATE_WAIT * TICK };
        let (asks, enters) = (Asks::Scripted, Enters::AtOnce);
        let visitor = Visitor { is, asks, enters, stayed: false, straight: true, held: false, poll_at: u64::MAX };
        let number = self.draw(visitor);
        self.line.arrive_straight(CLASS, number, self.now());
        self.let_in();
    }

    fn each_nth(&mut self, every: usize, who: Is, what: fn(&mut World, u64)) {
        let numbers: Vec<u64> =
            self.visitors.iter().filter(|(_, visitor)| visitor.is == who).map(|(number, _)| *number).collect();
        numbers.into_iter().step_by(every).for_each(|number| what(self, number));
    }

    fn is(&mut self, number: u64, is: Is) {
        self.visitors.get_mut(&number).unwrap().is = is;
    }

    fn not_a_stayer(&mut self, number: u64) {
        self.stayers.remove(&number);
        self.visitors.get_mut(&number).unwrap().stayed = false;
    }

    fn fall_silent(&mut self, number: u64) {
        self.is(number, Is::Silent);
        self.not_a_stayer(number);
    }

    fn come_back(&mut self, number: u64) {
        self.is(number, Is::InLine);
        self.visitors.get_mut(&number).unwrap().poll_at = self.at;
    }

    fn leave(&mut self, number: u64) {
        self.is(number, Is::Gone);
        self.not_a_stayer(number);
        self.line.leave(CLASS, number);
        self.note(number, State::Left);
        assert_eq!(self.line.standing(CLASS, number, Asks::Scripted), Standing::Left);
    }

    fn run(&mut self, ticks: u64, conditions: Conditions) {
        for _ in 0..ticks {
            self.at += TICK;
            self.allowed += self.rate.per_second() / 10.0;
            if self.connected {
                self.visitors_act();
            }
            let moved = self.line.tick(self.now(), conditions);
            for (_, moved) in &moved.moved {
                moved.called.iter().for_each(|number| self.called(*number));
                for number in &moved.lapsed {
                    self.turns.remove(number);
                    self.note(*number, State::Absent);
                }
                moved.passed_over.iter().for_each(|number| self.note(*number, State::Absent));
            }
            for (_, number) in moved.gone {
                self.is(number, Is::Gone);
            }
            self.let_in();
        }
    }

    fn visitors_act(&mut self) {
        let numbers: Vec<u64> = self.visitors.keys().copied().collect();
        for number in numbers {
            let visitor = &self.visitors[&number];
            match visitor.is {
                Is::InLine if visitor.poll_at <= self.at => self.poll(number),
                Is::Called { enters_at } if enters_at <= self.at => self.ask_to_enter(number),
                Is::AtGate { until } if until <= self.at => self.depart(number),
                _ => {}
            }
        }
    }

    fn poll(&mut self, number: u64) {
        let visitor = &self.visitors[&number];
        let (asks, stayed) = (visitor.asks, visitor.stayed);
        let (standing, heard) = self.line.poll(CLASS, number, asks, self.now());
        if stayed && self.kills == 0 {
            assert_eq!(heard, Heard::Again, "{number} stayed and was counted absent");
        }
        assert!(!stayed || heard != Heard::Returned, "{number} stayed and was passed over");
        if heard != Heard::Again {
            self.note(number, State::Waiting);
        }
        match standing {
            Standing::Waiting { told, near, .. } => {
                let visitor = self.visitors.get_mut(&number).unwrap();
                visitor.held = near == Near::Hold;
                let wait = if visitor.held { Duration::from_secs(20) } else { told.interval() };
                visitor.poll_at = self.at + u64::try_from(wait.as_nanos()).unwrap();
            }
            Standing::YourTurn { .. } => self.learn(number),
            other => panic!("{number} asks and is {other:?}"),
        }
    }

    fn called(&mut self, number: u64) {
        if let Some(earlier) = self.stayers.first() {
            assert!(*earlier >= number, "{number} was called before {earlier}, who stayed");
        }
        self.stayers.remove(&number);
        self.turns.insert(number);
        self.note(number, State::Called);
        let held = self.visitors.get(&number).is_some_and(|visitor| visitor.held && visitor.is == Is::InLine);
        if held && self.connected {
            self.learn(number);
        }
    }

    fn learn(&mut self, number: u64) {
        let is = match self.visitors[&number].enters {
            Enters::AtOnce => Is::Called { enters_at: self.at },
            Enters::AfterTicks(ticks) => Is::Called { enters_at: self.at + ticks * TICK },
            Enters::Never => Is::Gone,
        };
        self.is(number, is);
        self.not_a_stayer(number);
    }

    fn ask_to_enter(&mut self, number: u64) {
        let mut arrival = self.line.arrive(CLASS, number, Mono(self.at));
        if arrival == Arrival::NotCalled && self.kills > 0 && self.turns.contains(&number) {
            self.line.honour_turn(CLASS, number);
            arrival = self.line.arrive(CLASS, number, Mono(self.at));
        }
        match arrival {
            Arrival::AtGate => self.is(number, Is::AtGate { until: self.at + GATE_WAIT * TICK }),
            Arrival::NotCalled => {
                assert!(!self.turns.contains(&number), "{number} holds a turn and is refused");
                self.come_back(number);
            }
            Arrival::Entered => panic!("{number} is outside and counts as entered"),
        }
    }

    fn depart(&mut self, number: u64) {
        self.line.depart(CLASS, number, 0, Mono(self.at));
        if self.visitors[&number].straight {
            self.line.give_up_straight(CLASS, number);
            self.is(number, Is::Gone);
            self.note(number, State::Left);
        } else {
            self.is(number, Is::Called { enters_at: self.at + 20 * TICK });
        }
    }

    fn let_in(&mut self) {
        while let Some(entry) = self.line.enter_next(Mono(self.at)) {
            let number = entry.number;
            let visitor = &self.visitors[&number];
            assert!(matches!(visitor.is, Is::AtGate { .. }), "{number} entered and was {:?}", visitor.is);
            assert!(visitor.straight || self.turns.contains(&number), "{number} entered uncalled");
            assert_eq!(self.line.standing(CLASS, number, Asks::Scripted), Standing::Entered);
            self.is(number, Is::Inside);
            self.note(number, State::Entered);
            self.entries.push((self.at, self.allowed));
        }
    }

    /// Somebody is let in whose request has just ended: turn and admission go back.
    fn let_in_but_gone(&mut self) {
        let Some(entry) = self.line.enter_next(Mono(self.at)) else { return };
        self.line.take_back(CLASS, entry.number);
        let standing = self.line.standing(CLASS, entry.number, Asks::Scripted);
        assert!(matches!(standing, Standing::YourTurn { .. }), "{standing:?}");
        if self.visitors[&entry.number].straight {
            self.line.leave(CLASS, entry.number);
            self.is(entry.number, Is::Gone);
        } else {
            self.turns.insert(entry.number);
            self.is(entry.number, Is::Called { enters_at: self.at });
        }
    }

    /// The process is killed and starts again with what was durable: the facts of the last moments are lost, and the
    /// counter goes on at its mark.
    fn kill(&mut self, lost_ticks: u64) {
        self.kills += 1;
        let durable_until = self.at.saturating_sub(lost_ticks * TICK);
        let mut known: HashMap<u64, (State, Asks)> = HashMap::new();
        for (at, number, state, asks) in &self.log {
            if *at <= durable_until {
                known.insert(*number, (*state, *asks));
            }
        }
        self.at += 5 * SECOND;
        self.allowed += self.rate.per_second() * 5.0;
        self.line = Line::taken_up(terms(self.rate), Mono(self.at));
        for (number, (state, asks)) in &known {
            self.line.restore(CLASS, *number, *state, *asks, self.now());
        }
        let mark = self.issued + 64;
        self.line.restore_in_doubt(CLASS, 1..=mark, self.now());
        self.line.lifted(CLASS, mark, self.now());
        self.issued = mark;
        self.log.retain(|(at, ..)| *at <= durable_until);
        for visitor in self.visitors.values_mut() {
            match visitor.is {
                Is::AtGate { .. } if visitor.straight => visitor.is = Is::Gone,
                Is::AtGate { .. } => visitor.is = Is::Called { enters_at: self.at },
                _ => visitor.held = false,
            }
        }
    }

    /// From now on everybody who is still there enters when called; all others are ghosts. All enter in the end, and
    /// once the ghosts are known for what they are, nobody waits for an entry much longer than the rate has it.
    fn all_enter_in_the_end(&mut self) {
        for visitor in self.visitors.values_mut() {
            visitor.enters = Enters::AtOnce;
            visitor.asks = Asks::Scripted;
            visitor.poll_at = visitor.poll_at.min(self.at + 60 * SECOND);
            if let Is::Called { enters_at } = &mut visitor.is {
                *enters_at = self.at;
            }
        }
        let outside = |world: &World| {
            let there = |visitor: &&Visitor| !matches!(visitor.is, Is::Inside | Is::Gone | Is::Silent);
            world.visitors.values().filter(there).count()
        };
        let rate = self.rate.per_second();
        let most = 1500.0 + outside(self) as f64 / rate * 1.5 + self.visitors.len() as f64 * 3.0;
        let begun = self.at;
        while outside(self) > 0 {
            self.run(10, Conditions::FINE);
            let took = (self.at - begun) as f64 / SECOND as f64;
            assert!(took < most, "{} of {} are outside after {took} s", outside(self), self.visitors.len());
        }
    }

    /// In any interval at most what the rate allowed in it, a tick's worth and the burst.
    fn hold_the_rate(&self) {
        let slack = self.highest * 0.1 + (1.0 + self.highest * 0.1).max(self.highest * 0.25);
        let mut lowest = f64::MAX;
        for (before, (at, allowed)) in self.entries.iter().enumerate() {
            lowest = lowest.min(before as f64 - allowed);
            let excess = before as f64 + 1.0 - allowed - lowest - slack;
            assert!(excess <= 1e-6, "{excess} entries too many before {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_rules_hold(
        rate in prop::sample::select(RATES.to_vec()),
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let mut world = World::new(rate);
        for step in &steps {
            world.step(step);
        }
        world.all_enter_in_the_end();
        world.hold_the_rate();
    }
}

#[test]
fn one_who_waits_behind_many_ghosts_gets_in() {
    let mut world = World::new("1/s");
    (0..3000).for_each(|_| world.join(Enters::Never, Asks::Scripted));
    world.each_nth(1, Is::InLine, World::fall_silent);
    world.join(Enters::AtOnce, Asks::Scripted);
    world.all_enter_in_the_end();
    world.hold_the_rate();
}

#[test]
fn of_those_who_come_at_one_moment_no_more_go_straight_through_than_of_those_who_come_one_after_the_other() {
    let mut world = World::new("40/s");
    world.run(1, Conditions::FINE);
    let go = |world: &mut World| (0..500).filter(|_| world.line.go_straight(CLASS) == StraightThrough::Yes).count();
    assert_eq!(go(&mut world), 20, "as many as enter within half a second, while their numbers are drawn");
    (0..5).for_each(|_| world.line.expect_no_more(CLASS));
    assert_eq!(go(&mut world), 5, "whoever got no number leaves room for another");
    (0..20).for_each(|_| world.line.expect_no_more(CLASS));
    assert_eq!(world.line.straight_through(CLASS), StraightThrough::Yes);
}

#[test]
fn after_two_kills_in_a_row_a_place_that_was_never_recorded_is_still_kept() {
    let mut world = World::new("1/s");
    (0..50).for_each(|_| world.join(Enters::AtOnce, Asks::Scripted));
    world.run(3, Conditions::FINE);
    (0..5).for_each(|_| world.join(Enters::AtOnce, Asks::Scripted));
    world.kill(1);
    (0..5).for_each(|_| world.join(Enters::AtOnce, Asks::Scripted));
    world.run(1, Conditions::FINE);
    world.kill(0);
    world.all_enter_in_the_end();
    world.hold_the_rate();
}

#[test]
fn a_line_is_rebuilt_from_what_its_visitors_hold() {
    let mut world = World::new("1/s");
    let now = world.now();
    // A backup knew 10 tickets; visitors hold up to 5,000, and the highest does not come first.
    (1..=10).for_each(|number| world.line.restore(CLASS, number, State::Entered, Asks::Scripted, now));
    for number in [3000, 5000, 2999, 11] {
        if world.line.may_lift(CLASS, number) {
            world.line.lifted(CLASS, number, now);
        }
        assert!(world.line.reinstate(CLASS, number, Asks::Scripted, now), "{number}");
        assert!(!world.line.reinstate(CLASS, number, Asks::Scripted, now), "{number} is known now");
    }
    let ahead = |number| match world.line.standing(CLASS, number, Asks::Scripted) {
        Standing::Waiting { ahead, .. } => ahead,
        other => panic!("{other:?}"),
    };
    assert_eq!([11, 2999, 3000, 5000].map(ahead), [0, 1, 2, 3]);
    assert_eq!(world.line.standing(CLASS, 4, Asks::Scripted), Standing::Entered);
}

/// All but two of those waiting were told the same second, and the line was cut four seconds before it: their polls were
/// forgotten, nothing more was expected, and the presence clock ran on.
#[test]
fn a_cut_shortly_before_a_crowd_is_due_makes_nobody_absent() {
    let mut world = World::new("6/min");
    let join = |count| Step::Join { count, enters: Enters::AtOnce, asks: Asks::Scripted };
    let steps = [
        join(20),
        Step::Run { ticks: 201 },
        Step::Cut { ticks: 451 },
        Step::Run { ticks: 13 },
        join(17),
        Step::Hold { ticks: 161 },
        Step::Cut { ticks: 1020 },
    ];
    for step in &steps {
        world.step(step);
    }
    world.all_enter_in_the_end();
}
