//! What the leak guard knows reaches the other nodes, and outlasts a restart: notes in the store. No request waits for
//! that. What changed is told a few times a second; what others told is heard as often, so a moment late.
//!
//! Notes are sealed with a key made from the leak guard's own: the store learns nothing from them, and nodes with
//! another key, whose hashes would mean nothing here, are not listened to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::audit::{Event, hex};
use super::hashes::Hashes;
use super::{Leaks, Whose, terms};
use crate::config;
use crate::domain::client::ClientPrefix;
use crate::domain::leak_breaker::{BlockNote, Tripped};
use crate::domain::leak_detectors::{SessionKey, SessionNote, Teller, Who};
use crate::domain::names::RoomName;
use crate::domain::time::{Now, Unix};
use crate::entropy::{self, NoEntropy};
use crate::gateway::snapshot::Snapshot;
use crate::store::{Note, NotesMark, Store};

/// Between two times, with other nodes.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two times, when only a restart could want to know.
const ALONE: Duration = Duration::from_secs(1);
/// Notes that wait for the store at most; then the oldest go. Sessions in use are told again.
const MOST_UNTOLD: usize = 16_384;

/// What is on its way to the store, and how far it was read.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Who this is, among those who leave notes.
    name: [u8; 8],
    untold: Mutex<VecDeque<Word>>,
    read: Mutex<NotesMark>,
    /// What was blocked before an operator's reset does not count.
    reset_at: Mutex<Unix>,
    has_warned: AtomicBool,
}

/// A note, as its teller signs it.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    from: [u8; 8],
    word: Word,
}

/// What a note says.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Word {
    /// What is known of a session.
    Session(SessionKey, SessionNote),
    /// An answer was blocked, in this room or in none; and when the last reset was of which the teller knew.
    Block(Option<String>, BlockNote, Unix),
    /// An operator let visitors in again.
    Reset(Unix),
}

impl Sharing {
    pub(super) fn new() -> Result<Sharing, NoEntropy> {
        Ok(Sharing {
            name: entropy::bytes()?,
            untold: Mutex::default(),
            read: Mutex::default(),
            reset_at: Mutex::default(),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Notes that an answer was blocked.
    pub(super) fn tell_block(&self, room: Option<&RoomName>, note: BlockNote) {
        let knew = *locked(&self.reset_at);
        self.tell(Word::Block(room.map(ToString::to_string), note, knew));
    }

    /// Notes that an operator let visitors in again.
    pub(super) fn tell_reset(&self, at: Unix) {
        self.note_reset(at);
        self.tell(Word::Reset(at));
    }

    fn tell(&self, word: Word) {
        let mut untold = locked(&self.untold);
        untold.push_back(word);
        keep_what_matters(&mut untold);
    }

    /// They could not be told; they go before what came since, as far as there is room.
    fn put_back(&self, words: Vec<Word>) {
        let mut untold = locked(&self.untold);
        words.into_iter().rev().for_each(|word| untold.push_front(word));
        keep_what_matters(&mut untold);
    }

    /// Notes a reset, and says whether it is the latest so far.
    fn note_reset(&self, at: Unix) -> bool {
        let mut reset_at = locked(&self.reset_at);
        let is_new = at > *reset_at;
        *reset_at = at.max(*reset_at);
        is_new
    }

    /// A block as it counts after the last reset.
    fn as_it_counts(&self, note: BlockNote, knew: Unix) -> Option<BlockNote> {
        note.after_reset(*locked(&self.reset_at), knew)
    }
}

/// When there is too much to tell, sessions go first, since those in use are told again; then the oldest.
fn keep_what_matters(untold: &mut VecDeque<Word>) {
    let mut over = untold.len().saturating_sub(MOST_UNTOLD);
    if over == 0 {
        return;
    }
    untold.retain(|word| {
        let goes = over > 0 && matches!(word, Word::Session(..));
        over -= usize::from(goes);
        !goes
    });
    untold.drain(..over.min(untold.len()));
}

impl Leaks {
    /// Takes up what was told before a start, by this node or by others.
    pub async fn recall(&self, store: &Store, settings: &config::LeakGuard) {
        if let Err(error) = self.hear_all(store, settings, Occasion::Start).await {
            tracing::warn!(%error, "what the leak guard knew before the start could not be read");
        }
    }

    /// Tells and hears. Never ends.
    pub async fn share(self: Arc<Leaks>, store: Arc<Store>, snapshot: watch::Receiver<Arc<Snapshot>>) {
        let pause = if store.node().is_some() { PAUSE } else { ALONE };
        loop {
            self.clock.sleep(pause).await;
            let config = snapshot.borrow().config.clone();
            self.tell_all(&store, &config.leak_guard).await;
            if store.node().is_some() {
                // The health of the store says it already when that fails.
                let _ = self.hear_all(&store, &config.leak_guard, Occasion::Later).await;
            }
        }
    }

    /// Tells what has not been told yet; before the program ends, too.
    pub async fn tell_all(&self, store: &Store, settings: &config::LeakGuard) {
        let mut words: Vec<Word> = locked(&self.sharing.untold).drain(..).collect();
        let sessions = self.sessions.take_untold(Leaks::bounds(settings), self.clock.now());
        words.extend(sessions.into_iter().map(|(session, note)| Word::Session(session, note)));
        let notes: Vec<Vec<u8>> = words.iter().filter_map(|word| self.sealed(word.clone())).collect();
        if !notes.is_empty() && store.add_notes(notes, Leaks::bounds(settings)).await.is_err() {
            self.sharing.put_back(words);
        }
    }

    fn sealed(&self, word: Word) -> Option<Vec<u8>> {
        let letter = postcard::to_stdvec(&Letter { from: self.sharing.name, word }).ok()?;
        self.hashes.seal(letter)
    }

    async fn hear_all(
        &self,
        store: &Store,
        settings: &config::LeakGuard,
        occasion: Occasion,
    ) -> Result<(), crate::store::StoreError> {
        let teller = if store.node().is_some() { Teller::AnotherNode } else { Teller::ThisOneBefore };
        loop {
            let mark = *locked(&self.sharing.read);
            let some = store.read_notes(mark).await?;
            if some.mark == mark {
                return Ok(());
            }
            let letters = some.notes.into_iter().filter_map(|note| self.opened(note, settings));
            // A reset may come later than what happened after it.
            let (resets, others): (Vec<Word>, Vec<Word>) = letters.partition(|word| matches!(word, Word::Reset(_)));
            for word in resets.into_iter().chain(others) {
                self.hear_word(word, settings, teller, occasion);
            }
            *locked(&self.sharing.read) = some.mark;
        }
    }

    /// What another says in a note, as long as that is worth remembering.
    fn opened(&self, note: Note, settings: &config::LeakGuard) -> Option<Word> {
        if self.clock.unix().since(note.at) > settings.remember_for {
            return None;
        }
        let letter = self.hashes.unseal(note.text).and_then(|text| postcard::from_bytes::<Letter>(&text).ok());
        if letter.is_none() {
            self.warn_of_strange_notes();
        }
        letter.filter(|letter| letter.from != self.sharing.name).map(|letter| letter.word)
    }

    fn hear_word(&self, word: Word, settings: &config::LeakGuard, teller: Teller, occasion: Occasion) {
        let now = self.clock.now();
        match word {
            Word::Session(session, note) => self.hear_session(session, &note, settings, (teller, occasion), now),
            Word::Block(room, note, knew) => self.hear_block(room.as_deref(), note, knew, settings, now),
            Word::Reset(at) => self.hear_reset(at, settings, now),
        }
    }

    fn warn_of_strange_notes(&self) {
        if !self.sharing.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the store has notes of a leak guard with another key: sessions seen there are not known here; \
                 give all nodes the same leak_guard.audit_key"
            );
        }
    }

    fn hear_session(
        &self,
        session: SessionKey,
        note: &SessionNote,
        settings: &config::LeakGuard,
        (teller, occasion): (Teller, Occasion),
        now: Now,
    ) {
        let bounds = Leaks::bounds(settings);
        let (owner, finding) = self.sessions.hear(session, bounds, now.mono, |record| {
            let owner = record.issued_to();
            (owner, record.hear(note, teller, now))
        });
        if let Some(identity) = note.identity() {
            // Whoever names the one session too many reports it.
            let _ = self.sessions.person(identity, bounds, now.mono, |record| record.within(session));
        }
        let Some(finding) = finding.filter(|_| occasion == Occasion::Later) else { return };
        let visitor = |visitor| hex(self.hashes.visitor(visitor));
        let event = Event {
            visitor: owner.map(visitor),
            session: Some(hex(session.0)),
            other_visitor: finding.other_visitor.map(visitor),
            other_identity: finding.other_identity.map(|identity| hex(identity.0)),
            ..Event::at(now.wall)
        };
        // It came too late for anything but a report, so that nobody is counted for it.
        let who = Who { visitor: owner, network: ClientPrefix::of(std::net::Ipv4Addr::UNSPECIFIED.into()) };
        let _ = self.act(&finding, settings, event, Whose { room: None, who, now });
    }

    fn hear_block(&self, room: Option<&str>, note: BlockNote, knew: Unix, settings: &config::LeakGuard, now: Now) {
        let Some(note) = self.sharing.as_it_counts(note, knew) else { return };
        let Ok(room) = room.map(RoomName::new).transpose() else { return };
        let terms = terms(&settings.breaker, Duration::ZERO);
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let tripped = breakers.of(room.as_ref()).hear(&note, &terms, now);
        drop(breakers);
        if tripped == Tripped::Now {
            super::say_that_it_tripped(room.as_ref(), settings);
        }
    }

    fn hear_reset(&self, at: Unix, settings: &config::LeakGuard, now: Now) {
        if self.sharing.note_reset(at) {
            let (at, terms) = (now.mono_of(at), terms(&settings.breaker, Duration::ZERO));
            let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
            breakers.each().for_each(|breaker| breaker.reset(at, &terms));
            drop(breakers);
            self.edge.write().unwrap_or_else(PoisonError::into_inner).forget_until(at);
        }
    }
}

impl Hashes {
    /// Seals a text, so that only who has the same key can read it, and nobody else can have written it.
    fn seal(&self, mut text: Vec<u8>) -> Option<Vec<u8>> {
        let salt: [u8; 16] = entropy::bytes().ok()?;
        self.once(&salt)?.seal_in_place_append_tag(nonce(), Aad::empty(), &mut text).ok()?;
        Some([&salt, text.as_slice()].concat())
    }

    /// The text that was sealed.
    fn unseal(&self, sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (salt, text) = sealed.split_first_chunk::<16>()?;
        let mut text = text.to_vec();
        let length = self.once(salt)?.open_in_place(nonce(), Aad::empty(), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    /// A key for one text: so the nonce need not differ.
    fn once(&self, salt: &[u8; 16]) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &self.for_note(salt)).ok()?))
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// When something is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// At a start: it may have been reported before.
    Start,
    /// While answers are given.
    Later,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_with_the_same_key_only_and_only_whole() {
        let directory = tempfile::tempdir().unwrap();
        let key = |name: &str| Hashes::load_or_create(&directory.path().join(name)).unwrap();
        let (one, same, other) = (key("a"), key("a"), key("b"));
        let sealed = one.seal(b"a session".to_vec()).unwrap();
        assert_eq!(same.unseal(sealed.clone()).as_deref(), Some(b"a session".as_slice()));
        assert_eq!(other.unseal(sealed.clone()), None);
        assert_ne!(one.seal(b"a session".to_vec()), Some(sealed.clone()));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(same.unseal(changed), None);
            assert_eq!(same.unseal(sealed[..at].to_vec()), None);
        }
    }

    #[test]
    fn what_waits_for_the_store_is_bounded_and_keeps_the_latest() {
        let sharing = Sharing::new().unwrap();
        for at in 0..20_000 {
            sharing.tell(Word::Reset(Unix(at)));
        }
        let words: Vec<Word> = locked(&sharing.untold).drain(..).collect();
        assert_eq!(words.len(), MOST_UNTOLD);
        sharing.tell(Word::Reset(Unix(20_000)));
        sharing.put_back(words);
        let untold = locked(&sharing.untold);
        assert_eq!(untold.len(), MOST_UNTOLD);
        assert!(matches!(untold.back(), Some(Word::Reset(Unix(20_000)))));
        assert!(matches!(untold.front(), Some(Word::Reset(Unix(at))) if *at == 20_000 - 16_383));
    }

    #[test]
    fn blocks_and_resets_that_could_not_be_told_outlast_sessions() {
        let session = || Word::Session(SessionKey([7; 16]), SessionNote::default());
        let is_session = |word: &&Word| matches!(word, Word::Session(..));
        let sharing = Sharing::new().unwrap();
        sharing.tell_reset(Unix(1));
        // What is told goes out before the sessions, and comes back before them.
        let mut words: Vec<Word> = locked(&sharing.untold).drain(..).collect();
        words.extend((0..MOST_UNTOLD + 5).map(|_| session()));
        sharing.put_back(words);
        (2..12).for_each(|at| sharing.tell_reset(Unix(at)));
        let untold = locked(&sharing.untold);
        assert_eq!((untold.len(), untold.iter().filter(is_session).count()), (MOST_UNTOLD, MOST_UNTOLD - 11));
    }
}
