//! Tickets whose holders come back after the calls have passed them: what share of the calls they take.
//!
//! What can be seen is when somebody learns of a turn, which near the front is the moment of the call. Those called who
//! never learn of it, because they have gone, are missing from the whole: the share comes out too large rather than too
//! small.

use std::collections::HashMap;

use serde::Serialize;

use crate::clock::Moment;
use crate::ticket::Place;

/// What is known of one ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Lane and number.
    pub place: Place,
    /// Whether it is one of those whose share is looked for.
    pub hoarded: bool,
    /// Came back and was told to wait, at this time.
    pub waits_again: Option<Moment>,
    /// Learnt of the turn at this time, if at all.
    pub called_by: Option<Moment>,
}

/// Calls of tickets that came back after they had been passed, while others waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Returns {
    /// Hoarded tickets that came back after they had been passed, and were told to wait.
    pub tickets: usize,
    /// How many of them were called.
    pub calls: usize,
    /// All that were called in the same time.
    pub of_calls: usize,
}

impl Returns {
    /// Their share of the calls.
    pub fn share(&self) -> f64 {
        if self.of_calls == 0 { 0.0 } else { self.calls as f64 / self.of_calls as f64 }
    }

    /// Finds out: from the first of them to come back until the last of the others is called.
    pub fn of(tickets: &[Ticket]) -> Returns {
        let served = Served::of(tickets);
        let came_back: Vec<(&Ticket, Moment)> = tickets
            .iter()
            .filter(|ticket| ticket.hoarded)
            .filter_map(|ticket| Some((ticket, ticket.waits_again?)))
            .filter(|(ticket, at)| served.had_passed(ticket.place, *at))
            .collect();
        let Some(from) = came_back.iter().map(|(_, at)| *at).min() else { return Returns::default() };
        let others = tickets.iter().filter(|ticket| !ticket.hoarded);
        let until = others.filter_map(|ticket| ticket.called_by).max().unwrap_or(from);
        let within = |called_by: Option<Moment>| called_by.is_some_and(|at| (from..=until).contains(&at));
        Returns {
            tickets: came_back.len(),
            calls: came_back.iter().filter(|(ticket, _)| within(ticket.called_by)).count(),
            of_calls: tickets.iter().filter(|ticket| within(ticket.called_by)).count(),
        }
    }
}

/// The highest number of each lane that had been called, over time.
struct Served(HashMap<u8, Vec<(Moment, u64)>>);

impl Served {
    fn of(tickets: &[Ticket]) -> Served {
        let mut calls: Vec<(Moment, Place)> =
            tickets.iter().filter_map(|ticket| Some((ticket.called_by?, ticket.place))).collect();
        calls.sort_unstable_by_key(|(at, _)| *at);
        let mut served: HashMap<u8, Vec<(Moment, u64)>> = HashMap::new();
        for (at, place) in calls {
            let lane = served.entry(place.class).or_default();
            let highest = lane.last().map_or(0, |(_, highest)| *highest);
            lane.push((at, highest.max(place.number)));
        }
        Served(served)
    }

    /// Whether a later ticket had been called by then.
    fn had_passed(&self, place: Place, at: Moment) -> bool {
        let Some(lane) = self.0.get(&place.class) else { return false };
        let before = lane.partition_point(|(called, _)| *called <= at).checked_sub(1);
        before.and_then(|last| lane.get(last)).is_some_and(|(_, highest)| *highest > place.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment(second * 1_000_000)
    }

    fn honest(number: u64, called_by: u64) -> Ticket {
        let place = Place { class: 0, number };
        Ticket { place, hoarded: false, waits_again: None, called_by: Some(at(called_by)) }
    }

    fn hoarded(number: u64, waits_again: u64, called_by: Option<u64>) -> Ticket {
        let called_by = called_by.map(at);
        Ticket { hoarded: true, waits_again: Some(at(waits_again)), called_by, ..honest(number, 0) }
    }

    #[test]
    fn calls_of_those_who_were_passed_and_came_back_are_counted_against_all_of_that_time() {
        let passed = [hoarded(1, 20, Some(21)), hoarded(2, 20, None)];
        let others = [honest(10, 10), honest(11, 20), honest(12, 22), honest(13, 23)];
        let found = Returns::of(&[passed.as_slice(), others.as_slice()].concat());
        assert_eq!(found, Returns { tickets: 2, calls: 1, of_calls: 4 });
        assert!((found.share() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn whoever_was_not_passed_only_takes_the_turn_that_comes() {
        let found = Returns::of(&[hoarded(30, 20, Some(25)), honest(10, 10), honest(31, 26)]);
        assert_eq!(found, Returns::default());
        let other_lane = Ticket { place: Place { class: 1, number: 90 }, ..honest(90, 10) };
        assert_eq!(Returns::of(&[hoarded(30, 20, Some(25)), other_lane]), Returns::default());
    }

    #[test]
    fn once_nobody_else_waits_they_may_take_all() {
        let found = Returns::of(&[hoarded(1, 20, Some(40)), hoarded(2, 20, Some(41)), honest(10, 10), honest(11, 30)]);
        assert_eq!(found, Returns { tickets: 2, calls: 0, of_calls: 1 });
    }
}
