//! The released program in front of a real portal: Apache Tomcat with its examples. Sessions, forms, WebSockets,
//! parts of files, conditions, redirects and cache policy, as a visitor's browser meets them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::process::{Proxy, Setup};
use crate::support::tomcat::Tomcat;
use crate::support::wire::{Reply, Visitor, Wire};

const SESSIONS: &str = "/examples/servlets/servlet/SessionExample";
const FORM: &str = "/examples/servlets/servlet/RequestParamExample";
const HEADERS: &str = "/examples/servlets/servlet/RequestHeaderExample";
const COUNTER: &str = "/examples/servlets/nonblocking/bytecounter";
const ECHO: &str = "/examples/websocket/echoAnnotation";
/// Declared public.
const PICTURE: &str = "/examples/servlets/images/code.gif";
/// Declared public, although it sets cookies: the operator's mistake.
const COOKIES: &str = "/examples/servlets/servlet/CookieExample";
/// Declared a download.
const DOWNLOAD: &str = "/examples/servlets/helloworld.html";
/// A personal file.
const PAGE: &str = "/examples/servlets/reqparams.html";

fn setup(portals: &[SocketAddr]) -> Setup {
    Setup {
        paths: "/examples/**",
        leak_guard: format!("public = [\"/examples/servlets/images/**\", \"{COOKIES}\"]\ndownloads = [\"{DOWNLOAD}\"]"),
        ..Setup::in_front_of(portals)
    }
}

fn stage() -> (Arc<Tomcat>, Proxy) {
    let tomcat = Tomcat::shared();
    let proxy = setup(&[tomcat.address()]).start();
    (tomcat, proxy)
}

#[test]
fn a_session_lasts_and_stays_the_visitors_own() {
    let (_tomcat, proxy) = stage();
    let mut visitor = Visitor::new(proxy.address);
    let first = visitor.get(SESSIONS);
    assert_eq!(first.status, 200, "{first:?}");
    first.assert_personal();
    let session = first.cookie("JSESSIONID").expect("a new session").to_owned();
    let as_tomcat_sets_it = format!("JSESSIONID={session}; Path=/examples; HttpOnly");
    assert!(first.all("set-cookie").contains(&as_tomcat_sets_it.as_str()), "{first:?}");
    assert!(first.text().contains(&session));

    let told = visitor.post(SESSIONS, "dataname=colour&datavalue=verdigris");
    assert_eq!((told.status, told.cookie("JSESSIONID")), (200, None), "the session goes on: {told:?}");
    told.assert_personal();
    let remembered = visitor.get(SESSIONS);
    assert!(remembered.text().contains("verdigris") && remembered.text().contains(&session), "{remembered:?}");
    assert_eq!(remembered.all("set-cookie"), [""; 0], "neither a new session nor a new pass");

    let mut other = Visitor::new(proxy.address);
    let others = other.get(SESSIONS);
    assert_ne!(others.cookie("JSESSIONID"), Some(session.as_str()));
    assert_ne!(other.pass(), visitor.pass());
    assert!(!other.get(SESSIONS).text().contains("verdigris"));
}

#[test]
fn forms_arrive_in_either_framing() {
    let (_tomcat, proxy) = stage();
    let mut visitor = Visitor::inside(proxy.address, FORM);
    let reply = visitor.post(FORM, "firstname=Ada&lastname=L%C3%B8velace");
    assert!(reply.text().contains("Ada") && reply.text().contains("velace"), "{reply:?}");
    reply.assert_personal();

    let mut wire = Wire::connect(proxy.address);
    let kind = "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n";
    wire.send(visitor.request("POST", FORM, kind));
    for piece in ["firstname=Gr", "ace&lastname=", "Hopper"] {
        wire.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    wire.send("0\r\n\r\n");
    let reply = wire.reply();
    assert!(reply.text().contains("Grace") && reply.text().contains("Hopper"), "{reply:?}");
}

/// More than is read ahead, so that it streams.
#[test]
fn long_uploads_stream_in_either_framing() {
    let (_tomcat, proxy) = stage();
    let visitor = Visitor::inside(proxy.address, PAGE);
    let piece = [b'u'; 10_000];
    let mut wire = Wire::connect(proxy.address);
    wire.send(visitor.request("POST", COUNTER, "Content-Length: 3000000\r\n"));
    (0..300).for_each(|_| wire.send(piece));
    let reply = wire.reply();
    assert_eq!((reply.status, reply.text()), (200, "Total bytes written = [3000000]"));

    wire.send(visitor.request("POST", COUNTER, "Transfer-Encoding: chunked\r\n"));
    (0..300).for_each(|_| {
        wire.send("2710\r\n");
        wire.send(piece);
        wire.send("\r\n");
    });
    wire.send("0\r\n\r\n");
    let reply = wire.reply();
    assert_eq!((reply.status, reply.text()), (200, "Total bytes written = [3000000]"));
}

#[test]
fn whoever_asks_whether_to_send_the_body_is_told() {
    let (_tomcat, proxy) = stage();
    let visitor = Visitor::inside(proxy.address, PAGE);
    let mut wire = Wire::connect(proxy.address);
    wire.send(visitor.request("POST", COUNTER, "Content-Length: 5\r\nExpect: 100-continue\r\n"));
    assert_eq!(wire.head().status, 100);
    wire.send("hello");
    assert_eq!(wire.reply().text(), "Total bytes written = [5]");
}

#[test]
fn many_requests_share_a_connection() {
    let (_tomcat, proxy) = stage();
    let visitor = Visitor::inside(proxy.address, SESSIONS);
    let mut wire = Wire::connect(proxy.address);
    for round in 0..200 {
        let (target, status) = match round % 4 {
            0 => (SESSIONS, 200),
            1 => (PAGE, 200),
            2 => ("/examples/nowhere", 404),
            _ => (PICTURE, 200),
        };
        wire.send(visitor.request("GET", target, ""));
        let reply = wire.reply();
        assert_eq!((reply.status, reply.whole), (status, true), "{target}: {reply:?}");
    }
    // Two at once: answers come in order (RFC 9112 section 9.3.2).
    wire.send(visitor.request("GET", PAGE, "") + &visitor.request("GET", "/examples/nowhere", ""));
    assert_eq!((wire.reply().status, wire.reply().status), (200, 404));
}

#[test]
fn head_says_what_get_would() {
    let (_tomcat, proxy) = stage();
    let mut visitor = Visitor::inside(proxy.address, SESSIONS);
    for target in [PAGE, PICTURE, SESSIONS] {
        let (head, get) = (visitor.head(target, ""), visitor.get(target));
        assert_eq!((head.status, head.body.len()), (200, 0), "{target}: {head:?}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        assert_eq!(head.header("cache-control"), get.header("cache-control"), "{target}");
        if let Some(length) = head.header("content-length") {
            assert_eq!(length, get.body.len().to_string(), "{target}");
        }
    }
}

#[test]
fn parts_of_files_come_where_declared() {
    let (_tomcat, proxy) = stage();
    let mut visitor = Visitor::inside(proxy.address, PAGE);
    let part = visitor.ask("GET", DOWNLOAD, "Range: bytes=5-14\r\n", b"");
    assert_eq!((part.status, part.body.len()), (206, 10), "{part:?}");
    assert!(part.header("content-range").unwrap().starts_with("bytes 5-14/"));
    part.assert_personal();

    let whole = visitor.ask("GET", PAGE, "Range: bytes=5-14\r\n", b"");
    assert_eq!((whole.status, whole.header("content-range"), whole.header("accept-ranges")), (200, None, None));
    assert!(whole.body.len() > 10);
    whole.assert_personal();

    let public = visitor.ask("GET", PICTURE, "Range: bytes=0-2\r\n", b"");
    assert_eq!((public.status, public.body.as_slice()), (206, &b"GIF"[..]), "{public:?}");
}

#[test]
fn conditions_count_on_public_files_only() {
    let (tomcat, proxy) = stage();
    let mut stranger = Visitor::new(tomcat.address());
    let direct = stranger.get(PAGE);
    let (etag, date) = (direct.header("etag").unwrap(), direct.header("last-modified").unwrap());
    let condition = format!("If-None-Match: {etag}\r\nIf-Modified-Since: {date}\r\n");
    assert_eq!(stranger.ask("GET", PAGE, &condition, b"").status, 304, "Tomcat would say so");

    let mut visitor = Visitor::inside(proxy.address, PAGE);
    let personal = visitor.ask("GET", PAGE, &condition, b"");
    assert_eq!((personal.status, personal.body.len()), (200, direct.body.len()));
    personal.assert_personal();

    let public = visitor.get(PICTURE);
    let etag = public.header("etag").expect("a validator").to_owned();
    assert!(public.header("last-modified").is_some());
    assert_eq!(visitor.ask("GET", PICTURE, &format!("If-None-Match: {etag}\r\n"), b"").status, 304);
}

#[test]
fn public_files_are_for_everybody() {
    let (_tomcat, proxy) = stage();
    let mut stranger = Visitor::new(proxy.address);
    let picture = stranger.get(PICTURE);
    assert_eq!((picture.status, picture.header("cache-control"), picture.header("set-cookie")), (200, None, None));
    assert_eq!(stranger.pass(), None, "a public file lets nobody in");

    let mut visitor = Visitor::inside(proxy.address, SESSIONS);
    visitor.cookies.insert("marker".to_owned(), "m4rk3r".to_owned());
    let reply = visitor.get(&format!("{COOKIES}?cookiename=fresh&cookievalue=baked"));
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("fresh"), "Tomcat did set a cookie: {reply:?}");
    assert_eq!(reply.all("set-cookie"), [""; 0], "no cookie comes with a public answer");
    assert!(!reply.text().contains("m4rk3r"), "nor goes with its request");
}

#[test]
fn every_personal_answer_leaves_with_the_one_policy() {
    let (_tomcat, proxy) = stage();
    let mut visitor = Visitor::inside(proxy.address, SESSIONS);
    let targets = [SESSIONS, PAGE, DOWNLOAD, FORM, HEADERS, "/examples/", "/examples", "/examples/nowhere", "/else"];
    for target in targets {
        for method in ["GET", "POST", "OPTIONS", "DELETE", "PUT"] {
            let reply = visitor.ask(method, target, "", b"");
            assert_ne!(reply.status, 502, "{method} {target}");
            reply.assert_personal();
        }
        visitor.head(target, "").assert_personal();
    }
    visitor.get("/examples/jsp/security/protected/index.jsp").assert_personal();
}

#[test]
fn redirects_never_lead_around_the_proxy() {
    let (tomcat, proxy) = stage();
    let mut visitor = Visitor::inside(proxy.address, PAGE);
    let host_at_portal = |visitor: &mut Visitor| {
        let reply = visitor.ask("GET", HEADERS, "Accept: application/json\r\n", b"");
        let seen: serde_json::Value = serde_json::from_str(reply.text()).unwrap();
        seen.as_array().unwrap().iter().find_map(|line| line.get("host")).unwrap().as_str().unwrap().to_owned()
    };
    let reply = visitor.get("/examples");
    assert_eq!((reply.status, reply.header("location")), (302, Some("http://portal.example/examples/")));
    assert_eq!(host_at_portal(&mut visitor), "portal.example");

    let setup = Setup { portal: "preserve_host = false".to_owned(), ..setup(&[tomcat.address()]) };
    let proxy = setup.start();
    let mut visitor = Visitor::inside(proxy.address, PAGE);
    assert_eq!(host_at_portal(&mut visitor), tomcat.address().to_string());
    let reply = visitor.get("/examples");
    assert_eq!((reply.status, reply.header("location")), (302, Some("http://portal.example/examples/")));
}

/// Tomcat sends trailers without announcing them; they may be dropped (RFC 9110 section 6.5.1), the answer may not.
#[test]
fn an_answer_with_trailers_comes_whole() {
    let (_tomcat, proxy) = stage();
    let mut visitor = Visitor::inside(proxy.address, PAGE);
    let reply = visitor.ask("GET", "/examples/servlets/trailers/response", "TE: trailers\r\n", b"");
    assert_eq!((reply.status, reply.whole), (200, true), "{reply:?}");
    assert_eq!(reply.text(), "This response should include trailer fields.");
}

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A frame of a client: final, masked with zeros (RFC 6455 section 5.2), shorter than 126 bytes.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Opens a WebSocket through the proxy; the answer says whether it stands.
fn websocket(proxy: &Proxy, visitor: &Visitor, more: &str) -> (Wire, Reply) {
    let mut wire = Wire::connect(proxy.address);
    wire.send(visitor.request("GET", ECHO, &format!("Accept: */*\r\n{HANDSHAKE}{more}")));
    let head = wire.head();
    (wire, head)
}

#[test]
fn websockets_stand_for_whoever_is_inside() {
    let (_tomcat, proxy) = stage();
    let visitor = Visitor::inside(proxy.address, PAGE);
    let origin = "Origin: http://portal.example\r\nSec-Fetch-Dest: websocket\r\nSec-Fetch-Mode: websocket\r\n";
    for more in ["", origin] {
        let (mut wire, head) = websocket(&proxy, &visitor, more);
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for word in ["hello", "and again"] {
            wire.send(frame(1, word.as_bytes()));
            let echoed = wire.exactly(2 + word.len()).unwrap();
            assert_eq!(echoed[0], 0x81, "a text frame");
            assert_eq!(&echoed[2..], word.as_bytes());
        }
        wire.send(frame(8, &1000_u16.to_be_bytes()));
        assert_eq!(wire.rest().first(), Some(&0x88), "the portal agrees to close, and the tunnel ends");
    }
}

#[test]
fn a_websocket_needs_a_pass() {
    let (_tomcat, proxy) = stage();
    let mut stranger = Visitor::new(proxy.address);
    let forged = format!("Cookie: anticamera-pass-r={}\r\n", "A".repeat(104));
    for more in ["", "Sec-Fetch-Dest: websocket\r\nSec-Fetch-Mode: websocket\r\n", &forged] {
        let (_, head) = websocket(&proxy, &stranger, more);
        assert_ne!(head.status, 101, "with {more:?}");
        head.assert_personal();
    }
    stranger.get(PAGE);
    assert_eq!(websocket(&proxy, &stranger, "").1.status, 101, "but with one it stands");
}

/// The session's id as Tomcat knows it, asked for at the source: `None` when this Tomcat never heard of it.
fn knows(tomcat: &Tomcat, session: &str) -> bool {
    let mut direct = Visitor::new(tomcat.address());
    direct.cookies.insert("JSESSIONID".to_owned(), session.to_owned());
    direct.get(SESSIONS).cookie("JSESSIONID").is_none()
}

#[test]
fn with_two_portals_a_visitor_stays_with_one() {
    let (first, second) = (Tomcat::shared(), Tomcat::start());
    let proxy = setup(&[first.address(), second.address()]).start();
    let mut used = BTreeSet::new();
    for _ in 0..12 {
        let mut visitor = Visitor::inside(proxy.address, SESSIONS);
        let session = visitor.cookies["JSESSIONID"].clone();
        for _ in 0..6 {
            let reply = visitor.get(SESSIONS);
            assert_eq!(reply.cookie("JSESSIONID"), None, "went to the other one: {reply:?}");
            assert!(reply.text().contains(&session));
        }
        used.insert((knows(&first, &session), knows(&second, &session)));
    }
    assert_eq!(used, BTreeSet::from([(true, false), (false, true)]), "both serve, each its own visitors");
}
