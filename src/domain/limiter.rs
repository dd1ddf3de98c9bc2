//! Limits for one client or one ticket: a generic cell rate algorithm (GCRA, ITU-T I.371) that keeps one instant each.

use std::time::Duration;

use super::rate::Rate;
use super::time::Mono;

/// So many events per interval on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    every: Duration,
    burst: u32,
}

/// The instant at which the events so far will have been worked off at the limit's pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkedOffAt(pub Mono);

impl Limit {
    /// One event per `every` on average, `burst` at once.
    pub const fn new(every: Duration, burst: u32) -> Limit {
        Limit { every, burst: if burst == 0 { 1 } else { burst } }
    }

    /// A rate, with one unit's worth at once: `"1200/min"` allows 1,200 at once and 20 a second after that.
    pub fn of(rate: Rate) -> Limit {
        Limit::new(Duration::from_nanos(rate.per().nanos() / u64::from(rate.count())), rate.count())
    }

    /// What is allowed at once, as the time it takes to be worked off.
    pub fn unit(&self) -> Duration {
        self.every * self.burst
    }

    /// How long to wait before the next event would be allowed; nothing if it is.
    pub fn beyond(&self, state: WorkedOffAt, now: Mono) -> Duration {
        state.0.max(now).since(now).saturating_sub(self.every * (self.burst - 1))
    }

    /// Counts an event that is let through whatever the limit says. The wait for the next one grows by it, to `most`.
    pub fn count_beyond(&self, state: &mut WorkedOffAt, now: Mono, most: Duration) {
        let furthest = now + self.every * (self.burst - 1) + most;
        state.0 = (state.0.max(now) + self.every).min(furthest).max(state.0);
    }

    /// Counts an event, or says how long to wait before the next one would be allowed.
    ///
    /// # Errors
    /// The time to wait; the event does not count then.
    pub fn count(&self, state: &mut WorkedOffAt, now: Mono) -> Result<(), Duration> {
        let start = state.0.max(now);
        let tolerance = self.every * (self.burst - 1);
        let ahead = start.since(now);
        if ahead > tolerance {
            return Err(ahead - tolerance);
        }
        state.0 = start + self.every;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_the_burst_then_the_pace() {
        let limit = Limit::new(Duration::from_secs(1), 10);
        let mut state = WorkedOffAt::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        assert_eq!((0..20).filter(|_| limit.count(&mut state, at(5)).is_ok()).count(), 10);
        assert_eq!(limit.count(&mut state, at(5)), Err(Duration::from_secs(1)));
        assert_eq!(limit.count(&mut state, at(6)), Ok(()));
        assert!(limit.count(&mut state, at(6)).is_err());
        assert_eq!((0..20).filter(|_| limit.count(&mut state, at(600)).is_ok()).count(), 10);
    }
}
