//! How it ends: SIGTERM lets everything under way come to its end; a kill leaves nobody outside.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::{Stage, until};
use crate::support::portal::{Script, Step, gate, hash};
use crate::support::wire::{Visitor, Wire};

#[test]
fn what_is_under_way_comes_to_its_end() {
    let mut stage = Stage::new();
    let (open, held) = gate();
    let answer = Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhello".to_vec());
    stage.portal.script("/held", [Script::new([held.clone(), answer])]);
    let begun = Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 100005\r\n\r\nbegun".to_vec());
    stage.portal.script("/begun", [Script::new([begun, held, Step::Fill(100_000)])]);
    let visitor = stage.insider();
    let mut waiting: Vec<Wire> = (0..8).map(|_| stage.begin(&visitor, "GET", "/held", "")).collect();
    let mut begun = stage.begin(&visitor, "GET", "/begun", "");
    assert_eq!(begun.head().status, 200);
    let mut idle = stage.begin(&visitor, "GET", "/", "");
    idle.reply();
    stage.arrived(11);
    let mut sending = stage.begin(&visitor, "POST", "/echo", "Content-Length: 200000\r\n");
    sending.send([b'a'; 100_000]);
    stage.arrived(12);

    stage.proxy.signal("TERM");
    assert!(idle.is_closed(), "a connection that only waits for a request is closed");
    until("nothing new is accepted", || TcpStream::connect(stage.proxy.address).is_err());
    sending.send([b'a'; 100_000]);
    assert_eq!(sending.reply().text(), format!("200000 {}", hash(&[b'a'; 200_000])));
    open.send(true).unwrap();
    for wire in &mut waiting {
        let reply = wire.reply();
        assert_eq!((reply.status, reply.text(), reply.whole), (200, "hello", true));
        assert_eq!(reply.header("connection"), Some("close"), "and the visitor is told to come anew");
        assert!(wire.is_closed());
    }
    assert_eq!(begun.exactly(100_005).map(|body| body.len()), Some(100_005));
    assert_eq!(stage.proxy.ended().code(), Some(0), "{}", stage.proxy.log().text());
    stage.proxy.log().wait_for(|line| line.contains("stopped"));
}

/// The system takes connections before the program does. Whoever it has let in is served, although the drain begins
/// before the program has heard of them.
#[test]
fn whoever_is_in_the_doorway_is_served() {
    let mut stage = Stage::new();
    let visitor = stage.insider();
    stage.proxy.signal("STOP");
    let mut wires: Vec<Wire> = (0..400).map(|_| stage.begin(&visitor, "GET", "/", "")).collect();
    stage.proxy.signal("TERM");
    stage.proxy.signal("CONT");
    for wire in &mut wires {
        assert_eq!(wire.try_head().map(|head| head.status), Some(200));
    }
    assert_eq!(stage.proxy.ended().code(), Some(0));
}

#[test]
fn it_does_not_wait_for_ever() {
    let mut stage = Stage::with(|setup| setup.limits = "drain_timeout = \"500ms\"".to_owned());
    stage.portal.script("/hangs", [Script::new([Step::Hang])]);
    let visitor = stage.insider();
    let mut hung = stage.begin(&visitor, "GET", "/hangs", "");
    let mut tunnel = stage.begin(&visitor, "GET", "/ws", "Connection: upgrade\r\nUpgrade: websocket\r\n");
    assert_eq!(tunnel.head().status, 101);
    stage.arrived(3);
    stage.proxy.signal("TERM");
    assert_eq!(stage.proxy.ended().code(), Some(0), "{}", stage.proxy.log().text());
    assert!(hung.is_closed() && tunnel.is_closed());
    stage.proxy.log().wait_for(|line| line.contains("drain_timeout"));
}

#[test]
fn whoever_was_inside_is_inside_after_a_kill() {
    let mut stage = Stage::new();
    let visitor = stage.insider();
    // What is durable within a second is durable after two.
    thread::sleep(Duration::from_secs(2));
    stage.proxy.kill();
    stage.proxy.restart();
    let mut again = Visitor::new(stage.proxy.address);
    again.cookies = visitor.cookies.clone();
    let reply = again.get("/");
    assert_eq!((reply.status, reply.all("set-cookie").len()), (200, 0), "{reply:?}");
    assert_eq!(again.pass(), visitor.pass());
}
