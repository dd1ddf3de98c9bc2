//! What lasts of a line: the facts a node reports, and the line as a restart finds it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tickets::{TicketPage, TicketRecord, TicketState};
use crate::domain::names::ClassId;
use crate::domain::opening::Opening;
pub use crate::domain::orders::{Order, Orders};
use crate::domain::time::Unix;

/// What a pass carries as its identity: 16 random bytes.
pub type VisitorId = [u8; 16];

/// Something that happened and shall be known after a restart. Facts about the same thing replace one another: the
/// latest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A ticket is now in this state.
    Ticket {
        /// Its lane.
        class: ClassId,
        /// Its number, from 1.
        number: u64,
        /// What to remember of it.
        record: TicketRecord,
    },
    /// Every ticket of the lane up to and including `through` is done with and need not be remembered singly.
    Forget {
        /// The lane.
        class: ClassId,
        /// The highest number that is done with.
        through: u64,
    },
    /// A seat is taken, or something about it has changed.
    Seat {
        /// The identity of the pass that holds it.
        id: VisitorId,
        /// Everything about it.
        seat: SeatRecord,
    },
    /// A seat is free again.
    SeatGone {
        /// The identity of the pass that held it.
        id: VisitorId,
        /// Remember the identity as ended before this second since 1970; `None`: forget it.
        ended_until: Option<u32>,
    },
    /// The time for which the session clocks of the room have stood still so far, in all.
    Frozen(Duration),
    /// What an operator said to all nodes that share the line. A store of one machine alone does not keep it.
    Ordered(Order),
}

impl Fact {
    /// Whether only the node that leads may say this.
    pub fn is_decision(&self) -> bool {
        match self {
            Fact::Ticket { record, .. } => matches!(record.state, TicketState::Called | TicketState::Absent),
            Fact::Forget { .. } | Fact::Frozen(_) => true,
            Fact::Seat { .. } | Fact::SeatGone { .. } | Fact::Ordered(_) => false,
        }
    }
}

/// A seat at the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatRecord {
    /// The number of the ticket that entered.
    pub number: u64,
    /// The lane it came from.
    pub class: ClassId,
    /// The generation of the pass that was issued last.
    pub generation: u64,
    /// When the visitor was last active, in seconds since 1970.
    pub last_seen: u32,
    /// When the visitor entered, in seconds since 1970.
    pub entered: u32,
    /// Whether the pass was ever seen again.
    pub standing: Standing,
}

/// How firmly a seat is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// The visitor has not shown the pass yet: it may be a client that keeps no cookies.
    Provisional,
    /// The pass came back.
    Confirmed,
    /// The pass came back, and its visitor has put the limit of the visit off. Not part of the record itself, so that
    /// records of earlier versions can be read, and theirs read ours as long as nobody has done so.
    Extended {
        /// How often; from 1.
        times: u32,
    },
}

impl Standing {
    /// The standing of a seat whose pass came back or not, and whose limit was put off so often.
    pub fn of(came_back: bool, extended: u32) -> Standing {
        match (came_back, extended) {
            (false, _) => Standing::Provisional,
            (true, 0) => Standing::Confirmed,
            (true, times) => Standing::Extended { times },
        }
    }

    /// Whether the pass came back.
    pub fn is_firm(self) -> bool {
        self != Standing::Provisional
    }

    /// How often the limit was put off.
    pub fn extended(self) -> u32 {
        if let Standing::Extended { times } = self { times } else { 0 }
    }
}

/// A line as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The random identity that the line's tickets carry.
    pub identity: u64,
    /// Whether the store knew the line before it was opened now.
    pub origin: Origin,
    /// One entry per class that ever drew a number, by class.
    pub lanes: Vec<(ClassId, Lane)>,
    /// Seats that were taken.
    pub seats: Vec<(VisitorId, SeatRecord)>,
    /// Identities that ended, each with the second since 1970 until which that is remembered.
    pub ended: Vec<(VisitorId, u32)>,
    /// The time for which the session clocks have stood still so far, in all.
    pub frozen: Duration,
    /// When the store last made facts durable before this process opened it (at least once a second while a process
    /// runs); `None` for a new store.
    pub last_durable: Option<Unix>,
    /// Its openings, the first one first.
    pub openings: Vec<Opening>,
    /// What operators said to all nodes.
    pub orders: Orders,
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The store had none for the room.
    New,
    /// It goes on.
    Known,
}

/// A lane as the store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The counter continues after this number. No number up to it will be drawn again, not all of them were drawn.
    pub mark: u64,
    /// The highest number of which a [`Fact::Ticket`] is durable.
    pub issued: u64,
    /// Every ticket up to this number is done with ([`Fact::Forget`]).
    pub forgotten: u64,
    /// Whether tickets may have been drawn of which nothing is known.
    pub doubt: Doubt,
    /// The remembered tickets: page number and page, in order.
    pub pages: Vec<(u64, TicketPage)>,
}

/// Whether numbers up to the mark may have been drawn without being remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// They may: numbers are drawn before they are durable.
    #[default]
    NearTheMark,
    /// They were not: whatever was drawn is remembered.
    None,
}

impl Lane {
    /// Every remembered ticket, in order. Tickets up to [`Lane::forgotten`] may or may not be among them.
    pub fn tickets(&self) -> impl Iterator<Item = (u64, TicketRecord)> {
        self.pages.iter().flat_map(|(number, page)| page.records(*number))
    }
}
