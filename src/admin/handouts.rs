//! What lets somebody in before others, as operators hand it out: invitation codes and staff passes. Each is written into the
//! audit log under its id; the secret is shown once and never kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::audit::Line;
use super::books::{Books, NotWritten};
use super::command::Mode;
pub use super::inputs::{CodeBody, PassBody};
use crate::classes::codes::{self, CodesFault, Known};
use crate::config::{Config, Proof};
use crate::domain::invitation::Invitation;
use crate::domain::local_time;
use crate::domain::names::ClassName;
use crate::domain::proof::Failure;
use crate::domain::staff::{StaffPass, Worth};
use crate::domain::time::Unix;
use crate::folder::Prepared;
use crate::staff::{self, StaffFault};

/// Days for which a code is good when nobody says otherwise.
const CODE_DAYS: i64 = 90;
/// The same for a pass.
const PASS_DAYS: i64 = 30;
/// Hexadecimal digits of a digest.
const DIGEST_DIGITS: usize = 12;
/// Lines of the audit log that are looked through for what changed.
const LINES_LOOKED_THROUGH: usize = 1000;
/// Changes that are shown to whoever did not see them.
const MOST_CHANGES: usize = 20;

/// Why nothing was handed out or taken back.
#[derive(Debug, thiserror::Error)]
pub enum HandoutFault {
    /// What is wanted makes no sense.
    #[error("{0}")]
    Wanted(String),
    /// There is none of this id.
    #[error("{0}")]
    Unknown(String),
    /// Somebody else handed something out or took it back.
    #[error(
        "somebody else handed something out or took it back since you looked: look at what, then ask again with If-Match: \"{revision}\""
    )]
    Outdated {
        /// The revision now.
        revision: Revision,
        /// What the audit log says of it.
        changes: Vec<Value>,
    },
    /// A file cannot be read.
    #[error("{0}")]
    Files(String),
    /// A file or the audit log cannot be written.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
}

impl From<CodesFault> for HandoutFault {
    fn from(fault: CodesFault) -> HandoutFault {
        match fault {
            CodesFault::Unknown(_) => HandoutFault::Unknown(fault.to_string()),
            CodesFault::TooMany(_) => HandoutFault::Wanted(fault.to_string()),
            other => HandoutFault::Files(other.to_string()),
        }
    }
}

impl From<StaffFault> for HandoutFault {
    fn from(fault: StaffFault) -> HandoutFault {
        match fault {
            StaffFault::Unknown(_) => HandoutFault::Unknown(fault.to_string()),
            StaffFault::Name(_) | StaffFault::TooMany(_) => HandoutFault::Wanted(fault.to_string()),
            other => HandoutFault::Files(other.to_string()),
        }
    }
}

/// What there is and what was taken back, as an operator saw it: a digest of that, and the line of the audit log up to which
/// they know what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    digest: String,
    line: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.digest, self.line)
    }
}

/// A text that is no revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRevision;

impl FromStr for Revision {
    type Err = NoRevision;

    fn from_str(text: &str) -> Result<Revision, NoRevision> {
        let (digest, line) = text.split_once('-').ok_or(NoRevision)?;
        let is_digest = digest.len() == DIGEST_DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let line = line.parse().map_err(|_| NoRevision)?;
        if is_digest { Ok(Revision { digest: digest.to_owned(), line }) } else { Err(NoRevision) }
    }
}

/// What is handed out: its words in the audit log.
#[derive(Clone, Copy, Debug)]
struct Kind {
    created: &'static str,
    revoked: &'static str,
}

const CODES: Kind = Kind { created: "code_created", revoked: "code_revoked" };
const PASSES: Kind = Kind { created: "pass_created", revoked: "pass_revoked" };

/// Every id there is, and whether it was taken back.
#[derive(Debug, Default)]
struct Inventory(BTreeMap<String, bool>);

impl Inventory {
    fn of_codes(codes: &[Kept]) -> Inventory {
        let of = |code: &Kept| (code.known.invitation.id.clone(), code.known.invitation.revoked);
        Inventory(codes.iter().map(of).collect())
    }

    fn of_passes(passes: &[StaffPass]) -> Inventory {
        Inventory(passes.iter().map(|pass| (pass.id.clone(), pass.revoked)).collect())
    }

    fn with(mut self, id: &str, revoked: bool) -> Inventory {
        self.0.insert(id.to_owned(), revoked);
        self
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (id, revoked) in &self.0 {
            hash.update(format!("{id} {revoked}\n"));
        }
        hash.finalize().iter().take(DIGEST_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who asks, when, and where it is written down.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// Where it is written down.
    pub books: &'a Books,
    /// Who asks.
    pub by: &'a str,
    /// When, by the wall clock.
    pub now: Unix,
    /// What they saw, if they say so.
    pub seen: Option<&'a Revision>,
}

impl Asking<'_> {
    /// The revision of what there is.
    fn revision(&self, inventory: &Inventory) -> Revision {
        let number = |line: &Value| line.get("n").and_then(Value::as_u64);
        let last = self.books.last(1).unwrap_or_default();
        Revision { digest: inventory.digest(), line: last.last().and_then(number).unwrap_or(0) }
    }

    /// Whether whoever asks saw everything.
    fn check_seen(&self, kind: Kind, inventory: &Inventory) -> Result<(), HandoutFault> {
        let revision = self.revision(inventory);
        match self.seen {
            Some(seen) if seen.digest != revision.digest => {
                Err(HandoutFault::Outdated { changes: self.changes_since(seen.line, kind), revision })
            }
            _ => Ok(()),
        }
    }

    /// What the audit log says of a kind after a line, the newest last.
    fn changes_since(&self, line: u64, kind: Kind) -> Vec<Value> {
        let is_one = |entry: &Value| {
            let what = entry.get("what").and_then(Value::as_str);
            let is_later = entry.get("n").and_then(Value::as_u64).is_some_and(|number| number > line);
            is_later && (what == Some(kind.created) || what == Some(kind.revoked))
        };
        let shown = |entry: Value| {
            let member = |name: &str| entry.get(name).cloned().unwrap_or_default();
            json!({"at": member("at"), "what": member("what"), "facts": member("details")})
        };
        let lines = self.books.last(LINES_LOOKED_THROUGH).unwrap_or_default();
        let mut changes: Vec<Value> = lines.into_iter().filter(is_one).rev().take(MOST_CHANGES).map(shown).collect();
        changes.reverse();
        changes
    }

    /// Puts a file in its place and a line into the audit log: both or neither.
    fn put(&self, dir: &Path, file: io::Result<Prepared>, line: Line) -> Result<(), NotWritten> {
        let file = file.map_err(|error| NotWritten::of(dir, error))?;
        self.books.record_with(&[line], self.now, || file.keep().map_err(|error| NotWritten::of(dir, error)))
    }
}

/// The classes that codes prove, each with the directory where they are kept.
fn dirs(config: &Config) -> Vec<(ClassName, PathBuf)> {
    let of = |class: &crate::config::Class| {
        let name = class.name.clone();
        let dir = class.proofs.iter().find_map(|proof| match proof {
            Proof::InvitationCode(codes) => Some(codes.dir.clone()),
            _ => None,
        });
        dir.map(|dir| (name, dir))
    };
    config.classes.iter().filter_map(of).collect()
}

fn dir_of(config: &Config, class: &str) -> Result<(ClassName, PathBuf), HandoutFault> {
    let found = dirs(config).into_iter().find(|(name, _)| name.as_str() == class);
    found.ok_or_else(|| {
        HandoutFault::Wanted(format!("there is no class {class:?} with a proof of kind \"invitation_code\""))
    })
}

/// A code, and the directory where it is kept.
#[derive(Debug)]
struct Kept {
    dir: PathBuf,
    known: Known,
}

/// All codes, and what of the files is none.
fn kept_codes(config: &Config) -> Result<(Vec<Kept>, Vec<CodesFault>), CodesFault> {
    let dirs: BTreeSet<PathBuf> = dirs(config).into_iter().map(|(_, dir)| dir).collect();
    let (mut kept, mut broken) = (Vec::new(), Vec::new());
    for dir in dirs {
        let (known, faults) = codes::list(&dir)?;
        kept.extend(known.into_iter().map(|known| Kept { dir: dir.clone(), known }));
        broken.extend(faults);
    }
    Ok((kept, broken))
}

/// The end of a last day by this machine's clock, that many days from now unless it is named.
fn end_of(last_day: Option<Date>, days: i64, now: Unix) -> Result<Unix, HandoutFault> {
    let zone = TimeZone::system();
    let today = local_time::date_at(&zone, now);
    let last_day = last_day.unwrap_or_else(|| today.saturating_add(jiff::SignedDuration::from_hours(days * 24)));
    if last_day < today {
        return Err(HandoutFault::Wanted(format!("{last_day} is past: name a day to come")));
    }
    let next = last_day.tomorrow().unwrap_or(last_day);
    Ok(local_time::beginning(&zone, next, local_time::LocalTime::MIDNIGHT))
}

fn shown(at: u64) -> String {
    local_time::timestamp(Unix(at.saturating_mul(1000))).to_string()
}

/// All codes, of one class or of all, and the classes that codes prove. Blocks on the disk.
///
/// # Errors
/// [`HandoutFault`]
pub fn codes_listed(asking: Asking<'_>, class: Option<&str>) -> Result<Value, HandoutFault> {
    if let Some(class) = class {
        dir_of(asking.config, class)?;
    }
    let classes = dirs(asking.config);
    let (kept, broken) = kept_codes(asking.config)?;
    let state = |code: &Kept| {
        let Known { invitation, used } = &code.known;
        let is_of_a_class = |(name, dir): &(ClassName, PathBuf)| name.as_str() == invitation.class && *dir == code.dir;
        match invitation.usable(*used, asking.now.0 / 1000) {
            Err(failure) => Failure::as_str(failure),
            Ok(()) if classes.iter().any(is_of_a_class) => "good",
            Ok(()) => "no_class",
        }
    };
    let of = |code: &Kept| {
        let Known { invitation, used } = &code.known;
        json!({
            "id": invitation.id, "class": invitation.class, "identity": invitation.identity, "used": used,
            "uses": invitation.uses, "expires_at": shown(invitation.expires), "state": state(code),
        })
    };
    let wanted = kept.iter().filter(|code| class.is_none_or(|class| class == code.known.invitation.class));
    let listed: Vec<Value> = wanted.map(of).collect();
    let names: Vec<&str> = classes.iter().map(|(name, _)| name.as_str()).collect();
    let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
    let revision = asking.revision(&Inventory::of_codes(&kept)).to_string();
    Ok(json!({"codes": listed, "broken": broken, "classes": names, "revision": revision}))
}

/// Makes a code, or says which it would be. Blocks on the disk.
///
/// # Errors
/// [`HandoutFault`]; then there is no such code, and no line in the audit log.
pub fn make_code(asking: Asking<'_>, wanted: CodeBody, mode: Mode) -> Result<Value, HandoutFault> {
    let (class, dir) = dir_of(asking.config, &wanted.class)?;
    let identity = wanted.identity.trim().to_owned();
    let plain = !identity.is_empty() && identity.chars().count() <= 200 && !identity.chars().any(char::is_control);
    if wanted.uses == 0 || !plain {
        let what = "a code must name somebody in at most 200 plain characters, and be good for at least one use";
        return Err(HandoutFault::Wanted(what.to_owned()));
    }
    let expires = end_of(wanted.expires, CODE_DAYS, asking.now)?;
    let facts = |id: Option<&str>| {
        json!({
            "by": asking.by, "id": id, "class": class.as_str(), "identity": identity, "uses": wanted.uses,
            "expires_at": shown(expires.0 / 1000),
        })
    };
    let _alone = asking.books.alone();
    let inventory = Inventory::of_codes(&kept_codes(asking.config)?.0);
    asking.check_seen(CODES, &inventory)?;
    let order = codes::Wanted { class: class.clone(), identity: identity.clone(), uses: wanted.uses, expires };
    let (code, invitation) = codes::draft(&dir, order, asking.now)?;
    if mode == Mode::Preview {
        let revision = asking.revision(&inventory).to_string();
        return Ok(json!({"result": "preview", "code": null, "facts": facts(None), "revision": revision}));
    }
    let facts = facts(Some(&invitation.id));
    let line = Line { what: CODES.created, details: facts.clone() };
    asking.put(&dir, codes::prepare(&dir, &invitation), line)?;
    let revision = asking.revision(&inventory.with(&invitation.id, false)).to_string();
    Ok(json!({"result": "created", "code": code.to_string(), "facts": facts, "revision": revision}))
}

/// Takes a code back, or says which it would be. Blocks on the disk.
///
/// # Errors
/// [`HandoutFault`]; then it is as good as it was.
pub fn revoke_code(asking: Asking<'_>, id: &str, mode: Mode) -> Result<Value, HandoutFault> {
    let _alone = asking.books.alone();
    let kept = kept_codes(asking.config)?.0;
    let inventory = Inventory::of_codes(&kept);
    let found = kept.into_iter().find(|kept| kept.known.invitation.id == id);
    let Kept { dir, known } = found.ok_or_else(|| CodesFault::Unknown(id.to_owned()))?;
    asking.check_seen(CODES, &inventory)?;
    let invitation = known.invitation;
    let facts = json!({"by": asking.by, "id": id, "class": invitation.class, "identity": invitation.identity});
    if let Some(result) = nothing_done(invitation.revoked, mode) {
        return Ok(json!({"result": result, "facts": facts, "revision": asking.revision(&inventory).to_string()}));
    }
    let revoked = Invitation { revoked: true, ..invitation };
    let line = Line { what: CODES.revoked, details: facts.clone() };
    asking.put(&dir, codes::prepare(&dir, &revoked), line)?;
    let revision = asking.revision(&inventory.with(id, true)).to_string();
    Ok(json!({"result": "revoked", "facts": facts, "revision": revision}))
}

/// The result of taking something back when there is nothing to do.
fn nothing_done(revoked: bool, mode: Mode) -> Option<&'static str> {
    match (revoked, mode) {
        (true, _) => Some("unchanged"),
        (false, Mode::Preview) => Some("preview"),
        (false, Mode::Apply) => None,
    }
}

/// All passes. Blocks on the disk.
///
/// # Errors
/// [`HandoutFault`]
pub fn passes_listed(asking: Asking<'_>) -> Result<Value, HandoutFault> {
    let (passes, broken) = staff::list(&asking.config.tokens.pass_dir)?;
    let is_room = |name: &str| asking.config.rooms.iter().any(|room| room.name.as_str() == name);
    let of = |pass: &StaffPass| {
        let state = match pass.worth(asking.now.0 / 1000) {
            Worth::Good if !is_room(&pass.room) => "no_room",
            worth => worth.as_str(),
        };
        json!({
            "id": pass.id, "room": pass.room, "name": pass.name, "expires_at": shown(pass.expires), "state": state,
        })
    };
    let listed: Vec<Value> = passes.iter().map(of).collect();
    let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
    let revision = asking.revision(&Inventory::of_passes(&passes)).to_string();
    Ok(json!({"passes": listed, "broken": broken, "revision": revision}))
}

/// Makes a pass, or says which it would be. Blocks on the disk.
///
/// # Errors
/// [`HandoutFault`]; then there is no such pass, and no line in the audit log.
pub fn make_pass(asking: Asking<'_>, wanted: PassBody, mode: Mode) -> Result<Value, HandoutFault> {
    let room = asking.config.rooms.iter().find(|room| room.name.as_str() == wanted.room);
    let room = room.ok_or_else(|| HandoutFault::Wanted(format!("there is no room {:?}", wanted.room)))?;
    let name = wanted.name.trim().to_owned();
    if !crate::domain::staff::is_name(&name) {
        return Err(StaffFault::Name(wanted.name).into());
    }
    let expires = end_of(wanted.expires, PASS_DAYS, asking.now)?;
    let facts = |id: Option<&str>| {
        json!({
            "by": asking.by, "id": id, "room": room.name.as_str(), "name": name,
            "expires_at": shown(expires.0 / 1000),
        })
    };
    let dir = &asking.config.tokens.pass_dir;
    let _alone = asking.books.alone();
    let inventory = Inventory::of_passes(&staff::list(dir)?.0);
    asking.check_seen(PASSES, &inventory)?;
    let order = staff::Wanted { room: room.name.clone(), name: name.clone(), expires };
    let (secret, pass) = staff::draft(dir, order, asking.now)?;
    if mode == Mode::Preview {
        let revision = asking.revision(&inventory).to_string();
        return Ok(
            json!({"result": "preview", "pass": null, "link": null, "facts": facts(None), "revision": revision}),
        );
    }
    let facts = facts(Some(&pass.id));
    let line = Line { what: PASSES.created, details: facts.clone() };
    asking.put(dir, staff::prepare(dir, &pass), line)?;
    let revision = asking.revision(&inventory.with(&pass.id, false)).to_string();
    let link = link(asking.config, &pass, &secret);
    Ok(json!({"result": "created", "pass": secret, "link": link, "facts": facts, "revision": revision}))
}

/// What opens the room in a browser; without a host when `server.public_url` does not say it.
fn link(config: &Config, pass: &StaffPass, secret: &str) -> String {
    let public = config.server.public_url.as_ref();
    let origin = public.map(|url| format!("{}://{}", if url.https { "https" } else { "http" }, url.authority));
    let own = &config.server.own_path;
    format!("{}{own}/staff?room={}&pass={secret}", origin.unwrap_or_default(), pass.room)
}

/// Takes a pass back, or says which it would be. Blocks on the disk.
///
/// # Errors
/// [`HandoutFault`]; then it is as good as it was.
pub fn revoke_pass(asking: Asking<'_>, id: &str, mode: Mode) -> Result<Value, HandoutFault> {
    let dir = &asking.config.tokens.pass_dir;
    let _alone = asking.books.alone();
    let passes = staff::list(dir)?.0;
    let inventory = Inventory::of_passes(&passes);
    let pass = passes.into_iter().find(|pass| pass.id == id).ok_or_else(|| StaffFault::Unknown(id.to_owned()))?;
    asking.check_seen(PASSES, &inventory)?;
    let facts = json!({"by": asking.by, "id": id, "room": pass.room, "name": pass.name});
    if let Some(result) = nothing_done(pass.revoked, mode) {
        return Ok(json!({"result": result, "facts": facts, "revision": asking.revision(&inventory).to_string()}));
    }
    let line = Line { what: PASSES.revoked, details: facts.clone() };
    asking.put(dir, staff::prepare(dir, &StaffPass { revoked: true, ..pass }), line)?;
    let revision = asking.revision(&inventory.with(id, true)).to_string();
    Ok(json!({"result": "revoked", "facts": facts, "revision": revision}))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::audit;
    use super::*;
    use crate::config;

    const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\n[portal]\nurl = \"http://127.0.0.1:9\"\n\
                          [[room]]\nname = \"fair\"\npaths = [\"/fair/**\"]\nadmission_rate = \"5/s\"\n\
                          [[class]]\nname = \"office\"\nproof = [ { kind = \"invitation_code\", dir = \"codes\" } ]\n";
    const NOW: Unix = Unix(1_900_000_000_000);

    struct Bench {
        config: Config,
        books: Books,
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let directory = tempfile::tempdir().unwrap();
            let config = config::parse(CONFIG, directory.path()).unwrap();
            let books = Books::of(&config.admin.state_dir);
            Bench { config, books, directory }
        }

        fn asking<'a>(&'a self, seen: Option<&'a Revision>) -> Asking<'a> {
            Asking { config: &self.config, books: &self.books, by: "ann", now: NOW, seen }
        }

        fn code(&self, seen: Option<&Revision>) -> Result<Value, HandoutFault> {
            let body = CodeBody { class: "office".into(), identity: "office 1".into(), uses: 1, expires: None };
            make_code(self.asking(seen), body, Mode::Apply)
        }

        fn pass(&self, seen: Option<&Revision>) -> Result<Value, HandoutFault> {
            let body = PassBody { room: "fair".into(), name: "probe".into(), expires: None };
            make_pass(self.asking(seen), body, Mode::Apply)
        }

        fn log(&self) -> PathBuf {
            self.config.admin.state_dir.join(audit::FILE)
        }

        /// The log takes nothing, as on a full disk.
        fn fill_the_log(&mut self) {
            std::fs::rename(self.log(), self.directory.path().join("kept")).unwrap();
            symlink("/dev/full", self.log()).unwrap();
            self.books = Books::of(&self.config.admin.state_dir);
        }

        fn free_the_log(&mut self) {
            std::fs::rename(self.directory.path().join("kept"), self.log()).unwrap();
            self.books = Books::of(&self.config.admin.state_dir);
        }
    }

    fn id(made: &Value) -> String {
        made["facts"]["id"].as_str().unwrap().to_owned()
    }

    fn revision(answer: &Value) -> Revision {
        answer["revision"].as_str().unwrap().parse().unwrap()
    }

    #[test]
    fn with_a_full_log_nothing_is_handed_out_or_taken_back() {
        let mut bench = Bench::new();
        let (code, pass) = (bench.code(None).unwrap(), bench.pass(None).unwrap());
        bench.fill_the_log();
        let files = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
        let refused = |done: Result<Value, HandoutFault>| matches!(done, Err(HandoutFault::NotWritten(_)));
        assert!(refused(bench.code(None)) && refused(bench.pass(None)));
        assert!(refused(revoke_code(bench.asking(None), &id(&code), Mode::Apply)));
        assert!(refused(revoke_pass(bench.asking(None), &id(&pass), Mode::Apply)));
        assert_eq!((files(&bench.directory.path().join("codes")), files(&bench.config.tokens.pass_dir)), (1, 1));
        assert_eq!(codes_listed(bench.asking(None), None).unwrap()["codes"][0]["state"], "good");
        assert_eq!(passes_listed(bench.asking(None)).unwrap()["passes"][0]["state"], "good");
        bench.free_the_log();
        assert_eq!(revoke_code(bench.asking(None), &id(&code), Mode::Apply).unwrap()["result"], "revoked");
        assert_eq!(audit::verify(&bench.log(), None).unwrap().lines, 3);
    }

    #[test]
    fn what_is_taken_back_twice_is_written_down_once() {
        let bench = Bench::new();
        let (code, pass) = (bench.code(None).unwrap(), bench.pass(None).unwrap());
        for result in ["revoked", "unchanged"] {
            assert_eq!(revoke_code(bench.asking(None), &id(&code), Mode::Apply).unwrap()["result"], result);
            assert_eq!(revoke_pass(bench.asking(None), &id(&pass), Mode::Apply).unwrap()["result"], result);
        }
        assert_eq!(audit::verify(&bench.log(), None).unwrap().lines, 4);
    }

    #[test]
    fn whoever_saw_an_older_list_hears_what_changed() {
        let bench = Bench::new();
        let first = bench.code(None).unwrap();
        let seen = revision(&codes_listed(bench.asking(None), None).unwrap());
        assert_eq!(seen, revision(&first), "an answer says what the list says");
        bench.pass(None).unwrap();
        let second = bench.code(Some(&seen)).expect("a pass is another list");
        let Err(HandoutFault::Outdated { revision: now, changes }) = bench.code(Some(&seen)) else {
            panic!("nobody noticed")
        };
        assert_eq!((changes.len(), &changes[0]["facts"]["id"]), (1, &second["facts"]["id"]));
        assert_eq!(changes[0]["facts"]["by"], "ann");
        assert_eq!(revoke_code(bench.asking(Some(&now)), &id(&second), Mode::Apply).unwrap()["result"], "revoked");
        let outdated = revoke_code(bench.asking(Some(&now)), &id(&first), Mode::Preview);
        assert!(matches!(outdated, Err(HandoutFault::Outdated { .. })));
    }

    #[test]
    fn what_is_of_no_room_or_class_any_more_says_so() {
        let mut bench = Bench::new();
        bench.code(None).unwrap();
        bench.pass(None).unwrap();
        let text = CONFIG.replace("fair", "other").replace("\"office\"", "\"press\"");
        bench.config = config::parse(&text, bench.directory.path()).unwrap();
        assert_eq!(codes_listed(bench.asking(None), None).unwrap()["codes"][0]["state"], "no_class");
        assert_eq!(passes_listed(bench.asking(None)).unwrap()["passes"][0]["state"], "no_room");
        assert!(matches!(codes_listed(bench.asking(None), Some("office")), Err(HandoutFault::Wanted(_))));
        assert!(matches!(bench.pass(None), Err(HandoutFault::Wanted(_))));
    }

    #[test]
    fn a_preview_knows_of_the_bound() {
        let bench = Bench::new();
        let made = bench.pass(None).unwrap();
        let dir = &bench.config.tokens.pass_dir;
        let text = std::fs::read_to_string(dir.join(format!("{}.json", id(&made)))).unwrap();
        for number in 1..1000 {
            let other = format!("f{number}");
            std::fs::write(dir.join(format!("{other}.json")), text.replace(&id(&made), &other)).unwrap();
        }
        let body = PassBody { room: "fair".into(), name: "probe".into(), expires: None };
        let preview = make_pass(bench.asking(None), body, Mode::Preview);
        assert!(matches!(preview, Err(HandoutFault::Wanted(_))), "{preview:?}");
    }

    #[test]
    fn a_revision_is_read_as_it_is_written() {
        let revision = Revision { digest: Inventory::default().with("a", true).digest(), line: 7 };
        assert_eq!(revision.to_string().parse(), Ok(revision));
        for wrong in ["", "7", "-7", "0123456789ab", "0123456789ag-7", "0123456789ab-", "0123456789ab-x"] {
            assert_eq!(wrong.parse::<Revision>(), Err(NoRevision), "{wrong}");
        }
    }
}
