//! The work that is asked of joins beyond the limits: an ending that makes SHA-256 of the challenge's text and the ending
//! begin with so many zero bits. It is found as the page finds it, by trying one ending after the other.
//!
//! The hashing is really done, on a thread of its own so that other visitors are not late for it. How long it takes a
//! visitor is reckoned from the hashes a second of their device, which may be an old phone, or one machine for a crowd.

use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::clock::{Clock, Moment};

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Work beyond this would take minutes: sixty times what is asked at most.
const MOST_BITS: u32 = 24;

/// What a join was answered with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Challenge {
    /// The text that is signed.
    pub text: String,
    /// Zero bits with which the hash has to begin.
    pub bits: u32,
}

/// Work that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The ending that was found.
    pub ending: String,
    /// How many were tried.
    pub hashes: u64,
}

/// What a crowd does when work is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Each works on a device of their own that tries so many endings a second.
    Each(u32),
    /// One machine works for all of them, one challenge after the other, and tries so many a second.
    Together(u32),
    /// They wait until they may join without.
    Wait,
    /// They neither work nor wait: they ask for another challenge every so often.
    Insist,
}

impl Default for Work {
    /// A phone of some years ago.
    fn default() -> Work {
        Work::Each(250_000)
    }
}

/// Tries one ending after the other; `None` when it would take too long.
pub fn done(challenge: &Challenge) -> Option<Done> {
    let begun = Sha256::new().chain_update(&challenge.text);
    let met = |ending: &String| zero_bits(begun.clone().chain_update(ending)) >= challenge.bits;
    let tried = (0..u64::MAX).map(|count| (count + 1, ending(count)));
    let (hashes, ending) =
        (challenge.bits <= MOST_BITS).then(|| tried.into_iter().find(|(_, ending)| met(ending)))??;
    Some(Done { ending, hashes })
}

fn zero_bits(hash: Sha256) -> u32 {
    hash.finalize().first_chunk().map_or(0, |first| u64::from_be_bytes(*first).leading_zeros())
}

/// The number in base 36.
fn ending(mut count: u64) -> String {
    let mut digits = Vec::with_capacity(7);
    loop {
        digits.extend(DIGITS.get((count % 36) as usize));
        count /= 36;
        if count == 0 {
            break;
        }
    }
    digits.reverse();
    String::from_utf8(digits).unwrap_or_default()
}

/// Where a crowd's work is done.
#[derive(Debug)]
pub struct Workshop {
    hashes_per_second: u32,
    /// Held while the crowd's one machine works.
    machine: Option<Semaphore>,
    /// Our own thread for hashing, which all workshops share.
    bench: Rc<Semaphore>,
}

impl Workshop {
    /// The workshop of a crowd; `None` when it does no such work.
    pub fn of(work: Work, bench: &Rc<Semaphore>) -> Option<Workshop> {
        let (hashes_per_second, machine) = match work {
            Work::Each(hashes) => (hashes, None),
            Work::Together(hashes) => (hashes, Some(Semaphore::new(1))),
            Work::Wait | Work::Insist => return None,
        };
        Some(Workshop { hashes_per_second, machine, bench: Rc::clone(bench) })
    }

    /// Meets a challenge. Takes as long as the device takes, or longer if we are slower than it.
    pub async fn meet(&self, challenge: Challenge, clock: &Clock) -> Option<Done> {
        let _turn = match &self.machine {
            Some(machine) => Some(machine.acquire().await.ok()?),
            None => None,
        };
        let begun = clock.now();
        let found = self.hash(challenge).await?;
        clock.sleep_until(self.ready(&found, begun)).await;
        Some(found)
    }

    async fn hash(&self, challenge: Challenge) -> Option<Done> {
        let _bench = self.bench.acquire().await.ok()?;
        tokio::task::spawn_blocking(move || done(&challenge)).await.ok()?
    }

    fn ready(&self, found: &Done, begun: Moment) -> Moment {
        let seconds = found.hashes as f64 / f64::from(self.hashes_per_second.max(1));
        begun + Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, bits: u32) -> Challenge {
        Challenge { text: text.repeat(48), bits }
    }

    #[test]
    fn endings_are_counted_up_in_base_36() {
        assert_eq!([0, 9, 10, 35, 36, 36 * 36].map(ending), ["0", "9", "a", "z", "10", "100"]);
    }

    #[test]
    fn the_first_ending_that_is_enough_is_found() {
        let found = done(&asked("x", 12)).unwrap();
        assert_eq!(found.ending, ending(found.hashes - 1));
        let hash = Sha256::digest("x".repeat(48) + &found.ending);
        assert!(hash[0] == 0 && hash[1] < 16, "{hash:?}");
        let bits = |count| zero_bits(Sha256::new().chain_update("x".repeat(48)).chain_update(ending(count)));
        assert!((0..found.hashes - 1).all(|count| bits(count) < 12), "{found:?}");
    }

    #[test]
    fn what_nobody_could_do_is_not_begun() {
        assert_eq!(done(&asked("x", MOST_BITS + 1)), None);
    }

    #[tokio::test]
    async fn one_machine_takes_its_time_for_one_after_the_other() {
        let clock = Clock::new();
        let bench = Rc::new(Semaphore::new(1));
        let (x, y) = (done(&asked("x", 8)).unwrap().hashes, done(&asked("y", 8)).unwrap().hashes);
        let speed = 5_000;
        let seconds = (x + y) as f64 / f64::from(speed);
        let shop = Workshop::of(Work::Together(speed), &bench).unwrap();
        let (first, second) = tokio::join!(shop.meet(asked("x", 8), &clock), shop.meet(asked("y", 8), &clock));
        assert!(first.is_some() && second.is_some() && clock.now().seconds() >= seconds);
        assert!(Workshop::of(Work::Wait, &bench).is_none() && Workshop::of(Work::Insist, &bench).is_none());
    }
}
