//! A visitor's standing in the words of the `queue` object.

use std::time::Duration;

use super::call::Call;
use super::snapshot::{RoomInForce, reason_of, window_of};
use super::visitor::{Credentials, Held};
use crate::config::RoomState;
use crate::domain::closing::{Reach, Stage};
use crate::domain::line::{Asks, Knock, Near, Standing as Stands, Standstill};
use crate::domain::names::ClassId;
use crate::domain::opening::{Order, Phase};
use crate::domain::recovery::Place;
use crate::domain::reference::{self, Gatherer};
use crate::domain::tickets::Told;
use crate::domain::wait_estimate::WaitRange;
use crate::room::{NoTicket, Seat, Still, Ticket, View, Why};
use crate::waiting_room::queue::{ClosingTold, Gathering, QueueState, Session, Standing};

/// When to ask again where the answer is held back until there is news.
const AT_ONCE: Duration = Duration::from_secs(1);
/// When to ask again at the gate, or when nothing is known better.
const SOON: Duration = Duration::from_secs(2);
/// When to ask again at the latest, for whoever has a place.
const LONGEST: Duration = Duration::from_secs(60);
/// When to ask again for a ticket that could not be drawn.
const NO_TICKET_YET: Duration = Duration::from_secs(15);
/// When to ask again for the number of a ticket that has none.
const NO_NUMBER_YET: Duration = Duration::from_secs(5);
/// When to ask again after the line has ended, without a place: the hour may be moved.
const AFTER_THE_END: Duration = Duration::from_secs(300);
/// When to ask again while the room is closed for everybody.
const LATER: Duration = Duration::from_secs(30);

/// A visitor's standing, looked at without counting as presence.
pub fn standing(room: &RoomInForce, call: &Call, credentials: &Credentials) -> Standing {
    let view = credentials.ticket.map(|held| room.live.look(&held.ticket, Asks::Scripted));
    standing_of(room, call, credentials, view, None)
}

/// A visitor's standing from a view that was just taken. `shown_ahead` is what the visitor saw last; the number never
/// grows for whoever sends it.
pub fn standing_of(
    room: &RoomInForce,
    call: &Call,
    credentials: &Credentials,
    view: Option<View>,
    shown_ahead: Option<u64>,
) -> Standing {
    let updated_at = call.now.wall;
    let closed = room.settings.state == RoomState::Closed;
    let in_force = room.live.in_force();
    let window = window_of(room.live.hours(class_of(credentials)));
    let phase = room.live.phase();
    let plain = |state, refresh| Standing {
        message: in_force.message.clone(),
        window,
        ..Standing::only(state, refresh, updated_at)
    };
    let standing = match (credentials.ticket, view) {
        _ if closed => plain(QueueState::Maintenance, LATER),
        _ if credentials.inside.is_some() => {
            let seat = credentials.inside.as_ref().map(|inside| &*inside.seat);
            Standing { session: seat.map(|seat| session(room, call, seat)), ..plain(QueueState::Inside, LATER) }
        }
        (Some(held), Some(view)) => of_ticket(room, call, &held, view, shown_ahead, plain),
        _ if credentials.unnumbered.is_some() => without_number(room, call, credentials, plain),
        // Of an expired place it matters that one can join again, and that nobody can yet.
        _ if matches!(phase, Phase::Announced { .. }) => before_opening(room, call, None, phase, plain),
        _ if credentials.expired => plain(QueueState::Expired, SOON),
        _ if phase != Phase::Open => before_opening(room, call, None, phase, plain),
        _ => {
            let reason = room.live.store_illness(call.now).map(reason_of);
            Standing { reason, ..plain(QueueState::None, SOON) }
        }
    };
    with_class(room, credentials, with_closing(room, standing))
}

/// The standing of a visitor whose ticket has no number yet: the place is kept, and nobody knows how many are ahead.
fn without_number(
    room: &RoomInForce,
    call: &Call,
    credentials: &Credentials,
    plain: impl Fn(QueueState, Duration) -> Standing,
) -> Standing {
    let class = class_of(credentials);
    let state = if room.live.lets_in_without_number(class) { QueueState::YourTurn } else { QueueState::Waiting };
    let still = room.live.store_illness(call.now).unwrap_or(Still {
        why: Why::StoreUnreachable,
        since: call.now.wall,
        since_mono: call.now.mono,
    });
    let reason = (state == QueueState::Waiting).then(|| reason_of(still));
    let reference = credentials.unnumbered.map(|held| reference::random(&held.ticket.id));
    Standing { reference, reason, ..plain(state, NO_NUMBER_YET) }
}

/// What the room's closing makes of a standing.
fn with_closing(room: &RoomInForce, standing: Standing) -> Standing {
    let Some(ending) = &room.settings.closing else { return standing };
    let (closing, stage) = (ending.closing, room.live.stage());
    let waits = matches!(standing.state, QueueState::Waiting | QueueState::Held | QueueState::ClosedHours);
    let has_none = matches!(standing.state, QueueState::None | QueueState::Expired | QueueState::Left);
    if waits && stage == Stage::Ended || has_none && stage != Stage::Open {
        let reach = waits.then_some(Reach::Unlikely);
        // Whoever asks as told keeps the place, in case the hour is moved.
        let refresh = if waits { LONGEST } else { AFTER_THE_END };
        return Standing {
            reference: standing.reference,
            recovery_code: standing.recovery_code,
            message: standing.message,
            window: standing.window,
            closing: Some(ClosingTold { closing, stage, reach }),
            ..Standing::only(QueueState::Ended, refresh, standing.updated_at)
        };
    }
    // Between a wall clock that says it is over and the end itself nothing is known.
    let is_to_come = waits && standing.updated_at < closing.at;
    let reach = standing.wait.filter(|_| is_to_come).and_then(|wait| closing.reach(standing.updated_at, wait));
    let told = ClosingTold { closing, stage, reach };
    // Who will not be reached is not told when it would be their turn.
    let wait = standing.wait.filter(|_| !told.comes_too_early());
    Standing { wait, closing: Some(told), progress: standing.progress.filter(|_| wait == standing.wait), ..standing }
}

/// The standing of a visitor who asked for a ticket and got none.
pub fn without_ticket(room: &RoomInForce, call: &Call, error: &NoTicket) -> Standing {
    tracing::warn!(request_id = call.request_id.to_str().unwrap_or_default(), %error, "no ticket could be drawn");
    Standing {
        message: room.live.in_force().message.clone(),
        reason: Some(reason_of(room.live.why_no_ticket(error, call.now))),
        ..Standing::only(QueueState::None, NO_TICKET_YET, call.now.wall)
    }
}

fn of_ticket(
    room: &RoomInForce,
    call: &Call,
    held: &Held,
    view: View,
    shown_ahead: Option<u64>,
    plain: impl Fn(QueueState, Duration) -> Standing,
) -> Standing {
    let with_place = |standing: Standing| Standing {
        reference: Some(reference_of(room, &held.ticket)),
        recovery_code: recovery_code(room, call, &held.ticket),
        reason: view.still.map(reason_of),
        ..standing
    };
    let phase = room.live.phase();
    if phase != Phase::Open && view.standing.is_a_place() {
        return with_place(before_opening(room, call, Some(&held.ticket), phase, plain));
    }
    match view.standing {
        Stands::Waiting { ahead, told, near } => {
            let state = match view.still.map(|still| still.why) {
                Some(Why::Standstill(Standstill::OperatorHold)) => QueueState::Held,
                Some(Why::OutsideHours) => QueueState::ClosedHours,
                _ => QueueState::Waiting,
            };
            let ahead = shown_ahead.map_or(ahead, |shown| shown.min(ahead));
            let standing = with_place(Standing {
                ahead: Some(ahead),
                wait: view.wait,
                progress: view.wait.map(|wait| progress(call.now.unix.seconds().saturating_sub(held.issued), wait)),
                ..plain(state, ask_again(told, near, held.ticket.number))
            });
            Standing { refresh: not_after_the_opening(&standing), ..standing }
        }
        Stands::YourTurn { ahead_at_gate, knock, left } => {
            let standing = plain(QueueState::YourTurn, SOON);
            // Outside the lane's hours the turn does not run out.
            let runs_from = standing.window.opens_at.unwrap_or(call.now.wall).max(call.now.wall);
            let standing = with_place(Standing {
                ahead_at_gate: told_at_gate(ahead_at_gate, knock),
                progress: Some(1.0),
                enter_by: Some(runs_from + left),
                ..standing
            });
            // Outside the hours the turn stands still; after the end of the line it does not.
            let stands = matches!(view.still.map(|still| still.why), Some(Why::OutsideHours));
            let refresh = if stands { LONGEST } else { SOON };
            Standing { refresh: not_after_the_opening(&Standing { refresh, ..standing.clone() }), ..standing }
        }
        Stands::Entered => match room.live.seats.get(&held.ticket.id) {
            Some(seat) => Standing { session: Some(session(room, call, &seat)), ..plain(QueueState::Inside, LATER) },
            None => plain(QueueState::Expired, SOON),
        },
        Stands::Left => plain(QueueState::Left, LATER),
        Stands::Unknown => plain(QueueState::Expired, SOON),
    }
}

/// When a stay ends, on the wall clock, if the room's clock does not stand still meanwhile.
fn session(room: &RoomInForce, call: &Call, seat: &Seat) -> Session {
    let (stay, now) = (room.settings.stay(), room.live.room_seconds(call.now));
    let ends = seat.ends(&stay);
    let at = |second: u32| call.now.wall + Duration::from_secs(u64::from(second.saturating_sub(now)));
    Session {
        ends_at: at(ends.first()),
        limited_at: ends.limit.map(at),
        extensions_left: seat.extensions_left(&stay),
        ends_soon: ends.soon(&stay, now),
    }
}

/// When to ask again. In the last stretch at once: the answer is held until there is news, and a visitor who was called
/// right after joining should not learn of it two seconds later.
fn ask_again(told: Told, near: Near, number: u64) -> Duration {
    match near {
        Near::Hold => AT_ONCE,
        Near::AnswerNow => jittered(told.interval(), number),
    }
}

/// Whoever waits for an hour asks when it comes; those further back a little later, so that not everybody asks at once.
fn not_after_the_opening(standing: &Standing) -> Duration {
    let Some(opens_at) = standing.window.opens_at else { return standing.refresh };
    let opens_in = opens_at.since(standing.updated_at);
    let waits_then = standing.wait.map_or(Duration::ZERO, |wait| wait.low.saturating_sub(opens_in));
    standing.refresh.min(opens_in + waits_then / 4).max(AT_ONCE)
}

/// Nobody before one, as far as it matters, once a request to enter would be held: whoever stands before will have
/// entered by then. A page that is told so asks to enter.
fn told_at_gate(ahead: Option<u64>, knock: Knock) -> Option<u64> {
    match knock {
        Knock::Now => ahead.map(|_| 0),
        Knock::Later => ahead.map(|ahead| ahead.max(1)),
    }
}

fn with_class(room: &RoomInForce, credentials: &Credentials, standing: Standing) -> Standing {
    let has_place = credentials.ticket.or(credentials.unnumbered).is_some() || credentials.inside.is_some();
    Standing { class: has_place.then(|| room.live.class_name(class_of(credentials))), ..standing }
}

/// The class of whoever has a place or is inside; the citizens' for everybody else.
pub fn class_of(credentials: &Credentials) -> ClassId {
    let of_ticket = credentials.ticket.or(credentials.unnumbered).map(|held| held.ticket.class);
    let of_pass = credentials.inside.as_ref().map(|inside| inside.token.class);
    of_pass.or(of_ticket).unwrap_or(ClassId::CITIZEN)
}

/// How much of the way is done: the time waited, over that and what is estimated still to come.
fn progress(waited_seconds: u32, wait: WaitRange) -> f64 {
    let waited = f64::from(waited_seconds);
    let to_come = (wait.low + wait.high).as_secs_f64() / 2.0;
    waited / (waited + to_come.max(1.0))
}

/// Told intervals are spread by up to 15 %, always the same way for one ticket, so that polls do not come in waves.
fn jittered(interval: Duration, number: u64) -> Duration {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    let part = 1.0 - 0.15 * (spread as f64 / 65_536.0);
    Duration::from_millis((interval.as_secs_f64() * part * 1000.0) as u64)
}

fn recovery_code(room: &RoomInForce, call: &Call, ticket: &Ticket) -> Option<String> {
    let place = Place { class: ticket.class, number: ticket.number };
    let code = room.keys.recovery_code(place, room.live.identity(), call.now.unix.seconds())?;
    Some(code.to_string())
}

/// A short text to read out on the phone. Of whoever gathers for a draw it says what the draw is applied to.
fn reference_of(room: &RoomInForce, ticket: &Ticket) -> String {
    room.live.gatherer(ticket).and_then(Gatherer::reference).unwrap_or_else(|| reference::random(&ticket.id))
}

/// The standing before the hour: no number, no estimate. Without a ticket it says from when on there are any.
fn before_opening(
    room: &RoomInForce,
    call: &Call,
    ticket: Option<&Ticket>,
    phase: Phase,
    plain: impl Fn(QueueState, Duration) -> Standing,
) -> Standing {
    let anything = call.request_id.as_bytes().iter().fold(0u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    let refresh = room.live.asks_again_before_opening(ticket, anything, call.now).max(SOON);
    let by = room.live.last_opening().map(|opening| opening.order);
    let gathering = match (phase, ticket, by) {
        (Phase::Announced { gather_from, .. }, None, _) => Some(Gathering::From(gather_from)),
        // Whoever stood in line before the opening was announced has no part in its draw.
        (_, Some(ticket), Some(_)) if !room.live.gathers_for_the_last(ticket) => Some(Gathering::ByArrival),
        (_, _, Some(Order::Lottery)) => Some(Gathering::ByLot),
        (_, _, Some(Order::Arrival)) => Some(Gathering::ByArrival),
        _ => None,
    };
    let reason = room.live.told_to_everybody(call.now).map(reason_of);
    Standing { gathering, reason, ..plain(QueueState::BeforeOpening, refresh) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_just_joined_has_nothing_of_the_way_behind() {
        let wait = WaitRange { low: Duration::from_secs(3000), high: Duration::from_secs(5000) };
        assert!(progress(0, wait) < 0.001);
        assert!((progress(4000, wait) - 0.5).abs() < 0.001);
    }

    #[test]
    fn intervals_are_spread_but_never_longer_than_told() {
        let told = Duration::from_secs(60);
        let spread: Vec<Duration> = (0..1000).map(|number| jittered(told, number)).collect();
        assert!(spread.iter().all(|interval| *interval <= told && *interval >= told.mul_f64(0.85) - SOON / 1000));
        assert!(spread.iter().collect::<std::collections::HashSet<_>>().len() > 500);
    }
}
