//! Carrying lines from one store to another, through a file: `anticamera store export` and `import`.
//!
//! A line goes whole: its identity, counters, tickets, seats and ended identities, so that everybody's ticket and pass are
//! good in the new store; and with the lines goes what the leak guard noted. Neither store may be in use meanwhile, and
//! nothing is written over.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::line::{Doubt, Fact, Lane, Line, Orders, Origin, SeatRecord, VisitorId};
use super::{Embedded, Note, Script, StoreError, TicketPage, TicketRecord, TicketState, Valkey};
use crate::clock::Clock;
use crate::config;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::Opening;
use crate::domain::time::Unix;

/// The format of the file.
const FORMAT: u64 = 1;

/// How far below the mark numbers may have been drawn without being remembered: two stops' worth.
const IN_DOUBT: u64 = 2 * 65_536;

/// A line with more tickets than this is none that we wrote.
pub(super) const MOST_TICKETS: u64 = 1_000_000_000;

/// What stands in the new store where a line is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Nothing, or a line that was not brought to its end.
    Free,
    /// The same line, as it was brought: nobody has worked with it since.
    Brought,
}

/// Why lines are not carried over.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody works with the shared store.
    #[error("the line of room {0} is in use: stop all nodes that share it, and try again after a second")]
    InUse(RoomName),
    /// There is a line already.
    #[error(
        "the store has a line of room {0} already, which stays as it is; give the program another store.path or \
         store.prefix, or move the state away"
    )]
    NotEmpty(RoomName),
    /// There is nothing to carry.
    #[error("the store has no line of any of these rooms; check the [store] section and the names of the rooms")]
    Nothing,
    /// The file is none of ours.
    #[error("the file holds no lines of this version ({0}); make it anew with anticamera store export")]
    File(String),
}

/// Lines of several rooms, and the notes of the store in which they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    rooms: Vec<(RoomName, Line)>,
    notes: Vec<Note>,
}

impl Lines {
    /// Reads the lines of these rooms, as far as the store has them. The program must not run.
    ///
    /// # Errors
    /// [`TransferError`], in words for the operator.
    pub async fn read(settings: &config::Store, rooms: &[RoomName], clock: Clock) -> Result<Lines, TransferError> {
        let found = match settings {
            config::Store::Embedded { path } => {
                let (rooms, notes) = Embedded::read_lines(path, rooms)?;
                Lines { rooms, notes }
            }
            config::Store::Valkey(settings) => {
                let valkey = Valkey::open(settings, clock, Box::new(|_, _| {})).await?;
                let mut found = Vec::new();
                for room in rooms {
                    found.extend(valkey.read_unused(room).await?.map(|line| (room.clone(), line)));
                }
                Lines { rooms: found, notes: valkey.all_notes().await? }
            }
        };
        if found.rooms.is_empty() { Err(TransferError::Nothing) } else { Ok(found) }
    }

    /// Writes the lines into a store that has none of these rooms. The program must not run.
    ///
    /// # Errors
    /// [`TransferError`], in words for the operator. An embedded store is unchanged then. A line of a shared one is whole,
    /// or cannot be used before it was imported again.
    pub async fn write(&self, settings: &config::Store, clock: Clock) -> Result<(), TransferError> {
        match settings {
            config::Store::Embedded { path } => Embedded::write_lines(path, &self.rooms, &self.notes, clock.unix()),
            config::Store::Valkey(settings) => {
                let valkey = Valkey::open(settings, clock, Box::new(|_, _| {})).await?;
                let missing = self.missing_in(&valkey).await?;
                for (room, line) in &missing {
                    valkey.put_line(room, line).await?;
                }
                valkey.put_notes(&self.notes).await?;
                // Nodes open none before all are there: what breaks off until here can be done again from the beginning.
                for (room, line) in &missing {
                    valkey.finish_line(room, line).await?;
                }
                Ok(())
            }
        }
    }

    /// The lines that are to be brought: all, but for those that an import brought that broke off afterwards.
    async fn missing_in(&self, valkey: &Valkey) -> Result<Vec<&(RoomName, Line)>, TransferError> {
        let mut missing = Vec::new();
        for each in &self.rooms {
            if valkey.ground(&each.0, &each.1).await? == Ground::Free {
                missing.push(each);
            }
        }
        match self.rooms.first() {
            Some((room, _)) if missing.is_empty() => Err(TransferError::NotEmpty(room.clone())),
            _ => Ok(missing),
        }
    }

    /// What the operator has to know of a store in which the lines were written: what it does not keep.
    pub fn not_kept_by(&self, settings: &config::Store) -> String {
        let config::Store::Embedded { .. } = settings else { return String::new() };
        let with_orders = self.rooms.iter().filter(|(_, line)| line.orders != Orders::default());
        let say = |(room, line): &(RoomName, Line)| {
            let orders = shown(line.orders).trim_start_matches(", ");
            format!("room {room} was {orders}, which this store does not keep: order it again after the start\n")
        };
        with_orders.map(say).collect()
    }

    /// The rooms.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.rooms.iter().map(|(room, _)| room)
    }

    /// The text of a file with the lines.
    pub fn text(&self) -> String {
        let lines = self.rooms.iter().map(WrittenLine::of).collect();
        let notes = self.notes.iter().map(|note| (note.at.0, STANDARD.encode(&note.text))).collect();
        let document = Document { format: FORMAT, lines, notes };
        // Writing such values into memory cannot fail.
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// Reads such a text.
    ///
    /// # Errors
    /// [`TransferError::File`].
    pub fn from_text(text: &str) -> Result<Lines, TransferError> {
        let wrong = |error: serde_json::Error| TransferError::File(error.to_string());
        let Header { format } = serde_json::from_str(text).map_err(wrong)?;
        if format != FORMAT {
            return Err(TransferError::File(format!("its format is {format}, this version knows {FORMAT}")));
        }
        let document: Document = serde_json::from_str(text).map_err(wrong)?;
        let notes = document.notes.iter().map(note_as_written).collect::<Result<Vec<_>, _>>()?;
        let lines = document.lines.into_iter().map(WrittenLine::read).collect::<Result<Vec<_>, _>>()?;
        let damaged = |what: String| Err(TransferError::File(what));
        if lines.is_empty() {
            return damaged("it has no line at all".to_owned());
        }
        let mut rooms = HashSet::new();
        if let Some((room, _)) = lines.iter().find(|(room, _)| !rooms.insert(room.clone())) {
            return damaged(format!("room {room} is in it twice"));
        }
        Ok(Lines { rooms: lines, notes })
    }
}

/// How much is carried over, for the operator.
impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (room, line) in &self.rooms {
            let tickets: usize = line.lanes.iter().map(|(_, lane)| lane.tickets().count()).sum();
            let (seats, ended) = (line.seats.len(), line.ended.len());
            let orders = shown(line.orders);
            writeln!(f, "room {room}: {tickets} tickets, {seats} seats, {ended} ended sessions{orders}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f, "leak guard: {} notes, of use with the same leak_guard.audit_key only", self.notes.len())?;
        }
        Ok(())
    }
}

/// The orders in force; nothing when there are none.
fn shown(orders: Orders) -> &'static str {
    match (orders.frozen, orders.held) {
        (false, false) => "",
        (true, false) => ", frozen by an operator",
        (false, true) => ", held by an operator",
        (true, true) => ", frozen and held by an operator",
    }
}

/// Everything that a line says of itself, as facts.
pub(super) fn facts_of(line: &Line) -> impl Iterator<Item = Fact> {
    let tickets = line.lanes.iter().flat_map(|(class, lane)| facts_of_tickets(*class, lane.tickets()));
    tickets.chain(facts_besides_pages(line))
}

/// What a line says of itself besides the pages of its tickets. Numbers that may have been drawn without being remembered
/// count as waiting: whoever has one keeps the place, and nobody else loses anything by it.
pub(super) fn facts_besides_pages(line: &Line) -> impl Iterator<Item = Fact> {
    let forgotten = line.lanes.iter().map(|(class, lane)| Fact::Forget { class: *class, through: lane.forgotten });
    let in_doubt = line.lanes.iter().flat_map(|(class, lane)| facts_of_tickets(*class, in_doubt(lane)));
    let seats = line.seats.iter().map(|(id, seat)| Fact::Seat { id: *id, seat: *seat });
    let ended = line.ended.iter().map(|(id, until)| Fact::SeatGone { id: *id, ended_until: Some(*until) });
    let orders = line.orders.in_force().map(Fact::Ordered);
    forgotten.chain(in_doubt).chain(seats).chain(ended).chain([Fact::Frozen(line.frozen)]).chain(orders)
}

fn facts_of_tickets(class: ClassId, tickets: impl Iterator<Item = (u64, TicketRecord)>) -> impl Iterator<Item = Fact> {
    tickets.map(move |(number, record)| Fact::Ticket { class, number, record })
}

fn in_doubt(lane: &Lane) -> impl Iterator<Item = (u64, TicketRecord)> {
    let waits = TicketRecord { state: TicketState::Waiting, script: Script::Runs };
    let from = match lane.doubt {
        Doubt::None => lane.mark.saturating_add(1),
        Doubt::NearTheMark => lane.forgotten.max(lane.mark.saturating_sub(IN_DOUBT)).saturating_add(1),
    };
    let is_known = |number: u64| {
        let page = TicketPage::holding(number);
        let page = lane.pages.binary_search_by_key(&page, |(of, _)| *of).ok().and_then(|at| lane.pages.get(at));
        page.is_some_and(|(_, page)| page.get(number).is_some())
    };
    (from..=lane.mark).filter(move |number| !is_known(*number)).map(move |number| (number, waits))
}

#[derive(Deserialize)]
struct Header {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u64,
    lines: Vec<WrittenLine>,
    /// What the leak guard noted, sealed as it was: when, in milliseconds since 1970, and the text as base64.
    #[serde(default)]
    notes: Vec<(u64, String)>,
}

/// A line in the file. Pages and identities are base64.
#[derive(Serialize, Deserialize)]
struct WrittenLine {
    room: String,
    identity: u64,
    frozen_ms: u64,
    last_durable_ms: Option<u64>,
    lanes: Vec<WrittenLane>,
    seats: Vec<(String, SeatRecord)>,
    ended: Vec<(String, u32)>,
    openings: Vec<Opening>,
    /// What operators said to all nodes.
    #[serde(default)]
    frozen_by_hand: bool,
    #[serde(default)]
    held: bool,
}

#[derive(Serialize, Deserialize)]
struct WrittenLane {
    class: ClassId,
    mark: u64,
    issued: u64,
    forgotten: u64,
    in_doubt: bool,
    pages: Vec<(u64, String)>,
}

impl WrittenLine {
    fn of((room, line): &(RoomName, Line)) -> WrittenLine {
        WrittenLine {
            room: room.to_string(),
            identity: line.identity,
            frozen_ms: u64::try_from(line.frozen.as_millis()).unwrap_or(u64::MAX),
            last_durable_ms: line.last_durable.map(|at| at.0),
            lanes: line.lanes.iter().map(|(class, lane)| WrittenLane::of(*class, lane)).collect(),
            seats: line.seats.iter().map(|(id, seat)| (STANDARD.encode(id), *seat)).collect(),
            ended: line.ended.iter().map(|(id, until)| (STANDARD.encode(id), *until)).collect(),
            openings: line.openings.clone(),
            frozen_by_hand: line.orders.frozen,
            held: line.orders.held,
        }
    }

    fn read(self) -> Result<(RoomName, Line), TransferError> {
        let room = RoomName::new(&self.room).map_err(|_| TransferError::File(format!("{:?} is no room", self.room)))?;
        let line = Line {
            identity: self.identity,
            origin: Origin::Known,
            lanes: self.lanes.into_iter().map(WrittenLane::read).collect::<Result<_, _>>()?,
            seats: with_identity(&self.seats)?,
            ended: with_identity(&self.ended)?,
            frozen: Duration::from_millis(self.frozen_ms),
            last_durable: self.last_durable_ms.map(Unix),
            openings: self.openings,
            orders: Orders { frozen: self.frozen_by_hand, held: self.held },
        };
        let mut classes = HashSet::new();
        if line.lanes.iter().all(|(class, lane)| classes.insert(*class) && is_sound(lane)) {
            Ok((room, line))
        } else {
            Err(TransferError::File(format!("the numbers of room {room} contradict one another")))
        }
    }
}

impl WrittenLane {
    fn of(class: ClassId, lane: &Lane) -> WrittenLane {
        WrittenLane {
            class,
            mark: lane.mark,
            issued: lane.issued,
            forgotten: lane.forgotten,
            in_doubt: lane.doubt == Doubt::NearTheMark,
            pages: lane.pages.iter().map(|(number, page)| (*number, STANDARD.encode(page.as_bytes()))).collect(),
        }
    }

    fn read(self) -> Result<(ClassId, Lane), TransferError> {
        let page = |(number, text): (u64, String)| {
            let wrong = || TransferError::File(format!("page {number} cannot be understood"));
            let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
            Ok((number, TicketPage::from_bytes(&bytes).map_err(|_| wrong())?))
        };
        let mut pages = self.pages.into_iter().map(page).collect::<Result<Vec<_>, TransferError>>()?;
        pages.sort_unstable_by_key(|(number, _)| *number);
        let lane = Lane {
            mark: self.mark.max(self.issued),
            issued: self.issued,
            forgotten: self.forgotten,
            doubt: if self.in_doubt { Doubt::NearTheMark } else { Doubt::None },
            pages,
        };
        Ok((self.class, lane))
    }
}

/// Whether a store can have written such a lane.
fn is_sound(lane: &Lane) -> bool {
    let mut pages = HashSet::new();
    let last = TicketPage::holding(lane.mark);
    lane.mark <= MOST_TICKETS
        && lane.forgotten <= lane.mark
        && lane.pages.iter().all(|(number, _)| *number <= last && pages.insert(*number))
}

fn note_as_written((at, text): &(u64, String)) -> Result<Note, TransferError> {
    let text = STANDARD.decode(text).map_err(|_| TransferError::File("a note cannot be understood".to_owned()))?;
    Ok(Note { at: Unix(*at), text })
}

/// The identities as they were before they were written.
fn with_identity<T: Copy>(written: &[(String, T)]) -> Result<Vec<(VisitorId, T)>, TransferError> {
    let read = |(id, what): &(String, T)| {
        let wrong = || TransferError::File(format!("{id:?} is no identity"));
        let bytes = STANDARD.decode(id).map_err(|_| wrong())?;
        Ok((VisitorId::try_from(bytes).map_err(|_| wrong())?, *what))
    };
    written.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these lines.
    fn file(lines: &[&str]) -> String {
        format!(r#"{{"format":1,"lines":[{}]}}"#, lines.join(","))
    }

    fn line(room: &str, lanes: &str) -> String {
        format!(
            r#"{{"room":"{room}","identity":5,"frozen_ms":0,"last_durable_ms":17,"lanes":[{lanes}],"seats":[],"ended":[],
            "openings":[]}}"#
        )
    }

    fn lane(mark: u64, forgotten: u64, pages: &[u64]) -> String {
        let blank = STANDARD.encode(TicketPage::blank().as_bytes());
        let pages: Vec<String> = pages.iter().map(|number| format!(r#"[{number},"{blank}"]"#)).collect();
        format!(
            r#"{{"class":7,"mark":{mark},"issued":1,"forgotten":{forgotten},"in_doubt":true,"pages":[{}]}}"#,
            pages.join(",")
        )
    }

    #[test]
    fn a_damaged_file_is_refused_before_anything_is_written() {
        let sound = line("r", &lane(5000, 4999, &[0, 1]));
        assert!(Lines::from_text(&file(&[&sound])).is_ok());
        for lanes in [
            lane(5000, 5001, &[]),
            lane(5000, u64::MAX, &[]),
            lane(u64::MAX, u64::MAX, &[]),
            lane(5000, 0, &[2]),
            lane(5000, 0, &[1, 1]),
            format!("{},{}", lane(1, 0, &[]), lane(1, 0, &[])),
        ] {
            let refused = Lines::from_text(&file(&[&line("r", &lanes)]));
            assert!(matches!(refused, Err(TransferError::File(_))), "{lanes}");
        }
        for lines in [&[][..], &[sound.as_str(), sound.as_str()]] {
            assert!(matches!(Lines::from_text(&file(lines)), Err(TransferError::File(_))), "{lines:?}");
        }
    }
}
