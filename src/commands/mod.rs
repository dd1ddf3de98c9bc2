//! What `anticamera` does besides running and asking the running program: commands that read and write files on this machine.
//! Each has a file of its own.

pub mod codes;
pub mod draw;
pub mod edge;
pub mod leaks;
pub mod passes;
pub mod receipts;
pub mod schedule;
pub mod store;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use anticamera::admin::{Books, Mode, handouts};
use anticamera::clock::Clock;
use anticamera::config;

/// The configuration is at fault.
pub const FAULTY: u8 = 2;

/// By whom the audit log says that the disk was changed past the running program.
const BY: &str = "the command line";

/// What is printed, or what went wrong.
pub type Done = Result<String, Box<dyn Error>>;

/// Says what is wrong with the configuration.
pub fn faulty(faults: config::Faults) -> ExitCode {
    eprintln!("{faults}");
    ExitCode::from(FAULTY)
}

/// Prints what was done, or what went wrong.
pub fn printed(done: Done) -> ExitCode {
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Does something that takes a while.
fn waited_for<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// Works on what is handed out, with the configuration of a file and its audit log.
fn handing_out(path: &Path, work: impl FnOnce(handouts::Asking<'_>) -> Done) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let books = Books::of(&config.admin.state_dir);
    let now = Clock::system().now().wall;
    printed(work(handouts::Asking { config: &config, books: &books, by: BY, now, seen: None }))
}

/// Whether an order is only looked at.
fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::Preview } else { Mode::Apply }
}
