//! The portal, or the login provider, is not well: probes, errors, slowness, an operator's word. Nobody new enters, the
//! clocks of those inside stand still, and afterwards the rate climbs.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::app::{Answer, PATIENCE, ROOM, Running, Visitor, at, room_of};
use crate::support::portal::{FakePortal, Script, Step, gate};

/// So many inside, whose entries are long enough ago to say nothing about the portal any more.
async fn insiders(running: &Running, count: usize) -> Vec<Visitor> {
    let mut inside = Vec::new();
    for _ in 0..count {
        inside.push(running.insider().await);
    }
    running.seconds(11).await;
    inside
}

/// Lets seconds pass, one by one, until this is so.
async fn until(running: &Running, so: impl Fn() -> bool) -> u64 {
    let waiting = async {
        let mut seconds = 0;
        while !so() {
            running.seconds(1).await;
            seconds += 1;
            // A probe is answered in real time.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seconds
    };
    timeout(PATIENCE, waiting).await.expect("it becomes so")
}

fn rate(running: &Running) -> f64 {
    running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}"))
}

async fn operate(running: &Running, what: &str) -> Answer {
    let token = std::fs::read_to_string(running.directory.path().join("state/admin-token")).unwrap();
    let operator = at(&running.visitor(), running.admin);
    let path = format!("/admin/v1/rooms/{ROOM}/{what}");
    operator.request("POST", &path).header("Authorization", &format!("Bearer {}", token.trim())).send().await
}

async fn status_of_room(running: &Running) -> Value {
    running.operate("GET", "/admin/v1/status").await.json()["rooms"][0].clone()
}

/// Nobody new enters, and nothing of those inside or in the line runs out in so many seconds.
async fn assert_stands_still(running: &Running, inside: &Visitor, seconds: u64) {
    let admitted = running.lane("admissions_total");
    let newcomer = running.visitor();
    assert_eq!(newcomer.navigate("/fair/").send().await.status, 503, "nobody new");
    let joined = newcomer.join().await.queue();
    assert_eq!((&joined["state"], &joined["reason"]["code"]), (&json!("waiting"), &json!("portal_unhealthy")));
    running.seconds(seconds).await;
    assert_eq!(running.lane("admissions_total"), admitted);
    assert_eq!(running.board().await["reason"]["code"], json!("portal_unhealthy"));
    assert!(inside.navigate("/fair/").send().await.is_the_portals(), "the clocks of those inside stood still");
    assert_eq!(running.lane("admissions_total"), admitted, "with the pass that they had");
}

#[tokio::test]
async fn a_portal_that_says_that_it_is_ill_gets_nobody_new_until_it_says_otherwise() {
    let running = room_of("10/s")
        .with("session_duration = \"2m\"")
        .with_portal("health = \"/alive?deep=1\"\nhealth_interval = \"1s\"\nhealth_failures = 3\nhealth_successes = 2")
        .start()
        .await;
    let inside = running.insider().await;
    running.seconds(2).await;
    let probe = running.portal.seen().into_iter().find(|seen| seen.target == "/alive?deep=1").expect("a probe");
    assert_eq!((probe.method.as_str(), probe.header("user-agent")), ("GET", Some("anticamera-probe")));
    assert_eq!(running.metric("portal_healthy"), 1.0);

    running.portal.script("/alive", [Script::answer(503, "", "")]);
    until(&running, || running.metric("portal_healthy") == 0.0).await;
    assert_stands_still(&running, &inside, 600).await;

    running.portal.script("/alive", [Script::answer(204, "", "")]);
    until(&running, || running.metric("portal_healthy") == 1.0).await;
    running.seconds(3).await;
    assert_eq!(running.board().await["reason"]["code"], json!("ramping_up"));
    assert!((0.9..3.0).contains(&rate(&running)), "{}", rate(&running));
    let board = running.board().await["rate"].as_str().unwrap().to_owned();
    assert!(["1/s", "2/s"].contains(&board.as_str()), "{board}");
    running.seconds(61).await;
    assert_eq!(rate(&running), 10.0);
    assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
}

#[tokio::test]
async fn one_bad_probe_is_chance_and_a_reload_ends_the_asking() {
    let running =
        room_of("10/s").with_portal("health = \"/alive\"\nhealth_interval = \"1s\"\nhealth_failures = 2").start().await;
    running.portal.script("/alive", [Script::answer(500, "", ""), Script::answer(200, "", "")]);
    running.seconds(5).await;
    assert_eq!(running.metric("portal_healthy"), 1.0);
    running.portal.script("/alive", [Script::answer(500, "", "")]);
    until(&running, || running.metric("portal_healthy") == 0.0).await;
    let setup = room_of("10/s");
    running.reload(&setup).await;
    until(&running, || running.metric("portal_healthy") == 1.0).await;
    let asked = running.portal.seen().len();
    running.seconds(5).await;
    assert_eq!(running.portal.seen().len(), asked, "nobody asks any more");
}

#[tokio::test]
async fn a_portal_whose_answers_are_mostly_errors_gets_nobody_new() {
    let running = room_of("100/s").with("session_duration = \"2m\"").start().await;
    let crowd = insiders(&running, 30).await;
    running.portal.script("/fair/busy", [Script::answer(503, "", "too many")]);
    for inside in &crowd {
        let answer = inside.navigate("/fair/busy").send().await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "too many"), "what the portal says is passed on");
    }
    running.seconds(2).await;
    assert_eq!(running.metric("portal_healthy"), 0.0);
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
    // Ten seconds later that is over.
    until(&running, || running.metric("portal_healthy") == 1.0).await;
    assert!(crowd[0].navigate("/fair/").send().await.is_the_portals());
}

#[tokio::test]
async fn one_visitor_who_meets_errors_again_and_again_does_not_stop_the_others() {
    let running = room_of("100/s").start().await;
    let inside = insiders(&running, 1).await;
    running.portal.script("/fair/busy", [Script::answer(503, "", "too many")]);
    for _ in 0..12 {
        for _ in 0..30 {
            assert_eq!(inside[0].navigate("/fair/busy").send().await.status, 503);
        }
        running.seconds(1).await;
        assert_eq!(running.metric("portal_healthy"), 1.0);
    }
    assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
}

/// A request of everybody inside, each of which the portal takes so long for.
async fn slow_answers(running: &Running, crowd: &[Visitor], takes: Duration) {
    let (open, step) = gate();
    let answer = Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec());
    running.portal.script("/fair/slow", [Script::new([step, answer])]);
    let before = running.portal.seen().len();
    let asking: Vec<_> = crowd.iter().map(|inside| inside.navigate("/fair/slow").begin()).collect();
    timeout(PATIENCE, running.portal.arrived(before + crowd.len())).await.unwrap();
    running.advance(takes).await;
    open.send(true).unwrap();
    for answer in asking {
        assert!(answer.await.unwrap().is_the_portals());
    }
    running.rest().await;
}

#[tokio::test]
async fn a_portal_that_takes_too_long_gets_nobody_new() {
    let running = room_of("100/s").with_portal("max_latency = \"5s\"").start().await;
    let crowd = insiders(&running, 30).await;
    slow_answers(&running, &crowd, Duration::from_secs(2)).await;
    running.seconds(1).await;
    assert_eq!(running.metric("portal_healthy"), 1.0);
    slow_answers(&running, &crowd, Duration::from_secs(9)).await;
    running.seconds(1).await;
    assert_eq!(running.metric("portal_healthy"), 0.0);
    until(&running, || running.metric("portal_healthy") == 1.0).await;
}

#[tokio::test]
async fn the_rate_adapts_to_a_slow_portal_within_its_bounds_and_the_page_says_why() {
    let running = room_of("100/s")
        .with("adaptive = { floor = \"80/s\", target_p95 = \"500ms\" }\nentry = \"page\"")
        .start()
        .await;
    let mut crowd = Vec::new();
    for _ in 0..25 {
        let visitor = running.visitor();
        visitor.join().await;
        running.until(visitor.poll().begin(), Duration::from_secs(20)).await;
        for _ in 0..2 {
            assert!(visitor.navigate("/fair/").send().await.is_the_portals());
        }
        crowd.push(visitor);
    }
    // How fast they entered is forgotten.
    running.seconds(121).await;
    assert_eq!(rate(&running), 100.0);
    for _ in 0..3 {
        slow_answers(&running, &crowd, Duration::from_secs(4)).await;
        assert!(rate(&running) >= 80.0, "{}", rate(&running));
    }
    running.seconds(1).await;
    assert_eq!(rate(&running), 80.0, "down to the floor and no further");
    assert_eq!(running.board().await["rate"], json!("80/s"));
    assert_eq!(status_of_room(&running).await["admission_rate"], json!(80.0));
    let waits = running.visitor();
    let joined = waits.join().await.queue();
    assert_eq!(joined["reason"]["code"], json!("ramping_up"), "{joined}");
    assert_eq!(running.metric("portal_healthy"), 1.0, "slow is not ill");
    // Nobody asks the portal anything any more; what was slow is forgotten after two minutes.
    running.seconds(240).await;
    assert_eq!(rate(&running), 100.0);
    assert_eq!(running.board().await["reason"], json!(null));
}

#[tokio::test]
async fn a_login_provider_that_is_down_stops_the_clocks_of_its_room_alone() {
    let provider = FakePortal::start().await;
    let setup = room_of("10/s")
        .with(&format!("session_duration = \"2m\"\nlogin_health = \"http://{}/idp/alive\"", provider.address))
        .with_portal("health_interval = \"1s\"\nhealth_failures = 2\nhealth_successes = 1")
        .with_more("[[room]]\nname = \"other\"\npaths = [\"/other/**\"]\nadmission_rate = \"10/s\"");
    let running = setup.start().await;
    let inside = running.insider().await;
    running.seconds(2).await;
    assert_eq!(running.metric(&format!("login_healthy{{room=\"{ROOM}\"}}")), 1.0);
    provider.script("/idp/alive", [Script::answer(500, "", "")]);
    let login_healthy = || running.metric(&format!("login_healthy{{room=\"{ROOM}\"}}"));
    until(&running, || login_healthy() == 0.0).await;
    assert_eq!(status_of_room(&running).await["login_healthy"], json!(false));
    assert_stands_still(&running, &inside, 300).await;
    assert_eq!(running.metric("portal_healthy"), 1.0);
    assert!(running.visitor().navigate("/other/").send().await.is_the_portals(), "the other room goes on");
    provider.script("/idp/alive", [Script::answer(302, "Location: /elsewhere\r\n", "")]);
    until(&running, || login_healthy() == 1.0).await;
    running.seconds(3).await;
    assert_eq!(running.board().await["reason"]["code"], json!("ramping_up"));
}

#[tokio::test]
async fn an_operator_freezes_a_room_and_thaws_it() {
    let running = room_of("10/s").with("session_duration = \"2m\"").start().await;
    let inside = running.insider().await;
    let without_token = at(&running.visitor(), running.admin).request("POST", "/admin/v1/rooms/fair/freeze");
    assert_eq!(without_token.send().await.status, 401);
    let frozen = operate(&running, "freeze").await;
    assert_eq!((frozen.status, &frozen.json()["frozen"]), (200, &json!(true)));
    running.seconds(1).await;
    assert_eq!(running.metric(&format!("room_frozen{{room=\"{ROOM}\"}}")), 1.0);
    assert_eq!(status_of_room(&running).await["frozen"], json!(true));
    let standstill = format!("standstill{{class=\"citizen\",reason=\"portal_unhealthy\",room=\"{ROOM}\"}}");
    assert_stands_still(&running, &inside, 600).await;
    assert!(running.metric(&standstill) > 500.0);
    // A reload is no thaw.
    running.reload(&running.setup.clone().with("message = \"patience\"")).await;
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
    assert_eq!(operate(&running, "thaw").await.json()["frozen"], json!(false));
    running.seconds(3).await;
    assert_eq!(running.board().await["reason"]["code"], json!("ramping_up"));
    running.seconds(61).await;
    assert_eq!((rate(&running), running.metric(&standstill)), (10.0, 0.0));
    // From now on the session runs again.
    running.seconds(130).await;
    inside.navigate("/fair/").send().await;
    assert_eq!(running.lane("admissions_total"), 2.0, "the old pass has ended");
}

#[tokio::test]
async fn frozen_time_outlasts_a_restart() {
    let running = room_of("10/s").with("session_duration = \"2m\"").start().await;
    let inside = running.insider().await;
    operate(&running, "freeze").await;
    running.seconds(3600).await;
    operate(&running, "thaw").await;
    running.seconds(60).await;
    let running = running.restart().await;
    let inside = inside.at(&running);
    running.advance(Duration::from_secs(1)).await;
    assert!(inside.navigate("/fair/").send().await.is_the_portals());
    assert_eq!(running.lane("admissions_total"), 0.0, "nobody was let in anew");
}
