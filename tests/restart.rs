//! What a restart and a crash leave behind: everybody keeps the place, the turn and the pass.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::app::{Running, Visitor, identity_of, number_of, own, room_of};
use serde_json::json;

/// Real time in which whatever was recorded becomes durable: the promise is one second of the disk's time, which no
/// clock of a test moves.
const DURABLE: Duration = Duration::from_millis(1100);

/// Somebody of each kind.
struct People {
    inside: Visitor,
    called: Visitor,
    waiting: Vec<Visitor>,
    gone: Visitor,
}

async fn people(running: &Running) -> People {
    let inside = running.visitor();
    inside.join().await;
    running.until(inside.poll().begin(), Duration::from_secs(20)).await;
    for _ in 0..2 {
        assert!(inside.navigate("/fair/").send().await.is_the_portals());
    }
    let called = running.visitor();
    called.join().await;
    running.until(called.poll().begin(), Duration::from_secs(20)).await;
    assert!(called.token("turn").is_some());
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let visitor = running.visitor();
        visitor.join().await;
        waiting.push(visitor);
    }
    let gone = waiting.pop().unwrap();
    gone.copy().script("POST", &own("leave")).send().await;
    running.seconds(2).await;
    People { inside, called, waiting, gone }
}

/// After the new start everybody is where they were.
async fn all_is_as_before(running: &Running, people: People) {
    running.seconds(1).await;
    let People { inside, called, waiting, gone } = people;
    let identity = identity_of(&inside.token("pass").unwrap());
    let inside = inside.at(running);
    assert!(inside.navigate("/fair/").send().await.is_the_portals(), "the pass is good");
    assert_eq!(identity_of(&inside.token("pass").unwrap()), identity);

    let called = called.at(running);
    assert_eq!(called.script("GET", &own("status")).send().await.state(), "your_turn", "the turn is good");
    let (entered, _) = running.until(called.navigate("/fair/").begin(), Duration::from_secs(6)).await;
    assert!(entered.is_the_portals(), "{entered:?}");
    assert_eq!(running.lane("admissions_total"), 1.0, "nobody else was let in again");

    assert_eq!(gone.at(running).poll().send().await.state(), "left");
    let newcomer = running.visitor();
    newcomer.join().await;
    let number = number_of(&newcomer.token("ticket").unwrap());
    let mut numbers = BTreeSet::from([number]);
    let mut last_ahead = None;
    for visitor in waiting {
        let visitor = visitor.at(running);
        let ticket = visitor.token("ticket").unwrap();
        let joined = visitor.join().await;
        assert_eq!(visitor.token("ticket").unwrap(), ticket, "no new ticket");
        assert!(["waiting", "your_turn"].contains(&joined.state().as_str()), "{}", joined.text());
        assert!(numbers.insert(number_of(&ticket)), "a number twice");
        assert!(number_of(&ticket) < number, "a newcomer before one who waits");
        if let Some(ahead) = joined.queue()["ahead"].as_u64() {
            assert!(last_ahead.is_none_or(|before| before <= ahead), "the order changed");
            last_ahead = Some(ahead);
        }
    }
    let last = newcomer.join().await.queue()["ahead"].as_u64().unwrap();
    assert!(last >= last_ahead.unwrap(), "the newcomer stands behind");
}

#[tokio::test]
async fn a_restart_changes_nothing_for_anybody() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let people = people(&running).await;
    let running = running.restart().await;
    all_is_as_before(&running, people).await;
}

#[tokio::test]
async fn a_crash_changes_nothing_that_is_a_second_old() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let people = people(&running).await;
    tokio::time::sleep(DURABLE).await;
    let running = running.crash().await;
    all_is_as_before(&running, people).await;
}

#[tokio::test]
async fn a_crash_at_once_costs_nobody_the_ticket_and_repeats_no_number() {
    let mut running = room_of("1/s").with("entry = \"page\"").start().await;
    let mut everybody: Vec<Visitor> = Vec::new();
    let mut numbers = BTreeSet::new();
    for round in 0..4 {
        for _ in 0..10 {
            let visitor = running.visitor();
            visitor.join().await;
            assert!(numbers.insert(number_of(&visitor.token("ticket").unwrap())), "a number twice in round {round}");
            everybody.push(visitor);
        }
        running = running.crash().await;
        running.advance(Duration::from_millis(100)).await;
        for visitor in &mut everybody {
            *visitor = visitor.clone().at(&running);
            let ticket = visitor.token("ticket").unwrap();
            let state = visitor.join().await.state();
            assert!(["waiting", "your_turn"].contains(&state.as_str()), "round {round}: {state}");
            assert_eq!(visitor.token("ticket").unwrap(), ticket, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_turn_given_just_before_a_crash_is_honoured() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let mut line = Vec::new();
    for _ in 0..12 {
        let visitor = running.visitor();
        visitor.join().await;
        line.push(visitor);
    }
    tokio::time::sleep(DURABLE).await;
    let last = line.pop().unwrap();
    let (turn, held) = running.until(last.poll().begin(), Duration::from_secs(20)).await;
    assert_eq!(turn.state(), "your_turn");
    assert!(held > Duration::from_secs(3), "the answer was held for {held:?}");
    let running = running.crash().await;
    let last = last.at(&running);
    running.seconds(2).await;
    let (entered, _) = running.until(last.navigate("/fair/").begin(), Duration::from_secs(6)).await;
    assert!(entered.is_the_portals(), "{entered:?}");
}

#[tokio::test]
async fn nobody_is_overtaken_over_a_restart() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let mut line = Vec::new();
    for _ in 0..30 {
        let visitor = running.visitor();
        visitor.join().await;
        line.push(visitor);
    }
    running.seconds(3).await;
    let running = running.restart().await;
    for _ in 0..10 {
        let visitor = running.visitor();
        visitor.join().await;
        line.push(visitor);
    }
    // Those who waited before come back only after a while; the newcomers ask all the time.
    let line: Vec<Visitor> = line.into_iter().map(|visitor| visitor.at(&running)).collect();
    let mut called = BTreeSet::new();
    for second in 0..40 {
        running.seconds(1).await;
        let asking = if second < 15 { &line[30..] } else { &line[..] };
        for (place, visitor) in asking.iter().enumerate() {
            let place = place + line.len() - asking.len();
            if visitor.join().await.state() == "your_turn" {
                called.insert(place);
            }
        }
        let newcomers = called.iter().filter(|place| **place >= 30).count();
        if newcomers > 0 {
            // Everybody who waited before has the turn before any newcomer has.
            for visitor in &line[..30] {
                assert_eq!(visitor.join().await.state(), "your_turn", "overtaken in second {second}");
            }
        }
    }
    assert!(called.len() >= 20, "the line moved: {called:?}");
}

#[tokio::test]
async fn an_idle_room_is_open_at_once_after_a_restart() {
    let running = room_of("10/s").start().await;
    assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
    let running = running.restart().await;
    running.seconds(1).await;
    let straight = running.visitor().navigate("/fair/").send().await;
    assert!(straight.is_the_portals(), "nobody waits, and yet a page: {}", straight.status);
}

#[tokio::test]
async fn an_idle_room_is_open_soon_after_a_crash() {
    let running = room_of("10/s").start().await;
    assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
    tokio::time::sleep(DURABLE).await;
    let running = running.crash().await;
    running.seconds(30).await;
    let straight = running.visitor().navigate("/fair/").send().await;
    assert!(straight.is_the_portals(), "nobody waits, and yet a page: {}", straight.status);
}

#[tokio::test]
async fn who_logged_out_stays_out_and_seats_still_count() {
    let running = room_of("10/s").with("max_active_sessions = 2\nlogout = [\"/goodbye\"]").start().await;
    let (stays, leaves) = (running.visitor(), running.visitor());
    for visitor in [&stays, &leaves] {
        for _ in 0..2 {
            assert!(visitor.navigate("/fair/").send().await.is_the_portals());
        }
    }
    let copy = leaves.copy();
    leaves.navigate("/goodbye").send().await;
    let running = running.restart().await;
    running.seconds(2).await;
    assert_eq!(running.metric("active_sessions{class=\"citizen\",room=\"fair\"}"), 1.0);
    assert!(stays.at(&running).navigate("/fair/").send().await.is_the_portals());
    assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
    running.seconds(1).await;
    let late = copy.at(&running).navigate("/fair/").send().await;
    assert_eq!(late.status, 503, "the pass of the one who logged out opens nothing");
    assert_eq!(running.board().await["reason"]["code"], json!("room_full"));
}
