//! Notes on the server: one stream for all nodes, as long as it is wanted.

use std::time::Duration;

use redis::Value;

use super::super::notes::AT_ONCE;
use super::super::{Note, Notes, NotesMark, StoreError};
use super::{Inner, Valkey};
use crate::domain::recent::Bounds;
use crate::domain::time::Unix;

/// A stream's entry: its id, and names with their values.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// How long notes that were brought are kept if nobody wants them: nodes that want some say for how long.
const BROUGHT: Duration = Duration::from_hours(7 * 24);

impl Valkey {
    /// All notes.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn all_notes(&self) -> Result<Vec<Note>, StoreError> {
        let (mut all, mut mark) = (Vec::new(), NotesMark::default());
        loop {
            let some = self.inner.read_notes(mark).await?;
            if some.notes.is_empty() {
                return Ok(all);
            }
            mark = some.mark;
            all.extend(some.notes);
        }
    }

    /// Brings notes to a server that has none; what it has stays. All or none.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn put_notes(&self, notes: &[Note]) -> Result<(), StoreError> {
        if notes.is_empty() {
            return Ok(());
        }
        let key = self.inner.notes_key();
        // On the same server of a cluster as the key in its braces.
        let brought = format!("{}:brought:{{{key}}}", self.inner.prefix);
        let link = &self.inner.notes;
        let () = link.ask(redis::cmd("DEL").arg(&brought)).await?;
        let mut last = NotesMark::default();
        for part in notes.chunks(AT_ONCE) {
            let mut pipeline = redis::pipe();
            for note in part {
                last = last.next(note.at);
                let id = format!("{}-{}", last.at, last.number);
                pipeline.cmd("XADD").arg(&brought).arg(id).arg("n").arg(note.text.as_slice()).ignore();
            }
            let () = link.ask_all(&pipeline).await?;
        }
        let longest = u64::try_from(BROUGHT.as_millis()).unwrap_or(u64::MAX);
        let () = link.ask(redis::cmd("PEXPIRE").arg(&brought).arg(longest)).await?;
        let is_first: bool = link.ask(redis::cmd("RENAMENX").arg(&brought).arg(&key)).await?;
        if is_first { Ok(()) } else { link.ask(redis::cmd("DEL").arg(&brought)).await }
    }
}

impl NotesMark {
    /// The mark of a note that came then, after the one of this mark.
    fn next(self, at: Unix) -> NotesMark {
        if at.0 > self.at {
            NotesMark { at: at.0, number: 0 }
        } else {
            NotesMark { at: self.at, number: self.number.saturating_add(1) }
        }
    }
}

impl Inner {
    fn notes_key(&self) -> String {
        format!("{}:notes", self.prefix)
    }

    /// Adds notes; the server forgets those that are too many, and all of them when none came for so long.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses; some may have been added.
    pub(super) async fn add_notes(&self, notes: &[Vec<u8>], bounds: Bounds) -> Result<(), StoreError> {
        let key = self.notes_key();
        for part in notes.chunks(AT_ONCE) {
            let mut pipeline = redis::pipe();
            for note in part {
                let add = pipeline.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(bounds.entries);
                add.arg("*").arg("n").arg(note.as_slice()).ignore();
            }
            let longest = u64::try_from(bounds.span.as_millis()).unwrap_or(u64::MAX);
            pipeline.cmd("PEXPIRE").arg(&key).arg(longest).ignore();
            let () = self.notes.ask_all(&pipeline).await?;
        }
        Ok(())
    }

    /// Reads some of the notes after the one of the mark.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) async fn read_notes(&self, mark: NotesMark) -> Result<Notes, StoreError> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(AT_ONCE).arg("STREAMS").arg(self.notes_key());
        command.arg(format!("{}-{}", mark.at, mark.number));
        let answer: Value = self.notes.ask(&command).await?;
        let mut found = Notes { notes: Vec::new(), mark };
        for (id, values) in entries(answer) {
            let Some(mark) = mark_of(&id) else { continue };
            found.mark = mark;
            let text = values.into_iter().find_map(|(name, text)| (name == "n").then_some(text));
            found.notes.extend(text.map(|text| Note { at: Unix(mark.at), text }));
        }
        Ok(found)
    }
}

/// The entries of the one stream that was asked for; there is no stream as long as nobody noted anything.
fn entries(answer: Value) -> Vec<Entry> {
    let streams: Option<Vec<(String, Vec<Entry>)>> = redis::from_redis_value(answer).ok();
    streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries).collect()
}

fn mark_of(id: &str) -> Option<NotesMark> {
    let (at, number) = id.split_once('-')?;
    Some(NotesMark { at: at.parse().ok()?, number: number.parse().ok()? })
}
