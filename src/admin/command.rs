//! What an operator may ask of the running program, and what the program answers.

use serde::Serialize;
use tokio::sync::oneshot;

use crate::config::RoomState;
use crate::domain::names::RoomName;
use crate::room::ByHand;

/// A wish of an operator, on its way to the control plane. Whoever takes it answers through the sender inside; one
/// that is dropped unanswered is reported to the operator as "shutting down".
#[derive(Debug)]
pub enum Command {
    /// Read the configuration file again.
    Reload(oneshot::Sender<ReloadAnswer>),
    /// Freeze a room, or thaw it, until the program ends.
    ByHand {
        /// The room.
        room: RoomName,
        /// What is wanted.
        wish: ByHand,
        /// Where the answer goes.
        answer: oneshot::Sender<RoomStateAnswer>,
    },
    /// Put a room into another state until the next reload or restart.
    SetRoomState {
        /// The room.
        room: RoomName,
        /// The state wanted.
        state: RoomState,
        /// Where the answer goes.
        answer: oneshot::Sender<RoomStateAnswer>,
    },
}

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadAnswer {
    /// The new configuration is in force.
    Applied,
    /// The file says what is in force already.
    Unchanged,
    /// The file has faults; nothing changed.
    Refused(Vec<ReloadFault>),
    /// These keys need a restart; nothing changed.
    NeedsRestart(Vec<String>),
}

/// One fault of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadFault {
    /// The key that is at fault, such as `portal.url`; empty when the whole file is meant.
    pub key: String,
    /// Its line in the file, counted from 1, when known.
    pub line: Option<usize>,
    /// What is wrong.
    pub wrong: String,
    /// What to do about it.
    pub remedy: String,
}

/// How a change of a room's state ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomStateAnswer {
    /// The room is in the state wanted.
    Applied,
    /// There is no such room.
    UnknownRoom,
    /// Another node leads the room's line, and what is said of it here changes nothing.
    Follows,
}
