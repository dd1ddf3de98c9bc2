//! A memory of bounded size and age: what was not seen for a while, or must make room, is forgotten in two steps.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::time::Duration;

use super::time::Mono;

/// Values by key in two generations. When the younger one is full, or half the time is over, the older one is forgotten
/// and the younger one takes its place: no entry is ever searched for, and none outlives its time.
#[derive(Clone, Debug)]
pub struct Recent<K, V, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    turned_at: Mono,
}

/// Takes the last eight bytes of a key for its hash: for keys that are keyed hashes themselves, so that nobody outside can
/// choose them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsItIs(u64);

/// Makes an [`AsItIs`].
pub type KeyIsHash = BuildHasherDefault<AsItIs>;

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk::<8>() {
            self.0 = u64::from_ne_bytes(*last);
        }
    }

    fn write_u64(&mut self, whole: u64) {
        self.0 = whole;
    }

    /// Of arrays, their length.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries at most.
    pub entries: usize,
    /// An entry that nobody touched is remembered for at least half of this, and not longer than this.
    pub span: Duration,
}

impl<K, V, S: Default> Default for Recent<K, V, S> {
    fn default() -> Recent<K, V, S> {
        Recent { young: HashMap::default(), old: HashMap::default(), turned_at: Mono(0) }
    }
}

impl<K: Hash + Eq + Copy, V: Default, S: BuildHasher + Default> Recent<K, V, S> {
    /// The value of a key, a fresh one if it is not remembered.
    pub fn entry(&mut self, key: K, bounds: Bounds, now: Mono) -> &mut V {
        self.turn_if_due(bounds, now);
        let remembered = self.take_old(&key);
        self.young.entry(key).or_insert_with(|| remembered.unwrap_or_default())
    }

    /// The value of a key, if it is remembered.
    pub fn get(&mut self, key: &K, bounds: Bounds, now: Mono) -> Option<&mut V> {
        self.turn_if_due(bounds, now);
        if let Some(remembered) = self.take_old(key) {
            self.young.insert(*key, remembered);
        }
        self.young.get_mut(key)
    }

    fn take_old(&mut self, key: &K) -> Option<V> {
        // Even an empty map hashes what it is asked for.
        if self.old.is_empty() { None } else { self.old.remove(key) }
    }

    /// Entries remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn turn_if_due(&mut self, bounds: Bounds, now: Mono) {
        let is_full = self.young.len() >= (bounds.entries / 2).max(1);
        let span = now.since(self.turned_at);
        if span >= bounds.span {
            self.young.clear();
        }
        if is_full || span >= bounds.span / 2 {
            self.old = std::mem::take(&mut self.young);
            self.turned_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { entries: 10, span: Duration::from_secs(10) };

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_touched_stays() {
        let mut recent: Recent<u32, u32> = Recent::default();
        *recent.entry(7, BOUNDS, at(0)) = 1;
        for second in (0..100).step_by(4) {
            assert_eq!(recent.get(&7, BOUNDS, at(second)), Some(&mut 1));
        }
    }

    #[test]
    fn what_is_not_touched_goes() {
        let mut recent: Recent<u32, u32> = Recent::default();
        *recent.entry(7, BOUNDS, at(0)) = 1;
        recent.entry(8, BOUNDS, at(6));
        assert_eq!(recent.get(&7, BOUNDS, at(12)), None);
        *recent.entry(9, BOUNDS, at(13)) = 1;
        assert_eq!(recent.get(&9, BOUNDS, at(30)), None, "after a long silence everything is forgotten");
    }

    proptest! {
        #[test]
        fn never_more_than_allowed(keys in proptest::collection::vec(0..1000u32, 0..500)) {
            let mut recent: Recent<u32, u32> = Recent::default();
            for (second, key) in keys.into_iter().enumerate() {
                recent.entry(key, BOUNDS, at(second as u64 / 100));
                prop_assert!(recent.len() <= BOUNDS.entries);
            }
        }
    }
}
