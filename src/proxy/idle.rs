//! A limit on the time between two pieces of a body, cheap where pieces are there already: a timer exists only once
//! somebody had to wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Measures how long nothing came.
#[derive(Debug)]
pub(crate) struct IdleTimer {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl IdleTimer {
    pub(crate) fn new(limit: Duration) -> IdleTimer {
        IdleTimer { limit, timer: None, running: false }
    }

    /// Something came: the next wait begins anew.
    pub(crate) fn moved(&mut self) {
        self.running = false;
    }

    /// Nothing came: ready once that has been so for the limit.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.running {
            timer.set(sleep(limit));
            self.running = true;
        }
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn expires_only_after_the_limit_without_movement() {
        let mut idle = IdleTimer::new(Duration::from_secs(10));
        for _ in 0..3 {
            let expired = std::future::poll_fn(|cx| idle.poll_expired(cx));
            assert!(tokio::time::timeout(Duration::from_secs(9), expired).await.is_err());
            idle.moved();
        }
        let expired = std::future::poll_fn(|cx| idle.poll_expired(cx));
        assert!(tokio::time::timeout(Duration::from_secs(11), expired).await.is_ok());
    }
}
