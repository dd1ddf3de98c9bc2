//! `anticamera check --public-url`: whether what stands in front of the running program keeps personal pages.

use std::path::Path;
use std::process::ExitCode;

use anticamera::config;
use anticamera::domain::canary::Shown;
use anticamera::leaks::canary::{self, Round};

use super::{FAULTY, faulty, waited_for};

/// Asks through the edge, and prints what it found for every kind of page. Exit code 1 when it keeps any or cannot be asked.
pub fn check(path: &Path, url: &str) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return faulty(faults),
    };
    let Some(public) = config::PublicUrl::parse(url) else {
        eprintln!("{url} is no address of a site: write scheme and host, such as http://portal.example");
        return ExitCode::from(FAULTY);
    };
    match waited_for(canary::round(&public, &canary::folders(&config))) {
        Ok(round) => verdict(&round, url),
        Err(error) => {
            eprintln!("{url} could not be asked: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verdict(round: &Round, url: &str) -> ExitCode {
    for found in &round.found {
        let verdict = match found.shown {
            Shown::Fresh => "ok: each visitor got an answer of their own",
            Shown::Kept => "KEPT: the second visitor got the first one's answer",
            Shown::Unknown => "unknown",
        };
        let why = found.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        println!("{}: {verdict}{why}\n    {}", found.place.kind.as_str(), found.path);
    }
    match round.shown() {
        Shown::Fresh => {
            println!("{url} keeps no personal pages");
            ExitCode::SUCCESS
        }
        Shown::Kept => {
            println!("{url} KEEPS PERSONAL PAGES: do not open; exclude everything that is not public from its cache");
            ExitCode::FAILURE
        }
        Shown::Unknown => {
            println!("{url} could not be asked for everything: is the program running behind it?");
            ExitCode::FAILURE
        }
    }
}
