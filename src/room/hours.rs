//! What holds in a room at this hour: the operator's terms, and what the window that is open says otherwise.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::config;
use crate::domain::line::Terms;
use crate::domain::names::{ClassId, ClassName};
use crate::domain::outlook::Stretch;
use crate::domain::rate::Rate;
use crate::domain::schedule::{Hours, WindowTerms};
use crate::domain::shares::Shares;
use crate::domain::time::Unix;

/// So far ahead estimates reach: every hour of the week once, and a day more.
const LOOKED_AHEAD: Duration = Duration::from_secs(8 * 24 * 3600);

/// What is said of the days to come is made anew so often.
const ANEW_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What holds from one change of the windows to the next.
#[derive(Debug)]
pub struct InForce {
    /// What the line keeps to.
    pub terms: Terms,
    /// How its lanes share the entries.
    pub shares: Shares,
    /// Seats; `None` means no limit.
    pub max_active_sessions: Option<u32>,
    /// The operator's message of this hour.
    pub message: config::LocalText,
    room: Arc<config::Room>,
    hours: Vec<(ClassId, Hours)>,
    /// The same at the hour at which the room opens.
    hours_at_opening: Vec<(ClassId, Hours)>,
    /// The windows to come, this one first: when each ends, its rate and its shares.
    ahead: Vec<(Unix, Rate, Shares)>,
    from: Unix,
    until: Option<Unix>,
}

impl InForce {
    /// What holds at an instant of the wall clock.
    pub(super) fn at(room: &Arc<config::Room>, wall: Unix) -> InForce {
        let (window, changes) = room.schedule.at(wall);
        let closing = room.closing.as_ref().map(|ending| ending.closing.at).filter(|closes| *closes > wall);
        let anew = changes.map(|changes| changes.min(wall + ANEW_EVERY));
        let until = anew.into_iter().chain(closing).min();
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
            message: message(room, window, wall).clone(),
            room: room.clone(),
            hours: hours_at(room, wall),
            hours_at_opening: room.opening.map(|opening| hours_at(room, opening.at)).unwrap_or_default(),
            from: wall,
            until,
        }
    }

    /// The classes that may join.
    pub(super) fn classes(&self) -> impl Iterator<Item = ClassId> {
        self.hours.iter().map(|(class, _)| *class)
    }

    /// When a class may enter; a class that is gone has the citizens' hours.
    pub fn hours(&self, class: ClassId) -> Hours {
        of_class(&self.hours, class)
    }

    /// When a class may enter, seen from the hour at which the room opens.
    pub(super) fn hours_at_opening(&self, class: ClassId) -> Hours {
        of_class(&self.hours_at_opening, class)
    }

    /// What a lane can have from now on, window by window, if those of `active` go on wanting some too.
    pub(super) fn outlook(&self, class: ClassId, active: &[ClassId], wall: Unix) -> Vec<Stretch> {
        let of = |(to, rate, shares): &(Unix, Rate, Shares)| Stretch {
            until: to.since(wall),
            rate: rate.per_second() * shares.part(class, active),
        };
        self.ahead.iter().filter(|(to, ..)| *to > wall).map(of).collect()
    }

    /// Entries at the portal.
    pub fn rate(&self) -> Rate {
        self.terms.rate
    }

    /// Whether it still holds for the room as it is configured. A wall clock that was put back makes it doubtful.
    fn holds(&self, room: &Arc<config::Room>, wall: Unix) -> bool {
        Arc::ptr_eq(&self.room, room) && self.from <= wall && self.until.is_none_or(|until| wall < until)
    }
}

fn hours_at(room: &config::Room, wall: Unix) -> Vec<(ClassId, Hours)> {
    room.classes.iter().map(|name| (name.id(), room.schedule.opens_for(name.id(), wall))).collect()
}

fn of_class(hours: &[(ClassId, Hours)], class: ClassId) -> Hours {
    let of = |class: ClassId| hours.iter().find(|(known, _)| *known == class).map(|(_, hours)| *hours);
    of(class).or_else(|| of(ClassId::CITIZEN)).unwrap_or(Hours::ALWAYS)
}

/// What an operator says now goes before what was written for the end, for the hour and for always.
fn message<'a>(room: &'a config::Room, window: Option<&WindowTerms>, wall: Unix) -> &'a config::LocalText {
    let of_window = || window.and_then(|window| room.window_messages.get(window.message?));
    let said = room.by_hand.message.as_ref();
    said.or_else(|| message_at_the_end(room, wall)).or_else(of_window).unwrap_or(&room.message)
}

/// What is said after the closing, if that is something else.
fn message_at_the_end(room: &config::Room, wall: Unix) -> Option<&config::LocalText> {
    let ending = room.closing.as_ref().filter(|ending| ending.closing.at <= wall)?;
    Some(&ending.message).filter(|message| **message != config::LocalText::default())
}

fn rate(room: &config::Room, window: Option<&WindowTerms>) -> Rate {
    let of_window = window.and_then(|window| window.rate);
    room.by_hand.rate.or(of_window).unwrap_or(room.admission_rate)
}

/// Without any window all classes weigh one and borrow.
fn shares(room: &config::Room, window: Option<&WindowTerms>) -> Shares {
    let weight = |name: &ClassName| window.map_or(1, |window| window.share(name.id()));
    let weights = room.classes.iter().map(|name| (name.id(), weight(name))).collect();
    let (borrow, floors) = window.map(|window| (window.borrow, window.floors.clone())).unwrap_or_default();
    Shares::new(weights, ClassId::CITIZEN, borrow, floors)
}

fn seats(room: &config::Room, window: Option<&WindowTerms>) -> Option<u32> {
    let of_window = window.and_then(|window| window.max_active_sessions);
    of_window.map(|seats| u32::try_from(seats).unwrap_or(u32::MAX)).or(room.max_active_sessions)
}

/// Keeps what holds until it changes. Only who keeps the line to it looks at the clock: a request has an older one.
#[derive(Debug)]
pub(super) struct Kept(RwLock<Arc<InForce>>);

impl Kept {
    pub(super) fn new(room: &Arc<config::Room>, wall: Unix) -> Kept {
        Kept(RwLock::new(Arc::new(InForce::at(room, wall))))
    }

    /// What was found to hold last.
    pub(super) fn last(&self) -> Arc<InForce> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What holds under a configuration, which need not be in force.
    pub(super) fn under(&self, room: &Arc<config::Room>, wall: Unix) -> Arc<InForce> {
        let last = self.last();
        if last.holds(room, wall) { last } else { Arc::new(InForce::at(room, wall)) }
    }

    /// What holds now.
    pub(super) fn now(&self, room: &Arc<config::Room>, wall: Unix) -> Arc<InForce> {
        let anew = self.under(room, wall);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = anew.clone();
        anew
    }
}
