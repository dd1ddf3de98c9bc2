//! One request and its answer before the detectors.

use http::{Method, StatusCode};

use super::audit::{Event, hex};
use super::tally::route_of;
use super::{Leaks, Whose};
use crate::config;
use crate::domain::leak_detectors::{
    Arrival, Certainty, Detector, Effect, Finding, IdentityKey, SessionKey, Who, issued_sessions, presented_sessions,
};
use crate::domain::leak_guard::{CacheBehind, Guarded, Mode, PortalSays, Reason, Route, Verdict};
use crate::domain::names::RoomName;
use crate::domain::time::Now;
use crate::telemetry::metrics::{LeakGuardAction, LeakGuardRule};
use http::HeaderMap;

/// Where a request comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The room it belongs to.
    pub room: Option<&'a RoomName>,
    /// Whose it is.
    pub who: Who,
    /// Whether the visitor enters with it.
    pub arrival: Arrival,
    /// Whether it can change who is logged in.
    pub effect: Effect,
    /// Its method.
    pub method: &'a Method,
    /// Its path and query.
    pub target: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Its id.
    pub request_id: &'a str,
    /// When it came.
    pub now: Now,
}

/// A request on its way to the portal, with the sessions that it presents.
#[derive(Debug)]
pub struct Exchange<'a> {
    leaks: &'a Leaks,
    settings: &'a config::LeakGuard,
    origin: Origin<'a>,
    presented: Vec<SessionKey>,
}

impl Leaks {
    /// A request leaves for the portal.
    ///
    /// # Errors
    /// What was found, when the request must not be sent.
    pub fn leaving<'a>(
        &'a self,
        settings: &'a config::LeakGuard,
        origin: Origin<'a>,
        headers: &HeaderMap,
    ) -> Result<Exchange<'a>, Detector> {
        let sessions = presented_sessions(headers, &settings.session_cookies);
        let presented = sessions.map(|session| self.hashes.session(&session)).collect();
        let exchange = Exchange { leaks: self, settings, origin, presented };
        match exchange.find_in_request() {
            Some(detector) => Err(detector),
            None => Ok(exchange),
        }
    }
}

impl Leaks {
    /// A public request leaves for the portal: whatever sessions it presents stay here.
    ///
    /// # Errors
    /// Never; in the shape of [`Leaks::leaving`].
    pub fn leaving_anonymously<'a>(
        &'a self,
        settings: &'a config::LeakGuard,
        origin: Origin<'a>,
    ) -> Result<Exchange<'a>, Detector> {
        Ok(Exchange { leaks: self, settings, origin, presented: Vec::new() })
    }
}

impl Exchange<'_> {
    fn find_in_request(&self) -> Option<Detector> {
        let Origin { who, arrival, effect, now, .. } = self.origin;
        let bounds = Leaks::bounds(self.settings);
        let found = self.presented.iter().filter_map(|session| {
            let present = |record: &mut crate::domain::leak_detectors::SessionRecord| {
                record.present(who, arrival, effect, now.mono)
            };
            let finding = self.leaks.sessions.known(*session, bounds, now.mono, present)??;
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
        says: &PortalSays,
        status: StatusCode,
        headers: &HeaderMap,
        route: Route,
    ) -> Result<(), Detector> {
        let now = Now { mono: self.leaks.clock.mono(), ..self.origin.now };
        if let Route::Personal(_) = route {
            let (method, path) = (self.origin.method, self.origin.path);
            self.leaks.tally.note_personal(method, path, guarded.could_be_public && says.identity.is_none());
        }
        self.tally(guarded);
        if route == Route::Public {
            return Ok(());
        }
        let stopped =
            [self.hit(guarded, status), self.issued(headers, status, now), self.named(says, headers, status, now)];
        stopped.into_iter().flatten().next().map_or(Ok(()), Err)
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

    fn hit(&self, guarded: &Guarded, status: StatusCode) -> Option<Detector> {
        let hit = guarded.hit.filter(|_| self.settings.rules.cache_behind == CacheBehind::Distrusted)?;
        let event = Event { header: Some(hit.as_str()), ..self.event(None, None, None) };
        self.act_on(&Finding::cache_hit(Certainty::Sure), event, Some(status))
    }

    /// Session cookies that the answer issues, to a request that did not carry them.
    fn issued(&self, headers: &HeaderMap, status: StatusCode, now: Now) -> Option<Detector> {
        let (leaks, who) = (self.leaks, self.origin.who);
        let bounds = Leaks::bounds(self.settings);
        let issued = issued_sessions(headers, &self.settings.session_cookies);
        let found = issued.filter_map(|cookie| {
            let session = leaks.hashes.session(&cookie);
            let in_target = std::str::from_utf8(cookie.id).is_ok_and(|id| self.origin.target.contains(id));
            if self.presented.contains(&session) || in_target {
                return None;
            }
            let finding = leaks.sessions.session(session, bounds, now.mono, |record| record.issue(who, now.mono))?;
            self.act(&finding, Some(session), None, Some(status))
        });
        last_of_all(found)
    }

    /// The person whom the portal names, against the session of the answer: the one it issues, or else the one that the
    /// request presents.
    fn named(&self, says: &PortalSays, headers: &HeaderMap, status: StatusCode, now: Now) -> Option<Detector> {
        let leaks = self.leaks;
        let identity = leaks.hashes.identity(says.identity.as_ref()?.as_bytes());
        let mut issued = issued_sessions(headers, &self.settings.session_cookies);
        let session = issued.next().map(|cookie| leaks.hashes.session(&cookie)).or(self.presented.first().copied())?;
        let bounds = Leaks::bounds(self.settings);
        let (who, asked_at) = (self.origin.who, self.origin.now.mono);
        let mismatch =
            leaks.sessions.session(session, bounds, now.mono, |record| record.name(identity, who, asked_at, now.mono));
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
            session: session.or(self.presented.first().copied()).map(|session| hex(session.0)),
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
