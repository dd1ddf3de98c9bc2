//! Key files: reads the directory of master keys, and creates the first one. What the keys are for is in
//! [`domain::keyring`](crate::domain::keyring).
//!
//! A key is a file `<id>.key` (id 0 to 255) of 32 random bytes that nobody but its owner may read. Its age is the time
//! since the file was last modified: whoever copies keys to another machine keeps their times (`cp -p`). Other files in
//! the directory are left alone. Everything here blocks and belongs on a control thread.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::domain::keyring::{KeyId, Keyring, KeyringFault, MasterKey, SECRET_LEN, Secret};
use crate::entropy::{self, NoEntropy};

/// Everything that is wrong with the keys, at once.
#[derive(Debug)]
pub struct KeyFaults(Vec<KeyFault>);

impl KeyFaults {
    /// The faults, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &KeyFault> {
        self.0.iter()
    }
}

impl fmt::Display for KeyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for KeyFaults {}

/// One thing that is wrong with the keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The directory cannot be listed.
    #[error("key directory {0} cannot be read: {1}; check tokens.key_dir and the directory's permissions")]
    Directory(PathBuf, io::Error),
    /// A file's name has the ending but no number.
    #[error("{0} is no key: name key files by a number from 0 to 255, such as 0.key, or move the file away")]
    Name(PathBuf),
    /// A file cannot be read.
    #[error("key {0} cannot be read: {1}; make it readable for the user anticamera runs as")]
    Unreadable(PathBuf, io::Error),
    /// Others could read the key, and forge places with it.
    #[error(
        "key {0} has mode {1:04o}, so that others can use it: chmod 600 it, and replace it if they may have read it"
    )]
    Exposed(PathBuf, u32),
    /// A file has another size than a key.
    #[error(
        "key {0} is not {SECRET_LEN} bytes long: write one with `head -c {SECRET_LEN} /dev/urandom`, or restore the file"
    )]
    Length(PathBuf),
    /// The first key cannot be written.
    #[error("the first key cannot be created in {0}: {1}; make the directory writable or put a key there")]
    NotCreated(PathBuf, io::Error),
    /// The first key cannot be drawn.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The files are good, but make no ring.
    #[error("key directory {0}: {1}")]
    Ring(PathBuf, KeyringFault),
}

impl From<KeyFault> for KeyFaults {
    fn from(fault: KeyFault) -> KeyFaults {
        KeyFaults(vec![fault])
    }
}

/// Reads all keys of the directory, as a reload does: it creates nothing, and a directory without keys is a fault.
///
/// # Errors
/// [`KeyFaults`] with everything that is wrong; whoever has a ring keeps it then.
pub fn load(dir: &Path, activate_after: Duration) -> Result<Keyring, KeyFaults> {
    let mut keys = Vec::new();
    let mut faults = Vec::new();
    for path in key_files(dir)? {
        match read(&path) {
            Ok(key) => keys.push(key),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(KeyFaults(faults));
    }
    Keyring::new(keys, activate_after).map_err(|fault| KeyFault::Ring(dir.to_owned(), fault).into())
}

/// Reads all keys of the directory, as a start does: where there is none, the directory (mode 0700) and the first key
/// (`0.key`, mode 0600) are created.
///
/// # Errors
/// [`KeyFaults`] with everything that is wrong.
pub fn load_or_create(dir: &Path, activate_after: Duration) -> Result<Keyring, KeyFaults> {
    if is_first_start(dir)? {
        create_first(dir)?;
    }
    load(dir, activate_after)
}

fn is_first_start(dir: &Path) -> Result<bool, KeyFault> {
    match key_files(dir) {
        Ok(files) => Ok(files.is_empty()),
        Err(KeyFault::Directory(_, fault)) if fault.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(fault) => Err(fault),
    }
}

/// All files with the ending of a key, in the order of their names.
fn key_files(dir: &Path) -> Result<Vec<PathBuf>, KeyFault> {
    let unlisted = |fault| KeyFault::Directory(dir.to_owned(), fault);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unlisted)? {
        let path = entry.map_err(unlisted)?.path();
        if path.extension().is_some_and(|ending| ending == "key") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<MasterKey, KeyFault> {
    let id = id_of(path).ok_or_else(|| KeyFault::Name(path.to_owned()))?;
    let unreadable = |fault| KeyFault::Unreadable(path.to_owned(), fault);
    // Asked before opening, because opening a named pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(KeyFault::Name(path.to_owned()));
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if facts.mode() & 0o077 != 0 {
        return Err(KeyFault::Exposed(path.to_owned(), facts.mode() & 0o7777));
    }
    if facts.len() != SECRET_LEN as u64 {
        return Err(KeyFault::Length(path.to_owned()));
    }
    let mut bytes = Zeroizing::new([0; SECRET_LEN]);
    file.read_exact(&mut *bytes).map_err(unreadable)?;
    let modified = facts.modified().map_err(unreadable)?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = u32::try_from(modified.as_secs()).unwrap_or(u32::MAX);
    Ok(MasterKey { id, created, secret: Secret::new(*bytes) })
}

/// The number in the file's name, written in the one plain way: `7.key`, never `07.key` or `+7.key`.
fn id_of(path: &Path) -> Option<KeyId> {
    let stem = path.file_stem()?.to_str()?;
    let id: u8 = stem.parse().ok()?;
    (id.to_string() == stem).then_some(KeyId(id))
}

fn create_first(dir: &Path) -> Result<(), KeyFault> {
    let secret = Zeroizing::new(entropy::bytes::<SECRET_LEN>()?);
    let suffix = u64::from_be_bytes(entropy::bytes()?);
    let temporary = dir.join(format!(".0.key.{suffix:016x}"));
    let written = make_dir(dir)
        .and_then(|()| write_durably(&temporary, &*secret))
        .and_then(|()| name_if_free(&temporary, &dir.join("0.key")))
        .and_then(|()| sync_names(dir));
    written.map_err(|fault| {
        // A leftover would do no harm, it has no name that is read; so a failure to remove it is none.
        let _ = fs::remove_file(&temporary);
        KeyFault::NotCreated(dir.to_owned(), fault)
    })
}

fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes the key's name in its directory and the directory's name in its parent durable.
fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the temporary file its name, unless another process starting at the same moment was first: then its key
/// counts, because it may already have signed with it.
fn name_if_free(temporary: &Path, wanted: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, wanted) {
        Ok(()) => fs::remove_file(temporary),
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(temporary),
        // Some file systems know no links.
        Err(_) => fs::rename(temporary, wanted),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;
    use crate::domain::names::{ClassId, RoomName};
    use crate::domain::token::{Claim, Kind, LineIdentity, Token, VisitorId};

    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    fn put(dir: &TempDir, name: &str, bytes: &[u8], mode: u32) {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    fn put_key(dir: &TempDir, id: u8, created: u32) {
        let name = format!("{id}.key");
        put(dir, &name, &[id; SECRET_LEN], 0o600);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(created.into());
        File::options().write(true).open(dir.path().join(name)).unwrap().set_modified(at).unwrap();
    }

    fn ids(ring: &Keyring) -> Vec<u8> {
        ring.ids().map(|id| id.0).collect()
    }

    fn faults(dir: &TempDir) -> String {
        load(dir.path(), FIVE_MINUTES).map(|ring| ids(&ring)).unwrap_err().to_string()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_first_start_creates_directory_and_key() {
        let parent = TempDir::new().unwrap();
        let dir = parent.path().join("state/keys");
        let ring = load_or_create(&dir, FIVE_MINUTES).unwrap();
        assert_eq!(ids(&ring), [0]);
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("0.key")), 0o600);
        assert_eq!(fs::read(dir.join("0.key")).unwrap().len(), SECRET_LEN);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_later_start_finds_the_same_key() {
        let dir = TempDir::new().unwrap();
        let room = RoomName::new("a").unwrap();
        let token = Token {
            room: room.id(),
            claim: Claim::Ticket(LineIdentity(1)),
            class: ClassId(1),
            id: VisitorId([1; 16]),
            number: 1,
            issued: 1,
            expires: 100,
        };
        let first = load_or_create(dir.path(), FIVE_MINUTES).unwrap().for_room(&room);
        let later = load_or_create(dir.path(), FIVE_MINUTES).unwrap().for_room(&room);
        let text = first.sign(&token, 1);
        assert_eq!(later.verify(Kind::Ticket, text.as_str().as_bytes(), 1), Ok(token));
        let other_dir = TempDir::new().unwrap();
        let other = load_or_create(other_dir.path(), FIVE_MINUTES).unwrap().for_room(&room);
        assert!(other.verify(Kind::Ticket, text.as_str().as_bytes(), 1).is_err(), "keys are drawn, not constant");
    }

    #[test]
    fn whoever_starts_second_takes_the_first_ones_key() {
        let dir = TempDir::new().unwrap();
        put_key(&dir, 0, 1000);
        create_first(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("0.key")).unwrap(), [0; SECRET_LEN]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn age_is_the_time_since_the_file_was_modified() {
        let dir = TempDir::new().unwrap();
        put_key(&dir, 7, 1000);
        put_key(&dir, 3, 5000);
        let ring = load(dir.path(), FIVE_MINUTES).unwrap();
        assert_eq!(ids(&ring), [7, 3]);
        assert_eq!(ring.signing_key(5299), KeyId(7));
        assert_eq!(ring.signing_key(5300), KeyId(3));
    }

    #[test]
    fn a_removed_file_retires_its_key() {
        let dir = TempDir::new().unwrap();
        put_key(&dir, 0, 1000);
        put_key(&dir, 1, 2000);
        fs::remove_file(dir.path().join("0.key")).unwrap();
        assert_eq!(ids(&load(dir.path(), FIVE_MINUTES).unwrap()), [1]);
    }

    #[test]
    fn a_reload_without_keys_is_a_fault_and_creates_nothing() {
        let dir = TempDir::new().unwrap();
        assert!(faults(&dir).contains("there is no key"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let gone = load(&dir.path().join("gone"), FIVE_MINUTES).map(|ring| ids(&ring)).unwrap_err();
        assert!(gone.to_string().contains("check tokens.key_dir"), "{gone}");
    }

    #[test]
    fn keys_that_others_can_read_are_refused() {
        for mode in [0o640, 0o604, 0o644, 0o660, 0o610] {
            let dir = TempDir::new().unwrap();
            put(&dir, "0.key", &[1; SECRET_LEN], mode);
            let said = faults(&dir);
            assert!(said.contains(&format!("has mode {mode:04o}")) && said.contains("chmod 600"), "{said}");
            assert!(load_or_create(dir.path(), FIVE_MINUTES).is_err(), "a start does not repair it");
        }
    }

    #[test]
    fn all_faults_are_said_at_once() {
        let dir = TempDir::new().unwrap();
        put(&dir, "0.key", &[1; 31], 0o600);
        put(&dir, "1.key", &[1; 33], 0o600);
        for name in ["256.key", "-1.key", "01.key", "+2.key", "old.key"] {
            put(&dir, name, &[1; SECRET_LEN], 0o600);
        }
        fs::create_dir(dir.path().join("9.key")).unwrap();
        put_key(&dir, 5, 1000);
        let faults = load(dir.path(), FIVE_MINUTES).map(|ring| ids(&ring)).unwrap_err();
        assert_eq!(faults.iter().count(), 8, "{faults}");
        assert_eq!(faults.iter().filter(|fault| matches!(fault, KeyFault::Length(_))).count(), 2);
        assert_eq!(faults.iter().filter(|fault| matches!(fault, KeyFault::Name(_))).count(), 6);
    }

    #[test]
    fn too_many_keys_are_refused() {
        let dir = TempDir::new().unwrap();
        (0..33).for_each(|id| put_key(&dir, id, 1000));
        assert!(faults(&dir).contains("there are 33 keys"));
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = TempDir::new().unwrap();
        put_key(&dir, 0, 1000);
        for name in ["README", "0.key.bak", ".0.key.0123", "keys.txt"] {
            put(&dir, name, b"", 0o644);
        }
        assert_eq!(ids(&load(dir.path(), FIVE_MINUTES).unwrap()), [0]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = TempDir::new().unwrap();
        put(&dir, "file", b"", 0o600);
        let fault = load_or_create(&dir.path().join("file/keys"), FIVE_MINUTES).map(|ring| ids(&ring)).unwrap_err();
        assert!(fault.to_string().contains("file/keys"), "{fault}");
    }
}
