//! `loadtest bench`: the proxy beside a peer, with equal work, in turns within one run. Ratios count; absolute figures
//! drift with the machine.

mod all;
mod cases;
mod guard;
mod h2load;
mod haproxy;
mod instructions;
mod joined;
mod line;
mod medians;
mod nginx;
mod ours;
mod paced;
mod side;
mod store;
mod tls;
mod wrk;

use clap::Subcommand;

use crate::Outcome;

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCase {
    /// Everything beside nginx and HAProxy, with what is demanded of each case.
    All(all::AllArguments),
    /// What the leak guard costs: the same program with all of its work, without detectors, and with the least it can do.
    Guard(guard::GuardArguments),
    /// What a poll costs in lines of different lengths, and what a ticket takes in memory.
    Line(line::LineArguments),
    /// What the shared store adds, and one long line over several nodes.
    Store(store::StoreArguments),
}

/// Measures a case and prints the result.
///
/// # Errors
/// When a program is missing or does not answer as it should.
pub async fn bench(case: BenchCase) -> Outcome<()> {
    match case {
        BenchCase::All(arguments) => all::bench(arguments).await,
        BenchCase::Guard(arguments) => guard::bench(arguments).await,
        BenchCase::Line(arguments) => line::bench(arguments).await,
        BenchCase::Store(arguments) => store::bench(arguments).await,
    }
}
