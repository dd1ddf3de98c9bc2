//! The leak guard's memory: what was seen of the portal's sessions, what was found, and what follows from it. The rules
//! are `domain::leak_detectors` and `domain::leak_breaker`; this is the shell that feeds them, counts, writes the audit
//! file and stops admissions.
//!
//! Nothing here knows a session cookie, an identity or a visitor by name: all of them are keyed hashes.

pub mod audit;
pub mod calibration;
pub mod canary;
mod exchange;
pub(crate) mod fetch;
mod hashes;
mod memory;
mod proposals;
pub mod report;
mod searched;
mod sharing;
mod tally;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

pub use self::exchange::{Exchange, Origin};
pub use self::hashes::{Hashes, KeyFault};

use self::audit::{Audit, Event};
use self::canary::EdgeState;
use self::memory::Sessions;
use self::proposals::Proposals;
use self::searched::Searched;
use self::sharing::Sharing;
use self::tally::Tally;
use crate::clock::Clock;
use crate::config::{self, BreakerAction, DetectorAction};
use crate::domain::leak_breaker::{Admissions, Breaker, News, Terms, Tripped};
use crate::domain::leak_detectors::{Certainty, Detector, Finding, Who};
use crate::domain::leak_guard::Mode;
use crate::domain::names::RoomName;
use crate::domain::portal_traits::Traits;
use crate::domain::recent::Bounds;
use crate::domain::time::Now;
use crate::telemetry::metrics::{DetectorMode, LeakGuardAction, LeakGuardRule, Metrics};

/// What the leak guard remembers and does.
#[derive(Debug)]
pub struct Leaks {
    hashes: Hashes,
    sessions: Sessions,
    breakers: Mutex<Breakers>,
    traits: RwLock<Traits>,
    something_to_ask: Notify,
    edge: RwLock<EdgeState>,
    audit: Audit,
    tally: Tally,
    proposals: Proposals,
    searched: Searched,
    sharing: Sharing,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// What stops admissions: of one room, or, when answers were blocked that belong to no room, of all of them.
#[derive(Debug, Default)]
struct Breakers {
    rooms: HashMap<RoomName, Breaker>,
    everywhere: Breaker,
    /// What was said of each room's admissions last, where they did not simply go on.
    said: HashMap<RoomName, Admissions>,
}

impl Breakers {
    fn of(&mut self, room: Option<&RoomName>) -> &mut Breaker {
        match room {
            Some(room) => self.rooms.entry(room.clone()).or_default(),
            None => &mut self.everywhere,
        }
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Breaker> {
        self.rooms.values_mut().chain([&mut self.everywhere])
    }

    /// Says in the log when visitors are let in again, and when it is at the whole rate.
    fn say(&mut self, room: &RoomName, admissions: Admissions) {
        let before = self.said.get(room).copied().unwrap_or(Admissions::Go);
        let room_name = room.as_str();
        match News::between(before, admissions) {
            Some(News::BeginAgain) => {
                tracing::warn!(room = room_name, "the leak guard lets visitors in again, first at a tenth of the rate");
            }
            Some(News::WholeRate) => {
                tracing::warn!(room = room_name, "the leak guard lets visitors in again at the whole rate");
            }
            None => {}
        }
        match admissions {
            Admissions::Go => drop(self.said.remove(room)),
            _ => drop(self.said.insert(room.clone(), admissions)),
        }
    }
}

impl Leaks {
    /// An empty memory; opens the audit file's key, or makes it.
    ///
    /// # Errors
    /// [`KeyFault`] when there is no usable key.
    pub fn open(settings: &config::AuditFile, metrics: Arc<Metrics>, clock: Clock) -> Result<Leaks, KeyFault> {
        Ok(Leaks {
            hashes: Hashes::load_or_create(&settings.key)?,
            sessions: Sessions::default(),
            breakers: Mutex::default(),
            traits: RwLock::default(),
            something_to_ask: Notify::new(),
            edge: RwLock::default(),
            audit: Audit::start(settings.clone(), clock.clone()),
            tally: Tally::default(),
            proposals: Proposals::default(),
            searched: Searched::default(),
            sharing: Sharing::new()?,
            metrics,
            clock,
        })
    }

    fn bounds(settings: &config::LeakGuard) -> Bounds {
        Bounds { entries: settings.remember_sessions, span: settings.remember_for }
    }

    /// What may be done about a finding: what the operator wants, unless it is not sure enough for that.
    fn action(&self, finding: &Finding, settings: &config::LeakGuard) -> Option<LeakGuardAction> {
        let wanted = settings.detectors.of(finding.detector);
        if wanted == DetectorAction::Off {
            return None;
        }
        if settings.rules.mode == Mode::Observe {
            return Some(LeakGuardAction::Observed);
        }
        Some(match wanted {
            DetectorAction::Block if finding.certainty == Certainty::Sure => LeakGuardAction::Blocked,
            _ => LeakGuardAction::Alarmed,
        })
    }

    /// Carries out what a finding leads to, and says whether the answer must be stopped.
    fn act(&self, finding: &Finding, settings: &config::LeakGuard, event: Event, whose: Whose<'_>) -> Option<Detector> {
        let action = self.action(finding, settings)?;
        let rule = LeakGuardRule::from(finding.detector);
        self.metrics.count_leak_guard(rule, action);
        let name = finding.detector.as_str();
        tracing::warn!(
            rule = name,
            action = action.as_str(),
            path = event.path,
            request_id = event.request_id,
            "the leak guard found something"
        );
        self.tally.count(rule, action, &event.path, event.at);
        self.audit.write(Event { rule: name, action: action.as_str(), ..event });
        if action != LeakGuardAction::Blocked {
            return None;
        }
        self.note_block(settings, whose);
        Some(finding.detector)
    }

    fn note_block(&self, settings: &config::LeakGuard, whose: Whose<'_>) {
        let Whose { room, who, now } = whose;
        let terms = terms(&settings.breaker, Duration::ZERO);
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers.of(room);
        let tripped = breaker.note_block(who, &terms, now.mono);
        let note = breaker.tell(who, now);
        drop(breakers);
        self.sharing.tell_block(room, note);
        if tripped == Tripped::Now {
            say_that_it_tripped(room, settings);
        }
    }

    /// Whether visitors may enter a room; shown in the metrics.
    pub fn admissions(&self, room: &RoomName, settings: &config::LeakGuard, ramp: Duration, now: Now) -> Admissions {
        let admissions = self.admissions_seen(room, settings, ramp, now);
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner).say(room, admissions);
        self.metrics.room(room).leak_guard_breaker_open.set(i64::from(admissions == Admissions::Stopped));
        admissions
    }

    /// Whether visitors may enter a room. Asking changes nothing.
    fn admissions_seen(&self, room: &RoomName, settings: &config::LeakGuard, ramp: Duration, now: Now) -> Admissions {
        if self.edge.read().unwrap_or_else(PoisonError::into_inner).stops {
            return Admissions::Stopped;
        }
        if settings.breaker.action != BreakerAction::Stop {
            return Admissions::Go;
        }
        let terms = terms(&settings.breaker, ramp);
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_room = breakers.rooms.get(room).map_or(Admissions::Go, |breaker| breaker.admissions(&terms, now.mono));
        of_room.and(breakers.everywhere.admissions(&terms, now.mono))
    }

    /// An operator lets visitors in again, into all rooms and at all nodes. What is known of the edge is forgotten as
    /// well: only a fresh proof stops admissions again.
    pub fn reset(&self) {
        self.sharing.tell_reset(self.clock.unix());
        self.let_in_again();
    }

    fn let_in_again(&self) {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let said = std::mem::take(&mut breakers.said);
        *breakers = Breakers { said, ..Breakers::default() };
        drop(breakers);
        self.edge.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Says in the metrics how every detector works now.
    fn show_detectors(&self, settings: &config::LeakGuard) {
        for detector in Detector::ALL {
            let wanted = match settings.detectors.of(detector) {
                DetectorAction::Block => DetectorMode::Block,
                DetectorAction::Alarm => DetectorMode::Alarm,
                DetectorAction::Off => DetectorMode::Off,
            };
            let held_back = detector == Detector::CacheHit && !self.is_calibrated();
            let observing = settings.rules.mode == Mode::Observe;
            let mode =
                if wanted == DetectorMode::Block && (held_back || observing) { DetectorMode::Alarm } else { wanted };
            self.metrics.set_leak_guard_detector(detector, mode);
        }
    }

    /// Makes what was found durable; before the program ends.
    pub fn close(&self) {
        self.write_tally();
        self.audit.close();
    }

    /// Writes what the header rules did since the last time. To be called about once a minute.
    pub fn write_tally(&self) {
        let at = self.clock.now().wall;
        for entry in self.tally.take_unwritten() {
            self.audit.write(entry.into_event(at));
        }
    }
}

/// Whose answer it was, for the breaker.
#[derive(Clone, Copy, Debug)]
struct Whose<'a> {
    room: Option<&'a RoomName>,
    who: Who,
    now: Now,
}

fn say_that_it_tripped(room: Option<&RoomName>, settings: &config::LeakGuard) {
    let room = room.map_or("(all)", RoomName::as_str);
    if settings.breaker.action == BreakerAction::Stop {
        tracing::error!(room, "the leak guard blocked answers to several visitors: nobody new enters the room");
    } else {
        tracing::error!(room, "the leak guard blocked answers to several visitors");
    }
}

fn terms(settings: &config::LeakBreaker, ramp: Duration) -> Terms {
    let config::LeakBreaker { visitors, networks, within, quiet, .. } = *settings;
    Terms { visitors, networks, within, quiet, ramp }
}

impl config::Detectors {
    /// Whether any of them is on.
    pub fn are_on(&self) -> bool {
        Detector::ALL.into_iter().any(|detector| self.of(detector) != DetectorAction::Off)
    }

    /// What is done about the findings of one of them.
    pub fn of(&self, detector: Detector) -> DetectorAction {
        match detector {
            Detector::SessionReissued => self.session_reissued,
            Detector::CacheHit => self.cache_hit,
            Detector::IdentityMismatch => self.identity_mismatch,
            Detector::SessionIdentities => self.session_identities,
            Detector::IdentitySessions => self.identity_sessions,
            Detector::SessionPresented => self.session_presented,
        }
    }
}
