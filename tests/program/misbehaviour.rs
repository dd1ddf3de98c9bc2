//! A portal that misbehaves: what the visitor then gets is true, and the next visitor is served.

use std::net::TcpListener;

use super::{Stage, until};
use crate::support::portal::{Script, Step};
use crate::support::wire::{Visitor, Wire};

#[test]
fn half_an_answer_is_never_taken_for_a_whole_one() {
    let stage = Stage::new();
    let length = "HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n";
    let chunked = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n";
    let until_close = "HTTP/1.0 200 X\r\n\r\n";
    for (path, head, end) in [
        ("/length-reset", length, Step::Reset),
        ("/length-close", length, Step::Close),
        ("/chunked-reset", chunked, Step::Reset),
        ("/chunked-close", chunked, Step::Close),
        ("/until-close-reset", until_close, Step::Reset),
    ] {
        stage.portal.script(path, [Script::new([Step::Send(head.into()), Step::Fill(50_000), end])]);
        let mut wire = stage.begin(&stage.insider(), "GET", path, "");
        let reply = wire.reply();
        // A reset may destroy what had not been read: when nothing of the answer came, a 502 is as good.
        if reply.status != 502 {
            assert!(!reply.whole, "{path}: {} with {} bytes", reply.status, reply.body.len());
            assert!(wire.is_closed(), "{path}: the connection is broken off");
        }
    }
    assert_eq!(stage.insider().get("/").status, 200);
}

#[test]
fn garbage_is_a_bad_gateway() {
    let stage = Stage::new();
    for (path, answer) in [
        ("/words", "this is no HTTP\r\n\r\n"),
        ("/version", "HTTP/9.9 200 X\r\n\r\n"),
        ("/lengths", "HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("/length", "HTTP/1.1 200 X\r\nContent-Length: many\r\n\r\n"),
        ("/name", "HTTP/1.1 200 X\r\nBad Name: 1\r\nContent-Length: 0\r\n\r\n"),
        ("/unasked", "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("/nothing", ""),
    ] {
        stage.portal.script(path, [Script::new([Step::Send(answer.into()), Step::Close])]);
        let mut visitor = stage.insider();
        let reply = visitor.get(path);
        assert_eq!((reply.status, reply.whole), (502, true), "{path}: {reply:?}");
        reply.assert_personal();
        assert!(!reply.text().contains("127.0.0.1"), "the visitor does not read where the portal is");
        assert_eq!(visitor.get("/").status, 200, "after {path}");
    }
}

#[test]
fn a_silent_portal_is_a_gateway_timeout() {
    let stage = Stage::with(|setup| setup.portal = "first_byte_timeout = \"500ms\"".to_owned());
    stage.portal.script("/silent", [Script::new([Step::Hang])]);
    let mut visitor = stage.insider();
    let post = visitor.post("/silent", "a=1");
    assert_eq!((post.status, post.whole), (504, true));
    post.assert_personal();
    assert_eq!(stage.portal.seen().len(), 2, "nothing is sent twice");
    assert_eq!(visitor.get("/").status, 200);
    let script = visitor.ask("GET", "/silent", "Accept: application/json\r\n", b"");
    assert_eq!((script.status, script.header("content-type")), (504, Some("application/problem+json")));
}

#[test]
fn a_portal_that_stops_in_mid_answer_is_not_waited_for_for_ever() {
    let stage = Stage::with(|setup| setup.portal = "idle_timeout = \"500ms\"".to_owned());
    let begun = Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nbegun".to_vec());
    stage.portal.script("/stops", [Script::new([begun, Step::Hang])]);
    let reply = stage.begin(&stage.insider(), "GET", "/stops", "").reply();
    assert_eq!((reply.status, reply.body.as_slice(), reply.whole), (200, &b"begun"[..], false));
}

#[test]
fn nobody_at_the_portals_address_is_a_bad_gateway() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = Stage::with(|setup| setup.portals = vec![nobody]);
    let mut visitor = Visitor::new(stage.proxy.address);
    let reply = visitor.get("/");
    assert_eq!((reply.status, reply.whole), (502, true), "{reply:?}");
    reply.assert_personal();
    assert!(visitor.pass().is_some(), "whoever was let in keeps the pass");
    assert!(!reply.text().contains(&nobody.to_string()), "the visitor does not read where the portal is");
    stage.proxy.log().wait_for(|line| line.contains(&nobody.to_string()) && line.contains("WARN"));
    visitor.get("/");
    visitor.get("/");
    until("the portal counts as down", || stage.metric("anticamera_portal_healthy") == 0.0);
}

#[test]
fn an_early_answer_to_a_large_upload_arrives() {
    let stage = Stage::new();
    let too_large = Script::answer(413, "Connection: close\r\n", "no more than a little");
    stage.portal.script("/reads-on", [too_large.clone().early()]);
    stage.portal.script("/stops-reading", [too_large.deaf()]);
    let close = Step::Send(b"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".to_vec());
    stage.portal.script("/closes", [Script::new([close, Step::Close]).early()]);
    let visitor = stage.insider();
    for path in ["/reads-on", "/closes"] {
        let mut wire = stage.begin(&visitor, "POST", path, "Content-Length: 30000000\r\n");
        // Most clients send all of it before they read the answer.
        for _ in 0..300 {
            if !wire.try_send([b'u'; 100_000]) {
                break;
            }
        }
        let reply = wire.reply();
        assert_eq!((reply.status, reply.whole), (413, true), "{path}");
    }
    let mut wire = stage.begin(&visitor, "POST", "/stops-reading", "Content-Length: 30000000\r\n");
    wire.send([b'u'; 200_000]);
    let reply = wire.reply();
    assert_eq!((reply.status, reply.whole), (413, true));
    assert_eq!(stage.insider().get("/").status, 200);
}

/// The portal may say more than once that it is still there (RFC 9110 section 15.2); the answer is what counts.
#[test]
fn informational_answers_do_not_disturb_the_final_one() {
    let stage = Stage::new();
    let hints = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
                 HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhello";
    stage.portal.script("/hints", [Script::raw(hints)]);
    let visitor = stage.insider();
    let mut wire: Wire = stage.begin(&visitor, "GET", "/hints", "");
    let mut reply = wire.reply();
    while reply.status < 200 {
        reply = wire.reply();
    }
    assert_eq!((reply.status, reply.text()), (200, "hello"));
}
