//! Two sides of a comparison, measured by turns: A B A B ... Only what each one's own process uses counts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::process::Child;

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
    runs: usize,
    /// How long each time, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
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
    ask: Ask,
    pid: u32,
    measurements: Vec<Measurement>,
}

/// A side's figures; CPU time in microseconds a request.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    name: &'static str,
    cpu_us: Spread,
    system_us: Spread,
    requests_per_second: Spread,
    p50_ms: Spread,
    p99_ms: Spread,
    resident_kib: u64,
}

impl Side {
    /// A side that was started.
    pub(super) fn new(name: &'static str, address: SocketAddr, ask: Ask, pid: u32) -> Side {
        Side { name, address, ask, pid, measurements: Vec::new() }
    }

    async fn measure(&mut self, turns: &Turns) -> Outcome<Measurement> {
        let before = usage(self.pid)?;
        let load = wrk(self.address, &self.ask, turns.connections, Duration::from_secs(turns.seconds)).await?;
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

/// Measures ours and its peer by turns, and prints the medians and their ratio.
///
/// # Errors
/// When one of them answers with errors.
pub(super) async fn by_turns(mut sides: [Side; 2], turns: &Turns) -> Outcome<()> {
    for side in &sides {
        wrk(side.address, &side.ask, turns.connections, WARM_UP).await.context(|| side.name)?;
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
    conclude(&sides, turns)
}

fn conclude(sides: &[Side; 2], turns: &Turns) -> Outcome<()> {
    let [ours, peer] = sides.each_ref().map(Side::figures);
    for figures in [&ours, &peer] {
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
    let ratio = |of: fn(&Figures) -> Spread| of(&ours).median / of(&peer).median;
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
    match &turns.json {
        Some(file) => {
            let json = serde_json::to_vec_pretty(&[ours, peer]).context(|| "figures")?;
            std::fs::write(file, json).context(|| file.display().to_string())
        }
        None => Ok(()),
    }
}
