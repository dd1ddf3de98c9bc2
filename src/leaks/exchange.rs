//! One request and its answer before the detectors.

use http::{HeaderMap, Method, StatusCode};

use super::audit::{Event, hex};
use super::proposals::Novelty;
use super::{Leaks, Whose};
use crate::config::{self, DetectorAction};
use crate::domain::hit_header::{HitHeader, may_be_fresh};
use crate::domain::leak_detectors::{
    Arrival, Asked, Certainty, Detector, Effect, Finding, IdentityKey, Presented, SessionKey, Shows, Who,
    issued_sessions, presented_sessions,
};
use crate::domain::leak_guard::{CacheBehind, Guarded, Mode, Reason, Route, Verdict, is_the_same_for_everybody};
use crate::domain::names::RoomName;
use crate::domain::portal_traits::{Known, LookedLike, Seen};
use crate::domain::route_shape::route_of;
use crate::domain::time::{Mono, Now};
use crate::telemetry::metrics::{LeakGuardAction, LeakGuardRule};

/// Where a request comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The room it belongs to, gated or not.
    pub room: Option<&'a RoomName>,
    /// Whose it is.
    pub who: Who,
    /// Whether the visitor enters with it.
    pub arrival: Arrival,
    /// Its method.
    pub method: &'a Method,
    /// Its path and query.
    pub target: &'a str,
    /// Its path.
    pub path: &'a str,
    /// The host it was sent to.
    pub host: &'a str,
    /// Its id.
    pub request_id: &'a str,
    /// When it came.
    pub now: Now,
    /// When it left for the portal.
    pub left: Mono,
}

/// A request on its way to the portal, with the sessions that it presents.
#[derive(Debug)]
pub struct Exchange<'a> {
    leaks: &'a Leaks,
    settings: &'a config::LeakGuard,
    origin: Origin<'a>,
    presented: Presented,
    /// Whether it can change who is logged in; of no account without a session.
    effect: Effect,
}

impl Leaks {
    /// A request leaves for the portal; `effect` says whether it can change who is logged in.
    ///
    /// # Errors
    /// What was found, when the request must not be sent.
    pub fn leaving<'a>(
        &'a self,
        settings: &'a config::LeakGuard,
        origin: Origin<'a>,
        headers: &HeaderMap,
        effect: impl FnOnce() -> Effect,
    ) -> Result<Exchange<'a>, Detector> {
        if !settings.detectors.are_on() {
            return Ok(self.leaving_anonymously(settings, origin));
        }
        let sessions = presented_sessions(headers, &settings.session_cookies);
        let presented: Presented = sessions.map(|session| self.hashes.session(&session)).collect();
        let effect = if presented.all().is_empty() { Effect::Reads } else { effect() };
        let exchange = Exchange { leaks: self, settings, origin, presented, effect };
        match exchange.find_in_request() {
            Some(detector) => Err(detector),
            None => Ok(exchange),
        }
    }

    /// A public request leaves for the portal: whatever sessions it presents stay here. Or one that nobody looks at.
    pub fn leaving_anonymously<'a>(&'a self, settings: &'a config::LeakGuard, origin: Origin<'a>) -> Exchange<'a> {
        Exchange { leaks: self, settings, origin, presented: Presented::NONE, effect: Effect::Reads }
    }
}

impl Exchange<'_> {
    fn find_in_request(&self) -> Option<Detector> {
        let Origin { who, arrival, now, .. } = self.origin;
        let bounds = Leaks::bounds(self.settings);
        let found = self.presented.all().iter().filter_map(|session| {
            let finding = self
                .leaks
                .sessions
                .known(*session, bounds, now.mono, |record| record.present(who, arrival, self.effect, now.mono))??;
            let stopped = self.act(&finding, Some(*session), None, None)?;
            self.leaks.sessions.known(*session, bounds, now.mono, |record| record.forget_presenter(who));
            Some(stopped)
        });
        last_of_all(found)
    }

    /// Judges an answer whose head has been guarded.
    ///
    /// # Errors
    /// What was found, when the answer must not be delivered.
    pub fn judge(
        &self,
        guarded: &Guarded,
        status: StatusCode,
        headers: &HeaderMap,
        route: Route,
    ) -> Result<(), Detector> {
        self.tally(guarded);
        if route == Route::Public {
            return Ok(());
        }
        self.note_kind(guarded, status);
        let is_silent = guarded.says_nothing_of_caches_and_sessions() && self.effect == Effect::Reads;
        if is_silent || !self.settings.detectors.are_on() {
            return Ok(());
        }
        let now = Now { mono: self.leaks.clock.mono(), ..self.origin.now };
        self.note_login(now);
        let stopped = [
            self.hit(guarded, status, now),
            self.issued(headers, status, now),
            self.named(guarded, headers, status, now),
        ];
        stopped.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// The portal is asked about every kind of address that it serves. Nearly every answer is of a kind that is known.
    fn note_kind(&self, guarded: &Guarded, status: StatusCode) {
        let Origin { host, path, who, .. } = self.origin;
        let proposals = &self.leaks.proposals;
        if proposals.note(host, path, who, guarded.file, status) == Novelty::Known {
            return;
        }
        if !self.leaks.traits().has(host, path) {
            self.leaks.note_kind(&self.seen(status, LookedLike::Fresh));
        }
        let traits = self.leaks.traits();
        if traits.has(host, path) || traits.is_full() {
            proposals.remember(host, path, guarded.file, status);
        }
    }

    /// The answer to what may have been a login is there.
    fn note_login(&self, now: Now) {
        if self.effect == Effect::MayLogIn {
            let bounds = Leaks::bounds(self.settings);
            for session in self.presented.all() {
                self.leaks
                    .sessions
                    .known(*session, bounds, now.mono, |record| record.note_answer(self.effect, now.mono));
            }
        }
    }

    /// Public text was searched for people: it named nobody, or there is a reason not to share it.
    pub fn note_search(&self, against: Option<Reason>, status: StatusCode) {
        let Origin { host, target, now, .. } = self.origin;
        let Some(reason) = against else { return self.leaks.searched.note_clean(host, target, now.mono) };
        self.leaks.searched.forget(host, target, now.mono);
        let observing = self.settings.rules.mode == Mode::Observe;
        let action = if observing { LeakGuardAction::Observed } else { LeakGuardAction::Downgraded };
        let (rule, path) = (LeakGuardRule::from(reason), self.origin.path);
        if reason != Reason::FiscalCode {
            return self.leaks.tally.sum_up(rule, action, path, now.wall);
        }
        tracing::warn!(
            path = route_of(path),
            request_id = self.origin.request_id,
            "public text names a person: it is not shared"
        );
        self.leaks.tally.count(rule, action, path, now.wall);
        let event = Event { rule: rule.as_str(), action: action.as_str(), ..self.event(None, None, None) };
        self.leaks.audit.write(Event { status: Some(status.as_u16()), ..event });
    }

    /// Whether the text at this address was found to name nobody, lately.
    pub fn was_found_clean(&self) -> bool {
        let Origin { host, target, now, .. } = self.origin;
        self.leaks.searched.is_clean(host, target, now.mono)
    }

    /// An answer was stopped by a rule of headers.
    pub fn note_fault(&self, reason: Reason, status: StatusCode) {
        let (rule, action) = (LeakGuardRule::from(reason), LeakGuardAction::Blocked);
        self.leaks.tally.count(rule, action, self.origin.path, self.origin.now.wall);
        let event = Event { rule: rule.as_str(), action: action.as_str(), ..self.event(None, None, None) };
        self.leaks.audit.write(Event { status: Some(status.as_u16()), ..event });
    }

    /// Sums up what the header rules did, or would have done.
    fn tally(&self, guarded: &Guarded) {
        let observing = self.settings.rules.mode == Mode::Observe;
        let sum_up = |reason: Reason, action| {
            let action = if observing { LeakGuardAction::Observed } else { action };
            let at = self.origin.now.wall;
            self.leaks.tally.sum_up(LeakGuardRule::from(reason), action, self.origin.path, at);
        };
        if guarded.public_cookies > 0 {
            sum_up(Reason::SetCookie, LeakGuardAction::Removed);
        }
        if observing {
            guarded.changed.reasons().for_each(|reason| sum_up(reason, LeakGuardAction::Observed));
        }
        match guarded.verdict {
            Verdict::Personal | Verdict::Public => {}
            Verdict::Downgraded(reason) => sum_up(reason, LeakGuardAction::Downgraded),
            Verdict::Fault(reason) => sum_up(reason, LeakGuardAction::Blocked),
        }
    }

    /// A cache behind us answered. Of files that are the same for everybody that is no wonder, and where the portal
    /// itself says so it is no hit.
    fn hit(&self, guarded: &Guarded, status: StatusCode, now: Now) -> Option<Detector> {
        let hit = guarded.hit.filter(|_| self.settings.rules.cache_behind == CacheBehind::Distrusted)?;
        if hit == HitHeader::Age && may_be_fresh(guarded.age, now.mono.since(self.origin.left)) {
            // What a cache gave to several who waited for one answer looks just like that: so it is counted.
            return self.note_harmless_hit(hit, LeakGuardAction::Observed);
        }
        if !self.leaks.traits().has(self.origin.host, self.origin.path) {
            self.leaks.note_kind(&self.seen(status, LookedLike::Hit));
        }
        let known = self.leaks.traits().of(self.origin.host, self.origin.path);
        let certainty = match known {
            _ if guarded.file.is_some() && is_the_same_for_everybody(self.origin.path) => {
                return self.note_harmless_hit(hit, LeakGuardAction::Alarmed);
            }
            Known::Trait(header) if header == hit => return self.note_harmless_hit(hit, LeakGuardAction::Alarmed),
            Known::AgeUpTo(seconds) if hit == HitHeader::Age && guarded.age <= seconds => {
                return self.note_harmless_hit(hit, LeakGuardAction::Alarmed);
            }
            Known::NotYet => Certainty::Likely,
            // A picture, a film or an archive may be somebody's own.
            Known::Nothing | Known::Trait(_) | Known::AgeUpTo(_) if guarded.file.is_some() => Certainty::Likely,
            Known::Nothing | Known::Trait(_) | Known::AgeUpTo(_) => Certainty::Sure,
        };
        let event = Event { header: Some(hit.as_str()), ..self.event(None, None, None) };
        let stopped = self.act_on(&Finding::cache_hit(certainty), event, Some(status))?;
        // A trait that calibration did not see shows itself as blocks; better look again.
        self.leaks.doubt(self.origin.host, self.origin.path, self.origin.now.mono);
        Some(stopped)
    }

    fn seen(&self, status: StatusCode, looked_like: LookedLike) -> Seen<'_> {
        let Origin { host, path, who, .. } = self.origin;
        Seen { host, path, status, looked_like, site: who.network.site() }
    }

    /// Counts a hit that nobody has to worry about: there may be one with every answer.
    fn note_harmless_hit(&self, hit: HitHeader, action: LeakGuardAction) -> Option<Detector> {
        if self.settings.detectors.cache_hit != DetectorAction::Off {
            let observing = self.settings.rules.mode == Mode::Observe;
            let action = if observing { LeakGuardAction::Observed } else { action };
            self.leaks.metrics.count_leak_guard(LeakGuardRule::CacheHit, action);
            self.leaks.tally.sum_up(LeakGuardRule::CacheHit, action, self.origin.path, self.origin.now.wall);
            tracing::debug!(header = hit.as_str(), request_id = self.origin.request_id, "a harmless hit");
        }
        None
    }

    /// Session cookies that the answer issues, to a request that did not carry them.
    fn issued(&self, headers: &HeaderMap, status: StatusCode, now: Now) -> Option<Detector> {
        let (leaks, who) = (self.leaks, self.origin.who);
        let bounds = Leaks::bounds(self.settings);
        let issued = issued_sessions(headers, &self.settings.session_cookies);
        let found = issued.filter_map(|cookie| {
            let session = leaks.hashes.session(&cookie);
            let in_target = std::str::from_utf8(cookie.id).is_ok_and(|id| self.origin.target.contains(id));
            if self.presented.all().contains(&session) || in_target {
                return None;
            }
            let finding = leaks.sessions.session(session, bounds, now.mono, |record| record.issue(who, now.mono))?;
            self.act(&finding, Some(session), None, Some(status))
        });
        last_of_all(found)
    }

    /// The person whom the portal names, against the session of the answer: the one it issues, or else the one that the
    /// request presents.
    fn named(&self, guarded: &Guarded, headers: &HeaderMap, status: StatusCode, now: Now) -> Option<Detector> {
        let leaks = self.leaks;
        let identity = leaks.hashes.identity(guarded.says.identity.as_ref()?.as_bytes());
        let mut issued = issued_sessions(headers, &self.settings.session_cookies);
        let session =
            issued.next().map(|cookie| leaks.hashes.session(&cookie)).or(self.presented.all().first().copied())?;
        let bounds = Leaks::bounds(self.settings);
        let asked = Asked { who: self.origin.who, at: self.origin.now.mono, effect: self.effect };
        let shows = if status.is_redirection() { Shows::TheWay } else { Shows::Page };
        let mismatch =
            leaks.sessions.session(session, bounds, now.mono, |record| record.name(identity, &asked, shows, now.mono));
        let many = leaks.sessions.person(identity, bounds, now.mono, |record| record.within(session));
        let found = [mismatch, many].into_iter().flatten();
        last_of_all(found.filter_map(|finding| self.act(&finding, Some(session), Some(identity), Some(status))))
    }

    fn act(
        &self,
        finding: &Finding,
        session: Option<SessionKey>,
        identity: Option<IdentityKey>,
        status: Option<StatusCode>,
    ) -> Option<Detector> {
        self.act_on(finding, self.event(session, identity, Some(finding)), status)
    }

    fn act_on(&self, finding: &Finding, event: Event, status: Option<StatusCode>) -> Option<Detector> {
        let Origin { room, who, now, .. } = self.origin;
        let event = Event { status: status.map(|status| status.as_u16()), ..event };
        self.leaks.act(finding, self.settings, event, Whose { room, who, now })
    }

    fn event(&self, session: Option<SessionKey>, identity: Option<IdentityKey>, finding: Option<&Finding>) -> Event {
        let Origin { room, who, method, path, request_id, now, .. } = self.origin;
        let visitor = |visitor| hex(self.leaks.hashes.visitor(visitor));
        Event {
            room: room.map(ToString::to_string),
            method: method.to_string(),
            path: route_of(path),
            request_id: request_id.to_owned(),
            visitor: who.visitor.map(visitor),
            session: session.or(self.presented.all().first().copied()).map(|session| hex(session.0)),
            identity: identity.map(|identity| hex(identity.0)),
            other_visitor: finding.and_then(|finding| finding.other_visitor).map(visitor),
            other_identity: finding.and_then(|finding| finding.other_identity).map(|identity| hex(identity.0)),
            ..Event::at(now.wall)
        }
    }
}

/// The last one; all of them are worked out, because each finding is acted upon.
fn last_of_all(found: impl Iterator<Item = Detector>) -> Option<Detector> {
    found.fold(None, |_, detector| Some(detector))
}
