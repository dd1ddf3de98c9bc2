//! Lines that are read from the server as a whole, or brought there, while no node works with them.

use std::time::Duration;

use super::super::transfer::{Ground, TransferError, facts_besides_pages};
use super::super::{Item, Line, StoreError};
use super::orders::{FORMAT, Lift};
use super::room::{Asked, Draws, Outcome, Room};
use super::{Inner, Valkey};
use crate::domain::names::RoomName;

/// A node that works with a line says so ten times a second.
const IN_USE: Duration = Duration::from_millis(1500);

/// Facts written at once.
const AT_ONCE: usize = 2000;

impl Valkey {
    /// The line of a room, if there is one, once it is sure that no node works with it.
    ///
    /// # Errors
    /// [`TransferError::InUse`], or what is wrong with the store.
    pub async fn read_unused(&self, name: &RoomName) -> Result<Option<Line>, TransferError> {
        let room = Room::new(&self.inner.prefix, name, None);
        let before = self.inner.last_used(&room).await?;
        tokio::time::sleep(IN_USE).await;
        self.inner.is_unused_since(&room, &before).await?;
        let found = match self.inner.read_line(&room, 0, Asked::Look).await {
            Ok(found) => Some(found.line),
            Err(StoreError::NotOpen(_)) => None,
            Err(error) => return Err(error.into()),
        };
        // A node may have begun to work with it while it was read.
        self.inner.is_unused_since(&room, &before).await?;
        Ok(found)
    }

    /// What stands where the line is to be brought.
    ///
    /// # Errors
    /// [`TransferError::NotEmpty`], or what is wrong with the store.
    pub async fn ground(&self, name: &RoomName, line: &Line) -> Result<Ground, TransferError> {
        let room = Room::new(&self.inner.prefix, name, None);
        let fields = redis::cmd("HMGET").arg(room.key("line")).arg(&["format", "identity", "seq", "last"]).clone();
        let (format, identity, seq, last): (Option<String>, Option<u64>, Option<u64>, Option<u64>) =
            self.inner.link.ask(&fields).await?;
        if format.is_none_or(|format| format == "0") {
            return Ok(Ground::Free);
        }
        let is_same = identity == Some(line.identity) && seq == Some(0) && last == Some(last_durable(line));
        if is_same { Ok(Ground::Brought) } else { Err(TransferError::NotEmpty(name.clone())) }
    }

    /// Brings a line. No node can work with it before [`Valkey::finish_line`].
    ///
    /// # Errors
    /// [`TransferError::NotEmpty`], or what is wrong with the store; the line can be brought again then.
    pub async fn put_line(&self, name: &RoomName, line: &Line) -> Result<(), TransferError> {
        let room = Room::new(&self.inner.prefix, name, None);
        let mut begin = self.inner.scripts.bring.prepare_invoke();
        let outcome: String =
            self.inner.link.run(begin.key(room.base()).arg(line.identity).arg(self.inner.node.0)).await?;
        if outcome != "begun" {
            return Err(TransferError::NotEmpty(name.clone()));
        }
        room.only_writes(line.identity);
        let marks: Vec<_> = line.lanes.iter().map(|(class, lane)| (*class, lane.mark)).collect();
        self.inner.lift(&room, &marks, Lift::To).await?;
        self.inner.bring_openings(&room, line).await?;
        self.inner.write_pages(&room, line).await?;
        let items: Vec<Item> = facts_besides_pages(line).map(Item::Fact).collect();
        for part in items.chunks(AT_ONCE) {
            self.inner.write_items(&room, part).await?;
        }
        Ok(())
    }

    /// Lets nodes work with the line that was brought.
    ///
    /// # Errors
    /// When somebody else has brought one meanwhile, or what is wrong with the store.
    pub async fn finish_line(&self, name: &RoomName, line: &Line) -> Result<(), TransferError> {
        let room = Room::new(&self.inner.prefix, name, None);
        let mut finish = self.inner.scripts.finish.prepare_invoke();
        finish.key(room.base()).arg(line.identity).arg(self.inner.node.0).arg(FORMAT).arg(last_durable(line));
        let outcome: String = self.inner.link.run(&finish).await?;
        if outcome == "done" { Ok(()) } else { Err(written_by_others().into()) }
    }
}

impl Inner {
    /// When somebody worked with the line last, and how far its log reaches.
    async fn last_used(&self, room: &Room) -> Result<Vec<Option<String>>, StoreError> {
        self.link.ask(redis::cmd("HMGET").arg(room.key("line")).arg(&["last", "seq", "identity"])).await
    }

    /// Makes sure that nobody has worked with the line since, and that nobody leads.
    async fn is_unused_since(&self, room: &Room, before: &[Option<String>]) -> Result<(), TransferError> {
        let after = self.last_used(room).await?;
        let until: Option<u64> = self.link.ask(redis::cmd("HGET").arg(room.key("lease")).arg("until")).await?;
        let is_led = until.unwrap_or(0) > self.time().await?.0;
        if before == after && !is_led { Ok(()) } else { Err(TransferError::InUse(room.name().clone())) }
    }

    /// Writes facts that nobody hears of; once more when the server has to be got to know first.
    async fn write_items(&self, room: &Room, items: &[Item]) -> Result<(), StoreError> {
        for _ in 0..2 {
            match self.write_silently(room, &Draws::default(), items).await? {
                Outcome::Done(_) => return Ok(()),
                Outcome::Anew(run) => room.note_run(run, self.clock.mono()),
                _ => break,
            }
        }
        Err(written_by_others())
    }
}

/// When the line was last written, in milliseconds since 1970; 0 when nobody knows.
fn last_durable(line: &Line) -> u64 {
    line.last_durable.map_or(0, |at| at.0)
}

fn written_by_others() -> StoreError {
    StoreError::Unreachable("somebody else has written to this line meanwhile".into())
}
