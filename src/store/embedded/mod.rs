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
mod simulated;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{Fact, Health, Line, Observer, Operation, StoreError};
use crate::clock::Clock;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::Opening;
use counter::Promise;
use disk::Disk;
use shared::{Draw, Order, Shared};
use writer::Writer;

/// How long somebody waits for a number.
const PATIENCE: Duration = Duration::from_secs(2);

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

    /// See [`super::Store::note_opening`].
    ///
    /// # Errors
    /// See there.
    pub async fn note_opening(&self, room: &RoomName, opening: &Opening) -> Result<(), StoreError> {
        self.order(|reply| Order::NoteOpening { room: room.clone(), opening: Box::new(opening.clone()), reply }).await
    }

    /// See [`super::Store::record`].
    pub fn record(&self, room: &RoomName, fact: Fact) {
        self.shared.record(room, fact);
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
