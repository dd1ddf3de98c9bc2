//! The store of a single machine: one file, one thread that writes it, and everything else in memory.
//!
//! Whoever asks never waits for the disk, except for what has to be durable before the answer: a line's beginning and
//! end, and a number beyond the mark. Dropping the store without [`Embedded::close`] is like a kill: at most the last
//! quarter of a second of facts is lost, no number is drawn twice.

mod counter;
mod disk;
mod file;
mod pending;
mod shared;
mod writer;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::transfer::TransferError;
use super::{Change, Fact, Health, Line, Note, Noted, Notes, NotesMark, Observer, Operation, StoreError};
use crate::clock::Clock;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::Opening;
use crate::domain::recent::Bounds;
use crate::domain::time::Unix;
use counter::Promise;
use disk::Disk;
use file::StateFile;
use shared::{Draw, Order, Shared};
use writer::Writer;

/// How long somebody waits for a number.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is carried to another store.
type LinesAndNotes = (Vec<(RoomName, Line)>, Vec<Note>);

/// A file of this machine.
pub struct Embedded {
    shared: Arc<Shared>,
    /// Falls silent when the writer has let go of the file.
    writer: watch::Receiver<()>,
}

impl Embedded {
    /// Opens the state in `directory`, or begins one there (directory 0700, file 0600).
    ///
    /// # Errors
    /// Every [`StoreError`] but `NotOpen` and `Closed`, in words for the operator.
    pub async fn open(directory: &Path, clock: Clock, observer: Observer) -> Result<Embedded, StoreError> {
        Embedded::on(Disk::Directory(directory.to_owned()), clock, observer).await
    }

    /// Reads the lines of these rooms, as far as the state in `directory` has them, and all notes, while no process works
    /// with it.
    ///
    /// # Errors
    /// As [`Embedded::open`], and when there is no state.
    pub fn read_lines(directory: &Path, rooms: &[RoomName]) -> Result<LinesAndNotes, StoreError> {
        let file = StateFile::open(&Disk::Directory(directory.to_owned()))?;
        let found = rooms.iter().map(|room| Ok(file.find_line(room)?.map(|line| (room.clone(), line))));
        let found: Result<Vec<_>, StoreError> = found.filter_map(Result::transpose).collect();
        let notes = file.all_notes();
        file.close()?;
        Ok((found?, notes?))
    }

    /// Writes lines into the state in `directory`, or into a new one, while no process works with it: all or none. The notes
    /// go with them where there are none.
    ///
    /// # Errors
    /// As [`Embedded::open`], or [`TransferError::NotEmpty`].
    pub fn write_lines(
        directory: &Path,
        lines: &[(RoomName, Line)],
        notes: &[Note],
        now: Unix,
    ) -> Result<(), TransferError> {
        let file = StateFile::open_or_create(&Disk::Directory(directory.to_owned()))?;
        let known = lines.iter().find_map(|(room, _)| match file.find_line(room) {
            Ok(None) => None,
            Ok(Some(_)) => Some(TransferError::NotEmpty(room.clone())),
            Err(error) => Some(error.into()),
        });
        let written = match known {
            Some(known) => Err(known),
            None => file.put_lines(lines, notes, now).map_err(TransferError::from),
        };
        let closed = file.close();
        written.and(closed.map_err(TransferError::from))
    }

    async fn on(disk: Disk, clock: Clock, observer: Observer) -> Result<Embedded, StoreError> {
        let shared = Arc::new(Shared::new(clock, observer));
        let (presence, writer) = watch::channel(());
        let (opened, outcome) = oneshot::channel();
        let thread = Writer::new(disk, Arc::clone(&shared), presence);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || thread.run(opened))
            .map_err(|error| StoreError::Unreachable(error.to_string().into()))?;
        outcome.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(Embedded { shared, writer })
    }

    /// See [`super::Store::open_line`].
    ///
    /// # Errors
    /// See there.
    pub async fn open_line(&self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        self.order(|reply| Order::OpenLine { room: room.clone(), fresh_identity, reply }).await
    }

    /// See [`super::Store::end_line`].
    ///
    /// # Errors
    /// See there.
    pub async fn end_line(&self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        self.order(|reply| Order::EndLine { room: room.clone(), fresh_identity, reply }).await
    }

    /// See [`super::Store::take_number`].
    ///
    /// # Errors
    /// See there.
    pub async fn take_number(&self, room: &RoomName, class: ClassId) -> Result<u64, StoreError> {
        match self.shared.draw(room, class)? {
            Draw::Number(number) => Ok(number),
            Draw::Promise(promise) => self.patiently(promise).await,
        }
    }

    async fn patiently(&self, promise: Promise) -> Result<u64, StoreError> {
        let clock = self.shared.clock();
        let asked = clock.now().mono;
        let number = tokio::select! {
            biased;
            number = promise => number.unwrap_or(Err(StoreError::Closed)),
            () = clock.sleep(PATIENCE) => Err(StoreError::Unreachable("the disk has not answered in time".into())),
        };
        self.shared.observe(Operation::Number, asked);
        number
    }

    /// See [`super::Store::lift`].
    ///
    /// # Errors
    /// See there.
    pub async fn lift(&self, room: &RoomName, class: ClassId, number: u64) -> Result<(), StoreError> {
        self.shared.lift(room, class, number)?;
        self.flush().await
    }

    /// See [`super::Store::counters`].
    ///
    /// # Errors
    /// See there.
    pub fn counters(&self, room: &RoomName) -> Result<Vec<(ClassId, u64)>, StoreError> {
        self.shared.counters(room)
    }

    /// See [`super::Store::change_opening`].
    ///
    /// # Errors
    /// See there.
    pub async fn change_opening(&self, room: &RoomName, change: Change<'_>) -> Result<Noted, StoreError> {
        let opening = match change {
            Change::Announce { opening, .. } => Opening { after: self.counters(room)?, ..opening.clone() },
            Change::Set { opening, .. } | Change::Withdraw { opening, .. } => opening.clone(),
            Change::Hold { opening, at } => {
                Opening { held: Some(opening.held_at(at, &self.counters(room)?)), ..opening.clone() }
            }
        };
        let written = Box::new(opening.clone());
        self.order(|reply| Order::NoteOpening { room: room.clone(), opening: written, reply }).await?;
        Ok(Noted::Done(opening))
    }

    /// See [`super::Store::record`].
    pub fn record(&self, room: &RoomName, fact: Fact) {
        self.shared.record(room, fact);
    }

    /// See [`super::Store::add_notes`].
    ///
    /// # Errors
    /// See there.
    pub async fn add_notes(&self, notes: Vec<Vec<u8>>, bounds: Bounds) -> Result<(), StoreError> {
        self.order(|reply| Order::AddNotes { notes, bounds, reply }).await
    }

    /// See [`super::Store::read_notes`].
    ///
    /// # Errors
    /// See there.
    pub async fn read_notes(&self, mark: NotesMark) -> Result<Notes, StoreError> {
        self.order(|reply| Order::ReadNotes { mark, reply }).await
    }

    /// See [`super::Store::flush`].
    ///
    /// # Errors
    /// See there.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.order(Order::Flush).await
    }

    /// See [`super::Store::close`].
    ///
    /// # Errors
    /// See there.
    pub async fn close(&self) -> Result<(), StoreError> {
        let closed = self.order(Order::Close).await;
        self.writer_gone().await;
        closed
    }

    /// See [`super::Store::health`].
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health()
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Order,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared.order(order(reply))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn writer_gone(&self) {
        let mut writer = self.writer.clone();
        while writer.changed().await.is_ok() {}
    }

    /// Stops as a kill would: nothing more is written.
    #[cfg(test)]
    pub async fn abandon(&self) {
        self.shared.abandon();
        self.writer_gone().await;
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}
