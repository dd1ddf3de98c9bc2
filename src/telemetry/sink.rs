//! The way of log lines out of the program: a bounded buffer and one thread that empties it.
//!
//! Whoever logs copies a line into memory and goes on. When the reader of the log is too slow and the buffer is full,
//! lines are dropped and counted; a blocked log never blocks a request. The thread writes whole batches, so that a
//! busy second costs a few dozen system calls, not one for each line.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be written at most.
const LIMIT: usize = 4 << 20;
/// Bytes that are written without waiting for more.
const FULL_BATCH: usize = 64 << 10;
/// How long the first line of a batch waits for company.
const GATHER: Duration = Duration::from_millis(20);
/// How long the end of the program waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes lines; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogSink(Arc<Shared>);

/// The thread that writes. Dropping it writes what is left, for at most two seconds.
#[derive(Debug)]
pub struct LogWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    limit: usize,
    dropped: IntCounter,
}

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// No more lines are expected.
    Closing,
    /// Everything is written.
    Closed,
}

/// Starts the thread that writes to `out`; lines that find no room are counted in `dropped`.
///
/// # Errors
/// Those of starting a thread.
pub(super) fn start(out: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<(LogSink, LogWriter)> {
    start_with_limit(out, dropped, LIMIT)
}

fn start_with_limit(
    mut out: impl Write + Send + 'static,
    dropped: IntCounter,
    limit: usize,
) -> io::Result<(LogSink, LogWriter)> {
    let waiting = Mutex::new(Waiting { bytes: Vec::new(), stage: Stage::Running });
    let shared = Arc::new(Shared { waiting, changed: Condvar::new(), limit, dropped });
    let writer = shared.clone();
    thread::Builder::new().name("log".into()).spawn(move || writer.write_all_to(&mut out))?;
    Ok((LogSink(shared.clone()), LogWriter(shared)))
}

impl LogSink {
    /// Takes a line, its end included, or drops it when there is no room.
    pub fn push(&self, line: &[u8]) {
        self.0.push(line);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        let before = waiting.bytes.len();
        let after = before + line.len();
        if after > self.limit || waiting.stage == Stage::Closed {
            drop(waiting);
            self.dropped.inc();
            return;
        }
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if before == 0 || (before < FULL_BATCH && after >= FULL_BATCH) {
            self.changed.notify_all();
        }
    }

    fn write_all_to(&self, out: &mut impl Write) {
        let mut batch = Vec::new();
        while self.take(&mut batch) {
            if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
                self.dropped.inc_by(lines(&batch));
            }
            batch.clear();
        }
        self.lock().stage = Stage::Closed;
        self.changed.notify_all();
    }

    /// Waits for lines and moves them into the empty `batch`; says no when there will be none.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let running = |waiting: &Waiting| waiting.stage == Stage::Running;
        let idle = |waiting: &mut Waiting| running(waiting) && waiting.bytes.is_empty();
        let waiting = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |waiting: &mut Waiting| running(waiting) && waiting.bytes.len() < FULL_BATCH;
        let (mut waiting, _) =
            self.changed.wait_timeout_while(waiting, GATHER, gathering).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.bytes, batch);
        !batch.is_empty()
    }
}

fn lines(batch: &[u8]) -> u64 {
    batch.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        if waiting.stage == Stage::Running {
            waiting.stage = Stage::Closing;
        }
        self.0.changed.notify_all();
        let open = |waiting: &mut Waiting| waiting.stage != Stage::Closed;
        // A log that takes nothing any more must not keep the program from ending.
        drop(self.0.changed.wait_timeout_while(waiting, FLUSH_TIMEOUT, open));
    }
}

/// One event of `tracing` on its way into the sink. The formatter writes a whole line at once.
#[derive(Debug)]
pub struct EventLine<'a>(&'a LogSink);

impl Write for EventLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = EventLine<'a>;

    fn make_writer(&'a self) -> EventLine<'a> {
        EventLine(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A log of which a test can read what was written.
    #[derive(Clone, Default)]
    pub(in crate::telemetry) struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        pub(in crate::telemetry) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log that says when somebody writes and then takes nothing until it is allowed to.
    struct Blocked {
        reached: mpsc::Sender<()>,
        allowed: mpsc::Receiver<()>,
        paper: Paper,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.reached.send(());
            let _ = self.allowed.recv();
            self.paper.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(in crate::telemetry) fn dropped() -> IntCounter {
        IntCounter::new("dropped", "Dropped lines.").unwrap()
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let paper = Paper::default();
        let (sink, writer) = start(paper.clone(), dropped()).unwrap();
        let numbered: String = (0..5000).map(|number| format!("line {number}\n")).collect();
        for line in numbered.split_inclusive('\n') {
            sink.push(line.as_bytes());
        }
        drop(writer);
        assert_eq!(paper.text(), numbered);
    }

    #[test]
    fn a_blocked_log_drops_and_counts_and_blocks_nobody() {
        let ((reached, is_reached), (allow, allowed)) = (mpsc::channel(), mpsc::channel());
        let paper = Paper::default();
        let dropped = dropped();
        let out = Blocked { reached, allowed, paper: paper.clone() };
        let (sink, writer) = start_with_limit(out, dropped.clone(), 20).unwrap();
        sink.push(b"first\n");
        is_reached.recv().unwrap();
        for number in 0..10 {
            sink.push(format!("line {number}\n").as_bytes());
        }
        assert_eq!(dropped.get(), 8, "only two lines of seven bytes fit into twenty");
        drop(allow);
        drop(writer);
        assert_eq!(paper.text(), "first\nline 0\nline 1\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dropped = dropped();
        let (sink, writer) = start(Full, dropped.clone()).unwrap();
        sink.push(b"one\n");
        sink.push(b"two\n");
        drop(writer);
        assert_eq!(dropped.get(), 2);
    }

    #[test]
    fn lines_after_the_end_are_counted() {
        let dropped = dropped();
        let (sink, writer) = start(Paper::default(), dropped.clone()).unwrap();
        drop(writer);
        sink.push(b"late\n");
        assert_eq!(dropped.get(), 1);
    }

    #[test]
    fn threads_do_not_tear_each_others_lines() {
        let paper = Paper::default();
        let (sink, writer) = start(paper.clone(), dropped()).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let sink = sink.clone();
                scope.spawn(move || (0..500).for_each(|_| sink.push(format!("{thread} whole line\n").as_bytes())));
            }
        });
        drop(writer);
        assert_eq!(paper.text().lines().filter(|line| line.ends_with("whole line") && line.len() == 12).count(), 2000);
    }
}
