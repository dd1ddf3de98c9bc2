//! Passes for staff and monitoring: made on the command line, they open their room whatever it is like, take neither seat
//! nor admission, are counted by name, and can be taken back.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::support::app::{Asking, PATIENCE, ROOM, Running, Visitor, room_of};
use crate::support::portal::FakePortal;
use crate::support::process::Setup;
use crate::support::wire;

/// Runs `anticamera pass` with the configuration of a running program.
fn order(file: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anticamera"));
    let output = command.arg("pass").args(arguments).arg("--config").arg(file).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// A pass that is good until 2040, and its name in the list.
fn made(running: &Running, name: &str) -> (String, String) {
    let (good, out, err) = order(&running.file, &["create", "--room", ROOM, "--name", name, "--expires", "2040-12-31"]);
    assert!(good, "{err}");
    let secret = out.lines().find_map(|line| line.strip_prefix("Waiting-Room-Staff: ")).expect("a header").to_owned();
    let (_, listed, _) = order(&running.file, &["list"]);
    let id = listed.lines().find(|line| line.contains(name)).and_then(|line| line.split('\t').next()).unwrap();
    assert!(!listed.contains(&secret) && listed.contains("good"), "{listed}");
    (secret, id.to_owned())
}

fn with_pass(visitor: &Visitor, secret: &str) -> Asking {
    visitor.app("GET", "/fair/").header("Waiting-Room-Staff", secret)
}

/// The running program looks at the folder in real time.
async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it becomes so");
}

#[tokio::test]
async fn a_staff_pass_opens_a_full_held_and_closed_room_and_is_taken_back() {
    let running = room_of("10/s").with("max_active_sessions = 1").start().await;
    let visitor = running.visitor();
    for _ in 0..2 {
        assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    }
    running.seconds(1).await;
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503, "full");
    let (secret, id) = made(&running, "uptime probe");
    let opens = || async { with_pass(&running.visitor(), &secret).send().await.is_the_portals() };
    until(opens).await;
    for state in ["hold", "closed"] {
        running.reload(&running.setup.clone().with(&format!("state = \"{state}\""))).await;
        assert!(opens().await, "{state}");
        assert_eq!(visitor.navigate("/fair/").send().await.status, if state == "hold" { 200 } else { 503 });
    }
    running.reload(&running.setup).await;
    running.seconds(1).await;
    assert_eq!(running.lane("admissions_total"), 1.0, "no admission");
    assert_eq!(running.lane("active_sessions"), 1.0, "no seat");
    let counted = running.metric(&format!("staff_requests_total{{name=\"uptime probe\",room=\"{ROOM}\"}}"));
    assert!(counted >= 3.0, "{counted}");
    let seen = running.portal.seen();
    let leaked = seen.iter().flat_map(|seen| &seen.headers).find(|(name, value)| {
        name.starts_with("waiting-room-") || value.contains(&secret) || value.contains("anticamera-staff")
    });
    assert_eq!(leaked, None, "the portal never sees it");
    assert_eq!(with_pass(&running.visitor(), "somebody-elses").send().await.status, 503);

    let (good, out, err) = order(&running.file, &["revoke", &id]);
    assert!(good && out.contains("uptime probe"), "{out}{err}");
    until(|| async { !opens().await }).await;
    let (_, listed, _) = order(&running.file, &["list"]);
    assert!(listed.contains("revoked"), "{listed}");
    assert!(running.metric("token_rejections_total{reason=\"ended\"}") >= 1.0);
}

#[tokio::test]
async fn a_link_with_a_staff_pass_gives_the_browser_a_cookie() {
    let running = room_of("10/s").with("state = \"hold\"").start().await;
    let (secret, _) = made(&running, "Rossi");
    let browser = running.visitor();
    let link = format!("/.waiting-room/staff?room={ROOM}&pass={secret}");
    until(|| async { browser.navigate(&link).send().await.status == 303 }).await;
    let answer = browser.navigate(&link).send().await;
    assert_eq!((answer.header("location"), answer.header("referrer-policy")), (Some("/fair/"), Some("no-referrer")));
    let cookie = answer.all("set-cookie").next().unwrap().to_owned();
    assert!(cookie.starts_with("anticamera-staff-fair=") && cookie.contains("HttpOnly") && answer.is_personal());
    assert!(browser.navigate("/fair/").send().await.is_the_portals());
    assert!(running.portal.seen().iter().all(|seen| seen.header("cookie").is_none()), "the cookie is ours");
    let wrong = format!("/.waiting-room/staff?room={ROOM}&pass=x");
    assert_eq!(running.visitor().navigate(&wrong).send().await.status, 404);
}

#[tokio::test]
async fn orders_for_staff_passes_that_make_no_sense_are_refused() {
    let running = room_of("10/s").start().await;
    for (arguments, says) in [
        (&["create", "--room", "nowhere", "--name", "x"][..], "no room"),
        (&["create", "--room", ROOM, "--name", "a\nb"], "no name"),
        (&["create", "--room", ROOM, "--name", "x", "--expires", "2001-01-01"], "past"),
        (&["revoke", "ffff"], "no staff pass"),
    ] {
        let (good, _, err) = order(&running.file, arguments);
        assert!(!good && err.contains(says), "{arguments:?}: {err}");
    }
    assert_eq!(running.operate("GET", "/admin/v1/status").await.json()["rooms"][0]["name"], json!(ROOM));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_requests_of_one_staff_pass_go_to_one_address_of_the_portal() {
    let portals = [FakePortal::start().await, FakePortal::start().await];
    let node = Setup::in_front_of(&[portals[0].address, portals[1].address]).start();
    let (good, out, err) =
        order(&node.file(), &["create", "--room", "r", "--name", "Rossi", "--expires", "2040-12-31"]);
    assert!(good, "{err}");
    let secret = out.lines().find_map(|line| line.strip_prefix("Waiting-Room-Staff: ")).unwrap().to_owned();
    let ask =
        || wire::Visitor::new(node.address).ask("GET", "/r/desk", &format!("Waiting-Room-Staff: {secret}\r\n"), b"");
    let counted = "anticamera_staff_requests_total{name=\"Rossi\",room=\"r\"}";
    let metrics = || {
        let mut operator = wire::Visitor::new(node.admin);
        operator.host = "localhost";
        operator.get("/metrics").text().to_owned()
    };
    until(|| async {
        ask();
        metrics().contains(counted)
    })
    .await;
    let seen = || portals.each_ref().map(|portal| portal.seen().iter().filter(|seen| seen.target == "/r/desk").count());
    let before = seen();
    for _ in 0..8 {
        assert_eq!(ask().status, 200);
    }
    let [one, other] = seen();
    assert!(
        [(before[0] + 8, before[1]), (before[0], before[1] + 8)].contains(&(one, other)),
        "{before:?} {one} {other}"
    );
}
