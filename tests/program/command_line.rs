//! The command line: what is said on good and faulty files, and with which exit code.

use std::fs;
use std::net::TcpListener;

use crate::support::process::{Finished, Setup, run};

/// Writes a file and runs a command on it.
fn with_file(command: &str, text: &str) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, text).unwrap();
    run(&[command, "--config", file.to_str().unwrap()])
}

fn good() -> Setup {
    Setup::in_front_of(&["127.0.0.1:9".parse().unwrap()])
}

const FAULTY: &str = r#"
[server]
listen = ["127.0.0.1:99999"]
lisstn = 1
[portal]
url = "ftp://portal"
max_in_flight = 0
[[room]]
name = "Bonus 600"
paths = ["no-slash"]
admission_rate = "fast"
"#;

#[test]
fn check_finds_nothing_wrong_with_a_good_file() {
    let checked = with_file("check", &good().text());
    assert_eq!((checked.code, checked.errors.as_str()), (0, ""), "{checked:?}");
    assert!(checked.output.contains("no faults"), "{checked:?}");
}

#[test]
fn check_warns_of_what_is_probably_not_meant() {
    let over = "[room.opening]\nat = \"2020-04-01T08:00\"\n[room.closing]\nat = \"2020-04-30T18:00\"\n";
    let checked = with_file("check", &format!("{}\n{over}", good().text()));
    assert_eq!(checked.code, 0, "nothing is refused for it: {checked:?}");
    for key in ["opening.at: lies in the past", "closing.at: lies in the past"] {
        assert!(checked.output.contains(key), "{key} is missing in\n{}", checked.output);
    }
    let classes = "[[class]]\nname = \"office\"\nproof = [ { kind = \"invitation_code\" } ]\n[[room]]\nname = \"april\"\n\
                   paths = [\"/april/**\"]\nadmission_rate = \"1/s\"\nticket_lifetime = \"8h\"\n[[room.window]]\nfrom = \"08:00\"\n\
                   to = \"18:00\"\nshare = { citizen = 1 }\n[[room.window]]\nfrom = \"18:00\"\nto = \"08:00\"\nclosed = true\n";
    let checked = with_file("check", &format!("{}\n{classes}", good().text()));
    assert!(checked.code == 0 && checked.output.contains("ticket_lifetime: "), "{checked:?}");
}

#[test]
fn check_accepts_the_example() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    assert_eq!(run(&["check", "--config", example]).code, 0);
}

#[test]
fn check_names_all_faults_at_once_and_run_does_not_start() {
    for command in ["check", "run"] {
        let faulty = with_file(command, FAULTY);
        assert_eq!(faulty.code, 2, "{command}: {faulty:?}");
        for key in ["listen", "lisstn", "portal.url", "max_in_flight", "name", "paths", "admission_rate"] {
            assert!(faulty.errors.contains(key), "{command} does not name {key}:\n{}", faulty.errors);
        }
    }
}

#[test]
fn schedule_prints_who_may_enter_in_local_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let windows = "[[class]]\nname = \"intermediary\"\nproof = [ { kind = \"invitation_code\" } ]\n[[room]]\nname = \"april\"\npaths = [\"/april/**\"]\n\
        admission_rate = \"100/s\"\n[[room.window]]\nfrom = \"08:00\"\nto = \"16:00\"\n\
        share = { intermediary = 1 }\n[[room.window]]\nfrom = \"16:00\"\nto = \"08:00\"\n";
    fs::write(&file, format!("{}\n{windows}", good().text())).unwrap();
    let file = file.to_str().unwrap();
    let schedule = |more: &[&str]| run(&[&["schedule", "--config", file], more].concat());
    let printed = schedule(&["--from", "2026-03-28", "--to", "2026-03-29", "--room", "april"]);
    assert_eq!((printed.code, printed.errors.as_str()), (0, ""), "{printed:?}");
    let expected = [
        "room \"april\", time zone Europe/Rome",
        "  Sat 2026-03-28 00:00 to Sat 2026-03-28 08:00  intermediary 50 %, citizen 50 %, 100/s",
        "  Sat 2026-03-28 08:00 to Sat 2026-03-28 16:00  intermediary 100 %, citizen must wait, 100/s",
        "  Sat 2026-03-28 16:00 (UTC+01:00) to Sun 2026-03-29 08:00 (UTC+02:00), 15 h by the changing clock  intermediary 50 %, \
         citizen 50 %, 100/s",
        "  Sun 2026-03-29 08:00 to Sun 2026-03-29 16:00  intermediary 100 %, citizen must wait, 100/s",
        "  Sun 2026-03-29 16:00 to Mon 2026-03-30 00:00  intermediary 50 %, citizen 50 %, 100/s",
    ];
    assert_eq!(printed.output.lines().collect::<Vec<_>>(), expected);
    assert_eq!(schedule(&["--from", "2026-03-28", "--to", "2026-03-27"]).code, 2);
    assert_eq!(schedule(&["--room", "elsewhere"]).code, 2);
    assert_eq!(schedule(&[]).code, 0, "a week from today");
}

#[test]
fn codes_are_made_listed_and_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let class = "[[class]]\nname = \"office\"\nproof = [ { kind = \"invitation_code\", dir = \"codes\" } ]\n";
    fs::write(&file, format!("{}\n{class}", good().text())).unwrap();
    let file = file.to_str().unwrap();
    let codes = |order: &str, more: &[&str]| run(&[&["codes", order, "--config", file], more].concat());
    let for_office = ["--class", "office", "--identity", "office 123", "--uses", "50"];
    let made = codes("create", &for_office);
    assert_eq!(made.code, 0, "{made:?}");
    let code = made.output.trim();
    assert!(code.len() == 19 && made.errors.contains("office for office 123, good for 50 tickets"), "{made:?}");
    let listed = codes("list", &[]);
    let line = listed.output.lines().nth(1).unwrap_or_default().to_owned();
    assert!(line.contains("\toffice\toffice 123\t0\t50\t2") && line.ends_with("\tgood"), "{listed:?}");
    assert!(!listed.output.contains(code), "{listed:?}");
    let id = line.split('\t').next().unwrap();
    let looked_at = codes("revoke", &[id, "--dry-run"]);
    assert!(looked_at.code == 0 && looked_at.output.contains("nothing is changed"), "{looked_at:?}");
    assert!(codes("create", &[&for_office[..], &["--dry-run"]].concat()).output.contains("nothing is changed"));
    assert!(codes("list", &[]).output.trim().ends_with("good"), "a preview changes nothing");
    for told in ["taken back: ", "it was taken back already: "] {
        let revoked = codes("revoke", &[id]);
        assert!(revoked.code == 0 && revoked.output.starts_with(told), "{revoked:?}");
    }
    assert!(codes("list", &["--class", "office"]).output.trim().ends_with("revoked"));
    assert_eq!(codes("list", &["--class", "press"]).code, 1);
    assert_eq!(codes("revoke", &["ffff"]).code, 1);
    assert_eq!(codes("create", &["--class", "press", "--identity", "x"]).code, 1);
    assert_eq!(codes("create", &[&for_office[..], &["--expires", "2020-01-01"]].concat()).code, 1);
    let directory = fs::read_dir(directory.path().join("codes")).unwrap();
    let texts: Vec<String> = directory.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(texts.len() == 1 && !texts[0].contains(code) && !texts[0].contains(&code.replace('-', "")));
}

#[test]
fn files_of_a_class_are_checked() {
    let class = "[[class]]\nname = \"office\"\nproof = [ { kind = \"signed_header\", key_file = \"missing.key\" } ]\n";
    let checked = with_file("check", &format!("{}\n{class}", good().text()));
    assert_eq!(checked.code, 2, "{checked:?}");
    assert!(checked.errors.contains("class.proof.key_file") && checked.errors.contains("missing.key"), "{checked:?}");
}

#[test]
fn a_missing_or_unreadable_file_is_named() {
    for command in ["check", "run"] {
        let missing = run(&[command, "--config", "/nowhere/at-all.toml"]);
        assert_eq!(missing.code, 2, "{missing:?}");
        assert!(missing.errors.contains("/nowhere/at-all.toml"), "{missing:?}");
        let directory = tempfile::tempdir().unwrap();
        let unreadable = run(&[command, "--config", directory.path().to_str().unwrap()]);
        assert_eq!(unreadable.code, 2, "{unreadable:?}");
        let nonsense = with_file(command, "this is = = no TOML");
        assert_eq!(nonsense.code, 2, "{nonsense:?}");
        assert!(nonsense.errors.contains("line 1") || nonsense.errors.contains(":1:"), "{nonsense:?}");
    }
}

#[test]
fn it_says_its_version() {
    let said = run(&["--version"]);
    assert_eq!((said.code, said.output.as_str()), (0, concat!("anticamera ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_command_that_does_not_exist_is_refused() {
    for arguments in [&["fly"][..], &[], &["run", "--confg", "x"]] {
        let refused = run(arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
        assert!(refused.errors.contains("Usage"), "{refused:?}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let visitors = Setup { listen: address.clone(), ..good() }.text();
    let operators =
        good().text().replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{address}\""));
    for text in [visitors, operators] {
        let failed = with_file("run", &text);
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.errors.contains(&address), "{failed:?}");
    }
}

/// Two programs on one port would each get half of the visitors, and nobody would notice.
#[test]
fn a_port_that_another_anticamera_uses_is_in_use() {
    let first = good().start();
    let second = with_file("run", &Setup { listen: first.address.to_string(), ..good() }.text());
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.errors.contains(&first.address.to_string()), "{second:?}");
}

/// Two programs on one line would draw the same numbers.
#[test]
fn a_state_that_another_anticamera_uses_is_in_use() {
    let first = good().start();
    let second = run(&["run", "--config", first.file().to_str().unwrap()]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.errors.contains("state"), "{second:?}");
}

/// Facts of a draw as they are published, and the reference of the visitor who came first.
fn facts(held: bool, seed: &str) -> String {
    let commitment = anticamera::domain::draw_proof::to_hex(&anticamera::domain::lottery::commitment(&[9; 32]));
    let (seed, lanes, at) = match held {
        true => (format!("\"{seed}\""), r#"[{"class":"citizen","class_number":3,"first":1,"count":10}]"#, "\"now\""),
        false => ("null".to_owned(), "null", "null"),
    };
    format!(
        r#"{{"room":"fair","line":"0000000000000007","opening":1,"order":"lottery","algorithm":"anticamera-lottery-1",
        "at":"","announced_at":"","commitment":"{commitment}","held_at":{at},"seed":{seed},"lanes":{lanes}}}"#
    )
}

#[test]
fn draw_verify_says_the_place_or_that_the_draw_does_not_hold() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let before = file("before.json", &facts(false, ""));
    let after = file("after.json", &facts(true, &"09".repeat(32)));
    let forged = file("forged.json", &facts(true, &"08".repeat(32)));
    let class = anticamera::domain::names::ClassId(3);
    let reference = anticamera::domain::reference::Gatherer { class, index: 1 }.reference().unwrap();
    let verify = |after: &str, reference: &str| {
        run(&["draw", "verify", "--before", &before, "--after", after, "--reference", reference])
    };
    let good = verify(&after, &reference);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(
        good.output.contains("the draw holds") && good.output.contains("is number 7 in the lane citizen"),
        "{good:?}"
    );
    for (after, reference, says) in [
        (&forged, reference.as_str(), "DOES NOT HOLD"),
        (&before, reference.as_str(), "from before the opening"),
        (&after, "0000-0000", "not the reference"),
    ] {
        let bad = verify(after, reference);
        assert_eq!(bad.code, 1, "{bad:?}");
        assert!(bad.errors.contains(says), "{bad:?}");
    }
}

#[test]
fn receipt_verify_refuses_what_is_no_receipt() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, good().text()).unwrap();
    let verified = run(&["receipt", "verify", "--config", file.to_str().unwrap(), "nonsense"]);
    assert_eq!(verified.code, 1, "{verified:?}");
}
