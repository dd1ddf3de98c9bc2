//! What the pure rules cost: tokens, the tick, a position in the line, the leak guard. Nothing here waits for anything.
//!
//! `cargo bench --bench rules`. Figures count beside each other and from one build to the next on the same machine.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be set up has failed")]

use std::hint::black_box;
use std::time::Duration;

use anticamera::domain::keyring::{KeyId, Keyring, MasterKey, RoomKeys, Secret};
use anticamera::domain::leak_guard::{Personal, Route, Rules, clean_request, guard_response};
use anticamera::domain::line::{Asks, Conditions, Line, Terms};
use anticamera::domain::names::{ClassId, RoomName};
use anticamera::domain::time::{Mono, Now, Unix};
use anticamera::domain::token::{Claim, Kind, LineIdentity, Token, VisitorId};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Response, header};

const CLASS: ClassId = ClassId(7);
const NOW: u32 = 1_600_000_000;
const TICK_NANOS: u64 = 100_000_000;
/// Visits every number of a line once, in no order (coprime to the lengths used here).
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

fn keys(room: &RoomName) -> RoomKeys {
    let key = MasterKey { id: KeyId(1), created: 0, secret: Secret::new([7; 32]) };
    Keyring::new(vec![key], Duration::ZERO).unwrap().for_room(room)
}

fn token(room: &RoomName) -> Token {
    Token {
        room: room.id(),
        claim: Claim::Ticket(LineIdentity(42)),
        class: CLASS,
        id: VisitorId([9; 16]),
        number: 1_234_567,
        issued: NOW,
        expires: NOW + 86_400,
    }
}

fn tokens(criterion: &mut Criterion) {
    let room = RoomName::new("bonus-600").unwrap();
    let (keys, token) = (keys(&room), token(&room));
    let text = keys.sign(&token, NOW);
    let text = text.as_str().as_bytes();
    let mut broken = text.to_vec();
    broken[80] ^= 1;
    criterion.bench_function("token/mint", |bench| bench.iter(|| keys.sign(black_box(&token), NOW)));
    criterion.bench_function("token/verify", |bench| bench.iter(|| keys.verify(Kind::Ticket, black_box(text), NOW)));
    criterion.bench_function("token/refuse", |bench| {
        bench.iter(|| keys.verify(Kind::Ticket, black_box(&broken), NOW).is_err())
    });
}

fn now(at: u64) -> Now {
    let unix = Unix(1_600_000_000_000 + at / 1_000_000);
    Now { mono: Mono(at), unix, wall: unix }
}

fn line_of(visitors: u64) -> Line {
    let terms = Terms {
        rate: "5000/s".parse().unwrap(),
        claim_window: Duration::from_secs(1200),
        ticket_lifetime: Duration::from_secs(86_400),
        gate_wait: Duration::from_secs(5),
    };
    let mut line = Line::new(terms, Mono(0));
    for number in 1..=visitors {
        line.join(CLASS, number, Asks::Scripted, now(0));
    }
    line
}

fn line(criterion: &mut Criterion) {
    for (name, visitors) in [("thousand", 1_000), ("million", 1_000_000), ("ten million", 10_000_000)] {
        let mut group = criterion.benchmark_group(format!("line of a {name}").replace("a ten", "ten"));
        let mut line = line_of(visitors);
        let mut number: u64 = 0;
        let mut next = move || {
            number = number.wrapping_add(STRIDE);
            number % visitors + 1
        };
        group.bench_function("position", |bench| bench.iter(|| line.standing(CLASS, next(), Asks::Scripted)));
        group.bench_function("poll", |bench| bench.iter(|| line.poll(CLASS, next(), Asks::Scripted, now(0)).0));
        let mut at = 0;
        group.sample_size(20).bench_function("tick", |bench| {
            bench.iter(|| {
                at += TICK_NANOS;
                line.tick(now(at), Conditions::FINE)
            });
        });
        group.finish();
    }
}

fn request_headers() -> HeaderMap {
    let pairs = [
        (header::HOST, "portal.example"),
        (header::ACCEPT, "text/html,application/xhtml+xml"),
        (header::ACCEPT_LANGUAGE, "it"),
        (header::USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64)"),
        (header::COOKIE, "JSESSIONID=0123456789ABCDEF0123456789ABCDEF.node1; lang=it"),
        (header::IF_NONE_MATCH, "\"abc\""),
    ];
    pairs.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

fn answer() -> http::response::Parts {
    let response = Response::builder()
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CACHE_CONTROL, "max-age=60")
        .header(header::ETAG, "\"abc\"")
        .header(header::VARY, "Accept-Encoding")
        .header(header::SET_COOKIE, "JSESSIONID=0123456789ABCDEF; Path=/; HttpOnly")
        .body(());
    response.unwrap().into_parts().0
}

fn leak_guard(criterion: &mut Criterion) {
    let (rules, route, path) = (Rules::STRICT, Route::Personal(Personal::STRICT), "/bonus-600/form");
    let clean = |headers: &mut HeaderMap| clean_request(headers, &Method::GET, path, route, &rules);
    criterion.bench_function("leak guard/request", |bench| {
        bench.iter_batched_ref(request_headers, clean, BatchSize::SmallInput);
    });
    let exchange = clean(&mut request_headers());
    criterion.bench_function("leak guard/answer", |bench| {
        bench.iter_batched_ref(answer, |parts| guard_response(parts, &exchange, &rules), BatchSize::SmallInput);
    });
}

criterion_group!(rules, tokens, line, leak_guard);
criterion_main!(rules);
