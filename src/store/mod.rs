//! Where the line lives when nobody looks: what must outlast the process, and later what several processes share.
//!
//! The store decides nothing. Presence, gate and pacing live in memory and are the domain's; a node draws its numbers
//! here and reports facts, which become durable within a second. Whatever back end stands behind [`Store`] keeps the
//! properties that `contract` states.

mod embedded;
mod line;
mod news;
mod notes;
mod openings;
mod tickets;
pub mod transfer;
mod valkey;

#[cfg(test)]
mod contract;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::config;
use crate::domain::budget::WHOLE;
use crate::domain::line::Asks;
use crate::domain::mirror::{NodeId, Said};
use crate::domain::names::{ClassId, RoomName};
use crate::domain::provisional::Provisional;
use crate::domain::recent::Bounds;
use crate::domain::time::Mono;

pub use embedded::Embedded;
#[cfg(test)]
pub(crate) use embedded::simulated;
pub use line::{Doubt, Fact, Lane, Line, Order, Orders, Origin, SeatRecord, Standing, VisitorId};
pub use news::{Drawn, Entry, Item, News, Own, Part, Role};
pub use notes::{Note, Notes, NotesMark};
pub use openings::{Change, Noted};
pub use tickets::{Script, TicketPage, TicketRecord, TicketState, UnknownRecord};
pub use valkey::Valkey;

/// The store of this process.
#[derive(Debug)]
pub enum Store {
    /// A file of this machine.
    Embedded(Embedded),
    /// A Valkey or Redis server that several nodes share.
    Valkey(Valkey),
}

/// Why the store did not do what it was asked. What was recorded before is not lost by any of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room for more.
    #[error("no space left for the state ({0}); free some, what is pending is written then")]
    Full(Arc<str>),
    /// The disk does not do its work.
    #[error("the state cannot be written ({0}); mend the disk or its permissions, what is pending is written then")]
    Unreachable(Arc<str>),
    /// The file is not what was written.
    #[error(
        "{} is damaged ({detail}); put back a backup of it, or move it away to begin new lines",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer version of the program wrote the file.
    #[error(
        "{} was written by a newer version: its format is {found}, this version knows {known}; run that version",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this version knows.
        known: u64,
    },
    /// Another process has the file.
    #[error("{} is in use by another process; stop it, or give this one a store.path of its own", file.display())]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// The server refuses us, or is not one that can be used.
    #[error("store.url: {0}")]
    Refused(Arc<str>),
    /// Nobody opened the line of this room, or it is just being reset.
    #[error("the line of room {0} is not open")]
    NotOpen(RoomName),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// How the store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Facts are durable within a second.
    Good,
    /// There is no room for more. Facts are kept in memory; numbers are drawn as far as the durable mark reaches.
    Full {
        /// Since when.
        since: Mono,
        /// What the system says.
        reason: Arc<str>,
    },
    /// The disk does not do its work. Facts are kept in memory; numbers are drawn as far as the durable mark reaches.
    Unreachable {
        /// Since when.
        since: Mono,
        /// What the system says.
        reason: Arc<str>,
    },
}

/// What became of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// It is made.
    Done,
    /// Something else was kept by then, which stays.
    Other(Vec<u8>),
}

/// What the store measures of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening the file, or opening it again after a fault.
    Open,
    /// Making one batch of facts durable.
    Commit,
    /// Drawing a number that had to wait for the durable mark.
    Number,
}

/// Is told how long each operation took.
pub type Observer = Box<dyn Fn(Operation, Duration) + Send + Sync>;

impl Store {
    /// Opens the store that the configuration names.
    ///
    /// # Errors
    /// Every [`StoreError`] but `NotOpen` and `Closed`, in words for the operator; nothing was changed then.
    pub async fn open(settings: &config::Store, clock: Clock, observer: Observer) -> Result<Store, StoreError> {
        match settings {
            config::Store::Embedded { path } => Embedded::open(path, clock, observer).await.map(Store::Embedded),
            config::Store::Valkey(settings) => Valkey::open(settings, clock, observer).await.map(Store::Valkey),
        }
    }

    /// Opens the line of a room, and begins it with `fresh_identity` if the store has none. Durable on return.
    ///
    /// # Errors
    /// When the store cannot read it, or cannot write a new one.
    pub async fn open_line(&self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.open_line(room, fresh_identity).await,
            Store::Valkey(valkey) => valkey.open_line(room, fresh_identity).await,
        }
    }

    /// Draws the next number of a lane, from 1. Those who must wait for the durable mark are served in the order in
    /// which they came.
    ///
    /// # Errors
    /// `Full` or `Unreachable` when the mark is reached and cannot be extended (within two seconds), `NotOpen`, or
    /// `Closed`.
    pub async fn take_number(&self, room: &RoomName, class: ClassId, drawn: Drawn) -> Result<u64, StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.take_number(room, class).await,
            Store::Valkey(valkey) => valkey.take_number(room, class, drawn).await,
        }
    }

    /// Issues a ticket without a number to somebody who came at that time while the store that several nodes share was away.
    /// `None` when there are too many, or the store is of this machine alone.
    pub fn issue(&self, room: &RoomName, lane: (ClassId, Asks), lifetime: Duration, came: Mono) -> Option<Provisional> {
        match self {
            Store::Embedded(_) => None,
            Store::Valkey(valkey) => valkey.issue(room, lane, lifetime, came),
        }
    }

    /// The number of a ticket that was issued without one, at whichever node: the same one each time.
    ///
    /// # Errors
    /// When it is not known yet, or the store is of this machine alone.
    pub async fn give_number(
        &self,
        room: &RoomName,
        ticket: Provisional,
        id: crate::domain::token::VisitorId,
        lifetime: Duration,
    ) -> Result<u64, StoreError> {
        match self {
            Store::Embedded(_) => Err(StoreError::NotOpen(room.clone())),
            Store::Valkey(valkey) => valkey.give_number(room, ticket, id, lifetime).await,
        }
    }

    /// Lifts the counter of a lane to at least `number`. Durable on return; the next number drawn is higher in any
    /// case.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn lift(&self, room: &RoomName, class: ClassId, number: u64) -> Result<(), StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.lift(room, class, number).await,
            Store::Valkey(valkey) => valkey.lift(room, class, number).await,
        }
    }

    /// Changes what is written down of an opening of a room's line, and makes everything durable that was recorded before.
    /// Durable on return. Where several nodes share the line, all hear of it in one place among the numbers drawn.
    ///
    /// # Errors
    /// When it could not be made durable, or another node leads and is to hold the opening.
    pub async fn change_opening(&self, room: &RoomName, change: Change<'_>) -> Result<Noted, StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.change_opening(room, change).await,
            Store::Valkey(valkey) => valkey.change_opening(room, change).await,
        }
    }

    /// What the counters of a room's lanes stand at: no higher number was drawn, and what is drawn from now on is higher.
    /// `None` where several nodes share the counters.
    ///
    /// # Errors
    /// `NotOpen` or `Closed`.
    pub fn counters(&self, room: &RoomName) -> Result<Option<Vec<(ClassId, u64)>>, StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.counters(room).map(Some),
            Store::Valkey(_) => Ok(None),
        }
    }

    /// Records a fact. Durable within a second while the store is in good health, and once it is again. Never waits.
    /// Facts of a room whose line is not open are dropped, and so is what is recorded once the store is being closed.
    pub fn record(&self, room: &RoomName, fact: Fact) {
        match self {
            Store::Embedded(embedded) => embedded.record(room, fact),
            Store::Valkey(valkey) => valkey.record(room, fact),
        }
    }

    /// Makes everything durable that was recorded before.
    ///
    /// # Errors
    /// When that did not succeed; it is tried again all the same.
    pub async fn flush(&self) -> Result<(), StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.flush().await,
            Store::Valkey(valkey) => valkey.flush().await,
        }
    }

    /// Makes everything durable that was recorded of a room before; waits two seconds at most for a store that several
    /// nodes share.
    ///
    /// # Errors
    /// When that did not succeed; it is tried again all the same.
    pub async fn flush_room(&self, room: &RoomName) -> Result<(), StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.flush().await,
            Store::Valkey(valkey) => valkey.flush_room(room).await,
        }
    }

    /// Ends the line of a room for good and begins a new one: the operator's reset. Everything known of the old line
    /// is gone, also what is recorded while this runs. Durable on return.
    ///
    /// # Errors
    /// When that did not succeed; the old line goes on then.
    pub async fn end_line(&self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.end_line(room, fresh_identity).await,
            Store::Valkey(valkey) => valkey.end_line(room, fresh_identity).await,
        }
    }

    /// Makes everything durable, lets the counters continue without a gap, and lets go of the file. No number is
    /// drawn afterwards.
    ///
    /// # Errors
    /// When not everything could be made durable.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.close().await,
            Store::Valkey(valkey) => valkey.close().await,
        }
    }

    /// Replaces what all nodes keep of something in a room, unless another node has done so since: in one step with the
    /// comparison. Nothing kept is no bytes; what nobody replaces for `keep` is forgotten. Done at once where there is only
    /// one node, which keeps such things itself.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses; it may have been done all the same.
    pub async fn exchange(
        &self,
        room: &RoomName,
        what: &str,
        exchange: (&[u8], &[u8]),
        keep: Duration,
    ) -> Result<Exchanged, StoreError> {
        match self {
            Store::Embedded(_) => Ok(Exchanged::Done),
            Store::Valkey(valkey) => valkey.exchange(room, what, exchange, keep).await,
        }
    }

    /// How the store is doing, now and whenever it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        match self {
            Store::Embedded(embedded) => embedded.health(),
            Store::Valkey(valkey) => valkey.health(),
        }
    }

    /// Whether several nodes share the line; who they are by themselves.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Store::Embedded(_) => None,
            Store::Valkey(valkey) => Some(valkey.node()),
        }
    }

    /// Whether this node decides who is called and let in. A node of its own always does.
    pub fn role(&self, room: &RoomName, now: Mono) -> Role {
        match self {
            Store::Embedded(_) => Role::Leads,
            Store::Valkey(valkey) => valkey.role(room, now),
        }
    }

    /// What this node may use of the rate just now.
    pub fn part(&self, room: &RoomName, now: Mono) -> Part {
        match self {
            Store::Embedded(_) => Part::WithTheStore { permille: WHOLE },
            Store::Valkey(valkey) => valkey.part(room, now),
        }
    }

    /// Whether the server that several nodes share has done its work for this room lately. Always where there is none.
    pub fn is_there(&self, room: &RoomName, now: Mono) -> bool {
        match self {
            Store::Embedded(_) => true,
            Store::Valkey(valkey) => valkey.is_there(room, now),
        }
    }

    /// Whether what is told now reaches the other nodes promptly.
    pub fn answers_promptly(&self, room: &RoomName, now: Mono) -> bool {
        match self {
            Store::Embedded(_) => true,
            Store::Valkey(valkey) => valkey.answers_promptly(room, now),
        }
    }

    /// What the clock shows that all nodes agree on, in milliseconds since 1970; 0 where there is only one.
    pub fn millis(&self, room: &RoomName, now: Mono) -> u64 {
        match self {
            Store::Embedded(_) => 0,
            Store::Valkey(valkey) => valkey.millis(room, now),
        }
    }

    /// From when to when that may be: the store's clock was read some time before its answer was heard.
    pub fn possible_millis(&self, room: &RoomName, now: Mono) -> RangeInclusive<u64> {
        match self {
            Store::Embedded(_) => 0..=0,
            Store::Valkey(valkey) => valkey.possible_millis(room, now),
        }
    }

    /// Tells the other nodes, if there are any. Never waits, is not durable.
    pub fn tell(&self, room: &RoomName, said: Said) {
        match self {
            Store::Embedded(_) => {}
            Store::Valkey(valkey) => valkey.tell(room, said),
        }
    }

    /// Sends what was said as soon as the pace allows, not only with the next tick.
    pub fn hurry(&self, room: &RoomName) {
        match self {
            Store::Embedded(_) => {}
            Store::Valkey(valkey) => valkey.hurry(room),
        }
    }

    /// What the nodes say of the line, from where [`Store::open_line`] found it, in the one order that all hear.
    /// `None` where nobody else can say anything, and when somebody has it already.
    pub fn news(&self, room: &RoomName) -> Option<mpsc::UnboundedReceiver<News>> {
        match self {
            Store::Embedded(_) => None,
            Store::Valkey(valkey) => valkey.news(room),
        }
    }

    /// Keeps notes: the latest, so many of them at most, and for so long at least as they are wanted. Durable on return,
    /// as far as the server is where several nodes share it.
    ///
    /// # Errors
    /// When they could not be kept; some of them may have been, all the same.
    pub async fn add_notes(&self, notes: Vec<Vec<u8>>, bounds: Bounds) -> Result<(), StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.add_notes(notes, bounds).await,
            Store::Valkey(valkey) => valkey.add_notes(&notes, bounds).await,
        }
    }

    /// Notes that came after `mark`, this node's own among them: some, or none when there are no more.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read_notes(&self, mark: NotesMark) -> Result<Notes, StoreError> {
        match self {
            Store::Embedded(embedded) => embedded.read_notes(mark).await,
            Store::Valkey(valkey) => valkey.read_notes(mark).await,
        }
    }

    /// Tells a store that may have lost the line what is known of it.
    ///
    /// # Errors
    /// When it does not take it; it is to be told again then.
    pub async fn tell_again(&self, room: &RoomName, line: &Line) -> Result<(), StoreError> {
        match self {
            Store::Embedded(_) => Ok(()),
            Store::Valkey(valkey) => valkey.tell_again(room, line).await,
        }
    }
}
