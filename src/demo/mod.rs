//! `anticamera demo`: everything on this machine, for looking at: a stand-in portal, the real waiting room in front of
//! it, and a small crowd that wants in. Nothing of it outlasts the program.

mod crowd;
mod portal;

use std::fmt::Write as _;
use std::fs::{DirBuilder, remove_dir_all};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::config::{self, Faults};
use crate::domain::names::{ClassName, NotAName, RoomName};
use crate::entropy::{self, NoEntropy};
use crate::store::StoreError;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{LaneMetrics, Metrics, MetricsError};

/// The room that protects the stand-in portal's application.
const ROOM: &str = "bonus";
/// How many visitors a second the waiting room lets in: so few that a line is seen.
const RATE: u64 = 2;
/// Between two lines that tell how it goes.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Where visitors, the portal and operators are found unless something else listens there already.
const FRIENDLY_PORTS: [u16; 3] = [8080, 9000, 9090];

/// Why the demonstration cannot be given.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the temporary directory {path} cannot be made: {error}")]
    Folder { path: String, error: io::Error },
    #[error("the stand-in portal cannot listen: {0}")]
    Portal(io::Error),
    #[error("the demonstration's own configuration is at fault: {0}")]
    Configuration(#[from] Faults),
    #[error("the demonstration's own names are at fault: {0}")]
    Name(#[from] NotAName),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the system gives no signals, threads or runtime: {0}")]
    System(#[from] io::Error),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    #[error("the end was not clean: {0}")]
    Stop(#[from] StoreError),
}

/// Runs the demonstration until it is interrupted.
pub fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.map_err(Failed::from).and_then(|runtime| runtime.block_on(demonstrate())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anticamera demo could not start or stop properly: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> Result<(), Failed> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let folder = Folder::create()?;
    let [visitors, portal, operators] = FRIENDLY_PORTS.map(free_or_any);
    let portal = TcpListener::bind(portal).await.map_err(Failed::Portal)?;
    let portal_address = portal.local_addr().map_err(Failed::Portal)?;
    let portal = tokio::spawn(portal::serve(portal));

    let metrics = Arc::new(Metrics::new()?);
    let lane = metrics.lane(&RoomName::new(ROOM)?, &ClassName::citizen());
    // Nobody reads a log here; the lines below tell how it goes.
    let (log, _writer) = Log::start(io::sink(), metrics.log_lines_dropped())?;
    let config = config::parse(&configuration(visitors, portal_address, operators), &folder.0)?;
    let app = App::start(config, None, Clock::system(), log, metrics).await?;

    let entrance = app.addresses.first().copied().unwrap_or(visitors);
    println!("{}", welcome(entrance, portal_address, app.admin_address.unwrap_or(operators), &folder.0));
    let crowd = tokio::spawn(crowd::gather(entrance));
    tokio::select! {
        () = report(&lane) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!("\nThe demonstration ends.");
    crowd.abort();
    app.stop().await?;
    portal.abort();
    Ok(())
}

/// This port if nobody listens there, otherwise one that the system chooses.
fn free_or_any(port: u16) -> SocketAddr {
    let friendly = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match std::net::TcpListener::bind(friendly) {
        Ok(_) => friendly,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn configuration(visitors: SocketAddr, portal: SocketAddr, operators: SocketAddr) -> String {
    format!(
        r#"
        [server]
        listen = ["{visitors}"]

        [server.limits]
        drain_timeout = "2s"

        [portal]
        url = "http://{portal}"

        [admin]
        listen = "{operators}"

        [leak_guard]
        public = ["/style.css"]

        [log]
        access = false

        [[room]]
        name = "{ROOM}"
        paths = ["/bonus/**"]
        admission_rate = "{RATE}/s"
        joins_per_client = "unlimited"
        logout = ["/bonus/leave"]
        message = """
Questa è una dimostrazione: la fila è vera, le persone davanti a te sono simulate.
This is a demonstration: the line is real, the people ahead of you are simulated."""
        "#
    )
}

fn welcome(entrance: SocketAddr, portal: SocketAddr, operators: SocketAddr, folder: &Path) -> String {
    let token = folder.join("state/admin-token");
    let token = token.display();
    format!(
        r#"Anticamera, a demonstration. Everything runs on this machine, only for this machine, and nothing is kept.

A stand-in portal can take {RATE} visitors a second. A few more than that arrive, so the waiting room in front of it
keeps a line: simulated visitors join it, wait for their turn, enter, look around and leave.

  Look at it
    {:<52} the portal through the waiting room; here nobody waits
    {:<52} its protected part; you wait about half a minute
    {:<52} your place as a page without script
    {:<52} the board: what everybody may know of the line
    {:<52} metrics, for operators
    {:<52} the bare portal, without a waiting room

  Play with it, in another terminal
    Pause the line:  curl http://{operators}/admin/v1/rooms/{ROOM}/state -d '{{"state":"hold"}}' \
                       -H "Authorization: Bearer $(cat {token})"
    Let it go on:    the same with "open"
    No script:       switch JavaScript off in your browser; the line works all the same

  Ctrl-C ends it.
"#,
        format!("http://{entrance}/"),
        format!("http://{entrance}/bonus/"),
        format!("http://{entrance}/.waiting-room/line?room={ROOM}"),
        format!("http://{entrance}/.waiting-room/board/{ROOM}"),
        format!("http://{operators}/metrics"),
        format!("http://{portal}/bonus/"),
    )
}

/// Tells every few seconds how it goes, for ever.
async fn report(lane: &LaneMetrics) {
    let mut entered_before = lane.admissions.get();
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let entered = lane.admissions.get();
        println!("{}", progress(lane.waiting.get(), entered - entered_before, entered));
        entered_before = entered;
    }
}

fn progress(waiting: i64, just_entered: u64, entered: u64) -> String {
    let mut line = format!("{waiting:>4} waiting");
    let per_second = just_entered as f64 / REPORT_EVERY.as_secs_f64();
    // Writing to a text cannot fail.
    let _ = write!(line, "   {per_second:.1} entered per second (limit {RATE})   {entered} have entered so far");
    line
}

/// A directory for keys and state that goes away with this value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Folder, Failed> {
        let mark = u64::from_be_bytes(entropy::bytes()?);
        let path = std::env::temp_dir().join(format!("anticamera-demo-{mark:016x}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Folder(path)),
            Err(error) => Err(Failed::Folder { path: path.display().to_string(), error }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_no_faults() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let config = config::parse(&configuration(a, b, c), Path::new("/nowhere")).expect("a good configuration");
        assert_eq!(config.rooms.len(), 1);
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    }

    #[test]
    fn the_folder_goes_away() {
        let folder = Folder::create().expect("a folder");
        let path = folder.0.clone();
        std::fs::write(path.join("file"), "text").expect("a file");
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn progress_is_told_per_second() {
        assert_eq!(progress(41, 10, 130), "  41 waiting   2.0 entered per second (limit 2)   130 have entered so far");
    }
}
