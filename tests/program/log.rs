//! What the log says of requests, and what it must not say.

use super::Stage;
use crate::support::portal::{Script, Step};
use crate::support::wire::Visitor;

#[test]
fn an_access_line_says_what_became_of_a_request() {
    let stage = Stage::new();
    let mut visitor = stage.insider();
    visitor.ask("GET", "/status/404?q=1", "X-Request-Id: found-again\r\n", b"");
    let line = stage.proxy.log().access("found-again");
    assert_eq!((line["method"].as_str(), line["path"].as_str()), (Some("GET"), Some("/status/404")));
    assert_eq!((line["status"].as_u64(), line["room"].as_str()), (Some(404), Some("r")));
    assert_eq!((line["class"].as_str(), line["client"].as_str()), (Some("citizen"), Some("127.0.0.0")));
    assert_eq!(line["host"], "portal.example");
    for key in ["timestamp", "decision", "duration_ms", "upstream_ms", "bytes"] {
        assert!(!line[key].is_null(), "{key}: {line}");
    }
}

#[test]
fn an_access_line_names_the_class_of_whoever_is_no_citizen() {
    let stage = Stage::with(|setup| {
        setup.room.push_str("\n[[class]]\nname = \"office\"\nproof = [ { kind = \"network\", ranges = [\"127.0.0.0/8\"], sufficient = true } ]\n");
    });
    let mut visitor = stage.insider();
    visitor.ask("GET", "/", "X-Request-Id: of-an-office\r\n", b"");
    assert_eq!(stage.proxy.log().access("of-an-office")["class"], "office");
}

/// Secrets in every place that a request has; none may be found in anything that the program wrote.
#[test]
fn neither_queries_nor_cookies_nor_tokens_are_logged() {
    let mut stage = Stage::new();
    let portal = stage.portal.address;
    stage.portal.script("/garbage", [Script::new([Step::Send(b"s3cret-answer\r\n\r\n".to_vec()), Step::Close])]);
    stage.portal.script("/sets", [Script::answer(200, "Set-Cookie: JSESSIONID=s3cret-set\r\n", "s3cret-body")]);
    let away = format!("Location: http://{portal}/x?s3cret-location\r\n");
    stage.portal.script("/away", [Script::answer(302, &away, "")]);
    let mut visitor = stage.insider();
    visitor.cookies.insert("SESSION".to_owned(), "s3cret-cookie".to_owned());
    let more = "Authorization: Bearer s3cret-bearer\r\nReferer: http://portal.example/?s3cret-referer\r\n\
                Waiting-Room-Ticket: s3cret-ticket\r\nX-Api-Key: s3cret-key\r\n";
    for target in [
        "/?token=s3cret-query",
        "/garbage?s3cret-query",
        "/sets;jsessionid=s3cret-path",
        "/sets?s3cret-query",
        "/away?s3cret-query",
        "/.waiting-room/status?room=r&s3cret-query",
        "/.waiting-room/join?room=r&to=/s3cret-to",
        "/.waiting-room/line?room=r&to=/s3cret-to&n=s3cret-n",
        "/.waiting-room/nothing?s3cret-query",
        "/.waiting-room/status?room=s3cret-room",
    ] {
        visitor.ask("GET", target, more, b"");
        visitor.ask("POST", target, more, b"s3cret-form");
    }
    let mut stranger = Visitor::new(stage.proxy.address);
    stranger.cookies.insert("anticamera-ticket-r".to_owned(), "s3cret-ticket-cookie".to_owned());
    stranger.ask("POST", "/.waiting-room/join?room=r&s3cret-query", more, b"to=/s3cret-to&join_id=s3cret-id");
    stage.begin(&stranger, "GET", "/?s3cret-nonsense HTTP/1.1 x", "").rest();
    stage.proxy.signal("TERM");
    stage.proxy.ended();
    stage.proxy.log().wait_for(|line| line.contains("stopped"));

    let log = stage.proxy.log().text();
    assert!(log.matches("\"target\":\"access\"").count() > 20, "{log}");
    let mut secrets: Vec<String> = visitor.cookies.values().chain(stranger.cookies.values()).cloned().collect();
    secrets.push("s3cret".to_owned());
    for secret in secrets {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(found.is_empty(), "{secret} in {found:#?}");
    }
}

#[test]
fn no_request_forges_a_line() {
    let stage = Stage::new();
    let mut visitor = stage.insider();
    visitor.ask("GET", "/x%0a%22%7d\"{forged", "X-Request-Id: before-forged\r\n", b"");
    visitor.ask("GET", "/", "X-Request-Id: after-forged\r\n", b"");
    stage.proxy.log().access("after-forged");
    for line in stage.proxy.log().text().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}
