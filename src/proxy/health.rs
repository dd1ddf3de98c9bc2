//! Plain passive health: three failures in a row make ill, one success makes well.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use crate::domain::time::Mono;

/// Connection failures or time-outs in a row that make ill.
const FAILURES: u32 = 3;

/// How the portal is, for whoever admits visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Healthy {
        /// Since when; `None` when it never was unhealthy. The admission rate ramps up from here.
        since: Option<Mono>,
    },
    /// Three connection failures or time-outs in a row: nobody is admitted, session clocks stand still.
    Unhealthy {
        /// Since the third of them.
        since: Mono,
    },
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
    shown: watch::Sender<Health>,
}

impl Vitals {
    pub(super) fn new() -> Vitals {
        Vitals { streak: Streak::default(), shown: watch::Sender::new(Health::Healthy { since: None }) }
    }

    pub(super) fn shown(&self) -> Health {
        *self.shown.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.shown.subscribe()
    }

    pub(super) fn failed(&self, now: Mono) {
        if self.streak.failed() {
            self.show(now);
        }
    }

    pub(super) fn succeeded(&self, now: Mono) {
        if self.streak.succeeded() {
            self.show(now);
        }
    }

    /// Shows what the streak says. Read under the channel's lock, so that of two threads the later one is right.
    fn show(&self, now: Mono) {
        self.shown.send_if_modified(|shown| {
            let next = match (*shown, self.streak.is_healthy()) {
                (Health::Healthy { .. }, false) => Health::Unhealthy { since: now },
                (Health::Unhealthy { .. }, true) => Health::Healthy { since: Some(now) },
                _ => return false,
            };
            *shown = next;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_make_ill_and_one_success_well() {
        let vitals = Vitals::new();
        vitals.failed(Mono(1));
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
}
