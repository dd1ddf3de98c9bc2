//! The audit file: one line of JSON for everything that was blocked or reported, with keyed hashes instead of names, so
//! that the people concerned can be counted afterwards and found in the institution's own list.
//!
//! A thread of its own writes, so that no request waits for a disk. The file belongs to its owner alone, gives way to a
//! fresh one once a day or when it is full, and old ones are removed when their time is over, or when there are too many;
//! whether or not anything happens meanwhile.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::config;
use crate::domain::time::Unix;

/// Events that may wait for the disk.
const WAITING: usize = 8192;
/// A file holds one day at most.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How often files are looked through while nothing happens.
const HOUR: Duration = Duration::from_secs(3600);

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: Unix,
    /// Which rule or detector.
    pub rule: &'static str,
    /// What was done.
    pub action: &'static str,
    /// In which room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The request's method.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The request's path, or a route when many are summed up.
    pub path: String,
    /// The status of the portal's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The request's id, as in the log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Whose request it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visitor: Option<String>,
    /// Within which session of the portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whom the answer named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The other visitor concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_visitor: Option<String>,
    /// The other person concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_identity: Option<String>,
    /// The header that gave a cache away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<&'static str>,
    /// How often, when many are summed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

impl Event {
    /// An event about which nothing is known yet.
    pub fn at(at: Unix) -> Event {
        Event {
            at,
            rule: "",
            action: "",
            room: None,
            method: String::new(),
            path: String::new(),
            status: None,
            request_id: String::new(),
            visitor: None,
            session: None,
            identity: None,
            other_visitor: None,
            other_identity: None,
            header: None,
            times: None,
        }
    }
}

/// A line as it is read back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    /// When.
    pub at: String,
    /// Which rule or detector.
    pub rule: String,
    /// What was done.
    pub action: String,
    /// The path, or a route.
    pub path: String,
    /// Whose request it was.
    pub visitor: Option<String>,
    /// Within which session.
    pub session: Option<String>,
    /// Whom the answer named.
    pub identity: Option<String>,
    /// The other visitor concerned.
    pub other_visitor: Option<String>,
    /// The other person concerned.
    pub other_identity: Option<String>,
    /// How often.
    pub times: Option<u64>,
}

fn as_rfc3339<S: serde::Serializer>(at: &Unix, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let timestamp = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    serializer.collect_str(&format_args!("{timestamp:.3}"))
}

/// A hash as it stands in the file.
pub fn hex(hash: [u8; 16]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The way to the file.
#[derive(Debug)]
pub struct Audit {
    writer: Mutex<Option<Writer>>,
    losing: AtomicBool,
}

#[derive(Debug)]
struct Writer {
    events: SyncSender<Event>,
    thread: JoinHandle<()>,
}

impl Audit {
    /// Starts the thread that writes. Nothing is created before there is something to write.
    pub fn start(settings: config::AuditFile, clock: Clock) -> Audit {
        let (events, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("leak-audit".to_owned());
        let thread = thread.spawn(move || write_all(&settings, &clock, &waiting));
        let writer = thread.map(|thread| Writer { events, thread });
        if let Err(error) = &writer {
            tracing::error!(%error, "the system gives no thread for the leak guard's audit file: nothing is written");
        }
        Audit { writer: Mutex::new(writer.ok()), losing: AtomicBool::new(false) }
    }

    /// Hands an event to the writer; what the disk cannot take is lost, and said once.
    pub fn write(&self, event: Event) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = writer.as_ref().is_some_and(|writer| writer.events.try_send(event).is_ok());
        drop(writer);
        if taken {
            self.losing.store(false, Ordering::Relaxed);
        } else if !self.losing.swap(true, Ordering::Relaxed) {
            tracing::error!("the leak guard's audit file takes nothing more: events are lost");
        }
    }

    /// Waits until everything is written.
    pub fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writer { events, thread }) = writer {
            drop(events);
            // The thread has said what went wrong.
            let _ = thread.join();
        }
    }
}

fn write_all(settings: &config::AuditFile, clock: &Clock, waiting: &Receiver<Event>) {
    let mut file = AuditFile { settings, open: None };
    let mut failing = false;
    let mut said = |done: io::Result<()>| match done {
        Ok(()) => failing = false,
        Err(error) if !failing => {
            failing = true;
            tracing::error!(path = %settings.file.display(), %error, "the leak guard's audit file cannot be written");
        }
        Err(_) => {}
    };
    said(file.tidy_up(clock.now().wall));
    loop {
        match waiting.recv_timeout(HOUR) {
            Ok(event) => said(file.append(&event)),
            Err(RecvTimeoutError::Timeout) => said(file.tidy_up(clock.now().wall)),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct AuditFile<'a> {
    settings: &'a config::AuditFile,
    open: Option<Open>,
}

struct Open {
    file: File,
    bytes: u64,
    since: Unix,
}

impl AuditFile<'_> {
    fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut open = match self.open.take() {
            Some(open) => open,
            None => open(&self.settings.file, event.at)?,
        };
        if open.bytes + line.len() as u64 > self.settings.max_bytes as u64 || open.is_old(event.at) {
            drop(open);
            self.put_aside(event.at)?;
            open = self::open(&self.settings.file, event.at)?;
        }
        open.bytes += line.len() as u64;
        open.file.write_all(&line)?;
        self.open = Some(open);
        Ok(())
    }

    /// Puts an old file aside although nobody writes, and removes those whose time is over.
    fn tidy_up(&mut self, now: Unix) -> io::Result<()> {
        let open = match self.open.take() {
            None if self.settings.file.exists() => Some(open(&self.settings.file, now)?),
            open => open,
        };
        match open {
            Some(open) if open.bytes > 0 && open.is_old(now) => self.put_aside(now),
            open => {
                self.open = open;
                remove_old(self.settings, now)
            }
        }
    }

    fn put_aside(&self, now: Unix) -> io::Result<()> {
        fs::rename(&self.settings.file, aside(&self.settings.file, now))?;
        remove_old(self.settings, now)
    }
}

impl Open {
    fn is_old(&self, now: Unix) -> bool {
        now.since(self.since) >= DAY
    }
}

/// Opens the file for its owner alone; one that others could read is taken from them, or refused.
fn open(path: &Path, now: Unix) -> io::Result<Open> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file: remove it, or name another in leak_guard.audit_file"));
    }
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
        let mode = format!("{:04o}", metadata.mode() & 0o7777);
        tracing::warn!(path = %path.display(), mode, "others could read the leak guard's audit file; now only its owner can");
    }
    let changed = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let since = changed.filter(|_| metadata.len() > 0).map_or(now, |at| Unix(at.as_millis() as u64));
    Ok(Open { file, bytes: metadata.len(), since })
}

/// Where a file goes that is complete: its name and the instant, or the next one that is free.
fn aside(path: &Path, now: Unix) -> PathBuf {
    let name = |instant: u64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{instant}"));
        PathBuf::from(name)
    };
    (now.0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(now.0))
}

/// All files: those put aside, oldest first, and the one of the present.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut old = put_aside(path);
    old.sort();
    let mut files: Vec<PathBuf> = old.into_iter().map(|(_, path)| path).collect();
    if path.exists() {
        files.push(path.to_owned());
    }
    files
}

fn put_aside(path: &Path) -> Vec<(u64, PathBuf)> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let instant = |path: &Path| path.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse().ok();
    entries.flatten().filter_map(|entry| Some((instant(&entry.path())?, entry.path()))).collect()
}

/// Removes files whose time is over, and the oldest when there are more than are kept.
fn remove_old(settings: &config::AuditFile, now: Unix) -> io::Result<()> {
    let mut files = put_aside(&settings.file);
    files.sort();
    let too_many = (files.len() + 1).saturating_sub(settings.max_files);
    let mut too_early = 0;
    for (index, (at, path)) in files.iter().enumerate() {
        let is_over = now.since(Unix(*at)) > settings.retention;
        if is_over || index < too_many {
            fs::remove_file(path)?;
            too_early += u32::from(!is_over);
        }
    }
    if too_early > 0 {
        tracing::warn!(
            files = too_early,
            "the leak guard's audit fills more files than leak_guard.audit_max_files: the oldest were removed early"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn settings(directory: &Path) -> config::AuditFile {
        config::AuditFile {
            file: directory.join("state/leaks.jsonl"),
            key: directory.join("state/leaks.key"),
            retention: Duration::from_secs(10 * 24 * 3600),
            max_bytes: 1000,
            max_files: 1000,
        }
    }

    fn start(settings: &config::AuditFile) -> Audit {
        Audit::start(settings.clone(), Clock::Manual(ManualClock::starting_at(event(0).at)))
    }

    fn event(day: u64) -> Event {
        let at = Unix(1_900_000_000_000 + day * DAY.as_millis() as u64);
        Event { rule: "cache_hit", action: "blocked", path: "/me".to_owned(), ..Event::at(at) }
    }

    #[test]
    fn the_file_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let audit = start(&settings);
        audit.write(event(0));
        audit.close();
        assert_eq!(fs::metadata(&settings.file).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&settings.file).unwrap();
        let line: Line = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (line.rule.as_str(), line.path.as_str(), line.at.as_str()),
            ("cache_hit", "/me", "2030-03-17T17:46:40.000Z")
        );
    }

    #[test]
    fn full_and_old_files_give_way_and_are_removed_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let mut file = AuditFile { settings: &settings, open: None };
        (0..30).for_each(|_| file.append(&event(0)).unwrap());
        assert!(files(&settings.file).len() > 2, "full files were put aside");
        let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
        assert!(files(&settings.file).iter().all(|path| fs::metadata(path).unwrap().len() <= 1000));
        (1..=30).for_each(|day| file.append(&event(day)).unwrap());
        let kept: usize = files(&settings.file).iter().map(lines).sum();
        assert!((10..=12).contains(&kept), "{kept} lines of ten days");
    }

    #[test]
    fn a_file_that_others_can_read_is_taken_from_them() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        fs::create_dir(directory.path().join("state")).unwrap();
        fs::write(&settings.file, "").unwrap();
        fs::set_permissions(&settings.file, Permissions::from_mode(0o644)).unwrap();
        let audit = start(&settings);
        audit.write(event(0));
        audit.close();
        assert_eq!(fs::metadata(&settings.file).unwrap().mode() & 0o777, 0o600);
        assert!(fs::metadata(&settings.file).unwrap().len() > 0);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let settings = config::AuditFile { file: "/dev/null".into(), ..settings(directory.path()) };
        assert!(AuditFile { settings: &settings, open: None }.append(&event(0)).is_err());
    }

    #[test]
    fn there_are_never_too_many_files() {
        let directory = tempfile::tempdir().unwrap();
        let settings = config::AuditFile { max_files: 3, ..settings(directory.path()) };
        let mut file = AuditFile { settings: &settings, open: None };
        for _ in 0..100 {
            file.append(&event(0)).unwrap();
            assert!(files(&settings.file).len() <= 3);
        }
        let newest = files(&settings.file).pop();
        assert_eq!(newest.as_ref(), Some(&settings.file), "the file of the present stays");
    }

    #[test]
    fn files_are_removed_in_time_although_nothing_happens() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        AuditFile { settings: &settings, open: None }.append(&event(0)).unwrap();
        let written = fs::metadata(&settings.file).unwrap().modified().unwrap();
        let written = written.duration_since(std::time::UNIX_EPOCH).unwrap();
        let days_later = |days: u32| Unix(written.as_millis() as u64) + DAY * days;
        let mut file = AuditFile { settings: &settings, open: None };
        file.tidy_up(days_later(0)).unwrap();
        assert!(settings.file.exists());
        file.tidy_up(days_later(1)).unwrap();
        assert!(!settings.file.exists() && files(&settings.file).len() == 1, "put aside");
        file.tidy_up(days_later(12)).unwrap();
        assert!(files(&settings.file).is_empty());
    }
}
