//! The board: what anybody may know of a room. Public, the same for everybody, kept for a second by caches.

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::queue::{ClosingInWords, Reason, ReasonInWords, Window, WindowInWords, json};
use super::words::Words;
use crate::config::RoomState;
use crate::domain::closing::{Closing, Stage};
use crate::domain::names::{ClassName, RoomName};
use crate::domain::rate::Rate;
use crate::domain::time::Unix;

/// What is true of a room.
#[derive(Clone, Debug)]
pub struct Board<'a> {
    /// Which room.
    pub room: &'a RoomName,
    /// What the operator wants of it.
    pub state: RoomState,
    /// Why its lines stand still, if they do.
    pub reason: Option<Reason>,
    /// What the operator wants everybody to read.
    pub message: Option<&'a str>,
    /// The admission rate in force.
    pub rate: Rate,
    /// When it closes, if ever, and how far that is.
    pub closing: Option<(Closing, Stage)>,
    /// Its lanes.
    pub lanes: &'a [LaneBoard],
    /// When all this was true, by the wall clock.
    pub updated_at: Unix,
}

/// What is true of a lane.
#[derive(Clone, Debug)]
pub struct LaneBoard {
    /// Whose lane it is.
    pub class: ClassName,
    /// The highest number called; `None` before the opening.
    pub now_serving: Option<u64>,
    /// Present visitors who wait; `None` before the opening.
    pub waiting: Option<u64>,
    /// Its hours.
    pub window: Window,
}

impl Board<'_> {
    /// `{room, state, reason, message, rate, closing, lanes, updated_at}`
    pub fn to_json(&self, words: &Words<'_>) -> Bytes {
        json(&BoardInWords {
            room: self.room.as_str(),
            state: state_name(self.state),
            reason: self.reason.map(|reason| ReasonInWords::of(reason, words)),
            message: self.message,
            rate: self.rate.to_string(),
            closing: self.closing.map(|(closing, stage)| ClosingInWords::of(closing, stage, words)),
            lanes: Lanes { lanes: self.lanes, words },
            updated_at: words.rfc_3339(self.updated_at),
        })
    }
}

/// The name of a room's state in the board, as the configuration has it.
pub fn state_name(state: RoomState) -> &'static str {
    match state {
        RoomState::Open => "open",
        RoomState::Hold => "hold",
        RoomState::Observe => "observe",
        RoomState::Closed => "closed",
    }
}

#[derive(Serialize)]
struct BoardInWords<'a> {
    room: &'a str,
    state: &'static str,
    reason: Option<ReasonInWords>,
    message: Option<&'a str>,
    rate: String,
    closing: Option<ClosingInWords>,
    lanes: Lanes<'a>,
    updated_at: String,
}

struct Lanes<'a> {
    lanes: &'a [LaneBoard],
    words: &'a Words<'a>,
}

impl Serialize for Lanes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.lanes.len()))?;
        for lane in self.lanes {
            map.serialize_entry(lane.class.as_str(), &LaneInWords::of(lane, self.words))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct LaneInWords {
    now_serving: Option<u64>,
    waiting: Option<u64>,
    window: WindowInWords,
}

impl LaneInWords {
    fn of(lane: &LaneBoard, words: &Words<'_>) -> LaneInWords {
        let window = WindowInWords::of(lane.window, words);
        LaneInWords { now_serving: lane.now_serving, waiting: lane.waiting, window }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::closing::Rest;
    use crate::waiting_room::catalogue::Catalogue;
    use crate::waiting_room::queue::ReasonCode;

    #[test]
    fn the_board_is_as_agreed() {
        let catalogue = Catalogue::parse(include_str!("../../waiting-room-assets/en.toml")).expect("a catalogue");
        let room = RoomName::new("bonus-600").expect("a name");
        let lane = LaneBoard {
            class: ClassName::citizen(),
            now_serving: Some(12),
            waiting: Some(345),
            window: Window::ALWAYS,
        };
        let board = Board {
            room: &room,
            state: RoomState::Open,
            reason: Some(Reason { code: ReasonCode::RampingUp, since: Unix(0) }),
            message: None,
            rate: "100/s".parse().expect("a rate"),
            closing: Some((Closing { at: Unix(1_793_701_330_000), then: Rest::End }, Stage::Open)),
            lanes: &[lane],
            updated_at: Unix(1_793_701_330_000),
        };
        let bytes = board.to_json(&Words { catalogue: &catalogue, time_zone: &TimeZone::UTC });
        let read: Value = serde_json::from_slice(&bytes).expect("JSON");
        let expected = json!({
            "room": "bonus-600", "state": "open",
            "reason": {
                "code": "ramping_up", "since": "1970-01-01T00:00:00+00:00",
                "text": "the service is running slower than usual and lets people in slowly",
            },
            "message": null, "rate": "100/s",
            "closing": {"at": "2026-11-03T10:22:10+00:00", "then": "end", "closed": false},
            "lanes": {"citizen": {
                "now_serving": 12, "waiting": 345, "window": {"open": true, "opens_at": null, "closes_at": null},
            }},
            "updated_at": "2026-11-03T10:22:10+00:00",
        });
        assert_eq!(read, expected);
    }
}
