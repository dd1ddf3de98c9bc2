//! Whole runs against a fake waiting room: an honest one passes, and every kind of fault is found.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::rc::Rc;

use loadtest::clock::Clock;
use loadtest::findings::Instants;
use loadtest::portal::{self, Portal};
use loadtest::report::Report;
use loadtest::run::{Scene, play};
use loadtest::scenario::Scenario;
use support::{FakeRoom, Fault};
use tokio::task::LocalSet;

const SCENARIO: &str = r#"
title = "a fake room"
room = "fake"
page = "/bonus-600/"
rate = "100/s"
limit = "30s"
order_slack = "300ms"
retry = ["100ms", "300ms"]
journey = { requests = 2, pause = "50ms" }

[[crowd]]
visitors = 150
over = "500ms"

[expect]
excess_at_most = 5.0
overtaken_at_most = 0
duplicates_at_most = 0
ahead_grew_at_most = 0
lost_at_most = 0
errors_at_most = 0
entries_at_least = 150
rate_share_at_least = 0.9
"#;

async fn played(scenario: &str, fault: Fault) -> Report {
    let clock = Clock::new();
    let scenario: Scenario = scenario.parse().unwrap();
    let local = LocalSet::new();
    let run = local.run_until(async {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let portal = portal::open(&Rc::new(Portal::new(Clock::new())), anywhere, anywhere).await.unwrap();
        let room = FakeRoom::open(100.0, fault, portal.portal, clock).await;
        let scene = Scene { proxy: room, portal: Some(portal.control), config: None, pid: None, connections: 500 };
        play(&scenario, &scene, clock).await.unwrap()
    });
    run.await
}

/// The expectations that were not met, by their first words.
fn broken(report: &Report) -> Vec<String> {
    report.checks.iter().filter(|check| !check.met).map(|check| check.expected.clone()).collect()
}

#[tokio::test]
async fn an_honest_room_meets_every_expectation() {
    let report = played(SCENARIO, Fault::None).await;
    assert!(report.expectations_met(), "{report}");
    let found = &report.findings;
    assert_eq!((found.entries, found.counts.called, found.entries_measured_at), (150, 150, Instants::Portal));
    assert_eq!(found.latencies.iter().find(|latency| latency.kind == "journey").unwrap().figures.count, 300);
    assert!(found.gate.count == 150 && found.own_lag.count > 450, "{report}");
}

#[tokio::test]
async fn visitors_leave_come_back_dawdle_and_stay_away_as_the_scenario_says() {
    let habits = r#"
        [crowd.habits]
        leave = { share = 0.4, after = { uniform = ["100ms", "500ms"] }, return_share = 0.5, return_after = { fixed = "400ms" } }
        claim = [{ share = 3, after = "at_once" }, { share = 1, after = { fixed = "500ms" } }, { share = 1, after = "never" }]
        [expect]
        overtaken_at_most = 0
        lost_at_most = 0
        errors_at_most = 0"#;
    let scenario = SCENARIO.split("[expect]").next().unwrap().to_owned() + habits;
    let report = played(&scenario, Fault::None).await;
    assert!(report.expectations_met(), "{report}");
    let counts = report.findings.counts;
    assert!(counts.left > 20 && counts.called > counts.entered && counts.entered > 60, "{report}");
}

#[tokio::test]
async fn a_room_that_overtakes_is_found_out_by_the_moments_of_held_answers() {
    let report = played(SCENARIO, Fault::Overtakes).await;
    assert!(broken(&report).contains(&"at most 0 overtaken".to_owned()), "{report}");
    assert!(report.findings.overtaken_by_held_answers.visitors > 10, "{report}");
}

#[tokio::test]
async fn a_room_that_overtakes_is_found_out_for_certain_by_polls_that_are_not_held() {
    let report = played(SCENARIO, Fault::OvertakesWithoutHolding).await;
    assert!(report.findings.overtaken.visitors > 10, "{report}");
}

#[tokio::test]
async fn a_room_that_lets_in_too_many_at_once_is_found_out() {
    let report = played(SCENARIO, Fault::Bursts).await;
    assert!(broken(&report).iter().any(|expected| expected.contains("above rate x (T + tick) + burst")), "{report}");
}

#[tokio::test]
async fn numbers_given_twice_are_found() {
    let report = played(SCENARIO, Fault::NumbersTwice).await;
    assert_eq!(report.findings.duplicates, 75, "{report}");
}

#[tokio::test]
async fn a_growing_ahead_is_found() {
    let report = played(SCENARIO, Fault::AheadGrows).await;
    assert!(report.findings.ahead_grew > 10, "{report}");
}

#[tokio::test]
async fn forgotten_tickets_are_found() {
    let report = played(&SCENARIO.replace("limit = \"30s\"", "limit = \"4s\""), Fault::Forgets).await;
    assert!(report.findings.forgotten > 10, "{report}");
}

#[tokio::test]
async fn a_cut_line_drops_requests_and_visitors_come_back() {
    let cut = "\n[[event]]\nat = \"500ms\"\ncut = \"500ms\"\n";
    let report = played(&SCENARIO.replace("\n[expect]", &format!("{cut}\n[expect]")), Fault::None).await;
    assert!(report.findings.troubles.cut > 50, "{report}");
    assert_eq!((report.findings.troubles.errors(), report.findings.counts.entered), (0, 150), "{report}");
}

#[tokio::test]
async fn an_outage_of_the_portal_is_excused_and_survived() {
    let outage = "\n[[event]]\nat = \"600ms\"\nportal = { mode = \"refuse\", seconds = 0.5 }\n";
    let report = played(&SCENARIO.replace("\n[expect]", &format!("{outage}\n[expect]")), Fault::None).await;
    let found = &report.findings;
    assert!(found.troubles.gateway_errors_in_outage > 5 && found.came_with_a_pass > 5, "{report}");
    assert_eq!((found.troubles.errors(), found.counts.entered, found.still_trying), (0, 150, 0), "{report}");
    assert_eq!(found.entries + found.came_with_a_pass, 150, "{report}");
}

#[tokio::test]
async fn a_run_may_end_after_so_many_entries() {
    let scenario = SCENARIO.replace("limit = \"30s\"", "limit = \"30s\"\nstop_after_entries = 50");
    let report = played(&scenario, Fault::None).await;
    assert!((50..70).contains(&report.findings.counts.entered), "{report}");
    assert_eq!(report.findings.still_trying, 0);
}

#[tokio::test]
async fn visitors_work_for_their_place_where_that_is_asked() {
    let crowds = "visitors = 40\nover = \"500ms\"\n[[crowd]]\nwho = \"hoarders\"\nwork = \"insist\"\nevery = \"50ms\"\n\
        visitors = 5\nover = \"100ms\"\n[[crowd]]\nwho = \"hoarders\"\nwork = { together = 2000000 }\nvisitors = 10\n\
        over = \"100ms\"";
    let scenario = SCENARIO.replace("visitors = 150\nover = \"500ms\"", crowds).replace("\"30s\"", "\"3s\"");
    let report = played(&scenario, Fault::AsksForWork).await;
    let found = &report.findings;
    assert_eq!((found.worked, found.troubles.challenged, found.troubles.errors()), (50, 40, 0), "{report}");
    let [insistent, working] = found.attacks.as_slice() else { panic!("{report}") };
    assert!(insistent.challenged > 50 && insistent.places == 0, "{report}");
    assert_eq!((working.challenged, working.places), (10, 10), "{report}");
}
