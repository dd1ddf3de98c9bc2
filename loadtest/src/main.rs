//! The command line: `loadtest portal`, `loadtest run` and `loadtest bench`.
//!
//! Exit status 0: done and every stated expectation met; 1: an expectation was not met; 2: could not do it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::{Outcome, bench, portal, run};

/// Load tester for Anticamera: talks to the wire only.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the stand-in portal, which records what reaches it and fails on request.
    Portal(portal::PortalArguments),
    /// Sends the visitors of a scenario to a waiting room and judges what they met.
    Run(run::RunArguments),
    /// Measures the proxy beside a peer, interleaved.
    #[command(subcommand)]
    Bench(bench::BenchCase),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Portal(arguments) => portal::portal(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Run(arguments) => judged(arguments).await,
        Command::Bench(case) => bench::bench(case).await.map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("loadtest: {failure}");
        ExitCode::from(2)
    })
}

async fn judged(arguments: run::RunArguments) -> Outcome<ExitCode> {
    let report = run::run(arguments).await?;
    Ok(if report.expectations_met() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
