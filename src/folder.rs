//! A folder of small files, `ID.json` each, that a command writes and running programs read: invitation codes, passes of
//! staff. Files live in real time. Only the program's user may read the folder.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::{self, DeserializeOwned};

/// When a folder is worth reading.
#[derive(Debug, Default)]
pub struct Looks {
    /// When it was changed last, as far as is known.
    changed: Option<SystemTime>,
    /// So many looks it is read whatever its time says: file systems do not tell changes apart that are close together.
    reads_left: u32,
    /// Looks since it was read.
    since: u32,
}

/// Looks after a change at which the folder is read all the same.
const READS_AFTER_CHANGE: u32 = 3;
/// After so many looks it is read without a change.
const LOOKS_WITHOUT_READING: u32 = 60;

impl Looks {
    /// Whether to read the folder now, which was changed then.
    pub fn is_due(&mut self, changed: Option<SystemTime>) -> bool {
        if changed != self.changed {
            *self = Looks { changed, reads_left: READS_AFTER_CHANGE, since: 0 };
        }
        let due = self.reads_left > 0 || self.since >= LOOKS_WITHOUT_READING;
        self.reads_left = self.reads_left.saturating_sub(1);
        self.since = if due { 0 } else { self.since + 1 };
        due
    }
}

/// Why a file says nothing.
#[derive(Debug)]
pub enum Why {
    /// It cannot be read at this moment. What it said before still holds.
    Io(io::Error),
    /// It says something else.
    Content(serde_json::Error),
}

/// What a folder holds.
#[derive(Debug)]
pub struct Found<T> {
    /// What the files say.
    pub known: Vec<T>,
    /// The files that say nothing.
    pub broken: Vec<(PathBuf, Why)>,
}

impl<T> Found<T> {
    /// The names of those that cannot be read at this moment, without their ending.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        let unreadable = self.broken.iter().filter(|(_, why)| matches!(why, Why::Io(_)));
        unreadable.filter_map(|(path, _)| path.file_stem()?.to_str())
    }
}

/// Reads every file `*.json` of a folder, which need not be there, until so many are known. One that cannot be read, or
/// says something else, keeps nobody from hearing of the others; one that has just been taken away is none.
///
/// # Errors
/// When the folder cannot be read.
pub fn read<T>(dir: &Path, most: usize, read_one: impl Fn(&Path) -> Result<T, Why>) -> io::Result<Found<T>> {
    let mut found = Found { known: Vec::new(), broken: Vec::new() };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "json") || found.known.len() >= most {
            continue;
        }
        match read_one(&path) {
            Ok(known) => found.known.push(known),
            Err(Why::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(why) => found.broken.push((path, why)),
        }
    }
    Ok(found)
}

/// What a file says, in JSON. Under another name than its own it says nothing: whoever takes back the one means the copy too.
///
/// # Errors
/// Why it says nothing.
pub fn read_json<T: DeserializeOwned>(path: &Path, id_of: impl Fn(&T) -> &str) -> Result<T, Why> {
    let text = fs::read(path).map_err(Why::Io)?;
    let said = serde_json::from_slice(&text).map_err(Why::Content)?;
    let id = id_of(&said);
    if path.file_stem().is_none_or(|name| name != id) {
        let fault =
            format!("its name must be {id}.json: give it that name, or move it away if there is one of that name");
        return Err(Why::Content(de::Error::custom(fault)));
    }
    Ok(said)
}

/// Writes `ID.json` beside its name and then gives it the name, so that nobody ever reads half of it.
///
/// # Errors
/// When it cannot be written.
pub fn put(dir: &Path, id: &str, text: &[u8]) -> io::Result<()> {
    prepare(dir, id, text)?.keep()
}

/// A file that stands, whole and durable, beside its name. It gets the name when it is kept; otherwise nothing is left of it.
#[derive(Debug)]
pub struct Prepared {
    beside: PathBuf,
    path: PathBuf,
    /// What the name stands for until then.
    before: Option<Vec<u8>>,
    /// Opened before anything is in its place: afterwards only the disk itself can fail.
    dir: File,
}

/// Makes a directory that only its owner may enter, and those around it, where there are none. What root makes belongs to
/// whoever owns the directory around it: otherwise the program could neither read it nor go on writing there. What is there
/// already stays whose it is.
///
/// # Errors
/// When it cannot be made.
pub fn make(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|level| !is_here(level) && !level.exists()).collect();
    for level in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(level) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.map(|()| give(level, &fs::symlink_metadata(level), |owner, group| lchown(level, owner, group)))?
            }
        }
    }
    Ok(())
}

/// Gives a file that root just made to whoever owns the directory around it, as [`make`] does.
pub fn give_to_owner_around(made: &File, path: &Path) {
    give(path, &made.metadata(), |owner, group| fchown(made, owner, group));
}

/// By the file itself, or by a name that is not followed: whoever owns the directory may put a link there at any moment.
fn give(path: &Path, made: &io::Result<Metadata>, to: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>) {
    let around = path.parent().filter(|around| !is_here(around)).unwrap_or(Path::new("."));
    let (Ok(made), Ok(around)) = (made, fs::metadata(around)) else { return };
    if made.uid() == 0
        && around.uid() != 0
        && let Err(error) = to(Some(around.uid()), Some(around.gid()))
    {
        tracing::warn!(file = %path.display(), %error, "this could not be given to the owner of the directory around it");
    }
}

/// The directory around a name alone.
fn is_here(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// Writes what is to become `ID.json`.
///
/// # Errors
/// When it cannot be written; then nothing is left of it.
pub fn prepare(dir: &Path, id: &str, text: &[u8]) -> io::Result<Prepared> {
    make(dir)?;
    let path = dir.join(format!("{id}.json"));
    // A name of this process's own: a command and the running program may write the same file at once.
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let before = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        text => Some(text?),
    };
    let prepared = Prepared { beside, path, before, dir: File::open(dir)? };
    prepared.write(text)?;
    Ok(prepared)
}

impl Prepared {
    fn write(&self, text: &[u8]) -> io::Result<()> {
        // Nothing of this name may be followed: root writes where somebody else may put links.
        let _ = fs::remove_file(&self.beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.beside)?;
        give_to_owner_around(&file, &self.beside);
        file.write_all(text).and_then(|()| file.sync_all())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When that cannot be made durable; then the name stands for what it stood for before.
    pub fn keep(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)?;
        self.dir.sync_all().inspect_err(|_| self.put_back())
    }

    fn put_back(&self) {
        let put = match &self.before {
            Some(text) => self.write(text).and_then(|()| fs::rename(&self.beside, &self.path)),
            None => fs::remove_file(&self.path),
        };
        if let Err(error) = put {
            tracing::error!(file = %self.path.display(), %error, "a change that was not made stands in this file");
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Once it has its name there is nothing beside it any more.
        let _ = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(dir).unwrap().map(name).collect()
    }

    #[test]
    fn what_is_not_kept_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("codes");
        drop(prepare(&dir, "a", b"one").unwrap());
        assert_eq!(files(&dir), [""; 0]);
        put(&dir, "a", b"one").unwrap();
        drop(prepare(&dir, "a", b"two").unwrap());
        assert_eq!((files(&dir), fs::read(dir.join("a.json")).unwrap()), (vec!["a.json".to_owned()], b"one".to_vec()));
        prepare(&dir, "a", b"two").unwrap().keep().unwrap();
        assert_eq!((files(&dir), fs::read(dir.join("a.json")).unwrap()), (vec!["a.json".to_owned()], b"two".to_vec()));
    }

    fn owner(path: &Path) -> (u32, u32) {
        fs::symlink_metadata(path).map(|facts| (facts.uid(), facts.gid())).unwrap()
    }

    /// A directory of the program's; `None` where the tests are not root's, who alone can try this.
    fn of_the_program() -> Option<tempfile::TempDir> {
        let state = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(state.path(), Some(4321), Some(4321)).ok().map(|()| state)
    }

    #[test]
    fn what_a_command_of_root_writes_can_be_read_by_the_program() {
        let Some(state) = of_the_program() else { return };
        let dir = state.path().join("a").join("passes");
        put(&dir, "a", b"one").unwrap();
        for made in [dir.parent().unwrap(), &dir, &dir.join("a.json")] {
            assert_eq!(owner(made), (4321, 4321), "{}", made.display());
        }
    }

    #[test]
    fn a_command_of_root_gives_away_nothing_that_it_did_not_make() {
        let Some(state) = of_the_program() else { return };
        let elsewhere = tempfile::tempdir().unwrap();
        let secret = elsewhere.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        let mine = owner(&secret);
        // The program's user puts links where root's command writes.
        std::os::unix::fs::symlink(elsewhere.path(), state.path().join("passes")).unwrap();
        put(&state.path().join("passes"), "a", b"one").unwrap();
        let codes = state.path().join("codes");
        make(&codes).unwrap();
        let beside = codes.join(format!("b.{}.new", std::process::id()));
        std::os::unix::fs::symlink(&secret, &beside).unwrap();
        put(&codes, "b", b"two").unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"root's");
        for path in [elsewhere.path(), &secret] {
            assert_eq!(owner(path), mine, "{}", path.display());
        }
        // What root made for itself alone stays root's.
        let kept = state.path().join("kept");
        fs::create_dir(&kept).unwrap();
        put(&kept, "c", b"three").unwrap();
        assert_eq!(owner(&kept), mine);
    }

    #[test]
    fn what_cannot_get_its_name_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let prepared = prepare(directory.path(), "a", b"one").unwrap();
        fs::create_dir(directory.path().join("a.json")).unwrap();
        prepared.keep().unwrap_err();
        assert_eq!(files(directory.path()), ["a.json"]);
        let prepared = prepare(directory.path(), "b", b"one").unwrap();
        prepared.keep().unwrap();
        let again = prepare(directory.path(), "b", b"two").unwrap();
        fs::rename(&again.beside, &again.path).unwrap();
        again.put_back();
        assert_eq!(fs::read(directory.path().join("b.json")).unwrap(), b"one");
    }
}
