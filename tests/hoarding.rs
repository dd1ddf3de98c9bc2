//! Those who draw more tickets than they need, and those who share one: what is asked of them, and what others notice.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::support::app::{Answer, Running, Visitor, Wire, own, room_of};

/// A room in which so many joins per client and minute are free, all of which were used by one client.
async fn over_the_limit(free: u32, per: &str) -> Running {
    let limit = format!("entry = \"page\"\njoins_per_client = \"{free}/{per}\"");
    let running = room_of("1/min").with(&limit).start().await;
    for _ in 0..free {
        assert_eq!(running.visitor().join().await.status, 200);
    }
    running
}

fn asked(answer: &Answer) -> (String, u32) {
    assert_eq!((answer.status, answer.state().as_str()), (429, "none"));
    let challenge = &answer.json()["challenge"];
    let bits = challenge["bits"].as_u64().unwrap();
    (challenge["text"].as_str().unwrap().to_owned(), u32::try_from(bits).unwrap())
}

/// As the description says it, and in no other way: hexadecimal digits are as good as any.
fn ending(text: &str, bits: u32) -> String {
    let is_enough = |ending: &String| {
        let hash = Sha256::digest(format!("{text}{ending}"));
        u32::from_be_bytes(hash[..4].try_into().unwrap()).leading_zeros() >= bits
    };
    (0u32..).map(|count| format!("{count:x}")).find(is_enough).unwrap()
}

async fn join_with(visitor: &Visitor, challenge: &str, ending: &str) -> Answer {
    visitor.script("POST", &own("join")).json(&json!({ "challenge": challenge, "ending": ending })).send().await
}

#[tokio::test]
async fn whoever_joins_over_the_limit_works_for_it_once() {
    let running = over_the_limit(3, "min").await;
    let late = running.visitor();
    let (text, bits) = asked(&late.join().await);
    assert_eq!(bits, 14, "just over the limit");
    let found = ending(&text, bits);
    let elsewhere = running.visitor().from(Ipv4Addr::new(127, 0, 0, 9));
    assert_eq!(elsewhere.join().await.status, 200, "a quiet client is asked for nothing");
    asked(&join_with(&late, &text, "nothing").await);
    assert_eq!(join_with(&late, &text, &found).await.status, 200);
    assert!(late.token("ticket").is_some());
    let (again, _) = asked(&join_with(&running.visitor(), &text, &found).await);
    assert_ne!(again, text, "the same work draws no second ticket");
}

#[tokio::test]
async fn work_is_good_for_the_client_that_was_asked_for_it() {
    let running = over_the_limit(1, "h").await;
    let (text, bits) = asked(&running.visitor().join().await);
    let found = ending(&text, bits);
    let accomplice = running.visitor().from(Ipv4Addr::new(127, 0, 0, 9));
    accomplice.join().await;
    asked(&join_with(&running.visitor().from(Ipv4Addr::new(127, 0, 0, 9)), &text, &found).await);
    assert_eq!(join_with(&running.visitor(), &text, &found).await.status, 200);
}

#[tokio::test]
async fn work_grows_with_the_excess_and_no_further_than_an_old_phone_bears() {
    let running = over_the_limit(2, "min").await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        let visitor = running.visitor();
        let (text, bits) = asked(&visitor.join().await);
        seen.push(bits);
        assert_eq!(join_with(&visitor, &text, &ending(&text, bits)).await.status, 200);
    }
    assert!(seen.is_sorted() && seen.first() == Some(&14) && seen.last() > Some(&14), "{seen:?}");
    assert!(seen.iter().all(|bits| (14..=18).contains(bits)), "{seen:?}");
    running.seconds(20 * 60).await;
    assert_eq!(running.visitor().join().await.status, 200, "and is forgotten again");
}

#[tokio::test]
async fn whoever_cannot_work_waits_and_then_joins() {
    let running = over_the_limit(1, "h").await;
    let late = running.visitor();
    let told = late.form(&own("join"), "to=/fair/wanted").send().await;
    let hidden = |answer: &Answer| {
        let page = answer.text();
        let at = page.split_once("name=\"challenge\" value=\"").unwrap().1;
        at.split_once('"').unwrap().0.to_owned()
    };
    let text = hidden(&told);
    assert_eq!((told.status, told.header("retry-after")), (429, Some("120")));
    assert!(told.is_personal() && told.text().contains("ci si può mettere in fila: "), "{}", told.text());
    let press = || late.form(&own("join"), &format!("to=/fair/wanted&challenge={text}")).send();
    running.seconds(60).await;
    let early = press().await;
    assert_eq!((early.status, early.header("retry-after")), (429, Some("60")));
    assert_eq!(hidden(&early), text, "pressing too early does not begin the wait anew");
    running.seconds(60).await;
    assert_eq!(press().await.status, 303);
    assert!(late.token("ticket").is_some());
    let another = running.visitor().form(&own("join"), &format!("challenge={text}")).send().await;
    assert_eq!(another.status, 429, "one wait draws one ticket");
}

#[tokio::test]
async fn waiting_draws_no_more_tickets_than_are_free() {
    let running = over_the_limit(3, "h").await;
    let mut texts = Vec::new();
    for _ in 0..10 {
        texts.push(asked(&running.visitor().join().await).0);
    }
    running.seconds(121).await;
    let mut drawn = 0;
    for text in &texts {
        drawn += u32::from(join_with(&running.visitor(), text, "").await.status == 200);
    }
    assert_eq!(drawn, 3);
}

#[tokio::test]
async fn a_lost_answer_over_the_limit_is_given_again() {
    let running = over_the_limit(1, "h").await;
    let (text, bits) = asked(&running.visitor().join().await);
    let body = json!({ "challenge": text, "ending": ending(&text, bits), "join_id": "0123456789abcdef" });
    let join = |visitor: Visitor| visitor.script("POST", &own("join")).json(&body).send();
    let (first, second) = (join(running.visitor()).await, join(running.visitor()).await);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.queue()["reference"], second.queue()["reference"], "the same place");
}

#[tokio::test]
async fn everybody_is_asked_when_there_are_too_many_in_all() {
    let limits = "entry = \"page\"\njoins_per_client = \"unlimited\"\njoins_in_all = \"2/min\"";
    let running = room_of("1/min").with(limits).start().await;
    for last in 1..=2 {
        assert_eq!(running.visitor().from(Ipv4Addr::new(127, 0, 0, last)).join().await.status, 200);
    }
    let third = running.visitor().from(Ipv4Addr::new(127, 0, 0, 3));
    let (text, bits) = asked(&third.join().await);
    assert_eq!(join_with(&third, &text, &ending(&text, bits)).await.status, 200);
}

#[tokio::test]
async fn a_ticket_polled_from_many_clients_is_one_ticket() {
    let running = room_of("6/min").with("entry = \"page\"").start().await;
    for _ in 0..30 {
        running.visitor().join().await;
    }
    let owner = running.visitor();
    let ahead = owner.join().await.queue()["ahead"].clone();
    let mut refused = 0;
    for last in 10..40 {
        let copy = owner.copy().from(Ipv4Addr::new(127, 0, 0, last));
        let answer = copy.poll().send().await;
        if answer.status == 429 {
            refused += 1;
            assert!(answer.header("retry-after").is_some());
        }
        assert_eq!((answer.state().as_str(), &answer.queue()["ahead"]), ("waiting", &ahead), "the place is untouched");
    }
    assert_eq!(refused, 20, "ten at once, from wherever they come");
    running.seconds(3).await;
    assert_eq!(owner.poll().send().await.status, 200);
}

/// Somebody who asks when told to, and enters when called.
struct Honest {
    visitor: Visitor,
    asks_at: u64,
    asked: Option<JoinHandle<Answer>>,
    has_turn: bool,
    is_inside: bool,
}

/// Those who play by the rules, a second at a time.
struct Crowd {
    people: Vec<Honest>,
    second: u64,
}

impl Crowd {
    async fn join(&mut self, running: &Running, count: usize) {
        for _ in 0..count {
            let visitor = running.visitor();
            let answer = visitor.join().await;
            assert_eq!((answer.status, answer.state().as_str()), (200, "waiting"));
            let asks_at = self.second + answer.queue()["refresh_seconds"].as_u64().unwrap();
            self.people.push(Honest { visitor, asks_at, asked: None, has_turn: false, is_inside: false });
        }
    }

    /// So many come within so many seconds, so that they do not all ask at the same moment either.
    async fn join_over(&mut self, running: &Running, count: usize, seconds: usize) {
        for second in 0..seconds {
            self.join(running, count * (second + 1) / seconds - count * second / seconds).await;
            self.live_a_second(running).await;
        }
    }

    async fn live_a_second(&mut self, running: &Running) {
        running.advance(Duration::from_secs(1)).await;
        self.second += 1;
        let second = self.second;
        let due = |person: &&mut Honest| !person.is_inside && person.asked.is_none() && person.asks_at <= second;
        for person in self.people.iter_mut().filter(due) {
            let asking = if person.has_turn { person.visitor.navigate("/fair/") } else { person.visitor.poll() };
            person.asked = Some(asking.begin());
        }
        running.rest().await;
        for person in &mut self.people {
            if person.asked.as_ref().is_some_and(JoinHandle::is_finished) {
                let answer = person.asked.take().unwrap().await.unwrap();
                person.hear(&answer, second);
            }
        }
    }
}

impl Honest {
    fn hear(&mut self, answer: &Answer, second: u64) {
        if answer.is_the_portals() {
            self.is_inside = true;
        } else if answer.status == 200 {
            self.has_turn = answer.state() == "your_turn";
            let told = answer.queue()["refresh_seconds"].as_u64().unwrap();
            self.asks_at = if self.has_turn { second } else { second + told };
        } else {
            assert_eq!(answer.status, 503, "{answer:?}");
            self.asks_at = second + 1;
        }
    }
}

/// Ten thousand tickets that one client draws, asks for once and then no more, stand between two honest crowds.
#[tokio::test]
async fn ten_thousand_hoarded_places_cost_the_line_nothing_until_they_come_back_and_then_a_quarter_of_the_calls() {
    const HOARD: usize = 10_000;
    const RATE: f64 = 0.2;
    let running = room_of("12/min").with("entry = \"page\"\njoins_per_client = \"unlimited\"").start().await;
    let mut crowd = Crowd { people: Vec::new(), second: 0 };
    crowd.join_over(&running, 190, 47).await;
    let hoarder = Ipv4Addr::new(127, 0, 0, 9);
    let mut wire = Wire::open(&running.visitor().from(hoarder)).await;
    let mut hoard = Vec::new();
    for _ in 0..HOARD {
        let visitor = running.visitor().from(hoarder);
        assert_eq!(visitor.script("POST", &own("join")).on(&mut wire).await.status, 200);
        assert_eq!(visitor.poll().on(&mut wire).await.state(), "waiting");
        hoard.push(visitor);
    }
    drop(wire);
    crowd.join_over(&running, 110, 55).await;

    // Most of the line is silent, which looks like a cut line for ten minutes: only after that they count as gone.
    let at_the_rate = |crowd: &Crowd| {
        let (entered, due) = (running.entered() as f64, crowd.second as f64 * RATE);
        assert!((entered - due).abs() <= 5.0, "{entered} entries after {} s", crowd.second);
    };
    assert!(running.lane("waiting") > HOARD as f64);
    while running.lane("waiting") > 300.0 {
        crowd.live_a_second(&running).await;
        at_the_rate(&crowd);
        assert!(crowd.second <= 14 * 60, "{} still count as present", running.lane("waiting"));
    }
    println!("the hoard counts as gone after {} s", crowd.second);
    assert!(crowd.second > 10 * 60, "the clock stood still for the silent");
    while running.entered() < 200 {
        crowd.live_a_second(&running).await;
        at_the_rate(&crowd);
    }
    assert!(running.lane("now_serving") > (190 + HOARD) as f64, "those behind the hoard are called");
    assert!(running.lane("calls_total") < 210.0, "nobody was called in vain");

    // They all come back. The first are near to being called: their polls are held.
    let (near, far) = hoard.split_at(40);
    let held: Vec<_> = near.iter().map(|visitor| visitor.poll().begin()).collect();
    running.rest().await;
    let mut wire = Wire::open(&running.visitor().from(hoarder)).await;
    for visitor in far {
        assert_eq!(visitor.poll().on(&mut wire).await.state(), "waiting");
    }
    drop(wire);
    let (calls_before, entered_before) = (running.lane("calls_total"), running.entered());
    assert_eq!(running.lane("returns_total"), HOARD as f64);
    for _ in 0..240 {
        crowd.live_a_second(&running).await;
    }
    let calls = running.lane("calls_total") - calls_before;
    let entered = running.entered() - entered_before;
    held.iter().for_each(JoinHandle::abort);
    let asked: Vec<_> = near.iter().map(|visitor| visitor.poll().begin()).collect();
    running.rest().await;
    let mut called = 0;
    for answer in asked.into_iter().filter(JoinHandle::is_finished) {
        called += usize::from(answer.await.unwrap().state() == "your_turn");
    }
    println!("{called} of the hoard among {calls} called, {entered} entries in 240 s");
    assert!((5..near.len()).contains(&called), "{called}");
    assert!(called as f64 <= (calls + 3.0) / 4.0, "{called} of {calls} calls");
    assert!(entered as f64 >= 0.7 * RATE * 240.0, "{entered} entries");
}
