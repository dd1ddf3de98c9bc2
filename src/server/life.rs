//! What a connection is doing, so that every silence on it has an end.
//!
//! A request leaves two marks here, when its head begins and when its answer has been handed over; limits are looked at
//! when they may have passed, not on every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::connections::Room;
use crate::clock::Stopwatch;
use crate::config::Limits;
use crate::gateway::LINGER;

/// What may still come after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Another request.
    Nothing,
    /// What is left of the request's body, which is read and thrown away for a while, and then another request.
    OfABody,
}

/// How long a connection without a request is kept when others need the room.
const KEPT_WHEN_CROWDED: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It does not speak HTTP yet, or no longer.
    Outside,
    /// It has brought nothing yet.
    Fresh,
    /// A request's head has begun.
    Head,
    /// Requests are under way.
    Busy,
    /// Everything is answered.
    Idle,
}

impl Phase {
    fn of(number: u8) -> Phase {
        match number {
            0 => Phase::Outside,
            1 => Phase::Fresh,
            2 => Phase::Head,
            3 => Phase::Busy,
            _ => Phase::Idle,
        }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// One request after the other; bytes that come between two are the next one's head.
    Http1,
    /// Many requests at once, and much besides.
    Http2,
}

/// A connection's life, shared by its stream, its requests and its task.
#[derive(Debug)]
pub(super) struct Life {
    started: Stopwatch,
    phase: AtomicU8,
    /// Milliseconds from the start to the beginning of the phase.
    since: AtomicU64,
    requests: AtomicU32,
    heads_show: AtomicBool,
    is_old: AtomicBool,
    /// Whether the visitor has yet to take what was written.
    unsent: AtomicBool,
    /// Whether what comes next may be the rest of a body.
    may_bring_rest: AtomicBool,
}

/// Why a connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It brought nothing in time.
    Silent,
    /// Its time is over; what is under way may finish.
    Over,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Life>);

impl Life {
    /// A connection that was just accepted.
    pub(super) fn begin() -> Arc<Life> {
        Arc::new(Life {
            started: Stopwatch::start(),
            phase: AtomicU8::new(Phase::Outside as u8),
            since: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            heads_show: AtomicBool::new(false),
            is_old: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            may_bring_rest: AtomicBool::new(false),
        })
    }

    /// It speaks HTTP from now on.
    pub(super) fn speak(&self, protocol: Protocol) {
        self.heads_show.store(protocol == Protocol::Http1, Ordering::Relaxed);
        // HTTP/2 is opened by browsers ahead of any request: that is being idle.
        self.enter(if protocol == Protocol::Http1 { Phase::Fresh } else { Phase::Idle });
    }

    /// It has left HTTP: what passes now is nobody's request.
    pub(super) fn leave_http(&self) {
        self.enter(Phase::Outside);
    }

    /// Bytes came.
    pub(super) fn heard(&self) {
        let waits = matches!(self.phase(), Phase::Fresh | Phase::Idle);
        if waits && self.heads_show.load(Ordering::Relaxed) {
            self.enter(Phase::Head);
        }
    }

    /// The visitor takes nothing just now. An answer may have been handed over long before all of it is taken.
    pub(super) fn write_waits(&self) {
        self.unsent.store(true, Ordering::Relaxed);
    }

    /// The visitor took something.
    pub(super) fn wrote(&self) {
        let had_waited = self.unsent.load(Ordering::Relaxed);
        if had_waited {
            self.unsent.store(false, Ordering::Relaxed);
        }
        // Over HTTP/2 an answer may wait for its window without a write that waits; over HTTP/1.1 it never does.
        let matters = had_waited || !self.heads_show.load(Ordering::Relaxed);
        if matters && self.phase() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    fn is_under_way(&self) -> bool {
        self.unsent.load(Ordering::Relaxed) || self.phase() == Phase::Busy
    }

    /// A request has begun.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Whether it should get no further requests.
    pub(super) fn is_old(&self) -> bool {
        self.is_old.load(Ordering::Relaxed)
    }

    /// What it is doing.
    pub(super) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Ordering::Relaxed))
    }

    /// Since when, on its own clock.
    pub(super) fn since(&self) -> Duration {
        Duration::from_millis(self.since.load(Ordering::Relaxed))
    }

    /// How long a head may take that is limited to `limit`: what looks like one after an early answer may be the rest of a
    /// body, which has its own limit.
    pub(super) fn head_limit(&self, limit: Duration) -> Duration {
        if self.may_bring_rest.load(Ordering::Relaxed) { limit.max(LINGER) } else { limit }
    }

    /// For how long.
    pub(super) fn lasted(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.since())
    }

    fn enter(&self, phase: Phase) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(now, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Returns when it has been silent for too long, or has lasted for too long. A head that does not end is the
    /// stream's business.
    pub(super) async fn over(
        &self,
        limits: &Limits,
        mut room: watch::Receiver<Room>,
        keeps: impl Fn() -> bool,
    ) -> Ending {
        let speaks_http1 = self.heads_show.load(Ordering::Relaxed);
        let idle_limit = if speaks_http1 { limits.keep_alive_timeout } else { limits.http2_idle_timeout };
        loop {
            let crowded = *room.borrow_and_update() == Room::Crowded && !keeps();
            let (ending, limit) = match self.phase() {
                Phase::Fresh => (Ending::Silent, limits.first_byte_timeout),
                Phase::Idle if crowded => (Ending::Over, idle_limit.min(KEPT_WHEN_CROWDED)),
                _ => (Ending::Over, idle_limit),
            };
            let is_under_way = self.is_under_way() || matches!(self.phase(), Phase::Head | Phase::Outside);
            let left = if is_under_way { limit } else { limit.saturating_sub(self.lasted()) };
            if left.is_zero() {
                return ending;
            }
            let age_left = limits.max_connection_age.saturating_sub(self.started.elapsed());
            if age_left.is_zero() && !self.is_old() {
                self.is_old.store(true, Ordering::Relaxed);
                if !speaks_http1 {
                    return Ending::Over;
                }
            }
            let next = if self.is_old() { left } else { left.min(age_left) };
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                _ = room.changed() => {}
            }
        }
    }

    /// Returns when everything has been answered, and taken, and nothing more has come for `span`, while it `may`.
    pub(super) async fn rests(&self, span: Duration, may: impl Fn() -> bool) {
        loop {
            let rests = self.phase() == Phase::Idle && !self.unsent.load(Ordering::Relaxed) && may();
            let left = if rests { span.saturating_sub(self.lasted()) } else { span };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Returns when nothing has been under way for `limit`.
    pub(super) async fn still(&self, limit: Duration) {
        loop {
            let left = if self.is_under_way() { limit } else { limit.saturating_sub(self.lasted()) };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl UnderWay {
    /// Its answer begins, and this may come after it.
    pub(super) fn is_followed_by(&self, rest: Rest) {
        self.0.may_bring_rest.store(rest == Rest::OfABody, Ordering::Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 && self.0.phase() == Phase::Busy {
            self.0.enter(Phase::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n[server.limits]\nfirst_byte_timeout = \"1s\"\n\
                    keep_alive_timeout = \"5s\"\nhttp2_idle_timeout = \"7s\"\nmax_connection_age = \"20s\"\n\
                    [portal]\nurl = \"http://127.0.0.1:1\"";
        crate::config::parse(text, std::path::Path::new("")).unwrap().server.limits
    }

    async fn ended(life: &Life, within: Duration, room: &watch::Sender<Room>) -> Option<Ending> {
        tokio::time::timeout(within, life.over(&limits(), room.subscribe(), || false)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_its_limit() {
        let room = watch::Sender::new(Room::Enough);
        let life = Life::begin();
        life.speak(Protocol::Http1);
        assert_eq!(ended(&life, SECOND * 2, &room).await, Some(Ending::Silent));
        life.heard();
        assert_eq!(life.phase(), Phase::Head);
        let under_way = life.request();
        assert_eq!(ended(&life, SECOND * 10, &room).await, None, "nothing ends what is under way");
        drop(under_way);
        assert_eq!(ended(&life, SECOND * 4, &room).await, None);
        assert_eq!(ended(&life, SECOND * 2, &room).await, Some(Ending::Over));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_slowly_is_under_way_until_its_end() {
        let room = watch::Sender::new(Room::Crowded);
        let life = Life::begin();
        life.speak(Protocol::Http1);
        drop(life.request());
        life.write_waits();
        assert_eq!(ended(&life, SECOND * 30, &room).await, None, "what was handed over is not taken yet");
        life.wrote();
        assert_eq!(ended(&life, SECOND * 3, &room).await, Some(Ending::Over));
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_the_idle_go_first_unless_somebody_inside_uses_them() {
        let room = watch::Sender::new(Room::Crowded);
        let life = Life::begin();
        life.speak(Protocol::Http1);
        drop(life.request());
        assert_eq!(ended(&life, SECOND * 2, &room).await, Some(Ending::Over));
        let limits = limits();
        let kept = life.over(&limits, room.subscribe(), || true);
        assert!(tokio::time::timeout(SECOND * 2, kept).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_is_told_so() {
        let room = watch::Sender::new(Room::Enough);
        let (one, two) = (Life::begin(), Life::begin());
        one.speak(Protocol::Http1);
        two.speak(Protocol::Http2);
        let _under_way = (one.request(), two.request());
        assert_eq!(ended(&one, SECOND * 30, &room).await, None, "its next answer says so");
        assert!(one.is_old());
        assert_eq!(ended(&two, SECOND * 30, &room).await, Some(Ending::Over));
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_after_http_is_no_head() {
        let life = Life::begin();
        life.heard();
        assert_eq!(life.phase(), Phase::Outside);
        life.speak(Protocol::Http2);
        life.heard();
        assert_eq!(life.phase(), Phase::Idle, "HTTP/2 has more than heads");
        life.leave_http();
        life.heard();
        assert_eq!(life.phase(), Phase::Outside);
    }
}
