//! Invitation codes on disk. Each has two files in a directory that only the program's user may read: `ID.json`, which
//! `anticamera codes` writes, and `ID.uses`, to which the running program adds a line for each ticket drawn. So neither
//! ever overwrites what the other wrote.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::invitation::{Code, Invitation, RANDOM_BYTES, find};
use crate::domain::names::ClassName;
use crate::domain::proof::Failure;
use crate::domain::time::{Now, Unix};
use crate::entropy::{self, NoEntropy};
use crate::folder::{self, Found, Looks, Prepared, Why};

/// Codes at most: each attempt looks at all of them.
const MOST: usize = 20_000;
/// Random bytes of a code's name.
const ID_BYTES: usize = 5;

/// Why codes cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodesFault {
    /// The directory or a file.
    #[error("invitation codes in {0}: {1}; let the user anticamera runs as read and write them")]
    Io(PathBuf, io::Error),
    /// A file that says something else.
    #[error("{0} is no invitation code: {1}; move it away")]
    Content(PathBuf, serde_json::Error),
    /// There is none of that name.
    #[error("there is no invitation code {0:?}; `anticamera codes list` shows them")]
    Unknown(String),
    /// More than can be looked through.
    #[error("there are {MOST} invitation codes in {0}: move away those that have expired")]
    TooMany(PathBuf),
    /// No random bytes.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// The codes of a directory.
#[derive(Debug)]
pub struct Codes {
    dir: PathBuf,
    known: Mutex<Vec<Known>>,
    looks: Mutex<Looks>,
}

/// A code and how often it was used.
#[derive(Clone, Debug)]
pub struct Known {
    /// What was handed out.
    pub invitation: Invitation,
    /// Tickets drawn with it, and those being drawn.
    pub used: u32,
}

/// What a code is to be good for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The class it proves.
    pub class: ClassName,
    /// To whom it is given.
    pub identity: String,
    /// How many tickets may be drawn with it.
    pub uses: u32,
    /// Until when.
    pub expires: Unix,
}

/// A use of a code that counts already; unless it is confirmed it is given back.
#[derive(Debug)]
pub struct Reservation {
    codes: Arc<Codes>,
    id: String,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    Confirmed,
}

impl Codes {
    /// Opens a directory, which need not be there yet.
    ///
    /// # Errors
    /// [`CodesFault`]
    pub fn open(dir: &Path) -> Result<Codes, CodesFault> {
        let found = read_all(dir)?;
        report(found.broken);
        Ok(Codes { dir: dir.to_owned(), known: Mutex::new(found.known), looks: Mutex::default() })
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes over what was written since. What cannot be read at this moment, the directory or a file, stays as it was; a
    /// file that says something else is reported, and its code is good for nothing until it is mended.
    pub fn read_again(&self) {
        let changed = fs::metadata(&self.dir).and_then(|facts| facts.modified()).ok();
        if !self.looks.lock().unwrap_or_else(PoisonError::into_inner).is_due(changed) {
            return;
        }
        match read_all(&self.dir) {
            Ok(found) => {
                let mut known = self.lock();
                let before = |id: &str| known.iter().find(|known| known.invitation.id == id);
                let used = |id: &str| before(id).map_or(0, |known| known.used);
                let kept: Vec<Known> = found.unreadable().filter_map(before).cloned().collect();
                let Found { known: read, broken } = found;
                let merged = read.into_iter().map(|new| Known { used: new.used.max(used(&new.invitation.id)), ..new });
                let merged: Vec<Known> = merged.chain(kept).collect();
                *known = merged;
                drop(known);
                report(broken);
            }
            Err(error) => tracing::warn!(%error, "the invitation codes read last stay in force"),
        }
    }

    /// Takes one use of a code of the class, and says to whom it was given.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn reserve(
        self: &Arc<Self>,
        typed: &str,
        class: &ClassName,
        now: Now,
    ) -> Result<(String, Reservation), Failure> {
        let hash = Code::read(typed).ok_or(Failure::UnknownCode)?.hash();
        let mut known = self.lock();
        let at = find(known.iter().map(|known| &known.invitation.hash), &hash).ok_or(Failure::UnknownCode)?;
        let found = known.get_mut(at).filter(|known| known.invitation.class == class.as_str());
        let found = found.ok_or(Failure::UnknownCode)?;
        found.invitation.usable(found.used, now.unix.0 / 1000)?;
        found.used += 1;
        let reservation = Reservation { codes: self.clone(), id: found.invitation.id.clone(), state: State::Open };
        Ok((found.invitation.identity.clone(), reservation))
    }

    fn give_back(&self, id: &str) {
        if let Some(known) = self.lock().iter_mut().find(|known| known.invitation.id == id) {
            known.used = known.used.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// A ticket was drawn: the use is written down. To be called where blocking is allowed.
    pub fn confirm(mut self, now: Now) {
        self.state = State::Confirmed;
        let path = self.codes.dir.join(format!("{}.uses", self.id));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(format!("{}\n", now.unix.0 / 1000).as_bytes())?;
            file.sync_data()
        });
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "the use of an invitation code counts only until a restart");
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.state == State::Open {
            self.codes.give_back(&self.id);
        }
    }
}

fn report(broken: Vec<(PathBuf, Why)>) {
    for error in broken.into_iter().map(fault) {
        tracing::error!(%error, "an invitation code cannot be read; what is not known is good for nothing");
    }
}

/// Makes a code. It is returned once; only its hash is kept.
///
/// # Errors
/// [`CodesFault`]
pub fn create(dir: &Path, wanted: Wanted, now: Unix) -> Result<(Code, Invitation), CodesFault> {
    let (code, invitation) = draft(dir, wanted, now)?;
    put(dir, &invitation)?;
    Ok((code, invitation))
}

/// A code that is good for nothing until what is kept of it is written.
///
/// # Errors
/// [`CodesFault`]
pub fn draft(dir: &Path, wanted: Wanted, now: Unix) -> Result<(Code, Invitation), CodesFault> {
    if read_all(dir)?.known.len() >= MOST {
        return Err(CodesFault::TooMany(dir.to_owned()));
    }
    let code = Code::of(entropy::bytes::<RANDOM_BYTES>()?);
    let id = entropy::bytes::<ID_BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let Wanted { class, identity, uses, expires } = wanted;
    let invitation = Invitation {
        id,
        class: class.as_str().to_owned(),
        identity,
        hash: code.hash(),
        uses,
        expires: expires.0 / 1000,
        created: now.0 / 1000,
        revoked: false,
    };
    Ok((code, invitation))
}

/// All codes of a directory, the oldest first, and the files that are none.
///
/// # Errors
/// [`CodesFault`]
pub fn list(dir: &Path) -> Result<(Vec<Known>, Vec<CodesFault>), CodesFault> {
    let Found { mut known, broken } = read_all(dir)?;
    known.sort_by(|one, other| {
        let key = |known: &Known| (known.invitation.created, known.invitation.id.clone());
        key(one).cmp(&key(other))
    });
    Ok((known, broken.into_iter().map(fault).collect()))
}

/// Takes a code back.
///
/// # Errors
/// [`CodesFault`]
pub fn revoke(dir: &Path, id: &str) -> Result<Invitation, CodesFault> {
    let known = read_all(dir)?.known.into_iter().find(|known| known.invitation.id == id);
    let known = known.ok_or_else(|| CodesFault::Unknown(id.to_owned()))?;
    let revoked = Invitation { revoked: true, ..known.invitation };
    put(dir, &revoked)?;
    Ok(revoked)
}

/// Reads every file, and says which of them say nothing.
fn read_all(dir: &Path) -> Result<Found<Known>, CodesFault> {
    folder::read(dir, MOST, read_one).map_err(|error| CodesFault::Io(dir.to_owned(), error))
}

fn fault((path, why): (PathBuf, Why)) -> CodesFault {
    match why {
        Why::Io(error) => CodesFault::Io(path, error),
        Why::Content(error) => CodesFault::Content(path, error),
    }
}

fn read_one(path: &Path) -> Result<Known, Why> {
    let invitation = folder::read_json(path, |invitation: &Invitation| &invitation.id)?;
    let uses = match fs::read(path.with_extension("uses")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        uses => uses.map_err(Why::Io)?,
    };
    let lines = uses.iter().filter(|byte| **byte == b'\n').count();
    Ok(Known { invitation, used: u32::try_from(lines).unwrap_or(u32::MAX) })
}

fn put(dir: &Path, invitation: &Invitation) -> Result<(), CodesFault> {
    prepare(dir, invitation).and_then(Prepared::keep).map_err(|error| CodesFault::Io(dir.to_owned(), error))
}

/// Writes what is kept of a code beside its name.
///
/// # Errors
/// When it cannot be written.
pub fn prepare(dir: &Path, invitation: &Invitation) -> io::Result<Prepared> {
    folder::prepare(dir, &invitation.id, &serde_json::to_vec_pretty(invitation)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Mono;

    fn now(seconds: u64) -> Now {
        let unix = Unix(seconds * 1000);
        Now { mono: Mono(0), unix, wall: unix }
    }

    fn wanted(uses: u32) -> Wanted {
        let class = ClassName::new("office").unwrap();
        Wanted { class, identity: "office 123".into(), uses, expires: Unix(2_000_000) }
    }

    #[test]
    fn a_code_is_good_for_its_uses_which_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("codes");
        let (code, invitation) = create(&dir, wanted(2), Unix(0)).unwrap();
        let (typed, office) = (code.to_string(), ClassName::new("office").unwrap());
        let codes = Arc::new(Codes::open(&dir).unwrap());
        let reserve = |codes: &Arc<Codes>| codes.reserve(&typed, &office, now(1000));
        let (identity, first) = reserve(&codes).unwrap();
        assert_eq!(identity, "office 123");
        first.confirm(now(1000));
        drop(reserve(&codes).unwrap());
        let (_, second) = reserve(&codes).expect("what was not confirmed was given back");
        assert_eq!(reserve(&codes).unwrap_err(), Failure::UsedUp);
        second.confirm(now(1001));
        let again = Arc::new(Codes::open(&dir).unwrap());
        assert_eq!(reserve(&again).unwrap_err(), Failure::UsedUp);
        assert_eq!(list(&dir).unwrap().0[0].used, 2);
        let files = fs::read_to_string(dir.join(format!("{}.json", invitation.id))).unwrap();
        assert!(!files.contains(&typed) && !files.contains(&typed.replace('-', "")));
    }

    #[test]
    fn revoked_expired_foreign_and_unknown_codes_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("codes");
        let codes = Arc::new(Codes::open(&dir).unwrap());
        let (code, invitation) = create(&dir, wanted(5), Unix(0)).unwrap();
        let (typed, office) = (code.to_string(), ClassName::new("office").unwrap());
        let failure = |class: &ClassName, typed: &str, at| codes.reserve(typed, class, now(at)).map(drop).unwrap_err();
        assert_eq!(failure(&office, &typed, 0), Failure::UnknownCode, "not read yet");
        codes.read_again();
        assert!(codes.reserve(&typed, &office, now(0)).is_ok());
        assert_eq!(failure(&office, &typed, 2000), Failure::Expired);
        assert_eq!(failure(&ClassName::new("press").unwrap(), &typed, 0), Failure::UnknownCode);
        assert_eq!(failure(&office, "0000-0000-0000-0000", 0), Failure::UnknownCode);
        assert_eq!(failure(&office, "", 0), Failure::UnknownCode);
        revoke(&dir, &invitation.id).unwrap();
        codes.read_again();
        assert_eq!(failure(&office, &typed, 0), Failure::Revoked);
        assert!(matches!(revoke(&dir, "ffff"), Err(CodesFault::Unknown(_))));
        fs::write(dir.join("broken.json"), "{").unwrap();
        codes.read_again();
        assert_eq!(failure(&office, &typed, 0), Failure::Revoked);
    }

    #[test]
    fn a_broken_file_does_not_freeze_the_revocations_of_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("codes");
        let office = ClassName::new("office").unwrap();
        let (first, revoked) = create(&dir, wanted(5), Unix(0)).unwrap();
        let (second, broken) = create(&dir, wanted(5), Unix(0)).unwrap();
        let codes = Arc::new(Codes::open(&dir).unwrap());
        let tried = |code: &Code| codes.reserve(&code.to_string(), &office, now(0)).map(drop);
        assert!(tried(&first).is_ok() && tried(&second).is_ok());
        fs::write(dir.join(format!("{}.json", broken.id)), "{").unwrap();
        revoke(&dir, &revoked.id).expect("the broken one keeps nobody from taking another back");
        codes.read_again();
        assert_eq!(tried(&first), Err(Failure::Revoked));
        assert_eq!(tried(&second), Err(Failure::UnknownCode), "what it may have said is not known");
        let (known, faults) = list(&dir).unwrap();
        assert_eq!((known.len(), faults.len()), (1, 1));
        // A start finds the others too.
        assert!(Arc::new(Codes::open(&dir).unwrap()).reserve(&first.to_string(), &office, now(0)).is_err());
    }
    #[test]
    fn a_file_that_cannot_be_read_at_this_moment_says_what_it_said() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("codes");
        let office = ClassName::new("office").unwrap();
        let (code, invitation) = create(&dir, wanted(2), Unix(0)).unwrap();
        let codes = Arc::new(Codes::open(&dir).unwrap());
        codes.reserve(&code.to_string(), &office, now(0)).unwrap().1.confirm(now(0));
        // Reading a directory as a file is an error of the file system.
        let file = dir.join(format!("{}.json", invitation.id));
        let text = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        codes.read_again();
        codes.reserve(&code.to_string(), &office, now(0)).expect("the second use").1.confirm(now(0));
        assert_eq!(codes.reserve(&code.to_string(), &office, now(0)).map(drop), Err(Failure::UsedUp));
        fs::remove_dir(&file).unwrap();
        fs::write(&file, text).unwrap();
        codes.read_again();
        assert_eq!(codes.reserve(&code.to_string(), &office, now(0)).map(drop), Err(Failure::UsedUp));
    }
}
