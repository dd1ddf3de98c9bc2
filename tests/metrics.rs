//! What Prometheus makes of our metrics: `promtool` reads them and has no complaint.

use std::io::Write;
use std::process::{Command, Stdio};

use anticamera::domain::names::{ClassName, RoomName};
use anticamera::telemetry::metrics::Metrics;

#[test]
fn promtool_has_no_complaint() {
    let metrics = Metrics::new().unwrap();
    let room = RoomName::new("bonus-600").unwrap();
    metrics.room(&room).wait_estimate_error_ratio.observe(1.1);
    metrics.lane(&room, &ClassName::citizen()).wait_seconds.observe(90.0);

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: install the package prometheus, or run tests/run, which does");
    promtool.stdin.take().unwrap().write_all(metrics.encode().unwrap().as_bytes()).unwrap();
    let verdict = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&verdict.stderr);
    assert!(verdict.status.success() && complaints.is_empty(), "{complaints}");
}
