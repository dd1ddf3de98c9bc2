//! `loadtest bench`: the proxy beside a peer, with equal work, in turns within one run. Ratios count; absolute figures
//! drift with the machine.

mod guard;
mod instructions;
mod medians;
mod nginx;
mod proxy;
mod side;
mod waiting;
mod wrk;

use clap::Subcommand;

use crate::Outcome;

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCase {
    /// Proxied requests of a visitor inside: full admission work and header edits, against nginx with the same edits.
    Proxy(proxy::ProxyArguments),
    /// What the leak guard's detectors cost: the same program with and without them, the same edits of headers.
    Guard(guard::GuardArguments),
    /// What a waiting visitor costs: the poll and the page, against the cheapest answers nginx can give.
    Waiting(waiting::WaitingArguments),
}

/// Measures a case and prints the result.
///
/// # Errors
/// When a program is missing or does not answer as it should.
pub async fn bench(case: BenchCase) -> Outcome<()> {
    match case {
        BenchCase::Proxy(arguments) => proxy::bench(arguments).await,
        BenchCase::Guard(arguments) => guard::bench(arguments).await,
        BenchCase::Waiting(arguments) => waiting::bench(arguments).await,
    }
}
