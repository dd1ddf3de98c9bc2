//! How the lanes of a room moved lately, second by second: what estimates are made of.

use std::collections::HashMap;

use crate::domain::movement::{MovementLog, Second};
use crate::domain::names::ClassId;
use crate::domain::wait_estimate::{WaitRange, wait_estimate};

/// Ticks in a second.
const TICKS: u32 = 10;

/// The movement of all lanes.
#[derive(Debug, Default)]
pub(super) struct Moving {
    lanes: HashMap<ClassId, LaneMoving>,
    ticks: u32,
}

#[derive(Debug, Default)]
struct LaneMoving {
    log: MovementLog,
    called: u64,
    went_away: u64,
}

/// Whether a second is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is: what happened in it is to be noted.
    ASecond,
    /// Not yet.
    ATick,
}

/// What a lane has counted since it began, and who is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct SoFar {
    /// Visitors who went away uncalled.
    pub(super) went_away: u64,
    /// Visitors present and uncalled.
    pub(super) present: u64,
}

impl Moving {
    /// So many of the lane were called.
    pub(super) fn called(&mut self, class: ClassId, count: u64) {
        self.lanes.entry(class).or_default().called += count;
    }

    /// A tick is over.
    pub(super) fn tick(&mut self) -> Counted {
        self.ticks += 1;
        if self.ticks < TICKS {
            return Counted::ATick;
        }
        self.ticks = 0;
        Counted::ASecond
    }

    /// Notes the second of a lane in which `rate` per second could enter.
    pub(super) fn note(&mut self, class: ClassId, so_far: SoFar, rate: f64) {
        let lane = self.lanes.entry(class).or_default();
        let called = std::mem::take(&mut lane.called);
        let gave_up = so_far.went_away.saturating_sub(lane.went_away);
        lane.went_away = so_far.went_away;
        lane.log.note(Second { called, gave_up, present: so_far.present }, rate);
    }

    /// How long it takes until so many are called.
    pub(super) fn wait(&self, class: ClassId, calls: u64) -> Option<WaitRange> {
        wait_estimate(&self.lanes.get(&class)?.log.movement(), calls)
    }
}
