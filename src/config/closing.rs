//! `[room.closing]`: from when on nobody new can join a room, and what becomes of those who still wait.

use jiff::tz::TimeZone;

use super::fault::Wrong;
use super::opening::instant;
use super::resolved::Ending;
use super::section::Section;
use super::value;
use crate::domain::closing::{Closing, Rest};
use crate::domain::opening::Plan;

/// Reads the closing of a room that opens like this. `Some(None)` when it has none.
pub(super) fn closing(
    room: &Section<'_>,
    zone: Option<&TimeZone>,
    opening: Option<&Option<Plan>>,
) -> Option<Option<Ending>> {
    let section = room.table("closing");
    if !room.has("closing") {
        return Some(None);
    }
    // Whatever the zone is, a fault in the hour is one.
    let zone = zone.cloned().unwrap_or(TimeZone::UTC);
    let at = section.read("at", |value| instant(value, &zone));
    let then = section.read("then", value::one_of(&[("serve", Rest::Serve), ("end", Rest::End)]));
    let message = section.read("message", super::page::local_text);
    if let (Some(at), Some(Some(opening))) = (at, opening)
        && at <= opening.at
    {
        section.fault("at", Wrong::new("not after the opening", "let the room close after it has opened"));
    }
    Some(Some(Ending { closing: Closing { at: at?, then: then? }, message: message? }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Ending, LocalText, parse};
    use crate::domain::closing::{Closing, Rest};
    use crate::domain::local_time::unix;

    fn closing(lines: &str) -> Result<Option<Ending>, String> {
        let file = format!(
            "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n\
             [[room]]\nname = \"a\"\npaths = [\"/a/**\"]\nadmission_rate = \"1/s\"\n{lines}"
        );
        let config = parse(&file, Path::new("/etc"));
        config.map(|config| config.rooms[0].closing.clone()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn those_who_wait_are_served_unless_the_line_ends() {
        let at = unix("2026-04-30T16:00:00Z".parse().unwrap());
        let expected = |then, message: LocalText| Ok(Some(Ending { closing: Closing { at, then }, message }));
        let serves = closing("[room.closing]\nat = \"2026-04-30T18:00\"");
        assert_eq!(serves, expected(Rest::Serve, LocalText::default()));
        let ends = closing("[room.closing]\nat = \"2026-04-30T16:00:00Z\"\nthen = \"end\"\nmessage = \"Until May\"");
        assert_eq!(ends, expected(Rest::End, LocalText::for_all("Until May")));
        assert_eq!(closing(""), Ok(None));
    }

    #[test]
    fn faults_say_what_to_write() {
        for (lines, says) in [
            ("[room.closing]", "closing.at: missing"),
            ("[room.closing]\nat = \"18:00\"", "closing.at: \"18:00\": not an hour of a day; write the hour"),
            ("[room.closing]\nat = \"2026-04-30T18:00\"\nthen = \"stop\"", "closing.then: \"stop\" is no such choice"),
            (
                "[room.opening]\nat = \"2026-04-30T18:00\"\n[room.closing]\nat = \"2026-04-30T18:00\"",
                "closing.at: not after the opening; let the room close after it has opened",
            ),
        ] {
            let found = closing(lines).expect_err(lines);
            assert!(found.contains(says), "{found}\ndoes not say\n{says}");
        }
    }
}
