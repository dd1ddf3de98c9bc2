//! The file as the operating system sees it: where it is, who may read it, and how it comes to be.
//!
//! A state file is made beside its place and moved there when it is whole, so that an empty or half-made file in its
//! place is always damage, never a beginning.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, Error};

/// Enough for the hot pages; the file is read whole only at a start.
const CACHE_BYTES: usize = 8 << 20;

/// Where the state is.
#[derive(Debug)]
pub enum Disk {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A disk that fails and forgets as a test wants it.
    #[cfg(test)]
    Simulated(super::simulated::SimulatedDisk),
}

impl Disk {
    /// The file's name, for people.
    pub fn file(&self) -> PathBuf {
        match self {
            Disk::Directory(directory) => directory.join("line.redb"),
            #[cfg(test)]
            Disk::Simulated(_) => "simulated.redb".into(),
        }
    }

    /// Whether there is a state file.
    pub fn has_file(&self) -> io::Result<bool> {
        match self {
            Disk::Directory(_) => self.file().try_exists(),
            #[cfg(test)]
            Disk::Simulated(disk) => Ok(disk.has_file()),
        }
    }

    /// Opens the state file and checks every page of it: what is damaged is an error, never a panic or a guess.
    pub fn open(&self) -> Result<Database, Error> {
        match self {
            Disk::Directory(_) => Ok(builder().open(self.file())?),
            #[cfg(test)]
            Disk::Simulated(disk) => Ok(builder().create_with_backend(disk.clone())?),
        }
    }

    /// Makes a state file; `fill` puts in what every state file has.
    pub fn create(&self, fill: impl FnOnce(&Database) -> Result<(), Error>) -> Result<(), Error> {
        match self {
            Disk::Directory(directory) => create_in(directory, &self.file(), fill),
            #[cfg(test)]
            Disk::Simulated(disk) => fill(&builder().create_with_backend(disk.clone())?),
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn create_in(directory: &Path, file: &Path, fill: impl FnOnce(&Database) -> Result<(), Error>) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let _alone = alone_in(directory)?;
    if file.try_exists()? {
        return Ok(());
    }
    let unfinished = file.with_extension("unfinished");
    if unfinished.try_exists()? {
        std::fs::remove_file(&unfinished)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let database = builder().create(&unfinished)?;
    fill(&database)?;
    database.close()?;
    std::fs::rename(&unfinished, file)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// Keeps two processes from making the file at once.
fn alone_in(directory: &Path) -> Result<File, Error> {
    let directory = File::open(directory)?;
    match directory.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::DatabaseAlreadyOpen),
        // Some file systems lock no directories; two first starts at once are an operator's slip there.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(directory),
    }
}
