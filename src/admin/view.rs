//! The configuration as operators see it: the file's word, and what they themselves changed of it.

use serde_json::{Value, json};

use super::status::OverrideStatus;
use super::{Admin, LeakReports};
use crate::config;
use crate::gateway::snapshot::Tenure;
use crate::telemetry::metrics::room_state_text;

/// The file in force, and each room with what operators changed of it. `None` while there is no configuration to show.
pub(super) fn configuration(admin: &Admin) -> Option<Value> {
    let LeakReports { snapshot, .. } = admin.leaks.as_ref()?;
    let (snapshot, overrides) = (snapshot.borrow().clone(), admin.desk.overrides());
    let rooms = snapshot.rooms.iter().filter(|room| room.tenure == Tenure::Configured);
    let rooms: Vec<Value> = rooms.map(|room| room_view(&room.settings)).collect();
    Some(json!({
        "configuration": admin.desk.configuration(),
        "revision": overrides.revision(),
        "overrides": OverrideStatus::all(&overrides),
        "rooms": rooms,
        "languages": snapshot.assets.languages().iter().map(|catalogue| catalogue.code.clone()).collect::<Vec<_>>(),
    }))
}

fn room_view(room: &config::Room) -> Value {
    let seconds = |span: std::time::Duration| span.as_secs();
    json!({
        "name": room.name.as_str(),
        "paths": room.paths.iter().map(|path| path.as_str()).collect::<Vec<_>>(),
        "start": room.start,
        "state": room_state_text(room.state),
        "admission_rate": {
            "file": room.admission_rate.to_string(),
            "override": room.by_hand.rate.map(|rate| rate.to_string()),
        },
        "message": {
            "file": room.message.first(),
            "override": room.by_hand.message.as_ref().map(|message| message.first()),
        },
        "max_active_sessions": room.max_active_sessions,
        "session_duration_seconds": seconds(room.session_duration),
        "claim_window_seconds": seconds(room.claim_window),
        "ticket_lifetime_seconds": seconds(room.ticket_lifetime),
        "time_zone": room.time_zone.iana_name(),
        "windows": room.schedule.window_count(),
        "classes": room.classes.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
    })
}
