//! What holds in a room at this hour: the operator's terms, and what the window that is open says otherwise.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::config;
use crate::domain::line::Terms;
use crate::domain::names::{ClassId, ClassName};
use crate::domain::outlook::{Stretch, spread};
use crate::domain::rate::Rate;
use crate::domain::schedule::{Hours, WindowTerms};
use crate::domain::shares::Shares;
use crate::domain::time::Unix;
use crate::domain::wait_estimate::WaitRange;

/// So far ahead estimates reach: every hour of the week once, and a day more.
const LOOKED_AHEAD: Duration = Duration::from_secs(8 * 24 * 3600);

/// A lane among those that somebody stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes<'a> {
    pub(super) own: ClassId,
    pub(super) active: &'a [ClassId],
}

/// What holds from one change of the windows to the next.
#[derive(Debug)]
pub struct InForce {
    /// What the line keeps to.
    pub terms: Terms,
    /// How its lanes share the entries.
    pub shares: Shares,
    /// Seats; `None` means no limit.
    pub max_active_sessions: Option<u32>,
    /// Which of the messages of the room's windows is shown, if not the room's own.
    pub message: Option<usize>,
    hours: Vec<(ClassId, Hours)>,
    /// The windows to come, this one first: when each ends, its rate and its shares.
    ahead: Vec<(Unix, Rate, Shares)>,
    from: Unix,
    until: Option<Unix>,
}

impl InForce {
    /// What holds at an instant of the wall clock.
    fn at(room: &config::Room, wall: Unix) -> InForce {
        let (window, until) = room.schedule.at(wall);
        let ahead = room.schedule.spans(wall, wall + LOOKED_AHEAD);
        InForce {
            ahead: ahead.map(|span| (span.to, rate(room, span.terms), shares(room, span.terms))).collect(),
            terms: Terms {
                rate: rate(room, window),
                claim_window: room.claim_window,
                ticket_lifetime: room.ticket_lifetime,
                gate_wait: room.gate_wait,
            },
            shares: shares(room, window),
            max_active_sessions: seats(room, window),
            message: window.and_then(|window| window.message),
            hours: room.classes.iter().map(|name| (name.id(), room.schedule.opens_for(name.id(), wall))).collect(),
            from: wall,
            until,
        }
    }

    /// When a class may enter; a class that is gone has the citizens' hours.
    pub fn hours(&self, class: ClassId) -> Hours {
        let of = |class: ClassId| self.hours.iter().find(|(known, _)| *known == class).map(|(_, hours)| *hours);
        of(class).or_else(|| of(ClassName::citizen().id())).unwrap_or(Hours::ALWAYS)
    }

    /// A wait in a line that moves at `rate`, spread over the hours to come; `None` when those do not suffice.
    pub(super) fn spread(&self, moving: WaitRange, rate: f64, lanes: Lanes<'_>, wall: Unix) -> Option<WaitRange> {
        let ends_before = self.until.is_none_or(|until| wall + moving.high < until);
        if ends_before && rate > 0.0 && self.shares.has_share(lanes.own) {
            return Some(moving);
        }
        spread(moving, rate, &self.stretches(lanes, wall))
    }

    /// What the lane can have as soon as its hours begin, in entries per second; zero when they do not.
    pub(super) fn next_rate(&self, lanes: Lanes<'_>, wall: Unix) -> f64 {
        self.stretches(lanes, wall).iter().map(|stretch| stretch.rate).find(|rate| *rate > 0.0).unwrap_or(0.0)
    }

    fn stretches(&self, lanes: Lanes<'_>, wall: Unix) -> Vec<Stretch> {
        let of = |(to, rate, shares): &(Unix, Rate, Shares)| Stretch {
            until: to.since(wall),
            rate: rate.per_second() * shares.part(lanes.own, lanes.active),
        };
        self.ahead.iter().map(of).collect()
    }

    /// Entries at the portal.
    pub fn rate(&self) -> Rate {
        self.terms.rate
    }

    /// Whether it still holds. A wall clock that was put back makes it doubtful.
    fn holds(&self, wall: Unix) -> bool {
        self.from <= wall && self.until.is_none_or(|until| wall < until)
    }
}

impl config::Room {
    /// The message of this hour.
    pub fn message_in(&self, in_force: &InForce) -> &config::LocalText {
        in_force.message.and_then(|message| self.window_messages.get(message)).unwrap_or(&self.message)
    }
}

fn rate(room: &config::Room, window: Option<&WindowTerms>) -> Rate {
    window.and_then(|window| window.rate).unwrap_or(room.admission_rate)
}

/// Without any window all classes weigh one and borrow.
fn shares(room: &config::Room, window: Option<&WindowTerms>) -> Shares {
    let weight = |name: &ClassName| window.map_or(1, |window| window.share(name.id()));
    let weights = room.classes.iter().map(|name| (name.id(), weight(name))).collect();
    let (borrow, floors) = window.map(|window| (window.borrow, window.floors.clone())).unwrap_or_default();
    Shares::new(weights, ClassName::citizen().id(), borrow, floors)
}

fn seats(room: &config::Room, window: Option<&WindowTerms>) -> Option<u32> {
    let of_window = window.and_then(|window| window.max_active_sessions);
    of_window.map(|seats| u32::try_from(seats).unwrap_or(u32::MAX)).or(room.max_active_sessions)
}

/// Keeps what holds until it changes.
#[derive(Debug)]
pub(super) struct Kept(RwLock<Arc<InForce>>);

impl Kept {
    pub(super) fn new(room: &config::Room, wall: Unix) -> Kept {
        Kept(RwLock::new(Arc::new(InForce::at(room, wall))))
    }

    /// What was found to hold last.
    pub(super) fn last(&self) -> Arc<InForce> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What holds now.
    pub(super) fn now(&self, room: &config::Room, wall: Unix) -> Arc<InForce> {
        let last = self.last();
        if last.holds(wall) { last } else { self.anew(room, wall) }
    }

    /// What holds now in a room that was configured anew.
    pub(super) fn anew(&self, room: &config::Room, wall: Unix) -> Arc<InForce> {
        let anew = Arc::new(InForce::at(room, wall));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = anew.clone();
        anew
    }
}
