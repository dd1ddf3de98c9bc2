//! What clients may resume: their sessions, until somebody comes back by one whose certificate is no longer good.
//!
//! A resumed session brings the client certificate of its first handshake, which rustls does not judge again. We do (see
//! `tls`); and because the client would come back by its other tickets, all sessions from before that moment are forgotten
//! with it: the next handshake is a whole one, in which each side says what is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::server::{ProducesTickets, StoresServerSessions};

/// Counts how often sessions were forgotten. What is kept of a session says in which era it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Era(Arc<AtomicU64>);

/// Bytes in which the era is written.
const LENGTH: usize = 8;

impl Era {
    /// Forgets all sessions so far.
    pub(super) fn forget(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn mark(&self, session: &[u8]) -> Vec<u8> {
        [&self.0.load(Ordering::Relaxed).to_be_bytes(), session].concat()
    }

    /// The session without its mark, if it is of this era.
    fn unmark(&self, mut marked: Vec<u8>) -> Option<Vec<u8>> {
        let (era, _) = marked.split_first_chunk::<LENGTH>()?;
        let is_of_now = u64::from_be_bytes(*era) == self.0.load(Ordering::Relaxed);
        is_of_now.then(|| {
            marked.drain(..LENGTH);
            marked
        })
    }
}

/// Tickets that are good in the era they were made in.
#[derive(Debug)]
pub(super) struct Tickets {
    pub(super) sealed: Arc<dyn ProducesTickets>,
    pub(super) era: Era,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.sealed.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.sealed.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.sealed.encrypt(&self.era.mark(plain))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.era.unmark(self.sealed.decrypt(cipher)?)
    }
}

/// Sessions kept here, of clients that take no tickets; good in the era they were kept in.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) kept: Arc<dyn StoresServerSessions>,
    pub(super) era: Era,
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.put(key, self.era.mark(&value))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.era.unmark(self.kept.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.era.unmark(self.kept.take(key)?)
    }

    fn can_cache(&self) -> bool {
        self.kept.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls::server::ServerSessionMemoryCache;

    use super::*;

    #[test]
    fn sessions_are_good_until_they_are_forgotten() {
        let era = Era::default();
        let tickets = Tickets { sealed: aws_lc_rs::Ticketer::new().unwrap(), era: era.clone() };
        let sessions = Sessions { kept: ServerSessionMemoryCache::new(8), era: era.clone() };
        let ticket = tickets.encrypt(b"session").unwrap();
        assert!(sessions.put(b"id".to_vec(), b"session".to_vec()));
        let found = || (tickets.decrypt(&ticket), sessions.get(b"id"));
        assert_eq!(found(), (Some(b"session".to_vec()), Some(b"session".to_vec())));
        era.forget();
        assert_eq!(found(), (None, None));
        assert_eq!(sessions.take(b"id"), None);
        let ticket = tickets.encrypt(b"another").unwrap();
        assert_eq!(tickets.decrypt(&ticket), Some(b"another".to_vec()));
        assert_eq!(tickets.decrypt(b"made up"), None);
    }
}
