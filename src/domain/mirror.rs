//! One line on several nodes: what the nodes tell one another, and how each keeps a copy of the line by it.
//!
//! One node leads: it ticks the line, calls and lets in. The others follow: they tell what their visitors do and take
//! over what the leader decided. All hear everything in one order, so that any of them can lead on.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::adaptive::Course;
use super::gate::{Came, Elsewhere};
use super::line::{Asks, Conditions, Line, REFRESH_TICKS, Standstill};
use super::names::ClassId;
use super::tickets::{Number, State, Told};
use super::time::{Mono, Now};

/// A process that serves the line: random, new at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// What one node tells the others of visitors who wait. What must outlast all of them is told as a fact of the store.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Said {
    /// A visitor asked, and was told when to ask again.
    Heard {
        /// The lane.
        class: ClassId,
        /// The ticket.
        number: Number,
        /// When to ask again.
        told: Told,
    },
    /// A visitor's request waits at the gate of this node, or does so no more.
    Gate {
        /// The lane.
        class: ClassId,
        /// The ticket.
        number: Number,
        /// Whether a request is there that could enter.
        open: bool,
    },
    /// The leader lets a ticket in whose request waits at the node.
    Grant {
        /// The lane.
        class: ClassId,
        /// The ticket.
        number: Number,
        /// Where the request waits.
        node: NodeId,
        /// When it was let in at the earliest, by the store's clock, in milliseconds since 1970.
        at_ms: u64,
    },
    /// A ticket that was let in could not enter after all: nothing was forwarded.
    Unspent {
        /// The lane.
        class: ClassId,
        /// The ticket.
        number: Number,
    },
    /// A turn got more time.
    Extended {
        /// The lane.
        class: ClassId,
        /// The ticket.
        number: Number,
    },
    /// How the leader sees the room.
    Pace {
        /// Why nobody enters.
        standstill: Option<Standstill>,
        /// Thousandths of the rate.
        ramp: u32,
        /// Calls per entry.
        learnt: f32,
    },
    /// The node is there, and its room is defined like this.
    Here {
        /// A digest of the definition.
        definition: u64,
    },
    /// A visitor was moved into another class, and may not have heard of it yet.
    Moved {
        /// The place that was held.
        from: (ClassId, Number),
        /// The place that is held now.
        to: (ClassId, Number),
        /// The identity of the new ticket.
        id: [u8; 16],
    },
    /// The portal answered visitors of the node within this second: one word for each bucket of [`super::pulse`] that has
    /// answers. Only said of rooms whose rate goes by that.
    Answers {
        /// The bucket.
        bucket: u8,
        /// How many.
        count: u32,
    },
    /// Where the leader's rate stands that goes by the portal's answers.
    Bears(Course),
}

impl Said {
    /// Whether only the node that leads may say this.
    pub fn is_decision(&self) -> bool {
        matches!(self, Said::Grant { .. } | Said::Pace { .. } | Said::Bears(_))
    }
}

impl Line {
    /// A tick of a node that follows: the clocks advance and the silent become absent. Nobody is called.
    pub fn follow(&mut self, now: Now, conditions: Conditions) {
        let elapsed = now.mono.since(self.last_tick);
        self.last_tick = now.mono;
        self.note_conditions(now.mono, conditions, elapsed);
        self.advance_clocks(elapsed);
        self.note_parts();
        let stands = self.nobody_is_called();
        let clock = self.presence.now();
        let forget_before = now.unix.minus(self.terms.ticket_lifetime).seconds();
        let (gathers, places, told) = (self.gathers(), self.places.clone(), self.told_at_the_hour);
        for (class, lane) in &mut self.lanes {
            if !gathers {
                lane.note_others(|number| places.place(*class, number), told, clock, now.unix.seconds());
                lane.refresh_part(REFRESH_TICKS, clock, forget_before);
            }
            lane.gate.lapse(now.mono);
            if !stands && self.shares.has_share(*class) {
                lane.catch_up();
            }
        }
    }

    /// Several nodes share the line: what is let in here enters elsewhere, a little later.
    pub fn is_shared(&mut self) {
        self.budget.save_little();
    }

    /// From now on this node leads: it begins with an empty budget, since the last leader may have spent it.
    pub fn take_the_lead(&mut self, now: Mono) {
        self.begin_with_nothing(now);
        self.learnt_elsewhere = 1.0;
    }

    /// When the ticket's visitor was told to ask again.
    pub fn told_last(&self, class: ClassId, number: Number) -> Told {
        self.lane(class).map_or(Told::Sixty, |lane| lane.tickets.told(number))
    }

    /// Numbers were drawn by visitors who wait. Those known already stay as they are.
    pub fn joined_elsewhere(&mut self, class: ClassId, numbers: RangeInclusive<Number>, asks: Asks, now: Now) {
        let told = if asks == Asks::ByHand { Told::Plain } else { Told::Two };
        let clock = self.presence.now();
        for number in numbers {
            if matches!(self.state(class, number), State::Unissued | State::InDoubt) {
                self.lane_mut(class).join(number, told, clock, now.unix.seconds());
                self.presence.told(told.interval());
            }
        }
    }

    /// Numbers were drawn by newcomers who go straight to the gate of another node.
    pub fn went_straight_elsewhere(&mut self, class: ClassId, numbers: RangeInclusive<Number>, now: Now) {
        for number in numbers {
            if matches!(self.state(class, number), State::Unissued | State::InDoubt) {
                let clock = self.presence.now();
                let lane = self.lane_mut(class);
                lane.join(number, Told::Two, clock, now.unix.seconds());
                lane.tickets.set(number, State::Called);
            }
        }
    }

    /// A visitor asked at another node. A ticket that is not known here was lost by the store between the two, and takes
    /// its place again.
    pub fn heard_elsewhere(&mut self, class: ClassId, number: Number, told: Told, now: Now) {
        self.reinstate(class, number, if told == Told::Plain { Asks::ByHand } else { Asks::Scripted }, now);
        let waits = matches!(self.state(class, number), State::Waiting | State::Absent);
        self.polls = self.polls.saturating_add(u32::from(waits));
        let clock = self.presence.now();
        let lane = self.lane_mut(class);
        lane.tickets.hear(number, told, clock, now.unix.seconds());
        lane.gate.seen(number, now.mono);
        if waits {
            self.presence.told(told.interval());
        }
    }

    /// What was heard of a ticket here counts, although the leader counted it as absent just before.
    pub fn heard_again(&mut self, class: ClassId, number: Number, told: Told, now: Now) {
        if self.state(class, number) == State::Absent {
            let clock = self.presence.now();
            self.lane_mut(class).tickets.hear(number, told, clock, now.unix.seconds());
        }
    }

    /// The leader called the ticket.
    /// Returns whether it waited.
    pub fn called_elsewhere(&mut self, class: ClassId, number: Number) -> bool {
        let waited =
            matches!(self.state(class, number), State::Waiting | State::Absent | State::InDoubt | State::Unissued);
        if waited {
            let window = self.terms.claim_window;
            self.lane_mut(class).give_turn(number, None, window);
        }
        waited
    }

    /// The leader counts the ticket as absent, or its turn has lapsed.
    pub fn absent_elsewhere(&mut self, class: ClassId, number: Number) {
        match self.state(class, number) {
            State::Waiting | State::InDoubt => self.lane_mut(class).tickets.set(number, State::Absent),
            State::Called => self.lane_mut(class).lapse(number),
            _ => {}
        }
    }

    /// The ticket went in elsewhere, or the leader let it in here.
    pub fn entered_elsewhere(&mut self, class: ClassId, number: Number) {
        if self.state(class, number) != State::Forgotten {
            self.lane_mut(class).entered(number);
        }
    }

    /// The ticket gave its place up elsewhere.
    pub fn left_elsewhere(&mut self, class: ClassId, number: Number) {
        if !matches!(self.state(class, number), State::Entered | State::Forgotten) {
            self.lane_mut(class).left(number);
        }
    }

    /// A request of the ticket waits at another node, or does so no more.
    pub fn at_gate_elsewhere(&mut self, class: ClassId, number: Number, elsewhere: Elsewhere, now: Mono) {
        if self.state(class, number) == State::Called {
            let lane = self.lane_mut(class);
            lane.note_arrival(number, now);
            let came = if lane.has_turn(number) { Came::Called } else { Came::Straight };
            lane.gate.hold_elsewhere(number, came, elsewhere, now);
        }
    }

    /// The ticket was let in and could not enter: it keeps its turn. The leader gets the admission back.
    pub fn unspent(&mut self, class: ClassId, number: Number) {
        if self.state(class, number) == State::Entered {
            let window = self.terms.claim_window;
            self.lane_mut(class).give_turn(number, None, window);
        }
    }

    /// What the leader has learnt of those it calls.
    pub fn learnt_elsewhere(&mut self, calls_per_entry: f32) {
        self.learnt_elsewhere = f64::from(calls_per_entry).clamp(1.0, 12.0);
    }

    /// How long a turn given now is kept.
    pub fn claim_window(&self) -> Duration {
        self.terms.claim_window
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::TICK;
    use super::super::line::{Arrival, Standing, Terms};
    use super::super::time::Unix;
    use super::*;

    const CLASS: ClassId = ClassId(7);

    fn terms() -> Terms {
        Terms {
            rate: "10/s".parse().unwrap(),
            claim_window: Duration::from_secs(1200),
            ticket_lifetime: Duration::from_secs(86_400),
            gate_wait: Duration::from_secs(5),
        }
    }

    fn at(ticks: u64) -> Now {
        let since = TICK * u32::try_from(ticks).unwrap();
        Now { mono: Mono(0) + since, unix: Unix(1_000_000_000) + since, wall: Unix(1_000_000_000) + since }
    }

    #[test]
    fn a_follower_shows_what_the_leader_decided() {
        let (mut leader, mut follower) = (Line::new(terms(), Mono(0)), Line::new(terms(), Mono(0)));
        for line in [&mut leader, &mut follower] {
            line.joined_elsewhere(CLASS, 1..=40, Asks::Scripted, at(0));
        }
        for tick in 1..=5 {
            for (class, moved) in leader.tick(at(tick), Conditions::FINE).moved {
                for number in moved.called {
                    assert!(follower.called_elsewhere(class, number));
                }
            }
            follower.follow(at(tick), Conditions::FINE);
        }
        for number in 1..=40 {
            let of = |line: &Line| match line.standing(CLASS, number, Asks::Scripted) {
                Standing::Waiting { ahead, .. } => Some(ahead),
                _ => None,
            };
            assert_eq!(of(&leader), of(&follower), "{number}");
        }
        assert!(follower.lane(CLASS).unwrap().now_serving() > 0);
    }

    #[test]
    fn a_follower_calls_nobody() {
        let mut follower = Line::new(terms(), Mono(0));
        follower.joined_elsewhere(CLASS, 1..=40, Asks::Scripted, at(0));
        (1..=100).for_each(|tick| follower.follow(at(tick), Conditions::FINE));
        assert_eq!(follower.lane(CLASS).unwrap().now_serving(), 0);
    }

    #[test]
    fn a_ticket_that_the_store_lost_is_called_when_another_node_hears_of_it() {
        let mut leader = Line::new(terms(), Mono(0));
        leader.joined_elsewhere(CLASS, 1..=2, Asks::Scripted, at(0));
        leader.joined_elsewhere(CLASS, 65_540..=65_541, Asks::Scripted, at(0));
        leader.heard_elsewhere(CLASS, 3, Told::Two, at(0));
        (1..=100).for_each(|tick| drop(leader.tick(at(tick), Conditions::FINE)));
        assert!(matches!(leader.standing(CLASS, 3, Asks::Scripted), Standing::YourTurn { .. }));
    }

    #[test]
    fn the_leader_lets_in_by_number_whoever_waits_where() {
        let mut leader = Line::new(terms(), Mono(0));
        leader.joined_elsewhere(CLASS, 1..=3, Asks::Scripted, at(0));
        leader.tick(at(1), Conditions::FINE);
        assert_eq!(leader.arrive(CLASS, 2, at(1).mono), Arrival::AtGate);
        leader.at_gate_elsewhere(CLASS, 1, Elsewhere::Open, at(1).mono);
        leader.at_gate_elsewhere(CLASS, 3, Elsewhere::Open, at(1).mono);
        leader.at_gate_elsewhere(CLASS, 3, Elsewhere::Closed, at(1).mono);
        let entered: Vec<Number> = (2..40).filter_map(|tick| Some(leader.enter_next(at(tick).mono)?.number)).collect();
        assert_eq!(entered, [1, 2]);
    }

    #[test]
    fn a_new_leader_begins_with_an_empty_budget() {
        let mut follower = Line::new(terms(), Mono(0));
        follower.joined_elsewhere(CLASS, 1..=3, Asks::Scripted, at(0));
        (1..=100).for_each(|tick| follower.follow(at(tick), Conditions::FINE));
        follower.called_elsewhere(CLASS, 1);
        follower.at_gate_elsewhere(CLASS, 1, Elsewhere::Open, at(100).mono);
        follower.take_the_lead(at(100).mono);
        assert_eq!(follower.enter_next(at(100).mono), None);
        assert!(follower.enter_next(at(101).mono).is_some());
    }

    #[test]
    fn an_entry_that_was_unspent_keeps_its_turn() {
        let mut line = Line::new(terms(), Mono(0));
        line.joined_elsewhere(CLASS, 1..=1, Asks::Scripted, at(0));
        line.called_elsewhere(CLASS, 1);
        line.entered_elsewhere(CLASS, 1);
        line.unspent(CLASS, 1);
        assert!(matches!(line.standing(CLASS, 1, Asks::Scripted), Standing::YourTurn { .. }));
    }

    #[test]
    fn who_entered_is_not_called_again_by_a_late_word() {
        let mut line = Line::new(terms(), Mono(0));
        line.joined_elsewhere(CLASS, 1..=1, Asks::Scripted, at(0));
        line.called_elsewhere(CLASS, 1);
        line.entered_elsewhere(CLASS, 1);
        assert!(!line.called_elsewhere(CLASS, 1));
        line.left_elsewhere(CLASS, 1);
        assert_eq!(line.standing(CLASS, 1, Asks::Scripted), Standing::Entered);
    }
}
