//! The thread that writes: four times a second it makes everything that is pending durable in one commit, at once
//! when somebody waits for it, and at least once a second so that the file tells when the process was last alive.
//!
//! After a fault the file is opened again, every second until that succeeds; what is pending stays in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::super::{Line, Operation, StoreError};
use super::disk::Disk;
use super::file::{Batch, RoomBatch, StateFile, Sweep};
use super::shared::{Marks, Order, Shared, Work};
use crate::domain::names::RoomName;
use crate::domain::time::{Mono, Now};

/// Between two looks at what is pending.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two attempts while the disk fails, and between two signs of life.
const SECOND: Duration = Duration::from_secs(1);
/// Between two looks at ended identities.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The thread that writes.
pub struct Writer {
    disk: Disk,
    /// `None` after a fault, until it is open again.
    file: Option<StateFile>,
    shared: Arc<Shared>,
    written: Mono,
    /// `None` before the first time.
    swept: Option<Mono>,
    /// Dropped last, when the file is let go of.
    _presence: watch::Sender<()>,
}

impl Writer {
    /// The writer of a file that is not open yet.
    pub fn new(disk: Disk, shared: Arc<Shared>, presence: watch::Sender<()>) -> Writer {
        Writer { disk, file: None, shared, written: Mono::default(), swept: None, _presence: presence }
    }

    /// Opens the file, says how that went, and writes until the store is closed or dropped.
    pub fn run(mut self, opened: oneshot::Sender<Result<(), StoreError>>) {
        let begun = self.now().mono;
        let outcome = StateFile::open_or_create(&self.disk).map(|file| self.file = Some(file));
        self.shared.observe(Operation::Open, begun);
        let failed = outcome.is_err();
        if opened.send(outcome).is_err() || failed {
            return;
        }
        while let Work::Orders(orders) = self.shared.wait_for_work(self.pause()) {
            if self.pass(orders) == Next::Stop {
                return;
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.file.is_some() { PAUSE } else { SECOND }
    }

    fn pass(&mut self, orders: Vec<Order>) -> Next {
        let closing = orders.iter().any(|order| matches!(order, Order::Close(_)));
        let batch = self.shared.collect(if closing { Marks::Final } else { Marks::AsWanted });
        let mut written = Ok(());
        if !orders.is_empty() || !batch.is_empty() || self.now().mono.since(self.written) >= SECOND {
            written = self.commit(batch);
        }
        for order in orders {
            self.obey(order, written.clone());
        }
        if closing { Next::Stop } else { Next::Continue }
    }

    fn commit(&mut self, batch: BTreeMap<RoomName, RoomBatch>) -> Result<(), StoreError> {
        let now = self.now();
        self.shared.commit_begins(now.mono);
        match self.write(&batch, now) {
            Ok(()) => {
                self.written = now.mono;
                self.shared.observe(Operation::Commit, now.mono);
                self.shared.committed(&batch);
                Ok(())
            }
            Err(why) => {
                self.drop_file();
                self.shared.failed(batch, &why);
                Err(why)
            }
        }
    }

    fn write(&mut self, batch: &BTreeMap<RoomName, RoomBatch>, now: Now) -> Result<(), StoreError> {
        let rested = self.swept.is_some_and(|swept| now.mono.since(swept) < SWEEP_EVERY);
        let sweep = if rested { Sweep::Nothing } else { Sweep::Expired };
        let batch = Batch { rooms: batch, now: now.unix, sweep };
        self.reopen()?.write(&batch)?;
        if sweep == Sweep::Expired {
            self.swept = Some(now.mono);
        }
        Ok(())
    }

    /// The file, opened again if a fault closed it. A file that vanished meanwhile is a fault, not a beginning.
    fn reopen(&mut self) -> Result<&StateFile, StoreError> {
        if self.file.is_none() {
            let begun = self.now().mono;
            self.file = Some(StateFile::open(&self.disk)?);
            self.shared.observe(Operation::Open, begun);
        }
        self.file.as_ref().ok_or(StoreError::Closed)
    }

    fn drop_file(&mut self) {
        if let Some(file) = self.file.take() {
            file.let_go();
        }
    }

    fn obey(&mut self, order: Order, written: Result<(), StoreError>) {
        // Whoever asked may have gone away: then nobody reads the answer.
        match order {
            Order::Flush(reply) => drop(reply.send(written)),
            Order::OpenLine { room, fresh_identity, reply } => {
                drop(reply.send(written.and_then(|()| self.open_line(&room, fresh_identity))));
            }
            Order::EndLine { room, fresh_identity, reply } => {
                drop(reply.send(written.and_then(|()| self.end_line(&room, fresh_identity))));
            }
            Order::NoteOpening { room, opening, reply } => {
                drop(reply.send(written.and_then(|()| self.on_file(|file| file.note_opening(&room, &opening)))));
            }
            Order::AddNotes { notes, bounds, reply } => {
                let now = self.now().unix;
                drop(reply.send(written.and_then(|()| self.on_file(|file| file.add_notes(&notes, bounds, now)))));
            }
            Order::ReadNotes { mark, reply } => {
                drop(reply.send(written.and_then(|()| self.on_file(|file| file.read_notes(mark)))));
            }
            Order::Close(reply) => drop(reply.send(written.and(self.close()))),
        }
    }

    fn open_line(&mut self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        let mut line = self.on_file(|file| file.open_line(room, fresh_identity))?;
        self.shared.line_opened(room, &mut line);
        Ok(line)
    }

    fn end_line(&mut self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        self.shared.line_ending(room);
        let ended = self.on_file(|file| file.end_line(room, fresh_identity));
        match &ended {
            Ok(_) => self.shared.line_ended(room),
            Err(_) => self.shared.line_goes_on(room),
        }
        ended
    }

    /// Does something with the open file, and lets go of it when that fails.
    fn on_file<T>(&mut self, work: impl FnOnce(&StateFile) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begun = self.now().mono;
        self.shared.commit_begins(begun);
        let result = self.reopen().and_then(work);
        match &result {
            Ok(_) => self.shared.committed(&BTreeMap::new()),
            Err(why) => {
                self.drop_file();
                self.shared.failed(BTreeMap::new(), why);
            }
        }
        result
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.file.take().map_or(Ok(()), StateFile::close)
    }

    fn now(&self) -> Now {
        self.shared.clock().now()
    }
}

impl Drop for Writer {
    /// Whatever ends the thread, nobody shall wait for it.
    fn drop(&mut self) {
        self.drop_file();
        self.shared.retire();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}
