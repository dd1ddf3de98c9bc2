//! What was answered on personal routes, by folder: for proposing what could be listed as public, and for calibrating
//! what was not seen before. The rules are `domain::public_proposals`.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::domain::leak_detectors::Who;
use crate::domain::public_proposals::{Answered, Folders, Novelty, Proposal};

/// The folders of this process.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    short: RandomState,
    folders: Mutex<Folders>,
}

impl Proposals {
    /// Notes an answer; `file` is its version, when it looks like a file that is the same for everybody.
    pub(super) fn note(&self, path: &str, who: Who, file: Option<u64>) -> Novelty {
        let mark = file.map_or(0, |_| self.short.hash_one(path));
        let visitor = file.map_or(0, |_| match who.visitor {
            Some(visitor) => self.short.hash_one(visitor),
            None => self.short.hash_one(who.network),
        });
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        folders.note(&Answered { path, mark, visitor, file })
    }

    /// What could be listed, worked out on a copy so that nobody waits for it.
    pub(super) fn all(&self) -> Vec<Proposal> {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        folders.proposals()
    }
}
