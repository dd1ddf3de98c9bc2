//! The run second by second, for plots: one sample a second, taken from running counts.

use serde::Serialize;

use crate::clock::Moment;
use crate::crowd::Crowd;
use crate::process::{Usage, usage, usage_alone};

/// The run so far, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub second: u64,
    /// Visitors who have come so far.
    pub arrived: u64,
    /// Visitors in line.
    pub waiting: u64,
    /// Visitors who have learnt of their turn so far.
    pub called: u64,
    /// Visitors who have entered so far, by the portal's answers.
    pub entered: u64,
    /// Visitors who have closed the page so far.
    pub left: u64,
    /// Requests so far.
    pub requests: u64,
    /// Polls so far.
    pub polls: u64,
    /// Requests that went wrong without excuse so far.
    pub errors: u64,
    /// Requests of hostile visitors that were refused, or of which work was asked first, so far.
    pub refused: u64,
    /// Latency in the last second of what is never held, in milliseconds: median ...
    pub p50_ms: f64,
    /// ... and 99th percentile.
    pub p99_ms: f64,
    /// The proxy's CPU time so far, in milliseconds, kernel included.
    pub proxy_cpu_ms: u64,
    /// The proxy's resident memory, in KiB.
    pub proxy_kib: u64,
    /// The load tester's own CPU time so far, in milliseconds.
    pub own_cpu_ms: u64,
    /// The load tester's own resident memory, in KiB.
    pub own_kib: u64,
}

/// All samples of a run.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    samples: Vec<Sample>,
}

impl Timeline {
    /// Takes a sample at `now` of a run that began at `start`.
    pub fn take(&mut self, crowd: &Crowd, proxy: Option<u32>, start: Moment, now: Moment) -> Sample {
        let mut measures = crowd.measures_mut();
        let counts = measures.counts;
        let latency = measures.recent.figures();
        measures.recent.clear();
        let proxy = proxy.and_then(|pid| usage(pid).ok()).unwrap_or_default();
        let own: Usage = usage_alone(std::process::id()).unwrap_or_default();
        let sample = Sample {
            second: now.since(start).as_secs(),
            arrived: counts.arrived,
            waiting: counts.waiting,
            called: counts.called,
            entered: counts.entered,
            left: counts.left,
            requests: counts.requests,
            polls: counts.polls,
            errors: measures.troubles.errors(),
            refused: measures.hostile.too_many_requests + measures.hostile.challenged,
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
            proxy_cpu_ms: proxy.cpu_ms,
            proxy_kib: proxy.resident_kib,
            own_cpu_ms: own.cpu_ms,
            own_kib: own.resident_kib,
        };
        self.samples.push(sample);
        sample
    }

    /// The samples, in order.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}
