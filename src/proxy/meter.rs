//! Counts how fast answers come, on the request threads; once a second the control plane takes what was counted.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::domain::pulse::{BUCKETS, Counted, bucket_of};

/// What an answer says about the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It does its work, whatever the answer.
    Works,
    /// It is overloaded or away (502, 503, 504), or there was no answer.
    Fails,
}

/// The answers since the last look.
#[derive(Debug)]
pub struct Meter {
    answers: [AtomicU32; BUCKETS],
    errors: AtomicU32,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter { answers: [const { AtomicU32::new(0) }; BUCKETS], errors: AtomicU32::new(0) }
    }
}

impl Meter {
    /// Counts an answer that came, or was given up, after this time.
    pub fn note(&self, latency: Duration, says: Says) {
        if let Some(bucket) = self.answers.get(bucket_of(latency)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        if says == Says::Fails {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what was counted since the last time.
    pub fn take(&self) -> Counted {
        Counted {
            answers: std::array::from_fn(|bucket| {
                self.answers.get(bucket).map_or(0, |answers| answers.swap(0, Ordering::Relaxed))
            }),
            errors: self.errors.swap(0, Ordering::Relaxed),
        }
    }
}
