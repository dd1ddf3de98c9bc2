//! `anticamera`: the command line.

mod commands;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anticamera::admin::{Command, ReloadAnswer};
use anticamera::app::{self, App, StartError};
use anticamera::classes::Classes;
use anticamera::clock::Clock;
use anticamera::config::{self, watch::Watch};
use anticamera::ctl::{self, CodesOrder, CtlOrder, PassOrder, PlanOrder, Whom};
use anticamera::demo;
use anticamera::proxy::tls::PortalTls;
use anticamera::server::Tls;
use anticamera::service_manager;
use anticamera::telemetry::log::Log;
use anticamera::telemetry::metrics::Metrics;
use anticamera::waiting_room::assets::Assets;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use jiff::civil::Date;
use tokio::signal::unix::{SignalKind, signal};

use commands::draw::DrawOrder;
use commands::leaks::LeaksOrder;
use commands::receipts::ReceiptOrder;
use commands::store::StoreOrder;
use commands::{FAULTY, printed};

/// Gives memory back while the program runs: a crowd that has gone leaves holes, which the C library's allocator keeps.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
        /// The configuration file.
        #[arg(long, default_value = "config.toml", global = true)]
        config: PathBuf,
        #[command(subcommand)]
        order: CodesOrder,
    },
    /// Makes, lists and takes back passes for staff and monitoring. To be run as the program's user.
    Pass {
        /// The configuration file.
        #[arg(long, default_value = "config.toml", global = true)]
        config: PathBuf,
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
    /// Carries lines from one store to another, with everybody's place. Neither may be in use. To be run as the program's user.
    Store {
        #[command(subcommand)]
        order: StoreOrder,
    },
    /// Checks receipts.
    Receipt {
        #[command(subcommand)]
        order: ReceiptOrder,
    },
    /// Asks and changes the running program: every change is previewed, written down and can be undone.
    Ctl {
        #[command(flatten)]
        whom: Whom,
        #[command(subcommand)]
        order: CtlOrder,
    },
    /// Says what another configuration file would change in the running program, and for whom. Exit code 2 when it has faults.
    Diff {
        /// The other file.
        #[arg(long)]
        config: PathBuf,
        /// The running program's file, which names address and token. Left out: the other file does.
        #[arg(long)]
        running: Option<PathBuf>,
        /// Another address: 127.0.0.1:9090, or unix: and a path.
        #[arg(long)]
        address: Option<String>,
        /// Another token's file.
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
    /// Works on the log of what operators changed.
    Audit {
        #[command(subcommand)]
        order: AuditOrder,
    },
    /// Works a day out before it comes: how long the line gets, how long one waits, when it is empty.
    Plan(PlanOrder),
    /// Shows everything on this machine: a stand-in portal, the waiting room and a small crowd.
    Demo,
    /// Writes manual pages and shell completions, for packages.
    #[command(hide = true)]
    Manual {
        /// The directory; below it `man` and `completions` are made.
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
enum AuditOrder {
    /// Checks that every line is as it was written and follows the one before it. Exit code 1 when one is not; it is named.
    Verify {
        /// The configuration file, which names the directory of the log.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// The log itself, wherever it lies.
        #[arg(long)]
        file: Option<PathBuf>,
        /// A line's hash that was noted elsewhere, which must be one of them.
        #[arg(long)]
        hash: Option<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Order::Run { config } => run(&config),
        Order::Check { config, public_url: None } => check(&config),
        Order::Check { config, public_url: Some(url) } => commands::edge::check(&config, &url),
        Order::Schedule { config, from, to, room } => commands::schedule::print(&config, from, to, room.as_deref()),
        Order::Codes { config, order } => commands::codes::carry_out(&config, order),
        Order::Pass { config, order } => commands::passes::carry_out(&config, order),
        Order::Leaks { order } => commands::leaks::carry_out(order),
        Order::Draw { order } => commands::draw::carry_out(order),
        Order::Store { order } => commands::store::carry_out(order),
        Order::Receipt { order } => commands::receipts::carry_out(order),
        Order::Ctl { whom, order } => ctl::ctl(&whom, order),
        Order::Diff { config, running, address, token_file } => {
            ctl::diff(&config, running.as_deref(), address.as_deref(), token_file.as_deref())
        }
        Order::Audit { order: AuditOrder::Verify { config, file, hash } } => {
            ctl::verify_audit(&config, file.as_deref(), hash.as_deref())
        }
        Order::Plan(order) => ctl::plan(&order),
        Order::Demo => demo::run(),
        Order::Manual { directory } => printed(write_manual(&directory)),
    }
}

/// Manual pages of the program and of each of its commands, and completions for the usual shells.
fn write_manual(directory: &Path) -> commands::Done {
    let (pages, completions) = (directory.join("man"), directory.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Arguments::command(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Arguments::command(), "anticamera", &completions)?;
    }
    Ok(format!("manual pages and completions are in {}\n", directory.display()))
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
    let mut asked_to_stop = std::pin::pin!(app.asked_to_stop());
    let reassuring = tokio::spawn(service_manager::reassure(app.ticks.clone()));
    service_manager::ready("serving");
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&commands).await,
            () = watch.changed(), if watched => reload(&commands).await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut asked_to_stop => break,
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
