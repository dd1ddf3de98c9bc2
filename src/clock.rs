//! The only reader of time. Tests start the program in-process with a clock that they move by hand; the released
//! binary has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::time::{Mono, Now, Unix};

/// Where `now` comes from and what sleeping means.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's clocks.
    System(Arc<SystemClock>),
    /// A clock that only its owner moves.
    Manual(ManualClock),
}

/// The system's clocks, read through one time line of the process's own.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
    wall_at_start: Unix,
    /// What slewing has added to the time line so far, in milliseconds.
    slewed: AtomicI64,
    slewed_at: AtomicU64,
    /// By how much the clock that several nodes agree on is ahead of wall time, in milliseconds.
    agreed_ahead: AtomicI64,
}

/// How the time line comes to what several nodes agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// By a step: nobody has been told a time yet.
    AtOnce,
    /// By at most 1 %.
    Slowly,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Clock {
        Clock::System(Arc::new(SystemClock {
            started: monotonic(),
            wall_at_start: wall(),
            slewed: AtomicI64::new(0),
            slewed_at: AtomicU64::new(0),
            agreed_ahead: AtomicI64::new(0),
        }))
    }

    /// Reads the clocks once.
    pub fn now(&self) -> Now {
        match self {
            Clock::System(clock) => clock.now(),
            Clock::Manual(clock) => clock.now(),
        }
    }

    /// Reads the monotonic clock alone, which costs half as much.
    pub fn mono(&self) -> Mono {
        match self {
            Clock::System(clock) => clock.mono(),
            Clock::Manual(clock) => clock.now().mono,
        }
    }

    /// Reads the time line alone.
    pub fn unix(&self) -> Unix {
        match self {
            Clock::System(clock) => clock.time_line(clock.mono()),
            Clock::Manual(clock) => clock.now().unix,
        }
    }

    /// Waits until the monotonic clock has reached `until`.
    pub async fn sleep_until(&self, until: Mono) {
        match self {
            Clock::System(clock) => {
                tokio::time::sleep_until((clock.started + Duration::from_nanos(until.0)).into()).await
            }
            Clock::Manual(clock) => clock.reached(until).await,
        }
    }

    /// Waits for `span`.
    pub async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now().mono + span).await;
    }

    /// Moves the time line towards wall time by at most 1 % of the time since the last call. Called by the pacer.
    pub fn slew(&self) {
        if let Clock::System(clock) = self {
            clock.slew();
        }
    }

    /// Lets the time line follow a clock that several nodes agree on and that shows `agreed` now, instead of this
    /// machine's wall time, so that nodes whose clocks differ agree on when a token expires.
    pub fn follow(&self, agreed: Unix, steer: Steer) {
        if let Clock::System(clock) = self {
            clock.agreed_ahead.store(agreed.0.cast_signed() - wall().0.cast_signed(), Ordering::Relaxed);
            if steer == Steer::AtOnce {
                let ahead = clock.time_line(clock.mono()).0.cast_signed() - agreed.0.cast_signed();
                clock.slewed.fetch_sub(ahead, Ordering::Relaxed);
            }
        }
    }
}

impl SystemClock {
    fn now(&self) -> Now {
        let mono = self.mono();
        Now { mono, unix: self.time_line(mono), wall: wall() }
    }

    fn mono(&self) -> Mono {
        Mono(u64::try_from(monotonic().duration_since(self.started).as_nanos()).unwrap_or(u64::MAX))
    }

    fn time_line(&self, mono: Mono) -> Unix {
        let unslewed = self.wall_at_start.0.saturating_add(mono.0 / 1_000_000);
        Unix(unslewed.saturating_add_signed(self.slewed.load(Ordering::Relaxed)))
    }

    fn slew(&self) {
        let mono = self.mono();
        let elapsed_ms = (mono.0.saturating_sub(self.slewed_at.load(Ordering::Relaxed))) / 1_000_000;
        let limit = i64::try_from(elapsed_ms / 100).unwrap_or(0);
        if limit == 0 {
            return;
        }
        self.slewed_at.store(mono.0, Ordering::Relaxed);
        let agreed = wall().0.cast_signed() + self.agreed_ahead.load(Ordering::Relaxed);
        let ahead = self.time_line(mono).0.cast_signed() - agreed;
        self.slewed.fetch_sub(ahead.clamp(-limit, limit), Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn wall() -> Unix {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Unix(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Measures how long something takes on a socket. What is limited there runs on real time also where a test moves the
/// program's clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
    pub fn start() -> Stopwatch {
        Stopwatch(tokio::time::Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands still until its owner moves it.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: watch::Sender<Now>,
}

impl ManualClock {
    /// A clock that shows `unix` on its time line and wall, and zero on its monotonic clock.
    pub fn starting_at(unix: Unix) -> ManualClock {
        ManualClock { now: watch::Sender::new(Now { mono: Mono(0), unix, wall: unix }) }
    }

    /// What the clock shows.
    pub fn now(&self) -> Now {
        *self.now.borrow()
    }

    /// Moves all hands forward by `span` and wakes whoever waited for it.
    pub fn advance(&self, span: Duration) {
        self.now.send_modify(|now| *now = Now { mono: now.mono + span, unix: now.unix + span, wall: now.wall + span });
    }

    /// Sets the wall clock alone, as an administrator or a leap of NTP does.
    pub fn set_wall(&self, wall: Unix) {
        self.now.send_modify(|now| now.wall = wall);
    }

    async fn reached(&self, until: Mono) {
        let mut shown = self.now.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = shown.wait_for(|now| now.mono >= until).await;
    }
}
