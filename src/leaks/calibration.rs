//! Asks the portal for addresses that nobody ever asked for: at the start and at every reload, for every kind of address
//! that visitors ask for, and again when hits were blocked. What looks like a cache's hit there is a trait of the portal
//! ([`crate::domain::portal_traits`]); hits of that kind are then reported only. Until the portal has been asked, they
//! are reported only as well.

use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AGE, CACHE_CONTROL, HOST, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::Empty;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Leaks;
use super::fetch::{NotFetched, Side, fetch};
use crate::config::Config;
use crate::domain::hit_header::{HitHeader, Says, says_of_caches, seconds_of_age};
use crate::domain::paths::{HostPattern, host_of};
use crate::domain::portal_traits::{Heard, HostSent, Known, Question, Seen, Traits};
use crate::domain::time::Mono;
use crate::entropy;
use crate::gateway::snapshot::Snapshot;
use crate::proxy::tls::PortalTls;

/// Until an attempt that failed is repeated.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two summaries in the audit file.
const SUMMARY: Duration = Duration::from_secs(60);
/// How often the portal is asked about each kind of address.
const TIMES: usize = 2;
/// Kinds that are asked about without a pause; then the portal gets one.
const AT_A_STRETCH: usize = 8;
/// The pause.
const PAUSE: Duration = Duration::from_secs(1);

impl Leaks {
    /// Calibrates and writes summaries. Never ends.
    pub async fn look_after(self: Arc<Leaks>, mut snapshot: watch::Receiver<Arc<Snapshot>>) {
        let mut summary_at = self.clock.mono() + SUMMARY;
        let mut config = self.begin(&mut snapshot);
        loop {
            let next = self.ask_some(&config).await;
            self.show_detectors(&config.leak_guard);
            let wake = next.map_or(summary_at, |next| next.min(summary_at));
            tokio::select! {
                changed = snapshot.changed() => match changed {
                    Ok(()) => config = self.begin(&mut snapshot),
                    Err(_) => return,
                },
                () = self.something_to_ask.notified(), if next.is_none() => {}
                () = self.clock.sleep_until(wake) => {}
            }
            let now = self.clock.mono();
            if now >= summary_at {
                self.write_tally();
                summary_at = now + SUMMARY;
            }
        }
    }

    /// Takes up a configuration: everything is asked anew.
    fn begin(&self, snapshot: &mut watch::Receiver<Arc<Snapshot>>) -> Arc<Config> {
        let config = snapshot.borrow_and_update().config.clone();
        let public = config.server.public_url.as_ref().map(|url| url.authority.as_str());
        let mut traits = self.traits_mut();
        let named = public.and_then(|authority| HostPattern::parse(host_of(authority)).ok());
        let sent = if config.portal.preserve_host { HostSent::Visitors } else { HostSent::Portals };
        let hosts = config.rooms.iter().flat_map(|room| room.hosts.iter().cloned()).chain(named);
        traits.know_hosts(hosts.collect(), sent);
        traits.want_configured(public.unwrap_or_default(), "/");
        for room in &config.rooms {
            let start = room.start.split(['?', '#']).next().unwrap_or("/");
            let hosts: Vec<&str> = room.hosts.iter().filter_map(HostPattern::one_host).collect();
            let unnamed = hosts.is_empty().then(|| public.unwrap_or_default());
            for host in hosts.iter().copied().chain(unnamed) {
                traits.want_configured(host, "/");
                traits.want_configured(host, start);
            }
        }
        traits.doubt_all();
        config
    }

    /// Asks as long as there is something to ask, up to a stretch. Says when to go on; `None` when there is nothing
    /// left. What the portal does not answer, or not clearly, waits behind everything else.
    async fn ask_some(&self, config: &Config) -> Option<Mono> {
        let mut failed = Vec::new();
        let mut pause = PAUSE;
        for _ in 0..AT_A_STRETCH {
            let Some(question) = self.traits().next().filter(|question| !failed.contains(&question.kind)) else {
                break;
            };
            let kind = question.kind.clone();
            match self.ask_the_portal(question, config).await {
                Ok(Asked::Answered) => {}
                Ok(Asked::Unclearly) => failed.push(kind),
                Err(error) => {
                    tracing::debug!(%error, "the portal could not be asked for a path that nobody ever asked for");
                    self.traits_mut().postpone();
                    failed.push(kind);
                    pause = AGAIN;
                }
            }
        }
        let next = self.traits().next()?;
        // What was unclear is asked again later; nothing else waits for that.
        Some(self.clock.mono() + if failed.contains(&next.kind) { AGAIN } else { pause })
    }

    async fn ask_the_portal(&self, question: Question, config: &Config) -> Result<Asked, NotFetched> {
        let here = self.hear(&question, config, Question::path).await?;
        let elsewhere = match question.path_elsewhere("0") {
            Some(_) => {
                self.hear(&question, config, |question, random| question.path_elsewhere(random).unwrap_or_default())
                    .await?
            }
            None => Ok(None),
        };
        let now = self.clock.mono();
        let (here, elsewhere) = match (here, elsewhere) {
            (Ok(here), Ok(elsewhere)) => (here, elsewhere),
            (Err(Unclear(age)), _) | (_, Err(Unclear(age))) => {
                let is_learned = self.traits_mut().learn_unclear(question, age, now);
                return Ok(if is_learned { Asked::Answered } else { Asked::Unclearly });
            }
        };
        if let Some(header) = here
            && self.traits().of(&question.host, &question.path("")) != Known::Trait(header)
        {
            tracing::warn!(
                header = header.as_str(),
                host = question.kind.host(),
                folder = question.kind.folder(),
                ending = question.kind.ending(),
                "the portal itself says what caches say of their hits: the detector cache_hit only reports there; list \
                 the header in leak_guard.ignore_hit_headers if no cache writes it"
            );
        }
        self.traits_mut().learn(question, Heard { here, elsewhere }, now);
        Ok(Asked::Answered)
    }

    /// What looks like a hit on a fresh address. An answer that took its time may say its age without being old: it is
    /// no answer to the question.
    async fn hear(
        &self,
        question: &Question,
        config: &Config,
        path: impl Fn(&Question, &str) -> String,
    ) -> Result<Result<Option<HitHeader>, Unclear>, NotFetched> {
        let mut heard = Err(Unclear(0));
        for _ in 0..TIMES {
            let random = entropy::bytes::<16>().map_err(|_| NotFetched::Body)?;
            let asked_at = self.clock.mono();
            let headers = ask(question, &path(question, &super::audit::hex(random)), config).await?;
            let under_way = self.clock.mono().since(asked_at);
            match says_of_caches(&headers, &config.leak_guard.rules.ignored_markers, under_way) {
                Says::Hit(header) => return Ok(Ok(Some(header))),
                Says::Nothing => heard = Ok(None),
                Says::Unclear => {
                    let age = headers.get_all(AGE).iter().map(seconds_of_age).max().unwrap_or_default();
                    heard = heard.map_err(|Unclear(before)| Unclear(before.max(age)));
                }
            }
        }
        Ok(heard)
    }

    /// A personal answer of a kind that was not seen before.
    pub(super) fn note_kind(&self, seen: &Seen<'_>) {
        if self.traits_mut().want(seen) {
            self.something_to_ask.notify_one();
        }
    }

    /// A hit was blocked: perhaps the portal has a trait that it had not when it was asked.
    pub(super) fn doubt(&self, host: &str, path: &str, now: Mono) {
        if self.traits_mut().doubt(host, path, now) {
            self.something_to_ask.notify_one();
        }
    }

    /// What is known of the portal's own traits.
    pub(super) fn traits(&self) -> RwLockReadGuard<'_, Traits> {
        self.traits.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn traits_mut(&self) -> RwLockWriteGuard<'_, Traits> {
        self.traits.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether hits may be blocked on addresses like the root.
    pub(super) fn is_calibrated(&self) -> bool {
        self.traits().is_silent_at_the_root()
    }

    /// What was found, as JSON.
    pub(super) fn calibration_report(&self) -> Value {
        let traits = self.traits();
        let found = traits.found();
        let places: Vec<Value> = found
            .iter()
            .map(|(kind, header)| {
                let (host, folder, ending) = (kind.host(), kind.folder(), kind.ending());
                json!({"host": host, "folder": folder, "ending": ending, "header": header.as_str()})
            })
            .collect();
        json!({
            "done": traits.is_complete(),
            "kinds": traits.len(),
            "trait": found.first().map(|(_, header)| header.as_str()),
            "traits": places,
        })
    }
}

/// Answers so slow that the `Age` they said, in seconds, says nothing.
#[derive(Clone, Copy, Debug)]
struct Unclear(u64);

/// What came of a question.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// It need not be asked again.
    Answered,
    /// The answers were too slow to tell.
    Unclearly,
}

/// As requests reach the portal.
fn over_tls(config: &Config, host: &str) -> Result<Side, NotFetched> {
    let failed = |error: &dyn std::fmt::Display| NotFetched::Tls(error.to_string());
    let tls = PortalTls::load(&config.portal).map_err(|error| failed(&error))?;
    let tls = tls.ok_or_else(|| failed(&"not set up"))?;
    let name = tls.name_of(host).ok_or_else(|| failed(&"the host is no name for a certificate"))?;
    Ok(Side::Tls(tls.config, name))
}

async fn ask(question: &Question, path: &str, config: &Config) -> Result<HeaderMap, NotFetched> {
    let Some(url) = config.portal.urls.first() else { return Err(NotFetched::Body) };
    let keeps_host = config.portal.preserve_host && !question.host.is_empty();
    let host = if keeps_host { &question.host } else { &url.authority };
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "text/html,*/*;q=0.8")
        .header(CACHE_CONTROL, "no-store, no-cache")
        .header(USER_AGENT, "anticamera")
        .body(Empty::<Bytes>::new());
    let side = if url.https { over_tls(config, &url.host)? } else { Side::Plain };
    let request = request.map_err(|_| NotFetched::Body)?;
    Ok(fetch(&url.host, url.port, side, request).await?.headers)
}
