//! What is in the state file, and the transactions on it. Each is whole or not at all, and durable on return.
//!
//! Commits are in two phases: the file says which of its two roots is good, so that a damaged page is an error
//! instead of a silent step back to the commit before, which would draw numbers twice. (The bit that says which root
//! is good cannot be checked itself. It is the only one in the file: every other flipped bit is without effect or an
//! error.)

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{
    AccessGuard, Database, Durability, Error, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, Table,
    TableDefinition, TableError, WriteTransaction,
};

use super::super::StoreError;
use super::super::line::{Doubt, Lane, Line, Orders, Origin, SeatRecord, Standing, VisitorId};
use super::super::notes::{AT_ONCE, Note, Notes, NotesMark};
use super::super::tickets::TicketPage;
use super::super::transfer::facts_of;
use super::disk::Disk;
use super::pending::{Pending, Visit};
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::Opening;
use crate::domain::recent::Bounds;
use crate::domain::time::Unix;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u64 = 1;

type Visitor = &'static [u8; 16];
/// Number, class, generation, last seen, entered, confirmed.
type SeatRow = (u64, u8, u64, u32, u32, bool);
/// Mark, issued, forgotten.
type LaneRow = (u64, u64, u64);

/// `format`, and `durable`: when a commit was made last, in milliseconds since 1970.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
/// Room to identity and frozen milliseconds.
const LINES: TableDefinition<&str, (u64, u64)> = TableDefinition::new("lines");
/// Room and class to what [`LaneRow`] says.
const LANES: TableDefinition<(&str, u8), LaneRow> = TableDefinition::new("lanes");
/// Room, class and page to the packed page.
const TICKETS: TableDefinition<(&str, u8, u64), &[u8]> = TableDefinition::new("tickets");
/// Room and pass identity to what [`SeatRow`] says.
const SEATS: TableDefinition<(&str, Visitor), SeatRow> = TableDefinition::new("seats");
/// Room and pass identity to how often the limit of the visit was put off, where it was. Made with the first one: files of
/// earlier versions have none.
const EXTENDED: TableDefinition<(&str, Visitor), u32> = TableDefinition::new("extended");
/// Room and pass identity to the second since 1970 until which the end is remembered.
const ENDED: TableDefinition<(&str, Visitor), u32> = TableDefinition::new("ended");
/// Room and number of an opening to the opening, as JSON. Made with the first one: files of earlier versions have none.
const OPENINGS: TableDefinition<(&str, u32), &[u8]> = TableDefinition::new("openings");
/// Number of a note to when it came, in milliseconds since 1970, and what it says. Made with the first one: files of
/// earlier versions have none.
const NOTES: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("notes");

/// The open state file.
#[derive(Debug)]
pub struct StateFile {
    database: Database,
    /// Its name, for people.
    name: PathBuf,
    /// When the process before made facts durable last.
    last_durable: Option<Unix>,
}

/// What one commit writes.
#[derive(Debug)]
pub struct Batch<'a> {
    /// By room.
    pub rooms: &'a BTreeMap<RoomName, RoomBatch>,
    /// When it is written.
    pub now: Unix,
    /// Whether to look for ended identities that need not be remembered any more.
    pub sweep: Sweep,
}

/// What one commit writes about a room.
#[derive(Debug, Default)]
pub struct RoomBatch {
    /// The facts.
    pub facts: Pending,
    /// The counters' marks, by lane.
    pub marks: Vec<(ClassId, Mark)>,
}

/// How a mark is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Ahead of use: never lower than it is.
    Ahead(u64),
    /// At a clean close: exactly where the counter stands.
    Final(u64),
}

/// Whether a commit sweeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Drop ended identities whose time has come.
    Expired,
    /// Leave them.
    Nothing,
}

impl StateFile {
    /// Opens the file, or makes it where there is none.
    ///
    /// # Errors
    /// In words for the operator. What the file says is unchanged then.
    pub fn open_or_create(disk: &Disk) -> Result<StateFile, StoreError> {
        guarded(&disk.file(), || if disk.has_file()? { Ok(()) } else { disk.create(make) })?;
        StateFile::open(disk)
    }

    /// Opens the file that is there.
    ///
    /// # Errors
    /// As [`StateFile::open_or_create`], and when there is none.
    pub fn open(disk: &Disk) -> Result<StateFile, StoreError> {
        let name = disk.file();
        let database = guarded(&name, || disk.open())?;
        let about = guarded(&name, || read_about(&database));
        let mut file = StateFile { database, name, last_durable: None };
        let refused = match about {
            Ok((FORMAT, last_durable)) => {
                file.last_durable = last_durable;
                return Ok(file);
            }
            Ok((found, _)) => StoreError::Newer { file: file.name.clone(), found, known: FORMAT },
            Err(error) => error,
        };
        file.let_go();
        Err(refused)
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// Nothing was written then, as far as this process may rely on; the file must be opened again.
    pub fn write(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        guarded(&self.name, || self.transaction(|write| write_batch(write, batch)))
    }

    /// Reads the line of a room, or begins it.
    ///
    /// # Errors
    /// The file must be opened again then.
    pub fn open_line(&self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        guarded(&self.name, || {
            let origin = if self.knows(room)? { Origin::Known } else { Origin::New };
            if origin == Origin::New {
                self.transaction(|write| begin_line(write, room, fresh_identity))?;
            }
            self.read_line(room, origin)
        })
    }

    /// Reads the line of a room, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn find_line(&self, room: &RoomName) -> Result<Option<Line>, StoreError> {
        guarded(&self.name, || if self.knows(room)? { self.read_line(room, Origin::Known).map(Some) } else { Ok(None) })
    }

    /// Writes whole lines of rooms that have none, all or none of them; and notes, if there are none.
    ///
    /// # Errors
    /// Nothing was written then.
    pub fn put_lines(&self, lines: &[(RoomName, Line)], notes: &[Note], now: Unix) -> Result<(), StoreError> {
        let whole = lines.iter().map(|(room, line)| {
            let mut batch = RoomBatch::default();
            facts_of(line).for_each(|fact| batch.facts.note(fact));
            batch.marks = line.lanes.iter().map(|(class, lane)| (*class, Mark::Final(lane.mark))).collect();
            (room.clone(), batch)
        });
        let rooms = whole.collect();
        guarded(&self.name, || {
            self.transaction(|write| {
                for (room, line) in lines {
                    begin_line(write, room, line.identity)?;
                    for opening in &line.openings {
                        write_opening(write, room, opening)?;
                    }
                }
                put_notes(write, notes)?;
                write_batch(write, &Batch { rooms: &rooms, now, sweep: Sweep::Nothing })
            })
        })
    }

    /// Removes everything of a room and begins a new line for it.
    ///
    /// # Errors
    /// The old line is still there; the file must be opened again.
    pub fn end_line(&self, room: &RoomName, fresh_identity: u64) -> Result<Line, StoreError> {
        guarded(&self.name, || {
            self.transaction(|write| {
                remove_line(write, room)?;
                begin_line(write, room, fresh_identity)
            })?;
            self.read_line(room, Origin::New)
        })
    }

    /// Writes down an opening of a room's line.
    ///
    /// # Errors
    /// What was known of it stays; the file must be opened again.
    pub fn note_opening(&self, room: &RoomName, opening: &Opening) -> Result<(), StoreError> {
        guarded(&self.name, || self.transaction(|write| write_opening(write, room, opening)))
    }

    /// Adds notes, and removes what is too old or too much.
    ///
    /// # Errors
    /// None of them was added then; the file must be opened again.
    pub fn add_notes(&self, notes: &[Vec<u8>], bounds: Bounds, now: Unix) -> Result<(), StoreError> {
        guarded(&self.name, || self.transaction(|write| write_notes(write, notes, bounds, now)))
    }

    /// Reads some of the notes after the one of the mark.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_notes(&self, mark: NotesMark) -> Result<Notes, StoreError> {
        guarded(&self.name, || read_notes(&self.database.begin_read()?, mark))
    }

    /// Reads all notes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn all_notes(&self) -> Result<Vec<Note>, StoreError> {
        let (mut all, mut mark) = (Vec::new(), NotesMark::default());
        loop {
            let some = self.read_notes(mark)?;
            if some.notes.is_empty() {
                return Ok(all);
            }
            mark = some.mark;
            all.extend(some.notes);
        }
    }

    /// Lets go of the file, and leaves it so that the next start need not repair it.
    ///
    /// # Errors
    /// When that did not succeed; nothing durable is lost.
    pub fn close(self) -> Result<(), StoreError> {
        let StateFile { database, name, .. } = self;
        guarded(&name, || Ok(database.close()?))
    }

    /// Lets go of the file after a fault, whatever comes of it.
    pub fn let_go(self) {
        let _ = self.close();
    }

    fn transaction(&self, work: impl FnOnce(&WriteTransaction) -> Result<(), Error>) -> Result<(), Error> {
        transaction(&self.database, work)
    }

    fn knows(&self, room: &RoomName) -> Result<bool, Error> {
        Ok(self.database.begin_read()?.open_table(LINES)?.get(room.as_str())?.is_some())
    }

    fn read_line(&self, room: &RoomName, origin: Origin) -> Result<Line, Error> {
        let read = self.database.begin_read()?;
        let name = room.as_str();
        let lines = read.open_table(LINES)?;
        let Some((identity, frozen_ms)) = lines.get(name)?.map(|row| row.value()) else {
            return Err(Error::Corrupted(format!("the line of room {room} is gone")));
        };
        let whole_room = (name, &[0; 16])..=(name, &[255; 16]);
        let extended = read_extended(&read, name)?;
        let seats = read.open_table(SEATS)?.range(whole_room.clone())?.map(|row| {
            let (key, seat) = row?;
            let id = *key.value().1;
            Ok((id, seat_from_row(seat.value(), extended.get(&id).copied().unwrap_or(0))))
        });
        let ended = read.open_table(ENDED)?.range(whole_room)?.map(|row| {
            let (key, until) = row?;
            Ok((*key.value().1, until.value()))
        });
        Ok(Line {
            identity,
            origin,
            lanes: read_lanes(&read.open_table(LANES)?, &read.open_table(TICKETS)?, name)?,
            seats: seats.collect::<Result<_, StorageError>>()?,
            ended: ended.collect::<Result<_, StorageError>>()?,
            frozen: Duration::from_millis(frozen_ms),
            last_durable: self.last_durable,
            openings: read_openings(&read, name)?,
            orders: Orders::default(),
        })
    }
}

/// Runs work on the file and says what went wrong in our words. The engine checks what it reads, but promises no
/// freedom from panics on a file that others wrote to: a panic counts as damage.
fn guarded<T>(file: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| in_our_words(file, error)),
        Err(_) => Err(StoreError::Damaged { file: file.to_owned(), detail: "reading it failed badly".to_owned() }),
    }
}

fn in_our_words(file: &Path, error: Error) -> StoreError {
    use std::io::ErrorKind as Kind;
    let damaged = |detail: String| StoreError::Damaged { file: file.to_owned(), detail };
    match error {
        Error::Io(error) => match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => StoreError::Full(error.to_string().into()),
            Kind::InvalidData | Kind::UnexpectedEof => damaged(error.to_string()),
            _ => StoreError::Unreachable(format!("{}: {error}", file.display()).into()),
        },
        Error::PreviousIo | Error::DatabaseClosed => StoreError::Unreachable("it must be opened again".into()),
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StoreError::InUse { file: file.to_owned() },
        Error::UpgradeRequired(found) => damaged(format!("it has the file layout {found}")),
        other => damaged(other.to_string()),
    }
}

fn transaction(database: &Database, work: impl FnOnce(&WriteTransaction) -> Result<(), Error>) -> Result<(), Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_two_phase_commit(true);
    work(&write)?;
    Ok(write.commit()?)
}

fn make(database: &Database) -> Result<(), Error> {
    transaction(database, |write| {
        write.open_table(ABOUT)?.insert("format", FORMAT)?;
        write.open_table(LINES)?;
        write.open_table(LANES)?;
        write.open_table(TICKETS)?;
        write.open_table(SEATS)?;
        write.open_table(ENDED)?;
        Ok(())
    })
}

fn read_about(database: &Database) -> Result<(u64, Option<Unix>), Error> {
    let about = database.begin_read()?.open_table(ABOUT)?;
    let Some(format) = about.get("format")?.map(|row| row.value()) else {
        return Err(Error::Corrupted("it does not say its format".to_owned()));
    };
    Ok((format, about.get("durable")?.map(|row| Unix(row.value()))))
}

fn write_batch(write: &WriteTransaction, batch: &Batch<'_>) -> Result<(), Error> {
    write.open_table(ABOUT)?.insert("durable", batch.now.0)?;
    for (room, RoomBatch { facts, marks }) in batch.rooms {
        write_lanes(write, room.as_str(), facts, marks)?;
        write_visits(write, room.as_str(), facts)?;
        if let Some(frozen) = facts.frozen {
            write_frozen(write, room.as_str(), frozen)?;
        }
    }
    if batch.sweep == Sweep::Expired {
        sweep_ended(write, batch.now)?;
    }
    Ok(())
}

/// Forgets ended identities whose time is over. It is told in the room's own seconds, which stand still while the
/// session clocks do.
fn sweep_ended(write: &WriteTransaction, now: Unix) -> Result<(), Error> {
    let lines = write.open_table(LINES)?;
    let mut room_seconds = HashMap::new();
    for row in lines.iter()? {
        let (room, line) = row?;
        let (_, frozen) = line.value();
        room_seconds.insert(room.value().to_owned(), now.minus(Duration::from_millis(frozen)).seconds());
    }
    let over = |room: &str, until: u32| room_seconds.get(room).is_some_and(|now| until <= *now);
    write.open_table(ENDED)?.retain(|(room, _), until| !over(room, until))?;
    Ok(())
}

fn write_lanes(write: &WriteTransaction, room: &str, facts: &Pending, marks: &[(ClassId, Mark)]) -> Result<(), Error> {
    let mut lanes = write.open_table(LANES)?;
    let mut tickets = write.open_table(TICKETS)?;
    for (class, mark) in marks {
        change_lane(&mut lanes, room, *class, |(marked, ..)| {
            *marked = match mark {
                Mark::Ahead(mark) => *mark.max(marked),
                Mark::Final(mark) => *mark,
            };
        })?;
    }
    for (class, through) in &facts.forgotten {
        let (_, _, forgotten) = change_lane(&mut lanes, room, *class, |(.., forgotten)| {
            *forgotten = *through.max(forgotten);
        })?;
        tickets.retain_in((room, class.0, 0)..(room, class.0, first_remembered(forgotten)), |_, _| false)?;
    }
    for ((class, page), changes) in &facts.tickets {
        let highest = changes.highest(*page).unwrap_or_default();
        let (_, _, forgotten) = change_lane(&mut lanes, room, *class, |(_, issued, _)| {
            *issued = highest.max(*issued);
        })?;
        if *page >= first_remembered(forgotten) {
            write_page(&mut tickets, (room, class.0, *page), changes)?;
        }
    }
    Ok(())
}

/// The first page that has a ticket which is not forgotten.
fn first_remembered(forgotten: u64) -> u64 {
    TicketPage::holding(forgotten.saturating_add(1))
}

fn change_lane(
    lanes: &mut Table<'_, (&'static str, u8), LaneRow>,
    room: &str,
    class: ClassId,
    change: impl FnOnce(&mut LaneRow),
) -> Result<LaneRow, Error> {
    let before = lanes.get((room, class.0))?.map(|row| row.value());
    let mut row = before.unwrap_or_default();
    change(&mut row);
    if before != Some(row) {
        lanes.insert((room, class.0), row)?;
    }
    Ok(row)
}

fn write_page(
    tickets: &mut Table<'_, (&'static str, u8, u64), &'static [u8]>,
    key: (&str, u8, u64),
    changes: &TicketPage,
) -> Result<(), Error> {
    let mut page = match tickets.get(key)? {
        Some(row) => page_from_row(row.value())?,
        None => TicketPage::blank(),
    };
    page.overlay(changes);
    tickets.insert(key, page.as_bytes())?;
    Ok(())
}

fn page_from_row(bytes: &[u8]) -> Result<TicketPage, Error> {
    TicketPage::from_bytes(bytes).map_err(|unknown| Error::Corrupted(format!("it has {unknown}")))
}

fn write_visits(write: &WriteTransaction, room: &str, facts: &Pending) -> Result<(), Error> {
    let mut seats = write.open_table(SEATS)?;
    let mut extended = write.open_table(EXTENDED)?;
    let mut ended = write.open_table(ENDED)?;
    // In the order of the file, so that neighbours are written together.
    let ordered: BTreeMap<&VisitorId, &Visit> = facts.visits.iter().collect();
    for (id, visit) in ordered {
        let key = (room, id);
        match visit {
            Visit::Seated(seat) => seats.insert(key, row_of_seat(seat)).map(drop)?,
            Visit::Ended(_) | Visit::Unknown => seats.remove(key).map(drop)?,
        }
        match visit {
            Visit::Seated(SeatRecord { standing: Standing::Extended { times }, .. }) => {
                extended.insert(key, times).map(drop)?;
            }
            Visit::Seated(_) | Visit::Ended(_) | Visit::Unknown => extended.remove(key).map(drop)?,
        }
        match visit {
            Visit::Ended(until) => ended.insert(key, until).map(drop)?,
            Visit::Seated(_) | Visit::Unknown => ended.remove(key).map(drop)?,
        }
    }
    Ok(())
}

fn write_frozen(write: &WriteTransaction, room: &str, frozen: Duration) -> Result<(), Error> {
    let mut lines = write.open_table(LINES)?;
    let Some((identity, _)) = lines.get(room)?.map(|row| row.value()) else {
        return Ok(());
    };
    lines.insert(room, (identity, u64::try_from(frozen.as_millis()).unwrap_or(u64::MAX)))?;
    Ok(())
}

fn write_opening(write: &WriteTransaction, room: &RoomName, opening: &Opening) -> Result<(), Error> {
    let text = serde_json::to_vec(opening).map_err(|error| Error::Corrupted(error.to_string()))?;
    write.open_table(OPENINGS)?.insert((room.as_str(), opening.number), text.as_slice())?;
    Ok(())
}

fn write_notes(write: &WriteTransaction, notes: &[Vec<u8>], bounds: Bounds, now: Unix) -> Result<(), Error> {
    let mut table = write.open_table(NOTES)?;
    let last = table.last()?.map_or(0, |(number, _)| number.value());
    for (number, text) in (last.saturating_add(1)..).zip(notes) {
        table.insert(number, (now.0, text.as_slice()))?;
    }
    let oldest = now.minus(bounds.span).0;
    let first_kept = table.last()?.map_or(0, |(number, _)| number.value()).saturating_sub(bounds.entries as u64) + 1;
    loop {
        let first = table.first()?.map(|(number, note)| (number.value(), note.value().0));
        match first {
            Some((number, at)) if number < first_kept || at < oldest => drop(table.remove(number)?),
            _ => return Ok(()),
        }
    }
}

/// Notes as they were kept elsewhere.
fn put_notes(write: &WriteTransaction, notes: &[Note]) -> Result<(), Error> {
    if notes.is_empty() {
        return Ok(());
    }
    let mut table = write.open_table(NOTES)?;
    if table.first()?.is_none() {
        for (number, note) in (1..).zip(notes) {
            table.insert(number, (note.at.0, note.text.as_slice()))?;
        }
    }
    Ok(())
}

fn read_notes(read: &ReadTransaction, mark: NotesMark) -> Result<Notes, Error> {
    let table = match read.open_table(NOTES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Notes { notes: Vec::new(), mark }),
        Err(error) => return Err(error.into()),
    };
    let mut found = Notes { notes: Vec::new(), mark };
    for row in table.range(mark.number.saturating_add(1)..)?.take(AT_ONCE) {
        let (number, note) = row?;
        let (at, text) = note.value();
        found.notes.push(Note { at: Unix(at), text: text.to_vec() });
        found.mark.number = number.value();
    }
    Ok(found)
}

fn begin_line(write: &WriteTransaction, room: &RoomName, identity: u64) -> Result<(), Error> {
    write.open_table(LINES)?.insert(room.as_str(), (identity, 0))?;
    Ok(())
}

fn remove_line(write: &WriteTransaction, room: &RoomName) -> Result<(), Error> {
    let room = room.as_str();
    let whole_room = (room, &[0; 16])..=(room, &[255; 16]);
    write.open_table(LINES)?.remove(room)?;
    write.open_table(LANES)?.retain_in((room, 0)..=(room, u8::MAX), |_, _| false)?;
    write.open_table(TICKETS)?.retain_in((room, 0, 0)..=(room, u8::MAX, u64::MAX), |_, _| false)?;
    write.open_table(SEATS)?.retain_in(whole_room.clone(), |_, _| false)?;
    write.open_table(EXTENDED)?.retain_in(whole_room.clone(), |_, _| false)?;
    write.open_table(ENDED)?.retain_in(whole_room, |_, _| false)?;
    write.open_table(OPENINGS)?.retain_in((room, 0)..=(room, u32::MAX), |_, _| false)?;
    Ok(())
}

fn read_extended(read: &ReadTransaction, room: &str) -> Result<HashMap<VisitorId, u32>, Error> {
    let table = match read.open_table(EXTENDED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(HashMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = HashMap::new();
    for row in table.range((room, &[0; 16])..=(room, &[255; 16]))? {
        let (key, times) = row?;
        found.insert(*key.value().1, times.value());
    }
    Ok(found)
}

fn read_openings(read: &ReadTransaction, room: &str) -> Result<Vec<Opening>, Error> {
    let table = match read.open_table(OPENINGS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let read = |row: Result<(_, AccessGuard<'_, &[u8]>), StorageError>| {
        let (_, opening) = row?;
        let unknown = |error: serde_json::Error| Error::Corrupted(format!("it has an unknown opening: {error}"));
        serde_json::from_slice(opening.value()).map_err(unknown)
    };
    table.range((room, 0)..=(room, u32::MAX))?.map(read).collect()
}

fn read_lanes(
    lanes: &impl ReadableTable<(&'static str, u8), LaneRow>,
    tickets: &impl ReadableTable<(&'static str, u8, u64), &'static [u8]>,
    room: &str,
) -> Result<Vec<(ClassId, Lane)>, Error> {
    let mut found = Vec::new();
    for row in lanes.range((room, 0)..=(room, u8::MAX))? {
        let (key, row) = row?;
        let ((_, class), (mark, issued, forgotten)) = (key.value(), row.value());
        // A number of which something is known was drawn, whatever the mark says.
        let mark = mark.max(issued);
        let pages = tickets.range((room, class, 0)..=(room, class, u64::MAX))?.map(|row| {
            let (key, page) = row?;
            Ok((key.value().2, page_from_row(page.value())?))
        });
        let pages = pages.collect::<Result<_, Error>>()?;
        found.push((ClassId(class), Lane { mark, issued, forgotten, doubt: Doubt::NearTheMark, pages }));
    }
    Ok(found)
}

fn row_of_seat(seat: &SeatRecord) -> SeatRow {
    let confirmed = seat.standing.is_firm();
    (seat.number, seat.class.0, seat.generation, seat.last_seen, seat.entered, confirmed)
}

fn seat_from_row((number, class, generation, last_seen, entered, confirmed): SeatRow, extended: u32) -> SeatRecord {
    let standing = Standing::of(confirmed, extended);
    SeatRecord { number, class: ClassId(class), generation, last_seen, entered, standing }
}
