//! Facts that wait to be written. The latest about each thing replaces what was said before, so that a disk that
//! hangs for an hour costs no more memory than the line itself.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::super::line::{Fact, SeatRecord, VisitorId};
use super::super::tickets::TicketPage;
use crate::domain::names::ClassId;

/// What is to be written about one room.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// By lane and page; blank where nothing changed.
    pub tickets: BTreeMap<(ClassId, u64), TicketPage>,
    /// By lane, the number through which tickets are done with.
    pub forgotten: BTreeMap<ClassId, u64>,
    /// By pass identity.
    pub visits: HashMap<VisitorId, Visit>,
    /// The frozen time in all.
    pub frozen: Option<Duration>,
}

/// What is known of a pass identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// It holds a seat.
    Seated(SeatRecord),
    /// It ended, and that is remembered until this second since 1970.
    Ended(u32),
    /// Nothing is remembered of it.
    Unknown,
}

impl Pending {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Pending::default()
    }

    /// Takes note of a fact.
    pub fn note(&mut self, fact: Fact) {
        match fact {
            Fact::Ticket { class, number, record } => {
                let page = self.tickets.entry((class, TicketPage::holding(number))).or_insert_with(TicketPage::blank);
                page.set(number, record);
            }
            Fact::Forget { class, through } => raise(&mut self.forgotten, class, through),
            Fact::Seat { id, seat } => {
                self.visits.insert(id, Visit::Seated(seat));
            }
            Fact::SeatGone { id, ended_until } => {
                self.visits.insert(id, ended_until.map_or(Visit::Unknown, Visit::Ended));
            }
            Fact::Frozen(span) => self.frozen = Some(span),
            // There is nobody else to tell.
            Fact::Ordered(_) => {}
        }
    }

    /// Puts everything `newer` over this.
    pub fn absorb(&mut self, newer: Pending) {
        for (key, page) in newer.tickets {
            self.tickets.entry(key).or_insert_with(TicketPage::blank).overlay(&page);
        }
        for (class, through) in newer.forgotten {
            raise(&mut self.forgotten, class, through);
        }
        self.visits.extend(newer.visits);
        self.frozen = newer.frozen.or(self.frozen);
    }
}

fn raise(marks: &mut BTreeMap<ClassId, u64>, class: ClassId, to: u64) {
    let mark = marks.entry(class).or_default();
    *mark = to.max(*mark);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Script, Standing, TicketRecord, TicketState};
    use proptest::prelude::*;

    fn any_fact() -> impl Strategy<Value = Fact> {
        let states = vec![TicketState::Waiting, TicketState::Called, TicketState::Entered];
        let ticket = (0..2_u8, 1..10_000_u64, prop::sample::select(states)).prop_map(|(class, number, state)| {
            Fact::Ticket { class: ClassId(class), number, record: TicketRecord { state, script: Script::Runs } }
        });
        let seat = (0..20_u8, any::<u32>()).prop_map(|(id, last_seen)| Fact::Seat {
            id: [id; 16],
            seat: SeatRecord {
                number: 1,
                class: ClassId(0),
                generation: 0,
                last_seen,
                entered: 0,
                standing: Standing::Confirmed,
            },
        });
        let gone =
            (0..20_u8, any::<Option<u32>>()).prop_map(|(id, ended_until)| Fact::SeatGone { id: [id; 16], ended_until });
        let forget =
            (0..2_u8, any::<u64>()).prop_map(|(class, through)| Fact::Forget { class: ClassId(class), through });
        let frozen = any::<u32>().prop_map(|seconds| Fact::Frozen(Duration::from_secs(seconds.into())));
        prop_oneof![4 => ticket, 4 => seat, 2 => gone, 1 => forget, 1 => frozen]
    }

    fn noted(facts: &[Fact]) -> Pending {
        let mut pending = Pending::default();
        facts.iter().for_each(|fact| pending.note(*fact));
        pending
    }

    proptest! {
        #[test]
        fn absorbing_is_the_same_as_noting_one_after_the_other(
            facts in prop::collection::vec(any_fact(), 0..100), split in 0..100_usize,
        ) {
            let (older, newer) = facts.split_at(split.min(facts.len()));
            let mut pending = noted(older);
            pending.absorb(noted(newer));
            prop_assert_eq!(pending, noted(&facts));
        }
    }
}
