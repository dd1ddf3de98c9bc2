//! Bodies on their way: large ones at constant memory, slow ones without holding the portal, events at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::{Stage, metric, until};
use crate::support::portal::{Script, Step, gate, hash};
use crate::support::process::Setup;
use crate::support::wire::{Visitor, Wire};

/// What large bodies are made of, over and over.
const BLOCK: usize = 1 << 20;

/// Resident memory may grow by so much, whatever passes.
const GROWTH: u64 = 64 << 20;

/// A gigabyte each way in the full run.
#[test]
fn large_bodies_pass_at_constant_memory() {
    let blocks = if std::env::var_os("ANTICAMERA_FULL").is_some() { 1024 } else { 256 };
    let proxy = Setup { paths: "/**", ..Setup::in_front_of(&[bulk_portal()]) }.start();
    let visitor = Visitor::inside(proxy.address, "/down/0");
    let before = proxy.memory();
    let block = block();

    let mut wire = Wire::connect(proxy.address);
    wire.send(visitor.request("POST", "/up", &format!("Content-Length: {}\r\n", blocks * BLOCK)));
    (0..blocks).for_each(|_| wire.send(&block));
    assert_eq!(wire.reply().text(), format!("{blocks} blocks as they were sent"));
    let between = proxy.memory();

    wire.send(visitor.request("GET", &format!("/down/{blocks}"), ""));
    assert_eq!(wire.head().status, 200);
    for number in 0..blocks {
        assert!(wire.exactly(BLOCK).unwrap() == block, "block {number}");
    }
    let after = proxy.memory();
    println!("{blocks} MiB each way; resident before {before:?}, after the upload {between:?}, at the end {after:?}");
    assert!(after.peak < before.now + GROWTH, "{before:?} {after:?}");
}

/// Those who take nothing are the worst: what was read ahead for them waits in memory.
#[test]
fn many_who_take_nothing_cost_bounded_memory() {
    let proxy = Setup { paths: "/**", ..Setup::in_front_of(&[bulk_portal()]) }.start();
    let visitor = Visitor::inside(proxy.address, "/down/0");
    let before = proxy.memory();
    let mut wires: Vec<Wire> = (0..40).map(|_| Wire::connect_narrow(proxy.address)).collect();
    for wire in &mut wires {
        wire.send(visitor.request("GET", "/down/64", ""));
        assert_eq!(wire.head().status, 200);
    }
    until("everybody is being served", || metric(&proxy, "anticamera_portal_in_flight") == 40.0);
    // Long enough to read all of it, if anything did.
    thread::sleep(std::time::Duration::from_secs(1));
    let after = proxy.memory();
    println!("40 who take nothing of 64 MiB each: resident before {before:?}, at the end {after:?}");
    assert!(after.peak < before.now + GROWTH, "{before:?} {after:?}");
}

fn block() -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(BLOCK).collect()
}

/// `/up` compares what comes with the blocks it should be; `/down/N` sends so many blocks.
fn bulk_portal() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The other side may break off at any time.
            thread::spawn(move || drop(converse(&stream)));
        }
    });
    address
}

fn converse(mut stream: &TcpStream) -> std::io::Result<()> {
    let block = block();
    let mut reader = BufReader::with_capacity(BLOCK, stream);
    while let Some((target, length)) = read_head(&mut reader)? {
        if let Some(count) = target.strip_prefix("/down/") {
            let count: usize = count.parse().unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", count * BLOCK)?;
            (0..count).try_for_each(|_| stream.write_all(&block))?;
            continue;
        }
        let (mut came, mut same) = (vec![0; BLOCK], 0);
        for _ in 0..length / BLOCK {
            reader.read_exact(&mut came)?;
            same += usize::from(came == block);
        }
        let told = format!("{same} blocks as they were sent");
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len())?;
    }
    Ok(())
}

/// Target and length of the next request.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<(String, usize)>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(target) = line.split(' ').nth(1).map(str::to_owned) else { return Ok(None) };
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    Ok(Some((target, length)))
}

#[test]
fn trailers_pass_both_ways() {
    let stage = Stage::new();
    let answer = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum, ETag\r\n\r\n\
                  5\r\nhello\r\n0\r\nX-Checksum: 7\r\nETag: \"personal\"\r\n\r\n";
    stage.portal.script("/t", [Script::raw(answer)]);
    let visitor = stage.insider();
    let more = "Transfer-Encoding: chunked\r\nTrailer: X-Signature, Cookie, Waiting-Room-Pass\r\nTE: trailers\r\n";
    let mut wire = stage.begin(&visitor, "POST", "/t", more);
    wire.send("3\r\nabc\r\n0\r\nX-Signature: 9\r\nCookie: smuggled=1\r\nWaiting-Room-Pass: forged\r\n\r\n");
    let reply = wire.reply();
    assert_eq!((reply.text(), reply.whole), ("hello", true));
    assert_eq!(reply.trailers, [("x-checksum".to_owned(), "7".to_owned())]);
    let seen = stage.portal.one("/t");
    assert_eq!(seen.trailers, [("x-signature".to_owned(), "9".to_owned())]);
}

#[test]
fn bodies_arrive_unchanged_in_either_framing() {
    let stage = Stage::new();
    let visitor = stage.insider();
    for size in [1, 4096, 65_535, 65_536, 65_537, 700_000] {
        let body: Vec<u8> = (0..size).map(|at: u32| at.to_be_bytes()[3] ^ at.to_be_bytes()[2]).collect();
        let expected = format!("{size} {}", hash(&body));
        let mut wire = stage.begin(&visitor, "POST", "/echo", &format!("Content-Length: {size}\r\n"));
        wire.send(&body);
        assert_eq!(wire.reply().text(), expected, "length-framed");
        wire.send(visitor.request("POST", "/echo", "Transfer-Encoding: chunked\r\n"));
        for piece in body.chunks(9999) {
            wire.send(format!("{:X};ext=1\r\n", piece.len()));
            wire.send(piece);
            wire.send("\r\n");
        }
        wire.send("0\r\n\r\n");
        assert_eq!(wire.reply().text(), expected, "chunked");
    }
}

#[test]
fn events_arrive_at_once() {
    let stage = Stage::new();
    let (open, held) = gate();
    let head = "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let event = |text: &str| Step::Send(format!("{:x}\r\ndata: {text}\n\n\r\n", text.len() + 8).into_bytes());
    let end = Step::Send(b"0\r\n\r\n".to_vec());
    let steps = [Step::Send(head.into()), event("one"), held, event("two"), end];
    stage.portal.script("/events", [Script::new(steps)]);
    let visitor = stage.insider();
    let mut wire = stage.begin(&visitor, "GET", "/events", "Accept: text/event-stream\r\n");
    assert_eq!(wire.head().status, 200);
    assert_eq!(wire.chunk().unwrap(), b"data: one\n\n");
    // The portal says no more until the first event is here.
    open.send(true).unwrap();
    assert_eq!(wire.chunk().unwrap(), b"data: two\n\n");
    assert_eq!(wire.chunk().unwrap(), b"");
}

fn one_at_a_time() -> Stage {
    Stage::with(|setup| setup.portal = "max_in_flight = 1\nqueue_timeout = \"10s\"".to_owned())
}

#[test]
fn whoever_reads_slowly_does_not_hold_the_portal() {
    let stage = one_at_a_time();
    let visitor = stage.insider();
    let before = stage.portal.sent();
    let mut wire = Wire::connect_narrow(stage.proxy.address);
    wire.send(visitor.request("GET", "/bytes/200000", ""));
    until("the portal has given its whole answer", || stage.portal.sent() > before + 200_000);
    // The one slot is free again although the first answer has not been read.
    assert_eq!(stage.insider().get("/other").status, 200);
    let reply = wire.reply();
    assert_eq!((reply.body.len(), reply.whole), (200_000, true));
}

#[test]
fn whoever_sends_slowly_does_not_hold_the_portal() {
    let stage = one_at_a_time();
    let visitor = stage.insider();
    let mut wire = stage.begin(&visitor, "POST", "/echo", "Content-Length: 50000\r\n");
    wire.send([b'a'; 40_000]);
    for _ in 0..3 {
        assert_eq!(stage.insider().get("/other").status, 200);
    }
    assert!(!stage.portal.seen().iter().any(|seen| seen.target == "/echo"), "the portal has not heard of it");
    wire.send([b'a'; 10_000]);
    assert_eq!(wire.reply().text(), format!("50000 {}", hash(&[b'a'; 50_000])));
}

#[test]
fn whoever_goes_away_frees_the_portal() {
    let stage = Stage::new();
    let visitor = stage.insider();
    let head = Step::Send(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec());
    stage.portal.script("/begun", [Script::new([head, Step::Hang])]);
    stage.portal.script("/silent", [Script::new([Step::Hang])]);
    let silent = stage.begin(&visitor, "GET", "/silent", "");
    let mut begun = stage.begin(&visitor, "GET", "/begun", "");
    begun.head();
    stage.arrived(3);
    until("both are under way", || stage.metric("anticamera_portal_in_flight") == 2.0);
    silent.reset();
    drop(begun);
    until("nothing is under way", || stage.metric("anticamera_portal_in_flight") == 0.0);
}
