//! What one identity of a class may have: tickets at once, and admissions per hour. Counting and drawing are one step: a
//! draw that is under way counts already.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Mono;

/// The hour in which admissions are counted.
const HOUR: Duration = Duration::from_secs(3600);

/// What one identity of a class may have; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Tickets at once.
    pub tickets: Option<u32>,
    /// Admissions within an hour.
    pub admissions: Option<u32>,
}

impl Quota {
    /// Whether there is any limit.
    pub fn limits(&self) -> bool {
        self.tickets.is_some() || self.admissions.is_some()
    }
}

/// What became of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It stands in the line, or has a turn.
    InLine,
    /// It went in.
    Entered,
    /// It was given up, or is forgotten.
    Gone,
}

/// What one identity has in a room.
#[derive(Clone, Debug)]
pub struct Has<T> {
    tickets: Vec<T>,
    drawing: u32,
    entered: Vec<Mono>,
}

impl<T> Default for Has<T> {
    fn default() -> Has<T> {
        Has { tickets: Vec::new(), drawing: 0, entered: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Has<T> {
    /// Brings up to date what became of the tickets. Returns those that stand no more.
    pub fn look(&mut self, stands: impl Fn(&T) -> Stands, now: Mono) -> Vec<T> {
        let mut over = Vec::new();
        for ticket in std::mem::take(&mut self.tickets) {
            match stands(&ticket) {
                Stands::InLine => self.tickets.push(ticket),
                Stands::Entered => {
                    self.entered.push(now);
                    over.push(ticket);
                }
                Stands::Gone => over.push(ticket),
            }
        }
        self.entered.retain(|entered| now.since(*entered) < HOUR);
        over
    }

    /// Takes the right to draw one more ticket, if there is one. What stands in the line may enter within the hour, so it
    /// counts with those who did.
    pub fn take(&mut self, quota: &Quota) -> Taken {
        let standing = self.tickets.len() + self.drawing as usize;
        let within = |most: Option<u32>, count: usize| most.is_none_or(|most| count < most as usize);
        if within(quota.tickets, standing) && within(quota.admissions, standing + self.entered.len()) {
            self.drawing += 1;
            return Taken::Yes;
        }
        Taken::No
    }

    /// The draw came to nothing.
    pub fn give_back(&mut self) {
        self.drawing = self.drawing.saturating_sub(1);
    }

    /// The ticket was drawn.
    pub fn drawn(&mut self, ticket: T) {
        self.give_back();
        self.tickets.push(ticket);
    }

    /// The ticket went in.
    pub fn entered(&mut self, ticket: &T, now: Mono) {
        let before = self.tickets.len();
        self.tickets.retain(|held| held != ticket);
        if self.tickets.len() < before {
            self.entered.push(now);
        }
    }

    /// Whether nothing counts any more.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty() && self.drawing == 0 && self.entered.is_empty()
    }
}

/// How long a ticket just drawn counts as one that stands, whatever this node knows of it: it may not have heard of it yet,
/// or it waits at the gate without having stood in the line. And how long a draw may take.
const NEW: u64 = 10_000;
/// [`HOUR`] in milliseconds.
const HOUR_MS: u64 = 3_600_000;

/// What one identity has in a room at all nodes that share its line, as they keep it in common: each replaces it whole, if
/// no other has meanwhile. Times are in milliseconds by the clock that all agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HasEverywhere {
    /// Numbers, and when they were drawn.
    tickets: Vec<(u64, u64)>,
    /// Draws under way, and when they began.
    drawing: Vec<(u64, u64)>,
    entered: Vec<u64>,
}

impl HasEverywhere {
    /// Brings up to date what became of the tickets; an admission counts from when it was first looked at. A ticket that is
    /// not new and that nobody remembers counts no more.
    pub fn look(&mut self, stands: impl Fn(u64) -> Stands, now: u64) {
        let is_new = |at: u64| now < at.saturating_add(NEW);
        for (number, at) in std::mem::take(&mut self.tickets) {
            match stands(number) {
                Stands::Entered => self.entered.push(now),
                Stands::Gone if !is_new(at) => {}
                Stands::InLine | Stands::Gone => self.tickets.push((number, at)),
            }
        }
        self.drawing.retain(|(_, at)| is_new(*at));
        self.entered.retain(|at| now < at.saturating_add(HOUR_MS));
    }

    /// Takes the right to draw one more ticket, if there is one; `draw` is the draw's own number.
    pub fn take(&mut self, quota: &Quota, draw: u64, now: u64) -> Taken {
        let standing = self.tickets.len() + self.drawing.len();
        let within = |most: Option<u32>, count: usize| most.is_none_or(|most| count < most as usize);
        if within(quota.tickets, standing) && within(quota.admissions, standing + self.entered.len()) {
            self.drawing.push((draw, now));
            return Taken::Yes;
        }
        Taken::No
    }

    /// The draw gave this ticket.
    pub fn drawn(&mut self, draw: u64, number: u64, now: u64) {
        self.drawing.retain(|(other, _)| *other != draw);
        self.tickets.push((number, now));
    }
}

/// Whether there was a right to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// One was taken.
    Yes,
    /// The identity has all that it may have.
    No,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: u64) -> Mono {
        Mono(0) + Duration::from_secs(second)
    }

    #[test]
    fn a_draw_under_way_counts() {
        let mut has: Has<u64> = Has::default();
        let quota = Quota { tickets: Some(2), admissions: None };
        assert_eq!((has.take(&quota), has.take(&quota), has.take(&quota)), (Taken::Yes, Taken::Yes, Taken::No));
        has.drawn(1);
        assert_eq!(has.take(&quota), Taken::No);
        has.give_back();
        assert_eq!(has.take(&quota), Taken::Yes);
    }

    #[test]
    fn admissions_are_counted_for_an_hour() {
        let mut has: Has<u64> = Has::default();
        let quota = Quota { tickets: None, admissions: Some(1) };
        assert_eq!(has.take(&quota), Taken::Yes);
        has.drawn(1);
        has.entered(&1, second(100));
        has.look(|_| Stands::Gone, second(3699));
        assert_eq!(has.take(&quota), Taken::No);
        has.look(|_| Stands::Gone, second(3700));
        assert!(has.is_empty());
        assert_eq!(has.take(&quota), Taken::Yes);
    }

    #[test]
    fn what_is_under_way_at_another_node_counts_and_lapses_with_it() {
        let mut has = HasEverywhere::default();
        let quota = Quota { tickets: Some(1), admissions: None };
        assert_eq!((has.take(&quota, 1, 0), has.take(&quota, 2, 5)), (Taken::Yes, Taken::No));
        has.look(|_| Stands::Gone, 9_999);
        assert_eq!(has.take(&quota, 2, 9_999), Taken::No);
        has.look(|_| Stands::Gone, 10_000);
        assert_eq!(has.take(&quota, 2, 10_000), Taken::Yes, "that node is gone");
        has.drawn(2, 7, 11_000);
        has.look(|number| if number == 7 { Stands::Gone } else { Stands::InLine }, 20_999);
        assert_eq!(has.take(&quota, 3, 20_999), Taken::No, "this node may not have heard of it");
        has.look(|_| Stands::Gone, 21_000);
        assert_eq!(has, HasEverywhere::default());
    }

    #[test]
    fn entries_at_all_nodes_count_for_an_hour() {
        let mut has = HasEverywhere::default();
        let quota = Quota { tickets: None, admissions: Some(2) };
        for draw in 1..=2 {
            assert_eq!(has.take(&quota, draw, draw), Taken::Yes);
            has.drawn(draw, draw, draw);
        }
        has.look(|number| if number == 1 { Stands::Entered } else { Stands::InLine }, 100);
        assert_eq!(has.take(&quota, 3, 100), Taken::No, "one entered, one may");
        has.look(|_| Stands::Gone, 3_600_099);
        assert_eq!(has.take(&quota, 3, 3_600_099), Taken::Yes);
        assert_eq!(has.take(&quota, 4, 3_600_099), Taken::No);
        has.look(|_| Stands::InLine, 3_600_100);
        assert_eq!(has.take(&quota, 4, 3_600_100), Taken::Yes);
    }

    proptest! {
        /// Several nodes that each replace what is kept only if it is what they saw: never more tickets at once.
        #[test]
        fn nodes_that_replace_what_they_saw_never_pass_the_quota_together(
            steps in prop::collection::vec((0usize..4, 0u8..3), 1..200), tickets in 1u32..4,
        ) {
            let quota = Quota { tickets: Some(tickets), admissions: None };
            let mut kept = HasEverywhere::default();
            let mut saw = vec![kept.clone(); 4];
            let mut under_way: Vec<Vec<u64>> = vec![Vec::new(); 4];
            let (mut next, mut line) = (0, Vec::new());
            for (node, what) in steps {
                match what {
                    0 => saw[node] = kept.clone(),
                    1 => {
                        let mut wish = saw[node].clone();
                        wish.look(|_| Stands::InLine, 1);
                        if wish.take(&quota, next, 1) == Taken::Yes && saw[node] == kept {
                            kept = wish;
                            under_way[node].push(next);
                        }
                        next += 1;
                    }
                    _ => if let Some(draw) = under_way[node].pop() {
                        kept.drawn(draw, 1000 + draw, 1);
                        line.push(draw);
                    }
                }
                let drawn = line.len() + under_way.iter().map(Vec::len).sum::<usize>();
                prop_assert!(drawn <= tickets as usize);
            }
        }

        /// Whatever a visitor does: never more tickets at once, nor admissions within any hour, than there may be.
        #[test]
        fn no_hour_has_more_admissions_than_there_may_be(
            steps in prop::collection::vec((0u64..900, 0usize..4, any::<prop::sample::Index>()), 1..300),
            tickets in 1u32..5, admissions in 1u32..5,
        ) {
            let quota = Quota { tickets: Some(tickets), admissions: Some(admissions) };
            let (mut has, mut now, mut next) = (Has::default(), 0, 0u64);
            let (mut line, mut entries): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            for (pause, what, which) in steps {
                now += pause;
                match what {
                    0 | 1 => {
                        let standing = line.clone();
                        let stands = |ticket: &u64| if standing.contains(ticket) { Stands::InLine } else { Stands::Gone };
                        has.look(stands, second(now));
                        if has.take(&quota) == Taken::Yes {
                            has.drawn(next);
                            line.push(next);
                            next += 1;
                        }
                    }
                    2 if !line.is_empty() => {
                        let ticket = line.remove(which.index(line.len()));
                        has.entered(&ticket, second(now));
                        entries.push(now);
                    }
                    3 if !line.is_empty() => {
                        line.remove(which.index(line.len()));
                    }
                    _ => {}
                }
                prop_assert!(line.len() <= tickets as usize);
                let within_the_hour = entries.iter().filter(|entered| now - **entered < 3600).count();
                prop_assert!(within_the_hour <= admissions as usize);
            }
        }
    }
}
