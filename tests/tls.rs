//! TLS as visitors and operators meet it: versions and protocols, certificates by name, client certificates, reload,
//! faults, redirects, proxies that announce their clients, and a portal behind TLS.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use anticamera::admin::ReloadAnswer;
use anticamera::domain::time::Unix;
use tokio::time::timeout;

use crate::support::app::{PATIENCE, Running, Setup, at, room_of};
use crate::support::process;
use crate::support::tls::{Authority, Browser, Pair, Years, ask, ask1, page, page1, text};

const NAME: &str = "portal.example";

/// The program with one certificate for one name.
struct Stage {
    authority: Authority,
    pair: Pair,
    setup: Setup,
    running: Running,
}

async fn stage() -> Stage {
    stage_with("", "").await
}

/// The same with more lines of `[server]` and more tables.
async fn stage_with(server: &str, more: &str) -> Stage {
    stage_of(room_of("1000/s").with_server(server).with_more(more)).await
}

async fn stage_of(setup: Setup) -> Stage {
    let authority = Authority::new("tests");
    let pair = authority.server("portal", &[NAME, "www.portal.example"]);
    let entry = pair.entry("127.0.0.1:0", &[NAME, "www.portal.example"], "");
    let setup = setup.with_more(&entry);
    let running = setup.clone().start().await;
    Stage { authority, pair, setup, running }
}

impl Stage {
    fn tls(&self) -> SocketAddr {
        self.running.app.tls_addresses[0]
    }

    fn browser(&self) -> Browser {
        self.authority.browser()
    }
}

#[tokio::test]
async fn who_has_instructions_for_aes_gets_the_suite_with_the_cheapest_handshake() {
    use rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 as OLD_AES_128, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 as OLD_AES_256,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 as OLD_CHACHA, TLS13_AES_128_GCM_SHA256 as AES_128,
        TLS13_AES_256_GCM_SHA384 as AES_256, TLS13_CHACHA20_POLY1305_SHA256 as CHACHA,
    };
    let stage = stage().await;
    for (offered, expected) in [
        (vec![AES_256, CHACHA, AES_128], AES_128),
        (vec![CHACHA, AES_256, AES_128], CHACHA),
        (vec![AES_256], AES_256),
        (vec![OLD_AES_256, OLD_AES_128, OLD_CHACHA], OLD_AES_128),
        (vec![OLD_CHACHA, OLD_AES_256, OLD_AES_128], OLD_CHACHA),
    ] {
        let stream = stage.browser().offering(&offered).connect(stage.tls(), NAME, &["http/1.1"]).await.unwrap();
        let agreed = stream.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite());
        assert_eq!(agreed, Some(expected.suite()), "{offered:?}");
    }
}

#[tokio::test]
async fn both_versions_and_both_protocols_are_served() {
    let stage = stage().await;
    for version in [&TLS12, &TLS13] {
        let browser = stage.browser().speaking(version);
        let mut one = browser.http1(stage.tls(), NAME).await.unwrap();
        let mut two = browser.http2(stage.tls(), NAME).await.unwrap();
        for got in [ask1(&mut one, page1(NAME, "/fair/x")).await, ask(&mut two, page(NAME, "/fair/x")).await] {
            assert_eq!((got.status, &got.body[..]), (200, b"hello".as_slice()), "{got:?}");
            let pass = got.cookies().into_iter().find(|line| line.starts_with("__Host-anticamera-pass-fair="));
            let pass = pass.unwrap_or_else(|| panic!("{got:?}"));
            assert!(pass.contains("; Secure") && pass.contains("SameSite=None"), "{pass}");
        }
    }
    let seen = stage.running.portal.seen();
    let seen: Vec<_> = seen.iter().filter(|seen| seen.target == "/fair/x").collect();
    assert_eq!(seen.len(), 4);
    for (index, seen) in seen.iter().enumerate() {
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.header("host"), Some(NAME));
        assert_eq!(seen.header("via"), Some(if index % 2 == 0 { "1.1 anticamera" } else { "2 anticamera" }));
    }
}

#[tokio::test]
async fn who_speaks_no_tls_or_an_old_one_gets_nothing_and_disturbs_nobody() {
    let stage = stage().await;
    let mut plain = TcpStream::connect(stage.tls()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: portal.example\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    assert!(Authority::new("somebody else").browser().http1(stage.tls(), NAME).await.is_err(), "not believed");
    let mut one = stage.browser().http1(stage.tls(), NAME).await.unwrap();
    assert_eq!(ask1(&mut one, page1(NAME, "/")).await.status, 200);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let stage =
        stage_of(room_of("1000/s").with_limits("handshake_timeout = \"1s\"\nfirst_byte_timeout = \"1s\"")).await;
    let mut silent = TcpStream::connect(stage.tls()).await.unwrap();
    let mut begun = TcpStream::connect(stage.tls()).await.unwrap();
    begun.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    let mut standing = stage.browser().connect(stage.tls(), NAME, &["http/1.1"]).await.unwrap();
    let mut two = stage.browser().connect(stage.tls(), NAME, &["h2"]).await.unwrap();
    let mut sink = Vec::new();
    for (name, ended) in [
        ("silent", timeout(PATIENCE, silent.read_to_end(&mut sink)).await),
        ("begun", timeout(PATIENCE, begun.read_to_end(&mut sink)).await),
        ("standing", timeout(PATIENCE, standing.read_to_end(&mut sink)).await),
    ] {
        assert!(ended.is_ok(), "{name} is still open");
    }
    assert!(
        two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.is_ok(),
        "browsers open ahead"
    );
}

/// What passes after HTTP was left has no heads.
#[tokio::test]
async fn websockets_work_over_tls_and_outlast_every_limit_on_heads() {
    let limits = "head_timeout = \"1s\"\nkeep_alive_timeout = \"1s\"\nfirst_byte_timeout = \"1s\"";
    let stage = stage_of(room_of("1000/s").with_limits(limits)).await;
    let mut stream = stage.browser().connect(stage.tls(), NAME, &["http/1.1"]).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: portal.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    for _ in 0..2 {
        stream.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        timeout(PATIENCE, stream.read_exact(&mut echo)).await.unwrap().unwrap();
        assert_eq!(&echo, b"ping");
        tokio::time::sleep(Duration::from_millis(2500)).await;
    }
}

/// The head of one answer; its body is taken as well.
async fn answer_on(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.expect("an answer").unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    timeout(PATIENCE, stream.read_exact(&mut vec![0; length])).await.expect("a body").unwrap();
    head
}

/// A connection that gave back what it needs for requests takes everything up again: also the part of a head that had
/// come along with the request before, and a WebSocket.
async fn rests_and_goes_on(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let request = "GET / HTTP/1.1\r\nHost: portal.example\r\n\r\n";
    let rest = || tokio::time::sleep(Duration::from_millis(1500));
    let (begun, end) = request.split_at(20);
    for (first, then) in [(request, ""), (begun, end), (&format!("{request}{begun}"), end), (request, "")] {
        stream.write_all(first.as_bytes()).await.unwrap();
        if first.len() >= request.len() {
            assert!(answer_on(&mut stream).await.starts_with("HTTP/1.1 200"));
        }
        rest().await;
        stream.write_all(then.as_bytes()).await.unwrap();
        if !then.is_empty() {
            assert!(answer_on(&mut stream).await.starts_with("HTTP/1.1 200"));
        }
    }
    let request = "GET /ws HTTP/1.1\r\nHost: portal.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(answer_on(&mut stream).await.starts_with("HTTP/1.1 101"));
    rest().await;
    stream.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut echo)).await.unwrap().unwrap();
    assert_eq!(&echo, b"ping");
}

#[tokio::test]
async fn a_connection_that_rested_goes_on() {
    let stage = stage().await;
    let tls = stage.browser().connect(stage.tls(), NAME, &["http/1.1"]).await.unwrap();
    let plain = TcpStream::connect(stage.running.app.addresses[0]).await.unwrap();
    tokio::join!(rests_and_goes_on(tls), rests_and_goes_on(plain));
}

/// After an early answer the rest of a body is still to come, however long it takes.
#[tokio::test]
async fn what_is_left_of_a_body_is_no_request_on_a_connection_that_was_silent() {
    let stage = stage().await;
    let mut stream = TcpStream::connect(stage.running.app.addresses[0]).await.unwrap();
    let head = "POST /.waiting-room/join?room=fair HTTP/1.1\r\nHost: portal.example\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"0123456789").await.unwrap();
    assert!(answer_on(&mut stream).await.starts_with("HTTP/1.1 413"));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    stream.write_all(b"GET /smuggled HTTP/1.1\r\nHost: portal.example\r\n\r\n").await.unwrap();
    let mut more = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut more)).await.expect("the end");
    assert_eq!(String::from_utf8_lossy(&more), "");
    assert!(stage.running.portal.seen().iter().all(|seen| seen.target != "/smuggled"));
}

/// Many clients send all of a body before they read the answer. What they send is not a slow head.
#[tokio::test]
async fn what_is_left_of_a_body_has_its_own_time() {
    let stage = stage_of(room_of("1000/s").with("state = \"hold\"").with_limits("head_timeout = \"500ms\"")).await;
    let mut stream = TcpStream::connect(stage.running.app.addresses[0]).await.unwrap();
    let head = "POST /fair/form HTTP/1.1\r\nHost: portal.example\r\nAccept: text/html\r\nContent-Length: 70\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(answer_on(&mut stream).await.starts_with("HTTP/1.1 503"));
    for _ in 0..7 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(b"0123456789").await.expect("the rest is taken");
    }
    stream.write_all(b"GET /.waiting-room/health HTTP/1.1\r\nHost: portal.example\r\n\r\n").await.unwrap();
    assert!(answer_on(&mut stream).await.starts_with("HTTP/1.1 200"), "another request is answered");
    // Where nothing is left of a body, a head that does not end is one.
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut sink = Vec::new();
    let _ = timeout(PATIENCE / 2, stream.read_to_end(&mut sink)).await.expect("the end");
}

#[tokio::test]
async fn a_connection_that_rests_ends_properly() {
    let stage = stage_of(room_of("1000/s").with_limits("keep_alive_timeout = \"2s\"")).await;
    let mut stream = stage.browser().connect(stage.tls(), NAME, &["http/1.1"]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: portal.example\r\n\r\n").await.unwrap();
    answer_on(&mut stream).await;
    let mut sink = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut sink)).await.expect("the end");
    assert_eq!(ended.expect("said before it was done"), 0);
}

#[tokio::test]
async fn the_name_decides_which_certificate_is_shown() {
    let authority = Authority::new("tests");
    let names = ["one.example", "two.example", "x.three.example"];
    let pairs: Vec<Pair> = names.iter().map(|name| authority.server(name, &[name])).collect();
    let entries: String = pairs
        .iter()
        .zip(["one.example", "two.example", "*.three.example"])
        .map(|(pair, name)| pair.entry("127.0.0.1:0", &[name], ""))
        .collect();
    let running = room_of("10/s").with_more(&entries).start().await;
    let (tls, browser) = (running.app.tls_addresses[0], authority.browser());
    for (name, pair) in names.iter().zip(&pairs) {
        let stream = browser.connect(tls, name, &[]).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], pair.der(), "{name}");
    }
    assert!(browser.connect(tls, "nowhere.example", &[]).await.is_err(), "the first is shown, and does not fit");
    let metric = |name: &str| running.metric(&format!("certificate_expiry_timestamp_seconds{{name=\"{name}\"}}"));
    assert_eq!(metric("two.example"), 2_840_140_800.0);
    assert_eq!(metric("*.three.example"), 2_840_140_800.0);
}

/// One certificate may cover hosts that have entries of their own: a browser then sends requests for all of them over
/// one connection.
#[tokio::test]
async fn a_request_for_a_host_of_another_certificate_is_misdirected() {
    let stage = stage().await;
    let mut two = stage.browser().http2(stage.tls(), NAME).await.unwrap();
    assert_eq!(ask(&mut two, page(NAME, "/")).await.status, 200);
    assert_eq!(ask(&mut two, page("www.portal.example", "/")).await.status, 200, "the certificate has it");
    let got = ask(&mut two, page("other.example", "/")).await;
    assert_eq!(
        (got.status, got.header("cache-control").is_some_and(|policy| policy.contains("no-store"))),
        (421, true)
    );
    let mut one = stage.browser().http1(stage.tls(), NAME).await.unwrap();
    assert_eq!(ask1(&mut one, page1("other.example", "/")).await.status, 421);
    let hosts: Vec<_> =
        stage.running.portal.seen().iter().filter_map(|seen| seen.header("host").map(str::to_owned)).collect();
    assert!(!hosts.contains(&"other.example".to_owned()), "{hosts:?}");
}

#[tokio::test]
async fn client_certificates_are_asked_for_by_name() {
    let (authority, offices) = (Authority::new("tests"), Authority::new("offices"));
    let everybody = authority.server("all", &["citizen.example", "office.example", "maybe.example"]);
    let ca = format!("client_ca = {:?}\n", offices.file());
    let entries = everybody.entry("127.0.0.1:0", &["citizen.example"], "")
        + &everybody.entry("127.0.0.1:0", &["office.example"], &format!("client_auth = \"required\"\n{ca}"))
        + &everybody.entry("127.0.0.1:0", &["maybe.example"], &format!("client_auth = \"optional\"\n{ca}"));
    let running = room_of("1000/s").with_more(&entries).start().await;
    let tls = running.app.tls_addresses[0];
    let (citizen, office) = (authority.browser(), authority.browser().showing(&offices.client("patronato")));
    let stranger = authority.browser().showing(&Authority::new("nobody").client("patronato"));

    let mut two = citizen.http2(tls, "citizen.example").await.unwrap();
    assert_eq!(ask(&mut two, page("citizen.example", "/")).await.status, 200);
    assert_eq!(
        ask(&mut two, page("office.example", "/")).await.status,
        421,
        "not over a connection without a question"
    );
    assert_eq!(ask(&mut two, page("maybe.example", "/")).await.status, 421);

    let mut two = office.http2(tls, "office.example").await.unwrap();
    assert_eq!(ask(&mut two, page("office.example", "/")).await.status, 200);
    assert_eq!(ask(&mut two, page("citizen.example", "/")).await.status, 421);
    for refused in [&citizen, &stranger] {
        assert!(!is_served(refused, tls, "office.example").await);
    }
    assert!(is_served(&citizen, tls, "maybe.example").await && is_served(&office, tls, "maybe.example").await);
    assert!(!is_served(&stranger, tls, "maybe.example").await, "a certificate that is shown has to be good");
}

#[tokio::test]
async fn a_certificate_that_is_shown_to_us_proves_a_class_and_a_proxys_own_does_not() {
    let (authority, offices) = (Authority::new("tests"), Authority::new("offices"));
    let pair = authority.server("all", &["office.example"]);
    let ca = offices.file();
    let entry =
        pair.entry("127.0.0.1:0", &["office.example"], &format!("client_auth = \"optional\"\nclient_ca = {ca:?}\n"));
    let class = format!("[[class]]\nname = \"office\"\nproof = [ {{ kind = \"client_certificate\", ca = {ca:?} }} ]\n");
    for (trusted, offices_inside) in [("", 1.0), ("trusted_proxies = [\"127.0.0.0/8\"]", 0.0)] {
        let running = room_of("1000/s").with_server(trusted).with_more(&entry).with_more(&class).start().await;
        let tls = running.app.tls_addresses[0];
        let office = authority.browser().showing(&offices.client("patronato"));
        for browser in [office, authority.browser()] {
            let mut connection = browser.http2(tls, "office.example").await.unwrap();
            assert_eq!(ask(&mut connection, page("office.example", "/fair/")).await.status, 200);
        }
        assert_eq!(running.metric("admissions_total{class=\"office\",room=\"fair\"}"), offices_inside, "{trusted}");
        assert_eq!(running.lane("admissions_total"), 2.0 - offices_inside, "{trusted}");
    }
}

/// Over TLS 1.3 a client learns only afterwards that its certificate was refused.
async fn is_served(browser: &Browser, tls: SocketAddr, name: &str) -> bool {
    let Ok(mut stream) = browser.connect(tls, name, &["http/1.1"]).await else { return false };
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let mut said = Vec::new();
    let asked = stream.write_all(request.as_bytes()).await.is_ok() && stream.read_to_end(&mut said).await.is_ok();
    asked && said.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn sessions_are_resumed_across_reloads_until_the_issuers_change() {
    let (authority, offices) = (Authority::new("tests"), Authority::new("offices"));
    let pair = authority.server("all", &["citizen.example", "office.example"]);
    let ca = offices.file();
    let asked = format!("client_auth = \"required\"\nclient_ca = {ca:?}");
    let entries =
        pair.entry("127.0.0.1:0", &["citizen.example"], "") + &pair.entry("127.0.0.1:0", &["office.example"], &asked);
    let setup = room_of("1000/s").with_more(&entries);
    let running = setup.clone().start().await;
    let tls = running.app.tls_addresses[0];
    for version in [&TLS12, &TLS13] {
        let citizen = authority.browser().speaking(version);
        assert_eq!(handshake(&citizen, tls, "citizen.example").await, HandshakeKind::Full);
        assert_eq!(handshake(&citizen, tls, "citizen.example").await, HandshakeKind::Resumed);
        running.reload(&setup).await;
        assert_eq!(handshake(&citizen, tls, "citizen.example").await, HandshakeKind::Resumed);
    }
    let office = authority.browser().showing(&offices.client("patronato"));
    handshake(&office, tls, "office.example").await;
    assert_eq!(handshake(&office, tls, "office.example").await, HandshakeKind::Resumed);
    std::fs::copy(Authority::new("others").file(), &ca).unwrap();
    running.reload(&setup).await;
    assert!(!is_served(&office, tls, "office.example").await, "no ticket leads past issuers who are gone");
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_certificate_that_was_shown() {
    let (authority, offices) = (Authority::new("tests"), Authority::new("offices"));
    let pair = authority.server("all", &["must.example", "may.example"]);
    let ca = offices.file();
    let asked = |auth: &str| format!("client_auth = \"{auth}\"\nclient_ca = {ca:?}");
    let entries = pair.entry("127.0.0.1:0", &["must.example"], &asked("required"))
        + &pair.entry("127.0.0.1:0", &["may.example"], &asked("optional"));
    let running = room_of("1000/s").with_more(&entries).start().await;
    let tls = running.app.tls_addresses[0];
    let now = running.clock.now().wall;
    let expired = "2050-01-02T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let expired = Unix(u64::try_from(expired).unwrap());
    for name in ["must.example", "may.example"] {
        for version in [&TLS12, &TLS13] {
            let certificate = offices.client_valid("short", Years(2020, 2050));
            let short = authority.browser().showing_over(&certificate, &[version]);
            let long = authority.browser().showing_over(&offices.client("long"), &[version]);
            for office in [&short, &long] {
                assert_eq!(handshake(office, tls, name).await, HandshakeKind::Full);
                assert_eq!(handshake(office, tls, name).await, HandshakeKind::Resumed);
            }
            running.clock.set_wall(expired);
            assert_eq!(handshake(&long, tls, name).await, HandshakeKind::Resumed, "{name} {version:?}");
            assert!(!is_served(&short, tls, name).await, "{name} {version:?}: an expired certificate was resumed");
            // The next handshakes are whole ones, in which the certificates are shown again.
            running.clock.set_wall(now);
            for office in [&short, &long] {
                assert_eq!(handshake(office, tls, name).await, HandshakeKind::Full, "{name} {version:?}");
            }
        }
    }
    let nobody = authority.browser();
    assert_eq!(handshake(&nobody, tls, "may.example").await, HandshakeKind::Full);
    running.clock.set_wall(expired);
    assert_eq!(handshake(&nobody, tls, "may.example").await, HandshakeKind::Resumed, "who showed none");
}

#[tokio::test]
async fn a_revoked_certificate_proves_nothing_over_a_resumed_session() {
    let (authority, offices) = (Authority::new("tests"), Authority::new("offices"));
    let pair = authority.server("all", &["office.example"]);
    let (patronato, other) = (offices.client("patronato"), offices.client("other"));
    let (ca, crl) = (offices.file(), offices.revoke("first", &[&other]));
    let entry =
        pair.entry("127.0.0.1:0", &["office.example"], &format!("client_auth = \"required\"\nclient_ca = {ca:?}"));
    let class = format!(
        "[[class]]\nname = \"office\"\nproof = [ {{ kind = \"client_certificate\", ca = {ca:?}, crl = {crl:?} }} ]\n"
    );
    let setup = room_of("1000/s").with_more(&entry).with_more(&class);
    let running = setup.clone().start().await;
    let tls = running.app.tls_addresses[0];
    let office = authority.browser().showing(&patronato);
    let enter = async || {
        let mut stream = office.connect(tls, "office.example", &["http/1.1"]).await.unwrap();
        let request = "GET /fair/ HTTP/1.1\r\nHost: office.example\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
        stream.get_ref().1.handshake_kind().unwrap()
    };
    let offices_inside = || running.metric("admissions_total{class=\"office\",room=\"fair\"}");
    assert_eq!((enter().await, offices_inside()), (HandshakeKind::Full, 1.0));
    assert_eq!((enter().await, offices_inside()), (HandshakeKind::Resumed, 2.0));
    std::fs::copy(offices.revoke("second", &[&other, &patronato]), &crl).unwrap();
    running.reload(&setup).await;
    assert_eq!((enter().await, offices_inside()), (HandshakeKind::Resumed, 2.0));
    assert_eq!(running.lane("admissions_total"), 1.0, "a citizen like any other");
}

/// How a connection came to stand on which a request was answered, so that tickets have come.
async fn handshake(browser: &Browser, tls: SocketAddr, name: &str) -> HandshakeKind {
    let mut stream = browser.connect(tls, name, &["http/1.1"]).await.unwrap();
    let request = format!("GET /.waiting-room/health HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn a_reload_shows_the_new_certificate_and_drops_nobody() {
    let stage = stage().await;
    let mut two = stage.browser().http2(stage.tls(), NAME).await.unwrap();
    let mut one = stage.browser().http1(stage.tls(), NAME).await.unwrap();
    ask(&mut two, page(NAME, "/")).await;
    ask1(&mut one, page1(NAME, "/")).await;
    let renewed = stage.authority.server_valid("renewed", &[NAME], Years(2025, 2050));
    renewed.replace(&stage.pair);
    assert_eq!(stage.running.reload(&stage.setup).await, ReloadAnswer::Unchanged);
    let shown = stage.browser().connect(stage.tls(), NAME, &[]).await.unwrap();
    assert_eq!(shown.get_ref().1.peer_certificates().unwrap()[0], renewed.der());
    assert_eq!(ask(&mut two, page(NAME, "/")).await.status, 200);
    assert_eq!(ask1(&mut one, page1(NAME, "/")).await.status, 200);
    let expiry = stage.running.metric(&format!("certificate_expiry_timestamp_seconds{{name=\"{NAME}\"}}"));
    assert_eq!(expiry, 2_524_608_000.0);

    std::fs::write(&stage.pair.key, "no key").unwrap();
    let ReloadAnswer::Refused(faults) = stage.running.reload(&stage.setup).await else { panic!("not refused") };
    assert!(faults[0].wrong.contains("holds no private key"), "{faults:?}");
    assert!(stage.browser().connect(stage.tls(), NAME, &[]).await.is_ok(), "the old ones stay in force");
}

#[tokio::test]
async fn another_address_needs_a_restart_and_another_name_does_not() {
    let stage = stage().await;
    let second = stage.authority.server("second", &["second.example"]);
    let added = stage.setup.clone().with_more(&second.entry("127.0.0.1:0", &["second.example"], ""));
    assert_eq!(stage.running.reload(&added).await, ReloadAnswer::Applied);
    assert!(is_served(&stage.browser(), stage.tls(), "second.example").await);
    let elsewhere = added.with_more(&second.entry("127.0.0.1:1", &["third.example"], ""));
    let answer = stage.running.reload(&elsewhere).await;
    assert_eq!(answer, ReloadAnswer::NeedsRestart(vec!["server.tls.listen".to_owned()]));
}

#[test]
fn what_is_wrong_with_certificates_is_said_with_a_remedy() {
    let authority = Authority::new("tests");
    let (good, other) = (authority.server("good", &[NAME]), authority.server("other", &[NAME]));
    let old = authority.server_valid("old", &[NAME], Years(2001, 2002));
    let nothing = tempfile::NamedTempFile::new().unwrap();
    let with =
        |certificate: &Pair, key: &Pair| Pair { certificate: certificate.certificate.clone(), key: key.key.clone() };
    let empty = Pair { certificate: nothing.path().to_owned(), key: nothing.path().to_owned() };
    let gone = Pair { certificate: "gone.pem".into(), key: "gone.key".into() };
    let check = |pair: &Pair, name: &str, more: &str| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let text = format!(
            "[server]\nlisten = []\n{}\n[portal]\nurl = \"http://127.0.0.1:1\"\n",
            pair.entry("127.0.0.1:0", &[name], more)
        );
        std::fs::write(&file, text).unwrap();
        process::run(&["check", "--config", &file.display().to_string()])
    };
    let ca_gone = "client_auth = \"required\"\nclient_ca = \"nowhere.pem\"";
    for (pair, more, expected) in [
        (with(&good, &other), "", "does not belong to the certificate in"),
        (old, "", "expired on 2002-01-01: renew it"),
        (with(&empty, &good), "", "holds no certificate: name a PEM file"),
        (with(&good, &empty), "", "holds no private key"),
        (gone, "", "cannot be read"),
        (good.clone(), ca_gone, "nowhere.pem cannot be read"),
    ] {
        let checked = check(&pair, NAME, more);
        assert_eq!(checked.code, 2, "{expected}: {checked:?}");
        let said = &checked.errors;
        assert!(said.contains(expected) && said.contains("server.tls[1] \"portal.example\": "), "{expected}: {said}");
    }
    let checked = check(&good, "elsewhere.example", "");
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.output.contains("elsewhere.example is not in the certificate"), "{}", checked.output);
}

#[tokio::test]
async fn plain_visitors_are_sent_to_https_and_told_to_stay_there() {
    let stage = stage_with("redirect_listen = [\"127.0.0.1:0\"]\nhsts = \"max-age=31536000\"", "").await;
    let plain = at(&stage.running.visitor(), stage.running.app.redirect_addresses[0]);
    let to = |method: &str, target: &str, host: &str| plain.request(method, target).header("Host", host);
    let sent = to("GET", "/fair/x?y=1", "portal.example:80").send().await;
    assert_eq!((sent.status, sent.header("location")), (301, Some("https://portal.example/fair/x?y=1")));
    assert_eq!(to("POST", "/fair/x", NAME).send().await.status, 308);
    let nowhere = to("GET", "/", "evil.example").send().await;
    assert_eq!((nowhere.status, nowhere.header("location")), (421, None));
    assert_eq!(stage.running.entered(), 0);
    let mut one = stage.browser().http1(stage.tls(), NAME).await.unwrap();
    let got = ask1(&mut one, page1(NAME, "/")).await;
    assert_eq!(got.header("strict-transport-security"), Some("max-age=31536000"));
    let over_http = stage.running.visitor().navigate("/").send().await;
    assert_eq!(over_http.header("strict-transport-security"), None, "RFC 6797 section 7.2");
}

#[tokio::test]
async fn proxies_that_announce_their_clients_are_believed_when_listed() {
    let lines = "client_address = \"proxy-protocol\"\ntrusted_proxies = [\"127.0.0.1/32\"]";
    let stage = stage_with(lines, "").await;
    let forged = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6;proto=https\r\n";
    let request = format!("GET /fair/plain HTTP/1.1\r\nHost: {NAME}\r\n{forged}Connection: close\r\n\r\n");
    let said =
        exchange(stage.running.address, format!("PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n{request}").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let seen = stage.running.portal.one("/fair/plain");
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));

    let mut stream = TcpStream::connect(stage.tls()).await.unwrap();
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &[203, 0, 113, 9, 10, 0, 0, 1, 0, 1, 0, 2]].concat();
    for piece in v2.chunks(5) {
        stream.write_all(piece).await.unwrap();
    }
    let mut stream = stage.browser().over(stream, NAME, &["http/1.1"]).await.unwrap();
    let request = request.replace("/fair/plain", "/fair/tls");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert!(said.starts_with(b"HTTP/1.1 200"));
    let seen = stage.running.portal.one("/fair/tls");
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.9"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));

    assert_eq!(exchange(stage.running.address, request.as_bytes()).await, "", "whoever is listed has to say it");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut stranger = socket.connect(stage.running.address).await.unwrap();
    stranger.write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = stranger.read_to_end(&mut said).await;
    assert!(said.starts_with(b"HTTP/1.1 400"), "nobody else is believed");
    let stranger = stage.running.visitor().from("127.0.0.9".parse().unwrap());
    assert_eq!(stranger.navigate("/").send().await.status, 200);
}

async fn exchange(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// TLS in front of the fake portal, which asks for a certificate.
async fn portal_behind_tls(portal: SocketAddr, pair: &Pair, clients: &Authority) -> SocketAddr {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(clients.file()).unwrap()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![pair.der()], PrivateKeyDer::from_pem_file(&pair.key).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut visitor) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(portal).await.unwrap();
                let _ = copy_bidirectional(&mut visitor, &mut plain).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_portal_behind_tls_is_reached_and_a_false_one_is_not() {
    let authority = Authority::new("inside");
    let clients = Authority::new("proxies");
    let fake = crate::support::portal::FakePortal::start().await;
    let address = portal_behind_tls(fake.address, &authority.server("portal", &["portal.internal"]), &clients).await;
    let own = clients.client("anticamera");
    let lines = |ca: &Authority, name: &str| {
        format!(
            "ca = {:?}\nserver_name = \"{name}\"\nclient_certificate = {:?}\nclient_key = {:?}",
            ca.file(),
            own.certificate,
            own.key
        )
    };
    let setup = |ca: &Authority, name: &str| {
        room_of("1000/s").with_portal_url(&format!("https://{address}")).with_portal(&lines(ca, name))
    };
    let running = setup(&authority, "portal.internal").start().await;
    let visitor = running.visitor();
    assert!(visitor.navigate("/fair/x").send().await.is_the_portals());
    assert!(fake.seen().iter().any(|seen| seen.target == "/fair/x"));
    assert!(running.portal.seen().is_empty(), "nothing goes past TLS");
    for (ca, name) in [(&clients, "portal.internal"), (&authority, "elsewhere.internal")] {
        assert_eq!(running.reload(&setup(ca, name)).await, ReloadAnswer::Applied);
        // Connections that stand are used for a few seconds more.
        running.seconds(5).await;
        assert_eq!(visitor.navigate("/fair/y").send().await.status, 502, "{} {name}", text(&ca.file()));
    }
}
