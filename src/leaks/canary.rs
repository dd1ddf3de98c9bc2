//! Asks through the public address, as two made-up visitors, whether whatever stands in front of us keeps personal
//! pages: while the program runs, and once for `anticamera check --public-url`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, COOKIE, HOST, HeaderName, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Leaks;
use super::audit::{Event, hex};
use super::fetch::{Fetched, NotFetched, Side, fetch};
use crate::config::{CanaryAction, Config, PublicUrl};
use crate::domain::canary::{self, Edge, Kind, Place, Shown};
use crate::domain::leak_guard::Mode;
use crate::domain::time::Mono;
use crate::entropy;
use crate::gateway::snapshot::Snapshot;
use crate::telemetry::metrics::{CanaryResult, LeakGuardAction, LeakGuardRule};

/// The header that carries a canary's number.
pub static NUMBER: HeaderName = HeaderName::from_static("anticamera-canary");

/// How long a reload that raises a rate waits for the edge.
const BEFORE_A_RAISE: Duration = Duration::from_secs(5);

/// What one round found.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Every place that was asked for.
    pub found: Vec<Found>,
}

/// What asking for one address twice found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was asked for.
    pub place: Place,
    /// At which address.
    pub path: String,
    /// What was shown.
    pub shown: Shown,
    /// Why nothing is known, if so.
    pub why: Option<String>,
}

impl Round {
    /// The worst of it: one page that is kept is proof.
    pub fn shown(&self) -> Shown {
        let any = |wanted| self.found.iter().any(|found| found.shown == wanted);
        if any(Shown::Kept) {
            Shown::Kept
        } else if any(Shown::Unknown) || self.found.is_empty() {
            Shown::Unknown
        } else {
            Shown::Fresh
        }
    }

    fn places(&self) -> impl Iterator<Item = (&Place, Shown)> + Clone {
        self.found.iter().map(|found| (&found.place, found.shown))
    }
}

/// Asks for every kind of page in every folder, twice each, all of them at the same time.
pub async fn round(public: &PublicUrl, folders: &[String]) -> Round {
    // Made once for all, because reading the system's certificate authorities takes a while.
    let side = if public.https { Side::as_browsers_do(&host_and_port(public).0) } else { Ok(Side::Plain) };
    let side = side.map_err(|error| error.to_string());
    let mut asking = JoinSet::new();
    for folder in folders {
        for kind in Kind::ALL {
            let place = Place { folder: folder.clone(), kind };
            asking.spawn(ask_twice(public.clone(), side.clone(), place));
        }
    }
    let mut round = Round::default();
    while let Some(asked) = asking.join_next().await {
        round.found.extend(asked.ok().flatten());
    }
    round.found.sort_by(|one, other| one.place.cmp(&other.place));
    round
}

async fn ask_twice(public: PublicUrl, side: Result<Side, String>, place: Place) -> Option<Found> {
    let random = entropy::bytes::<16>().map(hex).ok()?;
    let path = canary::path(&place.folder, &random, place.kind);
    let first = ask(&public, &side, &path, place.kind, "one").await;
    let second = ask(&public, &side, &path, place.kind, "two").await;
    let shown = canary::compare(first.as_deref().ok(), second.as_deref().ok());
    Some(Found { place, path, shown, why: first.err().or(second.err()) })
}

/// The number in the answer, if it is one of ours.
async fn ask(
    public: &PublicUrl,
    side: &Result<Side, String>,
    path: &str,
    kind: Kind,
    visitor: &str,
) -> Result<String, String> {
    let (host, port) = host_and_port(public);
    let request = Request::get(path)
        .header(HOST, &public.authority)
        .header(ACCEPT, "text/html")
        .header(USER_AGENT, "anticamera-canary")
        .header(COOKIE, format!("anticamera-canary={visitor}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let fetched = fetch(&host, port, side.clone()?, request).await.map_err(|error: NotFetched| error.to_string())?;
    number(&fetched, kind).ok_or_else(|| format!("status {} and not our answer", fetched.status.as_u16()))
}

/// The number stands in the body, where every cache that keeps the answer keeps it.
fn number(fetched: &Fetched, kind: Kind) -> Option<String> {
    let is_ours = fetched.status == StatusCode::from_u16(kind.status()).ok()?;
    let text = std::str::from_utf8(&fetched.body).ok()?;
    let number = text.strip_prefix("anticamera-canary ")?.trim();
    (is_ours && !number.is_empty()).then(|| number.to_owned())
}

fn host_and_port(public: &PublicUrl) -> (String, u16) {
    let own = if public.https { 443 } else { 80 };
    match public.authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(own))
        }
        _ => (public.authority.trim_matches(['[', ']']).to_owned(), own),
    }
}

/// Folders in which personal pages are: where the rooms begin, and the root.
pub fn folders(config: &Config) -> Vec<String> {
    let start = |start: &str| {
        let path = start.split(['?', '#']).next().unwrap_or_default();
        path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned())
    };
    let mut folders: Vec<String> = config.rooms.iter().map(|room| start(&room.start)).chain([String::new()]).collect();
    folders.sort();
    folders.dedup();
    folders.truncate(8);
    folders
}

impl Leaks {
    /// Asks at the start, now and then, and after every reload; what is suspected is asked again at once, so that a
    /// proof takes one interval and not two. Never ends.
    pub async fn ask_at_the_edge(self: Arc<Leaks>, mut snapshot: watch::Receiver<Arc<Snapshot>>) {
        loop {
            let config = snapshot.borrow_and_update().config.clone();
            if let (Some(public), false) = (&config.server.public_url, config.leak_guard.canary == CanaryAction::Off) {
                self.ask_for_certain(public, &config).await;
            } else {
                self.edge.write().unwrap_or_else(PoisonError::into_inner).clear();
                self.metrics.set_edge_canary(None);
            }
            let next = self.clock.mono() + config.leak_guard.canary_interval.max(Duration::from_secs(1));
            tokio::select! {
                changed = snapshot.changed() => if changed.is_err() { return },
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Asks before more visitors are let in, so that there is proof, if any, when the new rate is in force.
    pub async fn ask_before_a_raise(&self, config: &Config) {
        let Some(public) = &config.server.public_url else { return };
        if config.leak_guard.canary == CanaryAction::Off {
            return;
        }
        if tokio::time::timeout(BEFORE_A_RAISE, self.ask_for_certain(public, config)).await.is_err() {
            tracing::warn!("the edge in front of us did not answer in time before the rate was raised");
        }
    }

    /// One round, and another one if that may be the proof.
    async fn ask_for_certain(&self, public: &PublicUrl, config: &Config) {
        let folders = folders(config);
        self.note_round(&round(public, &folders).await, config);
        let is_suspected = self.edge.read().unwrap_or_else(PoisonError::into_inner).belief.is_suspected();
        if is_suspected {
            self.note_round(&round(public, &folders).await, config);
        }
    }

    fn note_round(&self, round: &Round, config: &Config) {
        let shown = round.shown();
        let result = match shown {
            Shown::Fresh => CanaryResult::Clean,
            Shown::Kept => CanaryResult::Caching,
            Shown::Unknown => CanaryResult::Unknown,
        };
        self.metrics.set_edge_canary(Some(result));
        let (proven, was_proven, stops) = self.believe(round, result, config);
        if proven && !was_proven {
            let kept = round.found.iter().filter(|found| found.shown == Shown::Kept);
            let kept: Vec<&str> = kept.map(|found| found.place.kind.as_str()).collect();
            let action = if stops { LeakGuardAction::Blocked } else { LeakGuardAction::Alarmed };
            self.metrics.count_leak_guard(LeakGuardRule::EdgeCanary, action);
            let at = self.clock.now().wall;
            let event = Event { rule: LeakGuardRule::EdgeCanary.as_str(), action: action.as_str(), ..Event::at(at) };
            self.audit.write(Event { path: kept.join(", "), ..event });
            tracing::error!(stops, kept = kept.join(", "), "the edge in front of us keeps personal pages");
        } else if was_proven && !proven {
            tracing::info!("the edge in front of us no longer keeps personal pages");
        } else if shown == Shown::Unknown {
            let why = round.found.iter().find_map(|found| found.why.as_deref()).unwrap_or_default();
            tracing::warn!(why, "the edge in front of us could not be asked whether it keeps personal pages");
        }
    }

    /// Takes a round into account. Says whether it is proven that the edge keeps personal pages, whether it was, and
    /// whether that stops admissions.
    fn believe(&self, round: &Round, result: CanaryResult, config: &Config) -> (bool, bool, bool) {
        let mut edge = self.edge.write().unwrap_or_else(PoisonError::into_inner);
        let was_proven = edge.belief.keeps_personal_pages();
        edge.as_of = self.clock.mono();
        edge.belief = edge.belief.after(round.places());
        edge.last = Some(result);
        let proven = edge.belief.keeps_personal_pages();
        edge.stops =
            proven && config.leak_guard.canary == CanaryAction::Stop && config.leak_guard.rules.mode == Mode::Enforce;
        (proven, was_proven, edge.stops)
    }

    /// What was found at the edge, as JSON.
    pub(super) fn edge_report(&self) -> serde_json::Value {
        let edge = self.edge.read().unwrap_or_else(PoisonError::into_inner);
        serde_json::json!({
            "last_round": edge.last.map(CanaryResult::as_str),
            "keeps_personal_pages": edge.belief.keeps_personal_pages(),
            "stops_admissions": edge.stops,
        })
    }
}

/// What is known of the edge.
#[derive(Clone, Debug, Default)]
pub(super) struct EdgeState {
    /// When it was last asked.
    as_of: Mono,
    belief: Edge,
    last: Option<CanaryResult>,
    pub(super) stops: bool,
}

impl EdgeState {
    /// Forgets everything: only fresh proof counts.
    pub(super) fn clear(&mut self) {
        *self = EdgeState::default();
    }

    /// Forgets what was known by then. What was found since is fresh.
    pub(super) fn forget_until(&mut self, at: Mono) {
        if self.as_of <= at {
            self.clear();
        }
    }
}
