//! What operators type while the released program runs: `ctl`, `diff`, `audit verify` and `plan`.

use std::fs;

use crate::support::process::{Finished, Proxy, Setup, run};

fn started() -> Proxy {
    Setup { rate: "50/s", ..Setup::in_front_of(&["127.0.0.1:9".parse().unwrap()]) }.start()
}

fn token(proxy: &Proxy) -> String {
    proxy.file().with_file_name("state").join("admin-token").to_str().unwrap().to_owned()
}

fn ctl(proxy: &Proxy, arguments: &[&str]) -> Finished {
    let (address, token) = (proxy.admin.to_string(), token(proxy));
    run(&[&["ctl", "--address", &address, "--token-file", &token], arguments].concat())
}

#[test]
fn a_change_is_previewed_made_shown_and_undone() {
    let proxy = started();
    let preview = ctl(&proxy, &["rate", "r", "20/s", "--dry-run"]);
    assert_eq!(preview.code, 0, "{preview:?}");
    assert!(preview.output.contains("what the file says -> rate 20/s by admin"), "{preview:?}");
    assert!(!ctl(&proxy, &["status"]).output.contains("override"), "a preview changes nothing");

    let changed = ctl(&proxy, &["rate", "r", "20/s", "--until", "2h"]);
    assert!(changed.code == 0 && changed.output.contains("applied; anticamera ctl undo r"), "{changed:?}");
    let status = ctl(&proxy, &["status"]);
    assert!(status.output.contains("override r: rate 20/s until "), "{status:?}");
    let json: serde_json::Value = serde_json::from_str(&ctl(&proxy, &["status", "--json"]).output).unwrap();
    assert_eq!(json["overrides"][0]["value"]["wish"]["rate"], "20/s");

    let message = ctl(&proxy, &["message", "r", "--in", "it=Alle dieci", "--in", "de=Um zehn"]);
    assert!(
        message.output.contains("  de: Um zehn") && message.output.contains("  en: Alle dieci (in it)"),
        "{message:?}"
    );
    for arguments in [&["hold", "r"][..], &["release", "r"], &["freeze", "r"], &["thaw", "r"]] {
        let done = ctl(&proxy, arguments);
        assert!(done.code == 0 && done.output.contains("applied"), "{arguments:?} {done:?}");
    }
    let undone = ctl(&proxy, &["undo", "r", "--what", "rate"]);
    assert!(undone.output.contains("-> what the file says"), "{undone:?}");
    let none = ctl(&proxy, &["undo", "r", "--what", "state", "--dry-run"]);
    assert_eq!(none.code, 0, "{none:?}");
}

#[test]
fn what_is_mistyped_is_refused_with_a_remedy() {
    let proxy = started();
    for (arguments, told) in [
        (&["rate", "r", "fast"][..], "100/s"),
        (&["rate", "elsewhere", "1/s"], "no room"),
        (&["rate", "r", "1/s", "--until", "tomorrow"], "14:30"),
        (&["message", "r"], "--in LANGUAGE=TEXT"),
        (&["undo", "r"], "nothing to undo"),
        (&["codes", "revoke", "../x"], "no id"),
    ] {
        let refused = ctl(&proxy, arguments);
        assert_eq!(refused.code, 1, "{arguments:?} {refused:?}");
        assert!(refused.errors.contains(told), "{arguments:?} {refused:?}");
    }
    let nobody = run(&["ctl", "--address", "127.0.0.1:1", "--token-file", &token(&proxy), "status"]);
    assert!(nobody.code == 1 && nobody.errors.contains("is it running"), "{nobody:?}");
    let no_token = run(&["ctl", "--address", "127.0.0.1:1", "--token-file", "/nowhere/token", "status"]);
    assert!(no_token.code == 2 && no_token.errors.contains("--token-file"), "{no_token:?}");
}

#[test]
fn the_audit_log_is_checked_and_the_first_broken_line_is_named() {
    let mut proxy = started();
    for rate in ["20/s", "30/s", "40/s"] {
        assert_eq!(ctl(&proxy, &["rate", "r", rate]).code, 0);
    }
    let config = proxy.file();
    let verify = |more: &[&str]| run(&[&["audit", "verify", "--config", config.to_str().unwrap()], more].concat());
    let whole = verify(&[]);
    assert!(whole.code == 0 && whole.output.contains("3 lines, whole and in order"), "{whole:?}");
    let hash = whole.output.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    proxy.kill();
    proxy.restart();
    assert_eq!(ctl(&proxy, &["rate", "r", "50/s"]).code, 0);
    assert_eq!(verify(&["--hash", &hash]).code, 0, "the chain goes on after a kill");

    let log = config.with_file_name("state").join("operators/audit.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replace("30/s", "90/s")).unwrap();
    let broken = verify(&[]);
    assert!(broken.code == 1 && broken.errors.contains("line 2 was changed"), "{broken:?}");
    let shortened: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(&log, shortened).unwrap();
    let cut = verify(&["--hash", &hash]);
    assert!(cut.code == 1 && cut.errors.contains("written anew, or cut off"), "{cut:?}");
}

/// What the audit log of a program's state says happened: in words, and by whom.
fn audited(proxy: &Proxy) -> Vec<(String, String)> {
    let log = proxy.file().with_file_name("state").join("operators/audit.jsonl");
    let text = fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    lines.map(|line| (word(&line["what"]), word(&line["details"]["by"]))).collect()
}

/// A line's number and hash in the program's log say that it is durable.
#[test]
fn the_log_tells_no_hash_of_a_line_that_was_not_written() {
    let proxy = started();
    let log = proxy.file().with_file_name("state").join("operators/audit.jsonl");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let refused = ctl(&proxy, &["rate", "r", "30/s"]);
    assert!(refused.code == 1 && refused.errors.contains("nothing was changed"), "{refused:?}");
    fs::remove_file(&log).unwrap();
    assert_eq!(ctl(&proxy, &["rate", "r", "40/s"]).code, 0);
    let line: serde_json::Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    proxy.log().wait_for(|told| told.contains(line["hash"].as_str().unwrap()));
    let told = proxy.log().text();
    let told: Vec<&str> = told.lines().filter(|line| line.contains("\"audit\"")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn codes_and_passes_are_handed_out_by_the_running_program() {
    let setup = Setup { rate: "50/s", ..Setup::in_front_of(&["127.0.0.1:9".parse().unwrap()]) };
    let class = "[[class]]\nname = \"office\"\nproof = [ { kind = \"invitation_code\", dir = \"codes\" } ]\n";
    let proxy = Proxy::start(&format!("{}\n{class}", setup.text()));
    let create = ["codes", "create", "--class", "office", "--identity", "office 1", "--uses", "3"];
    let preview = ctl(&proxy, &[&create[..], &["--dry-run"]].concat());
    assert!(preview.code == 0 && preview.output.contains("nothing is changed"), "{preview:?}");
    let made = ctl(&proxy, &create);
    assert!(made.code == 0 && made.output.trim().len() == 19, "{made:?}");
    assert!(made.errors.contains("office for office 1, good for 3 tickets"), "{made:?}");
    let pass = ctl(&proxy, &["pass", "create", "--room", "r", "--name", "probe"]);
    assert!(pass.code == 0 && pass.output.starts_with("Waiting-Room-Staff: "), "{pass:?}");
    for (kind, whose) in [("codes", "office 1"), ("pass", "probe")] {
        let listed = ctl(&proxy, &[kind, "list"]).output;
        let row = listed.lines().nth(1).unwrap();
        assert!(row.contains(whose) && row.ends_with("good") && !listed.contains(made.output.trim()), "{listed}");
        let id = row.split('\t').next().unwrap();
        let looked_at = ctl(&proxy, &[kind, "revoke", id, "--dry-run"]);
        assert!(looked_at.output.contains("nothing is changed"), "{looked_at:?}");
        for told in ["taken back: ", "it was taken back already: "] {
            let revoked = ctl(&proxy, &[kind, "revoke", id]);
            assert!(revoked.code == 0 && revoked.output.starts_with(told), "{revoked:?}");
        }
    }
    let told = |what: &str| (what.to_owned(), "admin".to_owned());
    let lines = ["code_created", "pass_created", "code_revoked", "pass_revoked"].map(told);
    assert_eq!(audited(&proxy), lines);
}

#[test]
fn a_drain_is_looked_at_and_then_stops_the_program() {
    let mut proxy = started();
    let preview = ctl(&proxy, &["drain", "--dry-run"]);
    assert!(preview.code == 0 && preview.output.contains("\"waiting\": 0"), "{preview:?}");
    assert_eq!(ctl(&proxy, &["status"]).code, 0, "a preview changes nothing");
    let drained = ctl(&proxy, &["drain"]);
    assert!(drained.code == 0 && drained.output.contains("draining"), "{drained:?}");
    assert_eq!(proxy.ended().code(), Some(0), "{}", proxy.log().text());
    assert_eq!(audited(&proxy), [("drain".to_owned(), "admin".to_owned())]);
    proxy.restart();
    assert_eq!(ctl(&proxy, &["status"]).code, 0);
}

#[test]
fn half_a_line_of_the_audit_log_is_explained_and_kept() {
    let mut proxy = started();
    for rate in ["20/s", "30/s"] {
        assert_eq!(ctl(&proxy, &["rate", "r", rate]).code, 0);
    }
    proxy.kill();
    let config = proxy.file();
    let log = config.with_file_name("state").join("operators/audit.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, &text[..text.len() - 20]).unwrap();
    let verify = || run(&["audit", "verify", "--config", config.to_str().unwrap()]);
    let torn = verify();
    assert!(torn.code == 1 && torn.errors.contains("half a line") && torn.errors.contains("1 lines"), "{torn:?}");
    proxy.restart();
    assert_eq!(ctl(&proxy, &["rate", "r", "40/s"]).code, 0);
    let mended = verify();
    assert!(mended.code == 0 && mended.output.contains("3 lines, whole and in order"), "{mended:?}");
    assert!(mended.output.contains("line 2: a stop left") && mended.output.contains("as they were"), "{mended:?}");
    let kept = fs::read_to_string(log.with_file_name("audit.jsonl.torn-2")).unwrap();
    assert!(kept.contains("30/s") && text.contains(&kept), "{kept}");
}

#[test]
fn what_commands_hand_out_past_the_running_program_stands_in_its_audit_log() {
    let proxy = started();
    let config = proxy.file();
    let pass = |more: &[&str]| run(&[&["pass", "--config", config.to_str().unwrap()], more].concat());
    assert_eq!(ctl(&proxy, &["rate", "r", "20/s"]).code, 0);
    assert_eq!(pass(&["create", "--room", "r", "--name", "probe"]).code, 0);
    let listed = pass(&["list"]).output;
    let id = listed.lines().nth(1).and_then(|line| line.split('\t').next()).unwrap();
    assert_eq!(ctl(&proxy, &["rate", "r", "30/s"]).code, 0, "the running program goes on after the other's line");
    assert_eq!(pass(&["revoke", id]).code, 0);
    let pair = |what: &str, by: &str| (what.to_owned(), by.to_owned());
    assert_eq!(
        audited(&proxy),
        [
            pair("changed", "admin"),
            pair("pass_created", "the command line"),
            pair("changed", "admin"),
            pair("pass_revoked", "the command line")
        ]
    );
    assert_eq!(run(&["audit", "verify", "--config", config.to_str().unwrap()]).code, 0);
}

#[test]
fn another_file_is_compared_with_the_running_program() {
    let proxy = started();
    let (address, token) = (proxy.admin.to_string(), token(&proxy));
    let text = fs::read_to_string(proxy.file()).unwrap();
    let new = proxy.file().with_file_name("new.toml");
    let diff = |text: &str| {
        fs::write(&new, text).unwrap();
        run(&["diff", "--config", new.to_str().unwrap(), "--address", &address, "--token-file", &token])
    };
    assert_eq!(ctl(&proxy, &["hold", "r"]).code, 0);
    let slower = diff(&text.replace("50/s", "5/s"));
    assert_eq!(slower.code, 0, "{slower:?}");
    assert!(slower.output.contains("room \"r\".admission_rate: \"50/s\" -> \"5/s\""), "{slower:?}");
    assert!(slower.output.contains("stays in force over the file: r: state hold by admin"), "{slower:?}");
    assert!(slower.output.contains("citizen: 0 waiting"), "{slower:?}");
    let faulty = diff(&text.replace("50/s", "fast"));
    assert!(faulty.code == 2 && faulty.errors.contains("admission_rate"), "{faulty:?}");
}

#[test]
fn a_unix_socket_does_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("admin.sock").display());
    let text = Setup::in_front_of(&["127.0.0.1:9".parse().unwrap()]).text();
    let file = directory.path().join("config.toml");
    fs::write(&file, text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{socket}\"")))
        .unwrap();
    let mut child = crate::support::process::program();
    child.args(["run", "--config", file.to_str().unwrap()]).stdout(std::process::Stdio::null());
    let mut child = child.spawn().unwrap();
    let mut status = run(&["ctl", "--config", file.to_str().unwrap(), "status"]);
    for _ in 0..200 {
        if status.output.contains("room r") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        status = run(&["ctl", "--config", file.to_str().unwrap(), "status"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status.code == 0 && status.output.contains("room r"), "{status:?}");
}

#[test]
fn a_day_is_worked_out_before_it_comes() {
    let planned = run(&["plan", "--arrivals", "08:00-09:00 200/s, 09:00-12:00 10/s", "--rate", "100/s"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(planned.output.contains("828,000 arrive"), "{planned:?}");
    assert!(planned.output.contains("the line is longest at 09:00: 360,000"), "{planned:?}");
    assert!(planned.output.contains("the line is empty at 10:06"), "{planned:?}");
    let windows = ["plan", "--arrivals", "07:00-08:00 1/s", "--windows", "09:00-12:00 10/s"];
    let closed = run(&windows);
    assert!(closed.output.contains("the line is empty at 09:06"), "{closed:?}");

    let directory = tempfile::tempdir().unwrap();
    let (file, arrivals) = (directory.path().join("config.toml"), directory.path().join("day.txt"));
    fs::write(&file, Setup { rate: "10/s", ..Setup::in_front_of(&["127.0.0.1:9".parse().unwrap()]) }.text()).unwrap();
    fs::write(&arrivals, "# the morning\n08:00-09:00 20/s\n").unwrap();
    let (file, arrivals) = (file.to_str().unwrap(), arrivals.to_str().unwrap());
    let of_room =
        |room: &str| run(&["plan", "--config", file, "--room", room, "--arrivals", arrivals, "--date", "2026-04-01"]);
    let room = of_room("r");
    assert!(room.code == 0 && room.output.contains("the line is longest at 09:00: 36,000"), "{room:?}");
    assert!(of_room("elsewhere").errors.contains("no room"));
    assert_eq!(run(&["plan", "--arrivals", "08:00", "--rate", "1/s"]).code, 1);
}
