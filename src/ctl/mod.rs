//! What operators type: `anticamera ctl`, `diff`, `audit` and `plan`. Everything that changes something goes through the admin
//! API of the running program, first as a preview and then with the revision that the preview was made of.

mod handouts;
mod http;
mod planned;
mod screen;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ::http::StatusCode;
use clap::{Args, Subcommand};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use self::http::{Api, Reply, api_of};
use crate::admin::audit;
use crate::clock::Clock;
use crate::config;
use crate::domain::local_time;
use crate::domain::time::Unix;

pub use handouts::{CodesOrder, PassOrder, code_shown, codes_shown, pass_shown, passes_shown, taking_back_shown};
pub use planned::{PlanOrder, plan};

/// The configuration is at fault.
const FAULTY: u8 = 2;
/// Between two screens of `status --watch`.
const EVERY: Duration = Duration::from_secs(1);

/// Where the running program is asked.
#[derive(Args, Debug)]
pub struct Whom {
    /// The configuration file, which names the address and the token.
    #[arg(long, default_value = "config.toml", global = true)]
    config: PathBuf,
    /// Another address: 127.0.0.1:9090, or unix: and a path.
    #[arg(long, global = true)]
    address: Option<String>,
    /// Another token's file.
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
}

impl Whom {
    fn api(&self) -> Result<Api, String> {
        api_of(&self.config, self.address.as_deref(), self.token_file.as_deref())
    }
}

/// How a change is asked for.
#[derive(Args, Debug)]
pub struct Wish {
    /// Until when: "14:30" by this machine's clock, "2h", "45min", or an instant such as 2026-04-01T10:00:00+02:00. Left out:
    /// until it is taken back.
    #[arg(long)]
    until: Option<String>,
    /// Only say what it would do.
    #[arg(long)]
    dry_run: bool,
}

/// What may be asked of the running program.
#[derive(Subcommand, Debug)]
pub enum CtlOrder {
    /// Shows everything: rooms, lanes, waits, the portal, what operators changed.
    Status {
        /// Shows it anew each second, until interrupted.
        #[arg(long)]
        watch: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sets a room's rate, in every window, until it is taken back.
    Rate {
        /// The room.
        room: String,
        /// Such as 20/s or 6/min; "file": what the file says.
        rate: String,
        /// Until when, and whether it is only looked at.
        #[command(flatten)]
        wish: Wish,
    },
    /// Holds a room: nobody is called or enters; places are kept.
    Hold {
        /// The room.
        room: String,
        /// Until when, and whether it is only looked at.
        #[command(flatten)]
        wish: Wish,
    },
    /// Lets a held room go on.
    Release {
        /// The room.
        room: String,
        /// Until when, and whether it is only looked at.
        #[command(flatten)]
        wish: Wish,
    },
    /// Sets what visitors read, in every window.
    Message {
        /// The room.
        room: String,
        /// The text for everybody, or with --in one for each language.
        text: Option<String>,
        /// A language and its text, such as --in de="Um zehn geht es weiter"; may be repeated.
        #[arg(long = "in", value_name = "LANGUAGE=TEXT")]
        texts: Vec<String>,
        /// What the file says.
        #[arg(long, conflicts_with_all = ["text", "texts"])]
        file: bool,
        /// Until when, and whether it is only looked at.
        #[command(flatten)]
        wish: Wish,
    },
    /// Freezes a room: nobody new enters, and the clocks of those inside stand still.
    Freeze {
        /// The room.
        room: String,
        /// Until when, and whether it is only looked at.
        #[command(flatten)]
        wish: Wish,
    },
    /// Ends that.
    Thaw {
        /// The room.
        room: String,
        /// Until when, and whether it is only looked at.
        #[command(flatten)]
        wish: Wish,
    },
    /// Takes the last change of a room back. Twice: brings it back.
    Undo {
        /// The room.
        room: String,
        /// Only of this: rate, state, message or freeze.
        #[arg(long)]
        what: Option<String>,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Lets visitors in again after the leak guard stopped them.
    ResetLeakGuard {
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stops the program as SIGTERM does: what is under way ends, places and passes are kept.
    Drain {
        /// Only say whom it concerns.
        #[arg(long)]
        dry_run: bool,
    },
    /// Makes, lists and takes back invitation codes.
    Codes {
        /// What is done with them.
        #[command(subcommand)]
        order: CodesOrder,
    },
    /// Makes, lists and takes back passes for staff and monitoring.
    Pass {
        /// What is done with them.
        #[command(subcommand)]
        order: PassOrder,
    },
    /// Reads the configuration file again.
    Reload,
}

/// Asks the running program.
pub fn ctl(whom: &Whom, order: CtlOrder) -> ExitCode {
    let api = match whom.api() {
        Ok(api) => api,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(FAULTY);
        }
    };
    finished(carry_out(&api, order))
}

/// What is printed, or what was refused.
type Done = Result<String, String>;

fn finished(done: Done) -> ExitCode {
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(api: &Api, order: CtlOrder) -> Done {
    match order {
        CtlOrder::Status { watch: true, json } => watch(api, json),
        CtlOrder::Status { watch: false, json } => status(api, json),
        CtlOrder::Rate { room, rate, wish } => {
            let rate = if rate == "file" { Value::Null } else { Value::from(rate) };
            change(api, &room, "rate", json!({ "rate": rate }), &wish)
        }
        CtlOrder::Hold { room, wish } => change(api, &room, "state", json!({"state": "hold"}), &wish),
        CtlOrder::Release { room, wish } => change(api, &room, "state", json!({"state": "open"}), &wish),
        CtlOrder::Message { room, text, texts, file, wish } => {
            let message = if file { Value::Null } else { message(text, &texts)? };
            change(api, &room, "message", json!({ "message": message }), &wish)
        }
        CtlOrder::Freeze { room, wish } => change(api, &room, "freeze", json!({}), &wish),
        CtlOrder::Thaw { room, wish } => change(api, &room, "thaw", json!({}), &wish),
        CtlOrder::Undo { room, what, dry_run } => {
            let body = what.map_or(json!({}), |what| json!({ "what": what }));
            change(api, &room, "undo", body, &Wish { until: None, dry_run })
        }
        CtlOrder::ResetLeakGuard { dry_run } => {
            let query = if dry_run { "?dry_run=true" } else { "" };
            said(&post(api, &format!("/admin/v1/leak-guard/reset{query}"), &json!({}))?)
        }
        CtlOrder::Drain { dry_run } => {
            let query = if dry_run { "?dry_run=true" } else { "" };
            said(&post(api, &format!("/admin/v1/drain{query}"), &json!({}))?)
        }
        CtlOrder::Codes { order } => handouts::codes(api, order),
        CtlOrder::Pass { order } => handouts::passes(api, order),
        CtlOrder::Reload => said(&post(api, "/admin/v1/reload", &json!({}))?),
    }
}

fn get(api: &Api, path: &str) -> Result<Reply, String> {
    good(api.ask("GET", path, None, Vec::new()).map_err(|error| error.to_string())?)
}

fn post(api: &Api, path: &str, body: &Value) -> Result<Reply, String> {
    good(api.ask("POST", path, None, body.to_string().into_bytes()).map_err(|error| error.to_string())?)
}

fn good(reply: Reply) -> Result<Reply, String> {
    if reply.status.is_success() {
        return Ok(reply);
    }
    match reply.json.get("faults").or_else(|| reply.json.get("keys")) {
        Some(details) => Err(format!("{}: {}", reply.status.as_u16(), pretty(details))),
        None => Err(reply.problem()),
    }
}

fn said(reply: &Reply) -> Done {
    Ok(pretty(&reply.json))
}

fn pretty(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}

fn status(api: &Api, json: bool) -> Done {
    let status = get(api, "/admin/v1/status")?.json;
    Ok(if json { pretty(&status) } else { screen::of(&status) })
}

fn watch(api: &Api, json: bool) -> Done {
    loop {
        let shown = if json { format!("{}\n", get(api, "/admin/v1/status")?.json) } else { status(api, false)? };
        // Home, and everything below is wiped (ECMA-48): no flicker.
        let wipe = if json { "" } else { "\x1b[H\x1b[J" };
        use std::io::Write;
        let mut out = std::io::stdout();
        if write!(out, "{wipe}{shown}").and_then(|()| out.flush()).is_err() {
            return Ok(String::new());
        }
        std::thread::sleep(EVERY);
    }
}

/// A message as the API takes it.
fn message(text: Option<String>, texts: &[String]) -> Result<Value, String> {
    let mut members = Vec::new();
    for typed in texts {
        let (language, text) = typed.split_once('=').ok_or_else(|| format!("{typed:?}: write LANGUAGE=TEXT"))?;
        members.push(json!({"language": language.trim(), "text": text}));
    }
    if let Some(text) = text {
        members.push(json!({"language": null, "text": text}));
    }
    if members.is_empty() {
        Err("write a text, or --in LANGUAGE=TEXT, or --file".to_owned())
    } else {
        Ok(Value::Array(members))
    }
}

/// Previews a change, and makes it unless that is all that is wanted, and only if nobody changed anything in between.
fn change(api: &Api, room: &str, what: &str, mut body: Value, wish: &Wish) -> Done {
    if let Some(until) = &wish.until {
        let until = instant(until, Clock::system().now().wall)?;
        body["until"] = Value::from(local_time::timestamp(until).to_string());
    }
    let path = format!("/admin/v1/rooms/{room}/{what}");
    let preview = post(api, &format!("{path}?dry_run=true"), &body)?;
    let mut text = screen::of_change(&preview.json);
    if wish.dry_run {
        return Ok(text);
    }
    let body = body.to_string().into_bytes();
    let reply = api.ask("POST", &path, preview.tag.as_ref(), body).map_err(|error| error.to_string())?;
    if reply.status == StatusCode::PRECONDITION_FAILED {
        let changes = screen::of_changes(&reply.json);
        return Err(format!("{}\n{changes}look again, and then repeat it", reply.problem()));
    }
    let reply = good(reply)?;
    let result = reply.json.get("result").and_then(Value::as_str).unwrap_or_default().to_owned();
    // What was said to all nodes that share a line is no change of this node, and not to be undone.
    let can_be_undone = result == "applied" && reply.json.get("change").is_some_and(|change| !change.is_null());
    let undo = if can_be_undone { format!("; anticamera ctl undo {room} takes it back") } else { String::new() };
    text.push_str(&format!("{result}{undo}\n"));
    Ok(text)
}

/// An instant as people type it: an hour of the day to come, a span from now, or with everything.
fn instant(text: &str, now: Unix) -> Result<Unix, String> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(local_time::unix(instant));
    }
    if let Ok(span) = span(text) {
        return Ok(now + span);
    }
    let fault = || format!("--until {text:?}: write an hour such as 14:30, a span such as 2h or 45min, or an instant");
    let time: Time = text.parse().ok().filter(|_| text.contains(':') && text.len() <= 8).ok_or_else(fault)?;
    let zone = TimeZone::system();
    let here = local_time::timestamp(now).to_zoned(zone.clone());
    let today = here.date().to_datetime(time).to_zoned(zone.clone()).map_err(|_| fault())?;
    let at = if today.timestamp() > here.timestamp() {
        today
    } else {
        here.date()
            .saturating_add(jiff::SignedDuration::from_hours(24))
            .to_datetime(time)
            .to_zoned(zone)
            .map_err(|_| fault())?
    };
    Ok(local_time::unix(at.timestamp()))
}

/// Such as `45min`.
fn span(text: &str) -> Result<Duration, ()> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(())?;
    let (count, unit) = text.split_at_checked(digits).ok_or(())?;
    let count: u64 = count.parse().map_err(drop)?;
    let unit = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(()),
    };
    count.checked_mul(unit).map(Duration::from_secs).ok_or(())
}

/// What another configuration file would change in the running program. Exit code 2 when the file has faults.
pub fn diff(new: &Path, running: Option<&Path>, address: Option<&str>, token_file: Option<&Path>) -> ExitCode {
    let faulty = |faults: String| {
        eprintln!("{faults}");
        ExitCode::from(FAULTY)
    };
    let text = match config::load_with_text(new) {
        Ok((_, text)) => text,
        Err(faults) => return faulty(faults.to_string()),
    };
    let api = match api_of(running.unwrap_or(new), address, token_file) {
        Ok(api) => api,
        Err(fault) => return faulty(fault),
    };
    match api.ask("POST", "/admin/v1/diff", None, text.into_bytes()) {
        Ok(reply) if reply.status.is_success() => finished(Ok(screen::of_diff(&reply.json))),
        Ok(reply) if reply.status == StatusCode::UNPROCESSABLE_ENTITY => {
            faulty(reply.json.get("faults").map(pretty).unwrap_or_else(|| reply.problem()))
        }
        Ok(reply) => finished(Err(reply.problem())),
        Err(error) => finished(Err(error.to_string())),
    }
}

/// Checks an audit log's chain. Exit code 1 when a line is at fault; the first one is named.
pub fn verify_audit(config: &Path, file: Option<&Path>, hash: Option<&str>) -> ExitCode {
    let file = match file {
        Some(file) => file.to_owned(),
        None => match config::load(config) {
            Ok(config) => config.admin.state_dir.join(audit::FILE),
            Err(faults) => {
                eprintln!("{faults}");
                return ExitCode::from(FAULTY);
            }
        },
    };
    let checked = match audit::verify(&file, hash) {
        Ok(checked) if checked.has_hash == Some(false) => Err(format!(
            "{}: {} lines follow one another, but none of them has this hash: the log was written anew, or cut off",
            file.display(),
            checked.lines
        )),
        Ok(checked) => {
            let torn: String = checked.torn.iter().map(told_of_torn).collect();
            let (file, lines, hash) = (file.display(), checked.lines, checked.hash);
            Ok(format!("{torn}{file}: {lines} lines, whole and in order\nlast hash {hash}\n"))
        }
        Err(fault) => Err(format!("{}: {fault}", file.display())),
    };
    finished(checked)
}

/// What a line says of half a line that is kept beside the log.
fn told_of_torn(torn: &audit::Torn) -> String {
    let found = match torn.found {
        audit::Found::AsItWas => "they are there as they were",
        audit::Found::Changed => "THAT FILE WAS CHANGED SINCE",
        audit::Found::Missing => "that file is not there",
    };
    format!(
        "line {}: a stop left {} bytes of half a line behind, whose change never came about; kept in {}: {found}\n",
        torn.line, torn.bytes, torn.kept
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_spans_and_instants_are_understood() {
        let now = local_time::unix("2026-04-01T08:00:00Z".parse().unwrap());
        let at = |text: &str| instant(text, now).map(|at| at.since(now).as_secs());
        assert_eq!((at("2h"), at("45min"), at("90s")), (Ok(7200), Ok(2700), Ok(90)));
        assert_eq!(at("2026-04-01T10:00:00+01:00"), Ok(3600));
        let hour = at("14:30").unwrap();
        assert!(hour > 0 && hour <= 86_400, "{hour}");
        for bad in ["", "tomorrow", "25:00", "3 hours", "2026-04-01"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_message_is_one_text_or_many() {
        assert_eq!(message(Some("Ciao".into()), &[]), Ok(json!([{"language": null, "text": "Ciao"}])));
        let two = ["it=Ciao".to_owned(), "de=a=b".to_owned()];
        assert_eq!(
            message(None, &two),
            Ok(json!([{"language": "it", "text": "Ciao"}, {"language": "de", "text": "a=b"}]))
        );
        assert!(message(None, &[]).is_err() && message(None, &["x".to_owned()]).is_err());
    }
}
