//! What a visitor carries: a signed token of fixed layout.
//!
//! A token is 46 bytes of fields, big-endian, and the 32 bytes of their HMAC-SHA256, written as base64url without
//! padding (RFC 4648 section 5). 78 bytes are a multiple of three, so that every token has exactly one spelling, of 104
//! characters:
//!
//! | field | bytes |
//! |---|---|
//! | version | 1 |
//! | key id | 1 |
//! | room | 2 |
//! | kind | 1 |
//! | class | 1 |
//! | visitor id, random | 16 |
//! | ticket number | 8 |
//! | issued, seconds since 1970 | 4 |
//! | expires, seconds since 1970 | 4 |
//! | the line's identity (ticket, turn, receipt) or the generation (pass) | 8 |
//!
//! This module knows the layout. Signing and verifying need keys and are in [`keyring`](super::keyring).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut};

use super::names::{ClassId, RoomId};

/// The one layout there is so far.
pub const VERSION: u8 = 1;
/// Bytes of the fields, without the signature.
pub const FIELDS_LEN: usize = 46;
/// Bytes of the signature: HMAC-SHA256, not shortened.
pub const SIGNATURE_LEN: usize = 32;
/// Bytes of fields and signature.
pub const TOKEN_LEN: usize = FIELDS_LEN + SIGNATURE_LEN;
/// Characters of a token as text.
pub const TEXT_LEN: usize = 104;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A place in the line.
    Ticket,
    /// The right to enter, of a visitor who has been called.
    Turn,
    /// The right to be inside.
    Pass,
    /// Proof of having been in line.
    Receipt,
}

impl Kind {
    /// All kinds, in the order of their codes.
    pub const ALL: [Kind; 4] = [Kind::Ticket, Kind::Turn, Kind::Pass, Kind::Receipt];

    /// The byte that stands for the kind in a token, from 1.
    pub fn code(self) -> u8 {
        match self {
            Kind::Ticket => 1,
            Kind::Turn => 2,
            Kind::Pass => 3,
            Kind::Receipt => 4,
        }
    }

    /// The kind as cookie names and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Ticket => "ticket",
            Kind::Turn => "turn",
            Kind::Pass => "pass",
            Kind::Receipt => "receipt",
        }
    }
}

/// Who a visitor is, as far as we know: 16 random bytes, drawn once and kept from ticket to pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VisitorId(pub [u8; 16]);

impl fmt::Debug for VisitorId {
    /// Shows two of the sixteen bytes: enough to follow somebody through a debugging session, too few to be anybody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, ..] = self.0;
        write!(f, "VisitorId({first:02x}{second:02x}..)")
    }
}

/// Which line a ticket stands in. Random and durable: a token of another line is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineIdentity(pub u64);

/// How often a pass has been renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// A token's kind, together with the field whose meaning depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// A place in this line.
    Ticket(LineIdentity),
    /// A call in this line.
    Turn(LineIdentity),
    /// The right to be inside, in this generation.
    Pass(Generation),
    /// Proof of having been in this line.
    Receipt(LineIdentity),
}

impl Claim {
    /// The token's kind.
    pub fn kind(self) -> Kind {
        match self {
            Claim::Ticket(_) => Kind::Ticket,
            Claim::Turn(_) => Kind::Turn,
            Claim::Pass(_) => Kind::Pass,
            Claim::Receipt(_) => Kind::Receipt,
        }
    }

    /// The line it speaks of; a pass speaks of none.
    pub fn line(self) -> Option<LineIdentity> {
        match self {
            Claim::Ticket(line) | Claim::Turn(line) | Claim::Receipt(line) => Some(line),
            Claim::Pass(_) => None,
        }
    }

    /// The generation of a pass.
    pub fn generation(self) -> Option<Generation> {
        match self {
            Claim::Pass(generation) => Some(generation),
            Claim::Ticket(_) | Claim::Turn(_) | Claim::Receipt(_) => None,
        }
    }

    fn tail(self) -> u64 {
        match self {
            Claim::Ticket(line) | Claim::Turn(line) | Claim::Receipt(line) => line.0,
            Claim::Pass(generation) => generation.0,
        }
    }

    fn of(kind: Kind, tail: u64) -> Claim {
        match kind {
            Kind::Ticket => Claim::Ticket(LineIdentity(tail)),
            Kind::Turn => Claim::Turn(LineIdentity(tail)),
            Kind::Pass => Claim::Pass(Generation(tail)),
            Kind::Receipt => Claim::Receipt(LineIdentity(tail)),
        }
    }
}

/// What a token says. Whoever holds one of these got it from a verified signature, or is about to sign it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The room it is good for.
    pub room: RoomId,
    /// What it is good for.
    pub claim: Claim,
    /// The visitor's class when the ticket was drawn.
    pub class: ClassId,
    /// The visitor.
    pub id: VisitorId,
    /// The ticket's number in its lane.
    pub number: u64,
    /// When it was signed, in seconds since 1970.
    pub issued: u32,
    /// The first second in which it is good no more, since 1970.
    pub expires: u32,
}

impl Token {
    /// What the token is good for, without the field that goes with it.
    pub fn kind(&self) -> Kind {
        self.claim.kind()
    }
}

/// Why something presented as a token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Not 104 characters of base64url.
    Malformed,
    /// A layout this version does not know.
    Version,
    /// Says that it was signed with a key we do not have (any more).
    UnknownKey,
    /// Says that it is for another room.
    OtherRoom,
    /// Says that it is of another kind.
    OtherKind,
    /// Altered or invented.
    BadSignature,
    /// Ours, unaltered, but past its time: no place and no pass, yet good enough to say so and for the grace rules.
    Expired(Token),
}

impl Rejection {
    /// The reason as `token_rejections_total{reason}` has it.
    pub fn label(&self) -> &'static str {
        match self {
            Rejection::Malformed => "malformed",
            Rejection::Version => "version",
            Rejection::UnknownKey => "unknown_key",
            Rejection::OtherRoom => "other_room",
            Rejection::OtherKind => "other_kind",
            Rejection::BadSignature => "bad_signature",
            Rejection::Expired(_) => "expired",
        }
    }
}

/// A signed token as text. Whoever reads it can be the visitor, so it has no readable `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenText([u8; TEXT_LEN]);

impl TokenText {
    /// The 104 characters.
    pub fn as_str(&self) -> &str {
        // Base64 is ASCII; the empty text is never reached, and would be no token.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl AsRef<str> for TokenText {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

/// The fields as they are signed.
pub(super) fn fields_to_bytes(token: &Token, key_id: u8) -> [u8; FIELDS_LEN] {
    let mut bytes = [0; FIELDS_LEN];
    let mut rest = bytes.as_mut_slice();
    rest.put_u8(VERSION);
    rest.put_u8(key_id);
    rest.put_u16(token.room.0);
    rest.put_u8(token.kind().code());
    rest.put_u8(token.class.0);
    rest.put_slice(&token.id.0);
    rest.put_u64(token.number);
    rest.put_u32(token.issued);
    rest.put_u32(token.expires);
    rest.put_u64(token.claim.tail());
    bytes
}

/// Writes fields and signature as text.
pub(super) fn to_text(fields: &[u8; FIELDS_LEN], signature: &[u8; SIGNATURE_LEN]) -> TokenText {
    let mut bytes = [0; TOKEN_LEN];
    let (head, tail) = bytes.split_at_mut(FIELDS_LEN);
    head.copy_from_slice(fields);
    tail.copy_from_slice(signature);
    let mut text = [b'A'; TEXT_LEN];
    // The lengths are fixed and fit, so this cannot fail; if it did, the text would be no token.
    let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
    TokenText(text)
}

/// A token taken apart, of which nothing has been verified yet.
pub(super) struct Unverified {
    /// What the signature is over.
    pub(super) fields: [u8; FIELDS_LEN],
    /// The signature presented.
    pub(super) signature: [u8; SIGNATURE_LEN],
}

impl Unverified {
    /// Decodes the text without touching the heap; only the one spelling that [`to_text`] writes is accepted.
    pub(super) fn from_text(text: &[u8]) -> Option<Unverified> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let mut bytes = [0; TOKEN_LEN];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (fields, signature) = bytes.split_first_chunk()?;
        (decoded == TOKEN_LEN).then_some(Unverified { fields: *fields, signature: *signature.first_chunk()? })
    }

    /// The version said.
    pub(super) fn version(&self) -> u8 {
        self.fields[0]
    }

    /// The key said.
    pub(super) fn key_id(&self) -> u8 {
        self.fields[1]
    }

    /// The room said.
    pub(super) fn room(&self) -> RoomId {
        RoomId(u16::from_be_bytes([self.fields[2], self.fields[3]]))
    }

    /// The code of the kind said.
    pub(super) fn kind_code(&self) -> u8 {
        self.fields[4]
    }

    /// Reads the fields, once their signature has been verified with the key of this kind.
    pub(super) fn into_token(self, kind: Kind) -> Token {
        let mut rest = self.fields.as_slice();
        rest.advance(2);
        let room = RoomId(rest.get_u16());
        rest.advance(1);
        let class = ClassId(rest.get_u8());
        let mut id = [0; 16];
        rest.copy_to_slice(&mut id);
        Token {
            room,
            class,
            id: VisitorId(id),
            number: rest.get_u64(),
            issued: rest.get_u32(),
            expires: rest.get_u32(),
            claim: Claim::of(kind, rest.get_u64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_token() -> Token {
        Token {
            room: RoomId(0x0203),
            claim: Claim::Pass(Generation(0x2728_292a_2b2c_2d2e)),
            class: ClassId(0x05),
            id: VisitorId(std::array::from_fn(|at| 0x06 + at as u8)),
            number: 0x1617_1819_1a1b_1c1d,
            issued: 0x1e1f_2021,
            expires: 0x2223_2425,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = fields_to_bytes(&a_token(), 0x01);
        let mut expected = vec![VERSION, 0x01, 0x02, 0x03, 3, 0x05];
        expected.extend(0x06..=0x15);
        expected.extend(0x16..=0x1d);
        expected.extend(0x1e..=0x25);
        expected.extend([0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e]);
        assert_eq!(bytes.as_slice(), expected.as_slice());
    }

    #[test]
    fn fields_survive_the_way_through_text() {
        let fields = fields_to_bytes(&a_token(), 9);
        let text = to_text(&fields, &[0xff; SIGNATURE_LEN]);
        assert_eq!(text.as_str().len(), TEXT_LEN);
        let read = Unverified::from_text(text.as_str().as_bytes()).unwrap();
        assert_eq!((read.version(), read.key_id(), read.room()), (VERSION, 9, RoomId(0x0203)));
        assert_eq!(read.signature, [0xff; SIGNATURE_LEN]);
        assert_eq!(read.into_token(Kind::Pass), a_token());
    }

    #[test]
    fn kinds_have_codes_of_their_own_and_keep_their_claims() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.code()), at + 1);
            let claim = Claim::of(kind, 7);
            assert_eq!((claim.kind(), claim.tail()), (kind, 7));
            assert_eq!(claim.line().is_some(), kind != Kind::Pass);
            assert_eq!(claim.generation().is_some(), kind == Kind::Pass);
        }
    }

    #[test]
    fn debug_gives_nobody_away() {
        let shown = format!("{:?}", a_token());
        assert!(shown.contains("VisitorId(0607..)"), "{shown}");
        assert!(!shown.contains("08"), "{shown}");
        let text = to_text(&fields_to_bytes(&a_token(), 1), &[0; SIGNATURE_LEN]);
        assert_eq!(format!("{text:?}"), "TokenText(..)");
    }
}
