//! Whole lines in made-up time: thousands of visitors who join, poll, leave, come back, enter at once or late or never.
//!
//! Each scenario prints its figures and holds the line to its promises: never more entries than the rate allows, the
//! rate reached, nobody who stayed overtaken, no number twice, little standing at the gate.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use anticamera::domain::budget::WHOLE;
use anticamera::domain::line::{Arrival, Asks, Conditions, Knock, Line, Near, Standing, Standstill, Terms};
use anticamera::domain::names::ClassId;
use anticamera::domain::rate::Rate;
use anticamera::domain::shares::{Borrow, Shares};
use anticamera::domain::time::{Mono, Now, Unix};

use crate::support::random::Random;

const CLASS: ClassId = ClassId(7);
const OFFICE: ClassId = ClassId(9);
const SECOND: u64 = 1_000_000_000;
const TICK: u64 = SECOND / 10;

fn terms(rate: Rate) -> Terms {
    Terms {
        rate,
        claim_window: Duration::from_secs(1200),
        ticket_lifetime: Duration::from_secs(86_400),
        gate_wait: Duration::from_secs(5),
    }
}

/// What the visitors of a scenario do.
#[derive(Clone, Copy)]
struct Crowd {
    visitors: usize,
    arrive_within: u64,
    /// Share who leave while waiting, and the part of those who come back.
    leave: f64,
    come_back: f64,
    /// Shares of those called who enter at once, after about six seconds, after about ninety; the others never.
    at_once: f64,
    soon: f64,
    late: f64,
}

const ALL_ENTER: Crowd =
    Crowd { visitors: 20_000, arrive_within: 60, leave: 0.0, come_back: 0.0, at_once: 1.0, soon: 0.0, late: 0.0 };
const TYPICAL: Crowd =
    Crowd { leave: 0.4, come_back: 0.1, at_once: 0.5, soon: 1.0 / 3.0, late: 1.0 / 12.0, ..ALL_ENTER };

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Join(usize),
    Poll(usize),
    Leave(usize),
    ComeBack(usize),
    Enter(usize),
    GateWaitOver(usize),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Is {
    Away,
    InLine,
    Called,
    AtGate,
    Inside,
}

struct Visitor {
    class: ClassId,
    crowd: Crowd,
    number: u64,
    is: Is,
    stayed: bool,
    held: bool,
    shown: u64,
    poll: u64,
    came_to_gate: u64,
}

struct Figures {
    entries: Vec<u64>,
    entries_of: HashMap<ClassId, Vec<u64>>,
    first_call: u64,
    /// When for the first time nobody was left to call.
    emptied: u64,
    overtaken: usize,
    grew: usize,
    called_twice: usize,
    at_gate: Vec<u64>,
}

struct Day {
    line: Line,
    at: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    visitors: Vec<Visitor>,
    by_number: HashMap<(ClassId, u64), usize>,
    stayers: BTreeSet<(ClassId, u64)>,
    random: Random,
    figures: Figures,
    cut: Option<(u64, u64)>,
    /// When the hours of those begin who wait for them; pages are told so and ask then, by their place.
    opens: Option<u64>,
    /// Seconds in which nobody of a lane stood at its gate.
    nobody_at_gate: BTreeSet<u64>,
}

impl Day {
    fn new(rate: &str, crowd: Crowd) -> Day {
        Day::of_lanes(rate, &[(CLASS, crowd)])
    }

    fn of_lanes(rate: &str, crowds: &[(ClassId, Crowd)]) -> Day {
        let rate: Rate = rate.parse().expect("a rate");
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut events = BinaryHeap::new();
        let mut visitors = Vec::new();
        for (class, crowd) in crowds {
            for _ in 0..crowd.visitors {
                let at = (random.next() * crowd.arrive_within as f64 * 1e9) as u64;
                events.push(Reverse((at, Event::Join(visitors.len()))));
                visitors.push(Visitor {
                    class: *class,
                    crowd: *crowd,
                    number: 0,
                    is: Is::Away,
                    stayed: true,
                    held: false,
                    shown: u64::MAX,
                    poll: 0,
                    came_to_gate: 0,
                });
            }
        }
        Day {
            line: Line::new(terms(rate), Mono(0)),
            at: 0,
            events,
            visitors,
            by_number: HashMap::new(),
            stayers: BTreeSet::new(),
            random,
            figures: empty(),
            cut: None,
            opens: None,
            nobody_at_gate: BTreeSet::new(),
        }
    }

    fn now(&self) -> Now {
        let unix = Unix(1_600_000_000_000 + self.at / 1_000_000);
        Now { mono: Mono(self.at), unix, wall: unix }
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.events.push(Reverse((self.at + (seconds * 1e9) as u64, event)));
    }

    fn is_cut(&self) -> bool {
        self.cut.is_some_and(|(from, to)| (from..to).contains(&self.at))
    }

    /// Runs until `until`, with the conditions that `conditions` gives for each tick.
    fn run(&mut self, until: u64, conditions: impl Fn(u64) -> Conditions) {
        let mut tick = self.at - self.at % TICK + TICK;
        while tick <= until {
            while let Some(Reverse((at, event))) = self.events.peek().copied().filter(|Reverse((at, _))| *at <= tick) {
                self.events.pop();
                self.at = self.at.max(at);
                self.happen(event);
            }
            self.at = tick;
            let moved = self.line.tick(self.now(), conditions(self.at)).moved;
            for (class, moved) in moved {
                moved.called.into_iter().for_each(|number| self.called(class, number));
            }
            self.let_in();
            if self.line.lanes().any(|(_, lane)| lane.at_gate() == 0) {
                self.nobody_at_gate.insert(self.at / SECOND);
            }
            self.note_when_emptied();
            tick += TICK;
        }
    }

    fn note_when_emptied(&mut self) {
        let all_arrived = self.visitors.iter().all(|visitor| self.at > visitor.crowd.arrive_within * SECOND);
        let nobody_waits = all_arrived && self.line.lanes().all(|(_, lane)| lane.waiting() == 0);
        if nobody_waits && self.figures.emptied == 0 {
            self.figures.emptied = self.at;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join(v) => self.join(v),
            Event::Poll(v) => self.poll(v),
            Event::Leave(v) => {
                if self.visitors[v].is == Is::InLine {
                    self.go_away(v);
                    if self.random.next() < self.visitors[v].crowd.come_back {
                        let away = 200.0 + self.random.exponential(60.0);
                        self.after(away, Event::ComeBack(v));
                    }
                }
            }
            Event::ComeBack(v) => {
                if self.visitors[v].is == Is::Away {
                    self.visitors[v].is = Is::InLine;
                    self.poll_now(v);
                }
            }
            Event::Enter(v) => self.enter(v),
            Event::GateWaitOver(v) => {
                if self.visitors[v].is == Is::AtGate {
                    self.line.depart(self.visitors[v].class, self.visitors[v].number, 0, Mono(self.at));
                    self.visitors[v].is = Is::Called;
                    self.after(2.0, Event::Enter(v));
                }
            }
        }
    }

    fn go_away(&mut self, v: usize) {
        let visitor = &mut self.visitors[v];
        visitor.is = Is::Away;
        visitor.stayed = false;
        visitor.held = false;
        self.stayers.remove(&(visitor.class, visitor.number));
    }

    fn join(&mut self, v: usize) {
        let class = self.visitors[v].class;
        let number = self.line.lane(class).map_or(0, |lane| lane.issued()) + 1;
        self.by_number.insert((class, number), v);
        self.stayers.insert((class, number));
        self.visitors[v].number = number;
        self.visitors[v].is = Is::InLine;
        self.line.join(class, number, Asks::Scripted, self.now());
        if self.random.next() < self.visitors[v].crowd.leave {
            let patience = self.random.next() * 300.0;
            self.after(patience, Event::Leave(v));
        }
        self.after(0.1, Event::Poll(v));
        self.visitors[v].poll = self.at + SECOND / 10;
    }

    fn poll_now(&mut self, v: usize) {
        self.visitors[v].poll = self.at;
        self.poll(v);
    }

    fn poll(&mut self, v: usize) {
        if self.visitors[v].poll != self.at || !matches!(self.visitors[v].is, Is::InLine) {
            return;
        }
        if self.is_cut() {
            return self.poll_after(v, 5.0);
        }
        let Visitor { class, number, .. } = self.visitors[v];
        let (standing, _) = self.line.poll(class, number, Asks::Scripted, self.now());
        self.visitors[v].held = false;
        match standing {
            Standing::Waiting { ahead, told, near } => {
                let shown = self.visitors[v].shown.min(ahead);
                self.figures.grew += usize::from(shown > self.visitors[v].shown);
                self.visitors[v].shown = shown;
                self.visitors[v].held = near == Near::Hold;
                let wait = if near == Near::Hold { 19.0 } else { told.interval().as_secs_f64() };
                let opens = self.opens.filter(|opens| *opens > self.at && !self.line.is_in_its_hours(class));
                let after = |opens: u64| (opens - self.at) as f64 / 1e9 + ahead as f64 / 50.0 / 4.0;
                self.poll_after(v, opens.map_or(wait, |opens| wait.min(after(opens))));
            }
            Standing::YourTurn { .. } => self.learns(v),
            other => panic!("ticket {number} is {other:?}"),
        }
    }

    fn poll_after(&mut self, v: usize, seconds: f64) {
        let at = self.at + (seconds * 1e9) as u64;
        self.visitors[v].poll = at;
        self.events.push(Reverse((at, Event::Poll(v))));
    }

    fn called(&mut self, class: ClassId, number: u64) {
        if self.figures.first_call == 0 {
            self.figures.first_call = self.at;
        }
        let before = self.stayers.range((class, 0)..(class, number)).next();
        self.figures.overtaken += usize::from(before.is_some());
        self.stayers.remove(&(class, number));
        let v = self.by_number[&(class, number)];
        self.figures.called_twice += usize::from(self.visitors[v].is == Is::Inside);
        if self.visitors[v].held && !self.is_cut() {
            self.learns(v);
        }
    }

    fn learns(&mut self, v: usize) {
        if self.visitors[v].is != Is::InLine {
            return;
        }
        self.visitors[v].is = Is::Called;
        self.visitors[v].held = false;
        let dice = self.random.next();
        let Crowd { at_once, soon, late, .. } = self.visitors[v].crowd;
        let delay = if dice < at_once {
            0.2
        } else if dice < at_once + soon {
            3.0 + self.random.next() * 6.0
        } else if dice < at_once + soon + late {
            60.0 + self.random.next() * 60.0
        } else {
            return;
        };
        self.after(delay, Event::Enter(v));
    }

    fn enter(&mut self, v: usize) {
        if self.visitors[v].is != Is::Called {
            return;
        }
        let Visitor { class, number, .. } = self.visitors[v];
        let knock = self.line.knock(class, number);
        match self.line.arrive(class, number, Mono(self.at)) {
            Arrival::AtGate if knock == Knock::Later => {
                // The place is taken; the page polls until it is time to knock.
                self.line.depart(class, number, 0, Mono(self.at));
                self.after(1.0, Event::Enter(v));
            }
            Arrival::AtGate => {
                if self.visitors[v].came_to_gate == 0 {
                    self.visitors[v].came_to_gate = self.at;
                }
                self.visitors[v].is = Is::AtGate;
                self.after(5.0, Event::GateWaitOver(v));
                self.let_in();
            }
            other => panic!("{other:?}"),
        }
    }

    fn let_in(&mut self) {
        while let Some(entry) = self.line.enter_next(Mono(self.at)) {
            let v = self.by_number[&(entry.class, entry.number)];
            assert_eq!(self.visitors[v].is, Is::AtGate, "nobody enters twice or from outside the gate");
            self.visitors[v].is = Is::Inside;
            self.figures.entries.push(self.at);
            self.figures.entries_of.entry(entry.class).or_default().push(self.at);
            self.figures.at_gate.push(self.at - self.visitors[v].came_to_gate);
        }
    }
}

impl Figures {
    /// Entries of a class from one second to another.
    fn of(&self, class: ClassId, seconds: std::ops::Range<u64>) -> i64 {
        let nanos = seconds.start * SECOND..seconds.end * SECOND;
        let entries = self.entries_of.get(&class).into_iter().flatten();
        i64::try_from(entries.filter(|at| nanos.contains(at)).count()).expect("small")
    }

    fn per_stretch(&self, from: u64, to: u64, stretch: u64) -> Vec<usize> {
        (0..(to.saturating_sub(from)) / stretch)
            .map(|n| {
                let (begins, ends) = (from + n * stretch, from + (n + 1) * stretch);
                self.entries.iter().filter(|at| (begins..ends).contains(*at)).count()
            })
            .collect()
    }

    /// The largest excess over `rate x (T + tick) + burst` over all intervals T.
    fn worst_excess(&self, rate: f64) -> f64 {
        let allowed = |nanos: u64| rate * (nanos as f64 / 1e9);
        let slack = rate * 0.1 + (1.0 + rate * 0.1).max(rate * 0.25);
        let mut lowest = f64::MAX;
        let mut worst = f64::MIN;
        for (count, at) in self.entries.iter().enumerate() {
            lowest = lowest.min(count as f64 - allowed(*at));
            worst = worst.max(count as f64 + 1.0 - allowed(*at) - lowest - slack);
        }
        worst
    }

    fn gate_percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.at_gate.clone();
        sorted.sort_unstable();
        sorted
            .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
            .map_or(0.0, |ns| *ns as f64 / 1e9)
    }

    fn report(&self, name: &str, rate: f64) -> (f64, f64) {
        let (from, to) = (self.first_call + 30 * SECOND, self.emptied.saturating_sub(60 * SECOND));
        let windows = self.per_stretch(from, to, 10 * SECOND);
        let share = |count: &usize| *count as f64 / (rate * 10.0) * 100.0;
        let low = windows.iter().map(share).fold(f64::MAX, f64::min);
        let high = windows.iter().map(share).fold(0.0, f64::max);
        println!(
            "{name}: {} entries; 10-s windows {low:.1}-{high:.1} % of the rate; worst excess {:.2}; overtaken {}; \
             at the gate p50 {:.2} s, p99 {:.2} s",
            self.entries.len(),
            self.worst_excess(rate),
            self.overtaken,
            self.gate_percentile(50),
            self.gate_percentile(99),
        );
        (low, high)
    }

    fn hold_the_promises(&self, rate: f64) {
        assert!(self.worst_excess(rate) <= 0.0, "more entries than the rate allows");
        assert_eq!(self.overtaken, 0, "somebody who stayed was overtaken");
        assert_eq!((self.grew, self.called_twice), (0, 0));
    }
}

fn fine(_: u64) -> Conditions {
    Conditions::FINE
}

#[test]
fn a_typical_crowd_enters_at_exactly_the_rate() {
    let mut day = Day::new("50/s", TYPICAL);
    day.run(600 * SECOND, fine);
    let (low, high) = day.figures.report("typical crowd at 50/s", 50.0);
    day.figures.hold_the_promises(50.0);
    assert!(low >= 98.0 && high <= 102.0);
    assert!(day.figures.gate_percentile(99) < 5.0);
}

#[test]
fn a_crowd_that_enters_at_once_enters_at_exactly_the_rate() {
    let mut day = Day::new("50/s", ALL_ENTER);
    day.run(600 * SECOND, fine);
    let (low, high) = day.figures.report("all enter at 50/s", 50.0);
    day.figures.hold_the_promises(50.0);
    assert!(low >= 98.0 && high <= 102.0);
    assert!(day.figures.gate_percentile(99) < 5.0);
}

#[test]
fn a_crowd_of_which_half_comes_late_or_never_enters_at_the_rate() {
    let mut day = Day::new("50/s", Crowd { at_once: 0.3, soon: 0.2, late: 0.3, ..TYPICAL });
    day.run(600 * SECOND, fine);
    println!("from the beginning: {:?}", day.figures.per_stretch(0, 300 * SECOND, 10 * SECOND));
    day.figures.report("late crowd at 50/s", 50.0);
    day.figures.hold_the_promises(50.0);
    let settled = day.figures.per_stretch(120 * SECOND, 200 * SECOND, 10 * SECOND);
    assert!(settled.iter().all(|count| (490..=510).contains(count)), "{settled:?}");
}

#[test]
fn low_rates_are_reached_too() {
    for (rate, per_second) in [("1/s", 1.0), ("6/min", 0.1)] {
        let crowd = Crowd { visitors: 400, ..TYPICAL };
        let mut day = Day::new(rate, crowd);
        day.run((130.0 / per_second) as u64 * SECOND, fine);
        let entries = &day.figures.entries;
        let took = (entries[100.min(entries.len() - 1)] - entries[0]) as f64 / 1e9;
        let reached = 100.0 / took / per_second * 100.0;
        println!("{rate}: {} entries, the first hundred at {reached:.1} % of the rate", entries.len());
        day.figures.hold_the_promises(per_second);
        assert!(reached >= 97.0);
    }
}

#[test]
fn a_changed_rate_takes_effect_at_once() {
    let mut day = Day::new("200/s", Crowd { visitors: 40_000, ..TYPICAL });
    for (until, rate) in [(60, "200/s"), (160, "20/s"), (260, "100/s")] {
        let terms = terms(rate.parse().expect("a rate"));
        day.line.set_terms(terms);
        let from = day.at;
        let before = day.figures.entries.len();
        day.run(until * SECOND, fine);
        let per_second = rate.parse::<Rate>().expect("a rate").per_second();
        let windows = day.figures.per_stretch(from, until * SECOND, 10 * SECOND);
        println!("at {rate}: {windows:?} per 10 s");
        let part = Figures { entries: day.figures.entries.split_off(before), ..empty() };
        assert!(part.worst_excess(per_second) <= 0.0);
        let settled: Vec<f64> = windows.iter().skip(6).map(|count| *count as f64 / per_second / 10.0).collect();
        assert!(settled.iter().all(|share| (0.98..=1.02).contains(share)), "{settled:?}");
        day.figures.entries.extend(part.entries);
    }
    assert_eq!(day.figures.overtaken, 0);
}

fn empty() -> Figures {
    Figures {
        entries: Vec::new(),
        entries_of: HashMap::new(),
        first_call: 0,
        emptied: 0,
        overtaken: 0,
        grew: 0,
        called_twice: 0,
        at_gate: Vec::new(),
    }
}

#[test]
fn after_an_outage_the_rate_ramps_up_and_nobody_was_overtaken() {
    let mut day = Day::new("50/s", TYPICAL);
    let (from, to) = (100 * SECOND, 220 * SECOND);
    let conditions = |at: u64| match at {
        at if (from..to).contains(&at) => {
            Conditions { standstill: Some(Standstill::PortalUnhealthy), ..Conditions::FINE }
        }
        at if (to..to + 60 * SECOND).contains(&at) => {
            let ramp = 100 + (at - to) * 900 / (60 * SECOND);
            Conditions { ramp: u32::try_from(ramp).unwrap_or(WHOLE), ..Conditions::FINE }
        }
        _ => Conditions::FINE,
    };
    day.run(700 * SECOND, conditions);
    let windows = day.figures.per_stretch(90 * SECOND, 400 * SECOND, 10 * SECOND);
    println!("outage 100-220 s: {windows:?} per 10 s from 90 s on");
    day.figures.hold_the_promises(50.0);
    assert!(day.figures.entries.iter().all(|at| !(from + TICK..to).contains(at)));
    let settled = day.figures.per_stretch(360 * SECOND, 400 * SECOND, 10 * SECOND);
    assert!(settled.iter().all(|count| (490..=510).contains(count)), "{settled:?}");
}

#[test]
fn while_the_line_to_us_is_cut_nobody_is_overtaken() {
    let mut day = Day::new("50/s", Crowd { leave: 0.1, ..TYPICAL });
    day.cut = Some((100 * SECOND, 220 * SECOND));
    day.run(900 * SECOND, fine);
    println!("cut 100-220 s: {:?}", day.figures.per_stretch(90 * SECOND, 400 * SECOND, 10 * SECOND));
    day.figures.report("line to us cut for two minutes", 50.0);
    day.figures.hold_the_promises(50.0);
}

#[test]
fn a_hoarder_who_wakes_a_thousand_ghosts_gets_a_quarter_of_the_calls() {
    let mut day = Day::new("20/s", Crowd { visitors: 8000, arrive_within: 20, ..ALL_ENTER });
    // About a thousand go away at once, are passed over, and come back together.
    let joins: Vec<(u64, Event)> = day.events.iter().map(|Reverse(event)| *event).collect();
    for (at, event) in joins {
        if let Event::Join(v) = event
            && (8 * SECOND..10 * SECOND + SECOND / 2).contains(&at)
        {
            day.events.push(Reverse((at + SECOND, Event::Leave(v))));
            day.events.push(Reverse((260 * SECOND, Event::ComeBack(v))));
        }
    }
    day.run(265 * SECOND, fine);
    let serving = day.line.lane(CLASS).map_or(0, |lane| lane.now_serving());
    let entries = day.figures.entries.len();
    day.run(305 * SECOND, fine);
    let fresh = day.line.lane(CLASS).map_or(0, |lane| lane.now_serving()) - serving;
    let entries = day.figures.entries.len() - entries;
    println!("{entries} entries in 40 s at 20/s beside a thousand returns; {fresh} fresh calls");
    assert!((590..=620).contains(&fresh));
    assert!((795..=805).contains(&entries));
}

fn shares(citizens: u32, offices: u32, borrow: Borrow) -> Shares {
    Shares::new(vec![(CLASS, citizens), (OFFICE, offices)], CLASS, borrow, Vec::new())
}

/// Whether so many of a minute's entries are within one per cent or two visitors of what is due.
fn is_due(entries: i64, due: i64) -> bool {
    (entries - due).abs() <= (due / 100).max(2)
}

#[test]
fn two_full_lanes_enter_by_their_shares() {
    for (citizens, offices, borrow) in
        [(25, 75, Borrow::Yes), (90, 10, Borrow::Yes), (50, 50, Borrow::Yes), (90, 10, Borrow::No)]
    {
        let mut day = Day::of_lanes("50/s", &[(CLASS, TYPICAL), (OFFICE, TYPICAL)]);
        day.line.set_shares(&shares(citizens, offices, borrow));
        day.run(320 * SECOND, fine);
        // What one lane lent while nobody stood at its gate is given back soon: in these minutes none is outstanding.
        let nothing_is_lent = |at: u64| day.nobody_at_gate.range(at - 4..at).next().is_none();
        let is_full = |minute: &std::ops::Range<u64>| nothing_is_lent(minute.start) && nothing_is_lent(minute.end);
        let minutes: Vec<(i64, i64)> = (0..245)
            .map(|n| 15 + n..75 + n)
            .filter(is_full)
            .map(|minute| (day.figures.of(CLASS, minute.clone()), day.figures.of(OFFICE, minute)))
            .collect();
        println!("{citizens}/{offices}, {borrow:?}: {} minutes with full lanes: {minutes:?}", minutes.len());
        day.figures.hold_the_promises(50.0);
        let due = i64::from(citizens) * 30;
        let keeps = |(citizens, offices): &(i64, i64)| is_due(*citizens, due) && is_due(*offices, 3000 - due);
        assert!(minutes.len() >= 40, "too few to judge");
        assert!(minutes.iter().all(keeps), "{:?}", minutes.iter().find(|minute| !keeps(minute)));
    }
}

#[test]
fn two_lanes_at_low_rates_are_told_to_knock_and_enter_by_their_shares() {
    for (rate, per_second, citizens, seconds) in [("6/min", 0.1, 50, 1800), ("1/s", 1.0, 90, 600)] {
        let crowd = Crowd { visitors: 1500, ..TYPICAL };
        let mut day = Day::of_lanes(rate, &[(CLASS, crowd), (OFFICE, crowd)]);
        day.line.set_shares(&shares(citizens, 100 - citizens, Borrow::Yes));
        let (from, to) = (120, 120 + seconds);
        day.run(to * SECOND, fine);
        let entries = (day.figures.of(CLASS, from..to), day.figures.of(OFFICE, from..to));
        println!("{rate} in {citizens} to {}: {entries:?} entries in {seconds} s", 100 - citizens);
        day.figures.hold_the_promises(per_second);
        let all = (seconds as f64 * per_second) as i64;
        let due = all * i64::from(citizens) / 100;
        assert!(entries.0 + entries.1 >= all * 97 / 100, "the rate is reached");
        assert!(is_due(entries.0, due) && is_due(entries.1, all - due), "{due} citizens are due");
    }
}

#[test]
fn an_idle_share_is_lent_and_comes_back_within_two_seconds() {
    let offices = Crowd { visitors: 3000, arrive_within: 1, ..ALL_ENTER };
    let mut day = Day::of_lanes("50/s", &[(CLASS, ALL_ENTER), (OFFICE, offices)]);
    let late: Vec<Reverse<(u64, Event)>> = day.events.drain().collect();
    for Reverse((at, event)) in late {
        let Event::Join(v) = event else { continue };
        let later = if day.visitors[v].class == OFFICE { 150 * SECOND } else { 0 };
        day.events.push(Reverse((at + later, event)));
    }
    day.line.set_shares(&shares(50, 50, Borrow::Yes));
    day.run(230 * SECOND, fine);
    day.figures.hold_the_promises(50.0);
    let alone = day.figures.of(CLASS, 80..140);
    let (back, both) = (day.figures.of(OFFICE, 154..164), day.figures.of(OFFICE, 160..220));
    println!("alone {alone} a minute; after the return {back} in 10 s, {both} a minute");
    assert!(is_due(alone, 3000) && back >= 250 && is_due(both, 1500));
}

#[test]
fn a_lane_whose_hours_end_keeps_its_order_and_its_turns() {
    let mut day = Day::of_lanes("50/s", &[(CLASS, TYPICAL), (OFFICE, TYPICAL)]);
    for (until, of_citizens, of_offices) in [(100, 50, 50), (200, 0, 100), (420, 100, 0)] {
        day.line.set_shares(&shares(of_citizens, of_offices, Borrow::Yes));
        day.opens = Some(until * SECOND);
        day.run(until * SECOND, fine);
    }
    day.figures.hold_the_promises(50.0);
    assert_eq!(day.figures.of(CLASS, 101..200), 0, "nobody enters outside their hours");
    assert_eq!(day.figures.of(OFFICE, 201..420), 0, "nobody enters outside their hours");
    let (offices, citizens) = (day.figures.of(OFFICE, 105..165), day.figures.of(CLASS, 205..265));
    println!("in their hours: {offices} offices and {citizens} citizens a minute");
    assert!(is_due(offices, 3000) && is_due(citizens, 3000));
}
