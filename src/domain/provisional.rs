//! Tickets of those who join while the store that all nodes share is away: what one says, and what a node issued.
//!
//! A provisional ticket has no number yet. In the place of the number it says in which tenth of a second of the store's
//! time it was issued, and how manieth it is there; its identity says by which node. Once the store is back each node
//! reports how many it issued in each slot, all reports get numbers together, by slot and then by node, and every
//! holder's number follows from the first one of the slot. Who merges the reports is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::line::Asks;
use super::names::ClassId;
use super::token::VisitorId;

/// A slot of the store's time, in milliseconds.
pub const SLOT_MS: u64 = 100;
/// Tickets in one row at most: those of one slot, lane and way of asking.
pub const MOST_IN_A_ROW: u64 = 1 << ORDINAL_BITS;
/// Rows that a node remembers at most. Beyond that newcomers get none.
pub const MOST_ROWS: usize = 50_000;
/// Tickets that a node issues at most, as far as it remembers them.
pub const MOST_TICKETS: u64 = 50_000;

const MARK: u64 = 1 << 63;
const ORDINAL_BITS: u32 = 12;

/// Those who came to one node in one slot, to one lane, and ask alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// Tenths of a second since 1970, by the store's clock.
    pub slot: u64,
    /// The lane.
    pub class: ClassId,
    /// Whether their page runs no script.
    pub plain: bool,
}

/// What stands in the place of a ticket's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisional {
    /// Where it belongs.
    pub row: Row,
    /// How manieth it is there, from 0.
    pub ordinal: u64,
}

impl Provisional {
    /// Reads what stands in the place of the number; `None` for a number.
    pub fn read(class: ClassId, number: u64) -> Option<Provisional> {
        let rest = (number & MARK != 0).then_some(number & !MARK)?;
        let row = Row { slot: rest >> (ORDINAL_BITS + 1), class, plain: rest >> ORDINAL_BITS & 1 == 1 };
        Some(Provisional { row, ordinal: rest & (MOST_IN_A_ROW - 1) })
    }

    /// The same as it stands there. Slots are good for longer than anything else here: for 14,000 years.
    pub fn number(self) -> u64 {
        MARK | self.row.slot << (ORDINAL_BITS + 1) | u64::from(self.row.plain) << ORDINAL_BITS | self.ordinal
    }
}

/// The identity of a ticket that this node issued, from random bytes: its second half is the node's.
pub fn identity(random: [u8; 8], node: u64) -> VisitorId {
    let mut id = [0; 16];
    let (first, second) = id.split_at_mut(8);
    first.copy_from_slice(&random);
    second.copy_from_slice(&node.to_be_bytes());
    VisitorId(id)
}

/// The node that issued a provisional ticket.
pub fn node_of(id: &VisitorId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What a node knows of a row of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// Tickets.
    pub count: u64,
    /// The number of the first one, once it is known.
    pub first: Option<u64>,
    reported: bool,
}

/// What one node issued.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    rows: BTreeMap<Row, Issued>,
    /// Of slots up to this one the counts were reported, and stay.
    sealed: u64,
    /// Tickets in all rows.
    tickets: u64,
}

impl Ledger {
    /// Issues a ticket to somebody who came at that time of the store's; `None` when there are too many.
    pub fn issue(&mut self, class: ClassId, asks: Asks, at_ms: u64) -> Option<Provisional> {
        let slot = (at_ms / SLOT_MS).max(self.sealed + 1);
        let row = Row { slot, class, plain: asks == Asks::ByHand };
        let is_full = self.rows.len() >= MOST_ROWS && !self.rows.contains_key(&row) || self.tickets >= MOST_TICKETS;
        let issued = (!is_full).then(|| self.rows.entry(row).or_default())?;
        let ordinal = issued.count;
        if ordinal >= MOST_IN_A_ROW {
            return None;
        }
        issued.count += 1;
        self.tickets += 1;
        Some(Provisional { row, ordinal })
    }

    /// What is to be reported: counts that are final from now on.
    pub fn to_report(&mut self, most: usize) -> Vec<(Row, Issued)> {
        let unreported = self.rows.iter().filter(|(_, issued)| !issued.reported);
        let rows: Vec<_> = unreported.take(most).map(|(row, issued)| (*row, *issued)).collect();
        self.sealed = rows.iter().map(|(row, _)| row.slot).max().unwrap_or(0).max(self.sealed);
        rows
    }

    /// The store has heard of a row.
    pub fn reported(&mut self, row: Row, first: Option<u64>) {
        if let Some(issued) = self.rows.get_mut(&row) {
            issued.reported = true;
            issued.first = issued.first.or(first);
        }
    }

    /// Rows whose first numbers are not known are reported once more: the answer brings them.
    pub fn ask_for_numbers(&mut self) {
        self.rows.values_mut().filter(|issued| issued.first.is_none()).for_each(|issued| issued.reported = false);
    }

    /// The store may have lost what it was told: everything is to be reported again.
    pub fn report_again(&mut self) {
        self.rows.values_mut().for_each(|issued| issued.reported = false);
    }

    /// Forgets rows of which no ticket can be valid any more.
    pub fn forget(&mut self, now_ms: u64, lifetime: Duration) {
        let oldest = now_ms.saturating_sub(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)) / SLOT_MS;
        self.rows.retain(|row, issued| !issued.reported || row.slot >= oldest);
        self.tickets = self.rows.values().map(|issued| issued.count).sum();
    }

    /// Another line: nothing of the old one counts.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.tickets = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    const CLASS: ClassId = ClassId(7);

    #[test]
    fn what_stands_in_the_place_of_a_number_can_be_read() {
        let row = Row { slot: 17_750_000_000, class: CLASS, plain: true };
        let ticket = Provisional { row, ordinal: MOST_IN_A_ROW - 1 };
        assert_eq!(Provisional::read(CLASS, ticket.number()), Some(ticket));
        assert_eq!(Provisional::read(CLASS, 1 << 40), None);
        assert_eq!(node_of(&identity([1; 8], 0xfeed_0000_0000_0001)), 0xfeed_0000_0000_0001);
    }

    #[test]
    fn beyond_the_caps_nobody_gets_one() {
        let mut ledger = Ledger::default();
        let in_one_slot = (0..MOST_IN_A_ROW + 9).filter_map(|_| ledger.issue(CLASS, Asks::Scripted, 1000)).count();
        assert_eq!(in_one_slot as u64, MOST_IN_A_ROW);
        let mut ledger = Ledger::default();
        let rows = (1..MOST_ROWS as u64 + 9).filter_map(|at| ledger.issue(CLASS, Asks::Scripted, at * SLOT_MS));
        assert_eq!(rows.count(), MOST_ROWS);
    }

    #[test]
    fn a_count_that_was_reported_is_final() {
        let mut ledger = Ledger::default();
        let before = ledger.issue(CLASS, Asks::Scripted, 1000).unwrap();
        let told = ledger.to_report(10);
        let after = ledger.issue(CLASS, Asks::Scripted, 1000).unwrap();
        assert_eq!(told[0].1.count, 1);
        assert!(after.row.slot > before.row.slot);
    }

    /// The store's part: reports wait until they are merged, then each row has a first number for good.
    #[derive(Default)]
    struct Store {
        mark: u64,
        pending: BTreeMap<(u64, u64, ClassId, bool), u64>,
        table: HashMap<(u64, u64, ClassId, bool), (u64, u64)>,
        exchanged: HashMap<VisitorId, u64>,
    }

    impl Store {
        fn report(&mut self, node: u64, rows: &[(Row, Issued)]) -> Vec<Option<u64>> {
            let key = |row: &Row| (row.slot, node, row.class, row.plain);
            for (row, issued) in rows {
                if !self.table.contains_key(&key(row)) {
                    self.pending.entry(key(row)).or_insert(issued.count);
                }
            }
            rows.iter().map(|(row, _)| self.table.get(&key(row)).map(|(first, _)| *first)).collect()
        }

        fn merge(&mut self) {
            for (row, count) in std::mem::take(&mut self.pending) {
                self.table.insert(row, (self.mark + 1, count));
                self.mark += count;
            }
        }

        fn exchange(&mut self, ticket: Provisional, id: VisitorId) -> u64 {
            self.merge();
            if let Some(number) = self.exchanged.get(&id) {
                return *number;
            }
            let row = (ticket.row.slot, node_of(&id), ticket.row.class, ticket.row.plain);
            if let Some((first, count)) = self.table.get(&row)
                && ticket.ordinal < *count
            {
                return first + ticket.ordinal;
            }
            self.mark += 1;
            self.exchanged.insert(id, self.mark);
            self.mark
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(u64),
        Report(u64, usize),
        Merge,
        Exchange(usize),
        Wait(u64),
        Kill(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..4_u64).prop_map(Step::Join),
            2 => (0..4_u64, 1..4_usize).prop_map(|(node, most)| Step::Report(node, most)),
            1 => Just(Step::Merge),
            2 => (0..200_usize).prop_map(Step::Exchange),
            3 => (1..300_u64).prop_map(Step::Wait),
            1 => (0..4_u64).prop_map(Step::Kill),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn everybody_gets_one_number_of_their_own_whatever_is_reported_when(steps in steps()) {
            let (mut store, mut now, mut drawn) = (Store::default(), 1_000_000, 0_u64);
            let mut nodes = vec![Ledger::default(); 4];
            let mut born: Vec<u64> = (0..4).collect();
            let mut tickets = Vec::new();
            let mut first_answer: HashMap<VisitorId, u64> = HashMap::new();
            for step in steps {
                match step {
                    Step::Join(node) => if let Some(ticket) = nodes[node as usize].issue(CLASS, Asks::Scripted, now) {
                        drawn += 1;
                        tickets.push((ticket, identity(drawn.to_be_bytes(), born[node as usize])));
                    },
                    Step::Report(node, most) => {
                        let rows = nodes[node as usize].to_report(most);
                        let firsts = store.report(born[node as usize], &rows);
                        for ((row, _), first) in rows.iter().zip(firsts) {
                            nodes[node as usize].reported(*row, first);
                        }
                    }
                    Step::Merge => store.merge(),
                    Step::Exchange(which) => if let Some((ticket, id)) = tickets.get(which % tickets.len().max(1)) {
                        let number = store.exchange(*ticket, *id);
                        prop_assert_eq!(*first_answer.entry(*id).or_insert(number), number);
                    },
                    Step::Wait(ms) => now += ms,
                    Step::Kill(node) => {
                        nodes[node as usize] = Ledger::default();
                        born[node as usize] += 4;
                    }
                }
            }
            let mut given = BTreeSet::new();
            for (ticket, id) in &tickets {
                let number = store.exchange(*ticket, *id);
                prop_assert_eq!(*first_answer.entry(*id).or_insert(number), number, "asked again");
                prop_assert!(given.insert(number), "number {} twice", number);
            }
        }

        #[test]
        fn what_is_merged_together_is_in_order_of_arrival(joins in prop::collection::vec((0..4_u64, 0..80_u64), 1..100)) {
            let (mut store, mut now) = (Store { mark: 500, ..Store::default() }, 1_000_000);
            let mut nodes = vec![Ledger::default(); 4];
            let mut tickets = Vec::new();
            for (at, (node, wait)) in joins.into_iter().enumerate() {
                now += wait;
                let ticket = nodes[node as usize].issue(CLASS, Asks::Scripted, now).unwrap();
                tickets.push((ticket, identity((at as u64).to_be_bytes(), node), now));
            }
            for node in [2, 0, 3, 1] {
                let rows = nodes[node].to_report(usize::MAX);
                store.report(node as u64, &rows);
            }
            store.merge();
            let mut numbers: Vec<(u64, u64)> =
                tickets.iter().map(|(ticket, id, at)| (store.exchange(*ticket, *id), *at)).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers[0].0, 501);
            for pair in numbers.windows(2) {
                prop_assert_eq!(pair[1].0, pair[0].0 + 1);
                prop_assert!(pair[1].1 + SLOT_MS > pair[0].1, "overtaken by more than a slot");
            }
        }
    }
}
