//! The load tester's only reader of time: microseconds since the program started, on the monotonic clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant: microseconds since the clock started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than anything that happens.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// Seconds since the clock started.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The time from `earlier` until this; none if this is the earlier one.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The same instant on a clock that shows `ahead` microseconds more than this one.
    pub fn shifted(self, ahead: i64) -> Moment {
        Moment(self.0.saturating_add_signed(ahead))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, span: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// The monotonic clock, counted from when this value was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: tokio::time::Instant,
}

impl Clock {
    /// Starts the clock at zero.
    #[expect(clippy::disallowed_methods, reason = "this is the load tester's reader of time")]
    #[expect(clippy::new_without_default, reason = "starting a clock is an act, not a default")]
    pub fn new() -> Clock {
        Clock { started: tokio::time::Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Waits until `moment`; for [`Moment::NEVER`] for ever.
    pub async fn sleep_until(&self, moment: Moment) {
        if moment == Moment::NEVER {
            std::future::pending().await
        } else {
            tokio::time::sleep_until(self.started + Duration::from_micros(moment.0)).await;
        }
    }
}
