//! `anticamera`: the command line.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anticamera::admin::{Command, ReloadAnswer};
use anticamera::app::{self, App, StartError};
use anticamera::classes::{Classes, codes};
use anticamera::clock::Clock;
use anticamera::config::{self, watch::Watch};
use anticamera::demo;
use anticamera::domain::canary::Shown;
use anticamera::domain::draw_proof::DrawDocument;
use anticamera::domain::local_time;
use anticamera::domain::names::ClassName;
use anticamera::domain::proof::Failure;
use anticamera::domain::time::Unix;
use anticamera::domain::token::{Kind, Rejection, Token};
use anticamera::keys;
use anticamera::leaks::{Hashes, canary, report};
use anticamera::proxy::tls::PortalTls;
use anticamera::server::Tls;
use anticamera::service_manager;
use anticamera::staff;
use anticamera::telemetry::log::Log;
use anticamera::telemetry::metrics::Metrics;
use anticamera::waiting_room::assets::Assets;
use anticamera::waiting_room::timetable;
use clap::{Parser, Subcommand};
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};

/// A virtual waiting room in front of your portal.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Order,
}

#[derive(Subcommand)]
enum Order {
    /// Runs the waiting room. SIGHUP reloads the configuration, SIGTERM drains and stops.
    Run {
        /// The configuration file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Checks a configuration file and names every fault with its key and a remedy.
    Check {
        /// The configuration file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// Asks through this address (scheme and host), as two made-up visitors, whether whatever stands in front of the
        /// running program keeps personal pages. Exit code 1 when it does or cannot be asked.
        #[arg(long)]
        public_url: Option<String>,
    },
    /// Prints who may enter when, in the rooms' local time.
    Schedule {
        /// The configuration file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The first day, such as 2026-03-28. Left out: today.
        #[arg(long)]
        from: Option<Date>,
        /// The last day. Left out: six days after the first.
        #[arg(long)]
        to: Option<Date>,
        /// Only this room.
        #[arg(long)]
        room: Option<String>,
    },
    /// Makes, lists and takes back invitation codes. To be run as the program's user.
    Codes {
        #[command(subcommand)]
        order: CodesOrder,
    },
    /// Makes, lists and takes back passes for staff and monitoring. To be run as the program's user.
    Pass {
        #[command(subcommand)]
        order: PassOrder,
    },
    /// Reads the leak guard's audit file.
    Leaks {
        #[command(subcommand)]
        order: LeaksOrder,
    },
    /// Checks the draw of an opening.
    Draw {
        #[command(subcommand)]
        order: DrawOrder,
    },
    /// Checks receipts.
    Receipt {
        #[command(subcommand)]
        order: ReceiptOrder,
    },
    /// Shows everything on this machine: a stand-in portal, the waiting room and a small crowd.
    Demo,
}

#[derive(Subcommand)]
enum LeaksOrder {
    /// Sums up what was blocked or reported: by rule and route, how often, and how many people are concerned.
    Report {
        /// The configuration file, which names the audit file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Prints those in a list who are concerned: identity, events, first and last time and rules, separated by tabs.
    Match {
        /// The configuration file, which names the audit file and its key.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// Identities as the portal names them in Waiting-Room-Identity, one on each line.
        #[arg(long)]
        identities: PathBuf,
    },
}

#[derive(Subcommand)]
enum DrawOrder {
    /// Works out, from nothing but published facts, the number that a visitor was given. Exit code 1 when the facts do not
    /// fit together.
    Verify {
        /// The facts of /.waiting-room/draw/ROOM as saved before the opening.
        #[arg(long)]
        before: PathBuf,
        /// The same as saved after it.
        #[arg(long)]
        after: PathBuf,
        /// The visitor's reference, as the page showed it before the opening.
        #[arg(long)]
        reference: String,
    },
}

#[derive(Subcommand)]
enum ReceiptOrder {
    /// Says what a receipt proves. Exit code 1 when it proves nothing.
    Verify {
        /// The configuration file, which names the rooms and the keys.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The characters on the receipt; spaces and line breaks do not matter.
        receipt: Vec<String>,
    },
}

#[derive(Subcommand)]
enum PassOrder {
    /// Makes a pass and prints it: only now, because only its hash is kept.
    Create {
        /// The configuration file, which names the room and the directory.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The room that it opens.
        #[arg(long)]
        room: String,
        /// What it is for, or whose it is; counted under this name.
        #[arg(long)]
        name: String,
        /// The last day on which it is good, such as 2026-12-31, by this machine's clock. Left out: in 30 days.
        #[arg(long)]
        expires: Option<Date>,
    },
    /// Lists passes: room, name, end; never their secrets.
    List {
        /// The configuration file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Takes a pass back.
    Revoke {
        /// The configuration file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The pass's id in the list.
        id: String,
    },
}

#[derive(Subcommand)]
enum CodesOrder {
    /// Makes a code and prints it: only now, because only its hash is kept.
    Create {
        /// The configuration file, which names the class and the directory.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
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
    },
    /// Lists codes by their names: class, identity, uses, end; never the codes.
    List {
        /// The configuration file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// Only those of this class.
        #[arg(long)]
        class: Option<String>,
    },
    /// Takes a code back. Tickets drawn with it stay.
    Revoke {
        /// The configuration file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The code's name in the list.
        id: String,
    },
}

/// The configuration is at fault.
const FAULTY: u8 = 2;

/// A published draw is some hundred bytes long.
const LARGEST_DRAW: u64 = 1 << 20;

/// Days of which who may enter is printed at most.
const LONGEST_TIMETABLE: i32 = 366;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Order::Run { config } => run(&config),
        Order::Check { config, public_url: None } => check(&config),
        Order::Check { config, public_url: Some(url) } => check_edge(&config, &url),
        Order::Schedule { config, from, to, room } => print_schedule(&config, from, to, room.as_deref()),
        Order::Codes { order: CodesOrder::Create { config, class, identity, uses, expires } } => {
            create_code(&config, &class, &identity, uses, expires)
        }
        Order::Codes { order: CodesOrder::List { config, class } } => list_codes(&config, class.as_deref()),
        Order::Codes { order: CodesOrder::Revoke { config, id } } => revoke_code(&config, &id),
        Order::Pass { order: PassOrder::Create { config, room, name, expires } } => {
            create_pass(&config, &room, name, expires)
        }
        Order::Pass { order: PassOrder::List { config } } => list_passes(&config),
        Order::Pass { order: PassOrder::Revoke { config, id } } => revoke_pass(&config, &id),
        Order::Leaks { order: LeaksOrder::Report { config } } => report_leaks(&config),
        Order::Leaks { order: LeaksOrder::Match { config, identities } } => match_leaks(&config, &identities),
        Order::Draw { order: DrawOrder::Verify { before, after, reference } } => {
            printed(verify_draw(&before, &after, &reference))
        }
        Order::Receipt { order: ReceiptOrder::Verify { config, receipt } } => {
            verify_receipt(&config, &receipt.concat())
        }
        Order::Demo => demo::run(),
    }
}

/// A configuration without faults, and what is allowed in it but probably not meant.
struct Loaded {
    config: config::Config,
    warnings: Vec<config::Warning>,
}

/// The configuration, when neither it nor the certificates and page files that it names have a fault.
fn load(path: &std::path::Path) -> Result<Loaded, String> {
    let config = config::load(path).map_err(|faults| faults.to_string())?;
    let assets = Assets::load(&config.page).map_err(|fault| format!("page.assets: {fault}"));
    let tls = Tls::load(&config.server, None, Clock::system().now().wall).map_err(|faults| faults.to_string());
    let portal = PortalTls::load(&config.portal).map_err(|wrong| format!("portal: {wrong}"));
    let classes = Classes::check(&config.classes).map_err(|fault| fault.to_string());
    let faults = [assets.err(), tls.as_ref().err().cloned(), portal.err(), classes.err()];
    match (tls, faults.iter().all(Option::is_none)) {
        (Ok(tls), true) => {
            let mut warnings = config.warnings();
            warnings.extend(config.warnings_at(Clock::system().now().wall));
            warnings.extend(tls.warnings().iter().cloned());
            Ok(Loaded { config, warnings })
        }
        _ => Err(faults.into_iter().flatten().collect::<Vec<_>>().join("\n")),
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    match load(path) {
        Ok(loaded) => {
            for warning in loaded.warnings {
                println!("warning: {warning}");
            }
            println!("{}: no faults", path.display());
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(FAULTY)
        }
    }
}

/// Asks through the edge, and prints what it found for every kind of page.
fn check_edge(path: &Path, url: &str) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let Some(public) = config::PublicUrl::parse(url) else {
        eprintln!("{url} is no address of a site: write scheme and host, such as http://portal.example");
        return ExitCode::from(FAULTY);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let round = runtime.block_on(canary::round(&public, &canary::folders(&config)));
    for found in &round.found {
        let verdict = match found.shown {
            Shown::Fresh => "ok: each visitor got an answer of their own",
            Shown::Kept => "KEPT: the second visitor got the first one's answer",
            Shown::Unknown => "unknown",
        };
        let why = found.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        println!("{}: {verdict}{why}\n    {}", found.place.kind.as_str(), found.path);
    }
    match round.shown() {
        Shown::Fresh => {
            println!("{url} keeps no personal pages");
            ExitCode::SUCCESS
        }
        Shown::Kept => {
            println!("{url} KEEPS PERSONAL PAGES: do not open; exclude everything that is not public from its cache");
            ExitCode::FAILURE
        }
        Shown::Unknown => {
            println!("{url} could not be asked for everything: is the program running behind it?");
            ExitCode::FAILURE
        }
    }
}

fn print_schedule(path: &Path, from: Option<Date>, to: Option<Date>, room: Option<&str>) -> ExitCode {
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

fn verify_draw(before: &Path, after: &Path, reference: &str) -> Result<String, Box<dyn std::error::Error>> {
    let read = |path: &Path| -> Result<DrawDocument, Box<dyn std::error::Error>> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = std::io::read_to_string(file.take(LARGEST_DRAW))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    };
    let after = read(after)?;
    let place = after.prove(&read(before)?, reference)?;
    Ok(format!(
        "the draw holds: the seed is the one that was committed to before the opening\n\
         {} is number {} in the lane {} of room {} ({} gathered there; this one was the {}. to come)\n",
        reference.trim(),
        place.number,
        place.class,
        after.room,
        place.count,
        place.index + 1
    ))
}

fn verify_receipt(path: &Path, receipt: &str) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let receipt: String = receipt.split_whitespace().collect();
    let verify = || -> Result<String, Box<dyn std::error::Error>> {
        let keyring =
            keys::load(&config.tokens.key_dir, config.tokens.activate_after).map_err(|why| why.to_string())?;
        let now = Clock::system().now().wall.seconds();
        let mut why = "there is no room in the configuration".to_owned();
        for room in &config.rooms {
            match keyring.for_room(&room.name).verify(Kind::Receipt, receipt.as_bytes(), now) {
                Ok(token) => return Ok(what_it_proves(room, &token)),
                Err(Rejection::OtherRoom) if why.starts_with("there") => why = "it is of no room here".to_owned(),
                Err(Rejection::OtherRoom) => {}
                Err(Rejection::Expired(_)) => why = "it is too old".to_owned(),
                Err(rejection) => why = rejection.label().replace('_', " "),
            }
        }
        Err(format!("this receipt proves nothing: {why}").into())
    };
    printed(verify())
}

/// A genuine receipt in words.
fn what_it_proves(room: &config::Room, token: &Token) -> String {
    let since = local_time::timestamp(Unix::from_seconds(token.issued)).to_zoned(room.time_zone.clone());
    let class = room.classes.iter().find(|class| class.id() == token.class);
    let number = match token.number {
        0 => "registered for the opening; the number was not given yet".to_owned(),
        number => format!("number {number}"),
    };
    format!(
        "genuine: signed with a key of this installation\n\
         room {}, class {}, {number}, in line since {} at the latest\n\
         it does not say who the visitor is, nor whether the place was used\n",
        room.name,
        class.map_or("(one that is gone)", ClassName::as_str),
        since.strftime("%Y-%m-%d %H:%M:%S %:z")
    )
}

/// The class that invitation codes prove, and the directory where they are kept.
fn codes_of(config: &config::Config, named: Option<&str>) -> Result<Vec<(ClassName, PathBuf)>, String> {
    let with_codes = config.classes.iter().filter(|class| named.is_none_or(|name| class.name.as_str() == name));
    let dirs = with_codes.flat_map(|class| {
        class.proofs.iter().filter_map(|proof| match proof {
            config::Proof::InvitationCode(codes) => Some((class.name.clone(), codes.dir.clone())),
            _ => None,
        })
    });
    let dirs: Vec<_> = dirs.collect();
    let of = named.map(|name| format!(" called {name:?}")).unwrap_or_default();
    let fault =
        || format!("there is no class{of} with a proof of kind \"invitation_code\"; add one to the configuration");
    if dirs.is_empty() { Err(fault()) } else { Ok(dirs) }
}

fn create_code(path: &Path, class: &str, identity: &str, uses: u32, expires: Option<Date>) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let now = Clock::system().now().wall;
    let (last_day, expires) = end_of(expires, 90, now);
    let created = || -> Result<String, Box<dyn std::error::Error>> {
        if expires <= now || uses == 0 || identity.trim().is_empty() {
            return Err("a code must name somebody, and be good for at least one use from now on".into());
        }
        let (class, dir) = codes_of(&config, Some(class))?.into_iter().next().ok_or("no such class")?;
        let wanted = codes::Wanted { class, identity: identity.trim().to_owned(), uses, expires };
        let (code, invitation) = codes::create(&dir, wanted, now)?;
        eprintln!(
            "{} for {}, good for {uses} tickets until the end of {last_day}, by its name {}; the code is shown only now:",
            invitation.class, invitation.identity, invitation.id
        );
        Ok(format!("{code}\n"))
    };
    printed(created())
}

/// The last day, that many days from now unless it is named, and its end by this machine's clock.
fn end_of(last_day: Option<Date>, days: i64, now: Unix) -> (Date, Unix) {
    let last_day = last_day.unwrap_or_else(|| {
        local_time::date_at(&TimeZone::system(), now).saturating_add(SignedDuration::from_hours(days * 24))
    });
    let end = last_day.tomorrow().unwrap_or(last_day);
    (last_day, local_time::beginning(&TimeZone::system(), end, local_time::LocalTime::MIDNIGHT))
}

fn create_pass(path: &Path, room: &str, name: String, expires: Option<Date>) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let now = Clock::system().now().wall;
    let (last_day, expires) = end_of(expires, 30, now);
    let created = || -> Result<String, Box<dyn std::error::Error>> {
        let room = config.rooms.iter().find(|known| known.name.as_str() == room);
        let room = room.ok_or_else(|| format!("there is no room of that name in {}", path.display()))?;
        if expires <= now {
            return Err(format!("{last_day} is past: name a day to come").into());
        }
        let wanted = staff::Wanted { room: room.name.clone(), name, expires };
        let (secret, pass) = staff::create(&config.tokens.pass_dir, wanted, now)?;
        eprintln!(
            "a pass for {} through room {}, good until the end of {last_day}, by its id {}; it is shown only now. Send the \
             header, or the cookie (with __Host- before its name over HTTPS), or open the link once in a browser:",
            pass.name, pass.room, pass.id
        );
        let own = &config.server.own_path;
        let origin = config
            .server
            .public_url
            .as_ref()
            .map(|url| format!("{}://{}", if url.https { "https" } else { "http" }, url.authority));
        let origin = origin.unwrap_or_default();
        Ok(format!(
            "Waiting-Room-Staff: {secret}\nCookie: anticamera-staff-{room}={secret}\n\
             {origin}{own}/staff?room={room}&pass={secret}\n",
            room = pass.room
        ))
    };
    printed(created())
}

fn list_passes(path: &Path) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let now = Clock::system().now().wall.0 / 1000;
    let listed = || -> Result<String, Box<dyn std::error::Error>> {
        let (passes, broken) = staff::list(&config.tokens.pass_dir)?;
        broken.iter().for_each(|fault| eprintln!("{fault}"));
        let mut text = String::from("id\troom\tname\tlast day\tstate\n");
        for pass in &passes {
            let last = Unix(pass.expires.saturating_sub(1) * 1000);
            let (last_day, state) = (local_time::date_at(&TimeZone::system(), last), pass.worth(now).as_str());
            text.push_str(&format!("{}\t{}\t{}\t{last_day}\t{state}\n", pass.id, pass.room, pass.name));
        }
        Ok(text)
    };
    printed(listed())
}

fn revoke_pass(path: &Path, id: &str) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let revoked = staff::revoke(&config.tokens.pass_dir, id);
    printed(revoked.map(|pass| format!("{} of {}: taken back\n", pass.id, pass.name)).map_err(Into::into))
}

fn list_codes(path: &Path, class: Option<&str>) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let now = Clock::system().now().wall.0 / 1000;
    let listed = || -> Result<String, Box<dyn std::error::Error>> {
        let mut text = String::from("name\tclass\tidentity\tused\tuses\tstate\n");
        for (class, dir) in codes_of(&config, class)? {
            let (listed, broken) = codes::list(&dir)?;
            broken.iter().for_each(|fault| eprintln!("{fault}"));
            for known in listed.iter().filter(|known| known.invitation.class == class.as_str()) {
                let invitation = &known.invitation;
                let state = invitation.usable(known.used, now).map_or_else(Failure::as_str, |()| "good");
                let (id, identity, uses) = (&invitation.id, &invitation.identity, invitation.uses);
                text.push_str(&format!("{id}\t{class}\t{identity}\t{}\t{uses}\t{state}\n", known.used));
            }
        }
        Ok(text)
    };
    printed(listed())
}

fn revoke_code(path: &Path, id: &str) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let revoked = || -> Result<String, Box<dyn std::error::Error>> {
        let mut fault = codes::CodesFault::Unknown(id.to_owned());
        for (_, dir) in codes_of(&config, None)? {
            match codes::revoke(&dir, id) {
                Ok(invitation) => {
                    return Ok(format!("{} of {}: taken back\n", invitation.id, invitation.identity));
                }
                Err(error) => fault = error,
            }
        }
        Err(fault.into())
    };
    printed(revoked())
}

fn report_leaks(path: &Path) -> ExitCode {
    audit_of(path).map_or_else(faulty, |audit| printed(report::summary(&audit.file).map_err(Into::into)))
}

fn match_leaks(path: &Path, identities: &Path) -> ExitCode {
    let found = |audit: config::AuditFile| -> Result<String, Box<dyn std::error::Error>> {
        let hashes = Hashes::load(&audit.key)?;
        let list = File::open(identities).map_err(|error| format!("{}: {error}", identities.display()))?;
        Ok(report::concerned(&audit.file, &hashes, BufReader::new(list))?)
    };
    audit_of(path).map_or_else(faulty, |audit| printed(found(audit)))
}

fn audit_of(path: &Path) -> Result<config::AuditFile, config::Faults> {
    config::load(path).map(|config| config.leak_guard.audit)
}

fn faulty(faults: config::Faults) -> ExitCode {
    eprintln!("{faults}");
    ExitCode::from(FAULTY)
}

fn printed(text: Result<String, Box<dyn std::error::Error>>) -> ExitCode {
    match text {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &std::path::Path) -> ExitCode {
    // Made before the file is read, so that no change in between is missed.
    let watch = Watch::new(path);
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(FAULTY);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&StartError::Thread(error)),
    };
    match runtime.block_on(serve(loaded, path, watch)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("anticamera could not start or stop properly: {error}");
    ExitCode::FAILURE
}

async fn serve(loaded: Loaded, path: &std::path::Path, mut watch: Watch) -> Result<(), StartError> {
    let Loaded { config, warnings } = loaded;
    let metrics = Arc::new(Metrics::new()?);
    let (log, _writer) = Log::start(std::io::stdout(), metrics.log_lines_dropped())?;
    if let Err(error) = log.install(config.log) {
        eprintln!("{error}");
    }
    for warning in warnings {
        tracing::warn!(key = warning.key, "{}", warning.text);
    }
    let watched = config.server.watch;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::start(config, Some(path), Clock::system(), log, metrics).await?;
    tracing::info!(
        listen = ?app.addresses,
        tls = ?app.tls_addresses,
        redirect = ?app.redirect_addresses,
        admin = ?app.admin_address,
        "anticamera serves"
    );
    let commands = app.commands();
    let reassuring = tokio::spawn(service_manager::reassure(app.ticks.clone()));
    service_manager::ready("serving");
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&commands).await,
            () = watch.changed(), if watched => reload(&commands).await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("draining");
    service_manager::stopping();
    reassuring.abort();
    app.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Reads the configuration again. The outcome is logged by the control plane.
async fn reload(commands: &tokio::sync::mpsc::Sender<Command>) {
    service_manager::reloading();
    service_manager::ready(match app::reload(commands).await {
        ReloadAnswer::Applied | ReloadAnswer::Unchanged => "serving",
        ReloadAnswer::Refused(_) => "serving; the changed configuration has faults, the old one stays in force",
        ReloadAnswer::NeedsRestart(_) => {
            "serving; the changed configuration needs a restart, the old one stays in force"
        }
    });
}
