//! Instants as the rules see them: plain numbers that somebody else read from a clock.

use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the process's monotonic clock, in nanoseconds since the process started. Never stored.
///
/// Pacing and presence run on it, so that a step of the wall clock neither bursts nor stalls a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The time since `earlier`, or zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A point in calendar time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unix(pub u64);

impl Unix {
    /// Whole seconds since 1970, as tokens carry them (until the year 2106).
    pub fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }

    /// The instant `seconds` after 1970.
    pub fn from_seconds(seconds: u32) -> Unix {
        Unix(u64::from(seconds) * 1000)
    }

    /// The time since `earlier`, or zero when `earlier` is later.
    pub fn since(self, earlier: Unix) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` earlier, not before 1970.
    pub fn minus(self, span: Duration) -> Unix {
        Unix(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Unix {
    type Output = Unix;
    fn add(self, span: Duration) -> Unix {
        Unix(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Now {
    /// When that was on the time line, which other processes know as well.
    pub fn unix_of(self, earlier: Mono) -> Unix {
        self.unix.minus(self.mono.since(earlier))
    }

    /// When that was on this process's own clock: at its start, if it was before that, and now, if it is to come.
    pub fn mono_of(self, earlier: Unix) -> Mono {
        let ago = u64::try_from(self.unix.since(earlier).as_nanos()).unwrap_or(u64::MAX);
        Mono(self.mono.0.saturating_sub(ago))
    }
}

/// What every rule may know about the present: read once per request and once per tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For pacing and presence.
    pub mono: Mono,
    /// The process's own time line: wall time at start, then monotonic, slewed towards wall time by at most 1 %.
    /// Tokens, seats and everything else that expires run on it.
    pub unix: Unix,
    /// The wall clock as the system has it: for windows and for what people read.
    pub wall: Unix,
}
