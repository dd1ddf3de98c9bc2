//! What was seen of the portal's sessions and of the people it names, in this process. Small on purpose: one operation
//! on one record, so that records can live in a shared store as well.

use std::sync::{Mutex, PoisonError};

use crate::domain::leak_detectors::{IdentityKey, IdentityRecord, SessionKey, SessionRecord};
use crate::domain::recent::{Bounds, KeyIsHash, Recent};
use crate::domain::time::Mono;

/// Threads that seldom meet: each record lies behind one of so many locks.
const SHARDS: usize = 16;

/// Records by keyed hash, bounded in number and age.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    sessions: Recent<SessionKey, SessionRecord, KeyIsHash>,
    people: Recent<IdentityKey, IdentityRecord, KeyIsHash>,
}

impl Sessions {
    /// Works on the record of a session that has been seen before. Sessions that anybody can make up leave no record.
    pub(super) fn known<T>(
        &self,
        key: SessionKey,
        bounds: Bounds,
        now: Mono,
        work: impl FnOnce(&mut SessionRecord) -> T,
    ) -> Option<T> {
        self.with(key.0, |shard| shard.sessions.get(&key, share(bounds), now).map(work))
    }

    /// Works on the record of a session, a fresh one if need be.
    pub(super) fn session<T>(
        &self,
        key: SessionKey,
        bounds: Bounds,
        now: Mono,
        work: impl FnOnce(&mut SessionRecord) -> T,
    ) -> T {
        self.with(key.0, |shard| work(shard.sessions.entry(key, share(bounds), now)))
    }

    /// Works on the record of a person, a fresh one if need be.
    pub(super) fn person<T>(
        &self,
        key: IdentityKey,
        bounds: Bounds,
        now: Mono,
        work: impl FnOnce(&mut IdentityRecord) -> T,
    ) -> T {
        self.with(key.0, |shard| work(shard.people.entry(key, share(bounds), now)))
    }

    fn with<T>(&self, hash: [u8; 16], work: impl FnOnce(&mut Shard) -> T) -> T {
        let [first, ..] = hash;
        // There are as many shards as the remainder has values.
        let shard = &self.shards[usize::from(first) % SHARDS];
        work(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn share(bounds: Bounds) -> Bounds {
    Bounds { entries: (bounds.entries / SHARDS).max(2), ..bounds }
}
