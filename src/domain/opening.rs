//! The opening of a room: visitors gather before the hour, and at the hour get their places, in the order in which they
//! came or drawn by lot.
//!
//! What the operator plans is a [`Plan`]; what lasts of it is an [`Opening`]. These rules say what follows from the two:
//! in which [`Phase`] a room is, what of a plan may still change, and when those who gather ask again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hour::Hour;
use super::lottery::SEED_LEN;
use super::names::ClassId;
use super::tickets::{Number, Told};
use super::time::Unix;

/// Whoever gathers asks again after this at the latest: an hour may be moved. Presence does not count before the hour.
const FAR: Duration = Duration::from_secs(300);

/// So many who gathered ask per second after the hour.
const ASK_PER_SECOND: u64 = 4000;

/// The shortest and the longest stretch over which those who gathered ask after the hour.
const SPREAD: (Duration, Duration) = (Duration::from_secs(2), LONGEST_SPREAD);

/// After the hour it takes so long at the most until everybody who gathered has asked.
pub const LONGEST_SPREAD: Duration = Duration::from_secs(240);

/// In which order those who gathered get their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they came.
    Arrival,
    /// Drawn by lot.
    Lottery,
}

/// What the operator plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The hour.
    pub at: Unix,
    /// From when on visitors may gather.
    pub gather_from: Unix,
    /// How places are given.
    pub order: Order,
}

impl Plan {
    /// The plan by which a node goes that shares the line with others: what was announced counts, whatever its own file says.
    pub fn of_all(configured: Option<&Plan>, last: Option<&Opening>) -> Option<Plan> {
        let announced = last.filter(|opening| opening.held.is_none());
        announced.map_or(configured.copied(), |opening| Some(opening.plan(configured)))
    }
}

/// An opening as it lasts: announced, and later held.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Which opening of the line it is, from 1.
    pub number: u32,
    /// How places are given.
    pub order: Order,
    /// The hour as planned last.
    pub at: Unix,
    /// When it was announced, and its commitment published.
    pub announced: Unix,
    /// What the draw comes from; a secret until the opening is held. `None` when the places are not drawn.
    pub seed: Option<[u8; SEED_LEN]>,
    /// What the lanes' counters stood at when it was announced.
    pub after: Vec<(ClassId, Number)>,
    /// What became of it.
    pub held: Option<Held>,
}

/// What is final once an opening is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// When.
    pub at: Unix,
    /// Who had gathered, lane by lane.
    pub lanes: Vec<Gathered>,
}

/// Those who gathered in a lane: the numbers after `after`, so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gathered {
    /// The lane.
    pub class: ClassId,
    /// The last number drawn before they gathered.
    pub after: Number,
    /// How many numbers were drawn by them.
    pub count: u64,
}

impl std::fmt::Debug for Opening {
    /// Without the seed, which is a secret before the hour.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seed = if self.seed.is_some() { "(secret)" } else { "(none)" };
        f.debug_struct("Opening").field("number", &self.number).field("seed", &seed).finish_non_exhaustive()
    }
}

impl Opening {
    /// The plan by which it was announced; the hour from which visitors gather is not part of the promise.
    pub fn plan(&self, configured: Option<&Plan>) -> Plan {
        let gather_from = configured.map_or(self.announced, |plan| plan.gather_from.min(self.at));
        Plan { at: self.at, gather_from, order: self.order }
    }

    /// The last number of the lane drawn before this opening was announced.
    pub fn after(&self, class: ClassId) -> Number {
        self.after.iter().find(|(of, _)| *of == class).map_or(0, |(_, after)| *after)
    }

    /// What is final when it is held while the counters stand like this.
    pub fn held_at(&self, at: Unix, counters: &[(ClassId, Number)]) -> Held {
        let gathered = |(class, counter): &(ClassId, Number)| {
            let after = self.after(*class);
            Gathered { class: *class, after, count: counter.saturating_sub(after) }
        };
        Held { at, lanes: counters.iter().map(gathered).filter(|gathered| gathered.count > 0).collect() }
    }

    /// The same opening when it does not take place: nobody has part in it, and the next plan announces another one.
    pub fn withdrawn(self, at: Unix) -> Opening {
        Opening { at: Unix(0), held: Some(Held { at, lanes: Vec::new() }), ..self }
    }

    /// Whether it was announced, and does not take place.
    pub fn is_withdrawn(&self) -> bool {
        self.at == Unix(0)
    }

    /// How many gather, when so many numbers of each lane were drawn.
    pub fn gathered(&self, issued: impl IntoIterator<Item = (ClassId, Number)>) -> u64 {
        issued.into_iter().map(|(class, issued)| issued.saturating_sub(self.after(class))).sum()
    }

    /// Where in a crowd of so many somebody stands who keeps the order of arrival: 0 first, 1 last.
    pub fn part(&self, class: ClassId, number: Number, gathered: u64) -> f64 {
        number.saturating_sub(self.after(class)) as f64 / gathered.max(1) as f64
    }

    /// Whether the holder of the number gathers for it, rather than having stood in line before.
    pub fn is_for(&self, class: ClassId, number: Number) -> bool {
        number > self.after(class)
    }

    /// Whether somebody gathers, as far as the counters tell.
    pub fn gathers(&self, counters: &[(ClassId, Number)]) -> Crowd {
        let came = counters.iter().any(|(class, counter)| *counter > self.after(*class));
        if came { Crowd::Gathers } else { Crowd::Nobody }
    }
}

/// Whether anybody gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// Somebody drew a ticket.
    Gathers,
    /// Nobody did yet.
    Nobody,
}

/// Where a room is on its way to the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none to come: the line goes on as lines do.
    Open,
    /// Nobody may draw a ticket yet.
    Announced {
        /// From when on tickets can be drawn.
        gather_from: Unix,
        /// The hour.
        at: Unix,
    },
    /// Visitors draw tickets and wait for the hour.
    Gathering {
        /// The hour.
        at: Unix,
    },
    /// The hour has come, and is about to be made final.
    Due {
        /// The hour.
        at: Unix,
    },
}

impl Phase {
    /// The phase of a room with this plan whose last opening is this. `gathering` is the hour from which visitors may gather,
    /// `hour` that of the opening: it cannot be taken back, so one wrong reading of the wall clock must not hold it.
    pub fn of(plan: Option<&Plan>, last: Option<&Opening>, gathering: Hour, hour: Hour) -> Phase {
        let is_to_come = last.is_some_and(|opening| opening.held.is_none());
        plan.filter(|_| is_to_come).map_or(Phase::Open, |plan| Phase::before(plan, gathering, hour))
    }

    /// The phase of a room whose opening is still to come.
    pub fn before(Plan { at, gather_from, .. }: &Plan, gathering: Hour, hour: Hour) -> Phase {
        if hour == Hour::Come {
            Phase::Due { at: *at }
        } else if gathering == Hour::Come {
            Phase::Gathering { at: *at }
        } else {
            Phase::Announced { gather_from: *gather_from, at: *at }
        }
    }

    /// The hour to come.
    pub fn opens_at(self) -> Option<Unix> {
        match self {
            Phase::Open => None,
            Phase::Announced { at, .. } | Phase::Gathering { at } | Phase::Due { at } => Some(at),
        }
    }
}

/// What is to be written down before a plan is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Nothing, because the planned hour is over, and nobody was told of it before.
    TooLate,
    /// A new opening of this number.
    Announce(u32),
    /// The hour of the announced opening is another one.
    Move,
    /// The announced opening does not take place: whoever joins from now on has no part in it.
    Withdraw,
}

/// What of a plan may not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// The order is not the one under which people gather.
    #[error("visitors gather already, and were told how places are given; leave order as it was (at may be moved)")]
    OrderChanged,
    /// There is no opening any more for those who gather.
    #[error("visitors gather already; put the table back (to open sooner, move at)")]
    Removed,
    /// Several nodes share the line, and only a reload changes what they go by.
    #[error("the nodes that share the line go by another plan; reload one of them to change it for all")]
    OthersGoByAnother,
    /// The hour is over.
    #[error("at lies in the past, and no such opening was announced; write a later hour, or remove the table")]
    Past,
}

/// What follows from a plan for a room whose last opening is this.
///
/// # Errors
/// [`PlanFault`] when it would break a promise to those who gather.
pub fn step(plan: Option<&Plan>, last: Option<&Opening>, crowd: Crowd, wall: Unix) -> Result<Step, PlanFault> {
    match (plan, last) {
        (None, Some(Opening { held: None, .. })) if crowd == Crowd::Gathers => Err(PlanFault::Removed),
        (None, Some(Opening { held: None, .. })) => Ok(Step::Withdraw),
        (None, _) => Ok(Step::Nothing),
        (Some(plan), Some(opening @ Opening { held: None, .. })) => match opening.order == plan.order {
            true if opening.at == plan.at => Ok(Step::Nothing),
            true => Ok(Step::Move),
            false if crowd == Crowd::Gathers => Err(PlanFault::OrderChanged),
            false => Ok(Step::Announce(opening.number)),
        },
        (Some(plan), Some(opening)) if opening.at == plan.at => Ok(Step::Nothing),
        (Some(plan), _) if plan.at <= wall => Ok(Step::TooLate),
        (Some(_), opening) => Ok(Step::Announce(opening.map_or(0, |opening| opening.number) + 1)),
    }
}

/// Over how long those who gathered ask after the hour, so that its first second is no stampede.
pub fn spread(gathered: u64) -> Duration {
    Duration::from_secs(gathered / ASK_PER_SECOND).clamp(SPREAD.0, SPREAD.1)
}

/// What those who gathered count as having been told at the hour: nobody is absent before they were due to ask.
pub fn told_at_the_hour(gathered: u64) -> Told {
    if spread(gathered) <= Told::Sixty.interval() { Told::Sixty } else { Told::Plain }
}

/// When somebody who gathers asks again, `until` before the hour. `part` (0 to 1) says where in the crowd: whoever comes
/// earlier in the line asks earlier, and where that is not known yet it is anything that differs from visitor to visitor.
pub fn ask_again(until: Duration, gathered: u64, part: f64) -> Duration {
    let part = part.clamp(0.0, 1.0);
    if until > FAR { FAR.mul_f64(1.0 - 0.2 * part) } else { until + spread(gathered).mul_f64(part) }
}

/// A part of the crowd that is always the same for one number, and another for its neighbour.
pub fn scattered(number: u64) -> f64 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1u64 << 24) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Unix = Unix(10_000_000);
    const CITIZEN: ClassId = ClassId(1);
    const PLAN: Plan = Plan { at: HOUR, gather_from: Unix(8_000_000), order: Order::Lottery };

    fn announced() -> Opening {
        Opening {
            number: 1,
            order: Order::Lottery,
            at: HOUR,
            announced: Unix(1),
            seed: Some([1; SEED_LEN]),
            after: vec![(CITIZEN, 5)],
            held: None,
        }
    }

    fn held() -> Opening {
        Opening { held: Some(Held { at: HOUR, lanes: Vec::new() }), ..announced() }
    }

    #[test]
    fn a_room_is_announced_then_gathers_then_is_due_then_open() {
        let come = |wall, at: Unix| if wall < at.0 { Hour::ToCome } else { Hour::Come };
        let at = |wall| Phase::of(Some(&PLAN), Some(&announced()), come(wall, PLAN.gather_from), come(wall, PLAN.at));
        assert_eq!(at(1), Phase::Announced { gather_from: Unix(8_000_000), at: HOUR });
        assert_eq!(at(8_000_000), Phase::Gathering { at: HOUR });
        assert_eq!(at(10_000_000), Phase::Due { at: HOUR });
        assert_eq!(
            Phase::of(Some(&PLAN), Some(&held()), Hour::ToCome, Hour::ToCome),
            Phase::Open,
            "a clock put back closes nothing"
        );
        assert_eq!(Phase::of(None, Some(&announced()), Hour::ToCome, Hour::ToCome), Phase::Open);
        assert_eq!(Phase::of(Some(&PLAN), None, Hour::ToCome, Hour::ToCome), Phase::Open);
    }

    #[test]
    fn what_nodes_that_share_a_line_were_told_counts_for_all_of_them() {
        let later = Opening { at: Unix(12_000_000), announced: Unix(1_000_000), ..announced() };
        let of_all = |configured: Option<&Plan>, last: Option<&Opening>| Plan::of_all(configured, last);
        assert_eq!(of_all(Some(&PLAN), Some(&later)), Some(Plan { at: later.at, ..PLAN }));
        let without = Plan { at: later.at, gather_from: later.announced, order: Order::Lottery };
        assert_eq!(of_all(None, Some(&later)), Some(without), "a node that does not know of it is closed as well");
        assert_eq!(of_all(Some(&PLAN), Some(&held())), Some(PLAN));
        assert_eq!(of_all(None, None), None);
    }

    #[test]
    fn numbers_from_before_the_gathering_do_not_spread_those_who_gather() {
        let opening = Opening { after: vec![(CITIZEN, 1_000_000)], ..announced() };
        let gathered = opening.gathered([(CITIZEN, 1_000_010), (ClassId(2), 10)]);
        assert_eq!(gathered, 20);
        let parts = [1_000_001, 1_000_010].map(|number| opening.part(CITIZEN, number, gathered));
        assert_eq!(parts, [0.05, 0.5]);
        assert_eq!(opening.part(CITIZEN, 7, gathered), 0.0);
        assert!(ask_again(Duration::ZERO, gathered, 1.0) <= told_at_the_hour(gathered).interval());
        assert_eq!([1_000_000, 1_000_001].map(|number| opening.is_for(CITIZEN, number)), [false, true]);
    }

    #[test]
    fn what_was_promised_to_those_who_gather_stays() {
        let now = Unix(9_000_000);
        let step = |plan: Option<Plan>, opening: &Opening, crowd| step(plan.as_ref(), Some(opening), crowd, now);
        let arrival = Plan { order: Order::Arrival, ..PLAN };
        let moved = Plan { at: Unix(11_000_000), ..PLAN };
        let sooner = Plan { at: Unix(1), ..PLAN };
        for (plan, crowd, expected) in [
            (Some(PLAN), Crowd::Gathers, Ok(Step::Nothing)),
            (Some(moved), Crowd::Gathers, Ok(Step::Move)),
            (Some(sooner), Crowd::Gathers, Ok(Step::Move)),
            (Some(arrival), Crowd::Gathers, Err(PlanFault::OrderChanged)),
            (Some(arrival), Crowd::Nobody, Ok(Step::Announce(1))),
            (None, Crowd::Gathers, Err(PlanFault::Removed)),
            (None, Crowd::Nobody, Ok(Step::Withdraw)),
        ] {
            assert_eq!(step(plan, &announced(), crowd), expected, "{plan:?} {crowd:?}");
        }
        for (plan, expected) in [
            (Some(PLAN), Step::Nothing),
            (Some(moved), Step::Announce(2)),
            (Some(sooner), Step::TooLate),
            (None, Step::Nothing),
        ] {
            assert_eq!(step(plan, &held(), Crowd::Gathers), Ok(expected), "{plan:?}");
        }
    }

    #[test]
    fn a_withdrawn_opening_is_announced_anew_even_for_the_same_hour() {
        let withdrawn = announced().withdrawn(Unix(5));
        assert!(withdrawn.is_withdrawn());
        let step = step(Some(&PLAN), Some(&withdrawn), Crowd::Nobody, Unix(9_000_000));
        assert_eq!(step, Ok(Step::Announce(2)));
    }

    #[test]
    fn a_first_plan_is_announced_unless_its_hour_is_over() {
        let step = |wall| step(Some(&PLAN), None, Crowd::Nobody, Unix(wall));
        assert_eq!((step(1), step(10_000_000)), (Ok(Step::Announce(1)), Ok(Step::TooLate)));
    }

    #[test]
    fn those_who_gathered_are_counted_by_the_counters() {
        let counters = [(CITIZEN, 12), (ClassId(2), 3), (ClassId(3), 0)];
        let opening = announced();
        assert_eq!(opening.gathers(&[(CITIZEN, 5)]), Crowd::Nobody);
        assert_eq!(opening.gathers(&counters), Crowd::Gathers);
        let lanes = opening.held_at(HOUR, &counters).lanes;
        let citizens = Gathered { class: CITIZEN, after: 5, count: 7 };
        assert_eq!(lanes, [citizens, Gathered { class: ClassId(2), after: 0, count: 3 }]);
    }

    #[test]
    fn a_million_ask_over_minutes_and_a_few_at_once() {
        assert_eq!((spread(10), spread(1_000_000)), (Duration::from_secs(2), Duration::from_secs(240)));
        assert_eq!((told_at_the_hour(10), told_at_the_hour(1_000_000)), (Told::Sixty, Told::Plain));
    }

    proptest! {
        #[test]
        fn nobody_is_due_later_than_they_are_taken_to_be_there(gathered in 0u64..10_000_000, part in 0.0..1.0f64) {
            let after = ask_again(Duration::ZERO, gathered, part);
            prop_assert!(after <= told_at_the_hour(gathered).interval());
        }

        #[test]
        fn the_hour_is_never_more_than_one_question_away(until in 0u64..100_000, part in 0.0..1.0f64) {
            let until = Duration::from_secs(until);
            let asks = ask_again(until, 1000, part);
            prop_assert!(asks <= FAR + spread(1000));
            prop_assert!(until > FAR || asks >= until);
        }
    }
}
