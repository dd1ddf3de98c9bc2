//! The presence clock: how long visitors have been silent, not counting the time in which they could not be heard.
//!
//! Judged by the wall clock, a line cut for two minutes would make everybody absent and let newcomers overtake them.
//! So this clock advances at most one tick per tick, stands still after a start until everybody had time to come back,
//! and stands still while far fewer polls arrive than those present were told to send.

use std::time::Duration;

use super::budget::TICK;
use super::tickets::{PresenceTime, SLACK, Told};

/// The stretch over which arrivals are compared with expectations: ten seconds of ticks.
const WINDOW: usize = 100;

/// How long the clock may stand still because too few polls arrive. After that they are taken for gone.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(600);

/// See the module's description.
#[derive(Clone, Debug)]
pub struct PresenceClock {
    shows: Duration,
    still_after_start: Duration,
    still_for: Duration,
    arrived: [u32; WINDOW],
    expected: [f32; WINDOW],
    tick: usize,
}

impl PresenceClock {
    /// The clock of a line that was taken up again after a start: it stands still for the longest told interval and
    /// the slack.
    pub fn after_start() -> PresenceClock {
        PresenceClock { still_after_start: Told::Sixty.interval() + SLACK, ..PresenceClock::fresh() }
    }

    /// The clock of a line that begins.
    pub fn fresh() -> PresenceClock {
        PresenceClock {
            shows: Duration::ZERO,
            still_after_start: Duration::ZERO,
            still_for: Duration::ZERO,
            arrived: [0; WINDOW],
            expected: [0.0; WINDOW],
            tick: 0,
        }
    }

    /// What the clock shows.
    pub fn now(&self) -> PresenceTime {
        PresenceTime((self.shows.as_millis() / 250) as u32)
    }

    /// Advances by `elapsed`, at most one tick, unless it stands still. `arrived` polls came since the last call;
    /// `expected` is what those present were told to send, per second.
    pub fn tick(&mut self, elapsed: Duration, arrived: u32, expected: f64) {
        let elapsed = elapsed.min(TICK);
        self.note(arrived, expected * elapsed.as_secs_f64());
        if !self.still_after_start.is_zero() {
            self.still_after_start = self.still_after_start.saturating_sub(elapsed);
        } else if self.too_few_arrive() && self.still_for < LONGEST_STANDSTILL {
            self.still_for += elapsed;
        } else {
            self.shows += elapsed;
            if !self.too_few_arrive() {
                self.still_for = Duration::ZERO;
            }
        }
    }

    /// Whether the visitors' line to us seems cut: hardly any of the polls expected arrive.
    pub fn line_seems_cut(&self) -> bool {
        self.arrived_in_window() < self.expected_in_window() / 4.0
    }

    fn note(&mut self, arrived: u32, expected: f64) {
        self.tick = (self.tick + 1) % WINDOW;
        if let (Some(a), Some(e)) = (self.arrived.get_mut(self.tick), self.expected.get_mut(self.tick)) {
            *a = arrived;
            *e = expected as f32;
        }
    }

    fn too_few_arrive(&self) -> bool {
        self.arrived_in_window() < self.expected_in_window() / 2.0
    }

    fn arrived_in_window(&self) -> f64 {
        f64::from(self.arrived.iter().sum::<u32>())
    }

    fn expected_in_window(&self) -> f64 {
        f64::from(self.expected.iter().sum::<f32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(clock: &mut PresenceClock, seconds: u32, arrived_per_second: u32, expected: f64) -> u32 {
        let before = clock.now().0;
        for tick in 0..seconds * 10 {
            let arrived = arrived_per_second / 10 + u32::from(tick % 10 < arrived_per_second % 10);
            clock.tick(TICK, arrived, expected);
        }
        (clock.now().0 - before) / 4
    }

    #[test]
    fn runs_while_polls_arrive_as_expected() {
        assert_eq!(run(&mut PresenceClock::fresh(), 100, 60, 100.0), 100);
    }

    #[test]
    fn stands_still_while_the_line_to_us_is_cut_and_at_most_ten_minutes() {
        let mut clock = PresenceClock::fresh();
        run(&mut clock, 60, 100, 100.0);
        let shown = run(&mut clock, 120, 0, 100.0);
        assert!(shown <= 5, "{shown}");
        assert_eq!(run(&mut clock, 475, 0, 100.0), 0);
        assert!(run(&mut clock, 60, 0, 100.0) > 40);
    }

    #[test]
    fn stands_still_after_a_start_until_everybody_had_time_to_come_back() {
        let mut clock = PresenceClock::after_start();
        assert_eq!(run(&mut clock, 150, 100, 100.0), 0);
        assert_eq!(run(&mut clock, 10, 100, 100.0), 10);
    }

    #[test]
    fn a_stopped_process_makes_nobody_absent() {
        let mut clock = PresenceClock::fresh();
        clock.tick(Duration::from_secs(3600), 10, 1.0);
        assert!(clock.now().0 <= 1);
    }
}
