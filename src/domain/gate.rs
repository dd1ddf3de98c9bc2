//! The gate: called visitors who ask to enter, in ticket order. A queue of tickets, not of sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tickets::Number;
use super::time::Mono;

/// How long a place at the gate is kept after the ticket's last request or poll.
pub const KEPT: Duration = Duration::from_secs(30);

/// How a visitor came to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Called from the line.
    Called,
    /// Straight through, because nobody waited.
    Straight,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    came: Came,
    since: Mono,
    last_seen: Mono,
    open: u32,
    elsewhere: Elsewhere,
}

/// Whether a request of the ticket is held by another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// One is.
    Open,
    /// None is.
    #[default]
    Closed,
}

impl Standing {
    fn can_enter(&self) -> bool {
        self.open > 0 || self.elsewhere == Elsewhere::Open
    }
}

/// Tickets at the gate of one lane.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    standing: BTreeMap<Number, Standing>,
    straight: usize,
    coming: usize,
}

impl Gate {
    /// How many stand here.
    pub fn len(&self) -> usize {
        self.standing.len()
    }

    /// Whether nobody stands here.
    pub fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// How many of them came straight through.
    pub fn straight(&self) -> usize {
        self.straight
    }

    /// How many come straight through whose numbers are being drawn.
    pub fn coming(&self) -> usize {
        self.coming
    }

    /// A newcomer comes straight through and draws a number.
    pub fn expect(&mut self) {
        self.coming += 1;
    }

    /// The number was drawn, or could not be.
    pub fn expect_no_more(&mut self) {
        self.coming = self.coming.saturating_sub(1);
    }

    /// Whether the ticket stands here.
    pub fn holds(&self, number: Number) -> bool {
        self.standing.contains_key(&number)
    }

    /// How many stand before the ticket.
    pub fn ahead(&self, number: Number) -> u64 {
        self.standing.range(..number).count() as u64
    }

    /// A request under the ticket begins to wait. Its first one takes the place.
    pub fn open(&mut self, number: Number, came: Came, now: Mono) {
        let standing = self.standing.entry(number).or_insert_with(|| {
            self.straight += usize::from(came == Came::Straight);
            Standing { came, since: now, last_seen: now, open: 0, elsewhere: Elsewhere::Closed }
        });
        standing.open += 1;
        standing.last_seen = now;
    }

    /// Another node holds a request under the ticket, or holds it no more. The place stays for [`KEPT`].
    pub fn hold_elsewhere(&mut self, number: Number, came: Came, elsewhere: Elsewhere, now: Mono) {
        if elsewhere == Elsewhere::Open && !self.holds(number) {
            self.open(number, came, now);
            self.close(number, 0, now);
        }
        if let Some(standing) = self.standing.get_mut(&number) {
            standing.elsewhere = elsewhere;
            standing.last_seen = now;
        }
    }

    /// A request under the ticket stopped waiting without entering; so many still wait. The place stays for [`KEPT`].
    pub fn close(&mut self, number: Number, still_open: u32, now: Mono) {
        if let Some(standing) = self.standing.get_mut(&number) {
            standing.open = still_open;
            standing.last_seen = now;
        }
    }

    /// The visitor was heard of; the place stays for [`KEPT`] from now.
    pub fn seen(&mut self, number: Number, now: Mono) {
        if let Some(standing) = self.standing.get_mut(&number) {
            standing.last_seen = now;
        }
    }

    /// The lowest ticket with a request open: the next to enter. One without does not block.
    pub fn next(&self) -> Option<Number> {
        self.next_since().map(|(number, _)| number)
    }

    /// The next to enter, and since when that ticket stands here.
    pub fn next_since(&self) -> Option<(Number, Mono)> {
        let next = self.standing.iter().find(|(_, standing)| standing.can_enter());
        next.map(|(number, standing)| (*number, standing.since))
    }

    /// Everybody at the gate in ticket order, each with the number of requests open.
    pub fn in_order(&self) -> impl Iterator<Item = (Number, u32)> {
        self.standing.iter().map(|(number, standing)| (*number, standing.open))
    }

    /// Takes the ticket from the gate and says since when it stood there.
    pub fn remove(&mut self, number: Number) -> Option<Mono> {
        let standing = self.standing.remove(&number)?;
        self.straight -= usize::from(standing.came == Came::Straight);
        Some(standing.since)
    }

    /// Takes those from the gate who have not been heard of for [`KEPT`].
    pub fn lapse(&mut self, now: Mono) -> Vec<Number> {
        let silent = |standing: &Standing| !standing.can_enter() && now.since(standing.last_seen) > KEPT;
        let gone: Vec<Number> =
            self.standing.iter().filter(|(_, standing)| silent(standing)).map(|(number, _)| *number).collect();
        for number in &gone {
            self.remove(*number);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn the_lowest_ticket_with_an_open_request_is_next() {
        let mut gate = Gate::default();
        gate.open(9, Came::Called, at(0));
        gate.open(4, Came::Called, at(1));
        assert_eq!((gate.next(), gate.ahead(9)), (Some(4), 1));
        gate.close(4, 0, at(2));
        assert_eq!((gate.next(), gate.ahead(9)), (Some(9), 1));
        gate.open(4, Came::Called, at(20));
        assert_eq!(gate.next(), Some(4));
    }

    #[test]
    fn a_place_lapses_thirty_seconds_after_the_last_sign_of_life() {
        let mut gate = Gate::default();
        gate.open(4, Came::Called, at(0));
        gate.open(5, Came::Straight, at(0));
        gate.close(4, 0, at(5));
        gate.seen(4, at(20));
        assert_eq!(gate.lapse(at(50)), Vec::<Number>::new());
        assert_eq!(gate.lapse(at(51)), vec![4]);
        assert_eq!((gate.len(), gate.straight()), (1, 1));
        gate.remove(5);
        assert_eq!(gate.straight(), 0);
    }
}
