//! A changed configuration takes effect while visitors are being served; a faulty one changes nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use super::{Stage, until};
use crate::support::wire::Visitor;

impl Stage {
    /// Changes the file, as an editor would.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.proxy.file()).unwrap();
        assert!(text.contains(from), "{from} in\n{text}");
        fs::write(self.proxy.file(), text.replace(from, to)).unwrap();
    }

    fn rate(&self) -> f64 {
        self.metric("anticamera_admission_rate{room=\"r\"}")
    }
}

fn unwatched() -> Stage {
    let stage = Stage::with(|setup| setup.server = "watch = false".to_owned());
    until("the rate is in force", || stage.rate() == 1000.0);
    stage
}

#[test]
fn a_hangup_reloads() {
    let stage = unwatched();
    let visitor = stage.insider();
    let mut wire = stage.begin(&visitor, "GET", "/", "");
    assert_eq!(wire.reply().status, 200);
    stage.edit("1000/s", "20/s");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(stage.rate(), 1000.0, "nobody asked for it yet");
    stage.proxy.signal("HUP");
    until("the new rate is in force", || stage.rate() == 20.0);
    wire.send(visitor.request("GET", "/", ""));
    let reply = wire.reply();
    assert_eq!((reply.status, reply.all("set-cookie").len()), (200, 0), "connection and pass are what they were");
}

#[test]
fn a_changed_file_reloads_by_itself() {
    let stage = Stage::new();
    stage.edit("1000/s", "30/s");
    until("the new rate is in force", || stage.rate() == 30.0);
}

#[test]
fn a_faulty_file_changes_nothing_and_names_every_fault() {
    let stage = unwatched();
    let mut visitor = stage.insider();
    stage.edit("1000/s", "fast");
    stage.edit("[leak_guard]", "[leak_guard]\nmode = \"off\"");
    stage.proxy.signal("HUP");
    for key in ["admission_rate", "leak_guard.mode"] {
        stage.proxy.log().wait_for(|line| line.contains("ERROR") && line.contains(key));
    }
    until("it is told", || stage.metric("anticamera_config_last_reload_success") == 0.0);
    assert_eq!((visitor.get("/").status, stage.rate()), (200, 1000.0));
    assert_eq!(stage.operator("POST", "/admin/v1/reload").status, 422);

    fs::remove_file(stage.proxy.file()).unwrap();
    assert_eq!(stage.operator("POST", "/admin/v1/reload").status, 422);
    assert_eq!((visitor.get("/").status, stage.rate()), (200, 1000.0));
}

#[test]
fn what_needs_a_restart_is_refused_as_a_whole() {
    let stage = unwatched();
    stage.edit("1000/s", "40/s");
    stage.edit("127.0.0.1:0\"]", "127.0.0.1:1\"]");
    stage.proxy.signal("HUP");
    stage.proxy.log().wait_for(|line| line.contains("ERROR") && line.contains("server.listen"));
    assert_eq!(stage.rate(), 1000.0);
    let refused = stage.operator("POST", "/admin/v1/reload");
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("server.listen"), "{}", refused.text());
    stage.edit("127.0.0.1:1\"]", "127.0.0.1:0\"]");
    assert_eq!(stage.operator("POST", "/admin/v1/reload").status, 200);
    until("the new rate is in force", || stage.rate() == 40.0);
    assert_eq!(stage.metric("anticamera_config_last_reload_success"), 1.0);
}

/// Whoever comes before the first tick finds the room as the operator wants it.
#[test]
fn a_held_room_is_held_from_the_first_request_on() {
    let stage = Stage::with(|setup| setup.room = "state = \"hold\"".to_owned());
    for _ in 0..20 {
        let mut visitor = Visitor::new(stage.proxy.address);
        let reply = visitor.get("/");
        assert_eq!((reply.status, visitor.pass()), (503, None));
    }
    assert_eq!(stage.portal.seen().len(), 0);
}
