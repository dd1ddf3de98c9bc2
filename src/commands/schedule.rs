//! `anticamera schedule`: who may enter when, in the rooms' local time.

use std::path::Path;
use std::process::ExitCode;

use anticamera::clock::Clock;
use anticamera::config;
use anticamera::domain::local_time;
use anticamera::waiting_room::timetable;
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{FAULTY, faulty, printed};

/// Days of which who may enter is printed at most.
const LONGEST_TIMETABLE: i32 = 366;

/// Prints the days from one to another, of one room or of all.
pub fn print(path: &Path, from: Option<Date>, to: Option<Date>, room: Option<&str>) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let from = from.unwrap_or_else(|| local_time::date_at(&TimeZone::system(), Clock::system().now().wall));
    let to = to.unwrap_or_else(|| from.saturating_add(SignedDuration::from_hours(6 * 24)));
    if let Some(unknown) = room.filter(|name| config.rooms.iter().all(|room| room.name.as_str() != *name)) {
        eprintln!("there is no room {unknown:?} in {}", path.display());
        return ExitCode::from(FAULTY);
    }
    if to < from || (to - from).get_days() > LONGEST_TIMETABLE {
        eprintln!("from {from} to {to}: name a first day and, at most {LONGEST_TIMETABLE} days later, a last one");
        return ExitCode::from(FAULTY);
    }
    printed(Ok(timetable::of_rooms(&config, room, timetable::Days { from, to })))
}
