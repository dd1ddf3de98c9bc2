//! What `deploy/` holds for systemd: units that it understands, and a service that it finds well locked in.

use std::path::Path;
use std::process::Command;

/// The highest exposure that is accepted, in tenths: `systemd-analyze security` calls up to 2.0 well protected.
const MOST_EXPOSED: &str = "--threshold=20";

#[test]
fn systemd_finds_the_service_well_locked_in() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/anticamera.service");
    let mut analyze = Command::new("systemd-analyze");
    let verdict = analyze.args(["security", "--offline=yes", "--no-pager", MOST_EXPOSED]).arg(unit).output();
    let verdict = verdict.expect("systemd-analyze: install the package systemd, or run tests/run, which does");
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));
}
