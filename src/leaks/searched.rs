//! Which public text was searched and found to name nobody: what a 304 or the answer to a `HEAD` speaks of.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::recent::{Bounds, Recent};
use crate::domain::time::Mono;

/// Addresses remembered, and how long.
const BOUNDS: Bounds = Bounds { entries: 10_000, span: Duration::from_secs(24 * 3600) };

/// The addresses of this process, each as a hash that nobody outside can make.
#[derive(Debug, Default)]
pub(super) struct Searched {
    short: RandomState,
    found: Mutex<Recent<u64, Found>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Found {
    #[default]
    Nothing,
    Clean,
}

impl Searched {
    /// The text at an address names nobody.
    pub(super) fn note_clean(&self, host: &str, target: &str, now: Mono) {
        self.set(host, target, Found::Clean, now);
    }

    /// The text at an address is not to be shared.
    pub(super) fn forget(&self, host: &str, target: &str, now: Mono) {
        self.set(host, target, Found::Nothing, now);
    }

    /// Whether the text at an address named nobody when it was searched last.
    pub(super) fn is_clean(&self, host: &str, target: &str, now: Mono) -> bool {
        let key = self.short.hash_one((host, target));
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&key, BOUNDS, now) == Some(&mut Found::Clean)
    }

    fn set(&self, host: &str, target: &str, what: Found, now: Mono) {
        let key = self.short.hash_one((host, target));
        *self.found.lock().unwrap_or_else(PoisonError::into_inner).entry(key, BOUNDS, now) = what;
    }
}
