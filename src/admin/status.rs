//! What the control plane publishes for operators: a picture of every room, and whether the program is ready.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::config::RoomState;
use crate::domain::names::{ClassName, RoomName};
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
    /// Whether the line can be made durable.
    pub store: StoreState,
    /// The protected application.
    pub portal: PortalStatus,
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
    /// The message shown to visitors.
    pub message: Option<String>,
    /// Entries per second in force.
    pub admission_rate: f64,
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
    /// Why the lane stands still, if it does.
    pub standstill: Option<Standstill>,
}

/// Why a lane stands still.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Standstill {
    /// The reason.
    pub reason: StandstillReason,
    /// For how long, in seconds.
    #[serde(serialize_with = "as_seconds")]
    pub seconds: Duration,
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

fn as_rfc3339<S: Serializer>(at: &Unix, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let timestamp = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    serializer.collect_str(&format_args!("{timestamp:.3}"))
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
            standstill: Some(Standstill {
                reason: StandstillReason::PortalUnhealthy,
                seconds: Duration::from_millis(1500),
            }),
        };
        let room = RoomStatus {
            name: RoomName::new("bonus-600").unwrap(),
            state: RoomState::Open,
            message: None,
            admission_rate: 0.1,
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
            store: StoreState::Works,
            portal: PortalStatus { healthy: false, in_flight: 3 },
            rooms: vec![room],
        }
    }

    #[test]
    fn reads_as_documented() {
        let json = serde_json::to_value(status(Stage::Serving)).unwrap();
        let expected = serde_json::json!({
            "updated_at": "2020-04-01T08:00:00.000Z",
            "stage": "serving",
            "store": "works",
            "portal": {"healthy": false, "in_flight": 3},
            "rooms": [{
                "name": "bonus-600", "state": "open", "message": null, "admission_rate": 0.1,
                "frozen": false, "login_healthy": null,
                "active_sessions": 5, "max_active_sessions": 10,
                "lanes": [{
                    "class": "citizen", "tickets": 653452, "now_serving": 12, "waiting": 7, "called": 3, "at_gate": 2,
                    "standstill": {"reason": "portal_unhealthy", "seconds": 1.5}
                }]
            }]
        });
        assert_eq!(json, expected);
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
