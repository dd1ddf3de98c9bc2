//! `anticamera demo`: everything on this machine, for looking at.

use std::process::ExitCode;

/// Runs the demonstration until it is interrupted.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
