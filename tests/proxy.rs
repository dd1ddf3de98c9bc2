//! Black-box tests of the way to the portal and back: real sockets, a fake portal, and a small server around
//! `proxy::Worker` in place of the gateway.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::portal::{self, FakePortal, Script, Step, gate};
use anticamera::body::Body;
use anticamera::clock::{Clock, ManualClock};
use anticamera::config::{self, PortalUrl};
use anticamera::domain::forwarding::{Scheme, Trust, Visitor};
use anticamera::domain::kept::KeptHeaders;
use anticamera::domain::leak_guard::{Command, Personal, PortalSays, RangeRule, Route, Rules, Verdict};
use anticamera::domain::portal_health::{Bearable, Thresholds};
use anticamera::domain::time::Unix;
use anticamera::proxy::{self, Context, Health, Pace, Portal, ProxyError, Received, Worker};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy without a waiting room: whoever asks is forwarded.
struct Proxy {
    address: SocketAddr,
    portal: Arc<Portal>,
    told: Arc<Mutex<Vec<(Verdict, PortalSays)>>>,
    /// Held once here, once in the server, and once more by everything that is being delivered.
    kept: Arc<()>,
}

struct Setup {
    config: config::Portal,
    clock: Clock,
    body_idle: Duration,
    route: fn(&str) -> Route,
}

fn setup(portals: &[SocketAddr]) -> Setup {
    let url = |address: &SocketAddr| PortalUrl {
        https: false,
        host: address.ip().to_string(),
        port: address.port(),
        authority: address.to_string(),
    };
    let config = config::Portal {
        urls: portals.iter().map(url).collect(),
        tls: config::PortalTls::default(),
        max_in_flight: 8,
        queue_timeout: PATIENCE,
        preserve_host: true,
        connect_timeout: PATIENCE,
        first_byte_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        keep_alive: PATIENCE,
        request_buffer: 64 * 1024,
        response_buffer: 256 * 1024,
        ramp: PATIENCE,
        probes: config::Probes {
            path: None,
            interval: PATIENCE,
            timeout: PATIENCE,
            thresholds: Thresholds { failures: 3, successes: 2 },
        },
        bearable: Bearable { errors_percent: 100, latency: None },
    };
    let route = |path: &str| match path {
        path if path.starts_with("/static/") => Route::Public,
        path if path.starts_with("/download/") => {
            Route::Personal(Personal { range: RangeRule::Allowed, ..Personal::STRICT })
        }
        _ => Route::Personal(Personal::STRICT),
    };
    Setup { config, clock: Clock::system(), body_idle: PATIENCE, route }
}

impl Setup {
    async fn start(self) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let portal = Portal::new(&self.config, None);
        let told = Arc::default();
        let kept = Arc::new(());
        let proxy = Proxy { address, portal: Arc::clone(&portal), told: Arc::clone(&told), kept: Arc::clone(&kept) };
        let server = Arc::new(Server {
            worker: Worker::new(Arc::clone(&portal), self.clock.clone()),
            portal,
            told,
            kept,
            setup: self,
        });
        tokio::spawn(serve(listener, server));
        proxy
    }
}

struct Server {
    worker: Worker,
    portal: Arc<Portal>,
    told: Arc<Mutex<Vec<(Verdict, PortalSays)>>>,
    kept: Arc<()>,
    setup: Setup,
}

async fn serve(listener: TcpListener, server: Arc<Server>) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        // So small that no test mistakes the system's buffers for ours.
        socket2::SockRef::from(&stream).set_send_buffer_size(4096).unwrap();
        let server = Arc::clone(&server);
        let service = hyper::service::service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request, peer.ip()).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection.with_upgrades());
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let (route, fallback) = ((self.setup.route)(request.uri().path()), HeaderValue::from_static(""));
        let host = request.headers().get("host").cloned().unwrap_or(fallback);
        let request_id = HeaderValue::from_static("made-here");
        let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
        let headers = KeptHeaders::of(request.headers());
        let context = Context {
            received: Received { method: &method, uri: &uri, version, headers: &headers },
            portal: &self.setup.config,
            visitor: Visitor { client: peer, peer, trust: Trust::Nobody, scheme: Scheme::Https, host: &host },
            sticky: None,
            route,
            guard: &Rules::STRICT,
            bust: None,
            watch: None,
            request_id: &request_id,
            keep: Some(Arc::clone(&self.kept) as proxy::Keep),
        };
        self.forward(request, &context).await.unwrap_or_else(|error| {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = error.status();
            response
        })
    }

    async fn forward(&self, request: Request<Incoming>, context: &Context<'_>) -> Result<Response<Body>, ProxyError> {
        let config = &self.setup.config;
        let (parts, body) = request.into_parts();
        let pace = Pace { idle_limit: self.setup.body_idle, min_rate: 0 };
        let body = proxy::receive(body, config.request_buffer, pace).await?;
        let request = Request::from_parts(parts, body);
        let slot = self.portal.slot_for_insider(config.queue_timeout).await?;
        let answer = self.worker.forward(request, context, slot).await?;
        self.told.lock().unwrap().push((answer.guarded.verdict, answer.guarded.says));
        Ok(answer.response)
    }
}

impl Proxy {
    async fn connect(&self) -> Browser {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Browser { stream: socket.connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// One request on a connection of its own.
    async fn ask(&self, head: &str) -> Reply {
        let mut browser = self.connect().await;
        browser.send(head).await;
        browser.reply().await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(&get(path)).await
    }

    /// Answers not yet handed to a visitor's connection, and upgraded connections.
    fn being_delivered(&self) -> usize {
        Arc::strong_count(&self.kept) - 2
    }

    /// Waits until nobody is being served.
    async fn all_delivered(&self) {
        let delivered = async {
            while self.being_delivered() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, delivered).await.expect("everything delivered");
    }

    /// Waits until no request is under way at the portal.
    async fn settled(&self) {
        let settled = async {
            while self.portal.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, settled).await.expect("all slots free");
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: portal.example\r\n\r\n")
}

/// A visitor's connection, read by hand.
struct Browser {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
    trailers: String,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Whole,
    CutOff,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": ")).filter(|(line, _)| *line == name);
        let value = lines.next().map(|(_, value)| value);
        assert!(lines.next().is_none(), "{name} came more than once");
        value
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Browser {
    async fn send(&mut self, text: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(text.as_ref())).await.unwrap().unwrap();
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.expect("the proxy says something");
        read.is_ok_and(|count| count > 0)
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Some(self.read.drain(..at + end.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    async fn head(&mut self) -> Reply {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await.expect("an answer")).unwrap();
        let status = head[9..12].parse().unwrap();
        Reply { status, head, body: Vec::new(), trailers: String::new(), ending: Ending::Whole }
    }

    async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        let whole = if reply.header("transfer-encoding") == Some("chunked") {
            self.chunks(&mut reply).await
        } else {
            let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
            self.exactly(length).await.map(|body| reply.body = body)
        };
        if whole.is_none() {
            reply.body.append(&mut self.read);
            reply.ending = Ending::CutOff;
        }
        reply
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.until(b"\r\n").await?;
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
        if size == 0 {
            return Some(Vec::new());
        }
        let chunk = self.exactly(size).await?;
        self.exactly(2).await?;
        Some(chunk)
    }

    async fn chunks(&mut self, reply: &mut Reply) -> Option<()> {
        loop {
            let chunk = self.chunk().await?;
            if chunk.is_empty() {
                break;
            }
            reply.body.extend(chunk);
        }
        loop {
            let line = String::from_utf8(self.until(b"\r\n").await?).unwrap();
            if line == "\r\n" {
                return Some(());
            }
            reply.trailers.push_str(&line);
        }
    }
}

async fn one_portal() -> (FakePortal, Proxy) {
    let portal = FakePortal::start().await;
    let proxy = setup(&[portal.address]).start().await;
    (portal, proxy)
}

#[tokio::test]
async fn a_request_reaches_the_portal_cleaned_and_described() {
    let (portal, proxy) = one_portal().await;
    let reply = proxy
        .ask(
            "GET /me?a=%2F&b HTTP/1.1\r\nHost: portal.example\r\nCookie: JSESSIONID=1\r\nConnection: x-mine, cookie\r\n\
             X-Mine: 1\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nVia: 1.0 fred\r\nIf-None-Match: \"1\"\r\n\
             X-Original-URL: /admin\r\nWaiting-Room-Pass: forged\r\ntraceparent: 00-1-2-03\r\nRange: bytes=0-1\r\n\r\n",
        )
        .await;
    assert_eq!((reply.status, reply.text()), (200, "hello"));
    let seen = portal.one("/me?a=%2F&b");
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(seen.header("host"), Some("portal.example"));
    assert_eq!(seen.header("cookie"), Some("JSESSIONID=1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("portal.example"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;host=\"portal.example\";proto=https"));
    assert_eq!(seen.header("x-request-id"), Some("made-here"));
    assert_eq!(seen.header("traceparent"), Some("00-1-2-03"));
    assert_eq!(seen.header("cache-control"), Some("no-store, no-cache"));
    let via: Vec<&str> =
        seen.headers.iter().filter(|(name, _)| name == "via").map(|(_, value)| value.as_str()).collect();
    assert_eq!(via, ["1.0 fred", "1.1 anticamera"]);
    for gone in ["x-mine", "connection", "x-original-url", "waiting-room-pass", "if-none-match", "range"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn the_portals_own_host_is_used_when_so_configured() {
    let portal = FakePortal::start().await;
    let mut setup = setup(&[portal.address]);
    setup.config.preserve_host = false;
    let proxy = setup.start().await;
    proxy.get("/").await;
    let seen = portal.one("/");
    assert_eq!(seen.header("host"), Some(portal.address.to_string().as_str()));
    assert_eq!(seen.header("x-forwarded-host"), Some("portal.example"));
}

#[tokio::test]
async fn an_absolute_target_becomes_the_origin_form() {
    let (portal, proxy) = one_portal().await;
    proxy.ask("GET http://portal.example/x?y HTTP/1.1\r\nHost: portal.example\r\n\r\n").await;
    portal.one("/x?y");
}

#[tokio::test]
async fn a_personal_answer_leaves_with_the_one_policy() {
    let (portal, proxy) = one_portal().await;
    let lines = "Cache-Control: public\r\nETag: \"1\"\r\nSet-Cookie: a=1\r\nKeep-Alive: timeout=5\r\nDate: then\r\n\
                 Connection: x-hop\r\nX-Hop: 1\r\nWaiting-Room-Command: end-session\r\nWaiting-Room-Identity: RSS\r\n";
    portal.script("/me", [Script::answer(404, lines, "nobody")]);
    let reply = proxy.get("/me").await;
    assert_eq!((reply.status, reply.text()), (404, "nobody"));
    assert_eq!(reply.header("cache-control"), Some("private, no-store, no-cache, must-revalidate, max-age=0"));
    assert_eq!(reply.header("set-cookie"), Some("a=1"));
    assert_eq!(reply.header("date"), Some("then"));
    assert_eq!(reply.header("via"), Some("1.1 anticamera"));
    for gone in ["etag", "keep-alive", "x-hop", "connection", "waiting-room-command", "waiting-room-identity"] {
        assert_eq!(reply.header(gone), None, "{gone}");
    }
    let says = PortalSays { command: Some(Command::EndSession), identity: Some(HeaderValue::from_static("RSS")) };
    assert_eq!(*proxy.told.lock().unwrap(), [(Verdict::Personal, says)]);
}

#[tokio::test]
async fn a_public_answer_stays_cacheable_and_its_request_was_anonymous() {
    let (portal, proxy) = one_portal().await;
    let lines = "Cache-Control: max-age=60\r\nETag: \"1\"\r\nSet-Cookie: SERVERID=2\r\nContent-Type: text/css\r\n";
    portal.script("/static/a.css", [Script::answer(200, lines, "a{}")]);
    let reply = proxy
        .ask("GET /static/a.css HTTP/1.1\r\nHost: p\r\nCookie: JSESSIONID=1\r\nAuthorization: Basic x\r\n\r\n")
        .await;
    assert_eq!(reply.header("cache-control"), Some("max-age=60"));
    assert_eq!(reply.header("etag"), Some("\"1\""));
    assert_eq!(reply.header("set-cookie"), None);
    let seen = portal.one("/static/a.css");
    assert_eq!((seen.header("cookie"), seen.header("authorization")), (None, None));
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_not_delivered() {
    let (portal, proxy) = one_portal().await;
    portal.script("/me", [Script::raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n")]);
    let reply = proxy.ask("GET /me HTTP/1.1\r\nHost: p\r\nIf-None-Match: \"1\"\r\n\r\n").await;
    assert_eq!(reply.status, 502);
    proxy.get("/other").await;
    assert_eq!(portal.connections(), 2, "the connection on which something went wrong is not used again");
}

#[tokio::test]
async fn ranges_pass_on_downloads() {
    let (portal, proxy) = one_portal().await;
    let lines = "Content-Range: bytes 0-1/5\r\nAccept-Ranges: bytes\r\n";
    portal.script("/download/v", [Script::answer(206, lines, "he")]);
    let reply = proxy.ask("GET /download/v HTTP/1.1\r\nHost: p\r\nRange: bytes=0-1\r\n\r\n").await;
    assert_eq!((reply.status, reply.header("content-range")), (206, Some("bytes 0-1/5")));
    assert_eq!(portal.one("/download/v").header("range"), Some("bytes=0-1"));
}

#[tokio::test]
async fn addresses_of_the_portal_are_rewritten() {
    let (portal, proxy) = one_portal().await;
    let lines = format!("Location: http://{}/login?x\r\n", portal.address);
    portal.script("/", [Script::answer(302, &lines, "")]);
    assert_eq!(proxy.get("/").await.header("location"), Some("https://portal.example/login?x"));
}

#[tokio::test]
async fn connections_are_used_again() {
    let (portal, proxy) = one_portal().await;
    let mut browser = proxy.connect().await;
    for request in [get("/a"), "HEAD /b HTTP/1.1\r\nHost: p\r\n\r\n".into(), get("/status/204"), get("/bytes/100000")] {
        browser.send(&request).await;
        if request.starts_with("HEAD") {
            let head = browser.head().await;
            assert_eq!(head.header("content-length"), Some("5"));
        } else {
            assert_eq!(browser.reply().await.ending, Ending::Whole);
        }
    }
    assert_eq!((portal.seen().len(), portal.connections()), (4, 1));
}

#[tokio::test]
async fn unused_connections_grow_too_old() {
    let portal = FakePortal::start().await;
    let clock = ManualClock::starting_at(Unix(0));
    let mut setup = setup(&[portal.address]);
    setup.clock = Clock::Manual(clock.clone());
    let proxy = setup.start().await;
    proxy.get("/").await;
    proxy.get("/").await;
    assert_eq!(portal.connections(), 1);
    clock.advance(PATIENCE);
    proxy.get("/").await;
    assert_eq!(portal.connections(), 2);
}

#[tokio::test]
async fn a_small_body_is_read_before_the_portal_hears_of_it() {
    let (portal, proxy) = one_portal().await;
    let mut browser = proxy.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    browser.send(head).await;
    assert_eq!(browser.head().await.status, 100);
    browser.send("3\r\nabc\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((portal.connections(), proxy.portal.in_flight()), (0, 0));
    browser.send("3\r\ndef\r\n0\r\n\r\n").await;
    assert_eq!(browser.reply().await.text(), format!("6 {}", portal::hash(b"abcdef")));
    let seen = portal.one("/echo");
    assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), (Some("6"), None));
    assert_eq!(seen.header("expect"), None);
}

#[tokio::test]
async fn large_bodies_stream_in_both_framings() {
    let (portal, proxy) = one_portal().await;
    let body: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).take(5_000_000).collect();
    let expected = format!("5000000 {}", portal::hash(&body));
    let mut browser = proxy.connect().await;
    browser.send("POST /echo HTTP/1.1\r\nHost: p\r\nContent-Length: 5000000\r\n\r\n").await;
    browser.send(&body).await;
    assert_eq!(browser.reply().await.text(), expected);
    browser.send("PUT /echo HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for chunk in body.chunks(100_000) {
        browser.send(format!("{:x}\r\n", chunk.len())).await;
        browser.send(chunk).await;
        browser.send("\r\n").await;
    }
    browser.send("0\r\n\r\n").await;
    assert_eq!(browser.reply().await.text(), expected);
    let seen = portal.seen();
    assert_eq!(seen[0].header("content-length"), Some("5000000"));
    assert_eq!(seen[1].header("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let (portal, proxy) = one_portal().await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, ETag\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\nETag: \"1\"\r\n\r\n";
    portal.script("/", [Script::raw(answer)]);
    let request = "POST / HTTP/1.1\r\nHost: p\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Up, X-Forwarded-For\r\n\
                   Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Up: 1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    let reply = proxy.ask(request).await;
    assert_eq!((reply.text(), reply.trailers.as_str()), ("hi", "x-sum: 7\r\n"));
    let seen = portal.one("/");
    assert_eq!(seen.header("te"), Some("trailers"));
    assert_eq!(seen.trailers, [("x-up".to_owned(), "1".to_owned())]);
    assert_eq!(seen.length, 2);
}

#[tokio::test]
async fn a_visitor_who_takes_nothing_does_not_hold_the_portal() {
    for framing in ["/bytes/250000", "/chunked"] {
        let (portal, proxy) = one_portal().await;
        let chunk = format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000));
        let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(250));
        portal.script("/chunked", [Script::raw(&chunked)]);
        let mut browser = proxy.connect().await;
        browser.send(get(framing)).await;
        portal.arrived(1).await;
        proxy.settled().await;
        let reply = browser.reply().await;
        assert_eq!((reply.body.len(), reply.ending), (250_000, Ending::Whole));
        assert_eq!(portal.connections(), 1);
    }
}

#[tokio::test]
async fn what_is_read_ahead_is_bounded() {
    let (portal, proxy) = one_portal().await;
    let mut browser = proxy.connect().await;
    browser.send(get("/bytes/100000000")).await;
    portal.arrived(1).await;
    let mut before = 0;
    while portal.sent() > before || before == 0 {
        before = portal.sent();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 20_000_000, "the portal got rid of {before} bytes while the visitor took none");
    assert_eq!(proxy.portal.in_flight(), 1);
    drop(browser);
    proxy.settled().await;
}

#[tokio::test]
async fn a_long_answer_arrives_unchanged() {
    let (_portal, proxy) = one_portal().await;
    let reply = proxy.get("/bytes/20000000").await;
    assert_eq!(reply.header("content-length"), Some("20000000"));
    assert!(reply.body.len() == 20_000_000 && reply.body.iter().all(|byte| *byte == b'x'));
    proxy.settled().await;
}

#[tokio::test]
async fn half_an_answer_is_never_taken_for_a_whole_one() {
    let (portal, proxy) = one_portal().await;
    let sized = Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec());
    let chunked = Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec());
    let breath = Step::Pause(Duration::from_millis(50));
    for (path, begin, end) in [
        ("/1", &sized, Step::Reset),
        ("/2", &sized, Step::Close),
        ("/3", &chunked, Step::Reset),
        ("/4", &chunked, Step::Close),
    ] {
        portal.script(path, [Script::new([begin.clone(), breath.clone(), end])]);
        let reply = proxy.get(path).await;
        assert_eq!((reply.status, reply.ending), (200, Ending::CutOff), "{path}");
    }
    let long = Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec());
    let piece = Step::Send(format!("{:x}\r\n{}\r\n", 100_000, "x".repeat(100_000)).into_bytes());
    portal.script("/5", [Script::new([long, piece, breath, Step::Reset])]);
    assert_eq!(proxy.get("/5").await.ending, Ending::CutOff);
    proxy.settled().await;
}

#[tokio::test]
async fn an_answer_that_stops_is_cut_off() {
    let portal = FakePortal::start().await;
    let mut setup = setup(&[portal.address]);
    setup.config.idle_timeout = Duration::from_millis(100);
    let proxy = setup.start().await;
    let begin = Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec());
    portal.script("/", [Script::new([begin, Step::Hang])]);
    assert_eq!(proxy.get("/").await.ending, Ending::CutOff);
    proxy.settled().await;
}

#[tokio::test]
async fn a_get_goes_once_more_when_an_unused_connection_died() {
    let (portal, proxy) = one_portal().await;
    proxy.get("/").await;
    portal.script("/again", [Script::new([Step::Close]), Script::answer(200, "", "second")]);
    let reply = proxy.get("/again").await;
    assert_eq!((reply.status, reply.text()), (200, "second"));
    let connections: Vec<usize> = portal.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    assert_eq!(proxy.portal.health(), Health::Healthy { since: None });
}

#[tokio::test]
async fn nothing_else_is_ever_sent_twice() {
    let (portal, proxy) = one_portal().await;
    // A new connection that dies without an answer.
    portal.script("/fresh", [Script::new([Step::Close])]);
    assert_eq!(proxy.get("/fresh").await.status, 502);
    portal.one("/fresh");
    // A write on a connection that had stood unused.
    proxy.get("/").await;
    portal.script("/write", [Script::new([Step::Reset])]);
    let reply = proxy.ask("POST /write HTTP/1.1\r\nHost: p\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!(reply.status, 502);
    portal.one("/write");
    // A body-less write likewise.
    proxy.get("/").await;
    portal.script("/delete", [Script::new([Step::Close])]);
    assert_eq!(proxy.ask("DELETE /delete HTTP/1.1\r\nHost: p\r\n\r\n").await.status, 502);
    portal.one("/delete");
    // A GET of which the answer had begun.
    proxy.get("/").await;
    portal.script("/begun", [Script::new([Step::Send(b"HTTP/1.1 2".to_vec()), Step::Close])]);
    assert_eq!(proxy.get("/begun").await.status, 502);
    portal.one("/begun");
}

#[tokio::test]
async fn a_get_goes_once_more_only_once() {
    let (portal, proxy) = one_portal().await;
    proxy.get("/").await;
    portal.script("/never", [Script::new([Step::Close])]);
    assert_eq!(proxy.get("/never").await.status, 502);
    assert_eq!(portal.seen().iter().filter(|seen| seen.target == "/never").count(), 2);
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn what_no_address_took_may_go_to_another() {
    let portal = FakePortal::start().await;
    let proxy = setup(&[nobody().await, portal.address]).start().await;
    for _ in 0..8 {
        let reply = proxy.ask("POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 1\r\n\r\nx").await;
        assert_eq!(reply.status, 200);
    }
    assert_eq!(portal.seen().len(), 8);
    assert_eq!(proxy.portal.health(), Health::Healthy { since: None });
}

#[tokio::test]
async fn a_portal_that_is_down_is_unhealthy_until_a_probe_succeeds() {
    let address = nobody().await;
    let clock = ManualClock::starting_at(Unix(0));
    let mut setup = setup(&[address]);
    setup.clock = Clock::Manual(clock.clone());
    let proxy = setup.start().await;
    let prober = tokio::spawn(Arc::clone(&proxy.portal).probe_while_unhealthy(Clock::Manual(clock.clone())));
    for _ in 0..3 {
        assert_eq!(proxy.portal.health(), Health::Healthy { since: None });
        assert_eq!(proxy.get("/").await.status, 502);
    }
    assert!(matches!(proxy.portal.health(), Health::Unhealthy { .. }));
    let portal = FakePortal::on(address).await;
    portal.script("/", [Script::answer(500, "", "")]);
    let mut health = proxy.portal.watch_health();
    let recovered = async {
        let mut watched = std::pin::pin!(health.wait_for(|health| matches!(health, Health::Healthy { .. })));
        loop {
            clock.advance(Duration::from_secs(1));
            if let Ok(health) = timeout(Duration::from_millis(10), &mut watched).await {
                return *health.unwrap();
            }
        }
    };
    assert!(matches!(timeout(PATIENCE, recovered).await.unwrap(), Health::Healthy { since: Some(_) }));
    assert_eq!(portal.seen()[0].method, "HEAD");
    prober.abort();
}

#[tokio::test]
async fn a_silent_portal_is_a_gateway_timeout_and_a_failure() {
    let portal = FakePortal::start().await;
    let mut setup = setup(&[portal.address]);
    setup.config.first_byte_timeout = Duration::from_millis(50);
    let proxy = setup.start().await;
    portal.script("/", [Script::new([Step::Hang])]);
    for _ in 0..3 {
        assert_eq!(proxy.get("/").await.status, 504);
    }
    assert!(matches!(proxy.portal.health(), Health::Unhealthy { .. }));
    proxy.settled().await;
}

#[tokio::test]
async fn errors_of_the_application_and_garbage_do_not_make_the_portal_ill() {
    let (portal, proxy) = one_portal().await;
    portal.script("/garbage", [Script::new([Step::Send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())])]);
    portal.script("/101", [Script::raw("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")]);
    for _ in 0..4 {
        assert_eq!(proxy.get("/status/500").await.status, 500);
        assert_eq!(proxy.get("/garbage").await.status, 502);
        assert_eq!(proxy.get("/101").await.status, 502);
    }
    assert_eq!(proxy.portal.health(), Health::Healthy { since: None });
}

#[tokio::test]
async fn an_early_answer_is_delivered() {
    let (portal, proxy) = one_portal().await;
    portal.script("/deaf", [Script::answer(413, "Connection: close\r\n", "too much").deaf()]);
    portal.script(
        "/closes",
        [Script::new([
            Step::Send(b"HTTP/1.1 413 X\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much".to_vec()),
            Step::Close,
        ])
        .deaf()],
    );
    for path in ["/deaf", "/closes"] {
        let mut browser = proxy.connect().await;
        browser.send(format!("POST {path} HTTP/1.1\r\nHost: p\r\nContent-Length: 20000000\r\n\r\n")).await;
        browser.send(vec![b'x'; 200_000]).await;
        let reply = browser.reply().await;
        assert_eq!((reply.status, reply.text(), reply.ending), (413, "too much", Ending::Whole), "{path}");
    }
    // Most clients send everything before they read.
    let mut browser = proxy.connect().await;
    browser.send("POST /closes HTTP/1.1\r\nHost: p\r\nContent-Length: 20000000\r\n\r\n").await;
    browser.send(vec![b'x'; 20_000_000]).await;
    assert_eq!(browser.reply().await.text(), "too much");
    browser.send(get("/next")).await;
    assert_eq!(browser.reply().await.text(), "hello");
    proxy.settled().await;
}

#[tokio::test]
async fn an_early_answer_while_the_portal_goes_on_reading_leaves_both_connections_usable() {
    let (portal, proxy) = one_portal().await;
    portal.script("/early", [Script::answer(200, "", "early").early()]);
    let mut browser = proxy.connect().await;
    browser.send("POST /early HTTP/1.1\r\nHost: p\r\nContent-Length: 300000\r\n\r\n").await;
    browser.send(vec![b'x'; 200_000]).await;
    assert_eq!(browser.reply().await.text(), "early");
    browser.send(vec![b'x'; 100_000]).await;
    browser.send(get("/next")).await;
    assert_eq!(browser.reply().await.text(), "hello");
    assert_eq!(portal.one("/early").length, 300_000);
}

#[tokio::test]
async fn a_visitor_who_stops_sending_is_told_so_and_the_portal_never_hears_of_it() {
    let portal = FakePortal::start().await;
    let mut setup = setup(&[portal.address]);
    setup.body_idle = Duration::from_millis(50);
    let proxy = setup.start().await;
    let reply = proxy.ask("POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!(reply.status, 408);
    assert_eq!(portal.connections(), 0);
    let mut browser = proxy.connect().await;
    browser.send("POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 1000000\r\n\r\n").await;
    browser.send(vec![b'x'; 200_000]).await;
    assert_eq!(browser.reply().await.status, 408);
    assert_eq!(portal.one("/").hash, None, "the portal must see that the body was cut off");
    assert_eq!(proxy.portal.health(), Health::Healthy { since: None });
}

#[tokio::test]
async fn a_visitor_who_goes_away_frees_the_slot_and_costs_the_connection() {
    let (portal, proxy) = one_portal().await;
    portal.script("/slow", [Script::new([Step::Hang])]);
    let mut waiting = proxy.connect().await;
    waiting.send(get("/slow")).await;
    let mut uploading = proxy.connect().await;
    uploading.send("POST /up HTTP/1.1\r\nHost: p\r\nContent-Length: 1000000\r\n\r\n").await;
    uploading.send(vec![b'x'; 200_000]).await;
    portal.arrived(2).await;
    assert_eq!(proxy.portal.in_flight(), 2);
    drop((waiting, uploading));
    proxy.settled().await;
    proxy.get("/").await;
    assert_eq!(portal.connections(), 3);
    assert_eq!(proxy.portal.health(), Health::Healthy { since: None });
}

#[tokio::test]
async fn websockets_pass_and_give_their_slot_back() {
    let (portal, proxy) = one_portal().await;
    let mut browser = proxy.connect().await;
    let ask = "GET /ws HTTP/1.1\r\nHost: p\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";
    browser.send(ask).await;
    let reply = browser.head().await;
    assert_eq!((reply.status, reply.header("upgrade")), (101, Some("websocket")));
    for _ in 0..3 {
        browser.send("ping").await;
        assert_eq!(browser.exactly(4).await.unwrap(), b"ping");
    }
    assert_eq!(proxy.portal.in_flight(), 0);
    let seen = portal.one("/ws");
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(seen.header("sec-websocket-key"), Some("x"));
    assert_eq!(proxy.being_delivered(), 1, "the visitor is active as long as the connection lasts");
    drop(browser);
    proxy.all_delivered().await;
}

#[tokio::test]
async fn other_upgrades_do_not_pass() {
    let (portal, proxy) = one_portal().await;
    let ask =
        "GET / HTTP/1.1\r\nHost: p\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n";
    assert_eq!(proxy.ask(ask).await.status, 200);
    let seen = portal.one("/");
    assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), (None, None));
    assert_eq!(proxy.ask("TRACE / HTTP/1.1\r\nHost: p\r\n\r\n").await.status, 405);
}

#[tokio::test]
async fn events_are_passed_on_at_once() {
    let (portal, proxy) = one_portal().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (go, gate) = gate();
    let event = |text: &str| Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes());
    portal.script(
        "/events",
        [Script::new([Step::Send(head.into()), event("data: 1\n\n"), gate, event("data: 2\n\n"), Step::Hang])],
    );
    let mut browser = proxy.connect().await;
    browser.send(get("/events")).await;
    browser.head().await;
    assert_eq!(browser.chunk().await.unwrap(), b"data: 1\n\n");
    assert_eq!(proxy.being_delivered(), 1);
    go.send(true).unwrap();
    assert_eq!(browser.chunk().await.unwrap(), b"data: 2\n\n");
    drop(browser);
    proxy.all_delivered().await;
    proxy.settled().await;
}

#[tokio::test]
async fn informational_answers_are_swallowed() {
    let (portal, proxy) = one_portal().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    portal.script("/", [Script::raw(&format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))]);
    let reply = proxy.get("/").await;
    assert_eq!((reply.status, reply.text()), (200, "hi"));
}

#[tokio::test]
async fn a_portal_of_http_1_0_is_understood() {
    let (portal, proxy) = one_portal().await;
    portal.script("/", [Script::new([Step::Send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec()), Step::Close])]);
    let reply = proxy.get("/").await;
    assert_eq!((reply.text(), reply.ending), ("until the end", Ending::Whole));
    assert_eq!(reply.header("via"), Some("1.0 anticamera"));
    assert!(reply.head.starts_with("HTTP/1.1"));
}

#[tokio::test]
async fn a_slow_portal_is_waited_for_byte_by_byte() {
    let (portal, proxy) = one_portal().await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec();
    portal.script("/", [Script::new([Step::Trickle(answer, Duration::from_millis(1))])]);
    assert_eq!(proxy.get("/").await.text(), "abc");
}

#[tokio::test]
async fn slots_bound_what_is_under_way() {
    let portal = FakePortal::start().await;
    let mut setup = setup(&[portal.address]);
    setup.config.max_in_flight = 2;
    let proxy = setup.start().await;
    let (go, gate) = gate();
    portal
        .script("/wait", [Script::new([gate, Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())])]);
    let mut browsers = Vec::new();
    for _ in 0..5 {
        let mut browser = proxy.connect().await;
        browser.send(get("/wait")).await;
        browsers.push(browser);
    }
    portal.arrived(2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(portal.seen().len(), 2);
    assert!(proxy.portal.try_slot_for_newcomer().is_none());
    go.send(true).unwrap();
    for mut browser in browsers {
        assert_eq!(browser.reply().await.text(), "ok");
    }
    assert!(proxy.portal.try_slot_for_newcomer().is_some());
}
