//! The calling loop: how many visitors to call now, so that the gate is never empty and never crowded.
//!
//! Some of those called come at once, some after a while, some never. The loop does not guess: it watches how many
//! stand at the gate and keeps that near a target by a bounded proportional-integral rule. The integral learns how many
//! must be called for one to come; it is frozen while nobody can enter. How fast the rule may react depends on how long
//! those called take to arrive, which is measured: a loop faster than its own echo would swing.

use std::time::Duration;

/// The most calls per entry: one in twelve shows up.
const MOST_PER_ENTRY: f64 = 12.0;

/// How fast an empty gate is filled at least at low rates, in calls per second; at one a second and more it is one.
const SLOWEST_CORRECTION: f64 = 0.5;

/// The loop of one lane.
#[derive(Clone, Debug)]
pub struct CallingLoop {
    /// Calls per entry that the integral has learnt, beyond one.
    integral: f64,
    /// Calls that are due and not yet made.
    due: f64,
    /// Mean time from call to gate of those who arrived lately.
    delay: f64,
    /// At how many gates those called may arrive, this one included.
    gates: f64,
}

/// How many should stand at the gate for a rate per second.
pub fn target(rate: f64) -> f64 {
    rate.max(3.0 * rate.sqrt()).max(1.0)
}

impl Default for CallingLoop {
    fn default() -> CallingLoop {
        CallingLoop { integral: 0.0, due: 0.0, delay: 0.0, gates: 1.0 }
    }
}

impl CallingLoop {
    /// Adds what is due after `elapsed`, when `standing` visitors stand at the gate and `rate` per second can enter.
    pub fn advance(&mut self, elapsed: Duration, standing: usize, rate: f64, can_enter: CanEnter) {
        let elapsed = elapsed.as_secs_f64().min(1.0);
        let error = (1.0 - standing as f64 / target(rate)).max(-2.0);
        if can_enter == CanEnter::Now {
            self.integral += error * elapsed * self.gain() * self.gain() / 3.0 * rate.max(1.0) / target(rate);
            self.integral = self.integral.clamp(-0.5, MOST_PER_ENTRY - 1.0);
        }
        let correction = match can_enter {
            CanEnter::Unheard => error.min(0.0),
            CanEnter::Now | CanEnter::NotNow => error,
        };
        let calls = rate * (self.gates + self.integral)
            + correction * (rate * self.gain()).max(rate.clamp(SLOWEST_CORRECTION, 1.0));
        self.due = (self.due + calls.clamp(0.0, rate.max(0.1) * MOST_PER_ENTRY) * elapsed).min(target(rate).max(rate));
    }

    /// Those called here may arrive at the gates of so many nodes, each of which calls the same visitors.
    pub fn arrive_at_one_of(&mut self, gates: u32) {
        self.gates = f64::from(gates.max(1)).min(MOST_PER_ENTRY);
    }

    /// Calls per entry as learnt, without the momentary correction: for estimates and for the last stretch.
    pub fn learnt_calls_per_entry(&self) -> f64 {
        self.gates + self.integral
    }

    fn gain(&self) -> f64 {
        1.0 / (1.0 + self.delay / 2.0)
    }

    /// Takes one call, if one is due.
    pub fn take(&mut self) -> bool {
        let due = self.due >= 1.0;
        if due {
            self.due -= 1.0;
        }
        due
    }

    /// Nobody is left to call: what is due is not saved up.
    pub fn nobody_left(&mut self) {
        self.due = self.due.min(1.0);
    }

    /// A line begins: the gate is to be filled at once.
    pub fn prime(&mut self, rate: f64) {
        self.due = target(rate);
    }

    /// A called visitor arrived at the gate `after` the call.
    pub fn arrived(&mut self, after: Duration) {
        self.delay += (after.as_secs_f64().min(180.0) - self.delay) / 50.0;
    }
}

/// Whether anybody can enter just now; the loop learns only while they can and are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanEnter {
    /// Entries are possible.
    Now,
    /// Held, full, or the portal is down.
    NotNow,
    /// Entries are possible, but far fewer polls arrive than should: the visitors' line to us seems cut. Whoever does
    /// not come now is no measure of how many would.
    Unheard,
}
