//! The tick: ten times a second every line moves, once a second what is slow is looked after.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::{Desk, Scene, Stage, Status, StoreState};
use crate::clock::Clock;
use crate::domain::budget::TICK;
use crate::domain::leak_breaker::Admissions;
use crate::domain::line::Standstill;
use crate::domain::portal_health::{Finding, together};
use crate::domain::time::Now;
use crate::gateway::snapshot::{RoomInForce, Snapshot};
use crate::leaks::Leaks;
use crate::proxy::Portal;
use crate::room::Around;
use crate::store;
use crate::telemetry::metrics::Metrics;
use crate::waiting_room::assets::Assets;

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
    /// What operators see and changed.
    pub desk: Arc<Desk>,
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
        for room in &snapshot.rooms {
            room.live.tick(now, self.around(room, &snapshot, now));
            room.live.hold_opening_when_due(&self.clock);
            room.live.let_in(&self.portal, now);
        }
        if tick % SLOW_EVERY == 1 {
            self.look_after(&snapshot, now);
        }
    }

    /// What the portal, the login provider, an operator and the leak guard say of a room.
    fn around(&self, room: &RoomInForce, snapshot: &Snapshot, now: Now) -> Around {
        let (guard, ramp) = (&snapshot.config.leak_guard, snapshot.config.portal.ramp);
        let [login, by_hand] = room.live.health();
        let (finding, part) = together(&[self.portal.health(), login, by_hand], ramp, now.mono);
        let standstill = (finding == Finding::Ill).then_some(Standstill::PortalUnhealthy);
        let around = Around { standstill, ramp: part.min(room.live.borne()) };
        match self.leaks.admissions(&room.settings.name, guard, ramp, now) {
            Admissions::Go => around,
            Admissions::Stopped => Around { standstill: around.standstill.or(Some(Standstill::LeakGuard)), ..around },
            Admissions::Climbing(ramp) => Around { ramp: ramp.min(around.ramp), ..around },
        }
    }

    fn look_after(&self, snapshot: &Snapshot, now: Now) {
        self.portal.judge_answers(snapshot.config.portal.bearable, now.mono);
        for room in &snapshot.rooms {
            room.live.adapt(now.mono);
            room.live.sweep(now);
            refresh(room.clone(), snapshot.assets.clone(), now);
        }
        let healthy = self.portal.health().is_healthy();
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
        let scene = Scene {
            snapshot,
            healthy,
            in_flight: self.portal.in_flight() as u64,
            answers: self.portal.recent(),
            store,
            stage: *self.stage.borrow(),
            leaks: &self.leaks,
        };
        self.desk.picture(&scene, now)
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
