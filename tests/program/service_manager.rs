//! Under a service manager: what it is told, and sockets that it holds open.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;

use super::{Stage, until};
use crate::support::portal::FakePortal;
use crate::support::process::{Proxy, Setup, activated, program};
use crate::support::wire::{PATIENCE, Visitor};

/// What the program says of itself.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, directory }
    }

    fn start(&self, portal: SocketAddr) -> Proxy {
        let mut command = program();
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify")).env("WATCHDOG_USEC", "300000");
        Proxy::start_as(&Setup { paths: "/**", ..Setup::in_front_of(&[portal]) }.text(), command)
    }

    /// Waits until it says this.
    #[track_caller]
    fn hears(&self, expected: &str) -> String {
        let mut heard = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let Ok(count) = self.socket.recv(&mut buffer) else { panic!("never {expected:?}, only {heard:?}") };
            let said = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if said.contains(expected) {
                return said;
            }
            heard.push(said);
        }
    }
}

#[test]
fn the_service_manager_is_told_how_the_program_is() {
    let stage = Stage::new();
    let manager = Manager::new();
    let mut proxy = manager.start(stage.portal.address);
    assert!(manager.hears("READY=1").contains("STATUS=serving"));
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    proxy.signal("HUP");
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hears("READY=1");
    let file = std::fs::read_to_string(proxy.file()).unwrap();
    std::fs::write(proxy.file(), file.replace("[[room]]", "nonsense = 1\n[[room]]")).unwrap();
    proxy.signal("HUP");
    assert!(manager.hears("READY=1\nSTATUS=serving; ").contains("faults"));
    proxy.signal("TERM");
    manager.hears("STOPPING=1");
    assert_eq!(proxy.ended().code(), Some(0));
}

/// The socket stays open between two programs: whoever comes in between is served by the next one.
#[test]
fn an_upgrade_behind_a_held_socket_refuses_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let portal = runtime.block_on(FakePortal::start());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let setup = Setup { paths: "/r/**", listen: address.to_string(), ..Setup::in_front_of(&[portal.address]) };
    let mut first = Proxy::start_as(&setup.text(), activated(&socket));
    assert_eq!(first.address, address);
    assert_eq!(Visitor::new(address).get("/").status, 200);

    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut asked = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(Visitor::new(address).get("/").status, 200, "after {asked}");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        first.signal("TERM");
        assert_eq!(first.ended().code(), Some(0), "{}", first.log().text());
        let second = Proxy::start_as(&setup.text(), activated(&socket));
        until("the second one serves", || {
            portal.seen().len() > 20 && Visitor::new(second.address).get("/").status == 200
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for asking in asking {
            assert!(asking.join().unwrap() > 0);
        }
    });
}
