//! `anticamera`: the command line.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anticamera::admin::ReloadAnswer;
use anticamera::app::{self, App, StartError};
use anticamera::clock::Clock;
use anticamera::config::{self, watch::Watch};
use anticamera::demo;
use anticamera::domain::canary::Shown;
use anticamera::leaks::{Hashes, canary, report};
use anticamera::telemetry::log::Log;
use anticamera::telemetry::metrics::Metrics;
use anticamera::waiting_room::assets::Assets;
use clap::{Parser, Subcommand};
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
    /// Reads the leak guard's audit file.
    Leaks {
        #[command(subcommand)]
        order: LeaksOrder,
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

/// The configuration is at fault.
const FAULTY: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Order::Run { config } => run(&config),
        Order::Check { config, public_url: None } => check(&config),
        Order::Check { config, public_url: Some(url) } => check_edge(&config, &url),
        Order::Leaks { order: LeaksOrder::Report { config } } => report_leaks(&config),
        Order::Leaks { order: LeaksOrder::Match { config, identities } } => match_leaks(&config, &identities),
        Order::Demo => demo::run(),
    }
}

/// The configuration, when neither it nor what its pages are made of has a fault.
fn load(path: &std::path::Path) -> Result<config::Config, String> {
    let config = config::load(path).map_err(|faults| faults.to_string())?;
    Assets::load(&config.page).map_err(|fault| format!("page.assets: {fault}"))?;
    Ok(config)
}

fn check(path: &std::path::Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            for warning in config.warnings() {
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
    let config = match load(path) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(FAULTY);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&StartError::Thread(error)),
    };
    match runtime.block_on(serve(config, path, watch)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("anticamera could not start or stop properly: {error}");
    ExitCode::FAILURE
}

async fn serve(config: config::Config, path: &std::path::Path, mut watch: Watch) -> Result<(), StartError> {
    let metrics = Arc::new(Metrics::new()?);
    let (log, _writer) = Log::start(std::io::stdout(), metrics.log_lines_dropped())?;
    if let Err(error) = log.install(config.log) {
        eprintln!("{error}");
    }
    for warning in config.warnings() {
        tracing::warn!(key = warning.key, "{}", warning.text);
    }
    let watched = config.server.watch;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::start(config, Some(path), Clock::system(), log, metrics).await?;
    tracing::info!(listen = ?app.addresses, admin = ?app.admin_address, "anticamera serves");
    let commands = app.commands();
    loop {
        tokio::select! {
            _ = hangup.recv() => note(app::reload(&commands).await),
            () = watch.changed(), if watched => note(app::reload(&commands).await),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("draining");
    app.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// The outcome of a reload has been logged by the control plane.
fn note(_: ReloadAnswer) {}
