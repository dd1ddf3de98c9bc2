//! Notices that the configuration file says something else than before, however it was changed: written in place,
//! replaced by a rename, or reached through a symbolic link that was turned round (as Kubernetes does).
//!
//! The directory is watched, not the file, because a replaced file is another file. The system's events only say when
//! to look; what counts is the text itself, and it is looked at now and then even without an event, for file systems
//! that send none. Files live in real time, so this runs on real time and not on the program's clock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// A changed file must stay the same for so long before it is reported, because it may be half written.
const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// Events are gathered for so long before the file is looked at, because others may be writing in its directory.
const GATHERED_FOR: Duration = Duration::from_millis(100);

/// How often the file is looked at without an event.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Watches one file. Make it before the file is loaded, so that no change in between is missed.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    reported: Contents,
    stirred: Arc<Notify>,
    /// `None` when the system has no more watches to give: then the file is only looked at now and then.
    watcher: Option<RecommendedWatcher>,
}

/// What was seen at the file's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// Nothing; perhaps just now being replaced.
    Missing,
    /// Something that cannot be read, or is no regular file.
    Unreadable,
    /// A text with this hash.
    Text([u8; 32]),
}

impl Watch {
    /// Begins to watch the file at `path`, which reads now as it is known to the caller.
    pub fn new(path: &Path) -> Watch {
        let stirred = Arc::new(Notify::new());
        let watcher = watcher(Arc::clone(&stirred))
            .inspect_err(|why| tracing::warn!(%why, "no notice of changed files; looking every 5 s instead"))
            .ok();
        let mut watch = Watch { path: path.to_owned(), reported: Contents::at(path), stirred, watcher };
        watch.watch_directories();
        watch
    }

    /// Waits until the file says something else than when this was last reported, and has said so for 200 ms.
    ///
    /// A file that vanishes is not reported; one that can no longer be read is. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            if self.look().await != self.reported {
                let settled = self.settled().await;
                if settled != self.reported && settled != Contents::Missing {
                    self.reported = settled;
                    self.watch_directories();
                    return;
                }
            }
            // A timeout is no failure: it is time to look without an event.
            let _ = timeout(LOOK_EVERY, self.stirred.notified()).await;
            sleep(GATHERED_FOR).await;
        }
    }

    async fn settled(&self) -> Contents {
        let mut before = self.look().await;
        loop {
            sleep(SETTLED_AFTER).await;
            let now = self.look().await;
            if now == before {
                return now;
            }
            before = now;
        }
    }

    async fn look(&self) -> Contents {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || Contents::at(&path)).await.unwrap_or(Contents::Unreadable)
    }

    /// Watches the directory in which the file's name stands, and the one to which a link leads.
    fn watch_directories(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let target = fs::canonicalize(&self.path).ok();
        for file in [Some(self.path.clone()), target].into_iter().flatten() {
            if let Err(why) = watcher.watch(directory_of(&file), RecursiveMode::NonRecursive) {
                tracing::warn!(%why, "no notice of changes in a directory; looking every 5 s instead");
            }
        }
    }
}

impl Contents {
    fn at(path: &Path) -> Contents {
        match read(path) {
            Ok(bytes) => Contents::Text(Sha256::digest(&bytes).into()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Contents::Missing,
            Err(_) => Contents::Unreadable,
        }
    }
}

/// Reads a regular file; a pipe would be emptied by looking at it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() { super::bytes_of(path) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn watcher(stirred: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| may_change(event.kind)) {
            stirred.notify_one();
        }
    })
}

/// Opening and reading change nothing, and looking at the file is opening and reading it.
fn may_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than a change takes to be seen.
    const AT_MOST: Duration = Duration::from_secs(20);

    fn watched(text: &str) -> (tempfile::TempDir, PathBuf, Watch) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, text).unwrap();
        let watch = Watch::new(&file);
        (directory, file, watch)
    }

    #[tokio::test]
    async fn sees_a_file_written_in_place() {
        let (_directory, file, mut watch) = watched("a = 1");
        fs::write(&file, "a = 2").unwrap();
        timeout(AT_MOST, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn sees_one_replacement_after_another() {
        let (directory, file, mut watch) = watched("a = 1");
        for text in ["a = 2", "a = 3"] {
            let new = directory.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &file).unwrap();
            timeout(AT_MOST, watch.changed()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn sees_a_link_turned_round() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, text) in [("one", "a = 1"), ("two", "a = 2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("config.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("one", at("data")).unwrap();
        std::os::unix::fs::symlink("data/config.toml", at("config.toml")).unwrap();
        let mut watch = Watch::new(&at("config.toml"));

        std::os::unix::fs::symlink("two", at("data_new")).unwrap();
        fs::rename(at("data_new"), at("data")).unwrap();
        timeout(AT_MOST, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn sees_a_change_behind_a_link() {
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("real.toml");
        fs::write(&target, "a = 1").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("config.toml");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut watch = Watch::new(&link);

        fs::write(&target, "a = 2").unwrap();
        timeout(AT_MOST, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn reports_neither_other_files_nor_the_same_text_nor_a_vanished_file() {
        let (directory, file, mut watch) = watched("a = 1");
        fs::write(directory.path().join("other"), "b = 1").unwrap();
        fs::write(&file, "a = 1").unwrap();
        assert!(timeout(3 * SETTLED_AFTER, watch.changed()).await.is_err(), "nothing changed");
        fs::remove_file(&file).unwrap();
        assert!(timeout(3 * SETTLED_AFTER, watch.changed()).await.is_err(), "the old text stays in force");
        fs::write(&file, "a = 2").unwrap();
        timeout(AT_MOST, watch.changed()).await.unwrap();
    }

    #[test]
    fn looking_at_the_file_is_no_event() {
        assert!(!may_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!may_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(may_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(may_change(EventKind::Any));
    }
}
