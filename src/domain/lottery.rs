//! The draw: a keyed permutation of those who gathered, which anybody can recompute from what is published.
//!
//! Before the hour the SHA-256 of a secret seed is published ([`commitment`]). At the hour the number of those gathered
//! becomes final, then the seed is revealed. `HMAC-SHA256(seed, facts)` is the key of a permutation of `0..count`: ten
//! Feistel rounds on a rectangle of at least `count` fields, whose round function is SHA-256, with cycle-walking for the
//! few fields too many. No list is made and kept: one seed gives everybody's place, and every place's ticket. SHA-256 and
//! additions are all it takes, so that a stranger can check it with a few lines of any language.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::names::{ClassId, RoomName};
use super::token::LineIdentity;

/// What the draw is called in what is published; another algorithm would have another name.
pub const ALGORITHM: &str = "anticamera-lottery-1";

/// Bytes of a seed.
pub const SEED_LEN: usize = 32;

/// Enough that no pattern is left even among a handful of visitors.
const ROUNDS: u8 = 10;

/// The hash of a seed that is published before the hour.
pub fn commitment(seed: &[u8; SEED_LEN]) -> [u8; 32] {
    Sha256::new().chain_update(ALGORITHM).chain_update(" seed\n").chain_update(seed).finalize().into()
}

/// What the draw of one lane is made of besides the seed. All of it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The room.
    pub room: &'a str,
    /// The identity of its line.
    pub line: LineIdentity,
    /// Which opening of the line it is, from 1.
    pub opening: u32,
    /// The lane's class, as tokens name it.
    pub class: ClassId,
    /// How many gathered in the lane.
    pub count: u64,
}

impl<'a> Facts<'a> {
    /// The facts of one lane.
    pub fn of(room: &'a RoomName, line: LineIdentity, opening: u32, class: ClassId, count: u64) -> Facts<'a> {
        Facts { room: room.as_str(), line, opening, class, count }
    }

    /// The permutation that follows from these facts and the seed.
    pub fn permutation(&self, seed: &[u8; SEED_LEN]) -> Permutation {
        let mut block = [0; 64];
        for (to, from) in block.iter_mut().zip(seed) {
            *to = *from;
        }
        let mac = Hmac::<Sha256>::new((&block).into()).chain_update(self.to_string());
        Permutation::new(mac.finalize().into_bytes().into(), self.count)
    }
}

impl fmt::Display for Facts<'_> {
    /// The text that is signed with the seed, line by line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{ALGORITHM}")?;
        writeln!(f, "room={}", self.room)?;
        writeln!(f, "line={:016x}", self.line.0)?;
        writeln!(f, "opening={}", self.opening)?;
        writeln!(f, "class={}", self.class.0)?;
        writeln!(f, "count={}", self.count)
    }
}

/// A permutation of `0..count`.
#[derive(Clone, PartialEq, Eq)]
pub struct Permutation {
    key: [u8; 32],
    count: u64,
    rows: u64,
    columns: u64,
}

impl fmt::Debug for Permutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permutation").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Permutation {
    /// The permutation of `0..count` that this key gives.
    pub fn new(key: [u8; 32], count: u64) -> Permutation {
        let root = count.isqrt();
        let rows = if root * root < count { root + 1 } else { root }.max(1);
        Permutation { key, count, rows, columns: count.div_ceil(rows).max(1) }
    }

    /// How many it puts in order.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The place of an index, both from 0. What is not below the count stays where it is.
    pub fn place(&self, index: u64) -> u64 {
        self.walk(index, |field| (0..ROUNDS).fold(field, |field, round| self.round(field, round, u64::wrapping_add)))
    }

    /// The index whose place this is: the inverse of [`Permutation::place`].
    pub fn index(&self, place: u64) -> u64 {
        // Adding the rest of a division by n is undone by adding n less that rest.
        self.walk(place, |field| {
            (0..ROUNDS).rev().fold(field, |field, round| self.round(field, round, u64::wrapping_sub))
        })
    }

    /// Goes on from the few fields that are none of `0..count` until it comes back to one that is.
    fn walk(&self, from: u64, step: impl Fn((u64, u64)) -> (u64, u64)) -> u64 {
        if from >= self.count {
            return from;
        }
        let mut at = from;
        loop {
            let (row, column) = step((at / self.columns, at % self.columns));
            at = row * self.columns + column;
            if at < self.count {
                return at;
            }
        }
    }

    /// Moves the row by what the column says, or the column by what the row says. Neither is ever above 2^32.
    fn round(&self, (row, column): (u64, u64), round: u8, add: fn(u64, u64) -> u64) -> (u64, u64) {
        let moved = |at: u64, by: u64, of: u64| add(at + of, by % of) % of;
        if round.is_multiple_of(2) {
            (moved(row, self.says(round, column), self.rows), column)
        } else {
            (row, moved(column, self.says(round, row), self.columns))
        }
    }

    fn says(&self, round: u8, value: u64) -> u64 {
        let hash = Sha256::new().chain_update(self.key).chain_update([round]).chain_update(value.to_be_bytes());
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u64) -> [u8; 32] {
        Sha256::digest(number.to_be_bytes()).into()
    }

    #[test]
    fn every_count_up_to_some_thousands_is_put_in_an_order_of_its_own() {
        for count in (0..=600).chain([1023, 1024, 1025, 2500, 4095, 4096, 4097]) {
            let permutation = Permutation::new(key(count), count);
            let mut taken = vec![false; count as usize];
            for index in 0..count {
                let place = permutation.place(index);
                assert!(!std::mem::replace(&mut taken[place as usize], true), "{place} of {count} is given twice");
                assert_eq!(permutation.index(place), index);
            }
        }
    }

    #[test]
    fn every_order_of_a_few_is_about_as_likely() {
        let mut orders: BTreeMap<Vec<u64>, u32> = BTreeMap::new();
        for number in 0..24_000 {
            let permutation = Permutation::new(key(number), 4);
            *orders.entry((0..4).map(|index| permutation.place(index)).collect()).or_default() += 1;
        }
        assert_eq!(orders.len(), 24);
        assert!(orders.values().all(|times| (850..1150).contains(times)), "{orders:?}");
    }

    /// Worked out once by another program, so that a change of the algorithm cannot go unnoticed.
    #[test]
    fn the_draw_is_what_was_published() {
        let facts = Facts { room: "fair", line: LineIdentity(7), opening: 1, class: ClassId(3), count: 10 };
        assert_eq!(
            facts.to_string(),
            "anticamera-lottery-1\nroom=fair\nline=0000000000000007\nopening=1\nclass=3\ncount=10\n"
        );
        let permutation = facts.permutation(&[9; SEED_LEN]);
        let places: Vec<u64> = (0..10).map(|index| permutation.place(index)).collect();
        assert_eq!(places, PUBLISHED);
    }

    const PUBLISHED: [u64; 10] = [2, 6, 8, 1, 9, 5, 4, 0, 7, 3];

    #[test]
    fn another_fact_is_another_draw() {
        let facts = Facts { room: "fair", line: LineIdentity(7), opening: 1, class: ClassId(3), count: 1000 };
        let draw = |facts: Facts<'_>| (0..1000).map(|i| facts.permutation(&[9; 32]).place(i)).collect::<Vec<_>>();
        let first = draw(facts);
        for other in [
            Facts { room: "far", ..facts },
            Facts { line: LineIdentity(8), ..facts },
            Facts { opening: 2, ..facts },
            Facts { class: ClassId(4), ..facts },
        ] {
            assert_ne!(draw(other), first, "{other:?}");
        }
    }

    #[test]
    fn the_commitment_is_no_plain_hash_of_the_seed() {
        assert_ne!(commitment(&[1; 32]), <[u8; 32]>::from(Sha256::digest([1; 32])));
        assert_ne!(commitment(&[1; 32]), commitment(&[2; 32]));
    }

    proptest! {
        #[test]
        fn every_place_of_a_large_gathering_is_somebodys(
            seed: [u8; 32], count in 1u64..1 << 62, of in 0.0..1.0f64,
        ) {
            let index = ((count as f64 * of) as u64).min(count - 1);
            let permutation = Permutation::new(seed, count);
            let place = permutation.place(index);
            prop_assert!(place < count);
            prop_assert_eq!(permutation.index(place), index);
        }

        #[test]
        fn whoever_came_later_stays_where_they_are(seed: [u8; 32], count in 0u64..1 << 40, behind in 0u64..1 << 40) {
            let permutation = Permutation::new(seed, count);
            prop_assert_eq!(permutation.place(count + behind), count + behind);
            prop_assert_eq!(permutation.index(count + behind), count + behind);
        }
    }
}
