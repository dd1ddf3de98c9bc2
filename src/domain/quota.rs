//! What one identity of a class may have: tickets at once, and admissions per hour. Counting and drawing are one step: a
//! draw that is under way counts already.

use std::time::Duration;

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

    proptest! {
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
