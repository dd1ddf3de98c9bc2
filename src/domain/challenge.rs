//! What is asked of whoever joins from a network that is over its limit: a little work, or a moment's wait.
//!
//! A challenge is a text that we signed and do not keep: `key id | bits | good from | expires | id | MAC`, 36 bytes, as 48
//! characters of base64url. The signature covers the client's network and is made with the room's own key, so that it
//! helps nobody else and nowhere else. It is met by work, an ending of at most seven letters and digits that makes SHA-256
//! of text and ending begin with so many zero bits; or by waiting until it is good. That each is used once only is for the
//! caller to remember, until it expires.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::limiter::{Limit, WorkedOffAt};
use super::time::Mono;

/// Characters of a challenge.
pub const TEXT_LEN: usize = 48;
/// Bytes of what is signed.
pub const FIELDS_LEN: usize = 18;
/// Bytes of the signature that are kept.
pub const MARK_LEN: usize = 18;
/// Characters of an ending at most: text and ending fit into one block of SHA-256.
const LONGEST_ENDING: usize = 7;

/// Zero bits asked of whoever is just over the limit: 16,000 hashes on average, a blink even for an old phone.
const LEAST_BITS: u8 = 14;
/// Steps that are added at most: 262,000 hashes, some seconds of an old phone.
const MOST_STEPS: u32 = 4;
/// How far over the limit a network is counted at most, in units of the limit: so long it feels what others did there.
const MOST_UNITS: u32 = 15;
/// How long somebody waits who does not work.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// How long a challenge can be used once it is good without work, in seconds.
const USABLE: u32 = 600;

/// How long a challenge that was used has to be remembered.
pub const REMEMBERED: Duration = Duration::from_secs(USABLE as u64 + LONGEST_WAIT.as_secs() + 60);

/// Names one challenge.
pub type ChallengeId = [u8; 8];

/// How many joins are free, of one network and in all; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinLimits {
    /// Of one client network.
    pub per_client: Option<Limit>,
    /// Of everybody.
    pub in_all: Option<Limit>,
}

/// How far over a limit the next join would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// When the next one is free.
    pub wait: Duration,
    /// How much harder than at least the work is, in bits.
    steps: u32,
}

impl Over {
    /// `None` while the next join is free.
    pub fn of(limit: Limit, state: WorkedOffAt, now: Mono) -> Option<Over> {
        let wait = limit.beyond(state, now);
        let units = wait.as_nanos() / limit.unit().as_nanos().max(1);
        let steps = (units + 1).ilog2().min(MOST_STEPS);
        (!wait.is_zero()).then_some(Over { wait, steps })
    }

    /// Both limits hold.
    pub fn and(self, other: Over) -> Over {
        Over { wait: self.wait.max(other.wait), steps: self.steps.max(other.steps) }
    }
}

/// Counts a join that was paid for. However many there were, the network is free again in a bounded time.
pub fn count_paid(limit: Limit, state: &mut WorkedOffAt, now: Mono) {
    limit.count_beyond(state, now, limit.unit() * MOST_UNITS);
}

/// What is asked of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Tells it from others.
    pub id: ChallengeId,
    /// Zero bits that the work has to show.
    pub bits: u8,
    /// From when on it is good without work, in seconds since 1970.
    pub good_from: u32,
    /// From when on it is good for nothing.
    pub expires: u32,
}

/// What a challenge was met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// The work was done.
    Work,
    /// The time has passed.
    Wait,
}

impl Challenge {
    /// What is asked at `now` (seconds since 1970) of whoever is so far over.
    pub fn new(id: ChallengeId, over: Over, now: u32) -> Challenge {
        let wait = over.wait.clamp(SHORTEST_WAIT, LONGEST_WAIT);
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        let good_from = now.saturating_add(seconds);
        let bits = LEAST_BITS + u8::try_from(over.steps.min(MOST_STEPS)).unwrap_or_default();
        Challenge { id, bits, good_from, expires: good_from.saturating_add(USABLE) }
    }

    /// How long it takes at `now` (seconds since 1970) until it is good without work.
    pub fn good_in(&self, now: u32) -> Duration {
        Duration::from_secs(self.good_from.saturating_sub(now).into())
    }

    /// How the challenge is met, if it is, by its text with this ending at `now` (seconds since 1970). One block of SHA-256.
    pub fn met(&self, text: &str, ending: Option<&str>, now: u32) -> Option<Met> {
        if now >= self.good_from {
            return Some(Met::Wait);
        }
        let ending = ending.filter(|ending| ending.len() <= LONGEST_ENDING)?;
        (zero_bits(text, ending) >= u32::from(self.bits)).then_some(Met::Work)
    }

    pub(super) fn fields(&self, key: u8) -> [u8; FIELDS_LEN] {
        let mut fields = [0; FIELDS_LEN];
        let (head, id) = fields.split_at_mut(10);
        let (good_from, expires) = (self.good_from.to_be_bytes(), self.expires.to_be_bytes());
        for (place, byte) in head.iter_mut().zip([key, self.bits].into_iter().chain(good_from).chain(expires)) {
            *place = byte;
        }
        id.copy_from_slice(&self.id);
        fields
    }
}

/// A challenge that was presented, taken apart. Its signature is not verified yet.
pub(super) struct Unverified {
    pub(super) key: u8,
    pub(super) fields: [u8; FIELDS_LEN],
    pub(super) mark: [u8; MARK_LEN],
    pub(super) challenge: Challenge,
}

impl Unverified {
    pub(super) fn from_text(text: &str) -> Option<Unverified> {
        let mut bytes = [0; FIELDS_LEN + MARK_LEN];
        if text.len() != TEXT_LEN {
            return None;
        }
        URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (fields, mark) = bytes.split_first_chunk::<FIELDS_LEN>()?;
        let [key, bits, rest @ ..] = fields;
        let (good_from, rest) = rest.split_first_chunk()?;
        let (expires, id) = rest.split_first_chunk()?;
        let (good_from, expires) = (u32::from_be_bytes(*good_from), u32::from_be_bytes(*expires));
        let challenge = Challenge { id: id.try_into().ok()?, bits: *bits, good_from, expires };
        Some(Unverified { key: *key, fields: *fields, mark: mark.try_into().ok()?, challenge })
    }
}

pub(super) fn to_text(fields: &[u8; FIELDS_LEN], mark: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([fields.as_slice(), mark].concat())
}

fn zero_bits(text: &str, ending: &str) -> u32 {
    let digest = Sha256::new().chain_update(text).chain_update(ending).finalize();
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first).leading_zeros())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::rate::Rate;

    const NOW: u32 = 1_700_000_000;

    fn over(steps: u32, seconds: u64) -> Over {
        Over { wait: Duration::from_secs(seconds), steps }
    }

    fn solved(challenge: &Challenge, text: &str) -> String {
        (0u32..).map(|n| format!("{n:x}")).find(|end| challenge.met(text, Some(end), NOW) == Some(Met::Work)).unwrap()
    }

    #[test]
    fn work_or_time_meets_a_challenge() {
        let challenge = Challenge::new([7; 8], over(0, 20), NOW);
        let text = "x".repeat(TEXT_LEN);
        let ending = solved(&challenge, &text);
        assert_eq!(challenge.met(&text, None, NOW), None);
        assert_eq!(challenge.met(&text, Some("00000000"), NOW), None, "too long");
        assert_eq!(challenge.met(&"y".repeat(TEXT_LEN), Some(&ending), NOW), None, "another challenge's work");
        assert_eq!(challenge.met(&text, None, NOW + 19), None);
        assert_eq!(challenge.met(&text, None, NOW + 20), Some(Met::Wait));
    }

    proptest! {
        #[test]
        fn work_and_wait_are_bounded(units in 0u64..1_000_000, count in 1u32..5000) {
            let limit = Limit::of(Rate::new(count, crate::domain::rate::Per::Minute).unwrap());
            let mut state = WorkedOffAt::default();
            let now = Mono(1_000_000_000_000);
            for _ in 0..units.min(20_000) {
                count_paid(limit, &mut state, now);
            }
            let wait = limit.beyond(state, now);
            prop_assert!(wait <= limit.unit() * MOST_UNITS + limit.unit());
            if let Some(over) = Over::of(limit, state, now) {
                let challenge = Challenge::new([0; 8], over, NOW);
                prop_assert!((14..=18).contains(&challenge.bits));
                prop_assert!((5..=120).contains(&challenge.good_in(NOW).as_secs()));
            }
        }

        #[test]
        fn further_over_is_never_easier(near in 1u64..10_000, more in 0u64..10_000) {
            let limit = Limit::new(Duration::from_secs(1), 60);
            let at = |seconds: u64| Over::of(limit, WorkedOffAt(Mono(0) + Duration::from_secs(59 + seconds)), Mono(0)).unwrap();
            let bits = |seconds| Challenge::new([0; 8], at(seconds), NOW).bits;
            prop_assert!(bits(near) <= bits(near + more));
        }

        #[test]
        fn what_is_written_is_read(id: [u8; 8], bits: u8, good_from: u32, expires: u32, key: u8, mark: [u8; MARK_LEN]) {
            let challenge = Challenge { id, bits, good_from, expires };
            let read = Unverified::from_text(&to_text(&challenge.fields(key), &mark)).unwrap();
            prop_assert_eq!((read.key, read.mark, read.challenge), (key, mark, challenge));
        }

        #[test]
        fn any_text_is_read_without_harm(text in ".{0,60}") {
            let _ = Unverified::from_text(&text);
        }
    }
}
