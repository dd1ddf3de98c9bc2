//! Going on alone: the store that all nodes share has been silent for a while, and this node lets in with its share.
//!
//! It calls from its own copy of the line, which all nodes have alike: each calls the same visitors, and each of those
//! enters wherever the request arrives. Once the store is back, the node says what happened (who entered, who left) and
//! takes up the line as all know it; whom it called meanwhile was its own affair.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Inner, LiveRoom};
use crate::domain::budget::WHOLE;
use crate::domain::line::Conditions;
use crate::domain::time::{Mono, Now};
use crate::store::{Fact, Part};

/// How far beyond the last number that was heard of newcomers are counted who go straight through: the others may have
/// drawn some just before. Nobody else ever hears of these numbers.
const BEYOND: u64 = 500_000;

/// How long after that a request of one of them may still end at the gate.
const STILL_AT_THE_GATE: Duration = Duration::from_mins(2);

/// Whether this node goes on alone.
#[derive(Debug)]
pub(super) struct Alone {
    is_alone: AtomicBool,
    /// With which number those end of whom the others know.
    known_through: AtomicU64,
    newcomers: AtomicU64,
    /// Seats that may be taken here: this node's share of those that were free.
    most_seats: AtomicU64,
    /// When it ended.
    ended: AtomicU64,
}

impl Default for Alone {
    fn default() -> Alone {
        Alone {
            is_alone: AtomicBool::new(false),
            known_through: AtomicU64::new(u64::MAX),
            newcomers: AtomicU64::new(0),
            most_seats: AtomicU64::new(u64::MAX),
            ended: AtomicU64::new(0),
        }
    }
}

impl Alone {
    /// Whether it does.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// Seats that may be taken here; no limit otherwise.
    pub(super) fn most_seats(&self) -> u64 {
        self.most_seats.load(Ordering::Relaxed)
    }

    /// Whether nobody else is to hear this: what only a leader of all may decide, and what became of a number that only
    /// this node knows.
    pub(super) fn keeps_to_itself(&self, fact: &Fact) -> bool {
        let is_ours = matches!(fact, Fact::Ticket { number, .. } if self.is_a_newcomer(*number));
        is_ours || self.is_alone() && fact.is_decision()
    }

    /// Once a second: numbers that only this node knew mean nothing some time after.
    pub(super) fn sweep(&self, now: Mono) {
        if !self.is_alone() && now.since(Mono(self.ended.load(Ordering::Relaxed))) > STILL_AT_THE_GATE {
            self.newcomers.store(0, Ordering::Relaxed);
        }
    }

    /// A request that waited at the gate may end after the store is back.
    fn is_a_newcomer(&self, number: u64) -> bool {
        let first = self.known_through.load(Ordering::Relaxed);
        (first..first.saturating_add(self.newcomers.load(Ordering::Relaxed))).contains(&number.saturating_sub(1))
    }
}

impl LiveRoom {
    /// Whether this node goes on alone now; begins and ends it.
    pub(super) fn goes_on_alone(&self, inner: &mut Inner, now: Now) -> bool {
        let part = self.store.part(&self.name, now.mono);
        match (part, self.alone.is_alone()) {
            (Part::Alone { permille, nodes }, false) => self.begin_alone(inner, permille, nodes, now),
            (Part::WithTheStore { .. }, true) => self.end_alone(inner, now),
            _ => {}
        }
        matches!(part, Part::Alone { .. })
    }

    fn begin_alone(&self, inner: &mut Inner, permille: u32, nodes: u32, now: Now) {
        tracing::warn!(
            room = %self.name,
            permille,
            nodes,
            "the store has not answered for a while: this node goes on alone with its share of the rate"
        );
        inner.line.take_the_lead(now.mono);
        let count = self.seats.count();
        let free = self.seats_free().unwrap_or(u64::MAX - count);
        let share = u128::from(free) * u128::from(permille) / u128::from(WHOLE);
        self.alone.most_seats.store(count.saturating_add(u64::try_from(share).unwrap_or(u64::MAX)), Ordering::Relaxed);
        if let Some(last) = inner.knows_so_far() {
            self.alone.known_through.store(last.saturating_add(BEYOND), Ordering::Relaxed);
            self.alone.newcomers.store(0, Ordering::Relaxed);
        }
        self.alone.is_alone.store(true, Ordering::Relaxed);
        inner.follows_from_now_on();
    }

    fn end_alone(&self, inner: &mut Inner, now: Now) {
        tracing::warn!(room = %self.name, "this node goes on with the store again, or stops: it may not go on alone any more");
        self.alone.is_alone.store(false, Ordering::Relaxed);
        self.alone.most_seats.store(u64::MAX, Ordering::Relaxed);
        self.alone.ended.store(now.mono.0, Ordering::Relaxed);
        inner.follows_from_now_on();
    }

    /// What of the rate is this node's, and how those called arrive.
    pub(super) fn as_its_part(&self, conditions: Conditions, inner: &mut Inner, now: Mono) -> Conditions {
        let (permille, gates) = match self.store.part(&self.name, now) {
            Part::Alone { permille, nodes } => (permille, nodes),
            Part::WithTheStore { permille } => (permille, 1),
        };
        inner.others.uses(permille);
        Conditions { ramp: conditions.ramp * permille.min(WHOLE) / WHOLE, gates, ..conditions }
    }

    /// A number of this node's own for somebody who goes straight through; `None` while the store gives them.
    pub(super) fn number_for_a_newcomer(&self) -> Option<u64> {
        if !self.alone.is_alone() {
            return None;
        }
        let before = self.alone.newcomers.fetch_add(1, Ordering::Relaxed);
        Some(self.alone.known_through.load(Ordering::Relaxed).saturating_add(before).saturating_add(1))
    }
}
