//! HTTP/2 frame by frame, as no honest client sends them: what h2spec asks for, without it.
//!
//! By section of RFC 9113: connection preface (3.4), frame format and size (4.1, 4.2), compressed field sections (4.3),
//! stream states and identifiers (5.1, 5.1.1), self-dependency (5.3, now of RFC 7540), errors (5.4), extensions (5.5), DATA
//! (6.1), HEADERS (6.2), PRIORITY (6.3), RST_STREAM (6.4), SETTINGS and their values (6.5), PUSH_PROMISE (6.6), PING (6.7),
//! GOAWAY (6.8), WINDOW_UPDATE and its bounds (6.9), CONTINUATION (6.10), malformed messages (8.1.1), field names (8.2.1),
//! fields for one connection (8.2.2), pseudo-header fields (8.3, 8.3.1), and streams of CONTINUATION and of
//! acknowledgements that nobody asked for (10.5). Floods of PING, SETTINGS and PRIORITY, rapid resets, limits on streams and
//! windows that stay shut are tried in `http2`. Each case opens a connection of its own.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::app::{PATIENCE, Running, room_of};
use crate::support::portal::{Script, Step, gate};
use crate::support::tls::Authority;

const NAME: &str = "portal.example";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;
const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
/// What is wrong in itself (fields that cannot be decoded, a frame of another length, a value beyond its bounds): h2 says no
/// more than that the protocol was broken, and ends the connection all the same.
const FIELDS: [u32; 2] = [COMPRESSION_ERROR, PROTOCOL_ERROR];
const SIZE: [u32; 2] = [FRAME_SIZE_ERROR, PROTOCOL_ERROR];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that are not indexed (RFC 7541 section 6.2.2).
fn fields(lines: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    lines.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A request for a path, and more lines.
fn asking<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", path)];
    fields(&[&pseudo, more].concat())
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &asking("GET", path, &[]))
}

/// A request whose body is still to come.
fn uploading(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &asking("POST", "/echo", &[]))
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// What it is called, what is sent, and the codes that may be heard.
type Case<'a> = (&'a str, Vec<Vec<u8>>, &'a [u32]);

/// What the server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It answered on a stream.
    Answer(u32),
    /// It reset a stream with this code.
    Reset(u32, u32),
    /// It said goodbye with this code.
    Goodbye(u32),
    /// The connection ended.
    End,
}

/// A client that says what it is told.
struct Peer {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Peer {
    async fn send(&mut self, bytes: &[u8]) {
        // It may have been hung up on already.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    async fn begin(&mut self) {
        self.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    }

    /// The next frame's kind, flags, stream and payload.
    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.read.split_first_chunk::<9>() {
                let [a, b, c, kind, flags, stream @ ..] = *head;
                let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
                if let Some(payload) = rest.get(..length) {
                    let payload = payload.to_vec();
                    self.read.drain(..9 + length);
                    return Some((kind, flags, u32::from_be_bytes(stream), payload));
                }
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.expect("something happens");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn hear(&mut self) -> Heard {
        loop {
            let Some((kind, flags, stream, payload)) = self.frame().await else { return Heard::End };
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                HEADERS => return Heard::Answer(stream),
                RST_STREAM => return Heard::Reset(stream, code(0)),
                GOAWAY => return Heard::Goodbye(code(4)),
                SETTINGS if flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, &[])).await,
                _ => {}
            }
        }
    }

    async fn end(&mut self) {
        while self.hear().await != Heard::End {}
    }

    /// Another request is answered.
    async fn goes_on(&mut self, stream: u32, name: &str) {
        self.send(&get(stream, "/.waiting-room/health")).await;
        loop {
            match self.hear().await {
                Heard::Answer(answered) if answered == stream => return,
                Heard::Goodbye(_) | Heard::End => panic!("{name}: the connection ended"),
                _ => {}
            }
        }
    }
}

struct Stage {
    authority: Authority,
    running: Running,
}

async fn stage() -> Stage {
    let authority = Authority::new("tests");
    let entry = authority.server("portal", &[NAME]).entry("127.0.0.1:0", &[NAME], "");
    let running = room_of("1000/s").with_more(&entry).start().await;
    Stage { authority, running }
}

impl Stage {
    async fn peer(&self) -> Peer {
        let address = self.running.app.tls_addresses[0];
        let stream = self.authority.browser().connect(address, NAME, &["h2"]).await.unwrap();
        Peer { stream, read: Vec::new() }
    }

    /// Sends these frames, and hears what comes of it.
    async fn told(&self, frames: &[Vec<u8>]) -> (Peer, Heard) {
        let mut peer = self.peer().await;
        peer.begin().await;
        peer.send(&frames.concat()).await;
        let heard = peer.hear().await;
        (peer, heard)
    }

    /// What is wrong when these frames do not end the whole connection with one of these codes.
    async fn ends_the_connection(&self, name: &str, frames: &[Vec<u8>], codes: &[u32]) -> Option<String> {
        let (mut peer, heard) = self.told(frames).await;
        if !matches!(heard, Heard::Goodbye(code) if codes.contains(&code)) {
            return Some(format!("{name}: {heard:?} instead of a goodbye with {codes:?}"));
        }
        peer.end().await;
        None
    }

    /// What is wrong when these frames do not end the stream with this code and leave the connection as it is; it may end
    /// as well (RFC 9113 section 5.4.1).
    async fn ends_the_stream(&self, name: &str, frames: &[Vec<u8>], code: u32) -> Option<String> {
        let (mut peer, heard) = self.told(frames).await;
        match heard {
            Heard::Reset(1, found) if found == code => peer.goes_on(101, name).await,
            Heard::Goodbye(found) if found == code => peer.end().await,
            _ => return Some(format!("{name}: {heard:?} instead of a reset with {code}")),
        }
        None
    }
}

#[tokio::test]
async fn frames_that_no_connection_survives_end_it_with_their_code() {
    let stage = stage().await;
    let open = |frame: Vec<u8>| vec![uploading(1), frame];
    let only = |frame: Vec<u8>| vec![frame];
    let begun = frame(HEADERS, END_STREAM, 1, &asking("GET", "/malformed", &[])[..20]);
    let cases: Vec<Case<'_>> = vec![
        ("4.2 too large DATA", open(frame(DATA, 0, 1, &[0; 16_385])), &[FRAME_SIZE_ERROR]),
        ("4.2 too large HEADERS", only(frame(HEADERS, WHOLE, 1, &[0; 16_385])), &[FRAME_SIZE_ERROR]),
        ("4.3 no field section", only(frame(HEADERS, WHOLE, 1, b"\x40")), &FIELDS),
        ("4.3 no such index", only(frame(HEADERS, WHOLE, 1, b"\xff\xff\xff\x01")), &FIELDS),
        ("5.1 DATA on an idle stream", only(frame(DATA, END_STREAM, 1, b"x")), &[PROTOCOL_ERROR]),
        ("5.1 RST_STREAM on an idle stream", only(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])), &[PROTOCOL_ERROR]),
        ("5.1 WINDOW_UPDATE on an idle stream", only(window(1, 100)), &[PROTOCOL_ERROR]),
        ("5.1 CONTINUATION on an idle stream", only(frame(CONTINUATION, END_HEADERS, 1, b"")), &[PROTOCOL_ERROR]),
        ("5.1.1 an even stream", only(get(2, "/malformed")), &[PROTOCOL_ERROR]),
        ("5.1.1 a lower stream", vec![uploading(5), get(3, "/malformed")], &[PROTOCOL_ERROR, STREAM_CLOSED]),
        ("6.1 DATA on the connection", only(frame(DATA, 0, 0, b"x")), &[PROTOCOL_ERROR]),
        ("6.1 too much padding", open(frame(DATA, PADDED, 1, &[9, 1, 2, 3])), &[PROTOCOL_ERROR]),
        ("6.2 HEADERS on the connection", only(get(0, "/malformed")), &[PROTOCOL_ERROR]),
        ("6.2 too much padding", only(frame(HEADERS, WHOLE | PADDED, 1, &[200, 0])), &[PROTOCOL_ERROR]),
        ("6.3 PRIORITY on the connection", only(frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 9])), &[PROTOCOL_ERROR]),
        ("6.4 RST_STREAM on the connection", only(frame(RST_STREAM, 0, 0, &[0, 0, 0, 8])), &[PROTOCOL_ERROR]),
        ("6.4 a short RST_STREAM", open(frame(RST_STREAM, 0, 1, &[0, 0, 8])), &SIZE),
        ("6.5 an acknowledgement that says something", only(frame(SETTINGS, ACK, 0, &[0; 6])), &SIZE),
        ("6.5 SETTINGS on a stream", only(frame(SETTINGS, 0, 1, &[])), &[PROTOCOL_ERROR]),
        ("6.5 short SETTINGS", only(frame(SETTINGS, 0, 0, &[0; 5])), &SIZE),
        ("6.5.2 push that is neither on nor off", only(setting(2, 2)), &[PROTOCOL_ERROR]),
        ("6.5.2 too large a window", only(setting(4, 1 << 31)), &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ("6.5.2 too small a frame", only(setting(5, 16_383)), &[PROTOCOL_ERROR]),
        ("6.5.2 too large a frame", only(setting(5, 1 << 24)), &[PROTOCOL_ERROR]),
        ("6.6 PUSH_PROMISE of a client", open(frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])), &[PROTOCOL_ERROR]),
        ("6.7 PING on a stream", only(frame(PING, 0, 1, &[0; 8])), &[PROTOCOL_ERROR]),
        ("6.7 a short PING", only(frame(PING, 0, 0, &[0; 6])), &SIZE),
        ("6.8 GOAWAY on a stream", only(frame(GOAWAY, 0, 1, &[0; 8])), &[PROTOCOL_ERROR]),
        ("6.9 a window that grows by nothing", only(window(0, 0)), &[PROTOCOL_ERROR]),
        ("6.9 a short WINDOW_UPDATE", only(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])), &SIZE),
        ("6.9.1 a window beyond its bound", only(window(0, (1 << 31) - 1)), &[FLOW_CONTROL_ERROR]),
        (
            "6.10 CONTINUATION after nothing",
            vec![uploading(1), frame(CONTINUATION, END_HEADERS, 1, b"")],
            &[PROTOCOL_ERROR],
        ),
        (
            "6.10 CONTINUATION on the connection",
            vec![begun.clone(), frame(CONTINUATION, END_HEADERS, 0, b"")],
            &[PROTOCOL_ERROR],
        ),
        (
            "6.10 CONTINUATION of another stream",
            vec![begun.clone(), frame(CONTINUATION, END_HEADERS, 3, b"")],
            &[PROTOCOL_ERROR],
        ),
        ("6.10 PING within a field section", vec![begun.clone(), frame(PING, 0, 0, &[0; 8])], &[PROTOCOL_ERROR]),
        ("6.10 HEADERS within a field section", vec![begun, get(3, "/malformed")], &[PROTOCOL_ERROR]),
    ];
    let mut wrong = Vec::new();
    for (name, frames, codes) in cases {
        wrong.extend(stage.ends_the_connection(name, &frames, codes).await);
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(stage.running.portal.seen().iter().all(|seen| seen.target != "/malformed"));
}

#[tokio::test]
async fn malformed_requests_end_their_stream_and_never_reach_the_portal() {
    let stage = stage().await;
    let [method, scheme, authority, path] =
        [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/malformed")];
    let head = |fields: Vec<u8>| vec![frame(HEADERS, WHOLE, 1, &fields)];
    let with = |name: &str, value: &str| head(asking("GET", "/malformed", &[(name, value)]));
    let posting = |length: &str, body: &[u8]| {
        let fields = asking("POST", "/malformed", &[("content-length", length)]);
        vec![frame(HEADERS, END_HEADERS, 1, &fields), frame(DATA, END_STREAM, 1, body)]
    };
    let on_itself = [&[0, 0, 0, 1, 9], asking("GET", "/malformed", &[]).as_slice()].concat();
    let trailers = |flags, lines: &[(&str, &str)]| vec![uploading(1), frame(HEADERS, flags, 1, &fields(lines))];
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("5.3.1 a stream that depends on itself", vec![frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &on_itself)]),
        ("8.2.1 an upper-case name", with("X-Upper", "1")),
        ("8.2.2 connection", with("connection", "close")),
        ("8.2.2 keep-alive", with("keep-alive", "5")),
        ("8.2.2 proxy-connection", with("proxy-connection", "close")),
        ("8.2.2 transfer-encoding", with("transfer-encoding", "chunked")),
        ("8.2.2 upgrade", with("upgrade", "h2c")),
        ("8.2.2 te", with("te", "trailers, gzip")),
        ("8.3 an unknown pseudo-header field", with(":unknown", "1")),
        ("8.3 one of an answer", with(":status", "200")),
        ("8.3 one after a field", head(fields(&[method, scheme, authority, ("x-a", "1"), path]))),
        ("8.3.1 no method", head(fields(&[scheme, authority, path]))),
        ("8.3.1 no scheme", head(fields(&[method, authority, path]))),
        ("8.3.1 no path", head(fields(&[method, scheme, authority]))),
        ("8.3.1 an empty path", head(fields(&[method, scheme, authority, (":path", "")]))),
        ("8.3.1 two methods", head(fields(&[method, method, scheme, authority, path]))),
        ("8.3.1 two schemes", head(fields(&[method, scheme, scheme, authority, path]))),
        ("8.3.1 two paths", head(fields(&[method, scheme, authority, path, path]))),
        ("8.1 trailers that do not end the stream", trailers(END_HEADERS, &[("x-trailer", "1")])),
        ("8.1.1 a length without a body", with("content-length", "1")),
        ("8.1.1 a body longer than its length", posting("1", b"four")),
        ("8.1.1 a body shorter than its length", posting("10", b"four")),
    ];
    let mut wrong = Vec::new();
    for (name, frames) in cases {
        wrong.extend(stage.ends_the_stream(name, &frames, PROTOCOL_ERROR).await);
    }
    for (name, frames, code) in [
        ("6.9 a stream's window that grows by nothing", window(1, 0), PROTOCOL_ERROR),
        ("6.9.1 a stream's window beyond its bound", window(1, (1 << 31) - 1), FLOW_CONTROL_ERROR),
    ] {
        wrong.extend(stage.ends_the_stream(name, &[uploading(1), frames], code).await);
    }
    assert_eq!(wrong, Vec::<String>::new());
    let whole = |seen: &crate::support::portal::Seen| seen.target == "/malformed" && seen.hash.is_some();
    assert!(!stage.running.portal.seen().iter().any(whole), "none was taken for whole");
}

#[tokio::test]
async fn nothing_follows_the_end_of_a_stream() {
    let stage = stage().await;
    for (name, late) in [
        ("DATA", frame(DATA, END_STREAM, 1, b"late")),
        ("HEADERS", frame(HEADERS, WHOLE, 1, &asking("GET", "/late", &[]))),
        ("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, b"")),
    ] {
        // The stream is half closed: its answer is still to come.
        let (open, wait) = gate();
        let answer = Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n".to_vec());
        stage.running.portal.script("/slow", [Script::new([wait, answer.clone()])]);
        let (mut peer, heard) = stage.told(&[get(1, "/slow"), late.clone()]).await;
        let is_refused = match heard {
            Heard::Reset(1, code) | Heard::Goodbye(code) => [STREAM_CLOSED, PROTOCOL_ERROR].contains(&code),
            _ => false,
        };
        assert!(is_refused, "{name} after the request's end: {heard:?}");
        open.send(true).unwrap();
        // And the stream is closed.
        let mut closed = stage.peer().await;
        closed.begin().await;
        closed.goes_on(1, name).await;
        while !matches!(closed.frame().await, Some((DATA, flags, 1, _)) if flags & END_STREAM != 0) {}
        closed.send(&late).await;
        let heard = closed.hear().await;
        let is_refused = match heard {
            Heard::Reset(1, code) | Heard::Goodbye(code) => [STREAM_CLOSED, PROTOCOL_ERROR].contains(&code),
            _ => false,
        };
        assert!(is_refused, "{name} after the stream's end: {heard:?}");
        drop(peer.stream.shutdown().await);
    }
    assert!(stage.running.portal.seen().iter().all(|seen| seen.target != "/late"));
}

#[tokio::test]
async fn what_only_costs_work_ends_the_connection() {
    let stage = stage().await;
    // A field section that never ends (CVE-2024-27316), and acknowledgements of nothing.
    let begun = frame(HEADERS, END_STREAM, 1, &asking("GET", "/malformed", &[]));
    let more = frame(CONTINUATION, 0, 1, &fields(&[("x-more", "0123456789")]));
    for (name, first, again) in
        [("CONTINUATION", begun, more), ("acknowledgements", Vec::new(), frame(SETTINGS, ACK, 0, &[]))]
    {
        let mut peer = stage.peer().await;
        peer.begin().await;
        peer.send(&first).await;
        let (mut reading, mut writing) = tokio::io::split(peer.stream);
        let many = again.repeat(1000);
        let flood = tokio::spawn(async move { while writing.write_all(&many).await.is_ok() {} });
        let mut sink = Vec::new();
        let _ = timeout(PATIENCE, reading.read_to_end(&mut sink)).await.expect(name);
        timeout(PATIENCE, flood).await.expect(name).unwrap();
    }
    assert!(stage.running.portal.seen().iter().all(|seen| seen.target != "/malformed"));
}

#[tokio::test]
async fn what_is_unknown_is_passed_over_and_what_is_allowed_goes_on() {
    let stage = stage().await;
    for (name, frames) in [
        ("4.1 an unknown flag and reserved bit", frame(PING, 0x16, 1 << 31, &[0; 8])),
        ("5.5 an unknown kind of frame", frame(0x16, 0xff, 0, &[0; 8])),
        ("6.3 PRIORITY on an idle stream", frame(PRIORITY, 0, 9, &[0, 0, 0, 3, 9])),
        ("6.5.2 an unknown setting", setting(0xff, 7)),
        ("6.9.2 no window at first, then one", [setting(4, 0), setting(4, 65_535)].concat()),
    ] {
        let mut peer = stage.peer().await;
        peer.begin().await;
        peer.send(&frames).await;
        peer.goes_on(1, name).await;
    }
    // Padded, with a priority, and cut into pieces.
    let whole = asking("GET", "/.waiting-room/health", &[]);
    let (one, rest) = whole.split_at(10);
    let (two, three) = rest.split_at(7);
    let first = [&[3, 0, 0, 0, 0, 9], one, &[0; 3]].concat();
    let frames = [
        frame(HEADERS, END_STREAM | PADDED | WITH_PRIORITY, 1, &first),
        frame(CONTINUATION, 0, 1, two),
        frame(CONTINUATION, END_HEADERS, 1, three),
    ];
    assert_eq!(stage.told(&frames).await.1, Heard::Answer(1));
}

/// One among the trailers is malformed (section 8.1); h2 drops it, and the portal never sees it.
#[tokio::test]
async fn pseudo_header_fields_among_trailers_reach_nobody() {
    let stage = stage().await;
    let (_, heard) = stage.told(&[uploading(1), frame(HEADERS, WHOLE, 1, &fields(&[(":path", "/other")]))]).await;
    assert!(matches!(heard, Heard::Answer(1) | Heard::Reset(1, PROTOCOL_ERROR)), "{heard:?}");
    for seen in stage.running.portal.seen() {
        assert_eq!((seen.target.as_str(), seen.trailers.len()), ("/echo", 0));
    }
}

/// Who says goodbye gets the answers to what was asked before (RFC 9113 section 6.8).
#[tokio::test]
async fn a_goodbye_of_the_visitor_lets_answers_come() {
    let stage = stage().await;
    let (open, wait) = gate();
    let answer = Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n".to_vec());
    stage.running.portal.script("/slow", [Script::new([wait, answer])]);
    let mut peer = stage.peer().await;
    peer.begin().await;
    peer.send(&[get(1, "/slow"), frame(GOAWAY, 0, 0, &[0; 8])].concat()).await;
    stage.running.portal.arrived(1).await;
    open.send(true).unwrap();
    assert_eq!(peer.hear().await, Heard::Answer(1));
    peer.end().await;
}

#[tokio::test]
async fn who_does_not_begin_as_http_2_does_is_hung_up_on() {
    let stage = stage().await;
    for begins in [b"GET / HTTP/1.1\r\nHost: portal.example\r\n\r\n".as_slice(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let mut peer = stage.peer().await;
        peer.send(begins).await;
        peer.end().await;
    }
    assert!(stage.running.portal.seen().is_empty());
}
