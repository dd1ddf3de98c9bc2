//! Sets the stage for a scenario: starts a stand-in portal and the proxy under test with the scenario's configuration,
//! on free loopback ports and in a directory of their own, and clears everything away at the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::clock::Clock;
use crate::free_port::free_addresses;
use crate::portal::Addresses;
use crate::scenario::Scenario;
use crate::{Context, Failure, Outcome};

/// A started program must listen within this time.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Programs that run for a scenario; dropping it ends them.
#[derive(Debug)]
pub struct Stage {
    /// Where visitors reach the proxy.
    pub proxy_address: SocketAddr,
    /// Where the portal is controlled.
    pub portal_control: SocketAddr,
    /// The proxy's configuration file.
    pub config: PathBuf,
    proxy: Child,
    _portal: Child,
    _directory: Directory,
}

/// What becomes of the proxy's directory (configuration, state, `proxy.log`) at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// It is removed.
    Remove,
    /// It stays, for whoever wants to know what happened.
    Keep,
}

#[derive(Debug)]
enum Directory {
    Passing(TempDir),
    Lasting(PathBuf),
}

impl Directory {
    fn make(leftovers: Leftovers) -> Outcome<Directory> {
        let directory = TempDir::new().context(|| "make a directory")?;
        Ok(match leftovers {
            Leftovers::Remove => Directory::Passing(directory),
            Leftovers::Keep => Directory::Lasting(directory.keep()),
        })
    }

    fn path(&self) -> &Path {
        match self {
            Directory::Passing(directory) => directory.path(),
            Directory::Lasting(path) => path,
        }
    }
}

impl Stage {
    /// Starts a portal, and `program` with the scenario's configuration (see [`crate::scenario::Proxy`]).
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn set(program: &Path, scenario: &Scenario, leftovers: Leftovers, clock: &Clock) -> Outcome<Stage> {
        let config = scenario.proxy.as_ref().ok_or_else(|| Failure::new("the scenario has no [proxy] config"))?;
        let (portal, addresses) = start_portal().await?;
        let directory = Directory::make(leftovers)?;
        let [listen, admin] = free_addresses()?;
        let file = directory.path().join("config.toml");
        let text = filled_in(
            &config.config,
            &[
                ("{listen}", listen.to_string()),
                ("{admin}", admin.to_string()),
                ("{portal}", format!("http://{}", addresses.portal)),
                ("{login}", format!("http://{}/__portal/login", addresses.control)),
                ("{dir}", directory.path().display().to_string()),
                ("{opens_at}", time_after(scenario.opens_after.unwrap_or_default().0).await?),
            ],
        );
        std::fs::write(&file, text).context(|| file.display().to_string())?;
        let proxy = start_proxy(program, &file, directory.path(), listen, clock).await?;
        Ok(Stage {
            proxy_address: listen,
            portal_control: addresses.control,
            config: file,
            proxy,
            _portal: portal,
            _directory: directory,
        })
    }

    /// The proxy's process, while it runs.
    pub fn proxy_pid(&self) -> Option<u32> {
        self.proxy.id()
    }
}

/// The time of day so long from now, as RFC 3339 writes it.
async fn time_after(span: Duration) -> Outcome<String> {
    let when = format!("+{} seconds", span.as_secs());
    let output = Command::new("date").args(["--utc", "--date", &when, "+%Y-%m-%dT%H:%M:%S+00:00"]).output().await;
    let output = output.context(|| "start date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Fills texts in for their place holders.
pub fn filled_in(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (holder, value)| text.replace(holder, value))
}

/// Starts the proxy with a configuration file, in `directory`, its log there as `proxy.log`, and waits until it listens.
///
/// # Errors
/// When it cannot be started, or does not listen; then with its log.
pub async fn start_proxy(
    program: &Path,
    config: &Path,
    directory: &Path,
    listen: SocketAddr,
    clock: &Clock,
) -> Outcome<Child> {
    let log_file = directory.join("proxy.log");
    let log = std::fs::File::create(&log_file).context(|| "proxy.log")?;
    let errors = log.try_clone().context(|| "proxy.log")?;
    let program = std::path::absolute(program).context(|| program.display().to_string())?;
    let mut proxy = Command::new(&program)
        .args(["run", "--config"])
        .arg(config)
        .current_dir(directory)
        .stdout(log)
        .stderr(errors)
        .kill_on_drop(true)
        .spawn()
        .context(|| format!("start {}", program.display()))?;
    let listening = until_listening(&mut proxy, listen, clock).await;
    listening.map_err(|fault| {
        let said = std::fs::read_to_string(&log_file).unwrap_or_default();
        Failure::new(format!("{}: {fault}\n{said}", program.display()))
    })?;
    Ok(proxy)
}

/// Waits until somebody listens at `address`.
///
/// # Errors
/// When the process ends before, or time is up.
pub async fn until_listening(process: &mut Child, address: SocketAddr, clock: &Clock) -> Outcome<()> {
    let limit = clock.now() + START_LIMIT;
    while clock.now() < limit {
        if TcpStream::connect(address).await.is_ok() {
            return Ok(());
        }
        if let Some(status) = process.try_wait().context(|| "process")? {
            return Err(Failure::new(format!("ended instead of listening at {address}: {status}")));
        }
        clock.sleep_until(clock.now() + Duration::from_millis(20)).await;
    }
    Err(Failure::new(format!("does not listen at {address} within {START_LIMIT:?}")))
}

async fn start_portal() -> Outcome<(Child, Addresses)> {
    let program = std::env::current_exe().context(|| "find this program")?;
    let mut portal = Command::new(program)
        .arg("portal")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context(|| "start the portal")?;
    let output = portal.stdout.take().ok_or_else(|| Failure::new("the portal has no output"))?;
    let line = BufReader::new(output).lines().next_line().await.context(|| "start the portal")?;
    let addresses = serde_json::from_str(&line.unwrap_or_default()).context(|| "the portal's addresses")?;
    Ok((portal, addresses))
}
