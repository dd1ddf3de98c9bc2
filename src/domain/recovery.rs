//! Recovery codes: a place in the line in sixteen letters and digits that can be written down and typed in again.
//!
//! `class (8 bits) | number (28 bits) | 44 bits of a signature`, in Crockford's base 32, which has no I, L, O and U. The
//! signature covers the line's identity too, so that yesterday's code is none. It is short because a person types it;
//! guessing is kept down by a limit on tries.

use std::fmt;

use super::names::ClassId;
use super::tickets::Number;

/// Characters of a code, without the hyphens.
const LENGTH: usize = 16;
/// Bits of the number.
const NUMBER_BITS: u32 = 28;
/// Bits of the signature.
const MARK_BITS: u32 = 44;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A place, as a code names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The lane.
    pub class: ClassId,
    /// The number there.
    pub number: Number,
}

/// A code that was typed in, taken apart. Its mark is not verified yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryCode {
    /// The place it names.
    pub place: Place,
    mark: u64,
}

impl RecoveryCode {
    /// The code of a place that was signed so; `None` for numbers beyond 2^28.
    pub fn of(place: Place, signature: &[u8; 32]) -> Option<RecoveryCode> {
        (place.number < 1 << NUMBER_BITS).then(|| RecoveryCode { place, mark: mark(signature) })
    }

    /// Reads what somebody typed: hyphens and spaces anywhere, small letters, and O, I and L for 0 and 1.
    pub fn read(typed: &str) -> Option<RecoveryCode> {
        let mut bits: u128 = 0;
        let mut count = 0;
        for letter in typed.chars().filter(|letter| *letter != '-' && !letter.is_whitespace()) {
            bits = bits << 5 | u128::from(digit(letter)?);
            count += 1;
            if count > LENGTH {
                return None;
            }
        }
        let part = |shift: u32, width: u32| u64::try_from(bits >> shift & ((1 << width) - 1)).ok();
        let class = u8::try_from(part(NUMBER_BITS + MARK_BITS, 8)?).ok()?;
        let place = Place { class: ClassId(class), number: part(MARK_BITS, NUMBER_BITS)? };
        (count == LENGTH).then_some(RecoveryCode { place, mark: part(0, MARK_BITS)? })
    }

    /// Whether the place was signed so. Compares in constant time.
    pub fn is_signed(&self, signature: &[u8; 32]) -> bool {
        std::hint::black_box(self.mark ^ mark(signature)) == 0
    }
}

impl fmt::Display for RecoveryCode {
    /// In four groups of four.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = u128::from(self.place.class.0) << NUMBER_BITS | u128::from(self.place.number);
        let bits = place << MARK_BITS | u128::from(self.mark);
        for index in 0..LENGTH {
            if index > 0 && index % 4 == 0 {
                f.write_str("-")?;
            }
            let value = (bits >> (5 * (LENGTH - 1 - index))) as usize & 31;
            write!(f, "{}", DIGITS.get(value).copied().map_or('0', char::from))?;
        }
        Ok(())
    }
}

fn mark(signature: &[u8; 32]) -> u64 {
    signature.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)) >> (64 - MARK_BITS)
}

fn digit(letter: char) -> Option<u8> {
    let plain = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    DIGITS.iter().position(|digit| char::from(*digit) == plain).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(class: u8, number: Number, signature: [u8; 32]) -> RecoveryCode {
        RecoveryCode::of(Place { class: ClassId(class), number }, &signature).unwrap()
    }

    #[test]
    fn can_be_read_out_and_typed_in_carelessly() {
        let code = code(3, 653_452, [0xA7; 32]);
        let text = code.to_string();
        assert_eq!(text.len(), 19);
        let careless = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(RecoveryCode::read(&careless), Some(code));
    }

    #[test]
    fn what_is_no_code_is_none() {
        for typed in
            ["", "1234", "0000-0000-0000-000", "0000-0000-0000-0000-0", "0000-0000-0000-000U", "0000-0000-0000-000é"]
        {
            assert_eq!(RecoveryCode::read(typed), None, "{typed}");
        }
        let beyond = Place { class: ClassId(0), number: 1 << 28 };
        assert_eq!(RecoveryCode::of(beyond, &[0; 32]), None);
    }

    proptest! {
        #[test]
        fn is_read_as_it_was_written(class: u8, number in 0u64..1 << 28, signature: [u8; 32], other: [u8; 32]) {
            let code = code(class, number, signature);
            let read = RecoveryCode::read(&code.to_string()).unwrap();
            prop_assert_eq!(read, code);
            prop_assert!(read.is_signed(&signature));
            prop_assert_eq!(read.is_signed(&other), mark(&other) == mark(&signature));
        }

        #[test]
        fn anything_may_be_typed(typed in ".{0,64}") {
            let _ = RecoveryCode::read(&typed);
        }
    }
}
