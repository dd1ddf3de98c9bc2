//! `anticamera leaks`: what the leak guard's audit file says.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anticamera::config;
use anticamera::leaks::{Hashes, report};
use clap::Subcommand;

use super::{Done, faulty, printed};

/// What is done with the audit file.
#[derive(Subcommand)]
pub enum LeaksOrder {
    /// Sums up what was blocked or reported: by rule and route, how often, and how many people are concerned.
    Report {
        /// The configuration file, which names the audit file.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Prints those in a list who are concerned: identity, events, first and last time and rules, separated by tabs.
    Match {
        /// The configuration file, which names the audit file and its key.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// Identities as the portal names them in Waiting-Room-Identity, one on each line.
        #[arg(long)]
        identities: PathBuf,
    },
}

/// Carries an order out.
pub fn carry_out(order: LeaksOrder) -> ExitCode {
    match order {
        LeaksOrder::Report { config } => report_leaks(&config),
        LeaksOrder::Match { config, identities } => match_leaks(&config, &identities),
    }
}

fn report_leaks(path: &Path) -> ExitCode {
    audit_of(path).map_or_else(faulty, |audit| printed(report::summary(&audit.file).map_err(Into::into)))
}

fn match_leaks(path: &Path, identities: &Path) -> ExitCode {
    let found = |audit: config::AuditFile| -> Done {
        let hashes = Hashes::load(&audit.key)?;
        let list = File::open(identities).map_err(|error| format!("{}: {error}", identities.display()))?;
        Ok(report::concerned(&audit.file, &hashes, BufReader::new(list))?)
    };
    audit_of(path).map_or_else(faulty, |audit| printed(found(audit)))
}

fn audit_of(path: &Path) -> Result<config::AuditFile, config::Faults> {
    config::load(path).map(|config| config.leak_guard.audit)
}
