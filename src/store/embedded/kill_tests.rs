//! A real process under a real `kill -9`: no number twice, and everything older than a second is still known.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::tests::opened;
use super::*;
use crate::store::TicketState;
use crate::store::contract::{CITIZEN, lane, room, seat, states, ticket, visitor};

const STATE: &str = "ANTICAMERA_TEST_STATE";

/// What the process said it did.
struct Deed {
    number: u64,
    /// In milliseconds since 1970.
    at: u64,
}

#[tokio::test]
async fn a_killed_process_reuses_no_number_and_remembers_what_is_older_than_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let mut deeds: Vec<Deed> = Vec::new();
    for lifetime in [1500, 400, 1300] {
        let lived = lived_and_killed(directory.path(), lifetime);
        let killed_at = lived.last().unwrap().at;
        deeds.extend(lived);
        assert!(deeds.is_sorted_by_key(|deed| deed.number), "numbers grow from life to life");

        let store = opened(directory.path()).await.unwrap();
        let line = store.open_line(&room("r"), 2).await.unwrap();
        let known: BTreeSet<u64> = states(&line).into_iter().map(|(number, _)| number).collect();
        let seated: BTreeSet<u64> = line.seats.iter().map(|(_, seat)| seat.number).collect();
        assert_eq!(line.identity, 1);
        assert!(lane(&line, CITIZEN).mark >= deeds.last().unwrap().number);
        for deed in deeds.iter().filter(|deed| deed.at + 1000 < killed_at) {
            assert!(known.contains(&deed.number) && seated.contains(&deed.number), "{} is forgotten", deed.number);
        }
        store.abandon().await;
        deeds.retain(|deed| known.contains(&deed.number));
    }
    let distinct: BTreeSet<u64> = deeds.iter().map(|deed| deed.number).collect();
    assert_eq!(distinct.len(), deeds.len(), "no number twice");
}

/// Lets a process live for so many milliseconds after its first deed, and kills it.
fn lived_and_killed(state: &Path, lifetime: u64) -> Vec<Deed> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::embedded::kill_tests::lives_until_killed", "--ignored", "--nocapture"])
        .env(STATE, state)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut deeds: Vec<Deed> = Vec::new();
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        deeds.extend(deed(&line.unwrap()));
        if let (Some(first), Some(last)) = (deeds.first(), deeds.last())
            && last.at >= first.at + lifetime
        {
            break;
        }
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!deeds.is_empty(), "the process lived");
    deeds
}

fn deed(line: &str) -> Option<Deed> {
    let (_, deed) = line.split_once("took ")?;
    let (number, at) = deed.split_once(" at ")?;
    Some(Deed { number: number.parse().ok()?, at: at.parse().ok()? })
}

/// The process that is killed; does nothing when it is run by hand.
#[tokio::test]
#[ignore = "runs inside the test above"]
async fn lives_until_killed() {
    let Some(state) = std::env::var_os(STATE).map(PathBuf::from) else { return };
    let (store, clock) = (opened(&state).await.unwrap(), Clock::system());
    store.open_line(&room("r"), 1).await.unwrap();
    loop {
        let number = store.take_number(&room("r"), CITIZEN).await.unwrap();
        store.record(&room("r"), ticket(number, TicketState::Waiting));
        store.record(&room("r"), Fact::Seat { id: visitor(number), seat: seat(number, 1) });
        println!("took {number} at {}", clock.now().wall.0);
        clock.sleep(Duration::from_millis(1)).await;
    }
}
