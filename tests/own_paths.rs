//! Our own paths as browsers, apps, caches and other people's pages meet them.

use crate::support::portal;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::app::{self, ROOM, Running, Visitor, number_of, own, room_of};
use serde_json::json;

/// A room in which nobody goes straight through and the line is long.
async fn with_a_line(rate: &str) -> Running {
    let running = room_of(rate).with("entry = \"page\"").start().await;
    for _ in 0..30 {
        running.visitor().join().await;
    }
    running
}

#[tokio::test]
async fn wrong_methods_are_told_the_right_ones() {
    let running = room_of("10/s").start().await;
    let visitor = running.visitor();
    for (path, wrong, allowed) in [
        ("join", "GET", "POST"),
        ("join", "PUT", "POST"),
        ("enter", "GET", "POST"),
        ("extend", "GET", "POST"),
        ("leave", "GET", "POST"),
        ("leave", "DELETE", "POST"),
        ("status", "PUT", "GET, POST"),
        ("line", "DELETE", "GET, POST"),
    ] {
        let answer = visitor.script(wrong, &own(path)).send().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{wrong} {path}");
        assert!(answer.is_personal());
    }
    for path in [format!("/.waiting-room/board/{ROOM}"), "/.waiting-room/health".to_owned()] {
        let answer = visitor.script("POST", &path).send().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{path}");
        assert_eq!(visitor.script("HEAD", &path).send().await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let running = room_of("10/s").start().await;
    let visitor = running.visitor();
    for path in ["join?room=nowhere", "join", "join?room=", "enter?room=FAIR"] {
        assert_eq!(visitor.script("POST", &format!("/.waiting-room/{path}")).send().await.status, 404, "{path}");
    }
    for path in ["status?room=nowhere", "line?room=x", "board/nowhere", "board/", "nothing", "", "join/", "../x"] {
        assert_eq!(visitor.script("GET", &format!("/.waiting-room/{path}")).send().await.status, 404, "{path}");
    }
    assert_eq!(visitor.navigate("/.waiting-room").send().await.status, 404);
    assert_eq!(running.portal.seen().len(), 0);
}

#[tokio::test]
async fn joins_are_limited_by_client() {
    let running = room_of("1/s").with("entry = \"page\"\njoins_per_client = \"3/min\"").start().await;
    for _ in 0..3 {
        assert_eq!(running.visitor().join().await.status, 200);
    }
    let late = running.visitor();
    let refused = late.join().await;
    assert_eq!((refused.status, refused.header("content-type")), (429, Some("application/problem+json")));
    assert_eq!(refused.state(), "none");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert!(refused.header("set-cookie").is_none());
    let by_hand = running.visitor().form(&own("join"), "").send().await;
    assert_eq!(by_hand.status, 429);
    let elsewhere = running.visitor().from(Ipv4Addr::new(127, 0, 0, 9));
    assert_eq!(elsewhere.join().await.status, 200);
    running.seconds(wait).await;
    assert_eq!(late.join().await.status, 200);
}

#[tokio::test]
async fn straight_through_is_limited_like_joins() {
    let running = room_of("100/s").with("joins_per_client = \"2/min\"").start().await;
    for _ in 0..2 {
        assert!(running.visitor().navigate("/fair/").send().await.is_the_portals());
    }
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
    let elsewhere = running.visitor().from(Ipv4Addr::new(127, 0, 0, 9));
    assert!(elsewhere.navigate("/fair/").send().await.is_the_portals());
}

#[tokio::test]
async fn a_flood_of_polls_is_turned_away_and_costs_no_place() {
    let running = with_a_line("6/min").await;
    let visitor = running.visitor();
    visitor.join().await;
    let before = visitor.script("GET", &own("status")).send().await.queue()["ahead"].clone();
    assert!(before.as_u64().unwrap() >= 16, "far from the front, so that polls are answered at once: {before}");
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(visitor.poll().send().await);
    }
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(refused.len(), 11, "ten at once, one of which was asked before");
    for answer in refused {
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.state(), "waiting");
        assert_eq!(answer.queue()["ahead"], before);
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(visitor.join().await.queue()["ahead"], before, "the place is untouched");
    running.seconds(3).await;
    assert_eq!(visitor.poll().send().await.status, 200);
}

#[tokio::test]
async fn other_peoples_pages_cannot_change_anything() {
    let running = with_a_line("6/min").await;
    let visitor = running.visitor();
    visitor.join().await;
    let refused: [&[(&str, &str)]; 5] = [
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "cross-site"), ("Origin", "http://127.0.0.1")],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
    ];
    for headers in refused {
        for path in ["join", "leave", "enter", "extend", "status"] {
            let mut asking = visitor.request("POST", &own(path)).header("Accept", "*/*");
            for (name, value) in headers {
                asking = asking.header(name, value);
            }
            let answer = asking.send().await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert!(answer.header("set-cookie").is_none());
        }
    }
    // Nothing that says where it comes from: join (old browsers) is allowed, the rest is not.
    for path in ["leave", "enter", "extend"] {
        assert_eq!(visitor.request("POST", &own(path)).send().await.status, 403, "{path}");
    }
    assert_eq!(visitor.request("POST", &own("join")).send().await.status, 200);
    assert_eq!(visitor.poll().send().await.state(), "waiting", "still in line");
    let origin = format!("http://{}", running.address);
    let left = visitor.request("POST", &own("leave")).header("Origin", &origin).send().await;
    assert_eq!((left.status, left.state().as_str()), (200, "left"));
    assert!(left.deletes("ticket"));
}

#[tokio::test]
async fn apps_keep_their_tokens_in_headers() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let app = running.visitor();
    let joined = app.app("POST", &own("join")).send().await;
    let ticket = joined.header("waiting-room-ticket").expect("the ticket").to_owned();
    let app = running.visitor();
    let poll = app.app("POST", &own("status")).header("Waiting-Room-Ticket", &ticket).begin();
    let (turn, _) = running.until(poll, Duration::from_secs(20)).await;
    assert_eq!(turn.state(), "your_turn");
    let turn = turn.header("waiting-room-turn").expect("the turn").to_owned();
    let app = running.visitor();
    let extended = app.app("POST", &own("extend")).header("Waiting-Room-Turn", &turn).send().await;
    assert_eq!(extended.status, 200, "header tokens prove that no page of another site asks");
    let app = running.visitor();
    let entered = app.app("GET", "/fair/api").header("Waiting-Room-Turn", &turn).send().await;
    assert!(entered.is_the_portals() && entered.header("waiting-room-pass").is_some());
    // A browser's script gets none of them in headers, where it could read them.
    let browser = running.visitor();
    assert!(browser.join().await.header("waiting-room-ticket").is_none());
}

#[tokio::test]
async fn no_wanted_address_leads_to_another_site() {
    let running = with_a_line("1/s").await;
    let visitor = running.visitor();
    for to in [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/%0d%0aSet-Cookie:x=y",
        "/\r\nX: y",
        "/.waiting-room/leave?room=fair",
        "/.waiting-room",
        "",
        " //evil.example",
        "/ /evil.example",
        "/..//evil.example",
        "/.//evil.example",
        "@evil.example",
        "https:/evil.example",
        "/\u{0}/evil.example",
        "/fair/..//evil.example/",
        "/%2e%2e//evil.example",
    ] {
        let escaped: String = to.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let entered = visitor.form(&own("enter"), &format!("to={escaped}")).send().await;
        assert_eq!(entered.status, 303, "{to:?}");
        let location = entered.header("location").unwrap().to_owned();
        assert!(stays_here(&location), "{to:?} leads to {location:?}");
        let joined = running.visitor().form(&format!("{}&to={escaped}", own("join")), "").send().await;
        assert!(joined.header("location").unwrap().starts_with("/.waiting-room/line?room=fair&to=/"), "{joined:?}");
        assert!(joined.header("x").is_none() && entered.all("set-cookie").count() == 0);
        let line = joined.header("location").unwrap().to_owned();
        let page = visitor.navigate(&line).send().await;
        assert!(!page.text().contains("evil.example\"") || page.text().contains("/evil.example"), "{to:?}");
    }
    let referer = visitor.form(&own("enter"), "").header("Referer", "https://evil.example/steal").send().await;
    assert_eq!(referer.header("location"), Some("/fair/"));
}

/// What a browser makes of a Location: the WHATWG URL standard drops tabs and line ends and takes `\` for `/`.
fn stays_here(location: &str) -> bool {
    let seen: String = location.chars().filter(|c| !"\t\r\n".contains(*c)).collect::<String>().replace('\\', "/");
    seen.starts_with('/') && !seen.starts_with("//") && !seen.starts_with("/.waiting-room")
}

#[tokio::test]
async fn a_join_that_is_repeated_draws_one_ticket() {
    let running = with_a_line("6/min").await;
    let id = json!({"join_id": "5f3a9c11-77aa-4d55-b0cd-0123456789ab"});
    let (first, second) = (running.visitor(), running.visitor());
    first.script("POST", &own("join")).json(&id).send().await;
    second.script("POST", &own("join")).json(&id).send().await;
    let number = |visitor: &Visitor| number_of(&visitor.token("ticket").unwrap());
    assert_eq!(number(&first), number(&second), "the answer to the first was lost");
    let at_once: Vec<_> = (0..8)
        .map(|_| running.visitor().script("POST", &own("join")).json(&json!({"join_id": "another-random-id"})).begin())
        .collect();
    let mut numbers = Vec::new();
    for answer in at_once {
        let answer = answer.await.unwrap();
        numbers.push(number_of(answer.sets("ticket").unwrap().split(['=', ';']).nth(1).unwrap()));
    }
    numbers.dedup();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    running.seconds(62).await;
    let late = running.visitor();
    late.script("POST", &own("join")).json(&id).send().await;
    assert!(number(&late) > number(&first), "a minute later it is somebody else");
}

#[tokio::test]
async fn tabs_share_one_ticket() {
    let running = with_a_line("6/min").await;
    let visitor = running.visitor();
    visitor.join().await;
    let ticket = visitor.token("ticket").unwrap();
    for _ in 0..5 {
        let again = visitor.join().await;
        assert_eq!((again.status, again.sets("ticket")), (200, None));
        assert_eq!(visitor.form(&own("join"), "").send().await.status, 303);
    }
    assert_eq!(visitor.token("ticket").unwrap(), ticket);
    assert_eq!(running.lane("arrivals_total"), 31.0);
}

#[tokio::test]
async fn listed_sites_may_ask_and_others_may_not_read() {
    let listed = "https://app.example";
    let running =
        room_of("1/s").with("entry = \"page\"").with_server(&format!("cors_origins = [\"{listed}\"]")).start().await;
    let visitor = running.visitor();
    let cross = |origin: &str| {
        visitor
            .request("POST", &own("join"))
            .header("Sec-Fetch-Site", "cross-site")
            .header("Sec-Fetch-Dest", "empty")
            .header("Origin", origin)
    };
    let answer = cross(listed).send().await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(listed)));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert!(answer.all("vary").any(|vary| vary.contains("Origin") || vary == "*"));
    let other = cross("https://evil.example").send().await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (403, None));
    let question = |origin: &str| {
        visitor
            .request("OPTIONS", &own("status"))
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
    };
    let preflight = question(listed).send().await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some(listed)));
    assert!(question("https://evil.example").send().await.header("access-control-allow-origin").is_none());
    let problem = visitor
        .request("GET", "/fair/data")
        .header("Origin", listed)
        .header("Sec-Fetch-Dest", "empty")
        .header("Sec-Fetch-Site", "cross-site");
    let problem = problem.send().await;
    assert_eq!((problem.status, problem.header("access-control-allow-origin")), (503, Some(listed)));
    // Questions about the portal's own paths are the portal's to answer.
    let portals = visitor
        .request("OPTIONS", "/fair/data")
        .header("Origin", listed)
        .header("Access-Control-Request-Method", "POST")
        .send()
        .await;
    assert!(portals.is_the_portals());
    assert_eq!(running.lane("admissions_total"), 0.0);
}

#[tokio::test]
async fn a_get_for_the_status_sets_no_cookie_but_counts() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    let (turn, _) = running.until(visitor.script("GET", &own("status")).begin(), Duration::from_secs(20)).await;
    assert_eq!((turn.state().as_str(), turn.header("set-cookie")), ("your_turn", None));
    assert!(turn.is_personal());
    let line = visitor.navigate(&own("line")).send().await;
    assert_eq!((line.status, line.header("set-cookie")), (200, None));
    let posted = visitor.poll().send().await;
    assert!(posted.sets("turn").is_some() && posted.is_personal());
}

#[tokio::test]
async fn the_board_is_public_and_whatever_sets_a_cookie_is_not() {
    let running = with_a_line("6/min").await;
    let visitor = running.visitor();
    let joined = visitor.join().await;
    assert!(joined.is_personal() && joined.sets("ticket").is_some());
    let board = visitor.script("GET", &format!("/.waiting-room/board/{ROOM}")).send().await;
    assert_eq!((board.status, board.header("cache-control")), (200, Some("public, max-age=1")));
    assert!(board.header("set-cookie").is_none() && board.header("vary").is_none());
    running.seconds(2).await;
    let board = running.board().await;
    assert_eq!((&board["room"], &board["state"], &board["rate"]), (&json!(ROOM), &json!("open"), &json!("6/min")));
    assert_eq!(board["reason"], json!(null));
    assert!(board["lanes"]["citizen"]["waiting"].as_u64().unwrap() >= 29, "{board}");
    assert!(board["lanes"]["citizen"]["now_serving"].as_u64().unwrap() >= 1);
    assert!(board["updated_at"].is_string());
}

#[tokio::test]
async fn our_cookies_never_ride_on_what_caches_may_keep() {
    let public = "[leak_guard]\npublic = [\"/fair/static/**\"]";
    let running = room_of("10/s").with("session_duration = \"4m\"").with_more(public).start().await;
    let visitor = running.visitor();
    running.portal.script(
        "/fair/static/a.css",
        [portal::Script::answer(200, "Content-Type: text/css\r\nCache-Control: public, max-age=60\r\n", "a{}")],
    );
    let public = running.visitor().request("GET", "/fair/static/a.css").header("Sec-Fetch-Dest", "style").send().await;
    assert_eq!((public.status, public.header("set-cookie")), (200, None), "no ticket, no cookie");
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    running.seconds(70).await;
    // The pass is due for renewal; the public answer carries none, the personal one does.
    let public = visitor.request("GET", "/fair/static/a.css").header("Sec-Fetch-Dest", "style").send().await;
    assert!(
        public.header("cache-control").unwrap().contains("public") && public.header("set-cookie").is_none(),
        "{public:?}"
    );
    assert!(
        running
            .portal
            .seen()
            .iter()
            .filter(|seen| seen.target.contains("static"))
            .all(|seen| seen.header("cookie").is_none())
    );
    running.portal.script(
        "/fair/cached",
        [portal::Script::answer(200, "Cache-Control: public, max-age=600\r\nETag: \"a\"\r\n", "hello")],
    );
    let personal = visitor.navigate("/fair/cached").send().await;
    assert!(personal.sets("pass").is_some() && personal.is_personal(), "{personal:?}");
    assert!(!personal.header("cache-control").unwrap().contains("public"));
}

#[tokio::test]
async fn health_says_ok() {
    let running = room_of("10/s").start().await;
    let health = running.visitor().request("GET", "/.waiting-room/health").send().await;
    assert_eq!((health.status, health.text().trim()), (200, "ok"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(running.operate("GET", path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn who_leaves_makes_room_for_those_behind() {
    let running = with_a_line("6/min").await;
    let (first, second) = (running.visitor(), running.visitor());
    first.join().await;
    second.join().await;
    let ahead = |answer: app::Answer| answer.queue()["ahead"].as_u64().unwrap();
    let before = ahead(second.poll().send().await);
    assert_eq!(first.script("POST", &own("leave")).send().await.state(), "left");
    running.seconds(3).await;
    assert!(ahead(second.poll().send().await) < before);
    assert_eq!(first.poll().send().await.state(), "none");
}

#[tokio::test]
async fn a_form_that_joins_too_often_can_be_sent_again_from_the_answer() {
    let running = room_of("1/s").with("entry = \"page\"\njoins_per_client = \"1/min\"").start().await;
    running.visitor().join().await;
    let late = running.visitor();
    let wanted = format!("http://{}/fair/wanted?x=1", running.address);
    let refused = late.form(&own("join"), "").header("Referer", &wanted).send().await;
    assert_eq!((refused.status, refused.header("content-type")), (429, Some("text/html; charset=utf-8")));
    assert!(refused.header("retry-after").is_some() && refused.is_personal());
    let page = refused.text();
    assert!(page.contains("troppe richieste") && !page.contains("posto resta tuo"), "{page}");
    assert!(page.contains("action=\"/.waiting-room/join?room=fair&amp;lang=it\""), "{page}");
    assert!(page.contains("name=\"to\" value=\"/fair/wanted?x=1\""), "{page}");
    running.seconds(60).await;
    let joined = late.form(&own("join"), "to=/fair/wanted?x=1").send().await;
    assert_eq!(joined.status, 303);
    assert!(joined.header("location").unwrap().contains("&to=/fair/wanted%3Fx%3D1&"), "{joined:?}");
}

#[tokio::test]
async fn a_flood_of_updates_by_hand_still_shows_the_place() {
    let running = with_a_line("6/min").await;
    let visitor = running.visitor();
    visitor.join().await;
    let update = || visitor.form(&own("line"), "to=/fair/wanted&shown_ahead=3").send();
    let mut answer = update().await;
    for _ in 0..15 {
        if answer.status == 429 {
            break;
        }
        answer = update().await;
    }
    assert_eq!(answer.status, 429);
    let page = answer.text();
    assert!(answer.header("retry-after").is_some() && page.contains("troppe richieste"), "{page}");
    assert!(page.contains("hai 3 persone davanti"), "it never grows: {page}");
    assert!(page.contains("name=\"to\" value=\"/fair/wanted\""), "{page}");
}

#[tokio::test]
async fn more_time_moves_the_end_of_the_turn_ten_times_and_then_says_that_there_is_no_more() {
    let running = room_of("1/s").with("entry = \"page\"").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    running.until(visitor.poll().begin(), Duration::from_secs(20)).await;
    let extend = || visitor.script("POST", &own("extend")).send();
    let end = |answer: &app::Answer| answer.queue()["enter_by"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let first = extend().await;
    running.seconds(60).await;
    let second = extend().await;
    let moved = end(&second).duration_since(end(&first)).as_secs();
    assert!((59..=61).contains(&moved), "{moved} s");
    for _ in 2..10 {
        assert_eq!(extend().await.status, 200);
    }
    let refused = extend().await;
    assert_eq!((refused.status, refused.state().as_str()), (429, "your_turn"), "the place is untouched");
    assert!(refused.header("retry-after").is_some());
    let by_hand = visitor.form(&own("extend"), "to=/fair/wanted").send().await;
    let page = by_hand.text();
    assert_eq!(by_hand.status, 429);
    assert!(page.contains("Non è possibile darti altro tempo"), "{page}");
    assert!(page.contains("/enter?room=fair") && page.contains("name=\"to\" value=\"/fair/wanted\""), "{page}");
}

#[tokio::test]
async fn whoever_leaves_by_hand_joins_again_for_the_same_address() {
    let running = with_a_line("6/min").await;
    let visitor = running.visitor();
    visitor.join().await;
    let left = visitor.form(&own("leave"), "to=/fair/wanted?x=1").send().await;
    let page = left.text();
    assert!(left.deletes("ticket") && page.contains("name=\"to\" value=\"/fair/wanted?x=1\""), "{page}");
    assert!(page.contains("&amp;lang=en&amp;to=/fair/wanted%3Fx%3D1\""), "{page}");
}
