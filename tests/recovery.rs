//! Recovery codes: a place that outlasts its cookie.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::support::app::{own, room_of};

#[tokio::test]
async fn a_recovery_code_gives_the_place_back_on_another_device() {
    let running = room_of("10/s").with("state = \"hold\"").start().await;
    let (first, second) = (running.visitor(), running.visitor());
    let queue = first.join().await.queue();
    second.join().await;
    let code = queue["recovery_code"].as_str().expect("a code").to_owned();
    let device = running.visitor();
    assert_eq!(device.join().await.queue()["ahead"], 2);
    let recovered = device.script("POST", &own("recover")).json(&json!({ "code": code.to_lowercase() })).send().await;
    assert_eq!(recovered.status, StatusCode::OK, "{recovered:?}");
    let queue = recovered.queue();
    assert_eq!((queue["ahead"].as_u64(), queue["state"].as_str()), (Some(0), Some("held")), "{queue}");
    assert_eq!(queue["recovery_code"], code.as_str());
    running.reload(&room_of("10/s")).await;
    let (answer, _) = running.until(device.poll().begin(), Duration::from_secs(5)).await;
    assert_eq!(answer.queue()["state"], "your_turn");
    let (answer, _) = running.until(device.navigate("/fair/").begin(), Duration::from_secs(5)).await;
    assert!(answer.is_the_portals());
    let queue = first.poll().send().await.queue();
    assert_eq!(queue["state"], "expired", "one place lets in one person: {queue}");
    assert_eq!(running.lane("abandoned_total"), 1.0, "the other place was given up");
}

#[tokio::test]
async fn a_recovery_code_by_hand_leads_to_the_place() {
    let running = room_of("10/s").with("state = \"hold\"").start().await;
    let code = running.visitor().join().await.queue()["recovery_code"].as_str().expect("a code").to_owned();
    let device = running.visitor();
    let answer = device.form(&own("recover"), &format!("code={code}")).send().await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    assert!(answer.sets("ticket").is_some());
    let page = device.navigate(answer.header("location").expect("a location")).send().await;
    assert!(page.text().contains(&code), "{}", page.text());
}

#[tokio::test]
async fn guessed_recovery_codes_give_nothing_and_are_limited() {
    let running = room_of("10/s").with("state = \"hold\"").start().await;
    running.visitor().join().await;
    let guesser = running.visitor();
    let mut statuses = Vec::new();
    for guess in 0..12 {
        let code = format!("000{guess:013}");
        statuses.push(guesser.script("POST", &own("recover")).json(&json!({ "code": code })).send().await.status);
    }
    assert!(statuses.iter().take(10).all(|status| *status == StatusCode::UNPROCESSABLE_ENTITY), "{statuses:?}");
    assert!(statuses.iter().skip(10).all(|status| *status == StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
    assert_eq!(guesser.token("ticket"), None);
    let by_hand = running.visitor().from(Ipv4Addr::new(127, 0, 0, 9));
    let answer = by_hand.form(&own("recover"), "code=0000-0000-0000-0001&to=%2Ffair%2Fform").send().await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text().contains("/fair/form") && answer.text().contains("<form"), "a way on: {}", answer.text());
    let foreign = running.visitor().script("POST", &own("recover")).header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.json(&json!({ "code": "x" })).send().await.status, StatusCode::FORBIDDEN);
}
