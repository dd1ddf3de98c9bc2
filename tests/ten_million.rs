//! A line of ten million: what it takes in memory, what a tick costs, how long it takes to say where somebody stands.
//!
//! Prints figures. The bounds are those the program promises, except that times are those that the thread worked;
//! the whole day (`ANTICAMERA_FULL=1`) walks through everybody present, most absent, and a million back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "uses a part of it")]
#[path = "support/process.rs"]
mod process;

use std::time::{Duration, Instant};

use anticamera::clock::Clock;
use anticamera::config;
use anticamera::domain::line::{Arrival, Asks, Conditions, Line, Standing, Terms};
use anticamera::domain::names::{ClassId, ClassName, RoomName};
use anticamera::domain::tickets::State;
use anticamera::domain::time::{Mono, Now, Unix};
use anticamera::store::{Fact, Script, Store, TicketRecord, TicketState};
use process::{Proxy, Setup};
use rustix::time::{ClockId, clock_gettime};

const CLASS: ClassId = ClassId(7);
const MANY: u64 = 10_000_000;
const TICK: u64 = 100_000_000;
const TERMS: fn() -> Terms = || Terms {
    rate: "5000/s".parse().unwrap(),
    claim_window: Duration::from_secs(1200),
    ticket_lifetime: Duration::from_secs(86_400),
    gate_wait: Duration::from_secs(5),
};

/// What this thread has worked so far. Not the clock on the wall: a test's machine does other things as well.
fn worked() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

struct Day {
    line: Line,
    at: u64,
    issued: u64,
    polled: u64,
    called: u64,
    entered: u64,
}

/// What ticks cost.
#[derive(Default)]
struct Costs(Vec<Duration>);

impl Costs {
    fn of(mut self, what: &str) -> Costs {
        self.0.sort_unstable();
        let percent = |percent: usize| self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)];
        println!(
            "{what}: {} ticks, median {:.2?}, p99 {:.2?}, worst {:.2?}",
            self.0.len(),
            percent(50),
            percent(99),
            percent(100)
        );
        self
    }

    /// Below ten milliseconds, even the worst.
    fn are_small(&self) {
        assert!(self.0[self.0.len() - 1] < Duration::from_millis(10));
    }
}

impl Day {
    fn begun(line: Line) -> Day {
        Day { line, at: 0, issued: 0, polled: 0, called: 0, entered: 0 }
    }

    fn now(&self) -> Now {
        let unix = Unix(1_600_000_000_000 + self.at / 1_000_000);
        Now { mono: Mono(self.at), unix, wall: unix }
    }

    fn join(&mut self, count: u64) {
        for number in self.issued + 1..=self.issued + count {
            self.line.join(CLASS, number, Asks::Scripted, self.now());
        }
        self.issued += count;
    }

    /// A tick and the entries after it. Half of those called come at once.
    fn tick(&mut self) -> Duration {
        self.at += TICK;
        let begun = worked();
        let tick = self.line.tick(self.now(), Conditions::FINE);
        let mut took = worked() - begun;
        for number in tick.moved.iter().flat_map(|(_, moved)| &moved.called) {
            self.called += 1;
            if number % 2 == 0 {
                assert_eq!(self.line.arrive(CLASS, *number, Mono(self.at)), Arrival::AtGate);
            }
        }
        let begun = worked();
        while self.line.enter_next(Mono(self.at)).is_some() {
            self.entered += 1;
        }
        took += worked() - begun;
        took
    }

    /// Ticks in which everybody for whom `polls` is true polls once a minute.
    fn run(&mut self, ticks: u64, polls: impl Fn(u64) -> bool) -> Costs {
        let mut costs = Costs::default();
        for _ in 0..ticks {
            for _ in 0..self.issued / 600 {
                self.polled = self.polled % self.issued + 1;
                if polls(self.polled) {
                    self.line.poll(CLASS, self.polled, Asks::Scripted, self.now());
                }
            }
            costs.0.push(self.tick());
        }
        costs
    }

    /// The median time to say where a ticket stands, in nanoseconds, for tickets all over the line.
    fn time_to_stand(&mut self, say: fn(&mut Line, u64, Now) -> Standing) -> u128 {
        const BATCH: u64 = 50;
        let mut batches: Vec<u128> = (0..1000)
            .map(|batch| {
                let now = self.now();
                let begun = worked();
                for n in batch * BATCH..(batch + 1) * BATCH {
                    let number = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.issued + 1;
                    let standing = say(&mut self.line, number, now);
                    assert!(!matches!(standing, Standing::Left | Standing::Unknown));
                }
                (worked() - begun).as_nanos() / u128::from(BATCH)
            })
            .collect();
        batches.sort_unstable();
        batches[batches.len() / 2]
    }

    fn times_to_stand(&mut self) -> (u128, u128) {
        let stand = |line: &mut Line, number, _| line.standing(CLASS, number, Asks::Scripted);
        let poll = |line: &mut Line, number, now| line.poll(CLASS, number, Asks::Scripted, now).0;
        (self.time_to_stand(stand), self.time_to_stand(poll))
    }
}

/// One after the other: they measure the memory of the process.
#[test]
fn ten_million_tickets() {
    a_line_of_ten_million();
    a_crowd_of_ghosts_in_front_holds_the_line_up_for_a_moment_only();
    a_restored_line_of_which_most_are_done_takes_hardly_any_memory();
}

fn a_line_of_ten_million() {
    let mut thousand = Day::begun(Line::new(TERMS(), Mono(0)));
    thousand.join(1000);
    let few = thousand.times_to_stand();
    drop(thousand);

    let empty = resident();
    let begun = worked();
    let mut day = Day::begun(Line::new(TERMS(), Mono(0)));
    day.join(MANY);
    println!("ten million joins: {:.2?}", (worked() - begun));
    let grown = resident() - empty;
    println!("resident memory: {} MiB more than an empty line", grown / 1024);
    assert!(grown <= 64 * 1024);
    let many = day.times_to_stand();
    println!("standing: median {} ns among ten million, {} ns among a thousand", many.0, few.0);
    println!("poll: median {} ns among ten million, {} ns among a thousand", many.1, few.1);
    assert!(many.0 < few.0 * 3 + 1000 && many.1 < few.1 * 3 + 1000);

    let full = std::env::var_os("ANTICAMERA_FULL").is_some();
    day.run(if full { 1000 } else { 50 }, |_| true).of("everybody present").are_small();
    if full {
        most_absent_and_a_million_back(&mut day);
    }
    println!("{} called, {} entered; {} MiB", day.called, day.entered, (resident() - empty) / 1024);
}

/// Nine in ten fall silent. For ten minutes that looks like a cut line; then they are absent and passed over.
fn most_absent_and_a_million_back(day: &mut Day) {
    day.run(7000, |number| number % 10 == 0).of("nine in ten fall silent").are_small();
    let serving = day.line.lane(CLASS).unwrap().now_serving();
    println!("{} of ten million are present; now serving {serving}", day.line.lane(CLASS).unwrap().waiting());
    day.run(1000, |number| number % 10 == 0 || number < serving).of("those passed over come back").are_small();
    day.run(2000, |number| number % 10 == 0).of("and go away again").are_small();
}

fn a_crowd_of_ghosts_in_front_holds_the_line_up_for_a_moment_only() {
    let mut day = Day::begun(Line::new(TERMS(), Mono(0)));
    day.join(5_000_000);
    // Nobody polls for longer than a cut line could explain.
    for _ in 0..7200 {
        day.at += TICK;
        let standstill = Some(anticamera::domain::line::Standstill::OperatorHold);
        day.line.tick(day.now(), Conditions { standstill, ..Conditions::FINE });
    }
    day.join(50_000);
    let costs = day.run(20, |number| number > 5_000_000).of("five million ghosts before fifty thousand present");
    costs.are_small();
    assert!(day.called > 5000, "{}", day.called);
}

fn a_restored_line_of_which_most_are_done_takes_hardly_any_memory() {
    let empty = resident();
    let mut day = Day::begun(Line::taken_up(TERMS(), Mono(0)));
    day.line.restore_done(CLASS, MANY - 4096, day.now());
    for number in MANY - 4095..=MANY {
        day.line.restore(CLASS, number, State::Waiting, Asks::Scripted, day.now());
    }
    day.line.restore_in_doubt(CLASS, MANY + 1..=MANY + 64, day.now());
    day.line.lifted(CLASS, MANY + 64, day.now());
    println!("restored, {} KiB more", resident().saturating_sub(empty));
    assert_eq!(day.line.lane(CLASS).unwrap().waiting(), 4096);
    assert_eq!(day.line.standing(CLASS, 5, Asks::Scripted), Standing::Unknown);
}

/// A state file with ten million tickets, of which `forgotten` are done with and all others wait.
async fn state_of_ten_million(forgotten: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let settings = config::Store::Embedded { path: directory.path().to_owned() };
    let store = Store::open(&settings, Clock::system(), Box::new(|_, _| {})).await.unwrap();
    let (room, class) = (RoomName::new("r").unwrap(), ClassName::citizen().id());
    store.open_line(&room, 1).await.unwrap();
    store.lift(&room, class, MANY).await.unwrap();
    let record = TicketRecord { state: TicketState::Waiting, script: Script::Runs };
    for number in 1..=MANY {
        store.record(&room, Fact::Ticket { class, number, record });
    }
    store.flush().await.unwrap();
    if forgotten > 0 {
        store.record(&room, Fact::Forget { class, through: forgotten });
    }
    store.close().await.unwrap();
    directory
}

/// Starts the program on that state; says how long that took and what it holds in memory, in KiB.
#[expect(clippy::disallowed_methods, reason = "it is real time that is told")]
fn taken_up(state: &tempfile::TempDir) -> (Duration, u64, u64) {
    let begun = Instant::now();
    let portal = "127.0.0.1:9".parse().unwrap();
    let setup = Setup { rate: "1/s", ..Setup::in_front_of(&[portal]) };
    let proxy = Proxy::start(&format!("{}\n[store]\npath = \"{}\"\n", setup.text(), state.path().display()));
    let took = begun.elapsed();
    let memory = proxy.memory();
    (took, memory.now >> 10, memory.peak >> 10)
}

#[tokio::test]
async fn a_state_file_of_ten_million_is_taken_up_in_little_memory() {
    let nothing = tempfile::tempdir().unwrap();
    let (_, empty, _) = taken_up(&nothing);
    for (what, forgotten, most_mib) in [("all waiting", 0, 64), ("nearly all done with", MANY - MANY % 4096, 8)] {
        let state = state_of_ten_million(forgotten).await;
        let (took, now, peak) = taken_up(&state);
        let more = now.saturating_sub(empty);
        println!("{what}: serves after {took:.2?}, {more} KiB more than an empty room (at most {peak} KiB on the way)");
        assert!(more <= most_mib * 1024, "{more} KiB");
    }
}
