//! Closings: what becomes of those who wait, what they are told before, and what newcomers find. The tests' clock begins on
//! a Sunday at 18:46:40 in Rome.

use std::time::Duration;

use anticamera::admin::ReloadAnswer;
use serde_json::{Value, json};

use crate::support::app::{ROOM, Running, Setup, Visitor, own, room_of};

/// From the end of `start` until 18:48.
const TO_THE_HOUR: u64 = 79;

fn closing(rate: &str, lines: &str) -> Setup {
    let room = room_of(rate).with("joins_per_client = \"unlimited\"\nentry = \"page\"");
    room.with_more(&format!("[room.closing]\nat = \"2030-03-17T18:48\"\n{lines}"))
}

async fn line(running: &Running, count: usize) -> Vec<Visitor> {
    let mut visitors = Vec::new();
    for _ in 0..count {
        let visitor = running.visitor();
        visitor.join().await;
        visitors.push(visitor);
    }
    visitors
}

/// What a visitor is told now, without waiting for news.
async fn told(visitor: &Visitor) -> Value {
    visitor.poll().json(&json!({"now": 1})).send().await.queue()
}

/// Whether a visitor gets in whose turn it is: a request waits at the gate for some seconds only.
async fn enters(running: &Running, visitor: &Visitor) -> bool {
    for _ in 0..8 {
        let (answer, _) = running.until(visitor.navigate("/fair/").begin(), Duration::from_secs(10)).await;
        if answer.is_the_portals() {
            return true;
        }
        running.seconds(1).await;
    }
    false
}

/// Somebody who joins, and whose turn it is a moment later.
async fn called(running: &Running) -> Visitor {
    let visitor = running.visitor();
    visitor.join().await;
    for _ in 0..30 {
        if told(&visitor).await["state"] == "your_turn" {
            return visitor;
        }
        running.seconds(1).await;
    }
    panic!("nobody is called");
}

/// The waiting page that a newcomer gets; it is rendered anew within a second or so.
async fn page_that_says(running: &Running, words: &str) -> bool {
    for _ in 0..20 {
        let page = running.visitor().navigate("/fair/").header("Accept-Language", "en").send().await;
        assert_eq!(page.status, 503);
        if page.text().contains(words) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        running.seconds(1).await;
    }
    false
}

#[tokio::test]
async fn those_who_wait_are_served_and_nobody_new_joins() {
    let setup = closing("2/s", "message = \"Again on Monday\"");
    let running = setup.clone().with("state = \"hold\"").start().await;
    let visitors = line(&running, 12).await;
    let queue = told(&visitors[11]).await;
    let expected = json!({"at": "2030-03-17T18:48:00+01:00", "then": "serve", "closed": false, "reach": null});
    assert_eq!(queue["closing"], expected, "{queue}");
    let english = visitors[11].navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(english.contains("Joining ends: 18:48. Whoever is in the line by then is still served."), "{english}");
    assert_eq!(running.board().await["closing"]["closed"], false);
    assert!(running.metric(&format!("closing_timestamp_seconds{{room=\"{ROOM}\"}}")) > 1.8e9);

    running.seconds(TO_THE_HOUR + 1).await;
    let late = running.visitor();
    let joined = late.join().await;
    assert!(joined.sets("ticket").is_none(), "{joined:?}");
    let queue = joined.queue();
    assert_eq!((queue["state"].as_str(), queue["reference"].as_str()), (Some("ended"), None), "{queue}");
    assert_eq!(queue["message"], "Again on Monday");
    assert_eq!(running.board().await["closing"]["closed"], true);
    assert!(page_that_says(&running, "The line has closed</h1>").await);
    let by_hand = late.navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(by_hand.contains("Nobody can join it any more.") && !by_hand.contains("/join?"), "{by_hand}");
    // No way round: an app that would go straight through, a form without script.
    assert_eq!(running.visitor().app("GET", "/fair/").send().await.state(), "ended");
    running.visitor().form(&own("join"), "to=%2Ffair%2F").send().await;
    assert_eq!(running.lane("arrivals_total"), 12.0);

    // Everybody is served, the last one too.
    assert_eq!(running.reload(&setup).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    let english = visitors[11].navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(english.contains("Everybody who is in the line is still served."), "{english}");
    for visitor in &visitors {
        while told(visitor).await["state"] != "your_turn" {
            running.seconds(1).await;
        }
        assert!(enters(&running, visitor).await);
    }
    assert_eq!(running.lane("admissions_total"), 12.0);
    assert_eq!(told(&late).await["state"], "ended");
}

#[tokio::test]
async fn who_will_not_be_reached_before_the_end_is_told_so_early() {
    let running = closing("1/s", "then = \"end\"").start().await;
    let visitors = line(&running, 300).await;
    running.seconds(10).await;
    let (first, last) = (told(&visitors[35]).await, told(&visitors[299]).await);
    assert_eq!(first["closing"]["reach"], "likely", "{first}");
    assert!(first["wait_seconds_low"].is_u64() && first["expected_at"].is_string(), "{first}");
    assert_eq!(last["closing"]["reach"], "unlikely", "{last}");
    for unknown in ["wait_seconds_low", "wait_seconds_high", "expected_at", "progress"] {
        assert!(last[unknown].is_null(), "nobody is told of a turn that does not come: {unknown}: {last}");
    }
    assert_eq!(last["window"]["closes_at"], "2030-03-17T18:48:00+01:00");
    let english = visitors[299].navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(english.contains("The line ends: 18:48. Your turn will most likely not come before then."), "{english}");
    assert!(!english.contains("not known yet"), "{english}");
}

#[tokio::test]
async fn a_line_that_ends_keeps_turns_and_receipts_and_those_inside() {
    let setup = closing("1/s", "then = \"end\"");
    let running = setup.clone().start().await;
    let inside = called(&running).await;
    assert!(enters(&running, &inside).await);
    let called = called(&running).await;
    // Nobody else is called before the hour.
    assert_eq!(running.reload(&setup.clone().with("state = \"hold\"")).await, ReloadAnswer::Applied);
    let visitors = line(&running, 40).await;
    running.seconds(TO_THE_HOUR + 1).await;
    assert_eq!(running.reload(&setup).await, ReloadAnswer::Applied);
    running.seconds(2).await;
    assert_eq!(told(&called).await["state"], "your_turn", "whoever was called keeps the turn");
    let calls = running.lane("calls_total");
    let waits = &visitors[39];
    let queue = told(waits).await;
    assert_eq!(queue["state"], "ended", "{queue}");
    assert_eq!(queue["closing"]["closed"], true);
    assert!(queue["text"]["closing"].is_string() && queue["reference"].is_string(), "{queue}");
    assert_eq!(queue["window"]["open"], false);
    assert_eq!(waits.navigate("/fair/").send().await.status, 503);
    let receipt = waits.script("GET", &own("receipt")).send().await;
    assert_eq!(receipt.json()["receipt"]["number"], 42, "the place is still proven: {receipt:?}");
    let by_hand = waits.navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(by_hand.contains("The line ended: 18:48. Your receipt") && by_hand.contains("/receipt?"));
    assert!(enters(&running, &called).await, "the turn is good");
    running.seconds(60).await;
    assert_eq!(running.lane("calls_total"), calls, "nobody is called any more");
    let standstill = format!("standstill{{class=\"citizen\",reason=\"closed\",room=\"{ROOM}\"}}");
    assert!(running.metric(&standstill) >= 60.0);
    assert!(inside.navigate("/fair/").send().await.is_the_portals(), "those inside go on");

    // The hour is moved: everybody has their place back, and a start does not change that.
    let later = closing("600/min", "then = \"end\"");
    let later = Setup { more: later.more.replace("18:48", "19:48"), ..later };
    assert_eq!(running.reload(&later).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    assert_eq!(told(waits).await["class"], "citizen");
    assert_ne!(told(waits).await["state"], "ended");
    running.seconds(20).await;
    assert!(enters(&running, waits).await);
}

#[tokio::test]
async fn a_line_that_has_ended_has_ended_after_a_start_too() {
    let running = closing("6/min", "then = \"end\"").with("state = \"hold\"").start().await;
    let visitors = line(&running, 5).await;
    running.seconds(TO_THE_HOUR + 2).await;
    let running = running.crash().await;
    let waits = visitors[4].clone().at(&running);
    assert_eq!(told(&waits).await["state"], "ended", "before the first tick already");
    assert_eq!(running.visitor().join().await.state(), "ended");
}

#[tokio::test]
async fn whoever_asks_as_told_after_the_end_is_not_overtaken_when_the_hour_is_moved() {
    let setup = closing("1/s", "then = \"end\"");
    let held = setup.clone().with("state = \"hold\"");
    let running = held.clone().start().await;
    let visitors = line(&running, 3).await;
    running.seconds(TO_THE_HOUR + 1).await;
    assert_eq!(running.reload(&setup).await, ReloadAnswer::Applied);
    for _ in 0..10 {
        for visitor in &visitors {
            let queue = told(visitor).await;
            assert_eq!(queue["state"], "ended", "{queue}");
            assert_eq!(queue["refresh_seconds"], 60, "{queue}");
        }
        running.seconds(60).await;
    }
    let later = Setup { more: held.more.replace("18:48", "20:48"), ..held };
    assert_eq!(running.reload(&later).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    let newcomer = running.visitor().join().await.queue();
    assert_eq!(newcomer["ahead"], 3, "{newcomer}");
}

#[tokio::test]
async fn whoever_has_a_place_gets_back_to_it_without_script_once_the_room_is_closed() {
    let running = closing("2/s", "").with("state = \"hold\"").start().await;
    running.seconds(TO_THE_HOUR + 1).await;
    assert!(page_that_says(&running, "The line has closed</h1>").await);
    let page = running.visitor().navigate("/fair/").header("Accept-Language", "en").send().await.text();
    assert!(page.contains("/join?") && page.contains("Get my place back"), "{page}");
}
