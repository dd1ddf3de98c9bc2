//! The portal fails, is full, or comes back: nobody is let in for nothing, and nobody loses anything.

use std::time::Duration;

use crate::support::app::{PATIENCE, ROOM, Running, Visitor, room_of};
use crate::support::portal::{self, FakePortal, Script, gate};
use serde_json::json;
use tokio::time::timeout;

/// The portal stops listening and hangs up.
async fn fall(running: &mut Running) -> std::net::SocketAddr {
    let address = running.portal.address;
    let elsewhere = FakePortal::start().await;
    drop(std::mem::replace(&mut running.portal, elsewhere));
    // Connections that stand are used up; one that is closed is the portal's right at any time.
    running.seconds(1).await;
    address
}

/// Requests of somebody inside until admission is held.
async fn notice(running: &Running, inside: &Visitor) {
    let mut failures = 0;
    for _ in 0..10 {
        let answer = inside.navigate("/fair/").send().await;
        failures += usize::from([502, 504].contains(&answer.status));
        if failures == 3 {
            break;
        }
    }
    assert_eq!(failures, 3, "three failures");
    running.seconds(1).await;
}

#[tokio::test]
async fn a_dead_portal_holds_admission_and_everybody_keeps_everything() {
    let mut running = room_of("10/s")
        .with("session_duration = \"4m\"\nclaim_window = \"1m\"")
        .with_portal("keep_alive = \"1ms\"")
        .start()
        .await;
    let inside = running.insider().await;
    let mut line = Vec::new();
    for _ in 0..90 {
        let visitor = running.visitor();
        visitor.join().await;
        line.push(visitor);
    }
    let called = line.remove(0);
    let (turn, _) = running.until(called.poll().begin(), Duration::from_secs(20)).await;
    assert_eq!(turn.state(), "your_turn");
    let address = fall(&mut running).await;
    let error = inside.navigate("/fair/").send().await;
    assert_eq!(error.status, 502, "{error:?}");
    assert!(error.text().contains("<html") && error.is_personal(), "a clear page: {}", error.text());
    notice(&running, &inside).await;

    assert_eq!(running.metric("portal_healthy"), 0.0);
    assert_eq!(running.board().await["reason"]["code"], json!("portal_unhealthy"));
    let last = line.last().unwrap();
    let joined = last.join().await.queue();
    assert_eq!((&joined["state"], &joined["reason"]["code"]), (&json!("waiting"), &json!("portal_unhealthy")));
    assert!(joined["reason"]["text"].as_str().is_some_and(|text| !text.is_empty()));
    // Nobody is held at the gate while nobody can enter: this returns without the clock.
    let admitted = running.lane("admissions_total");
    let at_once = called.navigate("/fair/").send().await;
    assert_eq!(at_once.status, 503);
    let post = called.form("/fair/apply", "a=b").send().await;
    assert_eq!(post.status, 503);
    running.seconds(600).await;
    assert_eq!(running.lane("admissions_total"), admitted);
    assert_eq!(running.lane("no_shows_total"), 0.0, "claim windows stand still");

    // It comes back; the probe each second notices.
    let came_back = FakePortal::on(address).await;
    running.portal = came_back;
    let healthy = async {
        while running.metric("portal_healthy") == 0.0 {
            running.seconds(1).await;
        }
    };
    timeout(PATIENCE, healthy).await.expect("one success ends it");
    assert!(inside.navigate("/fair/").send().await.is_the_portals(), "session clocks stood still");
    // The board is up to a second old.
    let told = async {
        while running.board().await["reason"]["code"] != json!("ramping_up") {
            running.seconds(1).await;
        }
    };
    timeout(PATIENCE, told).await.expect("the board says why");
    let in_force = running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}"));
    assert!((1.0..2.0).contains(&in_force), "{in_force}");
    running.seconds(2).await;
    let (entered, _) = running.until(called.navigate("/fair/").begin(), Duration::from_secs(6)).await;
    assert!(entered.is_the_portals(), "the turn was kept: {entered:?}");
    for visitor in &line {
        assert!(["waiting", "your_turn"].contains(&visitor.join().await.state().as_str()), "the place was kept");
    }
    running.seconds(30).await;
    let half = running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}"));
    assert!((5.0..8.0).contains(&half), "{half}");
    running.seconds(31).await;
    assert_eq!(running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}")), 10.0);
    assert_eq!(running.board().await["reason"], json!(null));
}

#[tokio::test]
async fn whoever_meets_an_error_keeps_the_pass() {
    let mut running = room_of("10/s").with_portal("keep_alive = \"1ms\"").start().await;
    let address = fall(&mut running).await;
    let visitor = running.visitor();
    let error = visitor.navigate("/fair/").send().await;
    assert_eq!(error.status, 502);
    assert!(error.sets("pass").is_some(), "the error carries the pass: {error:?}");
    running.portal = FakePortal::on(address).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    assert_eq!(running.lane("admissions_total"), 1.0);

    running.portal.script("/fair/broken", [Script::answer(500, "", "oops")]);
    let visitor = running.visitor();
    running.seconds(1).await;
    let broken = visitor.navigate("/fair/broken").send().await;
    assert_eq!((broken.status, broken.text().as_str()), (500, "oops"));
    assert!(broken.sets("pass").is_some());
    assert_eq!(running.metric("portal_healthy"), 1.0, "an answer is an answer");
}

#[tokio::test]
async fn two_failures_and_a_success_hold_nothing() {
    let mut running = room_of("10/s").with_portal("keep_alive = \"1ms\"").start().await;
    let inside = running.insider().await;
    let address = fall(&mut running).await;
    for _ in 0..2 {
        assert_eq!(inside.navigate("/fair/").send().await.status, 502);
    }
    running.portal = FakePortal::on(address).await;
    assert!(inside.navigate("/fair/").send().await.is_the_portals());
    fall(&mut running).await;
    for _ in 0..2 {
        assert_eq!(inside.navigate("/fair/").send().await.status, 502);
    }
    running.seconds(1).await;
    assert_eq!(running.board().await["reason"], json!(null));
}

#[tokio::test]
async fn a_full_portal_serves_those_inside_first() {
    let running = room_of("10/s").with_portal("max_in_flight = 1\nqueue_timeout = \"10s\"").start().await;
    let (inside, second) = (running.insider().await, running.insider().await);
    running.seconds(1).await;
    let (open, step) = gate();
    running.portal.script(
        "/fair/slow",
        [Script::new([step, portal::Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec())])],
    );
    let before = running.portal.seen().len();
    let slow = inside.navigate("/fair/slow").begin();
    timeout(PATIENCE, running.portal.arrived(before + 1)).await.unwrap();
    let newcomer = running.visitor();
    let waits = newcomer.navigate("/fair/newcomer").begin();
    running.rest().await;
    let insiders = second.navigate("/fair/insider").begin();
    running.advance(Duration::from_secs(2)).await;
    running.rest().await;
    assert_eq!(running.portal.seen().len(), before + 1, "one at a time");
    let admitted = running.lane("admissions_total");
    open.send(true).unwrap();
    assert!(slow.await.unwrap().is_the_portals());
    assert!(timeout(PATIENCE, insiders).await.unwrap().unwrap().is_the_portals());
    let (entered, _) = running.until(waits, Duration::from_secs(5)).await;
    assert!(entered.is_the_portals(), "{entered:?}");
    let order: Vec<String> = running.portal.seen()[before..].iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(order, ["/fair/slow", "/fair/insider", "/fair/newcomer"]);
    assert_eq!(running.lane("admissions_total"), admitted + 1.0);
}

#[tokio::test]
async fn a_full_portal_costs_those_who_give_up_no_admission() {
    let running = room_of("1/s").with("gate_wait = \"2s\"").with_portal("max_in_flight = 1").start().await;
    let inside = running.insider().await;
    running.seconds(2).await;
    let (open, step) = gate();
    running.portal.script(
        "/fair/slow",
        [Script::new([step, portal::Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec())])],
    );
    let before = running.portal.seen().len();
    let slow = inside.navigate("/fair/slow").begin();
    timeout(PATIENCE, running.portal.arrived(before + 1)).await.unwrap();
    let admitted = running.lane("admissions_total");
    let (page, held) = running.until(running.visitor().navigate("/fair/").begin(), PATIENCE).await;
    assert_eq!(page.status, 503, "after {held:?}");
    assert!(held <= Duration::from_millis(2300), "{held:?}");
    assert_eq!(running.lane("admissions_total"), admitted);
    open.send(true).unwrap();
    assert!(slow.await.unwrap().is_the_portals());
    assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
}
