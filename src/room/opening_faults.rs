//! Openings on a disk that hangs or fails: nobody is promised what is not written down, and nobody waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{LiveRoom, Occasion};
use crate::clock::{Clock, ManualClock};
use crate::config;
use crate::domain::line::{Asks, StraightThrough};
use crate::domain::names::ClassId;
use crate::domain::opening::Phase;
use crate::domain::time::Unix;
use crate::room::Around;
use crate::store::Store;
use crate::store::simulated::{Behaviour, SimulatedDisk, store_on};
use crate::telemetry::metrics::Metrics;

/// 2026-04-01T05:59:00Z, a minute before eight in Rome.
const BEGINNING: Unix = Unix(1_775_023_140_000);
const AT_EIGHT: &str = "[room.opening]\nat = \"2026-04-01T08:00\"\norder = \"lottery\"";

/// A room on a simulated disk.
struct Simulated {
    disk: SimulatedDisk,
    clock: ManualClock,
    live: Arc<LiveRoom>,
}

fn room(opening: &str) -> Arc<config::Room> {
    let text = format!(
        "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n\
         [[room]]\nname = \"fair\"\npaths = [\"/fair/**\"]\nadmission_rate = \"10/s\"\n{opening}"
    );
    config::parse(&text, Path::new("/etc")).unwrap().rooms[0].clone()
}

impl Simulated {
    async fn with(opening: &str) -> Simulated {
        let disk = SimulatedDisk::default();
        let clock = ManualClock::starting_at(BEGINNING);
        let store = Arc::new(Store::Embedded(store_on(&disk).await));
        let metrics = Arc::new(Metrics::new().unwrap());
        let live = LiveRoom::open(room(opening), store, &metrics, clock.now()).await.unwrap();
        Simulated { disk, clock, live }
    }

    fn tick(&self) {
        self.live.tick(self.clock.now(), Around { standstill: None, ramp: 1000 });
        self.live.hold_opening_when_due(&Clock::Manual(self.clock.clone()));
    }

    /// Lets time pass until the room is open, or for a minute.
    async fn opens(&self) -> bool {
        for _ in 0..600 {
            self.clock.advance(Duration::from_millis(100));
            self.tick();
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.live.phase() == Phase::Open {
                return true;
            }
        }
        false
    }
}

#[tokio::test]
async fn a_disk_that_hangs_at_the_hour_reveals_nothing_and_holds_up_nobody() {
    let Simulated { disk, clock, live } = &Simulated::with(AT_EIGHT).await;
    let room_as_it_is = Simulated { disk: disk.clone(), clock: clock.clone(), live: live.clone() };
    let mut tickets = Vec::new();
    for _ in 0..5 {
        let drawn = live.join(ClassId::CITIZEN, Occasion::Join(None), Asks::Scripted, clock.now()).await;
        tickets.push(drawn.unwrap().0);
    }
    disk.behave(Behaviour::Hangs);
    clock.advance(Duration::from_secs(61));
    room_as_it_is.tick();
    assert!(matches!(live.phase(), Phase::Due { .. }), "{:?}", live.phase());
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        clock.advance(Duration::from_millis(100));
        room_as_it_is.tick();
        assert!(live.last_opening().unwrap().held.is_none(), "what is not durable is not revealed");
        assert_eq!(live.straight_through(ClassId::CITIZEN), StraightThrough::No);
        assert_eq!(live.number_to_tell(&tickets[0]), None);
        live.poll(&tickets[0], Asks::Scripted, clock.now());
    }
    // A reload that changes nothing of the opening has nothing to write, and waits for nobody who writes.
    let same = room(AT_EIGHT);
    let reload = live.prepare_opening(&same, clock.now());
    tokio::time::timeout(Duration::from_secs(1), reload).await.expect("it waits for nobody").unwrap();
    disk.behave(Behaviour::Works);
    assert!(room_as_it_is.opens().await, "it opens once the disk works");
    let held = live.last_opening().unwrap().held.unwrap();
    assert_eq!(held.lanes.iter().map(|lane| lane.count).sum::<u64>(), 5);
    let mut places: Vec<u64> = tickets.iter().filter_map(|ticket| live.number_to_tell(ticket)).collect();
    places.sort_unstable();
    assert_eq!(places, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_opening_that_could_not_be_written_down_is_taken_back_and_closes_nobody_out() {
    let Simulated { disk, clock, live } = &Simulated::with("").await;
    disk.behave(Behaviour::Fails { after: 0, with: std::io::ErrorKind::StorageFull });
    let planned = room(AT_EIGHT);
    live.prepare_opening(&planned, clock.now()).await.unwrap_err();
    live.take_back_opening(clock.now()).await;
    live.tick(clock.now(), Around { standstill: None, ramp: 1000 });
    assert_eq!((live.phase(), live.last_opening()), (Phase::Open, None));
    disk.behave(Behaviour::Works);
    for _ in 0..100 {
        if live.prepare_opening(&planned, clock.now()).await.is_ok() {
            live.reconfigure(planned.clone(), clock.now());
            let opening = live.last_opening().unwrap();
            assert_eq!((opening.number, opening.held), (1, None), "the first that anybody hears of");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the disk works, and the opening cannot be written down");
}
