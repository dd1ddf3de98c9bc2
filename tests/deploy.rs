//! What an institution installs and publishes: a service that systemd finds well locked in, a configuration without
//! faults, the one version everywhere.

use std::path::Path;
use std::process::Command;

use crate::support::process::program;

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

#[test]
fn the_packaged_configuration_has_no_faults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/debian/config.toml");
    let check = program().args(["check", "--config"]).arg(file).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn what_administrations_look_for_names_this_version() {
    let published = include_str!("../publiccode.yml");
    let version = concat!("softwareVersion: \"", env!("CARGO_PKG_VERSION"), "\"\n");
    assert!(published.contains(version), "publiccode.yml is to say {version}");
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    assert!(program().arg("manual").arg(dir.path()).output().unwrap().status.success());
    let help = program().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names =
        commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    for name in names.filter(|name| *name != "help") {
        assert!(dir.path().join(format!("man/anticamera-{name}.1")).exists(), "{name}");
    }
    assert!(dir.path().join("man/anticamera-run.1").exists());
}
