//! The header by which a gateway in front says who a visitor is, signed with a key that both know:
//!
//! ```text
//! Waiting-Room-Proof: t=1793701200, n=Zm9vYmFyYmF6cXV4, id=office%20123, s=BASE64URL
//! ```
//!
//! `s` is the HMAC-SHA256, base64url without padding, of the lines `anticamera-proof-1`, method, host, path with query,
//! `t`, `n` and `id` as they stand in the header, each ended by a line feed. `t` is in seconds since 1970, `n` is used
//! once. The method, host and path are those of the request that carries the header.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::proof::Failure;
use super::time::Unix;

/// The first line of what is signed, so that no other signature under the same key can pass for one of these.
const PURPOSE: &str = "anticamera-proof-1";
/// Nonces have at least so many characters and at most [`LONGEST`].
const SHORTEST_NONCE: usize = 8;
/// Characters of a nonce or identity at most.
const LONGEST: usize = 256;
/// Nonces remembered at most.
const MOST_REMEMBERED: usize = 200_000;

/// The key of a gateway.
#[derive(Clone)]
pub struct GatewayKey(Hmac<Sha256>);

impl std::fmt::Debug for GatewayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatewayKey(..)")
    }
}

/// The request that carries the header.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// The host asked for, with its port if it has one.
    pub host: &'a str,
    /// Path and query as they came.
    pub target: &'a str,
}

/// A header taken apart.
struct Parts<'h> {
    time: &'h str,
    nonce: &'h str,
    identity: &'h str,
    signature: &'h str,
}

/// A header whose signature and time are good; whether it was shown before is for [`Shown`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genuine {
    /// Whom it names.
    pub identity: String,
    nonce: [u8; 16],
}

impl GatewayKey {
    /// A key of any length; 32 random bytes are a good one.
    pub fn new(bytes: &[u8]) -> Option<GatewayKey> {
        Hmac::new_from_slice(bytes).ok().map(GatewayKey)
    }

    /// Checks a header against the request that carries it.
    ///
    /// # Errors
    /// [`Failure::Malformed`], [`Failure::BadSignature`], or a time further from ours than `window`.
    pub fn verify(&self, header: &str, signed: Signed<'_>, window: Duration, now: Unix) -> Result<Genuine, Failure> {
        let parts = Parts::of(header).ok_or(Failure::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(parts.signature).map_err(|_| Failure::Malformed)?;
        self.mac(signed, &parts).verify_slice(&signature).map_err(|_| Failure::BadSignature)?;
        let time = parts.time.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1000)).map(Unix);
        let time = time.ok_or(Failure::Malformed)?;
        if now.since(time) > window {
            return Err(Failure::Expired);
        }
        if time.since(now) > window {
            return Err(Failure::NotYetValid);
        }
        let identity = percent_decoded(parts.identity).ok_or(Failure::Malformed)?;
        if identity.trim().is_empty() {
            return Err(Failure::Claim);
        }
        let [nonce, _]: [[u8; 16]; 2] = halves(Sha256::digest(parts.nonce).into());
        Ok(Genuine { identity, nonce })
    }

    /// The header for a request, as a gateway makes it.
    pub fn sign(&self, signed: Signed<'_>, seconds: u64, nonce: &str, identity: &str) -> String {
        let (time, identity) = (seconds.to_string(), percent_encoded(identity));
        let parts = Parts { time: &time, nonce, identity: &identity, signature: "" };
        let signature = URL_SAFE_NO_PAD.encode(self.mac(signed, &parts).finalize().into_bytes());
        format!("t={time}, n={nonce}, id={identity}, s={signature}")
    }

    fn mac(&self, signed: Signed<'_>, parts: &Parts<'_>) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for line in [PURPOSE, signed.method, signed.host, signed.target, parts.time, parts.nonce, parts.identity] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        mac
    }
}

impl<'h> Parts<'h> {
    fn of(header: &'h str) -> Option<Parts<'h>> {
        let mut members = header.split(',').map(str::trim);
        let mut member = |name: &str| members.next()?.strip_prefix(name)?.strip_prefix('=');
        let parts = Parts { time: member("t")?, nonce: member("n")?, identity: member("id")?, signature: member("s")? };
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let good = members.next().is_none()
            && parts.time.bytes().all(|byte| byte.is_ascii_digit())
            && (SHORTEST_NONCE..=LONGEST).contains(&parts.nonce.len())
            && plain(parts.nonce)
            && parts.identity.len() <= LONGEST
            && plain(parts.identity);
        good.then_some(parts)
    }
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let mut halves = [[0; 16]; 2];
    for (to, from) in halves.iter_mut().flatten().zip(bytes) {
        *to = from;
    }
    halves
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(if byte == b'%' { u8::try_from(digit()? * 16 + digit()?).ok()? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The nonces shown within the window. They are remembered in two generations, each twice the window long, so that none
/// that could still be good is forgotten; when there are too many, new ones are refused rather than old ones forgotten.
#[derive(Debug, Default)]
pub struct Shown {
    young: HashSet<[u8; 16]>,
    old: HashSet<[u8; 16]>,
    turned_at: Unix,
}

impl Shown {
    /// Notes that a header was shown.
    ///
    /// # Errors
    /// [`Failure::Replayed`] when it was before, [`Failure::Busy`] when no more can be remembered.
    pub fn note(&mut self, genuine: &Genuine, window: Duration, now: Unix) -> Result<(), Failure> {
        let generation = window * 2;
        if now.since(self.turned_at) > generation {
            let young = std::mem::take(&mut self.young);
            self.old = if now.since(self.turned_at) > 2 * generation { HashSet::new() } else { young };
            self.turned_at = now;
        }
        if self.young.contains(&genuine.nonce) || self.old.contains(&genuine.nonce) {
            return Err(Failure::Replayed);
        }
        if self.young.len() >= MOST_REMEMBERED {
            return Err(Failure::Busy);
        }
        self.young.insert(genuine.nonce);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Unix = Unix(1_800_000_000_000);
    const SECONDS: u64 = 1_800_000_000;
    const WINDOW: Duration = Duration::from_secs(60);
    const JOIN: Signed<'static> =
        Signed { method: "POST", host: "portal.example", target: "/.waiting-room/join?room=bonus-600" };

    fn key() -> GatewayKey {
        GatewayKey::new(&[7; 32]).unwrap()
    }

    fn verify(header: &str, signed: Signed<'_>) -> Result<String, Failure> {
        key().verify(header, signed, WINDOW, NOW).map(|genuine| genuine.identity)
    }

    #[test]
    fn what_a_gateway_signs_is_believed_once() {
        let header = key().sign(JOIN, SECONDS, "nonce-001", "Büro 123");
        let genuine = key().verify(&header, JOIN, WINDOW, NOW).unwrap();
        assert_eq!(genuine.identity, "Büro 123");
        let mut shown = Shown::default();
        assert_eq!(shown.note(&genuine, WINDOW, NOW), Ok(()));
        assert_eq!(shown.note(&genuine, WINDOW, NOW), Err(Failure::Replayed));
        // Until the end of its window, and longer.
        for seconds in [30, 61, 119, 121, 200] {
            let later = NOW + Duration::from_secs(seconds);
            assert_eq!(shown.note(&genuine, WINDOW, later), Err(Failure::Replayed), "{seconds}");
        }
    }

    #[test]
    fn the_signature_is_of_an_openssl_that_signs_the_same_lines() {
        // printf 'anticamera-proof-1\nGET\nportal.example\n/a?b=c\n1800000000\nnonce-001\noffice%%20123\n' |
        //   openssl dgst -sha256 -hmac 0123456789abcdef -binary | basenc --base64url | tr -d =
        let key = GatewayKey::new(b"0123456789abcdef").unwrap();
        let signed = Signed { method: "GET", host: "portal.example", target: "/a?b=c" };
        let header = key.sign(signed, SECONDS, "nonce-001", "office 123");
        assert_eq!(header, "t=1800000000, n=nonce-001, id=office%20123, s=3sJ3ph8MlD-ipieuIj_12-h4dHKe0HQxOg1RLKrnbvw");
    }

    #[test]
    fn nothing_of_it_can_be_changed() {
        let header = key().sign(JOIN, SECONDS, "nonce-001", "office");
        for signed in [
            Signed { method: "GET", ..JOIN },
            Signed { host: "elsewhere.example", ..JOIN },
            Signed { target: "/.waiting-room/join?room=other", ..JOIN },
        ] {
            assert_eq!(verify(&header, signed), Err(Failure::BadSignature));
        }
        for (from, to) in [("1800000000", "1800000001"), ("nonce-001", "nonce-002"), ("id=office", "id=boss")] {
            assert_eq!(verify(&header.replace(from, to), JOIN), Err(Failure::BadSignature), "{to}");
        }
        let other = GatewayKey::new(&[8; 32]).unwrap().sign(JOIN, SECONDS, "nonce-001", "office");
        assert_eq!(verify(&other, JOIN), Err(Failure::BadSignature));
    }

    #[test]
    fn times_outside_the_window_and_nobodies_are_refused() {
        let at = |seconds| verify(&key().sign(JOIN, seconds, "nonce-001", "office"), JOIN);
        assert_eq!(at(SECONDS - 60), Ok("office".into()));
        assert_eq!(at(SECONDS - 61), Err(Failure::Expired));
        assert_eq!(at(SECONDS + 60), Ok("office".into()));
        assert_eq!(at(SECONDS + 61), Err(Failure::NotYetValid));
        assert_eq!(at(u64::MAX), Err(Failure::Malformed));
        assert_eq!(verify(&key().sign(JOIN, SECONDS, "nonce-001", " "), JOIN), Err(Failure::Claim));
        assert_eq!(verify(&key().sign(JOIN, SECONDS, "short", "office"), JOIN), Err(Failure::Malformed));
        for wrong in ["", "t=1", "s=a", "t=1, n=nonce-001, id=a, s=!", "n=nonce-001, t=1, id=a, s=AAAA"] {
            assert_eq!(verify(wrong, JOIN), Err(Failure::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_full_memory_refuses_rather_than_forgets() {
        let mut shown = Shown::default();
        let genuine = |n: u64| {
            let [nonce, _] = halves(Sha256::digest(n.to_be_bytes()).into());
            Genuine { identity: "office".into(), nonce }
        };
        for n in 0..MOST_REMEMBERED as u64 {
            assert_eq!(shown.note(&genuine(n), WINDOW, NOW), Ok(()));
        }
        assert_eq!(shown.note(&genuine(u64::MAX), WINDOW, NOW), Err(Failure::Busy));
        assert_eq!(shown.note(&genuine(0), WINDOW, NOW), Err(Failure::Replayed));
        let later = NOW + WINDOW * 5;
        assert_eq!(shown.note(&genuine(u64::MAX), WINDOW, later), Ok(()));
    }

    proptest! {
        #[test]
        fn no_header_makes_trouble(header in "[ -~]{0,80}") {
            prop_assert!(verify(&header, JOIN).is_err());
        }

        #[test]
        fn identities_survive(identity in "\\PC{1,30}") {
            prop_assume!(!identity.trim().is_empty());
            let header = key().sign(JOIN, SECONDS, "nonce-001", &identity);
            if let Ok(read) = verify(&header, JOIN) {
                prop_assert_eq!(read, identity);
            }
        }

        #[test]
        fn whatever_is_shown_twice_in_its_window_is_noticed(first in 0..300u64, gap in 0..120u64) {
            // A header is good from a window before to a window after its time.
            let mut shown = Shown::default();
            let genuine = Genuine { identity: "office".into(), nonce: [1; 16] };
            let at = |seconds: u64| NOW + Duration::from_secs(seconds);
            let filler = Genuine { identity: "office".into(), nonce: [2; 16] };
            prop_assert!(shown.note(&filler, WINDOW, at(0)).is_ok());
            prop_assert!(shown.note(&genuine, WINDOW, at(first)).is_ok());
            prop_assert_eq!(shown.note(&genuine, WINDOW, at(first + gap)), Err(Failure::Replayed));
        }
    }
}
