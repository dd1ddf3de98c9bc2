//! What a poll costs in lines of different lengths, by turns, and what a ticket takes in memory.
//!
//! Visitors join each line over the wire; then the program is started again with that state, so that after the long
//! time this took everybody still counts as present. All polls are sent at the same pace: a ticket may be asked for once
//! a second only, so that a short line cannot keep the program busy. What it does without any poll is taken off.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Request;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::LocalSet;

use super::instructions;
use super::joined::fill;
use super::medians::Spread;
use super::nginx::{self, Front};
use super::ours::{PAGE, Room, Setup};
use super::paced::{Pace, latencies, poll};
use super::side::{Turns, pid_of};
use crate::clock::Clock;
use crate::free_port::free_addresses;
use crate::process::usage;
use crate::{Context, Outcome};

/// The longest and the shortest line may differ by this share.
const FLAT_WITHIN: f64 = 0.15;
/// Bytes a ticket: not to be exceeded, and wished for.
const TICKET_BYTES: (f64, f64) = (6.7, 4.5);

/// Arguments of `loadtest bench line`.
#[derive(Clone, Debug, Args)]
pub struct LineArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    /// How many wait. A million takes about a minute to join, ten million ten.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    waiting: Vec<usize>,
    /// Polls a second.
    #[arg(long, default_value_t = 3_000.0)]
    pace: f64,
    /// Also count the instructions of a poll and of the page in user space, by Valgrind's callgrind: they are nearly the same each time.
    #[arg(long)]
    instructions: bool,
    #[command(flatten)]
    turns: Turns,
}

/// A line and the program that keeps it.
struct Waiting {
    visitors: usize,
    ours: Child,
    pace: Pace,
    started_kib: u64,
    cpu_us: Vec<f64>,
    p99_ms: Vec<f64>,
    idle_percent: f64,
    _directory: TempDir,
}

/// Fills the lines, measures polls by turns and prints the table.
pub(super) async fn bench(arguments: LineArguments) -> Outcome<()> {
    let clock = Clock::new();
    let span = Duration::from_secs(arguments.turns.seconds);
    let mut lines = Vec::new();
    for visitors in &arguments.waiting {
        eprintln!("{visitors} visitors join");
        lines.push(filled(&arguments, *visitors, &clock).await?);
    }
    for run in 1..=arguments.turns.runs {
        for line in &mut lines {
            line.measure(span, &clock).await?;
            let cpu = line.cpu_us.last().copied().unwrap_or_default();
            eprintln!(
                "run {run}  {:>9} waiting  {cpu:.1} us a poll, {:.1} % of a core without any",
                line.visitors, line.idle_percent
            );
        }
    }
    conclude(&lines, &arguments.turns)?;
    for line in lines {
        nginx::end(line.ours).await;
    }
    Ok(())
}

async fn filled(arguments: &LineArguments, visitors: usize, clock: &Clock) -> Outcome<Waiting> {
    let program = &arguments.proxy;
    let directory = TempDir::new().context(|| "make a directory")?;
    let [listen, portal] = free_addresses()?;
    let setup = Setup::new(Front::plain(listen), portal, Room::Full);
    let ours = setup.start(program, directory.path(), clock).await?;
    let line = LocalSet::new().run_until(fill(listen, visitors, directory.path())).await?;
    nginx::end(ours).await;
    let requests = polls(listen, &line.cookies)?;
    if arguments.instructions {
        let counting = instructions::counting(program, directory.path())?;
        let page = instructions::page(listen, PAGE, "a=b")?;
        for (name, requests) in [("a poll", &*requests), ("the waiting page", std::slice::from_ref(&page))] {
            let ours = setup.start(&counting, directory.path(), clock).await?;
            let count = instructions::count(ours, listen, requests, directory.path());
            let count = LocalSet::new().run_until(count).await?;
            println!("{visitors} waiting: {count:.0} instructions for {name} in user space");
        }
    }
    let ours = setup.start(program, directory.path(), clock).await?;
    clock.sleep_until(clock.now() + Duration::from_secs(1)).await;
    let started_kib = usage(pid_of(&ours)?)?.resident_kib;
    Ok(Waiting {
        visitors,
        ours,
        pace: Pace { address: listen, requests, per_second: arguments.pace },
        started_kib,
        cpu_us: Vec::new(),
        p99_ms: Vec::new(),
        idle_percent: 0.0,
        _directory: directory,
    })
}

fn polls(address: SocketAddr, cookies: &[String]) -> Outcome<Rc<[Request<Bytes>]>> {
    cookies.iter().map(|cookie| poll(address, cookie)).collect()
}

impl Waiting {
    async fn measure(&mut self, span: Duration, clock: &Clock) -> Outcome<()> {
        let pid = pid_of(&self.ours)?;
        let idle_from = usage(pid)?.cpu_ms;
        clock.sleep_until(clock.now() + span).await;
        let busy_from = usage(pid)?.cpu_ms;
        let figures = latencies(&self.pace, span).await?;
        let busy_to = usage(pid)?.cpu_ms;
        let idle = busy_from.saturating_sub(idle_from) as f64;
        let busy = busy_to.saturating_sub(busy_from) as f64;
        self.idle_percent = idle / span.as_secs_f64() / 10.0;
        self.cpu_us.push((busy - idle).max(0.0) * 1000.0 / figures.count.max(1) as f64);
        self.p99_ms.push(figures.p99_ms);
        Ok(())
    }
}

fn conclude(lines: &[Waiting], turns: &Turns) -> Outcome<()> {
    println!("| waiting | CPU a poll | polls/s a core | p99 | without polls | MiB after the start | bytes a ticket |");
    println!("|---|---|---|---|---|---|---|");
    let smallest = lines.iter().min_by_key(|line| line.visitors);
    let mut medians = Vec::new();
    for line in lines {
        let cpu = Spread::of(line.cpu_us.iter().copied());
        medians.push(cpu.median);
        let more = smallest.filter(|smallest| smallest.visitors * 10 <= line.visitors).map(|smallest| {
            let bytes = line.started_kib.saturating_sub(smallest.started_kib) as f64 * 1024.0;
            bytes / (line.visitors - smallest.visitors) as f64
        });
        println!(
            "| {} | {:.1} µs ({:.1} to {:.1}) | {:.0} | {:.2} ms | {:.1} % of a core | {} | {} |",
            line.visitors,
            cpu.median,
            cpu.least,
            cpu.most,
            1e6 / cpu.median.max(0.001),
            Spread::of(line.p99_ms.iter().copied()).median,
            line.idle_percent,
            line.started_kib / 1024,
            more.map_or_else(String::new, |bytes| format!("{bytes:.1}"))
        );
    }
    let (least, most) = medians.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), cpu| (a.min(*cpu), b.max(*cpu)));
    println!(
        "\nThe dearest poll costs {:.0} % more than the cheapest (must: at most {:.0} %); a ticket must not take more than {} bytes (aim: {}).",
        (most / least - 1.0) * 100.0,
        FLAT_WITHIN * 100.0,
        TICKET_BYTES.0,
        TICKET_BYTES.1
    );
    match &turns.json {
        Some(file) => {
            let rows: Vec<_> = lines
                .iter()
                .map(|line| {
                    serde_json::json!({
                        "waiting": line.visitors, "cpu_us": line.cpu_us, "p99_ms": line.p99_ms,
                        "idle_percent": line.idle_percent, "started_kib": line.started_kib,
                    })
                })
                .collect();
            let json = serde_json::to_vec_pretty(&rows).context(|| "figures")?;
            std::fs::write(file, json).context(|| file.display().to_string())
        }
        None => Ok(()),
    }
}
