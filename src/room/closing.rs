//! How far a room is with its closing. It follows from the configuration and the clocks alone; nothing of it lasts, so that
//! an hour that is moved gives everybody their place back. The rules are `domain::closing`'s.

use super::{Inner, LiveRoom};
use crate::domain::closing::{Closing, Stage};
use crate::domain::hour::{Hour, HourWatch};
use crate::domain::names::ClassId;
use crate::domain::schedule::Hours;
use crate::domain::time::{Mono, Now};
use crate::telemetry::metrics::StandstillReason;

/// What a room knows of its closing.
#[derive(Debug, Default)]
pub(super) struct Closed {
    watch: HourWatch,
    pub(super) stage: Stage,
    /// Since when the line has ended.
    ended: Option<Mono>,
}

/// Whose hour it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreed {
    /// This program's.
    Alone,
    /// That of several nodes.
    AmongNodes,
}

impl Agreed {
    /// The time by which published hours come. Where several nodes share the line, the steady time follows the server's, and
    /// no node's own clock opens or ends it.
    pub(super) fn time(self, now: Now) -> Now {
        match self {
            Agreed::Alone => now,
            Agreed::AmongNodes => Now { wall: now.unix, ..now },
        }
    }
}

impl Inner {
    /// Notes how far the room is.
    pub(super) fn note_stage(&mut self, closing: Option<&Closing>, now: Now, agreed: Agreed) {
        let closed = &mut self.closing;
        let now = agreed.time(now);
        let hour = closing.map_or(Hour::ToCome, |closing| closed.watch.look(closing.at, now));
        closed.stage = closing.map_or(Stage::Open, |closing| closing.stage(hour));
        closed.ended = match closed.stage {
            Stage::Ended => closed.ended.or(Some(now.mono)),
            Stage::Open | Stage::LastOnes => None,
        };
    }
}

impl LiveRoom {
    /// How far the room is with its closing, as of the last tick.
    pub fn stage(&self) -> Stage {
        self.lock().closing.stage
    }

    /// Whose hours end the line.
    pub(super) fn agreed(&self) -> Agreed {
        if self.is_shared() { Agreed::AmongNodes } else { Agreed::Alone }
    }

    /// Why a lane's line stands still and since when, for operators: what visitors are told, or else that it has ended.
    pub fn standstill_of(&self, class: ClassId, now: Now) -> Option<(StandstillReason, Mono)> {
        let ended = self.lock().closing.ended;
        let still = self.told_to_lane(class, now).map(|still| (still.why.into(), still.since_mono));
        still.or(ended.map(|since| (StandstillReason::Closed, since)))
    }

    /// The hours of a class as far as the line lasts.
    pub fn until_the_end(&self, hours: Hours) -> Hours {
        let settings = self.settings();
        settings.closing.as_ref().map_or(hours, |ending| ending.closing.bound(hours, self.stage()))
    }
}
