//! The audit log on disk: one line for every change, hung on the line before it (`domain::audit_chain`), made durable before
//! the change is in force. A line that could not be written whole is taken away again: then there was no change either.
//!
//! The running program and the commands that work on this machine's disk write to the same log: whoever writes holds a lock on
//! it, and goes on where the other left off.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::domain::audit_chain::{Broken, Head, head_of};
use crate::domain::local_time;
use crate::domain::time::Unix;
use crate::folder;

/// The log's name in the operators' directory.
pub const FILE: &str = "audit.jsonl";
/// No line is longer.
const LONGEST_LINE: u64 = 1 << 20;
/// What a line is called that says where half a line is kept.
const TORN: &str = "torn";
/// How often, and how long in between, the lock is tried for while another process writes.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Line {
    /// What happened, in a word.
    pub what: &'static str,
    /// Everything about it.
    pub details: Value,
}

/// The log, open for more lines.
#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    open: Option<Open>,
    head: Head,
    /// What is still to be said of half a line that was set aside.
    torn: Option<Line>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
}

impl Audit {
    /// The log of a directory. Nothing is written before there is something to write.
    pub(super) fn of(dir: &Path) -> Audit {
        let mut audit = Audit { path: dir.join(FILE), open: None, head: Head::default(), torn: None };
        match End::of(&audit.path) {
            Ok(End { last: Ok(head), .. }) => audit.head = head,
            Ok(End { last: Err(broken), .. }) => tracing::error!(
                file = %audit.path.display(),
                "the last line of the audit log {broken}: with the next line it is kept under another name and a new one begun"
            ),
            Err(error) => tracing::error!(file = %audit.path.display(), %error, "the audit log cannot be read"),
        }
        audit
    }

    /// The last line's number and hash.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Appends lines, all or none, and makes them durable. Nobody else writes until they are settled or taken back.
    ///
    /// # Errors
    /// When not all of them could be written.
    pub(super) fn append(&mut self, lines: &[Line], at: Unix) -> io::Result<Written> {
        let mut open = self.go_on()?;
        let mut written = Written { head: self.head.clone(), length: open.length, told: Vec::new() };
        let mut head = self.head.clone();
        let mut text = String::new();
        for line in self.torn.iter().chain(lines) {
            let at = format!("{:.3}", local_time::timestamp(at));
            let (next_line, next) = head.next(&at, line.what, &line.details);
            text.push_str(&next_line);
            text.push('\n');
            written.told.push((line.what, next.clone()));
            head = next;
        }
        let done = open.file.write_all(text.as_bytes()).and_then(|()| open.file.sync_data());
        open.length += text.len() as u64;
        self.open = Some(open);
        self.head = head;
        match done {
            Ok(()) => Ok(written),
            Err(error) => {
                self.take_back(written);
                Err(error)
            }
        }
    }

    /// Takes the lines written last away again, whose change did not come about.
    pub(super) fn take_back(&mut self, before: Written) {
        if let Some(open) = self.open.take()
            && let Err(error) = open.file.set_len(before.length).and_then(|()| open.file.sync_data())
        {
            tracing::error!(file = %self.path.display(), %error, "a line of the audit log could not be taken back");
        }
        self.head = before.head;
    }

    /// Nothing takes the lines written last back any more: others may write.
    pub(super) fn settle(&mut self, written: &Written) {
        written.tell();
        self.torn = None;
        if let Some(open) = self.open.take_if(|open| open.file.unlock().is_err()) {
            tracing::warn!(file = %self.path.display(), "the audit log is opened anew, because it could not be unlocked");
            drop(open);
        }
    }

    /// The log, which is there from now on.
    fn opened(&self) -> io::Result<File> {
        let mut there = OpenOptions::new();
        there.append(true).mode(0o600);
        match there.clone().create_new(true).open(&self.path) {
            Ok(made) => {
                folder::give_to_owner_around(&made, &self.path);
                Ok(made)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => there.create(true).open(&self.path),
            Err(error) => Err(error),
        }
    }

    /// The log, locked, at the end of its chain, wherever another process left it.
    fn go_on(&mut self) -> io::Result<Open> {
        if let Some(open) = self.open.take() {
            lock(&open.file)?;
            if open.file.metadata()?.len() == open.length {
                return Ok(open);
            }
        }
        if let Some(dir) = self.path.parent() {
            folder::make(dir)?;
        }
        loop {
            let mut file = self.opened()?;
            lock(&file)?;
            let End { whole, last, tail } = End::of(&self.path)?;
            match last {
                Err(broken) => self.keep_whole(broken)?,
                Ok(head) => {
                    let (head, length) = self.mend(&mut file, head, whole, &tail)?;
                    self.head = head;
                    return Ok(Open { file, length });
                }
            }
        }
    }

    /// Keeps a log that cannot be gone on with under another name.
    fn keep_whole(&mut self, broken: Broken) -> io::Result<()> {
        let aside = free_name(&self.path, "broken")?;
        fs::rename(&self.path, &aside)?;
        self.head = Head::default();
        tracing::error!(
            kept = %aside.display(),
            "the last line of the audit log {broken}: the log is kept under another name and a new one begun"
        );
        Ok(())
    }

    /// Makes the log end in a whole line, and gives the end of its chain and its length. A last line that only lacks its line
    /// break gets it; half a line, which a stop left behind and whose change never came about, is kept in a file of its own.
    fn mend(&mut self, file: &mut File, head: Head, whole: u64, tail: &[u8]) -> io::Result<(Head, u64)> {
        if tail.is_empty() {
            return Ok((head, whole));
        }
        if let Some(next) = whole_line(&head, tail) {
            file.write_all(b"\n")?;
            file.sync_data()?;
            return Ok((next, whole + tail.len() as u64 + 1));
        }
        let aside = free_name(&self.path, &format!("{TORN}-{}", head.number + 1))?;
        let mut kept = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        kept.write_all(tail)?;
        kept.sync_all()?;
        file.set_len(whole)?;
        file.sync_data()?;
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        tracing::warn!(
            kept = %aside.display(), bytes = tail.len(),
            "the audit log ended in half a line, whose change never came about: it is kept in a file of its own"
        );
        let details = json!({"kept": name, "bytes": tail.len(), "sha256": sha256(tail)});
        self.torn = Some(Line { what: TORN, details });
        Ok((head, whole))
    }
}

/// Waits for the lock, but not for ever: a process that was stopped in the middle must not stop this one.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            // Some network file systems have no locks; there one writer has to do.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another process has been writing to the audit log for seconds"))
}

/// A name beside the log that nothing has yet.
fn free_name(path: &Path, word: &str) -> io::Result<PathBuf> {
    let name = |count: u32| {
        let count = if count == 0 { String::new() } else { format!(".{count}") };
        path.with_extension(format!("jsonl.{word}{count}"))
    };
    let free = (0..1000).map(name).find(|name| fs::symlink_metadata(name).is_err());
    free.ok_or_else(|| io::Error::other("too many logs were kept under other names: move them away"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The head that a last line without its line break makes, if it is whole.
fn whole_line(head: &Head, tail: &[u8]) -> Option<Head> {
    head.follow(std::str::from_utf8(tail).ok()?).ok()
}

/// What was there before lines were appended, and what they are.
#[derive(Debug)]
pub(super) struct Written {
    head: Head,
    length: u64,
    told: Vec<(&'static str, Head)>,
}

impl Written {
    /// Says the lines' numbers and hashes in the program's own log.
    fn tell(&self) {
        for (what, head) in &self.told {
            tracing::info!(number = head.number, what, hash = head.hash, "audit");
        }
    }
}

/// How a log ends.
#[derive(Debug)]
struct End {
    /// Bytes of its whole lines.
    whole: u64,
    /// The head that the last whole line makes.
    last: Result<Head, Broken>,
    /// What stands after it.
    tail: Vec<u8>,
}

impl End {
    fn of(path: &Path) -> io::Result<End> {
        let length = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            facts => facts.map(|facts| if facts.is_file() { facts.len() } else { 0 })?,
        };
        if length == 0 {
            return Ok(End { whole: 0, last: Ok(Head::default()), tail: Vec::new() });
        }
        // The last whole line, and what may stand after it.
        let from = length.saturating_sub(2 * LONGEST_LINE);
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.take(2 * LONGEST_LINE).read_to_end(&mut end)?;
        let after = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let tail = end.split_off(after);
        let last = match end.strip_suffix(b"\n") {
            None if from == 0 => Ok(Head::default()),
            None => Err(Broken::NoLine),
            Some(lines) => {
                let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
                std::str::from_utf8(last).map_err(|_| Broken::NoLine).and_then(head_of)
            }
        };
        Ok(End { whole: from + after as u64, last, tail })
    }
}

/// The last lines of a directory's log, the newest last.
///
/// # Errors
/// When it cannot be read.
pub(super) fn last(dir: &Path, most: usize) -> io::Result<Vec<Value>> {
    let path = dir.join(FILE);
    let length = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        facts => facts?.len(),
    };
    let mut file = File::open(&path)?;
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LINE)))?;
    let mut end = Vec::new();
    file.take(LONGEST_LINE).read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    let mut lines: Vec<Value> =
        text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).take(most).collect();
    lines.reverse();
    Ok(lines)
}

/// What became of checking a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Lines, all of them good.
    pub lines: u64,
    /// The last one's hash.
    pub hash: String,
    /// Whether a hash that was asked for is the hash of one of them.
    pub has_hash: Option<bool>,
    /// Lines that say where half a line is kept.
    pub torn: Vec<Torn>,
}

/// Half a line that a stop left behind, as a later line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Torn {
    /// The line that says so, counted from 1.
    pub line: u64,
    /// The file beside the log.
    pub kept: String,
    /// How long it was, in bytes.
    pub bytes: u64,
    /// What there is of that file.
    pub found: Found,
}

/// What there is of a file that a line of the log names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// The file, as it was.
    AsItWas,
    /// Another content.
    Changed,
    /// Nothing.
    Missing,
}

/// The first line that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It, counted from 1.
    #[error("line {0} {1}")]
    Line(u64, Broken),
    /// The last one is not whole.
    #[error(
        "{lines} lines follow one another (last hash {hash}), and then {bytes} bytes of half a line: a stop or a full disk came \
         while it was being written, and its change never came about. Compare the hash with the last one in the program's own \
         log. The program keeps these bytes in a file of their own before it writes the next line, which says so"
    )]
    Torn {
        /// Whole lines before it.
        lines: u64,
        /// The last one's hash.
        hash: String,
        /// What there is of it.
        bytes: usize,
    },
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Checks every line of a log; `wanted` is a hash that was noted elsewhere.
///
/// # Errors
/// [`Fault`] with the first line that is at fault.
pub fn verify(path: &Path, wanted: Option<&str>) -> Result<Verified, Fault> {
    let mut head = Head::default();
    let (mut found, mut torn) = (false, Vec::new());
    let mut reader = BufReader::new(File::open(path)?);
    for number in 1.. {
        let mut line = Vec::new();
        if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let Some(line) = line.strip_suffix(b"\n").or_else(|| whole_line(&head, &line).map(|_| line.as_slice())) else {
            return Err(unended(head, number, &line));
        };
        let text = std::str::from_utf8(line).map_err(|_| Fault::Line(number, Broken::NoLine))?;
        head = head.follow(text).map_err(|broken| Fault::Line(number, broken))?;
        found |= wanted == Some(head.hash.as_str());
        torn.extend(torn_in(text, number, path));
    }
    Ok(Verified { lines: head.number, hash: head.hash, has_hash: wanted.map(|_| found), torn })
}

/// What is wrong with a line without an end.
fn unended(head: Head, number: u64, line: &[u8]) -> Fault {
    if line.len() as u64 == LONGEST_LINE {
        return Fault::Line(number, Broken::NoLine);
    }
    Fault::Torn { lines: head.number, hash: head.hash, bytes: line.len() }
}

/// What a line says of half a line that is kept beside the log, if that is what it is about.
fn torn_in(text: &str, line: u64, log: &Path) -> Option<Torn> {
    let fields: Value = serde_json::from_str(text).ok()?;
    let details = fields.get("details").filter(|_| fields.get("what").is_some_and(|what| what == TORN))?;
    let kept = details.get("kept")?.as_str()?.to_owned();
    let bytes = details.get("bytes")?.as_u64()?;
    // Only the name counts, whatever the line says.
    let found = match fs::read(log.with_file_name(Path::new(&kept).file_name()?)) {
        Ok(there) if details.get("sha256").is_some_and(|hash| *hash == sha256(&there)) => Found::AsItWas,
        Ok(_) => Found::Changed,
        Err(_) => Found::Missing,
    };
    Some(Torn { line, kept, bytes, found })
}

/// What is shown of the log's end.
pub(super) fn shown(head: &Head) -> Value {
    json!({"lines": head.number, "hash": head.hash})
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn append(audit: &mut Audit, lines: &[Line]) {
        let written = audit.append(lines, Unix(0)).unwrap();
        audit.settle(&written);
    }

    fn line(number: u64) -> Line {
        Line { what: "rate", details: json!({ "number": number }) }
    }

    #[test]
    fn lines_survive_and_go_on_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("operators");
        let mut audit = Audit::of(&dir);
        append(&mut audit, &[line(1), line(2)]);
        let mut again = Audit::of(&dir);
        assert_eq!(again.head().number, 2);
        append(&mut again, &[line(3)]);
        let path = dir.join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let verified = verify(&path, None).unwrap();
        assert_eq!((verified.lines, &verified.hash), (3, &again.head().hash));
        assert_eq!(verify(&path, Some(&verified.hash)).unwrap().has_hash, Some(true));
        assert_eq!(verify(&path, Some("00")).unwrap().has_hash, Some(false));
        assert_eq!(last(&dir, 2).unwrap().len(), 2);
    }

    #[test]
    fn a_changed_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut audit = Audit::of(directory.path());
        append(&mut audit, &[line(1), line(2), line(3)]);
        let path = directory.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"number\":2", "\"number\":9")).unwrap();
        assert!(matches!(verify(&path, None), Err(Fault::Line(2, Broken::Changed))));
        let without: Vec<&str> = text.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| line).collect();
        fs::write(&path, without.join("\n") + "\n").unwrap();
        assert!(matches!(verify(&path, None), Err(Fault::Line(2, Broken::OutOfPlace))));
    }

    #[test]
    fn half_a_line_is_kept_aside_and_the_chain_says_so() {
        let directory = tempfile::tempdir().unwrap();
        append(&mut Audit::of(directory.path()), &[line(1), line(2)]);
        let path = directory.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 7]).unwrap();
        let mut audit = Audit::of(directory.path());
        assert_eq!(audit.head().number, 1);
        assert!(matches!(verify(&path, None), Err(Fault::Torn { lines: 1, .. })), "not touched before there is a line");
        append(&mut audit, &[line(3)]);
        append(&mut audit, &[line(4)]);
        let verified = verify(&path, None).unwrap();
        assert_eq!((verified.lines, verified.torn.len()), (4, 1), "said once");
        assert_eq!((verified.torn[0].line, verified.torn[0].found), (2, Found::AsItWas));
        let kept = directory.path().join(&verified.torn[0].kept);
        assert_eq!(
            fs::read_to_string(&kept).unwrap(),
            text.lines().nth(1).unwrap()[..text.lines().nth(1).unwrap().len() - 6]
        );
        fs::write(&kept, "something else").unwrap();
        assert_eq!(verify(&path, None).unwrap().torn[0].found, Found::Changed);
        fs::remove_file(&kept).unwrap();
        assert_eq!(verify(&path, None).unwrap().torn[0].found, Found::Missing);
    }

    #[test]
    fn a_whole_last_line_that_lacks_its_line_break_counts() {
        let directory = tempfile::tempdir().unwrap();
        append(&mut Audit::of(directory.path()), &[line(1), line(2)]);
        let path = directory.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.trim_end()).unwrap();
        assert_eq!(verify(&path, None).unwrap().lines, 2);
        append(&mut Audit::of(directory.path()), &[line(3)]);
        let verified = verify(&path, None).unwrap();
        assert_eq!((verified.lines, verified.torn.len()), (3, 0));
        assert!(fs::read_to_string(&path).unwrap().starts_with(&text));
    }

    #[test]
    fn what_root_writes_first_belongs_to_the_programs_user() {
        let state = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(state.path(), Some(4321), Some(4321)).is_err() {
            return; // only root can try this
        }
        let dir = state.path().join("operators");
        append(&mut Audit::of(&dir), &[line(1)]);
        let owner = |path: &Path| fs::metadata(path).map(|facts| (facts.uid(), facts.gid())).unwrap();
        assert_eq!((owner(&dir), owner(&dir.join(FILE))), ((4321, 4321), (4321, 4321)));
    }

    #[test]
    fn two_writers_make_one_chain() {
        let directory = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (Audit::of(directory.path()), Audit::of(directory.path()));
        append(&mut first, &[line(1)]);
        append(&mut second, &[line(2), line(3)]);
        append(&mut first, &[line(4)]);
        append(&mut first, &[line(5)]);
        append(&mut second, &[line(6)]);
        assert_eq!(verify(&directory.path().join(FILE), None).unwrap().lines, 6);
        // What one takes back is not what the other wrote.
        let written = first.append(&[line(7)], Unix(0)).unwrap();
        first.take_back(written);
        append(&mut second, &[line(8)]);
        assert_eq!(verify(&directory.path().join(FILE), None).unwrap().lines, 7);
    }

    #[test]
    fn a_log_that_cannot_be_gone_on_with_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, "something else\n").unwrap();
        append(&mut Audit::of(directory.path()), &[line(1)]);
        assert_eq!(verify(&path, None).unwrap().lines, 1);
        assert_eq!(fs::read_to_string(path.with_extension("jsonl.broken")).unwrap(), "something else\n");
    }

    #[test]
    fn a_full_disk_leaves_the_chain_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", directory.path().join(FILE)).unwrap();
        let mut audit = Audit::of(directory.path());
        let error = audit.append(&[line(1)], Unix(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(audit.head(), &Head::default());
    }
}
