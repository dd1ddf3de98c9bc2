//! The first of April 2020 once more, in compressed time and with a waiting room in front: the whole program, a portal
//! that fails and slows down, intermediaries in their hours and citizens in theirs, ghosts, people who come back, an operator who halves
//! the rate.
//!
//! A minute stands for an hour of that day, and a visitor for a hundred. The test prints what each class got, whether
//! anybody who stayed was overtaken, how true the shown waits were, how long a line stood still without saying why, and
//! how many journeys were broken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anticamera::clock::ManualClock;
use anticamera::domain::time::Unix;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::app::{Answer, Running, Setup, Visitor, Wire, number_of, own, room_of};
use crate::support::portal::{FakePortal, Script, Step};
use crate::support::random::Random;

/// Wednesday, the 1st of April 2020, 07:56 in Rome.
const BEGINNING: Unix = Unix(1_585_720_560_000);
const STEP: Duration = Duration::from_millis(100);
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// Counted from the beginning: the offices' hours end and the citizens' begin.
const CITIZENS_FROM: u64 = 12 * MINUTE;
const OUTAGE: (u64, u64) = (17 * MINUTE, 19 * MINUTE);
const HALVED: (u64, u64) = (25 * MINUTE, 28 * MINUTE);
/// The portal bears less than usual: it takes longer the more it is asked, as the real one did.
const SLOW: (u64, u64) = (29 * MINUTE, 36 * MINUTE);
const END: u64 = 39 * MINUTE;
/// For so long after an outage the rate is raised slowly.
const RAMP: u64 = MINUTE;

const RATE: f64 = 2.0;
/// What is asked of the portal per second at which it is overwhelmed while it is slow; in an hour like any other it is twice that.
const BEARS: f64 = 7.0;
/// How long it takes when hardly anybody asks, and at the most, in milliseconds.
const TAKES: (f64, f64) = (150.0, 4000.0);
/// The time within which 95 of 100 answers are to begin, in milliseconds.
const WANTED: f64 = 800.0;
const FLOOR: f64 = 0.5;
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
    room_of(&format!("{rate}/s"))
        .with(
            "time_zone = \"Europe/Rome\"\njoins_per_client = \"unlimited\"\n\
        adaptive = { floor = \"30/min\", target_p95 = \"800ms\" }",
        )
        .with_more(DAY)
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

impl Act {
    /// The answer to a poll may be held until there is news, whoever enters may be held at the gate, and the portal takes
    /// its time.
    fn is_answered_at_once(self) -> bool {
        matches!(self, Act::Join)
    }
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

struct Day {
    running: Running,
    at: u64,
    people: Vec<Person>,
    plans: BinaryHeap<Reverse<(u64, usize, Act)>>,
    answers: (mpsc::UnboundedSender<Heard>, mpsc::UnboundedReceiver<Heard>),
    /// How many ask for what is answered at once, and have no answer yet.
    soon_answered: usize,
    random: Random,
    bystander: Wire,
    /// When the portal was asked for something lately, and how long it takes now.
    asked_of_portal: VecDeque<u64>,
    takes: Arc<AtomicU64>,
    found: Found,
}

type Heard = (usize, Act, Answer);

/// How many may enter per second, how long the portal takes, in milliseconds, and how many have entered so far.
#[derive(Clone, Copy, Debug)]
struct Pace {
    at: u64,
    rate: f64,
    takes: f64,
    entered: f64,
}

#[derive(Default)]
struct Found {
    paces: Vec<Pace>,
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
            soon_answered: 0,
            random: Random(0x2545_F491_4F6C_DD1D),
            bystander,
            asked_of_portal: VecDeque::new(),
            takes: Arc::default(),
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
            self.portal_tires();
        }
    }

    /// The one request thread answers in the order in which it is woken: once nothing has reached the portal or a visitor
    /// during a few answers of its own to a bystander, and whoever joined has a ticket, what the step set off has been
    /// done. On a slow machine what is late would be taken for something of the next step.
    async fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 || self.soon_answered > 0 {
            let before = self.running.portal.asked();
            self.running.visitor().request("GET", "/.waiting-room/health").on(&mut self.bystander).await;
            let mut is_quiet = self.running.portal.asked() == before;
            while let Ok((who, act, answer)) = self.answers.1.try_recv() {
                self.hear(who, act, &answer);
                is_quiet = false;
            }
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }

    fn plan(&mut self, who: usize, seconds: f64, act: Act) {
        self.plans.push(Reverse((self.at + (seconds * 1000.0) as u64, who, act)));
    }

    fn act(&mut self, who: usize, act: Act) {
        if act == Act::Poll && self.people[who].patience.is_some_and(|until| self.at > until) {
            return self.goes_away(who);
        }
        if matches!(act, Act::Page(_)) {
            self.asked_of_portal.push_back(self.at);
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
        self.soon_answered += usize::from(act.is_answered_at_once());
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
        self.soon_answered -= usize::from(act.is_answered_at_once());
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
        self.asked_of_portal.push_back(self.at);
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

    /// From now on answers take as long as [`Day::portal_tires`] says.
    fn portal_slows(&mut self) {
        for page in PAGES {
            let takes = Step::Takes(self.running.clock.clone(), self.takes.clone());
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec();
            self.running.portal.script(page, [Script::new([takes, Step::Send(answer)])]);
        }
    }

    /// The more was asked in the last ten seconds, the longer the portal takes; while it is well, no time to speak of.
    fn portal_tires(&mut self) {
        while self.asked_of_portal.front().is_some_and(|at| at + 10 * SECOND < self.at) {
            self.asked_of_portal.pop_front();
        }
        let bears = if (SLOW.0..SLOW.1).contains(&self.at) { BEARS } else { 2.0 * BEARS };
        let busy = self.asked_of_portal.len() as f64 / 10.0 / bears;
        let millis = if busy < 1.0 { (TAKES.0 / (1.0 - busy)).min(TAKES.1) } else { TAKES.1 };
        self.takes.store(millis as u64, Ordering::SeqCst);
        if self.at >= SLOW.0 && self.at.is_multiple_of(SECOND) {
            let rate = self.running.metric("admission_rate{room=\"fair\"}");
            let of = |class| self.running.metric(&format!("admissions_total{{class=\"{class}\",room=\"fair\"}}"));
            let entered = of("office") + of("citizen");
            self.found.paces.push(Pace { at: self.at, rate, takes: millis, entered });
        }
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

    fn paces_between(&self, (from, to): (u64, u64)) -> Vec<Pace> {
        self.paces.iter().filter(|pace| (from..to).contains(&pace.at)).copied().collect()
    }

    /// By how many thousandths of an entry the entries exceed the rate, at worst over all spans; two ticks and the burst are
    /// allowed. While the portal is slow its answers do not tell when somebody entered: the program's own count does.
    fn worst_excess(&self) -> i64 {
        let mut all: Vec<u64> = self.entries.values().flatten().copied().filter(|at| *at < SLOW.0).collect();
        all.sort_unstable();
        let heard = all.iter().enumerate().map(|(count, at)| (count as i64, count as i64 + 1, *at));
        let counted = self.paces.iter().map(|pace| (pace.entered as i64, pace.entered as i64, pace.at));
        worst_of(heard).max(worst_of(counted))
    }
}

/// By how many thousandths of an entry a course exceeds the rate at worst: how many had entered before each moment and after
/// it, and when it was. In whole numbers, for a course may stand exactly at its limit.
fn worst_of(course: impl Iterator<Item = (i64, i64, u64)>) -> i64 {
    const SPARE: i64 = (1000.0 * (RATE * 0.2 + 1.0 + RATE * 0.1)) as i64;
    let (mut lowest, mut worst) = (i64::MAX, i64::MIN);
    for (before, after, at) in course {
        let allowed = RATE as i64 * at as i64;
        lowest = lowest.min(1000 * before - allowed);
        worst = worst.max(1000 * after - allowed - lowest - SPARE);
    }
    worst
}

/// Whether something happened during the wait that nobody could foresee.
fn unforeseen(from: u64, to: u64) -> bool {
    let events = [(OUTAGE.0, OUTAGE.1 + RAMP), (HALVED.0, HALVED.0), (HALVED.1, HALVED.1), (SLOW.0, END)];
    events.iter().any(|(begins, ends)| from <= *ends && to >= *begins)
}

/// How often a course turns round by more than a tenth of what it comes from: a swing there and back is two turns.
fn turns(course: &[f64]) -> usize {
    let Some(first) = course.first() else { return 0 };
    let (mut lowest, mut highest, mut rises, mut turns) = (*first, *first, None, 0);
    for now in course {
        (lowest, highest) = (lowest.min(*now), highest.max(*now));
        let turned = match rises {
            Some(true) | None if *now < highest * 0.9 => Some(false),
            Some(false) | None if *now > lowest * 1.1 => Some(true),
            _ => None,
        };
        if let Some(direction) = turned {
            turns += usize::from(rises.is_some());
            rises = Some(direction);
            (lowest, highest) = (*now, *now);
        }
    }
    turns
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
    day.until(SLOW.0).await;
    day.portal_slows();
    day.until(END).await;

    let found = &day.found;
    let of = |span| (found.between(Class::Office, span), found.between(Class::Citizen, span));
    for (name, rate, span) in [
        ("the offices' hours", RATE, (0, CITIZENS_FROM)),
        ("the citizens' hours", RATE, (CITIZENS_FROM, OUTAGE.0)),
        ("the outage", 0.0, OUTAGE),
        ("afterwards, slowly for a minute", RATE, (OUTAGE.1, HALVED.0)),
        ("the rate halved", RATE / 2.0, HALVED),
        ("the portal is slow", RATE, SLOW),
        ("the rest", RATE, (SLOW.1, END)),
    ] {
        let (offices, citizens) = of(span);
        let most = rate * (span.1 - span.0) as f64 / SECOND as f64;
        println!("{name}: {offices} offices and {citizens} citizens entered; the rate allows {most:.0}");
    }
    let (count, error, within) = truth(&day.people);
    println!("{count} estimates: median error {:.1} %, {:.1} % within", error * 100.0, within * 100.0);
    println!("more than the rate: {} thousandths; overtaken: {}", found.worst_excess(), found.overtaken.len());
    println!("longest stand-still without a reason: {} s", found.longest_unexplained / SECOND);
    println!("journeys broken: {}", found.broken.len());

    let slow = found.paces_between(SLOW);
    let rates: Vec<f64> = slow.iter().map(|pace| pace.rate).collect();
    for pace in slow.iter().step_by(30) {
        println!("slow for {} s: {:.2}/s enter, {:.0} ms", (pace.at - SLOW.0) / SECOND, pace.rate, pace.takes);
    }
    let settled = found.paces_between((SLOW.0 + 4 * MINUTE, SLOW.1));
    let most = settled.iter().map(|pace| pace.rate).fold(0.0, f64::max);
    let least = settled.iter().map(|pace| pace.rate).fold(f64::MAX, f64::min);
    let takes = settled.iter().map(|pace| pace.takes).sum::<f64>() / settled.len() as f64;
    let recovered = found.paces_between((SLOW.1, END)).iter().position(|pace| pace.rate >= RATE * 0.95);
    println!(
        "settled between {least:.2} and {most:.2} entries a second at {takes:.0} ms on average (wanted: {WANTED:.0})"
    );
    println!("the rate turned round {} times; the whole again after {recovered:?} s", turns(&rates));

    assert!(slow.iter().all(|pace| pace.rate >= FLOOR * 0.99), "never below the floor");
    assert!(slow.iter().any(|pace| pace.rate < RATE * 0.8), "lowered while the portal is slow");
    assert!(most <= least * 1.3 && turns(&rates) <= 6, "smooth: {rates:?}");
    assert!(takes <= WANTED * 1.5 && recovered.is_some(), "{takes} {recovered:?}");
    assert!(found.worst_excess() <= 0, "{} thousandths of an entry", found.worst_excess());
    assert!(found.overtaken.is_empty(), "{:?}", found.overtaken.first());
    assert!(found.broken.is_empty(), "{:?}", found.broken.first());
    assert_eq!(found.longest_unexplained, 0);
    assert!(error <= 0.10 && within >= 0.80);
    assert_eq!(of((0, CITIZENS_FROM)).1, 0, "no citizen enters in the offices' hours");
    let (offices, citizens) = of((CITIZENS_FROM + MINUTE, CITIZENS_FROM + 4 * MINUTE));
    assert!(offices.abs_diff(36) <= 2 && citizens.abs_diff(324) <= 3, "{offices} and {citizens}: not 10 to 90");
    assert_eq!(of((OUTAGE.0 + 10 * SECOND, OUTAGE.1)), (0, 0), "nobody enters while the portal is down");
}
