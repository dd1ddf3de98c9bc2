//! What a visitor meets on the way in: straight through when nobody waits, otherwise the page, a ticket, a turn, and
//! one entry.

use std::time::Duration;

use crate::support::app::{Answer, Running, Visitor, identity_of, number_of, own, room_of};
use serde_json::json;

const MEMBERS: [&str; 18] = [
    "state",
    "class",
    "reference",
    "ahead",
    "ahead_at_gate",
    "wait_seconds_low",
    "wait_seconds_high",
    "expected_at",
    "progress",
    "reason",
    "message",
    "window",
    "enter_by",
    "refresh_seconds",
    "updated_at",
    "text",
    "recovery_code",
    "session",
];

/// Somebody who waits: a line stands.
async fn a_line(running: &Running, length: usize) -> Vec<Visitor> {
    let mut line = Vec::new();
    for _ in 0..length {
        let visitor = running.visitor();
        assert_eq!(visitor.join().await.status, 200);
        line.push(visitor);
    }
    line
}

/// Polls until the turn has come.
async fn called(running: &Running, visitor: &Visitor) -> Answer {
    for _ in 0..100 {
        let (answer, _) = running.until(visitor.poll().begin(), Duration::from_secs(21)).await;
        if answer.state() == "your_turn" {
            return answer;
        }
        running.advance(Duration::from_secs(2)).await;
    }
    panic!("never called");
}

#[tokio::test]
async fn with_nobody_waiting_the_first_navigation_goes_straight_through() {
    let running = room_of("10/s").start().await;
    let visitor = running.visitor();
    let answer = visitor.navigate("/fair/a?b=c").send().await;
    assert!(answer.is_the_portals(), "{answer:?}");
    assert!(answer.is_personal(), "{answer:?}");
    let pass = answer.sets("pass").expect("a pass").to_owned();
    assert!(pass.contains("HttpOnly") && pass.contains("SameSite=Lax") && pass.contains("Path=/"), "{pass}");
    assert!(visitor.token("ticket").is_none() && visitor.token("turn").is_none());
    let seen = running.portal.one("/fair/a?b=c");
    assert_eq!(seen.header("cookie"), None, "the portal sees none of our cookies");
    assert_eq!(running.lane("admissions_total"), 1.0);

    let again = visitor.image("/fair/picture").send().await;
    assert!(again.is_the_portals() && again.sets("pass").is_none());
    assert_eq!(running.lane("admissions_total"), 1.0);
}

#[tokio::test]
async fn apps_go_straight_through_with_their_pass_in_a_header() {
    let running = room_of("10/s").start().await;
    let visitor = running.visitor();
    let answer = visitor.app("GET", "/fair/api").send().await;
    assert!(answer.is_the_portals(), "{answer:?}");
    let pass = answer.header("waiting-room-pass").expect("the pass").to_owned();
    let other = running.visitor().app("GET", "/fair/api").header("Waiting-Room-Pass", &pass).send().await;
    assert!(other.is_the_portals());
    assert_eq!(running.lane("admissions_total"), 1.0);
    assert!(running.portal.seen().iter().all(|seen| seen.header("waiting-room-pass").is_none()));
}

#[tokio::test]
async fn prefetches_and_parts_of_pages_never_enter() {
    let running = room_of("10/s").start().await;
    let visitor = running.visitor();
    let image = visitor.image("/fair/logo.png").send().await;
    assert_eq!((image.status, image.body.len()), (503, 0));
    for (name, value) in [("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("X-Moz", "prefetch")] {
        let answer = visitor.navigate("/fair/").header(name, value).send().await;
        assert_eq!((answer.status, answer.body.len()), (503, 0), "{name}");
    }
    assert_eq!((running.entered(), running.lane("admissions_total")), (0, 0.0));
    assert_eq!(running.lane("arrivals_total"), 0.0, "no ticket was drawn");
}

#[tokio::test]
async fn who_has_to_wait_is_told_in_the_form_that_fits() {
    let running = room_of("1/s").start().await;
    let _line = a_line(&running, 30).await;
    let visitor = running.visitor();

    let page = visitor.navigate("/fair/").send().await;
    assert_eq!(page.status, 503);
    assert!(page.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.is_personal() && page.header("set-cookie").is_none(), "{page:?}");

    let problem = visitor.script("GET", "/fair/data").send().await;
    assert_eq!((problem.status, problem.header("content-type")), (503, Some("application/problem+json")));
    assert!(problem.header("retry-after").is_some() && problem.is_personal());
    let document = problem.json();
    assert_eq!((&document["status"], &document["type"]), (&json!(503), &json!("about:blank")));
    for member in MEMBERS {
        assert!(document["queue"].get(member).is_some(), "{member} is missing: {document}");
    }
    assert_eq!(problem.state(), "none");

    for accept in ["application/json", "*/*"] {
        let app = visitor.request("GET", "/fair/data").header("Accept", accept).send().await;
        assert_eq!((app.status, app.state().as_str()), (503, "none"), "{accept}");
    }
    let image = visitor.image("/fair/logo.png").send().await;
    assert_eq!((image.status, image.body.len()), (503, 0));
    let posted = visitor.form("/fair/apply", "a=b").send().await;
    assert_eq!(posted.status, 503);
    assert_eq!(running.entered(), 0);
    assert_eq!(running.lane("arrivals_total"), 30.0);
}

#[tokio::test]
async fn join_poll_turn_enter() {
    let running = room_of("1/s").start().await;
    let _line = a_line(&running, 10).await;
    let visitor = running.visitor();

    let joined = visitor.join().await;
    assert_eq!((joined.status, joined.header("content-type")), (200, Some("application/json")));
    assert_eq!(joined.state(), "waiting");
    for member in MEMBERS {
        assert!(joined.queue().get(member).is_some(), "{member} is missing");
    }
    assert_eq!(joined.queue()["ahead"], json!(10));
    let ticket = visitor.token("ticket").expect("a ticket");
    assert_eq!(number_of(&ticket), 11);

    // Near the front the answer is held and comes at the call. Those before never come, so nobody is in the way.
    let poll = visitor.poll().begin();
    let (turn, held) = running.until(poll, Duration::from_secs(20)).await;
    assert_eq!(turn.state(), "your_turn", "after {held:?}");
    assert!(held >= Duration::from_millis(100) && held < Duration::from_secs(20), "{held:?}");
    assert!(turn.sets("turn").is_some());
    let says = |member: &str| turn.queue()[member].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let now = jiff::Timestamp::from_millisecond(running.clock.now().wall.0.cast_signed()).unwrap();
    assert!(now.duration_since(says("updated_at")).as_secs() <= 1, "what is said is true when it is said: {turn:?}");
    let turn_lasts = says("enter_by").duration_since(now).as_secs();
    assert!((20 * 60 - 1..=20 * 60).contains(&turn_lasts), "{turn_lasts}");
    assert!(turn.queue()["enter_by"].is_string());

    let entered = visitor.navigate("/fair/form").send().await;
    assert!(entered.is_the_portals(), "{entered:?}");
    assert!(entered.sets("pass").is_some() && entered.deletes("ticket") && entered.deletes("turn"), "{entered:?}");
    assert_eq!(running.lane("admissions_total"), 1.0);
    assert_eq!(visitor.poll().send().await.state(), "inside");
}

#[tokio::test]
async fn the_old_ticket_yields_the_same_pass_at_no_cost() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    called(&running, &visitor).await;
    let copy = visitor.copy();
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    let pass = visitor.token("pass").unwrap();

    // The answer was lost: only ticket and turn are left.
    let again = copy.navigate("/fair/").send().await;
    assert!(again.is_the_portals(), "{again:?}");
    assert_eq!(identity_of(&copy.token("pass").unwrap()), identity_of(&pass));
    assert_eq!(running.lane("admissions_total"), 1.0);
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    running.seconds(2).await;
    assert_eq!(running.metric("active_sessions{class=\"citizen\",room=\"fair\"}"), 1.0);
}

#[tokio::test]
async fn two_requests_of_one_visitor_share_one_entry() {
    let running = room_of("6/min").with("entry = \"page\"").start().await;
    running.seconds(20).await;
    let visitor = running.visitor();
    visitor.join().await;
    called(&running, &visitor).await;
    let tabs: Vec<_> = (0..5).map(|tab| visitor.navigate(&format!("/fair/{tab}")).begin()).collect();
    for tab in tabs {
        let (answer, _) = running.until(tab, Duration::from_secs(6)).await;
        assert!(answer.is_the_portals(), "{answer:?}");
    }
    assert_eq!((running.lane("admissions_total"), running.entered()), (1.0, 5));
}

#[tokio::test]
async fn a_copied_ticket_gives_no_second_place() {
    let running = room_of("1/s").with("entry = \"page\"\nlogout = [\"/bye\"]").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    let thief = visitor.copy();
    called(&running, &visitor).await;
    called(&running, &thief).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    assert!(thief.navigate("/fair/").send().await.is_the_portals());
    assert_eq!(identity_of(&visitor.token("pass").unwrap()), identity_of(&thief.token("pass").unwrap()));
    assert_eq!(running.lane("admissions_total"), 1.0);
    // Once the one place is given up, neither ticket nor pass opens the door again.
    let third = visitor.copy();
    visitor.navigate("/bye").send().await;
    for late in [&thief, &third] {
        assert_eq!(late.navigate("/fair/").send().await.status, 503);
    }
    assert_eq!(running.lane("admissions_total"), 1.0);
}

#[tokio::test]
async fn a_request_is_held_at_the_gate_when_it_can_enter_within_gate_wait() {
    let running = room_of("6/min").with("entry = \"page\"\ngate_wait = \"3s\"").start().await;
    running.seconds(20).await;
    let (first, second) = (running.visitor(), running.visitor());
    first.join().await;
    second.join().await;
    called(&running, &first).await;
    called(&running, &second).await;
    assert!(first.navigate("/fair/").send().await.is_the_portals());
    // The burst of a rate this low is one admission and a tick's worth, so the next one is ten seconds away: too long to
    // be held, and answered without the clock.
    let page = second.navigate("/fair/").send().await;
    assert_eq!(page.status, 503);
    let (standing, until_worth_while) = running.until(second.poll().begin(), Duration::from_secs(20)).await;
    assert_eq!((standing.state().as_str(), &standing.queue()["ahead_at_gate"]), ("your_turn", &json!(0)));
    let until = until_worth_while.as_millis();
    assert!((6_000..=7_500).contains(&until), "told {until} ms later that asking is worth while");
    let (entered, held) = running.until(second.navigate("/fair/").begin(), Duration::from_secs(4)).await;
    assert!(entered.is_the_portals(), "{entered:?}");
    assert!(held >= Duration::from_secs(2) && held <= Duration::from_secs(3), "{held:?}");
}

#[tokio::test]
async fn without_script_forms_and_links_lead_in() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let visitor = running.visitor();
    let referer = format!("http://{}/fair/wanted?x=1", running.address);
    let joined = visitor.form(&own("join"), "").header("Referer", &referer).send().await;
    assert_eq!(joined.status, 303, "{joined:?}");
    assert!(joined.sets("ticket").is_some());
    let line = joined.header("location").unwrap().to_owned();
    assert!(line.starts_with("/.waiting-room/line?room=fair&to=/fair/wanted%3Fx%3D1&n="), "{line}");

    let page = visitor.navigate(&line).send().await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html") && page.header("set-cookie").is_none());
    assert!(page.is_personal());
    running.seconds(3).await;
    let turn = visitor.navigate(&line).send().await;
    assert!(turn.text().contains("/.waiting-room/enter?room=fair"), "the page offers the way in: {}", turn.text());

    let enter = visitor.form(&own("enter"), "to=%2Ffair%2Fwanted%3Fx%3D1").send().await;
    assert_eq!((enter.status, enter.header("location")), (303, Some("/fair/wanted?x=1")));
    let inside = visitor.navigate("/fair/wanted?x=1").send().await;
    assert!(inside.is_the_portals(), "{inside:?}");
    assert_eq!(running.lane("admissions_total"), 1.0);
}

/// What one of the crowd is doing.
struct Member {
    visitor: Visitor,
    number: u64,
    answer: Option<tokio::task::JoinHandle<Answer>>,
    turn: bool,
    entered_at: Option<usize>,
    ask_at: usize,
}

#[tokio::test]
async fn two_hundred_visitors_enter_in_order_and_at_the_rate() {
    let running = room_of("10/s").with("entry = \"page\"").start().await;
    let mut crowd = Vec::new();
    for visitor in a_line(&running, 200).await {
        let number = number_of(&visitor.token("ticket").unwrap());
        crowd.push(Member { visitor, number, answer: None, turn: false, entered_at: None, ask_at: 0 });
    }
    let mut entries_by_tick: Vec<usize> = Vec::new();
    let mut ticks = 0;
    while crowd.iter().any(|member| member.entered_at.is_none()) {
        ticks += 1;
        assert!(ticks < 450, "{} of 200 entered", running.entered());
        running.advance(Duration::from_millis(100)).await;
        for member in &mut crowd {
            if member.entered_at.is_none() && member.answer.is_none() && ticks >= member.ask_at {
                let asking = if member.turn { member.visitor.navigate("/fair/") } else { member.visitor.poll() };
                member.answer = Some(asking.begin());
            }
        }
        running.rest().await;
        entries_by_tick.push(running.entered());
        for member in &mut crowd {
            if !member.answer.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
                continue;
            }
            let answer = member.answer.take().unwrap().await.unwrap();
            if answer.is_the_portals() {
                member.entered_at = Some(ticks);
            } else if answer.status == 200 {
                member.turn = answer.state() == "your_turn";
                let refresh = answer.queue()["refresh_seconds"].as_u64().unwrap();
                member.ask_at = if member.turn { ticks } else { ticks + 10 * usize::try_from(refresh).unwrap() };
            } else {
                member.ask_at = ticks + 10;
            }
        }
    }
    // In any interval T at most rate x (T + a tick) + burst; what the portal notes may be one step late.
    let at = |tick: usize| if tick == 0 { 0 } else { entries_by_tick[tick - 1] };
    for from in 0..entries_by_tick.len() {
        for to in from + 1..=entries_by_tick.len() {
            let entries = at(to) - at(from);
            let late = if from == 0 { 0.0 } else { 0.1 };
            let most = 10.0 * ((to - from) as f64 / 10.0 + 0.1 + late) + 2.5;
            assert!(entries as f64 <= most, "{entries} entries between ticks {from} and {to}");
        }
    }
    assert!(ticks <= 230, "200 visitors took {ticks} ticks at 10/s");
    assert_eq!((running.entered(), running.lane("admissions_total")), (200, 200.0));
    crowd.sort_by_key(|member| member.number);
    let order: Vec<usize> = crowd.iter().map(|member| member.entered_at.unwrap()).collect();
    // Those who answer their call at once are overtaken by nobody, but for neighbours called in the same second.
    for (place, entered) in order.iter().enumerate() {
        let later_before = order[place..].iter().filter(|later| *later + 10 < *entered).count();
        assert_eq!(later_before, 0, "place {place} was overtaken: {order:?}");
    }
}
