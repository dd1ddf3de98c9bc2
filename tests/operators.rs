//! What operators see and change while the program runs: previews, overrides, undo, roles, two operators at once, the audit log.

use std::path::PathBuf;
use std::time::Duration;

use anticamera::admin::{ReloadAnswer, audit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::app::{Answer, Asking, PATIENCE, ROOM, Running, Setup, at, room_of};
use crate::support::disk::SmallDisk;

const TOKENS: &str = "[[admin.token]]\nname = \"wall\"\nrole = \"view\"\nfile = \"state/wall\"\n\
                      [[admin.token]]\nname = \"desk\"\nrole = \"operate\"\nfile = \"state/desk\"\n\
                      [[admin.token]]\nname = \"guest\"\nrole = \"operate\"\nfile = \"state/guest\"\nexpires = \"2029-12-31\"\n";

/// A class that codes prove.
const OFFICE: &str =
    "[[class]]\nname = \"office\"\nproof = [ { kind = \"invitation_code\", dir = \"state/codes\" } ]\n";

/// A room whose visitors wait.
fn a_room(rate: &str) -> Setup {
    room_of(rate).with("entry = \"page\"\njoins_per_client = \"unlimited\"")
}

fn token(running: &Running, file: &str) -> String {
    let token = std::fs::read_to_string(running.directory.path().join("state").join(file)).unwrap();
    token.trim().to_owned()
}

fn asking_as(running: &Running, file: &str, method: &str, path: &str) -> Asking {
    let bearer = format!("Bearer {}", token(running, file));
    at(&running.visitor(), running.admin).request(method, &format!("/admin/v1{path}")).header("Authorization", &bearer)
}

fn asking(running: &Running, method: &str, path: &str) -> Asking {
    asking_as(running, "admin-token", method, path)
}

async fn see(running: &Running, path: &str) -> Value {
    let answer = asking(running, "GET", path).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn change(running: &Running, what: &str, wish: Value) -> Value {
    let answer = asking(running, "POST", &format!("/rooms/{ROOM}/{what}")).json(&wish).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn a_line(running: &Running, length: usize) {
    for _ in 0..length {
        assert_eq!(running.visitor().join().await.status, 200);
    }
}

async fn rate(running: &Running) -> Value {
    running.seconds(1).await;
    running.board().await["rate"].clone()
}

/// What expires is taken out of force between two ticks, which costs real time.
async fn until_rate(running: &Running, wanted: &str) {
    let waiting = async {
        while rate(running).await != json!(wanted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("the rate is never {wanted}"));
}

fn operators_dir(running: &Running) -> PathBuf {
    running.directory.path().join("state/operators")
}

/// What the audit log says happened, in words.
fn audited(running: &Running) -> Vec<String> {
    let path = operators_dir(running).join("audit.jsonl");
    audit::verify(&path, None).unwrap_or_else(|fault| panic!("{fault}"));
    let text = std::fs::read_to_string(path).unwrap();
    let what = |line: &str| serde_json::from_str::<Value>(line).unwrap()["what"].as_str().unwrap().to_owned();
    text.lines().map(what).collect()
}

#[tokio::test]
async fn a_rate_is_previewed_changed_and_undone_by_one_call() {
    let running = a_room("1/s").start().await;
    a_line(&running, 60).await;
    running.seconds(5).await;
    let before = see(&running, "/status").await["revision"].clone();
    let path = format!("/rooms/{ROOM}/rate?dry_run=true");
    let preview = asking(&running, "POST", &path).json(&json!({"rate": "30/min"})).send().await;
    assert_eq!(preview.status, 200, "{}", preview.text());
    assert_eq!((&preview.json()["result"], &preview.json()["rate"]), (&json!("preview"), &json!("30/min")));
    let effect = preview.json()["effects"][0].clone();
    let middle = |wait: &Value| (wait["low"].as_f64().unwrap() + wait["high"].as_f64().unwrap()) / 2.0;
    let (now, then) = (middle(&effect["before"]), middle(&effect["after"]));
    assert!(effect["waiting"].as_u64().unwrap() > 30, "{effect}");
    assert!((1.5..2.5).contains(&(then / now)), "{effect}");
    assert!(effect["text"].as_str().unwrap().contains(" -> "), "{effect}");
    assert_eq!(rate(&running).await, json!("1/s"), "a preview changes nothing");
    assert_eq!(see(&running, "/status").await["revision"], before);

    let changed = change(&running, "rate", json!({"rate": "30/min"})).await;
    assert_eq!((&changed["result"], &changed["change"]["by"]), (&json!("applied"), &json!("admin")));
    assert_eq!(rate(&running).await, json!("30/min"));
    let status = see(&running, "/status").await;
    assert_eq!(status["overrides"][0]["value"]["wish"], json!({"rate": "30/min"}));
    assert_eq!(status["rooms"][0]["rate"], json!("30/min"));
    assert_eq!(
        see(&running, "/config").await["rooms"][0]["admission_rate"],
        json!({"file": "1/s", "override": "30/min"})
    );

    let undone = change(&running, "undo", json!({})).await;
    assert_eq!(undone["change"]["how"], json!("undone"));
    assert_eq!(rate(&running).await, json!("1/s"));
    let nothing_more = asking(&running, "POST", "/rooms/fair/undo").json(&json!({"what": "message"})).send().await;
    assert_eq!(nothing_more.status, 409, "{}", nothing_more.text());
    assert_eq!(audited(&running), ["changed", "undone"]);
}

#[tokio::test]
async fn more_than_the_portal_has_borne_warns() {
    let running = a_room("1/s").start().await;
    let path = format!("/rooms/{ROOM}/rate?dry_run=true");
    let raise = asking(&running, "POST", &path).json(&json!({"rate": "50/s"})).send().await.json();
    assert!(raise["warnings"][0].as_str().unwrap().contains("nothing is known"), "{raise}");
    let lower = asking(&running, "POST", &path).json(&json!({"rate": "1/min"})).send().await.json();
    assert_eq!(lower["warnings"], json!([]));
}

/// Nobody who is called comes, so that many are called: at 6 a minute those 200 wait half an hour all the same.
#[tokio::test]
async fn a_preview_right_after_the_start_is_not_far_too_short() {
    let running = a_room("6/min").start().await;
    a_line(&running, 200).await;
    let path = format!("/rooms/{ROOM}/rate?dry_run=true");
    for seconds in [3, 27] {
        running.seconds(seconds).await;
        let preview = asking(&running, "POST", &path).json(&json!({"rate": "12/min"})).send().await.json();
        let effect = &preview["effects"][0];
        let due = effect["waiting"].as_u64().unwrap() * 10;
        assert!(effect["before"]["high"].as_u64().unwrap() >= due, "{effect}");
        assert!(effect["after"]["high"].as_u64().unwrap() >= due / 2, "{effect}");
        let warning = preview["warnings"][0].as_str().unwrap();
        assert!(warning.contains("12 entries a minute are more than 6 entries a minute now"), "{warning}");
    }
}

#[tokio::test]
async fn overrides_outlast_restarts_and_reloads_until_their_time_is_over() {
    let running = a_room("5/s").start().await;
    let until = jiff::Timestamp::from_millisecond((running.clock.now().wall.0 + 60_000).cast_signed()).unwrap();
    change(&running, "rate", json!({"rate": "2/s", "until": until.to_string()})).await;
    change(&running, "state", json!({"state": "hold"})).await;
    change(
        &running,
        "message",
        json!({"message": [{"language": "it", "text": "Torniamo alle 10"}, {"language": "de", "text": "Um 10"}]}),
    )
    .await;
    change(&running, "freeze", json!({})).await;
    let running = running.crash().await;
    running.seconds(1).await;
    let room = see(&running, "/status").await["rooms"][0].clone();
    assert_eq!((&room["rate"], &room["state"], &room["frozen"]), (&json!("2/s"), &json!("hold"), &json!(true)));
    assert_eq!(room["message"], json!("Torniamo alle 10"));
    assert_eq!(running.visitor().navigate("/fair/").send().await.status, 503);

    assert_eq!(running.reload(&a_room("7/s")).await, ReloadAnswer::Applied);
    assert_eq!(rate(&running).await, json!("2/s"), "the override goes before the file");
    assert_eq!(see(&running, "/status").await["overrides"].as_array().unwrap().len(), 4);
    running.seconds(60).await;
    until_rate(&running, "7/s").await;
    assert_eq!(see(&running, "/status").await["rooms"][0]["state"], json!("hold"), "this one has no end");
    for what in ["state", "thaw"] {
        change(&running, what, if what == "state" { json!({"state": "open"}) } else { json!({}) }).await;
    }
    change(&running, "message", json!({"message": null})).await;
    running.seconds(1).await;
    let status = see(&running, "/status").await;
    assert_eq!(status["overrides"], json!([]));
    assert_eq!(status["rooms"][0]["state"], json!("open"));
    let words = audited(&running);
    assert!(words.contains(&"expired".to_owned()) && words.contains(&"reloaded".to_owned()), "{words:?}");
}

#[tokio::test]
async fn an_override_goes_before_every_window() {
    let window = "[[room.window]]\nfrom = \"00:00\"\nto = \"24:00\"\nadmission_rate = \"9/s\"\nmessage = \"Window\"";
    let running = a_room("5/s").with(window).start().await;
    assert_eq!(rate(&running).await, json!("9/s"));
    change(&running, "rate", json!({"rate": "3/s"})).await;
    change(&running, "message", json!({"message": "Operator"})).await;
    assert_eq!(rate(&running).await, json!("3/s"));
    assert_eq!(running.board().await["message"], json!("Operator"));
    change(&running, "rate", json!({"rate": null})).await;
    assert_eq!(rate(&running).await, json!("9/s"));
}

#[tokio::test]
async fn two_operators_do_not_overwrite_each_other() {
    let running = a_room("5/s").with_more(TOKENS).start().await;
    let status = asking(&running, "GET", "/status").send().await;
    let seen = status.header("etag").unwrap().to_owned();
    let path = format!("/rooms/{ROOM}/rate");
    let ask = |file: &str, rate: &str| {
        asking_as(&running, file, "POST", &path).header("If-Match", &seen).json(&json!({ "rate": rate }))
    };
    let first = ask("desk", "4/s").send().await;
    assert_eq!(first.status, 200, "{}", first.text());
    let second = ask("admin-token", "9/s").send().await;
    assert_eq!(second.status, 412, "{}", second.text());
    let problem = second.json();
    assert_eq!(problem["changes"][0]["by"], json!("desk"));
    assert_eq!(problem["changes"][0]["to"]["wish"], json!({"rate": "4/s"}));
    assert_eq!(rate(&running).await, json!("4/s"));
    let again = format!("\"{}\"", problem["revision"]);
    let third = asking(&running, "POST", &path).header("If-Match", &again).json(&json!({"rate": "9/s"})).send().await;
    assert_eq!(third.status, 200, "{}", third.text());
    let reload = running.reload(&a_room("6/s").with_more(TOKENS)).await;
    assert_eq!(reload, ReloadAnswer::Applied);
    let tag = third.header("etag").unwrap();
    let outdated = asking(&running, "POST", &path).header("If-Match", tag).json(&json!({"rate": "1/s"})).send().await;
    assert_eq!(outdated.status, 412, "a reload counts, too");
    assert_eq!(outdated.json()["changes"][0]["how"], json!("reloaded"));
}

#[tokio::test]
async fn a_token_does_what_its_role_allows() {
    let running = a_room("5/s").with_more(TOKENS).start().await;
    let me = asking_as(&running, "desk", "GET", "/me").send().await.json();
    assert_eq!(me, json!({"name": "desk", "role": "operate"}));
    let rate = json!({"rate": "4/s"});
    let status_of = async |file: &str, method: &str, path: &str, body: &Value| {
        asking_as(&running, file, method, path).json(body).send().await.status
    };
    let path = format!("/rooms/{ROOM}/rate");
    assert_eq!(status_of("wall", "GET", "/audit", &json!({})).await, 200);
    assert_eq!(status_of("wall", "POST", &path, &rate).await, 403);
    assert_eq!(status_of("desk", "POST", &path, &rate).await, 200);
    for (method, path) in [("POST", "/leak-guard/reset"), ("POST", "/drain"), ("GET", "/codes"), ("GET", "/passes")] {
        assert_eq!(status_of("desk", method, path, &json!({})).await, 403, "{path}");
        assert_eq!(status_of("admin-token", method, path, &json!({})).await, 200, "{path}");
    }
    let expired = asking_as(&running, "guest", "POST", &path).json(&rate).send().await;
    assert!(expired.status == 401 && expired.text().contains("expired"), "{}", expired.text());
    assert_eq!(asking(&running, "GET", "/status").send().await.status, 200);
    assert_eq!(
        running.operate("GET", "/admin/v1/status").await.status,
        200,
        "looking is open unless configured otherwise"
    );
    assert_eq!(running.operate("GET", "/admin/v1/audit").await.status, 401);
    running.seconds(60).await;
    wait_for_audit(&running, "refused").await;
}

/// The minute's lines are written off the tick.
async fn wait_for_audit(running: &Running, word: &str) {
    let path = operators_dir(running).join("audit.jsonl");
    let is_there = || std::fs::read_to_string(&path).unwrap_or_default().contains(&format!("\"what\":\"{word}\""));
    let written = async {
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, written).await.unwrap_or_else(|_| panic!("no {word} in {:?}", audited(running)));
}

#[tokio::test]
async fn looking_can_need_a_token_and_tokens_are_taken_back_by_a_reload() {
    let running = a_room("5/s").with_more(TOKENS).start().await;
    let text = std::fs::read_to_string(&running.file).unwrap();
    std::fs::write(&running.file, text.replace("[admin]\n", "[admin]\nview_needs_token = true\n")).unwrap();
    assert_eq!(running.app.reload().await, ReloadAnswer::Applied);
    assert_eq!(running.operate("GET", "/admin/v1/status").await.status, 401);
    assert_eq!(running.operate("GET", "/metrics").await.status, 200);
    assert_eq!(asking_as(&running, "wall", "GET", "/status").send().await.status, 200);
    let without = text.replace(TOKENS, "");
    std::fs::write(&running.file, without).unwrap();
    assert_eq!(running.app.reload().await, ReloadAnswer::Applied);
    assert_eq!(asking_as(&running, "desk", "GET", "/me").send().await.status, 401);
}

#[tokio::test]
async fn other_peoples_pages_change_nothing_and_our_own_may() {
    let running = a_room("5/s").start().await;
    let path = format!("/rooms/{ROOM}/rate");
    let ask =
        |name: &str, value: &str| asking(&running, "POST", &path).header(name, value).json(&json!({"rate": "1/s"}));
    let neighbour = format!("http://{}", running.address);
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", neighbour.as_str()),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Host", "rebound.example"),
    ] {
        assert_eq!(ask(name, value).send().await.status, 403, "{name}: {value}");
    }
    assert_eq!(rate(&running).await, json!("5/s"));
    let own = format!("http://{}", running.admin);
    let console = asking(&running, "POST", &path).header("Host", &running.admin.to_string());
    let console = console.header("Origin", &own).header("Sec-Fetch-Site", "same-origin").json(&json!({"rate": "1/s"}));
    let answer = console.send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn values_out_of_range_change_nothing() {
    let running = a_room("5/s").start().await;
    for (what, wish) in [
        ("rate", json!({"rate": "0/s"})),
        ("rate", json!({"rate": "1000001/s"})),
        ("rate", json!({"rate": -3})),
        ("rate", json!({"raet": "1/s"})),
        ("rate", json!({"rate": "1/s", "until": "2020-01-01T00:00:00Z"})),
        ("rate", json!({"rate": "1/s", "until": "soon"})),
        ("state", json!({"state": "closed"})),
        ("message", json!({"message": "x".repeat(2001)})),
        ("message", json!({"message": {"Italian!": "Ciao"}})),
        ("undo", json!({"what": "everything"})),
    ] {
        let answer = asking(&running, "POST", &format!("/rooms/{ROOM}/{what}")).json(&wish).send().await;
        assert_eq!(answer.status, 422, "{what} {wish}: {}", answer.text());
    }
    let elsewhere = asking(&running, "POST", "/rooms/elsewhere/rate").json(&json!({"rate": "1/s"})).send().await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(see(&running, "/status").await["overrides"], json!([]));
    assert!(!operators_dir(&running).join("audit.jsonl").exists(), "nothing happened");
}

#[tokio::test]
async fn on_a_full_disk_a_change_is_refused_and_nothing_is_half_done() {
    let running = a_room("5/s").start().await;
    std::fs::create_dir_all(operators_dir(&running)).unwrap();
    std::os::unix::fs::symlink("/dev/full", operators_dir(&running).join("audit.jsonl")).unwrap();
    let refused = asking(&running, "POST", &format!("/rooms/{ROOM}/rate")).json(&json!({"rate": "1/s"})).send().await;
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("nothing was changed"), "{}", refused.text());
    let reset = asking(&running, "POST", "/leak-guard/reset").send().await;
    assert_eq!(reset.status, 507, "{}", reset.text());
    assert_eq!(rate(&running).await, json!("5/s"));
    assert_eq!(see(&running, "/status").await["overrides"], json!([]));
    std::fs::remove_file(operators_dir(&running).join("audit.jsonl")).unwrap();
    change(&running, "rate", json!({"rate": "1/s"})).await;
    assert_eq!(audited(&running), ["changed"], "once there is room, it works again");
}

#[tokio::test]
async fn an_override_is_dropped_with_its_room_and_said_so() {
    let other = "[[room]]\nname = \"other\"\npaths = [\"/other/**\"]\nadmission_rate = \"5/s\"\n";
    let running = a_room("5/s").with_more(other).start().await;
    let answer = asking(&running, "POST", "/rooms/other/rate").json(&json!({"rate": "1/s"})).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let held = asking(&running, "POST", "/rooms/other/state").json(&json!({"state": "hold"})).send().await;
    assert_eq!(held.status, 200, "{}", held.text());
    let text = std::fs::read_to_string(&running.file).unwrap().replace(other, "");
    let diff = asking(&running, "POST", "/diff").body(&text).send().await.json();
    let warnings = diff["warnings"].to_string();
    assert!(warnings.contains("is dropped with the room"), "{diff}");
    assert_eq!(running.reload(&a_room("5/s")).await, ReloadAnswer::Applied);
    assert_eq!(see(&running, "/overrides").await["overrides"], json!([]));
    assert_eq!(audited(&running), ["changed", "changed", "room_gone", "room_gone", "reloaded"]);
    running.seconds(1).await;
    for what in ["rate", "state", "message", "freeze", "thaw", "undo"] {
        let wish = match what {
            "rate" => json!({"rate": "1/s"}),
            "state" => json!({"state": "hold"}),
            "message" => json!({"message": "x"}),
            _ => json!({}),
        };
        let gone = asking(&running, "POST", &format!("/rooms/other/{what}")).json(&wish).send().await;
        assert_eq!(gone.status, 404, "{what}: {}", gone.text());
    }
    let draining = see(&running, "/status").await["rooms"][1].clone();
    assert_eq!((&draining["name"], &draining["configured"]), (&json!("other"), &json!(false)));
    assert_eq!((&draining["state"], &draining["rate"]), (&json!("open"), &json!("5/s")), "its line can drain");
}

/// An opening whose hour is far.
const OPENING: &str = "[room.opening]\nat = \"2030-03-17T23:00\"\norder = \"arrival\"";

#[tokio::test]
async fn a_preview_before_an_opening_promises_nothing() {
    let running = room_of("5/s").with("joins_per_client = \"unlimited\"").with_more(OPENING).start().await;
    a_line(&running, 5).await;
    running.seconds(2).await;
    let path = format!("/rooms/{ROOM}/rate?dry_run=true");
    let preview = asking(&running, "POST", &path).json(&json!({"rate": "50/s"})).send().await.json();
    assert_eq!(preview["effects"][0]["after"], Value::Null, "{preview}");
}

#[tokio::test]
async fn a_closed_line_is_shown_to_operators_with_its_reason() {
    // The tests' clock begins at 18:46:40.
    let closing = "[room.closing]\nat = \"2030-03-17T18:48\"\nthen = \"end\"";
    let running = a_room("6/min").with_more(closing).start().await;
    a_line(&running, 5).await;
    running.seconds(90).await;
    let lane = see(&running, "/status").await["rooms"][0]["lanes"][0].clone();
    assert_eq!(lane["standstill"]["reason"], json!("closed"), "{lane}");
}

#[tokio::test]
async fn a_hold_works_although_a_file_of_something_else_is_gone() {
    let running = a_room("5/s").start().await;
    let key = running.directory.path().join("gateway.key");
    std::fs::write(&key, [7; 32]).unwrap();
    let class = format!(
        "[[class]]\nname = \"office\"\n[[class.proof]]\nkind = \"signed_header\"\nkey_file = \"{}\"",
        key.display()
    );
    assert_eq!(running.reload(&a_room("5/s").with_more(&class)).await, ReloadAnswer::Applied);
    std::fs::remove_file(&key).unwrap();
    let held = change(&running, "state", json!({"state": "hold"})).await;
    assert_eq!((&held["result"], &held["state"]), (&json!("applied"), &json!("hold")));
    running.seconds(1).await;
    assert_eq!(see(&running, "/status").await["rooms"][0]["state"], json!("hold"));
}

#[tokio::test]
async fn a_refused_reload_without_a_held_room_leaves_it_held() {
    let other = "[[room]]\nname = \"other\"\npaths = [\"/other/**\"]\nadmission_rate = \"5/s\"\n";
    let running = a_room("5/s").with_more(other).start().await;
    let held = asking(&running, "POST", "/rooms/other/state").json(&json!({"state": "hold"})).send().await;
    assert_eq!(held.status, 200, "{}", held.text());
    // No fault of the file itself: what it names is not there.
    let page = "[page]\nassets = \"nowhere\"\n";
    let refused = running.reload(&a_room("5/s").with_more(page)).await;
    assert!(matches!(refused, ReloadAnswer::Refused(_)), "{refused:?}");
    running.seconds(1).await;
    let room = see(&running, "/status").await["rooms"][1].clone();
    assert_eq!((&room["name"], &room["state"]), (&json!("other"), &json!("hold")));
    assert_eq!(audited(&running), ["changed"]);
}

#[tokio::test]
async fn an_override_ends_however_many_orders_come() {
    let running = a_room("5/s").start().await;
    let until = jiff::Timestamp::from_millisecond((running.clock.now().wall.0 + 1500).cast_signed()).unwrap();
    change(&running, "rate", json!({"rate": "2/s", "until": until.to_string()})).await;
    // Orders come faster than overrides are looked at.
    let path = format!("/rooms/{ROOM}/message?dry_run=true");
    for _ in 0..20 {
        running.advance(Duration::from_millis(200)).await;
        assert_eq!(asking(&running, "POST", &path).json(&json!({"message": "x"})).send().await.status, 200);
    }
    assert_eq!(see(&running, "/overrides").await["overrides"], json!([]));
}

#[tokio::test]
async fn release_ends_a_hold_and_opens_nothing_that_the_file_closes() {
    let running = a_room("5/s").with("state = \"closed\"").start().await;
    let path = format!("/rooms/{ROOM}/state");
    let release = || asking(&running, "POST", &path).json(&json!({"state": "open"})).send();
    assert_eq!(release().await.status, 409, "nothing was said that could end");
    change(&running, "state", json!({"state": "hold"})).await;
    let released = release().await;
    assert_eq!((released.status, released.json()["state"].clone()), (200, json!("closed")), "{}", released.text());
    assert_eq!(see(&running, "/overrides").await["overrides"], json!([]));
}

#[tokio::test]
async fn what_was_decided_last_is_audited_at_a_stop() {
    let running = a_room("5/s").start().await;
    a_line(&running, 3).await;
    let running = running.restart().await;
    assert_eq!(audited(&running), ["decisions"]);
}

#[tokio::test]
async fn a_message_is_shown_in_every_language_before_it_is_set() {
    let running = a_room("5/s").start().await;
    let text = |language: &str, text: &str| json!({"language": language, "text": text});
    let wish = json!({"message": [text("it", "Torniamo alle 10"), text("de", "Um <10> weiter")]});
    let path = format!("/rooms/{ROOM}/message?dry_run=true");
    let preview = asking(&running, "POST", &path).json(&wish).send().await.json();
    let shown = preview["message"].as_array().unwrap();
    assert!(shown.len() >= 11, "{preview}");
    let of = |language: &str| shown.iter().find(|one| one["page"] == language).unwrap();
    assert_eq!(of("de")["text"], json!("Um <10> weiter"));
    assert_eq!((&of("en")["text"], &of("en")["language"]), (&json!("Torniamo alle 10"), &json!("it")));
    let page = running.operate("GET", of("de")["preview"].as_str().unwrap()).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Um &lt;10&gt; weiter") && page.text().contains("lang=\"de\""), "{}", page.text());
    assert_eq!(running.board().await["message"], Value::Null);
    change(&running, "message", wish).await;
    running.seconds(1).await;
    assert_eq!(running.board().await["message"], json!("Torniamo alle 10"));
}

#[tokio::test]
async fn another_file_is_compared_before_it_is_put_in_force() {
    let running = a_room("1/s").start().await;
    a_line(&running, 40).await;
    running.seconds(3).await;
    let text = std::fs::read_to_string(&running.file).unwrap();
    let diff = |text: String| asking(&running, "POST", "/diff").body(&text).send();
    let slower = diff(text.replace("\"1/s\"", "\"30/min\"")).await.json();
    assert_eq!(slower["result"], json!("reloadable"));
    assert_eq!(
        slower["changes"],
        json!([{"key": "room \"fair\".admission_rate", "from": "\"1/s\"", "to": "\"30/min\""}])
    );
    let effect = &slower["rooms"][0]["effects"][0];
    assert!(effect["after"]["high"].as_u64() > effect["before"]["high"].as_u64(), "{effect}");
    assert_eq!(diff(text.clone()).await.json()["result"], json!("unchanged"));
    let restart = diff(format!("{text}\n[store]\npath = \"elsewhere\"\n")).await.json();
    assert_eq!((&restart["result"], &restart["needs_restart"]), (&json!("needs_restart"), &json!(["store"])));
    let faulty: Answer = diff(text.replace("\"1/s\"", "\"fast\"")).await;
    assert_eq!(faulty.status, 422);
    assert!(faulty.text().contains("admission_rate"), "{}", faulty.text());
    assert_eq!(rate(&running).await, json!("1/s"));
}

#[tokio::test]
async fn codes_and_passes_are_handed_out_taken_back_and_audited() {
    let running = a_room("5/s").with_more(OFFICE).start().await;
    let ask = async |path: &str, body: Value| asking(&running, "POST", path).json(&body).send().await;
    let preview = ask("/codes?dry_run=true", json!({"class": "office", "identity": "office 1"})).await.json();
    assert_eq!((&preview["result"], &preview["code"]), (&json!("preview"), &Value::Null));
    let made = ask("/codes", json!({"class": "office", "identity": "office 1", "uses": 3})).await.json();
    assert!(made["code"].as_str().unwrap().len() > 10, "{made}");
    let id = made["facts"]["id"].as_str().unwrap();
    assert_eq!(ask(&format!("/codes/{id}/revoke"), json!({})).await.status, 200);
    assert_eq!(ask("/codes/ffff/revoke", json!({})).await.status, 404);
    assert_eq!(ask("/codes", json!({"class": "nobody", "identity": "x"})).await.status, 422);
    let listed = see(&running, "/codes").await;
    assert_eq!((listed["codes"].as_array().unwrap().len(), &listed["codes"][0]["uses"]), (1, &json!(3)));
    assert_ne!(listed["codes"][0]["state"], json!("good"));
    assert!(!listed.to_string().contains(made["code"].as_str().unwrap()), "never the secret");

    let pass = ask("/passes", json!({"room": ROOM, "name": "monitoring"})).await.json();
    let secret = pass["pass"].as_str().unwrap();
    assert_eq!(ask("/passes", json!({"room": "elsewhere", "name": "x"})).await.status, 422);
    assert_eq!(see(&running, "/passes").await["passes"][0]["state"], json!("good"));
    assert_eq!(ask(&format!("/passes/{}/revoke", pass["facts"]["id"].as_str().unwrap()), json!({})).await.status, 200);
    assert_eq!(audited(&running), ["code_created", "code_revoked", "pass_created", "pass_revoked"]);
    let log = std::fs::read_to_string(operators_dir(&running).join("audit.jsonl")).unwrap();
    assert!(!log.contains(secret) && log.contains("office 1"), "{log}");
}

#[tokio::test]
async fn codes_and_passes_that_make_no_sense_are_refused_and_none_is_made() {
    let running = a_room("5/s").with_more(OFFICE).start().await;
    let office = |more: Value| {
        let mut wish = json!({"class": "office", "identity": "office 1"});
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wish
    };
    let cases = [
        ("/codes", json!({}), 422),
        ("/codes", json!([1]), 422),
        ("/codes", json!({"class": "office"}), 422),
        ("/codes", office(json!({"identity": "  "})), 422),
        ("/codes", office(json!({"identity": "a\nb"})), 422),
        ("/codes", office(json!({"identity": "x".repeat(201)})), 422),
        ("/codes", office(json!({"class": "citizen"})), 422),
        ("/codes", office(json!({"uses": 0})), 422),
        ("/codes", office(json!({"uses": -1})), 422),
        ("/codes", office(json!({"uses": 4_294_967_296_u64})), 422),
        ("/codes", office(json!({"expires": "2001-01-01"})), 422),
        ("/codes", office(json!({"expires": "soon"})), 422),
        ("/codes", office(json!({"user": 3})), 422),
        ("/codes?dry_run=yes", office(json!({})), 400),
        ("/codes/ffff/revoke", json!({}), 404),
        ("/codes/..%2Fx/revoke", json!({}), 404),
        ("/passes", json!({"room": "elsewhere", "name": "x"}), 422),
        ("/passes", json!({"room": ROOM, "name": "a\"b"}), 422),
        ("/passes", json!({"room": ROOM, "name": "x".repeat(65)}), 422),
        ("/passes", json!({"room": ROOM, "name": "x", "expires": "2001-01-01"}), 422),
        ("/passes/ffff/revoke", json!({}), 404),
    ];
    for (path, wish, status) in &cases {
        let answer = asking(&running, "POST", path).json(wish).send().await;
        assert_eq!(answer.status, *status, "{path} {wish}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert!(answer.json()["detail"].as_str().unwrap().len() > 10, "{}", answer.text());
    }
    assert_eq!(asking(&running, "GET", "/codes?class=nobody").send().await.status, 422);
    let odd = asking(&running, "POST", "/codes").header("If-Match", "\"17\"").json(&office(json!({})));
    assert_eq!(odd.send().await.status, 400, "a revision of something else");
    assert_eq!(see(&running, "/codes").await["codes"], json!([]));
    assert_eq!(see(&running, "/passes").await["passes"], json!([]));
    assert!(!running.directory.path().join("state/codes").exists() && !operators_dir(&running).exists());

    running.seconds(60).await;
    wait_for_audit(&running, "refused").await;
    let last = see(&running, "/audit?last=1").await["lines"][0].clone();
    assert_eq!(last["what"], json!("refused"));
    let unknown = cases.iter().filter(|(path, _, status)| *status == 404 && !path.contains("..")).count();
    let wrong = cases.iter().filter(|(.., status)| *status != 404).count() + 2;
    let counted = (&last["details"]["unknown_names"], &last["details"]["wrong_values"]);
    assert_eq!(counted, (&json!(unknown), &json!(wrong)), "{last}");
}

#[tokio::test]
async fn of_two_operators_who_hand_out_at_once_the_second_hears_what_the_first_did() {
    let more = "[[admin.token]]\nname = \"ann\"\nrole = \"administer\"\nfile = \"state/ann\"\n";
    let running = a_room("5/s").with_more(OFFICE).with_more(more).start().await;
    for (list, wish) in [
        ("/codes", json!({"class": "office", "identity": "office 1"})),
        ("/passes", json!({"room": ROOM, "name": "office 1"})),
    ] {
        let seen = asking(&running, "GET", list).send().await.header("etag").unwrap().to_owned();
        let by = async |file: &str, path: &str, seen: &str| {
            asking_as(&running, file, "POST", path).header("If-Match", seen).json(&wish).send().await
        };
        let first = by("ann", list, &seen).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let second = by("admin-token", list, &seen).await;
        assert_eq!(second.status, 412, "{}", second.text());
        let problem = second.json();
        assert_eq!(problem["changes"].as_array().unwrap().len(), 1, "{problem}");
        assert_eq!(problem["changes"][0]["facts"], first.json()["facts"]);
        assert_eq!(problem["changes"][0]["facts"]["by"], json!("ann"));
        assert!(!second.text().contains(first.json().get("code").and_then(Value::as_str).unwrap_or("no secret")));
        let tag = first.header("etag").unwrap();
        assert_eq!(format!("{}", problem["revision"]), tag, "the answer's revision is the list's");
        // Both take it back at once: it is taken back, and written down, once.
        let revoke = format!("{list}/{}/revoke", first.json()["facts"]["id"].as_str().unwrap());
        let again = [asking(&running, "POST", &revoke).begin(), asking(&running, "POST", &revoke).begin()];
        let mut results = Vec::new();
        for answer in again {
            results.push(answer.await.unwrap().json()["result"].as_str().unwrap().to_owned());
        }
        results.sort();
        assert_eq!(results, ["revoked", "unchanged"]);
        assert_eq!(by("admin-token", &revoke, tag).await.status, 412, "the list is another one since");
    }
    assert_eq!(audited(&running), ["code_created", "code_revoked", "pass_created", "pass_revoked"]);
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_handed_out_or_taken_back_and_that_is_told() {
    let Some(disk) = SmallDisk::mounted(6) else { return };
    let directory = tempfile::tempdir_in(&disk.place).unwrap();
    let running = a_room("5/s").with_more(OFFICE).start_in(directory).await;
    let ask = async |path: &str, body: &Value| asking(&running, "POST", path).json(body).send().await;
    let (code, pass) = (json!({"class": "office", "identity": "office 1"}), json!({"room": ROOM, "name": "probe"}));
    let made = [ask("/codes", &code).await.json(), ask("/passes", &pass).await.json()];
    let [code_id, pass_id] = made.each_ref().map(|made| made["facts"]["id"].as_str().unwrap().to_owned());
    let state = running.directory.path().join("state");
    let files = || {
        let of = |dir: &str| std::fs::read_dir(state.join(dir)).unwrap().map(|entry| entry.unwrap().file_name());
        of("codes").chain(of("passes")).collect::<Vec<_>>()
    };
    let (listed, before) = ((see(&running, "/codes").await, see(&running, "/passes").await), files());
    let ballast = disk.fill();
    let (take_code, take_pass) = (format!("/codes/{code_id}/revoke"), format!("/passes/{pass_id}/revoke"));
    let rate = format!("/rooms/{ROOM}/rate");
    for (path, body) in [
        ("/codes", &code),
        ("/passes", &pass),
        (&take_code, &json!({})),
        (&take_pass, &json!({})),
        (&rate, &json!({"rate": "1/s"})),
    ] {
        let refused = ask(path, body).await;
        assert_eq!(refused.status, 507, "{path}: {}", refused.text());
        assert!(refused.text().contains("nothing was changed") && refused.text().contains("make room"), "{path}");
    }
    assert_eq!((see(&running, "/codes").await, see(&running, "/passes").await), listed);
    assert_eq!(files(), before, "nothing is left of it");
    assert_eq!(audited(&running), ["code_created", "pass_created"]);

    std::fs::remove_file(ballast).unwrap();
    assert_eq!(ask(&take_code, &json!({})).await.status, 200, "once there is room, it works again");
    running.seconds(60).await;
    wait_for_audit(&running, "refused").await;
    let lines = see(&running, "/audit").await["lines"].clone();
    let refused = lines.as_array().unwrap().iter().find(|line| line["what"] == "refused").unwrap();
    assert_eq!(refused["details"]["not_written"], json!(5), "{refused}");
}

/// Rendering the pages of a changed room takes a while, in which the clock goes on.
#[tokio::test]
async fn the_board_after_a_change_is_as_of_the_change() {
    let running = a_room("5/s").start().await;
    for rate in ["2/s", "3/s", "4/s"] {
        let path = format!("/rooms/{ROOM}/rate");
        let changing = asking(&running, "POST", &path).json(&json!({ "rate": rate })).begin();
        while !changing.is_finished() {
            running.advance(Duration::from_millis(100)).await;
        }
        assert_eq!(changing.await.unwrap().status, 200);
        let board = running.visitor().script("GET", &format!("/.waiting-room/board/{ROOM}")).send().await.json();
        let updated_at: jiff::Timestamp = board["updated_at"].as_str().unwrap().parse().unwrap();
        let now = jiff::Timestamp::from_millisecond(running.clock.now().wall.0.cast_signed()).unwrap();
        // The answer takes a few ticks, rendering takes hundreds.
        assert!(now.duration_since(updated_at).as_secs() <= 3, "{board} at {now}");
    }
}

#[tokio::test]
async fn decisions_are_audited_in_sum_and_history_outlasts_a_restart() {
    let running = a_room("5/s").with("state = \"hold\"").start().await;
    a_line(&running, 7).await;
    running.seconds(70).await;
    wait_for_audit(&running, "decisions").await;
    let last = see(&running, "/audit?last=5").await;
    let decided = last["lines"].as_array().unwrap().iter().find(|line| line["what"] == "decisions").unwrap();
    assert_eq!((&decided["details"]["class"], &decided["details"]["joined"]), (&json!("citizen"), &json!(7)));
    let samples = async |running: &Running| see(running, "/history").await["rooms"][0]["at"].as_array().unwrap().len();
    let before = samples(&running).await;
    assert!((5..=9).contains(&before), "{before}");
    let running = running.restart().await;
    assert!(samples(&running).await >= before);
    let lane = see(&running, "/history?room=fair&seconds=100000").await["rooms"][0]["lanes"][0].clone();
    assert!(lane["waiting"].as_array().unwrap().iter().any(|waiting| *waiting == json!(7)), "{lane}");
}

#[tokio::test]
async fn events_bring_the_picture_of_each_second() {
    let running = a_room("5/s").start().await;
    let mut stream = TcpStream::connect(running.admin).await.unwrap();
    stream.write_all(b"GET /admin/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let mut until = async |wanted: &str| {
        let reading = async {
            while !text.contains(wanted) {
                let mut buffer = [0; 65536];
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "the stream ended: {text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {wanted:?}"));
    };
    until("text/event-stream").await;
    until("\"waiting\":0").await;
    a_line(&running, 30).await;
    running.seconds(1).await;
    until("event: status").await;
    change(&running, "state", json!({"state": "hold"})).await;
    running.seconds(1).await;
    until("\"state\":\"hold\"").await;
}

#[tokio::test]
async fn the_status_shows_everything_on_one_screen() {
    let running = a_room("2/s").start().await;
    a_line(&running, 50).await;
    running.seconds(12).await;
    let status = see(&running, "/status").await;
    let (room, lane) = (&status["rooms"][0], &status["rooms"][0]["lanes"][0]);
    assert!(lane["waiting"].as_u64().unwrap() > 10 && lane["called"].as_u64().unwrap() > 0, "{lane}");
    assert!(lane["wait_seconds_low"].as_u64() <= lane["wait_seconds_high"].as_u64(), "{lane}");
    assert!(lane["wait_seconds_high"].as_u64().unwrap() > 5, "{lane}");
    assert_eq!((&room["leak_guard"], &room["leads"], &room["nodes"]), (&json!("open"), &json!(true), &json!(1)));
    assert_eq!(status["portal"]["healthy"], json!(true));
    assert_eq!(status["configuration"]["revision"].as_str().unwrap().len(), 12);
    assert_eq!(status["stage"], json!("serving"));
    assert_eq!(running.operate("POST", "/admin/v1/reload").await.status, 200);
    running.write(&a_room("fast"));
    assert_eq!(running.operate("POST", "/admin/v1/reload").await.status, 422);
    running.seconds(1).await;
    let reload = see(&running, "/status").await["configuration"]["last_reload"].clone();
    assert_eq!(reload["result"], json!("refused"));
    assert!(reload["details"][0].as_str().unwrap().contains("admission_rate"), "{reload}");
    let description = see(&running, "/openapi.json").await;
    assert_eq!(description["openapi"], json!("3.1.0"));
}

#[tokio::test]
async fn the_console_is_served_by_the_program_alone_and_nobody_frames_or_keeps_it() {
    let running = a_room("5/s").start().await;
    for (path, media, holds) in [
        ("/console", "text/html; charset=utf-8", "<script src=\"/console/console.js\" defer></script>"),
        ("/console/console.js", "text/javascript; charset=utf-8", "'use strict'"),
        ("/console/console.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
    ] {
        let answer = running.operate("GET", path).await;
        assert_eq!(answer.status, 200, "{path}");
        for (name, value) in [
            ("content-type", media),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path} {name}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
        {
            assert!(policy.contains(part), "{part} in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let text = answer.text();
        assert!(text.contains(holds) && !text.contains("innerHTML") && !text.contains("https://"), "{path}");
        let foreign = at(&running.visitor(), running.admin).request("GET", path);
        let foreign = foreign.header("Sec-Fetch-Site", "cross-site").send().await;
        assert_eq!(foreign.status, 403, "{path}");
        assert_eq!(running.operate("POST", path).await.status, 405, "{path}");
    }
}
