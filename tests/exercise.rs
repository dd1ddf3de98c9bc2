//! The exercise for those who run it, as a script: from the README's configuration to a running room in front of a real Tomcat,
//! and then one bad day on it, by the commands that people type: a lower rate, a message, another file, a faulty one, an outage
//! of the portal, a wrong click and an upgrade under load.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{Finished, Proxy, activated, run};
use crate::support::tomcat::Tomcat;
use crate::support::wire::{Reply, Visitor};

const SESSIONS: &str = "/examples/servlets/servlet/SessionExample";
const PASS: &str = "anticamera-pass-benefit";

/// The cable to the portal, which can be pulled.
struct Cable {
    address: SocketAddr,
    state: Arc<CableState>,
}

#[derive(Default)]
struct CableState {
    is_pulled: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Cable {
    fn to(portal: SocketAddr) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cable = Cable { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = cable.state.clone();
        thread::spawn(move || {
            for visitor in listener.incoming().map_while(Result::ok) {
                if !state.is_pulled.load(Ordering::SeqCst) {
                    // Whoever cannot be connected is closed.
                    let _ = state.join(visitor, portal);
                }
            }
        });
        cable
    }

    fn pull(&self) {
        self.state.is_pulled.store(true, Ordering::SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn plug_in(&self) {
        self.state.is_pulled.store(false, Ordering::SeqCst);
    }
}

impl CableState {
    fn join(&self, visitor: TcpStream, portal: SocketAddr) -> io::Result<()> {
        let portal = TcpStream::connect(portal)?;
        self.open.lock().unwrap().extend([visitor.try_clone()?, portal.try_clone()?]);
        for (mut from, mut to) in [(visitor.try_clone()?, portal.try_clone()?), (portal, visitor)] {
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        Ok(())
    }
}

/// The configuration that the README shows, for this machine and Tomcat's examples.
fn readme(listen: SocketAddr, portal: SocketAddr) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let begin = text.find("```toml").expect("a configuration") + "```toml".len();
    let block = text[begin..].split("```").next().unwrap();
    let block: String =
        block.lines().filter(|line| !line.contains("public_url")).map(|line| format!("{line}\n")).collect();
    for shown in ["0.0.0.0:8080", "http://10.0.0.20:8080", "/benefit/"] {
        assert!(block.contains(shown), "the README no longer shows {shown}");
    }
    let block = block.replace("0.0.0.0:8080", &listen.to_string());
    let block = block.replace("http://10.0.0.20:8080", &format!("http://{portal}")).replace("/benefit/", "/examples/");
    format!("{block}\n[admin]\nlisten = \"127.0.0.1:0\"\n")
}

/// Somebody at a shell.
struct Operator {
    file: PathBuf,
    admin: String,
}

impl Operator {
    fn of(proxy: &Proxy) -> Operator {
        Operator { file: proxy.file(), admin: proxy.admin.to_string() }
    }

    fn types(&self, command: &str, arguments: &[&str]) -> Finished {
        let token = self.file.with_file_name("state").join("admin-token");
        let whom = [command, "--address", &self.admin, "--token-file", token.to_str().unwrap()];
        run(&[&whom[..], arguments].concat())
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str]) -> String {
        let done = self.types("ctl", arguments);
        assert_eq!(done.code, 0, "{arguments:?} {done:?}");
        done.output
    }
}

impl Operator {
    /// The picture of a room that is on the screen, within some seconds.
    #[track_caller]
    fn sees(&self, wanted: impl Fn(&Value) -> bool) {
        let picture = || serde_json::from_str::<Value>(&self.ctl(&["status", "--json"])).unwrap()["rooms"][0].clone();
        let seen = (0..100).any(|_| {
            let is_there = wanted(&picture());
            if !is_there {
                thread::sleep(Duration::from_millis(50));
            }
            is_there
        });
        assert!(seen, "{}", picture());
    }
}

/// Somebody who holds a pass, and whose session Tomcat knows.
fn insider(address: SocketAddr, word: &str) -> Visitor {
    let mut visitor = Visitor::new(address);
    let reply = visitor.get(SESSIONS);
    assert!(visitor.cookies.contains_key(PASS), "no pass: {reply:?}");
    let told = visitor.post(SESSIONS, &format!("dataname=colour&datavalue={word}"));
    assert_eq!(told.status, 200, "{told:?}");
    visitor
}

/// Somebody who comes and takes a place in the line.
fn newcomer(address: SocketAddr) -> (Visitor, Reply) {
    let mut visitor = Visitor::new(address);
    let join = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Dest: empty\r\nAccept: application/json\r\n";
    let joined = visitor.ask("POST", "/.waiting-room/join?room=benefit", join, b"{}");
    assert_eq!(joined.status, 200, "{joined:?}");
    (visitor, joined)
}

#[test]
fn from_the_readme_to_a_room_and_through_a_bad_day() {
    let tomcat = Tomcat::shared();
    let cable = Cable::to(tomcat.address());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let configuration = readme(address, cable.address);

    // The README's steps: write it, check it, run it.
    let directory = tempfile::tempdir().unwrap();
    let draft = directory.path().join("config.toml");
    fs::write(&draft, &configuration).unwrap();
    let checked = run(&["check", "--config", draft.to_str().unwrap()]);
    assert!(checked.code == 0 && checked.output.contains("no faults"), "{checked:?}");
    let mut proxy = Proxy::start_as(&configuration, activated(&socket));
    let operator = Operator::of(&proxy);
    let mut insiders: Vec<Visitor> = ["red", "green", "blue"].map(|word| insider(address, word)).into();

    // A lower rate, looked at first. From now on there is a line.
    let preview = operator.ctl(&["rate", "benefit", "6/min", "--dry-run"]);
    assert!(preview.contains("what the file says -> rate 6/min") && preview.contains("citizen: "), "{preview}");
    assert!(operator.ctl(&["rate", "benefit", "6/min"]).contains("applied; anticamera ctl undo benefit"));
    let waiting: Vec<Visitor> = (0..10).map(|_| newcomer(address).0).collect();

    // A message in two languages: previewed for every page, then read by those who come.
    let words = ["message", "benefit", "--in", "it=Riprendiamo alle 10", "--in", "de=Um zehn geht es weiter"];
    let shown = operator.ctl(&[&words[..], &["--dry-run"]].concat());
    assert!(shown.contains("  de: Um zehn geht es weiter") && shown.contains("  en: Riprendiamo alle 10"), "{shown}");
    operator.ctl(&words);
    let german = "Sec-Fetch-Site: same-origin\r\nAccept: application/json\r\nAccept-Language: de\r\n";
    let told = Visitor::new(address).ask("POST", "/.waiting-room/join?room=benefit", german, b"{}");
    assert!(told.text().contains("Um zehn geht es weiter"), "{told:?}");

    // Another file with a new window: what would it change, and for whom?
    let window = "[[room.window]]\nfrom = \"00:00\"\nto = \"24:00\"\nadmission_rate = \"3/min\"\n";
    let changed = configuration.replace("\n[admin]", &format!("\n{window}\n[admin]"));
    fs::write(&draft, &changed).unwrap();
    let running = operator.file.to_str().unwrap();
    let compared = operator.types("diff", &["--config", draft.to_str().unwrap(), "--running", running]);
    assert!(compared.code == 0 && compared.output.contains("window"), "{compared:?}");

    // A faulty file changes nothing, and says what is wrong with it.
    fs::write(&operator.file, configuration.replace("\"20/s\"", "\"fast\"")).unwrap();
    let refused = operator.types("ctl", &["reload"]);
    assert!(refused.code == 1 && refused.errors.contains("admission_rate"), "{refused:?}");
    assert_eq!(insiders[0].get(SESSIONS).status, 200);
    assert!(operator.ctl(&["status"]).contains("override benefit: rate 6/min"), "nothing else changed");
    fs::write(&operator.file, &configuration).unwrap();
    operator.ctl(&["reload"]);

    // The portal is away, and comes back: those inside read so, and go on where they were.
    cable.pull();
    let away = insiders[1].get(SESSIONS);
    assert!(away.status == 502 || away.status == 503, "{away:?}");
    away.assert_personal();
    cable.plug_in();
    let back = insiders[1].get(SESSIONS);
    assert!(back.status == 200 && back.text().contains("green"), "the session goes on: {back:?}");

    // A wrong click, and one call that takes it back.
    operator.ctl(&["hold", "benefit"]);
    operator.sees(|room| room["state"] == "hold");
    let undone = operator.ctl(&["undo", "benefit"]);
    assert!(undone.contains("-> what the file says"), "{undone}");
    operator.sees(|room| room["state"] == "open" && room["rate"] == "6/min");

    // An upgrade under load: the socket stays, the process is another one, and no request fails.
    let upgraded = AtomicBool::new(false);
    thread::scope(|scope| {
        for (insider, word) in insiders.iter_mut().zip(["red", "green", "blue"]) {
            let upgraded = &upgraded;
            scope.spawn(move || {
                let mut answered_by_the_new_one = 0;
                while answered_by_the_new_one < 20 {
                    let is_new = upgraded.load(Ordering::SeqCst);
                    let reply = insider.get(SESSIONS);
                    assert!(reply.status == 200 && reply.text().contains(word), "a request failed: {reply:?}");
                    answered_by_the_new_one += u32::from(is_new);
                }
            });
        }
        proxy.signal("TERM");
        assert_eq!(proxy.ended().code(), Some(0), "{}", proxy.log().text());
        proxy.restart_as(activated(&socket));
        upgraded.store(true, Ordering::SeqCst);
    });

    // Everybody has the place from before, what operators said holds, and all of it is written down.
    let operator = Operator::of(&proxy);
    operator.sees(|room| room["rate"] == "6/min" && room["message"] == "Riprendiamo alle 10");
    for mut visitor in waiting {
        let poll = "Sec-Fetch-Site: same-origin\r\nAccept: application/json\r\n";
        let told = visitor.ask("POST", "/.waiting-room/status?room=benefit", poll, b"{\"now\":1}");
        let queue: Value = serde_json::from_str(told.text()).unwrap();
        let state = queue["queue"]["state"].as_str().unwrap();
        assert!(["waiting", "your_turn"].contains(&state), "{told:?}");
    }
    let verified = run(&["audit", "verify", "--config", operator.file.to_str().unwrap()]);
    assert!(verified.code == 0 && verified.output.contains("whole and in order"), "{verified:?}");
}
