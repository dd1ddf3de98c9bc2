//! One pass is worth one person's traffic: its limits, and what becomes of copies.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::app::{Running, Visitor, room_of};
use crate::support::portal::{Script, Step, gate};
use serde_json::json;

#[tokio::test]
async fn a_pass_that_asks_too_often_is_told_to_wait_and_keeps_its_seat() {
    let running = room_of("10/s").with("requests_per_pass = \"60/min\"\npage_status = 200").start().await;
    let visitor = running.insider().await;
    let copy = visitor.copy();
    running.seconds(60).await;
    let mut refused = 0;
    for asking in 0..70 {
        let one = if asking % 2 == 0 { &visitor } else { &copy };
        let answer = one.navigate("/fair/").send().await;
        refused += u32::from(answer.status == 429);
        assert!(answer.status == 429 || answer.is_the_portals(), "{answer:?}");
    }
    assert_eq!(refused, 10, "a copy shares the limits");
    assert_eq!(running.metric("pass_limited_total{reason=\"pace\",room=\"fair\"}"), 10.0);

    let page = visitor.navigate("/fair/").send().await;
    assert_eq!((page.status, page.header("retry-after"), page.is_personal()), (429, Some("1"), true));
    assert!(page.text().contains("Too many requests") || page.text().contains("Troppe richieste"), "{}", page.text());
    assert!(!page.deletes("pass"));
    let script = visitor.script("GET", "/fair/").send().await;
    assert_eq!((script.status, script.header("content-type")), (429, Some("application/problem+json")));
    assert_eq!((script.queue()["state"].clone(), script.json()["status"].clone()), (json!("inside"), json!(429)));
    let image = visitor.image("/fair/picture").send().await;
    assert_eq!((image.status, image.body.len()), (429, 0));
    let form = visitor.form("/fair/apply", "field=value").send().await;
    assert_eq!(form.status, 429);

    let (before, reached) = (running.lane("admissions_total"), running.entered());
    running.seconds(1).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals(), "one a second");
    assert_eq!(visitor.navigate("/fair/").send().await.status, 429);
    assert_eq!((running.lane("admissions_total"), running.entered()), (before, reached + 1));
    assert_eq!(running.metric("active_sessions{class=\"citizen\",room=\"fair\"}"), 1.0);
}

#[tokio::test]
async fn no_more_of_one_pass_is_under_way_at_once_than_may_be() {
    let running = room_of("10/s").with("requests_at_once_per_pass = 3").start().await;
    let visitor = running.insider().await;
    let (open, wait) = gate();
    running.portal.script("/fair/slow", [Script::new([wait, Step::Send(b"HTTP/1.1 204 X\r\n\r\n".to_vec())])]);
    let seen = running.portal.seen().len();
    let slow: Vec<_> = (0..3).map(|_| visitor.navigate("/fair/slow").begin()).collect();
    running.portal.arrived(seen + 3).await;
    let more = visitor.copy().navigate("/fair/").send().await;
    assert_eq!((more.status, more.header("retry-after")), (429, Some("1")));
    assert_eq!(running.metric("pass_limited_total{reason=\"at_once\",room=\"fair\"}"), 1.0);
    let stranger = running.insider().await;
    assert!(stranger.navigate("/fair/").send().await.is_the_portals(), "another pass has limits of its own");
    open.send(true).unwrap();
    for one in slow {
        assert_eq!(one.await.unwrap().status, 204);
    }
    running.seconds(1).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals(), "what is over does not count");
}

#[tokio::test]
async fn a_page_of_a_hundred_parts_at_once_meets_no_limit() {
    let running = room_of("10/s").start().await;
    let visitor = running.insider().await;
    let (open, wait) = gate();
    running.portal.script("/fair/part", [Script::new([wait, Step::Send(b"HTTP/1.1 204 X\r\n\r\n".to_vec())])]);
    let seen = running.portal.seen().len();
    let parts: Vec<_> = (0..100).map(|_| visitor.image("/fair/part").begin()).collect();
    running.portal.arrived(seen + 100).await;
    open.send(true).unwrap();
    for part in parts {
        assert_eq!(part.await.unwrap().status, 204);
    }
    for page in 0..16 {
        for _ in 0..100 {
            assert!(visitor.image("/fair/").send().await.is_the_portals(), "page {page}");
        }
    }
}

#[tokio::test]
async fn limits_of_a_pass_change_with_a_reload() {
    let running = room_of("10/s").start().await;
    let visitor = running.insider().await;
    running.seconds(1).await;
    running.reload(&room_of("10/s").with("requests_per_pass = \"1/min\"")).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    assert_eq!(visitor.navigate("/fair/").send().await.status, 429);
    running.reload(&room_of("10/s").with("requests_per_pass = \"unlimited\"\nrequests_at_once_per_pass = 0")).await;
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
}

/// Somebody inside whose pass was copied to another network and renewed since.
async fn forked(lines: &str) -> (Running, [Visitor; 2]) {
    let running = room_of("10/s").with(lines).start().await;
    let visitor = running.insider().await;
    let copy = visitor.copy().from(Ipv4Addr::new(127, 0, 9, 1));
    assert!(copy.navigate("/fair/").send().await.is_the_portals(), "no address is held against anybody");
    running.seconds(5 * 60 + 1).await;
    for _ in 0..2 {
        assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    }
    assert_ne!(visitor.token("pass"), copy.token("pass"), "renewed");
    (running, [visitor, copy])
}

fn forks(running: &Running, action: &str) -> f64 {
    running.metric(&format!("forked_passes_total{{action=\"{action}\",room=\"fair\"}}"))
}

#[tokio::test]
async fn a_fork_shares_the_seat_until_the_overlap_ends_and_is_counted() {
    let (running, [visitor, copy]) = forked("").await;
    assert!(copy.navigate("/fair/").send().await.is_the_portals());
    assert_eq!(forks(&running, "kept"), 0.0, "requests may have been under way");
    running.seconds(30).await;
    let pass = copy.token("pass");
    assert!(copy.navigate("/fair/").send().await.is_the_portals());
    assert_eq!((forks(&running, "kept"), copy.token("pass")), (1.0, pass), "it gets no newer one");
    assert_eq!((running.lane("admissions_total"), running.lane("active_sessions")), (1.0, 1.0));
    running.seconds(31).await;
    copy.copy().navigate("/fair/").send().await;
    assert_eq!(forks(&running, "sent_to_line"), 1.0);
    assert_eq!(running.lane("admissions_total"), 2.0, "a newcomer like any other");
    let moved = visitor.copy().from(Ipv4Addr::new(127, 0, 77, 1));
    assert!(moved.navigate("/fair/").send().await.is_the_portals(), "the newest pass may come from anywhere");
}

#[tokio::test]
async fn a_fork_is_sent_to_the_line_where_configured() {
    let (running, [visitor, copy]) = forked("forked_pass = \"line\"").await;
    assert!(copy.navigate("/fair/").send().await.is_the_portals(), "requests may have been under way");
    running.seconds(11).await;
    let near = copy.copy().from(Ipv4Addr::new(127, 0, 0, 200));
    assert!(near.navigate("/fair/").send().await.is_the_portals(), "from the same network it is good for a minute");
    copy.navigate("/fair/").send().await;
    assert_eq!((forks(&running, "kept"), forks(&running, "sent_to_line")), (0.0, 1.0));
    assert_eq!(running.lane("admissions_total"), 2.0, "a newcomer like any other");
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
}

/// Whoever logged out stays out, across an orderly restart and a crash, for as long as the pass would have been good.
#[tokio::test]
async fn an_ended_pass_stays_ended_across_restarts() {
    let running = room_of("10/s").with("logout = [\"/goodbye\"]\nentry = \"page\"").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    running.until(visitor.poll().begin(), Duration::from_secs(20)).await;
    for _ in 0..2 {
        assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    }
    let copy = visitor.copy();
    assert!(visitor.navigate("/goodbye").send().await.is_the_portals());
    assert_eq!(copy.copy().navigate("/fair/").send().await.status, 503);
    running.seconds(2).await;
    let running = running.restart().await;
    assert_eq!(copy.copy().at(&running).navigate("/fair/").send().await.status, 503);
    running.seconds(2).await;
    let running = running.crash().await;
    running.seconds(20 * 60).await;
    assert_eq!(copy.copy().at(&running).navigate("/fair/").send().await.status, 503);
    assert_eq!(running.rejected("ended"), 1.0);
}
