//! When blocked answers stop the admissions of a room: a portal (or a cache behind us) that hands out other people's
//! pages should not be sent more people.
//!
//! One visitor counts once however much happens to them, and several visitors must come from several networks ([sites]
//! that may be in one hand), so that nobody can close a room alone, or keep it closed.
//!
//! [sites]: ClientSite

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::WHOLE;
use super::client::ClientSite;
use super::leak_detectors::Who;
use super::time::{Mono, Now, Unix};

/// Visitors remembered at most; more than any threshold needs.
const MOST: usize = 1024;

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Visitors concerned.
    pub visitors: usize,
    /// Networks they come from.
    pub networks: usize,
    /// Within this time.
    pub within: Duration,
    /// After so long without a block, admissions begin again.
    pub quiet: Duration,
    /// How long the rate then takes to climb from a tenth to the whole.
    pub ramp: Duration,
}

/// The breaker of one room.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// Lately; while admissions are stopped, since then.
    concerned: Vec<Concerned>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct Concerned {
    who: Who,
    at: Mono,
}

impl Concerned {
    /// Whether a block that concerns `who` concerns the same visitor: by the pass, or, without one, by the network.
    fn is(&self, who: Who) -> bool {
        match (self.who.visitor, who.visitor) {
            (None, None) => self.site() == who.network.site(),
            (one, other) => one == other,
        }
    }

    fn site(&self) -> ClientSite {
        self.who.network.site()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// Admissions stopped; time alone makes them begin again.
    Open { last_block: Mono },
    /// They had begun again when there was another block.
    Reopened { since: Mono },
}

/// What a node tells of a block, to the others and to itself after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockNote {
    who: Who,
    /// When it was.
    pub at: Unix,
    /// The block that keeps admissions stopped, if they are.
    last_block: Option<Unix>,
}

/// What the breaker says about admissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admissions {
    /// They go on.
    Go,
    /// Nobody enters.
    Stopped,
    /// They begin again, at so many thousandths of the rate.
    Climbing(u32),
}

impl Admissions {
    /// What holds when both must be obeyed.
    pub fn and(self, other: Admissions) -> Admissions {
        match (self, other) {
            (Admissions::Stopped, _) | (_, Admissions::Stopped) => Admissions::Stopped,
            (Admissions::Climbing(one), Admissions::Climbing(other)) => Admissions::Climbing(one.min(other)),
            (Admissions::Climbing(part), Admissions::Go) | (Admissions::Go, Admissions::Climbing(part)) => {
                Admissions::Climbing(part)
            }
            (Admissions::Go, Admissions::Go) => Admissions::Go,
        }
    }
}

/// What is worth saying when admissions change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// They had stopped and begin again, below the whole rate.
    BeginAgain,
    /// They had stopped, or were climbing, and are at the whole rate.
    WholeRate,
}

impl News {
    /// What is new when `now` follows `before`. That they stop is said by whoever stops them.
    pub fn between(before: Admissions, now: Admissions) -> Option<News> {
        match (before, now) {
            (Admissions::Stopped, Admissions::Climbing(_)) => Some(News::BeginAgain),
            (Admissions::Stopped | Admissions::Climbing(_), Admissions::Go) => Some(News::WholeRate),
            _ => None,
        }
    }
}

/// Whether a block was the one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tripped {
    /// It was: admissions stop now.
    Now,
    /// It was not, or they had stopped before.
    No,
}

impl Breaker {
    /// Notes that a visitor's answer was blocked.
    pub fn note_block(&mut self, who: Who, terms: &Terms, now: Mono) -> Tripped {
        if let State::Open { last_block } = self.state
            && now.since(last_block) >= terms.quiet
        {
            self.state = State::Reopened { since: last_block + terms.quiet };
            self.concerned.clear();
        }
        if let State::Open { last_block } = self.state {
            let is_new =
                !self.concerned.iter().any(|concerned| concerned.is(who) || concerned.site() == who.network.site());
            self.remember(who, now);
            // Nobody's second block keeps admissions stopped, nor does one with a second pass; those of several networks
            // within the time do.
            if is_new || self.goes_on(last_block, terms, now) {
                self.state = State::Open { last_block: now };
            }
            return Tripped::No;
        }
        self.concerned.retain(|concerned| now.since(concerned.at) < terms.within);
        self.remember(who, now);
        if !self.is_enough(terms) {
            return Tripped::No;
        }
        self.state = State::Open { last_block: now };
        Tripped::Now
    }

    /// What is to be told of a block that was just noted.
    pub fn tell(&self, who: Who, now: Now) -> BlockNote {
        let last_block = match self.state {
            State::Open { last_block } => Some(now.unix_of(last_block)),
            State::Closed | State::Reopened { .. } => None,
        };
        BlockNote { who, at: now.unix, last_block }
    }

    /// Takes up what was told of a block: it counts as if it had been here, and where admissions stopped there they stop
    /// here. What is over is not taken up.
    pub fn hear(&mut self, note: &BlockNote, terms: &Terms, now: Now) -> Tripped {
        let mut tripped = Tripped::No;
        if now.unix.since(note.at) < terms.within {
            tripped = self.note_block(note.who, terms, now.mono_of(note.at));
        }
        let Some(last) = note.last_block.filter(|last| now.unix.since(*last) < terms.quiet) else { return tripped };
        let last = now.mono_of(last);
        match self.state {
            State::Open { last_block } => self.state = State::Open { last_block: last_block.max(last) },
            State::Closed | State::Reopened { .. } => {
                self.state = State::Open { last_block: last };
                tripped = Tripped::Now;
            }
        }
        tripped
    }

    /// Whether the blocks do not end: since the one that counted last they concern one network more than it takes to stop.
    /// The networks are known by now, so that passes prove nothing any more: anybody there can take new ones.
    fn goes_on(&self, last_block: Mono, terms: &Terms, now: Mono) -> bool {
        let lately = |concerned: &&Concerned| concerned.at > last_block && now.since(concerned.at) < terms.within;
        networks(self.concerned.iter().filter(lately)) > terms.networks
    }

    /// The latest comes last; beyond the bound the one not seen for longest is forgotten.
    fn remember(&mut self, who: Who, now: Mono) {
        self.concerned.retain(|concerned| !concerned.is(who));
        if self.concerned.len() >= MOST {
            self.concerned.remove(0);
        }
        self.concerned.push(Concerned { who, at: now });
    }

    /// What holds now; after long enough without a block admissions begin again. Asking changes nothing.
    pub fn admissions(&self, terms: &Terms, now: Mono) -> Admissions {
        let since = match self.state {
            State::Closed => return Admissions::Go,
            State::Open { last_block } if now.since(last_block) < terms.quiet => return Admissions::Stopped,
            State::Open { last_block } => last_block + terms.quiet,
            State::Reopened { since } => since,
        };
        let climbing = now.since(since);
        if climbing < terms.ramp { Admissions::Climbing(climbed(climbing, terms.ramp)) } else { Admissions::Go }
    }

    /// Lets visitors in again at once, whatever had happened by `at`. What happened since counts: admissions stay stopped if
    /// that alone is enough for it.
    pub fn reset(&mut self, at: Mono, terms: &Terms) {
        self.concerned.retain(|concerned| concerned.at > at);
        let is_over = match self.state {
            State::Open { .. } => !self.is_enough(terms),
            State::Reopened { since } => since <= at,
            State::Closed => true,
        };
        if is_over {
            self.state = State::Closed;
        }
    }

    /// Whether those concerned are so many that admissions stop.
    fn is_enough(&self, terms: &Terms) -> bool {
        visitors(self.concerned.iter()) >= terms.visitors && networks(self.concerned.iter()) >= terms.networks
    }
}

impl BlockNote {
    /// The same as it counts after an operator's reset at that time; nothing if that undid it. Who tells that admissions
    /// are stopped, and had not heard of that reset (`knew` is the last one it had heard of), may be wrong: the blocks themselves count, of which all are
    /// told.
    pub fn after_reset(self, at: Unix, knew: Unix) -> Option<BlockNote> {
        let last_block = self.last_block.filter(|_| knew >= at);
        (self.at > at).then_some(BlockNote { last_block, ..self })
    }
}

/// Visitors among these: passes, and networks of those who had none.
fn visitors<'a>(concerned: impl Iterator<Item = &'a Concerned> + Clone) -> usize {
    let passes = concerned.clone().filter(|concerned| concerned.who.visitor.is_some()).count();
    passes + networks(concerned.filter(|concerned| concerned.who.visitor.is_none()))
}

/// Client networks of these. A browser with addresses of both families uses now one, now the other: the families are
/// not added up.
fn networks<'a>(concerned: impl Iterator<Item = &'a Concerned>) -> usize {
    let mut networks: Vec<ClientSite> = concerned.map(Concerned::site).collect();
    networks.sort_unstable();
    networks.dedup();
    let of_ipv4 = networks.iter().filter(|network| network.is_ipv4()).count();
    of_ipv4.max(networks.len() - of_ipv4)
}

/// Thousandths of the rate, from a tenth to the whole.
fn climbed(since: Duration, ramp: Duration) -> u32 {
    let part = since.as_secs_f64() / ramp.as_secs_f64();
    WHOLE / 10 + (f64::from(WHOLE - WHOLE / 10) * part) as u32
}

#[cfg(test)]
mod tests {
    use super::super::client::ClientPrefix;
    use super::super::leak_detectors::VisitorKey;
    use super::*;

    const TERMS: Terms = Terms {
        visitors: 3,
        networks: 2,
        within: Duration::from_secs(60),
        quiet: Duration::from_secs(600),
        ramp: Duration::from_secs(60),
    };

    fn network(last: u8) -> ClientPrefix {
        ClientPrefix::of([192, 0, last, 1].into())
    }

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    fn block(breaker: &mut Breaker, visitor: u8, last: u8, second: u64) -> Tripped {
        let who = Who { visitor: Some(VisitorKey([visitor; 16])), network: network(last) };
        breaker.note_block(who, &TERMS, at(second))
    }

    fn from(visitor: Option<u8>, address: &str) -> Who {
        let address: std::net::IpAddr = address.parse().unwrap();
        Who { visitor: visitor.map(|visitor| VisitorKey([visitor; 16])), network: ClientPrefix::of(address) }
    }

    #[test]
    fn three_visitors_from_two_networks_stop_admissions() {
        let mut breaker = Breaker::default();
        assert_eq!(block(&mut breaker, 1, 1, 0), Tripped::No);
        assert_eq!(block(&mut breaker, 2, 1, 1), Tripped::No);
        assert_eq!(block(&mut breaker, 3, 2, 2), Tripped::Now);
        assert_eq!(block(&mut breaker, 4, 2, 3), Tripped::No, "it is open already");
        assert_eq!(breaker.admissions(&TERMS, at(3)), Admissions::Stopped);
    }

    #[test]
    fn nobody_closes_a_room_alone() {
        let mut breaker = Breaker::default();
        for second in 0..50 {
            assert_eq!(block(&mut breaker, 1, (second % 5) as u8, second), Tripped::No, "one visitor on many networks");
        }
        let mut breaker = Breaker::default();
        for visitor in 0..50 {
            assert_eq!(block(&mut breaker, visitor, 1, 1), Tripped::No, "many visitors on one network");
        }
    }

    #[test]
    fn one_person_with_addresses_of_both_families_is_one() {
        let mut breaker = Breaker::default();
        for address in ["192.0.2.1", "2001:db8::1", "192.0.2.1"] {
            assert_eq!(breaker.note_block(from(None, address), &TERMS, at(1)), Tripped::No);
        }
        // Three browsers on one line, each on both families.
        let mut breaker = Breaker::default();
        for visitor in 1..4 {
            for address in ["192.0.2.1", "2001:db8::1"] {
                assert_eq!(breaker.note_block(from(Some(visitor), address), &TERMS, at(1)), Tripped::No);
            }
        }
        assert_eq!(breaker.note_block(from(Some(4), "2001:db8:7::1"), &TERMS, at(2)), Tripped::Now);
    }

    #[test]
    fn the_networks_of_one_site_are_one() {
        for site in ["2001:db8:1:{}00::1", "192.0.2.{}"] {
            let mut breaker = Breaker::default();
            for number in 1..9 {
                let address = site.replace("{}", &number.to_string());
                assert_eq!(breaker.note_block(from(Some(number), &address), &TERMS, at(1)), Tripped::No, "{address}");
                assert_eq!(breaker.note_block(from(None, &address), &TERMS, at(1)), Tripped::No, "{address}");
            }
        }
    }

    #[test]
    fn nobody_keeps_a_room_closed_alone() {
        let mut breaker = Breaker::default();
        (1..4).for_each(|visitor| {
            block(&mut breaker, visitor, visitor, 0);
        });
        for second in (0..600).step_by(30) {
            // One of them, and somebody who takes a new pass each time.
            block(&mut breaker, 1, 1, second);
            block(&mut breaker, 4 + (second / 30) as u8, 2, second);
        }
        assert_eq!(breaker.admissions(&TERMS, at(599)), Admissions::Stopped);
        assert_eq!(breaker.admissions(&TERMS, at(600)), Admissions::Climbing(100));
        for second in (600..1300).step_by(30) {
            assert_eq!(block(&mut breaker, (second / 30) as u8, 1, second), Tripped::No);
        }
    }

    #[test]
    fn a_leak_that_goes_on_among_the_same_networks_keeps_a_room_closed() {
        let mut breaker = Breaker::default();
        for second in 0..1200 {
            block(&mut breaker, (second % 5) as u8, (second % 5) as u8, second);
        }
        assert_eq!(breaker.admissions(&TERMS, at(1700)), Admissions::Stopped);
        assert!(matches!(breaker.admissions(&TERMS, at(1799)), Admissions::Climbing(_)), "until it ends");
    }

    #[test]
    fn visitors_without_a_pass_count_by_their_network() {
        let mut breaker = Breaker::default();
        for last in 1..3 {
            assert_eq!(breaker.note_block(from(None, &format!("192.0.{last}.1")), &TERMS, at(1)), Tripped::No);
        }
        assert_eq!(breaker.note_block(from(None, "192.0.2.9"), &TERMS, at(2)), Tripped::No, "one of them again");
        assert_eq!(breaker.note_block(from(None, "192.0.3.3"), &TERMS, at(3)), Tripped::Now);
    }

    #[test]
    fn asking_changes_nothing() {
        let mut breaker = Breaker::default();
        (1..4).for_each(|visitor| {
            block(&mut breaker, visitor, visitor, 0);
        });
        let without_ramp = Terms { ramp: Duration::ZERO, ..TERMS };
        assert_eq!(breaker.admissions(&without_ramp, at(630)), Admissions::Go);
        assert_eq!(breaker.admissions(&TERMS, at(630)), Admissions::Climbing(550), "nobody's question ends the climb");
        assert_eq!(breaker.admissions(&TERMS, at(599)), Admissions::Stopped);
    }

    #[test]
    fn a_block_during_the_climb_counts_anew() {
        let mut breaker = Breaker::default();
        (1..4).for_each(|visitor| {
            block(&mut breaker, visitor, visitor, 0);
        });
        assert_eq!(block(&mut breaker, 1, 1, 630), Tripped::No);
        assert_eq!(breaker.admissions(&TERMS, at(630)), Admissions::Climbing(550), "the climb goes on");
        assert_eq!(block(&mut breaker, 2, 2, 631), Tripped::No);
        assert_eq!(block(&mut breaker, 3, 3, 632), Tripped::Now);
        assert_eq!(breaker.admissions(&TERMS, at(632)), Admissions::Stopped);
    }

    #[test]
    fn blocks_long_ago_do_not_count() {
        let mut breaker = Breaker::default();
        block(&mut breaker, 1, 1, 0);
        block(&mut breaker, 2, 2, 30);
        assert_eq!(block(&mut breaker, 3, 3, 61), Tripped::No);
    }

    #[test]
    fn admissions_begin_again_at_a_tenth_after_ten_quiet_minutes() {
        let mut breaker = Breaker::default();
        (1..4).for_each(|visitor| {
            block(&mut breaker, visitor, visitor, 0);
        });
        block(&mut breaker, 9, 9, 300);
        assert_eq!(breaker.admissions(&TERMS, at(899)), Admissions::Stopped, "the last block was at 300 s");
        assert_eq!(breaker.admissions(&TERMS, at(900)), Admissions::Climbing(100));
        assert_eq!(breaker.admissions(&TERMS, at(930)), Admissions::Climbing(550));
        assert_eq!(breaker.admissions(&TERMS, at(960)), Admissions::Go);
    }

    #[test]
    fn it_is_said_once_that_admissions_begin_again() {
        let course = [
            Admissions::Go,
            Admissions::Stopped,
            Admissions::Stopped,
            Admissions::Climbing(100),
            Admissions::Climbing(550),
            Admissions::Go,
            Admissions::Go,
        ];
        let news: Vec<News> =
            course.windows(2).filter_map(|pair| News::between(*pair.first()?, *pair.last()?)).collect();
        assert_eq!(news, [News::BeginAgain, News::WholeRate]);
        assert_eq!(News::between(Admissions::Stopped, Admissions::Go), Some(News::WholeRate));
    }

    fn present(second: u64) -> Now {
        Now { mono: at(second), unix: Unix((1_000_000 + second) * 1000), ..Now::default() }
    }

    #[test]
    fn blocks_at_several_nodes_count_together() {
        let mut nodes = [Breaker::default(), Breaker::default()];
        for visitor in 1..4_u8 {
            let who = Who { visitor: Some(VisitorKey([visitor; 16])), network: network(visitor) };
            let now = present(u64::from(visitor));
            let [one, other] = &mut nodes;
            let (here, there) = if visitor == 2 { (other, one) } else { (one, other) };
            here.note_block(who, &TERMS, now.mono);
            let note = here.tell(who, now);
            let tripped = there.hear(&note, &TERMS, now);
            assert_eq!(tripped == Tripped::Now, visitor == 3);
        }
        for node in nodes {
            assert_eq!(node.admissions(&TERMS, at(3)), Admissions::Stopped);
        }
    }

    #[test]
    fn a_stop_outlives_a_restart_and_what_is_over_does_not() {
        let mut before = Breaker::default();
        (1..4).for_each(|visitor| {
            block(&mut before, visitor, visitor, 0);
        });
        let last = from(Some(3), "192.0.3.1");
        let note = before.tell(last, present(0));
        let anew = |seconds: u64| Now { mono: Mono(0), ..present(seconds) };
        let mut after = Breaker::default();
        assert_eq!(after.hear(&note, &TERMS, anew(300)), Tripped::Now);
        assert_eq!(after.admissions(&TERMS, at(1)), Admissions::Stopped);
        let mut late = Breaker::default();
        assert_eq!(late.hear(&note, &TERMS, anew(601)), Tripped::No);
        assert_eq!(late.admissions(&TERMS, at(1)), Admissions::Go);
    }

    #[test]
    fn blocks_before_a_restart_do_not_all_become_blocks_at_the_start() {
        let mut breaker = Breaker::default();
        for visitor in 1..9_u8 {
            let who = from(Some(visitor), &format!("192.0.{visitor}.1"));
            let note = Breaker::default().tell(who, present(100 * u64::from(visitor)));
            breaker.hear(&note, &TERMS, Now { mono: Mono(0), ..present(900) });
        }
        assert_eq!(breaker.admissions(&TERMS, at(0)), Admissions::Go);
    }

    #[test]
    fn an_operator_resets_it_at_once() {
        let mut breaker = Breaker::default();
        (1..4).for_each(|visitor| {
            block(&mut breaker, visitor, visitor, 0);
        });
        breaker.reset(at(1), &TERMS);
        assert_eq!(breaker.admissions(&TERMS, at(1)), Admissions::Go);
        assert_eq!(block(&mut breaker, 1, 1, 2), Tripped::No, "what led to it is forgotten, too");
    }

    #[test]
    fn a_reset_that_is_heard_late_undoes_nothing_that_came_after_it() {
        let stopped_by = |seconds: [u64; 3]| {
            let mut breaker = Breaker::default();
            for (visitor, second) in (1..4).zip(seconds) {
                block(&mut breaker, visitor, visitor, second);
            }
            assert_eq!(breaker.admissions(&TERMS, at(20)), Admissions::Stopped);
            breaker.reset(at(10), &TERMS);
            breaker.admissions(&TERMS, at(20))
        };
        assert_eq!(stopped_by([11, 12, 13]), Admissions::Stopped);
        assert_eq!(stopped_by([9, 12, 13]), Admissions::Go, "two were not enough");
        assert_eq!(stopped_by([8, 9, 10]), Admissions::Go);
    }

    #[test]
    fn who_has_not_heard_of_a_reset_undoes_it_nowhere() {
        let [mut reset, mut late] = [Breaker::default(), Breaker::default()];
        (1..4).for_each(|visitor| {
            block(&mut reset, visitor, visitor, 8);
            block(&mut late, visitor, visitor, 8);
        });
        let resets = present(10);
        reset.reset(resets.mono, &TERMS);
        let now = present(11);
        let who = from(Some(7), "192.0.7.1");
        late.note_block(who, &TERMS, now.mono);
        let note = late.tell(who, now).after_reset(resets.unix, Unix(0)).unwrap();
        assert_eq!(reset.hear(&note, &TERMS, now), Tripped::No);
        late.reset(resets.mono, &TERMS);
        for breaker in [&reset, &late] {
            assert_eq!(breaker.admissions(&TERMS, now.mono), Admissions::Go);
        }
        assert_eq!(late.tell(who, present(10)).after_reset(resets.unix, Unix(0)), None, "what led to it is undone");
    }
}
