//! The decision: what becomes of a request to a room. A pure function of facts that others established.

use super::line::StraightThrough;
use super::negotiation::{Audience, Provenance};

/// What the operator wants of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The line works.
    Working,
    /// Everybody passes; decisions are only counted.
    Observing,
    /// Nobody passes: maintenance.
    Closed,
}

/// What the path is to the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Protected.
    Gated,
    /// Never gated.
    Bypass,
    /// Where a login provider sends the visitor back to.
    LoginCallback,
}

/// What the request's pass is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// There is none that counts.
    None,
    /// It is good.
    Good,
    /// It is one of staff: waits for nothing.
    Staff,
    /// It expired or ended within the grace period.
    JustExpired,
}

/// What the request's ticket or turn is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There is none that counts.
    None,
    /// It waits in the line.
    Waiting,
    /// It has been called.
    Called,
    /// It went in, and its seat is still taken: the same pass again.
    SeatTaken,
}

/// What the request would do at the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// GET, HEAD and the like.
    Safe,
    /// Everything else, with a body or without.
    Unsafe,
}

/// What asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// A page, a script or app, or a part of a page.
    pub audience: Audience,
    /// Whether a browser only wants it in advance.
    pub prefetch: bool,
    /// Whether it is the question a browser asks before a cross-origin request.
    pub preflight: bool,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Safe or not.
    pub effect: Effect,
}

/// Everything the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the operator wants.
    pub mode: Mode,
    /// What the path is.
    pub route: Route,
    /// The pass.
    pub pass: Pass,
    /// The ticket or turn.
    pub place: Place,
    /// What asks.
    pub asking: Asking,
    /// Whether a newcomer may go straight through.
    pub straight_through: StraightThrough,
}

/// What becomes of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to the portal.
    Admit(Admit),
    /// The visitor has to wait.
    Wait(Wait),
}

/// Why a request goes to the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// The visitor is inside.
    Pass,
    /// Staff or monitoring, who take no seat.
    Staff,
    /// The visitor was inside until a moment ago: no form is swallowed, no login lost.
    Grace,
    /// Never gated.
    Bypass,
    /// A preflight is never queued or counted.
    Preflight,
    /// The room only observes.
    Observing,
    /// The ticket went in already; it gets the same pass again.
    SamePass,
    /// Called: through the gate.
    Turn,
    /// Nobody waits: through the gate with a number of its own.
    Straight,
}

/// What a visitor who has to wait gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The waiting page.
    Page,
    /// The page that says that a form was not sent.
    FormNotSent,
    /// The queue object.
    Json,
    /// Nothing: a part of a page has no use for a page.
    Empty,
    /// The maintenance page, or its equivalent for a script.
    Maintenance,
}

/// Decides. The first rule that applies counts.
pub fn decide(facts: &Facts) -> Decision {
    let asking = facts.asking;
    if facts.route == Route::Bypass {
        return Decision::Admit(Admit::Bypass);
    }
    if asking.preflight {
        return Decision::Admit(Admit::Preflight);
    }
    if facts.pass == Pass::Staff {
        return Decision::Admit(Admit::Staff);
    }
    if facts.mode == Mode::Closed {
        return Decision::Wait(Wait::Maintenance);
    }
    match facts.pass {
        Pass::Good => return Decision::Admit(Admit::Pass),
        Pass::JustExpired if facts.route == Route::LoginCallback || asking.effect == Effect::Unsafe => {
            return Decision::Admit(Admit::Grace);
        }
        Pass::Staff | Pass::JustExpired | Pass::None => {}
    }
    if facts.mode == Mode::Observing {
        return Decision::Admit(Admit::Observing);
    }
    match facts.place {
        Place::SeatTaken => Decision::Admit(Admit::SamePass),
        Place::Called if asking.prefetch => Decision::Wait(Wait::Empty),
        Place::Called if asking.audience == Audience::SubResource => Decision::Wait(Wait::Empty),
        Place::Called => Decision::Admit(Admit::Turn),
        Place::None if may_go_straight(facts) => Decision::Admit(Admit::Straight),
        Place::None | Place::Waiting => Decision::Wait(wait_of(&asking)),
    }
}

/// Only the first navigation or an app's request goes straight through: parts of pages and prefetches would take seats
/// for nobody, and another site's form would spend an admission.
fn may_go_straight(facts: &Facts) -> bool {
    let asking = facts.asking;
    let from_here = asking.effect == Effect::Safe || asking.provenance != Provenance::CrossOrigin;
    facts.straight_through == StraightThrough::Yes
        && from_here
        && !asking.prefetch
        && asking.audience != Audience::SubResource
}

fn wait_of(asking: &Asking) -> Wait {
    match asking.audience {
        _ if asking.prefetch => Wait::Empty,
        Audience::SubResource => Wait::Empty,
        Audience::Script => Wait::Json,
        Audience::Page if asking.effect == Effect::Unsafe => Wait::FormNotSent,
        Audience::Page => Wait::Page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAVIGATION: Asking = Asking {
        audience: Audience::Page,
        prefetch: false,
        preflight: false,
        provenance: Provenance::Unsaid,
        effect: Effect::Safe,
    };

    const NEWCOMER: Facts = Facts {
        mode: Mode::Working,
        route: Route::Gated,
        pass: Pass::None,
        place: Place::None,
        asking: NAVIGATION,
        straight_through: StraightThrough::No,
    };

    fn posting(provenance: Provenance) -> Asking {
        Asking { effect: Effect::Unsafe, provenance, ..NAVIGATION }
    }

    #[test]
    fn a_newcomer_waits_unless_nobody_does() {
        assert_eq!(decide(&NEWCOMER), Decision::Wait(Wait::Page));
        let nobody_waits = Facts { straight_through: StraightThrough::Yes, ..NEWCOMER };
        assert_eq!(decide(&nobody_waits), Decision::Admit(Admit::Straight));
    }

    #[test]
    fn parts_of_pages_and_prefetches_never_take_a_seat() {
        let part = Asking { audience: Audience::SubResource, ..NAVIGATION };
        let early = Asking { prefetch: true, ..NAVIGATION };
        for asking in [part, early] {
            for place in [Place::None, Place::Waiting, Place::Called] {
                let facts = Facts { asking, place, straight_through: StraightThrough::Yes, ..NEWCOMER };
                assert_eq!(decide(&facts), Decision::Wait(Wait::Empty), "{facts:?}");
            }
        }
    }

    #[test]
    fn no_form_is_swallowed_just_after_a_pass_expired() {
        let facts = Facts { pass: Pass::JustExpired, asking: posting(Provenance::SameOrigin), ..NEWCOMER };
        assert_eq!(decide(&facts), Decision::Admit(Admit::Grace));
        let reading = Facts { pass: Pass::JustExpired, ..NEWCOMER };
        assert_eq!(decide(&reading), Decision::Wait(Wait::Page));
        let back_from_login = Facts { route: Route::LoginCallback, ..reading };
        assert_eq!(decide(&back_from_login), Decision::Admit(Admit::Grace));
    }

    #[test]
    fn another_sites_form_does_not_go_straight_through() {
        let nobody_waits = Facts { straight_through: StraightThrough::Yes, ..NEWCOMER };
        let cross = Facts { asking: posting(Provenance::CrossOrigin), ..nobody_waits };
        assert_eq!(decide(&cross), Decision::Wait(Wait::FormNotSent));
        let own = Facts { asking: posting(Provenance::SameOrigin), ..nobody_waits };
        assert_eq!(decide(&own), Decision::Admit(Admit::Straight));
    }

    #[test]
    fn of_those_inside_nothing_matters_but_whether_it_is_a_preflight() {
        use Audience::{Page, Script, SubResource};
        let inside = Facts { pass: Pass::Good, ..NEWCOMER };
        for (audience, prefetch) in [(Page, false), (Script, true), (SubResource, false)] {
            for provenance in [Provenance::SameOrigin, Provenance::CrossOrigin, Provenance::Unsaid] {
                for mode in [Mode::Working, Mode::Observing, Mode::Closed] {
                    for preflight in [false, true] {
                        let asking = Asking { audience, prefetch, provenance, preflight, ..NAVIGATION };
                        let plainly = Asking { preflight, ..NAVIGATION };
                        let (facts, plain) =
                            (Facts { mode, asking, ..inside }, Facts { mode, asking: plainly, ..inside });
                        assert_eq!(decide(&facts), decide(&plain), "{facts:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_closed_room_lets_nobody_in_but_the_bypass() {
        let closed = Facts { mode: Mode::Closed, pass: Pass::Good, ..NEWCOMER };
        assert_eq!(decide(&closed), Decision::Wait(Wait::Maintenance));
        assert_eq!(decide(&Facts { route: Route::Bypass, ..closed }), Decision::Admit(Admit::Bypass));
    }

    #[test]
    fn staff_gets_in_whatever_the_room_is_like() {
        for mode in [Mode::Working, Mode::Observing, Mode::Closed] {
            let facts = Facts { mode, pass: Pass::Staff, ..NEWCOMER };
            assert_eq!(decide(&facts), Decision::Admit(Admit::Staff));
        }
    }

    #[test]
    fn observing_lets_everybody_pass() {
        let facts = Facts { mode: Mode::Observing, place: Place::Waiting, ..NEWCOMER };
        assert_eq!(decide(&facts), Decision::Admit(Admit::Observing));
    }
}
