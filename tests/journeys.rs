//! The way of those inside: passes that slide, end, are renewed, and free their seats.

use std::time::Duration;

use crate::support::app::{Asking, Visitor, identity_of, own, room_of};
use crate::support::portal::Script;
use serde_json::{Value, json};

#[tokio::test]
async fn a_pass_slides_and_is_renewed_each_quarter() {
    let running = room_of("10/s").with("session_duration = \"20m\"").start().await;
    let visitor = running.insider().await;
    let identity = identity_of(&visitor.token("pass").unwrap());
    let mut renewed = 0;
    for _ in 0..60 {
        running.seconds(60).await;
        let answer = visitor.navigate("/fair/").send().await;
        assert!(answer.is_the_portals(), "thrown out: {answer:?}");
        renewed += answer.all("set-cookie").count();
        assert_eq!(identity_of(&visitor.token("pass").unwrap()), identity);
    }
    assert_eq!(renewed, 12, "once in five of the sixty minutes");
    assert_eq!(running.lane("admissions_total"), 1.0);
}

#[tokio::test]
async fn several_requests_at_once_renew_it_once_and_the_old_one_stays_good_for_a_while() {
    let running = room_of("10/s").with("session_duration = \"20m\"").start().await;
    let visitor = running.insider().await;
    let old = visitor.copy();
    running.seconds(5 * 60 + 1).await;
    let tabs: Vec<_> = (0..6).map(|_| visitor.navigate("/fair/").begin()).collect();
    let mut renewed = 0;
    for tab in tabs {
        renewed += tab.await.unwrap().all("set-cookie").count();
    }
    assert_eq!(renewed, 1);
    // The newer one was seen: the older stays good for a minute and is worth nothing afterwards.
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    running.seconds(50).await;
    assert!(old.copy().navigate("/fair/").send().await.is_the_portals());
    running.seconds(15).await;
    let before = running.lane("admissions_total");
    let stale = old.copy();
    stale.navigate("/fair/").send().await;
    assert_eq!(running.lane("admissions_total"), before + 1.0, "a newcomer like any other");
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
}

#[tokio::test]
async fn whoever_stays_silent_is_out_but_a_form_is_not_swallowed() {
    let running = room_of("10/s")
        .with("session_duration = \"20m\"\nentry = \"page\"\nlogin_callbacks = [\"/spid/acs\"]")
        .start()
        .await;
    let enter = async || {
        let visitor = running.visitor();
        visitor.join().await;
        running.until(visitor.poll().begin(), Duration::from_secs(20)).await;
        for _ in 0..2 {
            assert!(visitor.navigate("/fair/").send().await.is_the_portals());
        }
        visitor
    };
    let visitor = enter().await;
    running.seconds(19 * 60 + 50).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    running.seconds(20 * 60 + 2).await;
    let late = visitor.navigate("/fair/").send().await;
    assert_eq!(late.status, 503);
    assert_eq!(visitor.poll().send().await.state(), "expired");
    let before = running.entered();
    assert!(visitor.form("/fair/apply", "field=value").send().await.is_the_portals(), "within the grace period");
    assert_eq!(running.entered(), before + 1);
    assert_eq!(running.portal.seen().last().unwrap().length, 11);
    running.seconds(6 * 60).await;
    assert_eq!(visitor.form("/fair/apply", "field=value").send().await.status, 503, "after it");
}

#[tokio::test]
async fn logging_out_frees_the_seat() {
    let running = room_of("10/s").with("max_active_sessions = 1\nlogout = [\"/goodbye\"]").start().await;
    let visitor = running.insider().await;
    let copy = visitor.copy();
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503, "the only seat is taken");
    let out = visitor.navigate("/goodbye").send().await;
    assert!(out.is_the_portals() && out.deletes("pass"), "{out:?}");
    running.seconds(1).await;
    assert_eq!(running.metric("active_sessions{class=\"citizen\",room=\"fair\"}"), 0.0);
    running.insider().await;
    running.seconds(1).await;
    assert_eq!(copy.navigate("/fair/").send().await.status, 503, "a copy of the old pass opens nothing");
}

#[tokio::test]
async fn whoever_logged_out_has_no_grace() {
    let running = room_of("10/s").with("session_duration = \"20m\"\nlogout = [\"/goodbye\"]").start().await;
    let visitor = running.insider().await;
    let copy = visitor.copy();
    visitor.navigate("/goodbye").send().await;
    let _line = running.reload(&running.setup.clone().with("entry = \"page\"")).await;
    for minute in 0..31 {
        assert_eq!(copy.form("/fair/apply", "field=value").send().await.status, 503, "minute {minute}");
        running.seconds(60).await;
    }
}

#[tokio::test]
async fn the_portal_can_end_a_session() {
    let running = room_of("10/s").with("max_active_sessions = 1").start().await;
    let visitor = running.insider().await;
    running.portal.script("/fair/done", [Script::answer(200, "Waiting-Room-Command: end-session\r\n", "thanks")]);
    let done = visitor.navigate("/fair/done").send().await;
    assert_eq!((done.status, done.text().as_str()), (200, "thanks"));
    assert!(done.deletes("pass") && done.header("waiting-room-command").is_none(), "{done:?}");
    running.seconds(1).await;
    running.insider().await;
    // Only answers of a room's own routes count: elsewhere it is removed and does nothing.
    running.portal.script("/elsewhere", [Script::answer(200, "Waiting-Room-Command: end-session\r\n", "x")]);
    let elsewhere = running.visitor().navigate("/elsewhere").send().await;
    assert!(elsewhere.header("waiting-room-command").is_none());
    running.seconds(2).await;
    assert_eq!(running.metric("active_sessions{class=\"citizen\",room=\"fair\"}"), 1.0);
}

#[tokio::test]
async fn no_more_seats_are_taken_than_there_are_and_freed_ones_are_used_again() {
    let running = room_of("10/s").with("max_active_sessions = 3\nlogout = [\"/goodbye\"]").start().await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(running.insider().await);
    }
    running.seconds(1).await;
    let next = running.visitor();
    assert_eq!(next.navigate("/fair/").send().await.status, 503);
    let joined = next.join().await;
    assert_eq!(joined.queue()["reason"]["code"], json!("room_full"), "{}", joined.text());
    running.seconds(30).await;
    let (still, _) = running.until(next.navigate("/fair/").begin(), Duration::from_secs(6)).await;
    assert_eq!(still.status, 503);
    for round in 0..4 {
        let leaving = inside.remove(0);
        assert!(leaving.navigate("/goodbye").send().await.is_the_portals());
        let mut entered = false;
        for _ in 0..100 {
            let (answer, _) = running.until(next.navigate("/fair/").begin(), Duration::from_secs(6)).await;
            if answer.is_the_portals() {
                entered = true;
                break;
            }
            next.join().await;
            running.seconds(1).await;
            next.poll().begin();
        }
        assert!(entered, "round {round}: the freed seat is not used");
        assert!(next.navigate("/fair/").send().await.is_the_portals());
        running.seconds(1).await;
        assert_eq!(running.metric("active_sessions{class=\"citizen\",room=\"fair\"}"), 3.0);
        inside.push(next.copy());
        for kind in ["pass", "ticket", "turn"] {
            next.lose(kind);
        }
    }
}

#[tokio::test]
async fn a_client_that_keeps_no_cookies_does_not_keep_its_seat() {
    let running = room_of("10/s").with("max_active_sessions = 1").start().await;
    let forgetful = running.visitor();
    assert!(forgetful.navigate("/fair/").send().await.is_the_portals());
    running.seconds(50).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
    running.seconds(13).await;
    running.insider().await;
}

#[tokio::test]
async fn a_slow_reader_of_the_first_page_is_not_thrown_out_later() {
    // The provisional seat ended after a minute; the pass takes a seat again, and its renewal is due at once.
    let running = room_of("10/s").with("session_duration = \"20m\"").start().await;
    let visitor = running.visitor();
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    running.seconds(22 * 60).await;
    for minute in 22..40 {
        let answer = visitor.navigate("/fair/").send().await;
        assert!(answer.is_the_portals(), "minute {minute}: {answer:?}");
        running.seconds(60).await;
    }
    assert_eq!(running.lane("admissions_total"), 1.0, "thrown out and let in again");
}

#[tokio::test]
async fn more_time_can_be_asked_for() {
    let running = room_of("1/s").with("entry = \"page\"\nclaim_window = \"1m\"").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    running.until(visitor.poll().begin(), Duration::from_secs(20)).await;
    for _ in 0..4 {
        running.seconds(45).await;
        let extended = visitor.script("POST", &own("extend")).send().await;
        assert_eq!((extended.status, extended.state().as_str()), (200, "your_turn"));
    }
    running.seconds(45).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
}

#[tokio::test]
async fn a_turn_that_is_not_used_lapses_and_the_ticket_keeps_its_number() {
    let running = room_of("1/s").with("entry = \"page\"\nclaim_window = \"1m\"").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    running.until(visitor.poll().begin(), Duration::from_secs(20)).await;
    running.seconds(62).await;
    assert_eq!(running.lane("no_shows_total"), 1.0);
    assert_eq!(visitor.navigate("/fair/").send().await.status, 503);
    let (again, _) = running.until(visitor.poll().begin(), Duration::from_secs(20)).await;
    assert_eq!(again.state(), "your_turn", "whoever comes back is called again");
    assert_eq!(running.lane("arrivals_total"), 1.0);
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
}

/// What a login provider's page makes a browser send: a form from another site.
fn from_the_login_provider(visitor: &Visitor) -> Asking {
    let form = visitor.request("POST", "/fair/acs").header("Sec-Fetch-Site", "cross-site");
    let form = form.header("Sec-Fetch-Mode", "navigate").header("Sec-Fetch-Dest", "document");
    let form = form.header("Origin", "https://login.example").header("Accept", "text/html,*/*;q=0.8");
    form.header("Content-Type", "application/x-www-form-urlencoded").body("SAMLResponse=x")
}

#[tokio::test]
async fn whoever_comes_back_from_the_login_provider_is_never_queued() {
    let room = "session_duration = \"20m\"\nlogin_callbacks = [\"/fair/acs\"]\nmax_active_sessions = 1";
    let running = room_of("10/s").with(room).start().await;
    let visitor = running.insider().await;
    let copy = visitor.copy();
    running.seconds(1).await;
    // The room is full; the visitor was at the login provider for longer than the session lasts.
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
    assert_eq!(from_the_login_provider(&running.visitor()).send().await.status, 503, "nobody who never was inside");
    assert!(from_the_login_provider(&visitor).send().await.is_the_portals());
    running.seconds(20 * 60 + 60).await;
    assert!(from_the_login_provider(&copy).send().await.is_the_portals(), "recently inside");
    let seen = running.portal.seen();
    let callbacks: Vec<_> = seen.iter().filter(|seen| seen.target == "/fair/acs").collect();
    assert_eq!(callbacks.len(), 2);
    assert!(callbacks.iter().all(|seen| seen.method == "POST" && seen.length == 14));
}

#[tokio::test]
async fn whoever_is_inside_can_ask_for_more_time_by_script_and_by_form() {
    let running = room_of("10/s").with("session_duration = \"20m\"").start().await;
    let visitor = running.insider().await;
    for _ in 0..3 {
        running.seconds(19 * 60).await;
        let more = visitor.script("POST", &own("extend")).send().await;
        assert_eq!((more.status, more.state().as_str()), (200, "inside"));
        running.seconds(19 * 60).await;
        let by_form = visitor.form(&own("extend"), "to=%2Ffair%2F").send().await;
        assert_eq!(by_form.status, 303);
    }
    running.seconds(19 * 60).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    assert_eq!(running.lane("admissions_total"), 1.0, "never thrown out");
    // Another site's page cannot keep somebody inside.
    let elsewhere = visitor.request("POST", &own("extend")).header("Sec-Fetch-Site", "cross-site").send().await;
    assert_eq!(elsewhere.status, 403);
}

#[tokio::test]
async fn whoever_is_warned_of_the_limit_can_put_it_off_by_script_and_by_form_as_often_as_allowed() {
    let limit = "session_duration = \"20m\"\nsession_limit = \"1h\"\nsession_limit_extensions = 2";
    let running = room_of("10/s").with(limit).start().await;
    let visitor = running.insider().await;
    let session = async || visitor.poll().send().await.queue()["session"].clone();
    let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let first = session().await;
    let minutes_more = |later: &Value| (at(&later["limited_at"]) - at(&first["limited_at"])) / 60;
    // Asked before the warning, it means more time to be idle, and uses nothing up.
    visitor.script("POST", &own("extend")).send().await;
    assert_eq!((minutes_more(&session().await), &session().await["extensions_left"]), (0, &json!(2)));
    let stays = async |minutes: u64| {
        for minute in 1..=minutes {
            running.seconds(60).await;
            let answer = visitor.navigate("/fair/").send().await;
            assert!(answer.is_the_portals(), "minute {minute}: {answer:?}");
        }
    };
    stays(58).await;
    assert_eq!(session().await["ends_soon"], json!(true));
    let more = visitor.script("POST", &own("extend")).send().await;
    assert_eq!((more.status, &more.queue()["session"]["extensions_left"]), (200, &json!(1)));
    visitor.script("POST", &own("extend")).send().await;
    let later = session().await;
    assert_eq!((minutes_more(&later), &later["extensions_left"], &later["ends_soon"]), (60, &json!(1), &json!(false)));
    stays(60).await;
    let page = visitor.navigate(&format!("{}&lang=en", own("line"))).send().await.text();
    assert!(page.contains("Your stay inside ends") && page.contains("/extend?room=fair"), "{page}");
    assert_eq!(visitor.form(&own("extend"), "to=%2Ffair%2F").send().await.status, 303);
    let last = session().await;
    assert_eq!((minutes_more(&last), &last["extensions_left"]), (120, &json!(0)));
    stays(60).await;
    visitor.script("POST", &own("extend")).send().await;
    assert_eq!(
        (minutes_more(&session().await), &session().await["ends_soon"]),
        (120, &json!(true)),
        "no more than two"
    );
    running.seconds(130).await;
    let _ = running.reload(&running.setup.clone().with("entry = \"page\"")).await;
    assert_eq!(visitor.navigate("/fair/").send().await.status, 503, "three hours are over");
    assert_eq!(running.lane("admissions_total"), 1.0);
}

#[tokio::test]
async fn nobody_stays_longer_than_the_limit_and_everybody_is_told_before() {
    let running = room_of("10/s").with("session_duration = \"20m\"\nsession_limit = \"1h\"").start().await;
    let visitor = running.insider().await;
    let session = async || visitor.poll().send().await.queue()["session"].clone();
    let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let first = session().await;
    assert_eq!((at(&first["limited_at"]) - at(&first["ends_at"])) / 60, 40, "{first}");
    assert_eq!(first["ends_soon"], json!(false));
    for minute in 1..=58 {
        running.seconds(60).await;
        let answer = visitor.navigate("/fair/").send().await;
        assert!(answer.is_the_portals(), "minute {minute}: {answer:?}");
    }
    let soon = session().await;
    assert_eq!((soon["ends_at"].clone(), soon["ends_soon"].clone()), (first["limited_at"].clone(), json!(true)));
    // More time is more time to be idle, not more than anybody may stay; the page says so as well.
    visitor.script("POST", &own("extend")).send().await;
    assert_eq!(session().await["ends_at"], first["limited_at"]);
    let page = visitor.navigate(&format!("{}&lang=en", own("line"))).send().await.text();
    assert!(page.contains("Your stay inside ends") && page.contains("/extend?room=fair"), "{page}");
    assert_eq!(running.lane("admissions_total"), 1.0);
    running.seconds(180).await;
    let _ = running.reload(&running.setup.clone().with("entry = \"page\"")).await;
    assert_eq!(visitor.navigate("/fair/").send().await.status, 503, "the hour is over");
    assert!(visitor.form("/fair/apply", "field=value").send().await.is_the_portals(), "a form still arrives");
    assert_eq!(running.metric("active_sessions{class=\"citizen\",room=\"fair\"}"), 0.0);
}
