//! How a lane moved over the last minute: what estimates are made of.

use std::collections::VecDeque;
use std::time::Duration;

use super::wait_estimate::Movement;

/// Seconds that are looked back upon.
const WINDOW: usize = 60;

/// A rate that differs by this part is another one.
const ANOTHER: f64 = 0.15;

/// One second of a lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// Visitors called.
    pub called: u64,
    /// Visitors who went away uncalled.
    pub gave_up: u64,
    /// Visitors present at its end.
    pub present: u64,
}

/// The last minute, second by second, since the rate in force last changed.
#[derive(Clone, Debug, Default)]
pub struct MovementLog {
    seconds: VecDeque<Second>,
    rate: f64,
}

impl MovementLog {
    /// Adds a second in which `rate` per second could enter. A rate that is another one begins a new measurement; what
    /// the coming and going in other lanes does to it does not.
    pub fn note(&mut self, second: Second, rate: f64) {
        if (rate - self.rate).abs() > ANOTHER * rate.max(self.rate) {
            self.seconds.clear();
        }
        self.rate = rate;
        if self.seconds.len() == WINDOW {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
    }

    /// What the estimate needs.
    pub fn movement(&self) -> Movement {
        let sum = |part: fn(&Second) -> u64| self.seconds.iter().map(part).sum::<u64>();
        Movement {
            over: Duration::from_secs(self.seconds.len() as u64),
            called: sum(|second| second.called),
            gave_up: sum(|second| second.gave_up),
            present: sum(|second| second.present) as f64 / self.seconds.len().max(1) as f64,
            rate: self.rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_rate_begins_a_new_measurement() {
        let mut log = MovementLog::default();
        for _ in 0..100 {
            log.note(Second { called: 5, gave_up: 1, present: 10 }, 5.0);
        }
        let settled = log.movement();
        assert_eq!((settled.over.as_secs(), settled.called, settled.gave_up), (60, 300, 60));
        log.note(Second { called: 2, gave_up: 0, present: 8 }, 2.0);
        assert_eq!((log.movement().over.as_secs(), log.movement().called), (1, 2));
    }
}
