//! What is remembered of tickets: four bits each, packed into pages, so that ten million tickets are five megabytes.
//!
//! A page covers [`TicketPage::TICKETS`] consecutive numbers. Page 0 begins with number 0, which no ticket has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a ticket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TicketState {
    /// In line, not called yet.
    Waiting,
    /// Holds a turn.
    Called,
    /// Was at the portal; the seat tells the rest.
    Entered,
    /// Gave the place up.
    Left,
    /// Was passed over because nobody was there; keeps its number.
    Absent,
}

/// Whether the visitor's page runs our script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Script {
    /// The page polls by itself.
    Runs,
    /// Plain HTML that the browser refreshes at long intervals.
    Plain,
}

/// What is remembered of one ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TicketRecord {
    /// How far it has come.
    pub state: TicketState,
    /// Whether the visitor's page runs our script.
    pub script: Script,
}

/// Says that four bits are no ticket record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ticket record of an unknown kind")]
pub struct UnknownRecord;

const PLAIN: u8 = 0b1000;
const STATE: u8 = 0b0111;

impl TicketRecord {
    /// The four bits on disk; never zero, which stands for "nothing known".
    pub(super) fn nibble(self) -> u8 {
        let state = match self.state {
            TicketState::Waiting => 1,
            TicketState::Called => 2,
            TicketState::Entered => 3,
            TicketState::Left => 4,
            TicketState::Absent => 5,
        };
        match self.script {
            Script::Runs => state,
            Script::Plain => state | PLAIN,
        }
    }

    fn from_nibble(nibble: u8) -> Result<Option<TicketRecord>, UnknownRecord> {
        let state = match nibble & STATE {
            0 if nibble == 0 => return Ok(None),
            1 => TicketState::Waiting,
            2 => TicketState::Called,
            3 => TicketState::Entered,
            4 => TicketState::Left,
            5 => TicketState::Absent,
            _ => return Err(UnknownRecord),
        };
        let script = if nibble & PLAIN == 0 { Script::Runs } else { Script::Plain };
        Ok(Some(TicketRecord { state, script }))
    }
}

/// The records of [`TicketPage::TICKETS`] consecutive numbers.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketPage(Box<[u8; TicketPage::BYTES]>);

impl TicketPage {
    /// Tickets in a page.
    pub const TICKETS: u64 = 4096;
    const BYTES: usize = 2048;

    /// A page of which nothing is known.
    pub fn blank() -> TicketPage {
        TicketPage(Box::new([0; TicketPage::BYTES]))
    }

    /// The page that holds `number`.
    pub fn holding(number: u64) -> u64 {
        number / TicketPage::TICKETS
    }

    /// Reads a page as [`TicketPage::as_bytes`] gave it.
    ///
    /// # Errors
    /// [`UnknownRecord`] when the length is wrong or a record is of no known kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<TicketPage, UnknownRecord> {
        let page = TicketPage(Box::new(bytes.try_into().map_err(|_| UnknownRecord)?));
        for byte in page.0.iter() {
            TicketRecord::from_nibble(byte & 0x0f)?;
            TicketRecord::from_nibble(byte >> 4)?;
        }
        Ok(page)
    }

    /// The page as it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Remembers the record of `number`, which must lie in this page.
    pub fn set(&mut self, number: u64, record: TicketRecord) {
        let (byte, shift) = TicketPage::place(number);
        if let Some(pair) = self.0.get_mut(byte) {
            *pair = (*pair & !(0x0f << shift)) | (record.nibble() << shift);
        }
    }

    /// The record of `number`, which must lie in this page.
    pub fn get(&self, number: u64) -> Option<TicketRecord> {
        let (byte, shift) = TicketPage::place(number);
        let nibble = (self.0.get(byte)? >> shift) & 0x0f;
        TicketRecord::from_nibble(nibble).ok().flatten()
    }

    /// Puts everything known in `newer` over what is known here.
    pub fn overlay(&mut self, newer: &TicketPage) {
        for (pair, newer) in self.0.iter_mut().zip(newer.0.iter()) {
            for mask in [0x0f, 0xf0] {
                if newer & mask != 0 {
                    *pair = (*pair & !mask) | (newer & mask);
                }
            }
        }
    }

    /// Every number of the page of which something is known, in order; `page` is the page's own number.
    pub fn records(&self, page: u64) -> impl Iterator<Item = (u64, TicketRecord)> {
        let first = page.saturating_mul(TicketPage::TICKETS);
        (0..TicketPage::TICKETS).filter_map(move |slot| Some((first.saturating_add(slot), self.get(slot)?)))
    }

    /// The highest number of the page of which something is known.
    pub fn highest(&self, page: u64) -> Option<u64> {
        let byte = self.0.iter().rposition(|pair| *pair != 0)?;
        let upper = u64::from(self.0.get(byte)? >> 4 != 0);
        Some(page.saturating_mul(TicketPage::TICKETS).saturating_add(2 * byte as u64 + upper))
    }

    fn place(number: u64) -> (usize, u32) {
        let slot = number % TicketPage::TICKETS;
        (usize::try_from(slot / 2).unwrap_or(usize::MAX), if slot.is_multiple_of(2) { 0 } else { 4 })
    }
}

impl fmt::Debug for TicketPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.records(0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = TicketRecord> {
        let states =
            [TicketState::Waiting, TicketState::Called, TicketState::Entered, TicketState::Left, TicketState::Absent];
        let scripts = [Script::Runs, Script::Plain];
        (prop::sample::select(states.to_vec()), prop::sample::select(scripts.to_vec()))
            .prop_map(|(state, script)| TicketRecord { state, script })
    }

    fn any_records() -> impl Strategy<Value = BTreeMap<u64, TicketRecord>> {
        prop::collection::btree_map(3 * 4096..4 * 4096_u64, any_record(), 0..200)
    }

    fn page_of(records: &BTreeMap<u64, TicketRecord>) -> TicketPage {
        let mut page = TicketPage::blank();
        for (number, record) in records {
            page.set(*number, *record);
        }
        page
    }

    proptest! {
        #[test]
        fn a_page_gives_back_what_was_put_in(records in any_records()) {
            let page = TicketPage::from_bytes(page_of(&records).as_bytes()).unwrap();
            prop_assert_eq!(page.highest(3), records.keys().next_back().copied());
            prop_assert_eq!(page.records(3).collect::<BTreeMap<_, _>>(), records);
        }

        #[test]
        fn an_overlay_is_the_later_of_both(older in any_records(), newer in any_records()) {
            let mut page = page_of(&older);
            page.overlay(&page_of(&newer));
            let mut expected = older;
            expected.extend(newer);
            prop_assert_eq!(page.records(3).collect::<BTreeMap<_, _>>(), expected);
        }
    }

    #[test]
    fn records_of_an_unknown_kind_are_refused() {
        let mut bytes = [0; TicketPage::BYTES];
        for unknown in [0x06, 0x07, 0x08, 0x0e, 0x60, 0x80] {
            bytes[77] = unknown;
            assert_eq!(TicketPage::from_bytes(&bytes), Err(UnknownRecord), "{unknown:#x}");
        }
        assert_eq!(TicketPage::from_bytes(&bytes[1..]), Err(UnknownRecord));
    }
}
