//! The health of the portal: three failures in a row make ill and one success makes well; so do the probes of the health
//! path, and the answers to visitors when too many of them are errors or slow. It is well when nothing says otherwise.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use tokio::sync::watch;

use crate::domain::portal_health::Finding;
pub use crate::domain::portal_health::Health;
use crate::domain::time::Mono;

/// Connection failures or time-outs in a row that make ill.
const FAILURES: u32 = 3;

/// What besides failures in a row makes the portal ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The probes of its health path.
    Probes = 1,
    /// Its answers to visitors.
    Answers = 2,
}

/// Failures in a row of one address.
#[derive(Debug, Default)]
pub(super) struct Streak(AtomicU32);

impl Streak {
    /// Whether fewer than three failures came in a row.
    pub(super) fn is_healthy(&self) -> bool {
        self.0.load(Ordering::Relaxed) < FAILURES
    }

    /// Counts a failure and says whether it was the one that makes ill.
    pub(super) fn failed(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES
    }

    /// Ends the streak and says whether it had made ill. Costs one load when there is none.
    pub(super) fn succeeded(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::Relaxed) >= FAILURES
    }
}

/// The health of the whole portal.
#[derive(Debug)]
pub(super) struct Vitals {
    streak: Streak,
    /// One bit for each [`Cause`].
    causes: AtomicU8,
    shown: watch::Sender<Health>,
}

impl Vitals {
    pub(super) fn new() -> Vitals {
        Vitals { streak: Streak::default(), causes: AtomicU8::new(0), shown: watch::Sender::new(Health::ALWAYS) }
    }

    pub(super) fn shown(&self) -> Health {
        *self.shown.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.shown.subscribe()
    }

    /// Counts a failure and says whether it was the one that makes ill, whatever else does already.
    pub(super) fn failed(&self, now: Mono) -> bool {
        let fell_ill = self.streak.failed();
        if fell_ill {
            self.show(now);
        }
        fell_ill
    }

    pub(super) fn succeeded(&self, now: Mono) {
        if self.streak.succeeded() {
            self.show(now);
        }
    }

    /// Whether the last requests failed one after the other.
    pub(super) fn fails_in_a_row(&self) -> bool {
        !self.streak.is_healthy()
    }

    /// What one of the other causes says.
    pub(super) fn finding(&self, cause: Cause) -> Finding {
        if self.causes.load(Ordering::Relaxed) & cause as u8 == 0 { Finding::Well } else { Finding::Ill }
    }

    /// Notes what one of the other causes says now, and whether that is new.
    pub(super) fn found(&self, cause: Cause, finding: Finding, now: Mono) -> bool {
        let bit = cause as u8;
        let before = match finding {
            Finding::Ill => self.causes.fetch_or(bit, Ordering::Relaxed),
            Finding::Well => self.causes.fetch_and(!bit, Ordering::Relaxed),
        };
        let is_new = (before & bit != 0) != (finding == Finding::Ill);
        if is_new {
            self.show(now);
        }
        is_new
    }

    /// Shows what all causes say together. Read under the channel's lock, so that of two threads the later one is right.
    fn show(&self, now: Mono) {
        self.shown.send_if_modified(|shown| {
            let is_well = self.streak.is_healthy() && self.causes.load(Ordering::Relaxed) == 0;
            let next = shown.found(if is_well { Finding::Well } else { Finding::Ill }, now);
            let is_new = next != *shown;
            *shown = next;
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_make_ill_and_one_success_well() {
        let vitals = Vitals::new();
        assert!(!vitals.failed(Mono(1)));
        vitals.failed(Mono(2));
        vitals.succeeded(Mono(3));
        vitals.failed(Mono(4));
        vitals.failed(Mono(5));
        assert_eq!(vitals.shown(), Health::Healthy { since: None });
        vitals.failed(Mono(6));
        assert_eq!(vitals.shown(), Health::Unhealthy { since: Mono(6) });
        vitals.failed(Mono(7));
        assert_eq!(vitals.shown(), Health::Unhealthy { since: Mono(6) });
        vitals.succeeded(Mono(8));
        assert_eq!(vitals.shown(), Health::Healthy { since: Some(Mono(8)) });
        vitals.succeeded(Mono(9));
        assert_eq!(vitals.shown(), Health::Healthy { since: Some(Mono(8)) });
    }

    #[test]
    fn it_is_well_when_nothing_says_otherwise() {
        let vitals = Vitals::new();
        assert!(vitals.found(Cause::Probes, Finding::Ill, Mono(1)));
        assert!(!vitals.found(Cause::Probes, Finding::Ill, Mono(2)), "nothing new");
        assert!(vitals.found(Cause::Answers, Finding::Ill, Mono(3)));
        assert!(vitals.found(Cause::Probes, Finding::Well, Mono(4)));
        vitals.succeeded(Mono(5));
        assert_eq!(vitals.shown(), Health::Unhealthy { since: Mono(1) });
        assert!(vitals.found(Cause::Answers, Finding::Well, Mono(6)));
        assert_eq!(vitals.shown(), Health::Healthy { since: Some(Mono(6)) });
    }
}
