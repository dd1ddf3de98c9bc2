//! As much load as the machine takes, for a while: memory and descriptors stay as they are, and no request fails.
//!
//! The released program as a process. Visitors come over connections of their own, look at pages, log out and leave;
//! others join, look where they stand and give up. With `ANTICAMERA_FULL` for ten minutes.
#![allow(clippy::disallowed_methods, reason = "real time is measured here")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::crowd::{Answer, Broken, Client, Portal};
use crate::support::process::{Proxy, Setup};

/// Those who enter at once, and those who only join.
const ENTERING: usize = 32;
const JOINING: usize = 16;
/// Pages that a visitor looks at before logging out.
const PAGES: usize = 40;
/// How often memory and descriptors are looked at.
const LOOKS: u32 = 20;
/// By how much memory may differ that is used again and again, in bytes: the allocator's and the store's pages.
const SLACK: u64 = 8 << 20;
/// Bytes that are kept of a visitor who has gone: the end of the pass, for as long as it would have been good, and the
/// ticket.
const KEPT_OF_EACH: u64 = 160;
/// How long that is at least, in seconds: passes have a grace period.
const KEPT_FOR: u64 = 330;

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    requests: AtomicU64,
    visitors: AtomicU64,
    waited: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    memory: u64,
    descriptors: usize,
    visitors: u64,
}

fn duration() -> Duration {
    let given = std::env::var("ANTICAMERA_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let is_full = std::env::var_os("ANTICAMERA_FULL").is_some();
    Duration::from_secs(given.unwrap_or(if is_full { 600 } else { 10 }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_full_load_memory_and_descriptors_stay_as_they_are() {
    let portal = Portal::start().await;
    let room = "joins_per_client = \"unlimited\"\nsession_duration = \"20s\"\nlogout = [\"/r/goodbye\"]".to_owned();
    let proxy = Setup { rate: "5000/s", room, ..Setup::in_front_of(&[portal.address]) }.start();
    let tally = Arc::new(Tally::default());
    let begun = Instant::now();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..ENTERING {
        crowd.spawn(come_and_go(proxy.address, tally.clone()));
    }
    for _ in 0..JOINING {
        crowd.spawn(join_and_leave(proxy.address, tally.clone()));
    }
    let mut looks = Vec::new();
    for number in 1..=LOOKS {
        tokio::time::sleep_until((begun + duration() * number / LOOKS).into()).await;
        looks.push(look(&proxy, &tally));
    }
    tally.over.store(true, Ordering::Relaxed);
    while let Some(visitor) = crowd.join_next().await {
        visitor.expect("no request fails");
    }
    let per_second = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{:.0} requests and {:.1} visitors a second for {:?}; {} times somebody had to wait",
        per_second(&tally.requests),
        per_second(&tally.visitors),
        duration(),
        tally.waited.load(Ordering::Relaxed)
    );
    for (number, look) in looks.iter().enumerate() {
        let seconds = (duration() * (number as u32 + 1) / LOOKS).as_secs();
        println!(
            "{seconds:4} s: {:6.1} MiB, {} descriptors, {} visitors so far",
            look.memory as f64 / f64::from(1 << 20),
            look.descriptors,
            look.visitors
        );
    }
    assert_flat(&looks);
}

fn look(proxy: &Proxy, tally: &Tally) -> Look {
    Look {
        memory: proxy.memory().now,
        descriptors: std::fs::read_dir(format!("/proc/{}/fd", proxy.process_id())).unwrap().count(),
        visitors: tally.visitors.load(Ordering::Relaxed),
    }
}

/// The last quarter is compared with the one before: until then caches and pools have filled.
fn assert_flat(looks: &[Look]) {
    let (before, after) = (&looks[looks.len() / 2..looks.len() * 3 / 4], &looks[looks.len() * 3 / 4..]);
    let most = |looks: &[Look]| looks.iter().map(|look| look.memory).max().unwrap();
    // Of those who went longer ago than that, nothing is kept any more.
    let newly_kept =
        if duration().as_secs() / 2 > KEPT_FOR { 0 } else { after[after.len() - 1].visitors - before[0].visitors };
    let allowed = most(before) + SLACK + newly_kept * KEPT_OF_EACH;
    assert!(most(after) <= allowed, "memory grows: {} bytes, and {allowed} would be explained", most(after));
    let open = |looks: &[Look]| looks.iter().map(|look| look.descriptors).max().unwrap();
    assert!(open(after) <= open(before) + ENTERING + JOINING, "descriptors: {} and then {}", open(before), open(after));
}

async fn come_and_go(proxy: std::net::SocketAddr, tally: Arc<Tally>) {
    while !tally.over.load(Ordering::Relaxed) {
        let mut visitor = Client::to(proxy);
        while asked(&tally, visitor.get("/r/").await).status != 200 {
            // Somebody waits: this visitor does too. The first answer draws the ticket, the others come with the call.
            tally.waited.fetch_add(1, Ordering::Relaxed);
            let target = if visitor.number().is_none() { "join" } else { "status" };
            asked(&tally, visitor.post(&format!("/.waiting-room/{target}?room=r")).await);
        }
        for page in 0..PAGES {
            let answer = asked(&tally, visitor.get(&format!("/r/page/{page}")).await);
            assert_eq!((answer.status, answer.text().as_str()), (200, "inside"));
        }
        assert_eq!(asked(&tally, visitor.get("/r/goodbye").await).status, 200);
        tally.visitors.fetch_add(1, Ordering::Relaxed);
    }
}

async fn join_and_leave(proxy: std::net::SocketAddr, tally: Arc<Tally>) {
    while !tally.over.load(Ordering::Relaxed) {
        let mut visitor = Client::to(proxy);
        for target in ["join", "status", "leave"] {
            let answer = asked(&tally, visitor.post(&format!("/.waiting-room/{target}?room=r")).await);
            assert!(matches!(answer.status, 200 | 303), "{target}: {} {}", answer.status, answer.text());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn asked(tally: &Tally, answer: Result<Answer, Broken>) -> Answer {
    tally.requests.fetch_add(1, Ordering::Relaxed);
    answer.expect("an answer")
}
