//! Seats: who is inside, how long a silent visitor keeps the place at the portal, and which generation of a pass counts.
//!
//! All seconds here are the room's own: the process's time line less the time for which the room's session clocks stood
//! still. A pass is renewed each quarter of the session; it would outlive its seat by a quarter if nobody came.

use std::time::Duration;

/// How long an older generation of a pass stays good once a newer one was seen: requests under way still carry it.
const OVERLAP: u32 = 60;

/// How long the seat of a visitor who went straight through waits for its pass to come back: a client that keeps no
/// cookies must not fill the room.
const PROVISIONAL: u32 = 60;

/// How long before its end a visitor inside is warned at most, in seconds.
const WARNED: u32 = 120;

/// How long a visitor may stay inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Without doing anything.
    pub idle: Duration,
    /// In all, whatever is done; `None` means as long as one likes.
    pub limit: Option<Duration>,
}

/// The seconds in which a stay ends if nothing more happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// For lack of activity.
    pub idle: u32,
    /// In any case.
    pub limit: Option<u32>,
}

impl Ends {
    /// Whichever comes first.
    pub fn first(&self) -> u32 {
        self.limit.map_or(self.idle, |limit| limit.min(self.idle))
    }

    /// Whether it is time for a warning: two minutes before, or a quarter of a shorter session.
    pub fn soon(&self, stay: &Stay, now: u32) -> bool {
        self.first().saturating_sub(now) <= WARNED.min(whole_seconds(stay.idle) / 4)
    }
}

/// How long after its end a pass still saves a form from being swallowed.
const GRACE: u32 = 300;

/// What is known of a seat when its pass is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatFacts {
    /// When the visitor was last active.
    pub last_seen: u32,
    /// The highest generation that came back.
    pub seen_generation: u64,
    /// When that generation first came back.
    pub seen_at: u32,
    /// Whether the pass ever came back.
    pub confirmed: bool,
    /// Requests, bodies and upgraded connections under way.
    pub open: u32,
    /// When the visitor entered.
    pub entered: u32,
}

/// How long a pass is good for: a session and the quarter in which it should have been renewed.
pub fn pass_life(session: Duration) -> Duration {
    session + session / 4
}

/// The second in which an identity that ended now may be forgotten: the first in which its pass, however new, has no
/// grace any more.
pub fn remembered_until(session: Duration, now: u32) -> u32 {
    now.saturating_add(whole_seconds(pass_life(session))).saturating_add(GRACE + 1)
}

/// When a pass issued at `issued` is due for renewal.
pub fn renewal_due(issued: u32, session: Duration, now: u32) -> bool {
    now >= issued.saturating_add(whole_seconds(session / 4))
}

/// Whether a pass of this generation still counts for the seat.
pub fn generation_counts(seat: &SeatFacts, generation: u64, now: u32) -> bool {
    generation >= seat.seen_generation || now <= seat.seen_at.saturating_add(OVERLAP)
}

/// Whether the seat has ended for lack of activity.
pub fn idle_too_long(seat: &SeatFacts, session: Duration, now: u32) -> bool {
    let allowed = if seat.confirmed { whole_seconds(session) } else { PROVISIONAL.min(whole_seconds(session)) };
    seat.open == 0 && now > seat.last_seen.saturating_add(allowed)
}

/// When the stay ends if nothing more happens.
pub fn ends(seat: &SeatFacts, stay: &Stay) -> Ends {
    Ends {
        idle: seat.last_seen.saturating_add(whole_seconds(stay.idle)),
        limit: stay.limit.map(|limit| seat.entered.saturating_add(whole_seconds(limit))),
    }
}

/// When the seat ended, if it has: for lack of activity, or because nobody may stay longer.
pub fn ended(seat: &SeatFacts, stay: &Stay, now: u32) -> Option<u32> {
    let Ends { idle, limit } = ends(seat, stay);
    let limit = limit.filter(|limit| seat.confirmed && now >= *limit);
    let idle = idle_too_long(seat, stay.idle, now).then_some(idle);
    match (idle, limit) {
        (Some(idle), Some(limit)) => Some(idle.min(limit)),
        (idle, limit) => idle.or(limit),
    }
}

/// Whether a pass that ended at `ended` still saves forms and logins.
pub fn within_grace(ended: u32, now: u32) -> bool {
    now <= ended.saturating_add(GRACE)
}

fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAT: SeatFacts =
        SeatFacts { last_seen: 1000, seen_generation: 3, seen_at: 900, confirmed: true, open: 0, entered: 500 };
    const SESSION: Duration = Duration::from_secs(1200);

    #[test]
    fn an_older_generation_counts_for_a_minute_after_the_newer_was_seen() {
        assert!(generation_counts(&SEAT, 2, 960));
        assert!(!generation_counts(&SEAT, 2, 961));
        assert!(generation_counts(&SEAT, 3, 5000) && generation_counts(&SEAT, 4, 5000));
    }

    #[test]
    fn a_silent_seat_ends_with_the_session_and_a_provisional_one_after_a_minute() {
        assert!(!idle_too_long(&SEAT, SESSION, 2200));
        assert!(idle_too_long(&SEAT, SESSION, 2201));
        assert!(!idle_too_long(&SeatFacts { open: 1, ..SEAT }, SESSION, 9999));
        assert!(idle_too_long(&SeatFacts { confirmed: false, ..SEAT }, SESSION, 1061));
    }

    #[test]
    fn nobody_stays_longer_than_the_limit_whatever_is_done() {
        let stay = Stay { idle: SESSION, limit: Some(Duration::from_secs(1800)) };
        let busy = |now| SeatFacts { last_seen: now, open: 1, ..SEAT };
        assert_eq!(ended(&busy(2299), &stay, 2299), None);
        assert_eq!(ended(&busy(2300), &stay, 2300), Some(2300));
        assert_eq!(ended(&SEAT, &stay, 2201), Some(2200), "idle comes first");
        assert_eq!(ended(&busy(9999), &Stay { limit: None, ..stay }, 9999), None);
        let ends = ends(&busy(2000), &stay);
        assert_eq!((ends.first(), ends.soon(&stay, 2179), ends.soon(&stay, 2180)), (2300, false, true));
    }

    #[test]
    fn an_end_is_remembered_while_the_pass_could_have_grace() {
        let ended = 1000;
        let last_pass_expires = ended + 1500;
        assert!(!within_grace(last_pass_expires, remembered_until(SESSION, ended)));
        assert!(within_grace(last_pass_expires, remembered_until(SESSION, ended) - 1));
    }

    #[test]
    fn a_pass_is_renewed_each_quarter() {
        assert!(!renewal_due(1000, SESSION, 1299));
        assert!(renewal_due(1000, SESSION, 1300));
        assert_eq!(pass_life(SESSION), Duration::from_secs(1500));
    }
}
