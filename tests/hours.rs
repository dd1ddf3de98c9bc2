//! Who goes when: hours, shares and classes, seen from outside. The tests' clock begins on a Sunday at 18:46:40 in Rome.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::app::{ROOM, Running, Visitor, room_of};

/// Until 19:00 in Rome.
const TO_SEVEN: u64 = 13 * 60 + 20;

/// Offices until seven, citizens afterwards.
const OFFICES_THEN_CITIZENS: &str = "
[[room.window]]
from = \"08:00\"
to = \"19:00\"
share = { office = 100 }

[[room.window]]
from = \"19:00\"
to = \"08:00\"
share = { citizen = 100 }

[[class]]
name = \"office\"
proof = [ { kind = \"network\", ranges = [\"127.0.0.2/32\"], sufficient = true } ]
";

fn office(running: &Running) -> Visitor {
    running.visitor().from(Ipv4Addr::new(127, 0, 0, 2))
}

/// A navigation that is answered with the portal's page within so many seconds.
async fn enters(running: &Running, visitor: &Visitor, seconds: u64) -> bool {
    let (answer, _) = running.until(visitor.navigate("/fair/").begin(), Duration::from_secs(seconds)).await;
    answer.is_the_portals()
}

#[tokio::test]
async fn outside_their_hours_visitors_wait_and_are_told_when_theirs_begin() {
    let running = room_of("10/s").with_more(OFFICES_THEN_CITIZENS).start().await;
    let citizen = running.visitor();
    assert!(!enters(&running, &citizen, 6).await, "nobody goes straight through outside their hours");
    let queue = citizen.join().await.queue();
    assert_eq!(queue["state"], "closed_hours", "{queue}");
    assert_eq!(queue["class"], "citizen");
    assert_eq!(queue["reason"]["code"], "outside_hours");
    assert_eq!(queue["window"]["open"], false);
    assert_eq!(queue["window"]["opens_at"], "2030-03-17T19:00:00+01:00");
    let expected = queue["expected_at"].as_str().expect("an estimate").to_owned();
    assert!(("2030-03-17T19:00".."2030-03-17T19:05").contains(&expected.as_str()), "{expected}");
    let board = running.board().await;
    assert_eq!(board["lanes"]["citizen"]["window"]["open"], false, "{board}");
    assert_eq!(board["lanes"]["office"]["window"]["closes_at"], "2030-03-17T19:00:00+01:00", "{board}");
    running.seconds(TO_SEVEN - 60).await;
    let queue = citizen.poll().send().await.queue();
    assert_eq!(queue["state"], "closed_hours", "the place is kept: {queue}");
    assert!(queue["refresh_seconds"].as_f64().unwrap() <= 60.0, "{queue}");
    running.seconds(60).await;
    let (answer, _) = running.until(citizen.poll().begin(), Duration::from_secs(5)).await;
    assert_eq!(answer.queue()["state"], "your_turn", "{:?}", answer.queue());
    assert!(enters(&running, &citizen, 5).await);
}

#[tokio::test]
async fn a_turn_outlasts_the_hours_it_was_given_in() {
    let hours = OFFICES_THEN_CITIZENS.replace("share = { office = 100 }", "share = { office = 50, citizen = 50 }");
    let hours = hours.replace("share = { citizen = 100 }", "share = { office = 100 }");
    let running = room_of("10/s").with("entry = \"page\"\nclaim_window = \"20m\"").with_more(&hours).start().await;
    running.seconds(TO_SEVEN - 30).await;
    let citizen = running.visitor();
    citizen.join().await;
    let (answer, _) = running.until(citizen.poll().begin(), Duration::from_secs(5)).await;
    assert_eq!(answer.queue()["state"], "your_turn");
    running.seconds(60).await;
    assert!(!enters(&running, &citizen, 6).await, "not any more today");
    running.seconds(3600).await;
    let queue = citizen.poll().send().await.queue();
    assert_eq!(queue["state"], "your_turn", "the turn does not run out meanwhile: {queue}");
    assert_eq!(queue["reason"]["code"], "outside_hours", "{queue}");
}

#[tokio::test]
async fn offices_have_a_lane_and_hours_of_their_own() {
    let running = room_of("10/s").with_more(OFFICES_THEN_CITIZENS).start().await;
    let first = office(&running);
    assert!(enters(&running, &first, 5).await, "an office goes straight through in its hours");
    let citizen = running.visitor();
    assert!(!enters(&running, &citizen, 6).await);
    let labels = format!("{{class=\"office\",room=\"{ROOM}\"}}");
    assert_eq!(running.metric(&format!("admissions_total{labels}")), 1.0);
    running.seconds(TO_SEVEN).await;
    assert!(enters(&running, &first, 5).await, "nobody inside is thrown out");
    assert!(enters(&running, &citizen, 5).await);
    let another = office(&running);
    assert!(!enters(&running, &another, 6).await, "the office's hours are over");
}

#[tokio::test]
async fn a_window_may_have_a_rate_and_a_message_of_its_own() {
    let windows = "
[[room.window]]
from = \"08:00\"
to = \"19:00\"
share = { citizen = 1 }
admission_rate = \"3/s\"
message = \"Slowly until seven.\"

[[room.window]]
from = \"19:00\"
to = \"08:00\"
share = { citizen = 1 }
";
    let running = room_of("10/s").with("message = \"As always.\"").with_more(windows).start().await;
    let board = running.board().await;
    assert_eq!((board["rate"].as_str(), board["message"].as_str()), (Some("3/s"), Some("Slowly until seven.")));
    running.seconds(TO_SEVEN).await;
    let board = running.board().await;
    assert_eq!((board["rate"].as_str(), board["message"].as_str()), (Some("10/s"), Some("As always.")));
}

#[tokio::test]
async fn a_class_that_is_gone_drains_on_the_citizens_credit() {
    let held = "
[[class]]
name = \"office\"
proof = [ { kind = \"network\", ranges = [\"127.0.0.2/32\"], sufficient = true } ]
";
    let setup = || room_of("10/s").with("entry = \"page\"");
    let running = setup().with("state = \"hold\"").with_more(held).start().await;
    let office = office(&running);
    assert_eq!(office.join().await.queue()["class"], "office");
    running.reload(&setup()).await;
    let (answer, _) = running.until(office.poll().begin(), Duration::from_secs(5)).await;
    assert_eq!(answer.queue()["state"], "your_turn", "nobody loses a place: {:?}", answer.queue());
    assert!(enters(&running, &office, 5).await);
}
