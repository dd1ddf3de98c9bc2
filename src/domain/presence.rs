//! The presence clock: how long visitors have been silent, not counting the time in which they could not be heard.
//!
//! Judged by the wall clock, a line cut for two minutes would make everybody absent and let newcomers overtake them.
//! So this clock advances at most one tick per tick, stands still after a start until everybody had time to come back,
//! and stands still while far fewer polls arrive than those present were told to send.

use std::time::Duration;

use super::budget::TICK;
use super::tickets::{PresenceTime, SLACK, Told};

/// The stretch over which arrivals are compared with expectations: ten seconds of ticks.
const WINDOW: usize = 10 * TICKS_PER_SECOND;

const TICKS_PER_SECOND: usize = 10;

/// Seconds for which polls that were told are remembered: longer than the longest interval.
const TOLD: usize = 1024;

/// Polls that fell due while the line seemed cut are expected again so many seconds later: whoever was kept from asking
/// tries again. Not after the window, or the clock would go on in between where a crowd was told the same second.
const AGAIN: usize = 10;

/// How long the clock may stand still because too few polls arrive. After that they are taken for gone.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(600);

/// The polls of one tick.
#[derive(Clone, Copy, Debug, Default)]
struct Polls {
    arrived: u32,
    /// By what those present were told, on average, and no more than fell due.
    expected: f32,
    fell_due: f32,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct PresenceClock {
    shows: Duration,
    still_after_start: Duration,
    still_for: Duration,
    window: [Polls; WINDOW],
    tick: usize,
    /// Polls told, by the second in which they fall due; seconds are counted in ticks.
    due: Vec<u32>,
    arrived_this_second: u32,
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
            window: [Polls::default(); WINDOW],
            tick: 0,
            due: vec![0; TOLD],
            arrived_this_second: 0,
        }
    }

    /// What the clock shows.
    pub fn now(&self) -> PresenceTime {
        PresenceTime((self.shows.as_millis() / 250) as u32)
    }

    /// Notes that somebody was told to ask again after `interval`.
    pub fn told(&mut self, interval: Duration) {
        let after = usize::try_from(interval.as_secs()).unwrap_or(TOLD).min(TOLD - 1);
        self.add_due(after, 1);
    }

    /// Advances by `elapsed`, at most one tick, unless it stands still. `arrived` polls came since the last call;
    /// `expected` is what those present were told to send per second, on average. A crowd that came together also asks
    /// together: in no second more is expected than fell due in it.
    pub fn tick(&mut self, elapsed: Duration, arrived: u32, expected: f64) {
        let elapsed = elapsed.min(TICK);
        let fell_due = self.due_now() as f32 / TICKS_PER_SECOND as f32;
        let expected = ((expected * elapsed.as_secs_f64()) as f32).min(fell_due);
        self.note(Polls { arrived, expected, fell_due });
        let too_few_arrive = self.too_few_arrive();
        if !self.still_after_start.is_zero() {
            self.still_after_start = self.still_after_start.saturating_sub(elapsed);
        } else if too_few_arrive && self.still_for < LONGEST_STANDSTILL {
            self.still_for += elapsed;
        } else {
            self.shows += elapsed;
            if !too_few_arrive {
                self.still_for = Duration::ZERO;
            }
        }
        if self.tick.is_multiple_of(TICKS_PER_SECOND) {
            self.end_second(too_few_arrive || self.most_are_missing());
        }
    }

    fn second(&self) -> usize {
        self.tick / TICKS_PER_SECOND % TOLD
    }

    fn due_now(&self) -> u32 {
        self.due.get(self.second()).copied().unwrap_or(0)
    }

    fn add_due(&mut self, after: usize, polls: u32) {
        let second = (self.second() + after) % TOLD;
        if let Some(due) = self.due.get_mut(second) {
            *due = due.saturating_add(polls);
        }
    }

    /// A second is over: what fell due in it is forgotten, or expected again if it was kept from coming.
    fn end_second(&mut self, kept_from_coming: bool) {
        let over = (self.second() + TOLD - 1) % TOLD;
        let due = self.due.get_mut(over).map_or(0, std::mem::take);
        let missing = due.saturating_sub(std::mem::take(&mut self.arrived_this_second));
        if kept_from_coming && self.still_for < LONGEST_STANDSTILL {
            // A second has begun since.
            self.add_due(AGAIN - 1, missing);
        }
    }

    /// Whether the visitors' line to us seems cut: hardly any of the polls expected arrive.
    pub fn line_seems_cut(&self) -> bool {
        self.arrived_in_window() < self.expected_in_window() / 4.0
    }

    fn note(&mut self, polls: Polls) {
        self.tick += 1;
        self.arrived_this_second = self.arrived_this_second.saturating_add(polls.arrived);
        if let Some(tick) = self.window.get_mut(self.tick % WINDOW) {
            *tick = polls;
        }
    }

    fn too_few_arrive(&self) -> bool {
        self.arrived_in_window() < self.expected_in_window() / 2.0
    }

    /// Whether most of what fell due is missing. The average does not show it when a crowd was told one second and the
    /// line was cut shortly before.
    fn most_are_missing(&self) -> bool {
        self.arrived_in_window() < self.sum(|polls| polls.fell_due) / 2.0
    }

    fn arrived_in_window(&self) -> f64 {
        self.sum(|polls| polls.arrived as f32)
    }

    fn expected_in_window(&self) -> f64 {
        self.sum(|polls| polls.expected)
    }

    fn sum(&self, of: impl Fn(&Polls) -> f32) -> f64 {
        self.window.iter().map(|polls| f64::from(of(polls))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(clock: &mut PresenceClock, seconds: u32, arrived_per_second: u32, expected: f64) -> u32 {
        let before = clock.now().0;
        for tick in 0..seconds * 10 {
            let arrived = arrived_per_second / 10 + u32::from(tick % 10 < arrived_per_second % 10);
            (0..arrived).for_each(|_| clock.told(Duration::from_secs(15)));
            clock.tick(TICK, arrived, expected);
        }
        (clock.now().0 - before) / 4
    }

    #[test]
    fn a_crowd_that_came_together_is_not_taken_for_cut_off_until_it_is_due() {
        let mut clock = PresenceClock::fresh();
        (0..300).for_each(|_| clock.told(Duration::from_secs(60)));
        for _ in 0..550 {
            clock.tick(TICK, 0, 5.0);
            assert!(!clock.line_seems_cut());
        }
        assert_eq!(clock.now().0, 4 * 55);
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
    fn a_crowd_that_came_in_one_second_and_fell_silent_holds_the_clock_for_ten_minutes_and_no_longer() {
        let mut clock = PresenceClock::fresh();
        (0..10_000).for_each(|_| clock.told(Duration::from_secs(60)));
        let mut showed = Vec::new();
        for second in 0..780 {
            for tick in 0..10 {
                let arrived = u32::from(tick % 5 == 0);
                (0..arrived).for_each(|_| clock.told(Duration::from_secs(60)));
                clock.tick(TICK, arrived, 10_000.0 / 60.0 + 2.0);
            }
            showed.extend((second == 600 || second == 779).then(|| clock.now().0 / 4));
        }
        assert!(showed[0] <= 65 && showed[1] >= 150, "{showed:?}");
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
