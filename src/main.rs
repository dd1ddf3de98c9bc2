//! `anticamera`: the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anticamera::admin::ReloadAnswer;
use anticamera::app::{self, App, StartError};
use anticamera::clock::Clock;
use anticamera::config::{self, watch::Watch};
use anticamera::demo;
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
    },
    /// Shows everything on this machine: a stand-in portal, the waiting room and a small crowd.
    Demo,
}

/// The configuration is at fault.
const FAULTY: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Order::Run { config } => run(&config),
        Order::Check { config } => check(&config),
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
