//! Files that others wrote to, cut off or copied at a bad moment. Such a file gives what was written last, or is
//! refused in plain words; it never gives something else, and never takes the process down.

use super::file::{Batch, Mark, RoomBatch, StateFile, Sweep};
use super::simulated::SimulatedDisk;
use super::tests::opened;
use super::*;
use crate::domain::time::Unix;
use crate::store::TicketState;
use crate::store::contract::{CITIZEN, room, seat, ticket, visitor};

/// How a process ended that wrote the file.
#[derive(Clone, Copy, Debug)]
enum End {
    Clean,
    Killed,
}

fn written(commits: u64, end: End) -> Vec<u8> {
    let disk = SimulatedDisk::default();
    let file = StateFile::open_or_create(&Disk::Simulated(disk.clone())).unwrap();
    file.open_line(&room("r"), 1).unwrap();
    for commit in 1..=commits {
        let mut batch = RoomBatch { marks: vec![(CITIZEN, Mark::Ahead(commit * 100))], ..RoomBatch::default() };
        for number in commit * 50..commit * 50 + 50 {
            batch.facts.note(ticket(number * 90, TicketState::Called));
            batch.facts.note(Fact::Seat { id: visitor(number), seat: seat(number, 1) });
        }
        let rooms = [(room("r"), batch)].into();
        file.write(&Batch { rooms: &rooms, now: Unix(commit), sweep: Sweep::Nothing }).unwrap();
    }
    if let End::Killed = end {
        return disk.contents();
    }
    file.close().unwrap();
    disk.contents()
}

fn read(bytes: Vec<u8>) -> Result<Line, StoreError> {
    StateFile::open(&Disk::Simulated(SimulatedDisk::holding(bytes)))?.open_line(&room("r"), 0)
}

/// Says whether a damaged file was refused, and checks that it gave the right line if not.
fn is_refused(bytes: Vec<u8>, whole: &Line) -> bool {
    match read(bytes) {
        Ok(line) => {
            assert_eq!(line, *whole, "a damaged file gave another line");
            false
        }
        Err(StoreError::Damaged { .. } | StoreError::Newer { .. }) => true,
        Err(other) => panic!("a damaged file was reported as: {other}"),
    }
}

/// The one bit that says which of the two roots is good cannot itself be checked. It steps back to the commit before:
/// after a kill, a quarter of a second is lost.
const CHOICE_OF_ROOT: (usize, u8) = (9, 0x01);

#[test]
fn flipped_bits_in_the_head_of_the_file() {
    for end in [End::Clean, End::Killed] {
        let good = written(6, end);
        let whole = read(good.clone()).unwrap();
        for at in 0..320 {
            for bit in [0x01, 0x80] {
                let mut bytes = good.clone();
                bytes[at] ^= bit;
                if (at, bit) == CHOICE_OF_ROOT {
                    let last = read(bytes).unwrap().last_durable;
                    assert!([Some(Unix(5)), Some(Unix(6))].contains(&last), "{last:?}");
                } else {
                    is_refused(bytes, &whole);
                }
            }
        }
    }
}

#[test]
fn flipped_bits_anywhere() {
    for end in [End::Clean, End::Killed] {
        let good = written(6, end);
        let whole = read(good.clone()).unwrap();
        let refused = (320..good.len()).step_by(good.len() / 150).filter(|at| {
            let mut bytes = good.clone();
            bytes[*at] ^= 0x10;
            is_refused(bytes, &whole)
        });
        let refused = refused.count();
        assert!(refused > 0, "some of them lay in what counts");
    }
}

#[test]
fn files_cut_off() {
    let good = written(6, End::Killed);
    let whole = read(good.clone()).unwrap();
    for length in (1..good.len()).step_by(good.len() / 50).chain([1, 8, 63, 64, 319, 320, 4095, 4096, 4097]) {
        is_refused(good[..length].to_vec(), &whole);
    }
}

#[test]
fn files_with_zeros_or_noise_in_the_middle() {
    let good = written(6, End::Killed);
    let whole = read(good.clone()).unwrap();
    for start in (0..good.len()).step_by(good.len() / 40) {
        for noise in [0x00, 0xff, 0x5a] {
            let mut bytes = good.clone();
            let end = bytes.len().min(start + 4096);
            bytes[start..end].fill(noise);
            is_refused(bytes, &whole);
        }
    }
}

#[test]
fn copies_made_while_writes_go_on() {
    let images: Vec<Vec<u8>> = (1..=6).map(|commits| written(commits, End::Killed)).collect();
    let lines: Vec<Line> = images.iter().map(|image| read(image.clone()).unwrap()).collect();
    for (earlier, later) in [(0, 1), (2, 4), (4, 5), (0, 5)] {
        let (first, second) = (&images[earlier], &images[later]);
        for cut in (0..first.len()).step_by(first.len() / 24) {
            for (head, tail) in [(first, second), (second, first)] {
                let torn = head.iter().take(cut).chain(tail.iter().skip(cut)).copied().collect();
                match read(torn) {
                    Ok(line) => assert!(lines[earlier..=later].contains(&line), "a torn copy gave a line of no moment"),
                    Err(StoreError::Damaged { .. }) => {}
                    Err(other) => panic!("a torn copy was reported as: {other}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_in_plain_words_and_kept() {
    for (length, fill) in [(0, 0), (1, 0), (4096, 0), (1 << 20, 0x5a)] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("line.redb");
        std::fs::write(&file, vec![fill; length]).unwrap();
        let refused = opened(directory.path()).await.unwrap_err().to_string();
        assert!(refused.contains("line.redb is damaged (") && refused.contains("put back a backup"), "{refused}");
        assert_eq!(std::fs::read(&file).unwrap(), vec![fill; length], "evidence is kept");
    }
}
