//! The tick: ten times a second every line moves, once a second what is slow is looked after.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::{LaneStatus, PortalStatus, RoomStatus, Stage, Standstill as StatusStandstill, Status, StoreState};
use crate::clock::Clock;
use crate::domain::budget::{TICK, WHOLE};
use crate::domain::leak_breaker::Admissions;
use crate::domain::line::Standstill;
use crate::domain::time::{Mono, Now};
use crate::gateway::snapshot::{RoomInForce, Snapshot};
use crate::leaks::Leaks;
use crate::proxy::{Health, Portal};
use crate::room::{Around, NamedLane};
use crate::store;
use crate::telemetry::metrics::Metrics;
use crate::waiting_room::assets::Assets;

/// A tenth of the rate: where the ramp after an outage begins.
const RAMP_FROM: u32 = WHOLE / 10;

/// Ticks between two rounds of the slower work.
const SLOW_EVERY: u64 = 10;

/// What the pacer looks at and writes to.
#[derive(Debug)]
pub struct Pacer {
    /// The configuration and rooms in force.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// The portal.
    pub portal: Arc<Portal>,
    /// The store's health.
    pub store: watch::Receiver<store::Health>,
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// What the leak guard found.
    pub leaks: Arc<Leaks>,
    /// What operators see.
    pub status: watch::Sender<Arc<Status>>,
    /// Whether the program serves or drains.
    pub stage: watch::Receiver<Stage>,
    /// Ticks done so far.
    pub ticks: watch::Sender<u64>,
}

impl Pacer {
    /// Ticks until the task is dropped.
    pub async fn run(self) {
        loop {
            self.clock.sleep_until(self.clock.now().mono + TICK).await;
            self.clock.slew();
            let tick = *self.ticks.borrow() + 1;
            // A fault in one tick must not end all later ones; the panic hook has logged it.
            if catch_unwind(AssertUnwindSafe(|| self.tick(tick))).is_err() {
                tracing::error!("a tick broke off; the next one goes on");
            }
            self.ticks.send_replace(tick);
        }
    }

    fn tick(&self, tick: u64) {
        let now = self.clock.now();
        let snapshot = self.snapshot.borrow().clone();
        let around = self.around(snapshot.config.portal.ramp, now.mono);
        for room in &snapshot.rooms {
            room.live.tick(now, self.around_room(around, room, &snapshot, now));
            room.live.hold_opening_when_due(&self.clock);
            room.live.let_in(&self.portal, now);
        }
        if tick % SLOW_EVERY == 1 {
            self.look_after(&snapshot, now);
        }
    }

    fn around(&self, ramp: Duration, now: Mono) -> Around {
        let (standstill, ramp) = match self.portal.health() {
            Health::Unhealthy { .. } => (Some(Standstill::PortalUnhealthy), WHOLE),
            Health::Healthy { since: None } => (None, WHOLE),
            Health::Healthy { since: Some(since) } => (None, ramped(now.since(since), ramp)),
        };
        Around { standstill, ramp }
    }

    /// The same with what the leak guard says of the room.
    fn around_room(&self, around: Around, room: &RoomInForce, snapshot: &Snapshot, now: Now) -> Around {
        let (guard, ramp) = (&snapshot.config.leak_guard, snapshot.config.portal.ramp);
        match self.leaks.admissions(&room.settings.name, guard, ramp, now) {
            Admissions::Go => around,
            Admissions::Stopped => Around { standstill: around.standstill.or(Some(Standstill::LeakGuard)), ..around },
            Admissions::Climbing(ramp) => Around { ramp: ramp.min(around.ramp), ..around },
        }
    }

    fn look_after(&self, snapshot: &Snapshot, now: Now) {
        for room in &snapshot.rooms {
            room.live.sweep(now);
            refresh(room.clone(), snapshot.assets.clone(), now);
        }
        let healthy = matches!(self.portal.health(), Health::Healthy { .. });
        self.metrics.portal_healthy.set(i64::from(healthy));
        self.metrics.portal_in_flight.set(i64::try_from(self.portal.in_flight()).unwrap_or(i64::MAX));
        self.status.send_replace(Arc::new(self.status(snapshot, now, healthy)));
    }

    fn status(&self, snapshot: &Snapshot, now: Now, healthy: bool) -> Status {
        let store = match *self.store.borrow() {
            store::Health::Good => StoreState::Works,
            store::Health::Full { .. } => StoreState::Full,
            store::Health::Unreachable { .. } => StoreState::Unreachable,
        };
        Status {
            taken_at: now.mono,
            updated_at: now.wall,
            stage: *self.stage.borrow(),
            store,
            portal: PortalStatus { healthy, in_flight: self.portal.in_flight() as u64 },
            rooms: snapshot.rooms.iter().map(|room| room_status(room, now)).collect(),
        }
    }
}

/// Brings what everybody sees of a room up to date, off the tick: rendering and compressing pages takes a while.
fn refresh(room: Arc<RoomInForce>, assets: Arc<Assets>, now: Now) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = room.refresh(&assets, now) {
            tracing::error!(room = %room.settings.name, %error, "the waiting page could not be brought up to date");
        }
    });
}

fn room_status(room: &RoomInForce, now: Now) -> RoomStatus {
    let settings = &room.settings;
    let in_force = room.live.in_force();
    let (_, ramp) = room.live.still();
    RoomStatus {
        name: settings.name.clone(),
        state: settings.state,
        message: in_force.message.first().map(str::to_owned),
        admission_rate: in_force.rate().per_second() * f64::from(ramp) / f64::from(WHOLE),
        active_sessions: room.live.seats.count(),
        max_active_sessions: in_force.max_active_sessions,
        lanes: room.live.lanes().iter().map(|lane| lane_status(room, lane, now)).collect(),
    }
}

fn lane_status(room: &RoomInForce, lane: &NamedLane, now: Now) -> LaneStatus {
    let view = room.live.lane_view(lane.class);
    LaneStatus {
        class: lane.name.clone(),
        tickets: view.tickets,
        now_serving: view.now_serving,
        waiting: view.waiting,
        called: view.called,
        at_gate: view.at_gate,
        standstill: room
            .live
            .told_to_lane(lane.class, now)
            .map(|still| StatusStandstill { reason: still.why.into(), seconds: now.mono.since(still.since_mono) }),
    }
}

/// Thousandths of the rate `since` the portal recovered: from a tenth to the whole.
fn ramped(since: Duration, ramp: Duration) -> u32 {
    if since >= ramp {
        return WHOLE;
    }
    let part = since.as_secs_f64() / ramp.as_secs_f64();
    RAMP_FROM + (f64::from(WHOLE - RAMP_FROM) * part) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_ramps_from_a_tenth_to_the_whole() {
        let ramp = Duration::from_secs(60);
        let at = |seconds| ramped(Duration::from_secs(seconds), ramp);
        assert_eq!((at(0), at(30), at(60), at(600)), (100, 550, 1000, 1000));
        assert_eq!(ramped(Duration::ZERO, Duration::ZERO), 1000);
    }
}
