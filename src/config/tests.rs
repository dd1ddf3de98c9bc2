//! The configuration as a whole: from the text of a file to a `Config` or to all its faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use toml::{Table, Value};

use super::keys::{FILE, Key, Kind};
use super::*;
use crate::domain::leak_guard::Mode;
use crate::domain::names::RoomName;
use crate::domain::pass_limits::PassLimits;
use crate::domain::seat::ForkedPass;

const EXAMPLE: &str = include_str!("../../config.example.toml");

const SMALLEST: &str = r#"
server.listen = ["127.0.0.1:8080"]
portal.url = "http://127.0.0.1:9000"
[[room]]
name = "bonus-600"
paths = ["/bonus-600/**"]
admission_rate = "100/s"
"#;

fn read(text: &str) -> Result<Config, Faults> {
    parse(text, Path::new("/etc/anticamera"))
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The faults of a text, as printed.
fn faults(text: &str) -> Vec<String> {
    read(text).expect_err("faults were expected").iter().map(Fault::to_string).collect()
}

/// The only fault of the smallest file with a line added to its room.
fn fault_of_room(line: &str) -> String {
    let found = faults(&format!("{SMALLEST}{line}\n"));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.concat()
}

/// The only fault of the smallest file with lines put before its room.
fn fault_of_file(lines: &str) -> String {
    let found = faults(&SMALLEST.replace("[[room]]", &format!("{lines}\n[[room]]")));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.concat()
}

// ---- the example and the defaults

#[test]
fn the_example_loads_without_a_fault() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let config = load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.rooms.len(), 1);
}

#[test]
fn the_example_shows_the_defaults() {
    assert_eq!(good(EXAMPLE), good(SMALLEST), "a default of the example is not the program's");
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let example: Table = whole_example().parse().unwrap();
    let mut shown = 0;
    check_shown(FILE, &Value::Table(example), "", &mut shown);
    assert!(shown > 60, "only {shown} keys were compared");
}

/// The example with what it shows as a comment: tables that begin with a heading behind the mark and a blank, and lines on
/// which something other than a blank follows the mark.
fn whole_example() -> String {
    let mut within = false;
    let lines = EXAMPLE.lines().map(|line| {
        within = line.starts_with("# [[")
            || line.starts_with("# [room.opening]")
            || line.starts_with("# [room.closing]")
            || (within && line.starts_with('#'));
        let shown = match line.strip_prefix('#') {
            Some(rest) if within => rest.strip_prefix(' ').unwrap_or(rest),
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => line,
        };
        format!("{shown}\n")
    });
    lines.collect()
}

#[test]
fn what_the_example_shows_as_a_comment_is_good_too() {
    let config = good(&whole_example());
    assert_eq!((config.classes.len(), config.rooms[0].schedule.window_count()), (1, 1));
    assert!(config.rooms[0].opening.is_some() && config.rooms[0].closing.is_some());
    assert_eq!(config.server.tls.len(), 1);
    assert_eq!(config.server.tls_listen(), ["0.0.0.0:8443".parse().unwrap()]);
}

fn check_shown(keys: &[Key], table: &Value, path: &str, shown: &mut usize) {
    for key in keys {
        let name = format!("{path}{}", key.name);
        let value = table.get(key.name);
        *shown += 1;
        match key.kind {
            Kind::Required => assert!(value.is_some(), "{name} is not shown"),
            Kind::Optional => assert!(
                value.is_some()
                    || ["\n# ", "\n# # "].iter().any(|mark| EXAMPLE.contains(&format!("{mark}{} = ", key.name))),
                "{name} is neither shown nor mentioned"
            ),
            Kind::Default(default) => {
                let default: Table = format!("value = {default}").parse().unwrap();
                assert_eq!(value, default.get("value"), "{name}");
            }
            Kind::Table(keys) => check_shown(keys, value.unwrap(), &format!("{name}."), shown),
            Kind::Tables(keys) => check_shown(keys, value.unwrap().get(0).unwrap(), &format!("{name}."), shown),
            Kind::Variants(kinds) => {
                for (kind, keys) in kinds {
                    let is_of_kind = |table: &&Value| table.get("kind").and_then(Value::as_str) == Some(*kind);
                    let table = value.unwrap().as_array().unwrap().iter().find(is_of_kind);
                    check_shown(keys, table.unwrap_or_else(|| panic!("no {kind}")), &format!("{name}."), shown);
                }
            }
            Kind::Later => assert!(value.is_none(), "{name} is shown, but this version does not have it"),
        }
    }
}

#[test]
fn the_smallest_file_means_the_documented_defaults() {
    let config = good(SMALLEST);
    let room = config.rooms.first().unwrap();
    assert_eq!(room.start, "/bonus-600/");
    assert_eq!(room.max_active_sessions, None);
    assert_eq!(room.session_duration, Duration::from_mins(20));
    assert_eq!(room.joins_per_client.unwrap().to_string(), "1200/min");
    assert_eq!(room.pass_limits, PassLimits { at_once: Some(512), pace: None });
    assert_eq!(room.forked_pass, ForkedPass::Overlap);
    assert_eq!(room.time_zone.iana_name(), Some("Europe/Rome"));
    assert_eq!((room.message.first(), room.page_status), (None, 503));
    assert_eq!(config.admin.listen, AdminListen::Tcp("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(config.server.public_url, None);
    assert_eq!((config.portal.request_buffer, config.portal.response_buffer), (64 * 1024, 256 * 1024));
}

#[test]
fn relative_paths_begin_at_the_file() {
    let config = good(&SMALLEST.replace("[[room]]", "admin.token_file = \"/run/token\"\n[[room]]"));
    assert_eq!(config.tokens.key_dir, PathBuf::from("/etc/anticamera/state/keys"));
    assert_eq!(config.store, Store::Embedded { path: "/etc/anticamera/state".into() });
    assert_eq!(config.admin.token_file, PathBuf::from("/run/token"));
}

#[test]
fn values_mean_what_they_say() {
    let config = good(
        r#"
        [server]
        listen = ["[::1]:0", "127.0.0.1:0", "127.0.0.1:0"]
        public_url = "https://Portal.Example/"
        trusted_proxies = ["10.0.0.0/8", "192.0.2.1"]
        cors_origins = ["https://App.Example:443"]
        client_address = "forwarded"
        limits.head_timeout = "1m30s"
        [portal]
        urls = ["http://[::1]:9000/", "https://portal.internal"]
        [admin]
        listen = "unix:run/admin.sock"
        [[room]]
        name = "a"
        paths = ["/a/**"]
        admission_rate = "6/min"
        max_active_sessions = 1_000
        joins_per_client = "unlimited"
        requests_per_pass = "unlimited"
        requests_at_once_per_pass = 0
        forked_pass = "line"
        message = "  "
        state = "hold"
        entry = "page"
        [leak_guard]
        mode = "observe"
    "#,
    );
    let server = &config.server;
    assert_eq!(server.public_url, Some(PublicUrl { https: true, authority: "portal.example".into() }));
    assert_eq!(server.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()]);
    assert_eq!(server.cors_origins, ["https://app.example"]);
    assert_eq!(server.client_address, ClientAddressHeader::Forwarded);
    assert_eq!(server.limits.head_timeout, Duration::from_secs(90));
    let urls = [
        PortalUrl { https: false, host: "::1".into(), port: 9000, authority: "[::1]:9000".into() },
        PortalUrl { https: true, host: "portal.internal".into(), port: 443, authority: "portal.internal".into() },
    ];
    assert_eq!(config.portal.urls, urls);
    assert_eq!(config.admin.listen, AdminListen::Unix("/etc/anticamera/run/admin.sock".into()));
    let room = config.rooms.first().unwrap();
    assert_eq!((room.start.as_str(), room.max_active_sessions, room.joins_per_client), ("/a/", Some(1000), None));
    assert_eq!(room.pass_limits, PassLimits { at_once: None, pace: None });
    assert_eq!(room.forked_pass, ForkedPass::Line);
    assert_eq!((room.state, room.entry, room.message.first()), (RoomState::Hold, Entry::Page, None));
    assert_eq!(config.leak_guard.rules.mode, Mode::Observe);
}

// ---- all faults at once

#[test]
fn all_faults_are_found_at_once_with_their_places() {
    let found = faults(
        r#"[server]
lisen = ["127.0.0.1:8080"]
threads = "four"
trusted_proxies = ["10.0.0.0/8", "10.0.0.1/8", "proxy"]

[portal]
url = "ftp://portal"
colour = 1

[[room]]
name = "one"
paths = ["/one/**"]
admission_rate = "100/s"

[[room]]
name = "bonus-600"
admission_rate = "0/s"
time_zone = "Europe/Roma"
[[room.window]]
from = "08:00"
"#,
    );
    let expected = [
        "line 1, column 1: server.listen: missing;",
        "line 2, column 1: server.lisen: unknown key; write listen",
        "line 3, column 11: server.threads: expected a whole number, found a text;",
        "line 4, column 34: server.trusted_proxies[2]: \"10.0.0.1/8\" has bits after its prefix; write \"10.0.0.0/8\"",
        "line 4, column 48: server.trusted_proxies[3]: \"proxy\": not a network;",
        "line 7, column 7: portal.url: \"ftp://portal\": not an address of a portal;",
        "line 8, column 1: portal.colour: unknown key; remove it; known here are url,",
        "line 15, column 1: room[2] \"bonus-600\".paths: missing;",
        "line 17, column 18: room[2] \"bonus-600\".admission_rate: \"0/s\": not a rate; write a whole number",
        "line 18, column 13: room[2] \"bonus-600\".time_zone: \"Europe/Roma\": unknown time zone; write a name",
        "line 19, column 1: room[2] \"bonus-600\".window[1].to: missing;",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (fault, beginning) in found.iter().zip(expected) {
        assert!(fault.starts_with(beginning), "{fault}\n  does not begin with\n{beginning}");
    }
}

/// A file in which every key has a value of a type that no key has: a date.
fn mistyped(keys: &[Key], path: &str, text: &mut String) {
    for key in keys {
        match key.kind {
            Kind::Table(_) | Kind::Tables(_) | Kind::Variants(_) | Kind::Later => {}
            // Its other keys depend on it.
            Kind::Required if key.name == "kind" => {}
            _ => text.push_str(&format!("{} = 2020-04-01\n", key.name)),
        }
    }
    for key in keys {
        let name = format!("{path}{}", key.name);
        if let Kind::Variants(kinds) = key.kind {
            for (kind, keys) in kinds {
                text.push_str(&format!("[[{name}]]\nkind= \"{kind}\"\n"));
                mistyped(keys, "", text);
            }
        }
        let (heading, keys) = match key.kind {
            Kind::Table(keys) => (format!("[{name}]\n"), keys),
            Kind::Tables(keys) => (format!("[[{name}]]\n"), keys),
            _ => continue,
        };
        text.push_str(&heading);
        mistyped(keys, &format!("{name}."), text);
    }
}

#[test]
fn a_wrong_type_is_found_at_every_key() {
    // Section by section: of all of them together not every fault would be listed.
    for section in FILE {
        let mut text = String::new();
        mistyped(std::slice::from_ref(section), "", &mut text);
        let faults = faults(&text);
        let typed = text.lines().filter(|line| line.contains(" = ")).count();
        let found = faults.iter().filter(|fault| fault.contains("found a date or time; ")).count();
        assert_eq!(found, typed, "{}: {faults:#?}", section.name);
        // url and urls stand beside each other; what every file must have is missing outside its section.
        let other = |fault: &&String| !fault.contains("found a date or time; ") && !fault.contains(": missing");
        assert!(faults.iter().filter(other).all(|fault| fault.contains("stands beside url")), "{faults:#?}");
    }
}

#[test]
fn a_ticket_that_does_not_outlast_the_closed_hours_is_warned_of() {
    let weekdays = "[[room.window]]\nfrom = \"08:00\"\nto = \"18:00\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\n\
                    [[room.window]]\nfrom = \"00:00\"\nto = \"24:00\"\nclosed = true\n";
    let warned = |lines: &str| {
        let config = good(&format!("{SMALLEST}{lines}\n{weekdays}"));
        let warnings = config.warnings();
        let found = warnings.iter().find(|warning| warning.key.ends_with("ticket_lifetime"));
        found.map(|warning| warning.text.clone())
    };
    let text = warned("").expect("a weekend is longer than 24h");
    assert!(text.contains("62h"), "from Friday 18:00 to Monday 08:00: {text}");
    assert_eq!(warned("ticket_lifetime = \"62h\""), None);
    assert_eq!(good(SMALLEST).warnings().iter().filter(|warning| warning.key.ends_with("ticket_lifetime")).count(), 0);
}

/// A file with these `[[server.tls]]`, which have what every one needs unless they say it themselves.
fn with_tls(entries: &[&str]) -> String {
    let entry = |lines: &&str| {
        let given = |key: &str| lines.contains(key);
        let missing = [
            ("listen", "listen = [\"127.0.0.1:8443\"]"),
            ("names", "names = [\"portal.example\"]"),
            ("certificate =", "certificate = \"cert.pem\""),
            ("private_key", "private_key = \"key.pem\""),
        ];
        let missing: Vec<&str> = missing.iter().filter(|(key, _)| !given(key)).map(|(_, line)| *line).collect();
        format!("[[server.tls]]\n{}\n{lines}\n", missing.join("\n"))
    };
    format!("{SMALLEST}\n{}", entries.iter().map(entry).collect::<String>())
}

#[test]
fn certificates_by_name_are_read() {
    let config = good(&with_tls(&[
        "",
        "names = [\"Office.Example\", \"*.office.example\"]\nclient_auth = \"required\"\nclient_ca = \"ca.pem\"",
        "listen = [\"127.0.0.1:9443\"]",
    ]));
    let [first, office, _] = config.server.tls.as_slice() else { panic!("three entries") };
    assert_eq!(
        (first.certificate.as_path(), &first.client_auth),
        (Path::new("/etc/anticamera/cert.pem"), &ClientAuth::None)
    );
    assert_eq!(office.names.iter().map(ServedName::as_str).collect::<Vec<_>>(), ["office.example", "*.office.example"]);
    assert_eq!(office.client_auth, ClientAuth::Required("/etc/anticamera/ca.pem".into()));
    assert_eq!(config.server.tls_listen().len(), 2);
    let only_tls = with_tls(&[""]).replace("server.listen = [\"127.0.0.1:8080\"]", "server.listen = []");
    assert!(good(&only_tls).server.listen.is_empty());
}

#[test]
fn certificates_that_do_not_fit_together_are_refused() {
    for (entries, expected) in [
        (&["client_auth = \"required\""][..], "client_ca: missing where client certificates are asked for; name"),
        (&["client_ca = \"ca.pem\""], "client_ca: nobody is asked for a certificate; write"),
        (&["", ""], "names[1]: portal.example stands in another [[server.tls]] of this address; keep"),
        (
            &["", "listen = [\"127.0.0.1:1\"]\nclient_auth = \"optional\"\nclient_ca = \"ca.pem\""],
            "names[1]: portal.example stands in a [[server.tls]] with another client_auth; give",
        ),
        (&["names = [\"127.0.0.1\"]"], "names[1]: \"127.0.0.1\": not a name for a certificate; write"),
        (&["listen = [\"0.0.0.0:8080\"]"], "server.tls: 0.0.0.0:8080 is taken by another address; give"),
        (&["colour = 1"], "colour: unknown key"),
    ] {
        let found = faults(&with_tls(entries));
        assert!(found.len() == 1 && found.concat().contains(expected), "{expected}: {found:#?}");
    }
    assert!(fault_of_file("server.hsts = \"forever\"").contains("server.hsts: \"forever\": no such value; write"));
    assert!(fault_of_file("portal.ca = \"ca.pem\"").contains("means nothing without TLS towards the portal"));
    assert!(fault_of_file("server.redirect_listen = [\"127.0.0.1:8080\"]").contains("is taken by server.listen"));
    let key_alone = SMALLEST.replace("http://", "https://").replace("[[room]]", "portal.client_key = \"k\"\n[[room]]");
    assert!(faults(&key_alone).concat().contains("portal.client_key: has no certificate"));
}

#[test]
fn a_shared_store_is_read_and_keeps_its_secrets_in_files() {
    let file =
        format!("{SMALLEST}\n[store]\nkind = \"valkey\"\nurl = \"redis://store:6379/2\"\npassword_file = \"pw\"");
    let expected = SharedStore {
        servers: Servers::One("redis://store:6379/2".to_owned()),
        login: Login { user: None, password_file: Some("/etc/anticamera/pw".into()) },
        tls: StoreTls::default(),
        prefix: "anticamera".to_owned(),
        share_for: None,
    };
    let sharing = SharedStore { share_for: Some(Duration::from_mins(10)), ..expected.clone() };
    assert_eq!(parse(&file, Path::new("/etc/anticamera")).unwrap().store, Store::Valkey(Box::new(expected)));
    let file = format!("{file}\non_store_loss = \"share\"");
    assert_eq!(parse(&file, Path::new("/etc/anticamera")).unwrap().store, Store::Valkey(Box::new(sharing)));
    for (lines, remedy) in [
        ("store.url = \"redis://me:secret@store\"", "store.password_file"),
        ("store.url = \"http://store\"", "redis://"),
        ("store.prefix = \"a b\"", "letters"),
        ("store.password_file = 7", "path"),
        ("store.url = \"redis://store?protocol=3\"", "redis://"),
        ("store.ca = \"ca.pem\"", "rediss://"),
        ("store = { url = \"rediss://store\", client_key = \"k\" }", "store.client_certificate"),
        ("store.sentinels = [\"redis://s:26379\"]", "store.primary: missing"),
        ("store.primary = \"m\"", "store.sentinels"),
        ("store = { cluster = [\"redis://a\", \"rediss://b\"] }", "store.cluster: TLS with some"),
        ("store = { url = \"redis://a\", cluster = [\"redis://b\"] }", "keep one of the two"),
    ] {
        let found = fault_of_file(lines);
        assert!(found.contains(remedy) && !found.contains("secret"), "{found}");
    }
}

#[test]
fn the_servers_of_a_store_are_one_or_watched_by_sentinels_or_a_cluster() {
    let servers = |lines: &str| {
        let file = format!("{SMALLEST}\n[store]\nkind = \"valkey\"\n{lines}");
        match parse(&file, Path::new("/")).unwrap().store {
            Store::Valkey(shared) => shared.servers,
            other => panic!("{other:?}"),
        }
    };
    let urls = || vec!["rediss://a:1".to_owned(), "rediss://b:2".to_owned()];
    assert_eq!(servers("cluster = [\"rediss://a:1\", \"rediss://b:2\"]"), Servers::Cluster(urls()));
    let login = Login { user: Some("u".to_owned()), password_file: Some("/pw".into()) };
    assert_eq!(
        servers(
            "sentinels = [\"rediss://a:1\", \"rediss://b:2\"]\nprimary = \"m\"\nsentinel_user = \"u\"\n\
             sentinel_password_file = \"pw\""
        ),
        Servers::Sentinels { urls: urls(), primary: "m".to_owned(), login }
    );
}

#[test]
fn an_empty_file_lacks_what_is_required() {
    let found = faults("");
    assert!(found.iter().any(|fault| fault.starts_with("server.listen: missing")), "{found:#?}");
    assert!(found.iter().any(|fault| fault.starts_with("portal.url: missing")), "{found:#?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn a_repeated_key_does_not_hide_other_faults() {
    let found = faults(&(SMALLEST.to_owned() + "admission_rate = \"1/s\"\ngate_wait = \"soon\"\n"));
    assert!(found.iter().any(|fault| fault.contains("line 8, column 1: duplicate key")), "{found:#?}");
    assert!(found.iter().any(|fault| fault.contains("gate_wait: \"soon\": not a time")), "{found:#?}");
}

#[test]
fn what_is_no_toml_is_shown_with_a_mark() {
    let found = faults("[server]\nlisten = [\"127.0.0.1:8080\"\nthreads = 1\n").concat();
    assert_eq!(
        found,
        "line 3, column 1: missing comma between array elements, expected `,`; correct the marked place\n\
         \x20 |\n\
         3 | threads = 1\n\
         \x20 | ^"
    );
}

#[test]
fn a_table_in_the_wrong_brackets_is_one_fault() {
    let found =
        faults("[[server]]\nlisten = [\"127.0.0.1:8080\"]\n[portal]\nurl = \"http://127.0.0.1:9000\"\n[room]\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.concat().contains("server: expected a table, found a list; write it as a table: [server]"));
    assert!(found.concat().contains("room: expected tables, found a table; write each of them as [[room]]"));
}

// ---- impossible values and combinations

#[test]
fn impossible_values_of_a_room() {
    for (line, says) in [
        ("start = \"https://elsewhere.example/\"", ".start: "),
        ("start = \"//elsewhere.example/\"", "not a path of the same site"),
        ("start = \"/\\\\elsewhere.example/\"", "not a path of the same site"),
        ("start = \"/bonus-600/\\r\\nSet-Cookie: a\"", "not a path of the same site"),
        ("start = \"/elsewhere/\"", ".start: \"/elsewhere/\" is none of the room's paths; write a page"),
        ("page_status = 404", "404 is no status for a waiting page; write 200, 202, 429 or 503"),
        ("session_duration = \"0s\"", "out of range; write a time from \"1s\" to \"30d\""),
        ("session_duration = 20", "expected a text in quotes, found a whole number; write a time"),
        ("session_duration = \"20 minutes\"", "not a time"),
        ("session_duration = \"30s1m\"", "not a time"),
        ("session_duration = \"99999999999999999999d\"", "not a time"),
        ("session_limit_extensions = 10", "there is no limit to put off; set session_limit, or leave"),
        ("session_limit = \"1h\"\nsession_limit_extensions = 1001", "1001 is out of range"),
        ("claim_window = \"25h\"", "a turn would be kept longer than its ticket is good"),
        ("gate_wait = \"0s\"", "out of range"),
        ("joins_per_client = \"many\"", "or \"unlimited\""),
        ("requests_per_pass = 5", "or \"unlimited\""),
        ("forked_pass = \"kept\"", "\"overlap\""),
        ("max_active_sessions = -1", "-1 is out of range"),
        ("max_active_sessions = 1.5", "found a number with a fraction"),
        ("state = \"shut\"", "write \"open\" or \"hold\" or \"observe\" or \"closed\""),
        ("hosts = []", "an empty list"),
        ("bypass = [\"health\"]", ".bypass[1]: \"health\": not a path pattern; a path pattern begins with"),
        ("hosts = [\"portal.example:8080\"]", ".hosts[1]: \"portal.example:8080\": not a host; write a host"),
        ("bypass = \"/health\"", "expected a list, found a text"),
        ("time_zone = \"\"", "unknown time zone"),
        ("max_in_flight = 3", "unknown key; max_in_flight belongs in [portal]"),
    ] {
        let fault = fault_of_room(line);
        assert!(fault.contains(says), "{line}: {fault}");
    }
}

#[test]
fn impossible_values_elsewhere() {
    for (lines, says) in [
        ("server.own_path = \"waiting\"", "not a prefix of paths"),
        ("server.own_path = \"/\"", "not a prefix of paths"),
        ("server.own_path = \"/wait/\"", "not a prefix of paths"),
        ("server.own_path = \"/a/../b\"", "not a prefix of paths"),
        ("server.own_path = \"/wait*\"", "not a prefix of paths"),
        ("server.public_url = \"portal.example\"", "not an address of a site"),
        ("server.public_url = \"https://portal.example/path\"", "not an address of a site"),
        ("server.public_url = \"https://user@portal.example\"", "not an address of a site"),
        ("server.cors_origins = [\"*\"]", "server.cors_origins[1]: \"*\": not an origin"),
        ("server.limits.max_head_bytes = \"1KiB\"", "out of range; write a size from \"8KiB\" to \"1MiB\""),
        ("server.limits.max_head_bytes = \"64KB\"", "not a size"),
        ("server.limits.head_timeout = \"0s\"", "out of range; write a time from \"1ms\" to \"1h\""),
        ("portal.urls = [\"http://127.0.0.1:9001\"]", "portal.urls: stands beside url; keep one of the two"),
        ("portal.max_in_flight = 0", "out of range"),
        ("admin.listen = \"127.0.0.1:8080\"", "admin.listen: 127.0.0.1:8080 is where visitors are served"),
        ("admin.listen = \"0.0.0.0:8080\"", "is where visitors are served"),
        ("admin.listen = \"unix:\"", "\"unix:\" has no path"),
        ("admin.hosts = [\"http://metrics.example\"]", "not a host name"),
        ("tokens.key_dir = \"\"", "not a path"),
        ("leak_guard.keep_cookies = [\"a b\"]", "not a cookie's name"),
        ("leak_guard.public = [\"/**\"]", "\"/**\" would match every page, such as /account; list only"),
        // A pattern of stars alone names nothing, however it is written.
        ("leak_guard.public = [\"/*\"]", "\"/*\" would match every page, such as /account; list only"),
        ("leak_guard.public = [\"/*/**\"]", "\"/*/**\" would match every page, such as /account/case-1; list only"),
        ("leak_guard.public = [\"/*/*\"]", "\"/*/*\" would match every page, such as /account/case-1; list only"),
        ("leak_guard.public = [\"/*/*/**\"]", "\"/*/*/**\" would match every page, such as /account/case-1; list"),
        ("leak_guard.public = [\"/s/a~b\"]", "\"/s/a~b\" matches nothing that may be public, not even \"/s/a~b\""),
        ("leak_guard.public = [\"/s**\"]", "leak_guard.public[1]: \"/s**\": not a path pattern"),
        ("leak_guard.ignore_hit_headers = [\"x cache\"]", "not a header's name"),
        (
            "leak_guard.detectors.identity_sessions = \"block\"",
            "\"block\" is no such choice; write \"alarm\" or \"off\"",
        ),
        ("leak_guard.breaker_visitors = 1", "out of range"),
        ("leak_guard.breaker_networks = 4", "4 is more than breaker_visitors; write at most"),
        ("log.format = \"xml\"", "\"xml\" is no such choice; write \"json\" or \"text\""),
        ("sever = 1", "unknown key; write server"),
    ] {
        let fault = fault_of_file(lines);
        assert!(fault.contains(says), "{lines}: {fault}");
    }
}

#[test]
fn impossible_addresses() {
    for (listen, says) in [
        ("[]", "an empty list"),
        ("[\"localhost:8080\"]", "not an address with a port"),
        ("[\"127.0.0.1\"]", "not an address with a port"),
        ("[\"127.0.0.1:8080\", \"127.0.0.1:8080\"]", "server.listen[2]: 127.0.0.1:8080 is taken"),
        ("[\"127.0.0.1:8080\", \"0.0.0.0:8080\"]", "server.listen[2]: 0.0.0.0:8080 is taken"),
    ] {
        let found = faults(&SMALLEST.replace("[\"127.0.0.1:8080\"]", listen));
        assert!(found.len() == 1 && found.concat().contains(says), "{listen}: {found:?}");
    }
    for url in
        ["http://", "http://:9000", "http://a:0", "http://a:70000", "http://u:p@a", "http://a/b", "http://a?b", "a:1"]
    {
        let found = faults(&SMALLEST.replace("http://127.0.0.1:9000", url));
        assert!(found.len() == 1 && found.concat().contains("not an address of a portal"), "{url}: {found:?}");
    }
}

#[test]
fn a_portal_address_stands_there_once() {
    let urls = "portal.urls = [\"http://127.0.0.1:9000\", \"http://127.0.0.1:9000/\"]";
    let found = faults(&SMALLEST.replace("portal.url = \"http://127.0.0.1:9000\"", urls));
    assert!(found.concat().contains("portal.urls[2]: \"127.0.0.1:9000\" stands there twice"), "{found:?}");
}

fn with_second_room(name: &str) -> String {
    format!("{SMALLEST}[[room]]\nname = \"{name}\"\npaths = [\"/second/**\"]\nadmission_rate = \"1/s\"\n")
}

#[test]
fn rooms_have_names_of_their_own() {
    let found = faults(&with_second_room("bonus-600")).concat();
    assert!(found.contains("room[2] \"bonus-600\".name: another room is called \"bonus-600\" too"), "{found}");
    assert!(read(&with_second_room("bonus-601")).is_ok());
}

#[test]
fn rooms_have_numbers_of_their_own() {
    let taken = RoomName::new("bonus-600").unwrap().id();
    let mut names = (0..).map(|number| format!("room-{number}"));
    let twin = names.find(|name| RoomName::new(name).unwrap().id() == taken).unwrap();
    let found = faults(&with_second_room(&twin)).concat();
    let says = format!("\"{twin}\" and \"bonus-600\" have the same number in tokens; change one of the two names");
    assert!(found.contains(&says), "{found}");
}

// ---- warnings

fn warned_keys(text: &str) -> Vec<String> {
    good(text).warnings().into_iter().map(|warning| warning.key).collect()
}

#[test]
fn a_window_with_nothing_to_adapt_is_warned_of() {
    let warned = |floor: &str| {
        let windows = "[[room.window]]\nfrom = \"08:00\"\nto = \"20:00\"\nadmission_rate = \"10/s\"\nshare = { citizen = 1 }\n\
                       [[room.window]]\nfrom = \"20:00\"\nto = \"08:00\"\nshare = { citizen = 1 }\n";
        let adaptive = format!("adaptive = {{ floor = \"{floor}\", target_p95 = \"800ms\" }}\n");
        let keys = warned_keys(&(SMALLEST.to_owned() + &adaptive + windows));
        keys.contains(&"room \"bonus-600\".adaptive".to_owned())
    };
    assert!(warned("10/s") && warned("20/s"));
    assert!(!warned("5/s"));
}

#[test]
fn warnings_name_what_is_probably_not_meant() {
    let file =
        |lines: &str| SMALLEST.replace("[[room]]", &format!("leak_guard.public = [\"/static/**\"]\n{lines}\n[[room]]"));
    assert_eq!(warned_keys(SMALLEST), ["leak_guard.public"]);
    assert!(warned_keys(&file("")).is_empty());
    assert_eq!(warned_keys(&file("admin.listen = \"0.0.0.0:9090\"")), ["admin.listen"]);
    assert!(warned_keys(&file("admin.listen = \"unix:/run/a.sock\"")).is_empty());
    assert_eq!(warned_keys(&file("server.trusted_proxies = [\"0.0.0.0/0\"]")), ["server.trusted_proxies"]);
    let announced = "server.client_address = \"proxy-protocol\"";
    assert_eq!(warned_keys(&file(announced)), ["server.client_address"]);
    assert!(warned_keys(&file(&format!("{announced}\nserver.trusted_proxies = [\"10.0.0.1\"]"))).is_empty());
    let redirect = "server.redirect_listen = [\"127.0.0.1:80\"]";
    assert_eq!(warned_keys(&file(redirect)), ["server.redirect_listen"]);
    assert!(warned_keys(&file(&format!("{redirect}\nserver.public_url = \"https://a.example\""))).is_empty());
    let few = file("") + "max_active_sessions = 119999";
    assert_eq!(warned_keys(&few), ["room \"bonus-600\".max_active_sessions"]);
    assert!(warned_keys(&(file("") + "max_active_sessions = 120000")).is_empty());
    assert_eq!(warned_keys(&(file("") + "session_duration = \"30s\"")), ["room \"bonus-600\".session_duration"]);
}

#[test]
fn a_privilege_that_no_path_can_have_is_never_given() {
    let public = |list: &str| SMALLEST.replace("[[room]]", &format!("leak_guard.public = [{list}]\n[[room]]"));
    let text = public("\"/static/**\", \"/*.css\"") + "bypass = [\"/health\", \"/a%20b\"]\n";
    assert_eq!(warned_keys(&text), ["room \"bonus-600\".bypass"]);
    assert!(faults(&public("\"/caffè\"")).concat().contains("leak_guard.public[1]"));
}

#[test]
fn a_start_page_may_have_a_query_and_any_spelling() {
    for start in ["/bonus-600", "/Bonus-600/?a=/b&c=1", "/bonus-600/a/b"] {
        let config = good(&format!("{SMALLEST}start = \"{start}\""));
        assert_eq!(config.rooms.first().unwrap().start, start);
    }
}

#[test]
fn a_room_without_start_begins_where_its_first_path_begins() {
    for (paths, start) in [("/**", "/"), ("/a/b", "/a/b"), ("/a/**", "/a/"), ("/A/b/", "/A/b/")] {
        let config = good(&SMALLEST.replace("/bonus-600/**", paths));
        assert_eq!(config.rooms.first().unwrap().start, start);
    }
    assert!(faults(&SMALLEST.replace("/bonus-600/**", "/a/*.css")).concat().contains(".start: \"/a/\" is none of"));
}

#[test]
fn a_room_behind_another_of_the_same_paths_is_never_reached() {
    let shadowed = with_second_room("second").replace("/second/**", "/bonus-600/**");
    assert!(warned_keys(&shadowed).contains(&"room \"second\".paths".to_owned()));
    assert!(!warned_keys(&with_second_room("second")).contains(&"room \"second\".paths".to_owned()));
}

#[test]
fn no_room_protects_nothing() {
    let text = SMALLEST.split("[[room]]").next().unwrap();
    assert_eq!(warned_keys(text), ["room", "leak_guard.public"]);
}

// ---- files

fn fault_of_bytes(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, bytes).unwrap();
    let faults = load(&path).unwrap_err().to_string();
    assert!(faults.contains("config.toml"), "the file is not named in {faults}");
    faults
}

#[test]
fn a_missing_file_is_named_with_a_remedy() {
    let faults = load(Path::new("/nowhere/config.toml")).unwrap_err().to_string();
    assert!(faults.contains("cannot read the configuration file /nowhere/config.toml"), "{faults}");
    assert!(faults.contains("--config"), "{faults}");
}

#[test]
fn a_directory_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    assert!(load(directory.path()).unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn a_file_that_is_not_utf8_is_refused_with_the_place() {
    assert!(fault_of_bytes(b"a = 1\nb = \"\xe8\"\n").contains("is not UTF-8 at line 2, column 6; save it as UTF-8"));
}

#[test]
fn a_huge_file_is_refused() {
    assert!(fault_of_bytes(&vec![b'#'; 10 * 1024 * 1024]).contains("is larger than 1 MiB"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    assert_eq!(good(&format!("\u{feff}{}", SMALLEST.replace('\n', "\r\n"))), good(SMALLEST));
}

// ---- anything at all

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*|(.|\n|\r|\t){0,200}") {
        let _ = read(&text).map_err(|faults| faults.to_string());
    }

    #[test]
    fn no_small_damage_makes_the_reader_panic(
        at in 0..EXAMPLE.len(),
        length in 0..40usize,
        new in "[\\[\\]{}=\"'.,#\n a-z0-9:/é\u{0}-]{0,8}",
    ) {
        let before: String = EXAMPLE.chars().take(at).collect();
        let after: String = EXAMPLE.chars().skip(at + length).collect();
        if let Err(faults) = read(&format!("{before}{new}{after}")) {
            prop_assert!(faults.iter().all(|fault| !fault.wrong.is_empty() && !fault.remedy.is_empty()));
            prop_assert!(!faults.to_string().is_empty());
        }
    }

    #[test]
    fn any_value_under_any_key_is_read_or_refused(
        key in 0..40usize,
        value in r#"-?[0-9]{1,20}|"[ -!#-\[\]-~é]{0,20}"|\[("[a-z/*:.0-9]{0,9}",?){0,3}\]|true|[0-9]\.[0-9]|\{\}"#,
    ) {
        let lines: Vec<&str> = EXAMPLE.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).collect();
        let line = lines[key % lines.len()];
        let name = line.split(" = ").next().unwrap();
        let _ = read(&EXAMPLE.replace(line, &format!("{name} = {value}"))).map_err(|faults| faults.to_string());
    }
}
