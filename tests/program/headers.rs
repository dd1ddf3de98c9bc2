//! Header hygiene from one end to the other: what the portal hears of a visitor, and what it never hears.

use super::Stage;
use crate::support::portal::{Script, Seen};
use crate::support::wire::Visitor;

impl Stage {
    /// What the portal saw of a request of this visitor with these header lines.
    #[track_caller]
    fn seen(&self, visitor: &mut Visitor, more: &str) -> Seen {
        let before = self.portal.seen().len();
        assert_eq!(visitor.ask("GET", "/seen", more, b"").status, 200, "{more}");
        self.portal.seen().swap_remove(before)
    }
}

fn all<'s>(seen: &'s Seen, name: &str) -> Vec<&'s str> {
    seen.headers.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_strangers_statements_about_itself_are_replaced() {
    let stage = Stage::new();
    let seen = stage.seen(
        &mut stage.insider(),
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
         X-Forwarded-Port: 666\r\nForwarded: for=6.6.6.6;proto=https\r\nX-Real-IP: 6.6.6.6\r\n",
    );
    assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&seen, "x-forwarded-host"), ["portal.example"]);
    assert_eq!(all(&seen, "forwarded"), ["for=127.0.0.1;host=\"portal.example\";proto=http"]);
    for (name, value) in &seen.headers {
        assert!(!["6.6.6.6", "666", "evil"].iter().any(|said| value.contains(said)), "{name}: {value}");
    }
}

#[test]
fn a_trusted_proxys_statements_are_continued() {
    let stage = Stage::with(|setup| setup.server = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]".to_owned());
    let said = "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
                Forwarded: for=9.9.9.9\r\nX-Request-Id: trusted-1\r\n";
    let mut visitor = Visitor::new(stage.proxy.address);
    let reply = visitor.ask("GET", "/", said, b"");
    let set = reply.all("set-cookie");
    assert!(set.iter().any(|line| line.starts_with("__Host-anticamera-pass-r=") && line.contains("Secure")), "{set:?}");
    let seen = stage.seen(&mut visitor, said);
    assert_eq!(all(&seen, "x-forwarded-for"), ["6.6.6.6, 203.0.113.7, 10.0.0.1, 127.0.0.1"]);
    assert_eq!(all(&seen, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&seen, "forwarded"), ["for=203.0.113.7;host=\"portal.example\";proto=https"]);
    assert_eq!(stage.proxy.log().access("trusted-1")["client"], "203.0.113.0");
}

#[test]
fn a_trusted_proxy_that_writes_forwarded_is_believed_there_only() {
    let stage = Stage::with(|setup| {
        setup.server = "trusted_proxies = [\"127.0.0.1/32\"]\nclient_address = \"forwarded\"".to_owned();
    });
    let said = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: http\r\nForwarded: for=203.0.113.7;proto=https\r\n";
    let mut visitor = Visitor::new(stage.proxy.address);
    visitor.ask("GET", "/", said, b"");
    let seen = stage.seen(&mut visitor, said);
    assert_eq!(all(&seen, "x-forwarded-for"), ["203.0.113.7"]);
    let continued = "for=203.0.113.7;proto=https, for=127.0.0.1;host=\"portal.example\";proto=https";
    assert_eq!(all(&seen, "forwarded"), [continued]);
    assert_eq!(all(&seen, "x-forwarded-proto"), ["https"]);
}

#[test]
fn what_is_meant_for_one_connection_stays_on_it() {
    let stage = Stage::new();
    let seen = stage.seen(
        &mut stage.insider(),
        "Connection: close, X-Mine, X-Forwarded-For, Cookie, Authorization\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: gzip, deflate\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\nAuthorization: Basic dTpw\r\nCookie: a=1\r\n",
    );
    for gone in ["x-mine", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade", "connection"] {
        assert_eq!(all(&seen, gone), [""; 0], "{gone}");
    }
    assert_eq!(all(&seen, "authorization"), ["Basic dTpw"], "Connection cannot take away what identifies the visitor");
    assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert!(all(&seen, "cookie").contains(&"a=1"), "{seen:?}");
}

#[test]
fn what_is_meant_for_one_connection_of_the_portal_stays_on_it() {
    let stage = Stage::new();
    let lines = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
                 Waiting-Room-Identity: mario\r\nX-Powered-By: Portal\r\nVia: 1.0 inner\r\n";
    stage.portal.script("/hop", [Script::answer(200, lines, "x")]);
    let reply = stage.insider().get("/hop");
    for gone in ["x-hop", "keep-alive", "waiting-room-identity"] {
        assert_eq!(reply.header(gone), None, "{gone}");
    }
    assert_eq!(reply.header("x-powered-by"), Some("Portal"));
    assert_eq!(reply.all("via"), ["1.0 inner", "1.1 anticamera"]);
}

#[test]
fn internal_and_overriding_headers_never_come_from_outside() {
    let stage = Stage::new();
    let seen = stage.seen(
        &mut stage.insider(),
        "Waiting-Room-Pass: x\r\nWaiting-Room-Ticket: x\r\nWaiting-Room-Turn: x\r\nWaiting-Room-Command: end-session\r\n\
         Waiting-Room-Identity: mario\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n\
         X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\n\
         X-SSL-Client-Cert: x\r\nX-Client-Cert: x\r\nSSL_CLIENT_CERT: x\r\nX_FORWARDED_FOR: 6.6.6.6\r\n\
         Waiting_Room_Identity: mario\r\nIf-None-Match: \"1\"\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Range: bytes=0-1\r\n",
    );
    for (name, value) in &seen.headers {
        let internal = ["waiting", "override", "client"].iter().any(|part| name.contains(part));
        let smuggled = ["6.6.6.6", "/admin", "DELETE"].contains(&value.as_str());
        assert!(!internal && !smuggled, "{name}: {value}");
    }
    for gone in ["if-none-match", "if-modified-since", "range"] {
        assert_eq!(all(&seen, gone), [""; 0], "{gone}");
    }
    assert_eq!(all(&seen, "cache-control"), ["no-store, no-cache"]);
}

#[test]
fn our_cookies_never_reach_the_portal_and_others_all_do() {
    let stage = Stage::new();
    let mut visitor = stage.insider();
    let pass = visitor.pass().unwrap().to_owned();
    let lines = format!(
        "Cookie: before=1; anticamera-pass-r={pass}; between=\"2\"; anticamera-ticket-other=x\r\n\
         Cookie: __Host-anticamera-turn-r=x; after=3; notanticamera-pass-r=mine\r\n"
    );
    let seen = stage.seen(&mut visitor, &lines);
    let sent = all(&seen, "cookie").join("; ");
    for kept in ["before=1", "between=\"2\"", "after=3", "notanticamera-pass-r=mine"] {
        assert!(sent.contains(kept), "{kept} in {sent}");
    }
    assert!(!sent.contains(&pass) && !sent.contains("ticket-other") && !sent.contains("__Host"), "{sent}");
    let only_ours = stage.seen(&mut visitor, "");
    assert_eq!(all(&only_ours, "cookie"), [""; 0], "no empty line either");

    let app = Visitor::new(stage.proxy.address);
    let mut wire = stage.begin(&app, "GET", "/app", &format!("Accept: */*\r\nWaiting-Room-Pass: {pass}\r\n"));
    let reply = wire.reply();
    assert_eq!((reply.status, reply.all("set-cookie").len()), (200, 0), "the pass counts in a header too");
    assert_eq!(stage.portal.one("/app").header("waiting-room-pass"), None);
}

#[test]
fn a_request_can_be_followed_through() {
    let stage = Stage::new();
    let mut visitor = stage.insider();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let given = format!("traceparent: {trace}\r\ntracestate: a=b\r\nX-Request-Id: given-1\r\n");
    let seen = stage.seen(&mut visitor, &given);
    assert_eq!(all(&seen, "traceparent"), [trace]);
    assert_eq!(all(&seen, "tracestate"), ["a=b"]);
    assert_eq!(all(&seen, "x-request-id"), ["given-1"]);

    let seen = stage.seen(&mut visitor, "");
    let made = seen.header("x-request-id").expect("one of ours").to_owned();
    assert_eq!(stage.proxy.log().access(&made)["path"], "/seen", "the log and the portal mean the same request");

    for unfit in ["x".repeat(1000), "with \"quotes\"".to_owned()] {
        let seen = stage.seen(&mut visitor, &format!("X-Request-Id: {unfit}\r\n"));
        let id = seen.header("x-request-id").unwrap();
        assert_ne!(id, unfit, "the portal gets the id that is in the log");
        stage.proxy.log().access(id);
    }
}

#[test]
fn via_names_us_once_in_each_direction() {
    let stage = Stage::new();
    let mut visitor = stage.insider();
    let seen = stage.seen(&mut visitor, "Via: 1.1 edge\r\n");
    assert_eq!(all(&seen, "via"), ["1.1 edge", "1.1 anticamera"]);
    assert_eq!(visitor.get("/").all("via"), ["1.1 anticamera"]);
}

#[test]
fn addresses_of_the_portal_are_rewritten_in_every_place() {
    let stage = Stage::new();
    let portal = stage.portal.address;
    let lines = format!(
        "Location: http://{portal}/next?a=1#f\r\nContent-Location: http://{portal}/here\r\n\
         Set-Cookie: a=1; Domain=127.0.0.1; Path=/r\r\nSet-Cookie: b=2; Domain=other.example\r\n"
    );
    stage.portal.script("/moved", [Script::answer(302, &lines, "")]);
    stage.portal.script("/elsewhere", [Script::answer(302, "Location: http://other.example/\r\n", "")]);
    stage.portal.script("/relative", [Script::answer(302, "Location: next\r\n", "")]);
    let mut visitor = stage.insider();
    let reply = visitor.get("/moved");
    assert_eq!(reply.header("location"), Some("http://portal.example/next?a=1#f"));
    assert_eq!(reply.header("content-location"), Some("http://portal.example/here"));
    let cookies = reply.all("set-cookie");
    assert!(cookies.contains(&"a=1; Domain=portal.example; Path=/r"), "{cookies:?}");
    assert!(cookies.contains(&"b=2; Domain=other.example"), "{cookies:?}");
    assert_eq!(visitor.get("/elsewhere").header("location"), Some("http://other.example/"));
    assert_eq!(visitor.get("/relative").header("location"), Some("next"));
}
