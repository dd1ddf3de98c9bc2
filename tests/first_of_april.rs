//! The first of April 2020 once more, in compressed time and with a waiting room in front: the whole program, a portal
//! that fails, intermediaries in their hours and citizens in theirs, ghosts, people who come back, an operator who halves
//! the rate.
//!
//! A minute stands for an hour of that day, and a visitor for a hundred. The test prints what each class got, whether
//! anybody who stayed was overtaken, how true the shown waits were, how long a line stood still without saying why, and
//! how many journeys were broken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::Ipv4Addr;
use std::time::Duration;

use anticamera::clock::ManualClock;
use anticamera::domain::time::Unix;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::app::{Answer, Running, Setup, Visitor, Wire, number_of, own, room_of};
use crate::support::portal::{FakePortal, Script, Step};

/// Wednesday, the 1st of April 2020, 07:56 in Rome.
const BEGINNING: Unix = Unix(1_585_720_560_000);
const STEP: Duration = Duration::from_millis(100);
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// Counted from the beginning: the offices' hours end and the citizens' begin.
const CITIZENS_FROM: u64 = 12 * MINUTE;
const OUTAGE: (u64, u64) = (17 * MINUTE, 19 * MINUTE);
const HALVED: (u64, u64) = (25 * MINUTE, 28 * MINUTE);
const END: u64 = 36 * MINUTE;
/// For so long after an outage the rate is raised slowly.
const RAMP: u64 = MINUTE;

const RATE: f64 = 2.0;
const OFFICES: usize = 2400;
const CITIZENS: usize = 2600;

const DAY: &str = "
[[room.window]]
from = \"07:00\"
to = \"08:08\"
share = { office = 100 }

[[room.window]]
from = \"08:08\"
to = \"07:00\"
share = { citizen = 90, office = 10 }
borrow = true

[[class]]
name = \"office\"
proof = [ { kind = \"network\", ranges = [\"127.0.0.2/32\"], sufficient = true } ]
";

fn room(rate: f64) -> Setup {
    room_of(&format!("{rate}/s")).with("time_zone = \"Europe/Rome\"\njoins_per_client = \"unlimited\"").with_more(DAY)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Office,
    Citizen,
}

/// What somebody does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Arrive,
    Join,
    Poll,
    Enter,
    /// The pages of the application, one after the other.
    Page(usize),
}

const PAGES: [&str; 4] = ["/fair/", "/fair/login", "/fair/form", "/fair/send"];
const SENDING: usize = 3;

struct Person {
    visitor: Visitor,
    class: Class,
    /// When the visitor gives up asking, if ever; some come back later.
    patience: Option<u64>,
    comes_back: bool,
    stayed: bool,
    asked: u64,
    number: u64,
    entered: Option<u64>,
    shown: Vec<Shown>,
}

/// An estimate that a visitor was shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    at: u64,
    low: u64,
    high: u64,
}

/// A small generator, so that a failing run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Day {
    running: Running,
    at: u64,
    people: Vec<Person>,
    plans: BinaryHeap<Reverse<(u64, usize, Act)>>,
    answers: (mpsc::UnboundedSender<Heard>, mpsc::UnboundedReceiver<Heard>),
    random: Random,
    bystander: Wire,
    found: Found,
}

type Heard = (usize, Act, Answer);

#[derive(Default)]
struct Found {
    entries: BTreeMap<Class, Vec<u64>>,
    /// The highest number that was told of its turn, and since when.
    called: BTreeMap<Class, (u64, u64)>,
    overtaken: Vec<String>,
    broken: Vec<String>,
    /// When a page last told of a class that it waits without saying why.
    told_no_reason: BTreeMap<Class, u64>,
    /// When a lane last moved, or a page said why it does not.
    accounted: BTreeMap<Class, u64>,
    longest_unexplained: u64,
}

impl Day {
    async fn new() -> Day {
        let clock = ManualClock::starting_at(BEGINNING);
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let running = room(RATE).start_on(directory, FakePortal::start().await, clock).await;
        let bystander = Wire::open(&running.visitor()).await;
        let mut day = Day {
            running,
            at: 0,
            people: Vec::new(),
            plans: BinaryHeap::new(),
            answers: mpsc::unbounded_channel(),
            random: Random(0x2545_F491_4F6C_DD1D),
            bystander,
            found: Found::default(),
        };
        day.crowd(Class::Office, OFFICES);
        day.crowd(Class::Citizen, CITIZENS);
        day
    }

    /// Most come in the first hours, as on that day; the others until the evening.
    fn crowd(&mut self, class: Class, count: usize) {
        let address = if class == Class::Office { Ipv4Addr::new(127, 0, 0, 2) } else { Ipv4Addr::LOCALHOST };
        for _ in 0..count {
            let early = self.random.next() < 0.7;
            let span = if early { 5 * MINUTE } else { 26 * MINUTE };
            let at = (self.random.next() * span as f64) as u64 + MINUTE;
            let ghost = self.random.next() < 0.25;
            let patience = ghost.then(|| at + 30 * SECOND + (self.random.next() * 8.0 * MINUTE as f64) as u64);
            let comes_back = self.random.next() < 0.3;
            self.plans.push(Reverse((at, self.people.len(), Act::Arrive)));
            self.people.push(Person {
                visitor: self.running.visitor().from(address),
                class,
                patience,
                comes_back,
                stayed: true,
                asked: 0,
                number: 0,
                entered: None,
                shown: Vec::new(),
            });
        }
    }

    async fn until(&mut self, end: u64) {
        while self.at < end {
            self.running.advance(STEP).await;
            self.at += 100;
            while let Some(Reverse((_, who, act))) =
                self.plans.peek().copied().filter(|Reverse((at, ..))| *at <= self.at)
            {
                self.plans.pop();
                self.act(who, act);
            }
            self.settle().await;
            self.watch_standstill();
        }
    }

    /// The one request thread answers in the order in which it is woken: after a few answers of its own to a bystander,
    /// what was woken before has been answered.
    async fn settle(&mut self) {
        for _ in 0..3 {
            self.running.visitor().request("GET", "/.waiting-room/health").on(&mut self.bystander).await;
            while let Ok((who, act, answer)) = self.answers.1.try_recv() {
                self.hear(who, act, &answer);
            }
        }
    }

    fn plan(&mut self, who: usize, seconds: f64, act: Act) {
        self.plans.push(Reverse((self.at + (seconds * 1000.0) as u64, who, act)));
    }

    fn act(&mut self, who: usize, act: Act) {
        if act == Act::Poll && self.people[who].patience.is_some_and(|until| self.at > until) {
            return self.goes_away(who);
        }
        let person = &mut self.people[who];
        person.asked = self.at;
        let asking = match act {
            Act::Arrive | Act::Enter => person.visitor.navigate(PAGES[0]),
            Act::Join => person.visitor.script("POST", &own("join")),
            Act::Poll => person.visitor.poll(),
            Act::Page(SENDING) => person.visitor.form(PAGES[SENDING], "codice=1"),
            Act::Page(page) => person.visitor.navigate(PAGES[page]),
        };
        let answers = self.answers.0.clone();
        tokio::spawn(async move { answers.send((who, act, asking.send().await)) });
    }

    fn goes_away(&mut self, who: usize) {
        let person = &mut self.people[who];
        person.patience = None;
        person.stayed = false;
        if person.comes_back {
            let away = 180.0 + self.random.next() * 240.0;
            self.plan(who, away, Act::Poll);
        }
    }

    fn hear(&mut self, who: usize, act: Act, answer: &Answer) {
        match act {
            Act::Arrive | Act::Enter if answer.is_the_portals() => self.entered(who),
            // The portal failed at the moment of entering: the visitor tries again with the pass.
            Act::Arrive | Act::Enter if matches!(answer.status, 502 | 504) => self.plan(who, 3.0, Act::Enter),
            Act::Arrive => self.plan(who, 0.2, Act::Join),
            Act::Enter => self.plan(who, 1.0, Act::Poll),
            Act::Join | Act::Poll => self.told(who, &answer.queue()),
            Act::Page(page) if answer.is_the_portals() => {
                if page + 1 < PAGES.len() {
                    let reading = 5.0 + self.random.next() * 20.0;
                    self.plan(who, reading, Act::Page(page + 1));
                }
            }
            Act::Page(page) if matches!(answer.status, 502 | 504) => self.plan(who, 5.0, Act::Page(page)),
            Act::Page(page) => {
                self.found.broken.push(format!("{} s: {who} at {}: {answer:?}", self.at / SECOND, PAGES[page]));
            }
        }
    }

    fn entered(&mut self, who: usize) {
        let class = self.people[who].class;
        self.people[who].entered = Some(self.at);
        self.found.entries.entry(class).or_default().push(self.at);
        self.found.accounted.insert(class, self.at);
        self.plan(who, 2.0, Act::Page(1));
    }

    fn told(&mut self, who: usize, queue: &Value) {
        let person = &mut self.people[who];
        if let (0, Some(ticket)) = (person.number, person.visitor.token("ticket")) {
            person.number = number_of(&ticket);
        }
        match queue["state"].as_str().unwrap_or_default() {
            "your_turn" => {
                self.is_called(who);
                let delay = if self.random.next() < 0.6 { 0.3 } else { 2.0 + self.random.next() * 6.0 };
                self.plan(who, delay, Act::Enter);
            }
            "waiting" | "closed_hours" => {
                self.still_waits(who, queue);
                self.plan(who, queue["refresh_seconds"].as_f64().unwrap(), Act::Poll);
            }
            "inside" => self.plan(who, 0.5, Act::Enter),
            state => self.found.broken.push(format!("{} s: {who} is {state}: {queue}", self.at / SECOND)),
        }
    }

    fn is_called(&mut self, who: usize) {
        let Person { class, number, .. } = self.people[who];
        self.found.accounted.insert(class, self.at);
        let highest = self.found.called.entry(class).or_insert((number, self.at));
        if number > highest.0 {
            *highest = (number, self.at);
        }
    }

    fn still_waits(&mut self, who: usize, queue: &Value) {
        let at = self.at;
        let person = &mut self.people[who];
        let seconds = |member: &str| queue[member].as_u64().map(|seconds| seconds * SECOND);
        if let (Some(low), Some(high)) = (seconds("wait_seconds_low"), seconds("wait_seconds_high")) {
            person.shown.push(Shown { at, low, high });
        }
        let said_why = !queue["reason"].is_null();
        let told = if said_why { &mut self.found.accounted } else { &mut self.found.told_no_reason };
        told.insert(person.class, at);
        // Whoever asked after a later ticket had been told of its turn, and still waits, was overtaken.
        if let Some((number, told)) = self.found.called.get(&person.class)
            && person.stayed
            && person.number < *number
            && person.asked > told + SECOND
        {
            self.found.overtaken.push(format!("{} s: {} after {number}: {queue}", at / SECOND, person.number));
        }
    }

    /// A lane stands still when for half a minute nobody was told of a turn, entered, or was told why not.
    fn watch_standstill(&mut self) {
        for (class, told) in &self.found.told_no_reason {
            let accounted = self.found.accounted.get(class).copied().unwrap_or_default();
            let still = told.saturating_sub(accounted);
            if still > 30 * SECOND {
                self.found.longest_unexplained = self.found.longest_unexplained.max(still);
            }
        }
    }

    /// The portal takes no connection more and drops those it has, as it did at noon.
    async fn portal_fails(&mut self) {
        for page in PAGES {
            self.running.portal.script(page, [Script::new([Step::Close])]);
        }
        let address = self.running.portal.address;
        let elsewhere = FakePortal::start().await;
        drop(std::mem::replace(&mut self.running.portal, elsewhere));
        self.running.portal.address = address;
    }

    async fn portal_is_back(&mut self) {
        let address = self.running.portal.address;
        self.running.portal = FakePortal::on(address).await;
    }

    async fn operator_sets(&mut self, rate: f64) {
        self.running.reload(&room(rate)).await;
    }
}

impl Found {
    /// Entries of a class within a span.
    fn between(&self, class: Class, (from, to): (u64, u64)) -> usize {
        self.entries.get(&class).map_or(0, |entries| entries.iter().filter(|at| (from..to).contains(*at)).count())
    }

    /// By how many the entries exceed the rate, at worst over all spans; two ticks and the burst are allowed.
    fn worst_excess(&self) -> f64 {
        let mut all: Vec<u64> = self.entries.values().flatten().copied().collect();
        all.sort_unstable();
        let (mut lowest, mut worst) = (f64::MAX, f64::MIN);
        for (count, at) in all.iter().enumerate() {
            let ahead = count as f64 - RATE * *at as f64 / SECOND as f64;
            lowest = lowest.min(ahead);
            worst = worst.max(ahead + 1.0 - lowest - RATE * 0.2 - (1.0 + RATE * 0.1));
        }
        worst
    }
}

/// Whether something happened during the wait that nobody could foresee.
fn unforeseen(from: u64, to: u64) -> bool {
    let events = [(OUTAGE.0, OUTAGE.1 + RAMP), (HALVED.0, HALVED.0), (HALVED.1, HALVED.1)];
    events.iter().any(|(begins, ends)| from <= *ends && to >= *begins)
}

/// How many estimates were shown, how far their middles were from the waits that came (as a share, the median), and how
/// many of the waits were within the range: of waits of a minute and more in which nothing unforeseen happened.
fn truth(people: &[Person]) -> (usize, f64, f64) {
    let mut errors = Vec::new();
    let mut within = 0;
    for person in people {
        let Some(entered) = person.entered else { continue };
        for shown in person.shown.iter().filter(|shown| !unforeseen(shown.at, entered)) {
            let real = entered - shown.at;
            if real >= MINUTE {
                let middle = (shown.low + shown.high) as f64 / 2.0;
                errors.push((middle - real as f64).abs() / real as f64);
                within += usize::from((shown.low..=shown.high).contains(&real));
            }
        }
    }
    errors.sort_by(f64::total_cmp);
    (errors.len(), errors[errors.len() / 2], within as f64 / errors.len() as f64)
}

#[tokio::test]
async fn the_first_of_april_with_a_waiting_room() {
    let mut day = Day::new().await;
    day.until(OUTAGE.0).await;
    day.portal_fails().await;
    day.until(OUTAGE.1).await;
    day.portal_is_back().await;
    day.until(HALVED.0).await;
    day.operator_sets(RATE / 2.0).await;
    day.until(HALVED.1).await;
    day.operator_sets(RATE).await;
    day.until(END).await;

    let found = &day.found;
    let of = |span| (found.between(Class::Office, span), found.between(Class::Citizen, span));
    for (name, rate, span) in [
        ("the offices' hours", RATE, (0, CITIZENS_FROM)),
        ("the citizens' hours", RATE, (CITIZENS_FROM, OUTAGE.0)),
        ("the outage", 0.0, OUTAGE),
        ("afterwards, slowly for a minute", RATE, (OUTAGE.1, HALVED.0)),
        ("the rate halved", RATE / 2.0, HALVED),
        ("the rest", RATE, (HALVED.1, END)),
    ] {
        let (offices, citizens) = of(span);
        let most = rate * (span.1 - span.0) as f64 / SECOND as f64;
        println!("{name}: {offices} offices and {citizens} citizens entered; the rate allows {most:.0}");
    }
    let (count, error, within) = truth(&day.people);
    println!("{count} estimates: median error {:.1} %, {:.1} % within", error * 100.0, within * 100.0);
    println!("more than the rate: {:.1}; overtaken: {}", found.worst_excess(), found.overtaken.len());
    println!("longest stand-still without a reason: {} s", found.longest_unexplained / SECOND);
    println!("journeys broken: {}", found.broken.len());

    assert!(found.worst_excess() <= 0.0);
    assert!(found.overtaken.is_empty(), "{:?}", found.overtaken.first());
    assert!(found.broken.is_empty(), "{:?}", found.broken.first());
    assert_eq!(found.longest_unexplained, 0);
    assert!(error <= 0.10 && within >= 0.80);
    assert_eq!(of((0, CITIZENS_FROM)).1, 0, "no citizen enters in the offices' hours");
    let (offices, citizens) = of((CITIZENS_FROM + MINUTE, CITIZENS_FROM + 4 * MINUTE));
    assert!(offices.abs_diff(36) <= 2 && citizens.abs_diff(324) <= 3, "{offices} and {citizens}: not 10 to 90");
    assert_eq!(of((OUTAGE.0 + 10 * SECOND, OUTAGE.1)), (0, 0), "nobody enters while the portal is down");
}
