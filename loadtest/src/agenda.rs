//! When each visitor does something next: a timer wheel, so that a million entries cost no more than a thousand.
//!
//! Three rings: milliseconds of the current block of 1,024, blocks of 1,024 milliseconds for the next 17 minutes, and
//! what lies beyond. An entry moves inwards when its block begins.

use crate::clock::Moment;

/// Microseconds in a slot of the inner ring.
const SLOT: u64 = 1_000;
/// Slots in a block, and blocks in the outer ring.
const RING: u64 = 1_024;

/// One visitor's next moment.
pub type Entry = (Moment, u32);

/// All next moments.
#[derive(Debug)]
pub struct Agenda {
    slot: u64,
    slots: Vec<Vec<Entry>>,
    blocks: Vec<Vec<Entry>>,
    beyond: Vec<Entry>,
    entries: usize,
}

impl Default for Agenda {
    fn default() -> Agenda {
        let ring = || (0..RING).map(|_| Vec::new()).collect();
        Agenda { slot: 0, slots: ring(), blocks: ring(), beyond: Vec::new(), entries: 0 }
    }
}

impl Agenda {
    /// Enters a moment. One that has passed is due at once.
    pub fn add(&mut self, entry: Entry) {
        self.entries += 1;
        self.place(entry);
    }

    /// Takes out what is due at `now`, in order, and appends it to `due`. Time never goes back.
    pub fn take_due(&mut self, now: Moment, due: &mut Vec<Entry>) {
        let from = due.len();
        let current = now.0 / SLOT;
        while self.slot < current {
            if self.entries == due.len() - from {
                self.leap(current);
                break;
            }
            let slot = ring(&mut self.slots, self.slot);
            due.append(slot);
            self.slot += 1;
            if self.slot.is_multiple_of(RING) {
                self.begin_block();
            }
        }
        let slot = ring(&mut self.slots, self.slot);
        due.extend(slot.extract_if(.., |(at, _)| *at <= now));
        self.entries -= due.len() - from;
        if let Some(new) = due.get_mut(from..) {
            new.sort_unstable();
        }
    }

    /// Not later than the earliest moment in it; [`Moment::NEVER`] when it is empty.
    pub fn next(&self) -> Moment {
        if self.entries == 0 {
            return Moment::NEVER;
        }
        let (block, first) = (self.slot / RING, self.slot % RING);
        let in_slot = |n: u64| self.slots.get(n as usize).into_iter().flatten().map(|(at, _)| *at).min();
        let in_this_block = (first..RING).find_map(in_slot);
        let begins = |n: &u64| self.blocks.get((n % RING) as usize).is_some_and(|block| !block.is_empty());
        // What lies beyond is placed anew at each half turn of the ring.
        let half = if self.beyond.is_empty() { u64::MAX } else { (block / (RING / 2) + 1) * (RING / 2) };
        let later = || (block + 1..block + RING).find(begins).unwrap_or(u64::MAX).min(half);
        in_this_block.unwrap_or_else(|| Moment(later() * RING * SLOT))
    }

    fn place(&mut self, entry: Entry) {
        let slot = (entry.0.0 / SLOT).max(self.slot);
        match slot / RING - self.slot / RING {
            0 => ring(&mut self.slots, slot).push(entry),
            blocks if blocks < RING => ring(&mut self.blocks, slot / RING).push(entry),
            _ => self.beyond.push(entry),
        }
    }

    fn begin_block(&mut self) {
        let block = self.slot / RING;
        let mut moving = std::mem::take(ring(&mut self.blocks, block));
        if block.is_multiple_of(RING / 2) {
            moving.append(&mut self.beyond);
        }
        moving.into_iter().for_each(|entry| self.place(entry));
    }

    /// Goes on to `slot` when nothing is entered.
    fn leap(&mut self, slot: u64) {
        self.slot = slot;
    }
}

fn ring(ring: &mut [Vec<Entry>], at: u64) -> &mut Vec<Entry> {
    #[expect(clippy::indexing_slicing, reason = "the rings have this many places")]
    &mut ring[(at % RING) as usize]
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn everything_comes_out_once_when_it_is_due() {
        let mut chance = SmallRng::seed_from_u64(5);
        let mut agenda = Agenda::default();
        let mut expected: Vec<Entry> = (0..5000).map(|n| (Moment(chance.random_range(0..4_000_000_000)), n)).collect();
        expected.iter().for_each(|entry| agenda.add(*entry));
        expected.sort_unstable();
        let (mut now, mut found) = (Moment(0), Vec::new());
        while found.len() < expected.len() {
            assert!(agenda.next() <= expected[found.len()].0, "the agenda sleeps too long");
            now = Moment(now.0.max(agenda.next().0) + chance.random_range(0..3_000_000));
            agenda.take_due(now, &mut found);
            let due = expected.partition_point(|(at, _)| *at <= now);
            assert_eq!(found.len(), due, "at {now:?}");
        }
        assert_eq!(found, expected);
        assert_eq!(agenda.next(), Moment::NEVER);
    }

    #[test]
    fn the_past_is_due_at_once_and_an_empty_agenda_leaps() {
        let mut agenda = Agenda::default();
        agenda.take_due(Moment(3_000_000_000_000), &mut Vec::new());
        agenda.add((Moment(5), 1));
        agenda.add((Moment(3_000_000_000_001), 2));
        let mut due = Vec::new();
        agenda.take_due(Moment(3_000_000_000_000), &mut due);
        assert_eq!(due, [(Moment(5), 1)]);
        agenda.take_due(Moment(3_000_000_000_001), &mut due);
        assert_eq!(due.len(), 2);
    }
}
