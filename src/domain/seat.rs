//! Seats: who is inside, how long a silent visitor keeps the place at the portal, and which generation of a pass counts.
//!
//! All seconds here are the room's own: the process's time line less the time for which the room's session clocks stood
//! still. A pass is renewed each quarter of the session; it would outlive its seat by a quarter if nobody came.

use std::time::Duration;

/// How long an older generation of a pass stays good once a newer one was seen: requests under way still carry it.
const OVERLAP: u32 = 60;

/// How long after the newer one was seen an older generation may come from elsewhere without meaning anything: the
/// visitor's address has just changed, and requests are still under way.
const UNDER_WAY: u32 = 10;

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
    /// How often a visitor may put that off, each time by as long again.
    pub extensions: u32,
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
        is_soon(self.first(), stay, now)
    }
}

/// What becomes of an older generation of a pass that keeps coming from elsewhere than the newer one: of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkedPass {
    /// It is good for as long as any older one.
    Overlap,
    /// It is good no longer.
    Line,
}

/// A pass as somebody shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Showing {
    /// Its generation.
    pub generation: u64,
    /// The number of the site from which it comes.
    pub site: u64,
}

/// What a generation of a pass is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It counts.
    Good,
    /// It counts, and somebody elsewhere has a newer one.
    GoodFork,
    /// It counts no longer.
    Superseded,
    /// It counts no longer, and somebody elsewhere has a newer one.
    Fork,
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
    /// The number of the site from which it did; 0 means that it is not known.
    pub seen_from: u64,
    /// Whether the pass ever came back.
    pub confirmed: bool,
    /// Requests, bodies and upgraded connections under way.
    pub open: u32,
    /// When the visitor entered.
    pub entered: u32,
    /// How often the visitor has put the limit off.
    pub extended: u32,
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

/// What a pass of this generation still counts for the seat. An older one is good for a minute after the newer was seen:
/// after that, and as a fork where the operator wants it, no more. The newest is good wherever it comes from.
pub fn worth(seat: &SeatFacts, shown: Showing, forked: ForkedPass, now: u32) -> Worth {
    if shown.generation >= seat.seen_generation {
        return Worth::Good;
    }
    let is_elsewhere = shown.site != seat.seen_from && seat.seen_from != 0;
    let is_fork = is_elsewhere && now > seat.seen_at.saturating_add(UNDER_WAY);
    let is_in_time = now <= seat.seen_at.saturating_add(OVERLAP);
    match (is_in_time, is_fork) {
        (true, false) => Worth::Good,
        (true, true) if forked == ForkedPass::Overlap => Worth::GoodFork,
        (false, false) => Worth::Superseded,
        (_, true) => Worth::Fork,
    }
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
        limit: stay.limit.map(|limit| seat.entered.saturating_add(in_all(limit, seat.extended))),
    }
}

/// How long a visit lasts that was extended so often, in seconds.
fn in_all(limit: Duration, extended: u32) -> u32 {
    whole_seconds(limit).saturating_mul(extended.saturating_add(1))
}

/// Whether it is time for a warning of what happens at `end`.
fn is_soon(end: u32, stay: &Stay, now: u32) -> bool {
    end.saturating_sub(now) <= WARNED.min(whole_seconds(stay.idle) / 4)
}

/// How often the limit may be put off still; `None` without a limit.
pub fn extensions_left(seat: &SeatFacts, stay: &Stay) -> Option<u32> {
    stay.limit.map(|_| stay.extensions.saturating_sub(seat.extended))
}

/// Whether a wish for more time puts the limit off: only from the warning on, so that wishes for more time to be idle use
/// none of the extensions up, and one wish made twice counts once.
pub fn puts_limit_off(seat: &SeatFacts, stay: &Stay, now: u32) -> bool {
    let is_near = ends(seat, stay).limit.is_some_and(|limit| now < limit && is_soon(limit, stay, now));
    is_near && seat.extended < stay.extensions
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

    const SEAT: SeatFacts = SeatFacts {
        last_seen: 1000,
        seen_generation: 3,
        seen_at: 900,
        seen_from: 7,
        confirmed: true,
        open: 0,
        entered: 500,
        extended: 0,
    };
    const SESSION: Duration = Duration::from_secs(1200);

    #[test]
    fn an_older_generation_counts_for_a_minute_after_the_newer_was_seen() {
        let at = |generation, now| worth(&SEAT, Showing { generation, site: 7 }, ForkedPass::Line, now);
        assert_eq!((at(2, 960), at(2, 961)), (Worth::Good, Worth::Superseded));
        assert_eq!((at(3, 5000), at(4, 5000)), (Worth::Good, Worth::Good));
    }

    #[test]
    fn an_older_generation_that_keeps_coming_from_elsewhere_is_a_fork() {
        let at = |forked, now| worth(&SEAT, Showing { generation: 2, site: 8 }, forked, now);
        assert_eq!((at(ForkedPass::Line, 910), at(ForkedPass::Line, 911)), (Worth::Good, Worth::Fork));
        assert_eq!((at(ForkedPass::Overlap, 911), at(ForkedPass::Overlap, 961)), (Worth::GoodFork, Worth::Fork));
        let unknown = SeatFacts { seen_from: 0, ..SEAT };
        assert_eq!(worth(&unknown, Showing { generation: 2, site: 8 }, ForkedPass::Line, 911), Worth::Good);
        let newest = Showing { generation: 3, site: 8 };
        assert_eq!(worth(&SEAT, newest, ForkedPass::Line, 5000), Worth::Good, "addresses change");
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
        let stay = Stay { idle: SESSION, limit: Some(Duration::from_secs(1800)), extensions: 0 };
        let busy = |now| SeatFacts { last_seen: now, open: 1, ..SEAT };
        assert_eq!(ended(&busy(2299), &stay, 2299), None);
        assert_eq!(ended(&busy(2300), &stay, 2300), Some(2300));
        assert_eq!(ended(&SEAT, &stay, 2201), Some(2200), "idle comes first");
        assert_eq!(ended(&busy(9999), &Stay { limit: None, ..stay }, 9999), None);
        let ends = ends(&busy(2000), &stay);
        assert_eq!((ends.first(), ends.soon(&stay, 2179), ends.soon(&stay, 2180)), (2300, false, true));
    }

    #[test]
    fn the_limit_is_put_off_from_the_warning_on_and_so_often_as_allowed() {
        let stay = Stay { idle: SESSION, limit: Some(Duration::from_secs(1800)), extensions: 2 };
        let puts_off = |extended, now| puts_limit_off(&SeatFacts { extended, ..SEAT }, &stay, now);
        assert_eq!(
            (puts_off(0, 2179), puts_off(0, 2180), puts_off(0, 2299), puts_off(0, 2300)),
            (false, true, true, false)
        );
        assert!(!puts_off(1, 2200), "the same wish again");
        assert_eq!((puts_off(1, 4000), puts_off(2, 5800)), (true, false));
        let busy = |extended, now| SeatFacts { last_seen: now, extended, ..SEAT };
        assert_eq!((ended(&busy(1, 4099), &stay, 4099), ended(&busy(1, 4100), &stay, 4100)), (None, Some(4100)));
        let left = |extended| extensions_left(&SeatFacts { extended, ..SEAT }, &stay);
        assert_eq!((left(0), left(2), left(3)), (Some(2), Some(0), Some(0)), "fewer may be allowed by now");
        let unlimited = Stay { limit: None, ..stay };
        assert_eq!((extensions_left(&SEAT, &unlimited), puts_limit_off(&SEAT, &unlimited, 2290)), (None, false));
        let forever = SeatFacts { extended: u32::MAX, ..SEAT };
        assert_eq!(ends(&forever, &stay).limit, Some(u32::MAX));
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
