//! What the shared store adds: the program alone with a file of its own, and several nodes on one Redis, by turns. Then one
//! long line over the nodes: what it takes, how long a start takes, and what those who wait see when the leader is killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request};
use serde::Serialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::LocalSet;

use super::joined::{JOIN, fill};
use super::medians::Spread;
use super::nginx::{self, Front};
use super::ours::{ROOM, Room, Setup};
use super::paced::{Pace, latencies_of, page, poll};
use super::side::{Turns, pid_of};
use crate::clock::Clock;
use crate::free_port::free_addresses;
use crate::measures::Figures;
use crate::process::{usage, usage_alone};
use crate::stage::until_listening;
use crate::{Context, Failure, Outcome};

/// A room in which nobody waits.
const OPEN: &str = r#"
[[room]]
name = "open"
paths = ["/open/**"]
start = "/open/page"
admission_rate = "1000/s"
joins_per_client = "unlimited"
joins_in_all = "unlimited"
requests_per_pass = "unlimited"
requests_at_once_per_pass = 0
"#;
const OPEN_PAGE: &str = "/open/page";

/// Visitors who wait while joins and polls are measured.
const SOME: usize = 3_000;
/// Whoever takes the lead must have done so by then.
const LEAD_LIMIT: Duration = Duration::from_secs(10);
/// How often is looked who leads.
const LOOK: Duration = Duration::from_millis(20);

/// Arguments of `loadtest bench store`.
#[derive(Clone, Debug, Args)]
pub struct StoreArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    /// The server, as a program: Redis or Valkey.
    #[arg(long, default_value = "redis-server")]
    server: PathBuf,
    /// How many nodes share the line.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How many wait in the long line. A million takes some minutes to join.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: usize,
    /// Polls a second, of all nodes together.
    #[arg(long, default_value_t = 3_000.0)]
    pace: f64,
    /// Joins a second, and entries without a line, of all nodes together.
    #[arg(long, default_value_t = 150.0)]
    joins: f64,
    #[command(flatten)]
    turns: Turns,
}

/// One running program with its addresses.
struct Node {
    process: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    directory: PathBuf,
}

/// Several programs that keep one line, or one with its own.
struct Side {
    name: &'static str,
    nodes: Vec<Node>,
    polls: Vec<Pace>,
    rows: Rows,
}

/// Latencies run by run.
#[derive(Default, Serialize)]
struct Rows {
    joins: Vec<Figures>,
    entries: Vec<Figures>,
    polls: Vec<Figures>,
}

/// What the server did in a second while polls came in.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Commands {
    scripts: f64,
    reads: f64,
    cpu_percent: f64,
}

/// The server of the shared store.
struct Server {
    process: Child,
    address: SocketAddr,
}

/// The long line.
#[derive(Serialize)]
struct LongLine {
    waiting: usize,
    joined_per_second: f64,
    started_ms: Vec<u64>,
    resident_mib: Vec<u64>,
    server_mib: u64,
    polls: Vec<Figures>,
    cpu_us_a_poll: Vec<f64>,
    another_leads_after_ms: u64,
    polls_at_the_others: Figures,
}

/// Measures both, fills the long line and prints the tables.
pub(super) async fn bench(arguments: StoreArguments) -> Outcome<()> {
    let clock = Clock::new();
    let directory = TempDir::new().context(|| "make a directory")?;
    let [portal_at] = free_addresses()?;
    let portal = nginx::start_portal(portal_at, directory.path(), &clock).await?;
    let done = measured(&arguments, portal_at, directory.path(), &clock).await;
    nginx::end(portal).await;
    done
}

async fn measured(arguments: &StoreArguments, portal: SocketAddr, directory: &Path, clock: &Clock) -> Outcome<()> {
    let (span, nodes) = (Duration::from_secs(arguments.turns.seconds), arguments.nodes.max(1));
    let server = Server::start(&arguments.server, directory, clock).await?;
    let shared = format!("kind = \"valkey\"\nurl = \"redis://{}\"", server.address);
    let mut sides = Vec::new();
    for (name, store, count) in [("a file of its own", None, 1), ("shared", Some(shared.as_str()), nodes)] {
        let home = directory.join(name.replace(' ', "-"));
        let nodes = start_nodes(arguments, portal, store, count, &home, clock).await?;
        let polls = filled(&nodes, SOME, arguments.pace).await?;
        sides.push(Side { name, nodes, polls, rows: Rows::default() });
    }
    let mut commands = Vec::new();
    for run in 1..=arguments.turns.runs {
        for side in &mut sides {
            side.rows.joins.push(side.new_visitors(Method::POST, JOIN, arguments.joins, span).await?);
            side.rows.entries.push(side.new_visitors(Method::GET, OPEN_PAGE, arguments.joins, span).await?);
            let before = server.counted().await?;
            let polls = latencies_of(&side.polls, span).await.context(|| "polls")?;
            if side.nodes.len() == nodes && side.name == "shared" {
                commands.push(server.counted().await?.since(before, polls.count as f64 / arguments.pace));
            }
            side.rows.polls.push(polls);
            eprintln!("run {run}  {}", side.name);
        }
    }
    conclude(&sides, &commands);
    for side in sides.drain(..1) {
        end(side.nodes).await;
    }
    let mut kept = None;
    if let Some(side) = sides.pop() {
        let rows = side.rows;
        let line = long_line(arguments, portal, &shared, (side.nodes, &server), clock).await?;
        conclude_line(&line);
        kept = Some((rows, line));
    }
    if let (Some(file), Some((rows, line))) = (&arguments.turns.json, kept) {
        let all = serde_json::json!({ "shared": rows, "commands": commands, "long_line": line });
        std::fs::write(file, serde_json::to_vec_pretty(&all).context(|| "figures")?)
            .context(|| file.display().to_string())?;
    }
    nginx::end(server.process).await;
    Ok(())
}

/// Starts nodes that have the same keys.
async fn start_nodes(
    arguments: &StoreArguments,
    portal: SocketAddr,
    store: Option<&str>,
    count: usize,
    home: &Path,
    clock: &Clock,
) -> Outcome<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..count {
        let directory = home.join(number.to_string());
        std::fs::create_dir_all(&directory).context(|| directory.display().to_string())?;
        if let Some(first) = nodes.first() {
            copy_keys(&first.directory.join("keys"), &directory.join("keys"))?;
        }
        let [listen, admin] = free_addresses()?;
        let process = start(arguments, (listen, admin), portal, store, &directory, clock).await?;
        nodes.push(Node { process, listen, admin, directory });
    }
    Ok(nodes)
}

async fn start(
    arguments: &StoreArguments,
    (listen, admin): (SocketAddr, SocketAddr),
    portal: SocketAddr,
    store: Option<&str>,
    directory: &Path,
    clock: &Clock,
) -> Outcome<Child> {
    let new = Setup { more: OPEN, ..Setup::new(Front::plain(listen), portal, Room::Full) };
    let setup = Setup { store: store.unwrap_or(new.store), ..new };
    setup.start_with_admin(admin, &arguments.proxy, directory, clock).await
}

fn copy_keys(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::create_dir_all(to).context(|| to.display().to_string())?;
    for file in std::fs::read_dir(from).context(|| from.display().to_string())? {
        let file = file.context(|| from.display().to_string())?;
        // With its permissions: a key that others can read is refused.
        std::fs::copy(file.path(), to.join(file.file_name())).context(|| file.path().display().to_string())?;
    }
    Ok(())
}

/// Lets visitors join at all nodes at once; each polls at the node after the one where it joined.
async fn filled(nodes: &[Node], visitors: usize, per_second: f64) -> Outcome<Vec<Pace>> {
    let share = visitors.div_ceil(nodes.len());
    let all = async {
        let joining: Vec<_> = nodes
            .iter()
            .map(|node| (node.listen, node.directory.clone()))
            .map(|(at, directory)| tokio::task::spawn_local(async move { fill(at, share, &directory).await }))
            .collect();
        let mut lines = Vec::new();
        for line in joining {
            lines.push(line.await.context(|| "join")??.cookies);
        }
        Ok::<_, Failure>(lines)
    };
    let lines = LocalSet::new().run_until(all).await?;
    let elsewhere = nodes.iter().cycle().skip(1);
    lines
        .iter()
        .zip(elsewhere)
        .map(|(cookies, node)| {
            let requests =
                cookies.iter().map(|cookie| poll(node.listen, cookie)).collect::<Outcome<Rc<[Request<Bytes>]>>>()?;
            Ok(Pace { address: node.listen, requests, per_second: per_second / nodes.len() as f64 })
        })
        .collect()
}

impl Side {
    /// People who come for the first time, each to the next node.
    async fn new_visitors(
        &self,
        method: Method,
        path: &'static str,
        per_second: f64,
        span: Duration,
    ) -> Outcome<Figures> {
        let paces = self.nodes.iter().map(|node| {
            let mut request = page(node.listen, path, "")?;
            request.headers_mut().remove(http::header::COOKIE);
            if method == Method::POST {
                *request.body_mut() = Bytes::from_static(b"{}");
                let json = http::HeaderValue::from_static("application/json");
                request.headers_mut().insert(http::header::ACCEPT, json.clone());
                request.headers_mut().insert(http::header::CONTENT_TYPE, json);
            }
            *request.method_mut() = method.clone();
            Ok(Pace {
                address: node.listen,
                requests: [request].into(),
                per_second: per_second / self.nodes.len() as f64,
            })
        });
        latencies_of(&paces.collect::<Outcome<Vec<_>>>()?, span).await.context(|| path)
    }
}

async fn end(nodes: Vec<Node>) {
    for node in nodes {
        nginx::end(node.process).await;
    }
}

async fn long_line(
    arguments: &StoreArguments,
    portal: SocketAddr,
    store: &str,
    (mut nodes, server): (Vec<Node>, &Server),
    clock: &Clock,
) -> Outcome<LongLine> {
    eprintln!("{} visitors join", arguments.waiting);
    let began = clock.now();
    let polls = filled(&nodes, arguments.waiting, arguments.pace).await?;
    let joined_per_second = arguments.waiting as f64 / clock.now().since(began).as_secs_f64();
    // Started again, all count as present, although joining took longer than anybody stays silent.
    let mut places = Vec::new();
    for node in nodes.drain(..) {
        nginx::end(node.process).await;
        places.push((node.listen, node.admin, node.directory));
    }
    let mut started_ms = Vec::new();
    for (listen, admin, directory) in places {
        let began = clock.now();
        let process = start(arguments, (listen, admin), portal, Some(store), &directory, clock).await?;
        started_ms.push(u64::try_from(clock.now().since(began).as_millis()).unwrap_or(u64::MAX));
        nodes.push(Node { process, listen, admin, directory });
    }
    leader_of(&nodes, clock).await?;
    let pids = nodes.iter().map(|node| pid_of(&node.process)).collect::<Outcome<Vec<_>>>()?;
    let mib = |pid: u32| Ok::<_, Failure>(usage_alone(pid)?.resident_kib / 1024);
    let resident_mib = pids.iter().map(|pid| mib(*pid)).collect::<Outcome<Vec<_>>>()?;
    let span = Duration::from_secs(arguments.turns.seconds);
    let cpu_ms = || -> Outcome<u64> { pids.iter().map(|pid| Ok(usage(*pid)?.cpu_ms)).sum() };
    let (mut figures, mut cpu_us_a_poll) = (Vec::new(), Vec::new());
    for _ in 0..arguments.turns.runs {
        let rested_from = cpu_ms()?;
        clock.sleep_until(clock.now() + span).await;
        let busy_from = cpu_ms()?;
        let run = latencies_of(&polls, span).await.context(|| "polls")?;
        let (busy, rest) = (cpu_ms()? - busy_from, busy_from - rested_from);
        cpu_us_a_poll.push(busy.saturating_sub(rest) as f64 * 1000.0 / run.count.max(1) as f64);
        figures.push(run);
    }
    let server_mib = mib(pid_of(&server.process)?)?;
    let leader = leader_of(&nodes, clock).await?;
    let mut killed = nodes.remove(leader);
    let at_others: Vec<Pace> = polls.into_iter().filter(|pace| pace.address != killed.listen).collect();
    let kill = async {
        clock.sleep_until(clock.now() + span / 2).await;
        killed.process.kill().await.context(|| "kill the leader")?;
        let began = clock.now();
        leader_of(&nodes, clock).await?;
        Ok::<_, Failure>(clock.now().since(began))
    };
    let (polls_at_the_others, took) = tokio::join!(latencies_of(&at_others, span * 2), kill);
    let line = LongLine {
        waiting: arguments.waiting,
        joined_per_second,
        started_ms,
        resident_mib,
        server_mib,
        polls: figures,
        cpu_us_a_poll,
        another_leads_after_ms: u64::try_from(took?.as_millis()).unwrap_or(u64::MAX),
        polls_at_the_others: polls_at_the_others?,
    };
    end(nodes).await;
    Ok(line)
}

/// The node that leads, as soon as one does.
async fn leader_of(nodes: &[Node], clock: &Clock) -> Outcome<usize> {
    let leads = format!("anticamera_leads{{room=\"{ROOM}\"}} 1");
    let limit = clock.now() + LEAD_LIMIT;
    while clock.now() < limit {
        for (number, node) in nodes.iter().enumerate() {
            let asked = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
            if said(node.admin, asked).await?.lines().any(|line| line == leads) {
                return Ok(number);
            }
        }
        clock.sleep_until(clock.now() + LOOK).await;
    }
    Err(Failure::new(format!("no node leads within {LEAD_LIMIT:?}")))
}

/// What is answered until the other side closes.
async fn said(address: SocketAddr, words: &str) -> Outcome<String> {
    let asked = || format!("ask {address}");
    let mut stream = TcpStream::connect(address).await.context(asked)?;
    stream.write_all(words.as_bytes()).await.context(asked)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context(asked)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What a server has done since it started.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    scripts: u64,
    reads: u64,
    cpu_ms: u64,
}

impl Counted {
    fn since(self, before: Counted, seconds: f64) -> Commands {
        let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
        Commands {
            scripts: each(self.scripts, before.scripts),
            reads: each(self.reads, before.reads),
            cpu_percent: each(self.cpu_ms, before.cpu_ms) / 10.0,
        }
    }
}

impl Server {
    async fn start(program: &Path, directory: &Path, clock: &Clock) -> Outcome<Server> {
        let [address] = free_addresses()?;
        let mut process = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"])
            .arg(directory)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context(|| format!("start {} (Debian's package is redis-server)", program.display()))?;
        until_listening(&mut process, address, clock).await.context(|| "the server of the shared store")?;
        Ok(Server { process, address })
    }

    async fn counted(&self) -> Outcome<Counted> {
        let stats = said(self.address, "INFO commandstats\r\nQUIT\r\n").await?;
        let calls = |command: &str| calls_of(command, &stats);
        let cpu_ms = usage_alone(pid_of(&self.process)?)?.cpu_ms;
        Ok(Counted { scripts: calls("evalsha") + calls("eval"), reads: calls("xread"), cpu_ms })
    }
}

/// `cmdstat_evalsha:calls=12,usec=...`
fn calls_of(command: &str, stats: &str) -> u64 {
    let prefix = format!("cmdstat_{command}:calls=");
    let digits = stats.lines().find_map(|line| line.strip_prefix(&prefix)?.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Which of the latencies.
type RunsOf = fn(&Rows) -> &Vec<Figures>;

fn conclude(sides: &[Side], commands: &[Commands]) {
    println!("| | store | p50 | p99 | longest |");
    println!("|---|---|---|---|---|");
    let rows: [(&str, RunsOf); 3] = [
        ("a join", |rows| &rows.joins),
        ("an entry where nobody waits", |rows| &rows.entries),
        ("a poll", |rows| &rows.polls),
    ];
    for (what, of) in rows {
        for side in sides {
            let median = |figure: fn(&Figures) -> f64| Spread::of(of(&side.rows).iter().map(figure)).median;
            let (p50, p99, max) = (median(|run| run.p50_ms), median(|run| run.p99_ms), median(|run| run.max_ms));
            println!("| {what} | {} | {p50:.2} ms | {p99:.2} ms | {max:.2} ms |", side.name);
        }
    }
    let median = |figure: fn(&Commands) -> f64| Spread::of(commands.iter().map(figure)).median;
    let nodes = sides.last().map_or(1, |side| side.nodes.len());
    println!(
        "\nThe server of {nodes} nodes does {:.0} scripts and {:.0} reads a second while polls come in, with {:.1} % of a core.",
        median(|each| each.scripts),
        median(|each| each.reads),
        median(|each| each.cpu_percent)
    );
}

fn conclude_line(line: &LongLine) {
    let median = |figure: fn(&Figures) -> f64| Spread::of(line.polls.iter().map(figure)).median;
    println!(
        "\n{} visitors over {} nodes: {:.0} joins a second; started again in {:?} ms; {:?} MiB resident, the server {} MiB.",
        line.waiting,
        line.resident_mib.len(),
        line.joined_per_second,
        line.started_ms,
        line.resident_mib,
        line.server_mib
    );
    println!(
        "A poll takes {:.2} ms (p50), {:.2} ms (p99), {:.1} us of CPU. The leader is killed: another leads {} ms later, and \
        polls at the others take {:.2} ms (p99), {:.2} ms at most.",
        median(|run| run.p50_ms),
        median(|run| run.p99_ms),
        Spread::of(line.cpu_us_a_poll.iter().copied()).median,
        line.another_leads_after_ms,
        line.polls_at_the_others.p99_ms,
        line.polls_at_the_others.max_ms
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_the_servers_statistics() {
        let stats = "# Commandstats\r\ncmdstat_evalsha:calls=120,usec=5\r\ncmdstat_xread:calls=7,usec=1\r\n";
        assert_eq!((calls_of("evalsha", stats), calls_of("xread", stats), calls_of("eval", stats)), (120, 7, 0));
        let later = Counted { scripts: 140, reads: 7, cpu_ms: 500 };
        let each = later.since(Counted { scripts: 120, reads: 7, cpu_ms: 0 }, 2.0);
        assert_eq!((each.scripts, each.reads, each.cpu_percent), (10.0, 0.0, 25.0));
    }
}
