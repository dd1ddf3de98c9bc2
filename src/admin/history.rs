//! The last hours of every room for charts: a sample each ten seconds, six hours of them, in memory that does not grow. Once a
//! minute it is written to a small file, so that a restart leaves no hole but its own.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::books;
use super::status::{RoomStatus, Status};
use crate::domain::time::Unix;

/// Seconds between two samples.
pub(super) const STEP: u64 = 10;
/// Samples of a room at most: six hours.
const MOST: usize = 6 * 360;
/// The file in the operators' directory.
const FILE: &str = "history.json";
/// A larger file is none of ours.
const LARGEST: u64 = 256 << 20;

/// What is remembered of all rooms.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    rooms: BTreeMap<String, RoomHistory>,
    /// The best minute of each room, in entries per second.
    pub(super) borne: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct RoomHistory {
    samples: VecDeque<RoomSample>,
    lanes: BTreeMap<String, VecDeque<LaneSample>>,
}

/// Seconds since 1970; rate; seats; the portal's 95th percentile in milliseconds; errors in percent; requests in flight.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct RoomSample(u64, f32, u64, Option<f32>, f32, u64);

/// Seconds since 1970; present; entries and joins per second; the wait shown to whoever joins, in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LaneSample(u64, u64, f32, f32, Option<u32>);

impl History {
    /// What a directory holds; nothing when it holds none that can be read.
    pub(super) fn read(dir: &Path) -> History {
        let path = dir.join(FILE);
        let small_enough = fs::metadata(&path).is_ok_and(|facts| facts.is_file() && facts.len() <= LARGEST);
        let text = if small_enough { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let mut history: History = serde_json::from_slice(&text).unwrap_or_default();
        for room in history.rooms.values_mut() {
            shorten(&mut room.samples);
            room.lanes.values_mut().for_each(shorten);
        }
        history
    }

    /// What is to be written.
    pub(super) fn text(&self) -> Vec<u8> {
        // Plain structures with text keys always become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Adds a sample of every room; rooms that are gone are forgotten.
    pub(super) fn add(&mut self, status: &Status) {
        let at = status.updated_at.0 / 1000;
        self.rooms.retain(|name, _| status.rooms.iter().any(|room| room.name.as_str() == name));
        for room in &status.rooms {
            self.rooms.entry(room.name.as_str().to_owned()).or_default().add(at, room, status);
        }
    }

    /// The samples of the last so many seconds as columns, of one room or of all.
    pub(super) fn shown(&self, room: Option<&str>, seconds: u64, now: Unix) -> Value {
        let since = (now.0 / 1000).saturating_sub(seconds);
        let wanted = self.rooms.iter().filter(|(name, _)| room.is_none_or(|room| room == name.as_str()));
        let rooms: Vec<Value> = wanted.map(|(name, history)| history.shown(name, since)).collect();
        json!({"step_seconds": STEP, "rooms": rooms})
    }
}

/// Writes a history. Blocks on the disk.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(dir: &Path, text: &[u8]) -> io::Result<()> {
    books::replace(dir, FILE, text)
}

impl RoomHistory {
    fn add(&mut self, at: u64, room: &RoomStatus, status: &Status) {
        // After the wall clock was put back, what lies in the future would stand in the way.
        self.samples.retain(|sample| sample.0 < at);
        let portal = &status.portal;
        self.samples.push_back(RoomSample(
            at,
            room.admission_rate as f32,
            room.active_sessions,
            portal.latency_p95_ms.map(|latency| latency as f32),
            portal.errors_percent as f32,
            portal.in_flight,
        ));
        shorten(&mut self.samples);
        self.lanes.retain(|class, _| room.lanes.iter().any(|lane| lane.class.as_str() == class));
        for lane in &room.lanes {
            let samples = self.lanes.entry(lane.class.as_str().to_owned()).or_default();
            let wait = lane.wait_seconds_low.zip(lane.wait_seconds_high);
            let wait = wait.map(|(low, high)| u32::try_from((low + high) / 2).unwrap_or(u32::MAX));
            samples.retain(|sample| sample.0 < at);
            samples.push_back(LaneSample(
                at,
                lane.waiting,
                lane.entries_per_second as f32,
                lane.joins_per_second as f32,
                wait,
            ));
            shorten(samples);
        }
    }

    fn shown(&self, name: &str, since: u64) -> Value {
        let samples: Vec<&RoomSample> = self.samples.iter().filter(|sample| sample.0 >= since).collect();
        let lanes: Vec<Value> = self.lanes.iter().map(|(class, samples)| lane_shown(class, samples, since)).collect();
        json!({
            "name": name,
            "at": samples.iter().map(|sample| sample.0).collect::<Vec<_>>(),
            "admission_rate": samples.iter().map(|sample| sample.1).collect::<Vec<_>>(),
            "active_sessions": samples.iter().map(|sample| sample.2).collect::<Vec<_>>(),
            "portal_latency_p95_ms": samples.iter().map(|sample| sample.3).collect::<Vec<_>>(),
            "portal_errors_percent": samples.iter().map(|sample| sample.4).collect::<Vec<_>>(),
            "portal_in_flight": samples.iter().map(|sample| sample.5).collect::<Vec<_>>(),
            "lanes": lanes,
        })
    }
}

fn lane_shown(class: &str, samples: &VecDeque<LaneSample>, since: u64) -> Value {
    let samples: Vec<&LaneSample> = samples.iter().filter(|sample| sample.0 >= since).collect();
    json!({
        "class": class,
        "at": samples.iter().map(|sample| sample.0).collect::<Vec<_>>(),
        "waiting": samples.iter().map(|sample| sample.1).collect::<Vec<_>>(),
        "entries_per_second": samples.iter().map(|sample| sample.2).collect::<Vec<_>>(),
        "joins_per_second": samples.iter().map(|sample| sample.3).collect::<Vec<_>>(),
        "wait_seconds": samples.iter().map(|sample| sample.4).collect::<Vec<_>>(),
    })
}

fn shorten<T>(samples: &mut VecDeque<T>) {
    let excess = samples.len().saturating_sub(MOST);
    samples.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::super::status::Stage;
    use super::super::status::tests::status;
    use super::*;

    fn at(seconds: u64) -> Status {
        Status { updated_at: Unix(seconds * 1000), ..status(Stage::Serving) }
    }

    #[test]
    fn memory_is_bounded_and_what_is_written_is_read_again() {
        let mut history = History::default();
        (0..5000).for_each(|sample| history.add(&at(sample * STEP)));
        let shown = history.shown(None, u64::MAX, Unix(0));
        assert_eq!(shown["rooms"][0]["at"].as_array().unwrap().len(), MOST);
        assert_eq!(shown["rooms"][0]["lanes"][0]["waiting"].as_array().unwrap().len(), MOST);
        assert_eq!(shown["rooms"][0]["lanes"][0]["waiting"][0], 7);
        history.borne.insert("fair".into(), 7.5);
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &history.text()).unwrap();
        let again = History::read(directory.path());
        assert_eq!(again.shown(None, u64::MAX, Unix(0)), shown);
        assert_eq!(again.borne["fair"], 7.5);
    }

    #[test]
    fn a_room_and_a_span_can_be_picked() {
        let mut history = History::default();
        (0..100).for_each(|sample| history.add(&at(1000 + sample * STEP)));
        let last = history.shown(Some("bonus-600"), 100, Unix(1_990_000));
        assert_eq!(last["rooms"][0]["at"].as_array().unwrap().len(), 11);
        assert_eq!(history.shown(Some("other"), 100, Unix(0))["rooms"], json!([]));
    }

    #[test]
    fn a_clock_that_was_put_back_leaves_nothing_in_the_future() {
        let mut history = History::default();
        history.add(&at(5000));
        history.add(&at(4000));
        assert_eq!(history.shown(None, u64::MAX, Unix(0))["rooms"][0]["at"], json!([4000]));
    }

    #[test]
    fn a_broken_file_is_no_history() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{\"rooms\": 3").unwrap();
        assert_eq!(History::read(directory.path()).shown(None, 1, Unix(0))["rooms"], json!([]));
    }
}
