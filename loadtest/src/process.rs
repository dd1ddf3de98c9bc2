//! What the kernel says of a process and its children: CPU time and memory, from `/proc` (proc(5)).

use std::time::Duration;

use serde::Serialize;

use crate::{Context, Failure, Outcome};

/// The kernel's clock ticks per second as user space sees them (`USER_HZ`), 100 on every Linux architecture in use.
const TICKS_PER_SECOND: u32 = 100;

/// CPU time and memory of a process and its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// User and system time, in milliseconds.
    pub cpu_ms: u64,
    /// The system time in it, in milliseconds.
    pub system_ms: u64,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
}

impl Usage {
    /// CPU time.
    pub fn cpu(&self) -> Duration {
        Duration::from_millis(self.cpu_ms)
    }
}

/// What `pid` and all processes below it have used.
///
/// # Errors
/// When there is no such process.
pub fn usage(pid: u32) -> Outcome<Usage> {
    let mut total = one(pid)?;
    for child in children(pid) {
        // A child may end while we look.
        let below = usage(child).unwrap_or_default();
        total.cpu_ms += below.cpu_ms;
        total.system_ms += below.system_ms;
        total.resident_kib += below.resident_kib;
    }
    Ok(total)
}

/// What `pid` alone has used, without the processes below it.
///
/// # Errors
/// When there is no such process.
pub fn usage_alone(pid: u32) -> Outcome<Usage> {
    one(pid)
}

fn one(pid: u32) -> Outcome<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context(|| format!("process {pid}"))?;
    let (user, system) = ticks(&stat).ok_or_else(|| Failure::new(format!("process {pid}: cannot read its times")))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context(|| format!("process {pid}"))?;
    let ms = |ticks: u64| ticks * 1000 / u64::from(TICKS_PER_SECOND);
    Ok(Usage { cpu_ms: ms(user + system), system_ms: ms(system), resident_kib: resident(&status).unwrap_or(0) })
}

/// Fields 14 and 15 of `stat`, counted after the name in parentheses, which may hold anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user, system))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 40 0 0";
        assert_eq!(ticks(stat), Some((300, 40)));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).unwrap().resident_kib > 100);
        assert!(usage(u32::MAX).is_err());
    }
}
