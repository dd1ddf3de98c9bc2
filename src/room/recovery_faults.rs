//! Places that a process has not heard of while its store fails: nobody who has one is told that it is lost.

use std::path::Path;
use std::sync::Arc;

use super::{LiveRoom, Ticket};
use crate::clock::{Clock, ManualClock};
use crate::config;
use crate::domain::line::{Asks, Standing, TicketStage};
use crate::domain::names::ClassId;
use crate::domain::time::Unix;
use crate::domain::token::VisitorId;
use crate::store::Store;
use crate::store::simulated::{SimulatedDisk, store_on};
use crate::telemetry::metrics::Metrics;

fn room() -> Arc<config::Room> {
    let text = "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n\
                [[room]]\nname = \"fair\"\npaths = [\"/fair/**\"]\nadmission_rate = \"10/s\"";
    config::parse(text, Path::new("/etc")).unwrap().rooms[0].clone()
}

#[tokio::test]
async fn a_place_drawn_elsewhere_is_not_lost_because_the_store_fails_before_it_was_heard_of() {
    let clock = Clock::Manual(ManualClock::starting_at(Unix(1_775_023_140_000)));
    let store = Arc::new(Store::Embedded(store_on(&SimulatedDisk::default()).await));
    let metrics = Arc::new(Metrics::new().unwrap());
    let live = LiveRoom::open(room(), store.clone(), &metrics, clock.now()).await.unwrap();
    store.close().await.unwrap();
    let ticket = Ticket { id: VisitorId([1; 16]), class: ClassId::CITIZEN, number: 7 };
    live.recover(&ticket, None, Asks::Scripted, clock.now()).await;
    assert!(live.does_not_know(&ticket), "no counter was lifted, so the number is not given a place yet");
    assert_eq!(live.ticket_stage(&ticket), TicketStage::Waiting);
    for standing in
        [live.poll(&ticket, Asks::Scripted, clock.now()).view.standing, live.look(&ticket, Asks::Scripted).standing]
    {
        assert!(matches!(standing, Standing::Waiting { .. }), "{standing:?}");
    }
}
