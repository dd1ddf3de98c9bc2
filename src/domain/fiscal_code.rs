//! Finds Italian fiscal codes (codici fiscali) of persons in text: sixteen characters of a fixed shape, the last of which
//! is a checksum (decree of 23 December 1976). Text that merely looks like one has the right checksum once in 26 times
//! only, and hardly ever a possible month and day as well.

/// Length of a code.
const LENGTH: usize = 16;

/// What the characters in odd places count for, 0-9 and then A-Z; digits count as the letters A-J do.
const ODD: [u32; 26] = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];

/// Whether a text names a person by a fiscal code that is spelled correctly, with nothing of a word around it.
pub fn has_fiscal_code(text: &[u8]) -> bool {
    text.split(|byte| !byte.is_ascii_alphanumeric()).any(is_fiscal_code)
}

fn is_fiscal_code(word: &[u8]) -> bool {
    let Ok(code) = <&[u8; LENGTH]>::try_from(word) else { return false };
    let code = code.map(|byte| byte.to_ascii_uppercase());
    has_shape(&code) && has_possible_birthday(&code) && has_checksum(&code)
}

/// Letters and digits where they belong. Two people with one code are told apart by letters in place of digits.
fn has_shape(code: &[u8; LENGTH]) -> bool {
    const SHAPE: &[u8; LENGTH] = b"AAAAAA00A00A000A";
    code.iter().zip(SHAPE).all(|(byte, place)| match place {
        b'0' => byte.is_ascii_digit() || b"LMNPQRSTUV".contains(byte),
        _ => byte.is_ascii_uppercase(),
    })
}

/// A letter for the month; the day, to which 40 is added for women.
fn has_possible_birthday(code: &[u8; LENGTH]) -> bool {
    let digit = |byte: u8| match b"LMNPQRSTUV".iter().position(|letter| *letter == byte) {
        Some(digit) => digit as u32,
        None => u32::from(byte.wrapping_sub(b'0')),
    };
    let [_, _, _, _, _, _, _, _, month, tens, units, ..] = *code;
    let day = digit(tens) * 10 + digit(units);
    b"ABCDEHLMPRST".contains(&month) && matches!(day, 1..=31 | 41..=71)
}

fn has_checksum(code: &[u8; LENGTH]) -> bool {
    let rank = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte.wrapping_sub(b'A') };
    let counts = |(place, byte): (usize, &u8)| {
        let rank = rank(*byte);
        // The first place is odd.
        if place % 2 == 0 { ODD.get(usize::from(rank)).copied().unwrap_or(0) } else { u32::from(rank) }
    };
    let [.., check] = *code;
    let sum: u32 = code.iter().take(LENGTH - 1).enumerate().map(counts).sum();
    sum % 26 == u32::from(rank(check))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_found_in_text() {
        for text in ["RSSMRA85T10A562S", "<td>rssmra85t10a562s</td>", "cf=MRTMTT91D08F205J&x=1", "a MRTMTT91D08F205J."]
        {
            assert!(has_fiscal_code(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for text in [
            "RSSMRA85T10A562T",  // checksum
            "RSSMRA85F10A562S",  // month
            "RSSMRA85T75A562S",  // day
            "XRSSMRA85T10A562S", // part of a longer word
            "RSSMRA85T10A562",
            "",
        ] {
            assert!(!has_fiscal_code(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = has_fiscal_code(&text);
        }

        #[test]
        fn one_wrong_letter_is_noticed(place in 0..6usize, letter in b'A'..=b'Z') {
            let mut code = *b"RSSMRA85T10A562S";
            prop_assume!(code[place] != letter);
            // Letters in odd places count differently each, those in even places too.
            code[place] = letter;
            prop_assert!(!has_fiscal_code(&code));
        }
    }
}
