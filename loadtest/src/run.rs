//! `loadtest run`: sends a scenario's visitors to a waiting room and judges what they met.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::LocalSet;

use crate::arrival::arrivals;
use crate::clock::{Clock, Moment};
use crate::connection_pool::ConnectionPool;
use crate::crowd::{Crowd, House, Stop};
use crate::events::Stagehand;
use crate::findings::{Ended, Findings, ProxyUsage};
use crate::portal_control::PortalControl;
use crate::process::{Usage, usage, usage_alone};
use crate::report::Report;
use crate::request::Target;
use crate::scenario::{CrowdOf, Scenario, Who};
use crate::stage::{Leftovers, Stage};
use crate::timeline::Timeline;
use crate::visitor::{Manner, Origin, Rules, Visitor};
use crate::work::Work;
use crate::{Context, Failure, Outcome, html, progress};

/// From the waiting page's arrival to its script's first request.
const PAGE_LOAD: Duration = Duration::from_millis(50);
/// The server holds polls of the last stretch: five seconds' worth, at least 16, at most 4,096 tickets. Twice that, to
/// be sure that a poll of somebody further away is never held.
const NEAR_SECONDS: f64 = 10.0;
const NEAR: (f64, f64) = (32.0, 8192.0);

/// Arguments of `loadtest run`.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The scenario, a TOML file.
    scenario: PathBuf,
    /// The proxy to test, running already, such as `http://127.0.0.1:8080`.
    #[arg(long, required_unless_present = "proxy")]
    target: Option<String>,
    /// The proxy to test, as a program: it and a portal are started with the scenario's own configuration.
    #[arg(long, conflicts_with_all = ["target", "portal", "config", "pid"])]
    proxy: Option<PathBuf>,
    /// The stand-in portal's (control) address: entries are then measured there.
    #[arg(long)]
    portal: Option<String>,
    /// The running proxy's configuration file, for scenarios that change it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The running proxy's process, to measure its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Keeps the directory in which `--proxy` runs, with its configuration, state and log.
    #[arg(long, requires = "proxy")]
    keep: bool,
    /// Where to write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to write the result as a page with plots.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Plays the short form: fewer visitors in less time, at the same rates.
    #[arg(long)]
    short: bool,
    /// Connections to the proxy at most.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
}

/// Where a scenario plays.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The proxy.
    pub proxy: SocketAddr,
    /// The portal's control address.
    pub portal: Option<SocketAddr>,
    /// The proxy's configuration file.
    pub config: Option<PathBuf>,
    /// The proxy's process.
    pub pid: Option<u32>,
    /// Connections at most.
    pub connections: usize,
}

/// Runs a scenario as the arguments say, prints its report, and returns it.
///
/// # Errors
/// When it could not be run; a bad result is none.
pub async fn run(arguments: RunArguments) -> Outcome<Report> {
    let scenario = Scenario::read(&arguments.scenario)?;
    let scenario = if arguments.short { scenario.shortened() } else { scenario.whole() };
    let clock = Clock::new();
    let stage = match &arguments.proxy {
        Some(program) => Some(set_stage(program, &scenario, leftovers(&arguments), &clock).await?),
        None => None,
    };
    let scene = match &stage {
        Some(stage) => scene_of(stage, &arguments),
        None => scene_named(&arguments).await?,
    };
    let report = LocalSet::new().run_until(play(&scenario, &scene, clock)).await?;
    println!("{report}");
    if let Some(file) = &arguments.json {
        let json = serde_json::to_vec_pretty(&report).context(|| "report")?;
        std::fs::write(file, json).context(|| file.display().to_string())?;
    }
    if let Some(file) = &arguments.html {
        std::fs::write(file, html::page(&report)).context(|| file.display().to_string())?;
    }
    Ok(report)
}

async fn set_stage(program: &Path, scenario: &Scenario, leftovers: Leftovers, clock: &Clock) -> Outcome<Stage> {
    let stage = Stage::set(program, scenario, leftovers, clock).await?;
    if leftovers == Leftovers::Keep {
        eprintln!("configuration {}", stage.config.display());
    }
    Ok(stage)
}

fn leftovers(arguments: &RunArguments) -> Leftovers {
    if arguments.keep { Leftovers::Keep } else { Leftovers::Remove }
}

fn scene_of(stage: &Stage, arguments: &RunArguments) -> Scene {
    Scene {
        proxy: stage.proxy_address,
        portal: Some(stage.portal_control),
        config: Some(stage.config.clone()),
        pid: stage.proxy_pid(),
        connections: arguments.connections,
    }
}

async fn scene_named(arguments: &RunArguments) -> Outcome<Scene> {
    let target = arguments.target.as_deref().ok_or_else(|| Failure::new("name the proxy with --target"))?;
    let portal = match &arguments.portal {
        Some(portal) => Some(address(portal).await?),
        None => None,
    };
    Ok(Scene {
        proxy: address(target).await?,
        portal,
        config: arguments.config.clone(),
        pid: arguments.pid,
        connections: arguments.connections,
    })
}

async fn address(url: &str) -> Outcome<SocketAddr> {
    let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let mut found = tokio::net::lookup_host(authority).await.context(|| url.to_owned())?;
    found.next().ok_or_else(|| Failure::new(format!("{url}: no address")))
}

/// Plays a scenario. Must run within a `LocalSet`.
///
/// # Errors
/// When it cannot be played to the end; a bad result is none.
pub async fn play(scenario: &Scenario, scene: &Scene, clock: Clock) -> Outcome<Report> {
    let portal = scene.portal.map(PortalControl::new);
    if let Some(portal) = &portal {
        portal.forget().await?;
    }
    let before = scene.pid.map(usage).transpose()?;
    let own_before = usage_alone(std::process::id())?;
    let start = clock.now();
    let crowd = crowd(scenario, scene, start, clock)?;
    let timeline = watch_over(&crowd, scenario, scene, portal.clone(), start, clock).await?;
    let own_after = usage_alone(std::process::id())?;

    let reached = match &portal {
        Some(portal) => Some(portal.record(&clock).await?),
        None => None,
    };
    let enough = scenario.stop_after_entries.is_some_and(|n| crowd.measures().counts.entered >= n);
    let ended = if enough { Ended::Enough } else { Ended::AsPlanned };
    let mut findings = Findings::of(&crowd, reached.as_deref(), scenario, start, ended);
    if let (Some(before), Some(pid)) = (before, scene.pid) {
        let requests = findings.counts.requests;
        let peak = timeline.samples().iter().map(|sample| sample.proxy_kib).max().unwrap_or(0);
        findings.proxy = Some(ProxyUsage::between(before, usage(pid)?, peak, requests));
    }
    findings.longest_line = timeline.samples().iter().map(|sample| sample.waiting).max().unwrap_or(0);
    findings.tester = Usage {
        cpu_ms: own_after.cpu_ms - own_before.cpu_ms,
        system_ms: own_after.system_ms - own_before.system_ms,
        resident_kib: timeline.samples().iter().map(|sample| sample.own_kib).max().unwrap_or(own_after.resident_kib),
    };
    let checks = scenario.expect.check(&findings);
    let rates = scenario.rates();
    Ok(Report { title: scenario.title.clone(), rates, findings, checks, timeline: timeline.samples().to_vec() })
}

fn crowd(scenario: &Scenario, scene: &Scene, start: Moment, clock: Clock) -> Outcome<Rc<Crowd>> {
    let authority = scene.proxy.to_string();
    let journey = scenario.journey();
    let near = (scenario.fastest_rate().in_seconds() * NEAR_SECONDS).clamp(NEAR.0, NEAR.1);
    let house = House {
        target: Target::new(&authority, &scenario.own_path, &scenario.room, &scenario.page, &journey)?
            .seen_from(scenario.addresses),
        rules: Rules {
            journey: Rc::new(journey),
            page_load: PAGE_LOAD,
            retry: retry(scenario),
            order_slack: scenario.order_slack.0,
        },
        room: scenario.room.clone(),
        near: near as u64,
        honest: scenario.crowd.iter().map(|crowd| crowd.who.is_honest()).collect(),
        work: scenario.crowd.iter().map(|crowd| crowd.work).collect(),
    };
    let pool = ConnectionPool::new(scene.proxy, scene.connections);
    Ok(Crowd::new(clock, house, pool, visitors(scenario, start)))
}

fn retry(scenario: &Scenario) -> (Duration, Duration) {
    let [least, most] = scenario.retry;
    (least.0, most.0)
}

/// All visitors, with everything they will do drawn from the scenario's seed.
fn visitors(scenario: &Scenario, start: Moment) -> Vec<Visitor> {
    let mut chance = SmallRng::seed_from_u64(scenario.seed);
    let mut visitors = Vec::with_capacity(scenario.visitors());
    for (number, crowd) in scenario.crowd.iter().enumerate() {
        for (n, at) in arrivals(crowd.visitors, crowd.over.0, crowd.curve, &mut chance).into_iter().enumerate() {
            let mark = u32::try_from(visitors.len()).unwrap_or(u32::MAX);
            let visitor = Visitor::new(mark, start + crowd.from.0 + at, crowd.habits.draw(&mut chance));
            let origin = Origin {
                crowd: u8::try_from(number).unwrap_or(u8::MAX),
                address: shared_address(crowd, n).unwrap_or(visitor.address()),
            };
            visitors.push(somebody(visitor, origin, crowd, &scenario.room));
        }
    }
    visitors
}

/// The address of a crowd's n-th visitor, if they have no address of their own.
fn shared_address(crowd: &CrowdOf, n: usize) -> Option<Ipv4Addr> {
    let place = u32::try_from(n).unwrap_or(0) % crowd.addresses.max(1);
    crowd.first_address.map(|first| Ipv4Addr::from(u32::from(first).wrapping_add(place)))
}

fn somebody(visitor: Visitor, origin: Origin, crowd: &CrowdOf, room: &str) -> Visitor {
    let every = crowd.every.0;
    match crowd.who {
        Who::People | Who::Hoarders if crowd.work == Work::Insist => visitor.who(origin, Manner::Insistent { every }),
        Who::People => visitor.who(origin, Manner::Person),
        Who::Hoarders => visitor.who(origin, Manner::Hoarder),
        Who::Bots => visitor.who(origin, Manner::Bot { every }),
        Who::Forgers => visitor.who(origin, Manner::Forger { every }).with_forged_cookies(room),
    }
}

/// Lets the crowd act while events happen and progress is shown; returns the samples taken.
async fn watch_over(
    crowd: &Rc<Crowd>,
    scenario: &Scenario,
    scene: &Scene,
    portal: Option<PortalControl>,
    start: Moment,
    clock: Clock,
) -> Outcome<Timeline> {
    let stop = Stop { at: start + scenario.limit.0, after_entries: scenario.stop_after_entries };
    let stagehand = Stagehand { crowd: Rc::clone(crowd), portal, config: scene.config.clone() };
    let events = async {
        let done = stagehand.perform(&scenario.event, start, &clock).await;
        if done.is_ok() { std::future::pending().await } else { done }
    };
    let timeline = RefCell::new(Timeline::default());
    tokio::select! {
        () = crowd.act(stop) => Ok(()),
        failed = events => failed,
        () = progress::show(Rc::clone(crowd), &timeline, scene.pid, clock, start) => Ok(()),
    }?;
    timeline.borrow_mut().take(crowd, scene.pid, start, clock.now());
    Ok(timeline.into_inner())
}
