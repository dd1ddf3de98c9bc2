//! What the service manager is told (`sd_notify(3)`): ready, reloading, stopping, a line of status, and that the program
//! still works. Where there is none (`NOTIFY_SOCKET` is not set) nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

/// The program serves.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is read again; [`ready`] has to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager was not told of a reload"),
    }
}

/// The program drains.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining: requests under way come to their end")]);
}

/// Tells the watchdog, if there is one, that the program works, as long as the lines tick. Never ends.
pub async fn reassure(mut ticks: watch::Receiver<u64>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        ticks.borrow_and_update();
        tokio::time::sleep(interval(patience)).await;
        if ticks.has_changed().unwrap_or(false) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// A third of the watchdog's patience, so that one that is late does no harm.
fn interval(patience: Duration) -> Duration {
    (patience / 3).max(Duration::from_millis(1))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
