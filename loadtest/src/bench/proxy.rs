//! Proxied requests of a visitor inside, ours and nginx's by turns: A B A B ...

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::header::{ACCEPT, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::LocalSet;

use super::nginx::{self, AccessLog};
use super::side::{Side, Turns, by_turns, pid_of};
use super::wrk::Ask;
use crate::clock::Clock;
use crate::connection_pool::ConnectionPool;
use crate::cookies::Cookies;
use crate::free_port::free_addresses;
use crate::portal::PORTAL_MARK;
use crate::stage::{filled_in, start_proxy};
use crate::{Context, Failure, Outcome};

const ROOM: &str = "bench";
pub(super) const PAGE: &str = "/bench/page";
/// Until then the room must have let us in.
const ENTRY_LIMIT: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[server]
listen = ["{listen}"]
threads = 1

[portal]
url = "http://{portal}"

[admin]
listen = "{admin}"
token_file = "{dir}/admin-token"

[tokens]
key_dir = "{dir}/keys"

[store]
path = "{dir}/state"

[log]
access = {access}

[[room]]
name = "bench"
paths = ["/bench/**"]
start = "/bench/page"
admission_rate = "1000/s"

{more}
"#;

/// Arguments of `loadtest bench proxy`.
#[derive(Clone, Debug, Args)]
pub struct ProxyArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    #[command(flatten)]
    turns: Turns,
    /// Log every request, on both sides.
    #[arg(long)]
    access_log: bool,
}

/// Starts both sides, measures them by turns, prints the medians and the ratio.
pub(super) async fn bench(arguments: ProxyArguments) -> Outcome<()> {
    let clock = Clock::new();
    let directory = TempDir::new().context(|| "make a directory")?;
    let [portal_at, nginx_at, ours_at, admin_at] = free_addresses()?;
    let portal = nginx::start_portal(portal_at, directory.path(), &clock).await?;
    let log = if arguments.access_log { AccessLog::On } else { AccessLog::Off };
    let peer = nginx::start_proxy(nginx_at, portal_at, log, directory.path(), &clock).await?;
    let places = [("{listen}", ours_at), ("{portal}", portal_at), ("{admin}", admin_at)];
    let ours = start_ours(&arguments.proxy, &places, Extras { log, more: "" }, directory.path(), &clock).await;
    let done = match ours {
        Ok(ours) => compare(&arguments.turns, (ours_at, &ours), (nginx_at, &peer), &clock).await,
        Err(fault) => Err(fault),
    };
    nginx::end(peer).await;
    nginx::end(portal).await;
    done
}

/// What differs between configurations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extras {
    /// Whether each request is logged.
    pub(super) log: AccessLog,
    /// More lines of the configuration.
    pub(super) more: &'static str,
}

/// Starts our proxy on these places (`{listen}` first) with a room that lets everybody in.
///
/// # Errors
/// When it does not listen.
pub(super) async fn start_ours(
    program: &Path,
    places: &[(&str, SocketAddr); 3],
    extras: Extras,
    directory: &Path,
    clock: &Clock,
) -> Outcome<Child> {
    let mut values: Vec<(&str, String)> = places.iter().map(|(name, at)| (*name, at.to_string())).collect();
    values.push(("{dir}", directory.display().to_string()));
    values.push(("{access}", (extras.log == AccessLog::On).to_string()));
    values.push(("{more}", extras.more.to_owned()));
    let file = directory.join("config.toml");
    std::fs::write(&file, filled_in(CONFIG, &values)).context(|| file.display().to_string())?;
    let [(_, listen), ..] = places;
    start_proxy(program, &file, directory, *listen, clock).await
}

async fn compare(turns: &Turns, ours: (SocketAddr, &Child), peer: (SocketAddr, &Child), clock: &Clock) -> Outcome<()> {
    let pass = LocalSet::new().run_until(enter(ours.0, clock)).await?;
    let ask = Ask::Page { path: PAGE, cookie: Some(pass) };
    let sides = [
        Side::new("anticamera", ours.0, ask.clone(), pid_of(ours.1)?),
        Side::new("nginx", peer.0, ask, pid_of(peer.1)?),
    ];
    by_turns(sides, turns).await
}

/// Enters the room as a visitor, and returns the `Cookie` header with the pass.
///
/// # Errors
/// When nobody is let in.
pub(super) async fn enter(address: SocketAddr, clock: &Clock) -> Outcome<String> {
    let pool = ConnectionPool::new(address, 1);
    let mut cookies = Cookies::default();
    let limit = clock.now() + ENTRY_LIMIT;
    while clock.now() < limit {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = http::Uri::from_static(PAGE);
        let headers = request.headers_mut();
        headers.insert(HOST, address.to_string().parse().context(|| "address")?);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
        if let Some(kept) = cookies.header() {
            headers.insert(http::header::COOKIE, kept.parse().context(|| "cookie")?);
        }
        let received = pool.send(request).await.context(|| "enter the room")?;
        cookies.take(&received.headers, ROOM);
        let let_in = received.status == StatusCode::OK && received.headers.contains_key(PORTAL_MARK);
        if let (true, Some(_), Some(header)) = (let_in, cookies.pass(), cookies.header()) {
            return Ok(header);
        }
        clock.sleep_until(clock.now() + Duration::from_millis(200)).await;
    }
    Err(Failure::new(format!("the room {ROOM} let nobody in, or gave no pass, within {ENTRY_LIMIT:?}")))
}
