//! What was seen of the portal's sessions and of the people it names: one operation on one record. What changed is
//! remembered until it is told ([`super::sharing`]).

use std::sync::{Mutex, PoisonError};

use crate::domain::leak_detectors::{IdentityKey, IdentityRecord, SessionKey, SessionNote, SessionRecord};
use crate::domain::recent::{Bounds, KeyIsHash, Recent};
use crate::domain::time::{Mono, Now};

/// Threads that seldom meet: each record lies behind one of so many locks.
const SHARDS: usize = 16;
/// Sessions that are to be told of, behind each of them; the others wait.
const MOST_UNTOLD: usize = 1024;

/// Records by keyed hash, bounded in number and age.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    sessions: Recent<SessionKey, SessionRecord, KeyIsHash>,
    people: Recent<IdentityKey, IdentityRecord, KeyIsHash>,
    untold: Vec<SessionKey>,
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
        self.with(key.0, |shard| {
            let record = shard.sessions.get(&key, share(bounds), now)?;
            let done = work(record);
            tell_of(record, key, &mut shard.untold, now);
            Some(done)
        })
    }

    /// Works on the record of a session, a fresh one if need be.
    pub(super) fn session<T>(
        &self,
        key: SessionKey,
        bounds: Bounds,
        now: Mono,
        work: impl FnOnce(&mut SessionRecord) -> T,
    ) -> T {
        self.with(key.0, |shard| {
            let record = shard.sessions.entry(key, share(bounds), now);
            let done = work(record);
            tell_of(record, key, &mut shard.untold, now);
            done
        })
    }

    /// Works on the record of a session of which was heard: nobody need be told.
    pub(super) fn hear<T>(
        &self,
        key: SessionKey,
        bounds: Bounds,
        now: Mono,
        work: impl FnOnce(&mut SessionRecord) -> T,
    ) -> T {
        self.with(key.0, |shard| work(shard.sessions.entry(key, share(bounds), now)))
    }

    /// What there is to tell of sessions.
    pub(super) fn take_untold(&self, bounds: Bounds, now: Now) -> Vec<(SessionKey, SessionNote)> {
        let mut notes = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let mut untold = std::mem::take(&mut shard.untold);
            untold.sort_unstable_by_key(|key| key.0);
            untold.dedup();
            let sessions = &mut shard.sessions;
            notes.extend(untold.into_iter().filter_map(|key| {
                let record = sessions.get(&key, share(bounds), now.mono)?;
                Some((key, record.tell(now)))
            }));
        }
        notes
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

fn tell_of(record: &mut SessionRecord, key: SessionKey, untold: &mut Vec<SessionKey>, now: Mono) {
    if untold.len() < MOST_UNTOLD && record.is_to_be_told(now) {
        untold.push(key);
    }
}

fn share(bounds: Bounds) -> Bounds {
    Bounds { entries: (bounds.entries / SHARDS).max(2), ..bounds }
}
