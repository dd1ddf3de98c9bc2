//! What the leak guard costs a proxied request: the same program with all of the guard's work, with its detectors off, and
//! with the least that the configuration allows, by turns.
//!
//! With the detectors off, requests and answers leave with the same edits, byte for byte; what differs is what is found
//! out and remembered about sessions, people and caches. With the least nothing is edited either. What no configuration
//! takes away is in all three: an answer's head is read and judged once, what the portal says to us alone is taken out,
//! and its folder is noted for the list of what could be public. The edits themselves are also in `loadtest bench all`,
//! where nginx makes the same.

use std::path::PathBuf;

use clap::Args;
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::instructions;
use super::nginx::{self, Front};
use super::ours::{PAGE, Room, Setup, enter};
use super::side::{Figures, Side, Turns, by_turns, pid_of};
use super::wrk::Ask;
use crate::clock::Clock;
use crate::free_port::free_addresses;
use crate::{Context, Outcome};

/// A session of the portal, so that there is something to look after.
const SESSION: &str = "JSESSIONID=0123456789ABCDEF0123456789ABCDEF.node1";
/// What the guard may add to a request's CPU time, detectors included.
const MOST: f64 = 0.03;

/// Everything on, and what would be stopped is stopped: as it comes.
const WHOLE: &str = "";
/// Everything off that is not an edit of headers.
const WITHOUT_DETECTORS: &str = r#"
[leak_guard]
canary = "off"
breaker = "alarm"

[leak_guard.detectors]
session_reissued = "off"
cache_hit = "off"
identity_mismatch = "off"
session_identities = "off"
identity_sessions = "off"
session_presented = "off"
"#;
/// Nothing is edited either.
const LEAST: &str = r#"
[leak_guard]
mode = "observe"
canary = "off"
breaker = "alarm"

[leak_guard.detectors]
session_reissued = "off"
cache_hit = "off"
identity_mismatch = "off"
session_identities = "off"
identity_sessions = "off"
session_presented = "off"
"#;

/// Arguments of `loadtest bench guard`.
#[derive(Clone, Debug, Args)]
pub struct GuardArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    #[command(flatten)]
    turns: Turns,
    /// Also count instructions in user space, by Valgrind's callgrind: they are the same each time.
    #[arg(long)]
    instructions: bool,
}

/// Starts all sides, measures them by turns, prints the medians and what the guard adds.
pub(super) async fn bench(arguments: GuardArguments) -> Outcome<()> {
    let clock = Clock::new();
    let directory = TempDir::new().context(|| "make a directory")?;
    let [portal_at, whole_at, without_at, least_at] = free_addresses()?;
    let portal = nginx::start_portal(portal_at, directory.path(), &clock).await?;
    let sides = [
        ("whole guard", WHOLE, whole_at),
        ("detectors off", WITHOUT_DETECTORS, without_at),
        ("least", LEAST, least_at),
    ];
    let done = async {
        let mut measured = Vec::new();
        let mut running = Vec::new();
        let mut counted = Vec::new();
        for (name, more, listen) in sides {
            let home = directory.path().join(name);
            std::fs::create_dir(&home).context(|| home.display().to_string())?;
            let setup = Setup { more, ..Setup::new(Front::plain(listen), portal_at, Room::Open) };
            if arguments.instructions {
                let program = instructions::counting(&arguments.proxy, &home)?;
                let child = setup.start(&program, &home, &clock).await?;
                let pass = LocalSet::new().run_until(enter(listen, &clock)).await?;
                let page = instructions::page(listen, PAGE, &format!("{pass}; {SESSION}"))?;
                let counting = instructions::count(child, listen, std::slice::from_ref(&page), &home);
                counted.push(LocalSet::new().run_until(counting).await?);
            }
            let child = setup.start(&arguments.proxy, &home, &clock).await?;
            let pass = LocalSet::new().run_until(enter(listen, &clock)).await?;
            let ask = Ask::Page { path: PAGE, cookie: Some(format!("{pass}; {SESSION}")) };
            measured.push(Side::new(name, listen, ask, pid_of(&child)?));
            running.push(child);
        }
        if let [whole, without, least] = counted.as_slice() {
            println!(
                "instructions     a request in user space: {whole:.0} whole, {without:.0} without detectors, {least:.0} at \
                least; the guard adds {:.0} ({:.1} %), its detectors {:.0} of them",
                whole - least,
                (whole - least) / least * 100.0,
                whole - without
            );
        }
        by_turns(measured, &arguments.turns).await
    };
    let done = done.await;
    nginx::end(portal).await;
    conclude(&done?);
    Ok(())
}

fn conclude(figures: &[Figures]) {
    let [whole, without, least] = figures else { return };
    let (guard, detectors) = (whole.more_than(least), whole.more_than(without));
    let percent = |share: f64| share * 100.0;
    println!(
        "the guard        adds {:+.1} % CPU a request to the least the configuration allows, kernel included (median of \
        {} pairs of runs, {:+.1} to {:+.1}); must be at most {:.0} %: {}",
        percent(guard.median),
        whole.cpu_us_by_run.len(),
        percent(guard.least),
        percent(guard.most),
        percent(MOST),
        if guard.median <= MOST { "met" } else { "NOT MET" }
    );
    println!(
        "its detectors    add {:+.1} % of that ({:+.1} to {:+.1}); the other part is twelve fields written and others taken out",
        percent(detectors.median),
        percent(detectors.least),
        percent(detectors.most)
    );
    println!(
        "the least        leaves in: an answer's head read and judged, what the portal says to us alone taken out, its folder noted"
    );
}
