//! The keys that tokens are signed with: which one signs, which ones verify, and the keys derived from them for each
//! room and kind. Reading key files is not done here.
//!
//! A master key signs nothing itself. From it, HMAC-SHA256 derives one key for every key id, kind and room name, so that
//! no token of one kind or room can pass for another even if the fields were misread. What is signed begins with its
//! purpose. The keyed state is computed once for each derived key and copied for each token: signing or verifying costs
//! two compressions of SHA-256 and no heap.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::challenge::{self, Challenge};
use super::client::ClientPrefix;
use super::names::{RoomId, RoomName};
use super::recovery::{Place, RecoveryCode};
use super::token::{Kind, LineIdentity, Rejection, Token, TokenText, Unverified, VERSION, fields_to_bytes, to_text};

type HmacSha256 = Hmac<Sha256>;

/// What a signature is for. Nine bytes, so that purpose, fields and padding fill exactly one block of SHA-256.
const SIGNED_PURPOSE: &[u8; 9] = b"token.v1:";
/// What a derivation is for.
const DERIVED_PURPOSE: &[u8] = b"anticamera token key v1";
/// What the derivation of the keys of recovery codes is for.
const RECOVERY_PURPOSE: &[u8] = b"anticamera recovery key v1";
/// What the derivation of the keys of challenges is for.
const CHALLENGE_PURPOSE: &[u8] = b"anticamera challenge key v1";
/// The block of SHA-256, to which HMAC fills a shorter key up with zeros (RFC 2104 section 2).
const BLOCK_LEN: usize = 64;

/// Bytes of a master key.
pub const SECRET_LEN: usize = 32;
/// Keys a ring may hold: more than any rotation needs, few enough that a forgotten one is noticed.
pub const MAX_KEYS: usize = 32;

/// A master key's number, the name of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u8);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A master key's bytes: wiped from memory when dropped, never shown.
pub struct Secret([u8; SECRET_LEN]);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: [u8; SECRET_LEN]) -> Secret {
        Secret(bytes)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A key, or what was derived from it, with its number and age.
#[derive(Debug)]
struct Aged<T> {
    id: KeyId,
    /// Seconds since 1970.
    created: u32,
    item: T,
}

/// Keys from the oldest to the newest; never empty.
#[derive(Debug)]
struct Ring<T> {
    oldest: Aged<T>,
    newer: Vec<Aged<T>>,
    activate_after: u32,
}

impl<T> Ring<T> {
    /// The newest key that is old enough to be known everywhere. If none is, the oldest: the very first key signs at
    /// once.
    fn signing(&self, now: u32) -> &Aged<T> {
        let active = |key: &&Aged<T>| now.saturating_sub(key.created) >= self.activate_after;
        self.newer.iter().rev().find(active).unwrap_or(&self.oldest)
    }

    fn iter(&self) -> impl Iterator<Item = &Aged<T>> {
        std::iter::once(&self.oldest).chain(&self.newer)
    }

    fn get(&self, id: KeyId) -> Option<&T> {
        self.iter().find(|key| key.id == id).map(|key| &key.item)
    }

    fn map<U>(&self, derive: impl Fn(&Aged<T>) -> U) -> Ring<U> {
        let derived = |key: &Aged<T>| Aged { id: key.id, created: key.created, item: derive(key) };
        Ring {
            oldest: derived(&self.oldest),
            newer: self.newer.iter().map(derived).collect(),
            activate_after: self.activate_after,
        }
    }
}

/// One master key as it was read.
#[derive(Debug)]
pub struct MasterKey {
    /// Its number.
    pub id: KeyId,
    /// When it was created, in seconds since 1970.
    pub created: u32,
    /// Its bytes.
    pub secret: Secret,
}

/// Why keys make no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFault {
    /// There is nothing to sign with.
    #[error(
        "there is no key: restore one, or empty the directory and restart to start anew (everybody's place is lost)"
    )]
    Empty,
    /// Retired keys were never removed.
    #[error("there are {0} keys, at most {MAX_KEYS} are allowed: remove the files of retired keys")]
    TooMany(usize),
    /// Two keys would verify each other's tokens only by luck.
    #[error("key {0} is there twice: remove one of the two")]
    Duplicate(KeyId),
}

/// All master keys. The newest active one signs, all of them verify.
#[derive(Debug)]
pub struct Keyring {
    ring: Ring<Secret>,
}

impl Keyring {
    /// Puts keys on a ring. A key signs only once it is `activate_after` old, so that every process of a fleet verifies
    /// with it before any signs with it.
    ///
    /// # Errors
    /// [`KeyringFault`] when there is no key, too many, or two with one number.
    pub fn new(mut keys: Vec<MasterKey>, activate_after: Duration) -> Result<Keyring, KeyringFault> {
        if keys.len() > MAX_KEYS {
            return Err(KeyringFault::TooMany(keys.len()));
        }
        keys.sort_by_key(|key| key.id);
        if let Some(key) = keys.windows(2).find_map(|pair| matches!(pair, [a, b] if a.id == b.id).then(|| &pair[0])) {
            return Err(KeyringFault::Duplicate(key.id));
        }
        keys.sort_by_key(|key| (key.created, key.id));
        let mut keys = keys.into_iter().map(|key| Aged { id: key.id, created: key.created, item: key.secret });
        let oldest = keys.next().ok_or(KeyringFault::Empty)?;
        let activate_after = u32::try_from(activate_after.as_secs()).unwrap_or(u32::MAX);
        Ok(Keyring { ring: Ring { oldest, newer: keys.collect(), activate_after } })
    }

    /// The number of the key that signs at `now` (seconds since 1970).
    pub fn signing_key(&self, now: u32) -> KeyId {
        self.ring.signing(now).id
    }

    /// The numbers of all keys, the oldest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.ring.iter().map(|key| key.id)
    }

    /// Derives a room's keys.
    pub fn for_room(&self, room: &RoomName) -> RoomKeys {
        let ring = self.ring.map(|key| Derived {
            tokens: Kind::ALL
                .map(|kind| keyed_state(&derive(&key.item, DERIVED_PURPOSE, [key.id.0, kind.code()], room))),
            recovery: keyed(&derive(&key.item, RECOVERY_PURPOSE, [key.id.0, 0], room)),
            challenge: keyed(&derive(&key.item, CHALLENGE_PURPOSE, [key.id.0, 0], room)),
        });
        RoomKeys { room: room.id(), ring }
    }
}

/// One room's derived keys, ready to sign and verify. Computed when keys or rooms change; shared by all requests.
pub struct RoomKeys {
    room: RoomId,
    ring: Ring<Derived>,
}

/// What is derived from one master key for one room.
struct Derived {
    /// One keyed state for each kind of token, in the order of [`Kind::ALL`].
    tokens: [HmacSha256; Kind::ALL.len()],
    recovery: HmacSha256,
    challenge: HmacSha256,
}

impl fmt::Debug for RoomKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKeys").field("room", &self.room).finish_non_exhaustive()
    }
}

impl RoomKeys {
    /// Signs a token of this room with the key that signs at `now` (seconds since 1970).
    pub fn sign(&self, token: &Token, now: u32) -> TokenText {
        debug_assert_eq!(token.room, self.room, "a token is signed with its own room's keys");
        let key = self.ring.signing(now);
        let fields = fields_to_bytes(token, key.id.0);
        let signature = with_fields(state_of(&key.item.tokens, token.kind()), &fields).finalize().into_bytes();
        to_text(&fields, &signature.into())
    }

    /// Verifies what was presented as a token of this room and kind, at `now` (seconds since 1970).
    ///
    /// Room, kind and key id are read before the signature is checked, only to tell the reasons apart: the key itself
    /// belongs to this room and kind. A token from the future is accepted, because its signature is ours: refusing it
    /// would take everybody's place when a wall clock is set back before a restart.
    ///
    /// # Errors
    /// [`Rejection`], a reason to count and to treat the token as none.
    pub fn verify(&self, kind: Kind, text: &[u8], now: u32) -> Result<Token, Rejection> {
        let presented = Unverified::from_text(text).ok_or(Rejection::Malformed)?;
        if presented.version() != VERSION {
            return Err(Rejection::Version);
        }
        if presented.room() != self.room {
            return Err(Rejection::OtherRoom);
        }
        if presented.kind_code() != kind.code() {
            return Err(Rejection::OtherKind);
        }
        let states = self.ring.get(KeyId(presented.key_id())).ok_or(Rejection::UnknownKey)?;
        let computed = with_fields(state_of(&states.tokens, kind), &presented.fields);
        // Compares in constant time.
        computed.verify_slice(&presented.signature).map_err(|_| Rejection::BadSignature)?;
        let token = presented.into_token(kind);
        if now < token.expires { Ok(token) } else { Err(Rejection::Expired(token)) }
    }

    /// The code that gives a place of this line back, signed with the key that signs at `now` (seconds since 1970);
    /// `None` for numbers too large for one.
    pub fn recovery_code(&self, place: Place, line: LineIdentity, now: u32) -> Option<RecoveryCode> {
        RecoveryCode::of(place, &recovery_signature(&self.ring.signing(now).item, place, line))
    }

    /// The place of this line that a code gives back, if it is one of ours.
    pub fn recovered(&self, code: RecoveryCode, line: LineIdentity) -> Option<Place> {
        let signed = |key: &Aged<Derived>| code.is_signed(&recovery_signature(&key.item, code.place, line));
        self.ring.iter().any(signed).then_some(code.place)
    }

    /// The text of a challenge for this client, signed with the key that signs at `now` (seconds since 1970).
    pub fn challenge(&self, challenge: &Challenge, client: ClientPrefix, now: u32) -> String {
        let key = self.ring.signing(now);
        let fields = challenge.fields(key.id.0);
        let mark = challenge_mac(&key.item, &fields, client).finalize().into_bytes();
        challenge::to_text(&fields, mark.split_at(challenge::MARK_LEN).0)
    }

    /// The challenge that this text is, if it is one of ours for this client, and not expired at `now` (seconds since
    /// 1970). Two compressions of SHA-256 at most.
    pub fn challenged(&self, text: &str, client: ClientPrefix, now: u32) -> Option<Challenge> {
        let presented = challenge::Unverified::from_text(text)?;
        let key = self.ring.get(KeyId(presented.key)).filter(|_| now < presented.challenge.expires)?;
        // Compares in constant time.
        challenge_mac(key, &presented.fields, client).verify_truncated_left(&presented.mark).ok()?;
        Some(presented.challenge)
    }
}

fn challenge_mac(keys: &Derived, fields: &[u8], client: ClientPrefix) -> HmacSha256 {
    keys.challenge.clone().chain_update(fields).chain_update(client.octets())
}

fn recovery_signature(keys: &Derived, place: Place, line: LineIdentity) -> [u8; 32] {
    let mac = keys.recovery.clone().chain_update(line.0.to_be_bytes()).chain_update([place.class.0]);
    mac.chain_update(place.number.to_be_bytes()).finalize().into_bytes().into()
}

fn state_of([ticket, turn, pass, receipt]: &[HmacSha256; 4], kind: Kind) -> &HmacSha256 {
    match kind {
        Kind::Ticket => ticket,
        Kind::Turn => turn,
        Kind::Pass => pass,
        Kind::Receipt => receipt,
    }
}

fn with_fields(state: &HmacSha256, fields: &[u8]) -> HmacSha256 {
    state.clone().chain_update(fields)
}

/// The key for one purpose, key id and kind, and room. Purpose and room name carry their lengths, so that no two
/// derivations can have the same input.
fn derive(master: &Secret, purpose: &[u8], id_and_kind: [u8; 2], room: &RoomName) -> Secret {
    let room = room.as_str().as_bytes();
    let mac = keyed(master)
        .chain_update(length_of(purpose))
        .chain_update(purpose)
        .chain_update(id_and_kind)
        .chain_update(length_of(room))
        .chain_update(room);
    Secret(mac.finalize().into_bytes().into())
}

fn length_of(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

/// A derived key's state, with the purpose of every signature already in it.
fn keyed_state(key: &Secret) -> HmacSha256 {
    keyed(key).chain_update(SIGNED_PURPOSE)
}

fn keyed(key: &Secret) -> HmacSha256 {
    let mut block = Zeroizing::new([0; BLOCK_LEN]);
    block[..SECRET_LEN].copy_from_slice(&key.0);
    HmacSha256::new((&*block).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::names::ClassId;
    use super::super::token::{Claim, Generation, LineIdentity, TEXT_LEN, VisitorId};
    use super::*;

    const NOW: u32 = 1_700_000_000;
    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    fn master(id: u8, created: u32) -> MasterKey {
        MasterKey { id: KeyId(id), created, secret: Secret([id ^ 0x5a; SECRET_LEN]) }
    }

    fn ring(keys: impl IntoIterator<Item = (u8, u32)>) -> Keyring {
        Keyring::new(keys.into_iter().map(|(id, created)| master(id, created)).collect(), FIVE_MINUTES).unwrap()
    }

    fn room(name: &str) -> RoomName {
        RoomName::new(name).unwrap()
    }

    fn keys() -> RoomKeys {
        ring([(0, NOW - 1000)]).for_room(&room("bonus-600"))
    }

    #[test]
    fn a_challenge_is_good_for_its_room_its_client_and_its_time_only() {
        let client = |text: &str| ClientPrefix::of(text.parse().unwrap());
        let asked = Challenge { id: [1; 8], bits: 14, good_from: NOW + 5, expires: NOW + 605 };
        let text = keys().challenge(&asked, client("192.0.2.1"), NOW);
        assert_eq!(text.len(), challenge::TEXT_LEN);
        assert_eq!(keys().challenged(&text, client("192.0.2.1"), NOW + 604), Some(asked));
        assert_eq!(keys().challenged(&text, client("192.0.2.1"), NOW + 605), None);
        assert_eq!(keys().challenged(&text, client("192.0.2.2"), NOW), None);
        let other_room = ring([(0, NOW - 1000)]).for_room(&room("other"));
        assert_eq!(other_room.challenged(&text, client("192.0.2.1"), NOW), None);
        for at in 0..text.len() {
            let letter = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            assert_eq!(keys().challenged(&changed, client("192.0.2.1"), NOW), None, "letter {at}");
        }
    }

    fn token(claim: Claim) -> Token {
        Token {
            room: room("bonus-600").id(),
            claim,
            class: ClassId(3),
            id: VisitorId([7; 16]),
            number: 653_452,
            issued: NOW,
            expires: NOW + 60,
        }
    }

    fn ticket() -> Token {
        token(Claim::Ticket(LineIdentity(11)))
    }

    /// `text` with the bits of one byte of the decoded token flipped.
    fn with_byte(text: &TokenText, at: usize, flip: u8) -> String {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let mut bytes = URL_SAFE_NO_PAD.decode(text.as_str()).unwrap();
        bytes[at] ^= flip;
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn a_recovery_code_is_good_for_one_line_of_one_room_and_as_long_as_its_key() {
        let place = Place { class: ClassId(3), number: 653_452 };
        let code = keys().recovery_code(place, LineIdentity(7), NOW).unwrap();
        assert_eq!(keys().recovered(code, LineIdentity(7)), Some(place));
        assert_eq!(keys().recovered(code, LineIdentity(8)), None);
        assert_eq!(ring([(0, NOW - 1000)]).for_room(&room("other")).recovered(code, LineIdentity(7)), None);
        let rotated = |keys: &[(u8, u32)]| ring(keys.iter().copied()).for_room(&room("bonus-600"));
        assert_eq!(rotated(&[(0, NOW - 1000), (1, NOW - 400)]).recovered(code, LineIdentity(7)), Some(place));
        assert_eq!(rotated(&[(1, NOW - 400)]).recovered(code, LineIdentity(7)), None);
    }

    #[test]
    fn a_signed_token_verifies() {
        let keys = keys();
        for claim in [
            Claim::Ticket(LineIdentity(1)),
            Claim::Turn(LineIdentity(2)),
            Claim::Pass(Generation(3)),
            Claim::Receipt(LineIdentity(u64::MAX)),
        ] {
            let text = keys.sign(&token(claim), NOW);
            assert_eq!(text.as_str().len(), TEXT_LEN);
            assert_eq!(keys.verify(claim.kind(), text.as_str().as_bytes(), NOW), Ok(token(claim)));
        }
    }

    /// Computed once with Python's `hmac`, so that a change of layout, derivation or purpose cannot go unnoticed: it
    /// would take the place of everybody who holds a token.
    const KNOWN_TICKET: &str =
        "AQDLsgEDBwcHBwcHBwcHBwcHBwcHBwAAAAAACfiMZVPxAGVT8TwAAAAAAAAACzQQLLS4-q_fBfGRUNBcReqgegZnDuTP4KmKC8kXoJjq";

    #[test]
    fn tokens_stay_readable_from_version_to_version() {
        assert_eq!(keys().sign(&ticket(), NOW).as_str(), KNOWN_TICKET);
    }

    #[test]
    fn every_reason_is_told_apart() {
        let keys = keys();
        let text = keys.sign(&ticket(), NOW);
        let verify = |text: &str| keys.verify(Kind::Ticket, text.as_bytes(), NOW);
        assert_eq!(verify(""), Err(Rejection::Malformed));
        assert_eq!(verify(&text.as_str()[..103]), Err(Rejection::Malformed));
        assert_eq!(verify(&format!("{text}A")), Err(Rejection::Malformed));
        assert_eq!(verify(&format!("{}=", &text.as_str()[..103])), Err(Rejection::Malformed));
        assert_eq!(verify(&format!("{}+", &text.as_str()[..103])), Err(Rejection::Malformed));
        assert_eq!(verify(&with_byte(&text, 0, 3)), Err(Rejection::Version));
        assert_eq!(verify(&with_byte(&text, 1, 1)), Err(Rejection::UnknownKey));
        assert_eq!(verify(&with_byte(&text, 3, 1)), Err(Rejection::OtherRoom));
        assert_eq!(verify(&with_byte(&text, 4, 3)), Err(Rejection::OtherKind));
        assert_eq!(verify(&with_byte(&text, 77, 1)), Err(Rejection::BadSignature));
        let labels = [Rejection::Malformed, Rejection::Expired(ticket())].map(|rejection| rejection.label());
        assert_eq!(labels, ["malformed", "expired"]);
    }

    #[test]
    fn a_token_expires_on_the_second() {
        let keys = keys();
        let text = keys.sign(&ticket(), NOW);
        let at = |now| keys.verify(Kind::Ticket, text.as_str().as_bytes(), now);
        assert_eq!(at(NOW + 59), Ok(ticket()));
        assert_eq!(at(NOW + 60), Err(Rejection::Expired(ticket())));
    }

    #[test]
    fn a_clock_set_back_takes_nobodys_place() {
        let keys = keys();
        let text = keys.sign(&ticket(), NOW);
        assert_eq!(keys.verify(Kind::Ticket, text.as_str().as_bytes(), NOW - 3600), Ok(ticket()));
    }

    /// The fields alone would not stop it: a token relabelled to another kind or room fails by its key.
    #[test]
    fn no_kind_or_room_passes_for_another() {
        let keys = keys();
        let ticket_text = keys.sign(&ticket(), NOW);
        let relabelled = with_byte(&ticket_text, 4, Kind::Ticket.code() ^ Kind::Pass.code());
        assert_eq!(keys.verify(Kind::Pass, relabelled.as_bytes(), NOW), Err(Rejection::BadSignature));
        let master = Secret([1; SECRET_LEN]);
        let of = |master: &Secret, id: u8, kind: Kind, name| {
            derive(master, DERIVED_PURPOSE, [id, kind.code()], &room(name)).0
        };
        let derived = |id, kind, name| of(&master, id, kind, name);
        let reference = derived(0, Kind::Ticket, "a");
        assert_ne!(reference, derived(1, Kind::Ticket, "a"));
        assert_ne!(reference, derived(0, Kind::Turn, "a"));
        assert_ne!(reference, derived(0, Kind::Ticket, "b"));
        assert_ne!(reference, of(&Secret([2; SECRET_LEN]), 0, Kind::Ticket, "a"));
        assert_eq!(reference, derived(0, Kind::Ticket, "a"));
    }

    #[test]
    fn the_newest_active_key_signs() {
        assert_eq!(ring([(0, NOW - 1000), (1, NOW - 300)]).signing_key(NOW), KeyId(1));
        assert_eq!(ring([(0, NOW - 1000), (1, NOW - 299)]).signing_key(NOW), KeyId(0));
        assert_eq!(ring([(2, NOW - 1000), (1, NOW - 500), (0, NOW - 400)]).signing_key(NOW), KeyId(0));
        assert_eq!(ring([(1, NOW - 500), (0, NOW - 500)]).signing_key(NOW), KeyId(1), "one age: the higher number");
    }

    #[test]
    fn without_an_active_key_the_oldest_signs() {
        assert_eq!(ring([(0, NOW)]).signing_key(NOW), KeyId(0));
        assert_eq!(ring([(5, NOW - 9), (0, NOW - 2)]).signing_key(NOW), KeyId(5));
        assert_eq!(ring([(0, NOW + 5000)]).signing_key(NOW), KeyId(0), "a file from the future");
    }

    #[test]
    fn a_new_key_verifies_before_it_signs_and_an_old_one_until_it_is_gone() {
        let name = room("bonus-600");
        let before = ring([(0, NOW - 1000)]).for_room(&name);
        let during = ring([(0, NOW - 1000), (1, NOW - 10)]).for_room(&name);
        let after = ring([(1, NOW - 10)]).for_room(&name);
        let old = during.sign(&ticket(), NOW);
        let new = during.sign(&ticket(), NOW + 300);
        let verify = |keys: &RoomKeys, text: &TokenText| keys.verify(Kind::Ticket, text.as_str().as_bytes(), NOW);
        assert_eq!(verify(&before, &old), Ok(ticket()));
        assert_eq!(verify(&before, &new), Err(Rejection::UnknownKey));
        assert_eq!(verify(&during, &old), Ok(ticket()));
        assert_eq!(verify(&during, &new), Ok(ticket()));
        assert_eq!(verify(&after, &old), Err(Rejection::UnknownKey));
        assert_eq!(verify(&after, &new), Ok(ticket()));
    }

    #[test]
    fn faulty_rings_are_refused() {
        let made = |keys: Vec<MasterKey>| Keyring::new(keys, FIVE_MINUTES).map(|_| ());
        assert_eq!(made(vec![]), Err(KeyringFault::Empty));
        assert_eq!(made(vec![master(3, 1), master(4, 1), master(3, 2)]), Err(KeyringFault::Duplicate(KeyId(3))));
        assert_eq!(made((0..33).map(|id| master(id, 1)).collect()), Err(KeyringFault::TooMany(33)));
        assert_eq!(made((0..32).map(|id| master(id, 1)).collect()), Ok(()));
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = format!("{:?}", ring([(0, 1)]));
        assert!(secret.contains("Secret(..)") && !secret.contains("90"), "{secret}");
        assert!(!format!("{:?}", keys()).contains("Hmac"));
    }

    proptest! {
        #[test]
        fn whatever_is_signed_is_read_back(
            id: [u8; 16], class: u8, number: u64, issued: u32, expires in 1_u32.., tail: u64, kind in 0_usize..4,
        ) {
            let claim = [
                Claim::Ticket(LineIdentity(tail)),
                Claim::Turn(LineIdentity(tail)),
                Claim::Pass(Generation(tail)),
                Claim::Receipt(LineIdentity(tail)),
            ][kind];
            let token =
                Token { class: ClassId(class), id: VisitorId(id), number, issued, expires, ..token(claim) };
            let keys = keys();
            let text = keys.sign(&token, NOW);
            prop_assert_eq!(keys.verify(claim.kind(), text.as_str().as_bytes(), expires - 1), Ok(token));
        }

        #[test]
        fn an_altered_token_is_none(at in 0..TEXT_LEN, other: u8) {
            let keys = keys();
            let mut text = keys.sign(&ticket(), NOW).as_str().as_bytes().to_vec();
            prop_assume!(text[at] != other);
            text[at] = other;
            prop_assert!(keys.verify(Kind::Ticket, &text, NOW).is_err());
        }

        #[test]
        fn garbage_is_no_token(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(keys().verify(Kind::Ticket, &text, NOW).is_err());
        }

        #[test]
        fn garbage_of_the_right_shape_is_no_token(text in "[A-Za-z0-9_-]{104}") {
            prop_assert!(keys().verify(Kind::Ticket, text.as_bytes(), NOW).is_err());
        }
    }
}
