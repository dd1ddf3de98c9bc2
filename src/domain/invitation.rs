//! Invitation codes: what they look like, what is kept of them, and when one may still be used.
//!
//! A code is 80 random bits in 16 letters and digits that cannot be mistaken for one another. Kept is only its hash: with
//! so many bits nobody finds a code by trying, whatever they know of the hashes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::proof::Failure;

/// Crockford's base 32: no I, L, O and U.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Letters of a code.
const LENGTH: usize = 16;
/// Random bytes of a code.
pub const RANDOM_BYTES: usize = 10;

/// A code as it is handed out.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

/// What is kept of a code.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CodeHash([u8; 32]);

/// A code that was handed out, without the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// By which it is listed and revoked.
    pub id: String,
    /// The class it proves.
    pub class: String,
    /// To whom it was given.
    pub identity: String,
    /// The code's hash.
    pub hash: CodeHash,
    /// How many tickets may be drawn with it.
    pub uses: u32,
    /// Until when, in seconds since 1970.
    pub expires: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl Code {
    /// A code of random bytes.
    pub fn of(random: [u8; RANDOM_BYTES]) -> Code {
        let bits = random.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        let letter = |place: usize| LETTERS[usize::try_from(bits >> (5 * place) & 31).unwrap_or(0)];
        Code((0..LENGTH).rev().map(|place| char::from(letter(place))).collect())
    }

    /// Reads a code as people type it: in any case, with or without dashes and blanks, O for 0, I and L for 1.
    pub fn read(text: &str) -> Option<Code> {
        let letters = text.chars().filter(|letter| !matches!(letter, '-' | ' ' | '\u{a0}' | '\u{2010}'..='\u{2015}'));
        let code: String = letters.take(LENGTH + 1).map(plain).collect();
        let known = |byte: u8| LETTERS.contains(&byte);
        (code.len() == LENGTH && code.bytes().all(known)).then_some(Code(code))
    }

    /// What is kept of it.
    pub fn hash(&self) -> CodeHash {
        CodeHash(Sha256::new().chain_update("anticamera invitation code\n").chain_update(&self.0).finalize().into())
    }
}

fn plain(letter: char) -> char {
    match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        letter => letter,
    }
}

impl fmt::Display for Code {
    /// In groups of four: `K7QF-2M9X-HT4R-V0BN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, letter) in self.0.chars().enumerate() {
            let dash = if at > 0 && at % 4 == 0 { "-" } else { "" };
            write!(f, "{dash}{letter}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeHash(..)")
    }
}

impl From<CodeHash> for String {
    fn from(hash: CodeHash) -> String {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for CodeHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<CodeHash, &'static str> {
        let mut hash = [0; 32];
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or("not 64 hexadecimal digits")?;
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Ok(CodeHash(hash))
    }
}

/// The place in the list of the invitation with this hash. Looks at every one of them, whichever it is, and at every byte
/// of their hashes, so that the time it takes tells nothing.
pub fn find<'i>(hashes: impl Iterator<Item = &'i CodeHash>, wanted: &CodeHash) -> Option<usize> {
    let (mut found, mut at) = (Choice::from(0), 0u64);
    for (index, hash) in (0u64..).zip(hashes) {
        let same = hash.0.ct_eq(&wanted.0);
        at.conditional_assign(&index, same);
        found |= same;
    }
    if bool::from(found) { usize::try_from(at).ok() } else { None }
}

impl Invitation {
    /// Whether one more ticket may be drawn with it.
    ///
    /// # Errors
    /// Why not.
    pub fn usable(&self, used: u32, now_seconds: u64) -> Result<(), Failure> {
        if self.revoked {
            return Err(Failure::Revoked);
        }
        if now_seconds >= self.expires {
            return Err(Failure::Expired);
        }
        if used >= self.uses { Err(Failure::UsedUp) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = Code::of([0, 1, 2, 3, 250, 251, 252, 253, 254, 255]);
        let text = code.to_string();
        assert_eq!((text.len(), text.matches('-').count()), (19, 3));
        for typed in
            [text.clone(), text.to_lowercase(), text.replace('-', ""), format!("  {} ", text.replace('-', " "))]
        {
            assert!(Code::read(&typed) == Some(code.clone()), "{typed}");
        }
        let zeros = Code::of([0; RANDOM_BYTES]);
        assert!(Code::read("OOOO-oooo-0000-0000") == Some(zeros));
        for wrong in ["", "0000", "0000-0000-0000-000U", "0000-0000-0000-0000-0", "0000-0000-0000-000é"] {
            assert!(Code::read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_the_hash_is_written() {
        let code = Code::of([7; RANDOM_BYTES]);
        let invitation = Invitation {
            id: "1a".into(),
            class: "intermediary".into(),
            identity: "office 123".into(),
            hash: code.hash(),
            uses: 2,
            expires: 100,
            created: 0,
            revoked: false,
        };
        let written = serde_json::to_string(&invitation).unwrap();
        assert!(!written.contains(&code.0) && !format!("{invitation:?} {code:?}").contains(&code.0));
        assert_eq!(serde_json::from_str::<Invitation>(&written).unwrap(), invitation);
        assert_eq!((invitation.usable(1, 99), invitation.usable(2, 99)), (Ok(()), Err(Failure::UsedUp)));
        assert_eq!(invitation.usable(0, 100), Err(Failure::Expired));
        assert_eq!(Invitation { revoked: true, ..invitation }.usable(0, 0), Err(Failure::Revoked));
    }

    proptest! {
        #[test]
        fn every_code_is_found_and_no_other(codes in prop::collection::hash_set(any::<[u8; RANDOM_BYTES]>(), 1..20)) {
            let mut hashes: Vec<CodeHash> = codes.iter().map(|random| Code::of(*random).hash()).collect();
            let missing = hashes.pop().unwrap();
            prop_assert_eq!(find(hashes.iter(), &missing), None);
            for (index, hash) in hashes.iter().enumerate() {
                prop_assert_eq!(find(hashes.iter(), hash), Some(index));
            }
        }

        #[test]
        fn codes_are_as_different_as_their_bytes(one in any::<[u8; RANDOM_BYTES]>(), other in any::<[u8; RANDOM_BYTES]>()) {
            prop_assert_eq!(one == other, Code::of(one) == Code::of(other));
            prop_assert!(Code::read(&Code::of(one).to_string()) == Some(Code::of(one)));
        }
    }
}
