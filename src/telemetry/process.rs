//! The process's own numbers under the names that Prometheus' client libraries have for them, read from `/proc/self`.
//!
//! Where there is no `/proc`, they stay at zero.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Counter, IntGauge, Opts, Registry};

/// A tick of `/proc`: `USER_HZ` is 100 on every architecture that the program is built for (proc(5)).
const TICK_MS: u64 = 10;

/// Resident memory, CPU time, open files and threads.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    resident_memory: IntGauge,
    threads: IntGauge,
    open_files: IntGauge,
    max_files: IntGauge,
    start_time: IntGauge,
    /// Locked while it is brought forward, so that two readers at once do not add the same time twice.
    cpu_seconds: Mutex<Counter>,
}

impl ProcessMetrics {
    pub(super) fn new(r: &Registry) -> Result<ProcessMetrics, prometheus::Error> {
        let cpu_seconds = Counter::with_opts(Opts::new("process_cpu_seconds_total", "CPU time, in seconds."))?;
        r.register(Box::new(cpu_seconds.clone()))?;
        Ok(ProcessMetrics {
            resident_memory: gauge(r, "process_resident_memory_bytes", "Resident memory, in bytes.")?,
            threads: gauge(r, "process_threads", "Threads.")?,
            open_files: gauge(r, "process_open_fds", "Open file descriptors.")?,
            max_files: gauge(r, "process_max_fds", "Open file descriptors allowed.")?,
            start_time: gauge(r, "process_start_time_seconds", "Start of the process, in seconds since 1970.")?,
            cpu_seconds: Mutex::new(cpu_seconds),
        })
    }

    /// Reads the numbers anew.
    pub(super) fn refresh(&self) {
        let status = read("/proc/self/status");
        set(&self.resident_memory, resident_bytes(&status));
        set(&self.threads, threads(&status));
        set(&self.open_files, open_files());
        set(&self.max_files, max_files(&read("/proc/self/limits")));
        let stat = read("/proc/self/stat");
        set(&self.start_time, start_time(&stat, &read("/proc/stat")));
        if let Some(seconds) = cpu_seconds(&stat) {
            let counter = self.cpu_seconds.lock().unwrap_or_else(PoisonError::into_inner);
            counter.inc_by((seconds - counter.get()).max(0.0));
        }
    }
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    r.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn set(gauge: &IntGauge, value: Option<i64>) {
    if let Some(value) = value {
        gauge.set(value);
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first number after `key` at the start of a line.
fn field(text: &str, key: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<i64> {
    field(status, "VmRSS:").map(|kibibytes| kibibytes.saturating_mul(1024))
}

fn threads(status: &str) -> Option<i64> {
    field(status, "Threads:")
}

fn max_files(limits: &str) -> Option<i64> {
    field(limits, "Max open files")
}

fn open_files() -> Option<i64> {
    // The directory's own descriptor is among them.
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok().map(|open| open - 1)
}

/// Field `number` of `/proc/self/stat`, a span in ticks, counted as proc(5) does; from 3 on, because field 2 may
/// contain blanks.
fn stat_ticks(stat: &str, number: usize) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: u64 = after_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(TICK_MS)))
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_ticks(stat, 14)? + stat_ticks(stat, 15)?).as_secs_f64())
}

fn start_time(stat: &str, machine: &str) -> Option<i64> {
    let after_boot = i64::try_from(stat_ticks(stat, 22)?.as_secs()).ok()?;
    Some(field(machine, "btime")?.saturating_add(after_boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 8 0 12345 1000 200 18446744073709551615";

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(cpu_seconds(STAT), Some(4.0));
        assert_eq!(start_time(STAT, "cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_123));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(threads("VmRSS:\t1 kB\nThreads:\t9\n"), Some(9));
        assert_eq!(
            max_files("Max open files            1024                 524288               files\n"),
            Some(1024)
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(start_time("1 (x) S", "btime x"), None);
        assert_eq!(max_files("Max open files            unlimited            unlimited            files\n"), None);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let process = ProcessMetrics::new(&Registry::new()).unwrap();
        process.refresh();
        process.refresh();
        assert!(process.resident_memory.get() > 100_000);
        assert!(process.threads.get() >= 1);
        assert!(process.open_files.get() >= 1);
        assert!(process.start_time.get() > 1_600_000_000);
    }
}
