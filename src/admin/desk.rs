//! What operators see and what they changed, in one place: the pacer asks for a picture each second, the private listener shows
//! it, and the control plane puts changes in force here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::audit::Line;
use super::books::{Books, NotWritten, Unreadable};
use super::history::{self, History};
use super::status::{
    CertificateStatus, ConfigurationStatus, LaneStatus, OverrideStatus, PortalStatus, ReloadStatus, RoomStatus, Stage,
    Standstill, Status, StoreState, WindowStatus,
};
use crate::clock::Clock;
use crate::config;
use crate::domain::borne::{Borne, Did};
use crate::domain::names::{ClassName, RoomName};
use crate::domain::overrides::Overrides;
use crate::domain::pulse::Counted;
use crate::domain::schedule::OpenNow;
use crate::domain::time::{Now, Unix};
use crate::gateway::snapshot::{RoomInForce, Snapshot, Tenure};
use crate::leaks::Leaks;
use crate::room::{Forecast, NamedLane};
use crate::server::Tls;
use crate::telemetry::metrics::LaneMetrics;

/// Seconds over which entries and joins are averaged.
const LATELY: usize = 10;
/// Seconds over which real waits are averaged.
const WAITS: usize = 60;
/// Between two lines of what was decided in sum, and between two writings of the history.
const SUMMED_EVERY: Duration = Duration::from_secs(60);

/// What operators see and what they changed.
#[derive(Debug)]
pub struct Desk {
    books: Arc<Books>,
    overrides: watch::Sender<Arc<Overrides>>,
    configuration: Mutex<ConfigurationStatus>,
    certificates: watch::Receiver<Arc<Tls>>,
    seen: Mutex<Seen>,
    history: Mutex<History>,
    /// Attempts that were refused since the last line that sums them up.
    refused: Refused,
    /// What had been decided of each lane when that was summed up last.
    summed: Mutex<Summed>,
}

/// What has been decided of each lane since the start.
type Summed = HashMap<(RoomName, ClassName), Decided>;

/// Reasons for which attempts are refused.
const REASONS: usize = 9;

/// Refused attempts, by why.
#[derive(Debug, Default)]
struct Refused {
    wrong_tokens: AtomicU64,
    expired_tokens: AtomicU64,
    roles: AtomicU64,
    foreign_pages: AtomicU64,
    wrong_values: AtomicU64,
    unknown_names: AtomicU64,
    rules: AtomicU64,
    outdated: AtomicU64,
    not_written: AtomicU64,
}

/// Why somebody was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedFor {
    /// The token is nobody's, or there was none.
    WrongToken,
    /// The token's time is over.
    ExpiredToken,
    /// The role is not enough.
    Role,
    /// Another site's page asked, or another host was meant.
    ForeignPage,
    /// A value is out of range, or no value.
    WrongValue,
    /// There is no such room, code or pass.
    UnknownName,
    /// The file or another order is against it.
    Rules,
    /// Somebody else changed something in between.
    Outdated,
    /// It could not be written down.
    NotWritten,
}

/// What was counted lately, room by room.
#[derive(Debug, Default)]
struct Seen {
    rooms: HashMap<RoomName, SeenRoom>,
}

#[derive(Debug, Default)]
struct SeenRoom {
    lanes: HashMap<ClassName, VecDeque<Count>>,
    borne: Borne,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    arrivals: u64,
    entries: u64,
    waited: f64,
    waits: u64,
}

/// Everything of which a picture is made.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The configuration and rooms in force.
    pub snapshot: &'a Snapshot,
    /// Whether the portal is well.
    pub healthy: bool,
    /// Requests under way at the portal.
    pub in_flight: u64,
    /// Its last answers to visitors.
    pub answers: Counted,
    /// Whether the line can be made durable.
    pub store: StoreState,
    /// Where in its life the program is.
    pub stage: Stage,
    /// What the leak guard found.
    pub leaks: &'a Leaks,
}

impl Desk {
    /// Opens the operators' directory. Blocks on the disk.
    ///
    /// # Errors
    /// [`Unreadable`] when it is not known what operators changed before.
    pub fn open(dir: &Path, certificates: watch::Receiver<Arc<Tls>>) -> Result<Desk, Unreadable> {
        let (books, overrides) = Books::open(dir)?;
        let history = History::read(dir);
        let rooms = history.borne.iter().filter_map(|(name, best)| {
            let borne = Borne::having_seen(*best);
            Some((RoomName::new(name).ok()?, SeenRoom { borne, ..SeenRoom::default() }))
        });
        Ok(Desk {
            books: Arc::new(books),
            overrides: watch::Sender::new(Arc::new(overrides)),
            configuration: Mutex::default(),
            certificates,
            seen: Mutex::new(Seen { rooms: rooms.collect() }),
            history: Mutex::new(history),
            refused: Refused::default(),
            summed: Mutex::default(),
        })
    }

    /// What operators changed.
    pub fn overrides(&self) -> Arc<Overrides> {
        self.overrides.borrow().clone()
    }

    /// Takes over what is in force from now on.
    pub fn keep(&self, overrides: Overrides) {
        self.overrides.send_replace(Arc::new(overrides));
    }

    /// Where changes are written down.
    pub fn books(&self) -> Arc<Books> {
        self.books.clone()
    }

    /// Writes lines of the audit log, off the caller's thread.
    ///
    /// # Errors
    /// [`NotWritten`]
    pub async fn record(&self, lines: Vec<Line>, at: Unix) -> Result<(), NotWritten> {
        let books = self.books.clone();
        let written = tokio::task::spawn_blocking(move || books.record(&lines, at)).await;
        written.unwrap_or_else(|error| Err(NotWritten::broken_off(self.books.dir(), error)))
    }

    /// Writes overrides and what is to be known of their change, off the caller's thread.
    ///
    /// # Errors
    /// [`NotWritten`]
    pub async fn commit(&self, overrides: &Overrides, lines: Vec<Line>, at: Unix) -> Result<(), NotWritten> {
        let (books, overrides) = (self.books.clone(), overrides.clone());
        let written = tokio::task::spawn_blocking(move || books.commit(&overrides, &lines, at)).await;
        written.unwrap_or_else(|error| Err(NotWritten::broken_off(self.books.dir(), error)))
    }

    /// What is known of the configuration in force.
    pub fn configuration(&self) -> ConfigurationStatus {
        locked(&self.configuration).clone()
    }

    /// Another file's text is in force.
    pub fn note_configuration(&self, revision: String, file: Option<&Path>, at: Unix) {
        let mut configuration = locked(&self.configuration);
        configuration.file = file.map(|file| file.display().to_string());
        if configuration.revision != revision {
            (configuration.revision, configuration.in_force_since) = (revision, Some(at));
        }
    }

    /// A reload ended like this.
    pub fn note_reload(&self, reload: ReloadStatus) {
        locked(&self.configuration).last_reload = Some(reload);
    }

    /// Somebody was refused.
    pub(super) fn note_refused(&self, why: RefusedFor) {
        let counter = match why {
            RefusedFor::WrongToken => &self.refused.wrong_tokens,
            RefusedFor::ExpiredToken => &self.refused.expired_tokens,
            RefusedFor::Role => &self.refused.roles,
            RefusedFor::ForeignPage => &self.refused.foreign_pages,
            RefusedFor::WrongValue => &self.refused.wrong_values,
            RefusedFor::UnknownName => &self.refused.unknown_names,
            RefusedFor::Rules => &self.refused.rules,
            RefusedFor::Outdated => &self.refused.outdated,
            RefusedFor::NotWritten => &self.refused.not_written,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The samples of the last so many seconds.
    pub(super) fn history(&self, room: Option<&str>, seconds: u64, now: Unix) -> Value {
        // A copy: the picture of this second does not wait until a long answer is written.
        let history = locked(&self.history).clone();
        history.shown(room, seconds, now)
    }

    /// What to tell an operator who wants to admit more than before.
    pub fn warning_of_rate(&self, room: &RoomName, before: f64, wanted: f64) -> Option<String> {
        let seen = locked(&self.seen);
        seen.rooms
            .get(room)
            .map_or_else(|| Borne::default().warning(before, wanted), |seen| seen.borne.warning(before, wanted))
    }

    /// The picture of this second; to be asked for once a second.
    pub fn picture(&self, scene: &Scene<'_>, now: Now) -> Status {
        let mut seen = locked(&self.seen);
        let configured = |name: &RoomName| scene.snapshot.rooms.iter().any(|room| room.settings.name == *name);
        seen.rooms.retain(|name, _| configured(name));
        let rooms = scene.snapshot.rooms.iter().map(|room| {
            let seen = seen.rooms.entry(room.settings.name.clone()).or_default();
            room_status(room, scene, seen, now)
        });
        let rooms: Vec<RoomStatus> = rooms.collect();
        drop(seen);
        let overrides = self.overrides();
        let portal = &scene.snapshot.config.portal;
        let millis = |part: f64| scene.answers.quantile(part).map(|latency| latency.as_secs_f64() * 1000.0);
        let status = Status {
            taken_at: now.mono,
            updated_at: now.wall,
            stage: scene.stage,
            revision: overrides.revision(),
            configuration: self.configuration(),
            store: scene.store,
            portal: PortalStatus {
                healthy: scene.healthy,
                in_flight: scene.in_flight,
                max_in_flight: portal.max_in_flight as u64,
                answers_per_second: scene.answers.count() as f64 / LATELY as f64,
                latency_p50_ms: millis(0.5),
                latency_p95_ms: millis(0.95),
                errors_percent: scene.answers.errors_percent(),
            },
            leak_guard: scene.leaks.overview(&scene.snapshot.config.leak_guard),
            certificates: self.certificates(now.wall),
            audit: self.books.head(),
            overrides: OverrideStatus::all(&overrides),
            rooms,
        };
        self.note_history(&status);
        status
    }

    fn certificates(&self, now: Unix) -> Vec<CertificateStatus> {
        let today = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
        let tls = self.certificates.borrow().clone();
        let of = |(name, expires): &(String, i64)| CertificateStatus {
            name: name.clone(),
            expires_at: Unix::from_seconds(u32::try_from(*expires).unwrap_or(if *expires < 0 { 0 } else { u32::MAX })),
            days_left: (expires - today).div_euclid(86_400),
        };
        tls.expiries().iter().map(of).collect()
    }

    fn note_history(&self, status: &Status) {
        if (status.updated_at.0 / 1000).is_multiple_of(history::STEP) {
            let mut history = locked(&self.history);
            let borne = status.rooms.iter().map(|room| (room.name.as_str().to_owned(), room.highest_rate_borne));
            history.borne = borne.collect::<BTreeMap<_, _>>();
            history.add(status);
        }
    }

    /// Writes what lasts once a minute: the history, and what was decided in sum. Runs until dropped.
    pub async fn look_after(self: Arc<Self>, snapshot: watch::Receiver<Arc<Snapshot>>, clock: Clock) {
        loop {
            clock.sleep(SUMMED_EVERY).await;
            self.write_history().await;
            let in_force = snapshot.borrow().clone();
            self.write_sums(&in_force, clock.now().wall).await;
        }
    }

    /// Writes what was decided in sum since that was written last.
    pub async fn write_sums(&self, snapshot: &Snapshot, at: Unix) {
        let before = locked(&self.summed).clone();
        let (mut lines, now) = sums(snapshot, &before);
        let refused = self.refused.counted();
        lines.extend(refused_line(refused));
        if lines.is_empty() {
            return;
        }
        match self.record(lines, at).await {
            Ok(()) => {
                *locked(&self.summed) = now;
                self.refused.forget(refused);
            }
            Err(error) => tracing::error!(%error, "what was decided in the last minute waits for the audit log"),
        }
    }

    /// Writes the history now.
    pub async fn write_history(&self) {
        let (history, books) = (locked(&self.history).clone(), self.books.clone());
        let written = tokio::task::spawn_blocking(move || history::write(books.dir(), &history.text())).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the history for charts could not be written");
        }
    }
}

/// Lines of what was decided since `before`, and what has been decided by now.
fn sums(snapshot: &Snapshot, before: &Summed) -> (Vec<Line>, Summed) {
    let mut now = HashMap::new();
    let mut lines = Vec::new();
    for room in &snapshot.rooms {
        for lane in room.live.lanes().iter() {
            let key = (room.settings.name.clone(), lane.name.clone());
            let decided = Decided::of(&lane.metrics);
            let fresh = decided.since(before.get(&key).copied().unwrap_or_default());
            now.insert(key, decided);
            if !fresh.is_nothing() {
                let details = fresh.details(&room.settings.name, &lane.name);
                lines.push(Line { what: "decisions", details });
            }
        }
    }
    (lines, now)
}

/// A line of refused attempts, if there were any.
fn refused_line(counted: [(&'static str, u64); REASONS]) -> Option<Line> {
    let any = counted.iter().any(|(_, count)| *count != 0);
    let details = counted.into_iter().map(|(name, count)| (name.to_owned(), Value::from(count))).collect();
    any.then_some(Line { what: "refused", details: Value::Object(details) })
}

impl Refused {
    fn all(&self) -> [(&'static str, &AtomicU64); REASONS] {
        [
            ("wrong_tokens", &self.wrong_tokens),
            ("expired_tokens", &self.expired_tokens),
            ("roles", &self.roles),
            ("foreign_pages", &self.foreign_pages),
            ("wrong_values", &self.wrong_values),
            ("unknown_names", &self.unknown_names),
            ("rules", &self.rules),
            ("outdated", &self.outdated),
            ("not_written", &self.not_written),
        ]
    }

    fn counted(&self) -> [(&'static str, u64); REASONS] {
        self.all().map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    /// What was written down is counted no more; what came meanwhile is.
    fn forget(&self, written: [(&'static str, u64); REASONS]) {
        for ((_, count), (_, written)) in self.all().iter().zip(written) {
            count.fetch_sub(written, Ordering::Relaxed);
        }
    }
}

/// What was decided of a lane's visitors since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Decided {
    joined: u64,
    called: u64,
    entered: u64,
    no_shows: u64,
    returned: u64,
    gone: u64,
}

impl Decided {
    fn of(metrics: &LaneMetrics) -> Decided {
        Decided {
            joined: metrics.arrivals.get(),
            called: metrics.calls.get(),
            entered: metrics.admissions.get(),
            no_shows: metrics.no_shows.get(),
            returned: metrics.returns.get(),
            gone: metrics.abandoned.get(),
        }
    }

    fn since(self, before: Decided) -> Decided {
        Decided {
            joined: self.joined.saturating_sub(before.joined),
            called: self.called.saturating_sub(before.called),
            entered: self.entered.saturating_sub(before.entered),
            no_shows: self.no_shows.saturating_sub(before.no_shows),
            returned: self.returned.saturating_sub(before.returned),
            gone: self.gone.saturating_sub(before.gone),
        }
    }

    fn is_nothing(self) -> bool {
        self == Decided::default()
    }

    fn details(self, room: &RoomName, class: &ClassName) -> Value {
        let Decided { joined, called, entered, no_shows, returned, gone } = self;
        json!({
            "room": room.as_str(), "class": class.as_str(), "joined": joined, "called": called, "entered": entered,
            "no_shows": no_shows, "returned": returned, "gone": gone,
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn room_status(room: &RoomInForce, scene: &Scene<'_>, seen: &mut SeenRoom, now: Now) -> RoomStatus {
    let settings = &room.settings;
    let in_force = room.live.in_force();
    let forecasts = room.live.forecasts(now);
    let SeenRoom { lanes: counts, borne } = seen;
    let mut entered = 0;
    let lanes: Vec<LaneStatus> = room
        .live
        .lanes()
        .iter()
        .map(|lane| {
            let counts = counts.entry(lane.name.clone()).or_default();
            entered += note(counts, &lane.metrics);
            let forecast = forecasts.iter().find(|forecast| forecast.class == lane.class);
            lane_status(room, lane, LaneLook { counts, forecast }, now)
        })
        .collect();
    borne.note(entered, if scene.healthy { Did::Well } else { Did::Badly });
    let (nodes, nodes_disagreeing) = room.live.nodes(now.mono);
    let (guard, ramp) = (&scene.snapshot.config.leak_guard, scene.snapshot.config.portal.ramp);
    RoomStatus {
        name: settings.name.clone(),
        state: room.live.state(),
        configured: room.tenure == Tenure::Configured,
        message: in_force.message.first().map(str::to_owned),
        messages: texts(&in_force.message),
        admission_rate: room.live.rate_in_force(),
        rate: in_force.rate().to_string(),
        entries_per_second: lanes.iter().map(|lane| lane.entries_per_second).sum(),
        highest_rate_borne: borne.best(),
        leak_guard: scene.leaks.admissions_word(&settings.name, guard, ramp, now),
        opens_at: room.live.opens_at(),
        leads: room.live.leads(now.mono),
        nodes,
        nodes_disagreeing,
        frozen: room.live.is_frozen(),
        login_healthy: room.live.login_is_well(),
        active_sessions: room.live.seats.count(),
        max_active_sessions: in_force.max_active_sessions,
        lanes,
    }
}

fn texts(message: &config::LocalText) -> Vec<(Option<String>, String)> {
    message.texts().map(|(language, text)| (language.map(str::to_owned), text.to_owned())).collect()
}

/// Notes a lane's sums of this second, and says how many entered in it.
fn note(counts: &mut VecDeque<Count>, metrics: &LaneMetrics) -> u64 {
    let count = Count {
        arrivals: metrics.arrivals.get(),
        entries: metrics.admissions.get(),
        waited: metrics.wait_seconds.get_sample_sum(),
        waits: metrics.wait_seconds.get_sample_count(),
    };
    let entered = counts.front().map_or(0, |before| count.entries.saturating_sub(before.entries));
    counts.push_front(count);
    counts.truncate(WAITS + 1);
    entered
}

/// What there is to say of a lane besides its figures.
struct LaneLook<'a> {
    counts: &'a VecDeque<Count>,
    forecast: Option<&'a Forecast>,
}

fn lane_status(room: &RoomInForce, lane: &NamedLane, look: LaneLook<'_>, now: Now) -> LaneStatus {
    let view = room.live.lane_view(lane.class);
    let hours = room.live.hours(lane.class);
    let wait = look.forecast.and_then(|forecast| forecast.wait);
    LaneStatus {
        class: lane.name.clone(),
        tickets: view.tickets,
        now_serving: view.now_serving,
        waiting: view.waiting,
        called: view.called,
        at_gate: view.at_gate,
        // Counted a moment ago for the metrics; counting seats takes a while.
        active_sessions: u64::try_from(lane.metrics.active_sessions.get()).unwrap_or(0),
        gone: lane.metrics.abandoned.get(),
        no_shows: lane.metrics.no_shows.get(),
        returns: lane.metrics.returns.get(),
        entries: lane.metrics.admissions.get(),
        entries_per_second: per_second(look.counts, |count| count.entries),
        joins_per_second: per_second(look.counts, |count| count.arrivals),
        wait_seconds_low: wait.map(|wait| wait.low.as_secs()),
        wait_seconds_high: wait.map(|wait| wait.high.as_secs()),
        wait_seconds_real: real_wait(look.counts),
        window: WindowStatus { open: hours.now == OpenNow::Open, opens_at: hours.opens_at, closes_at: hours.closes_at },
        standstill: room.live.standstill_of(lane.class, now).map(|(reason, since)| {
            let seconds = now.mono.since(since);
            Standstill { reason, seconds, since: now.wall.minus(seconds) }
        }),
    }
}

fn per_second(counts: &VecDeque<Count>, of: fn(&Count) -> u64) -> f64 {
    let earliest = (counts.len().saturating_sub(1)).min(LATELY);
    match (counts.front(), counts.get(earliest)) {
        (Some(now), Some(then)) if earliest > 0 => of(now).saturating_sub(of(then)) as f64 / earliest as f64,
        _ => 0.0,
    }
}

fn real_wait(counts: &VecDeque<Count>) -> Option<f64> {
    let (now, then) = (counts.front()?, counts.back()?);
    let waits = now.waits.saturating_sub(then.waits);
    (waits > 0).then(|| (now.waited - then.waited).max(0.0) / waits as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_while_the_sums_are_written_is_counted_in_the_next() {
        let refused = Refused::default();
        refused.roles.fetch_add(2, Ordering::Relaxed);
        let written = refused.counted();
        refused.roles.fetch_add(1, Ordering::Relaxed);
        refused.forget(written);
        assert_eq!(refused_line(refused.counted()).unwrap().details["roles"], 1);
        assert!(refused_line(Refused::default().counted()).is_none());
    }

    #[test]
    fn rates_go_by_the_last_seconds_only() {
        let mut counts = VecDeque::new();
        assert_eq!(per_second(&counts, |count| count.entries), 0.0);
        for second in 0..100u64 {
            let entries = if second < 50 { 0 } else { (second - 49) * 3 };
            counts.push_front(Count { entries, waits: second, waited: second as f64 * 40.0, ..Count::default() });
            counts.truncate(WAITS + 1);
        }
        assert_eq!(per_second(&counts, |count| count.entries), 3.0);
        assert_eq!(real_wait(&counts), Some(40.0));
        assert_eq!(counts.len(), WAITS + 1);
    }
}
