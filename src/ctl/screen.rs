//! Answers of the API as lines for a terminal. What the program says is shown without control characters.

use std::fmt::Write;

use serde_json::Value;

use crate::domain::effect::with_thousands;

fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => plain(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// Nothing that a terminal would take for an order.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn number(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), with_thousands)
}

fn decimal(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

fn members<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn span(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0} s"),
        Some(seconds) if seconds < 18_000.0 => format!("{:.0} min", seconds / 60.0),
        Some(seconds) => format!("{:.1} h", seconds / 3600.0),
    }
}

fn seconds(value: &Value, name: &str) -> Option<f64> {
    value.get(name).and_then(Value::as_f64)
}

/// Everything on one screen.
pub(super) fn of(status: &Value) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write_status(&mut out, status);
    out
}

fn write_status(out: &mut String, status: &Value) -> std::fmt::Result {
    let (portal, config, leaks) = (&status["portal"], &status["configuration"], &status["leak_guard"]);
    writeln!(
        out,
        "{}  {}  store {}  revision {}  configuration {}",
        text(status, "updated_at"),
        text(status, "stage"),
        text(status, "store"),
        text(status, "revision"),
        text(config, "revision")
    )?;
    if let Some(reload) = config.get("last_reload").filter(|reload| !reload.is_null()) {
        writeln!(out, "last reload {} {}", text(reload, "at"), text(reload, "result"))?;
        for detail in members(reload, "details") {
            writeln!(out, "    {}", plain(detail.as_str().unwrap_or_default()))?;
        }
    }
    writeln!(
        out,
        "portal {}  {} of {} in flight  {}/s  p50 {} ms  p95 {} ms  errors {} %",
        if portal["healthy"] == true { "well" } else { "UNWELL" },
        number(portal, "in_flight"),
        number(portal, "max_in_flight"),
        decimal(portal, "answers_per_second"),
        decimal(portal, "latency_p50_ms"),
        decimal(portal, "latency_p95_ms"),
        decimal(portal, "errors_percent")
    )?;
    writeln!(
        out,
        "leak guard {}  blocked {}  reported {}  edge keeps personal pages: {}",
        text(leaks, "mode"),
        number(leaks, "blocked"),
        number(leaks, "alarmed"),
        text(&leaks["edge"], "keeps_personal_pages")
    )?;
    for certificate in members(status, "certificates") {
        writeln!(out, "certificate {} for {} more days", text(certificate, "name"), text(certificate, "days_left"))?;
    }
    for room in members(status, "rooms") {
        write_room(out, room)?;
    }
    for one in members(status, "overrides") {
        writeln!(out, "override {}", of_override(one))?;
    }
    Ok(())
}

fn write_room(out: &mut String, room: &Value) -> std::fmt::Result {
    let most = room.get("max_active_sessions").and_then(Value::as_u64);
    let seats = most.map(|most| format!(" of {}", with_thousands(most))).unwrap_or_default();
    writeln!(
        out,
        "\nroom {}  {}{}{}  rate {} ({}/s in force)  entering {}/s  seats {}{seats}  borne {}/s",
        text(room, "name"),
        text(room, "state"),
        if room["frozen"] == true { "  FROZEN" } else { "" },
        if room["leak_guard"] == "open" { String::new() } else { format!("  LEAK GUARD {}", text(room, "leak_guard")) },
        text(room, "rate"),
        decimal(room, "admission_rate"),
        decimal(room, "entries_per_second"),
        number(room, "active_sessions"),
        decimal(room, "highest_rate_borne")
    )?;
    if room["nodes"].as_u64().unwrap_or(1) > 1 {
        let leads = if room["leads"] == true { "this one leads" } else { "another one leads" };
        writeln!(out, "  {} nodes, {leads}, {} disagree", number(room, "nodes"), number(room, "nodes_disagreeing"))?;
    }
    if let Some(message) = room.get("message").and_then(Value::as_str) {
        writeln!(out, "  message: {}", plain(message))?;
    }
    writeln!(
        out,
        "  {:<16} {:>10} {:>9} {:>7} {:>7} {:>7} {:>8} {:>8} {:>17} {:>8}",
        "lane", "waiting", "gone", "called", "gate", "inside", "in/s", "join/s", "wait shown", "real"
    )?;
    for lane in members(room, "lanes") {
        let (low, high) = (seconds(lane, "wait_seconds_low"), seconds(lane, "wait_seconds_high"));
        let wait = if high.is_some() { format!("{}-{}", span(low), span(high)) } else { "-".to_owned() };
        writeln!(
            out,
            "  {:<16} {:>10} {:>9} {:>7} {:>7} {:>7} {:>8} {:>8} {wait:>17} {:>8}",
            text(lane, "class"),
            number(lane, "waiting"),
            number(lane, "gone"),
            number(lane, "called"),
            number(lane, "at_gate"),
            number(lane, "active_sessions"),
            decimal(lane, "entries_per_second"),
            decimal(lane, "joins_per_second"),
            span(seconds(lane, "wait_seconds_real"))
        )?;
        if let Some(still) = lane.get("standstill").filter(|still| !still.is_null()) {
            let since = span(seconds(still, "seconds"));
            writeln!(out, "    stands still: {} for {since}, since {}", text(still, "reason"), text(still, "since"))?;
        }
    }
    Ok(())
}

fn wish(saying: &Value) -> String {
    match saying.get("wish") {
        Some(Value::String(word)) => plain(word),
        Some(Value::Object(members)) => {
            let shown = members.iter().map(|(name, value)| match value {
                Value::String(value) => format!("{name} {}", plain(value)),
                Value::Array(texts) => format!("{name} {}", texts.iter().map(one_text).collect::<Vec<_>>().join("; ")),
                other => format!("{name} {}", plain(&other.to_string())),
            });
            shown.collect::<Vec<_>>().join(", ")
        }
        _ => "as in the file".to_owned(),
    }
}

/// One text of a message, with its language.
fn one_text(of: &Value) -> String {
    let language = of.get("language").and_then(Value::as_str).map(|language| format!("{}: ", plain(language)));
    format!("{}{:?}", language.unwrap_or_default(), text(of, "text"))
}

fn saying(value: Option<&Value>) -> String {
    match value.filter(|value| !value.is_null()) {
        None => "what the file says".to_owned(),
        Some(value) => {
            let until = value.get("until").and_then(Value::as_str);
            let until = until.map(|until| format!(" until {}", plain(until))).unwrap_or_default();
            format!("{}{until} by {}", wish(value), text(value, "by"))
        }
    }
}

fn of_override(one: &Value) -> String {
    let since = one.get("value").map(|value| text(value, "since")).unwrap_or_default();
    format!("{}: {} since {since}", text(one, "room"), saying(one.get("value")))
}

/// What a change does.
pub(super) fn of_change(answer: &Value) -> String {
    let mut out = String::new();
    if let Some(change) = answer.get("change").filter(|change| !change.is_null()) {
        let (from, to) = (saying(change.get("from")), saying(change.get("to")));
        out.push_str(&format!("{} {}: {from} -> {to}\n", text(change, "room"), text(change, "subject")));
    }
    push_effects(&mut out, answer);
    for page in members(answer, "message") {
        let language = page.get("language").and_then(Value::as_str);
        let note = language.map(|language| format!(" (in {})", plain(language))).unwrap_or_default();
        out.push_str(&format!("  {}: {}{note}\n", text(page, "page"), text(page, "text")));
    }
    push_warnings(&mut out, answer);
    out
}

fn push_effects(out: &mut String, of: &Value) {
    for effect in members(of, "effects") {
        out.push_str(&format!("  {}\n", text(effect, "text")));
    }
}

fn push_warnings(out: &mut String, of: &Value) {
    for warning in members(of, "warnings") {
        out.push_str(&format!("warning: {}\n", plain(warning.as_str().unwrap_or_default())));
    }
}

/// What others changed.
pub(super) fn of_changes(problem: &Value) -> String {
    let line = |change: &Value| {
        let (room, subject, to) = (text(change, "room"), text(change, "subject"), saying(change.get("to")));
        format!(
            "  {} {} {} {}: {room} {subject} -> {to}\n",
            text(change, "at"),
            text(change, "by"),
            text(change, "how"),
            text(change, "revision")
        )
    };
    members(problem, "changes").map(line).collect()
}

/// What another file changes.
pub(super) fn of_diff(diff: &Value) -> String {
    let mut out = String::new();
    for change in members(diff, "changes") {
        let side =
            |name: &str| change.get(name).and_then(Value::as_str).map_or_else(|| "(not there)".to_owned(), plain);
        out.push_str(&format!("{}: {} -> {}\n", text(change, "key"), side("from"), side("to")));
    }
    for room in members(diff, "rooms") {
        out.push_str(&format!("room {}:\n", text(room, "room")));
        push_effects(&mut out, room);
    }
    for one in members(diff, "overrides") {
        out.push_str(&format!("stays in force over the file: {}\n", of_override(one)));
    }
    push_warnings(&mut out, diff);
    let keys: Vec<String> = members(diff, "needs_restart").filter_map(Value::as_str).map(plain).collect();
    if !keys.is_empty() {
        out.push_str(&format!("needs a restart (a reload is refused as a whole): {}\n", keys.join(", ")));
    }
    out.push_str(&format!("{}\n", text(diff, "result")));
    out
}

/// What was handed out or taken back, in a line.
pub(super) fn facts(answer: &Value) -> String {
    let facts = answer.get("facts").and_then(Value::as_object);
    let shown = facts.into_iter().flatten().filter(|(name, value)| *name != "by" && !value.is_null());
    shown
        .map(|(name, value)| format!("{name} {}", plain(value.as_str().unwrap_or(&value.to_string()))))
        .collect::<Vec<_>>()
        .join(", ")
}

/// One of them.
pub(super) fn fact(answer: &Value, name: &str) -> String {
    answer.get("facts").map(|facts| text(facts, name)).unwrap_or_default()
}

/// What others handed out or took back.
pub(super) fn of_handouts(problem: &Value) -> String {
    let line = |change: &Value| {
        format!("  {} {} {}: {}\n", text(change, "at"), fact(change, "by"), text(change, "what"), facts(change))
    };
    members(problem, "changes").map(line).collect()
}

/// A list as lines of cells between tabs.
pub(super) fn table(rows: Option<&Value>, columns: &[&str]) -> String {
    let mut out = format!("{}\n", columns.join("\t"));
    for row in rows.and_then(Value::as_array).into_iter().flatten() {
        let cells: Vec<String> = columns.iter().map(|column| text(row, column)).collect();
        out.push_str(&format!("{}\n", cells.join("\t")));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_terminal_is_given_no_orders() {
        let room = json!({"rooms": [{"name": "fair", "message": "a\u{1b}[2Jb", "lanes": []}]});
        let shown = of(&room);
        assert!(shown.contains("message: a [2Jb"), "{shown:?}");
        assert!(of(&json!({})).lines().count() >= 3, "nothing is needed");
    }

    #[test]
    fn changes_and_differences_read_as_sentences() {
        let answer = json!({
            "change": {"room": "fair", "subject": "rate", "from": null, "to": {"wish": {"rate": "20/s"}, "by": "ann", "until": null}},
            "effects": [{"text": "citizen: 31,200 waiting, 42 -> 97 min"}],
            "warnings": ["careful"],
        });
        let shown = of_change(&answer);
        assert_eq!(
            shown,
            "fair rate: what the file says -> rate 20/s by ann\n  citizen: 31,200 waiting, 42 -> 97 min\nwarning: careful\n"
        );
        let diff = json!({"result": "reloadable", "changes": [{"key": "portal.url", "from": "\"a\"", "to": null}]});
        assert_eq!(of_diff(&diff), "portal.url: \"a\" -> (not there)\nreloadable\n");
    }
}
