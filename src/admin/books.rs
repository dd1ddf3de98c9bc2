//! What operators changed, on disk: the overrides in one small file, and the audit log beside it. Both or neither: a change
//! counts only when both are durable.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::audit::{self, Audit, Line, Written};
use crate::domain::audit_chain::Head;
use crate::domain::overrides::Overrides;
use crate::domain::time::Unix;

/// The overrides' file in the operators' directory.
const OVERRIDES: &str = "overrides.json";
/// A larger file is none of ours.
const LARGEST: u64 = 16 << 20;

/// The files of a directory.
#[derive(Debug)]
pub struct Books {
    dir: PathBuf,
    audit: Mutex<Audit>,
    /// The end of the log as of the last line that is durable: whoever shows it does not wait for the disk.
    head: Mutex<Head>,
    /// Held by whoever hands something out or takes it back: one at a time.
    handing_out: Mutex<()>,
}

/// What operators changed before is there, and cannot be read: nobody knows whether a room is to be held.
#[derive(Debug, thiserror::Error)]
#[error("what operators changed cannot be read from {}: {error}; mend it, or move it away if only the configuration file is to hold", file.display())]
pub struct Unreadable {
    file: PathBuf,
    error: io::Error,
}

/// A change that could not be made durable, and so was not made.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed, because it could not be written down in {}: {error}; make room, or let the program's user write there", dir.display())]
pub struct NotWritten {
    dir: PathBuf,
    error: io::Error,
}

impl NotWritten {
    /// A file of this directory could not be written.
    pub(super) fn of(dir: &Path, error: io::Error) -> NotWritten {
        NotWritten { dir: dir.to_owned(), error }
    }

    /// The writer broke off.
    pub(super) fn broken_off(dir: &Path, why: impl std::error::Error + Send + Sync + 'static) -> NotWritten {
        NotWritten { dir: dir.to_owned(), error: io::Error::other(why) }
    }
}

impl Books {
    /// Opens a directory, which need not be there, and reads what is in force.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn open(dir: &Path) -> Result<(Books, Overrides), Unreadable> {
        let file = dir.join(OVERRIDES);
        let overrides = read(&file).map_err(|error| Unreadable { file, error })?;
        Ok((Books::of(dir), overrides))
    }

    /// The books of a directory, for whoever only writes lines of the audit log.
    pub fn of(dir: &Path) -> Books {
        let audit = Audit::of(dir);
        let head = Mutex::new(audit.head().clone());
        Books { dir: dir.to_owned(), audit: Mutex::new(audit), head, handing_out: Mutex::default() }
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn audit(&self) -> MutexGuard<'_, Audit> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes overrides and what is to be known of their change. Blocks on the disk.
    ///
    /// # Errors
    /// [`NotWritten`]: then neither was.
    pub fn commit(&self, overrides: &Overrides, lines: &[Line], at: Unix) -> Result<(), NotWritten> {
        self.try_commit(overrides, lines, at).map_err(|error| NotWritten { dir: self.dir.clone(), error })
    }

    fn try_commit(&self, overrides: &Overrides, lines: &[Line], at: Unix) -> io::Result<()> {
        let mut audit = self.audit();
        let (path, text) = (self.dir.join(OVERRIDES), serde_json::to_vec(overrides)?);
        if text.len() as u64 > LARGEST {
            return Err(io::Error::other("there are more overrides than could be read again: take some back"));
        }
        let before = content(&path)?;
        let beside = beside(&self.dir, OVERRIDES, &text)?;
        let remove = |_: &io::Error| drop(fs::remove_file(&beside));
        // Opened before anything is in its place: afterwards only the disk itself can fail.
        let directory = File::open(&self.dir).inspect_err(remove)?;
        let written = audit.append(lines, at).inspect_err(remove)?;
        if let Err(error) = fs::rename(&beside, &path) {
            audit.take_back(written);
            remove(&error);
            return Err(error);
        }
        if let Err(error) = directory.sync_all() {
            audit.take_back(written);
            self.put_back(before.as_deref());
            return Err(error);
        }
        self.note(&mut audit, &written);
        Ok(())
    }

    /// What was in place before a change that is not durable is in place again.
    fn put_back(&self, before: Option<&[u8]>) {
        let put = match before {
            Some(text) => replace(&self.dir, OVERRIDES, text),
            None => fs::remove_file(self.dir.join(OVERRIDES)),
        };
        if let Err(error) = put {
            tracing::error!(%error, "a change that was not made stands in the operators' directory: a restart would make it");
        }
    }

    /// Lines are durable.
    fn note(&self, audit: &mut Audit, written: &Written) {
        audit.settle(written);
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = audit.head().clone();
    }

    /// Writes lines of the audit log alone. Blocks on the disk.
    ///
    /// # Errors
    /// [`NotWritten`]
    pub fn record(&self, lines: &[Line], at: Unix) -> Result<(), NotWritten> {
        self.record_with(lines, at, || Ok(()))
    }

    /// Writes lines of the audit log and does what they say. Blocks on the disk.
    ///
    /// # Errors
    /// [`NotWritten`]: then there are no lines, and nothing was done.
    pub(super) fn record_with(
        &self,
        lines: &[Line],
        at: Unix,
        done: impl FnOnce() -> Result<(), NotWritten>,
    ) -> Result<(), NotWritten> {
        let mut audit = self.audit();
        let written = audit.append(lines, at).map_err(|error| NotWritten::of(&self.dir, error))?;
        if let Err(error) = done() {
            audit.take_back(written);
            return Err(error);
        }
        self.note(&mut audit, &written);
        Ok(())
    }

    /// Waits until nobody else of this process hands something out or takes it back.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.handing_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of the audit log: its number of lines and last hash.
    pub fn head(&self) -> Value {
        audit::shown(&self.head.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last lines of the audit log. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last(&self, most: usize) -> io::Result<Vec<Value>> {
        audit::last(&self.dir, most)
    }
}

/// What a file says of overrides; none when it is not there.
fn read(path: &Path) -> io::Result<Overrides> {
    let Some(text) = content(path)? else { return Ok(Overrides::default()) };
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// What stands in a file, if it is there.
fn content(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(facts) if facts.len() > LARGEST => Err(io::Error::other("larger than any file of ours")),
        Ok(_) => fs::read(path).map(Some),
        Err(error) => Err(error),
    }
}

/// Writes a file of the operators' directory so that nobody ever reads half of it. Blocks on the disk.
///
/// # Errors
/// When it cannot be written.
pub(super) fn replace(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let beside = beside(dir, name, text)?;
    fs::rename(beside, dir.join(name))
}

/// Writes the new content of a file beside it, durably.
fn beside(dir: &Path, name: &str, text: &[u8]) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = dir.join(format!("{name}.new"));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
    if written.is_err() {
        let _ = fs::remove_file(&path);
    }
    written.map(|()| path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;
    use crate::domain::names::RoomName;
    use crate::domain::overrides::{Asked, Subject, Wish};

    fn changed() -> Overrides {
        let mut overrides = Overrides::default();
        let asked = Asked { by: "ann".into(), at: Unix(1), until: None };
        let rate = Some(Wish::Rate("7/s".parse().unwrap()));
        overrides.set(&RoomName::new("fair").unwrap(), Subject::Rate, rate, &asked).unwrap();
        overrides
    }

    fn line() -> [Line; 1] {
        [Line { what: "rate", details: json!({}) }]
    }

    #[test]
    fn what_was_changed_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("operators");
        let (books, before) = Books::open(&dir).unwrap();
        assert_eq!(before, Overrides::default());
        books.commit(&changed(), &line(), Unix(1)).unwrap();
        let (books, again) = Books::open(&dir).unwrap();
        assert_eq!(again, changed());
        assert_eq!(books.head()["lines"], 1);
        assert_eq!(fs::metadata(dir.join(OVERRIDES)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn on_a_full_disk_nothing_is_half_done() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", directory.path().join(audit::FILE)).unwrap();
        let (books, _) = Books::open(directory.path()).unwrap();
        let error = books.commit(&changed(), &line(), Unix(1)).unwrap_err().to_string();
        assert!(error.starts_with("nothing was changed"), "{error}");
        assert_eq!(Books::open(directory.path()).unwrap().1, Overrides::default());
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [audit::FILE]);
    }

    #[test]
    fn overrides_that_cannot_be_placed_leave_no_line_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let (books, _) = Books::open(directory.path()).unwrap();
        books.commit(&changed(), &line(), Unix(1)).unwrap();
        fs::remove_file(directory.path().join(OVERRIDES)).unwrap();
        fs::create_dir(directory.path().join(OVERRIDES)).unwrap();
        assert!(books.commit(&changed(), &line(), Unix(2)).is_err());
        assert_eq!(audit::verify(&directory.path().join(audit::FILE), None).unwrap().lines, 1);
    }

    #[test]
    fn what_could_not_be_done_has_no_line_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let (books, _) = Books::open(directory.path()).unwrap();
        let fails = || Err(NotWritten::of(directory.path(), io::ErrorKind::StorageFull.into()));
        books.record_with(&line(), Unix(1), fails).unwrap_err();
        assert_eq!(books.head()["lines"], 0);
        books.record_with(&line(), Unix(2), || Ok(())).unwrap();
        assert_eq!(audit::verify(&directory.path().join(audit::FILE), None).unwrap().lines, 1);
    }

    #[test]
    fn overrides_that_cannot_be_read_are_not_taken_for_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(OVERRIDES), "{").unwrap();
        let error = Books::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains(OVERRIDES) && error.contains("move it away"), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join(OVERRIDES)).unwrap(), "{", "left where it is");
    }

    #[test]
    fn the_logs_end_is_shown_while_a_line_is_being_written() {
        let directory = tempfile::tempdir().unwrap();
        let (books, _) = Books::open(directory.path()).unwrap();
        books.record(&line(), Unix(1)).unwrap();
        let writing = books.audit();
        assert_eq!(books.head()["lines"], 1);
        drop(writing);
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let (books, _) = Books::open(directory.path()).unwrap();
        let mut overrides = Overrides::default();
        let asked = Asked { by: "x".repeat(LARGEST as usize), at: Unix(1), until: None };
        let rate = Some(Wish::Rate("7/s".parse().unwrap()));
        overrides.set(&RoomName::new("fair").unwrap(), Subject::Rate, rate, &asked).unwrap();
        assert!(books.commit(&overrides, &line(), Unix(1)).is_err());
        assert_eq!(Books::open(directory.path()).unwrap().1, Overrides::default());
    }
}
