//! Real caches in front of the proxy and between it and the portal: does anybody see anybody else's page?
//!
//! For each page two signed-in visitors ask twice, then a stranger; whatever names somebody else is a leak. The matrix is
//! printed with and without the guard. `ANTICAMERA_FULL=1` asks for every page in every arrangement; without it every
//! set-up still gets every family of pages.

pub mod cache;
mod portal;

use std::fmt::Write as _;
use std::net::SocketAddr;

use self::cache::{ALL, Cache, Care, Kind};
use self::portal::{Asked, Case, Framing, Portal, cases};
use crate::support::process::{Proxy, Setup};
use crate::support::wire::{Reply, Visitor, Wire};

/// Where the cache stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Alone in front of the portal: no guard at all.
    Unguarded,
    /// In front of the proxy.
    InFront,
    /// Between the proxy and the portal.
    Behind,
    /// The same with `upstream_bust = true`.
    BehindBusted,
}

const PLACES: [Place; 4] = [Place::Unguarded, Place::InFront, Place::Behind, Place::BehindBusted];

/// A cache, perhaps with the proxy.
struct Arrangement {
    entrance: SocketAddr,
    _cache: Cache,
    _proxy: Option<Proxy>,
}

fn proxy(portal: SocketAddr, guard: &str) -> Proxy {
    let mut setup = Setup { paths: "/**", ..Setup::in_front_of(&[portal]) };
    setup.room = "joins_per_client = \"unlimited\"".to_owned();
    setup.leak_guard = format!("public = [\"/static/**\"]\n{guard}");
    setup.start()
}

impl Arrangement {
    fn of(kind: Kind, care: Care, place: Place, portal: SocketAddr) -> Arrangement {
        match place {
            Place::Unguarded => {
                let cache = Cache::start(kind, care, portal);
                Arrangement { entrance: cache.address, _cache: cache, _proxy: None }
            }
            Place::InFront => {
                let proxy = proxy(portal, "");
                let cache = Cache::start(kind, care, proxy.address);
                Arrangement { entrance: cache.address, _cache: cache, _proxy: Some(proxy) }
            }
            Place::Behind | Place::BehindBusted => {
                let cache = Cache::start(kind, care, portal);
                let bust = if place == Place::BehindBusted { "upstream_bust = true" } else { "" };
                let proxy = proxy(cache.address, bust);
                Arrangement { entrance: proxy.address, _cache: cache, _proxy: Some(proxy) }
            }
        }
    }
}

/// Somebody with a session of the portal, let in by the proxy if there is one.
struct Person {
    name: &'static str,
    browser: Visitor,
}

impl Person {
    fn new(name: &'static str, entrance: SocketAddr) -> Person {
        let mut browser = Visitor::new(entrance);
        if name != "nobody" {
            browser.cookies.insert("user".to_owned(), name.to_owned());
            // An address of its own, so that no cache answers with somebody else's way in.
            browser.get(&format!("/in/{name}"));
        }
        Person { name, browser }
    }

    fn ask(&self, method: &str, target: &str, more: &str, entrance: SocketAddr) -> Option<Reply> {
        let mut wire = Wire::connect(entrance);
        let length = if method == "POST" { "Content-Length: 3\r\n" } else { "" };
        wire.send(self.browser.request(method, target, &format!("{more}{length}Connection: close\r\n")));
        if method == "POST" {
            wire.send("a=1");
        }
        if method == "HEAD" { wire.try_head() } else { wire.try_head_and_body() }
    }

    /// Whether an answer names somebody else, or carries somebody else's pass.
    fn sees_another(&self, reply: &Reply, others: &[&Person]) -> bool {
        let text = String::from_utf8_lossy(&reply.body);
        let lines: Vec<&str> = reply.headers.iter().map(|(_, value)| value.as_str()).collect();
        others.iter().filter(|other| other.name != self.name && other.name != "nobody").any(|other| {
            let mark = format!("of-{}", other.name);
            let named = text.contains(&mark) || lines.iter().any(|line| line.contains(&mark));
            named || other.browser.pass().is_some_and(|pass| lines.iter().any(|line| line.contains(pass)))
        })
    }
}

/// What asking for pages showed, by the pages' numbers.
#[derive(Debug, Default)]
struct Shown {
    /// Somebody saw somebody else's.
    leaked: Vec<usize>,
    /// Whoever asked first did not see their own.
    withheld: Vec<usize>,
}

fn shown(arrangement: &Arrangement, cases: &[(usize, Case)]) -> Shown {
    let entrance = arrangement.entrance;
    let (anna, bruno) = (Person::new("anna", entrance), Person::new("bruno", entrance));
    let stranger = Person::new("nobody", entrance);
    let people = [&anna, &bruno, &stranger];
    let mut shown = Shown::default();
    for (number, case) in cases {
        let target = format!("/p/{number}{}", case.ending);
        match case.asked {
            Asked::Get => drop(anna.ask("GET", &target, "", entrance)),
            Asked::HeadThenGet => drop(anna.ask("HEAD", &target, "", entrance)),
            Asked::Post => drop(anna.ask("POST", &target, "", entrance)),
            Asked::WithAuthorization => drop(anna.ask("GET", &target, "Authorization: Bearer anna\r\n", entrance)),
        }
        let own = anna.ask("GET", &target, "", entrance);
        let sees_own = own.as_ref().is_some_and(|own| String::from_utf8_lossy(&own.body).contains("page of-anna"));
        if !sees_own && !case.looks_like_a_hit() {
            shown.withheld.push(*number);
        }
        let ask = |person: &Person| person.ask("GET", &target, "", entrance);
        let seen = [(&anna, own), (&bruno, ask(&bruno)), (&stranger, ask(&stranger)), (&bruno, ask(&bruno))];
        let is_anothers = |person: &Person, reply: &Reply| person.sees_another(reply, &people);
        if seen.iter().any(|(person, reply)| reply.as_ref().is_some_and(|reply| is_anothers(person, reply))) {
            shown.leaked.push(*number);
        }
    }
    shown
}

/// Every page, or a selection in which every family is present.
fn selection(place: Place) -> Vec<(usize, Case)> {
    let whole = std::env::var_os("ANTICAMERA_FULL").is_some() || place == Place::InFront;
    let all = cases().into_iter().enumerate();
    if whole { all.collect() } else { all.filter(|(number, _)| number % 3 == 0).collect() }
}

/// The one set-up that keeps everything, whatever an answer says: only the canary at the edge can tell.
fn keeps_everything(kind: Kind, care: Care) -> bool {
    (kind, care) == (Kind::Varnish, Care::Careless)
}

#[test]
fn no_cache_shows_one_person_anothers_page() {
    let portal = Portal::start();
    assert!(cases().len() >= 150, "{}", cases().len());
    let mut matrix = format!(
        "{:<20}{:>12}{:>12}{:>12}{:>14}\n",
        "pages seen by others", "no guard", "in front", "behind", "behind, bust"
    );
    let mut faults = Vec::new();
    for (kind, care) in ALL {
        let _ = write!(matrix, "{:<20}", format!("{kind:?} {care:?}"));
        for place in PLACES {
            let cases = selection(place);
            let Shown { leaked, withheld } = shown(&Arrangement::of(kind, care, place, portal.address), &cases);
            let _ = write!(matrix, "{:>12}", format!("{}/{}", leaked.len(), cases.len()));
            // Varnish reads no trailers: what is left of an answer spoils the next one on its connection to the portal.
            let spoiled = |number: &usize| {
                let framing = cases.iter().find(|(case, _)| case == number).map(|(_, case)| case.framing);
                (kind, place, framing) == (Kind::Varnish, Place::BehindBusted, Some(Framing::ChunkedWithTrailers))
            };
            let withheld: Vec<usize> = withheld.into_iter().filter(|number| !spoiled(number)).collect();
            // A guard that answers everybody with an error leaks nothing either.
            if matches!(place, Place::InFront | Place::BehindBusted) && !withheld.is_empty() {
                faults.push(format!("{kind:?} {care:?} {place:?}: pages {withheld:?} were withheld from their owner"));
            }
            let must_hold = match place {
                Place::Unguarded | Place::Behind => false,
                Place::InFront => !keeps_everything(kind, care),
                Place::BehindBusted => true,
            };
            if must_hold && !leaked.is_empty() {
                faults.push(format!("{kind:?} {care:?} {place:?}: pages {leaked:?} were seen by others"));
            }
        }
        matrix.push('\n');
    }
    println!("{matrix}");
    assert!(faults.is_empty(), "{matrix}\n{}", faults.join("\n"));
}

#[test]
fn fifty_public_files_leave_a_visitor_with_their_server() {
    let servers = ["one", "two"].map(portal::start_server_with_sessions);
    let balancer = Cache::start_sticky_balancer(servers);
    let proxy = proxy(balancer.address, "");
    for _ in 0..4 {
        let mut visitor = Visitor::new(proxy.address);
        visitor.get("/login");
        let server = visitor.get("/me").text().to_owned();
        for file in 0..50 {
            let reply = visitor.get(&format!("/static/{file}.css"));
            assert!(reply.all("set-cookie").is_empty(), "{reply:?}");
        }
        let reply = visitor.get("/me");
        assert_eq!((reply.status, reply.text()), (200, server.as_str()), "still logged in on the same server");
    }
}

/// The reason on the public board, which stands there within a second.
fn reason_on_the_board(entrance: SocketAddr, wanted: Option<&str>) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let board = Visitor::new(entrance).get("/.waiting-room/board/r");
        let board: serde_json::Value = serde_json::from_slice(&board.body).unwrap();
        board["reason"]["code"].as_str() == wanted
    })
}

#[test]
fn the_canary_stops_admissions_where_an_edge_keeps_everything() {
    let portal = Portal::start();
    let mut setup = Setup { paths: "/**", ..Setup::in_front_of(&[portal.address]) };
    // So that nothing but the canary keeps anybody out.
    setup.room = "joins_per_client = \"unlimited\"".to_owned();
    let proxy = setup.start();
    let edge = Cache::start(Kind::Varnish, Care::Careless, proxy.address);
    let enters = || Visitor::new(proxy.address).get("/in/somebody").cookie("anticamera-pass-r").is_some();
    assert!(enters());
    setup.leak_guard = "canary_interval = \"1s\"".to_owned();
    let reload = |setup: &Setup| {
        std::fs::write(proxy.file(), setup.text()).unwrap();
        proxy.signal("HUP");
    };
    reload(&Setup { server: format!("public_url = \"http://{}\"", edge.address), ..setup.clone() });
    proxy.log().wait_for(|line| line.contains("keeps personal pages") && line.contains("\"stops\":true"));
    assert!(reason_on_the_board(proxy.address, Some("leak_guard")));
    assert!(!enters(), "nobody new is let in");
    reload(&Setup { server: format!("public_url = \"http://{}\"", proxy.address), ..setup });
    assert!(reason_on_the_board(proxy.address, None));
    assert!(enters(), "the edge is mended");
}

/// A cache behind the proxy that keeps files by their names, as many portals have one, and no configuration at all.
#[test]
fn a_cache_behind_us_that_keeps_only_files_stops_nobody() {
    let portal = Portal::start();
    let cache = Cache::start_for_files(portal.address);
    let mut setup = Setup { paths: "/**", ..Setup::in_front_of(&[cache.address]) };
    setup.server = "trusted_proxies = [\"127.0.0.1/32\"]".to_owned();
    let proxy = setup.start();
    for last in 1..8 {
        let mut visitor = Visitor::new(proxy.address);
        let from = format!("X-Forwarded-For: 192.0.2.{last}\r\n");
        for target in
            ["/in/somebody", "/static/plain-1.css", "/static/lifetime-2.css", "/in/somebody", "/static/plain-1.css"]
        {
            let reply = visitor.ask("GET", target, &from, b"");
            assert_eq!(reply.status, 200, "{target}: {reply:?}");
            reply.assert_personal();
        }
    }
    assert!(cache.hits() > 10, "the cache behind us answered");
    assert!(reason_on_the_board(proxy.address, None));
    assert!(!proxy.log().text().contains("blocked answers"));
}

#[test]
fn an_edge_with_tls_is_asked_from_the_command_line() {
    let portal = Portal::start();
    let proxy = proxy(portal.address, "");
    let (edge, certificate) = Cache::start_with_tls(Care::Default, proxy.address);
    let url = format!("https://localhost:{}", edge.address.port());
    let file = proxy.file();
    let check = |certificates: &str| {
        let arguments = ["check", "--config", file.to_str().unwrap(), "--public-url", &url];
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_anticamera"));
        let output = program.args(arguments).env("SSL_CERT_FILE", certificates).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&certificate);
    assert!(code == Some(0) && text.contains("keeps no personal pages"), "{text}");
    let (code, text) = check("/nonexistent");
    assert!(code == Some(1) && text.contains("unknown (no connection: "), "{text}");
}

/// Asks for twenty public files ten times each as different visitors, and counts what reaches the portal.
fn public_requests(entrance: SocketAddr, portal: &Portal) -> usize {
    portal.take_public_requests();
    for round in 0..10 {
        for file in 0..20 {
            let kind = if file % 2 == 0 { "lifetime" } else { "plain" };
            let target = format!("/static/{kind}-{file}.css");
            let mut wire = Wire::connect(entrance);
            wire.send(format!(
                "GET {target} HTTP/1.1\r\nHost: portal.example\r\nCookie: user=u{round}\r\nConnection: close\r\n\r\n"
            ));
            let reply = wire.reply();
            assert_eq!((reply.status, reply.text()), (200, "a{}\n"), "{target}");
        }
    }
    portal.take_public_requests()
}

#[test]
fn public_files_stay_shared() {
    let portal = Portal::start();
    for kind in [Kind::Nginx, Kind::Haproxy, Kind::Squid, Kind::Apache, Kind::Varnish] {
        let [without, with] = [Place::Unguarded, Place::InFront].map(|place| {
            let arrangement = Arrangement::of(kind, Care::Default, place, portal.address);
            public_requests(arrangement.entrance, &portal)
        });
        println!(
            "{kind:?}: of 200 requests for public files {without} reach the portal without the proxy, {with} with it"
        );
        assert!(with <= without, "{kind:?}: {with} instead of {without}");
    }
}
