//! Reads `[leak_guard]` and its tables.

use std::path::Path;

use super::fault::Wrong;
use super::resolved::{
    ArmourRule, AuditFile, BreakerAction, CanaryAction, DetectorAction, Detectors, LeakBreaker, LeakGuard, Wears,
};
use super::section::Section;
use super::value::{self, LONG_LIFE, WAIT};
use crate::domain::leak_guard::{CacheBehind, Mode, Rules, Scan};

/// Reads the section. `None` when anything in it is wrong.
pub(super) fn leak_guard(section: &Section<'_>, base: &Path) -> Option<LeakGuard> {
    let rules = rules(section);
    let public = section.list("public", value::public_pattern);
    let downloads = section.list("downloads", value::path_pattern);
    let back_paths = section.list("back_paths", value::path_pattern);
    let etag_paths = section.list("etag_paths", value::path_pattern);
    let upstream_bust = section.read("upstream_bust", value::flag);
    let session_cookies = section.list("session_cookies", value::cookie_name);
    let remember_sessions = section.read("remember_sessions", value::whole(1000..=50_000_000));
    let remember_for =
        section.read("remember_for", value::duration(WAIT.start().to_owned()..=LONG_LIFE.end().to_owned()));
    let armour = armour(&section.table("armour"));
    let detectors = detectors(&section.table("detectors"));
    let breaker = breaker(section);
    let audit = audit(section, base);
    let canary = section.read(
        "canary",
        value::one_of(&[("stop", CanaryAction::Stop), ("alarm", CanaryAction::Alarm), ("off", CanaryAction::Off)]),
    );
    let canary_interval = section.read("canary_interval", value::duration(WAIT));
    Some(LeakGuard {
        rules: rules?,
        public: public?,
        downloads: downloads?,
        back_paths: back_paths?,
        etag_paths: etag_paths?,
        upstream_bust: upstream_bust?,
        armour: armour?,
        session_cookies: session_cookies?,
        remember_sessions: remember_sessions?,
        remember_for: remember_for?,
        detectors: detectors?,
        breaker: breaker?,
        audit: audit?,
        canary: canary?,
        canary_interval: canary_interval?,
    })
}

fn rules(section: &Section<'_>) -> Option<Rules> {
    let mode = section.read("mode", value::one_of(&[("enforce", Mode::Enforce), ("observe", Mode::Observe)]));
    let keep_cookies = section.list("keep_cookies", value::cookie_name);
    let behind = [("distrusted", CacheBehind::Distrusted), ("trusted", CacheBehind::Trusted)];
    let cache_behind = section.read("cache_behind", value::one_of(&behind));
    let public_max_age = section.read("public_max_age", value::unless_empty(value::duration(LONG_LIFE)));
    let ignored_markers = section.list("ignore_hit_headers", value::header_name);
    let scan = section.read("scan_fiscal_codes", value::one_of_flags(Scan::FiscalCodes, Scan::Nothing));
    Some(Rules {
        mode: mode?,
        keep_cookies: keep_cookies?,
        cache_behind: cache_behind?,
        public_max_age: public_max_age?.map(|age| u32::try_from(age.as_secs()).unwrap_or(u32::MAX)),
        ignored_markers: ignored_markers?,
        scan: scan?,
    })
}

fn armour(section: &Section<'_>) -> Option<[ArmourRule; 3]> {
    let piece = |name: &str, except: &str| {
        let worn = section.read(name, value::one_of_flags(Wears::Worn, Wears::Off));
        let except = section.list(except, value::path_pattern);
        Some(ArmourRule { worn: worn?, except: except? })
    };
    let nginx = piece("x_accel_buffering", "x_accel_buffering_except");
    let traffic_server = piece("vary", "vary_except");
    let haproxy = piece("age", "age_except");
    Some([nginx?, traffic_server?, haproxy?])
}

fn detectors(section: &Section<'_>) -> Option<Detectors> {
    const ACTIONS: [(&str, DetectorAction); 3] =
        [("block", DetectorAction::Block), ("alarm", DetectorAction::Alarm), ("off", DetectorAction::Off)];
    let action = |name: &str| section.read(name, value::one_of(&ACTIONS));
    let session_reissued = action("session_reissued");
    let cache_hit = action("cache_hit");
    let identity_mismatch = action("identity_mismatch");
    let session_identities = action("session_identities");
    // Many sessions of one person are normal: there is no answer to stop.
    let identity_sessions = section.read("identity_sessions", value::one_of(&ACTIONS[1..]));
    let session_presented = action("session_presented");
    Some(Detectors {
        session_reissued: session_reissued?,
        cache_hit: cache_hit?,
        identity_mismatch: identity_mismatch?,
        session_identities: session_identities?,
        identity_sessions: identity_sessions?,
        session_presented: session_presented?,
    })
}

fn breaker(section: &Section<'_>) -> Option<LeakBreaker> {
    let action =
        section.read("breaker", value::one_of(&[("stop", BreakerAction::Stop), ("alarm", BreakerAction::Alarm)]));
    let visitors = section.read("breaker_visitors", value::whole(2..=1000));
    let networks = section.read("breaker_networks", value::whole(1..=1000));
    let within = section.read("breaker_within", value::duration(WAIT));
    let quiet = section.read("breaker_quiet", value::duration(WAIT));
    if let (Some(visitors), Some(networks)) = (visitors, networks)
        && networks > visitors
    {
        let remedy = "write at most as many networks as visitors";
        section.fault("breaker_networks", Wrong::new(format!("{networks} is more than breaker_visitors"), remedy));
    }
    Some(LeakBreaker { action: action?, visitors: visitors?, networks: networks?, within: within?, quiet: quiet? })
}

fn audit(section: &Section<'_>, base: &Path) -> Option<AuditFile> {
    let file = section.read("audit_file", value::file_path(base));
    let key = section.read("audit_key", value::file_path(base));
    let retention = section.read("audit_retention", value::duration(LONG_LIFE));
    let max_bytes = section.read("audit_max_size", value::size(64 * 1024..=1024 * 1024 * 1024));
    let max_files = section.read("audit_max_files", value::whole(2..=100_000));
    Some(AuditFile { file: file?, key: key?, retention: retention?, max_bytes: max_bytes?, max_files: max_files? })
}
