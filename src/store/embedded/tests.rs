//! The embedded store keeps the contract, and treats its file and directory as an operator expects.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::domain::opening::{Gathered, Held, Opening, Order};
use crate::domain::time::Unix;
use crate::store::contract::{CITIZEN, Subject, every_property_holds, room};
use crate::store::{Change, Drawn, Store};

/// A directory of its own, and a clock that stands still.
struct Directory {
    directory: TempDir,
    clock: ManualClock,
}

impl Directory {
    fn new() -> Directory {
        let clock = ManualClock::starting_at(Unix::from_seconds(1_800_000_000));
        Directory { directory: tempfile::tempdir().unwrap(), clock }
    }
}

impl Subject for Directory {
    async fn open(&self) -> Store {
        let clock = Clock::Manual(self.clock.clone());
        Store::Embedded(Embedded::open(self.directory.path(), clock, unobserved()).await.unwrap())
    }

    async fn kill(&self, store: Store) {
        let Store::Embedded(embedded) = store else { panic!("another store") };
        embedded.abandon().await;
    }

    fn now(&self) -> Unix {
        self.clock.now().unix
    }

    fn an_hour_passes(&self) {
        self.clock.advance(Duration::from_secs(3600));
    }
}

every_property_holds!(Directory::new());

/// Nobody watches.
pub fn unobserved() -> Observer {
    Box::new(|_, _| {})
}

/// Opens the state in a directory with the system's clocks.
pub async fn opened(directory: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(directory, Clock::system(), unobserved()).await
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn directory_and_file_are_the_owners_alone() {
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("deep/state");
    let _store = opened(&directory).await.unwrap();
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("line.redb")), 0o600);
    assert!(!directory.join("line.unfinished").exists());
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let first = opened(directory.path()).await.unwrap();
    let refused = opened(directory.path()).await.unwrap_err();
    assert_eq!(refused, StoreError::InUse { file: directory.path().join("line.redb") });
    assert!(refused.to_string().contains("stop it"), "{refused}");
    first.close().await.unwrap();
    opened(directory.path()).await.unwrap();
}

#[tokio::test]
async fn an_interrupted_first_start_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("line.unfinished"), b"half a file").unwrap();
    let _store = opened(directory.path()).await.unwrap();
    assert_eq!(mode(&directory.path().join("line.redb")), 0o600);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await.unwrap();
    store.open_line(&room("r"), 77).await.unwrap();
    store.close().await.unwrap();
    set_format(directory.path(), 2);
    let refused = opened(directory.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 2, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("written by a newer version"), "{refused}");
    set_format(directory.path(), 1);
    let store = opened(directory.path()).await.unwrap();
    assert_eq!(store.open_line(&room("r"), 1).await.unwrap().identity, 77);
}

fn set_format(directory: &Path, format: u64) {
    let database = redb::Database::open(directory.join("line.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let about = redb::TableDefinition::<&str, u64>::new("about");
    write.open_table(about).unwrap().insert("format", format).unwrap();
    write.commit().unwrap();
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let database = redb::Database::create(directory.path().join("line.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<&str, &str>::new("about")).unwrap().insert("format", "x").unwrap();
    write.commit().unwrap();
    drop(database);
    let refused = opened(directory.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("state"), b"a file").unwrap();
    let refused = opened(&directory.path().join("state")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreachable(_)), "{refused}");
    assert!(refused.to_string().contains("state/line.redb"), "{refused}");
}

#[tokio::test]
async fn the_file_tells_when_the_process_was_last_alive() {
    let subject = Directory::new();
    let store = subject.open().await;
    let line = store.open_line(&room("r"), 1).await.unwrap();
    assert_eq!(line.last_durable, None);
    subject.an_hour_passes();
    let last = subject.now();
    store.flush().await.unwrap();
    subject.kill(store).await;
    subject.an_hour_passes();
    let line = subject.open().await.open_line(&room("r"), 1).await.unwrap();
    assert_eq!(line.last_durable, Some(last));
}

#[tokio::test]
async fn a_burst_is_served_in_the_order_of_arrival() {
    let subject = Directory::new();
    let store = std::sync::Arc::new(subject.open().await);
    store.open_line(&room("r"), 1).await.unwrap();
    let joins: Vec<_> = (0..2000)
        .map(|_| {
            tokio::spawn({
                let store = std::sync::Arc::clone(&store);
                async move { store.take_number(&room("r"), CITIZEN, Drawn::ToEnter).await.unwrap() }
            })
        })
        .collect();
    for (arrival, join) in joins.into_iter().enumerate() {
        assert_eq!(join.await.unwrap(), arrival as u64 + 1);
    }
}

#[tokio::test]
async fn an_opening_outlasts_a_kill_and_ends_with_its_line() {
    let subject = Directory::new();
    let store = subject.open().await;
    assert!(store.open_line(&room("r"), 1).await.unwrap().openings.is_empty());
    store.take_number(&room("r"), CITIZEN, Drawn::ToEnter).await.unwrap();
    assert_eq!(store.counters(&room("r")).unwrap(), Some(vec![(CITIZEN, 1)]));
    let first = Opening {
        number: 1,
        order: Order::Lottery,
        at: Unix(5),
        announced: Unix(4),
        seed: Some([3; 32]),
        after: vec![(CITIZEN, 1)],
        held: None,
    };
    let held = Held { at: Unix(6), lanes: vec![Gathered { class: CITIZEN, after: 1, count: 2 }] };
    let second = Opening { number: 2, held: Some(held), ..first.clone() };
    for opening in [&Opening { at: Unix(9), ..first.clone() }, &second, &first] {
        store.change_opening(&room("r"), Change::Set { opening, instead_of: None }).await.unwrap();
    }
    subject.kill(store).await;
    let store = subject.open().await;
    assert_eq!(store.open_line(&room("r"), 1).await.unwrap().openings, [first, second]);
    assert!(store.open_line(&room("s"), 1).await.unwrap().openings.is_empty());
    assert!(store.end_line(&room("r"), 2).await.unwrap().openings.is_empty());
}
