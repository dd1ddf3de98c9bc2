//! From the number on a ticket to the place in the line, and back.
//!
//! Usually the two are the same. Those who gathered for a draw carry the number they drew then; their places among
//! themselves are what the draw says. Tickets, tokens and the store know numbers, the line knows places.

use super::lottery::{Facts, Permutation};
use super::names::{ClassId, RoomName};
use super::opening::Opening;
use super::tickets::Number;
use super::token::LineIdentity;

/// Every draw that was held in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    draws: Vec<Draw>,
}

/// The draw of one lane: the numbers after `after` are put in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draw {
    class: ClassId,
    after: Number,
    order: Permutation,
}

impl Draw {
    fn last(&self) -> Number {
        self.after + self.order.count()
    }

    fn has(&self, class: ClassId, number: Number) -> bool {
        self.class == class && self.after < number && number <= self.last()
    }
}

impl Places {
    /// The places that the openings held in a line gave.
    pub fn of(room: &RoomName, line: LineIdentity, openings: &[Opening]) -> Places {
        let draws = openings.iter().flat_map(|opening| {
            let held = opening.held.iter().flat_map(|held| &held.lanes);
            held.filter_map(move |gathered| {
                let facts = Facts::of(room, line, opening.number, gathered.class, gathered.count);
                let order = facts.permutation(opening.seed.as_ref()?);
                Some(Draw { class: gathered.class, after: gathered.after, order })
            })
        });
        Places { draws: draws.collect() }
    }

    fn draw(&self, class: ClassId, number: Number) -> Option<&Draw> {
        self.draws.iter().find(|draw| draw.has(class, number))
    }

    /// The place of a ticket.
    pub fn place(&self, class: ClassId, number: Number) -> Number {
        self.draw(class, number).map_or(number, |draw| draw.after + 1 + draw.order.place(number - draw.after - 1))
    }

    /// The number of the ticket that has this place.
    pub fn number(&self, class: ClassId, place: Number) -> Number {
        self.draw(class, place).map_or(place, |draw| draw.after + 1 + draw.order.index(place - draw.after - 1))
    }

    /// The number through which all tickets are done with, when all places through `through` are: in the middle of a draw
    /// the places that are done with are no stretch of numbers.
    pub fn done_through(&self, class: ClassId, through: Number) -> Number {
        let amid = self.draw(class, through).filter(|draw| through < draw.last());
        amid.map_or(through, |draw| draw.after)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::opening::{Gathered, Held, Order};
    use crate::domain::time::Unix;

    const CITIZEN: ClassId = ClassId(1);

    fn places(seed: Option<[u8; 32]>) -> Places {
        let gathered = Gathered { class: CITIZEN, after: 100, count: 1000 };
        let opening = Opening {
            number: 1,
            order: Order::Lottery,
            at: Unix(1),
            announced: Unix(1),
            seed,
            after: vec![(CITIZEN, 100)],
            held: Some(Held { at: Unix(1), lanes: vec![gathered] }),
        };
        Places::of(&RoomName::new("fair").unwrap(), LineIdentity(1), &[opening])
    }

    #[test]
    fn those_who_gathered_change_places_among_themselves_only() {
        let places = places(Some([3; 32]));
        let given: BTreeSet<Number> = (101..=1100).map(|number| places.place(CITIZEN, number)).collect();
        assert_eq!(given, (101..=1100).collect());
        assert!((101..=1100).filter(|number| places.place(CITIZEN, *number) == *number).count() < 20);
        assert!((1..=1200).all(|number| places.number(CITIZEN, places.place(CITIZEN, number)) == number));
        for other in (1..=100).chain(1101..1200) {
            assert_eq!(places.place(CITIZEN, other), other);
        }
        assert!((1..1200).all(|number| places.place(ClassId(2), number) == number));
    }

    #[test]
    fn without_a_seed_everybody_keeps_the_order_of_arrival() {
        assert_eq!(places(None), Places::default());
    }

    #[test]
    fn amid_a_draw_no_stretch_of_numbers_is_done_with() {
        let places = places(Some([3; 32]));
        let done = |through| places.done_through(CITIZEN, through);
        assert_eq!(
            [done(50), done(100), done(101), done(1099), done(1100), done(2000)],
            [50, 100, 100, 100, 1100, 2000]
        );
    }
}
