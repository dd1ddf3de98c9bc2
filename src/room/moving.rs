//! How the lanes of a room moved lately, second by second: what estimates are made of.

use std::collections::HashMap;

use crate::domain::movement::{MovementLog, Second};
use crate::domain::names::ClassId;
use crate::domain::outlook::{Stretch, wait};
use crate::domain::wait_estimate::{Movement, WaitRange};

/// Ticks in a second.
const TICKS: u32 = 10;

/// The movement of all lanes.
#[derive(Debug, Default)]
pub(super) struct Moving {
    lanes: HashMap<ClassId, LaneMoving>,
    /// Ticks until the next second is noted; the first tick is.
    ticks_left: u32,
}

#[derive(Debug, Default)]
struct LaneMoving {
    log: MovementLog,
    called: u64,
    went_away: u64,
    /// What the lane can have from now on, window by window.
    outlook: Vec<Stretch>,
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
        if self.ticks_left > 0 {
            self.ticks_left -= 1;
            return Counted::ATick;
        }
        self.ticks_left = TICKS - 1;
        Counted::ASecond
    }

    /// Notes the second of a lane in which `rate` per second could enter, and what comes.
    pub(super) fn note(&mut self, class: ClassId, so_far: SoFar, rate: f64, outlook: Vec<Stretch>) {
        let lane = self.lanes.entry(class).or_default();
        let called = std::mem::take(&mut lane.called);
        let gave_up = so_far.went_away.saturating_sub(lane.went_away);
        lane.went_away = so_far.went_away;
        lane.log.note(Second { called, gave_up, present: so_far.present }, rate);
        lane.outlook = outlook;
    }

    /// How a lane moved lately.
    pub(super) fn movement(&self, class: ClassId) -> Movement {
        self.lanes.get(&class).map(|lane| lane.log.movement()).unwrap_or_default()
    }

    /// How long it takes until so many are called, closed hours included.
    pub(super) fn wait(&self, class: ClassId, calls: u64) -> Option<WaitRange> {
        let lane = self.lanes.get(&class)?;
        wait(&lane.log.movement(), calls, &lane.outlook)
    }
}
