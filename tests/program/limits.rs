//! Visitors who send too much, too slowly, or nonsense: every wait ends, every limit is told.

use std::thread;
use std::time::Duration;

use super::{Stage, until};
use crate::support::portal::{Script, Step};
use crate::support::wire::{Reply, Visitor, Wire};

const HEALTH: &str = "GET /.waiting-room/health HTTP/1.1\r\nHost: a\r\n\r\n";

fn impatient() -> Stage {
    Stage::with(|setup| {
        setup.limits = "first_byte_timeout = \"1s\"\nkeep_alive_timeout = \"1s\"\nhead_timeout = \"1s\"\nbody_idle_timeout = \"1s\"\nwrite_idle_timeout = \"1s\"\n\
                        max_head_bytes = \"16KiB\"\nmax_headers = 50"
            .to_owned();
    })
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let stage = impatient();
    let (mut silent, mut half, mut crawling) = (stage.connect(), stage.connect(), stage.connect());
    half.send("GET / HTTP/1.1\r\nHost: portal.exam");
    let sent = "GET / HTTP/1.1\r\nX-Slow: and slower".as_bytes().chunks(2).take_while(|piece| {
        thread::sleep(Duration::from_millis(150));
        crawling.try_send(piece)
    });
    assert!(sent.count() < 18, "each piece in time does not make the whole in time");
    for (name, wire) in [("silent", &mut silent), ("half", &mut half), ("crawling", &mut crawling)] {
        let said = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{name}: {said}");
    }
}

#[test]
fn a_connection_between_requests_is_kept_for_a_while() {
    let stage = impatient();
    let visitor = stage.insider();
    let mut wire = stage.begin(&visitor, "GET", "/", "");
    assert_eq!(wire.reply().status, 200);
    thread::sleep(Duration::from_millis(300));
    wire.send(visitor.request("GET", "/", ""));
    assert_eq!(wire.reply().status, 200);
    assert!(wire.is_closed());
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let stage = impatient();
    let visitor = stage.insider();
    let mut wire = stage.begin(&visitor, "POST", "/small", "Content-Length: 1000\r\n");
    wire.send("only a part");
    assert_eq!(wire.reply().status, 408);
    assert!(wire.is_closed(), "what still came would be taken for the next request");
    assert!(!stage.portal.seen().iter().any(|seen| seen.target == "/small"), "the portal has not heard of it");

    let mut wire = stage.begin(&visitor, "POST", "/large", "Content-Length: 1000000\r\n");
    wire.send([b'u'; 200_000]);
    let reply = wire.reply();
    assert_eq!(reply.status, 408, "{reply:?}");
    until("nothing is under way", || stage.metric("anticamera_portal_in_flight") == 0.0);
}

#[test]
fn whoever_takes_nothing_is_cut_off() {
    let stage = impatient();
    let head = Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 1000000000\r\n\r\n".to_vec());
    stage.portal.script("/endless", [Script::new([head, Step::Fill(1_000_000_000)])]);
    let visitor = stage.insider();
    let mut wire = Wire::connect_narrow(stage.proxy.address);
    wire.send(visitor.request("GET", "/endless", ""));
    assert_eq!(wire.head().status, 200);
    until("it is under way", || stage.metric("anticamera_portal_in_flight") == 1.0);
    until("nothing is under way", || stage.metric("anticamera_portal_in_flight") == 0.0);
    assert!(!wire.skip(999_000_000), "the answer did not come to its end");
}

#[test]
fn too_much_of_a_head_is_refused() {
    let stage = impatient();
    let visitor = stage.insider();
    let many: String = (0..60).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(40_000));
    let target = format!("/{}", "a".repeat(40_000));
    for (name, request) in [
        ("many", visitor.request("GET", "/", &many)),
        ("long", visitor.request("GET", "/", &long)),
        ("target", visitor.request("GET", &target, "")),
    ] {
        let mut wire = stage.connect();
        wire.send(request);
        let reply = wire.reply();
        assert!(matches!(reply.status, 431 | 414), "{name}: {reply:?}");
    }
    assert_eq!(stage.portal.seen().len(), 1, "the insider's first request only");
    let fits: String = (0..30).map(|number| format!("X-{number}: {}\r\n", "y".repeat(400))).collect();
    assert_eq!(stage.begin(&visitor, "GET", "/", &fits).reply().status, 200);
}

#[test]
fn nonsense_is_a_bad_request() {
    let stage = impatient();
    let mut wrong = Vec::new();
    for nonsense in [
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: nul\u{0}byte\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut wire = stage.connect();
        wire.send(nonsense);
        let said = wire.try_head();
        let closes = |head: &Reply| head.status == 400 && head.header("connection") == Some("close");
        if !said.as_ref().is_some_and(closes) {
            wrong.push((nonsense, said.map(|head| (head.status, head.header("connection").map(str::to_owned)))));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(stage.portal.seen().len(), 0, "{:?}", stage.portal.seen());
    assert_eq!(stage.insider().get("/").status, 200);
}

/// A message with both framings is the classic way to smuggle a request past a proxy (RFC 9112 section 6.3).
#[test]
fn two_framings_never_reach_the_portal() {
    let stage = impatient();
    let visitor = stage.insider();
    for both in [
        "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n",
        "Connection: Content-Length\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Transfer-Encoding\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let mut wire = stage.begin(&visitor, "POST", "/framed", both);
        wire.send("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: portal.example\r\n\r\n");
        let first = wire.head();
        assert!(matches!(first.status, 200 | 400), "{both}: {first:?}");
    }
    for seen in stage.portal.seen() {
        let smuggled = seen.target == "/smuggled" && seen.header("via").is_none();
        assert!(!smuggled, "a second message reached the portal under the first one's head");
        assert!(seen.header("content-length").is_none() || seen.header("transfer-encoding").is_none(), "{seen:?}");
        assert_eq!(seen.length, 0, "{seen:?}");
    }
}

fn three_that_are_served(stage: &Stage) -> Vec<Wire> {
    let mut held: Vec<Wire> = (0..3).map(|_| stage.connect()).collect();
    for wire in &mut held {
        wire.send(HEALTH);
        assert_eq!(wire.reply().status, 200);
    }
    held
}

fn one_more_is_refused(stage: &Stage) {
    let mut refused = stage.connect();
    refused.try_send(HEALTH);
    assert!(refused.try_head().is_none_or(|head| head.status == 503), "told, unless a reset was faster");
}

fn until_a_place_is_free(stage: &Stage) {
    until("a place is free", || {
        let mut wire = stage.connect();
        wire.try_send(HEALTH) && wire.try_head().is_some_and(|head| head.status == 200)
    });
}

#[test]
fn connections_are_limited() {
    let stage = Stage::with(|setup| setup.limits = "max_connections = 3".to_owned());
    let mut held = three_that_are_served(&stage);
    one_more_is_refused(&stage);
    until("operators have connections of their own", || stage.operator("GET", "/readyz").status == 200);
    held.pop();
    until_a_place_is_free(&stage);
    held[0].send(HEALTH);
    assert_eq!(held[0].reply().status, 200, "those who were here stay");
}

/// Upgraded connections are connections too.
#[test]
fn tunnels_count_as_connections() {
    let stage = Stage::with(|setup| setup.limits = "max_connections = 3".to_owned());
    let visitor = stage.insider();
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let mut tunnel = stage.begin(&visitor, "GET", "/ws", upgrade);
        assert_eq!(tunnel.head().status, 101);
        tunnel.send("ping");
        assert_eq!(tunnel.exactly(4).unwrap(), b"ping");
        tunnels.push(tunnel);
    }
    let mut refused = stage.connect();
    refused.try_send(HEALTH);
    assert!(refused.try_head().is_none_or(|head| head.status == 503), "a fourth connection beside three tunnels");
}

/// Each piece comes in time, and the whole would take for ever.
#[test]
fn a_body_that_trickles_is_not_waited_for() {
    let stage = Stage::with(|setup| setup.limits = "body_idle_timeout = \"1s\"\nmin_body_rate = \"1KiB\"".to_owned());
    let visitor = stage.insider();
    let mut wire = stage.begin(&visitor, "POST", "/small", "Content-Length: 1000\r\n");
    let sent = (0..100).take_while(|_| {
        thread::sleep(Duration::from_millis(100));
        wire.try_send("x")
    });
    assert!(sent.count() < 100, "somebody listened to all of it");
    let mut wire = stage.begin(&visitor, "POST", "/small", "Content-Length: 1000\r\n");
    for _ in 0..15 {
        thread::sleep(Duration::from_millis(100));
        if !wire.try_send("x") {
            break;
        }
    }
    assert_eq!(wire.reply().status, 408);
    assert!(!stage.portal.seen().iter().any(|seen| seen.target == "/small"), "the portal has not heard of it");
    let mut quick = stage.begin(&visitor, "POST", "/echo", "Content-Length: 5000\r\n");
    quick.send([b'x'; 2500]);
    thread::sleep(Duration::from_millis(500));
    quick.send([b'x'; 2500]);
    assert_eq!(quick.reply().status, 200);
}

#[test]
fn one_client_has_only_its_share_of_connections() {
    let stage = Stage::with(|setup| setup.limits = "max_connections_per_client = 3".to_owned());
    let mut held = three_that_are_served(&stage);
    one_more_is_refused(&stage);
    let mut neighbour = Wire::connect_from([127, 0, 0, 2].into(), stage.proxy.address);
    neighbour.send(HEALTH);
    assert_eq!(neighbour.reply().status, 200);
    held.pop();
    until_a_place_is_free(&stage);
}

#[test]
fn when_it_gets_crowded_those_who_only_wait_go_first() {
    let stage = Stage::with(|setup| setup.limits = "max_connections = 20\nidle_watermark = 5".to_owned());
    let visitor = stage.insider();
    let mut inside = stage.begin(&visitor, "GET", "/", "");
    assert_eq!(inside.reply().status, 200);
    let mut pollers: Vec<Wire> = (0..12).map(|_| stage.connect()).collect();
    for poller in &mut pollers {
        poller.send(HEALTH);
        assert_eq!(poller.reply().status, 200);
    }
    assert!(pollers.iter_mut().all(Wire::is_closed));
    inside.send(visitor.request("GET", "/", ""));
    assert_eq!(inside.reply().status, 200, "somebody inside keeps the connection");
}

#[test]
fn an_old_connection_is_told_to_go() {
    let stage = Stage::with(|setup| setup.limits = "max_connection_age = \"1s\"".to_owned());
    let mut wire = stage.connect();
    let asked = (0..100).find(|_| {
        thread::sleep(Duration::from_millis(100));
        wire.send(HEALTH);
        wire.reply().header("connection") == Some("close")
    });
    assert!(asked.is_some() && wire.is_closed());
}

/// With more cookies than a portal takes nobody would ever get any further: ours make room.
#[test]
fn too_many_cookies_are_refused_and_ours_taken_away() {
    let stage = Stage::new();
    let mut visitor = stage.insider();
    let reply = visitor.ask("GET", "/", &format!("Cookie: theirs={}\r\n", "x".repeat(17_000)), b"");
    assert_eq!(reply.status, 431);
    assert_eq!(reply.all("set-cookie"), ["anticamera-pass-r=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"]);
    assert_eq!((stage.portal.seen().len(), visitor.pass()), (1, None));
}

/// File descriptors run out: those who come are sent away, nobody inside notices, and it is over when they are back.
#[test]
fn running_out_of_descriptors_is_survived() {
    let stage = Stage::with(|setup| setup.portal = "keep_alive = \"60s\"".to_owned());
    let visitor = stage.insider();
    let mut inside = stage.begin(&visitor, "GET", "/", "");
    assert_eq!(inside.reply().status, 200);
    let process = stage.proxy.process_id();
    let taken = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let limit = |most: usize| {
        let given = std::process::Command::new("prlimit")
            .args(["--pid", &process.to_string(), &format!("--nofile={most}:")])
            .status();
        assert!(given.unwrap().success());
    };
    limit(taken + 8);
    let mut crowd: Vec<Wire> = (0..60).map(|_| stage.connect()).collect();
    stage.proxy.log().wait_for(|line| line.contains("could not be accepted"));
    inside.send(visitor.request("GET", "/", ""));
    assert_eq!(inside.reply().status, 200);
    assert!(crowd.last_mut().unwrap().is_closed(), "nobody waits for what does not come");
    drop(crowd);
    limit(1024);
    until("everybody is served again", || {
        let mut wire = stage.connect();
        wire.try_send(HEALTH) && wire.try_head().is_some_and(|head| head.status == 200)
    });
}

/// Whoever has to wait is told so before the body is sent.
#[test]
fn a_body_that_will_not_be_forwarded_is_not_asked_for() {
    let stage = Stage::with(|setup| setup.room = "state = \"hold\"".to_owned());
    let stranger = Visitor::new(stage.proxy.address);
    until("it is held", || stage.metric("anticamera_room_state{room=\"r\",state=\"hold\"}") == 1.0);
    let mut wire = stage.begin(&stranger, "POST", "/form", "Content-Length: 1000000\r\nExpect: 100-continue\r\n");
    let first = wire.head();
    assert_eq!(first.status, 503, "not 100: {first:?}");
    first.assert_personal();
}
