//! What Prometheus and Grafana make of our metrics: `promtool` has no complaint, the alerts fire when they should, and
//! rules and dashboard ask only for metrics that exist.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anticamera::domain::names::{ClassName, RoomName};
use anticamera::telemetry::metrics::Metrics;

/// Everything that `/metrics` can show, with one room and one class.
fn exposition() -> String {
    let metrics = Metrics::new().unwrap();
    let room = RoomName::new("bonus-600").unwrap();
    metrics.room(&room).wait_estimate_error_ratio.observe(1.1);
    metrics.lane(&room, &ClassName::citizen()).wait_seconds.observe(90.0);
    metrics.set_certificate_expiries(&[("portal.example".to_owned(), 1_900_000_000)]);
    metrics.encode().unwrap()
}

fn promtool() -> Command {
    let mut promtool = Command::new("promtool");
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    promtool
}

fn verdict(promtool: &mut Command, input: &str) -> Output {
    let missing = "promtool: install the package prometheus, or run tests/run, which does";
    let mut promtool = promtool.spawn().expect(missing);
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    promtool.wait_with_output().unwrap()
}

fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

#[test]
fn promtool_has_no_complaint() {
    let verdict = verdict(promtool().args(["check", "metrics"]), &exposition());
    let complaints = String::from_utf8_lossy(&verdict.stderr);
    assert!(verdict.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let verdict = verdict(promtool().args(["test", "rules"]).arg(deployed("prometheus/alerts.test.yml")), "");
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));
}

/// The names of metrics in a text: words of the two prefixes that our metrics have.
fn names_in(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("anticamera_") || word.starts_with("process_")).collect()
}

#[test]
fn rules_and_dashboard_ask_only_for_metrics_that_exist() {
    let exposition = exposition();
    let exist = names_in(&exposition);
    for file in ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "grafana/anticamera.json"] {
        let text = std::fs::read_to_string(deployed(file)).unwrap();
        let asked = names_in(&text);
        let unknown: Vec<_> = asked.difference(&exist).collect();
        assert!(asked.len() > 10 && unknown.is_empty(), "{file} asks for {unknown:?}");
    }
}

#[test]
fn every_alert_is_seen_to_fire_in_its_test() {
    let rules = std::fs::read_to_string(deployed("prometheus/alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(deployed("prometheus/alerts.test.yml")).unwrap();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untested: Vec<&str> = alerts.filter(|alert| !tests.contains(&format!("alertname=\"{alert}\""))).collect();
    assert!(untested.is_empty(), "{untested:?}");
}
