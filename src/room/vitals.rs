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
use crate::config::LoginHealth;
use crate::domain::adaptive::Throttle;
use crate::domain::budget::WHOLE;
use crate::domain::portal_health::{Finding, Health, Probe, Probed, Thresholds};
use crate::domain::pulse::Recent;
use crate::domain::time::Mono;
use crate::gateway::snapshot::Snapshot;
use crate::leaks::fetch::{NotFetched, Side, fetch};
use crate::proxy::meter::Meter;
use crate::proxy::probe_request;

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
    recent: Recent,
    throttle: Throttle,
}

impl Default for Vitals {
    fn default() -> Vitals {
        let known = Known {
            login: Probed::default(),
            login_health: Health::ALWAYS,
            by_hand: Health::ALWAYS,
            recent: Recent::default(),
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

/// What an operator says of a room by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByHand {
    /// Nobody new enters, and the clocks of those inside stand still.
    Freeze,
    /// As it is without that.
    Thaw,
}

impl LiveRoom {
    /// Counts how fast the portal answers those inside.
    pub fn meter(&self) -> &Meter {
        &self.vitals.meter
    }

    /// Freezes the room or thaws it, until the program ends.
    pub fn by_hand(&self, wish: ByHand, now: Mono) {
        let finding = if wish == ByHand::Freeze { Finding::Ill } else { Finding::Well };
        let mut known = self.vitals.known();
        known.by_hand = known.by_hand.found(finding, now);
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

    /// Once a second: takes what was counted, and lowers or raises the rate. While nobody enters anyway nothing is learnt.
    pub fn adapt(&self) {
        let counted = self.vitals.meter.take();
        let (adaptive, rate) = (self.settings().adaptive, self.in_force().rate());
        let stands = self.stands_still();
        let mut known = self.vitals.known();
        let Some(adaptive) = adaptive else {
            (known.recent, known.throttle) = Default::default();
            return;
        };
        let Known { recent, throttle, .. } = &mut *known;
        recent.push(counted);
        if !stands {
            throttle.second(&adaptive, rate, recent);
        }
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

/// Asks the login providers of rooms whether they are well, each interval of `clock`. Runs until dropped.
pub async fn ask_login_providers(mut snapshot: watch::Receiver<Arc<Snapshot>>, clock: Clock) {
    loop {
        let now_in_force = snapshot.borrow_and_update().clone();
        let probes = &now_in_force.config.portal.probes;
        let mut asking = JoinSet::new();
        for room in &now_in_force.rooms {
            if let Some(address) = &room.settings.login_health {
                let (address, limit, live) = (address.clone(), probes.timeout, room.live.clone());
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
            changed = snapshot.changed() => if changed.is_err() { return },
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
