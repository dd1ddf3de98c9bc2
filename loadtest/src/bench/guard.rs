//! What the leak guard's detectors cost: the same program twice, as it comes and with all detectors off, by turns.
//!
//! On both sides every rule of headers works, requests and answers leave with the same edits, byte for byte. What differs
//! is what is found out and remembered about sessions, people, caches and routes. The edits themselves are in
//! `loadtest bench proxy`, where nginx makes the same.

use std::path::PathBuf;

use clap::Args;
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::instructions::{self, Requests};
use super::nginx::{self, AccessLog};
use super::proxy::{Extras, PAGE, enter, start_ours};
use super::side::{Side, Turns, by_turns, pid_of};
use super::wrk::Ask;
use crate::clock::Clock;
use crate::free_port::free_addresses;
use crate::{Context, Outcome};

/// A session of the portal, so that there is something to look after.
const SESSION: &str = "JSESSIONID=0123456789ABCDEF0123456789ABCDEF.node1";

/// Everything off that is not an edit of headers.
const WITHOUT: &str = r#"
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

/// Arguments of `loadtest bench guard`.
#[derive(Clone, Debug, Args)]
pub struct GuardArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    #[command(flatten)]
    turns: Turns,
    /// Also count instructions in the gateway, by Valgrind's callgrind: they are the same each time.
    #[arg(long)]
    instructions: bool,
}

/// Starts both sides, measures them by turns, prints the medians and the ratio.
pub(super) async fn bench(arguments: GuardArguments) -> Outcome<()> {
    let clock = Clock::new();
    let directory = TempDir::new().context(|| "make a directory")?;
    let [portal_at, with_at, with_admin, without_at, without_admin] = free_addresses()?;
    let portal = nginx::start_portal(portal_at, directory.path(), &clock).await?;
    let sides = [("detectors on", "", with_at, with_admin), ("detectors off", WITHOUT, without_at, without_admin)];
    let done = async {
        let mut measured = Vec::new();
        let mut running = Vec::new();
        let mut counted = Vec::new();
        for (name, more, listen, admin) in sides {
            let home = directory.path().join(name);
            std::fs::create_dir(&home).context(|| home.display().to_string())?;
            let places = [("{listen}", listen), ("{portal}", portal_at), ("{admin}", admin)];
            let extras = Extras { log: AccessLog::Off, more };
            if arguments.instructions {
                let program = instructions::counting(&arguments.proxy, &home)?;
                let child = start_ours(&program, &places, extras, &home, &clock).await?;
                let pass = LocalSet::new().run_until(enter(listen, &clock)).await?;
                let requests = Requests { address: listen, path: PAGE, cookie: format!("{pass}; {SESSION}") };
                counted.push((name, LocalSet::new().run_until(instructions::count(child, &requests, &home)).await?));
            }
            let child = start_ours(&arguments.proxy, &places, extras, &home, &clock).await?;
            let pass = LocalSet::new().run_until(enter(listen, &clock)).await?;
            let ask = Ask::Page { path: PAGE, cookie: Some(format!("{pass}; {SESSION}")) };
            measured.push(Side::new(name, listen, ask, pid_of(&child)?));
            running.push(child);
        }
        if let [(_, on), (_, off)] = counted.as_slice() {
            println!(
                "instructions     {on:.0} a request in the gateway with detectors, {off:.0} without: {:+.0}, {:+.2} %",
                on - off,
                100.0 * (on - off) / off
            );
        }
        match <[Side; 2]>::try_from(measured) {
            Ok(sides) => by_turns(sides, &arguments.turns).await,
            Err(_) => Ok(()),
        }
    };
    let done = done.await;
    nginx::end(portal).await;
    done
}
