//! The portal as all request threads see it: its addresses, how they are, and how many requests may be under way.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderValue, Method, Uri};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connect::{self, Connection, Names};
use super::error::{NoSlot, ProxyError};
use super::health::{Cause, Health, Streak, Vitals};
use super::meter::Meter;
use super::probe::probe_request;
use super::request_body::RequestBody;
use super::slots::{Slot, Slots};
use super::tls::PortalTls;
use crate::clock::Clock;
use crate::config::{self, PortalUrl};
use crate::domain::portal_health::{Bearable, Finding, Probe, Probed, Thresholds, judge};
use crate::domain::pulse::{Counted, Recent};
use crate::domain::time::Mono;

/// Between two probes of an address that is ill.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What a probe may take: a portal that needs longer for `HEAD /` is not well.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// The protected application; one per process.
#[derive(Debug)]
pub struct Portal {
    /// Replaced as a whole by a reload; an address that stays keeps its identity and its health.
    addresses: RwLock<Arc<[Arc<Address>]>>,
    /// What connections over TLS need.
    tls: RwLock<Option<PortalTls>>,
    slots: Arc<Slots>,
    vitals: Vitals,
    /// How fast it answers, and how often it fails.
    meter: Meter,
    recent: Mutex<Recent>,
    /// Told when an address falls ill.
    fell_ill: Notify,
    /// Whose turn it is among addresses for visitors without a pass.
    turn: AtomicUsize,
    next_id: AtomicU64,
}

/// One address of the portal.
#[derive(Debug)]
pub(super) struct Address {
    /// Its key in pools.
    pub(super) id: u64,
    /// Where it is.
    pub(super) url: PortalUrl,
    /// Its own authority, for `Host`.
    pub(super) host: HeaderValue,
    names: Names,
    streak: Streak,
    probed: Mutex<Probed>,
    seed: u64,
}

impl Address {
    fn probed(&self) -> Finding {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner).finding()
    }

    /// Whether visitors are better sent here than elsewhere.
    fn is_well(&self) -> bool {
        self.streak.is_healthy() && self.probed() == Finding::Well
    }
}

impl Portal {
    /// The portal of a configuration, in good health.
    pub fn new(config: &config::Portal, tls: Option<PortalTls>) -> Arc<Portal> {
        let portal = Portal {
            addresses: RwLock::new(Arc::new([])),
            tls: RwLock::new(tls),
            slots: Slots::new(config.max_in_flight),
            vitals: Vitals::new(),
            meter: Meter::default(),
            recent: Mutex::default(),
            fell_ill: Notify::new(),
            turn: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
        };
        portal.set_addresses(&config.urls);
        Arc::new(portal)
    }

    /// Takes over a new configuration: addresses, certificates and the number of slots. Nothing under way is disturbed.
    pub fn reload(&self, config: &config::Portal, tls: Option<PortalTls>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        self.set_addresses(&config.urls);
        self.slots.set_limit(config.max_in_flight);
    }

    /// Waits at most `timeout` for a slot; for visitors inside, who go first.
    ///
    /// # Errors
    /// [`NoSlot`] when none became free in time.
    pub async fn slot_for_insider(&self, timeout: Duration) -> Result<Slot, NoSlot> {
        self.slots.wait(timeout).await
    }

    /// A slot if one is free and no visitor inside waits for one.
    pub fn try_slot_for_newcomer(&self) -> Option<Slot> {
        self.slots.take_now()
    }

    /// Slots taken at this moment.
    pub fn in_flight(&self) -> usize {
        self.slots.taken()
    }

    /// How the portal is.
    pub fn health(&self) -> Health {
        self.vitals.shown()
    }

    /// Tells of every change of [`Portal::health`].
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.vitals.watch()
    }

    /// Asks addresses that are ill for `HEAD /` each second of `clock`, since no visitor does; any HTTP answer makes
    /// them well. Runs until dropped; to be spawned once.
    pub async fn probe_while_unhealthy(self: Arc<Self>, clock: Clock) {
        loop {
            let ill = self.ill_addresses();
            if ill.is_empty() {
                self.fell_ill.notified().await;
                continue;
            }
            clock.sleep(PROBE_EVERY).await;
            for address in ill {
                if let Err(error) = self.probe(&address, clock.now().mono).await {
                    tracing::debug!(address = address.url.authority, %error, "the portal is still unhealthy");
                } else {
                    self.succeeded(&address, clock.now().mono);
                }
            }
        }
    }

    async fn probe(&self, address: &Address, now: Mono) -> io::Result<()> {
        let mut connection = self.open(address, PROBE_LIMIT, now).await?;
        let request = probe_request(Method::HEAD, Uri::from_static("/"), address.host.clone(), RequestBody::Empty);
        timeout(PROBE_LIMIT, connection.sender.send_request(request)).await?.map_err(io::Error::other)?;
        Ok(())
    }

    fn ill_addresses(&self) -> Vec<Arc<Address>> {
        let portal_is_ill = self.vitals.fails_in_a_row();
        self.addresses().iter().filter(|address| portal_is_ill || !address.streak.is_healthy()).cloned().collect()
    }

    pub(super) fn addresses(&self) -> Arc<[Arc<Address>]> {
        Arc::clone(&self.addresses.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The address for a visitor: for whoever has a pass always the same one among those that are well, for others
    /// the next in turn. `tried` ones are left out; `None` when nothing else is left.
    pub(super) fn choose(
        &self,
        addresses: &[Arc<Address>],
        sticky: Option<u64>,
        tried: &[u64],
    ) -> Option<Arc<Address>> {
        if let ([only], []) = (addresses, tried) {
            return Some(Arc::clone(only));
        }
        let turn = sticky.is_none().then(|| self.turn.fetch_add(1, Ordering::Relaxed));
        let count = addresses.len().max(1);
        let preference = |place: usize, address: &Address| match (sticky, turn) {
            (Some(sticky), _) => weight(sticky, address.seed),
            (None, Some(turn)) => ((place + count - turn % count) % count) as u64 ^ u64::MAX,
            (None, None) => 0,
        };
        addresses
            .iter()
            .enumerate()
            .filter(|(_, address)| !tried.contains(&address.id))
            .max_by_key(|(place, address)| (address.is_well(), preference(*place, address)))
            .map(|(_, address)| Arc::clone(address))
    }

    /// Opens a connection to an address. Failure is counted by the caller, who knows what it means.
    pub(super) async fn open(&self, address: &Address, limit: Duration, now: Mono) -> io::Result<Connection> {
        let tls = if address.url.https { self.tls() } else { None };
        connect::open(&address.url, &address.names, tls.as_ref(), limit, now).await
    }

    fn tls(&self) -> Option<PortalTls> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a connection failure or a time-out.
    pub(super) fn failed(&self, address: &Address, now: Mono) {
        let address_fell_ill = address.streak.failed();
        let portal_fell_ill = self.vitals.failed(now);
        if address_fell_ill || portal_fell_ill {
            tracing::warn!(address = address.url.authority, health = ?self.health(), "the portal fails");
            self.fell_ill.notify_one();
        }
    }

    /// Counts an answer, whatever it says.
    pub(super) fn succeeded(&self, address: &Address, now: Mono) {
        address.streak.succeeded();
        self.vitals.succeeded(now);
    }

    /// Counts how fast the answers to visitors come.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// How fast the last ten seconds' answers to visitors came.
    pub fn recent(&self) -> Counted {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).over(10)
    }

    /// Once a second: judges the answers to visitors.
    pub fn judge_answers(&self, bearable: Bearable, now: Mono) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push(self.meter.take());
        let finding = judge(&recent, self.vitals.finding(Cause::Answers), bearable);
        drop(recent);
        if self.vitals.found(Cause::Answers, finding, now) {
            tracing::warn!(health = ?self.health(), ?finding, "the portal's answers to visitors");
        }
    }

    /// Notes how an address answered a probe. The portal is ill when all its addresses are.
    pub(super) fn note_probe(&self, address: &Address, probe: Probe, thresholds: Thresholds, now: Mono) {
        address.probed.lock().unwrap_or_else(PoisonError::into_inner).note(probe, thresholds);
        let all_ill = self.addresses().iter().all(|address| address.probed() == Finding::Ill);
        let finding = if all_ill { Finding::Ill } else { Finding::Well };
        if self.vitals.found(Cause::Probes, finding, now) {
            tracing::warn!(health = ?self.health(), ?finding, "the portal's answers to probes");
        }
    }

    /// Nobody asks any more.
    pub(super) fn forget_probes(&self, now: Mono) {
        for address in self.addresses().iter() {
            *address.probed.lock().unwrap_or_else(PoisonError::into_inner) = Probed::default();
        }
        self.vitals.found(Cause::Probes, Finding::Well, now);
    }

    fn set_addresses(&self, urls: &[PortalUrl]) {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let kept = |url: &PortalUrl| addresses.iter().find(|address| address.url == *url).cloned();
        *addresses = urls.iter().map(|url| kept(url).unwrap_or_else(|| Arc::new(self.address(url)))).collect();
    }

    fn address(&self, url: &PortalUrl) -> Address {
        Address {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            url: url.clone(),
            host: HeaderValue::from_str(&url.authority).unwrap_or(HeaderValue::from_static("localhost")),
            names: Names::default(),
            streak: Streak::default(),
            probed: Mutex::default(),
            seed: seed(&url.authority),
        }
    }
}

/// What went wrong with opening a connection, in the words of this module's callers.
pub(super) fn connect_error(address: &Address, source: io::Error) -> ProxyError {
    let address = address.url.authority.clone();
    if source.kind() == io::ErrorKind::TimedOut {
        ProxyError::ConnectTimeout { address }
    } else {
        ProxyError::Unreachable { address, source }
    }
}

/// Rendezvous hashing (Thaler and Ravishankar 1998): whoever weighs most wins, so that an address that goes takes
/// along only its own visitors and one that comes takes only its share.
fn weight(visitor: u64, seed: u64) -> u64 {
    mix(visitor ^ seed)
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// FNV-1a over an authority: the same on every node and after every restart.
fn seed(authority: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(authority.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn portal(count: u16) -> Arc<Portal> {
        Portal::new(&config(count), None)
    }

    fn config(count: u16) -> config::Portal {
        let url = |port: u16| PortalUrl {
            https: false,
            host: "127.0.0.1".into(),
            port,
            authority: format!("127.0.0.1:{port}"),
        };
        let second = Duration::from_secs(1);
        config::Portal {
            urls: (1..=count).map(url).collect(),
            tls: config::PortalTls::default(),
            max_in_flight: 8,
            queue_timeout: second,
            preserve_host: true,
            connect_timeout: second,
            first_byte_timeout: second,
            idle_timeout: second,
            keep_alive: second,
            request_buffer: 65536,
            response_buffer: 262_144,
            ramp: second,
            probes: config::Probes {
                path: None,
                interval: second,
                timeout: second,
                thresholds: Thresholds { failures: 3, successes: 2 },
            },
            bearable: Bearable { errors_percent: 50, latency: None },
        }
    }

    fn homes(portal: &Portal) -> HashMap<u64, u16> {
        let addresses = portal.addresses();
        (0..1000).map(|pass| (pass, portal.choose(&addresses, Some(mix(pass)), &[]).unwrap().url.port)).collect()
    }

    #[test]
    fn visitors_stay_and_spread() {
        let portal = portal(4);
        let before = homes(&portal);
        assert_eq!(before, homes(&portal));
        for port in 1..=4 {
            let share = before.values().filter(|home| **home == port).count();
            assert!((180..320).contains(&share), "{port}: {share}");
        }
    }

    #[test]
    fn an_ill_address_moves_only_its_own_visitors() {
        let portal = portal(4);
        let before = homes(&portal);
        let addresses = portal.addresses();
        (0..3).for_each(|_| portal.failed(&addresses[0], Mono(0)));
        for (pass, home) in homes(&portal) {
            assert_ne!(home, 1);
            assert!(before[&pass] == 1 || before[&pass] == home);
        }
        portal.succeeded(&addresses[0], Mono(1));
        assert_eq!(homes(&portal), before);
    }

    #[test]
    fn a_removed_address_moves_only_its_own_visitors() {
        let portal = portal(4);
        let before = homes(&portal);
        portal.reload(&config(3), None);
        for (pass, home) in homes(&portal) {
            assert!(before[&pass] == 4 || before[&pass] == home);
        }
    }

    #[tokio::test]
    async fn failures_in_a_row_over_two_addresses_wake_the_probes_also_while_it_is_ill_for_another_reason() {
        let portal = portal(2);
        portal.vitals.found(Cause::Probes, Finding::Ill, Mono(0));
        let addresses = portal.addresses();
        [0, 1, 0].into_iter().for_each(|which: usize| portal.failed(&addresses[which], Mono(1)));
        assert_eq!(portal.ill_addresses().len(), 2);
        timeout(Duration::from_secs(5), portal.fell_ill.notified()).await.expect("they are woken");
    }

    #[test]
    fn strangers_take_turns() {
        let portal = portal(3);
        let addresses = portal.addresses();
        let ports: Vec<u16> = (0..6).map(|_| portal.choose(&addresses, None, &[]).unwrap().url.port).collect();
        assert_eq!(ports[..3], ports[3..]);
        let mut sorted = ports[..3].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3]);
    }

    #[test]
    fn tried_addresses_are_left_out_and_ill_ones_are_better_than_none() {
        let portal = portal(2);
        let addresses = portal.addresses();
        (0..3).for_each(|_| portal.failed(&addresses[0], Mono(0)));
        let second = portal.choose(&addresses, Some(7), &[]).unwrap();
        assert_eq!(second.url.port, 2);
        let first = portal.choose(&addresses, Some(7), &[second.id]).unwrap();
        assert_eq!(first.url.port, 1);
        assert!(portal.choose(&addresses, Some(7), &[second.id, first.id]).is_none());
    }
}
