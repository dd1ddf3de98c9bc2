//! The whole table: ours beside nginx and HAProxy in every case, by turns, as medians and ratios with what is demanded.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::LocalSet;

use super::cases::{ALL, Case, Demand, Scheme, Work};
use super::haproxy;
use super::joined::{JOIN, Line, both_names, fill};
use super::medians::Spread;
use super::nginx::{self, AccessLog, Front};
use super::ours::{PAGE, Room, Setup, enter};
use super::paced::{Pace, latencies, page};
use super::side::{Figures, Side, Turns, figures_by_turns, pid_of};
use super::tls::Certificate;
use super::wrk::Ask;
use crate::clock::Clock;
use crate::free_port::free_addresses;
use crate::process::usage;
use crate::{Context, Failure, Outcome};

/// The case that is not about CPU time: latency at half of what the slower one can do.
const LATENCY: &str = "latency-1k";
/// Idle connections that are opened to see what one takes.
const IDLE: usize = 2_000;
/// Until what was used before has gone back to the system; until all have had their first answer, and that likewise.
const IDLE_SETTLES: Duration = Duration::from_secs(15);
/// Bytes of an upload.
const UPLOAD: usize = 1 << 20;
/// Connections in use at once while uploading.
const UPLOADERS: usize = 16;

/// Arguments of `loadtest bench all`.
#[derive(Clone, Debug, Args)]
pub struct AllArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    /// Only the case of this name, or where there is none all those whose names contain it; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// Log every request of visitors inside, ours and nginx. HAProxy, which writes no log file itself, is left out then.
    #[arg(long)]
    access_log: bool,
    /// Visitors in line where polls are measured. Each may ask once a second and ten times at once: too few are told to
    /// slow down.
    #[arg(long, default_value_t = 40_000)]
    visitors: usize,
    #[command(flatten)]
    turns: Turns,
}

/// A row of the result.
#[derive(Clone, Debug, Serialize)]
struct Row {
    case: &'static str,
    figures: Vec<Figures>,
    /// KiB a connection, or milliseconds beyond the portal's own, where that is what is compared.
    values: Vec<(&'static str, Spread)>,
    #[serde(skip)]
    demand: Option<Demand>,
    #[serde(skip)]
    of: &'static str,
    /// What is held against the demand.
    figure: Option<f64>,
}

/// Measures all cases and prints the table.
pub(super) async fn bench(arguments: AllArguments) -> Outcome<()> {
    let wanted = |name: &str| is_wanted(name, &arguments.only);
    let cases: Vec<&Case> = ALL.iter().filter(|case| wanted(case.name)).collect();
    let mut rows = Vec::new();
    for workers in [1, 2] {
        let of_visitors_inside = |case: &&&Case| case.workers == workers && !waits(case);
        let inside: Vec<&Case> = cases.iter().filter(of_visitors_inside).copied().collect();
        let with_latency = workers == 1 && wanted(LATENCY);
        if !inside.is_empty() || with_latency {
            let stage = Stage::set(&arguments, Peers::Proxies, workers).await?;
            let done = inside_rows(&stage, &inside, with_latency, &arguments.turns).await;
            stage.clear().await;
            rows.extend(done?);
        }
    }
    let waiting: Vec<&Case> = cases.iter().filter(|case| waits(case)).copied().collect();
    if !waiting.is_empty() {
        let stage = Stage::set(&arguments, Peers::Answers, 1).await?;
        let done = waiting_rows(&stage, &waiting, &arguments.turns).await;
        stage.clear().await;
        rows.extend(done?);
    }
    print(&rows, &arguments.turns);
    match &arguments.turns.json {
        Some(file) => {
            let json = serde_json::to_vec_pretty(&rows).context(|| "figures")?;
            std::fs::write(file, json).context(|| file.display().to_string())
        }
        None => Ok(()),
    }
}

fn is_wanted(name: &str, only: &[String]) -> bool {
    let is_a_name = |part: &String| part == LATENCY || ALL.iter().any(|case| case.name == part);
    only.is_empty() || only.iter().any(|part| if is_a_name(part) { name == part } else { name.contains(part.as_str()) })
}

fn waits(case: &Case) -> bool {
    matches!(case.work, Work::Page | Work::Poll | Work::Join)
}

/// What the peers do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    /// They are reverse proxies, as ours.
    Proxies,
    /// nginx gives the cheapest answers it can, and a line waits at ours.
    Answers,
}

/// A program and where it is.
struct Running {
    name: &'static str,
    child: Child,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Running {
    fn at(&self, scheme: Scheme) -> SocketAddr {
        if scheme == Scheme::Plain { self.plain } else { self.tls }
    }
}

/// All programs of a comparison, ours first.
struct Stage {
    programs: Vec<Running>,
    portal: Child,
    portal_at: SocketAddr,
    line: Option<Line>,
    directory: TempDir,
    clock: Clock,
}

impl Stage {
    async fn set(arguments: &AllArguments, peers: Peers, workers: usize) -> Outcome<Stage> {
        let clock = Clock::new();
        let directory = TempDir::new().context(|| "make a directory")?;
        let path = directory.path();
        let [portal_at, plain, tls, nginx_plain, nginx_tls, haproxy_plain, haproxy_tls] = free_addresses()?;
        let certificate = Certificate::make(path).await?;
        let portal = nginx::start_portal(portal_at, path, &clock).await?;
        let (room, log) = match peers {
            Peers::Proxies if arguments.access_log => (Room::Open, AccessLog::On),
            Peers::Proxies => (Room::Open, AccessLog::Off),
            Peers::Answers => (Room::Full, AccessLog::Off),
        };
        let front = Front { plain, tls: Some((tls, &certificate)), workers };
        let setup = Setup { log, ..Setup::new(front, portal_at, room) };
        let ours = setup.start(&arguments.proxy, path, &clock).await?;
        let mut programs = vec![Running { name: "anticamera", child: ours, plain, tls }];
        let front = Front { plain: nginx_plain, tls: Some((nginx_tls, &certificate)), workers };
        let mut line = None;
        let nginx = match peers {
            Peers::Proxies => nginx::start_proxy(front, portal_at, log, path, &clock).await?,
            Peers::Answers => {
                let filled = LocalSet::new().run_until(fill(plain, arguments.visitors, path)).await?;
                let nginx = nginx::start_answers(front, &filled.answer, path, &clock).await?;
                line = Some(filled);
                nginx
            }
        };
        programs.push(Running { name: "nginx", child: nginx, plain: nginx_plain, tls: nginx_tls });
        if peers == Peers::Proxies && log == AccessLog::Off {
            let places = haproxy::Places { plain: haproxy_plain, tls: haproxy_tls, portal: portal_at };
            let child = haproxy::start(places, workers, &certificate, path, &clock).await?;
            programs.push(Running { name: "haproxy", child, plain: haproxy_plain, tls: haproxy_tls });
        }
        Ok(Stage { programs, portal, portal_at, line, directory, clock })
    }

    async fn clear(self) {
        for running in self.programs {
            nginx::end(running.child).await;
        }
        nginx::end(self.portal).await;
    }

    fn ours(&self) -> Outcome<&Running> {
        self.programs.first().ok_or_else(|| Failure::new("nothing runs"))
    }

    /// The same question to all.
    fn sides(&self, scheme: Scheme, ask: &Ask) -> Outcome<Vec<Side>> {
        let side = |running: &Running| {
            Ok(Side::new(running.name, running.at(scheme), ask.clone(), pid_of(&running.child)?).over(scheme))
        };
        self.programs.iter().map(side).collect()
    }

    fn script(&self, name: &str, text: &str) -> Outcome<Ask> {
        let file = self.directory.path().join(name);
        std::fs::write(&file, text).context(|| name.to_owned())?;
        Ok(Ask::Script(file))
    }
}

async fn inside_rows(stage: &Stage, cases: &[&Case], latency: bool, turns: &Turns) -> Outcome<Vec<Row>> {
    let pass = LocalSet::new().run_until(enter(stage.ours()?.plain, &stage.clock)).await?;
    let cookie = both_names(&pass);
    let mut rows = Vec::new();
    for case in cases {
        eprintln!("{}", case.name);
        let row = match case.work {
            Work::Idle => idle_row(stage, case, &cookie, turns).await,
            Work::Upload => {
                let few = Turns { connections: UPLOADERS, ..turns.clone() };
                let ask = stage.script("upload.lua", &upload(&cookie))?;
                cpu_row(case, stage.sides(case.scheme, &ask)?, &few).await
            }
            Work::NewConnection => {
                let ask = stage.script("new-connection.lua", &page_script("/bench/1k", &cookie, "close"))?;
                cpu_row(case, stage.sides(case.scheme, &ask)?, turns).await
            }
            Work::Proxied(path) => {
                let ask = Ask::Page { path, cookie: Some(cookie.clone()) };
                cpu_row(case, stage.sides(case.scheme, &ask)?, turns).await
            }
            Work::Page | Work::Poll | Work::Join => continue,
        };
        rows.push(row.context(|| case.name)?);
    }
    if latency {
        eprintln!("{LATENCY}");
        rows.push(latency_row(stage, &cookie, turns).await.context(|| LATENCY)?);
    }
    Ok(rows)
}

async fn waiting_rows(stage: &Stage, cases: &[&Case], turns: &Turns) -> Outcome<Vec<Row>> {
    let line = stage.line.as_ref().ok_or_else(|| Failure::new("nobody waits"))?;
    let mut rows = Vec::new();
    for case in cases {
        eprintln!("{}", case.name);
        let sides = match case.work {
            Work::Page => page_sides(stage, case.scheme)?,
            Work::Join => stage.sides(case.scheme, &stage.script("join.lua", &join_script())?)?,
            _ => {
                let ask = Ask::Polls { script: line.polls.clone(), cookies: line.cookies.clone() };
                stage.sides(case.scheme, &ask)?
            }
        };
        rows.push(cpu_row(case, sides, turns).await.context(|| case.name)?);
    }
    Ok(rows)
}

fn page_sides(stage: &Stage, scheme: Scheme) -> Outcome<Vec<Side>> {
    let side = |running: &Running| {
        let path = if running.name == "nginx" { "/file" } else { PAGE };
        let ask = Ask::Page { path, cookie: None };
        Ok(Side::new(running.name, running.at(scheme), ask, pid_of(&running.child)?).over(scheme))
    };
    stage.programs.iter().map(side).collect()
}

async fn cpu_row(case: &Case, sides: Vec<Side>, turns: &Turns) -> Outcome<Row> {
    let figures = figures_by_turns(sides, turns).await?;
    let figure = match figures.as_slice() {
        [ours, nginx, ..] => Some(ours.cpu_us.median / nginx.cpu_us.median),
        _ => None,
    };
    Ok(Row { case: case.name, figures, values: Vec::new(), demand: case.demand, of: "CPU, ratio to nginx", figure })
}

/// Opens connections that ask once, and sees by how much each program has grown.
async fn idle_row(stage: &Stage, case: &Case, cookie: &str, turns: &Turns) -> Outcome<Row> {
    let script = stage.script("idle.lua", &idle_script(&page_script("/bench/1k", cookie, "keep-alive")))?;
    let Ask::Script(file) = script else { return Err(Failure::new("no script")) };
    let mut values = Vec::new();
    for running in &stage.programs {
        let pid = pid_of(&running.child)?;
        stage.clock.sleep_until(stage.clock.now() + IDLE_SETTLES).await;
        let before = usage(pid)?.resident_kib;
        let protocol = if case.scheme == Scheme::Plain { "http" } else { "https" };
        let mut wrk = Command::new("wrk")
            .args(["--threads", "1", "--connections", &IDLE.to_string(), "--duration", "60s", "--script"])
            .arg(&file)
            .arg(format!("{protocol}://{}/", running.at(case.scheme)))
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context(|| "start wrk (Debian's package is wrk)")?;
        stage.clock.sleep_until(stage.clock.now() + IDLE_SETTLES).await;
        let after = usage(pid)?.resident_kib;
        // Ending wrk closes its connections.
        let _ = wrk.kill().await;
        let each = after.saturating_sub(before) as f64 / IDLE as f64;
        eprintln!("{:<16} {each:.1} KiB a connection", running.name);
        values.push((running.name, Spread::of(std::iter::once(each))));
    }
    let _ = turns;
    let figure = values.first().map(|(_, each)| each.median);
    Ok(Row { case: case.name, figures: Vec::new(), values, demand: case.demand, of: "KiB a connection", figure })
}

/// p99 beyond the portal's own, at half of what the slower program can do.
async fn latency_row(stage: &Stage, cookie: &str, turns: &Turns) -> Outcome<Row> {
    let ask = Ask::Page { path: "/bench/1k", cookie: Some(cookie.to_owned()) };
    let once = Turns { runs: 1, ..turns.clone() };
    let two: Vec<Side> = stage.sides(Scheme::Plain, &ask)?.into_iter().take(2).collect();
    let saturation = figures_by_turns(two, &once).await?;
    let slowest = saturation.iter().map(|figures| figures.requests_per_second.median).fold(f64::INFINITY, f64::min);
    let mut beyond: Vec<(&'static str, Vec<f64>)> =
        stage.programs.iter().map(|running| (running.name, Vec::new())).collect();
    let pace = |address| -> Outcome<Pace> {
        let requests = [page(address, "/bench/1k", cookie)?].into();
        Ok(Pace { address, requests, per_second: slowest / 2.0 })
    };
    let span = Duration::from_secs(turns.seconds);
    for run in 1..=turns.runs {
        let direct = latencies(&pace(stage.portal_at)?, span).await?.p99_ms;
        for (running, (name, found)) in stage.programs.iter().zip(&mut beyond) {
            let p99 = latencies(&pace(running.plain)?, span).await?.p99_ms;
            eprintln!(
                "run {run}  {name:<16} p99 {p99:.2} ms at {:.0}/s, the portal's own {direct:.2} ms",
                slowest / 2.0
            );
            found.push((p99 - direct).max(0.0));
        }
    }
    let values: Vec<(&'static str, Spread)> =
        beyond.into_iter().map(|(name, found)| (name, Spread::of(found.into_iter()))).collect();
    let figure = match values.as_slice() {
        [(_, ours), (_, nginx), ..] => Some(ours.median / nginx.median),
        _ => None,
    };
    let demand = Some(Demand { must: 1.0, aim: 0.8 });
    Ok(Row { case: LATENCY, figures: Vec::new(), values, demand, of: "p99 less the portal's, ms", figure })
}

fn page_script(path: &str, cookie: &str, connection: &str) -> String {
    format!(
        "wrk.path = '{path}'\nwrk.headers['Cookie'] = '{cookie}'\nwrk.headers['Accept'] = 'text/html'\n\
        wrk.headers['Accept-Language'] = 'it'\nwrk.headers['Connection'] = '{connection}'\n"
    )
}

/// Every connection asks once, one a millisecond, and then not before the end: what two thousand requests at the same
/// moment take is another figure.
fn idle_script(page: &str) -> String {
    format!(
        "{page}local asked = 0\nfunction delay()\n  asked = asked + 1\n  if asked <= {IDLE} then return asked end\n  return 3600000\nend\n"
    )
}

fn upload(cookie: &str) -> String {
    let page = page_script("/bench/upload", cookie, "keep-alive");
    format!(
        "{page}wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/octet-stream'\n\
        wrk.headers['Sec-Fetch-Site'] = 'same-origin'\nwrk.body = string.rep('x', {UPLOAD})\n"
    )
}

fn join_script() -> String {
    format!(
        "wrk.method = 'POST'\nwrk.path = '{JOIN}'\nwrk.body = '{{}}'\nwrk.headers['Content-Type'] = 'application/json'\n\
        wrk.headers['Accept'] = 'application/json'\nwrk.headers['Sec-Fetch-Site'] = 'same-origin'\n"
    )
}

/// The table, as Markdown.
fn print(rows: &[Row], turns: &Turns) {
    println!("Medians of {} runs of {} s by turns (least to most).\n", turns.runs, turns.seconds);
    println!("| case | what | anticamera | nginx | HAProxy | ratio | must | aim | |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let (must, aim, verdict) = match (row.demand, row.figure) {
            (Some(demand), Some(figure)) => {
                (format!("{:.2}", demand.must), format!("{:.2}", demand.aim), demand.verdict(figure))
            }
            _ => (String::new(), String::new(), ""),
        };
        let figure = row.figure.map_or_else(String::new, |figure| format!("{figure:.2}"));
        println!(
            "| {} | {} | {} | {figure} | {must} | {aim} | {verdict} |",
            row.case,
            row.of,
            (0..3).map(|n| cell(row, n)).collect::<Vec<_>>().join(" | ")
        );
    }
    println!("\n| case | requests/s | p50 ms | p99 ms | MiB resident |");
    println!("|---|---|---|---|---|");
    for (case, figures) in rows.iter().flat_map(|row| row.figures.iter().map(move |figures| (row.case, figures))) {
        println!(
            "| {case}, {} | {:.0} | {:.2} | {:.2} | {} |",
            figures.name,
            figures.requests_per_second.median,
            figures.p50_ms.median,
            figures.p99_ms.median,
            figures.resident_kib / 1024
        );
    }
}

fn cell(row: &Row, n: usize) -> String {
    let spread =
        |spread: &Spread, unit: &str| format!("{:.1}{unit} ({:.1} to {:.1})", spread.median, spread.least, spread.most);
    match (row.figures.get(n), row.values.get(n)) {
        (Some(figures), _) => spread(&figures.cpu_us, " µs"),
        (None, Some((_, value))) => spread(value, ""),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_chosen_by_its_name_and_several_by_a_part() {
        let chosen = |only: &str| {
            let names = ALL.iter().map(|case| case.name).chain([LATENCY]);
            names.filter(|name| is_wanted(name, &[only.to_owned()])).count()
        };
        assert_eq!((chosen("poll"), chosen("proxied-1k"), chosen(LATENCY), chosen("nothing")), (1, 1, 1, 0));
        assert_eq!((chosen("poll-"), chosen("http2")), (2, 4));
        assert!(is_wanted("page", &[]));
    }
}
