//! What operators are told of those who wait, now and under terms that are not in force: the figures that the model of waits
//! goes by.

use std::sync::Arc;
use std::time::Duration;

use super::{InForce, LiveRoom};
use crate::config;
use crate::domain::closing::Reach;
use crate::domain::names::ClassId;
use crate::domain::outlook::Stretch;
use crate::domain::time::{Now, Unix};
use crate::domain::wait_estimate::{Movement, WaitRange};

/// A lane, for whoever would join it now.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// The class.
    pub class: ClassId,
    /// Visitors present and uncalled.
    pub waiting: u64,
    /// Calls that come before somebody who joins now.
    pub calls: u64,
    /// How the lane moved lately.
    pub movement: Movement,
    /// The wait that somebody who joins now is shown; `None` when no end is known.
    pub wait: Option<WaitRange>,
}

impl LiveRoom {
    /// Every configured lane, for whoever would join it now. Whoever the end of the line would not let in has no wait.
    pub fn forecasts(&self, now: Now) -> Vec<Forecast> {
        let (settings, wall) = (self.settings(), self.agreed().time(now).wall);
        let is_reached = |wait: &WaitRange| {
            let closing = settings.closing.as_ref().map(|ending| ending.closing);
            closing.and_then(|closing| closing.reach(wall, *wait)) != Some(Reach::Unlikely)
        };
        let lanes = self.lanes();
        let inner = self.lock();
        let of = |class: ClassId| {
            let lane = inner.line.lane(class);
            let waiting = lane.map_or(0, |lane| lane.waiting());
            let calls = lane.map_or(0, |lane| lane.calls_before(lane.issued() + 1, waiting));
            let ends = inner.still_of(class).is_none_or(|still| still.why.has_an_end());
            let at_once = calls == 0 && inner.line.entries_per_second(class) > 0.0;
            let wait = match (ends, at_once) {
                (false, _) => None,
                (true, true) => Some(WaitRange { low: Duration::ZERO, high: Duration::ZERO }),
                (true, false) => inner.moving.wait(class, calls),
            };
            let wait = wait.filter(is_reached);
            Forecast { class, waiting, calls, movement: inner.moving.movement(class), wait }
        };
        lanes.iter().map(|lane| of(lane.class)).collect()
    }

    /// What a lane can have from now on, window by window, under settings that need not be in force.
    pub fn outlook_under(&self, room: &Arc<config::Room>, class: ClassId, now: Now) -> Vec<Stretch> {
        let active = self.lock().line.active();
        let outlook = self.in_force_under(room, now).outlook(class, &active, now.wall);
        until_the_line_ends(room, outlook, self.agreed().time(now).wall)
    }

    /// Entries per second under settings that need not be in force.
    pub fn rate_under(&self, room: &Arc<config::Room>, now: Now) -> f64 {
        self.in_force_under(room, now).rate().per_second()
    }

    /// When it opens, as the line has it.
    pub fn opens_at(&self) -> Option<Unix> {
        self.settings().opening.map(|plan| plan.at)
    }
}

/// What a lane can have from an instant on, window by window, when every class with a share uses it.
pub fn planned_stretches(room: &Arc<config::Room>, class: ClassId, from: Unix) -> Vec<Stretch> {
    let everybody: Vec<ClassId> = room.classes.iter().map(|name| name.id()).collect();
    until_the_line_ends(room, InForce::at(room, from).outlook(class, &everybody, from), from)
}

fn until_the_line_ends(room: &config::Room, outlook: Vec<Stretch>, from: Unix) -> Vec<Stretch> {
    match &room.closing {
        Some(ending) => ending.closing.cut(outlook, from),
        None => outlook,
    }
}
