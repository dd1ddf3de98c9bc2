//! Openings: who gathers before the hour, what they are told, and which places they get. The tests' clock begins on a
//! Sunday at 18:46:40 in Rome.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anticamera::admin::ReloadAnswer;
use anticamera::domain::draw_proof::DrawDocument;
use anticamera::domain::line::{Asks, Conditions, Line, Standstill, Terms};
use anticamera::domain::names::{ClassId, RoomName};
use anticamera::domain::opening::{Gathered, Held, Opening, Order};
use anticamera::domain::places::Places;
use anticamera::domain::time::{Mono, Now, Unix};
use anticamera::domain::token::LineIdentity;

use crate::support::app::{self, ROOM, Running, Setup, Visitor, number_of, own, room_of};

/// From the end of `start` until 18:48.
const TO_THE_HOUR: u64 = 79;

fn with_opening(rate: &str, lines: &str) -> Setup {
    room_of(rate).with("joins_per_client = \"unlimited\"").with_more(&format!("[room.opening]\n{lines}"))
}

fn opening(rate: &str, order: &str) -> Setup {
    with_opening(rate, &format!("at = \"2030-03-17T18:48\"\norder = \"{order}\""))
}

async fn gather(running: &Running, count: usize) -> Vec<Visitor> {
    let mut visitors = Vec::new();
    for _ in 0..count {
        let visitor = running.visitor();
        let queue = visitor.join().await.queue();
        assert_eq!(queue["state"], "before_opening", "{queue}");
        visitors.push(visitor);
    }
    visitors
}

async fn draw(running: &Running) -> DrawDocument {
    let answer = running.visitor().app("GET", &format!("/.waiting-room/draw/{ROOM}")).send().await;
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

async fn reference(visitor: &Visitor) -> String {
    let queue = visitor.poll().json(&serde_json::json!({"now": "1"})).send().await.queue();
    queue["reference"].as_str().unwrap_or_else(|| panic!("no reference: {queue}")).to_owned()
}

/// The number that a visitor's receipt says.
async fn number(visitor: &Visitor) -> Option<u64> {
    visitor.script("GET", &own("receipt")).send().await.json()["receipt"]["number"].as_u64()
}

async fn numbers(visitors: &[Visitor]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for visitor in visitors {
        numbers.push(number(visitor).await.expect("a number"));
    }
    numbers
}

/// The hour has come, and what follows from it.
async fn at_the_hour(running: &Running, seconds: u64) {
    running.seconds(seconds).await;
    for _ in 0..200 {
        if running.board().await["lanes"]["citizen"]["now_serving"].is_u64() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        running.seconds(1).await;
    }
    panic!("the room does not open");
}

#[tokio::test]
async fn before_the_gathering_nobody_draws_a_ticket_and_before_the_hour_nobody_enters_or_sees_a_number() {
    let lines = "at = \"2030-03-17T18:48\"\norder = \"lottery\"\ngather_from = \"2030-03-17T18:47:30\"";
    let running = with_opening("10/s", lines).start().await;
    let visitor = running.visitor();
    assert_eq!(visitor.navigate("/fair/").send().await.status, 503);
    let joined = visitor.join().await;
    assert!(joined.sets("ticket").is_none(), "{joined:?}");
    let queue = joined.queue();
    assert_eq!(queue["state"], "before_opening", "{queue}");
    assert_eq!(queue["reason"]["code"], "before_opening");
    assert_eq!(queue["window"]["opens_at"], "2030-03-17T18:48:00+01:00");
    assert_eq!(queue["window"]["open"], false);
    assert!(queue["text"]["ahead"].as_str().unwrap_or_default().contains("18:47"), "{queue}");
    for unknown in ["class", "reference", "ahead", "wait_seconds_low", "expected_at", "progress"] {
        assert!(queue[unknown].is_null(), "{unknown}: {queue}");
    }
    let line = visitor.navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(line.contains("The service has not opened yet") && line.contains("18:48"), "{line}");
    assert!(!line.contains("Your place is kept"), "there is none: {line}");
    assert!(!line.contains("/join?"), "nor can there be one yet: {line}");
    running.seconds(50).await;
    let line = visitor.navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(line.contains("/join?") && line.contains("Join the line"), "now there can: {line}");
    let joined = visitor.join().await;
    assert!(joined.sets("ticket").is_some(), "{joined:?}");
    let queue = joined.queue();
    assert_eq!(queue["state"], "before_opening", "{queue}");
    assert!(queue["reference"].is_string() && queue["ahead"].is_null() && queue["progress"].is_null(), "{queue}");
    assert!(queue["refresh_seconds"].as_u64().unwrap() >= 28, "not before the hour: {queue}");
    let board = running.board().await;
    assert!(board["lanes"]["citizen"]["now_serving"].is_null(), "{board}");
    assert_eq!(board["reason"]["code"], "before_opening");
    assert_eq!(number(&visitor).await, None, "no number before the hour");
    assert_eq!(visitor.navigate("/fair/").send().await.status, 503);
    assert_eq!(running.entered(), 0);
    at_the_hour(&running, 30).await;
    // The first tick after it calls.
    running.seconds(1).await;
    let (answer, _) = running.until(visitor.navigate("/fair/").begin(), Duration::from_secs(10)).await;
    assert!(answer.is_the_portals(), "{answer:?}");
}

#[tokio::test]
async fn anybody_can_recompute_the_places_that_were_drawn() {
    let running = opening("30/min", "lottery").start().await;
    let visitors = gather(&running, 40).await;
    let before = draw(&running).await;
    assert!(before.commitment.is_some() && before.seed.is_none() && before.lanes.is_none(), "{before:?}");
    let mut references = Vec::new();
    for visitor in &visitors {
        references.push(reference(visitor).await);
    }
    at_the_hour(&running, TO_THE_HOUR).await;
    let after = draw(&running).await;
    let late = running.visitor();
    late.join().await;
    let numbers = numbers(&visitors).await;
    for (reference, number) in references.iter().zip(&numbers) {
        assert_eq!(after.prove(&before, reference).unwrap().number, *number);
    }
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (1..=40).collect());
    assert!(!numbers.is_sorted(), "drawn, not in the order of arrival");
    assert_eq!(number(&late).await, Some(41), "whoever comes late stands behind");
    running.seconds(8).await;
    let mut called = BTreeSet::new();
    let mut waiting = BTreeSet::new();
    for (visitor, number) in visitors.iter().zip(&numbers) {
        let answer = visitor.poll().json(&serde_json::json!({"now": "1"})).send().await;
        let is_called = answer.state() == "your_turn";
        if is_called {
            called.insert(*number)
        } else {
            waiting.insert(*number)
        };
    }
    assert!(!called.is_empty() && !waiting.is_empty(), "{called:?}");
    assert!(called.last() < waiting.first(), "called in the order of the draw: {called:?}, not {waiting:?}");
}

#[tokio::test]
async fn a_kill_before_or_after_the_hour_changes_nothing_in_the_draw() {
    let running = opening("1/min", "lottery").start().await;
    let visitors = gather(&running, 20).await;
    let before = draw(&running).await;
    running.seconds(2).await;
    let running = running.crash().await;
    assert_eq!(draw(&running).await, before, "the promise outlasts a kill");
    let visitors: Vec<Visitor> = visitors.into_iter().map(|visitor| visitor.at(&running)).collect();
    let another = gather(&running, 1).await;
    at_the_hour(&running, TO_THE_HOUR).await;
    let after = draw(&running).await;
    let first = numbers(&visitors).await;
    let (reference, proven) = (reference(&visitors[3]).await, first[3]);
    let running = running.crash().await;
    assert_eq!(draw(&running).await, after, "what was drawn outlasts a kill");
    let visitors: Vec<Visitor> = visitors.into_iter().map(|visitor| visitor.at(&running)).collect();
    assert_eq!(numbers(&visitors).await, first);
    assert_eq!(after.prove(&before, &reference).unwrap().number, proven);
    assert!(number(&another[0].clone().at(&running)).await.is_some());
}

#[tokio::test]
async fn an_hour_that_passes_while_the_program_is_down_is_held_at_the_next_start() {
    let running = opening("1/min", "lottery").start().await;
    let visitors = gather(&running, 5).await;
    let before = draw(&running).await;
    running.seconds(2).await;
    let clock = running.clock.clone();
    clock.advance(Duration::from_secs(600));
    let running = running.restart().await;
    at_the_hour(&running, 1).await;
    let visitors: Vec<Visitor> = visitors.into_iter().map(|visitor| visitor.at(&running)).collect();
    let after = draw(&running).await;
    let place = after.prove(&before, &reference(&visitors[0]).await).unwrap();
    assert_eq!(Some(place.number), number(&visitors[0]).await);
}

#[tokio::test]
async fn in_the_order_of_arrival_everybody_keeps_the_number_and_whoever_left_is_passed_over() {
    let running = opening("10/s", "arrival").start().await;
    let visitors = gather(&running, 6).await;
    visitors[0].script("POST", &own("leave")).send().await;
    at_the_hour(&running, TO_THE_HOUR).await;
    assert_eq!(numbers(&visitors[1..]).await, [2, 3, 4, 5, 6]);
    assert!(draw(&running).await.commitment.is_none());
    let (answer, _) = running.until(visitors[1].navigate("/fair/").begin(), Duration::from_secs(5)).await;
    assert!(answer.is_the_portals(), "{answer:?}");
}

#[tokio::test]
async fn whoever_gathered_and_asks_late_is_not_overtaken() {
    let setup = with_opening("1/min", "at = \"2030-03-17T18:50\"\norder = \"lottery\"").with("state = \"hold\"");
    let running = setup.start().await;
    let visitors = gather(&running, 10).await;
    // By then nobody has asked for longer than whoever waits may stay silent.
    at_the_hour(&running, TO_THE_HOUR + 120).await;
    let late = running.visitor();
    late.join().await;
    running.seconds(60).await;
    let queue = late.poll().json(&serde_json::json!({"now": "1"})).send().await.queue();
    assert_eq!(queue["ahead"], 10, "those who gathered are believed to be there: {queue}");
    for visitor in &visitors {
        let queue = visitor.poll().json(&serde_json::json!({"now": "1"})).send().await.queue();
        assert!(queue["state"] == "held" && queue["ahead"].as_u64().unwrap() < 10, "{queue}");
    }
}

#[tokio::test]
async fn whoever_left_before_the_hour_is_not_waited_for_after_the_draw() {
    let running = opening("1/min", "lottery").start().await;
    let visitors = gather(&running, 30).await;
    for visitor in &visitors[..20] {
        visitor.script("POST", &own("leave")).send().await;
    }
    at_the_hour(&running, TO_THE_HOUR).await;
    running.seconds(2).await;
    let late = running.visitor();
    let queue = late.join().await.queue();
    assert!(queue["ahead"].as_u64().unwrap() <= 10, "{queue}");
}

#[tokio::test]
async fn the_hour_may_be_moved_and_nothing_else_once_visitors_gather() {
    let lottery = opening("10/s", "lottery");
    let running = lottery.clone().start().await;
    let visitors = gather(&running, 3).await;
    let before = draw(&running).await;
    let refused = |answer: ReloadAnswer| match answer {
        ReloadAnswer::Refused(faults) => faults[0].wrong.clone(),
        other => panic!("{other:?}"),
    };
    let wrong = refused(running.reload(&opening("10/s", "arrival")).await);
    assert!(wrong.contains("leave order as it was"), "{wrong}");
    let wrong = refused(running.reload(&room_of("10/s")).await);
    assert!(wrong.contains("put the table back"), "{wrong}");
    let later = with_opening("10/s", "at = \"2030-03-17T18:50\"\norder = \"lottery\"");
    assert_eq!(running.reload(&later).await, ReloadAnswer::Applied);
    running.seconds(1).await;
    let queue = visitors[0].poll().send().await.queue();
    assert_eq!(queue["window"]["opens_at"], "2030-03-17T18:50:00+01:00", "{queue}");
    assert_eq!(draw(&running).await.commitment, before.commitment, "the promise stays");
    let sooner = with_opening("10/s", "at = \"2030-03-17T18:46\"\norder = \"lottery\"");
    assert_eq!(running.reload(&sooner).await, ReloadAnswer::Applied, "moved to now: it opens");
    at_the_hour(&running, 1).await;
    assert_eq!(running.reload(&room_of("10/s")).await, ReloadAnswer::Applied, "afterwards the table may go");
    let after = draw(&running).await;
    assert_eq!(numbers(&visitors).await.len(), 3);
    assert!(after.prove(&before, &reference(&visitors[2]).await).is_ok(), "the draw is still known");
}

#[tokio::test]
async fn a_reload_that_another_room_refuses_changes_no_opening() {
    const LOTTERY: &str = "[room.opening]\nat = \"2030-03-17T18:48\"\norder = \"lottery\"";
    const LATER: &str = "[room.opening]\nat = \"2030-03-17T19:48\"\norder = \"lottery\"";
    const OVER: &str = "[room.opening]\nat = \"2020-03-17T18:50\"\norder = \"lottery\"";
    let two = |first: &str, second: &str| {
        let another = "[[room]]\nname = \"second\"\npaths = [\"/second/**\"]\nadmission_rate = \"1/s\"";
        room_of("10/s").with("joins_per_client = \"unlimited\"").with_more(first).with_more(another).with_more(second)
    };
    let running = two("", "").start().await;
    let is_refused = |answer: ReloadAnswer| matches!(answer, ReloadAnswer::Refused(_));
    assert!(is_refused(running.reload(&two(LOTTERY, OVER)).await));
    let facts = running.visitor().app("GET", &format!("/.waiting-room/draw/{ROOM}")).send().await;
    assert_eq!(facts.status, 404, "nothing was announced: {facts:?}");
    let (answer, _) = running.until(running.visitor().navigate("/fair/").begin(), Duration::from_secs(5)).await;
    assert!(answer.is_the_portals(), "{answer:?}");
    assert_eq!(running.reload(&two(LOTTERY, "")).await, ReloadAnswer::Applied);
    let announced = draw(&running).await;
    assert_eq!(announced.opening, 1);
    assert!(is_refused(running.reload(&two("", OVER)).await));
    assert_eq!(draw(&running).await, announced, "it was not withdrawn");
    assert!(is_refused(running.reload(&two(LATER, OVER)).await));
    assert_eq!(draw(&running).await, announced, "nor moved");
    let visitors = gather(&running, 2).await;
    at_the_hour(&running, TO_THE_HOUR).await;
    let numbers = numbers(&visitors).await;
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([2, 3]), "only they took part");
}

#[tokio::test]
async fn what_visitors_were_told_outlasts_a_start_without_the_table_and_operators_may_hold_the_room() {
    let mut running = opening("10/s", "lottery").start().await;
    let visitors = gather(&running, 3).await;
    let before = draw(&running).await;
    running.seconds(2).await;
    running.setup = room_of("10/s").with("joins_per_client = \"unlimited\"");
    let running = running.restart().await;
    let visitors: Vec<Visitor> = visitors.into_iter().map(|visitor| visitor.at(&running)).collect();
    assert_eq!(draw(&running).await, before, "the promise stays");
    for state in ["hold", "open"] {
        let token = std::fs::read_to_string(running.directory.path().join("state/admin-token")).unwrap();
        let operator = app::at(&running.visitor(), running.admin);
        let wish = operator.request("POST", &format!("/admin/v1/rooms/{ROOM}/state"));
        let wish = wish.header("Authorization", &format!("Bearer {}", token.trim()));
        let answer = wish.json(&serde_json::json!({ "state": state })).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        running.seconds(1).await;
        let queue = visitors[0].poll().json(&serde_json::json!({"now": "1"})).send().await.queue();
        assert_eq!(queue["state"], "before_opening", "{queue}");
    }
    at_the_hour(&running, TO_THE_HOUR).await;
    let after = draw(&running).await;
    let number = number(&visitors[1]).await.unwrap();
    assert_eq!(after.prove(&before, &reference(&visitors[1]).await).unwrap().number, number);
}

#[tokio::test]
async fn a_wall_clock_that_leaps_for_a_moment_does_not_open_the_room() {
    let running = opening("10/s", "lottery").start().await;
    let visitors = gather(&running, 2).await;
    let wall = running.clock.now().wall;
    running.clock.set_wall(wall + Duration::from_secs(86_400));
    running.seconds(2).await;
    running.clock.set_wall(wall + Duration::from_secs(2));
    running.seconds(1).await;
    assert!(draw(&running).await.seed.is_none(), "the seed stays a secret");
    let queue = visitors[0].poll().json(&serde_json::json!({"now": "1"})).send().await.queue();
    assert_eq!(queue["state"], "before_opening", "{queue}");
    at_the_hour(&running, TO_THE_HOUR).await;
    assert_eq!(numbers(&visitors).await.len(), 2);
}

#[tokio::test]
async fn a_wall_clock_that_was_set_forward_by_minutes_at_the_hour_opens_the_room_once_and_soon() {
    let running = opening("10/s", "lottery").start().await;
    let visitors = gather(&running, 3).await;
    let before = draw(&running).await;
    running.clock.set_wall(running.clock.now().wall + Duration::from_secs(300));
    running.seconds(20).await;
    assert!(draw(&running).await.seed.is_none(), "a clock that leaps for a moment is not believed");
    at_the_hour(&running, 12).await;
    let after = draw(&running).await;
    assert!(after.prove(&before, &reference(&visitors[0]).await).is_ok());
    let drawn = numbers(&visitors).await;
    // Put back to before the hour, and on again: nothing is opened twice, and nobody loses the place.
    running.clock.set_wall(running.clock.now().wall.minus(Duration::from_secs(300)));
    running.seconds(2).await;
    assert_ne!(running.visitor().join().await.state(), "before_opening");
    running.clock.set_wall(running.clock.now().wall + Duration::from_secs(300));
    running.seconds(40).await;
    assert_eq!((draw(&running).await, numbers(&visitors).await), (after, drawn));
}

#[tokio::test]
async fn each_lane_has_a_draw_of_its_own() {
    let classes = "[[class]]\nname = \"office\"\n\
                   proof = [ { kind = \"network\", ranges = [\"127.0.0.2/32\"], sufficient = true } ]";
    let running = opening("1/min", "lottery").with_more(classes).start().await;
    let (mut offices, mut citizens) = (Vec::new(), Vec::new());
    for index in 0..24 {
        let visitor = running.visitor();
        let visitor = if index % 3 == 0 { visitor.from(Ipv4Addr::new(127, 0, 0, 2)) } else { visitor };
        visitor.join().await;
        let lane = if index % 3 == 0 { &mut offices } else { &mut citizens };
        lane.push(visitor);
    }
    let before = draw(&running).await;
    let mut references = Vec::new();
    for visitor in offices.iter().chain(&citizens) {
        references.push(reference(visitor).await);
    }
    at_the_hour(&running, TO_THE_HOUR).await;
    let after = draw(&running).await;
    let lanes = after.lanes.clone().unwrap();
    let counts: BTreeSet<(&str, u64)> = lanes.iter().map(|lane| (lane.class.as_str(), lane.count)).collect();
    assert_eq!(counts, BTreeSet::from([("citizen", 16), ("office", 8)]));
    let (of_offices, of_citizens) = (numbers(&offices).await, numbers(&citizens).await);
    assert_eq!(of_offices.iter().copied().collect::<BTreeSet<_>>(), (1..=8).collect());
    assert_eq!(of_citizens.iter().copied().collect::<BTreeSet<_>>(), (1..=16).collect());
    for (reference, number) in references.iter().zip(of_offices.iter().chain(&of_citizens)) {
        assert_eq!(after.prove(&before, reference).unwrap().number, *number);
    }
}

#[tokio::test]
async fn whoever_waits_for_the_hour_without_script_is_called_like_the_others() {
    let running = opening("10/s", "arrival").start().await;
    let by_hand = running.visitor();
    by_hand.form(&own("join"), "to=%2Ffair%2F").send().await;
    let scripted = gather(&running, 3).await;
    let page = by_hand.navigate(&own("line")).header("Accept-Language", "en").send().await.text();
    assert!(page.contains("The service has not opened yet") && page.contains("This page does not change by itself"));
    // Nobody presses the button for as long as such a page says one may stay silent.
    at_the_hour(&running, TO_THE_HOUR).await;
    running.seconds(5).await;
    assert_eq!(number(&by_hand).await, Some(1));
    let page = by_hand.form(&own("line"), "to=%2Ffair%2F&n=1").header("Accept-Language", "en").send().await.text();
    assert!(page.contains("It is your turn") && page.contains("/enter?"), "{page}");
    let (answer, _) = running.until(by_hand.navigate("/fair/").begin(), Duration::from_secs(5)).await;
    assert!(answer.is_the_portals(), "{answer:?}");
    assert_eq!(number(&scripted[0]).await, Some(2));
}

#[tokio::test]
async fn a_crash_while_visitors_gather_and_the_hour_while_it_is_down_lose_nobody() {
    let running = opening("10/s", "lottery").start().await;
    let visitors = gather(&running, 15).await;
    let before = draw(&running).await;
    let mut references = Vec::new();
    for visitor in &visitors {
        references.push(reference(visitor).await);
    }
    // What was written last is durable within a second; then it is killed, and the hour passes.
    running.seconds(2).await;
    running.clock.advance(Duration::from_secs(TO_THE_HOUR));
    let running = running.crash().await;
    at_the_hour(&running, 1).await;
    let visitors: Vec<Visitor> = visitors.into_iter().map(|visitor| visitor.at(&running)).collect();
    let (after, drawn) = (draw(&running).await, numbers(&visitors).await);
    assert_eq!(drawn.iter().copied().collect::<BTreeSet<_>>().len(), 15, "no number twice: {drawn:?}");
    for (reference, number) in references.iter().zip(&drawn) {
        assert_eq!(after.prove(&before, reference).unwrap().number, *number);
    }
    for visitor in &visitors {
        let queue = visitor.poll().json(&serde_json::json!({"now": "1"})).send().await.queue();
        assert!(matches!(queue["state"].as_str(), Some("waiting" | "your_turn")), "{queue}");
    }
}

#[tokio::test]
async fn an_hour_that_is_over_is_refused_in_a_reload_and_opens_the_room_at_a_start() {
    let over = with_opening("10/s", "at = \"2020-03-17T18:50\"\norder = \"lottery\"");
    let running = room_of("10/s").start().await;
    let ReloadAnswer::Refused(faults) = running.reload(&over).await else { panic!("not refused") };
    assert!(faults[0].key.contains("opening") && faults[0].wrong.contains("past"), "{faults:?}");
    let running = over.start().await;
    let (answer, _) = running.until(running.visitor().navigate("/fair/").begin(), Duration::from_secs(5)).await;
    assert!(answer.is_the_portals(), "{answer:?}");
    assert_eq!(running.visitor().app("GET", &format!("/.waiting-room/draw/{ROOM}")).send().await.status, 404);
}

#[tokio::test]
async fn whoever_is_inside_goes_on_while_others_gather() {
    let running = room_of("10/s").start().await;
    let inside = running.visitor();
    let (answer, _) = running.until(inside.navigate("/fair/").begin(), Duration::from_secs(5)).await;
    assert!(answer.is_the_portals());
    assert_eq!(running.reload(&opening("10/s", "lottery")).await, ReloadAnswer::Applied);
    let newcomer = running.visitor();
    assert_eq!(newcomer.navigate("/fair/").send().await.status, 503, "at once, not only from the next tick on");
    assert!(inside.navigate("/fair/").send().await.is_the_portals());
    let gathered = gather(&running, 2).await;
    assert_eq!(number_of(&gathered[0].token("ticket").unwrap()), 2);
    at_the_hour(&running, TO_THE_HOUR).await;
    assert_eq!(numbers(&gathered).await.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([2, 3]));
}

#[tokio::test]
async fn a_second_opening_of_the_line_has_a_draw_of_its_own() {
    let mut running = opening("10/s", "lottery").start().await;
    let first = gather(&running, 4).await;
    let promised = draw(&running).await;
    at_the_hour(&running, TO_THE_HOUR).await;
    let drawn = numbers(&first).await;
    let again = with_opening("10/s", "at = \"2030-03-17T19:10\"\norder = \"lottery\"");
    assert_eq!(running.reload(&again).await, ReloadAnswer::Applied);
    let second = draw(&running).await;
    assert_eq!((second.opening, second.seed.clone()), (2, None));
    assert_ne!(second.commitment, promised.commitment);
    running.seconds(1).await;
    let queue = first[0].poll().send().await.queue();
    assert_eq!(queue["state"], "before_opening", "{queue}");
    assert_eq!(numbers(&first).await, drawn, "who has a number already is told so");
    running.setup = again;
    let running = running.restart().await;
    assert_eq!(draw(&running).await, second);
    let sooner = with_opening("10/s", "at = \"2030-03-17T18:49\"\norder = \"lottery\"");
    assert_eq!(running.reload(&sooner).await, ReloadAnswer::Applied);
    at_the_hour(&running, 60).await;
    let first: Vec<Visitor> = first.into_iter().map(|visitor| visitor.at(&running)).collect();
    assert_eq!(numbers(&first).await, drawn, "the first draw holds on");
}

#[tokio::test]
async fn a_receipt_says_what_it_proves_as_a_page_and_as_json() {
    let running = room_of("1/min").with("entry = \"page\"").start().await;
    let (first, second) = (running.visitor(), running.visitor());
    first.join().await;
    second.join().await;
    assert_eq!(number(&second).await, Some(2));
    let answer = second.script("GET", &own("receipt")).send().await;
    assert!(answer.is_personal(), "{answer:?}");
    let receipt = answer.json()["receipt"].clone();
    assert_eq!((receipt["room"].as_str(), receipt["class"].as_str()), (Some(ROOM), Some("citizen")));
    assert_eq!(receipt["token"].as_str().unwrap().len(), 104);
    let page = second.navigate(&own("receipt")).header("Accept-Language", "en").send().await;
    assert!(page.is_personal() && page.text().contains("in line for fair since 2030-03-17"), "{page:?}");
    second.hold("ticket", receipt["token"].as_str().unwrap());
    assert_eq!(second.poll().send().await.state(), "none", "a receipt is no ticket");
    assert_eq!(running.visitor().script("GET", &own("receipt")).send().await.status, 404);
}

fn a_line(rate: &str) -> Line {
    let terms = Terms {
        rate: rate.parse().unwrap(),
        claim_window: Duration::from_secs(1200),
        ticket_lifetime: Duration::from_secs(86_400),
        gate_wait: Duration::from_secs(5),
    };
    Line::new(terms, Mono(0))
}

fn at_tick(tick: u64) -> Now {
    Now { mono: Mono(tick * 100_000_000), unix: Unix(tick * 100), wall: Unix(tick * 100) }
}

#[test]
fn whoever_stood_in_line_before_and_asked_long_ago_is_there_after_the_hour() {
    let class = ClassId::CITIZEN;
    let mut line = a_line("1/min");
    let before = Conditions { standstill: Some(Standstill::BeforeOpening), ..Conditions::FINE };
    line.tick(at_tick(1), before);
    for number in 1..=5 {
        line.join(class, number, Asks::Scripted, at_tick(1));
    }
    (2..=2900).for_each(|tick| drop(line.tick(at_tick(tick), before)));
    for number in 6..=8 {
        line.join(class, number, Asks::Scripted, at_tick(2900));
    }
    line.open(&[Gathered { class, after: 5, count: 3 }], Arc::default(), at_tick(2900));
    (2901..=4000).for_each(|tick| drop(line.tick(at_tick(tick), Conditions::FINE)));
    let lane = line.lane(class).unwrap();
    assert_eq!(lane.waiting() + lane.claims() as u64, 8);
}

#[test]
fn a_turn_from_before_the_hour_goes_to_nobody_else() {
    let class = ClassId::CITIZEN;
    let mut line = a_line("100/s");
    for number in 1..=20 {
        line.join(class, number, Asks::Scripted, at_tick(1));
    }
    (2..=5).for_each(|tick| drop(line.tick(at_tick(tick), Conditions::FINE)));
    assert!(line.lane(class).unwrap().claims() > 0, "somebody was called");
    line.open(&[Gathered { class, after: 0, count: 20 }], Arc::default(), at_tick(6));
    let lane = line.lane(class).unwrap();
    assert_eq!((lane.claims(), lane.at_gate(), lane.now_serving(), lane.waiting()), (0, 0, 0, 20));
}

/// A million visitors, of whom every tenth leaves before the hour, in the line itself: nothing is made for each of them at
/// the hour but what the line keeps anyway, and no tick has to do the work of all.
#[test]
fn a_million_who_gathered_have_their_places_and_nobody_who_left_is_called() {
    let (class, count) = (ClassId::CITIZEN, 1_000_000);
    let now = |tick: u64| Now { mono: Mono(tick * 100_000_000), unix: Unix(tick * 100), wall: Unix(tick * 100) };
    let terms = Terms {
        rate: "100/s".parse().unwrap(),
        claim_window: Duration::from_secs(1200),
        ticket_lifetime: Duration::from_secs(86_400),
        gate_wait: Duration::from_secs(5),
    };
    let mut line = Line::new(terms, Mono(0));
    let before = Conditions { standstill: Some(Standstill::BeforeOpening), ..Conditions::FINE };
    line.tick(now(1), before);
    for number in 1..=count {
        line.join(class, number, Asks::Scripted, now(1));
    }
    (1..=count).step_by(10).for_each(|number| assert!(line.leave(class, number)));
    // Hours pass in silence.
    for tick in 2..20_000 {
        line.tick(now(tick), before);
    }
    assert_eq!(line.lane(class).unwrap().waiting(), count - count / 10, "nobody becomes absent before the hour");
    let gathered = Gathered { class, after: 0, count };
    let opening = Opening {
        number: 1,
        order: Order::Lottery,
        at: Unix(1),
        announced: Unix(1),
        seed: Some([3; 32]),
        after: Vec::new(),
        held: Some(Held { at: Unix(1), lanes: vec![gathered] }),
    };
    let places = Arc::new(Places::of(&RoomName::new("fair").unwrap(), LineIdentity(1), &[opening]));
    line.open(&[gathered], places.clone(), now(20_000));
    let mut called = Vec::new();
    for tick in 20_001..20_060 {
        let ticked = line.tick(now(tick), Conditions::FINE);
        called.extend(ticked.moved.into_iter().flat_map(|(_, moved)| moved.called));
    }
    let had_left = called.iter().filter(|place| places.number(class, **place) % 10 == 1).count();
    let there = line.lane(class).unwrap().waiting() + (called.len() - had_left) as u64;
    assert_eq!(there, count - count / 10, "everybody else is there");
    assert!(called.len() > 100 && called.is_sorted(), "by place: {called:?}");
    assert!(had_left * 100 < called.len() * 12, "only until those who left are noted: {had_left} of {}", called.len());
}
