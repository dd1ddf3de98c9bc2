//! Two sides of a comparison, measured by turns: A B A B ... Only what each one's own process uses counts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::process::Child;

use super::cases::Scheme;
use super::h2load::{Polls, h2load, poll};
use super::medians::Spread;
use super::wrk::{Ask, Load, wrk};
use crate::process::usage;
use crate::{Context, Failure, Outcome};

const WARM_UP: Duration = Duration::from_secs(1);

/// How often and how long is measured, and where the figures go.
#[derive(Clone, Debug, Args)]
pub(super) struct Turns {
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    pub(super) runs: usize,
    /// How long each time, in seconds.
    #[arg(long, default_value_t = 5)]
    pub(super) seconds: u64,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    pub(super) connections: usize,
    /// Where to write the figures as JSON.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
}

/// One measurement of one side.
#[derive(Clone, Copy, Debug)]
struct Measurement {
    cpu_us: f64,
    system_us: f64,
    load: Load,
}

/// One side of the comparison, running.
#[derive(Debug)]
pub(super) struct Side {
    name: &'static str,
    address: SocketAddr,
    scheme: Scheme,
    ask: Ask,
    pid: u32,
    measurements: Vec<Measurement>,
}

/// A side's figures; CPU time in microseconds a request.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) name: &'static str,
    pub(super) cpu_us: Spread,
    /// Run by run, in order.
    pub(super) cpu_us_by_run: Vec<f64>,
    pub(super) system_us: Spread,
    pub(super) requests_per_second: Spread,
    pub(super) p50_ms: Spread,
    pub(super) p99_ms: Spread,
    pub(super) resident_kib: u64,
}

impl Side {
    /// A side that was started.
    pub(super) fn new(name: &'static str, address: SocketAddr, ask: Ask, pid: u32) -> Side {
        Side { name, address, scheme: Scheme::Plain, ask, pid, measurements: Vec::new() }
    }

    /// The same, asked in another way.
    pub(super) fn over(self, scheme: Scheme) -> Side {
        Side { scheme, ..self }
    }

    async fn load(&self, connections: usize, span: Duration) -> Outcome<Load> {
        match (&self.ask, self.scheme) {
            (Ask::Polls { cookies, .. }, Scheme::Http2) => {
                poll(&Polls { address: self.address, cookies: cookies.clone() }, span).await
            }
            (Ask::Page { path, cookie }, Scheme::Http2) => {
                h2load(self.address, path, cookie.as_deref(), connections, span).await
            }
            (ask, scheme) => wrk(self.address, scheme, ask, connections, span).await,
        }
    }

    async fn measure(&mut self, turns: &Turns) -> Outcome<Measurement> {
        let before = usage(self.pid)?;
        let load = self.load(turns.connections, Duration::from_secs(turns.seconds)).await?;
        let after = usage(self.pid)?;
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 * 1000.0 / load.requests.max(1) as f64;
        let (cpu_us, system_us) = (each(before.cpu_ms, after.cpu_ms), each(before.system_ms, after.system_ms));
        Ok(Measurement { cpu_us, system_us, load })
    }

    fn figures(&self) -> Figures {
        let spread = |of: fn(&Measurement) -> f64| Spread::of(self.measurements.iter().map(of));
        Figures {
            name: self.name,
            cpu_us: spread(|measurement| measurement.cpu_us),
            cpu_us_by_run: self.measurements.iter().map(|measurement| measurement.cpu_us).collect(),
            system_us: spread(|measurement| measurement.system_us),
            requests_per_second: spread(|measurement| measurement.load.per_second),
            p50_ms: spread(|measurement| measurement.load.p50_ms),
            p99_ms: spread(|measurement| measurement.load.p99_ms),
            resident_kib: usage(self.pid).map_or(0, |usage| usage.resident_kib),
        }
    }
}

/// The process that was started.
///
/// # Errors
/// When it has ended.
pub(super) fn pid_of(child: &Child) -> Outcome<u32> {
    child.id().ok_or_else(|| Failure::new("a program has ended"))
}

/// Measures ours and its peers by turns, prints the medians and their ratios, and returns them.
///
/// # Errors
/// When one of them answers with errors.
pub(super) async fn by_turns(sides: Vec<Side>, turns: &Turns) -> Outcome<Vec<Figures>> {
    let figures = figures_by_turns(sides, turns).await?;
    conclude(&figures, turns);
    if let Some(file) = &turns.json {
        let json = serde_json::to_vec_pretty(&figures).context(|| "figures")?;
        std::fs::write(file, json).context(|| file.display().to_string())?;
    }
    Ok(figures)
}

/// Measures sides by turns: A B A B ...
///
/// # Errors
/// When one of them answers with errors.
pub(super) async fn figures_by_turns(mut sides: Vec<Side>, turns: &Turns) -> Outcome<Vec<Figures>> {
    for side in &sides {
        side.load(turns.connections, WARM_UP).await.context(|| side.name)?;
    }
    for run in 1..=turns.runs {
        for side in &mut sides {
            let measurement = side.measure(turns).await.context(|| side.name)?;
            eprintln!(
                "run {run}  {:<16} {:>6.1} us a request ({:.1} of them in the kernel), {:>8.0} requests/s",
                side.name, measurement.cpu_us, measurement.system_us, measurement.load.per_second
            );
            side.measurements.push(measurement);
        }
    }
    Ok(sides.iter().map(Side::figures).collect())
}

impl Figures {
    /// How much more CPU time a request takes than on another side, run by run: 0.03 is three percent more.
    pub(super) fn more_than(&self, other: &Figures) -> Spread {
        let pairs = self.cpu_us_by_run.iter().zip(&other.cpu_us_by_run);
        Spread::of(pairs.map(|(ours, theirs)| ours / theirs.max(f64::MIN_POSITIVE) - 1.0))
    }
}

fn conclude(figures: &[Figures], turns: &Turns) {
    for figures in figures {
        println!(
            "{:<16} {:>6.1} us CPU a request ({:.1} to {:.1}; {:.1} in the kernel)   {:>8.0} requests/s   p50 {:.2} ms   p99 {:.2} ms   {} KiB resident",
            figures.name,
            figures.cpu_us.median,
            figures.cpu_us.least,
            figures.cpu_us.most,
            figures.system_us.median,
            figures.requests_per_second.median,
            figures.p50_ms.median,
            figures.p99_ms.median,
            figures.resident_kib
        );
    }
    let Some((ours, peers)) = figures.split_first() else { return };
    for peer in peers {
        let ratio = |of: fn(&Figures) -> Spread| of(ours).median / of(peer).median;
        println!(
            "ratio            CPU a request {:.2}   requests/s {:.2}   p99 {:.2}   ({} to {}, medians of {} runs of {} s by turns)",
            ratio(|figures| figures.cpu_us),
            ratio(|figures| figures.requests_per_second),
            ratio(|figures| figures.p99_ms),
            ours.name,
            peer.name,
            turns.runs,
            turns.seconds
        );
    }
}
