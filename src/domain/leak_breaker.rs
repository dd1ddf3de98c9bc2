//! When blocked answers stop the admissions of a room: a portal (or a cache behind us) that hands out other people's
//! pages should not be sent more people.
//!
//! One visitor counts once however much happens to them, and several visitors must come from several client prefixes, so
//! that nobody can close a room alone.

use std::time::Duration;

use super::budget::WHOLE;
use super::client::ClientPrefix;
use super::leak_detectors::VisitorKey;
use super::time::Mono;

/// Visitors remembered at most; more than any threshold needs.
const MOST: usize = 1024;

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Visitors concerned.
    pub visitors: usize,
    /// Client prefixes they come from.
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
    concerned: Vec<Concerned>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct Concerned {
    visitor: VisitorKey,
    network: ClientPrefix,
    at: Mono,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        last_block: Mono,
    },
    Reopening {
        since: Mono,
    },
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
    pub fn note_block(&mut self, visitor: VisitorKey, network: ClientPrefix, terms: &Terms, now: Mono) -> Tripped {
        self.concerned.retain(|concerned| now.since(concerned.at) < terms.within && concerned.visitor != visitor);
        if self.concerned.len() < MOST {
            self.concerned.push(Concerned { visitor, network, at: now });
        }
        if let State::Open { last_block } = &mut self.state {
            *last_block = now;
            return Tripped::No;
        }
        if self.concerned.len() < terms.visitors || self.networks() < terms.networks {
            return Tripped::No;
        }
        self.state = State::Open { last_block: now };
        Tripped::Now
    }

    fn networks(&self) -> usize {
        let mut networks: Vec<ClientPrefix> = self.concerned.iter().map(|concerned| concerned.network).collect();
        networks.sort_unstable();
        networks.dedup();
        networks.len()
    }

    /// What holds now; after long enough without a block admissions begin again.
    pub fn admissions(&mut self, terms: &Terms, now: Mono) -> Admissions {
        if let State::Open { last_block } = self.state
            && now.since(last_block) >= terms.quiet
        {
            self.state = State::Reopening { since: now };
            self.concerned.clear();
        }
        match self.state {
            State::Closed => Admissions::Go,
            State::Open { .. } => Admissions::Stopped,
            State::Reopening { since } if now.since(since) >= terms.ramp => {
                self.state = State::Closed;
                Admissions::Go
            }
            State::Reopening { since } => Admissions::Climbing(climbed(now.since(since), terms.ramp)),
        }
    }

    /// Lets visitors in again at once, whatever happened.
    pub fn reset(&mut self) {
        *self = Breaker::default();
    }
}

/// Thousandths of the rate, from a tenth to the whole.
fn climbed(since: Duration, ramp: Duration) -> u32 {
    let part = since.as_secs_f64() / ramp.as_secs_f64();
    WHOLE / 10 + (f64::from(WHOLE - WHOLE / 10) * part) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        visitors: 3,
        networks: 2,
        within: Duration::from_secs(60),
        quiet: Duration::from_secs(600),
        ramp: Duration::from_secs(60),
    };

    fn network(last: u8) -> ClientPrefix {
        ClientPrefix::of([192, 0, 2, last].into())
    }

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    fn block(breaker: &mut Breaker, visitor: u8, last: u8, second: u64) -> Tripped {
        breaker.note_block(VisitorKey([visitor; 16]), network(last), &TERMS, at(second))
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
    fn an_operator_resets_it_at_once() {
        let mut breaker = Breaker::default();
        (1..4).for_each(|visitor| {
            block(&mut breaker, visitor, visitor, 0);
        });
        breaker.reset();
        assert_eq!(breaker.admissions(&TERMS, at(1)), Admissions::Go);
        assert_eq!(block(&mut breaker, 1, 1, 2), Tripped::No, "what led to it is forgotten, too");
    }
}
