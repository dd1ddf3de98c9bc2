//! What an operator may ask of the running program, and what the program answers.

use serde::Serialize;
use tokio::sync::oneshot;

use super::books::NotWritten;
use super::status::SayingStatus;
use crate::domain::effect::Effect;
use crate::domain::names::RoomName;
use crate::domain::overrides::{Change, How, Refused, Subject, Wish};
use crate::domain::time::Unix;

/// A wish of an operator, on its way to the control plane. Whoever takes it answers through the sender inside; one
/// that is dropped unanswered is reported to the operator as "shutting down".
#[derive(Debug)]
pub enum Command {
    /// Read the configuration file again.
    Reload(oneshot::Sender<ReloadAnswer>),
    /// Change something of a room, or say what that would do.
    Change(Box<ChangeOrder>, oneshot::Sender<Result<ChangeAnswer, NotChanged>>),
    /// Say what another configuration file would change.
    Diff {
        /// The file's text.
        text: String,
        /// Where the answer goes.
        answer: oneshot::Sender<DiffAnswer>,
    },
    /// Stop as a service manager's SIGTERM does: what is under way ends, nothing new is accepted.
    Drain(oneshot::Sender<()>),
}

/// A change of a room.
#[derive(Debug)]
pub struct ChangeOrder {
    /// The room.
    pub room: RoomName,
    /// What is wanted.
    pub wanted: WantedChange,
    /// Who wants it.
    pub by: String,
    /// Until when; `None`: until it is taken back.
    pub until: Option<Unix>,
    /// The revision that the operator saw, if they say so.
    pub seen: Option<u64>,
    /// Whether to do it.
    pub mode: Mode,
}

/// What is wanted of a room.
#[derive(Clone, Debug)]
pub enum WantedChange {
    /// This of one subject, or what the file says.
    Set(Subject, Option<Wish>),
    /// The last change taken back, or that of one subject.
    Undo(Option<Subject>),
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Apply,
    /// It is only said what it would do.
    Preview,
}

/// What became of a change, or would.
#[derive(Debug, Serialize)]
pub struct ChangeAnswer {
    /// What became of it.
    pub result: ChangeResult,
    /// The room.
    pub room: String,
    /// The state of the room with it.
    pub state: &'static str,
    /// Whether the room is frozen with it.
    pub frozen: bool,
    /// The rate of the room at this hour with it, as it is written.
    pub rate: String,
    /// The revision after it; in a preview the one that is in force.
    pub revision: u64,
    /// What was changed.
    pub change: Option<ChangeStatus>,
    /// What it does to those who wait, lane by lane.
    pub effects: Vec<EffectStatus>,
    /// What to think of before.
    pub warnings: Vec<String>,
    /// How pages in every language say the message, where the message was changed.
    pub message: Option<Vec<MessageStatus>>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeResult {
    /// It is in force, and will be after a restart.
    Applied,
    /// It was only looked at.
    Preview,
    /// It was so already.
    Unchanged,
}

/// A change for people.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeStatus {
    /// The revision that it made.
    pub revision: u64,
    /// When.
    #[serde(serialize_with = "super::status::as_rfc3339")]
    pub at: Unix,
    /// Who made it.
    pub by: String,
    /// How it came about.
    pub how: How,
    /// The room; `null`: the configuration.
    pub room: Option<String>,
    /// What of it.
    pub subject: Option<Subject>,
    /// What was in force; `null`: what the file says.
    pub from: Option<SayingStatus>,
    /// What is in force; `null`: what the file says.
    pub to: Option<SayingStatus>,
}

impl From<&Change> for ChangeStatus {
    fn from(change: &Change) -> ChangeStatus {
        let Change { revision, at, by, how, room, subject, from, to } = change.clone();
        let (from, to) = (from.as_ref().map(SayingStatus::of), to.as_ref().map(SayingStatus::of));
        ChangeStatus { revision, at, by, how, room, subject, from, to }
    }
}

/// What a change does to a lane.
#[derive(Clone, Debug, Serialize)]
pub struct EffectStatus {
    /// The class.
    pub class: String,
    /// Visitors concerned.
    pub waiting: u64,
    /// The wait of the last of them as things are; `null` when no end is known.
    pub before: Option<WaitStatus>,
    /// The same after the change.
    pub after: Option<WaitStatus>,
    /// The same in a line for people.
    pub text: String,
}

/// A range of waits.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WaitStatus {
    /// Nine in ten wait at least so long, in seconds.
    pub low: u64,
    /// Nine in ten wait no longer, in seconds.
    pub high: u64,
}

impl From<Effect> for EffectStatus {
    fn from(effect: Effect) -> EffectStatus {
        let text = effect.text();
        let wait = |wait: crate::domain::wait_estimate::WaitRange| WaitStatus {
            low: wait.low.as_secs(),
            high: wait.high.as_secs(),
        };
        let Effect { class, waiting, before, after } = effect;
        EffectStatus { class, waiting, before: before.map(wait), after: after.map(wait), text }
    }
}

/// How pages in one language say a message.
#[derive(Clone, Debug, Serialize)]
pub struct MessageStatus {
    /// The pages' language.
    pub page: String,
    /// What they say.
    pub text: Option<String>,
    /// The text's language, where it is known to be another one.
    pub language: Option<String>,
    /// Where the whole page can be looked at.
    pub preview: String,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// There is no such room.
    #[error("there is no room of this name")]
    UnknownRoom,
    /// What is said to all nodes that share a line has no end of its own.
    #[error("what is said to all nodes that share this line holds until it is taken back: leave out until")]
    NoEnd,
    /// Only the file can do that.
    #[error("the file says state = \"{0}\" for this room: change it there and reload")]
    FileSays(&'static str),
    /// The rules are against it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It could not be made durable.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    /// It could not be put in force.
    #[error("it could not be put in force, and nothing was changed: {0}")]
    NotApplied(String),
}

/// What another configuration file would change.
#[derive(Debug)]
pub enum DiffAnswer {
    /// It has faults.
    Faulty(Vec<ReloadFault>),
    /// It has none.
    Differs(Box<Diff>),
}

/// What another configuration file would change.
#[derive(Debug, Serialize)]
pub struct Diff {
    /// `unchanged`, `reloadable` or `needs_restart`.
    pub result: &'static str,
    /// Key by key.
    pub changes: Vec<KeyChange>,
    /// Keys that take effect only after a restart; with one of them a reload is refused as a whole.
    pub needs_restart: Vec<String>,
    /// What it does to those who wait, room by room.
    pub rooms: Vec<RoomEffects>,
    /// What operators changed at run time; it stays in force over the file.
    pub overrides: Vec<super::status::OverrideStatus>,
    /// What to think of before.
    pub warnings: Vec<String>,
}

/// A key with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// The key as one would say it.
    pub key: String,
    /// What the file in force says, as it is written there; `null`: nothing.
    pub from: Option<String>,
    /// What the other file says; `null`: nothing.
    pub to: Option<String>,
}

/// What another configuration file does to a room.
#[derive(Debug, Serialize)]
pub struct RoomEffects {
    /// The room.
    pub room: String,
    /// Lane by lane.
    pub effects: Vec<EffectStatus>,
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
