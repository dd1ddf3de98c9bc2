//! What the store costs. Prints, asserts nothing: `cargo test --release --lib store::embedded::figures -- --ignored
//! --nocapture`.

use std::collections::BTreeMap;

use super::file::{Batch, Mark, RoomBatch, StateFile, Sweep};
use super::tests::opened;
use super::*;
use crate::domain::time::Unix;
use crate::store::contract::{CITIZEN, room, seat, ticket, visitor};
use crate::store::{Drawn, Store, TicketState};

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let clock = Clock::system();
    let begun = clock.now().mono;
    let result = work();
    println!("{what}: {:.2} ms", clock.now().mono.since(begun).as_secs_f64() * 1e3);
    result
}

fn write(file: &StateFile, batch: RoomBatch) {
    let rooms = [(room("r"), batch)].into();
    file.write(&Batch { rooms: &rooms, now: Unix(1), sweep: Sweep::Nothing }).unwrap();
}

#[test]
#[ignore = "prints figures"]
fn commits() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let disk = Disk::Directory(directory.path().to_owned());
    let file = timed("new file", || StateFile::open_or_create(&disk).unwrap());
    timed("new line", || file.open_line(&room("r"), 1).unwrap());
    let batch_of = |first: u64, rows: u64| {
        let mut batch = RoomBatch { marks: vec![(CITIZEN, Mark::Ahead(first + rows))], ..RoomBatch::default() };
        for number in first..first + rows {
            batch.facts.note(ticket(number, TicketState::Entered));
            batch
                .facts
                .note(Fact::Seat { id: visitor(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), seat: seat(number, 1) });
        }
        batch
    };
    for round in 0..5 {
        timed("sign of life", || {
            file.write(&Batch { rooms: &BTreeMap::new(), now: Unix(round), sweep: Sweep::Nothing }).unwrap();
        });
    }
    for round in 0..5 {
        let batch = batch_of(1 + round * 300, 300);
        timed("300 seats and tickets", || write(&file, batch));
    }
    for round in 0..5 {
        let batch = batch_of(10_000 + round * 10_000, 10_000);
        timed("10,000 seats and tickets", || write(&file, batch));
    }
    let mut crowd = RoomBatch::default();
    timed("noting ten million tickets", || {
        for number in 1..=10_000_000 {
            crowd.facts.note(ticket(number, TicketState::Waiting));
        }
    });
    timed("ten million tickets in one commit", || write(&file, crowd));
    for round in 0..3 {
        let batch = batch_of(9_000_000 + round * 300, 300);
        timed("300 seats and tickets beside ten million", || write(&file, batch));
    }
    timed("clean close", || file.close().unwrap());
    println!("file: {} KiB", std::fs::metadata(disk.file()).unwrap().len() / 1024);
    let file =
        timed("open ten million tickets and 51,500 seats, every page checked", || StateFile::open(&disk).unwrap());
    let line = timed("read that line", || file.open_line(&room("r"), 1).unwrap());
    let tickets: usize = timed("walk its tickets", || line.lanes.iter().map(|(_, lane)| lane.tickets().count()).sum());
    println!("{tickets} tickets, {} seats", line.seats.len());
}

#[tokio::test]
#[ignore = "prints figures"]
async fn calls() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let store = Store::Embedded(opened(directory.path()).await.unwrap());
    store.open_line(&room("r"), 1).await.unwrap();
    let (clock, name) = (Clock::system(), room("r"));
    let begun = clock.now().mono;
    for _ in 0..1_000_000 {
        store.take_number(&name, CITIZEN, Drawn::ToEnter).await.unwrap();
    }
    println!("a million numbers as fast as possible: {:?}", clock.now().mono.since(begun));
    let begun = clock.now().mono;
    for number in 1..=1_000_000 {
        store.record(&name, ticket(number, TicketState::Waiting));
    }
    println!("a million facts: {:?}", clock.now().mono.since(begun));
    store.close().await.unwrap();
}
