//! The leak guard's detectors from outside: a portal that hands out other people's pages, and one that only looks so.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::support::app::{Answer, PATIENCE, ROOM, Running, Visitor, room_of};
use super::support::portal::{Script, Step, gate};

/// A program in front of a portal, with these lines in its leak guard.
async fn guarded_by(lines: &str) -> Running {
    let running = room_of("1000/s").with_more(&format!("[leak_guard]\n{lines}")).start().await;
    calibrated(&running).await;
    running
}

async fn guarded() -> Running {
    guarded_by("").await
}

/// Waits until the portal has been asked for a path that nobody ever asked for.
async fn calibrated(running: &Running) {
    let done = async {
        while running.operate("GET", "/admin/v1/leak-guard").await.json()["calibration"]["done"] != true {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("the portal is calibrated");
}

/// What the guard counted.
fn counted(running: &Running, rule: &str, action: &str) -> f64 {
    running.metric(&format!("leak_guard_total{{action=\"{action}\",rule=\"{rule}\"}}"))
}

/// Somebody from this address who has been let in.
async fn insider(running: &Running, last: u8) -> Visitor {
    let visitor = running.visitor().from(Ipv4Addr::new(127, 0, last, 1));
    let answer = visitor.navigate("/fair/").send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The host is one of which nothing was known.
    calibrated(running).await;
    visitor
}

/// The portal answers this path with these header lines.
fn says(running: &Running, path: &str, headers: &str) {
    running.portal.script(path, [Script::answer(200, headers, "a page")]);
}

async fn get(visitor: &Visitor, path: &str) -> Answer {
    visitor.navigate(path).send().await
}

async fn as_somebody(visitor: &Visitor, session: &str, path: &str) -> Answer {
    visitor.navigate(path).header("Cookie", &format!("JSESSIONID={session}")).send().await
}

// ---- sessions

#[tokio::test]
async fn a_session_issued_to_two_visitors_is_stopped() {
    let running = guarded().await;
    says(&running, "/fair/login", "Set-Cookie: JSESSIONID=A1B2C3.node1; Path=/\r\n");
    let (one, other) = (insider(&running, 1).await, insider(&running, 2).await);
    let first = get(&one, "/fair/login").await;
    assert_eq!((first.status, first.all("set-cookie").count()), (200, 1));
    let second = get(&other, "/fair/login").await;
    assert_eq!(second.status, 502, "{second:?}");
    assert!(second.all("set-cookie").all(|line| !line.contains("JSESSIONID")), "{second:?}");
    assert!(!second.text().contains("a page"));
    assert_eq!(counted(&running, "session_reissued", "blocked"), 1.0);
    assert_eq!(get(&one, "/fair/login").await.status, 200, "it carries the session: nothing is issued");
}

#[tokio::test]
async fn the_connection_of_a_stopped_answer_is_not_used_again() {
    let running = guarded().await;
    says(&running, "/fair/login", "Set-Cookie: JSESSIONID=A1B2C3; Path=/\r\n");
    let (one, other) = (insider(&running, 1).await, insider(&running, 2).await);
    get(&one, "/fair/login").await;
    get(&other, "/fair/login").await;
    let stopped = running.portal.seen().last().unwrap().connection;
    get(&one, "/fair/").await;
    assert!(running.portal.seen().last().unwrap().connection > stopped);
}

#[tokio::test]
async fn balancer_and_csrf_cookies_repeat_and_deletions_issue_nothing() {
    let running = guarded().await;
    let lines = "Set-Cookie: ROUTEID=.1\r\nSet-Cookie: XSRF-TOKEN=abc\r\nSet-Cookie: JSESSIONID=A1; Max-Age=0\r\n\
                 Set-Cookie: PHPSESSID=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0\r\n";
    says(&running, "/fair/out", lines);
    for last in 1..4 {
        let visitor = insider(&running, last).await;
        assert_eq!(get(&visitor, "/fair/out").await.status, 200);
    }
    assert_eq!(counted(&running, "session_reissued", "blocked"), 0.0);
}

#[tokio::test]
async fn a_session_in_other_hands_is_reported_and_blocked_on_wish() {
    for (lines, status, action) in
        [("", 200, "alarmed"), ("[leak_guard.detectors]\nsession_presented = \"block\"", 502, "blocked")]
    {
        let running = guarded_by(lines).await;
        says(&running, "/fair/login", "Set-Cookie: JSESSIONID=A1; Path=/\r\n");
        let (one, other) = (insider(&running, 1).await, insider(&running, 2).await);
        get(&one, "/fair/login").await;
        let before = running.portal.seen().len();
        assert_eq!(as_somebody(&other, "A1", "/fair/").await.status, status);
        assert_eq!(running.portal.seen().len() - before, usize::from(status == 200), "what is blocked is not sent");
        assert_eq!(counted(&running, "session_presented", action), 1.0);
        assert_eq!(as_somebody(&one, "A1", "/fair/").await.status, 200);
    }
}

// ---- people

#[tokio::test]
async fn another_persons_page_is_stopped_and_the_header_never_leaves() {
    let running = guarded().await;
    says(&running, "/fair/login", "Set-Cookie: JSESSIONID=A1; Path=/\r\n");
    says(&running, "/fair/me", "Waiting-Room-Identity: RSSMRA85T10A562S\r\n");
    let visitor = insider(&running, 1).await;
    get(&visitor, "/fair/login").await;
    running.seconds(1).await;
    let own = get(&visitor, "/fair/me").await;
    assert_eq!((own.status, own.header("waiting-room-identity")), (200, None));
    running.seconds(1).await;
    get(&visitor, "/fair/me").await;
    says(&running, "/fair/me", "Waiting-Room-Identity: VRDLGI80A01F205X\r\n");
    running.seconds(1).await;
    let other = get(&visitor, "/fair/me").await;
    assert_eq!((other.status, other.header("waiting-room-identity")), (502, None));
    assert_eq!(counted(&running, "identity_mismatch", "blocked"), 1.0);
}

#[tokio::test]
async fn somebody_else_logs_in_within_an_old_portals_session() {
    let running = guarded().await;
    says(&running, "/fair/login", "Set-Cookie: JSESSIONID=A1; Path=/\r\n");
    says(&running, "/fair/me", "Waiting-Room-Identity: ANNA\r\n");
    let visitor = insider(&running, 1).await;
    get(&visitor, "/fair/login").await;
    get(&visitor, "/fair/me").await;
    running.seconds(300).await;
    visitor.form("/fair/login", "user=bruno").send().await;
    says(&running, "/fair/me", "Waiting-Room-Identity: BRUNO\r\n");
    assert_eq!(get(&visitor, "/fair/me").await.status, 200);
    assert_eq!(counted(&running, "session_identities", "alarmed"), 1.0);
    assert_eq!(get(&visitor, "/fair/me").await.status, 200);
    assert_eq!(counted(&running, "identity_mismatch", "blocked"), 0.0);
}

/// A visitor who has seen ANNA's page, five minutes later.
async fn anna_five_minutes_ago(running: &Running) -> Visitor {
    says(running, "/fair/login", "Set-Cookie: JSESSIONID=A1; Path=/\r\n");
    says(running, "/fair/me", "Waiting-Room-Identity: ANNA\r\n");
    let visitor = insider(running, 1).await;
    get(&visitor, "/fair/login").await;
    running.seconds(1).await;
    get(&visitor, "/fair/me").await;
    running.seconds(300).await;
    visitor
}

#[tokio::test]
async fn a_logins_own_answer_that_still_names_the_person_before_gets_nobody_blocked() {
    let running = guarded().await;
    let visitor = anna_five_minutes_ago(&running).await;
    says(&running, "/fair/login", "Waiting-Room-Identity: ANNA\r\n");
    visitor.form("/fair/login", "user=bruno").send().await;
    running.seconds(1).await;
    says(&running, "/fair/me", "Waiting-Room-Identity: BRUNO\r\n");
    assert_eq!(get(&visitor, "/fair/me").await.status, 200);
    assert_eq!(counted(&running, "session_identities", "alarmed"), 1.0);
    running.seconds(1).await;
    assert_eq!(get(&visitor, "/fair/me").await.status, 200);
    says(&running, "/fair/me", "Waiting-Room-Identity: ANNA\r\n");
    running.seconds(1).await;
    assert_eq!(get(&visitor, "/fair/me").await.status, 200, "nobody is stopped in a login's window");
    assert_eq!(counted(&running, "identity_mismatch", "alarmed"), 1.0);
    says(&running, "/fair/me", "Waiting-Room-Identity: BRUNO\r\n");
    for _ in 0..3 {
        running.seconds(30).await;
        assert_eq!(get(&visitor, "/fair/me").await.status, 200);
    }
    says(&running, "/fair/me", "Waiting-Room-Identity: ANNA\r\n");
    running.seconds(1).await;
    assert_eq!(get(&visitor, "/fair/me").await.status, 502, "one login changes the person once");
}

#[tokio::test]
async fn a_login_callback_that_is_not_listed_gets_nobody_blocked() {
    for callback in ["/fair/oidc?code=1&state=2", "/fair/back"] {
        let running = guarded().await;
        let visitor = anna_five_minutes_ago(&running).await;
        for path in ["/fair/oidc", "/fair/back"] {
            running
                .portal
                .script(path, [Script::answer(302, "Waiting-Room-Identity: ANNA\r\nLocation: /fair/me\r\n", "")]);
        }
        let site = if callback.contains('?') { "same-origin" } else { "cross-site" };
        let asking = visitor.request("GET", callback).header("Sec-Fetch-Site", site);
        asking.header("Sec-Fetch-Mode", "navigate").header("Sec-Fetch-Dest", "document").send().await;
        running.seconds(1).await;
        says(&running, "/fair/me", "Waiting-Room-Identity: BRUNO\r\n");
        assert_eq!(get(&visitor, "/fair/me").await.status, 200, "{callback}");
        assert_eq!(counted(&running, "session_identities", "alarmed"), 1.0);
    }
}

#[tokio::test]
async fn many_sessions_of_one_person_are_reported_once() {
    let running = guarded().await;
    for number in 0..13 {
        let visitor = insider(&running, 1 + number).await;
        says(
            &running,
            "/fair/login",
            &format!("Set-Cookie: JSESSIONID=A{number}; Path=/\r\nWaiting-Room-Identity: ANNA\r\n"),
        );
        assert_eq!(visitor.form("/fair/login", "user=anna").send().await.status, 200);
        let reported = counted(&running, "identity_sessions", "alarmed");
        assert_eq!(reported, if number < 10 { 0.0 } else { 1.0 }, "{} sessions", number + 1);
    }
    assert_eq!(counted(&running, "identity_sessions", "blocked"), 0.0);
}

#[tokio::test]
async fn two_people_in_one_session_are_stopped_for_the_newcomer() {
    let running = guarded().await;
    says(&running, "/fair/login", "Set-Cookie: JSESSIONID=A1; Path=/\r\n");
    says(&running, "/fair/me", "Waiting-Room-Identity: ANNA\r\n");
    let (one, other) = (insider(&running, 1).await, insider(&running, 2).await);
    get(&one, "/fair/login").await;
    get(&one, "/fair/me").await;
    says(&running, "/fair/me", "Waiting-Room-Identity: BRUNO\r\n");
    running.seconds(1).await;
    assert_eq!(as_somebody(&other, "A1", "/fair/me").await.status, 502);
    assert_eq!(counted(&running, "session_identities", "blocked"), 1.0);
}

// ---- caches behind us

#[tokio::test]
async fn answers_of_a_cache_are_stopped() {
    let running = guarded().await;
    let visitor = insider(&running, 1).await;
    for (path, header, status) in [
        ("/fair/a", "Age: 3\r\n", 502),
        ("/fair/b", "X-Cache: HIT\r\n", 502),
        ("/fair/c", "Cache-Status: c; hit\r\n", 502),
        ("/fair/d", "X-Varnish: 12 7\r\n", 502),
        ("/fair/e", "X-Cache: MISS from hit-server\r\nAge: 0\r\n", 200),
    ] {
        says(&running, path, header);
        assert_eq!(get(&visitor, path).await.status, status, "{header}");
    }
    assert_eq!(counted(&running, "cache_hit", "blocked"), 4.0);
    assert_eq!(running.metric("leak_guard_breaker_open{room=\"fair\"}"), 0.0, "one visitor closes no room");
}

#[tokio::test]
async fn an_age_that_the_answer_took_to_come_is_counted_and_stops_nobody() {
    let running = guarded().await;
    let visitor = insider(&running, 1).await;
    let (open, gate) = gate();
    let head = Step::Send(b"HTTP/1.1 200 OK\r\nAge: 2\r\nContent-Length: 6\r\n\r\na page".to_vec());
    running.portal.script("/fair/slow", [Script::new([gate, head])]);
    let before = running.portal.seen().len();
    let asking = visitor.navigate("/fair/slow").begin();
    running.portal.arrived(before + 1).await;
    running.advance(Duration::from_secs(2)).await;
    open.send(true).unwrap();
    let (answer, _) = running.until(asking, PATIENCE).await;
    assert_eq!(answer.status, 200);
    assert_eq!(counted(&running, "cache_hit", "observed"), 1.0);
    assert_eq!(counted(&running, "cache_hit", "blocked"), 0.0);
}

#[tokio::test]
async fn a_folder_that_a_visitor_makes_up_is_not_asked_about() {
    let running = guarded().await;
    let visitor = insider(&running, 1).await;
    let kinds =
        async || running.operate("GET", "/admin/v1/leak-guard").await.json()["calibration"]["kinds"].as_u64().unwrap();
    let before = kinds().await;
    for (folder, status, more) in [("made", 404, 0), ("up", 404, 0), ("real", 200, 1)] {
        let path = format!("/fair/{folder}/page");
        running.portal.script(&path, [Script::answer(status, "", "a page")]);
        get(&visitor, &path).await;
        calibrated(&running).await;
        assert_eq!(kinds().await, before + more, "{folder}");
    }
}

/// How many kinds of addresses the portal was asked about, when it has been.
async fn kinds_known(running: &Running) -> u64 {
    calibrated(running).await;
    running.operate("GET", "/admin/v1/leak-guard").await.json()["calibration"]["kinds"].as_u64().unwrap()
}

#[tokio::test]
async fn a_folder_known_on_one_host_is_asked_about_on_another() {
    let running = guarded().await;
    let visitor = insider(&running, 1).await;
    for page in ["a", "b"] {
        running.portal.script(&format!("/fair/app/{page}"), [Script::answer(200, "", "a page")]);
    }
    get(&visitor, "/fair/app/a").await;
    let before = kinds_known(&running).await;
    let answer = visitor.navigate("/fair/app/b").header("Host", "www.other.example").send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(kinds_known(&running).await, before + 2, "its root and the folder");
}

#[tokio::test]
async fn what_the_portal_refuses_first_is_asked_about_when_it_answers() {
    let running = guarded().await;
    let visitor = insider(&running, 1).await;
    says(&running, "/fair/app/a", "");
    get(&visitor, "/fair/app/a").await;
    let before = kinds_known(&running).await;
    for (status, more) in [(404, 0), (200, 1)] {
        running.portal.script("/fair/app/letter.pdf", [Script::answer(status, "", "a page")]);
        assert_eq!(get(&visitor, "/fair/app/letter.pdf").await.status, status);
        assert_eq!(kinds_known(&running).await, before + more, "{status}");
    }
}

#[tokio::test]
async fn a_made_up_host_does_not_get_a_hit_delivered() {
    let running = guarded().await;
    let visitor = insider(&running, 1).await;
    says(&running, "/fair/account", "X-Cache: HIT\r\n");
    assert_eq!(get(&visitor, "/fair/account").await.status, 502);
    for number in 0..200 {
        let host = format!("x{number}.example");
        let answer = visitor.navigate("/fair/account").header("Host", &host).send().await;
        assert_eq!(answer.status, 502, "{host}");
    }
}

#[tokio::test]
async fn a_portal_that_is_told_its_own_host_is_asked_once() {
    let running = room_of("1000/s").with_portal("preserve_host = false").start().await;
    let visitor = insider(&running, 1).await;
    says(&running, "/fair/app/a", "");
    get(&visitor, "/fair/app/a").await;
    let before = kinds_known(&running).await;
    visitor.navigate("/fair/app/a").header("Host", "www.other.example").send().await;
    assert_eq!(kinds_known(&running).await, before);
}

#[tokio::test]
async fn a_trait_of_the_portal_is_reported_and_never_blocks() {
    let portal = super::support::portal::FakePortal::start().await;
    portal.has_traits("Age: 7\r\n");
    let clock = anticamera::clock::ManualClock::starting_at(anticamera::domain::time::Unix(1_900_000_000_000));
    let directory = tempfile::tempdir().unwrap();
    let running = room_of("1000/s").start_on(directory, portal, clock).await;
    running.seconds(1).await;
    calibrated(&running).await;
    let report = running.operate("GET", "/admin/v1/leak-guard").await.json();
    assert_eq!(report["calibration"]["trait"], "age");
    assert_eq!(running.metric("leak_guard_detector{detector=\"cache_hit\",mode=\"alarm\"}"), 1.0);
    for last in 1..6 {
        let visitor = insider(&running, last).await;
        says(&running, "/fair/a", "Age: 7\r\n");
        assert_eq!(get(&visitor, "/fair/a").await.status, 200);
    }
    assert_eq!(counted(&running, "cache_hit", "alarmed"), 5.0);
}

#[tokio::test]
async fn files_that_a_cache_behind_us_keeps_stop_nobody() {
    let running = guarded().await;
    says(&running, "/fair/style.css", "Content-Type: text/css\r\nX-Cache: HIT\r\nAge: 30\r\n");
    says(&running, "/fair/logo.png", "Content-Type: image/png\r\nX-Cache-Status: HIT\r\n");
    says(&running, "/fair/me/x.css", "Content-Type: text/html\r\nX-Cache: HIT\r\n");
    for last in 1..6 {
        let visitor = insider(&running, last).await;
        for path in ["/fair/style.css", "/fair/logo.png"] {
            let answer = visitor.image(path).send().await;
            assert_eq!((answer.status, answer.is_personal()), (200, true), "{path}");
        }
    }
    running.seconds(1).await;
    assert_eq!(counted(&running, "cache_hit", "alarmed"), 10.0);
    assert_eq!(counted(&running, "cache_hit", "blocked"), 0.0);
    assert_eq!(running.metric("leak_guard_breaker_open{room=\"fair\"}"), 0.0);
    let report = running.operate("GET", "/admin/v1/leak-guard").await.json();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().any(|line| line["route"] == "/fair/style.css" && line["times"] == 5), "{report}");

    let visitor = insider(&running, 7).await;
    get(&visitor, "/fair/me/x.css").await;
    calibrated(&running).await;
    assert_eq!(get(&visitor, "/fair/me/x.css").await.status, 502, "a page that is named like a file is none");
}

#[tokio::test]
async fn a_trait_of_one_folder_is_one_of_that_folder_only() {
    let running = guarded().await;
    running.portal.has_traits_below("/fair/gateway", "Age: 7\r\n");
    says(&running, "/fair/gateway/a", "Age: 7\r\n");
    says(&running, "/fair/a", "Age: 7\r\n");
    let visitor = insider(&running, 1).await;
    assert_eq!(get(&visitor, "/fair/gateway/a").await.status, 200, "not calibrated yet");
    calibrated(&running).await;
    assert_eq!(get(&visitor, "/fair/gateway/a").await.status, 200);
    assert_eq!(get(&visitor, "/fair/a").await.status, 502);
    let report = running.operate("GET", "/admin/v1/leak-guard").await.json();
    let place = serde_json::json!([{"host": "127.0.0.1", "folder": "/fair/gateway", "ending": "", "header": "age"}]);
    assert_eq!(report["calibration"]["traits"], place, "{report}");
    assert_eq!(running.metric("leak_guard_detector{detector=\"cache_hit\",mode=\"block\"}"), 1.0);
}

#[tokio::test]
async fn headers_that_the_operator_lists_say_nothing() {
    let running = guarded_by("ignore_hit_headers = [\"Age\"]").await;
    says(&running, "/fair/a", "Age: 7\r\n");
    assert_eq!(get(&insider(&running, 1).await, "/fair/a").await.status, 200);
    assert_eq!(counted(&running, "cache_hit", "alarmed"), 0.0);
}

// ---- the breaker

async fn reset(running: &Running) {
    let token = std::fs::read_to_string(running.directory.path().join("state/admin-token")).unwrap();
    let asking = super::support::app::at(&running.visitor(), running.admin);
    let asking = asking.request("POST", "/admin/v1/leak-guard/reset");
    let answer = asking.header("Authorization", &format!("Bearer {}", token.trim())).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn stop_three(running: &Running) {
    says(running, "/fair/a", "X-Cache: HIT\r\n");
    for last in 1..4 {
        let visitor = insider(running, last).await;
        assert_eq!(get(&visitor, "/fair/a").await.status, 502);
    }
    running.seconds(2).await;
}

#[tokio::test]
async fn a_room_stops_letting_people_in_and_says_so() {
    let running = guarded().await;
    let inside = insider(&running, 9).await;
    stop_three(&running).await;
    let open = format!("leak_guard_breaker_open{{room=\"{ROOM}\"}}");
    assert_eq!(running.metric(&open), 1.0);
    let newcomer = running.visitor();
    let patience = Duration::from_secs(30);
    let (answer, _) = running.until(newcomer.navigate("/fair/").begin(), patience).await;
    assert_eq!(answer.status, 503);
    newcomer.join().await;
    let (answer, _) = running.until(newcomer.poll().begin(), patience).await;
    assert_eq!(answer.queue()["reason"]["code"], "leak_guard", "{answer:?}");
    assert_eq!(running.board().await["reason"]["code"], "leak_guard");
    assert_eq!(get(&inside, "/fair/").await.status, 200, "whoever is inside goes on");

    // Ten minutes without a block, then a tenth of the rate, then all of it.
    running.seconds(540).await;
    assert_eq!(running.metric(&open), 1.0);
    running.seconds(62).await;
    assert_eq!(running.metric(&open), 0.0);
    let rate = running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}"));
    assert!((100.0..1000.0).contains(&rate), "{rate}");
    running.seconds(62).await;
    assert_eq!(running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}")), 1000.0);
}

#[tokio::test]
async fn a_restart_forgets_no_session_no_stop_and_no_reset() {
    let running = guarded().await;
    says(&running, "/fair/login", "Set-Cookie: JSESSIONID=A1; Path=/\r\n");
    let (one, other) = (insider(&running, 8).await, insider(&running, 9).await);
    get(&one, "/fair/login").await;
    stop_three(&running).await;
    let open = format!("leak_guard_breaker_open{{room=\"{ROOM}\"}}");
    assert_eq!(running.metric(&open), 1.0);

    let running = running.restart().await;
    calibrated(&running).await;
    running.seconds(2).await;
    assert_eq!(running.metric(&open), 1.0, "nobody new enters");
    let (one, other) = (one.at(&running), other.at(&running));
    assert_eq!(as_somebody(&one, "A1", "/fair/").await.status, 200);
    assert_eq!(counted(&running, "session_presented", "alarmed"), 0.0, "it was issued to them");
    as_somebody(&other, "A1", "/fair/").await;
    assert_eq!(counted(&running, "session_presented", "alarmed"), 1.0);
    says(&running, "/fair/again", "Set-Cookie: JSESSIONID=A1; Path=/\r\n");
    assert_eq!(get(&other, "/fair/again").await.status, 502, "issued before the restart");

    reset(&running).await;
    running.seconds(2).await;
    let running = running.restart().await;
    running.seconds(2).await;
    assert_eq!(running.metric(&open), 0.0);
}

#[tokio::test]
async fn reading_the_report_changes_nothing() {
    let running = guarded().await;
    stop_three(&running).await;
    running.seconds(602).await;
    let report = async || running.operate("GET", "/admin/v1/leak-guard").await.json()["rooms"][0]["admissions"].clone();
    assert_eq!(report().await, "reopening");
    running.seconds(1).await;
    let rate = running.metric(&format!("admission_rate{{room=\"{ROOM}\"}}"));
    assert!((100.0..900.0).contains(&rate), "somebody read the report, and the rate is {rate} at once");
    assert_eq!(report().await, "reopening");
}

#[tokio::test]
async fn blocks_outside_the_gate_count_as_well() {
    for (path, lines) in [("/fair/health", "bypass = [\"/fair/health\"]"), ("/other", "")] {
        let running = room_of("1000/s").with(lines).start().await;
        get(&running.visitor(), path).await;
        calibrated(&running).await;
        says(&running, path, "X-Cache: HIT\r\n");
        for last in 1..4 {
            let visitor = running.visitor().from(Ipv4Addr::new(127, 0, last, 1));
            assert_eq!(get(&visitor, path).await.status, 502, "{path}");
        }
        running.seconds(1).await;
        assert_eq!(running.metric("leak_guard_breaker_open{room=\"fair\"}"), 1.0, "{path}");
        assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
    }
}

#[tokio::test]
async fn an_operator_lets_people_in_again() {
    let running = guarded().await;
    stop_three(&running).await;
    assert_eq!(running.operate("POST", "/admin/v1/leak-guard/reset").await.status, 401);
    reset(&running).await;
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 200);
}

#[tokio::test]
async fn a_breaker_that_only_reports_stops_nobody() {
    let running = guarded_by("breaker = \"alarm\"").await;
    stop_three(&running).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 200);
}

// ---- what is reported

#[tokio::test]
async fn observing_changes_nothing_and_reports_everything() {
    let running = guarded_by("mode = \"observe\"\npublic = [\"/static/**\"]").await;
    says(
        &running,
        "/fair/login",
        "Set-Cookie: JSESSIONID=A1; Path=/\r\nCache-Control: public, max-age=60\r\nETag: \"1\"\r\n",
    );
    says(&running, "/static/a.css", "Set-Cookie: X=1\r\nContent-Type: text/html\r\n");
    let (one, other) = (insider(&running, 1).await, insider(&running, 2).await);
    for visitor in [&one, &other] {
        let answer = get(visitor, "/fair/login").await;
        assert_eq!((answer.status, answer.header("etag")), (200, Some("\"1\"")));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
    }
    let answer = get(&one, "/static/a.css").await;
    assert_eq!((answer.all("set-cookie").count(), answer.header("vary")), (1, None));
    for rule in ["session_reissued", "cache_policy", "set_cookie", "content_type"] {
        assert!(counted(&running, rule, "observed") >= 1.0, "{rule}");
    }
    let report = running.operate("GET", "/admin/v1/leak-guard").await.json();
    assert_eq!(report["mode"], "observe");
    let findings = report["findings"].as_array().unwrap();
    let has = |rule: &str, route: &str| findings.iter().any(|line| line["rule"] == rule && line["route"] == route);
    assert!(has("content_type", "/static/a.css") && has("cache_policy", "/fair/login"), "{report}");
}

#[tokio::test]
async fn the_audit_file_names_nobody_and_finds_those_concerned() {
    let running = guarded().await;
    says(&running, "/fair/login", "Set-Cookie: JSESSIONID=SECRETSESSION; Path=/\r\n");
    says(&running, "/fair/me", "Waiting-Room-Identity: RSSMRA85T10A562S\r\n");
    let visitor = insider(&running, 1).await;
    get(&visitor, "/fair/login").await;
    for _ in 0..2 {
        running.seconds(1).await;
        get(&visitor, "/fair/me").await;
    }
    says(&running, "/fair/me", "Waiting-Room-Identity: VRDLGI80A01F205X\r\n");
    running.seconds(1).await;
    assert_eq!(get(&visitor, "/fair/me").await.status, 502);
    let Running { app, directory, file, .. } = running;
    app.stop().await.unwrap();
    let path = directory.path().join("state/leak-guard.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let line: serde_json::Value =
        serde_json::from_str(text.lines().find(|line| line.contains("identity_mismatch")).unwrap()).unwrap();
    assert_eq!((&line["action"], &line["room"]), (&"blocked".into(), &ROOM.into()), "{line}");
    for secret in ["SECRETSESSION", "RSSMRA", "VRDLGI"] {
        assert!(!text.contains(secret), "{secret} stands in the audit file");
    }
    let list = directory.path().join("list.txt");
    std::fs::write(&list, "BNCGNN70A01H501X\nvrdlgi80a01f205x\nRSSMRA85T10A562S\n").unwrap();
    let (file, list) = (file.to_str().unwrap(), list.to_str().unwrap());
    let found = super::support::process::run(&["leaks", "match", "--config", file, "--identities", list]);
    let names: Vec<&str> = found.output.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!((found.code, names), (0, vec!["vrdlgi80a01f205x", "RSSMRA85T10A562S"]), "{found:?}");
    let report = super::support::process::run(&["leaks", "report", "--config", file]);
    assert!(report.output.contains("identity_mismatch") && report.output.contains("2 people"), "{report:?}");
}

#[tokio::test]
async fn folders_of_static_files_are_proposed_as_public() {
    let running = guarded().await;
    let proposed = async || running.operate("GET", "/admin/v1/leak-guard").await.json()["public_proposals"].clone();
    for last in 1..4 {
        let visitor = insider(&running, last).await;
        for name in ["a", "b", "c"] {
            let path = format!("/fair/static/{name}.css");
            says(&running, &path, "Content-Type: text/css\r\nETag: \"1\"\r\n");
            get(&visitor, &path).await;
            // Somebody's own picture, at the same address for everybody.
            says(&running, "/fair/me/photo.png", &format!("Content-Type: image/png\r\nETag: \"{last}\"\r\n"));
            get(&visitor, "/fair/me/photo.png").await;
        }
        if last == 1 {
            assert_eq!(proposed().await, serde_json::json!([]), "one visitor proves nothing");
        }
    }
    let proposed = proposed().await;
    assert_eq!(proposed[0]["pattern"], "/fair/static/**", "{proposed}");
    assert_eq!(proposed[1], serde_json::Value::Null, "{proposed}");
}

// ---- routes with rules of their own

#[tokio::test]
async fn etags_and_back_are_kept_where_the_operator_says_so() {
    let running = guarded_by("etag_paths = [\"/fair/api/**\"]\nback_paths = [\"/fair/wizard/**\"]").await;
    let visitor = insider(&running, 1).await;
    says(&running, "/fair/api/1", "ETag: \"7\"\r\n");
    says(&running, "/fair/other", "ETag: \"7\"\r\n");
    assert_eq!(get(&visitor, "/fair/api/1").await.header("etag"), Some("\"7\""));
    assert_eq!(get(&visitor, "/fair/other").await.header("etag"), None);
    visitor.request("PUT", "/fair/api/1").header("If-Match", "\"7\"").send().await;
    assert_eq!(running.portal.seen().last().unwrap().header("if-match"), Some("\"7\""));
    let posted = visitor.form("/fair/wizard/2", "a=1").send().await;
    assert_eq!(posted.header("cache-control"), Some("private, no-cache, max-age=0"));
    assert!(get(&visitor, "/fair/wizard/2").await.is_personal());
    assert!(visitor.form("/fair/other", "a=1").send().await.is_personal());
}

#[tokio::test]
async fn rules_of_a_route_hold_although_a_cookie_of_ours_rides_along() {
    let lines = "etag_paths = [\"/fair/api/**\"]\nback_paths = [\"/fair/wizard/**\"]\n\
                 [leak_guard.armour]\nvary_except = [\"/fair/api/**\"]";
    let running = guarded_by(lines).await;
    says(&running, "/fair/api/1", "ETag: \"7\"\r\n");
    let visitor = running.visitor();
    let entered = get(&visitor, "/fair/api/1").await;
    assert!(entered.sets("pass").is_some(), "{entered:?}");
    assert_eq!((entered.header("etag"), entered.is_personal()), (Some("\"7\""), true));
    assert_eq!(get(&visitor, "/fair/api/1").await.header("vary"), None);
    // The pass is renewed.
    running.seconds(6 * 60).await;
    let posted = visitor.form("/fair/wizard/2", "a=1").send().await;
    assert!(posted.sets("pass").is_some(), "{posted:?}");
    assert_eq!(posted.header("cache-control"), Some("private, no-cache, max-age=0"));
}

#[tokio::test]
async fn nothing_of_ours_rides_on_what_a_cache_may_keep_not_even_when_observing() {
    let running = guarded_by("mode = \"observe\"").await;
    says(&running, "/fair/", "Cache-Control: public, max-age=600\r\n");
    let browser = get(&running.visitor(), "/fair/").await;
    assert!(browser.sets("pass").is_some() && browser.is_personal(), "{browser:?}");
    let app = running.visitor().app("GET", "/fair/").send().await;
    assert!(app.header("waiting-room-pass").is_some() && app.is_personal(), "{:?}", app.headers);
}

#[tokio::test]
async fn armour_is_taken_off_piece_by_piece() {
    let lines = "[leak_guard.armour]\nage = false\nvary_except = [\"/fair/worker/**\"]";
    let running = guarded_by(lines).await;
    let visitor = insider(&running, 1).await;
    let (page, worker) = (get(&visitor, "/fair/").await, get(&visitor, "/fair/worker/page").await);
    assert_eq!(
        (page.header("age"), page.header("vary"), page.header("x-accel-buffering")),
        (None, Some("*"), Some("no"))
    );
    assert_eq!((worker.header("vary"), worker.is_personal()), (None, true));
}

#[tokio::test]
async fn no_cookie_of_ours_rides_without_armour() {
    let lines = "[leak_guard.armour]\nage = false\nx_accel_buffering = false\nvary_except = [\"/fair/worker/**\"]";
    let running = guarded_by(lines).await;
    let visitor = running.visitor();
    let armour = |answer: &Answer| {
        ["vary", "age", "x-accel-buffering"].map(|name| answer.header(name).map(str::to_owned).unwrap_or_default())
    };
    let entered = get(&visitor, "/fair/worker/page").await;
    assert!(entered.sets("pass").is_some(), "{entered:?}");
    assert_eq!(armour(&entered), ["*", "0", "no"]);
    assert_eq!(armour(&get(&visitor, "/fair/worker/page").await), ["", "", ""]);
    running.seconds(6 * 60).await;
    let renewed = get(&visitor, "/fair/worker/page").await;
    assert!(renewed.sets("pass").is_some(), "{renewed:?}");
    assert_eq!(armour(&renewed), ["*", "0", "no"]);
}

#[tokio::test]
async fn no_cache_behind_us_can_know_a_request() {
    let running = guarded_by("upstream_bust = true\ncache_behind = \"trusted\"").await;
    let visitor = insider(&running, 1).await;
    get(&visitor, "/fair/a").await;
    get(&visitor, "/fair/a?b=1").await;
    visitor.form("/fair/a", "c=1").send().await;
    let seen = running.portal.seen();
    let targets: Vec<&str> = seen.iter().rev().take(3).rev().map(|seen| seen.target.as_str()).collect();
    assert!(targets[0].starts_with("/fair/a?anticamera-fresh="), "{targets:?}");
    assert!(targets[1].starts_with("/fair/a?b=1&anticamera-fresh="), "{targets:?}");
    assert_eq!(targets[2], "/fair/a");
    assert_ne!(targets[0].split('=').next_back(), targets[1].split('=').next_back());
    assert_eq!(seen.last().unwrap().header("cache-control"), None, "the owner answers for the cache");
}

#[tokio::test]
async fn public_files_get_a_lifetime_on_wish() {
    let running = guarded_by("public = [\"/static/**\"]\npublic_max_age = \"10m\"").await;
    says(&running, "/static/a.css", "Content-Type: text/css\r\nLast-Modified: Wed, 01 Apr 2020 08:00:00 GMT\r\n");
    let answer = get(&running.visitor(), "/static/a.css").await;
    assert_eq!(answer.header("cache-control"), Some("public, max-age=600"));
    assert!(answer.header("last-modified").is_some());
}

#[tokio::test]
async fn public_text_that_names_a_person_is_personal() {
    let running = guarded_by("public = [\"/static/**\"]\nscan_fiscal_codes = true").await;
    running
        .portal
        .script("/static/a.js", [Script::answer(200, "Content-Type: text/javascript\r\n", "x='RSSMRA85T10A562S'")]);
    running
        .portal
        .script("/static/b.js", [Script::answer(200, "Content-Type: text/javascript\r\n", "x='RSSMRA85T10A562T'")]);
    let large = "x".repeat(3 << 20);
    running.portal.script("/static/c.js", [Script::answer(200, "Content-Type: text/javascript\r\n", &large)]);
    let visitor = running.visitor();
    let (named, plain, large) =
        (get(&visitor, "/static/a.js").await, get(&visitor, "/static/b.js").await, get(&visitor, "/static/c.js").await);
    assert!(named.is_personal() && named.text().contains("RSSMRA85T10A562S"));
    assert_eq!((plain.header("cache-control"), plain.text().as_str()), (None, "x='RSSMRA85T10A562T'"));
    assert_eq!((large.is_personal(), large.body.len()), (true, 3 << 20), "what is too long to be read is not shared");
    assert_eq!(counted(&running, "fiscal_code", "downgraded"), 1.0);
    assert_eq!(counted(&running, "unsearched", "downgraded"), 1.0);
    let report = running.operate("GET", "/admin/v1/leak-guard").await.json();
    let findings = report["findings"].as_array().unwrap();
    let has = |rule: &str, route: &str| findings.iter().any(|line| line["rule"] == rule && line["route"] == route);
    assert!(has("fiscal_code", "/static/a.js") && has("unsearched", "/static/c.js"), "{report}");
    let Running { app, directory, .. } = running;
    app.stop().await.unwrap();
    let audit = std::fs::read_to_string(directory.path().join("state/leak-guard.jsonl")).unwrap();
    let line = audit.lines().find(|line| line.contains("fiscal_code")).unwrap();
    assert!(line.contains("\"path\":\"/static/a.js\"") && line.contains("\"request_id\""), "{line}");
    assert!(!audit.contains("RSSMRA"));
}

#[tokio::test]
async fn heads_and_not_modified_are_shared_only_of_text_that_was_searched() {
    let running = guarded_by("public = [\"/static/**\"]\nscan_fiscal_codes = true").await;
    let visitor = running.visitor();
    let head = async |path: &str| visitor.request("HEAD", path).send().await;
    let again = async |path: &str| visitor.request("GET", path).header("If-None-Match", "\"1\"").send().await;
    for (name, text, shared) in [("a", "x='RSSMRA85T10A562S'", false), ("b", "x=1", true)] {
        let path = format!("/static/{name}.js");
        let whole = Script::answer(200, "Content-Type: text/javascript\r\nETag: \"1\"\r\n", text);
        let unchanged = Script::raw("HTTP/1.1 304 X\r\nETag: \"1\"\r\n\r\n");
        running.portal.script(&path, [whole.clone()]);
        assert!(head(&path).await.is_personal(), "nobody has read it yet");
        assert_eq!(get(&visitor, &path).await.is_personal(), !shared);
        assert_eq!(head(&path).await.is_personal(), !shared, "{path}");
        running.portal.script(&path, [unchanged]);
        let answer = again(&path).await;
        assert_eq!((answer.status, answer.is_personal()), (304, !shared), "{path}");
    }
    running.portal.script("/static/c.png", [Script::raw("HTTP/1.1 304 X\r\nETag: \"1\"\r\n\r\n")]);
    assert!(!again("/static/c.png").await.is_personal(), "a picture is not searched");
}

#[tokio::test]
async fn compressed_text_is_searched_off_the_request_thread() {
    use std::io::Write;
    let running = guarded_by("public = [\"/static/**\"]\nscan_fiscal_codes = true").await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b'a'; 100 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 X\r\nContent-Type: text/css\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    running.portal.script("/static/bomb.css", [Script::new([Step::Send([head.as_bytes(), &bomb].concat())])]);
    let visitor = running.visitor();
    let bombs: Vec<_> = (0..20).map(|_| visitor.navigate("/static/bomb.css").begin()).collect();
    for bomb_answer in bombs {
        let answer = bomb_answer.await.unwrap();
        assert_eq!((answer.status, answer.is_personal(), answer.body.len()), (200, true, bomb.len()));
    }
    assert_eq!(counted(&running, "unsearched", "downgraded"), 20.0);
}

// ---- the edge

/// An edge that keeps every answer for good, by its target.
async fn careless_edge(origin: std::net::SocketAddr) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kept: std::sync::Arc<tokio::sync::Mutex<std::collections::HashMap<String, Vec<u8>>>> =
        std::sync::Arc::default();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut kept = kept.lock().await;
                if !kept.contains_key(&target) {
                    let mut upstream = tokio::net::TcpStream::connect(origin).await?;
                    upstream.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).await?;
                    let mut answer = Vec::new();
                    upstream.read_to_end(&mut answer).await?;
                    kept.insert(target.clone(), answer);
                }
                stream.write_all(&kept[&target]).await?;
                Ok::<_, std::io::Error>(())
            });
        }
    });
    address
}

#[tokio::test]
async fn an_edge_that_keeps_personal_pages_stops_admissions_until_it_is_mended() {
    let running = guarded().await;
    let edge = careless_edge(running.address).await;
    let with =
        |public: std::net::SocketAddr| running.setup.clone().with_server(&format!("public_url = \"http://{public}\""));
    let edge_says = async |key: &str, value: serde_json::Value| {
        let seen = async {
            while running.operate("GET", "/admin/v1/leak-guard").await.json()["edge"][key] != value {
                running.advance(STEP).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("the edge never says {key}: {value}"));
    };
    running.reload(&with(edge)).await;
    // No time passes but what asking takes: the proof does not wait for the next interval.
    let proven = async {
        while running.operate("GET", "/admin/v1/leak-guard").await.json()["edge"]["keeps_personal_pages"] != true {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, proven).await.expect("the proof takes one interval");
    assert_eq!(running.metric("edge_canary{result=\"caching\"}"), 1.0);
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);
    let report = running.operate("GET", "/admin/v1/leak-guard").await.json();
    assert_eq!(report["edge"]["keeps_personal_pages"], true, "{report}");
    reset(&running).await;
    let report = running.operate("GET", "/admin/v1/leak-guard").await.json();
    assert_eq!(report["edge"]["stops_admissions"], false, "only a fresh proof stops admissions again: {report}");
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 200);
    edge_says("stops_admissions", true.into()).await;
    running.reload(&with(running.address)).await;
    edge_says("last_round", "clean".into()).await;
    running.seconds(2).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 200);
}

#[test]
fn the_edge_is_checked_from_the_command_line() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let portal = runtime.block_on(super::support::portal::FakePortal::start());
    let proxy = super::support::process::Setup::in_front_of(&[portal.address]).start();
    let edge = runtime.block_on(careless_edge(proxy.address));
    let file = proxy.file();
    let check = |address: std::net::SocketAddr| {
        let url = format!("http://{address}");
        super::support::process::run(&["check", "--config", file.to_str().unwrap(), "--public-url", &url])
    };
    let kept = check(edge);
    assert!(kept.code == 1 && kept.output.contains("KEEPS PERSONAL PAGES"), "{kept:?}");
    assert!(kept.output.contains("a personal 301: KEPT"), "{kept:?}");
    let clean = check(proxy.address);
    assert!(clean.code == 0 && clean.output.contains("keeps no personal pages"), "{clean:?}");
    let nobody = check("127.0.0.1:1".parse().unwrap());
    assert!(nobody.code == 1 && nobody.output.contains("could not be asked"), "{nobody:?}");
}

/// The sleep between steps of the day below, so that no two of them share an instant.
const STEP: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_day_of_a_tomcat_portal_is_silent() {
    let running = guarded().await;
    let log_in = |name: &'static str, session: String| {
        running.portal.script(
            "/fair/login",
            [Script::answer(
                302,
                &format!(
                    "Set-Cookie: JSESSIONID={session}.node1; Path=/; HttpOnly\r\nSet-Cookie: ROUTEID=.node1\r\n\
                     Set-Cookie: XSRF-TOKEN=same\r\nWaiting-Room-Identity: {name}\r\nLocation: /fair/me\r\n"
                ),
                "",
            )],
        );
        says(&running, "/fair/me", &format!("Waiting-Room-Identity: {name}\r\n"));
    };
    says(&running, "/fair/logout", "Set-Cookie: JSESSIONID=; Max-Age=0; Path=/\r\n");
    for (number, name) in ["ANNA", "BRUNO", "CARLA"].into_iter().enumerate() {
        // One computer of an office, one person after the other; each has a phone as well.
        for (device, last) in [("desk", 50), ("phone", 60 + number as u8)] {
            let visitor = insider(&running, last).await;
            log_in(name, format!("{name}{device}1"));
            visitor.form("/fair/login", "user=x").send().await;
            running.advance(STEP).await;
            for _ in 0..3 {
                assert_eq!(get(&visitor, "/fair/me").await.status, 200);
                running.advance(STEP).await;
            }
            // The session is renewed under a new id, then our own cookie is lost.
            log_in(name, format!("{name}{device}2"));
            visitor.form("/fair/login", "again=1").send().await;
            assert_eq!(get(&visitor, "/fair/me").await.status, 200);
            visitor.lose("pass");
            running.seconds(1).await;
            assert_eq!(get(&visitor, "/fair/me").await.status, 200);
            running.advance(STEP).await;
            assert_eq!(get(&visitor, "/fair/me").await.status, 200);
            get(&visitor, "/fair/logout").await;
        }
    }
    for rule in ["session_reissued", "cache_hit", "identity_mismatch", "session_identities", "session_presented"] {
        for action in ["blocked", "alarmed"] {
            assert_eq!(counted(&running, rule, action), 0.0, "{rule} {action}");
        }
    }
}
