//! HTTP/2 as visitors meet it: the same rules as over HTTP/1.1, and an end to whatever only keeps us busy.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::app::{PATIENCE, Running, Setup, own, room_of};
use crate::support::portal::{Script, gate};
use crate::support::tls::{Authority, ask, page};

const NAME: &str = "portal.example";

struct Stage {
    authority: Authority,
    running: Running,
}

async fn stage() -> Stage {
    stage_of(room_of("1000/s")).await
}

async fn stage_of(setup: Setup) -> Stage {
    let authority = Authority::new("tests");
    let entry = authority.server("portal", &[NAME]).entry("127.0.0.1:0", &[NAME], "");
    let running = setup.with_more(&entry).start().await;
    Stage { authority, running }
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;
type Streams = h2::client::SendRequest<Bytes>;

impl Stage {
    fn tls(&self) -> SocketAddr {
        self.running.app.tls_addresses[0]
    }

    async fn connect(&self) -> Sender {
        self.authority.browser().http2(self.tls(), NAME).await.unwrap()
    }

    /// A connection on which streams and frames can be seen, and what became of it.
    async fn streams(&self, builder: h2::client::Builder) -> (Streams, tokio::task::JoinHandle<Result<(), h2::Error>>) {
        let stream = self.authority.browser().connect(self.tls(), NAME, &["h2"]).await.unwrap();
        let (streams, connection) = builder.handshake(stream).await.unwrap();
        (streams.ready().await.unwrap(), tokio::spawn(connection))
    }

    fn seen(&self, target: &str) -> HeaderMap {
        let seen = self.running.portal.one(target);
        let mut headers = HeaderMap::new();
        for (name, value) in &seen.headers {
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }
}

/// A connection that was told to end does, though its own last word may find nobody there.
#[track_caller]
fn assert_proper(ended: Result<(), h2::Error>) {
    assert!(ended.as_ref().err().is_none_or(h2::Error::is_io), "{ended:?}");
}

fn asking(path: &str) -> http::request::Builder {
    Request::get(format!("https://{NAME}{path}")).header("accept", "text/html")
}

fn empty(builder: http::request::Builder) -> Request<Full<Bytes>> {
    builder.body(Full::default()).unwrap()
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let stage = stage().await;
    let sender = stage.connect().await;
    let (open, wait) = gate();
    let answer = crate::support::portal::Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\nlate".to_vec());
    stage.running.portal.script("/slow", [Script::new([wait, answer])]);
    let slow = tokio::spawn({
        let mut sender = sender.clone();
        async move { ask(&mut sender, page(NAME, "/slow")).await }
    });
    let others: Vec<_> = (0..20)
        .map(|number| {
            let mut sender = sender.clone();
            tokio::spawn(async move { ask(&mut sender, page(NAME, &format!("/fair/{number}"))).await })
        })
        .collect();
    for other in others {
        assert_eq!(other.await.unwrap().status, 200);
    }
    assert!(!slow.is_finished());
    open.send(true).unwrap();
    assert_eq!(slow.await.unwrap().body, "late");
}

#[tokio::test]
async fn the_portal_gets_plain_http_1_1() {
    let stage = stage().await;
    let mut sender = stage.connect().await;
    let request = asking("/crumbs?a=1").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
    let request = request.header("te", "trailers").header("x-forwarded-for", "6.6.6.6").header("x-mine", "kept");
    assert_eq!(ask(&mut sender, empty(request)).await.status, 200);
    let seen = stage.seen("/crumbs?a=1");
    assert_eq!(seen.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    assert_eq!(
        (&seen["host"], &seen["via"], &seen["x-mine"]),
        (&"portal.example".parse().unwrap(), &"2 anticamera".parse().unwrap(), &"kept".parse().unwrap())
    );
    assert_eq!(
        (&seen["x-forwarded-for"], &seen["x-forwarded-proto"]),
        (&"127.0.0.1".parse().unwrap(), &"https".parse().unwrap())
    );
}

#[tokio::test]
async fn bodies_go_both_ways() {
    let stage = stage().await;
    let mut sender = stage.connect().await;
    for length in [1, 70_000, 3_000_000] {
        let body = Bytes::from(vec![b'x'; length]);
        let request = Request::post(format!("https://{NAME}/echo")).body(Full::new(body)).unwrap();
        let got = ask(&mut sender, request).await;
        assert!(got.status == 200 && String::from_utf8_lossy(&got.body).contains(&length.to_string()), "{got:?}");
        let got = ask(&mut sender, page(NAME, &format!("/bytes/{length}"))).await;
        assert_eq!((got.status, got.body.len()), (200, length));
    }
}

#[tokio::test]
async fn a_line_is_joined_polled_and_entered() {
    let stage = stage_of(room_of("1/s").with("entry = \"page\"")).await;
    let mut sender = stage.connect().await;
    let got = ask(&mut sender, page(NAME, "/fair/x")).await;
    assert_eq!((got.status, got.cookies().len()), (503, 0), "the page is nobody's");
    let join = Request::post(format!("https://{NAME}{}", own("join"))).header("sec-fetch-site", "same-origin");
    let joined = ask(&mut sender, empty(join.header("sec-fetch-dest", "empty"))).await;
    assert_eq!(joined.status, 200, "{joined:?}");
    let ticket = joined.cookies().into_iter().find_map(|line| line.split(';').next()).unwrap().to_owned();
    assert!(ticket.starts_with("__Host-anticamera-"), "{ticket}");
    stage.running.seconds(3).await;
    let got = ask(&mut sender, empty(asking("/fair/x").header("cookie", ticket))).await;
    assert_eq!((got.status, &got.body[..]), (200, b"hello".as_slice()), "{got:?}");
}

#[tokio::test]
async fn requests_that_would_not_survive_translation_are_refused() {
    let stage = stage().await;
    let mut sender = stage.connect().await;
    let got = ask(&mut sender, empty(asking("/two-hosts").header("host", "other.example"))).await;
    assert_eq!(got.status, 400);
    assert_eq!(ask(&mut sender, empty(asking("/same-host").header("host", "PORTAL.example"))).await.status, 200);
    let many = (0..150).fold(asking("/many"), |request, number| request.header(format!("x-{number}"), "1"));
    assert_eq!(ask(&mut sender, empty(many)).await.status, 431);
    let cookies = (0..200)
        .fold(asking("/cookies"), |request, number| request.header("cookie", format!("c{number}={}", "x".repeat(90))));
    let cookies = cookies.header("cookie", "__Host-anticamera-pass-fair=x").header("cookie", "anticamera-ticket-a=y");
    let got = ask(&mut sender, empty(cookies)).await;
    assert_eq!(got.status, 431);
    let mut taken: Vec<&str> = got.cookies().into_iter().filter_map(|line| line.split('=').next()).collect();
    taken.sort_unstable();
    assert_eq!(taken, ["__Host-anticamera-pass-fair", "anticamera-ticket-a"]);
    let targets: Vec<String> = stage.running.portal.seen().into_iter().map(|seen| seen.target).collect();
    assert!(!["/two-hosts", "/many", "/cookies"].iter().any(|refused| targets.contains(&(*refused).to_owned())));
    let connect = Request::connect(format!("{NAME}:443")).body(Full::default()).unwrap();
    let refused = timeout(PATIENCE, sender.send_request(connect)).await.unwrap();
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status().is_client_error()));
}

/// HTTP/2 has no fields for one connection (RFC 9113 section 8.2.2), and an upper-case name or two lengths are malformed:
/// the stream ends, the connection goes on.
#[tokio::test]
async fn malformed_requests_end_their_stream_only() {
    let stage = stage().await;
    let (streams, _) = stage.streams(h2::client::Builder::new()).await;
    for (name, value) in [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("upgrade", "h2c")]
    {
        let mut streams = streams.clone().ready().await.unwrap();
        let request = Request::get(format!("https://{NAME}/malformed")).header(name, value).body(()).unwrap();
        let Ok((answer, _)) = streams.send_request(request, true) else { continue };
        let refused = timeout(PATIENCE, answer).await.unwrap();
        assert!(
            refused.as_ref().is_err_and(|error| error.reason() == Some(Reason::PROTOCOL_ERROR)),
            "{name}: {refused:?}"
        );
    }
    let mut streams = streams.ready().await.unwrap();
    let (answer, _) = streams.send_request(page(NAME, "/").map(|_| ()), true).unwrap();
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), 200);
    assert!(stage.running.portal.seen().iter().all(|seen| seen.target != "/malformed"));
}

/// The waiting page answers a long upload at once; the rest of it is not asked for.
#[tokio::test]
async fn an_early_answer_ends_the_upload_without_an_error() {
    let stage = stage_of(room_of("1/s").with("state = \"hold\"")).await;
    let (mut streams, _) = stage.streams(h2::client::Builder::new()).await;
    let request = Request::post(format!("https://{NAME}/fair/form")).header("accept", "text/html").body(()).unwrap();
    let (answer, mut upload) = streams.send_request(request, false).unwrap();
    upload.send_data(Bytes::from_static(b"a beginning"), false).unwrap();
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), 503);
    let reset = timeout(PATIENCE, std::future::poll_fn(|cx| upload.poll_reset(cx))).await.expect("a reset").unwrap();
    assert_eq!(reset, Reason::NO_ERROR);
}

#[tokio::test]
async fn streams_are_limited() {
    let stage = stage_of(room_of("1000/s").with_limits("http2_max_streams = 5")).await;
    let (streams, _) = stage.streams(h2::client::Builder::new()).await;
    let mut health = streams.clone().ready().await.unwrap();
    let (answer, _) = health.send_request(page(NAME, "/.waiting-room/health").map(|_| ()), true).unwrap();
    answer.await.unwrap();
    assert_eq!(streams.current_max_send_streams(), 5);
}

/// A visitor who opens no window holds neither the portal nor us.
#[tokio::test]
async fn whoever_takes_nothing_of_an_answer_is_reset_and_the_others_go_on() {
    let stage = stage_of(
        room_of("1000/s").with_limits("write_idle_timeout = \"1s\"").with_portal("response_buffer = \"64KiB\""),
    )
    .await;
    let (streams, _) = stage.streams(h2::client::Builder::new()).await;
    let mut taking = streams.clone().ready().await.unwrap();
    let (answer, _) = taking.send_request(page(NAME, "/bytes/5000000").map(|_| ()), true).unwrap();
    let mut body = timeout(PATIENCE, answer).await.unwrap().unwrap().into_body();
    // Its windows stay as they are, because nothing is released.
    let ended = timeout(PATIENCE, async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                other => return other.map(|piece| piece.map(|_| ())),
            }
        }
    });
    let ended = ended.await.expect("an end");
    assert!(ended.as_ref().is_some_and(Result::is_err), "{ended:?}");
    let mut other = streams.ready().await.unwrap();
    let (answer, _) = other.send_request(page(NAME, "/.waiting-room/health").map(|_| ()), true).unwrap();
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), 200);
    stage.running.rest().await;
    assert_eq!(stage.running.metric("portal_in_flight"), 0.0);
}

#[tokio::test]
async fn a_drain_says_goodbye_and_finishes_what_is_under_way() {
    let patient = Setup { limits: "drain_timeout = \"20s\"".to_owned(), ..room_of("1000/s") };
    let stage = stage_of(patient).await;
    let (open, wait) = gate();
    let answer = crate::support::portal::Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\nlate".to_vec());
    stage.running.portal.script("/slow", [Script::new([wait, answer])]);
    let (streams, ended) = stage.streams(h2::client::Builder::new()).await;
    let mut first = streams.clone().ready().await.unwrap();
    let (late, _) = first.send_request(page(NAME, "/slow").map(|_| ()), true).unwrap();
    while !stage.running.portal.seen().iter().any(|seen| seen.target == "/slow") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Stage { running: Running { app, .. }, .. } = stage;
    let stopping = tokio::spawn(app.stop());
    timeout(PATIENCE, async {
        while streams.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("GOAWAY");
    open.send(true).unwrap();
    let mut late = timeout(PATIENCE, late).await.unwrap().expect("what is under way goes on").into_body();
    assert_eq!(late.data().await.unwrap().unwrap(), "late");
    drop((first, streams, late));
    assert_proper(timeout(PATIENCE, ended).await.expect("the end").unwrap());
    timeout(PATIENCE, stopping).await.expect("the end").unwrap().unwrap();
}

#[tokio::test]
async fn old_and_idle_connections_are_told_to_go() {
    for limits in ["max_connection_age = \"1s\"", "http2_idle_timeout = \"1s\""] {
        let stage = stage_of(room_of("1000/s").with_limits(limits)).await;
        let (mut streams, ended) = stage.streams(h2::client::Builder::new()).await;
        let (answer, _) = streams.send_request(page(NAME, "/").map(|_| ()), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        assert_proper(timeout(PATIENCE, ended).await.expect(limits).unwrap());
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Frames that cost us an answer each and bring nobody anything.
#[tokio::test]
async fn floods_of_frames_end_the_connection() {
    let stage = stage().await;
    let ping: &[u8] = b"\0\0\x08\x06\0\0\0\0\x0012345678";
    let settings: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    let priority: &[u8] = b"\0\0\x05\x02\0\0\0\0\x03\0\0\0\0\x10";
    for (name, frame) in [("ping", ping), ("settings", settings), ("priority", priority)] {
        let stream = stage.authority.browser().connect(stage.tls(), NAME, &["h2"]).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(stream);
        writing.write_all(PREFACE).await.unwrap();
        let flood = tokio::spawn(async move {
            let many = frame.repeat(100);
            while writing.write_all(&many).await.is_ok() {}
        });
        let mut sink = Vec::new();
        let _ = timeout(PATIENCE, reading.read_to_end(&mut sink)).await.expect(name);
        timeout(PATIENCE, flood).await.expect(name).unwrap();
    }
    let mut sender = stage.connect().await;
    assert_eq!(ask(&mut sender, page(NAME, "/")).await.status, 200);
}

/// Requests that are given up as soon as they were made (CVE-2023-44487).
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let stage = stage().await;
    let (streams, ended) = stage.streams(h2::client::Builder::new()).await;
    let resets = async {
        for number in 0..100_000 {
            let Ok(mut streams) = streams.clone().ready().await else { return };
            let request = page(NAME, &format!("/.waiting-room/board/fair?{number}")).map(|_| ());
            let Ok((answer, mut stream)) = streams.send_request(request, true) else { return };
            stream.send_reset(Reason::CANCEL);
            drop(answer);
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE * 2, resets).await.expect("an end");
    assert!(timeout(PATIENCE, ended).await.expect("an end").unwrap().is_err());
}
