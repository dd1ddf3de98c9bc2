//! `codes` and `pass`: the orders, which are the same on the disk and at the running program, and how the running program is
//! asked.

use clap::Subcommand;
use http::StatusCode;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::http::Api;
use super::{Done, get, good, post, screen};

/// What may be done with invitation codes.
#[derive(Subcommand, Debug)]
pub enum CodesOrder {
    /// Makes a code and prints it: only now, because only its hash is kept.
    Create {
        /// The class that it proves.
        #[arg(long)]
        class: String,
        /// To whom it is given, such as "office 123".
        #[arg(long)]
        identity: String,
        /// How many tickets may be drawn with it.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// The last day on which it is good, such as 2026-12-31, by this machine's clock. Left out: in 90 days.
        #[arg(long)]
        expires: Option<Date>,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists codes, never their secrets.
    List {
        /// Only those of this class.
        #[arg(long)]
        class: Option<String>,
    },
    /// Takes a code back. Tickets drawn with it stay.
    Revoke {
        /// Its id in the list.
        id: String,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What may be done with staff passes.
#[derive(Subcommand, Debug)]
pub enum PassOrder {
    /// Makes a pass and prints it: only now, because only its hash is kept.
    Create {
        /// The room that it opens.
        #[arg(long)]
        room: String,
        /// What it is for, or whose it is; counted under this name.
        #[arg(long)]
        name: String,
        /// The last day on which it is good, such as 2026-12-31, by this machine's clock. Left out: in 30 days.
        #[arg(long)]
        expires: Option<Date>,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists passes, never their secrets.
    List,
    /// Takes a pass back.
    Revoke {
        /// Its id in the list.
        id: String,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Makes, lists and takes back codes.
pub(super) fn codes(api: &Api, order: CodesOrder) -> Done {
    match order {
        CodesOrder::Create { class, identity, uses, expires, dry_run } => {
            let expires = expires.map(|day| day.to_string());
            let wish = json!({"class": class, "identity": identity, "uses": uses, "expires": expires});
            Ok(code_shown(&hand_out(api, "/admin/v1/codes", &wish, dry_run)?))
        }
        CodesOrder::List { class } => {
            let query = class.map(|class| in_path(&class).map(|class| format!("?class={class}"))).transpose()?;
            let listed = get(api, &format!("/admin/v1/codes{}", query.unwrap_or_default()))?.json;
            Ok(codes_shown(&listed))
        }
        CodesOrder::Revoke { id, dry_run } => {
            let path = format!("/admin/v1/codes/{}/revoke", in_path(&id)?);
            Ok(taking_back_shown(&hand_out(api, &path, &json!({}), dry_run)?))
        }
    }
}

/// Makes, lists and takes back passes.
pub(super) fn passes(api: &Api, order: PassOrder) -> Done {
    match order {
        PassOrder::Create { room, name, expires, dry_run } => {
            let wish = json!({"room": room, "name": name, "expires": expires.map(|day| day.to_string())});
            Ok(pass_shown(&hand_out(api, "/admin/v1/passes", &wish, dry_run)?))
        }
        PassOrder::List => Ok(passes_shown(&get(api, "/admin/v1/passes")?.json)),
        PassOrder::Revoke { id, dry_run } => {
            let path = format!("/admin/v1/passes/{}/revoke", in_path(&id)?);
            Ok(taking_back_shown(&hand_out(api, &path, &json!({}), dry_run)?))
        }
    }
}

/// Previews what is wanted, and does it unless that is all that is wanted, and only if nobody handed anything out in between.
fn hand_out(api: &Api, path: &str, wish: &Value, dry_run: bool) -> Result<Value, String> {
    let preview = post(api, &format!("{path}?dry_run=true"), wish)?;
    if dry_run {
        return Ok(preview.json);
    }
    let body = wish.to_string().into_bytes();
    let reply = api.ask("POST", path, preview.tag.as_ref(), body).map_err(|error| error.to_string())?;
    if reply.status == StatusCode::PRECONDITION_FAILED {
        let changes = screen::of_handouts(&reply.json);
        return Err(format!("{}\n{changes}look again, and then repeat it", reply.problem()));
    }
    Ok(good(reply)?.json)
}

/// What is printed of a code that was made, or would be; for whom goes to standard error.
pub fn code_shown(made: &Value) -> String {
    let fact = |name: &str| screen::fact(made, name);
    match made.get("code").and_then(Value::as_str) {
        Some(code) => {
            eprintln!(
                "{} for {}, good for {} tickets until {}, by its id {}; the code is shown only now:",
                fact("class"),
                fact("identity"),
                fact("uses"),
                fact("expires_at"),
                fact("id")
            );
            format!("{code}\n")
        }
        None => would_be(made),
    }
}

/// What is printed of a pass that was made, or would be; for whom goes to standard error.
pub fn pass_shown(made: &Value) -> String {
    let member = |name: &str| made.get(name).and_then(Value::as_str);
    let fact = |name: &str| screen::fact(made, name);
    match member("pass").zip(member("link")) {
        Some((secret, link)) => {
            eprintln!(
                "a pass for {} through room {}, good until {}, by its id {}; it is shown only now. Send the header, or the cookie \
                 (with __Host- before its name over HTTPS), or open the link once in a browser:",
                fact("name"),
                fact("room"),
                fact("expires_at"),
                fact("id")
            );
            let room = fact("room");
            format!("Waiting-Room-Staff: {secret}\nCookie: anticamera-staff-{room}={secret}\n{link}\n")
        }
        None => would_be(made),
    }
}

/// What is printed of a code or pass that was taken back, or would be.
pub fn taking_back_shown(answer: &Value) -> String {
    let facts = screen::facts(answer);
    match answer.get("result").and_then(Value::as_str) {
        Some("revoked") => format!("taken back: {facts}\n"),
        Some("unchanged") => format!("it was taken back already: {facts}\n"),
        _ => would_be(answer),
    }
}

fn would_be(answer: &Value) -> String {
    format!("nothing is changed; this is what it would be about: {}\n", screen::facts(answer))
}

/// What is printed of a list of codes.
pub fn codes_shown(listed: &Value) -> String {
    list_shown(listed, "codes", &["id", "class", "identity", "used", "uses", "expires_at", "state"])
}

/// What is printed of a list of passes.
pub fn passes_shown(listed: &Value) -> String {
    list_shown(listed, "passes", &["id", "room", "name", "expires_at", "state"])
}

/// A list; what of the files is broken goes to standard error.
fn list_shown(answer: &Value, rows: &str, columns: &[&str]) -> String {
    let broken = answer.get("broken").and_then(Value::as_array);
    broken.into_iter().flatten().filter_map(Value::as_str).for_each(|fault| eprintln!("{fault}"));
    screen::table(answer.get(rows), columns)
}

fn in_path(id: &str) -> Result<&str, String> {
    let fits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fits { Ok(id) } else { Err(format!("{id:?} is no id: the list shows them")) }
}
