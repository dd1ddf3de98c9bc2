//! References: eight letters and digits that a visitor reads out on the phone.
//!
//! Forty bits in Crockford's base 32, which has no I, L, O and U. Usually they are random. Of a visitor who gathers for a
//! draw they say, and bind us to, what the draw is applied to: the lane and the index there. So that nobody takes an index
//! for a place, and a slip is noticed, it is mixed (`class | index | check`, times `MIXED_BY` modulo 2^40).

use sha2::{Digest, Sha256};

use super::names::ClassId;
use super::token::VisitorId;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The bits of a reference.
const MASK: u64 = (1 << 40) - 1;
/// Bits of an index. Of those beyond, references are random.
const INDEX_BITS: u32 = 24;
/// An odd number, so that multiplying by it can be undone.
const MIXED_BY: u64 = 0x9E_3779_B97F;

/// Who gathers for a draw: the index counts from 0 in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gatherer {
    /// The lane.
    pub class: ClassId,
    /// Who came how manieth, from 0.
    pub index: u64,
}

impl Gatherer {
    /// The reference; `None` beyond the sixteen millionth.
    pub fn reference(self) -> Option<String> {
        let bits = u64::from(self.class.0) << 32 | self.index << 8 | u64::from(self.check());
        (self.index < 1 << INDEX_BITS).then(|| text(bits.wrapping_mul(MIXED_BY) & MASK))
    }

    /// Whose reference it is, as somebody typed it: hyphens and spaces anywhere, small letters, O, I and L for 0 and 1.
    pub fn read(typed: &str) -> Option<Gatherer> {
        let letters = typed.chars().filter(|letter| *letter != '-' && !letter.is_whitespace());
        let values: Vec<u64> = letters.map(value).collect::<Option<_>>()?;
        let mixed = (values.len() == 8).then(|| values.iter().fold(0, |bits, value| bits << 5 | value))?;
        let bits = mixed.wrapping_mul(inverse(MIXED_BY)) & MASK;
        let class = ClassId(u8::try_from(bits >> 32).ok()?);
        let found = Gatherer { class, index: bits >> 8 & ((1 << INDEX_BITS) - 1) };
        (u64::from(found.check()) == bits & 0xFF).then_some(found)
    }

    fn check(self) -> u8 {
        let hash = Sha256::new().chain_update("anticamera reference\n").chain_update([self.class.0]);
        let [first, ..] = <[u8; 32]>::from(hash.chain_update(self.index.to_be_bytes()).finalize());
        first
    }
}

/// The reference of whoever does not gather for a draw.
pub fn random(id: &VisitorId) -> String {
    text(id.0.iter().take(5).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)))
}

fn text(bits: u64) -> String {
    let mut text = String::with_capacity("0000-0000".len());
    for place in 0..8 {
        if place == 4 {
            text.push('-');
        }
        text.push(DIGITS.get((bits >> (35 - 5 * place)) as usize & 31).copied().map_or('0', char::from));
    }
    text
}

fn value(letter: char) -> Option<u64> {
    let plain = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let value = DIGITS.iter().position(|digit| char::from(*digit) == plain)?;
    u64::try_from(value).ok()
}

/// The number that undoes a multiplication modulo a power of two, by Newton's method.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_can_be_read_out() {
        assert_eq!(random(&VisitorId([0; 16])), "0000-0000");
        assert_eq!(random(&VisitorId([0xFF; 16])), "ZZZZ-ZZZZ");
    }

    #[test]
    fn nobody_takes_an_index_for_a_place() {
        let reference = |index| Gatherer { class: ClassId(3), index }.reference().unwrap();
        let first: Vec<String> = (0..3).map(reference).collect();
        assert!(first.iter().all(|text| !text.starts_with("0000")), "{first:?}");
        assert_eq!(Gatherer { class: ClassId(3), index: 1 << 24 }.reference(), None);
    }

    #[test]
    fn random_references_are_nobodys_in_a_draw_but_for_chance() {
        let found = (0..=255u8).filter(|byte| {
            let [a, b, c, d, e, ..] = <[u8; 32]>::from(Sha256::digest([*byte]));
            let mut id = [0; 16];
            id[..5].copy_from_slice(&[a, b, c, d, e]);
            Gatherer::read(&random(&VisitorId(id))).is_some()
        });
        assert!(found.count() < 8);
    }

    proptest! {
        #[test]
        fn a_reference_says_who_gathers(class: u8, index in 0u64..1 << 24) {
            let gatherer = Gatherer { class: ClassId(class), index };
            let text = gatherer.reference().unwrap();
            prop_assert_eq!(Gatherer::read(&text), Some(gatherer));
            prop_assert_eq!(Gatherer::read(&text.to_lowercase().replace('-', " ")), Some(gatherer));
        }

        #[test]
        fn whatever_is_typed_is_read_without_a_fault(typed in ".{0,20}") {
            let _ = Gatherer::read(&typed);
        }
    }
}
