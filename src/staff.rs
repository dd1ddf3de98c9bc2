//! Passes of staff and monitoring on disk: one file each, `ID.json`, in a directory that only the program's user may read.
//! `anticamera pass` writes them; every running program with the same directory reads them again when they change.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;

use crate::domain::names::RoomName;
use crate::domain::staff::{StaffPass, Worth, hash_of, is_name};
use crate::domain::time::Unix;
use crate::entropy::{self, NoEntropy};
use crate::folder::{self, Found, Looks, Prepared, Why};
use crate::gateway::snapshot::Snapshot;

/// Passes at most.
const MOST: usize = 1000;
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of a pass's name in lists.
const ID_BYTES: usize = 5;
/// How often the directory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why passes cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StaffFault {
    /// The directory or a file.
    #[error("staff passes in {0}: {1}; let the user anticamera runs as read and write them")]
    Io(PathBuf, io::Error),
    /// A file that says something else.
    #[error("{0} is no staff pass: {1}; move it away")]
    Content(PathBuf, serde_json::Error),
    /// There is none of that name.
    #[error("there is no staff pass {0:?}; `anticamera pass list` shows them")]
    Unknown(String),
    /// More than can be looked through.
    #[error("there are {MOST} staff passes in {0}: move away those that have expired")]
    TooMany(PathBuf),
    /// A name that cannot be shown.
    #[error("{0:?} is no name: write up to 64 letters, digits, blanks and . , : @ _ - / ( )")]
    Name(String),
    /// No random bytes.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// The passes in force, by the hashes of their secrets.
#[derive(Debug, Default)]
pub struct StaffPasses {
    known: RwLock<HashMap<String, StaffPass>>,
    looked: Mutex<(PathBuf, Looks)>,
}

impl StaffPasses {
    /// What the secrets that came along are worth in this room: the first good one counts, otherwise the first known one.
    pub fn of(&self, room: &RoomName, secrets: impl Iterator<Item = impl AsRef<[u8]>>, now: Unix) -> Option<Shown> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return None;
        }
        let mut worthless = None;
        for hash in secrets.filter_map(|secret| hash_of(secret.as_ref())) {
            let Some(pass) = known.get(&hash).filter(|pass| pass.room == room.as_str()) else { continue };
            match pass.worth(now.0 / 1000) {
                Worth::Good => return Some(Shown::Good(Bearer { name: pass.name.clone(), sticky: pass.sticky() })),
                worth => worthless = worthless.or(Some(Shown::Worthless(worth))),
            }
        }
        worthless
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes over what was written since. What cannot be read at this moment stays as it was.
    pub fn look(&self, dir: &Path) {
        let changed = fs::metadata(dir).and_then(|facts| facts.modified()).ok();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.0 != dir {
            *looked = (dir.to_owned(), Looks::default());
        } else if !looked.1.is_due(changed) {
            return;
        }
        match read_all(dir) {
            Ok(found) => {
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                let unreadable: HashSet<&str> = found.unreadable().collect();
                let kept = known.values().filter(|pass| unreadable.contains(pass.id.as_str())).cloned();
                let kept: Vec<StaffPass> = kept.collect();
                let passes = found.known.into_iter().chain(kept);
                *known = passes.map(|pass| (pass.hash.clone(), pass)).collect();
                drop(known);
                for error in found.broken.into_iter().map(fault) {
                    tracing::error!(%error, "a staff pass cannot be read; what is not known opens nothing");
                }
            }
            Err(error) => tracing::warn!(%error, "the staff passes read last stay in force"),
        }
    }
}

/// What a secret that came along is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It opens the room.
    Good(Bearer),
    /// It did once.
    Worthless(Worth),
}

impl Shown {
    /// Who may enter by it.
    pub fn bearer(self) -> Option<Bearer> {
        match self {
            Shown::Good(bearer) => Some(bearer),
            Shown::Worthless(_) => None,
        }
    }
}

/// Whoever enters by a pass of staff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The pass's name.
    pub name: String,
    /// Always the same for one pass: by it the requests of a session go to the same address of the portal.
    pub sticky: u64,
}

/// Keeps the passes up to date. Files live in real time, so this does not run on the program's clock.
pub async fn look_after(passes: Arc<StaffPasses>, snapshot: watch::Receiver<Arc<Snapshot>>) {
    loop {
        let (dir, here) = (snapshot.borrow().config.tokens.pass_dir.clone(), passes.clone());
        // A panic there has been logged.
        let _ = tokio::task::spawn_blocking(move || here.look(&dir)).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a pass is to be good for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The room that it opens.
    pub room: RoomName,
    /// What it is for, or whose it is.
    pub name: String,
    /// Until when.
    pub expires: Unix,
}

/// A pass that opens nothing until what is kept of it is written, and its secret, which is returned once.
///
/// # Errors
/// [`StaffFault`]
pub fn draft(dir: &Path, wanted: Wanted, now: Unix) -> Result<(String, StaffPass), StaffFault> {
    let name = wanted.name.trim().to_owned();
    if !is_name(&name) {
        return Err(StaffFault::Name(wanted.name));
    }
    if list(dir)?.0.len() >= MOST {
        return Err(StaffFault::TooMany(dir.to_owned()));
    }
    let secret = URL_SAFE_NO_PAD.encode(entropy::bytes::<SECRET_BYTES>()?);
    let pass = StaffPass {
        id: entropy::bytes::<ID_BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect(),
        room: wanted.room.as_str().to_owned(),
        name,
        hash: hash_of(secret.as_bytes()).unwrap_or_default(),
        expires: wanted.expires.0 / 1000,
        created: now.0 / 1000,
        revoked: false,
    };
    Ok((secret, pass))
}

/// All passes of a directory, the oldest first, and the files that are none.
///
/// # Errors
/// [`StaffFault`]
pub fn list(dir: &Path) -> Result<(Vec<StaffPass>, Vec<StaffFault>), StaffFault> {
    let Found { known: mut passes, broken } = read_all(dir)?;
    passes.sort_by(|one: &StaffPass, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
    Ok((passes, broken.into_iter().map(fault).collect()))
}

fn read_all(dir: &Path) -> Result<Found<StaffPass>, StaffFault> {
    folder::read(dir, MOST, read_one).map_err(|error| StaffFault::Io(dir.to_owned(), error))
}

fn fault((path, why): (PathBuf, Why)) -> StaffFault {
    match why {
        Why::Io(error) => StaffFault::Io(path, error),
        Why::Content(error) => StaffFault::Content(path, error),
    }
}

fn read_one(path: &Path) -> Result<StaffPass, Why> {
    folder::read_json(path, |pass: &StaffPass| &pass.id)
}

/// Writes what is kept of a pass beside its name.
///
/// # Errors
/// When it cannot be written.
pub fn prepare(dir: &Path, pass: &StaffPass) -> io::Result<Prepared> {
    folder::prepare(dir, &pass.id, &serde_json::to_vec_pretty(pass)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> Wanted {
        Wanted { room: RoomName::new("fair").unwrap(), name: name.to_owned(), expires: Unix(2_000_000) }
    }

    fn create(dir: &Path, wanted: Wanted) -> (String, StaffPass) {
        let (secret, pass) = draft(dir, wanted, Unix(0)).unwrap();
        prepare(dir, &pass).unwrap().keep().unwrap();
        (secret, pass)
    }

    #[test]
    fn a_pass_opens_its_room_until_it_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("passes");
        let passes = StaffPasses::default();
        passes.look(&dir);
        let (secret, pass) = create(&dir, wanted(" monitoring "));
        let text = fs::read_to_string(dir.join(format!("{}.json", pass.id))).unwrap();
        assert!(!text.contains(&secret), "only its hash is kept");
        let (fair, other) = (RoomName::new("fair").unwrap(), RoomName::new("other").unwrap());
        let shown = |room: &RoomName, secret: &str, at| passes.of(room, [secret].iter(), Unix(at));
        let opens = |room: &RoomName, secret: &str, at| {
            shown(room, secret, at).and_then(Shown::bearer).map(|bearer| bearer.name)
        };
        passes.look(&dir);
        assert_eq!(opens(&fair, &secret, 0).as_deref(), Some("monitoring"));
        assert_eq!(opens(&other, &secret, 0), None);
        assert_eq!(opens(&fair, &secret[1..], 0), None);
        assert_eq!(shown(&fair, &secret, 2_000_000), Some(Shown::Worthless(Worth::Expired)));
        fs::write(dir.join("broken.json"), "{").unwrap();
        prepare(&dir, &StaffPass { revoked: true, ..pass }).unwrap().keep().unwrap();
        passes.look(&dir);
        assert_eq!(shown(&fair, &secret, 0), Some(Shown::Worthless(Worth::Revoked)));
        let (listed, broken) = list(&dir).unwrap();
        assert_eq!((listed[0].worth(0), listed.len(), broken.len()), (Worth::Revoked, 1, 1));
        assert!(matches!(draft(&dir, wanted("a\nb"), Unix(0)), Err(StaffFault::Name(_))));
    }

    #[test]
    fn a_pass_that_was_taken_back_does_not_live_on_in_a_copy_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("passes");
        let (secret, pass) = create(&dir, wanted("monitoring"));
        for copy in ["0", "copy", "zz"] {
            fs::copy(dir.join(format!("{}.json", pass.id)), dir.join(format!("{copy}.json"))).unwrap();
        }
        prepare(&dir, &StaffPass { revoked: true, ..pass }).unwrap().keep().unwrap();
        let passes = StaffPasses::default();
        passes.look(&dir);
        let shown = passes.of(&RoomName::new("fair").unwrap(), [&secret].into_iter(), Unix(0));
        assert_eq!(shown, Some(Shown::Worthless(Worth::Revoked)));
        let (known, broken) = list(&dir).unwrap();
        assert_eq!((known.len(), broken.len()), (1, 3));
        assert!(broken.iter().all(|fault| fault.to_string().contains("its name must be")), "{broken:?}");
    }

    #[test]
    fn a_pass_whose_file_cannot_be_read_at_this_moment_opens_what_it_opened() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("passes");
        let (secret, pass) = create(&dir, wanted("monitoring"));
        let passes = StaffPasses::default();
        passes.look(&dir);
        let fair = RoomName::new("fair").unwrap();
        let opens = || passes.of(&fair, [&secret].into_iter(), Unix(0)).and_then(Shown::bearer).is_some();
        // Reading a directory as a file is an error of the file system.
        let file = dir.join(format!("{}.json", pass.id));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        passes.look(&dir);
        assert!(opens());
        fs::remove_dir(&file).unwrap();
        passes.look(&dir);
        assert!(!opens(), "it was taken away");
        fs::write(&file, "{").unwrap();
        passes.look(&dir);
        assert!(!opens());
    }
}
