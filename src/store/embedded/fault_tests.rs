//! Disks that are full, broken, hanging or without power. Nothing is lost that was promised, nobody waits for them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;

use super::file::{Batch, Mark, RoomBatch, StateFile, Sweep};
use super::simulated::{Behaviour, SimulatedDisk};
use super::tests::{opened, unobserved};
use super::*;
use crate::domain::time::Unix;
use crate::store::TicketState;
use crate::store::contract::{CITIZEN, lane, room, seat, states, ticket, visitor};

async fn on(disk: &SimulatedDisk) -> Embedded {
    Embedded::on(Disk::Simulated(disk.clone()), Clock::system(), unobserved()).await.unwrap()
}

fn fails(with: ErrorKind) -> Behaviour {
    Behaviour::Fails { after: 0, with }
}

async fn becomes(store: &Embedded, wanted: impl Fn(&Health) -> bool) {
    let mut health = store.health();
    let waited = tokio::time::timeout(Duration::from_secs(10), health.wait_for(|health| wanted(health)));
    waited.await.expect("the health changes in time").unwrap();
}

/// Draws numbers until none is left, and gives the last and why there are no more.
async fn exhausted(store: &Embedded) -> (u64, StoreError) {
    let mut last = 0;
    loop {
        match store.take_number(&room("r"), CITIZEN).await {
            Ok(number) => last = number,
            Err(why) => return (last, why),
        }
    }
}

#[tokio::test]
async fn a_full_disk_serves_to_the_mark_then_refuses_and_recovers_with_nothing_lost() {
    let disk = SimulatedDisk::default();
    let store = on(&disk).await;
    store.open_line(&room("r"), 1).await.unwrap();
    assert_eq!(store.take_number(&room("r"), CITIZEN).await, Ok(1));

    disk.behave(fails(ErrorKind::StorageFull));
    store.record(&room("r"), ticket(1, TicketState::Called));
    store.record(&room("r"), Fact::Seat { id: visitor(1), seat: seat(1, 1) });
    becomes(&store, |health| matches!(health, Health::Full { .. })).await;
    let (last, why) = exhausted(&store).await;
    assert!(last > 1, "the numbers up to the mark are still good");
    assert!(matches!(why, StoreError::Full(_)), "{why}");
    assert!(matches!(store.flush().await, Err(StoreError::Full(_))));
    store.record(&room("r"), ticket(1, TicketState::Entered));
    assert!(matches!(store.end_line(&room("r"), 5).await, Err(StoreError::Full(_))));

    disk.behave(Behaviour::Works);
    becomes(&store, |health| *health == Health::Good).await;
    assert_eq!(store.take_number(&room("r"), CITIZEN).await, Ok(last + 1));
    store.abandon().await;
    let line = on(&disk).await.open_line(&room("r"), 2).await.unwrap();
    assert_eq!((line.identity, states(&line)), (1, vec![(1, TicketState::Entered)]));
    assert_eq!(line.seats, [(visitor(1), seat(1, 1))]);
    assert!(lane(&line, CITIZEN).mark > last);
}

#[tokio::test]
async fn an_idle_store_notices_a_broken_disk_too() {
    let disk = SimulatedDisk::default();
    let store = on(&disk).await;
    disk.behave(fails(ErrorKind::ReadOnlyFilesystem));
    becomes(&store, |health| matches!(health, Health::Unreachable { .. })).await;
    disk.behave(Behaviour::Works);
    becomes(&store, |health| *health == Health::Good).await;
}

#[tokio::test]
async fn ill_health_keeps_its_beginning() {
    let disk = SimulatedDisk::default();
    let store = on(&disk).await;
    disk.behave(fails(ErrorKind::StorageFull));
    store.flush().await.unwrap_err();
    let first = store.health().borrow().clone();
    store.flush().await.unwrap_err();
    assert_eq!(*store.health().borrow(), first);
}

#[tokio::test]
async fn a_hanging_disk_holds_up_nobody() {
    let disk = SimulatedDisk::default();
    let store = on(&disk).await;
    store.open_line(&room("r"), 1).await.unwrap();
    assert_eq!(store.take_number(&room("r"), CITIZEN).await, Ok(1));
    disk.behave(Behaviour::Hangs);
    for round in 0..50 {
        for number in 1..=5_000 {
            store.record(&room("r"), ticket(number, TicketState::Called));
            store.record(&room("r"), Fact::Seat { id: visitor(number % 100), seat: seat(number, round) });
        }
    }
    let (last, why) = exhausted(&store).await;
    assert!(last > 1, "the numbers up to the mark are still good");
    assert!(matches!(why, StoreError::Unreachable(_)), "{why}");
    store.record(&room("r"), Fact::Frozen(Duration::from_secs(1)));
    becomes(&store, |health| matches!(health, Health::Unreachable { .. })).await;
    let refused = tokio::time::timeout(Duration::from_millis(500), store.take_number(&room("r"), CITIZEN)).await;
    assert!(matches!(refused, Ok(Err(StoreError::Unreachable(_)))), "a disk that is known to hang is not waited for");

    disk.behave(Behaviour::Works);
    becomes(&store, |health| *health == Health::Good).await;
    store.flush().await.unwrap();
    store.abandon().await;
    let line = on(&disk).await.open_line(&room("r"), 2).await.unwrap();
    assert_eq!((states(&line).len(), line.seats.len()), (5_000, 100));
}

#[tokio::test]
async fn whoever_waits_is_refused_when_the_disk_fails() {
    let disk = SimulatedDisk::default();
    let store = on(&disk).await;
    store.open_line(&room("r"), 1).await.unwrap();
    disk.behave(fails(ErrorKind::StorageFull));
    assert!(matches!(store.take_number(&room("r"), CITIZEN).await, Err(StoreError::Full(_))));
}

#[tokio::test]
async fn a_close_that_fails_says_so_and_reuses_no_number() {
    let disk = SimulatedDisk::default();
    let store = on(&disk).await;
    store.open_line(&room("r"), 1).await.unwrap();
    assert_eq!(store.take_number(&room("r"), CITIZEN).await, Ok(1));
    disk.behave(fails(ErrorKind::StorageFull));
    assert!(matches!(store.close().await, Err(StoreError::Full(_))));
    disk.behave(Behaviour::Works);
    let store = on(&disk).await;
    store.open_line(&room("r"), 1).await.unwrap();
    assert!(store.take_number(&room("r"), CITIZEN).await.unwrap() > 1);
}

#[tokio::test]
async fn a_file_that_vanishes_while_the_disk_fails_is_not_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await.unwrap();
    store.open_line(&room("r"), 1).await.unwrap();
    store.close().await.unwrap();
    std::fs::remove_file(directory.path().join("line.redb")).unwrap();
    let missing = StateFile::open(&Disk::Directory(directory.path().to_owned())).unwrap_err();
    assert!(matches!(missing, StoreError::Unreachable(_)), "{missing}");
    assert!(!directory.path().join("line.redb").exists());
}

/// A file system of its own that holds a few megabytes; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted() -> Option<SmallDisk> {
        let place = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(place.path()).output();
        mount.is_ok_and(|done| done.status.success()).then_some(SmallDisk(place))
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        assert!(Command::new("mount").args(["-o", &option]).arg(self.0.path()).status().unwrap().success());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_small_file_system_fills_up_and_is_freed_again() {
    let Some(disk) = SmallDisk::mounted() else {
        println!("skipped: mounting a tmpfs needs root");
        return;
    };
    let state = disk.path().join("state");
    let store = opened(&state).await.unwrap();
    store.open_line(&room("r"), 1).await.unwrap();
    store.take_number(&room("r"), CITIZEN).await.unwrap();

    let ballast = disk.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 8 << 20]).expect_err("the disk is full now");
    let crowd = 40_000;
    for number in 1..=crowd {
        store.record(&room("r"), Fact::Seat { id: visitor(number), seat: seat(number, 1) });
        store.record(&room("r"), ticket(number, TicketState::Entered));
    }
    becomes(&store, |health| matches!(health, Health::Full { .. })).await;
    let (_, why) = exhausted(&store).await;
    assert!(matches!(why, StoreError::Full(_)), "{why}");

    std::fs::remove_file(&ballast).unwrap();
    disk.remount("size=64m");
    becomes(&store, |health| *health == Health::Good).await;
    store.flush().await.unwrap();
    store.abandon().await;
    let line = opened(&state).await.unwrap().open_line(&room("r"), 2).await.unwrap();
    assert_eq!((line.identity, line.seats.len(), states(&line).len()), (1, crowd as usize, crowd as usize));
}

/// The state as a model keeps it: what the store must say after any accident.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    mark: u64,
    tickets: BTreeMap<u64, TicketState>,
    seats: BTreeMap<u64, u32>,
}

impl Model {
    fn read(disk: SimulatedDisk) -> Result<Model, StoreError> {
        let line = StateFile::open(&Disk::Simulated(disk))?.open_line(&room("r"), 0)?;
        assert_eq!(line.identity, 1, "the line goes on");
        Ok(Model {
            mark: lane(&line, CITIZEN).mark,
            tickets: states(&line).into_iter().collect(),
            seats: line.seats.iter().map(|(_, seat)| (seat.number, seat.last_seen)).collect(),
        })
    }

    fn step(&self, step: u64) -> (Model, RoomBatch) {
        let (mut next, mut batch) = (self.clone(), RoomBatch::default());
        next.mark += 10_000;
        batch.marks.push((CITIZEN, Mark::Ahead(next.mark)));
        for number in (1..6000).step_by(977).map(|number| number + 17 * step) {
            next.tickets.insert(number, TicketState::Called);
            next.seats.insert(number, step as u32);
            batch.facts.note(ticket(number, TicketState::Called));
            batch.facts.note(Fact::Seat { id: visitor(number), seat: seat(number, step as u32) });
        }
        (next, batch)
    }
}

fn write(file: &StateFile, batch: RoomBatch) -> Result<(), StoreError> {
    let rooms = [(room("r"), batch)].into();
    file.write(&Batch { rooms: &rooms, now: Unix(1), sweep: Sweep::Nothing })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Power fails in the middle of a commit; of what was not synced, any sectors reached the disk.
    #[test]
    fn a_loss_of_power_leaves_the_commit_before_or_the_one_under_way(
        steps in 1..5_u64, after in 0..25_usize, kept in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let disk = SimulatedDisk::default();
        let file = StateFile::open_or_create(&Disk::Simulated(disk.clone())).unwrap();
        file.open_line(&room("r"), 1).unwrap();
        let mut model = Model::default();
        for step in 0..steps {
            let batch;
            (model, batch) = model.step(step);
            write(&file, batch).unwrap();
        }
        disk.behave(Behaviour::Fails { after, with: ErrorKind::Other });
        let (next, batch) = model.step(steps);
        let outcome = write(&file, batch);
        let mut sectors = kept.iter().cycle();
        let left = disk.after_power_loss(|| *sectors.next().unwrap());
        disk.behave(Behaviour::Works);
        let found = Model::read(left).unwrap();
        match outcome {
            Ok(()) => prop_assert_eq!(found, next),
            Err(_) => prop_assert!(found == model || found == next),
        }
    }
}
