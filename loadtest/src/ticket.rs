//! Reads the number out of a ticket. The load tester holds no key: it only looks, so that the order of calls can be
//! judged exactly instead of by arrival times.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a token: 46 of fields and 32 of MAC.
pub const TOKEN_BYTES: usize = 78;

/// A place in a lane of a line, as printed in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The lane's class, as the number tokens use.
    pub class: u8,
    /// The ticket number.
    pub number: u64,
}

/// Reads the place out of a ticket's cookie value; `None` when it does not have a token's shape.
///
/// Layout, big-endian: version 1, key id 1, room 2, kind 1, class 1, id 16, number 8, issued 4, expires 4, line 8,
/// MAC 32.
pub fn place(token: &str) -> Option<Place> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == TOKEN_BYTES)?;
    let class = *bytes.get(5)?;
    let number = bytes.get(22..30)?.try_into().ok()?;
    Some(Place { class, number: u64::from_be_bytes(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_class_and_number() {
        let mut bytes = [0_u8; TOKEN_BYTES];
        bytes[5] = 3;
        bytes[22..30].copy_from_slice(&77_u64.to_be_bytes());
        assert_eq!(place(&URL_SAFE_NO_PAD.encode(bytes)), Some(Place { class: 3, number: 77 }));
    }

    #[test]
    fn other_shapes_are_no_ticket() {
        assert_eq!(place(""), None);
        assert_eq!(place("not base64!"), None);
        assert_eq!(place(&URL_SAFE_NO_PAD.encode([0_u8; 77])), None);
    }
}
