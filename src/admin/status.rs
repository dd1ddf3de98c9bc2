//! What the control plane publishes for operators: a picture of every room, and whether the program is ready.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::config::RoomState;
use crate::domain::local_time;
use crate::domain::names::{ClassName, RoomName};
use crate::domain::overrides::{Entry, Overrides, Saying, Subject};
use crate::domain::time::{Mono, Unix};
use crate::telemetry::metrics::{StandstillReason, room_state_text};

/// A picture older than this means that the control plane has stopped. It is taken at least every second.
const STALE: Duration = Duration::from_secs(10);

/// The whole picture. The control plane publishes a new one at least every second.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// When the picture was taken, on the monotonic clock.
    #[serde(skip)]
    pub taken_at: Mono,
    /// When the picture was taken, for people.
    #[serde(serialize_with = "as_rfc3339")]
    pub updated_at: Unix,
    /// Where in its life the program is.
    pub stage: Stage,
    /// What was changed so far, by operators and reloads: to be named in `If-Match`.
    pub revision: u64,
    /// The configuration in force.
    pub configuration: ConfigurationStatus,
    /// Whether the line can be made durable.
    pub store: StoreState,
    /// The protected application.
    pub portal: PortalStatus,
    /// What the leak guard found.
    pub leak_guard: LeakStatus,
    /// The certificates shown to visitors.
    pub certificates: Vec<CertificateStatus>,
    /// The end of the audit log.
    pub audit: Value,
    /// What operators changed, in force now.
    pub overrides: Vec<OverrideStatus>,
    /// Every room, in the order of the configuration.
    pub rooms: Vec<RoomStatus>,
}

/// Where in its life the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Not yet listening.
    Starting,
    /// Serving visitors.
    Serving,
    /// Finishing what is under way; takes nothing new.
    Draining,
}

/// Whether the line can be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    /// Everything is written.
    Works,
    /// Nothing more can be written: no space, or read-only.
    Full,
    /// The store does not answer.
    Unreachable,
}

/// The protected application as the program sees it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PortalStatus {
    /// Whether it answers.
    pub healthy: bool,
    /// Requests under way.
    pub in_flight: u64,
    /// Requests under way at most.
    pub max_in_flight: u64,
    /// Answers per second over the last ten seconds.
    pub answers_per_second: f64,
    /// The time within which half of them came, in milliseconds.
    pub latency_p50_ms: Option<f64>,
    /// The time within which 95 of 100 came, in milliseconds.
    pub latency_p95_ms: Option<f64>,
    /// Percent of them that say that the portal is overloaded or away.
    pub errors_percent: f64,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConfigurationStatus {
    /// The first digits of the SHA-256 of the file's text.
    pub revision: String,
    /// The file.
    pub file: Option<String>,
    /// When it came into force.
    #[serde(serialize_with = "as_rfc3339_option")]
    pub in_force_since: Option<Unix>,
    /// How the last reload ended.
    pub last_reload: Option<ReloadStatus>,
}

/// How a reload ended.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadStatus {
    /// When.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: Unix,
    /// `applied`, `unchanged`, `refused` or `needs_restart`.
    pub result: &'static str,
    /// Faults, or the keys that need a restart.
    pub details: Vec<String>,
}

/// What the leak guard found since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeakStatus {
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// Answers that were stopped.
    pub blocked: u64,
    /// Findings that were reported only.
    pub alarmed: u64,
    /// The last of both.
    #[serde(serialize_with = "as_rfc3339_option")]
    pub last: Option<Unix>,
    /// What the canary says of whatever stands in front.
    pub edge: Value,
}

/// A certificate shown to visitors.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateStatus {
    /// The names that it is shown for.
    pub name: String,
    /// When it is good no more.
    #[serde(serialize_with = "as_rfc3339")]
    pub expires_at: Unix,
    /// Whole days until then; negative when it has expired.
    pub days_left: i64,
}

/// Something that an operator changed.
#[derive(Clone, Debug, Serialize)]
pub struct OverrideStatus {
    /// The room.
    pub room: String,
    /// What of it.
    pub subject: Subject,
    /// What is in force.
    pub value: SayingStatus,
    /// What was in force before; `null`: what the file says. Undoing brings it back.
    pub before: Option<SayingStatus>,
    /// The revision that it made.
    pub revision: u64,
}

/// A wish with who has it.
#[derive(Clone, Debug, Serialize)]
pub struct SayingStatus {
    /// What is wanted.
    pub wish: crate::domain::overrides::Wish,
    /// Who wants it.
    pub by: String,
    /// Since when.
    #[serde(serialize_with = "as_rfc3339")]
    pub since: Unix,
    /// Until when; `null`: until it is taken back.
    #[serde(serialize_with = "as_rfc3339_option")]
    pub until: Option<Unix>,
}

impl SayingStatus {
    /// Of what was said.
    pub fn of(saying: &Saying) -> SayingStatus {
        let Saying { wish, by, since, until } = saying.clone();
        SayingStatus { wish: wish.wish, by, since, until }
    }
}

impl OverrideStatus {
    /// Of everything in force.
    pub fn all(overrides: &Overrides) -> Vec<OverrideStatus> {
        let of = |entry: &Entry| {
            Some(OverrideStatus {
                room: entry.room.clone(),
                subject: entry.subject,
                value: SayingStatus::of(entry.now.as_ref()?),
                before: entry.before.as_ref().map(SayingStatus::of),
                revision: entry.revision,
            })
        };
        overrides.entries().filter_map(of).collect()
    }
}

/// One room.
#[derive(Clone, Debug, Serialize)]
pub struct RoomStatus {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub name: RoomName,
    /// The state in force.
    #[serde(serialize_with = "as_state")]
    pub state: RoomState,
    /// Whether the file still has it; one that is gone goes on until its line is empty.
    pub configured: bool,
    /// The message shown to visitors, as it was written first.
    pub message: Option<String>,
    /// The message in every language that it has; the language is `null` where it is for all.
    pub messages: Vec<(Option<String>, String)>,
    /// Entries per second in force, after everything that lowers it.
    pub admission_rate: f64,
    /// The rate as it is written: the operator's, the window's or the room's.
    pub rate: String,
    /// Entries per second over the last ten seconds.
    pub entries_per_second: f64,
    /// The highest rate at which visitors entered for a whole minute while the portal was well, in entries per second.
    pub highest_rate_borne: f64,
    /// What the leak guard says of admissions: `open`, `stopped` or `reopening`.
    pub leak_guard: &'static str,
    /// When it opens, if it has not always been open.
    #[serde(serialize_with = "as_rfc3339_option")]
    pub opens_at: Option<Unix>,
    /// Whether this node leads the line.
    pub leads: bool,
    /// Nodes that share the line, this one included.
    pub nodes: u64,
    /// Nodes that define the room otherwise.
    pub nodes_disagreeing: u64,
    /// Whether an operator froze it.
    pub frozen: bool,
    /// Whether the login provider answers; unless nobody asks it.
    pub login_healthy: Option<bool>,
    /// Seats taken.
    pub active_sessions: u64,
    /// Seats there are, unless there is no limit.
    pub max_active_sessions: Option<u32>,
    /// One lane for each class.
    pub lanes: Vec<LaneStatus>,
}

/// The lane of one class.
#[derive(Clone, Debug, Serialize)]
pub struct LaneStatus {
    /// The class.
    #[serde(serialize_with = "as_text")]
    pub class: ClassName,
    /// Tickets drawn so far.
    pub tickets: u64,
    /// The highest number called.
    pub now_serving: u64,
    /// Visitors present in the line.
    pub waiting: u64,
    /// Visitors called who have not entered yet.
    pub called: u64,
    /// Visitors at the gate.
    pub at_gate: u64,
    /// Seats taken by the class.
    pub active_sessions: u64,
    /// Visitors who left or stayed away while waiting, since the start.
    pub gone: u64,
    /// Turns that lapsed unused, since the start.
    pub no_shows: u64,
    /// Visitors who came back after they had been passed over, since the start.
    pub returns: u64,
    /// Entries since the start.
    pub entries: u64,
    /// Entries per second over the last ten seconds.
    pub entries_per_second: f64,
    /// Tickets drawn per second over the last ten seconds.
    pub joins_per_second: f64,
    /// The wait shown to somebody who joins now: nine in ten wait at least so long. `null` when no end is known.
    pub wait_seconds_low: Option<u64>,
    /// Nine in ten wait no longer.
    pub wait_seconds_high: Option<u64>,
    /// The mean wait of those who entered in the last minute, in seconds.
    pub wait_seconds_real: Option<f64>,
    /// Whether it is the lane's hour, and when that changes.
    pub window: WindowStatus,
    /// Why the lane stands still, if it does.
    pub standstill: Option<Standstill>,
}

/// The hours of a lane.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WindowStatus {
    /// Whether its class may enter.
    pub open: bool,
    /// When it may next.
    #[serde(serialize_with = "as_rfc3339_option")]
    pub opens_at: Option<Unix>,
    /// When it may no longer.
    #[serde(serialize_with = "as_rfc3339_option")]
    pub closes_at: Option<Unix>,
}

/// Why a lane stands still.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Standstill {
    /// The reason.
    pub reason: StandstillReason,
    /// For how long, in seconds.
    #[serde(serialize_with = "as_seconds")]
    pub seconds: Duration,
    /// Since when.
    #[serde(serialize_with = "as_rfc3339")]
    pub since: Unix,
}

impl Status {
    /// Why no visitor should be sent here now; empty when the program is ready.
    pub(super) fn unready(&self, now: Mono) -> Vec<&'static str> {
        let stage = match self.stage {
            Stage::Starting => Some("starting"),
            Stage::Serving => None,
            Stage::Draining => Some("draining"),
        };
        let store = match self.store {
            StoreState::Works => None,
            StoreState::Full => Some("store_full"),
            StoreState::Unreachable => Some("store_unreachable"),
        };
        let stalled = (now.since(self.taken_at) > STALE).then_some("control_plane_stalled");
        [stage, store, stalled].into_iter().flatten().collect()
    }
}

fn as_text<S: Serializer>(name: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

fn as_state<S: Serializer>(state: &RoomState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(room_state_text(*state))
}

fn as_seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

pub(super) fn as_rfc3339<S: Serializer>(at: &Unix, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:.3}", local_time::timestamp(*at)))
}

pub(super) fn as_rfc3339_option<S: Serializer>(at: &Option<Unix>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => as_rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::admin) fn status(stage: Stage) -> Status {
        let lane = LaneStatus {
            class: ClassName::citizen(),
            tickets: 653_452,
            now_serving: 12,
            waiting: 7,
            called: 3,
            at_gate: 2,
            active_sessions: 5,
            gone: 4,
            no_shows: 1,
            returns: 0,
            entries: 9,
            entries_per_second: 0.5,
            joins_per_second: 1.5,
            wait_seconds_low: Some(60),
            wait_seconds_high: Some(120),
            wait_seconds_real: None,
            window: WindowStatus { open: true, opens_at: None, closes_at: Some(Unix(1_585_728_060_000)) },
            standstill: Some(Standstill {
                reason: StandstillReason::PortalUnhealthy,
                seconds: Duration::from_millis(1500),
                since: Unix(1_585_727_998_500),
            }),
        };
        let room = RoomStatus {
            name: RoomName::new("bonus-600").unwrap(),
            state: RoomState::Open,
            configured: true,
            message: Some("Buongiorno".into()),
            messages: vec![(Some("it".into()), "Buongiorno".into())],
            admission_rate: 0.1,
            rate: "6/min".into(),
            entries_per_second: 0.5,
            highest_rate_borne: 0.0,
            leak_guard: "open",
            opens_at: None,
            leads: true,
            nodes: 1,
            nodes_disagreeing: 0,
            frozen: false,
            login_healthy: None,
            active_sessions: 5,
            max_active_sessions: Some(10),
            lanes: vec![lane],
        };
        Status {
            taken_at: Mono(0),
            updated_at: Unix(1_585_728_000_000),
            stage,
            revision: 3,
            configuration: ConfigurationStatus::default(),
            store: StoreState::Works,
            portal: PortalStatus {
                healthy: false,
                in_flight: 3,
                max_in_flight: 512,
                answers_per_second: 2.0,
                latency_p50_ms: Some(40.0),
                latency_p95_ms: Some(90.0),
                errors_percent: 0.0,
            },
            leak_guard: LeakStatus::default(),
            certificates: Vec::new(),
            audit: Value::Null,
            overrides: Vec::new(),
            rooms: vec![room],
        }
    }

    #[test]
    fn reads_as_documented() {
        let json = serde_json::to_value(status(Stage::Serving)).unwrap();
        assert_eq!((&json["updated_at"], &json["stage"]), (&"2020-04-01T08:00:00.000Z".into(), &"serving".into()));
        assert_eq!((&json["store"], &json["revision"]), (&"works".into(), &3.into()));
        let room = &json["rooms"][0];
        assert_eq!((&room["name"], &room["state"]), (&"bonus-600".into(), &"open".into()));
        assert_eq!((&room["admission_rate"], &room["frozen"]), (&0.1.into(), &false.into()));
        let lane = &room["lanes"][0];
        assert_eq!((&lane["class"], &lane["now_serving"]), (&"citizen".into(), &12.into()));
        let standstill =
            serde_json::json!({"reason": "portal_unhealthy", "seconds": 1.5, "since": "2020-04-01T07:59:58.500Z"});
        assert_eq!(lane["standstill"], standstill);
        let window = serde_json::json!({"open": true, "opens_at": null, "closes_at": "2020-04-01T08:01:00.000Z"});
        assert_eq!(lane["window"], window);
    }

    #[test]
    fn ready_means_serving_with_a_working_store_and_a_living_control_plane() {
        let fresh = Mono(0) + STALE;
        assert!(status(Stage::Serving).unready(fresh).is_empty());
        assert_eq!(status(Stage::Starting).unready(fresh), ["starting"]);
        let full = Status { store: StoreState::Full, ..status(Stage::Draining) };
        assert_eq!(full.unready(fresh), ["draining", "store_full"]);
        assert_eq!(status(Stage::Serving).unready(fresh + Duration::from_millis(1)), ["control_plane_stalled"]);
    }
}
