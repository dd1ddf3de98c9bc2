//! Proxied requests of a visitor inside, ours and nginx's by turns: A B A B ...

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::header::{ACCEPT, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::LocalSet;

use super::medians::Spread;
use super::nginx::{self, AccessLog};
use super::wrk::{Load, wrk};
use crate::clock::Clock;
use crate::connection_pool::ConnectionPool;
use crate::cookies::Cookies;
use crate::free_port::free_addresses;
use crate::portal::PORTAL_MARK;
use crate::process::usage;
use crate::stage::{filled_in, start_proxy};
use crate::{Context, Failure, Outcome};

const ROOM: &str = "bench";
const PAGE: &str = "/bench/page";
const WARM_UP: Duration = Duration::from_secs(1);
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
"#;

/// Arguments of `loadtest bench proxy`.
#[derive(Clone, Debug, Args)]
pub struct ProxyArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long each time, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Log every request, on both sides.
    #[arg(long)]
    access_log: bool,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One measurement of one side.
#[derive(Clone, Copy, Debug)]
struct Measurement {
    cpu_us: f64,
    load: Load,
}

/// One side of the comparison, running.
struct Side {
    name: &'static str,
    address: SocketAddr,
    cookie: Option<String>,
    pid: u32,
    measurements: Vec<Measurement>,
}

/// A side's figures.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    name: &'static str,
    cpu_us_per_request: Spread,
    requests_per_second: Spread,
    p50_ms: Spread,
    p99_ms: Spread,
    resident_kib: u64,
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
    let ours = start_ours(&arguments.proxy, &places, log, directory.path(), &clock).await;
    let done = match ours {
        Ok(ours) => compare(&arguments, (ours_at, &ours), (nginx_at, &peer), &clock).await,
        Err(fault) => Err(fault),
    };
    nginx::end(peer).await;
    nginx::end(portal).await;
    done
}

async fn start_ours(
    program: &Path,
    places: &[(&str, SocketAddr); 3],
    log: AccessLog,
    directory: &Path,
    clock: &Clock,
) -> Outcome<Child> {
    let mut values: Vec<(&str, String)> = places.iter().map(|(name, at)| (*name, at.to_string())).collect();
    values.push(("{dir}", directory.display().to_string()));
    values.push(("{access}", (log == AccessLog::On).to_string()));
    let file = directory.join("config.toml");
    std::fs::write(&file, filled_in(CONFIG, &values)).context(|| file.display().to_string())?;
    let [(_, listen), ..] = places;
    start_proxy(program, &file, directory, *listen, clock).await
}

async fn compare(
    arguments: &ProxyArguments,
    ours: (SocketAddr, &Child),
    peer: (SocketAddr, &Child),
    clock: &Clock,
) -> Outcome<()> {
    let pass = LocalSet::new().run_until(enter(ours.0, clock)).await?;
    let pid = |child: &Child| child.id().ok_or_else(|| Failure::new("a program has ended"));
    let mut sides = [
        Side {
            name: "anticamera",
            address: ours.0,
            cookie: Some(pass.clone()),
            pid: pid(ours.1)?,
            measurements: Vec::new(),
        },
        Side { name: "nginx", address: peer.0, cookie: Some(pass), pid: pid(peer.1)?, measurements: Vec::new() },
    ];
    for side in &sides {
        wrk(side.address, PAGE, side.cookie.as_deref(), arguments.connections, WARM_UP).await.context(|| side.name)?;
    }
    for run in 1..=arguments.runs {
        for side in &mut sides {
            let measurement = measure(side, arguments).await.context(|| side.name)?;
            eprintln!(
                "run {run}  {:<12} {:>6.1} us a request, {:>8.0} requests/s",
                side.name, measurement.cpu_us, measurement.load.per_second
            );
            side.measurements.push(measurement);
        }
    }
    conclude(&sides, arguments)
}

/// Enters the room as a visitor, and returns the `Cookie` header with the pass.
async fn enter(address: SocketAddr, clock: &Clock) -> Outcome<String> {
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

async fn measure(side: &Side, arguments: &ProxyArguments) -> Outcome<Measurement> {
    let before = usage(side.pid)?;
    let span = Duration::from_secs(arguments.seconds);
    let load = wrk(side.address, PAGE, side.cookie.as_deref(), arguments.connections, span).await?;
    let cpu_ms = usage(side.pid)?.cpu_ms.saturating_sub(before.cpu_ms);
    Ok(Measurement { cpu_us: cpu_ms as f64 * 1000.0 / load.requests.max(1) as f64, load })
}

fn conclude(sides: &[Side; 2], arguments: &ProxyArguments) -> Outcome<()> {
    let [ours, peer] = sides.each_ref().map(figures);
    for figures in [&ours, &peer] {
        let cpu = figures.cpu_us_per_request;
        println!(
            "{:<12} {:>6.1} us CPU a request ({:.1} to {:.1})   {:>8.0} requests/s   p50 {:.2} ms   p99 {:.2} ms   {} KiB resident",
            figures.name,
            cpu.median,
            cpu.least,
            cpu.most,
            figures.requests_per_second.median,
            figures.p50_ms.median,
            figures.p99_ms.median,
            figures.resident_kib
        );
    }
    let ratio = |of: fn(&Figures) -> Spread| of(&ours).median / of(&peer).median;
    println!(
        "ratio        CPU a request {:.2}   requests/s {:.2}   p99 {:.2}   (anticamera to nginx, medians of {} runs of {} s by turns)",
        ratio(|figures| figures.cpu_us_per_request),
        ratio(|figures| figures.requests_per_second),
        ratio(|figures| figures.p99_ms),
        arguments.runs,
        arguments.seconds
    );
    match &arguments.json {
        Some(file) => {
            let json = serde_json::to_vec_pretty(&[ours, peer]).context(|| "figures")?;
            std::fs::write(file, json).context(|| file.display().to_string())
        }
        None => Ok(()),
    }
}

fn figures(side: &Side) -> Figures {
    let spread = |of: fn(&Measurement) -> f64| Spread::of(side.measurements.iter().map(of));
    Figures {
        name: side.name,
        cpu_us_per_request: spread(|measurement| measurement.cpu_us),
        requests_per_second: spread(|measurement| measurement.load.per_second),
        p50_ms: spread(|measurement| measurement.load.p50_ms),
        p99_ms: spread(|measurement| measurement.load.p99_ms),
        resident_kib: usage(side.pid).map_or(0, |usage| usage.resident_kib),
    }
}
