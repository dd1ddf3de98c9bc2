//! What was answered on personal routes, by folder: for proposing what could be listed as public, and for calibrating
//! what was not seen before. The rules are `domain::public_proposals`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::StatusCode;

use crate::domain::leak_detectors::Who;
use crate::domain::public_proposals::{Answered, Existence, Folders, Proposal};

/// Folders of a host with something personal in them that are recognised without a lock.
const AT_A_GLANCE: usize = 1024;

/// Whether an answer may be of a kind that was not seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    /// It may.
    New,
    /// It is not.
    Known,
}

/// The folders of this process.
#[derive(Debug)]
pub(super) struct Proposals {
    short: RandomState,
    folders: Mutex<Folders>,
    /// Folders (with their hosts and endings) of which it is known that they have something personal, and whose kind is
    /// calibrated or waits for that, in short. Nearly every answer is of one of them, and tells nothing new.
    personal: Box<[AtomicU64]>,
    /// Answers in them.
    more: AtomicU64,
}

impl Default for Proposals {
    fn default() -> Proposals {
        let personal = std::iter::repeat_with(AtomicU64::default).take(AT_A_GLANCE).collect();
        Proposals { short: RandomState::new(), folders: Mutex::default(), personal, more: AtomicU64::default() }
    }
}

impl Proposals {
    /// Notes an answer; `file` is its version, when it looks like a file that is the same for everybody.
    pub(super) fn note(&self, host: &str, path: &str, who: Who, file: Option<u64>, status: StatusCode) -> Novelty {
        let glance = if file.is_none() { self.glance(host, path) } else { None };
        if let Some((place, folder)) = glance
            && place.load(Ordering::Relaxed) == folder
        {
            self.more.fetch_add(1, Ordering::Relaxed);
            return Novelty::Known;
        }
        let mark = file.map_or(0, |_| self.short.hash_one(path));
        let visitor = file.map_or(0, |_| match who.visitor {
            Some(visitor) => self.short.hash_one(visitor),
            None => self.short.hash_one(who.network),
        });
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let exists = Existence::of(status);
        folders.note(&Answered { path, mark, visitor, file, exists });
        Novelty::New
    }

    /// Such answers tell nothing new from now on. What the portal refused proves nothing.
    pub(super) fn remember(&self, host: &str, path: &str, file: Option<u64>, status: StatusCode) {
        let proves = file.is_none() && Existence::of(status) == Existence::Exists;
        if let Some((place, folder)) = self.glance(host, path).filter(|_| proves) {
            place.store(folder, Ordering::Relaxed);
        }
    }

    /// Where it stands whether a path's folder and ending are known on a host, and as what.
    fn glance(&self, host: &str, path: &str) -> Option<(&AtomicU64, u64)> {
        let bytes = path.as_bytes();
        let folder = bytes.get(..memchr::memrchr(b'/', bytes)?)?;
        let name = bytes.get(folder.len()..)?;
        let ending = memchr::memrchr(b'.', name).and_then(|at| name.get(at..)).unwrap_or_default();
        let mut hasher = self.short.build_hasher();
        hasher.write(host.as_bytes());
        hasher.write(folder);
        hasher.write(ending);
        hasher.write_usize(host.len());
        hasher.write_usize(folder.len());
        let folder = hasher.finish();
        Some((self.personal.get(folder as usize % AT_A_GLANCE)?, folder))
    }

    /// What could be listed, worked out on a copy so that nobody waits for it.
    pub(super) fn all(&self) -> Vec<Proposal> {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        folders.proposals(self.more.load(Ordering::Relaxed))
    }
}
