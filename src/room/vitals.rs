//! How well those do whom a room's visitors are sent to, as far as it is not the whole portal: its login provider, what
//! an operator found, and how fast the portal answers those inside. The rules are `domain::portal_health`'s and
//! `domain::adaptive`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::Empty;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::LiveRoom;
use crate::clock::Clock;
use crate::config::{self, LoginHealth, RoomState};
use crate::domain::adaptive::{Course, Throttle};
use crate::domain::budget::WHOLE;
use crate::domain::mirror::Said;
use crate::domain::portal_health::{Finding, Health, Probe, Probed, Thresholds};
use crate::domain::pulse::{Counted, Recent};
use crate::domain::time::Mono;
use crate::leaks::fetch::{NotFetched, Side, fetch};
use crate::proxy::meter::Meter;
use crate::proxy::probe_request;
use crate::store::{Fact, Order, Orders, StoreError};

/// What is known of them.
#[derive(Debug)]
pub(super) struct Vitals {
    /// How fast the portal answers those inside.
    meter: Meter,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    login: Probed,
    login_health: Health,
    /// As an operator says.
    by_hand: Health,
    /// Whether an operator said to all nodes to hold the room.
    held: bool,
    recent: Recent,
    /// What other nodes said that they counted since the last second.
    elsewhere: Counted,
    throttle: Throttle,
}

impl Default for Vitals {
    fn default() -> Vitals {
        let known = Known {
            login: Probed::default(),
            login_health: Health::ALWAYS,
            by_hand: Health::ALWAYS,
            held: false,
            recent: Recent::default(),
            elsewhere: Counted::default(),
            throttle: Throttle::default(),
        };
        Vitals { meter: Meter::default(), known: Mutex::new(known) }
    }
}

impl Vitals {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveRoom {
    /// Counts how fast the portal answers those inside.
    pub fn meter(&self) -> &Meter {
        &self.vitals.meter
    }

    /// Does what an operator says here, and tells the other nodes: there, and at any that starts, it is in force until
    /// somebody says otherwise. A node of its own forgets it when it ends.
    ///
    /// # Errors
    /// When the others could not be told yet; they are as soon as the store is there again.
    pub async fn order(&self, order: Order, now: Mono) -> Result<(), StoreError> {
        self.obey(order, now);
        if !self.is_shared() {
            return Ok(());
        }
        self.record(Fact::Ordered(order));
        self.store.flush_room(&self.name).await
    }

    /// Does what an operator said, here or to another node.
    pub(super) fn obey(&self, order: Order, now: Mono) {
        let mut known = self.vitals.known();
        match order {
            Order::Freeze => known.by_hand = known.by_hand.found(Finding::Ill, now),
            Order::Thaw => known.by_hand = known.by_hand.found(Finding::Well, now),
            Order::Hold => known.held = true,
            Order::GoOn => known.held = false,
        }
    }

    /// The room's state as it is in force, with a hold that an operator ordered at any node.
    pub fn state(&self) -> RoomState {
        self.orders().state_of(self.settings().state)
    }

    /// What operators said to all nodes.
    pub fn orders(&self) -> Orders {
        let known = self.vitals.known();
        Orders { frozen: !known.by_hand.is_healthy(), held: known.held }
    }

    /// Whether an operator froze it.
    pub fn is_frozen(&self) -> bool {
        !self.vitals.known().by_hand.is_healthy()
    }

    /// Whether the login provider is well; `None` when nobody asks it.
    pub fn login_is_well(&self) -> Option<bool> {
        let is_asked = self.settings().login_health.is_some();
        is_asked.then(|| self.vitals.known().login_health.is_healthy())
    }

    /// What the login provider and an operator say, besides what is known of the portal.
    pub fn health(&self) -> [Health; 2] {
        let is_asked = self.settings().login_health.is_some();
        let known = self.vitals.known();
        [if is_asked { known.login_health } else { Health::ALWAYS }, known.by_hand]
    }

    /// Thousandths of the rate that the portal bears, as far as the operator wants it looked after.
    pub fn borne(&self) -> u32 {
        if self.settings().adaptive.is_none() { WHOLE } else { self.vitals.known().throttle.permille() }
    }

    /// Once a second: takes what was counted, here and at other nodes, and lowers or raises the rate. While nobody enters
    /// anyway nothing is learnt. Where nodes share the line, the leader's rate is in force.
    pub fn adapt(&self, now: Mono) {
        let mut counted = self.vitals.meter.take();
        let (adaptive, rate) = (self.settings().adaptive, self.in_force().rate());
        let stands = self.stands_still();
        let mut known = self.vitals.known();
        let Some(adaptive) = adaptive else {
            (known.recent, known.elsewhere, known.throttle) = Default::default();
            return;
        };
        let Known { recent, elsewhere, throttle, .. } = &mut *known;
        // While the store is away nothing is told: what comes late would be taken for something of that second.
        let is_heard = self.is_shared() && self.store.is_there(&self.name, now);
        let seen: Vec<(u8, u32)> = if is_heard { counted.filled().collect() } else { Vec::new() };
        counted.add(&std::mem::take(elsewhere));
        recent.push(counted);
        if !stands {
            throttle.second(&adaptive, rate, recent);
        }
        let course = throttle.course();
        drop(known);
        seen.into_iter().for_each(|(bucket, count)| self.tell(Said::Answers { bucket, count }));
        if self.is_shared() && self.leads(now) {
            self.tell(Said::Bears(course));
        }
    }

    /// Another node counted so many answers in a bucket.
    pub(super) fn hear_of_answers(&self, bucket: u8, count: u32) {
        self.vitals.known().elsewhere.note(bucket, count);
    }

    /// Where the leader's rate stands.
    pub(super) fn follow_course(&self, course: Course) {
        self.vitals.known().throttle.follow(course);
    }

    fn note_login(&self, probe: Probe, thresholds: Thresholds, now: Mono) {
        let mut known = self.vitals.known();
        known.login.note(probe, thresholds);
        let before = known.login_health;
        known.login_health = before.found(known.login.finding(), now);
        if known.login_health != before {
            tracing::warn!(room = %self.name, health = ?known.login_health, "the login provider's answers to probes");
        }
    }
}

/// Whose login providers are asked, and how.
#[derive(Debug)]
pub struct Asked {
    /// How often, and how long an answer may take.
    pub probes: config::Probes,
    /// The rooms, as they are configured and as they run.
    pub rooms: Vec<(Arc<config::Room>, Arc<LiveRoom>)>,
}

/// Asks the login providers of the rooms in force whether they are well, each interval of `clock`. Runs until dropped.
pub async fn ask_login_providers<S>(mut in_force: watch::Receiver<S>, asked_of: fn(&S) -> Asked, clock: Clock) {
    loop {
        let Asked { probes, rooms } = asked_of(&in_force.borrow_and_update());
        let mut asking = JoinSet::new();
        for (settings, live) in rooms {
            if let Some(address) = &settings.login_health {
                let (address, limit) = (address.clone(), probes.timeout);
                asking.spawn(async move { (ask(&address, limit).await, live) });
            }
        }
        let is_anybody_asked = !asking.is_empty();
        while let Some(answered) = asking.join_next().await {
            let Ok((probe, live)) = answered else { continue };
            live.note_login(probe, probes.thresholds, clock.mono());
        }
        let pause =
            async { if is_anybody_asked { clock.sleep(probes.interval).await } else { std::future::pending().await } };
        tokio::select! {
            () = pause => {}
            changed = in_force.changed() => if changed.is_err() { return },
        }
    }
}

async fn ask(address: &LoginHealth, limit: Duration) -> Probe {
    let asking = async {
        let side = if address.at.https { Side::as_browsers_do(&address.at.host)? } else { Side::Plain };
        let target = address.path.parse().map_err(|_| NotFetched::Body)?;
        let host = HeaderValue::from_str(&address.at.authority).map_err(|_| NotFetched::Body)?;
        let request = probe_request(Method::GET, target, host, Empty::<Bytes>::new());
        Ok::<_, NotFetched>(fetch(&address.at.host, address.at.port, side, request).await?.status)
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(Ok(status)) if status < StatusCode::BAD_REQUEST => Probe::Good,
        Ok(answered) => {
            tracing::debug!(host = address.at.authority, ?answered, "the login provider");
            Probe::Bad
        }
        Err(_) => Probe::Bad,
    }
}
