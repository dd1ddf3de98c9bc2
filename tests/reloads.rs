//! Changes of the configuration while visitors wait and are inside.

use std::time::Duration;

use crate::support::app::{self, PATIENCE, ROOM, Running, Setup, Visitor, Wire, number_of, room_of};
use anticamera::admin::ReloadAnswer;
use anticamera::app::reload;
use anticamera::config::watch::Watch;
use serde_json::json;
use tokio::time::timeout;

async fn a_line(running: &Running, length: usize) -> Vec<Visitor> {
    let mut line = Vec::new();
    for _ in 0..length {
        let visitor = running.visitor();
        assert_eq!(visitor.join().await.status, 200);
        line.push(visitor);
    }
    line
}

fn with_page(rate: &str) -> Setup {
    room_of(rate).with("entry = \"page\"")
}

/// Everybody of the line polls; whoever has the turn tries to enter.
async fn everybody_tries(running: &Running, line: &[Visitor]) {
    for visitor in line {
        drop(visitor.script("GET", "/fair/enter").begin());
    }
    running.rest().await;
}

#[tokio::test]
async fn a_changed_rate_takes_effect_within_a_second_and_costs_nobody_anything() {
    let running = with_page("1/s").start().await;
    let line = a_line(&running, 120).await;
    let tickets: Vec<_> = line.iter().map(|visitor| visitor.token("ticket").unwrap()).collect();
    let mut wire = Wire::open(&line[100]).await;
    assert_eq!(line[100].poll().on(&mut wire).await.state(), "waiting");
    let portals_connections = running.portal.connections();

    let slow = running.lane("calls_total");
    running.seconds(5).await;
    let before = running.lane("calls_total");
    let slow = before - slow;
    // Nobody of them comes to the gate, so the loop calls up to twice the rate and the gate's target of three at first.
    assert!(slow <= 20.0, "{slow} called in five seconds at 1/s");

    assert_eq!(running.reload(&with_page("100/s")).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    assert_eq!(running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}")), 100.0);
    assert_eq!(running.board().await["rate"], json!("100/s"));
    let fast = running.lane("calls_total") - before;
    assert!(fast >= 50.0, "{fast} called in the second after the change to 100/s");

    assert_eq!(line[100].join().await.status, 200);
    assert_eq!(line[100].poll().on(&mut wire).await.status, 200, "the same connection");
    for (visitor, ticket) in line.iter().zip(&tickets) {
        let state = visitor.join().await.state();
        assert!(["waiting", "your_turn"].contains(&state.as_str()), "{state}");
        assert_eq!(visitor.token("ticket").as_ref(), Some(ticket));
    }
    assert_eq!(running.portal.connections(), portals_connections);
    assert_eq!(running.lane("arrivals_total"), 120.0);
}

#[tokio::test]
async fn entries_never_exceed_the_rate_over_a_change() {
    let running = with_page("20/s").start().await;
    let line = a_line(&running, 100).await;
    running.seconds(8).await;
    let mut entries = vec![running.lane("admissions_total")];
    for tick in 0..40 {
        if tick == 10 {
            assert_eq!(running.reload(&with_page("2/s")).await, ReloadAnswer::Applied);
        }
        running.advance(Duration::from_millis(100)).await;
        let waiting: Vec<_> = line.iter().filter(|visitor| visitor.token("pass").is_none()).cloned().collect();
        everybody_tries(&running, &waiting).await;
        entries.push(running.lane("admissions_total"));
    }
    let first = entries[10] - entries[0];
    assert!(first <= 27.0, "{first} in the first second at 20/s");
    let after = entries[40] - entries[11];
    assert!(after <= 9.0, "{after} in three seconds at 2/s: {entries:?}");
    assert!(after >= 4.0, "{entries:?}");
}

#[tokio::test]
async fn a_faulty_file_changes_nothing_and_says_why() {
    let running = with_page("1/s").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    running.write(&with_page("fast").with("nmae = 3"));
    let answer = running.operate("POST", "/admin/v1/reload").await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("admission_rate") && text.contains("nmae"), "all faults at once: {text}");
    running.seconds(1).await;
    assert_eq!(running.board().await["rate"], json!("1/s"));
    assert_eq!(running.metric("config_last_reload_success"), 0.0);
    assert!(["waiting", "your_turn"].contains(&visitor.join().await.state().as_str()));

    running.write(&with_page("2/s"));
    assert_eq!(running.operate("POST", "/admin/v1/reload").await.status, 200);
    assert_eq!(running.metric("config_last_reload_success"), 1.0);
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_as_a_whole() {
    let running = with_page("1/s").start().await;
    running.write(&with_page("7/s").with_more("[store]\npath = \"elsewhere\""));
    let answer = running.operate("POST", "/admin/v1/reload").await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("store"), "{}", answer.text());
    running.seconds(1).await;
    assert_eq!(running.board().await["rate"], json!("1/s"), "nothing of it is in force");
}

#[tokio::test]
async fn other_peoples_pages_cannot_reload() {
    let running = with_page("1/s").start().await;
    running.write(&with_page("2/s"));
    let operator = running.visitor();
    let foreign = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Host", "evil.example")];
    for (name, value) in foreign {
        let asking = app::at(&operator, running.admin).request("POST", "/admin/v1/reload").header(name, value);
        assert_eq!(asking.send().await.status, 403, "{name}");
    }
    running.seconds(1).await;
    assert_eq!(running.board().await["rate"], json!("1/s"));
}

#[tokio::test]
async fn a_changed_file_is_noticed_by_itself() {
    let running = with_page("1/s").start().await;
    let mut watch = Watch::new(&running.file);
    running.write(&with_page("3/s"));
    timeout(PATIENCE, watch.changed()).await.expect("the change is noticed");
    assert_eq!(reload(&running.app.commands()).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    assert_eq!(running.board().await["rate"], json!("3/s"));
}

#[tokio::test]
async fn a_held_room_lets_nobody_in_and_nobody_loses_anything() {
    let running = room_of("10/s").start().await;
    let inside = running.visitor();
    assert!(inside.navigate("/fair/").send().await.is_the_portals());
    let held = room_of("10/s").with("state = \"hold\"\nclaim_window = \"1m\"\nmessage = \"Back <soon> & safe\"");
    let called = running.visitor();
    called.join().await;
    let (turn, _) = running.until(called.poll().begin(), Duration::from_secs(20)).await;
    assert_eq!(turn.state(), "your_turn");
    assert_eq!(running.reload(&held).await, ReloadAnswer::Applied);
    running.seconds(1).await;

    let newcomer = running.visitor();
    let page = newcomer.navigate("/fair/").send().await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("Back &lt;soon&gt; &amp; safe"), "{}", page.text());
    let joined = newcomer.join().await.queue();
    assert_eq!((&joined["state"], &joined["reason"]["code"]), (&json!("held"), &json!("operator_hold")));
    assert_eq!(joined["message"], json!("Back <soon> & safe"));
    let board = running.board().await;
    assert_eq!((&board["state"], &board["reason"]["code"]), (&json!("hold"), &json!("operator_hold")));
    assert_eq!(running.metric(&format!("room_state{{room=\"{ROOM}\",state=\"hold\"}}")), 1.0);
    assert!(inside.navigate("/fair/").send().await.is_the_portals(), "whoever is inside stays inside");
    // The called visitor is answered at once, not held, and keeps the turn however long it takes.
    assert_eq!(called.navigate("/fair/").send().await.status, 503);
    running.seconds(300).await;
    assert_eq!(running.lane("no_shows_total"), 0.0);
    let calls = running.lane("calls_total");

    assert_eq!(running.reload(&room_of("10/s")).await, ReloadAnswer::Applied);
    running.seconds(2).await;
    assert!(called.navigate("/fair/").send().await.is_the_portals());
    assert!(running.lane("calls_total") > calls);
}

#[tokio::test]
async fn observing_lets_everybody_pass() {
    let running = room_of("1/min").with("state = \"observe\"").start().await;
    for _ in 0..20 {
        assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
        assert!(running.visitor().image("/fair/x.png").send().await.is_the_portals());
    }
}

#[tokio::test]
async fn a_closed_room_keeps_places_and_passes() {
    let running = room_of("10/s").with("bypass = [\"/fair/open\"]").start().await;
    let inside = running.visitor();
    for _ in 0..2 {
        assert!(inside.navigate("/fair/").send().await.is_the_portals());
    }
    let mut line = a_line(&running, 3).await;
    let last = line.pop().unwrap();
    let number = number_of(&last.token("ticket").unwrap());
    let closed = room_of("10/s").with("bypass = [\"/fair/open\"]\nstate = \"closed\"\nmessage = \"At noon\"");
    assert_eq!(running.reload(&closed).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    let page = inside.navigate("/fair/").send().await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("At noon"), "{}", page.text());
    assert_eq!(last.poll().send().await.state(), "maintenance");
    assert_eq!(running.visitor().join().await.state(), "maintenance");
    assert!(running.visitor().navigate("/fair/open").send().await.is_the_portals());
    running.seconds(3600).await;
    assert_eq!(running.reload(&room_of("10/s").with("bypass = [\"/fair/open\"]")).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    assert!(inside.navigate("/fair/").send().await.is_the_portals(), "the pass was kept");
    assert!(["waiting", "your_turn"].contains(&last.join().await.state().as_str()));
    assert_eq!(number_of(&last.token("ticket").unwrap()), number);
}

#[tokio::test]
async fn operators_hold_a_room_with_their_token() {
    let running = room_of("10/s").start().await;
    let token = std::fs::read_to_string(running.directory.path().join("state/admin-token")).unwrap();
    let path = format!("/admin/v1/rooms/{ROOM}/state");
    let operator = app::at(&running.visitor(), running.admin);
    let wish = json!({"state": "hold"});
    let ask =
        |token: &str| operator.request("POST", &path).header("Authorization", &format!("Bearer {token}")).json(&wish);
    let refused = ask("wrong").send().await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let held = ask(token.trim()).send().await;
    assert_eq!(held.status, 200, "{}", held.text());
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
}

#[tokio::test]
async fn a_hold_counts_before_the_next_tick() {
    let running = room_of("10/s").start().await;
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 200);
    running.seconds(1).await;
    running.write(&room_of("10/s").with("state = \"hold\""));
    assert_eq!(running.operate("POST", "/admin/v1/reload").await.status, 200);
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
}
